#!/usr/bin/env bash
TRAINERS=TCP exec bash "$(dirname "$0")/../full.sh" "$@"
