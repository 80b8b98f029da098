"""What the servers are loaded with, and the probe that looks at them meanwhile (benches/probe.rs)."""

import csv
import json
import os
import subprocess
import sys

from node import WAIT_SECONDS_MAX

COUNT = int(os.environ.get("COUNT", "2000000"))
KEYS = int(os.environ.get("KEYS", "1000000"))
BENCHMARK = os.environ.get("BENCHMARK", "redis-benchmark")
PROBE = os.environ.get("PROBE", "")


def sets(port, count=COUNT):
    """SETs of 64 bytes over KEYS random keys; operations a second as the client saw them."""
    return benchmark(port, "-t set -P 64 -c 16 -d 64", count)


def benchmark(port, what, count, keys=KEYS):
    """One test of redis-benchmark; operations a second."""
    arguments = f"-p {port} -n {count} -r {keys} --csv {what}".split()
    done = subprocess.run([BENCHMARK, *arguments], capture_output=True, text=True, timeout=WAIT_SECONDS_MAX, check=True)
    # The last line; the field behind the name, which may have commas of its own.
    return float(next(csv.reader([done.stdout.strip().splitlines()[-1]]))[1])


class Benchmark:
    """redis-benchmark in the background, until it is ended."""

    def __init__(self, port, what):
        arguments = f"-p {port} -n 1000000000 -r {KEYS} -q {what}".split()
        self.process = subprocess.Popen([BENCHMARK, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end(self):
        self.process.kill()
        self.process.wait()


def fill(port, keys=COUNT):
    """Different keys of 64 bytes."""
    probe("fill", port, keys, 64)


class Probe:
    """A probe at work in the background; `end` returns what it saw."""

    def __init__(self, *args):
        self.process = subprocess.Popen(
            [PROBE, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def end(self):
        out, _ = self.process.communicate(timeout=WAIT_SECONDS_MAX)
        if self.process.returncode != 0:
            sys.exit(f"{self.process.args} failed")
        return json.loads(out.strip().splitlines()[-1])

    def await_ready(self):
        """Where the probe says first that it has begun."""
        self.process.stdout.readline()


def probe(*args):
    """One probe from its beginning to its own end."""
    return Probe(*args).end()
