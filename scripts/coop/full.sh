#!/usr/bin/env bash
TRAINERS=CoOp exec bash "$(dirname "$0")/../full.sh" "$@"
