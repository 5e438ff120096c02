"""The training loop: epochs, validation, learning-rate decay, stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from posterior_collapse.errors import BadInput, NotFinite, nearest
from posterior_collapse.layers import begin_update, prepares, reports, use_generator
from posterior_collapse.networks.base import VAE
from posterior_collapse.objectives import Model, Objective
from posterior_collapse.training.state import State
from posterior_collapse.training.steps import Training, TrainingDiverged


class _FusedAdam(Adam):
    """torch's Adam with its own constants, without the checks that torch makes at every step.

    Fused, it passes over the parameters once in place of nine times, and then a small model's
    checks take nearly as long as its update. What is computed and kept is the same.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, lr=lr, fused=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the parameters that have a gradient."""
        for group in self.param_groups:
            used = [p for p in group["params"] if p.grad is not None]
            if not used:  # a language model has nothing to infer
                continue
            for p in used:
                if p not in self.state:
                    step = torch.zeros((), dtype=torch.float32, device=p.device)
                    first, second = torch.zeros_like(p), torch.zeros_like(p)
                    self.state[p] = {"step": step, "exp_avg": first, "exp_avg_sq": second}
            states = [self.state[p] for p in used]
            steps = [entry["step"] for entry in states]
            torch._foreach_add_(steps, 1.0)
            beta1, beta2 = group["betas"]
            torch._fused_adam_(
                used,
                [p.grad for p in used],
                [entry["exp_avg"] for entry in states],
                [entry["exp_avg_sq"] for entry in states],
                [],
                steps,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=0.0,
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )


_OPTIMISERS: dict[str, Callable[..., Optimizer]] = {"sgd": SGD, "adam": _FusedAdam}


_KEPT = ("best", "last")


@dataclass(frozen=True)
class Optimisation:
    """Constants of optimisation (He et al. 2019, appendix B.1, are the defaults)."""

    optimiser: str = "sgd"  # sgd without momentum, or adam
    learning_rate: float = 1.0
    clip_norm: float = 5.0  # of the joint gradient
    decay: float = 0.5  # of the learning rate
    patience: int = 2  # epochs without improvement before a decay
    first_decay_epoch: int = 0  # no decay before it (text: 15 in the code)
    first_decay_update: int = 0  # nor before so many updates
    max_decays: int = 5  # training ends at this decay
    max_epochs: int = 50
    keeps: str = "best"  # parameters of the best validation epoch, or of the last one
    # Updates in which the KL weight of annealed methods rises; None: the papers' ten epochs.
    annealing: int | None = None
    # Updates in which each batch of a Scale-VAE has its own factor; None: the paper's 3,100.
    own_factors: int | None = None

    def __post_init__(self) -> None:
        if self.optimiser not in _OPTIMISERS:
            raise BadInput(nearest(self.optimiser, _OPTIMISERS, "optimiser"))
        if self.keeps not in _KEPT:
            raise BadInput(nearest(self.keeps, _KEPT, "epoch to keep"))
        for name in ("annealing", "own_factors"):
            length = getattr(self, name)
            if length is not None and length < 1:
                raise BadInput(f"{name} takes at least 1 update, given {length}")


class Validation(NamedTuple):
    """State of a model on the validation set; nats per example.

    None marks what has no finite answer: an autoencoder's delta posterior has no KL.
    """

    loss: float  # negative ELBO with KL weight 1; an autoencoder's reconstruction
    kl: float | None  # that of the training loss
    mutual_information: float | None
    aggregate_kl: float | None  # KL(q(z) || p(z)), the rest of the KL
    active_units: int


class Monitor(Protocol):
    """What looks at the model while it trains; it must not touch the state's generators."""

    def validate(self, model: Model) -> Validation:
        """Measure the model, as training gives it for evaluation, on the validation set."""
        ...

    def observe(self, moment: str, state: State) -> None:
        """Record what is wanted at ``start``, after an ``inner`` loop or after an ``update``."""
        ...


def _optimisers(
    model: VAE, settings: Optimisation, rate: float, encoder_factor: float
) -> tuple[Optimizer, Optimizer]:
    """One optimiser for the encoder, with its own multiple of the rate, and one for the decoder."""
    make = _OPTIMISERS[settings.optimiser]
    phi, theta = list(model.inference_parameters()), list(model.generative_parameters())
    return make(phi, lr=encoder_factor * rate), make(theta, lr=rate)


def new_state(
    model: VAE,
    objective: Objective,
    training: Training,
    settings: Optimisation,
    batches_per_epoch: int,
    seed: int,
) -> State:
    """State before the first update; ``seed`` decides noise and the order of the batches."""
    device = next(model.parameters()).device
    noise = torch.Generator(device).manual_seed(2 * seed + 1)
    order = torch.Generator().manual_seed(2 * seed)
    use_generator(model, noise)
    factor = training.encoder_factor
    inference, generative = _optimisers(model, settings, settings.learning_rate, factor)
    return State(
        model,
        objective,
        inference,
        generative,
        settings.clip_norm,
        noise,
        order,
        settings.learning_rate,
        batches_per_epoch,
        encoder_factor=factor,
        annealing=settings.annealing,
        own_factors=settings.own_factors,
        memory=training.start(),
    )


def finished(state: State, settings: Optimisation) -> bool:
    """Whether training has come to its end: enough decays, or enough epochs."""
    return state.decays >= settings.max_decays or state.epoch >= settings.max_epochs


def _run_epoch(
    state: State,
    training: Training,
    batches: Sequence[Tensor],
    monitor: Monitor,
    after_update: Callable[[State], None],
) -> None:
    """Every batch once, in a new order; goes on where a checkpoint left off."""
    if state.permutation is None:
        state.permutation = torch.randperm(len(batches), generator=state.order)
        state.position, state.inner_steps = 0, 0
        device = next(state.model.parameters()).device
        state.sums = torch.zeros(3, dtype=torch.float64, device=device)
    assert state.sums is not None
    while state.position < len(batches):
        batch = batches[int(state.permutation[state.position])]
        begin_update(state.model, state.progress)
        done = training.update(state, batch, batches, lambda: monitor.observe("inner", state))
        loss, kl = done.terms.loss.detach(), done.terms.kl.detach()
        state.sums += torch.stack([loss * len(batch), kl.sum(), torch.full_like(loss, len(batch))])
        state.inner_steps += done.inner_steps
        state.position += 1
        state.iteration += 1
        monitor.observe("update", state)
        after_update(state)


def _close_epoch(
    state: State, training: Training, settings: Optimisation, monitor: Monitor
) -> None:
    """Validate, record, let the training slot react, decay the learning rate if it is due."""
    assert state.sums is not None
    loss, kl, count = state.sums.tolist()
    aggressive = bool(state.memory.get("aggressive", False))
    validation = monitor.validate(training.evaluated(state.model))
    for what, value in (("training", loss), ("validation", validation.loss)):
        if not math.isfinite(value):
            raise TrainingDiverged(f"{what} loss {value} after {state.iteration} updates")
    state.epoch += 1
    state.history.append(
        {
            "epoch": state.epoch,
            "iteration": state.iteration,
            "train_loss": loss / count,
            "train_kl": kl / count,
            **{f"valid_{name}": value for name, value in validation._asdict().items()},
            "learning_rate": state.learning_rate,
            "aggressive": aggressive,
            "inner_steps": state.inner_steps / len(state.permutation),  # type: ignore[arg-type]
            **reports(state.model),
        }
    )
    training.after_epoch(state, validation.mutual_information)
    _keep_best_or_decay(state, settings, validation.loss)
    state.permutation = None


def _keep_best_or_decay(state: State, settings: Optimisation, loss: float) -> None:
    """Halve the learning rate and go back to the best parameters after stale epochs.

    After a decay the next epochs are compared with the loss at that decay, and not with the best
    so far, which the parameters that were put back may need some epochs to reach again
    (He et al. 2019, code).
    Where the last epoch is kept every one counts as the best so far, and the rate stays.
    So it does while a module prepares for a later phase, whose first epoch has nothing to beat.
    """
    if prepares(state.model):
        loss = math.inf
    last = settings.keeps == "last" or loss == math.inf
    if last or loss < state.best_loss:
        state.best_loss = loss
        state.best = {k: v.detach().clone() for k, v in state.model.state_dict().items()}
    if last or loss <= state.compared_loss:
        state.compared_loss, state.stale_epochs = loss, 0
        return
    state.stale_epochs += 1
    early = (
        state.epoch < settings.first_decay_epoch or state.iteration < settings.first_decay_update
    )
    if state.stale_epochs < settings.patience or early:
        return
    state.compared_loss, state.stale_epochs = loss, 0
    state.decays += 1
    state.learning_rate *= settings.decay
    state.model.load_state_dict(state.best)
    state.inference, state.generative = _optimisers(
        state.model, settings, state.learning_rate, state.encoder_factor
    )


def train(
    state: State,
    training: Training,
    settings: Optimisation,
    batches: Sequence[Tensor],
    monitor: Monitor,
    after_update: Callable[[State], None],
    after_epoch: Callable[[State], None],
) -> None:
    """Train to the stopping rule, then put the best parameters into the model.

    Args:
        state: from :func:`new_state` or a checkpoint.
        training: slot 4.
        settings: constants of optimisation.
        batches: fixed batches on the model's device; only their order changes.
        monitor: validates and records.
        after_update: called after each update (checkpoints, progress).
        after_epoch: called after each epoch.

    Raises:
        TrainingDiverged: a loss or a gradient is no longer finite.
    """
    if state.iteration == 0:
        monitor.observe("start", state)
    while not finished(state, settings):
        state.model.train()
        try:
            _run_epoch(state, training, batches, monitor, after_update)
            _close_epoch(state, training, settings, monitor)
        except NotFinite as error:
            raise TrainingDiverged(
                f"no finite loss after {state.iteration} updates; a smaller learning rate or clip "
                "norm is the usual cure"
            ) from error
        after_epoch(state)
    state.model.load_state_dict(state.best)
    state.model.eval()
