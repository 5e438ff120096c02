"""Pictures and tables of the page on the linear VAE and importance weighting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.optimize import minimize
from torch import Tensor
from torch.distributions import kl_divergence
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from companion.claims.formulas import Array, gaussian_kl
from companion.claims.linear import fit
from companion.methods import statements as linear
from companion.methods.statements import EIGENVALUES, NOISE_VAR, WEIGHTED, Weighted
from companion.numbers import number
from companion.show.figures import COLOURS
from companion.show.theory import Frames, canvas
from posterior_collapse.gaussian import active_units
from posterior_collapse.networks import VAE, linear_vae
from posterior_collapse.priors import StandardNormal

_THRESHOLD = 0.01  # of active units: variance of the posterior mean over the data
_LEVELS = (0.125, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 15.9, 20.0)  # of the slider
_WEIGHTS = (0.1, 0.15, 0.22, 0.4, 0.7, 0.9, 1.5, 2.5, 3.5, 4.5, 7.0, 11.0, 15.0, 18.0)
_SHAPES = ("o", "^", "s", "D")
_NAMES = ("vae", "lagging", "mi", "aggregate")


# --- the water level ------------------------------------------------------------------------------


def _water_frame(beta: float) -> Figure:
    """Eigenvalues against the level beta s^2, and the KL of each dimension."""
    figure, (left, right) = canvas(8.0, 3.2, 2)
    kl, level = linear.optimum(EIGENVALUES, NOISE_VAR, beta).kl, linear.level(NOISE_VAR, beta)
    place, low, high = np.arange(1, 5), 0.02, 8.0
    bars = left.bar(place, np.array(EIGENVALUES) - low, bottom=low)
    for bar, on in zip(bars, kl > 0, strict=True):
        bar.set(color=COLOURS["vae"] if on else COLOURS["guide"], hatch="" if on else "//")
        bar.set_edgecolor("white")
    left.axhspan(low, level, color=COLOURS["sky"], alpha=0.35)
    line = left.axhline(level, color=COLOURS["sky"], linewidth=2, label="level β s²")
    left.set(yscale="log", ylim=(low, high), xlabel="direction i")
    left.set_ylabel("eigenvalue λ of the data")
    handles = [
        line,
        Patch(facecolor=COLOURS["vae"], label="active"),
        Patch(facecolor=COLOURS["guide"], hatch="//", edgecolor="white", label="collapsed"),
    ]
    left.legend(handles=handles, fontsize=8, loc="upper right")
    right.bar(place, kl, color=COLOURS["vae"])
    right.set(xlabel="direction i", ylabel="KL (nats)", ylim=(0.0, 2.6))
    for axes in (left, right):
        axes.set_xticks(place)
    for x, value in zip(place, kl, strict=True):
        right.text(x, value + 0.05, number(float(value), 2), ha="center", fontsize=8)
    return figure


def _water_label(beta: float) -> str:
    best = linear.optimum(EIGENVALUES, NOISE_VAR, beta)
    same = f", AutoGen with m = {1.0 / beta - 1.0:g}" if beta <= 1.0 else ""
    units = int((best.variance_of_means >= _THRESHOLD).sum())
    return (
        f"β = {beta:g}{same}: AU {units}, KL {number(float(best.kl.sum()), 3)} nats, "
        f"MPD {number(float(best.mutual_posterior_divergence.sum()), 3)} nats"
    )


def water_frames() -> Frames:
    """Frames over beta, and what stands under each."""
    return Frames([_water_frame(beta) for beta in _LEVELS], [_water_label(b) for b in _LEVELS])


# --- trained beside closed form -------------------------------------------------------------------


def data(points: int = 12, seed: int = 0) -> Tensor:
    """x (N, 4) whose covariance, ddof 0, has exactly the eigenvalues; its mean is not 0."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(points, len(EIGENVALUES), generator=generator, dtype=torch.float64)
    left, _, _ = torch.linalg.svd(raw - raw.mean(0), full_matrices=False)
    turned, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))
    spread = torch.tensor(EIGENVALUES, dtype=torch.float64).sqrt()
    return math.sqrt(points) * left * spread @ turned.T + torch.arange(1.0, 5.0)


def _exact_loss(model: VAE, x: Tensor, beta: float) -> Tensor:
    """E[-log p(x|z)] + beta KL of the library's network, without draws."""
    q = model.posterior(x)
    weight = dict(model.named_parameters())["decoder.mean.weight"]
    spread = (q.variance[0] * weight.square().sum(0)).sum() / (2.0 * NOISE_VAR)
    at_mean = model.log_likelihood(x, q.mean[None])[0]
    return (spread - at_mean + beta * kl_divergence(q, model.prior)).mean()


def train_exactly(x: Tensor, beta: float, seed: int = 0) -> VAE:
    """The library's linear VAE, trained by L-BFGS in float64 from a random start."""
    generator = torch.Generator().manual_seed(seed)
    model = linear_vae(x.shape[1], len(EIGENVALUES), NOISE_VAR, StandardNormal()).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.5, 0.5, generator=generator)
    parameters = list(model.parameters())

    def loss_and_gradient(flat: Array) -> tuple[float, Array]:
        vector_to_parameters(torch.from_numpy(flat.copy()), parameters)
        loss = _exact_loss(model, x, beta)
        slopes = torch.autograd.grad(loss, parameters)
        return loss.item(), torch.cat([part.flatten() for part in slopes]).numpy()

    best = minimize(
        loss_and_gradient,
        parameters_to_vector(parameters).detach().numpy(),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": 2000, "maxcor": 40, "ftol": 1e-13, "gtol": 1e-6},
    )
    vector_to_parameters(torch.from_numpy(best.x), parameters)
    return model


class Sweep(NamedTuple):
    """Trained networks over beta."""

    beta: Array  # (B,)
    kl: Array  # (B, 4), nats, falling within a row
    units: list[int]  # active units
    loss: Array  # (B,), nats


@torch.no_grad()
def _measured(model: VAE, x: Tensor, beta: float) -> tuple[Array, int, float]:
    q = model.posterior(x)
    kl = np.sort(gaussian_kl(q.mean.numpy(), q.variance.numpy()).mean(0))[::-1]
    return kl, active_units(q.mean, _THRESHOLD), float(_exact_loss(model, x, beta))


def sweep(weights: Sequence[float] = _WEIGHTS, seed: int = 0) -> Sweep:
    """Train one network for each beta, each from its own start."""
    x = data(seed=seed)
    models = [train_exactly(x, beta, seed + place) for place, beta in enumerate(weights)]
    rows = [_measured(model, x, beta) for model, beta in zip(models, weights, strict=True)]
    kl, units, loss = zip(*rows, strict=True)
    return Sweep(np.array(weights), np.array(kl), list(units), np.array(loss))


def closed_kl(weights: Sequence[float]) -> Array:
    """Closed form of the KL, (B, 4), nats."""
    return np.array([linear.optimum(EIGENVALUES, NOISE_VAR, beta).kl for beta in weights])


def _closed_units(weights: Sequence[float]) -> list[int]:
    rows = [linear.optimum(EIGENVALUES, NOISE_VAR, b).variance_of_means for b in weights]
    points = len(data())
    return [int((means * points / (points - 1) >= _THRESHOLD).sum()) for means in rows]


def sweep_figure(trained: Sweep) -> Figure:
    """KL of each dimension and active units over beta: lines closed form, markers trained."""
    figure, (left, right) = canvas(9.2, 3.6, 2)
    fine = np.geomspace(0.08, 22.0, 400)
    closed = closed_kl(list(fine))
    for i, value in enumerate(EIGENVALUES):
        colour, label = COLOURS[_NAMES[i]], f"λ = {value:g}"
        left.plot(fine, closed[:, i], color=colour, linewidth=1)
        left.plot(trained.beta, trained.kl[:, i], _SHAPES[i], color=colour, label=label)
    left.set(xscale="log", xlabel="weight β of the KL", ylabel="KL of the dimension (nats)")
    left.legend(fontsize=8, title="trained; lines: closed form", title_fontsize=8)
    right.step(fine, _closed_units(list(fine)), color=COLOURS["vae"], label="closed form")
    right.plot(trained.beta, trained.units, "o", color=COLOURS["lagging"], label="trained")
    right.set(xscale="log", xlabel="weight β of the KL", ylabel="active units")
    right.set_yticks(range(5))
    right.legend(fontsize=8)
    thresholds = {"color": COLOURS["guide"], "linestyle": ":", "linewidth": 0.8}
    for axes in (left, right):
        for value in EIGENVALUES:
            axes.axvline(value / NOISE_VAR, **thresholds)
    return figure


def _trained_threshold(eigenvalue: float, steps: int = 22) -> float:
    """The largest beta at which training leaves the direction active, by bisection."""
    low, high = 0.5 * eigenvalue / NOISE_VAR, 1.5 * eigenvalue / NOISE_VAR
    for _ in range(steps):
        middle = 0.5 * (low + high)
        model = fit([[eigenvalue]], 1, NOISE_VAR, middle)
        if model.variance_of_means[0] >= _THRESHOLD:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def threshold_table() -> pd.DataFrame:
    """Where each direction collapses: closed form, and by training and bisection."""
    return pd.DataFrame(
        [
            {
                "eigenvalue": number(value, 2),
                "KL reaches 0: λ/s²": value / NOISE_VAR,
                "AU drops: 0.99 λ/s²": (1.0 - _THRESHOLD) * value / NOISE_VAR,
                "AU drops, trained": _trained_threshold(value),
            }
            for value in EIGENVALUES
        ]
    )


# --- importance weighting -------------------------------------------------------------------------

_NARROW = WEIGHTED._replace(sd=0.25)  # variance below half the posterior's


class Gaps(NamedTuple):
    """log p(x) - L_K of two encoders, nats."""

    samples: list[int]  # K
    wide: Array  # (K,)
    wide_error: Array  # standard errors
    narrow: Array
    narrow_error: Array
    predicted: Array  # chi^2 / (2 K) of the wide encoder


def _gap(model: Weighted, samples: Sequence[int], draws: int) -> tuple[Array, Array]:
    """Mean and standard error over independent groups of K; the same draws for every K."""
    noise = np.random.default_rng(0).normal(size=draws)
    log_weight = model.log_weight(model.mean + model.sd * noise) - model.log_evidence
    ratios = [np.exp(log_weight).reshape(-1, k).mean(1) for k in samples]
    # R - 1 has mean 0; where its variance is finite it takes away most of the noise of log R.
    control = 1.0 if math.isfinite(model.chi_squared) else 0.0
    groups = [control * (ratio - 1.0) - np.log(ratio) for ratio in ratios]
    means = np.array([group.mean() for group in groups])
    errors = np.array([group.std(ddof=1) / math.sqrt(group.size) for group in groups])
    return means, errors


def gaps(draws: int = 1 << 21) -> Gaps:
    """Both encoders for K = 1 to 256."""
    samples = [2**power for power in range(9)]
    predicted = np.array([WEIGHTED.chi_squared / (2.0 * k) for k in samples])
    return Gaps(samples, *_gap(WEIGHTED, samples, draws), *_gap(_NARROW, samples, draws), predicted)


def gaps_figure(both: Gaps) -> Figure:
    """The gap against K on logarithmic axes."""
    figure, axes = canvas(5.6, 3.6)
    wide = {"fmt": "o", "color": COLOURS["vae"], "label": "q wide enough"}
    axes.errorbar(both.samples, both.wide, 2 * both.wide_error, **wide)
    narrow = {"fmt": "^", "color": COLOURS["lagging"], "label": "q too narrow, χ² infinite"}
    axes.errorbar(both.samples, both.narrow, 2 * both.narrow_error, **narrow)
    axes.plot(both.samples, both.predicted, "--", color=COLOURS["kl"], label="χ²/(2K), wide q")
    axes.set(xscale="log", yscale="log", xlabel="samples K", ylabel="log p(x) − bound (nats)")
    axes.legend(fontsize=8)
    return figure
