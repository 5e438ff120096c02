"""IGP: the statements of Zhang et al. 2021 on posteriors with one variance for all dimensions.

Notation: q = N(mu, diag v) over K dimensions with variances v, p = N(0, I), nats.
A *tie* replaces all variances of q by one number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats
import sympy
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from companion.claims.statements import (
    Constants,
    Evidence,
    Statement,
    Way,
    equal,
    nonnegative,
    sampled,
    search,
)
from posterior_collapse import gaussian

__all__ = [
    "STATEMENTS",
    "Aggregate",
    "Channel",
    "LinearIgp",
    "SharedError",
    "Ties",
    "Trained",
    "aggregate",
    "arithmetic_lowers",
    "box_mass",
    "box_slope",
    "channel",
    "dgp_weights",
    "estimate_error",
    "fewer_printed",
    "geometric_lowers",
    "kl_by_definition",
    "kl_raised",
    "linear_igp",
    "loss",
    "loss_at",
    "mean_variances",
    "shared_error",
    "shared_printed",
    "sigmoid_channel",
    "some_printed",
    "thresholds",
    "tie_printed",
    "ties",
    "train",
    "turn",
    "turned_elbo",
]

Array = NDArray[np.float64]
_CLOSE = 1e-9  # absolute and relative, for rounding


def _exact(value: float) -> Any:
    return sympy.Rational(value)


def _apart(first: float, second: float) -> bool:
    return abs(first - second) > _CLOSE * (1.0 + abs(first) + abs(second))


def _together(compared: str, *parts: Evidence) -> Evidence:
    """Several symbolic checks as one."""
    failed = [part for part in parts if not part.holds]
    return Evidence(
        Way.SYMBOLIC,
        compared,
        not failed,
        (failed or parts)[0].found,
        sum(part.measure for part in parts),
        sum(part.trials for part in parts),
    )


def _variances(low: int, high: int, step: float, top: float = 1.0) -> st.SearchStrategy[Array]:
    """One to five variances ``top`` * 2^(step * k) with k from low to high."""
    powers = st.lists(st.integers(low, high), min_size=1, max_size=5)
    return powers.map(lambda k: top * np.exp2(step * np.asarray(k, dtype=float)))


def _listed(variance: Array) -> str:
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


def _log_normal(z: Array, variance: Array | float) -> Array:
    return np.asarray(-0.5 * (z**2 / variance + np.log(2.0 * math.pi * variance)))


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(8)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def kl_by_definition(variance: Array) -> float:
    """The expectation of log q - log p; the quadrature is exact, as that is a quadratic."""
    z = np.sqrt(variance)[:, None] * _NODES
    ratio = _log_normal(z, variance[:, None]) - _log_normal(z, 1.0)
    return float((ratio @ _WEIGHTS).sum())


def _tied(variance: Array, tie: float) -> Array:
    return np.full_like(variance, tie)


def _log_ratio(variance: Array, draws: int, random: np.random.Generator) -> Array:
    """Draws of log q(z) - log p(z) with z from q."""
    z = np.sqrt(variance) * random.normal(size=(draws, len(variance)))
    return np.asarray((_log_normal(z, variance) - _log_normal(z, 1.0)).sum(-1))


def _at_place(variance: Array, c: Constants) -> float:
    """The variance in a given place, the smallest first."""
    return float(np.sort(variance)[min(int(c["place"]), len(variance)) - 1])


def kl_raised(variance: Array, c: Constants) -> float:
    """KL of the tied posterior minus KL of the diagonal one, nats."""
    tie = _at_place(variance, c)
    return float(c["half"] * (np.log(variance / tie) - (variance - tie)).sum())


def _slope_draws(level: float, random: np.random.Generator, draws: int = 200_000) -> Array:
    """Draws whose mean is the derivative of KL(N(0, v) || N(0, 1)) in v, at v = level."""
    noise, step = random.normal(size=draws), level / 64.0

    def ratio(v: float) -> Array:
        z = math.sqrt(v) * noise
        return _log_normal(z, v) - _log_normal(z, 1.0)

    return (ratio(level + step) - ratio(level - step)) / (2.0 * step)


def _falling(limit: float) -> Any:
    """Minus twice the derivative of v - 1 - log v, anywhere up to the limit."""
    v, t = sympy.Symbol("v", positive=True), sympy.Symbol("t", nonnegative=True)
    return -sympy.diff(v - 1 - sympy.log(v), v).subs(v, _exact(limit) / (1 + t))


def _tie_symbolic(c: Constants) -> Evidence:
    """Two variances, and the sign of the slope of KL."""
    m, t, u = sympy.symbols("m t u", positive=True)
    pair = (m, m + t)

    def kl(v: Any) -> Any:
        """From the definition: the expectation of log q - log p."""
        z = sympy.Symbol("z", real=True)
        density = sympy.exp(-(z**2) / (2 * u)) / sympy.sqrt(2 * sympy.pi * u)
        ratio = z**2 / 2 - z**2 / (2 * u) - sympy.log(u) / 2
        return sympy.integrate(density * ratio, (z, -sympy.oo, sympy.oo)).subs(u, v)

    tie = pair[int(c["place"]) - 1]
    raised = _exact(c["half"]) * sum(sympy.log(v) - sympy.log(tie) - v + tie for v in pair)
    formula = equal("", (2 * kl(pair[0]) - kl(pair[0]) - kl(pair[1]), raised))
    sign = nonnegative("", _falling(c["limit"]))
    return _together("change of KL for two variances; KL falls in v up to the limit", formula, sign)


def _tie_sampled(c: Constants) -> Evidence:
    random = np.random.default_rng(1)
    variance = np.array([0.5, 0.9, 0.1])
    tied = _log_ratio(_tied(variance, variance.min()), 200_000, random)
    change = tied - _log_ratio(variance, 200_000, random)
    return sampled(
        "change of KL for variances 0.5, 0.9, 0.1, and slope 0 of KL at the limit, nats",
        (kl_raised(variance, c), change),
        (0.0, _slope_draws(c["limit"], random)),
    )


def _tie_violated(c: Constants) -> Evidence:
    def violated(variance: Array) -> bool:
        tied = kl_by_definition(_tied(variance, _at_place(variance, c)))
        before = kl_by_definition(variance)
        lower = tied < before - _CLOSE * (1.0 + before)
        return lower or _apart(kl_raised(variance, c), tied - before)

    cases = _variances(-24, 0, 0.25, c["limit"])
    return search("a lower KL after the tie, variances up to the limit", cases, violated, _listed)


def _kl_fell(variance: Array) -> bool:
    before = kl_by_definition(variance)
    return kl_by_definition(_tied(variance, variance.min())) < before - _CLOSE * (1.0 + before)


def _fell(variance: Array) -> str:
    after = kl_by_definition(_tied(variance, variance.min()))
    return f"{_listed(variance)}: KL {kl_by_definition(variance):.4g} becomes {after:.4g} nats"


def tie_printed() -> Evidence:
    """A lower KL after the tie to the smallest variance, with no limit on the variances."""
    return search("a lower KL after the tie", _variances(-8, 8, 1.0), _kl_fell, _fell)


I0A = Statement(
    id="I0a",
    name="the tie to the smallest variance raises KL",
    paper="IGP, theorem 1, first part",
    item="igp-thm1",
    claim="If every σ² is at most 1, tying them to the smallest does not lower KL(q ‖ N(0, I)).",
    constants={"half": 0.5, "limit": 1.0, "place": 1.0},
    wrong={"half": 0.25, "limit": 2.0, "place": 2.0},
    checks=(_tie_symbolic, _tie_sampled, _tie_violated),
    printed=tie_printed,
)


def box_mass(sigma: Array, width: Array | float, c: Constants | None = None) -> Array:
    """P(|z_k - mu_k| < width) for each dimension (K,)."""
    two = 2.0 if c is None else c["two"]
    return np.asarray(scipy.special.erf(width / (sigma * math.sqrt(two))))


def box_slope(sigma: Array, width: float) -> Array:
    """Derivative of that mass in sigma, never positive."""
    ratio = width / sigma
    return -math.sqrt(2.0 / math.pi) * ratio / sigma * np.exp(-0.5 * ratio**2)


def _box_symbolic(c: Constants) -> Evidence:
    """The mass of an interval, its slope, and that the tie is below each sigma."""
    z = sympy.Symbol("z", real=True)
    e, s, t = sympy.symbols("epsilon s t", positive=True)
    density = sympy.exp(-(z**2) / (2 * s**2)) / (s * sympy.sqrt(2 * sympy.pi))
    mass = sympy.erf(e / (s * sympy.sqrt(_exact(c["two"]))))
    tie = (s, s + t)[int(c["place"]) - 1]
    return _together(
        "mass of an interval; it falls in sigma; the tie is no larger than any sigma",
        equal("", (sympy.integrate(density, (z, -e, e)), mass)),
        nonnegative("", -sympy.diff(mass, s), s - tie, s + t - tie),
    )


def _box_sampled(c: Constants) -> Evidence:
    random = np.random.default_rng(2)
    sigma, width = np.array([0.8, 0.3, 1.0]), np.array([0.5, 0.25, 0.75])
    tie = _at_place(sigma, c)
    noise = random.normal(size=(2, 200_000, 3))
    before = np.all(np.abs(sigma * noise[0]) < width, axis=-1)
    after = np.all(np.abs(sigma.min() * noise[1]) < width, axis=-1)
    return sampled(
        "mass of a box under the diagonal and the tied posterior",
        (float(box_mass(sigma, width, c).prod()), before),
        (float(box_mass(np.full(3, tie), width, c).prod()), after),
    )


def _box_violated(c: Constants) -> Evidence:
    """Masses of intervals by scipy's distribution function, against the formula."""

    def violated(case: tuple[Array, int]) -> bool:
        sigma, width = case[0], 2.0 ** case[1]
        tie = _at_place(sigma, c)
        by_law = 1.0 - 2.0 * scipy.special.ndtr(-width / sigma)
        tied = 1.0 - 2.0 * scipy.special.ndtr(-width / tie)
        claimed = box_mass(sigma, width, c)
        less = bool((tied < by_law - _CLOSE).any())
        return less or bool(np.abs(by_law - claimed).max() > _CLOSE)

    cases = st.tuples(_variances(-8, 8, 0.5), st.integers(-6, 6))
    return search("less mass near the mean after the tie", cases, violated)


I0B = Statement(
    id="I0b",
    name="the tied posterior has more mass near the mean",
    paper="IGP, theorem 1, second part",
    item="igp-thm1",
    claim="Tied to the smallest σ, q has at least as much mass in every box around its mean.",
    constants={"two": 2.0, "place": 1.0},
    wrong={"two": 1.0, "place": 2.0},
    checks=(_box_symbolic, _box_sampled, _box_violated),
)


def geometric_lowers(variance: Array, c: Constants) -> float:
    """KL of the diagonal posterior minus that with the geometric mean, nats."""
    found = ties(variance)
    return float(c["half"] * len(variance) * (found.arithmetic - found.geometric))


def arithmetic_lowers(variance: Array, c: Constants) -> float:
    """KL of the diagonal posterior minus that with the arithmetic mean, nats."""
    found = ties(variance)
    return float(c["half"] * len(variance) * math.log(found.arithmetic / found.geometric))


def _order_symbolic(c: Constants) -> Evidence:
    """Two variances a^2 and b^2; concavity in the precision; the slope in v."""
    a, b, v = sympy.symbols("a b v", positive=True)
    t = sympy.Symbol("t", nonnegative=True)

    def kl(variance: Any) -> Any:
        return (variance - 1 - sympy.log(variance)) / 2

    middle, root = (a**2 + b**2) / 2, a * b
    before, half = kl(a**2) + kl(b**2), _exact(c["half"])
    concave = -sympy.diff(2 * kl(1 / v), v, 2).subs(v, 1 / _exact(c["limit"]) + t)
    return _together(
        "what two ties save; means are ordered; KL is concave in 1/v below the limit",
        equal(
            "",
            (before - 2 * kl(root), 2 * half * (middle - root)),
            (before - 2 * kl(middle), 2 * half * (sympy.log(middle) - sympy.log(root))),
        ),
        nonnegative("", middle - root, root - root**2 / middle, concave, _falling(c["order"])),
    )


def _curvature_draws(level: float, random: np.random.Generator) -> Array:
    """Draws whose mean is the second derivative of KL(N(0, 1/u) || N(0, 1)) in u at 1/level."""
    noise, step = random.normal(size=200_000), 1.0 / 32.0

    def ratio(precision: float) -> Array:
        z = noise / math.sqrt(precision)
        return _log_normal(z, 1.0 / precision) - _log_normal(z, 1.0)

    u = 1.0 / level
    return (ratio(u + step) - 2.0 * ratio(u) + ratio(u - step)) / step**2


def _order_sampled(c: Constants) -> Evidence:
    random = np.random.default_rng(3)
    variance = np.array([0.4, 1.5, 3.0])
    found = ties(variance)
    before = _log_ratio(variance, 200_000, random)
    geometric = _log_ratio(_tied(variance, found.geometric), 200_000, random)
    arithmetic = _log_ratio(_tied(variance, found.arithmetic), 200_000, random)
    return sampled(
        "KL saved by two ties; no curvature in 1/v and no slope in v at the limits, nats",
        (geometric_lowers(variance, c), before - geometric),
        (arithmetic_lowers(variance, c), before - arithmetic),
        (0.0, _curvature_draws(c["limit"], random)),
        (0.0, _slope_draws(c["order"], random)),
    )


def _order_violated(c: Constants) -> Evidence:
    def violated(variance: Array) -> bool:
        before = kl_by_definition(variance)
        tied = Ties(*(kl_by_definition(_tied(variance, tie)) for tie in ties(variance)))
        slack = _CLOSE * (1.0 + before)
        wrong = _apart(before - tied.geometric, geometric_lowers(variance, c))
        wrong |= _apart(before - tied.arithmetic, arithmetic_lowers(variance, c))
        wrong |= max(tied.geometric, tied.arithmetic) > before + slack
        if variance.max() <= c["limit"]:
            wrong |= tied.harmonic < before - slack
        if variance.min() >= c["limit"]:
            wrong |= tied.harmonic > before + slack
        if variance.mean() <= c["order"]:
            wrong |= any(left < right - slack for left, right in itertools.pairwise(tied[:4]))
        return bool(wrong)

    cases = st.one_of(_variances(-16, 16, 0.25), _variances(-4, 0, 0.125, c["limit"]))
    return search("another order of the divergences under the ties", cases, violated, _listed)


I0C = Statement(
    id="I0c",
    name="whether a tie raises KL depends on the tie",
    paper="IGP, theorem 1 with other ties",
    item="igp-thm1",
    claim=(
        "The arithmetic and the geometric mean never raise KL; the harmonic mean never lowers it "
        "if every σ² ≤ 1/2 and never raises it if every σ² ≥ 1/2. With mean σ² at most 1, KL "
        "falls from the smallest to harmonic, geometric and arithmetic."
    ),
    constants={"half": 0.5, "limit": 0.5, "order": 1.0},
    wrong={"half": 0.25, "limit": 0.75, "order": 2.0},
    checks=(_order_symbolic, _order_sampled, _order_violated),
)


# --- the estimate of the variance -----------------------------------------------------------------


def estimate_error(samples: int, dimensions: int, c: Constants) -> float:
    """Standard deviation of the estimate of a variance 1 that K dimensions share."""
    return math.sqrt(c["two"] / (samples - c["ddof"])) / float(dimensions ** c["root"])


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


def _spread(columns: list[list[Any]]) -> Any:
    """The unbiased estimate, averaged over dimensions, of samples in columns."""
    total = sympy.S.Zero
    for column in columns:
        mean = sum(column) / sympy.Integer(len(column))
        total += sum((z - mean) ** 2 for z in column) / (len(column) - 1)
    return total / len(columns)


def _squared_errors(samples: int, variances: list[Any]) -> Any:
    """Expected squared distance of the shared estimate from the first variance, by moments."""
    columns = [
        [sympy.Symbol(f"z_{n}_{k}", real=True) for n in range(samples)]
        for k in range(len(variances))
    ]
    of = {z: v for column, v in zip(columns, variances, strict=True) for z in column}
    return _expected(sympy.expand((_spread(columns) - variances[0]) ** 2), of)


def _estimate_symbolic(c: Constants) -> Evidence:
    v = sympy.Symbol("v", positive=True)
    n = sympy.Symbol("N", positive=True)
    pairs = [
        (
            _squared_errors(samples, [v] * dimensions),
            v**2
            * _exact(c["two"])
            / (samples - _exact(c["ddof"]))
            / sympy.Integer(dimensions) ** (2 * _exact(c["root"])),
        )
        for samples, dimensions in ((2, 1), (3, 1), (2, 2))
    ]
    ratio = sympy.sqrt(_exact(c["two"]) / (n - _exact(c["ddof"]))) / sympy.sqrt(2 / n)
    return equal(
        "squared error of the estimate by moments; its ratio to the printed form for large N",
        *pairs,
        (sympy.limit(ratio, n, sympy.oo), 1),
    )


def _estimates(samples: int, variance: Array, draws: int, seed: int) -> Array:
    """Draws (draws, K) of the unbiased estimate of each variance."""
    noise = np.random.default_rng(seed).normal(size=(draws, samples, len(variance)))
    found: Array = (np.sqrt(variance) * noise).var(axis=1, ddof=1)
    return found


def _estimate_sampled(c: Constants) -> Evidence:
    found = _estimates(4, np.full(3, 0.7), 60_000, 4)
    shared, alone = estimate_error(4, 3, c), estimate_error(4, 1, c)
    return sampled(
        "squared error of one dimension's and of three dimensions' estimate, N = 4",
        ((0.7 * alone) ** 2, (found[:, 0] - 0.7) ** 2),
        ((0.7 * shared) ** 2, (found.mean(1) - 0.7) ** 2),
    )


def _estimate_violated(c: Constants) -> Evidence:
    """Against the law of the estimate: chi-squared with K (N - 1) degrees of freedom."""

    def violated(case: tuple[int, int]) -> bool:
        samples, dimensions = case
        freedom = dimensions * (samples - 1)
        exact = float(scipy.stats.chi2.std(freedom)) / freedom
        return _apart(exact, estimate_error(samples, dimensions, c))

    cases = st.tuples(st.integers(2, 200), st.integers(1, 64))
    compared = "an error other than that of the chi-squared law"
    return search(compared, cases, violated, lambda case: f"N = {case[0]}, K = {case[1]}")


I1 = Statement(
    id="I1",
    name="error of the estimated variance",
    paper="IGP, section 3",
    item="igp-varest",
    claim=(
        "N samples estimate a variance σ² with standard error σ² √(2/(N−1)), about σ² √(2/N); "
        "K dimensions that share it divide the error by √K."
    ),
    constants={"two": 2.0, "ddof": 1.0, "root": 0.5},
    wrong={"two": 3.0, "ddof": 0.0, "root": 1.0},
    checks=(_estimate_symbolic, _estimate_sampled, _estimate_violated),
)


class SharedError(NamedTuple):
    """Mean squared errors in each dimension (K,), and what the K dimensions are worth."""

    shared: Array
    own: Array
    effective: float


def shared_error(samples: int, variance: Array, c: Constants | None = None) -> SharedError:
    """Squared error of the shared and of the own estimate of each variance (K,).

    The shared one is off by the distance of a variance from the mean of all.
    Its relative standard error falls by the root of (sum v)^2 / sum v^2, at most K.
    """
    two, ddof = (2.0, 1.0) if c is None else (c["two"], c["ddof"])
    bias = 1.0 if c is None else c["bias"]
    noise = two * float((variance**2).sum()) / len(variance) ** 2 / (samples - ddof)
    shared = noise + bias * (variance.mean() - variance) ** 2
    effective = float(variance.sum() ** 2 / (variance**2).sum())
    return SharedError(shared, two * variance**2 / (samples - ddof), effective)


def _unequal_symbolic(c: Constants) -> Evidence:
    v = sympy.symbols("v:2", positive=True)
    pairs = []
    for samples in (2, 3):
        scale = _exact(c["two"]) / (samples - _exact(c["ddof"]))
        noise = scale * (v[0] ** 2 + v[1] ** 2) / 4
        claimed = noise + _exact(c["bias"]) * ((v[0] + v[1]) / 2 - v[0]) ** 2
        pairs.append((_squared_errors(samples, list(v)), claimed))
    worth = 2 - (v[0] + v[1]) ** 2 / (v[0] ** 2 + v[1] ** 2)
    return _together(
        "squared error of a shared estimate by moments; two dimensions are worth at most two",
        equal("", *pairs),
        nonnegative("", worth),
    )


def _unequal_sampled(c: Constants) -> Evidence:
    variance = np.array([0.5, 1.0, 1.5])
    mean = _estimates(4, variance, 60_000, 5).mean(1)
    exact = shared_error(4, variance, c).shared
    cases = [(float(exact[k]), (mean - variance[k]) ** 2) for k in range(3)]
    return sampled("squared error of the shared estimate, variances 0.5, 1, 1.5, N = 4", *cases)


def _shared_cases() -> st.SearchStrategy[tuple[int, Array]]:
    return st.tuples(st.integers(2, 50), _variances(-4, 4, 0.5))


def _shared_shown(case: tuple[int, Array]) -> str:
    found = shared_error(*case)
    worst = int(np.argmax(found.shared / found.own))
    return (
        f"N = {case[0]}, {_listed(case[1])}: squared error in dimension {worst + 1} "
        f"{found.shared[worst]:.4g} shared, {found.own[worst]:.4g} alone"
    )


def _unequal_violated(c: Constants) -> Evidence:
    """Against sums of chi-squared variables: their means and variances from scipy."""

    def violated(case: tuple[int, Array]) -> bool:
        samples, variance = case
        freedom = samples - 1
        mean, spread = scipy.stats.chi2.stats(freedom, moments="mv")
        parts = variance / freedom / len(variance)
        noise, level = (parts**2 * spread).sum(), (parts * mean).sum()
        exact = noise + (level - variance) ** 2
        found = shared_error(samples, variance, c)
        beyond = found.effective > len(variance) * (1.0 + _CLOSE)
        close = np.allclose(exact, found.shared, rtol=_CLOSE, atol=_CLOSE)
        return beyond or not close

    compared = "another error of the shared estimate, or a gain beyond √K"
    return search(compared, _shared_cases(), violated, _shared_shown)


def shared_printed() -> Evidence:
    """A dimension whose variance is estimated worse when it is shared."""

    def violated(case: tuple[int, Array]) -> bool:
        found = shared_error(*case)
        return bool((found.shared > found.own * (1.0 + _CLOSE)).any())

    compared = "a dimension that the shared estimate serves worse than its own"
    return search(compared, _shared_cases(), violated, _shared_shown)


I1B = Statement(
    id="I1b",
    name="the shared estimate when the variances differ",
    paper="IGP, section 3, without equal variances",
    item="",
    claim=(
        "Read without a condition, sharing serves every dimension better. If the variances differ, "
        "its squared error is 2 Σv²/(K²(N−1)) + (mean v − v_k)² in dimension k, and its relative "
        "error falls by the root of (Σv)²/Σv² ≤ K."
    ),
    constants={"two": 2.0, "ddof": 1.0, "bias": 1.0},
    wrong={"two": 1.0, "ddof": 0.0, "bias": 0.0},
    checks=(_unequal_symbolic, _unequal_sampled, _unequal_violated),
    printed=shared_printed,
)


# --- information, rate and distortion -------------------------------------------------------------


class Channel(NamedTuple):
    """Nats: the terms of H - D <= I <= R and the two gaps."""

    entropy: float
    distortion: float
    rate: float
    information: float
    decoder_gap: float  # the average KL(q(x|z) || p(x|z))
    prior_gap: float  # KL(q(z) || p(z))


def channel(data: Array, encoder: Array, decoder: Array, prior: Array, weight: Array) -> Channel:
    """All terms from densities on a grid of z, or from tables where z is discrete.

    Args:
        data: p(x), (X,).
        encoder: q(z|x), (X, Z).
        decoder: p(x|z), (X, Z), a distribution over x.
        prior: p(z), (Z,).
        weight: of each z in the integral, (Z,).
    """
    joint = data[:, None] * encoder * weight
    marginal = data @ encoder
    backward = data[:, None] * encoder / marginal
    return Channel(
        entropy=-float((data * np.log(data)).sum()),
        distortion=-float((joint * np.log(decoder)).sum()),
        rate=float((joint * np.log(encoder / prior)).sum()),
        information=float((joint * np.log(encoder / marginal)).sum()),
        decoder_gap=float((marginal * weight * backward * np.log(backward / decoder)).sum()),
        prior_gap=float((marginal * weight * np.log(marginal / prior)).sum()),
    )


def sigmoid_channel(mean: Array, sd: Array, slope: float, points: int = 4001) -> Channel:
    """Two equally likely x, normal q(z|x), and p(x = 1|z) the sigmoid of slope times z."""
    reach = float(np.max(np.abs(mean) + 12.0 * sd))
    z = np.linspace(-reach, reach, points)
    weight = np.full(points, z[1] - z[0])  # the ends hold nothing: the sum is as good as exact
    encoder = np.exp(_log_normal(z - mean[:, None], sd[:, None] ** 2))
    decoder = np.stack([scipy.special.expit(-slope * z), scipy.special.expit(slope * z)])
    floor = np.finfo(float).tiny  # densities that underflow count as nothing
    prior = np.exp(_log_normal(z, 1.0))
    return channel(np.full(2, 0.5), np.maximum(encoder, floor), decoder, prior, weight)


def _bound_symbolic(c: Constants) -> Evidence:
    """Two x and two z: both gaps, with logarithms of products taken apart."""
    w, g, p, h = sympy.symbols("w g p h", positive=True)
    # Odds keep every probability a positive rational function of positive symbols.
    data = (1 / (1 + w), w / (1 + w))
    prior = (1 / (1 + p), p / (1 + p))
    third = sympy.Rational(1, 3)
    encoder = ((1 / (1 + g), g / (1 + g)), (third, 2 * third))
    decoder = ((h / (1 + h), third), (1 / (1 + h), 2 * third))  # [x][z]
    marginal = [sympy.factor(sum(data[x] * encoder[x][z] for x in (0, 1))) for z in (0, 1)]
    cells = [(x, z, data[x] * encoder[x][z]) for x in (0, 1) for z in (0, 1)]

    def log(value: Any) -> Any:
        return sympy.expand_log(sympy.log(sympy.factor(value)), force=True)

    information = sum(q * (log(encoder[x][z]) - log(marginal[z])) for x, z, q in cells)
    entropy = -sum(d * log(d) for d in data)
    distortion = -sum(q * log(decoder[x][z]) for x, z, q in cells)
    rate = sum(q * (log(encoder[x][z]) - log(prior[z])) for x, z, q in cells)
    decoder_gap = sum(q * (log(q / marginal[z]) - log(decoder[x][z])) for x, z, q in cells)
    prior_gap = sum(m * (log(m) - log(q)) for m, q in zip(marginal, prior, strict=True))
    low = _exact(c["entropy"]) * entropy - _exact(c["distortion"]) * distortion
    return equal(
        "I − (H − D) and R − I against the two divergences, two x and two z",
        (sympy.expand(information - low - decoder_gap), 0),
        (sympy.expand(_exact(c["rate"]) * rate - information - prior_gap), 0),
    )


def _bound_sampled(c: Constants) -> Evidence:
    mean, sd, slope = np.array([-1.0, 1.0]), np.array([0.5, 0.5]), 3.0
    found = sigmoid_channel(mean, sd, slope)
    random = np.random.default_rng(6)
    x = random.integers(0, 2, 300_000)
    z = mean[x] + sd[x] * random.normal(size=x.size)
    both = np.exp(_log_normal(z - mean[:, None], sd[:, None] ** 2))
    ratio = np.log(both[x, np.arange(x.size)] / both.mean(0))
    low = c["entropy"] * found.entropy - c["distortion"] * found.distortion
    return sampled(
        "mean log-ratio of q(z|x) and q(z) against H − D plus a gap and R less a gap, nats",
        (low + found.decoder_gap, ratio),
        (c["rate"] * found.rate - found.prior_gap, ratio),
    )


@st.composite
def _tables(draw: st.DrawFn) -> tuple[Array, Array, Array, Array]:
    """p(x), q(z|x), p(x|z), p(z) for two to four x and z."""
    rows, columns = draw(st.integers(2, 4)), draw(st.integers(2, 4))

    def weights(*shape: int) -> Array:
        size = math.prod(shape)
        drawn = draw(st.lists(st.integers(0, 12), min_size=size, max_size=size))
        return np.exp2(np.reshape(drawn, shape).astype(float))

    data, encoder, decoder = weights(rows), weights(rows, columns), weights(rows, columns)
    prior = weights(columns)
    encoder, decoder = encoder / encoder.sum(1, keepdims=True), decoder / decoder.sum(0)
    return data / data.sum(), encoder, decoder, prior / prior.sum()


def _bound_violated(c: Constants) -> Evidence:
    """The order itself, with information as the sum of entropies."""

    def plain(p: Array) -> float:
        return -float((p * np.log(p)).sum())

    def violated(case: tuple[Array, Array, Array, Array]) -> bool:
        data, encoder, decoder, prior = case
        found = channel(data, encoder, decoder, prior, np.ones(len(prior)))
        joint = data[:, None] * encoder
        information = plain(joint.sum(0)) + plain(data) - plain(joint)
        low = c["entropy"] * found.entropy - c["distortion"] * found.distortion
        high = c["rate"] * found.rate
        gaps = information - low, high - information
        wrong = _apart(gaps[0], found.decoder_gap) or _apart(gaps[1], found.prior_gap)
        return wrong or min(gaps) < -_CLOSE

    def shown(case: tuple[Array, Array, Array, Array]) -> str:
        return f"p(x) {case[0].round(4).tolist()}, q(z|x) {case[1].round(4).tolist()}"

    compared = "information outside [H − D, R], or another gap"
    return search(compared, _tables(), violated, shown, draws=200)


I2 = Statement(
    id="I2",
    name="information between H − D and R",
    paper="IGP, section 5.1",
    item="",
    claim="H − D ≤ I ≤ R for discrete x; the gaps are E KL(q(x|z) ‖ p(x|z)), KL(q(z) ‖ p(z)).",
    constants={"entropy": 1.0, "distortion": 1.0, "rate": 1.0},
    wrong={"entropy": 2.0, "distortion": 0.5, "rate": 0.5},
    checks=(_bound_symbolic, _bound_sampled, _bound_violated),
)


# --- the linear VAE -------------------------------------------------------------------------------


class LinearIgp(NamedTuple):
    """The optimum of a linear VAE with an isotropic posterior, in the basis of the data."""

    level: float  # c
    weights: Array  # (K,), squared lengths of the decoder's columns
    variance: float  # tau^2, of the posterior in every direction
    mean_variance: Array  # (K,), of the posterior mean over the data
    kl: float  # nats, averaged over the data

    @property
    def log_det(self) -> float:
        """log det Cov[q(z)] of the aggregated posterior."""
        return float(np.log(self.mean_variance + self.variance).sum())


_OPTIMUM: Constants = {"power": 0.5, "noise": 1.0, "share": 1.0}


def linear_igp(spectrum: Array, noise: float, c: Constants = _OPTIMUM) -> LinearIgp:
    """The optimum for eigenvalues (K,) of the data covariance and noise variance s^2.

    The squared weights are (sqrt(lambda c) - s^2)_+ with c = s^2 + their mean over all K.
    With the power 1 in place of 1/2 they are those of a diagonal posterior.
    """

    def weights(level: float) -> Array:
        root = level * (spectrum / level) ** c["power"]  # exact where the two are equal
        return np.maximum(root - c["noise"] * noise, 0.0)

    def excess(level: float) -> float:
        return level - noise - c["share"] * float(weights(level).mean())

    high = 4.0 * (noise + float(spectrum.max()))
    level = noise
    if excess(noise) < 0.0:
        level = float(scipy.optimize.brentq(excess, noise, high, xtol=1e-300, rtol=1e-15))
    found = weights(level)
    spread = spectrum * found / (found + noise) ** 2
    kl = 0.5 * len(spectrum) * math.log(level / noise)
    return LinearIgp(level, found, noise / level, spread, kl)


def dgp_weights(spectrum: Array, noise: float) -> Array:
    """Squared weights (K,) of a linear VAE with a diagonal posterior: those of p-PCA."""
    return np.maximum(spectrum - noise, 0.0)


def mean_variances(spectrum: Array, noise: float) -> tuple[Array, Array]:
    """Variance of the posterior mean in each direction, with diagonal and isotropic posterior."""
    weights = dgp_weights(spectrum, noise)
    return spectrum * weights / (weights + noise) ** 2, linear_igp(spectrum, noise).mean_variance


def loss(
    decoder: Array, encoder: Array, log_variance: float, spectrum: Array, noise: float
) -> tuple[float, Array]:
    """Negative ELBO, averaged over the data and without its constant, and its gradient.

    x has covariance diag(spectrum), z given x is N(encoder x, tau^2 I), x given z is
    N(decoder z, s^2 I).

    Args:
        decoder: (K, K).
        encoder: (K, K).
        log_variance: of the posterior.
        spectrum: (K,).
        noise: s^2.
    """
    count, variance = len(spectrum), math.exp(log_variance)
    missed = np.eye(count) - decoder @ encoder
    squares = float((missed**2 * spectrum).sum() + variance * (decoder**2).sum())
    kl = float((encoder**2 * spectrum).sum()) + count * (variance - 1.0 - log_variance)
    by_decoder = (variance * decoder - (missed * spectrum) @ encoder.T) / noise
    by_encoder = encoder * spectrum - decoder.T @ (missed * spectrum) / noise
    by_variance = 0.5 * variance * (float((decoder**2).sum()) / noise + count) - 0.5 * count
    gradient = np.concatenate([by_decoder.ravel(), by_encoder.ravel(), [by_variance]])
    return 0.5 * squares / noise + 0.5 * kl, gradient


def loss_at(found: LinearIgp, spectrum: Array, noise: float) -> float:
    """The loss where a formula puts the optimum."""
    root = np.sqrt(found.weights)
    encoder = np.diag(root / (found.weights + noise))
    return loss(np.diag(root), encoder, math.log(found.variance), spectrum, noise)[0]


class Trained(NamedTuple):
    """A linear VAE after training."""

    loss: float  # nats
    weights: Array  # (K,), eigenvalues of the decoder's Gram matrix, the largest first
    variance: float  # of the posterior
    means: Array  # (K, K): covariance of the posterior means


def train(spectrum: Array, noise: float, seed: int = 0) -> Trained:
    """Train all weights of a linear VAE with an isotropic posterior from a random start.

    The decoder and the encoder are full matrices, and nothing of the optimum is built in.
    """
    count = len(spectrum)
    start = np.append(np.random.default_rng(seed).normal(size=2 * count**2), 0.0)

    def objective(flat: Array) -> tuple[float, Array]:
        decoder, encoder = flat[:-1].reshape(2, count, count)
        return loss(decoder, encoder, float(flat[-1]), spectrum, noise)

    options = {"maxiter": 4000, "maxfun": 8000, "ftol": 1e-15, "gtol": 1e-9}
    found = scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    decoder, encoder = found.x[:-1].reshape(2, count, count)
    lengths = np.linalg.svd(decoder, compute_uv=False) ** 2
    means = (encoder * spectrum) @ encoder.T
    return Trained(float(found.fun), lengths, math.exp(found.x[-1]), means)


def _optimum_symbolic(c: Constants) -> Evidence:
    """Two directions: the best encoder and posterior variance, then the best weights."""
    v, half = sympy.Symbol("v", real=True), sympy.Rational(1, 2)
    w, s, k, m, lam = sympy.symbols("w s k m lambda", positive=True)
    a, r, c_, t = sympy.symbols("a r c t", positive=True)
    # One direction with encoder v; K directions share t = tau^2 and have mean squared weight m.
    direction = half * (lam * (1 - w * v) ** 2 / s + lam * v**2)
    best = w / (w**2 + s)
    shared = half * k * (t * m / s + t - 1 - sympy.log(t))
    level = s + _exact(c["share"]) * m
    value = half * k * (sympy.log(s + m) - sympy.log(s))
    # For K = 2, a is one squared weight and r the other; r is then written by means of c.
    reduced = -half * lam / (a + s) - sympy.log(1 + (a + r) / (2 * s))
    slope = sympy.diff(reduced, a).subs(r, 2 * (c_ - s) - a)
    claimed = lam ** _exact(c["power"]) * c_ ** (1 - _exact(c["power"])) - _exact(c["noise"]) * s
    return equal(
        "no slope of the ELBO in encoder, posterior variance and weight at the optimum",
        (sympy.diff(direction, v).subs(v, best), 0),
        (direction.subs(v, best), half * lam / (w**2 + s)),
        (sympy.diff(shared, t).subs(t, s / level), 0),
        (sympy.expand_log(shared.subs(t, s / (s + m))), value),
        (slope.subs(a, claimed), 0),
    )


def _optimum_sampled(c: Constants) -> Evidence:
    """KL and ELBO of the model at the optimum from draws of x and z."""
    spectrum, noise = np.array([2.0, 0.5, 0.125]), 0.25
    found = linear_igp(spectrum, noise, c)
    random = np.random.default_rng(7)
    root = np.sqrt(found.weights)
    x = np.sqrt(spectrum) * random.normal(size=(200_000, 3))
    mean = root / (found.weights + noise) * x
    z = mean + math.sqrt(found.variance) * random.normal(size=x.shape)
    ratio = (_log_normal(z - mean, found.variance) - _log_normal(z, 1.0)).sum(-1)
    likelihood = _log_normal(x - root * z, noise).sum(-1)
    elbo = -0.5 * (spectrum / (found.weights + noise)).sum() - found.kl
    constant = 1.5 * math.log(2.0 * math.pi * noise)
    return sampled(
        "KL = (K/2) log(c/s²) and the ELBO at the optimum for eigenvalues 2, 1/2, 1/8, nats",
        (found.kl, ratio),
        (elbo - constant, likelihood - ratio),
    )


def _spectra(low: int, high: int, step: float) -> st.SearchStrategy[tuple[Array, float]]:
    """Eigenvalues (K,), the largest first, and a noise variance."""
    powers = st.lists(st.integers(low, high), min_size=1, max_size=4)
    ordered = powers.map(lambda k: np.exp2(step * np.sort(np.asarray(k, dtype=float))[::-1]))
    return st.tuples(ordered, st.integers(low, 2).map(lambda k: float(np.exp2(step * k))))


def _spectrum_shown(case: tuple[Array, float]) -> str:
    spectrum, noise = case
    found = linear_igp(spectrum, noise)
    values = ", ".join(f"{value:.4g}" for value in spectrum)
    return (
        f"eigenvalues {values}, noise {noise:.4g}: {int((spectrum > noise).sum())} active with a "
        f"diagonal, {int((found.weights > 0).sum())} with an isotropic posterior"
    )


def _optimum_violated(c: Constants) -> Evidence:
    """Training from a random start: does it end better, or elsewhere?"""

    def violated(case: tuple[Array, float]) -> bool:
        spectrum, noise = case
        claimed, found = linear_igp(spectrum, noise, c), train(spectrum, noise)
        here = loss_at(claimed, spectrum, noise)
        return abs(here - found.loss) > 1e-6 * (1.0 + abs(here))

    compared = "a linear VAE that trains to another ELBO than the formula's"
    return search(compared, _spectra(-6, 6, 0.5), violated, _spectrum_shown, draws=60)


def some_printed() -> Evidence:
    """A linear VAE whose isotropic posterior uses some of its directions and not all."""

    def violated(case: tuple[Array, float]) -> bool:
        active = linear_igp(*case).weights > 1e-6
        return bool(active.any() and not active.all())

    compared = "an optimum that uses some directions, neither all nor none"
    return search(compared, _spectra(-6, 6, 1.0), violated, _spectrum_shown)


I3 = Statement(
    id="I3",
    name="the linear VAE with an isotropic posterior",
    paper="IGP, section 3, all dimensions or none",
    item="",
    claim=(
        "As printed, all dimensions are used or none. The linear VAE has w_i² = (√(λ_i c) − s²)₊ "
        "with c = s² + mean w², posterior variance s²/c and KL = (K/2) log(c/s²)."
    ),
    constants=_OPTIMUM,
    wrong={"power": 1.0, "noise": 0.5, "share": 0.5},
    checks=(_optimum_symbolic, _optimum_sampled, _optimum_violated),
    printed=some_printed,
)


def thresholds(spectrum: Array, noise: float, c: Constants) -> tuple[float, float]:
    """Eigenvalue above which a direction is active, with diagonal and isotropic posterior."""
    level = linear_igp(spectrum, noise).level
    return c["level"] * noise, noise * (noise / level) ** c["power"]


def _active_symbolic(c: Constants) -> Evidence:
    """Curvature of the ELBO where a direction is closed, and the order of the two thresholds."""
    w, lam, s = sympy.symbols("w lambda s", positive=True)
    more = sympy.Symbol("m", nonnegative=True)
    level, half = s + more, sympy.Rational(1, 2)

    def curvature(variance: Any) -> Any:
        v = w / (w**2 + s)
        squares = lam * (1 - w * v) ** 2 + variance * w**2
        elbo = -half * (squares / s + lam * v**2 + variance)
        return sympy.diff(elbo, w, 2).subs(w, 0)

    dgp, igp = _exact(c["level"]) * s, s * (s / level) ** _exact(c["power"])
    return _together(
        "the ELBO is flat in w where λ is at the threshold; the isotropic one is lower",
        equal("", (curvature(1).subs(lam, dgp), 0), (curvature(s / level).subs(lam, igp), 0)),
        nonnegative("", s - igp, sympy.diff(dgp - s, s)),
    )


def _opened(variance: float, power: float, noise: float, random: np.random.Generator) -> Array:
    """Draws of the ELBO's curvature in a closed direction's weight, data variance ``power``."""
    x, e = math.sqrt(power) * random.normal(size=200_000), random.normal(size=200_000)
    step = 1.0 / 32.0

    def elbo(w: float) -> Array:
        mean = w / (w**2 + noise) * x
        z = mean + math.sqrt(variance) * e
        return _log_normal(x - w * z, noise) + _log_normal(z, 1.0) - _log_normal(z - mean, variance)

    return (elbo(step) - 2.0 * elbo(0.0) + elbo(-step)) / step**2


def _active_sampled(c: Constants) -> Evidence:
    random = np.random.default_rng(8)
    spectrum, noise = np.array([4.0, 1.0, 0.03125]), 0.5
    dgp, igp = thresholds(spectrum, noise, c)
    variance = linear_igp(spectrum, noise).variance
    return sampled(
        "curvature 0 of the ELBO in a closed direction's weight at both thresholds",
        (0.0, _opened(1.0, dgp, noise, random)),
        (0.0, _opened(variance, igp, noise, random)),
    )


def _best(spectrum: Array, noise: float, cost: Callable[[Array], tuple[float, Array]]) -> Array:
    """Squared weights that maximise the ELBO, found numerically; ``cost`` is what z costs."""

    def objective(a: Array) -> tuple[float, Array]:
        price, by_weight = cost(a)
        value = 0.5 * float((spectrum / (a + noise)).sum()) + price
        return value, by_weight - 0.5 * spectrum / (a + noise) ** 2

    bounds = [(0.0, None)] * len(spectrum)
    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 2000}
    found = scipy.optimize.minimize(
        objective, spectrum.copy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    return np.asarray(found.x)


def _active_by_optimisation(
    spectrum: Array, noise: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    count = len(spectrum)

    def diagonal(a: Array) -> tuple[float, Array]:
        return 0.5 * float(np.log1p(a / noise).sum()), 0.5 / (a + noise)

    def isotropic(a: Array) -> tuple[float, Array]:
        level = noise + float(a.mean())
        return 0.5 * count * math.log(level / noise), np.full(count, 0.5 / level)

    small = 1e-5 * noise
    return (
        _best(spectrum, noise, diagonal) > small,
        _best(spectrum, noise, isotropic) > small,
    )


def _active_violated(c: Constants) -> Evidence:
    """Which directions are active, by numerical optimisation and by the thresholds."""

    def violated(case: tuple[Array, float]) -> bool:
        spectrum, noise = case
        limits = thresholds(spectrum, noise, c)
        for limit, active in zip(limits, _active_by_optimisation(spectrum, noise), strict=True):
            clear = np.abs(spectrum / limit - 1.0) > 0.02  # at the limit the weight is nearly 0
            if ((spectrum > limit) != active)[clear].any():
                return True
        return limits[1] > limits[0] * (1.0 + _CLOSE)

    compared = "another set of active directions, or fewer with an isotropic posterior"
    return search(compared, _spectra(-6, 6, 0.5), violated, _spectrum_shown, draws=120)


_ACTIVE = 0.01  # variance of the mean from which a unit is active (Burda et al. 2016)


def _counts(spectrum: Array, noise: float) -> tuple[int, int]:
    """Active directions with the variance of the mean at least 0.01: diagonal, isotropic."""
    dgp, igp = mean_variances(spectrum, noise)
    return int((dgp >= _ACTIVE).sum()), int((igp >= _ACTIVE).sum())


def fewer_printed() -> Evidence:
    """A linear VAE in which the isotropic posterior has fewer active directions as AU counts."""

    def violated(case: tuple[Array, float]) -> bool:
        dgp, igp = _counts(*case)
        return igp < dgp

    def shown(case: tuple[Array, float]) -> str:
        dgp, igp = _counts(*case)
        values = ", ".join(f"{value:.4g}" for value in case[0])
        return f"eigenvalues {values}, noise {case[1]:.4g}: {dgp} diagonal, {igp} isotropic"

    compared = "fewer directions with variance of the mean at least 0.01 than diagonal"
    return search(compared, _spectra(-4, 24, 1.0), violated, shown)


I3B = Statement(
    id="I3b",
    name="an isotropic posterior opens more directions",
    paper="IGP, section 4.1, higher AU",
    item="",
    claim=(
        "Read as a rule, AU is never lower than with a diagonal posterior. In the linear VAE "
        "w_i > 0 iff λ > s⁴/c, which is at most s², the limit for a diagonal posterior."
    ),
    constants={"level": 1.0, "power": 1.0},
    wrong={"level": 0.5, "power": 2.0},
    checks=(_active_symbolic, _active_sampled, _active_violated),
    printed=fewer_printed,
)


# --- rotations ------------------------------------------------------------------------------------


def turn(degrees: float) -> Array:
    """The rotation of the plane."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def _output(z: Array, bend: float) -> Array:
    """A decoder that is not linear: the mean of x for z (..., 2)."""
    return np.asarray(z[..., 0] - 0.5 * z[..., 1] + bend * z[..., 0] * z[..., 1])


def turned_elbo(x: float, mean: Array, variance: Array, degrees: float, bend: float = 0.5) -> float:
    """ELBO of the model turned by an angle: encoder mean R mean, decoder f(R^T z), noise 1.

    The quadrature is exact, as the logarithm of the likelihood is a polynomial of degree 4.

    Args:
        x: the observation.
        mean: (2,), of the posterior before the turn.
        variance: (2,), of the posterior after the turn as well as before.
        degrees: the angle.
        bend: how far the decoder is from linear.
    """
    rotation = turn(degrees)
    grid = np.stack(np.meshgrid(_NODES, _NODES, indexing="ij"), -1)
    weight = np.outer(_WEIGHTS, _WEIGHTS)
    centre = rotation @ mean
    z = centre + np.sqrt(variance) * grid
    fit = _log_normal(x - _output(z @ rotation, bend), 1.0)
    ratio = (_log_normal(z - centre, variance) - _log_normal(z, 1.0)).sum(-1)
    return float((weight * (fit - ratio)).sum())


def _turned_symbolic(c: Constants) -> Evidence:
    """Densities of turned points, and the covariance of means on a line turned by 45 degrees."""
    z, m = sympy.symbols("z:2", real=True), sympy.symbols("m:2", real=True)
    theta, (tau, v) = sympy.Symbol("theta", real=True), sympy.symbols("tau v", positive=True)
    cos, sin = sympy.cos(theta), sympy.sin(theta)
    rotation = sympy.Matrix([[cos, -sin], [sin, cos]])
    scales = (tau, _exact(c["ratio"]) * tau)

    def exponent(point: Any) -> Any:
        return sum(point[k] ** 2 / scales[k] for k in range(2))

    apart = sympy.Matrix([z[k] - m[k] for k in range(2)])
    vector = sympy.Matrix(z)
    covariance = rotation * sympy.diag(v, 0) * rotation.T
    eighth = covariance.subs(theta, sympy.pi / 4)

    def active(spread: Any) -> int:
        return sum(1 for k in range(2) if spread[k, k].is_positive)

    return equal(
        "densities of turned z; variances, AU and rank of turned means",
        (exponent(rotation * apart), exponent(apart)),
        ((rotation * vector).dot(rotation * vector), vector.dot(vector)),
        (eighth[0, 0], _exact(c["share"]) * v),
        (eighth[1, 1], _exact(c["share"]) * v),
        (active(covariance.subs(theta, 0)), _exact(c["before"])),
        (active(eighth), _exact(c["after"])),
        (eighth.rank(), _exact(c["rank"])),
    )


def _turned_sampled(c: Constants) -> Evidence:
    random = np.random.default_rng(9)
    mean, x, degrees = np.array([0.8, -0.3]), 0.5, 30.0
    variance = 0.4 * np.array([1.0, c["ratio"]])
    rotation = turn(degrees)
    centre = rotation @ mean
    z = centre + np.sqrt(variance) * random.normal(size=(300_000, 2))
    fit = _log_normal(x - _output(z @ rotation, 0.5), 1.0)
    ratio = (_log_normal(z - centre, variance) - _log_normal(z, 1.0)).sum(-1)
    line = np.zeros((100_000, 2))
    line[:, 0] = math.sqrt(0.9) * random.normal(size=len(line))
    turned = line @ turn(45.0).T
    return sampled(
        "ELBO of the turned model against that before; variances of means turned by 45°",
        (turned_elbo(x, mean, variance, 0.0), fit - ratio),
        (0.9 * c["share"], turned[:, 0] ** 2),
        (0.9 * c["share"], turned[:, 1] ** 2),
    )


class _Turned(NamedTuple):
    """A model whose means lie on the first axis, and an angle."""

    places: tuple[int, ...]  # halves
    variance: float
    x: int
    degrees: int


def _turned_cases() -> st.SearchStrategy[_Turned]:
    places = st.lists(st.integers(-4, 4), min_size=2, max_size=5, unique=True).map(tuple)
    variances = st.integers(-4, 2).map(lambda k: float(np.exp2(k)))
    return st.builds(_Turned, places, variances, st.integers(-3, 3), st.integers(0, 360))


def _turned_violated(c: Constants) -> Evidence:
    def violated(case: _Turned) -> bool:
        means = np.zeros((len(case.places), 2))
        means[:, 0] = 0.5 * np.asarray(case.places)
        variance = case.variance * np.array([1.0, c["ratio"]])
        for mean in means:
            before = turned_elbo(case.x, mean, variance, 0.0)
            if _apart(before, turned_elbo(case.x, mean, variance, case.degrees)):
                return True
        turned = torch.from_numpy(means @ turn(45.0).T)
        wrong = gaussian.active_units(torch.from_numpy(means)) != c["before"]
        wrong |= gaussian.active_units(turned) != c["after"]
        wrong |= gaussian.active_rank(turned) != c["rank"]
        share = means.var(0).sum() * c["share"]
        spread = turned.numpy().var(0)
        return wrong or any(_apart(float(value), float(share)) for value in spread)

    compared = "an ELBO or a rank that turns with the model; AU at 45° other than 2"
    return search(compared, _turned_cases(), violated, draws=200)


I4 = Statement(
    id="I4",
    name="AU depends on the basis, the ELBO does not",
    paper="IGP, section 4.1, AU as a measure",
    item="",
    claim=(
        "With isotropic posterior and prior the ELBO of every x stays the same when the latent "
        "space is turned; 45° turn AU 1 into 2, and the rank of Cov(μ) stays 1."
    ),
    constants={"ratio": 1.0, "share": 0.5, "before": 1.0, "after": 2.0, "rank": 1.0},
    wrong={"ratio": 2.0, "share": 0.25, "before": 2.0, "after": 1.0, "rank": 2.0},
    checks=(_turned_symbolic, _turned_sampled, _turned_violated),
)


# --- the aggregated posterior ---------------------------------------------------------------------


class Aggregate(NamedTuple):
    """Moments of the mixture of N posteriors."""

    mean: Array  # (D,)
    covariance: Array  # (D, D)

    def squared_mean(self, draws: int, excess: float = 1.0) -> float:
        """Expected squared length of the mean of so many draws."""
        return float(self.mean @ self.mean + excess * np.trace(self.covariance) / draws)


def aggregate(mean: Array, variance: Array, c: Constants | None = None) -> Aggregate:
    """Cov[q(z)] = E[diag v] + Cov(mu) with ddof 0, for means and variances (N, D)."""
    ddof = 0.0 if c is None else c["ddof"]
    centred = mean - mean.mean(0)
    spread = centred.T @ centred / (len(mean) - ddof)
    return Aggregate(mean.mean(0), np.diag(variance.mean(0)) + spread)


def _aggregate_symbolic(c: Constants) -> Evidence:
    """Two points in two dimensions; the mean of M independent draws."""
    m = [sympy.symbols(f"m{i}_:2", real=True) for i in range(2)]
    v = [sympy.symbols(f"v{i}_:2", positive=True) for i in range(2)]
    count = sympy.Symbol("M", positive=True)
    pairs = []
    second = {}
    centre = [(m[0][d] + m[1][d]) / 2 for d in range(2)]
    for a, b in ((0, 0), (0, 1), (1, 1)):
        raw = sum(m[i][a] * m[i][b] + (v[i][a] if a == b else 0) for i in range(2)) / 2
        second[a, b] = raw
        spread = sum((m[i][a] - centre[a]) * (m[i][b] - centre[b]) for i in range(2))
        spread /= 2 - _exact(c["ddof"])
        claimed = spread + ((v[0][a] + v[1][a]) / 2 if a == b else 0)
        pairs.append((raw - centre[a] * centre[b], claimed))
    norm = sum(value**2 for value in centre)
    trace = second[0, 0] + second[1, 1] - norm
    # M draws: M products of a draw with itself and M (M - 1) of two independent ones
    squared = (count * (trace + norm) + count * (count - 1) * norm) / count**2
    pairs.append((squared, norm + _exact(c["excess"]) * trace / count))
    return equal("covariance of a mixture of two; squared mean of M draws", *pairs)


def _aggregate_sampled(c: Constants) -> Evidence:
    random = np.random.default_rng(10)
    mean = np.array([[0.5, -1.25], [-0.75, 0.0], [1.5, 2.0], [0.0, 0.25]])
    variance = np.array([[0.75, 2.0], [0.125, 0.5], [1.25, 0.375], [0.5, 1.0]])
    point = random.integers(0, 4, (100_000, 4))
    z = mean[point] + np.sqrt(variance[point]) * random.normal(size=(100_000, 4, 2))
    found = aggregate(mean, variance, c)
    apart = z[:, 0] - mean.mean(0)
    return sampled(
        "covariance of draws of q(z), and the squared mean of 4 draws",
        *((float(found.covariance[a, b]), apart[:, a] * apart[:, b]) for a, b in _ENTRIES),
        (found.squared_mean(4, c["excess"]), (z.mean(1) ** 2).sum(-1)),
    )


_ENTRIES = ((0, 0), (0, 1), (1, 1))


@st.composite
def _mixtures(draw: st.DrawFn) -> tuple[Array, Array]:
    """Means and variances, each (N, 2)."""
    points = draw(st.integers(2, 5))
    mean = draw(st.lists(st.integers(-8, 8), min_size=2 * points, max_size=2 * points))
    power = draw(st.lists(st.integers(-4, 3), min_size=2 * points, max_size=2 * points))
    shape = (points, 2)
    return np.reshape(mean, shape) / 4.0, np.exp2(np.reshape(power, shape).astype(float))


def _aggregate_violated(c: Constants) -> Evidence:
    """Against moments of the mixture by quadrature, exact for polynomials."""

    def violated(case: tuple[Array, Array]) -> bool:
        mean, variance = case
        z = mean[:, None] + np.sqrt(variance)[:, None] * _NODES[:, None]  # (N, nodes, 2)
        first = np.einsum("w,nwd->d", _WEIGHTS, z) / len(mean)
        own = np.einsum("w,nwd->d", _WEIGHTS, z**2) / len(mean) - first**2
        across = np.einsum("w,nwa->na", _WEIGHTS, z)
        cross = (across[:, 0] * across[:, 1]).mean() - first[0] * first[1]
        found = aggregate(mean, variance, c)
        exact = np.array([own[0], cross, own[1]])
        claimed = np.array([found.covariance[entry] for entry in _ENTRIES])
        if np.abs(exact - claimed).max() > 1e-9 * (1.0 + np.abs(exact).max()):
            return True
        single = float(own.sum() + first @ first)  # the mean of one draw is the draw
        return _apart(found.squared_mean(1, c["excess"]), single)

    def shown(case: tuple[Array, Array]) -> str:
        return f"means {case[0].tolist()}, variances {case[1].tolist()}"

    return search("other moments of the mixture", _mixtures(), violated, shown)


I5 = Statement(
    id="I5",
    name="moments of the aggregated posterior",
    paper="IGP, section 5.3 and table 8",
    item="",
    claim=(
        "Cov[q(z)] = E[diag σ²] + Cov(μ) with ddof 0; the squared mean of M draws exceeds "
        "‖E μ‖² by tr Cov[q(z)]/M on average."
    ),
    constants={"ddof": 0.0, "excess": 1.0},
    wrong={"ddof": 1.0, "excess": 0.0},
    checks=(_aggregate_symbolic, _aggregate_sampled, _aggregate_violated),
)

STATEMENTS = (I0A, I0B, I0C, I1, I1B, I2, I3, I3B, I4, I5)
