"""Real text: compressed files -> words -> ids -> splits.

Files lie below the folder that ``POSTERIOR_COLLAPSE_DATA`` names, compressed with xz.  A file is
opened once; its checksum is compared with the registry's before a line of it is used.

The steps, the same for every corpus but for the last:

1. Every line is split at white space.  A line without words is skipped and counted.
2. With ``max_length`` a sentence keeps its first words; EOS follows the cut.
3. A seeded permutation orders the sentences.  Where a corpus is one pool, it decides which of
   them train.  It does not depend on any option.
4. The vocabulary comes from the corpus's own list where it has one, else from the words of the
   training part.  A word that occurs there once is left out, so that UNK occurs there too,
   unless the corpus writes unknown words itself.  ``max_vocabulary`` keeps the words that are
   most frequent there, counted before step 5.
5. Sentences are the same if their ids are.  What happens to one that stands on two sides
   depends on whose splits they are.

   - Ours: a held-out sentence is dropped if it occurs in training or earlier among the held-out
     ones.  What stays is cut into validation and test.
   - Validation and test are a paper's own files: they stay whole, and a training sentence that
     occurs in them is dropped.
   - All three are files that every publication uses: they stay whole.

``counts`` in the loaded card says how many lines, tokens and sentences each step touched.
"""

from __future__ import annotations

import codecs
import io
import lzma
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    opened,
)
from posterior_collapse.errors import BadInput, whole

SEED = 2019  # of the permutation that makes the splits
MARKS = ("<pad>", "<bos>", "<eos>", "_UNK")  # the first four lines of a numbered vocabulary
LIST_MARKS = ("<pad>", "<s>", "</s>", "<unk>")  # those of a plain list of words
UNKNOWN_WORDS = ("_UNK", "<unk>")  # how the corpora write a word outside their vocabulary
MAX_LINE_BYTES = 1_000_000  # a longer line is not a sentence; bounds the memory of a bad file
_FIRST_ID = 4


# --- files ----------------------------------------------------------------------------------------


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
    with opened(path, sha256) as stream:
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
                if b"\0" in line or line.startswith(codecs.BOM_UTF8):
                    raise BadInput(f"{path}, line {number}: not plain UTF-8 (a zero byte or a BOM)")
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


def read_words(path: Path, sha256: str) -> list[str]:
    """Words of a file with one a line, without the four marks that it begins with.

    Raises:
        BadInput: as ``read_lines``; or a line is not one word; or the first four words are not
            the marks.
    """
    words = []
    for number, line in enumerate(read_lines(path, sha256), 1):
        if line.split() != [line]:
            raise BadInput(f"{path}, line {number}: {line!r} is not one word")
        words.append(line)
    if tuple(words[:_FIRST_ID]) != LIST_MARKS:
        raise BadInput(f"{path} begins with {words[:_FIRST_ID]}, expected {list(LIST_MARKS)}")
    return words[_FIRST_ID:]


def read_plain_words(path: Path, sha256: str) -> list[str]:
    """A vocabulary with one word a line and no marks of its own; empty lines are skipped.

    Raises:
        BadInput: a line that is not one word, or as in ``read_lines``.
    """
    words = []
    for number, line in enumerate(read_lines(path, sha256), 1):
        if len(line.split()) > 1:
            raise BadInput(f"{path}, line {number}: {line!r} is not one word")
        if line.strip() and line.strip() not in (*MARKS, *LIST_MARKS):
            words.append(line.strip())
    return words


# --- sentences as numbers -------------------------------------------------------------------------


class _Corpus(NamedTuple):
    """Sentences as numbers, before there is a vocabulary; a word's number is its first sight."""

    words: list[str]
    flat: Tensor  # (M,) int64, word numbers of all sentences one after the other
    counts: Tensor  # (N,) int64, words in each sentence
    labels: Tensor  # (N,) int64; zeros if the corpus has no labels
    file: Tensor  # (N,) int64, which of the files read holds each sentence
    empty: int  # lines without words


def _line_label(words: list[str], number: int, where: str) -> int:
    """Take the label off the front of a line."""
    label = words.pop(0)
    if label not in {str(index) for index in range(number)}:
        raise BadInput(f"{where}: label {label!r}; allowed: 0 .. {number - 1}")
    return int(label)


def _aligned(card: Card, file: str, labels: int | str | None, label_number: int) -> Iterator[int]:
    """The labels of a file that another file holds, one a line; nothing where none does."""
    if not isinstance(labels, str):
        return
    for number, line in enumerate(read_lines(locate(card, labels), card.files[labels]), 1):
        yield _line_label([line.strip()], label_number, f"{labels}, line {number}")


def _read(
    card: Card, files: Sequence[str], file_labels: Sequence[int | str | None], label_number: int
) -> _Corpus:
    """Read sentences from files.

    Args:
        card: has the checksums.
        files: below the data folder.
        file_labels: the label of each file, None where every line begins with its own, a name
            where another file has one label a line; empty if there are no labels.
        label_number: labels on lines lie below this.
    """
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    flat, counts, labels, sources = array("q"), array("q"), array("q"), array("q")
    empty = 0
    for position, file in enumerate(files):
        file_label = file_labels[position] if file_labels else 0
        lines = read_lines(locate(card, file), card.files[file])
        aligned, number = _aligned(card, file, file_label, label_number), 0
        for number, line in enumerate(lines, 1):
            words = line.split()
            label = file_label if not isinstance(file_label, str) else next(aligned, None)
            if isinstance(file_label, str) and label is None:
                raise BadInput(f"{file_label} has {number - 1} labels and {file} more lines")
            if label is None and words:
                label = _line_label(words, label_number, f"{file}, line {number}")
            if not words or label is None:
                empty += 1
                continue
            flat.extend(map(numbers.__getitem__, words))
            counts.append(len(words))
            labels.append(label)
            sources.append(position)
        if next(aligned, None) is not None:
            raise BadInput(f"{file_label} has more than {number} labels, {file} so many lines")
    if not counts:
        raise BadInput(f"the files of {card.name} hold no sentence: {', '.join(files)}")
    return _Corpus(
        words=list(numbers),
        flat=torch.frombuffer(flat, dtype=torch.int64),
        counts=torch.frombuffer(counts, dtype=torch.int64),
        labels=torch.frombuffer(labels, dtype=torch.int64),
        file=torch.frombuffer(sources, dtype=torch.int64),
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


# --- splits ---------------------------------------------------------------------------------------


class _Parts(NamedTuple):
    """Rows of each split, and what making them did to the sentences."""

    train: Tensor
    valid: Tensor
    test: Tensor
    touched: dict[str, int]


def _occur_in(tokens: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """Whether each of ``rows`` of the ids (N, T) equals one of the rows ``others``."""
    raw = tokens.numpy()
    contents = {raw[row].tobytes() for row in others.tolist()}
    return torch.tensor([raw[row].tobytes() in contents for row in rows.tolist()], dtype=torch.bool)


def _distinct(tokens: Tensor, rows: Tensor) -> Tensor:
    """``rows`` without those whose ids an earlier one has."""
    raw = tokens.numpy()
    first = {raw[row].tobytes(): row for row in reversed(rows.tolist())}
    return torch.tensor([row for row in rows.tolist() if first[raw[row].tobytes()] == row])


def _cut_held_out(
    tokens: Tensor, train: Tensor, held_out: Tensor, corpus: _Corpus, source: _Source
) -> _Parts:
    """Distinct held-out sentences that training does not hold, cut into validation and test."""
    distinct = _distinct(tokens, held_out[~_occur_in(tokens, held_out, train)]).long()
    touched = {"held-out sentences dropped as seen": len(held_out) - len(distinct)}
    test = distinct[source.valid : source.valid + source.test]
    return _Parts(train, distinct[: source.valid], test, touched)


def _filed(held_out: Tensor, corpus: _Corpus, source: _Source) -> tuple[Tensor, Tensor]:
    """The held-out rows of the validation file and of the test file."""
    valid = corpus.file[held_out] == len(source.train)
    return held_out[valid], held_out[~valid]


def _clear_training(
    tokens: Tensor, train: Tensor, held_out: Tensor, corpus: _Corpus, source: _Source
) -> _Parts:
    """Whole validation and test files, and training sentences that neither holds."""
    valid, test = _filed(held_out, corpus, source)
    clear = train[~_occur_in(tokens, train, held_out)]
    touched = {
        "training sentences dropped as held out": len(train) - len(clear),
        "test sentences that validation holds": int(_occur_in(tokens, test, valid).sum()),
    }
    return _Parts(clear[: source.training], valid, test, touched)


def _whole_files(
    tokens: Tensor, train: Tensor, held_out: Tensor, corpus: _Corpus, source: _Source
) -> _Parts:
    """Every file as it is."""
    valid, test = _filed(held_out, corpus, source)
    touched = {
        "held-out sentences that training holds": int(_occur_in(tokens, held_out, train).sum())
    }
    return _Parts(train, valid, test, touched)


class _Source(NamedTuple):
    """How the files of one corpus become sentences."""

    train: tuple[str, ...]  # files that train, or that are pooled and then cut
    # Files for validation and test, cut by ``separate``: all of them pooled, or one for each.
    # Empty: validation and test are cut from the pool.
    held_out: tuple[str, ...] = ()
    # A label for each file, in the order above; None where every line begins with its own, and
    # the name of another file where that one has a label a line.
    file_labels: tuple[int | str | None, ...] = ()
    label_names: tuple[str, ...] = ()
    vocabulary: str | None = None
    read_vocabulary: Callable[[Path, str], list[str]] = read_vocabulary
    least: int = 2  # uses in the training part that make a word, where no list is given
    separate: Callable[[Tensor, Tensor, Tensor, _Corpus, _Source], _Parts] = _cut_held_out
    training: int | None = None  # sentences wanted in training; all if None
    valid: int = 2_000  # sentences wanted in validation and in test, where they are cut
    test: int = 2_000
    labelled: Mapping[int, str] = {}  # files of labelled training sentences, by their number


_SENTIMENT = tuple(
    f"yelp-sentiment/sentiment.{part}.{n}.xz" for part in ("dev", "test") for n in (0, 1)
)

SOURCES = {
    "yahoo": _Source(
        train=("yahoo/yahoo.valid.txt.xz", "yahoo/yahoo.test.txt.xz"),
        vocabulary="yahoo/vocab.txt.xz",
    ),
    "yelp-sentiment": _Source(
        train=_SENTIMENT[:2],
        held_out=_SENTIMENT[2:],
        file_labels=(0, 1, 0, 1),
        label_names=("negative", "positive"),
        valid=10_000,
        test=10_000,
    ),
    "yelp-short": _Source(
        train=_SENTIMENT,
        held_out=("yelp-short/short_yelp.valid.txt.xz", "yelp-short/short_yelp.test.txt.xz"),
        file_labels=(0, 1, 0, 1, None, None),
        label_names=("negative", "positive"),
        vocabulary="yelp-short/vocab.txt.xz",
        read_vocabulary=read_words,
        separate=_clear_training,
        training=100_000,
        labelled={
            number: f"yelp-short/short_yelp.train.{number}.txt.xz"
            for number in (100, 500, 1_000, 2_000, 10_000)
        },
    ),
    "yelp-doc": _Source(
        train=("yelp-doc/yelp13.valid.txt.xz", "yelp-doc/yelp13.test.txt.xz"),
        file_labels=(None, None),
        label_names=tuple(f"{stars} of 5 stars" for stars in range(1, 6)),
    ),
    "ptb": _Source(
        train=("ptb/ptb.train.txt.xz",),
        held_out=("ptb/ptb.valid.txt.xz", "ptb/ptb.test.txt.xz"),
        least=1,
        separate=_whole_files,
    ),
    "snli": _Source(train=("snli/snli.valid.txt.xz", "snli/snli.test.txt.xz")),
    "dbpedia": _Source(
        train=tuple(f"dbpedia/dbpedia.{part}.txt.xz" for part in ("valid", "test")),
        file_labels=tuple(
            f"dbpedia/dbpedia.{part}_class_label.txt.xz" for part in ("valid", "test")
        ),
        label_names=(
            *("company", "educational institution", "artist", "athlete", "office holder"),
            *("means of transportation", "building", "natural place", "village", "animal"),
            *("plant", "album", "film", "written work"),
        ),
        vocabulary="dbpedia/dbpedia.vocab.txt.xz",
        read_vocabulary=read_plain_words,
    ),
    "yahoo-question": _Source(
        train=tuple(f"yahoo-question/yahoo_question.{part}.txt.xz" for part in ("valid", "test")),
        file_labels=tuple(
            f"yahoo-question/yahoo_question.{part}_class_label.txt.xz" for part in ("valid", "test")
        ),
        label_names=(
            *("society and culture", "science and mathematics", "health"),
            *("education and reference", "computers and internet", "sports"),
            *("business and finance", "entertainment and music", "family and relationships"),
            "politics and government",
        ),
        vocabulary="yahoo-question/yahoo_question.vocab.txt.xz",
        read_vocabulary=read_plain_words,
    ),
}


def _rows(corpus: _Corpus, source: _Source) -> tuple[Tensor, Tensor]:
    """Shuffled rows of the training and of the held-out sentences."""
    generator = torch.Generator().manual_seed(SEED)
    order = torch.randperm(len(corpus.counts), generator=generator)
    if source.held_out:
        trains = corpus.file[order] < len(source.train)
        return order[trains], order[~trains]
    held_out = source.valid + source.test
    return order[:-held_out], order[-held_out:]


# --- ids ------------------------------------------------------------------------------------------


def _padded(corpus: _Corpus) -> Tensor:
    """(N, T) word numbers, -1 behind the end of a sentence."""
    inside = torch.arange(int(corpus.counts.max())) < corpus.counts[:, None]
    padded = torch.full(inside.shape, -1)
    padded[inside] = corpus.flat
    return padded


def _choose_words(
    used: Mapping[str, int], least: int, listed: list[str] | None, max_vocabulary: int | None
) -> list[str]:
    """The words of the vocabulary; ``used`` is how often the training part uses each word.

    Frequent words first, equally frequent ones in alphabetical order, except that a whole
    list keeps its own order.
    """
    if listed is not None and max_vocabulary is None:
        return listed
    allowed, needed = (used.keys(), least) if listed is None else (set(listed), 1)
    ranked = sorted(
        (-count, word)
        for word, count in used.items()
        if count >= needed and word in allowed and word not in UNKNOWN_WORDS
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


def _vocabulary(
    card: Card, source: _Source, corpus: _Corpus, train: Tensor, max_vocabulary: int | None
) -> Vocabulary:
    """The vocabulary of a corpus whose training part is the sentences ``train``."""
    listed = None
    if source.vocabulary is not None:
        path = locate(card, source.vocabulary)
        listed = source.read_vocabulary(path, card.files[source.vocabulary])
    held = torch.zeros(len(corpus.counts), dtype=torch.bool)
    held[train] = True
    counts = torch.bincount(
        corpus.flat[held.repeat_interleave(corpus.counts)], minlength=len(corpus.words)
    )
    used = dict(zip(corpus.words, counts.tolist(), strict=True))
    return Vocabulary(_choose_words(used, source.least, listed, max_vocabulary))


def _as_split(corpus: _Corpus, vocabulary: Vocabulary) -> Split:
    """All sentences in the ids of a vocabulary, in the order of the files."""
    ids = torch.tensor([vocabulary.id(word) for word in corpus.words])
    return Split(_frame(_padded(corpus), ids, corpus.counts), corpus.counts + 2, corpus.labels)


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
    if max_length is not None:
        whole("max_length, if not None,", max_length)
    if max_vocabulary is not None:
        whole("max_vocabulary, if not None,", max_vocabulary, _FIRST_ID + 1)
    source = SOURCES[card.name]
    files, names = source.train + source.held_out, source.label_names
    uncut = _read(card, files, source.file_labels, len(names))
    corpus = _cut(uncut, max_length)
    train, held_out = _rows(corpus, source)
    vocabulary = _vocabulary(card, source, corpus, train, max_vocabulary)
    sentences = _as_split(corpus, vocabulary)
    if not names:
        sentences = replace(sentences, labels=None)
    *parts, touched = source.separate(sentences.tokens, train, held_out, corpus, source)
    if not all(len(rows) for rows in parts):
        raise BadInput(
            f"max_length = {max_length} and max_vocabulary = {max_vocabulary} make the sentences "
            f"of {card.name} so alike that a split is left empty; allow more of either"
        )
    splits = [sentences.take(rows) for rows in parts]
    counts = {
        "sentences read": len(corpus.counts),
        "empty lines skipped": corpus.empty,
        "sentences cut to max_length": int((uncut.counts > corpus.counts).sum()),
        **touched,
        "words in the splits": sum(int((split.lengths - 2).sum()) for split in splits),
        "words unknown in the splits": sum(int((split.tokens == UNK).sum()) for split in splits),
    }
    filled = replace(card, splits=Sizes(*map(len, splits)), counts=counts)
    options = {"max_length": max_length, "max_vocabulary": max_vocabulary}
    given = ",".join(f"{key}={value}" for key, value in options.items() if value is not None)
    suffix = f"[{given}]" if given else ""
    return TextDataset.build(filled, splits, vocabulary, names, suffix, max_length)


def labelled(data: TextDataset) -> dict[int, Split]:
    """The labelled training subsets that come with a corpus, in the ids of a loaded data set.

    Returns:
        Number of sentences -> the sentences in the order of their file, cut to the data set's
        ``max_length``; empty if the corpus has no such files.

    Raises:
        BadInput, DataMissing: as ``build``.
    """
    source = SOURCES.get(data.card.name)
    subsets = {}
    for number, file in source.labelled.items() if source is not None else ():
        corpus = _read(data.card, (file,), (None,), len(data.label_names))
        subsets[number] = _as_split(_cut(corpus, data.max_length), data.vocabulary)
    return subsets
