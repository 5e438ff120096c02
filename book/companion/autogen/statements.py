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
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import sympy
import torch
from hypothesis import strategies as st
from scipy.special import rel_entr

from companion.claims.mixtures import BITS, ROUNDING, Array, gaussian_kl, log_normal, steps
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
from posterior_collapse import objectives
from posterior_collapse.layers import Progress
from posterior_collapse.networks import VAE, linear_vae
from posterior_collapse.objectives import ELBO, AutoGen, Constant, Objective, Schedule
from posterior_collapse.priors import StandardNormal

_DRAWS = 200_000


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


PRIOR = Gaussian(0.0, 1.0)


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


def divergence(q: Gaussian, p: Gaussian = PRIOR) -> float:
    """KL(q || p), nats."""
    return float(gaussian_kl(*q, *p))


def reconstruction(toy: Toy, q: Gaussian) -> float:
    """E_q[log p(x|z)], nats."""
    w, s, x = toy
    squared = (x - w * q.mean) ** 2 + w * w * q.variance
    return -0.5 * (squared / (s * s) + math.log(2.0 * math.pi * s * s))


def bound(toy: Toy, q: Gaussian, factor: float) -> float:
    """factor E_q[log p(x|z)] - KL(q || p), nats; L_m(q) with factor 1 + m."""
    return factor * reconstruction(toy, q) - divergence(q)


def own_codes(toy: Toy, m: float) -> float:
    """log p(x) + m log p_SAE(x|x): each of m reconstructions draws its own code, nats."""
    first, second = log_moment(toy, 1.0), log_moment(toy, 2.0)
    return first + m * (second - first)


def _log_likelihood(toy: Toy, z: Array) -> Array:
    """log p(x|z)."""
    return log_normal(toy.x, toy.w * z, toy.s)


def _joint(toy: Toy) -> tuple[Array, Array]:
    """A grid of codes, and p(x, z) on it: what the two functions below sum, and nothing else."""
    z = np.linspace(-9.0, 9.0, 40_001)
    return z, np.exp(_log_likelihood(toy, z) + log_normal(z, 0.0, 1.0))


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


def _encoded(toy: Toy, random: np.random.Generator, *shape: int) -> Array:
    """Codes drawn from p(z|x), the stochastic autoencoder's encoder."""
    return np.interp(random.random(shape), *_encoder_table(toy))


# --- models with finitely many codes, for the searches --------------------------------------------


class Codes(NamedTuple):
    """A model with n codes at one x, and an encoder."""

    prior: Array  # (n,), p(z)
    likelihood: Array  # (n,), p(x|z)
    encoder: Array  # (n,), q(z|x)

    def moment(self, k: float) -> float:
        """log M_k: the definition."""
        return math.log(float((self.prior * self.likelihood**k).sum()))

    def tilt(self, k: float) -> Array:
        """The code's distribution proportional to p(x|z)^k p(z)."""
        weight = self.prior * self.likelihood**k
        return np.asarray(weight / weight.sum())

    def terms(self, q: Array) -> dict[str, float]:
        """E_q[log p(x|z)] and KL(q || p) of an encoder."""
        expected = float((q * np.log(self.likelihood)).sum())
        return {"expected": expected, "kl": float(rel_entr(q, self.prior).sum())}

    def bound(self, q: Array, m: float) -> float:
        """L_m of an encoder."""
        terms = self.terms(q)
        return (1.0 + m) * terms["expected"] - terms["kl"]


Case = tuple[Codes, float]  # a model, and m


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


def _exceeds(left: float, right: float) -> bool:
    """left > right beyond rounding."""
    return left > right + ROUNDING * (1.0 + abs(right))


def _words(case: Case, names: tuple[str, ...] = ("p(z)", "p(x|z)", "q(z|x)")) -> str:
    """A finite model in words."""
    values = (", ".join(f"{value:.4g}" for value in row) for row in case[0])
    rows = (f"{name} = ({row})" for name, row in zip(names, values, strict=False))
    return ", ".join([f"m = {case[1]:g}", *rows])


# --- symbols --------------------------------------------------------------------------------------

_W, _S, _V = sympy.symbols("w s v", positive=True)
_X, _MU, _Z = sympy.symbols("x mu z", real=True)
_A, _B, _P, _R, _T, _U = sympy.symbols("a b p r t u", positive=True)
_N = sympy.symbols("n", nonnegative=True)


def _logs(expression: Any) -> Any:
    return sympy.expand_log(sympy.sympify(expression), force=True)


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


def _gaussian_terms() -> dict[str, Any]:
    """E_q[log p(x|z)] and KL(q || p) of the Gaussian model for q = N(mu, v)."""
    log_likelihood = -((_X - _W * _Z) ** 2) / (2 * _S**2) - sympy.log(2 * sympy.pi * _S**2) / 2
    expected = sympy.expand(log_likelihood).subs(_Z**2, _MU**2 + _V).subs(_Z, _MU)
    return {"expected": expected, "kl": gaussian_kl(_MU, _V)}


def _gaussian_distance(power: Any) -> Any:
    """KL(N(mu, v) || the density proportional to p(x|z)^power p(z))."""
    precision = 1 + power * _W**2 / _S**2
    return gaussian_kl(_MU, _V, power * _W * _X / _S**2 / precision, 1 / precision)


_Q = (_T / (_T + _U), _U / (_T + _U))  # of two codes with prior p and r, likelihood a and b
_TWO_CODES = {
    "expected": _Q[0] * sympy.log(_A) + _Q[1] * sympy.log(_B),
    "kl": _Q[0] * sympy.log(_Q[0] / _P) + _Q[1] * sympy.log(_Q[1] / _R),
}


def _codes_distance(power: Any) -> Any:
    """KL(q || the distribution proportional to p(x|z)^power p(z)) of two codes."""
    weights = (_P * _A**power, _R * _B**power)
    return sum(_Q[i] * sympy.log(_Q[i] * sum(weights) / weights[i]) for i in range(2))


# --- A1, the bound and where it is tight ----------------------------------------------------------


def _jensen_symbolic(c: Formulas, m: Any) -> Evidence:
    """log M_{1+m} = L_m(q) + KL(q || q*), with q* by completing the square."""
    moment, k = _symbolic_moment()
    gaussian = c.L(m=m, **_gaussian_terms()) + _gaussian_distance(c.order(m=m))
    finite = sympy.log(_P * _A ** (1 + m) + _R * _B ** (1 + m))
    return equal(
        "log M of order 1 + m against bound plus KL(q‖q*): Gaussian model, any model of two codes",
        (_logs(moment.subs(k, 1 + m)), _logs(gaussian)),
        (_logs(finite), _logs(c.L(m=m, **_TWO_CODES) + _codes_distance(c.order(m=m)))),
    )


def _jensen_sampled(c: Formulas, m: int) -> Evidence:
    """The autoencoder itself: encode x, and decode the same code m times into x."""
    random, cases = np.random.default_rng(1), []
    for q in (Gaussian(0.6, 0.1), Gaussian(0.0, 0.4)):
        level = c.L(m=m, expected=reconstruction(TOY, q), kl=divergence(q))
        level += divergence(q, tilted(TOY, c.order(m=m)))
        draws = np.exp(m * _log_likelihood(TOY, _encoded(TOY, random, _DRAWS)))
        cases.append((math.exp(level - _log_evidence(TOY)), draws))
    text = "chance that all m reconstructions of one code are x: bound plus KL(q‖q*) less log p(x)"
    return sampled(text, *cases)


def _jensen_search(c: Formulas, orders: st.SearchStrategy[float]) -> Evidence:
    """No encoder above log M_{1+m}, and the tilted one on it."""

    def violated(case: Case) -> bool:
        model, m = case
        top, star = model.moment(1.0 + m), model.tilt(c.order(m=m))
        best, other = (c.L(m=m, **model.terms(q)) for q in (star, model.encoder))
        return _exceeds(max(other, best), top) or _exceeds(top, best)

    text = "an encoder above log M of order 1 + m, or q* off it; up to 3 codes"
    return search(text, st.tuples(codes(ceiling=2.0), orders), violated, _words, draws=200)


_BOUND = Formulas(L="(1 + m) * expected - kl", order="1 + m * 1")
_BOUND_WRONG = {
    "1 of the factor 1 + m": ("(1 + m)", "m"),
    "weight of the KL": ("- kl", "- kl / 2"),
    "share of m in the best q": ("m * 1", "m * 0"),
}


def _jensen(m: Any, drawn: int, orders: st.SearchStrategy[float]) -> tuple[Callable[..., Any], ...]:
    return (
        functools.partial(_jensen_symbolic, m=m),
        functools.partial(_jensen_sampled, m=drawn),
        functools.partial(_jensen_search, orders=orders),
    )


A1 = stated("A1", _BOUND, _BOUND_WRONG, _jensen(sympy.Integer(1), 1, st.just(1.0)))

A1M = stated(
    "A1m",
    _BOUND,
    _BOUND_WRONG,
    _jensen(sympy.symbols("m", positive=True), 3, steps(0, 12, 2)),
)


# --- A2, a code of its own for each reconstruction ------------------------------------------------


def _chord_symbolic(c: Formulas) -> Evidence:
    """Gaussian model, m = 1 + n: the two gaps, their slopes in r = w^2 / s^2, and convexity.

    log M_k = -k log(2 pi s^2) / 2 - log(1 + k r) / 2 - (x^2 / 2 s^2) k / (1 + k r).
    Each gap is 0 at r = 0 and has two parts: one in x^2, one in logarithms.
    Both have the sign of the rational function below: it is the first one's coefficient and twice
    the second one's derivative.
    """
    r, m, encoder = sympy.symbols("r", positive=True), 1 + _N, sympy.Rational(c.tangent)

    def curve(k: Any) -> Any:
        return -k / (1 + k * r)

    def line(k: Any) -> Any:
        return k

    chord = c.own(moment=curve, m=m)
    tangent = curve(encoder) + (1 + m - encoder) * curve(_A).diff(_A).subs(_A, encoder)
    moment = sympy.log(_P * _A**_X + _R * _B**_X)
    return joined(
        equal("linear part of the two gaps", (c.own(moment=line, m=m), c.top(moment=line, m=m))),
        nonnegative(
            "log M₁₊ₘ less own codes; own codes less L at the posterior; curvature of log M",
            c.top(moment=curve, m=m) - chord,
            chord - tangent,
            sympy.together(sympy.diff(moment, _X, 2)),
        ),
    )


def _chord_sampled(c: Formulas) -> Evidence:
    """Both autoencoders, m = 3: three own codes, and one code used three times; L by draws."""
    random, m = np.random.default_rng(2), 3
    moment = functools.partial(log_moment, TOY)
    start = np.exp(_log_likelihood(TOY, random.normal(size=_DRAWS)))
    each = np.exp(_log_likelihood(TOY, _encoded(TOY, random, _DRAWS, m)))
    shared = np.exp(m * _log_likelihood(TOY, _encoded(TOY, random, _DRAWS)))
    again = np.exp(_log_likelihood(TOY, random.normal(size=_DRAWS)))
    z = _encoded(TOY, random, _DRAWS)
    posterior = tilted(TOY, 1.0)
    ratio = log_normal(z, 0.0, 1.0) - log_normal(z, posterior.mean, posterior.variance**0.5)
    return sampled(
        "p(x) times the chance of x three times, own codes and one code; L at the posterior, nats",
        (math.exp(c.own(moment=moment, m=m)), start * each.prod(1)),
        (math.exp(c.top(moment=moment, m=m)), again * shared),
        (bound(TOY, tilted(TOY, c.tangent), 1.0 + m), (1 + m) * _log_likelihood(TOY, z) + ratio),
    )


def _chord_search(c: Formulas) -> Evidence:
    """L at the posterior <= own codes <= log M_{1+m}, whatever the model and m."""

    def violated(case: Case) -> bool:
        model, m = case
        own, top = (formula(moment=model.moment, m=m) for formula in (c.own, c.top))
        return _exceeds(model.bound(model.tilt(c.tangent), m), own) or _exceeds(own, top)

    cases = st.tuples(codes(ceiling=2.0), st.integers(1, 8).map(float))
    return search("own codes outside [L(posterior), log M₁₊ₘ]; m to 8", cases, violated, _words)


def _own_codes_printed() -> Evidence:
    """Equation 10 read with own codes: is L_2(q) ever above the objective?"""

    def sides(case: Case) -> tuple[float, float]:
        model, m = case
        first, second = model.moment(1.0), model.moment(2.0)
        return model.bound(model.encoder, m), first + m * (second - first)

    def words(case: Case) -> str:
        claimed, true = sides(case)
        return f"{_words(case)}: bound {claimed:.5f} > objective {true:.5f} nats"

    text = "an encoder whose bound exceeds the objective, own code for each; m = 2, up to 2 codes"
    cases = st.tuples(codes(most=2), st.just(2.0))
    return search(text, cases, lambda case: _exceeds(*sides(case)), words, draws=2000)


A2 = stated(
    "A2",
    Formulas(own="moment(1) + m * (moment(2) - moment(1))", top="moment(1 + m)", tangent=1.0),
    {
        "second order of the chord": ("moment(2)", "moment(3)"),
        "1 of the order 1 + m": ("moment(1 + m)", "moment(m)"),
        "tangent": 2.0,
    },
    (_chord_symbolic, _chord_sampled, _chord_search),
    _own_codes_printed,
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


def _beta_symbolic(c: Formulas) -> Evidence:
    """Gradient of (1 + m) R + K against the scaled one of R + beta K, for m > -1."""
    theta, m = sympy.symbols("theta", real=True), sympy.symbols("y", positive=True) - 1
    rec, kl = (sympy.Function(name)(theta) for name in ("R", "K"))
    left = sympy.diff((1 + m) * rec + kl, theta)
    right = c.scale(m=m) * sympy.diff(rec + c.beta(m=m) * kl, theta)
    return equal("gradients of the two losses in any parameter, every m > −1", (left, right))


def _exact_gradient(toy: Toy, q: Gaussian, beta: float) -> Array:
    """Gradient of -E_q[log p(x|z)] + beta KL in (w, mean, log-variance)."""
    w, s, x = toy
    miss = (x - w * q.mean) / (s * s)
    by_logvar = 0.5 * q.variance * w * w / (s * s) + 0.5 * beta * (q.variance - 1.0)
    return np.array(
        [-miss * q.mean + w * q.variance / (s * s), -miss * w + beta * q.mean, by_logvar]
    )


def _drawn_gradient(toy: Toy, q: Gaussian, factor: float, weight: float, seed: int) -> Array:
    """Draws (n, 3) of the gradient of -factor log p(x|z) + weight KL, by reparameterisation."""
    w, s, x = toy
    noise = np.random.default_rng(seed).normal(size=_DRAWS)
    z = q.mean + math.sqrt(q.variance) * noise
    miss = (x - w * z) / (s * s)
    by_z = -miss * w
    by_logvar = 0.5 * by_z * math.sqrt(q.variance) * noise
    prior = weight * np.array([0.0, q.mean, 0.5 * (q.variance - 1.0)])
    return np.asarray(factor * np.stack([-miss * z, by_z, by_logvar], 1) + prior)


def _beta_sampled(c: Formulas) -> Evidence:
    """The stochastic gradient of AutoGen against the exact one of the beta-VAE."""
    q, cases = Gaussian(0.3, 0.2), []
    for m in (0.5, 1.0, 3.0):
        exact = c.scale(m=m) * _exact_gradient(TOY, q, c.beta(m=m))
        draws = _drawn_gradient(TOY, q, 1.0 + m, 1.0, 3)
        cases += [(float(value), draws[:, place]) for place, value in enumerate(exact)]
    return sampled("gradient in the weight, the mean and the log-variance, m = 0.5, 1, 3", *cases)


def _beta_search(c: Formulas) -> Evidence:
    """The library's two objectives on its linear VAE, same noise, by automatic differentiation."""

    def violated(case: tuple[int, float]) -> bool:
        seed, m = case
        model, x = small_model(seed)
        left, right = (
            gradients(objective, model, x, seed, Progress(0, 1))
            for objective in (AutoGen(m), ELBO(Constant(c.beta(m=m))))
        )
        factor = c.scale(m=m)
        return any(
            (value - factor * right[name]).abs().max()
            > 1e-10 * max(1e-12, value.abs().max().item())
            for name, value in left.items()
        )

    cases = st.tuples(st.integers(0, 10_000), steps(0, 80, 10))
    text = "AutoGen and ELBO of the library in float64: gradients apart in some parameter"
    return search(text, cases, violated, "model {}, m = {:g}", 150)


A3 = stated(
    "A3",
    Formulas(beta="1 / (1 + m)", scale="m + 1"),
    {"1 of 1/(1 + m)": ("(1 + m)", "(2 + m)"), "1 of the scale 1 + m": ("m + 1", "m")},
    (_beta_symbolic, _beta_sampled, _beta_search),
)


# --- A4, a bound on log p(x) or not ---------------------------------------------------------------


def largest_excess(toy: Toy, m: float) -> float:
    """max over q of L_m(q) - log p(x) for a density, nats: log M_{1+m} - log M_1."""
    return log_moment(toy, 1.0 + m) - log_moment(toy, 1.0)


def _evidence_symbolic(c: Formulas) -> Evidence:
    """The gap of any model of two codes; its sign where log p(x|z) = log ceiling - t, t >= 0."""
    m, t, kl = sympy.symbols("m t K", nonnegative=True)
    expected = _TWO_CODES["expected"]
    objective = (1 + m) * expected - _TWO_CODES["kl"]
    gap = c.gap(kl=_codes_distance(1), m=m, expected=expected)
    lowest = sympy.log(sympy.Rational(c.ceiling)) - t
    return joined(
        equal(
            "log p(x) − L_m(q) against KL(q‖posterior) − m E_q log p(x|z), two codes",
            (_logs(sympy.log(_P * _A + _R * _B) - objective), _logs(gap)),
        ),
        nonnegative("the gap where p(x|z) is at most 1", c.gap(kl=kl, m=m, expected=lowest)),
    )


def _evidence_sampled(c: Formulas) -> Evidence:
    """A decoder of bits: L_m(q) from draws of q, against three integrals."""
    bits, cases = BITS._replace(bias=np.array([0.3, 0.0, -0.4])), []
    for seed, (m, mean, variance) in enumerate([(1.0, 0.4, 0.5), (2.0, -0.5, 0.3)]):
        sd = math.sqrt(variance)
        z = mean + sd * np.random.default_rng(seed).normal(size=_DRAWS)
        log_ratio = log_normal(z, 0.0, 1.0) - log_normal(z, mean, sd)
        gap = c.gap(kl=bits.gap(mean, sd), m=m, expected=bits.reconstruction(mean, sd))
        cases.append((bits.evidence - gap, (1.0 + m) * bits.log_likelihood(z) + log_ratio))
    return sampled("L_m of three bits with a Gaussian code, nats", *cases)


def _evidence_search(c: Formulas) -> Evidence:
    """No encoder above log p(x) where p(x|z) is at most the ceiling, and the gap's formula."""

    def violated(case: Case) -> bool:
        model, m = case
        q, evidence = model.encoder, model.moment(1.0)
        claimed, expected = model.bound(q, m), model.terms(q)["expected"]
        gap = c.gap(kl=float(rel_entr(q, model.tilt(1.0)).sum()), m=m, expected=expected)
        wrong = abs(evidence - claimed - gap) > ROUNDING * (1.0 + abs(gap))
        return wrong or _exceeds(claimed, evidence)

    cases = st.tuples(codes(c.ceiling), st.integers(0, 5).map(float))
    return search("an encoder with L_m above log p(x); up to 3 codes", cases, violated, _words)


def _evidence_printed() -> Evidence:
    """A discrete x at which even the best encoder stays below log p(x)."""

    def violated(case: Case) -> bool:
        model, m = case
        varied = np.unique(model.likelihood).size > 1
        return varied and model.moment(1.0 + m) <= model.moment(1.0)

    def words(case: Case) -> str:
        best, evidence = case[0].moment(1.0 + case[1]), case[0].moment(1.0)
        model = _words(case, ("p(z)", "p(x|z)"))
        return f"{model}: L ≤ {best:.5f} < log p(x) = {evidence:.5f} nats for every q"

    cases = st.tuples(codes(least=2), st.integers(1, 4).map(float))
    text = "a discrete x for which L_m is a lower bound on log p(x) all the same"
    return search(text, cases, violated, words)


A4 = stated(
    "A4",
    Formulas(gap="kl - m * expected", ceiling=1.0),
    {"weight of m E log p(x|z)": ("- m", "+ m"), "ceiling": 4.0},
    (_evidence_symbolic, _evidence_sampled, _evidence_search),
    _evidence_printed,
)


# --- A5, annealing --------------------------------------------------------------------------------


def train_sgd(
    objective: Objective, model: VAE, x: torch.Tensor, rates: list[float], start: Progress
) -> list[list[float]]:
    """Parameters after each plain gradient step; step t has rate t and noise of seed t."""
    path = []
    for step, rate in enumerate(rates):
        progress = Progress(start.iteration + step, start.batches_per_epoch)
        slopes = gradients(objective, model, x, step, progress)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.sub_(rate * slopes[name])
        path.append(torch.cat([p.detach().flatten() for p in model.parameters()]).tolist())
    return path


_ANNEALING = Formulas(m="1 / beta - 1", rate="eta * beta")


class Annealed(NamedTuple):
    """AutoGen whose m follows a schedule of the KL weight: m = 1 / beta - 1."""

    schedule: Schedule
    order: Callable[..., float] = _ANNEALING.m

    def __call__(
        self, model: Any, x: torch.Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Any:
        m = self.order(beta=self.schedule(progress))
        return AutoGen(max(m, 0.0))(model, x, progress, generator)


def _annealing_symbolic(c: Formulas) -> Evidence:
    """The two losses, the two maps, and the sign of dm/dbeta on beta = 1/(1 + n)."""
    rec, kl = sympy.symbols("R K", positive=True)
    beta, m = 1 / (1 + _N), c.m(beta=_A)
    there = m.subs(_A, beta)
    return joined(
        equal(
            "annealed loss against β times AutoGen's, and β and m through each other",
            (rec + beta * kl, c.rate(eta=1, beta=beta) * ((1 + there) * rec + kl)),
            (1 / (1 + m), _A),
            (there, _N),
        ),
        nonnegative("−dm/dβ and m on 0 < β ≤ 1", -sympy.diff(m, _A), there),
    )


def _annealing_sampled(c: Formulas) -> Evidence:
    """The stochastic gradient of the annealed loss against beta times AutoGen's exact one."""
    q, cases = Gaussian(0.3, 0.2), []
    for beta in (0.1, 0.4, 0.8):
        factor = 1.0 + c.m(beta=beta)
        exact = c.rate(eta=factor, beta=beta) * _exact_gradient(TOY, q, 1.0 / factor)
        draws = _drawn_gradient(TOY, q, 1.0, beta, 4)
        cases += [(float(value), draws[:, place]) for place, value in enumerate(exact)]
    return sampled("annealed gradient against β times AutoGen's, β = 0.1, 0.4, 0.8", *cases)


def _annealing_search(c: Formulas) -> Evidence:
    """Four steps of training with the library's schedules, and with m = 1/beta - 1 instead."""

    def violated(case: tuple[int, Schedule, int]) -> bool:
        seed, schedule, iteration = case
        start = Progress(iteration, 10)
        betas = [schedule(Progress(iteration + step, 10)) for step in range(4)]
        if min(betas) == 0.0:  # no finite m
            return False
        (one, x), (other, _) = small_model(seed), small_model(seed)
        left = train_sgd(ELBO(schedule), one, x, [0.01 for _ in betas], start)
        rates = [c.rate(eta=0.01, beta=beta) for beta in betas]
        right = train_sgd(Annealed(schedule, c.m), other, x, rates, start)
        return not np.allclose(left, right, rtol=1e-9, atol=1e-11)

    linear = st.builds(
        objectives.Linear, start=steps(0, 10, 10), epochs=st.integers(1, 10).map(float)
    )
    cyclical = st.builds(objectives.Cyclical, cycles=st.integers(1, 4), epochs=steps(2, 8))
    cases = st.tuples(st.integers(0, 10_000), st.one_of(linear, cyclical), st.integers(0, 60))
    text = "four steps of gradient descent apart: annealing, and AutoGen at the rate times β"
    return search(text, cases, violated, "model {}, {}, update {}", 60)


A5 = stated(
    "A5",
    _ANNEALING,
    {"1 of 1/β − 1": ("- 1", "- 0"), "power of β in the rate": ("eta * beta", "eta")},
    (_annealing_symbolic, _annealing_sampled, _annealing_search),
)

STATEMENTS = (A1, A1M, A2, A3, A4, A5)
