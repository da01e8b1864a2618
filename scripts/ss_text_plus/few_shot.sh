#!/usr/bin/env bash
TRAINERS=SSTextPlus exec bash "$(dirname "$0")/../few_shot.sh" "$@"
