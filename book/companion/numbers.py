"""How numbers are written for readers."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

__all__ = ["number", "spread"]


def number(value: float | None, digits: int = 3) -> str:
    """A number for a reader: fixed digits, more where those hide it, a dash for none.

    Very small and very large numbers are scientific.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, (bool, str)):
        return str(value)
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    hidden = value != 0 and abs(value) < 0.5 * 10**-digits
    if hidden and abs(value) >= 1e-4:
        return f"{value:.1g}".replace("-", "−")
    if hidden or abs(value) >= 1e7:
        return f"{value:.1e}".replace("-", "−")
    text = f"{value:d}" if isinstance(value, int) else f"{value:.{digits}f}"
    return text.replace("-", "−")


def spread(values: Iterable[float], digits: int = 3) -> str:
    """Mean (standard deviation over seeds, ddof 1); the latter only where there are two or more."""
    series = pd.Series(list(values), dtype=float)
    if series.empty:
        return "–"
    if len(series) == 1:
        return number(float(series.iloc[0]), digits)
    # Of equal values pandas finds a deviation of 1e-14 or so: that is rounding, and shown as 0.
    deviation = float(series.std())
    if deviation <= 1e-12 * float(series.abs().max()):
        deviation = 0.0
    return f"{number(float(series.mean()), digits)} ({number(deviation, digits)})"
