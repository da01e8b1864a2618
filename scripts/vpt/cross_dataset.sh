#!/usr/bin/env bash
TRAINERS=VPT exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
