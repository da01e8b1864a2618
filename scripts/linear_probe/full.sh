#!/usr/bin/env bash
TRAINERS=LinearProbe exec bash "$(dirname "$0")/../full.sh" "$@"
