"""Runs client suites and tools against kevy: see clients.sh. Exit status: 0 all went as it should, 1 something did not."""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import redis_py
from node import Kevy

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
KEPT = ROOT / "target" / "clients"


def rq(kevy):
    """A job queue: jobs are put in, a worker takes them out, one fails, one is called off."""
    with Kevy(kevy, shards=2) as node:
        subprocess.run([sys.executable, HERE / "worker.py", str(node.port)], check=True, timeout=120, cwd=HERE)


def ioredis(kevy):
    """Pipelines, transactions, messages, streams of keys, blocking pops from JavaScript."""
    if not shutil.which("npm"):
        print("left out: there is no npm")
        return
    home = KEPT / "node"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "node_modules" / "ioredis").is_dir():
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", home, "ioredis@5"], check=True, timeout=240)
    shutil.copy(HERE / "flows.mjs", home / "flows.mjs")
    with Kevy(kevy, shards=2) as node:
        subprocess.run(["node", "flows.mjs", str(node.port)], check=True, timeout=120, cwd=home)


def cluster(kevy):
    """redis-py's client for clusters: writes go to the primary, reads to replicas."""
    import redis

    emulated = ("--cluster-enabled", "emulated")
    with Kevy(kevy, 2, "--role", "primary", *emulated) as primary, \
            Kevy(kevy, 3, "--role", "replica", "--upstream", f"127.0.0.1:{primary.port_base}", *emulated) as replica:
        plain = redis.Redis(port=primary.port)
        until("the replica is whole", lambda: str(replica.port) in str(plain.execute_command("CLUSTER SLOTS")))
        client = redis.RedisCluster(host="127.0.0.1", port=replica.port, read_from_replicas=True)
        roles = sorted((node.port, node.server_type) for node in client.get_nodes())
        assert roles == sorted([(primary.port, "primary"), (replica.port, "replica")]), roles
        for i in range(200):
            client.set(f"k{i}", i)
        other = redis.Redis(port=replica.port)
        until("the replica has all of it", lambda: other.dbsize() == 200)
        assert [client.get(f"k{i}") for i in range(200)] == [str(i).encode() for i in range(200)]
        reads = other.info("commandstats")["cmdstat_get"]["calls"]
        assert 50 <= reads <= 200, f"{reads} of 200 reads were answered by the replica"
        assert client.cluster_keyslot("k1") == plain.execute_command("CLUSTER KEYSLOT", "k1")
        moved = redis.RedisCluster(host="127.0.0.1", port=primary.port)
        replica_node = next(node for node in moved.get_nodes() if node.port == replica.port)
        until("a write to the replica is sent on", lambda: "Moved" in error_of(redis.Redis(port=replica.port), "SET", "a", "b"))
        assert moved.set("a", "b") and replica_node.server_type == "replica"
        print(f"200 writes to the primary, {reads} of 200 reads by the replica")


def error_of(client, *command):
    try:
        client.execute_command(*command)
        return ""
    except Exception as error:
        return type(error).__name__ + str(error)


def until(what, condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited in vain: {what}")


def redis_cli(kevy):
    """The modes of redis-cli that ask more than one command."""
    with Kevy(kevy, shards=3) as node:
        def cli(*args, text="", timeout=60):
            command = ["redis-cli", "-p", str(node.port), *args]
            return subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout, check=True).stdout

        commands = "".join(f"SET string:{i} {'x' * (i + 1)}\r\nRPUSH list {i}\r\nHSET hash f{i} v\r\n" for i in range(1000))
        said = cli("--pipe", text=commands + "ZADD zset 1 a 2 b\r\nSADD set a b c\r\n")
        expect(said, "errors: 0, replies: 3002")
        expect(cli("DBSIZE"), "1004")
        expect(cli("--bigkeys"), "Sampled 1004 keys", r'Biggest string found .*string:999', r'Biggest +list found .*1000 items', "Biggest   hash found")
        expect(cli("--memkeys"), "Sampled 1004 keys", r"Biggest +list found .*bytes")
        names = cli("--scan", "--pattern", "string:*").split()
        assert len(names) == len(set(names)) == 1000, f"{len(names)} names"
        expect(latency(node), r"\d+ \d+ [\d.]+ \d+")
        monitor = subprocess.Popen(["redis-cli", "-p", str(node.port), "monitor"], stdout=subprocess.PIPE, text=True)
        assert monitor.stdout.readline().strip() == "OK"
        cli("SET", "seen", "by monitor")
        line = monitor.stdout.readline()
        monitor.terminate()
        monitor.wait()
        expect(line, r'"SET" "seen" "by monitor"')
        expect(cli("--raw", "CONFIG", "GET", "save"), "save")
        expect(cli("--no-raw", "-3", "HGETALL", "nosuch"), "empty hash")


def latency(node):
    """What `redis-cli --latency` says in a second: without a terminal it is one line, and the end."""
    command = ["timeout", "10", "redis-cli", "-p", str(node.port), "--latency"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


def redis_benchmark(kevy):
    """The default set of tests, each of which says an error if it gets one."""
    with Kevy(kevy, shards=3) as node:
        for flags in (["-n", "5000"], ["-n", "20000", "-P", "16"]):
            command = ["redis-benchmark", "-p", str(node.port), "-q", "-r", "1000", *flags]
            done = subprocess.run(command, capture_output=True, text=True, timeout=240)
            said = (done.stdout + done.stderr).replace("\r", "\n")
            assert done.returncode == 0 and not re.search("error|WARNING", said, re.I), said
            rows = re.findall(r"^(\S.*): [\d.]+ requests per second", said, re.M)
            assert len(rows) >= 19, said
            print(f"{' '.join(flags)}: {len(rows)} rows without an error")


def expect(said, *patterns):
    for pattern in patterns:
        assert re.search(pattern, said, re.M), f"{pattern!r} is not in\n{said}"


PARTS = {
    "redis-py": lambda kevy: redis_py.run(kevy, KEPT, ROOT / "tests" / "clients" / "redis-py.txt"),
    "rq": rq,
    "ioredis": ioredis,
    "cluster": cluster,
    "redis-cli": redis_cli,
    "redis-benchmark": redis_benchmark,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kevy", default="target/release/kevy")
    parser.add_argument("parts", nargs="*", metavar="PART")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    kevy = os.path.abspath(options.kevy)
    failed = []
    for name in options.parts or PARTS:
        print(f"── {name}", flush=True)
        began = time.monotonic()
        try:
            PARTS[name](kevy)
        except (AssertionError, subprocess.SubprocessError) as error:
            failed.append(name)
            print(f"{name}: {error}")
            for stream in (getattr(error, "stdout", None), getattr(error, "stderr", None)):
                print(stream or "", end="")
        print(f"   {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"red: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
