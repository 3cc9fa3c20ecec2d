#!/usr/bin/env bash
# Train with several processes on this machine, one per GPU, or on the CPU where there is none:
#   tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# MAX_RESTARTS=N starts all of them again, up to N times, when one dies; they go on from the newest good checkpoint.
# On several machines, start it on each with NNODES, NODE_RANK (0, 1, ...) and MASTER_ADDR (the first machine) set.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 1
fi
TOOLS=$(dirname "$0")
CONFIG=$1
PROCESSES=$2
PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}" exec python -m mocox.processes \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$PROCESSES" \
    --max-restarts="${MAX_RESTARTS:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$TOOLS/train.py" "$CONFIG" --launcher pytorch "${@:3}"
