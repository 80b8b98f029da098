#!/usr/bin/env bash
# usage: [KEVY=target/debug/kevy] scripts/netns.sh [PROFILE…]
# Two hosts on this machine: network namespaces joined by two TUN devices and a small process that delays, drops, limits and cuts.
# Attach, resume and a sync under load, with congestion control `reno`, on each of the profiles delay, loss, narrow, partition.
# What they are and how they are run: scripts/netns.py. Skipped, with the reason, where namespaces are not to be had.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "SKIPPED: $1" >&2
    exit 0
}

command -v ip >/dev/null || skip "iproute2 is missing"
command -v python3 >/dev/null || skip "python3 is missing"
[ "$(id -u)" -eq 0 ] || skip "network namespaces need root"
[ -c /dev/net/tun ] || skip "there is no /dev/net/tun"
probe=kevy-probe-$$
ip netns add "$probe" 2>/dev/null || skip "network namespaces cannot be made here"
trap 'ip netns del "$probe" 2>/dev/null || true' EXIT
ip netns exec "$probe" ip tuntap add dev probe mode tun 2>/dev/null || skip "TUN devices cannot be made here"

if [ -z "${KEVY+set}" ]; then
    cargo build --locked
    export KEVY=target/debug/kevy
fi
python3 scripts/netns.py "$@"
