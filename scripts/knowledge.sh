#!/usr/bin/env bash
# Does the knowledge help, and the intervention?  CILMP base to new with each intervention, on an LLM's representations
# and on random ones of the same statistics:  scripts/knowledge.sh [DATASET]   Environment as in compare.sh, and
# REPRESENTATIONS=file (default: those shipped for the embedded data set).
set -euo pipefail
cd "$(dirname "$0")/.."
dataset=${1:-phantoms}
llm=${REPRESENTATIONS:-cilmp/assets/representations/$dataset.safetensors}
output=${OUTPUT:-output}/knowledge
random=$output/random-$dataset.safetensors
mkdir -p "$output"
[ -e "$random" ] || ${PYTHON:-python} -m cilmp.llm extract --control random --like "$llm" --out "$random"
for intervention in conditional loreft none; do
    for source in llm random; do
        file=$llm
        [ $source = llm ] || file=$random
        echo "== $intervention, $source"
        TRAINERS=CILMP OUTPUT=$output/$intervention-$source bash scripts/base2new.sh "$dataset" -- \
            TRAINER.CILMP.INTERVENTION "$intervention" TRAINER.CILMP.REPRESENTATIONS "$file" | tail -6
    done
done
