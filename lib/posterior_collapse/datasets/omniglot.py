"""OMNIGLOT: handwritten characters of many alphabets, as binary images (Lake et al. 2015).

A label is a character; its name is that of its alphabet, a slash and that of the character.
"""

from __future__ import annotations

import csv
import io
import lzma
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from posterior_collapse.datasets.images import ImageDataset, ImageSplit, binary
from posterior_collapse.datasets.registry import Card, opened
from posterior_collapse.datasets.text import locate, read_lines
from posterior_collapse.errors import BadInput

NAME = "omniglot"
_SIDE = 28
_TRAINING_DRAWERS = 15  # of 20 who wrote every character (Shen et al. 2021, section 4.3)
_SHUFFLE = 12  # of the permutation that takes the validation images out of the training drawers'
_MOST_BYTES = 1 << 26  # of the array in its file


def _pixels(path: Path, sha256: str) -> NDArray[np.uint8]:
    """The array of grey values (N, 28, 28) in a compressed npy file, checked."""
    with opened(path, sha256) as stream:
        content = stream.read()
    try:
        raw = lzma.LZMADecompressor().decompress(content, _MOST_BYTES)
        pixels = np.load(io.BytesIO(raw), allow_pickle=False)
    except (lzma.LZMAError, EOFError, ValueError) as error:
        raise BadInput(f"{path}: broken file ({error})") from error
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (_SIDE, _SIDE):
        raise BadInput(f"{path} holds {pixels.dtype} of shape {pixels.shape}, expected grey images")
    return np.asarray(pixels)


def build(card: Card) -> ImageDataset:
    """All images, in a seeded random order; training pixels are chances of ink.

    The first 15 drawers of every character train and validate, the others test.

    Raises:
        BadInput: a file that is not what the registry says.
        DataMissing: a file that is not there.
    """
    (images,) = (name for name in card.files if name.endswith(".npy.xz"))
    (index,) = (name for name in card.files if name.endswith(".csv.xz"))
    pixels = _pixels(locate(card, images), card.files[images])
    rows = list(csv.DictReader(read_lines(locate(card, index), card.files[index])))
    if len(rows) != len(pixels):
        raise BadInput(f"{card.name} has {len(pixels)} images and {len(rows)} lines about them")
    names = dict.fromkeys(row["character"] for row in rows)
    places = {name: place for place, name in enumerate(names)}
    labels = torch.tensor([places[row["character"]] for row in rows])
    trains = torch.tensor([int(row["drawer"]) <= _TRAINING_DRAWERS for row in rows])
    x = torch.from_numpy(pixels.reshape(len(pixels), -1).astype(np.float32) / 255)
    whole, order = ImageSplit(x, labels), torch.Generator().manual_seed(_SHUFFLE)
    train, test = (
        own[torch.randperm(len(own), generator=order)]
        for own in (trains.nonzero()[:, 0], (~trains).nonzero()[:, 0])
    )
    if (len(train), len(test)) != (card.splits.train + card.splits.valid, card.splits.test):
        raise BadInput(f"{card.name} has {len(train)} and {len(test)} images by drawer")
    parts = [whole.take(part) for part in (*train.split([*card.splits[:2]]), test)]
    return ImageDataset.build(card, binary(*parts), _SIDE, _SIDE, list(names))
