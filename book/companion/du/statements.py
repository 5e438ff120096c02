"""DU-VAE: the statements of Shen et al. 2021 on diversity and uncertainty.

Notation: x is uniform on N points, q_i = N(mu_i, diag sigma_i^2), D dimensions, nats.
Where no logarithm is left, searches draw fractions and compare without rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import sympy
from hypothesis import strategies as st

from companion.claims import formulas as f
from companion.claims.formulas import Array, average, log_gaussian
from companion.claims.mixtures import gaussian_kl
from companion.claims.statements import Evidence, Formulas, equal, sampled, search, stated

__all__ = ["STATEMENTS"]

SAMPLES = 200_000


# --- what the checks share ------------------------------------------------------------------------


@st.composite
def posteriors(draw: st.DrawFn) -> tuple[Array, Array]:
    """Means and variances, each (N, D), with magnitudes far apart; N up to 6, D up to 4."""
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    scale = 10.0 ** draw(st.integers(-3, 3))
    mean = f.integers(draw, -8, 8, shape)
    return scale * mean / 8.0, np.exp2(f.integers(draw, -4, 3, shape))


def words(values: Array) -> str:
    """An array in words; fractions stay fractions."""
    rows = ("[" + ", ".join(str(value) for value in row) + "]" for row in np.atleast_2d(values))
    return f"[{', '.join(rows)}]"


def shown(case: tuple[Array, Array]) -> str:
    """Means and variances in words."""
    return f"means {words(case[0])}, variances {words(case[1])}"


def mean_variance(mean: Array, ddof: Any = 0) -> Any:
    """Sum over dimensions of the variance of the means over the points."""
    return ((mean - average(mean, 0)) ** 2).sum() / (len(mean) - ddof)


def log_density(z: Array, mean: Array, variance: Array) -> Array:
    """log N(z; mean, diag variance), all (n, D), to (n,)."""
    return np.asarray(log_gaussian(z, mean, variance).sum(-1))


def log_ratio(
    random: np.random.Generator, mean1: Array, variance1: Array, mean2: Array, variance2: Array
) -> Array:
    """log q_1(z) - log q_2(z) at a z from q_1, whose expectation is KL(q_1 || q_2)."""
    z = f.gaussian(random, mean1, variance1)
    return log_density(z, mean1, variance1) - log_density(z, mean2, variance2)


def pair_ratios(random: np.random.Generator, mean: Array, variance: Array) -> Array:
    """The same for random pairs of points, whose expectation is MPD."""
    i, j = random.integers(0, len(mean), (2, SAMPLES))
    return log_ratio(random, mean[i], variance[i], mean[j], variance[j])


def some_posteriors(random: np.random.Generator) -> tuple[Array, Array]:
    """Five posteriors in three dimensions, for sampling."""
    return random.normal(size=(5, 3)), random.uniform(0.3, 1.5, (5, 3))


# --- D1, the definition of MPD --------------------------------------------------------------------


def pairwise_kl(mean: Array, variance: Array) -> Array:
    """KL(q_i || q_j) for all pairs, (N, N)."""
    pairs = mean[:, None], variance[:, None], mean[None], variance[None]
    return np.asarray(gaussian_kl(*pairs).sum(-1))


def pairwise_mpd(mean: Array, variance: Array) -> float:
    """The definition: the average KL over all ordered pairs, O(N^2 D)."""
    return float(pairwise_kl(mean, variance).mean())


def weighted(forth: Any, back: Any, weight: Any) -> Any:
    """Each pair's two directions, weighted; the weights add up to 1."""
    return weight * forth + (1 - weight) * back


def over_distinct(mpd: Any, points: int) -> Any:
    """The average over pairs of different points."""
    return mpd * points / (points - 1)


def _definition_symbolic(c: Formulas) -> Evidence:
    """Any table of divergences between three points, 0 from a point to itself."""
    table = np.full((3, 3), sympy.S.Zero)
    table[~np.eye(3, dtype=bool)] = sympy.symbols("k:6", real=True)
    weight, mpd = sympy.symbols("w", real=True), average(table, 0, 1)
    both = average(c.weighted(table, table.T, weight), 0, 1)
    distinct = table.sum() / 6, c.over_distinct(mpd, 3)
    compared = "weighted directions, and distinct pairs, for any divergence of 3 points"
    return equal(compared, (both, mpd), distinct)


def _definition_sampled(c: Formulas) -> Evidence:
    random = np.random.default_rng(1)
    mean, variance = some_posteriors(random)
    first, second = random.integers(0, 5, (2, SAMPLES))
    q1, q2 = (mean[first], variance[first]), (mean[second], variance[second])
    forth, back = log_ratio(random, *q1, *q2), log_ratio(random, *q2, *q1)
    other = (first + random.integers(1, 5, SAMPLES)) % 5
    distinct = log_ratio(random, *q1, mean[other], variance[other])
    mpd = pairwise_mpd(mean, variance)
    return sampled(
        "mean of half of each direction, and of distinct pairs, nats",
        (mpd, c.weighted(forth, back, 0.5)),
        (c.over_distinct(mpd, 5), distinct),
    )


def _definition_search(c: Formulas) -> Evidence:
    """Any weight between the directions; distinct pairs where there are two points."""

    def violated(case: tuple[tuple[Array, Array], int]) -> bool:
        table, points = pairwise_kl(*case[0]), len(case[0][0])
        mpd = table.mean()
        slack = 1e-9 * (1.0 + mpd)
        if abs(c.weighted(table, table.T, case[1] / 4.0).mean() - mpd) > slack:
            return True
        if points == 1:
            return False
        distinct = table[~np.eye(points, dtype=bool)].mean()
        return bool(abs(distinct - c.over_distinct(mpd, points)) > 2.0 * slack)

    cases = st.tuples(posteriors(), st.integers(0, 4))
    compared = "all pairs, with any weight of the directions"
    return search(compared, cases, violated, lambda q: f"{shown(q[0])}, weight {q[1] / 4}")


D1 = stated(
    "D1",
    Formulas(weighted, over_distinct),
    {"total": ("(1 - weight)", "(0.5 - weight)"), "ddof": ("(points - 1)", "(points - 0)")},
    (_definition_symbolic, _definition_sampled, _definition_search),
)


# --- D2, the closed form of MPD -------------------------------------------------------------------


def closed_mpd(mean: Array, variance: Array) -> Any:
    """The closed form, with a -1 in every dimension."""
    distances = (mean[:, None] - mean[None]) ** 2
    quadratic = average(distances / variance[None], 0, 1)
    crossed = average(variance, 0) * average(1 / variance, 0)
    twice = (quadratic + crossed - 1).sum()
    return twice / 2


def printed_mpd(mean: Array, variance: Array) -> Any:
    """Equation 3 as printed, with a lone -1."""
    return closed_mpd(mean, variance) + (mean.shape[1] - 1) / 2


def _mpd_symbolic(c: Formulas) -> Evidence:
    pairs = []
    for dimensions in (1, 2):
        m = np.array(sympy.symbols(f"m:{2 * dimensions}", real=True)).reshape(2, dimensions)
        v = np.array(sympy.symbols(f"v:{2 * dimensions}", positive=True)).reshape(2, dimensions)
        pairs.append((average(pairwise_kl(m, v), 0, 1), c.closed_mpd(m, v)))
    return equal("average KL of two points' pairs against the closed form, D = 1 and 2", *pairs)


def _mpd_sampled(c: Formulas) -> Evidence:
    random = np.random.default_rng(0)
    q = some_posteriors(random)
    pair = c.closed_mpd(*q), pair_ratios(random, *q)
    return sampled("mean log-ratio over random pairs, nats", pair)


def _mpd_search(c: Formulas) -> Evidence:
    return _all_pairs_against(c.closed_mpd)


def _all_pairs_against(form: Callable[[Array, Array], Any]) -> Evidence:
    compared = "closed form against all pairs"
    return f.agree(compared, posteriors(), lambda q: (pairwise_mpd(*q), form(*q)), shown)


D2 = stated(
    "D2",
    Formulas(closed_mpd),
    {
        "half": ("twice / 2", "twice / 4"),
        "inside": ("- 1).sum()", "- 0).sum()"),
        "lone": ("return twice", "return (twice - 1)"),
    },
    (_mpd_symbolic, _mpd_sampled, _mpd_search),
    functools.partial(_all_pairs_against, printed_mpd),
)


# --- D3, the variance of the means bounds MPD from below ------------------------------------------


def variance_bound(mean: Array, ceiling: Any) -> Any:
    """The lower bound on MPD where no variance exceeds the ceiling."""
    return ((mean - average(mean, 0)) ** 2).sum() / len(mean) / ceiling


def quadratic_mpd(mean: Array, variance: Array) -> Any:
    """The definition in exact arithmetic: all pairs' KLs without their logarithms.

    These cancel, as every pair occurs in both orders.
    """
    m1, v1, m2, v2 = mean[:, None], variance[:, None], mean[None], variance[None]
    return average((v1 + (m1 - m2) ** 2) / v2 - 1, 0, 1).sum() / 2


def _bound_symbolic(c: Formulas) -> Evidence:
    """One pair in one dimension: what its symmetrised KL exceeds the bound by is a sum of squares.

    Averages over pairs turn the squared distance into twice the variance of the means.
    """
    delta, *m = sympy.symbols("delta m1:4", real=True)
    a, b, ceiling = sympy.symbols("a b C", positive=True)
    mean, pair = np.array(m)[:, None], np.array([[0], [delta]])
    both = ((a + delta**2) / b + (b + delta**2) / a - 2) / 4  # the logarithms cancel
    surplus = delta**2 / 4 * (1 / a + 1 / b - 2 / ceiling) + (a - b) ** 2 / (4 * a * b)
    distances = average((mean[:, None] - mean[None]) ** 2, 0, 1).sum()
    # Var of two points is Δ²/4, and a pair has half of Δ²/C.
    floor = 2 * c.variance_bound(pair, ceiling)
    pairs = (both - floor, surplus), (distances, 2 * c.variance_bound(mean, sympy.Integer(1)))
    return equal("surplus of a pair, two non-negative terms, and E Δ² = 2 Var of 3 points", *pairs)


def _bound_sampled(c: Formulas) -> Evidence:
    """Where every variance is the ceiling, MPD is the bound."""
    random = np.random.default_rng(3)
    mean, variance = random.normal(size=(5, 3)), np.full((5, 3), 0.6)
    pair = c.variance_bound(mean, 0.6), pair_ratios(random, mean, variance)
    return sampled("the bound against the mean log-ratio at σ² = C, nats", pair)


class Capped(NamedTuple):
    """Posteriors whose variances do not exceed a ceiling."""

    mean: Array  # (N, D)
    variance: Array  # (N, D)
    ceiling: Any

    def shown(self) -> str:
        """In words."""
        return f"{shown((self.mean, self.variance))}, C = {self.ceiling}"

    def is_tight(self) -> bool:
        """Whether each dimension has one variance, which is the ceiling where the means differ."""
        same, still = ((a == a[0]).all(0) for a in (self.variance, self.mean))
        return bool((same & (still | (self.variance[0] == self.ceiling))).all())


@st.composite
def capped(draw: st.DrawFn) -> Capped:
    """Up to 3 points in up to 2 dimensions, in fractions."""
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    ceiling = Fraction(2) ** draw(st.integers(-3, 3))
    to_fractions = np.vectorize(Fraction, otypes=[object])
    mean = to_fractions(f.integers(draw, -4, 4, shape))
    return Capped(mean, ceiling / to_fractions(f.integers(draw, 1, 8, shape)), ceiling)


def _bound_search(c: Formulas) -> Evidence:
    """MPD below the bound, or equal to it elsewhere than the statement says."""

    def violated(case: Capped) -> bool:
        mpd = quadratic_mpd(case.mean, case.variance)
        bound = c.variance_bound(case.mean, case.ceiling) if len(case.mean) > 1 else 0
        return bool(mpd < bound or (mpd == bound) != case.is_tight())

    compared = "MPD below the bound, or equal without σ² = C (exact fractions)"
    return search(compared, capped(), violated, Capped.shown)


def _bound_strict() -> Evidence:
    """A strict inequality wherever the means differ."""

    def violated(case: Capped) -> bool:
        bound = mean_variance(case.mean) / case.ceiling
        return bool(bound > 0 and quadratic_mpd(case.mean, case.variance) <= bound)

    compared = "MPD above the bound by more than 0, where means differ"
    return search(compared, capped(), violated, Capped.shown)


D3 = stated(
    "D3",
    Formulas(variance_bound),
    {
        "numerator": ("return", "return 9 / Fraction(8) *"),
        "power": ("/ ceiling", "/ ceiling**2"),
        "ddof": ("/ len(mean)", "/ (len(mean) - 1)"),
    },
    (_bound_symbolic, _bound_sampled, _bound_search),
    _bound_strict,
)


# --- D4, the conditional entropy and the noise ----------------------------------------------------


def entropy(variance: Any, m: Any = np) -> Any:
    """Of one dimension, nats; ``m`` is numpy or sympy."""
    return m.log(2 * m.pi * m.exp(1)) / 2 + m.log(variance) / 2


def conditional_entropy(variance: Array) -> float:
    """Average over points of the sum over dimensions (equation 5)."""
    return float(entropy(variance).sum(-1).mean())


def noise(m: Any = np) -> Any:
    """Variance of the noise."""
    return 1 / (m.pi * m.exp(1) * 2)


@functools.lru_cache(maxsize=1)
def _entropy_integral() -> tuple[sympy.Symbol, sympy.Expr]:
    """-∫ q log q of a Gaussian with variance v."""
    z, v = sympy.symbols("z", real=True), sympy.symbols("v", positive=True)
    surprise = z**2 / (2 * v) + sympy.log(2 * sympy.pi * v) / 2
    density = sympy.exp(-(z**2) / (2 * v)) / sympy.sqrt(2 * sympy.pi * v)
    integral = sympy.integrate(sympy.expand(density * surprise), (z, -sympy.oo, sympy.oo))
    return v, sympy.expand_log(sympy.simplify(integral))


def _entropy_symbolic(c: Formulas) -> Evidence:
    v, integral = _entropy_integral()
    closed = sympy.expand_log(c.entropy(v, sympy))
    at_noise = sympy.expand_log(integral.subs(v, c.noise(sympy)), force=True)
    compared = "−∫ q log q against the closed form, and 0 at α"
    return equal(compared, (integral, closed), (at_noise, 0))


def _entropy_sampled(c: Formulas) -> Evidence:
    random = np.random.default_rng(4)
    mean, variance = some_posteriors(random)
    point = random.integers(0, 5, SAMPLES)
    z = f.gaussian(random, mean[point], variance[point])
    alpha = np.full((SAMPLES, 1), c.noise())
    epsilon = f.gaussian(random, 0.0 * alpha, alpha)
    exact, surprise = c.entropy(variance), -log_density(z, mean[point], variance[point])
    return sampled(
        "mean of −log q(z) over points, and of the noise against 0, nats",
        (float(exact.sum(-1).mean()), surprise),
        (0.0, -log_density(epsilon, 0.0 * alpha, alpha)),
    )


def quadrature_entropy(variance: Array) -> Array:
    """-E log q by quadrature, which is exact for the square in it."""
    return np.asarray(
        f.expected(lambda z: -log_gaussian(z, 0.0, variance[..., None]), 0.0, variance)
    )


def _entropy_search(c: Formulas) -> Evidence:
    """Closed form against quadrature; with noise no entropy is 0 or less."""

    def violated(case: tuple[Array, Array]) -> bool:
        variance = 1e-3 * case[1]
        exact = quadrature_entropy(variance).sum(-1).mean()
        wrong = abs(exact - c.entropy(variance).sum(-1).mean()) > 1e-9 * (1.0 + abs(exact))
        return bool(wrong or (quadrature_entropy(variance + c.noise()) <= 0.0).any())

    compared = "quadrature against the closed form, H > 0 with noise"
    return search(compared, posteriors(), violated, shown)


D4 = stated(
    "D4",
    Formulas(entropy, noise),
    {
        "half": ("m.exp(1)) / 2 +", "m.exp(1)) +"),
        "half_log": ("m.log(variance) / 2", "m.log(variance)"),
        "two": ("m.log(2 *", "m.log(1 *"),
        "exponent": ("m.exp(1)) /", "m.sqrt(m.exp(1))) /"),
        "alpha_two": ("* 2)", "* 4)"),
        "alpha_exponent": ("m.exp(1) *", "m.exp(2) *"),
    },
    (_entropy_symbolic, _entropy_sampled, _entropy_search),
)

STATEMENTS = (D1, D2, D3, D4)
