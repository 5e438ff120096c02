"""The synthetic sequences of Lagging Inference Networks, appendix B.1.

A latent z in two dimensions comes from four unit Gaussians at (+-2, +-2).  An LSTM that reads
z at every step writes ten words of a vocabulary of 1,000; the softmax sees z once more:

    h_0 = tanh(c_0),  c_0 = W z
    h_t, c_t = LSTM([embedding(w_t); z], h_{t-1}, c_{t-1})
    p(w_{t+1} | w_1 .. w_t, z) = softmax(W1 h_t + W2 z)

There are no biases.  Every weight is U(-1, 1), except W2, which is U(-5, 5) so that z matters.
The first word is uniform over the vocabulary and counts towards the ten.

Reproducibility.  One seeded CPU generator draws the weights, the latents and one uniform
number per word, in this order.  A word is the inverse of its cumulative distribution at that
number, computed in float64.  Machines may round the sums differently in the last place, and a
word changes only if a uniform number falls within that rounding of a boundary.  Measured:
weights disturbed by a relative 1e-10, a million times the rounding, change no word of the
data set; float32 arithmetic changes three sequences.  The tests compare the digest with the
registry's, and ``load`` reports the digest of what was made.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from posterior_collapse.datasets.arrays import (
    BOS,
    EOS,
    Split,
    TextDataset,
    Vocabulary,
    check_sizes,
)
from posterior_collapse.datasets.registry import Card, Sizes, find

NAME = "lagging-synthetic"
SEED = 2019  # the year of the paper; the authors' own draw is not available
VOCABULARY = 1000
EMBEDDING = 100
HIDDEN = 100
LENGTH = 10
CENTRES = ((-2.0, -2.0), (-2.0, 2.0), (2.0, -2.0), (2.0, 2.0))

_CHUNK = 500  # sequences at a time: their (chunk, 1000) float64 logits stay in the cache
_FIRST_ID = 4  # word 0 follows the marks PAD, BOS, EOS and UNK


class Oracle(NamedTuple):
    """Weights of the generating LSTM, float64.  Gates are ordered input, forget, cell, output."""

    embedding: Tensor  # (V, E)
    input_weight: Tensor  # (4 H, E + 2)
    recurrent_weight: Tensor  # (4 H, H)
    state_weight: Tensor  # (H, 2)     W
    output_weight: Tensor  # (V, H)    W1
    latent_weight: Tensor  # (V, 2)    W2


class Latents(NamedTuple):
    """The z behind each sentence, one (N, 2) float64 tensor per split."""

    train: Tensor
    valid: Tensor
    test: Tensor


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return bound * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)


def draw_oracle(
    generator: torch.Generator,
    vocabulary: int = VOCABULARY,
    embedding: int = EMBEDDING,
    hidden: int = HIDDEN,
) -> Oracle:
    """Draw the weights of the generating LSTM from U(-1, 1), W2 from U(-5, 5)."""
    return Oracle(
        embedding=_uniform((vocabulary, embedding), 1.0, generator),
        input_weight=_uniform((4 * hidden, embedding + 2), 1.0, generator),
        recurrent_weight=_uniform((4 * hidden, hidden), 1.0, generator),
        state_weight=_uniform((hidden, 2), 1.0, generator),
        output_weight=_uniform((vocabulary, hidden), 1.0, generator),
        latent_weight=_uniform((vocabulary, 2), 5.0, generator),
    )


def draw_latents(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw z from the mixture of four Gaussians.

    Returns:
        z (num, 2) float64, and the component (num,) int64 of each, an index into CENTRES.
    """
    component = torch.randint(len(CENTRES), (num,), generator=generator)
    noise = torch.randn(num, 2, generator=generator, dtype=torch.float64)
    return noise + torch.tensor(CENTRES, dtype=torch.float64)[component], component


class _Stepper:
    """The LSTM run forward on fixed latents z (B, 2), a word at a time."""

    def __init__(self, oracle: Oracle, z: Tensor) -> None:
        width = oracle.embedding.shape[1]
        # What a word adds to the gates depends on the word alone: a table instead of a product.
        self.word_gates = oracle.embedding @ oracle.input_weight[:, :width].T  # (V, 4 H)
        self.latent_gates = z @ oracle.input_weight[:, width:].T  # (B, 4 H)
        self.latent_logits = z @ oracle.latent_weight.T  # (B, V)
        self.recurrent = oracle.recurrent_weight.T
        self.output = oracle.output_weight.T
        self.cell = z @ oracle.state_weight.T  # (B, H)
        self.hidden = torch.tanh(self.cell)

    def logits(self, words: Tensor) -> Tensor:
        """Read the words (B,) and give the unnormalised log-probabilities (B, V) of the next."""
        gates = torch.addmm(self.latent_gates, self.hidden, self.recurrent)
        gates += self.word_gates[words]
        enter, keep, new, leave = gates.chunk(4, dim=1)
        self.cell = torch.sigmoid(keep) * self.cell + torch.sigmoid(enter) * torch.tanh(new)
        self.hidden = torch.sigmoid(leave) * torch.tanh(self.cell)
        return torch.addmm(self.latent_logits, self.hidden, self.output)


def sample(oracle: Oracle, z: Tensor, uniforms: Tensor) -> Tensor:
    """Write one sequence for each latent.

    Args:
        oracle: the generating LSTM.
        z: (N, 2) float64.
        uniforms: (N, L) float64 in [0, 1), one number per word.  Row n decides sequence n alone,
            so the first sequences do not depend on how many follow.

    Returns:
        (N, L) int64, words 0 .. V-1.
    """
    size = len(oracle.embedding)
    words = torch.empty(uniforms.shape, dtype=torch.int64)
    for first in range(0, len(z), _CHUNK):
        rows = slice(first, first + _CHUNK)
        draws, step = uniforms[rows], _Stepper(oracle, z[rows])
        last = words[rows, 0] = (draws[:, 0] * size).long()
        for position in range(1, uniforms.shape[1]):
            logits = step.logits(last)
            logits -= logits.amax(dim=1, keepdim=True)
            mass = logits.exp_().cumsum(dim=1)
            wanted = draws[:, position, None] * mass[:, -1:]
            last = torch.searchsorted(mass, wanted, right=True).squeeze(1).clamp_(max=size - 1)
            words[rows, position] = last
    return words


def log_likelihood(oracle: Oracle, words: Tensor, z: Tensor) -> Tensor:
    """log p(w_1 .. w_L | z) of the generator, in nats per sequence.

    Args:
        oracle: the generating LSTM.
        words: (N, L) int64, words 0 .. V-1 (token ids of the data set minus 4).
        z: (N, 2) float64.

    Returns:
        (N,) float64.  The end of the sequence costs nothing: every sequence has L words.
    """
    total = torch.full((len(z),), -math.log(len(oracle.embedding)), dtype=torch.float64)
    for first in range(0, len(z), _CHUNK):
        rows = slice(first, first + _CHUNK)
        step = _Stepper(oracle, z[rows])
        for position in range(1, words.shape[1]):
            scores = step.logits(words[rows, position - 1]).log_softmax(dim=1)
            total[rows] += scores.gather(1, words[rows, position, None]).squeeze(1)
    return total


class _Draws(NamedTuple):
    oracle: Oracle
    z: Tensor  # (20000, 2)
    component: Tensor  # (20000,)
    uniforms: Tensor  # (20000, 10)


@lru_cache(maxsize=1)
def _draws() -> _Draws:
    """All random numbers of the data set; drawing them takes milliseconds."""
    generator = torch.Generator().manual_seed(SEED)
    oracle = draw_oracle(generator)
    num = sum(find(NAME).splits)
    z, component = draw_latents(num, generator)
    uniforms = torch.rand(num, LENGTH, generator=generator, dtype=torch.float64)
    return _Draws(oracle, z, component, uniforms)


def _rows(sizes: Sizes) -> list[Tensor]:
    """Rows of the whole draw that the first sentences of each split occupy."""
    whole = find(NAME).splits
    starts = (0, whole.train, whole.train + whole.valid)
    return [torch.arange(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def oracle() -> Oracle:
    """The LSTM that wrote the data set "lagging-synthetic"."""
    return _draws().oracle


def latents(sizes: Sizes | None = None) -> Latents:
    """The z that each sentence of "lagging-synthetic" was written from.

    Args:
        sizes: as given to ``load``; all sentences if None.

    Returns:
        One (N, 2) float64 tensor per split, aligned with its rows.
    """
    whole = find(NAME).splits
    checked = whole if sizes is None else check_sizes(sizes, whole, NAME)
    return Latents(*(_draws().z[rows] for rows in _rows(checked)))


def as_split(words: Tensor, labels: Tensor) -> Split:
    """Sequences of words 0 .. V-1 (N, L) as a split: framed by BOS and EOS; labels (N,)."""
    num = len(words)
    tokens = torch.cat(
        [torch.full((num, 1), BOS), words + _FIRST_ID, torch.full((num, 1), EOS)], dim=1
    )
    return Split(tokens, torch.full((num,), tokens.shape[1]), labels)


@lru_cache(maxsize=4)
def build(sizes: Sizes) -> TextDataset:
    """Generate the first sentences of each split; about two seconds for all on one core."""
    card: Card = find(NAME)
    draws = _draws()
    rows = torch.cat(_rows(sizes))
    words = sample(draws.oracle, draws.z[rows], draws.uniforms[rows])
    parts = zip(words.split(list(sizes)), draws.component[rows].split(list(sizes)), strict=True)
    splits = [as_split(part, labels) for part, labels in parts]
    vocabulary = Vocabulary(f"w{index:03d}" for index in range(VOCABULARY))
    return TextDataset.build(card, splits, vocabulary, [f"centre {c}" for c in CENTRES])
