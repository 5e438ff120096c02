"""What is recorded while a model trains: validation, the posterior mean space, trajectories."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from posterior_collapse import gaussian
from posterior_collapse.errors import PosteriorCollapseError
from posterior_collapse.estimators import (
    Model,
    Moments,
    evaluating,
    mutual_information,
    posterior_moments_1d,
)
from posterior_collapse.networks import VAE
from posterior_collapse.objectives import divergence
from posterior_collapse.posteriors import Delta, Flowed, ScaledNormal, draw, gaussian_code
from posterior_collapse.recipes import Setup
from posterior_collapse.training import State, Validation

_LOG = logging.getLogger(__name__)


class MeanSpace(NamedTuple):
    """The posterior mean space of B sentences under a model with a scalar latent variable."""

    model: Moments  # of p(z|x), from the adaptive grid: mean, variance, log evidence, each (B,)
    inference_mean: Tensor  # (B,), of q(z|x)
    inference_variance: Tensor  # (B,)


@torch.no_grad()
def mean_space(model: VAE, batches: Sequence[Tensor], tolerance: float = 2e-3) -> MeanSpace:
    """Means of model posterior and approximate posterior (He et al. 2019, section 2.3).

    Dropout is off, unlike in the authors' code: a plotted point then belongs to the model.
    The space is a picture of a run and never ends one: a sentence whose model posterior cannot be
    integrated has nan for its moments, and a warning says why.

    Args:
        model: scalar latent variable.
        batches: sentences, each batch of one length.
        tolerance: of the model posterior's mean and standard deviation, in units of the latter,
            and of the log evidence. A trained LSTM's likelihood can jump along z; an equal grid
            then gains one digit for ten times its nodes, so no more is asked than pictures and
            spreads over many sentences need.
    """
    was_training = model.training
    model.eval()
    parts = []
    for x in batches:
        q = model.posterior(x)
        parts.append((*_model_moments(model, x, q, tolerance), q.mean[:, 0], q.variance[:, 0]))
    model.train(was_training)
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    return MeanSpace(Moments(*columns[:3]), columns[3], columns[4])


def _model_moments(model: VAE, x: Tensor, q: Distribution, tolerance: float) -> Moments:
    """Moments of p(z|x) of a batch; nan for the sentences that defy integration."""
    prior = model.prior

    def log_joint(z: Tensor) -> Tensor:
        return model.log_likelihood(x, z.unsqueeze(-1)) + prior.log_prob(z.unsqueeze(-1))

    try:
        return posterior_moments_1d(
            log_joint, len(x), tolerance=tolerance, dtype=q.mean.dtype, device=q.mean.device
        )
    except PosteriorCollapseError as error:
        if len(x) == 1:
            _LOG.warning("a point is missing in the posterior mean space: %s", error)
            return Moments(*(q.mean.new_full((1,), math.nan) for _ in Moments._fields))
    # One sentence spoils the batch that it is integrated with.
    apart = [_model_moments(model, one, q, tolerance) for one in x.split(1)]
    return Moments(*(torch.cat(column) for column in zip(*apart, strict=True)))


def _kl(q: Distribution, prior: Distribution, z: Tensor) -> Tensor:
    """KL of every example that makes its loss a bound, nats, (B,).

    A delta posterior has none; 0 keeps its loss finite.
    """
    return z.new_zeros(z.shape[1]) if isinstance(q, Delta) else divergence(q, prior, z)


def _trained_kl(q: Distribution, bound: Tensor) -> Tensor:
    """KL of every example as the method's own loss has it, nats, (B,).

    Scale-VAE's is that of the unscaled posterior to N(0, I), and with it its loss is no bound.
    Two epochs with different factors are not comparable by that loss: it is lower by log f in
    each dimension when nothing but f has changed (theory, S6).  Epochs are therefore compared by
    the bound of its scaled posterior, and this KL is recorded beside it.

    Args:
        q: of a batch.
        bound: from :func:`_kl`.
    """
    if isinstance(q, ScaledNormal):
        return gaussian.kl_to_standard_normal(q.unscaled.mean, q.unscaled.logvar)
    return bound


def first_examples(batches: Sequence[Tensor], count: int) -> list[Tensor]:
    """The first so many examples of batches, still in batches."""
    firsts, left = [], count
    for x in batches:
        if left > 0:
            firsts.append(x[:left])
            left -= len(x)
    return firsts


class Recorder:
    """The monitor of a run; see :class:`posterior_collapse.training.Monitor`.

    Its randomness comes from generators made anew from the seed at every validation.
    Epochs are thus compared with common random numbers, and training is the same whether or not
    anything is recorded.

    Args:
        setup: what to record, and when.
        valid: batches of the validation set.
        grid: the sentences that the posterior mean space shows.
        seed: of the run.
    """

    def __init__(
        self, setup: Setup, valid: Sequence[Tensor], grid: Sequence[Tensor], seed: int
    ) -> None:
        self.setup, self.valid, self.grid, self.seed = setup, valid, grid, seed
        self.records: dict[str, list[Tensor]] = {}

    def validate(self, model: Model) -> Validation:
        """Loss with one sample an example, KL and its two parts over the whole set, AU."""
        generator = torch.Generator(self.valid[0].device).manual_seed(self.seed)
        means, codes, losses, kls = [], [], [], []
        with evaluating(model):
            for x in self.valid:
                q = model.posterior(x)
                z = draw(q, (1,), generator)
                bound = _kl(q, model.prior, z)
                losses.append(bound - model.log_likelihood(x, z)[0])
                kls.append(_trained_kl(q, bound))
                means.append(q.mean)
                codes.append(gaussian_code(q))
        kl = None if isinstance(q, Delta) else torch.cat(kls).mean().item()
        information = self._information([code for code in codes if code is not None], generator)
        # A flow's information is that of z before it, and Scale-VAE's that of the scaled
        # posterior: neither is a part of the KL beside it.
        apart = isinstance(q, Flowed | ScaledNormal)
        split = kl is not None and information is not None and not apart
        return Validation(
            loss=torch.cat(losses).mean().item(),
            kl=kl,
            mutual_information=information,
            aggregate_kl=kl - information if split else None,  # type: ignore[operator]
            active_units=gaussian.active_units(torch.cat(means)),
        )

    def _information(
        self, codes: list[tuple[Tensor, Tensor]], generator: torch.Generator
    ) -> float | None:
        """Mutual information of diagonal Gaussians; None where there are none."""
        if not codes:
            return None
        mean, logvar = (torch.cat(column) for column in zip(*codes, strict=True))
        samples = self.setup.mi_samples
        return mutual_information(mean, logvar, samples, generator).value.item()

    def observe(self, moment: str, state: State) -> None:
        """Record the mean space at the recipe's updates, and the first moves of a few points."""
        moved = state.iteration + (moment == "inner")
        if self.setup.trajectory_points and moved <= self.setup.trajectory_updates:
            self._record("trajectory", state, moment, self.setup.trajectory_points)
        if moment != "inner" and state.iteration in self.setup.grid_every:
            self._record("grid", state, moment, self.setup.grid_points)
        if moment != "inner" and state.iteration in self.setup.means_every:
            self._record_means(state)

    def _record_means(self, state: State) -> None:
        """Posterior means (M, D) in evaluation mode, in half precision: they are for pictures."""
        with evaluating(state.model):
            shown = first_examples(self.valid, self.setup.means_points)
            means = torch.cat([state.model.posterior(x).mean for x in shown])
        self.records.setdefault("means_iteration", []).append(torch.tensor(state.iteration))
        self.records.setdefault("means_mean", []).append(means.half().cpu())

    def _record(self, name: str, state: State, moment: str, points: int) -> None:
        space = mean_space(state.model, first_examples(self.grid, points), tolerance=1e-2)
        values = {
            "iteration": torch.tensor(state.iteration),
            "inner": torch.tensor(moment == "inner"),
            "model_mean": space.model.mean.float(),
            "model_std": space.model.variance.sqrt().float(),
            "log_evidence": space.model.log_evidence.float(),
            "inference_mean": space.inference_mean.float(),
            "inference_std": space.inference_variance.sqrt().float(),
        }
        for key, value in values.items():
            self.records.setdefault(f"{name}_{key}", []).append(value.cpu())

    def arrays(self) -> dict[str, Tensor]:
        """Everything recorded so far, stacked over time: name -> (K, ...)."""
        return {name: torch.stack(values) for name, values in self.records.items()}

    def restore(self, arrays: dict[str, Tensor]) -> None:
        """Go on from the arrays of a checkpoint."""
        self.records = {name: list(values.unbind(0)) for name, values in arrays.items()}
