#!/usr/bin/env bash
TRAINERS=ZeroshotCLIP2 exec bash "$(dirname "$0")/../full.sh" "$@"
