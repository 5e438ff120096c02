"""What the page on DU-VAE's propositions shows: examinations, numbers for pictures, figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.claims.formulas import ALPHA, Array
from companion.du import statements as du
from companion.du import statements_dropout as dropout
from companion.du.statements_dropout import Dropout
from companion.show.figures import COLOURS
from companion.show.theory import Frames, canvas, curve

PRINTED_KEEP = (0.9, 0.8)  # of DU-VAE's table 1
VARIANCES = (0.07, 0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.6, 2.5, 4.0)  # of the slider
_CROSS = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
_RATIOS = (2.0, 5.0, 1.0 / ALPHA, 4.0 / ALPHA)  # variance over alpha
_LINES = (("vae", "-"), ("lagging", "--"), ("mi", "-."), ("aggregate", ":"))


# --- D3 -------------------------------------------------------------------------------------------


class Cloud(NamedTuple):
    """Random sets of posteriors, with the bound taken for C = 1."""

    label: str
    bound: Array  # (K,), sum of the variances of the means, nats
    mpd: Array  # (K,), nats


_SPREADS = (
    ("every σ² is 1", 1.0, 1.0),
    ("σ² from ½ to 1", 0.5, 1.0),
    ("σ² from 0.02 to 1", 0.02, 1.0),
    ("σ² from 4 to 9, beyond C", 4.0, 9.0),
)


def tightness(sets: int = 60) -> list[Cloud]:
    """Sets of 5 posteriors in 3 dimensions; log-variances uniform within four ranges."""
    random = np.random.default_rng(11)
    clouds = []
    for label, low, high in _SPREADS:
        size = 10.0 ** random.uniform(-1.5, 1.0, (sets, 1, 1))
        means = size * random.normal(size=(sets, 5, 3))
        variances = np.exp(random.uniform(math.log(low), math.log(high), (sets, 5, 3)))
        bound = [float(du.variance_bound(mean, 1.0)) for mean in means]
        mpd = [du.pairwise_mpd(*q) for q in zip(means, variances, strict=True)]
        clouds.append(Cloud(label, np.array(bound), np.array(mpd)))
    return clouds


def tightness_figure(clouds: Sequence[Cloud]) -> Figure:
    """MPD against its lower bound."""
    figure, axes = canvas(5.2, 4.0)
    ends = np.array([min(cloud.bound.min() for cloud in clouds), 300.0])
    axes.plot(ends, ends, "-", color=COLOURS["kl"], linewidth=1, label="MPD equal to the bound")
    for cloud, (colour, _), marker in zip(clouds, _LINES, "o^sx", strict=True):
        style: dict[str, Any] = {
            "color": COLOURS[colour],
            "markersize": 3.5 if marker == "o" else 5,
        }
        axes.plot(cloud.bound, cloud.mpd, marker, label=cloud.label, **style)
    axes.set(xscale="log", yscale="log")
    axes.set(xlabel="Σ Var[μ] / C with C = 1 (nats)", ylabel="MPD (nats)")
    axes.legend(fontsize=7)
    return figure


# --- D4 -------------------------------------------------------------------------------------------


def zero_shares(keep: float, dimensions: int = 4) -> Array:
    """Probability that 0, 1, ... D dimensions are kept; the first is that of entropy 0."""
    counts = np.arange(dimensions + 1)
    ways = np.array([math.comb(dimensions, int(k)) for k in counts])
    return np.asarray(ways * keep**counts * (1.0 - keep) ** (dimensions - counts))


def _entropies(axes: Axes) -> None:
    """Entropy of one dimension with and without the noise."""
    variance = np.geomspace(1e-4, 4.0, 200)
    bare, noisy = du.entropy(variance), du.entropy(variance + ALPHA)
    curve(axes, variance, bare, "lagging", "--", "without noise")
    curve(axes, variance, noisy, "vae", "-", "with noise of variance α")
    axes.axhline(0.0, color=COLOURS["guide"], linewidth=0.8)
    axes.axvline(ALPHA, color=COLOURS["guide"], linewidth=0.8, linestyle=":")
    axes.annotate("α", (ALPHA, 1.8), xytext=(-10, 0), textcoords="offset points", fontsize=9)
    axes.set(xscale="log", xlabel="variance that the encoder gives", ylabel="entropy (nats)")
    axes.legend(fontsize=8, loc="lower right")


def noise_figure(dimensions: int = 4) -> Figure:
    """Entropy of one dimension against its variance, and how many dimensions a mask keeps."""
    figure, (left, right) = canvas(8.4, 3.2, 2)
    _entropies(left)
    counts = np.arange(dimensions + 1)
    bars = zip((*PRINTED_KEEP, 0.5), _LINES, ("", "///", "..."), strict=False)
    for place, (keep, (colour, _), hatch) in enumerate(bars):
        style: dict[str, Any] = {"color": COLOURS[colour], "hatch": hatch, "edgecolor": "white"}
        shares, at = zero_shares(keep, dimensions), counts + 0.27 * (place - 1)
        right.bar(at, shares, 0.25, label=f"p = {keep:g}", **style)
    right.set_xticks(counts, ["0\nH = 0", *(str(k) for k in counts[1:])])
    right.set(yscale="log", ylim=(5e-5, 1.5), ylabel="probability")
    right.set_xlabel(f"dimensions kept, of {dimensions}")
    right.legend(fontsize=8, loc="upper left")
    return figure


# --- D6 to D8 -------------------------------------------------------------------------------------


class Curves(NamedTuple):
    """Five posteriors with means in a cross and one variance, under dropout."""

    keep: Array  # (K,), p
    mpd: Array  # (K,), MPD_B, nats
    entropy: Array  # (K,), CE_B, nats
    bound: Array  # (K,), equation 8, nats
    mpd_before: float
    entropy_before: float
    mpd_limit: float  # at p = 0
    entropy_limit: float


def curves(variance: float) -> Curves:
    """MPD, conditional entropy and equation 8 against p, for one variance above alpha."""
    keep = np.concatenate([np.geomspace(1e-3, 0.05, 12, endpoint=False), np.linspace(0.05, 1, 39)])
    above = np.full(_CROSS.shape, variance - ALPHA)
    cases = [Dropout(_CROSS, above, float(p)) for p in keep]
    return Curves(
        keep,
        np.array([dropout.dropped_mpd(case) for case in cases]),
        np.array([dropout.dropped_entropy(case) for case in cases]),
        np.array([dropout.dropout_bound(case) for case in cases]),
        du.pairwise_mpd(_CROSS, np.full(_CROSS.shape, variance)),
        du.conditional_entropy(np.full(_CROSS.shape, variance)),
        float(dropout.limit_mpd(cases[0])),
        dropout.D8.constants["rest"] * _CROSS.shape[1],
    )


def _limits(axes: Axes, before: float, limit: float) -> None:
    kl, guide = COLOURS["kl"], COLOURS["guide"]
    axes.axhline(before, color=kl, linestyle="--", linewidth=1, label="no dropout (p = 1)")
    axes.axhline(limit, color=guide, linestyle=":", linewidth=1.5, label="limit p → 0")
    axes.plot([0.0, 1.0], [limit, before], "o", color=kl, markersize=4)
    axes.set(xlim=(-0.02, 1.02), xlabel="p, probability of keeping a variance")


def _frame(one: Curves) -> Figure:
    figure, (left, right) = canvas(8.4, 3.3, 2)
    inner = one.keep < 1.0
    curve(left, one.keep, one.mpd, "vae", "-", "MPD under dropout")
    curve(left, one.keep[inner], one.bound[inner], "mi", "-.", "bound, equation 8")
    _limits(left, one.mpd_before, one.mpd_limit)
    left.set(yscale="log", ylim=(0.01, 150.0), ylabel="MPD (nats)")
    left.legend(fontsize=7, loc="lower left")
    curve(right, one.keep, one.entropy, "lagging", "-", "H(z|x) under dropout")
    _limits(right, one.entropy_before, one.entropy_limit)
    right.set(ylim=(-0.15, 5.8), ylabel="conditional entropy (nats)")
    right.legend(fontsize=7, loc="upper left")
    return figure


def frames() -> Frames:
    """A frame for each variance, and their labels."""
    every = {variance: curves(variance) for variance in VARIANCES}
    labels = [
        f"σ² = {variance:g}: MPD {one.mpd_before:.2f} without dropout, {one.mpd_limit:.1f} as p → 0"
        for variance, one in every.items()
    ]
    return Frames([_frame(one) for one in every.values()], labels)


def gap_figure() -> Figure:
    """What dropout adds to E[1/variance] and takes from the entropy of one dimension."""
    figure, (left, right) = canvas(8.4, 3.4, 2)
    keep = np.linspace(1e-3, 1.0, 300)
    for ratio, (colour, style) in zip(_RATIOS, _LINES, strict=True):
        above = np.array((ratio - 1.0) * ALPHA)
        added = [ALPHA * dropout.raised_inverse(above, p, ALPHA) for p in keep]
        taken = [0.5 * dropout.lowered_log(above, float(p), ALPHA) for p in keep]
        label = f"σ²/α = {ratio:.3g}"
        curve(left, keep, added, colour, style, label)
        curve(right, keep, taken, colour, style, label)
    for axes in (left, right):
        for p in PRINTED_KEEP:
            axes.axvline(p, color=COLOURS["guide"], linewidth=0.6)
        axes.set(xlim=(0, 1), ylim=(0, None), xlabel="p, probability of keeping a variance")
    left.set_ylabel("α (E[1/σ̂²] − 1/σ²)")
    right.set_ylabel("entropy taken, one dimension (nats)")
    right.legend(fontsize=8)
    return figure


# --- D9 -------------------------------------------------------------------------------------------


def bound_ratio(spread: float, variance: float, keep: float = 0.8) -> float:
    """MPD under dropout over equation 8's bound, where the variances of the means sum to spread."""
    mean = _CROSS * math.sqrt(spread / float(du.mean_variance(_CROSS)))
    case = Dropout(mean, np.full(mean.shape, variance - ALPHA), keep)
    return float(dropout.dropped_mpd(case) / dropout.dropout_bound(case))


def bound_figure(keep: float = 0.8) -> Figure:
    """MPD under dropout in units of its bound."""
    figure, axes = canvas(5.2, 3.4)
    spreads = np.geomspace(1e-2, 1e5, 80)
    for variance, (colour, style) in zip((0.1, 1.0, 4.0, 100.0), _LINES, strict=True):
        ratio = [bound_ratio(float(spread), variance, keep) for spread in spreads]
        curve(axes, spreads, ratio, colour, style, f"σ² = {variance:g}")
    axes.axhline(1.0, color=COLOURS["kl"], linewidth=1)
    axes.set(xscale="log", yscale="log", ylim=(0.8, 1e3))
    axes.set(xlabel="Σ Var[μ]", ylabel="MPD under dropout / bound")
    axes.legend(fontsize=8)
    return figure
