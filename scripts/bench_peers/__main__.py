"""Which server replicates at what cost? Run by bench-peers.sh; Python's standard library only.

Every server goes through the same work (work.py), in turn, RUNS times; the table shows medians. On a machine with few CPUs
the operations per second of a replicated run are the machine's limit: compare CPU per operation, which is the system's
accounting of each process.

Environment: KEVY REDIS VALKEY BENCHMARK PROBE (programs; empty leaves a server out), WORK (subjects, comma between them;
all by default), RUNS, COUNT, KEYS, KEVY_SHARDS, KEVY_CPUS, OUT (raw samples as JSON). The peers are tuned: no disk, no
delay, a backlog that holds the whole load.
"""

import atexit
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys

from load import COUNT, KEYS
from node import nodes
from work import FIGURES, WORKS

RUNS = int(os.environ.get("RUNS", "3"))
WORK = [name for name in os.environ.get("WORK", "").split(",") if name] or list(WORKS)
KEVY_SHARDS = os.environ.get("KEVY_SHARDS", "1")
KEVY_CPUS = os.environ.get("KEVY_CPUS", "off")
OUT = os.environ.get("OUT", "target/bench-peers.json")
BACKLOG = "512mb"


def redis_like(program):
    flags = (
        "--bind 127.0.0.1 --appendonly no --daemonize no --loglevel warning --protected-mode no --repl-diskless-sync yes "
        f"--repl-diskless-sync-delay 0 --repl-diskless-load swapdb --repl-backlog-size {BACKLOG}"
    ).split()
    limits = ["--save", "", "--client-output-buffer-limit", "replica 0 0 0"]
    return lambda port, dir: [program, "--port", str(port), "--dir", dir, *flags, *limits]


def kevy(program):
    flags = f"--shards {KEVY_SHARDS} --cpus {KEVY_CPUS} --replication-buffer-size {BACKLOG} --log warn".split()
    return lambda port, dir: [program, "serve", "--port", str(port), "--dir", dir, *flags]


def table(servers, samples):
    figures = [figure for figure in FIGURES if all(figure[0] in samples[s["name"]][0] for s in servers)]
    median = {s["name"]: {key: statistics.median(x[key] for x in samples[s["name"]]) for key, _, _ in figures} for s in servers}
    names = [s["name"] for s in servers]
    peers = [name for name in names if name != "kevy"] if "kevy" in names else []
    lines = [f"| | {' | '.join(names + [f'kevy / {peer}' for peer in peers])} |"]
    lines.append("|---" * (len(names) + len(peers) + 1) + "|")
    for key, label, form in figures:
        cells = [form.format(median[name][key]) for name in names]
        for peer in peers:
            theirs = median[peer][key]
            cells.append(f"{median['kevy'][key] / theirs:.2f}" if theirs else "—")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def version(program):
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[0]


def main():
    wanted = [
        ("redis-server", os.environ.get("REDIS", shutil.which("redis-server") or ""), redis_like),
        ("valkey-server", os.environ.get("VALKEY", ""), redis_like),
        ("kevy", os.environ.get("KEVY", ""), kevy),
    ]
    servers = [{"name": name, "command": make(path), "version": version(path)} for name, path, make in wanted if path]
    if not servers:
        sys.exit("no server to measure: set REDIS, VALKEY or KEVY")
    unknown = [name for name in WORK if name not in WORKS]
    if unknown:
        sys.exit(f"WORK names {', '.join(unknown)}; there is {', '.join(WORKS)}")
    atexit.register(lambda: [node.stop() for node in list(nodes)])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))

    samples = {server["name"]: [] for server in servers}
    for run in range(RUNS):
        for server in servers:
            sample = {}
            for work in WORK:
                print(f"run {run + 1} of {RUNS}: {server['name']}, {work}", file=sys.stderr)
                sample |= WORKS[work](server)
            samples[server["name"]].append(sample)

    about = {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, {platform.system()} {platform.release()}",
        "work": {"runs": RUNS, "count": COUNT, "keys": KEYS, "kevy_shards": KEVY_SHARDS, "kevy_cpus": KEVY_CPUS},
        "servers": {server["name"]: server["version"] for server in servers},
    }
    os.makedirs(os.path.dirname(OUT) or ".", exist_ok=True)
    with open(OUT, "w") as file:
        json.dump({**about, "samples": samples}, file, indent=1)
    print(f"{about['machine']}; {COUNT:,} operations, {KEYS:,} random keys, medians of {RUNS}; kevy with {KEVY_SHARDS} shard(s)")
    for name, text in about["servers"].items():
        print(f"{name}: {text}")
    print("\n" + table(servers, samples))


main()
