#!/usr/bin/env bash
# Test with several processes on this machine, one per GPU, or on the CPU where there is none:
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
# On several machines, start it on each with NNODES, NODE_RANK (0, 1, ...) and MASTER_ADDR (the first machine) set.
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 1
fi
TOOLS=$(dirname "$0")
CONFIG=$1
CHECKPOINT=$2
PROCESSES=$3
PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}" exec python -m mocox.processes \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$PROCESSES" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$TOOLS/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}"
