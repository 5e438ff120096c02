"""Text as arrays: vocabularies, splits, batches of equal length, digests.

A sentence ``w1 .. wn`` is stored as ``BOS w1 .. wn EOS``, followed by PAD up to the width of
its split.  Its length counts BOS and EOS, so it is ``n + 2``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from posterior_collapse.datasets.registry import Card, Sizes
from posterior_collapse.errors import BadInput, whole

PAD, BOS, EOS, UNK = 0, 1, 2, 3
MARKS = ("<pad>", "<bos>", "<eos>", "<unk>")


class Vocabulary:
    """Words and their ids.

    Ids 0 to 3 are the marks PAD, BOS, EOS and UNK; the given words follow in the given order.

    Args:
        words: distinct words without white space, none of them a mark.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words: tuple[str, ...] = MARKS + tuple(words)
        self._ids = {word: index for index, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            seen: set[str] = set()
            twice = next(w for w in self.words if w in seen or seen.add(w))  # type: ignore[func-returns-value]
            raise BadInput(f'vocabulary holds the word "{twice}" twice (the marks are {MARKS})')
        for word in self.words:
            if not word or word.split() != [word]:
                raise BadInput(f"vocabulary words are not empty and hold no white space: {word!r}")

    @property
    def size(self) -> int:
        """Number of ids, the four marks included."""
        return len(self.words)

    def __len__(self) -> int:
        return self.size

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def id(self, word: str) -> int:
        """The id of ``word``; UNK for a word that is not here.

        A text that spells out ``<pad>``, ``<bos>`` or ``<eos>`` gets UNK too: only the loader
        sets those marks.
        """
        index = self._ids.get(word, UNK)
        return index if index > EOS else UNK

    def encode(self, sentence: str | Sequence[str]) -> list[int]:
        """Ids of ``BOS w1 .. wn EOS`` for a sentence given as words or as one string."""
        words = sentence.split() if isinstance(sentence, str) else sentence
        return [BOS, *(self.id(word) for word in words), EOS]

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """The words up to the first EOS, joined by spaces; BOS and PAD are left out.

        Raises:
            BadInput: an id below 0 or not below ``size``.
        """
        words = []
        for index in ids.tolist() if isinstance(ids, Tensor) else ids:
            if not 0 <= index < self.size:
                raise BadInput(f"word id {index} is outside 0 .. {self.size - 1}")
            if index == EOS:
                break
            if index not in (PAD, BOS):
                words.append(self.words[index])
        return " ".join(words)


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
        tokens: (N, T) int64, each row ``BOS w1 .. wn EOS PAD ..``.
        lengths: (N,) int64, tokens of each row with BOS and EOS, without PAD.
        labels: (N,) int64 or None.
    """

    tokens: Tensor
    lengths: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, rows: Tensor) -> Split:
        """The sentences in ``rows`` (M,), at least one, as narrow as they allow."""
        lengths = self.lengths[rows]
        labels = None if self.labels is None else self.labels[rows]
        return Split(self.tokens[rows, : int(lengths.max())], lengths, labels)

    def contents(self) -> list[bytes]:
        """Each sentence without its padding; equal sentences give equal bytes."""
        pairs = zip(self.tokens.numpy(), self.lengths.tolist(), strict=True)
        return [tokens[:length].tobytes() for tokens, length in pairs]

    def batch_rows(self, batch_size: int) -> list[Tensor]:
        """Row numbers of the sentences in each batch of :meth:`batches`.

        Args:
            batch_size: most sentences in a batch, at least 1.

        Returns:
            Tensors (B,) int64 that together hold each of 0 .. N-1 once.  Short sentences first;
            sentences of one length keep the order of the split; the last batch of a length may
            be smaller.

        Raises:
            BadInput: ``batch_size`` is no integer of at least 1.
        """
        whole("batch_size", batch_size)
        order = torch.argsort(self.lengths, stable=True)
        counts = torch.unique_consecutive(self.lengths[order], return_counts=True)[1]
        return [rows for group in order.split(counts.tolist()) for rows in group.split(batch_size)]

    def batches(self, batch_size: int) -> list[Tensor]:
        """The split in batches without padding (B, T_b) int64, all of a batch equally long.

        They are in the order of :meth:`batch_rows`, the same at every call; a training loop
        permutes them with its own generator.
        """
        rows = self.batch_rows(batch_size)
        return [self.tokens[own, : int(self.lengths[own[0]])] for own in rows]


@dataclass(frozen=True)
class TextDataset:
    """A corpus ready for training.

    Tensors may be shared with later loads of the same set; do not write into them.

    Attributes:
        name: the registry's name, with the options that change the text appended.
        train, valid, test: the splits.
        vocabulary: words of all ids in the splits.
        card: the registry's card, with ``counts`` filled in.
        label_names: name of each label id; empty if there are no labels.
        digest: SHA-256, hexadecimal, of name, vocabulary, label names and every array.
        max_length: words that were kept of each sentence; None if all were.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    vocabulary: Vocabulary
    card: Card
    label_names: tuple[str, ...]
    digest: str
    max_length: int | None = None

    @staticmethod
    def build(
        card: Card,
        splits: Sequence[Split],
        vocabulary: Vocabulary,
        label_names: Sequence[str] = (),
        suffix: str = "",
        max_length: int | None = None,
    ) -> TextDataset:
        """Put (train, valid, test) together and compute the digest."""
        train, valid, test = splits
        name, labels = card.name + suffix, tuple(label_names)
        digest = _text_digest(name, splits, vocabulary, labels)
        return TextDataset(name, train, valid, test, vocabulary, card, labels, digest, max_length)

    @property
    def size(self) -> int:
        """Number of ids in the vocabulary, the four marks included."""
        return self.vocabulary.size

    @property
    def sizes(self) -> Sizes:
        """Sentences in each split."""
        return Sizes(len(self.train), len(self.valid), len(self.test))

    def head(self, sizes: Sizes) -> TextDataset:
        """The first sentences of each split; the vocabulary stays.

        Raises:
            BadInput: a size below 1 or above what there is, or not an integer.
        """
        checked = check_sizes(sizes, self.sizes, self.name)
        if checked == self.sizes:
            return self
        whole = zip((self.train, self.valid, self.test), checked, strict=True)
        splits = [split.take(torch.arange(number)) for split, number in whole]
        digest = _text_digest(self.name, splits, self.vocabulary, self.label_names)
        return replace(self, train=splits[0], valid=splits[1], test=splits[2], digest=digest)


def check_sizes(sizes: Sizes, available: Sizes, name: str) -> Sizes:
    """``sizes`` as a Sizes of ints, each within 1 .. available; BadInput otherwise."""
    try:
        wanted = Sizes(*sizes)
    except TypeError:
        raise BadInput(f"sizes must be Sizes(train, valid, test), not {sizes!r}") from None
    parts = zip(Sizes._fields, wanted, available, strict=True)
    return Sizes(*(whole(f"sizes.{part} of {name}", n, 1, most) for part, n, most in parts))


def digest_of(header: Mapping[str, object], arrays: Iterable[Tensor | None]) -> str:
    """SHA-256 of everything a model can see; independent of the platform's byte order.

    Args:
        header: what names the arrays; JSON can hold it.
        arrays: integers, or float32.
    """
    sha = hashlib.sha256()
    sha.update(json.dumps(header, ensure_ascii=True, sort_keys=True).encode("ascii"))
    for array in arrays:
        if array is None:
            sha.update(b"none")
            continue
        kind = "<f4" if array.is_floating_point() else "<i8"
        sha.update(json.dumps(list(array.shape)).encode("ascii"))
        sha.update(array.contiguous().numpy().astype(kind).tobytes())
    return sha.hexdigest()


def _text_digest(
    name: str, splits: Sequence[Split], vocabulary: Vocabulary, label_names: Sequence[str]
) -> str:
    header = {"name": name, "words": vocabulary.words, "labels": list(label_names)}
    return digest_of(header, (a for s in splits for a in (s.tokens, s.lengths, s.labels)))
