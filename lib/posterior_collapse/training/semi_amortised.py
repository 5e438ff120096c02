"""Semi-amortised inference: the encoder's guess is refined by gradient steps (Kim et al. 2018).

The path of the refinement is differentiated as well, so the encoder learns to start where the
steps end well.
Going back along the path, each step is computed anew: memory is that of one step, whatever their
number, and the gradient is exact, where the paper takes finite differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from posterior_collapse.errors import BadInput, nearest, whole
from posterior_collapse.networks.base import VAE
from posterior_collapse.objectives import Model, Terms, divergence
from posterior_collapse.posteriors import DiagonalNormal
from posterior_collapse.training.state import State
from posterior_collapse.training.steps import Training, TrainingDiverged, Update, clip_gradients

_BATCH = 32  # the paper's, whose mean loss its steps follow
_JUDGES = 1  # noise vectors, each with its negative, that start and end are compared with
_KEPT = ("end", "better")
_SEED = 3435  # of the noise in evaluation; any number would do


class _Given:
    """A model whose posterior is given, for an objective to look at."""

    def __init__(self, model: Model, q: Distribution) -> None:
        self._model, self._q = model, q
        self.log_likelihood = model.log_likelihood

    def posterior(self, x: Tensor) -> Distribution:
        """The given q, whatever x is."""
        return self._q

    @property
    def prior(self) -> Distribution:
        """p(z), the model's own."""
        return self._model.prior


class _Noise(NamedTuple):
    """Noise of a refinement of K steps; B may be 1, which gives all examples the same."""

    steps: Tensor  # (K, 1, B, D), one draw a step
    judges: Tensor  # (J, B, D), what start and end are compared with

    @classmethod
    def drawn(cls, steps: int, like: Tensor, rows: int, source: torch.Generator) -> _Noise:
        """Standard normal noise for points like (2, B, D), ``rows`` in place of B."""

        def normal(count: int) -> Tensor:
            shape = (count, rows, like.shape[-1])
            return torch.randn(shape, generator=source, dtype=like.dtype, device=like.device)

        half = normal(_JUDGES)
        return cls(normal(steps).unsqueeze(1), torch.cat([half, -half]))


class _Problem(NamedTuple):
    """A batch, and what is minimised over its points: mean and log-variance, (2, B, D)."""

    model: Model
    x: Tensor
    weight: float  # of the KL
    masks: torch.Generator | None  # source of the decoder's dropout masks

    def __call__(self, point: Tensor, noise: Tensor) -> Tensor:
        """Negative ELBO of each example, nats, (B,), with noise (S, B or 1, D)."""
        q = DiagonalNormal(point[0], point[1])
        z = q.mean + q.stddev * noise  # (S, B, D)
        reconstruction = -self.model.log_likelihood(self.x, z).mean(0)
        return reconstruction + self.weight * divergence(q, self.model.prior, z)

    def mark(self) -> Tensor | None:
        """Where the source of the masks stands."""
        return None if self.masks is None else self.masks.get_state()

    def rewind(self, mark: Tensor | None) -> None:
        """Go back there, so that the same masks are drawn again."""
        if self.masks is not None and mark is not None:
            self.masks.set_state(mark)


class _Visit(NamedTuple):
    """A step of the path, as it was before it was taken."""

    point: Tensor  # (2, B, D)
    velocity: Tensor  # (2, B, D)
    noise: Tensor  # (1, B, D)
    mark: Tensor | None  # of the source of masks


class _Path(NamedTuple):
    """A refinement that was carried out."""

    visits: list[_Visit]
    end: Tensor  # (2, B, D)
    better: Tensor  # (B, 1), bool: the end is taken, and not the start

    @property
    def chosen(self) -> Tensor:
        """End or start of each example, (2, B, D)."""
        return torch.where(self.better, self.end, self.visits[0].point)


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    """cuDNN's LSTM has no second derivative, and in evaluation mode no first one either."""
    with torch.backends.cudnn.flags(enabled=False), torch.enable_grad():
        yield


def _start(model: Model, x: Tensor) -> Tensor:
    """Mean and log-variance of the encoder's Gaussians, (2, B, D)."""
    q = model.posterior(x)
    if type(q) is not DiagonalNormal:
        raise BadInput(
            "semi-amortised training refines the mean and the variances of a diagonal Gaussian, "
            f"given {type(q).__name__}"
        )
    return torch.stack([q.mean, q.logvar])


@torch.no_grad()
def _weight(state: State, batch: Tensor, start: Tensor) -> float:
    """The KL weight of the objective now, which only evaluating it tells."""
    given = _Given(state.model, DiagonalNormal(start[0], start[1]))
    return state.objective(given, batch, state.progress, state.noise).weight


@dataclass(frozen=True)
class SemiAmortised(Training):
    """Mean and log-variance are refined before the decoder sees them (Kim et al. 2018, SA-VAE).

    Each step follows the gradient of an example's negative ELBO, with momentum and with noise of
    its own:
    v = momentum * v - g, point = point + rate * v.
    Then the objective is evaluated at the end of the path, as in the paper; or with ``keeps``
    "better" at the encoder's point, where that has the lower negative ELBO under common noise.
    The decoder gets the total gradient of that loss, and so does the encoder, through the steps.

    The paper's g is the gradient of the mean loss of a batch of 32, clipped over the batch, for
    means and log-variances apart.
    Here g is the gradient of the example's own loss, divided by 32, and it is clipped as in a
    batch of 32 like it.
    The posterior of an example then does not depend on the batch that it is in.

    Args:
        steps: of refinement, at least 1; 20 in the paper, 10 in He et al. 2019.
        rate: length of a step, positive.
        momentum: in [0, 1).
        clip: norm at which g is clipped, positive.
        keeps: "end" of the path, or the "better" one of its two ends.
    """

    steps: int = 20
    rate: float = 1.0
    momentum: float = 0.5
    clip: float = 5.0
    keeps: str = "end"

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        for name in ("rate", "clip"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise BadInput(f"{name} is a positive number, given {getattr(self, name)}")
        if not 0.0 <= self.momentum < 1.0:
            raise BadInput(f"momentum lies in [0, 1), given {self.momentum}")
        if self.keeps not in _KEPT:
            raise BadInput(nearest(self.keeps, _KEPT, "point to keep"))

    def update(
        self, state: State, batch: Tensor, batches: Sequence[Tensor], inner_done: Callable[[], None]
    ) -> Update:
        """Update encoder and decoder together."""
        terms = self.gradients(state, batch)
        state.inference.step()
        state.generative.step()
        return Update(terms, 0)

    def evaluated(self, model: VAE) -> Model:
        """A model whose posterior is the refined one."""
        return Refined(model, self)

    def gradients(self, state: State, batch: Tensor) -> Terms:
        """Gradient of the objective at the refined posterior for every parameter, clipped jointly.

        Raises:
            TrainingDiverged: a gradient is infinite or not a number.
            BadInput: the posterior is no diagonal Gaussian.
        """
        model, noise = state.model, state.noise
        for parameter in state.parameters:
            parameter.grad = None
        with _twice_differentiable():
            start = _start(model, batch)
            weight = _weight(state, batch, start.detach())
            problem = _Problem(model, batch, weight, noise)
            drawn = _Noise.drawn(self.steps, start, len(batch), noise)
            path = self.refine(problem, start.detach(), drawn)
            chosen = path.chosen.requires_grad_()
            given = _Given(model, DiagonalNormal(chosen[0], chosen[1]))
            terms = state.objective(given, batch, state.progress, noise)
            terms.loss.backward()
            assert chosen.grad is not None
            start.backward(self.pull_back(problem, path, chosen.grad))
        clip_gradients(state, terms.loss)
        return terms

    def refine(self, problem: _Problem, start: Tensor, noise: _Noise) -> _Path:
        """Take the steps from a point (2, B, D) that has no gradient, and choose an end of them."""
        point, velocity = start, torch.zeros_like(start)
        visits = []
        for drawn in noise.steps:
            visits.append(_Visit(point, velocity, drawn, problem.mark()))
            held = point.clone().requires_grad_()
            point, velocity = self.step(problem, held, velocity, drawn, create_graph=False)
            point, velocity = point.detach(), velocity.detach()
        if self.keeps == "end":
            every = torch.ones(start.shape[1], 1, dtype=torch.bool, device=start.device)
            return _Path(visits, point, every)
        with torch.no_grad():
            mark = problem.mark()
            before = problem(start, noise.judges)
            problem.rewind(mark)
            after = problem(point, noise.judges)
        return _Path(visits, point, (after < before).unsqueeze(-1))

    def step(
        self, problem: _Problem, point: Tensor, velocity: Tensor, noise: Tensor, create_graph: bool
    ) -> tuple[Tensor, Tensor]:
        """One step from a point that requires a gradient; gives the next point and velocity.

        Raises:
            TrainingDiverged: the loss has no finite gradient.
        """
        loss = problem(point, noise).sum()
        (slope,) = torch.autograd.grad(loss, point, create_graph=create_graph)
        # Elsewhere looking would cost a synchronisation; there the clipped gradient is looked at.
        if slope.device.type == "cpu" and not torch.isfinite(slope).all():
            raise TrainingDiverged(
                f"a step of refinement has no finite gradient, loss {loss.item()}"
            )
        size = slope.norm(dim=-1, keepdim=True)  # (2, B, 1): means and log-variances apart
        longest = self.clip * math.sqrt(_BATCH)  # what 32 like it, divided by 32, are clipped at
        slope = slope * (longest / size.clamp_min(longest) / _BATCH)
        velocity = self.momentum * velocity - slope
        return point + self.rate * velocity, velocity

    def pull_back(self, problem: _Problem, path: _Path, gradient: Tensor) -> Tensor:
        """Gradient at the start of a path from the one at its chosen points, (2, B, D) both.

        What the steps owe to the decoder and the prior is added to their gradients.
        Where the start was chosen the gradient stays what it is.
        """
        at_start = torch.where(path.better, 0.0, gradient)
        gradient = gradient - at_start
        momentum = torch.zeros_like(gradient)
        mark = problem.mark()
        for visit in reversed(path.visits):
            problem.rewind(visit.mark)
            point = visit.point.clone().requires_grad_()
            velocity = visit.velocity.clone().requires_grad_()
            ends = self.step(problem, point, velocity, visit.noise, create_graph=True)
            torch.autograd.backward(ends, (gradient, momentum))
            assert point.grad is not None and velocity.grad is not None
            gradient, momentum = point.grad, velocity.grad
        problem.rewind(mark)
        return gradient + at_start


class Refined(nn.Module):
    """A model as semi-amortised inference leaves it: the contract with the refined posterior.

    The refinement is towards the ELBO, with KL weight 1.
    Its noise is the same at every call and for every example, so the posterior of an example is a
    function of it alone.
    Each call of ``posterior`` costs the steps; the distribution carries no gradient.

    Args:
        model: the trained model, which becomes a part of this one.
        settings: of the refinement.
    """

    def __init__(self, model: VAE, settings: SemiAmortised) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.train(model.training)

    def posterior(self, x: Tensor) -> DiagonalNormal:
        """The refined q(z|x), batch shape (B,), event shape (D,).

        Raises:
            BadInput: the model's own is no diagonal Gaussian.
        """
        start = _start(self.model, x).detach()
        source = torch.Generator(start.device).manual_seed(_SEED)
        noise = _Noise.drawn(self.settings.steps, start, 1, source)
        with _twice_differentiable():
            chosen = self.settings.refine(_Problem(self.model, x, 1.0, None), start, noise).chosen
        return DiagonalNormal(chosen[0], chosen[1])

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z) in nats, z (S, B, D) -> (S, B)."""
        return self.model.log_likelihood(x, z)

    @property
    def prior(self) -> Distribution:
        """p(z), event shape (D,)."""
        return self.model.prior

    @property
    def decoder(self) -> nn.Module:
        """The model's own, for what is generated from the refined codes."""
        return self.model.decoder

    @property
    def posterior_head(self) -> nn.Module:
        """The model's own."""
        return self.model.posterior_head

    @property
    def prior_head(self) -> nn.Module:
        """The model's own."""
        return self.model.prior_head
