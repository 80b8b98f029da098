"""Which server replicates at what cost? Run by bench-peers.sh; Python's standard library only.

Every server goes through the same work, in turn, RUNS times; the table shows medians. On a machine with few CPUs the
operations per second of a replicated run are the machine's limit: compare CPU per operation, which is the system's
accounting of each process (user and system time, with its waited-for children: a fork that writes a snapshot counts).

    set          COUNT SETs of 64 bytes over KEYS random keys, 64 in a pipeline, 16 connections, no replica
    replicated   the same with one replica; its CPU is counted until it has applied everything
    catch-up     the replica is stopped, COUNT SETs are written, it is continued: frames applied a second
    full sync    an empty replica attaches to COUNT keys: seconds until it has them, and the primary's extra memory

Environment: KEVY REDIS VALKEY BENCHMARK (programs; empty leaves a server out), RUNS, COUNT, KEYS, KEVY_SHARDS,
KEVY_CPUS, OUT (raw samples as JSON). The peers are tuned: no disk, no delay, a backlog that holds the whole load.
"""

import atexit
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

RUNS = int(os.environ.get("RUNS", "3"))
COUNT = int(os.environ.get("COUNT", "2000000"))
KEYS = int(os.environ.get("KEYS", "1000000"))
BENCHMARK = os.environ.get("BENCHMARK", "redis-benchmark")
KEVY_SHARDS = os.environ.get("KEVY_SHARDS", "1")
KEVY_CPUS = os.environ.get("KEVY_CPUS", "off")
OUT = os.environ.get("OUT", "target/bench-peers.json")
WAIT_SECONDS_MAX = 300
BACKLOG = "512mb"
TICKS = os.sysconf("SC_CLK_TCK")

nodes = []


class Client:
    """One connection that speaks RESP2."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS_MAX)
        self.file = self.socket.makefile("rb")

    def ask(self, *args):
        self.socket.sendall(encode(*args))
        return self.reply()

    def reply(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2].decode("latin-1")
        if kind == b"-":
            raise RuntimeError(rest.decode())
        return int(rest) if kind == b":" else rest.decode()

    def info(self, section="replication"):
        pairs = (line.split(":", 1) for line in self.ask("INFO", section).splitlines() if ":" in line)
        return {key: value.strip() for key, value in pairs}


class Node:
    """One server process."""

    def __init__(self, server):
        self.dir = tempfile.mkdtemp(prefix="bench-peers-")
        self.port = free_port(4)
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.process = subprocess.Popen(
            server["command"](self.port, self.dir), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        nodes.append(self)
        self.client = None
        wait_for(f"{server['name']} answers", self.is_ready)

    def is_ready(self):
        if self.process.poll() is not None:
            sys.exit(f"{self.process.args[0]} ended:\n{open(self.log.name).read()}")
        try:
            self.client = Client(self.port)
            return self.client.ask("PING") == "PONG"
        except OSError:
            return False

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return sum(int(ticks) for ticks in fields[11:15]) / TICKS

    def memory(self, field):
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field + ":"))

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as file:
            file.write("5")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        nodes.remove(self)


def encode(*args):
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        arg = arg if isinstance(arg, bytes) else str(arg).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
    return b"".join(parts)


def free_port(count):
    """The first of `count` free ports in a row, with those 10000 above; below the range of outgoing connections."""
    for port in range(10000 + os.getpid() * 7 % 8000, 22000, count):
        try:
            for other in (*range(port, port + count), *range(port + 10000, port + 10000 + count)):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", other))
            return port
        except OSError:
            continue
    sys.exit("no free ports")


def wait_for(what, condition):
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"waited {WAIT_SECONDS_MAX} s for this: {what}")
        time.sleep(0.002)


def caught_up(primary, replica):
    theirs = replica.client.info()
    return (
        theirs.get("master_link_status") == "up"
        and theirs.get("master_sync_in_progress", "0") == "0"
        and int(theirs["slave_repl_offset"]) >= int(primary.client.info()["master_repl_offset"])
        and replica.client.ask("DBSIZE") == primary.client.ask("DBSIZE")
    )


def attach(replica, primary):
    replica.client.ask("REPLICAOF", "127.0.0.1", primary.port)
    wait_for("the replica is attached", lambda: caught_up(primary, replica))


def load(port):
    """The load; operations a second as the client saw them."""
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


def measure(server):
    """One run of everything; a sample for each figure."""
    sample = {}

    primary = Node(server)
    before = primary.cpu_seconds()
    sample["set_ops"] = load(primary.port)
    sample["set_cpu_us"] = (primary.cpu_seconds() - before) / COUNT * 1e6
    primary.stop()

    primary, replica = Node(server), Node(server)
    primary.client.ask("SET", "first", "1")
    attach(replica, primary)
    before = primary.cpu_seconds(), replica.cpu_seconds()
    sample["replicated_ops"] = load(primary.port)
    wait_for("the replica has applied everything", lambda: caught_up(primary, replica))
    sample["replicated_cpu_us"] = (primary.cpu_seconds() - before[0]) / COUNT * 1e6
    sample["replica_cpu_us"] = (replica.cpu_seconds() - before[1]) / COUNT * 1e6

    replica.process.send_signal(signal.SIGSTOP)
    sample["frozen_ops"] = load(primary.port)
    before = primary.cpu_seconds(), replica.cpu_seconds()
    began = time.monotonic()
    replica.process.send_signal(signal.SIGCONT)
    wait_for("the replica has caught up", lambda: caught_up(primary, replica))
    sample["catch_up_frames"] = COUNT / (time.monotonic() - began)
    sample["catch_up_primary_cpu_us"] = (primary.cpu_seconds() - before[0]) / COUNT * 1e6
    sample["catch_up_replica_cpu_us"] = (replica.cpu_seconds() - before[1]) / COUNT * 1e6
    replica.stop()
    primary.stop()

    primary, replica = Node(server), Node(server)
    fill(primary.port)
    sample["bytes_per_key"] = primary.memory("VmRSS") / COUNT
    primary.forget_peak()
    resident, before = primary.memory("VmRSS"), (primary.cpu_seconds(), replica.cpu_seconds())
    began = time.monotonic()
    attach(replica, primary)
    sample["full_sync_seconds"] = time.monotonic() - began
    # The fork's CPU is the primary's once it has been waited for.
    wait_for("no fork is left", lambda: primary.client.info("persistence").get("rdb_bgsave_in_progress", "0") == "0")
    sample["full_sync_primary_cpu"] = primary.cpu_seconds() - before[0]
    sample["full_sync_replica_cpu"] = replica.cpu_seconds() - before[1]
    sample["full_sync_primary_extra_mib"] = max(primary.memory("VmHWM") - resident, 0) / 2**20
    replica.stop()
    primary.stop()
    return sample


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


FIGURES = [
    ("set_ops", "SET, no replica: ops/s", "{:,.0f}"),
    ("set_cpu_us", "… CPU µs/op", "{:.2f}"),
    ("replicated_ops", "SET, one replica: ops/s", "{:,.0f}"),
    ("replicated_cpu_us", "… primary CPU µs/op", "{:.2f}"),
    ("replica_cpu_us", "… replica CPU µs/op", "{:.2f}"),
    ("frozen_ops", "SET, replica stopped: ops/s", "{:,.0f}"),
    ("catch_up_frames", "catch-up: frames/s", "{:,.0f}"),
    ("catch_up_primary_cpu_us", "… primary CPU µs/frame", "{:.2f}"),
    ("catch_up_replica_cpu_us", "… replica CPU µs/frame", "{:.2f}"),
    ("full_sync_seconds", "full sync: s", "{:.2f}"),
    ("full_sync_primary_cpu", "… primary CPU s", "{:.2f}"),
    ("full_sync_replica_cpu", "… replica CPU s", "{:.2f}"),
    ("full_sync_primary_extra_mib", "… primary's extra memory, MiB (a fork's not counted)", "{:.0f}"),
    ("bytes_per_key", "resident bytes per key", "{:.0f}"),
]


def table(servers, samples):
    median = {s["name"]: {key: statistics.median(x[key] for x in samples[s["name"]]) for key, _, _ in FIGURES} for s in servers}
    names = [s["name"] for s in servers]
    peers = [name for name in names if name != "kevy"] if "kevy" in names else []
    lines = [f"| | {' | '.join(names + [f'kevy / {peer}' for peer in peers])} |"]
    lines.append("|---" * (len(names) + len(peers) + 1) + "|")
    for key, label, form in FIGURES:
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
    atexit.register(lambda: [node.stop() for node in list(nodes)])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))

    samples = {server["name"]: [] for server in servers}
    for run in range(RUNS):
        for server in servers:
            print(f"run {run + 1} of {RUNS}: {server['name']}", file=sys.stderr)
            samples[server["name"]].append(measure(server))

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
