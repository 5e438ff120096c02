"""Whether methods that promise a least KL keep it, on the page that compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from companion.claims.reference import Result
from companion.numbers import spread
from posterior_collapse import methods


def frame(groups: Mapping[str, Mapping[str, Sequence[Result]]]) -> pd.DataFrame:
    """A row for each method that promises a KL: what is promised, and what became of it.

    Args:
        groups: title of the data -> method -> its results, one per seed.

    Returns:
        Means (standard deviations over seeds) in nats per sentence; empty without such a method.
        The promise of a batch norm depends on the shift that a run has learned.
    """
    rows = [
        _row(title, method, bounded)
        for title, runs in groups.items()
        for method, results in runs.items()
        if (bounded := [r for r in results if "kl_bound" in r.metrics])
    ]
    return pd.DataFrame(rows)


def _row(title: str, method: str, results: Sequence[Result]) -> dict[str, str]:
    def mean(name: str) -> str:
        return spread([result.metrics[name] for result in results], 2)

    unbroken = sum(not result.metrics["kl_bound_broken"] for result in results)
    passed = {result.metrics.get("passed_over", 0) for result in results}
    return {
        "method": methods.title(method),
        "results": title,
        "KL promised": mean("kl_bound"),
        "KL in training": mean("kl_in_training"),
        "KL on the test set": mean("kl"),
        "seeds that keep it": f"{unbroken} of {len(results)}",
        "sentences passed over": " or ".join(f"{count:,}" for count in sorted(passed)),
    }
