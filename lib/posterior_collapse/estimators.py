"""Questions asked of a trained model: likelihood, mutual information, the true posterior.

All results are in nats.
Randomness comes from the ``torch.Generator`` passed in, and from nowhere else.
Every Monte Carlo answer carries its standard error and the number it depends on.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput, PosteriorCollapseError
from posterior_collapse.layers import Stochastic, use_generator
from posterior_collapse.networks.base import VAE
from posterior_collapse.objectives import Model
from posterior_collapse.posteriors import Delta, Flowed, batch_spread, draw, gaussian_code
from posterior_collapse.priors import UnitNormal

__all__ = [
    "NODES_PER_CALL",
    "SEQUENCES_PER_CALL",
    "Estimate",
    "Evaluated",
    "Evaluation",
    "Model",
    "Moments",
    "ScaleBalance",
    "ScaledEvaluation",
    "aggregate_kl",
    "count_tokens",
    "evaluate",
    "evaluate_each",
    "evaluate_scaled",
    "evaluating",
    "importance_weighted_nll",
    "mutual_information",
    "perplexity",
    "posterior_moments_1d",
    "scale_balance",
]

# Samples of z times examples that one call of log_likelihood decodes. It bounds memory whatever
# the number of samples; bench/bench_iw_nll.py shows the rate for several values.
SEQUENCES_PER_CALL = 1024
# Nodes times points that one call of log_joint gets; bench/bench_posterior_grid.py.
NODES_PER_CALL = 1024
# Densities log q_j(z) held at once: 2 MB in float64, which stays in the cache.
_DENSITIES_PER_CHUNK = 2**18
_LARGEST_EXPONENT = math.log(sys.float_info.max)

_LOG_2PI = math.log(2.0 * math.pi)


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
def evaluating(model: Any) -> Iterator[None]:
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
    if isinstance(posterior, Delta):
        return _decode_once(model, x, posterior)
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


def _decode_once(model: Model, x: Any, posterior: Delta) -> _Pass:
    """One batch decoded from a posterior without spread: it has a reconstruction and no more."""
    likelihood = gaussian.widen(model.log_likelihood(x, posterior.mean[None]))[0]
    none, zero = torch.full_like(likelihood, math.inf), torch.zeros_like(likelihood)
    return _Pass(none, none, -likelihood, zero, none, none, none)


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
    with evaluating(model):
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
    None marks what the posterior has no answer for: mutual information, MPD and conditional
    entropy need a diagonal Gaussian (a flow's is that of z before the flow, as the papers
    measure it), the aggregated KL a standard normal prior as well, tokens and perplexity need
    text, and a delta posterior has neither likelihood nor KL.
    """

    nll: float | None  # importance-weighted, num_samples samples
    nll_stderr: float | None
    elbo_loss: float | None  # negative ELBO: reconstruction + KL of the decoded examples
    elbo_loss_stderr: float | None
    reconstruction: float  # average of -log p(x|z), z ~ q(z|x)
    reconstruction_stderr: float
    kl: float | None  # average KL(q(z|x) || p(z)) over all examples
    kl_stderr: float | None  # of the decoded examples' average; 0 for a closed form
    mutual_information: float | None
    mutual_information_stderr: float | None
    mutual_information_points: int  # aggregated; its ceiling is the logarithm of this
    batch_mutual_information: float | None  # the papers' form: at most the logarithm of the batch
    batch_mutual_information_points: int | None
    aggregate_kl: float | None  # KL(q_agg || N(0, I)) of all n_sentences points
    aggregate_kl_stderr: float | None
    mutual_posterior_divergence: float | None  # MPD over all pairs of points
    conditional_entropy: float | None  # of z given x
    active_units: int  # variance of the posterior mean, ddof 1, at least 0.01
    active_rank: int  # eigenvalues of its covariance, at least 0.01
    n_sentences: int  # encoded: KL, mutual information, MPD, units
    n_decoded: int  # of them, for NLL, ELBO and reconstruction
    n_tokens: int | None  # words predicted, each sentence's end included and its start not
    perplexity: float | None  # exp(nll * n_decoded / n_tokens)
    num_samples: int  # of z per example for nll, elbo_loss and reconstruction
    mi_samples: int  # of z per example for mutual information and the aggregated KL


def count_tokens(x: Any) -> int | None:
    """Words that a decoder predicts for ids (B, T): all but the first, padding (0) left out.

    None for anything but a two-dimensional integer tensor.
    """
    if not isinstance(x, Tensor) or x.dim() != 2 or x.is_floating_point() or x.is_complex():
        return None
    return int((x[:, 1:] != 0).sum())


class Evaluated(NamedTuple):
    """An evaluation, and the likelihood of each example, by which two models can be paired."""

    totals: Evaluation
    nll: Tensor | None  # (n_decoded,), importance-weighted, nats; None as in the totals


def evaluate_each(
    model: Model,
    batches: Iterable[Any],
    generator: torch.Generator,
    num_samples: int = 500,
    mi_samples: int = 10,
    aggregate: int | None = None,
    encoded: Iterable[Any] = (),
) -> Evaluated:
    """Measure a model; each example is encoded once, and one set of samples serves all.

    The KL is a closed form where torch.distributions has one for the pair of distributions, and
    the average over the samples otherwise.

    Args:
        model: see :class:`Model`; it runs in evaluation mode and is left as it was.
        batches: batches of x, at least two examples in all.
        generator: on the device of the posterior.
        num_samples: of z per example, for everything that is decoded.
        mi_samples: of z per example, for mutual information and the aggregated KL.
        aggregate: None, or the papers' batch size for ``batch_mutual_information``, whose batches
            are consecutive examples in a random order.
        encoded: batches of further x that are encoded and not decoded; they count in whatever
            needs the posteriors alone.

    Raises:
        BadInput, PosteriorCollapseError: see :func:`importance_weighted_nll`.
    """
    _require_count("num_samples", num_samples)
    _require_count("mi_samples", mi_samples)
    passes, encodings, tokens = [], [], []
    with evaluating(model):
        for x in batches:
            posterior = model.posterior(x)
            done = _decode(model, x, posterior, num_samples, generator)
            done = _with_closed_kl(done, posterior, model.prior)
            passes.append(done)
            encodings.append(_Encoding(posterior.mean, gaussian_code(posterior), done.kl))
            tokens.append(count_tokens(x))
        if not passes:
            raise BadInput("batches is empty")
        for x in encoded:
            posterior = model.posterior(x)
            kl = _kl_of(posterior, model.prior, mi_samples, generator)
            encodings.append(_Encoding(posterior.mean, gaussian_code(posterior), kl))
        total = _Pass(*(torch.cat(column) for column in zip(*passes, strict=True)))
        latent = _measure_latent(encodings, mi_samples, generator, aggregate)
        if not _is_unit_normal(model.prior) or isinstance(posterior, Flowed):
            latent |= {"aggregate_kl": None, "aggregate_kl_stderr": None}
    counted = [count for count in tokens if count is not None]
    n_tokens = sum(counted) if len(counted) == len(tokens) else None
    n, dense = len(total.nll), bool(torch.isfinite(total.kl).all())
    kl = torch.cat([encoding.kl for encoding in encodings])
    nll = total.nll.mean().item() if dense else None
    totals = Evaluation(
        nll=nll,
        nll_stderr=_stderr_of_mean(total.nll_stderr.square()) if dense else None,
        elbo_loss=(total.reconstruction + total.kl).mean().item() if dense else None,
        elbo_loss_stderr=_stderr_of_mean(total.elbo_loss_variance) if dense else None,
        reconstruction=total.reconstruction.mean().item(),
        reconstruction_stderr=_stderr_of_mean(total.reconstruction_variance),
        kl=kl.mean().item() if dense else None,
        kl_stderr=_stderr_of_mean(total.kl_variance) if dense else None,
        n_sentences=len(kl),
        n_decoded=n,
        n_tokens=n_tokens,
        perplexity=perplexity(nll * n / n_tokens) if n_tokens and nll is not None else None,
        num_samples=num_samples,
        mi_samples=mi_samples,
        **latent,
    )
    return Evaluated(totals, total.nll if dense else None)


def evaluate(
    model: Model,
    batches: Iterable[Any],
    generator: torch.Generator,
    num_samples: int = 500,
    mi_samples: int = 10,
    aggregate: int | None = None,
    encoded: Iterable[Any] = (),
) -> Evaluation:
    """As :func:`evaluate_each`, without the examples."""
    each = evaluate_each(model, batches, generator, num_samples, mi_samples, aggregate, encoded)
    return each.totals


class _Encoding(NamedTuple):
    """What stays of an encoded batch."""

    mean: Tensor  # (B, D)
    code: tuple[Tensor, Tensor] | None  # mean and log-variance of a diagonal Gaussian
    kl: Tensor  # (B,)


def _stderr_of_mean(variances: Tensor) -> float:
    """Standard error of the mean of N independent estimates with these variances."""
    return variances.sum().sqrt().item() / len(variances)


def _kl_of(
    posterior: Distribution, prior: Distribution, samples: int, generator: torch.Generator
) -> Tensor:
    """KL of every example in float64, from samples where there is no closed form, (B,)."""
    if isinstance(posterior, Delta):
        return gaussian.widen(posterior.mean.new_full(posterior.batch_shape, math.inf))
    try:
        return gaussian.widen(kl_divergence(posterior, prior))
    except NotImplementedError:
        z = draw(posterior, (samples,), generator)
        return gaussian.widen(posterior.log_prob(z) - prior.log_prob(z)).mean(0)


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


def _is_unit_normal(prior: Distribution) -> bool:
    """Whether a prior is N(0, I), by its moments."""
    if isinstance(prior, UnitNormal):
        return True
    if not isinstance(prior, Independent) or not isinstance(prior.base_dist, Normal):
        return False
    return bool((prior.mean == 0).all() and (prior.base_dist.scale == 1).all())


_OF_DIAGONAL_GAUSSIANS = (
    "mutual_information",
    "mutual_information_stderr",
    "batch_mutual_information",
    "aggregate_kl",
    "aggregate_kl_stderr",
    "mutual_posterior_divergence",
    "conditional_entropy",
)


def _measure_latent(
    encodings: list[_Encoding],
    mi_samples: int,
    generator: torch.Generator,
    aggregate: int | None,
) -> dict[str, Any]:
    """The fields of :class:`Evaluation` that need the posteriors alone."""
    mean = torch.cat([encoding.mean for encoding in encodings])
    codes = [encoding.code for encoding in encodings if encoding.code is not None]
    fields: dict[str, Any] = {
        **dict.fromkeys(_OF_DIAGONAL_GAUSSIANS),
        "mutual_information_points": len(mean),
        "batch_mutual_information_points": aggregate,
        "active_units": gaussian.active_units(mean),
        "active_rank": gaussian.active_rank(mean),
    }
    if len(codes) < len(encodings):
        return fields
    mean, logvar = (torch.cat(column) for column in zip(*codes, strict=True))
    information = mutual_information(mean, logvar, mi_samples, generator)
    distance = aggregate_kl(mean, logvar, mi_samples, generator)
    fields["mutual_information"] = information.value.item()
    fields["mutual_information_stderr"] = information.stderr.item()
    fields["aggregate_kl"] = distance.value.item()
    fields["aggregate_kl_stderr"] = distance.stderr.item()
    fields["mutual_posterior_divergence"] = _finite(
        gaussian.mutual_posterior_divergence(gaussian.widen(mean), gaussian.widen(logvar))
    )
    fields["conditional_entropy"] = _finite(gaussian.conditional_entropy(logvar))
    if aggregate is not None:
        # Batches of sentences are alike in length; the papers' estimate takes them at random.
        order = torch.randperm(len(mean), generator=generator, device=generator.device)
        order = order.to(mean.device)
        size = min(aggregate, len(mean))
        part = mutual_information(mean[order], logvar[order], mi_samples, generator, size)
        fields["batch_mutual_information"] = part.value.item()
    return fields


def perplexity(nats: float) -> float | None:
    """exp of nats per word; None where no float holds it."""
    return math.exp(nats) if nats < _LARGEST_EXPONENT else None


def _finite(value: Tensor) -> float | None:
    """A plain number; None where the dtype could not hold it."""
    number = value.item()
    return number if math.isfinite(number) else None


class ScaledEvaluation(NamedTuple):
    """What Scale-VAE's two posteriors give, apart (nats per example; theory in the book).

    q = N(mu, sigma^2) is what its KL is trained on and q_hat = N(f mu, sigma^2) what its decoder
    sees. :class:`Evaluation` measures q_hat under the prior N(0, f^2), which is a valid bound.
    """

    trained_kl: float  # KL(q || N(0, I))
    trained_loss: float  # reconstruction under q_hat + KL(q || N(0, I)): L_scale, no bound
    printed_nll: float  # importance weights with q and N(0, I) around q_hat's draws: no bound
    unit_kl: float  # KL(q_hat || N(0, I))
    unit_elbo_loss: float  # negative ELBO of q_hat under N(0, I): valid
    unit_nll: float  # importance-weighted under N(0, I): valid
    mean_std: float  # of q_hat's means over the examples, ddof 1, averaged over dimensions
    batch_std: (
        float | None
    )  # the same within batches as training has them, which is what f is set by
    largest_factor: float  # f
    mean_squares: float  # sum over dimensions of E mu^2 of q: twice the means' part of trained_kl
    second_moment: float  # E (mu^2 + sigma^2) of q, averaged over dimensions (theory, S10)


class _UnitPrior:
    """A model with its prior replaced by N(0, I)."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def posterior(self, x: Any) -> Distribution:
        return self.model.posterior(x)

    def log_likelihood(self, x: Any, z: Tensor) -> Tensor:
        return self.model.log_likelihood(x, z)

    @property
    def prior(self) -> Distribution:
        return UnitNormal(torch.zeros_like(self.model.prior.mean))


class _Printed(_UnitPrior):
    """Scale-VAE as its table reads: q and N(0, I) in the weights, q_hat in the decoder.

    A draw z of q is moved by (f - 1) mu before it is decoded.
    """

    def posterior(self, x: Any) -> Distribution:
        self.scaled = self.model.posterior(x)
        return cast(Distribution, self.scaled.unscaled)  # type: ignore[attr-defined]

    def log_likelihood(self, x: Any, z: Tensor) -> Tensor:
        moved = self.scaled.mean - self.scaled.unscaled.mean  # type: ignore[attr-defined]
        return self.model.log_likelihood(x, z + moved)


def evaluate_scaled(
    model: Model,
    batches: Sequence[Any],
    generator: torch.Generator,
    num_samples: int = 500,
    batch_size: int = 32,
) -> ScaledEvaluation:
    """Measure a model whose posterior is a :class:`posterior_collapse.posteriors.ScaledNormal`.

    Args:
        model: see :class:`Model`; it runs in evaluation mode and is left as it was.
        batches: batches of x, read three times.
        generator: on the device of the posterior.
        num_samples: of z per example.
        batch_size: largest batch of training; ``batches`` are cut to it where the spread within
            batches is measured.
    """
    found = []
    with evaluating(model):
        for view in (_Printed(model), _UnitPrior(model)):
            parts = []
            for x in batches:
                posterior = view.posterior(x)
                done = _decode(view, x, posterior, num_samples, generator)
                parts.append(_with_closed_kl(done, posterior, view.prior))
            found.append(_Pass(*(torch.cat(column) for column in zip(*parts, strict=True))))
        posteriors = [model.posterior(x) for x in batches]
        factor = posteriors[0].factor  # type: ignore[attr-defined]
        means = [q.mean for q in posteriors]
    squares = torch.cat([q.unscaled.mean for q in posteriors]).square().mean(0)  # type: ignore[attr-defined]
    variances = torch.cat([q.variance for q in posteriors]).mean(0)
    printed, unit = found
    return ScaledEvaluation(
        trained_kl=printed.kl.mean().item(),
        trained_loss=(printed.reconstruction + printed.kl).mean().item(),
        printed_nll=printed.nll.mean().item(),
        unit_kl=unit.kl.mean().item(),
        unit_elbo_loss=(unit.reconstruction + unit.kl).mean().item(),
        unit_nll=unit.nll.mean().item(),
        mean_std=torch.cat(means).std(0).mean().item(),
        batch_std=_within_batches([part for m in means for part in m.split(batch_size)]),
        largest_factor=factor.max().item(),
        mean_squares=squares.sum().item(),
        second_moment=(squares + variances).mean().item(),
    )


class ScaleBalance(NamedTuple):
    """What holds a Scale-VAE's means where they are; equal where their scale is at its optimum.

    Both are slopes in the logarithm of the means' scale, nats per example (theory, S9).
    """

    price: float  # of the trained KL: sum over dimensions of E mu^2
    gain: float  # of the reconstruction


def scale_balance(
    model: VAE, batches: Sequence[Tensor], generator: torch.Generator, num_samples: int = 4
) -> ScaleBalance:
    """Price and gain of the means of a :class:`posterior_collapse.posteriors.ScaledNormal`.

    It is what training sees that holds the means: give it training examples. The decoder has its
    dropout here, and the factor is the one that is shared.

    Args:
        model: left as it was.
        batches: of training examples.
        generator: on the device of the model; draws of z and of dropout come from it.
        num_samples: of z per example.
    """
    before = [(m, m.generator) for m in model.modules() if isinstance(m, Stochastic)]
    price, gain, examples = 0.0, 0.0, 0
    use_generator(model, generator)
    try:
        with evaluating(model):
            model.decoder.train()
            for x in batches:
                q = model.posterior(x)
                z = draw(q, (num_samples,), generator)
                with torch.enable_grad():
                    leaf = z.detach().requires_grad_()
                    (slope,) = torch.autograd.grad(model.log_likelihood(x, leaf).sum(), leaf)
                gain += (slope * q.mean).sum().item() / num_samples
                price += q.unscaled.mean.square().sum().item()  # type: ignore[attr-defined]
                examples += len(x)
    finally:
        for module, own in before:
            module.generator = own
    return ScaleBalance(price / examples, gain / examples)


def _within_batches(means: Sequence[Tensor]) -> float | None:
    """Standard deviation within batches (B, D), mean over examples and dimensions.

    The sentences of a training batch have one length, so this is less than over a whole set.
    A batch of one has none and does not count; None where there are no others.
    """
    total, examples = 0.0, 0
    for mean in means:
        if len(mean) > 1:
            spread, varies = batch_spread(mean, ddof=1, least=0.0)
            total += len(mean) * torch.where(varies, spread, 0.0).mean().item()
            examples += len(mean)
    return total / examples if examples else None


# --- the true posterior of a scalar latent variable -----------------------------------------------


class Moments(NamedTuple):
    """Of p(z|x) for a scalar z; each (batch,)."""

    mean: Tensor
    variance: Tensor
    log_evidence: Tensor  # log p(x), nats


_FIRST_CELLS = 40  # step 1 on [-20, 20]
_LEAST_CELLS = 18  # of a window: steps of less than one standard deviation
_EARLY_CELLS = 64  # a smaller window is halved twice, whatever it looks like
_WIDE_CELLS = 256  # beyond it, extending the range doubles the steps
_MARGINS = (60.0, 16.0)  # nats by which the first two cuts are more careful than later ones
_MAX_EXTENSIONS = 16  # each doubles or triples the range searched
_MAX_HALVINGS = 200
_URGENT = 1e9  # effect given to cells that must be evaluated
_MAX_CELLS = 2**18
_MAX_VALUES = 2**21  # cells times unfinished points, where a point has more than
_FREE_CELLS = 1024


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

    What He et al. 2019, equation 6, do with 4001 nodes on [-20, 20], which is wrong for a posterior
    narrower than their distance or outside their range.

    Steps are halved, starting from coarse ones, which grow beyond ``low`` and ``high`` where mass
    lies at an edge.
    Cells where a straight continuation of the log density from either side stays far below the
    best node are left out: 84 nats in the first round, 24 from the third on.
    A window of fewer than 18 cells is evaluated everywhere.
    Elsewhere it is evaluated where interpolation between the nodes may be wrong, judged by how
    wrong it was before, until that cannot matter.
    Nodes are whole multiples of a power of two, hence exact in float32 as well.
    A smooth posterior of standard deviation 0.2 to 1 takes 60 to 110 nodes, a rough one 200.
    As points are evaluated together, the roughest of them decides.

    A bump of which no node has an inkling is not found: one narrower than a quarter of the first
    step, say, that lies under a flank of something broader.
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
        Memory: in log_joint, at most NODES_PER_CALL values at once, or one per point; here, some
        arrays of four times the cells of a window, which are some hundreds per unfinished point
        and at most the larger of 1024 per point and 2 million in all.

    Raises:
        BadInput: a bad number or a wrong shape, or a posterior too narrow for ``dtype``.
        PosteriorCollapseError: log_joint gives nan or +inf, is -inf at all nodes, does not decay,
            or is too rough to integrate with so many steps.
    """
    _require_count("batch", batch)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise BadInput(f"low and high must be finite with low < high, given {low} and {high}")
    if not tolerance > 0.0:
        raise BadInput(f"tolerance must be positive, given {tolerance}")
    nodes = _Nodes(log_joint, batch, dtype or torch.get_default_dtype(), device)
    moments = _integrate(nodes, _start(nodes, low, high, tolerance))
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
        self.idle = torch.zeros(batch, dtype=torch.float64)  # where finished points are evaluated

    def at(self, z: Tensor, points: Tensor | None = None) -> Tensor:
        """Log joint of all points, or of the ``points`` (A,) given, at z (S, B) or (S, A).

        In chunks; the result is in float64, on the CPU, and of the shape of z.
        """
        if points is None:
            return torch.cat([self._call(rows) for rows in z.split(self.rows)])
        found = []
        for rows in z.split(self.rows):
            everywhere = self.idle.repeat(len(rows), 1)
            everywhere[:, points] = rows
            found.append(self._call(everywhere)[:, points])
        return torch.cat(found)

    def on_grid(self, first: int, last: int, step: Tensor) -> Tensor:
        """Log joint of all points at (first .. last) * step, (S, B)."""
        z = torch.arange(first, last + 1, dtype=torch.float64) * step
        columns = z[:, None].expand(-1, self.batch)
        self.require_exact(columns)
        return self.at(columns)

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


class _Window(NamedTuple):
    """Log density on the nodes (first + j) * step, j = 0 .. cells, of every point.

    All (B,) but ``values``, (C + 1, B), where C is the largest ``cells``.
    Rows beyond a point's last node continue in a straight line, down.
    """

    first: Tensor
    step: Tensor
    cells: Tensor  # int64
    values: Tensor


def _rows(count: int) -> Tensor:
    """0, 1, .. count - 1 as a column, int64."""
    return torch.arange(count)[:, None]


def _continued(values: Tensor, cells: Tensor) -> Tensor:
    """Replace rows beyond each point's last node by a straight continuation."""
    ends = torch.stack([cells, (cells - 1).clamp_min(0)])
    last, before = values.gather(0, ends)
    slope = torch.nan_to_num(last - before, nan=-1.0, neginf=-1.0).clamp_max(-1.0)
    beyond = _rows(len(values)) - cells
    return torch.where(beyond <= 0, values, last + beyond * slope)


def _cut(window: _Window, left: Tensor, right: Tensor) -> _Window:
    """The cells left .. right of every point."""
    cells = right - left + 1
    index = (left + _rows(int(cells.max()) + 1)).clamp_max(len(window.values) - 1)
    values = _continued(window.values.gather(0, index), cells)
    return _Window(window.first + left, window.step, cells, values)


def _halved(window: _Window, middles: Tensor) -> _Window:
    """Half the steps, given the log densities between the nodes (C, B)."""
    values = window.values.new_empty(2 * len(middles) + 1, middles.shape[1])
    values[::2], values[1::2] = window.values, middles
    cells = 2 * window.cells
    values = _continued(values, cells)
    return _Window(2 * window.first, 0.5 * window.step, cells, values)


# --- where to integrate


class _Task(NamedTuple):
    """What is to be integrated, and how well."""

    window: _Window
    scale: _Scale
    depth: float  # nats below the best node that count as nothing
    tolerance: float


def _start(nodes: _Nodes, low: float, high: float, tolerance: float) -> _Task:
    """The first windows, on coarse nodes."""
    depth = max(24.0, 10.0 - math.log(tolerance))  # beyond it lies less than tolerance / e^9
    window = _closed_window(nodes, low, high, depth + _MARGINS[0])
    window = _cut(window, *_kept_cells(window, depth + _MARGINS[0]))
    scale, window = _bounded(nodes, window)
    return _Task(window, scale, depth, tolerance)


def _closed_window(nodes: _Nodes, low: float, high: float, depth: float) -> _Window:
    """One grid for all points, extended until no point has mass at an end.

    An end is open if it is within ``depth`` of the best node, or if the density rises towards it.
    """
    step = _power_of_two(torch.tensor((high - low) / _FIRST_CELLS, dtype=torch.float64))
    first, last = math.floor(low / step), math.ceil(high / step)
    values = nodes.on_grid(first, last, step)
    for _ in range(_MAX_EXTENSIONS):
        near = values.amax(0) - depth
        left = ((values[0] >= near) & (values[0] > -math.inf)) | (values[0] > values[1])
        right = ((values[-1] >= near) & (values[-1] > -math.inf)) | (values[-1] > values[-2])
        if not (left | right).any():
            _require_mass(values)
            whole = torch.full((nodes.batch,), len(values) - 1)
            start, steps = (torch.full((nodes.batch,), float(v)) for v in (first, step))
            return _Window(start.double(), steps.double(), whole, values)
        while len(values) > _WIDE_CELLS:  # far out: every other node will do, the even ones
            values = values[first % 2 :: 2]
            first, step = (first + 1) // 2, 2 * step
            last = first + len(values) - 1
        span = last - first
        if left.any():
            values = torch.cat([nodes.on_grid(first - span, first - 1, step), values])
            first -= span
        if right.any():
            values = torch.cat([values, nodes.on_grid(last + 1, last + span, step)])
            last += span
    raise PosteriorCollapseError(
        f"log_joint of point {int((left | right).nonzero()[0])} does not decay on "
        f"[{float(first * step):.4g}, {float(last * step):.4g}]: it has no posterior, or one that "
        "is far away"
    )


def _require_mass(values: Tensor) -> None:
    """Refuse points that are -inf at all nodes."""
    empty = values.amax(0) == -math.inf
    if empty.any():
        raise PosteriorCollapseError(
            f"log_joint of point {int(empty.nonzero()[0])} is -inf at all {len(values)} nodes"
        )


def _kept_cells(window: _Window, depth: float) -> tuple[Tensor, Tensor]:
    """First and last cell that may hold density within ``depth`` nats of the best node, (B,)."""
    keep = _cell_ranges(window.values).high >= window.values.amax(0) - depth
    keep = (keep & (_rows(len(keep)) < window.cells)).to(torch.int8)
    return keep.argmax(0), len(keep) - 1 - keep.flip(0).argmax(0)


class _Range(NamedTuple):
    """What the log density in the middle of a cell may be, (C, B)."""

    low: Tensor
    high: Tensor


def _cell_ranges(values: Tensor) -> _Range:
    """Values that the log density may have within the cells between equidistant nodes.

    They reach from node to node, and as far as the lines through the two nodes before a cell, and
    through the two after it, go inside the cell.
    A peak much narrower than a cell shows in these lines as long as one node lies on its flank,
    whatever the node on the other side lies on.
    A line through -inf says nothing; without either line a cell next to a finite node is unbounded.

    Args:
        values: (C + 1, B).
    """
    start, end = values[:-1], values[1:]
    slopes = end - start  # per cell; nan between two -inf
    unknown = torch.full_like(slopes[:1], math.nan)
    at_end = start + torch.cat([unknown, slopes[:-1]])
    at_start = end - torch.cat([slopes[1:], unknown])
    known = torch.isfinite(at_end) | torch.isfinite(at_start)
    far_end, far_start = (
        torch.where(torch.isfinite(line), line, torch.maximum(start, end))
        for line in (at_end, at_start)
    )
    nodes_high, nodes_low = torch.maximum(start, end), torch.minimum(start, end)
    high = torch.maximum(nodes_high, torch.maximum(far_end, far_start))
    low = torch.minimum(nodes_low, torch.minimum(far_end, far_start))
    high = torch.where(known, high, math.inf)
    return _Range(low, torch.where(nodes_high == -math.inf, -math.inf, high))


# --- support that ends


class _Scale(NamedTuple):
    """How z follows from the equidistant variable u; per point (B,).

    u is z itself, unless the support ends at a bound inside the window.
    Then z = middle + half-width * tanh(pi/2 sinh u), for which equal steps converge as fast as
    they do for a density that decays (Takahasi & Mori 1974).
    """

    bounded: Tensor  # bool
    low: Tensor  # of the window, used where bounded
    high: Tensor

    def place(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """z and log dz/du, each (S, B)."""
        if not self.bounded.any():
            return u, torch.zeros_like(u)
        inside = u.clamp(-4.0, 4.0)
        half = 0.5 * (self.high - self.low)
        s = 0.5 * math.pi * torch.sinh(inside)
        log_cosh = s.abs() + torch.log1p(torch.exp(-2.0 * s.abs())) - math.log(2.0)
        z = torch.minimum(self.low + half * (1.0 + torch.tanh(s)), self.high)
        slope = torch.log(0.5 * math.pi * torch.cosh(inside)) + torch.log(half) - 2.0 * log_cosh
        return torch.where(self.bounded, z, u), torch.where(self.bounded, slope, 0.0)


_BOUNDED_STEP = 0.25
_BOUNDED_END = 3.25  # of u, where the weights have fallen below 1e-16


def _bounded(nodes: _Nodes, window: _Window) -> tuple[_Scale, _Window]:
    """Give points whose support ends in an outer cell of their window the scale for that."""
    ends = torch.stack([torch.zeros_like(window.cells), window.cells])
    jumps = window.values.gather(0, ends) == -math.inf  # (2, B)
    low = window.first * window.step
    high = (window.first + window.cells) * window.step
    scale = _Scale(jumps.any(0), low, high)
    if not jumps.any():
        return scale, window
    scale = _Scale(scale.bounded, *_locate_bounds(nodes, jumps, low, high, window.step))
    rows = _rows(max(len(window.values), round(2 * _BOUNDED_END / _BOUNDED_STEP) + 1))
    u = (_BOUNDED_STEP * rows - _BOUNDED_END).expand(-1, nodes.batch)
    z, slope = scale.place(torch.where(scale.bounded, u, low))
    index = rows.clamp_max(len(window.values) - 1).expand_as(z)
    values = torch.where(scale.bounded, nodes.at(z) + slope, window.values.gather(0, index))
    cells = torch.where(scale.bounded, len(rows) - 1, window.cells)
    first = torch.where(scale.bounded, -_BOUNDED_END / _BOUNDED_STEP, window.first)
    step = torch.where(scale.bounded, _BOUNDED_STEP, window.step)
    return scale, _Window(first, step, cells, _continued(values, cells))


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


# --- integration


def _interpolated(values: Tensor) -> Tensor:
    """Log density in the middle of every cell, from the three nodes on either side; (C, B).

    The polynomial of degree 5, kept within the range of the cell.
    """
    lines = [2.0 * values[:1] - values[1:2], 2.0 * values[-1:] - values[-2:-1]]
    far = [2.0 * lines[0] - values[:1], 2.0 * lines[1] - values[-1:]]
    padded = torch.cat([far[0], lines[0], values, lines[1], far[1]])
    count = len(values) - 1
    near, next_, outer = (
        padded[2 - k : 2 - k + count] + padded[3 + k : 3 + k + count] for k in range(3)
    )
    middle = (150.0 * near - 25.0 * next_ + 3.0 * outer) / 256.0
    ranges = _cell_ranges(values)
    middle = torch.where(torch.isfinite(middle), middle, torch.minimum(values[:-1], values[1:]))
    return torch.maximum(torch.minimum(middle, ranges.high), ranges.low)


def _moments(window: _Window, scale: _Scale) -> Moments:
    """Sums over the nodes and three interpolated ones in every cell."""
    for _ in range(2):
        window = _halved(window, _interpolated(window.values))
    z, _ = scale.place((window.first + _rows(len(window.values))) * window.step)
    best = window.values.argmax(0, keepdim=True)
    top, centre = window.values.gather(0, best)[0], z.gather(0, best)[0]
    p = torch.exp(window.values - top)
    mass, apart = p.sum(0), z - centre
    shift = (p * apart).sum(0) / mass
    variance = (p * (apart - shift).square()).sum(0) / mass
    return Moments(centre + shift, variance, top + torch.log(mass) + torch.log(window.step))


class _State(NamedTuple):
    """The A points whose steps are still halved; per cell (C, A), per point (A,)."""

    points: Tensor  # which of the batch they are
    window: _Window
    scale: _Scale
    doubt: Tensor  # per cell: how far its interpolated middle may be off, in nats
    parent: Tensor  # per cell: by how much the middle of the cell it is half of was off
    spent: Tensor  # per point: squared effect of middles that were interpolated for good


def _integrate(nodes: _Nodes, task: _Task) -> Moments:
    """Halve steps until every answer is accurate, evaluating only where interpolation is in doubt.

    A window of fewer than ``_LEAST_CELLS`` cells is evaluated everywhere.
    Elsewhere, what a cell does to the answer is the doubt about it times the share of the mass
    that it may hold.
    """
    one = torch.ones_like(task.window.values[1:])
    everything = torch.arange(nodes.batch)
    state = _State(everything, task.window, task.scale, one, math.nan * one, 0.0 * one[0])
    answer = Moments(*(torch.zeros(nodes.batch, dtype=torch.float64) for _ in range(3)))
    for halvings in range(_MAX_HALVINGS):
        early = halvings < len(_MARGINS)
        state = _trimmed(state, task.depth + (_MARGINS[halvings] if early else 0.0))
        moments = _moments(state.window, state.scale)
        effect = state.doubt * _influence(state.window, state.scale, moments)
        error = (state.spent + effect.square().sum(0)).sqrt()
        allowed = _allowed(nodes, state.window, moments, task.tolerance)
        coarse = state.window.cells < (_EARLY_CELLS if early else _LEAST_CELLS)
        rough = coarse | (error > allowed)
        for part, values in zip(answer, moments, strict=True):
            part[state.points] = values
        if not rough.any():
            return answer
        nodes.idle[state.points] = moments.mean
        inside = _rows(len(effect)) < state.window.cells
        urgent = torch.where(coarse & inside, _URGENT, effect)[:, rough]
        index = _doubtful(urgent, 0.2 * allowed[rough])
        state = _selected(state, rough)
        _require_room(state, moments.mean[rough])
        state = _refined(nodes, state, effect[:, rough], index)
    raise PosteriorCollapseError(
        f"log_joint of point {int(state.points[0])} has a peak narrower than "
        f"{state.window.step[0].item():.3g} near z = {answer.mean[state.points[0]].item():.6g}"
    )


def _selected(state: _State, which: Tensor) -> _State:
    """The state of some of its points."""
    window, scale = state.window, state.scale
    return _State(
        state.points[which],
        _Window(
            window.first[which], window.step[which], window.cells[which], window.values[:, which]
        ),
        _Scale(scale.bounded[which], scale.low[which], scale.high[which]),
        state.doubt[:, which],
        state.parent[:, which],
        state.spent[which],
    )


def _trimmed(state: _State, depth: float) -> _State:
    """The state without cells that hold nothing within ``depth`` nats of the best node."""
    left, right = _kept_cells(state.window, depth)
    window = _cut(state.window, left, right)
    index = (left + _rows(len(window.values) - 1)).clamp_max(len(state.doubt) - 1)
    doubt, parent = state.doubt.gather(0, index), state.parent.gather(0, index)
    return state._replace(window=window, doubt=doubt, parent=parent)


def _allowed(nodes: _Nodes, window: _Window, moments: Moments, tolerance: float) -> Tensor:
    """The tolerance, or what the rounding of log_joint in its own dtype makes of it; (B,)."""
    rounding = 8.0 * torch.finfo(nodes.result_dtype).eps
    floor = rounding * window.values.amax(0).abs().clamp_min(1.0)
    return (floor * moments.variance.sqrt().clamp_min(1.0)).clamp_min(tolerance)


def _refined(nodes: _Nodes, state: _State, effect: Tensor, index: Tensor) -> _State:
    """Halve the steps of all points, evaluating the cells in ``index`` (S, A).

    The surprise of an evaluated cell is how far interpolation was off in its middle.
    If halving reduced it by a factor, halving again is taken to do so once more; where there is
    nothing to compare with, by four. An eighth or less would be right for a smooth density.
    """
    _, window, scale, doubt, parent, spent = state
    z, slope = scale.place((window.first + index + 0.5) * window.step)
    nodes.require_exact(z[:, ~scale.bounded])
    expected = _interpolated(window.values)
    found = nodes.at(z, state.points) + slope
    surprise = torch.nan_to_num((found - expected.gather(0, index)).abs(), nan=0.0, posinf=50.0)
    checked = torch.zeros_like(expected, dtype=torch.bool).scatter_(0, index, True)
    known = doubt.scatter(0, index, surprise)
    shrink = torch.where(checked, known / parent, 0.25).nan_to_num(nan=0.25)
    following = known * shrink.clamp(1.0 / 64.0, 1.0)
    halves = _halved(window, expected.scatter(0, index, found))
    return state._replace(
        window=halves,
        doubt=_inherited(following, window.cells, halves),
        parent=_inherited(known, window.cells, halves),
        spent=spent + torch.where(checked, 0.0, effect).square().sum(0),
    )


def _doubtful(effect: Tensor, allowed: Tensor) -> Tensor:
    """Cells (S, B) to evaluate so that the rest, added in squares, has no more effect than allowed.

    S is what the worst point needs; the others get their next worst cells as well.
    """
    ordered, index = effect.sort(dim=0, descending=True)
    rest = ordered.square().flip(0).cumsum(0).flip(0).sqrt()  # of a cell and all after it
    return index[: int((rest > allowed).sum(0).max())]


def _influence(window: _Window, scale: _Scale, moments: Moments) -> Tensor:
    """Change of the answer, relative to what is asked, for one nat in the middle of a cell; (C, B).

    The largest of the changes of log evidence, mean and standard deviation.
    The middle of a cell counts half of it, and later halvings add a third of that again.
    """
    rows = _rows(len(window.values) - 1)
    z, _ = scale.place((window.first + rows + 0.5) * window.step)
    std = moments.variance.sqrt().clamp_min(1e-300)
    away = (z - moments.mean).abs() / std
    # A unit of the answer is the smaller of 1 and the standard deviation.
    weight = torch.maximum(away, 0.5 * (away.square() - 1.0)) * std.clamp_min(1.0)
    share = torch.exp(_cell_ranges(window.values).high - moments.log_evidence) * window.step
    influence = (2.0 / 3.0) * share.clamp_max(1e6) * weight.clamp_min(1.0)
    return torch.where(rows < window.cells, influence, 0.0)


def _inherited(found: Tensor, cells: Tensor, window: _Window) -> Tensor:
    """What halves take over from their cells: the largest found there and in the two neighbours.

    Args:
        found: (C, A), per cell before.
        cells: (A,), how many there were.
        window: with the halves.

    Returns:
        (2 C, A).
    """
    inside = torch.where(_rows(len(found)) < cells, found, 0.0)
    around = torch.nn.functional.max_pool1d(inside.T[None], 3, stride=1, padding=1)[0].T
    return around.repeat_interleave(2, 0)[: len(window.values) - 1]


def _require_room(state: _State, mean: Tensor) -> None:
    """Stop where steps have been halved too often."""
    window = state.window
    cells = 2 * (len(window.values) - 1)
    room = max(_FREE_CELLS, _MAX_VALUES // len(state.points))
    if cells <= min(room, _MAX_CELLS):
        return
    worst = int(window.cells.argmax())
    raise PosteriorCollapseError(
        f"the posterior of point {int(state.points[worst])}, mean about {mean[worst].item():.6g}, "
        f"is not resolved by {cells // 2} steps of {window.step[worst].item():.3g}: it is too "
        "rough, or has peaks too narrow for the distance between them"
    )
