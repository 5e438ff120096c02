"""Intervals of a metric of a method, and of the difference of two, over seeds and test examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from companion.claims.reference import Result
from companion.claims.table import Runs
from companion.claims.verdicts import Interval, bounded, interval, share

Measured = Callable[[Runs], Interval | None]  # None where results lack it


def _bounds(runs: Sequence[Result], name: str) -> tuple[float, float]:
    """What a metric cannot leave."""
    if name in ("kl", "valid_aggregate_kl", "aggregate_kl"):
        return 0.0, math.inf
    if name in ("mutual_information", "batch_mutual_information"):
        points = [float(n) for r in runs if (n := r.metrics.get(f"{name}_points"))]
        # An estimate may pass zero, and the cap, by its own standard error.
        values = [float(r.metrics[name]) for r in runs]
        return min(0.0, *values), max(math.log(max(points)) if points else math.inf, *values)
    if name == "accuracy" or name.startswith("probe_"):
        return 0.0, 1.0
    return -math.inf, math.inf


def _each(result: Result, name: str) -> NDArray[np.floating] | None:
    """A metric of every test example, where the run keeps it: NLL, and right answers of probes."""
    stored = result.arrays.get(f"each_{name}")
    return None if stored is None else np.asarray(stored, dtype=float)


def _over_examples(rows: Sequence[NDArray[np.floating] | None]) -> tuple[float, int]:
    """Standard error over test examples of their mean over seeds, and how many there are.

    All seeds share the test examples, so this part of the error does not fall with more seeds.
    """
    known = [row for row in rows if row is not None]
    if not known or len(known) < len(rows) or len({row.shape for row in known}) > 1:
        return 0.0, 0
    mean = np.mean(known, axis=0)
    return (float(stats.sem(mean)), mean.size) if mean.size > 1 else (0.0, 0)


def _share_error(runs: Sequence[Result], name: str) -> tuple[float, int]:
    """Standard error of an accuracy over test examples, where single answers are not kept."""
    tested = [r.metrics.get("n_sentences") for r in runs]
    if not name.startswith("probe_") or not all(tested):
        return 0.0, 0
    points = min(int(n) for n in tested if n)
    accuracy = float(np.mean([r.metrics[name] for r in runs]))
    # Half of Wilson's interval, in standard errors: it is not 0 where every answer is right.
    half = share(round(accuracy * points), points).half
    return half / float(stats.norm.ppf(0.975)), points


def _known(runs: Runs, method: str, name: str) -> dict[int, Result]:
    """Seed -> the run of a method, for those that have a metric."""
    return {r.spec.seed: r for r in runs.get(method, ()) if r.metrics.get(name) is not None}


def _between_answers(rows: Sequence[NDArray[np.floating] | None]) -> tuple[float, int]:
    """As :func:`_over_examples`, of differences between right answers, which are in [-1, 1].

    Half an example is added to each of the four outcomes of a pair (Agresti and Min 2005), so that
    two models that happen to answer alike are not taken to do so everywhere.
    """
    points = _over_examples(rows)[1]
    if not points:
        return 0.0, 0
    apart = np.mean([row for row in rows if row is not None], axis=0)
    many = points + 2
    square = float(np.square(apart).sum() + 1.0) / many - float(apart.sum() / many) ** 2
    return math.sqrt(square / many), points


def level(method: str, name: str) -> Measured:
    """A metric of a method with its interval over seeds and test examples."""

    def measure(runs: Runs) -> Interval | None:
        own = list(_known(runs, method, name).values())
        if not own:
            return None
        error, points = _share_error(own, name)  # an accuracy's error is a share's
        if not points:
            error, points = _over_examples([_each(result, name) for result in own])
        values = [float(result.metrics[name]) for result in own]
        return bounded(interval(values, error=error, points=points), *_bounds(own, name))

    return measure


def difference(first: str, second: str, name: str, other: str = "") -> Measured:
    """First less second of a metric, paired by seed and, where they are kept, by test example.

    Pairing takes out what two models have in common: how hard a sentence is, and how a seed was
    drawn.  Half of the interval is the difference that can be detected.

    Args:
        first, second: methods.
        name: of the metric.
        other: of the second's, where it is another.
    """
    theirs = other or name

    def measure(runs: Runs) -> Interval | None:
        one, two = _known(runs, first, name), _known(runs, second, theirs)
        seeds = [seed for seed in one if seed in two]
        if not seeds:
            return None
        ours, others = [one[seed] for seed in seeds], [two[seed] for seed in seeds]
        pairs = list(zip(ours, others, strict=True))
        values = [float(a.metrics[name]) - float(b.metrics[theirs]) for a, b in pairs]
        over = _between_answers if name.startswith("probe_") else _over_examples
        error, points = over([_apart(_each(a, name), _each(b, theirs)) for a, b in pairs])
        if not points:  # unpaired, which is the wider one
            (mine, n), (rest, m) = _share_error(ours, name), _share_error(others, theirs)
            error, points = math.hypot(mine, rest), min(n, m)
        (low, high), (least, most) = _bounds(ours, name), _bounds(others, theirs)
        return bounded(interval(values, error=error, points=points), low - most, high - least)

    return measure


def _apart(
    one: NDArray[np.floating] | None, other: NDArray[np.floating] | None
) -> NDArray[np.floating] | None:
    """A difference of every test example, where both runs keep theirs."""
    return None if one is None or other is None or one.shape != other.shape else one - other


def over_seeds(values: pd.Series) -> Interval | None:
    """The interval of one number per seed; seeds without one are left out."""
    known = values.dropna().tolist()
    return interval(known) if known else None
