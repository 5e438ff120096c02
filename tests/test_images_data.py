"""Images as data sets: the embedded digits, their batches, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posterior_collapse import datasets
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
    with pytest.raises(BadInput, match=r"sizes.train = 1198 asked of digits; .* 1 \.\. 1197"):
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
