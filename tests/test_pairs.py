"""Every pair of a method and a recipe runs, or is refused before anything is trained."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from companion.show import figures as plots
from posterior_collapse import methods, recipes
from posterior_collapse.errors import BadInput, PosteriorCollapseError
from posterior_collapse.methods import entries
from posterior_collapse.networks import ImageNetwork, TextNetwork
from posterior_collapse.posteriors import DiagonalNormal
from posterior_collapse.priors import UnitNormal
from posterior_collapse.recipes import Setup, Wording
from posterior_collapse.runs import Spec, monitor, train_or_load
from posterior_collapse.runs.monitor import mean_space
from test_every_method import CHEAP, LIBRARY
from test_every_method import RECIPES as TRAINED_THERE

# The posterior mean space needs one dimension, a mean and a variance.
MEAN_SPACE = ("lagging-synthetic", "lagging-synthetic-offset")
NO_MEAN_SPACE = {"lstm-lm", "vae-iaf", "iaf-bn", "du-iaf", "delta-vae-ar"}

# Recipes that stand for all others; each has data that the library makes itself.
TRAINED_HERE = (
    "lagging-synthetic",
    "five-gaussians",
    "five-gaussians-redrawn",
    "five-gaussians-sorted",
    "igp-grammar",
    "pixels-digits",
)


class Kind(NamedTuple):
    """What decides which code a run goes through; two recipes differ in constants otherwise."""

    network: type
    partition: str
    smallest_batch: int | None
    measures: frozenset[str]

    def covers(self, other: Kind) -> bool:
        """Whether a run of this kind goes through all that one of the other does."""
        return self[:3] == other[:3] and self.measures >= other.measures


def kind(setup: Setup) -> Kind:
    told = {
        "mean space": setup.grid_points,
        "trajectories": setup.trajectory_points,
        "means": setup.means_points,
        "recorded means": setup.means_every,
        "probes": setup.probes,
        "classifiers": setup.classifiers,
        "few labels": setup.few_labels,
        "samples": setup.samples,
    }
    if setup.wording is not None:
        told |= vars(setup.wording)
    measures = frozenset(name for name, wanted in told.items() if wanted)
    return Kind(type(setup.network), setup.partition.value, setup.least_batch, measures)


def test_the_trained_recipes_stand_for_all() -> None:
    """All that a recipe measures is measured by one that is trained with every method."""
    trained = [kind(recipes.get(name, "smoke")) for name in (*TRAINED_HERE, *TRAINED_THERE)]
    for name in recipes.names():
        for scale in recipes.scales(name):
            own = kind(recipes.get(name, scale))
            assert any(one.covers(own) for one in trained), (name, scale, own)


@pytest.mark.parametrize("recipe", recipes.names())
def test_a_pair_is_refused_exactly_where_it_cannot_run(recipe: str) -> None:
    for scale in recipes.scales(recipe):
        refused = {name for name in LIBRARY if _refusal(recipe, name, scale)}
        assert refused == (NO_MEAN_SPACE if recipe in MEAN_SPACE else set()), scale


def _refusal(recipe: str, method: str, scale: str = "smoke") -> str:
    try:
        Spec(recipe, method, scale)
    except BadInput as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("lstm-lm", "it has no latent variable"),
        ("lstm-lm+anneal", "it has no latent variable"),
        ("vae-iaf", "its posterior, Flowed, has no variance"),
        ("du-iaf(gamma=1)", "its posterior, Flowed, has no variance"),
        ("delta-vae-ar", "at least 2 dimensions, given 1"),
    ],
)
def test_a_refusal_is_one_sentence_with_what_is_allowed(method: str, why: str) -> None:
    told = _refusal("lagging-synthetic", method)
    assert told.startswith(f'"{method}" cannot run on lagging-synthetic') and why in told
    allowed = re.search(r'; allowed: .*, such as "(.*)"$', told)
    assert allowed and "\n" not in told
    assert not _refusal("lagging-synthetic", allowed[1])


class Narrow(nn.Module):
    """A head of a reader's own whose distribution has a mean and no variance."""

    def forward(self, features: torch.Tensor) -> Any:
        class Meanwhile(torch.distributions.Distribution):
            mean = features[:, :1]

        return Meanwhile(features.shape[:1], (1,), validate_args=False)


class Own:
    def build(self, features: int, latent_dim: int) -> nn.Module:
        return Narrow()


def test_a_posterior_of_the_readers_own_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "_TABLE", dict(entries._TABLE))
    methods.register("own", "", "", "")(lambda: methods.Method(posterior=Own()))
    before = torch.get_rng_state()
    assert "its posterior, Meanwhile, has no variance" in _refusal("lagging-synthetic", "own")
    assert not _refusal("text-grammar", "own")
    assert torch.equal(torch.get_rng_state(), before)


# --- trained --------------------------------------------------------------------------------------


def tiny(recipe: str) -> Setup:
    """A recipe at smoke scale with a few updates, and as little as possible measured of it all."""
    setup = recipes.get(recipe, "smoke")
    network = setup.network
    if isinstance(network, TextNetwork):
        network = replace(network, embedding=6, hidden=8)
    elif isinstance(network, ImageNetwork):
        network = ImageNetwork((8,))
    small = {
        "grid_points": 2,
        "trajectory_points": 1,
        "trajectory_updates": 1,
        "means_points": 12,
        "nll_samples": 4,
        "nll_sentences": 8,
    }
    return replace(
        setup,
        train=64,
        valid=24,
        test=24,
        network=network,
        optimisation=replace(setup.optimisation, max_epochs=1),
        wording=setup.wording and Wording(8, 12, min(1, setup.wording.judge_epochs)),
        grid_every=setup.grid_every[:1],
        means_every=(0, 1) if setup.means_every else (),
        **{name: min(count, getattr(setup, name)) for name, count in small.items()},
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One store for all, so that the language model that judges text is trained once."""
    with pytest.MonkeyPatch.context() as patched:
        folder = tmp_path_factory.mktemp("pairs")
        patched.setenv("POSTERIOR_COLLAPSE_STORE", str(folder))
        for name in TRAINED_HERE:
            smoke = tiny(name)
            assert kind(smoke) == kind(recipes.get(name, "smoke"))
            known = recipes.recipe(name)
            patched.setitem(recipes.RECIPES, name, replace(known, scales={"smoke": smoke}))
        yield folder


@pytest.mark.parametrize("method", LIBRARY)
@pytest.mark.parametrize("recipe", TRAINED_HERE)
def test_a_pair_that_is_not_refused_runs(recipe: str, method: str, store: Path) -> None:
    if recipe in MEAN_SPACE and method in NO_MEAN_SPACE:
        assert _refusal(recipe, method)
        assert not list(store.glob(f"runs/{recipe}--{method}--*"))
        return
    run = train_or_load(Spec(recipe, CHEAP.get(method, method), "smoke"), "cpu", False)
    setup = run.spec.setup
    assert run.metrics["updates"] >= 2 and run.metrics["epochs"] == 1
    assert math.isfinite(run.history["train_loss"].iloc[-1])
    assert (run.metrics["nll"] is None) == (method == "ae")
    if setup.grid_points:
        assert run.arrays["final_model_mean"].shape == (setup.grid_points,)
    if setup.means_every:
        dim = 0 if method == "lstm-lm" else setup.latent_dim
        assert run.arrays["means_mean"].shape == (2, setup.means_points, dim)
    if setup.wording is not None:
        assert 0.0 <= run.metrics["greedy_ended"] <= 1.0
        assert ("agreement_imputed" in run.metrics) == (method != "lstm-lm")


# --- the quadrature of a picture ------------------------------------------------------------------


class Shifted(nn.Module):
    """x ~ N(z, 1) and z ~ N(0, 1): p(z|x) is N(x / 2, 1 / 2), and p(x) is N(0, 2)."""

    prior = UnitNormal(torch.zeros(1, dtype=torch.float64))

    def posterior(self, x: torch.Tensor) -> DiagonalNormal:
        return DiagonalNormal(x, torch.zeros_like(x))

    def log_likelihood(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """No number where x is 3, no end where it is 4."""
        values = -0.5 * ((x - z).square() + math.log(2.0 * math.pi)).sum(-1)
        values[:, x[:, 0] == 3.0] = math.nan
        values[:, x[:, 0] == 4.0] += z[:, x[:, 0] == 4.0].square().sum(-1)
        return values


def test_points_that_cannot_be_integrated_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """The others of their batches are right, and there is a warning for each that is missing."""
    x = torch.tensor([[1.0], [3.0], [-2.0], [0.5], [4.0]], dtype=torch.float64)
    with caplog.at_level(logging.WARNING):
        found = mean_space(Shifted(), [x[:3], x[3:]], tolerance=1e-8)  # type: ignore[arg-type]
    seen = torch.tensor([0, 2, 3])
    x = x[seen, 0]
    evidence = -0.25 * x.square() - 0.5 * math.log(4.0 * math.pi)
    for values, right in zip(
        found.model, (0.5 * x, torch.full_like(x, 0.5), evidence), strict=True
    ):
        torch.testing.assert_close(values[seen], right, rtol=1e-7, atol=1e-7)
        assert values[[1, 4]].isnan().all()
    told = [line.getMessage() for line in caplog.records]
    assert len(told) == 2 and all("missing in the posterior mean space" in line for line in told)
    assert "nan" in told[0] and "does not decay" in told[1]


def test_no_picture_ends_a_run(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec("lagging-synthetic", "vae", "smoke", 1)
    plain = train_or_load(spec, "cpu", False)

    def refuses(*_: object, **__: object) -> None:
        raise PosteriorCollapseError("too rough")

    monkeypatch.setattr(monitor, "posterior_moments_1d", refuses)
    monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(store / "apart"))
    run = train_or_load(spec, "cpu", False)
    np.testing.assert_equal(run.metrics, plain.metrics)
    assert set(run.arrays) == set(plain.arrays)
    for name, values in plain.arrays.items():
        of_model = "model" in name or "evidence" in name
        assert np.isfinite(values).all() and np.isnan(run.arrays[name]).all() == of_model, name
    shown = (run.arrays[f"trajectory_{name}"] for name in ("model_mean", "inference_mean", "inner"))
    plots.trajectory_figure(*shown, ["a"])  # draws what there is
