"""The model every method trains: an encoder, a posterior, a prior and a decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from posterior_collapse.errors import BadInput

__all__ = ["VAE", "Decoder", "Dropout", "use_generator"]


class Dropout(nn.Module):
    """Inverted dropout whose masks come from a generator of its own.

    torch's dropout draws from the global random state, which a library must not seed.
    """

    generator: torch.Generator | None

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0.0 <= probability < 1.0:
            raise BadInput(f"a dropout probability lies in [0, 1), given {probability}")
        self.probability = probability
        self.generator = None

    def forward(self, values: Tensor) -> Tensor:
        """Zero each entry with the probability and rescale the rest; identity in eval mode."""
        if not self.training or self.probability == 0.0:
            return values
        keep = 1.0 - self.probability
        mask = torch.empty_like(values).bernoulli_(keep, generator=self.generator).div_(keep)
        return values * mask


def use_generator(model: nn.Module, generator: torch.Generator | None) -> None:
    """Let every :class:`Dropout` of a model draw its masks from ``generator``."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.generator = generator


class Decoder(Protocol):
    """p(x|z)."""

    def __call__(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z) in nats: x (B, ...), z (S, B, D) -> (S, B)."""
        ...


class VAE(nn.Module):
    """A variational autoencoder: the contract that every estimator relies on.

    ``posterior(x)`` is a torch distribution with batch shape (B,) and event shape (D,),
    ``log_likelihood(x, z)`` maps z (S, B, D) to (S, B) in nats, and ``prior`` is a torch
    distribution with event shape (D,).

    Args:
        encoder: x (B, ...) -> features (B, F).
        posterior_head: features -> distribution (slot 1).
        prior_head: () -> distribution (slot 2).
        decoder: see :class:`Decoder`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        posterior_head: nn.Module,
        prior_head: nn.Module,
        decoder: nn.Module,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.posterior_head = posterior_head
        self.prior_head = prior_head
        self.decoder = decoder

    def posterior(self, x: Tensor) -> Distribution:
        """q(z|x), batch shape (B,), event shape (D,)."""
        return cast(Distribution, self.posterior_head(self.encoder(x)))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z) in nats, z (S, B, D) -> (S, B)."""
        return cast(Tensor, self.decoder(x, z))

    @property
    def prior(self) -> Distribution:
        """p(z), event shape (D,)."""
        return cast(Distribution, self.prior_head())

    def inference_parameters(self) -> Iterator[nn.Parameter]:
        """phi: what the inner loop of aggressive training updates."""
        yield from self.encoder.parameters()
        yield from self.posterior_head.parameters()

    def generative_parameters(self) -> Iterator[nn.Parameter]:
        """theta: decoder and prior."""
        yield from self.prior_head.parameters()
        yield from self.decoder.parameters()
