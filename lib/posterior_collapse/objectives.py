"""Slot 3 of a method: the objective and the schedule of its KL weight.

An objective maps a model and a batch to :class:`Terms`.
Its loss is a mean over the batch, in nats per example, and is what gets differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from posterior_collapse.errors import BadInput
from posterior_collapse.networks.base import VAE
from posterior_collapse.posteriors import draw

__all__ = ["ELBO", "Constant", "Cyclical", "Linear", "Objective", "Progress", "Schedule", "Terms"]


class Progress(NamedTuple):
    """Where training stands: what a schedule may depend on."""

    iteration: int  # updates of the generator so far
    batches_per_epoch: int


class Terms(NamedTuple):
    """What one evaluation of an objective gives."""

    loss: Tensor  # (), nats per example, with a gradient
    reconstruction: Tensor  # (B,), -log p(x|z), nats
    kl: Tensor  # (B,), KL(q(z|x) || p(z)), nats
    weight: float  # weight of the KL in the loss


class Schedule(Protocol):
    """KL weight as a function of progress."""

    def __call__(self, progress: Progress) -> float:
        """The weight for the next update."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same weight throughout; 1 gives the evidence lower bound, beta gives a beta-VAE."""

    value: float = 1.0

    def __post_init__(self) -> None:
        if not self.value >= 0.0:
            raise BadInput(f"a KL weight must be at least 0, given {self.value}")

    def __call__(self, progress: Progress) -> float:
        """See :class:`Schedule`."""
        return self.value


@dataclass(frozen=True)
class Linear:
    """Weight that rises linearly from ``start`` to 1 over the first ``epochs`` epochs.

    He et al. 2019, appendix B: from 0.1 over 10 epochs, after Bowman et al. 2016.
    """

    start: float = 0.1
    epochs: float = 10.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.start <= 1.0 and self.epochs > 0.0):
            raise BadInput(
                f"linear annealing takes 0 <= start <= 1 and epochs > 0, given {self.start} "
                f"and {self.epochs}"
            )

    def __call__(self, progress: Progress) -> float:
        """See :class:`Schedule`."""
        share = progress.iteration / (self.epochs * progress.batches_per_epoch)
        return min(1.0, self.start + (1.0 - self.start) * share)


@dataclass(frozen=True)
class Cyclical:
    """Cycles of ``epochs`` epochs; in each the weight rises from 0 to 1 in the first ``rise`` part.

    After the last of ``cycles`` cycles the weight stays 1 (Fu et al. 2019).
    """

    cycles: int = 4
    epochs: float = 10.0
    rise: float = 0.5

    def __post_init__(self) -> None:
        if not (self.cycles >= 1 and self.epochs > 0.0 and 0.0 < self.rise <= 1.0):
            raise BadInput(
                "cyclical annealing takes cycles >= 1, epochs > 0 and 0 < rise <= 1, given "
                f"{self.cycles}, {self.epochs} and {self.rise}"
            )

    def __call__(self, progress: Progress) -> float:
        """See :class:`Schedule`."""
        cycle, share = divmod(progress.iteration / (self.epochs * progress.batches_per_epoch), 1.0)
        return 1.0 if cycle >= self.cycles else min(1.0, share / self.rise)


class Objective(Protocol):
    """What a method names in its objective slot."""

    def __call__(
        self, model: VAE, x: Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Terms:
        """Loss and its terms on a batch x."""
        ...


@dataclass(frozen=True)
class ELBO:
    """Negative evidence lower bound with a weight on the KL, one sample of z per example.

    loss = mean over the batch of -log p(x|z) + weight * KL(q(z|x) || p(z)), z ~ q(z|x)
    (He et al. 2019, equation 2).
    """

    weight: Schedule = Constant(1.0)

    def __call__(
        self, model: VAE, x: Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Terms:
        """See :class:`Objective`."""
        q = model.posterior(x)
        z = draw(q, (1,), generator)
        reconstruction = -model.log_likelihood(x, z)[0]
        kl = kl_divergence(q, model.prior)
        weight = self.weight(progress)
        return Terms((reconstruction + weight * kl).mean(), reconstruction, kl, weight)
