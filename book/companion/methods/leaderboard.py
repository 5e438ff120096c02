"""The page with all methods: their numbers, and whether they come apart as in the papers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from companion.claims.comparison import QUANTITIES, USUAL, called, cost, printed_row
from companion.claims.table import Runs, cells, frame, values
from companion.claims.verdicts import Interval, correlation_over_pairs
from companion.numbers import number, spread
from posterior_collapse import methods

_MI = "mutual_information"


def board(groups: Mapping[str, Runs]) -> pd.DataFrame:
    """All methods over all data sets, one row a method and data set, for a sortable table."""
    wanted = (*USUAL, "elbo_loss", "active_rank", "mutual_posterior_divergence")
    rows = []
    for title, runs in groups.items():
        times = cost(runs)
        for method, own in frame(runs).groupby("method", sort=False):
            shown = cells(own, [QUANTITIES[name] for name in wanted])
            seeds = shown.pop("seeds")
            time = {"time / VAE": spread(times.get(str(method), []), 2), "seeds": seeds}
            rows.append({"method": called(str(method)), "data": title, **shown, **time})
    return pd.DataFrame(rows)


class Order(NamedTuple):
    """Methods in the order of their printed mutual information."""

    rows: pd.DataFrame  # method, printed MI, measured MI, seeds
    correlation: Interval | None  # Spearman's, over methods; None with fewer than two
    apart: int  # pairs of methods whose means differ by more than the sum of their spreads
    pairs: int  # of methods with two seeds or more


def compare(runs: Runs, printed: pd.DataFrame) -> Order:
    """Rank methods by their mutual information, here and in a printed table.

    A printed row stands for one method, the one whose parameters are most like its own.

    Args:
        runs: results of one data set by method; one seed each or more.
        printed: rows of a paper's table for that data set, with a column ``mi``.
    """
    nearest: dict[object, tuple[int, str, float, list[float]]] = {}
    data = frame(runs)
    for method in runs:
        row, own = printed_row(printed, method), values(data, method, _MI).tolist()
        if row is not None and not pd.isna(row["mi"]) and own:
            alike = _alike(method, str(row["method_key"]))
            if row.name not in nearest or alike > nearest[row.name][0]:
                nearest[row.name] = (alike, method, float(row["mi"]), own)
    known = [(method, theirs, own) for _, method, theirs, own in nearest.values()]
    known.sort(key=lambda item: (item[1], float(np.mean(item[2]))))
    table = pd.DataFrame(
        {
            "method": [called(method) for method, _, _ in known],
            "MI, printed": [number(theirs, 1) for _, theirs, _ in known],
            "MI": [spread(own, 2) for _, _, own in known],
            "seeds": [str(len(own)) for _, _, own in known],
        }
    )
    several = [own for _, _, own in known if len(own) > 1]
    pairs = list(itertools.combinations(several, 2))
    return Order(table, _spearman(known), sum(_are_apart(*pair) for pair in pairs), len(pairs))


def _alike(method: str, key: str) -> int:
    """How many parameters a method shares with a printed one."""
    own, theirs = methods.parameters(method), methods.parameters(key)
    return sum(own.get(name) == value for name, value in theirs.items())


def _spearman(known: Sequence[tuple[str, float, list[float]]]) -> Interval | None:
    theirs = [value for _, value, _ in known]
    ours = [float(np.mean(own)) for _, _, own in known]
    if len(set(theirs)) < 2 or len(set(ours)) < 2:
        return None
    return correlation_over_pairs(float(stats.spearmanr(theirs, ours).statistic), len(known))


def _are_apart(first: Sequence[float], second: Sequence[float]) -> bool:
    gap = abs(float(np.mean(first)) - float(np.mean(second)))
    return gap > float(np.std(first, ddof=1) + np.std(second, ddof=1))


def sentence(order: Order) -> str:
    """What the comparison shows, in one or two sentences."""
    if order.correlation is None:
        return "Too few methods have a printed number to be ranked."
    n, mean = order.correlation.n, number(order.correlation.mean, 2)
    low, high = number(order.correlation.low, 2), number(order.correlation.high, 2)
    text = (
        f"Over {n} methods the ranks of measured and printed MI have a correlation of "
        f"{mean} [{low}, {high}]."
    )
    if order.pairs:
        text += (
            f" Of {order.pairs} pairs of methods with several seeds {order.apart} are further "
            "apart than the sum of their standard deviations."
        )
    return text
