"""Slot 3 of a method: the objective and the schedule of its KL weight.

An objective maps a model and a batch to :class:`Terms`.
Its loss is a mean over the batch, in nats per example, and is what gets differentiated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput, whole
from posterior_collapse.layers import Progress
from posterior_collapse.posteriors import ScaledNormal, draw, gaussian_code
from posterior_collapse.priors import kl_per_dimension


class Terms(NamedTuple):
    """What one evaluation of an objective gives."""

    loss: Tensor  # (), nats per example, with a gradient
    reconstruction: Tensor  # (B,), -log p(x|z), nats
    kl: Tensor  # (B,), KL(q(z|x) || p(z)), nats
    weight: float  # weight of the KL in the loss


# --- schedules ------------------------------------------------------------------------------------


class Schedule(Protocol):
    """KL weight as a function of progress."""

    def __call__(self, progress: Progress) -> float:
        """The weight for the next update."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same weight throughout; 1 gives the evidence lower bound, beta gives a beta-VAE."""

    value: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.value < math.inf:
            raise BadInput(f"a KL weight is a number of at least 0, given {self.value}")

    def __call__(self, progress: Progress) -> float:
        """See :class:`Schedule`."""
        return self.value


@dataclass(frozen=True)
class Linear:
    """Weight that rises linearly from ``start`` to ``end`` over the first ``epochs`` epochs.

    He et al. 2019, appendix B: from 0.1 to 1 over 10 epochs, after Bowman et al. 2016.
    None takes the recipe's length of annealing, which counts updates: how long a decoder has to
    learn before the KL costs its price does not depend on the size of the data.
    """

    start: float = 0.1
    epochs: float | None = None
    end: float = 1.0

    def __post_init__(self) -> None:
        long = self.epochs is None or 0.0 < self.epochs < math.inf
        if not (0.0 <= self.start <= self.end < math.inf and long):
            raise BadInput(
                f"linear annealing takes 0 <= start <= {self.end:g}, its end, and epochs > 0, "
                f"given {self.start} and {self.epochs}"
            )

    def __call__(self, progress: Progress) -> float:
        """See :class:`Schedule`."""
        share = progress.annealed if self.epochs is None else progress.epochs / self.epochs
        return min(self.end, self.start + (self.end - self.start) * share)


@dataclass(frozen=True)
class Cyclical:
    """Cycles of ``epochs`` epochs; in each the weight rises from 0 to 1 in the first ``rise`` part.

    After the last of ``cycles`` cycles the weight stays 1 (Fu et al. 2019).
    None takes the recipe's length of annealing for a cycle.
    """

    cycles: int = 4
    epochs: float | None = None
    rise: float = 0.5

    def __post_init__(self) -> None:
        long = self.epochs is None or 0.0 < self.epochs < math.inf
        if not (self.cycles >= 1 and long and 0.0 < self.rise <= 1.0):
            raise BadInput(
                "cyclical annealing takes cycles >= 1, epochs > 0 and 0 < rise <= 1, given "
                f"{self.cycles}, {self.epochs} and {self.rise}"
            )

    def __call__(self, progress: Progress) -> float:
        """See :class:`Schedule`."""
        done = progress.annealed if self.epochs is None else progress.epochs / self.epochs
        cycle, share = divmod(done, 1.0)
        return 1.0 if cycle >= self.cycles else min(1.0, share / self.rise)


# --- what objectives share ------------------------------------------------------------------------


class Model(Protocol):
    """What objectives and estimators ask of a model, ours or a reader's own."""

    def posterior(self, x: Any) -> Distribution:
        """q(z|x), batch shape (B,), event shape (D,)."""
        ...

    def log_likelihood(self, x: Any, z: Tensor) -> Tensor:
        """log p(x|z) in nats, z (S, B, D) -> (S, B)."""
        ...

    @property
    def prior(self) -> Distribution:
        """p(z), event shape (D,)."""
        ...


class Objective(Protocol):
    """What a method names in its objective slot."""

    def __call__(
        self, model: Model, x: Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Terms:
        """Loss and its terms on a batch x."""
        ...


def divergence(q: Distribution, prior: Distribution, z: Tensor) -> Tensor:
    """KL(q || prior) of every example, nats, (B,).

    A closed form where torch.distributions knows one for the pair; else the average of
    log q(z) - log p(z) over the draws z (S, B, D) of q, which is unbiased and has a gradient.
    """
    try:
        return kl_divergence(q, prior)
    except NotImplementedError:
        return (q.log_prob(z) - prior.log_prob(z)).mean(0)


class _Drawn(NamedTuple):
    """A batch after the encoder and the decoder."""

    posterior: Distribution
    z: Tensor  # (S, B, D)
    log_likelihood: Tensor  # (S, B), nats


def _decode(model: Model, x: Tensor, generator: torch.Generator | None, samples: int = 1) -> _Drawn:
    """Draw z from the posterior of every example and decode it."""
    q = model.posterior(x)
    z = draw(q, (samples,), generator)
    return _Drawn(q, z, model.log_likelihood(x, z))


# --- objectives -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ELBO:
    """Negative evidence lower bound with a weight on the KL, one sample of z per example.

    loss = mean over the batch of -log p(x|z) + weight * KL(q(z|x) || p(z)), z ~ q(z|x)
    (He et al. 2019, equation 2).
    """

    weight: Schedule = Constant(1.0)

    def __call__(
        self, model: Model, x: Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Terms:
        """See :class:`Objective`."""
        q, z, log_likelihood = _decode(model, x, generator)
        reconstruction, kl = -log_likelihood[0], divergence(q, model.prior, z)
        weight = self.weight(progress)
        return Terms((reconstruction + weight * kl).mean(), reconstruction, kl, weight)


@dataclass(frozen=True)
class AutoGen:
    """The evidence lower bound with 1 + m reconstructions of x from one z.

    loss = mean of -(1 + m) log p(x|z) + weight * KL (Mansbridge et al. 2018, equation 10;
    m = 1 is equation 9).
    Its gradient is 1 + m times that of a beta-VAE with beta = 1 / (1 + m).

    Args:
        m: further reconstructions, at least 0.
        weight: of the KL.
    """

    m: float = 1.0
    weight: Schedule = Constant(1.0)

    def __post_init__(self) -> None:
        if not 0.0 <= self.m < math.inf:
            raise BadInput(f"m is a number of at least 0, given {self.m}")

    def __call__(
        self, model: Model, x: Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Terms:
        """See :class:`Objective`."""
        q, z, log_likelihood = _decode(model, x, generator)
        reconstruction, kl = -log_likelihood[0], divergence(q, model.prior, z)
        weight = self.weight(progress)
        loss = ((1.0 + self.m) * reconstruction + weight * kl).mean()
        return Terms(loss, reconstruction, kl, weight)


@dataclass(frozen=True)
class FreeBits:
    """A KL that costs nothing below a threshold in each dimension (Kingma et al. 2016).

    loss = mean of -log p(x|z) + weight * sum over d of max(threshold, mean over the batch of KL_d)
    A dimension whose batch mean is below the threshold has no KL gradient, another one all of it.

    Args:
        threshold: lambda, nats per dimension, at least 0; 0.1 in the papers' tables.
        weight: of the sum.
    """

    threshold: float = 0.1
    weight: Schedule = Constant(1.0)

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold < math.inf:
            raise BadInput(f"a threshold is a number of nats of at least 0, given {self.threshold}")

    def __call__(
        self, model: Model, x: Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Terms:
        """See :class:`Objective`.

        Raises:
            BadInput: posterior and prior have no KL of single dimensions.
        """
        q, z, log_likelihood = _decode(model, x, generator)
        try:
            kl = kl_per_dimension(q, model.prior, z)  # (B, D)
        except NotImplementedError as error:
            raise BadInput(f"free bits cannot go with these choices: {error}") from error
        weight = self.weight(progress)
        paid = kl.mean(0).clamp_min(self.threshold).sum()
        reconstruction = -log_likelihood[0]
        return Terms(reconstruction.mean() + weight * paid, reconstruction, kl.sum(-1), weight)


@dataclass(frozen=True)
class TargetKL:
    """A KL that is drawn to a target C (Zhang et al. 2021, equation 2; Prokhorov et al. 2019).

    loss = mean of -log p(x|z) + weight * ``|mean KL - C|``, where C rises linearly from 0 over the
    first ``ramp`` updates.

    Args:
        c: target, nats per example, at least 0.
        ramp: updates until C is reached, at least 0; 5,000 in the code.
        weight: of the distance; beta, which is 1.
    """

    c: float = 15.0
    ramp: int = 5000
    weight: Schedule = Constant(1.0)

    def __post_init__(self) -> None:
        if not (0.0 <= self.c < math.inf and 0 <= self.ramp < math.inf):
            raise BadInput(
                f"a target KL takes c >= 0 and ramp >= 0, given {self.c} and {self.ramp}"
            )

    def target(self, progress: Progress) -> float:
        """C at this update."""
        return self.c * min(1.0, progress.iteration / self.ramp) if self.ramp else self.c

    def distance(self, kl: Tensor, target: float) -> Tensor:
        """``|mean KL - C|`` from the KLs (B,): of the mean, as in the text."""
        return (kl.mean() - target).abs()

    def __call__(
        self, model: Model, x: Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Terms:
        """See :class:`Objective`."""
        q, z, log_likelihood = _decode(model, x, generator)
        reconstruction, kl = -log_likelihood[0], divergence(q, model.prior, z)
        weight = self.weight(progress)
        loss = reconstruction.mean() + weight * self.distance(kl, self.target(progress))
        return Terms(loss, reconstruction, kl, weight)


@dataclass(frozen=True)
class TargetKLPerSentence(TargetKL):
    """As :class:`TargetKL`, but every example is drawn to C by itself (Zhang et al. 2021, code).

    By Jensen's inequality this distance is never the smaller one.
    """

    def distance(self, kl: Tensor, target: float) -> Tensor:
        """Mean ``|KL - C|`` from the KLs (B,): per sentence, as in the code."""
        return (kl - target).abs().mean()


@dataclass(frozen=True)
class ImportanceWeighted:
    """The importance-weighted bound with k samples (IWAE, Burda et al. 2016, equation 8).

    loss = -mean of log (1/k) sum over samples of p(x|z) (p(z) / q(z|x))^weight
    With weight 1 this is the bound itself, and with k = 1 the ELBO whose KL is estimated from the
    sample.
    ``reconstruction`` and ``kl`` of the terms are plain averages over the samples, so they add up
    to the negative ELBO and not to the loss.

    Args:
        k: samples, at least 1.
        weight: of the logarithm of p(z) / q(z|x).
    """

    k: int = 5
    weight: Schedule = Constant(1.0)

    def __post_init__(self) -> None:
        whole("k", self.k)

    def __call__(
        self, model: Model, x: Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Terms:
        """See :class:`Objective`."""
        q, z, log_likelihood = _decode(model, x, generator, self.k)
        log_ratio = model.prior.log_prob(z) - q.log_prob(z)  # (k, B)
        weight = self.weight(progress)
        bound = torch.logsumexp(log_likelihood + weight * log_ratio, 0) - math.log(self.k)
        return Terms(-bound.mean(), -log_likelihood.mean(0), -log_ratio.mean(0), weight)


def pairwise_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL between the diagonal Gaussians of every ordered pair of different points, per dimension.

    Args:
        mean, logvar: (B, D).

    Returns:
        (B (B - 1), D), nats, in the order (0, 1), (0, 2), ..., (1, 0), ...
    """
    others = max(1, len(mean) - 1)
    place = torch.arange(len(mean) * (len(mean) - 1), device=mean.device)
    one, other = place // others, place % others
    two = other + (other >= one)
    distance = (mean[one] - mean[two]) * torch.exp(-0.5 * logvar[two])
    return 0.5 * (distance.square() + gaussian.exp_minus_tangent(logvar[one] - logvar[two]))


@dataclass(frozen=True)
class MutualPosterior:
    """The ELBO, and posteriors that lie apart, and evenly (MAE, Ma et al. 2019).

    loss = mean of -log p(x|z) + weight * max(free_bits, mean KL)
    - diversity * sum over d of log sigmoid(M_d) + smoothness * S
    with M_d the mean over ordered pairs of examples of the KL between their posteriors in
    dimension d, and S the standard deviation, ddof 1, over these pairs of that KL in all
    dimensions together.
    A batch of one has no pairs and only the first line.

    Args:
        diversity: weight, at least 0; eta in the code of Ma et al., gamma in Shen et al. 2021.
        smoothness: weight, at least 0; gamma in the code of Ma et al., eta in Shen et al. 2021.
        free_bits: nats per example, at least 0.
        weight: of the KL.
    """

    diversity: float = 1.0
    smoothness: float = 0.2
    free_bits: float = 0.0
    weight: Schedule = Constant(1.0)

    def __post_init__(self) -> None:
        for name in ("diversity", "smoothness", "free_bits"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise BadInput(f"{name} is a number of at least 0, given {getattr(self, name)}")

    def regulariser(self, mean: Tensor, logvar: Tensor) -> Tensor:
        """Diversity and smoothness of the Gaussians of a batch, (B, D) both, with their weights."""
        if len(mean) < 2:
            return mean.new_zeros(())
        pairs = pairwise_kl(mean, logvar)
        # The root has no gradient at 0, where all pairs are alike.
        spread = pairs.sum(-1).var().clamp_min(torch.finfo(mean.dtype).eps).sqrt()
        return self.smoothness * spread - self.diversity * F.logsigmoid(pairs.mean(0)).sum()

    def __call__(
        self, model: Model, x: Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Terms:
        """See :class:`Objective`.

        Raises:
            BadInput: the posterior has no diagonal Gaussian code.
        """
        q, z, log_likelihood = _decode(model, x, generator)
        code = gaussian_code(q)
        if code is None:
            raise BadInput(f"MAE needs diagonal Gaussian posteriors, given {type(q).__name__}")
        reconstruction, kl = -log_likelihood[0], divergence(q, model.prior, z)
        weight = self.weight(progress)
        bound = reconstruction.mean() + weight * kl.mean().clamp_min(self.free_bits)
        return Terms(bound + self.regulariser(*code), reconstruction, kl, weight)


@dataclass(frozen=True)
class ScaledELBO:
    """The objective of Scale-VAE (Song et al. 2024, L_scale).

    loss = mean of -log p(x|z) + weight * KL(N(mu, sigma^2) || N(0, I)), z ~ N(f mu, sigma^2)
    The two terms have different posteriors, so this bounds no likelihood, whatever the prior.
    It goes with the posterior :class:`posterior_collapse.posteriors.Scaled`.
    """

    weight: Schedule = Constant(1.0)

    def __call__(
        self, model: Model, x: Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Terms:
        """See :class:`Objective`; ``kl`` is that of the posterior before scaling.

        Raises:
            BadInput: the posterior is not a scaled one.
        """
        q, _, log_likelihood = _decode(model, x, generator)
        if not isinstance(q, ScaledNormal):
            raise BadInput(
                "the objective of Scale-VAE goes with the posterior Scaled, given "
                f"{type(q).__name__}"
            )
        reconstruction = -log_likelihood[0]
        kl = gaussian.kl_to_standard_normal(q.unscaled.mean, q.unscaled.logvar)
        weight = self.weight(progress)
        return Terms((reconstruction + weight * kl).mean(), reconstruction, kl, weight)


@dataclass(frozen=True)
class Reconstruction:
    """The objective of an autoencoder: loss = mean of -log p(x|z); there is no KL.

    It asks for no density, so that it goes with a posterior that has none.
    """

    def __call__(
        self, model: Model, x: Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Terms:
        """See :class:`Objective`; ``kl`` is 0."""
        reconstruction = -_decode(model, x, generator).log_likelihood[0]
        return Terms(reconstruction.mean(), reconstruction, torch.zeros_like(reconstruction), 0.0)
