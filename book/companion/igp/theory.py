"""Tables and pictures for the statements of IGP: ties, estimates, water-filling and rotations."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from companion.igp import statements as igp
from companion.show.figures import COLOURS
from posterior_collapse import gaussian

__all__ = [
    "ANGLES",
    "LEVELS",
    "ActiveCounts",
    "Basis",
    "Turned",
    "active_counts",
    "active_figure",
    "basis",
    "basis_figure",
    "channel_figure",
    "channels",
    "estimate_table",
    "linear_table",
    "shared_table",
    "tie_curves",
    "tie_figure",
    "trained_table",
    "turned",
    "turned_figure",
    "turned_table",
]

Array = NDArray[np.float64]
ACTIVE = 0.01  # variance of the mean from which a unit is active (Burda et al. 2016)


def _canvas(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


# --- ties -----------------------------------------------------------------------------------------

LEVELS = (0.03, 0.06, 0.12, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2.5, 4.0)
_RATIOS = np.geomspace(1.0, 100.0, 81)
_STYLES = {
    "untied": ("kl", "-", ""),
    "smallest": ("lagging", "--", "v"),
    "harmonic": ("accent", "-.", "s"),
    "geometric": ("mi", ":", "D"),
    "arithmetic": ("vae", (0, (6, 2, 1, 2)), "o"),
}


def _kl(variance: Array) -> float:
    """KL of N(0, diag variance) to N(0, I), nats."""
    log = torch.from_numpy(np.log(variance))[None]
    return float(gaussian.kl_to_standard_normal(torch.zeros_like(log), log))


def tie_curves(level: float, ratios: Array = _RATIOS, dimensions: int = 8) -> dict[str, Array]:
    """KL a dimension, nats, of a diagonal posterior and of four ties of its variances.

    Args:
        level: geometric mean of the variances, which are even in their logarithm.
        ratios: (R,), the largest variance over the smallest.
        dimensions: how many variances.
    """
    places = np.linspace(-0.5, 0.5, dimensions)
    rows = []
    for ratio in ratios:
        variance = level * ratio**places
        tied = [_kl(np.full(dimensions, tie)) for tie in igp.ties(variance)[:4]]
        rows.append([_kl(variance), *tied])
    return dict(zip(_STYLES, (np.array(rows) / dimensions).T, strict=True))


def _tie_limits(axes: Axes, level: float) -> None:
    """Where the largest variance passes 1/2 and 1."""
    for limit, name in ((0.5, "½"), (1.0, "1")):
        ratio = (limit / level) ** 2
        if 1.0 <= ratio <= _RATIOS[-1]:
            axes.axvline(ratio, color=COLOURS["guide"], linestyle=":", linewidth=1)
            low, high = axes.get_ylim()
            side = "right" if ratio > 30.0 else "left"
            place = low + 0.9 * (high - low)
            axes.text(ratio, place, f" largest σ² {name} ", fontsize=7, ha=side)


def tie_figure(level: float) -> Figure:
    """KL under the ties against the spread of the variances, and its change by the tie."""
    figure = _canvas(8.0, 3.4)
    whole, change = figure.subplots(1, 2)
    curves = tie_curves(level)
    whole.set(ylim=(0.0, 3.0), ylabel="KL, nats a dimension")
    change.set(ylim=(-1.0, 1.5), ylabel="KL after the tie less KL before")
    for axes in (whole, change):
        axes.set(xscale="log", xlim=(1.0, 100.0), xlabel="largest variance over smallest")
        _tie_limits(axes, level)
    change.axhspan(0.0, 1.5, color=COLOURS["guide"], alpha=0.12, linewidth=0)
    change.text(1.1, 1.1, "raised", fontsize=8)
    change.text(1.1, -0.93, "lowered", fontsize=8)
    for name, values in curves.items():
        colour, line, marker = _STYLES[name]
        label = "no tie" if name == "untied" else name
        style = {"color": COLOURS[colour], "linestyle": line, "marker": marker, "markevery": 16}
        whole.plot(_RATIOS, values, markersize=4, label=label, **style)
        change.plot(_RATIOS, values - curves["untied"], markersize=4, **style)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8)
    return figure


# --- the estimate of the variance -----------------------------------------------------------------


def estimate_table(
    samples: Sequence[int] = (2, 5, 10, 100, 1000), dimensions: int = 32
) -> pd.DataFrame:
    """Standard errors of the estimate of a variance 1, exact and as printed."""
    rows = []
    for count in samples:
        alone = igp.estimate_error(count, 1, igp.I1.constants)
        shared = igp.estimate_error(count, dimensions, igp.I1.constants)
        rows.append(
            {
                "samples N": count,
                "exact": alone,
                "printed √(2/N)": math.sqrt(2.0 / count),
                "exact over printed": alone / math.sqrt(2.0 / count),
                f"exact, shared by {dimensions}": shared,
                "gain": alone / shared,
            }
        )
    return pd.DataFrame(rows)


def shared_table(
    samples: Sequence[int] = (2, 10, 100, 1000), variance: Sequence[float] = (0.1, 0.5, 1.0)
) -> pd.DataFrame:
    """Root mean squared errors in each dimension, of its own and of the shared estimate."""
    values = np.asarray(variance, dtype=float)
    rows = []
    for count in samples:
        found = igp.shared_error(count, values)
        row: dict[str, float] = {"samples N": count}
        for place, value in enumerate(values):
            row[f"σ² = {value:g}, own"] = math.sqrt(found.own[place])
            row["shared" + " " * place] = math.sqrt(found.shared[place])
        rows.append(row)
    return pd.DataFrame(rows)


# --- information, rate and distortion -------------------------------------------------------------


def channels(slopes: Array) -> list[igp.Channel]:
    """Two x with q(z|x) = N(-1, 1/4) and N(1, 1/4), and sigmoid decoders of those slopes."""
    mean, sd = np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    return [igp.sigmoid_channel(mean, sd, float(slope), 2001) for slope in slopes]


def channel_figure() -> Figure:
    """The three quantities of the bound against the slope of the decoder."""
    slopes = np.linspace(0.25, 24.0, 96)
    found = channels(slopes)
    figure = _canvas(5.6, 3.4)
    axes = figure.subplots()
    lines = (
        ("rate R", [one.rate for one in found], "kl", "--"),
        ("information I", [one.information for one in found], "mi", "-"),
        ("H − D", [one.entropy - one.distortion for one in found], "vae", "-."),
    )
    for name, values, colour, line in lines:
        axes.plot(slopes, values, line, color=COLOURS[colour], label=name)
    axes.axvline(8.0, color=COLOURS["guide"], linewidth=0.8, linestyle=":")
    axes.text(8.2, 0.05, "decoder equal to q(x|z)", fontsize=8)
    axes.set(xlabel="slope of the decoder", ylabel="nats", xlim=(0, 24), ylim=(0, 0.9))
    axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 0.1))
    return figure


# --- the linear VAE -------------------------------------------------------------------------------

SPECTRUM: Array = np.geomspace(4.0, 4.0 * 0.6**15, 16)
_NOISES = np.geomspace(2.0**-8, 8.0, 200)


class ActiveCounts(NamedTuple):
    """Numbers of active directions for each noise variance (S,)."""

    noise: Array
    diagonal: NDArray[np.int64]  # weights above 0
    isotropic: NDArray[np.int64]
    diagonal_units: NDArray[np.int64]  # variance of the mean at least 0.01
    isotropic_units: NDArray[np.int64]


def active_counts(spectrum: Array = SPECTRUM, noises: Array = _NOISES) -> ActiveCounts:
    """Active directions of both optima, by their weights and as AU counts them."""
    rows = []
    for noise in noises:
        dgp, iso = igp.mean_variances(spectrum, float(noise))
        pair = [(dgp > 0).sum(), (iso > 0).sum(), (dgp >= ACTIVE).sum(), (iso >= ACTIVE).sum()]
        rows.append(pair)
    return ActiveCounts(noises, *np.array(rows, dtype=np.int64).T)


def _water(axes: Axes, spectrum: Array, noise: float) -> None:
    """Eigenvalues with the two thresholds."""
    found = igp.linear_igp(spectrum, noise)
    low = noise**2 / found.level
    place = np.arange(1, len(spectrum) + 1)
    groups = (
        ("active in both", spectrum > noise, "vae", "o"),
        ("active with isotropic only", (spectrum <= noise) & (spectrum > low), "lagging", "^"),
        ("active in neither", spectrum <= low, "guide", "x"),
    )
    for name, mine, colour, marker in groups:
        axes.plot(place[mine], spectrum[mine], marker, color=COLOURS[colour], label=name)
    for value, name, line in ((noise, "s²: diagonal", "--"), (low, "s⁴/c: isotropic", "-.")):
        axes.axhline(value, color=COLOURS["kl"], linestyle=line, linewidth=1)
        axes.text(len(spectrum) + 0.4, value * 1.1, name, fontsize=8, ha="right")
    axes.set(yscale="log", xlabel="direction", ylabel="eigenvalue λ of the data")
    axes.set_title(f"noise variance s² = {noise:g}", fontsize=9)
    axes.legend(fontsize=7, loc="lower left")


def active_figure(noise: float = 0.25) -> Figure:
    """Thresholds at one noise, and numbers of active directions over the noise."""
    figure = _canvas(8.6, 3.6)
    water, count = figure.subplots(1, 2)
    _water(water, SPECTRUM, noise)
    found = active_counts()
    lines = (
        ("isotropic", found.isotropic, "lagging", "-"),
        ("isotropic, variance ≥ 0.01", found.isotropic_units, "lagging", ":"),
        ("diagonal", found.diagonal, "vae", "--"),
        ("diagonal, variance ≥ 0.01", found.diagonal_units, "sky", "-."),
    )
    for name, values, colour, line in lines:
        count.step(found.noise, values, linestyle=line, color=COLOURS[colour], label=name)
    count.axvline(noise, color=COLOURS["guide"], linewidth=0.8)
    count.axvline(SPECTRUM[0], color=COLOURS["guide"], linewidth=0.8, linestyle=":")
    count.text(SPECTRUM[0] * 0.95, 9.5, "largest λ", fontsize=7, rotation=90, ha="right")
    count.set(xscale="log", xlabel="noise variance s²", ylabel="active directions of 16")
    count.legend(fontsize=7, loc="lower left")
    return figure


def linear_table(
    spectrum: Sequence[float] = (4.0, 1.0, 0.2, 0.05), noise: float = 0.25
) -> pd.DataFrame:
    """Both optima on one data covariance: what the code costs and what it carries, nats."""
    values = np.asarray(spectrum, dtype=float)
    found = igp.linear_igp(values, noise)
    weights = igp.dgp_weights(values, noise)
    rate = 0.5 * float(np.log1p(weights / noise).sum())
    mismatch = -0.5 * found.log_det  # the trace of Cov[q(z)] is K at the optimum
    fit = [0.5 * float((values / (w + noise)).sum()) for w in (weights, found.weights)]
    worse = fit[1] + found.kl - fit[0] - rate
    names = ("posterior", "active", "KL", "information", "KL(q(z) ‖ p)", "log det Cov[q(z)]")
    rows = [
        ("diagonal", int((weights > 0).sum()), rate, rate, 0.0, 0.0, 0.0),
        (
            "isotropic",
            int((found.weights > 0).sum()),
            found.kl,
            found.kl - mismatch,
            mismatch,
            found.log_det,
            -worse,
        ),
    ]
    return pd.DataFrame(rows, columns=[*names, "ELBO less the diagonal one's"])


TRAINED = (
    ((4.0, 1.0, 0.2, 0.05), 0.25),
    ((2.0, 0.5), 1.0),
    ((1.0, 0.9, 0.8), 0.5),
    ((8.0, 0.3, 0.2, 0.1), 0.5),
    ((0.9, 0.5), 1.0),
)


def _few(values: Array) -> str:
    return ", ".join(f"{max(value, 0.0):.4f}" for value in values)


def trained_table() -> pd.DataFrame:
    """Linear VAEs trained from random starts beside the formula's optimum."""
    rows = []
    for seed, (spectrum, noise) in enumerate(TRAINED):
        values = np.asarray(spectrum)
        claimed, found = igp.linear_igp(values, noise), igp.train(values, noise, seed)
        rows.append(
            {
                "eigenvalues of the data": ", ".join(f"{value:g}" for value in spectrum),
                "s²": f"{noise:g}",
                "w², formula": _few(claimed.weights),
                "w², trained": _few(found.weights),
                "τ², formula": claimed.variance,
                "τ², trained": found.variance,
            }
        )
    return pd.DataFrame(rows)


# --- rotations ------------------------------------------------------------------------------------

ANGLES = tuple(7.5 * step for step in range(13))
_LENGTH = 0.9  # variance of the means along the line
_WIDTH = 0.3  # standard deviation of each posterior


class Turned(NamedTuple):
    """Means on a line, turned."""

    means: Array  # (N, 2)
    units: int
    rank: int


@functools.lru_cache(maxsize=256)  # every frame of the slider asks for the same angles
def turned(degrees: float, points: int = 24) -> Turned:
    """Evenly spread means on the first axis, with variance 0.9 (ddof 1), turned by an angle."""
    line = np.linspace(-1.0, 1.0, points)
    line *= math.sqrt(_LENGTH / line.var(ddof=1))
    means = np.stack([line, np.zeros(points)], -1) @ igp.turn(degrees).T
    tensor = torch.from_numpy(means)
    return Turned(means, gaussian.active_units(tensor), gaussian.active_rank(tensor))


def _cloud(axes: Axes, means: Array) -> None:
    """Means, with a circle of one standard deviation around some of them."""
    around = np.linspace(0.0, 2.0 * math.pi, 60)
    for mean in means[::4]:
        circle = mean[:, None] + _WIDTH * np.stack([np.cos(around), np.sin(around)])
        axes.plot(*circle, color=COLOURS["sky"], linewidth=0.8)
    axes.plot(*means.T, "o", color=COLOURS["vae"], markersize=3)
    for line in (axes.axhline, axes.axvline):
        line(0.0, color=COLOURS["guide"], linewidth=0.5)
    axes.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal", xlabel="z₁", ylabel="z₂")


def turned_figure(degrees: float) -> Figure:
    """The cloud of means at an angle; variance of both coordinates, AU and rank over the angle."""
    figure = _canvas(8.0, 3.4)
    cloud, spread, count = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
    here = turned(degrees)
    _cloud(cloud, here.means)
    cloud.set_title(f"AU {here.units}, rank {here.rank}", fontsize=9)
    angles = np.linspace(0.0, 90.0, 361)
    along = np.radians(angles)
    first, second = _LENGTH * np.cos(along) ** 2, _LENGTH * np.sin(along) ** 2
    spread.plot(angles, first, "-", color=COLOURS["vae"], label="z₁")
    spread.plot(angles, second, "--", color=COLOURS["lagging"], label="z₂")
    spread.axhline(ACTIVE, color=COLOURS["kl"], linestyle=":", linewidth=1)
    spread.text(45, ACTIVE * 0.9, "0.01", fontsize=7, ha="center", va="top")
    spread.set(yscale="log", ylim=(1e-3, 2.0), xlabel="angle, degrees")
    spread.set_title("variance of a coordinate's mean", fontsize=9)
    spread.legend(fontsize=7, loc="lower center")
    found = [turned(float(angle)) for angle in angles[::4]]
    count.step(angles[::4], [one.units for one in found], color=COLOURS["lagging"], label="AU")
    ranks = [one.rank for one in found]
    count.plot(angles[::4], ranks, "--", color=COLOURS["mi"], label="rank of Cov(μ)")
    count.set(ylim=(0, 2.6), yticks=[0, 1, 2], xlabel="angle, degrees")
    count.set_title("active", fontsize=9)
    count.legend(fontsize=7, loc="lower center")
    for axes in (spread, count):
        axes.axvline(degrees, color=COLOURS["guide"], linewidth=1)
        axes.set_xticks([0, 45, 90])
    return figure


def turned_table(angles: Sequence[float] = (0.0, 5.0, 30.0, 45.0, 90.0)) -> pd.DataFrame:
    """ELBO of a turned model with a bent decoder; AU and rank of its means.

    The last column has a diagonal posterior whose variances are not turned with the means.
    """
    rows = []
    for angle in angles:
        here = turned(angle)
        places = turned(0.0).means
        elbo = {
            name: np.mean(
                [igp.turned_elbo(1.0, mean, np.array(variance), angle) for mean in places]
            )
            for name, variance in (("iso", (_WIDTH**2, _WIDTH**2)), ("diag", (_WIDTH**2, 1.0)))
        }
        rows.append(
            {
                "angle, degrees": f"{angle:g}",
                "ELBO, isotropic": elbo["iso"],
                "AU": here.units,
                "rank": here.rank,
                "ELBO, variances 0.09 and 1": elbo["diag"],
            }
        )
    return pd.DataFrame(rows)


class Basis(NamedTuple):
    """AU in random bases for each rank (R,)."""

    ranks: NDArray[np.int64]
    units: NDArray[np.int64]  # (R, bases)


def basis(dimensions: int = 32, bases: int = 100, seed: int = 0) -> Basis:
    """AU of means whose covariance has some eigenvalues 0.9 and otherwise 0, in random bases."""
    random = np.random.default_rng(seed)
    frames = np.linalg.qr(random.normal(size=(bases, dimensions, dimensions)))[0]
    # Row k of a frame squared and cumulated: the variance of z_k with one eigenvalue, two, ...
    spread = _LENGTH * np.cumsum(frames**2, axis=-1)
    units = (spread >= ACTIVE).sum(1)  # (bases, ranks from 1)
    whole = np.concatenate([np.zeros((bases, 1), dtype=np.int64), units], 1)
    return Basis(np.arange(dimensions + 1), whole.T)


def basis_figure(found: Basis) -> Figure:
    """AU in random bases against the rank of the covariance of the means."""
    figure = _canvas(5.6, 3.6)
    axes = figure.subplots()
    low, middle, high = np.quantile(found.units, (0.0, 0.5, 1.0), axis=1)
    axes.fill_between(found.ranks, low, high, color=COLOURS["sky"], alpha=0.5, linewidth=0,
                      label="all bases drawn")  # fmt: skip
    axes.plot(found.ranks, middle, "o-", color=COLOURS["vae"], markersize=3, label="median")
    axes.plot(found.ranks, found.ranks, "--", color=COLOURS["lagging"], label="AU = rank")
    axes.set(xlabel="rank of Cov(μ)", ylabel="AU of 32", xlim=(0, 32), ylim=(0, 33))
    axes.legend(fontsize=8, loc="lower right")
    return figure
