#!/usr/bin/env bash
# usage: scripts/unsafe-check.sh
# Runs the tests of every module that has `unsafe` under valgrind, out of the binaries that `cargo test` builds. Without valgrind it is
# skipped, loudly; under CI=true that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

# file with `unsafe` → test binary and the filters of the tests that reach it
declare -A tests_of=(
    [src/source/segment.rs]="lib source::segment source::backlog"
    [src/store/prefetch.rs]="lib store::prefetch"
    [src/runtime/iouring.rs]="lib runtime::iouring"
    [src/runtime/fd.rs]="runtime a_connection_is_made_read_to_its_end_and_hung_up connections_go_to_the_shards_in_turn"
)
for file in $(grep -rlE 'unsafe (\{|impl|fn)' src); do
    [ -n "${tests_of[$file]+set}" ] || {
        echo "$file has unsafe, and $0 knows no test that reaches it" >&2
        exit 1
    }
done

command -v valgrind >/dev/null || {
    echo "SKIPPED: valgrind is missing; unsafe code was not watched" >&2
    [ "${CI-}" != true ]
    exit
}

# The path of a test binary.
binary() {
    cargo test --locked "$@" --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}
lib=$(binary --lib)
runtime=$(binary --test runtime)

for file in "${!tests_of[@]}"; do
    read -r kind filters <<<"${tests_of[$file]}"
    echo "$file"
    # shellcheck disable=SC2086 # filters are words
    output=$(valgrind --quiet --error-exitcode=99 --fair-sched=yes "${!kind}" $filters 2>&1) || {
        printf '%s\n' "$output" >&2
        exit 1
    }
    # Tests that were renamed away would pass unseen.
    grep -qE 'test result: ok\. [1-9]' <<<"$output" || {
        echo "$file: no test ran" >&2
        exit 1
    }
done
