#!/usr/bin/env bash
# usage: [REDIS=redis-server] [VALKEY=valkey-server] [KEVY=target/release/kevy] [WORK=set,sync] [RUNS=3] bench-peers.sh
# Compares kevy with the servers that people would use instead, on this machine. REDIS= (empty) leaves that one out.
# The figures and how they are taken: scripts/bench_peers/.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${KEVY+set}" ]; then
    cargo build --locked --release
    export KEVY=target/release/kevy
fi
if [ -z "${PROBE+set}" ]; then
    PROBE=$(cargo bench --locked --no-run --bench probe --message-format json 2>/dev/null |
        python3 -c 'import json, sys; print([line["executable"] for line in map(json.loads, sys.stdin) if line.get("executable")][-1])')
    export PROBE
fi
exec python3 scripts/bench_peers
