"""The samples as people read them: a Markdown page of tables, and plots."""

import os
import re

from figures import FIGURES, SECTIONS
from work import GROWTH

GROWN = {
    "keys": "number of keys",
    "size": "bytes of a value; CPU a KiB",
    "replicas": "replicas",
    "shards": "shards",
    "connections": "connections",
    "idle": "idle connections beside 16 busy ones",
    "pipeline": "pipeline",
}


GROWTH_MAX = 1.3
GROWTH_NOTE = (
    "Primary CPU µs an operation: medians, and the last point over the first, which is to be at most "
    f"{GROWTH_MAX}; bold where it is more. Shards beyond the CPUs of the machine share them."
)


def tables(samples, plots=()):
    """All of it, in Markdown. Plots are named as the page finds them."""
    names = list(samples.servers)
    lines = [*machine(samples), ""]
    lines += verdicts(samples)
    for title, figures in SECTIONS:
        rows = [row for figure in figures if (row := figure_row(samples, names, figure))]
        if rows:
            head = ["", *names, *(f"kevy / {peer}" for peer in peers(names)), "target"]
            lines += [f"### {title}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|", *rows, ""]
            slug = re.sub(r"[^a-z]+", "-", title.lower()).strip("-")
            lines += [line for plot in plots if os.path.basename(plot) == f"{slug}.svg" for line in (f"![{title}]({plot})", "")]
    grown = [line for dimension in GROWTH for line in growth_table(samples, names, dimension)]
    if grown:
        lines += ["### Cost as work grows", "", GROWTH_NOTE, "", *grown]
        lines += [line for plot in plots if "growth" in os.path.basename(plot) for line in (f"![cost as work grows]({plot})", "")]
    return "\n".join(lines).rstrip() + "\n"


def peers(names):
    return [name for name in names if name != "kevy"] if "kevy" in names else []


def machine(samples):
    last = samples.runs[-1]
    dates = sorted({run["date"].split(" ")[0] for run in samples.runs})
    lengths = sorted({len(values) for figures in samples.samples.values() for values in figures.values()})
    counted = "one run" if lengths == [1] else " or ".join(map(str, lengths)) + " runs"
    commits = " and ".join(sorted({run["commit"] for run in samples.runs if run.get("commit")}))
    text = (
        f"{last['cpu'] or 'unknown processor'}, {last['cpus']} CPUs, {last['memory_gib']} GiB, {last['kernel']}, "
        f"governor {last['governor'] or 'not told'}; {' and '.join(dates)}, kevy of commit {commits or 'unknown'}. "
        f"{last['count']:,} operations over {last['keys']:,} random keys, backlog {last['backlog_mib']} MiB; "
        f"kevy with {last['kevy_shards']} shard, cpus {last['kevy_cpus']}. Medians of {counted}; CPU of a whole process."
    )
    return [text, "", *(f"- {name}: `{version}`" for name, version in samples.servers.items())]


def figure_row(samples, names, figure):
    medians = {name: samples.median(name, figure.key) for name in names}
    if all(value is None for value in medians.values()):
        return None
    cells = [figure.form.format(medians[name]) if medians[name] is not None else "·" for name in names]
    for peer in peers(names):
        ours, theirs = medians["kevy"], medians[peer]
        cells.append(f"{ours / theirs:.2f}" if theirs and ours is not None else "·")
    return f"| {figure.label} | {' | '.join(cells)} | {judged(samples, figure)} |"


def measured(samples, figure, target):
    """What a target is about; None where it was not measured."""
    ours = samples.median("kevy", figure.key)
    if target.of is None or ours is None:
        return ours
    theirs = samples.median(target.of, figure.key)
    return ours / theirs if theirs else None


def judged(samples, figure):
    texts = []
    for target in figure.targets:
        value = measured(samples, figure, target)
        if value is not None:
            whose = f" {target.of}" if target.of and len(figure.targets) > 1 else ""
            texts.append(f"{target.text()}{whose} {'met' if target.is_met(value) else '**missed**'}")
    return "; ".join(texts)


def verdicts(samples):
    """The targets that were missed, by name: nobody should have to search for them."""
    met, missed = 0, []
    for figure in FIGURES:
        for target in figure.targets:
            value = measured(samples, figure, target)
            if value is None:
                continue
            if target.is_met(value):
                met += 1
            else:
                whose = f" of {target.of}" if target.of else ""
                missed.append(f"- {figure.key}: {value:,.3g}, target {target.text()}{whose}")
    if not met and not missed:
        return []
    return [f"{met} targets met, {len(missed)} missed{':' if missed else '.'}", "", *missed, ""]


def growth_table(samples, names, dimension):
    points = GROWTH[dimension]
    rows = []
    for name in names:
        values = [samples.median(name, f"growth_{dimension}_{point}") for point in points]
        there = [value for value in values if value is not None]
        if there:
            cells = [f"{value:.3f}" if value is not None else "·" for value in values]
            grown = there[-1] / there[0]
            cells.append(f"{grown:.2f}" if grown <= GROWTH_MAX else f"**{grown:.2f}**")
            rows.append(f"| {name} | {' | '.join(cells)} |")
    if not rows:
        return []
    head = [GROWN[dimension], *(f"{point:,}" for point in points), "last / first"]
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *rows, ""]


def plot(samples, directory):
    """SVG files in `directory`; none where there is no matplotlib. Returns their names."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "kevy", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.25})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True})
    ink = {"redis-server": "#c0392b", "valkey-server": "#8e44ad", "kevy-peer": "#7f8c8d", "kevy": "#1f77b4"}
    os.makedirs(directory, exist_ok=True)
    names, made = list(samples.servers), []

    def save(figure, name):
        path = os.path.join(directory, name)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        made.append(path)

    # Every figure as a ratio to the first server that has it: one line a figure, the dot the median, the small ones the samples.
    base = names[0]
    for title, figures in SECTIONS:
        shown = [f for f in figures if samples.median(base, f.key) and all(samples.median(n, f.key) for n in names)]
        if not shown or len(names) < 2:
            continue
        figure, ax = plt.subplots(figsize=(9, 0.27 * len(shown) + 1.1), layout="constrained")
        ax.axvline(1, color=ink.get(base), linewidth=1.5, label=base)
        for place, name in enumerate(names[1:]):
            for row, one in enumerate(shown):
                at = row + (place - (len(names) - 2) / 2) * 0.25
                theirs = samples.median(base, one.key)
                median = samples.median(name, one.key) / theirs
                raw = [sample / theirs for sample in samples.samples[name][one.key] if sample > 0]
                ax.plot([1, median], [at, at], color=ink.get(name), linewidth=1, alpha=0.5)
                ax.plot(raw, [at] * len(raw), "o", color=ink.get(name), markersize=2, alpha=0.5)
                ax.plot(median, at, "o", color=ink.get(name), markersize=6, label=name if row == 0 else None)
        for row, one in enumerate(shown):
            for target in one.targets:
                if target.of == base:
                    tick = "target, at most" if target.relation == "≤" else "target, at least"
                    marker = "<" if target.relation == "≤" else ">"
                    known = ax.get_legend_handles_labels()[1]
                    ax.plot(target.bound, row, marker, color="black", markersize=4, label=None if tick in known else tick)
        ax.set_xscale("log")
        low, high = ax.get_xlim()
        ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if low <= tick <= high]
        ax.set_xticks(ticks, [f"{tick:g} ×" for tick in ticks])
        ax.xaxis.set_minor_formatter("")
        ax.set_yticks(range(len(shown)), [whole_label(figures, one) for one in shown], fontsize=8)
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.set_xlabel(f"of {base}", fontsize=8)
        ax.legend(fontsize=7, frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
        slug = re.sub(r"[^a-z]+", "-", title.lower()).strip("-")
        save(figure, f"{slug}.svg")

    dimensions = [d for d in GROWTH if any(samples.median(n, f"growth_{d}_{p}") is not None for n in names for p in GROWTH[d])]
    if dimensions:
        columns = 3
        rows = -(-len(dimensions) // columns)
        figure, axes = plt.subplots(rows, columns, figsize=(11, 2.7 * rows), squeeze=False, layout="constrained")
        for at, ax in enumerate(axes.flat):
            if at >= len(dimensions):
                ax.set_visible(False)
                continue
            dimension = dimensions[at]
            points = GROWTH[dimension]
            for name in names:
                values = [samples.median(name, f"growth_{dimension}_{point}") for point in points]
                if any(value is not None for value in values):
                    ax.plot(range(len(points)), values, "o-", color=ink.get(name), markersize=4, label=name)
            ax.set_xticks(range(len(points)), [f"{point:,}" for point in points], fontsize=7, rotation=20)
            if dimension == "size":
                ax.set_yscale("log")
            else:
                ax.set_ylim(bottom=0)
            ax.set_title(GROWN[dimension], fontsize=9, loc="left")
            ax.set_ylabel("primary CPU µs" + ("/KiB" if dimension == "size" else "/op"), fontsize=8)
            ax.legend(fontsize=7, frameon=False)
        save(figure, "growth.svg")
    return made


def whole_label(figures, figure):
    """A label that begins with an ellipsis goes on with the row before."""
    at = figures.index(figure)
    label = figure.label
    while label.startswith("…") and at > 0:
        at -= 1
        if not figures[at].label.startswith("…"):
            label = figures[at].label.split(":")[0] + ": " + label.lstrip("… ")
    return label


def put_into(page, text, name="figures"):
    """Replaces what stands between the marks of a page."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    with open(page) as file:
        before, there, rest = file.read().partition(begin)
    _, ends, after = rest.partition(end)
    if not there or not ends:
        raise SystemExit(f"{page} has no marks {begin} and {end}")
    with open(page, "w") as file:
        file.write(f"{before}{begin}\n\n{text}\n{end}{after}")
