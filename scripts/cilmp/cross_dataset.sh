#!/usr/bin/env bash
TRAINERS=CILMP exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
