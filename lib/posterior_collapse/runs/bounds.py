"""Whether a trained model keeps the least KL that its method promises."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from posterior_collapse.layers import Stochastic, use_generator
from posterior_collapse.networks import VAE
from posterior_collapse.objectives import divergence
from posterior_collapse.posteriors import DiagonalNormal, ScaledNormal, draw
from posterior_collapse.priors import AutoRegressiveNormal, UnitNormal

# A bound on the average over a batch is met by a test set only so far as running averages fit it.
_SLACK = 0.05
_BATCHES = 64  # that are looked at

_LOG = logging.getLogger(__name__)


class KLBound(NamedTuple):
    """A promised least KL and what became of it, nats per example."""

    kl_bound: float
    kl_in_training: float  # the average over training batches, normalised as in training
    kl_bound_broken: bool  # either KL is more than a twentieth below the bound


def promised_kl(model: VAE, q: Distribution) -> float | None:
    """The least average KL that a model's head or prior allows, nats; None if it promises none.

    D (gamma^2 + beta^2) / 2 for a batch norm, D delta for delta-VAE's posterior, and what an AR(1)
    prior costs every diagonal Gaussian.

    Args:
        model: gives head and prior.
        q: a posterior of the model.
    """
    gaussian = isinstance(q, DiagonalNormal) and not isinstance(q, ScaledNormal)
    if isinstance(model.prior, AutoRegressiveNormal) and gaussian:
        return model.prior.least_kl
    least: float | None = getattr(model.posterior_head, "least_kl", None)
    return least if isinstance(model.prior, UnitNormal) else None


@contextmanager
def as_in_training(head: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Let a head work as in training inside, and leave no trace of it.

    Args:
        head: its buffers, as running averages, are put back at the end.
        generator: of its noise.
    """
    before = {name: value.clone() for name, value in head.state_dict().items()}
    sources = [(m, m.generator) for m in head.modules() if isinstance(m, Stochastic)]
    was_training = head.training
    use_generator(head, generator)
    head.train()
    try:
        yield
    finally:
        head.train(was_training)
        head.load_state_dict(before)
        for module, source in sources:
            module.generator = source


@torch.no_grad()
def kl_bound(
    model: VAE, batches: Sequence[Tensor], kl: float | None, generator: torch.Generator
) -> KLBound | None:
    """Compare a model's KL with the one that its method promises.

    Args:
        model: trained; its encoder is used as it is.
        batches: as in training, at least one; some of them are looked at, in random order.
        kl: the KL that is reported, of the test set; None where there is none.
        generator: of the order and of a head's noise, on the CPU.

    Returns:
        None where nothing is promised.
    """
    device = batches[0].device
    noise = torch.Generator(device).manual_seed(int(generator.initial_seed()))
    order = torch.randperm(len(batches), generator=generator)[:_BATCHES].tolist()
    total, count, promised = 0.0, 0, None
    with as_in_training(model.posterior_head, noise):
        for place in order:
            q = model.posterior(batches[place])
            promised = promised_kl(model, q)
            if promised is None:
                return None
            kls = divergence(q, model.prior, draw(q, (1,), noise))
            total, count = total + float(kls.sum()), count + len(kls)
    assert promised is not None
    least = min(value for value in (total / count, kl) if value is not None)
    return KLBound(promised, total / count, least < (1.0 - _SLACK) * promised)


def warn_of(bound: KLBound, label: str, kl: float | None) -> None:
    """Say so in the log where a run breaks the bound of its method."""
    if bound.kl_bound_broken:
        reported = "none" if kl is None else f"{kl:.4g}"
        _LOG.warning(
            "%s breaks the bound of its method: a KL of at least %.4g nats is promised, found %.4g "
            "in training and %s on the test set",
            label,
            bound.kl_bound,
            bound.kl_in_training,
            reported,
        )
