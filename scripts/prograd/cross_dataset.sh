#!/usr/bin/env bash
TRAINERS=ProGrad exec bash "$(dirname "$0")/../cross_dataset.sh" "$@"
