"""AutoGen: the statements of Mansbridge et al. 2018 on a factor in front of the reconstruction.

Notation: p(z) is the prior, p(x|z) the decoder, q(z|x) any encoder, all at one x, and
M_k = E_p(z)[p(x|z)^k], so that M_1 = p(x).
L_m(q) = (1 + m) E_q[log p(x|z)] - KL(q || p) is the bound of equation 10; m = 1 is equation 9.
The displayed equations are lost in the text that this project holds; they are rebuilt from its
prose.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import sympy
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import rel_entr

from companion.claims.statements import (
    Constants,
    Evidence,
    Statement,
    equal,
    nonnegative,
    sampled,
    search,
)
from posterior_collapse.layers import Progress
from posterior_collapse.networks import VAE, linear_vae
from posterior_collapse.objectives import (
    ELBO,
    AutoGen,
    Constant,
    Cyclical,
    Linear,
    Objective,
    Schedule,
)
from posterior_collapse.priors import StandardNormal

__all__ = [
    "PRIOR",
    "STATEMENTS",
    "TOY",
    "Annealed",
    "Codes",
    "Gaussian",
    "Toy",
    "bound",
    "codes",
    "divergence",
    "gradients",
    "largest_excess",
    "log_moment",
    "own_codes",
    "small_model",
    "tilted",
    "train_sgd",
]

Array = NDArray[np.float64]

_TOLERANCE = 1e-9  # absolute and relative, for rounding


# --- a model with a scalar code, in closed form ---------------------------------------------------


class Toy(NamedTuple):
    """z ~ N(0, 1) and x|z ~ N(w z, s^2), at one x."""

    w: float
    s: float
    x: float


TOY = Toy(1.5, 0.5, 1.0)


class Gaussian(NamedTuple):
    """N(mean, variance) of a scalar."""

    mean: float
    variance: float


def log_moment(toy: Toy, k: float) -> float:
    """log M_k in nats, for k >= 0."""
    w, s, x = toy
    spread = 1.0 + k * (w / s) ** 2
    constant = k * math.log(2.0 * math.pi * s * s) + math.log(spread)
    return -0.5 * (constant + k * (x / s) ** 2 / spread)


def tilted(toy: Toy, k: float) -> Gaussian:
    """The code's density proportional to p(x|z)^k p(z): k = 0 the prior, 1 the posterior."""
    w, s, x = toy
    precision = 1.0 + k * (w / s) ** 2
    return Gaussian(k * w * x / (s * s * precision), 1.0 / precision)


PRIOR = Gaussian(0.0, 1.0)


def divergence(q: Gaussian, p: Gaussian = PRIOR) -> float:
    """KL(q || p), nats."""
    ratio = q.variance / p.variance
    return 0.5 * (ratio + (q.mean - p.mean) ** 2 / p.variance - 1.0 - math.log(ratio))


def _log_likelihood(toy: Toy, z: Array) -> Array:
    """log p(x|z)."""
    return -0.5 * (((toy.x - toy.w * z) / toy.s) ** 2 + math.log(2.0 * math.pi * toy.s**2))


def bound(toy: Toy, q: Gaussian, factor: float, kl_weight: float = 1.0) -> float:
    """factor E_q[log p(x|z)] - kl_weight KL(q || p), nats; L_m(q) with factor 1 + m."""
    w, s, x = toy
    squared = (x - w * q.mean) ** 2 + w * w * q.variance
    expected = -0.5 * (squared / (s * s) + math.log(2.0 * math.pi * s * s))
    return factor * expected - kl_weight * divergence(q)


def own_codes(toy: Toy, m: float) -> float:
    """log p(x) + m log p_SAE(x|x): each of m reconstructions draws its own code, nats."""
    first, second = log_moment(toy, 1.0), log_moment(toy, 2.0)
    return first + m * (second - first)


def _joint(toy: Toy) -> tuple[Array, Array]:
    """A grid of codes, and p(x, z) on it: what the two functions below sum, and nothing else."""
    z = np.linspace(-9.0, 9.0, 40_001)
    return z, np.exp(_log_likelihood(toy, z) - 0.5 * (z * z + math.log(2.0 * math.pi)))


@functools.cache
def _log_evidence(toy: Toy) -> float:
    """log p(x) by quadrature."""
    z, density = _joint(toy)
    return math.log(float(np.trapezoid(density, z)))


@functools.cache
def _encoder_table(toy: Toy) -> tuple[Array, Array]:
    """Cumulative distribution of p(z|x), by Bayes' rule."""
    z, density = _joint(toy)
    total = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return total / total[-1], z


def _encoded(toy: Toy, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Codes drawn from p(z|x), the stochastic autoencoder's encoder."""
    return np.interp(random.random(shape), *_encoder_table(toy))


# --- models with finitely many codes, for the searches --------------------------------------------


class Codes(NamedTuple):
    """A model with n codes at one x, and an encoder."""

    prior: Array  # (n,), p(z)
    likelihood: Array  # (n,), p(x|z)
    encoder: Array  # (n,), q(z|x)


@st.composite
def codes(draw: st.DrawFn, ceiling: float = 1.0, least: int = 1, most: int = 3) -> Codes:
    """Models whose p(x|z) lies in eighths of the ceiling."""
    n = draw(st.integers(least, most))

    def weights(low: int) -> Array:
        return np.array(draw(st.lists(st.integers(low, 8), min_size=n, max_size=n)), dtype=float)

    prior, likelihood, encoder = weights(1), weights(1), weights(0)
    if encoder.sum() == 0.0:
        encoder = np.ones(n)
    return Codes(prior / prior.sum(), ceiling * likelihood / 8.0, encoder / encoder.sum())


def _moments(case: Codes, k: float) -> float:
    """log M_k of a finite model: the definition."""
    return math.log(float((case.prior * case.likelihood**k).sum()))


def _tilt(case: Codes, k: float) -> Array:
    """The code's distribution proportional to p(x|z)^k p(z)."""
    weight = case.prior * case.likelihood**k
    return np.asarray(weight / weight.sum())


def _bound(case: Codes, q: Array, factor: float, kl_weight: float = 1.0) -> float:
    """factor E_q[log p(x|z)] - kl_weight KL(q || p) of a finite model."""
    expected = float((q * np.log(case.likelihood)).sum())
    return factor * expected - kl_weight * float(rel_entr(q, case.prior).sum())


def _exceeds(left: float, right: float) -> bool:
    """left > right beyond rounding."""
    return left > right + _TOLERANCE * (1.0 + abs(right))


def _listed(values: Array) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _shown(case: tuple[Codes, float]) -> str:
    """A finite model in words."""
    model, m = case
    return (
        f"m = {m:g}, p(z) = ({_listed(model.prior)}), p(x|z) = ({_listed(model.likelihood)}), "
        f"q(z|x) = ({_listed(model.encoder)})"
    )


# --- symbols --------------------------------------------------------------------------------------

_W, _S, _V = sympy.symbols("w s v", positive=True)
_X, _MU, _Z = sympy.symbols("x mu z", real=True)
_A, _B, _P, _R, _T, _U = sympy.symbols("a b p r t u", positive=True)
_N = sympy.symbols("n", nonnegative=True)


@functools.cache
def _symbolic_moment() -> tuple[Any, Any]:
    """log M_k of the Gaussian model by integration over z, and its k."""
    k, square = sympy.symbols("k square", positive=True)
    line = sympy.symbols("line", real=True)
    exponent = -k * (_X - _W * _Z) ** 2 / (2 * _S**2) - _Z**2 / 2
    constant, linear, quadratic = (exponent.expand().coeff(_Z, power) for power in range(3))
    bell = sympy.integrate(sympy.exp(line * _Z - square * _Z**2), (_Z, -sympy.oo, sympy.oo))
    logs = _logs(sympy.log(sympy.simplify(bell)))
    integral = constant + logs.subs({line: linear, square: -quadratic})
    return integral - sympy.log(2 * sympy.pi) / 2 - k * sympy.log(2 * sympy.pi * _S**2) / 2, k


def _under_q(polynomial: Any) -> Any:
    """E[polynomial of degree 2 in z] for z ~ N(mu, v)."""
    return sympy.expand(polynomial).subs(_Z**2, _MU**2 + _V).subs(_Z, _MU)


def _gaussian_bound(factor: Any, kl_weight: Any) -> Any:
    log_likelihood = -((_X - _W * _Z) ** 2) / (2 * _S**2) - sympy.log(2 * sympy.pi * _S**2) / 2
    kl = (_MU**2 + _V - 1 - sympy.log(_V)) / 2
    return factor * _under_q(log_likelihood) - kl_weight * kl


def _gaussian_distance(power: Any) -> Any:
    """KL(N(mu, v) || the density proportional to p(x|z)^power p(z))."""
    precision = 1 + power * _W**2 / _S**2
    mean = power * _W * _X / _S**2 / precision
    return (precision * (_V + (_MU - mean) ** 2) - 1 - sympy.log(_V * precision)) / 2


def _two_codes(factor: Any, kl_weight: Any, power: Any) -> Any:
    """L_m(q) + KL(q || q*) of a model with two codes of prior p and r, likelihood a and b."""
    q = (_T / (_T + _U), _U / (_T + _U))
    weights = (_P * _A**power, _R * _B**power)
    kl = sum(q[i] * sympy.log(q[i] / (_P, _R)[i]) for i in range(2))
    far = sum(q[i] * sympy.log(q[i] * sum(weights) / weights[i]) for i in range(2))
    return factor * (q[0] * sympy.log(_A) + q[1] * sympy.log(_B)) - kl_weight * kl + far


def _logs(expression: Any) -> Any:
    return sympy.expand_log(sympy.sympify(expression), force=True)


def _both(first: Evidence, second: Evidence) -> Evidence:
    """One piece of evidence from two of the same kind: the first that fails, or both."""
    if not first.holds:
        return first
    joined = f"{first.compared}; {second.compared}"
    return second._replace(compared=joined, trials=first.trials + second.trials)


# --- A1, the bound and where it is tight ----------------------------------------------------------


def _jensen_symbolic(c: Constants, m: Any) -> Evidence:
    """log M_{1+m} = L_m(q) + KL(q || q*), with q* by completing the square."""
    factor = sympy.Rational(c["1 of the factor 1 + m"]) + m
    kl_weight, power = (
        sympy.Rational(c["weight of the KL"]),
        1 + sympy.Rational(c["share of m in the best q"]) * m,
    )
    moment, k = _symbolic_moment()
    gaussian = _gaussian_bound(factor, kl_weight) + _gaussian_distance(power)
    finite = sympy.log(_P * _A ** (1 + m) + _R * _B ** (1 + m))
    return equal(
        "log M of order 1 + m against bound plus KL(q‖q*): Gaussian model, any model of two codes",
        (_logs(moment.subs(k, 1 + m)), _logs(gaussian)),
        (_logs(finite), _logs(_two_codes(factor, kl_weight, power))),
    )


def _jensen_sampled(c: Constants, m: int) -> Evidence:
    """The autoencoder itself: encode x, and decode the same code m times into x."""
    random = np.random.default_rng(1)
    cases = []
    for q in (Gaussian(0.6, 0.1), Gaussian(0.0, 0.4)):
        star = tilted(TOY, 1.0 + c["share of m in the best q"] * m)
        level = bound(TOY, q, c["1 of the factor 1 + m"] + m, c["weight of the KL"]) + divergence(
            q, star
        )
        z = _encoded(TOY, random, (200_000,))
        draws = np.exp(m * _log_likelihood(TOY, z))
        cases.append((math.exp(level - _log_evidence(TOY)), draws))
    return sampled(
        "chance that all m reconstructions of one code are x: bound plus KL(q‖q*) less log p(x)",
        *cases,
    )


def _jensen_search(c: Constants, orders: st.SearchStrategy[float]) -> Evidence:
    """No encoder above log M_{1+m}, and the tilted one on it."""

    def violated(case: tuple[Codes, float]) -> bool:
        model, m = case
        top, factor = _moments(model, 1.0 + m), c["1 of the factor 1 + m"] + m
        best = _bound(
            model,
            _tilt(model, 1.0 + c["share of m in the best q"] * m),
            factor,
            c["weight of the KL"],
        )
        above = _bound(model, model.encoder, factor, c["weight of the KL"])
        return _exceeds(max(above, best), top) or _exceeds(top, best)

    return search(
        "an encoder above log M of order 1 + m, or q* off it; up to 3 codes",
        st.tuples(codes(ceiling=2.0), orders),
        violated,
        _shown,
        draws=200,
    )


_JENSEN: dict[str, float] = {
    "1 of the factor 1 + m": 1.0,
    "weight of the KL": 1.0,
    "share of m in the best q": 1.0,
}
_JENSEN_WRONG: dict[str, float] = {
    "1 of the factor 1 + m": 0.0,
    "weight of the KL": 0.5,
    "share of m in the best q": 0.0,
}

A1 = Statement(
    id="A1",
    name="a factor of 2 bounds log p(x) + log p_SAE(x|x)",
    paper="AutoGen, equation 9",
    item="autogen-eq9",
    claim=(
        "log p(x) + log p_SAE(x|x) = log M₂ ≥ 2 E_q log p(x|z) − KL(q‖p) nats for every q, with "
        "equality at q ∝ p(x|z)² p(z) and not at the posterior."
    ),
    constants=_JENSEN,
    wrong=_JENSEN_WRONG,
    checks=(
        lambda c: _jensen_symbolic(c, sympy.Integer(1)),
        lambda c: _jensen_sampled(c, 1),
        lambda c: _jensen_search(c, st.just(1.0)),
    ),
)

A1M = Statement(
    id="A1m",
    name="m reconstructions of one code give the factor 1 + m",
    paper="AutoGen, equation 10",
    item="autogen-eq10",
    claim=(
        "If the m reconstructions share one code, log p(x) + log p_SAE = log M₁₊ₘ ≥ "
        "(1 + m) E_q log p(x|z) − KL(q‖p) nats, with equality at q ∝ p(x|z)¹⁺ᵐ p(z)."
    ),
    constants=_JENSEN,
    wrong=_JENSEN_WRONG,
    checks=(
        lambda c: _jensen_symbolic(c, sympy.symbols("m", positive=True)),
        lambda c: _jensen_sampled(c, 3),
        lambda c: _jensen_search(c, st.integers(0, 12).map(lambda half: half / 2.0)),
    ),
)


# --- A2, a code of its own for each reconstruction ------------------------------------------------


def _chord_symbolic(c: Constants) -> Evidence:
    """Gaussian model, m = 1 + n: the two gaps, their slopes in r = w^2 / s^2, and convexity.

    log M_k = -k log(2 pi s^2) / 2 - log(1 + k r) / 2 - (x^2 / 2 s^2) k / (1 + k r).
    Each gap is 0 at r = 0 and has two parts: one in x^2, one in logarithms.
    Both have the sign of the rational function below: it is the first one's coefficient and twice
    the second one's derivative.
    """
    r, m = sympy.symbols("r", positive=True), 1 + _N
    pair, top, encoder = (sympy.Rational(c[name]) for name in A2.constants)

    def curve(k: Any) -> Any:
        return -k / (1 + k * r)

    chord = curve(1) + m * (curve(pair) - curve(1))
    tangent = curve(encoder) + (1 + m - encoder) * curve(_A).diff(_A).subs(_A, encoder)
    moment = sympy.log(_P * _A**_X + _R * _B**_X)
    return _both(
        equal("linear part of the two gaps", (1 + m * (pair - 1), top + m)),
        nonnegative(
            "log M₁₊ₘ less own codes; own codes less L at the posterior; curvature of log M",
            curve(top + m) - chord,
            chord - tangent,
            sympy.together(sympy.diff(moment, _X, 2)),
        ),
    )


def _chord_sampled(c: Constants) -> Evidence:
    """Both autoencoders, m = 3: three own codes, and one code used three times; L by draws."""
    random, m, count = np.random.default_rng(2), 3, 200_000
    first = log_moment(TOY, 1.0)
    own = first + m * (log_moment(TOY, c["second order of the chord"]) - first)
    start = np.exp(_log_likelihood(TOY, random.normal(size=count)))
    each = np.exp(_log_likelihood(TOY, _encoded(TOY, random, (count, m))))
    shared = np.exp(m * _log_likelihood(TOY, _encoded(TOY, random, (count,))))
    again = np.exp(_log_likelihood(TOY, random.normal(size=count)))
    z = _encoded(TOY, random, (count,))
    posterior = tilted(TOY, 1.0)
    log_q = -0.5 * (z - posterior.mean) ** 2 / posterior.variance
    log_q -= 0.5 * math.log(posterior.variance)
    at_posterior = (1.0 + m) * _log_likelihood(TOY, z) - 0.5 * z * z - log_q
    return sampled(
        "p(x) times the chance of x three times, own codes and one code; L at the posterior, nats",
        (math.exp(own), start * each.prod(1)),
        (math.exp(log_moment(TOY, c["1 of the order 1 + m"] + m)), again * shared),
        (bound(TOY, tilted(TOY, c["order of the tangent"]), 1.0 + m), at_posterior),
    )


def _chord_search(c: Constants) -> Evidence:
    """L at the posterior <= own codes <= log M_{1+m}, whatever the model and m."""

    def violated(case: tuple[Codes, float]) -> bool:
        model, m = case
        first = _moments(model, 1.0)
        own = first + m * (_moments(model, c["second order of the chord"]) - first)
        low = _bound(model, _tilt(model, c["order of the tangent"]), 1.0 + m)
        return _exceeds(low, own) or _exceeds(own, _moments(model, c["1 of the order 1 + m"] + m))

    cases = st.tuples(codes(ceiling=2.0), st.integers(1, 8).map(float))
    return search("own codes outside [L(posterior), log M₁₊ₘ]; m to 8", cases, violated, _shown)


def _own_codes_printed() -> Evidence:
    """Equation 10 read with own codes: is L_2(q) ever above the objective?"""

    def sides(case: tuple[Codes, float]) -> tuple[float, float]:
        model, m = case
        first, second = _moments(model, 1.0), _moments(model, 2.0)
        return _bound(model, model.encoder, 1.0 + m), first + m * (second - first)

    def told(case: tuple[Codes, float]) -> str:
        claimed, true = sides(case)
        return f"{_shown(case)}: bound {claimed:.5f} > objective {true:.5f} nats"

    return search(
        "an encoder whose bound exceeds the objective, own code for each; m = 2, up to 2 codes",
        st.tuples(codes(most=2), st.just(2.0)),
        lambda case: _exceeds(*sides(case)),
        told,
        draws=2000,
    )


A2 = Statement(
    id="A2",
    name="a code of its own for each reconstruction",
    paper="AutoGen, equation 10, m independent reconstructions",
    item="autogen-eq10",
    claim=(
        "With own codes the objective is log M₁ + m (log M₂ − log M₁) nats; for m ≥ 1 it lies "
        "between L at the posterior and log M₁₊ₘ, the largest value of L."
    ),
    constants={
        "second order of the chord": 2.0,
        "1 of the order 1 + m": 1.0,
        "order of the tangent": 1.0,
    },
    wrong={
        "second order of the chord": 3.0,
        "1 of the order 1 + m": 0.0,
        "order of the tangent": 2.0,
    },
    checks=(_chord_symbolic, _chord_sampled, _chord_search),
    printed=_own_codes_printed,
)


# --- A3, the beta-VAE -----------------------------------------------------------------------------


def small_model(seed: int, features: int = 3, latent: int = 2) -> tuple[VAE, torch.Tensor]:
    """A linear VAE of the library in float64 with random parameters, and a batch x (5, F)."""
    generator = torch.Generator().manual_seed(seed)
    model = linear_vae(features, latent, 0.5, StandardNormal()).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1.0, 1.0, generator=generator)
    return model, torch.randn(5, features, generator=generator, dtype=torch.float64)


def gradients(
    objective: Objective, model: VAE, x: torch.Tensor, seed: int, progress: Progress
) -> dict[str, torch.Tensor]:
    """Gradient of a loss in every parameter of a model, with the noise of a seed."""
    noise = torch.Generator().manual_seed(seed)
    names, parameters = zip(*model.named_parameters(), strict=True)
    loss = objective(model, x, progress, noise).loss
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def _apart(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], scale: float) -> float:
    """Largest relative difference of left and scale times right, over parameters."""
    found = 0.0
    for name, value in left.items():
        size = max(1e-12, value.abs().max().item())
        found = max(found, (value - scale * right[name]).abs().max().item() / size)
    return found


_START = Progress(0, 1)


def _beta_symbolic(c: Constants) -> Evidence:
    """Gradient of (1 + m) R + K against the scaled one of R + beta K, for m > -1."""
    y, theta = sympy.symbols("y", positive=True), sympy.symbols("theta", real=True)
    m = y - 1
    rec, kl = (sympy.Function(name)(theta) for name in ("R", "K"))
    beta, scale = (
        1 / (sympy.Rational(c["1 of 1/(1 + m)"]) + m),
        sympy.Rational(c["1 of the scale 1 + m"]) + m,
    )
    left = sympy.diff((1 + m) * rec + kl, theta)
    return equal(
        "gradients of the two losses in any parameter, every m > −1",
        (left, scale * sympy.diff(rec + beta * kl, theta)),
    )


def _exact_gradient(toy: Toy, q: Gaussian, beta: float) -> Array:
    """Gradient of -E_q[log p(x|z)] + beta KL in (w, mean, log-variance)."""
    w, s, x = toy
    miss = (x - w * q.mean) / (s * s)
    return np.array(
        [
            -miss * q.mean + w * q.variance / (s * s),
            -miss * w + beta * q.mean,
            0.5 * q.variance * w * w / (s * s) + 0.5 * beta * (q.variance - 1.0),
        ]
    )


def _drawn_gradient(toy: Toy, q: Gaussian, factor: float, weight: float, seed: int) -> Array:
    """Draws (n, 3) of the gradient of -factor log p(x|z) + weight KL, by reparameterisation."""
    w, s, x = toy
    noise = np.random.default_rng(seed).normal(size=200_000)
    z = q.mean + math.sqrt(q.variance) * noise
    miss = (x - w * z) / (s * s)
    by_z = -miss * w
    by_logvar = 0.5 * by_z * math.sqrt(q.variance) * noise
    prior = weight * np.array([0.0, q.mean, 0.5 * (q.variance - 1.0)])
    return np.asarray(factor * np.stack([-miss * z, by_z, by_logvar], 1) + prior)


def _beta_sampled(c: Constants) -> Evidence:
    """The stochastic gradient of AutoGen against the exact one of the beta-VAE."""
    q, cases = Gaussian(0.3, 0.2), []
    for m in (0.5, 1.0, 3.0):
        exact = (c["1 of the scale 1 + m"] + m) * _exact_gradient(
            TOY, q, 1.0 / (c["1 of 1/(1 + m)"] + m)
        )
        draws = _drawn_gradient(TOY, q, 1.0 + m, 1.0, 3)
        cases += [(float(value), draws[:, place]) for place, value in enumerate(exact)]
    return sampled("gradient in the weight, the mean and the log-variance, m = 0.5, 1, 3", *cases)


def _beta_search(c: Constants) -> Evidence:
    """The library's two objectives on its linear VAE, same noise, by automatic differentiation."""

    def violated(case: tuple[int, float]) -> bool:
        seed, m = case
        model, x = small_model(seed)
        one = gradients(AutoGen(m), model, x, seed, _START)
        other = gradients(ELBO(Constant(1.0 / (c["1 of 1/(1 + m)"] + m))), model, x, seed, _START)
        return _apart(one, other, c["1 of the scale 1 + m"] + m) > 1e-10

    cases = st.tuples(st.integers(0, 10_000), st.integers(0, 80).map(lambda tenths: tenths / 10.0))
    return search(
        "AutoGen and ELBO of the library in float64: gradients apart in some parameter",
        cases,
        violated,
        lambda case: f"model {case[0]}, m = {case[1]:g}",
        draws=150,
    )


A3 = Statement(
    id="A3",
    name="AutoGen is a beta-VAE",
    paper="AutoGen, section 4",
    item="autogen-eq10",
    claim=(
        "The gradient of the loss with 1 + m reconstructions is 1 + m times that of the β-VAE "
        "with β = 1/(1 + m), for every m > −1; β > 1 is −1 < m < 0."
    ),
    constants={"1 of 1/(1 + m)": 1.0, "1 of the scale 1 + m": 1.0},
    wrong={"1 of 1/(1 + m)": 2.0, "1 of the scale 1 + m": 0.0},
    checks=(_beta_symbolic, _beta_sampled, _beta_search),
)


# --- A4, a bound on log p(x) or not ---------------------------------------------------------------


def largest_excess(toy: Toy, m: float) -> float:
    """max over q of L_m(q) - log p(x) for a density, nats: log M_{1+m} - log M_1."""
    return log_moment(toy, 1.0 + m) - log_moment(toy, 1.0)


def _evidence_symbolic(c: Constants) -> Evidence:
    """The gap of any model of two codes; its sign where log p(x|z) = log ceiling - t, t >= 0."""
    m, t, kl = sympy.symbols("m t K", nonnegative=True)
    own, ceiling = (
        sympy.Rational(c["weight of m E log p(x|z)"]),
        sympy.Rational(c["ceiling of p(x|z)"]),
    )
    q = (_T / (_T + _U), _U / (_T + _U))
    expected = q[0] * sympy.log(_A) + q[1] * sympy.log(_B)
    objective = _two_codes(1 + m, 1, 1) - _two_codes(0, 0, 1)
    gap = _two_codes(0, 0, 1) - own * m * expected
    return _both(
        equal(
            "log p(x) − L_m(q) against KL(q‖posterior) − m E_q log p(x|z), two codes",
            (_logs(sympy.log(_P * _A + _R * _B) - objective), _logs(gap)),
        ),
        nonnegative("the gap where p(x|z) is at most 1", kl - own * m * (sympy.log(ceiling) - t)),
    )


class _Bits(NamedTuple):
    """z ~ N(0, 1) and three independent bits with logits slope z + offset, at one x."""

    slope: Array
    offset: Array
    x: Array


_BITS = _Bits(np.array([2.0, -1.0, 0.5]), np.array([0.3, 0.0, -0.4]), np.array([1.0, 0.0, 1.0]))


def _bits_log_likelihood(z: Array) -> Array:
    """log p(x|z) of the three bits, z (n,)."""
    logit = z[:, None] * _BITS.slope + _BITS.offset
    return np.asarray((_BITS.x * logit - np.logaddexp(0.0, logit)).sum(1))


@functools.cache
def _bits_quadrature(q: Gaussian) -> tuple[float, float, float]:
    """log p(x), KL(q || p(z|x)) and E_q[log p(x|z)], each by the trapezoid rule."""
    z = np.linspace(-12.0, 12.0, 24_001)
    step = z[1] - z[0]
    log_joint = _bits_log_likelihood(z) - 0.5 * (z * z + math.log(2.0 * math.pi))
    log_evidence = math.log(float(np.exp(log_joint).sum() * step))
    log_q = -0.5 * ((z - q.mean) ** 2 / q.variance + math.log(2.0 * math.pi * q.variance))
    weight = np.exp(log_q) * step
    kl = float((weight * (log_q - log_joint + log_evidence)).sum())
    return log_evidence, kl, float((weight * _bits_log_likelihood(z)).sum())


def _evidence_sampled(c: Constants) -> Evidence:
    """A decoder of bits: L_m(q) from draws of q, against the three integrals."""
    cases = []
    for seed, (m, q) in enumerate([(1.0, Gaussian(0.4, 0.5)), (2.0, Gaussian(-0.5, 0.3))]):
        log_evidence, kl, expected = _bits_quadrature(q)
        noise = np.random.default_rng(seed).normal(size=200_000)
        z = q.mean + math.sqrt(q.variance) * noise
        log_ratio = 0.5 * (noise**2 - z * z) + 0.5 * math.log(q.variance)
        draws = (1.0 + m) * _bits_log_likelihood(z) + log_ratio
        cases.append((log_evidence - kl + c["weight of m E log p(x|z)"] * m * expected, draws))
    return sampled("L_m of three bits with a Gaussian code, nats", *cases)


def _evidence_search(c: Constants) -> Evidence:
    """No encoder above log p(x) where p(x|z) is at most the ceiling, and the gap's formula."""

    def violated(case: tuple[Codes, float]) -> bool:
        model, m = case
        q, evidence = model.encoder, _moments(model, 1.0)
        claimed = _bound(model, q, 1.0 + m)
        gap = float(rel_entr(q, _tilt(model, 1.0)).sum())
        gap -= c["weight of m E log p(x|z)"] * m * float((q * np.log(model.likelihood)).sum())
        wrong = abs(evidence - claimed - gap) > _TOLERANCE * (1.0 + abs(gap))
        return wrong or _exceeds(claimed, evidence)

    cases = st.tuples(codes(c["ceiling of p(x|z)"]), st.integers(0, 5).map(float))
    return search("an encoder with L_m above log p(x); up to 3 codes", cases, violated, _shown)


def _evidence_printed() -> Evidence:
    """A discrete x at which even the best encoder stays below log p(x)."""

    def violated(case: tuple[Codes, float]) -> bool:
        model, m = case
        varied = np.unique(model.likelihood).size > 1
        return varied and _moments(model, 1.0 + m) <= _moments(model, 1.0)

    def told(case: tuple[Codes, float]) -> str:
        model, m = case
        best, evidence = _moments(model, 1.0 + m), _moments(model, 1.0)
        return (
            f"m = {m:g}, p(z) = ({_listed(model.prior)}), p(x|z) = ({_listed(model.likelihood)}): "
            f"L ≤ {best:.5f} < log p(x) = {evidence:.5f} nats for every q"
        )

    cases = st.tuples(codes(least=2), st.integers(1, 4).map(float))
    compared = "a discrete x for which L_m is a lower bound on log p(x) all the same"
    return search(compared, cases, violated, told)


A4 = Statement(
    id="A4",
    name="whether L is a lower bound on log p(x)",
    paper="AutoGen, section 2.1",
    item="",
    claim=(
        "log p(x) − L_m(q) = KL(q‖p(z|x)) − m E_q log p(x|z) nats: at least 0 for every q where "
        "p(x|z) ≤ 1, as for discrete x; of either sign for a density."
    ),
    constants={"weight of m E log p(x|z)": 1.0, "ceiling of p(x|z)": 1.0},
    wrong={"weight of m E log p(x|z)": -1.0, "ceiling of p(x|z)": 4.0},
    checks=(_evidence_symbolic, _evidence_sampled, _evidence_search),
    printed=_evidence_printed,
)


# --- A5, annealing --------------------------------------------------------------------------------


def train_sgd(
    objective: Objective, model: VAE, x: torch.Tensor, rates: list[float], start: Progress
) -> list[list[float]]:
    """Parameters after each plain gradient step; step t has rate t and noise of seed t."""
    path = []
    for step, rate in enumerate(rates):
        progress = Progress(start.iteration + step, start.batches_per_epoch)
        found = gradients(objective, model, x, step, progress)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.sub_(rate * found[name])
        path.append(torch.cat([p.detach().flatten() for p in model.parameters()]).tolist())
    return path


class Annealed(NamedTuple):
    """AutoGen whose m follows a schedule of the KL weight: m = 1 / beta - offset."""

    schedule: Schedule
    offset: float = 1.0

    def __call__(
        self, model: Any, x: torch.Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Any:
        m = 1.0 / self.schedule(progress) - self.offset
        return AutoGen(max(m, 0.0))(model, x, progress, generator)


def _annealing_symbolic(c: Constants) -> Evidence:
    """The two losses, the two maps, and the sign of dm/dbeta on beta = 1/(1 + n)."""
    rec, kl = sympy.symbols("R K", positive=True)
    beta = 1 / (1 + _N)
    m = 1 / _A - sympy.Rational(c["1 of 1/β − 1"])
    rate = sympy.Rational(c["power of β in the rate"])
    return _both(
        equal(
            "annealed loss against β times AutoGen's, and β and m through each other",
            (rec + beta * kl, beta**rate * ((1 + m.subs(_A, beta)) * rec + kl)),
            (1 / (1 + m), _A),
            (m.subs(_A, beta), _N),
        ),
        nonnegative("−dm/dβ and m on 0 < β ≤ 1", -sympy.diff(m, _A), m.subs(_A, beta)),
    )


def _annealing_sampled(c: Constants) -> Evidence:
    """The stochastic gradient of the annealed loss against beta times AutoGen's exact one."""
    q, cases = Gaussian(0.3, 0.2), []
    for beta in (0.1, 0.4, 0.8):
        m = 1.0 / beta - c["1 of 1/β − 1"]
        exact = (
            beta ** c["power of β in the rate"]
            * (1.0 + m)
            * _exact_gradient(TOY, q, 1.0 / (1.0 + m))
        )
        draws = _drawn_gradient(TOY, q, 1.0, beta, 4)
        cases += [(float(value), draws[:, place]) for place, value in enumerate(exact)]
    return sampled("annealed gradient against β times AutoGen's, β = 0.1, 0.4, 0.8", *cases)


def _annealing_search(c: Constants) -> Evidence:
    """Four steps of training with the library's schedules, and with m = 1/beta - 1 instead."""

    def violated(case: tuple[int, Schedule, int]) -> bool:
        seed, schedule, iteration = case
        start, steps = Progress(iteration, 10), range(4)
        betas = [schedule(Progress(iteration + step, 10)) for step in steps]
        if min(betas) == 0.0:  # no finite m
            return False
        one, x = small_model(seed)
        other, _ = small_model(seed)
        left = train_sgd(ELBO(schedule), one, x, [0.01 for _ in steps], start)
        rates = [0.01 * beta ** c["power of β in the rate"] for beta in betas]
        right = train_sgd(Annealed(schedule, c["1 of 1/β − 1"]), other, x, rates, start)
        return not np.allclose(left, right, rtol=1e-9, atol=1e-11)

    linear = st.builds(
        Linear,
        start=st.integers(0, 10).map(lambda tenths: tenths / 10.0),
        epochs=st.integers(1, 10).map(float),
    )
    cyclical = st.builds(Cyclical, cycles=st.integers(1, 4), epochs=st.integers(2, 8).map(float))
    cases = st.tuples(st.integers(0, 10_000), st.one_of(linear, cyclical), st.integers(0, 60))
    return search(
        "four steps of gradient descent apart: annealing, and AutoGen at the rate times β",
        cases,
        violated,
        lambda case: f"model {case[0]}, {case[1]}, update {case[2]}",
        draws=60,
    )


A5 = Statement(
    id="A5",
    name="KL annealing is AutoGen with m decreasing to 0",
    paper="AutoGen, section 4",
    item="autogen-anneal",
    claim=(
        "m = 1/β − 1 maps 0 < β ≤ 1 one to one onto m ≥ 0, and the annealed gradient is β times "
        "AutoGen's: same optima, and the same steps at the learning rate times β."
    ),
    constants={"1 of 1/β − 1": 1.0, "power of β in the rate": 1.0},
    wrong={"1 of 1/β − 1": 0.0, "power of β in the rate": 0.0},
    checks=(_annealing_symbolic, _annealing_sampled, _annealing_search),
)

STATEMENTS = (A1, A1M, A2, A3, A4, A5)
