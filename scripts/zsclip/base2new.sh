#!/usr/bin/env bash
TRAINERS=ZeroshotCLIP exec bash "$(dirname "$0")/../base2new.sh" "$@"
