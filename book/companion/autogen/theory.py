"""Pictures and tables of the page on AutoGen's bound."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from companion.autogen import statements as autogen
from companion.autogen.statements import TOY, Toy
from companion.claims.formulas import Array, Bits, log_normal
from companion.numbers import number
from companion.show.figures import COLOURS
from companion.show.theory import Frames, canvas
from posterior_collapse.layers import Progress
from posterior_collapse.objectives import ELBO, Linear

_ORDERS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)  # m of the slider


def _style(name: str, **more: Any) -> dict[str, Any]:
    return {"color": COLOURS[name], **more}


_PAIR: tuple[tuple[int, str, str], ...] = ((1, "--", "vae"), (2, "-.", "lagging"))  # styles of m


# --- A1 and A2 ------------------------------------------------------------------------------------


class Readings(NamedTuple):
    """The same m in three readings, nats."""

    at_posterior: float  # L_m at the posterior: the tangent
    own: float  # each reconstruction its own code: the chord
    shared: float  # one code for all: the curve


def readings(toy: Toy, m: float) -> Readings:
    """The bound at the posterior and the two objectives that m reconstructions can mean."""
    at_posterior = autogen.bound(toy, autogen.tilted(toy, 1.0), 1.0 + m)
    return Readings(at_posterior, autogen.own_codes(toy, m), autogen.log_moment(toy, 1.0 + m))


def _moment_frame(m: float) -> Figure:
    """The curve log M_k, its chord and its tangent, read at k = 1 + m."""
    figure, axes = canvas(6.2, 3.6)
    k = np.linspace(0.5, 6.3, 117)
    lines = Readings(*np.array([readings(TOY, order - 1.0) for order in k.tolist()]).T)
    axes.plot(k, lines.shared, **_style("vae", label="log M, one code for all"))
    axes.plot(k, lines.own, "--", **_style("lagging", label="chord, own codes"))
    axes.plot(k, lines.at_posterior, ":", **_style("mi", label="tangent, L at the posterior"))
    axes.axvline(1.0 + m, **_style("guide", linewidth=0.8))
    for value, marker, colour in zip(
        readings(TOY, m), "s^o", ("mi", "lagging", "vae"), strict=True
    ):
        axes.plot(1.0 + m, value, marker, **_style(colour, markersize=7))
    evidence = autogen.log_moment(TOY, 1.0)
    axes.plot(1.0, evidence, "*", color="black", markersize=10)
    axes.text(1.1, evidence + 0.12, "log p(x)", fontsize=8)
    axes.set(xlabel="order k; read at k = 1 + m", ylabel="nats", xlim=(0.5, 6.3), ylim=(-4.6, -0.7))
    axes.legend(loc="upper right", fontsize=8)
    return figure


def moment_frames() -> Frames:
    """Frames over m, and what stands under each."""
    labels = []
    for m in _ORDERS:
        low, own, shared = (number(value, 3) for value in readings(TOY, m))
        labels.append(
            f"m = {m:g}: L at the posterior {low}, own codes {own}, one code {shared} nats"
        )
    return Frames([_moment_frame(m) for m in _ORDERS], labels)


def encoder_figure(toy: Toy = TOY) -> Figure:
    """Left: the best encoders. Right: L_m along the tilted encoders, against both objectives."""
    figure, (left, right) = canvas(9.2, 3.3, 2)
    z, k = np.linspace(-1.5, 2.0, 401), np.linspace(0.6, 6.0, 109)
    styles = [("prior", 0.0, ":", "guide"), ("posterior, m = 0", 1.0, "-", "kl")]
    styles += [(f"m = {m}", 1.0 + m, style, colour) for m, style, colour in _PAIR]
    for name, order, style, colour in styles:
        q = autogen.tilted(toy, order)
        density = np.exp(log_normal(z, q.mean, q.variance**0.5))
        left.plot(z, density, style, **_style(colour, label=name))
    left.set(xlabel="code z", ylabel="density of the best q")
    left.legend(fontsize=8)
    for m, style, colour in _PAIR:
        level = [autogen.bound(toy, autogen.tilted(toy, order), 1.0 + m) for order in k.tolist()]
        right.plot(k, level, style, **_style(colour, label=f"L, m = {m}"))
        right.plot(1.0 + m, autogen.log_moment(toy, 1.0 + m), "o", **_style(colour))
    right.axhline(autogen.own_codes(toy, 2.0), **_style("aggregate", label="own codes, m = 2"))
    right.axvline(1.0, **_style("guide", linewidth=0.8))
    right.text(1.05, -3.45, "posterior", **_style("guide", fontsize=8))
    right.set(xlabel="tilt k of the encoder, q ∝ p(x|z)ᵏ p(z)", ylabel="nats", ylim=(-3.5, -2.0))
    right.legend(fontsize=8, loc="lower right")
    return figure


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
    bits = Bits(slope * np.array([1.0, -0.5, 0.25]), np.zeros(3), np.array([1.0, 0.0, 1.0]))
    log_likelihood, weight = bits.log_likelihood(z), np.exp(-0.5 * z * z)
    first, last = (float((weight * np.exp(k * log_likelihood)).sum()) for k in (1, 1 + m))
    return float(np.log(last / first))


def excess() -> Excess:
    """The two families over their parameter, for m = 1 and 2."""
    noise, slope = np.geomspace(0.02, 2.0, 61), np.geomspace(0.1, 50.0, 61)
    toys = [Toy(1.5, s, 1.0) for s in noise.tolist()]
    return Excess(
        noise,
        {m: np.array([autogen.largest_excess(toy, m) for toy in toys]) for m in (1, 2)},
        slope,
        {m: np.array([_bits_excess(a, m) for a in slope.tolist()]) for m in (1, 2)},
    )


def excess_figure(families: Excess) -> Figure:
    """How far the best encoder lifts L over log p(x): a density, and discrete x."""
    figure, (left, right) = canvas(9.2, 3.2, 2, sharey=True)
    for m, style, colour in _PAIR:
        left.plot(families.noise, families.density[m], style, **_style(colour, label=f"m = {m}"))
        right.plot(families.slope, families.bits[m], style, **_style(colour, label=f"m = {m}"))
    for axes in (left, right):
        axes.axhline(0.0, **_style("guide", linewidth=0.8))
        axes.set(xscale="log")
        axes.legend(fontsize=8)
    left.set(xlabel="noise s of the decoder", ylabel="largest L − log p(x) (nats)")
    left.set_title("density: p(x|z) may exceed 1", fontsize=9)
    right.set_title("three bits: p(x|z) is at most 1", fontsize=9)
    right.set(xlabel="steepness of the decoder's logits")
    return figure


# --- A5 -------------------------------------------------------------------------------------------


class Annealing(NamedTuple):
    """The same schedule in beta and in m, and what plain gradient descent makes of it."""

    beta: Array  # (T,), weight of the KL at each update
    m: Array  # (T,), 1 / beta - 1
    annealed: Array  # (T,), a decoder weight under annealing
    scaled: Array  # (T,), under AutoGen with the learning rate times beta
    unscaled: Array  # (T,), under AutoGen with the same learning rate


def annealing(updates: int = 150, rate: float = 0.01, seed: int = 5) -> Annealing:
    """Train the small linear VAE three times, with the same noise."""
    schedule = Linear(0.1, 10.0)
    beta = np.array([schedule(Progress(step, 10)) for step in range(updates)])
    steady, scaled = np.full(updates, rate), rate * beta
    anneal, follow = ELBO(schedule), autogen.Annealed(schedule)
    paths = []
    for objective, rates in ((anneal, steady), (follow, scaled), (follow, steady)):
        model, x = autogen.small_model(seed)
        place = [name for name, _ in model.named_parameters()].index("decoder.mean.weight")
        first = sum(p.numel() for p in list(model.parameters())[:place])
        path = autogen.train_sgd(objective, model, x, rates.tolist(), Progress(0, 10))
        paths.append(np.array(path)[:, first])
    return Annealing(beta, 1.0 / beta - 1.0, *paths)


def annealing_figure(paths: Annealing) -> Figure:
    """Left: beta and m over training. Right: one weight under the three ways to train."""
    figure, (left, right) = canvas(9.2, 3.4, 2)
    step = np.arange(1, len(paths.beta) + 1)
    left.plot(step, paths.beta, **_style("vae", label="β, weight of the KL"))
    other = left.twinx()
    other.plot(step, paths.m, "--", **_style("lagging", label="m = 1/β − 1 (right axis)"))
    left.set(xlabel="update", ylabel="β", ylim=(0.0, 1.1))
    other.set_ylabel("m")
    handles = [*left.lines, *other.lines]
    left.legend(handles, [str(line.get_label()) for line in handles], fontsize=8, loc="center")
    right.plot(step, paths.unscaled, ":", **_style("lagging", label="AutoGen, same rate"))
    right.plot(step, paths.annealed, **_style("sky", linewidth=4, label="KL annealing"))
    right.plot(step, paths.scaled, "--", color="black", label="AutoGen, rate times β")
    right.set(xlabel="update", ylabel="a weight of the decoder")
    right.legend(fontsize=8)
    return figure
