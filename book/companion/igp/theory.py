"""Pictures for the statements of IGP: ties, information, water-filling and rotations."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.claims.formulas import Array
from companion.igp import statements, statements_latent
from companion.igp.statements_linear import ACTIVE, linear_igp, mean_variances
from companion.show.figures import COLOURS
from companion.show.theory import canvas
from posterior_collapse import gaussian


def _lines(axes: Axes, x: Array, lines: Iterable[tuple[str, Any, str, str]]) -> None:
    """Curves over x: name, values, colour and line style each."""
    for name, values, colour, line in lines:
        axes.plot(x, values, linestyle=line, color=COLOURS[colour], label=name)


# --- ties -----------------------------------------------------------------------------------------

LEVELS = (0.03, 0.06, 0.12, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2.5, 4.0)
_RATIOS = np.geomspace(1.0, 100.0, 81)
_STYLES: dict[str, tuple[str, Any, str]] = {
    "no tie": ("kl", "-", ""),
    "smallest": ("lagging", "--", "v"),
    "harmonic": ("accent", "-.", "s"),
    "geometric": ("mi", ":", "D"),
    "arithmetic": ("vae", (0, (6, 2, 1, 2)), "o"),
}


def tie_curves(level: float, ratios: Array = _RATIOS, dimensions: int = 8) -> dict[str, Array]:
    """KL a dimension, nats, of a diagonal posterior and of four ties of its variances.

    Args:
        level: geometric mean of the variances, which are even in their logarithm.
        ratios: (R,), the largest variance over the smallest.
        dimensions: how many variances.
    """
    places = np.linspace(-0.5, 0.5, dimensions)
    variances = level * ratios[:, None] ** places  # (R, K)
    ties = np.array([statements.ties(variance)[:4] for variance in variances])  # (R, 4)
    tied = np.repeat(ties.T[..., None], dimensions, axis=-1)  # (4, R, K)
    log = torch.from_numpy(np.log(np.concatenate([variances[None], tied])))
    kl = gaussian.kl_to_standard_normal(torch.zeros_like(log), log).numpy() / dimensions
    return dict(zip(_STYLES, kl, strict=True))


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
    figure, (whole, change) = canvas(8.0, 3.4, 2)
    curves = tie_curves(level)
    whole.set(ylim=(0.0, 3.0), ylabel="KL, nats per dimension")
    change.set(ylim=(-1.0, 1.5), ylabel="KL after the tie less KL before")
    for axes in (whole, change):
        axes.set(xscale="log", xlim=(1.0, 100.0), xlabel="largest variance over smallest")
        _tie_limits(axes, level)
    change.axhspan(0.0, 1.5, color=COLOURS["guide"], alpha=0.12, linewidth=0)
    change.text(1.1, 1.1, "raised", fontsize=8)
    change.text(1.1, -0.93, "lowered", fontsize=8)
    for name, values in curves.items():
        colour, line, marker = _STYLES[name]
        style: dict[str, Any] = {
            "color": COLOURS[colour],
            "linestyle": line,
            "marker": marker,
            "markevery": 16,
        }
        whole.plot(_RATIOS, values, markersize=4, label=name, **style)
        change.plot(_RATIOS, values - curves["no tie"], markersize=4, **style)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8)
    return figure


# --- information, rate and distortion -------------------------------------------------------------


def channels(slopes: Array) -> list[statements_latent.Channel]:
    """Two x with q(z|x) = N(-1, 1/4) and N(1, 1/4), and sigmoid decoders of those slopes."""
    mean, sd = np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    return [statements_latent.sigmoid_channel(mean, sd, float(slope), 2001) for slope in slopes]


def channel_figure() -> Figure:
    """The three quantities of the bound against the slope of the decoder."""
    slopes = np.linspace(0.25, 24.0, 96)
    terms = channels(slopes)
    figure, axes = canvas(5.6, 3.4)
    lines = (
        ("rate R", [one.rate for one in terms], "kl", "--"),
        ("information I", [one.information for one in terms], "mi", "-"),
        ("H − D", [one.entropy - one.distortion for one in terms], "vae", "-."),
    )
    _lines(axes, slopes, lines)
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

    diagonal: Array  # weights above 0
    isotropic: Array
    diagonal_units: Array  # variance of the mean at least 0.01
    isotropic_units: Array


def active_counts(spectrum: Array = SPECTRUM, noises: Array = _NOISES) -> ActiveCounts:
    """Active directions of both optima, by their weights and as AU counts them."""
    spread = np.array([mean_variances(spectrum, float(noise)) for noise in noises])  # (S, 2, K)
    return ActiveCounts(*(spread > 0).sum(-1).T, *(spread >= ACTIVE).sum(-1).T)


def _water(axes: Axes, spectrum: Array, noise: float) -> None:
    """Eigenvalues with the two thresholds."""
    low = noise**2 / linear_igp(spectrum, noise).level
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
    figure, (water, count) = canvas(8.6, 3.6, 2)
    _water(water, SPECTRUM, noise)
    active = active_counts()
    lines = (
        ("isotropic", active.isotropic, "lagging", "-"),
        ("isotropic, variance ≥ 0.01", active.isotropic_units, "lagging", ":"),
        ("diagonal", active.diagonal, "vae", "--"),
        ("diagonal, variance ≥ 0.01", active.diagonal_units, "sky", "-."),
    )
    for name, values, colour, line in lines:
        count.step(_NOISES, values, linestyle=line, color=COLOURS[colour], label=name)
    count.axvline(noise, color=COLOURS["guide"], linewidth=0.8)
    count.axvline(SPECTRUM[0], color=COLOURS["guide"], linewidth=0.8, linestyle=":")
    count.text(SPECTRUM[0] * 0.95, 9.5, "largest λ", fontsize=7, rotation=90, ha="right")
    count.set(xscale="log", xlabel="noise variance s²", ylabel="active directions of 16")
    count.legend(fontsize=7, loc="lower left")
    return figure


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
    means = np.stack([line, np.zeros(points)], -1) @ statements_latent.turn(degrees).T
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
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    cloud, spread, count = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
    here = turned(degrees)
    _cloud(cloud, here.means)
    cloud.set_title(f"AU {here.units}, rank {here.rank}", fontsize=9)
    angles = np.linspace(0.0, 90.0, 361)
    first, second = (_LENGTH * turn(np.radians(angles)) ** 2 for turn in (np.cos, np.sin))
    _lines(spread, angles, (("z₁", first, "vae", "-"), ("z₂", second, "lagging", "--")))
    spread.axhline(ACTIVE, color=COLOURS["kl"], linestyle=":", linewidth=1)
    spread.text(45, ACTIVE * 0.9, "0.01", fontsize=7, ha="center", va="top")
    spread.set(yscale="log", ylim=(1e-3, 2.0), xlabel="angle, degrees")
    spread.set_title("variance of a coordinate's mean", fontsize=9)
    every = [turned(float(angle)) for angle in angles[::4]]
    units, ranks = [one.units for one in every], [one.rank for one in every]
    count.step(angles[::4], units, color=COLOURS["lagging"], label="AU")
    _lines(count, angles[::4], [("rank of Cov(μ)", ranks, "mi", "--")])
    count.set(ylim=(0, 2.6), yticks=[0, 1, 2], xlabel="angle, degrees")
    count.set_title("active", fontsize=9)
    for axes in (spread, count):
        axes.legend(fontsize=7, loc="lower center")
        axes.axvline(degrees, color=COLOURS["guide"], linewidth=1)
        axes.set_xticks([0, 45, 90])
    return figure


def basis(dimensions: int = 32, bases: int = 100, seed: int = 0) -> Array:
    """AU in random bases, (ranks from 0, bases), of means with eigenvalues 0.9 and else 0."""
    random = np.random.default_rng(seed)
    frames = np.linalg.qr(random.normal(size=(bases, dimensions, dimensions)))[0]
    # Row k of a frame squared and cumulated: the variance of z_k with one eigenvalue, two, ...
    spread = _LENGTH * np.cumsum(frames**2, axis=-1)
    units = (spread >= ACTIVE).sum(1)  # (bases, ranks from 1)
    return np.concatenate([np.zeros((bases, 1), dtype=np.int64), units], 1).T


def basis_figure(units: Array) -> Figure:
    """AU in random bases against the rank of the covariance of the means."""
    figure, axes = canvas(5.6, 3.6)
    ranks = np.arange(len(units))
    low, middle, high = np.quantile(units, (0.0, 0.5, 1.0), axis=1)
    band: dict[str, Any] = {
        "color": COLOURS["sky"],
        "alpha": 0.5,
        "linewidth": 0,
        "label": "all bases drawn",
    }
    axes.fill_between(ranks, low, high, **band)
    axes.plot(ranks, middle, "o-", color=COLOURS["vae"], markersize=3, label="median")
    _lines(axes, ranks, [("AU = rank", ranks, "lagging", "--")])
    axes.set(xlabel="rank of Cov(μ)", ylabel="AU of 32", xlim=(0, 32), ylim=(0, 33))
    axes.legend(fontsize=8, loc="lower right")
    return figure
