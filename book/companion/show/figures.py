"""Figures: functions from arrays to matplotlib figures.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers, and every series
differs in marker or line style as well.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from PIL import Image

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


class Panel(NamedTuple):
    """One posterior mean space: B points, and what is written above them."""

    title: str
    method: str  # decides colour and marker
    model_mean: NDArray[np.floating]  # (B,), of p(z|x)
    inference_mean: NDArray[np.floating]  # (B,), of q(z|x)


def canvas(
    width: float, height: float, columns: int = 1, rows: int = 1, **options: Any
) -> tuple[Any, Any]:
    """An empty figure, inches, and its axes: one, or an array; options as for ``subplots``."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)


def row(panels: int, width: float, height: float, **options: Any) -> tuple[Any, Any]:
    """As :func:`canvas`: panels of this size side by side, and an array of their axes."""
    figure, grid = canvas(width * panels, height, panels, squeeze=False, **options)
    return figure, grid[0]


def legend(figure: Figure, columns: int, size: int = 8) -> None:
    """One legend below all panels, a line a label; labels with an underscore are matplotlib's."""
    lines = {str(line.get_label()): line for axes in figure.axes for line in axes.lines}
    known = {name: line for name, line in lines.items() if not name.startswith("_")}
    look: dict[str, Any] = {"ncols": columns, "fontsize": size}
    figure.legend(known.values(), known, loc="outside lower center", **look)


def has_shades(figure: Figure) -> bool:
    """Whether it holds images or filled contours, whose light and dark say something."""
    parts = [part for axes in figure.axes for part in (*axes.images, *axes.collections)]
    return any(isinstance(part, AxesImage | ContourSet) for part in parts)


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file of 256 colours, a third as large as one of all colours."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    picture = Image.open(buffer).convert("RGB")
    few = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def first_panel(figure: Figure) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what a small picture shows, as shares of a drawn figure.

    One of a few panels beside each other, with its labels; otherwise the whole.
    """
    panel = figure.axes[0].get_tightbbox() if figure.axes else None
    box = panel and panel.transformed(figure.transFigure.inverted())
    if box is None or not 0.2 < box.width < 0.7:
        return 0.0, 0.0, 1.0, 1.0
    return max(0.0, box.x0), max(0.0, 1.0 - box.y1), box.x1, 1.0 - box.y0


def _space(axes: Axes, limit: float) -> None:
    """Axes of the posterior mean space, with the diagonal on which inference is exact."""
    axes.axhline(0.0, color=COLOURS["guide"], linewidth=0.5)
    axes.axvline(0.0, color=COLOURS["guide"], linewidth=0.5)
    axes.plot([-limit, limit], [-limit, limit], "--", color=COLOURS["guide"], linewidth=1)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")


def scatter_space(axes: Axes, panel: Panel, limit: float) -> None:
    """One posterior mean space; points outside the axes are drawn on their border."""
    _space(axes, limit)
    x, y = (np.clip(means, -limit, limit) for means in panel[2:])
    colour, marker = COLOURS.get(panel.method, COLOURS["accent"]), _MARKERS.get(panel.method, "s")
    axes.scatter(x, y, s=7, alpha=0.45, linewidths=0, color=colour, marker=marker)


def mean_space_figure(rows: Sequence[Sequence[Panel]], limit: float = 3.0) -> Figure:
    """Rows of posterior mean spaces on common axes (He et al. 2019, figures 2 and 6).

    Points outside the common axes are drawn on their border, so that none goes missing.

    Args:
        rows: one a method; panels in the order of training.
        limit: the axes run from -limit to limit.
    """
    columns = max(len(row) for row in rows)
    figure, grid = canvas(2.5 * columns, 2.5 * len(rows), columns, len(rows), squeeze=False)
    for line, panels in zip(grid, rows, strict=True):
        for axes, panel in zip(line, panels, strict=False):
            scatter_space(axes, panel, limit)
            axes.set_title(panel.title, fontsize=9)
        for axes in line[len(panels) :]:
            axes.set_axis_off()
        line[0].set_ylabel("mean of q(z|x)")
    for axes in grid[-1]:
        axes.set_xlabel("mean of p(z|x)")
    return figure


def map_figure(panels: Sequence[Panel], limit: float = 3.0) -> Figure:
    """Where the four states of collapse lie in the posterior mean space (figure 1b)."""
    figure, axes = canvas(4.6, 4.6)
    _space(axes, limit)
    looks = (("sky", "o"), ("accent", "^"), ("mi", "s"), ("aggregate", "D"))
    for panel, (colour, marker) in zip(panels, looks, strict=True):
        look = {"color": COLOURS[colour], "marker": marker, "label": panel.title}
        axes.scatter(*panel[2:], s=14, alpha=0.6, linewidths=0, **look)
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
    figure, grid = row(len(titles), 3.0, 3.0)
    for column, axes in enumerate(grid):
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
    grid[0].set_ylabel("mean of q(z|x)")
    for name, words in (("lagging", "inner loop (encoder)"), ("vae", "outer step")):
        grid[0].plot([], [], color=COLOURS[name], label=words)
    grid[0].legend(fontsize=7, loc="upper left")
    return figure


# Part of the KL -> colour, line, and its values by epoch.
_PARTS: dict[str, tuple[str, str, Callable[[pd.DataFrame], pd.Series]]] = {
    "KL": ("kl", "-", lambda h: h["valid_kl"]),
    "MI": ("mi", "--", lambda h: h["valid_mutual_information"]),
    "KL(q(z)||p)": ("aggregate", ":", lambda h: h["valid_kl"] - h["valid_mutual_information"]),
}


def decomposition_figure(histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """KL = MI + KL(q(z) || p) over training, one column per method, one thin line per seed.

    Args:
        histories: method -> histories of its seeds, with the columns of a run's history.
    """
    figure, grid = row(len(histories), 4.2, 3.0, sharey=True)
    for axes, (method, runs) in zip(grid, histories.items(), strict=True):
        for name, (colour, style, value) in _PARTS.items():
            for number, history in enumerate(runs):
                label, look = None if number else name, {"color": COLOURS[colour], "alpha": 0.75}
                axes.plot(history["epoch"], value(history), style, label=label, **look)
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
    figure, grid = row(len(titles), 3.2, 2.6)
    for column, axes in enumerate(grid):
        axes.plot(z, model[:, column], color=COLOURS["vae"], label="p(z|x), grid")
        axes.plot(z, approximate[:, column], "--", color=COLOURS["lagging"], label="q(z|x)")
        axes.set_title(titles[column], fontsize=9)
        axes.set_xlabel("z")
    grid[0].set_ylabel("density")
    grid[0].legend(fontsize=7)
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
    figure, axes = canvas(5.2, 3.2)
    look = {"marker": "o", "color": COLOURS["mi"], "label": "estimate, 2 std. errors"}
    axes.errorbar(sizes, estimate, 2 * error, **look)
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
    figure, axes = canvas(5.2, 3.2)
    for method, runs in histories.items():
        colour = COLOURS.get(method, COLOURS["accent"])
        for number, history in enumerate(runs):
            values, busy = history["valid_mutual_information"], history["aggressive"].astype(bool)
            label = None if number else _LABELS.get(method, method)
            axes.plot(history["epoch"], values, color=colour, linewidth=1, alpha=0.7, label=label)
            axes.plot(history["epoch"][busy], values[busy], "o", color=colour, markersize=4)
    axes.set(xlabel="epoch", ylabel="mutual information (nats)")
    axes.legend(fontsize=8)
    return figure


CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHAPES = "o^svDPX*<>"


def plane_figure(
    groups: Mapping[str, Sequence[tuple[str, float, float]]], x: str, y: str
) -> Figure:
    """Runs in a plane, one panel a group and one point per seed.

    Args:
        groups: title -> (method, x, y) of every run.
        x, y: names of the axes, with units.
    """
    figure, grid = row(len(groups), 4.6, 3.8)
    places: dict[str, int] = {}
    for name in (name for points in groups.values() for name, _, _ in points):
        places.setdefault(name, len(places))
    for axes, (title, points) in zip(grid, groups.items(), strict=True):
        for name in dict.fromkeys(name for name, _, _ in points):
            own = [(a, b) for method, a, b in points if method == name]
            shape, colour = _SHAPES[places[name] % len(_SHAPES)], CYCLE[places[name] % len(CYCLE)]
            look = {"color": colour, "markersize": 6, "alpha": 0.8, "label": name}
            axes.plot(*zip(*own, strict=True), shape, **look)
        axes.set(title=title, xlabel=x)
    grid[0].set_ylabel(y)
    legend(figure, 2 if len(groups) == 1 else 3, 7)
    return figure


def heat(
    axes: Axes,
    rows: Sequence[str],
    columns: Sequence[str],
    values: NDArray[np.floating],
    low: float | None = None,
    high: float | None = None,
) -> AxesImage:
    """A number in each cell, darker where it is higher; nan is left empty."""
    image = axes.imshow(values, cmap="cividis_r", aspect="auto", vmin=low, vmax=high)
    middle = sum(image.get_clim()) / 2
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value > middle else "black"
            text = f"{round(float(value), 2) + 0.0:.2f}"  # no minus before 0.00
            axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    return image


def heat_figure(values: pd.DataFrame, names: tuple[str, str, str]) -> Figure:
    """A sweep over two parameters; the number stands in each cell, lighter is lower.

    Args:
        values: a row a value of the first parameter, a column a value of the second.
        names: of the row parameter, the column parameter and the values, with units.
    """
    rows, columns = ([f"{value:g}" for value in axis] for axis in (values.index, values.columns))
    figure, axes = canvas(1.4 + 1.1 * len(columns), 1.2 + 0.75 * len(rows))
    image = heat(axes, rows, columns, values.to_numpy(dtype=float))
    axes.set(ylabel=names[0], xlabel=names[1])
    figure.colorbar(image, label=names[2])
    return figure


def cost_figure(ratios: Mapping[str, Sequence[float]]) -> Figure:
    """Training time over the VAE's, one bar per method, on a logarithmic axis."""
    figure, axes = canvas(6.5, 0.6 + 0.26 * len(ratios))
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
