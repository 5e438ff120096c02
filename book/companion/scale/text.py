"""Scale-VAE on trained models: its factor while it trains, and one model under three measures.

A method's results are grouped by a title, as the pages that compare methods have them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from companion.claims import groups as benchmarks
from companion.claims.reference import Result
from companion.numbers import number, spread
from companion.show.figures import COLOURS
from posterior_collapse import methods

__all__ = [
    "MEASURES",
    "Measure",
    "balance",
    "course",
    "course_figure",
    "measures",
    "recorded",
    "reproduced",
    "switch",
    "switch_table",
]

Groups = Mapping[str, Mapping[str, Sequence[Result]]]  # title -> method -> its results

_HEADS = ("factor_mean", "factor_largest", "own_factors", "batch_std")


class Measure(NamedTuple):
    """One way to measure a Scale-VAE: names of its metrics."""

    title: str
    valid: str
    kl: str
    loss: str
    nll: str


MEASURES = (
    Measure(
        "as printed: weights from q and N(0, I), decoded at q̂",
        "no bound",
        "scaled_trained_kl",
        "scaled_trained_loss",
        "scaled_printed_nll",
    ),
    Measure("all from q̂, prior N(0, f²)", "valid", "kl", "elbo_loss", "nll"),
    Measure(
        "all from q̂, prior N(0, I)",
        "valid",
        "scaled_unit_kl",
        "scaled_unit_elbo_loss",
        "scaled_unit_nll",
    ),
)


def _values(group: Sequence[Result], name: str) -> list[float]:
    """A metric of the seeds that have it."""
    return [float(r.metrics[name]) for r in group if r.metrics.get(name) is not None]


def _less(group: Sequence[Result], name: str, other: Sequence[Result]) -> list[float]:
    """A metric less the other method's NLL, seed by seed."""
    theirs = {r.spec.seed: r.metrics.get("nll") for r in other}
    return [
        float(r.metrics[name]) - float(theirs[r.spec.seed])  # type: ignore[arg-type]
        for r in group
        if r.metrics.get(name) is not None and theirs.get(r.spec.seed) is not None
    ]


# --- one model, three measures --------------------------------------------------------------------


def measures(groups: Groups, method: str = benchmarks.SCALE) -> pd.DataFrame:
    """The same model under each measure, one row a measure and group; nats.

    The last column compares each NLL with that of the annealed VAE, which is a valid one.
    """
    rows = []
    for title, found in groups.items():
        group = found.get(method, ())
        for way in MEASURES if group else ():
            less = _less(group, way.nll, found.get(benchmarks.ANNEAL, ()))
            rows.append(
                {
                    "data": title,
                    "measure": way.title,
                    "bound": way.valid,
                    "KL": spread(_values(group, way.kl), 2),
                    "loss": spread(_values(group, way.loss), 2),
                    "NLL": spread(_values(group, way.nll), 2),
                    "NLL less annealed VAE’s": spread(less, 2),
                }
            )
    return pd.DataFrame(rows)


# --- how the factor went --------------------------------------------------------------------------


class Switch(NamedTuple):
    """A run at its last epoch whose batches had their own factors, and at its end."""

    update: int  # after which the factor is shared
    factor_mean: float  # of the average that is shared next
    factor_largest: float
    information: float  # on the validation set, nats
    last_mean: float  # factor of the last epoch
    last_largest: float
    last_spread: float  # of the scaled means within training's batches, last epoch
    last_information: float


def recorded(result: Result) -> bool:
    """Whether a run's history tells its factors."""
    return set(_HEADS) <= set(result.history.columns)


def switch(history: pd.DataFrame) -> Switch | None:
    """Where a run turned to a shared factor; None where it never did.

    A run may have gone back to an older epoch's parameters when its learning rate fell; the first
    turn counts.
    """
    own = history["own_factors"].to_numpy(dtype=float) > 0.5
    if own.all() or not own[0]:
        return None
    last_own, last = history.iloc[int(np.argmin(own)) - 1], history.iloc[-1]
    return Switch(
        int(last_own["iteration"]),
        float(last_own["factor_mean"]),
        float(last_own["factor_largest"]),
        float(last_own["valid_mutual_information"]),
        float(last["factor_mean"]),
        float(last["factor_largest"]),
        float(last["batch_std"]),
        float(last["valid_mutual_information"]),
    )


def _over(known: Sequence[Switch], name: str, digits: int) -> str:
    return spread([float(getattr(one, name)) for one in known], digits)


def switch_table(groups: Groups, wanted: Sequence[str] = (benchmarks.SCALE,)) -> pd.DataFrame:
    """Factor and MI at the switch, in the last epoch and in the kept one; one row a method."""
    rows = []
    for title, found in groups.items():
        for method in wanted:
            group = [r for r in found.get(method, ()) if recorded(r)]
            known = [s for s in (switch(r.history) for r in group) if s is not None]
            if not group:
                continue
            rows.append(
                {
                    "data": title,
                    "method": methods.title(method),
                    "switched": f"{len(known)} of {len(group)}",
                    "updates": _over(known, "update", 0),
                    "f there, mean": _over(known, "factor_mean", 1),
                    "MI there": _over(known, "information", 2),
                    "f in the last epoch, mean": _over(known, "last_mean", 1),
                    "spread there": _over(known, "last_spread", 2),
                    "largest f kept": spread(_values(group, "scaled_largest_factor"), 1),
                    "AU kept": spread(_values(group, "active_units"), 1),
                }
            )
    return pd.DataFrame(rows)


class _Line(NamedTuple):
    """A column of the history over updates."""

    column: str
    colour: str
    style: str
    label: str


_PANELS: dict[str, tuple[_Line, ...]] = {
    "scale-up factor f": (
        _Line("factor_mean", COLOURS["vae"], "-", "mean over dimensions"),
        _Line("factor_largest", COLOURS["lagging"], "--", "largest"),
    ),
    "spread of f μ\nwithin batches": (_Line("batch_std", COLOURS["aggregate"], "-", "training"),),
    "nats": (
        _Line("valid_mutual_information", COLOURS["mi"], "-", "MI of what is decoded"),
        _Line("valid_kl", COLOURS["kl"], "--", "KL that is trained"),
    ),
}


def course(results: Sequence[Result]) -> list[pd.DataFrame]:
    """Histories of the runs that tell their factors."""
    return [r.history for r in results if recorded(r)]


def _panel(axes: Axes, histories: Sequence[pd.DataFrame], lines: Sequence[_Line]) -> None:
    for line in lines:
        for place, history in enumerate(histories):
            axes.plot(
                history["iteration"],
                history[line.column],
                line.style,
                color=line.colour,
                linewidth=1.2,
                alpha=0.8,
                label=line.label if place == 0 else None,
            )
    for history in histories:
        turn = switch(history)
        if turn is not None:
            axes.axvline(turn.update, color=COLOURS["guide"], linestyle=":", linewidth=1)
    axes.legend(fontsize=7)


def course_figure(groups: Groups, method: str = benchmarks.SCALE) -> Figure | None:
    """Factor, spread and MI over updates, one column a group and one line a seed.

    A dotted line marks where the factor is shared from, and a grey one the spread asked for.
    None where no run tells its factors.
    """
    shown = {title: course(found.get(method, ())) for title, found in groups.items()}
    shown = {title: histories for title, histories in shown.items() if histories}
    if not shown:
        return None
    figure = Figure(figsize=(4.4 * len(shown) + 0.4, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(_PANELS), len(shown), squeeze=False, sharex="col", sharey="row")
    for column, (title, histories) in enumerate(shown.items()):
        grid[0][column].set_title(title, fontsize=9)
        for row, (name, lines) in enumerate(_PANELS.items()):
            _panel(grid[row][column], histories, lines)
            if column == 0:
                grid[row][column].set_ylabel(name)
        grid[0][column].set_yscale("log")
        wanted = methods.parameters(method)["des_std"]
        grid[1][column].axhline(wanted, color=COLOURS["guide"], linewidth=0.8)
        grid[1][column].set_ylim(bottom=0.0)
        grid[-1][column].set_xlabel("updates")
    return figure


# --- theory on trained runs -----------------------------------------------------------------------


def balance(groups: Groups, wanted: Sequence[str] = (benchmarks.SCALE,)) -> pd.DataFrame:
    """What the means cost and gain in trained models (theory, S9 and S10); one row a seed."""
    rows = []
    for title, found in groups.items():
        for method in wanted:
            for result in found.get(method, ()):
                known = result.metrics
                if known.get("scaled_means_price") is None:
                    continue
                rows.append(
                    {
                        "data": title,
                        "method": methods.title(method),
                        "seed": str(result.spec.seed),
                        "Σ ρ²": number(float(known["scaled_means_price"]), 2),
                        "dR / d log s": number(float(known["scaled_means_gain"]), 2),
                        "E(μ² + σ²)": number(float(known["scaled_second_moment"]), 3),
                    }
                )
    return pd.DataFrame(rows)


# --- what is reproduced ---------------------------------------------------------------------------


def _more(values: Sequence[float]) -> str:
    """The mean difference in words; its standard deviation over seeds where there are several."""
    mean = float(np.mean(values))
    told = f"{number(abs(mean), 2)} nats {'above' if mean > 0 else 'below'}"
    if len(values) == 1:
        return f"{told} (one seed)"
    return f"{told} (standard deviation {number(float(np.std(values, ddof=1)), 2)})"


def _beside(found: Mapping[str, Sequence[Result]]) -> list[str]:
    """What a group's numbers say beside BN-VAE and the annealed VAE."""
    group, told = found[benchmarks.SCALE], []
    information = {r.spec.seed: r.metrics["mutual_information"] for r in group}
    theirs = {
        r.spec.seed: r.metrics["mutual_information"] for r in found.get(benchmarks.BATCH_NORM, ())
    }
    both = sorted(set(information) & set(theirs))
    if both:
        told.append(f"MI is {_more([information[s] - theirs[s] for s in both])} BN-VAE’s")
    for name, words in (("scaled_printed_nll", "as printed"), ("nll", "valid under N(0, f²)")):
        less = _less(group, name, found.get(benchmarks.ANNEAL, ()))
        if less:
            told.append(f"the NLL {words} is {_more(less)} the annealed VAE’s")
    return told


def _own(group: Sequence[Result]) -> list[str]:
    """What a group's numbers say of Scale-VAE alone."""
    told = []
    codes = {int(r.metrics["n_sentences"]) for r in group if r.metrics.get("n_sentences")}
    information = _values(group, "mutual_information")
    if information:
        cap = f" of at most {number(math.log(min(codes)), 1)}" if codes else ""
        told.append(f"MI is {spread(information, 2)} nats{cap}")
    units = _values(group, "active_units")
    if units:
        told.append(f"{spread(units, 1)} units are active")
    paid, means = _values(group, "scaled_trained_kl"), _values(group, "scaled_mean_squares")
    if paid:
        told.append(f"the KL that is trained is {spread(paid, 2)} nats")
    if paid and len(means) == len(paid):
        shares = [50.0 * m / kl for m, kl in zip(means, paid, strict=True)]
        told.append(f"of which {spread(shares, 0)} percent are the means’ ½ Σ μ²")
    largest = _values(group, "scaled_largest_factor")
    if largest:
        told.append(f"the largest factor is {spread(largest, 1)}")
    return told


def reproduced(groups: Groups) -> Markdown:
    """What the runs at hand show of the paper's picture, in sentences made of their numbers."""
    lines = []
    for title, found in groups.items():
        group = found.get(benchmarks.SCALE, ())
        if group:
            told = "; ".join([*_own(group), *_beside(found)])
            lines.append(f"- **{title}**: {told}.")
    return Markdown("\n".join(lines) if lines else "No run of Scale-VAE is at hand.")
