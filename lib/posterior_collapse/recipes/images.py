"""Set-ups on images."""

from __future__ import annotations

from posterior_collapse.networks import ImageNetwork
from posterior_collapse.recipes.setups import Setup, varied
from posterior_collapse.training import Optimisation


def small_images(dataset: str, sizes: tuple[int, int, int], batch: int) -> dict[str, Setup]:
    """Zhang et al. 2021, section 4.4 and appendix B: perceptrons of two times 200 units."""
    quick = Setup(
        dataset=dataset,
        train=sizes[0],
        valid=sizes[1],
        test=sizes[2],
        network=ImageNetwork((200, 200)),
        latent_dim=32,
        batch_size=batch,
        optimisation=Optimisation(
            optimiser="adam",
            learning_rate=1e-3,
            clip_norm=1e9,  # never, as the paper names no clipping and no schedule
            first_decay_epoch=50,
            max_epochs=50,
        ),
        nll_samples=100,
        nll_sentences=300,
        mi_samples=10,
        probes=True,
        classifiers=3,  # paper: 10
        samples=40,
    )
    smoke = varied(
        quick,
        sizes=(192, 48, 48),
        network={"hidden": (24, 24)},
        latent_dim=3,
        optimisation={"max_epochs": 2},
        nll_samples=10,
        nll_sentences=24,
        mi_samples=2,
        classifiers=1,
    )
    return {"smoke": smoke, "quick": quick}


def large_images(dataset: str) -> dict[str, Setup]:
    """All images of 28 x 28 pixels at the paper's scale, an eighth of them at the quick one."""
    small = small_images(dataset, (6400, 1000, 1000), 128)
    paper = varied(
        small["quick"],
        sizes=(55000, 5000, 10000),
        nll_sentences=1000,
        mi_samples=1,  # of ten thousand images
        probes=False,  # the paper's classifiers only
        classifiers=10,
    )
    quick = varied(small["quick"], optimisation={"max_epochs": 15})
    return {"smoke": small["smoke"], "quick": quick, "paper": paper}
