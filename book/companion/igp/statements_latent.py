"""IGP: the statements on the latent space: information, rotations and the aggregated posterior."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import scipy.special
import sympy
import torch
from hypothesis import strategies as st

from companion.claims import formulas as f
from companion.claims.formulas import Array, apart, average, gaussian, log_gaussian
from companion.claims.statements import Facts, Formulas, Means, log, stated
from posterior_collapse.gaussian import active_rank, active_units

# --- I2, information, rate and distortion ---------------------------------------------------------


class Channel(NamedTuple):
    """Nats: the terms of H - D <= I <= R and the two gaps."""

    entropy: Any
    distortion: Any
    rate: Any
    information: Any
    decoder_gap: Any  # the average KL(q(x|z) || p(x|z))
    prior_gap: Any  # KL(q(z) || p(z))


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
        entropy=-(data * log(data)).sum(),
        distortion=-(joint * log(decoder)).sum(),
        rate=(joint * log(encoder / prior)).sum(),
        information=(joint * log(encoder / marginal)).sum(),
        decoder_gap=(marginal * weight * backward * log(backward / decoder)).sum(),
        prior_gap=(marginal * weight * log(marginal / prior)).sum(),
    )


def sigmoid_channel(mean: Array, sd: Array, slope: float, points: int = 4001) -> Channel:
    """Two equally likely x, normal q(z|x), and p(x = 1|z) the sigmoid of slope times z."""
    reach = float(np.max(np.abs(mean) + 12.0 * sd))
    z = np.linspace(-reach, reach, points)
    weight = np.full(points, z[1] - z[0])  # the ends hold nothing: the sum is as good as exact
    encoder = np.exp(log_gaussian(z, mean[:, None], sd[:, None] ** 2))
    encoder = np.maximum(encoder, np.finfo(float).tiny)  # densities that underflow count as nothing
    decoder = np.stack([scipy.special.expit(-slope * z), scipy.special.expit(slope * z)])
    return channel(np.full(2, 0.5), encoder, decoder, np.exp(log_gaussian(z, 0.0, 1.0)), weight)


def bounds(one: Channel) -> tuple[Any, Any]:
    """H - D and R."""
    return one.entropy - one.distortion, one.rate


I2 = stated(
    "I2",
    Formulas(bounds),
    {
        "entropy": ("return one", "return 2 * one"),
        "distortion": (".distortion", ".distortion / 2"),
        "rate": (".rate", ".rate / 2"),
    },
)


@I2.symbolic
def _(c: Formulas) -> Facts:
    """I − (H − D) and R − I against the two divergences, two x and two z"""
    # Odds keep every probability a positive function of positive symbols.
    w, g, p, h = sympy.symbols("w g p h", positive=True)
    third = sympy.Rational(1, 3)
    encoder = np.array([[1 / (1 + g), g / (1 + g)], [third, 2 * third]])
    decoder = np.array([[h / (1 + h), third], [1 / (1 + h), 2 * third]])
    data, prior = (np.array([1 / (1 + odds), odds / (1 + odds)]) for odds in (w, p))
    one = channel(data, encoder, decoder, prior, np.array([1, 1]))
    low, high = c.bounds(one)
    gaps = one.information - low - one.decoder_gap, high - one.information - one.prior_gap
    return [(_logs_apart(gap), 0) for gap in gaps]


def _logs_apart(expression: Any) -> Any:
    """With logarithms of products and quotients written as sums."""
    whole = expression.replace(sympy.log, lambda x: f.logs(sympy.log(sympy.factor(x))))
    return sympy.expand(whole)


@I2.sampled
def _(c: Formulas) -> Means:
    """mean log-ratio of q(z|x) and q(z) against H − D plus a gap and R less a gap, nats"""
    mean, sd, random = np.array([-1.0, 1.0]), np.array([0.5, 0.5]), np.random.default_rng(6)
    one = sigmoid_channel(mean, sd, 3.0)
    x = random.integers(0, 2, 300_000)
    z = gaussian(random, mean[x], sd[x] ** 2)
    both = np.exp(log_gaussian(z, mean[:, None], sd[:, None] ** 2))
    ratio = np.log(both[x, np.arange(x.size)] / both.mean(0))
    low, high = c.bounds(one)
    return (low + one.decoder_gap, ratio), (high - one.prior_gap, ratio)


@st.composite
def _tables(draw: st.DrawFn) -> tuple[Array, Array, Array, Array]:
    """p(x), q(z|x), p(x|z), p(z) for two to four x and z."""
    rows, columns = draw(st.integers(2, 4)), draw(st.integers(2, 4))
    shapes = (rows,), (rows, columns), (rows, columns), (columns,)
    data, encoder, decoder, prior = (np.exp2(f.integers(draw, 0, 12, shape)) for shape in shapes)
    encoder, decoder = encoder / encoder.sum(1, keepdims=True), decoder / decoder.sum(0)
    return data / data.sum(), encoder, decoder, prior / prior.sum()


@I2.search(_tables(), "p(x) {}, q(z|x) {}", 200)
def _(c: Formulas, data: Array, encoder: Array, decoder: Array, prior: Array) -> bool:
    """information, as a sum of entropies, outside [H − D, R], or another gap"""
    one = channel(data, encoder, decoder, prior, np.ones(len(prior)))
    joint = data[:, None] * encoder
    parts = (scipy.special.entr(p).sum() for p in (joint.sum(0), data, joint))
    information = next(parts) + next(parts) - next(parts)
    low, high = c.bounds(one)
    gaps = np.array([information - low, high - information])
    return apart(gaps, [one.decoder_gap, one.prior_gap]) or gaps.min() < -1e-9


# --- I4, rotations --------------------------------------------------------------------------------


def turn(degrees: float) -> Array:
    """The rotation of the plane."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def _elbo_terms(x: float, z: Array, centre: Array, variance: Array, rotation: Array) -> Array:
    """log p(x|z) + log p(z) - log q(z|x) of a turned model whose decoder is bent, noise 1."""
    back = z @ rotation
    output = back[..., 0] - 0.5 * back[..., 1] + 0.5 * back[..., 0] * back[..., 1]
    ratio = log_gaussian(z, centre, variance) - log_gaussian(z, 0.0, 1.0)
    return np.asarray(log_gaussian(x, output, 1.0) - ratio.sum(-1))


_GRID = np.stack(np.meshgrid(f.NODES, f.NODES, indexing="ij"), -1)


def turned_elbo(x: float, mean: Array, variance: Array, degrees: float) -> float:
    """ELBO of the model turned by an angle: encoder mean R mean, decoder f(R^T z).

    The quadrature is exact, as the logarithm of the likelihood is a polynomial of degree 4.

    Args:
        x: the observation.
        mean: (2,), of the posterior before the turn.
        variance: (2,), of the posterior after the turn as well as before.
        degrees: the angle.
    """
    rotation = turn(degrees)
    z = rotation @ mean + np.sqrt(variance) * _GRID
    terms = _elbo_terms(x, z, rotation @ mean, variance, rotation)
    return float(f.WEIGHTS @ terms @ f.WEIGHTS)


I4 = stated(
    "I4",
    Formulas(ratio=1.0, share=0.5, before=1.0, after=2.0, rank=1.0),
    {"ratio": 2.0, "share": 0.25, "before": 2.0, "after": 1.0, "rank": 2.0},
)


@I4.symbolic
def _(c: Formulas) -> Facts:
    """densities of turned z; variances, AU and rank of turned means"""
    z, m = (sympy.Matrix(sympy.symbols(f"{name}:2", real=True)) for name in "zm")
    theta, (tau, v) = sympy.Symbol("theta", real=True), sympy.symbols("tau v", positive=True)
    cos, sin, share = sympy.cos(theta), sympy.sin(theta), sympy.Rational(c.share)
    rotation = sympy.Matrix([[cos, -sin], [sin, cos]])
    covariance = rotation * sympy.diag(v, 0) * rotation.T
    eighth = covariance.subs(theta, sympy.pi / 4)

    def exponent(point: Any) -> Any:
        return point[0] ** 2 / tau + point[1] ** 2 / (sympy.Rational(c.ratio) * tau)

    def active(spread: Any) -> int:
        return sum(1 for k in range(2) if spread[k, k].is_positive)

    return (
        (exponent(rotation * (z - m)), exponent(z - m)),
        ((rotation * z).dot(rotation * z), z.dot(z)),
        *((eighth[k, k], share * v) for k in range(2)),
        (active(covariance.subs(theta, 0)), int(c.before)),
        (active(eighth), int(c.after)),
        (eighth.rank(), int(c.rank)),
    )


@I4.sampled
def _(c: Formulas) -> Means:
    """ELBO of the turned model against that before; variances of means turned by 45°"""
    random = np.random.default_rng(9)
    mean, x, rotation = np.array([0.8, -0.3]), 0.5, turn(30.0)
    variance = 0.4 * np.array([1.0, c.ratio])
    z = gaussian(random, rotation @ mean, variance, (300_000, 2))
    turned = np.outer(math.sqrt(0.9) * random.normal(size=100_000), turn(45.0)[:, 0])
    terms = _elbo_terms(x, z, rotation @ mean, variance, rotation)
    spread = [(0.9 * c.share, turned[:, k] ** 2) for k in range(2)]
    return (turned_elbo(x, mean, variance, 0.0), terms), *spread


@I4.search(
    st.tuples(
        st.lists(st.integers(-4, 4), min_size=2, max_size=5, unique=True),
        st.integers(-4, 2).map(lambda k: 2.0**k),
        st.integers(-3, 3),
        st.integers(0, 360),
    ),
    "means {} / 2 on the first axis, variance {:g}, x = {}, {}°",
    200,
)
def _(c: Formulas, places: list[int], level: float, x: int, degrees: int) -> bool:
    """an ELBO or a rank that turns with the model; AU at 45° other than 2"""
    means = np.outer(places, [0.5, 0.0])
    variance = level * np.array([1.0, c.ratio])
    here, there = ([turned_elbo(x, mean, variance, a) for mean in means] for a in (0, degrees))
    turned = means @ turn(45.0).T
    at, after = torch.from_numpy(means), torch.from_numpy(turned)
    counts = active_units(at), active_units(after), active_rank(after)
    share = float(means.var(0).sum() * c.share)
    return (
        apart(here, there) or counts != (c.before, c.after, c.rank) or apart(turned.var(0), share)
    )


# --- I5, the aggregated posterior -----------------------------------------------------------------


class Aggregate(NamedTuple):
    """Moments of the mixture of N posteriors."""

    mean: Array  # (D,)
    covariance: Array  # (D, D)

    @property
    def entries(self) -> list[Any]:
        """Variances and covariance of two dimensions."""
        return [self.covariance[place] for place in ((0, 0), (0, 1), (1, 1))]


def aggregate(mean: Array, variance: Array) -> Aggregate:
    """Cov[q(z)] = E[diag v] + Cov(mu) with ddof 0, for means and variances (N, D)."""
    centre = average(mean, 0)
    spread = (mean - centre).T @ (mean - centre) / len(mean)
    return Aggregate(centre, np.diag(average(variance, 0)) + spread)


def squared_mean(moments: Aggregate, draws: Any) -> Any:
    """Expected squared length of the mean of so many draws of q(z)."""
    return moments.mean @ moments.mean + np.trace(moments.covariance) / draws


I5 = stated(
    "I5",
    Formulas(aggregate, squared_mean),
    {"ddof": ("/ len(mean)", "/ (len(mean) - 1)"), "excess": ("+ np.trace", "+ 0 * np.trace")},
)


@I5.symbolic
def _(c: Formulas) -> Facts:
    """covariance of a mixture of two; squared mean of M draws"""
    m = np.array(sympy.symbols("m:4", real=True)).reshape(2, 2)
    v = np.array(sympy.symbols("v:4", positive=True)).reshape(2, 2)
    count = sympy.Symbol("M", positive=True)
    centre = m.sum(0) / 2
    second = m.T @ m / 2 + np.diag(v.sum(0) / 2)
    true = Aggregate(centre, second - np.outer(centre, centre))
    # M draws: M products of a draw with itself and M (M - 1) of two independent ones
    squared = (count * np.trace(second) + count * (count - 1) * centre @ centre) / count**2
    entries = zip(true.entries, c.aggregate(m, v).entries, strict=True)
    return *entries, (squared, c.squared_mean(true, count))


@I5.sampled
def _(c: Formulas) -> Means:
    """covariance of draws of q(z), and the squared mean of 4 draws"""
    random = np.random.default_rng(10)
    mean = np.array([[0.5, -1.25], [-0.75, 0.0], [1.5, 2.0], [0.0, 0.25]])
    variance = np.array([[0.75, 2.0], [0.125, 0.5], [1.25, 0.375], [0.5, 1.0]])
    point = random.integers(0, 4, (100_000, 4))
    z = gaussian(random, mean[point], variance[point])
    moments, (a, b) = c.aggregate(mean, variance), (z[:, 0] - mean.mean(0)).T
    entries = zip(map(float, moments.entries), (a * a, a * b, b * b), strict=True)
    return *entries, (c.squared_mean(moments, 4), (z.mean(1) ** 2).sum(-1))


@st.composite
def _mixtures(draw: st.DrawFn) -> tuple[Array, Array]:
    """Means and variances, each (N, 2)."""
    shape = draw(st.integers(2, 5)), 2
    return f.integers(draw, -8, 8, shape) / 4.0, np.exp2(f.integers(draw, -4, 3, shape))


@I5.search(_mixtures(), "means {}, variances {}")
def _(c: Formulas, mean: Array, variance: Array) -> bool:
    """other moments of the mixture than quadrature gives, which is exact for polynomials"""
    own = f.expected(lambda z: z, mean, variance)  # (N, 2), the mean of each posterior
    first = own.mean(0)
    squares = f.expected(lambda z: z**2, mean, variance).mean(0) - first**2
    cross = (own[:, 0] * own[:, 1]).mean() - first[0] * first[1]
    single = squares.sum() + first @ first  # the mean of one draw is the draw
    moments = c.aggregate(mean, variance)
    claimed = [*moments.entries, c.squared_mean(moments, 1)]
    return apart([squares[0], cross, squares[1], single], claimed)


STATEMENTS = (I2, I4, I5)
