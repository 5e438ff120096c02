"""Sentences from a text model: greedy, sampled, by beam search, and what the papers do with them.

Three decoders turn codes z (N, D) into sentences: :func:`greedy`, :func:`sample` and
:func:`beam_search`. They have one signature, so that each can be handed to :func:`reconstruct`,
:func:`from_prior`, :func:`interpolate` and :func:`impute`; ``functools.partial`` sets what else
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
from torch.distributions import Distribution

from posterior_collapse import gaussian
from posterior_collapse.datasets.arrays import BOS, EOS, PAD, UNK, Split, equal_length_rows
from posterior_collapse.errors import BadInput, PosteriorCollapseError, whole
from posterior_collapse.estimators import evaluating
from posterior_collapse.networks.base import VAE
from posterior_collapse.networks.text import TextDecoder, TextState
from posterior_collapse.posteriors import Flowed, ScaledHead, draw
from posterior_collapse.priors import ScaledStandardNormalPrior

__all__ = [
    "Decode",
    "Generated",
    "Imputed",
    "beam_search",
    "cut_ends",
    "drop_words",
    "encode",
    "from_prior",
    "greedy",
    "hide_words",
    "impute",
    "interpolate",
    "linear",
    "posterior_draw",
    "posterior_mean",
    "prior_codes",
    "reconstruct",
    "sample",
    "spherical",
]

# Log-probabilities of next words held at once: 16 MB in float32. Fewer rows use the matrix product
# less well; bench/bench_generation.py.
LOG_PROBABILITIES_PER_STEP = 2**22
# Sentences decoded at once where the vocabulary is small.
SENTENCES_PER_STEP = 1024
_SENTENCES_PER_ENCODING = 256
_LONGEST = 200  # words, where the caller does not say
_BLOCK = 128  # words whose probabilities are added up before any is looked at
_LOOKED_AT = (64, 512)  # words in which the end of a nucleus is looked for, before all of them

# What is never written: they are no words of a sentence.
_MARKS = (PAD, BOS)


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


def _text_decoder(model: VAE) -> TextDecoder:
    """The decoder, if it writes words."""
    decoder = getattr(model, "decoder", None)
    if not isinstance(decoder, TextDecoder):
        raise BadInput(
            "sentences come from a text model, whose decoder is a TextDecoder; given a model with "
            f"{type(decoder).__name__}"
        )
    return decoder


def _require_latent(model: VAE, what: str) -> None:
    """Refuse a language model where z carries the sentence."""
    if _text_decoder(model).state.in_features == 0:
        raise BadInput(f"{what} needs a latent variable, and the model given has none (D = 0)")


class _Asked(NamedTuple):
    """What every decoder is asked for, checked."""

    decoder: TextDecoder
    z: Tensor  # (N, D)
    most_words: int  # of a sentence, EOS counted
    forbidden: Tensor  # ids that are never written


def _asked(model: VAE, z: Tensor, max_length: int, forbidden: Collection[int]) -> _Asked:
    """Refuse what is no text model, no finite codes (N, D) of it, no length, and no ids."""
    decoder = _text_decoder(model)
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
    return _Asked(decoder, z, max_length, never)


def _widest(device: torch.device) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def _wide(values: Tensor) -> Tensor:
    """The same numbers in the widest dtype of their device, where sums are taken."""
    return values.to(_widest(values.device))


# --- sentences in parallel ------------------------------------------------------------------------

_Rows = TypeVar("_Rows", bound=tuple[Any, ...])


def _take(rows: _Rows, index: Tensor) -> _Rows:
    """The same NamedTuple of tensors with some of its rows."""
    return type(rows)(*(_take(f, index) if isinstance(f, tuple) else f[index] for f in rows))


def _join(first: _Rows, second: _Rows) -> _Rows:
    """Rows of two NamedTuples of tensors, one after the other."""
    pairs = zip(first, second, strict=True)
    return type(first)(
        *(_join(a, b) if isinstance(a, tuple) else torch.cat([a, b]) for a, b in pairs)
    )


class _Sentences(NamedTuple):
    """A sentences that are done or on their way, T is the most that a row can hold."""

    number: Tensor  # (A,), which of the N codes
    words: Tensor  # (A, T) int64
    length: Tensor  # (A,), words so far, BOS counted
    total: Tensor  # (A,) float64, log-probability so far


class _Search(Protocol[_Rows]):
    """A way to decode: rows that begin, go one word further, and end."""

    def begin(self, number: Tensor) -> _Rows:
        """Rows (A,) for the codes with these numbers."""
        ...

    def advance(self, rows: _Rows) -> tuple[_Rows, Tensor]:
        """One word further; which rows are done (A,) bool."""
        ...

    def result(self, rows: _Rows) -> _Sentences:
        """What became of rows that are done."""
        ...


def _run(model: VAE, search: _Search[_Rows], asked: _Asked, per_sentence: int) -> Generated:
    """Decode all codes, a bounded number at a time.

    Sentences that wait begin when half of the places are free, so that nearly every step is a
    product of many rows.

    Args:
        model: whose decoder it is; it runs in evaluation mode and is left as it was.
        search: what a step does.
        asked: N codes, and what is asked for.
        per_sentence: rows of the decoder that a sentence takes.
    """
    z, count = asked.z, len(asked.z)
    found = _begun(torch.arange(count, device=z.device), asked.most_words)
    size = asked.decoder.embedding.num_embeddings * per_sentence
    places = max(1, min(SENTENCES_PER_STEP, LOG_PROBABILITIES_PER_STEP // size))
    with evaluating(model):
        rows = search.begin(found.number[:places])
        active = waiting = len(found.number[:places])
        while active:
            rows, done = search.advance(rows)
            if done.any():
                _store(found, search.result(_take(rows, done)))
                rows = _take(rows, ~done)
                active -= int(done.sum())
            if waiting < count and 2 * active <= places:
                fresh = found.number[waiting : waiting + places - active]
                rows = _join(rows, search.begin(fresh))
                waiting, active = waiting + len(fresh), active + len(fresh)
    width = int(found.length.max()) if count else 1
    last = found.words.gather(1, found.length[:, None] - 1)[:, 0]
    totals = gaussian.narrow(found.total, z)
    return Generated(found.words[:, :width].contiguous(), found.length, totals, last == EOS, z)


def _require_words(log_probability: Tensor) -> None:
    """Stop where a model has no next word; given is the log-probability of those chosen (A,)."""
    if not log_probability.isfinite().all():
        raise PosteriorCollapseError(
            "the model gives no probability to any word that is allowed next; its parameters may "
            "hold nan, as after a training that diverged"
        )


def _begun(number: Tensor, most_words: int) -> _Sentences:
    """Sentences that consist of BOS."""
    words = number.new_full((len(number), most_words + 1), PAD)
    words[:, 0] = BOS
    total = torch.zeros(len(number), dtype=_widest(number.device), device=number.device)
    return _Sentences(number, words, torch.ones_like(number), total)


def _store(found: _Sentences, done: _Sentences) -> None:
    """Put sentences into their places."""
    found.words[done.number] = done.words
    found.length[done.number] = done.length
    found.total[done.number] = done.total


# --- one word after the other: greedy and sampled -------------------------------------------------


class _Line(NamedTuple):
    """Sentences of which one version is followed."""

    sentences: _Sentences
    state: TextState


@dataclass(frozen=True)
class _WordByWord:
    """The search that chooses a word for good at every step.

    ``choose`` takes log-probabilities (A, V), numbers (A,) and words so far (A,) to ids (A,).
    """

    asked: _Asked
    choose: Callable[[Tensor, Tensor, Tensor], Tensor]

    def begin(self, number: Tensor) -> _Line:
        """See :class:`_Search`."""
        return _Line(
            _begun(number, self.asked.most_words), self.asked.decoder.start(self.asked.z[number])
        )

    def advance(self, rows: _Line) -> tuple[_Line, Tensor]:
        """See :class:`_Search`."""
        number, words, length, total = rows.sentences
        last = words.gather(1, length[:, None] - 1)[:, 0]
        log_probability, state = self.asked.decoder.step(last, rows.state)
        log_probability[:, self.asked.forbidden] = -math.inf
        word = self.choose(log_probability, number, length - 1)
        own = log_probability.gather(1, word[:, None])[:, 0]
        _require_words(own)
        total = total + _wide(own)
        words = words.scatter(1, length[:, None], word[:, None])
        done = (word == EOS) | (length == self.asked.most_words)
        return _Line(_Sentences(number, words, length + 1, total), state), done

    def result(self, rows: _Line) -> _Sentences:
        """See :class:`_Search`."""
        return rows.sentences


def greedy(
    model: VAE,
    z: Tensor,
    generator: torch.Generator | None = None,
    *,
    max_length: int = _LONGEST,
    forbidden: Collection[int] = _MARKS,
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

    asked = _asked(model, z, max_length, forbidden)
    return _run(model, _WordByWord(asked, choose), asked, 1)


def sample(
    model: VAE,
    z: Tensor,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    nucleus: float = 1.0,
    max_length: int = _LONGEST,
    forbidden: Collection[int] = _MARKS,
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
    asked = _asked(model, z, max_length, forbidden)
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

    return _run(model, _WordByWord(asked, choose), asked, 1)


def _draw_likely(logits: Tensor, uniform: Tensor, top_k: int | None, nucleus: float) -> Tensor:
    """Draw from the most probable words; see :func:`sample`.

    A nucleus is mostly small, and sorting all words takes longer than the model: they are sorted
    only for the rows whose nucleus goes on beyond the first few hundred.

    Args:
        logits: (A, V).
        uniform: (A,), in [0, 1).
        top_k, nucleus: not both without effect.

    Returns:
        (A,) int64.
    """
    size = logits.shape[1]
    most = size if top_k is None else min(top_k, size)
    numbers = [number for number in _LOOKED_AT if top_k is None and number < size]
    mass = _wide(logits.exp().sum(-1))
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
    """Look for the end of the nucleus among the first words.

    Args:
        logits: (A, V).
        number: K.
        nucleus: in (0, 1].
        mass: (A,), the sum of all exponentials; None for that of the K words.
    """
    values, words = logits.topk(number)
    weights = _wide(values.exp())
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

    Returns:
        (A,) int64.
    """
    rows, size = weights.shape
    blocks = F.pad(weights, (0, -size % _BLOCK)).view(rows, -(-size // _BLOCK), _BLOCK)
    sums = _wide(blocks.sum(-1)).cumsum(-1)
    target = uniform * sums[:, -1]
    block = _first_above(sums, target)
    before = F.pad(sums, (1, 0)).gather(1, block[:, None])[:, 0]
    own = blocks[torch.arange(rows, device=weights.device), block]
    word = _first_above(_wide(own).cumsum(-1), target - before)
    return block * _BLOCK + word


def _first_above(sums: Tensor, target: Tensor) -> Tensor:
    """Index of the first running sum (A, K) above the target (A,); rounding stays in range."""
    last = sums[:, -1]
    target = torch.minimum(target, torch.nextafter(last, torch.zeros_like(last)))
    return (sums <= target[:, None]).sum(-1)


# --- beam search ----------------------------------------------------------------------------------


class _Beam(NamedTuple):
    """Sentences of which up to W versions are followed."""

    number: Tensor  # (A,)
    words: Tensor  # (A, W, T)
    scores: Tensor  # (A, W) float64, log-probabilities; -inf where there is no version
    places: Tensor  # (A,), versions that may be followed: W less those that ended
    length: Tensor  # (A,), the same for all versions
    value: Tensor  # (A,) float64, normalised score of the best that ended; -inf before
    best: _Sentences  # the best that ended
    state: TextState  # (A, W, ...)


@dataclass(frozen=True)
class _BeamSearch:
    """The search of :func:`beam_search`."""

    asked: _Asked
    width: int
    power: float

    def begin(self, number: Tensor) -> _Beam:
        """See :class:`_Search`."""
        best = _begun(number, self.asked.most_words)
        value = torch.full_like(best.total, -math.inf)
        scores = value[:, None].repeat(1, self.width)
        scores[:, 0] = 0.0
        state = self.asked.decoder.start(self.asked.z[number])
        versions = (len(number), self.width, -1)
        return _Beam(
            number,
            best.words[:, None].expand(versions),
            scores,
            torch.full_like(number, self.width),
            torch.ones_like(number),
            value,
            best,
            TextState(*(part[:, None].expand(versions) for part in state)),
        )

    def advance(self, rows: _Beam) -> tuple[_Beam, Tensor]:
        """See :class:`_Search`."""
        rows, ended = self._grow(rows)
        rows = self._collect(rows, ended)
        top = rows.scores.amax(1)
        # No longer sentence can be better than this: its score falls, its length is bounded.
        reachable = top / self.asked.most_words**self.power
        return rows, (rows.value >= reachable) | (rows.length > self.asked.most_words)

    def _grow(self, rows: _Beam) -> tuple[_Beam, Tensor]:
        """The best versions that are one word longer, and which of them ended, (A, W) bool."""
        sentences, width, _ = rows.words.shape
        alive = rows.scores.flatten().isfinite().nonzero()[:, 0]
        place = (rows.length - 1)[:, None, None].expand(sentences, width, 1)
        last = rows.words.gather(2, place).flatten()[alive]
        before = TextState(*(part.flatten(0, 1)[alive] for part in rows.state))
        log_probability, after = self.asked.decoder.step(last, before)
        log_probability[:, self.asked.forbidden] = -math.inf
        # A version has at most W children among the best W of its sentence.
        own, ids = log_probability.topk(min(width, log_probability.shape[1]))
        _require_words(own[:, 0])
        children = own.shape[1]
        grown = rows.scores.new_full((sentences * width, children), -math.inf)
        grown[alive] = rows.scores.flatten()[alive, None] + _wide(own)
        words = ids.new_full(grown.shape, PAD)
        words[alive] = ids
        scores, chosen = grown.view(sentences, -1).topk(width)
        rank = torch.arange(width, device=scores.device)
        scores = scores.masked_fill(rank >= rows.places[:, None], -math.inf)
        parent, word = chosen // children, words.view(sentences, -1).gather(1, chosen)
        # Where the parent's state is among the rows that were decoded; anywhere for no version.
        row = alive.new_zeros(sentences * width)
        row[alive] = torch.arange(len(alive), device=row.device)
        state = _take(after, row.view(sentences, width).gather(1, parent))
        history = rows.words.gather(1, parent[:, :, None].expand_as(rows.words))
        history = history.scatter(2, place + 1, word[:, :, None])
        ended = (word == EOS) & scores.isfinite()
        length = rows.length + 1
        return rows._replace(words=history, scores=scores, length=length, state=state), ended

    def _collect(self, rows: _Beam, ended: Tensor) -> _Beam:
        """Take out the versions that ended, and remember the best."""
        length = (rows.length - 1).to(rows.scores)
        values = (rows.scores / length[:, None] ** self.power).masked_fill(~ended, -math.inf)
        value, which = values.max(1)
        better = value > rows.value
        return rows._replace(
            scores=rows.scores.masked_fill(ended, -math.inf),
            places=rows.places - ended.sum(1),
            value=torch.where(better, value, rows.value),
            best=_choose(better, _version(rows, which), rows.best),
        )

    def result(self, rows: _Beam) -> _Sentences:
        """The best that ended; where none did, the best that was cut."""
        cut = _version(rows, rows.scores.argmax(1))
        return _choose(rows.value == -math.inf, cut, rows.best)


def _version(rows: _Beam, which: Tensor) -> _Sentences:
    """One version of each sentence, which (A,)."""
    words = rows.words[torch.arange(len(which), device=which.device), which]
    total = rows.scores.gather(1, which[:, None])[:, 0]
    return _Sentences(rows.number, words, rows.length, total)


def _choose(first: Tensor, one: _Sentences, other: _Sentences) -> _Sentences:
    """Rows of one where ``first`` (A,) holds, and of the other elsewhere."""
    return _Sentences(
        one.number,
        torch.where(first[:, None], one.words, other.words),
        torch.where(first, one.length, other.length),
        torch.where(first, one.total, other.total),
    )


def beam_search(
    model: VAE,
    z: Tensor,
    generator: torch.Generator | None = None,
    *,
    width: int = 5,
    length_power: float = 0.0,
    max_length: int = _LONGEST,
    forbidden: Collection[int] = _MARKS,
) -> Generated:
    """The best sentence that a beam of ``width`` versions finds, as AutoGen reconstructs.

    (Mansbridge et al. 2018, section 3.2, who do not give the width.)
    At each step the ``width`` most probable longer versions are kept.
    One that ends leaves the beam, which has a place less from then on (Sutskever et al. 2014).
    The search of a sentence stops when no version can become better than the best that ended.
    A width of 1 is :func:`greedy`; one of all possible versions finds the best sentence there is.

    Sentences that ended are compared by log p(sentence | z) / length^length_power, the length
    counted with EOS; one that was cut is returned only where none ended.

    Args:
        model: with a text decoder.
        z: (N, D).
        generator: is left as it was; all decoders take one.
        width: versions, at least 1.
        length_power: 0 compares probabilities, 1 average log-probabilities per word.
        max_length, forbidden: see :func:`greedy`.

    Raises:
        BadInput: see :func:`greedy`.
    """
    asked = _asked(model, z, max_length, forbidden)
    whole("width", width)
    if not 0.0 <= length_power < math.inf:
        raise BadInput(f"length_power is a number of at least 0, given {length_power!r}")
    return _run(model, _BeamSearch(asked, width, length_power), asked, width)


# --- codes ----------------------------------------------------------------------------------------


def posterior_mean(posterior: Distribution, generator: torch.Generator | None = None) -> Tensor:
    """The mean of q(z|x), (B, D); of a flow, what it makes of the mean of z^0.

    A Scale-VAE's is f mu, which its decoder sees.
    """
    if isinstance(posterior, Flowed):
        return posterior.push(posterior.mean)
    return posterior.mean


def posterior_draw(posterior: Distribution, generator: torch.Generator) -> Tensor:
    """One draw of q(z|x), (B, D), as AutoGen reconstructs."""
    return draw(posterior, (), generator)


def encode(
    model: VAE,
    split: Split,
    generator: torch.Generator,
    code: Callable[[Distribution, torch.Generator], Tensor] = posterior_mean,
) -> Tensor:
    """Codes of sentences, in their order.

    Args:
        model: with a text decoder and a latent variable.
        split: N sentences, of any lengths, on the model's device.
        generator: for ``code``, on the model's device.
        code: :func:`posterior_mean` or :func:`posterior_draw`.

    Returns:
        (N, D).

    Raises:
        BadInput: an image model, or one without a latent variable.
    """
    _require_latent(model, "a code")
    rows = equal_length_rows(split, _SENTENCES_PER_ENCODING)
    with evaluating(model):
        codes = [
            code(model.posterior(split.tokens[own, : int(split.lengths[own[0]])]), generator)
            for own in rows
        ]
    return torch.cat(codes)[torch.cat(rows).argsort()]


def prior_codes(model: VAE, count: int, generator: torch.Generator) -> Tensor:
    """Draws of z as the decoder sees them, (count, D).

    A Scale-VAE generates from f z with z ~ N(0, I) (Song et al. 2024).
    Its prior N(0, f^2) gives just that; under another prior the draws are multiplied by f here.

    Args:
        model: with a text decoder; without a latent variable, D is 0.
        count: at least 1.
        generator: on the model's device.
    """
    _text_decoder(model)
    whole("count", count)
    with evaluating(model):
        z = draw(model.prior, (count,), generator)
        head = model.posterior_head
        scaled = isinstance(model.prior_head, ScaledStandardNormalPrior)
        return head.factor * z if isinstance(head, ScaledHead) and not scaled else z


def linear(start: Tensor, end: Tensor, points: int) -> Tensor:
    """Points on straight lines, ends included: (N, D) twice to (N, points, D)."""
    weight = _weights(start, end, points)
    return torch.lerp(start[:, None], end[:, None], weight)


def spherical(start: Tensor, end: Tensor, points: int) -> Tensor:
    """Points whose direction turns at an even rate, and whose norm changes at an even rate.

    Draws of N(0, I) in many dimensions lie near a sphere, and the line between two of them does
    not. For equal norms these are the points of the great circle.

    Args:
        start, end: (N, D), none of them 0, no pair opposite to each other.
        points: at least 2, ends included.

    Returns:
        (N, points, D).

    Raises:
        BadInput: shapes, or a pair without one shortest way.
    """
    weight = _weights(start, end, points)
    norms = [side.norm(dim=-1, keepdim=True) for side in (start, end)]
    if any((norm == 0.0).any() for norm in norms):
        raise BadInput("the spherical path needs codes other than 0, which has no direction")
    first, second = start / norms[0], end / norms[1]
    # The angle by half-angles: the inverse cosine loses half of the digits near 0 and pi.
    apart, along = (first - second).norm(dim=-1), (first + second).norm(dim=-1)
    opposite = along < 4.0 * torch.finfo(start.dtype).eps
    if opposite.any():
        row = int(opposite.nonzero()[0])
        raise BadInput(
            f"the codes of pair {row} are opposite to each other, so no direction of turning is "
            "the shortest; the linear path needs none"
        )
    angle = 2.0 * torch.atan2(apart, along)[:, None, None]
    shares = [_sine_ratio(1.0 - weight, angle), _sine_ratio(weight, angle)]
    direction = shares[0] * first[:, None] + shares[1] * second[:, None]
    return direction * torch.lerp(norms[0][:, None], norms[1][:, None], weight)


def _sine_ratio(weight: Tensor, angle: Tensor) -> Tensor:
    """sin(weight angle) / sin(angle), and its limit at 0."""
    # sinc keeps the ratio where both sines vanish.
    return weight * torch.sinc(weight * angle / math.pi) / torch.sinc(angle / math.pi)


def _weights(start: Tensor, end: Tensor, points: int) -> Tensor:
    """0 to 1 in even steps, (points, 1), after a look at what is to be joined."""
    whole("points", points, 2)
    if start.dim() != 2 or start.shape != end.shape:
        raise BadInput(
            f"start and end are both (N, D), given {tuple(start.shape)} and {tuple(end.shape)}"
        )
    gaussian.require_finite(start=start, end=end)
    return torch.linspace(0.0, 1.0, points, dtype=start.dtype, device=start.device)[:, None]


# --- what the papers show -------------------------------------------------------------------------


def reconstruct(
    model: VAE,
    split: Split,
    generator: torch.Generator,
    *,
    code: Callable[[Distribution, torch.Generator], Tensor] = posterior_mean,
    decode: Decode = greedy,
) -> Generated:
    """Sentences encoded and decoded again.

    IGP decodes the mean greedily, AutoGen a draw by beam search.

    Args:
        model, split, generator, code: see :func:`encode`.
        decode: one of the decoders.
    """
    return decode(model, encode(model, split, generator, code), generator)


def from_prior(
    model: VAE, count: int, generator: torch.Generator, *, decode: Decode = greedy
) -> Generated:
    """Sentences from draws of the prior; see :func:`prior_codes`.

    A language model has no z: ``decode=sample`` draws from it, and the other decoders give one
    sentence again and again.

    Args:
        model, count, generator: see :func:`prior_codes`.
        decode: one of the decoders.
    """
    return decode(model, prior_codes(model, count, generator), generator)


def interpolate(
    model: VAE,
    start: Tensor,
    end: Tensor,
    points: int,
    generator: torch.Generator,
    *,
    path: Callable[[Tensor, Tensor, int], Tensor] = linear,
    decode: Decode = greedy,
) -> Generated:
    """Sentences on the way from one code to another (Mansbridge et al. 2018, section 3.4).

    Args:
        model: with a text decoder and a latent variable.
        start, end: (N, D), from :func:`encode` or :func:`prior_codes`.
        points: at least 2, ends included.
        generator: for ``decode``.
        path: :func:`linear` or :func:`spherical`.
        decode: one of the decoders.

    Returns:
        N * points sentences, those of one pair after each other.
    """
    _require_latent(model, "interpolation")
    return decode(model, path(start, end, points).flatten(0, 1), generator)


class Imputed(NamedTuple):
    """What the encoder read, and what the decoder made of it."""

    corrupted: Split
    generated: Generated


def impute(
    model: VAE,
    split: Split,
    corrupt: Callable[[Split, torch.Generator], Split],
    generator: torch.Generator,
    *,
    code: Callable[[Distribution, torch.Generator], Tensor] = posterior_mean,
    decode: Decode = greedy,
) -> Imputed:
    """Take words away, encode what is left, and let the decoder complete it.

    IGP's text says that 75 % of the words are imputed; in its examples it is the first quarter of
    a sentence that stays (Zhang et al. 2021, table 5), which is :func:`cut_ends`.

    Args:
        model, split, generator, code, decode: see :func:`reconstruct`.
        corrupt: :func:`cut_ends`, :func:`hide_words` or :func:`drop_words`.
    """
    corrupted = corrupt(split, generator)
    return Imputed(corrupted, reconstruct(model, corrupted, generator, code=code, decode=decode))


def cut_ends(
    split: Split, generator: torch.Generator | None = None, *, share: float = 0.75
) -> Split:
    """Sentences without their last words; of n words the first int((1 - share) n) stay.

    Args:
        split: N sentences.
        generator: is left as it was.
        share: in [0, 1].
    """
    return _without(split, _places(split) <= _kept(split, share)[:, None])


def drop_words(split: Split, generator: torch.Generator, *, share: float = 0.3) -> Split:
    """Sentences without some words; int((1 - share) n) random ones stay, in their order.

    IGP's test of robustness has a share of 0.3 (Zhang et al. 2021, section 4.2).

    Args:
        split: N sentences.
        generator: chooses the words.
        share: in [0, 1].
    """
    return _without(split, _random_places(split, _kept(split, share), generator))


def hide_words(split: Split, generator: torch.Generator, *, share: float = 0.75) -> Split:
    """Sentences with UNK in place of some words; int((1 - share) n) random ones stay.

    Args:
        split: N sentences.
        generator: chooses the words.
        share: in [0, 1].
    """
    stays = _random_places(split, _kept(split, share), generator)
    hidden = _is_word(split) & ~stays
    return Split(split.tokens.masked_fill(hidden, UNK), split.lengths, split.labels)


def _kept(split: Split, share: float) -> Tensor:
    """How many words of each sentence stay, (N,)."""
    if not 0.0 <= share <= 1.0:
        raise BadInput(f"share is in [0, 1], given {share!r}")
    # A product that should be whole may lie just below; float32 would not see the difference.
    words = (split.lengths - 2).cpu().double()
    return (words * (1.0 - share) + 1e-9).floor().long().to(split.lengths.device)


def _places(split: Split) -> Tensor:
    """Place of each token in its sentence, (1, T); BOS has 0 and the first word 1."""
    return torch.arange(split.tokens.shape[1], device=split.tokens.device)[None]


def _is_word(split: Split) -> Tensor:
    """Where a word stands, neither BOS, nor EOS, nor PAD, (N, T) bool."""
    place = _places(split)
    return (place > 0) & (place < split.lengths[:, None] - 1)


def _random_places(split: Split, count: Tensor, generator: torch.Generator) -> Tensor:
    """``count`` (N,) random words of each sentence, (N, T) bool."""
    keys = torch.rand(split.tokens.shape, generator=generator, device=generator.device)
    keys = keys.to(split.tokens.device).masked_fill(~_is_word(split), 2.0)
    return keys.argsort(1).argsort(1) < count[:, None]


def _without(split: Split, stays: Tensor) -> Split:
    """The words that stay, (N, T) bool, moved together between BOS and EOS."""
    place, lengths = _places(split), split.lengths[:, None]
    stays = (stays & _is_word(split)) | (place == 0) | (place == lengths - 1)
    order = (~stays).to(torch.uint8).argsort(dim=1, stable=True)
    left = stays.sum(1)
    tokens = split.tokens.gather(1, order).masked_fill(place >= left[:, None], PAD)
    return Split(tokens[:, : int(left.max())], left, split.labels)
