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
from dataclasses import dataclass
from functools import cached_property, lru_cache
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
from posterior_collapse.datasets.registry import Sizes, find

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
    """What N sequences were written from."""

    z: Tensor  # (N, 2) float64
    component: Tensor  # (N,) int64, an index into the mixture's centres


class Parts(NamedTuple):
    """What the sequences of each split were written from, aligned with its rows."""

    train: Latents
    valid: Latents
    test: Latents


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


class Draws(NamedTuple):
    """All random numbers of a data set; those of all splits one after the other."""

    oracle: Oracle
    latents: Latents
    uniforms: Tensor  # (N, 10)


@dataclass(frozen=True)
class Mixture:
    """A data set whose z comes from Gaussians in the plane, all equally likely.

    Attributes:
        name: the registry's.
        seed: of all its random numbers.
        centres: of the Gaussians.
        spread: standard deviation of each in each dimension.
        labels: name of each.
    """

    name: str
    seed: int
    centres: tuple[tuple[float, float], ...]
    spread: float
    labels: tuple[str, ...]

    def draw_latents(self, num: int, generator: torch.Generator) -> Latents:
        """Draw components and z."""
        component = torch.randint(len(self.centres), (num,), generator=generator)
        noise = torch.randn(num, 2, generator=generator, dtype=torch.float64)
        centres = torch.tensor(self.centres, dtype=torch.float64)
        return Latents(centres[component] + self.spread * noise, component)

    @cached_property
    def draws(self) -> Draws:
        """All random numbers; drawing them takes milliseconds."""
        generator = torch.Generator().manual_seed(self.seed)
        oracle = draw_oracle(generator)
        num = sum(find(self.name).splits)
        drawn = self.draw_latents(num, generator)
        uniforms = torch.rand(num, LENGTH, generator=generator, dtype=torch.float64)
        return Draws(oracle, drawn, uniforms)

    def rows(self, sizes: Sizes) -> list[Tensor]:
        """Rows of the whole draw that the first sequences of each split occupy."""
        whole = find(self.name).splits
        starts = (0, whole.train, whole.train + whole.valid)
        return [torch.arange(start, start + n) for start, n in zip(starts, sizes, strict=True)]

    def latents(self, sizes: Sizes | None = None) -> Parts:
        """The z and the component behind each sequence.

        Args:
            sizes: as given to ``load``; all sequences if None.
        """
        whole = find(self.name).splits
        rows = self.rows(whole if sizes is None else check_sizes(sizes, whole, self.name))
        z, component = self.draws.latents
        return Parts(*(Latents(z[part], component[part]) for part in rows))


@lru_cache(maxsize=8)
def build(mixture: Mixture, sizes: Sizes) -> TextDataset:
    """Generate the first sequences of each split; about two seconds for all on one core."""
    oracle, drawn, uniforms = mixture.draws
    splits = [
        _as_split(sample(oracle, drawn.z[rows], uniforms[rows]), drawn.component[rows])
        for rows in mixture.rows(sizes)
    ]
    vocabulary = Vocabulary(f"w{index:03d}" for index in range(VOCABULARY))
    return TextDataset.build(find(mixture.name), splits, vocabulary, mixture.labels)


def _as_split(words: Tensor, labels: Tensor) -> Split:
    """Sequences of words 0 .. V-1 (N, L) as a split: framed by BOS and EOS; labels (N,)."""
    num = len(words)
    marks = torch.full((num, 1), BOS), torch.full((num, 1), EOS)
    tokens = torch.cat([marks[0], words + _FIRST_ID, marks[1]], dim=1)
    return Split(tokens, torch.full((num,), tokens.shape[1]), labels)


# The year of the paper is the seed; the authors' own draw is not available.
MIXTURE = Mixture("lagging-synthetic", 2019, CENTRES, 1.0, tuple(f"centre {c}" for c in CENTRES))
latents = MIXTURE.latents


def oracle() -> Oracle:
    """The LSTM that wrote the data set "lagging-synthetic"."""
    return MIXTURE.draws.oracle
