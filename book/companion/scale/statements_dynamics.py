"""Scale-VAE: where its means go, with factors of their own and with one that is shared.

None of these statements is in the paper.  They tell what the objective of Song et al. 2024 does
to the scale of the means, in algorithm 1's two phases.

Notation, for one dimension: mu are the unscaled means, with the second moment rho^2 over the
data; s = f rho is the scale of what the decoder sees; sigma^2 is the posterior's variance; lambda
is the weight of the KL.  R(s) is the reconstruction E log p(x|z) as a function of s, with all else
either held or at its best for that s.  r = s^2 / (s^2 + sigma^2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import sympy
import torch
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from torch import Tensor

from companion.claims.mixtures import ROUNDING, Array, apart, log_normal
from companion.claims.statements import Constants, Evidence, Statement, equal, sampled, search
from posterior_collapse import gaussian
from posterior_collapse.layers import Progress, begin_update
from posterior_collapse.posteriors import OwnEpochs, OwnThroughout, Scaled, ScaledHead

__all__ = [
    "STATEMENTS",
    "Balance",
    "Trained",
    "balance",
    "epoch_map",
    "factor_bound",
    "path",
    "slopes",
    "train_linear",
]

_DRAWS = 100_000
_INNER_DRAWS = 60  # of searches in which every example is an optimisation


# --- S8, factors of their own ---------------------------------------------------------------------


def _s8_symbolic(c: Constants) -> Evidence:
    """Three points with two features: how means and their KL change along the weights."""
    w, h = sympy.symbols("w:2", real=True), sympy.symbols("h:6", real=True)
    wanted, weight = sympy.symbols("d lambda", positive=True)
    mean = [w[0] * h[2 * i] + w[1] * h[2 * i + 1] for i in range(3)]
    centre = sum(mean) / 3
    std = sympy.sqrt(sum((m - centre) ** 2 for m in mean) / 2)

    def along(expression: sympy.Expr) -> sympy.Expr:
        return sum(w[k] * sympy.diff(expression, w[k]) for k in range(2))

    scaled = [(along(wanted * m / std ** sympy.Rational(c["power"])), sympy.S.Zero) for m in mean]
    square = sum(m**2 for m in mean) / 3
    pulled = 2 * along(-weight * square / 2), -sympy.Rational(c["rate"]) * weight * square
    return equal("change of f μ and of the KL along the weights, three points", *scaled, pulled)


def _s8_sampled(c: Constants) -> Evidence:
    """Slope of the objective along the weights, by the score function, for a linear decoder."""
    random = np.random.default_rng(11)
    mean = 0.3 + 0.5 * random.normal(size=32)
    weight, sd, noise, wanted = 0.7, 0.6, 0.5, 0.9
    code = wanted * mean / mean.std(ddof=1) ** c["power"]
    x = 1.4 * mean + 0.2 * random.normal(size=32)
    row = random.integers(0, 32, _DRAWS)
    eps = random.normal(size=(2, _DRAWS))
    log_likelihood = log_normal(x[row], 0.8 * (code[row] + sd * eps[0]), noise)
    score = eps[0] / sd * (1.0 - c["power"]) * code[row]  # (1 - power) f mu is its slope
    paid = weight * (mean[row] + sd * eps[1]) * mean[row]
    exact = -0.5 * c["rate"] * weight * float((mean**2).mean())
    return sampled(
        "slope of the objective in log ‖w‖, nats", (exact, score * log_likelihood - paid)
    )


def _own_slopes(seed: int, weight: float) -> tuple[Array, Array]:
    """<w_d, dL/dw_d> by automatic differentiation of the module that trains, and E mu_d^2."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    head = ScaledHead(4, 2, Scaled(0.8, OwnThroughout())).double()
    head.linear.weight.data.copy_(normal(4, 4))
    features, target, decoder, eps = normal(9, 4), normal(9, 3), normal(2, 3), normal(9, 2)
    q = head.train()(features)
    z = q.mean + torch.exp(0.5 * q.logvar) * eps
    reconstruction = -(target - torch.tanh(z @ decoder)).square().sum(-1)
    kl = gaussian.kl_to_standard_normal(q.unscaled.mean, q.unscaled.logvar)
    (reconstruction - weight * kl).mean().backward()
    rows, slope = head.linear.weight[:2], head.linear.weight.grad
    assert slope is not None
    squares = q.unscaled.mean.square().mean(0)
    return (rows * slope[:2]).sum(1).detach().numpy(), squares.detach().numpy()


def _s8_search(c: Constants) -> Evidence:
    """The module that trains, behind a decoder that is not linear."""

    def violated(case: tuple[int, int]) -> bool:
        weight = case[1] / 4.0
        slope, squares = _own_slopes(case[0], weight)
        claimed = -0.5 * c["rate"] * weight * squares
        return bool(np.any(np.abs(slope - claimed) > ROUNDING * (1.0 + squares)))

    cases = st.tuples(st.integers(0, 10_000), st.integers(0, 8))
    told = "gradient along the weights by automatic differentiation"
    return search(told, cases, violated, draws=150)


S8 = Statement(
    id="S8",
    name="means shrink while every batch has its own factor",
    paper="on algorithm 1, not in the paper",
    item="",
    claim="With f = des_std / Std(μ) of the batch, the reconstruction’s gradient is orthogonal to "
    "the weights w that give μ, so that d‖w‖²/dt = −2 λ E μ² under gradient flow: in this phase, "
    "and in this phase only, no size of the means other than 0 is at rest.",
    constants={"power": 1.0, "rate": 2.0},
    wrong={"power": 0.5, "rate": 1.0},
    checks=(_s8_symbolic, _s8_sampled, _s8_search),
)


# --- S9, a factor that is shared ------------------------------------------------------------------


class Balance(NamedTuple):
    """The fixed point of the epoch map for a linear decoder N(w z, noise^2), x of spread v."""

    factor: float  # f*
    rho: float  # of the unscaled means
    variance: float  # sigma^2
    decoder: float  # w

    @property
    def share(self) -> float:
        """r: the part of z that its mean makes up."""
        s = self.factor * self.rho
        return s * s / (s * s + self.variance)


def balance(v: float, noise: float, des_std: float, weight: float = 1.0) -> Balance:
    """Everything at its best with s = des_std; needs nothing but one root.

    The decoder is w = v s / (s^2 + sigma^2); the variance solves
    w^2 sigma^2 / noise^2 = lambda (1 - sigma^2), and rho^2 is 1 - sigma^2 (S10).
    """

    def off(variance: float) -> float:
        w = v * des_std / (des_std**2 + variance)
        return w * w * variance / noise**2 - weight * (1.0 - variance)

    variance = float(brentq(off, 1e-12, 1.0, xtol=1e-15))
    rho = math.sqrt(1.0 - variance)
    w = v * des_std / (des_std**2 + variance)
    return Balance(des_std / rho, rho, variance, w)


class Slopes(NamedTuple):
    """Slope of log f after an epoch in log f before it, at the fixed point of a linear decoder."""

    held: float  # the decoder does not move within the epoch: 2 r - 1
    follows: float  # it is at its best throughout: 1 - 1 / (2 r)


def slopes(share: float) -> Slopes:
    """Both, from r."""
    return Slopes(2.0 * share - 1.0, 1.0 - 0.5 / share)


def epoch_map(factor: float, fixed: Balance) -> float:
    """The next factor where decoder and variance are held at the fixed point and means settle.

    The mean that is best at f is s = f^2 A / (f^2 B + lambda) for two constants, which gives
    f r + (1 - r) f*^2 / f: a mean of f and f*^2 / f.
    """
    return fixed.share * factor + (1.0 - fixed.share) * fixed.factor**2 / factor


def path(start: float, fixed: Balance, epochs: int) -> list[float]:
    """Factors of an epoch after the other, the first one included."""
    found = [start]
    for _ in range(epochs):
        found.append(epoch_map(found[-1], fixed))
    return found


def _s9_symbolic(c: Constants) -> Evidence:
    """KL in terms of what the decoder sees; slopes of the map by implicit differentiation."""
    m, x, q = sympy.symbols("m x q", real=True)
    f, s, v, n, w, t = sympy.symbols("f s v n w t", positive=True)
    price, top, plus = (sympy.Rational(c[name]) for name in ("price", "top", "plus"))
    density = (x - m / f) ** 2, x**2
    log_ratio = (-density[0] / (2 * v) - sympy.log(v) / 2) + density[1] / 2
    normal = sympy.exp(-density[0] / (2 * v)) / sympy.sqrt(2 * sympy.pi * v)
    rate = sympy.integrate(sympy.expand(log_ratio) * normal, (x, -sympy.oo, sympy.oo))
    claimed = (m**2 / f**price + v - 1 - sympy.log(v)) / 2

    def claim(slope: sympy.Expr) -> sympy.Expr:
        """1 - 2 / (1 + kappa) from dR/ds."""
        kappa = -s * sympy.diff(slope, s) / slope
        return 1 - top / (plus + kappa)

    held = w * (t - w * s) / n**2
    best = t**2 * s * v / (n**2 * (s**2 + v) ** 2)
    r = s**2 / (s**2 + v)
    at_best = claim(held).subs(w, t * s / (s**2 + v))
    next_ = r * f + (1 - r) * q**2 / f
    return equal(
        "KL in terms of f μ; slope for a linear decoder that is held, at its best; and of its map",
        (rate, claimed),
        (at_best, 2 * r - 1),
        (claim(best), 1 - 1 / (2 * r)),
        (sympy.diff(next_, f).subs(q, f), at_best),
    )


_S9_CASE = (1.3, 0.6, 0.7, 0.8)  # v, noise, des_std and lambda


def _s9_sampled(c: Constants) -> Evidence:
    """Gain and price of the means at the fixed point, and the curvature, from draws of z."""
    v, noise, wanted, weight = _S9_CASE
    fixed = balance(*_S9_CASE)
    random = np.random.default_rng(12)
    unit, eps = random.normal(size=(2, _DRAWS))
    code, sd = wanted * unit, math.sqrt(fixed.variance)
    rest = v * unit - fixed.decoder * (code + sd * eps)
    gain = rest * fixed.decoder * code / noise**2  # d log p(x|z) / d log s
    price = weight * (fixed.rho * unit + sd * random.normal(size=_DRAWS)) * fixed.rho * unit
    paid = weight * wanted**2 / fixed.factor ** c["price"]
    slope = v * wanted * fixed.variance * fixed.decoder / (wanted**2 + fixed.variance) / noise**2
    kappa = c["top"] / (1.0 - slopes(fixed.share).held) - c["plus"]
    return sampled(
        "slope of reconstruction and of KL in log s against λ s²/f², nats; and κ",
        (paid, gain),
        (paid, price),
        (kappa, (fixed.decoder * unit) ** 2 * wanted / noise**2 / (slope / wanted)),
    )


class _Family(NamedTuple):
    """dR/ds as a function of s; concave where kappa is positive."""

    name: str
    slope: Callable[[float], float]


def _families(v: float, noise: float, variance: float, at: float) -> list[_Family]:
    """A linear decoder held at its best for s = ``at``; one that follows; a gain that fades."""
    w = v * at / (at * at + variance)
    return [
        _Family("held", lambda s: w * (v - w * s) / noise**2),
        _Family("follows", lambda s: v * v * s * variance / (noise * (s * s + variance)) ** 2),
        _Family("fades", lambda s: v * math.exp(-s / noise)),
    ]


def _settled(family: _Family, factor: float, weight: float, near: float) -> float:
    """The s at which gain and price are equal for a factor, near a known solution."""

    def off(s: float) -> float:
        return family.slope(s) - weight * s / factor**2

    return float(brentq(off, 0.9 * near, 1.1 * near, xtol=1e-15, rtol=1e-14))


def _s9_search(c: Constants) -> Evidence:
    """Numerical slope of the map of des_std f / s(f), and the way back from f*/2 and 4 f*."""

    def cases_of(case: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
        return case[0] / 4.0, case[1] / 4.0, case[2] / 8.0, case[3] / 8.0

    def slope_is_wrong(family: _Family, wanted: float, weight: float) -> bool:
        gain = wanted * family.slope(wanted)
        fixed = math.sqrt(weight * wanted**2 / gain)  # rho* = root of gain / lambda
        if apart(gain, weight * wanted**2 / fixed ** c["price"]):
            return True
        step = 1e-4
        ends = [math.log(family.slope(wanted * math.exp(k * step))) for k in (-1, 1)]
        kappa = (ends[0] - ends[1]) / (2.0 * step)
        if kappa < -0.5:
            return False  # no maximum, or nearly none: the means do not settle there
        after = [
            math.log(wanted * f / _settled(family, f, weight, wanted))
            for f in (fixed * math.exp(-step), fixed * math.exp(step))
        ]
        found = (after[1] - after[0]) / (2.0 * step)
        claimed = 1.0 - c["top"] / (c["plus"] + kappa)
        stable = abs(found) < 1.0
        unclear = abs(kappa) < 1e-3
        return abs(found - claimed) > 1e-4 or (stable != (kappa > 0.0) and not unclear)

    def violated(case: tuple[int, int, int, int]) -> bool:
        v, noise, variance, wanted = cases_of(case)
        if any(
            slope_is_wrong(family, wanted, 0.75) for family in _families(v, noise, variance, wanted)
        ):
            return True
        fixed = balance(v, noise, wanted)
        # A map with the slope 2 r - 1 at f* needs more epochs the nearer r is to 1.
        epochs = math.ceil(40.0 / min(1.0 - fixed.share, fixed.share))
        ends = [path(start * fixed.factor, fixed, epochs)[-1] for start in (0.5, 4.0)]
        return any(abs(end / fixed.factor - 1.0) > 1e-6 for end in ends)

    def words(case: tuple[int, int, int, int]) -> str:
        v, noise, variance, wanted = cases_of(case)
        return f"spread of x {v:g}, noise {noise:g}, σ² {variance:g}, des_std {wanted:g}"

    eighths = st.integers(1, 12)
    cases = st.tuples(eighths, eighths, st.integers(1, 8), st.integers(1, 12))
    return search("slope of the map, and the way back to f*", cases, violated, words, 200)


S9 = Statement(
    id="S9",
    name="a shared factor has a stable fixed point",
    paper="on algorithm 1, not in the paper",
    item="",
    claim="With a factor that is a number, the KL is ½ (f μ)²/f² + ½ (σ² − 1 − log σ²) nats: a VAE "
    "that pays 1/f² for means. They are at rest where λ ρ² = dR/dlog s, and f* = des_std/ρ*; the "
    "map from log f to the next epoch’s has the slope 1 − 2/(1 + κ), κ = −dlog(dR/ds)/dlog s, "
    "which lies in (−1, 1) for κ > 0.",
    constants={"price": 2.0, "top": 2.0, "plus": 1.0},
    wrong={"price": 1.0, "top": 1.0, "plus": 2.0},
    checks=(_s9_symbolic, _s9_sampled, _s9_search),
)


# --- S10, the second moment -----------------------------------------------------------------------


def _s10_symbolic(c: Constants) -> Evidence:
    """A reconstruction that depends on w s and w sigma, and the KL's slopes along both."""
    s, d, w, rho, lam = sympy.symbols("s d w rho lambda", positive=True)
    found = sympy.Function("G")(w * s, w * d).doit()
    mean_and_sd = s * sympy.diff(found, s) + d * sympy.diff(found, d)
    kl = sympy.Rational(c["half"]) * (rho**2 + d**2 - 1 - 2 * sympy.log(d))
    slope = lam * (rho * sympy.diff(kl, rho) + d * sympy.diff(kl, d))
    return equal(
        "slope along the decoder’s scale against that along z’s; slope of the KL along z’s",
        (sympy.simplify((mean_and_sd - w * sympy.diff(found, w)).doit()), sympy.S.Zero),
        (slope, lam * (rho**2 + d**2 - sympy.Rational(c["moment"]))),
    )


def _s10_sampled(c: Constants) -> Evidence:
    """How the KL changes when draws of q are stretched, against the second moment."""
    random = np.random.default_rng(13)
    mean, sd = np.array([0.5, -0.75, 1.5, 0.0]), np.array([0.9, 0.35, 1.1, 0.64])
    row = random.integers(0, 4, _DRAWS)
    z = mean[row] + sd[row] * random.normal(size=_DRAWS)
    # log q falls by 1 where z and q are stretched by e; -log N(z; 0, 1) rises by z^2.
    exact = 2.0 * c["half"] * float((mean**2 + sd**2).mean()) - c["moment"]
    return sampled("slope of the KL when z is stretched, nats", (exact, z * z - 1.0))


def _optimum(v: float, noise: float, factor: float, weight: float) -> tuple[float, float]:
    """rho and sigma^2 of the best linear model for a fixed factor, found by descent from far."""

    def loss(place: Array) -> float:
        rho, log_sd, w = place
        apart_ = (v - w * factor * rho) ** 2 + w * w * math.exp(2.0 * log_sd)
        kl = 0.5 * (rho * rho + math.exp(2.0 * log_sd) - 1.0) - log_sd
        return apart_ / (2.0 * noise**2) + weight * kl

    found = minimize(loss, np.array([0.8, -0.3, 0.9]), method="BFGS", options={"gtol": 1e-9})
    return float(abs(found.x[0])), math.exp(2.0 * found.x[1])


def _s10_search(c: Constants) -> Evidence:
    """Descent on a linear model for many fixed factors, and the closed fixed point."""

    def violated(case: tuple[int, int, int]) -> bool:
        v, noise, factor = case[0] / 4.0, case[1] / 4.0, case[2] / 4.0
        rho, variance = _optimum(v, noise, factor, 1.0)
        if abs(rho * rho + variance - c["moment"]) > 1e-3:
            return True
        fixed = balance(v, noise, factor)
        settled = _optimum(v, noise, fixed.factor, 1.0)
        # Nearly collapsed means hardly pull, and descent stops on its way.
        return fixed.rho > 0.2 and abs(settled[0] - fixed.rho) > 1e-3

    def words(case: tuple[int, int, int]) -> str:
        return f"spread of x {case[0] / 4:g}, noise {case[1] / 4:g}, f {case[2] / 4:g}"

    cases = st.tuples(st.integers(1, 12), st.integers(1, 8), st.integers(2, 16))
    return search(
        "second moment after descent, and the closed fixed point",
        cases,
        violated,
        words,
        _INNER_DRAWS,
    )


S10 = Statement(
    id="S10",
    name="the second moment of a settled dimension is 1",
    paper="on algorithm 1, not in the paper",
    item="",
    claim="Where the decoder can absorb a stretching of z, a stationary point with a shared factor "
    "has E(μ² + σ²) = 1 in every dimension, whatever f is; so f* = des_std / √(1 − E σ²) for "
    "centred means, and f is large exactly where σ² is near 1 and the dimension says little.",
    constants={"moment": 1.0, "half": 0.5},
    wrong={"moment": 0.5, "half": 1.0},
    checks=(_s10_symbolic, _s10_sampled, _s10_search),
)


# --- S11, what a printed KL says of the factor ----------------------------------------------------


def factor_bound(des_std: float, dimensions: int, kl: float, half: float = 0.5) -> float:
    """Least possible root of the harmonic mean of f^2 over dimensions, for a KL in nats."""
    return des_std * math.sqrt(half * dimensions / kl)


def _s11_symbolic(c: Constants) -> Evidence:
    """The rest of the KL is a convex function of the variance that is 0 at its least, at 1."""
    m = sympy.Symbol("m", real=True)
    v = sympy.Symbol("v", positive=True)
    kl = (m**2 + v - 1 - sympy.log(v)) / 2
    rest = kl - sympy.Rational(c["half"]) * sympy.Abs(m) ** sympy.Rational(c["power"])
    return equal(
        "what is left of the KL beside ½ μ²; its value and slope at σ² = 1, and its curvature",
        (sympy.diff(rest, m), 0),
        (rest.subs({v: 1, m: 3}), 0),
        (sympy.diff(rest, v).subs(v, 1), 0),
        (sympy.diff(rest, v, 2), 1 / (2 * v**2)),
    )


def _s11_sampled(c: Constants) -> Evidence:
    """The bound is reached at sigma = 1: mean log-ratio against half the squares."""
    random = np.random.default_rng(14)
    mean = np.array([0.4, -0.9, 0.2, 0.3])
    row = random.integers(0, 4, _DRAWS)
    z = mean[row] + random.normal(size=_DRAWS)
    draws = log_normal(z, mean[row], 1.0) - log_normal(z, 0.0, 1.0)
    return sampled(
        "mean log-ratio for σ = 1, nats",
        (c["half"] * float((np.abs(mean) ** c["power"]).mean()), draws),
    )


def _s11_search(c: Constants) -> Evidence:
    """Random posteriors in several dimensions; f is des_std over the spread of their means."""

    def violated(case: tuple[int, int, int]) -> bool:
        dimensions, wanted = case[1], case[2] / 8.0
        random = np.random.default_rng(case[0])
        mean = random.normal(size=(6, dimensions)) * np.exp(random.normal(size=dimensions))
        variance = np.exp(0.1 * random.normal(size=(6, dimensions)))
        kl = float(0.5 * (mean**2 + variance - 1.0 - np.log(variance)).sum(1).mean())
        factor = wanted / mean.std(0)
        least = c["half"] * float(((wanted / factor) ** c["power"]).sum())
        bound = factor_bound(wanted, dimensions, kl, c["half"])
        typical = float((factor**-2.0).mean()) ** -0.5
        low = min(typical, float(factor.max())) < bound * (1.0 - ROUNDING)
        return kl < least * (1.0 - ROUNDING) or low

    def words(case: tuple[int, int, int]) -> str:
        return f"{case[1]} dimensions, des_std {case[2] / 8:g}, seed {case[0]}"

    cases = st.tuples(st.integers(0, 5000), st.integers(1, 8), st.integers(1, 12))
    return search("a KL below the bound, or a factor below its own", cases, violated, words)


S11 = Statement(
    id="S11",
    name="a KL says how small the factors can be",
    paper="on table 3, not in the paper",
    item="",
    claim="The KL that Scale-VAE pays is at least ½ Σ (des_std/f)² nats, so some f is at least "
    "des_std √(D / (2 KL)).",
    constants={"half": 0.5, "power": 2.0},
    wrong={"half": 1.0, "power": 1.0},
    checks=(_s11_symbolic, _s11_sampled, _s11_search),
)

STATEMENTS = (S8, S9, S10, S11)


# --- the code that trains -------------------------------------------------------------------------


class Trained(NamedTuple):
    """Factors that the module that trains went through, one an epoch."""

    factors: list[float]
    second_moments: list[float]  # E(mu^2 + sigma^2), mean over each epoch's second half


def train_linear(
    start: float,
    v: float,
    noise: float,
    des_std: float,
    epochs: int,
    updates: int = 60,
    rate: float = 0.1,
) -> Trained:
    """A linear VAE trained by Adam with the module of the method, from a factor of one's choice.

    Its data are four values of x, all in one batch, so that nothing but f changes between epochs.
    The loss is exact: no z is drawn.

    Args:
        start: the shared factor of the first epoch.
        v: spread of x.
        noise: standard deviation of the decoder N(w z, noise^2).
        des_std: wanted spread of the scaled means.
        epochs: so many.
        updates: of each epoch.
        rate: learning rate.
    """
    unit = torch.tensor([-1.5, -0.5, 0.5, 1.5], dtype=torch.float64)
    unit = unit / unit.std(correction=0)
    features = torch.stack([unit, torch.ones_like(unit)], dim=1)
    head = ScaledHead(2, 1, Scaled(des_std, OwnEpochs(1), ddof=0)).double().train()
    first = balance(v, noise, des_std)
    # The mean comes from the first feature alone and the log-variance from the second.
    alone = torch.eye(2, dtype=torch.float64)
    head.linear.weight.data.copy_(torch.diag(torch.tensor([first.rho, math.log(first.variance)])))
    decoder = torch.tensor(first.decoder, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([head.linear.weight, decoder], lr=rate, betas=(0.5, 0.9))
    begin_update(head, Progress(updates, updates))  # the second epoch, whose factor is shared
    head.factor.fill_(start)
    found, moments = Trained([], []), []
    for iteration in range(updates, (1 + epochs) * updates):
        begin_update(head, Progress(iteration, updates))
        optimiser.zero_grad()
        q = head(features)
        kl = gaussian.kl_to_standard_normal(q.unscaled.mean, q.unscaled.logvar)
        rest = (v * unit - decoder * q.mean[:, 0]).square() + decoder**2 * q.variance[:, 0]
        (rest / (2.0 * noise**2) + kl).mean().backward()
        assert head.linear.weight.grad is not None
        head.linear.weight.grad *= alone
        optimiser.step()
        moments.append((q.unscaled.mean.square() + q.variance).mean().item())
        if (iteration + 1) % updates == 0:
            found.factors.append(head.factor.item())
            late = moments[-updates // 2 :]  # Adam goes on swinging around the optimum
            found.second_moments.append(sum(late) / len(late))
    return found
