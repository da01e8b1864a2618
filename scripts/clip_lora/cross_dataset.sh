#!/usr/bin/env bash
TRAINERS=CLIPLoRA exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
