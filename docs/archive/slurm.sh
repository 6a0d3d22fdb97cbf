#!/usr/bin/env bash
# A plan in 40 shards, each a task of one job array: `sbatch slurm.sh run.json`. Send it again to go on after a time limit.
#SBATCH --job-name=sarwater
#SBATCH --array=1-40
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=24:00:00
set -euo pipefail
export SARWATER_THREADS=${SLURM_CPUS_PER_TASK:-1}
exec sarwater archive run "$1" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
