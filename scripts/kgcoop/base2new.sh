#!/usr/bin/env bash
TRAINERS=KgCoOp exec bash "$(dirname "$0")/../base2new.sh" "$@"
