"""Questions asked of a trained model: likelihood, mutual information, the true posterior.

All results are in nats.
Randomness comes from the ``torch.Generator`` passed in, and from nowhere else.
Every Monte Carlo answer carries its standard error and the number it depends on.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput, PosteriorCollapseError
from posterior_collapse.posteriors import draw

__all__ = [
    "NODES_PER_CALL",
    "SEQUENCES_PER_CALL",
    "Estimate",
    "Evaluation",
    "Model",
    "Moments",
    "aggregate_kl",
    "count_tokens",
    "evaluate",
    "importance_weighted_nll",
    "mutual_information",
    "posterior_moments_1d",
]

# Samples of z times examples that one call of log_likelihood decodes. It bounds memory whatever
# the number of samples; bench/bench_iw_nll.py shows the rate for several values.
SEQUENCES_PER_CALL = 1024
# Nodes times points that one call of log_joint gets; bench/bench_posterior_grid.py.
NODES_PER_CALL = 1024
# Densities log q_j(z) held at once: 2 MB in float64, which stays in the cache.
_DENSITIES_PER_CHUNK = 2**18

_LOG_2PI = math.log(2.0 * math.pi)


class Model(Protocol):
    """What an estimator needs of a model, ours or a reader's own."""

    def posterior(self, x: Any) -> Distribution:
        """q(z|x): batch shape (B,), event shape (D,)."""
        ...

    def log_likelihood(self, x: Any, z: Tensor) -> Tensor:
        """log p(x|z) in nats: z (S, B, D) -> (S, B)."""
        ...

    @property
    def prior(self) -> Distribution:
        """p(z): event shape (D,)."""
        ...


class Estimate(NamedTuple):
    """A Monte Carlo estimate.

    The standard error covers the sampling of z, given the data points and the model.
    It is infinite where one draw alone leaves it unknown.
    """

    value: Tensor  # () or (N,), nats
    stderr: Tensor  # the shape of value
    n: int  # what the value depends on: points aggregated, or samples; see the function


def _require_count(name: str, value: int, least: int = 1) -> None:
    """Refuse what is not a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInput(f"{name} must be a whole number of at least {least}, given {value!r}")


# --- mutual information and the aggregated posterior ---------------------------------------------


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
        BadInput: shapes, nan, infinity, or a number out of range.
    """
    wide_mean, wide_logvar = _wide_pair(mean, logvar, num_samples)
    points = len(mean)
    size = points if aggregate is None else aggregate
    _require_count("aggregate", size)
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
        BadInput: shapes, nan, infinity, or a number out of range.
    """

    def log_ratio(z: Tensor, own: Tensor, mixture: Tensor) -> Tensor:
        return mixture + 0.5 * (z.square() + _LOG_2PI).sum(-1)

    wide_mean, wide_logvar = _wide_pair(mean, logvar, num_samples)
    parts = [_point_averages(wide_mean, wide_logvar, num_samples, generator, log_ratio)]
    return _stratified(parts, num_samples, len(mean), mean)


def _wide_pair(mean: Tensor, logvar: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """Both tensors checked and in float64."""
    gaussian.require_pair(mean, logvar)
    gaussian.require_finite(mean=mean, logvar=logvar)
    _require_count("num_samples", num_samples)
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
    averages, variances = [], []
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
        averages.append(values.mean(1))
        spread = (values - values.mean(1, keepdim=True)).square().sum(1)
        variances.append(spread / max(1, num_samples - 1) / num_samples)
    return _PointAverages(torch.cat(averages), torch.cat(variances))


def _log_densities(mean: Tensor, logvar: Tensor, own: Tensor, noise: Tensor) -> Tensor:
    """log q_j(z) of every component j at z = mean_i + std_i noise.

    Two matrix products do it where the rounding of expanded squares cannot matter.
    Narrow posteriors far from zero need the differences themselves: mean_i - mean_j is taken
    before the noise is added, so a draw keeps its distance from its own mean.

    Args:
        mean, logvar: (N, D), float64.
        own: (C,), indices i.
        noise: (C, S, D).

    Returns:
        (C, S, N), nats.
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


# --- importance-weighted likelihood ---------------------------------------------------------------


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """No gradients, evaluation mode; every submodule's own mode is put back afterwards."""
    modes = [(m, m.training) for m in model.modules()] if isinstance(model, nn.Module) else []
    for module, _ in modes:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


class _Spread:
    """Running mean and sum of squared deviations of draws that come in chunks (S, B)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Merge a chunk (Chan, Golub & LeVeque 1979)."""
        here = values.mean(0)
        squares = (values - here).square().sum(0)
        total = self.count + len(values)
        apart = here - self.mean.to(here)
        weight = self.count * len(values) / total
        self.squares = self.squares.to(here) + squares + apart.square() * weight
        self.mean = self.mean.to(here) + apart * (len(values) / total)
        self.count = total

    def variance_of_mean(self) -> Tensor:
        """(B,); infinite for a single draw, or where a draw is infinite."""
        if self.count < 2:
            return torch.full_like(self.mean, math.inf)
        return torch.nan_to_num(self.squares / (self.count - 1) / self.count, nan=math.inf)


class _Weights:
    """Running logarithm of the mean importance weight, with its variance, chunk by chunk."""

    def __init__(self) -> None:
        self.count = 0
        self.top = torch.tensor(-math.inf, dtype=torch.float64)  # largest log weight so far
        self.first = torch.zeros((), dtype=torch.float64)  # sum of exp(w - top)
        self.second = torch.zeros((), dtype=torch.float64)  # sum of exp(2 (w - top))

    def add(self, log_weights: Tensor) -> None:
        """Merge a chunk (S, B)."""
        top = torch.maximum(self.top.to(log_weights), log_weights.amax(0))
        # Where no weight has been positive yet there is nothing to rescale.
        level = torch.where(top == -math.inf, 0.0, top)
        shrink = torch.exp(self.top.to(top) - level)
        scaled = torch.exp(log_weights - level)
        self.first = self.first.to(top) * shrink + scaled.sum(0)
        self.second = self.second.to(top) * shrink.square() + scaled.square().sum(0)
        self.top = top
        self.count += len(log_weights)

    def nll(self) -> Tensor:
        """-log of the mean weight, (B,)."""
        return -(self.top + torch.log(self.first) - math.log(self.count))

    def stderr(self) -> Tensor:
        """Standard error of :meth:`nll` by the delta method: that of the mean weight over it."""
        if self.count < 2:
            return torch.full_like(self.first, math.inf)
        relative = self.count * self.second / self.first.square() - 1.0
        return (relative.clamp_min(0.0) / (self.count - 1)).sqrt()


class _Pass(NamedTuple):
    """One batch decoded from samples of its posterior; every tensor is (B,) in float64."""

    nll: Tensor
    nll_stderr: Tensor
    reconstruction: Tensor  # average of -log p(x|z)
    reconstruction_variance: Tensor  # of that average
    kl: Tensor  # average of log q(z|x) - log p(z)
    kl_variance: Tensor
    elbo_loss_variance: Tensor  # of the average of both, which vary together


def _decode(
    model: Model, x: Any, posterior: Distribution, num_samples: int, generator: torch.Generator
) -> _Pass:
    """Decode ``num_samples`` draws for every example, a bounded number of sequences at a time."""
    prior, batch = model.prior, posterior.batch_shape[0]
    step = max(1, SEQUENCES_PER_CALL // batch)
    weights, reconstruction, kl, total = _Weights(), _Spread(), _Spread(), _Spread()
    for start in range(0, num_samples, step):
        z = draw(posterior, (min(step, num_samples - start),), generator)  # (S, B, D)
        log_likelihood = gaussian.widen(model.log_likelihood(x, z))
        log_ratio = gaussian.widen(posterior.log_prob(z)) - gaussian.widen(prior.log_prob(z))
        _require_densities(log_likelihood, log_ratio, tuple(z.shape[:2]))
        weights.add(log_likelihood - log_ratio)
        reconstruction.add(-log_likelihood)
        kl.add(log_ratio)
        total.add(log_ratio - log_likelihood)
    if (weights.top == -math.inf).any():
        raise PosteriorCollapseError(
            f"none of {num_samples} samples gives example "
            f"{int((weights.top == -math.inf).nonzero()[0])} of the batch a positive likelihood"
        )
    return _Pass(
        weights.nll(),
        weights.stderr(),
        reconstruction.mean,
        reconstruction.variance_of_mean(),
        kl.mean,
        kl.variance_of_mean(),
        total.variance_of_mean(),
    )


def _require_densities(log_likelihood: Tensor, log_ratio: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse log densities of a wrong shape, nan, or infinity where none can be."""
    if tuple(log_likelihood.shape) != shape or tuple(log_ratio.shape) != shape:
        raise BadInput(
            f"the model must give log densities of shape (S, B) = {shape}, given for p(x|z) "
            f"{tuple(log_likelihood.shape)} and for q(z|x) and p(z) {tuple(log_ratio.shape)}"
        )
    bad = torch.isnan(log_likelihood) | (log_likelihood == math.inf) | ~torch.isfinite(log_ratio)
    if bad.any():
        sample, example = bad.nonzero()[0].tolist()
        raise PosteriorCollapseError(
            f"example {example} of the batch has log p(x|z) = "
            f"{log_likelihood[sample, example].item()} and log q(z|x) - log p(z) = "
            f"{log_ratio[sample, example].item()} at a sample of its posterior"
        )


def importance_weighted_nll(
    model: Model, batches: Iterable[Any], num_samples: int, generator: torch.Generator
) -> Estimate:
    """-log of the mean of K importance weights p(x, z) / q(z|x), z ~ q(z|x), for every example.

    Its expectation is above the true negative log-likelihood and falls towards it as K grows
    (Burda et al. 2016).
    Each batch is encoded once.
    Memory does not depend on K: at most ``SEQUENCES_PER_CALL`` sequences are decoded at once, or
    one sample of the batch if that is more.

    Args:
        model: see :class:`Model`; it runs in evaluation mode and is left as it was.
        batches: batches of x.
        num_samples: K.
        generator: on the device of the posterior.

    Returns:
        ``value`` (N,) in nats per example, in the order of the batches, and ``stderr`` (N,), the
        delta method's standard error of the logarithm of the mean weight.
        It is an understatement where the weights have no variance. ``n`` is K.

    Raises:
        BadInput: no batches, a bad number, or log densities of a wrong shape.
        PosteriorCollapseError: the model gives nan, or no sample a positive likelihood.
    """
    _require_count("num_samples", num_samples)
    values, errors, dtype = [], [], None
    with _evaluating(model):
        for x in batches:
            posterior = model.posterior(x)
            dtype = posterior.mean.dtype
            done = _decode(model, x, posterior, num_samples, generator)
            values.append(done.nll)
            errors.append(done.nll_stderr)
    if dtype is None:
        raise BadInput("batches is empty")
    return Estimate(torch.cat(values).to(dtype), torch.cat(errors).to(dtype), num_samples)


# --- everything at once ---------------------------------------------------------------------------


class Evaluation(NamedTuple):
    """What a model reaches on a set of examples; plain numbers, nats per example.

    Standard errors are those of sampling z, for these examples and this model.
    None marks what the posterior has no answer for: mutual information and the aggregated KL
    need a diagonal Gaussian, tokens and perplexity need text.
    """

    nll: float  # importance-weighted, num_samples samples
    nll_stderr: float
    elbo_loss: float  # negative ELBO: reconstruction + kl
    elbo_loss_stderr: float
    reconstruction: float  # average of -log p(x|z), z ~ q(z|x)
    reconstruction_stderr: float
    kl: float  # average KL(q(z|x) || p(z))
    kl_stderr: float  # 0 for a closed form
    mutual_information: float | None
    mutual_information_stderr: float | None
    mutual_information_points: int  # aggregated; its ceiling is the logarithm of this
    aggregate_kl: float | None  # KL(q_agg || N(0, I)) of all n_sentences points
    aggregate_kl_stderr: float | None
    active_units: int  # variance of the posterior mean, ddof 1, at least 0.01
    active_rank: int  # eigenvalues of its covariance, at least 0.01
    n_sentences: int
    n_tokens: int | None  # words predicted, each sentence's end included and its start not
    perplexity: float | None  # exp(nll * n_sentences / n_tokens)
    num_samples: int  # of z per example for nll, elbo_loss and reconstruction
    mi_samples: int  # of z per example for mutual information and the aggregated KL


def count_tokens(x: Any) -> int | None:
    """Words that a decoder predicts for ids (B, T): all but the first, padding (0) left out.

    None for anything but a two-dimensional integer tensor.
    """
    if not isinstance(x, Tensor) or x.dim() != 2 or x.is_floating_point() or x.is_complex():
        return None
    return int((x[:, 1:] != 0).sum())


def evaluate(
    model: Model,
    batches: Iterable[Any],
    generator: torch.Generator,
    num_samples: int = 500,
    mi_samples: int = 10,
    aggregate: int | None = None,
) -> Evaluation:
    """Measure a model; each example is encoded once, and one set of samples serves all.

    The KL is a closed form where torch.distributions has one for the pair of distributions, and
    the average over the samples otherwise.

    Args:
        model: see :class:`Model`; it runs in evaluation mode and is left as it was.
        batches: batches of x, at least two examples in all.
        generator: on the device of the posterior.
        num_samples: of z per example, for everything that is decoded.
        mi_samples: of z per example, for mutual information and the aggregated KL.
        aggregate: None, or the papers' batch size; see :func:`mutual_information`.

    Raises:
        BadInput, PosteriorCollapseError: see :func:`importance_weighted_nll`.
    """
    _require_count("num_samples", num_samples)
    _require_count("mi_samples", mi_samples)
    passes, posteriors, tokens = [], [], []
    with _evaluating(model):
        for x in batches:
            posterior = model.posterior(x)
            done = _decode(model, x, posterior, num_samples, generator)
            passes.append(_with_closed_kl(done, posterior, model.prior))
            posteriors.append(posterior)
            tokens.append(count_tokens(x))
        if not passes:
            raise BadInput("batches is empty")
        total = _Pass(*(torch.cat(column) for column in zip(*passes, strict=True)))
        latent = _measure_latent(posteriors, mi_samples, generator, aggregate)
    counted = [count for count in tokens if count is not None]
    n_tokens = sum(counted) if len(counted) == len(tokens) else None
    n, nll = len(total.nll), total.nll.mean().item()
    return Evaluation(
        nll=nll,
        nll_stderr=_stderr_of_mean(total.nll_stderr.square()),
        elbo_loss=(total.reconstruction + total.kl).mean().item(),
        elbo_loss_stderr=_stderr_of_mean(total.elbo_loss_variance),
        reconstruction=total.reconstruction.mean().item(),
        reconstruction_stderr=_stderr_of_mean(total.reconstruction_variance),
        kl=total.kl.mean().item(),
        kl_stderr=_stderr_of_mean(total.kl_variance),
        n_sentences=n,
        n_tokens=n_tokens,
        perplexity=math.exp(nll * n / n_tokens) if n_tokens else None,
        num_samples=num_samples,
        mi_samples=mi_samples,
        **latent,
    )


def _stderr_of_mean(variances: Tensor) -> float:
    """Standard error of the mean of N independent estimates with these variances."""
    return variances.sum().sqrt().item() / len(variances)


def _with_closed_kl(done: _Pass, posterior: Distribution, prior: Distribution) -> _Pass:
    """The pass with the closed form of its KL, where there is one."""
    try:
        kl = gaussian.widen(kl_divergence(posterior, prior))
    except NotImplementedError:
        return done
    return done._replace(
        kl=kl,
        kl_variance=torch.zeros_like(kl),
        elbo_loss_variance=done.reconstruction_variance,
    )


def _diagonal_logvar(posterior: Distribution) -> Tensor | None:
    """Log-variance (B, D) of a diagonal Gaussian; None for any other distribution."""
    if not isinstance(posterior, Independent) or not isinstance(posterior.base_dist, Normal):
        return None
    kept = getattr(posterior, "logvar", None)
    return kept if isinstance(kept, Tensor) else 2.0 * torch.log(posterior.base_dist.scale)


def _measure_latent(
    posteriors: list[Distribution],
    mi_samples: int,
    generator: torch.Generator,
    aggregate: int | None,
) -> dict[str, Any]:
    """The fields of :class:`Evaluation` that need the posteriors alone."""
    mean = torch.cat([posterior.mean for posterior in posteriors])
    logvars = [_diagonal_logvar(posterior) for posterior in posteriors]
    diagonal = [logvar for logvar in logvars if logvar is not None]
    fields: dict[str, Any] = {
        "mutual_information": None,
        "mutual_information_stderr": None,
        "mutual_information_points": len(mean) if aggregate is None else aggregate,
        "aggregate_kl": None,
        "aggregate_kl_stderr": None,
        "active_units": gaussian.active_units(mean),
        "active_rank": gaussian.active_rank(mean),
    }
    if len(diagonal) == len(logvars):
        logvar = torch.cat(diagonal)
        information = mutual_information(mean, logvar, mi_samples, generator, aggregate)
        distance = aggregate_kl(mean, logvar, mi_samples, generator)
        fields["mutual_information"] = information.value.item()
        fields["mutual_information_stderr"] = information.stderr.item()
        fields["aggregate_kl"] = distance.value.item()
        fields["aggregate_kl_stderr"] = distance.stderr.item()
    return fields


# --- the true posterior of a scalar latent variable -----------------------------------------------


class Moments(NamedTuple):
    """Of p(z|x) for a scalar z; each (batch,)."""

    mean: Tensor
    variance: Tensor
    log_evidence: Tensor  # log p(x), nats


_FIRST_CELLS = 80  # step 0.5 on [-20, 20]: sees local bumps that neighbours would not betray
_CELLS = 32  # at most, in a window made smaller
_LEAST_CELLS = 14  # in a window of the right size: steps of about one standard deviation
_WIDE_CELLS = 256  # at most, in a window made larger, which so keeps fine steps for long
_MAX_CELLS = 2**16  # of a window while it is integrated
_MAX_ROUNDS = 60
_MAX_EXTENSIONS = 12  # each at least doubles the range searched
_LEAST_NODES = 5.0  # effective number under the posterior before a sum is believed


@torch.no_grad()
def posterior_moments_1d(
    log_joint: Callable[[Tensor], Tensor],
    batch: int,
    low: float = -20.0,
    high: float = 20.0,
    tolerance: float = 1e-6,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Moments:
    """Mean and variance of p(z|x) and log p(x) for scalar z, by adaptive quadrature.

    What He et al. 2019, equation 6, do with 4001 nodes on [-20, 20].
    That grid is wrong for a posterior narrower than its stride or outside its range.

    Coarse nodes find a window per point.
    Cells where a straight continuation of the log density from either side stays far below the
    best node (24 nats for the default tolerance) are left out, and the rest is searched again
    with smaller steps.
    The range grows beyond ``low`` and ``high`` where mass lies at an edge.
    The window is then summed with equal steps, which are halved until the error is small.
    Nodes are whole multiples of a power of two, hence exact in float32 as well.
    An ordinary posterior (standard deviation 0.2 to 1) takes 110 to 170 nodes.

    A bump that no coarse node (step 0.5) has an inkling of is not found: one that is narrow and
    lies under a flank of something broader.
    Where log_joint is -inf beyond a bound, the bound is located and the sum ends there.

    Args:
        log_joint: z (S, batch) -> log p(x_b, z_sb) of shape (S, batch), nats; -inf is allowed.
            Each call has S <= max(1, NODES_PER_CALL / batch).
        batch: number of points.
        low, high: where to search first.
        tolerance: of the estimated error of log evidence, and of mean and standard deviation in
            units of the smaller of 1 and the standard deviation.
            What log_joint's own dtype rounds away is not asked for.
        dtype, device: of the z that log_joint gets; torch's defaults unless given.

    Returns:
        Three tensors (batch,) in the dtype that log_joint returns.
        Memory: at most NODES_PER_CALL values at once in log_joint, 130 * batch stored here.

    Raises:
        BadInput: a bad number or a wrong shape, or a posterior too narrow for ``dtype``.
        PosteriorCollapseError: log_joint gives nan or +inf, is -inf at all nodes, does not decay,
            or is too rough to integrate in 65,536 steps.
    """
    _require_count("batch", batch)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise BadInput(f"low and high must be finite with low < high, given {low} and {high}")
    if not tolerance > 0.0:
        raise BadInput(f"tolerance must be positive, given {tolerance}")
    nodes = _Nodes(log_joint, batch, dtype or torch.get_default_dtype(), device)
    depth = max(20.0, 10.0 - math.log(tolerance))  # nats: beyond it lies less than tolerance / e^9
    search = _search(nodes, low, high, depth)
    moments = _refine(nodes, _first_level(nodes, search), tolerance)
    return Moments(*(part.to(nodes.device, nodes.result_dtype) for part in moments))


class _Nodes:
    """log_joint, called with a bounded number of nodes and its answers checked.

    Geometry is kept in float64 on the CPU; z is sent in the dtype and to the device asked for.
    """

    def __init__(
        self,
        log_joint: Callable[[Tensor], Tensor],
        batch: int,
        dtype: torch.dtype,
        device: torch.device | str | None,
    ) -> None:
        self.log_joint, self.batch, self.dtype = log_joint, batch, dtype
        self.device = torch.device(device) if device is not None else torch.empty(0).device
        self.rows = max(1, NODES_PER_CALL // batch)
        self.result_dtype = dtype

    def at(self, z: Tensor) -> Tensor:
        """Log joint at z (S, B), in chunks; float64 on the CPU, (S, B)."""
        return torch.cat([self._call(rows) for rows in z.split(self.rows)])

    def require_exact(self, z: Tensor) -> None:
        """Refuse nodes that the dtype would move."""
        if not torch.equal(z.to(self.dtype).double(), z):
            step = (z[1:] - z[:-1]).abs().min().item() if len(z) > 1 else 0.0
            raise BadInput(
                f"steps of {step:.3g} near z = {z.abs().max().item():.6g} do not exist in "
                f"{self.dtype}: the posterior is too narrow for it; give dtype=torch.float64"
            )

    def _call(self, z: Tensor) -> Tensor:
        values = self.log_joint(z.to(self.device, self.dtype))
        if not isinstance(values, Tensor) or values.shape != z.shape:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise BadInput(f"log_joint must return shape {tuple(z.shape)}, given {shape}")
        self.result_dtype = values.dtype
        values = values.cpu().double()
        bad = torch.isnan(values) | (values == math.inf)
        if bad.any():
            row, column = bad.nonzero()[0].tolist()
            raise PosteriorCollapseError(
                f"log_joint is {values[row, column].item()} at z = {z[row, column].item():.6g} "
                f"of point {column}"
            )
        return values


def _power_of_two(x: Tensor) -> Tensor:
    """The smallest power of two that is at least x > 0, exactly."""
    mantissa, _ = torch.frexp(x)
    return torch.where(mantissa == 0.5, x, x / mantissa)


class _Search(NamedTuple):
    """Where the mass of every point lies: nodes (first + j) * step with values[j], all (B,)."""

    first: Tensor
    step: Tensor
    values: Tensor  # (S, B)
    left: Tensor  # first cell to keep
    right: Tensor  # last cell to keep


def _search(nodes: _Nodes, low: float, high: float, depth: float) -> _Search:
    """Shrink or extend a window per point until its steps are of the right size.

    A window is right when it has at least ``_LEAST_CELLS`` cells and is closed at both ends.
    """
    lows = torch.full((nodes.batch,), low, dtype=torch.float64)
    highs = torch.full_like(lows, high)
    steps = _power_of_two((highs - lows) / _FIRST_CELLS)
    explored = [lows, highs]
    extensions = torch.zeros_like(lows)
    for _ in range(_MAX_ROUNDS):
        first = torch.floor(lows / steps)
        cells = int((torch.ceil(highs / steps) - first).max())
        offsets = torch.arange(cells + 1, dtype=torch.float64)[:, None]
        z = (first + offsets) * steps
        nodes.require_exact(z)
        values = nodes.at(z)
        explored = [torch.minimum(explored[0], z[0]), torch.maximum(explored[1], z[-1])]
        found = _Search(first, steps, values, *_kept_cells(values, depth))
        lows, highs, is_open = _next_window(found, z, explored, depth)
        extensions += is_open
        _require_decay(extensions, explored)
        width = highs - lows
        settled = ~is_open & (width >= _LEAST_CELLS * steps)
        if settled.all():
            return found
        wider = torch.maximum(steps, _power_of_two(width / _WIDE_CELLS))
        finer = _power_of_two(width / _CELLS)
        steps = torch.where(is_open, wider, torch.where(settled, steps, finer))
    raise PosteriorCollapseError(
        f"no window holds the posterior of point {int((~settled).nonzero()[0])} after "
        f"{_MAX_ROUNDS} rounds of search: its log joint has no clear peak"
    )


def _next_window(
    found: _Search, z: Tensor, explored: list[Tensor], depth: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Kept cells, extended where mass may lie outside: (low, high, whether extended), each (B,).

    An end is open if it is within ``depth`` of the best node, or if nothing beyond it has been
    seen and the density rises towards it.
    """
    values = found.values
    threshold = values.amax(0) - depth
    open_left = (values[0] >= threshold) | ((z[0] <= explored[0]) & (values[0] > values[1]))
    open_right = (values[-1] >= threshold) | ((z[-1] >= explored[1]) & (values[-1] > values[-2]))
    span = z[-1] - z[0]
    low = torch.where(open_left, z[0] - span, (found.first + found.left) * found.step)
    high = torch.where(open_right, z[-1] + span, (found.first + found.right + 1) * found.step)
    return low, high, open_left | open_right


def _require_decay(extensions: Tensor, explored: list[Tensor]) -> None:
    """Stop where a log joint has been followed outwards too often."""
    if (extensions > _MAX_EXTENSIONS).any():
        point = int(extensions.argmax())
        raise PosteriorCollapseError(
            f"log_joint of point {point} does not decay on [{explored[0][point].item():.4g}, "
            f"{explored[1][point].item():.4g}]: it has no posterior, or one that is far away"
        )


def _kept_cells(values: Tensor, depth: float) -> tuple[Tensor, Tensor]:
    """First and last cell that may hold density within ``depth`` nats of the best node, (B,)."""
    best = values.amax(0)
    if (best == -math.inf).any():
        point = int((best == -math.inf).nonzero()[0])
        raise PosteriorCollapseError(
            f"log_joint of point {point} is -inf at all {len(values)} nodes of its window"
        )
    keep = (_cell_bounds(values) >= best - depth).to(torch.int8)
    return keep.argmax(0), len(keep) - 1 - keep.flip(0).argmax(0)


def _cell_bounds(values: Tensor) -> Tensor:
    """Upper bounds of the log density within the cells between equidistant nodes.

    For a concave function the lines through the two nodes before a cell, and through the two
    after it, both lie above it inside the cell.
    A line through -inf says nothing; without either line a cell next to a finite node is unbounded.

    Args:
        values: (S + 1, B).

    Returns:
        (S, B).
    """
    start, end = values[:-1], values[1:]
    slopes = end - start  # per cell; nan between two -inf
    unknown = torch.full_like(slopes[:1], math.inf)
    before = torch.cat([unknown, slopes[:-1]])  # continues from the start of the cell
    after = torch.cat([slopes[1:], -unknown])  # leads back from its end
    has_before, has_after = torch.isfinite(before), torch.isfinite(after)
    before, after = torch.where(has_before, before, 0.0), torch.where(has_after, after, 0.0)
    from_start, from_end = start + before, end - after  # values of the lines at the far nodes
    crossing = (from_end - start) / (before - after)
    crossing = torch.nan_to_num(crossing, nan=0.0, posinf=0.0, neginf=0.0).clamp(0.0, 1.0)
    at_crossing = torch.minimum(start + before * crossing, end - after * (1.0 - crossing))
    bound = torch.where(
        has_before & has_after,
        at_crossing,
        torch.where(has_before, from_start, torch.where(has_after, from_end, math.inf)),
    )
    nodes = torch.maximum(start, end)
    return torch.where(nodes == -math.inf, -math.inf, torch.maximum(bound, nodes))


class _Grid(NamedTuple):
    """Equal steps in a variable u from which z follows; per point (B,).

    u is z itself, unless the support ends at a bound inside the window.
    Then z = middle + half-width * tanh(pi/2 sinh u), for which equal steps converge as fast as
    they do for a density that decays (Takahasi & Mori 1974).
    """

    first: Tensor
    step: Tensor
    cells: int
    bounded: Tensor  # bool
    low: Tensor  # of the window, used where bounded
    high: Tensor

    def place(self, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """z and log dz/du at u = (first + offsets) * step, each (S, B)."""
        u = (self.first + offsets[:, None]) * self.step
        if not self.bounded.any():
            return u, torch.zeros_like(u)
        half = 0.5 * (self.high - self.low)
        s = 0.5 * math.pi * torch.sinh(u)
        log_cosh = s.abs() + torch.log1p(torch.exp(-2.0 * s.abs())) - math.log(2.0)
        z = torch.minimum(self.low + half * (1.0 + torch.tanh(s)), self.high)
        slope = torch.log(0.5 * math.pi * torch.cosh(u)) + torch.log(half) - 2.0 * log_cosh
        return torch.where(self.bounded, z, u), torch.where(self.bounded, slope, 0.0)

    def halved(self) -> _Grid:
        """The same range with twice the cells."""
        return self._replace(first=2 * self.first, step=0.5 * self.step, cells=2 * self.cells)


class _Level(NamedTuple):
    """A grid with nodes z and log p(x, z) + log dz/du there, (S, B); outside the grid too."""

    grid: _Grid
    z: Tensor
    log_p: Tensor


_BOUNDED_STEP = 0.25
_BOUNDED_END = 3.25  # of u, where the weights have fallen below 1e-16


class _Sums:
    """Sums over nodes of p, (z - centre) p, (z - centre)^2 p and p^2, with p scaled by exp(top)."""

    def __init__(self, centre: Tensor) -> None:
        self.centre = centre
        self.top = torch.full_like(centre, -math.inf)
        self.sums = [torch.zeros_like(centre) for _ in range(4)]

    def add(self, z: Tensor, log_p: Tensor) -> None:
        """Merge nodes (S, B)."""
        top = torch.maximum(self.top, log_p.amax(0))
        level = torch.where(top == -math.inf, 0.0, top)
        shrink, p = torch.exp(self.top - level), torch.exp(log_p - level)
        apart = z - self.centre
        new = [p.sum(0), (apart * p).sum(0), (apart.square() * p).sum(0), p.square().sum(0)]
        old = [part * shrink for part in self.sums[:3]] + [self.sums[3] * shrink.square()]
        self.sums = [a + b for a, b in zip(old, new, strict=True)]
        self.top = top

    def moments(self, step: Tensor) -> Moments:
        """What the sums say for nodes ``step`` apart."""
        mass, first, second, _ = self.sums
        shift = first / mass
        variance = (second / mass - shift.square()).clamp_min(0.0)
        return Moments(self.centre + shift, variance, self.top + torch.log(mass) + torch.log(step))

    def effective_nodes(self) -> Tensor:
        """Number of nodes that share the mass, (B,)."""
        return self.sums[0].square() / self.sums[3]


def _first_level(nodes: _Nodes, search: _Search) -> _Level:
    """The grid to refine, trimmed to the kept cells, with the nodes it starts from."""
    offsets = torch.arange(len(search.values), dtype=torch.float64)
    z = (search.first + offsets[:, None]) * search.step
    low, high = ((search.first + end) * search.step for end in (search.left, search.right + 1))
    ends = torch.stack([search.left, search.right + 1])
    jumps = search.values.gather(0, ends) == -math.inf  # (2, B): support ends in the outer cell
    bounded = jumps.any(0)
    cells = int((search.right - search.left).max()) + 1
    grid = _Grid(search.first + search.left, search.step, cells, bounded, low, high)
    if not bounded.any():
        return _Level(grid, z, search.values)
    low, high = _locate_bounds(nodes, jumps, low, high, search.step)
    grid = grid._replace(
        first=torch.where(bounded, -_BOUNDED_END / _BOUNDED_STEP, grid.first),
        step=torch.where(bounded, _BOUNDED_STEP, grid.step),
        cells=max(cells, int(2 * _BOUNDED_END / _BOUNDED_STEP)),
        low=low,
        high=high,
    )
    z, slope = grid.place(torch.arange(grid.cells + 1, dtype=torch.float64))
    return _Level(grid, z, nodes.at(z) + slope)


def _locate_bounds(
    nodes: _Nodes, jumps: Tensor, low: Tensor, high: Tensor, step: Tensor
) -> tuple[Tensor, Tensor]:
    """Bisect the outer cells in which the log joint goes from finite to -inf.

    Returns:
        Outermost finite z on either side, (B,) each; ends without a jump as they were.
    """
    outside = torch.stack([low, high])
    inside = torch.where(jumps, torch.stack([low + step, high - step]), outside)
    for _ in range(60):
        middle = (0.5 * (outside + inside)).to(nodes.dtype).double()
        finite = nodes.at(middle) > -math.inf
        inside = torch.where(jumps & finite, middle, inside)
        outside = torch.where(jumps & ~finite, middle, outside)
    return inside[0], inside[1]


def _refine(nodes: _Nodes, level: _Level, tolerance: float) -> Moments:
    """Halve the steps of all points until every answer is accurate."""
    grid, z, log_p = level
    centre = z.gather(0, log_p.argmax(0, keepdim=True))[0]
    history = []
    for stride in (8, 4, 2, 1):  # what coarser steps would have given
        sums = _Sums(centre)
        sums.add(z[::stride], log_p[::stride])
        history.append(sums.moments(stride * grid.step))
    while True:
        rounding = 8.0 * torch.finfo(nodes.result_dtype).eps * sums.top.abs().clamp_min(1.0)
        allowed = (rounding * history[-1].variance.sqrt().clamp_min(1.0)).clamp_min(tolerance)
        accurate = _error(history[-4:]) <= allowed
        accurate &= sums.effective_nodes() >= _LEAST_NODES
        # The nodes of the search alone never suffice: they decided where to look.
        if accurate.all() and len(history) > 4:
            return history[-1]
        if 2 * grid.cells > _MAX_CELLS:
            point = int((~accurate).nonzero()[0])
            raise PosteriorCollapseError(
                f"the posterior of point {point}, mean about {history[-1].mean[point].item():.6g}, "
                f"is not resolved by {grid.cells} steps of {grid.step[point].item():.3g}: it is "
                "too rough, or has peaks too narrow for the distance between them"
            )
        middles = torch.arange(grid.cells, dtype=torch.float64) + 0.5
        for offsets in middles.split(nodes.rows):
            z, slope = grid.place(offsets)
            nodes.require_exact(z[:, ~grid.bounded])
            sums.add(z, nodes.at(z) + slope)
        grid = grid.halved()
        history.append(sums.moments(grid.step))


def _error(levels: list[Moments]) -> Tensor:
    """Estimated error of the last of four levels, each with half the steps of the one before.

    If differences shrink by a factor r next time, what is still to come is about r times the last.
    For a smooth density they shrink ever faster, and r follows from how the factor itself has
    shrunk so far; for a rough one the factor stays what it was.
    It is taken as at least 0.01, in case two levels agree by chance, and the result is doubled.
    Where differences do not shrink clearly, the last one is the estimate.

    Returns:
        (B,): the largest of the errors of log evidence, and of mean and standard deviation in
        units of the smaller of 1 and the standard deviation.
    """
    first, second, last = (_difference(a, b) for a, b in itertools.pairwise(levels))
    factor = last / second
    following = torch.minimum(factor, factor * (factor * first / second)).clamp_min(0.01)
    shrinks = (factor < 0.5) & (last < 0.01)
    return torch.where(shrinks, 2.0 * last * following / (1.0 - following), last)


def _difference(one: Moments, other: Moments) -> Tensor:
    """Largest change from one answer to the other, in the units of :func:`_error`; (B,)."""
    std = other.variance.sqrt()
    unit = std.clamp(1e-300, 1.0)
    moved = torch.maximum((one.mean - other.mean).abs(), (one.variance.sqrt() - std).abs())
    return torch.maximum(moved / unit, (one.log_evidence - other.log_evidence).abs())
