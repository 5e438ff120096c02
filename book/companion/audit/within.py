"""Rules on the numbers of one row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from companion.audit.background import facts
from companion.audit.rows import Number, Row, column_words
from companion.audit.rules import Case, dimensions_of, origin_of, printed_elsewhere, register
from companion.claims import printed as papers

_NEAR = Fraction(1, 10)  # nats below the ceiling that count as sitting at it
_NOISE = Fraction(1, 10)  # nats; see the rule on MI above KL
_ACTIVE = Fraction(1, 100)  # least variance of an active unit's mean, in all five papers


_TWO_POSTERIORS = (
    "MI is taken from the scaled posterior and KL from the unscaled one: two posteriors"
)
_SAMPLING = (
    "sampling noise of the estimate of MI: He et al. print a variance of 0.001 to 0.003 over ten "
    "evaluations of one model"
)
_APART = "MI and KL do not come from the same posterior, run or column"


@register("mi-above-kl")
def _mi_above_kl(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if pair := row.need("mi", "kl"):
            excess = pair[0].low - pair[1].high
            if row.method.startswith("Scale-VAE"):
                words = "Its KL is not the information budget of the codes that the decoder sees."
                yield Case(row, row.says("mi", "kl"), excess, _TWO_POSTERIORS, words)
            elif excess <= _NOISE:
                words = "MI and KL are equal as far as the estimate goes."
                yield Case(row, row.says("mi", "kl"), excess, _SAMPLING, words)
            else:
                yield Case(row, row.says("mi", "kl"), excess)


def _ceiling(row: Row, rows: Sequence[Row]) -> tuple[float, int] | None:
    """Greatest value of a row's estimate of MI, and the points that it aggregates."""
    home = origin_of(row, rows) if row.referred else row
    if home is None or (points := facts().points.get(home.paper)) is None:
        return None
    count = points.get(row.dataset, points["default"])
    return math.log(count), count


@register("mi-above-ceiling")
def _mi_above_ceiling(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        mi = row.get("mi")
        if mi is None or (ceiling := _ceiling(row, rows)) is None:
            continue
        excess = float(mi.low) - ceiling[0]
        words = f"{row.says('mi')}; log {ceiling[1]} = {ceiling[0]:.3f}"
        if 0 < excess <= _NOISE and not row.referred:
            cause = "the two halves of the estimate do not use the same draws, which leaves noise"
            yield Case(
                row, words, excess, cause, "MI is at its ceiling. The true value is unknown."
            )
        else:
            yield Case(row, words, excess)


@register("mi-at-ceiling")
def _mi_at_ceiling(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        mi = row.get("mi")
        if mi is not None and (ceiling := _ceiling(row, rows)) is not None:
            below = ceiling[0] - float(mi.high)
            excess = float(_NEAR) - below if float(mi.low) <= ceiling[0] else 0.0
            yield Case(row, f"{row.says('mi')}; log {ceiling[1]} = {ceiling[0]:.3f}", excess)


@register("nll-above-elbo")
def _nll_above_elbo(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if pair := row.need("nll", "neg_elbo"):
            yield Case(row, row.says("nll", "neg_elbo"), pair[0].low - pair[1].high)


@register("collapsed-gap")
def _collapsed_gap(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        pair = row.need("nll", "neg_elbo")
        kl = row.get("kl")
        if pair and kl is not None and kl.value == 0:
            yield Case(row, row.says("nll", "neg_elbo", "kl"), pair[1].low - pair[0].high - kl.high)


def _floor(row: Row) -> tuple[Fraction, str] | None:
    """Least KL that a method is proved to have, and how it comes about."""
    size = dimensions_of(row)
    if (delta := row.get("delta")) is not None and row.method.startswith("δ-VAE"):
        return size * delta.value, f"{size} · {delta.text}"
    gamma = row.get("gamma")
    if gamma is not None and row.method.startswith(("BN-VAE", "DU-VAE")):
        shift = row.get("shift")
        square = gamma.value**2 + (shift.value**2 if shift else 0)
        words = (
            f"{size} · {gamma.text}²/2"
            if not shift
            else f"{size} · ({gamma.text}² + {shift.text}²)/2"
        )
        return size * square / 2, words
    return None


@register("kl-floor")
def _kl_floor(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        kl, floor = row.get("kl"), _floor(row)
        if kl is not None and floor is not None:
            words = f"{row.says('kl')}; floor {floor[1]} = {float(floor[0]):.2f}"
            yield Case(row, words, floor[0] - kl.high)


@register("au-dimensions")
def _au_dimensions(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if (au := row.get("au")) is not None:
            size = dimensions_of(row)
            yield Case(row, f"{row.says('au')} of {size}", au.low - size)


@register("active-kl")
def _active_kl(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if pair := row.need("au", "kl"):
            yield Case(row, row.says("kl", "au"), pair[0].low * _ACTIVE / 2 - pair[1].high)


def _silent_cause(row: Row, au: Number, rows: Sequence[Row]) -> str:
    if other := printed_elsewhere(row, "au", rows):
        return f"a slip of columns: the line prints the same AU under {other}"
    kl = row.need("kl")
    most = 2 * kl[0].high / au.low if kl else None
    if most is not None and most < 1:
        return (
            f"means that hardly vary: by {float(_ACTIVE)} to {float(most):.3f} in each active unit"
        )
    return "means that vary little, with all of KL spent on a shift that is the same for all x"


@register("active-silent")
def _active_silent(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if (pair := row.need("au", "mi")) and pair[1].value == 0:
            printed = row.says(*(name for name in ("kl", "mi", "au") if row.cells.get(name)))
            silent = pair[0].low >= Fraction(1, 2)
            cause = _silent_cause(row, pair[0], rows) if silent else ""
            yield Case(row, printed, pair[0].low if silent else 0, cause)


@register("abnormal")
def _abnormal(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if (pair := row.need("kl", "mi")) and pair[1].value == 0:
            floor = _floor(row)
            cause = ""
            if floor and pair[0].low <= floor[0] <= pair[0].high:
                cause = (
                    f"KL is the floor that the method forces, {floor[1]} = {float(floor[0]):.2f}"
                )
            yield Case(row, row.says("kl", "mi"), pair[0].low - pair[1].high, cause)


@register("elbo-sum")
def _elbo_sum(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if numbers := row.need("neg_elbo", "rec", "kl"):
            elbo, rec, kl = numbers
            slack = elbo.half + rec.half + kl.half
            excess = abs(elbo.value - rec.value - kl.value) - slack
            yield Case(row, row.says("neg_elbo", "rec", "kl"), excess)


class _Ratio(NamedTuple):
    """A printed ratio beside the hours that it is of."""

    row: Row
    printed: str
    ratio: Number
    low: Fraction
    middle: Fraction
    high: Fraction


def _ratios(rows: Sequence[Row]) -> Iterator[_Ratio]:
    for row in rows:
        pair = row.need("time_ratio", "hours")
        base = [
            r for r in rows if (r.table, r.dataset, r.method) == (row.table, row.dataset, "VAE")
        ]
        if not pair or not base or base[0] == row or (hours := base[0].get("hours")) is None:
            continue
        words = f"{row.says('time_ratio')}; hours {pair[1].text} / {hours.text} = "
        quotient = pair[1].value / hours.value
        words += f"{float(quotient):.4f}"
        low, high = pair[1].low / hours.high, pair[1].high / hours.low
        yield _Ratio(row, words, pair[0], low, quotient, high)


@register("time-ratio")
def _time_ratio(rows: Sequence[Row]) -> Iterator[Case]:
    for one in _ratios(rows):
        excess = max(one.low - one.ratio.high, one.ratio.low - one.high)
        cut = one.low < one.ratio.value + 2 * one.ratio.half and one.ratio.value <= one.high
        cause = "digits were cut off instead of rounded" if cut else ""
        yield Case(one.row, one.printed, excess, cause)


@register("time-ratio-digits")
def _time_ratio_digits(rows: Sequence[Row]) -> Iterator[Case]:
    for one in _ratios(rows):
        beyond = max(one.low - one.ratio.high, one.ratio.low - one.high) > 0
        excess = abs(one.middle - one.ratio.value) - one.ratio.half
        yield Case(one.row, one.printed, 0 if beyond else excess)


@register("perplexity")
def _perplexity(rows: Sequence[Row]) -> Iterator[Case]:
    first: dict[tuple[str, str], tuple[float, float]] = {}
    for row in rows:
        numbers = row.need("nll", "ppl")
        if not numbers or numbers[1].low <= 1:
            continue
        low = float(numbers[0].low) / math.log(numbers[1].high)
        high = float(numbers[0].high) / math.log(numbers[1].low)
        known = first.setdefault((row.table, row.dataset), (low, high))
        excess = max(low - known[1], known[0] - high)
        yield Case(row, f"{row.says('nll', 'ppl')}: {low:.2f} to {high:.2f} words", excess)


@register("percent")
def _percent(rows: Sequence[Row]) -> Iterator[Case]:
    columns = papers.legend()["columns"]
    for row in rows:
        for name, given in row.quantities.items():
            if columns[name].get("unit") == "percent":
                yield Case(row, row.says(name), max(given.low - 100, -given.high))


@register("distinct-order")
def _distinct_order(rows: Sequence[Row]) -> Iterator[Case]:
    columns = papers.legend()["columns"]
    for row in rows:
        for less, more in (("dist_1", "dist_2"), ("dist_2", "dist_3")):
            if pair := row.need(less, more):
                units = [Fraction(str(columns[name]["unit"])) for name in (less, more)]
                words = ", ".join(
                    f"{column_words(n)} {one.text}e{round(math.log10(u))}"
                    for n, one, u in zip((less, more), pair, units, strict=True)
                )
                yield Case(row, words, pair[0].low * units[0] - pair[1].high * units[1])
