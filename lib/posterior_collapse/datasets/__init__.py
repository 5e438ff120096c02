"""Data sets as arrays: generated text, real text from a data folder, and images.

>>> from posterior_collapse import datasets
>>> data = datasets.load("lagging-synthetic", datasets.Sizes(32, 8, 8))
>>> [tuple(batch.shape) for batch in datasets.batches(data.train, 16)]
[(16, 12), (16, 12)]
"""

from posterior_collapse.datasets.arrays import (
    BOS,
    EOS,
    PAD,
    UNK,
    Split,
    TextDataset,
    Vocabulary,
)
from posterior_collapse.datasets.images import ImageDataset, ImageSplit
from posterior_collapse.datasets.labelled import LABELLED_SIZES, labelled_subsets
from posterior_collapse.datasets.loading import available, batches, card, load, names
from posterior_collapse.datasets.partitions import Partition, partition_rows
from posterior_collapse.datasets.registry import DATA_VARIABLE, Card, DataMissing, Sizes

__all__ = [
    "BOS",
    "DATA_VARIABLE",
    "EOS",
    "LABELLED_SIZES",
    "PAD",
    "UNK",
    "Card",
    "DataMissing",
    "ImageDataset",
    "ImageSplit",
    "Partition",
    "Sizes",
    "Split",
    "TextDataset",
    "Vocabulary",
    "available",
    "batches",
    "card",
    "labelled_subsets",
    "load",
    "names",
    "partition_rows",
]
