"""Figures of the page on codes and labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from companion.claims.table import values
from companion.igp.labels import DBPEDIA, FEW, guessing, is_wanted, labelled
from companion.igp.shared import NAMES, Group, called, data_of, limited
from companion.show.figures import COLOURS, CYCLE, canvas, legend
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
    figure, grid = canvas(4.3 * len(some) + 0.6, 3.6, len(some), squeeze=False)
    every = dict.fromkeys(method for runs in some.values() for method in runs if is_wanted(method))
    looks = dict(zip(every, _LOOKS, strict=False))
    for axes, (recipe, runs) in zip(grid[0], some.items(), strict=True):
        data, shares = data_of(runs), [100.0 * share for share in SHARES]
        for method, (colour, marker, line) in looks.items():
            if method in runs:
                means = [float(np.mean(values(data, method, one.metric))) for one in FEW]
                look = {"color": colour, "marker": marker, "linestyle": line, "markersize": 5}
                axes.plot(shares, means, label=called(method), **look)
        if (guess := guessing(runs)) is not None:
            axes.axhline(guess, color=COLOURS["kl"], linestyle=(0, (1, 3)), label="guessing")
        axes.set(xscale="log", title=NAMES[recipe], xlabel="labelled training sentences, %")
        axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    grid[0, 0].set_ylabel("test accuracy, %")
    legend(figure, 3)
    return figure


def plane_figure(group: Group) -> Figure | None:
    """t-SNE of posterior means by class, a panel a method; first seed of the first data set.

    A method whose code is constant has no map.
    """
    for recipe, runs in limited(group, DBPEDIA).items():
        mapped = {m: own[0].arrays for m, own in runs.items() if is_wanted(m)}
        chosen = {m: arrays for m, arrays in mapped.items() if "tsne" in arrays}
        if chosen:
            return _planes(NAMES[recipe], chosen)
    return None


def _planes(data: str, chosen: Mapping[str, Mapping[str, NDArray[Any]]]) -> Figure:
    lines = -(-len(chosen) // 3)
    figure, grid = canvas(7.4, 2.6 * lines + 0.2, 3, lines, squeeze=False)
    for axes in grid.ravel()[len(chosen) :]:
        axes.set_axis_off()
    for axes, (method, arrays) in zip(grid.ravel(), chosen.items(), strict=False):
        for place, label in enumerate(np.unique(arrays["tsne_label"])):
            own = arrays["tsne"][arrays["tsne_label"] == label]
            colour, marker = CYCLE[place % len(CYCLE)], "o^"[place // len(CYCLE) % 2]
            axes.scatter(*own.T, s=7, color=colour, marker=marker, alpha=0.7, linewidths=0)
        axes.set_title(f"{data}: {called(method)}", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure
