"""IW-NLL with 500 samples: rate beside matrix products of this machine, and peak memory.

The work counted is that of the decoder: the LSTM's products and the map to the vocabulary.
The softmax, the sampling and the encoder are not counted but take their time.
Two products are measured as yardsticks: a square one of size 1024, and the decoder's own
(rows, hidden) x (hidden, vocabulary).

Times are processor times of the single thread, which a busy machine changes less than wall time.
Each number of samples runs in a process of its own, whose peak memory is its own.
Prints lines for people and one line of JSON.

    python bench/bench_iw_nll.py [--sentences 64] [--chunks 128 512 2048]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable

import torch
from bench_posterior_grid import HIDDEN, TOKENS, VOCABULARY, model_and_sentences
from posterior_collapse import estimators

SAMPLES = (50, 500, 2000)
STEPS = TOKENS - 1  # predictions per sentence


def flops_per_sequence(latent_dim: int = 1) -> int:
    """Multiplications and additions of one decoded sentence."""
    gates = 2 * 4 * HIDDEN * (HIDDEN + latent_dim + HIDDEN)
    return STEPS * (gates + 2 * HIDDEN * VOCABULARY)


def product_rate(rows: int, inner: int, columns: int) -> float:
    """FLOP/s of a float32 matrix product, the best of several."""
    a, b, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
    return 2.0 * rows * inner * columns / best_of(lambda: torch.mm(a, b, out=out), 15)


def best_of(work: Callable[[], object], times: int) -> float:
    """Smallest processor time of a few runs, in seconds."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def measure(sentences: int, samples: int, chunk: int) -> dict[str, float]:
    """Seconds and peak memory of one estimate; runs in a process of its own."""
    torch.set_num_threads(1)
    estimators.SEQUENCES_PER_CALL = chunk
    model, x = model_and_sentences(sentences)
    generator = torch.Generator().manual_seed(0)
    estimators.importance_weighted_nll(model, [x], 2, generator)  # warm up
    start = time.process_time()
    estimators.importance_weighted_nll(model, [x], samples, generator)
    seconds = time.process_time() - start
    rate = flops_per_sequence() * sentences * samples / seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": round(seconds, 3),
        "gflops": round(rate / 1e9, 1),
        "peak_rss_mib": round(peak),
    }


def main() -> None:
    """Measure the yardsticks, then every number of samples, then other chunk sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=64)
    parser.add_argument("--chunks", type=int, nargs="*", default=[])
    given = parser.parse_args()
    torch.set_num_threads(1)
    chunk = estimators.SEQUENCES_PER_CALL
    square = product_rate(1024, 1024, 1024) / 1e9
    own = product_rate(chunk, HIDDEN, VOCABULARY) / 1e9
    print(f"matrix product: square {square:.1f} GFLOP/s, the decoder's own {own:.1f} GFLOP/s")
    result: dict[str, object] = {
        "square_gflops": round(square, 1),
        "decoder_product_gflops": round(own, 1),
        "sequences_per_call": chunk,
    }
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for samples in SAMPLES:
            found = pool.apply(measure, (given.sentences, samples, chunk))
            found["share_of_decoder_product"] = round(found["gflops"] / own, 2)
            found["share_of_square_product"] = round(found["gflops"] / square, 2)
            result[f"samples_{samples}"] = found
            print(f"{samples} samples of {given.sentences} sentences: {found}")
        for other in given.chunks:
            found = pool.apply(measure, (given.sentences, 500, other))
            result[f"chunk_{other}"] = found
            print(f"500 samples, {other} sequences a call: {found}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
