#!/usr/bin/env bash
TRAINERS=ZeroshotCLIP exec bash "$(dirname "$0")/../full.sh" "$@"
