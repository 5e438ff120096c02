"""What every method of the table must do as a run: train, be stored, resume bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from posterior_collapse import methods
from posterior_collapse.runs import Spec, build_model, train_or_load, work
from posterior_collapse.runs.monitor import Recorder
from posterior_collapse.runs.spec import load_data

LIBRARY = [name for name in methods.names() if not methods.describe(name).own]
RECIPES = ("text-grammar", "digits")  # tests/test_pairs.py trains every method on other ones
# As cheap as the method allows; the rest have their defaults.
CHEAP = {
    "lagging": "lagging(max_inner=4, window=2)",
    "lagging-fixed": "lagging-fixed(steps=3)",
    "sa-vae": "sa-vae(steps=2)",
}


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def train(store: Path, monkeypatch: pytest.MonkeyPatch, spec: Spec, updates: int | None) -> Any:
    """Train to the end, or until so many updates are done and checkpointed."""
    monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(store))
    done = 0

    def count(*_: object) -> None:
        nonlocal done
        done += 1
        if updates is not None and done >= updates:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(work, "_advance", count)
        return train_or_load(spec, "cpu", False, 0.0 if updates else 30.0)


def content(run: Any) -> dict[str, bytes]:
    names = ("weights.safetensors", "metrics.json", "history.json")
    return {name: (run.folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("recipe", RECIPES)
def test_trains_is_stored_and_resumes_bit_for_bit(
    recipe: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Spec(recipe, CHEAP.get(name, name), "smoke")
    whole = train(tmp_path / "whole", monkeypatch, spec, None)
    assert all(math.isfinite(row) for row in whole.history["train_loss"])
    likelihood = whole.metrics["nll"]
    assert (likelihood is None) == (name == "ae")
    if likelihood is not None:
        slack = 5 * whole.metrics["elbo_loss_stderr"]
        assert math.isfinite(likelihood) and likelihood <= whole.metrics["elbo_loss"] + slack
    assert 0.0 <= whole.metrics["probe_100"] <= 1.0
    # Killed in the second epoch, so that what an epoch leaves behind is resumed as well.
    halfway = int(whole.metrics["updates"]) // 2 + 2
    with pytest.raises(Killed):
        train(tmp_path / "cut", monkeypatch, spec, halfway)
    resumed = train(tmp_path / "cut", monkeypatch, spec, None)
    assert content(resumed) == content(whole)


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        (
            "igp-start(epochs=1)",
            lambda head: head["untied"] and head["difference.weight"].any(),
        ),
        ("scale-vae(own_updates=1)", lambda head: not head["own"] and head["epoch"] == 1),
    ],
)
@pytest.mark.parametrize("updates", [4, 11])
def test_a_posterior_that_changes_within_the_run_resumes_bit_for_bit(
    updates: int,
    method: str,
    changed: Callable[[dict[str, Any]], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The smoke runs end before the phases by default; here they end with the first epoch."""
    spec = Spec("text-grammar", method, "smoke")
    whole = train(tmp_path / "whole", monkeypatch, spec, None)
    per_epoch = int(whole.metrics["updates"]) // 2
    assert updates < whole.metrics["updates"] and (updates < per_epoch or updates > per_epoch + 2)
    with pytest.raises(Killed):
        train(tmp_path / "cut", monkeypatch, spec, updates)
    resumed = train(tmp_path / "cut", monkeypatch, spec, None)
    assert content(resumed) == content(whole)
    own = "posterior_head."
    assert changed({k.removeprefix(own): v for k, v in whole.weights().items() if own in k})


@pytest.mark.parametrize("name", LIBRARY)
def test_first_parameters_depend_on_the_seed_alone(name: str) -> None:
    spec = Spec("text-grammar", name, "smoke", 3)
    torch.manual_seed(1)
    first = build_model(spec).state_dict()
    state = torch.get_rng_state()
    second = build_model(spec).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_history_of_a_scale_vae_tells_factor_and_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Spec("text-grammar", "scale-vae(des_std=0.7, own_updates=1)", "smoke")
    run = train(tmp_path, monkeypatch, spec, None)
    told = run.history[["own_factors", "batch_std", "factor_mean", "factor_largest"]]
    assert told["own_factors"].tolist() == [1.0, 0.0]
    assert told["batch_std"].iloc[0] == pytest.approx(0.7, rel=1e-3)
    assert (told["factor_largest"] >= told["factor_mean"]).all()
    # The factor of the second epoch is the average that the first one ended with.
    assert told["factor_mean"].iloc[1] == pytest.approx(told["factor_mean"].iloc[0])
    assert run.metrics["scaled_batch_std"] > 0.0


def test_epochs_of_a_scale_vae_are_compared_by_a_bound() -> None:
    """A larger factor with smaller means decodes the same and costs less, but is no better."""
    spec = Spec("text-grammar", "scale-vae", "smoke")
    model = build_model(spec).eval()
    head = model.posterior_head
    valid = load_data(spec.setup).valid.batches(64)
    recorder = Recorder(spec.setup, valid, [], 0)
    before = recorder.validate(model)
    with torch.no_grad():
        head.linear.weight[: spec.setup.latent_dim] /= 50.0  # type: ignore[index, union-attr, operator]
    head.factor.fill_(50.0)  # type: ignore[operator, union-attr]
    after = recorder.validate(model)
    assert before.kl is not None and after.kl is not None and after.kl < before.kl
    # log f - sigma^2 (1 - 1 / f^2) / 2 a dimension, for the variances that the model has
    with torch.no_grad():
        variance = torch.cat([model.posterior(x).variance for x in valid])  # type: ignore[attr-defined]
    lost = (math.log(50.0) - 0.5 * variance * (1.0 - 1.0 / 2500.0)).sum(1).mean().item()
    assert after.loss - before.loss == pytest.approx(lost + after.kl - before.kl, rel=1e-3)
