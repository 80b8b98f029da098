#!/usr/bin/env bash
# usage: scripts/unsafe-check.sh
# Runs tests of every module that has `unsafe` with memory being watched. Without I/O: under valgrind, out of the binary that `cargo test`
# builds. Around glommio's sockets, which valgrind makes stand still: under AddressSanitizer, with a nightly toolchain. What is missing is
# said loudly; under CI=true a missing valgrind is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

under_valgrind=(src/source/segment.rs src/store/prefetch.rs src/store/tags.rs src/buffer.rs src/runtime/iouring.rs)
under_sanitizer=(src/runtime/fd.rs)
for file in $(grep -rlE 'unsafe (\{|impl|fn)' src); do
    printf '%s\n' "${under_valgrind[@]}" "${under_sanitizer[@]}" | grep -qxF "$file" || {
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

if cargo +nightly --version >/dev/null 2>&1 && [ "$(uname -m)" = x86_64 ]; then
    # A target of its own, so that build scripts stay as they are; dependencies are built fast rather than well.
    RUSTFLAGS="-Zsanitizer=address ${RUSTFLAGS-}" cargo +nightly test --locked --no-default-features --features runtime \
        --config 'profile.dev.package."*".opt-level=0' --target x86_64-unknown-linux-gnu --target-dir target/asan \
        --test runtime -- a_connection_is_made connections_go | some_ran
else
    echo "SKIPPED: no nightly toolchain; ${under_sanitizer[*]} was not watched" >&2
fi
