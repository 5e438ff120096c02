"""Lagging inference networks: the statements of He et al. 2019 as exact mathematics.

Notation: p = N(0, 1) is the prior of a scalar z, x is uniform on N points, q_i = q(z|x_i), q_agg is
their mixture, S is the size of a mini-batch, h the stride of a grid, nats.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.special import expit, logsumexp

from companion.claims import formulas as f
from companion.claims.formulas import ROUNDING, Array, Bits, apart, gaussian_kl, log_normal, parts
from companion.claims.statements import Facts, Formulas, Means, exp, stated

BITS, MEAN, SD = f.BITS, f.MEAN, f.SD

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
    """All terms in closed form: W, b and x are (n,), noise is s, mean and variance those of q."""
    w, rest = np.asarray(weight, dtype=float), np.asarray(x, dtype=float) - bias
    precision = 1.0 + float(w @ w) / noise**2
    target = float(w @ rest) / noise**2 / precision
    squares = float(rest @ rest) / noise**2 - precision * target**2
    constant = w.size * math.log(2.0 * math.pi * noise**2)
    evidence = -0.5 * (constant + math.log(precision) + squares)
    error = float(((rest - w * mean) ** 2).sum() + w @ w * variance) / noise**2
    reconstruction, kl = -0.5 * (constant + error), float(gaussian_kl(mean, variance))
    gap = float(gaussian_kl(mean, variance, target, 1.0 / precision))
    return Gap(evidence, target, 1.0 / precision, reconstruction, kl, reconstruction - kl, gap)


L1 = stated(
    "L1",
    Formulas(left="reconstruction - kl", right="evidence - gap"),
    {"prior": ("- kl", "- kl / 2"), "gap": ("- gap", "- gap / 2")},
)


@L1.symbolic
def _(c: Formulas) -> Facts:
    """ELBO against log p(x) minus the gap, scalar linear decoder."""
    w, x, m = sympy.symbols("w x m", real=True)
    noise, v = sympy.symbols("t v", positive=True)  # variances
    total, level = w**2 + noise, sympy.log(2 * sympy.pi)
    evidence = -(level + sympy.log(total) + x**2 / total) / 2
    reconstruction = -(level + sympy.log(noise) + ((x - w * m) ** 2 + w**2 * v) / noise) / 2
    gap = f.logs(gaussian_kl(m, v, w * x / total, noise / total))
    left = c.left(reconstruction=reconstruction, kl=gaussian_kl(m, v))
    return [(left, c.right(evidence=evidence, gap=gap))]


@L1.sampled
def _(c: Formulas) -> Means:
    """mean of log p(x|z) + log p(z) − log q(z), three bits, nats"""
    mean, sd = 0.2, 1.3
    z = mean + sd * np.random.default_rng(0).normal(size=f.DRAWS)
    ratio = log_normal(z, mean, sd) - log_normal(z, 0.0, 1.0)
    exact = c.right(evidence=BITS.evidence, gap=BITS.gap(mean, sd))
    return [(exact, c.left(reconstruction=BITS.log_likelihood(z), kl=ratio))]


@st.composite
def _decoders(draw: st.DrawFn) -> Bits:
    """One to four bits; weights and biases in quarters."""
    size = draw(st.integers(1, 4))
    weight, bias = (f.integers(draw, -8, 8, (size,)) / 4.0 for _ in range(2))
    return Bits(weight, bias, f.integers(draw, 0, 1, (size,)))


@L1.search(st.tuples(_decoders(), f.steps(-8, 8, 4), f.steps(1, 6, 4)), "{}; q = N({:g}, {:g}²)")
def _(c: Formulas, decoder: Bits, mean: float, sd: float) -> bool:
    """ELBO against log p(x) minus the gap, decoders of bits"""
    # Four integrals by four rules; and the gap is never below zero.
    kl, gap = float(f.quadrature_kl(mean, sd**2)), decoder.gap(mean, sd)
    left = c.left(reconstruction=decoder.reconstruction(mean, sd), kl=kl)
    return apart(left, c.right(evidence=decoder.evidence, gap=gap), 1e-7) or gap < -ROUNDING


# --- L2, two forces on the decoder ----------------------------------------------------------------


class Forces(NamedTuple):
    """What moves the weight w of a scalar decoder N(w z, s^2) at a given q; nats per unit of w."""

    evidence: Any  # d log p(x) / dw
    divergence: Any  # -d KL(q || p(z|x)) / dw

    @property
    def both(self) -> Any:
        """The derivative of the ELBO."""
        return self.evidence + self.divergence


def forces(weight: Any, noise: float, x: float, mean: Any, variance: Any) -> Forces:
    """Both forces in closed form, of numbers or arrays; q is not a function of the weight."""
    total = weight**2 + noise**2
    evidence = weight * (x**2 / total - 1.0) / total
    both = ((x - weight * mean) * mean - weight * variance) / noise**2
    return Forces(evidence, both - evidence)


L2 = stated(
    "L2", Formulas(at_prior="-w / s**2", offset=0.0), {"offset": 0.25, "power": ("s**2", "s")}
)


@L2.symbolic
def _(c: Formulas) -> Facts:
    """gradient of the ELBO at the posterior against d log p(x)/dw; at the prior against −w/s²"""
    w, x, z, m, v = sympy.symbols("w x z m v", real=True)
    s = sympy.Symbol("s", positive=True)
    total = w**2 + s**2
    evidence = sympy.diff(-(sympy.log(total) + x**2 / total) / 2, w)
    slope = sympy.expand(sympy.diff(-((x - w * z) ** 2) / (2 * s**2), w))
    under_q = slope.subs(z**2, m**2 + v).subs(z, m)
    width = s**2 / total
    moved = w * x / total + sympy.Rational(c.offset) * sympy.sqrt(width)
    at_prior = f.integral(slope * f.bell(z), z)
    return (under_q.subs({m: moved, v: width}), evidence), (at_prior, c.at_prior(w=w, s=s))


@L2.sampled
def _(c: Formulas) -> Means:
    """mean gradient in w under the posterior and under the prior, nats"""
    w, s, x = 1.3, 0.6, 0.9
    noise = np.random.default_rng(1).normal(size=(2, f.DRAWS))
    sd = s / math.hypot(w, s)
    at = [w * x / (w**2 + s**2) + sd * (noise[0] + c.offset), noise[1]]
    draws = [(x - w * z) * z / s**2 for z in at]
    slope = f.derivative(lambda w: float(log_normal(x, 0.0, math.hypot(w, s))), w)
    return (slope, draws[0]), (c.at_prior(w=w, s=s), draws[1])


def _gradient(z: Array, decoder: Bits) -> Array:
    """d log p(x|z) / dt at t = 1 for logits t w z + b, at each z (G,)."""
    along = np.multiply.outer(z, decoder.weight)
    return np.asarray(((decoder.x - expit(along + decoder.bias)) * along).sum(-1))


@L2.search(_decoders(), str)
def _(c: Formulas, decoder: Bits) -> bool:
    """force left at q = p(z|x), and a force away from w = 0 at q = p, decoders of bits"""
    z = f.grid(0.0, 1.0, 4 * f.PER_SD)
    log_prior = log_normal(z, 0.0, 1.0)
    log_joint = decoder.log_likelihood(z) + log_prior
    slope = float(np.exp(log_joint - logsumexp(log_joint)) @ _gradient(z + c.offset, decoder))
    here = f.derivative(lambda t: decoder._replace(weight=t * decoder.weight).evidence, 1.0)
    at_prior = float(np.exp(log_prior) @ _gradient(z, decoder)) * (z[1] - z[0])
    return apart(slope, here, 1e-7) or at_prior > ROUNDING


# --- L3, the rate is information plus mismatch ----------------------------------------------------

L3 = stated(
    "L3",
    Formulas(rate="information + mismatch"),
    {"information": ("information", "information / 2"), "mismatch": ("mismatch", "mismatch / 2")},
)


@L3.symbolic
def _(c: Formulas) -> Facts:
    """E KL against information plus mismatch, three points and states"""
    p, log_q = f.outcomes(3, 3)
    log_mixture, log_prior = (np.array(sympy.symbols(f"{name}:3")) for name in "ar")
    rate, inside = ((p * (log_q - other)).sum() / 3 for other in (log_prior, log_mixture))
    mismatch = (p.sum(0) / 3 * (log_mixture - log_prior)).sum()
    return [(rate, c.rate(information=inside, mismatch=mismatch))]


@L3.sampled
def _(c: Formulas) -> Means:
    """mean of log q(z|x) − log p(z), two dimensions, nats"""
    random = np.random.default_rng(2)
    mean = np.array([[0.5, -1.25], [-0.75, 0.0], [1.5, 2.0]])
    sd = np.array([[0.8, 1.2], [0.4, 0.7], [1.1, 0.6]])
    x = random.integers(0, 3, f.DRAWS)
    z = mean[x] + sd[x] * random.normal(size=(f.DRAWS, 2))
    draws = (log_normal(z, mean[x], sd[x]) - log_normal(z, 0.0, 1.0)).sum(1)
    terms = parts(mean, sd, 4)
    return [(c.rate(information=terms.information, mismatch=terms.aggregate_kl), draws)]


@L3.search(f.sets(), f.in_words)
def _(c: Formulas, mean: Array, sd: Array) -> bool:
    """the closed form of E KL against information plus mismatch; information above E KL"""
    closed, terms = float(gaussian_kl(mean, sd**2).mean()), parts(mean, sd)
    both = c.rate(information=terms.information, mismatch=terms.aggregate_kl)
    return apart(closed, both) or terms.information > closed + ROUNDING


# --- L4, mutual information from a mini-batch -----------------------------------------------------

Batch = tuple[int, ...]


class Posteriors(NamedTuple):
    """Densities of a set on a grid."""

    own: Array  # (N, G), logarithms
    mass: Array  # (N, G), probability of each node

    @property
    def points(self) -> range:
        """All of them."""
        return range(len(self.own))

    def mixture(self, batch: Sequence[int]) -> Array:
        """Log density of a batch's mixture, (G,)."""
        return np.asarray(logsumexp(self.own[list(batch)], axis=0) - math.log(len(batch)))

    def against(self, points: Sequence[int], batch: Sequence[int]) -> float:
        """Average of KL(q_i || the mixture of a batch) over points."""
        chosen = list(points)
        return float((self.mass[chosen] * (self.own[chosen] - self.mixture(batch))).sum(1).mean())


@f.cached
def posteriors(mean: ArrayLike, sd: ArrayLike) -> Posteriors:
    """Scalar posteriors (N,) on one grid."""
    own, _, cell = f.densities(mean, sd)
    return Posteriors(own, np.exp(own) * cell)


def _batches(points: Iterable[int], size: int, replace: bool) -> list[tuple[Batch, float]]:
    """Every batch of a size with its probability; with ``replace`` points may come again."""
    pool = list(points)
    every = itertools.product(pool, repeat=size) if replace else itertools.combinations(pool, size)
    counts = Counter(tuple(sorted(batch)) for batch in every)
    return [(batch, count / counts.total()) for batch, count in counts.items()]


def of_batch(mean: ArrayLike, sd: ArrayLike, batch: Sequence[int]) -> float:
    """The estimate within one batch of points, nats."""
    return posteriors(mean, sd).against(batch, batch)


@f.cached
def within(mean: ArrayLike, sd: ArrayLike, size: int, replace: bool = False) -> float:
    """The estimate with the own x in the mini-batch: its expectation over all batches, nats."""
    q = posteriors(mean, sd)
    return sum(share * q.against(b, b) for b, share in _batches(q.points, size, replace))


@f.cached
def independent(mean: ArrayLike, sd: ArrayLike, size: int) -> float:
    """The estimate with a mini-batch drawn without regard to the own x; its expectation, nats."""
    q = posteriors(mean, sd)
    return sum(share * q.against(q.points, b) for b, share in _batches(q.points, size, True))


@f.cached
def excluded(mean: ArrayLike, sd: ArrayLike, size: int) -> float:
    """The estimate with a mini-batch of other points only; its expectation, nats."""
    q, values = posteriors(mean, sd), []
    for point in q.points:
        batches = _batches(set(q.points) - {point}, size, False)
        values.append(sum(share * q.against([point], b) for b, share in batches))
    return float(np.mean(values))


@f.cached
def bias(mean: ArrayLike, sd: ArrayLike, size: int) -> tuple[float, float]:
    """E KL(q_B || q_agg) of different points and E KL(q_agg || q_B) of independent ones, nats."""
    q = posteriors(mean, sd)
    log_all, mass_all = q.mixture(q.points), q.mass.mean(0)
    below = above = 0.0
    for batch, share in _batches(q.points, size, False):
        below += share * float(q.mass[list(batch)].mean(0) @ (q.mixture(batch) - log_all))
    for batch, share in _batches(q.points, size, True):
        above += share * float(mass_all @ (log_all - q.mixture(batch)))
    return below, above


L4 = stated(
    "L4",
    Formulas(own="information - below", independent="information + above", ceiling="log(size)"),
    {
        "below": ("- below", "- below / 2"),
        "above": ("+ above", "+ above / 2"),
        "ceiling": ("log(size)", "log(size) / 2"),
    },
)


@L4.symbolic
def _(c: Formulas) -> Facts:
    """I minus and plus the average KLs of batches; the value for S separated points"""
    # Three points on two states, batches of two; logarithms are free symbols.
    p, log_q = f.outcomes(3, 2)
    log_all, points = np.array(sympy.symbols("a:2")), range(3)
    pairs, drawn = list(itertools.combinations(points, 2)), list(itertools.product(points, points))

    def log_of(batch: Batch) -> Array:
        return np.array([sympy.Symbol(f"b{min(batch)}{max(batch)}{k}") for k in range(2)])

    def against(chosen: Sequence[int], target: Array) -> Any:
        return (p[list(chosen)] * (log_q[list(chosen)] - target)).sum() / len(chosen)

    information = against(points, log_all)
    lower = sum(against(b, log_of(b)) for b in pairs) / 3
    upper = sum(against(points, log_of(b)) for b in drawn) / 9
    below = sum((p[list(b)].sum(0) / 2 * (log_of(b) - log_all)).sum() for b in pairs) / 3
    above = sum((p.sum(0) / 3 * (log_all - log_of(b))).sum() for b in drawn) / 9
    size = sympy.Symbol("S", positive=True)
    return (
        (lower, c.own(information=information, below=below)),
        (upper, c.independent(information=information, above=above)),
        # A point's share in a mixture of separated points is 1/S.
        (sympy.log(1 / (1 / size)), c.ceiling(size=size)),
    )


@L4.sampled
def _(c: Formulas) -> Means:
    """mean log-ratio to a batch of two with the own x, and without regard to it, nats"""
    random, every = np.random.default_rng(3), np.arange(len(MEAN))

    def ratio(x: Array, batch: Array) -> Array:
        z = MEAN[x] + SD[x] * random.normal(size=len(x))
        mixed = logsumexp(log_normal(z[:, None], MEAN[batch], SD[batch]), axis=1)
        return np.asarray(log_normal(z, MEAN[x], SD[x]) - mixed + math.log(batch.shape[1]))

    ordered = random.permuted(np.broadcast_to(every, (f.DRAWS, len(every))), axis=1)[:, :2]
    drawn = random.integers(0, len(every), (f.DRAWS, 2))
    information, (below, above) = parts(MEAN, SD).information, bias(MEAN, SD, 2)
    with_own = ratio(ordered[:, 0], ordered)
    without = ratio(random.integers(0, len(every), f.DRAWS), drawn)
    return (
        (c.own(information=information, below=below), with_own),
        (c.independent(information=information, above=above), without),
    )


@L4.search(f.sets(3, 4), f.in_words, 150)
def _(c: Formulas, mean: Array, sd: Array) -> bool:
    """lower form ≤ I and ≤ log S, upper forms ≥ I, and what they miss; all batches of two"""
    information, size = parts(mean, sd).information, 2
    low, high = within(mean, sd, size), independent(mean, sd, size)
    below, above = bias(mean, sd, size)
    return (
        apart(c.own(information=information, below=below), low)
        or apart(c.independent(information=information, above=above), high)
        or low > min(information, c.ceiling(size=size)) + ROUNDING
        or min(high, excluded(mean, sd, size)) < information - ROUNDING
    )


def _estimate_words(mean: Array, sd: Array) -> str:
    low, information = within(mean, sd, 2), parts(mean, sd).information
    return f"{f.in_words(mean, sd)}: batches of two give {low:.4f} nats, I_q is {information:.4f}"


@L4.search_printed(f.sets(3, 4), _estimate_words, 150)
def _(mean: Array, sd: Array) -> bool:
    """the estimate with x itself in the batch, as in the released code, as an upper bound"""
    return within(mean, sd, 2) < parts(mean, sd).information - 0.01


# --- L5, the mean from a grid ---------------------------------------------------------------------

INTERVAL, STRIDE = (-20.0, 20.0), 0.01  # of the paper
_TERMS = 12  # of the series below; for sd >= 0.2 strides the rest is below 1e-40


def riemann(log_density: Callable[[Array], Array], low: float, high: float, stride: float) -> float:
    """Mean of an unnormalised log density over the nodes low + k stride (equation 6)."""
    z: Array = low + stride * np.arange(round((high - low) / stride) + 1, dtype=np.float64)
    values = log_density(z)
    weight = np.exp(values - values.max())
    return float(weight @ z / weight.sum())


def grid_mean(mean: float, sd: float, low: float, high: float, stride: float) -> float:
    """What equation 6 gives for a posterior N(mean, sd^2)."""
    return riemann(lambda z: log_normal(z, mean, sd), low, high, stride)


def damped(frequency: Any, ratio: Any) -> Any:
    """d_n for the frequency pi n and the ratio s/h."""
    return exp(-2 * (frequency * ratio) ** 2)


def wave(frequency: Any, ratio: Any) -> Any:
    """Amplitude of the error's n-th sine over the stride."""
    return 4 * frequency * ratio**2 * damped(frequency, ratio)


def stride_error(place: ArrayLike, ratio: ArrayLike) -> Array:
    """Error of the grid's mean for a Gaussian, in strides; exact where no mass is outside.

    ``place`` is (mean - low) / stride, of which only the fraction matters.
    """
    frequency = math.pi * np.arange(1, _TERMS + 1)
    u, r = np.asarray(place)[..., None], np.asarray(ratio)[..., None]
    top = wave(frequency, r) * np.sin(2.0 * frequency * u)
    bottom = 2.0 * damped(frequency, r) * np.cos(2.0 * frequency * u)
    return np.asarray(-top.sum(-1) / (1.0 + bottom.sum(-1)))


L5 = stated(
    "L5",
    Formulas(damped, wave, stride_error, reach=9.0, least=1.0),
    {"amplitude": ("4 *", "2 *"), "exponent": ("-2 *", "-1 *"), "reach": 1.0, "least": 0.5},
)


@L5.symbolic
def _(c: Formulas) -> Facts:
    """terms of Poisson’s sum for the mass and for the mean of a Gaussian"""
    z, n = sympy.symbols("z n", real=True)
    s, h, omega = sympy.symbols("s h omega", positive=True)
    level = f.integral(f.bell(z, 0, s**2) * sympy.cos(omega * z), z)
    first = f.integral(f.bell(z, 0, s**2) * z * sympy.sin(omega * z), z)
    at = {omega: 2 * sympy.pi * n / h}
    return (
        (level.subs(at), c.damped(sympy.pi * n, s / h)),
        (2 * first.subs(at), h * c.wave(sympy.pi * n, s / h)),
    )


@L5.sampled
def _(c: Formulas) -> Means:
    """squared error of the unnormalised mean for random grids, sd 0.4 strides, in strides²"""
    ratio = 0.4
    u = np.random.default_rng(4).uniform(size=f.DRAWS)
    z = np.arange(-8, 9) - u[:, None]  # in strides, around the mean
    top = (np.exp(log_normal(z, 0.0, ratio)) * z).sum(1)
    waves = c.wave(math.pi * np.arange(1, _TERMS + 1), ratio)
    return [(0.5 * float((waves**2).sum()), top**2)]  # by Parseval


@L5.search(
    st.tuples(f.steps(0, 1024, 32), f.steps(4, 48, 16)), "sd {1:g} strides, {0:g} inside the reach"
)
def _(c: Formulas, inside: float, ratio: float) -> bool:
    """error of the sum against the formula, in strides; beyond 1e-7 for wide posteriors"""
    strides, place = 64, c.reach * ratio + inside  # from the lower end
    if place > strides - c.reach * ratio:
        return False
    error = grid_mean(place, ratio, 0.0, strides, 1.0) - place
    wide = ratio >= c.least and abs(error) > 1e-7
    return abs(error - float(c.stride_error(place, ratio))) > ROUNDING or wide


def _grid_words(mean: float, sd: float) -> str:
    total = grid_mean(mean, sd, *INTERVAL, STRIDE)
    return f"posterior N({mean:g}, {sd:g}²): the sum gives {total:.5f}"


@L5.search_printed(
    st.tuples(f.steps(-5000, 5000, 1000), st.integers(0, 12).map(lambda n: 2.0**-n)), _grid_words
)
def _(mean: float, sd: float) -> bool:
    """stride 0.01 on [−20, 20] gives the mean to 1e-4, posteriors well inside"""
    return abs(grid_mean(mean, sd, *INTERVAL, STRIDE) - mean) > 1e-4


STATEMENTS = (L1, L2, L3, L4, L5)
