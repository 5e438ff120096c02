"""Sets of images in the idx format of MNIST: gzipped arrays of bytes with a short header.

Format: two zero bytes, the type of the numbers (8 for unsigned bytes), the number of dimensions,
each dimension as four bytes with the most significant first, and then the numbers.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from posterior_collapse.datasets.images import ImageDataset, ImageSplit
from posterior_collapse.datasets.registry import Card, DataMissing
from posterior_collapse.datasets.text import locate
from posterior_collapse.errors import BadInput

__all__ = ["build", "read_idx"]

SEED = 12  # of the permutation that takes the validation images out of the training file
_SIDE = 28  # pixels along a side
_UNSIGNED_BYTES = 0x08
_MOST_BYTES = 1 << 28  # of one array; a header that asks for more is refused before it is read


def read_idx(path: Path, sha256: str) -> NDArray[np.uint8]:
    """The array in a gzipped idx file.

    Args:
        path: the compressed file.
        sha256: hexadecimal checksum that the compressed file must have.

    Raises:
        BadInput: another checksum, a broken file, or one that is not an array of bytes.
        DataMissing: the file cannot be opened.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataMissing(f"cannot open {path}: {error.strerror}") from error
    with stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != sha256:
            raise BadInput(f"{path} has SHA-256 {found}, expected {sha256}; fetch the file again")
        stream.seek(0)
        try:
            with gzip.open(stream, "rb") as content:
                return _parse(content, path)
        except (EOFError, zlib.error, gzip.BadGzipFile, struct.error) as error:
            raise BadInput(f"{path}: broken idx file ({error})") from error


def _parse(content: gzip.GzipFile, path: Path) -> NDArray[np.uint8]:
    """Header and numbers; the size that the header states is checked before memory is taken."""
    zero, kind, dimensions = struct.unpack(">HBB", content.read(4))
    if zero != 0 or kind != _UNSIGNED_BYTES or not 1 <= dimensions <= 3:
        raise BadInput(f"{path} is no idx file of bytes with one to three dimensions")
    shape = struct.unpack(f">{dimensions}I", content.read(4 * dimensions))
    size = int(np.prod([float(n) for n in shape]))
    if size > _MOST_BYTES:
        raise BadInput(f"{path} states {size} bytes for shape {shape}; most: {_MOST_BYTES}")
    data = content.read(size + 1)
    if len(data) != size:
        told = "more" if len(data) > size else str(len(data))
        raise BadInput(f"{path} states {size} numbers for shape {shape} and holds {told}")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _pair(card: Card, part: str) -> ImageSplit:
    """Images of a part, ``train`` or ``t10k``, with their labels."""
    arrays = []
    for kind in ("images-idx3", "labels-idx1"):
        (file,) = (name for name in card.files if f"/{part}-{kind}" in name)
        arrays.append(read_idx(locate(card, file), card.files[file]))
    pixels, labels = arrays
    if pixels.shape[1:] != (_SIDE, _SIDE) or labels.shape != pixels.shape[:1]:
        raise BadInput(
            f"{card.name}: images of shape {pixels.shape} and labels of shape {labels.shape} do "
            f"not belong together; expected (N, {_SIDE}, {_SIDE}) and (N,)"
        )
    rows = torch.from_numpy(pixels.reshape(len(pixels), -1).astype(np.float32) / 255)
    return ImageSplit(rows, torch.from_numpy(labels.copy()).long())


def build(card: Card, label_names: tuple[str, ...]) -> ImageDataset:
    """Training, validation and test images.

    The validation images are taken out of the training file by a seeded permutation, and what
    trains is in that order too.

    Raises:
        BadInput: a file that is not what the registry says.
        DataMissing: a file that is not there.
    """
    whole, test = _pair(card, "train"), _pair(card, "t10k")
    if (len(whole), len(test)) != (card.splits.train + card.splits.valid, card.splits.test):
        raise BadInput(
            f"{card.name} has {len(whole)} training and {len(test)} test images; expected "
            f"{card.splits.train + card.splits.valid} and {card.splits.test}"
        )
    for labels in (whole.labels, test.labels):
        if labels is not None and int(labels.max()) >= len(label_names):
            raise BadInput(
                f"{card.name} has the label {int(labels.max())}; allowed: 0 .. "
                f"{len(label_names) - 1}"
            )
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(SEED))
    train, valid = (whole.take(rows) for rows in order.split([*card.splits[:2]]))
    return ImageDataset.build(card, [train, valid, test], _SIDE, _SIDE, label_names)
