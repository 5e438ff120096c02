"""How a training split is cut into mini-batches, epoch by epoch.

What an epoch's batches are is a matter of the data.  The training loop only orders them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import torch
from torch import Tensor

from posterior_collapse.datasets.arrays import Split
from posterior_collapse.datasets.images import ImageSplit
from posterior_collapse.errors import BadInput


class Partition(enum.StrEnum):
    """Ways to cut a training split (Song et al. 2024, latent space property)."""

    FIXED = "fixed"  # the split's own batches, whose examples are in random order, every epoch
    REDRAWN = "redrawn"  # other batches every epoch
    SORTED = "sorted"  # each batch of one label only, every epoch


def _fixed(split: Split | ImageSplit, size: int, generator: torch.Generator) -> list[Tensor]:
    return split.batch_rows(size)


def _redrawn(split: Split | ImageSplit, size: int, generator: torch.Generator) -> list[Tensor]:
    order = torch.randperm(len(split), generator=generator)
    return [order[rows] for rows in split.take(order).batch_rows(size)]


def _sorted(split: Split | ImageSplit, size: int, generator: torch.Generator) -> list[Tensor]:
    if split.labels is None:
        raise BadInput("batches of one label need labels, and this split has none")
    batches: list[Tensor] = []
    for label in split.labels.unique():
        own = (split.labels == label).nonzero()[:, 0]
        batches += [own[rows] for rows in split.take(own).batch_rows(size)]
    return batches


_CUTS: dict[Partition, Callable[[Split | ImageSplit, int, torch.Generator], list[Tensor]]] = {
    Partition.FIXED: _fixed,
    Partition.REDRAWN: _redrawn,
    Partition.SORTED: _sorted,
}


def partition_rows(
    partition: Partition, split: Split | ImageSplit, batch_size: int, generator: torch.Generator
) -> list[Tensor]:
    """Row numbers of the examples in each batch.

    Args:
        partition: the way to cut; the number of batches depends on it and never on the draw.
        split: N examples.
        batch_size: most examples in a batch, at least 1.
        generator: of the epoch; only ``REDRAWN`` uses it.

    Returns:
        Tensors (B,) int64 that together hold each of 0 .. N-1 once.  All sentences of a batch
        are equally long.

    Raises:
        BadInput: ``batch_size`` is no integer of at least 1, or a split without labels is to be
            cut by them.
    """
    return _CUTS[partition](split, batch_size, generator)
