"""Binary images as data: pixels that an epoch draws, OMNIGLOT, a few labels of each class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from posterior_collapse import datasets
from posterior_collapse.datasets import omniglot
from posterior_collapse.datasets.registry import CARDS, DATA_VARIABLE, DataMissing
from posterior_collapse.errors import BadInput
from posterior_collapse.probes import few_labels
from posterior_collapse.runs import Spec
from posterior_collapse.runs.batches import EpochBatches

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits() -> datasets.ImageDataset:
    return datasets.load("binary-digits")


def test_binary_digits_are_the_grey_ones(digits) -> None:
    grey = datasets.load("digits")
    assert digits.digest == digits.card.digest and digits.sizes == grey.sizes
    assert digits.train.chances and torch.equal(digits.train.x, grey.train.x)
    for held, source in ((digits.valid, grey.valid), (digits.test, grey.test)):
        assert not held.chances and set(held.x.unique().tolist()) == {0.0, 1.0}
        assert torch.equal(held.labels, source.labels)
        # Certain pixels stay, and the others average to their chances.
        assert torch.equal(held.x[source.x == 0], source.x[source.x == 0])
        assert abs(float((held.x - source.x).mean())) < 0.01
    again = datasets.load("binary-digits")
    assert torch.equal(again.test.x, digits.test.x)


def test_drawn_pixels_have_their_chances(digits) -> None:
    draws = torch.stack([digits.train.drawn(generator(s)).x[:20] for s in range(400)])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    chances = digits.train.x[:20]
    error = (chances * (1 - chances) / 400).sqrt()
    assert ((draws.mean(0) - chances).abs() <= 5 * error).all()
    one = digits.train.drawn(generator(3))
    assert not one.chances and torch.equal(one.labels, digits.train.labels)
    assert one.drawn(generator(4)) is one  # 0 and 1 are no chances any more
    assert digits.train.take(torch.tensor([1, 0])).chances
    assert digits.head(datasets.Sizes(9, 3, 3)).train.chances


def test_the_digest_sees_whether_pixels_are_drawn(digits) -> None:
    fixed = replace(digits.train, chances=False)
    splits = [fixed, digits.valid, digits.test]
    other = datasets.ImageDataset.build(digits.card, splits, 8, 8, digits.label_names)
    assert other.digest != digits.digest


def test_every_epoch_draws_its_pixels_and_a_resumed_one_the_same() -> None:
    spec = Spec("pixels-digits", "vae", "smoke", 0)
    batches = EpochBatches(spec, CPU)
    first = torch.cat(list(batches))
    batches.begin(1)
    second = torch.cat(list(batches))
    assert first.shape == second.shape and not torch.equal(first, second)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    resumed = EpochBatches(spec, CPU)
    resumed.begin(1)
    assert torch.equal(torch.cat(list(resumed)), second)
    batches.begin(0)
    assert torch.equal(torch.cat(list(batches)), first)
    other = EpochBatches(replace(spec, seed=1), CPU)
    assert not torch.equal(torch.cat(list(other)), first)


# --- OMNIGLOT -------------------------------------------------------------------------------------


def test_omniglot_is_what_its_card_says() -> None:
    if not datasets.available("omniglot"):
        pytest.skip(f"OMNIGLOT is not in the folder that {DATA_VARIABLE} names")
    data = datasets.load("omniglot")
    assert data.digest == data.card.digest and data.sizes == (22_345, 2_000, 8_115)
    assert (data.height, data.width) == (28, 28) and len(data.label_names) == 1_623
    assert len({name.partition("/")[0] for name in data.label_names}) == 50
    counts = torch.bincount(torch.cat([data.train.labels, data.valid.labels]), minlength=1_623)
    assert (counts == 15).all()
    assert (torch.bincount(data.test.labels, minlength=1_623) == 5).all()
    assert data.train.chances and set(data.valid.x.unique().tolist()) == {0.0, 1.0}
    assert 0.07 < float(data.train.x.mean()) < 0.09 and 0.07 < float(data.test.x.mean()) < 0.09
    # In random order: the first thousand images are of most alphabets.
    names = {data.label_names[int(k)].partition("/")[0] for k in data.train.labels[:1000]}
    assert len(names) > 45


def test_omniglot_that_is_not_there_says_what_is_wanted(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    with pytest.raises(DataMissing, match="omniglot_28_gray"):
        datasets.load("omniglot")
    folder = tmp_path / "omniglot"
    folder.mkdir()
    for name in CARDS["omniglot"].files:
        (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(BadInput, match="SHA-256"):
        datasets.load("omniglot")


def test_a_broken_file_of_images_is_refused(tmp_path) -> None:
    import hashlib
    import io
    import lzma

    def refused(content: bytes, told: str) -> None:
        path = tmp_path / "images.npy.xz"
        path.write_bytes(content)
        with pytest.raises(BadInput, match=told):
            omniglot._pixels(path, hashlib.sha256(content).hexdigest())

    refused(b"no xz file", "broken file")
    refused(lzma.compress(b"no array"), "broken file")
    stream = io.BytesIO()
    np.save(stream, np.zeros((2, 5, 5), dtype=np.uint8))
    refused(lzma.compress(stream.getvalue()), "expected grey images")
    with pytest.raises(DataMissing, match="cannot open"):
        omniglot._pixels(tmp_path / "none.xz", "")


# --- a few labels ---------------------------------------------------------------------------------


def clouds(per_class: int, seed: int, far: float = 20.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes around one point a class, of six, in random order."""
    classes = 6
    labels = torch.arange(classes).repeat(per_class)
    centres = far * torch.eye(classes, 8)
    codes = centres[labels] + torch.randn(len(labels), 8, generator=generator(seed))
    order = torch.randperm(len(labels), generator=generator(seed + 1))
    return codes[order], labels[order]


def test_few_labels_name_what_is_apart_and_guess_what_is_not() -> None:
    groups = ["a", "b", "a", "b", "a", "b"]
    apart = few_labels(clouds(20, 0), clouds(10, 5), groups, (5, 15))
    assert {count: own.tolist() for count, own in apart.items()} == {5: [1, 1], 15: [1, 1]}
    train, test = clouds(40, 0), clouds(400, 5)
    mixed = (torch.zeros_like(train[0]), train[1]), (torch.zeros_like(test[0]), test[1])
    guessed = few_labels(*mixed, groups, (5,))[5]
    assert np.allclose(guessed, 1 / 3, atol=0.01)


def test_few_labels_grow_with_their_number_and_do_not_depend_on_the_others() -> None:
    train, test, names = clouds(40, 0, 2.0), clouds(60, 9, 2.0), [""] * 6
    curve = few_labels(train, test, names, (2, 5, 30))
    assert curve[2][0] < curve[5][0] < curve[30][0] < 1.0
    again = few_labels(train, test, names, (2, 99))  # 99: all 40 that there are
    assert again[2].tolist() == curve[2].tolist() and again[99][0] > curve[5][0]


def test_a_group_without_test_images_is_left_out() -> None:
    train, (codes, labels) = clouds(10, 0), clouds(10, 3)
    kept = labels < 4
    found = few_labels(train, (codes[kept], labels[kept]), ["a"] * 4 + ["b"] * 2, (5,))
    assert len(found[5]) == 1
