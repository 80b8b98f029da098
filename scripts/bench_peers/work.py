"""The work that each server goes through: one function a subject, which returns a sample for each of its figures."""

import time

from load import COUNT, Probe, fill, probe, sets
from node import Node, attach, caught_up, is_whole, wait_for

LOAD_RATE = 100_000
PROBE_HZ = 1_000
LATENCY_ROUNDS = 2_000
FANOUT = 4
CROWD = 16


def set_(server):
    """SETs: alone, with one replica, with it stopped; then what it missed is caught up."""
    sample = {}
    primary = Node(server)
    before = primary.cpu_seconds()
    sample["set_ops"] = sets(primary.port)
    sample["set_cpu_us"] = (primary.cpu_seconds() - before) / COUNT * 1e6
    primary.stop()

    primary, replica = Node(server), Node(server)
    primary.client.ask("SET", "first", "1")
    attach(replica, primary)
    before = primary.cpu_seconds(), replica.cpu_seconds()
    sample["replicated_ops"] = sets(primary.port)
    wait_for("the replica has applied everything", lambda: caught_up(primary, replica))
    sample["replicated_cpu_us"] = (primary.cpu_seconds() - before[0]) / COUNT * 1e6
    sample["replica_cpu_us"] = (replica.cpu_seconds() - before[1]) / COUNT * 1e6

    replica.freeze()
    sample["frozen_ops"] = sets(primary.port)
    before = primary.cpu_seconds(), replica.cpu_seconds()
    began = time.monotonic()
    replica.thaw()
    wait_for("the replica has caught up", lambda: caught_up(primary, replica))
    sample["catch_up_frames"] = COUNT / (time.monotonic() - began)
    sample["catch_up_primary_cpu_us"] = (primary.cpu_seconds() - before[0]) / COUNT * 1e6
    sample["catch_up_replica_cpu_us"] = (replica.cpu_seconds() - before[1]) / COUNT * 1e6
    replica.stop()
    primary.stop()
    return sample


def fanout(server):
    """SETs with several replicas."""
    primary, replicas = Node(server), [Node(server) for _ in range(FANOUT)]
    primary.client.ask("SET", "first", "1")
    for replica in replicas:
        attach(replica, primary)
    before = primary.cpu_seconds()
    sample = {"fanout_ops": sets(primary.port)}
    for replica in replicas:
        wait_for("a replica has applied everything", lambda: caught_up(primary, replica))
    sample["fanout_cpu_us"] = (primary.cpu_seconds() - before) / COUNT * 1e6
    for node in [*replicas, primary]:
        node.stop()
    return sample


def sync(server):
    """An empty replica attaches to COUNT keys: while nothing else happens, and under writes; a GET probe looks on."""
    sample = {}
    primary, replica, again = Node(server), Node(server), Node(server)
    fill(primary.port)
    sample["bytes_per_key"] = primary.memory("VmRSS") / COUNT
    primary.forget_peak()
    resident, before = primary.memory("VmRSS"), (primary.cpu_seconds(), replica.cpu_seconds())
    watch = Probe("get", primary.port, PROBE_HZ)
    began = time.monotonic()
    attach(replica, primary)
    sample["sync_seconds"] = time.monotonic() - began
    seen = watch.end()
    primary.await_no_fork()
    sample["sync_primary_cpu"] = primary.cpu_seconds() - before[0]
    sample["sync_replica_cpu"] = replica.cpu_seconds() - before[1]
    sample["sync_primary_extra_mib"] = max(primary.memory("VmHWM") - resident, 0) / 2**20
    sample["sync_get_p99_us"], sample["sync_get_max_us"] = seen["p99"], seen["max"]
    replica.stop()

    writes = Probe("load", primary.port, LOAD_RATE, COUNT, 64)
    time.sleep(0.5)
    began = time.monotonic()
    again.follow(primary)
    wait_for("the replica is whole", lambda: is_whole(primary, again))
    sample["loaded_sync_seconds"] = time.monotonic() - began
    sample["loaded_sync_rate"] = writes.end()["rate"]
    again.stop()
    primary.stop()
    return sample


def crowd_sync(server):
    """One, four and eight empty replicas attach to COUNT keys at once."""
    sample = {}
    primary = Node(server)
    fill(primary.port)
    for count in (1, 4, 8):
        replicas = [Node(server) for _ in range(count)]
        user, before, began = primary.cpu_seconds(["user"]), primary.cpu_seconds(), time.monotonic()
        for replica in replicas:
            replica.follow(primary)
        for replica in replicas:
            wait_for("a replica is attached", lambda: caught_up(primary, replica))
        sample[f"crowd_{count}_seconds"] = time.monotonic() - began
        primary.await_no_fork()
        sample[f"crowd_{count}_user_cpu"] = primary.cpu_seconds(["user"]) - user
        sample[f"crowd_{count}_cpu"] = primary.cpu_seconds() - before
        for replica in replicas:
            replica.stop()
    primary.stop()
    return sample


def frozen(server):
    """What stopped replicas cost their primary: SETs without a replica, with a stopped one, with a crowd all but one stopped."""
    sample = {}
    for name, count, stopped in (("none", 0, 0), ("one", 1, 1), ("half", 2, 1), ("most", CROWD, CROWD - 1)):
        primary, replicas = Node(server), [Node(server) for _ in range(count)]
        primary.client.ask("SET", "first", "1")
        for replica in replicas:
            attach(replica, primary)
        for replica in replicas[:stopped]:
            replica.freeze()
        watch = Probe("get", primary.port, PROBE_HZ)
        before = primary.cpu_seconds()
        sets(primary.port)
        sample[f"frozen_{name}_cpu_us"] = (primary.cpu_seconds() - before) / COUNT * 1e6
        sample[f"frozen_{name}_get_p99_us"] = watch.end()["p99"]
        sample[f"frozen_{name}_peak_mib"] = primary.memory("VmHWM") / 2**20
        for node in [*replicas, primary]:
            node.stop()
    return sample


def latency(server):
    """When a write is visible on the replica, and when WAIT says so; then a link that was reset."""
    sample = {}
    primary, replica = Node(server), Node(server)
    primary.client.ask("SET", "first", "1")
    attach(replica, primary)
    seen = probe("visible", primary.port, replica.port, LATENCY_ROUNDS)
    for name in ("from_write", "from_ok"):
        sample[f"visible_{name}_p50_us"], sample[f"visible_{name}_p99_us"] = seen[name]["p50"], seen[name]["p99"]
    seen = probe("wait", primary.port, LATENCY_ROUNDS)
    sample["wait_p50_us"], sample["wait_p99_us"] = seen["after_ok"]["p50"], seen["after_ok"]["p99"]
    sample["set_and_wait_p50_us"] = seen["set_and_wait"]["p50"]
    replica.stop()
    primary.stop()
    return sample


WORKS = {"set": set_, "fanout": fanout, "sync": sync, "crowd": crowd_sync, "frozen": frozen, "latency": latency}

FIGURES = [
    ("set_ops", "SET, no replica: ops/s", "{:,.0f}"),
    ("set_cpu_us", "… CPU µs/op", "{:.2f}"),
    ("replicated_ops", "SET, one replica: ops/s", "{:,.0f}"),
    ("replicated_cpu_us", "… primary CPU µs/op", "{:.2f}"),
    ("replica_cpu_us", "… replica CPU µs/op", "{:.2f}"),
    ("fanout_ops", f"SET, {FANOUT} replicas: ops/s", "{:,.0f}"),
    ("fanout_cpu_us", "… primary CPU µs/op", "{:.2f}"),
    ("frozen_ops", "SET, replica stopped: ops/s", "{:,.0f}"),
    ("catch_up_frames", "catch-up: frames/s", "{:,.0f}"),
    ("catch_up_primary_cpu_us", "… primary CPU µs/frame", "{:.2f}"),
    ("catch_up_replica_cpu_us", "… replica CPU µs/frame", "{:.2f}"),
    ("sync_seconds", "full sync: s", "{:.2f}"),
    ("sync_primary_cpu", "… primary CPU s", "{:.2f}"),
    ("sync_replica_cpu", "… replica CPU s", "{:.2f}"),
    ("sync_primary_extra_mib", "… primary's extra memory, MiB (a fork's not counted)", "{:.0f}"),
    ("sync_get_p99_us", "… GET p99 on the primary meanwhile, µs", "{:,.0f}"),
    ("sync_get_max_us", "… worst GET, µs", "{:,.0f}"),
    ("loaded_sync_seconds", f"full sync under {LOAD_RATE:,} SET/s: s", "{:.2f}"),
    ("loaded_sync_rate", "… SETs a second that were written", "{:,.0f}"),
    *(
        row
        for count in (1, 4, 8)
        for row in (
            (f"crowd_{count}_seconds", f"full sync of {count} at once: s", "{:.2f}"),
            (f"crowd_{count}_cpu", "… primary CPU s", "{:.2f}"),
            (f"crowd_{count}_user_cpu", "… of it user", "{:.2f}"),
        )
    ),
    *(
        row
        for name, label in (
            ("none", "no replica"),
            ("one", "one replica, stopped"),
            ("half", "one of two stopped"),
            ("most", f"{CROWD - 1} of {CROWD} stopped"),
        )
        for row in (
            (f"frozen_{name}_cpu_us", f"SET beside a GET probe, {label}: primary CPU µs/op", "{:.2f}"),
            (f"frozen_{name}_get_p99_us", "… GET p99, µs", "{:,.0f}"),
            (f"frozen_{name}_peak_mib", "… peak memory, MiB", "{:,.0f}"),
        )
    ),
    ("visible_from_write_p50_us", "idle: write → readable on the replica, p50 µs", "{:.0f}"),
    ("visible_from_ok_p50_us", "idle: +OK → readable, p50 µs", "{:.0f}"),
    ("visible_from_ok_p99_us", "… p99 µs", "{:.0f}"),
    ("wait_p50_us", "WAIT 1 after +OK, p50 µs", "{:.0f}"),
    ("wait_p99_us", "… p99 µs", "{:.0f}"),
    ("set_and_wait_p50_us", "SET and WAIT 1 in one write, p50 µs", "{:.0f}"),
    ("bytes_per_key", "resident bytes per key", "{:.0f}"),
]
