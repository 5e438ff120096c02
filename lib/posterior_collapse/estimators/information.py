"""Mutual information, and how far the aggregated posterior is from the prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput, whole
from posterior_collapse.estimators.estimate import Estimate, require_generator

# Densities log q_j(z) held at once: 2 MB in float64, which stays in the cache.
_DENSITIES_PER_CHUNK = 2**18

_LOG_2PI = math.log(2.0 * math.pi)


def mutual_information(
    mean: Tensor,
    logvar: Tensor,
    num_samples: int,
    generator: torch.Generator,
    aggregate: int | None = None,
) -> Estimate:
    """I(x; z) under q: the average over points of KL(q_i || q_agg) (He et al. 2019, equation 5).

    The data are the N points and nothing else, so q_agg is a mixture of N known Gaussians.
    Its density is exact; only z is sampled, and the estimate is unbiased and at most about log N.

    With ``aggregate`` = S the points are taken in consecutive batches of S, and each is compared
    with its own batch, as the papers' code does.
    That is a lower bound on I(x; z) and at most log S: log 32 is 3.47.
    A smaller last batch is compared with itself too, and every point counts the same.

    Args:
        mean, logvar: (N, D).
        num_samples: draws of z per point.
        generator: source of the draws.
        aggregate: None for all N points, or S in 1..N.

    Returns:
        0-d tensors; ``n`` is the number of points aggregated, N or S.

    Raises:
        BadInput: shapes, nan, infinity, a number out of range, or no generator.
    """
    num_samples = whole("num_samples", num_samples)
    size = None if aggregate is None else whole("aggregate", aggregate)
    wide_mean, wide_logvar = _wide_pair(mean, logvar, generator)
    points = len(mean)
    size = size or points
    if size > points:
        raise BadInput(f"aggregate must lie in 1..{points}, the number of points, given {size}")
    batches = zip(wide_mean.split(size), wide_logvar.split(size), strict=True)
    parts = [
        _point_averages(m, v, num_samples, generator, lambda z, own, mixture: own - mixture)
        for m, v in batches
    ]
    return _stratified(parts, num_samples, size, mean)


def aggregate_kl(
    mean: Tensor, logvar: Tensor, num_samples: int, generator: torch.Generator
) -> Estimate:
    """KL(q_agg || N(0, I)) of the mixture q_agg of all N posteriors.

    With I(x; z) it adds up to the average KL to the prior (He et al. 2019, equation 5).

    Args:
        mean, logvar: (N, D).
        num_samples: draws of z per point.
        generator: source of the draws.

    Returns:
        0-d tensors; ``n`` is N.

    Raises:
        BadInput: shapes, nan, infinity, a number out of range, or no generator.
    """

    def log_ratio(z: Tensor, own: Tensor, mixture: Tensor) -> Tensor:
        return mixture + 0.5 * (z.square() + _LOG_2PI).sum(-1)

    num_samples = whole("num_samples", num_samples)
    wide_mean, wide_logvar = _wide_pair(mean, logvar, generator)
    parts = [_point_averages(wide_mean, wide_logvar, num_samples, generator, log_ratio)]
    return _stratified(parts, num_samples, len(mean), mean)


def information_per_point(
    mean: Tensor, logvar: Tensor, num_samples: int, generator: torch.Generator
) -> Tensor:
    """KL(q_i || q_agg) of every point, (N,) in float64, nats; its average is I(x; z).

    The spread over points says how much the average would change with other points: it is the
    influence function of I(x; z), so that std / sqrt(N) is its standard error to first order.

    Args:
        mean, logvar: (N, D).
        num_samples: draws of z per point.
        generator: source of the draws.

    Raises:
        BadInput: shapes, nan, infinity, a number out of range, or no generator.
    """
    num_samples = whole("num_samples", num_samples)
    wide_mean, wide_logvar = _wide_pair(mean, logvar, generator)
    return _point_averages(
        wide_mean, wide_logvar, num_samples, generator, lambda z, own, mixture: own - mixture
    ).average


def _wide_pair(mean: Tensor, logvar: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Both tensors in float64; they and the generator are checked."""
    require_generator(generator)
    gaussian.require_pair(mean, logvar)
    gaussian.require_finite(mean=mean, logvar=logvar)
    return gaussian.widen(mean.detach()), gaussian.widen(logvar.detach())


class _PointAverages(NamedTuple):
    """Averages over the draws of each point, and the variances of those averages."""

    average: Tensor  # (N,)
    variance: Tensor  # (N,), meaningful for at least two draws


def _point_averages(
    mean: Tensor,
    logvar: Tensor,
    num_samples: int,
    generator: torch.Generator,
    term: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> _PointAverages:
    """Average a function of z over draws from each posterior.

    Points are taken a chunk at a time, with all their draws unless even one point is too many.

    Args:
        mean, logvar: (N, D) in float64; they are also the components of the mixture.
        term: z (C, S, D), log q_i(z) (C, S), log q_agg(z) (C, S) -> (C, S).
    """
    points, dim = mean.shape
    draws = min(num_samples, max(1, _DENSITIES_PER_CHUNK // points))
    chunk = max(1, _DENSITIES_PER_CHUNK // (points * draws))
    # One place for all: tensors kept from each turn would cut the heap into pieces too small for
    # the next, and 500 points would take half a gigabyte.
    averages, variances = mean.new_empty(2, points)
    for own in torch.arange(points, device=mean.device).split(chunk):
        columns = []
        for start in range(0, num_samples, draws):
            shape = (len(own), min(draws, num_samples - start), dim)
            noise = torch.randn(
                shape, generator=generator, dtype=mean.dtype, device=generator.device
            ).to(mean.device)
            densities = _log_densities(mean, logvar, own, noise)
            index = own[:, None, None].expand(*shape[:2], 1)
            mixture = torch.logsumexp(densities, -1) - math.log(points)
            z = mean[own, None] + torch.exp(0.5 * logvar[own, None]) * noise
            columns.append(term(z, densities.gather(-1, index)[..., 0], mixture))
        values = torch.cat(columns, 1)  # (C, num_samples)
        averages[own] = values.mean(1)
        spread = (values - values.mean(1, keepdim=True)).square().sum(1)
        variances[own] = spread / max(1, num_samples - 1) / num_samples
    return _PointAverages(averages, variances)


def _log_densities(mean: Tensor, logvar: Tensor, own: Tensor, noise: Tensor) -> Tensor:
    """log q_j(z) of every component j at z = mean_i + std_i noise.

    Two matrix products do it where the rounding of expanded squares cannot matter.
    Narrow posteriors far from zero need the differences themselves: mean_i - mean_j is taken
    before the noise is added, so a draw keeps its distance from its own mean.

    Args:
        mean, logvar: (N, D), float64.
        own, noise: (C,), indices i, and (C, S, D); the result is (C, S, N), nats.
    """
    constant = -0.5 * (logvar + _LOG_2PI).sum(-1)  # (N,)
    steps = torch.exp(0.5 * logvar[own, None]) * noise  # (C, S, D)
    if mean.shape[1] >= 4:
        centre = mean.mean(0)
        z, means, precision = mean[own, None] - centre + steps, mean - centre, torch.exp(-logvar)
        reach = z.square().amax((0, 1))
        largest = (precision * (reach + means.square())).sum(-1).max().item()
        if largest * torch.finfo(mean.dtype).eps < 1e-10:
            left = torch.cat([z.square(), z], -1)
            right = torch.cat([precision, -2.0 * precision * means], -1)
            squares = left @ right.T + (precision * means.square()).sum(-1)
            return constant - 0.5 * squares
    inverse_std = torch.exp(-0.5 * logvar)
    squares = noise.new_zeros(*noise.shape[:2], len(mean))
    for d in range(mean.shape[1]):
        apart = mean[own, None, d] - mean[:, d]  # (C, N)
        distance = (apart[:, None] + steps[..., d, None]) * inverse_std[:, d]
        squares.addcmul_(distance, distance)
    return constant - 0.5 * squares


def _stratified(parts: list[_PointAverages], num_samples: int, n: int, like: Tensor) -> Estimate:
    """Pool points that were each sampled equally often.

    The points are fixed, so only the spread of draws within a point is sampling error.
    A single draw per point does not show it; the spread over points then stands in, which is too
    large rather than too small.
    """
    average = torch.cat([part.average for part in parts])
    points = len(average)
    if num_samples > 1:
        stderr = torch.cat([part.variance for part in parts]).sum().sqrt() / points
    elif points > 1:
        stderr = average.std() / math.sqrt(points)
    else:
        stderr = torch.full_like(average[0], math.inf)
    value = gaussian.narrow(average.mean(), like)
    return Estimate(value, stderr.to(value), n)
