"""What the two posteriors of a Scale-VAE give, and what holds its means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from posterior_collapse.errors import BadInput, whole
from posterior_collapse.estimators.estimate import (
    posteriors,
    require_generator,
    require_model,
)
from posterior_collapse.estimators.likelihood import decode, evaluating, joined
from posterior_collapse.layers import Stochastic, use_generator
from posterior_collapse.networks.base import VAE
from posterior_collapse.objectives import Model
from posterior_collapse.posteriors import ScaledNormal, batch_spread, draw
from posterior_collapse.priors import UnitNormal


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
        """q(z|x), the model's own."""
        return self.model.posterior(x)

    def log_likelihood(self, x: Any, z: Tensor) -> Tensor:
        """log p(x|z) in nats, the model's own."""
        return self.model.log_likelihood(x, z)

    @property
    def prior(self) -> Distribution:
        """N(0, I)."""
        return UnitNormal(torch.zeros_like(self.model.prior.mean))


class _Printed(_UnitPrior):
    """Scale-VAE as its table reads: q and N(0, I) in the weights, q_hat in the decoder.

    A draw z of q is moved by (f - 1) mu before it is decoded.
    """

    def posterior(self, x: Any) -> Distribution:
        """q before its means are scaled; the scaled one is kept for the decoder."""
        self.scaled = _scaled(self.model.posterior(x))
        return self.scaled.unscaled

    def log_likelihood(self, x: Any, z: Tensor) -> Tensor:
        """log p(x|z + (f - 1) mu), nats."""
        moved = self.scaled.mean - self.scaled.unscaled.mean
        return self.model.log_likelihood(x, z + moved)


def _scaled(q: Distribution) -> ScaledNormal:
    """The posterior, which has to be a scaled one."""
    if not isinstance(q, ScaledNormal):
        raise BadInput(f"this measures a ScaledNormal posterior, given {type(q).__name__}")
    return q


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

    Raises:
        BadInput, PosteriorCollapseError: another posterior, and as
            :func:`posterior_collapse.estimators.importance_weighted_nll`.
    """
    num_samples = whole("num_samples", num_samples)
    batch_size = whole("batch_size", batch_size)
    require_generator(generator)
    require_model(model, batches)
    batches = list(batches)
    with evaluating(model):
        scaled = [_scaled(q) for _, q in posteriors(model, batches)]
        printed, unit = (
            joined(
                [decode(view, x, q, num_samples, generator) for x, q in posteriors(view, batches)]
            )
            for view in (_Printed(model), _UnitPrior(model))
        )
    means = [q.mean for q in scaled]
    squares = torch.cat([q.unscaled.mean for q in scaled]).square().mean(0)
    variances = torch.cat([q.variance for q in scaled]).mean(0)
    return ScaledEvaluation(
        trained_kl=printed.kl.mean().item(),
        trained_loss=(printed.reconstruction + printed.kl).mean().item(),
        printed_nll=printed.nll.mean().item(),
        unit_kl=unit.kl.mean().item(),
        unit_elbo_loss=(unit.reconstruction + unit.kl).mean().item(),
        unit_nll=unit.nll.mean().item(),
        mean_std=torch.cat(means).std(0).mean().item(),
        batch_std=_within_batches([part for m in means for part in m.split(batch_size)]),
        largest_factor=scaled[0].factor.max().item(),
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

    Raises:
        BadInput: another posterior, a bad number or no generator.
    """
    num_samples = whole("num_samples", num_samples)
    require_generator(generator)
    before = [(m, m.generator) for m in model.modules() if isinstance(m, Stochastic)]
    price, gain, examples = 0.0, 0.0, 0
    use_generator(model, generator)
    try:
        with evaluating(model):
            model.decoder.train()
            for x in batches:
                q = _scaled(model.posterior(x))
                z = draw(q, (num_samples,), generator)
                with torch.enable_grad():
                    leaf = z.detach().requires_grad_()
                    (slope,) = torch.autograd.grad(model.log_likelihood(x, leaf).sum(), leaf)
                gain += (slope * q.mean).sum().item() / num_samples
                price += q.unscaled.mean.square().sum().item()
                examples += len(q.mean)
    finally:
        for module, own in before:
            module.generator = own
    if not examples:
        raise BadInput("batches is empty")
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
