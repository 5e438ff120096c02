"""Reference results: runs done once at a larger scale, kept with the repository.

Each is a JSON file of metrics, history and provenance, and an npz file of the arrays that figures
need, under ``data/results/<recipe>/``.
``python -m companion.claims.reference`` computes those that are missing; it goes on where it was
stopped. With ``--again`` it measures those that are there with this version's measures.
A result holds digests of its content and its arrays, and is refused where they are wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import signal
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from companion.build import warm
from companion.claims import groups as benchmarks
from companion.claims.printed import repository
from posterior_collapse.errors import BadInput, nearest, program, whole
from posterior_collapse.places import move
from posterior_collapse.runs import (
    Run,
    Spec,
    evaluate_run,
    find_run,
    measure_again,
    train_or_load,
    trained_model,
)
from posterior_collapse.runs.spec import choose_device, sources_digest
from posterior_collapse.runs.work import one_thread

# What figures need; the rest of a run's arrays stays in the store.
_ARRAYS = (
    "each_nll",
    *(f"grid_{name}" for name in ("iteration", "model_mean", "inference_mean")),
    *(f"trajectory_{name}" for name in ("iteration", "inner", "model_mean", "inference_mean")),
    *("final_model_mean", "final_inference_mean", "samples"),
    *("means_iteration", "means_mean", "means_label"),
    *("code_mean", "code_std", "code_batch_mean", "code_label", "tsne", "tsne_label"),
    *("text_source", "text_reconstruction", "text_cut_ends", "text_imputed_ends"),
    *(
        "text_cut_hidden",
        "text_imputed_hidden",
        "text_interpolation",
        "text_greedy",
        "text_sampled",
    ),
    *(f"{way}_judged_{of}" for way in ("greedy", "sampled") for of in ("nats", "tokens", "words")),
)
# And those whose names begin so: one for each number of labels.
_KEPT_OF_EACH = ("each_probe_", "each_few_labels_")
# What a run needs is imported once; the digest is taken then, of what has been imported.
_WARM = ("companion.claims.reference", "posterior_collapse.runs.spec:sources_digest")
_LARGEST = 2**26  # bytes of a file, or of its arrays unpacked; a hundred times what one needs
_UNREADABLE = (
    *(ValueError, TypeError, KeyError, RecursionError, MemoryError, OSError, EOFError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError),
)
_REPEATS = 10  # evaluation seeds of one trained model (He et al. 2019, appendix D)


@dataclass(frozen=True)
class Result:
    """What a page needs of a run, whether it is in the store or a reference result."""

    spec: Spec
    metrics: dict[str, Any]
    history: pd.DataFrame
    arrays: dict[str, NDArray[Any]]
    provenance: dict[str, Any]
    evaluations: list[dict[str, Any]]  # of one model with several seeds; empty for most


def planned() -> list[Spec]:
    """Every run whose reference result belongs to the repository, the most wanted first."""
    synthetic = [
        Spec("lagging-synthetic", method, "paper", seed)
        for seed in range(5)
        for method in ("lagging", "vae")
    ]
    offset = [
        Spec("lagging-synthetic-offset", method, "paper", seed)
        for seed in range(3)
        for method in ("lagging", "vae")
    ]
    return [*synthetic, *offset, *benchmarks.planned()]


def _path(spec: Spec) -> Path:
    stem = spec.label().removeprefix(f"{spec.recipe}--")
    return repository() / "data" / "results" / spec.recipe / f"{stem}.json"


def repeat_evaluation(
    run: Run, repeats: int, sentences: int | None = None, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Measure one trained model with several evaluation seeds (He et al. 2019, appendix D).

    Args:
        run: a finished run.
        repeats: number of seeds, 0 to repeats - 1.
        sentences: of the test set; None takes the recipe's number.
        device: auto, cpu, cuda or mps.
    """
    chosen = choose_device(device)
    model = trained_model(run).to(chosen)
    with one_thread(chosen):
        evaluations = []
        for seed in range(repeats):
            generator = torch.Generator(chosen).manual_seed(seed)
            evaluations.append(evaluate_run(run.spec, model, generator, sentences))
    return evaluations


def export(run: Run, evaluations: list[dict[str, Any]]) -> Path:
    """Keep a finished run as a reference result; returns the JSON file."""
    path = _path(run.spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "spec": run.spec.__dict__,
        "metrics": run.metrics,
        "history": run.history.to_dict("records"),
        "provenance": run.provenance,
        "evaluations": evaluations,
    }
    needed = {name: run.arrays[name] for name in _ARRAYS if name in run.arrays}
    needed |= {name: x for name, x in run.arrays.items() if name.startswith(_KEPT_OF_EACH)}
    # both are whole before either is moved, and a reader between the moves refuses the pair
    parts = {file: file.with_name(f"part-{file.name}") for file in (path.with_suffix(".npz"), path)}
    packed, written = parts.values()
    np.savez_compressed(packed, **needed)  # type: ignore[arg-type]
    content["digests"] = {"arrays": _digest(packed.read_bytes()), "content": _of_content(content)}
    written.write_text(_text(content), encoding="utf-8")
    for place, part in parts.items():
        move(part, place)
    return path


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _of_content(content: dict[str, Any]) -> str:
    """Digest of a result's JSON, but for its digests: a changed number is a valid one too."""
    rest = {name: value for name, value in content.items() if name != "digests"}
    return _digest(json.dumps(rest, sort_keys=True).encode())


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """JSON and arrays of a result, compared with the digests in it.

    Raises:
        ValueError: one of them is wrong, or a file is too large to be one of ours.
    """
    files = path, path.with_suffix(".npz")
    if max(file.stat().st_size for file in files) > _LARGEST:
        raise ValueError(f"a file of more than {_LARGEST} bytes")
    text, packed = (file.read_bytes() for file in files)
    content = json.loads(text)
    if text != _text(content).encode() or content["digests"]["content"] != _of_content(content):
        raise ValueError("the digest of its content is wrong")
    if content["digests"]["arrays"] != _digest(packed):
        raise ValueError("the digest of its arrays is wrong")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        if sum(member.file_size for member in archive.infolist()) > _LARGEST:
            raise ValueError(f"arrays of more than {_LARGEST} bytes")
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        return content, {name: file[name] for name in file.files}


def load(spec: Spec) -> Result:
    """The reference result of a spec.

    Raises:
        BadInput: there is none, or its files are damaged.
    """
    path = _path(spec)
    try:
        content, arrays = _read(path)
        history = pd.DataFrame(content["history"])
        origin = {**content["provenance"], "kind": "reference"}
        result = Result(spec, content["metrics"], history, arrays, origin, content["evaluations"])
        if content["spec"] != spec.__dict__:
            raise ValueError(f"it is that of {content['spec']}")
    except FileNotFoundError as error:
        raise BadInput(f"no reference result {path.name} for {spec.recipe}") from error
    except _UNREADABLE as error:
        raise BadInput(f"the reference result {path} is damaged: {error}") from error
    return result


def available() -> list[Spec]:
    """Every planned run whose reference result the repository holds, the most wanted first."""
    return [spec for spec in planned() if _path(spec).is_file()]


def results(recipe: str, method: str, scale: str) -> list[Result]:
    """Reference results of a method over all the seeds that are kept, in order of the seed."""
    own = [
        spec
        for spec in planned()
        if (spec.recipe, spec.method, spec.scale) == (recipe, method, scale)
        and _path(spec).is_file()
    ]
    return [load(spec) for spec in sorted(own, key=lambda spec: spec.seed)]


def _compute(spec: Spec, device: str = "auto") -> Path:
    """Train one run, evaluate it as its item asks, and keep it."""
    return _keep(train_or_load(spec, device), device)


def _measure(spec: Spec, device: str = "auto") -> Path:
    """Measure the weights of one result again, and keep the new one in its place.

    Raises:
        BadInput: no weights are stored, or this version would train them otherwise.
    """
    return _keep(measure_again(_stored(spec), device), device)


def _keep(run: Run, device: str) -> Path:
    repeated = run.spec.recipe == "lagging-synthetic" and run.spec.seed == 0
    return export(run, repeat_evaluation(run, _REPEATS, device=device) if repeated else [])


def _stored(spec: Spec) -> Run:
    """The run that a reference result was made of, whatever version trained it."""
    try:
        return find_run(spec, load(spec).provenance["key"])
    except FileNotFoundError as error:
        raise BadInput(f"the weights of {spec.label()} are not in the store") from error


def _is_current(spec: Spec) -> bool:
    """Whether this version measured a result, if it did not train it."""
    origin = load(spec).provenance
    return bool(origin.get("measured", origin)["sources"] == sources_digest())


def _command(spec: Spec, *words: str) -> list[str]:
    """Command that computes one result in a process of its own."""
    module = [sys.executable, "-m", "companion.claims.reference", *words]
    return warm.command([*module, "--only", json.dumps(spec.__dict__)])


def _wanted(chosen: Sequence[str] | None) -> list[Spec]:
    """The planned runs of some recipes, or all of them.

    Raises:
        BadInput: no run is planned of a recipe, with the nearest one.
    """
    known = dict.fromkeys(spec.recipe for spec in planned())
    for recipe in chosen or ():
        if recipe not in known:
            raise BadInput(nearest(recipe, known, "recipe with reference runs"))
    return [spec for spec in planned() if not chosen or spec.recipe in chosen]


def overview(wanted: Sequence[Spec]) -> pd.DataFrame:
    """What there is of each recipe and scale, and what training one result took.

    Returns:
        Columns ``recipe``, ``scale``, ``planned``, ``missing`` and ``minutes``, the median of
        processor time over the results that are there; nan where there is none.
    """
    rows = [
        {"recipe": spec.recipe, "scale": spec.scale, "missing": not _path(spec).is_file()}
        | {"minutes": _processor_minutes(_path(spec))}
        for spec in wanted
    ]
    groups = pd.DataFrame(rows).groupby(["recipe", "scale"], sort=False)
    table = groups.agg(
        planned=("missing", "size"), missing=("missing", "sum"), minutes=("minutes", "median")
    )
    return table.reset_index()


def _processor_minutes(path: Path) -> float:
    """Of training; nan without a result, or with one that does not say."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return float(content["provenance"]["cpu_seconds"]) / 60.0
    except (OSError, ValueError, KeyError):
        return math.nan


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Compute the reference results that are missing, several at a time."""
    parser = argparse.ArgumentParser(prog="python -m companion.claims.reference")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", help="one spec, as JSON")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--recipe", action="append", help="only these recipes; may be repeated")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="compute nothing; say what is there")
    what.add_argument(
        "--again",
        action="store_true",
        help="measure the stored weights of results that another version measured; train nothing",
    )
    given = parser.parse_args(arguments)
    choose_device(given.device)  # at once, and not in every process
    whole("jobs", given.jobs)
    if given.only:
        spec = Spec(**json.loads(given.only))
        path = (_measure if given.again else _compute)(spec, given.device)
        print(f"[reference] {path}", flush=True)
        return 0
    device = ("--device", given.device)
    wanted = _wanted(given.recipe)
    there = [spec for spec in wanted if _path(spec).is_file()]
    old = [spec for spec in there if not _is_current(spec)] if given.again else []
    if given.list:
        print(overview(wanted).to_string(index=False, float_format="%.1f", na_rep="?"))
        return 0
    if given.again:
        print(f"[reference] {len(old)} of {len(there)} results to measure again", flush=True)
        return _each([_command(spec, "--again", *device) for spec in old], given.jobs)
    missing = [spec for spec in wanted if spec not in there]
    print(f"[reference] {len(missing)} of {len(wanted)} results to compute", flush=True)
    return _each([_command(spec, *device) for spec in missing], given.jobs)


def _each(commands: Sequence[Sequence[str]], jobs: int) -> int:
    """Run commands, several at a time; the worst of their exit codes."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with warm.serve(_WARM) as forks, ThreadPoolExecutor(jobs) as pool:
        environment = {**os.environ, **forks.variables}
        waiting = [
            pool.submit(subprocess.run, command, env=environment, process_group=forks.group or None)
            for command in commands
        ]
        try:
            codes = [done.result().returncode for done in as_completed(waiting)]
        except BaseException:  # of Ctrl-C: what has not begun does not begin, and the rest ends
            pool.shutdown(wait=False, cancel_futures=True)
            if forks.group:
                os.killpg(forks.group, signal.SIGTERM)
            raise
    return max(map(abs, codes), default=0)  # a run that a signal ended has a negative one


if __name__ == "__main__":
    sys.exit(main())
