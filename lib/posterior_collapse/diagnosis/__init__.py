"""Has a VAE collapsed, in which way, and what do the papers suggest?"""

from __future__ import annotations

from typing import Any

import torch

from posterior_collapse.diagnosis.adapters import Adapted, Encode, as_prior, wide_pair
from posterior_collapse.diagnosis.measures import (
    Measure,
    decoder_measures,
    latent_measures,
    posterior_levels,
    read,
)
from posterior_collapse.diagnosis.monitor import CollapseMonitor, CollapseWarning
from posterior_collapse.diagnosis.report import Report
from posterior_collapse.diagnosis.rules import (
    PRIOR_NOT_READ,
    Advice,
    Facts,
    Finding,
    advice,
    findings,
    limits,
)
from posterior_collapse.errors import BadInput, whole

__all__ = [
    "Advice",
    "CollapseMonitor",
    "CollapseWarning",
    "Finding",
    "Measure",
    "Report",
    "diagnose",
]


def diagnose(
    model: Any = None,
    batches: Any = None,
    *,
    mean: Any = None,
    logvar: Any = None,
    encode: Encode | None = None,
    log_likelihood: Any = None,
    prior: Any = None,
    examples: int = 4000,
    decoded: int = 200,
    num_samples: int = 50,
    generator: torch.Generator | None = None,
) -> Report:
    """Measure a VAE and say what is the matter with it, or that nothing is.

    Give a model with data, or the means and log-variances of its posteriors.

    Args:
        model: with ``posterior(x)``, ``encode(x)`` or ``encoder(x)``, or called itself; what these
            return may be a diagonal Gaussian, a pair, or an object with the usual names.
        batches: a ``DataLoader``, a list of batches or one tensor; of (x, y) pairs, x is taken.
        mean, logvar: (N, D), in place of a model.
        encode: in place of the model's own.
        log_likelihood: (x, z) with z (B, D) to log p(x|z), nats, (B,); the model's
            ``log_likelihood(x, z)`` takes z (S, B, D).  Without it nothing is said of the decoder.
            Where codes are maps, such as (B, C, H, W), so is z, and D is C H W.
        prior: a distribution over (D,); None takes the model's, else N(0, I).
        examples: encoded at most.
        decoded: examples that are decoded at most.
        num_samples: draws of z for each of them.
        generator: source of the draws; None is one with seed 0, so that a report can be repeated.

    Raises:
        BadInput: both or neither are given, or what the model returns can't be read.
    """
    draws = generator if generator is not None else torch.Generator().manual_seed(0)
    examples, decoded = whole("examples", examples, 2), whole("decoded", decoded)
    num_samples = whole("num_samples", num_samples, 2)
    with_model = model is not None or encode is not None
    with_codes = mean is not None or logvar is not None
    if with_model == with_codes:
        raise BadInput("give either a model with batches, or mean=... with logvar=...")
    decoder: dict[str, Measure] = {}
    unread: tuple[str, ...] = ()
    if with_codes:
        mean, logvar = wide_pair(mean, logvar)
        prior = as_prior(prior, mean.shape[1])
    else:
        if batches is None:
            raise BadInput("a model is diagnosed on data: give batches as well")
        adapted = Adapted(model, encode, log_likelihood, prior)
        mean, logvar, passes = read(adapted, batches, model, examples, decoded, num_samples, draws)
        prior = adapted.prior
        unread = (PRIOR_NOT_READ,) if adapted.prior_ignored else ()
        decoder = {} if passes is None else decoder_measures(passes)
    latent = latent_measures(mean, logvar, prior, draws)
    facts = Facts(latent, decoder, posterior_levels(mean, logvar, prior))
    results = findings(facts)
    return Report(results, advice(results), (*unread, *limits(facts)), latent, decoder)
