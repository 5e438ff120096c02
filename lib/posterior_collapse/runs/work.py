"""Training a run, or loading what is stored."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import MISSING, asdict, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from posterior_collapse import __version__
from posterior_collapse.errors import BadInput
from posterior_collapse.networks import VAE
from posterior_collapse.places import store_root, writing
from posterior_collapse.precision import Precision, available
from posterior_collapse.recipes import Setup
from posterior_collapse.runs.batches import EpochBatches, batches_of
from posterior_collapse.runs.measure import measure
from posterior_collapse.runs.models import build_model, trained_model
from posterior_collapse.runs.monitor import Recorder, first_examples
from posterior_collapse.runs.spec import Spec, choose_device, load_data, sources_digest
from posterior_collapse.runs.store import (
    DamagedRun,
    Run,
    load_run,
    partial_folder,
    run_folder,
    set_aside,
    write_run,
)
from posterior_collapse.training import (
    DamagedCheckpoint,
    State,
    load_state,
    new_state,
    save_state,
    train,
)

# What of a set-up decides the weights; the rest says what is measured.
_TRAINING = (
    "dataset",
    "train",
    "valid",
    "test",
    "max_length",
    "max_vocabulary",
    "network",
    "latent_dim",
    "batch_size",
    "least_batch",
    "optimisation",
    "partition",
)
_RECORDED = ("grid_", "trajectory_", "means_")  # names of arrays that training records

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Compute with one CPU thread inside.

    The models are small: a second thread gains little on an idle machine and costs a factor of
    ten or more on a busy one. The cores are better used by another run.
    It also makes CPU results independent of the number of cores.
    """
    if device.type == "cpu":
        _keep_heap()
    before = torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cpu" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def one_gpu(device: torch.device) -> Iterator[None]:
    """Compute inside on a GPU that no other job of this store uses; share one where all are used.

    Jobs that run at once thus spread over the GPUs of a machine, and further ones go on together.
    """
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    with contextlib.ExitStack() as held:
        for index in range(count if count > 1 else 0):
            lock = FileLock(_locks() / f"{platform.node()}-cuda{index}.lock")
            with contextlib.suppress(Timeout):
                held.enter_context(lock.acquire(timeout=0))
                held.enter_context(torch.cuda.device(index))
                break
        else:
            if count > 1:
                held.enter_context(torch.cuda.device(os.getpid() % count))
        yield


def _locks() -> Path:
    folder = store_root() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of settings in glibc's malloc.h


def _keep_heap() -> None:
    """Let this process keep the memory that it frees, where the allocator is glibc's.

    A step frees megabytes, which glibc gives back to the system, and the next step pays for them
    with page faults: up to a quarter of its time. Results do not change.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # other systems
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_MMAP_THRESHOLD, 2**25)
        allocator.mallopt(_TRIM_THRESHOLD, 2**28)


@writing("the run")
def train_or_load(
    spec: Spec, device: str = "auto", progress: bool | None = None, checkpoint_every: float = 30.0
) -> Run:
    """Give the run that a spec names: from the store if it is there, else by training it.

    Several processes may ask for the same run; one trains and the others wait for it.
    A run that was interrupted goes on from its last checkpoint.
    A damaged one is set aside, with a warning that says where, and trained anew.

    Args:
        spec: the run.
        device: auto, cpu, cuda or mps.
        progress: whether a bar is drawn; None draws it in terminals only.
        checkpoint_every: seconds between checkpoints; each epoch ends with one as well.

    Raises:
        BadInput: the device is unknown or absent.
        PosteriorCollapseError: the store cannot be written (what is written stays), or training
            diverged.
    """
    chosen = choose_device(device)
    folder = run_folder(spec)
    with contextlib.suppress(FileNotFoundError, DamagedRun):
        return load_run(spec)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_locks() / f"{folder.name}.lock"):
        if folder.exists():
            try:
                return load_run(spec)
            except DamagedRun as damage:
                aside = set_aside(spec)
                _LOG.warning("%s; set aside as %s and trained anew", damage, aside)
        with one_gpu(chosen), one_thread(chosen):
            _train(spec, chosen, progress, checkpoint_every)
        return load_run(spec)


def _train(spec: Spec, device: torch.device, progress: bool | None, every: float) -> None:
    """Train to the end, evaluate, and put the finished run into the store."""
    setup, method = spec.setup, spec.choices
    data = load_data(setup)
    batches = EpochBatches(spec, device)
    model = build_model(spec).to(device)
    state = new_state(
        model, method.objective, method.training, setup.optimisation, len(batches), spec.seed
    )
    valid = batches_of(data.valid, 128, device)
    recorder = Recorder(setup, valid, first_examples(valid, setup.grid_points), spec.seed)
    path = partial_folder(spec) / "checkpoint.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = _resume(state, recorder, path)
    batches.begin(state.epoch)
    clock = _Clock(path, recorder, every, before)
    with _bar(spec, state, len(batches), progress) as bar:
        train(
            state,
            method.training,
            setup.optimisation,
            batches,
            recorder,
            lambda s: (clock.tick(s), _advance(bar, s, 1)),  # type: ignore[func-returns-value, arg-type]
            lambda s: (batches.begin(s.epoch), clock.save(s), _advance(bar, s, 0)),  # type: ignore[func-returns-value, arg-type]
        )
    _finish(spec, state, recorder, clock.spent(), device)


class Spent(NamedTuple):
    """Time that a run took, over all attempts."""

    seconds: float  # on the wall
    cpu_seconds: float  # of the processor: a busy machine changes it less


def _resume(state: State, recorder: Recorder, path: Path) -> Spent:
    """Load a checkpoint if there is a sound one; returns the time already spent."""
    if not path.exists():
        return Spent(0.0, 0.0)
    try:
        extra = load_state(state, path)
    except DamagedCheckpoint as damage:
        aside = path.with_name(path.name + ".damaged")
        os.replace(path, aside)
        _LOG.warning("%s; kept as %s, training starts anew", damage, aside.name)
        return Spent(0.0, 0.0)
    spent = Spent(extra.pop("seconds").item(), extra.pop("cpu_seconds").item())
    recorder.restore(extra)
    return spent


class _Clock:
    """Writes checkpoints now and then, and counts the time spent over all attempts."""

    def __init__(self, path: Path, recorder: Recorder, every: float, before: Spent) -> None:
        self.path, self.recorder, self.every = path, recorder, every
        self.start = time.monotonic() - before.seconds
        self.cpu_start = time.process_time() - before.cpu_seconds
        self.last = time.monotonic()

    def spent(self) -> Spent:
        """Time until now, over all attempts."""
        return Spent(time.monotonic() - self.start, time.process_time() - self.cpu_start)

    def tick(self, state: State) -> None:
        """Write a checkpoint where the last one is old enough."""
        if time.monotonic() - self.last >= self.every:
            self.save(state)

    def save(self, state: State) -> None:
        """Write a checkpoint, with the time spent in it."""
        spent = {
            name: torch.tensor(value, dtype=torch.float64)
            for name, value in self.spent()._asdict().items()
        }
        save_state(state, self.path, {**self.recorder.arrays(), **spent})
        self.last = time.monotonic()


def _bar(spec: Spec, state: State, batches: int, progress: bool | None) -> Any:
    """Progress bar over the most updates there can be; early stopping ends it sooner."""
    total = spec.setup.optimisation.max_epochs * batches
    disable = None if progress is None else not progress
    bar = tqdm(total=total, initial=state.iteration, desc=spec.label(), disable=disable, unit="upd")
    _advance(bar, state, 0)
    return bar


def _advance(bar: Any, state: State, updates: int) -> None:
    if bar.disable:
        return
    shows = updates == 0 or state.iteration % 20 == 0  # at the end of an epoch, and now and then
    if shows and state.sums is not None and state.sums[2] > 0:
        loss, kl, count = state.sums.tolist()
        shown = {"loss": f"{loss / count:.2f}", "KL": f"{kl / count:.3f}"}
        information = state.history[-1]["valid_mutual_information"] if state.history else None
        if information is not None:
            shown["MI"] = f"{information:.3f}"
        bar.set_postfix(shown, refresh=False)
    bar.update(updates)


def _judge(spec: Spec, device: torch.device) -> VAE:
    """The language model of a run's recipe and scale, trained once for all methods and seeds."""
    run = train_or_load(replace(spec, method="lstm-lm", seed=0), device=device.type, progress=False)
    return trained_model(run).to(device)


def _finish(
    spec: Spec, state: State, recorder: Recorder, spent: Spent, device: torch.device
) -> None:
    """Evaluate the best parameters and store everything."""
    measured = measure(spec, state.model, recorder.grid, partial(_judge, spec, device))
    arrays = {name: np.asarray(values.cpu()) for name, values in recorder.arrays().items()}
    metrics = {**measured.metrics, "epochs": state.epoch, "updates": state.iteration}
    weights = dict(state.model.state_dict())
    provenance = _provenance(spec, spent, device)
    write_run(spec, weights, metrics, state.history, arrays | measured.arrays, provenance)


def measure_again(run: Run, device: str = "auto") -> Run:
    """Measure a stored run's weights with the measures of this version, and train nothing.

    Only the language model that judges generated text is trained, where the store has none of
    this version.

    Args:
        run: a finished run; what training recorded of it stays.
        device: auto, cpu, cuda or mps.

    Returns:
        The run with new metrics and arrays, not stored. Its provenance tells under ``measured``
        which sources measured it, where and when; all else is of its training.

    Raises:
        BadInput: this version would train the run otherwise, so that its name is another model's.
    """
    spec, chosen = run.spec, choose_device(device)
    _refuse_other_training(run)
    with one_gpu(chosen), one_thread(chosen):
        model = trained_model(run).to(chosen)
        valid = batches_of(load_data(spec.setup).valid, 128, chosen)
        grid = first_examples(valid, spec.setup.grid_points)
        measured = measure(spec, model, grid, partial(_judge, spec, chosen))
    stays = {name: run.metrics[name] for name in ("epochs", "updates")}
    recorded = {name: x for name, x in run.arrays.items() if name.startswith(_RECORDED)}
    return replace(
        run,
        metrics={**measured.metrics, **stays},
        arrays=recorded | measured.arrays,
        provenance=run.provenance | {"measured": _here(chosen)},
    )


def _refuse_other_training(run: Run) -> None:
    """Stop where the recipe, the method or the data are not those that a run was trained with."""
    setup = json.loads(json.dumps(asdict(run.spec.setup)))
    before = run.provenance
    old = before["setup"] | {"network": _with_defaults(run.spec.setup, before["setup"])}
    changed = [name for name in _TRAINING if old.get(name) != setup[name]]
    changed += ["method"] * (before["method"] != repr(run.spec.choices))
    changed += ["data"] * (before["data"] != load_data(run.spec.setup).digest)
    if changed:
        raise BadInput(
            f"{run.spec.label()} was trained otherwise than this version does: "
            f"{', '.join(changed)}; it has to be trained anew to be measured"
        )


def _with_defaults(setup: Setup, before: dict[str, Any]) -> dict[str, Any]:
    """Constants of a recorded network; one that came later had its default value then."""
    constants = fields(setup.network)  # type: ignore[arg-type]
    known = {f.name: f.default for f in constants if f.default is not MISSING}
    return {**json.loads(json.dumps(known)), **before["network"]}


def _precisions(setup: Setup, device: torch.device) -> dict[str, str]:
    """In which numbers a run's products were computed; a device may lack what a recipe asks for."""
    wanted = getattr(setup.network, "precision", Precision.FLOAT32)
    return {"training": available(wanted, device).value, "evaluation": Precision.FLOAT32.value}


def _processor() -> str:
    """Name of the processor, where the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _provenance(spec: Spec, spent: Spent, device: torch.device) -> dict[str, Any]:
    """Where a run's numbers come from."""
    return {
        "spec": asdict(spec),
        "setup": asdict(spec.setup),
        "method": repr(spec.choices),
        "key": spec.key(),
        "data": load_data(spec.setup).digest,
        "precision": _precisions(spec.setup, device),
        "seconds": round(spent.seconds, 1),
        "cpu_seconds": round(spent.cpu_seconds, 2),
        **_here(device),
    }


def _here(device: torch.device) -> dict[str, Any]:
    """The sources and the machine that compute now, and when."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "sources": sources_digest(),
        "library": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": device.type,
        "hardware": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
