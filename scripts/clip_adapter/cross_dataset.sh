#!/usr/bin/env bash
TRAINERS=CLIPAdapter exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
