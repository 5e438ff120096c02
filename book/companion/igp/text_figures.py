"""Figures of the page on tied variances and text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from companion.claims import evidence
from companion.claims import groups as benchmarks
from companion.claims.reference import Result
from companion.claims.table import Runs
from companion.igp.shared import (
    NAMES,
    Group,
    Shown,
    called,
    data_of,
    limited,
    of_kind,
    pairs,
    scale_of,
    targets,
)
from companion.igp.text import ACTIVE
from companion.numbers import number
from companion.show.figures import COLOURS, canvas


def _largest(group: Group) -> tuple[str, Runs, benchmarks.Twins] | None:
    """A recipe, its results, and DGP and IGP at the largest target that has both."""
    largest_first = list(benchmarks.isotropic(scale_of(group)).targets.values())[::-1]
    for recipe, runs in limited(group, (benchmarks.SNLI,)).items():
        for twins in largest_first:
            if all(runs.get(method) for method in twins):
                return recipe, runs, twins
    return None


def shape_figure(group: Group) -> Figure | None:
    """Posterior means and variances, dimension by dimension, DGP beside IGP; first seed."""
    chosen = _largest(group)
    if chosen is None:
        return None
    recipe, runs, twins = chosen
    figure, grid = canvas(7.6, 4.4, 2, 2, sharex=True, sharey="row")
    for column, method in enumerate(twins):
        mean = np.asarray(evidence.array(runs[method][0], "code_mean"), dtype=float)
        variance = np.square(np.asarray(evidence.array(runs[method][0], "code_std"), dtype=float))
        colour = COLOURS["vae"] if column == 0 else COLOURS["lagging"]
        order = np.argsort(-mean.var(axis=0))
        _boxes(grid[0, column], mean[:, order], colour, 0.0)
        _boxes(grid[1, column], variance[:, order], colour, 1.0)
        grid[0, column].set_title(f"{NAMES[recipe]}: {called(method)}", fontsize=9)
        grid[1, column].set_xlabel("dimension, in order of the variance of its mean", fontsize=8)
    grid[0, 0].set_ylabel("posterior mean", fontsize=9)
    grid[1, 0].set_ylabel("posterior variance", fontsize=9)
    return figure


def _boxes(axes: Axes, sample: NDArray[np.float64], colour: str, guide: float) -> None:
    """A box for every column, from the 5th to the 95th percentile; a line where the prior is."""
    axes.boxplot(
        sample,
        whis=(5, 95),
        showfliers=False,
        widths=0.7,
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.5, "linewidth": 0.6},
        medianprops={"color": "black", "linewidth": 1.0},
        whiskerprops={"linewidth": 0.6},
        capprops={"linewidth": 0.6},
    )
    axes.axhline(guide, linestyle=":", color=COLOURS["guide"], linewidth=1.0)
    axes.set_xticks([1, sample.shape[1]], ["1", str(sample.shape[1])])
    axes.tick_params(labelsize=8)


# A part of the KL: its measure, its name, how it is drawn.
_KINDS = (
    ("mi", "mutual information", COLOURS["mi"], ""),
    ("offset", "offset ½‖E μ‖²", COLOURS["accent"], "//"),
    ("rest", "rest of KL(q(z) ‖ p)", COLOURS["sky"], ".."),
)


def kl_figure(group: Group) -> Figure:
    """KL as a sum of three parts, one bar per method; averages over seeds."""
    bars: dict[str, list[float]] = {}
    for recipe, runs in group.items():
        data = data_of({m: runs[m] for m in runs if of_kind("target-kl")(m)})
        for method, own in data.groupby("method", sort=False):
            means = own.groupby("metric")["value"].mean()
            if not math.isnan(means["rest"]):
                name = f"{NAMES[recipe]}, {called(str(method))}"
                bars[name] = [means[part] for part, *_ in _KINDS]
    figure, axes = canvas(7.2, 1.2 + 0.36 * len(bars))
    left = np.zeros(len(bars))
    parts = np.array([*bars.values()]).reshape(-1, len(_KINDS)).T
    for widths, (_, name, colour, hatch) in zip(parts, _KINDS, strict=True):
        look = {"color": colour, "hatch": hatch, "edgecolor": "black"}
        axes.barh(list(bars), widths, left=left, label=name, **look)
        left = left + widths
    axes.invert_yaxis()
    axes.set_xlabel("nats per sentence")
    axes.tick_params(labelsize=8)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def ceilings(group: Group) -> str:
    """The largest MI that each data set's test texts allow, in words."""
    words = []
    for recipe, runs in group.items():
        known = (r.metrics.get("mutual_information_points") for r in evidence.every(runs))
        points = sorted({int(count) for count in known if count is not None})
        logs = [f"log {count:,} = {number(math.log(count), 2)}" for count in points]
        words += [f"{NAMES[recipe]}: {' or '.join(logs)}"] if logs else []
    return "; ".join(words)


def frames(shown: Shown) -> tuple[list[Figure], list[str]]:
    """A frame for every data set and target: reconstructions, and variances of the means."""
    pictures, labels = [], []
    for origin, group in shown.items():
        for pair in pairs(group, targets(scale_of(group))):
            firsts = {"DGP": pair.runs[pair.diagonal][0], "IGP": pair.runs[pair.isotropic][0]}
            pictures.append(_frame(firsts))
            labels.append(f"{pair.name} ({origin.lower()})")
    return pictures, labels


_WIDTH, _SENTENCES, _LINES = 84, 3, 2


def _frame(rows: Mapping[str, Result]) -> Figure:
    """Bars above, sentences below; every frame has the same size."""
    figure = Figure(figsize=(7.4, 5.4), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(1.0, 1.6))
    colours = (COLOURS["vae"], COLOURS["lagging"])
    for column, ((name, result), colour) in enumerate(zip(rows.items(), colours, strict=True)):
        _spectrum(figure.add_subplot(grid[0, column]), name, result, colour)
    _sentences(figure.add_subplot(grid[1, :]), rows)
    return figure


def _spectrum(axes: Axes, name: str, result: Result, colour: str) -> None:
    """Variance of the mean of every dimension, and eigenvalues of their covariance."""
    mean = np.asarray(evidence.array(result, "code_mean"), dtype=float)
    each = np.sort(mean.var(axis=0, ddof=1))[::-1]
    turned = np.sort(np.linalg.eigvalsh(np.atleast_2d(np.cov(mean.T))))[::-1]
    places = np.arange(1, len(each) + 1)
    axes.bar(places, np.maximum(each, 1e-5), color=colour, alpha=0.6, label="variance of a mean")
    axes.plot(places, np.maximum(turned, 1e-5), "k.-", linewidth=0.8, label="eigenvalue")
    axes.axhline(ACTIVE, linestyle=":", color=COLOURS["guide"])
    axes.set(yscale="log", ylim=(1e-5, 30.0), title=_counts(name, result))
    axes.title.set_fontsize(9)
    axes.set_xticks([1, len(each)])
    axes.set_xlabel("dimension or direction, in order", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6, loc="upper right")


def _counts(name: str, result: Result) -> str:
    metrics = result.metrics
    mi = float(metrics["mutual_information"])
    return f"{name}: AU {metrics['active_units']}, rank {metrics['active_rank']}, MI {mi:.2f} nats"


def _sentences(axes: Axes, rows: Mapping[str, Result]) -> None:
    """Some test sentences and what each model makes of them."""
    axes.set_axis_off()
    first = next(iter(rows.values()))
    lines = []
    for place, source in enumerate(evidence.array(first, "text_source")[:_SENTENCES]):
        lines.append(_wrapped("text", str(source)))
        for name, result in rows.items():
            lines.append(_wrapped(name, str(evidence.array(result, "text_reconstruction")[place])))
        lines.append("")
    text = "\n".join(lines)
    axes.text(0.0, 1.0, text, family="monospace", fontsize=7.5, va="top", transform=axes.transAxes)


def _wrapped(name: str, sentence: str) -> str:
    """One sentence in at most two lines."""
    lines = textwrap.wrap(sentence.replace("$", r"\$"), _WIDTH)[:_LINES] or ["(no words)"]
    return "\n".join(f"{name if not n else '':>5}  {line}" for n, line in enumerate(lines))
