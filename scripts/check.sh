#!/usr/bin/env bash
# usage: check.sh
# Everything that must hold before a change lands; CI runs the same. Stops at the first failure, and prints how long
# each step took.
set -euo pipefail
cd "$(dirname "$0")/.."

times=()
report() {
    printf '\nminutes of each step\n'
    printf '  %s\n' "${times[@]}"
    printf '  %5.1f  all\n' "$(minutes "$SECONDS")"
}
trap report EXIT

minutes() { awk -v s="$1" 'BEGIN { print s / 60 }'; }

# step NAME COMMAND…
step() {
    local name=$1 began=$SECONDS outcome=ok
    shift
    printf '\n── %s\n' "$name"
    "$@" || outcome=FAILED
    times+=("$(printf '%5.1f  %s%s' "$(minutes $((SECONDS - began)))" "$name" "$([ $outcome = ok ] || echo ": $outcome")")")
    [ $outcome = ok ]
}

# Runs the README's own command.
readme() {
    local command
    command=$(scripts/readme-command.sh "$1") || return
    echo "\$ $command"
    bash -euo pipefail -c "$command"
}

# The same random commands to kevy and to redis-server: the replies are the same.
same_replies() {
    scripts/diff-redis.py --kevy target/release/kevy --list
    scripts/diff-redis.py --kevy target/release/kevy --seed 1
    scripts/diff-redis.py --kevy target/release/kevy --seed 2 --shards 3 --resp 3
}

# A demo that alters a value on the replica must find just that, and end with 1.
spoiled_demo() {
    local code=0 said
    said=$(target/release/kevy demo --spoil) || code=$?
    echo "$said"
    [ "$code" -eq 1 ] && [[ "${said##*$'\n'}" == "red: 1 of "*"; the digests differ" ]]
}

# The whole table, with so little of everything that no figure means anything.
short_bench() {
    target/release/kevy bench --seconds 0.2 --keys 20k --shards 1,2 --replicas 0,1 --json target/bench.json
    python3 -m json.tool target/bench.json > /dev/null
}

step "format" cargo fmt --check
# Its tests are among those of all features: that it builds, tests and all, is what there is to be seen.
step "clippy, no features" cargo clippy --locked --no-default-features --all-targets -- -D warnings
step "clippy, all features" cargo clippy --locked --all-targets -- -D warnings
step "README's tests" readme test
step "README's demo" readme run
step "benches, each once" cargo test --locked --benches
step "kevy bench, short" short_bench
step "the demo finds a value that was altered" spoiled_demo
step "replies, as redis-server's" same_replies
step "clients and tools that people have" scripts/clients.sh
step "no executor stands still, 60 s" scripts/stall.sh 60
step "two hosts: delay, loss, a narrow link, a partition" scripts/netns.sh
step "unsafe code, with memory being watched" scripts/unsafe-check.sh
step "the ring under the model checker" scripts/loom.sh
step "fuzz targets" env CARGO_TARGET_DIR=target/fuzz cargo check --locked --manifest-path fuzz/Cargo.toml
step "documentation" env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps
