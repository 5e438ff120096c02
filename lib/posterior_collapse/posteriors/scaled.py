"""The posterior of Scale-VAE: means that are scaled up for the decoder only."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from posterior_collapse.errors import BadInput, whole
from posterior_collapse.layers import Progress
from posterior_collapse.posteriors.distributions import ScaledNormal

_PAPERS_UPDATES = 3100  # about an epoch of its Yahoo, for which f_epo is 1

LARGEST_FACTOR = 1e7  # means start with spreads of 1e-5 in small networks; f^2 must not overflow


# --- how long every batch has a factor of its own -------------------------------------------------


class OwnPhase(Protocol):
    """How long every batch has a factor of its own; asked at the start of each epoch."""

    ends: ClassVar[bool]  # whether a factor that is shared is to follow

    def lasts(self, progress: Progress) -> bool:
        """Whether the epoch that ``progress`` lies in belongs to the phase."""
        ...


@dataclass(frozen=True)
class OwnEpochs:
    """For so many epochs: f_epo of algorithm 1; 1 for Yahoo, 7 for Yelp."""

    epochs: int = 1
    ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("epochs", self.epochs)

    def lasts(self, progress: Progress) -> bool:
        """See :class:`OwnPhase`."""
        return progress.iteration // progress.batches_per_epoch < self.epochs


@dataclass(frozen=True)
class OwnUpdates:
    """For as many whole epochs as it takes to make so many updates; None is the recipe's number.

    An epoch of the paper has 3,125 updates.  One of a smaller data set is over before the code has
    more than one direction that the decoder has learnt to read, so that the average which follows
    is that of a model at its start.
    The phase ends with an epoch, because that is when algorithm 1 averages.
    A recipe without a number takes that of the paper's epoch.
    """

    updates: int | None = None
    ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.updates is not None:
            whole("updates", self.updates)

    def lasts(self, progress: Progress) -> bool:
        """See :class:`OwnPhase`."""
        wanted = self.updates or progress.own_factors or _PAPERS_UPDATES
        done = progress.iteration - progress.iteration % progress.batches_per_epoch
        return done < wanted


@dataclass(frozen=True)
class OwnThroughout:
    """Until the end: only evaluation uses an average."""

    ends: ClassVar[bool] = False

    def lasts(self, progress: Progress) -> bool:
        """See :class:`OwnPhase`."""
        return True


# --- the average of an epoch ----------------------------------------------------------------------


class Average(Protocol):
    """What an epoch's batches give for the factor that is shared.

    Each batch contributes a value with a weight; the factor is made of the weighted mean.
    """

    def value(self, spread: Tensor, des_std: float) -> Tensor:
        """Of a batch, from its standard deviations (D,)."""
        ...

    def weight(self, examples: int) -> float:
        """Of a batch of so many examples."""
        ...

    def factor(self, mean: Tensor, des_std: float) -> Tensor:
        """From the mean of the values (D,)."""
        ...


@dataclass(frozen=True)
class MeanOfFactors:
    """The mean of des_std / Std over batches: algorithm 1 to the letter.

    A batch whose means hardly vary decides it: the first ones of training, and remainders of a
    few sentences.
    """

    def value(self, spread: Tensor, des_std: float) -> Tensor:
        """The batch's factor."""
        return des_std / spread

    def weight(self, examples: int) -> float:
        """Every batch counts the same."""
        return 1.0

    def factor(self, mean: Tensor, des_std: float) -> Tensor:
        """The mean itself."""
        return mean


@dataclass(frozen=True)
class FactorOfMeanSpread:
    """des_std over the mean of Std.

    This is the one number with which the mean standard deviation of an epoch's scaled means is
    des_std, which the algorithm wants; the mean of factors is larger (theory, S7).
    A batch counts by its examples, so that a remainder of a few sentences counts little.
    """

    def value(self, spread: Tensor, des_std: float) -> Tensor:
        """The batch's standard deviation."""
        return spread

    def weight(self, examples: int) -> float:
        """The number of examples."""
        return float(examples)

    def factor(self, mean: Tensor, des_std: float) -> Tensor:
        """The factor that gives the mean spread des_std."""
        return des_std / mean


class OwnGradient(enum.Enum):
    """What becomes of the gradient of a batch's own factor."""

    KEPT = "kept"
    STOPPED = "stopped"

    def of(self, factor: Tensor) -> Tensor:
        """The factor as the decoder's input has it."""
        return factor if self is OwnGradient.KEPT else factor.detach()


# --- the head -------------------------------------------------------------------------------------


class ScaledHead(nn.Module):
    """Linear map, without bias, to mean and log-variance; see :class:`Scaled`.

    ``factor`` (D,) is what evaluation uses; it starts at 1.
    All that it comes from is in buffers, so that a resumed run goes on alike.
    """

    factor: Tensor
    total: Tensor
    weight: Tensor
    reached: Tensor
    examples: Tensor
    epoch: Tensor
    own: Tensor

    def __init__(self, features: int, latent_dim: int, choice: Scaled) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent_dim, bias=False)
        self.choice = choice
        self.register_buffer("factor", torch.ones(latent_dim))
        # Of the current epoch, per dimension: what the average is made of.
        self.register_buffer("total", torch.zeros(latent_dim))
        self.register_buffer("weight", torch.zeros(latent_dim))
        # Of the current epoch: spread that the scaled means of a batch had, and its examples.
        self.register_buffer("reached", torch.zeros(latent_dim))
        self.register_buffer("examples", torch.zeros(latent_dim))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.register_buffer("own", torch.ones((), dtype=torch.bool))

    def begin_update(self, progress: Progress) -> None:
        """At the start of an epoch, turn to the average factor of the one before."""
        epoch, done = divmod(progress.iteration, progress.batches_per_epoch)
        if done or epoch == 0:
            return
        own = self.choice.own.lasts(progress)
        if not own:
            self.factor.copy_(self._average())
        for sums in (self.total, self.weight, self.reached, self.examples):
            sums.zero_()
        self.epoch.fill_(epoch)
        self.own.fill_(own)

    def forward(self, features: Tensor) -> ScaledNormal:
        """Features (B, F) to the distribution that the decoder sees."""
        mean, logvar = self.linear(features).chunk(2, dim=-1)
        factor = self._training_factor(mean) if self.training else self.factor.clone()
        return ScaledNormal(mean, logvar, factor)

    def prepares(self) -> bool:
        """Whether the factor that is to be shared is not there yet.

        Evaluation then uses a factor that the decoder is not trained with, and the factor grows
        because the means shrink: the loss of such an epoch says nothing of the later model.
        """
        return bool(self.own) and self.choice.own.ends

    def report(self) -> dict[str, float]:
        """Of the epoch so far, for a run's history.

        ``factor_mean`` and ``factor_largest`` over dimensions are of the factor that evaluation
        uses; ``batch_std`` is the spread of the scaled means in training's batches, averaged over
        examples and dimensions; ``own_factors`` is 1 while every batch has its own, else 0.
        """
        reached = self.reached.sum() / self.examples.sum().clamp_min(1.0)
        return {
            "factor_mean": self.factor.mean().item(),
            "factor_largest": self.factor.max().item(),
            "batch_std": reached.item(),
            "own_factors": float(self.own),
        }

    def _average(self) -> Tensor:
        """Factor of the epoch so far; the one in use where no batch had any spread."""
        known = self.weight > 0
        mean = torch.where(known, self.total, 1.0) / torch.where(known, self.weight, 1.0)
        return torch.where(
            known, self.choice.average.factor(mean, self.choice.des_std), self.factor
        )

    def _training_factor(self, mean: Tensor) -> Tensor:
        """The factor for a batch, which is recorded; with a gradient where it is the batch's."""
        spread, varies = batch_spread(mean, self.choice.ddof, self.choice.des_std / LARGEST_FACTOR)
        own = self.choice.gradient.of(self.choice.des_std / spread)
        factor = torch.where(self.own & varies, own, self.factor)
        self._record(spread.detach(), varies, factor.detach(), len(mean))
        self.factor.copy_(torch.where(self.own, self._average(), self.factor))
        return factor

    def _record(self, spread: Tensor, varies: Tensor, factor: Tensor, examples: int) -> None:
        """Add a batch to the sums of the epoch; spread, varies and factor are (D,)."""
        average = self.choice.average
        self.total += torch.where(varies, average.value(spread, self.choice.des_std), 0.0) * (
            average.weight(examples)
        )
        self.weight += average.weight(examples) * varies
        self.reached += examples * torch.where(varies, factor * spread, 0.0)
        self.examples += examples * (examples > 1)


def batch_spread(mean: Tensor, ddof: int, least: float) -> tuple[Tensor, Tensor]:
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
    At first every batch has its own factor, f_d = des_std / Std(mu_d over the batch).
    In each later epoch all batches share one, the average of the epoch before: the algorithm
    averages at the end of every epoch.

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
        own: how long every batch has a factor of its own.
        average: what the batches of an epoch give for the factor that is shared.
        gradient: of a batch's own factor.
        ddof: 0 or 1.
    """

    des_std: float = 1.0
    own: OwnPhase = OwnEpochs(1)
    average: Average = FactorOfMeanSpread()
    gradient: OwnGradient = OwnGradient.KEPT
    ddof: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.des_std < math.inf:
            raise BadInput(f"des_std is a positive number, given {self.des_std}")
        if self.ddof not in (0, 1):
            raise BadInput(f"ddof is 0 or 1, given {self.ddof}")

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """See :class:`Posterior`."""
        return ScaledHead(features, latent_dim, self)
