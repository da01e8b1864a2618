#!/usr/bin/env bash
TRAINERS=LPPlusPlus exec bash "$(dirname "$0")/../full.sh" "$@"
