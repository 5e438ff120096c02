"""What the formulas and checks on posteriors are made of.

Most formulas take arrays of floats, of fractions and of SymPy symbols alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy.typing import NDArray

from companion.claims.mixtures import ROUNDING
from companion.claims.statements import DRAWS, Evidence, search

Array = NDArray[Any]  # floats, fractions or symbols

ALPHA = 1.0 / (2.0 * math.pi * math.e)  # the variance whose entropy is 0

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(8)  # exact for polynomials up to degree 15
WEIGHTS = WEIGHTS / WEIGHTS.sum()


# --- what formulas are made of --------------------------------------------------------------------


def root(x: Any) -> Any:
    """Square root; of symbols too."""
    return sympy.sqrt(x) if isinstance(x, sympy.Basic) else np.sqrt(x)


def average(values: Array, *axes: int) -> Any:
    """Mean over axes, without a float in between."""
    return values.sum(axes) / math.prod(values.shape[axis] for axis in axes)


def log_gaussian(z: Any, mean: Any, variance: Any) -> Any:
    """Log density of N(mean, variance) at z, elementwise."""
    return -0.5 * ((z - mean) ** 2 / variance + np.log(2.0 * math.pi * variance))


def expected(function: Callable[[Array], Array], mean: Any, variance: Any) -> Any:
    """E f(z) of z ~ N(mean, variance), elementwise: exact for polynomials up to degree 15."""
    centre, spread = np.broadcast_arrays(mean, np.sqrt(variance))
    return function(centre[..., None] + spread[..., None] * NODES) @ WEIGHTS


def gaussian(random: np.random.Generator, mean: Any, variance: Any, shape: Any = None) -> Array:
    """Draws of N(mean, variance); without a shape, one for each mean."""
    noise = random.normal(size=np.shape(mean) if shape is None else shape)
    return np.asarray(mean + np.sqrt(variance) * noise)


def agree(
    compared: str,
    cases: st.SearchStrategy[Any],
    sides: Callable[[Any], tuple[Any, Any]],
    describe: Callable[[Any], str] | str = repr,
    draws: int = DRAWS,
) -> Evidence:
    """Search for a case in which the definition and the formula differ by more than rounding."""

    def violated(case: Any) -> bool:
        exact, claimed = map(np.asarray, sides(case))
        return bool((abs(exact - claimed) > ROUNDING * (1.0 + abs(exact))).any())

    return search(compared, cases, violated, describe, draws)


def integers(draw: st.DrawFn, low: int, high: int, shape: tuple[int, ...]) -> Array:
    """An array of integers for a search, as floats."""
    size = math.prod(shape)
    values = draw(st.lists(st.integers(low, high), min_size=size, max_size=size))
    return np.reshape(values, shape).astype(float)
