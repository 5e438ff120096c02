"""Jobs of the graph forked from a process that has imported the libraries, beside plain ones.

A job here only says where a run would lie, so nearly all of it is imports. CPU seconds of all
processes are counted, those of the process that forks included; its own start is told apart.

    python bench/bench_warm.py [--jobs 10] [--rounds 3] [--json]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys

from common import busy_cores, machine, median_ratio, report, table

from companion.build import warm
from companion.build.batch import WARM

JOB = (
    *(sys.executable, "-m", "posterior_collapse.runs", "folder"),
    *("--recipe", "text-grammar", "--method", "vae", "--scale", "smoke"),
)


def children() -> float:
    """CPU seconds of all ended processes that this one started, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def plain(jobs: int) -> float:
    """CPU seconds of jobs that import everything themselves."""
    before = children()
    for _ in range(jobs):
        subprocess.run(JOB, check=True, stdout=subprocess.DEVNULL)
    return children() - before


def forked(jobs: int) -> float:
    """CPU seconds of the process that forks and of its jobs."""
    before = children()
    with warm.serve(WARM) as forks:
        # also without jobs, wait until it has imported everything
        for _ in range(jobs or 1):
            subprocess.run(
                warm.command(JOB),
                check=True,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **forks.variables},
            )
    return children() - before


def main() -> None:
    """Let both kinds take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.jobs < 2:
        parser.error("--jobs must be at least 2")
    about = machine(busy_cores())
    times: dict[str, list[float]] = {"plain": [], "forked": [], "one": []}
    for _ in range(given.rounds):
        times["plain"].append(plain(given.jobs))
        times["forked"].append(forked(given.jobs))
        times["one"].append(forked(0))
    each = [
        (both - one) / (given.jobs - 1)
        for both, one in zip(times["forked"], times["one"], strict=True)
    ]
    result = {
        "machine": about,
        "jobs": given.jobs,
        "plain_seconds_a_job": statistics.median(times["plain"]) / given.jobs,
        "forked_seconds_a_job": statistics.median(each),
        "start_seconds": statistics.median(times["one"]) - statistics.median(each),
        "ratio_of_all_jobs": median_ratio(times["plain"], times["forked"]),
    }
    rows = [[name, f"{value:.2f}"] for name, value in result.items() if isinstance(value, float)]
    report(table(["CPU seconds", "median"], rows), result, given.json)


if __name__ == "__main__":
    main()
