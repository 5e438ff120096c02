"""Code that readers copy: methods in plain PyTorch, which agree with the library, and exercises."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from posterior_collapse import layers
from posterior_collapse.gaussian import kl_to_standard_normal
from posterior_collapse.networks import VAE
from posterior_collapse.networks.linear import LinearDecoder
from posterior_collapse.objectives import ELBO, AutoGen
from posterior_collapse.posteriors import (
    DiagonalHead,
    DiversityUncertainty,
    Isotropic,
    Scaled,
    draw,
)
from posterior_collapse.priors import StandardNormal
from posterior_collapse.training import Aggressive
from posterior_collapse.training.state import State

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
PAGES = ("lagging/mean-space", "autogen/text", "igp/images", "du/text", "scale/text")
TAG = "from-scratch"
CLOSE = {"rtol": 0.0, "atol": 1e-6}


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    """Cells run in float64 here, and leave the global generator as it was."""
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_default_dtype(torch.float32)


def cells(page: str) -> list[dict[str, Any]]:
    """Code cells of a page."""
    notebook = json.loads((NOTEBOOKS / f"{page}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    """Code of a cell."""
    return "".join(cell["source"])


def is_scratch(cell: dict[str, Any]) -> bool:
    """Whether a cell is one of those that this file is about."""
    return TAG in cell["metadata"].get("tags", [])


def namespace(page: str) -> dict[str, Any]:
    """What the page's cells define, once they have run by themselves."""
    names: dict[str, Any] = {}
    for cell in filter(is_scratch, cells(page)):
        exec(compile(source(cell), page, "exec"), names)
    return names


@pytest.mark.parametrize("page", PAGES)
def test_cells_are_short_visible_and_alone(page: str) -> None:
    """Plain torch, 15 to 25 lines, and no name that the rest of the page reads."""
    scratch = list(filter(is_scratch, cells(page)))
    assert scratch
    stored: set[str] = set()
    for cell in scratch:
        assert cell["metadata"]["tags"] == [TAG]
        tree = ast.parse(source(cell))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= {"math", "torch"}
            if isinstance(node, ast.ImportFrom):
                assert node.module == "torch"
        assert 15 <= len([line for line in source(cell).splitlines() if line.strip()]) <= 25
        stored |= {
            node.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
    copied = {TAG, "solution"}
    others = "\n".join(
        source(cell) for cell in cells(page) if not copied & set(cell["metadata"].get("tags", []))
    )
    used = {node.id for node in ast.walk(ast.parse(others)) if isinstance(node, ast.Name)}
    assert not stored & used


def normal_vae(encoder: nn.Linear, decoder: nn.Linear) -> VAE:
    """The library's model with the same weights and a decoder of variance 1."""
    dimensions = decoder.in_features
    head = DiagonalHead(encoder.in_features, dimensions)
    head.linear.weight.data = encoder.weight.detach().clone()
    likelihood = LinearDecoder(dimensions, decoder.out_features, 1.0)
    likelihood.mean.load_state_dict(decoder.state_dict())
    return VAE(nn.Identity(), head, StandardNormal().build(dimensions), likelihood)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_elbo() -> None:
    names = namespace("lagging/mean-space")
    encoder, decoder, data = names["encoder"], names["decoder"], names["data"][:32]
    model = normal_vae(encoder, decoder)
    noise = draw(model.posterior(torch.zeros(32, 8)), (1,), seeded())[0]  # mean 0, variance 1
    own = names["elbo_loss"](encoder, decoder, data, noise)
    terms = ELBO()(model, data, layers.Progress(0, 1), seeded())
    torch.testing.assert_close(own, terms.loss, **CLOSE)


def test_the_lag_is_the_distance_from_the_exact_posterior() -> None:
    names = namespace("lagging/mean-space")
    decoder, x = names["decoder"], names["data"][:1]
    axis = torch.linspace(-8.0, 8.0, 801)
    z = torch.cartesian_prod(axis, axis)
    log_joint = -0.5 * ((x - decoder(z)) ** 2).sum(-1) - 0.5 * z.square().sum(-1)
    exact = torch.softmax(log_joint, 0) @ z
    own = (names["encoder"](x)[0, :2] - exact).norm()
    torch.testing.assert_close(names["lag"](names["encoder"], decoder, x), own, **CLOSE)


def test_aggressive_update() -> None:
    """Same batches and same noise: as many encoder steps, and the same weights after them."""
    names = namespace("lagging/mean-space")
    encoder, decoder = nn.Linear(8, 4, bias=False), nn.Linear(2, 8)
    model = normal_vae(encoder, decoder)
    batches = list(names["data"].split(16))
    order, noise, rate = seeded(1), seeded(2), 0.01
    state = State(
        model,
        ELBO(),
        torch.optim.SGD(model.inference_parameters(), rate),
        torch.optim.SGD(model.generative_parameters(), rate),
        clip_norm=math.inf,
        noise=noise,
        order=order,
        learning_rate=rate,
        batches_per_epoch=len(batches),
        memory=Aggressive().start(),
    )
    update = Aggressive().update(state, batches[0], batches, lambda: None)
    again, other = seeded(1), seeded(2)
    steps = names["aggressive_update"](
        encoder,
        decoder,
        *(torch.optim.SGD(part.parameters(), rate) for part in (encoder, decoder)),
        batches[0],
        lambda: batches[int(torch.randint(len(batches), (), generator=again))],
        lambda x: torch.randn(1, len(x), 2, generator=other)[0],
    )
    assert 1 < steps == update.inner_steps < 99
    head: Any = model.posterior_head
    likelihood: Any = model.decoder
    torch.testing.assert_close(encoder.weight, head.linear.weight, **CLOSE)
    torch.testing.assert_close(decoder.weight, likelihood.mean.weight, **CLOSE)


class Bits(nn.Module):
    """p(x|z) of binary x, with the cell's own decoder."""

    def __init__(self, decoder: nn.Linear) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.distributions.Bernoulli(logits=self.decoder(z)).log_prob(x).sum(-1)


@pytest.mark.parametrize("m", [0.0, 1.0, 2.5])
def test_autogen(m: float) -> None:
    names = namespace("autogen/text")
    encoder, decoder, x = names["encoder"], names["decoder"], names["x"]
    head = DiagonalHead(12, 3)
    head.linear.weight.data = encoder.weight.detach().clone()
    model = VAE(nn.Identity(), head, StandardNormal().build(3), Bits(decoder))
    noise = torch.randn(1, len(x), 3, generator=seeded())[0]
    own = names["autogen_loss"](encoder, decoder, x, noise, m=m)
    terms = AutoGen(m)(model, x, layers.Progress(0, 1), seeded())
    torch.testing.assert_close(own, terms.loss, **CLOSE)


def test_isotropic_posterior() -> None:
    names = namespace("igp/images")
    head: Any = Isotropic().build(10, 4)
    head.linear.weight.data = names["head"].weight.detach().clone()
    q = head(names["features"])
    mean, logvar = names["isotropic_posterior"](names["head"], names["features"])
    torch.testing.assert_close(mean, q.mean, **CLOSE)
    torch.testing.assert_close(logvar.expand_as(mean), q.logvar, **CLOSE)
    kl = kl_to_standard_normal(q.mean, q.logvar)
    torch.testing.assert_close(names["isotropic_kl"](mean, logvar), kl, **CLOSE)


def test_du_posterior() -> None:
    names = namespace("du/text")
    head: Any = DiversityUncertainty(gamma=0.5, keep_prob=0.8).build(10, 4).train()
    head.linear.weight.data = names["head"].weight.detach().clone()
    with torch.no_grad():
        head.scale.weight.copy_(torch.tensor([0.3, 0.6, 0.9, 1.2]))
        head.norm.shift.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    head.generator = seeded()
    q = head(names["features"])
    keep = torch.empty(256, 4).bernoulli_(0.8, generator=seeded())
    assert 0.0 < keep.mean() < 1.0
    weight, shift = head.scale.weight, head.norm.shift
    mean, logvar = names["du_posterior"](names["head"], weight, shift, names["features"], keep)
    torch.testing.assert_close(mean, q.mean, **CLOSE)
    torch.testing.assert_close(logvar, q.logvar, **CLOSE)


@pytest.mark.parametrize("own", [True, False])
def test_scaled_posterior(own: bool) -> None:
    names = namespace("scale/text")
    head: Any = Scaled(des_std=0.7).build(10, 4).train()
    head.linear.weight.data = names["head"].weight.detach().clone()
    shared = torch.tensor([1.0, 2.0, 3.0, 4.0])
    if not own:
        head.eval()
        head.factor.copy_(shared)
    q = head(names["features"])
    z, kl, factor = names["scaled_posterior"](
        names["head"], names["features"], names["noise"], None if own else shared, des_std=0.7
    )
    torch.testing.assert_close(factor, q.factor, **CLOSE)
    expected = q.mean + torch.exp(0.5 * q.logvar) * names["noise"]
    torch.testing.assert_close(z, expected, **CLOSE)
    torch.testing.assert_close(
        kl, kl_to_standard_normal(q.unscaled.mean, q.unscaled.logvar), **CLOSE
    )


FIRST_PAGES = (
    "methods/four-slots",
    "lagging/mean-space",
    "autogen/theory",
    "igp/theory",
    "du/theory",
    "scale/theory",
)


@pytest.mark.parametrize("page", FIRST_PAGES)
def test_exercises_have_solutions_that_run(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At least three at the end of a chapter's first page; a solution is hidden with its output."""
    torch.set_default_dtype(torch.float32)
    notebook = json.loads((NOTEBOOKS / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]
    ids = [cell["id"] for cell in notebook]
    solutions = [cell for cell in notebook if "solution" in cell["metadata"].get("tags", [])]
    assert len(solutions) >= 3
    names = namespace(page)
    for number, cell in enumerate(solutions, 1):
        place = ids.index(f"solution-{number}")
        assert notebook[place] is cell and ids[place - 1] == f"exercise-{number}"
        assert "hide-cell" in cell["metadata"]["tags"]
        capsys.readouterr()
        exec(compile(source(cell), f"{page}, solution {number}", "exec"), names)
        assert capsys.readouterr().out.strip()


def test_every_chapter_has_exercises() -> None:
    chapters = {folder.name for folder in NOTEBOOKS.iterdir() if folder.is_dir()}
    assert {page.partition("/")[0] for page in FIRST_PAGES} == chapters - {"papers"}
