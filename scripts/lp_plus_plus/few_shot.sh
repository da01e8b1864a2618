#!/usr/bin/env bash
TRAINERS=LPPlusPlus exec bash "$(dirname "$0")/../few_shot.sh" "$@"
