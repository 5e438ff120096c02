"""Pictures and tables of the page on AutoGen's bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from companion.autogen import statements as autogen
from companion.autogen.statements import TOY, Gaussian, Toy
from companion.numbers import number
from companion.show.figures import COLOURS
from posterior_collapse.layers import Progress
from posterior_collapse.objectives import ELBO, AutoGen, Constant, Linear

__all__ = [
    "Annealing",
    "annealing",
    "annealing_figure",
    "encoder_figure",
    "excess",
    "excess_figure",
    "gradient_table",
    "moment_frames",
    "orders_table",
]

Array = NDArray[np.float64]

_ORDERS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)  # m of the slider


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


# --- A1 and A2 ------------------------------------------------------------------------------------


class Readings(NamedTuple):
    """The same m in three readings, nats."""

    at_posterior: float  # L_m at the posterior: the tangent
    own: float  # each reconstruction its own code: the chord
    shared: float  # one code for all: the curve


def readings(toy: Toy, m: float) -> Readings:
    """The bound at the posterior and the two objectives that m reconstructions can mean."""
    posterior = autogen.tilted(toy, 1.0)
    return Readings(
        autogen.bound(toy, posterior, 1.0 + m),
        autogen.own_codes(toy, m),
        autogen.log_moment(toy, 1.0 + m),
    )


def _moment_frame(m: float) -> Figure:
    """The curve log M_k, its chord and its tangent, read at k = 1 + m."""
    figure = _figure(6.2, 3.6)
    axes = figure.subplots()
    k = np.linspace(0.5, 6.3, 117)
    curve = [autogen.log_moment(TOY, float(order)) for order in k]
    lines = {name: [getattr(readings(TOY, o - 1.0), name) for o in k] for name in Readings._fields}
    found = readings(TOY, m)
    axes.plot(k, curve, color=COLOURS["vae"], label="log M, one code for all")
    axes.plot(k, lines["own"], "--", color=COLOURS["lagging"], label="chord, own codes")
    axes.plot(
        k, lines["at_posterior"], ":", color=COLOURS["mi"], label="tangent, L at the posterior"
    )
    axes.axvline(1.0 + m, color=COLOURS["guide"], linewidth=0.8)
    for name, marker, colour in (
        ("shared", "o", "vae"),
        ("own", "^", "lagging"),
        ("at_posterior", "s", "mi"),
    ):
        axes.plot(1.0 + m, getattr(found, name), marker, color=COLOURS[colour], markersize=7)
    evidence = autogen.log_moment(TOY, 1.0)
    axes.plot(1.0, evidence, "*", color="black", markersize=10)
    axes.text(1.1, evidence + 0.12, "log p(x)", fontsize=8)
    axes.set(xlabel="order k; read at k = 1 + m", ylabel="nats", xlim=(0.5, 6.3), ylim=(-4.6, -0.7))
    axes.legend(loc="upper right", fontsize=8)
    return figure


def moment_frames() -> tuple[list[Figure], list[str]]:
    """Frames over m, and what stands under each."""
    labels = []
    for m in _ORDERS:
        values = [number(value, 3) for value in readings(TOY, m)]
        labels.append(
            f"m = {m:g}: L at the posterior {values[0]}, own codes {values[1]}, "
            f"one code {values[2]} nats"
        )
    return [_moment_frame(m) for m in _ORDERS], labels


def orders_table(toy: Toy = TOY) -> pd.DataFrame:
    """The best encoder for each m, the three readings, and the ELBO that is left; nats."""
    rows = []
    for m in (0, 1, 2, 4, 8):
        best, found = autogen.tilted(toy, 1.0 + m), readings(toy, m)
        rows.append(
            {
                "m": str(m),
                "best q: mean": best.mean,
                "best q: sd": best.variance**0.5,
                "L at the best q": found.shared,
                "own codes": found.own,
                "L at the posterior": found.at_posterior,
                "ELBO at the best q": autogen.bound(toy, best, 1.0),
            }
        )
    return pd.DataFrame(rows)


def _density(q: Gaussian, z: Array) -> Array:
    spread = (z - q.mean) ** 2 / q.variance
    return np.asarray(np.exp(-0.5 * spread) / np.sqrt(2.0 * np.pi * q.variance))


def encoder_figure(toy: Toy = TOY) -> Figure:
    """Left: the best encoders. Right: L_m along the tilted encoders, against both objectives."""
    figure = _figure(9.2, 3.3)
    left, right = figure.subplots(1, 2)
    z = np.linspace(-1.5, 2.0, 401)
    styles = [("prior", 0.0, ":", "guide"), ("posterior, m = 0", 1.0, "-", "kl")]
    styles += [("m = 1", 2.0, "--", "vae"), ("m = 2", 3.0, "-.", "lagging")]
    for name, order, style, colour in styles:
        density = _density(autogen.tilted(toy, order), z)
        left.plot(z, density, style, color=COLOURS[colour], label=name)
    left.set(xlabel="code z", ylabel="density of the best q")
    left.legend(fontsize=8)
    k = np.linspace(0.6, 6.0, 109)
    for m, style, colour in ((1, "--", "vae"), (2, "-.", "lagging")):
        level = [autogen.bound(toy, autogen.tilted(toy, float(o)), 1.0 + m) for o in k]
        right.plot(k, level, style, color=COLOURS[colour], label=f"L, m = {m}")
        right.plot(1.0 + m, autogen.log_moment(toy, 1.0 + m), "o", color=COLOURS[colour])
    right.axhline(autogen.own_codes(toy, 2.0), color=COLOURS["aggregate"], label="own codes, m = 2")
    right.axvline(1.0, color=COLOURS["guide"], linewidth=0.8)
    right.text(1.05, -3.45, "posterior", fontsize=8, color=COLOURS["guide"])
    right.set(xlabel="tilt k of the encoder, q ∝ p(x|z)ᵏ p(z)", ylabel="nats", ylim=(-3.5, -2.0))
    right.legend(fontsize=8, loc="lower right")
    return figure


# --- A3 -------------------------------------------------------------------------------------------


def gradient_table(orders: Sequence[float] = (0.5, 1.0, 2.0, 5.0), seed: int = 0) -> pd.DataFrame:
    """AutoGen against (1 + m) times the beta-VAE: largest difference of the two gradients."""
    model, x = autogen.small_model(seed)
    start = Progress(0, 1)
    columns: dict[str, dict[str, float]] = {}
    for m in orders:
        one = autogen.gradients(AutoGen(m), model, x, seed, start)
        other = autogen.gradients(ELBO(Constant(1.0 / (1.0 + m))), model, x, seed, start)
        columns[f"m = {m:g}"] = {
            name: float((one[name] - (1.0 + m) * other[name]).abs().max() / one[name].abs().max())
            for name in one
        }
    sizes = {name: str(value.numel()) for name, value in model.named_parameters()}
    rows = [
        {
            "parameter": name,
            "entries": sizes[name],
            **{m: found[name] for m, found in columns.items()},
        }
        for name in sizes
    ]
    return pd.DataFrame(rows)


# --- A4 -------------------------------------------------------------------------------------------


class Excess(NamedTuple):
    """max over q of L_m(q) - log p(x), nats, by m."""

    noise: Array  # standard deviations s of the density
    density: dict[int, Array]
    slope: Array  # steepness of a decoder of bits
    bits: dict[int, Array]


def _bits_excess(slope: float, m: int) -> float:
    """log M_{1+m} - log M_1 of three bits (1, 0, 1) with logits of this steepness, trapezoid."""
    z = np.linspace(-12.0, 12.0, 4001)
    logit = slope * z[:, None] * np.array([1.0, -0.5, 0.25])
    log_likelihood = (np.array([1.0, 0.0, 1.0]) * logit - np.logaddexp(0.0, logit)).sum(1)
    weight = np.exp(-0.5 * z * z)
    moments = [float((weight * np.exp(k * log_likelihood)).sum()) for k in (1, 1 + m)]
    return float(np.log(moments[1] / moments[0]))


def excess() -> Excess:
    """The two families over their parameter, for m = 1 and 2."""
    noise, slope = np.geomspace(0.02, 2.0, 61), np.geomspace(0.1, 50.0, 61)
    toys = [Toy(1.5, float(s), 1.0) for s in noise]
    return Excess(
        noise,
        {m: np.array([autogen.largest_excess(toy, m) for toy in toys]) for m in (1, 2)},
        slope,
        {m: np.array([_bits_excess(float(a), m) for a in slope]) for m in (1, 2)},
    )


def excess_figure(found: Excess) -> Figure:
    """How far the best encoder lifts L over log p(x): a density, and discrete x."""
    figure = _figure(9.2, 3.2)
    left, right = figure.subplots(1, 2, sharey=True)
    for m, style, colour in ((1, "--", "vae"), (2, "-.", "lagging")):
        left.plot(found.noise, found.density[m], style, color=COLOURS[colour], label=f"m = {m}")
        right.plot(found.slope, found.bits[m], style, color=COLOURS[colour], label=f"m = {m}")
    for axes in (left, right):
        axes.axhline(0.0, color=COLOURS["guide"], linewidth=0.8)
        axes.set(xscale="log")
        axes.legend(fontsize=8)
    left.set(xlabel="noise s of the decoder", ylabel="largest L − log p(x) (nats)")
    left.set_title("density: p(x|z) may exceed 1", fontsize=9)
    right.set_title("three bits: p(x|z) is at most 1", fontsize=9)
    right.set(xlabel="steepness of the decoder's logits")
    return figure


# --- A5 -------------------------------------------------------------------------------------------


class Annealing(NamedTuple):
    """The same schedule told in beta and in m, and what plain gradient descent makes of it."""

    beta: Array  # (T,), weight of the KL at each update
    m: Array  # (T,), 1 / beta - 1
    annealed: Array  # (T,), a decoder weight under annealing
    scaled: Array  # (T,), under AutoGen with the learning rate times beta
    unscaled: Array  # (T,), under AutoGen with the same learning rate


def annealing(updates: int = 150, rate: float = 0.01, seed: int = 5) -> Annealing:
    """Train the small linear VAE three times, with the same noise."""
    schedule, start = Linear(0.1, 10.0), Progress(0, 10)
    beta = [schedule(Progress(step, 10)) for step in range(updates)]
    steady = [rate for _ in beta]
    anneal, follow = ELBO(schedule), autogen.Annealed(schedule)
    paths = []
    for objective, rates in (
        (anneal, steady),
        (follow, [rate * b for b in beta]),
        (follow, steady),
    ):
        model, x = autogen.small_model(seed)
        place = [name for name, _ in model.named_parameters()].index("decoder.mean.weight")
        first = sum(p.numel() for p in list(model.parameters())[:place])
        path = autogen.train_sgd(objective, model, x, rates, start)
        paths.append(np.array(path)[:, first])
    return Annealing(np.array(beta), 1.0 / np.array(beta) - 1.0, *paths)


def annealing_figure(found: Annealing) -> Figure:
    """Left: beta and m over training. Right: one weight under the three ways to train."""
    figure = _figure(9.2, 3.4)
    left, right = figure.subplots(1, 2)
    step = np.arange(1, len(found.beta) + 1)
    left.plot(step, found.beta, color=COLOURS["vae"], label="β, weight of the KL")
    other = left.twinx()
    other.plot(step, found.m, "--", color=COLOURS["lagging"], label="m = 1/β − 1 (right axis)")
    left.set(xlabel="update", ylabel="β", ylim=(0.0, 1.1))
    other.set_ylabel("m")
    handles = [*left.lines, *other.lines]
    left.legend(handles, [str(line.get_label()) for line in handles], fontsize=8, loc="center")
    right.plot(step, found.unscaled, ":", color=COLOURS["lagging"], label="AutoGen, same rate")
    right.plot(step, found.annealed, color=COLOURS["sky"], linewidth=4, label="KL annealing")
    right.plot(step, found.scaled, "--", color="black", label="AutoGen, rate times β")
    right.set(xlabel="update", ylabel="a weight of the decoder")
    right.legend(fontsize=8)
    return figure
