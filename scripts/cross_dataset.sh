#!/usr/bin/env bash
# Train on the first data set, test on the others; environment as in compare.sh:  scripts/cross_dataset.sh [DATASET ...]
exec bash "$(dirname "$0")/compare.sh" cross_dataset "$@"
