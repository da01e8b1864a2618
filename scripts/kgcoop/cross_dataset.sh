#!/usr/bin/env bash
TRAINERS=KgCoOp exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
