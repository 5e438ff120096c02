"""Five seeds against one: what a second core gives, and what a second thread costs.

Every seed is a process of its own that trains the synthetic recipe jointly for so many updates.
Processes load and warm up first and then wait for a word on their standard input, so the times
are those of training alone; "with start-up" counts the whole process instead.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from bench_training_step import first_model, random_batches, state_of
from common import KEPT_HEAP, Foreign, machine, report, table, wait_until_quiet

from posterior_collapse.training import Joint

TARGET = 2.6
SLICE = "BENCH_SLICE_MS"  # how a worker learns what slices to ask for
FIVE = "five seeds, five processes at once"
QUIET = 0.15  # cores that other processes may use during a measurement


def ask_for_slices(milliseconds: float) -> None:
    """Ask Linux (6.12 or later) to run this process so long before it gives way to an equal.

    Elsewhere nothing happens. The default is a few milliseconds, about one update, after which the
    caches are another process's.
    """
    number = {"x86_64": 314, "aarch64": 274}.get(platform.machine())
    if number is None or sys.platform != "linux":
        return
    # struct sched_attr: size, policy, flags, nice, priority, runtime (ns), deadline, period
    attributes = struct.pack("IIQiIQQQ", 48, 0, 0, 0, 0, int(1e6 * milliseconds), 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)


def work(seed: int, updates: int, threads: int) -> None:
    """One process: load, warm up, say so, wait for a line, train, say so."""
    torch.set_num_threads(threads)
    if SLICE in os.environ:
        ask_for_slices(float(os.environ[SLICE]))
    state, batches = state_of(first_model(seed), seed), list(random_batches(64)[:, 0])
    parent = os.getppid()
    step = Joint()
    for batch in batches[:10]:
        step.update(state, batch, batches, lambda: None)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.process_time()
    for k in range(updates):
        if os.getppid() != parent:
            return  # the benchmark was stopped
        step.update(state, batches[k % len(batches)], batches, lambda: None)
    print(f"done {time.process_time() - start}", flush=True)


@dataclass
class Worker:
    """A process that waits to train."""

    seed: int
    updates: int
    threads: int
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        command = [sys.executable, __file__, "--worker", str(self.seed)]
        command += ["--updates", str(self.updates), "--threads", str(self.threads)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environment},
        )

    def expect(self, word: str) -> float:
        """Wait for a line of the process; returns the number in it, CPU seconds of training."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().split()
        if not line or line[0] != word:
            raise RuntimeError(f'expected "{word}" from the worker, got "{line}"')
        return float(line[1]) if len(line) > 1 else 0.0

    def go(self) -> None:
        """Let it train."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def close(self) -> None:
        """Wait for its end."""
        self.process.communicate()


class Times(NamedTuple):
    """What a case took."""

    wall: float  # seconds until the last one is done
    cpu: float  # seconds of all cores, all seeds together, of training alone


def together(workers: Sequence[Worker], jobs: int) -> Times:
    """Train all, at most ``jobs`` at a time, once all are ready."""
    for worker in workers:
        worker.expect("ready")

    def train(worker: Worker) -> float:
        worker.go()
        return worker.expect("done")

    start = time.perf_counter()
    with ThreadPoolExecutor(jobs) as executor:
        cpu = sum(executor.map(train, workers))
    seconds = time.perf_counter() - start
    for worker in workers:
        worker.close()
    return Times(seconds, cpu)


def seeds(count: int, updates: int, threads: int = 1, jobs: int = 5) -> Times:
    """So many seeds, at most ``jobs`` at a time."""
    return together([Worker(seed, updates, threads) for seed in range(count)], jobs)


def seeds_with(environment: Mapping[str, str], count: int, updates: int, jobs: int = 5) -> Times:
    """So many seeds of one thread each, with more environment variables."""
    return together([Worker(seed, updates, 1, environment) for seed in range(count)], jobs)


def seeds_with_start(count: int, updates: int) -> Times:
    """So many seeds at once, counting the start of the processes."""
    start = time.perf_counter()
    workers = [Worker(seed, updates, 1) for seed in range(count)]
    for worker in workers:
        worker.go()
    for worker in workers:
        worker.expect("ready")
    cpu = 0.0
    for worker in workers:
        cpu += worker.expect("done")
        worker.close()
    return Times(time.perf_counter() - start, cpu)


def beside_others(updates: int, threads: int, others: int = 2) -> Times:
    """One seed while ``others`` processes of one thread each keep the cores busy."""
    busy = [Worker(seed, 10**6, 1) for seed in range(1, others + 1)]
    mine = Worker(0, updates, threads)
    try:
        for worker in busy:
            worker.expect("ready")
            worker.go()
        return together([mine], 1)
    finally:
        for worker in (mine, *busy):
            worker.process.kill()
            worker.close()


def measure(updates: int, few: int, repeats: int, attempts: int) -> dict[str, Any]:
    """All cases in turn, several times."""
    cases: dict[str, Callable[[], Times]] = {
        "one seed, alone": lambda: seeds(1, updates),
        "five seeds, five processes at once": lambda: seeds(5, updates),
        "five seeds, a pool of two": lambda: seeds(5, updates, jobs=2),
        "one seed, heap kept": lambda: seeds_with(KEPT_HEAP, 1, updates),
        "five seeds at once, heap kept": lambda: seeds_with(KEPT_HEAP, 5, updates),
        "five seeds at once, heap kept, long slices": lambda: seeds_with(
            {**KEPT_HEAP, SLICE: "100"}, 5, updates
        ),
        "five seeds, a pool of two, heap kept": lambda: seeds_with(KEPT_HEAP, 5, updates, 2),
        "one seed, with start-up": lambda: seeds_with_start(1, updates),
        "five seeds, with start-up": lambda: seeds_with_start(5, updates),
        "idle, 1 thread": lambda: seeds(1, few, 1),
        "idle, 2 threads": lambda: seeds(1, few, 2),
        "busy, 1 thread": lambda: beside_others(few, 1),
        "busy, 2 threads": lambda: beside_others(few, 2),
    }
    wall: dict[str, list[float]] = {name: [] for name in cases}
    cpu: dict[str, list[float]] = {name: [] for name in cases}
    foreign: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(repeats):
        for name, case in cases.items():
            times, others = undisturbed(case, attempts)
            found = f"{times.wall:.2f} s, CPU {times.cpu:.2f} s, others {others:.2f} cores"
            print(f"[{turn + 1}/{repeats}] {name}: {found}", file=sys.stderr, flush=True)
            wall[name].append(times.wall)
            cpu[name].append(times.cpu)
            foreign[name].append(others)
    return {"wall_seconds": wall, "cpu_seconds": cpu, "foreign_cores": foreign}


def undisturbed(case: Callable[[], Times], attempts: int) -> tuple[Times, float]:
    """A case, and the cores that other processes kept busy meanwhile; the quietest attempt.

    An attempt is repeated while others took more than ``QUIET`` cores.
    """
    found = []
    for _ in range(attempts):
        wait_until_quiet(QUIET, patience=10.0)
        watch = Foreign()
        times = case()
        found.append((watch.cores(), times))
        if found[-1][0] < QUIET:
            break
    others, times = min(found)
    return times, others


_ROWS = (
    ("one seed, alone", "one seed, alone"),
    ("five seeds, five processes at once", "one seed, alone"),
    ("five seeds, a pool of two", "one seed, alone"),
    ("one seed, heap kept", "one seed, alone"),
    ("five seeds at once, heap kept", "one seed, heap kept"),
    ("five seeds at once, heap kept, long slices", "one seed, heap kept"),
    ("five seeds, a pool of two, heap kept", "one seed, heap kept"),
    ("one seed, with start-up", "one seed, with start-up"),
    ("five seeds, with start-up", "one seed, with start-up"),
    ("idle, 1 thread", "idle, 1 thread"),
    ("idle, 2 threads", "idle, 1 thread"),
    ("busy, 1 thread", "idle, 1 thread"),
    ("busy, 2 threads", "busy, 1 thread"),
)


def summary(result: dict[str, Any]) -> str:
    """Readable text; adds the ratios to the result."""
    rows, ratios = [], {}
    for name, base in _ROWS:
        paired = zip(result["wall_seconds"][name], result["wall_seconds"][base], strict=True)
        found = [a / b for a, b in paired]
        middle = statistics.median(found)
        ratios[name] = {"against": base, "median": middle, "all": found}
        wall, cpu = (statistics.median(result[f"{k}_seconds"][name]) for k in ("wall", "cpu"))
        numbers = [wall, middle, min(found), max(found), cpu, max(result["foreign_cores"][name])]
        rows.append([name, *(f"{number:.2f}" for number in numbers), base])
    result["ratios"] = ratios
    one, five = (result["cpu_seconds"][name] for name in ("one seed, alone", FIVE))
    work = statistics.median(b / a for a, b in zip(one, five, strict=True))
    result["cpu_ratio"] = work
    result["met"] = ratios[FIVE]["median"] <= TARGET
    header = ["case", "seconds", "ratio", "least", "most", "CPU s", "others", "against"]
    return (
        f"{table(header, rows)}\n"
        f"five seeds take {ratios[FIVE]['median']:.2f} times one (target {TARGET}): "
        f"{'met' if result['met'] else 'missed'}\n"
        f"CPU seconds of five / of one: {work:.2f}, over two cores of their own {work / 2:.2f}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--few", type=int, default=30, help="updates of the thread cases")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--attempts", type=int, default=3, help="of a case that others disturb")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        work(given.worker, given.updates, given.threads)
        return
    where = machine(wait_until_quiet(QUIET))
    result = {"machine": where, **measure(given.updates, given.few, given.repeats, given.attempts)}
    text = summary(result)
    head = (
        f"{where['processor']}, {where['cores']} cores, torch {where['torch']}; "
        f"{where['busy_cores_before']} cores busy before\n"
        f"{given.updates} joint updates a seed, {given.few} in the last four cases; "
        '"others": most cores used by other processes during a case'
    )
    report(f"{head}\n{text}", result, given.json)


if __name__ == "__main__":
    main()
