#!/usr/bin/env bash
# usage: scripts/stall.sh [SECONDS]   (default 60)
# Runs sockets, lanes, timers and busy loops on three executors with every core kept busy by others, and fails if an
# executor, or one kind of work on it, stands still for a second.
set -euo pipefail
cd "$(dirname "$0")/.."
KEVY_STALL_SECONDS=${1:-60} cargo test --locked --test stall -- --nocapture
