#!/usr/bin/env bash
TRAINERS=TipAdapter exec bash "$(dirname "$0")/../full.sh" "$@"
