#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --array=0-2%3
#SBATCH --constraint=a100
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --job-name=erm_tune
#SBATCH --mem=32768MB
#SBATCH --nice=5
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output='LOGS/.slurm/%A_%a_0_log.out'
#SBATCH --partition=gpu
#SBATCH --qos=high
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=720
#SBATCH --wckey=submitit

# setup
export PYTHONPATH=ROOT:$PYTHONPATH
module load cuda

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output 'LOGS/.slurm/%A_%a_%t_log.out' PYTHON -u -m submitit.core._submit 'LOGS/.slurm'
