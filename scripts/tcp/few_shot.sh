#!/usr/bin/env bash
TRAINERS=TCP exec bash "$(dirname "$0")/../few_shot.sh" "$@"
