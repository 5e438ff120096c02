"""DU-VAE: the statements of Shen et al. 2021 on variance dropout (proposition 1, equation 8).

Dropout (equation 6) keeps what a variance has above alpha with probability p and divides it by p;
what is dropped is left with the variance alpha.
MPD_B and CE_B are averages over masks, which are independent between points and dimensions.
"""

from __future__ import annotations

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
from companion.claims.formulas import ALPHA, Array, apart, average, logs
from companion.claims.statements import Facts, Formulas, Means, log, stated
from companion.du import statements as du
from companion.du.statements import SAMPLES, quadratic_mpd, quadrature_entropy

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
        whole, dropped = self.above / self.keep + self.alpha, self.above * 0 + self.alpha
        return [(1 - self.keep, dropped), (self.keep, whole)]

    def in_words(self) -> str:
        """In words."""
        return f"{du.in_words(self.mean, self.variance)}, p = {self.keep}, α = {self.alpha}"


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
    mean, variance = du.some_posteriors(random)
    return random, Dropout(mean, variance - ALPHA, 0.8)


def some_points(random: np.random.Generator, case: Dropout) -> tuple[Array, Array]:
    """Means and variances of random points under random masks."""
    point = random.integers(0, len(case.mean), SAMPLES)
    mask = random.uniform(size=(SAMPLES, case.mean.shape[1])) < case.keep
    return case.mean[point], np.where(mask, case.above[point] / case.keep, 0.0) + case.alpha


def pair_ratios(random: np.random.Generator, case: Dropout) -> Array:
    """Log-ratios of random pairs under random masks, whose expectation is MPD_B."""
    return du.log_ratio(random, some_points(random, case), some_points(random, case))


def surprises(random: np.random.Generator, case: Dropout) -> tuple[Array, Array]:
    """-log q(z) under random masks, and the variances."""
    mean, variance = some_points(random, case)
    return -du.log_density(f.gaussian(random, mean, variance), mean, variance), variance


# Variances above alpha, p as 1/(1 + u) so that SymPy knows its range, and alpha.
_V1, _V2, _U, _ALPHA = sympy.symbols("v1 v2 u alpha", positive=True)
_P = 1 / (1 + _U)
_DELTA = sympy.Symbol("delta", real=True)


def _two_points(p: Any) -> Dropout:
    """Two points of one variance in one dimension."""
    return Dropout(np.array([[0 * _V1], [_DELTA]]), np.array([[_V1], [_V1]]), p, _ALPHA)


# --- D4b, what dropout leaves of H > 0 ------------------------------------------------------------


def dropped_entropy_above(above: Any, keep: Any, scale: Any = math.pi * math.e) -> Any:
    """Average entropy over the mask, each point and dimension, at alpha = 1/(2 pi e)."""
    return keep * log(1 + 2 * scale * above / keep) / 2


def chance_of_none(keep: Any, dimensions: int) -> Any:
    """Probability that no dimension is kept."""
    return (1 - keep) ** dimensions


D4b = stated(
    "D4b",
    Formulas(dropped_entropy_above, chance_of_none),
    {
        "half": ("/ keep) / 2", "/ keep)"),
        "one": ("log(1 +", "log(2 +"),
        "alpha_two": ("2 * scale", "scale"),
        "each": ("** dimensions", "** (2 * dimensions)"),
    },
)


@D4b.symbolic
def _(c: Formulas) -> Facts:
    """average entropy, and chance of entropy 0, over the masks of D = 2"""
    scale, entropies, none = 2 * sympy.pi * sympy.E, sympy.S.Zero, sympy.S.Zero
    for mask in itertools.product((0, 1), repeat=2):
        chance = sympy.prod([_P if one else 1 - _P for one in mask])
        variances = [1 / scale + one * v / _P for one, v in zip(mask, (_V1, _V2), strict=True)]
        entropy = sum(sympy.log(sympy.expand(scale * variance)) for variance in variances) / 2
        entropies += chance * entropy
        none += chance if entropy == 0 else 0
    closed = sum(c.dropped_entropy_above(v, _P, scale / 2) for v in (_V1, _V2))
    return (entropies, closed), (none, c.chance_of_none(_P, 2))


@D4b.sampled
def _(c: Formulas) -> Means:
    """mean of −log q(z) under masks, nats, and share of entropies that are 0"""
    random, case = some_dropout(5)
    surprise, variance = surprises(random, case)
    exact = float(c.dropped_entropy_above(case.above, case.keep).sum(-1).mean())
    none = quadrature_entropy(variance).sum(-1) < 1e-9
    return (exact, surprise), (c.chance_of_none(case.keep, 3), none)


class Masked(NamedTuple):
    """One posterior under one mask."""

    above: tuple[float, ...]  # (D,), at least 2^-10
    keep: float
    mask: tuple[bool, ...]  # (D,)

    def entropy(self, mask: tuple[bool, ...]) -> float:
        """Under a mask, nats."""
        above = np.where(mask, np.array(self.above) / self.keep, 0.0)
        return float(quadrature_entropy(above + ALPHA).sum())

    def in_words(self) -> str:
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


@D4b.search(masks(), Masked.in_words)
def _(c: Formulas, case: Masked) -> bool:
    """entropies under all masks, up to 4 dimensions: none negative, 0 for the empty one alone"""
    every = list(itertools.product((False, True), repeat=len(case.above)))
    chance = np.prod(np.where(every, case.keep, 1.0 - case.keep), 1)
    above = np.where(every, np.array(case.above) / case.keep, 0.0)
    values = quadrature_entropy(above + ALPHA).sum(-1)
    none = values < 1e-12
    claimed = c.dropped_entropy_above(np.array(case.above), case.keep).sum()
    empty = c.chance_of_none(case.keep, len(case.above))
    wrong = bool((values < -1e-12).any() or (none == np.any(every, 1)).any())
    return wrong or apart([chance @ values, chance[none].sum()], [claimed, empty])


@D4b.search_printed(masks(), Masked.in_words)
def _(case: Masked) -> bool:
    """H > 0 under a mask"""
    return case.entropy(case.mask) <= 1e-12


# --- D5, dropout keeps the average variance -------------------------------------------------------


def kept_variance(variance: Any, keep: Any, alpha: Any = ALPHA) -> Any:
    """Equation 6 where the mask is 1."""
    return (variance - alpha) / keep + alpha


D5 = stated("D5", Formulas(kept_variance), {"normaliser": ("/ keep", ""), "floor": ("- alpha", "")})


@D5.symbolic
def _(c: Formulas) -> Facts:
    """average over the mask against the variance"""
    variance, p = sympy.symbols("s p", positive=True)
    return [(p * c.kept_variance(variance, p, _ALPHA) + (1 - p) * _ALPHA, variance)]


@D5.sampled
def _(c: Formulas) -> Means:
    """mean of the variance under masks"""
    random, case = some_dropout(6)
    point = random.integers(0, len(case.mean), SAMPLES)
    mask = random.uniform(size=(SAMPLES, 3)) < case.keep
    left = np.where(mask, c.kept_variance(case.variance[point], case.keep), ALPHA)
    return list(zip(case.variance.mean(0).tolist(), left.T, strict=True))


@D5.search(dropouts(), Dropout.in_words)
def _(c: Formulas, case: Dropout) -> bool:
    """average over the mask against the variance (exact fractions)"""
    whole = c.kept_variance(case.variance, case.keep, case.alpha)
    mean = case.keep * whole + (1 - case.keep) * case.alpha
    return bool((mean != case.variance).any())


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


D6 = stated(
    "D6",
    Formulas(inverse_moment, dropped_mpd),
    {
        "half": (".sum() / 2", ".sum() / 4"),
        "whole": ("(1 - keep)", "(2 - keep)"),
        "power": ("keep**2", "keep"),
        "one": ("- 1)", ")"),
    },
)


@D6.symbolic
def _(c: Formulas) -> Facts:
    """E 1/σ̂² over the mask, what dropout adds to 1/σ², and two points' MPD"""
    moment, two = c.inverse_moment(_V1, _P, _ALPHA), _two_points(_P)
    return (
        (moment, (1 - _P) / _ALPHA + _P / (_V1 / _P + _ALPHA)),
        (moment - 1 / (_V1 + _ALPHA), raised_inverse(_V1, _P, _ALPHA)),
        (mpd_over_masks(two), c.dropped_mpd(two)),
    )


@D6.sampled
def _(c: Formulas) -> Means:
    """mean log-ratio over pairs and masks, nats"""
    random, case = some_dropout(7)
    return [(c.dropped_mpd(case), pair_ratios(random, case))]


@D6.search(dropouts(), Dropout.in_words)
def _(c: Formulas, case: Dropout) -> bool:
    """closed form, and MPD_B > MPD unless p = 1 or σ² = α, over all masks (exact fractions)"""
    mpd, before = mpd_over_masks(case), quadratic_mpd(case.mean, case.variance)
    strict = bool(case.keep < 1 and (case.above > 0).any())
    wrong = mpd != c.dropped_mpd(case) or mpd - before != raised_mpd(case)
    return bool(wrong or mpd < before or (mpd > before) != strict)


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


D7 = stated(
    "D7",
    Formulas(log_moment, entropy_of, dropped_entropy),
    {
        "half": ("constant) / 2", "constant) / 4"),
        "whole": ("(1 - keep)", "(2 - keep)"),
        "power": ("above / keep", "above / keep**2"),
    },
)


@D7.symbolic
def _(c: Formulas) -> Facts:
    """E log σ̂² over the mask; what is taken is 0 at v = 0 and grows with v"""
    moment = c.log_moment(_V1, _P, _ALPHA)
    definition = (1 - _P) * sympy.log(_ALPHA) + _P * sympy.log(_ALPHA + _V1 / _P)
    taken, wide = sympy.log(_V1 + _ALPHA) - moment, _ALPHA + _V1 * (1 + _U)
    return (
        (c.entropy_of(moment, 0), definition / 2),
        (taken.subs(_V1, 0), 0),
        (sympy.diff(taken, _V1), _V1 * _U / ((_V1 + _ALPHA) * wide)),
    )


@D7.sampled
def _(c: Formulas) -> Means:
    """mean of −log q(z) under masks, nats"""
    random, case = some_dropout(8)
    return [(c.dropped_entropy(case), surprises(random, case)[0])]


@D7.search(dropouts(), Dropout.in_words)
def _(c: Formulas, case: Dropout) -> bool:
    """closed form, and CE_B < CE unless p = 1 or σ² = α, over both masks"""
    one = case.floats()
    mean, before = entropy_over_masks(one), quadrature_entropy(one.variance).sum(-1).mean()
    taken = 0.5 * lowered_log(one.above, one.keep, one.alpha).sum(-1).mean()
    strict = one.keep < 1.0 and bool((one.above > 0.0).any())
    slack = 1e-11 * (1.0 + abs(before))
    wrong = abs(mean - c.dropped_entropy(one)) > slack or abs(before - mean - taken) > slack
    return bool(wrong or taken < -slack or (taken > 0.0) != strict)


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
    moments = 2 * du.mean_variance(case.mean) + average(case.variance, 0).sum()
    return (moments / case.alpha - case.mean.shape[1]) / 2


D8 = stated(
    "D8",
    Formulas(inverse_slope, log_slope, limit_mpd, rest=0.0),
    {
        "power": ("(above**2)", "above"),
        "squared": (" ** 2)", ")"),
        "unit": ("u = 1 +", "u = 2 +"),
        "spread": ("= 2 * du.mean_variance", "= du.mean_variance"),
        "rest": 0.5,
    },
)


@f.cached
def _slopes_and_limits(p: Any) -> tuple[Any, ...]:
    """Slopes in p of both moments; limits at p = 0 of two points' MPD and of E log variance."""
    inverse = (1 - p) / _ALPHA + p / (_V1 / p + _ALPHA)
    logarithm = (1 - p) * sympy.log(_ALPHA) + p * sympy.log(_ALPHA + _V1 / p)
    mpd = sympy.limit(sympy.cancel(mpd_over_masks(_two_points(p))), p, 0)
    slopes = sympy.diff(inverse, p), logs(sympy.diff(logarithm, p))
    return *slopes, mpd, sympy.limit(logarithm, p, 0)


@D8.symbolic
def _(c: Formulas) -> Facts:
    """slopes of E 1/σ̂² and E log σ̂² in p, and limits at p = 0"""
    p = sympy.Symbol("p", positive=True)
    slope, slope_of_log, mpd, last = _slopes_and_limits(p)
    return (
        (slope, c.inverse_slope(_V1, p, _ALPHA)),
        (slope_of_log, c.log_slope(_V1, p, _ALPHA)),
        (mpd, c.limit_mpd(_two_points(p))),
        (last, sympy.log(_ALPHA) + sympy.Rational(c.rest)),
    )


@D8.sampled
def _(c: Formulas) -> Means:
    """change of 1/σ̂² and of log σ̂² from p = 0.3 to 0.9, same masks, against integrated slopes"""
    random, case = some_dropout(9)
    above, uniform = random.choice(case.above.ravel(), SAMPLES), random.uniform(size=SAMPLES)
    low, high = (ALPHA + np.where(uniform < p, above / p, 0.0) for p in (0.3, 0.9))

    def change(slope: Callable[..., Any]) -> float:
        values = integrate.quad_vec(lambda p: slope(case.above, p, ALPHA), 0.3, 0.9)[0]
        return float(values.mean())

    return (
        (change(c.inverse_slope), 1.0 / high - 1.0 / low),
        (change(c.log_slope), np.log(high) - np.log(low)),
    )


@st.composite
def pairs_of_keep(draw: st.DrawFn) -> tuple[Dropout, Fraction]:
    """As :func:`dropouts` with every variance above alpha and p > 1/100, and a smaller p."""
    case = draw(dropouts())
    percent = draw(st.integers(2, 100))
    above = case.above + (case.above == 0)
    lower = Fraction(draw(st.integers(1, percent - 1)), 100)
    return case._replace(above=above, keep=Fraction(percent, 100)), lower


def _slopes_wrong(c: Formulas, case: Dropout) -> bool:
    """Closed slopes against derivatives of both moments' definitions, by a complex step."""
    above, alpha, p = case.above, case.alpha, case.keep + 1e-30j
    by_step = np.imag((1 - p) / alpha + p / (above / p + alpha)) / 1e-30
    by_log = np.imag(p * np.log1p(above / (p * alpha))) / 1e-30
    inverse, slope = (one(above, case.keep, alpha) for one in (c.inverse_slope, c.log_slope))
    wrong = abs(by_step - inverse) > 1e-9 * abs(by_step)
    # log(1 + t) - t / (1 + t) loses digits where t is small.
    wrong_log = abs(by_log - slope) > 1e-9 * abs(by_log) + 1e-14
    return bool((wrong | wrong_log | (by_step >= 0) | (by_log <= 0)).any())


def _limits_wrong(c: Formulas, case: Dropout) -> bool:
    """Closed limits against all masks at p = 10^-40."""
    last = case._replace(keep=Fraction(1, 10**40))
    mpd, claimed = mpd_over_masks(last), c.limit_mpd(case)
    one = last._replace(alpha=Fraction(ALPHA)).floats()
    rest = c.rest * one.above.shape[1]
    return bool(abs(mpd - claimed) > abs(mpd) * 1e-9 or abs(entropy_over_masks(one) - rest) > 1e-9)


@D8.search(pairs_of_keep(), lambda case, lower: f"{case.in_words()}, against p = {lower}")
def _(c: Formulas, case: Dropout, lower: Fraction) -> bool:
    """MPD_B and CE_B at two p over all masks; slopes; limits at p = 10⁻⁴⁰"""
    if mpd_over_masks(case._replace(keep=lower)) <= mpd_over_masks(case):
        return True
    one = case.floats()
    taken, more = (lowered_log(one.above, p, one.alpha) for p in (one.keep, float(lower)))
    return bool((more <= taken).any()) or _slopes_wrong(c, one) or _limits_wrong(c, case)


# --- D9, a lower bound without the variances ------------------------------------------------------


def dropout_bound(case: Dropout) -> Any:
    """Equation 8's right side."""
    squares = (case.mean - average(case.mean, 0)) ** 2
    return (1 - case.keep) / case.alpha * squares.sum() / len(squares)


def surplus(case: Dropout) -> Any:
    """What MPD under dropout exceeds equation 8 by: two terms, neither negative."""
    whole = case.keep**2 / (case.above + case.keep * case.alpha)
    inverse = (1 - case.keep) / case.alpha + whole
    distant = average(case.distances * whole[None], 0, 1)
    return (distant + average(case.variance, 0) * average(inverse, 0) - 1).sum() / 2


D9 = stated(
    "D9",
    Formulas(dropout_bound),
    {
        "whole": ("(1 - case.keep)", "(Fraction(9, 8) - case.keep)"),
        "power": ("/ case.alpha", "/ case.alpha**2"),
        "ddof": ("/ len(squares)", "/ (len(squares) - 1)"),
    },
)


@D9.symbolic
def _(c: Formulas) -> Facts:
    """surplus of two points over the bound, two positive terms"""
    two, wide = _two_points(_P), _V1 * (1 + _U) + _ALPHA
    distant, crossed = _DELTA**2 / (4 * (1 + _U) * wide), _V1**2 * _U / (2 * _ALPHA * wide)
    return [(mpd_over_masks(two) - c.dropout_bound(two), distant + crossed)]


@D9.sampled
def _(c: Formulas) -> Means:
    """bound plus surplus against the mean log-ratio, nats"""
    random, case = some_dropout(10)
    return [(c.dropout_bound(case) + surplus(case), pair_ratios(random, case))]


@D9.search(dropouts(), Dropout.in_words)
def _(c: Formulas, case: Dropout) -> bool:
    """MPD_B at or below the bound unless nothing varies, over all masks (exact fractions)"""
    if case.keep == 1:
        return False
    gap = mpd_over_masks(case) - (c.dropout_bound(case) if len(case.mean) > 1 else 0)
    varies = bool((case.above > 0).any() or (case.mean != case.mean[0]).any())
    return bool(gap < 0 or (gap > 0) != varies or gap != surplus(case))


STATEMENTS = (D4b, D5, D6, D7, D8, D9)
