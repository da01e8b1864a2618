#!/usr/bin/env bash
TRAINERS=CLIPAdapter exec bash "$(dirname "$0")/../few_shot.sh" "$@"
