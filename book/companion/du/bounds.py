"""What the page on bounds that do and do not prevent collapse shows beside its checks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.claims.formulas import Array, log_gaussian
from companion.claims.printed import printed
from companion.claims.verdicts import Check, Finding, Interval, Outcome, answer
from companion.du import statements_bounds as theory
from companion.du import statements_flows as flows
from companion.du.statements import conditional_entropy, pairwise_mpd
from companion.show.figures import COLOURS
from companion.show.theory import Frames, canvas, curve
from posterior_collapse.posteriors import DiagonalNormal, Flowed, draw

DIMENSIONS = 32  # of z, in the tables of both papers


# --- dropout (D10, D10b) --------------------------------------------------------------------------


def collapse_figure(variances: Sequence[float] = (1.0, 0.5, 0.2)) -> Figure:
    """MPD under dropout against p where all posteriors are the same, D = 32.

    Args:
        variances: one curve each; 1 is the prior's.
    """
    figure, axes = canvas(5.6, 3.4)
    p = np.linspace(0.3, 1.0, 141)
    styles = (("vae", "-"), ("lagging", "--"), ("mi", ":"))
    for variance, (colour, style) in zip(variances, styles, strict=True):
        values = theory.collapsed_mpd(variance, p, dimensions=DIMENSIONS)
        curve(axes, p, values, colour, style, f"dropped MPD, every q has σ² = {variance:g}")
    axes.axhline(0.0, color=COLOURS["kl"], linewidth=1, label="MPD of the same posteriors")
    marked = float(theory.collapsed_mpd(1.0, 0.8, dimensions=DIMENSIONS))
    axes.plot([0.8], [marked], "o", color=COLOURS["vae"])
    axes.annotate(f"{marked:.4f}", (0.8, marked), (6, 6), textcoords="offset points", fontsize=9)
    axes.set(xlabel="p, the probability to keep a variance", ylabel="divergence (nats), D = 32")
    axes.legend(fontsize=8)
    return figure


def mixture_figure(keep: float, variance: float = 0.5) -> Figure:
    """Divergence of two posteriors against their distance: three readings of dropout, and none."""
    figure, axes = canvas(5.6, 3.6)
    apart = np.linspace(0.25, 8.0, 63)
    mixed = np.array([theory.mixture_kl(float(d), variance, keep) for d in apart])
    plain = apart**2 / (2.0 * variance)
    averaged, bound = (f(apart, variance, keep) for f in (theory.dropped_kl, theory.mixture_bound))
    curve(axes, apart, averaged, "lagging", "-.", "averaged over masks")
    curve(axes, apart, plain, "kl", "-", "no dropout")
    curve(axes, apart, mixed, "vae", "--", "mask integrated out")
    curve(axes, apart, bound, "guide", ":", "bound on the latter")
    below = list(mixed < plain)
    axes.fill_between(apart, mixed, plain, where=below, color=COLOURS["sky"], alpha=0.4)
    axes.set(xlabel="distance of the means", ylabel="KL between two posteriors (nats)")
    axes.set(yscale="log", ylim=(0.05, 500.0), title=f"p = {keep:g}, σ² = {variance:g}")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def mixture_frames() -> Frames:
    """Frames and labels over p."""
    keeps = (0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
    return Frames([mixture_figure(keep) for keep in keeps], [f"p = {keep:g}" for keep in keeps])


# --- a KL without information (D12, D12b) ---------------------------------------------------------

_OFFSETS = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
_VARIANCE = 0.25
_SHIFTS = np.linspace(0.0, 2.4, 13)


class Measures(NamedTuple):
    """Of five posteriors in one dimension, for each shared mean; nats, (13,)."""

    kl: Array
    mi: Array
    mpd: Array


def measures(offsets: Array, shifts: Array = _SHIFTS) -> Measures:
    """KL, MI and MPD of N(shift + offset_i, 0.25) as the shared mean moves."""
    variance, rows = np.full(len(offsets), _VARIANCE), []
    for shift in shifts:
        mean = offsets + shift
        columns = mean[:, None], variance[:, None]
        mi = max(theory.information(mean, variance), 0.0)  # not below 0 by rounding
        rows.append((theory.average_kl(*columns), mi, pairwise_mpd(*columns)))
    return Measures(*np.array(rows).T)


def _densities(axes: Axes, means: Array) -> None:
    """Posteriors in colour over the prior."""
    z = np.linspace(-4.0, 5.0, 361)
    curve(axes, z, np.exp(log_gaussian(z, 0.0, 1.0)), "guide", "--", "prior")
    for number, mean in enumerate(means):
        density = np.exp(log_gaussian(z, mean, _VARIANCE))
        curve(axes, z, density, "vae", "-", None if number else "q(z|x)")
    axes.set(xlim=(-4.0, 5.0), ylim=(0.0, 1.0), xlabel="z", ylabel="density")


def _measure_lines(axes: Axes, lines: Measures, at: int) -> None:
    styles = (("KL", "kl", "-", "o"), ("MI", "mi", "--", "^"), ("MPD", "lagging", ":", "s"))
    for (name, colour, style, marker), values in zip(styles, lines, strict=True):
        curve(axes, _SHIFTS, values, colour, style, name)
        axes.plot(_SHIFTS[at], values[at], marker, color=COLOURS[colour])
    axes.set(xlabel="shared mean b", ylabel="nats", ylim=(-0.2, 4.2))


def abnormal_figure(same: Measures, apart: Measures, at: int) -> Figure:
    """Posteriors and their measures at one shared mean: all the same above, spread out below."""
    figure, grid = canvas(6.6, 4.6, 2, 2)
    rows = (("all posteriors equal", np.zeros(5), same), ("five apart", _OFFSETS, apart))
    for line, (title, offsets, values) in zip(grid, rows, strict=True):
        _densities(line[0], offsets + _SHIFTS[at])
        _measure_lines(line[1], values, at)
        line[0].set_title(title, fontsize=9)
    for axes in grid[0]:
        axes.legend(fontsize=8, loc="upper left")
    return figure


def abnormal_frames() -> Frames:
    """Frames and labels as the shared mean moves from 0 to 2.4."""
    same, apart = measures(np.zeros(5)), measures(_OFFSETS)
    frames = [abnormal_figure(same, apart, at) for at in range(len(_SHIFTS))]
    labels = [
        f"shared mean {shift:.1f}: KL {same.kl[at]:.2f}, MI {same.mi[at]:.2f}, MPD "
        f"{same.mpd[at]:.2f} where all are equal; KL {apart.kl[at]:.2f}, MI {apart.mi[at]:.2f}, "
        f"MPD {apart.mpd[at]:.2f} where five are apart (nats)"
        for at, shift in enumerate(_SHIFTS)
    ]
    return Frames(frames, labels)


def outlier_figure(levels: Sequence[float] = (1.0, 10.0, 100.0)) -> Figure:
    """Information of N posteriors one of which is apart, at fixed MPD."""
    figure, axes = canvas(5.6, 3.4)
    points = np.unique(np.geomspace(2, 10_000, 25).astype(int))
    axes.plot(points, theory.outlier_ceiling(points), color="0.8", linewidth=6, label="H(1/N)")
    styles = (("vae", "o--"), ("lagging", "^--"), ("mi", "s--"))
    for level, (colour, style) in zip(levels, styles, strict=True):
        values = [theory.outlier_information(level, int(n)) for n in points]
        curve(axes, points, values, colour, style, f"I, MPD = {level:g} nats")
    axes.set(xscale="log", yscale="log", xlabel="number of data points N", ylabel="I(x; z) (nats)")
    axes.legend(fontsize=8)
    return figure


# --- printed KLs against their floors (D12, D13) --------------------------------------------------

_TABLES = (("DU-VAE", "du", "table1"), ("Scale-VAE", "scale", "table1"))
# Beginning of a method's printed name -> what its floor holds for.
_KINDS = {
    "δ-VAE": "δ",
    "BN-VAE": "batch norm",
    "DU-VAE": "batch norm",
    "IAF+BN": "z⁰ of a flow",
    "DU-IAF": "z⁰ of a flow",
}


def _kind(method: str) -> str:
    return next((kind for name, kind in _KINDS.items() if method.startswith(name)), "")


def _floor(row: Mapping[Hashable, Any], kind: str) -> float:
    """D delta, or D (gamma^2 + beta^2) / 2 with beta = 0 where it is learned."""
    if kind == "δ":
        return DIMENSIONS * row["delta"]
    shift = row.get("shift", np.nan)
    return float(theory.floor(DIMENSIONS, row["gamma"], 0.0 if np.isnan(shift) else shift))


def printed_floors() -> pd.DataFrame:
    """Every printed KL of a method that has a floor, with it.

    Returns:
        Columns paper, dataset, method, holds for, floor, KL, MI and ``above``: whether the KL is
        no lower than the floor, give or take half of the last printed digit.
    """
    columns = ("paper", "dataset", "method", "holds for", "floor", "KL", "MI", "above")
    rows = []
    for paper, folder, name in _TABLES:
        for row in printed(folder, name).to_dict("records"):
            kind, kl = _kind(str(row["method"])), row["kl"]
            if not kind or np.isnan(kl):
                continue
            least = _floor(row, kind)
            half_digit = 0.005 if row["dataset"] == "OMNIGLOT" else 0.05
            above = bool(kl + half_digit + 1e-9 >= least)
            rows.append((paper, row["dataset"], row["method"], kind, least, kl, row["mi"], above))
    return pd.DataFrame(rows, columns=list(columns))


def silent_rows(floors: pd.DataFrame) -> pd.DataFrame:
    """The printed rows with a positive KL and an MI of 0, and what their KL is made of."""
    rows = floors[(floors["MI"] == 0.0) & (floors["KL"] > 0.0)]
    return rows[["paper", "dataset", "method", "floor", "KL", "MI"]].reset_index(drop=True)


_SHAPES = {
    "δ": ("D", "accent", "δ-VAE"),
    "batch norm": ("o", "vae", "BN-VAE and DU-VAE"),
    "z⁰ of a flow": ("^", "lagging", "flow: floor of z⁰"),
}


def floor_figure(floors: pd.DataFrame) -> Figure:
    """Printed KLs beside their floors; open markers have a printed MI of 0."""
    figure, axes = canvas(7.0, 0.24 * len(floors) + 0.9)
    bar: dict[str, Any] = {"color": COLOURS["kl"], "markersize": 11, "markeredgewidth": 2}
    seen, texts = set(), []
    for place, row in enumerate(floors.to_dict("records")):
        kind, silent = str(row["holds for"]), row["MI"] == 0.0
        marker, colour, name = _SHAPES[kind]
        axes.plot([row["floor"], row["KL"]], [place] * 2, color=COLOURS["guide"], linewidth=0.8)
        axes.plot(row["floor"], place, "|", **bar)
        label = None if kind in seen or silent else name
        seen |= {kind} if label else set()
        style: dict[str, Any] = {
            "color": COLOURS[colour],
            "fillstyle": "none" if silent else "full",
        }
        axes.plot(row["KL"], place, marker, linestyle="", label=label, **style)
        texts.append(f"{str(row['method']).split(' (')[0]}, {row['dataset']} ({row['paper']})")
    axes.plot([], [], "|", label="floor", **bar)
    axes.set_yticks(range(len(floors)), texts, fontsize=7)
    axes.invert_yaxis()
    axes.set(xlabel="nats per example", xlim=(0.0, None))
    axes.legend(fontsize=8, loc="upper right")
    return figure


def _counted(quantity: str, rule: str, number: int, of: int, holds: bool) -> Check:
    outcome = Outcome.HOLDS if holds else Outcome.FAILS
    text = f"{number} of {of} printed rows"
    return Check(quantity, rule, Interval(number, number, number, of), outcome, text)


def decide_tables(floors: pd.DataFrame) -> Finding:
    """Do the printed KLs keep their floors, and do the rows without information show anything?"""
    flow = floors["holds for"] == "z⁰ of a flow"
    direct, pushed = floors[~flow], floors[flow]
    below, silent = int((~direct["above"]).sum()), len(silent_rows(direct))
    under, some = int((~pushed["above"]).sum()), "at least one"
    checks = (
        ("KL below its floor", "none, after rounding", below, len(direct), below == 0),
        ("KL on its floor or above and MI 0", some, silent, len(direct), silent > 0),
        ("KL of zᵀ below the floor of z⁰", some, under, len(pushed), under > 0),
    )
    return answer(
        "The printed KLs keep the floors of δ-VAE and of batch norm, some of them without any "
        "information, and a floor of z⁰ is none of zᵀ",
        "exact",
        [_counted(*check) for check in checks],
    )


# --- the floor with eps (D13b) --------------------------------------------------------------------

EPS_SPREADS = tuple(10.0 ** np.linspace(-5, 0, 21))
_PATTERN = np.array([-2.0, -1.0, 1.0, 2.0]) / np.sqrt(2.5)  # std 1 with ddof 0


def layer_kl(spread: float, gamma: float, eps: float) -> float:
    """Average KL of the library's BN-VAE with unit variances on four raw means of this std."""
    mean = theory.library_norm(spread * _PATTERN[:, None], gamma, eps=eps)
    return theory.average_kl(mean, np.ones_like(mean))


def eps_figure(gamma: float = 0.6) -> Figure:
    """The floor of the library's layer against the spread of the raw means, D = 32."""
    figure, axes = canvas(5.6, 3.4)
    for eps, colour, style in ((1e-5, "vae", "o-"), (1e-8, "lagging", "^--")):
        values = [DIMENSIONS * layer_kl(spread, gamma, eps) for spread in EPS_SPREADS]
        curve(axes, EPS_SPREADS, values, colour, style, f"eps = {eps:g}")
    floor = float(theory.floor(DIMENSIONS, gamma))
    axes.axhline(floor, color=COLOURS["kl"], linewidth=1, label="printed floor")
    axes.set(xscale="log", xlabel="std of the raw means over the batch")
    axes.set(yscale="log", ylabel="least average KL (nats), D = 32")
    axes.legend(fontsize=8)
    return figure


# --- flows (D14, D15, D15b) -----------------------------------------------------------------------


class Survey(NamedTuple):
    """Random flows of the library, a row each: before and after, and standard errors after."""

    entropy: Array  # (F, 3) nats
    same_context: Array  # (F, 3) MPD where every x has one context
    own_context: Array  # (F, 3) MPD where every x has its own
    blocks: Array  # (F,)


def _expanded(q: Flowed, point: int, context: torch.Tensor) -> Flowed:
    """The posterior of one point as a batch of one, with this context (1, F)."""
    base = DiagonalNormal(q.base.mean[point : point + 1], q.base.logvar[point : point + 1])
    return Flowed(base, q._bijection, context)


def _image_mpd(q: Flowed, contexts: torch.Tensor, draws: int, seed: int) -> tuple[float, float]:
    """MPD of z^T by Monte Carlo over all pairs, through the library's densities."""
    random = torch.Generator().manual_seed(seed)
    points = len(contexts)
    parts = [_expanded(q, i, contexts[i : i + 1]) for i in range(points)]
    ratios = torch.zeros(points, points, draws, dtype=torch.float64)
    for i, one in enumerate(parts):
        z = draw(one, (draws,), random)
        own = one.log_prob(z)[:, 0]
        for j, other in enumerate(parts):
            ratios[i, j] = own - other.log_prob(z)[:, 0] if i != j else 0.0
    # The pairs of one z share its draws.
    error = (ratios.sum(1).var(-1) / draws).sum().sqrt() / points**2
    return float(ratios.mean()), float(error)


def flow_survey(count: int = 12, draws: int = 1000) -> Survey:
    """Random flows of the library in two dimensions, four data points each.

    Args:
        count: flows; 1, 2 and 4 blocks in turn.
        draws: of z^T for each data point.
    """
    entropy, same, own, blocks = [], [], [], []
    for seed in range(count):
        depth = (1, 2, 4)[seed % 3]
        head = flows.random_flow(2, depth, seed, scale=0.5)
        random = torch.Generator().manual_seed(seed)
        features = torch.randn((4, 3), generator=random, dtype=torch.float64)
        q = flows.flow_of(head, features)
        before = pairwise_mpd(*flows.base_of(q))
        with torch.no_grad():
            terms = -q.log_prob(draw(q, (5 * draws,), random))
            after = float(terms.mean()), float((terms.var(0) / len(terms)).sum().sqrt() / 4)
            entropy.append((conditional_entropy(flows.base_of(q)[1]), *after))
            contexts = head.context(features)
            shared = contexts[:1].expand_as(contexts)
            same.append((before, *_image_mpd(q, shared, draws, seed)))
            own.append((before, *_image_mpd(q, contexts, draws, seed)))
        blocks.append(depth)
    return Survey(np.array(entropy), np.array(same), np.array(own), np.array(blocks))


def chain_entropies(count: int = 12) -> Array:
    """CE before and after (count, 2) of two random blocks whose scales are only positive."""
    random, pairs = np.random.default_rng(0), []
    for _ in range(count):
        variance = random.uniform(0.1, 1.5, (4, 2))
        scales = np.exp(random.normal(0.0, 0.7, (2, 4, 2)))
        _, image = flows.chained(0.0 * variance, variance, scales, 0.0 * scales)
        pairs.append((conditional_entropy(variance), conditional_entropy(image)))
    return np.array(pairs)


def _entropy_panel(axes: Axes, entropy: Array, blocks: Array, chains: Array) -> None:
    """CE after against before, and the line on which nothing changes."""
    style: dict[str, Any] = {"color": COLOURS["lagging"], "fillstyle": "none"}
    axes.plot(*chains.T, "s", label="any positive scale", **style)
    for depth, marker in ((1, "o"), (2, "^"), (4, "D")):
        chosen = entropy[blocks == depth]
        label = f"sigmoid gates, {depth} block{'s' if depth > 1 else ''}"
        axes.plot(chosen[:, 0], chosen[:, 1], marker, color=COLOURS["vae"], label=label)
    values = np.concatenate([entropy[:, :2].ravel(), chains.ravel()])
    ends = [float(values.min()), float(values.max())]
    axes.plot(ends, ends, "--", color=COLOURS["guide"], linewidth=1)
    axes.set(xlabel="CE of z⁰ (nats)", ylabel="CE of zᵀ (nats)")


def flow_figure(survey: Survey, chains: Array) -> Figure:
    """CE and MPD after a flow against those before it; on the dashed lines nothing changes."""
    figure, (left, right) = canvas(8.0, 3.7, 2)
    _entropy_panel(left, survey.entropy, survey.blocks, chains)
    for rows, marker, colour, label in (
        (survey.same_context, "o", "vae", "one context for all x"),
        (survey.own_context, "^", "lagging", "a context for each x"),
    ):
        x, ratio, error = rows[:, 0], rows[:, 1] / rows[:, 0], rows[:, 2] / rows[:, 0]
        right.errorbar(x, ratio, 2 * error, fmt=marker, color=COLOURS[colour], label=label)
    right.axhline(1.0, linestyle="--", color=COLOURS["guide"], linewidth=1)
    right.set(xlabel="MPD of z⁰ (nats)", ylabel="MPD of zᵀ over MPD of z⁰")
    for axes in (left, right):
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.35 * (high - low))  # room for the legend
        axes.legend(fontsize=8, loc="upper left")
    return figure


def steered_figure(mpd0: float, mpd1: float) -> Figure:
    """Two posteriors before and after a block of the library that is built to give this MPD."""
    q = flows.steered_flow(mpd0, mpd1)
    (figure, pair), z = canvas(6.6, 2.8, 2), np.linspace(-4.0, 6.0, 401)
    panels = (("z⁰", flows.base_of(q)), ("zᵀ", flows.gaussian_image(q)))
    for axes, (name, code) in zip(pair, panels, strict=True):
        lines = zip(("-", "--"), ("vae", "lagging"), *code, strict=True)
        for style, colour, mean, variance in lines:
            curve(axes, z, np.exp(log_gaussian(z, mean, variance)), colour, style)
        axes.set_title(f"MPD({name}) = {pairwise_mpd(*code):.2f}", fontsize=9)
        axes.set(xlabel=name, ylabel="density", ylim=(0.0, 0.9), xlim=(-4, 6))
    return figure


def steered_frames(mpd0: float = 1.0) -> Frames:
    """Frames and labels: MPD of z^0 stays, that of z^T goes from 0 up."""
    wanted = np.arange(0.0, 4.5, 0.5)
    labels = [f"MPD of z⁰ {mpd0:g}, MPD of zᵀ {value:g}" for value in wanted]
    return Frames([steered_figure(mpd0, float(value)) for value in wanted], labels)
