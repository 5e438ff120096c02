"""The store on disk: complete runs under their key, checked whenever they are read.

A run's folder appears under its name in one rename, with a manifest of checksums.
So it is either absent or whole; one that was damaged later is recognised and set aside.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor

from posterior_collapse.errors import PosteriorCollapseError
from posterior_collapse.places import move, store_root
from posterior_collapse.runs.spec import Spec

_MANIFEST = "manifest.json"
_STEMS = ("spec", "metrics", "history", "provenance")
_FILES = {"weights.safetensors", "arrays.npz", *(f"{stem}.json" for stem in _STEMS)}


class DamagedRun(PosteriorCollapseError):
    """A stored run whose files are not what they were when it was written."""


@dataclass(frozen=True)
class Run:
    """A finished run as it lies on disk."""

    spec: Spec
    folder: Path
    metrics: dict[str, Any]  # of the test set, see estimators.Evaluation
    history: pd.DataFrame  # one row an epoch
    arrays: dict[str, NDArray[Any]]  # what the monitor recorded
    provenance: dict[str, Any]

    def weights(self) -> dict[str, Tensor]:
        """The best parameters, by name."""
        return load_file(self.folder / "weights.safetensors")


def run_folder(spec: Spec) -> Path:
    """Folder of a finished run, whether it exists yet or not."""
    return _folder(spec, spec.key())


def _folder(spec: Spec, key: str) -> Path:
    return store_root() / "runs" / f"{spec.label()}--{key[:16]}"


def partial_folder(spec: Spec) -> Path:
    """Folder of a run that is being trained: checkpoints live there."""
    return Path(f"{run_folder(spec)}.part")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_complete(spec: Spec) -> bool:
    """Whether a finished run is stored (its checksums are looked at when it is loaded)."""
    return (run_folder(spec) / _MANIFEST).is_file()


def write_run(
    spec: Spec,
    weights: dict[str, Tensor],
    metrics: dict[str, Any],
    history: list[dict[str, Any]],
    arrays: dict[str, NDArray[Any]],
    provenance: dict[str, Any],
) -> Path:
    """Write a finished run beside its place, checksum it, and move it there in one rename."""
    folder, place = partial_folder(spec), run_folder(spec)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous().cpu() for name, tensor in weights.items()}
    (folder / "weights.safetensors").write_bytes(save(tensors))
    for stem, content in zip(_STEMS, (spec.__dict__, metrics, history, provenance), strict=True):
        _write_json(folder / f"{stem}.json", content)
    np.savez_compressed(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
    _write_json(folder / _MANIFEST, {name: _sha256(folder / name) for name in sorted(_FILES)})
    move(folder, place)
    (place / "checkpoint.safetensors").unlink(missing_ok=True)  # now it is not needed any more
    return place


def _write_json(path: Path, content: object) -> None:
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def check_files(folder: Path) -> None:
    """Compare every file with the manifest; DamagedRun names the first that is not as it was."""
    try:
        manifest = dict(json.loads((folder / _MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DamagedRun(f"{folder}: the manifest cannot be read ({error})") from error
    if left_out := sorted(_FILES - manifest.keys()):
        raise DamagedRun(f"{folder}: the manifest lacks {left_out[0]}")
    for name, expected in manifest.items():
        path = folder / name
        if not path.is_file():
            raise DamagedRun(f"{folder}: {name} is missing")
        actual = _sha256(path)
        if actual != expected:
            raise DamagedRun(f"{path}: sha256 is {actual[:12]}, the manifest says {expected[:12]}")


def load_run(spec: Spec) -> Run:
    """Read a finished run; raises what :func:`find_run` does."""
    return find_run(spec, spec.key())


def find_run(spec: Spec, key: str) -> Run:
    """Read a finished run by the key it was trained under, which may be of an earlier version.

    Raises:
        FileNotFoundError: there is none.
        DamagedRun: a file is missing or its checksum is wrong, or it is another run's folder.
    """
    folder = _folder(spec, key)
    if not folder.exists():
        raise FileNotFoundError(f"no finished run at {folder}")
    check_files(folder)
    if (own := key_in(folder)) != key:
        raise DamagedRun(f"{folder}: what is in it is the run {own[:16]}")
    read = {stem: json.loads((folder / f"{stem}.json").read_text("utf-8")) for stem in _STEMS}
    with np.load(folder / "arrays.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    history = pd.DataFrame(read["history"])
    return Run(spec, folder, read["metrics"], history, arrays, read["provenance"])


def key_in(folder: Path) -> str:
    """The key that a run says it was trained under; DamagedRun if it says none."""
    try:
        return str(json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["key"])
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedRun(f"{folder}: its provenance cannot be read ({error!r})") from error


def set_aside(spec: Spec) -> Path:
    """Move a damaged run out of the way, keeping it for inspection; returns its new place."""
    folder = run_folder(spec)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    aside = folder.with_name(f"{folder.name}.damaged-{stamp}")
    return Path(shutil.move(folder, aside))
