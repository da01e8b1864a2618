#!/usr/bin/env bash
TRAINERS=CLIPLoRA exec bash "$(dirname "$0")/../base2new.sh" "$@"
