"""Step functions: what one update of the generator consists of."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from posterior_collapse.errors import BadInput, PosteriorCollapseError
from posterior_collapse.networks.base import VAE
from posterior_collapse.objectives import Model, Terms
from posterior_collapse.training.state import State


class TrainingDiverged(PosteriorCollapseError):
    """The loss or its gradient is no longer finite."""


class Update(NamedTuple):
    """What one update reports."""

    terms: Terms  # of the outer step
    inner_steps: int  # encoder-only updates before it


class Training(Protocol):
    """What a method names in its training slot; one that derives from it inherits the defaults."""

    @property
    def encoder_factor(self) -> float:
        """The encoder's learning rate over the decoder's."""
        return 1.0

    def start(self) -> dict[str, Any]:
        """First value of ``state.memory``: what the slot must remember between updates."""
        return {}

    def update(
        self, state: State, batch: Tensor, batches: Sequence[Tensor], inner_done: Callable[[], None]
    ) -> Update:
        """One update of the generator on ``batch``; ``batches`` are there to draw more from.

        ``inner_done`` is called once between an inner loop and the outer step.
        """
        ...

    def after_epoch(self, state: State, mutual_information: float | None) -> None:
        """React to the validation set's mutual information, nats; None where there is none."""
        return

    def evaluated(self, model: VAE) -> Model:
        """The model as it is to be measured: itself, unless inference goes on after the encoder."""
        return model


def units(batch: Tensor) -> int:
    """Size of a batch in what a loss is averaged over: predicted words for text, else examples."""
    words = 1 if batch.is_floating_point() else batch.shape[1] - 1
    return batch.shape[0] * words


def gradients(state: State, batch: Tensor) -> Terms:
    """Gradient of the objective for every parameter, clipped jointly.

    The norm is taken over encoder and decoder together, whichever of them is then updated:
    with separate norms an encoder-only step would be far longer, as the decoder's gradient
    dominates (He et al. 2019, code).

    Raises:
        TrainingDiverged: on the CPU, a gradient is infinite or not a number.
    """
    for parameter in state.parameters:
        parameter.grad = None
    terms = state.objective(state.model, batch, state.progress, state.noise)
    terms.loss.backward()
    clip_gradients(state, terms.loss)
    return terms


def clip_gradients(state: State, loss: Tensor) -> None:
    """Scale the gradient of all parameters down to the clip norm, in place, if it is longer.

    Raises:
        TrainingDiverged: on the CPU, it is infinite or not a number; ``loss`` is for the message.
    """
    parameters = [p for p in state.parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(p.grad for p in parameters)  # type: ignore[misc]
    if not norm.is_cpu:  # to look would stop the device; what is not finite the epoch's end sees
        nn.utils.clip_grads_with_norm_(parameters, state.clip_norm, norm)
        return
    length = norm.item()
    if not math.isfinite(length):
        raise TrainingDiverged(
            f"gradient norm {length} at update {state.iteration}, loss {loss.item()}; "
            "a smaller learning rate or clip norm is the usual cure"
        )
    if length > state.clip_norm:  # most are shorter, and need no pass over the gradient
        nn.utils.clip_grads_with_norm_(parameters, state.clip_norm, norm)


@dataclass(frozen=True)
class Joint(Training):
    """Encoder and decoder are updated together: basic VAE training.

    Args:
        encoder_factor: the encoder's learning rate over the decoder's
            (He et al. 2019, appendix F, table 10).
    """

    encoder_factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.encoder_factor < math.inf:
            raise BadInput(f"an encoder_factor is a positive number, given {self.encoder_factor}")

    def update(
        self, state: State, batch: Tensor, batches: Sequence[Tensor], inner_done: Callable[[], None]
    ) -> Update:
        """See :class:`Training`."""
        terms = gradients(state, batch)
        state.inference.step()
        state.generative.step()
        return Update(terms, 0)


@dataclass(frozen=True)
class Aggressive(Training):
    """Aggressive training of the inference network (He et al. 2019, algorithm 1).

    While aggressive, each update of the decoder follows an inner loop of encoder updates.
    The first inner step uses the outer batch and the others random ones.
    After every ``window`` steps the mean loss per word of that window is compared with the one
    before; the loop ends when it got worse, and after ``max_inner`` steps at the latest.
    The outer step then updates the decoder only.
    At the first epoch whose validation mutual information is below the one before, training
    becomes joint for good.

    Args:
        max_inner: most encoder steps an update (code: 99).
        window: encoder steps between comparisons (code: 15; the text says 10). One of
            ``max_inner`` steps is never compared: a fixed budget (section 6.5, table 4).
    """

    max_inner: int = 99
    window: int = 15

    def __post_init__(self) -> None:
        if not 1 <= self.window <= self.max_inner:
            raise BadInput(
                f"aggressive training takes 1 <= window <= max_inner, given {self.window} and "
                f"{self.max_inner}"
            )

    def start(self) -> dict[str, Any]:
        """Aggressive until the mutual information first falls."""
        return {"aggressive": True, "mutual_information": None}

    def update(
        self, state: State, batch: Tensor, batches: Sequence[Tensor], inner_done: Callable[[], None]
    ) -> Update:
        """See :class:`Training`."""
        if not state.memory["aggressive"]:
            return Joint().update(state, batch, batches, inner_done)
        steps = self.inner_loop(state, batch, batches)
        inner_done()
        terms = gradients(state, batch)
        state.generative.step()
        return Update(terms, steps)

    def inner_loop(self, state: State, batch: Tensor, batches: Sequence[Tensor]) -> int:
        """Update the encoder until its loss stops falling; returns the number of steps.

        The losses of a window are looked at together, at its end: looking stops a GPU.
        """
        previous: float | None = None
        losses: list[Tensor] = []
        sizes: list[int] = []
        words = 0
        for step in range(1, self.max_inner + 1):
            terms = gradients(state, batch)
            state.inference.step()
            losses.append(terms.loss.detach())
            sizes.append(batch.shape[0])
            words += units(batch)
            if step % self.window == 0 and self.window < self.max_inner:
                mean = sum(map(operator.mul, torch.stack(losses).tolist(), sizes)) / words
                if previous is not None and mean > previous:
                    return step
                previous, losses, sizes, words = mean, [], [], 0
            batch = batches[int(torch.randint(len(batches), (), generator=state.order))]
        return self.max_inner

    def after_epoch(self, state: State, mutual_information: float | None) -> None:
        """The stop rule of section 4.2."""
        before = state.memory["mutual_information"]
        if mutual_information is None:
            raise BadInput("aggressive training needs a posterior with a mutual information")
        if before is not None and mutual_information < before:
            state.memory["aggressive"] = False
        state.memory["mutual_information"] = mutual_information
