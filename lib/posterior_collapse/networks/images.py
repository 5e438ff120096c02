"""Multilayer perceptrons for images (Zhang et al. 2021, appendix B)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posterior_collapse.errors import BadInput
from posterior_collapse.layers import initialised_by_recipe, start_as_in_torch
from posterior_collapse.networks.base import Latent


def _perceptron(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear maps with tanh after each."""
    layers = [(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(sizes)]
    return nn.Sequential(*(layer for pair in layers for layer in pair))


class ImageDecoder(nn.Module):
    """p(x|z): independent Bernoulli pixels, whose logits come from a perceptron on z.

    Grey values in [0, 1] enter as expected black pixels, as the paper does; the result is then
    a cross-entropy and no log-probability of the grey values.

    Args:
        pixels: P.
        hidden: sizes of the hidden layers, from z to x.
        latent_dim: D.
        latent: whether z also skips the hidden layers.
    """

    def __init__(
        self, pixels: int, hidden: tuple[int, ...], latent_dim: int, latent: Latent
    ) -> None:
        super().__init__()
        self.layers = _perceptron((latent_dim, *hidden))
        self.skip = latent is Latent.SKIP
        self.pixels = nn.Linear(hidden[-1] + self.skip * latent_dim, pixels)

    def _logits(self, z: Tensor) -> Tensor:
        """z (..., D) -> (..., P)."""
        shown = self.layers(z)
        if self.skip:
            shown = torch.cat([shown, z], dim=-1)
        return torch.as_tensor(self.pixels(shown))

    def mean(self, z: Tensor) -> Tensor:
        """E[x|z], the probabilities of black: z (..., D) -> (..., P)."""
        return torch.sigmoid(self._logits(z))

    def pictures(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """What is shown for z (N, D): the expected images (N, P), which need no draw."""
        return self.mean(z)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z), nats per image: x (B, P), z (S, B, D) -> (S, B)."""
        logits = self._logits(z)  # (S, B, P)
        return -F.binary_cross_entropy_with_logits(
            logits, x.expand_as(logits), reduction="none"
        ).sum(-1)


@dataclass(frozen=True)
class ImageNetwork:
    """Perceptron encoder and decoder (Zhang et al. 2021: two layers of 200 units, tanh)."""

    hidden: tuple[int, ...] = (200, 200)

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise BadInput(f"an image network has hidden layers of at least 1, given {self.hidden}")

    @property
    def features(self) -> int:
        """See :class:`posterior_collapse.networks.base.Network`, as for the other methods."""
        return self.hidden[-1]

    def encoder(self, size: int) -> nn.Module:
        """``size`` is the number of pixels."""
        return _perceptron((size, *self.hidden))

    def decoder(self, size: int, latent_dim: int, latent: Latent) -> ImageDecoder:
        """``size`` is the number of pixels."""
        return ImageDecoder(size, tuple(reversed(self.hidden)), latent_dim, latent)

    @torch.no_grad()
    def initialise(self, model: nn.Module, generator: torch.Generator) -> None:
        """Weights uniform with variance 2 / (fan in + fan out) (Glorot & Bengio 2010), biases 0.

        All but those of modules that start as in PyTorch; see
        :func:`posterior_collapse.layers.starts_as_in_torch`.
        """
        for parameter in initialised_by_recipe(model):
            if parameter.dim() < 2:
                parameter.zero_()
                continue
            bound = (6.0 / max(1, sum(parameter.shape[:2]))) ** 0.5
            parameter.uniform_(-bound, bound, generator=generator)
        start_as_in_torch(model, generator)
