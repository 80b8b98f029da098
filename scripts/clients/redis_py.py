"""redis-py's own tests, from its source distribution, against kevy.

What does not pass stands in a list with its reason: `= reason`, and below it the tests. A test that is not in the list must pass, or be skipped
by redis-py itself; one that is in the list and passes is reported, so that it can be taken out.
"""
import pathlib
import subprocess
import sys
import tarfile
import xml.etree.ElementTree

from node import Kevy

FILES = ["test_commands", "test_pipeline", "test_pubsub", "test_lock", "test_connection_pool", "test_monitor"]
MARKS = "not redismod and not onlycluster and not ssl"
PASSES_MIN = 600


def sources(kept):
    """The directory of the source distribution, which holds the tests."""
    found = sorted(kept.glob("redis-8.1.*/tests"))
    if not found:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                        "--no-binary", ":all:", "--dest", kept, "redis==8.1.*"], check=True, timeout=240)
        for archive in kept.glob("redis-8.1.*.tar.gz"):
            with tarfile.open(archive) as tar:
                tar.extractall(kept, filter="data")
        found = sorted(kept.glob("redis-8.1.*/tests"))
    return found[-1].parent


def listed(path):
    reasons, reason = {}, None
    for line in path.read_text().splitlines():
        if line.startswith("= "):
            reason = line[2:]
        elif line and not line.startswith("#"):
            assert reason, f"{path}: {line} has no reason"
            reasons[line] = reason
    return reasons


def outcomes(source, port, results, tests):
    """How each test ended, by its name."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", "--timeout=30", "-m", MARKS,
               f"--redis-url=redis://127.0.0.1:{port}/0", f"--junitxml={results}", *tests]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=330)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    ended = {}
    for case in xml.etree.ElementTree.parse(results).iter("testcase"):
        _, file, *names = case.get("classname").split(".")
        name = "::".join([f"{file}.py", *names, case.get("name")])
        kinds = {child.tag for child in case}
        outcome = "fails" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passes"
        # A test whose teardown fails is there twice.
        if ended.get(name) != "fails":
            ended[name] = outcome
    return ended


def run(kevy, kept, expected):
    kept.mkdir(parents=True, exist_ok=True)
    source = sources(kept)
    reasons = listed(expected)
    results = pathlib.Path(kept / "redis-py.xml").absolute()
    with Kevy(kevy, 2) as node:
        ended = outcomes(source, node.port, results, [f"tests/{file}.py" for file in FILES])
        surprises = sorted(name for name, outcome in ended.items() if outcome == "fails" and name not in reasons)
    count = {outcome: list(ended.values()).count(outcome) for outcome in ("passes", "fails", "skipped")}
    for name in sorted(name for name in reasons if ended.get(name, "passes") != "fails"):
        print(f"listed, and {ended.get(name, 'not there')}: {name}")
    print(f"{count['passes']} pass, {count['fails']} fail with a reason in {expected.name}, {count['skipped']} are skipped by redis-py")
    assert not surprises, "these fail and are not listed:\n  " + "\n  ".join(surprises)
    assert count["passes"] >= PASSES_MIN, f"fewer than {PASSES_MIN} pass"
