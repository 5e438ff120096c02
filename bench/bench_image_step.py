"""A training epoch of the Fashion-MNIST VAE at the paper's own sizes: where its time goes.

One thread.  An update is split by taking parts away: the pass forward and backward without Adam,
the same without the noise and the KL, and the bare matrix products of forward and backward.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
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
from torch.utils.flop_counter import FlopCounterMode

from posterior_collapse import methods, recipes
from posterior_collapse.networks import VAE, ImageNetwork, build_vae
from posterior_collapse.training import Joint, State, new_state
from posterior_collapse.training.steps import gradients

SETUP = recipes.get("fashion-mnist", "paper")
PIXELS = 784
UPDATES = SETUP.train // SETUP.batch_size


def first_state() -> State:
    """The recipe's VAE before its first update."""
    method = methods.get("vae")
    network = SETUP.network
    assert isinstance(network, ImageNetwork)
    model = build_vae(
        network, PIXELS, SETUP.latent_dim, method.posterior, method.prior, method.latent
    )
    network.initialise(model, torch.Generator().manual_seed(0))
    return new_state(
        model.train(), method.objective, method.training, SETUP.optimisation, UPDATES, 0
    )


def images() -> Tensor:
    """One batch of random images; time does not depend on what they show."""
    return torch.rand(SETUP.batch_size, PIXELS, generator=torch.Generator().manual_seed(1))


def products(model: VAE, batch: int) -> Callable[[], object]:
    """The matrix products of one update and nothing else: forward, and two backward a layer."""
    shapes = [p.shape for p in model.parameters() if p.dim() == 2]
    generator = torch.Generator().manual_seed(2)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    layers = [
        (drawn(batch, wide), drawn(narrow, wide), drawn(batch, narrow)) for narrow, wide in shapes
    ]

    def run() -> None:
        for number, (inputs, weight, gradient) in enumerate(layers):
            torch.mm(inputs, weight.t())
            torch.mm(gradient.t(), inputs)
            if number:  # nobody asks for the gradient of the pixels
                torch.mm(gradient, weight)

    return run


def operations(state: State, batch: Tensor) -> int:
    """Floating-point operations of the matrix products of one update."""
    with FlopCounterMode(display=False) as counter:
        gradients(state, batch)
    return counter.get_total_flops()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    busy = wait_until_quiet()
    state, batch = first_state(), images()
    whole = Joint()
    actions: dict[str, Callable[[], object]] = {
        "update": lambda: whole.update(state, batch, [batch], lambda: None),
        "forward and backward": lambda: gradients(state, batch),
        "matrix products alone": products(state.model, len(batch)),
        "512 x 512 product": product(),
    }
    flop = operations(state, batch)
    times = interleaved(actions, given.rounds, 20)
    rate = PRODUCT_FLOP / statistics.median(times["512 x 512 product"])
    floor = flop / rate
    rows = [
        [
            name,
            f"{1e3 * statistics.median(found):.2f}",
            f"{median_ratio(found, times['update']):.0%}",
            f"{flop / statistics.median(found) / rate:.0%}",
        ]
        for name, found in times.items()
        if not name.startswith("512")
    ]
    update = statistics.median(times["update"])
    text = table(["", "ms", "of an update", "of the product rate"], rows) + (
        f"\n{flop / 1e6:.0f} MFLOP an update; products run at {rate / 1e9:.0f} GFLOP/s here, "
        f"so the floor is {1e3 * floor:.2f} ms"
        f"\nan epoch of {UPDATES} updates: {UPDATES * update:.2f} s without validation"
    )
    result = {
        "machine": machine(busy),
        "mflop": flop / 1e6,
        "product_gflops": rate / 1e9,
        "milliseconds": {name: 1e3 * statistics.median(t) for name, t in times.items()},
        "share_of_product_rate": floor / update,
        "epoch_seconds": UPDATES * update,
    }
    report(text, result, given.json)


if __name__ == "__main__":
    main()
