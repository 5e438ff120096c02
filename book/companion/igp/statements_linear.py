"""IGP: the statements on the linear VAE, with one variance for all dimensions and with several.

Notation: the data have eigenvalues lambda (K,), the decoder squared weights a = w^2 (K,) and noise
s2, the posterior variance tau^2; c = s2 + mean a is called the level. Nats, averaged over the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import sympy
from hypothesis import strategies as st

from companion.claims.formulas import Array, gaussian, log_gaussian, root
from companion.claims.statements import (
    Evidence,
    Formulas,
    equal,
    joined,
    nonnegative,
    sampled,
    search,
    stated,
)

__all__ = ["STATEMENTS"]


class LinearIgp(NamedTuple):
    """The optimum of a linear VAE with an isotropic posterior, in the basis of the data."""

    level: float  # c
    weights: Array  # (K,), squared lengths of the decoder's columns
    variance: float  # tau^2, of the posterior in every direction
    mean_variance: Array  # (K,), of the posterior mean over the data
    kl: float

    @property
    def log_det(self) -> float:
        """log det Cov[q(z)] of the aggregated posterior."""
        return float(np.log(self.mean_variance + self.variance).sum())


def open_weight(lam: Any, c: Any, s2: Any) -> Any:
    """sqrt(lambda c) - s^2, the squared weight of an active direction."""
    return c * root(lam / c) - s2  # exact where the two are equal


def level_of(mean_weight: Any, s2: Any) -> Any:
    """c, by the mean of the squared weights."""
    return s2 + mean_weight


def linear_igp(
    spectrum: Array,
    s2: float,
    weight: Callable[..., Any] = open_weight,
    level_at: Callable[..., Any] = level_of,
) -> LinearIgp:
    """The optimum for eigenvalues (K,) of the data covariance and noise variance s^2.

    The squared weights are (sqrt(lambda c) - s^2)_+ with c = s^2 + their mean over all K.
    """

    def weights(level: float) -> Array:
        return np.maximum(weight(spectrum, level, s2), 0.0)

    def excess(level: float) -> float:
        return level - float(level_at(weights(level).mean(), s2))

    level = s2
    if excess(s2) < 0.0:
        high = 4.0 * (s2 + float(spectrum.max()))
        level = float(scipy.optimize.brentq(excess, s2, high, xtol=1e-300, rtol=1e-15))
    a = weights(level)
    kl = 0.5 * len(spectrum) * math.log(level / s2)
    return LinearIgp(level, a, s2 / level, spectrum * a / (a + s2) ** 2, kl)


def dgp_weights(spectrum: Array, s2: float) -> Array:
    """Squared weights (K,) of a linear VAE with a diagonal posterior: those of p-PCA."""
    return np.maximum(spectrum - s2, 0.0)


def mean_variances(spectrum: Array, s2: float) -> tuple[Array, Array]:
    """Variance of the posterior mean in each direction, with diagonal and isotropic posterior."""
    a = dgp_weights(spectrum, s2)
    return spectrum * a / (a + s2) ** 2, linear_igp(spectrum, s2).mean_variance


# --- training, with nothing of the optimum built in -----------------------------------------------


def loss(
    decoder: Array, encoder: Array, log_variance: float, spectrum: Array, s2: float
) -> tuple[float, Array]:
    """Negative ELBO, averaged over the data and without its constant, and its gradient.

    x has covariance diag(spectrum), z given x is N(encoder x, tau^2 I), x given z is
    N(decoder z, s^2 I); encoder and decoder are (K, K).
    """
    count, variance = len(spectrum), math.exp(log_variance)
    missed = np.eye(count) - decoder @ encoder
    squares = float((missed**2 * spectrum).sum() + variance * (decoder**2).sum())
    kl = float((encoder**2 * spectrum).sum()) + count * (variance - 1.0 - log_variance)
    by_decoder = (variance * decoder - (missed * spectrum) @ encoder.T) / s2
    by_encoder = encoder * spectrum - decoder.T @ (missed * spectrum) / s2
    by_variance = 0.5 * variance * (float((decoder**2).sum()) / s2 + count) - 0.5 * count
    gradient = np.concatenate([by_decoder.ravel(), by_encoder.ravel(), [by_variance]])
    return 0.5 * squares / s2 + 0.5 * kl, gradient


def loss_at(optimum: LinearIgp, spectrum: Array, s2: float) -> float:
    """The loss where a formula puts the optimum."""
    root = np.sqrt(optimum.weights)
    encoder = np.diag(root / (optimum.weights + s2))
    return loss(np.diag(root), encoder, math.log(optimum.variance), spectrum, s2)[0]


class Trained(NamedTuple):
    """A linear VAE after training."""

    loss: float
    weights: Array  # (K,), eigenvalues of the decoder's Gram matrix, the largest first
    variance: float  # of the posterior
    means: Array  # (K, K): covariance of the posterior means


def train(spectrum: Array, s2: float, seed: int = 0) -> Trained:
    """Train full encoder and decoder matrices and one posterior variance from a random start."""
    count = len(spectrum)
    start = np.append(np.random.default_rng(seed).normal(size=2 * count**2), 0.0)

    def objective(flat: Array) -> tuple[float, Array]:
        decoder, encoder = flat[:-1].reshape(2, count, count)
        return loss(decoder, encoder, float(flat[-1]), spectrum, s2)

    options = {"maxiter": 4000, "maxfun": 8000, "ftol": 1e-15, "gtol": 1e-9}
    end = scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    decoder, encoder = end.x[:-1].reshape(2, count, count)
    lengths = np.linalg.svd(decoder, compute_uv=False) ** 2
    means = (encoder * spectrum) @ encoder.T
    return Trained(float(end.fun), lengths, math.exp(end.x[-1]), means)


# --- I3, the optimum ------------------------------------------------------------------------------


def _optimum_symbolic(c: Formulas) -> Evidence:
    """Two directions: the best encoder and posterior variance, then the best weights."""
    v, half = sympy.Symbol("v", real=True), sympy.Rational(1, 2)
    w, s, k, m, lam = sympy.symbols("w s k m lambda", positive=True)
    a, r, level, t = sympy.symbols("a r c t", positive=True)
    # One direction with encoder v; K directions share t = tau^2 and have mean squared weight m.
    direction = half * (lam * (1 - w * v) ** 2 / s + lam * v**2)
    best = w / (w**2 + s)
    shared = half * k * (t * m / s + t - 1 - sympy.log(t))
    value = half * k * (sympy.log(s + m) - sympy.log(s))
    # For K = 2, a is one squared weight and r the other; r is then written by means of c.
    reduced = -half * lam / (a + s) - sympy.log(1 + (a + r) / (2 * s))
    slope = sympy.diff(reduced, a).subs(r, 2 * (level - s) - a)
    claimed = c.open_weight(lam, level, s)
    return equal(
        "no slope of the ELBO in encoder, posterior variance and weight at the optimum",
        (sympy.diff(direction, v).subs(v, best), 0),
        (direction.subs(v, best), half * lam / (w**2 + s)),
        (sympy.diff(shared, t).subs(t, s / c.level_of(m, s)), 0),
        (sympy.expand_log(shared.subs(t, s / (s + m))), value),
        (slope.subs(a, claimed), 0),
    )


def _claimed(c: Formulas, spectrum: Array, s2: float) -> LinearIgp:
    return linear_igp(spectrum, s2, c.open_weight, c.level_of)


def _optimum_sampled(c: Formulas) -> Evidence:
    spectrum, s2 = np.array([2.0, 0.5, 0.125]), 0.25
    random, optimum = np.random.default_rng(7), _claimed(c, spectrum, s2)
    a, root = optimum.weights, np.sqrt(optimum.weights)
    x = np.sqrt(spectrum) * random.normal(size=(200_000, 3))
    mean = root / (a + s2) * x
    z = gaussian(random, mean, optimum.variance)
    ratio = (log_gaussian(z, mean, optimum.variance) - log_gaussian(z, 0.0, 1.0)).sum(-1)
    likelihood = log_gaussian(x, root * z, s2).sum(-1)
    elbo = -0.5 * (spectrum / (a + s2)).sum() - optimum.kl
    constant = 1.5 * math.log(2.0 * math.pi * s2)
    return sampled(
        "KL = (K/2) log(c/s²) and the ELBO at the optimum for eigenvalues 2, 1/2, 1/8, nats",
        (optimum.kl, ratio),
        (elbo - constant, likelihood - ratio),
    )


def _spectra(low: int, high: int, step: float) -> st.SearchStrategy[tuple[Array, float]]:
    """Eigenvalues (K,), the largest first, and a noise variance."""
    powers = st.lists(st.integers(low, high), min_size=1, max_size=4)
    ordered = powers.map(lambda k: np.exp2(step * np.sort(np.asarray(k, dtype=float))[::-1]))
    return st.tuples(ordered, st.integers(low, 2).map(lambda k: float(np.exp2(step * k))))


def _eigenvalues(case: tuple[Array, float]) -> str:
    return f"eigenvalues {', '.join(f'{value:.4g}' for value in case[0])}, noise {case[1]:.4g}"


def _active_shown(case: tuple[Array, float]) -> str:
    diagonal, isotropic = (case[0] > case[1]).sum(), (linear_igp(*case).weights > 0).sum()
    return (
        f"{_eigenvalues(case)}: {diagonal} active with a diagonal, "
        f"{isotropic} with an isotropic posterior"
    )


def _optimum_search(c: Formulas) -> Evidence:
    """Training from a random start: does it end better, or elsewhere?"""

    def violated(case: tuple[Array, float]) -> bool:
        here = loss_at(_claimed(c, *case), *case)
        return abs(here - train(*case).loss) > 1e-6 * (1.0 + abs(here))

    compared = "a linear VAE that trains to another ELBO than the formula's"
    return search(compared, _spectra(-6, 6, 0.5), violated, _active_shown, draws=60)


def some_printed() -> Evidence:
    """A linear VAE whose isotropic posterior uses some of its directions and not all."""

    def violated(case: tuple[Array, float]) -> bool:
        active = linear_igp(*case).weights > 1e-6
        return bool(active.any() and not active.all())

    compared = "an optimum that uses some directions, neither all nor none"
    return search(compared, _spectra(-6, 6, 1.0), violated, _active_shown)


I3 = stated(
    "I3",
    Formulas(open_weight, level_of),
    {
        "power": ("root(lam / c)", "(lam / c)"),
        "noise": ("- s2", "- s2 / 2"),
        "share": ("+ mean_weight", "+ mean_weight / 2"),
    },
    (_optimum_symbolic, _optimum_sampled, _optimum_search),
    some_printed,
)


# --- I3b, which directions are active -------------------------------------------------------------


def thresholds(s2: Any, c: Any) -> tuple[Any, Any]:
    """Eigenvalue above which a direction is active, with diagonal and isotropic posterior.

    They are s^2, and s^4 / c for the level c of the isotropic optimum.
    """
    return s2, s2 * (s2 / c)


def _active_symbolic(c: Formulas) -> Evidence:
    w, lam, s = sympy.symbols("w lambda s", positive=True)
    level, half = s + sympy.Symbol("m", nonnegative=True), sympy.Rational(1, 2)

    def curvature(variance: Any) -> Any:
        v = w / (w**2 + s)
        squares = lam * (1 - w * v) ** 2 + variance * w**2
        elbo = -half * (squares / s + lam * v**2 + variance)
        return sympy.diff(elbo, w, 2).subs(w, 0)

    dgp, igp = c.thresholds(s, level)
    flat = (curvature(1).subs(lam, dgp), 0), (curvature(s / level).subs(lam, igp), 0)
    return joined(
        equal("the ELBO is flat in w where λ is at the threshold", *flat),
        nonnegative("the isotropic one is lower", s - igp, sympy.diff(dgp - s, s)),
    )


def _opened(variance: float, power: float, s2: float, random: np.random.Generator) -> Array:
    """Draws of the ELBO's curvature in a closed direction's weight, data variance ``power``."""
    x, e = math.sqrt(power) * random.normal(size=200_000), random.normal(size=200_000)
    step = 1.0 / 32.0

    def elbo(w: float) -> Array:
        mean = w / (w**2 + s2) * x
        z = mean + math.sqrt(variance) * e
        fit = log_gaussian(x, w * z, s2) + log_gaussian(z, 0.0, 1.0)
        return np.asarray(fit - log_gaussian(z, mean, variance))

    return (elbo(step) - 2.0 * elbo(0.0) + elbo(-step)) / step**2


def _active_sampled(c: Formulas) -> Evidence:
    random, s2 = np.random.default_rng(8), 0.5
    optimum = linear_igp(np.array([4.0, 1.0, 0.03125]), s2)
    dgp, igp = c.thresholds(s2, optimum.level)
    return sampled(
        "curvature 0 of the ELBO in a closed direction's weight at both thresholds",
        (0.0, _opened(1.0, dgp, s2, random)),
        (0.0, _opened(optimum.variance, igp, s2, random)),
    )


def _best(spectrum: Array, s2: float, cost: Callable[[Array], tuple[float, Array]]) -> Array:
    """Squared weights that maximise the ELBO, found numerically; ``cost`` is what z costs."""

    def objective(a: Array) -> tuple[float, Array]:
        price, by_weight = cost(a)
        value = 0.5 * float((spectrum / (a + s2)).sum()) + price
        return value, by_weight - 0.5 * spectrum / (a + s2) ** 2

    rules = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 2000}
    positive = {"bounds": [(0.0, None)] * len(spectrum), "method": "L-BFGS-B", "options": rules}
    return np.asarray(scipy.optimize.minimize(objective, spectrum, jac=True, **positive).x)


def _active_by_optimisation(spectrum: Array, s2: float) -> tuple[Array, ...]:
    """Which directions numerical optimisation opens, diagonal and isotropic; booleans (K,)."""

    def diagonal(a: Array) -> tuple[float, Array]:
        return 0.5 * float(np.log1p(a / s2).sum()), 0.5 / (a + s2)

    def isotropic(a: Array) -> tuple[float, Array]:
        level = s2 + float(a.mean())
        return 0.5 * len(a) * math.log(level / s2), np.full(len(a), 0.5 / level)

    return tuple(_best(spectrum, s2, cost) > 1e-5 * s2 for cost in (diagonal, isotropic))


def _active_search(c: Formulas) -> Evidence:
    def violated(case: tuple[Array, float]) -> bool:
        spectrum, s2 = case
        limits = c.thresholds(s2, linear_igp(*case).level)
        for limit, active in zip(limits, _active_by_optimisation(*case), strict=True):
            clear = np.abs(spectrum / limit - 1.0) > 0.02  # at the limit the weight is nearly 0
            if ((spectrum > limit) != active)[clear].any():
                return True
        return bool(limits[1] > limits[0] * (1.0 + 1e-9))

    compared = "another set of active directions, or fewer with an isotropic posterior"
    return search(compared, _spectra(-6, 6, 0.5), violated, _active_shown, draws=120)


ACTIVE = 0.01  # variance of the mean from which a unit is active (Burda et al. 2016)


def fewer_printed() -> Evidence:
    """A linear VAE in which the isotropic posterior has fewer active directions as AU counts."""

    def counts(case: tuple[Array, float]) -> list[int]:
        return [int((variance >= ACTIVE).sum()) for variance in mean_variances(*case)]

    def shown(case: tuple[Array, float]) -> str:
        return "{}: {} diagonal, {} isotropic".format(_eigenvalues(case), *counts(case))

    compared = "fewer directions with variance of the mean at least 0.01 than diagonal"
    cases = _spectra(-4, 24, 1.0)
    return search(compared, cases, lambda case: counts(case)[1] < counts(case)[0], shown)


I3B = stated(
    "I3b",
    Formulas(thresholds),
    {"level": ("return s2", "return s2 / 2"), "power": ("(s2 / c)", "(s2 / c) ** 2")},
    (_active_symbolic, _active_sampled, _active_search),
    fewer_printed,
)

STATEMENTS = (I3, I3B)
