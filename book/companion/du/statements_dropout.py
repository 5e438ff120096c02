"""DU-VAE: the statements of Shen et al. 2021 on variance dropout (proposition 1, equation 8).

Dropout (equation 6) keeps what a variance has above alpha with probability p and divides it by p;
what is dropped is left with the variance alpha.
MPD_B and CE_B are averages over masks, which are independent between points and dimensions.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import sympy
from hypothesis import strategies as st
from scipy import integrate

from companion.claims import formulas as f
from companion.claims.formulas import ALPHA, Array, average
from companion.claims.statements import Evidence, Formulas, equal, log, sampled, search, stated
from companion.du.statements import (
    SAMPLES,
    log_density,
    log_ratio,
    mean_variance,
    quadratic_mpd,
    quadrature_entropy,
    shown,
    some_posteriors,
)

__all__ = ["STATEMENTS", "Dropout"]


# --- variance dropout by its definition -----------------------------------------------------------


class Dropout(NamedTuple):
    """Posteriors under variance dropout; of floats, fractions or symbols."""

    mean: Array  # (N, D)
    above: Array  # (N, D), variance minus alpha, at least 0
    keep: Any  # p in (0, 1]
    alpha: Any = ALPHA

    @property
    def variance(self) -> Array:
        """Variances before dropout, (N, D)."""
        return np.asarray(self.above + self.alpha)

    @property
    def distances(self) -> Array:
        """Squared differences of the means of all pairs, (N, N, D)."""
        return np.asarray((self.mean[:, None] - self.mean[None]) ** 2)

    def floats(self) -> Dropout:
        """The same numbers, rounded."""
        mean, above = (np.asarray(a, dtype=float) for a in (self.mean, self.above))
        return Dropout(mean, above, float(self.keep), float(self.alpha))

    def masked(self) -> list[tuple[Any, Array]]:
        """Both outcomes of the mask: probability, and the variance that is left."""
        kept, dropped = self.above / self.keep + self.alpha, self.above * 0 + self.alpha
        return [(1 - self.keep, dropped), (self.keep, kept)]

    def shown(self) -> str:
        """In words."""
        return f"{shown((self.mean, self.variance))}, p = {self.keep}, α = {self.alpha}"


@st.composite
def dropouts(draw: st.DrawFn) -> Dropout:
    """Up to 3 points in up to 2 dimensions, in fractions; some variances are alpha itself."""
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    size = shape[0] * shape[1]

    def numbers(values: st.SearchStrategy[Fraction]) -> Array:
        return np.array(draw(st.lists(values, min_size=size, max_size=size))).reshape(shape)

    scale = Fraction(10) ** draw(st.integers(-3, 3))
    powers = st.integers(-10, 10).map(lambda k: Fraction(2) ** k)
    return Dropout(
        scale * numbers(st.integers(-8, 8).map(lambda k: Fraction(k, 8))),
        numbers(st.one_of(st.just(Fraction(0)), powers)),
        Fraction(draw(st.integers(1, 100)), 100),
        Fraction(2) ** draw(st.integers(-6, 3)),
    )


def search_all(violated: Callable[[Dropout], bool], compared: str) -> Evidence:
    """A search over :func:`dropouts`."""
    return search(compared, dropouts(), violated, Dropout.shown)


def mpd_over_masks(case: Dropout) -> Any:
    """MPD by its definition: all pairs of points and all pairs of masks.

    The masks of a pair are independent, also where both are the same point.
    Dimensions separate, and logarithms cancel as in :func:`quadratic_mpd`.
    """
    total: Any = 0
    for (chance1, v1), (chance2, v2) in itertools.product(case.masked(), repeat=2):
        ratio = average((v1[:, None] + case.distances) / v2[None] - 1, 0, 1).sum()
        total += chance1 * chance2 * ratio / 2
    return total


def entropy_over_masks(case: Dropout) -> float:
    """Conditional entropy by its definition: both masks of each dimension."""
    return float(sum(p * quadrature_entropy(v).sum(-1).mean() for p, v in case.masked()))


def some_dropout(seed: int) -> tuple[np.random.Generator, Dropout]:
    """Five posteriors in three dimensions at p = 0.8, for sampling."""
    random = np.random.default_rng(seed)
    mean, variance = some_posteriors(random)
    return random, Dropout(mean, variance - ALPHA, 0.8)


def some_points(random: np.random.Generator, case: Dropout) -> tuple[Array, Array]:
    """Means and variances of random points under random masks."""
    point = random.integers(0, len(case.mean), SAMPLES)
    kept = random.uniform(size=(SAMPLES, case.mean.shape[1])) < case.keep
    return case.mean[point], np.where(kept, case.above[point] / case.keep, 0.0) + case.alpha


def pair_ratios(random: np.random.Generator, case: Dropout) -> Array:
    """Log-ratios of random pairs under random masks, whose expectation is MPD_B."""
    return log_ratio(random, *some_points(random, case), *some_points(random, case))


def surprises(random: np.random.Generator, case: Dropout) -> tuple[Array, Array]:
    """-log q(z) under random masks, and the variances."""
    mean, variance = some_points(random, case)
    return -log_density(f.gaussian(random, mean, variance), mean, variance), variance


def _symbols() -> tuple[Any, ...]:
    """Variances v1, v2 above alpha, p as 1/(1 + u) with its u, alpha; two points of variance v1.

    With u positive, p runs over (0, 1) and SymPy knows it.
    """
    v1, v2, u, alpha = sympy.symbols("v1 v2 u alpha", positive=True)
    p = 1 / (1 + u)
    return v1, v2, u, p, alpha, _two_points(v1, p, alpha)


def _two_points(v: Any, p: Any, alpha: Any) -> Dropout:
    """Two points of one variance in one dimension."""
    return Dropout(
        np.array([[0 * v], [sympy.Symbol("delta", real=True)]]), np.array([[v], [v]]), p, alpha
    )


# --- D4b, what dropout leaves of H > 0 ------------------------------------------------------------


def dropped_entropy_above(above: Any, keep: Any, scale: Any = math.pi * math.e) -> Any:
    """Average entropy over the mask, each point and dimension, at alpha = 1/(2 pi e)."""
    return keep * log(1 + 2 * scale * above / keep) / 2


def chance_of_none(keep: Any, dimensions: int) -> Any:
    """Probability that no dimension is kept."""
    return (1 - keep) ** dimensions


def _zero_symbolic(c: Formulas) -> Evidence:
    v1, v2, _, p, _, _ = _symbols()
    scale = 2 * sympy.pi * sympy.E
    entropies, none = sympy.S.Zero, sympy.S.Zero
    for mask in itertools.product((0, 1), repeat=2):
        chance = sympy.prod([p if kept else 1 - p for kept in mask])
        variances = [1 / scale + kept * v / p for kept, v in zip(mask, (v1, v2), strict=True)]
        entropy = sum(sympy.log(sympy.expand(scale * variance)) for variance in variances) / 2
        entropies += chance * entropy
        none += chance if entropy == 0 else 0
    closed = sum(c.dropped_entropy_above(v, p, scale / 2) for v in (v1, v2))
    pairs = (entropies, closed), (none, c.chance_of_none(p, 2))
    return equal("average entropy, and chance of entropy 0, over the masks of D = 2", *pairs)


def _zero_sampled(c: Formulas) -> Evidence:
    random, case = some_dropout(5)
    surprise, variance = surprises(random, case)
    exact = c.dropped_entropy_above(case.above, case.keep)
    none = quadrature_entropy(variance).sum(-1) < 1e-9
    return sampled(
        "mean of −log q(z) under masks, nats, and share of entropies that are 0",
        (float(exact.sum(-1).mean()), surprise),
        (c.chance_of_none(case.keep, 3), none),
    )


class Masked(NamedTuple):
    """One posterior under one mask."""

    above: tuple[float, ...]  # (D,), at least 2^-10
    keep: float
    mask: tuple[bool, ...]  # (D,)

    def entropy(self, mask: tuple[bool, ...]) -> float:
        """Under a mask, nats."""
        kept = np.where(mask, np.array(self.above) / self.keep, 0.0)
        return float(quadrature_entropy(kept + ALPHA).sum())

    def shown(self) -> str:
        """In words."""
        above, mask = ", ".join(f"{one:g}" for one in self.above), [int(one) for one in self.mask]
        entropy = round(self.entropy(self.mask), 12) + 0.0  # no minus before a zero
        return f"σ² − α = [{above}], p = {self.keep:g}, mask {mask}: H = {entropy:g}"


@st.composite
def masks(draw: st.DrawFn) -> Masked:
    """Up to 4 dimensions."""
    dimensions = draw(st.integers(1, 4))
    power = draw(st.lists(st.integers(-10, 10), min_size=dimensions, max_size=dimensions))
    mask = draw(st.lists(st.booleans(), min_size=dimensions, max_size=dimensions))
    return Masked(tuple(2.0**k for k in power), draw(st.integers(1, 9)) / 10.0, tuple(mask))


def _zero_search(c: Formulas) -> Evidence:
    """All masks: none has a negative entropy, and only the empty one has entropy 0."""

    def violated(case: Masked) -> bool:
        total, none, wrong = 0.0, 0.0, False
        for mask in itertools.product((False, True), repeat=len(case.above)):
            chance = math.prod(case.keep if kept else 1.0 - case.keep for kept in mask)
            value = case.entropy(mask)
            wrong |= value < -1e-12 or (value < 1e-12) == any(mask)
            total += chance * value
            none += chance if value < 1e-12 else 0.0
        claimed = c.dropped_entropy_above(np.array(case.above), case.keep).sum()
        empty = c.chance_of_none(case.keep, len(case.above))
        return wrong or abs(total - claimed) > 1e-9 * (1.0 + total) or abs(none - empty) > 1e-9

    return search("entropies under all masks, up to 4 dimensions", masks(), violated, Masked.shown)


def _zero_strict() -> Evidence:
    """H > 0 under every mask."""

    compared = "H > 0 under a mask"
    return search(compared, masks(), lambda one: one.entropy(one.mask) <= 1e-12, Masked.shown)


D4b = stated(
    "D4b",
    Formulas(dropped_entropy_above, chance_of_none),
    {
        "half": ("/ keep) / 2", "/ keep)"),
        "one": ("log(1 +", "log(2 +"),
        "alpha_two": ("2 * scale", "scale"),
        "each": ("** dimensions", "** (2 * dimensions)"),
    },
    (_zero_symbolic, _zero_sampled, _zero_search),
    _zero_strict,
)


# --- D5, dropout keeps the average variance -------------------------------------------------------


def kept_variance(variance: Any, keep: Any, alpha: Any = ALPHA) -> Any:
    """Equation 6 where the mask is 1."""
    return (variance - alpha) / keep + alpha


def _mean_symbolic(c: Formulas) -> Evidence:
    variance, p, alpha = sympy.symbols("s p alpha", positive=True)
    mean = p * c.kept_variance(variance, p, alpha) + (1 - p) * alpha
    return equal("average over the mask against the variance", (mean, variance))


def _mean_sampled(c: Formulas) -> Evidence:
    random, case = some_dropout(6)
    point = random.integers(0, len(case.mean), SAMPLES)
    kept = random.uniform(size=SAMPLES) < case.keep
    cases = []
    for d, variance in enumerate(case.variance.T):
        left = c.kept_variance(variance[point], case.keep)
        cases.append((float(variance.mean()), np.where(kept, left, ALPHA)))
        kept = np.roll(kept, d + 1)
    return sampled("mean of the variance under masks", *cases)


def _mean_search(c: Formulas) -> Evidence:
    def violated(case: Dropout) -> bool:
        kept = c.kept_variance(case.variance, case.keep, case.alpha)
        mean = case.keep * kept + (1 - case.keep) * case.alpha
        return bool((mean != case.variance).any())

    return search_all(violated, "average over the mask against the variance (exact fractions)")


D5 = stated(
    "D5",
    Formulas(kept_variance),
    {"normaliser": ("/ keep", ""), "floor": ("- alpha", "")},
    (_mean_symbolic, _mean_sampled, _mean_search),
)


# --- D6, dropout raises MPD -----------------------------------------------------------------------


def inverse_moment(above: Any, keep: Any, alpha: Any) -> Any:
    """E[1 / variance] over the mask."""
    return (1 - keep) / alpha + keep**2 / (above + keep * alpha)


def dropped_mpd(case: Dropout) -> Any:
    """MPD averaged over masks, in closed form."""
    inverse = inverse_moment(case.above, case.keep, case.alpha)
    crossed = average(case.variance, 0) * average(inverse, 0)
    return (average(case.distances * inverse[None], 0, 1) + crossed - 1).sum() / 2


def raised_inverse(above: Any, keep: Any, alpha: Any) -> Any:
    """What dropout adds to E[1 / variance]; positive where p < 1 and the variance exceeds alpha."""
    return (1 - keep) * above**2 / (alpha * (above + alpha) * (above + keep * alpha))


def raised_mpd(case: Dropout) -> Any:
    """What dropout adds to MPD: a weighted average of :func:`raised_inverse`."""
    added = raised_inverse(case.above, case.keep, case.alpha)
    return average((case.variance[:, None] + case.distances) * added[None], 0, 1).sum() / 2


def _higher_symbolic(c: Formulas) -> Evidence:
    v, _, _, p, alpha, two = _symbols()
    moment = c.inverse_moment(v, p, alpha)
    return equal(
        "E 1/σ̂² over the mask, what dropout adds to 1/σ², and two points' MPD",
        (moment, (1 - p) / alpha + p / (v / p + alpha)),
        (moment - 1 / (v + alpha), raised_inverse(v, p, alpha)),
        (mpd_over_masks(two), c.dropped_mpd(two)),
    )


def _higher_sampled(c: Formulas) -> Evidence:
    random, case = some_dropout(7)
    pair = c.dropped_mpd(case), pair_ratios(random, case)
    return sampled("mean log-ratio over pairs and masks, nats", pair)


def _higher_search(c: Formulas) -> Evidence:
    """Closed forms against all masks, and MPD raised exactly where the statement says."""

    def violated(case: Dropout) -> bool:
        mpd, before = mpd_over_masks(case), quadratic_mpd(case.mean, case.variance)
        strict = bool(case.keep < 1 and (case.above > 0).any())
        wrong = mpd != c.dropped_mpd(case) or mpd - before != raised_mpd(case)
        return bool(wrong or mpd < before or (mpd > before) != strict)

    return search_all(violated, "closed form, and MPD_B > MPD, over all masks (exact fractions)")


D6 = stated(
    "D6",
    Formulas(inverse_moment, dropped_mpd),
    {
        "half": (".sum() / 2", ".sum() / 4"),
        "whole": ("(1 - keep)", "(2 - keep)"),
        "power": ("keep**2", "keep"),
        "one": ("- 1)", ")"),
    },
    (_higher_symbolic, _higher_sampled, _higher_search),
)


# --- D7, dropout lowers the conditional entropy ---------------------------------------------------


def log_moment(above: Any, keep: Any, alpha: Any) -> Any:
    """E[log variance] over the mask."""
    return (1 - keep) * log(alpha) + keep * log(above / keep + alpha)


def entropy_of(log_variance: Any, constant: float = math.log(2.0 * math.pi * math.e)) -> Any:
    """Of one dimension, from the average of its log variance."""
    return (log_variance + constant) / 2


def dropped_entropy(case: Dropout) -> float:
    """Conditional entropy averaged over masks, in closed form, nats."""
    return float(entropy_of(log_moment(case.above, case.keep, case.alpha)).sum(-1).mean())


def lowered_log(above: Array, keep: float, alpha: float) -> Array:
    """What dropout takes from E[log variance]: log(1 + r) - p log(1 + r / p), r = above / alpha."""
    ratio = above / alpha
    return np.asarray(np.log1p(ratio) - keep * np.log1p(ratio / keep))


def _lower_symbolic(c: Formulas) -> Evidence:
    v, _, u, p, alpha, _ = _symbols()
    moment = c.log_moment(v, p, alpha)
    definition = (1 - p) * sympy.log(alpha) + p * sympy.log(alpha + v / p)
    taken = sympy.log(v + alpha) - moment
    return equal(
        "E log σ̂² over the mask; what is taken is 0 at v = 0 and grows with v",
        (c.entropy_of(moment, 0), definition / 2),
        (taken.subs(v, 0), 0),
        (sympy.diff(taken, v), v * u / ((v + alpha) * (alpha + v * (1 + u)))),
    )


def _lower_sampled(c: Formulas) -> Evidence:
    random, case = some_dropout(8)
    pair = c.dropped_entropy(case), surprises(random, case)[0]
    return sampled("mean of −log q(z) under masks, nats", pair)


def _lower_search(c: Formulas) -> Evidence:
    """Closed forms against both masks, and an entropy lowered exactly where it is said to be."""

    def violated(case: Dropout) -> bool:
        one = case.floats()
        mean, before = entropy_over_masks(one), quadrature_entropy(one.variance).sum(-1).mean()
        taken = 0.5 * lowered_log(one.above, one.keep, one.alpha).sum(-1).mean()
        strict = one.keep < 1.0 and bool((one.above > 0.0).any())
        slack = 1e-11 * (1.0 + abs(before))
        wrong = abs(mean - c.dropped_entropy(one)) > slack
        wrong = wrong or abs(before - mean - taken) > slack
        return bool(wrong or taken < -slack or (taken > 0.0) != strict)

    return search_all(violated, "closed form, and CE_B < CE, over both masks")


D7 = stated(
    "D7",
    Formulas(log_moment, entropy_of, dropped_entropy),
    {
        "half": ("constant) / 2", "constant) / 4"),
        "whole": ("(1 - keep)", "(2 - keep)"),
        "power": ("above / keep", "above / keep**2"),
    },
    (_lower_symbolic, _lower_sampled, _lower_search),
)


# --- D8, both gaps grow as p falls ----------------------------------------------------------------


def inverse_slope(above: Any, keep: Any, alpha: Any) -> Any:
    """d/dp E[1 / variance]; negative."""
    return -(above**2) / (alpha * (above + keep * alpha) ** 2)


def log_slope(above: Any, keep: Any, alpha: Any) -> Any:
    """d/dp E[log variance]; positive."""
    u = 1 + above / (keep * alpha)
    return log(u) - (u - 1) / u


def limit_mpd(case: Dropout) -> Any:
    """MPD as p falls to 0."""
    moments = 2 * mean_variance(case.mean) + average(case.variance, 0).sum()
    return (moments / case.alpha - case.mean.shape[1]) / 2


@functools.lru_cache(maxsize=1)
def _slopes_and_limits() -> tuple[Any, ...]:
    """Two points of one variance; slopes in p of both moments; limits at p = 0 of MPD and log."""
    v, p, alpha = sympy.symbols("v p alpha", positive=True)
    two = _two_points(v, p, alpha)
    inverse = (1 - p) / alpha + p / (v / p + alpha)
    log = (1 - p) * sympy.log(alpha) + p * sympy.log(alpha + v / p)
    mpd = sympy.limit(sympy.cancel(mpd_over_masks(two)), p, 0)
    return two, sympy.diff(inverse, p), sympy.diff(log, p), mpd, sympy.limit(log, p, 0)


def _grow_symbolic(c: Formulas) -> Evidence:
    two, slope, slope_of_log, mpd, log = _slopes_and_limits()
    one, rest = (two.above[0, 0], two.keep, two.alpha), sympy.Rational(c.rest)
    return equal(
        "slopes of E 1/σ̂² and E log σ̂² in p, and limits at p = 0",
        (slope, c.inverse_slope(*one)),
        (sympy.expand_log(slope_of_log, force=True), c.log_slope(*one)),
        (mpd, c.limit_mpd(two)),
        (log, sympy.log(two.alpha) + rest),
    )


def _grow_sampled(c: Formulas) -> Evidence:
    """The same masks, drawn by one uniform number, at two p; exact is the integral of the slope."""
    random, case = some_dropout(9)
    above = random.choice(case.above.ravel(), SAMPLES)
    uniform = random.uniform(size=SAMPLES)
    low, high = (ALPHA + np.where(uniform < p, above / p, 0.0) for p in (0.3, 0.9))

    def integral(slope: Callable[..., Any]) -> float:
        def mean(keep: float) -> float:
            return float(np.mean(slope(case.above, keep, ALPHA)))

        return float(integrate.quad(mean, 0.3, 0.9, epsabs=1e-11)[0])

    return sampled(
        "change of 1/σ̂² and of log σ̂² from p = 0.3 to 0.9, against integrated slopes",
        (integral(c.inverse_slope), 1.0 / high - 1.0 / low),
        (integral(c.log_slope), np.log(high) - np.log(low)),
    )


class Two(NamedTuple):
    """The same posteriors at two keep probabilities."""

    case: Dropout  # every variance above alpha
    lower: Any  # a smaller p

    def shown(self) -> str:
        """In words."""
        return f"{self.case.shown()}, against p = {self.lower}"


@st.composite
def pairs_of_keep(draw: st.DrawFn) -> Two:
    """As :func:`dropouts`, with v > 0 everywhere and p > 1/100."""
    case = draw(dropouts())
    keep = Fraction(draw(st.integers(2, 100)), 100)
    above = case.above + (case.above == 0)
    lower = Fraction(draw(st.integers(1, int(keep * 100) - 1)), 100)
    return Two(case._replace(above=above, keep=keep), lower)


def _slopes_wrong(case: Dropout, c: Formulas) -> bool:
    """Closed slopes against derivatives of both moments' definitions, by a complex step."""
    above, alpha, p = case.above, case.alpha, case.keep + 1e-30j
    by_step = np.imag((1 - p) / alpha + p / (above / p + alpha)) / 1e-30
    logs = np.imag(p * np.log1p(above / (p * alpha))) / 1e-30
    inverse, log = (slope(above, case.keep, alpha) for slope in (c.inverse_slope, c.log_slope))
    wrong = abs(by_step - inverse) > 1e-9 * abs(by_step)
    # log(1 + t) - t / (1 + t) loses digits where t is small.
    wrong_log = abs(logs - log) > 1e-9 * abs(logs) + 1e-14
    return bool((wrong | wrong_log | (by_step >= 0) | (logs <= 0)).any())


def _limits_wrong(case: Dropout, c: Formulas) -> bool:
    """Closed limits against all masks at p = 10^-40."""
    last = case._replace(keep=Fraction(1, 10**40))
    mpd, claimed = mpd_over_masks(last), c.limit_mpd(case)
    one = last._replace(alpha=Fraction(ALPHA)).floats()
    rest = c.rest * one.above.shape[1]
    return bool(abs(mpd - claimed) > abs(mpd) * 1e-9 or abs(entropy_over_masks(one) - rest) > 1e-9)


def _grow_search(c: Formulas) -> Evidence:
    """A smaller p has a greater MPD and a smaller entropy; slopes and limits."""

    def violated(two: Two) -> bool:
        case, less = two.case, two.case._replace(keep=two.lower)
        if mpd_over_masks(less) <= mpd_over_masks(case):
            return True
        one = case.floats()
        taken, more = (lowered_log(one.above, float(p), one.alpha) for p in (one.keep, less.keep))
        return bool((more <= taken).any()) or _slopes_wrong(one, c) or _limits_wrong(case, c)

    compared = "MPD_B and CE_B at two p over all masks; slopes; limits at p = 10⁻⁴⁰"
    return search(compared, pairs_of_keep(), violated, Two.shown)


D8 = stated(
    "D8",
    Formulas(inverse_slope, log_slope, limit_mpd, rest=0.0),
    {
        "power": ("(above**2)", "above"),
        "squared": (" ** 2)", ")"),
        "unit": ("u = 1 +", "u = 2 +"),
        "spread": ("= 2 * mean_variance", "= mean_variance"),
        "rest": 0.5,
    },
    (_grow_symbolic, _grow_sampled, _grow_search),
)


# --- D9, a lower bound without the variances ------------------------------------------------------


def dropout_bound(case: Dropout) -> Any:
    """Equation 8's right side."""
    squares = (case.mean - average(case.mean, 0)) ** 2
    return (1 - case.keep) / case.alpha * squares.sum() / len(squares)


def surplus(case: Dropout) -> Any:
    """What MPD under dropout exceeds equation 8 by: two terms, neither negative."""
    kept = case.keep**2 / (case.above + case.keep * case.alpha)
    inverse = (1 - case.keep) / case.alpha + kept
    distant = average(case.distances * kept[None], 0, 1)
    return (distant + average(case.variance, 0) * average(inverse, 0) - 1).sum() / 2


def _floor_symbolic(c: Formulas) -> Evidence:
    """Two points of one variance: definition minus bound, in terms that are visibly positive."""
    v, _, u, _, alpha, two = _symbols()
    delta = two.mean[1, 0]
    distant = delta**2 / (4 * (1 + u) * (v * (1 + u) + alpha))
    crossed = v**2 * u / (2 * alpha * (alpha + v * (1 + u)))
    gap = mpd_over_masks(two) - c.dropout_bound(two)
    return equal(
        "surplus of two points over the bound, two positive terms", (gap, distant + crossed)
    )


def _floor_sampled(c: Formulas) -> Evidence:
    random, case = some_dropout(10)
    pair = c.dropout_bound(case) + surplus(case), pair_ratios(random, case)
    return sampled("bound plus surplus against the mean log-ratio, nats", pair)


def _floor_search(c: Formulas) -> Evidence:
    """MPD at or below the bound, unless nothing varies at all."""

    def violated(case: Dropout) -> bool:
        if case.keep == 1:
            return False
        gap = mpd_over_masks(case) - (c.dropout_bound(case) if len(case.mean) > 1 else 0)
        varies = bool((case.above > 0).any() or (case.mean != case.mean[0]).any())
        return bool(gap < 0 or (gap > 0) != varies or gap != surplus(case))

    return search_all(violated, "MPD_B at or below the bound, over all masks (exact fractions)")


D9 = stated(
    "D9",
    Formulas(dropout_bound),
    {
        "whole": ("(1 - case.keep)", "(Fraction(9, 8) - case.keep)"),
        "power": ("/ case.alpha", "/ case.alpha**2"),
        "ddof": ("/ len(squares)", "/ (len(squares) - 1)"),
    },
    (_floor_symbolic, _floor_sampled, _floor_search),
)

STATEMENTS = (D4b, D5, D6, D7, D8, D9)
