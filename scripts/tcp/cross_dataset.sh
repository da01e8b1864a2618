#!/usr/bin/env bash
TRAINERS=TCP exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
