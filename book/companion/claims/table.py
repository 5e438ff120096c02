"""One long table of results: a row a run and metric, and what pages ask of it.

Every number that a page averages or compares is a row here, so that all pages mean the same by a
value, a pair and a seed.  A value that a run lacks is a row as well, with NaN: it is counted, and
takes no other run with it.  Histories, and arrays over test examples, stay with the results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from scipy import stats

from companion.claims.reference import Result
from companion.numbers import spread
from posterior_collapse.errors import BadInput

COLUMNS = (
    "recipe",
    "method",
    "scale",
    "seed",
    "metric",
    "value",  # NaN where the run lacks it
    "stderr",  # over test examples; NaN where unknown
    "n",  # test examples behind the value; 0 where unknown
    "source",  # "reference" or "this build"
    "provenance",  # key of the run
)

Runs = Mapping[str, Sequence[Result]]  # method -> its results, one per seed
Measure = Callable[[Result], float | None]


class Column(NamedTuple):
    """A column of a table for readers."""

    title: str
    metric: str
    digits: int = 2
    factor: float = 1.0  # 100 for percent
    printed: str = ""  # column of the paper's table


def metric(name: str, factor: float = 1.0) -> Measure:
    """A stored number of a result; None where it has none."""

    def measure(result: Result) -> float | None:
        value = result.metrics.get(name)
        return None if value is None else factor * float(value)

    return measure


def only(runs: Runs, methods: Collection[str]) -> dict[str, Sequence[Result]]:
    """The runs of some methods, in their own order."""
    return {method: group for method, group in runs.items() if method in methods}


# --- the table ------------------------------------------------------------------------------------


def frame(
    results: Runs | Iterable[Result], measures: Mapping[str, Measure] | None = None
) -> pd.DataFrame:
    """The long table of some results, in their order.

    Args:
        results: by method, or one after the other.
        measures: further metrics, by name, which a page works out of histories and arrays.

    Returns:
        One row a run and metric, with :data:`COLUMNS`.  Every run has a row of every metric that
        any of them has.
    """
    if isinstance(results, Mapping):
        runs = [(method, result) for method, group in results.items() for result in group]
    else:
        runs = [(result.spec.method, result) for result in results]
    further = measures or {}
    stored = dict.fromkeys(name for _, result in runs for name in result.metrics)
    stored = dict.fromkeys(name for name in stored if name not in further)
    rows = []
    for method, result in runs:
        head = (result.spec.recipe, method, result.spec.scale, result.spec.seed)
        tail = (result.provenance.get("kind", "this build"), result.provenance.get("key", ""))
        for name in stored:
            value = result.metrics.get(name)
            number = math.nan if value is None else float(value)
            rows.append((*head, name, number, *_precision(result, name), *tail))
        for name, measure in further.items():
            value = measure(result)
            number = math.nan if value is None else float(value)
            rows.append((*head, name, number, math.nan, 0, *tail))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"value": float, "stderr": float})


def _precision(result: Result, name: str) -> tuple[float, int]:
    """Standard error of a metric over test examples, and how many there are."""
    each = result.arrays.get(f"each_{name}")
    if each is not None and len(each) > 1:
        return float(stats.sem(each)), len(each)
    error = result.metrics.get(f"{name}_stderr")
    points = result.metrics.get(f"{name}_points") or result.metrics.get("n_sentences") or 0
    return math.nan if error is None else float(error), int(points)


# --- what is asked of it --------------------------------------------------------------------------


def values(data: pd.DataFrame, method: str, name: str) -> pd.Series:
    """Seed -> value of a metric, for the seeds that have a finite one.

    Raises:
        BadInput: a seed has several, so that the rows are of several recipes, scales or sources.
    """
    own = data[(data["method"] == method) & (data["metric"] == name)]
    own = own[own["value"].abs() < math.inf]
    if own["seed"].duplicated().any():
        where = own[["recipe", "scale", "source"]].drop_duplicates().to_dict("records")
        raise BadInput(f"{name} of {method} is asked of one group of runs, given {where}")
    return own.set_index("seed")["value"]


def paired(data: pd.DataFrame, first: str, second: str, name: str, other: str = "") -> pd.DataFrame:
    """Seed -> columns ``first`` and ``second``: a metric of two methods, where both have it.

    Args:
        data: of :func:`frame`.
        first, second: methods.
        name: of the metric.
        other: of the second's, where it is another.
    """
    pair = {"first": values(data, first, name), "second": values(data, second, other or name)}
    return pd.DataFrame(pair).dropna()


def differences(
    data: pd.DataFrame, first: str, second: str, name: str, other: str = ""
) -> pd.Series:
    """Seed -> first less second, as for :func:`paired`."""
    pair = paired(data, first, second, name, other)
    return pair["first"] - pair["second"]


def ratios(data: pd.DataFrame, first: str, second: str, name: str) -> pd.Series:
    """Seed -> first over second, as for :func:`paired`; a seed whose second is 0 has none."""
    pair = paired(data, first, second, name)
    pair = pair[pair["second"] != 0.0]
    return pair["first"] / pair["second"]


def row(
    columns: Sequence[Column], measured: Callable[[str], pd.Series], every: int = 0
) -> dict[str, str]:
    """Mean (standard deviation over seeds) of each column, and the seeds that were used.

    Args:
        columns: what is shown.
        measured: gives the values of a metric, one per seed that has it.
        every: how many seeds there are; 0 for as many as any column has.

    Returns:
        Title -> cell.  ``seeds`` says for each column that has fewer of them how many it has; one
        that no seed has is a dash, and needs no count.
    """
    known = {column.title: column.factor * measured(column.metric) for column in columns}
    used = {title: len(series) for title, series in known.items()}
    every = every or max(used.values(), default=0)
    fewer = [f"{title}: {count}" for title, count in used.items() if 0 < count < every]
    seeds = f"{every} ({'; '.join(fewer)})" if fewer else str(every)
    digits = {column.title: column.digits for column in columns}
    return {title: spread(known[title], digits[title]) for title in known} | {"seeds": seeds}


def cells(data: pd.DataFrame, columns: Sequence[Column]) -> dict[str, str]:
    """As :func:`row`, of the runs of one method."""
    every = data.groupby(["recipe", "scale", "source", "seed"]).ngroups
    known = data[data["value"].abs() < math.inf]
    return row(columns, lambda name: known.loc[known["metric"] == name, "value"], every)


def summary(
    data: pd.DataFrame, columns: Sequence[Column], called: Callable[[str], str]
) -> pd.DataFrame:
    """One row a method: mean (standard deviation over seeds) of each column, and the seeds.

    Args:
        data: of :func:`frame`.
        columns: what is shown.
        called: name of a method for readers.
    """
    rows = [
        {"method": called(str(method)), **cells(own, columns)}
        for method, own in data.groupby("method", sort=False)
    ]
    return pd.DataFrame(rows, columns=["method", *(column.title for column in columns), "seeds"])
