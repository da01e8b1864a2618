#!/usr/bin/env bash
TRAINERS=ProGrad exec bash "$(dirname "$0")/../full.sh" "$@"
