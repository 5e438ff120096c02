"""Sequences whose latent variable comes from five Gaussians: one in the centre, four around it.

DU-VAE (Shen et al. 2021, section 4.3 and figure 1) draws a latent z in two dimensions from a
mixture of five Gaussians and lets an LSTM write a text from it.  Its text does not say where the
Gaussians lie, how wide they are, or what the LSTM's weights are.  From its figure come one
component in the middle, four around it, and a true density that fits in [-3, 3] x [-3, 3].
From its public code and logs come 1,000 words and 16,000 training sequences.

Decided here: the four are at (+-2, +-2), where He et al. 2019 have theirs, and every component
has the standard deviation 0.5.  The nearest centre then names the component of nearly every z
(all but 1 in 200), so what a model merges was lost in learning.  The LSTM and everything else
are those of :mod:`posterior_collapse.datasets.synthetic`, with another seed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from posterior_collapse.datasets import synthetic
from posterior_collapse.datasets.arrays import TextDataset, Vocabulary, check_sizes
from posterior_collapse.datasets.registry import Sizes, find

NAME = "five-gaussians"
SEED = 2021  # the year of the paper; the authors' own draw is not available
CENTRES = ((0.0, 0.0), (-2.0, -2.0), (-2.0, 2.0), (2.0, -2.0), (2.0, 2.0))
SPREAD = 0.5  # standard deviation of every component in each dimension


class Latents(NamedTuple):
    """What a sequence was written from."""

    z: Tensor  # (N, 2) float64
    component: Tensor  # (N,) int64, an index into CENTRES


def draw_latents(num: int, generator: torch.Generator) -> Latents:
    """Draw z from the mixture; all components are equally likely."""
    component = torch.randint(len(CENTRES), (num,), generator=generator)
    noise = torch.randn(num, 2, generator=generator, dtype=torch.float64)
    return Latents(
        torch.tensor(CENTRES, dtype=torch.float64)[component] + SPREAD * noise, component
    )


class _Draws(NamedTuple):
    oracle: synthetic.Oracle
    latents: Latents  # of all splits, one after the other
    uniforms: Tensor  # (N, 10)


@lru_cache(maxsize=1)
def _draws() -> _Draws:
    """All random numbers of the data set; drawing them takes milliseconds."""
    generator = torch.Generator().manual_seed(SEED)
    oracle = synthetic.draw_oracle(generator)
    num = sum(find(NAME).splits)
    drawn = draw_latents(num, generator)
    shape = num, synthetic.LENGTH
    return _Draws(oracle, drawn, torch.rand(shape, generator=generator, dtype=torch.float64))


def _rows(sizes: Sizes) -> list[Tensor]:
    """Rows of the whole draw that the first sequences of each split occupy."""
    whole = find(NAME).splits
    starts = (0, whole.train, whole.train + whole.valid)
    return [torch.arange(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def latents(sizes: Sizes | None = None) -> tuple[Latents, Latents, Latents]:
    """The z and the component behind each sequence of train, valid and test.

    Args:
        sizes: as given to ``load``; all sequences if None.
    """
    whole = find(NAME).splits
    train, valid, test = _rows(whole if sizes is None else check_sizes(sizes, whole, NAME))
    drawn = _draws().latents
    return (
        Latents(drawn.z[train], drawn.component[train]),
        Latents(drawn.z[valid], drawn.component[valid]),
        Latents(drawn.z[test], drawn.component[test]),
    )


@lru_cache(maxsize=4)
def build(sizes: Sizes) -> TextDataset:
    """Generate the first sequences of each split; about two seconds for all on one core."""
    draws = _draws()
    splits = []
    for rows in _rows(sizes):
        words = synthetic.sample(draws.oracle, draws.latents.z[rows], draws.uniforms[rows])
        splits.append(synthetic.as_split(words, draws.latents.component[rows]))
    vocabulary = Vocabulary(f"w{index:03d}" for index in range(synthetic.VOCABULARY))
    names = ["centre", *(f"corner {centre}" for centre in CENTRES[1:])]
    return TextDataset.build(find(NAME), splits, vocabulary, names)
