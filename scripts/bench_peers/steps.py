"""What criterion and `kevy bench` found, as Markdown. Run by bench-steps.sh."""

import datetime
import glob
import json
import os
import sys

from report import put_into

# Nanoseconds an element, at most.
TARGETS = {
    ("append", "an effect that is encoded, a hot window, 1 MiB"): 12,
    ("append", "an effect that is encoded, a whole window, 256 MiB"): 70,
    ("encode", "a SET"): 30,
    ("decode and walk", "a run of 1024, checks false"): 1e3 / 30,
}
UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (0, "ns"))


def criterion(directory):
    """Group → rows of (function, median, from, to) in nanoseconds an element; in the order of their names."""
    groups = {}
    for path in sorted(glob.glob(f"{directory}/**/new/benchmark.json", recursive=True)):
        with open(path) as file:
            about = json.load(file)
        with open(os.path.join(os.path.dirname(path), "estimates.json")) as file:
            median = json.load(file)["median"]
        interval = median["confidence_interval"]
        throughput = about["throughput"] or {}
        elements = throughput.get("Elements", 1)
        times = [t / elements for t in (median["point_estimate"], interval["lower_bound"], interval["upper_bound"])]
        rate = throughput["Bytes"] / times[0] if "Bytes" in throughput else None
        group, function = about["group_id"], about["function_id"] or ""
        groups.setdefault(group, []).append((function or group, *times, rate))
    return groups


def time(nanos):
    size, unit = next((size, unit) for size, unit in UNITS if nanos >= size)
    return f"{nanos / max(size, 1):.3g} {unit}"


def target(group, function, nanos):
    bound = TARGETS.get((group, function))
    return "" if bound is None else f"≤ {time(bound)} {'met' if nanos <= bound else '**missed**'}"


def page(groups, table):
    lines = [f"{datetime.date.today()}; time an element, median and its 95 % interval.", ""]
    lines += ["| step | | median | from | to | target |", "|---|---|---|---|---|---|"]
    for name, rows in groups.items():
        group = name
        for function, median, low, high, rate in rows:
            shown = f"{time(median)} ({rate:.1f} GB/s)" if rate else time(median)
            lines.append(f"| {group} | {function} | {shown} | {time(low)} | {time(high)} | {target(name, function, median)} |")
            group = ""
    lines += ["", "`kevy bench`:", "", "```text", *(line.rstrip() for line in table.splitlines()), "```", ""]
    return "\n".join(lines)


def main():
    with open("target/bench.txt") as file:
        text = page(criterion("target/criterion"), file.read())
    if sys.argv[1:] and sys.argv[1]:
        put_into(sys.argv[1], text, "steps")
    print(text)


main()
