#!/usr/bin/env bash
# usage: scripts/loom.sh
# Proves the wake-up protocols of the ring and of a shard's bell under the model checker. LOOM_MAX_PREEMPTIONS (default 3) goes deeper.
set -euo pipefail
cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg loom ${RUSTFLAGS-}" cargo test --locked --no-default-features --lib --target-dir target/loom runtime::
