"""Where the time of `make book` goes, from a fresh clone to the site: time and memory by phase.

The checkout is cloned as it was committed, with an empty store, and every phase of `make book` is
a target of its own there. Memory is that of all processes of a phase together, shared pages
counted once (the sum of proportional set sizes), looked at once a second.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from common import busy_cores, machine, table

ROOT = Path(__file__).resolve().parents[1]
_STAMP = re.compile(r"\[(\w{3} \w{3} +\d+ [\d:]+ \d{4})\]")


class Phase(NamedTuple):
    """What a phase cost."""

    name: str
    wall: float  # seconds
    cores: float  # processor seconds of all its processes
    memory: float  # MiB, the most at once


class Jobs(NamedTuple):
    """Jobs of one kind of a batch."""

    count: int
    seconds: float  # the sum of their wall times


def family(root: int) -> list[int]:
    """A process and all its descendants, found by who started whom."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int(
                (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
            )
        except (OSError, IndexError):  # it has ended
            continue
    members = [root]
    for one in members:
        members += [child for child, parent in parents.items() if parent == one]
    return members


def held(processes: Sequence[int]) -> float:
    """MiB that processes hold, each shared page counted in parts of one."""
    total = 0
    for one in processes:
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def measure(name: str, command: Sequence[str], cwd: Path, environment: dict[str, str]) -> Phase:
    """Run a phase and measure it.

    Raises:
        SystemExit: it failed; what it said comes first.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin, most, over = time.monotonic(), 0.0, threading.Event()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=said, stderr=said)

        def watch() -> None:
            nonlocal most
            while not over.wait(1.0):
                most = max(most, held(family(process.pid)))

        watcher = threading.Thread(target=watch)
        watcher.start()
        status = process.wait()
        over.set()
        watcher.join()
        if status:
            said.seek(0)
            raise SystemExit(f"{said.read().decode()[-4000:]}\n{name} ended with {status}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cores = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Phase(name, time.monotonic() - begin, cores, most)


def _spans(log: str) -> Iterator[tuple[str, float]]:
    """(kind, wall seconds) of every job of Snakemake's log."""
    now, begun = datetime.datetime.min, {}
    for line in log.splitlines():
        if stamp := _STAMP.match(line):
            now = datetime.datetime.strptime(stamp[1], "%a %b %d %H:%M:%S %Y")
        elif job := re.match(r"Job (\d+): \[(train|page)\]", line):
            begun[job[1]] = (job[2], now)
        elif (end := re.match(r"Finished jobid: (\d+)", line)) and end[1] in begun:
            kind, since = begun[end[1]]
            yield kind, (now - since).total_seconds()


def jobs(store: Path) -> dict[str, Jobs]:
    """Trainings and pages of the batch that filled a store."""
    spans = list(_spans((store / "graph" / "snakemake.log").read_text()))
    kinds = ("train", "page")
    times = {kind: [seconds for one, seconds in spans if one == kind] for kind in kinds}
    return {kind: Jobs(len(spans), sum(spans)) for kind, spans in times.items()}


def counted(store: Path) -> float:
    """Processor seconds that the stored runs name as theirs."""
    files = store.glob("runs/*/provenance.json")
    return sum(json.loads(path.read_text())["cpu_seconds"] for path in files)


def build(scale: str, workers: int) -> tuple[list[Phase], dict[str, Jobs], float]:
    """Build the book in a fresh clone, phase by phase."""
    with tempfile.TemporaryDirectory() as folder:
        clone, store = Path(folder) / "book", Path(folder) / "store"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("POSTERIOR_COLLAPSE_", "PYTHONPATH", "MAKE", "VIRTUAL_ENV"))
        } | {"POSTERIOR_COLLAPSE_STORE": str(store)}
        words = [f"JOBS={workers}", *([f"SCALE={scale}"] if scale else [])]
        phases = [
            measure("installation", ["make", "env"], clone, environment),
            measure("scripts of the site", ["make", "assets"], clone, environment),
            measure("trainings and pages", ["make", "runs", *words], clone, environment),
            measure("Sphinx", ["make", "book", *words], clone, environment),
            measure("again, nothing changed", ["make", "book", *words], clone, environment),
        ]
        return phases, jobs(store), counted(store)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="", help="smoke, quick, ...; each page's own if empty")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    others = busy_cores()
    phases, kinds, own = build(asked.scale, asked.jobs)
    print(json.dumps(machine(others)))
    first = [phase for phase in phases if phase is not phases[-1]]
    total = Phase(
        "in all",
        sum(phase.wall for phase in first),
        sum(phase.cores for phase in first),
        max(phase.memory for phase in first),
    )
    rows = [
        [p.name, f"{p.wall:.0f}", f"{p.cores:.0f}", f"{p.memory:.0f}"]
        for p in (*first, total, phases[-1])
    ]
    print(table(["phase", "wall s", "processor s", "MiB at most"], rows))
    for kind, one in kinds.items():
        print(f"{one.count} jobs of kind {kind}: {one.seconds:.0f} s of wall time in their slots")
    print(f"processor seconds that the runs count as their training and evaluation: {own:.0f}")


if __name__ == "__main__":
    main()
