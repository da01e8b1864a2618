#!/usr/bin/env bash
TRAINERS=ZeroshotCLIP exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
