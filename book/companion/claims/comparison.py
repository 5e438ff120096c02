"""What the pages that compare methods show: results by origin, tables, and figures' data.

Reference results are on real text at medium or large scale; this build's are on the page's own
data set and scale.  A page never mixes two origins in one average.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from companion.build.parameters import Page
from companion.claims import evidence
from companion.claims import groups as benchmarks
from companion.claims.intervals import difference
from companion.claims.premises import METHODS, Premise
from companion.claims.printed import printed
from companion.claims.reference import Result
from companion.claims.table import Column, Runs, frame, only, ratios, summary, values
from companion.numbers import number, spread
from posterior_collapse import methods, recipes
from posterior_collapse.errors import BadInput

_QUANTITIES = (
    Column("NLL", "nll", printed="nll"),
    Column("−ELBO", "elbo_loss", printed="neg_elbo"),
    Column("Rec", "reconstruction"),
    Column("KL", "kl", printed="kl"),
    Column("MI", "mutual_information", printed="mi"),
    Column("MI, batch of 32", "batch_mutual_information"),
    Column("AU", "active_units", 1, printed="au"),
    Column("rank", "active_rank", 1),
    Column("MPD", "mutual_posterior_divergence", 1),
    Column("H(z|x)", "conditional_entropy"),
    Column("perplexity", "perplexity"),
)
QUANTITIES = {column.metric: column for column in _QUANTITIES}
USUAL = ("nll", "kl", "mutual_information", "active_units")
_LOWER_IS_BETTER = ("nll", "elbo_loss", "perplexity")
_DATASET = {
    "yahoo": "Yahoo",
    "yelp": "Yelp",
    "grammar": "grammar",
    "omniglot": "OMNIGLOT",
    "digits": "digits",
}
# What readers see instead of the names of printed columns.
_COLUMNS = {
    "inner_iterations": "inner steps",
    "encoder_rate_factor": "encoder's rate / decoder's",
    "time_ratio": "time / VAE",
    "nll": "NLL",
    "kl": "KL",
    "mi": "MI",
    "au": "AU",
}


def called(method: str) -> str:
    """Name for readers; the one schedule of annealing that all rows share is not spelt out."""
    if method == benchmarks.ANNEAL:
        method = f"{benchmarks.VAE}+{benchmarks.ANNEAL}"
    own = method.removesuffix(f"+{benchmarks.ANNEAL}")
    return methods.title(own) + (" + annealing" if own != method else "")


# --- where results come from ----------------------------------------------------------------------


def reference(
    dataset: str, wanted: Sequence[str], scale: str = "medium"
) -> dict[str, list[Result]]:
    """The reference results that the repository keeps; methods without any are left out."""
    return evidence.stored(benchmarks.recipe(dataset), wanted, scale)


class Comparison(NamedTuple):
    """All that a page compares."""

    build: Runs  # on the page's data set
    reference: Mapping[str, Runs]  # data set -> results at medium scale
    dataset: str  # of this build
    large: Mapping[str, Runs] = {}  # as reference, at large scale
    premises: Mapping[str, Premise] = {}  # by the title of an origin's data set

    def groups(self) -> dict[str, Runs]:
        """Every group that is not empty by its title, reference results first."""
        named = {f"{_DATASET[name]}, large": runs for name, runs in self.large.items()}
        named |= {f"{_DATASET[name]}, reference": runs for name, runs in self.reference.items()}
        named[f"{_DATASET[self.dataset]}, this build"] = self.build
        return {title: runs for title, runs in named.items() if runs}

    def origins(self) -> list[dict[str, Runs]]:
        """Results by their origin, the largest scale first: title of a data set -> results."""
        large = {f"{_DATASET[name]} (large)": runs for name, runs in self.large.items()}
        medium = {_DATASET[name]: runs for name, runs in self.reference.items()}
        return [large, medium, {f"{_DATASET[self.dataset]} (this build)": self.build}]


def compare(
    page: Page,
    wanted: Sequence[str],
    datasets: Sequence[str] = ("yahoo", "yelp"),
    build: Sequence[str] | None = None,
) -> Comparison:
    """Results of some methods, this build's and the reference ones, each with its premise.

    Args:
        page: gives the data set, scale and seeds of this build.
        wanted: methods.
        datasets: whose reference results are shown.
        build: methods that this build trains; None is all of them.
    """
    dataset = str(page.choices["dataset"])
    needed = list(dict.fromkeys([*wanted, *METHODS]))  # those of the premise are not all shown

    def results(scale: str) -> dict[str, Runs]:
        known = (name for name in datasets if scale in recipes.scales(benchmarks.recipe(name)))
        return {name: reference(name, needed, scale) for name in known}

    trained = wanted if build is None else build
    own = evidence.built(page, benchmarks.recipe(dataset), trained)
    every = with_premises(page, Comparison(own, results("medium"), dataset, results("large")))
    medium = {name: only(runs, wanted) for name, runs in every.reference.items()}
    large = {name: some for name, runs in every.large.items() if (some := only(runs, wanted))}
    return every._replace(reference=medium, large=large)


def with_premises(page: Page, compared: Comparison) -> Comparison:
    """The same with the premise of every data set of every origin."""
    premises = {
        title: evidence.premise_for(page, runs)
        for origin in compared.origins()
        for title, runs in origin.items()
        if any(runs.values())
    }
    return compared._replace(premises=premises)


def sources(compared: Comparison) -> list[dict[str, object]]:
    """Provenance of everything that a page compares."""
    return evidence.sources(compared.groups())


# --- tables ---------------------------------------------------------------------------------------


class Table(NamedTuple):
    """Rows for :func:`companion.show.boxes.table`, and the cells that are in bold."""

    rows: pd.DataFrame
    bold: set[tuple[int, str]]


def best_row(columns: Sequence[Sequence[float]]) -> int | None:
    """Row of the lowest mean, if it is apart from every other by more than both spreads."""
    known = [(row, values) for row, values in enumerate(columns) if len(values) > 1]
    if len(known) < 2:
        return None
    (row, best), (_, second) = sorted(known, key=lambda item: float(np.mean(item[1])))[:2]
    apart = float(np.mean(second)) - float(np.mean(best))
    return row if apart > float(np.std(best, ddof=1) + np.std(second, ddof=1)) else None


def numbers(
    runs: Runs, wanted: Sequence[str] = USUAL, printed_rows: pd.DataFrame | None = None
) -> Table:
    """One row a method: mean (standard deviation over seeds) of each quantity.

    Args:
        runs: results by method.
        wanted: names in ``QUANTITIES``.
        printed_rows: the paper's table for the same data set; its numbers come first.

    Returns:
        The table. The best mean is bold where it is apart from the next by more than the sum of
        their standard deviations; one seed has none, so nothing is bold then.
        Beside the NLL stands the least difference to the annealed VAE that could be detected.
    """
    runs = {method: group for method, group in runs.items() if group}
    data, columns = frame(runs), [QUANTITIES[name] for name in wanted]
    shown = summary(data, columns, called)
    table, bold = {"method": shown["method"].tolist()}, set()

    def add(title: str, cells: list[str]) -> None:
        if any(cell != "–" for cell in cells):
            table[title] = cells

    for column in columns:
        if printed_rows is not None:
            cells = [_printed(printed_rows, method, column) for method in runs]
            add(f"{column.title}, printed", cells)
        table[column.title] = shown[column.title].tolist()
        if column.metric in _LOWER_IS_BETTER:
            row = best_row([values(data, method, column.metric).tolist() for method in runs])
            bold |= set() if row is None else {(row, column.title)}
        if column.metric == "nll":
            add(f"{column.title}, detectable", [_detectable(runs, method) for method in runs])
    table["seeds"] = shown["seeds"].tolist()
    return Table(pd.DataFrame(table), bold)


def _detectable(runs: Runs, method: str, name: str = "nll") -> str:
    """The least difference to the annealed VAE, or to the plain one, that these runs can tell.

    Half of the 95 % interval of the difference, paired by seed and by sentence; a dash for the row
    itself and where there is one seed.
    """
    base = benchmarks.ANNEAL if runs.get(benchmarks.ANNEAL) else benchmarks.VAE
    apart = None if method == base else difference(method, base, name)(runs)
    return "–" if apart is None or math.isinf(apart.half) else number(apart.half, 2)


def _parts(method: str) -> frozenset[str]:
    """Names of a method's parts, without parameters."""
    return frozenset(part.partition("(")[0].strip() for part in method.split("+"))


def printed_row(rows: pd.DataFrame, method: str) -> pd.Series | None:
    """The printed row of the same method; of several, the one with most parameters alike.

    DU-VAE and Scale-VAE anneal every row and do not say so in its name, so a row without
    annealing stands for ours with it where the table has no annealed one.
    """
    keyed = rows[rows["method_key"] != ""]
    own = methods.parameters(method)
    for wanted in (_parts(method), _parts(method) - {"anneal"}):
        same = keyed[keyed["method_key"].map(_parts) == wanted]
        if len(same):
            alike = same["method_key"].map(
                lambda key: sum(own.get(k) == v for k, v in _given(key).items())
            )
            return same.iloc[int(np.argmax(alike.to_numpy()))]
    return None


def _given(key: str) -> dict[str, float]:
    """Parameters of a printed method, without those of the annealing."""
    return methods.parameters("+".join(p for p in key.split("+") if not p.startswith("anneal")))


def _printed(rows: pd.DataFrame, method: str, column: Column) -> str:
    """The printed number of a method; where its parameters are others, they are said."""
    row = printed_row(rows, method) if column.printed in rows else None
    if row is None or pd.isna(row[column.printed]):
        return "–"
    own = methods.parameters(method)
    other = [f"{k} {v:g}" for k, v in _given(row["method_key"]).items() if own.get(k, v) != v]
    text = number(float(row[column.printed]), column.digits)
    return f"{text} [{', '.join(other)}]" if other else text


def printed_table(paper: str, table: str, dataset: str) -> pd.DataFrame | None:
    """A paper's printed rows for one of our data sets; None where it prints none."""
    rows = printed(paper, table)
    chosen = rows[rows["dataset"].str.startswith(_DATASET[dataset])]
    return None if chosen.empty else chosen


def as_printed(paper: str, table: str, dataset: str, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns of a paper's table, called as the measured ones are.

    Raises:
        BadInput: the paper prints nothing of that data set.
    """
    rows = printed_table(paper, table, dataset)
    if rows is None:
        raise BadInput(f"{table} of {paper} has no rows of {dataset}")
    return rows[list(columns)].rename(columns=_COLUMNS)


# --- time -----------------------------------------------------------------------------------------


def _seconds(result: Result) -> float:
    """Processor time of training: a busy machine changes it less than wall time."""
    return float(result.provenance.get("cpu_seconds") or result.provenance["seconds"])


def _till_best(result: Result) -> float:
    """Share of a run's training until the epoch with the lowest validation loss.

    An epoch counts by its updates, those of inner loops among them: the first, aggressive epochs
    of a run take many times as long as the others.
    """
    history = result.history
    if "valid_loss" not in history or history["valid_loss"].isna().all():
        return 1.0
    updates = np.ones(len(history))
    if "iteration" in history:
        updates = np.diff(history["iteration"].to_numpy(dtype=float), prepend=0.0)
    if "inner_steps" in history:
        updates = updates * (1.0 + history["inner_steps"].fillna(0.0).to_numpy(dtype=float))
    best = int(np.nanargmin(history["valid_loss"].to_numpy(dtype=float)))
    return float(updates[: best + 1].sum() / updates.sum())


def convergence(result: Result) -> float:
    """Seconds of a processor until the lowest validation loss."""
    return _seconds(result) * _till_best(result)


def cost(runs: Runs) -> dict[str, list[float]]:
    """Training time over that of the VAE with the same seed; empty without a VAE."""
    data = frame(runs, {"seconds": _seconds})
    times = {m: ratios(data, m, benchmarks.VAE, "seconds").tolist() for m in runs}
    return {method: own for method, own in times.items() if own}


def cost_table(groups: Mapping[str, Runs]) -> pd.DataFrame:
    """Training time over the VAE's, and seconds of a processor, one row per method."""
    rows = []
    for title, runs in groups.items():
        for method, times in cost(runs).items():
            group = runs[method]
            fewer = f" (time / VAE: {len(times)})" if len(times) < len(group) else ""
            rows.append(
                {
                    "method": called(method),
                    "data": title,
                    "time / VAE": spread(times, 2),
                    "processor seconds": number(float(np.mean([_seconds(r) for r in group])), 0),
                    "updates": number(float(np.mean([r.metrics["updates"] for r in group])), 0),
                    "seeds": f"{len(group)}{fewer}",
                }
            )
    return pd.DataFrame(rows)


# --- figures' data --------------------------------------------------------------------------------


def points(runs: Runs, x: str, y: str) -> list[tuple[str, float, float]]:
    """(name, x, y) of every run; those without the quantities are left out."""
    return [
        (called(method), float(result.metrics[x]), float(result.metrics[y]))
        for method, group in runs.items()
        for result in group
        if result.metrics.get(x) is not None and result.metrics.get(y) is not None
    ]


def grid(runs: Runs, name: str, parameters: tuple[str, str], quantity: str) -> pd.DataFrame:
    """A sweep's means on the grid of two parameters; nan where nothing was run."""
    members = only(runs, benchmarks.sweep(name))
    data = frame(members)
    given = {m: methods.parameters(m) for m in members if len(values(data, m, quantity))}
    rows = [
        (*map(own.__getitem__, parameters), values(data, method, quantity).mean())
        for method, own in given.items()
    ]
    means = pd.DataFrame(rows, columns=[*parameters, quantity])
    return means.pivot(index=parameters[0], columns=parameters[1], values=quantity)
