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

from companion.claims import formulas as f
from companion.claims.formulas import BITS, ROUNDING, Array, gaussian_kl, log_normal, logs, steps
from companion.claims.statements import Facts, Formulas, Means, Statement, stated
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


class Gaussian(NamedTuple):
    """N(mean, variance) of a scalar."""

    mean: float
    variance: float


TOY, PRIOR = Toy(1.5, 0.5, 1.0), Gaussian(0.0, 1.0)


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


def terms(toy: Toy, q: Gaussian) -> dict[str, float]:
    """E_q[log p(x|z)] and KL(q || p), nats."""
    w, s, x = toy
    squared = (x - w * q.mean) ** 2 + w * w * q.variance
    expected = -0.5 * (squared / (s * s) + math.log(2.0 * math.pi * s * s))
    return {"expected": expected, "kl": float(gaussian_kl(*q))}


def bound(toy: Toy, q: Gaussian, factor: float) -> float:
    """factor E_q[log p(x|z)] - KL(q || p), nats; L_m(q) with factor 1 + m."""
    both = terms(toy, q)
    return factor * both["expected"] - both["kl"]


def own_codes(toy: Toy, m: float) -> float:
    """log p(x) + m log p_SAE(x|x): each of m reconstructions draws its own code, nats."""
    first, second = log_moment(toy, 1.0), log_moment(toy, 2.0)
    return first + m * (second - first)


def largest_excess(toy: Toy, m: float) -> float:
    """max over q of L_m(q) - log p(x) for a density, nats: log M_{1+m} - log M_1."""
    return log_moment(toy, 1.0 + m) - log_moment(toy, 1.0)


def _log_likelihood(z: Array) -> Array:
    """log p(x|z) of the example."""
    return log_normal(TOY.x, TOY.w * z, TOY.s)


@functools.cache
def _encoder() -> tuple[Array, Array, float]:
    """Cumulative distribution of p(z|x) by Bayes' rule on a grid, the grid, and log p(x)."""
    z = np.linspace(-9.0, 9.0, 40_001)
    density = np.exp(_log_likelihood(z) + log_normal(z, 0.0, 1.0))
    total = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return total / total[-1], z, math.log(float(np.trapezoid(density, z)))


def _encoded(random: np.random.Generator, *shape: int) -> Array:
    """Codes drawn from p(z|x), the stochastic autoencoder's encoder."""
    return np.interp(random.random(shape), *_encoder()[:2])


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
        both = self.terms(q)
        return (1.0 + m) * both["expected"] - both["kl"]


@st.composite
def codes(draw: st.DrawFn, ceiling: float = 1.0, least: int = 1, most: int = 3) -> Codes:
    """Models whose p(x|z) lies in eighths of the ceiling."""
    n = draw(st.integers(least, most))
    prior, likelihood, encoder = (f.integers(draw, low, 8, (n,)) for low in (1, 1, 0))
    if encoder.sum() == 0.0:
        encoder = np.ones(n)
    return Codes(prior / prior.sum(), ceiling * likelihood / 8.0, encoder / encoder.sum())


def _exceeds(left: float, right: float) -> bool:
    """left > right beyond rounding."""
    return left > right + ROUNDING * (1.0 + abs(right))


def _words(model: Codes, m: float, names: tuple[str, ...] = ("p(z)", "p(x|z)", "q(z|x)")) -> str:
    """A finite model in words."""
    values = (", ".join(f"{value:.4g}" for value in row) for row in model)
    rows = (f"{name} = ({row})" for name, row in zip(names, values, strict=False))
    return ", ".join([f"m = {m:g}", *rows])


# --- symbols: a Gaussian model with q = N(mu, v), and one of two codes ----------------------------

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
    log_bell = logs(
        sympy.log(sympy.simplify(f.integral(sympy.exp(line * _Z - square * _Z**2), _Z)))
    )
    whole = constant + log_bell.subs({line: linear, square: -quadratic})
    return whole - sympy.log(2 * sympy.pi) / 2 - k * sympy.log(2 * sympy.pi * _S**2) / 2, k


def _gaussian_terms() -> dict[str, Any]:
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


def _jensen(id: str, m: Any, sampled_m: int, orders: st.SearchStrategy[float]) -> Statement:
    """The bound for one m, or for any."""
    statement = stated(
        id,
        Formulas(L="(1 + m) * expected - kl", order="1 + m * 1"),
        {
            "1 of the factor 1 + m": ("(1 + m)", "m"),
            "weight of the KL": ("- kl", "- kl / 2"),
            "share of m in the best q": ("m * 1", "m * 0"),
        },
    )

    @statement.symbolic
    def _(c: Formulas) -> Facts:
        """log M of order 1 + m against bound plus KL(q‖q*): Gaussian model, any of two codes"""
        moment, k = _symbolic_moment()
        gaussian = c.L(m=m, **_gaussian_terms()) + _gaussian_distance(c.order(m=m))
        finite = sympy.log(_P * _A ** (1 + m) + _R * _B ** (1 + m))
        two = c.L(m=m, **_TWO_CODES) + _codes_distance(c.order(m=m))
        return (logs(moment.subs(k, 1 + m)), logs(gaussian)), (logs(finite), logs(two))

    @statement.sampled
    def _(c: Formulas) -> Means:
        """chance that all m reconstructions of one code are x: bound plus KL(q‖q*) less log p(x)"""
        # The autoencoder itself: encode x, and decode the same code m times into x.
        random, cases = np.random.default_rng(1), []
        for q in (Gaussian(0.6, 0.1), Gaussian(0.0, 0.4)):
            distance = float(gaussian_kl(*q, *tilted(TOY, c.order(m=sampled_m))))
            level = c.L(m=sampled_m, **terms(TOY, q)) + distance
            draws = np.exp(sampled_m * _log_likelihood(_encoded(random, _DRAWS)))
            cases.append((math.exp(level - _encoder()[2]), draws))
        return cases

    @statement.search(st.tuples(codes(2.0), orders), _words, 200)
    def _(c: Formulas, model: Codes, m: float) -> bool:
        """an encoder above log M of order 1 + m, or q* off it; up to 3 codes"""
        top, star = model.moment(1.0 + m), model.tilt(c.order(m=m))
        best, other = (c.L(m=m, **model.terms(q)) for q in (star, model.encoder))
        return _exceeds(max(other, best), top) or _exceeds(top, best)

    return statement


A1 = _jensen("A1", sympy.Integer(1), 1, st.just(1.0))
A1M = _jensen("A1m", sympy.symbols("m", positive=True), 3, steps(0, 12, 2))


# --- A2, a code of its own for each reconstruction ------------------------------------------------

A2 = stated(
    "A2",
    Formulas(own="moment(1) + m * (moment(2) - moment(1))", top="moment(1 + m)", tangent=1.0),
    {
        "second order of the chord": ("moment(2)", "moment(3)"),
        "1 of the order 1 + m": ("moment(1 + m)", "moment(m)"),
        "tangent": 2.0,
    },
)


@A2.symbolic
def _(c: Formulas) -> Facts:
    """linear part of the gaps; log M₁₊ₘ ≥ own codes ≥ L at the posterior; curvature of log M"""
    # Gaussian model, m = 1 + n and r = w^2 / s^2, where
    # log M_k = -k log(2 pi s^2) / 2 - log(1 + k r) / 2 - (x^2 / 2 s^2) k / (1 + k r).
    # Each gap is 0 at r = 0 and has two parts: one in x^2, one in logarithms.  Both have the sign
    # of the rational function below: the first one's coefficient, twice the second's derivative.
    r, m, encoder = sympy.symbols("r", positive=True), 1 + _N, sympy.Rational(c.tangent)

    def curve(k: Any) -> Any:
        return -k / (1 + k * r)

    chord = c.own(moment=curve, m=m)
    tangent = curve(encoder) + (1 + m - encoder) * curve(_A).diff(_A).subs(_A, encoder)
    moment = sympy.log(_P * _A**_X + _R * _B**_X)
    return (
        (c.own(moment=lambda k: k, m=m), c.top(moment=lambda k: k, m=m)),
        c.top(moment=curve, m=m) - chord,
        chord - tangent,
        sympy.together(sympy.diff(moment, _X, 2)),
    )


@A2.sampled
def _(c: Formulas) -> Means:
    """p(x) times the chance of x three times, own codes and one code; L at the posterior, nats"""
    random, m = np.random.default_rng(2), 3
    moment, posterior = functools.partial(log_moment, TOY), tilted(TOY, 1.0)
    start, again = (np.exp(_log_likelihood(random.normal(size=_DRAWS))) for _ in range(2))
    each = np.exp(_log_likelihood(_encoded(random, _DRAWS, m)))
    shared = np.exp(m * _log_likelihood(_encoded(random, _DRAWS)))
    z = _encoded(random, _DRAWS)
    ratio = log_normal(z, 0.0, 1.0) - log_normal(z, posterior.mean, posterior.variance**0.5)
    return (
        (math.exp(c.own(moment=moment, m=m)), start * each.prod(1)),
        (math.exp(c.top(moment=moment, m=m)), again * shared),
        (bound(TOY, tilted(TOY, c.tangent), 1.0 + m), (1 + m) * _log_likelihood(z) + ratio),
    )


@A2.search(st.tuples(codes(2.0), st.integers(1, 8).map(float)), _words)
def _(c: Formulas, model: Codes, m: float) -> bool:
    """own codes outside [L(posterior), log M₁₊ₘ]; m to 8"""
    own, top = (formula(moment=model.moment, m=m) for formula in (c.own, c.top))
    return _exceeds(model.bound(model.tilt(c.tangent), m), own) or _exceeds(own, top)


def _own_sides(model: Codes, m: float) -> tuple[float, float]:
    first, second = model.moment(1.0), model.moment(2.0)
    return model.bound(model.encoder, m), first + m * (second - first)


def _own_words(model: Codes, m: float) -> str:
    claimed, true = _own_sides(model, m)
    return f"{_words(model, m)}: bound {claimed:.5f} > objective {true:.5f} nats"


@A2.search_printed(st.tuples(codes(most=2), st.just(2.0)), _own_words, 2000)
def _(model: Codes, m: float) -> bool:
    """an encoder whose bound exceeds the objective, own code for each; m = 2, up to 2 codes"""
    return _exceeds(*_own_sides(model, m))


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


def _exact_gradient(q: Gaussian, beta: float) -> Array:
    """Gradient of -E_q[log p(x|z)] + beta KL of the example in (w, mean, log-variance)."""
    w, s, x = TOY
    miss = (x - w * q.mean) / (s * s)
    by_logvar = 0.5 * q.variance * w * w / (s * s) + 0.5 * beta * (q.variance - 1.0)
    by_w = -miss * q.mean + w * q.variance / (s * s)
    return np.array([by_w, -miss * w + beta * q.mean, by_logvar])


def _gradient_cases(
    q: Gaussian, exact: Array, factor: float, weight: float, seed: int
) -> list[tuple[float, Array]]:
    """With draws of the gradient of -factor log p(x|z) + weight KL, by reparameterisation."""
    w, s, x = TOY
    noise = np.random.default_rng(seed).normal(size=_DRAWS)
    z = q.mean + math.sqrt(q.variance) * noise
    miss = (x - w * z) / (s * s)
    by_z = -miss * w
    drawn = np.stack([-miss * z, by_z, 0.5 * by_z * math.sqrt(q.variance) * noise])
    prior = weight * np.array([[0.0], [q.mean], [0.5 * (q.variance - 1.0)]])
    return list(zip(exact.tolist(), factor * drawn + prior, strict=True))


A3 = stated(
    "A3",
    Formulas(beta="1 / (1 + m)", scale="m + 1"),
    {"1 of 1/(1 + m)": ("(1 + m)", "(2 + m)"), "1 of the scale 1 + m": ("m + 1", "m")},
)


@A3.symbolic
def _(c: Formulas) -> Facts:
    """gradients of the two losses in any parameter, every m > −1"""
    theta, m = sympy.symbols("theta", real=True), sympy.symbols("y", positive=True) - 1
    rec, kl = (sympy.Function(name)(theta) for name in ("R", "K"))
    right = c.scale(m=m) * sympy.diff(rec + c.beta(m=m) * kl, theta)
    return [(sympy.diff((1 + m) * rec + kl, theta), right)]


@A3.sampled
def _(c: Formulas) -> Means:
    """stochastic gradient of AutoGen in the weight, the mean and the log-variance, m = 0.5, 1, 3"""
    q, cases = Gaussian(0.3, 0.2), []
    for m in (0.5, 1.0, 3.0):
        exact = c.scale(m=m) * _exact_gradient(q, c.beta(m=m))
        cases += _gradient_cases(q, exact, 1.0 + m, 1.0, 3)
    return cases


@A3.search(st.tuples(st.integers(0, 10_000), steps(0, 80, 10)), "model {}, m = {:g}", 150)
def _(c: Formulas, seed: int, m: float) -> bool:
    """AutoGen and ELBO of the library in float64, same noise: gradients apart in some parameter"""
    model, x = small_model(seed)
    objectives = AutoGen(m), ELBO(Constant(c.beta(m=m)))
    left, right = (gradients(one, model, x, seed, Progress(0, 1)) for one in objectives)
    return any(
        (value - c.scale(m=m) * right[name]).abs().max()
        > 1e-10 * max(1e-12, value.abs().max().item())
        for name, value in left.items()
    )


# --- A4, a bound on log p(x) or not ---------------------------------------------------------------

A4 = stated(
    "A4",
    Formulas(gap="kl - m * expected", ceiling=1.0),
    {"weight of m E log p(x|z)": ("- m", "+ m"), "ceiling": 4.0},
)


@A4.symbolic
def _(c: Formulas) -> Facts:
    """log p(x) − L_m(q) is KL(q‖posterior) − m E_q log p(x|z), two codes; sign if p(x|z) ≤ 1"""
    m, t, kl = sympy.symbols("m t K", nonnegative=True)
    expected = _TWO_CODES["expected"]
    objective = (1 + m) * expected - _TWO_CODES["kl"]
    gap = c.gap(kl=_codes_distance(1), m=m, expected=expected)
    lowest = sympy.log(sympy.Rational(c.ceiling)) - t
    return (
        (logs(sympy.log(_P * _A + _R * _B) - objective), logs(gap)),
        c.gap(kl=kl, m=m, expected=lowest),
    )


@A4.sampled
def _(c: Formulas) -> Means:
    """L_m of three bits with a Gaussian code, against three integrals, nats"""
    bits, cases = BITS._replace(bias=np.array([0.3, 0.0, -0.4])), []
    for seed, (m, mean, variance) in enumerate([(1.0, 0.4, 0.5), (2.0, -0.5, 0.3)]):
        sd = math.sqrt(variance)
        z = mean + sd * np.random.default_rng(seed).normal(size=_DRAWS)
        log_ratio = log_normal(z, 0.0, 1.0) - log_normal(z, mean, sd)
        gap = c.gap(kl=bits.gap(mean, sd), m=m, expected=bits.reconstruction(mean, sd))
        cases.append((bits.evidence - gap, (1.0 + m) * bits.log_likelihood(z) + log_ratio))
    return cases


@A4.search(lambda c: st.tuples(codes(c.ceiling), st.integers(0, 5).map(float)), _words)
def _(c: Formulas, model: Codes, m: float) -> bool:
    """an encoder with L_m above log p(x) where p(x|z) ≤ 1, or another gap; up to 3 codes"""
    q, evidence = model.encoder, model.moment(1.0)
    claimed, expected = model.bound(q, m), model.terms(q)["expected"]
    gap = c.gap(kl=float(rel_entr(q, model.tilt(1.0)).sum()), m=m, expected=expected)
    return f.apart(gap, evidence - claimed) or _exceeds(claimed, evidence)


def _evidence_words(model: Codes, m: float) -> str:
    best, evidence = model.moment(1.0 + m), model.moment(1.0)
    text = _words(model, m, ("p(z)", "p(x|z)"))
    return f"{text}: L ≤ {best:.5f} < log p(x) = {evidence:.5f} nats for every q"


@A4.search_printed(st.tuples(codes(least=2), st.integers(1, 4).map(float)), _evidence_words)
def _(model: Codes, m: float) -> bool:
    """a discrete x for which L_m is a lower bound on log p(x) all the same"""
    varied = np.unique(model.likelihood).size > 1
    return varied and model.moment(1.0 + m) <= model.moment(1.0)


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


A5 = stated(
    "A5",
    Formulas(m="1 / beta - 1", rate="eta * beta"),
    {"1 of 1/β − 1": ("- 1", "- 0"), "power of β in the rate": ("eta * beta", "eta")},
)


class Annealed(NamedTuple):
    """AutoGen whose m follows a schedule of the KL weight: m = 1 / beta - 1."""

    schedule: Schedule
    order: Callable[..., float] = A5.constants.m

    def __call__(
        self, model: Any, x: torch.Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Any:
        m = self.order(beta=self.schedule(progress))
        return AutoGen(max(m, 0.0))(model, x, progress, generator)


@A5.symbolic
def _(c: Formulas) -> Facts:
    """annealed loss is β times AutoGen's; β and m through each other; −dm/dβ and m on 0 < β ≤ 1"""
    rec, kl = sympy.symbols("R K", positive=True)
    beta, m = 1 / (1 + _N), c.m(beta=_A)
    there = m.subs(_A, beta)
    return (
        (rec + beta * kl, c.rate(eta=1, beta=beta) * ((1 + there) * rec + kl)),
        (1 / (1 + m), _A),
        (there, _N),
        -sympy.diff(m, _A),
        there,
    )


@A5.sampled
def _(c: Formulas) -> Means:
    """stochastic annealed gradient against β times AutoGen's, β = 0.1, 0.4, 0.8"""
    q, cases = Gaussian(0.3, 0.2), []
    for beta in (0.1, 0.4, 0.8):
        factor = 1.0 + c.m(beta=beta)
        exact = c.rate(eta=factor, beta=beta) * _exact_gradient(q, 1.0 / factor)
        cases += _gradient_cases(q, exact, 1.0, beta, 4)
    return cases


_LINEAR = st.builds(objectives.Linear, start=steps(0, 10, 10), epochs=st.integers(1, 10).map(float))
_CYCLICAL = st.builds(objectives.Cyclical, cycles=st.integers(1, 4), epochs=steps(2, 8))


@A5.search(
    st.tuples(st.integers(0, 10_000), st.one_of(_LINEAR, _CYCLICAL), st.integers(0, 60)),
    "model {}, {}, update {}",
    60,
)
def _(c: Formulas, seed: int, schedule: Schedule, iteration: int) -> bool:
    """four steps of gradient descent apart: annealing, and AutoGen at the rate times β"""
    start = Progress(iteration, 10)
    betas = [schedule(Progress(iteration + step, 10)) for step in range(4)]
    if min(betas) == 0.0:  # no finite m
        return False
    (one, x), (other, _) = small_model(seed), small_model(seed)
    left = train_sgd(ELBO(schedule), one, x, [0.01 for _ in betas], start)
    rates = [c.rate(eta=0.01, beta=beta) for beta in betas]
    right = train_sgd(Annealed(schedule, c.m), other, x, rates, start)
    return not np.allclose(left, right, rtol=1e-9, atol=1e-11)


STATEMENTS = (A1, A1M, A2, A3, A4, A5)
