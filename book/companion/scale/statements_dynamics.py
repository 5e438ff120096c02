"""Scale-VAE: where its means go, with factors of their own and with one that is shared.

None of these statements is in the paper.  They say what the objective of Song et al. 2024 does
to the scale of the means, in algorithm 1's two phases.

Notation, for one dimension: mu are the unscaled means, with the second moment rho^2 over the
data; s = f rho is the scale of what the decoder sees; sigma^2 is the posterior's variance; lambda
is the weight of the KL.  R(s) is the reconstruction E log p(x|z) as a function of s, with all else
either held or at its best for that s.  r = s^2 / (s^2 + sigma^2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import sympy
import torch
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from torch import Tensor

from companion.claims.formulas import (
    DRAWS,
    MEAN,
    ROUNDING,
    SD,
    Array,
    apart,
    bell,
    cached,
    drawn,
    gaussian_kl,
    integral,
    log_normal,
    steps,
)
from companion.claims.statements import Facts, Formulas, Means, stated
from posterior_collapse import gaussian
from posterior_collapse.layers import Progress, begin_update
from posterior_collapse.posteriors import OwnEpochs, OwnThroughout, Scaled, ScaledHead

# --- S8, factors of their own ---------------------------------------------------------------------

S8 = stated(
    "S8",
    Formulas(factor="des_std / std", decay="-2 * weight * square"),
    {"power": ("/ std", "/ std**(1 / 2)"), "rate": ("-2 *", "-1 *")},
)


@S8.symbolic
def _(c: Formulas) -> Facts:
    """change of the variance, of f μ and of the KL along the weights, three points"""
    w, h = sympy.symbols("w:2", real=True), sympy.symbols("h:6", real=True)
    wanted, weight, std = sympy.symbols("d lambda s", positive=True)
    mean = [w[0] * h[2 * i] + w[1] * h[2 * i + 1] for i in range(3)]
    variance = sum((m - sum(mean) / 3) ** 2 for m in mean) / 2

    def along(expression: sympy.Expr) -> sympy.Expr:
        return sum(w[k] * sympy.diff(expression, w[k]) for k in range(2))

    factor, square = c.factor(des_std=wanted, std=std), sum(m**2 for m in mean) / 3
    slope = sympy.diff(factor, std) * std  # along the weights, as the standard deviation is s
    return (
        (along(variance), 2 * variance),
        *((slope * m + factor * along(m), 0) for m in mean),
        (2 * along(-weight * square / 2), c.decay(weight=weight, square=square)),
    )


@S8.sampled
def _(c: Formulas) -> Means:
    """slope of the objective in log ‖w‖ by the score function, linear decoder, nats"""
    random = np.random.default_rng(11)
    mean = 0.3 + 0.5 * random.normal(size=32)
    weight, sd, noise, std = 0.7, 0.6, 0.5, mean.std(ddof=1)

    def code_of(stretch: float) -> Array:
        return np.asarray(stretch * mean * c.factor(des_std=0.9, std=stretch * std))

    code, step = code_of(1.0), 1e-4
    slope = (code_of(1.0 + step) - code_of(1.0 - step)) / (2.0 * step)  # 0 for the right factor
    x = 1.4 * mean + 0.2 * random.normal(size=32)
    row = random.integers(0, 32, DRAWS)
    eps = random.normal(size=(2, DRAWS))
    log_likelihood = log_normal(x[row], 0.8 * (code[row] + sd * eps[0]), noise)
    paid = weight * (mean[row] + sd * eps[1]) * mean[row]
    exact = 0.5 * c.decay(weight=weight, square=float((mean**2).mean()))
    return [(exact, eps[0] / sd * slope[row] * log_likelihood - paid)]


@cached
def own_slopes(seed: int, weight: float) -> tuple[Array, Array]:
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


@S8.search(st.tuples(st.integers(0, 10_000), steps(0, 8, 4)), draws=150)
def _(c: Formulas, seed: int, weight: float) -> bool:
    """gradient along the weights by automatic differentiation, bent decoder, module that trains"""
    slope, squares = own_slopes(seed, weight)
    claimed = 0.5 * c.decay(weight=weight, square=squares)
    return bool(np.any(np.abs(slope - claimed) > ROUNDING * (1.0 + squares)))


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
    """Factors of one epoch after the other, the first one included."""
    factors = [start]
    for _ in range(epochs):
        factors.append(epoch_map(factors[-1], fixed))
    return factors


S9 = stated(
    "S9",
    Formulas(price="s**2 / f**2", slope="1 - 2 / (1 + kappa)"),
    {"price": ("/ f**2", "/ f"), "top": ("- 2 /", "- 1 /"), "plus": ("(1 +", "(2 +")},
)


@S9.symbolic
def _(c: Formulas) -> Facts:
    """KL in terms of f μ; slope for a linear decoder that is held, at its best; and of its map"""
    m, x, q = sympy.symbols("m x q", real=True)
    f, s, v, n, w, t = sympy.symbols("f s v n w t", positive=True)
    log_ratio = -((x - m / f) ** 2) / (2 * v) - sympy.log(v) / 2 + x**2 / 2
    rate = integral(sympy.expand(log_ratio) * bell(x, m / f, v), x)

    def claim(slope: sympy.Expr) -> sympy.Expr:
        """The map's slope from dR/ds, by implicit differentiation."""
        return c.slope(kappa=-s * sympy.diff(slope, s) / slope)

    held = w * (t - w * s) / n**2
    best = t**2 * s * v / (n**2 * (s**2 + v) ** 2)
    r = s**2 / (s**2 + v)
    at_best = claim(held).subs(w, t * s / (s**2 + v))
    after = r * f + (1 - r) * q**2 / f
    return (
        (rate, (c.price(s=m, f=f) + v - 1 - sympy.log(v)) / 2),
        (at_best, 2 * r - 1),
        (claim(best), 1 - 1 / (2 * r)),
        (sympy.diff(after, f).subs(q, f), at_best),
    )


_S9_CASE = (1.3, 0.6, 0.7, 0.8)  # v, noise, des_std and lambda


@S9.sampled
def _(c: Formulas) -> Means:
    """slope of reconstruction and of KL in log s against λ s²/f², nats; and κ"""
    v, noise, wanted, weight = _S9_CASE
    fixed = balance(*_S9_CASE)
    random = np.random.default_rng(12)
    unit, eps = random.normal(size=(2, DRAWS))
    code, sd = wanted * unit, math.sqrt(fixed.variance)
    rest = v * unit - fixed.decoder * (code + sd * eps)
    gain = rest * fixed.decoder * code / noise**2  # d log p(x|z) / d log s
    price = weight * (fixed.rho * unit + sd * random.normal(size=DRAWS)) * fixed.rho * unit
    paid = weight * c.price(s=wanted, f=fixed.factor)
    slope = v * wanted * fixed.variance * fixed.decoder / (wanted**2 + fixed.variance) / noise**2
    kappa = brentq(lambda k: c.slope(kappa=k) - slopes(fixed.share).held, 1e-9, 1e9)
    return (
        (paid, gain),
        (paid, price),
        (kappa, (fixed.decoder * unit) ** 2 * wanted / noise**2 / (slope / wanted)),
    )


Slope = Callable[[float], float]  # dR/ds as a function of s


def _families(v: float, noise: float, variance: float, at: float) -> list[Slope]:
    """A linear decoder held at its best for s = ``at``; one that follows; a gain that fades."""
    w = v * at / (at * at + variance)
    return [
        lambda s: w * (v - w * s) / noise**2,
        lambda s: v * v * s * variance / (noise * (s * s + variance)) ** 2,
        lambda s: v * math.exp(-s / noise),
    ]


def _settled(gain: Slope, factor: float, weight: float, near: float) -> float:
    """The s at which gain and price are equal for a factor, near a known solution."""

    def off(s: float) -> float:
        return gain(s) - weight * s / factor**2

    return float(brentq(off, 0.9 * near, 1.1 * near, xtol=1e-15, rtol=1e-14))


def _slope_is_wrong(c: Formulas, gain: Slope, wanted: float, weight: float = 0.75) -> bool:
    """The map of des_std f / s(f) at its fixed point, by differences."""
    fixed = math.sqrt(weight * wanted / gain(wanted))  # f* = des_std / rho*
    if apart(wanted * gain(wanted), weight * c.price(s=wanted, f=fixed)):
        return True
    step = 1e-4
    ends = [math.log(gain(wanted * math.exp(k * step))) for k in (-1, 1)]
    kappa = (ends[0] - ends[1]) / (2.0 * step)
    if kappa < -0.5:
        return False  # no maximum, or nearly none: the means do not settle there
    below, above = (
        math.log(wanted * f / _settled(gain, f, weight, wanted))
        for f in (fixed * math.exp(-step), fixed * math.exp(step))
    )
    slope = (above - below) / (2.0 * step)
    stable, unclear = abs(slope) < 1.0, abs(kappa) < 1e-3
    return abs(slope - c.slope(kappa=kappa)) > 1e-4 or (stable != (kappa > 0.0) and not unclear)


_QUARTERS = steps(1, 12, 4)


@S9.search(
    st.tuples(_QUARTERS, _QUARTERS, steps(1, 8, 8), steps(1, 12, 8)),
    "spread of x {:g}, noise {:g}, σ² {:g}, des_std {:g}",
    200,
)
def _(c: Formulas, v: float, noise: float, variance: float, wanted: float) -> bool:
    """slope of the map, and the way back to f* from f*/2 and 4 f*"""
    if any(_slope_is_wrong(c, gain, wanted) for gain in _families(v, noise, variance, wanted)):
        return True
    fixed = balance(v, noise, wanted)
    # A map with the slope 2 r - 1 at f* needs more epochs the nearer r is to 1.
    epochs = math.ceil(40.0 / min(1.0 - fixed.share, fixed.share))
    ends = [path(start * fixed.factor, fixed, epochs)[-1] for start in (0.5, 4.0)]
    return any(abs(end / fixed.factor - 1.0) > 1e-6 for end in ends)


# --- S10, the second moment -----------------------------------------------------------------------


S10 = stated(
    "S10",
    Formulas(stretched="moment - 1"),
    {"moment": ("- 1", "- 1 / 2"), "half": ("moment", "2 * moment")},
)


@S10.symbolic
def _(c: Formulas) -> Facts:
    """slope along the decoder’s scale against that along z’s; slope of the KL along z’s"""
    # A reconstruction that depends on w s and w sigma.
    s, d, w, rho, lam = sympy.symbols("s d w rho lambda", positive=True)
    gain = sympy.Function("G")(w * s, w * d).doit()
    mean_and_sd = s * sympy.diff(gain, s) + d * sympy.diff(gain, d)
    kl = gaussian_kl(rho, d**2)
    slope = lam * (rho * sympy.diff(kl, rho) + d * sympy.diff(kl, d))
    return (
        (sympy.simplify((mean_and_sd - w * sympy.diff(gain, w)).doit()), sympy.S.Zero),
        (slope, lam * c.stretched(moment=rho**2 + d**2)),
    )


@S10.sampled
def _(c: Formulas) -> Means:
    """slope of the KL when z is stretched, nats"""
    # log q falls by 1 where z and q are stretched by e; -log N(z; 0, 1) rises by z^2.
    _, z = drawn(MEAN, SD, 13)
    return [(c.stretched(moment=float((MEAN**2 + SD**2).mean())), z * z - 1.0)]


@cached
def _optimum(v: float, noise: float, factor: float, weight: float) -> tuple[float, float]:
    """rho and sigma^2 of the best linear model for a fixed factor, found by descent from far."""

    def loss(place: Array) -> float:
        rho, log_sd, w = place
        error = (v - w * factor * rho) ** 2 + w * w * math.exp(2.0 * log_sd)
        kl = 0.5 * (rho * rho + math.exp(2.0 * log_sd) - 1.0) - log_sd
        return error / (2.0 * noise**2) + weight * kl

    best = minimize(loss, np.array([0.8, -0.3, 0.9]), method="BFGS", options={"gtol": 1e-9}).x
    return float(abs(best[0])), math.exp(2.0 * best[1])


@S10.search(
    st.tuples(_QUARTERS, steps(1, 8, 4), steps(2, 16, 4)),
    "spread of x {:g}, noise {:g}, f {:g}",
    60,
)
def _(c: Formulas, v: float, noise: float, factor: float) -> bool:
    """second moment after descent on a linear model, and the closed fixed point"""
    rho, variance = _optimum(v, noise, factor, 1.0)
    if abs(c.stretched(moment=rho * rho + variance)) > 1e-3:
        return True
    fixed = balance(v, noise, factor)
    settled = _optimum(v, noise, fixed.factor, 1.0)
    # Nearly collapsed means hardly pull, and descent stops on its way.
    return fixed.rho > 0.2 and abs(settled[0] - fixed.rho) > 1e-3


# --- S11, what a printed KL says of the factor ----------------------------------------------------


def least_kl(spread: Any) -> Any:
    """What means of this spread cost at least, nats."""
    return abs(spread) ** 2 / 2


def factor_bound(des_std: float, dimensions: int, kl: float) -> float:
    """Least possible root of the harmonic mean of f^2 over dimensions, for a KL in nats."""
    return des_std * math.sqrt(dimensions / (2 * kl))


S11 = stated(
    "S11",
    Formulas(least_kl, factor_bound),
    {
        "half": ("** 2 / 2", "** 2 / 1"),
        "power": ("abs(spread) ** 2", "abs(spread)"),
        "half of the factor": ("(2 * kl)", "kl"),
    },
)


@S11.symbolic
def _(c: Formulas) -> Facts:
    """what is left of the KL beside ½ μ²; its value and slope at σ² = 1, and its curvature"""
    m, v = sympy.Symbol("m", real=True), sympy.Symbol("v", positive=True)
    rest = gaussian_kl(m, v) - c.least_kl(m)
    return (
        (sympy.diff(rest, m), 0),
        (rest.subs({v: 1, m: 3}), 0),
        (sympy.diff(rest, v).subs(v, 1), 0),
        (sympy.diff(rest, v, 2), 1 / (2 * v**2)),
    )


@S11.sampled
def _(c: Formulas) -> Means:
    """mean log-ratio for σ = 1, where the bound is reached, nats"""
    random = np.random.default_rng(14)
    mean = np.array([0.4, -0.9, 0.2, 0.3])
    row = random.integers(0, 4, DRAWS)
    z = mean[row] + random.normal(size=DRAWS)
    draws = log_normal(z, mean[row], 1.0) - log_normal(z, 0.0, 1.0)
    return [(float(c.least_kl(mean).mean()), draws)]


@S11.search(
    st.tuples(st.integers(0, 5000), st.integers(1, 8), steps(1, 12, 8)),
    "seed {}, {} dimensions, des_std {:g}",
)
def _(c: Formulas, seed: int, dimensions: int, wanted: float) -> bool:
    """a KL of random posteriors below the bound, or a factor below its own"""
    random = np.random.default_rng(seed)
    mean = random.normal(size=(6, dimensions)) * np.exp(random.normal(size=dimensions))
    variance = np.exp(0.1 * random.normal(size=(6, dimensions)))
    kl = float(gaussian_kl(mean, variance).sum(1).mean())
    factor = wanted / mean.std(0)
    least = float(c.least_kl(wanted / factor).sum())
    typical = min(float((factor**-2.0).mean()) ** -0.5, float(factor.max()))
    low = typical < c.factor_bound(wanted, dimensions, kl) * (1.0 - ROUNDING)
    return kl < least * (1.0 - ROUNDING) or low


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

    Its data are four values of x with the spread v, all in one batch, so that nothing but f
    changes between epochs.  The loss is exact: no z is drawn.  ``noise`` is the standard deviation
    of the decoder N(w z, noise^2), ``start`` the factor of the first epoch.
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
    trained, moments = Trained([], []), []
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
            trained.factors.append(head.factor.item())
            late = moments[-updates // 2 :]  # Adam goes on swinging around the optimum
            trained.second_moments.append(sum(late) / len(late))
    return trained
