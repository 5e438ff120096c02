"""Beam search: the most probable sentence among those that a search of some width meets."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from posterior_collapse.datasets.arrays import EOS, PAD
from posterior_collapse.errors import BadInput, whole
from posterior_collapse.networks.base import VAE
from posterior_collapse.networks.text import TextState
from posterior_collapse.text.decoding import (
    LONGEST,
    MARKS,
    Generated,
    Request,
    Sentences,
    begun,
    prepare,
    require_words,
    run,
    take_rows,
    wide,
)


class _Beam(NamedTuple):
    """Sentences of which up to W versions are followed."""

    number: Tensor  # (A,)
    words: Tensor  # (A, W, T)
    scores: Tensor  # (A, W) float64, log-probabilities; -inf where there is no version
    places: Tensor  # (A,), versions that may be followed: W less those that ended
    length: Tensor  # (A,), the same for all versions
    value: Tensor  # (A,) float64, normalised score of the best that ended; -inf before
    best: Sentences  # the best that ended
    state: TextState  # (A, W, ...)


@dataclass(frozen=True)
class _BeamSearch:
    """The search of :func:`beam_search`."""

    request: Request
    width: int
    power: float

    def begin(self, number: Tensor) -> _Beam:
        """See :class:`Search`."""
        best = begun(number, self.request.most_words)
        value = torch.full_like(best.total, -math.inf)
        scores = value[:, None].repeat(1, self.width)
        scores[:, 0] = 0.0
        state = self.request.decoder.start(self.request.z[number])
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
        """See :class:`Search`."""
        rows, ended = self._grow(rows)
        rows = self._collect(rows, ended)
        top = rows.scores.amax(1)
        # No longer sentence can be better than this: its score falls, its length is bounded.
        reachable = top / self.request.most_words**self.power
        return rows, (rows.value >= reachable) | (rows.length > self.request.most_words)

    def _grow(self, rows: _Beam) -> tuple[_Beam, Tensor]:
        """The best versions that are one word longer, and which of them ended, (A, W) bool."""
        sentences, width, _ = rows.words.shape
        alive = rows.scores.flatten().isfinite().nonzero()[:, 0]
        place = (rows.length - 1)[:, None, None].expand(sentences, width, 1)
        last = rows.words.gather(2, place).flatten()[alive]
        before = TextState(*(part.flatten(0, 1)[alive] for part in rows.state))
        log_probability, after = self.request.decoder.step(last, before)
        log_probability[:, self.request.forbidden] = -math.inf
        # A version has at most W children among the best W of its sentence.
        own, ids = log_probability.topk(min(width, log_probability.shape[1]))
        require_words(own[:, 0])
        children = own.shape[1]
        grown = rows.scores.new_full((sentences * width, children), -math.inf)
        grown[alive] = rows.scores.flatten()[alive, None] + wide(own)
        words = ids.new_full(grown.shape, PAD)
        words[alive] = ids
        scores, chosen = grown.view(sentences, -1).topk(width)
        rank = torch.arange(width, device=scores.device)
        scores = scores.masked_fill(rank >= rows.places[:, None], -math.inf)
        parent, word = chosen // children, words.view(sentences, -1).gather(1, chosen)
        # Where the parent's state is among the rows that were decoded; anywhere for no version.
        row = alive.new_zeros(sentences * width)
        row[alive] = torch.arange(len(alive), device=row.device)
        state = take_rows(after, row.view(sentences, width).gather(1, parent))
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

    def result(self, rows: _Beam) -> Sentences:
        """The best that ended; where none did, the best that was cut."""
        cut = _version(rows, rows.scores.argmax(1))
        return _choose(rows.value == -math.inf, cut, rows.best)


def _version(rows: _Beam, which: Tensor) -> Sentences:
    """One version of each sentence, which (A,)."""
    words = rows.words[torch.arange(len(which), device=which.device), which]
    total = rows.scores.gather(1, which[:, None])[:, 0]
    return Sentences(rows.number, words, rows.length, total)


def _choose(first: Tensor, one: Sentences, other: Sentences) -> Sentences:
    """Rows of one where ``first`` (A,) holds, and of the other elsewhere."""
    return Sentences(
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
    max_length: int = LONGEST,
    forbidden: Collection[int] = MARKS,
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
    request = prepare(model, z, max_length, forbidden)
    whole("width", width)
    if not 0.0 <= length_power < math.inf:
        raise BadInput(f"length_power is a number of at least 0, given {length_power!r}")
    return run(model, _BeamSearch(request, width, length_power), request, width)
