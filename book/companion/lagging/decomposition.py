"""What the page on equations 3 and 5 asks: the gap, the decomposition, the mini-batch's bias."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import kl_divergence

from companion.claims.verdicts import Finding, below, bounded, decide, interval
from companion.numbers import number
from posterior_collapse.estimators import aggregate_kl, mutual_information
from posterior_collapse.gap import elbo_gap_1d, posterior_densities_1d
from posterior_collapse.posteriors import DiagonalNormal
from posterior_collapse.runs import Run, load_data, trained_model

_SENTENCES = 16  # of the test set, measured in float64
_TOLERANCE = 1e-3  # of log p(x); a trained likelihood can jump along z, see gap.py
_DRAWS = 20  # of z a sentence
_SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


def _sentences(run: Run, count: int | None = None) -> list[Tensor]:
    """Test sentences of a run, each batch of one length."""
    batches = load_data(run.spec.setup).test.batches(128)
    return batches if count is None else [batches[0][:count]]


class GapSummary(NamedTuple):
    """Equation 3 over some test sentences; nats per sentence."""

    sentences: int
    log_evidence: float
    elbo: float
    gap: float
    negative: float  # share of sentences whose gap is below zero, beyond the tolerance
    residual: float  # average size


def gap(run: Run) -> GapSummary:
    """Measure equation 3 on a run's test sentences."""
    x = _sentences(run, _SENTENCES)[0]
    terms = elbo_gap_1d(trained_model(run).double(), x, _TOLERANCE)
    return GapSummary(
        len(x),
        terms.log_evidence.mean().item(),
        terms.elbo.mean().item(),
        terms.gap.mean().item(),
        (terms.gap < -_TOLERANCE).double().mean().item(),
        terms.residual.abs().mean().item(),
    )


_NAMES = {"vae": "basic", "lagging": "aggressive"}


def _table(results: Mapping[str, Sequence[Any]], row: Callable[[Any], dict[str, Any]]) -> Any:
    """One row a method and seed."""
    rows = [
        {"training": f"{_NAMES[method]}, run {place}", **row(one)}
        for method, group in results.items()
        for place, one in enumerate(group, 1)
    ]
    return pd.DataFrame(rows)


def gap_table(results: Mapping[str, Sequence[GapSummary]]) -> pd.DataFrame:
    """Equation 3, one row per method and seed."""
    return _table(
        results,
        lambda one: {
            "sequences": str(one.sentences),
            "log p(x)": one.log_evidence,
            "ELBO": one.elbo,
            "gap": number(one.gap, 5),
            "mean residual": number(one.residual, 5),
        },
    )


def _reach(scale: str) -> str:
    """Both equations are exact for every model, so the scale of its training is no limit."""
    return scale if scale == "smoke" else "exact"


def decide_gap(scale: str, results: Mapping[str, Sequence[GapSummary]]) -> Finding:
    """Rule for equation 3: no residual, and no negative gap, in any trained model."""
    every = [one for group in results.values() for one in group]
    checks = [
        below("mean size of the residual, nats", [one.residual for one in every], 0.02),
        below(
            "share of sequences with a negative gap",
            bounded(interval([one.negative for one in every]), 0.0, 1.0),
            1e-6,
        ),
    ]
    return decide("lagging-eq3", _reach(scale), checks)


class Curves(NamedTuple):
    """Curves for a figure; see :func:`companion.show.figures.gap_figure`."""

    z: NDArray[np.floating]
    model: NDArray[np.floating]
    approximate: NDArray[np.floating]
    titles: list[str]


def densities(run: Run, count: int) -> Curves:
    """Both posteriors of the first test sentences, with the gap in their titles."""
    model, x = trained_model(run).double(), _sentences(run, count)[0]
    both = posterior_densities_1d(model, x, -4.0, 4.0)
    gaps = elbo_gap_1d(model, x, _TOLERANCE).gap
    titles = [f"gap {number(value, 4)} nats" for value in gaps.tolist()]
    return Curves(both.z.numpy(), both.model.numpy(), both.approximate.numpy(), titles)


class Decomposition(NamedTuple):
    """Equation 5 on the test set, nats."""

    kl: float
    mutual_information: float
    mutual_information_stderr: float
    aggregate_kl: float
    aggregate_kl_stderr: float
    points: int

    @property
    def apart(self) -> float:
        """Difference of the two sides in standard errors."""
        error = np.hypot(self.mutual_information_stderr, self.aggregate_kl_stderr)
        return abs(self.kl - self.mutual_information - self.aggregate_kl) / max(error, 1e-12)


@torch.no_grad()
def _posteriors(run: Run) -> tuple[Tensor, Tensor, Tensor]:
    """Means and log-variances (N, D) of the test set, and KL (N,)."""
    model = trained_model(run).double()
    posteriors = [model.posterior(x) for x in _sentences(run)]
    logvars = [q.logvar for q in posteriors if isinstance(q, DiagonalNormal)]
    kls = [kl_divergence(q, model.prior) for q in posteriors]
    return torch.cat([q.mean for q in posteriors]), torch.cat(logvars), torch.cat(kls)


def decomposition(run: Run) -> Decomposition:
    """Measure both sides of equation 5; the two estimates on the right draw apart."""
    mean, logvar, kl = _posteriors(run)
    seeds = (2 * run.spec.seed, 2 * run.spec.seed + 1)
    first, second = (torch.Generator().manual_seed(seed) for seed in seeds)
    information = mutual_information(mean, logvar, _DRAWS, first)
    distance = aggregate_kl(mean, logvar, _DRAWS, second)
    return Decomposition(
        kl.mean().item(),
        information.value.item(),
        information.stderr.item(),
        distance.value.item(),
        distance.stderr.item(),
        len(mean),
    )


def _estimate(value: float, stderr: float) -> str:
    return f"{number(value, 4)} ± {number(stderr, 4)}"


def decomposition_table(results: Mapping[str, Sequence[Decomposition]]) -> pd.DataFrame:
    """Equation 5, one row per method and seed."""
    return _table(
        results,
        lambda one: {
            "KL": number(one.kl, 4),
            "MI": _estimate(one.mutual_information, one.mutual_information_stderr),
            "KL(q(z) ‖ p)": _estimate(one.aggregate_kl, one.aggregate_kl_stderr),
            "S": str(one.points),
            "apart": number(one.apart, 2),
        },
    )


class Bias(NamedTuple):
    """Mini-batch mutual information of one model for growing S."""

    sizes: list[int]
    estimate: NDArray[np.floating]  # nats
    stderr: NDArray[np.floating]
    exact: float  # all points aggregated

    def at(self, size: int) -> float:
        """The estimate for S nearest to ``size``."""
        place = int(np.argmin(np.abs(np.asarray(self.sizes) - size)))
        return float(self.estimate[place])


def minibatch_bias(run: Run) -> Bias:
    """Estimate the mutual information with S points aggregated, for S up to the test set."""
    mean, logvar, _ = _posteriors(run)
    sizes = [size for size in _SIZES if size < len(mean)]
    generator = torch.Generator().manual_seed(run.spec.seed)
    estimates = [mutual_information(mean, logvar, _DRAWS, generator, size) for size in sizes]
    whole = mutual_information(mean, logvar, _DRAWS, generator).value.item()
    values, errors = (
        np.array([getattr(one, name).item() for one in estimates]) for name in ("value", "stderr")
    )
    return Bias(sizes, values, errors, whole)


def decide_decomposition(
    scale: str, results: Mapping[str, Sequence[Decomposition]], biases: Sequence[Bias]
) -> Finding:
    """Rule for equation 5: both sides agree, and the mini-batch form lies below."""
    every = [one.apart for group in results.values() for one in group]
    excess = [float(np.max(b.estimate - np.log(b.sizes))) for b in biases]
    short = [b.at(16) - b.exact for b in biases]
    checks = [
        below("difference of the two sides, standard errors", every, 5),
        below("mini-batch MI (S = 16) minus MI of the whole set, nats", short, 0),
        below("mini-batch MI minus log S, largest over S, nats", excess, 1e-9),
    ]
    return decide("lagging-eq5", _reach(scale), checks)
