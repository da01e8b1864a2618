#!/usr/bin/env bash
TRAINERS=IVLP exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
