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

from companion.claims import formulas as f
from companion.claims.formulas import ROUNDING, Array, apart, log_gaussian
from companion.claims.statements import Facts, Formulas, Means, log, stated

_DRAWS = 200_000


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
    harmonic, geometric = 1.0 / np.mean(1.0 / variance), np.exp(np.log(variance).mean())
    means = harmonic, geometric, variance.mean()
    return Ties(*map(float, (variance.min(), *means, variance.max())))


def kl_by_definition(variance: Array) -> float:
    """The expectation of log q - log p, by quadrature that is exact for the quadratic in it."""
    return float(f.quadrature_kl(0.0, variance).sum())


def kl_tied(variance: Array, tie: float) -> float:
    """KL of the posterior with one variance in place of all."""
    return kl_by_definition(np.full_like(variance, tie))


def _log_ratio(variance: Array, random: np.random.Generator) -> Array:
    """Draws of log q(z) - log p(z) with z from q."""
    z = f.gaussian(random, 0.0, variance, (_DRAWS, len(variance)))
    return np.asarray((log_gaussian(z, 0.0, variance) - log_gaussian(z, 0.0, 1.0)).sum(-1))


def _ratio_at(variance: float, noise: Array) -> Array:
    """log q(z) - log p(z) of one dimension at the z that the noise gives."""
    z = math.sqrt(variance) * noise
    return np.asarray(log_gaussian(z, 0.0, variance) - log_gaussian(z, 0.0, 1.0))


def _slope_draws(level: float, random: np.random.Generator) -> Array:
    """Draws whose mean is the derivative of KL(N(0, v) || N(0, 1)) in v, at v = level."""
    noise, step = random.normal(size=_DRAWS), level / 64.0
    return (_ratio_at(level + step, noise) - _ratio_at(level - step, noise)) / (2.0 * step)


def _falling(limit: Any) -> Any:
    """Minus twice the derivative of v - 1 - log v, anywhere up to the limit."""
    v, t = sympy.Symbol("v", positive=True), sympy.Symbol("t", nonnegative=True)
    return -sympy.diff(v - 1 - sympy.log(v), v).subs(v, sympy.Rational(limit) / (1 + t))


def smallest(values: Array) -> Any:
    """What theorem 1 ties all variances to."""
    return np.sort(values)[:1].max()


def kl_raised(variance: Array) -> Any:
    """KL of the tied posterior minus KL of the diagonal one, nats."""
    tie = smallest(variance)
    return (log(variance) - log(tie) - (variance - tie)).sum() / 2


I0A = stated(
    "I0a",
    Formulas(smallest, kl_raised, limit=1.0),
    {"half": ("/ 2", "/ 4"), "limit": 2.0, "place": ("[:1]", "[:2]")},
)


@I0A.symbolic
def _(c: Formulas) -> Facts:
    """change of KL for two variances; KL falls in v up to the limit"""
    z, (m, t, u) = sympy.Symbol("z", real=True), sympy.symbols("m t u", positive=True)
    log_ratio = z**2 / 2 - z**2 / (2 * u) - sympy.log(u) / 2
    kl = f.integral(f.bell(z, 0, u) * log_ratio, z)
    change = 2 * kl.subs(u, m) - kl.subs(u, m) - kl.subs(u, m + t)
    return (change, c.kl_raised(np.array([m, m + t]))), _falling(c.limit)


@I0A.sampled
def _(c: Formulas) -> Means:
    """change of KL for variances 0.5, 0.9, 0.1, and slope 0 of KL at the limit, nats"""
    random, variance = np.random.default_rng(1), np.array([0.5, 0.9, 0.1])
    change = _log_ratio(np.full(3, 0.1), random) - _log_ratio(variance, random)
    return (c.kl_raised(variance), change), (0.0, _slope_draws(c.limit, random))


@I0A.search(lambda c: some_variances(-24, 0, 0.25, c.limit), listed)
def _(c: Formulas, variance: Array) -> bool:
    """a lower KL after the tie, variances up to the limit; another change"""
    tied, before = kl_tied(variance, c.smallest(variance)), kl_by_definition(variance)
    return tied < before - ROUNDING * (1.0 + before) or apart(c.kl_raised(variance), tied - before)


def _tie_words(variance: Array) -> str:
    before, after = kl_by_definition(variance), kl_tied(variance, variance.min())
    return f"{listed(variance)}: KL {before:.4g} becomes {after:.4g} nats"


@I0A.search_printed(some_variances(-8, 8, 1.0), _tie_words)
def _(variance: Array) -> bool:
    """a lower KL after the tie, with no limit on the variances"""
    before = kl_by_definition(variance)
    return kl_tied(variance, variance.min()) < before - ROUNDING * (1.0 + before)


# I0b: the mass near the mean


def box_mass(sigma: Any, width: Any, erf: Any = scipy.special.erf) -> Any:
    """P(|z_k - mu_k| < width) for each dimension (K,); ``erf`` may be SymPy's."""
    return erf(width / f.root(2 * sigma**2))


def box_slope(sigma: Array, width: float) -> Array:
    """Derivative of that mass in sigma, never positive."""
    ratio = width / sigma
    return -math.sqrt(2.0 / math.pi) * ratio / sigma * np.exp(-0.5 * ratio**2)


I0B = stated(
    "I0b",
    Formulas(smallest, box_mass),
    {"two": ("2 * sigma", "1 * sigma"), "place": ("[:1]", "[:2]")},
)


@I0B.symbolic
def _(c: Formulas) -> Facts:
    """mass of an interval; it falls in sigma; the tie is no larger than any sigma"""
    z, (e, s, t) = sympy.Symbol("z", real=True), sympy.symbols("epsilon s t", positive=True)
    mass, tie = c.box_mass(s, e, sympy.erf), c.smallest(np.array([s, s + t]))
    exact = sympy.integrate(f.bell(z, 0, s**2), (z, -e, e))
    return (exact, mass), -sympy.diff(mass, s), s - tie, s + t - tie


@I0B.sampled
def _(c: Formulas) -> Means:
    """mass of a box under the diagonal and the tied posterior"""
    noise = np.random.default_rng(2).normal(size=(2, _DRAWS, 3))
    sigma, width = np.array([0.8, 0.3, 1.0]), np.array([0.5, 0.25, 0.75])
    inside = [np.all(np.abs(s * e) < width, -1) for s, e in zip((sigma, 0.3), noise, strict=True)]
    ties = sigma, np.full(3, c.smallest(sigma))
    masses = [float(c.box_mass(tie, width).prod()) for tie in ties]
    return list(zip(masses, inside, strict=True))


@I0B.search(st.tuples(some_variances(-8, 8, 0.5), st.integers(-6, 6).map(lambda k: 2.0**k)))
def _(c: Formulas, sigma: Array, width: float) -> bool:
    """less mass near the mean after the tie; masses other than scipy's distribution function"""
    own, tied = (1.0 - 2.0 * scipy.special.ndtr(-width / s) for s in (sigma, c.smallest(sigma)))
    return bool((tied < own - ROUNDING).any()) or apart(own, c.box_mass(sigma, width))


# I0c: other ties


def lowered(dimensions: int, arithmetic: Any, geometric: Any) -> Any:
    """What the geometric and the arithmetic mean take from KL of the diagonal posterior, nats."""
    saved = arithmetic - geometric, log(arithmetic) - log(geometric)
    return np.array([dimensions * one / 2 for one in saved])


I0C = stated(
    "I0c",
    Formulas(lowered, limit=0.5, order=1.0),
    {"half": ("/ 2", "/ 4"), "limit": 0.75, "order": 2.0},
)


@I0C.symbolic
def _(c: Formulas) -> Facts:
    """what two ties save; means are ordered; KL is concave in 1/v below the limit"""
    a, b, v = sympy.symbols("a b v", positive=True)
    t = sympy.Symbol("t", nonnegative=True)

    def kl(variance: Any) -> Any:
        return f.gaussian_kl(0, variance)

    mean, root = (a**2 + b**2) / 2, a * b
    before, saved = kl(a**2) + kl(b**2), c.lowered(2, mean, root)
    concave = -sympy.diff(2 * kl(1 / v), v, 2).subs(v, 1 / sympy.Rational(c.limit) + t)
    return (
        (before - 2 * kl(root), saved[0]),
        (before - 2 * kl(mean), saved[1]),
        mean - root,
        root - root**2 / mean,
        concave,
        _falling(c.order),
    )


def _curvature_draws(level: float, random: np.random.Generator) -> Array:
    """Draws whose mean is the second derivative of KL(N(0, 1/u) || N(0, 1)) in u at 1/level."""
    noise, step, u = random.normal(size=_DRAWS), 1.0 / 32.0, 1.0 / level
    low, middle, high = (_ratio_at(1.0 / (u + k * step), noise) for k in (-1, 0, 1))
    return (high - 2.0 * middle + low) / step**2


@I0C.sampled
def _(c: Formulas) -> Means:
    """KL saved by two ties; no curvature in 1/v and no slope in v at the limits, nats"""
    random, variance = np.random.default_rng(3), np.array([0.4, 1.5, 3.0])
    means = ties(variance)
    tied = np.full(3, means.geometric), np.full(3, means.arithmetic)
    before, *after = (_log_ratio(one, random) for one in (variance, *tied))
    saved = c.lowered(3, means.arithmetic, means.geometric)
    return (
        *zip(saved, (before - one for one in after), strict=True),
        (0.0, _curvature_draws(c.limit, random)),
        (0.0, _slope_draws(c.order, random)),
    )


@I0C.search(
    lambda c: st.one_of(some_variances(-16, 16, 0.25), some_variances(-4, 0, 0.125, c.limit)),
    listed,
)
def _(c: Formulas, variance: Array) -> bool:
    """another order of the divergences under the ties, or another saving"""
    before, means = kl_by_definition(variance), ties(variance)
    tied, slack = Ties(*(kl_tied(variance, tie) for tie in means)), ROUNDING * (1.0 + before)
    saved = c.lowered(len(variance), means.arithmetic, means.geometric)
    wrong = apart(before - np.array([tied.geometric, tied.arithmetic]), saved)
    wrong |= max(tied.geometric, tied.arithmetic) > before + slack
    wrong |= variance.max() <= c.limit and tied.harmonic < before - slack
    wrong |= variance.min() >= c.limit and tied.harmonic > before + slack
    ordered = not any(left < right - slack for left, right in itertools.pairwise(tied[:4]))
    return wrong or (variance.mean() <= c["order"] and not ordered)


# --- the estimate of the variance -----------------------------------------------------------------


def squared_error(samples: Any, dimensions: Any) -> Any:
    """Expected squared error of the estimate of a variance 1 that K dimensions share."""
    return 2 / ((samples - 1) * dimensions)


def _moments(polynomial: Any, variances: dict[Any, Any]) -> Any:
    """Expectation of a polynomial in independent centred normal variables, by their moments."""
    total = sympy.S.Zero
    for powers, coefficient in sympy.Poly(polynomial, *variances).terms():
        moment = coefficient
        for power, variance in zip(powers, variances.values(), strict=True):
            even = power % 2 == 0
            moment *= sympy.factorial2(power - 1) * variance ** (power // 2) if even else 0
        total += moment
    return total


@f.cached
def _squared_errors(samples: int, *variances: Any) -> Any:
    """Expected squared distance of the shared estimate from the first variance, by moments."""
    columns = [sympy.symbols(f"z_:{samples}_{k}", real=True) for k in range(len(variances))]
    of = {z: v for column, v in zip(columns, variances, strict=True) for z in column}
    shared = sympy.S.Zero
    for column in columns:
        mean = sum(column) / sympy.Integer(samples)
        shared += sum((z - mean) ** 2 for z in column) / (samples - 1) / len(columns)
    return _moments(sympy.expand((shared - variances[0]) ** 2), of)


I1 = stated(
    "I1",
    Formulas(squared_error),
    {"two": ("2 /", "3 /"), "ddof": ("- 1", "- 0"), "root": ("dimensions)", "dimensions**2)")},
)


@I1.symbolic
def _(c: Formulas) -> Facts:
    """squared error of the estimate by moments; its ratio to the printed form for large N"""
    v, n = sympy.symbols("v N", positive=True)
    sizes = [(sympy.Integer(N), K) for N, K in ((2, 1), (3, 1), (2, 2))]
    pairs = [(_squared_errors(N, *[v] * K), v**2 * c.squared_error(N, K)) for N, K in sizes]
    large = sympy.limit(sympy.sqrt(c.squared_error(n, 1)) / sympy.sqrt(2 / n), n, sympy.oo)
    return *pairs, (large, 1)


def _estimates(samples: int, variance: Array, seed: int) -> Array:
    """Draws (draws, K) of the unbiased estimate of each variance."""
    noise = np.random.default_rng(seed).normal(size=(60_000, samples, len(variance)))
    return np.asarray((np.sqrt(variance) * noise).var(axis=1, ddof=1))


@I1.sampled
def _(c: Formulas) -> Means:
    """squared error of one dimension's and of three dimensions' estimate, N = 4"""
    own = _estimates(4, np.full(3, 0.7), 4)
    estimates = (1, own[:, 0]), (3, own.mean(1))
    return [(0.7**2 * c.squared_error(4, k), (one - 0.7) ** 2) for k, one in estimates]


@I1.search(st.tuples(st.integers(2, 200), st.integers(1, 64)), "N = {}, K = {}")
def _(c: Formulas, samples: int, dimensions: int) -> bool:
    """an error other than that of the chi-squared law with K (N − 1) degrees of freedom"""
    freedom = dimensions * (samples - 1)
    exact = math.sqrt(2 * freedom) / freedom  # standard deviation of chi-squared
    return apart(exact, math.sqrt(c.squared_error(samples, dimensions)))


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


I1B = stated(
    "I1b",
    Formulas(shared_error),
    {
        "two": ("scale = 2", "scale = 1"),
        "ddof": ("- 1", "- 0"),
        "bias": ("dimensions - variance)", "dimensions - variance) * 0"),
    },
)


@I1B.symbolic
def _(c: Formulas) -> Facts:
    """squared error of a shared estimate by moments; two dimensions are worth at most two"""
    v = np.array(sympy.symbols("v:2", positive=True))
    claimed = {N: c.shared_error(sympy.Integer(N), v) for N in (2, 3)}
    pairs = [(_squared_errors(N, *v), one.shared[0]) for N, one in claimed.items()]
    return *pairs, 2 - claimed[2].effective


@I1B.sampled
def _(c: Formulas) -> Means:
    """squared error of the shared estimate, variances 0.5, 1, 1.5, N = 4"""
    variance = np.array([0.5, 1.0, 1.5])
    mean, exact = _estimates(4, variance, 5).mean(1), c.shared_error(4, variance).shared
    return [(float(exact[k]), (mean - variance[k]) ** 2) for k in range(3)]


def _shared_words(samples: int, variance: Array) -> str:
    error = shared_error(samples, variance)
    worst = int(np.argmax(error.shared / error.own))
    return (
        f"N = {samples}, {listed(variance)}: squared error in dimension {worst + 1} "
        f"{error.shared[worst]:.4g} shared, {error.own[worst]:.4g} alone"
    )


_SHARED_CASES = st.tuples(st.integers(2, 50), some_variances(-4, 4, 0.5))


@I1B.search(_SHARED_CASES, _shared_words)
def _(c: Formulas, samples: int, variance: Array) -> bool:
    """another error than sums of scipy’s chi-squared variables have, or a gain beyond √K"""
    freedom = samples - 1
    mean, spread = scipy.stats.chi2.stats(freedom, moments="mv")
    parts = variance / freedom / len(variance)
    exact = (parts**2 * spread).sum() + ((parts * mean).sum() - variance) ** 2
    claimed = c.shared_error(samples, variance)
    beyond = claimed.effective > len(variance) * (1.0 + ROUNDING)
    return bool(beyond) or apart(exact, claimed.shared)


@I1B.search_printed(_SHARED_CASES, _shared_words)
def _(samples: int, variance: Array) -> bool:
    """a dimension that the shared estimate serves worse than its own"""
    shared, own, _ = shared_error(samples, variance)
    return bool((shared > own * (1.0 + ROUNDING)).any())


STATEMENTS = (I0A, I0B, I0C, I1, I1B)
