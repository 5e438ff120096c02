"""Sentences from codes: greedily and by sampling; beam search is in a module of its own.

Decoders turn codes z (N, D) into sentences: :func:`greedy`, :func:`sample` and
:func:`posterior_collapse.text.beam.beam_search`. They have one signature, so that each can be
handed to the tasks of :mod:`posterior_collapse.text.tasks`; ``functools.partial`` sets what else
they take::

    reconstruct(model, split, generator, decode=partial(beam_search, width=5))

Sentences are decoded together.
A finished one makes room for one that waits, so the time is that of the words generated, and the
memory beside the result does not grow with the number of sentences.
How many run at once changes no result beyond rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from posterior_collapse import gaussian
from posterior_collapse.datasets.arrays import BOS, EOS, PAD, Split
from posterior_collapse.errors import BadInput, PosteriorCollapseError, whole
from posterior_collapse.estimators import evaluating
from posterior_collapse.networks.base import VAE
from posterior_collapse.networks.text import TextDecoder, TextState

# Log-probabilities of next words held at once: 16 MB in float32. Fewer rows use the matrix product
# less well; bench/bench_generation.py.
LOG_PROBABILITIES_PER_STEP = 2**22
# Sentences decoded at once where the vocabulary is small.
SENTENCES_PER_STEP = 1024
SENTENCES_PER_ENCODING = 256
LONGEST = 200  # words, where the caller does not say
_BLOCK = 128  # words whose probabilities are added up before any is looked at
_LOOKED_AT = (64, 512)  # words in which the end of a nucleus is looked for, before all of them

# What is never written: they are no words of a sentence.
MARKS = (PAD, BOS)


class Generated(NamedTuple):
    """N sentences as the library stores text, with their log-probabilities."""

    tokens: Tensor  # (N, T) int64, each row BOS w1 .. wn EOS PAD ..; no EOS where it was cut
    lengths: Tensor  # (N,) int64, with BOS and EOS, without PAD
    log_probabilities: Tensor  # (N,) log p(sentence | z) in nats; of the words it has where cut
    finished: Tensor  # (N,) bool, False where the sentence was cut
    z: Tensor  # (N, D), what the decoder saw

    def split(self) -> Split:
        """The sentences as a part of a data set; those that were cut have no EOS."""
        return Split(self.tokens, self.lengths)


class Decode(Protocol):
    """What :func:`greedy`, :func:`sample` and :func:`beam_search` have in common."""

    def __call__(self, model: VAE, z: Tensor, generator: torch.Generator) -> Generated:
        """One sentence for each code z (N, D)."""
        ...


# --- what may be asked for ------------------------------------------------------------------------


def text_decoder(model: VAE) -> TextDecoder:
    """The decoder, if it writes words."""
    decoder = getattr(model, "decoder", None)
    if not isinstance(decoder, TextDecoder):
        raise BadInput(
            "sentences come from a text model, whose decoder is a TextDecoder; given a model with "
            f"{type(decoder).__name__}"
        )
    return decoder


def require_latent(model: VAE, what: str) -> None:
    """Refuse a language model where z carries the sentence."""
    if text_decoder(model).state.in_features == 0:
        raise BadInput(f"{what} needs a latent variable, and the model given has none (D = 0)")


class Request(NamedTuple):
    """What every decoder is asked for, checked."""

    decoder: TextDecoder
    z: Tensor  # (N, D)
    most_words: int  # of a sentence, EOS counted
    forbidden: Tensor  # ids that are never written


def prepare(model: VAE, z: Tensor, max_length: int, forbidden: Collection[int]) -> Request:
    """Refuse what is no text model, no finite codes (N, D) of it, no length, and no ids."""
    decoder = text_decoder(model)
    dim, size = decoder.state.in_features, decoder.embedding.num_embeddings
    if z.dim() != 2 or z.shape[1] != dim:
        raise BadInput(f"z is (N, {dim}) for this model, given {tuple(z.shape)}")
    gaussian.require_finite(z=z)
    whole("max_length", max_length)
    for word in forbidden:
        if not 0 <= word < size or word == EOS:
            raise BadInput(
                f"forbidden words are ids in 0 .. {size - 1} other than {EOS}, which ends a "
                f"sentence; given {word!r}"
            )
    never = torch.tensor(sorted(forbidden), dtype=torch.long, device=z.device)
    return Request(decoder, z, max_length, never)


def _widest(device: torch.device) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def wide(values: Tensor) -> Tensor:
    """The same numbers in the widest dtype of their device, where sums are taken."""
    return values.to(_widest(values.device))


# --- sentences in parallel ------------------------------------------------------------------------

_Rows = TypeVar("_Rows", bound=tuple[Any, ...])


def take_rows(rows: _Rows, index: Tensor) -> _Rows:
    """The same NamedTuple of tensors with some of its rows."""
    return type(rows)(*(take_rows(f, index) if isinstance(f, tuple) else f[index] for f in rows))


def _join(first: _Rows, second: _Rows) -> _Rows:
    """Rows of two NamedTuples of tensors, one after the other."""
    pairs = zip(first, second, strict=True)
    return type(first)(
        *(_join(a, b) if isinstance(a, tuple) else torch.cat([a, b]) for a, b in pairs)
    )


class Sentences(NamedTuple):
    """A sentences that are done or on their way, T is the most that a row can hold."""

    number: Tensor  # (A,), which of the N codes
    words: Tensor  # (A, T) int64
    length: Tensor  # (A,), words so far, BOS counted
    total: Tensor  # (A,) float64, log-probability so far


class Search(Protocol[_Rows]):
    """A way to decode: rows that begin, go one word further, and end."""

    def begin(self, number: Tensor) -> _Rows:
        """Rows (A,) for the codes with these numbers."""
        ...

    def advance(self, rows: _Rows) -> tuple[_Rows, Tensor]:
        """One word further; which rows are done (A,) bool."""
        ...

    def result(self, rows: _Rows) -> Sentences:
        """What became of rows that are done."""
        ...


def run(model: VAE, search: Search[_Rows], request: Request, per_sentence: int) -> Generated:
    """Decode all codes, a bounded number at a time.

    Sentences that wait begin when half of the places are free, so that nearly every step is a
    product of many rows.

    Args:
        model: whose decoder it is; it runs in evaluation mode and is left as it was.
        search: what a step does.
        request: N codes, and what is asked for.
        per_sentence: rows of the decoder that a sentence takes.
    """
    z, count = request.z, len(request.z)
    sentences = begun(torch.arange(count, device=z.device), request.most_words)
    size = request.decoder.embedding.num_embeddings * per_sentence
    places = max(1, min(SENTENCES_PER_STEP, LOG_PROBABILITIES_PER_STEP // size))
    with evaluating(model):
        rows = search.begin(sentences.number[:places])
        active = waiting = len(sentences.number[:places])
        while active:
            rows, done = search.advance(rows)
            if done.any():
                _store(sentences, search.result(take_rows(rows, done)))
                rows = take_rows(rows, ~done)
                active -= int(done.sum())
            if waiting < count and 2 * active <= places:
                fresh = sentences.number[waiting : waiting + places - active]
                rows = _join(rows, search.begin(fresh))
                waiting, active = waiting + len(fresh), active + len(fresh)
    width = int(sentences.length.max()) if count else 1
    last = sentences.words.gather(1, sentences.length[:, None] - 1)[:, 0]
    totals = gaussian.narrow(sentences.total, z)
    return Generated(
        sentences.words[:, :width].contiguous(), sentences.length, totals, last == EOS, z
    )


def require_words(log_probability: Tensor) -> None:
    """Stop where a model has no next word; given is the log-probability of those chosen (A,)."""
    if not log_probability.isfinite().all():
        raise PosteriorCollapseError(
            "the model gives no probability to any word that is allowed next; its parameters may "
            "hold nan, as after a training that diverged"
        )


def begun(number: Tensor, most_words: int) -> Sentences:
    """Sentences that consist of BOS."""
    words = number.new_full((len(number), most_words + 1), PAD)
    words[:, 0] = BOS
    total = torch.zeros(len(number), dtype=_widest(number.device), device=number.device)
    return Sentences(number, words, torch.ones_like(number), total)


def _store(places: Sentences, done: Sentences) -> None:
    """Put sentences into their places."""
    places.words[done.number] = done.words
    places.length[done.number] = done.length
    places.total[done.number] = done.total


# --- one word after the other: greedy and sampled -------------------------------------------------


class _Line(NamedTuple):
    """Sentences of which one version is followed."""

    sentences: Sentences
    state: TextState


@dataclass(frozen=True)
class _WordByWord:
    """The search that chooses a word for good at every step.

    ``choose`` takes log-probabilities (A, V), numbers (A,) and words so far (A,) to ids (A,).
    """

    request: Request
    choose: Callable[[Tensor, Tensor, Tensor], Tensor]

    def begin(self, number: Tensor) -> _Line:
        """See :class:`Search`."""
        return _Line(
            begun(number, self.request.most_words),
            self.request.decoder.start(self.request.z[number]),
        )

    def advance(self, rows: _Line) -> tuple[_Line, Tensor]:
        """See :class:`Search`."""
        number, words, length, total = rows.sentences
        last = words.gather(1, length[:, None] - 1)[:, 0]
        log_probability, state = self.request.decoder.step(last, rows.state)
        log_probability[:, self.request.forbidden] = -math.inf
        word = self.choose(log_probability, number, length - 1)
        own = log_probability.gather(1, word[:, None])[:, 0]
        require_words(own)
        total = total + wide(own)
        words = words.scatter(1, length[:, None], word[:, None])
        done = (word == EOS) | (length == self.request.most_words)
        return _Line(Sentences(number, words, length + 1, total), state), done

    def result(self, rows: _Line) -> Sentences:
        """See :class:`Search`."""
        return rows.sentences


def greedy(
    model: VAE,
    z: Tensor,
    generator: torch.Generator | None = None,
    *,
    max_length: int = LONGEST,
    forbidden: Collection[int] = MARKS,
) -> Generated:
    """The most probable word at every step, as IGP reconstructs (Zhang et al. 2021, section 4).

    Args:
        model: with a text decoder.
        z: (N, D).
        generator: is left as it was; all decoders take one.
        max_length: most words of a sentence, EOS counted; a longer one is cut.
        forbidden: ids that are never written.

    Raises:
        BadInput: an image model, codes of another shape, a number out of range.
    """

    def choose(logp: Tensor, number: Tensor, position: Tensor) -> Tensor:
        return logp.max(-1).indices  # twice as fast as argmax on a CPU

    request = prepare(model, z, max_length, forbidden)
    return run(model, _WordByWord(request, choose), request, 1)


def sample(
    model: VAE,
    z: Tensor,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    nucleus: float = 1.0,
    max_length: int = LONGEST,
    forbidden: Collection[int] = MARKS,
) -> Generated:
    """Words drawn from p(word | words so far, z), made sharper or cut to the likely ones.

    Forbidden words are left out first, then probabilities are raised to 1 / temperature, then
    the ``top_k`` most probable words are kept, then the nucleus of these: the fewest most probable
    words that together have at least the share ``nucleus`` (Holtzman et al. 2020).
    What is left is renormalised at each stage.
    The log-probabilities returned are the model's own.

    Every word of every sentence has a number of its own from the generator, whether it comes to be
    used or not: what runs together does not change what is drawn.

    Args:
        model: with a text decoder.
        z: (N, D).
        generator: source of the words, N times ``max_length`` uniform numbers.
        temperature: positive; 1 is the model.
        top_k: at least 1; None for all words.
        nucleus: in (0, 1]; 1 is all words.
        max_length, forbidden: see :func:`greedy`.

    Raises:
        BadInput: see :func:`greedy`.
    """
    request = prepare(model, z, max_length, forbidden)
    if not 0.0 < temperature < math.inf:
        raise BadInput(f"temperature is a positive number, given {temperature!r}")
    if top_k is not None:
        whole("top_k", top_k)
    if not 0.0 < nucleus <= 1.0:
        raise BadInput(f"nucleus is a share in (0, 1], given {nucleus!r}")
    shape = (len(z), max_length)
    uniform = torch.rand(
        shape, generator=generator, device=generator.device, dtype=_widest(generator.device)
    ).to(z.device)

    def choose(logp: Tensor, number: Tensor, position: Tensor) -> Tensor:
        own = uniform[number, position]
        # The largest becomes 0: forbidden words may have had nearly all of the probability.  It
        # stays 0 where a low temperature makes the others infinite.
        logp = logp - logp.amax(-1, keepdim=True)
        if temperature != 1.0:
            logp /= max(temperature, torch.finfo(logp.dtype).tiny)
        if top_k is None and nucleus == 1.0:
            return _invert(logp.exp(), own)
        return _draw_likely(logp, own, top_k, nucleus)

    return run(model, _WordByWord(request, choose), request, 1)


def _draw_likely(logits: Tensor, uniform: Tensor, top_k: int | None, nucleus: float) -> Tensor:
    """Draw from the most probable words; see :func:`sample`.

    A nucleus is mostly small, and sorting all words takes longer than the model: they are sorted
    only for the rows whose nucleus goes on beyond the first few hundred.

    Args:
        logits, uniform: (A, V), and (A,) in [0, 1).
        top_k, nucleus: not both without effect.
    """
    size = logits.shape[1]
    most = size if top_k is None else min(top_k, size)
    numbers = [number for number in _LOOKED_AT if top_k is None and number < size]
    mass = wide(logits.exp().sum(-1))
    drawn = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    left = torch.arange(len(logits), device=logits.device)
    for number in (*numbers, most):
        likely = _likely(logits[left], number, nucleus, None if number == most else mass[left])
        place = _invert(likely.weights[likely.complete], uniform[left[likely.complete]])
        words = likely.words[likely.complete].gather(1, place[:, None])[:, 0]
        drawn[left[likely.complete]] = words
        left = left[~likely.complete]
        if not len(left):
            break
    return drawn


class _Likely(NamedTuple):
    """The K most probable words of each of A rows, the most probable first."""

    words: Tensor  # (A, K)
    weights: Tensor  # (A, K), 0 beyond the nucleus
    complete: Tensor  # (A,) bool, whether the nucleus ends among them


def _likely(logits: Tensor, number: int, nucleus: float, mass: Tensor | None) -> _Likely:
    """Look for the end of the nucleus among the K first words.

    ``mass`` (A,) is the sum of all exponentials of the logits (A, V); None is that of the K words.
    """
    values, words = logits.topk(number)
    weights = wide(values.exp())
    sums = weights.cumsum(-1)
    wanted = nucleus * (sums[:, -1] if mass is None else mass)
    if nucleus < 1.0:
        before = F.pad(sums[:, :-1], (1, 0))
        weights = torch.where(before < wanted[:, None], weights, 0.0)
    return _Likely(words, weights, sums[:, -1] >= wanted)


def _invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """Indices drawn with probabilities proportional to weights, by inversion of their sums.

    Blocks of words come first and the words of one block next: the running sums of all words, or
    a random number for each, would take longer than the model (bench/bench_generation.py).
    An index of weight 0 is never drawn.

    Args:
        weights: (A, K), none negative, one positive in every row; A may be 0.
        uniform: (A,), in [0, 1).
    """
    rows, size = weights.shape
    blocks = F.pad(weights, (0, -size % _BLOCK)).view(rows, -(-size // _BLOCK), _BLOCK)
    sums = wide(blocks.sum(-1)).cumsum(-1)
    target = uniform * sums[:, -1]
    block = _first_above(sums, target)
    before = F.pad(sums, (1, 0)).gather(1, block[:, None])[:, 0]
    own = blocks[torch.arange(rows, device=weights.device), block]
    word = _first_above(wide(own).cumsum(-1), target - before)
    return block * _BLOCK + word


def _first_above(sums: Tensor, target: Tensor) -> Tensor:
    """Index of the first running sum (A, K) above the target (A,); rounding stays in range."""
    last = sums[:, -1]
    target = torch.minimum(target, torch.nextafter(last, torch.zeros_like(last)))
    return (sums <= target[:, None]).sum(-1)
