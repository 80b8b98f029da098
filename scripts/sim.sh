#!/usr/bin/env bash
# usage: scripts/sim.sh [SEEDS] [FIRST]: runs the simulator over SEEDS seeds (default 1000) from FIRST on (default 0).
set -euo pipefail
cd "$(dirname "$0")/.."
SIM_SEEDS="${1:-1000}" SIM_FIRST="${2:-0}" exec cargo test --no-default-features --test sim seeds -- --nocapture
