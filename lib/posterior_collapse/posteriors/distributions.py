"""The distributions that posteriors give, and how to sample them from a generator."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, NoReturn, Protocol, cast

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, constraints, register_kl

from posterior_collapse.errors import BadInput

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

    def log_prob_per_dimension(self, value: Tensor) -> Tensor:
        """Log density of every dimension in nats, (..., D)."""
        # Scaled before it is squared: exp(-logvar) overflows where its root does not.
        scaled = (value - self.mean) * torch.exp(-0.5 * self.logvar)
        return -0.5 * (scaled.square() + self.logvar + _LOG_2PI)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats; ``value`` is (..., D), the result drops D."""
        return self.log_prob_per_dimension(value).sum(-1)


class ScaledNormal(DiagonalNormal):
    """N(f * mean, diag exp(logvar)): what the decoder of a Scale-VAE sees.

    The KL of Scale-VAE's objective is that of ``unscaled``.

    Args:
        mean: (B, D), before scaling.
        logvar: (B, D).
        factor: (D,), f.
    """

    def __init__(self, mean: Tensor, logvar: Tensor, factor: Tensor) -> None:
        super().__init__(factor * mean, logvar)
        self.unscaled = DiagonalNormal(mean, logvar)
        self.factor = factor


class Delta(Distribution):
    """All mass at one point: what the encoder of a plain autoencoder gives.

    Args:
        location: (B, D).
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, location: Tensor) -> None:
        super().__init__(location.shape[:-1], location.shape[-1:], validate_args=False)
        self.location = location

    @property
    def mean(self) -> Tensor:
        """The point, (B, D)."""
        return self.location

    @property
    def variance(self) -> Tensor:
        """Zeros, (B, D)."""
        return torch.zeros_like(self.location)

    def draw(self, sample_shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """The point itself, ``(*sample_shape, B, D)``; the generator stays as it is."""
        return self.location.expand(*sample_shape, *self.location.shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The point itself, ``(*sample_shape, B, D)``."""
        return self.draw(tuple(sample_shape), None)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """The point without its gradient, which a view would keep."""
        return self.rsample(sample_shape).detach()

    def log_prob(self, value: Tensor) -> NoReturn:
        """There is none.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "a delta posterior has no density: neither log_prob, nor a KL, nor an importance-"
            "weighted likelihood exists; measure its reconstruction"
        )

    def entropy(self) -> NoReturn:
        """There is none; see :meth:`log_prob`."""
        self.log_prob(self.location)


@register_kl(Delta, Distribution)
def _kl_delta(q: Delta, p: Distribution) -> NoReturn:
    """KL from a point to a density is infinite, and no objective can use it."""
    q.log_prob(q.location)


class Bijection(Protocol):
    """An invertible map of z that depends on a context and keeps the order of the dimensions."""

    def __call__(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """z (..., B, D) to its image and to log |d image_d / d z_d|, (..., B, D) both."""
        ...

    def inverse(self, image: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The image to z, and the same logarithms."""
        ...


class _Drawn(NamedTuple):
    """The last draw of a flow, whose density came with it."""

    value: Tensor
    version: int  # of the value: one that was written to since is another one
    with_gradient: bool
    log_density: Tensor  # (..., B, D)

    def serves(self, value: Tensor) -> bool:
        """Whether the density is that of ``value``, and has a gradient where one is wanted."""
        same = value is self.value and _version(value) == self.version
        return same and (self.with_gradient or not torch.is_grad_enabled())


class Flowed(Distribution):
    """z^T = map(z^0), z^0 ~ N(mean, diag exp(logvar)), with a triangular map that depends on x.

    The density of a draw of its own is known from drawing it and costs nothing more.
    It is remembered for the last draw, as long as that is the same tensor.
    Any other z is mapped back first, one dimension after the other.

    ``mean`` is the mean of z^0: z^T has none in closed form, and active units, mutual information
    and the like are measured on z^0 (Shen et al. 2021, code).
    ``base`` is the distribution of z^0, ``push(z0)`` gives z^T.

    Args:
        base: of z^0, batch (B,), event (D,).
        bijection: the map.
        context: (B, F), what it depends on.
    """

    arg_constraints: dict[str, Any] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, base: DiagonalNormal, bijection: Bijection, context: Tensor) -> None:
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)
        self.base = base
        self._bijection = bijection
        self._context = context
        self._last: _Drawn | None = None

    @property
    def mean(self) -> Tensor:
        """Mean of z^0, (B, D)."""
        return self.base.mean

    def push(self, start: Tensor) -> Tensor:
        """z^0 (..., B, D) to z^T."""
        return self._bijection(start, self._context)[0]

    def draw(self, sample_shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """See :func:`draw`."""
        start = draw(self.base, sample_shape, generator)
        value, log_scale = self._bijection(start, self._context)
        log_density = self.base.log_prob_per_dimension(start) - log_scale
        self._last = _Drawn(value, _version(value), torch.is_grad_enabled(), log_density)
        return value

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Reparameterised sample of z^T, ``(*sample_shape, B, D)``."""
        return self.draw(tuple(sample_shape), None)

    def log_prob_per_dimension(self, value: Tensor) -> Tensor:
        """Terms of the log density in nats, (..., B, D): ``log q(z^0_d) - log |dz^T_d / dz^0_d|``.

        Their sum over d is the density.
        One term alone is that of a dimension of the chain, as free bits take it
        (Kingma et al. 2016), and no marginal density.
        """
        last = self._last
        if last is not None and last.serves(value):
            return last.log_density
        shape = torch.broadcast_shapes(value.shape, self.base.mean.shape)
        start, log_scale = self._bijection.inverse(value.expand(shape), self._context)
        return self.base.log_prob_per_dimension(start) - log_scale

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats; ``value`` is (..., B, D), the result drops D."""
        return self.log_prob_per_dimension(value).sum(-1)


def _version(tensor: Tensor) -> int:
    """How often a tensor was written to; inference tensors do not count."""
    return 0 if tensor.is_inference() else tensor._version


def draw(
    distribution: Distribution,
    sample_shape: tuple[int, ...] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Reparameterised sample whose randomness comes from ``generator`` alone.

    torch.distributions knows no generators.
    The distributions of this library and a diagonal Gaussian are therefore sampled here; any
    other one is sampled inside a copy of the global random state that is seeded from
    ``generator`` and then thrown away.
    One without a reparameterised sample, such as a mixture, is sampled where no gradient is asked
    for.

    Args:
        distribution: batch shape (B,), event shape (D,); or a prior, batch shape ().
        sample_shape: extra leading shape.
        generator: on the device of the distribution; None uses the global state.

    Returns:
        ``(*sample_shape, B, D)``.

    Raises:
        BadInput: gradients are on, and could not pass.
    """
    # Looked up, as to ask whether a runtime protocol is met takes longer than the draw.
    own = getattr(distribution, "draw", None)
    if own is not None:
        return cast(Tensor, own(tuple(sample_shape), generator))
    if not distribution.has_rsample and torch.is_grad_enabled():
        raise BadInput(
            f"{type(distribution).__name__} has no rsample, so that no gradient passes through its "
            "draws; use it under torch.no_grad()"
        )
    sample = distribution.rsample if distribution.has_rsample else distribution.sample
    if generator is None:
        return sample(sample_shape)
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
        return sample(sample_shape)


def gaussian_code(q: Distribution) -> tuple[Tensor, Tensor] | None:
    """Mean and log-variance of the diagonal Gaussian that measures of the latent space look at.

    Mutual information, MPD and conditional entropy are known for diagonal Gaussians.
    A scaled posterior gives what its decoder sees; a flow gives z^0, as the papers measure it.

    Args:
        q: batch shape (B,), event shape (D,).

    Returns:
        Two tensors (B, D), or None if there is no such Gaussian.
    """
    if isinstance(q, Flowed):
        q = q.base
    if isinstance(q, DiagonalNormal):
        return q.mean, q.logvar
    if not isinstance(q, Independent) or not isinstance(q.base_dist, Normal):
        return None
    if q.reinterpreted_batch_ndims != 1:
        return None
    return q.base_dist.loc, 2.0 * torch.log(q.base_dist.scale)
