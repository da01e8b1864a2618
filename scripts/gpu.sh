#!/usr/bin/env bash
# Everything there is to prove and to measure on a GPU, in one folder:  scripts/gpu.sh [--quick] [OPTIONS]
#   Needs no network and no installation; what is missing is said, and what does not need it goes on.
#   Environment: OUT=gpu-results   PYTHON=python   WHEELS=folder of .whl files to use besides, e.g. of yacs
#   --help lists the parts and what else there is.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD:$PWD/dassl-compat${PYTHONPATH:+:$PYTHONPATH}
exec "${PYTHON:-python}" benchmarks/gpu.py "$@"
