"""What the pages on the posterior mean space share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from companion.claims.reference import Result
from companion.claims.verdicts import Check, below, bounded, interval, premise, stated
from companion.numbers import number


def scale_of(results: Sequence[Result]) -> str:
    """The scale of some results."""
    return results[0].spec.scale


def least(name: str, values: Sequence[float], bound: float) -> Check:
    """Below a bound, of what is never below 0."""
    return below(name, bounded(interval(values), 0.0), bound)


def describe(result: Result) -> str:
    """One line on a result for a caption."""
    spec = result.spec
    return f"{spec.scale} scale, seed {spec.seed}, {number(result.metrics['updates'])} updates"


def set_up(name: str, values: Sequence[float], low: float, high: float) -> Check:
    """Premise on how each run is set up: it is no mean over seeds, and needs no interval."""
    rule = f"each run above {low:g}" if math.isinf(high) else f"each run below {high:g}"
    holds = all(low <= value <= high for value in values)
    return premise(stated(name, rule, holds, ", ".join(number(value) for value in values)))
