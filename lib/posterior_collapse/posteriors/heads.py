"""Posteriors that need one linear map: diagonal, isotropic, a point, and one with a least KL."""

from __future__ import annotations

import enum
import functools
import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from torch import Tensor, nn

from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput
from posterior_collapse.layers import Progress, keeps_initial_values
from posterior_collapse.posteriors.distributions import Delta, DiagonalNormal


class Posterior(Protocol):
    """What a method names in its posterior slot.

    It may say two more things, which most have no need to:
    ``least_batch``, the least number of examples that training may show it at once, and
    ``encoder_as_in_torch``, whether the encoder before it starts with PyTorch's own first values
    in the public code.

    The head that it builds may have ``least_kl``: nats that the average KL to N(0, I) of the
    examples of a batch cannot fall below.
    """

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """Module from features (B, F) to a distribution over z, batch (B,), event (D,)."""
        ...


class Spread(enum.StrEnum):
    """What a linear map's output s says about the spread of a Gaussian."""

    EXP = "exp"  # the variance is exp(s)
    SOFTPLUS = "softplus"  # the standard deviation is log(1 + exp(s)): flows (Shen et al. 2021)


_TAIL = -40.0  # below it log(1 + exp(s)) is exp(s) in float64


def log_variance(outputs: Tensor, spread: Spread) -> Tensor:
    """Log-variances from a linear map's outputs, elementwise."""
    if spread is Spread.EXP:
        return outputs
    # Where exp(s) would underflow the logarithm of the softplus is s itself.
    inner = torch.log(F.softplus(outputs.clamp_min(_TAIL)))
    return 2.0 * torch.where(outputs > _TAIL, inner, outputs)


class DiagonalHead(nn.Module):
    """Linear map, without bias, from features to mean and spread (He et al. 2019, code)."""

    def __init__(self, features: int, latent_dim: int, spread: Spread = Spread.EXP) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent_dim, bias=False)
        self.spread = spread

    def forward(self, features: Tensor) -> DiagonalNormal:
        """Features (B, F) to q(z|x)."""
        mean, outputs = self.linear(features).chunk(2, dim=-1)
        return DiagonalNormal(mean, log_variance(outputs, self.spread))


@dataclass(frozen=True)
class Diagonal:
    """Diagonal Gaussian posterior, the standard choice (Kingma & Welling 2014)."""

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """See :class:`Posterior`."""
        return DiagonalHead(features, latent_dim)


@dataclass(frozen=True)
class SoftplusDiagonal:
    """Diagonal Gaussian whose standard deviations are softplus(.): z^0 of VAE-IAF's public code."""

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """See :class:`Posterior`."""
        return DiagonalHead(features, latent_dim, Spread.SOFTPLUS)


class IsotropicHead(nn.Module):
    """Linear map, without bias, from features to a mean and one log-variance."""

    def __init__(self, features: int, latent_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, latent_dim + 1, bias=False)

    def forward(self, features: Tensor) -> DiagonalNormal:
        """Features (B, F) to q(z|x)."""
        code = self.linear(features)
        mean, logvar = code[..., :-1], code[..., -1:]
        return DiagonalNormal(mean, logvar.expand_as(mean))


@dataclass(frozen=True)
class Isotropic:
    """N(mean, sigma^2 I): one variance for all dimensions (Zhang et al. 2021, section 3).

    Every dimension then is active, or none is.
    """

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """See :class:`Posterior`."""
        return IsotropicHead(features, latent_dim)


class UntiedHead(nn.Module):
    """One log-variance for all dimensions, and later one for each, which starts at that one.

    Until then the difference is not computed, so it keeps its first value 0.
    """

    untied: Tensor

    def __init__(self, features: int, latent_dim: int, after: float) -> None:
        super().__init__()
        self.linear = nn.Linear(features, latent_dim + 1, bias=False)
        self.difference = keeps_initial_values(nn.Linear(features, latent_dim, bias=False))
        nn.init.zeros_(self.difference.weight)  # type: ignore[arg-type]
        self.after = after
        self.register_buffer("untied", torch.tensor(False))
        self._now = False  # the buffer is for files: to look at it would stop a GPU
        self.register_load_state_dict_post_hook(_look)

    def begin_update(self, progress: Progress) -> None:
        """Untie the variances once so many epochs are done."""
        self._now = progress.epochs >= self.after
        self.untied.fill_(self._now)

    def forward(self, features: Tensor) -> DiagonalNormal:
        """Features (B, F) to q(z|x)."""
        code = self.linear(features)
        mean, logvar = code[..., :-1], code[..., -1:].expand_as(code[..., :-1])
        if self._now:
            logvar = logvar + self.difference(features)
        return DiagonalNormal(mean, logvar)


def _look(head: UntiedHead, _: object) -> None:
    head._now = bool(head.untied)


@dataclass(frozen=True)
class Untied:
    """Isotropic for some epochs, then diagonal from there on (Zhang et al. 2021, section 5.2).

    Args:
        after: epochs, above 0.
    """

    after: float = 5.0

    def __post_init__(self) -> None:
        if not 0.0 < self.after < math.inf:
            raise BadInput(
                f"variances are untied after some epochs, above 0 and finite, given {self.after}"
            )

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """See :class:`Posterior`."""
        return UntiedHead(features, latent_dim, self.after)


class PointMassHead(nn.Module):
    """Linear map, without bias, from features to a point."""

    def __init__(self, features: int, latent_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, latent_dim, bias=False)

    def forward(self, features: Tensor) -> Delta:
        """Features (B, F) to q(z|x)."""
        return Delta(self.linear(features))


@dataclass(frozen=True)
class PointMass:
    """A point instead of a distribution: the encoder of a plain autoencoder (AE).

    It has no density and no KL, so it goes with an objective that asks for neither.
    """

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """See :class:`Posterior`."""
        return PointMassHead(features, latent_dim)


# --- delta-VAE ------------------------------------------------------------------------------------


class _Bounds(NamedTuple):
    """The variances whose KL to N(0, 1) is delta at mean 0, as logarithms."""

    low: float
    high: float


@functools.cache
def _log_variance_bounds(delta: float) -> _Bounds:
    """Roots v of exp(v) - 1 - v = 2 delta: of ln x - x + 2 delta + 1 = 0 with x = exp(v)."""

    def excess(v: float) -> float:
        return math.expm1(v) - v - 2.0 * delta

    low = brentq(excess, -2.0 * delta - 1.0, 0.0, xtol=1e-18)
    high = brentq(excess, 0.0, math.log(4.0 * delta + 4.0), xtol=1e-18)
    return _Bounds(low, high)


class ConstrainedHead(nn.Module):
    """Linear map, without bias, into the Gaussians whose KL to N(0, 1) is at least delta.

    Per dimension, from the outputs s and m of the map,
    sigma = l + (u - l) sigmoid(s) and mean = sqrt(2 delta + 1 + ln sigma^2 - sigma^2 + relu(m)
    + 1e-6), where l^2 and u^2 are the roots of ln x - x + 2 delta + 1 = 0.
    Then KL = delta + (relu(m) + 1e-6) / 2.
    Every mean is positive; where m < 0 it depends on x through sigma alone.
    """

    _MARGIN = 1e-6  # keeps the gradient of the root finite

    def __init__(self, features: int, latent_dim: int, delta: float) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent_dim, bias=False)
        self.delta, self.latent_dim = delta, latent_dim

    @property
    def least_kl(self) -> float:
        """D delta nats, of every example."""
        return self.latent_dim * self.delta

    def forward(self, features: Tensor) -> DiagonalNormal:
        """Features (B, F) to q(z|x)."""
        raw_mean, raw_std = self.linear(features).chunk(2, dim=-1)
        bounds = _log_variance_bounds(self.delta)
        low, high = math.exp(0.5 * bounds.low), math.exp(0.5 * bounds.high)
        logvar = 2.0 * torch.log(low + (high - low) * torch.sigmoid(raw_std))
        # 2 delta + 1 + ln x - x, without the difference of like numbers; 0 at both bounds.
        room = torch.relu(2.0 * self.delta - gaussian.exp_minus_tangent(logvar))
        mean = torch.sqrt(room + torch.relu(raw_mean) + self._MARGIN)
        return DiagonalNormal(mean, logvar)


@dataclass(frozen=True)
class Constrained:
    """Diagonal Gaussian whose KL to N(0, 1) is at least ``delta`` in every dimension.

    delta-VAE with the standard normal prior (Razavi et al. 2019); its other form keeps the
    posterior and takes :class:`posterior_collapse.priors.AutoRegressive`.

    Args:
        delta: nats per dimension, in (0, 20]; 0.1 in the papers' tables.
    """

    delta: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.delta <= 20.0:
            raise BadInput(f"delta lies in (0, 20] nats per dimension, given {self.delta}")

    def build(self, features: int, latent_dim: int) -> nn.Module:
        """See :class:`Posterior`."""
        return ConstrainedHead(features, latent_dim, self.delta)
