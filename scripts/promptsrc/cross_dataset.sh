#!/usr/bin/env bash
TRAINERS=PromptSRC exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
