"""How cost grows with size: sentences N, samples S, words T, dimensions D, and seeds.

One size is doubled while the others stay; the exponent is the slope of log time over log size.
Times are processor seconds at one thread, the least of several turns.  Memory is the peak of a
process of its own for each S, less that of one that makes no estimate.

    OMP_NUM_THREADS=1 python bench/bench_cost.py [--json]
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from common import busy_cores, interleaved, machine, peak_memory, report, table
from scipy.stats import linregress

from posterior_collapse.estimators import importance_weighted_nll, mutual_information
from posterior_collapse.layers import Progress
from posterior_collapse.networks import VAE, text_vae
from posterior_collapse.objectives import ELBO
from posterior_collapse.posteriors import Diagonal
from posterior_collapse.priors import StandardNormal

VOCABULARY, EMBEDDING, HIDDEN = 2000, 48, 96  # text at medium scale
DOUBLINGS = (1, 2, 4, 8)


class Size(NamedTuple):
    """One case."""

    sentences: int = 32
    samples: int = 16
    words: int = 8
    dimensions: int = 8
    seeds: int = 1


def sentences(size: Size) -> tuple[VAE, torch.Tensor]:
    """A text VAE with random weights, and random sentences."""
    torch.manual_seed(0)
    posterior, prior = Diagonal(), StandardNormal()
    model = text_vae(VOCABULARY, EMBEDDING, HIDDEN, size.dimensions, 0.0, posterior, prior)
    words = torch.randint(4, VOCABULARY, (size.sentences, size.words))
    ends = torch.ones(size.sentences, 1, dtype=torch.long)
    return model, torch.cat([ends, words, 2 * ends], 1)


def training_step(size: Size) -> Callable[[], object]:
    """The gradients of the ELBO, for every seed."""
    pairs = [sentences(size) for _ in range(size.seeds)]
    generator = torch.Generator().manual_seed(0)

    def run() -> None:
        for model, x in pairs:
            ELBO()(model, x, Progress(0, 1), generator).loss.backward()

    return run


def nll(size: Size) -> Callable[[], object]:
    """The importance-weighted NLL."""
    model, x = sentences(size)
    generator = torch.Generator().manual_seed(0)
    return lambda: importance_weighted_nll(model, [x], size.samples, generator)


def information(size: Size) -> Callable[[], object]:
    """The mutual information of so many codes."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(size.sentences, size.dimensions, generator=generator)
    logvar = torch.full_like(mean, -2.0)
    return lambda: mutual_information(mean, logvar, size.samples, generator)


# What is measured -> what does it, from which size, and what is doubled.
CASES: Mapping[str, tuple[Callable[[Size], Callable[[], object]], Size, Sequence[str]]] = {
    "training step": (training_step, Size(), ("sentences", "words", "dimensions", "seeds")),
    "IW-NLL": (nll, Size(), ("sentences", "samples", "words", "dimensions")),
    "mutual information": (
        information,
        Size(sentences=500, samples=4),
        ("sentences", "samples", "dimensions"),
    ),
}


def exponents(rounds: int) -> list[dict[str, Any]]:
    """A row for each thing measured and each size that was doubled."""
    rows = []
    for name, (build, base, doubled) in CASES.items():
        for dimension in doubled:
            first = getattr(base, dimension)
            sizes = [first * factor for factor in DOUBLINGS]
            actions = {str(n): build(base._replace(**{dimension: n})) for n in sizes}
            times = [min(each) for each in interleaved(actions, rounds, 3).values()]
            slope = linregress(np.log(sizes), np.log(times)).slope
            rows.append(
                {
                    "what": name,
                    "doubled": dimension,
                    "from": f"{sizes[0]} to {sizes[-1]}",
                    "milliseconds": " ".join(f"{1000 * t:.1f}" for t in times),
                    "exponent": round(float(slope), 2),
                }
            )
    return rows


def peak(samples: int) -> float:
    """Peak resident memory in MiB of a process that estimates with so many samples, or none."""
    torch.set_num_threads(1)
    if samples:
        nll(Size(samples=samples))()
        information(Size(sentences=500, samples=samples))()
    return peak_memory()


def main() -> None:
    """Measure times, then memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    about = machine(busy_cores())
    rows = exponents(given.rounds)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = {n: pool.apply(peak, (n,)) for n in (0, 50, 500, 5000)}
    over = {n: round(mib - peaks[0]) for n, mib in peaks.items() if n}
    text = "\n".join(
        [
            table(list(rows[0]), [[str(v) for v in row.values()] for row in rows]),
            "memory for so many samples: " + ", ".join(f"{n}: {m} MiB" for n, m in over.items()),
        ]
    )
    report(text, {"machine": about, "exponents": rows, "memory_mib": over}, given.json)


if __name__ == "__main__":
    main()
