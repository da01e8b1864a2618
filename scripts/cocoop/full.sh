#!/usr/bin/env bash
TRAINERS=CoCoOp exec bash "$(dirname "$0")/../full.sh" "$@"
