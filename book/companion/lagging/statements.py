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
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logsumexp

from companion.claims import mixtures
from companion.claims.mixtures import (
    BITS,
    DRAWS,
    MEAN,
    ROUNDING,
    SD,
    Array,
    Bits,
    Set,
    apart,
    gaussian_kl,
    log_normal,
    parts,
    sets,
    shown,
    steps,
)
from companion.claims.statements import Evidence, Formulas, equal, exp, sampled, search, stated

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


def _l1_symbolic(c: Formulas) -> Evidence:
    w, x, m = sympy.symbols("w x m", real=True)
    noise, v = sympy.symbols("t v", positive=True)  # variances
    total = w**2 + noise
    evidence = -(sympy.log(2 * sympy.pi) + sympy.log(total) + x**2 / total) / 2
    error = ((x - w * m) ** 2 + w**2 * v) / noise
    reconstruction = -(sympy.log(2 * sympy.pi) + sympy.log(noise) + error) / 2
    gap = sympy.expand_log(gaussian_kl(m, v, w * x / total, noise / total), force=True)
    left = c.left(reconstruction=reconstruction, kl=gaussian_kl(m, v))
    text = "ELBO against log p(x) minus the gap, scalar linear decoder"
    return equal(text, (left, c.right(evidence=evidence, gap=gap)))


def _l1_sampled(c: Formulas) -> Evidence:
    mean, sd = 0.2, 1.3
    z = mean + sd * np.random.default_rng(0).normal(size=DRAWS)
    ratio = log_normal(z, mean, sd) - log_normal(z, 0.0, 1.0)
    exact = c.right(evidence=BITS.evidence, gap=BITS.gap(mean, sd))
    draws = c.left(reconstruction=BITS.log_likelihood(z), kl=ratio)
    return sampled("mean of log p(x|z) + log p(z) − log q(z), three bits, nats", (exact, draws))


@st.composite
def _decoders(draw: st.DrawFn) -> Bits:
    """One to four bits; weights and biases in quarters."""
    size = draw(st.integers(1, 4))
    quarters = st.lists(st.integers(-8, 8), min_size=size, max_size=size)
    bits = st.lists(st.integers(0, 1), min_size=size, max_size=size)
    weight, bias = (np.asarray(draw(quarters)) / 4.0 for _ in range(2))
    return Bits(weight, bias, np.asarray(draw(bits), dtype=float))


def _l1_search(c: Formulas) -> Evidence:
    """Three integrals by three rules, and a gap below zero."""

    def violated(case: tuple[Bits, float, float]) -> bool:
        decoder, mean, sd = case
        kl, gap = float(mixtures.divergence(mean, sd, 0.0, 1.0)), decoder.gap(mean, sd)
        left = c.left(reconstruction=decoder.reconstruction(mean, sd), kl=kl)
        right = c.right(evidence=decoder.evidence, gap=gap)
        return apart(left, right, 1e-7) or gap < -ROUNDING

    cases = st.tuples(_decoders(), steps(-8, 8, 4), steps(1, 6, 4))
    text = "ELBO against log p(x) minus the gap, decoders of bits"
    return search(text, cases, violated, "{}; q = N({:g}, {:g}²)")


L1 = stated(
    "L1",
    Formulas(left="reconstruction - kl", right="evidence - gap"),
    {"prior": ("- kl", "- kl / 2"), "gap": ("- gap", "- gap / 2")},
    (_l1_symbolic, _l1_sampled, _l1_search),
)


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


def _l2_symbolic(c: Formulas) -> Evidence:
    w, x, z = sympy.symbols("w x z", real=True)
    s = sympy.Symbol("s", positive=True)
    total = w**2 + s**2
    evidence = sympy.diff(-(sympy.log(total) + x**2 / total) / 2, w)
    m, v = sympy.symbols("m v", real=True)
    normal = sympy.exp(-(z**2) / 2) / sympy.sqrt(2 * sympy.pi)
    slope = sympy.expand(sympy.diff(-((x - w * z) ** 2) / (2 * s**2), w))
    under_q = slope.subs(z**2, m**2 + v).subs(z, m)
    width = s**2 / total
    moved = w * x / total + sympy.Rational(c.offset) * sympy.sqrt(width)
    at_prior = sympy.integrate(slope * normal, (z, -sympy.oo, sympy.oo))
    return equal(
        "gradient of the ELBO at the posterior against d log p(x)/dw; at the prior against −w/s²",
        (under_q.subs({m: moved, v: width}), evidence),
        (at_prior, c.at_prior(w=w, s=s)),
    )


def _l2_sampled(c: Formulas) -> Evidence:
    w, s, x = 1.3, 0.6, 0.9
    noise = np.random.default_rng(1).normal(size=(2, DRAWS))
    sd = s / math.hypot(w, s)
    at = [w * x / (w**2 + s**2) + sd * (noise[0] + c.offset), noise[1]]
    draws = [(x - w * z) * z / s**2 for z in at]
    step = 1e-4
    up, down = (float(log_normal(x, 0.0, math.hypot(w + h, s))) for h in (step, -step))
    return sampled(
        "mean gradient in w under the posterior and under the prior, nats",
        ((up - down) / (2 * step), draws[0]),
        (c.at_prior(w=w, s=s), draws[1]),
    )


def _gradient(z: Array, decoder: Bits) -> Array:
    """d log p(x|z) / dt at t = 1 for logits t w z + b, at each z (G,)."""
    along = np.multiply.outer(z, decoder.weight)
    return np.asarray(((decoder.x - expit(along + decoder.bias)) * along).sum(-1))


def _posterior_slope(decoder: Bits, offset: float) -> float:
    """E d log p(x|z) / dt under p(z|x), moved by an offset."""
    z = mixtures.grid(0.0, 1.0, 4 * mixtures.PER_SD)
    log_joint = decoder.log_likelihood(z) + log_normal(z, 0.0, 1.0)
    return float(np.exp(log_joint - logsumexp(log_joint)) @ _gradient(z + offset, decoder))


def _l2_search(c: Formulas) -> Evidence:
    z = mixtures.grid(0.0, 1.0)
    prior = np.exp(log_normal(z, 0.0, 1.0)) * (z[1] - z[0])

    def violated(decoder: Bits) -> bool:
        def evidence(t: float) -> float:
            return decoder._replace(weight=t * decoder.weight).evidence

        here, slope = _posterior_slope(decoder, c.offset), mixtures.derivative(evidence, 1.0)
        return apart(slope, here, 1e-7) or float(prior @ _gradient(z, decoder)) > ROUNDING

    text = "force left at q = p(z|x), and a force away from w = 0 at q = p, decoders of bits"
    return search(text, _decoders(), violated, str)


L2 = stated(
    "L2",
    Formulas(at_prior="-w / s**2", offset=0.0),
    {"offset": 0.25, "power": ("s**2", "s")},
    (_l2_symbolic, _l2_sampled, _l2_search),
)


# --- L3, the rate is information plus mismatch ----------------------------------------------------


def _l3_symbolic(c: Formulas) -> Evidence:
    states = range(3)
    p, log_q = mixtures.outcomes(3, 3)
    log_mixture, log_prior = sympy.symbols("a:3"), sympy.symbols("r:3")
    mixture = [sum(p[i][k] for i in states) / 3 for k in states]
    average = sum(p[i][k] * (log_q[i][k] - log_prior[k]) for i in states for k in states) / 3
    inside = sum(p[i][k] * (log_q[i][k] - log_mixture[k]) for i in states for k in states) / 3
    mismatch = sum(mixture[k] * (log_mixture[k] - log_prior[k]) for k in states)
    text = "E KL against information plus mismatch, three points and states"
    return equal(text, (average, c.rate(information=inside, mismatch=mismatch)))


def _l3_sampled(c: Formulas) -> Evidence:
    random = np.random.default_rng(2)
    mean = np.array([[0.5, -1.25], [-0.75, 0.0], [1.5, 2.0]])
    sd = np.array([[0.8, 1.2], [0.4, 0.7], [1.1, 0.6]])
    x = random.integers(0, 3, DRAWS)
    z = mean[x] + sd[x] * random.normal(size=(DRAWS, 2))
    draws = (log_normal(z, mean[x], sd[x]) - log_normal(z, 0.0, 1.0)).sum(1)
    terms = parts(mean, sd, per_sd=4)
    exact = c.rate(information=terms.information, mismatch=terms.aggregate_kl)
    return sampled("mean of log q(z|x) − log p(z), two dimensions, nats", (exact, draws))


def _l3_search(c: Formulas) -> Evidence:
    """The closed form of the rate against quadrature, and information above the rate."""

    def violated(case: Set) -> bool:
        mean, sd = case
        closed, terms = float(gaussian_kl(mean, sd**2).mean()), parts(mean, sd)
        both = c.rate(information=terms.information, mismatch=terms.aggregate_kl)
        return apart(closed, both) or terms.information > closed + ROUNDING

    return search("E KL against information plus mismatch", sets(), violated, shown)


L3 = stated(
    "L3",
    Formulas(rate="information + mismatch"),
    {"information": ("information", "information / 2"), "mismatch": ("mismatch", "mismatch / 2")},
    (_l3_symbolic, _l3_sampled, _l3_search),
)


# --- L4, mutual information from a mini-batch -----------------------------------------------------

Batch = tuple[int, ...]


class Posteriors(NamedTuple):
    """Densities of a set on a grid."""

    own: Array  # (N, G), logarithms
    mass: Array  # (N, G), probability of each node

    def mixture(self, batch: Sequence[int]) -> Array:
        """Log density of a batch's mixture, (G,)."""
        return np.asarray(logsumexp(self.own[list(batch)], axis=0) - math.log(len(batch)))

    def against(self, points: Sequence[int], log_density: Array) -> float:
        """Average of KL(q_i || the density) over points."""
        chosen = list(points)
        return float((self.mass[chosen] * (self.own[chosen] - log_density)).sum(1).mean())


def posteriors(mean: ArrayLike, sd: ArrayLike) -> Posteriors:
    """Scalar posteriors (N,) on one grid."""
    own, _, cell = mixtures.densities(mean, sd)
    return Posteriors(own, np.exp(own) * cell)


def _batches(points: Iterable[int], size: int, replace: bool) -> list[tuple[Batch, float]]:
    """Every batch of a size with its probability; with ``replace`` points may come again."""
    pool = list(points)
    every = itertools.product(pool, repeat=size) if replace else itertools.combinations(pool, size)
    counts = Counter(tuple(sorted(batch)) for batch in every)
    return [(batch, count / counts.total()) for batch, count in counts.items()]


def of_batch(mean: ArrayLike, sd: ArrayLike, batch: Sequence[int]) -> float:
    """The estimate within one batch of points, nats."""
    q = posteriors(mean, sd)
    return q.against(batch, q.mixture(batch))


def within(mean: ArrayLike, sd: ArrayLike, size: int, replace: bool = False) -> float:
    """The estimate with the own x in the mini-batch: its expectation over all batches, nats."""
    q = posteriors(mean, sd)
    batches = _batches(range(len(q.own)), size, replace)
    return sum(share * q.against(batch, q.mixture(batch)) for batch, share in batches)


def independent(mean: ArrayLike, sd: ArrayLike, size: int) -> float:
    """The estimate with a mini-batch drawn without regard to the own x; its expectation, nats."""
    q = posteriors(mean, sd)
    every = range(len(q.own))
    batches = _batches(every, size, True)
    return sum(share * q.against(every, q.mixture(batch)) for batch, share in batches)


def excluded(mean: ArrayLike, sd: ArrayLike, size: int) -> float:
    """The estimate with a mini-batch of other points only; its expectation, nats."""
    q = posteriors(mean, sd)
    points = range(len(q.own))
    values = []
    for point in points:
        batches = _batches((other for other in points if other != point), size, False)
        values.append(sum(share * q.against([point], q.mixture(b)) for b, share in batches))
    return float(np.mean(values))


def bias(mean: ArrayLike, sd: ArrayLike, size: int) -> tuple[float, float]:
    """E KL(q_B || q_agg) of different points and E KL(q_agg || q_B) of independent ones, nats."""
    q = posteriors(mean, sd)
    every = range(len(q.own))
    log_all, mass_all = q.mixture(every), q.mass.mean(0)
    below = above = 0.0
    for batch, share in _batches(every, size, False):
        below += share * float(q.mass[list(batch)].mean(0) @ (q.mixture(batch) - log_all))
    for batch, share in _batches(every, size, True):
        above += share * float(mass_all @ (log_all - q.mixture(batch)))
    return below, above


def _l4_symbolic(c: Formulas) -> Evidence:
    """Three points on two states, batches of two: free logarithms. Then S separated points."""
    points, states = range(3), range(2)
    p, log_q = mixtures.outcomes(3, 2)
    log_all = sympy.symbols("a:2")
    mixture = [sum(p[i][k] for i in points) / 3 for k in states]

    def against(chosen: Sequence[int], target: Sequence[sympy.Expr]) -> sympy.Expr:
        terms = (p[i][k] * (log_q[i][k] - target[k]) for i in chosen for k in states)
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
        (lower, c.own(information=information, below=average(missed))),
        (upper, c.independent(information=information, above=average(added))),
        (own, c.ceiling(size=size)),
    )


def _l4_sampled(c: Formulas) -> Evidence:
    random = np.random.default_rng(3)
    every = np.arange(len(MEAN))

    def ratio(x: NDArray[np.int64], batch: NDArray[np.int64]) -> Array:
        z = MEAN[x] + SD[x] * random.normal(size=len(x))
        mixed = logsumexp(log_normal(z[:, None], MEAN[batch], SD[batch]), axis=1)
        return np.asarray(log_normal(z, MEAN[x], SD[x]) - mixed + math.log(batch.shape[1]))

    ordered = random.permuted(np.broadcast_to(every, (DRAWS, len(every))), axis=1)[:, :2]
    drawn = random.integers(0, len(every), (DRAWS, 2))
    information, (below, above) = parts(MEAN, SD).information, bias(MEAN, SD, 2)
    with_own = ratio(ordered[:, 0], ordered)
    without = ratio(random.integers(0, len(every), DRAWS), drawn)
    return sampled(
        "mean log-ratio to a batch of two with the own x, and without regard to it, nats",
        (c.own(information=information, below=below), with_own),
        (c.independent(information=information, above=above), without),
    )


def _l4_search(c: Formulas) -> Evidence:
    """All batches of two of three or four points."""

    def violated(case: Set) -> bool:
        information, size = parts(*case).information, 2
        low, high = within(*case, size), independent(*case, size)
        below, above = bias(*case, size)
        return (
            apart(c.own(information=information, below=below), low)
            or apart(c.independent(information=information, above=above), high)
            or low > min(information, c.ceiling(size=size)) + ROUNDING
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


L4 = stated(
    "L4",
    Formulas(own="information - below", independent="information + above", ceiling="log(size)"),
    {
        "below": ("- below", "- below / 2"),
        "above": ("+ above", "+ above / 2"),
        "ceiling": ("log(size)", "log(size) / 2"),
    },
    (_l4_symbolic, _l4_sampled, _l4_search),
    _l4_printed,
)


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


def _l5_symbolic(c: Formulas) -> Evidence:
    """The Fourier transforms behind Poisson's sum, by integration, at the frequency 2 pi n / h."""
    z, n = sympy.symbols("z n", real=True)
    s, h = sympy.symbols("s h", positive=True)
    normal = sympy.exp(-(z**2) / (2 * s**2)) / (s * sympy.sqrt(2 * sympy.pi))
    omega = sympy.Symbol("omega", positive=True)
    whole = (z, -sympy.oo, sympy.oo)
    level = sympy.integrate(normal * sympy.cos(omega * z), whole)
    first = sympy.integrate(normal * z * sympy.sin(omega * z), whole)
    at = {omega: 2 * sympy.pi * n / h}
    return equal(
        "terms of Poisson’s sum for the mass and for the mean of a Gaussian",
        (level.subs(at), c.damped(sympy.pi * n, s / h)),
        (2 * first.subs(at), h * c.wave(sympy.pi * n, s / h)),
    )


def _l5_sampled(c: Formulas) -> Evidence:
    """Grids at random places: the mean square error of the unnormalised mean (Parseval)."""
    ratio = 0.4
    u = np.random.default_rng(4).uniform(size=DRAWS)
    z = np.arange(-8, 9) - u[:, None]  # in strides, around the mean
    top = (np.exp(log_normal(z, 0.0, ratio)) * z).sum(1)
    waves = c.wave(math.pi * np.arange(1, _TERMS + 1), ratio)
    exact = 0.5 * float((waves**2).sum())
    return sampled("squared error for random grids, sd 0.4 strides, in strides²", (exact, top**2))


def _l5_search(c: Formulas) -> Evidence:
    """Sums over grids against the formula, and an error beyond 1e-7 strides for wide ones."""
    strides = 64

    def violated(case: tuple[float, float]) -> bool:
        ratio, place = case[1], c.reach * case[1] + case[0]  # from the lower end, in strides
        if place > strides - c.reach * ratio:
            return False
        error = grid_mean(place, ratio, 0.0, strides, 1.0) - place
        wide = ratio >= c.least and abs(error) > 1e-7
        return abs(error - float(c.stride_error(place, ratio))) > ROUNDING or wide

    text, cases = (
        "error of the sum against the formula, in strides",
        (steps(0, 1024, 32), steps(4, 48, 16)),
    )
    return search(text, st.tuples(*cases), violated, "sd {1:g} strides, {0:g} inside the reach")


def _l5_printed() -> Evidence:
    """The paper's own grid, for posteriors well inside its interval."""

    def violated(case: tuple[float, float]) -> bool:
        return abs(grid_mean(*case, *INTERVAL, STRIDE) - case[0]) > 1e-4

    def words(case: tuple[float, float]) -> str:
        total = grid_mean(*case, *INTERVAL, STRIDE)
        return f"posterior N({case[0]:g}, {case[1]:g}²): the sum gives {total:.5f}"

    cases = st.tuples(steps(-5000, 5000, 1000), st.integers(0, 12).map(lambda n: 2.0**-n))
    return search("stride 0.01 on [−20, 20] gives the mean to 1e-4", cases, violated, words)


L5 = stated(
    "L5",
    Formulas(damped, wave, stride_error, reach=9.0, least=1.0),
    {"amplitude": ("4 *", "2 *"), "exponent": ("-2 *", "-1 *"), "reach": 1.0, "least": 0.5},
    (_l5_symbolic, _l5_sampled, _l5_search),
    _l5_printed,
)

STATEMENTS = (L1, L2, L3, L4, L5)
