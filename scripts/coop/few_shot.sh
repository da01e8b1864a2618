#!/usr/bin/env bash
TRAINERS=CoOp exec bash "$(dirname "$0")/../few_shot.sh" "$@"
