#!/usr/bin/env bash
# All training images; environment as in compare.sh:  scripts/full.sh [DATASET ...]
exec bash "$(dirname "$0")/compare.sh" full "$@"
