#!/usr/bin/env bash
TRAINERS=ProGrad exec bash "$(dirname "$0")/../few_shot.sh" "$@"
