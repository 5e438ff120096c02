"""Generation: all sentences together beside one after the other, and beside matrix products.

First a few hundred sentences by every decoder: the library's, and a plain version that decodes one
sentence at a time with the same model. The sentences that both decode are compared.
Then many sentences with the sizes of the text recipes. The floor is what the products of the
words generated would take at the rate of a square product; softmax, choice and copies come on top.
A sentence that waits costs no memory but its own row: the peak of sampling is printed for three
numbers of sentences, each in a process of its own.

    python bench/bench_generation.py [--sentences 10000] [--decoders greedy sample] [--json]
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
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
from torch import Tensor

from posterior_collapse.datasets.arrays import BOS, EOS, PAD
from posterior_collapse.networks import VAE, text_vae
from posterior_collapse.posteriors import Diagonal
from posterior_collapse.priors import StandardNormal
from posterior_collapse.text import Generated, beam_search, greedy, sample

VOCABULARY, EMBEDDING, HIDDEN, LATENT = 10_000, 200, 512, 32  # IGP's text recipes
LONGEST = 30
COMPARED, COMPARED_PLAIN = 400, 20
MEMORY_SENTENCES = (1000, 4000, 16_000)
WIDTH = 5
DECODERS: dict[str, Callable[..., Generated]] = {
    "greedy": greedy,
    "sample": sample,
    "nucleus 0.9": partial(sample, nucleus=0.9),
    f"beam {WIDTH}": partial(beam_search, width=WIDTH),
}
PLAIN = ("greedy", "sample", f"beam {WIDTH}")


def model_and_codes(sentences: int) -> tuple[VAE, Tensor]:
    """A text VAE with random weights whose sentences have different lengths, and codes.

    The column of EOS is made larger, so that a sentence ends after about a dozen words.
    """
    generator = torch.Generator().manual_seed(0)
    model = text_vae(VOCABULARY, EMBEDDING, HIDDEN, LATENT, 0.0, Diagonal(), StandardNormal())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.08, 0.08, generator=generator)
        model.decoder.embedding.weight.uniform_(-1.0, 1.0, generator=generator)
        model.decoder.words.weight.mul_(25.0)
        model.decoder.words.weight[EOS].mul_(2.5)
    return model.eval(), torch.randn(sentences, LATENT, generator=generator)


# --- plain versions: one sentence, one word at a time --------------------------------------------


@torch.no_grad()
def plain_words(model: VAE, z: Tensor, choose: Callable[[Tensor, int], int]) -> list[int]:
    """One sentence, z (1, D); ``choose`` takes log-probabilities (V,) and words so far."""
    decoder, words = model.decoder, [BOS]
    cell = decoder.state(z)[None]
    state = (torch.tanh(cell), cell)
    while words[-1] != EOS and len(words) <= LONGEST:
        joined = torch.cat([decoder.embedding(torch.tensor(words[-1:])), z], -1)
        output, state = decoder.lstm(joined[None], state)
        scores = decoder.words(output[0, 0]).log_softmax(-1)
        scores[[PAD, BOS]] = -torch.inf
        words.append(choose(scores, len(words) - 1))
    return words


def plain_greedy(model: VAE, z: Tensor) -> list[list[int]]:
    """Every sentence by itself."""
    return [plain_words(model, one[None], lambda scores, _: int(scores.argmax())) for one in z]


def plain_sample(model: VAE, z: Tensor) -> list[list[int]]:
    """Every sentence by itself, with the numbers that the library draws for it."""
    uniform = torch.rand(
        COMPARED, LONGEST, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )

    def choose(scores: Tensor, place: int, row: int) -> int:
        sums = scores.double().exp().cumsum(-1)
        return int(torch.searchsorted(sums, uniform[row, place] * sums[-1], right=True))

    return [plain_words(model, one[None], partial(choose, row=row)) for row, one in enumerate(z)]


@torch.no_grad()
def plain_beam(model: VAE, z: Tensor) -> list[list[int]]:
    """Every sentence by itself, and within it every version."""
    decoder, found = model.decoder, []
    for one in z[:, None]:
        cell = decoder.state(one)[None]
        alive = [(0.0, [BOS], (torch.tanh(cell), cell))]
        ended: list[tuple[float, list[int]]] = []
        for _ in range(LONGEST):
            children = []
            for score, words, state in alive:
                joined = torch.cat([decoder.embedding(torch.tensor(words[-1:])), one], -1)
                output, after = decoder.lstm(joined[None], state)
                scores = decoder.words(output[0, 0]).log_softmax(-1)
                scores[[PAD, BOS]] = -torch.inf
                top = scores.topk(WIDTH)
                for more, word in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                    children.append((score + more, [*words, word], after))
            kept = sorted(children, key=lambda c: -c[0])[: WIDTH - len(ended)]
            ended += [(score, words) for score, words, _ in kept if words[-1] == EOS]
            alive = [one for one in kept if one[1][-1] != EOS]
            if not alive or (ended and max(ended)[0] >= alive[0][0]):
                break
        found.append(max(ended)[1] if ended else alive[0][1])
    return found


PLAIN_VERSIONS = dict(zip(PLAIN, (plain_greedy, plain_sample, plain_beam), strict=True))


# --- measurements ---------------------------------------------------------------------------------


def compared(rounds: int) -> list[dict[str, Any]]:
    """CPU time per word of both versions, in turns; the plain one decodes fewer sentences.

    In float32 a tie within rounding can fall either way; so equal sentences are counted and not
    asserted.
    """
    model, z = model_and_codes(COMPARED)
    few, rows = z[:COMPARED_PLAIN], []
    for name in PLAIN:
        plain = partial(PLAIN_VERSIONS[name], model, few)
        together = partial(decoded, name, model, z)
        found, single = together(), plain()
        ours = zip(found.tokens.tolist(), found.lengths.tolist(), single, strict=False)
        equal = sum(row[:length] == other for row, length, other in ours)
        words = int((found.lengths - 1).sum()), sum(len(one) - 1 for one in single)
        times = interleaved({"together": together, "plain": plain}, rounds, 1)
        ratio = median_ratio(times["plain"], times["together"]) * words[0] / words[1]
        rows.append(
            {
                "decoder": name,
                "equal": f"{equal}/{len(single)}",
                "words_per_sentence": round(words[0] / COMPARED, 1),
                "together_ms_per_word": round(1e3 * min(times["together"]) / words[0], 3),
                "plain_ms_per_word": round(1e3 * min(times["plain"]) / words[1], 3),
                "times_faster": round(ratio, 1),
            }
        )
    return rows


def decoded(name: str, model: VAE, z: Tensor) -> Generated:
    """All sentences together."""
    return DECODERS[name](model, z, torch.Generator().manual_seed(1), max_length=LONGEST)


def flop_per_word() -> int:
    """Multiplications and additions of the decoder for one word."""
    return 2 * (4 * HIDDEN * (EMBEDDING + LATENT + HIDDEN) + HIDDEN * VOCABULARY)


def product_rate(rounds: int = 20) -> float:
    """Floating-point operations a second of the square product, the best of several turns."""
    return PRODUCT_FLOP / min(interleaved({"square": product()}, rounds, 5)["square"])


def against_floor(sentences: int, names: list[str]) -> list[dict[str, Any]]:
    """CPU seconds of many sentences beside those of their products; the rate is taken around."""
    model, z = model_and_codes(sentences)
    rows = []
    for name in names:
        rate = product_rate()
        start = time.process_time()
        found = decoded(name, model, z)
        taken = time.process_time() - start
        rate = max(rate, product_rate())
        words = int((found.lengths - 1).sum())
        floor = words * flop_per_word() / rate
        rows.append(
            {
                "decoder": name,
                "sentences": sentences,
                "words": words,
                "cut": int((~found.finished).sum()),
                "cpu_s": round(taken, 1),
                "words_per_s": round(words / taken),
                "product_gflop_per_s": round(rate / 1e9, 1),
                "floor_s": round(floor, 1),
                "share_of_floor": round(floor / taken, 3),
            }
        )
    return rows


def added_memory(sentences: int) -> int:
    """MiB that decoding adds to the peak of a process that has the model and the codes."""
    torch.set_num_threads(1)
    model, z = model_and_codes(sentences)
    before = peak_memory()
    sample(model, z, torch.Generator().manual_seed(1), max_length=8)
    return round(peak_memory() - before)


def main() -> None:
    """Compare, then measure many sentences, then memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=10_000)
    parser.add_argument("--decoders", nargs="*", default=["greedy"], choices=list(DECODERS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    about = machine(busy_cores())
    small = compared(given.rounds)
    large = against_floor(given.sentences, given.decoders)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = {n: pool.apply(added_memory, (n,)) for n in MEMORY_SENTENCES}

    def lines(rows: list[dict[str, Any]]) -> str:
        return table(list(rows[0]), [[str(v) for v in row.values()] for row in rows])

    text = "\n".join(
        [
            f"hidden {HIDDEN}, vocabulary {VOCABULARY}, at most {LONGEST} words, one thread",
            lines(small),
            "",
            lines(large) if large else "",
            "peak memory of decoding: "
            + ", ".join(f"{n} sentences {mib} MiB" for n, mib in peaks.items()),
        ]
    )
    result = {"machine": about, "compared": small, "floor": large, "peak_mib": peaks}
    report(text, result, given.json)


if __name__ == "__main__":
    main()
