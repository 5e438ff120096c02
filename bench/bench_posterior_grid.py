"""Posterior means of 500 sentences: adaptive quadrature beside the full grid of 4001 nodes.

Both decode with the same model, on one thread, in one process.
Times are processor times, which a busy machine changes less than wall time.
Prints one line for people and one line of JSON.

    python bench/bench_posterior_grid.py [--sentences 500]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from common import peak_memory
from torch import Tensor

from posterior_collapse.estimators import NODES_PER_CALL, Moments, posterior_moments_1d
from posterior_collapse.networks import VAE, text_vae
from posterior_collapse.posteriors import Diagonal
from posterior_collapse.priors import StandardNormal

VOCABULARY, HIDDEN, TOKENS = 1004, 50, 12  # the synthetic recipe: 10 words, start and end
NODES = 4001


def model_and_sentences(sentences: int, seed: int = 0) -> tuple[VAE, Tensor]:
    """An LSTM text VAE whose decoder uses z, and sentences that it generated with known z.

    The weights are random and large enough that posteriors are as narrow as a trained model's.
    """
    generator = torch.Generator().manual_seed(seed)
    model = text_vae(VOCABULARY, HIDDEN, HIDDEN, 1, 0.0, Diagonal(), StandardNormal()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.6, 0.6, generator=generator)
    z = torch.randn(sentences, 1, generator=generator)
    return model, generate(model, z, generator)


@torch.no_grad()
def generate(model: VAE, z: Tensor, generator: torch.Generator) -> Tensor:
    """Sentences (B, TOKENS) of one length drawn from p(x|z)."""
    decoder = model.decoder
    words = torch.ones(len(z), 1, dtype=torch.long)
    cell = decoder.state(z)[None]
    state = (torch.tanh(cell), cell)
    for _ in range(TOKENS - 2):
        inputs = torch.cat([decoder.embedding(words[:, -1]), z], -1)[None]
        output, state = decoder.lstm(inputs, state)
        logits = decoder.words(output[0])
        logits[:, :4] = -torch.inf  # no special words inside a sentence
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        words = torch.cat([words, drawn], 1)
    return torch.cat([words, torch.full((len(z), 1), 2)], 1)


@torch.no_grad()
def full_grid(log_joint: Callable[[Tensor], Tensor], batch: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation on 4001 nodes in [-20, 20] (He et al. 2019, equation 6)."""
    nodes = torch.linspace(-20.0, 20.0, NODES)
    rows = max(1, NODES_PER_CALL // batch)
    values = torch.cat([log_joint(z[:, None].expand(-1, batch)) for z in nodes.split(rows)])
    weights = values.double().softmax(0)
    mean = (weights * nodes[:, None]).sum(0)
    variance = (weights * (nodes[:, None] - mean).square()).sum(0)
    return mean, variance.sqrt()


class Counted:
    """log p(x, z) that counts its nodes and notes the largest call."""

    def __init__(self, model: VAE, x: Tensor) -> None:
        self.model, self.x, self.prior = model, x, model.prior
        self.nodes, self.largest = 0, 0

    def __call__(self, z: Tensor) -> Tensor:
        self.nodes += len(z)
        self.largest = max(self.largest, z.numel())
        z = z.unsqueeze(-1)
        return self.model.log_likelihood(self.x, z) + self.prior.log_prob(z)


def timed(work: Callable[[], Moments | tuple[Tensor, Tensor]]) -> tuple[float, tuple[Tensor, ...]]:
    """Seconds of processor time, and the result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, tuple(result)


def main() -> None:
    """Run both and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=500)
    sentences = parser.parse_args().sentences
    torch.set_num_threads(1)
    model, x = model_and_sentences(sentences)
    adaptive, grid = Counted(model, x), Counted(model, x)
    with torch.no_grad():
        adaptive(torch.zeros(2, sentences))  # warm up
    adaptive.nodes = adaptive.largest = 0
    seconds, (mean, variance, _) = timed(lambda: posterior_moments_1d(adaptive, sentences))
    memory = peak_memory()
    grid_seconds, (grid_mean, grid_std) = timed(lambda: full_grid(grid, sentences))
    std = variance.sqrt()
    result = {
        "sentences": sentences,
        "adaptive_seconds": round(seconds, 2),
        "grid_seconds": round(grid_seconds, 2),
        "ratio": round(grid_seconds / seconds, 1),
        "adaptive_nodes": adaptive.nodes,
        "grid_nodes": NODES,
        "largest_call": adaptive.largest,
        "max_mean_difference": (mean - grid_mean).abs().max().item(),
        "max_std_difference": (std - grid_std).abs().max().item(),
        "posterior_std_range": [round(std.min().item(), 4), round(std.max().item(), 4)],
        "peak_rss_mib_adaptive": round(memory),
    }
    print(
        f"{sentences} sentences: adaptive {seconds:.1f} s ({adaptive.nodes} nodes), "
        f"{NODES}-node grid {grid_seconds:.1f} s, ratio {result['ratio']}; largest difference of "
        f"means {result['max_mean_difference']:.1e}; at most {adaptive.largest} sequences a call"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
