"""IW-NLL with 500 samples: rate beside matrix products of this machine, and peak memory.

The work counted is that of the decoder: the LSTM's products and the map to the vocabulary.
The softmax, the sampling and the encoder are not counted but take their time.
Two products are the yardsticks, and take turns with the estimate: a square one, and the decoder's
own (128, hidden) x (hidden, vocabulary).

Memory is measured in a process of its own for each number of samples.

    python bench/bench_iw_nll.py [--sentences 64] [--chunks 128 512 2048] [--json]
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from typing import Any

import torch
from bench_posterior_grid import HIDDEN, TOKENS, VOCABULARY, model_and_sentences
from common import (
    PRODUCT_FLOP,
    busy_cores,
    interleaved,
    machine,
    median_ratio,
    peak_memory,
    product,
    report,
    table,
)

from posterior_collapse.estimators import importance_weighted_nll, likelihood

SAMPLES = 500
MEMORY_SAMPLES = (50, 500, 2000)
STEPS = TOKENS - 1  # predictions per sentence
OWN_ROWS = 128
OWN_FLOP = 2 * OWN_ROWS * HIDDEN * VOCABULARY


def flop_per_sequence(latent_dim: int = 1) -> int:
    """Multiplications and additions of one decoded sentence."""
    gates = 2 * 4 * HIDDEN * (HIDDEN + latent_dim + HIDDEN)
    return STEPS * (gates + 2 * HIDDEN * VOCABULARY)


def own_product() -> Callable[[], object]:
    """The decoder's product of hidden states and vocabulary, in the cache."""
    left, right = torch.randn(OWN_ROWS, HIDDEN), torch.randn(HIDDEN, VOCABULARY)
    out = torch.empty(OWN_ROWS, VOCABULARY)
    return lambda: torch.mm(left, right, out=out)


def estimate(sentences: int, samples: int) -> Callable[[int], object]:
    """IW-NLL as a function of the number of sequences a call decodes."""
    model, x = model_and_sentences(sentences)
    generator = torch.Generator().manual_seed(0)

    def run(sequences: int) -> object:
        likelihood.SEQUENCES_PER_CALL = sequences
        return importance_weighted_nll(model, [x], samples, generator)

    return run


def peak(sentences: int, samples: int) -> int:
    """Peak resident memory in MiB of a process that makes one estimate."""
    torch.set_num_threads(1)
    estimate(sentences, samples)(likelihood.SEQUENCES_PER_CALL)
    return round(peak_memory())


def rates(sentences: int, chunks: list[int], rounds: int) -> list[dict[str, Any]]:
    """Time and share of both yardsticks for every chunk size."""
    run, square, own = estimate(sentences, SAMPLES), product(), own_product()

    def work(chunk: int) -> Callable[[], object]:
        return lambda: run(chunk)

    actions: dict[str, Callable[[], object]] = {
        "square": lambda: [square() for _ in range(50)],
        "own": lambda: [own() for _ in range(1000)],
        **{str(chunk): work(chunk) for chunk in chunks},
    }
    times = interleaved(actions, rounds, 1)
    flop = flop_per_sequence() * sentences * SAMPLES
    rows = []
    for chunk in chunks:
        taken = times[str(chunk)]
        to_square = flop / (50 * PRODUCT_FLOP) / median_ratio(taken, times["square"])
        to_own = flop / (1000 * OWN_FLOP) / median_ratio(taken, times["own"])
        rows.append(
            {
                "sequences_per_call": chunk,
                "cpu_seconds": round(min(taken), 3),
                "gflop_per_second": round(flop / min(taken) / 1e9, 1),
                "share_of_square_product": round(to_square, 3),
                "share_of_own_product": round(to_own, 3),
            }
        )
    return rows


def main() -> None:
    """Measure rates, then memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=64)
    parser.add_argument("--chunks", type=int, nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    about = machine(busy_cores())
    chunks = [likelihood.SEQUENCES_PER_CALL, *given.chunks]
    measured = rates(given.sentences, chunks, given.rounds)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = {n: pool.apply(peak, (given.sentences, n)) for n in MEMORY_SAMPLES}
    text = "\n".join(
        [
            f"IW-NLL of {given.sentences} sentences, {SAMPLES} samples, one thread",
            table(list(measured[0]), [[str(v) for v in row.values()] for row in measured]),
            "peak memory: " + ", ".join(f"{n} samples {mib} MiB" for n, mib in peaks.items()),
        ]
    )
    result = {"machine": about, "rates": measured, "peak_rss_mib": peaks}
    report(text, result, given.json)


if __name__ == "__main__":
    main()
