"""The work that each server goes through: one function a subject, which returns a sample for each of its figures."""

import statistics
import time

from load import COUNT, KEYS, Benchmark, Probe, benchmark, fill, probe, sets
from node import Node, attach, caught_up, is_whole, wait_for

LOAD_RATE = 100_000
PROBE_HZ = 1_000
# Beside a load that leaves nothing idle an answer takes milliseconds: a probe that asked more often would wait for itself.
LOADED_PROBE_HZ = 200
LATENCY_ROUNDS = 2_000
CUTS = 5
LINK_SECONDS = 2
FANOUT = 4
CROWD = 16
SMALL_BACKLOG_MIB = 64
SINGLE_COUNT = 200_000
LOADED_KEYS = COUNT * 5

# The rows of redis-benchmark's default set, each by itself, so that each has its own CPU.
COMMANDS = [
    *((name, f"-t {name}", COUNT // 4) for name in "ping_inline ping_mbulk set get incr lpush rpush lpop rpop sadd hset spop".split()),
    *((name, f"-t {name}", COUNT // 4) for name in ("zadd", "zpopmin")),
    *((f"lrange_{n}", f"lrange mylist 0 {n - 1}", COUNT // 40) for n in (100, 300, 500, 600)),
    ("mset", "-t mset", COUNT // 10),
]

GROWTH_COUNT = COUNT // 4
GROWTH_BYTES = 256 << 20
GROWTH = {
    "keys": [10_000, 100_000, 1_000_000, 10 * COUNT],
    "size": [8, 64, 512, 4 << 10, 32 << 10, 256 << 10, 1 << 20],
    "replicas": [0, 1, 2, 4, 8, 16],
    "shards": [1, 2, 4, 8, 16],
    "connections": [1, 10, 100, 1_000],
    "idle": [0, 10_000],
    "pipeline": [1, 4, 16, 64, 256],
}


def cost(nodes, work, count=COUNT, until=lambda: None):
    """CPU microseconds an operation of each node while `work` is done and what follows from it; and what the work returns."""
    before = [node.cpu_seconds() for node in nodes]
    result = work()
    until()
    return result, [(node.cpu_seconds() - was) / count * 1e6 for node, was in zip(nodes, before)]


def pair(server, replicas=1, **how):
    """A primary, and replicas that follow it."""
    primary, others = Node(server, **how), [Node(server, **how) for _ in range(replicas)]
    primary.client.ask("SET", "first", "1")
    for replica in others:
        attach(replica, primary)
    return primary, others


def ratio(one, other):
    """Where so little was done that no CPU was accounted for, of what can be told apart."""
    return one / max(other, 1e-6)


def stop(*nodes):
    for node in nodes:
        node.stop()


def applied(primary, replicas):
    """Waits until every replica has everything."""
    for replica in replicas:
        wait_for("a replica has applied everything", lambda: caught_up(primary, replica))


def set_(server):
    """SETs: alone, with one replica, with it stopped; then what it missed is caught up."""
    sample = {}
    if server.is_ours:
        alone = Node(server, role="standalone")
        _, [sample["standalone_cpu_us"]] = cost([alone], lambda: sets(alone.port))
        alone.stop()
    primary = Node(server)
    sample["set_ops"], [sample["set_cpu_us"]] = cost([primary], lambda: sets(primary.port))
    sets(primary.port)
    _, [sample["set_warm_cpu_us"]] = cost([primary], lambda: sets(primary.port))
    primary.stop()

    primary, [replica] = pair(server)
    load, both = lambda: sets(primary.port), [primary, replica]
    until = lambda: applied(primary, [replica])
    sample["replicated_ops"], costs = cost(both, load, until=until)
    sample["replicated_cpu_us"], sample["replica_cpu_us"] = costs
    # From here on the window has been filled: nothing is touched for the first time.
    cost(both, load, until=until)
    sample["warm_ops"], costs = cost(both, load, until=until)
    sample["warm_cpu_us"], sample["warm_replica_cpu_us"] = costs

    replica.freeze()
    sample["frozen_ops"] = sets(primary.port)
    began = time.monotonic()
    _, costs = cost(both, replica.thaw, until=until)
    sample["catch_up_frames"] = COUNT / (time.monotonic() - began)
    sample["catch_up_primary_cpu_us"], sample["catch_up_replica_cpu_us"] = costs
    stop(replica, primary)
    sample["over_recording"] = ratio(sample["warm_cpu_us"], sample["set_warm_cpu_us"])
    if server.is_ours:
        sample["over_standalone"] = ratio(sample["replicated_cpu_us"], sample["standalone_cpu_us"])
    return sample


def fanout(server):
    """What each further replica costs: SETs with one, and with FANOUT, in a window that was filled before."""
    primary, replicas = pair(server)
    sets(primary.port)
    sets(primary.port)
    sample, costs = {}, []
    for count in (1, FANOUT):
        while len(replicas) < count:
            replicas.append(Node(server))
            attach(replicas[-1], primary)
        sample["fanout_ops"], of_each = cost(
            [primary, *replicas], lambda: sets(primary.port), until=lambda: applied(primary, replicas)
        )
        costs.append(of_each[0])
    sample["fanout_cpu_us"] = costs[1]
    sample["further_replica_us"] = (costs[1] - costs[0]) / (FANOUT - 1)
    stop(*replicas, primary)
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
    for name, count, stopped in (("none", 0, 0), ("one", 1, 1), ("two", 2, 0), ("half", 2, 1), ("most", CROWD, CROWD - 1)):
        primary, replicas = pair(server, count)
        for replica in replicas[:stopped]:
            replica.freeze()
        watch = Probe("get", primary.port, LOADED_PROBE_HZ)
        before = primary.cpu_seconds()
        sets(primary.port)
        sample[f"frozen_{name}_cpu_us"] = (primary.cpu_seconds() - before) / COUNT * 1e6
        sample[f"frozen_{name}_get_p99_us"] = watch.end()["p99"]
        sample[f"frozen_{name}_peak_mib"] = primary.memory("VmHWM") / 2**20
        stop(*replicas, primary)
    sample["frozen_p99_ratio"] = sample["frozen_half_get_p99_us"] / sample["frozen_two_get_p99_us"]
    return sample


def latency(server):
    """When a write is visible on the replica, and when WAIT says so; while the replica is busy with reads; after a cut."""
    sample = {}
    primary, [replica] = pair(server)
    seen = probe("visible", primary.port, replica.port, LATENCY_ROUNDS)
    for name in ("from_write", "from_ok"):
        sample[f"visible_{name}_p50_us"], sample[f"visible_{name}_p99_us"] = seen[name]["p50"], seen[name]["p99"]
    seen = probe("wait", primary.port, LATENCY_ROUNDS)
    sample["wait_p50_us"], sample["wait_p99_us"] = seen["after_ok"]["p50"], seen["after_ok"]["p99"]
    sample["set_and_wait_p50_us"] = seen["set_and_wait"]["p50"]

    sets(primary.port, KEYS)
    applied(primary, [replica])
    reads = Benchmark(replica.port, "-t get -P 16 -c 50")
    time.sleep(0.5)
    seen = probe("visible", primary.port, replica.port, LATENCY_ROUNDS // 4)
    reads.end()
    sample["busy_visible_p50_us"], sample["busy_visible_p99_us"] = seen["from_ok"]["p50"], seen["from_ok"]["p99"]

    times = [reconnect(primary, replica, number) for number in range(CUTS)]
    if None not in times:
        sample["reconnect_ms"] = statistics.median(times)
    stop(replica, primary)
    return sample


def reconnect(primary, replica, number):
    """From the cut of the link until a write after it is readable, in milliseconds; None if links cannot be cut here."""
    resumed = lambda: int(primary.client.info("stats")["sync_partial_ok"])
    # A link that ends soon after it began is dialled again later by some.
    time.sleep(LINK_SECONDS)
    before = resumed()
    if not primary.cut_links():
        return None
    began = time.monotonic()
    primary.client.ask("SET", "after", number)
    wait_for("the link streams again", lambda: replica.client.ask("GET", "after") == str(number), pause=0)
    took = (time.monotonic() - began) * 1e3
    # One that was not cut was not resumed.
    return took if resumed() > before else None


def memory(server):
    """Resident bytes a key on both sides, the backlog not counted; after overwrites of other sizes, too."""
    primary, [replica] = pair(server, backlog_mib=SMALL_BACKLOG_MIB)
    empty = {node: node.memory("VmRSS") for node in (primary, replica)}

    def per_key(node):
        return (node.memory("VmRSS") - empty[node] - node.backlog_bytes()) / COUNT

    def settle():
        applied(primary, [replica])
        # What is freed is given back in the background.
        time.sleep(1)

    sample = {}
    fill(primary.port)
    settle()
    sample["memory_primary_bytes"], sample["memory_replica_bytes"] = per_key(primary), per_key(replica)
    probe("resize", primary.port, 2 * COUNT, COUNT, 8, 120)
    settle()
    sample["resized_primary_bytes"], sample["resized_replica_bytes"] = per_key(primary), per_key(replica)
    stop(replica, primary)
    return sample


def single(server):
    """One command at a time on each of 50 connections."""
    sample, node = {}, Node(server)
    fill(node.port, KEYS)
    for name in ("get", "set"):
        ops, [cpu] = cost([node], lambda: benchmark(node.port, f"-t {name} -P 1 -c 50 -d 64", SINGLE_COUNT), SINGLE_COUNT)
        sample[f"single_{name}_ops"], sample[f"single_{name}_cpu_us"] = ops, cpu
    node.stop()
    return sample


def commands(server):
    """redis-benchmark's own set at pipeline 16: CPU a command."""
    sample, node = {}, Node(server)
    for name, what, count in COMMANDS:
        if name == "lrange_100":
            node.client.ask("DEL", "mylist")
            node.client.ask("RPUSH", "mylist", *(f"{n:03}" for n in range(600)))
        ops, [cpu] = cost([node], lambda: benchmark(node.port, f"-P 16 -c 50 {what}", count), count)
        sample[f"command_{name}_ops"], sample[f"command_{name}_cpu_us"] = ops, cpu
    node.stop()
    return sample


def shards(server):
    """What two shards cost beside one: SETs and GETs of random keys, clients spread over the shards."""
    if not server.is_ours:
        return {}
    sample = {}
    for name in ("set", "get"):
        for count in (1, 2):
            node = Node(server, shards=count)
            sets(node.port)
            load = lambda: benchmark(node.port, f"-t {name} -P 64 -c 16 -d 64", COUNT)
            sample[f"shards_{count}_{name}_ops"], [sample[f"shards_{count}_{name}_cpu_us"]] = cost([node], load)
            node.stop()
        sample[f"shards_{name}_ratio"] = ratio(sample[f"shards_2_{name}_cpu_us"], sample[f"shards_1_{name}_cpu_us"])
    return sample


def stream(server):
    """The backlog to a reader that only counts, beside plain sends over loopback."""
    if not server.is_ours:
        return {}
    node = Node(server, shards=1)
    sets(node.port)
    drained = probe("drain", node.port)
    plain = probe("pipe", drained["bytes"], 256 << 10)
    node.stop()
    sample = {"stream_gb": drained["gb_per_second"], "pipe_gb": plain["gb_per_second"]}
    return sample | {"stream_ratio": sample["stream_gb"] / sample["pipe_gb"]}


def turns(server):
    """The longest turn of a shard while many keys are loaded."""
    if not server.is_ours:
        return {}
    node = Node(server)
    node.client.ask("CONFIG", "RESETSTAT")
    faults = node.faults()
    fill(node.port, LOADED_KEYS)
    sample = {"turn_cpu_us": float(node.client.info("stats")["longest_turn_cpu_usec"]), "turn_faults": node.faults() - faults}
    node.stop()
    return sample


def growth(dimension):
    """CPU an operation as one dimension of the work grows; the others stay as they are in `set`."""

    def work(server):
        points = {f"growth_{dimension}_{point}": grown(server, dimension, point) for point in GROWTH[dimension]}
        return {key: value for key, value in points.items() if value is not None}

    return work


def grown(server, dimension, point):
    """The primary's CPU microseconds an operation; a kilobyte where values grow. None where the server has no such thing."""
    of = lambda name, otherwise: point if name == dimension else otherwise
    if dimension == "shards" and not server.is_ours:
        return None
    size, keys, replicas, pipeline = of("size", 64), of("keys", 100_000), of("replicas", 0), of("pipeline", 64)
    connections, idle = (16, point) if dimension == "idle" else (of("connections", 16), 0)
    count = max(2_000, min(GROWTH_COUNT, GROWTH_BYTES // size, 30_000 * pipeline))
    if size > 64:
        keys = min(keys, GROWTH_BYTES // size)
    primary, others = pair(server, replicas, shards=of("shards", 1))
    if dimension == "keys":
        fill(primary.port, keys)
    quiet = Probe("idle", primary.port, idle) if idle else None
    if quiet:
        quiet.await_ready()
    load = lambda: benchmark(primary.port, f"-t set -P {pipeline} -c {connections} -d {size}", count, keys)
    # Once unmeasured: what is measured meets a window and keys that are there.
    load()
    applied(primary, others)
    _, [cpu, *_] = cost([primary, *others], load, count, until=lambda: applied(primary, others))
    if quiet:
        quiet.end()
    stop(*others, primary)
    return cpu / (size / 1024) if dimension == "size" else cpu


WORKS = {
    "set": set_,
    "fanout": fanout,
    "sync": sync,
    "crowd": crowd_sync,
    "frozen": frozen,
    "latency": latency,
    "memory": memory,
    "single": single,
    "commands": commands,
    "shards": shards,
    "stream": stream,
    "turns": turns,
    **{f"growth-{dimension}": growth(dimension) for dimension in GROWTH},
}
