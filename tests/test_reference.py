"""`make reference` computes what is missing, in a copy of the repository, and nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest

from companion.claims import reference
from posterior_collapse.errors import BadInput
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
        old["digests"]["content"] = reference._of_content(old)
        path.write_text(reference._text(old))
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
    monkeypatch.setattr(
        reference.warm, "serve", lambda _: contextlib.nullcontext(reference.warm.Forks({}, 0))
    )
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
    assert reference.main(["--jobs", "1"]) == 130
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


def test_every_result_is_whole() -> None:
    """Digests, caps and names of all files in the repository."""
    paths = sorted((reference.repository() / "data" / "results").glob("*/*"))
    assert len(paths) > 600
    for path in paths:
        if path.suffix == ".json":
            content, _ = reference._read(path)
            assert reference._path(Spec(**content["spec"])) == path
    assert {path.suffix for path in paths} == {".json", ".npz"}
    assert {path.stem for path in paths if path.suffix == ".npz"} == {
        path.stem for path in paths if path.suffix == ".json"
    }


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    """A result that lies in a repository of its own."""
    spec = next(spec for spec in reference.planned() if reference._path(spec).is_file())
    source = reference._path(spec)
    monkeypatch.setattr(reference, "repository", lambda: tmp_path)
    place = reference._path(spec)
    place.parent.mkdir(parents=True)
    for suffix in (".json", ".npz"):
        shutil.copy(source.with_suffix(suffix), place.with_suffix(suffix))
    return spec


def test_no_flip_or_cut_of_a_result_is_accepted(pair: Spec) -> None:
    draw, accepted = random.Random(0), 0
    reference.load(pair)
    for trial in range(300):
        path = reference._path(pair).with_suffix((".json", ".npz")[trial % 2])
        content = path.read_bytes()
        changed = bytearray(content)
        if trial % 3:
            changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        else:
            del changed[draw.randrange(len(content)) :]
        path.write_bytes(changed)
        with contextlib.suppress(BadInput):
            reference.load(pair)
            accepted += 1
        path.write_bytes(content)
    assert accepted == 0
    reference.load(pair)


@pytest.mark.parametrize("content", ["[]", "{}", "3", "[" * 100_000, "folder", "no digests"])
def test_what_is_no_result_is_refused(pair: Spec, content: str) -> None:
    path = reference._path(pair)
    true = json.loads(path.read_text())
    path.unlink()
    if content == "folder":
        path.mkdir()
    elif content == "no digests":
        del true["digests"]
        path.write_text(reference._text(true))
    else:
        path.write_text(content)
    with pytest.raises(BadInput, match="is damaged"):
        reference.load(pair)


def test_arrays_that_would_fill_the_memory_are_not_unpacked(
    pair: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = reference._path(pair)
    packed = zipfile.ZipFile(path.with_suffix(".npz"), "w", zipfile.ZIP_DEFLATED)
    with packed as bomb, bomb.open("bomb.npy", "w") as file:
        for _ in range(reference._LARGEST // 2**20 + 1):
            file.write(bytes(2**20))
    content = json.loads(path.read_text())
    content["digests"]["arrays"] = reference._digest(path.with_suffix(".npz").read_bytes())
    path.write_text(reference._text(content))
    monkeypatch.setattr(reference.np, "load", None)
    with pytest.raises(BadInput, match="arrays of more than 67108864 bytes"):
        reference.load(pair)
    with path.with_suffix(".npz").open("r+b") as file:
        file.truncate(reference._LARGEST + 1)
    monkeypatch.setattr(Path, "read_bytes", None)
    with pytest.raises(BadInput, match="a file of more than 67108864 bytes"):
        reference.load(pair)


def test_a_result_of_another_run_is_refused(pair: Spec) -> None:
    other = dataclasses.replace(pair, seed=pair.seed + 100)
    for suffix in (".json", ".npz"):
        shutil.copy(
            reference._path(pair).with_suffix(suffix), reference._path(other).with_suffix(suffix)
        )
    with pytest.raises(BadInput, match="it is that of"):
        reference.load(other)


def test_nobody_sees_half_of_a_pair(
    pair: Spec, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two moves the new arrays are refused with the old numbers."""
    run = work.train_or_load(Spec("text-grammar", "vae", "smoke"), "cpu", False)
    path = reference.export(run, [])
    before = path.read_text()
    reference.load(run.spec)
    moves = []

    def move(part: Path, place: Path) -> None:
        if moves:
            raise KeyboardInterrupt
        moves.append(place)
        os.replace(part, place)

    monkeypatch.setattr(reference, "move", move)
    new = dataclasses.replace(run, arrays={"each_nll": run.arrays["each_nll"] + 1.0})
    with pytest.raises(KeyboardInterrupt):
        reference.export(new, [])
    assert moves == [path.with_suffix(".npz")] and path.read_text() == before
    with pytest.raises(BadInput, match="digest of its arrays"):
        reference.load(run.spec)
    monkeypatch.undo()


@pytest.mark.parametrize("jobs", ["0", "-1"])
def test_no_jobs_at_once_is_refused_in_one_line(
    jobs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reference.main(["--jobs", jobs]) == 2
    expected = f"error: jobs is a whole number of at least 1, given {jobs}\n"
    assert capsys.readouterr() == ("", expected)
