"""The linear VAE and importance weighting: models in which every answer is known.

Notation: x has covariance S with eigenvalues lambda_i, the decoder is N(W z + b, s^2 I) with s^2
held fixed, the encoder q(z|x) = N(V x + a, diag tau^2), the prior N(0, I), and the loss
E[-log p(x|z)] + beta KL; nats.
Divided by beta, the loss is the negative ELBO of probabilistic PCA with noise n = beta s^2 plus a
constant; its optimum at fixed noise gives the closed forms.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import sympy
from hypothesis import strategies as st
from scipy.special import digamma

from companion.claims.formulas import Array, gaussian_kl, logs
from companion.claims.linear import Fit, fit
from companion.claims.statements import Facts, Formulas, Means, log, stated

EIGENVALUES = (4.0, 1.0, 0.2, 0.05)
NOISE_VAR = 0.25
_DRAWS = 200_000


# --- closed forms ---------------------------------------------------------------------------------


class Optimum(NamedTuple):
    """A linear VAE at its global optimum; arrays are (D,), in the order of the eigenvalues."""

    weight_squared: Array  # squared length of the column of W
    posterior_variance: Array
    variance_of_means: Array  # over x, ddof 0
    kl: Array  # E KL(q(z|x) || p), nats
    mutual_posterior_divergence: Array  # over i.i.d. pairs
    entropy: Array  # of q(z|x), nats
    reconstruction: float  # E log p(x|z), nats, all dimensions of x
    log_evidence: float  # E log p(x), nats

    @property
    def elbo(self) -> float:
        """The evidence lower bound with weight 1, whatever the weight in training; nats."""
        return self.reconstruction - float(self.kl.sum())


def level(noise_var: Any, beta: Any) -> Any:
    """Directions whose eigenvalue lies below it collapse."""
    return beta * noise_var


def active_kl(ratio: Any) -> Any:
    """E KL(q(z|x) || p) of an active direction, from its eigenvalue over the level; nats."""
    return log(ratio) / 2


def active_mpd(ratio: Any) -> Any:
    """Mutual posterior divergence over i.i.d. pairs of an active direction; nats."""
    return ratio - 1


def optimum(eigenvalues: Any, noise_var: float, beta: float) -> Optimum:
    """Closed form of the optimum with a latent dimension for each eigenvalue.

    Args:
        eigenvalues: (D,), of the data covariance, ddof 0.
        noise_var: s^2.
        beta: weight of the KL, positive.
    """
    spectrum, water = np.asarray(eigenvalues, dtype=float), level(noise_var, beta)
    active = spectrum > water
    ratio = np.where(active, spectrum / water, 1.0)
    weight_squared = np.where(active, spectrum - water, 0.0)
    generated = weight_squared + noise_var
    missed = np.minimum(spectrum, water) / noise_var
    constant = math.log(2.0 * math.pi)
    return Optimum(
        weight_squared,
        1.0 / ratio,
        1.0 - 1.0 / ratio,
        active_kl(ratio),
        np.where(active, active_mpd(ratio), 0.0),
        0.5 * (constant + 1.0 - np.log(ratio)),
        -0.5 * float((missed + constant + math.log(noise_var)).sum()),
        -0.5 * float((spectrum / generated + np.log(generated) + constant).sum()),
    )


# --- training -------------------------------------------------------------------------------------


class _Task(NamedTuple):
    """A covariance by its eigenvalues over n, and what is trained on it."""

    ratios: tuple[float, ...]  # lambda_i / (beta s^2), falling
    noise_var: float
    beta: float
    latent: int
    seed: int  # of the eigenvectors and of the start

    @property
    def eigenvalues(self) -> Array:
        """(F,)."""
        return np.array(self.ratios) * self.noise_var * self.beta

    def covariance(self) -> Array:
        """(F, F), with random eigenvectors."""
        size = len(self.ratios)
        basis = np.random.default_rng(self.seed).normal(size=(size, size))
        turned, _ = np.linalg.qr(basis)
        return np.asarray(turned @ np.diag(self.eigenvalues) @ turned.T)

    def closed(self, c: Formulas) -> Optimum:
        """The optimum of as many directions as there are latent dimensions, padded with zeros."""
        values = np.full(self.latent, 1e-12)
        values[: len(self.ratios)] = self.eigenvalues[: self.latent]
        return c.optimum(values, self.noise_var, self.beta)


# Ratios away from 1: at the threshold itself training needs ever more steps.
_RATIOS = (0.25, 0.5, 0.75, 1.25, 1.5, 2.0, 4.0, 8.0)


@st.composite
def _tasks(draw: st.DrawFn) -> _Task:
    ratios = draw(st.lists(st.sampled_from(_RATIOS), min_size=1, max_size=3))
    return _Task(
        tuple(sorted(ratios, reverse=True)),
        2.0 ** draw(st.integers(-3, 2)),
        2.0 ** draw(st.integers(-2, 3)),
        draw(st.integers(1, 3)),
        draw(st.integers(0, 100)),
    )


@functools.cache  # the searches share their tasks
def _trained(task: _Task) -> Fit:
    return fit(task.covariance(), task.latent, task.noise_var, task.beta, task.seed)


def _near(left: Any, right: Any, tolerance: float = 1e-4) -> bool:
    return bool(np.allclose(left, right, rtol=tolerance, atol=tolerance))


@functools.cache
def _trained_example() -> Fit:
    """The example of the figures with weight 1/2, trained."""
    return fit(np.diag(EIGENVALUES), len(EIGENVALUES), NOISE_VAR, 0.5, 1)


def _data(random: np.random.Generator) -> Array:
    """x (n, F) of the example: the axes are the eigenvectors."""
    spread = np.sqrt(np.array(EIGENVALUES))
    return np.asarray(random.normal(size=(_DRAWS, len(EIGENVALUES))) * spread)


def _encoded(random: np.random.Generator, x: Array) -> Array:
    """z (n, D) drawn from the trained encoder."""
    model = _trained_example()
    noise = random.normal(size=(len(x), len(model.variance)))
    return np.asarray(x @ model.encoder.T + np.sqrt(model.variance) * noise)


def _log_q(z: Array, x: Array) -> Array:
    """log q(z|x) of the trained example, up to the constant of a Gaussian."""
    model = _trained_example()
    squared = (z - x @ model.encoder.T) ** 2 / model.variance
    return np.asarray(-0.5 * (squared + np.log(model.variance)).sum(1))


# --- one direction in symbols ---------------------------------------------------------------------

_BETA, _S2, _Y, _TAU2 = sympy.symbols("beta s2 y tau2", positive=True)
_W, _V = sympy.symbols("w v", real=True)
_N = _BETA * _S2  # the noise of the equivalent probabilistic PCA
_LAMBDA = _N + _Y  # an active direction
_BEST = {_V: _W / (_W**2 + _N), _TAU2: _N / (_W**2 + _N)}  # of the encoder, given w
_KL = (_V**2 * _LAMBDA + _TAU2 - 1 - sympy.log(_TAU2)) / 2


def _at_optimum(expression: Any) -> Any:
    """An expression in w, v and tau^2 at the optimum of one active direction."""
    return expression.subs(_BEST).subs(_W, sympy.sqrt(_Y))


# --- V1, the optimum ------------------------------------------------------------------------------

_LEVEL_WRONG = {"factor of the level": ("return beta *", "return 2 * beta *")}

V1 = stated(
    "V1",
    Formulas(level, optimum),
    {**_LEVEL_WRONG, "power of β": ("return beta *", "return 1 *")},
)


@V1.symbolic
def _(c: Formulas) -> Facts:
    """slopes at the claimed optimum are 0, and the excess elsewhere is β (r − 1 − log r) / 2"""
    # The best encoder for any w; then the loss in u = w^2, whose excess is h = r - 1 - log r.
    u = sympy.symbols("u", nonnegative=True)
    squared = (1 - _W * _V) ** 2 * _LAMBDA + _W**2 * _TAU2
    loss, claimed = squared / (2 * _S2) + _BETA * _KL, _LAMBDA - c.level(_S2, _BETA)
    profile = loss.subs(_BEST).subs(_W, sympy.sqrt(u))
    ratio = _LAMBDA / (u + _N)
    excess = _BETA / 2 * (ratio - 1 - sympy.log(ratio))
    apart = profile - profile.subs(u, claimed) - excess
    return (
        (sympy.diff(loss, _V).subs(_BEST), 0),
        (sympy.diff(loss, _TAU2).subs(_BEST), 0),
        (sympy.diff(profile, u).subs(u, claimed), 0),
        (logs(logs(apart).simplify()), 0),
    )


@V1.sampled
def _(c: Formulas) -> Means:
    """generated variance by eigenvector; loss in nats; trained at β = 1/2"""
    model, random, beta = _trained_example(), np.random.default_rng(1), 0.5
    closed = c.optimum(EIGENVALUES, NOISE_VAR, beta)
    samples = random.normal(size=(_DRAWS, len(EIGENVALUES))) @ model.decoder.T
    samples += math.sqrt(NOISE_VAR) * random.normal(size=samples.shape)
    x = _data(random)
    z = _encoded(random, x)
    missed = ((x - z @ model.decoder.T) ** 2).sum(1) / NOISE_VAR
    constant = x.shape[1] * math.log(2.0 * math.pi * NOISE_VAR)
    paid = 0.5 * (missed + constant) + beta * (_log_q(z, x) + 0.5 * (z * z).sum(1))
    generated = (closed.weight_squared + NOISE_VAR).tolist()
    best = -closed.reconstruction + beta * float(closed.kl.sum())
    return *zip(generated, samples.T**2, strict=True), (best, paid)


@V1.search(_tasks(), draws=60)
def _(c: Formulas, task: _Task) -> bool:
    """training lands elsewhere: up to 3 data and 3 latent dimensions, random start and basis"""
    model, closed = _trained(task), task.closed(c)
    left_out = task.eigenvalues[task.latent :].sum() / (2.0 * task.noise_var)
    missing = len(task.ratios) - len(closed.kl)
    constant = 0.5 * missing * math.log(2 * math.pi * task.noise_var)
    best = left_out + constant - closed.reconstruction + task.beta * float(closed.kl.sum())
    lengths = np.sort((model.decoder**2).sum(0))[::-1]
    wide = 1.0 + task.eigenvalues.max()
    same = _near(lengths / wide, closed.weight_squared / wide)
    return not (same and _near(model.loss, best, 1e-7))


# --- V2, the KL -----------------------------------------------------------------------------------

V2 = stated(
    "V2",
    Formulas(level, active_kl, optimum),
    {"half": ("log(ratio) / 2", "log(ratio) / 1"), **_LEVEL_WRONG},
)


@V2.symbolic
def _(c: Formulas) -> Facts:
    """average KL at the optimum; variance of the aggregated posterior against the prior's"""
    claimed = c.active_kl(_LAMBDA / c.level(_S2, _BETA))
    apart = logs(sympy.simplify(_at_optimum(_KL)) - claimed)
    return (logs(sympy.simplify(apart)), 0), (_at_optimum(_V**2 * _LAMBDA + _TAU2), 1)


@V2.sampled
def _(c: Formulas) -> Means:
    """log q(z|x) − log p(z) of the model trained at β = 1/2, nats"""
    random = np.random.default_rng(2)
    x = _data(random)
    z = _encoded(random, x)
    exact = float(c.optimum(EIGENVALUES, NOISE_VAR, 0.5).kl.sum())
    return [(exact, _log_q(z, x) + 0.5 * (z * z).sum(1))]


@V2.search(_tasks(), draws=60)
def _(c: Formulas, task: _Task) -> bool:
    """KL of some dimension of a trained model apart"""
    return not _near(_trained(task).kl, task.closed(c).kl)


# --- V3, the divergence between posteriors --------------------------------------------------------

V3 = stated(
    "V3",
    Formulas(level, active_mpd, optimum),
    {"one": ("ratio - 1", "ratio - 0"), **_LEVEL_WRONG},
)


@V3.symbolic
def _(c: Formulas) -> Facts:
    """average KL of two points' posteriors"""
    definition = 2 * _V**2 * _LAMBDA / (2 * _TAU2)  # E (v x1 - v x2)^2 / (2 tau^2)
    return [(_at_optimum(definition), c.active_mpd(_LAMBDA / c.level(_S2, _BETA)))]


@V3.sampled
def _(c: Formulas) -> Means:
    """log-ratio of two posteriors over random pairs, z from the first, trained model, nats"""
    random = np.random.default_rng(3)
    first, second = _data(random), _data(random)
    z = _encoded(random, first)
    exact = c.optimum(EIGENVALUES, NOISE_VAR, 0.5).mutual_posterior_divergence.sum()
    return [(float(exact), _log_q(z, first) - _log_q(z, second))]


def _whitened(task: _Task) -> Array:
    """N points whose covariance with ddof 0 is exactly that of the task."""
    random, size = np.random.default_rng(task.seed + 1), len(task.ratios)
    raw = random.normal(size=(size + 3, size))
    left, _, _ = np.linalg.svd(raw - raw.mean(0), full_matrices=False)
    return np.asarray(math.sqrt(len(raw)) * left @ np.linalg.cholesky(task.covariance()).T)


@V3.search(_tasks(), draws=60)
def _(c: Formulas, task: _Task) -> bool:
    """MPD over all pairs of a finite data set apart, under a trained model"""
    model = _trained(task)
    mean = _whitened(task) @ model.encoder.T
    apart = (mean[:, None] - mean[None]) ** 2 / (2.0 * model.variance)
    averages = np.sort(apart.mean((0, 1)))[::-1]
    return not _near(averages, task.closed(c).mutual_posterior_divergence)


# --- V4, importance weighting ---------------------------------------------------------------------


class Weighted(NamedTuple):
    """z ~ N(0, 1), x|z ~ N(w z, s^2 I) at one x, and an encoder N(mean, sd^2); nats."""

    w: tuple[float, ...]  # (F,)
    s: float
    x: tuple[float, ...]  # (F,)
    mean: float
    sd: float

    def _products(self) -> tuple[float, float, float, float]:
        """|w|^2 / s^2, w.x / s^2, |x|^2 / s^2, and the constant of the likelihood."""
        w, x = np.array(self.w) / self.s, np.array(self.x) / self.s
        constant = len(self.x) * math.log(2.0 * math.pi * self.s**2)
        return float(w @ w), float(w @ x), float(x @ x), constant

    @property
    def posterior(self) -> tuple[float, float]:
        """Mean and variance of p(z|x)."""
        ww, wx, *_ = self._products()
        return wx / (1.0 + ww), 1.0 / (1.0 + ww)

    @property
    def log_evidence(self) -> float:
        """log p(x)."""
        ww, wx, xx, constant = self._products()
        return -0.5 * (xx - wx * wx / (1.0 + ww) + math.log1p(ww) + constant)

    @property
    def reconstruction(self) -> float:
        """E_q[log p(x|z)]."""
        ww, wx, xx, constant = self._products()
        squared = xx - 2.0 * self.mean * wx + (self.mean**2 + self.sd**2) * ww
        return -0.5 * (squared + constant)

    @property
    def kl(self) -> float:
        """KL(q || p)."""
        return float(gaussian_kl(self.mean, self.sd**2))

    @property
    def gap(self) -> float:
        """KL(q || p(z|x))."""
        return float(gaussian_kl(self.mean, self.sd**2, *self.posterior))

    @property
    def chi_squared(self) -> float:
        """chi^2(p(z|x) || q)."""
        return chi_squared(self.posterior, (self.mean, self.sd**2))

    def log_weight(self, z: Array) -> Array:
        """log p(x, z) - log q(z), from the three densities."""
        ww, wx, xx, constant = self._products()
        squared = xx - 2.0 * z * wx + z * z * ww
        noise = (z - self.mean) / self.sd
        return np.asarray(0.5 * (noise**2 - squared - z * z - constant) + math.log(self.sd))


WEIGHTED = Weighted((1.3,), 0.6, (0.9,), 0.4, 0.5)


def chi_squared(posterior: tuple[float, float], q: tuple[float, float]) -> float:
    """Chi-squared divergence of two scalar Gaussians (mean, variance): E_q[(p / q)^2] - 1.

    Infinite where q is so narrow that its variance is at most half the posterior's.
    """
    mean, variance = posterior
    room = 2.0 * q[1] - variance
    if room <= 0.0:
        return math.inf
    return math.expm1((mean - q[0]) ** 2 / room + math.log(q[1]) - 0.5 * math.log(variance * room))


@functools.cache
def two_sample_bound(model: Weighted, points: int = 801) -> float:
    """L_2 by the trapezoid rule in two dimensions, nats."""
    noise = np.linspace(-10.0, 10.0, points)
    density = np.exp(-0.5 * noise * noise)
    density /= density.sum()
    weight = model.log_weight(model.mean + model.sd * noise)
    both = np.logaddexp(weight[:, None], weight[None]) - math.log(2.0)
    return float(density @ both @ density)


V4 = stated(
    "V4",
    Formulas(gap="chi2 / (2 * k)", growth="steps"),
    {
        "half": ("(2 * k)", "k"),
        "power of K": ("* k)", "* k**2)"),
        "sign of the growth": ("steps", "-steps"),
    },
)


@V4.symbolic
def _(c: Formulas) -> Facts:
    """gap to second order in the weights 1 ± d, K = 1 to 4; K times it for K → ∞, Gamma weights"""
    # For weights ~ Gamma(a) / a the sum of K is Gamma(K a), so that the gap is
    # log(K a) - digamma(K a), and chi^2 = 1 / a.
    d, x = sympy.symbols("d x", positive=True)
    pairs = []
    for k in map(sympy.Integer, range(1, 5)):
        terms = (sympy.binomial(k, j) * sympy.log(1 + d * (2 * j - k) / k) for j in range(k + 1))
        second = -sympy.diff(sum(terms), d, 2).subs(d, 0) / 2 / 2**k
        pairs.append((second, c.gap(chi2=1, k=k)))
    ratio = (sympy.log(x) - sympy.digamma(x)) / c.gap(chi2=1, k=x)
    return *pairs, (sympy.limit(ratio, x, sympy.oo), sympy.S.One)


@V4.sampled
def _(c: Formulas) -> Means:
    """L₁ and L₂ in nats; K times the gap at K = 100 against χ²/2"""
    random, count, k = np.random.default_rng(4), 20_000, 100
    noise = random.normal(size=(count, k))
    log_weight = WEIGHTED.log_weight(WEIGHTED.mean + WEIGHTED.sd * noise)
    ratio = np.exp(log_weight - WEIGHTED.log_evidence).mean(1)
    two = np.logaddexp(log_weight[:, 0], log_weight[:, 1]) - math.log(2.0)
    gaps = ratio - 1.0 - np.log(ratio)  # E[-log R] = E[R - 1 - log R]
    return (
        (WEIGHTED.reconstruction - WEIGHTED.kl, log_weight[:, 2]),
        (two_sample_bound(WEIGHTED), two),
        (k * c.gap(chi2=WEIGHTED.chi_squared, k=k), k * gaps),
    )


def _finite_bounds(weights: Array, chances: Array, most: int = 4) -> list[float]:
    """L_1 to L_most of weights with finitely many values, by enumeration; and log p(x)."""
    bounds = []
    total, chance = np.zeros(1), np.ones(1)
    for k in range(1, most + 1):
        total = (total[:, None] + weights).ravel()
        chance = (chance[:, None] * chances).ravel()
        bounds.append(float((chance * np.log(total / k)).sum()))
    return [*bounds, math.log(float(weights @ chances))]


_SOME = st.lists(st.integers(1, 64), min_size=1, max_size=3)


@V4.search(
    st.tuples(_SOME, _SOME, st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]), st.integers(1, 200)),
    "weights {} / 8, chances {}, shape {:g}, K = {}",
    200,
)
def _(c: Formulas, values: list[int], chances: list[int], shape: float, k: int) -> bool:
    """L_K above L_K+1 or log p(x), K to 4; gap of Gamma weights off χ²/(2K) by over χ⁴/(12K²)"""
    # 1/(2x) < log x - digamma(x) < 1/(2x) + 1/(12 x^2) for every x > 0.
    size = min(len(values), len(chances))
    chance = np.array(chances[:size]) / sum(chances[:size])
    chain = _finite_bounds(np.array(values[:size]) / 8.0, chance)
    x = k * shape
    excess = math.log(x) - float(digamma(x)) - c.gap(chi2=1.0 / shape, k=k)
    falls = float(c.growth(steps=np.diff(chain)).min()) < -1e-12
    return falls or not -1e-12 < excess < 1.0 / (12.0 * x * x) + 1e-12


STATEMENTS = (V1, V2, V3, V4)
