"""Two hosts in network namespaces, and what lies between them.

    namespace a                      this process, as `link`                     namespace b
    kevy (primary) ── tun ── reads ── queue: rate, delay, loss ── writes ── tun ── kevy (replica)

Every profile does the same: a replica attaches to a loaded primary; the link is cut for two seconds (a partition: for six) while
clients write, and heals; a fresh replica syncs while clients write at 80 % of what the attach took of the link; on the narrow link, of the link
itself. Each time both end with equal offsets and digests, and a cut costs no full sync. Whether the writer kept to its pace is looked at twice: by what was
answered during the sync, and on the narrow link by what the link carries when the sync is over. Run by scripts/netns.sh, as root.
"""

import collections
import ctypes
import fcntl
import itertools
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

A, B = "10.99.0.1", "10.99.0.2"
PORT = 6004
PATIENCE = 60

# milliseconds one way, probability that a packet is lost, bits a second, bytes of a packet
PROFILES = {
    "delay": dict(delay=25, loss=0, rate=1_000_000_000, mtu=9000),
    "loss": dict(delay=1, loss=0.01, rate=1_000_000_000, mtu=1500),
    "narrow": dict(delay=1, loss=0, rate=100_000_000, mtu=9000),
    "partition": dict(delay=1, loss=0, rate=1_000_000_000, mtu=9000),
}
QUEUE_SECONDS = 0.05
# Commands of a pipeline: a client that waits for a busy machine writes on all the same.
BATCH = 250
# The share of the link that writes take, and how far a machine that does other things as well may be off it.
SHARE, TOLERANCE = 0.8, 0.08

libc = ctypes.CDLL(None, use_errno=True)
OWN = open("/proc/self/ns/net")


def enter(namespace):
    """Moves this thread into a network namespace; sockets stay where they were made."""
    handle = open(f"/run/netns/{namespace}") if namespace else OWN
    if libc.setns(handle.fileno(), 0) != 0:
        raise OSError(ctypes.get_errno(), f"setns {namespace}")
    if namespace:
        handle.close()


def tun(namespace, address, mtu):
    """A TUN device with an address in a namespace."""
    enter(namespace)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    tun_without_header = 0x0001 | 0x1000
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"wire", tun_without_header))
    for command in (f"ip addr add {address}/24 dev wire", f"ip link set wire mtu {mtu} txqueuelen 1000 up", "ip link set lo up",
                    "sysctl -qw net.ipv4.tcp_congestion_control=reno"):
        subprocess.run(command.split(), check=True)
    return device


def link(a, b, delay, loss, rate, mtu):
    """Carries packets until its input ends. A line `cut` stops them, `heal` lets them through again."""
    devices = [tun(a, A, int(mtu)), tun(b, B, int(mtu))]
    delay, loss, rate = float(delay) / 1000, float(loss), float(rate) / 8
    queues = {device: collections.deque() for device in devices}
    free = {device: 0.0 for device in devices}
    carried, is_cut = 0, False
    print("up", flush=True)
    while True:
        now = time.monotonic()
        for device, queue in queues.items():
            while queue and queue[0][0] <= now:
                packet = queue.popleft()[1]
                try:
                    os.write(device, packet)
                    carried += len(packet) if device == devices[1] else 0
                except BlockingIOError:
                    pass
        due = min((queue[0][0] for queue in queues.values() if queue), default=now + 1)
        readable, _, _ = select.select([*devices, sys.stdin], [], [], max(0.0, due - now))
        now = time.monotonic()
        for ready in readable:
            if ready is sys.stdin:
                word = os.read(0, 100).decode().strip()
                if not word:
                    return
                if word == "count":
                    print(carried, flush=True)
                else:
                    is_cut = word == "cut"
                continue
            other = devices[1 - devices.index(ready)]
            for _ in range(64):
                try:
                    packet = os.read(ready, 65536)
                except BlockingIOError:
                    break
                # What does not fit the queue is dropped, as a router does.
                if is_cut or random.random() < loss or free[other] - now > QUEUE_SECONDS:
                    continue
                free[other] = max(free[other], now) + len(packet) / rate
                queues[other].append((free[other] + delay, packet))


class Client:
    """Speaks to a node from its own namespace."""

    def __init__(self, namespace, address):
        enter(namespace)
        try:
            self.socket = socket.create_connection((address, PORT), timeout=30)
        finally:
            enter(None)
        self.file = self.socket.makefile("rb")

    def ask(self, *words):
        self.socket.sendall(encode(*words))
        return self.reply()

    def reply(self):
        line = self.file.readline().rstrip(b"\r\n")
        if line[:1] == b"$":
            length = int(line[1:])
            return None if length < 0 else self.file.read(length + 2)[:-2]
        if line[:1] == b"-":
            raise RuntimeError(line.decode())
        return line[1:]

    def info(self):
        lines = self.ask(b"INFO").decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


def encode(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def sets(first, count, keys, value):
    return b"".join(encode(b"SET", b"key:%d" % (number % keys), value) for number in range(first, first + count))


def write(client, count, keys, value, first=0):
    for begin in range(first, first + count, 500):
        client.socket.sendall(sets(begin, 500, keys, value))
        for _ in range(500):
            client.reply()


class Node:
    def __init__(self, directory, namespace, address, *flags):
        self.namespace, self.address = namespace, address
        os.makedirs(directory, exist_ok=True)
        self.log = open(os.path.join(directory, "log"), "w")
        command = ["ip", "netns", "exec", namespace, os.environ["KEVY"], "--bind", address, "--protected-mode", "false", "--port", str(PORT), "--cpus", "off",
                   "--dir", directory, *flags]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        until("the node answers", lambda: self.connect() is not None)
        self.client = self.connect()

    def said(self):
        with open(self.log.name) as log:
            return log.read()

    def connect(self):
        if self.process.poll() is not None:
            raise SystemExit(f"red: the node ended\n{self.said()}")
        try:
            client = Client(self.namespace, self.address)
            client.ask(b"PING")
            return client
        except (OSError, RuntimeError):
            return None

    def kill(self):
        self.process.kill()
        self.process.wait()


def until(what, condition):
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > PATIENCE:
            raise SystemExit(f"red: waited {PATIENCE} s for this: {what}")
        time.sleep(0.02)
    return time.monotonic() - began


def caught_up(primary, replica):
    there, here = primary.client.info(), replica.client.info()
    return here["master_link_status"] == "up" and here["slave_repl_offset"] == there["master_repl_offset"]


def lag(primary):
    """Frames that the first replica has not acknowledged."""
    fields = dict(field.split("=", 1) for field in primary.client.info()["replica0"].split(","))
    return int(fields["lag_frames"])


def equal(primary, replica):
    digests = [node.client.ask(b"DEBUG", b"DIGEST") for node in (primary, replica)]
    if digests[0] != digests[1]:
        raise SystemExit(f"red: digests differ: {digests}")


class Load:
    """Writes so many bytes a second, requests counted, until it is stopped."""

    def __init__(self, node, bytes_per_second, keys, value):
        self.stopped, self.written = False, 0
        client = node.connect()
        batches = [sets(first, BATCH, keys, value) for first in range(0, keys, BATCH)]
        replies = len(b"+OK\r\n") * BATCH

        def run():
            began = time.monotonic()
            for number in itertools.count():
                if self.stopped:
                    return
                while self.written > (time.monotonic() - began) * bytes_per_second:
                    time.sleep(0.001)
                client.socket.sendall(batches[number % len(batches)])
                client.file.read(replies)
                self.written += len(batches[number % len(batches)])

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def stop(self):
        self.stopped = True
        self.thread.join()


def play(name, profile):
    """Plays one profile; the numbers of its line."""
    a, b = f"kevy-a-{os.getpid()}", f"kevy-b-{os.getpid()}"
    directory = tempfile.mkdtemp(prefix="kevy-netns-")
    wire, nodes = None, []
    keys, value = 4_000, b"v" * 4_000
    try:
        for namespace in (a, b):
            subprocess.run(["ip", "netns", "add", namespace], check=True)
        settings = [str(profile[key]) for key in ("delay", "loss", "rate", "mtu")]
        wire = subprocess.Popen([sys.executable, __file__, "link", a, b, *settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                text=True, bufsize=1)
        assert wire.stdout.readline() == "up\n"

        def tell(word):
            wire.stdin.write(word + "\n")

        def carried():
            tell("count")
            return int(wire.stdout.readline())

        primary = Node(f"{directory}/primary", a, A, "--role", "primary", "--shards", "2")
        nodes.append(primary)
        write(primary.client, keys, keys, value)
        upstream = ["--role", "replica", "--upstream", f"{A}:{PORT + 10000}", "--shards", "3",
                    "--link-timeout-ms", "3000", "--heartbeat-ms", "500"]
        replica = Node(f"{directory}/replica-1", b, B, *upstream)
        nodes.append(replica)
        before = carried()
        attach = until("the replica is synced", lambda: caught_up(primary, replica))
        rate = max(carried() - before, len(value) * keys) / max(attach, 0.05)
        equal(primary, replica)

        syncs = primary.client.info()["sync_full"]
        tell("cut")
        write(primary.client, 2_000, keys, b"w" * 100)
        time.sleep(6 if name == "partition" else 2)
        if name == "partition" and primary.client.info()["connected_slaves"] == "0":
            raise SystemExit("red: the primary forgot a replica in a partition shorter than its link timeout")
        tell("heal")
        resume = until("the replica goes on", lambda: caught_up(primary, replica))
        if primary.client.info()["sync_full"] != syncs:
            raise SystemExit("red: a cut cost a full sync")
        equal(primary, replica)

        replica.kill()
        capacity = profile["rate"] / 8
        target = SHARE * (capacity if name == "narrow" else min(rate, capacity))
        load = Load(primary, target, keys, value)
        until("the writes come", lambda: load.written > target)
        replica = Node(f"{directory}/replica-2", b, B, *upstream)
        nodes.append(replica)
        began, written = time.monotonic(), load.written
        until("the sync under load ends", lambda: replica.client.info()["master_link_status"] == "up")
        under_load = time.monotonic() - began
        written = (load.written - written) / under_load
        share = None
        if name == "narrow":
            # Nothing but what is written crosses now: over some seconds, since the pace is kept on the average.
            until("the replica has caught up", lambda: lag(primary) < 2 * BATCH)
            before, began = carried(), time.monotonic()
            time.sleep(4)
            share = (carried() - before) / (time.monotonic() - began) / capacity
            if abs(share - SHARE) > TOLERANCE:
                raise SystemExit(f"red: writes were to take {SHARE:.0%} of the link, and took {share:.0%}")
            if abs(written / target - 1) > TOLERANCE / SHARE:
                raise SystemExit(f"red: writes of {target / 1e6:.1f} MB/s were to go on during the sync, and {written / 1e6:.1f} did")
        load.stop()
        until("the replica has all that was written", lambda: caught_up(primary, replica))
        equal(primary, replica)
        return attach, rate, resume, under_load, written, share
    finally:
        for node in nodes:
            node.kill()
        if wire:
            wire.stdin.close()
            wire.wait()
        for namespace in (a, b):
            subprocess.run(["ip", "netns", "del", namespace], check=False)
        shutil.rmtree(directory, ignore_errors=True)


def main():
    names = sys.argv[1:] or list(PROFILES)
    print(f"{'profile':<10} {'attach s':>9} {'MB/s':>6} {'resume s':>9} {'sync under load s':>18} {'writes MB/s':>12}", flush=True)
    for name in names:
        attach, rate, resume, under_load, written, share = play(name, PROFILES[name])
        of_link = f", {share:.0%} of the link" if share else ""
        print(f"{name:<10} {attach:>9.2f} {rate / 1e6:>6.1f} {resume:>9.2f} {under_load:>18.2f} {written / 1e6:>12.1f}{of_link}", flush=True)
    print("green: equal after each")


if __name__ == "__main__":
    link(*sys.argv[2:]) if sys.argv[1:2] == ["link"] else main()
