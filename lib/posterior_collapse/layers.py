"""What training tells the modules of a model: a source of noise, and how far it has come.

A module that draws noise is :class:`Stochastic`; one whose work changes while training goes on
has a method ``begin_update``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from posterior_collapse.errors import BadInput

__all__ = [
    "Dropout",
    "Progress",
    "Stochastic",
    "WordDropout",
    "begin_update",
    "dropout_mask",
    "initialised_by_recipe",
    "keeps_initial_values",
    "use_generator",
]


class Progress(NamedTuple):
    """Where training stands: what a schedule may depend on."""

    iteration: int  # updates of the generator so far
    batches_per_epoch: int

    @property
    def epochs(self) -> float:
        """Epochs done so far, as a fraction."""
        return self.iteration / self.batches_per_epoch


class Stochastic(nn.Module):
    """A module that draws noise, from a generator that training gives it.

    torch's own layers draw from the global random state, which a library must not seed.
    """

    generator: torch.Generator | None

    def __init__(self) -> None:
        super().__init__()
        self.generator = None


class Dropout(Stochastic):
    """Inverted dropout whose masks come from a generator of its own."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0.0 <= probability < 1.0:
            raise BadInput(f"a dropout probability lies in [0, 1), given {probability}")
        self.probability = probability

    def forward(self, values: Tensor) -> Tensor:
        """Zero each entry with the probability and rescale the rest; identity in eval mode."""
        if not self.training or self.probability == 0.0:
            return values
        return values * dropout_mask(values, self.probability, self.generator)


# Chances a mask can have on the CPU: multiples of 2^-16.
_CHANCES = 2**16


def dropout_mask(
    like: Tensor, probability: float, generator: torch.Generator | None = None
) -> Tensor:
    """Zeros with a probability, and elsewhere the number that keeps the mean at 1.

    On the CPU an entry costs 16 random bits, where torch draws 53 for it: five times as fast.
    The probability is rounded to a multiple of 2^-16, and the mean is exact for the rounded one.

    Args:
        like: gives shape, type and device.
        probability: of a zero, in [0, 1).
        generator: source of randomness.
    """
    keep = 1.0 - probability
    if not like.is_cpu:
        return torch.empty_like(like).bernoulli_(keep, generator=generator).div_(keep)
    chances = min(max(round(keep * _CHANCES), 1), _CHANCES - 1)
    draws = torch.empty(-(-like.numel() // 4), dtype=torch.int64)
    draws.random_(-(2**63), None, generator=generator)
    bits = draws.view(torch.int16)[: like.numel()].view(like.shape)
    return (bits < chances - _CHANCES // 2).to(like.dtype).mul_(_CHANCES / chances)


class WordDropout(Stochastic):
    """Hides words that a decoder reads, so that it has to ask z (Bowman et al. 2016, section 3.2).

    Args:
        probability: of a word to become ``unknown``, in [0, 1]; 1 leaves the decoder z alone.
        unknown: the id that stands for a hidden word.
        spared: ids that are never hidden.
    """

    def __init__(self, probability: float, unknown: int, spared: tuple[int, ...]) -> None:
        super().__init__()
        if not 0.0 <= probability <= 1.0:
            raise BadInput(f"a word dropout probability lies in [0, 1], given {probability}")
        self.probability, self.unknown, self.spared = probability, unknown, spared

    def forward(self, words: Tensor) -> Tensor:
        """Ids (any shape), some of them hidden; identity in eval mode."""
        if not self.training or self.probability == 0.0:
            return words
        draws = torch.rand(words.shape, generator=self.generator, device=words.device)
        hidden = draws < self.probability
        for spared in self.spared:
            hidden &= words != spared
        return words.masked_fill(hidden, self.unknown)


def use_generator(model: nn.Module, generator: torch.Generator | None) -> None:
    """Let every :class:`Stochastic` module of a model draw from ``generator``."""
    for module in model.modules():
        if isinstance(module, Stochastic):
            module.generator = generator


def begin_update(model: nn.Module, progress: Progress) -> None:
    """Tell every module that wants to know how far training has come.

    Called before each update of the generator; what a module makes of it must live in its
    buffers, so that a resumed run goes on alike.
    """
    for module in model.modules():
        begin = getattr(module, "begin_update", None)
        if begin is not None:
            begin(progress)


def keeps_initial_values(module: nn.Module) -> nn.Module:
    """Mark a module whose parameters start where it puts them, whatever the recipe says.

    The scale of a batch norm or the means of a mixture would be lost in a uniform
    initialisation near 0.
    """
    module.pc_keeps_initial_values = True  # type: ignore[assignment]
    return module


def initialised_by_recipe(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that a recipe's initialisation sets: all but the marked ones."""
    kept = {
        id(parameter)
        for module in model.modules()
        if getattr(module, "pc_keeps_initial_values", False)
        for parameter in module.parameters()
    }
    return [parameter for parameter in model.parameters() if id(parameter) not in kept]
