#!/usr/bin/env bash
TRAINERS=MaPLe exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
