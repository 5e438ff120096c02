"""Rules on the numbers of one row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from companion.audit.background import facts
from companion.audit.rows import Number, Row, column_words
from companion.audit.rules import Case, Kind, dimensions_of, origin_of, printed_elsewhere, register
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


@register(
    "mi-above-kl",
    "MI above KL",
    "For one posterior, I(x; z) = E KL(q(z|x) ‖ p) − KL(q(z) ‖ p), and the last term is not "
    "negative. So MI ≤ KL (He et al. 2019, equation 5; Scale-VAE prints the same equation).",
    _APART,
    "The two numbers do not describe one model's codes. KL is then not the price of MI.",
)
def _mi_above_kl(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if pair := row.need("mi", "kl"):
            excess = pair[0].low - pair[1].high
            if row.method.startswith("Scale-VAE"):
                told = "Its KL is not the information budget of the codes that the decoder sees."
                yield Case(row, row.says("mi", "kl"), excess, _TWO_POSTERIORS, told)
            elif excess <= _NOISE:
                told = "MI and KL are equal as far as the estimate goes."
                yield Case(row, row.says("mi", "kl"), excess, _SAMPLING, told)
            else:
                yield Case(row, row.says("mi", "kl"), excess)


def _ceiling(row: Row, rows: Sequence[Row]) -> tuple[float, int] | None:
    """Greatest value of a row's estimate of MI, and the points that it aggregates."""
    home = origin_of(row, rows) if row.referred else row
    if home is None or (points := facts().points.get(home.paper)) is None:
        return None
    count = points.get(row.dataset, points["default"])
    return math.log(count), count


@register(
    "mi-above-ceiling",
    "MI above the ceiling of its estimate",
    "The papers estimate q(z) by averaging over S points, the own one included. Such an estimate "
    "is at most log S: 3.466 for He et al. on text (S = 32), 3.912 on OMNIGLOT (S = 50), 9.210 for "
    "the others (S = 10,000). A row marked as taken from a paper has that paper's S.",
    "the row is not what its source measured, or S is another",
    "The number cannot be the estimate that its mark says it is. MI of different papers must not "
    "be compared without S.",
)
def _mi_above_ceiling(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        mi = row.get("mi")
        if mi is None or (ceiling := _ceiling(row, rows)) is None:
            continue
        excess = float(mi.low) - ceiling[0]
        told = f"{row.says('mi')}; log {ceiling[1]} = {ceiling[0]:.3f}"
        if 0 < excess <= _NOISE and not row.referred:
            cause = "the two halves of the estimate do not use the same draws, which leaves noise"
            yield Case(row, told, excess, cause, "MI is at its ceiling. The true value is unknown.")
        else:
            yield Case(row, told, excess)


@register(
    "mi-at-ceiling",
    "MI at the ceiling of its estimate",
    "An estimate within 0.1 nats of log S says only that MI is at least that large.",
    "the posteriors of the S points hardly overlap",
    "The true MI is larger by an unknown amount. Two rows at the ceiling cannot be ranked.",
    kind=Kind.ODD,
    tolerance="0.1 nats between MI and its ceiling, a choice of this book",
)
def _mi_at_ceiling(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        mi = row.get("mi")
        if mi is not None and (ceiling := _ceiling(row, rows)) is not None:
            below = ceiling[0] - float(mi.high)
            excess = float(_NEAR) - below if float(mi.low) <= ceiling[0] else 0.0
            yield Case(row, f"{row.says('mi')}; log {ceiling[1]} = {ceiling[0]:.3f}", excess)


@register(
    "nll-above-elbo",
    "NLL above −ELBO",
    "The importance-weighted bound is at least the ELBO (Burda et al. 2016), so NLL ≤ −ELBO.",
    "the two were evaluated with different samples, or on different sentences",
    "One of the two is not a bound on the same likelihood.",
)
def _nll_above_elbo(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if pair := row.need("nll", "neg_elbo"):
            yield Case(row, row.says("nll", "neg_elbo"), pair[0].low - pair[1].high)


@register(
    "collapsed-gap",
    "A gap between −ELBO and NLL where KL is zero",
    "If the decoder ignores z, then p(z|x) = p(z), and −ELBO − NLL is KL itself (He et al. 2019, "
    "equation 3). So a model that is collapsed in the full sense, with KL printed as zero, has NLL "
    "and −ELBO alike.",
    "the decoder still reads z although the encoder says nothing, or the two numbers come from "
    "different evaluations",
    "The encoder is collapsed and the decoder is not, or the gap is an artefact of the evaluation.",
    kind=Kind.ODD,
)
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
        told = (
            f"{size} · {gamma.text}²/2"
            if not shift
            else f"{size} · ({gamma.text}² + {shift.text}²)/2"
        )
        return size * square / 2, told
    return None


@register(
    "kl-floor",
    "KL below the floor of its method",
    "Batch norm on D means gives E KL ≥ D(γ² + β²)/2 (Zhu et al. 2020; exact for the statistics of "
    "the batch and ε = 0). δ-VAE gives KL ≥ Dδ by construction. A flow has no such floor.",
    "statistics of training are used at evaluation, or the parameters are not those printed",
    "The floor that the method is meant to ensure is not there in the test numbers.",
)
def _kl_floor(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        kl, floor = row.get("kl"), _floor(row)
        if kl is not None and floor is not None:
            told = f"{row.says('kl')}; floor {floor[1]} = {float(floor[0]):.2f}"
            yield Case(row, told, floor[0] - kl.high)


@register(
    "au-dimensions",
    "More active units than dimensions",
    "AU counts latent dimensions: 32, and 8 on SNLI.",
    "another number of dimensions than the text says",
    "The row is about another model.",
    unit="units",
)
def _au_dimensions(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if (au := row.get("au")) is not None:
            size = dimensions_of(row)
            yield Case(row, f"{row.says('au')} of {size}", au.low - size)


@register(
    "active-kl",
    "KL too small for the active units",
    "KL of a Gaussian to the prior is at least half its squared mean, and an active unit's mean "
    "varies by at least 0.01. So KL ≥ 0.005 · AU.",
    "KL and AU come from different runs or data sets",
    "The row mixes two models.",
)
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


@register(
    "active-silent",
    "Active units that carry no information",
    "A unit is active if its mean varies over the data. Means that vary tell inputs apart, so they "
    "carry information. Here MI is zero to the printed digits.",
    "",
    "AU alone does not show that a model uses its codes.",
    kind=Kind.ODD,
    unit="units",
)
def _active_silent(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if (pair := row.need("au", "mi")) and pair[1].value == 0:
            printed = row.says(*(name for name in ("kl", "mi", "au") if row.cells.get(name)))
            silent = pair[0].low >= Fraction(1, 2)
            cause = _silent_cause(row, pair[0], rows) if silent else ""
            yield Case(row, printed, pair[0].low if silent else 0, cause)


@register(
    "abnormal",
    "KL above zero with MI zero",
    "All posteriors may be one and the same distribution that is not the prior. Then KL > 0, and "
    "MI = 0 (Shen et al. 2021, below their equation 10).",
    "the posterior is the same for all inputs and lies away from the prior",
    "A KL above zero does not prevent collapse. This is the abnormal case, seen in print.",
    kind=Kind.ODD,
)
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


@register(
    "elbo-sum",
    "−ELBO is not Rec + KL",
    "By definition −ELBO = Rec + KL.",
    "the terms come from different evaluations, or a weight other than 1 is in one of them",
    "At least one of the three is not what its head says.",
)
def _elbo_sum(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if found := row.need("neg_elbo", "rec", "kl"):
            elbo, rec, kl = found
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
        told = f"{row.says('time_ratio')}; hours {pair[1].text} / {hours.text} = "
        quotient = pair[1].value / hours.value
        told += f"{float(quotient):.4f}"
        low, high = pair[1].low / hours.high, pair[1].high / hours.low
        yield _Ratio(row, told, pair[0], low, quotient, high)


@register(
    "time-ratio",
    "A ratio of times that is not the ratio of the hours",
    "The relative time is the method's hours over the VAE's.",
    "the ratio was computed from other numbers than the printed hours",
    "The last digit of the ratio is not to be relied on.",
    unit="times the VAE's",
)
def _time_ratio(rows: Sequence[Row]) -> Iterator[Case]:
    for one in _ratios(rows):
        excess = max(one.low - one.ratio.high, one.ratio.low - one.high)
        cut = one.low < one.ratio.value + 2 * one.ratio.half and one.ratio.value <= one.high
        cause = "digits were cut off instead of rounded" if cut else ""
        yield Case(one.row, one.printed, excess, cause)


@register(
    "time-ratio-digits",
    "A ratio of times that rounds to other digits",
    "As before, but the quotient of the printed hours itself is rounded. The hours' own rounding "
    "can explain a finding.",
    "the ratio was computed from hours with more digits",
    "None beyond the last digit.",
    kind=Kind.ODD,
    tolerance="half a unit of the last digit of the ratio; the hours are taken as they stand",
    unit="times the VAE's",
)
def _time_ratio_digits(rows: Sequence[Row]) -> Iterator[Case]:
    for one in _ratios(rows):
        beyond = max(one.low - one.ratio.high, one.ratio.low - one.high) > 0
        excess = abs(one.middle - one.ratio.value) - one.ratio.half
        yield Case(one.row, one.printed, 0 if beyond else excess)


@register(
    "perplexity",
    "Perplexity and NLL of different lengths",
    "Perplexity is exp(NLL / W) with W words per example. W belongs to the data set, so it is the "
    "same in all rows of a table.",
    "perplexity and NLL come from different evaluations",
    "One of the two is not comparable over the rows.",
    unit="words",
)
def _perplexity(rows: Sequence[Row]) -> Iterator[Case]:
    first: dict[tuple[str, str], tuple[float, float]] = {}
    for row in rows:
        found = row.need("nll", "ppl")
        if not found or found[1].low <= 1:
            continue
        low = float(found[0].low) / math.log(found[1].high)
        high = float(found[0].high) / math.log(found[1].low)
        known = first.setdefault((row.table, row.dataset), (low, high))
        excess = max(low - known[1], known[0] - high)
        yield Case(row, f"{row.says('nll', 'ppl')}: {low:.2f} to {high:.2f} words", excess)


@register(
    "percent",
    "A percentage outside 0 to 100",
    "A share lies between 0 and 100 percent.",
    "a misprint",
    "The number is not a share.",
    unit="percentage points",
)
def _percent(rows: Sequence[Row]) -> Iterator[Case]:
    columns = papers.legend()["columns"]
    for row in rows:
        for name, given in row.quantities.items():
            if columns[name].get("unit") == "percent":
                yield Case(row, row.says(name), max(given.low - 100, -given.high))


@register(
    "distinct-order",
    "Fewer different pairs than different words",
    "A word that does not always end a sentence begins a pair, and different words begin different "
    "pairs. So the share of different 2-grams is not far below the share of different words.",
    "a misprint in the exponent of the head",
    "The absolute size of these shares cannot be used. Their order over the rows can.",
    kind=Kind.ODD,
    unit="share",
)
def _distinct_order(rows: Sequence[Row]) -> Iterator[Case]:
    columns = papers.legend()["columns"]
    for row in rows:
        for less, more in (("dist_1", "dist_2"), ("dist_2", "dist_3")):
            if pair := row.need(less, more):
                units = [Fraction(str(columns[name]["unit"])) for name in (less, more)]
                told = ", ".join(
                    f"{column_words(n)} {one.text}e{round(math.log10(u))}"
                    for n, one, u in zip((less, more), pair, units, strict=True)
                )
                yield Case(row, told, pair[0].low * units[0] - pair[1].high * units[1])
