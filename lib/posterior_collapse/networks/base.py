"""The model every method trains: an encoder, a posterior, a prior and a decoder."""

from __future__ import annotations

import enum
import warnings
from collections.abc import Iterator
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from posterior_collapse.layers import starts_as_in_torch
from posterior_collapse.posteriors import Posterior
from posterior_collapse.priors import Prior


class Latent(enum.StrEnum):
    """How the decoder sees the latent variable: the one choice of a method that is no slot."""

    INPUT = "input"  # as the recipe's decoder has it
    SKIP = "skip"  # and once more before the output layer (Dieng et al. 2019)
    NONE = "none"  # not at all: a language model


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
        follow = getattr(prior_head, "follow", None)
        if follow is not None:  # a prior that is stated in terms of the posterior's own scale
            follow(posterior_head)
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


class Network(Protocol):
    """Encoder and decoder of a recipe, with their initialisation."""

    @property
    def features(self) -> int:
        """F, size of what the encoder gives."""
        ...

    def encoder(self, size: int) -> nn.Module:
        """x (B, ...) -> features (B, F); ``size`` is the number of words or of pixels."""
        ...

    def decoder(self, size: int, latent_dim: int, latent: Latent) -> nn.Module:
        """See :class:`Decoder`."""
        ...

    def initialise(self, model: nn.Module, generator: torch.Generator) -> None:
        """Set the parameters, in place, but for those that keep their own."""
        ...


def build_vae(
    network: Network,
    size: int,
    latent_dim: int,
    posterior: Posterior,
    prior: Prior,
    latent: Latent = Latent.INPUT,
) -> VAE:
    """Join a recipe's networks with a method's slots; parameters are not yet initialised.

    Args:
        network: of the recipe.
        size: number of words or of pixels.
        latent_dim: D.
        posterior, prior: of the method.
        latent: of the method; without a latent variable D is 0, which every formula allows:
            the KL is 0 and the likelihood exact.
    """
    dim = 0 if latent is Latent.NONE else latent_dim
    with warnings.catch_warnings():
        # torch warns that there is nothing to initialise where D is 0.
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        encoder = network.encoder(size)
        if getattr(posterior, "encoder_as_in_torch", False):
            starts_as_in_torch(encoder)
        return VAE(
            encoder,
            posterior.build(network.features, dim),
            prior.build(dim),
            network.decoder(size, dim, latent),
        )
