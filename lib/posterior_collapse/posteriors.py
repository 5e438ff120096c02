"""Slot 1 of a method: the approximate posterior q(z|x).

A posterior is a frozen dataclass of choices with ``build(features, latent_dim)``.
That gives a module which turns encoder features (B, F) into a torch distribution
with batch shape (B,) and event shape (D,).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

__all__ = ["Diagonal", "DiagonalHead", "DiagonalNormal", "Posterior", "draw"]

_LOG_2PI = math.log(2.0 * math.pi)


class DiagonalNormal(Independent):
    """N(mean, diag exp(logvar)) that keeps its log-variance.

    The log-variance is what a network predicts.
    Closed forms that start from it stay finite where the standard deviation underflows.

    Args:
        mean: (..., D).
        logvar: (..., D), natural logarithm of the variance.
    """

    def __init__(self, mean: Tensor, logvar: Tensor) -> None:
        normal = Normal(mean, torch.exp(0.5 * logvar), validate_args=False)
        super().__init__(normal, 1, validate_args=False)
        self.logvar = logvar

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats; ``value`` is (..., D), the result drops D."""
        # Scaled before it is squared: exp(-logvar) overflows where its root does not.
        scaled = (value - self.mean) * torch.exp(-0.5 * self.logvar)
        return -0.5 * (scaled.square() + self.logvar + _LOG_2PI).sum(-1)


def draw(
    distribution: Distribution,
    sample_shape: tuple[int, ...] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Reparameterised sample whose randomness comes from ``generator`` alone.

    torch.distributions knows no generators.
    A diagonal Gaussian is therefore sampled here; any other distribution is sampled inside a
    copy of the global random state that is seeded from ``generator`` and then thrown away.

    Args:
        distribution: batch shape (B,), event shape (D,).
        sample_shape: extra leading shape.
        generator: on the device of the distribution; None uses the global state.

    Returns:
        (*sample_shape, B, D).
    """
    if generator is None:
        return distribution.rsample(sample_shape)
    if isinstance(distribution, Independent) and type(distribution.base_dist) is Normal:
        mean, std = distribution.base_dist.loc, distribution.base_dist.scale
        noise = torch.randn(
            (*sample_shape, *mean.shape), generator=generator, dtype=mean.dtype, device=mean.device
        )
        return torch.addcmul(mean, std, noise)
    seed = torch.randint(2**62, (), generator=generator, device=generator.device).item()
    devices = [generator.device] if generator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(seed))
        return distribution.rsample(sample_shape)


class Posterior(Protocol):
    """What a method names in its posterior slot."""

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """Module from features (B, F) to a distribution over z, batch (B,), event (D,)."""
        ...


class DiagonalHead(nn.Module):
    """Linear map, without bias, from features to mean and log-variance (He et al. 2019, code)."""

    def __init__(self, features: int, latent_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent_dim, bias=False)

    def forward(self, features: Tensor) -> DiagonalNormal:
        """Features (B, F) to q(z|x)."""
        mean, logvar = self.linear(features).chunk(2, dim=-1)
        return DiagonalNormal(mean, logvar)


@dataclass(frozen=True)
class Diagonal:
    """Diagonal Gaussian posterior, the standard choice (Kingma & Welling 2014)."""

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """See :class:`Posterior`."""
        return DiagonalHead(features, latent_dim)
