"""The servers that are compared: how each is started, and what of them is known beforehand."""

import os
import shutil
import subprocess
import sys

KEVY_SHARDS = os.environ.get("KEVY_SHARDS", "1")
KEVY_CPUS = os.environ.get("KEVY_CPUS", "off")
# Holds every frame of one load of COUNT operations.
BACKLOG_MIB = int(os.environ.get("BACKLOG_MIB", "256"))


class Server:
    """One program. `is_ours`: it knows the flags and the INFO fields of this kevy."""

    def __init__(self, name, program, is_ours):
        self.name, self.program, self.is_ours = name, program, is_ours

    def command(self, port, dir, backlog_mib=BACKLOG_MIB, shards=KEVY_SHARDS, role="primary"):
        make = kevy if self.is_ours else redis_like
        return [self.program, *make(port, dir, backlog_mib, shards, role)]

    def version(self):
        done = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True)
        return done.stdout.strip().splitlines()[0]


def redis_like(port, dir, backlog_mib, shards, role):
    """Tuned: no disk, no delay, no limit of what waits for a replica. Shards and role are kevy's."""
    flags = (
        f"--port {port} --dir {dir} --bind 127.0.0.1 --appendonly no --daemonize no --loglevel warning --protected-mode no "
        f"--repl-diskless-sync yes --repl-diskless-sync-delay 0 --repl-diskless-load swapdb --repl-backlog-size {backlog_mib}mb "
        "--maxclients 20000"
    ).split()
    return [*flags, "--save", "", "--client-output-buffer-limit", "replica 0 0 0"]


def kevy(port, dir, backlog_mib, shards, role):
    return (
        f"serve --port {port} --dir {dir} --shards {shards} --cpus {KEVY_CPUS} --role {role} "
        f"--replication-buffer-size {backlog_mib}mb --maxclients 20000 --log warn"
    ).split()


def wanted():
    """Those that the environment names; the peers first, kevy last."""
    named = [
        ("redis-server", os.environ.get("REDIS", shutil.which("redis-server") or ""), False),
        ("valkey-server", os.environ.get("VALKEY", ""), False),
        ("kevy-peer", os.environ.get("KEVY_PEER", ""), True),
        ("kevy", os.environ.get("KEVY", ""), True),
    ]
    servers = [Server(name, program, is_ours) for name, program, is_ours in named if program]
    if not servers:
        sys.exit("no server to measure: set REDIS, VALKEY, KEVY_PEER or KEVY")
    for server in servers:
        if not shutil.which(server.program):
            sys.exit(f"{server.name}: {server.program} is no program")
    return servers
