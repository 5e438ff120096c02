"""Everything that a model reaches on a set of examples, from one encoding of each."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from posterior_collapse import gaussian
from posterior_collapse.errors import whole
from posterior_collapse.estimators.estimate import (
    posteriors,
    require_generator,
    require_model,
)
from posterior_collapse.estimators.information import aggregate_kl, mutual_information
from posterior_collapse.estimators.likelihood import (
    Pass,
    count_tokens,
    decode,
    evaluating,
    joined,
    kl_and_variance,
    mean_of,
    perplexity,
)
from posterior_collapse.objectives import Model
from posterior_collapse.posteriors import Flowed, gaussian_code
from posterior_collapse.priors import UnitNormal


class Evaluation(NamedTuple):
    """What a model reaches on a set of examples; plain numbers, nats per example.

    Standard errors are those of sampling z, for these examples and this model.
    None marks what the posterior has no answer for: mutual information, MPD and conditional
    entropy need a diagonal Gaussian (a flow's is that of z before the flow, as the papers
    measure it), the aggregated KL a standard normal prior as well, active units a mean, tokens and
    perplexity the id of padding, and a delta posterior has neither likelihood nor KL.
    """

    nll: float | None  # importance-weighted, num_samples samples
    nll_stderr: float | None
    elbo_loss: float | None  # negative ELBO: reconstruction + KL of the decoded examples
    elbo_loss_stderr: float | None
    reconstruction: float  # average of -log p(x|z), z ~ q(z|x)
    reconstruction_stderr: float
    kl: float | None  # average KL(q(z|x) || p(z)) over all examples
    kl_stderr: float | None  # 0 for a closed form
    mutual_information: float | None
    mutual_information_stderr: float | None
    mutual_information_points: int  # aggregated; its ceiling is the logarithm of this
    batch_mutual_information: float | None  # the papers' form: at most the logarithm of the batch
    batch_mutual_information_points: int | None  # aggregated: the batch, or all if they are fewer
    aggregate_kl: float | None  # KL(q_agg || N(0, I)) of all n_sentences points
    aggregate_kl_stderr: float | None
    mutual_posterior_divergence: float | None  # MPD over all pairs of points
    conditional_entropy: float | None  # of z given x
    active_units: int | None  # variance of the posterior mean, ddof 1, at least 0.01
    active_rank: int | None  # eigenvalues of its covariance, at least 0.01
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
    padding: int | None = None,
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
        padding: None, or the id that fills sentences up where x are ids (B, T), each with a start
            first; words, and with them the perplexity, can't be counted without it.

    Returns:
        The totals and the likelihood of each example; ``evaluate`` gives the totals alone.

    Raises:
        BadInput, PosteriorCollapseError: see :func:`importance_weighted_nll`.
    """
    num_samples = whole("num_samples", num_samples)
    mi_samples = whole("mi_samples", mi_samples)
    aggregate = None if aggregate is None else whole("aggregate", aggregate)
    require_generator(generator)
    require_model(model, batches, encoded)
    passes, encodings, tokens = [], [], 0
    with evaluating(model):
        for x, q in posteriors(model, batches):
            tokens += 0 if padding is None else count_tokens(x, padding)
            passes.append(decode(model, x, q, num_samples, generator))
            encodings.append(_encoding(q, passes[-1].kl, passes[-1].kl_variance))
        total = joined(passes)
        for _, q in posteriors(model, encoded):
            encodings.append(_encoding(q, *kl_and_variance(q, model.prior, mi_samples, generator)))
        latent = _measure_latent(encodings, mi_samples, generator, aggregate)
        if not _is_unit_normal(model.prior) or isinstance(q, Flowed):
            latent |= {"aggregate_kl": None, "aggregate_kl_stderr": None}
    decoded = _measure_decoded(total, tokens if padding is not None else None)
    samples = {"num_samples": num_samples, "mi_samples": mi_samples}
    totals = Evaluation(**{**dict.fromkeys(Evaluation._fields), **decoded, **latent, **samples})
    return Evaluated(totals, total.nll if totals.nll is not None else None)


@functools.wraps(evaluate_each, assigned=("__doc__",))
def evaluate(*args: Any, **options: Any) -> Evaluation:
    return evaluate_each(*args, **options).totals


class _Encoding(NamedTuple):
    """What stays of an encoded batch."""

    mean: Tensor | None  # (B, D)
    code: tuple[Tensor, Tensor] | None  # mean and log-variance of a diagonal Gaussian
    kl: Tensor  # (B,)
    kl_variance: Tensor


def _encoding(posterior: Distribution, kl: Tensor, kl_variance: Tensor) -> _Encoding:
    return _Encoding(mean_of(posterior), gaussian_code(posterior), kl, kl_variance)


def _measure_decoded(total: Pass, tokens: int | None) -> dict[str, Any]:
    """The fields of :class:`Evaluation` that need the decoder, and have an answer."""
    fields: dict[str, Any] = {
        "reconstruction": total.reconstruction.mean().item(),
        "reconstruction_stderr": _stderr_of_mean(total.reconstruction_variance),
        "n_decoded": len(total.nll),
        "n_tokens": tokens,
    }
    if torch.isfinite(total.kl).all():
        fields["nll"] = total.nll.mean().item()
        fields["nll_stderr"] = _stderr_of_mean(total.nll_stderr.square())
        fields["elbo_loss"] = (total.reconstruction + total.kl).mean().item()
        fields["elbo_loss_stderr"] = _stderr_of_mean(total.elbo_loss_variance)
        fields["perplexity"] = perplexity(total.nll.sum().item() / tokens) if tokens else None
    return fields


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


def _measure_latent(
    encodings: Sequence[_Encoding],
    mi_samples: int,
    generator: torch.Generator,
    aggregate: int | None,
) -> dict[str, Any]:
    """The fields of :class:`Evaluation` that need the posteriors alone, and have an answer."""
    means, codes, kls, variances = zip(*encodings, strict=True)
    kl = torch.cat(kls)
    fields: dict[str, Any] = {"n_sentences": len(kl), "mutual_information_points": len(kl)}
    if torch.isfinite(kl).all():
        fields["kl"] = kl.mean().item()
        fields["kl_stderr"] = _stderr_of_mean(torch.cat(variances))
    if all(mean is not None for mean in means):
        fields["active_units"] = gaussian.active_units(torch.cat(means))
        fields["active_rank"] = gaussian.active_rank(torch.cat(means))
    if any(code is None for code in codes):
        return fields
    mean, logvar = (torch.cat(column) for column in zip(*codes, strict=True))
    information = mutual_information(mean, logvar, mi_samples, generator)
    fields["mutual_information"] = information.value.item()
    fields["mutual_information_stderr"] = information.stderr.item()
    distance = aggregate_kl(mean, logvar, mi_samples, generator)
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
        fields["batch_mutual_information_points"] = part.n
    return fields


def _finite(value: Tensor) -> float | None:
    """A plain number; None where the dtype could not hold it."""
    number = value.item()
    return number if math.isfinite(number) else None
