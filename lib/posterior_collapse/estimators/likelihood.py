"""The importance-weighted likelihood, and the terms of the ELBO from the same samples."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput, PosteriorCollapseError
from posterior_collapse.estimators.estimate import Estimate, require_count
from posterior_collapse.objectives import Model
from posterior_collapse.posteriors import Delta, draw

__all__ = [
    "SEQUENCES_PER_CALL",
    "Pass",
    "count_tokens",
    "decode",
    "evaluating",
    "importance_weighted_nll",
    "kl_of",
    "perplexity",
    "with_closed_kl",
]

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


def decode(
    model: Model, x: Any, posterior: Distribution, num_samples: int, generator: torch.Generator
) -> Pass:
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
    return Pass(
        weights.nll(),
        weights.stderr(),
        reconstruction.mean,
        reconstruction.variance_of_mean(),
        kl.mean,
        kl.variance_of_mean(),
        total.variance_of_mean(),
    )


def _decode_once(model: Model, x: Any, posterior: Delta) -> Pass:
    """One batch decoded from a posterior without spread: it has a reconstruction and no more."""
    likelihood = gaussian.widen(model.log_likelihood(x, posterior.mean[None]))[0]
    none, zero = torch.full_like(likelihood, math.inf), torch.zeros_like(likelihood)
    return Pass(none, none, -likelihood, zero, none, none, none)


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
    require_count("num_samples", num_samples)
    values, errors, dtype = [], [], None
    with evaluating(model):
        for x in batches:
            posterior = model.posterior(x)
            dtype = posterior.mean.dtype
            done = decode(model, x, posterior, num_samples, generator)
            values.append(done.nll)
            errors.append(done.nll_stderr)
    if dtype is None:
        raise BadInput("batches is empty")
    return Estimate(torch.cat(values).to(dtype), torch.cat(errors).to(dtype), num_samples)


def kl_of(
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


def with_closed_kl(done: Pass, posterior: Distribution, prior: Distribution) -> Pass:
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


def count_tokens(x: Any) -> int | None:
    """Words that a decoder predicts for ids (B, T): all but the first, padding (0) left out.

    None for anything but a two-dimensional integer tensor.
    """
    if not isinstance(x, Tensor) or x.dim() != 2 or x.is_floating_point() or x.is_complex():
        return None
    return int((x[:, 1:] != 0).sum())


def perplexity(nats: float) -> float | None:
    """exp of nats per word; None where no float holds it."""
    return math.exp(nats) if nats < _LARGEST_EXPONENT else None
