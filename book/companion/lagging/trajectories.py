"""What the page on trajectories asks of results: moves of instances, and its rule.

Every function takes results, so that reference results and this build's go the same way.
The bounds in the rules are this project's reading of the paper's words; they are stated beside
each verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from companion.claims.reference import Result
from companion.claims.verdicts import Finding, decide
from companion.lagging.shared import least, scale_of, set_up


class Moves(NamedTuple):
    """Moves of P instances in the posterior mean space, move by move."""

    inner: NDArray[np.bool_]  # (K,), whether the moment follows an inner loop
    model_mean: NDArray[np.floating]  # (K, P)
    inference_mean: NDArray[np.floating]  # (K, P)


def moves(result: Result) -> Moves:
    """The recorded trajectory of a result."""
    inner, *means = (result.arrays[f"trajectory_{name}"] for name in Moves._fields)
    return Moves(inner.astype(bool), *means)


class _Step(NamedTuple):
    inner_model: float  # root mean square change of p(z|x) means over inner loops
    outer_inference: float  # of q(z|x) means over outer steps
    closer: float  # mean distance to the diagonal after inner loops over that before them


def _step(result: Result) -> _Step:
    """Size of the moves; the distance counts once means have left the origin."""
    recorded = moves(result)
    inner = recorded.inner[1:]
    model = np.diff(recorded.model_mean, axis=0)
    inference = np.diff(recorded.inference_mean, axis=0)
    distance = np.abs(recorded.inference_mean - recorded.model_mean).mean(1)
    moved = inner & (np.abs(recorded.model_mean[1:]).mean(1) > 0.05)
    ratio = float(distance[1:][moved].mean() / distance[:-1][moved].mean()) if moved.any() else 1.0
    return _Step(
        float(np.sqrt(np.square(model[inner]).mean())),
        float(np.sqrt(np.square(inference[~inner]).mean())),
        ratio,
    )


def decide_trajectories(aggressive: Sequence[Result]) -> Finding:
    """Rule for figure 3: inner loops move vertically and towards the diagonal.

    Vertically is by construction: an inner loop leaves the decoder alone, and an outer step the
    encoder.  So that one mean stands still while the other moves is a premise, and what decides is
    whether the loops bring instances nearer to the diagonal.
    """
    steps = [_step(result) for result in aggressive]
    inner, outer, closer = ([getattr(s, name) for s in steps] for name in _Step._fields)
    checks = [
        set_up("inner loop: change of p(z|x) means", inner, 0.0, 1e-3),
        set_up("outer step: change of q(z|x) means", outer, 0.0, 1e-6),
        least("distance to the diagonal, after inner loops over before", closer, 1),
    ]
    return decide("lagging-fig3", scale_of(aggressive), checks)
