"""The raw samples: what every run of every work gave, kept in one file to which runs may be added.

{"servers": {name: version}, "runs": [about], "samples": {name: {figure: [sample, …]}}}
"""

import datetime
import json
import os
import platform
import statistics
import subprocess

from load import COUNT, KEYS
from servers import BACKLOG_MIB, KEVY_CPUS, KEVY_SHARDS


class Samples:
    def __init__(self, path):
        self.path = path
        self.servers, self.runs, self.samples = {}, [], {}

    def load(self):
        with open(self.path) as file:
            kept = json.load(file)
        self.servers, self.runs, self.samples = kept["servers"], kept["runs"], kept["samples"]

    def save(self):
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        with open(self.path + ".new", "w") as file:
            json.dump({"servers": self.servers, "runs": self.runs, "samples": self.samples}, file, indent=1)
            file.write("\n")
        os.replace(self.path + ".new", self.path)

    def add(self, server, sample):
        of_server = self.samples.setdefault(server.name, {})
        for key, value in sample.items():
            of_server.setdefault(key, []).append(value)

    def median(self, name, key):
        """None where that was not measured."""
        found = self.samples.get(name, {}).get(key)
        return statistics.median(found) if found else None

    def begin(self, servers, work, runs):
        self.servers |= {server.name: server.version() for server in servers}
        self.runs.append(about(work, runs))


def about(work, runs):
    """Where and when; machine-readable, and shown on the page."""
    read = lambda path: open(path).read() if os.path.exists(path) else ""
    find = lambda text, name: next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(name)), "")
    memory = find(read("/proc/meminfo"), "MemTotal").split()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return {
        "commit": commit or None,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": find(read("/proc/cpuinfo"), "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory[0]) / 2**20, 1) if memory else None,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        "load_average": os.getloadavg()[0],
        "work": work,
        "runs": runs,
        "count": COUNT,
        "keys": KEYS,
        "backlog_mib": BACKLOG_MIB,
        "kevy_shards": KEVY_SHARDS,
        "kevy_cpus": KEVY_CPUS,
    }
