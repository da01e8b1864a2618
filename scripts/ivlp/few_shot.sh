#!/usr/bin/env bash
TRAINERS=IVLP exec bash "$(dirname "$0")/../few_shot.sh" "$@"
