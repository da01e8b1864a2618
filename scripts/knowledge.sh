#!/usr/bin/env bash
# Does the knowledge help, and the intervention?  CILMP base to new with each intervention, on an LLM's representations
# and on random ones of the same statistics, in one table:  scripts/knowledge.sh [DATASET]   Environment as in
# compare.sh, and REPRESENTATIONS=file (default: those shipped for the embedded data set).
set -euo pipefail
cd "$(dirname "$0")/.."
dataset=${1:-phantoms}
python=${PYTHON:-python}
llm=${REPRESENTATIONS:-cilmp/assets/representations/$dataset.safetensors}
output=${OUTPUT:-output}/knowledge
random=$output/random-$dataset.safetensors
mkdir -p "$output"
[ -e "$random" ] || "$python" -m cilmp.llm extract --control random --like "$llm" --out "$random"
for intervention in conditional loreft none; do
    for knowledge in "$llm" "$random"; do
        echo "== $intervention, $knowledge"
        TRAINERS=CILMP OUTPUT=$output/$intervention-$(basename "$knowledge" .safetensors) \
            bash scripts/base2new.sh "$dataset" -- \
            TRAINER.CILMP.INTERVENTION "$intervention" TRAINER.CILMP.REPRESENTATIONS "$knowledge" >/dev/null
    done
done
"$python" -m cilmp.results "$output" --table base2new
