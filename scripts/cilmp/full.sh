#!/usr/bin/env bash
TRAINERS=CILMP exec bash "$(dirname "$0")/../full.sh" "$@"
