#!/usr/bin/env bash
TRAINERS=CoOp exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
