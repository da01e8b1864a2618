#!/usr/bin/env bash
TRAINERS=BiomedCoOp exec bash "$(dirname "$0")/../full.sh" "$@"
