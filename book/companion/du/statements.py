"""DU-VAE: the statements of Shen et al. 2021 on diversity and uncertainty.

Notation: x is uniform on N points, q_i = N(mu_i, diag sigma_i^2), D dimensions, nats.
Where no logarithm is left, searches draw fractions and compare without rounding.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import sympy
from hypothesis import strategies as st

from companion.claims import formulas as f
from companion.claims.formulas import Array, apart, average, gaussian_kl, log_gaussian
from companion.claims.statements import Facts, Formulas, Means, stated

SAMPLES = 200_000
Posteriors = tuple[Array, Array]  # means and variances, each (N, D)

# --- what the checks share ------------------------------------------------------------------------


@st.composite
def posteriors(draw: st.DrawFn) -> Posteriors:
    """Posteriors with magnitudes far apart; N up to 6, D up to 4."""
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    scale = 10.0 ** draw(st.integers(-3, 3))
    mean = f.integers(draw, -8, 8, shape)
    return scale * mean / 8.0, np.exp2(f.integers(draw, -4, 3, shape))


def words(values: Array) -> str:
    """An array in words; fractions stay fractions."""
    rows = ("[" + ", ".join(str(value) for value in row) + "]" for row in np.atleast_2d(values))
    return f"[{', '.join(rows)}]"


def in_words(mean: Array, variance: Array) -> str:
    """Posteriors in words."""
    return f"means {words(mean)}, variances {words(variance)}"


def mean_variance(mean: Array, ddof: Any = 0) -> Any:
    """Sum over dimensions of the variance of the means over the points."""
    return ((mean - average(mean, 0)) ** 2).sum() / (len(mean) - ddof)


def log_density(z: Array, mean: Array, variance: Array) -> Array:
    """log N(z; mean, diag variance), all (n, D), to (n,)."""
    return np.asarray(log_gaussian(z, mean, variance).sum(-1))


def log_ratio(random: np.random.Generator, first: Posteriors, second: Posteriors) -> Array:
    """log q_1(z) - log q_2(z) at a z from q_1, whose expectation is KL(q_1 || q_2)."""
    z = f.gaussian(random, *first)
    return log_density(z, *first) - log_density(z, *second)


def pair_ratios(random: np.random.Generator, mean: Array, variance: Array) -> Array:
    """The same for random pairs of points, whose expectation is MPD."""
    i, j = random.integers(0, len(mean), (2, SAMPLES))
    return log_ratio(random, (mean[i], variance[i]), (mean[j], variance[j]))


def some_posteriors(random: np.random.Generator) -> Posteriors:
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


D1 = stated(
    "D1",
    Formulas(weighted, over_distinct),
    {"total": ("(1 - weight)", "(0.5 - weight)"), "ddof": ("(points - 1)", "(points - 0)")},
)


@D1.symbolic
def _(c: Formulas) -> Facts:
    """weighted directions, and distinct pairs, for any divergence of 3 points"""
    table = np.full((3, 3), sympy.S.Zero)  # 0 from a point to itself
    table[~np.eye(3, dtype=bool)] = sympy.symbols("k:6", real=True)
    weight, mpd = sympy.symbols("w", real=True), average(table, 0, 1)
    both = average(c.weighted(table, table.T, weight), 0, 1)
    return (both, mpd), (table.sum() / 6, c.over_distinct(mpd, 3))


@D1.sampled
def _(c: Formulas) -> Means:
    """mean of half of each direction, and of distinct pairs, nats"""
    random = np.random.default_rng(1)
    mean, variance = some_posteriors(random)
    first, second = random.integers(0, 5, (2, SAMPLES))
    other = (first + random.integers(1, 5, SAMPLES)) % 5
    q1, q2, q3 = ((mean[point], variance[point]) for point in (first, second, other))
    forth, back = log_ratio(random, q1, q2), log_ratio(random, q2, q1)
    mpd, distinct = pairwise_mpd(mean, variance), log_ratio(random, q1, q3)
    return (mpd, c.weighted(forth, back, 0.5)), (c.over_distinct(mpd, 5), distinct)


@D1.search(
    st.tuples(posteriors(), f.steps(0, 4, 4)), lambda q, weight: f"{in_words(*q)}, weight {weight}"
)
def _(c: Formulas, q: Posteriors, weight: float) -> bool:
    """all pairs, with any weight of the directions; distinct pairs of two points or more"""
    table, points = pairwise_kl(*q), len(q[0])
    mpd = table.mean()
    if apart(mpd, c.weighted(table, table.T, weight).mean()):
        return True
    distinct = table[~np.eye(points, dtype=bool)]
    return points > 1 and apart(distinct.mean(), c.over_distinct(mpd, points))


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


D2 = stated(
    "D2",
    Formulas(closed_mpd),
    {
        "half": ("twice / 2", "twice / 4"),
        "inside": ("- 1).sum()", "- 0).sum()"),
        "lone": ("return twice", "return (twice - 1)"),
    },
)


@D2.symbolic
def _(c: Formulas) -> Facts:
    """average KL of two points' pairs against the closed form, D = 1 and 2"""
    pairs = []
    for dimensions in (1, 2):
        m = np.array(sympy.symbols(f"m:{2 * dimensions}", real=True)).reshape(2, dimensions)
        v = np.array(sympy.symbols(f"v:{2 * dimensions}", positive=True)).reshape(2, dimensions)
        pairs.append((average(pairwise_kl(m, v), 0, 1), c.closed_mpd(m, v)))
    return pairs


@D2.sampled
def _(c: Formulas) -> Means:
    """mean log-ratio over random pairs, nats"""
    random = np.random.default_rng(0)
    q = some_posteriors(random)
    return [(c.closed_mpd(*q), pair_ratios(random, *q))]


@D2.search(posteriors(), in_words)
def _(c: Formulas, mean: Array, variance: Array) -> bool:
    """closed form against all pairs"""
    return apart(pairwise_mpd(mean, variance), c.closed_mpd(mean, variance))


@D2.search_printed(posteriors(), in_words)
def _(mean: Array, variance: Array) -> bool:
    """form with a lone −1 against all pairs"""
    return apart(pairwise_mpd(mean, variance), printed_mpd(mean, variance))


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


D3 = stated(
    "D3",
    Formulas(variance_bound),
    {
        "numerator": ("return", "return 9 / Fraction(8) *"),
        "power": ("/ ceiling", "/ ceiling**2"),
        "ddof": ("/ len(mean)", "/ (len(mean) - 1)"),
    },
)


@D3.symbolic
def _(c: Formulas) -> Facts:
    """surplus of a pair, two non-negative terms, and E Δ² = 2 Var of 3 points"""
    # Averages over pairs turn the squared distance into twice the variance of the means.
    delta, *m = sympy.symbols("delta m1:4", real=True)
    a, b, ceiling = sympy.symbols("a b C", positive=True)
    mean, pair = np.array(m)[:, None], np.array([[0], [delta]])
    both = ((a + delta**2) / b + (b + delta**2) / a - 2) / 4  # the logarithms cancel
    surplus = delta**2 / 4 * (1 / a + 1 / b - 2 / ceiling) + (a - b) ** 2 / (4 * a * b)
    distances = average((mean[:, None] - mean[None]) ** 2, 0, 1).sum()
    # Var of two points is Δ²/4, and a pair has half of Δ²/C.
    floor = 2 * c.variance_bound(pair, ceiling)
    return (both - floor, surplus), (distances, 2 * c.variance_bound(mean, sympy.Integer(1)))


@D3.sampled
def _(c: Formulas) -> Means:
    """the bound against the mean log-ratio at σ² = C, where they are equal, nats"""
    random = np.random.default_rng(3)
    mean, variance = random.normal(size=(5, 3)), np.full((5, 3), 0.6)
    return [(c.variance_bound(mean, 0.6), pair_ratios(random, mean, variance))]


@st.composite
def capped(draw: st.DrawFn) -> tuple[Array, Array, Fraction]:
    """Up to 3 points in up to 2 dimensions with variances up to a ceiling, in fractions."""
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    ceiling = Fraction(2) ** draw(st.integers(-3, 3))
    to_fractions = np.vectorize(Fraction, otypes=[object])
    mean = to_fractions(f.integers(draw, -4, 4, shape))
    return mean, ceiling / to_fractions(f.integers(draw, 1, 8, shape)), ceiling


def _capped_words(mean: Array, variance: Array, ceiling: Fraction) -> str:
    return f"{in_words(mean, variance)}, C = {ceiling}"


@D3.search(capped(), _capped_words)
def _(c: Formulas, mean: Array, variance: Array, ceiling: Fraction) -> bool:
    """MPD below the bound, or equal without σ² = C (exact fractions)"""
    # They are equal where each dimension has one variance, the ceiling if the means differ.
    mpd = quadratic_mpd(mean, variance)
    bound = c.variance_bound(mean, ceiling) if len(mean) > 1 else 0
    same, still = ((a == a[0]).all(0) for a in (variance, mean))
    tight = bool((same & (still | (variance[0] == ceiling))).all())
    return bool(mpd < bound or (mpd == bound) != tight)


@D3.search_printed(capped(), _capped_words)
def _(mean: Array, variance: Array, ceiling: Fraction) -> bool:
    """MPD above the bound by more than 0, where means differ"""
    bound = mean_variance(mean) / ceiling
    return bool(bound > 0 and quadratic_mpd(mean, variance) <= bound)


# --- D4, the conditional entropy and the noise ----------------------------------------------------


def entropy(variance: Any, m: Any = np) -> Any:
    """Of one dimension, nats; ``m`` is numpy or sympy."""
    return m.log(2 * m.pi * m.exp(1)) / 2 + m.log(variance) / 2


def conditional_entropy(variance: Array) -> float:
    """Average over points of the sum over dimensions (equation 5)."""
    return float(entropy(variance).sum(-1).mean())


def quadrature_entropy(variance: Array) -> Array:
    """-E log q by quadrature, which is exact for the square in it."""
    own = variance[..., None]
    return np.asarray(f.expected(lambda z: -log_gaussian(z, 0.0, own), 0.0, variance))


def noise(m: Any = np) -> Any:
    """Variance of the noise."""
    return 1 / (m.pi * m.exp(1) * 2)


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
)


@D4.symbolic
def _(c: Formulas) -> Facts:
    """−∫ q log q against the closed form, and 0 at α"""
    z, v = sympy.symbols("z", real=True), sympy.symbols("v", positive=True)
    surprise = z**2 / (2 * v) + sympy.log(2 * sympy.pi * v) / 2
    exact = f.logs(f.integral(sympy.expand(f.bell(z, 0, v) * surprise), z))
    return (exact, f.logs(c.entropy(v, sympy))), (f.logs(exact.subs(v, c.noise(sympy))), 0)


@D4.sampled
def _(c: Formulas) -> Means:
    """mean of −log q(z) over points, and of the noise against 0, nats"""
    random = np.random.default_rng(4)
    mean, variance = some_posteriors(random)
    point = random.integers(0, 5, SAMPLES)
    z = f.gaussian(random, mean[point], variance[point])
    epsilon = f.gaussian(random, 0.0, c.noise(), SAMPLES)
    return (
        (float(c.entropy(variance).sum(-1).mean()), -log_density(z, mean[point], variance[point])),
        (0.0, -log_gaussian(epsilon, 0.0, c.noise())),
    )


@D4.search(posteriors(), in_words)
def _(c: Formulas, _mean: Array, variance: Array) -> bool:
    """quadrature against the closed form for a thousandth of the variances, H > 0 with noise"""
    small = 1e-3 * variance
    wrong = apart(quadrature_entropy(small).sum(-1).mean(), c.entropy(small).sum(-1).mean())
    return wrong or bool((quadrature_entropy(small + c.noise()) <= 0.0).any())


STATEMENTS = (D1, D2, D3, D4)
