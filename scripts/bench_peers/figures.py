"""The rows of the table: what each figure is called, how it is written, and what it is to be.

A target is a bound and what it is of: `None`, the figure itself; a server's name, the ratio to that server's figure of the same
run. `!` marks what must be met.
"""

from dataclasses import dataclass
from typing import Optional

from work import COMMANDS, CROWD, FANOUT, LOAD_RATE, LOADED_KEYS


@dataclass
class Target:
    relation: str  # "≤" or "≥"
    bound: float
    of: Optional[str] = None
    must: bool = False

    def is_met(self, value):
        value = round(value, 6)
        return value <= self.bound if self.relation == "≤" else value >= self.bound

    def text(self):
        bound = f"{self.bound:,.0f}" if self.bound >= 1000 else f"{self.bound:g}"
        return f"{'! ' if self.must else ''}{self.relation} {bound}{' ×' if self.of else ''}"


@dataclass
class Figure:
    key: str
    label: str
    form: str
    targets: tuple = ()


def of(bound, peer="redis-server", must=False, relation="≤"):
    return Target(relation, bound, peer, must)


def at_most(bound, must=False):
    return Target("≤", bound, None, must)


SET_COST = (of(0.45, must=True), of(0.55, "valkey-server", must=True))
BOTH_SYNC = (of(0.25, must=True), of(0.4, "valkey-server", must=True))

SECTIONS = [
    (
        "SET, and what a replica adds",
        [
            Figure("standalone_cpu_us", "SET, nothing recorded: CPU µs/op", "{:.3f}"),
            Figure("set_ops", "SET, no replica: ops/s", "{:,.0f}"),
            Figure("set_cpu_us", "… CPU µs/op, cold", "{:.3f}"),
            Figure("set_warm_cpu_us", "… CPU µs/op, past the window", "{:.3f}"),
            Figure("replicated_ops", "SET, one replica, cold: ops/s", "{:,.0f}"),
            Figure("replicated_cpu_us", "… primary CPU µs/op", "{:.3f}", SET_COST),
            Figure("replica_cpu_us", "… replica CPU µs/op", "{:.3f}", (of(0.3, must=True),)),
            Figure("warm_ops", "SET, one replica, past the window: ops/s", "{:,.0f}"),
            Figure("warm_cpu_us", "… primary CPU µs/op", "{:.3f}", SET_COST),
            Figure("warm_replica_cpu_us", "… replica CPU µs/op", "{:.3f}", (of(0.3, must=True),)),
            Figure("over_standalone", "CPU with one replica over `standalone`, cold", "{:.2f}", (at_most(1.35),)),
            Figure("over_recording", "CPU with one replica over none, past the window", "{:.2f}", (at_most(1.12),)),
            Figure("fanout_ops", f"SET, {FANOUT} replicas: ops/s", "{:,.0f}"),
            Figure("fanout_cpu_us", "… primary CPU µs/op", "{:.3f}"),
            Figure("further_replica_us", "each further replica: primary CPU µs/op", "{:.3f}", (at_most(0.05), of(1.0))),
            Figure("frozen_ops", "SET, replica stopped: ops/s", "{:,.0f}"),
            Figure("catch_up_frames", "catch-up after that: frames/s", "{:,.0f}", (of(5, must=True, relation="≥"),)),
            Figure("catch_up_primary_cpu_us", "… primary CPU µs/frame", "{:.3f}"),
            Figure("catch_up_replica_cpu_us", "… replica CPU µs/frame", "{:.3f}"),
        ],
    ),
    (
        "Full sync",
        [
            Figure("sync_seconds", "full sync, idle: s", "{:.2f}", BOTH_SYNC),
            Figure("sync_primary_cpu", "… primary CPU s", "{:.2f}"),
            Figure("sync_replica_cpu", "… replica CPU s", "{:.2f}"),
            Figure(
                "sync_primary_extra_mib",
                "… primary's extra memory, MiB (a fork's not counted)",
                "{:.0f}",
                (at_most(32, must=True),),
            ),
            Figure("sync_get_p99_us", "… GET p99 on the primary meanwhile, µs", "{:,.0f}"),
            Figure("sync_get_max_us", "… worst GET, µs", "{:,.0f}"),
            Figure("loaded_sync_seconds", f"full sync under {LOAD_RATE:,} SET/s: s", "{:.2f}", (of(0.33, must=True),)),
            Figure("loaded_sync_rate", "… SETs a second that were written", "{:,.0f}"),
            *(
                row
                for count in (1, 4, 8)
                for row in (
                    Figure(
                        f"crowd_{count}_seconds",
                        f"full sync of {count} at once: s",
                        "{:.2f}",
                        (of(0.2, must=True),) if count == 4 else (),
                    ),
                    Figure(f"crowd_{count}_cpu", "… primary CPU s", "{:.2f}"),
                    Figure(f"crowd_{count}_user_cpu", "… of it user", "{:.2f}"),
                )
            ),
        ],
    ),
    (
        "A stopped replica",
        [
            *(
                row
                for name, label in (
                    ("none", "no replica"),
                    ("one", "one replica, stopped"),
                    ("two", "two replicas"),
                    ("half", "two, one of them stopped"),
                    ("most", f"{CROWD}, all but one stopped"),
                )
                for row in (
                    Figure(f"frozen_{name}_cpu_us", f"SET beside a GET probe, {label}: primary CPU µs/op", "{:.3f}"),
                    Figure(f"frozen_{name}_get_p99_us", "… GET p99, µs", "{:,.0f}"),
                    Figure(f"frozen_{name}_peak_mib", "… peak memory, MiB", "{:,.0f}"),
                )
            ),
            Figure("frozen_p99_ratio", "GET p99, one of two stopped over none stopped", "{:.2f}", (at_most(1.2, must=True),)),
        ],
    ),
    (
        "Latency",
        [
            Figure("visible_from_write_p50_us", "idle: write → readable on the replica, p50 µs", "{:.0f}", (of(1.1),)),
            Figure("visible_from_write_p99_us", "… p99 µs", "{:.0f}"),
            Figure("visible_from_ok_p50_us", "idle: +OK → readable, p50 µs", "{:.0f}", (of(0.9),)),
            Figure("visible_from_ok_p99_us", "… p99 µs", "{:.0f}", (of(1.2),)),
            Figure("wait_p50_us", "WAIT 1 after +OK, p50 µs", "{:.0f}", (of(0.7),)),
            Figure("wait_p99_us", "… p99 µs", "{:.0f}"),
            Figure("set_and_wait_p50_us", "SET and WAIT 1 in one write, p50 µs", "{:.0f}", (of(1.0),)),
            Figure("busy_visible_p50_us", "replica saturated with reads: +OK → readable, p50 µs", "{:,.0f}"),
            Figure("busy_visible_p99_us", "… p99 µs", "{:,.0f}", (of(0.2),)),
            Figure("reconnect_ms", "link cut → streaming again, ms", "{:.1f}"),
        ],
    ),
    (
        "Memory, stream, turns, shards",
        [
            Figure("memory_primary_bytes", "resident bytes a key, primary", "{:.0f}", (at_most(110),)),
            Figure("memory_replica_bytes", "… replica", "{:.0f}", (at_most(110),)),
            Figure("resized_primary_bytes", "… after overwrites of other sizes, primary", "{:.0f}", (at_most(130),)),
            Figure("resized_replica_bytes", "… replica", "{:.0f}", (at_most(130),)),
            Figure("stream_gb", "the backlog to a reader that only counts, GB/s", "{:.2f}"),
            Figure("pipe_gb", "… plain sends over loopback, GB/s", "{:.2f}"),
            Figure("stream_ratio", "… ratio", "{:.2f}", (Target("≥", 1.0),)),
            Figure("turn_cpu_us", f"longest turn while {LOADED_KEYS:,} keys are loaded, CPU µs", "{:,.0f}", (at_most(2_000),)),
            Figure("turn_faults", "… page faults in all", "{:,.0f}"),
            *(
                row
                for name in ("set", "get")
                for row in (
                    Figure(f"shards_1_{name}_cpu_us", f"{name.upper()}, 1 shard: CPU µs/op", "{:.3f}"),
                    Figure(f"shards_2_{name}_cpu_us", "… 2 shards", "{:.3f}"),
                    Figure(f"shards_{name}_ratio", "… ratio", "{:.2f}", (at_most(1.25),)),
                )
            ),
        ],
    ),
    (
        "Commands",
        [
            *(
                row
                for name in ("get", "set")
                for row in (
                    Figure(
                        f"single_{name}_ops",
                        f"{name.upper()}, pipeline 1, 50 connections: ops/s",
                        "{:,.0f}",
                        (of(1.0, relation="≥"),),
                    ),
                    Figure(f"single_{name}_cpu_us", "… CPU µs/op", "{:.2f}"),
                )
            ),
            *(
                Figure(f"command_{name}_cpu_us", f"{name.upper()}, pipeline 16: CPU µs/op", "{:.2f}", (of(1.0),))
                for name, _, _ in COMMANDS
            ),
        ],
    ),
]

FIGURES = [figure for _, figures in SECTIONS for figure in figures]
