"""How numbers are written for readers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

__all__ = ["ends", "number", "places", "spread"]


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


def _fixed(value: float, digits: int) -> str:
    """Fixed digits, without the sign of a zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def ends(values: Sequence[float], digits: int = 3) -> tuple[str, ...]:
    """A mean and the ends of its interval, written alike: with fixed digits if one of them shows.

    So is an interval around 0 of which none shows: [-3e-5, 3e-5] nats says that there is nothing.
    """
    largest, shows = max(map(abs, values)), 0.5 * 10**-digits
    alike = shows <= largest < 1e7 or (largest < shows and min(values) <= 0.0 <= max(values))
    return tuple(_fixed(v, digits) if alike else number(v, digits) for v in values)


def places(half: float, distance: float) -> int:
    """Digits after the point for a mean with an interval: two of its half width, at most four.

    Args:
        half: of the interval.
        distance: of the interval's end from the bound that it is held against, which must show.
    """
    if not 0.0 < half < math.inf:
        return 4
    digits = min(max(1 - math.floor(math.log10(half)), 1), 4)
    while digits < 4 and 0.0 < abs(distance) < 10**-digits:
        digits += 1
    return digits


def spread(values: Iterable[float], digits: int = 3) -> str:
    """Mean (standard deviation over seeds, ddof 1); the latter only where there are two or more."""
    series = pd.Series(list(values), dtype=float)
    if series.empty:
        return "–"
    if len(series) == 1:
        only = float(series.iloc[0])
        return _fixed(only, digits) if abs(only) < 1e-4 else number(only, digits)
    # Of equal values pandas finds a deviation of 1e-14 or so: that is rounding, and shown as 0.
    deviation = float(series.std())
    if deviation <= 1e-12 * float(series.abs().max()):
        deviation = 0.0
    mean = float(series.mean())
    # A mean within two deviations of 0 that rounds to it is nothing, not -1.7e-06 (3.1e-05).
    if max(abs(mean), deviation) < 0.5 * 10**-digits and abs(mean) <= 2 * deviation:
        return f"{_fixed(mean, digits)} ({_fixed(deviation, digits)})"
    alike = 0.5 * 10**-digits <= max(abs(mean), deviation) < 1e7
    shown = [_fixed(v, digits) if alike else number(v, digits) for v in (mean, deviation)]
    return f"{shown[0]} ({shown[1]})"
