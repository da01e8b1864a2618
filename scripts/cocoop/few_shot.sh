#!/usr/bin/env bash
TRAINERS=CoCoOp exec bash "$(dirname "$0")/../few_shot.sh" "$@"
