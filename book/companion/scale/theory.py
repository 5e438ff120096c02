"""Pictures and tables of the page on Scale-VAE's statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.claims.formulas import MEAN, SD, Array, log_normal, parts
from companion.numbers import number
from companion.scale.statements import example, gap, scaled_mpd, unit_gap
from companion.scale.statements_dynamics import balance, path, train_linear
from companion.show.figures import COLOURS
from companion.show.theory import Frames, canvas

_STYLES = ("-", "--", "-.", ":")


# --- the gap of the objective ---------------------------------------------------------------------


def _gap_figure(variance: float) -> Figure:
    f = np.geomspace(0.25, 16.0, 200)
    scaled = gap(variance, f)
    figure, axes = canvas(6.2, 3.6)
    axes.fill_between(f, 0.0, scaled, where=scaled > 0, color=COLOURS["accent"], alpha=0.25)
    axes.plot(f, scaled, color=COLOURS["lagging"], label="prior N(0, f²)")
    # Means whose spread is 1 after scaling have the second moment 1/f^2.
    axes.plot(f, unit_gap(1 / f, f), "--", color=COLOURS["vae"], label="prior N(0, 1), Std(fμ) = 1")
    axes.axhline(0.0, color=COLOURS["guide"], linewidth=0.8)
    axes.axvline(1.0, color=COLOURS["guide"], linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlim=(0.25, 16.0), ylim=(-1.5, 3.0), xlabel="scale-up factor f")
    axes.set_ylabel("L_scale − ELBO\n(nats per dimension)")
    axes.set_xticks([0.25, 0.5, 1, 2, 4, 8, 16], ["¼", "½", "1", "2", "4", "8", "16"])
    axes.minorticks_off()
    axes.legend(fontsize=8, loc="lower right")
    return figure


def gap_frames(variances: Sequence[float] = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)) -> Frames:
    """The objective's excess over a valid bound, against f; one frame a posterior variance."""
    labels = [f"posterior variance σ² = {value:g}" for value in variances]
    return Frames([_gap_figure(value) for value in variances], labels)


EXAMPLES = {
    "smallest": (0.5, 0.5, 0.25, 0.25, 2.0),  # by the search of S6
    "larger factor": (2.0, 0.5, 0.5, 0.2, 4.0),
}


def example_table() -> pd.DataFrame:
    """Two observations whose objective exceeds log p(x) under both priors.

    Each is two points ±x, with x, noise, mean, variance and factor.
    """
    terms = {
        "L_scale": "objective",
        "ELBO, prior N(0, 1)": "elbo_unit",
        "log p(x), prior N(0, 1)": "evidence_unit",
        "ELBO, prior N(0, f²)": "elbo_scaled",
        "log p(x), prior N(0, f²)": "evidence_scaled",
    }
    names = ["x, and mean of q", "s of the decoder N(z, s²)", "σ² of q", "f", *terms]
    columns: dict[str, list[str]] = {"quantity": names}
    for title, (x, noise, mean, variance, f) in EXAMPLES.items():
        values = example(x, noise, mean, variance, f)
        given = [f"±{x:g}, ±{mean:g}", number(noise, 2), number(variance, 2), number(f, 1)]
        columns[title] = given + [number(getattr(values, name), 4) for name in terms.values()]
    return pd.DataFrame(columns)


# --- MI and MPD against f -------------------------------------------------------------------------


class Growth(NamedTuple):
    """MI and MPD of four posteriors whose means are scaled; nats."""

    factors: Array
    information: Array
    mpd: Array


def growth(largest: float = 8.0, count: int = 33) -> Growth:
    """Both quantities over factors from 0 to ``largest``."""
    factors = np.linspace(0.0, largest, count)
    information = np.array([parts(f * MEAN, SD).information for f in factors])
    return Growth(factors, information, np.array([scaled_mpd(MEAN, SD, f) for f in factors]))


def _densities(axes: Axes, factor: float) -> None:
    z = np.linspace(-9.0, 15.0, 600)
    own = np.exp(log_normal(z[:, None], factor * MEAN, SD))
    for place, style in enumerate(_STYLES):
        axes.plot(z, own[:, place], style, color=COLOURS["vae"], linewidth=1)
    axes.fill_between(z, own.mean(1), color=COLOURS["aggregate"], alpha=0.5, label="q_agg")
    axes.plot([], [], color=COLOURS["vae"], linewidth=1, label="q̂(z|x) of four x")
    axes.set(xlabel="z", ylabel="density", xlim=(-9, 15), ylim=(0, 1.25), title=f"f = {factor:g}")
    axes.legend(fontsize=7, loc="upper right")


def _growth_figure(curves: Growth, factor: float) -> Figure:
    figure, (left, right) = canvas(8.4, 3.3, 2)
    _densities(left, factor)
    right.plot(curves.factors, curves.mpd, "--", color=COLOURS["lagging"], label="MPD")
    right.plot(curves.factors, curves.information, color=COLOURS["mi"], label="MI")
    right.axhline(np.log(len(MEAN)), linestyle=":", color=COLOURS["guide"], label="log N")
    place = int(np.argmin(np.abs(curves.factors - factor)))
    right.plot(factor, curves.mpd[place], "^", color=COLOURS["lagging"])
    right.plot(factor, curves.information[place], "o", color=COLOURS["mi"])
    right.set(xlabel="scale-up factor f", ylabel="nats", yscale="log", ylim=(0.1, 300))
    right.legend(fontsize=8, loc="upper left")
    return figure


def growth_frames(factors: Sequence[float] = (0, 0.5, 1, 1.5, 2, 3, 4, 6, 8)) -> Frames:
    """Posteriors moving apart, with MI and MPD; one frame a factor."""
    curves = growth()
    labels = [f"factor f = {factor:g}" for factor in factors]
    return Frames([_growth_figure(curves, factor) for factor in factors], labels)


# --- the lemma ------------------------------------------------------------------------------------

_FAMILY = ((-2.0, 2.4), (-1.5, 1.1), (0.5, 2.0), (1.1, 1.3), (3.0, 0.9))


def _cover(axes: Axes, factor: float, level: int) -> None:
    """Intervals as bars, and below them how many cover each place."""
    x = np.linspace(-8.0, 8.0, 1601)
    count = np.zeros_like(x)
    for place, (centre, half) in enumerate(_FAMILY):
        low, high = factor * centre - half, factor * centre + half
        axes.plot([low, high], [5.2 + 0.5 * place] * 2, color=COLOURS["vae"], linewidth=3)
        axes.plot(factor * centre, 5.2 + 0.5 * place, "|", color="black", markersize=8)
        count += (x >= low) & (x <= high)
    axes.step(x, count, color=COLOURS["kl"], linewidth=1)
    above, colour = count > level, COLOURS["accent"]
    axes.fill_between(x, level, count, where=above, step="pre", color=colour, alpha=0.6)
    axes.axhline(level, linestyle="--", color=COLOURS["guide"], linewidth=0.8)
    area = float(np.maximum(count - level, 0.0).sum() * (x[1] - x[0]))
    axes.set_title(f"f = {factor:g}: area above level {level} is {area:.1f}", fontsize=9)
    axes.set_xlabel("x")
    axes.set_yticks([0, 1, 2, 3, 4])


def intervals_figure(level: int = 1) -> Figure:
    """The lemma: the area above a level shrinks when the intervals' centres move apart."""
    figure, panels = canvas(9.0, 3.3, 3, sharey=True)
    for axes, factor in zip(panels, (1.0, 1.3, 1.7), strict=True):
        _cover(axes, factor, level)
    panels[0].set_ylabel("intervals over x, n(x)")
    return figure


# --- where the factor settles ---------------------------------------------------------------------

_SHARES = (0.35, 0.5, 0.75, 0.95)
LINEAR = (1.3, 0.8)  # spread of x and noise of the decoder, of the linear model in the pictures
_STARTS = (0.5, 4.0)


def _map_panel(axes: Axes) -> None:
    """The next factor over this one, both in units of the fixed point."""
    f = np.geomspace(0.2, 6.0, 200)
    for share, style in zip(_SHARES, _STYLES, strict=True):
        axes.plot(f, share * f + (1.0 - share) / f, style, color=COLOURS["vae"], label=f"{share:g}")
    axes.plot(f, f, color=COLOURS["guide"], linewidth=0.8)
    axes.plot(1.0, 1.0, "o", color=COLOURS["kl"])
    axes.set(xscale="log", yscale="log", xlim=(0.2, 6.0), ylim=(0.5, 6.0))
    axes.set(xlabel="f / f*, this epoch", ylabel="f / f*, next epoch")
    axes.set_xticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "1", "2", "4"])
    axes.set_yticks([0.5, 1, 2, 4], ["½", "1", "2", "4"])
    axes.minorticks_off()
    axes.legend(title="r", fontsize=8, title_fontsize=8)


def _return_panel(axes: Axes, des_std: float, epochs: int) -> None:
    """Factors from both sides: of the map, and of the module that trains."""
    fixed = balance(*LINEAR, des_std)
    for start, colour in zip(_STARTS, (COLOURS["mi"], COLOURS["lagging"]), strict=True):
        by_map = np.array(path(start * fixed.factor, fixed, epochs))
        trained = train_linear(start * fixed.factor, *LINEAR, des_std, epochs + 1).factors
        axes.plot(by_map / fixed.factor, "--", color=colour, linewidth=1)
        ratios, label = np.array(trained) / fixed.factor, f"from {start:g} f*"
        axes.plot(ratios, "o-", color=colour, markersize=4, label=label)
    axes.axhline(1.0, color=COLOURS["guide"], linewidth=0.8)
    axes.set(yscale="log", xlabel="epoch with a shared factor", ylabel="f / f*")
    axes.set_yticks([0.5, 1, 2, 4], ["½", "1", "2", "4"])
    axes.minorticks_off()
    axes.legend(fontsize=8)


def return_figure(des_std: float = 0.7, epochs: int = 10) -> Figure:
    """The epoch map for several r, and ways back to the fixed point from below and above."""
    figure, (left, right) = canvas(8.4, 3.4, 2)
    _map_panel(left)
    _return_panel(right, des_std, epochs)
    return figure
