"""The importance-weighted likelihood, and the terms of the ELBO from the same samples."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput, PosteriorCollapseError, whole
from posterior_collapse.estimators.estimate import (
    Estimate,
    posteriors,
    require_generator,
    require_model,
)
from posterior_collapse.objectives import Model
from posterior_collapse.posteriors import Delta, draw, gaussian_code

# Samples of z times examples that one call of log_likelihood decodes. It bounds memory whatever
# the number of samples; bench/bench_iw_nll.py shows the rate for several values.
SEQUENCES_PER_CALL = 1024

_LARGEST_EXPONENT = math.log(sys.float_info.max)


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


class Pass(NamedTuple):
    """One batch decoded from samples of its posterior; every tensor is (B,) in float64."""

    nll: Tensor
    nll_stderr: Tensor
    reconstruction: Tensor  # average of -log p(x|z)
    reconstruction_variance: Tensor  # of that average
    kl: Tensor  # average of log q(z|x) - log p(z)
    kl_variance: Tensor
    elbo_loss_variance: Tensor  # of the average of both, which vary together


def joined(passes: Sequence[Pass]) -> Pass:
    """One pass of all examples; ``passes`` of none are refused."""
    if not passes:
        raise BadInput("batches is empty")
    return Pass(*(torch.cat(column) for column in zip(*passes, strict=True)))


def decode(
    model: Model, x: Any, posterior: Distribution, num_samples: int, generator: torch.Generator
) -> Pass:
    """Decode ``num_samples`` draws for every example, a bounded number of sequences at a time.

    The KL is a closed form where torch.distributions has one for the pair of distributions, and
    the average over the samples otherwise.
    """
    prior, batch = model.prior, posterior.batch_shape[0]
    if isinstance(posterior, Delta):
        return _decode_once(model, x, posterior)
    step = max(1, SEQUENCES_PER_CALL // batch)
    weights, reconstruction, kl, total = _Weights(), _Spread(), _Spread(), _Spread()
    for start in range(0, num_samples, step):
        z = draw(posterior, (min(step, num_samples - start),), generator)  # (S, B, D)
        log_likelihood = gaussian.widen(model.log_likelihood(x, z))
        log_ratio = _log_ratio(posterior, prior, z)
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
    missed, closed = reconstruction.variance_of_mean(), _closed_kl(posterior, prior)
    terms = (
        (kl.mean, kl.variance_of_mean(), total.variance_of_mean())
        if closed is None
        else (closed, torch.zeros_like(closed), missed)
    )
    return Pass(weights.nll(), weights.stderr(), reconstruction.mean, missed, *terms)


def _decode_once(model: Model, x: Any, posterior: Delta) -> Pass:
    """One batch decoded from a posterior without spread: it has a reconstruction and no more."""
    likelihood = gaussian.widen(model.log_likelihood(x, posterior.mean[None]))[0]
    none, zero = torch.full_like(likelihood, math.inf), torch.zeros_like(likelihood)
    return Pass(none, none, -likelihood, zero, none, none, none)


def _log_ratio(posterior: Distribution, prior: Distribution, z: Tensor) -> Tensor:
    """log q(z|x) - log p(z) in float64, (S, B)."""
    return gaussian.widen(posterior.log_prob(z)) - gaussian.widen(prior.log_prob(z))


def _closed_kl(posterior: Distribution, prior: Distribution) -> Tensor | None:
    """KL of every example in float64 where torch knows a closed form, (B,)."""
    try:
        return gaussian.widen(kl_divergence(posterior, prior))
    except NotImplementedError:
        return None


def kl_and_variance(
    posterior: Distribution, prior: Distribution, samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """KL of every example and the variance of its estimate, 0 for a closed form; (B,) each."""
    if isinstance(posterior, Delta):
        none = gaussian.widen(posterior.mean.new_full(posterior.batch_shape, math.inf))
        return none, none
    closed = _closed_kl(posterior, prior)
    if closed is not None:
        return closed, torch.zeros_like(closed)
    spread = _Spread()
    spread.add(_log_ratio(posterior, prior, draw(posterior, (samples,), generator)))
    return spread.mean, spread.variance_of_mean()


def mean_of(posterior: Distribution) -> Tensor | None:
    """Posterior means (B, D); None where the distribution has none, or knows none.

    A Gaussian's is given as it is: one that is not finite is an error elsewhere.
    """
    try:
        mean = posterior.mean
    except (AttributeError, NotImplementedError):
        return None
    known = gaussian_code(posterior) is not None or bool(torch.isfinite(mean).all())
    return mean if known else None


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
        ``value`` (N,) in nats per example, in the order of the batches and in the dtype of the
        posterior's mean, and ``stderr`` (N,), the delta method's standard error of the logarithm
        of the mean weight.
        It is an understatement where the weights have no variance. ``n`` is K.

    Raises:
        BadInput: no batches, a bad number, no generator, or a model whose prior, posterior or log
            densities are not as :class:`Model` has them.
        PosteriorCollapseError: the model gives nan, or no sample a positive likelihood.
    """
    num_samples = whole("num_samples", num_samples)
    require_generator(generator)
    require_model(model, batches)
    passes, dtype = [], torch.float64
    with evaluating(model):
        for x, posterior in posteriors(model, batches):
            passes.append(decode(model, x, posterior, num_samples, generator))
            mean = mean_of(posterior)
            dtype = dtype if mean is None else mean.dtype
    total = joined(passes)
    return Estimate(total.nll.to(dtype), total.nll_stderr.to(dtype), num_samples)


def count_tokens(x: Any, padding: int = 0) -> int:
    """Words that a decoder predicts for ids (B, T): all but the first, and no ``padding``.

    Raises:
        BadInput: ``x`` is anything but a two-dimensional tensor of integers.
    """
    whole = isinstance(x, Tensor) and not (x.is_floating_point() or x.is_complex())
    if not whole or x.dim() != 2 or x.dtype == torch.bool:
        given = f"{x.dtype}, {x.dim()} dimensions" if isinstance(x, Tensor) else type(x).__name__
        raise BadInput(f"words are counted in a tensor of ids (B, T), given {given}")
    return int((x[:, 1:] != padding).sum())


def perplexity(nats: float) -> float | None:
    """exp of nats per word; None where no float holds it."""
    return math.exp(nats) if nats < _LARGEST_EXPONENT else None
