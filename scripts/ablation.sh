#!/usr/bin/env bash
# One option at a time around CILMP's default, a table each:  scripts/ablation.sh [DATASET] [-- KEY VALUE ...]
#   An environment variable of an option's name holds its values, LOW_RANK_DIMENSION=2,4; an empty one leaves it out.
#   REPRESENTATIONS=a.safetensors,b.safetensors: LLM files; CONTROL= leaves out random states like the first one's.
#   Other environment as in compare.sh, and PROTOCOL (default: full).
set -euo pipefail
cd "$(dirname "$0")/.."
dataset=phantoms
case ${1:--} in -*) ;; *) dataset=$(tr '[:upper:]' '[:lower:]' <<<"$1") && shift ;; esac
case " $* " in *" -- "*) ;; *) set -- "$@" -- ;; esac
depths=1,3,6,9,12 llm=
[ "$dataset" != phantoms ] || depths=1,2,3,4 llm=cilmp/assets/representations/phantoms.safetensors # tiny has 4 blocks
: "${LOW_RANK_DIMENSION=2,4,8,16}" "${PREFIX_LENGTH=0,1,2,4,8}" "${SUFFIX_LENGTH=0,1,2,4,8}"
: "${PROMPT_DEPTH_TEXT=$depths}" "${PROMPT_DEPTH_VISION=$depths}" "${DROPOUT=0,0.1,0.2,0.4}"
: "${INTERVENTION=conditional,loreft,noreft,none}" "${REPRESENTATIONS=$llm}"
output=${OUTPUT:-output/ablation} status=0
if [ -n "$REPRESENTATIONS" ] && [ "${CONTROL-random}" = random ]; then
    random=$output/random-$dataset.safetensors
    extract=("${PYTHON:-python}" -m cilmp.llm extract --control random --like "${REPRESENTATIONS%%,*}" --out "$random")
    case " $* " in
        *" --dry-run "*) echo "${extract[@]}" ;;
        *) mkdir -p "$output" && { [ -e "$random" ] || "${extract[@]}"; } ;;
    esac
    REPRESENTATIONS=$REPRESENTATIONS,$random
fi
for option in LOW_RANK_DIMENSION PREFIX_LENGTH SUFFIX_LENGTH PROMPT_DEPTH_TEXT PROMPT_DEPTH_VISION DROPOUT INTERVENTION \
    REPRESENTATIONS; do
    [ -n "${!option}" ] || { echo "== $option: left out" && continue; }
    echo "== $option"
    OUTPUT=$output/$option TRAINERS=CILMP bash scripts/compare.sh "${PROTOCOL:-full}" "$dataset" "$@" \
        "TRAINER.CILMP.$option=${!option}" || status=1
done
exit $status
