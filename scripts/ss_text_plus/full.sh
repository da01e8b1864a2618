#!/usr/bin/env bash
TRAINERS=SSTextPlus exec bash "$(dirname "$0")/../full.sh" "$@"
