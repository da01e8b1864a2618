#!/usr/bin/env bash
TRAINERS=ZeroshotCLIP2 exec bash "$(dirname "$0")/../few_shot.sh" "$@"
