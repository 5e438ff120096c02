"""Images as data sets: the embedded digits, their batches, and what is refused."""

from __future__ import annotations

import functools
import gzip
import hashlib
import math
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posterior_collapse import datasets
from posterior_collapse.datasets import ImageDataset, images
from posterior_collapse.datasets.idx import read_idx
from posterior_collapse.datasets.registry import DATA_VARIABLE, DataMissing
from posterior_collapse.errors import BadInput


@pytest.fixture(scope="module")
def digits() -> datasets.ImageDataset:
    return datasets.load("digits")


def test_digits_are_what_their_card_says(digits) -> None:
    assert isinstance(digits, datasets.ImageDataset) and datasets.available("digits")
    assert digits.sizes == (1_197, 300, 300) == digits.card.splits
    assert (digits.height, digits.width, digits.size) == (8, 8, 64)
    assert digits.digest == digits.card.digest
    assert digits.label_names == tuple("0123456789") and digits.card.labels
    for split in (digits.train, digits.valid, digits.test):
        assert split.x.dtype == torch.float32 and split.x.shape == (len(split), 64)
        assert split.labels.dtype == torch.int64 and split.labels.shape == (len(split),)
        assert (split.x.min(), split.x.max()) == (0, 1)
        assert torch.equal((16 * split.x).round(), 16 * split.x)
        expected = len(split) / 10
        counts = torch.bincount(split.labels, minlength=10)
        assert (counts - expected).abs().max() < 5 * math.sqrt(expected)


def test_digits_are_those_of_scikit_learn_once_each(digits) -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    expected = sorted(zip(map(tuple, images.tolist()), labels.tolist(), strict=True))
    found = [
        (tuple(row), label)
        for split in (digits.train, digits.valid, digits.test)
        for row, label in zip((16 * split.x).tolist(), split.labels.tolist(), strict=True)
    ]
    assert sorted(found) == expected


def test_digits_look_like_their_labels(digits) -> None:
    """Rows of pixels and labels stay together: the nearest class mean names most digits."""
    means = torch.stack([digits.train.x[digits.train.labels == d].mean(0) for d in range(10)])
    nearest = torch.cdist(digits.test.x, means).argmin(1)
    assert (nearest == digits.test.labels).double().mean() > 0.85


def test_smaller_loads_are_prefixes(digits) -> None:
    small = datasets.load("digits", datasets.Sizes(70, 10, 5))
    assert small.sizes == (70, 10, 5) and small.digest != digits.digest
    assert torch.equal(small.train.x, digits.train.x[:70])
    assert torch.equal(small.test.labels, digits.test.labels[:5])
    assert digits.head(digits.sizes) is digits
    with pytest.raises(BadInput, match="sizes.train of digits is .* from 1 to 1197, given 1198"):
        datasets.load("digits", datasets.Sizes(1_198, 1, 1))
    with pytest.raises(BadInput, match="sizes must be Sizes"):
        datasets.load("digits", 5)


@given(number=st.integers(1, 40), batch_size=st.integers(1, 50))
def test_batches_are_consecutive_and_whole(number, batch_size) -> None:
    x = torch.rand(number, 3, generator=torch.Generator().manual_seed(number))
    split = datasets.ImageSplit(x)
    found = datasets.batches(split, batch_size)
    assert torch.equal(torch.cat(found), x)
    assert [len(batch) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
    assert 1 <= len(found[-1]) <= batch_size
    picked = split.batch_rows(batch_size)
    assert all(torch.equal(x[rows], batch) for rows, batch in zip(picked, found, strict=True))


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True])
def test_bad_batch_size_is_refused(digits, batch_size) -> None:
    for ask in (datasets.batches, datasets.ImageSplit.batch_rows):
        with pytest.raises(BadInput, match="batch_size"):
            ask(digits.valid, batch_size)


def test_take_and_contents(digits) -> None:
    rows = torch.tensor([4, 0, 4])
    taken = digits.train.take(rows)
    assert torch.equal(taken.x, digits.train.x[rows])
    assert torch.equal(taken.labels, digits.train.labels[rows])
    first, second, third = taken.contents()
    assert first == third != second
    assert datasets.ImageSplit(digits.train.x).take(rows).labels is None


def test_digest_sees_every_part(digits) -> None:
    card, split = digits.card, digits.test

    def digest(split=split, height=8, width=8, names=digits.label_names) -> str:
        return datasets.ImageDataset.build(card, [split] * 3, height, width, names).digest

    other = split.x.clone()
    other[0, 0] = 1 - other[0, 0]
    digests = [
        digest(),
        digest(datasets.ImageSplit(other, split.labels)),
        digest(datasets.ImageSplit(split.x, split.labels.flip(0))),
        digest(datasets.ImageSplit(split.x)),
        digest(height=4, width=16),
        digest(names=()),
    ]
    assert len(set(digests)) == len(digests) and digest() == digest()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 4, dtype=torch.float64), r"expected torch.float32 of shape \(N, 4\)"),
        (torch.zeros(3, 5), r"shape \(3, 5\)"),
        (torch.zeros(3, 2, 2), r"shape \(3, 2, 2\)"),
        (torch.full((3, 4), 1.5), r"outside \[0, 1\]"),
        (torch.full((3, 4), -0.1), r"outside \[0, 1\]"),
        (torch.full((3, 4), math.nan), "not numbers"),
    ],
)
def test_bad_pixels_are_refused(digits, x, message) -> None:
    with pytest.raises(BadInput, match=message):
        datasets.ImageDataset.build(digits.card, [datasets.ImageSplit(x)] * 3, 2, 2)


# --- files in the format of MNIST -----------------------------------------------------------------

PARTS = [
    f"mnist/{part}-{kind}-ubyte.gz"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
]


def idx_bytes(array: np.ndarray) -> bytes:
    """An array of bytes in the idx format, by the format's description."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def written(path: Path, packed: bytes) -> str:
    """Write a file; its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed)
    return hashlib.sha256(packed).hexdigest()


def test_idx_is_read_back(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for shape in ((5,), (4, 3), (3, 2, 7), (0, 2, 2)):
        array = draw.integers(0, 256, shape)
        path = tmp_path / "a.gz"
        found = read_idx(path, written(path, gzip.compress(idx_bytes(array))))
        assert found.dtype == np.uint8 and found.shape == shape
        np.testing.assert_array_equal(found, array)


GOOD = idx_bytes(np.arange(24).reshape(2, 3, 4))
# Without a time: it would enter the names of the tests below, which all workers must agree on.
packed_same = functools.partial(gzip.compress, mtime=0)
# Random numbers do not shrink, so a reader that goes on meets the missing end.
LARGE = bytes([0, 0, 8, 3]) + 3 * (1 << 10).to_bytes(4, "big") + os.urandom(1 << 20)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (packed_same(b"\x00\x01" + GOOD[2:]), "no idx file of bytes"),
        (packed_same(GOOD[:2] + b"\x0d" + GOOD[3:]), "no idx file of bytes"),  # float32
        (packed_same(GOOD[:2] + b"\x09" + GOOD[3:]), "no idx file of bytes"),  # signed bytes
        (packed_same(GOOD[:3] + b"\x00" + GOOD[4:]), "one to three dimensions"),
        (packed_same(GOOD[:3] + b"\x04" + GOOD[4:]), "one to three dimensions"),
        (packed_same(GOOD[:-1]), r"states 24 numbers for shape \(2, 3, 4\) and holds 23"),
        (packed_same(GOOD + b"\x00"), r"states 24 numbers .* and holds more"),
        (packed_same(GOOD[:10]), "broken idx file"),  # within the header
        (packed_same(GOOD[:3]), "broken idx file"),
        (packed_same(b""), "broken idx file"),
        (packed_same(GOOD)[:-12], "broken idx file"),
        (
            packed_same(GOOD)[:-4] + b"\x00\x00\x00\x07",
            "broken idx file",
        ),  # length in the trailer
        (packed_same(GOOD)[:9], "broken idx file"),
        (GOOD, "broken idx file"),  # not compressed
        (b"", "broken idx file"),
        (packed_same(LARGE)[:-9], r"states 1073741824 bytes for shape .* most: 268435456"),
    ],
)
def test_broken_idx_is_refused(tmp_path: Path, packed: bytes, message: str) -> None:
    path = tmp_path / "a.gz"
    with pytest.raises(BadInput, match=f"a.gz.*{message}"):
        read_idx(path, written(path, packed))


@pytest.mark.parametrize(
    ("side", "message"),
    [
        (1 << 31, "states 9903520314283042199192993792 bytes"),
        (2, r"states 8 numbers for shape \(2, 2, 2\) and holds more"),
    ],
)
def test_no_more_is_unpacked_than_is_needed(tmp_path: Path, side: int, message: str) -> None:
    """Sixteen million zeros shrink to nothing; a reader must not take memory for all of them."""
    content = bytes([0, 0, 8, 3]) + 3 * side.to_bytes(4, "big") + bytes(1 << 24)
    path = tmp_path / "a.gz"
    digest = written(path, gzip.compress(content))
    del content
    tracemalloc.start()
    with pytest.raises(BadInput, match=message):
        read_idx(path, digest)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_another_checksum_or_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    found = written(path, gzip.compress(GOOD))
    with pytest.raises(BadInput, match=f"SHA-256 {found}, expected {'0' * 64}; fetch"):
        read_idx(path, "0" * 64)
    assert read_idx(path, "0" * 64, found).size  # the publisher's own gzip of the same content
    with pytest.raises(DataMissing, match="cannot open"):
        read_idx(tmp_path / "b.gz", found)


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Arrays], ImageDataset]:
    """Builds a set of 7 + 4 images from four arrays: images and labels of train and test."""
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))

    def make(arrays: Arrays) -> ImageDataset:
        sums = {
            name: written(tmp_path / name, gzip.compress(idx_bytes(array), mtime=0))
            for name, array in zip(PARTS, arrays, strict=True)
        }
        card = replace(datasets.card("mnist"), files=sums, splits=datasets.Sizes(5, 2, 4))
        return images._from_files(("zero", "one", "two"), card)

    return make


def some_images() -> Arrays:
    draw = np.random.default_rng(0)
    return (
        draw.integers(0, 256, (7, 28, 28)),
        np.array([0, 1, 2, 0, 1, 2, 0]),
        draw.integers(0, 256, (4, 28, 28)),
        np.array([2, 1, 0, 2]),
    )


def test_images_from_files(files: Callable[[Arrays], ImageDataset]) -> None:
    pixels, labels, test_pixels, test_labels = some_images()
    data = files(some_images())
    assert data.sizes == (5, 2, 4) and (data.height, data.width) == (28, 28)
    assert data.label_names == ("zero", "one", "two") and data.digest == files(some_images()).digest
    np.testing.assert_array_equal(data.test.labels, test_labels)
    np.testing.assert_allclose(255 * data.test.x, test_pixels.reshape(4, -1), atol=1e-4)
    assert data.train.x.dtype == torch.float32 and data.train.labels.dtype == torch.int64
    # Training and validation hold each image of the file once, with its label.
    x = torch.cat([data.train.x, data.valid.x])
    told = torch.cat([data.train.labels, data.valid.labels])
    place = torch.cdist(x, torch.from_numpy(pixels.reshape(7, -1) / 255).float()).argmin(1)
    assert sorted(place.tolist()) == list(range(7))
    np.testing.assert_array_equal(told, labels[place])


@pytest.mark.parametrize(
    ("place", "array", "message"),
    [
        (0, np.zeros((7, 784)), r"images of shape \(7, 784\)"),
        (0, np.zeros((7, 28, 27)), r"images of shape \(7, 28, 27\) .* expected \(N, 28, 28\)"),
        (2, np.zeros((4, 14, 56)), r"images of shape \(4, 14, 56\)"),  # as many pixels
        (0, np.zeros((6, 28, 28)), r"labels of shape \(7,\) do not belong together"),
        (1, np.zeros((7, 1)), r"labels of shape \(7, 1\) do not belong together"),
        (1, np.full(7, 3), r"mnist has the label 3; allowed: 0 \.\. 2"),
        (3, np.array([0, 0, 9, 0]), r"mnist has the label 9; allowed: 0 \.\. 2"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    files: Callable[[Arrays], ImageDataset], place: int, array: np.ndarray, message: str
) -> None:
    arrays = [*some_images()]
    arrays[place] = array
    with pytest.raises(BadInput, match=message):
        files(tuple(arrays))  # type: ignore[arg-type]


def test_files_of_other_sizes_are_refused(files: Callable[[Arrays], ImageDataset]) -> None:
    pixels, labels, *test = some_images()
    with pytest.raises(BadInput, match="6 training and 4 test images; expected 7 and 4"):
        files((pixels[:6], labels[:6], test[0], test[1]))
