#!/usr/bin/env bash
# Five ways to classify the embedded synthetic scans, base to new, three seeds, one table: minutes on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh ""
exec bash scripts/compare.sh base2new "$@"
