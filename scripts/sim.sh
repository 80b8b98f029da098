#!/usr/bin/env bash
# usage: scripts/sim.sh [SEEDS] [FIRST]: runs the simulator over SEEDS seeds (default 1000) from FIRST on (default 0).
# Stores lay out their keys in another way each time; SIM_HASH says which, and a failing run prints it.
set -euo pipefail
cd "$(dirname "$0")/.."
SIM_HASH="${SIM_HASH:-$RANDOM}" SIM_SEEDS="${1:-1000}" SIM_FIRST="${2:-0}" exec cargo test --no-default-features --test sim seeds -- --nocapture
