"""Data sets as arrays of word ids: generated ones, and real text from a data folder.

>>> from posterior_collapse import datasets
>>> data = datasets.load("lagging-synthetic", datasets.Sizes(32, 8, 8))
>>> [tuple(batch.shape) for batch in datasets.equal_length_batches(data.train, 16)]
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
    equal_length_batches,
    equal_length_rows,
)
from posterior_collapse.datasets.loading import available, card, load, names
from posterior_collapse.datasets.registry import DATA_VARIABLE, Card, DataMissing, Sizes

__all__ = [
    "BOS",
    "DATA_VARIABLE",
    "EOS",
    "PAD",
    "UNK",
    "Card",
    "DataMissing",
    "Sizes",
    "Split",
    "TextDataset",
    "Vocabulary",
    "available",
    "card",
    "equal_length_batches",
    "equal_length_rows",
    "load",
    "names",
]
