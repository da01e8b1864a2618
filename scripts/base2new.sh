#!/usr/bin/env bash
# Train on the base half of the classes, test on both halves; environment as in compare.sh:  scripts/base2new.sh [DATASET ...]
exec bash "$(dirname "$0")/compare.sh" base2new "$@"
