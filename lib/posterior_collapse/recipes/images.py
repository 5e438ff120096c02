"""Set-ups on images."""

from __future__ import annotations

from posterior_collapse.networks import ImageNetwork, PixelNetwork
from posterior_collapse.precision import Precision
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


def _pixel_smoke(setup: Setup) -> Setup:
    return varied(
        setup,
        sizes=(96, 48, 48),
        network=PixelNetwork(4, (3, 3), 1, (4, 4), 8),
        latent_dim=3,
        batch_size=32,
        optimisation={"max_epochs": 2, "annealing": 4},
        nll_samples=4,
        nll_sentences=16,
        mi_samples=2,
        few_labels=(5,),
        samples=2,
    )


def omniglot() -> dict[str, Setup]:
    """He et al. 2019, appendix B.3; where text and code differ, see the comments."""
    paper = Setup(
        dataset="omniglot",
        train=22345,
        valid=2000,
        test=8115,
        network=PixelNetwork(),
        latent_dim=32,
        batch_size=50,  # code
        optimisation=Optimisation(
            optimiser="adam",
            learning_rate=1e-3,
            patience=20,
            max_epochs=1000,  # code; Shen et al. 2021 stop at 500
        ),
        nll_samples=500,
        nll_sentences=8115,
        mi_samples=10,
        few_labels=(5, 10, 15),  # Shen et al. 2021, table 3
        samples=40,
    )
    medium = varied(
        paper,
        # Six epochs have to fit into a quarter of an hour of one core. In so few the plain VAE has
        # to do without its code: with fewer planes and dimensions a code pays later.
        network=PixelNetwork(
            32, (7, 7, 5, 5, 3), 1, (32, 32, 32), 128, precision=Precision.BFLOAT16
        ),
        latent_dim=16,
        optimisation={"learning_rate": 2e-3, "max_epochs": 6, "annealing": 1300},
        nll_samples=50,
        nll_sentences=500,
        mi_samples=2,
    )
    return {"smoke": _pixel_smoke(medium), "medium": medium, "paper": paper}


def pixel_digits() -> dict[str, Setup]:
    """The same on digits of 8 x 8 pixels, with networks that train within seconds."""
    paper = omniglot()["paper"]
    quick = varied(
        paper,
        dataset="binary-digits",
        sizes=(1197, 300, 300),
        network=PixelNetwork(16, (7, 5), 1, (8, 8), 32),
        latent_dim=4,
        optimisation={"learning_rate": 5e-3, "max_epochs": 8, "annealing": 96},
        nll_samples=20,
        nll_sentences=300,
    )
    return {"smoke": _pixel_smoke(quick), "quick": quick}
