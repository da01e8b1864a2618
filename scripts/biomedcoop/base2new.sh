#!/usr/bin/env bash
TRAINERS=BiomedCoOp exec bash "$(dirname "$0")/../base2new.sh" "$@"
