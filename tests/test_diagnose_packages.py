"""The diagnosis of VAEs that other packages build, trained on digits; skipped without the package.

Both train for 0.5 |x - x'|^2 + beta KL: the ELBO, times beta, of a decoder of variance beta.  With
beta 30 or more the prior is cheaper than any code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributions import Normal
from torch.utils.data import DataLoader, TensorDataset

from posterior_collapse import diagnose
from posterior_collapse.diagnosis import Report

HEALTHY = 0.05
WHY = "an optional check: {} is not installed"
Decode = Callable[[Tensor], Tensor]


def digits() -> Tensor:
    return torch.tensor(load_digits().images / 16.0, dtype=torch.float32)[:, None]


def train(model: nn.Module, loss: Callable[[Tensor], Tensor], epochs: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(epochs):
        for x in digits()[torch.randperm(1797)].split(64):
            optimizer.zero_grad()
            loss(x).backward()
            optimizer.step()


def pythae_vae(beta: float) -> tuple[nn.Module, Decode]:
    models = pytest.importorskip("pythae.models", reason=WHY.format("pythae"))
    model = models.BetaVAE(models.BetaVAEConfig(input_dim=(1, 8, 8), latent_dim=4, beta=beta))
    train(model, lambda x: model({"data": x}).loss, 8)
    return model, lambda z: model.decoder(z).reconstruction


def diffusers_kl(beta: float) -> tuple[nn.Module, Decode]:
    diffusers = pytest.importorskip("diffusers", reason=WHY.format("diffusers"))
    model = diffusers.AutoencoderKL(
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=1,
        mid_block_add_attention=False,
    )

    def loss(x: Tensor) -> Tensor:
        q = model.encode(x).latent_dist
        squares = (model.decode(q.sample()).sample - x).square().flatten(1).sum(1)
        return (0.5 * squares + beta * q.kl()).mean()

    train(model, loss, 4)
    return model, lambda z: model.decode(z).sample


def report_of(model: nn.Module, decode: Decode, beta: float) -> Report:
    def log_likelihood(x: Tensor, z: Tensor) -> Tensor:
        return Normal(decode(z), math.sqrt(beta)).log_prob(x).flatten(1).sum(1)

    loader = DataLoader(TensorDataset(digits(), torch.zeros(1797)), batch_size=200)
    return diagnose(model, loader, log_likelihood=log_likelihood, num_samples=20)


@pytest.mark.parametrize("build", [pythae_vae, diffusers_kl])
def test_a_vae_that_learned_and_one_that_collapsed(build: Callable[[float], Any]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        learned, collapsed = (report_of(*build(beta), beta) for beta in (HEALTHY, 100.0))
    assert collapsed.kind == "model-collapse"
    assert collapsed.measures["mutual_information"].value == pytest.approx(0.0, abs=0.05)
    assert collapsed.measures["active_units"].value == 0.0
    assert not {"collapse", "model-collapse"} & {one.kind for one in learned.findings}
    assert learned.measures["mutual_information"].value > 2.0
    assert learned.measures["own_code"].value > 5.0  # the decoder listens
