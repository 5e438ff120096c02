"""What training tells the modules of a model: a source of noise, and how far it has come.

A module that draws noise is :class:`Stochastic`; one whose work changes while training goes on
has a method ``begin_update``, and one that has something to tell of an epoch a method ``report``.
"""

from __future__ import annotations

import enum
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from posterior_collapse.errors import BadInput


class Progress(NamedTuple):
    """Where training stands: what a schedule may depend on."""

    iteration: int  # updates of the generator so far
    batches_per_epoch: int
    # Lengths that a recipe sets, in updates; None is what the papers have.
    annealing: int | None = None  # of a rise of the KL weight; ten epochs
    own_factors: int | None = None  # of Scale-VAE's first phase; see posteriors.scaled

    @property
    def epochs(self) -> float:
        """Epochs done so far, as a fraction."""
        return self.iteration / self.batches_per_epoch

    @property
    def annealed(self) -> float:
        """Share of the recipe's annealing that is over; above 1 after it.

        Without a length of its own a recipe anneals for ten epochs (He et al. 2019, appendix B).
        """
        length = 10 * self.batches_per_epoch if self.annealing is None else self.annealing
        return self.iteration / length


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

    On the CPU an entry costs 16 random bits, where torch draws many more: four times as fast.
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
    # In place the comparison keeps the bits' type, and processors do many of it at once.
    return bits.lt_(chances - _CHANCES // 2).to(like.dtype).mul_(_CHANCES / chances)


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


def prepares(model: nn.Module) -> bool:
    """Whether a module is in a phase whose epochs can't be compared with later ones.

    Such a module has a method ``prepares``.
    """
    methods = (getattr(module, "prepares", None) for module in model.modules())
    return any(method() for method in methods if method is not None)


def reports(model: nn.Module) -> dict[str, float]:
    """What modules of a model tell of the epoch so far: those with a method ``report``."""
    results: dict[str, float] = {}
    for module in model.modules():
        report = getattr(module, "report", None)
        if report is not None:
            results |= report()
    return results


def keeps_initial_values(module: nn.Module) -> nn.Module:
    """Mark a module whose parameters start where it puts them, whatever the recipe says.

    The scale of a batch norm or the means of a mixture would be lost in a uniform
    initialisation near 0.
    """
    module.pc_keeps_initial_values = True  # type: ignore[assignment]
    return module


def initialised_by_recipe(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that a recipe's initialisation sets: all but the marked ones."""
    marked = {
        id(parameter)
        for module in model.modules()
        if getattr(module, "pc_keeps_initial_values", False)
        for parameter in module.parameters()
    }
    return [parameter for parameter in model.parameters() if id(parameter) not in marked]


class FirstValues(enum.StrEnum):
    """Where parameters start that the public code of a method leaves to PyTorch."""

    PUBLISHED = "published"  # as there: PyTorch's own first values
    RECIPE = "recipe"  # like all others, in the recipe's ranges


def starts_as_in_torch(module: nn.Module) -> nn.Module:
    """Mark a module that starts with PyTorch's own first values in the public code of its method.

    See :func:`start_as_in_torch`; a recipe may overrule it with ``FirstValues.RECIPE``.
    """
    module.pc_starts_as_in_torch = True  # type: ignore[assignment]
    return module


@torch.no_grad()
def start_as_in_torch(model: nn.Module, generator: torch.Generator) -> None:
    """Give the marked modules of a model PyTorch's own first values, drawn from a generator.

    Linear maps are uniform in +-1 / sqrt(inputs), recurrent layers in +-1 / sqrt(hidden units),
    and embeddings are standard normal.
    PyTorch's layers draw them from the global random state, which is not ours to move on.
    Parameters that keep their initial values stay.

    Args:
        model: its parameters are on the CPU.
        generator: on the CPU.
    """
    free = {id(parameter) for parameter in initialised_by_recipe(model)}
    layers = {
        layer: None
        for module in model.modules()
        if getattr(module, "pc_starts_as_in_torch", False)
        for layer in module.modules()
    }
    for layer in layers:
        for parameter in layer.parameters(recurse=False):
            if id(parameter) in free:
                _draw_as_torch(layer, parameter, generator)


def _draw_as_torch(layer: nn.Module, parameter: Tensor, generator: torch.Generator) -> None:
    """First values of one parameter of a layer, in place.

    Raises:
        BadInput: the layer is of a kind whose first values are not known here.
    """
    if isinstance(layer, nn.Embedding):
        parameter.normal_(generator=generator)
    elif isinstance(layer, nn.Linear | nn.RNNBase):
        inputs = layer.in_features if isinstance(layer, nn.Linear) else layer.hidden_size
        bound = 1.0 / math.sqrt(max(1, inputs))
        parameter.uniform_(-bound, bound, generator=generator)
    else:
        raise BadInput(
            "PyTorch's first values are known here for Linear, Embedding and recurrent layers, "
            f"given {type(layer).__name__}"
        )
