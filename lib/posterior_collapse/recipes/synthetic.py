"""Set-ups on synthetic sequences: a scalar latent variable, and five Gaussians in the plane."""

from __future__ import annotations

from posterior_collapse.datasets import Partition
from posterior_collapse.layers import FirstValues
from posterior_collapse.networks import TextNetwork
from posterior_collapse.recipes.setups import Setup, varied
from posterior_collapse.training import Optimisation

# Updates at which the posterior mean space is recorded: dense where points move (the first
# epoch), sparse later; they contain the stages of He et al. 2019, figure 2 (0, 200, 1000 or 2000,
# and 10000).
_EARLY = (*range(0, 200, 25), *range(200, 1000, 100))
_LATE = (*range(1000, 5000, 500), *range(5000, 20001, 2500))


def synthetic() -> dict[str, Setup]:
    """He et al. 2019, appendix B.1; where text and code differ, see the comments."""
    paper = Setup(
        dataset="lagging-synthetic",
        train=16000,
        valid=2000,
        test=2000,
        network=TextNetwork(embedding=50, hidden=50, dropout=0.5),
        latent_dim=1,
        batch_size=16,  # code; the text does not say
        optimisation=Optimisation(),
        nll_samples=500,
        nll_sentences=2000,
        mi_samples=10,
        grid_points=500,
        grid_every=(*_EARLY, *_LATE),
        trajectory_points=6,
        trajectory_updates=120,
    )
    quick = varied(
        paper,
        # The phenomenon needs the paper's networks and batches, but not all of its data: a fifth
        # makes an aggressive epoch five times shorter.
        train=3200,
        valid=800,
        optimisation={"max_epochs": 12},
        nll_samples=100,  # of one dimension; the page on uncertainty evaluates 20 times
        nll_sentences=300,
        grid_points=300,
        grid_every=(0, 50, 100, 200, 300, 400, 600, 800, 1000, 1500, 2000),
        trajectory_updates=40,
    )
    smoke = varied(
        paper,
        sizes=(160, 64, 64),
        optimisation={"max_epochs": 2},
        nll_samples=20,
        nll_sentences=32,
        mi_samples=2,
        grid_points=16,
        grid_every=(0, 5, 10, 20),
        trajectory_points=4,
        trajectory_updates=4,
    )
    return {"smoke": smoke, "quick": quick, "paper": paper}


def offset() -> dict[str, Setup]:
    """He et al. 2019, appendix G, which adds an offset to both ranges of first values.

    The numbers are lost from the text we hold; these keep the widths, make every parameter
    positive and put the encoder's output clearly above 0.
    """
    first = {"init_parameters": (0.04, 0.06), "init_embeddings": (0.0, 0.2)}
    return {name: varied(setup, network=first) for name, setup in synthetic().items()}


# Dense where points move, as above; batches are twice as large as He et al.'s.
_FIVE_EVERY = (0, 50, 100, 150, 200, 300, 400, 600, 800, 1000, 1500, 2000, 3000, 5000, 10000, 20000)


def five_gaussians(partition: Partition) -> dict[str, Setup]:
    """Shen et al. 2021, section 4.3; the text gives no constants, their public code does."""
    paper = Setup(
        dataset="five-gaussians",
        train=16000,  # code
        valid=2000,
        test=2000,
        # Code; the first values are the same for all methods here, those with a batch norm too.
        network=TextNetwork(50, 50, 0.5, first_values=FirstValues.RECIPE),
        latent_dim=2,
        batch_size=32,  # code
        # Code: as for text, where the rate falls from epoch 15 on, and 50 epochs.
        optimisation=Optimisation(patience=5, first_decay_epoch=15, max_epochs=50),
        nll_samples=500,
        nll_sentences=500,  # of 2000, as the figures are about codes
        mi_samples=10,
        partition=partition,
        means_points=1000,
        means_every=_FIVE_EVERY,
        least_batch=1,  # of the last batch of a component when batches are sorted
    )
    quick = varied(
        paper,
        # The means find their places within some 500 updates, one epoch of all the data.  Nine
        # small epochs are nearly as many, and leave room for what changes by the epoch.
        sizes=(1600, 300, 500),
        optimisation={"patience": 2, "first_decay_epoch": 9, "max_epochs": 9},
        nll_samples=50,
        nll_sentences=100,
        mi_samples=2,
        means_points=500,
        means_every=(0, 25, 50, 75, 100, 150, 200, 250, 300, 350, 400, 450),
    )
    smoke = varied(
        quick,
        sizes=(160, 64, 64),
        network={"embedding": 12, "hidden": 16},
        optimisation={"max_epochs": 2},
        nll_samples=10,
        nll_sentences=24,
        means_points=40,
        means_every=(0, 5, 10),
    )
    return {"smoke": smoke, "quick": quick, "paper": paper}
