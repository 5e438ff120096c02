"""All that decides how training goes on, and its file.

A run that is killed and resumed must end bit for bit like one that was not.
So the state holds parameters, optimisers, generators, the order of the batches and the place in
it, the best parameters so far, and what the training slot remembers.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from posterior_collapse.errors import PosteriorCollapseError
from posterior_collapse.layers import Progress
from posterior_collapse.networks.base import VAE
from posterior_collapse.objectives import Objective
from posterior_collapse.places import move

_LOG = logging.getLogger(__name__)

_COUNTERS = (
    "iteration",
    "epoch",
    "position",
    "learning_rate",
    "best_loss",
    "compared_loss",
    "stale_epochs",
    "decays",
    "inner_steps",
)


class DamagedCheckpoint(PosteriorCollapseError):
    """A checkpoint whose content is not what was written."""


@dataclass
class State:
    """Mutable state of one training run; see the module's text."""

    model: VAE
    objective: Objective
    inference: Optimizer  # updates phi
    generative: Optimizer  # updates theta
    clip_norm: float
    noise: torch.Generator  # samples of z and dropout masks, on the model's device
    order: torch.Generator  # order of the batches, on the CPU
    learning_rate: float
    batches_per_epoch: int
    encoder_factor: float = 1.0  # the encoder's learning rate over the decoder's
    annealing: int | None = None  # see Progress
    own_factors: int | None = None  # see Progress
    iteration: int = 0  # updates of the generator
    epoch: int = 0  # finished epochs
    permutation: Tensor | None = None  # (batches,), order in the current epoch
    position: int = 0  # batches of it that are done
    best_loss: float = float("inf")  # of the validation set, nats per example
    best: dict[str, Tensor] = field(default_factory=dict)
    compared_loss: float = float("inf")  # what the next epoch has to beat; see the loop
    stale_epochs: int = 0  # since compared_loss improved
    decays: int = 0  # of the learning rate
    inner_steps: int = 0  # encoder-only updates in the current epoch
    sums: Tensor | None = None  # (3,), loss, KL and examples of the current epoch
    memory: dict[str, Any] = field(default_factory=dict)  # the training slot's own
    history: list[dict[str, Any]] = field(default_factory=list)  # one row an epoch

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Of the model, as its optimisers hold them: a walk over its modules takes longer."""
        groups = [*self.inference.param_groups, *self.generative.param_groups]
        return [parameter for group in groups for parameter in group["params"]]

    @property
    def progress(self) -> Progress:
        """What a schedule may look at."""
        lengths = self.annealing, self.own_factors
        return Progress(self.iteration, self.batches_per_epoch, *lengths)


def _optimiser_tensors(prefix: str, optimiser: Optimizer) -> dict[str, Tensor]:
    """State of an optimiser by name; every entry is kept as a tensor."""
    tensors = {}
    for index, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            if value is not None:
                tensors[f"{prefix}.{index}.{name}"] = torch.as_tensor(value)
    return tensors


def _restore_optimiser(prefix: str, optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Inverse of :func:`_optimiser_tensors`; the learning rate is set from the state."""
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix + "."):
            _, index, key = name.split(".", 2)
            entries.setdefault(int(index), {})[key] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": entries, "param_groups": groups})


def _restore_noise(noise: torch.Generator, state: Tensor, path: Path) -> None:
    """Go on with the noise of a checkpoint; that of another kind of device gives a new seed."""
    if state.shape == noise.get_state().shape:
        noise.set_state(state)
        return
    noise.manual_seed(int.from_bytes(hashlib.sha256(state.numpy().tobytes()).digest()[:8]))
    _LOG.warning(
        "%s was written on another kind of device, whose random numbers this one cannot go on "
        "with: training goes on with others, and gives another model than either device alone",
        path,
    )


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    """Checksum of a checkpoint's content; safetensors has none of its own."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and counters of a checkpoint, checked.

    Raises:
        DamagedCheckpoint: it cannot be read, or its checksum is wrong.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            notes = file.metadata()
        expected, text = notes["digest"], notes["state"]
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise DamagedCheckpoint(f"{path} cannot be read: {error}") from error
    if _digest(tensors, text) != expected:
        raise DamagedCheckpoint(f"{path}: the checksum of its content is wrong")
    return tensors, json.loads(text)


def save_state(state: State, path: Path, extra: dict[str, Tensor]) -> None:
    """Write a checkpoint in one step: a reader sees the old file or the new one, never half.

    It is on the disk before it gets its name, so that a power cut leaves one of the two as well.

    Args:
        state: what to keep.
        path: the file.
        extra: further tensors to keep beside it (the monitor's records).

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in state.best.items()}
    tensors |= _optimiser_tensors("inference", state.inference)
    tensors |= _optimiser_tensors("generative", state.generative)
    tensors |= {"noise": state.noise.get_state(), "order": state.order.get_state()}
    if state.permutation is not None:
        tensors["permutation"] = state.permutation
    if state.sums is not None:
        tensors["sums"] = state.sums
    tensors |= {f"extra.{k}": v for k, v in extra.items()}
    counters = {name: getattr(state, name) for name in _COUNTERS}
    text = json.dumps({**counters, "memory": state.memory, "history": state.history})
    partial = path.with_name(path.name + ".part")
    tensors = {k: v.detach().contiguous().cpu() for k, v in tensors.items()}
    # safetensors' own writer raises no OSError on a full disk, and hides the file from others.
    try:
        partial.write_bytes(save(tensors, {"state": text, "digest": _digest(tensors, text)}))
        move(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def load_state(state: State, path: Path) -> dict[str, Tensor]:
    """Put a checkpoint back into a freshly made state; returns the extra tensors.

    Raises:
        DamagedCheckpoint: the file is damaged; the state is untouched.
    """
    tensors, counters = _read(path)
    for name in _COUNTERS:
        setattr(state, name, counters[name])
    state.memory, state.history = counters["memory"], counters["history"]

    def part(prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

    device = next(state.model.parameters()).device
    state.model.load_state_dict(part("model."))
    state.best = {k: v.to(device) for k, v in part("best.").items()}
    _restore_optimiser("inference", state.inference, tensors)
    _restore_optimiser("generative", state.generative, tensors)
    for optimiser, factor in ((state.inference, state.encoder_factor), (state.generative, 1.0)):
        for group in optimiser.param_groups:
            group["lr"] = factor * state.learning_rate
    _restore_noise(state.noise, tensors["noise"], path)
    state.order.set_state(tensors["order"])
    state.permutation = tensors.get("permutation")
    state.sums = tensors["sums"].to(device) if "sums" in tensors else None
    return part("extra.")
