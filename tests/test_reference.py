"""`make reference` computes what is missing, in a copy of the repository, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from companion.claims import reference
from posterior_collapse.runs import Spec, work

# Two planned runs that take no time stand for those that take hours.
PLANNED = """
import sys
from companion.claims import reference
from posterior_collapse.runs import Spec
reference.planned = lambda: [Spec("text-grammar", m, "smoke", 0) for m in ("vae", "ae", "lstm-lm")]
sys.exit(reference.main(sys.argv[1:]))
"""


@pytest.fixture
def copy(tmp_path: Path, root: Path) -> Path:
    """Both packages and the inventory elsewhere, so that results are written there."""
    folder = tmp_path / "copy"
    for package in ("lib/posterior_collapse", "book/companion"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / package, folder / package, ignore=ignored)
    shutil.copytree(root / "data" / "papers", folder / "data" / "papers")
    return folder


def compute(copy: Path, store: Path, *words: str) -> subprocess.CompletedProcess[str]:
    homes = [str(copy / "lib"), str(copy / "book"), os.environ.get("PYTHONPATH")]
    path = os.pathsep.join(filter(None, homes))
    environment = {**os.environ, "PYTHONPATH": path, "POSTERIOR_COLLAPSE_STORE": str(store)}
    return subprocess.run(
        [sys.executable, "-c", PLANNED, *words],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_what_is_missing_is_computed_and_what_is_there_is_left(copy: Path, store: Path) -> None:
    kept = copy / "data" / "results" / "text-grammar" / "ae--smoke--seed0.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    done = compute(copy, store, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert "2 of 3 results to compute" in done.stdout
    assert kept.read_text() == "{}"
    assert sorted(path.name for path in kept.parent.iterdir()) == [
        "ae--smoke--seed0.json",
        "lstm-lm--smoke--seed0.json",
        "lstm-lm--smoke--seed0.npz",
        "vae--smoke--seed0.json",
        "vae--smoke--seed0.npz",
    ]
    assert "0 of 3 results to compute" in compute(copy, store).stdout


def test_a_list_says_what_is_there_and_computes_nothing(copy: Path, store: Path) -> None:
    kept = copy / "data" / "results" / "text-grammar" / "ae--smoke--seed0.json"
    kept.parent.mkdir(parents=True)
    kept.write_text('{"provenance": {"cpu_seconds": 90.0}}')
    (kept.parent / "vae--smoke--seed0.json").write_text("{}")  # does not say what it took
    done = compute(copy, store, "--list")
    assert done.returncode == 0, done.stderr
    head, row = (line.split() for line in done.stdout.splitlines())
    assert dict(zip(head, row, strict=True)) == {
        "recipe": "text-grammar",
        "scale": "smoke",
        "planned": "3",
        "missing": "1",
        "minutes": "1.5",
    }
    assert not store.exists()


def test_a_failure_is_told_and_the_rest_goes_on(copy: Path, store: Path) -> None:
    results = copy / "data" / "results" / "text-grammar"
    results.mkdir(parents=True)
    (results / "part-vae--smoke--seed0.npz").mkdir()  # the place of a result is taken
    done = compute(copy, store, "--recipe", "text-grammar", "--jobs", "1")
    assert done.returncode != 0 and "part-vae" in done.stderr
    assert (results / "lstm-lm--smoke--seed0.json").exists()
    assert not (results / "vae--smoke--seed0.json").exists()


def test_an_unknown_recipe_is_refused(copy: Path, store: Path) -> None:
    done = compute(copy, store, "--recipe", "text-gramar")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert 'unknown recipe with reference runs "text-gramar"; did you mean' in done.stderr
    assert not store.exists()


def test_results_of_another_version_are_measured_again(copy: Path, store: Path) -> None:
    assert compute(copy, store, "--jobs", "2").returncode == 0
    results = copy / "data" / "results" / "text-grammar"
    true = {path: json.loads(path.read_text()) for path in results.glob("*.json")}
    assert "0 of 3 results to measure again" in compute(copy, store, "--again").stdout
    for path, content in true.items():
        old = json.loads(json.dumps(content))
        old["provenance"]["sources"] = "0" * 64
        old["metrics"]["nll"] = -1.0
        del old["digests"]  # as results of versions that had none
        path.write_text(json.dumps(old))
    lost = next(store.glob("runs/text-grammar--ae--*"))
    lost.rename(store / "elsewhere")
    done = compute(copy, store, "--again", "--recipe", "text-grammar")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "3 of 3 results to measure again" in done.stdout
    assert "the weights of text-grammar--ae--smoke--seed0 are not in the store" in done.stderr
    for path, content in true.items():
        found = json.loads(path.read_text())
        if path.name.startswith("ae--"):  # left as it was
            assert found["metrics"]["nll"] == -1.0 and "measured" not in found["provenance"]
            continue
        assert found["metrics"] == content["metrics"] and found["history"] == content["history"]
        measured = found["provenance"]["measured"]
        assert measured["sources"] == content["provenance"]["sources"]
        assert found["provenance"]["key"] == content["provenance"]["key"]
    assert "1 of 3 results to measure again" in compute(copy, store, "--again").stdout


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Spec]:
    """Fourteen runs that are planned; none has a result, and no process is forked for them."""
    specs = [Spec("text-grammar", "vae", "smoke", seed) for seed in range(14)]
    monkeypatch.setattr(reference, "planned", lambda: specs)
    monkeypatch.setattr(reference, "repository", lambda: tmp_path)
    monkeypatch.setattr(reference.warm, "serve", lambda _: contextlib.nullcontext({}))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # main sets it; put back afterwards
    return specs


def test_a_run_that_a_signal_ends_is_no_success(
    queue: list[Spec], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = iter([0, -9, *[0] * 12])
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], next(codes))
    )
    assert reference.main(["--jobs", "1"]) == 9


def test_after_an_interrupt_nothing_more_begins(
    queue: list[Spec], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def run(*_: object, **__: object) -> None:
        begun.append(len(begun))
        time.sleep(0.1)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(reference, "as_completed", lambda waiting: waiting)
    with pytest.raises(KeyboardInterrupt):
        reference.main(["--jobs", "1"])
    assert len(begun) < len(queue)


def _same_where_both_have_it(before: object, now: object) -> bool:
    """Whether two set-ups agree; a field that is newer than a result decides nothing of it."""
    if isinstance(before, dict) and isinstance(now, dict):
        return all(
            _same_where_both_have_it(before[name], now[name]) for name in before.keys() & now.keys()
        )
    return before == now


def test_kept_results_are_of_their_recipes_as_they_are_now() -> None:
    """A result is found by its names alone, so a recipe that is recut must lose its old ones."""
    for spec in reference.planned():
        path = reference._path(spec)
        if path.is_file():
            before = json.loads(path.read_text())["provenance"]["setup"]
            now = json.loads(json.dumps(asdict(spec.setup)))
            for name in work._TRAINING:
                known = name in before
                assert not known or _same_where_both_have_it(before[name], now[name]), (path, name)
