"""Training a run, or loading what is stored."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from posterior_collapse import __version__, datasets
from posterior_collapse.datasets import ImageDataset, ImageSplit, Split
from posterior_collapse.datasets.arrays import PAD
from posterior_collapse.errors import BadInput, PosteriorCollapseError
from posterior_collapse.estimators import evaluate_each, evaluate_scaled, scale_balance
from posterior_collapse.networks import VAE, ImageDecoder
from posterior_collapse.posteriors import Scaled, gaussian_code
from posterior_collapse.precision import Precision, available
from posterior_collapse.probes import classify_codes, probe_curve, split_means
from posterior_collapse.recipes import Setup
from posterior_collapse.runs.bounds import as_in_training, kl_bound, warn_of
from posterior_collapse.runs.models import build_model
from posterior_collapse.runs.monitor import Recorder, first_examples, mean_space
from posterior_collapse.runs.spec import Spec, choose_device, load_data, sources_digest
from posterior_collapse.runs.store import (
    DamagedRun,
    Run,
    load_run,
    partial_folder,
    run_folder,
    set_aside,
    store_root,
    write_run,
)
from posterior_collapse.runs.text import Measured, measure_text
from posterior_collapse.training import (
    DamagedCheckpoint,
    State,
    load_state,
    new_state,
    save_state,
    train,
)

__all__ = [
    "build_model",
    "evaluate_run",
    "load_data",
    "measure_again",
    "one_thread",
    "train_or_load",
]

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


def _batches(split: Split | ImageSplit, size: int, device: torch.device) -> list[Tensor]:
    return [x.to(device) for x in datasets.batches(split, size)]


def _partitioned(setup: Setup, part: Split | ImageSplit, seed: int, epoch: int) -> list[Tensor]:
    """Rows of the batches that the recipe's partition makes of a split in an epoch."""
    generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + epoch)
    return datasets.partition_rows(setup.partition, part, setup.batch_size, generator)


def _least_batch(spec: Spec) -> int:
    """Examples that a training batch must have: what the recipe says, or else the posterior."""
    least = spec.setup.least_batch
    return int(getattr(spec.choices.posterior, "least_batch", 1)) if least is None else least


def _large_enough(sizes: Sequence[int], least: int) -> list[int]:
    """Places of the batches of at least so many examples; where none is, of the largest ones."""
    least = min(least, max(sizes))
    return [place for place, size in enumerate(sizes) if size >= least]


class _EpochBatches(Sequence[Tensor]):
    """The training batches of the current epoch, but for those too small for the posterior.

    They depend on the seed and the epoch alone, so that a resumed run goes on alike.
    """

    def __init__(self, spec: Spec, device: torch.device) -> None:
        self.spec, self.device = spec, device
        self.split = load_data(spec.setup).train
        self._batches = self._cut(0)

    def begin(self, epoch: int) -> None:
        """Turn to an epoch; only a partition that is redrawn gives other batches."""
        if self.spec.setup.partition is datasets.Partition.REDRAWN:
            self._batches = self._cut(epoch)

    def _cut(self, epoch: int) -> list[Tensor]:
        setup = self.spec.setup
        least = _least_batch(self.spec)
        if setup.partition is datasets.Partition.FIXED:  # without a copy of the examples
            batches = _batches(self.split, setup.batch_size, self.device)
            return [batches[place] for place in _large_enough([*map(len, batches)], least)]
        rows = _partitioned(setup, self.split, self.spec.seed, epoch)
        kept = [rows[place] for place in _large_enough([*map(len, rows)], least)]
        return [_one_batch(self.split.take(own), self.device) for own in kept]

    @property
    def passed_over(self) -> int:
        """Training examples that no batch of the epoch has."""
        return len(self.split) - sum(map(len, self._batches))

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, place: Any) -> Any:
        return self._batches[place]


def _one_batch(part: Split | ImageSplit, device: torch.device) -> Tensor:
    """All of a split as one batch; its sentences are equally long."""
    return part.batches(len(part))[0].to(device)


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
        PosteriorCollapseError: the disk is full (what is written stays), or training diverged.
    """
    chosen = choose_device(device)
    folder = run_folder(spec)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError, DamagedRun):
        return load_run(spec)
    locks = store_root() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{folder.name}.lock"):
        if folder.exists():
            try:
                return load_run(spec)
            except DamagedRun as damage:
                aside = set_aside(spec)
                _LOG.warning("%s; set aside as %s and trained anew", damage, aside)
        with _full_disk_is_clear(folder), one_thread(chosen):
            _train(spec, chosen, progress, checkpoint_every)
        return load_run(spec)


@contextlib.contextmanager
def _full_disk_is_clear(folder: Path) -> Iterator[None]:
    """Say what to do when the disk is full; checkpoints already written stay valid."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise PosteriorCollapseError(
            f"no space left while writing {folder.name}; free some, or set "
            "POSTERIOR_COLLAPSE_STORE to another disk. The last checkpoint is kept and training "
            "goes on from it."
        ) from error


def _train(spec: Spec, device: torch.device, progress: bool | None, every: float) -> None:
    """Train to the end, evaluate, and put the finished run into the store."""
    setup, method = spec.setup, spec.choices
    data = load_data(setup)
    batches = _EpochBatches(spec, device)
    model = build_model(spec).to(device)
    state = new_state(
        model, method.objective, method.training, setup.optimisation, len(batches), spec.seed
    )
    valid = _batches(data.valid, 128, device)
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
        return Spent(time.monotonic() - self.start, time.process_time() - self.cpu_start)

    def tick(self, state: State) -> None:
        if time.monotonic() - self.last >= self.every:
            self.save(state)

    def save(self, state: State) -> None:
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
    if state.sums is not None and state.sums[2] > 0 and state.iteration % 20 == 0:
        loss, kl, count = state.sums.tolist()
        shown = {"loss": f"{loss / count:.2f}", "KL": f"{kl / count:.3f}"}
        if state.history:
            shown["MI"] = f"{state.history[-1]['valid_mutual_information']:.3f}"
        bar.set_postfix(shown, refresh=False)
    bar.update(updates)


def evaluate_run(
    spec: Spec, model: VAE, generator: torch.Generator, sentences: int | None = None
) -> dict[str, Any]:
    """Measure a model on the test set as its recipe says.

    All of the test set is encoded. The first examples of the split, which is in random order, are
    decoded; they are the same ones for every method and seed.

    Args:
        spec: gives the data, the numbers of samples and the training slot, which decides what is
            measured.
        model: on the device where it is to be measured, as is the generator.
        generator: randomness of the Monte Carlo estimates.
        sentences: decoded examples of the test set; None takes the recipe's number.

    Returns:
        The fields of :class:`posterior_collapse.estimators.Evaluation`, and for a scaled posterior
        those of :class:`posterior_collapse.estimators.ScaledEvaluation` with "scaled_" before
        them.
    """
    return dict(_evaluated(spec, model, generator, sentences).metrics)


def _evaluated(
    spec: Spec, model: VAE, generator: torch.Generator, sentences: int | None = None
) -> Measured:
    """As :func:`evaluate_run`, with the likelihoods of the decoded examples as arrays.

    They are in the same order for every method and seed, so that methods can be paired by example.
    """
    setup = spec.setup
    device = next(model.parameters()).device
    test = load_data(setup).test
    count = setup.nll_sentences if sentences is None else sentences
    rows = torch.arange(len(test))
    decoded = _batches(test.take(rows[:count]), 128, device)
    encoded = _batches(test.take(rows[count:]), 512, device) if count < len(test) else []
    measured = spec.choices.training.evaluated(model)
    each = evaluate_each(
        measured,
        decoded,
        generator,
        num_samples=setup.nll_samples,
        mi_samples=setup.mi_samples,
        aggregate=setup.batch_size,
        encoded=encoded,
        padding=None if isinstance(load_data(setup), ImageDataset) else PAD,
    )
    found: dict[str, Any] = each.totals._asdict()
    arrays = {} if each.nll is None else {"each_nll": each.nll.float().cpu().numpy()}
    if isinstance(spec.choices.posterior, Scaled):
        extra = evaluate_scaled(measured, decoded, generator, setup.nll_samples, setup.batch_size)
        found |= {f"scaled_{name}": value for name, value in extra._asdict().items()}
        seen = load_data(setup).train
        seen = seen.take(torch.arange(min(_BALANCED, len(seen))))
        balance = scale_balance(model, _batches(seen, 128, device), generator)
        found |= {f"scaled_means_{name}": value for name, value in balance._asdict().items()}
    return Measured(found, arrays)


_BALANCED = 1000  # training examples that show what holds a Scale-VAE's means


def _probe(spec: Spec, model: VAE) -> dict[str, float]:
    """Accuracy of linear probes on posterior means, by number of labels, where there are labels."""
    setup = spec.setup
    if not setup.probes:
        return {}
    data = load_data(setup)
    subsets = datasets.labelled_subsets(data)
    curve = probe_curve(spec.choices.training.evaluated(model), subsets, data.test)
    found = {f"probe_{count}": result.accuracy for count, result in curve.items()}
    found["probe_majority"] = next(iter(curve.values())).majority_accuracy
    return found


def _classify(spec: Spec, model: VAE) -> dict[str, float]:
    """Accuracies of classifiers on the test set's codes, where the recipe asks for them."""
    setup, test = spec.setup, load_data(spec.setup).test
    if not setup.classifiers or test.labels is None:
        return {}
    codes = split_means(spec.choices.training.evaluated(model), test)
    found = classify_codes(codes, test.labels, setup.classifiers)
    return {
        "classifier_linear": found.linear,
        "classifier_perceptron": found.perceptron,
    }


def _nearest(images: Tensor, others: Tensor) -> float:
    """Mean distance to the nearest of some other images; both (., P) in [0, 1]."""
    return float(torch.cdist(images, others).min(dim=1).values.mean())


def _likeness(spec: Spec, samples: NDArray[np.uint8]) -> dict[str, float]:
    """How far samples are from the nearest test image, over how far validation images are.

    About 1 for samples that are as near to an image as images are to each other; less for blurred
    ones, which lie between them; more for what is no image.
    """
    data = load_data(spec.setup)
    if not isinstance(data, ImageDataset):
        return {}
    real, others = data.valid.x[: len(samples)], data.test.x[:2000]
    made = torch.from_numpy(samples).float() / 255.0
    return {"sample_distance": _nearest(made, others) / _nearest(real, others)}


@torch.no_grad()
def _samples(spec: Spec, model: VAE, generator: torch.Generator) -> dict[str, NDArray[np.uint8]]:
    """Expected images for draws from N(0, I), as bytes (M, P); none for text.

    An autoencoder has no prior of its own, and the paper draws from N(0, I) for it too.
    """
    if not spec.setup.samples or not isinstance(model.decoder, ImageDecoder):
        return {}
    shape = spec.setup.samples, *model.prior.event_shape
    z = torch.randn(shape, generator=generator, device=generator.device)
    return {"samples": (255.0 * model.decoder.mean(z)).round().byte().cpu().numpy()}


@torch.no_grad()
def _codes(spec: Spec, model: VAE) -> dict[str, NDArray[Any]]:
    """Posteriors of the first test examples, as evaluation and as training has them.

    Returns:
        ``code_mean`` and ``code_std`` (M, D) in evaluation; ``code_batch_mean`` (M, D), the means
        that training gives the same examples when the recipe's partition cuts them into batches;
        and labels (M,) where there are any, ``code_label`` of these and ``means_label`` of the
        validation examples that were recorded.
        Empty where the recipe does not ask for them, or without a diagonal Gaussian.
    """
    setup, data = spec.setup, load_data(spec.setup)
    if not setup.means_points:
        return {}
    # The first ones of the split, which is in random order: batches begin with short sentences.
    part = data.test.take(torch.arange(min(setup.means_points, len(data.test))))
    part = part.take(torch.cat(part.batch_rows(128)))
    device = next(model.parameters()).device
    codes = [gaussian_code(model.posterior(x)) for x in _batches(part, 128, device)]
    kept = [code for code in codes if code is not None]
    if not kept or not kept[0][0].shape[1]:
        return {}
    mean, logvar = (torch.cat(column) for column in zip(*kept, strict=True))
    shown = torch.cat(data.valid.batch_rows(128))[: setup.means_points]
    found = {
        "code_mean": mean,
        "code_std": torch.exp(0.5 * logvar),
        "code_batch_mean": _in_batches(spec, model, part),
        "code_label": part.labels,
        "means_label": None if data.valid.labels is None else data.valid.labels[shown],
    }
    return {name: np.asarray(x.cpu()) for name, x in found.items() if x is not None}


def _in_batches(spec: Spec, model: VAE, part: Split | ImageSplit) -> Tensor:
    """Posterior means (M, D) as training has them: a head may look at the batch it is given."""
    device = next(model.parameters()).device
    means: list[Tensor] = []
    rows = _partitioned(spec.setup, part, spec.seed, 0)
    noise = torch.Generator(device).manual_seed(spec.seed)
    with as_in_training(model.posterior_head, noise):
        for own in rows:
            means.append(model.posterior(_one_batch(part.take(own), device)).mean)
    placed = torch.empty_like(torch.cat(means))
    placed[torch.cat(rows).to(device)] = torch.cat(means)
    return placed


def _judge(spec: Spec, device: torch.device) -> VAE:
    """The language model of a run's recipe and scale, trained once for all methods and seeds."""
    run = train_or_load(replace(spec, method="lstm-lm", seed=0), device=device.type, progress=False)
    model = build_model(run.spec)
    model.load_state_dict(run.weights())
    return model.to(device).eval()


def _finish(
    spec: Spec, state: State, recorder: Recorder, spent: Spent, device: torch.device
) -> None:
    """Evaluate the best parameters and store everything."""
    found = _measure(spec, state.model, recorder.grid)
    arrays = {name: np.asarray(values.cpu()) for name, values in recorder.arrays().items()}
    metrics = {**found.metrics, "epochs": state.epoch, "updates": state.iteration}
    weights = dict(state.model.state_dict())
    told = _provenance(spec, spent, device)
    write_run(spec, weights, metrics, state.history, arrays | found.arrays, told)


def _measure(spec: Spec, model: VAE, grid: Sequence[Tensor]) -> Measured:
    """All that is measured of a trained model; training recorded the rest.

    Args:
        spec: the run.
        model: with its best parameters.
        grid: batches of the sentences that the posterior mean space shows.
    """
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(spec.seed)
    totals = _evaluated(spec, model, generator)
    metrics = dict(totals.metrics) | _probe(spec, model) | _classify(spec, model)
    arrays: dict[str, NDArray[Any]] = _space(model, grid) if spec.setup.grid_points else {}
    arrays |= totals.arrays
    evaluated = cast(VAE, spec.choices.training.evaluated(model))
    arrays |= _samples(spec, model, generator) | _codes(spec, evaluated)
    if "samples" in arrays:
        metrics |= _likeness(spec, arrays["samples"])
    metrics |= _training(spec, model, metrics["kl"])
    text = measure_text(spec, evaluated, generator, partial(_judge, spec, device))
    return Measured({**metrics, **text.metrics}, arrays | text.arrays)


def _training(spec: Spec, model: VAE, kl: float | None) -> dict[str, Any]:
    """What training did: sentences that it passed over, and whether the promised KL is kept.

    Returns:
        ``passed_over``, where batches were, and the fields of
        :class:`posterior_collapse.runs.bounds.KLBound`, where the method promises a KL.
        Nothing is promised of what inference makes of a posterior after the encoder.
    """
    batches = _EpochBatches(spec, next(model.parameters()).device)
    found = {"passed_over": batches.passed_over} if batches.passed_over else {}
    if spec.choices.training.evaluated(model) is not model:
        return found
    bound = kl_bound(model, batches, kl, torch.Generator().manual_seed(spec.seed))
    if bound is None:
        return found
    warn_of(bound, spec.label(), kl)
    return {**found, **bound._asdict()}


def _space(model: VAE, grid: Sequence[Tensor]) -> dict[str, NDArray[Any]]:
    """The posterior mean space at the end of training."""
    final = mean_space(model, grid)
    found = {
        "final_model_mean": final.model.mean,
        "final_model_std": final.model.variance.sqrt(),
        "final_log_evidence": final.model.log_evidence,
        "final_inference_mean": final.inference_mean,
        "final_inference_std": final.inference_variance.sqrt(),
    }
    return {name: np.asarray(x.float().cpu()) for name, x in found.items()}


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
    model = build_model(spec)
    model.load_state_dict(run.weights())
    model.to(chosen).eval()
    valid = _batches(load_data(spec.setup).valid, 128, chosen)
    with one_thread(chosen):
        found = _measure(spec, model, first_examples(valid, spec.setup.grid_points))
    stays = {name: run.metrics[name] for name in ("epochs", "updates")}
    recorded = {name: x for name, x in run.arrays.items() if name.startswith(_RECORDED)}
    return replace(
        run,
        metrics={**found.metrics, **stays},
        arrays=recorded | found.arrays,
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
    asked = getattr(setup.network, "precision", Precision.FLOAT32)
    return {"training": available(asked, device).value, "evaluation": Precision.FLOAT32.value}


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
