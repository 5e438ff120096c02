"""Bounds that do and that do not prevent collapse: dropout, batch norm and single outliers.

The statements of Shen et al. 2021 on what keeps posteriors apart (section 3.3), and the bound on
the KL of BN-VAE as Song et al. 2024 print it. Batch norm is checked on the library's own, which is
the one that trains.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import sympy
import torch
from hypothesis import strategies as st

from companion.claims import formulas as f
from companion.claims.formulas import ALPHA, Array, apart, gaussian_kl, log_gaussian, trapezoid
from companion.claims.statements import Facts, Formulas, Means, log, stated
from companion.du.statements import pairwise_mpd
from companion.du.statements_dropout import Dropout, kept_variance, mpd_over_masks
from posterior_collapse.posteriors import BatchNormed, DiversityUncertainty

EPS = 1e-5  # of PyTorch's batch norm
_KEEPS = st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.4, 0.3, 0.2, 0.1])  # p


def average_kl(mean: Array, variance: Array) -> float:
    """E_x KL(q(z|x) || N(0, I)) of (N, D) posteriors."""
    return float(gaussian_kl(mean, variance, 0.0, 1.0).sum(-1).mean())


def _log_ratio(z: Array, mean: Any, variance: Any) -> Array:
    """log q(z) - log p(z), elementwise."""
    return np.asarray(log_gaussian(z, mean, variance) - log_gaussian(z, 0.0, 1.0))


def eighths(low: int, high: int) -> st.SearchStrategy[float]:
    """Multiples of 1/8, which a page can print exactly."""
    return f.steps(low, high, 8)


# --- D10, MPD under dropout where all posteriors are the same -------------------------------------


def equal_posteriors(points: int, dimensions: int, b: float, above: float, *mask: float) -> Dropout:
    """N posteriors N(b, alpha + above) in D dimensions; then p, and alpha if it is another."""
    shape = points, dimensions
    return Dropout(np.full(shape, b), np.full(shape, above), *mask)


def collapsed_mpd(variance: Any, keep: Any, alpha: Any = ALPHA, dimensions: int = 1) -> Any:
    """Closed form of the dropped MPD where every posterior is N(b, variance) in each dimension."""
    dropped = 1 - keep
    ratio = (variance - alpha) ** 2 / (alpha * (variance - dropped * alpha))
    return dimensions * dropped * ratio / 2


D10 = stated(
    "D10",
    Formulas(collapsed_mpd),
    {
        "half": ("ratio / 2", "ratio / 4"),
        "power": ("** 2", ""),
        "whole": ("- dropped", "+ (1 / 2 - dropped)"),
    },
)


@D10.symbolic
def _(c: Formulas) -> Facts:
    """average over the masks of both members"""
    p, alpha, above = sympy.symbols("p alpha v", positive=True)
    one = Dropout(np.array([[0 * p]]), np.array([[above]]), p, alpha)
    return [(mpd_over_masks(one), c.collapsed_mpd(above + alpha, p, alpha))]


@D10.sampled
def _(c: Formulas) -> Means:
    """mean log-ratio at total collapse, D = 32, p = 0.8, nats"""
    random, shape = np.random.default_rng(0), (20_000, 32)
    first, second = (
        np.where(random.random(shape) < 0.8, kept_variance(1.0, 0.8), ALPHA) for _ in range(2)
    )
    z = f.gaussian(random, 0.0, first, shape)
    draws = (log_gaussian(z, 0.0, first) - log_gaussian(z, 0.0, second)).sum(-1)
    return [(float(c.collapsed_mpd(1.0, 0.8, dimensions=32)), draws)]


@st.composite
def collapsed(draw: st.DrawFn) -> tuple[int, int, float, float, float, float]:
    """N, D, shared mean, alpha, variance above alpha, p."""
    alpha = draw(st.sampled_from([ALPHA, 1e-6, 1e-3, 1.0]))
    above = draw(st.sampled_from([1.0, 1e-2, 0.1, 10.0, 100.0])) * draw(eighths(1, 8))
    points, dimensions = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return points, dimensions, draw(eighths(-8, 8)), alpha, above, draw(_KEEPS)


@D10.search(collapsed(), draws=200)
def _(
    c: Formulas, points: int, dimensions: int, b: float, alpha: float, above: float, keep: float
) -> bool:
    """closed form against all pairs and masks"""
    exact = mpd_over_masks(equal_posteriors(points, dimensions, b, above, keep, alpha))
    return apart(exact, c.collapsed_mpd(alpha + above, keep, alpha, dimensions))


def _dropped_at_prior(points: int, dimensions: int, keep: float) -> float:
    return float(mpd_over_masks(equal_posteriors(points, dimensions, 0.0, 1.0 - ALPHA, keep)))


def _dropped_words(points: int, dimensions: int, keep: float) -> str:
    dropped = _dropped_at_prior(points, dimensions, keep)
    text = "every q = N(0, 1) = prior: MPD 0, dropped MPD"
    return f"N = {points}, D = {dimensions}, p = {keep}, {text} {dropped:.4f}"


@D10.search_printed(st.tuples(st.integers(1, 4), st.integers(1, 4), _KEEPS), _dropped_words)
def _(points: int, dimensions: int, keep: float) -> bool:
    """MPD under dropout positive although all posteriors are the prior"""
    return _dropped_at_prior(points, dimensions, keep) > 1e-9


# --- D10b, the mask integrated out ----------------------------------------------------------------


def mask_states(variance: float, keep: float) -> tuple[tuple[float, float], ...]:
    """Probability and variance of a dimension that is kept, and of one that is dropped."""
    return (keep, kept_variance(variance, keep)), (1.0 - keep, ALPHA)


def dropped_kl(distance: Any, variance: float, keep: float) -> Any:
    """KL between two posteriors of one variance, averaged over the masks of both."""
    states = mask_states(variance, keep)
    pairs = ((p * q, gaussian_kl(0.0, v, distance, w)) for p, v in states for q, w in states)
    return sum(chance * kl for chance, kl in pairs)


@f.cached
def mixture_kl(distance: float, variance: float, keep: float) -> float:
    """KL between two posteriors of one variance whose masks are integrated out, by quadrature.

    Each is the mixture p N(mu, (variance - alpha) / p + alpha) + (1 - p) N(mu, alpha).
    """
    states = mask_states(variance, keep)

    def log_density(z: Array, mean: float) -> Array:
        terms = (math.log(p) + log_gaussian(z, mean, v) for p, v in states)
        return np.asarray(np.logaddexp(*terms))

    def log_ratio(z: Array) -> Array:
        return log_density(z, 0.0) - log_density(z, distance)

    return sum(p * trapezoid(log_ratio, 0.0, v) for p, v in states)


def mixture_bound(distance: Any, variance: Any, keep: Any, alpha: Any = ALPHA) -> Any:
    """A bound on :func:`mixture_kl` that grows with distance more slowly than the plain KL."""
    wide = kept_variance(variance, keep, alpha)
    twice = (variance + distance**2) / wide
    entropy = ((1 - keep) * (log(wide) - log(alpha)) - 1) / 2
    return twice / 2 + entropy - log(keep)


D10B = stated(
    "D10b",
    Formulas(mixture_bound),
    {
        "half": ("twice / 2", "twice / 4"),
        "own": ("- 1) / 2", "- 1)"),
        "chance": ("- log(keep)", ""),
    },
)


@D10B.symbolic
def _(c: Formulas) -> Facts:
    """the bound from Gaussian moments; slopes in Δ²"""
    # E log of the own component minus E log of the other's wide one.
    p, alpha, above, distance = sympy.symbols("p alpha v Delta", positive=True)
    s, wide = above + alpha, above / p + alpha
    moments = sum(
        weight * (-(1 + log(v)) / 2 - log(p) + log(wide) / 2 + (v + distance**2) / (2 * wide))
        for weight, v in ((p, wide), (1 - p, alpha))
    )
    slopes = 1 / s - 1 / wide, (1 - p) * above / (p * s * wide)
    return (moments, c.mixture_bound(distance, s, p, alpha)), slopes


@D10B.sampled
def _(c: Formulas) -> Means:
    """mean log-ratio of q(z | own mask) to the other's kept component, nats"""
    random, cases = np.random.default_rng(1), []
    for distance, variance, keep in ((4.0, 0.5, 0.8), (1.0, 1.0, 0.3)):
        wide = kept_variance(variance, keep)
        own = np.where(random.random(200_000) < keep, wide, ALPHA)
        z = f.gaussian(random, 0.0, own, own.size)
        draws = log_gaussian(z, 0.0, own) - log_gaussian(z, distance, wide) - math.log(keep)
        cases.append((float(c.mixture_bound(distance, variance, keep)), draws))
    return cases


_MIXTURES = st.tuples(eighths(0, 64), eighths(1, 16), _KEEPS)  # distance, variance and p


@D10B.search(_MIXTURES)
def _(c: Formulas, *case: float) -> bool:
    """KL of the mixtures by quadrature above the bound"""
    exact = mixture_kl(*case)
    return exact > float(c.mixture_bound(*case)) + 1e-9 * (1.0 + exact)


def _mixture_words(distance: float, variance: float, keep: float) -> str:
    without, mixed = distance**2 / (2.0 * variance), mixture_kl(distance, variance, keep)
    text = f"KL {without:.4f} without dropout, {mixed:.4f} with"
    return f"means {distance} apart, σ² = {variance}, p = {keep}: {text}"


@D10B.search_printed(_MIXTURES, _mixture_words)
def _(distance: float, variance: float, keep: float) -> bool:
    """second line of equation 7 with the mask integrated out: divergence below that of q"""
    without = distance**2 / (2.0 * variance)
    return mixture_kl(distance, variance, keep) < without - 1e-9 * (1.0 + without)


# --- D11, what batch norm leaves of the variance --------------------------------------------------


def normalised(mean: Array, gamma: Any, beta: Any = 0.0, eps: Any = 0.0) -> Array:
    """Batch norm of means (B, D) with scale and shift, each () or (D,); symbols serve as well."""
    centred = mean - f.average(mean, 0)
    spread = f.average(centred**2, 0) + eps
    root = np.vectorize(f.root, otypes=[spread.dtype])(spread)
    return np.asarray(gamma * centred / root + beta)


def normed_variance(mean: Array, gamma: Any, eps: Any = 0.0) -> Any:
    """Variance of normalised means by dimension: gamma^2 s^2 / (s^2 + eps), s^2 with ddof 0."""
    variance = ((mean - f.average(mean, 0)) ** 2).sum(0) / len(mean)
    return gamma**2 * variance / (variance + eps)


def library_norm(mean: Array, gamma: float, beta: float = 0.0, eps: float = EPS) -> Array:
    """Means (B, D) through the batch norm of the library's BN-VAE, in training."""
    norm: Any = BatchNormed(gamma, shift=beta, eps=eps).build(1, mean.shape[1]).double()
    scale = torch.full((mean.shape[1],), gamma, dtype=torch.float64)
    with torch.no_grad():
        return np.asarray(norm.norm(torch.from_numpy(mean), scale))


D11 = stated(
    "D11",
    Formulas(normed_variance),
    {
        "power": ("gamma**2", "gamma"),
        "weight": ("(variance + eps)", "variance"),
        "ddof": ("/ len(mean)", "/ (len(mean) - 1)"),
    },
)


@D11.symbolic
def _(c: Formulas) -> Facts:
    """mean and variance of three normalised means"""
    gamma, eps = sympy.symbols("gamma epsilon", positive=True)
    beta, *m = sympy.symbols("beta m:3", real=True)
    batch = np.array(m)[:, None]
    out, claimed = normalised(batch, gamma, beta, eps), c.normed_variance(batch, gamma, eps)[0]
    return (out.sum() / 3, beta), (((out - beta) ** 2).sum() / 3, claimed)


@D11.sampled
def _(c: Formulas) -> Means:
    """mean square about β of a random point of the batch"""
    random = np.random.default_rng(2)
    batch, cases = random.normal(size=(8, 1)) * 0.01, []
    for eps in (0.0, EPS, 1e-3):
        out = normalised(batch, 0.6, 0.2, eps)[random.integers(0, 8, 100_000), 0]
        cases.append((float(c.normed_variance(batch, 0.6, eps)[0]), (out - 0.2) ** 2))
    return cases


_GAMMAS = st.sampled_from([0.5, 0.6, 0.7, 1.0, 2.0])


@st.composite
def batches(draw: st.DrawFn) -> Array:
    """Raw means (B, D) that differ in each dimension."""
    size, dimensions = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    columns = st.lists(st.integers(-8, 8), min_size=size, max_size=size).filter(
        lambda values: len(set(values)) > 1
    )
    raw = np.array([draw(columns) for _ in range(dimensions)], dtype=float).T
    return raw * 10.0 ** draw(st.integers(-4, 1))


@st.composite
def _scaled_batches(draw: st.DrawFn) -> tuple[Array, Array, float, float]:
    """Raw means, learned scales (D,), gamma, eps."""
    raw, scales = draw(batches()), st.sampled_from([1.0, -1.0, 0.125, 2.0])
    learned = np.array([draw(scales) for _ in range(raw.shape[1])])
    return raw, learned, draw(_GAMMAS), draw(st.sampled_from([1e-30, 1e-8, EPS, 1e-2]))


@D11.search(_scaled_batches(), "means {}, scales {}, γ {}, eps {}", 200)
def _(c: Formulas, raw: Array, learned: Array, gamma: float, eps: float) -> bool:
    """batch norm of the library's DU-VAE, its scales brought to γ, against γ²s²/(s²+eps)"""
    head: Any = DiversityUncertainty(gamma, eps=eps).build(1, len(learned)).double()
    with torch.no_grad():
        head.scale.weight.copy_(torch.from_numpy(learned))
        scale = head.scale()
        out = head.norm(torch.from_numpy(raw), scale).numpy()
    size = np.abs(scale.numpy())
    claimed = np.append(c.normed_variance(raw, size, eps), len(learned) * gamma**2)
    return apart(np.append(out.var(0), (size**2).sum()), claimed)


# --- D12, a positive KL without information -------------------------------------------------------


def constant_mean(kl: Any, dimensions: Any) -> Any:
    """The mean, in every dimension, of the constant posterior N(b, 1) with this KL."""
    return f.root(2 * kl / dimensions)


def constant_kl(mean: Any, variance: Any, dimensions: Any) -> Any:
    """KL of the constant posterior N(mean, variance) in each of D dimensions."""
    return dimensions * (mean**2 + variance - 1 - log(variance)) / 2


D12 = stated(
    "D12",
    Formulas(constant_kl, constant_mean),
    {"half": (") / 2", ") / 4"), "inside": ("- 1 - log(", "- log("), "twice": ("2 * kl", "kl")},
)


@D12.symbolic
def _(c: Formulas) -> Facts:
    """KL of N(b, s) by integration; KL of the mean chosen"""
    t, b = sympy.symbols("t b", real=True)
    s, k, dims = sympy.symbols("s k D", positive=True)
    log_ratio = sympy.expand(((b + sympy.sqrt(s) * t) ** 2 - t**2 - sympy.log(s)) / 2)
    # One integral for each power of t is quicker than one of the whole.
    definition = sum(log_ratio.coeff(t, n) * f.integral(f.bell(t) * t**n, t) for n in range(3))
    wanted = dims * c.constant_mean(k, dims) ** 2 / 2
    return (definition, c.constant_kl(b, s, 1)), (wanted, k)


@D12.sampled
def _(c: Formulas) -> Means:
    """log-ratio to prior and to aggregate, nats"""
    random, cases = np.random.default_rng(3), []
    chosen = float(c.constant_mean(7.84, 32))
    for mean, variance, dimensions in ((chosen, 1.0, 32), (0.3, 0.5, 4)):
        z = f.gaussian(random, mean, variance, (20_000, dimensions))
        own = log_gaussian(z, mean, variance).sum(-1)
        exact = float(c.constant_kl(mean, variance, dimensions))
        draws = _log_ratio(z, mean, variance).sum(-1)
        cases.append((7.84 if dimensions == 32 else exact, draws))
    same = np.logaddexp.reduce([own] * 5) - math.log(5.0)  # the mixture of five
    return *cases, (0.0, own - same)


@f.cached
def information(mean: Array, variance: Array) -> float:
    """I(x; z) of N posteriors in one dimension, means and variances (N,), by quadrature."""

    def log_ratio(z: Array, own: int) -> Array:
        terms = log_gaussian(z, mean[:, None], variance[:, None])
        return np.asarray(terms[own] - np.logaddexp.reduce(terms) + math.log(len(mean)))

    parts = [trapezoid(partial(log_ratio, own=i), mean[i], variance[i]) for i in range(len(mean))]
    return float(np.mean(parts))


@D12.search(
    st.tuples(
        eighths(1, 80), st.integers(1, 32), st.integers(2, 5), eighths(0, 24), eighths(-8, 8)
    ),
    draws=200,
)
def _(
    c: Formulas, wanted: float, dimensions: int, points: int, moved: float, widened: float
) -> bool:
    """KL not met; MPD or I not 0 where all q are equal, or not positive where two differ"""
    b = float(c.constant_mean(wanted, dimensions))
    own = trapezoid(lambda z: _log_ratio(z, b, 1.0), b, 1.0)
    closed = float(c.constant_kl(b, 1.0, dimensions))
    if apart(wanted, [dimensions * own, closed]):
        return True
    mean, variance = np.full(points, b), np.ones(points)
    mean[0] += moved
    variance[0] *= 2.0**widened
    mpd, informed = pairwise_mpd(mean[:, None], variance[:, None]), information(mean, variance)
    differ = moved != 0.0 or widened != 0.0
    return (mpd > 1e-9) != differ or (informed > 1e-9) != differ


# --- D12b, a large MPD with hardly any information ------------------------------------------------


def outlier_distance(mpd: Any, points: Any) -> Any:
    """How far one of N unit Gaussians must lie from the others for this MPD."""
    return f.root(mpd * points**2 / (points - 1))


def outlier_ceiling(points: Any) -> Any:
    """Most information that one point apart from N - 1 others can give: entropy of 1/N, nats."""
    rare = 1 / points
    return -(rare * log(rare) + (1 - rare) * log(1 - rare))


@f.cached
def outlier_information(mpd: float, points: int) -> float:
    """I(x; z) of N - 1 equal unit Gaussians and one that is apart, by quadrature."""
    places = 0.0, float(outlier_distance(mpd, points))
    weights = 1.0 - 1.0 / points, 1.0 / points

    def log_ratio(z: Array, own: float) -> Array:
        pairs = zip(weights, places, strict=True)
        terms = [math.log(w) + log_gaussian(z, m, 1.0) for w, m in pairs]
        return np.asarray(log_gaussian(z, own, 1.0) - np.logaddexp(*terms))

    near, far = (trapezoid(partial(log_ratio, own=own), own, 1.0) for own in places)
    return weights[0] * near + weights[1] * far


D12B = stated(
    "D12b",
    Formulas(outlier_distance, outlier_ceiling),
    {"power": ("points**2", "points"), "share": ("-(rare", "-0.5 * (rare")},
)


@D12B.symbolic
def _(c: Formulas) -> Facts:
    """MPD of N = 2, 3, 5; entropy of one in two"""
    m, pairs = sympy.symbols("m", positive=True), []
    for points in (2, 3, 5):
        places = [sympy.S.Zero] * (points - 1) + [c.outlier_distance(m, sympy.Integer(points))]
        pairs.append((sum((a - b) ** 2 / 2 for a in places for b in places) / points**2, m))
    return *pairs, (c.outlier_ceiling(sympy.Integer(2)), sympy.log(2))


@D12B.sampled
def _(c: Formulas) -> Means:
    """log-ratio of pairs and to the aggregate, nats"""
    random, points, size = np.random.default_rng(4), 20, 200_000
    distance = float(c.outlier_distance(40.0, points))
    first, second = (distance * (random.integers(0, points, size) == 0) for _ in range(2))
    z = first + random.normal(size=size)
    own = log_gaussian(z, first, 1.0)
    weights = (0.0, math.log(0.95)), (distance, math.log(0.05))
    gained = own - np.logaddexp(*(log_gaussian(z, m, 1.0) + weight for m, weight in weights))
    # 29 deviations apart, so that the ceiling is reached
    ceiling = float(c.outlier_ceiling(points))
    return (40.0, own - log_gaussian(z, second, 1.0)), (ceiling, gained)


@D12B.search(st.tuples(eighths(1, 200), st.integers(2, 40)))
def _(c: Formulas, mpd: float, points: int) -> bool:
    """MPD of all pairs; information above the entropy of 1/N"""
    mean = np.zeros((points, 1))
    mean[0] = float(c.outlier_distance(mpd, points))
    above = outlier_information(mpd, points) > float(c.outlier_ceiling(points)) + 1e-9
    return above or apart(mpd, pairwise_mpd(mean, np.ones_like(mean)))


# --- D13, the floor of batch norm under the KL ----------------------------------------------------


def floor(dimensions: Any, gamma: Any, beta: Any = 0.0) -> Any:
    """The bound on the average KL of BN-VAE: D (gamma^2 + beta^2) / 2, nats."""
    return dimensions * (gamma**2 + beta**2) / 2


def above(variance: Any) -> Any:
    """Twice what a dimension of this variance adds to the floor."""
    return variance - 1 - log(variance)


def above_floor(variance: Array) -> Any:
    """What variances (N, D) add to the floor: half of the sum of E[s - 1 - log s]."""
    return above(variance).sum() / (2 * len(variance))


D13 = stated(
    "D13",
    Formulas(floor, above, above_floor),
    {
        "half": ("beta**2) / 2", "beta**2)"),
        "power": ("gamma**2", "gamma"),
        "inside": ("- 1 - log(", "- log("),
    },
)


@D13.symbolic
def _(c: Formulas) -> Facts:
    """average KL of two; slope of σ² − 1 − log σ², which falls until 1; its value 0 there"""
    gamma, s1, s2, distance = sympy.symbols("gamma s1 s2 Delta", positive=True)
    beta = sympy.symbols("beta", real=True)
    out = normalised(np.array([[distance], [-distance]]), gamma, beta, 0)
    variance = np.array([[s1], [s2]])
    kl = f.average(gaussian_kl(out, variance, 0, 1), 0)[0]
    return (
        (kl, c.floor(1, gamma, beta) + c.above_floor(variance)),
        (sympy.diff(c.above(s1), s1), (s1 - 1) / s1),
        (c.above(s1).subs(s1, 1), 0),
    )


@D13.sampled
def _(c: Formulas) -> Means:
    """mean log-ratio to the prior, nats"""
    random = np.random.default_rng(5)
    batch, cases = random.normal(size=(16, 4)), []
    for variance in (random.uniform(0.2, 1.5, (16, 4)), np.ones((16, 4))):
        mean, point = normalised(batch, 0.6, 0.2), random.integers(0, 16, 50_000)
        z = f.gaussian(random, mean[point], variance[point])
        exact = c.floor(4, 0.6, 0.2) + c.above_floor(variance)
        cases.append((float(exact), _log_ratio(z, mean[point], variance[point]).sum(-1)))
    return cases


@st.composite
def normed_posteriors(draw: st.DrawFn) -> tuple[Array, Array, float, float]:
    """Raw means (B, D), variances (B, D), gamma and beta."""
    raw = draw(batches())
    power = f.integers(draw, -6, 6, raw.shape)
    return raw, np.exp2(power / 2.0), draw(_GAMMAS), draw(eighths(-16, 16))


_NORMED = "raw means {}, variances {}, γ = {}, β = {}"


@D13.search(normed_posteriors(), _NORMED, 200)
def _(c: Formulas, raw: Array, variance: Array, gamma: float, beta: float) -> bool:
    """average KL of the library's BN-VAE, eps next to 0, below the floor, or on it with σ² ≠ 1"""
    mean = library_norm(raw, gamma, beta, eps=1e-30)
    kl, bound = average_kl(mean, variance), float(c.floor(raw.shape[1], gamma, beta))
    strict = bool((np.abs(np.log2(variance)) >= 0.5).any())
    below = kl <= bound + 1e-9 * (1.0 + kl) if strict else apart(kl, bound)
    return below or apart(kl, bound + c.above_floor(variance))


# --- D13b, the floor of the layer as it is run ----------------------------------------------------


def leaking_floor(raw: Array, gamma: Any, beta: Any, eps: Any) -> Any:
    """The floor with eps under the root: half of the sum of gamma^2 s^2 / (s^2 + eps) + beta^2."""
    return (normed_variance(raw, gamma, eps) + beta**2).sum() / 2


D13B = stated(
    "D13b",
    Formulas(normed_variance, leaking_floor),
    {"half": (".sum() / 2", ".sum()"), "weight": ("(variance + eps)", "variance")},
)


@D13B.symbolic
def _(c: Formulas) -> Facts:
    """average KL of two with σ² = 1; its limit as s falls to 0"""
    gamma, s, eps = sympy.symbols("gamma s epsilon", positive=True)
    beta, raw = sympy.symbols("beta", real=True), np.array([[s], [-s]])
    kl = (normalised(raw, gamma, beta, eps) ** 2).sum() / 4
    bound = c.leaking_floor(raw, gamma, beta, eps)
    return (kl, bound), (sympy.limit(bound, s, 0), beta**2 / 2)


@D13B.sampled
def _(c: Formulas) -> Means:
    """mean log-ratio to the prior of a nearly collapsed batch with σ² = 1, nats"""
    random, raw = np.random.default_rng(6), np.array([[-2e-3], [-1e-3], [1e-3], [2e-3]])
    mean = normalised(raw, 0.6, 0.0, EPS)[random.integers(0, 4, 200_000), 0]
    draws = _log_ratio(f.gaussian(random, mean, 1.0), mean, 1.0)
    return [(c.leaking_floor(raw, 0.6, 0.0, EPS), draws)]


@D13B.search(normed_posteriors(), _NORMED, 200)
def _(c: Formulas, raw: Array, variance: Array, gamma: float, beta: float) -> bool:
    """average KL of the library's BN-VAE, eps = 1e-5, below the corrected floor"""
    mean = library_norm(raw, gamma, beta)
    bound = float(c.leaking_floor(raw, gamma, beta, EPS))
    kl, least = average_kl(mean, variance), average_kl(mean, np.ones_like(mean))
    return kl < bound - 1e-9 * (1.0 + bound) or apart(bound, least)


def _leaking_kl(values: list[int], power: int, gamma: float) -> float:
    """For raw means ``values`` * 10^power and unit variances."""
    mean = library_norm(np.array(values, dtype=float)[:, None] * 10.0**power, gamma)
    return average_kl(mean, np.ones_like(mean))


def _leaking_words(values: list[int], power: int, gamma: float) -> str:
    raw, kl = ", ".join(f"{v * 10.0**power:g}" for v in values), _leaking_kl(values, power, gamma)
    text = f"average KL {kl:.3g} against {floor(1, gamma):.3g}"
    return f"raw means {raw}, σ² = 1, γ = {gamma}, β = 0, eps = 1e-5: {text}"


@D13B.search_printed(
    st.tuples(
        st.lists(st.integers(-2, 2), min_size=2, max_size=4, unique=True),
        st.integers(-6, 0),
        st.sampled_from([0.6, 0.5, 0.7]),
    ),
    _leaking_words,
)
def _(values: list[int], power: int, gamma: float) -> bool:
    """average KL of the library's BN-VAE, eps = 1e-5, below half of the printed floor"""
    return _leaking_kl(values, power, gamma) < 0.5 * floor(1, gamma)


STATEMENTS = (D10, D10B, D11, D12, D12B, D13, D13B)
