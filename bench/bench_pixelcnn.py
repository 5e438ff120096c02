"""A training step of the PixelCNN beside a plain one, and sampling with kept activations.

One thread.  The plain decoder has every layer as a masked ``nn.Conv2d`` with all of its kernel,
whose mask is applied at each call, in float32 and torch's usual layout; all else is the same.
Its loss and the gradients of what both have are compared before anything is timed.
The library's step is timed in float32 and with bfloat16 products, as at medium scale.
Naive sampling decodes all of an image for every pixel: some of its passes are timed and the rest
counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
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
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from posterior_collapse import methods, recipes
from posterior_collapse.networks import VAE, MaskedConv, PixelDecoder, PixelNetwork, build_vae
from posterior_collapse.precision import Precision
from posterior_collapse.training import Joint, State, new_state
from posterior_collapse.training.steps import gradients

PIXELS = 784
SIZES = {"paper": "the paper's network", "medium": "at medium scale"}
SAMPLED, TIMED_PASSES = 64, 3


class PlainMaskedConv(nn.Conv2d):
    """All of a k x k kernel, with zeros where nothing may be seen."""

    def __init__(self, layer: MaskedConv) -> None:
        outputs, inputs, rows, kernel = layer.weight.shape
        super().__init__(inputs, outputs, kernel, padding=layer.reach, bias=False)
        mask = torch.zeros(outputs, inputs, kernel, kernel)
        mask[:, :, :rows] = layer.mask
        self.register_buffer("mask", mask)
        with torch.no_grad():
            self.weight.zero_()
            self.weight[:, :, :rows] = layer.weight

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) to maps (N, O, H, W)."""
        return self._conv_forward(maps, self.weight * self.mask, None)


def plain(decoder: nn.Module) -> None:
    """Replace the masked layers of a decoder, in place."""
    for module in list(decoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, MaskedConv):
                setattr(module, name, PlainMaskedConv(child))


def first_model(network: PixelNetwork, latent_dim: int) -> VAE:
    """A VAE with its first values."""
    method = methods.get("vae")
    model = build_vae(network, PIXELS, latent_dim, method.posterior, method.prior, method.latent)
    network.initialise(model, torch.Generator().manual_seed(0))
    return model


def first_state(
    scale: str, precision: Precision, change: Callable[[nn.Module], None] | None = None
) -> State:
    """Training of a recipe's VAE before its first update, with a changed decoder if one asks."""
    setup = recipes.get("pixels-omniglot", scale)
    assert isinstance(setup.network, PixelNetwork)
    network = dataclasses.replace(setup.network, precision=precision)
    model = first_model(network, setup.latent_dim)
    if change is not None:
        change(model.decoder)
    method = methods.get("vae")
    return new_state(model.train(), method.objective, method.training, setup.optimisation, 100, 0)


def images(count: int) -> Tensor:
    """Random binary images; time does not depend on what they show."""
    return (torch.rand(count, PIXELS, generator=torch.Generator().manual_seed(1)) < 0.1).float()


def require_equal(ours: State, theirs: State, batch: Tensor) -> None:
    """Loss and the gradient of every parameter that both have, up to rounding."""
    losses = [gradients(state, batch).loss.item() for state in (ours, theirs)]
    assert abs(losses[0] / losses[1] - 1.0) < 1e-5, losses
    others = dict(theirs.model.named_parameters())
    for name, value in ours.model.named_parameters():
        found = others[name].grad
        assert value.grad is not None and found is not None
        found = found[:, :, : value.shape[2]] if value.dim() == 4 else found
        apart = (value.grad - found).abs().max() / found.abs().max().clamp_min(1e-12)
        assert apart < 1e-2, (name, apart)
    for state in (ours, theirs):
        state.noise.manual_seed(1)


def step_rows(rounds: int) -> tuple[list[list[str]], dict[str, float]]:
    """Lines of the table of training steps, and their ratios."""
    rows, ratios, joint = [], {}, Joint()
    batch = images(50)
    for scale, title in SIZES.items():
        states = {str(of): first_state(scale, of) for of in Precision}
        states["plain"] = first_state(scale, Precision.FLOAT32, plain)
        require_equal(states["float32"], states["plain"], batch)
        actions: dict[str, Callable[[], object]] = {
            name: lambda s=state: joint.update(s, batch, [batch], lambda: None)  # type: ignore[misc]
            for name, state in states.items()
        } | {"product": product()}
        times = interleaved(actions, rounds, 1)
        rate = PRODUCT_FLOP / statistics.median(times["product"])
        with FlopCounterMode(display=False) as counter:
            gradients(states["float32"], batch)
        floor = counter.get_total_flops() / rate
        for of in Precision:
            ratio = median_ratio(times[of], times["plain"])
            own = statistics.median(times[of])
            ratios[f"{scale} {of}"] = ratio
            rows.append([title, str(of), f"{own:.2f}", f"{ratio:.2f}", f"{floor / own:.0%}"])
    return rows, ratios


@torch.no_grad()
def sampling(scale: str) -> tuple[float, float]:
    """Seconds of naive sampling, from some of its passes, and with kept activations."""
    setup = recipes.get("pixels-omniglot", scale)
    assert isinstance(setup.network, PixelNetwork)
    decoder = first_model(setup.network, setup.latent_dim).decoder.eval()
    assert isinstance(decoder, PixelDecoder)
    z, x = torch.randn(SAMPLED, setup.latent_dim), images(SAMPLED)
    uniform = torch.rand(SAMPLED, PIXELS)
    decoder.logits(x, z)
    start = time.process_time()
    for _ in range(TIMED_PASSES):
        decoder.logits(x, z)
    naive = (time.process_time() - start) / TIMED_PASSES * PIXELS
    start = time.process_time()
    decoder.sample(z, uniform)
    return naive, time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    busy = wait_until_quiet()
    rows, ratios = step_rows(given.rounds)
    text = table(
        ["step of 50 images", "products", "seconds", "over plain", "of the float32 rate"], rows
    )
    found = {scale: sampling(scale) for scale in SIZES}
    drawn = [
        [SIZES[scale], f"{slow:.0f}", f"{fast:.1f}", f"{slow / fast:.0f}"]
        for scale, (slow, fast) in found.items()
    ]
    header = [f"{SAMPLED} images of 28 x 28", "naive, seconds", "kept, seconds", "times as fast"]
    text += "\n\n" + table(header, drawn)
    result = {"machine": machine(busy), "step_over_plain": ratios, "sampling_seconds": found}
    report(text, result, given.json)


if __name__ == "__main__":
    main()
