#!/usr/bin/env bash
TRAINERS=TipAdapterF exec bash "$(dirname "$0")/../full.sh" "$@"
