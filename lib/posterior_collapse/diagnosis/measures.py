"""What a diagnosis measures, each number with its standard error over examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from posterior_collapse import gaussian
from posterior_collapse.diagnosis.adapters import Adapted, wide_pair
from posterior_collapse.errors import BadInput
from posterior_collapse.estimators import evaluating
from posterior_collapse.estimators.information import information_per_point
from posterior_collapse.estimators.likelihood import Pass, decode
from posterior_collapse.posteriors import DiagonalNormal, draw
from posterior_collapse.priors import kl_per_dimension

POINTS = 4000  # aggregated for MI at most: the work grows with their square
_DRAWS = 4  # of z per point for MI; with many points their noise is below that of the points
_RESAMPLES = 30  # of the bootstrap for what is no average over examples
_STEP = 0.05  # of the logarithm of a scale, for central differences


class Measure(NamedTuple):
    """A number and its standard error, over examples and draws; None where there is none."""

    value: float
    stderr: float | None


class Latent(NamedTuple):
    """What posteriors and prior say by themselves."""

    measures: dict[str, Measure]
    kl: Tensor | None  # (D,) nats; None where the prior's dimensions are no independent Gaussians
    kl_stderr: Tensor | None  # (D,)
    signal: Tensor  # (D,) variance of the means over that of the posteriors, largest first
    examples: int
    points: int  # S, aggregated for MI


class Decoded(NamedTuple):
    """Quantities of each decoded example, (N,) in float64; nats."""

    nll: Tensor
    elbo_loss: Tensor
    reconstruction: Tensor
    own_code: Tensor  # log p(x | z) under its own code less that under another's; may be shorter
    model_moves: Tensor  # KL(p(z|x) || p(z)), at most the logarithm of the number of draws
    slopes: Tensor  # (N, 4): of reconstruction and KL in the log scale of std, then of the means


def average(values: Tensor) -> Measure:
    """Mean over examples with its standard error."""
    stderr = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else None
    return Measure(values.mean().item(), stderr)


def read(
    model: Adapted,
    batches: Any,
    raw: Any,
    examples: int,
    decoded: int,
    num_samples: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Decoded | None]:
    """Encode up to ``examples`` examples and decode the first ``decoded`` ones, in one pass.

    Args:
        raw: what to put into evaluation mode and back: the reader's model itself.

    Raises:
        BadInput: no batches, or what the model gives can't be measured.
    """
    means, logvars, parts, count = [], [], [], 0
    other: Tensor | None = None
    with evaluating(raw):
        for x, q in model.encodings(batches):
            gaussian.require_finite(mean=q.mean, logvar=q.logvar)
            if model.decodes and count < decoded:
                part, other = _decode(model, x, q, other, num_samples, generator)
                parts.append(part)
            means.append(q.mean)
            logvars.append(q.logvar)
            count += len(q.mean)
            if count >= examples:
                break
    if not means:
        raise BadInput("batches is empty; a generator can be used once only")
    joined = Decoded(*(torch.cat(c) for c in zip(*parts, strict=True))) if parts else None
    return *wide_pair(torch.cat(means), torch.cat(logvars)), joined


# --- the encoder ----------------------------------------------------------------------------------


def latent_measures(
    mean: Tensor, logvar: Tensor, prior: Distribution, generator: torch.Generator
) -> Latent:
    """Everything that means and log-variances (N, D) in float64 tell.

    Variances are measured in units of the prior's, so that thresholds mean the same for all.
    """
    rows = _subset(len(mean), generator)
    q = DiagonalNormal(mean[rows], logvar[rows])
    each = information_per_point(q.mean, q.logvar, _DRAWS, generator)
    dims = _kl_of_dimensions(mean, logvar, prior)
    kl = _sampled_kl(q, prior, generator) if dims is None else dims.sum(-1)
    mismatch = (kl if dims is None else kl[rows]) - each
    unit, unit_logvar = _in_units(mean, logvar, prior)
    measures = {
        "kl": average(kl),
        "mutual_information": average(each),
        "information_bound": Measure(_gaussian_bound(mean, logvar), None),
        "aggregate_kl": average(mismatch),
        "active_units": _resampled(unit, gaussian.active_units, _count_units, generator),
        "active_rank": _resampled(unit, gaussian.active_rank, _count_rank, generator),
        "mutual_posterior_divergence": _divergence(mean, logvar, generator),
        "conditional_entropy": average(gaussian.entropy(logvar)),
    }
    return Latent(
        measures,
        None if dims is None else dims.mean(0),
        None if dims is None else dims.std(0) / math.sqrt(len(dims)),
        _signal(unit, unit_logvar),
        len(mean),
        len(q.mean),
    )


def _subset(points: int, generator: torch.Generator) -> Tensor:
    """Which points are aggregated: all, or a random choice of ``POINTS``."""
    if points <= POINTS:
        return torch.arange(points)
    return torch.randperm(points, generator=generator)[:POINTS]


def _kl_of_dimensions(mean: Tensor, logvar: Tensor, prior: Distribution) -> Tensor | None:
    """(N, D), or None; see :class:`Latent`."""
    try:
        return kl_per_dimension(DiagonalNormal(mean, logvar), prior, mean[None])
    except NotImplementedError:
        return None


def _sampled_kl(q: DiagonalNormal, prior: Distribution, generator: torch.Generator) -> Tensor:
    """KL to any prior from draws, (N,)."""
    z = draw(q, (_DRAWS,), generator)
    return (q.log_prob(z) - prior.log_prob(z)).mean(0)


def _scale_of(prior: Distribution) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation (D,) of a prior that knows them."""
    prior = getattr(prior, "prior", prior)
    try:
        return prior.mean.cpu().double(), prior.variance.cpu().double().sqrt()
    except (AttributeError, NotImplementedError):
        return None


def posterior_levels(mean: Tensor, logvar: Tensor, prior: Distribution) -> Tensor:
    """Average log-variance of each dimension (D,) in units of the prior's variance."""
    return _in_units(mean, logvar, prior)[1].mean(0)


def _in_units(mean: Tensor, logvar: Tensor, prior: Distribution) -> tuple[Tensor, Tensor]:
    """Means and log-variances in units of the prior's standard deviations."""
    scale = _scale_of(prior)
    if scale is None:
        return mean, logvar
    return (mean - scale[0]) / scale[1], logvar - 2.0 * scale[1].log()


def _gaussian_bound(mean: Tensor, logvar: Tensor) -> float:
    """An upper bound on I(x; z) that no number of points limits, nats.

    No density of a given covariance has more entropy than the Gaussian, so the entropy of the
    aggregated posterior is at most that of a Gaussian with its covariance.
    """
    log_det = gaussian.aggregate_moments(mean, logvar).log_det_covariance
    return max(0.0, 0.5 * (log_det - logvar.sum(-1).mean()).item())


def _signal(mean: Tensor, logvar: Tensor) -> Tensor:
    """Eigenvalues (D,) of Cov(mean) in units of the average posterior variances, largest first.

    A direction with eigenvalue s can carry about log(1 + s) / 2 nats.  Where the posteriors are
    isotropic, rotating the latent space changes nothing; rescaling a dimension never does.
    """
    level = torch.logsumexp(logvar, 0) - math.log(len(logvar))
    return torch.linalg.eigvalsh(_covariance(mean * torch.exp(-0.5 * level))).flip(0).clamp_min(0.0)


def _covariance(values: Tensor) -> Tensor:
    centred = values - values.mean(0)
    centred = centred - centred.mean(0)  # as the first mean is itself rounded
    return centred.T @ centred / (len(values) - 1)


def _count_units(mean: Tensor) -> int:
    return int((mean.var(0) >= 0.01).sum())


def _count_rank(mean: Tensor) -> int:
    return int((torch.linalg.eigvalsh(_covariance(mean)) >= 0.01).sum())


def _bootstrap(
    statistic: Callable[[Tensor], float], points: int, generator: torch.Generator
) -> float:
    """Standard error of a function of the chosen points' indices."""
    drawn = (torch.randint(points, (points,), generator=generator) for _ in range(_RESAMPLES))
    return torch.tensor([float(statistic(rows)) for rows in drawn]).double().std().item()


def _resampled(
    mean: Tensor,
    exact: Callable[[Tensor], int],
    fast: Callable[[Tensor], int],
    generator: torch.Generator,
) -> Measure:
    stderr = _bootstrap(lambda rows: fast(mean[rows]), len(mean), generator)
    return Measure(float(exact(mean)), stderr)


def _divergence(mean: Tensor, logvar: Tensor, generator: torch.Generator) -> Measure:
    """MPD with its bootstrap error."""

    def statistic(rows: Tensor) -> float:
        return gaussian.mutual_posterior_divergence(mean[rows], logvar[rows]).item()

    everything = torch.arange(len(mean))
    return Measure(statistic(everything), _bootstrap(statistic, len(mean), generator))


# --- the decoder ----------------------------------------------------------------------------------


def _decode(
    model: Adapted,
    x: Any,
    q: DiagonalNormal,
    other: Tensor | None,
    num_samples: int,
    generator: torch.Generator,
) -> tuple[Decoded, Tensor]:
    """One batch, and a code of it that the next batch may borrow."""
    done: Pass = decode(model, x, q, num_samples, generator)
    z = draw(q, (num_samples,), generator)
    batch = z.shape[1]
    # Half a batch further, as neighbours are alike where a loader sorts.
    borrowed = z.roll(batch // 2, 1) if batch > 1 else other
    own = torch.empty(0, dtype=torch.float64)
    if borrowed is not None:
        own = (_of(model, x, z) - _of(model, x, borrowed)).mean(0)
    parts = Decoded(
        done.nll,
        done.reconstruction + done.kl,
        done.reconstruction,
        own,
        _model_moves(model, x, batch, num_samples, generator),
        _slopes(model, x, q, num_samples, generator),
    )
    return parts, z[:, -1:]


def _of(model: Adapted, x: Any, z: Tensor) -> Tensor:
    return gaussian.widen(model.log_likelihood(x, z))


def _model_moves(
    model: Adapted, x: Any, batch: int, num_samples: int, generator: torch.Generator
) -> Tensor:
    """KL(p(z|x) || p(z)) from draws of the prior, weighted by the likelihood, (B,).

    It asks the decoder alone: zero where it ignores z.  With K draws it is at most log K.
    """
    z = draw(model.prior, (num_samples,), generator)
    log_weights = _of(model, x, z[:, None].expand(-1, batch, -1)).log_softmax(0)
    return (log_weights.exp() * (log_weights + math.log(num_samples))).sum(0)


def _slopes(
    model: Adapted, x: Any, q: DiagonalNormal, num_samples: int, generator: torch.Generator
) -> Tensor:
    """d/ds of E[-log p(x|z)] and of the KL for std e^s, then for (mean - centre) e^s, (B, 4).

    Where an encoder has reached the optimum of reconstruction + w KL, both ratios are -w, as a
    common scale of its standard deviations, and of its means, is always within its reach.
    nan where the prior is no diagonal Gaussian.
    """
    if not isinstance(model.prior, DiagonalNormal):
        return torch.full((len(q.mean), 4), math.nan, dtype=torch.float64)
    noise = torch.randn((num_samples, *q.mean.shape), generator=generator, dtype=torch.float64)
    std, centre = torch.exp(0.5 * q.logvar), model.prior.mean
    apart = q.mean - centre

    def slope(of_std: float, of_mean: float) -> Tensor:
        def scaled(step: float) -> Tensor:
            means = centre + apart * math.exp(step * of_mean)
            return _of(model, x, means + std * math.exp(step * of_std) * noise)

        up, down = scaled(_STEP), scaled(-_STEP)
        return (down - up).mean(0) / (2.0 * _STEP)

    ratio = q.logvar - model.prior.logvar
    squares = apart.square() * torch.exp(-model.prior.logvar)
    return torch.stack(
        [slope(1.0, 0.0), torch.expm1(ratio).sum(-1), slope(0.0, 1.0), squares.sum(-1)], dim=1
    )


def decoder_measures(decoded: Decoded) -> dict[str, Measure]:
    """Averages over the decoded examples."""
    measures = {
        "nll": average(decoded.nll),
        "elbo_loss": average(decoded.elbo_loss),
        "elbo_gap": average(decoded.elbo_loss - decoded.nll),
        "reconstruction": average(decoded.reconstruction),
        "own_code": average(decoded.own_code),
        "model_moves": average(decoded.model_moves),
        "kl_weight_of_std": _weight(*decoded.slopes[:, :2].T),
        "kl_weight_of_means": _weight(*decoded.slopes[:, 2:].T),
    }
    return {name: m for name, m in measures.items() if math.isfinite(m.value)}


def _weight(reconstruction: Tensor, kl: Tensor) -> Measure:
    """-d reconstruction / d KL, the weight at which a common scale is at its optimum.

    nan where the KL hardly depends on the scale, less than 0.05 nats for each unit of it.
    """
    below = kl.mean().item()
    if not abs(below) >= 0.05 or len(kl) < 2:
        return Measure(math.nan, None)
    weight = -reconstruction.mean().item() / below
    return Measure(weight, average(reconstruction + weight * kl).stderr / abs(below))  # type: ignore[operator]
