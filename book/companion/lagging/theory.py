"""Pictures and tables of the page on the statements about lagging inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from companion.claims.formulas import Array, parts
from companion.lagging import statements as lagging
from companion.show.figures import COLOURS
from companion.show.theory import Frames, canvas

# --- the gap of the ELBO --------------------------------------------------------------------------


def gap_figure() -> Figure:
    """ELBO and log p(x) while the mean of q moves, for two standard deviations of q."""
    decoder = (1.0, -0.5, 2.0), 0.7, (0.0, 0.0, 0.0), (0.8, -1.1, 1.6)
    mean = np.linspace(-0.2, 1.8, 161)
    figure, panels = canvas(8.4, 3.2, 2, sharey=True)
    posterior = lagging.linear_gap(*decoder, 0.0, 1.0)
    top, right = posterior.evidence, math.sqrt(posterior.posterior_variance)
    for axes, (name, sd) in zip(panels, (("the right sd", right), ("sd 0.6", 0.6)), strict=True):
        elbo = np.array([lagging.linear_gap(*decoder, m, sd**2).elbo for m in mean])
        axes.axhline(top, color=COLOURS["kl"], linestyle="--", label="log p(x)")
        axes.plot(mean, elbo, color=COLOURS["vae"], label="ELBO")
        shade = {"color": COLOURS["accent"], "alpha": 0.35, "label": "KL(q‖p(z|x))"}
        axes.fill_between(mean, elbo, top, **shade)
        axes.axvline(posterior.posterior_mean, color=COLOURS["guide"], linestyle=":")
        axes.set(xlabel="mean of q(z|x)", title=f"q with {name}", ylim=(-11.0, -2.5))
    panels[0].set_ylabel("nats")
    panels[0].legend(fontsize=8, loc="lower center")
    return figure


_SHARES = [tenths / 10 for tenths in range(11)]  # of the way from the prior to the posterior

# --- the two forces -------------------------------------------------------------------------------


def average_forces(
    weight: Array, share: float, spread: float = 2.0, noise: float = 1.0
) -> lagging.Forces:
    """Both forces on w (G,), averaged over x with E x = 0 and E x^2 = ``spread``.

    The encoder stands between the prior and the posterior of each w: its mean is ``share`` of the
    posterior's, and its variance that far from 1 to the posterior's.
    """
    total = weight**2 + noise**2
    slope, variance = share * weight / total, 1.0 + share * (noise**2 / total - 1.0)
    # The forces are quadratic in x and even, so one point at the deviation gives the average.
    x = math.sqrt(spread)
    return lagging.forces(weight, noise, x, slope * x, variance)


def _force_figure(share: float) -> Figure:
    weight = np.linspace(0.0, 2.0, 101)
    pull = average_forces(weight, share)
    figure, axes = canvas(6.2, 3.7)
    axes.axhline(0.0, color=COLOURS["guide"], linewidth=0.8)
    axes.plot(weight, pull.evidence, "--", color=COLOURS["vae"], label="of log p(x)")
    axes.plot(weight, pull.divergence, ":", color=COLOURS["lagging"], label="of −KL(q‖p(z|x))")
    axes.plot(weight, pull.both, color=COLOURS["kl"], label="both: of the ELBO")
    at, total = weight[5::10], pull.both[5::10]
    colours = [COLOURS["mi"] if value > 0 else COLOURS["aggregate"] for value in total]
    length, none = np.sign(total) * np.sqrt(np.abs(total)), np.zeros_like(at)
    arrows = {"angles": "xy", "scale_units": "xy", "scale": 9.0, "width": 0.006}
    axes.quiver(at, none - 2.2, length, none, color=colours, **arrows)
    axes.text(0.02, -2.05, "direction of the update of w", fontsize=8)
    axes.set(xlabel="dependence of the decoder on z, w", xlim=(0.0, 2.0), ylim=(-2.5, 1.0))
    axes.set_ylabel("force on w (nats per unit of w)")
    axes.legend(fontsize=8, loc="upper right")
    return figure


def force_frames(shares: Sequence[float] = _SHARES) -> Frames:
    """The two forces against w; one frame a position of the encoder."""
    ends = {0.0: " (at the prior)", 1.0: " (at the posterior)"}
    way = "of the way from the prior to the posterior"
    labels = [f"encoder at {share:.0%} {way}{ends.get(share, '')}" for share in shares]
    return Frames([_force_figure(share) for share in shares], labels)


# --- information and mismatch ---------------------------------------------------------------------


def rate_figure() -> Figure:
    """What the KL buys when two posteriors move apart."""
    distance = np.linspace(0.0, 3.0, 61)
    terms = [parts([d, -d], [0.5, 0.5]) for d in distance]
    information = np.array([one.information for one in terms])
    rate = np.array([one.rate for one in terms])
    figure, axes = canvas(5.6, 3.4)
    axes.fill_between(distance, 0.0, information, color=COLOURS["mi"], alpha=0.3)
    axes.fill_between(distance, information, rate, color=COLOURS["aggregate"], alpha=0.3)
    axes.plot(distance, rate, color=COLOURS["kl"], label="E KL(q‖p)")
    axes.plot(distance, information, "--", color=COLOURS["mi"], label="MI (lower area)")
    axes.plot([], [], color=COLOURS["aggregate"], alpha=0.5, linewidth=6, label="KL(q_agg‖p)")
    axes.axhline(np.log(2.0), color=COLOURS["guide"], linestyle=":", label="log 2")
    axes.set(xlabel="posterior means ±d, sd 0.5", ylabel="nats", ylim=(0.0, 4.5))
    axes.legend(fontsize=8, loc="upper left")
    return figure


# --- the mini-batch -------------------------------------------------------------------------------


class Forms(NamedTuple):
    """Both mini-batch forms over S = 1, ..., N, and the exact value; nats."""

    within: Array  # (N,), own x in the batch
    independent: Array  # (N,)
    exact: float


def forms(mean: ArrayLike, sd: ArrayLike) -> Forms:
    """Expectations over every batch, by enumeration."""
    sizes = range(1, len(np.asarray(mean)) + 1)
    return Forms(
        np.array([lagging.within(mean, sd, size) for size in sizes]),
        np.array([lagging.independent(mean, sd, size) for size in sizes]),
        parts(mean, sd).information,
    )


def _minibatch_figure(apart: float) -> Figure:
    points = 6
    both = forms(apart * (np.arange(points) - 2.5), np.ones(points))
    sizes, fine = np.arange(1, points + 1), np.linspace(1.0, points, 100)
    figure, axes = canvas(6.0, 3.6)
    style = {"color": COLOURS["lagging"], "label": "without regard to own x"}
    axes.plot(sizes, both.independent, "s--", **style)
    axes.axhline(both.exact, color=COLOURS["kl"], linewidth=1, label="I_q, all six points")
    axes.plot(sizes, both.within, "o-", color=COLOURS["mi"], label="own x in the batch")
    axes.plot(fine, np.log(fine), ":", color=COLOURS["guide"], label="ceiling log S")
    axes.set(xlabel="mini-batch size S", ylabel="expected estimate (nats)", ylim=(-0.1, 200.0))
    axes.set_yscale("symlog", linthresh=2.0)
    axes.set_yticks([0, 0.5, 1, 1.5, 2, 10, 100], ["0", "0.5", "1", "1.5", "2", "10", "100"])
    axes.minorticks_off()
    axes.legend(fontsize=8, loc="upper right")
    return figure


def minibatch_frames(apart: Sequence[float] = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)) -> Frames:
    """Both forms against S; one frame a distance between neighbouring posteriors."""
    labels = [f"neighbouring means {value:g} standard deviations apart" for value in apart]
    return Frames([_minibatch_figure(value) for value in apart], labels)


# --- the grid -------------------------------------------------------------------------------------


def worst_error(ratio: Array) -> Array:
    """Largest error over the places of the mean, in strides; from sums over the grid."""
    places = (32.0 + np.linspace(0.0, 0.5, 51)).tolist()
    return np.array(
        [max(abs(lagging.grid_mean(m, r, 0.0, 64.0, 1.0) - m) for m in places) for r in ratio]
    )


def stride_figure() -> Figure:
    """Worst error against standard deviation over stride, with its leading term."""
    ratio, fine = np.linspace(0.05, 1.2, 47), np.linspace(0.2, 1.2, 200)
    figure, axes = canvas(6.0, 3.5)
    dots = {"color": COLOURS["vae"], "markersize": 4, "label": "sum over a grid"}
    axes.plot(ratio, worst_error(ratio), "o", **dots)
    line = {"color": COLOURS["lagging"], "label": "4π (s/h)² exp(−2π² s²/h²)"}
    axes.plot(fine, lagging.wave(math.pi, fine), **line)
    axes.axhline(0.5, color=COLOURS["guide"], linestyle="--", label="half a stride")
    axes.set(yscale="log", ylim=(1e-12, 3.0), xlabel="posterior sd over stride, s/h")
    axes.set_ylabel("worst error of the mean (strides)")
    axes.legend(fontsize=8, loc="lower left")
    return figure
