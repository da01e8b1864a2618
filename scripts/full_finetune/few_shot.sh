#!/usr/bin/env bash
TRAINERS=FullFineTune exec bash "$(dirname "$0")/../few_shot.sh" "$@"
