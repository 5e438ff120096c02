"""Everything that a model reaches on a set of examples, from one encoding of each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput
from posterior_collapse.estimators.estimate import require_count
from posterior_collapse.estimators.information import aggregate_kl, mutual_information
from posterior_collapse.estimators.likelihood import (
    Pass,
    count_tokens,
    decode,
    evaluating,
    kl_of,
    perplexity,
    with_closed_kl,
)
from posterior_collapse.objectives import Model
from posterior_collapse.posteriors import Flowed, gaussian_code
from posterior_collapse.priors import UnitNormal

__all__ = ["Evaluated", "Evaluation", "evaluate", "evaluate_each"]


class Evaluation(NamedTuple):
    """What a model reaches on a set of examples; plain numbers, nats per example.

    Standard errors are those of sampling z, for these examples and this model.
    None marks what the posterior has no answer for: mutual information, MPD and conditional
    entropy need a diagonal Gaussian (a flow's is that of z before the flow, as the papers
    measure it), the aggregated KL a standard normal prior as well, tokens and perplexity need
    text, and a delta posterior has neither likelihood nor KL.
    """

    nll: float | None  # importance-weighted, num_samples samples
    nll_stderr: float | None
    elbo_loss: float | None  # negative ELBO: reconstruction + KL of the decoded examples
    elbo_loss_stderr: float | None
    reconstruction: float  # average of -log p(x|z), z ~ q(z|x)
    reconstruction_stderr: float
    kl: float | None  # average KL(q(z|x) || p(z)) over all examples
    kl_stderr: float | None  # of the decoded examples' average; 0 for a closed form
    mutual_information: float | None
    mutual_information_stderr: float | None
    mutual_information_points: int  # aggregated; its ceiling is the logarithm of this
    batch_mutual_information: float | None  # the papers' form: at most the logarithm of the batch
    batch_mutual_information_points: int | None
    aggregate_kl: float | None  # KL(q_agg || N(0, I)) of all n_sentences points
    aggregate_kl_stderr: float | None
    mutual_posterior_divergence: float | None  # MPD over all pairs of points
    conditional_entropy: float | None  # of z given x
    active_units: int  # variance of the posterior mean, ddof 1, at least 0.01
    active_rank: int  # eigenvalues of its covariance, at least 0.01
    n_sentences: int  # encoded: KL, mutual information, MPD, units
    n_decoded: int  # of them, for NLL, ELBO and reconstruction
    n_tokens: int | None  # words predicted, each sentence's end included and its start not
    perplexity: float | None  # exp(nll * n_decoded / n_tokens)
    num_samples: int  # of z per example for nll, elbo_loss and reconstruction
    mi_samples: int  # of z per example for mutual information and the aggregated KL


class Evaluated(NamedTuple):
    """An evaluation, and the likelihood of each example, by which two models can be paired."""

    totals: Evaluation
    nll: Tensor | None  # (n_decoded,), importance-weighted, nats; None as in the totals


def evaluate_each(
    model: Model,
    batches: Iterable[Any],
    generator: torch.Generator,
    num_samples: int = 500,
    mi_samples: int = 10,
    aggregate: int | None = None,
    encoded: Iterable[Any] = (),
) -> Evaluated:
    """Measure a model; each example is encoded once, and one set of samples serves all.

    The KL is a closed form where torch.distributions has one for the pair of distributions, and
    the average over the samples otherwise.

    Args:
        model: see :class:`Model`; it runs in evaluation mode and is left as it was.
        batches: batches of x, at least two examples in all.
        generator: on the device of the posterior.
        num_samples: of z per example, for everything that is decoded.
        mi_samples: of z per example, for mutual information and the aggregated KL.
        aggregate: None, or the papers' batch size for ``batch_mutual_information``, whose batches
            are consecutive examples in a random order.
        encoded: batches of further x that are encoded and not decoded; they count in whatever
            needs the posteriors alone.

    Raises:
        BadInput, PosteriorCollapseError: see :func:`importance_weighted_nll`.
    """
    require_count("num_samples", num_samples)
    require_count("mi_samples", mi_samples)
    passes, encodings, tokens = [], [], []
    with evaluating(model):
        for x in batches:
            posterior = model.posterior(x)
            done = decode(model, x, posterior, num_samples, generator)
            done = with_closed_kl(done, posterior, model.prior)
            passes.append(done)
            encodings.append(_Encoding(posterior.mean, gaussian_code(posterior), done.kl))
            tokens.append(count_tokens(x))
        if not passes:
            raise BadInput("batches is empty")
        for x in encoded:
            posterior = model.posterior(x)
            kl = kl_of(posterior, model.prior, mi_samples, generator)
            encodings.append(_Encoding(posterior.mean, gaussian_code(posterior), kl))
        total = Pass(*(torch.cat(column) for column in zip(*passes, strict=True)))
        latent = _measure_latent(encodings, mi_samples, generator, aggregate)
        if not _is_unit_normal(model.prior) or isinstance(posterior, Flowed):
            latent |= {"aggregate_kl": None, "aggregate_kl_stderr": None}
    counted = [count for count in tokens if count is not None]
    n_tokens = sum(counted) if len(counted) == len(tokens) else None
    n, dense = len(total.nll), bool(torch.isfinite(total.kl).all())
    kl = torch.cat([encoding.kl for encoding in encodings])
    nll = total.nll.mean().item() if dense else None
    totals = Evaluation(
        nll=nll,
        nll_stderr=_stderr_of_mean(total.nll_stderr.square()) if dense else None,
        elbo_loss=(total.reconstruction + total.kl).mean().item() if dense else None,
        elbo_loss_stderr=_stderr_of_mean(total.elbo_loss_variance) if dense else None,
        reconstruction=total.reconstruction.mean().item(),
        reconstruction_stderr=_stderr_of_mean(total.reconstruction_variance),
        kl=kl.mean().item() if dense else None,
        kl_stderr=_stderr_of_mean(total.kl_variance) if dense else None,
        n_sentences=len(kl),
        n_decoded=n,
        n_tokens=n_tokens,
        perplexity=perplexity(nll * n / n_tokens) if n_tokens and nll is not None else None,
        num_samples=num_samples,
        mi_samples=mi_samples,
        **latent,
    )
    return Evaluated(totals, total.nll if dense else None)


def evaluate(
    model: Model,
    batches: Iterable[Any],
    generator: torch.Generator,
    num_samples: int = 500,
    mi_samples: int = 10,
    aggregate: int | None = None,
    encoded: Iterable[Any] = (),
) -> Evaluation:
    """As :func:`evaluate_each`, without the examples."""
    each = evaluate_each(model, batches, generator, num_samples, mi_samples, aggregate, encoded)
    return each.totals


class _Encoding(NamedTuple):
    """What stays of an encoded batch."""

    mean: Tensor  # (B, D)
    code: tuple[Tensor, Tensor] | None  # mean and log-variance of a diagonal Gaussian
    kl: Tensor  # (B,)


def _stderr_of_mean(variances: Tensor) -> float:
    """Standard error of the mean of N independent estimates with these variances."""
    return variances.sum().sqrt().item() / len(variances)


def _is_unit_normal(prior: Distribution) -> bool:
    """Whether a prior is N(0, I), by its moments."""
    if isinstance(prior, UnitNormal):
        return True
    if not isinstance(prior, Independent) or not isinstance(prior.base_dist, Normal):
        return False
    return bool((prior.mean == 0).all() and (prior.base_dist.scale == 1).all())


_OF_DIAGONAL_GAUSSIANS = (
    "mutual_information",
    "mutual_information_stderr",
    "batch_mutual_information",
    "aggregate_kl",
    "aggregate_kl_stderr",
    "mutual_posterior_divergence",
    "conditional_entropy",
)


def _measure_latent(
    encodings: list[_Encoding],
    mi_samples: int,
    generator: torch.Generator,
    aggregate: int | None,
) -> dict[str, Any]:
    """The fields of :class:`Evaluation` that need the posteriors alone."""
    mean = torch.cat([encoding.mean for encoding in encodings])
    codes = [encoding.code for encoding in encodings if encoding.code is not None]
    fields: dict[str, Any] = {
        **dict.fromkeys(_OF_DIAGONAL_GAUSSIANS),
        "mutual_information_points": len(mean),
        "batch_mutual_information_points": aggregate,
        "active_units": gaussian.active_units(mean),
        "active_rank": gaussian.active_rank(mean),
    }
    if len(codes) < len(encodings):
        return fields
    mean, logvar = (torch.cat(column) for column in zip(*codes, strict=True))
    information = mutual_information(mean, logvar, mi_samples, generator)
    distance = aggregate_kl(mean, logvar, mi_samples, generator)
    fields["mutual_information"] = information.value.item()
    fields["mutual_information_stderr"] = information.stderr.item()
    fields["aggregate_kl"] = distance.value.item()
    fields["aggregate_kl_stderr"] = distance.stderr.item()
    fields["mutual_posterior_divergence"] = _finite(
        gaussian.mutual_posterior_divergence(gaussian.widen(mean), gaussian.widen(logvar))
    )
    fields["conditional_entropy"] = _finite(gaussian.conditional_entropy(logvar))
    if aggregate is not None:
        # Batches of sentences are alike in length; the papers' estimate takes them at random.
        order = torch.randperm(len(mean), generator=generator, device=generator.device)
        order = order.to(mean.device)
        size = min(aggregate, len(mean))
        part = mutual_information(mean[order], logvar[order], mi_samples, generator, size)
        fields["batch_mutual_information"] = part.value.item()
    return fields


def _finite(value: Tensor) -> float | None:
    """A plain number; None where the dtype could not hold it."""
    number = value.item()
    return number if math.isfinite(number) else None
