#!/usr/bin/env bash
TRAINERS=VPT exec bash "$(dirname "$0")/../few_shot.sh" "$@"
