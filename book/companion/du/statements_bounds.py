"""Bounds that do and that do not prevent collapse: dropout, batch norm and flows.

The statements of Shen et al. 2021 on what keeps posteriors apart (section 3.3 and 3.4), and the
bound on the KL of BN-VAE as Song et al. 2024 print it.

Notation: x is uniform on N points, q_i = N(mu_i, diag sigma_i^2), p = N(0, I), D dimensions, nats.
MPD averages over all N^2 pairs.
Flows and batch norm are also checked on the library's own, which are those that train.
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
from numpy.typing import NDArray
from torch import Tensor

from companion.claims.statements import Constants, Evidence, Statement, equal, sampled, search
from posterior_collapse.layers import initialised_by_recipe
from posterior_collapse.posteriors import (
    BatchNormed,
    Diagonal,
    DiagonalNormal,
    DiversityUncertainty,
    Flow,
    Flowed,
    FlowHead,
)

__all__ = [
    "ALPHA",
    "STATEMENTS",
    "average_kl",
    "chained",
    "collapsed_mpd",
    "conditional_entropy",
    "constant_mean",
    "dropped_kl",
    "dropped_mpd",
    "flow_of",
    "floor",
    "gaussian_image",
    "information",
    "kept_variance",
    "leaking_floor",
    "library_norm",
    "log_normal",
    "mixture_bound",
    "mixture_kl",
    "normalised",
    "outlier_ceiling",
    "outlier_information",
    "pairwise_mpd",
    "random_flow",
    "steered_flow",
]

Array = NDArray[np.float64]

ALPHA = 1.0 / (2.0 * math.pi * math.e)  # the variance whose entropy is 0
EPS = 1e-5  # of PyTorch's batch norm


# --- definitions, written anew --------------------------------------------------------------------


def log_normal(z: Any, mean: Any, variance: Any) -> Any:
    """Log density of N(mean, variance), elementwise."""
    return -0.5 * ((z - mean) ** 2 / variance + np.log(2.0 * math.pi * variance))


def kl_of_normals(m1: Any, v1: Any, m2: Any, v2: Any) -> Any:
    """KL(N(m1, v1) || N(m2, v2)), elementwise."""
    return 0.5 * ((v1 + (m1 - m2) ** 2) / v2 - 1.0 - np.log(v1 / v2))


def pairwise_mpd(mean: Array, variance: Array) -> float:
    """The definition: the average KL over all ordered pairs of (N, D) posteriors."""
    table = kl_of_normals(mean[:, None], variance[:, None], mean[None], variance[None])
    return float(table.sum(-1).mean())


def average_kl(mean: Array, variance: Array) -> float:
    """E_x KL(q(z|x) || N(0, I)) of (N, D) posteriors."""
    return float(kl_of_normals(mean, variance, 0.0, 1.0).sum(-1).mean())


def conditional_entropy(variance: Array) -> float:
    """E_x H(q(z|x)) of variances (N, D)."""
    return float(0.5 * np.log(2.0 * math.pi * math.e * variance).sum(-1).mean())


def integral(integrand: Callable[[Array], Array], mean: float, variance: float) -> float:
    """E of a function of z ~ N(mean, variance): the trapezoidal rule over 12 deviations."""
    t = np.linspace(-12.0, 12.0, 4001)
    weight = np.exp(-0.5 * t**2) / math.sqrt(2.0 * math.pi) * (t[1] - t[0])
    return float((weight * integrand(mean + math.sqrt(variance) * t)).sum())


def eighths(low: int, high: int) -> st.SearchStrategy[float]:
    """Multiples of 1/8, which a page can print exactly."""
    return st.integers(low, high).map(lambda k: k / 8.0)


def keeps() -> st.SearchStrategy[float]:
    """Probabilities to keep a variance, which shrink to 0.5."""
    return st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.4, 0.3, 0.2, 0.1])


# --- D10, MPD under dropout where all posteriors are the same -------------------------------------


def dropped_mpd(mean: Array, variance: Array, keep: float, alpha: float = ALPHA) -> float:
    """MPD of (N, D) posteriors averaged over the masks of both members of a pair.

    The definition: all pairs, and for each the four pairs of masks.
    """
    total = 0.0
    states = [
        (keep, (variance - alpha) / keep + alpha),
        (1.0 - keep, np.full_like(variance, alpha)),
    ]
    for weight1, v1 in states:
        for weight2, v2 in states:
            table = kl_of_normals(mean[:, None], v1[:, None], mean[None], v2[None])
            total += weight1 * weight2 * float(table.sum(-1).mean())
    return total


_D10 = {"half": 0.5, "power": 2.0, "whole": 1.0}


def collapsed_mpd(
    variance: Any, keep: Any, alpha: Any = ALPHA, dimensions: int = 1, c: Constants = _D10
) -> Any:
    """Closed form of the dropped MPD where every posterior is N(b, variance) in each dimension."""
    lost = (variance - alpha) ** c["power"] / (alpha * (variance - (c["whole"] - keep) * alpha))
    return c["half"] * dimensions * (1.0 - keep) * lost


def _collapsed_symbolic(c: Constants) -> Evidence:
    """One dimension: the four pairs of masks against the closed form."""
    p, alpha, above = sympy.symbols("p alpha v", positive=True)
    s = above + alpha
    states = [(p, above / p + alpha), (1 - p, alpha)]
    definition = sum(
        w1 * w2 * (v1 / v2 - 1 - sympy.log(v1) + sympy.log(v2)) / 2
        for w1, v1 in states
        for w2, v2 in states
    )
    lost = above ** sympy.Rational(c["power"])
    lost /= alpha * (s - (sympy.Rational(c["whole"]) - p) * alpha)
    closed = sympy.Rational(c["half"]) * (1 - p) * lost
    return equal("average over the masks of both members", (sympy.expand(definition), closed))


def _collapsed_sampled(c: Constants) -> Evidence:
    """Random masks and random z for q = p in 32 dimensions, p = 0.8: the log-ratio of densities."""
    random = np.random.default_rng(0)
    keep, shape = 0.8, (20_000, 32)
    first, second = (
        np.where(random.random(shape) < keep, (1.0 - ALPHA) / keep + ALPHA, ALPHA) for _ in range(2)
    )
    z = np.sqrt(first) * random.normal(size=shape)
    draws = (log_normal(z, 0.0, first) - log_normal(z, 0.0, second)).sum(-1)
    exact = float(collapsed_mpd(1.0, keep, ALPHA, 32, c))
    return sampled("mean log-ratio at total collapse, D = 32, p = 0.8, nats", (exact, draws))


@st.composite
def collapsed(draw: st.DrawFn) -> tuple[int, int, float, float, float, float]:
    """N, D, shared mean, alpha, variance above alpha, p."""
    alpha = draw(st.sampled_from([ALPHA, 1e-6, 1e-3, 1.0]))
    above = draw(st.sampled_from([1.0, 1e-2, 0.1, 10.0, 100.0])) * draw(eighths(1, 8))
    points, dimensions = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return points, dimensions, draw(eighths(-8, 8)), alpha, above, draw(keeps())


def _collapsed_search(c: Constants) -> Evidence:
    def violated(case: tuple[int, int, float, float, float, float]) -> bool:
        points, dimensions, b, alpha, above, keep = case
        mean, variance = np.full((points, dimensions), b), alpha + above
        exact = dropped_mpd(mean, np.full_like(mean, variance), keep, alpha)
        claimed = float(collapsed_mpd(variance, keep, alpha, dimensions, c))
        return abs(exact - claimed) > 1e-9 * (1.0 + abs(exact))

    return search("closed form against all pairs and masks", collapsed(), violated, draws=200)


def _collapsed_printed() -> Evidence:
    """Positive dropped MPD where all posteriors are the prior."""

    def dropped(case: tuple[int, int, float]) -> float:
        points, dimensions, keep = case
        mean = np.zeros((points, dimensions))
        return dropped_mpd(mean, np.ones_like(mean), keep)

    def shown(case: tuple[int, int, float]) -> str:
        points, dimensions, keep = case
        return (
            f"N = {points}, D = {dimensions}, p = {keep}, every q = N(0, 1) = prior: "
            f"MPD 0, dropped MPD {dropped(case):.4f}"
        )

    cases = st.tuples(st.integers(1, 4), st.integers(1, 4), keeps())
    return search(
        "MPD under dropout positive although all posteriors are the prior",
        cases,
        lambda case: dropped(case) > 1e-9,
        shown,
    )


D10 = Statement(
    id="D10",
    name="MPD under dropout at total collapse",
    paper="DU-VAE, section 3.3, read for the MPD of equation 8",
    item="du-bn",
    claim="Where all q are N(b, σ²) the dropped MPD is D(1−p)(σ²−α)²/(2α(σ²−(1−p)α)), not 0.",
    constants=_D10,
    wrong={"half": 0.25, "power": 1.0, "whole": 0.5},
    checks=(_collapsed_symbolic, _collapsed_sampled, _collapsed_search),
    printed=_collapsed_printed,
)


# --- D10b, the mask integrated out ----------------------------------------------------------------


def mask_states(variance: float, keep: float) -> tuple[tuple[float, float], ...]:
    """Probability and variance of a dimension that is kept, and of one that is dropped."""
    return (keep, (variance - ALPHA) / keep + ALPHA), (1.0 - keep, ALPHA)


def dropped_kl(apart: Any, variance: float, keep: float) -> Any:
    """KL between two posteriors of one variance, averaged over the masks of both."""
    states = mask_states(variance, keep)
    return sum(
        w1 * w2 * kl_of_normals(0.0, v1, apart, v2) for w1, v1 in states for w2, v2 in states
    )


def mixture_kl(apart: float, variance: float, keep: float) -> float:
    """KL between two posteriors of one variance whose masks are integrated out, by quadrature.

    Each is the mixture p N(mu, (variance - alpha) / p + alpha) + (1 - p) N(mu, alpha).
    """
    states = mask_states(variance, keep)

    def log_density(z: Array, mean: float) -> Array:
        terms = [math.log(weight) + log_normal(z, mean, v) for weight, v in states]
        return np.asarray(np.logaddexp(*terms))

    def log_ratio(z: Array) -> Array:
        return log_density(z, 0.0) - log_density(z, apart)

    return sum(weight * integral(log_ratio, 0.0, v) for weight, v in states)


_D10B = {"half": 0.5, "own": 0.5, "lost": 1.0}


def mixture_bound(apart: Any, variance: float, keep: float, c: Constants = _D10B) -> Any:
    """A bound on :func:`mixture_kl` that grows with distance more slowly than the plain KL."""
    (_, wide), (_, narrow) = mask_states(variance, keep)
    entropy = c["own"] * ((1.0 - keep) * math.log(wide / narrow) - 1.0)
    return c["half"] * (variance + apart**2) / wide + entropy - c["lost"] * math.log(keep)


def _mixture_symbolic(c: Constants) -> Evidence:
    """Gaussian moments: E log of the own component minus E log of the other's wide one."""
    p, alpha, above, apart = sympy.symbols("p alpha v Delta", positive=True)
    s, wide = above + alpha, above / p + alpha
    half, own, lost = (sympy.Rational(c[name]) for name in ("half", "own", "lost"))
    log = sympy.log
    moments = sum(
        weight * (-(1 + log(v)) / 2 - log(p) + log(wide) / 2 + (v + apart**2) / (2 * wide))
        for weight, v in ((p, wide), (1 - p, alpha))
    )
    bound = half * (s + apart**2) / wide - lost * log(p)
    bound += own * ((1 - p) * (log(wide) - log(alpha)) - 1)
    slopes = 1 / s - 1 / wide, (1 - p) * above / (p * s * wide)
    return equal("the bound from Gaussian moments; slopes in Δ²", (moments, bound), slopes)


def _mixture_sampled(c: Constants) -> Evidence:
    """The bound is the mean of log q(z | own mask) - log(p N(z; the other, kept))."""
    random = np.random.default_rng(1)
    cases = []
    for apart, variance, keep in ((4.0, 0.5, 0.8), (1.0, 1.0, 0.3)):
        (_, wide), (_, narrow) = mask_states(variance, keep)
        own = np.where(random.random(200_000) < keep, wide, narrow)
        z = np.sqrt(own) * random.normal(size=own.size)
        draws = log_normal(z, 0.0, own) - log_normal(z, apart, wide) - math.log(keep)
        cases.append((float(mixture_bound(apart, variance, keep, c)), draws))
    return sampled("mean log-ratio to the other's kept component, nats", *cases)


def _mixture_cases() -> st.SearchStrategy[tuple[float, float, float]]:
    """Distance, variance and p."""
    return st.tuples(eighths(0, 64), eighths(1, 16), keeps())


def _mixture_search(c: Constants) -> Evidence:
    def violated(case: tuple[float, float, float]) -> bool:
        exact = mixture_kl(*case)
        return exact > float(mixture_bound(*case, c)) + 1e-9 * (1.0 + exact)

    return search("KL of the mixtures by quadrature above the bound", _mixture_cases(), violated)


def _mixture_printed() -> Evidence:
    """Dropout that lowers the divergence, once the mask is integrated out."""

    def plain(case: tuple[float, float, float]) -> float:
        return case[0] ** 2 / (2.0 * case[1])

    def violated(case: tuple[float, float, float]) -> bool:
        return mixture_kl(*case) < plain(case) - 1e-9 * (1.0 + plain(case))

    def shown(case: tuple[float, float, float]) -> str:
        return (
            f"means {case[0]} apart, σ² = {case[1]}, p = {case[2]}: "
            f"KL {plain(case):.4f} without dropout, {mixture_kl(*case):.4f} with"
        )

    compared = "second line of equation 7 with the mask integrated out: divergence below that of q"
    return search(compared, _mixture_cases(), violated, shown)


D10B = Statement(
    id="D10b",
    name="variance dropout with the mask integrated out",
    paper="DU-VAE, equation 7, read for the marginal posterior",
    item="",
    claim="The mixture's KL is at most (σ²+Δ²)/(2w) + (1−p)/2·log(w/α) − 1/2 − log p, w = kept σ̂².",
    constants=_D10B,
    wrong={"half": 0.25, "own": 1.0, "lost": 0.0},
    checks=(_mixture_symbolic, _mixture_sampled, _mixture_search),
    printed=_mixture_printed,
)


# --- D11, what batch norm leaves of the variance --------------------------------------------------


def normalised(
    mean: Array, gamma: Any, beta: Any = 0.0, eps: float = 0.0, ddof: int = 0
) -> NDArray[np.float64]:
    """Batch norm of means (B, D) with scale and shift, each () or (D,)."""
    centred = mean - mean.mean(0)
    variance = (centred**2).sum(0) / (len(mean) - ddof)
    return np.asarray(gamma * centred / np.sqrt(variance + eps) + beta)


_D11 = {"power": 2.0, "weight": 1.0, "ddof": 0.0}


def kept_variance(mean: Array, gamma: Any, eps: float = 0.0, c: Constants = _D11) -> Any:
    """Variance of normalised means by dimension: gamma^2 s^2 / (s^2 + eps), s^2 with ddof 0."""
    variance = ((mean - mean.mean(0)) ** 2).sum(0) / (len(mean) - c["ddof"])
    return gamma ** c["power"] * variance / (variance + c["weight"] * eps)


def library_norm(mean: Array, gamma: float, beta: float = 0.0, eps: float = EPS) -> Array:
    """Means (B, D) through the batch norm of the library's BN-VAE, in training."""
    dimensions = mean.shape[1]
    head = BatchNormed(gamma, shift=beta, eps=eps).build(1, dimensions).double()
    scale = torch.full((dimensions,), gamma, dtype=torch.float64)
    with torch.no_grad():
        return np.asarray(head.norm(torch.from_numpy(mean), scale))  # type: ignore[operator]


def _norm_symbolic(c: Constants) -> Evidence:
    """A batch of three in one dimension."""
    gamma, eps = sympy.symbols("gamma epsilon", positive=True)
    beta, *m = sympy.symbols("beta m:3", real=True)
    middle = sum(m) / 3
    spread = sum((value - middle) ** 2 for value in m)
    out = [gamma * (value - middle) / sympy.sqrt(spread / 3 + eps) + beta for value in m]
    level = sum(out) / 3
    found = sum((value - beta) ** 2 for value in out) / 3
    own = spread / (3 - sympy.Rational(c["ddof"]))
    claimed = gamma ** sympy.Rational(c["power"]) * own / (own + sympy.Rational(c["weight"]) * eps)
    return equal("mean and variance of three normalised means", (level, beta), (found, claimed))


def _norm_sampled(c: Constants) -> Evidence:
    """A point of the batch drawn at random: the square of its normalised mean."""
    random = np.random.default_rng(2)
    batch, cases = random.normal(size=(8, 1)) * 0.01, []
    for eps in (0.0, EPS, 1e-3):
        out = normalised(batch, 0.6, 0.2, eps)[:, 0]
        drawn = out[random.integers(0, len(batch), 100_000)]
        cases.append((float(kept_variance(batch, 0.6, eps, c)[0]), (drawn - 0.2) ** 2))
    return sampled("mean square about β of a random point of the batch", *cases)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Array, Array, float, float]:
    """Raw means (B, D) that differ in each dimension, learned scales (D,), gamma, eps."""
    size, dimensions = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    columns = st.lists(st.integers(-8, 8), min_size=size, max_size=size).filter(
        lambda values: len(set(values)) > 1
    )
    raw = np.array([draw(columns) for _ in range(dimensions)], dtype=float).T
    raw *= 10.0 ** draw(st.integers(-4, 1))
    learned = [draw(st.sampled_from([1.0, -1.0, 0.125, 2.0])) for _ in range(dimensions)]
    gamma = draw(st.sampled_from([0.5, 0.6, 0.7, 1.0, 2.0]))
    return raw, np.array(learned), gamma, draw(st.sampled_from([1e-30, 1e-8, EPS, 1e-2]))


def _norm_search(c: Constants) -> Evidence:
    """The layer of the library's DU-VAE, with its scales brought to gamma."""

    def violated(case: tuple[Array, Array, float, float]) -> bool:
        raw, learned, gamma, eps = case
        head = DiversityUncertainty(gamma, eps=eps).build(1, len(learned)).double()
        with torch.no_grad():
            head.scale.weight.copy_(torch.from_numpy(learned))  # type: ignore[union-attr, operator]
            scale = head.scale()  # type: ignore[operator]
            out = head.norm(torch.from_numpy(raw), scale).numpy()  # type: ignore[operator]
        found, size = out.var(0), np.abs(scale.numpy())
        claimed = kept_variance(raw, size, eps, c)
        apart = np.abs(found - claimed).max()
        total = abs((size ** c["power"]).sum() - len(learned) * gamma ** c["power"])
        return bool(max(apart, total) > 1e-9 * (1.0 + np.abs(found).max()))

    def shown(case: tuple[Array, Array, float, float]) -> str:
        return f"means {case[0].tolist()}, scales {case[1].tolist()}, γ {case[2]}, eps {case[3]}"

    compared = "batch norm of the library's DU-VAE against γ²s²/(s²+eps)"
    return search(compared, batches(), violated, shown, draws=200)


D11 = Statement(
    id="D11",
    name="batch norm keeps the variance of the means",
    paper="DU-VAE, equation 9 and algorithm 1",
    item="",
    claim="Var of a normalised mean is γ²s²/(s²+eps), s² with ddof 0: with eps = 0, Σ Var = Dγ².",
    constants=_D11,
    wrong={"power": 1.0, "weight": 0.0, "ddof": 1.0},
    checks=(_norm_symbolic, _norm_sampled, _norm_search),
)


# --- D12, a positive KL without information -------------------------------------------------------

_D12 = {"half": 0.5, "inside": 1.0, "twice": 2.0}


def constant_mean(kl: Any, dimensions: int, c: Constants = _D12) -> Any:
    """The mean, in every dimension, of the constant posterior N(b, 1) with this KL."""
    return (c["twice"] * kl / dimensions) ** 0.5


def constant_kl(mean: Any, variance: Any, dimensions: int, c: Constants = _D12) -> Any:
    """KL of the constant posterior N(mean, variance) in each of D dimensions."""
    return c["half"] * dimensions * (mean**2 + variance - c["inside"] - np.log(variance))


def _constant_symbolic(c: Constants) -> Evidence:
    """One dimension: log q/p at z = b + sqrt(s) t, integrated; the mean that gives a wanted KL."""
    t, b = sympy.symbols("t b", real=True)
    s, k, dims = sympy.symbols("s k D", positive=True)
    log_ratio = sympy.expand(((b + sympy.sqrt(s) * t) ** 2 - t**2 - sympy.log(s)) / 2)
    weight = sympy.exp(-(t**2) / 2) / sympy.sqrt(2 * sympy.pi)
    # One integral for each power of t is quicker than one of the whole.
    moments = [sympy.integrate(weight * t**n, (t, -sympy.oo, sympy.oo)) for n in range(3)]
    definition = sum(log_ratio.coeff(t, n) * moments[n] for n in range(3))
    half, inside, twice = (sympy.Rational(c[name]) for name in ("half", "inside", "twice"))
    closed = half * (b**2 + s - inside - sympy.log(s))
    wanted = (dims * (twice * k / dims) / 2, k)
    compared = "KL of N(b, s) by integration; KL of the mean chosen"
    return equal(compared, (definition, closed), wanted)


def _constant_sampled(c: Constants) -> Evidence:
    """Log-ratios to the prior, to the aggregate and to another point's posterior."""
    random = np.random.default_rng(3)
    cases = []
    for mean, variance, dimensions in ((float(constant_mean(7.84, 32, c)), 1.0, 32), (0.3, 0.5, 4)):
        z = mean + math.sqrt(variance) * random.normal(size=(20_000, dimensions))
        own, prior = log_normal(z, mean, variance), log_normal(z, 0.0, 1.0)
        exact = float(constant_kl(mean, variance, dimensions, c))
        cases.append((7.84 if dimensions == 32 else exact, (own - prior).sum(-1)))
    same = np.logaddexp.reduce([own.sum(-1)] * 5) - math.log(5.0)  # the mixture of five
    return sampled("log-ratio to prior and to aggregate, nats", *cases, (0.0, own.sum(-1) - same))


def information(mean: Array, variance: Array) -> float:
    """I(x; z) of N posteriors in one dimension, means and variances (N,), by quadrature."""

    def log_ratio(z: Array, own: int) -> Array:
        terms = log_normal(z[None], mean[:, None], variance[:, None])
        return np.asarray(terms[own] - np.logaddexp.reduce(terms) + math.log(len(mean)))

    parts = [integral(partial(log_ratio, own=i), mean[i], variance[i]) for i in range(len(mean))]
    return float(np.mean(parts))


def _constant_search(c: Constants) -> Evidence:
    """A wanted KL is met with MPD = I = 0; another mean or variance makes both positive."""

    def met(wanted: float, dimensions: int) -> float:
        mean = float(constant_mean(wanted, dimensions, c))
        own = integral(lambda z: log_normal(z, mean, 1.0) - log_normal(z, 0.0, 1.0), mean, 1.0)
        closed = float(constant_kl(mean, 1.0, dimensions, c))
        unmet = max(abs(dimensions * own - wanted), abs(closed - wanted)) > 1e-9 * (1.0 + wanted)
        return math.nan if unmet else mean

    def violated(case: tuple[float, int, int, float, float]) -> bool:
        wanted, dimensions, points, moved, widened = case
        mean, variance = np.full(points, met(wanted, dimensions)), np.ones(points)
        if np.isnan(mean).any():
            return True
        mean[0] += moved
        variance[0] *= 2.0**widened
        mpd, informed = pairwise_mpd(mean[:, None], variance[:, None]), information(mean, variance)
        differ = moved != 0.0 or widened != 0.0
        return (mpd > 1e-9) != differ or (informed > 1e-9) != differ

    wanted, points = eighths(1, 80), st.integers(2, 5)
    cases = st.tuples(wanted, st.integers(1, 32), points, eighths(0, 24), eighths(-8, 8))
    compared = "KL not met; MPD or I not 0 where all q are equal, or not positive where two differ"
    return search(compared, cases, violated, draws=200)


D12 = Statement(
    id="D12",
    name="a positive KL does not prevent collapse, and a positive MPD does",
    paper="DU-VAE, section 3.3, equation 10",
    item="du-bn",
    claim="q(z|x) = N(√(2k/D), 1) for all x has KL k and MPD = I = 0; MPD > 0 iff two q differ.",
    constants=_D12,
    wrong={"half": 0.25, "inside": 0.0, "twice": 1.0},
    checks=(_constant_symbolic, _constant_sampled, _constant_search),
)


# --- D12b, a large MPD with hardly any information ------------------------------------------------

_D12B = {"power": 2.0, "share": 1.0}


def outlier_distance(mpd: Any, points: int, c: Constants = _D12B) -> Any:
    """How far one of N unit Gaussians must lie from the others for this MPD."""
    return (mpd * points ** c["power"] / (points - 1)) ** 0.5


def outlier_ceiling(points: Any, c: Constants = _D12B) -> Any:
    """Most information that one point apart from N - 1 others can give: entropy of 1/N, nats."""
    rare = 1.0 / points
    return -c["share"] * (rare * np.log(rare) + (1.0 - rare) * np.log(1.0 - rare))


def outlier_information(mpd: float, points: int) -> float:
    """I(x; z) of N - 1 equal unit Gaussians and one that is apart, by quadrature."""
    apart = float(outlier_distance(mpd, points))
    weights = np.log([1.0 - 1.0 / points, 1.0 / points])

    def log_ratio(z: Array, own: float) -> Array:
        terms = [w + log_normal(z, m, 1.0) for w, m in zip(weights, (0.0, apart), strict=True)]
        return np.asarray(log_normal(z, own, 1.0) - np.logaddexp(*terms))

    near, far = (integral(partial(log_ratio, own=own), own, 1.0) for own in (0.0, apart))
    return float(np.exp(weights) @ [near, far])


def _outlier_symbolic(c: Constants) -> Evidence:
    """All pairs of 2, 3 and 5 points; and the limit of what tells one point in two apart."""
    m = sympy.symbols("m", positive=True)
    pairs = []
    for points in (2, 3, 5):
        squared = m * sympy.Integer(points) ** sympy.Rational(c["power"]) / (points - 1)
        places = [sympy.S.Zero] * (points - 1) + [sympy.sqrt(squared)]
        pairs.append((sum((a - b) ** 2 / 2 for a in places for b in places) / points**2, m))
    halves = -2 * sympy.Rational(c["share"]) * sympy.log(sympy.Rational(1, 2)) / 2
    return equal("MPD of N = 2, 3, 5; entropy of one in two", *pairs, (halves, sympy.log(2)))


def _outlier_sampled(c: Constants) -> Evidence:
    """Random pairs for MPD; and log q(z|x) - log q(z) of 20 points for the information."""
    random = np.random.default_rng(4)
    points, mpd, size = 20, 40.0, 200_000
    apart = float(outlier_distance(mpd, points, c))
    first, second = (apart * (random.integers(0, points, size) == 0) for _ in range(2))
    z = first + random.normal(size=size)
    ratio = log_normal(z, first, 1.0) - log_normal(z, second, 1.0)
    near, far = (
        log_normal(z, m, 1.0) + w for m, w in ((0.0, math.log(0.95)), (apart, math.log(0.05)))
    )
    gained = log_normal(z, first, 1.0) - np.logaddexp(near, far)
    # 29 deviations apart, so that the ceiling is reached
    ceiling = float(outlier_ceiling(points, c))
    return sampled("log-ratio of pairs and to the aggregate, nats", (mpd, ratio), (ceiling, gained))


def _outlier_search(c: Constants) -> Evidence:
    def violated(case: tuple[float, int]) -> bool:
        mpd, points = case
        mean = np.zeros((points, 1))
        mean[0] = float(outlier_distance(mpd, points, c))
        found = pairwise_mpd(mean, np.ones_like(mean))
        ceiling = float(outlier_ceiling(points, c))
        above = outlier_information(mpd, points) > ceiling + 1e-9
        return above or abs(found - mpd) > 1e-9 * (1.0 + mpd)

    cases = st.tuples(eighths(1, 200), st.integers(2, 40))
    return search("MPD of all pairs; information above the entropy of 1/N", cases, violated)


D12B = Statement(
    id="D12b",
    name="a large MPD with little information",
    paper="after DU-VAE, section 3.3",
    item="",
    claim="One of N unit Gaussians, N√(m/(N−1)) away, gives MPD m, yet I ≤ H(1/N) nats.",
    constants=_D12B,
    wrong={"power": 1.0, "share": 0.5},
    checks=(_outlier_symbolic, _outlier_sampled, _outlier_search),
)


# --- D13, the floor of batch norm under the KL ----------------------------------------------------

_D13 = {"half": 0.5, "power": 2.0, "inside": 1.0}


def floor(dimensions: Any, gamma: Any, beta: Any = 0.0, c: Constants = _D13) -> Any:
    """The bound on the average KL of BN-VAE: D (gamma^2 + beta^2) / 2, nats."""
    return c["half"] * dimensions * (gamma ** c["power"] + beta**2)


def above_floor(variance: Array, c: Constants = _D13) -> float:
    """What variances (N, D) add to the floor: half of the sum of E[s - 1 - log s]."""
    return float(0.5 * (variance - c["inside"] - np.log(variance)).sum(-1).mean())


def _floor_symbolic(c: Constants) -> Evidence:
    """A batch of two in one dimension; and s - 1 - log s falls until s = 1, where it is 0."""
    gamma, s1, s2, apart = sympy.symbols("gamma s1 s2 Delta", positive=True)
    beta = sympy.symbols("beta", real=True)
    # Centred means of two points are +-Delta, and their std is the root of the mean square.
    out = [gamma * side * apart / sympy.sqrt(apart**2) + beta for side in (1, -1)]
    kl = sum(m**2 + s - 1 - sympy.log(s) for m, s in zip(out, (s1, s2), strict=True)) / 4
    inside = sympy.Rational(c["inside"])
    rest = sum(s - inside - sympy.log(s) for s in (s1, s2)) / 4
    bound = sympy.Rational(c["half"]) * (gamma ** sympy.Rational(c["power"]) + beta**2)
    each = s1 - inside - sympy.log(s1)
    return equal(
        "average KL of two; slope of σ² − 1 − log σ²; its value at 1",
        (kl, bound + rest),
        (sympy.diff(each, s1), (s1 - 1) / s1),
        (each.subs(s1, 1), 0),
    )


def _floor_sampled(c: Constants) -> Evidence:
    """log q(z|x) - log p(z) of random points: with variances, and at equality."""
    random = np.random.default_rng(5)
    batch, cases = random.normal(size=(16, 4)), []
    for variance in (random.uniform(0.2, 1.5, (16, 4)), np.ones((16, 4))):
        mean, point = normalised(batch, 0.6, 0.2), random.integers(0, 16, 50_000)
        z = mean[point] + np.sqrt(variance[point]) * random.normal(size=(point.size, 4))
        draws = log_normal(z, mean[point], variance[point]) - log_normal(z, 0.0, 1.0)
        cases.append((float(floor(4, 0.6, 0.2, c)) + above_floor(variance, c), draws.sum(-1)))
    return sampled("mean log-ratio to the prior, nats", *cases)


@st.composite
def normed_posteriors(draw: st.DrawFn) -> tuple[Array, Array, float, float]:
    """Raw means (B, D), variances (B, D), gamma and beta."""
    raw, _, gamma, _ = draw(batches())
    size = raw.size
    power = draw(st.lists(st.integers(-6, 6), min_size=size, max_size=size))
    return raw, np.exp2(np.reshape(power, raw.shape) / 2.0), gamma, draw(eighths(-16, 16))


def normed_shown(case: tuple[Array, Array, float, float]) -> str:
    """A case of :func:`normed_posteriors` in words."""
    raw, variance, gamma, beta = case
    return f"raw means {raw.tolist()}, variances {variance.tolist()}, γ = {gamma}, β = {beta}"


def _floor_search(c: Constants) -> Evidence:
    """The library's layer with eps next to nothing."""

    def violated(case: tuple[Array, Array, float, float]) -> bool:
        raw, variance, gamma, beta = case
        mean = library_norm(raw, gamma, beta, eps=1e-30)
        found, bound = average_kl(mean, variance), float(floor(raw.shape[1], gamma, beta, c))
        slack = 1e-9 * (1.0 + found)
        strict = bool((np.abs(np.log2(variance)) >= 0.5).any())
        below = found <= bound + slack if strict else abs(found - bound) > slack
        return below or abs(found - bound - above_floor(variance, c)) > slack

    compared = "average KL of the library's BN-VAE below the floor, or on it with σ² ≠ 1"
    return search(compared, normed_posteriors(), violated, normed_shown, draws=200)


D13 = Statement(
    id="D13",
    name="the floor under the KL of BN-VAE",
    paper="Scale-VAE, connections with batch norm",
    item="scale-bn-bound",
    claim="E KL = D(γ²+β²)/2 + ½ Σ E[σ²−1−log σ²], so at least D(γ²+β²)/2; equal iff σ² ≡ 1.",
    constants=_D13,
    wrong={"half": 1.0, "power": 1.0, "inside": 0.0},
    checks=(_floor_symbolic, _floor_sampled, _floor_search),
)


# --- D13b, the floor of the layer as it is run ----------------------------------------------------

_D13B = {"half": 0.5, "weight": 1.0}


def leaking_floor(raw: Array, gamma: float, beta: float, eps: float, c: Constants = _D13B) -> float:
    """The floor with eps under the root: half of the sum of gamma^2 s^2 / (s^2 + eps) + beta^2."""
    kept = kept_variance(raw, gamma, eps, {**_D11, "weight": c["weight"]})
    return float(c["half"] * (kept + beta**2).sum())


def _leaking_symbolic(c: Constants) -> Evidence:
    """A batch of two in one dimension with unit variances; and the limit of no spread."""
    gamma, apart, eps = sympy.symbols("gamma s epsilon", positive=True)
    beta = sympy.symbols("beta", real=True)
    out = [gamma * side * apart / sympy.sqrt(apart**2 + eps) + beta for side in (1, -1)]
    kl = sum(m**2 for m in out) / 4
    weight = sympy.Rational(c["weight"])
    bound = gamma**2 * apart**2 / (apart**2 + weight * eps) + beta**2
    bound *= sympy.Rational(c["half"])
    none = (sympy.limit(bound, apart, 0), beta**2 / 2)
    return equal("average KL of two with σ² = 1; its limit as s falls to 0", (kl, bound), none)


def _leaking_sampled(c: Constants) -> Evidence:
    """log q(z|x) - log p(z) of random points of a nearly collapsed batch, unit variances."""
    random = np.random.default_rng(6)
    raw = np.array([[-2e-3], [-1e-3], [1e-3], [2e-3]])
    point = random.integers(0, 4, 200_000)
    mean = normalised(raw, 0.6, 0.0, EPS)[point, 0]
    z = mean + random.normal(size=point.size)
    draws = log_normal(z, mean, 1.0) - log_normal(z, 0.0, 1.0)
    return sampled(
        "mean log-ratio to the prior, nats", (leaking_floor(raw, 0.6, 0.0, EPS, c), draws)
    )


def _leaking_search(c: Constants) -> Evidence:
    """The library's layer as it is run."""

    def violated(case: tuple[Array, Array, float, float]) -> bool:
        raw, variance, gamma, beta = case
        mean = library_norm(raw, gamma, beta)
        bound = leaking_floor(raw, gamma, beta, EPS, c)
        found, least = average_kl(mean, variance), average_kl(mean, np.ones_like(mean))
        return found < bound - 1e-9 * (1.0 + bound) or abs(least - bound) > 1e-9 * (1.0 + bound)

    compared = "average KL of the library's BN-VAE, eps = 1e-5, below the corrected floor"
    return search(compared, normed_posteriors(), violated, normed_shown, draws=200)


def _leaking_printed() -> Evidence:
    """The printed floor, for the layer as it is run and unit variances."""

    def found(case: tuple[list[int], int, float]) -> float:
        mean = library_norm(np.array(case[0], dtype=float)[:, None] * 10.0 ** case[1], case[2])
        return average_kl(mean, np.ones_like(mean))

    def shown(case: tuple[list[int], int, float]) -> str:
        values = ", ".join(f"{value * 10.0 ** case[1]:g}" for value in case[0])
        return (
            f"raw means {values}, σ² = 1, γ = {case[2]}, β = 0, eps = 1e-5: average KL "
            f"{found(case):.3g} against {floor(1, case[2]):.3g}"
        )

    cases = st.tuples(
        st.lists(st.integers(-2, 2), min_size=2, max_size=4, unique=True),
        st.integers(-6, 0),
        st.sampled_from([0.6, 0.5, 0.7]),
    )
    return search(
        "average KL of the library's BN-VAE, eps = 1e-5, below half of the printed floor",
        cases,
        lambda case: found(case) < 0.5 * float(floor(1, case[2])),
        shown,
    )


D13B = Statement(
    id="D13b",
    name="the floor of the layer as it is run, with eps",
    paper="Scale-VAE, connections with batch norm, as implemented",
    item="scale-bn-bound",
    claim="With eps under the root E KL is at least ½ Σ (γ²s²/(s²+eps) + β²): no floor as s → 0.",
    constants=_D13B,
    wrong={"half": 1.0, "weight": 0.0},
    checks=(_leaking_symbolic, _leaking_sampled, _leaking_search),
    printed=_leaking_printed,
)


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


def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64)


def flow_of(head: FlowHead, features: Tensor) -> Flowed:
    """q(z|x) without gradients of the parameters."""
    with torch.no_grad():
        q = head(features)
    assert isinstance(q, Flowed)
    return q


def log_determinant(q: Flowed, start: Tensor) -> Tensor:
    """log |det dz^T/dz^0| (B,) at z^0 (B, D), by automatic differentiation of the library's map."""
    start = start.detach().requires_grad_()
    image = q.push(start)
    rows = [
        torch.autograd.grad(image[:, d].sum(), start, retain_graph=True)[0]
        for d in range(start.shape[-1])
    ]
    return torch.linalg.slogdet(torch.stack(rows, dim=-2)).logabsdet


_D14 = {"sign": 1.0, "top": 1.0}

# Two points with flows of their own in two dimensions, for the checks by sampling:
# z1' = a z1 + (1 - a) c, z2' = g(z1) z2 + (1 - g(z1)) tanh(z1), g(z1) = sigmoid(u + v z1).
_MEAN = np.array([[0.5, -1.0], [-0.5, 0.3]])
_VARIANCE = np.array([[0.8, 1.2], [0.4, 1.0]])
_FIRST = np.array([0.9, 0.6])  # a
_SHIFT = np.array([0.3, -1.0])  # c
_BIAS, _SLOPE = np.array([1.0, -0.5]), np.array([0.7, -1.5])  # u, v


def log_sigmoid(raw: Any) -> Any:
    """log(1 / (1 + exp(-raw)))."""
    return -np.logaddexp(0.0, -raw)


def small_flow_density(z: Array, source: Any, flow: Any, power: float = 2.0) -> Array:
    """Log density of z^T at the image of z^0 = z (n, 2), as a chain of conditional Gaussians.

    z1' is Gaussian; given z1' so is z2', with the gate at z1. No Jacobian is taken.

    Args:
        source: which of the two points z^0 comes from.
        flow: whose flow it goes through.
        power: of the gates in the variances.
    """
    mean, variance = _MEAN[source], _VARIANCE[source]
    gate = np.exp(log_sigmoid(_BIAS[flow] + _SLOPE[flow] * z[:, 0]))
    shift = (1.0 - gate) * np.tanh(z[:, 0])
    first, level = _FIRST[flow], (1.0 - _FIRST[flow]) * _SHIFT[flow]
    one = log_normal(
        first * z[:, 0] + level, first * mean[..., 0] + level, first**power * variance[..., 0]
    )
    two = log_normal(
        gate * z[:, 1] + shift, gate * mean[..., 1] + shift, gate**power * variance[..., 1]
    )
    return np.asarray(one + two)


def _entropy_symbolic(c: Constants) -> Evidence:
    """A block in two dimensions whose gates and shifts are any functions; then the sigmoid."""
    z1, z2, raw = sympy.symbols("z1 z2 u", real=True)
    gate1, shift1 = sympy.symbols("g1 m1", positive=True)
    gate2, shift2 = sympy.Function("g2", positive=True)(z1), sympy.Function("m2")(z1)
    image = sympy.Matrix([gate1 * z1 + (1 - gate1) * shift1, gate2 * z2 + (1 - gate2) * shift2])
    determinant = image.jacobian([z1, z2]).det()
    gates = (gate1 * gate2) ** sympy.Rational(c["sign"])
    highest = sympy.limit(1 / (1 + sympy.exp(-raw)), raw, sympy.oo)
    slope = sympy.diff(1 / (1 + sympy.exp(-raw)), raw)
    return equal(
        "Jacobian determinant against the product of gates; largest gate of a sigmoid; its slope",
        (determinant, gates),
        (highest, sympy.Rational(c["top"])),
        (slope, sympy.exp(-raw) / (1 + sympy.exp(-raw)) ** 2),
    )


def _entropy_sampled(c: Constants) -> Evidence:
    """-log density of z^T, against H(z^0|x) and the expected logarithm of the gates."""
    random = np.random.default_rng(7)

    def log_gate(z: Array, point: int) -> Array:
        return np.asarray(log_sigmoid(_BIAS[point] + _SLOPE[point] * z))

    second = [integral(partial(log_gate, point=i), _MEAN[i, 0], _VARIANCE[i, 0]) for i in range(2)]
    gates = (np.log(_FIRST) + second).mean()
    point = random.integers(0, 2, 200_000)
    z = _MEAN[point] + np.sqrt(_VARIANCE[point]) * random.normal(size=(point.size, 2))
    exact = conditional_entropy(_VARIANCE) + c["sign"] * float(gates)
    return sampled("−log q(zᵀ|x), nats", (exact, -small_flow_density(z, point, point)))


def _entropy_search(c: Constants) -> Evidence:
    """The library's flow: determinant by autograd, gates from the layer."""

    def violated(case: tuple[int, int, int, float]) -> bool:
        dimensions, blocks, seed, scale = case
        q = flow_of(random_flow(dimensions, blocks, seed, scale), _normal((2, 3), seed + 1))
        start = _normal((2, dimensions), seed + 2)
        found = log_determinant(q, start).numpy()
        with torch.no_grad():
            gates = q._bijection(start, q._context)[1].sum(-1).numpy()
        ceiling = blocks * dimensions * math.log(c["top"])
        apart = np.abs(found - c["sign"] * gates) > 1e-9 * (1.0 + np.abs(found))
        return bool((apart | (found >= ceiling)).any())

    def shown(case: tuple[int, int, int, float]) -> str:
        return f"D = {case[0]}, {case[1]} blocks, weights of size {case[3]}, seed {case[2]}"

    cases = st.tuples(
        st.integers(1, 3), st.integers(1, 3), st.integers(0, 999), st.sampled_from([0.5, 0.1, 1.0])
    )
    compared = "log-determinant of the library's flow: not the gates' sum, or not negative"
    return search(compared, cases, violated, shown, draws=120)


def _entropy_printed() -> Evidence:
    """A chain of invertible blocks whose scales are only positive."""

    def rise(scales: list[float]) -> float:
        gates = np.reshape(scales, (-1, 1, 1))
        _, variance = chained(np.zeros((1, 1)), np.ones((1, 1)), gates, np.zeros_like(gates))
        return conditional_entropy(variance) - conditional_entropy(np.ones((1, 1)))

    def shown(scales: list[float]) -> str:
        return f"D = 1, blocks with scales {scales}: CE rises by {rise(scales):.4f} nats"

    cases = st.lists(st.integers(-3, 8).map(lambda k: 1.0 + k / 4.0), min_size=1, max_size=4)
    compared = "an autoregressive chain with any positive scales: CE of zᵀ above that of z⁰"
    return search(compared, cases, lambda scales: rise(scales) > 1e-9, shown)


D14 = Statement(
    id="D14",
    name="conditional entropy falls along a flow with sigmoid gates",
    paper="DU-VAE, section 3.4",
    item="du-iaf",
    claim="H(zᵀ|x) = H(z⁰|x) + Σ E log gate: with gates below 1, CE(z⁰) > CE(zᵀ).",
    constants=_D14,
    wrong={"sign": -1.0, "top": 0.5},
    checks=(_entropy_symbolic, _entropy_sampled, _entropy_search),
    printed=_entropy_printed,
)


# --- D15, MPD through a flow without context ------------------------------------------------------

_D15 = {"ratio": 1.0, "power": 2.0}


def _invariance_symbolic(c: Constants) -> Evidence:
    """One dimension: KL of two images under one affine map; and under any map, at a point."""
    m1, m2, shift, z = sympy.symbols("m1 m2 c z", real=True)
    v1, v2, gate = sympy.symbols("v1 v2 g", positive=True)
    log, scale = sympy.log, gate ** sympy.Rational(c["power"])

    def kl(a1: sympy.Expr, b1: sympy.Expr, a2: sympy.Expr, b2: sympy.Expr) -> sympy.Expr:
        return ((b1 + (a1 - a2) ** 2) / b2 - 1 - log(b1) + log(b2)) / 2

    after = kl(gate * m1 + shift, scale * v1, gate * m2 + shift, scale * v2)
    before = sympy.Rational(c["ratio"]) * kl(m1, v1, m2, v2)
    slope = sympy.Function("J", positive=True)(z)
    one, two = (sympy.Function(name, positive=True)(z) for name in ("q1", "q2"))
    point = log(one / slope) - log(two / slope), sympy.Rational(c["ratio"]) * (log(one) - log(two))
    expanded = (sympy.expand_log(after), before), tuple(sympy.expand_log(side) for side in point)
    return equal("KL after one affine map; log-ratio after any map", *expanded)


def _invariance_sampled(c: Constants) -> Evidence:
    """Log-ratios at z^T of random pairs that go through one flow with gates that depend on z."""
    random = np.random.default_rng(8)
    first, second = random.integers(0, 2, (2, 200_000))
    z = _MEAN[first] + np.sqrt(_VARIANCE[first]) * random.normal(size=(first.size, 2))
    draws = small_flow_density(z, first, 0, c["power"]) - small_flow_density(
        z, second, 0, c["power"]
    )
    exact = c["ratio"] * pairwise_mpd(_MEAN, _VARIANCE)
    return sampled("mean log-ratio of pairs at zᵀ, nats", (exact, draws))


def _invariance_search(c: Constants) -> Evidence:
    """The library's flow with one context for all x: log-ratios through its inverse."""

    def violated(case: tuple[int, int, int]) -> bool:
        dimensions, blocks, seed = case
        head = random_flow(dimensions, blocks, seed, 0.5)
        with torch.no_grad():
            context = head.context(_normal((1, 3), seed + 1))
        mean, logvar = _normal((2, 2, dimensions), seed + 2)
        one, two = (
            Flowed(DiagonalNormal(mean[i : i + 1], logvar[i : i + 1]), head.chain, context)
            for i in range(2)
        )
        start = _normal((1, dimensions), seed + 3)
        with torch.no_grad():
            image = one.push(start)
            after = (one.log_prob(image) - two.log_prob(image)).item()
            before = (one.base.log_prob(start) - two.base.log_prob(start)).item()
        return abs(after - c["ratio"] * before) > 1e-8 * (1.0 + abs(before))

    def shown(case: tuple[int, int, int]) -> str:
        return f"D = {case[0]}, {case[1]} blocks, seed {case[2]}"

    cases = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 999))
    compared = "log-ratio of two posteriors before and after the library's flow, one context"
    return search(compared, cases, violated, shown, draws=120)


D15 = Statement(
    id="D15",
    name="MPD through a flow that does not depend on x",
    paper="DU-VAE, section 3.4",
    item="du-iaf",
    claim="If the flow is one bijection for all x, then MPD(zᵀ) = MPD(z⁰).",
    constants=_D15,
    wrong={"ratio": 0.5, "power": 1.0},
    checks=(_invariance_symbolic, _invariance_sampled, _invariance_search),
)


# --- D15b, MPD through a flow with context --------------------------------------------------------

_D15B = {"before": 2.0, "after": 2.0}


def steering(mpd0: Any, mpd1: Any, c: Constants = _D15B) -> tuple[Any, Any]:
    """Two means of z^0 in one dimension, and the shifts of a block with gate 1/2, for two points.

    Args:
        mpd0, mpd1: what MPD shall be of z^0 and of z^T, with unit variances of z^0.

    Returns:
        Differences between the two points: of the means, of the shifts.
    """
    apart = c["before"] * mpd0**0.5
    return apart, c["after"] * mpd1**0.5 - apart


def steered_flow(mpd0: float, mpd1: float, c: Constants = _D15B) -> Flowed:
    """The library's flow, one block in one dimension, built as :func:`steering` says.

    The two points have one-hot features, which the block's networks hand on as gate and shift.
    """
    apart, shift = steering(mpd0, mpd1, c)
    head = Flow(blocks=1, width=2, base=Diagonal()).build(2, 1).double().eval()
    assert isinstance(head, FlowHead)
    made = head.chain.blocks[0].made
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.context.weight.copy_(torch.eye(2))
        made.context.weight.copy_(torch.eye(2))  # type: ignore[union-attr, operator]
        made.second.weight.copy_(torch.eye(2))  # type: ignore[union-attr, operator]
        raw = torch.zeros(2, dtype=torch.float64)  # gate 1/2, as its bias is 0 now
        shifts, means = torch.tensor([[0.0, shift], [0.0, apart]], dtype=torch.float64)
        made.last.weight.copy_(torch.stack([raw, shifts]))  # type: ignore[union-attr, operator]
        head.base.linear.weight.copy_(torch.stack([means, torch.zeros_like(means)]))  # type: ignore[union-attr, operator]
        return flow_of(head, torch.eye(2, dtype=torch.float64))


def gaussian_image(q: Flowed) -> tuple[Array, Array]:
    """Means and variances of z^T where no gate depends on z: images of the mean and of one step."""
    with torch.no_grad():
        middle = q.push(q.base.mean)
        step = q.push(q.base.mean + torch.exp(0.5 * q.base.logvar)) - middle
    return middle.numpy(), step.numpy() ** 2


def _order_symbolic(c: Constants) -> Evidence:
    """MPD of two Gaussians before and after, from the four pairs."""
    m0, m1 = sympy.symbols("m0 m1", positive=True)
    exact = {name: sympy.Rational(value) for name, value in c.items()}
    apart, shift = steering(m0, m1, exact)
    half = sympy.Rational(1, 2)

    def mpd(distance: sympy.Expr, variance: sympy.Expr) -> sympy.Expr:
        return 2 * (distance**2 / (2 * variance)) / 4  # two of the four pairs are apart

    # Exponents 1/2 come as floats; as rationals the roots cancel.
    apart, shift = (sympy.nsimplify(value) for value in (apart, shift))
    after = mpd(half * apart + half * shift, half**2)
    return equal("MPD of z⁰ and of zᵀ of two points", (mpd(apart, sympy.S.One), m0), (after, m1))


def _order_sampled(c: Constants) -> Evidence:
    """Log-ratios of random pairs before and after, up and down."""
    random = np.random.default_rng(9)
    cases = []
    for mpd0, mpd1 in ((1.0, 0.25), (0.25, 2.0)):
        apart, shift = steering(mpd0, mpd1, c)
        first, second = random.integers(0, 2, (2, 100_000))
        z = first * apart + random.normal(size=first.size)
        image = 0.5 * z + 0.5 * first * shift
        after = [0.5 * i * (apart + shift) for i in (first, second)]
        cases.append((mpd0, log_normal(z, first * apart, 1.0) - log_normal(z, second * apart, 1.0)))
        cases.append((mpd1, log_normal(image, after[0], 0.25) - log_normal(image, after[1], 0.25)))
    return sampled("mean log-ratio of pairs at z⁰ and at zᵀ, nats", *cases)


def _order_search(c: Constants) -> Evidence:
    """The library's flow, built to take MPD from one wanted value to another."""

    def violated(case: tuple[float, float]) -> bool:
        q = steered_flow(*case, c)
        found = (
            pairwise_mpd(q.base.mean.numpy(), np.exp(q.base.logvar.numpy())),
            pairwise_mpd(*gaussian_image(q)),
        )
        return any(abs(a - b) > 1e-9 * (1.0 + b) for a, b in zip(found, case, strict=True))

    cases = st.tuples(eighths(0, 64), eighths(0, 64))
    return search("wanted MPD of z⁰ and of zᵀ not met by the library's flow", cases, violated)


D15B = Statement(
    id="D15b",
    name="MPD through a flow that depends on x",
    paper="DU-VAE, section 3.4",
    item="",
    claim="For all m⁰, mᵀ ≥ 0 some block with gate 1/2 has MPD(z⁰) = m⁰ and MPD(zᵀ) = mᵀ.",
    constants=_D15B,
    wrong={"before": 1.0, "after": 1.0},
    checks=(_order_symbolic, _order_sampled, _order_search),
)

STATEMENTS = (D10, D10B, D11, D12, D12B, D13, D13B, D14, D15, D15B)
