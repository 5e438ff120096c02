"""Slot 2 of a method: the prior p(z).

A prior is a frozen dataclass of choices with ``build(latent_dim)``.
That gives a module whose ``forward()`` returns a torch distribution with event shape (D,),
so that a prior with parameters of its own learns with the decoder.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from scipy.optimize import brentq
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    MixtureSameFamily,
    constraints,
    register_kl,
)

from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput, whole
from posterior_collapse.layers import keeps_initial_values
from posterior_collapse.posteriors import DiagonalNormal, Flowed, gaussian_code

_LOG_2PI = math.log(2.0 * math.pi)


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


def kl_per_dimension(q: Distribution, prior: Distribution, z: Tensor) -> Tensor:
    """KL of every dimension, nats; its sum over dimensions is KL(q || prior).

    A closed form for diagonal Gaussians.
    For a flow, the average over the draws z of log q_d - log p_d, with q_d as in
    :meth:`posterior_collapse.posteriors.Flowed.log_prob_per_dimension`: unbiased, with a gradient,
    and at times negative.

    Args:
        q: batch shape (B,), event shape (D,).
        prior: a diagonal Gaussian, event shape (D,).
        z: (S, B, D), draws of q.

    Returns:
        (B, D).

    Raises:
        NotImplementedError: the pair has no KL of single dimensions.
    """
    target, code = gaussian_code(prior), gaussian_code(q)
    if target is None or isinstance(prior, Flowed):
        raise NotImplementedError(
            "the KL of single dimensions needs a prior whose dimensions are independent Gaussians,"
            f" given {type(prior).__name__}"
        )
    if isinstance(q, Flowed):
        prior_density = DiagonalNormal(*target).log_prob_per_dimension(z)
        return (q.log_prob_per_dimension(z) - prior_density).mean(0)
    if code is None:
        raise NotImplementedError(
            "the KL of single dimensions needs a diagonal Gaussian or a flow as posterior, given "
            f"{type(q).__name__}"
        )
    (mean, logvar), (prior_mean, prior_logvar) = code, target
    distance = (mean - prior_mean) * torch.exp(-0.5 * prior_logvar)
    return 0.5 * (distance.square() + gaussian.exp_minus_tangent(logvar - prior_logvar))


class Prior(Protocol):
    """What a method names in its prior slot."""

    def build(self, latent_dim: int) -> nn.Module:
        """Module whose ``forward()`` gives a distribution with event shape (D,)."""
        ...


class _Centred(nn.Module):
    """A prior around 0, on the device and in the dtype of the model it belongs to."""

    zeros: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)


class StandardNormalPrior(_Centred):
    """N(0, I)."""

    def forward(self) -> UnitNormal:
        """The distribution, batch shape (), event shape (D,)."""
        return UnitNormal(self.zeros)


@dataclass(frozen=True)
class StandardNormal:
    """p(z) = N(0, I) (He et al. 2019, section 6.1)."""

    def build(self, latent_dim: int) -> nn.Module:
        """See :class:`Prior`."""
        return StandardNormalPrior(latent_dim)


# --- Scale-VAE ------------------------------------------------------------------------------------


class ScaledStandardNormalPrior(_Centred):
    """N(0, diag f^2) with the factor f of the posterior head that it follows."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        # In a tuple, so that the head does not become a part of this module as well. A deep copy
        # of a model copies it along, and the copied prior follows the copied head.
        self._followed: tuple[nn.Module, ...] = ()

    def follow(self, posterior_head: nn.Module) -> None:
        """Take the factor of this head from now on.

        Raises:
            BadInput: the head has none.
        """
        if not isinstance(getattr(posterior_head, "factor", None), Tensor):
            raise BadInput(
                "the prior N(0, f^2) takes f from a Scaled posterior, given a model with "
                f"{type(posterior_head).__name__}"
            )
        self._followed = (posterior_head,)

    def forward(self) -> DiagonalNormal:
        """The distribution, batch shape (), event shape (D,).

        Raises:
            BadInput: there is no head to follow.
        """
        if not self._followed:
            raise BadInput("the prior N(0, f^2) is not part of a model, so nothing gives it f")
        factor: Tensor = self._followed[0].factor  # type: ignore[assignment]
        return DiagonalNormal(self.zeros, 2.0 * torch.log(factor))


@dataclass(frozen=True)
class ScaledStandardNormal:
    """p(z) = N(0, diag f^2), f the factor that a Scale-VAE's posterior uses in evaluation.

    It is the distribution of f z with z ~ N(0, I), from which the paper generates
    (Song et al. 2024), and the prior under which a Scale-VAE has a valid bound.
    """

    def build(self, latent_dim: int) -> nn.Module:
        """See :class:`Prior`."""
        return ScaledStandardNormalPrior(latent_dim)


# --- mixtures -------------------------------------------------------------------------------------


class DiagonalMixture(MixtureSameFamily):
    """Mixture of diagonal Gaussians, batch shape (), event shape (D,).

    Args:
        logits: (K,), of the weights.
        mean: (K, D).
        logvar: (K, D).
    """

    def __init__(self, logits: Tensor, mean: Tensor, logvar: Tensor) -> None:
        weights = Categorical(logits=logits, validate_args=False)
        super().__init__(weights, DiagonalNormal(mean, logvar), validate_args=False)

    @torch.no_grad()
    def draw(self, sample_shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Sample without a gradient, ``(*sample_shape, D)``; all randomness from ``generator``."""
        mean, std = self.component_distribution.mean, self.component_distribution.stddev
        count = math.prod(sample_shape)
        weights = self.mixture_distribution.probs
        which = torch.multinomial(weights, max(1, count), replacement=True, generator=generator)
        which = which[:count].view(sample_shape)
        noise = torch.randn(
            (*sample_shape, mean.shape[-1]),
            generator=generator,
            dtype=mean.dtype,
            device=mean.device,
        )
        return torch.addcmul(mean[which], std[which], noise)


class Mixing(enum.StrEnum):
    """How a mixture starts, and whether its weights are learned."""

    LEARNED = "learned"  # equal weights at first, means about 2 from the origin, unit variances
    EQUAL = "equal"  # equal weights for ever, means and log-variances Glorot-normal: IGP's code


class MixturePrior(nn.Module):
    """Mixture of K Gaussians; a recipe's initialisation leaves its parameters alone.

    Near 0 all components would be one and stay so.

    Args:
        mean: (K, D), first values.
        logvar: (K, D), or (K, 1) for one variance in all dimensions; first values.
        logits: (K,), of the weights: a parameter where they are learned.
    """

    logits: Tensor

    def __init__(self, mean: Tensor, logvar: Tensor, logits: Tensor) -> None:
        super().__init__()
        self.mean, self.logvar = nn.Parameter(mean), nn.Parameter(logvar)
        if isinstance(logits, nn.Parameter):
            self.logits = logits
        else:
            self.register_buffer("logits", logits, persistent=False)
        keeps_initial_values(self)

    def forward(self) -> DiagonalMixture:
        """The distribution, batch shape (), event shape (D,)."""
        return DiagonalMixture(self.logits, self.mean, self.logvar.expand_as(self.mean))


def _learned(latent_dim: int, components: int, variances: int) -> MixturePrior:
    """Equal weights at first, unit variances, and random means about 2 from the origin.

    In whatever number of dimensions: apart enough to take different parts, and near enough to
    N(0, I) to cost about 2 nats.
    """
    reach = 2.0 / math.sqrt(max(1, latent_dim))
    return MixturePrior(
        reach * torch.randn(components, latent_dim),
        torch.zeros(components, variances),
        nn.Parameter(torch.zeros(components)),
    )


def _equal(latent_dim: int, components: int, variances: int) -> MixturePrior:
    """Equal weights for ever; means and log-variances start as in Zhang et al. 2021's public code.

    Both are normal with variance 2 / (rows + columns) (Glorot & Bengio 2010), so that in few
    dimensions the components start close to one another.
    The code also takes the average of all components' draws for a draw of the mixture, which this
    does not.
    """
    first = _glorot(components, latent_dim), _glorot(components, variances)
    return MixturePrior(*first, torch.zeros(components))


def _glorot(rows: int, columns: int) -> Tensor:
    """Normal numbers of variance 2 / (rows + columns), from the global random state."""
    return math.sqrt(2.0 / max(1, rows + columns)) * torch.randn(rows, columns)


_MIXTURES = {Mixing.LEARNED: _learned, Mixing.EQUAL: _equal}


@dataclass(frozen=True)
class GaussianMixture:
    """MoG: a mixture of diagonal Gaussians (Zhang et al. 2021, appendix C).

    The paper takes 5 components after Pelsmaeker & Aziz (2020) and does not say what is learned;
    here all parameters are, the weights too, where ``mixing`` is not that of the code.

    Args:
        components: at least 1.
        mixing: see :class:`Mixing`.
    """

    components: int = 5
    mixing: Mixing = Mixing.LEARNED

    def __post_init__(self) -> None:
        whole("components", self.components)

    def build(self, latent_dim: int) -> nn.Module:
        """See :class:`Prior`; the means are drawn from torch's global random state."""
        return _MIXTURES[self.mixing](latent_dim, self.components, self._variances(latent_dim))

    def _variances(self, latent_dim: int) -> int:
        """Of each component."""
        return latent_dim


@dataclass(frozen=True)
class IsotropicGaussianMixture(GaussianMixture):
    """MoIG: a mixture of Gaussians N(mean_k, sigma_k^2 I) (Zhang et al. 2021, appendix C).

    As :class:`GaussianMixture`, with one variance for all dimensions of a component.
    """

    def _variances(self, latent_dim: int) -> int:
        return 1


# --- delta-VAE ------------------------------------------------------------------------------------


class AutoRegressiveNormal(Distribution):
    """z_1 ~ N(0, 1), z_d ~ N(alpha z_{d-1}, 1 - alpha^2): every z_d is N(0, 1) by itself.

    The covariance of z_i and z_j is alpha^|i - j|.

    Args:
        zeros: (D,), gives dtype and device.
        alpha: in (-1, 1).
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, zeros: Tensor, alpha: float) -> None:
        super().__init__(torch.Size(), zeros.shape, validate_args=False)
        self.zeros, self.alpha = zeros, alpha
        self.innovation = (1.0 - alpha) * (1.0 + alpha)  # variance of z_d given z_{d-1}

    @property
    def mean(self) -> Tensor:
        """Zeros, (D,)."""
        return self.zeros

    @property
    def variance(self) -> Tensor:
        """Ones, (D,)."""
        return torch.ones_like(self.zeros)

    @property
    def log_precision(self) -> Tensor:
        """Logarithm of the diagonal of the inverse covariance, (D,)."""
        log_diagonal = torch.full_like(
            self.zeros, math.log1p(self.alpha**2) - math.log(self.innovation)
        )
        ends = 0.0 if len(log_diagonal) == 1 else -math.log(self.innovation)
        log_diagonal[:1] = ends
        log_diagonal[-1:] = ends
        return log_diagonal

    @property
    def least_kl(self) -> float:
        """The smallest KL that a diagonal Gaussian can have to this, nats (Razavi et al. 2019).

        ((D - 2) log(1 + alpha^2) - log(1 - alpha^2)) / 2, reached at mean 0 and at the inverse of
        the precision's diagonal as variances; 0 for D = 1.
        """
        if len(self.zeros) < 2:
            return 0.0
        inner = (len(self.zeros) - 2) * math.log1p(self.alpha**2)
        return 0.5 * (inner - math.log(self.innovation))

    def distance(self, value: Tensor) -> Tensor:
        """value^T (inverse covariance) value, in O(D); (..., D) to (...)."""
        steps = value[..., 1:] - self.alpha * value[..., :-1]
        return value[..., :1].square().sum(-1) + steps.square().sum(-1) / self.innovation

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats; ``value`` is (..., D), the result drops D."""
        size = len(self.zeros)
        log_det = max(0, size - 1) * math.log(self.innovation)
        return -0.5 * (self.distance(value) + log_det + size * _LOG_2PI)

    def draw(self, sample_shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Sample ``(*sample_shape, D)``; all randomness from ``generator``."""
        noise = torch.randn(
            (*sample_shape, len(self.zeros)),
            generator=generator,
            dtype=self.zeros.dtype,
            device=self.zeros.device,
        )
        place = torch.arange(len(self.zeros), device=self.zeros.device)
        lags = (place[:, None] - place).clamp_min(0)
        weight = torch.tril(torch.pow(self.alpha, lags.to(self.zeros.dtype)))
        weight[:, 1:] *= math.sqrt(self.innovation)
        return noise @ weight.t()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Sample ``(*sample_shape, D)``."""
        return self.draw(tuple(sample_shape), None)


@register_kl(DiagonalNormal, AutoRegressiveNormal)
def _kl_autoregressive(q: DiagonalNormal, p: AutoRegressiveNormal) -> Tensor:
    """KL of a diagonal Gaussian, nats, (B,): the least one, and what mean and variances add.

    2 KL = sum_d (L_d s_d - 1 - log s_d) + mean^T L mean - log det L for variances s and inverse
    covariance L with diagonal L_d, and L_d s_d - 1 - log(L_d s_d) is never negative.
    """
    excess = gaussian.exp_minus_tangent(q.logvar + p.log_precision).sum(-1)
    return p.least_kl + 0.5 * (excess + p.distance(q.mean))


class AutoRegressivePrior(_Centred):
    """:class:`AutoRegressiveNormal` with a fixed alpha."""

    def __init__(self, latent_dim: int, alpha: float) -> None:
        super().__init__(latent_dim)
        self.alpha = alpha

    def forward(self) -> AutoRegressiveNormal:
        """The distribution, batch shape (), event shape (D,)."""
        return AutoRegressiveNormal(self.zeros, self.alpha)


@dataclass(frozen=True)
class AutoRegressive:
    """AR(1) over the dimensions: z_d = alpha z_{d-1} + noise (delta-VAE, Razavi et al. 2019).

    No diagonal posterior can match it, so the KL stays above a positive rate for D > 1.
    With D = 1 it is N(0, 1).
    The paper runs the process over the positions of a sequence; the latent variable of a sentence
    has none, and its dimensions take their place.

    Args:
        alpha: in (-1, 1).
    """

    alpha: float

    def __post_init__(self) -> None:
        if not -1.0 < self.alpha < 1.0:
            raise BadInput(f"alpha lies in (-1, 1), given {self.alpha}")

    @classmethod
    def for_rate(cls, delta: float) -> CommittedRate:
        """The prior whose least KL is ``delta`` nats per dimension, whatever D is."""
        return CommittedRate(delta)

    def build(self, latent_dim: int) -> nn.Module:
        """See :class:`Prior`."""
        return AutoRegressivePrior(latent_dim, self.alpha)


_MOST_LOG = 20.0  # of 1 / (1 - alpha^2); beyond it alpha is 1 to single precision


@dataclass(frozen=True)
class CommittedRate:
    """AR(1) whose least KL over diagonal Gaussians is ``delta`` nats per dimension.

    Args:
        delta: positive.
    """

    delta: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.delta < math.inf:
            raise BadInput(f"delta is a positive number of nats per dimension, given {self.delta}")

    def alpha(self, latent_dim: int) -> float:
        """The alpha of :class:`AutoRegressive` for D dimensions.

        Raises:
            BadInput: D = 1, where every KL can be 0; or a rate that needs an alpha of 1.
        """

        # In t = -log(1 - alpha^2), where the rate is smooth and rises from 0 without limit.
        def rate(t: float) -> float:
            return 0.5 * ((latent_dim - 2) * math.log1p(-math.expm1(-t)) + t) / latent_dim

        if latent_dim < 2:
            raise BadInput(
                f"an AR(1) prior with a rate needs at least 2 dimensions, given {latent_dim}"
            )
        if not self.delta <= rate(_MOST_LOG):
            raise BadInput(
                f"with {latent_dim} dimensions delta is at most {rate(_MOST_LOG):.4g} nats per "
                f"dimension, given {self.delta}"
            )
        t = brentq(lambda t: rate(t) - self.delta, 0.0, _MOST_LOG, xtol=1e-14)
        return math.sqrt(-math.expm1(-t))

    def build(self, latent_dim: int) -> nn.Module:
        """See :class:`Prior`."""
        return AutoRegressivePrior(latent_dim, self.alpha(latent_dim))
