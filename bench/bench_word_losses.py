"""Softmax over words with its gradient: the library's beside torch's cross-entropy, one thread.

Rows are the words of one training batch; sizes are those of the synthetic data, Yahoo, SNLI and of
He et al.'s Yahoo.  Losses and both gradients must agree before anything is timed.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from common import (
    PRODUCT_FLOP,
    interleaved,
    machine,
    median_ratio,
    product,
    report,
    table,
    wait_until_quiet,
)
from torch import Tensor

from posterior_collapse.networks.text import word_losses

SIZES = {  # rows, hidden units, words
    "synthetic": (176, 50, 1004),
    "Yahoo, medium": (672, 96, 2000),
    "SNLI": (384, 128, 4053),
    "Yahoo, paper": (2560, 1024, 20001),
}
Losses = Callable[[Tensor, Tensor, Tensor], Tensor]
Case = tuple[Tensor, Tensor, Tensor, Tensor]


def plain(outputs: Tensor, weight: Tensor, wanted: Tensor) -> Tensor:
    """The same by torch's cross-entropy."""
    return F.cross_entropy(outputs @ weight.t(), wanted, reduction="none")


def drawn(rows: int, hidden: int, words: int) -> Case:
    """Outputs as an LSTM has them, weights, words and slopes of the losses."""
    source = torch.Generator().manual_seed(0)
    outputs = torch.tanh(torch.randn(rows, hidden, generator=source)).requires_grad_()
    weight = torch.empty(words, hidden).uniform_(-0.1, 0.1, generator=source).requires_grad_()
    wanted = torch.randint(words, (rows,), generator=source)
    return outputs, weight, wanted, torch.rand(rows, generator=source)


def once(losses: Losses, case: Case) -> tuple[Tensor, ...]:
    """Losses and both gradients."""
    outputs, weight, wanted, slope = case
    found = losses(outputs, weight, wanted)
    return found.detach(), *torch.autograd.grad(found, (outputs, weight), slope)


def check_equal(case: Case) -> None:
    """Both versions agree to float32.

    Raises:
        AssertionError: they do not.
    """
    for one, other in zip(once(word_losses, case), once(plain, case), strict=True):
        worst, scale = (one - other).abs().max().item(), other.abs().max().item()
        assert worst <= 2e-5 * scale, f"off by {worst}, the largest is {scale}"


def measure(rounds: int) -> list[dict[str, object]]:
    """Times of both versions at every size, taking turns with a matrix product."""
    found: list[dict[str, object]] = []
    for name, (rows, hidden, words) in SIZES.items():
        case = drawn(rows, hidden, words)
        check_equal(case)
        times = interleaved(
            {
                "library": lambda case=case: once(word_losses, case),
                "torch": lambda case=case: once(plain, case),
                "product": product(),
            },
            rounds,
            1 if rows * words > 10**7 else 5,
        )
        rate = PRODUCT_FLOP / statistics.median(times["product"])
        floor = 6 * rows * hidden * words / rate  # one product forward and two backward
        library = statistics.median(times["library"])
        found.append(
            {
                "case": name,
                "sizes": [rows, hidden, words],
                "milliseconds": 1e3 * library,
                "torch_milliseconds": 1e3 * statistics.median(times["torch"]),
                "times_as_fast": median_ratio(times["torch"], times["library"]),
                "share_of_product_rate": floor / library,
            }
        )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    where = machine(wait_until_quiet(patience=20.0))
    cases = measure(given.rounds)
    rows = [
        [
            str(case["case"]),
            "{} x {} x {}".format(*case["sizes"]),  # type: ignore[misc]
            f"{case['milliseconds']:.2f}",
            f"{case['torch_milliseconds']:.2f}",
            f"{case['times_as_fast']:.2f}",
            f"{case['share_of_product_rate']:.0%}",
        ]
        for case in cases
    ]
    head = ["", "rows x hidden x words", "ms", "torch, ms", "times as fast", "of the product rate"]
    report(table(head, rows), {"machine": where, "cases": cases}, given.json)


if __name__ == "__main__":
    main()
