"""A folder or a list where a file is expected, and what the disk has before a name is given."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import nbformat
import pytest

from companion.build import batch, merge, reader
from pages_help import notebook
from posterior_collapse.errors import BadInput
from posterior_collapse.runs import DamagedRun, Spec, load_run, run_folder, train_or_load
from posterior_collapse.runs.store import partial_folder

VAE = Spec("text-grammar", "vae", "smoke")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTERIOR_COLLAPSE_STORE", str(tmp_path_factory.mktemp("trained")))
        return train_or_load(VAE, "cpu", False).folder


@pytest.fixture
def run(trained: Path, store: Path) -> Path:
    """A copy of it in a store of its own."""
    return Path(shutil.copytree(trained, run_folder(VAE)))


def in_place_of(path: Path) -> None:
    """Put a folder with something in it where a file is, or would be."""
    path.unlink(missing_ok=True)
    (path / "inside").mkdir(parents=True)


@pytest.mark.parametrize("name", ["manifest.json", "metrics.json", "weights.safetensors"])
def test_a_folder_in_place_of_a_file_of_a_run(run: Path, name: str) -> None:
    in_place_of(run / name)
    with pytest.raises(DamagedRun, match="manifest|is missing"):
        load_run(VAE)


@pytest.mark.parametrize("content", ["[]", "null", "3", "{}", '{"key": []}', "{"])
def test_a_provenance_that_is_none(
    run: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a manifest that agrees, as of one who writes runs himself."""
    (run / "provenance.json").write_text(content)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["provenance.json"] = sha256(content.encode()).hexdigest()
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedRun):
        load_run(VAE)
    shutil.move(run, run.parents[1] / "other" / "runs" / run.name)
    assert merge.main([str(run.parents[1] / "other")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not run.exists()


def test_a_folder_in_place_of_a_checkpoint(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    in_place_of(partial_folder(VAE) / "checkpoint.safetensors")
    assert train_or_load(VAE, "cpu", False).metrics["updates"] == 14
    assert "kept as checkpoint.safetensors.damaged" in caplog.text


@pytest.mark.parametrize("suffix", [".ipynb", ".sha256"])
def test_a_folder_in_place_of_a_page(store: Path, suffix: str) -> None:
    parts: dict[str, object] = {"text": "a"}
    key = reader.part_digest(parts)
    in_place_of(reader.stored_page(key).with_suffix(suffix))
    assert not reader.is_stored(key)
    target = store / "target.ipynb"
    nbformat.write(notebook(), target)
    reader._keep(target, "a page", parts)
    assert reader.is_stored(key)


def test_a_folder_in_place_of_a_grid(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read the grid file .*Is a directory"):
        batch.read_grid(tmp_path)


def test_what_outlives_a_power_cut_is_on_the_disk_before_its_name(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints, and both files of a page; of a run see test_faults_paths."""
    done: list[str] = []

    def note(what: str, function: Callable[..., None]) -> Callable[..., None]:
        def noted(*words: Any) -> None:
            places = [os.readlink(f"/proc/self/fd/{w}") if isinstance(w, int) else w for w in words]
            done.append(f"{what} {Path(places[0]).name}")
            function(*words)

        return noted

    for what in ("fsync", "replace"):
        monkeypatch.setattr(os, what, note(what, getattr(os, what)))
    folder = partial_folder(VAE).name
    train_or_load(VAE, "cpu", False)
    (store / "pages").mkdir()
    target = store / "target.ipynb"
    nbformat.write(notebook(), target)
    reader._keep(target, "a page", {"text": "a"})
    for part, home in (
        ("checkpoint.safetensors.part", folder),
        ("target.sha256", "pages"),
        ("target.ipynb", "pages"),
    ):
        moved = done.index(f"replace {part}")
        assert done[moved - 1 : moved + 2] == [f"fsync {part}", f"replace {part}", f"fsync {home}"]
