#!/usr/bin/env bash
# Train in one hospital, test in others on the same classes; environment as in compare.sh:
#   scripts/domain_generalisation.sh [SOURCE TARGET ...]
exec bash "$(dirname "$0")/compare.sh" domain_generalisation "$@"
