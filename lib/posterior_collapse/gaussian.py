"""Closed forms for diagonal Gaussians N(mean, diag exp(logvar)), in nats.

``mean`` and ``logvar`` are floating-point tensors of shape (N, D): N posteriors, D dimensions.
Results have the dtype given.
What a dtype cannot hold is refused, and so are nan and infinity; none comes out silently.

The two divergences of the training loop, :func:`kl_to_standard_normal` and :func:`kl`, compute in
the dtype given and have gradients.
They look at their result only on the CPU, because on an accelerator a look would stop its queue.
Everything else computes in float64 and looks at every result.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from posterior_collapse.errors import BadInput, NotFinite

_LOG_2PI_E = math.log(2.0 * math.pi) + 1.0
# Below this, exp(u) - 1 - u loses digits as a difference and is summed as its Taylor series.
_SERIES_BELOW = 0.25
# 1/k! for k = 13 down to 2: the first term left out is below 1e-18 of the sum at the limit.
_SERIES = tuple(1.0 / math.factorial(k) for k in range(13, 1, -1))


class AggregateMoments(NamedTuple):
    """Moments of the aggregated posterior q(z), the mixture of all N posteriors."""

    log_det_covariance: Tensor  # ()
    mean_norm_squared: Tensor  # ()


class DropoutMoments(NamedTuple):
    """Expectations over the mask of variance dropout; the shape of the variance given."""

    inverse_variance: Tensor  # E[1 / var_hat]
    log_variance: Tensor  # E[log var_hat]


# --- checks -------------------------------------------------------------------------------------


def require_pair(mean: Tensor, logvar: Tensor) -> None:
    """Refuse anything but two floating-point tensors of one shape (N, D) with N >= 1."""
    _require_floating(mean=mean, logvar=logvar)
    if mean.shape != logvar.shape or mean.dim() != 2 or len(mean) == 0:
        raise BadInput(
            "mean and logvar must both have one shape (N, D) with N >= 1, given "
            f"{tuple(mean.shape)} and {tuple(logvar.shape)}"
        )


def _require_floating(**tensors: Tensor) -> None:
    """Refuse what is not a floating-point tensor."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            given = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise BadInput(f"{name} must be a floating-point tensor, given {given}")


def require_finite(**tensors: Tensor) -> None:
    """Refuse nan and infinity in an input, naming the tensor and the first such entry."""
    for name, tensor in tensors.items():
        bad = ~torch.isfinite(tensor)
        if bad.any():
            index = tuple(bad.nonzero()[0].tolist())
            raise NotFinite(
                f"{name} must be finite, given {tensor[index].item()} at {list(index)} "
                f"({int(bad.sum())} of {tensor.numel()} entries)"
            )


def _checked(result: Tensor, **inputs: Tensor) -> Tensor:
    """The result if it is finite; otherwise an error that says whose fault it is."""
    if torch.isfinite(result).all():
        return result
    require_finite(**inputs)
    ranges = ", ".join(
        f"{name} in [{tensor.min().item():.4g}, {tensor.max().item():.4g}]"
        for name, tensor in inputs.items()
    )
    wider = "" if result.dtype == torch.float64 else "give float64, or "
    raise NotFinite(
        f"the result does not fit into {result.dtype} (largest {torch.finfo(result.dtype).max:.3g})"
        f" for {ranges}; {wider}check that these inputs are meant"
    )


def _hot_checked(result: Tensor, **inputs: Tensor) -> Tensor:
    """As :func:`_checked`, but only where looking costs no synchronisation."""
    if result.device.type != "cpu" or torch.compiler.is_compiling():
        return result
    return _checked(result, **inputs)


def widen(tensor: Tensor) -> Tensor:
    """The same numbers in float64, on the CPU where the device has no float64."""
    if tensor.device.type == "mps":
        tensor = tensor.cpu()
    return tensor.double()


def narrow(result: Tensor, like: Tensor, **inputs: Tensor) -> Tensor:
    """A float64 result back in the dtype and on the device of ``like``, checked."""
    return _checked(result.to(like.dtype), **inputs).to(like.device)


# --- divergences and entropies ------------------------------------------------------------------


def _exp_minus_tangent_of_single(u: Tensor) -> Tensor:
    """The same for single precision, through double: a fifth of the series' operations."""
    wide = u.double()
    # Below, the difference loses more digits than single precision can spare; two terms do.
    tiny = wide * wide * (0.5 + wide / 6.0)
    return torch.where(wide.abs() < 1e-4, tiny, torch.expm1(wide) - wide).float()


def _value(u: Tensor) -> Tensor:
    """exp(u) - 1 - u without a gradient; see :func:`exp_minus_tangent`."""
    if u.dtype is torch.float32 and u.device.type != "mps":  # which knows no float64
        return _exp_minus_tangent_of_single(u)
    small = u.clamp(-_SERIES_BELOW, _SERIES_BELOW)
    series = torch.full_like(u, _SERIES[0])
    for coefficient in _SERIES[1:]:
        series = series.mul_(small).add_(coefficient)
    series = series.mul_(small).mul_(small)
    return torch.where(u.abs() < _SERIES_BELOW, series, torch.expm1(u) - u)


class _ExpMinusTangent(torch.autograd.Function):
    """exp(u) - 1 - u, with derivative expm1(u)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        """exp(u) - 1 - u."""
        ctx.save_for_backward(u)
        return _value(u)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The gradient times expm1(u)."""
        (u,) = ctx.saved_tensors
        return gradients[0] * torch.expm1(u)


def exp_minus_tangent(u: Tensor) -> Tensor:
    """exp(u) - 1 - u, elementwise, to full relative accuracy; never negative.

    It is twice the KL between N(0, exp(u)) and N(0, 1).
    Near u = 0 it is about u^2 / 2, which the plain expression loses to rounding.
    """
    result: Tensor = _ExpMinusTangent.apply(u)
    return result


class _KLToStandardNormal(torch.autograd.Function):
    """:func:`kl_to_standard_normal`: one node of the graph in place of six."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, logvar: Tensor) -> Tensor:
        """The KL of each row, nats, (N,)."""
        ctx.save_for_backward(mean, logvar)
        return _value(logvar).addcmul_(mean, mean).sum(-1).mul_(0.5)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients in mean and log-variance, (N, D) each."""
        mean, logvar = ctx.saved_tensors
        slope = gradients[0].unsqueeze(-1)
        return slope * mean, 0.5 * slope * torch.expm1(logvar)


def kl_to_standard_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, diag exp(logvar)) || N(0, I)) in nats (Kingma & Welling 2014, appendix B).

    Args:
        mean: (N, D).
        logvar: (N, D), natural logarithm of the variance.

    Returns:
        (N,), differentiable, relatively accurate down to zero.

    Raises:
        BadInput: shapes differ; on the CPU also nan, infinity, or a result beyond the dtype.
    """
    _require_floating(mean=mean, logvar=logvar)
    if mean.shape != logvar.shape or mean.dim() == 0:
        raise BadInput(
            "mean and logvar must have one shape (N, D), given "
            f"{tuple(mean.shape)} and {tuple(logvar.shape)}"
        )
    result: Tensor = _KLToStandardNormal.apply(mean, logvar)
    return _hot_checked(result, mean=mean, logvar=logvar)


def kl(mean1: Tensor, logvar1: Tensor, mean2: Tensor, logvar2: Tensor) -> Tensor:
    """KL(N(mean1, diag exp(logvar1)) || N(mean2, diag exp(logvar2))) in nats.

    Args:
        mean1, logvar1, mean2, logvar2: (N, D), or shapes that broadcast to it.

    Returns:
        (N,), differentiable, relatively accurate down to zero.

    Raises:
        BadInput: shapes do not broadcast; on the CPU also nan, infinity, or a result beyond the
            dtype.
    """
    inputs = {"mean1": mean1, "logvar1": logvar1, "mean2": mean2, "logvar2": logvar2}
    _require_floating(**inputs)
    try:
        shape = torch.broadcast_shapes(*(tensor.shape for tensor in inputs.values()))
    except RuntimeError as error:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in inputs.items())
        raise BadInput(f"the four shapes must broadcast to (N, D), given {shapes}") from error
    if not shape:
        raise BadInput("the four tensors must have shape (N, D), given only scalars")
    # The scale 1/std2 is applied in two halves: one factor could overflow where the product is 0.
    half_scale = torch.exp(-0.25 * logvar2)
    distance = (mean1 - mean2) * half_scale * half_scale
    result = 0.5 * (distance.square() + exp_minus_tangent(logvar1 - logvar2)).sum(-1)
    return _hot_checked(result, **inputs)


def entropy(logvar: Tensor) -> Tensor:
    """Entropy of N(., diag exp(logvar)): (D log(2 pi e) + sum of logvar) / 2, nats.

    Args:
        logvar: (N, D).

    Returns:
        (N,).

    Raises:
        BadInput: nan or infinity.
    """
    _require_floating(logvar=logvar)
    if logvar.dim() == 0:
        raise BadInput("logvar must have shape (N, D), given a scalar")
    result = 0.5 * (widen(logvar) + _LOG_2PI_E).sum(-1)
    return narrow(result, logvar, logvar=logvar)


def conditional_entropy(logvar: Tensor) -> Tensor:
    """H(z|x): the average entropy of the N posteriors (DU-VAE, equation 4), nats.

    Args:
        logvar: (N, D).

    Returns:
        ().

    Raises:
        BadInput: another shape, nan or infinity.
    """
    require_pair(logvar, logvar)
    result = 0.5 * (widen(logvar) + _LOG_2PI_E).sum(-1).mean()
    return narrow(result, logvar, logvar=logvar)


# --- properties of a set of posteriors ----------------------------------------------------------


def _centred(values: Tensor) -> Tensor:
    """Values (N, D) minus their mean over N; twice, as the first mean is itself rounded."""
    once = values - values.mean(0)
    return once - once.mean(0)


def mutual_posterior_divergence(mean: Tensor, logvar: Tensor, unbiased: bool = False) -> Tensor:
    """MPD: the average KL between the posteriors of two data points, nats.

    DU-VAE equation 2, where the symmetrised KL and the plain one have the same average.
    Computed in O(N D) through averages over points, from centred means and log-variances, as
    half the sum over dimensions of E[m^2 / v] + E[1/v] E[m^2] + E[v] E[1/v] - 1.
    The -1 belongs to every dimension; DU-VAE's equation 3 prints it once.

    Args:
        mean: (N, D).
        logvar: (N, D).
        unbiased: False averages over all N^2 pairs, a point with itself included (MPD_V).
            True averages over pairs of different points (MPD_U), which is N / (N - 1) times it.

    Returns:
        ().

    Raises:
        BadInput: other shapes, nan, infinity, a result beyond the dtype, or N = 1 with
            ``unbiased``.
    """
    require_pair(mean, logvar)
    points = len(mean)
    if unbiased and points < 2:
        raise BadInput("the unbiased divergence needs at least 2 points, given 1")
    wide = widen(logvar)
    level = wide.mean(0)
    spread = _centred(wide)
    scaled = _centred(widen(mean)) * torch.exp(-0.5 * level)
    inverse = torch.exp(-spread)  # 1/v in units of exp(-level)
    distances = (scaled.square() * inverse).mean(0) + inverse.mean(0) * scaled.square().mean(0)
    # E[v] E[1/v] - 1 = a + b + a b with a = E[v] - 1, b = E[1/v] - 1 in these units, both >= 0.
    up, down = exp_minus_tangent(spread).mean(0), exp_minus_tangent(-spread).mean(0)
    result = 0.5 * (distances + up + down + up * down).sum()
    if unbiased:
        result = result * (points / (points - 1))
    return narrow(result, mean, mean=mean, logvar=logvar)


def _require_means(mean: Tensor, threshold: float) -> None:
    """Checks shared by the two counts of active directions."""
    require_pair(mean, mean)
    require_finite(mean=mean)
    if len(mean) < 2:
        raise BadInput("a variance over data points needs at least 2 points, given 1")
    if not threshold > 0.0:
        raise BadInput(f"threshold must be positive, given {threshold}")


def active_units(mean: Tensor, threshold: float = 0.01) -> int:
    """Number of dimensions whose posterior mean varies over the data (Burda et al. 2016).

    A dimension counts if the variance of its mean, with ddof 1, is at least ``threshold``.
    Rotating the latent space changes this number; :func:`active_rank` stays.

    Args:
        mean: (N, D), N >= 2.
        threshold: positive.

    Raises:
        BadInput: N < 2, another shape, nan or infinity.
    """
    _require_means(mean, threshold)
    variance = _centred(widen(mean)).square().sum(0) / (len(mean) - 1)
    return int((variance >= threshold).sum())


def active_rank(mean: Tensor, threshold: float = 0.01) -> int:
    """Number of eigenvalues of Cov(mean), ddof 1, that are at least ``threshold``.

    The count of active directions in whatever basis: unlike :func:`active_units` it does not
    change when the latent space is rotated.

    Args:
        mean: (N, D), N >= 2.
        threshold: positive.

    Raises:
        BadInput: N < 2, another shape, nan or infinity.
    """
    _require_means(mean, threshold)
    # Singular values of the centred means: the covariance itself would square the rounding.
    lengths = torch.linalg.svdvals(_centred(widen(mean)).cpu())
    return int((lengths >= math.sqrt(threshold * (len(mean) - 1))).sum())


def aggregate_moments(mean: Tensor, logvar: Tensor) -> AggregateMoments:
    """log det Cov[q(z)] and the squared norm of E[z] for the mixture q(z) of N posteriors.

    Cov[q(z)] = E[diag exp(logvar)] + Cov(mean) with ddof 0 (IGP, aggregated posterior).
    For a perfect match with N(0, I) both are 0.

    Args:
        mean: (N, D).
        logvar: (N, D).

    Returns:
        Two scalars.

    Raises:
        BadInput: other shapes, nan, infinity, or a result beyond the dtype.
    """
    require_pair(mean, logvar)
    require_finite(mean=mean, logvar=logvar)
    points = len(mean)
    wide = widen(mean).cpu()
    level = torch.logsumexp(widen(logvar).cpu(), 0) - math.log(points)  # log E[variance], (D,)
    scaled = _centred(wide) * torch.exp(-0.5 * level) / math.sqrt(points)
    log_det = level.sum() + _log_det_one_plus(scaled)
    norm = wide.mean(0).square().sum()
    inputs = {"mean": mean, "logvar": logvar}
    return AggregateMoments(narrow(log_det, mean, **inputs), narrow(norm, mean, **inputs))


def _log_det_one_plus(columns: Tensor) -> Tensor:
    """log det(I + C^T C) for C (N, D) in float64, accurate when lengths of columns differ wildly.

    The columns are orthogonalised, the longest remainder first.
    What remains of a column after that, relative to its own length, is rounding and counts as 0;
    squared and scaled by a tiny variance it would otherwise pass for a huge eigenvalue.
    """
    rest = columns.clone()
    negligible = torch.linalg.vector_norm(columns, dim=0) * 64.0 * torch.finfo(rest.dtype).eps
    rows = []
    for _ in range(min(columns.shape)):
        lengths = torch.linalg.vector_norm(rest, dim=0)
        lengths = torch.where(lengths > negligible, lengths, 0.0)
        pivot = int(lengths.argmax())
        if lengths[pivot] == 0.0:
            break
        direction = rest[:, pivot] / lengths[pivot]
        row = direction @ rest
        rest = rest - torch.outer(direction, row)
        again = direction @ rest
        rest = rest - torch.outer(direction, again)
        rest[:, pivot] = 0.0
        rows.append(row + again)
    if not rows:
        return columns.new_zeros(())
    factor = torch.stack(rows)
    # I + R R^T, scaled to a unit diagonal so that graded rows cannot spoil the factorisation.
    scale = torch.linalg.vector_norm(factor, dim=1).square().add(1.0).rsqrt()
    scaled = factor * scale[:, None]
    gram = torch.diag(scale.square()) + scaled @ scaled.T
    pivots = torch.linalg.cholesky(gram).diagonal()
    return 2.0 * (torch.log(pivots) - torch.log(scale)).sum()


def variance_dropout_moments(
    variance: Tensor, keep_prob: float, alpha: float | Tensor
) -> DropoutMoments:
    """Expectations over the mask of variance dropout, elementwise (DU-VAE, equations 6 to 8).

    The variance becomes var_hat = alpha + g (variance - alpha) / keep_prob, where g is 1 with
    probability ``keep_prob`` and else 0. Its mean is the variance itself.

    Args:
        variance: any shape, at least alpha.
        keep_prob: in (0, 1].
        alpha: positive floor; 1 / (2 pi e) makes the entropy of a dropped dimension 0.

    Returns:
        E[1 / var_hat] and E[log var_hat] (nats), each of the shape of ``variance``.

    Raises:
        BadInput: an argument outside its range.
    """
    _require_floating(variance=variance)
    require_finite(variance=variance)
    keep = float(keep_prob)
    if not 0.0 < keep <= 1.0:
        raise BadInput(f"keep_prob must lie in (0, 1], given {keep_prob}")
    wide = widen(variance)
    # In the dtype of the variance, so that a variance set to alpha there is not below it here.
    floor = torch.as_tensor(alpha, dtype=variance.dtype, device=wide.device).to(wide.dtype)
    if not bool((torch.isfinite(floor) & (floor > 0.0)).all()):
        raise BadInput(f"alpha must be positive and finite, given {alpha}")
    if bool((wide < floor).any()):
        raise BadInput(
            f"variance must be at least alpha, given a variance of {wide.min().item():.6g} "
            f"and alpha {floor.max().item():.6g}"
        )
    scaled = wide - (1.0 - keep) * floor  # keep_prob times the variance of a kept dimension
    inverse = (1.0 - keep) / floor + keep * keep / scaled
    log_variance = (1.0 - keep) * torch.log(floor) + keep * (torch.log(scaled) - math.log(keep))
    return DropoutMoments(
        narrow(inverse, variance, variance=variance),
        narrow(log_variance, variance, variance=variance),
    )
