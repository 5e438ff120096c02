"""What the pages on Lagging Inference Networks ask of results: panels, measures and rules.

Every function takes results, so that reference results and this build's go the same way.
The bounds in the rules are this project's reading of the paper's words; they are stated beside
each verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from companion.claims.reference import Result
from companion.claims.verdicts import Check, Finding, above, below, correlation, decide, share, side
from companion.lagging.shared import least, scale_of, set_up
from companion.numbers import spread
from companion.show.figures import Panel
from companion.show.players import Track
from posterior_collapse.errors import BadInput

__all__ = [
    "Measures",
    "decide_algorithm",
    "decide_initialisation",
    "decide_map",
    "decide_mean_space",
    "four_states",
    "measures",
    "numbers",
    "panels",
    "space_at",
    "tracks",
]

# Updates at which figure 2 shows basic and aggressive training.
BASIC_STAGES = (0, 200, 1000, 10000)
AGGRESSIVE_STAGES = (0, 200, 2000, 10000)
_LAG = 1000  # updates after which basic training is asked whether its encoder lags
_SMALL, _LARGE = 0.1, 0.5  # spread of means that counts as gone, and as there


class Space(NamedTuple):
    """Posterior means of B sentences after some update."""

    iteration: int
    model_mean: NDArray[np.floating]
    inference_mean: NDArray[np.floating]


def space_at(result: Result, iteration: int) -> Space:
    """The recorded posterior mean space at an update, or at the last one recorded before it.

    Raises:
        BadInput: nothing was recorded.
    """
    recorded = result.arrays.get("grid_iteration")
    if recorded is None or len(recorded) == 0:
        raise BadInput(f"{result.spec.label()} has no recorded posterior mean space")
    place = int(np.searchsorted(recorded, iteration, side="right")) - 1
    return Space(
        int(recorded[max(place, 0)]),
        result.arrays["grid_model_mean"][max(place, 0)],
        result.arrays["grid_inference_mean"][max(place, 0)],
    )


def _final(result: Result) -> Space:
    arrays = result.arrays
    updates = int(result.metrics["updates"])
    return Space(updates, arrays["final_model_mean"], arrays["final_inference_mean"])


def panels(result: Result, iterations: Sequence[int]) -> list[Panel]:
    """Panels at the wanted updates, without repeats, and the best model at the end."""
    spaces = {(s := space_at(result, n)).iteration: s for n in iterations}
    shown = [
        Panel(f"update {s.iteration}", result.spec.method, s.model_mean, s.inference_mean)
        for s in spaces.values()
    ]
    end = _final(result)
    return [*shown, Panel("best model", result.spec.method, end.model_mean, end.inference_mean)]


def tracks(groups: Mapping[str, Mapping[str, Sequence[Result]]]) -> list[Track]:
    """Every training with a recorded posterior mean space, for a player.

    Args:
        groups: data set, for readers -> method, for readers -> results, one a seed.
    """
    return [
        Track(
            group,
            method,
            result.spec.seed,
            result.arrays["grid_iteration"],
            np.stack(
                [result.arrays["grid_model_mean"], result.arrays["grid_inference_mean"]], axis=-1
            ),
        )
        for group, rows in groups.items()
        for method, runs in rows.items()
        for result in runs
        if "grid_iteration" in result.arrays
    ]


class Measures(NamedTuple):
    """What one pair of figures in the posterior mean space comes down to."""

    start_model: float  # spread (standard deviation) of model posterior means before training
    start_inference: float  # of the approximate posterior's means
    start_distance: float  # root mean square of the approximate posterior's means
    lag_model: float  # spread after 1000 updates
    lag_inference: float
    end_model: float  # spread under the best model
    end_inference: float
    end_correlation: float  # of the two means, nan where one does not vary
    end_distance: float
    kl: float  # nats per sentence, test set
    mutual_information: float  # nats, all test sentences aggregated
    active_units: float
    nll: float  # importance-weighted, nats per sentence
    aggressive_epochs: float


def _correlation(space: Space) -> float:
    spreads = (float(space.model_mean.std()), float(space.inference_mean.std()))
    if min(spreads) == 0.0:
        return float("nan")
    return float(np.corrcoef(space.model_mean, space.inference_mean)[0, 1])


def measures(result: Result) -> Measures:
    """Measure one result."""
    start, lag, end = space_at(result, 0), space_at(result, _LAG), _final(result)
    metrics = result.metrics
    return Measures(
        float(start.model_mean.std()),
        float(start.inference_mean.std()),
        float(np.sqrt(np.square(start.inference_mean).mean())),
        float(lag.model_mean.std()),
        float(lag.inference_mean.std()),
        float(end.model_mean.std()),
        float(end.inference_mean.std()),
        _correlation(end),
        float(np.sqrt(np.square(end.inference_mean).mean())),
        metrics["kl"],
        metrics["mutual_information"],
        float(metrics["active_units"]),
        metrics["nll"],
        float(result.history["aggressive"].sum()),
    )


_ROWS = {
    "spread of p(z|x) means after 1000 updates": "lag_model",
    "spread of q(z|x) means after 1000 updates": "lag_inference",
    "spread of p(z|x) means, best model": "end_model",
    "spread of q(z|x) means, best model": "end_inference",
    "correlation of the two means, best model": "end_correlation",
    "KL (nats per sentence)": "kl",
    "MI (nats)": "mutual_information",
    "active units": "active_units",
    "NLL, importance-weighted (nats per sentence)": "nll",
    "aggressive epochs": "aggressive_epochs",
}


def _columns(results: Sequence[Result]) -> dict[str, list[float]]:
    found = [measures(result) for result in results]
    return {name: [float(getattr(m, name)) for m in found] for name in Measures._fields}


def numbers(groups: dict[str, Sequence[Result]]) -> pd.DataFrame:
    """Table of measures: mean (standard deviation over seeds), one column a group of results."""
    table = {"measure": list(_ROWS)}
    for title, results in groups.items():
        columns = _columns(results)
        digits = {"end_correlation": 3, "active_units": 1, "aggressive_epochs": 1}
        table[title] = [spread(columns[name], digits.get(name, 4)) for name in _ROWS.values()]
    return pd.DataFrame(table)


def _along(told: str, values: Sequence[float]) -> Check:
    """Means lie along the diagonal; a correlation that does not exist counts as none."""
    found = correlation([0.0 if np.isnan(value) else value for value in values])
    return above(told, found, 0.9)


def four_states(basic: Result, aggressive: Result) -> list[Panel]:
    """The four corners of figure 1b, each a state that really occurred.

    Origin: before training. Horizontal axis: basic training after 1000 updates.
    Diagonal: the aggressively trained model.
    Vertical axis: the trained encoder with the decoder of before training. The approximate
    posterior depends on the encoder alone and the model posterior on the decoder alone, so this
    pair of networks needs no run of its own.
    """
    start, lag, end = space_at(aggressive, 0), space_at(basic, _LAG), _final(aggressive)
    return [
        Panel("origin: both collapsed", "origin", start.model_mean, start.inference_mean),
        Panel("inference collapse", "lag", lag.model_mean, lag.inference_mean),
        Panel("accurate inference", "diagonal", end.model_mean, end.inference_mean),
        Panel("model collapse", "model", start.model_mean, end.inference_mean),
    ]


def decide_map(basic: Sequence[Result], aggressive: Sequence[Result]) -> Finding:
    """Rule for figure 1: each state lies where the figure says."""
    slow, fast = _columns(basic), _columns(aggressive)
    checks = [
        below("origin: larger spread before training", _larger(fast), _SMALL),
        above("inference collapse: spread of p(z|x) means", slow["lag_model"], _SMALL),
        below("inference collapse: spread of q(z|x) means", slow["lag_inference"], _SMALL),
        below("model collapse: spread of p(z|x) means", fast["start_model"], _SMALL),
        above("model collapse: spread of q(z|x) means", fast["end_inference"], _LARGE),
        _along("accurate inference: correlation", fast["end_correlation"]),
    ]
    return decide("lagging-fig1", scale_of(basic), checks)


def _larger(columns: dict[str, list[float]]) -> list[float]:
    return [
        max(pair) for pair in zip(columns["start_model"], columns["start_inference"], strict=True)
    ]


def decide_mean_space(basic: Sequence[Result], aggressive: Sequence[Result]) -> Finding:
    """Rule for figure 2: lag, then collapse to the origin; and the diagonal.

    What KL, MI and active units say of the same ends are side checks.
    """
    slow, fast = _columns(basic), _columns(aggressive)
    ratio = [b / a for a, b in zip(slow["lag_model"], slow["lag_inference"], strict=True)]
    checks: list[Check] = [
        above("basic, 1000 updates: spread of p(z|x) means", slow["lag_model"], _SMALL),
        below("basic, 1000 updates: spread of q(z|x) means over that of p(z|x)", ratio, 0.05),
        least("basic, best model: spread of q(z|x) means", slow["end_inference"], _SMALL),
        least("basic, best model: spread of p(z|x) means", slow["end_model"], _SMALL),
        side(least("basic: KL (nats per sentence)", slow["kl"], 0.01)),
        side(below("basic: MI (nats)", slow["mutual_information"], 0.01)),
        side(least("basic: active units", slow["active_units"], 0.5)),
        _along("aggressive: correlation of the means", fast["end_correlation"]),
        above("aggressive: spread of q(z|x) means", fast["end_inference"], _LARGE),
        side(above("aggressive: KL (nats per sentence)", fast["kl"], 0.5)),
        side(above("aggressive: MI (nats)", fast["mutual_information"], 0.5)),
        side(above("aggressive: active units", fast["active_units"], 0.5)),
    ]
    return decide("lagging-fig2", scale_of(basic), checks)


def decide_algorithm(aggressive: Sequence[Result]) -> Finding:
    """Rule for algorithm 1: the mutual-information stop comes within five epochs."""
    epochs = _columns(aggressive)["aggressive_epochs"]
    over = sum(count > 5 for count in epochs)
    ran_on = sum(bool(r.history["aggressive"].iloc[-1]) for r in aggressive)
    runs = len(aggressive)
    checks = [
        below("share of runs with more than 5 aggressive epochs", share(over, runs), 0.5),
        below("share of runs that end while aggressive", share(ran_on, runs), 0.5),
    ]
    return decide("lagging-alg1", scale_of(aggressive), checks)


def decide_initialisation(basic: Sequence[Result], aggressive: Sequence[Result]) -> Finding:
    """Rule for figure 6: from another start the ends are the same.

    That the start is away from 0, and that nothing has spread there yet, is the set-up: premises.
    """
    slow, fast = _columns(basic), _columns(aggressive)
    checks = [
        set_up("start: distance of q(z|x) means from 0", slow["start_distance"], _SMALL, math.inf),
        set_up("start: spread of q(z|x) means", slow["start_inference"], 0.0, _SMALL),
        set_up("start: spread of p(z|x) means", slow["start_model"], 0.0, _SMALL),
        least("basic, best model: distance of q(z|x) means from 0", slow["end_distance"], _SMALL),
        least("basic: KL (nats per sentence)", slow["kl"], 0.01),
        side(least("basic: active units", slow["active_units"], 0.5)),
        _along("aggressive: correlation of the means", fast["end_correlation"]),
        side(above("aggressive: active units", fast["active_units"], 0.5)),
    ]
    return decide("lagging-fig6", scale_of(basic), checks)
