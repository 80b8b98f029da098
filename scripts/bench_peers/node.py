"""Server processes, and what is asked of them: a RESP2 client, and the system's accounting of a process."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

WAIT_SECONDS_MAX = 300
TICKS = os.sysconf("SC_CLK_TCK")
PROCESS_CPU_CLOCK = 2

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

    def __init__(self, server, **how):
        self.dir = tempfile.mkdtemp(prefix="bench-peers-")
        self.port = free_port(16)
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.process = subprocess.Popen(
            server.command(self.port, self.dir, **how), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        nodes.append(self)
        self.client = None
        wait_for(f"{server.name} answers", self.is_ready)

    def is_ready(self):
        if self.process.poll() is not None:
            sys.exit(f"{self.process.args[0]} ended:\n{open(self.log.name).read()}")
        try:
            self.client = Client(self.port)
            return self.client.ask("PING") == "PONG"
        except OSError:
            return False

    def cpu_seconds(self, kinds=("user", "system")):
        """With the children that were waited for: a fork that writes a snapshot is its parent's cost."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            user, system, child_user, child_system = map(int, file.read().rsplit(")", 1)[1].split()[11:15])
        if len(kinds) == 2:
            # The clock of a process by its number: the same accounting, in nanoseconds and not in ticks.
            return time.clock_gettime(~self.process.pid << 3 | PROCESS_CPU_CLOCK) + (child_user + child_system) / TICKS
        return {"user": user + child_user, "system": system + child_system}[kinds[0]] / TICKS

    def faults(self):
        """Pages that were touched for the first time."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[7])

    def backlog_bytes(self):
        """What its backlog holds now."""
        redis = self.client.info("memory").get("mem_replication_backlog")
        if redis is not None:
            return int(redis)
        streams = (dict(pair.split("=", 1) for pair in text.split(",")) for key, text in self.client.info().items() if key.startswith("stream"))
        return sum(int(stream.get("bytes", 0)) for stream in streams)

    def memory(self, field):
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field + ":"))

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as file:
            file.write("5")

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def follow(self, primary):
        self.client.ask("REPLICAOF", "127.0.0.1", primary.port)

    def cut_links(self):
        """Ends the sockets of its replicas at once, as a firewall would; needs root. False if the system cannot."""
        base = self.client.info("replication").get("repl_port_base")
        if base:
            filters = [["dport", "=", f":{base}"]]
        else:
            lines = self.client.ask("CLIENT", "LIST", "TYPE", "replica").splitlines()
            links = [dict(pair.split("=", 1) for pair in line.split() if "=" in pair)["addr"] for line in lines]
            filters = [["sport", "=", ":" + link.rsplit(":", 1)[1]] for link in links]
        done = [subprocess.run(["ss", "-K", *one], capture_output=True, text=True) for one in filters]
        return all(one.returncode == 0 and "ESTAB" in one.stdout for one in done)

    def await_no_fork(self):
        """The CPU of a fork is its parent's once it has been waited for."""
        running = lambda: self.client.info("persistence").get("rdb_bgsave_in_progress", "0")
        wait_for("no fork is left", lambda: running() == "0")

    def stop(self):
        if self.process.poll() is None:
            self.thaw()
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


def wait_for(what, condition, pause=0.002):
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"waited {WAIT_SECONDS_MAX} s for this: {what}")
        time.sleep(pause)


def is_past_its_sync(info):
    return info.get("master_link_status") == "up" and info.get("master_sync_in_progress", "0") == "0"


def is_whole(primary, replica):
    """Past its sync, and as far as the primary was when it was asked."""
    theirs, goal = replica.client.info(), int(primary.client.info()["master_repl_offset"])
    if not is_past_its_sync(theirs):
        return False
    wait_for("the replica has what the primary had", lambda: int(replica.client.info()["slave_repl_offset"]) >= goal)
    return True


def caught_up(primary, replica):
    theirs = replica.client.info()
    return (
        is_past_its_sync(theirs)
        and int(theirs["slave_repl_offset"]) >= int(primary.client.info()["master_repl_offset"])
        and replica.client.ask("DBSIZE") == primary.client.ask("DBSIZE")
    )


def attach(replica, primary):
    replica.follow(primary)
    wait_for("the replica is attached", lambda: caught_up(primary, replica))
