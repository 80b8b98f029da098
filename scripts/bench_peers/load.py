"""What the servers are loaded with, and the probe that looks at them meanwhile (benches/probe.rs)."""

import json
import os
import subprocess
import sys
import threading

from node import Client, WAIT_SECONDS_MAX, encode

COUNT = int(os.environ.get("COUNT", "2000000"))
KEYS = int(os.environ.get("KEYS", "1000000"))
BENCHMARK = os.environ.get("BENCHMARK", "redis-benchmark")
PROBE = os.environ.get("PROBE", "")


def sets(port):
    """COUNT SETs of 64 bytes over KEYS random keys; operations a second as the client saw them."""
    arguments = f"-p {port} -t set -n {COUNT} -r {KEYS} -P 64 -c 16 -d 64 --csv".split()
    done = subprocess.run([BENCHMARK, *arguments], capture_output=True, text=True, timeout=WAIT_SECONDS_MAX, check=True)
    return float(done.stdout.strip().splitlines()[-1].split(",")[1].strip('"'))


def fill(port):
    """COUNT different keys of 64 bytes."""
    client = Client(port)
    failed = []

    def drain():
        for _ in range(COUNT):
            if client.file.readline() != b"+OK\r\n":
                failed.append(True)
                return

    reader = threading.Thread(target=drain)
    reader.start()
    value = b"v" * 64
    for first in range(0, COUNT, 5000):
        last = min(first + 5000, COUNT)
        client.socket.sendall(b"".join(encode(b"SET", b"key:%012d" % i, value) for i in range(first, last)))
    reader.join(WAIT_SECONDS_MAX)
    if failed or reader.is_alive():
        sys.exit("the keys could not be written")


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
        return json.loads(out)


def probe(*args):
    """One probe from its beginning to its own end."""
    return Probe(*args).end()
