"""Rules on means of whole numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

from companion.audit.background import facts
from companion.audit.rows import Number, Row
from companion.audit.rules import Case, register


def _sums(mean: Number, runs: int) -> range:
    """Sums of so many whole numbers whose mean is printed like this."""
    return range(math.ceil(mean.low * runs), math.floor(mean.high * runs) + 1)


def _miss(mean: Number, runs: int) -> Fraction:
    """Distance from what is printed to the nearest mean of so many whole numbers."""
    below = Fraction(math.floor(mean.value * runs), runs)
    above = below + Fraction(1, runs)
    return max(Fraction(0), min(mean.low - below, above - mean.high))


def _spread_miss(mean: Number, sd: Number, runs: int) -> float:
    """Distance from a printed spread to the nearest one of so many whole numbers.

    Their squares have a sum that is even or odd as their own sum is, and at most its square.
    """
    best = math.inf
    for total in _sums(mean, runs):
        offset = Fraction(total * total, runs)
        top = min(math.ceil(offset + runs * (sd.high + 1) ** 2), total * total)
        for squares in range(math.ceil(offset), top + 1):
            if (squares - total) % 2 == 0:
                for divisor in (runs - 1, runs):
                    root = math.sqrt((squares - offset) / divisor)
                    best = min(best, max(float(sd.low) - root, root - float(sd.high)))
    return best


def _counted(rows: Sequence[Row]) -> Iterator[tuple[Row, Number, int]]:
    """Rows with a mean of active units whose digits can tell means of whole numbers apart."""
    for row in rows:
        runs, au = facts().runs.get(row.table), row.get("au")
        if au is not None and runs and not row.referred and 2 * au.half < Fraction(1, runs):
            yield row, au, runs


@register("mean-of-counts")
def _mean_of_counts(rows: Sequence[Row]) -> Iterator[Case]:
    for row, au, runs in _counted(rows):
        fewer = [str(n) for n in range(2, runs) if _miss(au, n) == 0]
        cause = f"the mean is over {' or '.join(fewer)} runs" if fewer else ""
        yield Case(row, f"{row.says('au')}, a mean of {runs} runs", _miss(au, runs), cause)


@register("spread-of-counts")
def _spread_of_counts(rows: Sequence[Row]) -> Iterator[Case]:
    for row, au, runs in _counted(rows):
        sd = row.get("au_sd")
        if sd is not None and _miss(au, runs) == 0:
            words = f"{row.says('au')} ({sd.text}), {runs} runs"
            yield Case(row, words, _spread_miss(au, sd, runs))
