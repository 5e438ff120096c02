"""What nothing asks for goes from the store when that is asked for, and nothing else ever."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from filelock import FileLock

from companion.build import batch, prune, reader
from pages_help import notebook, small_book
from posterior_collapse.runs import Spec, load_run, run_folder, train_or_load

VAE = Spec("text-grammar", "vae", "smoke", 0)
PARAMETERS = 'scale = "smoke"\nseeds = [0]\ndevice = "auto"'
SHOWN = replace(VAE, seed=6)  # by the page, which asks for it nowhere
CELL = f"""
import json, os, pathlib
from companion import show
(file,) = pathlib.Path(os.environ["POSTERIOR_COLLAPSE_STORE"]).glob("runs/{SHOWN.label()}*/prov*")
show.provenance([json.loads(file.read_text())])
"""


@pytest.fixture
def book(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book of one page, which asks for a run and shows another one too."""
    asked = [{"recipe": VAE.recipe, "methods": ["vae"]}]
    page = notebook(CELL, runs=asked, parameters=PARAMETERS)
    folder = small_book(tmp_path / "book", {"page": page})
    monkeypatch.chdir(folder)
    return folder


def names(store: Path) -> set[str]:
    return {path.name for kind in ("runs", "pages") for path in (store / kind).iterdir()}


def test_what_nothing_asks_for_goes_and_the_rest_stays(
    book: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted, shown = (train_or_load(spec, "cpu", False) for spec in (VAE, SHOWN))
    reference = replace(VAE, seed=2)
    (book / "data" / "results").mkdir()
    (book / "data" / "results" / "r.json").write_text(f'{{"key": "{reference.key()}"}}')
    (job,) = batch.book_jobs(book)
    key = reader.part_digest(batch.job_parts(job, book))
    reader.execute((book / job.notebook).read_text(), {}, book, job.notebook)
    kept_by_grid = train_or_load(replace(VAE, seed=1), "cpu", False)
    (book / "grid.yml").write_text(
        json.dumps({"grid": [{"notebooks": "page.ipynb", "parameters": {"seeds": [[1]]}}]})
    )
    batch._note_grid(book / "grid.yml")
    trained = run_folder(reference)
    for copy in (
        trained,  # behind a reference result
        trained.with_name(f"{VAE.label()}--{16 * '0'}"),  # of another version
        trained.with_name(f"{replace(VAE, seed=3).label()}--{16 * '1'}"),
        Path(f"{run_folder(replace(VAE, seed=4))}.part"),  # interrupted, for no page
        Path(f"{run_folder(VAE)}.part"),  # of a page, were it trained anew
        Path(f"{run_folder(VAE)}.damaged-20240101T000000"),
    ):
        shutil.copytree(wanted.folder, copy)
    for name in (f"{64 * 'a'}.ipynb", f"{64 * 'a'}.sha256", f"{key}.damaged"):
        (store / "pages" / name).write_text("")
    (store / "pages" / "failed").mkdir()

    before = names(store)
    assert prune.main([]) == 0
    said = capsys.readouterr().out
    assert names(store) == before and "nothing is removed without --remove" in said
    assert "[prune] 8 runs and pages" in said and "(of another version)" in said
    size = sum(f.stat().st_size for f in wanted.folder.iterdir())
    assert f"nothing asks for: {4 * size / 1e6:.1f} MB" in said

    writing = FileLock(store / "locks" / f"{VAE.label()}--{16 * '0'}.lock")
    with writing:  # as one who trains it does
        assert prune.main(["--remove"]) == 0
        assert "stays, as it is being written" in capsys.readouterr().out
        assert (store / "runs" / f"{VAE.label()}--{16 * '0'}").is_dir()
    assert prune.main(["--remove"]) == 0
    capsys.readouterr()
    assert names(store) == {
        wanted.folder.name,
        f"{wanted.folder.name}.part",
        kept_by_grid.folder.name,
        trained.name,
        shown.folder.name,
        f"{key}.ipynb",
        f"{key}.sha256",
    }
    assert load_run(VAE).metrics == wanted.metrics and reader.is_stored(key)

    (book / "grid.yml").unlink()  # the grid is gone, and with it what it asked for
    assert prune.main(["--remove"]) == 0
    assert not kept_by_grid.folder.exists() and wanted.folder.exists()


def test_a_grid_that_cannot_be_read_removes_nothing(
    book: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_or_load(replace(VAE, seed=5), "cpu", False)
    (book / "notebooks" / "other.ipynb").write_text(nbformat.writes(notebook()))
    (book / "grid.yml").write_text(json.dumps({"grid": [{"notebooks": "other.ipynb"}]}))
    batch._note_grid(book / "grid.yml")
    (book / "notebooks" / "other.ipynb").unlink()
    assert prune.main(["--remove"]) == 2
    said = capsys.readouterr().err
    assert "nothing is removed" in said and "unknown notebook" in said and run.folder.exists()
    batch.grids_file().write_text("{")
    assert prune.main(["--remove"]) == 2 and run.folder.exists()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_a_killed_call_left_is_taken(book: Path, store: Path) -> None:
    (store / "runs").mkdir(parents=True)
    left = store / "runs" / f"{VAE.label()}--{16 * '0'}.pruned"
    left.mkdir()
    assert prune.main(["--remove"]) == 0
    assert not left.exists()
