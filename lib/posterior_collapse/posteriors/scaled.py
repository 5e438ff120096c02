"""The posterior of Scale-VAE: means that are scaled up for the decoder only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from posterior_collapse.errors import BadInput
from posterior_collapse.layers import Progress
from posterior_collapse.posteriors.distributions import ScaledNormal

__all__ = ["LARGEST_FACTOR", "Scaled", "ScaledHead"]

LARGEST_FACTOR = 1e7  # means start with spreads of 1e-5 in small networks; f^2 must not overflow


class ScaledHead(nn.Module):
    """Linear map, without bias, to mean and log-variance; see :class:`Scaled`.

    ``factor`` (D,) is what evaluation uses; it starts at 1.
    All that it comes from is in buffers, so that a resumed run goes on alike.
    """

    factor: Tensor
    total: Tensor
    batches: Tensor
    epoch: Tensor

    def __init__(self, features: int, latent_dim: int, choice: Scaled) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent_dim, bias=False)
        self.choice = choice
        self.register_buffer("factor", torch.ones(latent_dim))
        # Of the current epoch, per dimension: sum of the batches' factors, and how many there are.
        self.register_buffer("total", torch.zeros(latent_dim))
        self.register_buffer("batches", torch.zeros(latent_dim, dtype=torch.int64))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def begin_update(self, progress: Progress) -> None:
        """At the start of an epoch, turn to the average factor of the one before."""
        epoch = progress.iteration // progress.batches_per_epoch
        if epoch == int(self.epoch):
            return
        if epoch >= self.choice.epochs:
            self.factor.copy_(self._average())
        self.total.zero_()
        self.batches.zero_()
        self.epoch.fill_(epoch)

    def forward(self, features: Tensor) -> ScaledNormal:
        """Features (B, F) to the distribution that the decoder sees."""
        mean, logvar = self.linear(features).chunk(2, dim=-1)
        factor = self._training_factor(mean) if self.training else self.factor.clone()
        return ScaledNormal(mean, logvar, factor)

    def _average(self) -> Tensor:
        """Mean factor of the epoch so far; the one in use where no batch had any spread."""
        return torch.where(self.batches > 0, self.total / self.batches.clamp_min(1), self.factor)

    def _training_factor(self, mean: Tensor) -> Tensor:
        """The factor for a batch, which is recorded; with a gradient where it is the batch's."""
        least = self.choice.des_std / LARGEST_FACTOR
        spread, varies = _spread(mean, self.choice.ddof, least)
        own = self.choice.des_std / spread
        own_turn = self.epoch < self.choice.epochs
        factor = torch.where(own_turn & varies, own, self.factor)
        self.total += torch.where(varies, own.detach(), 0.0)
        self.batches += varies
        self.factor.copy_(torch.where(own_turn, self._average(), self.factor))
        return factor


def _spread(mean: Tensor, ddof: int, least: float) -> tuple[Tensor, Tensor]:
    """Standard deviation over a batch (B, D), and where it is enough to be scaled; both (D,).

    Enough is more than rounding and more than ``least``.
    Where it is not, and for a batch of one, the standard deviation given is 1.
    """
    centred = mean - mean.mean(0)
    variance = centred.square().sum(0) / max(1, len(mean) - ddof)
    rounding = 16.0 * torch.finfo(mean.dtype).eps * mean.detach().square().mean(0).sqrt()
    varies = variance.detach().sqrt() > rounding.clamp_min(least)
    # Replaced before the root, whose gradient at 0 is infinite.
    return torch.where(varies, variance, 1.0).sqrt(), varies


@dataclass(frozen=True)
class Scaled:
    """Scale-VAE: the decoder sees N(f mu, sigma^2), the KL is that of N(mu, sigma^2).

    (Song et al. 2024, algorithm 1.)
    In the first ``epochs`` epochs every batch has its own factor,
    f_d = des_std / Std(mu_d over the batch).
    In each later epoch all batches share one, the average of the batches' factors in the epoch
    before: the algorithm averages at the end of every epoch.

    The paper does not say three things, which are decided so:
    the gradient goes through a batch's own f, as algorithm 1 differentiates the objective that f
    is part of, and not through an average, which is a number by then;
    the standard deviation has ddof 1, as torch's default has;
    evaluation uses the factor that the decoder is being trained with, which is the average so far
    in an epoch whose batches have their own, and 1 before the first batch.

    Where a batch has no spread beyond rounding, or so little that its factor would be above
    ``LARGEST_FACTOR``, and for a batch of one, the factor is the one that evaluation would use,
    and nothing is recorded. Without that bound a dimension that the KL has switched off is scaled
    up further in each epoch, until the numbers overflow.

    Args:
        des_std: standard deviation of the scaled means, positive; 0.7 to 1.1 in the tables.
        epochs: with a factor of its own for each batch, at least 1; 1 for Yahoo, 7 for Yelp.
        ddof: 0 or 1.
    """

    des_std: float = 1.0
    epochs: int = 1
    ddof: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.des_std < math.inf:
            raise BadInput(f"des_std is a positive number, given {self.des_std}")
        if not self.epochs >= 1 or self.epochs != int(self.epochs):
            raise BadInput(f"epochs is a whole number of at least 1, given {self.epochs}")
        if self.ddof not in (0, 1):
            raise BadInput(f"ddof is 0 or 1, given {self.ddof}")

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """See :class:`Posterior`."""
        return ScaledHead(features, latent_dim, self)
