"""Posteriors whose means pass a batch norm: BN-VAE and DU-VAE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posterior_collapse.errors import BadInput
from posterior_collapse.layers import (
    Progress,
    Stochastic,
    keeps_initial_values,
    starts_as_in_torch,
)
from posterior_collapse.posteriors.distributions import DiagonalNormal
from posterior_collapse.posteriors.heads import Spread, log_variance

ALPHA = 1.0 / (2.0 * math.pi * math.e)  # the variance whose entropy is 0
_EPS = 1e-5
_MOMENTUM = 0.1
_LEAST_BATCH = 16  # smaller batches are passed over in training (Shen et al. 2021, code)


class _MeanNorm(nn.Module):
    """Batch norm of posterior means: scale * (mean - batch mean) / batch std + shift.

    The batch std has ddof 0 and eps under its root, so the scaled variance is
    scale^2 s^2 / (s^2 + eps).
    In evaluation running averages take the place of the batch's.
    They also do for a batch of one in training, which has no std; it leaves them as they are.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, latent_dim: int, eps: float, shift: float | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("running_mean", torch.zeros(latent_dim))
        self.register_buffer("running_var", torch.ones(latent_dim))
        self.fixed_shift = 0.0 if shift is None else shift
        self.shift = nn.Parameter(torch.zeros(latent_dim)) if shift is None else None
        keeps_initial_values(self)

    def forward(self, mean: Tensor, scale: Tensor) -> Tensor:
        """Means (B, D) and scale (D,) to the normalised means."""
        own = self.training and len(mean) > 1
        shift = self._shift(scale)
        return F.batch_norm(
            mean, self.running_mean, self.running_var, scale, shift, own, _MOMENTUM, self.eps
        )

    def _shift(self, scale: Tensor) -> Tensor:
        return torch.full_like(scale, self.fixed_shift) if self.shift is None else self.shift

    def least_kl(self, scale: Tensor) -> float:
        """Half the sum of scale^2 + shift^2, nats.

        A KL to N(0, I) is at least half the squared length of the mean, whose average over a batch
        this is where the batch's variances are far above eps.
        """
        lengths = scale.square() + self._shift(scale).square()
        return 0.5 * float(lengths.detach().sum())


def _map(features: int, latent_dim: int) -> nn.Linear:
    """The map before a norm, which starts as PyTorch starts it.

    With a recipe's narrow first values the variances that are normed may lie below eps, and the
    norm is void.
    """
    linear = nn.Linear(features, 2 * latent_dim, bias=False)
    starts_as_in_torch(linear)
    return linear


class BatchNormedHead(nn.Module):
    """Linear map, without bias, to mean and spread; the mean is normalised."""

    def __init__(self, features: int, latent_dim: int, choice: BatchNormed) -> None:
        super().__init__()
        self.linear = _map(features, latent_dim)
        self.norm = _MeanNorm(latent_dim, choice.eps, choice.shift)
        self.gamma, self.spread = choice.gamma, choice.spread

    @property
    def least_kl(self) -> float:
        """D (gamma^2 + beta^2) / 2 nats, on average over a batch in training."""
        return self.norm.least_kl(torch.full_like(self.norm.running_mean, self.gamma))

    def forward(self, features: Tensor) -> DiagonalNormal:
        """Features (B, F) to q(z|x)."""
        mean, outputs = self.linear(features).chunk(2, dim=-1)
        normed = self.norm(mean, torch.full_like(mean[0], self.gamma))
        return DiagonalNormal(normed, log_variance(outputs, self.spread))


@dataclass(frozen=True)
class BatchNormed:
    """BN-VAE: the means pass a batch norm with a fixed scale (Zhu et al. 2020).

    mean = gamma (mu - mu_B) / sigma_B + beta with beta learned, from 0.
    With eps = 0 this keeps the average KL at no less than D (gamma^2 + beta^2) / 2.
    A batch of one is normalised with the running averages.

    As in the public code, encoder and head start with PyTorch's own first values, whatever the
    recipe's are, and training passes over batches of fewer than 16 sentences: their averages
    say little about the rest.

    Args:
        gamma: at least 0; 0.5, 0.6 and 0.7 in the papers' tables.
        shift: holds beta at this value instead of learning it; gamma = 0 and shift = 0.7 is the
            row of Scale-VAE's table 1 that has a KL and no information.
        eps: positive; the code of DU-VAE takes 1e-8 before a flow.
        spread: see :class:`Spread`.
    """

    gamma: float = 0.5
    shift: float | None = None
    eps: float = _EPS
    spread: Spread = Spread.EXP

    least_batch: ClassVar[int] = _LEAST_BATCH
    encoder_as_in_torch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.gamma < math.inf:
            raise BadInput(f"gamma is a number of at least 0, given {self.gamma}")
        if self.shift is not None and not math.isfinite(self.shift):
            raise BadInput(f"shift is a finite number or None, given {self.shift}")
        _require_eps(self.eps)

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """See :class:`Posterior`."""
        return BatchNormedHead(features, latent_dim, self)


def _require_eps(eps: float) -> None:
    if not 0.0 < eps < math.inf:
        raise BadInput(f"eps is a positive number, given {eps}")


class DiversityUncertaintyHead(Stochastic):
    """Linear map, without bias, to mean and spread; see :class:`DiversityUncertainty`."""

    def __init__(self, features: int, latent_dim: int, choice: DiversityUncertainty) -> None:
        super().__init__()
        self.linear = _map(features, latent_dim)
        self.norm = _MeanNorm(latent_dim, choice.eps)
        self.scale = _Scale(latent_dim, choice.gamma)
        self.choice = choice

    @property
    def least_kl(self) -> float:
        """D (gamma^2 + beta^2) / 2 nats, on average over a batch in training."""
        return self.norm.least_kl(self.scale())

    def forward(self, features: Tensor) -> DiagonalNormal:
        """Features (B, F) to q(z|x)."""
        mean, outputs = self.linear(features).chunk(2, dim=-1)
        logvar = log_variance(outputs, self.choice.spread)
        logvar = self._dropped(logvar) if self.training else self._floored(logvar)
        return DiagonalNormal(self.norm(mean, self.scale()), logvar)

    def _floored(self, logvar: Tensor) -> Tensor:
        """Log of exp(logvar) + floor, as in evaluation."""
        return _log_sum(logvar, self.choice.alpha)

    def _dropped(self, logvar: Tensor) -> Tensor:
        """Log of g exp(logvar) + alpha with g = 1 / keep_prob or 0 (equation 6)."""
        keep, alpha = self.choice.keep_prob, self.choice.alpha
        whole = _log_sum(logvar - math.log(keep), alpha)
        if keep == 1.0:
            return whole
        mask = torch.empty_like(logvar).bernoulli_(keep, generator=self.generator)
        return torch.where(mask > 0.0, whole, math.log(alpha))


def _log_sum(logvar: Tensor, floor: float) -> Tensor:
    """log(exp(logvar) + floor), elementwise."""
    if floor == 0.0:
        return logvar
    return torch.logaddexp(logvar, torch.full_like(logvar, math.log(floor)))


class _Scale(nn.Module):
    """A learned vector that is used with its root mean square brought to gamma.

    The vector itself is brought there before each update, so that its gradient is that of the
    scale and a step is taken on the scale (Shen et al. 2021, algorithm 1).
    """

    def __init__(self, latent_dim: int, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.weight = nn.Parameter(torch.full((latent_dim,), float(gamma)))
        keeps_initial_values(self)

    @torch.no_grad()
    def begin_update(self, progress: Progress) -> None:
        """Rescale the vector in place."""
        self.weight.copy_(self())

    def forward(self) -> Tensor:
        """The scale, (D,)."""
        size = self.weight.detach().square().mean().sqrt()
        return self.weight * (self.gamma / size.clamp_min(torch.finfo(size.dtype).tiny))


@dataclass(frozen=True)
class DiversityUncertainty:
    """DU-VAE: batch norm on the means, dropout on the variances (Shen et al. 2021).

    mean = gamma_d (mu - mu_B) / sigma_B + beta (equation 9), where beta and the vector of scales
    are learned and the root mean square of the scales stays ``gamma``.

    The network's variance exp(.) is raised by alpha, so that no posterior has an entropy below 0
    (section 3.1).
    In training what lies above alpha is dropped with probability 1 - keep_prob and else divided by
    keep_prob, each dimension of each example by itself (equation 6).
    The variance then is g exp(.) + alpha, and on average exp(.) + alpha.
    In evaluation nothing is dropped and the variance is exp(.) + alpha.

    The public code has the floor in evaluation too, and starts floor and dropout only when the KL
    weight has reached 1; here they are there from the beginning, as in the text.
    First values and small batches are those of :class:`BatchNormed`.

    Args:
        gamma: positive; 0.5 or 0.6 for text.
        keep_prob: in (0, 1]; the flags of the code give one minus this.
        alpha: the floor, positive, or 0 if nothing is dropped: a dropped variance of 0 has no
            logarithm.
        eps: of the batch norm, positive.
        spread: see :class:`Spread`.
    """

    gamma: float = 0.5
    keep_prob: float = 0.8
    alpha: float = ALPHA
    eps: float = _EPS
    spread: Spread = Spread.EXP

    least_batch: ClassVar[int] = _LEAST_BATCH
    encoder_as_in_torch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 < self.gamma < math.inf:
            raise BadInput(f"gamma is a positive number, given {self.gamma}")
        if not 0.0 < self.keep_prob <= 1.0:
            raise BadInput(f"keep_prob lies in (0, 1], given {self.keep_prob}")
        if not (0.0 <= self.alpha < math.inf and (self.alpha > 0.0 or self.keep_prob == 1.0)):
            raise BadInput(
                "alpha is a positive number, or 0 together with keep_prob 1, given "
                f"{self.alpha} with keep_prob {self.keep_prob}"
            )
        _require_eps(self.eps)

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """See :class:`Posterior`."""
        return DiversityUncertaintyHead(features, latent_dim, self)
