"""What the page on probes asks: table 2 of Shen et al. 2021 and table 4 of Song et al. 2024."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from companion.claims import groups as benchmarks
from companion.claims.comparison import Table, best_row, called
from companion.claims.intervals import Measured, difference, over_seeds
from companion.claims.printed import printed
from companion.claims.rules import Checks, decides
from companion.claims.table import Column, Runs, differences, frame, only, summary, values
from companion.claims.verdicts import Interval, side


def _label_counts(runs: Runs) -> list[int]:
    """The numbers of labels that results' probes were trained with."""
    names = {name for group in runs.values() for result in group for name in result.metrics}
    counts = (name.removeprefix("probe_") for name in names if name.startswith("probe_"))
    return sorted(int(count) for count in counts if count.isdigit())


def probes(runs: Runs) -> Table:
    """Accuracy of linear probes in percent: one row per method, one column a number of labels."""
    counted = [Column(f"{n} labels", f"probe_{n}", 1, 100.0) for n in _label_counts(runs)]
    data = frame(runs)
    bold = set()
    for column in counted:
        row = best_row([(-100.0 * values(data, m, column.metric)).tolist() for m in runs])
        bold |= set() if row is None else {(row, column.title)}
    majority = Column("majority class", "probe_majority", 1, 100.0)
    return Table(summary(data, [*counted, majority], called), bold)


def printed_probes(paper: str, table: str) -> pd.DataFrame:
    """A printed table of probes with one column a number of labels."""
    rows = printed(paper, table)
    wide = rows.pivot_table("accuracy", "method", "labels", sort=False).reset_index()
    wide.columns = [n if isinstance(n, str) else f"{n:g} labels" for n in wide.columns]
    return wide


# --- rules ----------------------------------------------------------------------------------------

_COUNTS = (100, 500, 1000, 2000, 10000)  # of labels in the papers


def _most_accurate(rules: Checks, first: Callable[[Runs], str], others: Sequence[str]) -> None:
    """At each number of labels, more accurate than the best of the others.

    To be the best of all is one claim a number of labels, and the best other is the one to beat:
    a check for every pair would ask for dozens of differences at once.  Which one it is, is said
    by a side check of every pair's average over the numbers of labels.
    """
    rules.limit(lambda runs: bool(_label_counts(runs)))
    counts = sorted({n for runs in rules.groups.values() for n in _label_counts(runs)}) or _COUNTS

    def ahead(name: str) -> Measured:
        def measure(runs: Runs) -> Interval | None:
            data = frame(only(runs, others))
            means = {m: float(np.mean(own)) for m in others if len(own := values(data, m, name))}
            best = max(means, key=lambda m: means[m], default=None)
            return None if best is None else difference(first(runs), best, name)(runs)

        return measure

    def average(other: str) -> Measured:
        """Mean over the numbers of labels, for seeds that have all of them."""

        def measure(runs: Runs) -> Interval | None:
            own = first(runs)
            data = frame(only(runs, (own, other)))
            apart = [differences(data, own, other, f"probe_{count}") for count in counts]
            return over_seeds(pd.concat(apart, axis=1).mean(axis=1, skipna=False))

        return measure

    name = called(first({})).partition(" (")[0]
    for count in counts:
        quantity = f"accuracy with {count} labels of {name} less that of the best other"
        rules.above(quantity, ahead(f"probe_{count}"), 0.0)
    for other in others:
        rules.above(
            f"accuracy of {name} less that of {called(other)}, mean over the numbers of labels",
            average(other),
            0.0,
            role=side,
            where_run=True,
        )


_SCALE_PRINTED = (
    benchmarks.ANNEAL,
    benchmarks.DELTA,
    benchmarks.ANNEALED_AGGRESSIVE,
    benchmarks.BETA,
    benchmarks.FREE_BITS,
    benchmarks.BATCH_NORM,
    benchmarks.MAE,
)
_FLOWS = (benchmarks.FLOW, benchmarks.PLAIN_FLOW, benchmarks.FLOW_BATCH_NORM)


@decides("du-tab2")
def decide_probes(rules: Checks) -> None:
    """du-tab2: probes on DU-VAE and DU-IAF are the most accurate at every number of labels.

    The others of the first are those of the paper's table, the autoencoder and MAE among them.
    """
    _most_accurate(rules, benchmarks.best_du, (benchmarks.AUTOENCODER, *_SCALE_PRINTED))
    _most_accurate(rules, lambda _: benchmarks.DU_FLOW, _FLOWS)


@decides("scale-tab4")
def decide_scale_probes(rules: Checks) -> None:
    """scale-tab4: probes on Scale-VAE are the most accurate at every number of labels.

    The others are the rows of the paper's table that it ran itself.  Its row of DU-VAE as
    referred to is ahead of Scale-VAE with 100 labels, 88.9 against 87.7.
    """
    others = (*_SCALE_PRINTED, benchmarks.DU, benchmarks.DU_YELP)
    _most_accurate(rules, lambda _: benchmarks.SCALE, others)
