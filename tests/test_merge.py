"""Runs of another machine are taken over whole, or not at all."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from companion.build import merge
from posterior_collapse.runs import Spec, load_run, run_folder, train_or_load

VAE = Spec("text-grammar", "vae", "smoke")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two runs."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTERIOR_COLLAPSE_STORE", str(folder))
        for seed in (0, 1):
            train_or_load(Spec(VAE.recipe, VAE.method, VAE.scale, seed), "cpu", False)
    return folder


@pytest.fixture
def other(trained: Path, tmp_path: Path, store: Path) -> Path:
    """The store of another machine, beside our own, which is empty."""
    shutil.copytree(trained / "runs", tmp_path / "other" / "runs")
    return tmp_path / "other"


def change(folder: Path, name: str) -> None:
    """Give a run another file, and a manifest that agrees."""
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, "new": 1}))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[name] = sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_what_is_missing_is_taken_once(
    other: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = other / "runs" / run_folder(VAE).name
    for rest in (".part", ".damaged-20240101T000000"):  # neither is a finished run
        shutil.copytree(folder, folder.with_name(folder.name + rest))
    change(folder, "provenance.json")  # of another machine, with the same results
    assert merge.main([str(other)]) == 0
    assert "[merge] 2 of 2 runs taken" in capsys.readouterr().out
    assert load_run(VAE).provenance["new"] == 1
    assert len(list((store / "runs").iterdir())) == 2
    assert merge.main([str(other / "runs")]) == 0
    assert "[merge] 0 of 2 runs taken" in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["flip", "name", "conflict", "empty"])
def test_a_fault_in_one_takes_none(
    other: Path, store: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = other / "runs" / run_folder(VAE).name
    if fault == "flip":
        content = bytearray((folder / "weights.safetensors").read_bytes())
        content[-1] ^= 1
        (folder / "weights.safetensors").write_bytes(content)
    elif fault == "name":
        folder.rename(folder.with_name(folder.name[:-16] + 16 * "0"))
    elif fault == "conflict":
        shutil.copytree(folder, run_folder(VAE))
        change(folder, "metrics.json")
    else:
        shutil.rmtree(other / "runs")
    before = sorted(store.rglob("*"))
    assert merge.main([str(other)]) == 2
    said = capsys.readouterr().err
    reasons = {"flip": "the manifest says", "name": "what is in it is the run"}
    reasons |= {"conflict": "none is taken", "empty": "no finished runs"}
    assert reasons[fault] in said and len(said.splitlines()) == 1
    assert sorted(store.rglob("*")) == before
