#!/usr/bin/env bash
TRAINERS=ZeroshotCLIP exec bash "$(dirname "$0")/../few_shot.sh" "$@"
