"""Which server replicates at what cost? Run by bench-peers.sh; Python's standard library, and matplotlib for plots if it is there.

Every server goes through the same work (work.py), peer and kevy in turn, RUNS times; the tables show medians. On a machine with
few CPUs the operations per second of a replicated run are the machine's limit: compare CPU per operation, which is the system's
accounting of each process.

Environment: KEVY REDIS VALKEY KEVY_PEER BENCHMARK PROBE (programs; empty leaves a server out), WORK (subjects, comma between
them, `growth` for all of its parts; all by default), RUNS, COUNT, KEYS, BACKLOG_MIB, KEVY_SHARDS, KEVY_CPUS; OUT (a directory: samples.json, plots, and tables.md where there is no
PAGE, in which the tables go between two marks); ADD=1 adds to the samples that are there; RUNS=0 only shows them again.
"""

import atexit
import os
import signal
import sys
import time

from node import nodes
from report import plot, put_into, tables
from samples import Samples
from servers import wanted
from work import WORKS

RUNS = int(os.environ.get("RUNS", "3"))
ASKED = [name for name in os.environ.get("WORK", "").split(",") if name] or list(WORKS)
WORK = [work for name in ASKED for work in WORKS if work == name or work.startswith(name + "-")]
OUT = os.environ.get("OUT", "target/bench-peers")
PAGE = os.environ.get("PAGE", "")


def main():
    unknown = [name for name in ASKED if not any(work == name or work.startswith(name + "-") for work in WORKS)]
    if unknown:
        sys.exit(f"WORK names {', '.join(unknown)}; there is {', '.join(WORKS)}")
    atexit.register(lambda: [node.stop() for node in list(nodes)])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    samples = Samples(os.path.join(OUT, "samples.json"))
    if RUNS == 0 or os.environ.get("ADD"):
        samples.load()
    if RUNS > 0:
        measure(samples)
    plots = plot(samples, OUT)
    if not plots:
        print("no plots: matplotlib is not there", file=sys.stderr)
    text = tables(samples, [os.path.basename(path) for path in plots])
    if PAGE:
        beside = os.path.relpath(OUT, os.path.dirname(PAGE))
        put_into(PAGE, tables(samples, [os.path.join(beside, os.path.basename(path)) for path in plots]))
    else:
        with open(os.path.join(OUT, "tables.md"), "w") as file:
            file.write(text)
    print(text)


def measure(samples):
    servers = wanted()
    samples.begin(servers, WORK, RUNS)
    for run in range(RUNS):
        for work in WORK:
            for server in servers:
                began = time.monotonic()
                samples.add(server, WORKS[work](server))
                took = time.monotonic() - began
                print(f"run {run + 1} of {RUNS}: {work}, {server.name}: {took:.1f} s", file=sys.stderr)
                # What was measured is not lost with what follows.
                samples.save()


main()
