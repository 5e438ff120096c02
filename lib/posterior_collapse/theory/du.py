"""DU-VAE: the statements of Shen et al. 2021 on diversity and uncertainty.

Notation: x is uniform on N points, q_i = N(mu_i, diag sigma_i^2), D dimensions, nats.
"""

from __future__ import annotations

import math

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy.typing import NDArray

from posterior_collapse.theory.statement import (
    Constants,
    Evidence,
    Statement,
    equal,
    sampled,
    search,
)

__all__ = ["STATEMENTS"]

Array = NDArray[np.float64]


@st.composite
def posteriors(draw: st.DrawFn, points: int = 6, dimensions: int = 4) -> tuple[Array, Array]:
    """Means and variances, each (N, D), with magnitudes far apart."""
    shape = draw(st.integers(1, points)), draw(st.integers(1, dimensions))
    size = shape[0] * shape[1]
    scale = 10.0 ** draw(st.integers(-3, 3))
    mean = draw(st.lists(st.integers(-8, 8), min_size=size, max_size=size))
    power = draw(st.lists(st.integers(-4, 3), min_size=size, max_size=size))
    return scale * np.reshape(mean, shape) / 8.0, np.exp2(np.reshape(power, shape).astype(float))


def shown(case: tuple[Array, Array]) -> str:
    """Means and variances in words."""
    mean, variance = case
    return f"means {mean.tolist()}, variances {variance.tolist()}"


# --- D2, the closed form of MPD -------------------------------------------------------------------


def pairwise_mpd(mean: Array, variance: Array) -> float:
    """The definition: the average KL over all ordered pairs, O(N^2 D)."""
    m1, v1, m2, v2 = mean[:, None], variance[:, None], mean[None], variance[None]
    kl = 0.5 * ((v1 + (m1 - m2) ** 2) / v2 - 1.0 - np.log(v1 / v2))
    return float(kl.sum(-1).mean())


def closed_mpd(mean: Array, variance: Array, c: Constants) -> float:
    """The closed form, with the constant of each dimension and a lone one."""
    apart = (mean[:, None] - mean[None]) ** 2
    quadratic = (apart / variance[None]).mean((0, 1))
    crossed = variance.mean(0) * (1.0 / variance).mean(0)
    return float(c["half"] * ((quadratic + crossed - c["inside"]).sum() - c["lone"]))


def _mpd_symbolic(c: Constants) -> Evidence:
    """Two points in one dimension, and in two: the average of the four KLs."""
    found = []
    for dimensions in (1, 2):
        m = sympy.symbols(f"m:{2 * dimensions}", real=True)
        v = sympy.symbols(f"v:{2 * dimensions}", positive=True)
        pairs = [(i, j) for i in range(2) for j in range(2)]
        definition, closed = sympy.S.Zero, -sympy.Rational(c["lone"])
        for d in range(dimensions):
            m_, v_ = m[2 * d : 2 * d + 2], v[2 * d : 2 * d + 2]
            quadratic = sum((m_[i] - m_[j]) ** 2 / v_[j] for i, j in pairs) / 4
            ratios = sum(v_[i] / v_[j] for i, j in pairs) / 4
            logs = sum(sympy.log(v_[i]) - sympy.log(v_[j]) for i, j in pairs) / 4
            definition += (ratios + quadratic - 1 - logs) / 2
            closed += quadratic + (v_[0] + v_[1]) / 2 * (1 / v_[0] + 1 / v_[1]) / 2
            closed -= sympy.Rational(c["inside"])
        found.append((definition, sympy.Rational(c["half"]) * closed))
    return equal("average KL of two points' pairs against the closed form, D = 1 and 2", *found)


def _mpd_sampled(c: Constants) -> Evidence:
    """Random pairs and random z: log q_1(z) - log q_2(z) with z from q_1."""
    random = np.random.default_rng(0)
    mean, variance = random.normal(size=(5, 3)), random.uniform(0.3, 1.5, (5, 3))
    first, second = random.integers(0, 5, (2, 200_000))
    z = mean[first] + np.sqrt(variance[first]) * random.normal(size=(first.size, 3))

    def log_density(point: NDArray[np.int64]) -> Array:
        distance = (z - mean[point]) ** 2 / variance[point]
        density = -0.5 * (distance + np.log(2.0 * math.pi * variance[point])).sum(-1)
        return np.asarray(density)

    draws = log_density(first) - log_density(second)
    return sampled("mean log-ratio over random pairs, nats", (closed_mpd(mean, variance, c), draws))


def _mpd_violated(c: Constants) -> Evidence:
    """Definition against closed form, whatever the magnitudes."""

    def violated(case: tuple[Array, Array]) -> bool:
        exact, claimed = pairwise_mpd(*case), closed_mpd(*case, c)
        return abs(exact - claimed) > 1e-9 * (1.0 + abs(exact))

    return search("closed form against all pairs", posteriors(), violated, shown)


D2 = Statement(
    id="D2",
    name="closed form of the mutual posterior divergence",
    paper="DU-VAE, equation 3",
    item="du-eq3",
    claim="2 MPD is the sum over dimensions of E[Δ²/σ²] + E[σ²] E[1/σ²] − 1, over i.i.d. pairs.",
    constants={"half": 0.5, "inside": 1.0, "lone": 0.0},
    wrong={"half": 0.25, "inside": 0.0, "lone": 1.0},
    checks=(_mpd_symbolic, _mpd_sampled, _mpd_violated),
    printed=lambda: _mpd_violated({"half": 0.5, "inside": 0.0, "lone": 1.0}),
)

STATEMENTS = (D2,)
