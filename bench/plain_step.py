"""The text VAE as one would write it in plain torch: what ``bench_training_step.py`` compares with.

``nn.LSTM``, ``nn.Dropout``, ``cross_entropy``, ``clip_grad_norm_`` and torch's optimisers with
their own settings, all in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Size(NamedTuple):
    """Of a model and of its batches."""

    batch: int
    words: int  # predicted a sentence
    vocabulary: int
    embedding: int
    hidden: int
    latent: int


class PlainVAE(nn.Module):
    """The library's text VAE with a diagonal Gaussian; modules in the order of its parameters."""

    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        self.read = nn.Embedding(size.vocabulary, size.embedding)
        self.encoder = nn.LSTM(size.embedding, size.hidden)
        self.head = nn.Linear(size.hidden, 2 * size.latent, bias=False)
        self.written = nn.Embedding(size.vocabulary, size.embedding)
        self.state = nn.Linear(size.latent, size.hidden, bias=False)
        self.decoder = nn.LSTM(size.embedding + size.latent, size.hidden)
        self.words = nn.Linear(size.hidden, size.vocabulary, bias=False)
        self.dropout_in, self.dropout_out = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Negative ELBO of sentences (B, T), mean in nats."""
        _, (last, _) = self.encoder(self.read(x.t()))
        mean, logvar = self.head(last[0]).chunk(2, -1)
        kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).sum(-1)
        noise = torch.randn(mean.shape, generator=generator)
        z = mean + torch.exp(0.5 * logvar) * noise
        inputs, targets = x[:, :-1].t(), x[:, 1:].t()
        embedded = self.dropout_in(self.written(inputs))
        joined = torch.cat([embedded, z.expand(len(inputs), -1, -1)], dim=-1)
        cell = self.state(z).unsqueeze(0)
        outputs, _ = self.decoder(joined, (torch.tanh(cell), cell))
        logits = self.words(self.dropout_out(outputs)).flatten(0, 1)
        losses = F.cross_entropy(logits, targets.reshape(-1), reduction="none")
        return (losses.view(targets.shape).sum(0) + kl).mean()


OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
}


def plain_stepper(
    model: PlainVAE, optimiser: str, rate: float, batches: Sequence[Tensor]
) -> Callable[[], None]:
    """One update a call, on one batch after another."""
    optimise = OPTIMISERS[optimiser](model.parameters(), lr=rate)
    done = 0

    def step() -> None:
        nonlocal done
        optimise.zero_grad()
        loss = model(batches[done % len(batches)])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimise.step()
        done += 1

    return step
