#!/usr/bin/env bash
# usage: readme-command.sh run|test
# Prints the one command of README.md's shell blocks that begins with `cargo run` or `cargo test`, so that what is
# checked is what a reader is told to type.
set -euo pipefail
cd "$(dirname "$0")/.."

verb=${1:?usage: readme-command.sh run|test}
mapfile -t commands < <(awk -v verb="cargo $verb" '
    /^```/ { inside = !inside && /^```(sh|bash|console)$/; next }
    inside && (index($0, verb) == 1) { print }
' README.md)

if [ "${#commands[@]}" -ne 1 ]; then
    echo "README.md must have exactly one \`cargo $verb\` command in its shell blocks; it has ${#commands[@]}" >&2
    exit 1
fi
echo "${commands[0]}"
