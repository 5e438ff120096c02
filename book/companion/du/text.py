"""What the page on DU-VAE and text asks: table 1 and figure 2 of Shen et al. 2021.

The bounds in the rules are this project's reading of the paper's words.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from companion.claims import groups as benchmarks
from companion.claims.comparison import called
from companion.claims.intervals import Measured, difference, over_seeds
from companion.claims.rules import Checks, decides
from companion.claims.table import Runs, differences, frame, only
from companion.claims.verdicts import Interval, side
from posterior_collapse import methods

_PRINTED = (
    benchmarks.ANNEAL,
    benchmarks.ANNEALED_AGGRESSIVE,
    benchmarks.BETA,
    benchmarks.FREE_BITS,
    benchmarks.BATCH_NORM,
)
_WHERE_RUN = (benchmarks.SEMI_AMORTISED, benchmarks.DELTA, benchmarks.MAE)


@decides("du-tab1")
def decide_families(rules: Checks) -> None:
    """du-tab1: DU-VAE and DU-IAF have the best NLL of their families.

    DU-VAE has the parameters that figure 2 names as the best on the data set, where they were run.
    The flow that DU-IAF is compared with has the paper's free bits; without them, where only that
    was run, the comparison is a side one.
    On Yahoo the paper's table has a tie with aggressive training, 326.7, which decides nothing.
    """

    def against(other: str) -> Measured:
        return lambda runs: difference(benchmarks.best_du(runs), other, "nll")(runs)

    for other in (*_PRINTED, *_WHERE_RUN):
        rules.below(
            f"NLL of DU-VAE, best parameters, less that of {called(other)}",
            against(other),
            0.0,
            where_run=other in _WHERE_RUN,
        )
    rules.beats(benchmarks.DU_FLOW, benchmarks.FLOW, where_run=True)
    rules.beats(benchmarks.DU_FLOW, benchmarks.FLOW_BATCH_NORM)
    rules.beats(benchmarks.DU_FLOW, benchmarks.PLAIN_FLOW, role=side, where_run=True)


@decides("du-fig2")
def decide_map(rules: Checks) -> None:
    """du-fig2: a middle p is better than the extremes, averaged over gamma.

    The values of the paper's map are lost; its text names p = 0.8 for both texts.
    """
    check_map(rules, benchmarks.sweep("gamma-p"), 0.8)


def check_map(rules: Checks, swept: Sequence[str], best: float) -> None:
    """The p that the paper names as the best of a map against its others, over gamma."""
    members = {
        (given["gamma"], given["p"]): method
        for method in swept
        for given in [methods.parameters(method)]
    }
    gammas = sorted({gamma for gamma, _ in members})

    def beaten(p: float, some: Sequence[float]) -> Measured:
        """NLL with the best p less that with another, mean over gamma; seeds with all of them."""

        def measure(runs: Runs) -> Interval | None:
            data = frame(only(runs, members.values()))
            apart = [differences(data, members[g, best], members[g, p], "nll") for g in some]
            return over_seeds(pd.concat(apart, axis=1).mean(axis=1, skipna=False))

        return measure

    for p in sorted({p for _, p in members} - {best}):
        quantity = f"NLL of DU-VAE with p = {best:g} less that with p = {p:g}"
        rules.below(f"{quantity}, mean over gamma", beaten(p, gammas), 0.0)
        for gamma in gammas:
            rules.below(
                f"{quantity}, gamma = {gamma:g}", beaten(p, [gamma]), 0.0, role=side, where_run=True
            )
