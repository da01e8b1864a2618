#!/usr/bin/env bash
TRAINERS=MaPLe exec bash "$(dirname "$0")/../few_shot.sh" "$@"
