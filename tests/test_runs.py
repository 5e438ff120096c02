"""Runs: keys, the store, damage, several processes, and resuming after SIGKILL."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from companion.claims import reference
from posterior_collapse import datasets, digests, probes, recipes
from posterior_collapse.errors import BadInput, PosteriorCollapseError
from posterior_collapse.runs import (
    DamagedRun,
    Run,
    Spec,
    build_model,
    choose_device,
    evaluate_run,
    find_run,
    is_complete,
    load_run,
    measure_again,
    run_folder,
    store_root,
    train_or_load,
    work,
)
from posterior_collapse.runs import spec as spec_module
from posterior_collapse.runs.spec import load_data
from posterior_collapse.runs.store import partial_folder

SPEC = Spec("text-grammar", "lagging", "smoke", 0)

# A process of its own that trains one run, with a checkpoint after every update.
_TRAIN = (
    "from posterior_collapse.runs import Spec, train_or_load;"
    "train_or_load(Spec('text-grammar', 'lagging', 'smoke', 0), 'cpu', False, 0.0)"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store with the uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    _start(folder).wait()
    return folder


@pytest.fixture
def run(whole: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """That run; nobody may write to its store."""
    monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(whole))
    return load_run(SPEC)


def _start(store: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "POSTERIOR_COLLAPSE_STORE": str(store), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", _TRAIN], env=environment, stderr=subprocess.PIPE, text=True
    )


def _content(store: Path) -> dict[str, bytes]:
    """Everything of the run that must not depend on interruptions."""
    found = next((store / "runs").glob("text-grammar--*[!t]"))
    return _content_of(found)


def _iteration(checkpoint: Path) -> int:
    from safetensors import safe_open

    with safe_open(checkpoint, "pt") as file:
        return int(json.loads(file.metadata()["state"])["iteration"])


@pytest.mark.parametrize("points", [(1,), (4, 9)])
def test_killed_run_resumes_and_ends_bit_for_bit_equal(
    tmp_path: Path, whole: Path, points: tuple[int, ...]
) -> None:
    checkpoint = None
    for point in points:
        process = _start(tmp_path)
        while process.poll() is None:
            checkpoint = next((tmp_path / "runs").glob("*.part/checkpoint.safetensors"), None)
            if checkpoint is not None and _iteration(checkpoint) >= point:
                process.send_signal(signal.SIGKILL)
                process.wait()
            time.sleep(0.005)
        assert process.returncode == -signal.SIGKILL
        assert not list((tmp_path / "runs").glob("*seed0--????????????????"))
    assert checkpoint is not None and _iteration(checkpoint) >= points[-1]
    assert _start(tmp_path).wait() == 0
    assert _content(tmp_path) == _content(whole)


def test_kill_while_the_result_is_written_leaves_no_run(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(np, "savez_compressed", die)
    with pytest.raises(Killed):
        train_or_load(SPEC, "cpu", False)
    assert not is_complete(SPEC) and partial_folder(SPEC).is_dir()
    monkeypatch.undo()
    monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(store))
    assert (partial_folder(SPEC) / "checkpoint.safetensors").is_file()
    run = train_or_load(SPEC, "cpu", False)
    assert run.metrics["epochs"] == 2
    assert not partial_folder(SPEC).exists()


def test_two_processes_ask_and_one_trains(tmp_path: Path, whole: Path) -> None:
    first, second = _start(tmp_path), _start(tmp_path)
    assert first.wait() == 0 and second.wait() == 0
    assert _content(tmp_path) == _content(whole)
    assert len(list((tmp_path / "runs").iterdir())) == 1


@pytest.mark.parametrize("harm", ["flip", "remove", "manifest"])
def test_damaged_run_is_set_aside_and_trained_anew(
    store: Path, whole: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(whole / "runs", store / "runs")
    folder = run_folder(SPEC)
    target = folder / ("manifest.json" if harm == "manifest" else "weights.safetensors")
    if harm == "remove":
        target.unlink()
    else:
        content = bytearray(target.read_bytes())
        content[len(content) // 2] ^= 255
        target.write_bytes(content)
    with pytest.raises(DamagedRun, match=re.escape(folder.name)):
        load_run(SPEC)
    with caplog.at_level(logging.WARNING):
        run = train_or_load(SPEC, "cpu", False)
    assert "set aside" in caplog.text
    assert len(list(store.glob("runs/*.damaged-*"))) == 1
    assert _content_of(run.folder) == _content(whole)


def _content_of(folder: Path) -> dict[str, bytes]:
    names = ("weights.safetensors", "metrics.json", "history.json", "spec.json")
    return {name: (folder / name).read_bytes() for name in names}


def test_damaged_checkpoint_is_set_aside(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = partial_folder(SPEC)
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").write_bytes(b"no checkpoint at all")
    with caplog.at_level(logging.WARNING):
        train_or_load(SPEC, "cpu", False)
    assert "training starts anew" in caplog.text


def test_full_disk_is_a_clear_error(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(work, "save_state", full)
    with pytest.raises(PosteriorCollapseError, match="POSTERIOR_COLLAPSE_STORE"):
        train_or_load(SPEC, "cpu", False, 0.0)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs a disk that is full")
def test_a_real_full_disk_is_an_error_of_the_system(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors' own writer raises something else, which nothing would catch."""
    write = Path.write_bytes

    def onto_the_full_disk(path: Path, content: bytes) -> int:
        kind = path.suffix == ".part" or path.name == "weights.safetensors"
        return write(Path("/dev/full") if kind else path, content)

    monkeypatch.setattr(Path, "write_bytes", onto_the_full_disk)
    with pytest.raises(PosteriorCollapseError, match="POSTERIOR_COLLAPSE_STORE"):
        train_or_load(SPEC, "cpu", False, 0.0)
    with pytest.raises(PosteriorCollapseError, match="POSTERIOR_COLLAPSE_STORE"):
        train_or_load(SPEC, "cpu", False)  # no checkpoint falls due: at the end


def test_others_may_read_a_run(whole: Path) -> None:
    modes = {
        p.stat().st_mode & 0o777 for p in whole.rglob("*") if p.suffix in (".safetensors", ".json")
    }
    assert len(modes) == 1


def test_loaded_run_equals_the_trained_one(store: Path, whole: Path) -> None:
    shutil.copytree(whole / "runs", store / "runs")
    started = time.monotonic()
    run = train_or_load(SPEC, "cpu", False)
    assert time.monotonic() - started < 5.0
    model = build_model(SPEC)
    model.load_state_dict(run.weights())
    assert run.provenance["threads"] == 1 and run.provenance["key"] == SPEC.key()
    assert run.metrics["mutual_information_points"] == run.metrics["n_sentences"]
    assert list(run.history["epoch"]) == [1, 2]


def test_everything_that_decides_a_run_changes_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        SPEC.key(),
        replace(SPEC, seed=1).key(),
        replace(SPEC, method="vae").key(),
        replace(SPEC, method="lagging(window=10)").key(),
        replace(SPEC, scale="quick").key(),
        replace(SPEC, recipe="lagging-synthetic").key(),
    }
    assert len(keys) == 6
    setup = recipes.get(SPEC.recipe, SPEC.scale)
    monkeypatch.setattr(
        recipes, "get", lambda *_: replace(setup, network=replace(setup.network, dropout=0.25))
    )
    keys.add(SPEC.key())
    monkeypatch.setattr(recipes, "get", lambda *_: replace(setup, train=setup.train - 1))
    keys.add(SPEC.key())  # other data
    monkeypatch.setattr(recipes, "get", lambda *_: setup)
    monkeypatch.setattr(spec_module, "sources_digest", lambda: "other sources")
    keys.add(SPEC.key())
    monkeypatch.undo()
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    keys.add(SPEC.key())
    assert len(keys) == 10


# Modules that a run imports and whose source is no part of its key, each with what stands for it.
REPRESENTED = {
    "__init__.py": "names only",
    "datasets/__init__.py": "names only",
    "datasets/five_gaussians.py": "the digest of the data",
    "datasets/grammar.py": "the digest of the data",
    "datasets/idx.py": "the digest of the data",
    "datasets/images.py": "the digest of the data",
    "datasets/loading.py": "the digest of the data",
    "datasets/omniglot.py": "the digest of the data",
    "datasets/registry.py": "the digest of the data",
    "datasets/synthetic.py": "the digest of the data",
    "digests.py": "the digests themselves",
    "errors.py": "decides messages only",
    "methods": "the representation of the method's choices",
    "places.py": "decides where files are, not what is in them",
    "recipes": "the representation of the set-up",
    "runs/spec.py": "makes the key of all that a spec resolves to",
    "runs/store.py": "decides where results are kept, not what they are",
}


def _imported(root: Path, path: Path) -> set[Path]:
    """Files of the library that a file imports, at the top or inside a function."""
    names: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # What is imported for type checkers alone is no part of a run.
    tree.body = [node for node in tree.body if "TYPE_CHECKING" not in ast.unparse(node)[:20]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            names |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
    found = set()
    for name in names:
        first, *parts = name.split(".")
        if first == root.name:
            place = root.joinpath(*parts)
            found |= {place.with_suffix(".py"), place / "__init__.py"}
    return {file for file in found if file.is_file()}


def test_every_module_that_a_run_imports_is_in_its_key_or_represented() -> None:
    """Otherwise a change of it would leave old numbers under a key that new ones would have."""
    root = Path(spec_module.__file__).parents[1]
    reached: set[Path] = set()
    waiting = {root / "runs" / "work.py"}
    while waiting:
        path = waiting.pop()
        reached.add(path)
        waiting |= _imported(root, path) - reached
    names = {path.relative_to(root).as_posix() for path in reached}
    assert {"datasets/labelled.py", "networks/text.py", "runs/text.py"} <= names
    known = [*spec_module._DECIDING, *REPRESENTED]
    for name in names:
        holders = [entry for entry in known if name == entry or name.startswith(f"{entry}/")]
        assert len(holders) == 1, f"{name} is neither in _DECIDING nor represented: {holders}"
    for entry in known:  # none is left of a module that moved
        assert any(name == entry or name.startswith(f"{entry}/") for name in names), entry


def test_comments_and_docstrings_do_not_retrain() -> None:
    code = 'def f(x):\n    """Old."""\n    return x + 1\n'
    same = 'def f(x):\n\n    """New text."""\n    return x + 1  # why\n'
    other = "def f(x):\n    return x + 2\n"
    strip = digests.without_docstrings
    assert strip(code) == strip(same) != strip(other)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": "lagging-sintetic"}, 'did you mean "lagging-synthetic"'),
        ({"method": "laging"}, 'did you mean "lagging"'),
        ({"method": "lagging(windw=3)"}, 'did you mean "window"'),
        ({"method": "lagging(window=0)"}, "1 <= window"),
        ({"method": "lagging(__import__('os'))"}, "cannot read the method"),
        ({"method": "lagging(window='3')"}, "are numbers"),
        ({"scale": "quik"}, 'did you mean "quick"'),
        ({"seed": -1}, "from 0 to 2147483647, given -1"),
        ({"seed": True}, "a whole number"),
    ],
)
def test_bad_specs_are_refused_with_the_nearest_match(given: dict, message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        replace(SPEC, **given)


def test_devices_are_checked() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(BadInput, match='did you mean "cuda"'):
        choose_device("cude")
    if not torch.cuda.is_available():
        with pytest.raises(BadInput, match="not available"):
            choose_device("cuda")


def test_store_must_be_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(file))
    with pytest.raises(BadInput, match="not a folder"):
        store_root()


def test_training_leaves_global_random_state_and_threads_alone(store: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    train_or_load(SPEC, "cpu", False)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(3), expected)


def test_no_pickle_is_written(whole: Path) -> None:
    names = {p.suffix for p in whole.rglob("*") if p.is_file()}
    assert names <= {".json", ".npz", ".safetensors", ".lock"}
    for path in whole.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            assert all(file[name].dtype != object for name in file.files)


def test_decoded_sentences_are_no_choice_by_length(store: Path) -> None:
    """Batches come sorted by length; the measured subset of the test set must not."""
    spec = Spec("text-grammar", "vae", "smoke")
    test, count = work.load_data(spec.setup).test, spec.setup.nll_sentences
    assert count < len(test)
    with work.one_thread(torch.device("cpu")):
        found = evaluate_run(spec, build_model(spec), torch.Generator().manual_seed(0))
    assert found["n_decoded"] == count and found["n_sentences"] == len(test)
    assert found["n_tokens"] == int((test.lengths[:count] - 1).sum())
    shortest = test.lengths.sort().values[:count]
    assert found["n_tokens"] > int((shortest - 1).sum())


def test_each_sentence_keeps_its_likelihood(store: Path) -> None:
    """The mean of the kept values is the metric, so methods can be paired by sentence."""
    run = train_or_load(Spec("text-grammar", "vae", "smoke", 0), progress=False)
    each = run.arrays["each_nll"]
    assert each.shape == (run.metrics["n_decoded"],)
    assert each.mean() == pytest.approx(run.metrics["nll"], rel=1e-6)


def test_each_answer_of_a_probe_is_kept_and_exported(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their mean is the metric, in the order of the test split, and a reference result has them."""
    spec = Spec("text-grammar", "vae", "smoke", 0)
    run = train_or_load(spec, progress=False)
    counts = [n.removeprefix("probe_") for n in run.metrics if n.startswith("probe_")]
    counts.remove("majority")
    data = load_data(spec.setup)
    for count in counts:
        right = run.arrays[f"each_probe_{count}"]
        assert right.dtype == bool and right.shape == (len(data.test),)
        assert right.mean() == pytest.approx(run.metrics[f"probe_{count}"], rel=1e-12)
    # an independent fit of the last one, sentence by sentence
    model = build_model(spec)
    model.load_state_dict(run.weights())
    subset = datasets.labelled_subsets(data)[int(counts[-1])]
    features, others = (probes.split_means(model, part) for part in (subset, data.test))
    assert subset.labels is not None and data.test.labels is not None
    for place in range(0, len(data.test), 7):
        own = slice(place, place + 1)
        alone = probes.linear_probe(features, subset.labels, others[own], data.test.labels[own])
        assert alone.accuracy == float(right[place])
    monkeypatch.setattr(reference, "repository", lambda: tmp_path)
    monkeypatch.setattr(reference, "planned", lambda: [spec])
    reference.export(run, [])
    np.testing.assert_array_equal(reference.load(spec).arrays[f"each_probe_{counts[-1]}"], right)


@pytest.mark.parametrize(
    ("recipe", "method"),
    [
        ("text-grammar", "lagging"),  # the posterior mean space
        ("igp-grammar", "igp+target-kl(c=4)"),  # text, labels and a judge
        ("five-gaussians-sorted", "bn-vae(gamma=1)"),  # means of mini-batches
        ("digits", "vae"),  # images and classifiers
        ("text-grammar", "scale-vae(des_std=1, f_epo=1)"),
    ],
)
def test_measuring_again_finds_the_same(store: Path, recipe: str, method: str) -> None:
    """With the same measures: the numbers depend on the weights and the seed alone."""
    before = train_or_load(Spec(recipe, method, "smoke", 0), progress=False)
    after = measure_again(before)
    assert set(after.metrics) == set(before.metrics)
    np.testing.assert_equal(after.metrics, before.metrics)
    assert set(after.arrays) == set(before.arrays)
    for name, values in before.arrays.items():
        np.testing.assert_array_equal(after.arrays[name], values, err_msg=name)
    measured = after.provenance.pop("measured")
    assert after.provenance == before.provenance
    assert measured["sources"] == before.provenance["sources"]
    assert {"finished", "hardware", "device", "torch"} <= set(measured)


def test_measuring_again_takes_new_measures(run: Run) -> None:
    """And drops those that are no more; what training recorded stays."""
    old = replace(
        run,
        metrics={**run.metrics, "nll": 0.0, "of old": 1.0},
        arrays={**run.arrays, "of old": np.zeros(1)},
        provenance={**run.provenance, "sources": "0" * 64},
    )
    new = measure_again(old)
    assert new.metrics == run.metrics and set(new.arrays) == set(run.arrays)
    assert new.provenance["sources"] == "0" * 64  # of the training
    assert new.provenance["measured"]["sources"] == run.provenance["sources"]
    assert old.metrics["nll"] == 0.0  # the run that was given stays as it was


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "another"}, "method"),
        ({"data": "0" * 64}, "data"),
        ({"setup": {"batch_size": 7}}, "batch_size"),
    ],
)
def test_a_run_that_is_trained_otherwise_now_is_not_measured_again(
    run: Run, changed: dict, message: str
) -> None:
    told = dict(run.provenance)
    for name, value in changed.items():
        told[name] = told[name] | value if isinstance(value, dict) else value
    with pytest.raises(BadInput, match=f"{message}; it has to be trained anew"):
        measure_again(replace(run, provenance=told))


def test_measures_alone_may_change_in_a_recipe(run: Run) -> None:
    setup = run.provenance["setup"] | {"nll_samples": 1, "probes": True}
    old = replace(run, provenance=run.provenance | {"setup": setup})
    assert measure_again(old).metrics == run.metrics


def test_every_constant_of_a_recipe_is_of_training_or_of_measures() -> None:
    """A new one has to be put into one of the two: a forgotten one would let weights pass."""
    measures = {
        "nll_samples",
        "nll_sentences",
        "mi_samples",
        "probes",
        "classifiers",
        "few_labels",
        "samples",
        "grid_points",
        "grid_every",
        "trajectory_points",
        "trajectory_updates",
        "means_points",
        "means_every",
        "wording",
    }
    assert measures | set(work._TRAINING) == {f.name for f in fields(recipes.Setup)}
    assert not measures & set(work._TRAINING)


def test_a_run_of_another_version_is_found_by_its_key(run: Run, store: Path) -> None:
    key = "f" * 64
    old = store / "runs" / f"{SPEC.label()}--{key[:16]}"
    shutil.copytree(run.folder, old)
    (old / "provenance.json").write_text(json.dumps({**run.provenance, "key": key}))
    manifest = json.loads((old / "manifest.json").read_text())
    manifest["provenance.json"] = sha256((old / "provenance.json").read_bytes()).hexdigest()
    (old / "manifest.json").write_text(json.dumps(manifest))
    assert find_run(SPEC, key).metrics == run.metrics
    with pytest.raises(FileNotFoundError, match="no finished run"):
        load_run(SPEC)
