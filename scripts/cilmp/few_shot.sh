#!/usr/bin/env bash
TRAINERS=CILMP exec bash "$(dirname "$0")/../few_shot.sh" "$@"
