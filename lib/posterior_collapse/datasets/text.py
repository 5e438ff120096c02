"""Real text: compressed files -> words -> ids -> splits.

Files lie below the folder that ``POSTERIOR_COLLAPSE_DATA`` names, compressed with xz.  A file is
opened once; its checksum is compared with the registry's before a line of it is used.

The steps, the same for every corpus:

1. Every line is split at white space.  A line without words is skipped and counted.
2. With ``max_length`` a sentence keeps its first words; EOS follows the cut.
3. A seeded permutation decides which sentences train.  It does not depend on any option.
4. The vocabulary comes from the corpus's own list where it has one, else from the words that
   occur at least twice in the training part, so that UNK occurs there too.
   ``max_vocabulary`` keeps the most frequent of them in the training part.
5. A held-out sentence is dropped if its ids already occur in training or earlier among the
   held-out ones.  What stays is cut into validation and test.

``counts`` in the loaded card says how many lines, tokens and sentences each step touched.
"""

from __future__ import annotations

import hashlib
import io
import lzma
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from posterior_collapse.datasets.arrays import (
    BOS,
    EOS,
    PAD,
    UNK,
    Split,
    TextDataset,
    Vocabulary,
)
from posterior_collapse.datasets.registry import (
    DATA_VARIABLE,
    Card,
    DataMissing,
    Sizes,
    data_folder,
)
from posterior_collapse.errors import BadInput

__all__ = ["build", "locate", "read_lines", "read_vocabulary"]

SEED = 2019  # of the permutation that makes the splits
MARKS = ("<pad>", "<bos>", "<eos>", "_UNK")  # the first four lines of a vocabulary file
UNKNOWN_WORDS = ("_UNK", "<unk>")  # how the corpora write a word outside their vocabulary
MAX_LINE_BYTES = 1_000_000  # a longer line is not a sentence; bounds the memory of a bad file
_FIRST_ID = 4


class _Source(NamedTuple):
    """How the files of one corpus become sentences."""

    train: tuple[str, ...]  # files that train, or that are pooled and then cut
    held_out: tuple[str, ...]  # files for validation and test; empty: cut from the pool
    file_labels: tuple[int, ...] = ()  # a label for each file, in the order above
    line_labels: int = 0  # number of labels if each line begins with one, else 0
    vocabulary: str | None = None
    label_names: tuple[str, ...] = ()
    valid: int = 2_000  # sentences wanted in validation and in test
    test: int = 2_000


SOURCES = {
    "yahoo": _Source(
        train=("yahoo/yahoo.valid.txt.xz", "yahoo/yahoo.test.txt.xz"),
        held_out=(),
        vocabulary="yahoo/vocab.txt.xz",
    ),
    "yelp-sentiment": _Source(
        train=("yelp-sentiment/sentiment.dev.0.xz", "yelp-sentiment/sentiment.dev.1.xz"),
        held_out=("yelp-sentiment/sentiment.test.0.xz", "yelp-sentiment/sentiment.test.1.xz"),
        file_labels=(0, 1, 0, 1),
        label_names=("negative", "positive"),
        valid=10_000,
        test=10_000,
    ),
    "yelp-doc": _Source(
        train=("yelp-doc/yelp13.valid.txt.xz", "yelp-doc/yelp13.test.txt.xz"),
        held_out=(),
        line_labels=5,
        label_names=tuple(f"{stars} of 5 stars" for stars in range(1, 6)),
    ),
}


def locate(card: Card, file: str) -> Path:
    """The path of one of a data set's files.

    Raises:
        DataMissing: the variable is not set, names no folder, or the file is not there.
    """
    holds = ", ".join(card.files)
    folder = data_folder()
    if folder is None:
        raise DataMissing(
            f'dataset "{card.name}" is read from files: set {DATA_VARIABLE} to a folder that '
            f"holds {holds}"
        )
    if not folder.is_dir():
        raise DataMissing(f"{DATA_VARIABLE} names {folder}, which is no folder; it holds {holds}")
    path = folder / file
    if not path.is_file():
        raise DataMissing(
            f'dataset "{card.name}": no file {path}; the folder {DATA_VARIABLE} holds {holds}'
        )
    return path


def read_lines(path: Path, sha256: str) -> Iterator[str]:
    """The lines of an xz file, without their ends, one at a time.

    Args:
        path: the compressed file.
        sha256: hexadecimal checksum that the compressed file must have.

    Raises:
        BadInput: another checksum, a truncated or broken file, a line that is not UTF-8 or is
            longer than MAX_LINE_BYTES.
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
        yield from _decoded(stream, path)


def _decoded(stream: io.BufferedReader, path: Path) -> Iterator[str]:
    """Decompress and decode line by line; errors name the line."""
    number = 0
    try:
        with lzma.open(stream, "rb") as lines:
            while line := lines.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise BadInput(f"{path}, line {number}: longer than {MAX_LINE_BYTES} bytes")
                yield line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}, line {number}: not UTF-8 ({error.reason})") from error
    except (lzma.LZMAError, EOFError) as error:
        raise BadInput(f"{path}, after line {number}: broken xz file ({error})") from error


def read_vocabulary(path: Path, sha256: str) -> list[str]:
    """Words of a ``word<TAB>id`` file in the order of their ids, without the four marks.

    Raises:
        BadInput: as ``read_lines``; or a line is not ``word<TAB>id`` with ids 0, 1, 2 ..;
            or the first four words are not the marks.
    """
    words = []
    for number, line in enumerate(read_lines(path, sha256)):
        word, tab, index = line.partition("\t")
        if not word or not tab or index != str(number):
            raise BadInput(f"{path}, line {number + 1}: {line!r} is not a word, a tab and {number}")
        words.append(word)
    if tuple(words[:_FIRST_ID]) != MARKS:
        raise BadInput(f"{path} begins with {words[:_FIRST_ID]}, expected {list(MARKS)}")
    return words[_FIRST_ID:]


class _Corpus(NamedTuple):
    """Sentences as numbers, before there is a vocabulary; a word's number is its first sight."""

    words: list[str]
    flat: Tensor  # (M,) int64, word numbers of all sentences one after the other
    counts: Tensor  # (N,) int64, words in each sentence
    labels: Tensor  # (N,) int64; zeros if the corpus has no labels
    first_held_out: int  # sentences from here on come from the held-out files
    empty: int  # lines without words


def _line_label(words: list[str], number: int, where: str) -> int:
    """Take the label off the front of a line."""
    label = words.pop(0)
    if label not in {str(index) for index in range(number)}:
        raise BadInput(f"{where}: label {label!r}; allowed: 0 .. {number - 1}")
    return int(label)


def _read(card: Card, source: _Source) -> _Corpus:
    """Read every sentence file of a corpus."""
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    flat, counts, labels = array("q"), array("q"), array("q")
    empty, first_held_out = 0, 0
    for position, file in enumerate(source.train + source.held_out):
        if position == len(source.train):
            first_held_out = len(counts)
        file_label = source.file_labels[position] if source.file_labels else 0
        for number, line in enumerate(read_lines(locate(card, file), card.files[file]), 1):
            words = line.split()
            label = file_label
            if source.line_labels and words:
                label = _line_label(words, source.line_labels, f"{file}, line {number}")
            if not words:
                empty += 1
                continue
            flat.extend(map(numbers.__getitem__, words))
            counts.append(len(words))
            labels.append(label)
    if not counts:
        raise BadInput(f"the files of {card.name} hold no sentence: {', '.join(card.files)}")
    return _Corpus(
        words=list(numbers),
        flat=torch.frombuffer(flat, dtype=torch.int64),
        counts=torch.frombuffer(counts, dtype=torch.int64),
        labels=torch.frombuffer(labels, dtype=torch.int64),
        first_held_out=first_held_out or len(counts),
        empty=empty,
    )


def _cut(corpus: _Corpus, max_length: int | None) -> _Corpus:
    """Keep the first ``max_length`` words of every sentence."""
    if max_length is None:
        return corpus
    starts = corpus.counts.cumsum(dim=0) - corpus.counts
    place = torch.arange(len(corpus.flat)) - starts.repeat_interleave(corpus.counts)
    return corpus._replace(
        flat=corpus.flat[place < max_length], counts=corpus.counts.clamp(max=max_length)
    )


def _rows(corpus: _Corpus, source: _Source) -> tuple[Tensor, Tensor]:
    """Shuffled rows of the training and of the held-out sentences."""
    generator = torch.Generator().manual_seed(SEED)
    order = torch.randperm(len(corpus.counts), generator=generator)
    if source.held_out:
        return order[order < corpus.first_held_out], order[order >= corpus.first_held_out]
    held_out = source.valid + source.test
    return order[:-held_out], order[-held_out:]


def _padded(corpus: _Corpus) -> Tensor:
    """(N, T) word numbers, -1 behind the end of a sentence."""
    inside = torch.arange(int(corpus.counts.max())) < corpus.counts[:, None]
    padded = torch.full(inside.shape, -1)
    padded[inside] = corpus.flat
    return padded


def _choose_words(
    corpus: _Corpus, used: Tensor, listed: list[str] | None, max_vocabulary: int | None
) -> list[str]:
    """The words of the vocabulary; ``used`` (W,) is how often training uses each word number.

    Frequent words first, equally frequent ones in alphabetical order, except that a whole
    list keeps its own order.
    """
    if listed is not None and max_vocabulary is None:
        return listed
    allowed = None if listed is None else set(listed)
    ranked = sorted(
        (-count, word)
        for word, count in zip(corpus.words, used.tolist(), strict=True)
        if (count > 1 if allowed is None else count > 0 and word in allowed)
        and word not in UNKNOWN_WORDS
    )
    most = None if max_vocabulary is None else max_vocabulary - _FIRST_ID
    return [word for _, word in ranked[:most]]


def _frame(padded: Tensor, ids: Tensor, counts: Tensor) -> Tensor:
    """Word numbers (N, T) -> ids (N, T + 2) with BOS, EOS and PAD."""
    table = torch.cat([ids, torch.tensor([PAD])])  # the last entry is what -1 reads
    tokens = torch.full((len(padded), padded.shape[1] + 2), PAD)
    tokens[:, 0] = BOS
    tokens[:, 1:-1] = table[padded]
    tokens[torch.arange(len(padded)), counts + 1] = EOS
    return tokens


def _unseen(tokens: Tensor, train: Tensor, held_out: Tensor) -> Tensor:
    """The held-out rows whose ids occur neither in training nor in an earlier held-out row."""
    raw = tokens.numpy()
    seen = {raw[row].tobytes() for row in train.tolist()}
    kept = []
    for row in held_out.tolist():
        content = raw[row].tobytes()
        if content not in seen:
            seen.add(content)
            kept.append(row)
    return torch.tensor(kept, dtype=torch.int64)


def _check(value: int | None, least: int, what: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInput(f"{what} = {value!r}; allowed: None or an integer of at least {least}")


def _encode(
    corpus: _Corpus, train: Tensor, listed: list[str] | None, max_vocabulary: int | None
) -> tuple[Vocabulary, Split]:
    """Choose the vocabulary and write all sentences in its ids, in the order of the files."""
    padded = _padded(corpus)
    seen = padded[train].flatten()
    used = torch.bincount(seen[seen >= 0], minlength=len(corpus.words))
    vocabulary = Vocabulary(_choose_words(corpus, used, listed, max_vocabulary))
    ids = torch.tensor([vocabulary.id(word) for word in corpus.words])
    tokens = _frame(padded, ids, corpus.counts)
    return vocabulary, Split(tokens, corpus.counts + 2, corpus.labels)


def build(card: Card, max_length: int | None, max_vocabulary: int | None) -> TextDataset:
    """Read a corpus and cut it into splits, as the module's docstring says.

    Args:
        card: of a data set in SOURCES.
        max_length: words kept of a sentence, at least 1; all if None.
        max_vocabulary: most ids in the vocabulary, the four marks included, at least 5.

    Raises:
        BadInput: an option out of range, or a file as in ``read_lines``.
        DataMissing: no data folder, or a file is not in it.
    """
    _check(max_length, 1, "max_length")
    _check(max_vocabulary, _FIRST_ID + 1, "max_vocabulary")
    source = SOURCES[card.name]
    listed = None
    if source.vocabulary is not None:
        path = locate(card, source.vocabulary)
        listed = read_vocabulary(path, card.files[source.vocabulary])
    whole = _read(card, source)
    corpus = _cut(whole, max_length)
    train, held_out = _rows(corpus, source)
    vocabulary, sentences = _encode(corpus, train, listed, max_vocabulary)
    if not source.label_names:
        sentences = replace(sentences, labels=None)
    kept = _unseen(sentences.tokens, train, held_out)
    if len(kept) <= source.valid:
        raise BadInput(
            f"max_length = {max_length} and max_vocabulary = {max_vocabulary} make the sentences "
            f"of {card.name} so alike that training holds nearly all; allow more of either"
        )
    parts = (train, kept[: source.valid], kept[source.valid : source.valid + source.test])
    splits = [sentences.take(rows) for rows in parts]
    counts = {
        "sentences read": len(corpus.counts),
        "empty lines skipped": corpus.empty,
        "sentences cut to max_length": int((whole.counts > corpus.counts).sum()),
        "held-out sentences dropped as seen": len(held_out) - len(kept),
        "words in the splits": sum(int((split.lengths - 2).sum()) for split in splits),
        "words unknown in the splits": sum(int((split.tokens == UNK).sum()) for split in splits),
    }
    filled = replace(card, splits=Sizes(*map(len, splits)), counts=counts)
    options = {"max_length": max_length, "max_vocabulary": max_vocabulary}
    given = ",".join(f"{key}={value}" for key, value in options.items() if value is not None)
    suffix = f"[{given}]" if given else ""
    return TextDataset.build(filled, splits, vocabulary, source.label_names, suffix)
