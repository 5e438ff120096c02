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
from scipy.optimize import minimize
from scipy.special import digamma

from companion.claims.formulas import Array, gaussian_kl
from companion.claims.statements import Evidence, Formulas, equal, log, sampled, search, stated

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


# --- training, from the definition ----------------------------------------------------------------


def _unpacked(flat: Array, features: int, latent: int) -> tuple[Array, Array, Array]:
    size = features * latent
    w, v = flat[:size].reshape(features, latent), flat[size : 2 * size].reshape(latent, features)
    return w, v, flat[2 * size :]


def loss_and_gradient(
    flat: Array, covariance: Array, latent: int, noise_var: float, beta: float
) -> tuple[float, Array]:
    """E[-log p(x|z)] + beta KL for centred data with the covariance (F, F), and its gradient.

    ``flat`` holds W (F, D), V (D, F) and the log-variances (D,), one after another.
    """
    features = len(covariance)
    w, v, logvar = _unpacked(flat, features, latent)
    variance, encoded = np.exp(logvar), v @ covariance
    squared = np.trace(covariance) - 2.0 * np.trace(w @ encoded)
    squared += np.trace(w @ encoded @ v.T @ w.T) + ((w * w).sum(0) * variance).sum()
    kl = 0.5 * (np.trace(encoded @ v.T) + (variance - 1.0 - logvar).sum())
    constant = 0.5 * features * math.log(2.0 * math.pi * noise_var)
    by_w = (w @ (encoded @ v.T + np.diag(variance)) - encoded.T) / noise_var
    by_v = (w.T @ w @ encoded - w.T @ covariance) / noise_var + beta * encoded
    by_logvar = 0.5 * (w * w).sum(0) * variance / noise_var + 0.5 * beta * (variance - 1.0)
    gradient = np.concatenate([by_w.ravel(), by_v.ravel(), by_logvar])
    return float(squared / (2.0 * noise_var) + constant + beta * kl), gradient


class Fit(NamedTuple):
    """A trained linear VAE; its latent dimensions are in the order of falling KL."""

    decoder: Array  # W, (F, D)
    encoder: Array  # V, (D, F)
    variance: Array  # (D,), of the posterior
    variance_of_means: Array  # (D,)
    kl: Array  # (D,), nats
    loss: float  # nats


def fit(covariance: Any, latent: int, noise_var: float, beta: float, seed: int = 0) -> Fit:
    """Train from a random start by L-BFGS on the loss itself; no closed form is used."""
    matrix = np.asarray(covariance, dtype=float)
    features = len(matrix)
    start = np.random.default_rng(seed).normal(size=2 * features * latent + latent) * 0.5
    best = minimize(
        loss_and_gradient,
        start,
        (matrix, latent, noise_var, beta),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": 4000, "maxfun": 8000, "ftol": 0.0, "gtol": 1e-9, "maxcor": 30},
    )
    w, v, logvar = _unpacked(best.x, features, latent)
    variance, means = np.exp(logvar), np.einsum("df,fg,dg->d", v, matrix, v)
    kl = 0.5 * (means + variance - 1.0 - logvar)
    order = np.argsort(-kl)
    return Fit(w[:, order], v[order], variance[order], means[order], kl[order], float(best.fun))


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

    def trained(self) -> Fit:
        """The model after training."""
        return fit(self.covariance(), self.latent, self.noise_var, self.beta, self.seed)


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


def _near(left: Any, right: Any, tolerance: float = 1e-5) -> bool:
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


def _direction() -> Any:
    """Loss of one direction: gain w of the decoder, v of the encoder, posterior variance tau^2."""
    squared = (1 - _W * _V) ** 2 * _LAMBDA + _W**2 * _TAU2
    kl = (_V**2 * _LAMBDA + _TAU2 - 1 - sympy.log(_TAU2)) / 2
    return squared / (2 * _S2) + _BETA * kl


# --- V1, the optimum ------------------------------------------------------------------------------


def _weight_symbolic(c: Formulas) -> Evidence:
    """The best encoder for any w; then the loss in u = w^2, whose excess is h = r - 1 - log r."""
    u, loss = sympy.symbols("u", nonnegative=True), _direction()
    claimed = _LAMBDA - c.level(_S2, _BETA)
    profile = loss.subs(_BEST).subs(_W, sympy.sqrt(u))
    ratio = _LAMBDA / (u + _N)
    excess = _BETA / 2 * (ratio - 1 - sympy.log(ratio))
    apart = profile - profile.subs(u, claimed) - excess
    return equal(
        "slopes at the claimed optimum are 0, and the excess elsewhere is β (r − 1 − log r) / 2",
        (sympy.diff(loss, _V).subs(_BEST), 0),
        (sympy.diff(loss, _TAU2).subs(_BEST), 0),
        (sympy.diff(profile, u).subs(u, claimed), 0),
        (sympy.expand_log(sympy.expand_log(apart, force=True).simplify(), force=True), 0),
    )


def _weight_sampled(c: Formulas) -> Evidence:
    """What the trained model generates, along each eigenvector; and its loss."""
    model, random, beta = _trained_example(), np.random.default_rng(1), 0.5
    closed = c.optimum(EIGENVALUES, NOISE_VAR, beta)
    samples = random.normal(size=(_DRAWS, len(EIGENVALUES))) @ model.decoder.T
    samples += math.sqrt(NOISE_VAR) * random.normal(size=samples.shape)
    x = _data(random)
    z = _encoded(random, x)
    missed = ((x - z @ model.decoder.T) ** 2).sum(1) / NOISE_VAR
    constant = x.shape[1] * math.log(2.0 * math.pi * NOISE_VAR)
    paid = 0.5 * (missed + constant) + beta * (_log_q(z, x) + 0.5 * (z * z).sum(1))
    generated = closed.weight_squared + NOISE_VAR
    return sampled(
        "generated variance by eigenvector; loss in nats; trained at β = 1/2",
        *zip(generated.tolist(), samples.T**2, strict=True),
        (-closed.reconstruction + beta * float(closed.kl.sum()), paid),
    )


def _weight_search(c: Formulas) -> Evidence:
    """Training from random starts, with random eigenvectors, against the closed form."""

    def violated(task: _Task) -> bool:
        model, closed = task.trained(), task.closed(c)
        left_out = task.eigenvalues[task.latent :].sum() / (2.0 * task.noise_var)
        missing = len(task.ratios) - len(closed.kl)
        constant = 0.5 * missing * math.log(2 * math.pi * task.noise_var)
        best = left_out + constant - closed.reconstruction + task.beta * float(closed.kl.sum())
        lengths = np.sort((model.decoder**2).sum(0))[::-1]
        wide = 1.0 + task.eigenvalues.max()
        same = _near(lengths / wide, closed.weight_squared / wide, 1e-4)
        return not (same and _near(model.loss, best, 1e-7))

    text = "training lands elsewhere: up to 3 data and 3 latent dimensions, random start and basis"
    return search(text, _tasks(), violated, draws=60)


_LEVEL_WRONG = {"factor of the level": ("return beta *", "return 2 * beta *")}

V1 = stated(
    "V1",
    Formulas(level, optimum),
    {**_LEVEL_WRONG, "power of β": ("return beta *", "return 1 *")},
    (_weight_symbolic, _weight_sampled, _weight_search),
)


# --- V2, the KL -----------------------------------------------------------------------------------


def _at_optimum(expression: Any) -> Any:
    """An expression in w, v and tau^2 at the optimum of one active direction."""
    return expression.subs(_BEST).subs(_W, sympy.sqrt(_Y))


def _kl_symbolic(c: Formulas) -> Evidence:
    """The KL of two Gaussians, averaged over x, at the optimum; and the aggregate's variance."""
    kl = (_V**2 * _LAMBDA + _TAU2 - 1 - sympy.log(_TAU2)) / 2
    claimed = c.active_kl(_LAMBDA / c.level(_S2, _BETA))
    apart = sympy.expand_log(sympy.simplify(_at_optimum(kl)) - claimed, force=True)
    return equal(
        "average KL at the optimum; variance of the aggregated posterior against the prior's",
        (sympy.expand_log(sympy.simplify(apart), force=True), 0),
        (_at_optimum(_V**2 * _LAMBDA + _TAU2), 1),
    )


def _kl_sampled(c: Formulas) -> Evidence:
    """log q(z|x) - log p(z) under the trained model."""
    random = np.random.default_rng(2)
    x = _data(random)
    z = _encoded(random, x)
    draws = _log_q(z, x) + 0.5 * (z * z).sum(1)
    exact = float(c.optimum(EIGENVALUES, NOISE_VAR, 0.5).kl.sum())
    return sampled("log q(z|x) − log p(z) of the model trained at β = 1/2, nats", (exact, draws))


def _kl_search(c: Formulas) -> Evidence:
    def violated(task: _Task) -> bool:
        return not _near(task.trained().kl, task.closed(c).kl, 1e-4)

    return search("KL of some dimension of a trained model apart", _tasks(), violated, draws=60)


V2 = stated(
    "V2",
    Formulas(level, active_kl, optimum),
    {"half": ("log(ratio) / 2", "log(ratio) / 1"), **_LEVEL_WRONG},
    (_kl_symbolic, _kl_sampled, _kl_search),
)


# --- V3, the divergence between posteriors --------------------------------------------------------


def _mpd_symbolic(c: Formulas) -> Evidence:
    """E over i.i.d. pairs of (v x1 - v x2)^2 / (2 tau^2), at the optimum."""
    definition = 2 * _V**2 * _LAMBDA / (2 * _TAU2)
    claimed = c.active_mpd(_LAMBDA / c.level(_S2, _BETA))
    return equal("average KL of two points' posteriors", (_at_optimum(definition), claimed))


def _mpd_sampled(c: Formulas) -> Evidence:
    """log q(z|x1) - log q(z|x2) with z from the first, under the trained model."""
    random = np.random.default_rng(3)
    first, second = _data(random), _data(random)
    z = _encoded(random, first)
    exact = c.optimum(EIGENVALUES, NOISE_VAR, 0.5).mutual_posterior_divergence.sum()
    draws = _log_q(z, first) - _log_q(z, second)
    return sampled("log-ratio of two posteriors over random pairs, nats", (float(exact), draws))


def _whitened(task: _Task) -> Array:
    """N points whose covariance with ddof 0 is exactly that of the task."""
    random, size = np.random.default_rng(task.seed + 1), len(task.ratios)
    raw = random.normal(size=(size + 3, size))
    raw -= raw.mean(0)
    left, _, _ = np.linalg.svd(raw, full_matrices=False)
    root = np.linalg.cholesky(task.covariance())
    return np.asarray(math.sqrt(len(raw)) * left @ root.T)


def _mpd_search(c: Formulas) -> Evidence:
    """All pairs of a finite data set, one by one, under trained models."""

    def violated(task: _Task) -> bool:
        model = task.trained()
        mean = _whitened(task) @ model.encoder.T
        apart = (mean[:, None] - mean[None]) ** 2 / (2.0 * model.variance)
        averages = np.sort(apart.mean((0, 1)))[::-1]
        return not _near(averages, task.closed(c).mutual_posterior_divergence, 1e-4)

    return search("MPD over all pairs of a trained model apart", _tasks(), violated, draws=60)


V3 = stated(
    "V3",
    Formulas(level, active_mpd, optimum),
    {"one": ("ratio - 1", "ratio - 0"), **_LEVEL_WRONG},
    (_mpd_symbolic, _mpd_sampled, _mpd_search),
)


# --- V4, importance weighting ---------------------------------------------------------------------


class Weighted(NamedTuple):
    """z ~ N(0, 1), x|z ~ N(w z, s^2 I) at one x, and an encoder N(mean, sd^2)."""

    w: tuple[float, ...]  # (F,)
    s: float
    x: tuple[float, ...]  # (F,)
    mean: float
    sd: float

    def _products(self) -> tuple[float, float, float]:
        """|w|^2 / s^2, w.x / s^2 and |x|^2 / s^2."""
        w, x = np.array(self.w) / self.s, np.array(self.x) / self.s
        return float(w @ w), float(w @ x), float(x @ x)

    def _constant(self) -> float:
        return len(self.x) * math.log(2.0 * math.pi * self.s**2)

    @property
    def posterior(self) -> tuple[float, float]:
        """Mean and variance of p(z|x)."""
        ww, wx, _ = self._products()
        return wx / (1.0 + ww), 1.0 / (1.0 + ww)

    @property
    def log_evidence(self) -> float:
        """log p(x), nats."""
        ww, wx, xx = self._products()
        return -0.5 * (xx - wx * wx / (1.0 + ww) + math.log1p(ww) + self._constant())

    @property
    def reconstruction(self) -> float:
        """E_q[log p(x|z)], nats."""
        ww, wx, xx = self._products()
        squared = xx - 2.0 * self.mean * wx + (self.mean**2 + self.sd**2) * ww
        return -0.5 * (squared + self._constant())

    @property
    def kl(self) -> float:
        """KL(q || p), nats."""
        return float(gaussian_kl(self.mean, self.sd**2))

    @property
    def gap(self) -> float:
        """KL(q || p(z|x)), nats."""
        return float(gaussian_kl(self.mean, self.sd**2, *self.posterior))

    @property
    def chi_squared(self) -> float:
        """chi^2(p(z|x) || q)."""
        return chi_squared(self.posterior, (self.mean, self.sd**2))

    def log_weight(self, z: Array) -> Array:
        """log p(x, z) - log q(z), nats, from the three densities."""
        ww, wx, xx = self._products()
        squared = xx - 2.0 * z * wx + z * z * ww
        noise = (z - self.mean) / self.sd
        return np.asarray(0.5 * (noise**2 - squared - z * z - self._constant()) + math.log(self.sd))


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


def two_sample_bound(model: Weighted, points: int = 801) -> float:
    """L_2 by the trapezoid rule in two dimensions, nats."""
    noise = np.linspace(-10.0, 10.0, points)
    density = np.exp(-0.5 * noise * noise)
    density /= density.sum()
    weight = model.log_weight(model.mean + model.sd * noise)
    both = np.logaddexp(weight[:, None], weight[None]) - math.log(2.0)
    return float(density @ both @ density)


def _iw_symbolic(c: Formulas) -> Evidence:
    """Weights 1 +- d with equal chance, to second order; Gamma weights, exactly, for K to infinity.

    For weights ~ Gamma(a) / a the sum of K is Gamma(K a), so that the gap is
    log(K a) - digamma(K a), and chi^2 = 1 / a.
    """
    d, x = sympy.symbols("d x", positive=True)
    pairs = []
    for k in map(sympy.Integer, range(1, 5)):
        terms = (sympy.binomial(k, j) * sympy.log(1 + d * (2 * j - k) / k) for j in range(k + 1))
        second = -sympy.diff(sum(terms), d, 2).subs(d, 0) / 2 / 2**k
        pairs.append((second, c.gap(chi2=1, k=k)))
    ratio = (sympy.log(x) - sympy.digamma(x)) / c.gap(chi2=1, k=x)
    pairs.append((sympy.limit(ratio, x, sympy.oo), sympy.S.One))
    return equal("gap to second order in the weights, K = 1 to 4; K times it for K → ∞", *pairs)


def _iw_sampled(c: Formulas) -> Evidence:
    """L_1 and L_2 of a Gaussian model; and 100 samples, where E[-log R] = E[R - 1 - log R]."""
    random, count, k = np.random.default_rng(4), 20_000, 100
    noise = random.normal(size=(count, k))
    log_weight = WEIGHTED.log_weight(WEIGHTED.mean + WEIGHTED.sd * noise)
    ratio = np.exp(log_weight - WEIGHTED.log_evidence).mean(1)
    two = np.logaddexp(log_weight[:, 0], log_weight[:, 1]) - math.log(2.0)
    return sampled(
        "L₁ and L₂ in nats; K times the gap at K = 100 against χ²/2",
        (WEIGHTED.reconstruction - WEIGHTED.kl, log_weight[:, 2]),
        (two_sample_bound(WEIGHTED), two),
        (k * c.gap(chi2=WEIGHTED.chi_squared, k=k), k * (ratio - 1.0 - np.log(ratio))),
    )


def _finite_bounds(weights: Array, chances: Array, most: int = 4) -> list[float]:
    """L_1 to L_most of weights with finitely many values, by enumeration."""
    bounds = []
    total, chance = np.zeros(1), np.ones(1)
    for k in range(1, most + 1):
        total = (total[:, None] + weights).ravel()
        chance = (chance[:, None] * chances).ravel()
        bounds.append(float((chance * np.log(total / k)).sum()))
    return bounds


def _iw_search(c: Formulas) -> Evidence:
    """The chain of bounds for weights of up to three values; Gamma weights between two bounds.

    1/(2x) < log x - digamma(x) < 1/(2x) + 1/(12 x^2) for every x > 0.
    """

    def violated(case: tuple[list[int], list[int], float, int]) -> bool:
        values, chances, shape, k = case
        size = min(len(values), len(chances))
        weights = np.array(values[:size]) / 8.0
        chance = np.array(chances[:size]) / sum(chances[:size])
        chain = [*_finite_bounds(weights, chance), math.log(float(weights @ chance))]
        x = k * shape
        excess = math.log(x) - float(digamma(x)) - c.gap(chi2=1.0 / shape, k=k)
        falls = float(c.growth(steps=np.diff(chain)).min()) < -1e-12
        return falls or not -1e-12 < excess < 1.0 / (12.0 * x * x) + 1e-12

    some = st.lists(st.integers(1, 64), min_size=1, max_size=3)
    cases = st.tuples(some, some, st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]), st.integers(1, 200))
    text = "L_K above L_K+1 or log p(x), K to 4; gap of Gamma weights off χ²/(2K) by over χ⁴/(12K²)"
    words = "weights {} / 8, chances {}, shape {:g}, K = {}"
    return search(text, cases, violated, words, draws=200)


V4 = stated(
    "V4",
    Formulas(gap="chi2 / (2 * k)", growth="steps"),
    {
        "half": ("(2 * k)", "k"),
        "power of K": ("* k)", "* k**2)"),
        "sign of the growth": ("steps", "-steps"),
    },
    (_iw_symbolic, _iw_sampled, _iw_search),
)

STATEMENTS = (V1, V2, V3, V4)
