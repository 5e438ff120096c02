"""Every path on another device than the CPU, shown without one.

Training runs on torch's ``meta`` device, where a tensor of the CPU is refused and so is every look
at a value: an ``item()``, or a branch on a tensor.
What looks at values by its nature, such as an estimator that checks them, an adaptive integral or
a search for words, runs on a device that :mod:`devices` emulates.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from companion.claims import reference
from devices import META, Device
from posterior_collapse import methods
from posterior_collapse.runs import (
    Run,
    Spec,
    build_model,
    measure_again,
    train_or_load,
    work,
)
from posterior_collapse.runs.__main__ import main as runs_main
from posterior_collapse.runs.batches import EpochBatches
from posterior_collapse.runs.spec import load_data
from posterior_collapse.training import new_state
from posterior_collapse.training.loop import _run_epoch

LIBRARY = [name for name in methods.names() if not methods.describe(name).own]
RECIPES = {"text-grammar": LIBRARY, "digits": LIBRARY, "five-gaussians": ["vae"]}
PAIRS = [(recipe, name) for recipe, names in RECIPES.items() for name in names]
CHEAP = {
    # Algorithm 1 of He et al. ends its inner loop when a loss rises, at which it has to look: at
    # the end of a window, so not within one.
    "lagging": "lagging(max_inner=3, window=3)",
    "lagging-fixed": "lagging-fixed(steps=3)",
    "sa-vae": "sa-vae(steps=2)",
    # These change within the run; the second epoch has the other form.
    "igp-start": "igp-start(epochs=1)",
    "scale-vae": "scale-vae(own_updates=1)",
}


class Generator(torch.Generator):
    """A generator of the meta device, which has none of its own but draws with the CPU's."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = super().__new__(cls, "cpu")
        made.place = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.place


@pytest.fixture(autouse=True)
def meta_is_a_device_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "Generator", Generator)
    adam = sys.modules[torch.optim.Adam.__module__]  # it lists devices with fused steps
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_, **__: None)


class Silent:
    """A monitor that looks at nothing."""

    def observe(self, moment: str, state: Any) -> None:
        assert moment in ("inner", "update")


@pytest.mark.parametrize(("recipe", "name"), [*PAIRS, ("pixels-digits", "vae")])
def test_a_training_step_has_no_tensor_on_the_cpu_and_looks_at_no_value(
    recipe: str, name: str
) -> None:
    spec = Spec(recipe, CHEAP.get(name, name), "smoke")
    batches = list(EpochBatches(spec, META))[:1]
    model = build_model(spec).to(META).train()
    method = spec.choices
    settings = spec.setup.optimisation
    state = new_state(model, method.objective, method.training, settings, len(batches), 0)
    before = {id(p) for p in model.parameters()}
    for _ in range(2):
        state.permutation = None
        _run_epoch(state, method.training, batches, Silent(), lambda _: None)
    assert state.iteration == 2 and {id(p) for p in model.parameters()} == before
    tensors = [*model.state_dict().values(), state.sums, *(p.grad for p in model.parameters())]
    assert {x.device for x in tensors if x is not None} == {META}
    assert any(p.grad is not None for p in model.parameters())


# A word that two devices choose apart, by rounding, changes all that is written after it.
WRITTEN = ("sampled_", "greedy_", "silhouette_")


def on_device(spec: Spec, store: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Train and measure on the emulated device."""
    monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(store))
    load_data(spec.setup)
    with monkeypatch.context() as patched, Device():
        patched.setattr(work, "choose_device", lambda _: META)
        return train_or_load(spec, "cuda", False)


# Recipes and methods that together ask every estimator: likelihoods, information and bounds, both
# posteriors of Scale-VAE, the posterior mean space, probes and classifiers, decoding, judged text,
# pictures; a mixture's draws, a flow's inverse, refined posteriors.
@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")  # here it does copy
@pytest.mark.parametrize(
    ("recipe", "method"),
    [
        ("digits", "mog"),
        ("five-gaussians", "vae-iaf"),
        ("generation-grammar", "scale-vae"),
        ("lagging-synthetic", "lagging(max_inner=2, window=1)"),
        ("pixels-digits", "du-vae"),
        ("text-grammar", "sa-vae(steps=2)"),
    ],
)
def test_a_run_goes_from_data_to_measures_on_a_device(
    recipe: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emulated, as estimators look at numbers; the CPU measures the same of the same weights."""
    run = on_device(Spec(recipe, method, "smoke"), tmp_path, monkeypatch)
    assert run.provenance["device"] == "meta"
    again = measure_again(run, "cpu").metrics
    differ = {
        name: (value, again[name])
        for name, value in run.metrics.items()
        if isinstance(value, float)
        and not name.startswith(WRITTEN)
        and value != pytest.approx(again[name], 1e-3, 1e-3)
    }
    assert not differ and run.metrics.keys() == again.keys()


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_repeated_evaluations_of_a_reference_result_run_on_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = on_device(Spec("digits", "vae", "smoke"), tmp_path, monkeypatch)
    with monkeypatch.context() as patched, Device():
        patched.setattr(reference, "choose_device", lambda _: META)
        (found,) = reference.repeat_evaluation(run, 1, 8, "cuda")
    (wanted,) = reference.repeat_evaluation(run, 1, 8)
    for name in ("nll", "kl", "reconstruction"):
        assert found[name] == pytest.approx(wanted[name], 1e-4)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_a_checkpoint_moves_between_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digits have no dropout, whose masks are drawn otherwise on a device."""
    spec = Spec("digits", "scale-vae", "smoke")
    whole = on_device(spec, tmp_path / "whole", monkeypatch)

    def stop(bar: object, state: Any, updates: int) -> None:
        if state.iteration == cut:
            raise KeyboardInterrupt

    for first, second in ((META, "cpu"), ("cpu", META)):
        monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(tmp_path / f"from-{first}"))
        cut = whole.metrics["updates"] // 2 + 1
        with monkeypatch.context() as patched, Device():
            patched.setattr(work, "_advance", stop)
            patched.setattr(work, "choose_device", lambda _: torch.device(first))  # noqa: B023
            with pytest.raises(KeyboardInterrupt):
                train_or_load(spec, "auto", False, 0.0)
            cut = -1
            patched.setattr(work, "choose_device", lambda _: torch.device(second))  # noqa: B023
            run = train_or_load(spec, "auto", False)
        assert run.metrics["updates"] == whole.metrics["updates"]
        for name, values in run.weights().items():
            torch.testing.assert_close(values, whole.weights()[name], rtol=1e-3, atol=1e-4)


def test_jobs_spread_over_the_gpus_of_a_machine_and_then_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    used: list[int] = []

    @contextlib.contextmanager
    def device(index: int) -> Any:
        used.append(index)
        yield
        used.remove(index)

    monkeypatch.setattr(torch.cuda, "device", device)
    cuda = torch.device("cuda")
    with work.one_gpu(cuda), work.one_gpu(torch.device("cpu")):
        assert used == [0]
        with work.one_gpu(cuda), work.one_gpu(cuda):
            assert sorted(used[:2]) == [0, 1] and len(used) == 3
        with work.one_gpu(cuda):
            assert used == [0, 1]
    assert not used


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
@pytest.mark.parametrize(
    ("main", "words"),
    [
        (runs_main, "train --recipe digits --method vae --scale smoke --seed 0"),
        (reference.main, "--recipe digits"),
        (reference.main, "--again"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(
    main: Callable[[list[str]], int], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words.split(), "--device", "cuda"]) != 0
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert 'the device "cuda" is not available on this machine' in said.err
