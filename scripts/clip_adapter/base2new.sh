#!/usr/bin/env bash
TRAINERS=CLIPAdapter exec bash "$(dirname "$0")/../base2new.sh" "$@"
