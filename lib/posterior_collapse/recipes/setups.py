"""What a recipe is made of: its constants, and what is measured at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from posterior_collapse.datasets import Partition
from posterior_collapse.networks import Network
from posterior_collapse.training import Optimisation


@dataclass(frozen=True)
class Wording:
    """How much of what a text model writes is measured when a run ends."""

    reconstructed: int = 0  # test sentences that are decoded again, imputed and interpolated
    generated: int = 0  # sentences from draws of the prior
    judge_epochs: int = 0  # of language models trained on those sentences; 0 = no judge at all


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Every constant of a run but method and seed; all of it enters the run's key."""

    dataset: str
    train: int  # sentences
    valid: int
    test: int
    max_length: int | None = None  # words a sentence is cut at
    max_vocabulary: int | None = None
    network: Network
    latent_dim: int
    batch_size: int
    optimisation: Optimisation
    nll_samples: int  # importance samples
    nll_sentences: int  # of the test set that are decoded; all of it is encoded
    mi_samples: int  # draws of z a point
    probes: bool = False  # whether linear probes are trained on the posterior means
    classifiers: int = 0  # random starts of the classifiers on the test set's posterior means
    few_labels: tuple[int, ...] = ()  # labelled images a class that train linear classifiers
    samples: int = 0  # images drawn from the prior and kept
    grid_points: int = 0  # sentences shown in the posterior mean space; 0 = not a scalar latent
    grid_every: tuple[int, ...] = ()  # updates after which the space is recorded
    trajectory_points: int = 0  # instances followed move by move
    trajectory_updates: int = 0  # for so many first updates
    partition: Partition = Partition.FIXED  # how training examples are cut into batches
    means_points: int = 0  # examples whose posteriors are kept: validation's while training goes on
    means_every: tuple[int, ...] = ()  # updates after which those are recorded
    wording: Wording | None = None  # measures of reconstructed and generated text
    # Examples of the smallest batch that is trained on; None is what the posterior asks for.
    least_batch: int | None = None


@dataclass(frozen=True)
class Recipe:
    """A set-up with its scales and where it comes from."""

    name: str
    title: str
    paper: str
    scales: dict[str, Setup] = field(hash=False)  # small ones first


def varied(
    setup: Setup,
    *,
    sizes: tuple[int, int, int] | None = None,
    network: Mapping[str, Any] | Network | None = None,
    optimisation: Mapping[str, Any] | None = None,
    **constants: Any,
) -> Setup:
    """A set-up with some constants changed.

    Args:
        setup: stays as it is.
        sizes: of its training, validation and test set.
        network: constants of its network that change, or another network.
        optimisation: constants of its optimisation that change.
        constants: of the set-up itself.
    """
    other = setup.network
    if isinstance(network, Mapping):
        other = replace(cast(Any, other), **network)
    elif network is not None:
        other = network
    if sizes is not None:
        constants |= dict(zip(("train", "valid", "test"), sizes, strict=True))
    return replace(
        setup,
        network=other,
        optimisation=replace(setup.optimisation, **(optimisation or {})),
        **constants,
    )
