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

from companion.claims import linear
from companion.claims.formulas import Array, apart, cached, gaussian, log_gaussian, logs, root
from companion.claims.statements import Facts, Formulas, Means, stated


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


I3 = stated(
    "I3",
    Formulas(open_weight, level_of),
    {
        "power": ("root(lam / c)", "(lam / c)"),
        "noise": ("- s2", "- s2 / 2"),
        "share": ("+ mean_weight", "+ mean_weight / 2"),
    },
)


def linear_igp(spectrum: Array, s2: float, formulas: Any = I3.constants) -> LinearIgp:
    """The optimum for eigenvalues (K,) of the data covariance and noise variance s^2.

    The squared weights are (sqrt(lambda c) - s^2)_+ with c = s^2 + their mean over all K.
    """

    def weights(level: float) -> Array:
        return np.maximum(formulas.open_weight(spectrum, level, s2), 0.0)

    def excess(level: float) -> float:
        return level - float(formulas.level_of(weights(level).mean(), s2))

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


class Trained(NamedTuple):
    """A linear VAE after training."""

    loss: float
    weights: Array  # (K,), eigenvalues of the decoder's Gram matrix, the largest first
    variance: float  # of the posterior
    means: Array  # (K, K): covariance of the posterior means


@cached
def train(spectrum: Array, s2: float, seed: int = 0) -> Trained:
    """Train full encoder and decoder matrices and one posterior variance from a random start."""
    model = linear.fit(np.diag(spectrum), len(spectrum), s2, seed=seed, variances=1)
    lengths = np.linalg.svd(model.decoder, compute_uv=False) ** 2
    means = (model.encoder * spectrum) @ model.encoder.T
    return Trained(model.loss, lengths, float(model.variance[0]), means)


# --- I3, the optimum ------------------------------------------------------------------------------


@I3.symbolic
def _(c: Formulas) -> Facts:
    """no slope of the ELBO in encoder, posterior variance and weight at the optimum; its value"""
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
    return (
        (sympy.diff(direction, v).subs(v, best), 0),
        (direction.subs(v, best), half * lam / (w**2 + s)),
        (sympy.diff(shared, t).subs(t, s / c.level_of(m, s)), 0),
        (logs(shared.subs(t, s / (s + m))), value),
        (slope.subs(a, c.open_weight(lam, level, s)), 0),
    )


@I3.sampled
def _(c: Formulas) -> Means:
    """KL = (K/2) log(c/s²) and the ELBO at the optimum for eigenvalues 2, 1/2, 1/8, nats"""
    spectrum, s2 = np.array([2.0, 0.5, 0.125]), 0.25
    random, optimum = np.random.default_rng(7), linear_igp(spectrum, s2, c)
    a, width = optimum.weights, np.sqrt(optimum.weights)
    x = np.sqrt(spectrum) * random.normal(size=(200_000, 3))
    mean = width / (a + s2) * x
    z = gaussian(random, mean, optimum.variance)
    ratio = (log_gaussian(z, mean, optimum.variance) - log_gaussian(z, 0.0, 1.0)).sum(-1)
    likelihood = log_gaussian(x, width * z, s2).sum(-1)
    constant = 1.5 * math.log(2.0 * math.pi * s2)
    elbo = -0.5 * (spectrum / (a + s2)).sum() - optimum.kl - constant
    return (optimum.kl, ratio), (elbo, likelihood - ratio)


def _spectra(low: int, high: int, step: float) -> st.SearchStrategy[tuple[Array, float]]:
    """Eigenvalues (K,), the largest first, and a noise variance."""
    powers = st.lists(st.integers(low, high), min_size=1, max_size=4)
    ordered = powers.map(lambda k: np.exp2(step * np.sort(np.asarray(k, dtype=float))[::-1]))
    return st.tuples(ordered, st.integers(low, 2).map(lambda k: float(np.exp2(step * k))))


def _eigenvalues(spectrum: Array, s2: float) -> str:
    return f"eigenvalues {', '.join(f'{value:.4g}' for value in spectrum)}, noise {s2:.4g}"


def _active_words(spectrum: Array, s2: float) -> str:
    diagonal, isotropic = (spectrum > s2).sum(), (linear_igp(spectrum, s2).weights > 0).sum()
    text = f"{diagonal} active with a diagonal, {isotropic} with an isotropic posterior"
    return f"{_eigenvalues(spectrum, s2)}: {text}"


@I3.search(_spectra(-6, 6, 0.5), _active_words, 60)
def _(c: Formulas, spectrum: Array, s2: float) -> bool:
    """a linear VAE that trains from a random start to another ELBO than the formula's"""
    optimum, size = linear_igp(spectrum, s2, c), len(spectrum)
    width = np.sqrt(optimum.weights)
    matrices = np.diag(width), np.diag(width / (optimum.weights + s2))
    flat = np.array([*np.ravel(matrices), math.log(optimum.variance)])
    here = linear.loss_and_gradient(flat, np.diag(spectrum), size, s2)[0]
    return apart(here, train(spectrum, s2).loss, 1e-6)


@I3.search_printed(_spectra(-6, 6, 1.0), _active_words)
def _(spectrum: Array, s2: float) -> bool:
    """an optimum that uses some directions, neither all nor none"""
    active = linear_igp(spectrum, s2).weights > 1e-6
    return bool(active.any() and not active.all())


# --- I3b, which directions are active -------------------------------------------------------------


def thresholds(s2: Any, c: Any) -> tuple[Any, Any]:
    """Eigenvalue above which a direction is active, with diagonal and isotropic posterior.

    They are s^2, and s^4 / c for the level c of the isotropic optimum.
    """
    return s2, s2 * (s2 / c)


I3B = stated(
    "I3b",
    Formulas(thresholds),
    {"level": ("return s2", "return s2 / 2"), "power": ("(s2 / c)", "(s2 / c) ** 2")},
)


@I3B.symbolic
def _(c: Formulas) -> Facts:
    """the ELBO is flat in w where λ is at the threshold; the isotropic one is lower"""
    w, lam, s = sympy.symbols("w lambda s", positive=True)
    level = s + sympy.Symbol("m", nonnegative=True)

    def curvature(variance: Any) -> Any:
        v = w / (w**2 + s)
        squares = lam * (1 - w * v) ** 2 + variance * w**2
        elbo = -(squares / s + lam * v**2 + variance) / 2
        return sympy.diff(elbo, w, 2).subs(w, 0)

    dgp, igp = c.thresholds(s, level)
    flat = (curvature(1).subs(lam, dgp), 0), (curvature(s / level).subs(lam, igp), 0)
    return *flat, s - igp, sympy.diff(dgp - s, s)


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


@I3B.sampled
def _(c: Formulas) -> Means:
    """curvature 0 of the ELBO in a closed direction's weight at both thresholds"""
    random, s2 = np.random.default_rng(8), 0.5
    optimum = linear_igp(np.array([4.0, 1.0, 0.03125]), s2)
    widths = 1.0, optimum.variance
    limits = c.thresholds(s2, optimum.level)
    return [(0.0, _opened(v, at, s2, random)) for v, at in zip(widths, limits, strict=True)]


def _best(spectrum: Array, s2: float, cost: Callable[[Array], tuple[float, Array]]) -> Array:
    """Squared weights that maximise the ELBO, by optimisation; ``cost`` is what z costs."""

    def objective(a: Array) -> tuple[float, Array]:
        price, by_weight = cost(a)
        value = 0.5 * float((spectrum / (a + s2)).sum()) + price
        return value, by_weight - 0.5 * spectrum / (a + s2) ** 2

    rules = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 2000}
    positive = {"bounds": [(0.0, None)] * len(spectrum), "method": "L-BFGS-B", "options": rules}
    return np.asarray(scipy.optimize.minimize(objective, spectrum, jac=True, **positive).x)


@cached
def _active_by_optimisation(spectrum: Array, s2: float) -> tuple[Array, ...]:
    """Which directions numerical optimisation opens, diagonal and isotropic; booleans (K,)."""

    def diagonal(a: Array) -> tuple[float, Array]:
        return 0.5 * float(np.log1p(a / s2).sum()), 0.5 / (a + s2)

    def isotropic(a: Array) -> tuple[float, Array]:
        level = s2 + float(a.mean())
        return 0.5 * len(a) * math.log(level / s2), np.full(len(a), 0.5 / level)

    return tuple(_best(spectrum, s2, cost) > 1e-5 * s2 for cost in (diagonal, isotropic))


@I3B.search(_spectra(-6, 6, 0.5), _active_words, 120)
def _(c: Formulas, spectrum: Array, s2: float) -> bool:
    """another set of active directions, or fewer with an isotropic posterior"""
    limits = c.thresholds(s2, linear_igp(spectrum, s2).level)
    for limit, active in zip(limits, _active_by_optimisation(spectrum, s2), strict=True):
        clear = np.abs(spectrum / limit - 1.0) > 0.02  # at the limit the weight is nearly 0
        if ((spectrum > limit) != active)[clear].any():
            return True
    return bool(limits[1] > limits[0] * (1.0 + 1e-9))


ACTIVE = 0.01  # variance of the mean from which a unit is active (Burda et al. 2016)


def _counts(spectrum: Array, s2: float) -> list[int]:
    return [int((variance >= ACTIVE).sum()) for variance in mean_variances(spectrum, s2)]


def _fewer_words(spectrum: Array, s2: float) -> str:
    diagonal, isotropic = _counts(spectrum, s2)
    return f"{_eigenvalues(spectrum, s2)}: {diagonal} diagonal, {isotropic} isotropic"


@I3B.search_printed(_spectra(-4, 24, 1.0), _fewer_words)
def _(spectrum: Array, s2: float) -> bool:
    """fewer directions with variance of the mean at least 0.01 than diagonal"""
    diagonal, isotropic = _counts(spectrum, s2)
    return isotropic < diagonal


STATEMENTS = (I3, I3B)
