#!/usr/bin/env bash
# All trainers side by side, to the table:  scripts/compare.sh PROTOCOL [DATASET ...] [--dry-run] [-- KEY VALUE ...]
#   PROTOCOL: base2new, few_shot, full, cross_dataset, domain_generalisation (both: source, then targets).
#   No DATASET: the embedded one.
#   Environment: TRAINERS="CoOp CILMP" SEEDS="1 2 3" SHOTS="1 2 4 8 16" CFG=vit_b16 DATA=/path OUTPUT=output
#                GPUS="0 1" JOBS=2 LAUNCHER=local|slurm|ray SBATCH="--partition gpu --gres gpu:1" PYTHON=python
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-}
if [ -z "$python" ]; then
    python=python
    [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$root/.venv/bin/python" ] && python=$root/.venv/bin/python
fi
exec "$python" -m cilmp.sweep "$@"
