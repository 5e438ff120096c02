"""Figures of the page on codes and labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from companion.claims import evidence
from companion.claims.table import Runs, values
from companion.igp.labels import DBPEDIA, FEW, guessing, is_wanted, labelled
from companion.igp.shared import NAMES, Group, called, data_of, limited
from companion.show.figures import COLOURS
from posterior_collapse.runs.text import SHARES

_LOOKS = (
    (COLOURS["guide"], "x", ":"),
    (COLOURS["vae"], "o", "-"),
    (COLOURS["lagging"], "^", "-"),
    (COLOURS["mi"], "s", "--"),
    (COLOURS["aggregate"], "D", "--"),
)


def few_shot_figure(group: Group) -> Figure | None:
    """Accuracy against the share of labelled training sentences; a line a method."""
    some = labelled(group)
    if not some:
        return None
    figure = Figure(figsize=(4.3 * len(some) + 0.6, 3.6), layout="constrained")
    grid = figure.subplots(1, len(some), squeeze=False)[0]
    every = dict.fromkeys(method for runs in some.values() for method in runs if is_wanted(method))
    looks = dict(zip(every, _LOOKS, strict=False))
    for axes, (recipe, runs) in zip(grid, some.items(), strict=True):
        data = data_of(runs)
        for method, (colour, marker, line) in looks.items():
            if method not in runs:
                continue
            means = [float(np.mean(values(data, method, one.metric))) for one in FEW]
            axes.plot(
                [100.0 * share for share in SHARES],
                means,
                color=colour,
                marker=marker,
                linestyle=line,
                markersize=5,
                label=called(method),
            )
        if (guess := guessing(runs)) is not None:
            axes.axhline(guess, color=COLOURS["kl"], linestyle=(0, (1, 3)), label="guessing")
        axes.set(xscale="log", title=NAMES[recipe], xlabel="labelled training sentences, %")
        axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    grid[0].set_ylabel("test accuracy, %")
    lines = {str(line.get_label()): line for axes in grid for line in axes.lines}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=3, fontsize=8)
    return figure


_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


_MARKERS = ("o", "^")


def _mapped(runs: Runs) -> list[str]:
    """Methods with a map of their codes: a constant code has none."""
    return [m for m, group in runs.items() if is_wanted(m) and "tsne" in group[0].arrays]


def plane_figure(group: Group) -> Figure | None:
    """t-SNE of posterior means by class, a panel a method; first seed of the first data set."""
    for recipe, runs in limited(group, DBPEDIA).items():
        if chosen := _mapped(runs):
            return _planes(recipe, runs, chosen)
    return None


def _planes(recipe: str, runs: Runs, chosen: Sequence[str]) -> Figure:
    lines = -(-len(chosen) // 3)
    figure = Figure(figsize=(7.4, 2.6 * lines + 0.2), layout="constrained")
    grid = figure.subplots(lines, 3, squeeze=False).ravel()
    for axes in grid[len(chosen) :]:
        axes.set_axis_off()
    for axes, method in zip(grid, chosen, strict=False):
        points = evidence.array(runs[method][0], "tsne")
        labels = evidence.array(runs[method][0], "tsne_label")
        for place, label in enumerate(np.unique(labels)):
            own = points[labels == label]
            axes.scatter(
                own[:, 0],
                own[:, 1],
                s=7,
                color=_COLOURS[place % len(_COLOURS)],
                marker=_MARKERS[place // len(_COLOURS) % len(_MARKERS)],
                alpha=0.7,
                linewidths=0,
            )
        axes.set_title(f"{NAMES[recipe]}: {called(method)}", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure
