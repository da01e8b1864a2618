#!/usr/bin/env bash
TRAINERS=TipAdapter exec bash "$(dirname "$0")/../few_shot.sh" "$@"
