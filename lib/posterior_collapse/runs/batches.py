"""The batches that a run trains on and is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from posterior_collapse import datasets
from posterior_collapse.datasets import ImageSplit, Split
from posterior_collapse.recipes import Setup
from posterior_collapse.runs.spec import Spec, load_data


def batches_of(split: Split | ImageSplit, size: int, device: torch.device) -> list[Tensor]:
    """A split in batches of at most so many examples, on a device."""
    return [x.to(device) for x in datasets.batches(split, size)]


def drawn(part: Split | ImageSplit, seed: int, epoch: int) -> Split | ImageSplit:
    """A split as an epoch has it: where grey values are chances, its pixels are drawn anew."""
    if isinstance(part, Split):
        return part
    return part.drawn(torch.Generator().manual_seed((seed + 1) * 1_000_033 + epoch))


def partitioned(setup: Setup, part: Split | ImageSplit, seed: int, epoch: int) -> list[Tensor]:
    """Rows of the batches that the recipe's partition makes of a split in an epoch."""
    generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + epoch)
    return datasets.partition_rows(setup.partition, part, setup.batch_size, generator)


def _least_batch(spec: Spec) -> int:
    """Examples that a training batch must have: what the recipe says, or else the posterior."""
    least = spec.setup.least_batch
    return int(getattr(spec.choices.posterior, "least_batch", 1)) if least is None else least


def _large_enough(sizes: Sequence[int], least: int) -> list[int]:
    """Places of the batches of at least so many examples; where none is, of the largest ones."""
    least = min(least, max(sizes))
    return [place for place, size in enumerate(sizes) if size >= least]


class EpochBatches(Sequence[Tensor]):
    """The training batches of the current epoch, but for those too small for the posterior.

    They depend on the seed and the epoch alone, so that a resumed run goes on alike.
    """

    def __init__(self, spec: Spec, device: torch.device) -> None:
        self.spec, self.device = spec, device
        self.split = load_data(spec.setup).train
        self._batches = self._cut(0)

    def begin(self, epoch: int) -> None:
        """Turn to an epoch; a partition that is redrawn gives other batches, as drawn pixels do."""
        redrawn = self.spec.setup.partition is datasets.Partition.REDRAWN
        if redrawn or getattr(self.split, "chances", False):
            self._batches = self._cut(epoch)

    def _cut(self, epoch: int) -> list[Tensor]:
        setup = self.spec.setup
        least = _least_batch(self.spec)
        split = drawn(self.split, self.spec.seed, epoch)
        if setup.partition is datasets.Partition.FIXED:  # without a copy of the examples
            batches = batches_of(split, setup.batch_size, self.device)
            return [batches[place] for place in _large_enough([*map(len, batches)], least)]
        rows = partitioned(setup, split, self.spec.seed, epoch)
        large = [rows[place] for place in _large_enough([*map(len, rows)], least)]
        return [one_batch(split.take(own), self.device) for own in large]

    @property
    def passed_over(self) -> int:
        """Training examples that no batch of the epoch has."""
        return len(self.split) - sum(map(len, self._batches))

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, place: Any) -> Any:
        return self._batches[place]


def one_batch(part: Split | ImageSplit, device: torch.device) -> Tensor:
    """All of a split as one batch; its sentences are equally long."""
    return part.batches(len(part))[0].to(device)
