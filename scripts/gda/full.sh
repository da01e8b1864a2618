#!/usr/bin/env bash
TRAINERS=GDA exec bash "$(dirname "$0")/../full.sh" "$@"
