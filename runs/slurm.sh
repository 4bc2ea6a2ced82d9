#!/usr/bin/env bash
# A run on several machines with SLURM: from the top of the project, on a file system that all machines share,
#
#   sbatch --nodes=8 --time=2-00:00:00 runs/slurm.sh imagenet64/ict
#
# Further words change fields, as in `make run`: ... imagenet64/ict seeds=[1]
# Machines of 4 GPUs: PROCESSES=4 sbatch --nodes=2 --gpus-per-node=4 --cpus-per-task=32 runs/slurm.sh cifar10/ict
# Every machine runs the same torchrun line. When the training is finished, the first one executes the run's notebook, which
# reads what was left. Before the time is over, the training writes a checkpoint and the job queues again; it goes on from
# there, as after a machine was lost, or when it is submitted once more.
#SBATCH --job-name=ict
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
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
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
python=${PYTHON:-.venv/bin/python}
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # after a restart processes meet anew
export OMP_NUM_THREADS=$(((SLURM_CPUS_PER_TASK - 1) / ${PROCESSES:-8} + 1)) # torchrun would give each process one
export TORCHINDUCTOR_COMPILE_THREADS=$OMP_NUM_THREADS                       # each process would take 32
export PYTORCH_ALLOC_CONF=${PYTORCH_ALLOC_CONF:-expandable_segments:True}   # sampling's other shapes leave no holes

asked= step=
trap 'asked=yes; trap "" USR1; kill -USR1 "$step" || true' USR1 # srun hands it to every task, torchrun to every process
attend() { # waits for what was started; if the job's time was over before it had ended, the job queues again
  local code=0
  step=$1
  wait "$step" || code=$?
  if [ -n "$asked" ]; then # the signal ended the first wait
    code=0
    wait "$step" || code=$?
  fi
  if [ -n "$asked" ] && [ "$code" -ne 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit 75
  fi
  [ "$code" -eq 0 ] || exit "$code"
}

# One task a machine; --kill-on-bad-exit ends all when one fails, so that none waits for it.
srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" "$python" -m torch.distributed.run \
  --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="${PROCESSES:-8}" --max-restarts=3 \
  --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout=240 \
  --rdzv-backend=c10d --rdzv-endpoint="${hosts%%$'\n'*}:${PORT:-29500}" --rdzv-id="$SLURM_JOB_ID" \
  -m ict_lib.training.program "$@" &
attend $!
"$python" -m ict_lib run "$@" &
attend $!
