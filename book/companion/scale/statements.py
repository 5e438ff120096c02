"""Scale-VAE: the statements of Song et al. 2024 on scaled posterior means.

Notation: x is uniform on N points, q_i = N(mu_i, diag sigma_i^2), q_agg is their mixture, f scales
the means, p = N(0, I), nats. MPD averages over all N^2 pairs, a point with itself included.

The scaling-up of S5 rests on a lemma, S5a, that the paper does not have.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import sympy
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from companion.claims.mixtures import (
    ROUNDING,
    Array,
    Set,
    apart,
    divergence,
    divergences,
    log_normal,
    parts,
    sets,
    shown,
)
from companion.claims.statements import Constants, Evidence, Statement, equal, sampled, search
from posterior_collapse.layers import Progress
from posterior_collapse.posteriors import MeanOfFactors, Scaled, ScaledHead

__all__ = [
    "STATEMENTS",
    "Linear",
    "batch_factor",
    "example",
    "gap",
    "linear",
    "scaled_mpd",
    "unit_gap",
]

_DRAWS = 100_000


def _drawn(mean: Array, sd: Array, seed: int) -> tuple[NDArray[np.int64], Array]:
    """Points x and codes z from q(z|x), scalar."""
    random = np.random.default_rng(seed)
    x = random.integers(0, len(mean), _DRAWS)
    return x, mean[x] + sd[x] * random.normal(size=_DRAWS)


_MEAN, _SD = np.array([0.5, -0.75, 1.5, 0.0]), np.array([0.9, 0.35, 1.1, 0.64])


def _log_aggregate(z: Array, mean: Array, sd: Array) -> Array:
    """Log density of the mixture at z (M,)."""
    own = log_normal(z[:, None], mean, sd)
    return np.asarray(logsumexp(own, axis=1) - math.log(len(mean)))


# --- S2, MPD as two divergences -------------------------------------------------------------------


def _outcomes(points: int, states: int = 2) -> tuple[list[list[sympy.Symbol]], ...]:
    """Probabilities of each point's states and their logarithms, as free symbols.

    The identities are linear in the logarithms, so they need not be tied to the probabilities.
    """

    def table(name: str) -> list[list[sympy.Symbol]]:
        return [[sympy.Symbol(f"{name}{i}{k}") for k in range(states)] for i in range(points)]

    return table("p"), table("l")


def _s2_symbolic(c: Constants) -> Evidence:
    """Three distributions on two states; the logarithms of the mixture are free symbols too."""
    p, log = _outcomes(3)
    log_mixture = sympy.symbols("a:2")
    mixture = [sum(row[k] for row in p) / 3 for k in range(2)]
    pairs = sum(
        p[i][k] * (log[i][k] - log[j][k]) for i in range(3) for j in range(3) for k in range(2)
    )
    forward = sum(p[i][k] * (log[i][k] - log_mixture[k]) for i in range(3) for k in range(2)) / 3
    back = sum(mixture[k] * (log_mixture[k] - log[i][k]) for i in range(3) for k in range(2)) / 3
    mpd = pairs / (9 - 3 * sympy.Rational(c["distinct"]))
    both = forward + sympy.Rational(c["reverse"]) * back
    return equal("average over pairs against the two divergences, three points", (mpd, both))


def _s2_sampled(c: Constants) -> Evidence:
    """log q(z|x) - log q(z|x') over pairs, against quadrature of the two divergences."""
    x, z = _drawn(_MEAN, _SD, 1)
    other = np.random.default_rng(2).integers(0, len(_MEAN), _DRAWS)
    ratio = log_normal(z, _MEAN[x], _SD[x]) - log_normal(z, _MEAN[other], _SD[other])
    found, n = parts(_MEAN, _SD), len(_MEAN)
    both = found.information + c["reverse"] * found.reverse
    draws = ratio * n / (n - c["distinct"])
    return sampled("mean log-ratio over random pairs, nats", (both, draws))


def _closed_divergences(mean: Array, sd: Array) -> Array:
    """KL of all pairs in closed form, (N, N)."""
    ratio = (sd[:, None] / sd[None]) ** 2
    return np.asarray(0.5 * (((mean[:, None] - mean) / sd) ** 2 + ratio - 1.0 - np.log(ratio)))


def _s2_search(c: Constants) -> Evidence:
    """Pairs in closed form against quadrature of both divergences, and MI against MPD."""

    def violated(case: Set) -> bool:
        n, table, found = len(case[0]), _closed_divergences(*case), parts(*case)
        mpd = float(table.sum()) / (n * n - c["distinct"] * n) if n > 1 else 0.0
        both = found.information + c["reverse"] * found.reverse
        return apart(mpd, both) or found.information > c["share"] * mpd + ROUNDING

    return search("MPD equals the sum, and MI is not above MPD", sets(), violated, shown)


S2 = Statement(
    id="S2",
    name="MPD as two divergences from the aggregate",
    paper="Scale-VAE, connection with MPD",
    item="scale-mpd-mi",
    claim="MPD over i.i.d. pairs is E[KL(q‖q_agg) + KL(q_agg‖q)] nats, so I_q ≤ MPD.",
    constants={"reverse": 1.0, "distinct": 0.0, "share": 1.0},
    wrong={"reverse": 0.5, "distinct": 1.0, "share": 0.25},
    checks=(_s2_symbolic, _s2_sampled, _s2_search),
)


# --- S3, MI as a difference of two KLs ------------------------------------------------------------


def _closed_rate(mean: Array, sd: Array, c: Constants) -> float:
    """E KL(q_i || N(0, 1)) in closed form."""
    return float(c["half"] * (mean**2 + sd**2 - c["one"] - 2.0 * np.log(sd)).mean())


def _s3_symbolic(c: Constants) -> Evidence:
    """Two Gaussians; the entropy of their mixture has no closed form and is a free symbol.

    Expectations under the mixture need only its second moment, which is integrated.
    """
    z, entropy = sympy.symbols("z H", real=True)
    m = sympy.symbols("m:2", real=True)
    s = sympy.symbols("s:2", positive=True)
    second = (
        sum(
            sympy.integrate(
                z**2
                * sympy.exp(-((z - m[i]) ** 2) / (2 * s[i] ** 2))
                / (s[i] * sympy.sqrt(2 * sympy.pi)),
                (z, -sympy.oo, sympy.oo),
            )
            for i in range(2)
        )
        / 2
    )
    mismatch = -entropy + sympy.log(2 * sympy.pi) / 2 + second / 2
    squares = sum(m[i] ** 2 + s[i] ** 2 - 2 * sympy.log(s[i]) for i in range(2)) / 2
    rate = sympy.Rational(c["half"]) * (squares - sympy.Rational(c["one"]))
    noise = sum(
        sympy.log(2 * sympy.pi) / 2 + sympy.Rational(1, 2) + sympy.log(s[i]) for i in range(2)
    )
    claimed = rate - sympy.Rational(c["mismatch"]) * mismatch
    text = "entropy of the mixture minus the average entropy, against E KL minus the mismatch"
    return equal(text, (sympy.expand(entropy - noise / 2), sympy.expand(claimed)))


def _s3_sampled(c: Constants) -> Evidence:
    """log q(z|x) - log q_agg(z) against the closed form of E KL minus quadrature of the rest."""
    x, z = _drawn(_MEAN, _SD, 3)
    draws = log_normal(z, _MEAN[x], _SD[x]) - _log_aggregate(z, _MEAN, _SD)
    exact = _closed_rate(_MEAN, _SD, c) - c["mismatch"] * parts(_MEAN, _SD).aggregate_kl
    return sampled("mean of log q(z|x) − log q_agg(z), nats", (exact, draws))


def _s3_search(c: Constants) -> Evidence:
    """MI by quadrature against the difference."""

    def violated(case: Set) -> bool:
        found = parts(*case)
        claimed = _closed_rate(*case, c) - c["mismatch"] * found.aggregate_kl
        return apart(found.information, claimed)

    return search("MI against E KL minus the mismatch", sets(), violated, shown)


S3 = Statement(
    id="S3",
    name="MI as a difference of two KLs",
    paper="Scale-VAE, connection with MI",
    item="scale-mpd-mi",
    claim="I_q is E KL(q‖p) − KL(q_agg‖p) nats, with ½ (μ² + σ² − 1 − log σ²) for the first KL.",
    constants={"half": 0.5, "one": 1.0, "mismatch": 1.0},
    wrong={"half": 0.25, "one": 0.0, "mismatch": 0.0},
    checks=(_s3_symbolic, _s3_sampled, _s3_search),
)


# --- S4, scaling up raises MPD --------------------------------------------------------------------

_S4: Constants = {"half": 0.5, "power": 2.0, "inside": 1.0, "least": 1.0}


def scaled_mpd(mean: Array, sd: Array, factor: float, c: Constants = _S4) -> float:
    """MPD of posteriors N(f mu, sigma^2) in closed form; scalar, nats."""
    apart = (((mean[:, None] - mean) / sd) ** 2).mean()
    crossed = (sd**2).mean() * (sd**-2.0).mean()
    return float(c["half"] * (factor ** c["power"] * apart + crossed - c["inside"]))


def _s4_symbolic(c: Constants) -> Evidence:
    """Two points: the average of the four KLs, and its derivative in f."""
    m = sympy.symbols("m:2", real=True)
    v = sympy.symbols("v:2", positive=True)
    f = sympy.Symbol("f", positive=True)
    pairs = [(i, j) for i in range(2) for j in range(2)]
    definition = sum(
        (v[i] / v[j] + f**2 * (m[i] - m[j]) ** 2 / v[j] - 1 - sympy.log(v[i]) + sympy.log(v[j])) / 8
        for i, j in pairs
    )
    apart = sum((m[i] - m[j]) ** 2 / v[j] for i, j in pairs) / 4
    crossed = (v[0] + v[1]) * (1 / v[0] + 1 / v[1]) / 4
    half, power = sympy.Rational(c["half"]), sympy.Rational(c["power"])
    claimed = half * (f**power * apart + crossed - sympy.Rational(c["inside"]))
    slope = sympy.diff(definition, f), half * power * f ** (power - 1) * apart
    return equal(
        "average KL of two points' pairs, and its slope in f", (definition, claimed), slope
    )


def _s4_sampled(c: Constants) -> Evidence:
    """log-ratios over random pairs of scaled posteriors."""
    x, z = _drawn(1.7 * _MEAN, _SD, 4)
    other = np.random.default_rng(5).integers(0, len(_MEAN), _DRAWS)
    draws = log_normal(z, 1.7 * _MEAN[x], _SD[x]) - log_normal(z, 1.7 * _MEAN[other], _SD[other])
    return sampled(
        "mean log-ratio over random pairs, f = 1.7, nats", (scaled_mpd(_MEAN, _SD, 1.7, c), draws)
    )


def _factors(least: float = 0.0) -> st.SearchStrategy[float]:
    """Factors from ``least`` to ``least`` + 8 in eighths."""
    return st.integers(0, 64).map(lambda eighths: least + eighths / 8.0)


def _with_factor(case: tuple[Set, float, float]) -> str:
    return f"{shown(case[0])}; f from {case[1]:g} to {case[1] * case[2]:g}"


def _s4_search(c: Constants) -> Evidence:
    """Closed form against all pairs by quadrature, and larger f against smaller f."""

    def violated(case: tuple[Set, float, float]) -> bool:
        (mean, sd), start, more = case
        before, after = (float(divergences(f * mean, sd).mean()) for f in (start, start * more))
        return apart(scaled_mpd(mean, sd, start, c), before) or after < before * (1 - ROUNDING)

    cases = st.tuples(sets(), _factors(0.125), _factors(c["least"]))
    return search("closed form, and growth with f", cases, violated, _with_factor)


S4 = Statement(
    id="S4",
    name="scaling up raises MPD",
    paper="Scale-VAE, connection with MPD",
    item="",
    claim="MPD(f) = ½ Σ {f² E[Δ²/σ²] + E[σ²] E[1/σ²] − 1} nats, which a factor above 1 raises.",
    constants=_S4,
    wrong={"half": 0.25, "power": 1.0, "inside": 0.0, "least": 0.5},
    checks=(_s4_symbolic, _s4_sampled, _s4_search),
)


# --- S5a, intervals that move apart ---------------------------------------------------------------

Intervals = list[tuple[int, int]]  # centre and half length


def excess(intervals: Intervals, factor: Fraction, level: int) -> Fraction:
    """The integral of (n - level)_+, where n(x) counts the intervals [f m - r, f m + r] over x."""
    edges = sorted(
        (factor * centre + side * half, -side) for centre, half in intervals for side in (-1, 1)
    )
    total, count, last = Fraction(0), 0, Fraction(0)
    for place, change in edges:
        total += max(count - level, 0) * (place - last)
        count, last = count + change, place
    return total


def _families(largest: int = 6) -> st.SearchStrategy[Intervals]:
    return st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 12)), min_size=1, max_size=largest)


def _s5a_symbolic(c: Constants) -> Evidence:
    """A function on 0, 1, ..., 5 with phi(0) = 0 from its first value and second differences."""
    phi = [sympy.S.Zero, *sympy.symbols("phi1:7")]
    second = [phi[k + 1] - 2 * phi[k] + phi[k - 1] for k in range(1, 6)]
    pairs = []
    for n in range(6):
        bent = sum(second[k - 1] * max(n - k, 0) for k in range(1, 6))
        pairs.append((phi[n], sympy.Rational(c["straight"]) * phi[1] * n + bent))
    return equal("φ(n) against φ(1) n plus its second differences times (n − k)₊", *pairs)


def _s5a_sampled(c: Constants) -> Evidence:
    """n^2 is n + 2 sum of (n - k)_+; both at random x, and the sums in exact arithmetic."""
    family: Intervals = [(-3, 4), (-1, 2), (0, 6), (2, 3), (5, 1)]
    x = np.random.default_rng(6).uniform(-12.0, 12.0, _DRAWS)
    count = sum((np.abs(x - 1.5 * m) <= r).astype(float) for m, r in family)
    length = 2.0 * sum(r for _, r in family)
    bent = sum(float(excess(family, Fraction(3, 2), k)) for k in range(1, len(family)))
    exact = c["straight"] * length + 2.0 * bent
    return sampled("integral of n² at random places, f = 1.5", (exact, 24.0 * np.square(count)))


def _s5a_search(c: Constants) -> Evidence:
    """Exact arithmetic: no sum of any level grows when the centres are scaled up."""

    def violated(case: tuple[Intervals, int, int]) -> bool:
        family, start, more = case
        before = Fraction(start, 8)
        after = before * (Fraction(c["least"]) + Fraction(more, 8))
        levels = range(len(family))
        return any(excess(family, after, k) > excess(family, before, k) for k in levels)

    def words(case: tuple[Intervals, int, int]) -> str:
        return f"(centre, half length) {case[0]}, f from {case[1] / 8:g}"

    cases = st.tuples(_families(), st.integers(1, 32), st.integers(0, 32))
    return search("growth of a level’s excess with f, exact fractions", cases, violated, words, 200)


S5A = Statement(
    id="S5a",
    name="intervals that move apart",
    paper="a lemma for S5, not in the paper",
    item="",
    claim="If n(x) counts the intervals [f m − r, f m + r] over x and φ is convex with φ(0) = 0, "
    "then ∫ φ(n) dx does not grow with f > 0; φ is φ(1) n plus second differences times (n − k)₊.",
    constants={"straight": 1.0, "least": 1.0},
    wrong={"straight": 0.5, "least": 0.5},
    checks=(_s5a_symbolic, _s5a_sampled, _s5a_search),
)


# --- S5, scaling up raises MI ---------------------------------------------------------------------


def _s5_symbolic(c: Constants) -> Evidence:
    """The slope of -q log q in f, up to a derivative in z, and its sign for one sigma.

    The two densities are symbols u; their derivatives are taken from the Gaussian first.
    """
    z, f = sympy.symbols("z f", real=True)
    m = sympy.symbols("m:2", real=True)
    s, u = sympy.symbols("s:2", positive=True), sympy.symbols("u:2", positive=True)
    gaussian = [sympy.exp(-((z - f * m[i]) ** 2) / (2 * s[i] ** 2)) for i in range(2)]
    by_z = [u[i] * sympy.simplify(sympy.diff(gaussian[i], z) / gaussian[i]) for i in range(2)]
    by_f = [u[i] * sympy.simplify(sympy.diff(gaussian[i], f) / gaussian[i]) for i in range(2)]

    def along(expression: sympy.Expr, slopes: list[sympy.Expr]) -> sympy.Expr:
        return sum(sympy.diff(expression, u[i]) * slopes[i] for i in range(2))

    q, moment = u[0] + u[1], m[0] * u[0] + m[1] * u[1]
    pull = [(f * m[i] - z) / s[i] ** sympy.Rational(c["power"]) for i in range(2)]
    covariance = u[0] * u[1] * (m[0] - m[1]) * (pull[0] - pull[1]) / q
    slope = -along(q * sympy.log(q), by_f) - along(moment * sympy.log(q), by_z)
    one_sd = u[0] * u[1] * f * (m[0] - m[1]) ** 2 / (q * s[0] ** 2)
    return equal(
        "slope of −q log q in f against q Cov(μ, (fμ − z)/σ² | z), two points; for one σ",
        (sympy.expand(sympy.expand(slope) * q), sympy.expand(covariance * q)),
        (covariance.subs(s[1], s[0]), one_sd),
    )


def _slope(mean: Array, sd: Array, factor: float, step: float = 1e-3) -> float:
    """dI/df by a central difference of quadratures; error about step^4."""
    at = [parts((factor + k * step) * mean, sd).information for k in (-2, -1, 1, 2)]
    return (at[0] - 8.0 * at[1] + 8.0 * at[2] - at[3]) / (12.0 * step)


def _covariance(z: Array, mean: Array, sd: Array, factor: float, power: float) -> Array:
    """Cov(mu, (f mu - z) / sigma^power | z) at each z (M,)."""
    own = log_normal(z[:, None], factor * mean, sd)
    share = np.exp(own - logsumexp(own, axis=1)[:, None])
    pull = (factor * mean - z[:, None]) / sd**power
    both = (share * mean * pull).sum(1)
    return np.asarray(both - (share * mean).sum(1) * (share * pull).sum(1))


def _s5_sampled(c: Constants) -> Evidence:
    """The slope as an expectation over z, for one sigma and for sigma(x)."""
    cases = []
    for seed, sd in ((7, np.full(4, 0.6)), (8, _SD)):
        _, z = _drawn(1.3 * _MEAN, sd, seed)
        draws = _covariance(z, _MEAN, sd, 1.3, c["power"])
        cases.append((_slope(_MEAN, sd, 1.3), draws))
    return sampled("dI/df at f = 1.3 for equal σ and for σ(x), nats", *cases)


def _s5_search(c: Constants) -> Evidence:
    """MI by quadrature at a smaller and a larger f; sigma depends on x in half of the draws."""

    def violated(case: tuple[Set, float, float]) -> bool:
        (mean, sd), start, more = case
        before, after = (parts(f * mean, sd).information for f in (start, start * more))
        return after < before - ROUNDING

    either = st.one_of(sets(2), sets(2, equal=True))
    cases = st.tuples(either, _factors(0.125), _factors(c["least"]))
    return search("a larger f with less MI", cases, violated, _with_factor)


S5 = Statement(
    id="S5",
    name="scaling up raises MI",
    paper="Scale-VAE, connection with MI",
    item="",
    claim="dI/df is E Cov(μ, (fμ − z)/σ² | z) nats, and I_q does not fall when f > 0 grows, "
    "whether or not σ depends on x.",
    constants={"power": 2.0, "least": 1.0},
    wrong={"power": 1.0, "least": 0.5},
    checks=(_s5_symbolic, _s5_sampled, _s5_search),
)


# --- S6, the objective is no bound ----------------------------------------------------------------

_S6: Constants = {"half": 0.5, "power": 2.0, "largest variance": 1.0}


def gap(variance: Array | float, factor: Array | float, c: Constants = _S6) -> Array:
    """L_scale minus the ELBO of the scaled posterior under N(0, f^2), by dimension, nats."""
    shrunk = 1.0 - 1.0 / np.asarray(factor, dtype=float) ** c["power"]
    return np.asarray(np.log(factor) - c["half"] * np.asarray(variance) * shrunk)


def unit_gap(mean: Array | float, factor: Array | float, c: Constants = _S6) -> Array:
    """L_scale minus the ELBO of the scaled posterior under N(0, 1), by dimension, nats."""
    return np.asarray(c["half"] * (np.asarray(factor) ** c["power"] - 1.0) * np.square(mean))


class Linear(NamedTuple):
    """Everything that can be said of one x under a scalar linear decoder N(w z, s^2); nats."""

    reconstruction: float  # E log p(x|z) under N(f mu, sigma^2)
    objective: float  # L_scale
    elbo_unit: float  # of N(f mu, sigma^2) under the prior N(0, 1)
    elbo_scaled: float  # the same under N(0, f^2)
    evidence_unit: float  # log p(x) under the prior N(0, 1)
    evidence_scaled: float  # the same under N(0, f^2)


def linear(
    weight: float, noise: float, x: float, mean: float, variance: float, factor: float
) -> Linear:
    """Scale-VAE's objective on one x, with what it should stay below."""
    apart = (x - weight * factor * mean) ** 2 + weight**2 * variance
    reconstruction = -0.5 * (math.log(2.0 * math.pi * noise**2) + apart / noise**2)

    def rate(centre: float, prior: float) -> float:
        ratio = variance / prior**2
        return 0.5 * (ratio + (centre / prior) ** 2 - 1.0 - math.log(ratio))

    def evidence(prior: float) -> float:
        return float(log_normal(x, 0.0, math.hypot(weight * prior, noise)))

    return Linear(
        reconstruction,
        reconstruction - rate(mean, 1.0),
        reconstruction - rate(factor * mean, 1.0),
        reconstruction - rate(factor * mean, factor),
        evidence(1.0),
        evidence(factor),
    )


def _s6_symbolic(c: Constants) -> Evidence:
    """KL to both priors from their closed forms, and the slope that gives the sign."""
    m = sympy.Symbol("m", real=True)
    v, f = sympy.symbols("v f", positive=True)
    half, power = sympy.Rational(c["half"]), sympy.Rational(c["power"])

    def rate(centre: sympy.Expr, prior: sympy.Expr) -> sympy.Expr:
        return (v / prior**2 + centre**2 / prior**2 - 1 - sympy.log(v) + 2 * sympy.log(prior)) / 2

    scaled = sympy.log(f) - half * v * (1 - f**-power)
    largest = scaled.subs(v, sympy.Rational(c["largest variance"]))
    return equal(
        "KL to N(0, f²) and to N(0, 1) minus the KL of L_scale; slope in f at σ² = 1",
        (rate(f * m, f) - rate(m, sympy.S.One), scaled),
        (rate(f * m, sympy.S.One) - rate(m, sympy.S.One), half * (f**power - 1) * m**2),
        (sympy.diff(largest, f), (f - 1) * (f + 1) / f**3),
    )


def _s6_sampled(c: Constants) -> Evidence:
    """The two KLs as mean log-ratios."""
    random = np.random.default_rng(9)
    mean, sd, f = 0.4, 0.7, 3.0
    noise = random.normal(size=(2, _DRAWS))
    plain, moved = mean + sd * noise[0], f * mean + sd * noise[1]
    paid = log_normal(plain, mean, sd) - log_normal(plain, 0.0, 1.0)
    due = [log_normal(moved, f * mean, sd) - log_normal(moved, 0.0, prior) for prior in (f, 1.0)]
    return sampled(
        "KL that is due minus KL that is paid, prior N(0, f²) and N(0, 1), nats",
        (float(gap(sd**2, f, c)), due[0] - paid),
        (float(unit_gap(mean, f, c)), due[1] - paid),
    )


def _s6_search(c: Constants) -> Evidence:
    """Both gaps against quadrature, and their sign for f >= 1 and variances of at most 1."""

    def violated(case: tuple[float, int, int]) -> bool:
        f, eighths, sixteenths = case
        mean, variance = eighths / 8.0, c["largest variance"] * sixteenths / 16.0
        sd = math.sqrt(variance)
        paid = float(divergence(mean, sd, 0.0, 1.0))
        due = [float(divergence(f * mean, sd, 0.0, prior)) - paid for prior in (f, 1.0)]
        told = [float(gap(variance, f, c)), float(unit_gap(mean, f, c))]
        wrong = any(apart(a, b) for a, b in zip(due, told, strict=True))
        return wrong or min(due) < -ROUNDING

    def words(case: tuple[float, int, int]) -> str:
        variance = c["largest variance"] * case[2] / 16.0
        return f"f = {case[0]:g}, mean {case[1] / 8:g}, variance {variance:g}"

    cases = st.tuples(_factors(1.0), st.integers(-24, 24), st.integers(1, 16))
    return search("gap formulas, and a negative gap", cases, violated, words)


def example(x: float, noise: float, mean: float, variance: float, factor: float) -> Linear:
    """Two points ±x with means ±mu and weight 1; ``factor`` is des_std / Std for des_std = f mu."""
    return linear(1.0, noise, x, mean, variance, factor)


def _s6_printed() -> Evidence:
    """Two points, f > 1: is L_scale below log p(x) under at least one of the priors?"""

    def violated(case: tuple[int, int, int, int, int]) -> bool:
        found = example(*_quarters(case))
        return found.objective > max(found.evidence_unit, found.evidence_scaled) + 1e-6

    def words(case: tuple[int, int, int, int, int]) -> str:
        x, noise, mean, variance, f = _quarters(case)
        found = example(x, noise, mean, variance, f)
        return (
            f"x = ±{x:g}, decoder N(z, {noise:g}²), q = N(±{mean:g}, {variance:g}), f = {f:g}: "
            f"L_scale {found.objective:.4f} is above log p(x) {found.evidence_unit:.4f} "
            f"(prior 1) and {found.evidence_scaled:.4f} (prior f²)"
        )

    whole = st.integers(1, 16)
    cases = st.tuples(whole, whole, whole, st.integers(1, 4), st.integers(2, 10))
    return search("L_scale ≤ log p(x) under one of the two priors", cases, violated, words)


def _quarters(case: tuple[int, int, int, int, int]) -> tuple[float, float, float, float, float]:
    """x, noise, mean and variance in quarters, and the factor."""
    x, noise, mean, variance, factor = case
    return x / 4.0, noise / 4.0, mean / 4.0, variance / 4.0, float(factor)


S6 = Statement(
    id="S6",
    name="the objective against the likelihood",
    paper="Scale-VAE, L_scale read as a bound",
    item="",
    claim="L_scale exceeds the ELBO of N(fμ, σ²) by Σ [log f − ½ σ² (1 − 1/f²)] nats under the "
    "prior N(0, f²) and by ½ Σ (f² − 1) μ² under N(0, 1); neither is negative for f ≥ 1, σ² ≤ 1.",
    constants=_S6,
    wrong={"half": 0.25, "power": 1.0, "largest variance": 2.0},
    checks=(_s6_symbolic, _s6_sampled, _s6_search),
    printed=_s6_printed,
)


# --- S7, the factor -------------------------------------------------------------------------------


def _head(dimensions: int, des_std: float, ddof: int) -> ScaledHead:
    """The module that trains, with weights that hand its input on as the means."""
    choice = Scaled(des_std, average=MeanOfFactors(), ddof=ddof)
    head = ScaledHead(dimensions, dimensions, choice).double()
    both = torch.cat([torch.eye(dimensions), torch.zeros(dimensions, dimensions)])
    head.linear.weight.data.copy_(both)
    return head


def batch_factor(mean: Array, des_std: float, ddof: int) -> Array:
    """Factors (D,) that the code that trains gives a batch of means (B, D)."""
    with torch.no_grad():
        found = _head(mean.shape[1], des_std, ddof)(torch.from_numpy(np.asarray(mean, dtype=float)))
    return np.asarray(found.factor.numpy())


def average_factor(batches: list[Array], des_std: float, ddof: int) -> Array:
    """Factors (D,) that the code that trains uses in the second epoch."""
    head = _head(batches[0].shape[1], des_std, ddof)
    with torch.no_grad():
        for batch in batches:
            head(torch.from_numpy(batch))
    head.begin_update(Progress(len(batches), len(batches)))
    return np.asarray(head.factor.numpy())


def _power_mean(values: Array, power: float) -> Array:
    """Power mean over the first axis; -1 is the harmonic one."""
    return np.asarray((values**power).mean(0) ** (1.0 / power))


def _s7_symbolic(c: Constants) -> Evidence:
    """Three means, then two batches."""
    m, wanted = sympy.symbols("m:3", real=True), sympy.Symbol("d", positive=True)
    centre = sum(m) / 3
    squares = sum((value - centre) ** 2 for value in m)
    factor_squared = wanted**2 / (squares / (3 - sympy.Rational(c["ddof"])))
    measured = factor_squared * squares / (3 - sympy.Rational(c["measured"]))
    s = sympy.symbols("s:2", positive=True)
    power = sympy.Rational(c["mean power"])
    average = (wanted / s[0] + wanted / s[1]) / 2
    claimed = wanted / ((s[0] ** power + s[1] ** power) / 2) ** (1 / power)
    excess_ = average * (s[0] + s[1]) / 2 - wanted
    return equal(
        "variance of three scaled means; average factor of two batches; its excess",
        (measured, wanted**2),
        (average, claimed),
        (excess_, wanted * (s[0] - s[1]) ** 2 / (4 * s[0] * s[1])),
    )


def _chi_moment(degrees: float, power: float) -> float:
    """E[chi^power] for that many degrees of freedom."""
    log = 0.5 * power * math.log(2.0) + gammaln(0.5 * (degrees + power)) - gammaln(0.5 * degrees)
    return math.exp(log)


def _s7_sampled(c: Constants) -> Evidence:
    """Batches of eight Gaussian means with spread 0.3: average factor, and Std with it."""
    size, spread, wanted = 8, 0.3, 0.7
    mean = spread * np.random.default_rng(10).normal(size=(_DRAWS // size, size))
    std = mean.std(1, ddof=1)
    unit = spread / math.sqrt(size - c["ddof"])
    power = c["mean power"]
    average = wanted / (unit * _chi_moment(size - 1, power) ** (1.0 / power))
    after = average * spread * _chi_moment(size - 1, 1.0) / math.sqrt(size - c["measured"])
    harmonic = wanted / (spread * _chi_moment(size - 1, -1.0) ** -1.0 / math.sqrt(size - 1))
    return sampled(
        "average factor of batches of 8, and Std of scaled means with it",
        (average, wanted / std),
        (after, harmonic * std),
    )


def _batches() -> st.SearchStrategy[list[Array]]:
    """One to four batches of two to six scalar means each, in eighths; some do not vary."""
    batch = st.lists(st.integers(-16, 16), min_size=2, max_size=6)
    arrays = batch.map(lambda values: np.asarray(values, dtype=float)[:, None] / 8.0)
    return st.lists(arrays, min_size=1, max_size=4)


def _s7_search(c: Constants) -> Evidence:
    """The code that trains against the definition; a batch without spread leaves f as it was."""
    wanted = 0.75

    def violated(batches: list[Array]) -> bool:
        first = batch_factor(batches[0], wanted, int(c["ddof"]))
        if np.ptp(batches[0]) == 0.0:
            return bool(first[0] != 1.0)
        after = float((first * batches[0]).std(ddof=int(c["measured"])))
        varied = [batch for batch in batches if np.ptp(batch) > 0.0]
        stds = np.array([batch.std(ddof=int(c["measured"])) for batch in varied])
        average = float(average_factor(batches, wanted, int(c["ddof"]))[0])
        claimed = float(wanted / _power_mean(stds, c["mean power"]))
        low = average * stds.mean() < wanted * (1.0 - ROUNDING)
        return apart(wanted, after) or apart(claimed, average) or low

    def words(batches: list[Array]) -> str:
        return f"batches {[batch[:, 0].tolist() for batch in batches]}"

    return search("Std of scaled means, and the average factor", _batches(), violated, words, 200)


S7 = Statement(
    id="S7",
    name="the scale-up factor and its average",
    paper="Scale-VAE, algorithm 1",
    item="",
    claim="Std(fμ) is des_std with the ddof that f was computed with (1 here), and f̄ is des_std "
    "over the harmonic mean of the batches' Std, so that the mean Std of f̄μ is at least des_std.",
    constants={"ddof": 1.0, "measured": 1.0, "mean power": -1.0},
    wrong={"ddof": 0.0, "measured": 0.0, "mean power": 1.0},
    checks=(_s7_symbolic, _s7_sampled, _s7_search),
)

STATEMENTS = (S2, S3, S4, S5A, S5, S6, S7)
