"""What the page on tables 7 and 8 asks: one model measured with many seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from companion.claims.reference import repeat_evaluation
from companion.claims.verdicts import CONFIDENCE, Check, Finding, Interval, Outcome
from companion.claims.verdicts import decide as decide_item
from companion.numbers import number
from posterior_collapse.errors import BadInput
from posterior_collapse.runs import Run

_REPEATS = 10
# Test sentences that a page evaluates ten times; the reference results take the whole test set.
_SENTENCES = {"smoke": 16, "quick": 100}
_BOUND = 1e-3  # He et al. 2019, section 6.1: "variance ... smaller than 1e-3"

_QUANTITIES = {
    "NLL, importance-weighted": "nll",
    "−ELBO": "elbo_loss",
    "KL": "kl",
    "MI": "mutual_information",
    "active units": "active_units",
}


def repeat(run: Run) -> list[dict[str, Any]]:
    """Evaluate a run's model with ten seeds, on as many sentences as its scale allows."""
    return repeat_evaluation(run, _REPEATS, _SENTENCES.get(run.spec.scale))


def variance_interval(values: Sequence[float]) -> Interval:
    """Variance (ddof 1) with its two-sided chi-square confidence interval.

    Raises:
        BadInput: fewer than two values.
    """
    if len(values) < 2:
        raise BadInput(f"a variance needs at least two values, given {len(values)}")
    variance = float(np.var(values, ddof=1))
    freedom = len(values) - 1
    low = stats.chi2.ppf(0.5 + CONFIDENCE / 2, freedom)
    high = stats.chi2.ppf(0.5 - CONFIDENCE / 2, freedom)
    return Interval(variance, variance * freedom / low, variance * freedom / high, len(values))


def _column(evaluations: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(one[name]) for one in evaluations]


def table(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Mean and variance of every quantity, two columns a group of evaluations."""
    rows: dict[str, list[str]] = {"measure": list(_QUANTITIES)}
    for title, evaluations in groups.items():
        sentences = evaluations[0]["n_sentences"]
        columns = [_column(evaluations, name) for name in _QUANTITIES.values()]
        rows[f"{title}: mean ({sentences} sequences)"] = [
            number(float(np.mean(c))) for c in columns
        ]
        rows[f"{title}: variance"] = [number(float(np.var(c, ddof=1)), 6) for c in columns]
    return pd.DataFrame(rows)


def decide(item: str, scale: str, evaluations: Sequence[Mapping[str, Any]]) -> Finding:
    """Rule for tables 7 and 8: the variance of the NLL over evaluation seeds is below 1e-3."""
    variance = variance_interval(_column(evaluations, "nll"))
    inside, outside = variance.high < _BOUND, variance.low >= _BOUND
    outcome = Outcome.HOLDS if inside else Outcome.FAILS if outside else Outcome.OPEN
    check = Check(
        "variance of the NLL over evaluation seeds", f"below {_BOUND:g}", variance, outcome
    )
    return decide_item(item, scale, [check])
