"""DU-VAE: the statements of Shen et al. 2021 on flows (section 3.4).

They are also checked on the library's own flow, which is the one that trains.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import sympy
import torch
from hypothesis import strategies as st
from torch import Tensor

from companion.claims import formulas as f
from companion.claims.formulas import Array, apart, gaussian_kl, log_gaussian, logs, trapezoid
from companion.claims.statements import Facts, Formulas, Means, stated
from companion.du.statements import conditional_entropy, pairwise_mpd
from companion.du.statements_bounds import eighths
from posterior_collapse.layers import initialised_by_recipe
from posterior_collapse.posteriors import Diagonal, DiagonalNormal, Flow, Flowed, FlowHead

# --- flows of the library -------------------------------------------------------------------------


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal numbers from a seed of their own."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64)


def random_flow(dimensions: int, blocks: int, seed: int, scale: float = 0.8) -> FlowHead:
    """A flow of the library with random weights: 3 features, gates of bias 2, in evaluation."""
    head = Flow(blocks, width=2).build(3, dimensions).double().eval()
    assert isinstance(head, FlowHead)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in initialised_by_recipe(head):
            noise = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
            parameter.copy_(scale * noise)
    return head


def flow_of(head: FlowHead, features: Tensor) -> Flowed:
    """q(z|x) without gradients of the parameters."""
    with torch.no_grad():
        q = head(features)
    assert isinstance(q, Flowed)
    return q


def log_determinant(q: Flowed, start: Tensor) -> Tensor:
    """log |det dz^T/dz^0| (B,) at z^0 (B, D), by automatic differentiation of the library's map."""
    start = start.detach().requires_grad_()
    columns = q.push(start).sum(0)
    rows = [torch.autograd.grad(one, start, retain_graph=True)[0] for one in columns]
    return torch.linalg.slogdet(torch.stack(rows, dim=-2)).logabsdet


# --- D14, conditional entropy through a flow ------------------------------------------------------


def chained(mean: Array, variance: Array, gates: Array, shifts: Array) -> tuple[Array, Array]:
    """Means and variances (N, D) after blocks g z + (1 - g) shift that do not depend on z.

    Args:
        mean, variance: (N, D), of z^0.
        gates, shifts: (T, N, D).
    """
    for gate, shift in zip(gates, shifts, strict=True):
        mean, variance = gate * mean + (1.0 - gate) * shift, gate**2 * variance
    return mean, variance


# Two points with flows of their own in two dimensions, for the checks by sampling:
# z1' = a z1 + (1 - a) c, z2' = g(z1) z2 + (1 - g(z1)) tanh(z1), g(z1) = sigmoid(u + v z1).
_MEAN = np.array([[0.5, -1.0], [-0.5, 0.3]])
_VARIANCE = np.array([[0.8, 1.2], [0.4, 1.0]])
_FIRST = np.array([0.9, 0.6])  # a
_SHIFT = np.array([0.3, -1.0])  # c
_BIAS, _SLOPE = np.array([1.0, -0.5]), np.array([0.7, -1.5])  # u, v


def log_gate(z: Array, flow: Any) -> Array:
    """log g(z1) of the second dimension, by the logarithm of a sigmoid."""
    return np.asarray(-np.logaddexp(0.0, -(_BIAS[flow] + _SLOPE[flow] * z)))


def small_flow_density(z: Array, source: Any, flow: Any, power: float = 2.0) -> Array:
    """Log density of z^T at the image of z^0 = z (n, 2), as a chain of conditional Gaussians.

    z1' is Gaussian; given z1' so is z2', with the gate at z1. No Jacobian is taken.

    Args:
        z: points z^0.
        source: which of the two points z^0 comes from.
        flow: whose flow it goes through.
        power: of the gates in the variances.
    """
    gates = np.stack(np.broadcast_arrays(_FIRST[flow], np.exp(log_gate(z[:, 0], flow))), -1)
    shifts = np.stack(np.broadcast_arrays(_SHIFT[flow], np.tanh(z[:, 0])), -1)
    image, centre = (gates * one + (1.0 - gates) * shifts for one in (z, _MEAN[source]))
    return np.asarray(log_gaussian(image, centre, gates**power * _VARIANCE[source]).sum(-1))


D14 = stated("D14", Formulas(sign=1.0, top=1.0), {"sign": -1.0, "top": 0.5})


@D14.symbolic
def _(c: Formulas) -> Facts:
    """Jacobian determinant against the product of gates; largest gate of a sigmoid; its slope"""
    # A block in two dimensions whose gates and shifts are any functions.
    z1, z2, raw = sympy.symbols("z1 z2 u", real=True)
    gate1, shift1 = sympy.symbols("g1 m1", positive=True)
    gate2, shift2 = sympy.Function("g2", positive=True)(z1), sympy.Function("m2")(z1)
    image = sympy.Matrix([gate1 * z1 + (1 - gate1) * shift1, gate2 * z2 + (1 - gate2) * shift2])
    sigmoid = 1 / (1 + sympy.exp(-raw))
    return (
        (image.jacobian([z1, z2]).det(), (gate1 * gate2) ** int(c.sign)),
        (sympy.limit(sigmoid, raw, sympy.oo), sympy.Rational(c.top)),
        (sympy.diff(sigmoid, raw), sympy.exp(-raw) * sigmoid**2),
    )


@D14.sampled
def _(c: Formulas) -> Means:
    """−log q(zᵀ|x), nats"""
    random = np.random.default_rng(7)
    second = [trapezoid(partial(log_gate, flow=i), _MEAN[i, 0], _VARIANCE[i, 0]) for i in range(2)]
    gates = float((np.log(_FIRST) + second).mean())
    point = random.integers(0, 2, 200_000)
    z = f.gaussian(random, _MEAN[point], _VARIANCE[point])
    exact = conditional_entropy(_VARIANCE) + c.sign * gates
    return [(exact, -small_flow_density(z, point, point))]


_FEW, _SEEDS = st.integers(1, 3), st.integers(0, 999)


@D14.search(
    st.tuples(_FEW, _FEW, _SEEDS, st.sampled_from([0.5, 0.1, 1.0])),
    "D = {0}, {1} blocks, weights of size {3}, seed {2}",
    120,
)
def _(c: Formulas, dimensions: int, blocks: int, seed: int, scale: float) -> bool:
    """log-determinant of the library's flow by autograd: not its gates' sum, or not negative"""
    q = flow_of(random_flow(dimensions, blocks, seed, scale), normal((2, 3), seed + 1))
    start = normal((2, dimensions), seed + 2)
    determinant = log_determinant(q, start).numpy()
    with torch.no_grad():
        gates = q._bijection(start, q._context)[1].sum(-1).numpy()
    ceiling = blocks * dimensions * math.log(c.top)
    return apart(determinant, c.sign * gates) or bool((determinant >= ceiling).any())


def _rise(scales: list[float]) -> float:
    """Of the conditional entropy through blocks with these scales in one dimension."""
    gates, one = np.reshape(scales, (-1, 1, 1)), np.ones((1, 1))
    _, variance = chained(0.0 * one, one, gates, 0.0 * gates)
    return conditional_entropy(variance) - conditional_entropy(one)


@D14.search_printed(
    st.lists(f.steps(1, 12, 4), min_size=1, max_size=4),
    lambda scales: f"D = 1, blocks with scales {scales}: CE rises by {_rise(scales):.4f} nats",
)
def _(scales: list[float]) -> bool:
    """an autoregressive chain with any positive scales: CE of zᵀ above that of z⁰"""
    return _rise(scales) > 1e-9


# --- D15, MPD through a flow without context ------------------------------------------------------

D15 = stated("D15", Formulas(ratio=1.0, power=2.0), {"ratio": 0.5, "power": 1.0})


@D15.symbolic
def _(c: Formulas) -> Facts:
    """KL after one affine map; log-ratio after any map"""
    m1, m2, shift, z = sympy.symbols("m1 m2 c z", real=True)
    v1, v2, gate = sympy.symbols("v1 v2 g", positive=True)
    ratio, scale, log = sympy.Rational(c.ratio), gate ** int(c.power), sympy.log
    after = gaussian_kl(gate * m1 + shift, scale * v1, gate * m2 + shift, scale * v2)
    slope, one, two = (sympy.Function(name, positive=True)(z) for name in ("J", "q1", "q2"))
    return (
        (sympy.expand_log(after), ratio * gaussian_kl(m1, v1, m2, v2)),
        (logs(log(one / slope) - log(two / slope)), logs(ratio * (log(one) - log(two)))),
    )


@D15.sampled
def _(c: Formulas) -> Means:
    """mean log-ratio of pairs at zᵀ through one flow whose gates depend on z, nats"""
    random = np.random.default_rng(8)
    first, second = random.integers(0, 2, (2, 200_000))
    z = f.gaussian(random, _MEAN[first], _VARIANCE[first])
    own, other = (small_flow_density(z, point, 0, c.power) for point in (first, second))
    return [(c.ratio * pairwise_mpd(_MEAN, _VARIANCE), own - other)]


@D15.search(st.tuples(_FEW, _FEW, _SEEDS), "D = {}, {} blocks, seed {}", 120)
def _(c: Formulas, dimensions: int, blocks: int, seed: int) -> bool:
    """log-ratio of two posteriors before and after the library's flow, one context"""
    head = random_flow(dimensions, blocks, seed, 0.5)
    mean, logvar = normal((2, 2, dimensions), seed + 2)
    start = normal((1, dimensions), seed + 3)
    with torch.no_grad():
        context = head.context(normal((1, 3), seed + 1))
        bases = [DiagonalNormal(mean[i : i + 1], logvar[i : i + 1]) for i in range(2)]
        one, two = (Flowed(base, head.chain, context) for base in bases)
        image = one.push(start)
        after = (one.log_prob(image) - two.log_prob(image)).item()
        before = (bases[0].log_prob(start) - bases[1].log_prob(start)).item()
    return abs(after - c.ratio * before) > 1e-8 * (1.0 + abs(before))


# --- D15b, MPD through a flow with context --------------------------------------------------------


def steering(mpd0: Any, mpd1: Any) -> tuple[Any, Any]:
    """Differences of two points that take MPD from one value to another, with unit variances.

    Returns:
        Of the means of z^0, and of the shifts of a block with gate 1/2; one dimension.
    """
    distance = 2 * f.root(mpd0)
    return distance, 2 * f.root(mpd1) - distance


def steered_flow(mpd0: float, mpd1: float, steer: Callable[..., Any] = steering) -> Flowed:
    """The library's flow, one block in one dimension, built as :func:`steering` says.

    The two points have one-hot features, which the block's networks hand on as gate and shift.
    """
    distance, shift = steer(mpd0, mpd1)
    head: Any = Flow(blocks=1, width=2, base=Diagonal()).build(2, 1).double().eval()
    made = head.chain.blocks[0].made
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        for layer in (head.context, made.context, made.second):
            layer.weight.copy_(torch.eye(2))
        raw = torch.zeros(2, dtype=torch.float64)  # gate 1/2, as its bias is 0 now
        shifts, means = torch.tensor([[0.0, shift], [0.0, distance]], dtype=torch.float64)
        made.last.weight.copy_(torch.stack([raw, shifts]))
        head.base.linear.weight.copy_(torch.stack([means, torch.zeros_like(means)]))
    return flow_of(head, torch.eye(2, dtype=torch.float64))


def base_of(q: Flowed) -> tuple[Array, Array]:
    """Means and variances of z^0."""
    return q.base.mean.numpy(), np.exp(q.base.logvar.numpy())


def gaussian_image(q: Flowed) -> tuple[Array, Array]:
    """Means and variances of z^T where no gate depends on z: images of the mean and of one step."""
    with torch.no_grad():
        middle = q.push(q.base.mean)
        step = q.push(q.base.mean + torch.exp(0.5 * q.base.logvar)) - middle
    return middle.numpy(), step.numpy() ** 2


D15B = stated("D15b", Formulas(steering), {"before": ("= 2 *", "="), "after": (", 2 *", ",")})


@D15B.symbolic
def _(c: Formulas) -> Facts:
    """MPD of z⁰ and of zᵀ of two points"""
    m0, m1 = sympy.symbols("m0 m1", positive=True)
    distance, shift = c.steering(m0, m1)
    return (distance**2 / 4, m0), (((distance + shift) / 2) ** 2 / sympy.Rational(1, 4) / 4, m1)


@D15B.sampled
def _(c: Formulas) -> Means:
    """mean log-ratio of pairs at z⁰ and at zᵀ, nats"""
    random, cases = np.random.default_rng(9), []
    for mpd0, mpd1 in ((1.0, 0.25), (0.25, 2.0)):
        distance, shift = c.steering(mpd0, mpd1)
        first, second = random.integers(0, 2, (2, 100_000))
        z = first * distance + random.normal(size=first.size)
        start = [log_gaussian(z, i * distance, 1.0) for i in (first, second)]
        image, moved = 0.5 * z + 0.5 * first * shift, 0.5 * (distance + shift)
        end = [log_gaussian(image, i * moved, 0.25) for i in (first, second)]
        cases += [(mpd0, start[0] - start[1]), (mpd1, end[0] - end[1])]
    return cases


@D15B.search(st.tuples(eighths(0, 64), eighths(0, 64)))
def _(c: Formulas, before: float, after: float) -> bool:
    """wanted MPD of z⁰ and of zᵀ not met by the library's flow, built to meet it"""
    q = steered_flow(before, after, c.steering)
    return apart([before, after], [pairwise_mpd(*base_of(q)), pairwise_mpd(*gaussian_image(q))])


STATEMENTS = (D14, D15, D15B)
