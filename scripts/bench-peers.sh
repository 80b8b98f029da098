#!/usr/bin/env bash
# usage: [REDIS=redis-server] [VALKEY=valkey-server] [KEVY=target/release/kevy] [RUNS=3] [COUNT=2000000] bench-peers.sh
# Compares kevy with the servers that people would use instead, on this machine. REDIS= (empty) leaves that one out.
# The figures and how they are taken: scripts/bench_peers.py.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${KEVY+set}" ]; then
    cargo build --locked --release
    export KEVY=target/release/kevy
fi
exec python3 scripts/bench_peers.py
