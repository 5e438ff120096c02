"""What formulas and checks on posteriors are made of.

Formulas take arrays of floats, of fractions and of SymPy symbols alike; what they are held against
are sums over nodes of the densities in the definitions.
Notation: x is uniform on N points, q_i = N(mu_i, diag sigma_i^2), q_agg is their mixture, nats.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_expit, logsumexp

from companion.claims.statements import log

Array = NDArray[Any]  # floats, fractions or symbols
Set = tuple[Array, Array]  # means and standard deviations

ALPHA = 1.0 / (2.0 * math.pi * math.e)  # the variance whose entropy is 0
MEAN, SD = np.array([0.5, -0.75, 1.5, 0.0]), np.array([0.9, 0.35, 1.1, 0.64])  # an example
DRAWS = 100_000  # of one Monte-Carlo check
REACH = 10.0  # standard deviations on either side of a mean that a grid covers
PER_SD = 8  # nodes in the smallest standard deviation
ROUNDING = 1e-9  # what the quadrature of a sum may be off, relative to it

_hermite = np.polynomial.hermite_e.hermegauss
NODES, WEIGHTS = _hermite(8)  # exact for polynomials up to degree 15
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def apart(exact: Any, claimed: Any, allowed: float = ROUNDING) -> bool:
    """Whether two numbers, or numbers of two arrays, differ by more than rounding."""
    left, right = np.asarray(exact), np.asarray(claimed)
    return bool((abs(left - right) > allowed * (1.0 + abs(left))).any())


def cached(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep results by the values of numbers and arrays: searches ask for the same cases again."""
    results: dict[Any, Any] = {}

    def key(value: Any) -> Any:
        return (value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value

    @functools.wraps(function)
    def looked_up(*arguments: Any, **options: Any) -> Any:
        place = tuple(map(key, (*arguments, *options.items())))
        try:
            if place not in results:
                results[place] = function(*arguments, **options)
            return results[place]
        except TypeError:  # lists have no hash
            return function(*arguments, **options)

    return looked_up


# --- formulas -------------------------------------------------------------------------------------


def root(x: Any) -> Any:
    """Square root; of symbols too."""
    return sympy.sqrt(x) if isinstance(x, sympy.Basic) else np.sqrt(x)


def average(values: Array, *axes: int) -> Any:
    """Mean over axes, without a float in between."""
    return values.sum(axes) / math.prod(values.shape[axis] for axis in axes)


def log_gaussian(z: Any, mean: Any, variance: Any) -> Any:
    """Log density of N(mean, variance) at z, elementwise."""
    return -0.5 * ((z - mean) ** 2 / variance + np.log(2.0 * math.pi * variance))


def log_normal(z: ArrayLike, mean: ArrayLike, sd: ArrayLike) -> Array:
    """Log density of N(mean, sd^2) at z, elementwise."""
    return np.asarray(log_gaussian(np.asarray(z), np.asarray(mean), np.square(sd)))


def gaussian_kl(mean: Any, variance: Any, centre: Any = 0, width: Any = 1) -> Any:
    """KL(N(mean, variance) || N(centre, width)) elementwise in closed form; symbols serve as well.

    ``width`` is the variance of the second Gaussian.
    """
    ratio = variance / width
    return (ratio + (mean - centre) ** 2 / width - 1 - log(ratio)) / 2


def bell(z: Any, mean: Any = 0, variance: Any = 1) -> Any:
    """Density of N(mean, variance) at z in symbols."""
    return sympy.exp(-((z - mean) ** 2) / (2 * variance)) / sympy.sqrt(2 * sympy.pi * variance)


@functools.cache
def integral(integrand: Any, z: Any) -> Any:
    """Integral over the real line in symbols."""
    return sympy.integrate(integrand, (z, -sympy.oo, sympy.oo))


def logs(expression: Any) -> Any:
    """Logarithms of products and quotients as sums, whatever the symbols."""
    return sympy.expand_log(sympy.sympify(expression), force=True)


def outcomes(points: int, states: int) -> tuple[Array, Array]:
    """Probabilities (N, states) and their logarithms, as free symbols.

    Identities that are linear in the logarithms do not need them tied to the probabilities.
    """
    p, log_p = (sympy.symbols(f"{name}:{points}_:{states}") for name in "pl")
    return np.reshape(p, (points, states)), np.reshape(log_p, (points, states))


# --- draws ----------------------------------------------------------------------------------------


def gaussian(random: np.random.Generator, mean: Any, variance: Any, shape: Any = None) -> Array:
    """Draws of N(mean, variance); without a shape, one for each mean."""
    noise = random.normal(size=np.shape(mean) if shape is None else shape)
    return np.asarray(mean + np.sqrt(variance) * noise)


def drawn(mean: Array, sd: Array, seed: int) -> tuple[NDArray[np.int64], Array]:
    """Points x and codes z from q(z|x), scalar; ``DRAWS`` of each."""
    random = np.random.default_rng(seed)
    x = random.integers(0, len(mean), DRAWS)
    return x, mean[x] + sd[x] * random.normal(size=DRAWS)


# --- quadrature -----------------------------------------------------------------------------------


def expected(function: Callable[[Array], Array], mean: Any, variance: Any) -> Any:
    """E f(z) of z ~ N(mean, variance), elementwise: exact for polynomials up to degree 15."""
    centre, spread = np.broadcast_arrays(mean, np.sqrt(variance))
    return function(centre[..., None] + spread[..., None] * NODES) @ WEIGHTS


def quadrature_kl(mean: Any, variance: Any, centre: float = 0.0, width: float = 1.0) -> Any:
    """KL(N(mean, variance) || N(centre, width)) elementwise: E of the log-ratio, a quadratic."""
    own = np.asarray(mean)[..., None], np.asarray(variance)[..., None]
    return expected(
        lambda z: log_gaussian(z, *own) - log_gaussian(z, centre, width), mean, variance
    )


def trapezoid(integrand: Callable[[Array], Array], mean: float, variance: float) -> float:
    """E of any function of z ~ N(mean, variance): the trapezoidal rule over 12 deviations."""
    t = np.linspace(-12.0, 12.0, 2001)
    weight = np.exp(-0.5 * t**2) / math.sqrt(2.0 * math.pi) * (t[1] - t[0])
    return float((weight * integrand(mean + math.sqrt(variance) * t)).sum())


def derivative(function: Callable[[float], float], at: float, step: float = 1e-3) -> float:
    """By a central difference; its error is about step^4."""
    low, below, above, high = (function(at + k * step) for k in (-2, -1, 1, 2))
    return (low - 8.0 * below + 8.0 * above - high) / (12.0 * step)


class Densities(NamedTuple):
    """Log densities of N posteriors and of N(0, I) on a grid of G nodes, nats."""

    own: Array  # (N, G)
    prior: Array  # (G,)
    cell: float  # volume of a node


def densities(mean: ArrayLike, sd: ArrayLike, per_sd: int = PER_SD) -> Densities:
    """The densities on a grid that covers all posteriors.

    Args:
        mean, sd: (N,) or (N, D); the grid is the product of D axes, so D is 1 or 2.
        per_sd: nodes in the smallest standard deviation of a dimension.
    """
    m = np.asarray(mean, dtype=float)
    s = np.broadcast_to(np.asarray(sd, dtype=float), m.shape).reshape(len(m), -1)
    m = m.reshape(len(m), -1)
    own, prior, cell = np.zeros((len(m), 1)), np.zeros(1), 1.0
    for centre, width in zip(m.T[..., None], s.T[..., None], strict=True):
        step = float(width.min()) / per_sd
        low = float((centre - REACH * width).min())
        z = low + step * np.arange(math.ceil((float((centre + REACH * width).max()) - low) / step))
        one = log_normal(z, centre, width)
        own = (own[:, :, None] + one[:, None, :]).reshape(len(m), -1)
        prior = (prior[:, None] + log_normal(z, 0.0, 1.0)).reshape(-1)
        cell *= step
    return Densities(own, prior, cell)


class Parts(NamedTuple):
    """What equations 5 of Lagging and those of Scale-VAE add up; nats."""

    information: float  # I_q = E KL(q_i || q_agg)
    reverse: float  # E KL(q_agg || q_i)
    aggregate_kl: float  # KL(q_agg || N(0, I))
    rate: float  # E KL(q_i || N(0, I))
    entropy: float  # of q_agg


@cached
def parts(mean: ArrayLike, sd: ArrayLike, per_sd: int = PER_SD) -> Parts:
    """All parts from their definitions; mean and sd (N,) or (N, D), D at most 2."""
    own, prior, cell = densities(mean, sd, per_sd)
    mixture = logsumexp(own, axis=0) - math.log(len(own))
    weight = np.exp(own) * cell
    aggregate = weight.mean(0)
    return Parts(
        float((weight * (own - mixture)).sum(1).mean()),
        float((aggregate * (mixture - own)).sum(1).mean()),
        float(aggregate @ (mixture - prior)),
        float((weight * (own - prior)).sum(1).mean()),
        float(-aggregate @ mixture),
    )


@cached
def divergences(mean: ArrayLike, sd: ArrayLike) -> Array:
    """KL(q_i || q_j) of all pairs, (N, N), from the definition."""
    own, _, cell = densities(mean, sd)
    crossed = (np.exp(own) * cell) @ own.T
    return np.asarray(np.diag(crossed)[:, None] - crossed)


def grid(mean: float, sd: float, per_sd: int = PER_SD) -> Array:
    """Nodes of a uniform grid around a Gaussian."""
    return mean + sd * np.linspace(-REACH, REACH, round(2 * REACH * per_sd) + 1)


class Bits(NamedTuple):
    """z ~ N(0, 1) and n independent bits with logits weight z + bias, at one x; nats."""

    weight: Array  # (n,)
    bias: Array
    x: Array  # of zeros and ones

    def log_likelihood(self, z: Array) -> Array:
        """log p(x|z); z (G,) -> (G,)."""
        logit = np.multiply.outer(z, self.weight) + self.bias
        return np.asarray((log_expit(np.where(self.x > 0, logit, -logit))).sum(-1))

    @property
    def evidence(self) -> float:
        """log p(x) as a sum over a grid under the prior."""
        z = grid(0.0, 1.0, 4 * PER_SD)
        log_joint = self.log_likelihood(z) + log_normal(z, 0.0, 1.0)
        return float(logsumexp(log_joint) + math.log(z[1] - z[0]))

    def reconstruction(self, mean: float, sd: float) -> float:
        """E_q log p(x|z) of q = N(mean, sd^2) by Gauss-Hermite quadrature."""
        nodes, weights = _HERMITE
        return float(weights @ self.log_likelihood(mean + sd * nodes) / weights.sum())

    def gap(self, mean: float, sd: float) -> float:
        """KL(q || p(z|x)) as a sum over a grid around q."""
        z = grid(mean, sd)
        own = log_normal(z, mean, sd)
        model = self.log_likelihood(z) + log_normal(z, 0.0, 1.0) - self.evidence
        return float(np.exp(own) @ (own - model) * (z[1] - z[0]))

    def __str__(self) -> str:
        weight, bias, x = (values.tolist() for values in self)
        return f"bits {x} with logits of weights {weight} and biases {bias}"


_HERMITE = _hermite(64)
BITS = Bits(np.array([2.0, -1.0, 0.5]), np.array([0.3, 0.0, -0.5]), np.array([1.0, 0.0, 1.0]))


# --- what searches draw from ----------------------------------------------------------------------


def steps(low: int, high: int, parts: int = 1) -> st.SearchStrategy[float]:
    """Multiples of 1 / parts from low / parts to high / parts."""
    return st.integers(low, high).map(lambda n: n / parts)


def integers(draw: st.DrawFn, low: int, high: int, shape: tuple[int, ...]) -> Array:
    """An array of integers for a search, as floats."""
    size = math.prod(shape)
    values = draw(st.lists(st.integers(low, high), min_size=size, max_size=size))
    return np.reshape(values, shape).astype(float)


@st.composite
def sets(draw: st.DrawFn, least: int = 1, points: int = 5, equal: bool = False) -> Set:
    """Means and standard deviations (N,) of scalar posteriors; ``equal`` gives all one sd."""
    size = draw(st.integers(least, points))
    mean = draw(st.lists(st.integers(-16, 16), min_size=size, max_size=size))
    powers = st.integers(-3, 1)
    same = [draw(powers)] * size if equal else None
    power = same or draw(st.lists(powers, min_size=size, max_size=size))
    return np.asarray(mean) / 4.0, np.exp2(np.asarray(power, dtype=float))


def in_words(mean: Array, sd: Array) -> str:
    """A set in words."""
    centre, width = (", ".join(f"{value:g}" for value in values) for values in (mean, sd))
    return f"means {centre}; standard deviations {width}"
