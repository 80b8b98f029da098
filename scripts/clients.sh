#!/usr/bin/env bash
# usage: clients.sh [--kevy PROGRAM] [PART…]
# Clients and tools that people have, against kevy on loopback. Parts: redis-py rq ioredis cluster redis-cli redis-benchmark; all of them
# where none is named. What they need from a package registry is put into target/clients, once. ioredis is left out where there is no npm.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/clients/venv
[ -x $venv/bin/python ] || python3 -m venv $venv
$venv/bin/python -c 'import pytest, pytest_asyncio, pytest_timeout, redis, rq' 2>/dev/null ||
    $venv/bin/pip install --quiet --disable-pip-version-check 'redis==8.1.*' pytest pytest-asyncio pytest-timeout 'rq==2.*'
exec $venv/bin/python scripts/clients/run.py "$@"
