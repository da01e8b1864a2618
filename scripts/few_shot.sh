#!/usr/bin/env bash
# 1, 2, 4, 8 and 16 images a class; environment as in compare.sh:  scripts/few_shot.sh [DATASET ...]
exec bash "$(dirname "$0")/compare.sh" few_shot "$@"
