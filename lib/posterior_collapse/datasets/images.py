"""Images as arrays, and the small set of digits that is embedded.

An image is a row of P = height x width grey values in [0, 1], line by line from its top.

To add a set of images, enter a card in the registry and a function from that card to an
``ImageDataset`` in ``SOURCES``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from posterior_collapse.datasets.arrays import check_sizes, digest_of
from posterior_collapse.datasets.idx import read_idx
from posterior_collapse.datasets.registry import Card, Sizes
from posterior_collapse.datasets.text import locate
from posterior_collapse.errors import BadInput, whole

SEED = 12  # of the permutation that makes the splits of the digits
_SHUFFLE = 12  # of the permutation that takes the validation images out of the training file
_SIDE = 28  # pixels along a side of the images in files


@dataclass(frozen=True)
class ImageSplit:
    """One part of a set of images.

    Attributes:
        x: (N, P) float32 in [0, 1].
        labels: (N,) int64 or None.
        chances: whether a grey value is the chance of a black pixel, which a training epoch draws.
    """

    x: Tensor
    labels: Tensor | None = None
    chances: bool = False

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Tensor) -> ImageSplit:
        """The images in ``rows`` (M,)."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, x=self.x[rows], labels=labels)

    def drawn(self, generator: torch.Generator) -> ImageSplit:
        """The images with their pixels drawn, 0 or 1; itself where grey values are no chances."""
        if not self.chances:
            return self
        return replace(self, x=torch.bernoulli(self.x, generator=generator), chances=False)

    def contents(self) -> list[bytes]:
        """Each image; equal images give equal bytes."""
        return [row.tobytes() for row in self.x.numpy()]

    def batch_rows(self, batch_size: int) -> list[Tensor]:
        """Row numbers of the images in each batch of :meth:`batches`."""
        whole("batch_size", batch_size)
        return list(torch.arange(len(self)).split(batch_size))

    def batches(self, batch_size: int) -> list[Tensor]:
        """Consecutive images (B, P); the last batch may be smaller.

        Raises:
            BadInput: ``batch_size`` is no integer of at least 1.
        """
        whole("batch_size", batch_size)
        return list(self.x.split(batch_size))


@dataclass(frozen=True)
class ImageDataset:
    """A set of images ready for training.

    Tensors may be shared with later loads of the same set; do not write into them.

    Attributes:
        name: the registry's name.
        train, valid, test: the splits.
        height, width: pixels.
        card: the registry's card.
        label_names: name of each label id; empty if there are no labels.
        digest: SHA-256, hexadecimal, of name, shape, label names and every array.
    """

    name: str
    train: ImageSplit
    valid: ImageSplit
    test: ImageSplit
    height: int
    width: int
    card: Card
    label_names: tuple[str, ...]
    digest: str

    @staticmethod
    def build(
        card: Card,
        splits: Sequence[ImageSplit],
        height: int,
        width: int,
        label_names: Sequence[str] = (),
    ) -> ImageDataset:
        """Put (train, valid, test) together and compute the digest.

        Raises:
            BadInput: pixels that are not float32 in [0, 1], or not height x width of them.
        """
        for split in splits:
            _check_pixels(split.x, height * width, card.name)
        train, valid, test = splits
        labels = tuple(label_names)
        digest = _image_digest(card.name, splits, height, width, labels)
        return ImageDataset(card.name, train, valid, test, height, width, card, labels, digest)

    @property
    def size(self) -> int:
        """Pixels of an image, P = height x width."""
        return self.height * self.width

    @property
    def sizes(self) -> Sizes:
        """Images in each split."""
        return Sizes(len(self.train), len(self.valid), len(self.test))

    def head(self, sizes: Sizes) -> ImageDataset:
        """The first images of each split.

        Raises:
            BadInput: a size below 1 or above what there is, or not an integer.
        """
        checked = check_sizes(sizes, self.sizes, self.name)
        if checked == self.sizes:
            return self
        whole = zip((self.train, self.valid, self.test), checked, strict=True)
        train, valid, test = (split.take(torch.arange(number)) for split, number in whole)
        parts = (train, valid, test)
        digest = _image_digest(self.name, parts, self.height, self.width, self.label_names)
        return replace(self, train=train, valid=valid, test=test, digest=digest)


def _check_pixels(x: Tensor, pixels: int, name: str) -> None:
    if x.dtype != torch.float32 or x.ndim != 2 or x.shape[1] != pixels:
        raise BadInput(
            f"images of {name} are {x.dtype} of shape {tuple(x.shape)}; "
            f"expected torch.float32 of shape (N, {pixels})"
        )
    if not ((x >= 0) & (x <= 1)).all():
        raise BadInput(f"pixels of {name} lie outside [0, 1], or are not numbers")


def _image_digest(
    name: str, splits: Sequence[ImageSplit], height: int, width: int, label_names: Sequence[str]
) -> str:
    header: dict[str, object] = {"name": name, "height": height, "width": width}
    header["labels"] = list(label_names)
    if any(split.chances for split in splits):
        header["chances"] = [split.chances for split in splits]
    return digest_of(header, (a for split in splits for a in (split.x, split.labels)))


def binary(train: ImageSplit, valid: ImageSplit, test: ImageSplit) -> list[ImageSplit]:
    """Splits of binary images: training draws its pixels in every epoch, the others once.

    He et al. 2019, appendix B.3; the draws of validation and test are seeded.
    """
    once = torch.Generator().manual_seed(SEED)
    held_out = [replace(split, chances=True).drawn(once) for split in (valid, test)]
    return [replace(train, chances=True), *held_out]


def _binary_digits(card: Card) -> ImageDataset:
    """The same digits, whose grey values are chances of ink."""
    grey = _digits(card)
    splits = binary(grey.train, grey.valid, grey.test)
    return ImageDataset.build(card, splits, 8, 8, grey.label_names)


def _digits(card: Card) -> ImageDataset:
    """The digits that scikit-learn carries, cut by a seeded permutation."""
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    pixels, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(pixels / 16).float()  # written as 0 .. 16
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(SEED))
    whole = ImageSplit(x[order], torch.from_numpy(labels).long()[order])
    splits = [whole.take(rows) for rows in torch.arange(len(x)).split(list(card.splits))]
    return ImageDataset.build(card, splits, 8, 8, [str(digit) for digit in range(10)])


def _pair(card: Card, part: str) -> ImageSplit:
    """Images of a part, ``train`` or ``t10k``, with their labels."""
    arrays = []
    for kind in ("images-idx3", "labels-idx1"):
        (file,) = (name for name in card.files if f"/{part}-{kind}" in name)
        others = [card.originals[file].sha256] if file in card.originals else []
        arrays.append(read_idx(locate(card, file), card.files[file], *others))
    pixels, labels = arrays
    if pixels.shape[1:] != (_SIDE, _SIDE) or labels.shape != pixels.shape[:1]:
        raise BadInput(
            f"{card.name}: images of shape {pixels.shape} and labels of shape {labels.shape} do "
            f"not belong together; expected (N, {_SIDE}, {_SIDE}) and (N,)"
        )
    rows = torch.from_numpy(pixels.reshape(len(pixels), -1).astype(np.float32) / 255)
    return ImageSplit(rows, torch.from_numpy(labels.copy()).long())


def _from_files(label_names: tuple[str, ...], card: Card) -> ImageDataset:
    """Training, validation and test images.

    The validation images are taken out of the training file by a seeded permutation, and what
    trains is in that order too.
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
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(_SHUFFLE))
    train, valid = (whole.take(rows) for rows in order.split([*card.splits[:2]]))
    return ImageDataset.build(card, [train, valid, test], _SIDE, _SIDE, label_names)


_CLOTHES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)

SOURCES: dict[str, Callable[[Card], ImageDataset]] = {
    "digits": _digits,
    "binary-digits": _binary_digits,
    "mnist": partial(_from_files, tuple("0123456789")),
    "fashion-mnist": partial(_from_files, _CLOTHES),
}


def build(card: Card) -> ImageDataset:
    """The whole set of images; see ``SOURCES``.

    Raises:
        BadInput: a file that is not what the registry says.
        DataMissing: a file that is not there.
    """
    return SOURCES[card.name](card)
