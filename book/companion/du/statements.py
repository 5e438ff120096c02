"""DU-VAE: the statements of Shen et al. 2021 on diversity and uncertainty.

Notation: x is uniform on N points, q_i = N(mu_i, diag sigma_i^2), D dimensions, nats.
Variance dropout is in :mod:`du_dropout`.

Where no logarithm is left, searches draw fractions and compare without rounding.
Arrays of :class:`fractions.Fraction` and of SymPy symbols therefore pass through the same closed
forms as arrays of floats.
"""

from __future__ import annotations

import functools
import itertools
import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy.typing import NDArray

from companion.claims.statements import Constants, Evidence, Statement, equal, sampled, search

__all__ = ["STATEMENTS"]

Array = NDArray[Any]  # floats, fractions or symbols

_SAMPLES = 200_000


# --- what the checks share ------------------------------------------------------------------------


@st.composite
def posteriors(draw: st.DrawFn, points: int = 6, dimensions: int = 4) -> tuple[Array, Array]:
    """Means and variances, each (N, D), with magnitudes far apart."""
    shape = draw(st.integers(1, points)), draw(st.integers(1, dimensions))
    size = shape[0] * shape[1]
    scale = 10.0 ** draw(st.integers(-3, 3))
    mean = draw(st.lists(st.integers(-8, 8), min_size=size, max_size=size))
    power = draw(st.lists(st.integers(-4, 3), min_size=size, max_size=size))
    return scale * np.reshape(mean, shape) / 8.0, np.exp2(np.reshape(power, shape).astype(float))


def exactly(c: Constants) -> Constants:
    """The constants as fractions."""
    return {name: Fraction(value) for name, value in c.items()}  # type: ignore[misc]


def symbolic(c: Constants) -> Constants:
    """The constants as SymPy rationals."""
    return {name: sympy.Rational(value) for name, value in c.items()}


def words(values: Array) -> str:
    """An array in words; fractions stay fractions."""
    rows = ("[" + ", ".join(str(value) for value in row) + "]" for row in np.atleast_2d(values))
    return f"[{', '.join(rows)}]"


def shown(case: tuple[Array, Array]) -> str:
    """Means and variances in words."""
    return f"means {words(case[0])}, variances {words(case[1])}"


def average(values: Array, *axes: int) -> Any:
    """Mean over axes, of fractions and symbols too."""
    return values.sum(axes) / math.prod(values.shape[axis] for axis in axes)


def mean_variance(mean: Array, ddof: Any = 0) -> Any:
    """Sum over dimensions of the variance of the means over the points."""
    centred = mean - average(mean, 0)
    return (centred**2).sum() / (len(mean) - ddof)


def log_density(z: Array, mean: Array, variance: Array) -> Array:
    """log N(z; mean, diag variance), all (n, D), to (n,)."""
    distance = (z - mean) ** 2 / variance
    return np.asarray(-0.5 * (distance + np.log(2.0 * math.pi * variance)).sum(-1))


def log_ratio(
    random: np.random.Generator, mean1: Array, variance1: Array, mean2: Array, variance2: Array
) -> Array:
    """log q_1(z) - log q_2(z) at a z from q_1, whose expectation is KL(q_1 || q_2)."""
    z = mean1 + np.sqrt(variance1) * random.normal(size=mean1.shape)
    return log_density(z, mean1, variance1) - log_density(z, mean2, variance2)


def some_posteriors(random: np.random.Generator) -> tuple[Array, Array]:
    """Five posteriors in three dimensions, for sampling."""
    return random.normal(size=(5, 3)), random.uniform(0.3, 1.5, (5, 3))


# --- D1, the definition of MPD --------------------------------------------------------------------


def pairwise_kl(mean: Array, variance: Array) -> Array:
    """KL(q_i || q_j) for all pairs, (N, N)."""
    m1, v1, m2, v2 = mean[:, None], variance[:, None], mean[None], variance[None]
    kl = 0.5 * ((v1 + (m1 - m2) ** 2) / v2 - 1.0 - np.log(v1 / v2))
    return np.asarray(kl.sum(-1))


def pairwise_mpd(mean: Array, variance: Array) -> float:
    """The definition: the average KL over all ordered pairs, O(N^2 D)."""
    return float(pairwise_kl(mean, variance).mean())


def weighted(table: Array, weight: Any, c: Constants) -> Array:
    """Each pair's two directions, weighted; the weights add up to the constant."""
    return np.asarray(weight * table + (c["total"] - weight) * table.T)


def _definition_symbolic(c: Constants) -> Evidence:
    """Any table of divergences between three points, 0 from a point to itself."""
    names = sympy.symbols("k:6", real=True)
    table = np.full((3, 3), sympy.S.Zero)
    table[~np.eye(3, dtype=bool)] = names
    weight, c = sympy.symbols("w", real=True), symbolic(c)
    mpd, apart = average(table, 0, 1), table.sum() / 6
    both = average(weighted(table, weight, c), 0, 1)
    pairs = (both, mpd), (apart, mpd * 3 / (3 - c["ddof"]))
    return equal("weighted directions, and distinct pairs, for any divergence of 3 points", *pairs)


def _definition_sampled(c: Constants) -> Evidence:
    """Random pairs, half of each direction; and pairs of different points."""
    random = np.random.default_rng(1)
    mean, variance = some_posteriors(random)
    points = len(mean)
    first, second = random.integers(0, points, (2, _SAMPLES))
    q1, q2 = (mean[first], variance[first]), (mean[second], variance[second])
    forth, back = log_ratio(random, *q1, *q2), log_ratio(random, *q2, *q1)
    other = (first + random.integers(1, points, _SAMPLES)) % points
    apart = log_ratio(random, *q1, mean[other], variance[other])
    mpd = pairwise_mpd(mean, variance)
    return sampled(
        "mean of half of each direction, and of distinct pairs, nats",
        (mpd, 0.5 * forth + (c["total"] - 0.5) * back),
        (mpd * points / (points - c["ddof"]), apart),
    )


def _definition_violated(c: Constants) -> Evidence:
    """Any weight between the directions; distinct pairs where there are two points."""

    def violated(case: tuple[tuple[Array, Array], int]) -> bool:
        table, points = pairwise_kl(*case[0]), len(case[0][0])
        slack = 1e-9 * (1.0 + table.mean())
        if abs(weighted(table, case[1] / 4.0, c).mean() - table.mean()) > slack:
            return True
        if points == 1:
            return False
        apart = table[~np.eye(points, dtype=bool)].mean()
        return bool(abs(apart - table.mean() * points / (points - c["ddof"])) > 2.0 * slack)

    def told(case: tuple[tuple[Array, Array], int]) -> str:
        return f"{shown(case[0])}, weight {case[1] / 4}"

    cases = st.tuples(posteriors(), st.integers(0, 4))
    return search("all pairs, with any weight of the directions", cases, violated, told)


D1 = Statement(
    id="D1",
    name="definition of the mutual posterior divergence",
    paper="DU-VAE, equation 2",
    item="du-eq3",
    claim="MPD is E KL(q₁‖q₂) over i.i.d. pairs, however the two directions are weighted; "
    "over distinct pairs it is N/(N − 1) times that.",
    constants={"total": 1.0, "ddof": 1.0},
    wrong={"total": 0.5, "ddof": 0.0},
    checks=(_definition_symbolic, _definition_sampled, _definition_violated),
)


# --- D2, the closed form of MPD -------------------------------------------------------------------


def closed_mpd(mean: Array, variance: Array, c: Constants) -> Any:
    """The closed form, with the constant of each dimension and a lone one."""
    apart = (mean[:, None] - mean[None]) ** 2
    quadratic = average(apart / variance[None], 0, 1)
    crossed = average(variance, 0) * average(1 / variance, 0)
    return c["half"] * ((quadratic + crossed - c["inside"]).sum() - c["lone"])


def _mpd_symbolic(c: Constants) -> Evidence:
    """Two points in one dimension, and in two: the average of the four KLs."""
    found = []
    for dimensions in (1, 2):
        m = np.array(sympy.symbols(f"m:{2 * dimensions}", real=True)).reshape(2, dimensions)
        v = np.array(sympy.symbols(f"v:{2 * dimensions}", positive=True)).reshape(2, dimensions)
        definition = sympy.S.Zero
        for i, j, d in itertools.product(range(2), range(2), range(dimensions)):
            logs = sympy.log(v[i, d]) - sympy.log(v[j, d])
            definition += ((v[i, d] + (m[i, d] - m[j, d]) ** 2) / v[j, d] - 1 - logs) / 8
        found.append((definition, closed_mpd(m, v, symbolic(c))))
    return equal("average KL of two points' pairs against the closed form, D = 1 and 2", *found)


def _mpd_sampled(c: Constants) -> Evidence:
    """Random pairs and random z: log q_1(z) - log q_2(z) with z from q_1."""
    random = np.random.default_rng(0)
    mean, variance = some_posteriors(random)
    first, second = random.integers(0, len(mean), (2, _SAMPLES))
    draws = log_ratio(random, mean[first], variance[first], mean[second], variance[second])
    return sampled("mean log-ratio over random pairs, nats", (closed_mpd(mean, variance, c), draws))


def _mpd_violated(c: Constants) -> Evidence:
    """Definition against closed form, whatever the magnitudes."""

    def violated(case: tuple[Array, Array]) -> bool:
        exact, claimed = pairwise_mpd(*case), closed_mpd(*case, c)
        return bool(abs(exact - claimed) > 1e-9 * (1.0 + abs(exact)))

    return search("closed form against all pairs", posteriors(), violated, shown)


D2 = Statement(
    id="D2",
    name="closed form of the mutual posterior divergence",
    paper="DU-VAE, equation 3",
    item="du-eq3",
    claim="2 MPD is the sum over dimensions of E[Δ²/σ²] + E[σ²] E[1/σ²] − 1, over i.i.d. pairs.",
    constants={"half": 0.5, "inside": 1.0, "lone": 0.0},
    wrong={"half": 0.25, "inside": 0.0, "lone": 1.0},
    checks=(_mpd_symbolic, _mpd_sampled, _mpd_violated),
    printed=lambda: _mpd_violated({"half": 0.5, "inside": 0.0, "lone": 1.0}),
)


# --- D3, the variance of the means bounds MPD from below ------------------------------------------


def variance_bound(mean: Array, ceiling: Any, c: Constants) -> Any:
    """The lower bound on MPD where no variance exceeds the ceiling."""
    return c["numerator"] * mean_variance(mean, c["ddof"]) / ceiling ** c["power"]


def quadratic_mpd(mean: Array, variance: Array) -> Any:
    """The definition in exact arithmetic: all pairs' KLs without their logarithms.

    These cancel, as every pair occurs in both orders.
    """
    m1, v1, m2, v2 = mean[:, None], variance[:, None], mean[None], variance[None]
    return average((v1 + (m1 - m2) ** 2) / v2 - 1, 0, 1).sum() / 2


def _bound_symbolic(c: Constants) -> Evidence:
    """One pair in one dimension: what its symmetrised KL exceeds the bound by is a sum of squares.

    Averages over pairs turn the squared distance into twice the variance of the means.
    """
    delta, m1, m2, m3 = sympy.symbols("delta m1:4", real=True)
    a, b, ceiling = sympy.symbols("a b C", positive=True)
    c = symbolic(c)
    both = ((a + delta**2) / b + (b + delta**2) / a - 2) / 4  # the logarithms cancel
    floor = c["numerator"] * delta**2 / (2 * ceiling ** c["power"])
    surplus = delta**2 / 4 * ((1 / a - 1 / ceiling) + (1 / b - 1 / ceiling)) + (a - b) ** 2 / (
        4 * a * b
    )
    mean = np.array([[m1], [m2], [m3]])
    apart = average((mean[:, None] - mean[None]) ** 2, 0, 1).sum()
    pairs = (both - floor, surplus), (apart, 2 * mean_variance(mean, c["ddof"]))
    return equal("surplus of a pair, two non-negative terms, and E Δ² = 2 Var of 3 points", *pairs)


def _bound_sampled(c: Constants) -> Evidence:
    """Where every variance is the ceiling, MPD is the bound."""
    random = np.random.default_rng(3)
    mean, variance = random.normal(size=(5, 3)), np.full((5, 3), 0.6)
    first, second = random.integers(0, 5, (2, _SAMPLES))
    draws = log_ratio(random, mean[first], variance[first], mean[second], variance[second])
    exact = variance_bound(mean, 0.6, c)
    return sampled("the bound against the mean log-ratio at σ² = C, nats", (exact, draws))


class Capped(NamedTuple):
    """Posteriors whose variances do not exceed a ceiling."""

    mean: Array  # (N, D)
    variance: Array  # (N, D)
    ceiling: Any

    def told(self) -> str:
        """In words."""
        return f"{shown((self.mean, self.variance))}, C = {self.ceiling}"


@st.composite
def capped(draw: st.DrawFn) -> Capped:
    """Up to 3 points in up to 2 dimensions, in fractions."""
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    size = shape[0] * shape[1]
    ceiling = Fraction(2) ** draw(st.integers(-3, 3))
    means = draw(st.lists(st.integers(-4, 4).map(Fraction), min_size=size, max_size=size))
    parts = draw(st.lists(st.integers(1, 8).map(Fraction), min_size=size, max_size=size))
    variance = ceiling / np.array(parts).reshape(shape)
    return Capped(np.array(means).reshape(shape), variance, ceiling)


def is_tight(case: Capped) -> bool:
    """Whether each dimension has one variance, which is the ceiling where the means differ."""
    same = (case.variance == case.variance[0]).all(0)
    still = (case.mean == case.mean[0]).all(0)
    return bool((same & (still | (case.variance[0] == case.ceiling))).all())


def _bound_violated(c: Constants) -> Evidence:
    """MPD below the bound, or equal to it elsewhere than the statement says."""
    exact = exactly(c)

    def violated(case: Capped) -> bool:
        mpd = quadratic_mpd(case.mean, case.variance)
        bound = variance_bound(case.mean, case.ceiling, exact) if len(case.mean) > 1 else 0
        return bool(mpd < bound or (mpd == bound) != is_tight(case))

    compared = "MPD below the bound, or equal without σ² = C (exact fractions)"
    return search(compared, capped(), violated, Capped.told)


def _bound_strict() -> Evidence:
    """A strict inequality wherever the means differ."""

    def violated(case: Capped) -> bool:
        bound = mean_variance(case.mean) / case.ceiling
        return bool(bound > 0 and quadratic_mpd(case.mean, case.variance) <= bound)

    compared = "MPD above the bound by more than 0, where means differ"
    return search(compared, capped(), violated, Capped.told)


D3 = Statement(
    id="D3",
    name="the variance of the means bounds MPD from below",
    paper="DU-VAE, below equation 3",
    item="du-mpd-bound",
    claim="If every σ² ≤ C, then MPD ≥ (1/C) Σ Var[μ]; equal where each σ² is constant, and C "
    "where means differ.",
    constants={"numerator": 1.0, "power": 1.0, "ddof": 0.0},
    wrong={"numerator": 1.125, "power": 2.0, "ddof": 1.0},
    checks=(_bound_symbolic, _bound_sampled, _bound_violated),
    printed=_bound_strict,
)


# --- D4, the conditional entropy and the noise ----------------------------------------------------


def entropy(variance: Any, c: Constants, m: Any = np) -> Any:
    """Of one dimension, nats; ``m`` is numpy or sympy."""
    constant = m.log(c["two"] * m.pi * m.exp(c["exponent"]))
    return c["half"] * constant + c["half_log"] * m.log(variance)


def conditional_entropy(variance: Array, c: Constants) -> float:
    """Average over points of the sum over dimensions (equation 5)."""
    return float(entropy(variance, c).sum(-1).mean())


def noise(c: Constants, m: Any = np) -> Any:
    """Variance of the noise."""
    return 1 / (c["alpha_two"] * m.pi * m.exp(c["alpha_exponent"]))


@functools.lru_cache(maxsize=1)
def _entropy_integral() -> tuple[sympy.Symbol, sympy.Expr]:
    """-∫ q log q of a Gaussian with variance v."""
    z, v = sympy.symbols("z", real=True), sympy.symbols("v", positive=True)
    surprise = z**2 / (2 * v) + sympy.log(2 * sympy.pi * v) / 2
    density = sympy.exp(-(z**2) / (2 * v)) / sympy.sqrt(2 * sympy.pi * v)
    found = sympy.integrate(sympy.expand(density * surprise), (z, -sympy.oo, sympy.oo))
    return v, sympy.expand_log(sympy.simplify(found))


def _entropy_symbolic(c: Constants) -> Evidence:
    """The integral, and the same at the variance of the noise."""
    v, integral = _entropy_integral()
    c = symbolic(c)
    closed = sympy.expand_log(entropy(v, c, sympy))
    at_noise = sympy.expand_log(integral.subs(v, noise(c, sympy)), force=True)
    return equal(
        "−∫ q log q against the closed form, and 0 at α", (integral, closed), (at_noise, 0)
    )


def _entropy_sampled(c: Constants) -> Evidence:
    """-log q(z) at z of q, over points, and of the noise alone."""
    random = np.random.default_rng(4)
    mean, variance = some_posteriors(random)
    point = random.integers(0, len(mean), _SAMPLES)
    z = mean[point] + np.sqrt(variance[point]) * random.normal(size=(_SAMPLES, 3))
    alpha = np.full((_SAMPLES, 1), noise(c))
    epsilon = np.sqrt(alpha) * random.normal(size=alpha.shape)
    return sampled(
        "mean of −log q(z) over points, and of the noise against 0, nats",
        (conditional_entropy(variance, c), -log_density(z, mean[point], variance[point])),
        (0.0, -log_density(epsilon, np.zeros_like(alpha), alpha)),
    )


def quadrature_entropy(variance: Array) -> Array:
    """-E log q by Gauss-Hermite quadrature, which is exact for the square in it."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    z = np.sqrt(variance)[..., None] * nodes
    surprise = 0.5 * (z**2 / variance[..., None] + np.log(2.0 * math.pi * variance[..., None]))
    return np.asarray((surprise * weights / weights.sum()).sum(-1))


def _entropy_violated(c: Constants) -> Evidence:
    """Closed form against quadrature; with noise no entropy is 0 or less."""

    def violated(case: tuple[Array, Array]) -> bool:
        variance = 1e-3 * case[1]
        exact = quadrature_entropy(variance).sum(-1).mean()
        noisy = quadrature_entropy(variance + noise(c))
        wrong = abs(exact - conditional_entropy(variance, c)) > 1e-9 * (1.0 + abs(exact))
        return bool(wrong or (noisy <= 0.0).any())

    compared = "quadrature against the closed form, H > 0 with noise"
    return search(compared, posteriors(), violated, shown)


D4 = Statement(
    id="D4",
    name="conditional entropy, and noise of entropy 0",
    paper="DU-VAE, equations 4 and 5",
    item="du-eq5",
    claim="H(z|x) = (D/2) log 2πe + ½ Σ E log σ²; N(0, α) with α = 1/(2πe) has entropy 0, so that "
    "σ² + α has H > 0.",
    constants={"half": 0.5, "half_log": 0.5, "two": 2.0, "exponent": 1.0}
    | {"alpha_two": 2.0, "alpha_exponent": 1.0},
    wrong={"half": 1.0, "half_log": 1.0, "two": 1.0, "exponent": 0.5}
    | {"alpha_two": 4.0, "alpha_exponent": 2.0},
    checks=(_entropy_symbolic, _entropy_sampled, _entropy_violated),
)

STATEMENTS = (D1, D2, D3, D4)
