"""What the pages on Lagging Inference Networks ask of results: panels, measures and rules.

Every function takes results, so that reference results and this build's go the same way.
The bounds in the rules are this project's reading of the paper's words; they are stated beside
each verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from companion.claims.reference import Result
from companion.claims.verdicts import Check, Finding, above, below, correlation, decide, share, side
from companion.lagging.shared import least, scale_of, set_up
from companion.numbers import spread
from companion.show.figures import Panel
from companion.show.players import Track, examples
from posterior_collapse.errors import BadInput

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
    place = max(int(np.searchsorted(recorded, iteration, side="right")) - 1, 0)
    means = (result.arrays[f"grid_{name}_mean"][place] for name in ("model", "inference"))
    return Space(int(recorded[place]), *means)


def _final(result: Result) -> Space:
    """The space under the best model."""
    means = (result.arrays[f"final_{name}_mean"] for name in ("model", "inference"))
    return Space(int(result.metrics["updates"]), *means)


def panels(result: Result, iterations: Sequence[int]) -> list[Panel]:
    """Panels at the wanted updates, without repeats, and the best model at the end."""
    spaces = {(s := space_at(result, n)).iteration: s for n in iterations}
    named = {f"update {place}": space for place, space in spaces.items()}
    named["best model"] = _final(result)
    return [Panel(title, result.spec.method, *space[1:]) for title, space in named.items()]


def tracks(groups: Mapping[str, Mapping[str, Sequence[Result]]]) -> list[Track]:
    """Every training with a recorded posterior mean space, for a player.

    Args:
        groups: data set, for readers -> method, for readers -> results, one per seed.
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
            examples=examples(result.spec),
        )
        for group, rows in groups.items()
        for method, runs in rows.items()
        for result in runs
        if "grid_iteration" in result.arrays
    ]


def _correlation(space: Space) -> float:
    """Of the two means; NaN where one does not vary."""
    spreads = (float(space.model_mean.std()), float(space.inference_mean.std()))
    if min(spreads) == 0.0:
        return float("nan")
    return float(np.corrcoef(space.model_mean, space.inference_mean)[0, 1])


def _distance(space: Space) -> float:
    """Root mean square of the approximate posterior's means."""
    return float(np.sqrt(np.square(space.inference_mean).mean()))


def _of(place: Callable[[Result], Space], mean: str) -> Callable[[Result], float]:
    """The spread, that is the standard deviation, of one of the two means."""
    return lambda result: float(getattr(place(result), mean).std())


def _stored(name: str) -> Callable[[Result], float]:
    return lambda result: float(result.metrics[name])


def _start(result: Result) -> Space:
    return space_at(result, 0)


def _lag(result: Result) -> Space:
    return space_at(result, _LAG)


# Measures of one result, what a table says of them ("" where it has none) and with what digits.
_MEASURES: dict[str, tuple[Callable[[Result], float], str, int]] = {
    "start_model": (_of(_start, "model_mean"), "", 4),
    "start_inference": (_of(_start, "inference_mean"), "", 4),
    "start_distance": (lambda r: _distance(_start(r)), "", 4),
    "lag_model": (_of(_lag, "model_mean"), "spread of p(z|x) means after 1000 updates", 4),
    "lag_inference": (_of(_lag, "inference_mean"), "spread of q(z|x) means after 1000 updates", 4),
    "end_model": (_of(_final, "model_mean"), "spread of p(z|x) means, best model", 4),
    "end_inference": (_of(_final, "inference_mean"), "spread of q(z|x) means, best model", 4),
    "end_correlation": (
        lambda r: _correlation(_final(r)),
        "correlation of the two means, best model",
        3,
    ),
    "end_distance": (lambda r: _distance(_final(r)), "", 4),
    "kl": (_stored("kl"), "KL (nats per sentence)", 4),
    "mutual_information": (_stored("mutual_information"), "MI (nats)", 4),
    "active_units": (_stored("active_units"), "active units", 1),
    "nll": (_stored("nll"), "NLL, importance-weighted (nats per sentence)", 4),
    "aggressive_epochs": (lambda r: float(r.history["aggressive"].sum()), "aggressive epochs", 1),
}


def measure(result: Result, name: str) -> float:
    """One measure of a result, such as ``"end_distance"``."""
    return _MEASURES[name][0](result)


def _columns(results: Sequence[Result]) -> dict[str, list[float]]:
    """Every measure, one value per seed."""
    return {name: [of(r) for r in results] for name, (of, *_) in _MEASURES.items()}


def numbers(groups: dict[str, Sequence[Result]]) -> pd.DataFrame:
    """Table of measures: mean (standard deviation over seeds), one column a group of results."""
    rows = {name: (title, digits) for name, (_, title, digits) in _MEASURES.items() if title}
    table = {"measure": [title for title, _ in rows.values()]}
    for group, results in groups.items():
        columns = _columns(results)
        table[group] = [spread(columns[name], digits) for name, (_, digits) in rows.items()]
    return pd.DataFrame(table)


def _along(quantity: str, values: Sequence[float]) -> Check:
    """Means lie along the diagonal; a correlation that does not exist counts as none."""
    return above(quantity, correlation([0.0 if np.isnan(v) else v for v in values]), 0.9)


def four_states(basic: Result, aggressive: Result) -> list[Panel]:
    """The four corners of figure 1b, each a state that really occurred.

    Origin: before training. Horizontal axis: basic training after 1000 updates.
    Diagonal: the aggressively trained model.
    Vertical axis: the trained encoder with the decoder of before training. The approximate
    posterior depends on the encoder alone and the model posterior on the decoder alone, so this
    pair of networks needs no run of its own.
    """
    start, lag, end = space_at(aggressive, 0), space_at(basic, _LAG), _final(aggressive)
    means = {
        "origin: both collapsed": ("origin", *start[1:]),
        "inference collapse": ("lag", *lag[1:]),
        "accurate inference": ("diagonal", *end[1:]),
        "model collapse": ("model", start.model_mean, end.inference_mean),
    }
    return [Panel(title, *own) for title, own in means.items()]


def decide_map(basic: Sequence[Result], aggressive: Sequence[Result]) -> Finding:
    """Rule for figure 1: each state lies where the figure says."""
    slow, fast = _columns(basic), _columns(aggressive)
    larger = list(map(max, fast["start_model"], fast["start_inference"]))
    checks = [
        below("origin: larger spread before training", larger, _SMALL),
        above("inference collapse: spread of p(z|x) means", slow["lag_model"], _SMALL),
        below("inference collapse: spread of q(z|x) means", slow["lag_inference"], _SMALL),
        below("model collapse: spread of p(z|x) means", fast["start_model"], _SMALL),
        above("model collapse: spread of q(z|x) means", fast["end_inference"], _LARGE),
        _along("accurate inference: correlation", fast["end_correlation"]),
    ]
    return decide("lagging-fig1", scale_of(basic), checks)


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
