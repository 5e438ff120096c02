"""IGP: the statements of Zhang et al. 2021 on one variance for all dimensions, and its estimate.

Notation: q = N(mu, diag v) over K dimensions with variances v, p = N(0, I), nats.
A *tie* replaces all variances of q by one number.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import scipy.special
import scipy.stats
import sympy
from hypothesis import strategies as st

from companion.claims.formulas import Array, agree, expected, gaussian, log_gaussian, root
from companion.claims.mixtures import apart
from companion.claims.statements import (
    Evidence,
    Formulas,
    equal,
    joined,
    log,
    nonnegative,
    sampled,
    search,
    stated,
)

__all__ = ["STATEMENTS"]

_CLOSE = 1e-9  # absolute and relative, for rounding


def some_variances(low: int, high: int, step: float, top: float = 1.0) -> st.SearchStrategy[Array]:
    """One to five variances ``top`` * 2^(step * k) with k from low to high."""
    powers = st.lists(st.integers(low, high), min_size=1, max_size=5)
    return powers.map(lambda k: top * np.exp2(step * np.asarray(k, dtype=float)))


def listed(variance: Array) -> str:
    """Variances in words."""
    return "variances " + ", ".join(f"{value:.4g}" for value in variance)


# --- theorem 1: the tie to the smallest variance --------------------------------------------------


class Ties(NamedTuple):
    """One variance in place of several: four means, and the smallest and the largest."""

    smallest: float
    harmonic: float
    geometric: float
    arithmetic: float
    largest: float


def ties(variance: Array) -> Ties:
    """The ties of the variances (K,), in the order of their size."""
    return Ties(
        float(variance.min()),
        float(1.0 / np.mean(1.0 / variance)),
        float(np.exp(np.log(variance).mean())),
        float(variance.mean()),
        float(variance.max()),
    )


def kl_by_definition(variance: Array) -> float:
    """The expectation of log q - log p, by quadrature that is exact for the quadratic in it."""

    def log_ratio(z: Array) -> Array:
        return np.asarray(log_gaussian(z, 0.0, variance[:, None]) - log_gaussian(z, 0.0, 1.0))

    return float(expected(log_ratio, 0.0, variance).sum())


def kl_tied(variance: Array, tie: float) -> float:
    """KL of the posterior with one variance in place of all."""
    return kl_by_definition(np.full_like(variance, tie))


def _log_ratio(variance: Array, draws: int, random: np.random.Generator) -> Array:
    """Draws of log q(z) - log p(z) with z from q."""
    z = gaussian(random, 0.0, variance, (draws, len(variance)))
    return np.asarray((log_gaussian(z, 0.0, variance) - log_gaussian(z, 0.0, 1.0)).sum(-1))


def smallest(values: Array) -> Any:
    """What theorem 1 ties all variances to."""
    return np.sort(values)[:1].max()


def kl_raised(variance: Array) -> Any:
    """KL of the tied posterior minus KL of the diagonal one, nats."""
    tie = smallest(variance)
    return (log(variance) - log(tie) - (variance - tie)).sum() / 2


def _ratio_at(variance: float, noise: Array) -> Array:
    """log q(z) - log p(z) of one dimension at the z that the noise gives."""
    z = math.sqrt(variance) * noise
    return np.asarray(log_gaussian(z, 0.0, variance) - log_gaussian(z, 0.0, 1.0))


def _slope_draws(level: float, random: np.random.Generator) -> Array:
    """Draws whose mean is the derivative of KL(N(0, v) || N(0, 1)) in v, at v = level."""
    noise, step = random.normal(size=200_000), level / 64.0
    return (_ratio_at(level + step, noise) - _ratio_at(level - step, noise)) / (2.0 * step)


def _falling(limit: Any) -> Any:
    """Minus twice the derivative of v - 1 - log v, anywhere up to the limit."""
    v, t = sympy.Symbol("v", positive=True), sympy.Symbol("t", nonnegative=True)
    return -sympy.diff(v - 1 - sympy.log(v), v).subs(v, sympy.Rational(limit) / (1 + t))


def _tie_symbolic(c: Formulas) -> Evidence:
    z, (m, t, u) = sympy.Symbol("z", real=True), sympy.symbols("m t u", positive=True)
    density = sympy.exp(-(z**2) / (2 * u)) / sympy.sqrt(2 * sympy.pi * u)
    log_ratio = z**2 / 2 - z**2 / (2 * u) - sympy.log(u) / 2
    kl = sympy.integrate(density * log_ratio, (z, -sympy.oo, sympy.oo))
    pair = np.array([m, m + t])
    change = 2 * kl.subs(u, m) - kl.subs(u, m) - kl.subs(u, m + t)
    return joined(
        equal("change of KL for two variances", (change, c.kl_raised(pair))),
        nonnegative("KL falls in v up to the limit", _falling(c.limit)),
    )


def _tie_sampled(c: Formulas) -> Evidence:
    random = np.random.default_rng(1)
    variance = np.array([0.5, 0.9, 0.1])
    tied = _log_ratio(np.full(3, variance.min()), 200_000, random)
    change = tied - _log_ratio(variance, 200_000, random)
    return sampled(
        "change of KL for variances 0.5, 0.9, 0.1, and slope 0 of KL at the limit, nats",
        (c.kl_raised(variance), change),
        (0.0, _slope_draws(c.limit, random)),
    )


def _tie_search(c: Formulas) -> Evidence:
    def violated(variance: Array) -> bool:
        tied, before = kl_tied(variance, c.smallest(variance)), kl_by_definition(variance)
        lower = tied < before - _CLOSE * (1.0 + before)
        return lower or apart(c.kl_raised(variance), tied - before)

    cases = some_variances(-24, 0, 0.25, c.limit)
    return search("a lower KL after the tie, variances up to the limit", cases, violated, listed)


def tie_printed() -> Evidence:
    """A lower KL after the tie to the smallest variance, with no limit on the variances."""

    def violated(variance: Array) -> bool:
        before = kl_by_definition(variance)
        return kl_tied(variance, variance.min()) < before - _CLOSE * (1.0 + before)

    def shown(variance: Array) -> str:
        before, after = kl_by_definition(variance), kl_tied(variance, variance.min())
        return f"{listed(variance)}: KL {before:.4g} becomes {after:.4g} nats"

    return search("a lower KL after the tie", some_variances(-8, 8, 1.0), violated, shown)


I0A = stated(
    "I0a",
    Formulas(smallest, kl_raised, limit=1.0),
    {"half": ("/ 2", "/ 4"), "limit": 2.0, "place": ("[:1]", "[:2]")},
    (_tie_symbolic, _tie_sampled, _tie_search),
    tie_printed,
)


def box_mass(sigma: Any, width: Any, erf: Any = scipy.special.erf) -> Any:
    """P(|z_k - mu_k| < width) for each dimension (K,); ``erf`` may be SymPy's."""
    return erf(width / root(2 * sigma**2))


def box_slope(sigma: Array, width: float) -> Array:
    """Derivative of that mass in sigma, never positive."""
    ratio = width / sigma
    return -math.sqrt(2.0 / math.pi) * ratio / sigma * np.exp(-0.5 * ratio**2)


def _box_symbolic(c: Formulas) -> Evidence:
    z, (e, s, t) = sympy.Symbol("z", real=True), sympy.symbols("epsilon s t", positive=True)
    density = sympy.exp(-(z**2) / (2 * s**2)) / (s * sympy.sqrt(2 * sympy.pi))
    mass, tie = c.box_mass(s, e, sympy.erf), c.smallest(np.array([s, s + t]))
    signs = "it falls in sigma; the tie is no larger than any sigma"
    return joined(
        equal("mass of an interval", (sympy.integrate(density, (z, -e, e)), mass)),
        nonnegative(signs, -sympy.diff(mass, s), s - tie, s + t - tie),
    )


def _box_sampled(c: Formulas) -> Evidence:
    noise = np.random.default_rng(2).normal(size=(2, 200_000, 3))
    sigma, width = np.array([0.8, 0.3, 1.0]), np.array([0.5, 0.25, 0.75])
    before = np.all(np.abs(sigma * noise[0]) < width, axis=-1)
    after = np.all(np.abs(sigma.min() * noise[1]) < width, axis=-1)
    tied = np.full(3, c.smallest(sigma))
    return sampled(
        "mass of a box under the diagonal and the tied posterior",
        (float(c.box_mass(sigma, width).prod()), before),
        (float(c.box_mass(tied, width).prod()), after),
    )


def _box_search(c: Formulas) -> Evidence:
    """Masses of intervals by scipy's distribution function, against the formula."""

    def violated(case: tuple[Array, int]) -> bool:
        sigma, width = case[0], 2.0 ** case[1]
        ties = sigma, c.smallest(sigma)
        own, tied = (1.0 - 2.0 * scipy.special.ndtr(-width / s) for s in ties)
        wrong = np.abs(own - c.box_mass(sigma, width)).max() > _CLOSE
        return bool((tied < own - _CLOSE).any() or wrong)

    cases = st.tuples(some_variances(-8, 8, 0.5), st.integers(-6, 6))
    return search("less mass near the mean after the tie", cases, violated)


I0B = stated(
    "I0b",
    Formulas(smallest, box_mass),
    {"two": ("2 * sigma", "1 * sigma"), "place": ("[:1]", "[:2]")},
    (_box_symbolic, _box_sampled, _box_search),
)


def lowered(dimensions: int, arithmetic: Any, geometric: Any) -> Any:
    """What the geometric and the arithmetic mean take from KL of the diagonal posterior, nats."""
    saved = arithmetic - geometric, log(arithmetic) - log(geometric)
    return np.array([dimensions * one / 2 for one in saved])


def _order_symbolic(c: Formulas) -> Evidence:
    a, b, v = sympy.symbols("a b v", positive=True)
    t = sympy.Symbol("t", nonnegative=True)

    def kl(variance: Any) -> Any:
        return (variance - 1 - sympy.log(variance)) / 2

    mean, root = (a**2 + b**2) / 2, a * b
    before, saved = kl(a**2) + kl(b**2), c.lowered(2, mean, root)
    concave = -sympy.diff(2 * kl(1 / v), v, 2).subs(v, 1 / sympy.Rational(c.limit) + t)
    orders = mean - root, root - root**2 / mean, concave, _falling(c.order)
    return joined(
        equal(
            "what two ties save",
            (before - 2 * kl(root), saved[0]),
            (before - 2 * kl(mean), saved[1]),
        ),
        nonnegative("means are ordered; KL is concave in 1/v below the limit", *orders),
    )


def _curvature_draws(level: float, random: np.random.Generator) -> Array:
    """Draws whose mean is the second derivative of KL(N(0, 1/u) || N(0, 1)) in u at 1/level."""
    noise, step, u = random.normal(size=200_000), 1.0 / 32.0, 1.0 / level
    low, middle, high = (_ratio_at(1.0 / (u + k * step), noise) for k in (-1, 0, 1))
    return (high - 2.0 * middle + low) / step**2


def _order_sampled(c: Formulas) -> Evidence:
    random = np.random.default_rng(3)
    variance = np.array([0.4, 1.5, 3.0])
    means = ties(variance)
    before, geometric, arithmetic = (
        _log_ratio(one, 200_000, random)
        for one in (variance, np.full(3, means.geometric), np.full(3, means.arithmetic))
    )
    saved = c.lowered(3, means.arithmetic, means.geometric)
    return sampled(
        "KL saved by two ties; no curvature in 1/v and no slope in v at the limits, nats",
        (saved[0], before - geometric),
        (saved[1], before - arithmetic),
        (0.0, _curvature_draws(c.limit, random)),
        (0.0, _slope_draws(c.order, random)),
    )


def _order_search(c: Formulas) -> Evidence:
    def violated(variance: Array) -> bool:
        before = kl_by_definition(variance)
        tied = Ties(*(kl_tied(variance, tie) for tie in ties(variance)))
        slack = _CLOSE * (1.0 + before)
        means = ties(variance)
        saved = c.lowered(len(variance), means.arithmetic, means.geometric)
        wrong = apart(before - tied.geometric, saved[0])
        wrong |= apart(before - tied.arithmetic, saved[1])
        wrong |= max(tied.geometric, tied.arithmetic) > before + slack
        if variance.max() <= c.limit:
            wrong |= tied.harmonic < before - slack
        if variance.min() >= c.limit:
            wrong |= tied.harmonic > before + slack
        if variance.mean() <= c["order"]:
            wrong |= any(left < right - slack for left, right in itertools.pairwise(tied[:4]))
        return bool(wrong)

    cases = st.one_of(some_variances(-16, 16, 0.25), some_variances(-4, 0, 0.125, c.limit))
    return search("another order of the divergences under the ties", cases, violated, listed)


I0C = stated(
    "I0c",
    Formulas(lowered, limit=0.5, order=1.0),
    {"half": ("/ 2", "/ 4"), "limit": 0.75, "order": 2.0},
    (_order_symbolic, _order_sampled, _order_search),
)


# --- the estimate of the variance -----------------------------------------------------------------


def squared_error(samples: Any, dimensions: Any) -> Any:
    """Expected squared error of the estimate of a variance 1 that K dimensions share."""
    return 2 / ((samples - 1) * dimensions)


def _expected(polynomial: Any, variances: dict[Any, Any]) -> Any:
    """Expectation of a polynomial in independent centred normal variables, by their moments."""
    total = sympy.S.Zero
    for powers, coefficient in sympy.Poly(polynomial, *variances).terms():
        moment = coefficient
        for power, variance in zip(powers, variances.values(), strict=True):
            even = power % 2 == 0
            moment *= sympy.factorial2(power - 1) * variance ** (power // 2) if even else 0
        total += moment
    return total


def _squared_errors(samples: int, variances: list[Any]) -> Any:
    """Expected squared distance of the shared estimate from the first variance, by moments."""
    columns = [sympy.symbols(f"z_:{samples}_{k}", real=True) for k in range(len(variances))]
    of = {z: v for column, v in zip(columns, variances, strict=True) for z in column}
    shared = sympy.S.Zero
    for column in columns:
        mean = sum(column) / sympy.Integer(samples)
        shared += sum((z - mean) ** 2 for z in column) / (samples - 1) / len(columns)
    return _expected(sympy.expand((shared - variances[0]) ** 2), of)


def _estimate_symbolic(c: Formulas) -> Evidence:
    v, n = sympy.symbols("v N", positive=True)
    sizes = [(sympy.Integer(N), K) for N, K in ((2, 1), (3, 1), (2, 2))]
    pairs = [(_squared_errors(N, [v] * K), v**2 * c.squared_error(N, K)) for N, K in sizes]
    large = sympy.limit(sympy.sqrt(c.squared_error(n, 1)) / sympy.sqrt(2 / n), n, sympy.oo)
    return equal(
        "squared error of the estimate by moments; its ratio to the printed form for large N",
        *pairs,
        (large, 1),
    )


def _estimates(samples: int, variance: Array, seed: int) -> Array:
    """Draws (draws, K) of the unbiased estimate of each variance."""
    noise = np.random.default_rng(seed).normal(size=(60_000, samples, len(variance)))
    return np.asarray((np.sqrt(variance) * noise).var(axis=1, ddof=1))


def _estimate_sampled(c: Formulas) -> Evidence:
    own = _estimates(4, np.full(3, 0.7), 4)
    return sampled(
        "squared error of one dimension's and of three dimensions' estimate, N = 4",
        (0.7**2 * c.squared_error(4, 1), (own[:, 0] - 0.7) ** 2),
        (0.7**2 * c.squared_error(4, 3), (own.mean(1) - 0.7) ** 2),
    )


def _estimate_search(c: Formulas) -> Evidence:
    """Against the law of the estimate: chi-squared with K (N - 1) degrees of freedom."""

    def sides(case: tuple[int, int]) -> tuple[float, float]:
        freedom = case[1] * (case[0] - 1)
        exact = float(scipy.stats.chi2.std(freedom)) / freedom
        return exact, math.sqrt(c.squared_error(*case))

    cases = st.tuples(st.integers(2, 200), st.integers(1, 64))
    compared = "an error other than that of the chi-squared law"
    return agree(compared, cases, sides, "N = {}, K = {}")


I1 = stated(
    "I1",
    Formulas(squared_error),
    {"two": ("2 /", "3 /"), "ddof": ("- 1", "- 0"), "root": ("dimensions)", "dimensions**2)")},
    (_estimate_symbolic, _estimate_sampled, _estimate_search),
)


class SharedError(NamedTuple):
    """Mean squared errors in each dimension (K,), and what the K dimensions are worth."""

    shared: Array
    own: Array
    effective: Any


def shared_error(samples: Any, variance: Array) -> SharedError:
    """Squared error of the shared and of the own estimate of each variance (K,).

    The shared one is off by the distance of a variance from the mean of all.
    Its relative standard error falls by the root of (sum v)^2 / sum v^2, at most K.
    """
    squares, dimensions = (variance**2).sum(), len(variance)
    scale = 2 / (samples - 1)
    shared = scale * squares / dimensions**2 + (variance.sum() / dimensions - variance) ** 2
    return SharedError(shared, scale * variance**2, variance.sum() ** 2 / squares)


def _unequal_symbolic(c: Formulas) -> Evidence:
    v = np.array(sympy.symbols("v:2", positive=True))
    claimed = {N: c.shared_error(sympy.Integer(N), v) for N in (2, 3)}
    pairs = [(_squared_errors(N, list(v)), one.shared[0]) for N, one in claimed.items()]
    return joined(
        equal("squared error of a shared estimate by moments", *pairs),
        nonnegative("two dimensions are worth at most two", 2 - claimed[2].effective),
    )


def _unequal_sampled(c: Formulas) -> Evidence:
    variance = np.array([0.5, 1.0, 1.5])
    mean = _estimates(4, variance, 5).mean(1)
    exact = c.shared_error(4, variance).shared
    cases = [(float(exact[k]), (mean - variance[k]) ** 2) for k in range(3)]
    return sampled("squared error of the shared estimate, variances 0.5, 1, 1.5, N = 4", *cases)


_SHARED_CASES = st.tuples(st.integers(2, 50), some_variances(-4, 4, 0.5))


def _shared_shown(case: tuple[int, Array]) -> str:
    error = shared_error(*case)
    worst = int(np.argmax(error.shared / error.own))
    return (
        f"N = {case[0]}, {listed(case[1])}: squared error in dimension {worst + 1} "
        f"{error.shared[worst]:.4g} shared, {error.own[worst]:.4g} alone"
    )


def _unequal_search(c: Formulas) -> Evidence:
    """Against sums of chi-squared variables: their means and variances from scipy."""

    def violated(case: tuple[int, Array]) -> bool:
        samples, variance = case
        freedom = samples - 1
        mean, spread = scipy.stats.chi2.stats(freedom, moments="mv")
        parts = variance / freedom / len(variance)
        exact = (parts**2 * spread).sum() + ((parts * mean).sum() - variance) ** 2
        claimed = c.shared_error(samples, variance)
        beyond = claimed.effective > len(variance) * (1.0 + _CLOSE)
        return bool(beyond or not np.allclose(exact, claimed.shared, rtol=_CLOSE, atol=_CLOSE))

    compared = "another error of the shared estimate, or a gain beyond √K"
    return search(compared, _SHARED_CASES, violated, _shared_shown)


def shared_printed() -> Evidence:
    """A dimension whose variance is estimated worse when it is shared."""

    def violated(case: tuple[int, Array]) -> bool:
        shared, own, _ = shared_error(*case)
        return bool((shared > own * (1.0 + _CLOSE)).any())

    compared = "a dimension that the shared estimate serves worse than its own"
    return search(compared, _SHARED_CASES, violated, _shared_shown)


I1B = stated(
    "I1b",
    Formulas(shared_error),
    {
        "two": ("scale = 2", "scale = 1"),
        "ddof": ("- 1", "- 0"),
        "bias": ("dimensions - variance)", "dimensions - variance) * 0"),
    },
    (_unequal_symbolic, _unequal_sampled, _unequal_search),
    shared_printed,
)

STATEMENTS = (I0A, I0B, I0C, I1, I1B)
