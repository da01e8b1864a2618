#!/usr/bin/env bash
TRAINERS=CoOp exec bash "$(dirname "$0")/../base2new.sh" "$@"
