#!/usr/bin/env bash
# A run on several machines with SLURM: from the top of the project, on a file system that all machines share,
#
#   sbatch --nodes=8 runs/slurm.sh imagenet64/ict
#
# Further words change parameters, as in `make run`: ... imagenet64/ict seeds=[1] processes=4
# The first machine executes the run's notebook by papermill, as on a laptop; the others lend their devices. Submitted
# again, or requeued, it goes on from the newest checkpoint.
#SBATCH --job-name=ict
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "Say which run: sbatch --nodes=8 runs/slurm.sh imagenet64/ict" >&2
  exit 2
fi
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export PORT=${PORT:-29500} PYTHON=${PYTHON:-.venv/bin/python}
export PLACES="nodes=$SLURM_JOB_NUM_NODES rendezvous=$first:$PORT"

# One task a machine; --kill-on-bad-exit ends all when one fails, so that a requeue starts them together.
srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c '
  if [ "$SLURM_NODEID" -eq 0 ]; then
    exec "$PYTHON" -m ict_lib.run "$@" $PLACES
  else
    exec "$PYTHON" -m ict_lib.run.join "$@" $PLACES node_rank="$SLURM_NODEID"
  fi' ict "$@"
