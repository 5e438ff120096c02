"""Labelled subsets: nested, aligned with their labels, and outside the test split."""

from __future__ import annotations

import hashlib
import lzma
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from posterior_collapse import datasets
from posterior_collapse.datasets import registry, text
from posterior_collapse.datasets.registry import DATA_VARIABLE
from posterior_collapse.errors import BadInput

DATA = os.environ.get(DATA_VARIABLE, "")
needs_data = pytest.mark.skipif(not DATA, reason=f"{DATA_VARIABLE} names no data folder")


def labelled_rows(split) -> list[tuple[bytes, int]]:
    return list(zip(split.contents(), split.labels.tolist(), strict=True))


def assert_nested(subsets) -> None:
    sizes = list(subsets)
    assert sizes == sorted(sizes)
    for small, large in zip(sizes, sizes[1:], strict=False):
        first = labelled_rows(subsets[small])
        assert first == labelled_rows(subsets[large])[: len(first)]


@pytest.mark.parametrize("name", ["grammar", "digits"])
def test_subsets_are_cut_from_training(name) -> None:
    data = datasets.load(name)
    subsets = datasets.labelled_subsets(data)
    expected = [size for size in datasets.LABELLED_SIZES if size <= len(data.train)]
    assert list(subsets) == expected and len(expected) >= 3
    assert [len(split) for split in subsets.values()] == expected
    assert_nested(subsets)
    test = set(data.test.contents())
    known = labelled_rows(data.train)
    for split in subsets.values():
        assert type(split) is type(data.train)
        assert test.isdisjoint(split.contents())
        assert set(labelled_rows(split)) <= set(known)
    largest = subsets[expected[-1]]
    assert len(labelled_rows(largest)) == expected[-1]
    assert largest.contents() != data.train.contents()[: expected[-1]]  # shuffled
    again = datasets.labelled_subsets(datasets.load(name))
    assert all(labelled_rows(again[size]) == labelled_rows(subsets[size]) for size in expected)
    assert len(largest.labels.unique()) == len(data.label_names)


def test_no_example_of_training_is_taken_twice() -> None:
    data = datasets.load("digits")
    assert len(set(data.train.contents())) == len(data.train)  # so rows can be told apart
    assert len(set(datasets.labelled_subsets(data)[1_000].contents())) == 1_000


def test_subsets_leave_out_what_the_test_split_holds() -> None:
    """A tiny corpus whose training split repeats its test split."""
    number, gen = 160, torch.Generator().manual_seed(0)
    tokens = torch.randint(4, 10, (number, 5), generator=gen)
    tokens[:, 0], tokens[:, -1] = datasets.BOS, datasets.EOS
    split = datasets.Split(tokens, torch.full((number,), 5), torch.arange(number) % 2)
    test = split.take(torch.arange(40))
    card, vocabulary = datasets.card("grammar"), datasets.Vocabulary("abcdef")
    data = datasets.TextDataset.build(card, [split, test, test], vocabulary, ("x", "y"))
    subsets = datasets.labelled_subsets(data)
    assert list(subsets) == [100] and len(subsets[100]) == 100
    assert set(subsets[100].contents()).isdisjoint(test.contents())
    few = split.take(torch.arange(130))
    data = datasets.TextDataset.build(card, [few, test, test], vocabulary, ("x", "y"))
    with pytest.raises(BadInput, match="training examples of grammar .* smallest .* has 100"):
        datasets.labelled_subsets(data)


def test_a_set_without_labels_is_refused() -> None:
    split = datasets.Split(torch.tensor([[1, 4, 2]]), torch.tensor([3]))
    bare = datasets.TextDataset.build(
        datasets.card("ptb"), [split] * 3, datasets.Vocabulary(["a"]), suffix="[max_length=1]"
    )
    with pytest.raises(BadInput, match=r"ptb\[max_length=1\] has no labels; .*grammar.*yelp-short"):
        datasets.labelled_subsets(bare)


@pytest.fixture
def filed(tmp_path, monkeypatch):
    """A corpus "yahoo" that comes with labelled subsets of 2 and 4 sentences."""
    content = {
        "train.xz": "0\tred sky\n1\tblue sky\n0\tred sea\n1\tblue sea\n" * 3,
        "valid.xz": "0\tred red\n1\tsky sky\n",
        "test.xz": "1\tblue blue sky\n0\tred red red\n",
        "2.xz": "1\tblue sea sky\n0\tred red red\n",
        "4.xz": "1\tblue sea sky\n0\tred red red\n0\tred sky new\n1\tblue blue sky sea\n",
    }
    sums = {}
    for name, raw in content.items():
        packed = lzma.compress(raw.encode())
        (tmp_path / name).write_bytes(packed)
        sums[name] = hashlib.sha256(packed).hexdigest()
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    card = registry.Card(**(vars(registry.CARDS["yahoo"]) | {"files": sums}))
    monkeypatch.setitem(registry.CARDS, "yahoo", card)
    source = text._Source(
        train=("train.xz",),
        held_out=("valid.xz", "test.xz"),
        file_labels=(None, None, None),
        label_names=("bad", "good"),
        separate=text._clear_training,
        labelled={2: "2.xz", 4: "4.xz"},
    )
    monkeypatch.setitem(text.SOURCES, "yahoo", source)
    return tmp_path


def test_subsets_from_files_are_encoded_and_cleared(filed) -> None:
    data = datasets.load("yahoo")
    subsets = datasets.labelled_subsets(data)
    shown = {
        number: [
            (data.vocabulary.decode(row), label)
            for row, label in zip(split.tokens, split.labels.tolist(), strict=True)
        ]
        for number, split in subsets.items()
    }
    first = [("blue sea sky", 1)]  # "red red red" is in the test file
    assert shown == {2: first, 4: [*first, ("red sky <unk>", 0), ("blue blue sky sea", 1)]}
    assert_nested(subsets)


def test_subsets_from_files_follow_the_options(filed) -> None:
    """Cut to three words, a fourth sentence equals one of the test file."""
    data = datasets.load("yahoo", max_length=3)
    assert len(datasets.labelled_subsets(data)[4]) == 2
    smaller = data.head(datasets.Sizes(2, 1, 1))
    held = set(smaller.test.contents())
    for split in datasets.labelled_subsets(smaller).values():
        assert held.isdisjoint(split.contents())
    everything = replace(data, test=text.labelled(data)[4])
    with pytest.raises(BadInput, match="test split of .* holds all 2 sentences of a subset"):
        datasets.labelled_subsets(everything)


def test_a_missing_or_changed_subset_is_refused(filed) -> None:
    data = datasets.load("yahoo")
    (filed / "4.xz").write_bytes(lzma.compress(b"1\tsky\n"))
    with pytest.raises(BadInput, match="4.xz has SHA-256"):
        datasets.labelled_subsets(data)
    (filed / "4.xz").unlink()
    with pytest.raises(datasets.DataMissing, match="no file .*4.xz"):
        datasets.labelled_subsets(data)


@needs_data
def test_short_yelp_subsets() -> None:
    data = datasets.load("yelp-short")
    subsets = datasets.labelled_subsets(data)
    assert_nested(subsets)
    dropped = {number: number - len(split) for number, split in subsets.items()}
    assert dropped == {100: 7, 500: 35, 1_000: 65, 2_000: 130, 10_000: 653}
    folder = Path(DATA) / "yelp-short"
    with lzma.open(folder / "short_yelp.test.txt.xz", "rt", encoding="utf-8") as stream:
        test = {line.split("\t", 1)[1].strip() for line in stream}
    for number, split in subsets.items():
        with lzma.open(folder / f"short_yelp.train.{number}.txt.xz", "rt") as stream:
            raw = [line.rstrip("\n").split("\t", 1) for line in stream]
        kept = [(int(label), line) for label, line in raw if line.strip() not in test]
        decoded = [data.vocabulary.decode(row) for row in split.tokens]
        assert kept == list(zip(split.labels.tolist(), decoded, strict=True))
