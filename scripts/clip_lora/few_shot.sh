#!/usr/bin/env bash
TRAINERS=CLIPLoRA exec bash "$(dirname "$0")/../few_shot.sh" "$@"
