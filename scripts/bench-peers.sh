#!/usr/bin/env bash
# usage: [REDIS=redis-server] [VALKEY=valkey-server] [KEVY_PEER=another-kevy] [KEVY=target/release/kevy] [WORK=set,sync] [RUNS=3]
#        [OUT=target/bench-peers] bench-peers.sh
# Compares kevy with the servers that people would use instead, on this machine. REDIS= (empty) leaves that one out.
# The figures and how they are taken: scripts/bench_peers/. What docs/benchmarks.md shows is made by
#     RUNS=5 OUT=docs/benchmarks PAGE=docs/benchmarks.md scripts/bench-peers.sh
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${KEVY+set}" ]; then
    cargo build --locked --release
    export KEVY=target/release/kevy
fi
if [ -z "${PROBE+set}" ]; then
    PROBE=$(cargo bench --locked --no-run --bench probe --message-format json 2>/dev/null |
        python3 -c 'import json, sys; print(next(line["executable"] for line in map(json.loads, sys.stdin) if line.get("executable") and line["target"]["name"] == "probe"))')
    export PROBE
fi

# Plots need matplotlib; without it, and without a way to have it, there are none.
python=python3
if ! python3 -c 'import matplotlib' 2>/dev/null; then
    venv=target/bench-venv
    if [ ! -x $venv/bin/python ]; then
        python3 -m venv $venv && $venv/bin/pip install --quiet 'matplotlib==3.*' || rm -rf $venv
    fi
    [ -x $venv/bin/python ] && python=$venv/bin/python
fi
exec "$python" scripts/bench_peers
