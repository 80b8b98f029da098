#!/usr/bin/env bash
# usage: [PAGE=docs/benchmarks.md] bench-steps.sh [--quick]
# Runs every criterion bench, then `kevy bench`, and prints what they found as Markdown; PAGE has it between its marks. --quick
# measures each for a second.
set -euo pipefail
cd "$(dirname "$0")/.."

flags=() seconds=3
[ "${1-}" = --quick ] && flags=(--warm-up-time 0.5 --measurement-time 1 --sample-size 20) && seconds=1
rm -rf target/criterion
for bench in stream check ring command store; do
    cargo bench --locked --bench $bench -- --noplot "${flags[@]}" >&2
done
cargo build --locked --release
target/release/kevy bench --seconds $seconds --json target/bench.json > target/bench.txt
exec python3 scripts/bench_peers/steps.py "${PAGE-}"
