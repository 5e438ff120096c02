"""What the page on images asks: He et al. 2019 on OMNIGLOT, and what a PixelCNN draws.

Tables 2 and 6, and the part on images of tables 3 and 9 and of figure 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from companion.claims.comparison import Comparison
from companion.claims.groups import (
    ANNEAL,
    AUTOENCODER,
    HIGH_BETA,
    LANGUAGE_MODEL,
    LOW_BETA,
    PIXEL_AGGRESSIVE,
    PIXEL_ANNEALED_AGGRESSIVE,
    SEMI_AMORTISED,
    VAE,
    sweep,
)
from companion.claims.intervals import difference, level
from companion.claims.pixels import called, rule
from companion.claims.reference import Result
from companion.claims.rules import ALIVE, Checks, time_ratio
from companion.claims.verdicts import Finding, side
from companion.lagging import sweeps, text
from posterior_collapse.datasets import ImageDataset
from posterior_collapse.errors import BadInput
from posterior_collapse.networks import VAE as Model
from posterior_collapse.networks import PixelDecoder
from posterior_collapse.runs import Run, load_data, trained_model

# What this build trains: the premise, and the rows of table 2 that take little time.
BUILD = (
    LANGUAGE_MODEL,
    AUTOENCODER,
    VAE,
    LOW_BETA,
    ANNEAL,
    HIGH_BETA,
    PIXEL_ANNEALED_AGGRESSIVE,
)
SLOW = (*sweep("pixel-annealing"), ANNEAL, PIXEL_ANNEALED_AGGRESSIVE)  # of table 9
DRAWN = (VAE, LOW_BETA, AUTOENCODER)  # whose images the page shows


@rule("lagging-tab2")
def decide_main_table(rules: Checks) -> None:
    """lagging-tab2: aggressive training uses its code and has a better NLL than the others.

    The others are the PixelCNN without latent variable and the VAE, with and without annealing.
    Aggressive training is asked with annealing; without it the paper's table has the same, and
    a beta-VAE with little weight on the KL has the worst NLL of all.
    """
    rules.above(
        f"MI of {called(PIXEL_ANNEALED_AGGRESSIVE)}",
        level(PIXEL_ANNEALED_AGGRESSIVE, "mutual_information"),
        ALIVE,
    )
    for other in (LANGUAGE_MODEL, VAE, ANNEAL):
        rules.beats(PIXEL_ANNEALED_AGGRESSIVE, other)
        rules.beats(PIXEL_AGGRESSIVE, other, role=side, where_run=True)
    rules.beats(VAE, LOW_BETA)
    rules.beats(PIXEL_ANNEALED_AGGRESSIVE, SEMI_AMORTISED, role=side, where_run=True)
    rules.above(
        f"AU of {called(PIXEL_ANNEALED_AGGRESSIVE)} less that of {called(VAE)}",
        difference(PIXEL_ANNEALED_AGGRESSIVE, VAE, "active_units"),
        0.0,
        role=side,
    )


def decide_bounds(compared: Comparison) -> Finding:
    """lagging-tab6: the importance-weighted NLL is never above -ELBO, as in table 5."""
    return text.decide_bounds(compared, "lagging-tab6")


@rule("lagging-tab3")
def decide_time(rules: Checks) -> None:
    """lagging-tab3 on images: aggressive training costs two to four times the VAE's time.

    And semi-amortised training about ten times or more. The time is that to convergence.
    """
    name = "time to convergence of {} over that of {}"
    for pair, how in (
        ((PIXEL_ANNEALED_AGGRESSIVE, ANNEAL), {}),
        ((PIXEL_AGGRESSIVE, VAE), {"role": side, "where_run": True}),
    ):
        rules.between(name.format(*map(called, pair)), time_ratio(*pair), 2.0, 4.0, **how)
    rules.alive(PIXEL_ANNEALED_AGGRESSIVE)
    slow = SEMI_AMORTISED, ANNEAL
    rules.above(name.format(*map(called, slow)), time_ratio(*slow), 9.0)


@rule("lagging-fig4")
def decide_units(rules: Checks) -> None:
    """lagging-fig4 on images: aggressive training has more active units at a better NLL."""
    text.check_units(rules, PIXEL_ANNEALED_AGGRESSIVE)


@rule("lagging-tab9")
def decide_slow_annealing(rules: Checks) -> None:
    """lagging-tab9 on images: slow annealing keeps its code, aggressive training has the NLL."""
    sweeps.check_annealing(rules, sweep("pixel-annealing"), PIXEL_ANNEALED_AGGRESSIVE)


# --- pictures -------------------------------------------------------------------------------------


def _loaded(run: Run) -> tuple[Model, PixelDecoder, ImageDataset]:
    """A run's model in evaluation mode, its decoder and its data."""
    data = load_data(run.spec.setup)
    model = trained_model(run)
    decoder = model.decoder
    if not isinstance(decoder, PixelDecoder) or not isinstance(data, ImageDataset):
        raise BadInput(f"images are drawn by a PixelCNN, given {run.spec.recipe}")
    return model, decoder, data


def _same(count: int, pixels: int) -> torch.Tensor:
    """The same random numbers for every image (N, P): what differs comes from z."""
    return torch.rand(1, pixels, generator=torch.Generator().manual_seed(0)).expand(count, -1)


Images = NDArray[np.floating]  # (N, H, W), ink is 1


@torch.no_grad()
def reconstructions(run: Run, count: int = 10) -> tuple[Images, Images]:
    """The first test images, and images drawn from their posterior means."""
    model, decoder, data = _loaded(run)
    x = data.test.x[:count]
    made = decoder.sample(model.posterior(x).mean, _same(count, data.size))
    shape = -1, data.height, data.width
    return x.view(shape).numpy(), made.view(shape).numpy()


@torch.no_grad()
def walk(run: Run, steps: int = 10) -> Images:
    """Images drawn along the line between two test images' posterior means, ends included."""
    model, decoder, data = _loaded(run)
    first, last = model.posterior(data.test.x[:2]).mean
    z = torch.lerp(first, last, torch.linspace(0.0, 1.0, steps)[:, None])
    return decoder.sample(z, _same(steps, data.size)).view(-1, data.height, data.width).numpy()


@torch.no_grad()
def growth(run: Run, count: int = 6, frames: int = 16) -> list[Images]:
    """Images while they are drawn pixel by pixel; what is not drawn yet is a light grey."""
    model, decoder, data = _loaded(run)
    mean = model.posterior(data.test.x[:count]).mean
    noise = torch.Generator().manual_seed(1)
    made = decoder.pictures(mean, noise)
    later = torch.arange(data.size)
    stages = np.linspace(0, data.size, frames + 1).round().astype(int)
    shape = -1, data.height, data.width
    return [torch.where(later < stage, made, 0.15).view(shape).numpy() for stage in stages]


def samples(groups: Mapping[str, Sequence[Result]], wanted: Sequence[str]) -> dict[str, Images]:
    """Images drawn from the prior, of the first seed of methods that keep some."""
    shown: dict[str, Images] = {}
    for method in wanted:
        arrays = [r.arrays["samples"] for r in groups.get(method, ()) if "samples" in r.arrays]
        if arrays:
            side = int(arrays[0].shape[1] ** 0.5)
            shown[called(method)] = arrays[0][:10].reshape(-1, side, side) / 255.0
    return shown


def lines(shown: Mapping[str, Images]) -> Figure:
    """One line of images a title, black ink on white."""
    figure = Figure(figsize=(8.0, 1.15 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axis, (title, images) in zip(axes, shown.items(), strict=True):
        padded = [np.pad(image, 1, constant_values=0.35) for image in images]
        axis.imshow(np.concatenate(padded, axis=1), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_axis_off()
    return figure
