#!/usr/bin/env bash
TRAINERS=CoCoOp exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
