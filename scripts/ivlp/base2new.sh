#!/usr/bin/env bash
TRAINERS=IVLP exec bash "$(dirname "$0")/../base2new.sh" "$@"
