"""Slot 2 of a method: the prior p(z).

A prior is a frozen dataclass of choices with ``build(latent_dim)``.
That gives a module whose ``forward()`` returns a torch distribution with event shape (D,),
so that a prior with parameters of its own learns with the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributions import register_kl

from posterior_collapse import gaussian
from posterior_collapse.posteriors import DiagonalNormal

__all__ = ["Prior", "StandardNormal", "StandardNormalPrior", "UnitNormal"]


class UnitNormal(DiagonalNormal):
    """N(0, I); a type of its own so that its KL needs no subtraction of zeros."""

    def __init__(self, zeros: Tensor) -> None:
        super().__init__(zeros, zeros)


@register_kl(DiagonalNormal, DiagonalNormal)
def _kl_diagonal(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    """KL between diagonal Gaussians, nats, (B,)."""
    return gaussian.kl(q.mean, q.logvar, p.mean.expand_as(q.mean), p.logvar.expand_as(q.mean))


@register_kl(DiagonalNormal, UnitNormal)
def _kl_unit(q: DiagonalNormal, p: UnitNormal) -> Tensor:
    """KL to the standard normal, nats, (B,)."""
    return gaussian.kl_to_standard_normal(q.mean, q.logvar)


class Prior(Protocol):
    """What a method names in its prior slot."""

    def build(self, latent_dim: int) -> nn.Module:
        """Module whose ``forward()`` gives a distribution with event shape (D,)."""
        ...


class StandardNormalPrior(nn.Module):
    """N(0, I) on the device and in the dtype of the model it belongs to."""

    zeros: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)

    def forward(self) -> UnitNormal:
        """The distribution, batch shape (), event shape (D,)."""
        return UnitNormal(self.zeros)


@dataclass(frozen=True)
class StandardNormal:
    """p(z) = N(0, I) (He et al. 2019, section 6.1)."""

    def build(self, latent_dim: int) -> nn.Module:
        """See :class:`Prior`."""
        return StandardNormalPrior(latent_dim)
