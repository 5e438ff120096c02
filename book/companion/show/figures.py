"""Figures: functions from arrays to matplotlib figures.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers, and every series
differs in marker or line style as well.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "COLOURS",
    "Panel",
    "bias_figure",
    "decomposition_figure",
    "gap_figure",
    "information_figure",
    "map_figure",
    "mean_space_figure",
    "cost_figure",
    "heat_figure",
    "plane_figure",
    "png",
    "trajectory_figure",
]

COLOURS = {
    "vae": "#0072B2",
    "lagging": "#D55E00",
    "kl": "#000000",
    "mi": "#009E73",
    "aggregate": "#CC79A7",
    "guide": "#777777",
    "accent": "#E69F00",
    "sky": "#56B4E9",
}
_MARKERS = {"vae": "o", "lagging": "^"}
_LABELS = {"vae": "basic", "lagging": "aggressive"}


@dataclass(frozen=True)
class Panel:
    """One posterior mean space: B points, and what is written above them."""

    title: str
    method: str  # decides colour and marker
    model_mean: NDArray[np.floating]  # (B,), of p(z|x)
    inference_mean: NDArray[np.floating]  # (B,), of q(z|x)


def _figure(columns: int, rows: int, width: float = 2.5, height: float = 2.5) -> Figure:
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file of 256 colours, a third as large as one of all colours."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    picture = Image.open(buffer).convert("RGB")
    few = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _space(axes: Axes, limit: float) -> None:
    """Axes of the posterior mean space, with the diagonal on which inference is exact."""
    axes.axhline(0.0, color=COLOURS["guide"], linewidth=0.5)
    axes.axvline(0.0, color=COLOURS["guide"], linewidth=0.5)
    axes.plot([-limit, limit], [-limit, limit], "--", color=COLOURS["guide"], linewidth=1)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")


def _scatter(axes: Axes, panel: Panel) -> None:
    axes.scatter(
        panel.model_mean,
        panel.inference_mean,
        s=7,
        alpha=0.45,
        linewidths=0,
        color=COLOURS.get(panel.method, COLOURS["accent"]),
        marker=_MARKERS.get(panel.method, "s"),
    )
    axes.set_title(panel.title, fontsize=9)


def mean_space_figure(rows: Sequence[Sequence[Panel]], limit: float = 3.0) -> Figure:
    """Rows of posterior mean spaces on common axes (He et al. 2019, figures 2 and 6).

    Points outside the common axes are drawn on their border, so that none goes missing.

    Args:
        rows: one a method; panels in the order of training.
        limit: the axes run from -limit to limit.
    """
    figure = _figure(max(len(row) for row in rows), len(rows))
    grid = figure.subplots(len(rows), max(len(row) for row in rows), squeeze=False)
    for line, row in zip(grid, rows, strict=True):
        for axes, panel in zip(line, row, strict=False):
            _space(axes, limit)
            inside = Panel(
                panel.title,
                panel.method,
                np.clip(panel.model_mean, -limit, limit),
                np.clip(panel.inference_mean, -limit, limit),
            )
            _scatter(axes, inside)
        for axes in line[len(row) :]:
            axes.set_axis_off()
        line[0].set_ylabel("mean of q(z|x)")
    for axes in grid[-1]:
        axes.set_xlabel("mean of p(z|x)")
    return figure


def map_figure(panels: Sequence[Panel], limit: float = 3.0) -> Figure:
    """Where the four states of collapse lie in the posterior mean space (figure 1b)."""
    figure = _figure(1, 1, 4.6, 4.6)
    axes = figure.subplots()
    _space(axes, limit)
    names = ["sky", "accent", "mi", "aggregate"]
    markers = ["o", "^", "s", "D"]
    for panel, colour, marker in zip(panels, names, markers, strict=True):
        axes.scatter(
            panel.model_mean,
            panel.inference_mean,
            s=14,
            alpha=0.6,
            linewidths=0,
            color=COLOURS[colour],
            marker=marker,
            label=panel.title,
        )
    axes.legend(loc="upper left", fontsize=8)
    axes.set(xlabel="mean of the model posterior p(z|x)", ylabel="mean of q(z|x)")
    return figure


def trajectory_figure(
    model_mean: NDArray[np.floating],
    inference_mean: NDArray[np.floating],
    inner: NDArray[np.bool_],
    titles: Sequence[str],
) -> Figure:
    """Moves of single instances in the posterior mean space (figure 3).

    Args:
        model_mean: (K, P), K recorded moments of P instances.
        inference_mean: (K, P).
        inner: (K,), whether the moment follows an inner loop of encoder updates.
        titles: P of them.
    """
    figure = _figure(len(titles), 1, 3.0, 3.0)
    for column, axes in enumerate(figure.subplots(1, len(titles), squeeze=False)[0]):
        x, y = model_mean[:, column], inference_mean[:, column]
        limit = 1.1 * max(*(float(np.nan_to_num(np.abs(means)).max()) for means in (x, y)), 1e-3)
        _space(axes, limit)
        for k in range(1, len(x)):
            colour = COLOURS["lagging"] if inner[k] else COLOURS["vae"]
            axes.plot(x[k - 1 : k + 1], y[k - 1 : k + 1], color=colour, linewidth=1.1)
        axes.plot(x[0], y[0], "o", color="black", markersize=4)
        axes.plot(x[-1], y[-1], "*", color="black", markersize=9)
        axes.set_title(titles[column], fontsize=9)
        axes.set_xlabel("mean of p(z|x)")
    figure.axes[0].set_ylabel("mean of q(z|x)")
    figure.axes[0].plot([], [], color=COLOURS["lagging"], label="inner loop (encoder)")
    figure.axes[0].plot([], [], color=COLOURS["vae"], label="outer step")
    figure.axes[0].legend(fontsize=7, loc="upper left")
    return figure


def decomposition_figure(histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """KL = MI + KL(q(z) || p) over training, one column a method, one thin line a seed.

    Args:
        histories: method -> histories of its seeds, with the columns of a run's history.
    """
    figure = _figure(len(histories), 1, 4.2, 3.0)
    lines = {
        "KL": ("kl", "-", lambda h: h["valid_kl"]),
        "MI": ("mi", "--", lambda h: h["valid_mutual_information"]),
        "KL(q(z)||p)": (
            "aggregate",
            ":",
            lambda h: h["valid_kl"] - h["valid_mutual_information"],
        ),
    }
    grid = figure.subplots(1, len(histories), squeeze=False, sharey=True)[0]
    for axes, (method, runs) in zip(grid, histories.items(), strict=True):
        for label, (colour, style, value) in lines.items():
            for number, history in enumerate(runs):
                axes.plot(
                    history["epoch"],
                    value(history),
                    style,
                    color=COLOURS[colour],
                    alpha=0.75,
                    label=label if number == 0 else None,
                )
        axes.set(title=_LABELS.get(method, method), xlabel="epoch")
        axes.legend(fontsize=8)
    grid[0].set_ylabel("nats per sentence")
    return figure


def gap_figure(
    z: NDArray[np.floating],
    model: NDArray[np.floating],
    approximate: NDArray[np.floating],
    titles: Sequence[str],
) -> Figure:
    """Densities of p(z|x) and q(z|x) of single sentences, which the ELBO's gap compares.

    Args:
        z: (G,), grid.
        model: (G, P), density of the model posterior of P sentences.
        approximate: (G, P), density of the approximate posterior.
        titles: P of them.
    """
    figure = _figure(len(titles), 1, 3.2, 2.6)
    for column, axes in enumerate(figure.subplots(1, len(titles), squeeze=False)[0]):
        axes.plot(z, model[:, column], color=COLOURS["vae"], label="p(z|x), grid")
        axes.plot(z, approximate[:, column], "--", color=COLOURS["lagging"], label="q(z|x)")
        axes.set_title(titles[column], fontsize=9)
        axes.set_xlabel("z")
    figure.axes[0].set_ylabel("density")
    figure.axes[0].legend(fontsize=7)
    return figure


def bias_figure(
    sizes: Sequence[int],
    estimate: NDArray[np.floating],
    error: NDArray[np.floating],
    exact: float,
) -> Figure:
    """Mini-batch mutual information against the number S of points aggregated.

    Args:
        sizes: values of S.
        estimate: (len(sizes),), nats.
        error: (len(sizes),), standard errors.
        exact: the value with all points aggregated, nats.
    """
    figure = _figure(1, 1, 5.2, 3.2)
    axes = figure.subplots()
    axes.errorbar(
        sizes, estimate, 2 * error, marker="o", color=COLOURS["mi"], label="estimate, 2 std. errors"
    )
    axes.plot(sizes, np.log(sizes), ":", color=COLOURS["guide"], label="ceiling log S")
    axes.axhline(exact, linestyle="--", color=COLOURS["kl"], label="all points aggregated")
    axes.set(xscale="log", xlabel="points aggregated, S", ylabel="mutual information (nats)")
    axes.set_ylim(0, max(float(np.max(estimate)), exact) * 1.35 + 0.1)
    axes.legend(fontsize=8)
    return figure


def information_figure(histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Validation mutual information by epoch; filled markers are aggressive epochs.

    Args:
        histories: method -> histories of its seeds.
    """
    figure = _figure(1, 1, 5.2, 3.2)
    axes = figure.subplots()
    for method, runs in histories.items():
        for number, history in enumerate(runs):
            colour = COLOURS.get(method, COLOURS["accent"])
            values = history["valid_mutual_information"]
            label = _LABELS.get(method, method) if number == 0 else None
            axes.plot(history["epoch"], values, color=colour, linewidth=1, alpha=0.7, label=label)
            busy = history["aggressive"].astype(bool)
            axes.plot(history["epoch"][busy], values[busy], "o", color=colour, markersize=4)
    axes.set(xlabel="epoch", ylabel="mutual information (nats)")
    axes.legend(fontsize=8)
    return figure


_CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHAPES = "o^svDPX*<>"


def plane_figure(
    groups: Mapping[str, Sequence[tuple[str, float, float]]], x: str, y: str
) -> Figure:
    """Runs in a plane, one panel a group and one point a seed.

    Args:
        groups: title -> (method, x, y) of every run.
        x, y: names of the axes, with units.
    """
    figure = _figure(len(groups), 1, 4.6, 3.8)
    names = list(dict.fromkeys(name for points in groups.values() for name, _, _ in points))
    grid = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, (title, points) in zip(grid, groups.items(), strict=True):
        for name in dict.fromkeys(name for name, _, _ in points):
            place = names.index(name)
            own = [(a, b) for method, a, b in points if method == name]
            axes.plot(
                *zip(*own, strict=True),
                _SHAPES[place % len(_SHAPES)],
                color=_CYCLE[place % len(_CYCLE)],
                markersize=6,
                alpha=0.8,
                label=name,
            )
        axes.set(title=title, xlabel=x)
    grid[0].set_ylabel(y)
    handles = {h.get_label(): h for axes in grid for h in axes.lines}
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="outside lower center",
        ncols=2 if len(groups) == 1 else 3,
        fontsize=7,
    )
    return figure


def heat_figure(
    rows: Sequence[float],
    columns: Sequence[float],
    values: NDArray[np.floating],
    names: tuple[str, str, str],
) -> Figure:
    """A sweep over two parameters; the number stands in each cell, lighter is lower.

    Args:
        rows, columns: values of the parameters.
        values: (rows, columns); nan is left empty.
        names: of the row parameter, the column parameter and the values, with units.
    """
    figure = _figure(1, 1, 1.4 + 1.1 * len(columns), 1.2 + 0.75 * len(rows))
    axes = figure.subplots()
    image = axes.imshow(values, cmap="cividis_r", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value > middle else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
    axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
    axes.set(ylabel=names[0], xlabel=names[1])
    figure.colorbar(image, label=names[2])
    return figure


def cost_figure(ratios: Mapping[str, Sequence[float]]) -> Figure:
    """Training time over the VAE's, one bar a method, on a logarithmic axis."""
    figure = _figure(1, 1, 6.5, 0.6 + 0.26 * len(ratios))
    axes = figure.subplots()
    means = {name: float(np.mean(values)) for name, values in ratios.items()}
    order = sorted(means, key=lambda name: -means[name])
    axes.barh(order, [means[name] for name in order], color=COLOURS["sky"], edgecolor="black")
    for place, name in enumerate(order):
        seeds = list(ratios[name])
        axes.plot(seeds, [place] * len(seeds), "o", color=COLOURS["kl"], markersize=3)
    axes.axvline(1.0, linestyle="--", color=COLOURS["guide"])
    axes.set(xscale="log", xlabel="training time over the VAE's")
    axes.tick_params(axis="y", labelsize=7)
    return figure
