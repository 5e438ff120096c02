"""Labelled training subsets of growing size, for probes of what a latent code holds."""

from __future__ import annotations

from typing import TypeVar, overload

import torch
from torch import Tensor

from posterior_collapse.datasets import text
from posterior_collapse.datasets.arrays import Split, TextDataset
from posterior_collapse.datasets.images import ImageDataset, ImageSplit
from posterior_collapse.datasets.registry import CARDS
from posterior_collapse.errors import BadInput

LABELLED_SIZES = (100, 500, 1_000, 2_000, 10_000)  # DU-VAE, table 2; Scale-VAE, table 4
SEED = 2019  # of the permutation that cuts subsets from a training split

_Part = TypeVar("_Part", Split, ImageSplit)


@overload
def labelled_subsets(data: TextDataset) -> dict[int, Split]: ...


@overload
def labelled_subsets(data: ImageDataset) -> dict[int, ImageSplit]: ...


def labelled_subsets(data: TextDataset | ImageDataset) -> dict[int, Split] | dict[int, ImageSplit]:
    """Nested labelled training subsets that hold nothing of the test split.

    A corpus may come with such subsets (Short Yelp does).  They are read from the data folder,
    cut and written in the ids of ``data``.  A sentence that the test split of ``data`` holds is
    dropped, so a subset may be smaller than its key; the difference is the number dropped.

    From any other data set with labels they are cut: a seeded permutation of the training
    examples that the test split does not hold, and its first 100, 500, 1,000, ...

    Args:
        data: a loaded data set; a smaller load gives fewer or smaller subsets.

    Returns:
        Number of labels -> the subset, small ones first.  The examples of each are the first
        ones of the next.

    Raises:
        BadInput: the data set has no labels, or no subset can be made of it.
        DataMissing: the corpus's own subsets are not in the data folder.
    """
    if not data.label_names:
        known = ", ".join(name for name, card in CARDS.items() if card.labels)
        raise BadInput(f"{data.name} has no labels; data sets with labels: {known}")
    if isinstance(data, ImageDataset):
        return _cut(data.train, data.test, data.name)
    own = text.labelled(data)
    if not own:
        return _cut(data.train, data.test, data.name)
    return {number: _cleared(split, data.test, data.name) for number, split in own.items()}


def _rows_outside(split: Split | ImageSplit, test: Split | ImageSplit) -> Tensor:
    """Rows of the examples that ``test`` does not hold."""
    held = set(test.contents())
    return torch.tensor([row for row, c in enumerate(split.contents()) if c not in held]).long()


def _cleared(split: Split, test: Split, name: str) -> Split:
    """A split without what ``test`` holds."""
    rows = _rows_outside(split, test)
    if not len(rows):
        raise BadInput(f"the test split of {name} holds all {len(split)} sentences of a subset")
    return split.take(rows)


def _cut(train: _Part, test: _Part, name: str) -> dict[int, _Part]:
    """Seeded subsets of a training split."""
    rows = _rows_outside(train, test)
    order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED))]
    sizes = [size for size in LABELLED_SIZES if size <= len(rows)]
    if not sizes:
        raise BadInput(
            f"{len(rows)} training examples of {name} are outside its test split; "
            f"the smallest labelled subset has {LABELLED_SIZES[0]}"
        )
    return {size: train.take(order[:size]) for size in sizes}
