"""What the benchmarks share: the machine's load and matrix-product rate, paired timing, tables."""

from __future__ import annotations

import json
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

_PROC_STAT = Path("/proc/stat")


PRODUCT_SIZE = 512

# glibc gives freed memory at the top of the heap back to the system, and a step frees megabytes:
# without these the next step faults the same pages in again.
KEPT_HEAP = {"MALLOC_TRIM_THRESHOLD_": str(2**28), "MALLOC_MMAP_THRESHOLD_": str(2**25)}


def product() -> Callable[[], object]:
    """A float32 product of two square matrices, the yardstick of what the machine can do."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(PRODUCT_SIZE, PRODUCT_SIZE, generator=generator) for _ in range(2))
    out = torch.empty(PRODUCT_SIZE, PRODUCT_SIZE)
    return lambda: torch.mm(left, right, out=out)


PRODUCT_FLOP = 2 * PRODUCT_SIZE**3


def peak_memory() -> float:
    """Peak resident memory of this process in MiB.

    ``ru_maxrss`` is handed down to a process by the one that started it, so a small child of a
    large benchmark would report the benchmark's peak; Linux tells the process's own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        found = next(line for line in lines if line.startswith("VmHWM:"))
        return int(found.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _ticks() -> tuple[int, int]:
    """(busy, all) clock ticks of all cores since boot."""
    fields = [int(v) for v in _PROC_STAT.read_text(encoding="ascii").split("\n")[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def busy_cores(seconds: float = 1.0) -> float | None:
    """Cores that anything on this machine keeps busy, measured over a while; None if unknown."""
    if not _PROC_STAT.exists():
        return None
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    share = (after[0] - before[0]) / max(1, after[1] - before[1])
    return share * (os.cpu_count() or 1)


class Foreign:
    """Cores that other processes keep busy while this one and its children work.

    Children count once they have been waited for.
    """

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.before = self._now()

    def _now(self) -> tuple[float, float]:
        own = sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )
        busy = _ticks()[0] / os.sysconf("SC_CLK_TCK") if _PROC_STAT.exists() else own
        return busy, own

    def cores(self) -> float:
        """Mean since the object was made; 0 where the system does not tell."""
        busy, own = (now - before for now, before in zip(self._now(), self.before, strict=True))
        return max(0.0, busy - own) / (time.monotonic() - self.start)


def wait_until_quiet(limit: float = 0.1, patience: float = 60.0) -> float | None:
    """Wait until fewer than ``limit`` cores are busy; returns how many are at the end.

    After ``patience`` seconds the benchmark goes on all the same, and reports the load.
    """
    end = time.monotonic() + patience
    while True:
        busy = busy_cores()
        if busy is None or busy < limit or time.monotonic() > end:
            return busy
        time.sleep(1.0)


def machine(busy: float | None) -> dict[str, Any]:
    """What the numbers were measured on."""
    name = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        name = next(
            (s.partition(":")[2].strip() for s in lines if s.startswith("model name")), name
        )
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "load_average": [round(v, 2) for v in os.getloadavg()],
        "busy_cores_before": None if busy is None else round(busy, 2),
    }


def interleaved(
    actions: Mapping[str, Callable[[], object]], rounds: int, inner: int
) -> dict[str, list[float]]:
    """Time several actions in turn, so that a change of the machine's speed meets all of them.

    What is counted are CPU seconds of this process: at one thread they are the wall time that an
    idle core would take, and other processes on the machine do not count.

    Args:
        actions: what to time, by name.
        rounds: how often each gets its turn.
        inner: calls a turn.

    Returns:
        Seconds per call, one entry a turn; entry i of all names was taken at about the same time.
    """
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            action()  # brings its data back into the caches
            start = time.process_time()
            for _ in range(inner):
                action()
            times[name].append((time.process_time() - start) / inner)
    return times


def median_ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """Median over the turns of time / reference time in the same turn."""
    return statistics.median(a / b for a, b in zip(times, reference, strict=True))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text table: the first column left, the others right aligned."""
    widths = [max(len(row[k]) for row in (header, *rows)) for k in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, rows)])


def report(text: str, result: Mapping[str, Any], as_json: bool) -> None:
    """Print the readable text, or with ``--json`` the numbers alone."""
    print(json.dumps(result, indent=2) if as_json else text, flush=True)
