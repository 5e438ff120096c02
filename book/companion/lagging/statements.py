"""Lagging inference networks: the statements of He et al. 2019 as exact mathematics.

Notation: p = N(0, 1) is the prior of a scalar z, x is uniform on N points, q_i = q(z|x_i), q_agg is
their mixture, S is the size of a mini-batch, h the stride of a grid, nats.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit, logsumexp

from companion.claims.mixtures import (
    PER_SD,
    REACH,
    ROUNDING,
    Array,
    Set,
    apart,
    densities,
    divergence,
    log_normal,
    parts,
    sets,
    shown,
)
from companion.claims.statements import Constants, Evidence, Statement, equal, sampled, search

__all__ = [
    "STATEMENTS",
    "Forces",
    "Gap",
    "excluded",
    "forces",
    "independent",
    "linear_gap",
    "of_batch",
    "riemann",
    "stride_error",
    "within",
]

_DRAWS = 100_000


# --- L1, the gap of the ELBO ----------------------------------------------------------------------


class Gap(NamedTuple):
    """Equation 3 for one x under a linear decoder N(W z + b, s^2 I) with scalar z; nats."""

    evidence: float  # log p(x)
    posterior_mean: float
    posterior_variance: float
    reconstruction: float  # E_q log p(x|z)
    kl: float  # KL(q || p(z))
    elbo: float
    gap: float  # KL(q || p(z|x))


def linear_gap(
    weight: ArrayLike, noise: float, bias: ArrayLike, x: ArrayLike, mean: float, variance: float
) -> Gap:
    """All terms in closed form.

    Args:
        weight, bias, x: (n,).
        noise: standard deviation s.
        mean, variance: of q.
    """
    w = np.asarray(weight, dtype=float)
    apart, n = np.asarray(x, dtype=float) - bias, w.size
    precision = 1.0 + float(w @ w) / noise**2
    target = float(w @ apart) / noise**2 / precision
    squares = float(apart @ apart) / noise**2 - precision * target**2
    constant = n * math.log(2.0 * math.pi * noise**2)
    evidence = -0.5 * (constant + math.log(precision) + squares)
    error = float(((apart - w * mean) ** 2).sum() + w @ w * variance) / noise**2
    reconstruction = -0.5 * (constant + error)
    kl = 0.5 * (mean**2 + variance - 1.0 - math.log(variance))
    ratio = variance * precision
    gap = 0.5 * (precision * (mean - target) ** 2 + ratio - 1.0 - math.log(ratio))
    return Gap(evidence, target, 1.0 / precision, reconstruction, kl, reconstruction - kl, gap)


def _l1_symbolic(c: Constants) -> Evidence:
    """A scalar linear decoder; every term in closed form."""
    w, x, m = sympy.symbols("w x m", real=True)
    noise, v = sympy.symbols("t v", positive=True)  # variances
    total = w**2 + noise
    evidence = -(sympy.log(2 * sympy.pi) + sympy.log(total) + x**2 / total) / 2
    error = ((x - w * m) ** 2 + w**2 * v) / noise
    reconstruction = -(sympy.log(2 * sympy.pi) + sympy.log(noise) + error) / 2
    kl = (m**2 + v - 1 - sympy.log(v)) / 2
    target, width = w * x / total, noise / total
    log_ratio = sympy.log(v) - sympy.log(noise) + sympy.log(total)
    gap = ((m - target) ** 2 / width + v / width - 1 - log_ratio) / 2
    left = reconstruction - sympy.Rational(c["prior"]) * kl
    right = evidence - sympy.Rational(c["gap"]) * gap
    return equal("ELBO against log p(x) minus the gap, scalar linear decoder", (left, right))


Decoder = tuple[Array, Array, Array]  # weights, biases and bits, (n,) each


def _bits(z: Array, decoder: Decoder) -> Array:
    """log p(x|z) of independent bits with logits w z + b; z (G,) -> (G,)."""
    weight, bias, x = decoder
    logit = np.multiply.outer(z, weight) + bias
    return np.asarray((log_expit(np.where(x > 0, logit, -logit))).sum(-1))


def _grid(mean: float, sd: float, per_sd: int = PER_SD) -> Array:
    """Nodes of a uniform grid around a Gaussian."""
    return mean + sd * np.linspace(-REACH, REACH, round(2 * REACH * per_sd) + 1)


def _evidence(decoder: Decoder) -> float:
    """log p(x) as a sum over a grid under the prior."""
    z = _grid(0.0, 1.0, 4 * PER_SD)
    return float(logsumexp(_bits(z, decoder) + log_normal(z, 0.0, 1.0)) + math.log(z[1] - z[0]))


_HERMITE = np.polynomial.hermite_e.hermegauss(64)


def _reconstruction(decoder: Decoder, mean: float, sd: float) -> float:
    """E_q log p(x|z) by Gauss-Hermite quadrature."""
    nodes, weights = _HERMITE
    return float(weights @ _bits(mean + sd * nodes, decoder) / weights.sum())


def _true_gap(decoder: Decoder, mean: float, sd: float) -> float:
    """KL(q || p(z|x)) as a sum over a grid around q."""
    z = _grid(mean, sd)
    own = log_normal(z, mean, sd)
    model = _bits(z, decoder) + log_normal(z, 0.0, 1.0) - _evidence(decoder)
    return float(np.exp(own) @ (own - model) * (z[1] - z[0]))


_BITS: Decoder = (np.array([2.0, -1.0, 0.5]), np.array([0.3, 0.0, -0.5]), np.array([1.0, 0.0, 1.0]))


def _l1_sampled(c: Constants) -> Evidence:
    """Three bits: the summands of the ELBO at z from q."""
    mean, sd = 0.2, 1.3
    z = mean + sd * np.random.default_rng(0).normal(size=_DRAWS)
    ratio = log_normal(z, mean, sd) - log_normal(z, 0.0, 1.0)
    exact = _evidence(_BITS) - c["gap"] * _true_gap(_BITS, mean, sd)
    draws = _bits(z, _BITS) - c["prior"] * ratio
    return sampled("mean of log p(x|z) + log p(z) − log q(z), three bits, nats", (exact, draws))


@st.composite
def _decoders(draw: st.DrawFn) -> Decoder:
    """One to four bits; weights and biases in quarters."""
    size = draw(st.integers(1, 4))
    quarters = st.lists(st.integers(-8, 8), min_size=size, max_size=size)
    bits = st.lists(st.integers(0, 1), min_size=size, max_size=size)
    weight, bias = (np.asarray(draw(quarters)) / 4.0 for _ in range(2))
    return weight, bias, np.asarray(draw(bits), dtype=float)


def _decoder_words(decoder: Decoder) -> str:
    weight, bias, x = (values.tolist() for values in decoder)
    return f"bits {x} with logits of weights {weight} and biases {bias}"


def _l1_search(c: Constants) -> Evidence:
    """Bits: three integrals by three rules, and a gap below zero."""

    def violated(case: tuple[Decoder, int, int]) -> bool:
        decoder, mean, sd = case[0], case[1] / 4.0, case[2] / 4.0
        kl = float(divergence(mean, sd, 0.0, 1.0))
        elbo = _reconstruction(decoder, mean, sd) - c["prior"] * kl
        gap = _true_gap(decoder, mean, sd)
        return apart(elbo, _evidence(decoder) - c["gap"] * gap, 1e-7) or gap < -ROUNDING

    def words(case: tuple[Decoder, int, int]) -> str:
        return f"{_decoder_words(case[0])}; q = N({case[1] / 4:g}, {case[2] / 4:g}²)"

    cases = st.tuples(_decoders(), st.integers(-8, 8), st.integers(1, 6))
    return search("ELBO against log p(x) minus the gap, decoders of bits", cases, violated, words)


L1 = Statement(
    id="L1",
    name="the gap of the ELBO",
    paper="Lagging, equation 3",
    item="lagging-eq3",
    claim="E_q log p(x|z) − KL(q‖p(z)) is log p(x) − KL(q‖p(z|x)) nats for every x and q.",
    constants={"prior": 1.0, "gap": 1.0},
    wrong={"prior": 0.5, "gap": 0.5},
    checks=(_l1_symbolic, _l1_sampled, _l1_search),
)


# --- L2, two forces on the decoder ----------------------------------------------------------------


class Forces(NamedTuple):
    """What moves the weight w of a scalar decoder N(w z, s^2) at a given q; nats per unit of w."""

    evidence: float  # d log p(x) / dw
    divergence: float  # -d KL(q || p(z|x)) / dw

    @property
    def both(self) -> float:
        """The derivative of the ELBO."""
        return self.evidence + self.divergence


def forces(weight: float, noise: float, x: float, mean: float, variance: float) -> Forces:
    """Both forces in closed form.

    Args:
        weight, noise: w and s of the decoder.
        x: observation.
        mean, variance: of q; not functions of w.
    """
    total = weight**2 + noise**2
    evidence = weight * (x**2 / total - 1.0) / total
    both = ((x - weight * mean) * mean - weight * variance) / noise**2
    return Forces(evidence, both - evidence)


def _l2_symbolic(c: Constants) -> Evidence:
    """A scalar linear decoder: the gradient at the posterior, moved by an offset, and at p."""
    w, x, z = sympy.symbols("w x z", real=True)
    s = sympy.Symbol("s", positive=True)
    total = w**2 + s**2
    evidence = sympy.diff(-(sympy.log(total) + x**2 / total) / 2, w)
    m, v = sympy.symbols("m v", real=True)
    normal = sympy.exp(-(z**2) / 2) / sympy.sqrt(2 * sympy.pi)
    slope = sympy.expand(sympy.diff(-((x - w * z) ** 2) / (2 * s**2), w))
    under_q = slope.subs(z**2, m**2 + v).subs(z, m)
    width = s**2 / total
    moved = w * x / total + sympy.Rational(c["offset"]) * sympy.sqrt(width)
    at_prior = sympy.integrate(slope * normal, (z, -sympy.oo, sympy.oo))
    return equal(
        "gradient of the ELBO at the posterior against d log p(x)/dw; at the prior against −w/s²",
        (under_q.subs({m: moved, v: width}), evidence),
        (at_prior, -w / s ** sympy.Rational(c["power"])),
    )


def _l2_sampled(c: Constants) -> Evidence:
    """The gradient of log p(x|z) at z from the posterior and from the prior."""
    w, s, x = 1.3, 0.6, 0.9
    noise = np.random.default_rng(1).normal(size=(2, _DRAWS))
    sd = s / math.hypot(w, s)
    at = [w * x / (w**2 + s**2) + sd * (noise[0] + c["offset"]), noise[1]]
    draws = [(x - w * z) * z / s**2 for z in at]
    step = 1e-4
    up, down = (float(log_normal(x, 0.0, math.hypot(w + h, s))) for h in (step, -step))
    return sampled(
        "mean gradient in w under the posterior and under the prior, nats",
        ((up - down) / (2 * step), draws[0]),
        (-w / s ** c["power"], draws[1]),
    )


def _gradient(z: Array, decoder: Decoder) -> Array:
    """d log p(x|z) / dt at t = 1 for logits t w z + b, at each z (G,)."""
    weight, bias, x = decoder
    along = np.multiply.outer(z, weight)
    return np.asarray(((x - expit(along + bias)) * along).sum(-1))


def _evidence_slope(decoder: Decoder, step: float = 1e-3) -> float:
    """d log p(x) / dt at t = 1, from differences of quadratures; error about step^4."""
    weight, bias, x = decoder
    at = [_evidence(((1.0 + k * step) * weight, bias, x)) for k in (-2, -1, 1, 2)]
    return (at[0] - 8.0 * at[1] + 8.0 * at[2] - at[3]) / (12.0 * step)


def _posterior_slope(decoder: Decoder, offset: float) -> float:
    """E d log p(x|z) / dt under p(z|x), moved by an offset."""
    z = _grid(0.0, 1.0, 4 * PER_SD)
    log = _bits(z, decoder) + log_normal(z, 0.0, 1.0)
    return float(np.exp(log - logsumexp(log)) @ _gradient(z + offset, decoder))


def _l2_search(c: Constants) -> Evidence:
    """Bits: equal gradients at the posterior, and none outwards at the prior."""
    z = _grid(0.0, 1.0)
    prior = np.exp(log_normal(z, 0.0, 1.0)) * (z[1] - z[0])

    def violated(decoder: Decoder) -> bool:
        here, slope = _posterior_slope(decoder, c["offset"]), _evidence_slope(decoder)
        return apart(slope, here, 1e-7) or float(prior @ _gradient(z, decoder)) > ROUNDING

    text = "force left at q = p(z|x), and a force away from w = 0 at q = p, decoders of bits"
    return search(text, _decoders(), violated, _decoder_words)


L2 = Statement(
    id="L2",
    name="two forces on the decoder",
    paper="Lagging, section 3.1",
    item="",
    claim="At q = p(z|x) the gradient of the ELBO in w is that of log p(x); at q = p(z) it is "
    "−w/s² nats per unit of w for every x, and points to w = 0 for every concave decoder.",
    constants={"offset": 0.0, "power": 2.0},
    wrong={"offset": 0.25, "power": 1.0},
    checks=(_l2_symbolic, _l2_sampled, _l2_search),
)


# --- L3, the rate is information plus mismatch ----------------------------------------------------


def _l3_symbolic(c: Constants) -> Evidence:
    """Three distributions on three states; logarithms are free symbols: the identity is linear."""
    states = range(3)
    p = [[sympy.Symbol(f"p{i}{k}") for k in states] for i in states]
    log = [[sympy.Symbol(f"l{i}{k}") for k in states] for i in states]
    log_mixture, log_prior = sympy.symbols("a:3"), sympy.symbols("r:3")
    mixture = [sum(p[i][k] for i in states) / 3 for k in states]
    rate = sum(p[i][k] * (log[i][k] - log_prior[k]) for i in states for k in states) / 3
    inside = sum(p[i][k] * (log[i][k] - log_mixture[k]) for i in states for k in states) / 3
    mismatch = sum(mixture[k] * (log_mixture[k] - log_prior[k]) for k in states)
    both = sympy.Rational(c["information"]) * inside + sympy.Rational(c["mismatch"]) * mismatch
    return equal("E KL against information plus mismatch, three points and states", (rate, both))


def _l3_sampled(c: Constants) -> Evidence:
    """Two dimensions: log q(z|x) - log p(z) against quadrature of both parts."""
    random = np.random.default_rng(2)
    mean = np.array([[0.5, -1.25], [-0.75, 0.0], [1.5, 2.0]])
    sd = np.array([[0.8, 1.2], [0.4, 0.7], [1.1, 0.6]])
    x = random.integers(0, 3, _DRAWS)
    z = mean[x] + sd[x] * random.normal(size=(_DRAWS, 2))
    draws = (log_normal(z, mean[x], sd[x]) - log_normal(z, 0.0, 1.0)).sum(1)
    found = parts(mean, sd, per_sd=4)
    exact = c["information"] * found.information + c["mismatch"] * found.aggregate_kl
    return sampled("mean of log q(z|x) − log p(z), two dimensions, nats", (exact, draws))


def _l3_search(c: Constants) -> Evidence:
    """The closed form of the rate against quadrature, and information above the rate."""

    def violated(case: Set) -> bool:
        mean, sd = case
        rate = 0.5 * float((mean**2 + sd**2 - 1.0 - 2.0 * np.log(sd)).mean())
        found = parts(mean, sd)
        both = c["information"] * found.information + c["mismatch"] * found.aggregate_kl
        return apart(rate, both) or found.information > rate + ROUNDING

    return search("E KL against information plus mismatch", sets(), violated, shown)


L3 = Statement(
    id="L3",
    name="the rate is information plus mismatch",
    paper="Lagging, equation 5",
    item="lagging-eq5",
    claim="E KL(q(z|x)‖p(z)) is I_q + KL(q_agg‖p) nats, so that I_q is at most the average KL.",
    constants={"information": 1.0, "mismatch": 1.0},
    wrong={"information": 0.5, "mismatch": 0.5},
    checks=(_l3_symbolic, _l3_sampled, _l3_search),
)


# --- L4, mutual information from a mini-batch -----------------------------------------------------

Batch = tuple[int, ...]


class _Posteriors(NamedTuple):
    """Densities of a set on a grid."""

    own: Array  # (N, G), logarithms
    mass: Array  # (N, G), probability of each node

    def mixture(self, batch: Sequence[int]) -> Array:
        """Log density of a batch's mixture, (G,)."""
        return np.asarray(logsumexp(self.own[list(batch)], axis=0) - math.log(len(batch)))

    def against(self, points: Sequence[int], log: Array) -> float:
        """Average of KL(q_i || the density) over points."""
        chosen = list(points)
        return float((self.mass[chosen] * (self.own[chosen] - log)).sum(1).mean())


def _posteriors(mean: ArrayLike, sd: ArrayLike) -> _Posteriors:
    own, _, cell = densities(mean, sd)
    return _Posteriors(own, np.exp(own) * cell)


def _subsets(points: Iterable[int], size: int, replace: bool) -> list[tuple[Batch, float]]:
    """Every batch of a size with its probability; with ``replace`` points may come again."""
    pool = list(points)
    if not replace:
        found = list(itertools.combinations(pool, size))
        return [(batch, 1.0 / len(found)) for batch in found]
    weighted = []
    for batch in itertools.combinations_with_replacement(pool, size):
        orders = math.factorial(size)
        for point in set(batch):
            orders //= math.factorial(batch.count(point))
        weighted.append((batch, orders / len(pool) ** size))
    return weighted


def of_batch(mean: ArrayLike, sd: ArrayLike, batch: Sequence[int]) -> float:
    """The estimate within one batch of points, nats."""
    q = _posteriors(mean, sd)
    return q.against(batch, q.mixture(batch))


def within(mean: ArrayLike, sd: ArrayLike, size: int, replace: bool = False) -> float:
    """The estimate with the own x in the mini-batch: its expectation over all batches, nats."""
    q = _posteriors(mean, sd)
    batches = _subsets(range(len(q.own)), size, replace)
    return sum(share * q.against(batch, q.mixture(batch)) for batch, share in batches)


def independent(mean: ArrayLike, sd: ArrayLike, size: int) -> float:
    """The estimate with a mini-batch drawn without regard to the own x; its expectation, nats."""
    q = _posteriors(mean, sd)
    every = range(len(q.own))
    batches = _subsets(every, size, True)
    return sum(share * q.against(every, q.mixture(batch)) for batch, share in batches)


def excluded(mean: ArrayLike, sd: ArrayLike, size: int) -> float:
    """The estimate with a mini-batch of other points only; its expectation, nats."""
    q = _posteriors(mean, sd)
    points = range(len(q.own))
    values = []
    for point in points:
        batches = _subsets((other for other in points if other != point), size, False)
        values.append(sum(share * q.against([point], q.mixture(b)) for b, share in batches))
    return float(np.mean(values))


class _Bias(NamedTuple):
    """What the two estimates miss; nats."""

    below: float  # E KL(q_B || q_agg), batches of different points
    above: float  # E KL(q_agg || q_B), batches drawn with replacement


def _bias(mean: ArrayLike, sd: ArrayLike, size: int) -> _Bias:
    q = _posteriors(mean, sd)
    every = range(len(q.own))
    log_all, mass_all = q.mixture(every), q.mass.mean(0)
    below = above = 0.0
    for batch, share in _subsets(every, size, False):
        below += share * float(q.mass[list(batch)].mean(0) @ (q.mixture(batch) - log_all))
    for batch, share in _subsets(every, size, True):
        above += share * float(mass_all @ (log_all - q.mixture(batch)))
    return _Bias(below, above)


def _l4_symbolic(c: Constants) -> Evidence:
    """Three points on two states, batches of two: free logarithms. Then S separated points."""
    points, states = range(3), range(2)
    p = [[sympy.Symbol(f"p{i}{k}") for k in states] for i in points]
    log = [[sympy.Symbol(f"l{i}{k}") for k in states] for i in points]
    log_all = sympy.symbols("a:2")
    mixture = [sum(p[i][k] for i in points) / 3 for k in states]

    def against(chosen: Sequence[int], target: Sequence[sympy.Expr]) -> sympy.Expr:
        terms = (p[i][k] * (log[i][k] - target[k]) for i in chosen for k in states)
        return sum(terms) / len(chosen)

    def average(values: list[sympy.Expr]) -> sympy.Expr:
        return sum(values) / len(values)

    def batch_log(batch: Batch) -> list[sympy.Symbol]:
        return [sympy.Symbol(f"b{min(batch)}{max(batch)}{k}") for k in states]

    pairs, drawn = list(itertools.combinations(points, 2)), list(itertools.product(points, points))
    information = against(points, log_all)
    lower = average([against(b, batch_log(b)) for b in pairs])
    upper = average([against(points, batch_log(b)) for b in drawn])
    missed = [
        sum((p[b[0]][k] + p[b[1]][k]) / 2 * (batch_log(b)[k] - log_all[k]) for k in states)
        for b in pairs
    ]
    added = [sum(mixture[k] * (log_all[k] - batch_log(b)[k]) for k in states) for b in drawn]
    size = sympy.Symbol("S", positive=True)
    own = sympy.log(1 / (1 / size))  # of a point's share in a mixture of separated points
    return equal(
        "I minus and plus the average KLs of batches; the value for S separated points",
        (lower, information - sympy.Rational(c["below"]) * average(missed)),
        (upper, information + sympy.Rational(c["above"]) * average(added)),
        (own, sympy.Rational(c["ceiling"]) * sympy.log(size)),
    )


_MEAN, _SD = np.array([0.5, -0.75, 1.5, 0.0]), np.array([0.9, 0.35, 1.1, 0.64])


def _l4_sampled(c: Constants) -> Evidence:
    """Random batches of two, and z of one of their points or of an independent one."""
    random = np.random.default_rng(3)
    every = np.arange(len(_MEAN))

    def ratio(x: NDArray[np.int64], batch: NDArray[np.int64]) -> Array:
        z = _MEAN[x] + _SD[x] * random.normal(size=len(x))
        log = log_normal(z[:, None], _MEAN[batch], _SD[batch])
        own = log_normal(z, _MEAN[x], _SD[x])
        return np.asarray(own - logsumexp(log, axis=1) + math.log(batch.shape[1]))

    ordered = random.permuted(np.broadcast_to(every, (_DRAWS, len(every))), axis=1)[:, :2]
    drawn = random.integers(0, len(every), (_DRAWS, 2))
    information, bias = parts(_MEAN, _SD).information, _bias(_MEAN, _SD, 2)
    return sampled(
        "mean log-ratio to a batch of two with the own x, and without regard to it, nats",
        (information - c["below"] * bias.below, ratio(ordered[:, 0], ordered)),
        (
            information + c["above"] * bias.above,
            ratio(random.integers(0, len(every), _DRAWS), drawn),
        ),
    )


def _l4_search(c: Constants) -> Evidence:
    """All batches of two of three or four points."""

    def violated(case: Set) -> bool:
        information, size = parts(*case).information, 2
        low, high = within(*case, size), independent(*case, size)
        bias = _bias(*case, size)
        return (
            apart(information - c["below"] * bias.below, low)
            or apart(information + c["above"] * bias.above, high)
            or low > min(information, c["ceiling"] * math.log(size)) + ROUNDING
            or min(high, excluded(*case, size)) < information - ROUNDING
        )

    text = "lower form ≤ I and ≤ log S, upper forms ≥ I, and what they miss"
    return search(text, sets(3, 4), violated, shown, 150)


def _l4_printed() -> Evidence:
    """Is the estimate with the own x in the batch, as the released code has it, above I?"""

    def violated(case: Set) -> bool:
        return within(*case, 2) < parts(*case).information - 0.01

    def words(case: Set) -> str:
        low, information = within(*case, 2), parts(*case).information
        return f"{shown(case)}: batches of two give {low:.4f} nats, I_q is {information:.4f}"

    return search("the estimate is an upper bound of I_q", sets(3, 4), violated, words, 150)


L4 = Statement(
    id="L4",
    name="mutual information from a mini-batch",
    paper="Lagging, section 4.2",
    item="lagging-eq5",
    claim="With the own x among S points the estimate is I_q − E KL(q_B‖q_agg) ≤ log S nats; "
    "with S independent points it is I_q + E KL(q_agg‖q_B).",
    constants={"below": 1.0, "above": 1.0, "ceiling": 1.0},
    wrong={"below": 0.5, "above": 0.5, "ceiling": 0.5},
    checks=(_l4_symbolic, _l4_sampled, _l4_search),
    printed=_l4_printed,
)


# --- L5, the mean from a grid ---------------------------------------------------------------------

INTERVAL, STRIDE = (-20.0, 20.0), 0.01  # of the paper
_TERMS = 12  # of the series below; for sd >= 0.2 strides the rest is below 1e-40
_L5: Constants = {"amplitude": 4.0, "exponent": 2.0, "reach": 9.0, "least": 1.0}


def riemann(log_density: Callable[[Array], Array], low: float, high: float, stride: float) -> float:
    """Mean of an unnormalised log density over the nodes low + k stride (equation 6)."""
    z: Array = low + stride * np.arange(round((high - low) / stride) + 1, dtype=np.float64)
    log = log_density(z)
    weight = np.exp(log - log.max())
    return float(weight @ z / weight.sum())


def stride_error(place: ArrayLike, ratio: ArrayLike, c: Constants = _L5) -> Array:
    """Error of the grid's mean for a Gaussian, in strides; exact where no mass is outside.

    Args:
        place: (mean - low) / stride; only its fraction matters.
        ratio: standard deviation over stride.
    """
    n = np.arange(1, _TERMS + 1)
    u, r = np.asarray(place)[..., None], np.asarray(ratio)[..., None]
    damped = np.exp(-c["exponent"] * (math.pi * n * r) ** 2)
    top = c["amplitude"] * math.pi * n * r**2 * damped * np.sin(2.0 * math.pi * n * u)
    bottom = 2.0 * damped * np.cos(2.0 * math.pi * n * u)
    return np.asarray(-top.sum(-1) / (1.0 + bottom.sum(-1)))


def _l5_symbolic(c: Constants) -> Evidence:
    """The Fourier transforms behind Poisson's sum, by integration, at the frequency 2 pi n / h."""
    z, n = sympy.symbols("z n", real=True)
    s, h = sympy.symbols("s h", positive=True)
    normal = sympy.exp(-(z**2) / (2 * s**2)) / (s * sympy.sqrt(2 * sympy.pi))
    omega = sympy.Symbol("omega", positive=True)
    whole = (z, -sympy.oo, sympy.oo)
    level = sympy.integrate(normal * sympy.cos(omega * z), whole)
    first = sympy.integrate(normal * z * sympy.sin(omega * z), whole)
    damped = sympy.exp(-sympy.Rational(c["exponent"]) * (sympy.pi * n * s / h) ** 2)
    top = sympy.Rational(c["amplitude"]) * sympy.pi * n * s**2 / h * damped
    at = {omega: 2 * sympy.pi * n / h}
    return equal(
        "terms of Poisson’s sum for the mass and for the mean of a Gaussian",
        (level.subs(at), damped),
        (2 * first.subs(at), top),
    )


def _l5_sampled(c: Constants) -> Evidence:
    """Grids at random places: the mean square error of the unnormalised mean (Parseval)."""
    ratio = 0.4
    u = np.random.default_rng(4).uniform(size=_DRAWS)
    z = np.arange(-8, 9) - u[:, None]  # in strides, around the mean
    top = (np.exp(log_normal(z, 0.0, ratio)) * z).sum(1)
    n = np.arange(1, _TERMS + 1)
    damped = np.exp(-c["exponent"] * (math.pi * n * ratio) ** 2)
    exact = 0.5 * float(((c["amplitude"] * math.pi * n * ratio**2 * damped) ** 2).sum())
    return sampled("squared error for random grids, sd 0.4 strides, in strides²", (exact, top**2))


def _l5_search(c: Constants) -> Evidence:
    """Sums over grids against the formula, and an error beyond 1e-7 strides for wide ones."""
    strides = 64

    def error(place: float, ratio: float) -> float:
        mean = riemann(lambda z: log_normal(z, place, ratio), 0.0, strides, 1.0)
        return mean - place

    def violated(case: tuple[int, int]) -> bool:
        room, sixteenths = case
        ratio = sixteenths / 16.0
        place = c["reach"] * ratio + room / 32.0  # from the lower end, in strides
        if place > strides - c["reach"] * ratio:
            return False
        found = error(place, ratio)
        wide = ratio >= c["least"] and abs(found) > 1e-7
        return abs(found - float(stride_error(place, ratio, c))) > ROUNDING or wide

    def words(case: tuple[int, int]) -> str:
        return f"sd {case[1] / 16:g} strides, at {c['reach'] * case[1] / 16 + case[0] / 32:g}"

    cases = st.tuples(st.integers(0, 1024), st.integers(4, 48))
    return search("error of the sum against the formula, in strides", cases, violated, words)


def _l5_printed() -> Evidence:
    """The paper's own grid, for posteriors well inside its interval."""

    def violated(case: tuple[int, int]) -> bool:
        mean, sd = case[0] / 1000.0, 2.0 ** -case[1]
        found = riemann(lambda z: log_normal(z, mean, sd), *INTERVAL, STRIDE)
        return abs(found - mean) > 1e-4

    def words(case: tuple[int, int]) -> str:
        mean, sd = case[0] / 1000.0, 2.0 ** -case[1]
        found = riemann(lambda z: log_normal(z, mean, sd), *INTERVAL, STRIDE)
        return f"posterior N({mean:g}, {sd:g}²): the sum gives {found:.5f}"

    cases = st.tuples(st.integers(-5000, 5000), st.integers(0, 12))
    text = "stride 0.01 on [−20, 20] gives the mean to 1e-4"
    return search(text, cases, violated, words)


L5 = Statement(
    id="L5",
    name="the posterior mean from a grid",
    paper="Lagging, equation 6",
    item="",
    claim="For N(m, s²) well inside [a, b] the leading error is "
    "−4π (s²/h) e^(−2π²s²/h²) sin(2π(m − a)/h) in units of z: below 1e-7 strides h for s ≥ h, "
    "and up to h/2 for s ≪ h.",
    constants=_L5,
    wrong={"amplitude": 2.0, "exponent": 1.0, "reach": 1.0, "least": 0.5},
    checks=(_l5_symbolic, _l5_sampled, _l5_search),
    printed=_l5_printed,
)

STATEMENTS = (L1, L2, L3, L4, L5)
