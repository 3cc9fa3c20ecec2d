#!/usr/bin/env bash
# Train on a slurm cluster; GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (8) and SRUN_ARGS come from the environment:
#   GPUS=16 tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
# REQUEUE=1 submits a batch job (with SBATCH_ARGS) that saves GRACE (120) seconds before its time is over, or when its
# machine is taken away, queues up again and goes on; it goes on from what WORK_DIR holds in its first start, too.
set -euo pipefail
if [ $# -lt 4 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 1
fi
TOOLS=${MOCOX_TOOLS:-$(cd "$(dirname "$0")" && pwd)} # a batch job runs a copy of this script, elsewhere
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
PLACES=(--partition="$1" --job-name="$2" --gres=gpu:"$GPUS_PER_NODE" --ntasks="$GPUS"
    --ntasks-per-node="$GPUS_PER_NODE" --cpus-per-task="${CPUS_PER_TASK:-8}")
export PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}"
if [ "${REQUEUE:-0}" = 1 ] && [ -z "${MOCOX_TOOLS:-}" ]; then
    export GPUS GPUS_PER_NODE MOCOX_TOOLS="$TOOLS"
    # shellcheck disable=SC2086  # SBATCH_ARGS holds several arguments
    exec sbatch "${PLACES[@]}" --requeue --open-mode=append --signal=USR1@"${GRACE:-120}" ${SBATCH_ARGS:-} "$0" "$@"
fi
# Its processes sign with this what they tell each other; a command line would show it.
MOCOX_STORE_TOKEN=${MOCOX_STORE_TOKEN:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
export MOCOX_STORE_TOKEN
RESUME=()
if [ -n "${MOCOX_TOOLS:-}" ]; then
    RESUME=(--resume auto)
    trap : TERM USR1 # may reach this shell as well as its processes: it waits for them, and then requeues
fi
code=0
# shellcheck disable=SC2086  # SRUN_ARGS holds several arguments
srun "${PLACES[@]}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    python -u "$TOOLS/train.py" "$3" --work-dir "$4" --launcher slurm ${RESUME[@]+"${RESUME[@]}"} "${@:5}" || code=$?
if [ "$code" = 75 ] && [ -n "${MOCOX_TOOLS:-}" ]; then # asked to leave, and has saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
