#!/usr/bin/env bash
# The paper's protocol: all training images, the last epoch, three seeds, four metrics; over those of the data sets that
# are on disk, to the table beside published figures:  scripts/paper.sh [DATASET ...] [--dry-run] [-- KEY VALUE ...]
#   No DATASET: the fifteen of the authors' code.  Environment as in compare.sh; TRAINERS: the methods.
set -euo pipefail
cd "$(dirname "$0")/.."
asked=()
while [ $# -gt 0 ] && [[ $1 != -* ]]; do
    asked+=("$(tr '[:upper:]' '[:lower:]' <<<"$1")")
    shift
done
[ ${#asked[@]} -gt 0 ] || asked=(adam aptos2019 bloodmnist busi chaoyang cpn_x_ray derm7pt dermamnist fetal_us isic
    kvasir odir odir2 pneumonia2 pneumonia3)
there=" phantoms $("${PYTHON:-python}" -m cilmp.datasets list --on-disk --root "${DATA:-}" | tr '\n' ' ')"
found=()
for name in "${asked[@]}"; do
    if [[ $there == *" $name "* ]]; then found+=("$name"); else echo "skipped, not below DATA='${DATA:-}': $name" >&2; fi
done
[ ${#found[@]} -gt 0 ] || { echo "error: none of them is there; cilmp data prepare puts them there" >&2; exit 2; }
export TRAINERS=${TRAINERS:-ZeroshotCLIP CoOp CoCoOp VPT MaPLe KgCoOp PromptSRC TCP FullFineTune CILMP}
export OUTPUT=${OUTPUT:-output/paper}
exec bash scripts/compare.sh full "${found[@]}" --beside "$@"
