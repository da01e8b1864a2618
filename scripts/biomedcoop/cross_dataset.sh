#!/usr/bin/env bash
TRAINERS=BiomedCoOp exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
