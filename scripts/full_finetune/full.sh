#!/usr/bin/env bash
TRAINERS=FullFineTune exec bash "$(dirname "$0")/../full.sh" "$@"
