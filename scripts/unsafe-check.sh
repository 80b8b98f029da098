#!/usr/bin/env bash
# usage: scripts/unsafe-check.sh
# Runs the tests of the modules that have `unsafe` under valgrind, out of the binary that `cargo test` builds. Without valgrind it is skipped,
# loudly; under CI=true that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

under_valgrind=(src/source/segment.rs src/store/prefetch.rs src/runtime/iouring.rs)
# Only with executors, which stand still under valgrind: tests/runtime.rs runs it as it is.
unwatched=(src/runtime/fd.rs)
for file in $(grep -rlE 'unsafe (\{|impl|fn)' src); do
    printf '%s\n' "${under_valgrind[@]}" "${unwatched[@]}" | grep -qxF "$file" || {
        echo "$file has unsafe, and $0 knows no test that reaches it" >&2
        exit 1
    }
done

# Fails if no test ran: one that was renamed away would pass unseen.
some_ran() {
    tee /dev/stderr | grep -E 'test result: ok\. [1-9]' >/dev/null
}

if command -v valgrind >/dev/null; then
    lib=$(cargo test --locked --lib --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    for file in "${under_valgrind[@]}"; do
        module=${file#src/}
        module=${module%.rs}
        valgrind --quiet --error-exitcode=99 "$lib" "${module//\//::}" | some_ran
    done
    valgrind --quiet --error-exitcode=99 "$lib" source::backlog | some_ran
else
    echo "SKIPPED: valgrind is missing; ${under_valgrind[*]} were not watched" >&2
    [ "${CI-}" != true ]
fi
