#!/usr/bin/env bash
TRAINERS=KgCoOp exec bash "$(dirname "$0")/../full.sh" "$@"
