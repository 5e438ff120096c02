"""Posteriors whose means pass a batch norm: BN-VAE and DU-VAE."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posterior_collapse.errors import BadInput
from posterior_collapse.layers import Progress, Stochastic, keeps_initial_values
from posterior_collapse.posteriors.distributions import DiagonalNormal

__all__ = [
    "ALPHA",
    "BatchNormed",
    "BatchNormedHead",
    "DiversityUncertainty",
    "DiversityUncertaintyHead",
]

ALPHA = 1.0 / (2.0 * math.pi * math.e)  # the variance whose entropy is 0
_EPS = 1e-5
_MOMENTUM = 0.1


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
        shift = torch.full_like(scale, self.fixed_shift) if self.shift is None else self.shift
        return F.batch_norm(
            mean, self.running_mean, self.running_var, scale, shift, own, _MOMENTUM, self.eps
        )


class BatchNormedHead(nn.Module):
    """Linear map, without bias, to mean and log-variance; the mean is normalised."""

    def __init__(self, features: int, latent_dim: int, choice: BatchNormed) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent_dim, bias=False)
        self.norm = _MeanNorm(latent_dim, choice.eps, choice.shift)
        self.gamma = choice.gamma

    def forward(self, features: Tensor) -> DiagonalNormal:
        """Features (B, F) to q(z|x)."""
        mean, logvar = self.linear(features).chunk(2, dim=-1)
        return DiagonalNormal(self.norm(mean, torch.full_like(mean[0], self.gamma)), logvar)


@dataclass(frozen=True)
class BatchNormed:
    """BN-VAE: the means pass a batch norm with a fixed scale (Zhu et al. 2020).

    mean = gamma (mu - mu_B) / sigma_B + beta with beta learned, from 0.
    With eps = 0 this keeps the average KL at no less than D (gamma^2 + beta^2) / 2.
    A batch of one is normalised with the running averages.

    Args:
        gamma: at least 0; 0.5, 0.6 and 0.7 in the papers' tables.
        shift: holds beta at this value instead of learning it; gamma = 0 and shift = 0.7 is the
            row of Scale-VAE's table 1 that has a KL and no information.
        eps: positive; the code of DU-VAE takes 1e-8 before a flow.
    """

    gamma: float = 0.5
    shift: float | None = None
    eps: float = _EPS

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
    """Linear map, without bias, to mean and log-variance; see :class:`DiversityUncertainty`."""

    active: Tensor

    def __init__(self, features: int, latent_dim: int, choice: DiversityUncertainty) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent_dim, bias=False)
        self.norm = _MeanNorm(latent_dim, choice.eps)
        self.scale = _Scale(latent_dim, choice.gamma)
        self.choice = choice
        self.register_buffer("active", torch.tensor(choice.from_epoch == 0.0))

    def begin_update(self, progress: Progress) -> None:
        """Switch floor and dropout on when their time has come."""
        self.active.fill_(progress.epochs >= self.choice.from_epoch)

    def forward(self, features: Tensor) -> DiagonalNormal:
        """Features (B, F) to q(z|x)."""
        mean, logvar = self.linear(features).chunk(2, dim=-1)
        regularised = self._dropped(logvar) if self.training else self._floored(logvar)
        logvar = torch.where(self.active, regularised, logvar)
        return DiagonalNormal(self.norm(mean, self.scale()), logvar)

    def _floored(self, logvar: Tensor) -> Tensor:
        """Log of exp(logvar) + floor, as in evaluation."""
        return _log_sum(logvar, self.choice.floor)

    def _dropped(self, logvar: Tensor) -> Tensor:
        """Log of g exp(logvar) + alpha with g = 1 / keep_prob or 0 (equation 6)."""
        keep, alpha = self.choice.keep_prob, self.choice.alpha
        kept = _log_sum(logvar - math.log(keep), alpha)
        if keep == 1.0:
            return kept
        mask = torch.empty_like(logvar).bernoulli_(keep, generator=self.generator)
        return torch.where(mask > 0.0, kept, math.log(alpha))


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

    The code differs from the text in two ways.
    It starts floor and dropout only when the KL weight has reached 1: ``from_epoch``; the variance
    is exp(.) before that.
    It has no floor in evaluation, which is not what its decoder was trained with:
    ``evaluation_floor=0``.

    Args:
        gamma: positive; 0.5 or 0.6 for text.
        keep_prob: in (0, 1]; the flags of the code give one minus this.
        alpha: the floor, positive, or 0 if nothing is dropped: a dropped variance of 0 has no
            logarithm.
        from_epoch: epochs of training before floor and dropout, at least 0.
        evaluation_floor: added to the variance in evaluation; None is alpha.
        eps: of the batch norm, positive.
    """

    gamma: float = 0.5
    keep_prob: float = 0.8
    alpha: float = ALPHA
    from_epoch: float = 0.0
    evaluation_floor: float | None = None
    eps: float = _EPS

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
        if not 0.0 <= self.from_epoch < math.inf:
            raise BadInput(f"from_epoch is a number of at least 0, given {self.from_epoch}")
        if not 0.0 <= self.floor < math.inf:
            raise BadInput(f"evaluation_floor is at least 0 or None, given {self.evaluation_floor}")
        _require_eps(self.eps)

    @property
    def floor(self) -> float:
        """What is added to the variance in evaluation."""
        return self.alpha if self.evaluation_floor is None else self.evaluation_floor

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """See :class:`Posterior`."""
        return DiversityUncertaintyHead(features, latent_dim, self)
