"""Measures of text: against references, against the training text, and of its variety.

A sentence is a string of words between spaces, or a sequence of words or of their ids.
Text is taken as tokenised: nothing is lowered, stemmed or split further.
BLEU is in percent, as sacrebleu gives it and the papers print it; all other shares are in [0, 1].
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from sacrebleu.metrics import BLEU

from posterior_collapse import estimators
from posterior_collapse.datasets.arrays import EOS, Split
from posterior_collapse.errors import BadInput, whole
from posterior_collapse.networks.base import VAE
from posterior_collapse.networks.text import TextDecoder

Sentence = str | Sequence[str] | Sequence[int]
Words = tuple[str, ...]
_SENTENCES_PER_CALL = 256


def of_split(split: Split) -> list[Words]:
    """The sentences of a part of a data set, or of generated text, as ids without the marks."""
    rows = zip(split.tokens.tolist(), split.lengths.tolist(), strict=True)
    sentences = []
    for row, length in rows:
        end = length - 1 if row[length - 1] == EOS else length  # one that was cut has no EOS
        sentences.append(tuple(map(str, row[1:end])))
    return sentences


def _words(sentence: Sentence) -> Words:
    """The words of one sentence; BadInput for one that holds white space, which BLEU splits at."""
    if isinstance(sentence, str):
        return tuple(sentence.split())
    words = tuple(map(str, sentence))
    for word in words:
        if word.split() != [word]:
            raise BadInput(f"words are not empty and hold no white space, given {word!r}")
    return words


def _corpus(sentences: Iterable[Sentence], what: str) -> list[Words]:
    """All sentences as words; BadInput if there are none, or if a single string is given."""
    if isinstance(sentences, str):
        raise BadInput(f"{what} is a list of sentences, given one string")
    corpus = [_words(sentence) for sentence in sentences]
    if not corpus:
        raise BadInput(f"{what} holds no sentence; at least one is needed")
    return corpus


def _pairs(
    candidates: Sequence[Sentence], references: Sequence[Sentence]
) -> list[tuple[Words, Words]]:
    """Each candidate with its reference."""
    left, right = _corpus(candidates, "candidates"), _corpus(references, "references")
    if len(left) != len(right):
        raise BadInput(
            "every candidate has one reference: the lists are equally long, given "
            f"{len(left)} candidates and {len(right)} references"
        )
    return list(zip(left, right, strict=True))


def _ngrams(words: Words, n: int) -> Iterator[Words]:
    """All runs of n words."""
    return (words[start : start + n] for start in range(len(words) - n + 1))


def _counted(sentences: Iterable[Sentence], n: int, what: str) -> Counter[Words]:
    """How often each n-gram occurs in a text; BadInput where no sentence has n words."""
    whole("the length of n-grams", n)
    counts = Counter(one for words in _corpus(sentences, what) for one in _ngrams(words, n))
    if not counts:
        raise BadInput(f"{what} has no sentence of at least {n} words, so no {n}-gram")
    return counts


# --- against references ---------------------------------------------------------------------------


def bleu(candidates: Sequence[Sentence], references: Sequence[Sentence], order: int = 4) -> float:
    """Corpus BLEU of orders 1 to ``order`` with equal weights and no smoothing, in percent.

    (Papineni et al. 2002; sacrebleu computes it.)
    Counts are pooled over all sentences before precisions are taken.
    It is 0 where an order has no match, so also where no candidate has ``order`` words.

    Args:
        candidates, references: equally many sentences.
        order: 1, 2 and 4 are what IGP reports (Zhang et al. 2021, table 1).

    Raises:
        BadInput: no sentences, lists of different lengths, an order below 1.
    """
    whole("the length of n-grams", order)
    pairs = _pairs(candidates, references)
    # ``force`` silences a warning that text looks tokenised, which here it is.
    metric = BLEU(tokenize="none", smooth_method="none", max_ngram_order=order, force=True)
    written, wanted = ([" ".join(words) for words in side] for side in zip(*pairs, strict=True))
    return metric.corpus_score(written, [wanted]).score


class Rouge(NamedTuple):
    """ROUGE-N, averaged over sentences; in [0, 1]."""

    precision: float  # share of the candidate's n-grams that the reference has
    recall: float  # share of the reference's n-grams that the candidate has
    f1: float  # average of the sentences' harmonic means


def rouge(candidates: Sequence[Sentence], references: Sequence[Sentence], n: int) -> Rouge:
    """ROUGE-N with counts: an n-gram matches as often as both sentences have it (Lin 2004).

    A sentence without n words has precision, recall and F1 of 0, even where both are equal.
    The values are those of the package rouge-score for the same words.

    Raises:
        BadInput: no sentences, lists of different lengths, n below 1.
    """
    return _rouge(candidates, references, n, Counter)


def rouge_sets(candidates: Sequence[Sentence], references: Sequence[Sentence], n: int) -> Rouge:
    """ROUGE-N with sets: an n-gram counts once a sentence, as IGP's code has it.

    It differs from :func:`rouge` where a sentence repeats an n-gram.

    Raises:
        BadInput: see :func:`rouge`.
    """
    return _rouge(candidates, references, n, lambda ngrams: Counter(set(ngrams)))


def _rouge(
    candidates: Sequence[Sentence],
    references: Sequence[Sentence],
    n: int,
    collect: Callable[[Iterator[Words]], Counter[Words]],
) -> Rouge:
    """Averages over sentences, with the n-grams of a sentence collected as asked."""
    whole("the length of n-grams", n)
    rows = []
    for pair in _pairs(candidates, references):
        written, wanted = (collect(_ngrams(words, n)) for words in pair)
        shared, sizes = (written & wanted).total(), (written.total(), wanted.total())
        # The last one is the harmonic mean, without a quotient of zeros.
        rows.append([shared / max(1, size) for size in sizes] + [2.0 * shared / max(1, sum(sizes))])
    return Rouge(*(math.fsum(column) / len(rows) for column in zip(*rows, strict=True)))


def exact_match(candidates: Sequence[Sentence], references: Sequence[Sentence]) -> float:
    """Share of the candidates that are their reference, word for word.

    Raises:
        BadInput: no sentences, lists of different lengths.
    """
    pairs = _pairs(candidates, references)
    return sum(written == wanted for written, wanted in pairs) / len(pairs)


def overlap(first: Sequence[Sentence], second: Sequence[Sentence]) -> float:
    """How alike pairs of sentences are: the F1 of shared words, averaged over pairs; in [0, 1].

    It is :func:`rouge` with n = 1, but for two empty sentences, which are equal and so count 1.

    Raises:
        BadInput: no sentences, lists of different lengths.
    """
    empty = sum(not one and not other for one, other in _pairs(first, second))
    return rouge(first, second, 1).f1 + empty / len(first)


class Smoothness(NamedTuple):
    """What paths of sentences are like; each in [0, 1]."""

    neighbours: float  # overlap of neighbours, 1 where nothing changes
    ends: float  # overlap of the two ends
    different: float  # mean share of different sentences on a path


def smoothness(lines: Sequence[Sequence[Sentence]]) -> Smoothness:
    """How alike neighbours on paths are, how alike the ends, and how many sentences a path has.

    Raises:
        BadInput: no path, or one of a single sentence.
    """
    if not lines or min(map(len, lines)) < 2:
        raise BadInput("smoothness needs paths of at least two sentences")
    before = [one for line in lines for one in line[:-1]]
    after = [one for line in lines for one in line[1:]]
    ends = overlap([line[0] for line in lines], [line[-1] for line in lines])
    different = math.fsum(len({str(one) for one in line}) / len(line) for line in lines)
    return Smoothness(overlap(before, after), ends, different / len(lines))


# --- generated text -------------------------------------------------------------------------------


def distinct(sentences: Sequence[Sentence], n: int) -> float:
    """Dist-n: different n-grams of a text over all of its n-grams (Song et al. 2024, table 5).

    It falls as a text grows; compare texts of one size.

    Raises:
        BadInput: no sentences, none with n words, n below 1.
    """
    counts = _counted(sentences, n, "the text")
    return len(counts) / counts.total()


def gram(sentences: Sequence[Sentence], training: Iterable[Sentence], n: int) -> float:
    """Gram-n: share of a text's n-grams that the training text has (Song et al. 2024, table 5).

    Every occurrence in the text counts; the paper does not say whether a repeated one does.
    The training text may be an iterator: it is read once, and only n-grams of the text are kept.

    Raises:
        BadInput: no sentences in either, none with n words in the text, n below 1.
    """
    counts = _counted(sentences, n, "the text")
    if isinstance(training, str):
        raise BadInput("the training text is a list of sentences, given one string")
    known: set[Words] = set()
    read = 0
    for read, sentence in enumerate(training, 1):  # noqa: B007
        known.update(one for one in _ngrams(_words(sentence), n) if one in counts)
    if not read:
        raise BadInput("the training text holds no sentence; at least one is needed")
    return sum(counts[one] for one in known) / counts.total()


def entropy(sentences: Sequence[Sentence], n: int = 1) -> float:
    """Entropy of the distribution of a text's n-grams, in nats.

    Table 5 of Song et al. 2024 has a row of that name and our copy of the paper no definition.
    That of single words is what its values, 5.72 and 5.91, are near.

    Raises:
        BadInput: no sentences, none with n words, n below 1.
    """
    counts = _counted(sentences, n, "the text")
    total = counts.total()
    # The mean of log(total / count) has no negative terms, so one n-gram gives 0 and not -0.
    return math.fsum(c / total * math.log(total / c) for c in counts.values())


def sentence_nats(model: VAE, split: Split) -> torch.Tensor:
    """-log p of each sentence under a language model, in nats per sentence; float64 (N,).

    Args:
        model: without a latent variable, so that the likelihood is exact.
        split: N sentences, on any device.

    Raises:
        BadInput: an image model, one with a latent variable, no sentences.
    """
    decoder = model.decoder
    if not isinstance(decoder, TextDecoder):
        raise BadInput(
            "perplexity is that of a text model, whose decoder is a TextDecoder; given a model "
            f"with {type(decoder).__name__}"
        )
    if decoder.state.in_features > 0:
        raise BadInput(
            "perplexity is that of a language model; given one with a latent variable of "
            f"{decoder.state.in_features} dimensions, whose ELBO only bounds it"
        )
    if not len(split):
        raise BadInput("the text holds no sentence; at least one is needed")
    nats, weight = [], decoder.words.weight
    with estimators.evaluating(model):
        for x in split.batches(_SENTENCES_PER_CALL):
            none = torch.zeros(1, len(x), 0, dtype=weight.dtype, device=weight.device)
            nats.append(-model.log_likelihood(x.to(weight.device), none)[0].cpu().double())
    return torch.cat(nats)[torch.cat(split.batch_rows(_SENTENCES_PER_CALL)).argsort().cpu()]


def perplexity(model: VAE, split: Split) -> float | None:
    """exp of the average -log p(word) of a language model, EOS counted as a word.

    Of a model trained on real text and generated sentences it is the forward perplexity, of one
    trained on generated sentences and the test text the reverse one (Zhang et al. 2021,
    section 4.3).  None where no float holds it, above 709 nats per word.

    Args, raises: as :func:`sentence_nats`.
    """
    total = sentence_nats(model, split).sum().item()
    return estimators.perplexity(total / int((split.lengths - 1).sum()))
