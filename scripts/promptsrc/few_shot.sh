#!/usr/bin/env bash
TRAINERS=PromptSRC exec bash "$(dirname "$0")/../few_shot.sh" "$@"
