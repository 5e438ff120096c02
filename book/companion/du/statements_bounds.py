"""Bounds that do and that do not prevent collapse: dropout, batch norm and single outliers.

The statements of Shen et al. 2021 on what keeps posteriors apart (section 3.3), and the bound on
the KL of BN-VAE as Song et al. 2024 print it. Batch norm is checked on the library's own, which is
the one that trains.
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

from companion.claims import formulas as f
from companion.claims.formulas import ALPHA, Array, log_gaussian
from companion.claims.formulas import gaussian_kl
from companion.claims.statements import Evidence, Formulas, equal, log, sampled, search, stated
from companion.du.statements import pairwise_mpd
from companion.du.statements_dropout import Dropout, kept_variance, mpd_over_masks
from posterior_collapse.posteriors import BatchNormed, DiversityUncertainty

__all__ = ["STATEMENTS"]

EPS = 1e-5  # of PyTorch's batch norm


def average_kl(mean: Array, variance: Array) -> float:
    """E_x KL(q(z|x) || N(0, I)) of (N, D) posteriors."""
    return float(gaussian_kl(mean, variance, 0.0, 1.0).sum(-1).mean())


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


def equal_posteriors(points: int, dimensions: int, b: float, above: float, *mask: float) -> Dropout:
    """N posteriors N(b, alpha + above) in D dimensions; then p, and alpha if it is another."""
    shape = points, dimensions
    return Dropout(np.full(shape, b), np.full(shape, above), *mask)


def collapsed_mpd(variance: Any, keep: Any, alpha: Any = ALPHA, dimensions: int = 1) -> Any:
    """Closed form of the dropped MPD where every posterior is N(b, variance) in each dimension."""
    dropped = 1 - keep
    ratio = (variance - alpha) ** 2 / (alpha * (variance - dropped * alpha))
    return dimensions * dropped * ratio / 2


def _collapsed_symbolic(c: Formulas) -> Evidence:
    p, alpha, above = sympy.symbols("p alpha v", positive=True)
    one = Dropout(np.array([[0 * p]]), np.array([[above]]), p, alpha)
    closed = c.collapsed_mpd(above + alpha, p, alpha)
    return equal("average over the masks of both members", (mpd_over_masks(one), closed))


def _collapsed_sampled(c: Formulas) -> Evidence:
    random, shape = np.random.default_rng(0), (20_000, 32)
    first, second = (
        np.where(random.random(shape) < 0.8, kept_variance(1.0, 0.8), ALPHA) for _ in range(2)
    )
    z = f.gaussian(random, 0.0, first, shape)
    draws = (log_gaussian(z, 0.0, first) - log_gaussian(z, 0.0, second)).sum(-1)
    exact = float(c.collapsed_mpd(1.0, 0.8, dimensions=32))
    return sampled("mean log-ratio at total collapse, D = 32, p = 0.8, nats", (exact, draws))


@st.composite
def collapsed(draw: st.DrawFn) -> tuple[int, int, float, float, float, float]:
    """N, D, shared mean, alpha, variance above alpha, p."""
    alpha = draw(st.sampled_from([ALPHA, 1e-6, 1e-3, 1.0]))
    above = draw(st.sampled_from([1.0, 1e-2, 0.1, 10.0, 100.0])) * draw(eighths(1, 8))
    points, dimensions = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return points, dimensions, draw(eighths(-8, 8)), alpha, above, draw(keeps())


def _collapsed_search(c: Formulas) -> Evidence:
    def sides(case: tuple[int, int, float, float, float, float]) -> tuple[float, float]:
        points, dimensions, b, alpha, above, keep = case
        exact = mpd_over_masks(equal_posteriors(points, dimensions, b, above, keep, alpha))
        return exact, c.collapsed_mpd(alpha + above, keep, alpha, dimensions)

    return f.agree("closed form against all pairs and masks", collapsed(), sides, draws=200)


def _collapsed_printed() -> Evidence:
    """Positive dropped MPD where all posteriors are the prior."""

    def dropped(case: tuple[int, int, float]) -> float:
        return float(mpd_over_masks(equal_posteriors(*case[:2], 0.0, 1.0 - ALPHA, case[2])))

    def shown(case: tuple[int, int, float]) -> str:
        return (
            f"N = {case[0]}, D = {case[1]}, p = {case[2]}, every q = N(0, 1) = prior: "
            f"MPD 0, dropped MPD {dropped(case):.4f}"
        )

    cases = st.tuples(st.integers(1, 4), st.integers(1, 4), keeps())
    compared = "MPD under dropout positive although all posteriors are the prior"
    return search(compared, cases, lambda case: dropped(case) > 1e-9, shown)


D10 = stated(
    "D10",
    Formulas(collapsed_mpd),
    {
        "half": ("ratio / 2", "ratio / 4"),
        "power": ("** 2", ""),
        "whole": ("- dropped", "+ (1 / 2 - dropped)"),
    },
    (_collapsed_symbolic, _collapsed_sampled, _collapsed_search),
    _collapsed_printed,
)


# --- D10b, the mask integrated out ----------------------------------------------------------------


def mask_states(variance: float, keep: float) -> tuple[tuple[float, float], ...]:
    """Probability and variance of a dimension that is kept, and of one that is dropped."""
    return (keep, kept_variance(variance, keep)), (1.0 - keep, ALPHA)


def dropped_kl(distance: Any, variance: float, keep: float) -> Any:
    """KL between two posteriors of one variance, averaged over the masks of both."""
    states = mask_states(variance, keep)
    pairs = ((p * q, gaussian_kl(0.0, v, distance, w)) for p, v in states for q, w in states)
    return sum(chance * kl for chance, kl in pairs)


def mixture_kl(distance: float, variance: float, keep: float) -> float:
    """KL between two posteriors of one variance whose masks are integrated out, by quadrature.

    Each is the mixture p N(mu, (variance - alpha) / p + alpha) + (1 - p) N(mu, alpha).
    """
    states = mask_states(variance, keep)

    def log_density(z: Array, mean: float) -> Array:
        return np.asarray(
            np.logaddexp(*(math.log(p) + log_gaussian(z, mean, v) for p, v in states))
        )

    def log_ratio(z: Array) -> Array:
        return log_density(z, 0.0) - log_density(z, distance)

    return sum(p * integral(log_ratio, 0.0, v) for p, v in states)


def mixture_bound(distance: Any, variance: Any, keep: Any, alpha: Any = ALPHA) -> Any:
    """A bound on :func:`mixture_kl` that grows with distance more slowly than the plain KL."""
    wide = kept_variance(variance, keep, alpha)
    twice = (variance + distance**2) / wide
    entropy = ((1 - keep) * (log(wide) - log(alpha)) - 1) / 2
    return twice / 2 + entropy - log(keep)


def _mixture_symbolic(c: Formulas) -> Evidence:
    """Gaussian moments: E log of the own component minus E log of the other's wide one."""
    p, alpha, above, distance = sympy.symbols("p alpha v Delta", positive=True)
    s, wide = above + alpha, above / p + alpha
    log = sympy.log
    moments = sum(
        weight * (-(1 + log(v)) / 2 - log(p) + log(wide) / 2 + (v + distance**2) / (2 * wide))
        for weight, v in ((p, wide), (1 - p, alpha))
    )
    bound = c.mixture_bound(distance, s, p, alpha)
    slopes = 1 / s - 1 / wide, (1 - p) * above / (p * s * wide)
    return equal("the bound from Gaussian moments; slopes in Δ²", (moments, bound), slopes)


def _mixture_sampled(c: Formulas) -> Evidence:
    """The bound is the mean of log q(z | own mask) - log(p N(z; the other, kept))."""
    random, cases = np.random.default_rng(1), []
    for distance, variance, keep in ((4.0, 0.5, 0.8), (1.0, 1.0, 0.3)):
        wide = kept_variance(variance, keep)
        own = np.where(random.random(200_000) < keep, wide, ALPHA)
        z = f.gaussian(random, 0.0, own, own.size)
        draws = log_gaussian(z, 0.0, own) - log_gaussian(z, distance, wide) - math.log(keep)
        cases.append((float(c.mixture_bound(distance, variance, keep)), draws))
    return sampled("mean log-ratio to the other's kept component, nats", *cases)


_MIXTURES = st.tuples(eighths(0, 64), eighths(1, 16), keeps())  # distance, variance and p


def _mixture_search(c: Formulas) -> Evidence:
    def violated(case: tuple[float, float, float]) -> bool:
        exact = mixture_kl(*case)
        return exact > float(c.mixture_bound(*case)) + 1e-9 * (1.0 + exact)

    return search("KL of the mixtures by quadrature above the bound", _MIXTURES, violated)


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
    return search(compared, _MIXTURES, violated, shown)


D10B = stated(
    "D10b",
    Formulas(mixture_bound),
    {
        "half": ("twice / 2", "twice / 4"),
        "own": ("- 1) / 2", "- 1)"),
        "lost": ("- log(keep)", ""),
    },
    (_mixture_symbolic, _mixture_sampled, _mixture_search),
    _mixture_printed,
)


# --- D11, what batch norm leaves of the variance --------------------------------------------------


def normalised(mean: Array, gamma: Any, beta: Any = 0.0, eps: Any = 0.0, m: Any = np) -> Array:
    """Batch norm of means (B, D) with scale and shift, each () or (D,)."""
    centred = mean - f.average(mean, 0)
    spread = f.average(centred**2, 0) + eps
    root = np.sqrt(spread) if m is np else np.vectorize(m.sqrt, otypes=[object])(spread)
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


def _norm_symbolic(c: Formulas) -> Evidence:
    gamma, eps = sympy.symbols("gamma epsilon", positive=True)
    beta, *m = sympy.symbols("beta m:3", real=True)
    batch = np.array(m)[:, None]
    out = normalised(batch, gamma, beta, eps, sympy)
    claimed = c.normed_variance(batch, gamma, eps)[0]
    level = out.sum() / 3, beta
    return equal(
        "mean and variance of three normalised means",
        level,
        (((out - beta) ** 2).sum() / 3, claimed),
    )


def _norm_sampled(c: Formulas) -> Evidence:
    random = np.random.default_rng(2)
    batch, cases = random.normal(size=(8, 1)) * 0.01, []
    for eps in (0.0, EPS, 1e-3):
        out = normalised(batch, 0.6, 0.2, eps)[random.integers(0, 8, 100_000), 0]
        cases.append((float(c.normed_variance(batch, 0.6, eps)[0]), (out - 0.2) ** 2))
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


def _norm_search(c: Formulas) -> Evidence:
    """The layer of the library's DU-VAE, with its scales brought to gamma."""

    def sides(case: tuple[Array, Array, float, float]) -> tuple[Array, Array]:
        raw, learned, gamma, eps = case
        head: Any = DiversityUncertainty(gamma, eps=eps).build(1, len(learned)).double()
        with torch.no_grad():
            head.scale.weight.copy_(torch.from_numpy(learned))
            scale = head.scale()
            out = head.norm(torch.from_numpy(raw), scale).numpy()
        size = np.abs(scale.numpy())
        claimed = c.normed_variance(raw, size, eps)
        total = (size**2).sum(), len(learned) * gamma**2
        return np.append(out.var(0), total[0]), np.append(claimed, total[1])

    compared = "batch norm of the library's DU-VAE against γ²s²/(s²+eps)"
    shown = "means {}, scales {}, γ {}, eps {}"
    return f.agree(compared, batches(), sides, shown, draws=200)


D11 = stated(
    "D11",
    Formulas(normed_variance),
    {
        "power": ("gamma**2", "gamma"),
        "weight": ("(variance + eps)", "variance"),
        "ddof": ("/ len(mean)", "/ (len(mean) - 1)"),
    },
    (_norm_symbolic, _norm_sampled, _norm_search),
)


# --- D12, a positive KL without information -------------------------------------------------------


def constant_mean(kl: Any, dimensions: Any) -> Any:
    """The mean, in every dimension, of the constant posterior N(b, 1) with this KL."""
    return f.root(2 * kl / dimensions)


def constant_kl(mean: Any, variance: Any, dimensions: Any) -> Any:
    """KL of the constant posterior N(mean, variance) in each of D dimensions."""
    return dimensions * (mean**2 + variance - 1 - log(variance)) / 2


def _constant_symbolic(c: Formulas) -> Evidence:
    t, b = sympy.symbols("t b", real=True)
    s, k, dims = sympy.symbols("s k D", positive=True)
    log_ratio = sympy.expand(((b + sympy.sqrt(s) * t) ** 2 - t**2 - sympy.log(s)) / 2)
    weight = sympy.exp(-(t**2) / 2) / sympy.sqrt(2 * sympy.pi)
    # One integral for each power of t is quicker than one of the whole.
    moments = [sympy.integrate(weight * t**n, (t, -sympy.oo, sympy.oo)) for n in range(3)]
    definition = sum(log_ratio.coeff(t, n) * moments[n] for n in range(3))
    closed, wanted = c.constant_kl(b, s, 1), dims * c.constant_mean(k, dims) ** 2 / 2
    compared = "KL of N(b, s) by integration; KL of the mean chosen"
    return equal(compared, (definition, closed), (wanted, k))


def _constant_sampled(c: Formulas) -> Evidence:
    random, cases = np.random.default_rng(3), []
    chosen = float(c.constant_mean(7.84, 32))
    for mean, variance, dimensions in ((chosen, 1.0, 32), (0.3, 0.5, 4)):
        z = f.gaussian(random, mean, variance, (20_000, dimensions))
        own, prior = log_gaussian(z, mean, variance), log_gaussian(z, 0.0, 1.0)
        exact = float(c.constant_kl(mean, variance, dimensions))
        cases.append((7.84 if dimensions == 32 else exact, (own - prior).sum(-1)))
    same = np.logaddexp.reduce([own.sum(-1)] * 5) - math.log(5.0)  # the mixture of five
    return sampled("log-ratio to prior and to aggregate, nats", *cases, (0.0, own.sum(-1) - same))


def information(mean: Array, variance: Array) -> float:
    """I(x; z) of N posteriors in one dimension, means and variances (N,), by quadrature."""

    def log_ratio(z: Array, own: int) -> Array:
        terms = log_gaussian(z, mean[:, None], variance[:, None])
        return np.asarray(terms[own] - np.logaddexp.reduce(terms) + math.log(len(mean)))

    parts = [integral(partial(log_ratio, own=i), mean[i], variance[i]) for i in range(len(mean))]
    return float(np.mean(parts))


def _constant_search(c: Formulas) -> Evidence:
    """A wanted KL is met with MPD = I = 0; another mean or variance makes both positive."""

    def violated(case: tuple[float, int, int, float, float]) -> bool:
        wanted, dimensions, points, moved, widened = case
        b = float(c.constant_mean(wanted, dimensions))
        own = integral(lambda z: log_gaussian(z, b, 1.0) - log_gaussian(z, 0.0, 1.0), b, 1.0)
        closed = float(c.constant_kl(b, 1.0, dimensions))
        if max(abs(dimensions * own - wanted), abs(closed - wanted)) > 1e-9 * (1.0 + wanted):
            return True
        mean, variance = np.full(points, b), np.ones(points)
        mean[0] += moved
        variance[0] *= 2.0**widened
        mpd, informed = pairwise_mpd(mean[:, None], variance[:, None]), information(mean, variance)
        differ = moved != 0.0 or widened != 0.0
        return (mpd > 1e-9) != differ or (informed > 1e-9) != differ

    wanted, points = eighths(1, 80), st.integers(2, 5)
    cases = st.tuples(wanted, st.integers(1, 32), points, eighths(0, 24), eighths(-8, 8))
    compared = "KL not met; MPD or I not 0 where all q are equal, or not positive where two differ"
    return search(compared, cases, violated, draws=200)


D12 = stated(
    "D12",
    Formulas(constant_kl, constant_mean),
    {"half": (") / 2", ") / 4"), "inside": ("- 1 - log(", "- log("), "twice": ("2 * kl", "kl")},
    (_constant_symbolic, _constant_sampled, _constant_search),
)


# --- D12b, a large MPD with hardly any information ------------------------------------------------


def outlier_distance(mpd: Any, points: Any) -> Any:
    """How far one of N unit Gaussians must lie from the others for this MPD."""
    return f.root(mpd * points**2 / (points - 1))


def outlier_ceiling(points: Any) -> Any:
    """Most information that one point apart from N - 1 others can give: entropy of 1/N, nats."""
    rare = 1 / points
    return -(rare * log(rare) + (1 - rare) * log(1 - rare))


def outlier_information(mpd: float, points: int) -> float:
    """I(x; z) of N - 1 equal unit Gaussians and one that is apart, by quadrature."""
    distance = float(outlier_distance(mpd, points))
    weights = np.log([1.0 - 1.0 / points, 1.0 / points])

    def log_ratio(z: Array, own: float) -> Array:
        terms = [w + log_gaussian(z, m, 1.0) for w, m in zip(weights, (0.0, distance), strict=True)]
        return np.asarray(log_gaussian(z, own, 1.0) - np.logaddexp(*terms))

    near, far = (integral(partial(log_ratio, own=own), own, 1.0) for own in (0.0, distance))
    return float(np.exp(weights) @ [near, far])


def _outlier_symbolic(c: Formulas) -> Evidence:
    m, pairs = sympy.symbols("m", positive=True), []
    for points in (2, 3, 5):
        distance = c.outlier_distance(m, sympy.Integer(points))
        places = [sympy.S.Zero] * (points - 1) + [distance]
        pairs.append((sum((a - b) ** 2 / 2 for a in places for b in places) / points**2, m))
    halves = c.outlier_ceiling(sympy.Integer(2)), sympy.log(2)
    return equal("MPD of N = 2, 3, 5; entropy of one in two", *pairs, halves)


def _outlier_sampled(c: Formulas) -> Evidence:
    random, points, size = np.random.default_rng(4), 20, 200_000
    distance = float(c.outlier_distance(40.0, points))
    first, second = (distance * (random.integers(0, points, size) == 0) for _ in range(2))
    z = first + random.normal(size=size)
    own = log_gaussian(z, first, 1.0)
    weights = (0.0, math.log(0.95)), (distance, math.log(0.05))
    gained = own - np.logaddexp(*(log_gaussian(z, m, 1.0) + weight for m, weight in weights))
    # 29 deviations apart, so that the ceiling is reached
    ceiling = float(c.outlier_ceiling(points))
    pairs = (40.0, own - log_gaussian(z, second, 1.0)), (ceiling, gained)
    return sampled("log-ratio of pairs and to the aggregate, nats", *pairs)


def _outlier_search(c: Formulas) -> Evidence:
    def violated(case: tuple[float, int]) -> bool:
        mpd, points = case
        mean = np.zeros((points, 1))
        mean[0] = float(c.outlier_distance(mpd, points))
        ceiling = float(c.outlier_ceiling(points))
        above = outlier_information(mpd, points) > ceiling + 1e-9
        return above or abs(pairwise_mpd(mean, np.ones_like(mean)) - mpd) > 1e-9 * (1.0 + mpd)

    cases = st.tuples(eighths(1, 200), st.integers(2, 40))
    return search("MPD of all pairs; information above the entropy of 1/N", cases, violated)


D12B = stated(
    "D12b",
    Formulas(outlier_distance, outlier_ceiling),
    {"power": ("points**2", "points"), "share": ("-(rare", "-0.5 * (rare")},
    (_outlier_symbolic, _outlier_sampled, _outlier_search),
)


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


def _floor_symbolic(c: Formulas) -> Evidence:
    """A batch of two in one dimension; and s - 1 - log s falls until s = 1, where it is 0."""
    gamma, s1, s2, distance = sympy.symbols("gamma s1 s2 Delta", positive=True)
    beta = sympy.symbols("beta", real=True)
    out = normalised(np.array([[distance], [-distance]]), gamma, beta, 0, sympy)
    variance = np.array([[s1], [s2]])
    kl = f.average(gaussian_kl(out, variance, 0, 1), 0)[0]
    bound, each = c.floor(1, gamma, beta) + c.above_floor(variance), c.above(s1)
    return equal(
        "average KL of two; slope of σ² − 1 − log σ²; its value at 1",
        (kl, bound),
        (sympy.diff(each, s1), (s1 - 1) / s1),
        (each.subs(s1, 1), 0),
    )


def _floor_sampled(c: Formulas) -> Evidence:
    random = np.random.default_rng(5)
    batch, cases = random.normal(size=(16, 4)), []
    for variance in (random.uniform(0.2, 1.5, (16, 4)), np.ones((16, 4))):
        mean, point = normalised(batch, 0.6, 0.2), random.integers(0, 16, 50_000)
        z = f.gaussian(random, mean[point], variance[point])
        draws = log_gaussian(z, mean[point], variance[point]) - log_gaussian(z, 0.0, 1.0)
        exact = c.floor(4, 0.6, 0.2) + c.above_floor(variance)
        cases.append((float(exact), draws.sum(-1)))
    return sampled("mean log-ratio to the prior, nats", *cases)


Normed = tuple[Array, Array, float, float]
_NORMED = "raw means {}, variances {}, γ = {}, β = {}"


@st.composite
def normed_posteriors(draw: st.DrawFn) -> Normed:
    """Raw means (B, D), variances (B, D), gamma and beta."""
    raw, _, gamma, _ = draw(batches())
    power = f.integers(draw, -6, 6, raw.shape)
    return raw, np.exp2(power / 2.0), gamma, draw(eighths(-16, 16))


def _floor_search(c: Formulas) -> Evidence:
    """The library's layer with eps next to nothing."""

    def violated(case: Normed) -> bool:
        raw, variance, gamma, beta = case
        mean = library_norm(raw, gamma, beta, eps=1e-30)
        kl, bound = average_kl(mean, variance), float(c.floor(raw.shape[1], gamma, beta))
        slack = 1e-9 * (1.0 + kl)
        strict = bool((np.abs(np.log2(variance)) >= 0.5).any())
        below = kl <= bound + slack if strict else abs(kl - bound) > slack
        return below or abs(kl - bound - c.above_floor(variance)) > slack

    compared = "average KL of the library's BN-VAE below the floor, or on it with σ² ≠ 1"
    return search(compared, normed_posteriors(), violated, _NORMED, draws=200)


D13 = stated(
    "D13",
    Formulas(floor, above, above_floor),
    {
        "half": ("beta**2) / 2", "beta**2)"),
        "power": ("gamma**2", "gamma"),
        "inside": ("- 1 - log(", "- log("),
    },
    (_floor_symbolic, _floor_sampled, _floor_search),
)


# --- D13b, the floor of the layer as it is run ----------------------------------------------------


def leaking_floor(raw: Array, gamma: Any, beta: Any, eps: Any) -> Any:
    """The floor with eps under the root: half of the sum of gamma^2 s^2 / (s^2 + eps) + beta^2."""
    return (normed_variance(raw, gamma, eps) + beta**2).sum() / 2


def _leaking_symbolic(c: Formulas) -> Evidence:
    gamma, s, eps = sympy.symbols("gamma s epsilon", positive=True)
    beta, raw = sympy.symbols("beta", real=True), np.array([[s], [-s]])
    kl = (normalised(raw, gamma, beta, eps, sympy) ** 2).sum() / 4
    bound = c.leaking_floor(raw, gamma, beta, eps)
    none = (sympy.limit(bound, s, 0), beta**2 / 2)
    return equal("average KL of two with σ² = 1; its limit as s falls to 0", (kl, bound), none)


def _leaking_sampled(c: Formulas) -> Evidence:
    """log q(z|x) - log p(z) of random points of a nearly collapsed batch, unit variances."""
    random = np.random.default_rng(6)
    raw = np.array([[-2e-3], [-1e-3], [1e-3], [2e-3]])
    mean = normalised(raw, 0.6, 0.0, EPS)[random.integers(0, 4, 200_000), 0]
    z = f.gaussian(random, mean, 1.0)
    pair = c.leaking_floor(raw, 0.6, 0.0, EPS), log_gaussian(z, mean, 1.0)
    return sampled(
        "mean log-ratio to the prior, nats", (pair[0], pair[1] - log_gaussian(z, 0.0, 1.0))
    )


def _leaking_search(c: Formulas) -> Evidence:
    """The library's layer as it is run."""

    def violated(case: Normed) -> bool:
        raw, variance, gamma, beta = case
        mean = library_norm(raw, gamma, beta)
        bound = float(c.leaking_floor(raw, gamma, beta, EPS))
        kl, least = average_kl(mean, variance), average_kl(mean, np.ones_like(mean))
        slack = 1e-9 * (1.0 + bound)
        return kl < bound - slack or abs(least - bound) > slack

    compared = "average KL of the library's BN-VAE, eps = 1e-5, below the corrected floor"
    return search(compared, normed_posteriors(), violated, _NORMED, draws=200)


def _leaking_printed() -> Evidence:
    """The printed floor, for the layer as it is run and unit variances."""

    def kl(case: tuple[list[int], int, float]) -> float:
        mean = library_norm(np.array(case[0], dtype=float)[:, None] * 10.0 ** case[1], case[2])
        return average_kl(mean, np.ones_like(mean))

    def shown(case: tuple[list[int], int, float]) -> str:
        values = ", ".join(f"{value * 10.0 ** case[1]:g}" for value in case[0])
        return (
            f"raw means {values}, σ² = 1, γ = {case[2]}, β = 0, eps = 1e-5: average KL "
            f"{kl(case):.3g} against {floor(1, case[2]):.3g}"
        )

    raw = st.lists(st.integers(-2, 2), min_size=2, max_size=4, unique=True)
    cases = st.tuples(raw, st.integers(-6, 0), st.sampled_from([0.6, 0.5, 0.7]))
    compared = "average KL of the library's BN-VAE, eps = 1e-5, below half of the printed floor"
    return search(compared, cases, lambda case: kl(case) < 0.5 * floor(1, case[2]), shown)


D13B = stated(
    "D13b",
    Formulas(normed_variance, leaking_floor),
    {"half": (".sum() / 2", ".sum()"), "weight": ("(variance + eps)", "variance")},
    (_leaking_symbolic, _leaking_sampled, _leaking_search),
    _leaking_printed,
)

STATEMENTS = (D10, D10B, D11, D12, D12B, D13, D13B)
