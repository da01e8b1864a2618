#!/usr/bin/env bash
TRAINERS=VPT exec bash "$(dirname "$0")/../base2new.sh" "$@"
