"""What the pages that compare methods ask of results: tables, figures' data and rules.

Results are grouped by method string. Reference results are on real text at medium scale; this
build's are on the page's own data set and scale. A page never mixes the two in one average.
The bounds in the rules are this project's reading of the papers' words; they are stated beside
each verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from IPython.display import Markdown
from numpy.typing import NDArray
from scipy import stats

from companion.build.parameters import Page
from companion.claims import evidence as results
from companion.claims import groups as benchmarks
from companion.claims.premises import METHODS, Premise, premise_of
from companion.claims.printed import printed
from companion.claims.reference import Result
from companion.claims.verdicts import (
    Check,
    Finding,
    Interval,
    Reach,
    Verdict,
    above,
    below,
    between,
    bounded,
    decide,
    grouped,
    interval,
    missing,
    share,
    side,
    stated,
)
from companion.numbers import number, spread
from posterior_collapse import methods, recipes
from posterior_collapse.errors import BadInput

__all__ = [
    "Comparison",
    "Point",
    "Table",
    "as_printed",
    "called",
    "compare",
    "cost",
    "grid",
    "leaderboard",
    "numbers",
    "points",
    "printed_row",
    "probes",
    "reference",
    "slots",
    "sources",
    "sweep",
    "this_build",
]

Found = Mapping[str, Sequence[Result]]  # method string -> its results, one a seed

LOWER, HIGHER, NEITHER = -1, 1, 0


class Quantity(NamedTuple):
    """A column of a table."""

    title: str
    name: str  # of the metric
    digits: int
    better: int  # LOWER, HIGHER or NEITHER


QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity("NLL", "nll", 2, LOWER),
        Quantity("−ELBO", "elbo_loss", 2, LOWER),
        Quantity("Rec", "reconstruction", 2, NEITHER),
        Quantity("KL", "kl", 2, NEITHER),
        Quantity("MI", "mutual_information", 2, NEITHER),
        Quantity("MI, batch of 32", "batch_mutual_information", 2, NEITHER),
        Quantity("AU", "active_units", 1, NEITHER),
        Quantity("rank", "active_rank", 1, NEITHER),
        Quantity("MPD", "mutual_posterior_divergence", 1, NEITHER),
        Quantity("H(z|x)", "conditional_entropy", 2, NEITHER),
        Quantity("perplexity", "perplexity", 2, LOWER),
    )
}
_USUAL = ("nll", "kl", "mutual_information", "active_units")
_DATASET = {"yahoo": "Yahoo", "yelp": "Yelp", "grammar": "grammar"}
# What readers see in place of the names of printed columns.
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
    shared = f"+{benchmarks.ANNEAL}"
    if method == benchmarks.ANNEAL:
        return f"{methods.title('vae')} + annealing"
    if method.endswith(shared):
        return f"{methods.title(method.removesuffix(shared))} + annealing"
    return methods.title(method)


# --- where results come from ----------------------------------------------------------------------


def this_build(page: Page, wanted: Sequence[str]) -> dict[str, list[Result]]:
    """This build's results of some methods on the page's data set."""
    recipe = benchmarks.recipe(str(page.choices["dataset"]))
    return {method: results.this_build(page, recipe, method) for method in wanted}


def reference(
    dataset: str, wanted: Sequence[str], scale: str = "medium"
) -> dict[str, list[Result]]:
    """The reference results that the repository keeps; methods without any are left out."""
    recipe = benchmarks.recipe(dataset)
    found = {method: results.results(recipe, method, scale) for method in wanted}
    return {method: group for method, group in found.items() if group}


class Comparison(NamedTuple):
    """All that a page compares."""

    build: dict[str, list[Result]]  # on the page's data set
    reference: dict[str, dict[str, list[Result]]]  # data set -> method -> results at medium scale
    dataset: str  # of this build
    large: Mapping[str, dict[str, list[Result]]] = {}  # as reference, at large scale
    held: Mapping[str, Premise] = {}  # title of an origin's data set -> its premise

    def groups(self) -> dict[str, dict[str, list[Result]]]:
        """Every group that is not empty by its title, reference results first."""
        named = {f"{_DATASET[name]}, large": found for name, found in self.large.items()}
        named |= {f"{_DATASET[name]}, reference": found for name, found in self.reference.items()}
        named[f"{_DATASET[self.dataset]}, this build"] = self.build
        return {title: found for title, found in named.items() if found}

    def origins(self) -> list[dict[str, dict[str, list[Result]]]]:
        """Results by their origin, the largest scale first: title of a data set -> results."""
        large = {f"{_DATASET[name]} (large)": found for name, found in self.large.items()}
        kept = {_DATASET[name]: found for name, found in self.reference.items()}
        return [large, kept, {f"{_DATASET[self.dataset]} (this build)": self.build}]


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
    asked = dict.fromkeys([*wanted, *METHODS])
    found: dict[str, dict[str, dict[str, list[Result]]]] = {"medium": {}, "large": {}}
    for scale, groups in found.items():
        for name in datasets:
            if scale in recipes.scales(benchmarks.recipe(name)):
                groups[name] = reference(name, list(asked), scale)
    compared = Comparison(
        this_build(page, wanted if build is None else build),
        found["medium"],
        str(page.choices["dataset"]),
        found["large"],
    )
    held = {
        title: results.premise_for(page, group)
        for origin in compared.origins()
        for title, group in origin.items()
        if any(group.values())
    }
    kept = {
        scale: {name: {m: group[m] for m in wanted if m in group} for name, group in groups.items()}
        for scale, groups in found.items()
    }
    large = {name: group for name, group in kept["large"].items() if group}
    return compared._replace(reference=kept["medium"], large=large, held=held)


def sources(compared: Comparison) -> list[dict[str, object]]:
    """Provenance of everything that a page compares."""
    return [
        result.provenance
        for found in compared.groups().values()
        for group in found.values()
        for result in group
    ]


# --- tables ---------------------------------------------------------------------------------------


class Table(NamedTuple):
    """Rows for :func:`companion.show.boxes.table`, and the cells that are in bold."""

    rows: pd.DataFrame
    bold: set[tuple[int, str]]


def _values(group: Sequence[Result], name: str) -> list[float]:
    """A metric of every seed; empty where the method has none."""
    known = [float(r.metrics[name]) for r in group if r.metrics.get(name) is not None]
    return known if len(known) == len(group) else []


def _best(columns: Sequence[list[float]], better: int) -> int | None:
    """Row of the best mean, if it is apart from every other by more than both spreads."""
    known = [(row, values) for row, values in enumerate(columns) if len(values) > 1]
    if better == NEITHER or len(known) < 2:
        return None
    ranked = sorted(known, key=lambda item: -better * float(np.mean(item[1])))
    (row, best), (_, second) = ranked[:2]
    apart = abs(float(np.mean(best)) - float(np.mean(second)))
    return row if apart > float(np.std(best, ddof=1) + np.std(second, ddof=1)) else None


def numbers(
    found: Found, wanted: Sequence[str] = _USUAL, printed_rows: pd.DataFrame | None = None
) -> Table:
    """One row a method: mean (standard deviation over seeds) of each quantity.

    Args:
        found: results by method.
        wanted: names in ``QUANTITIES``.
        printed_rows: the paper's table for the same data set; its numbers come first.

    Returns:
        The table. The best mean is bold where it is apart from the next by more than the sum of
        their standard deviations; one seed has none, so nothing is bold then.
        Beside the NLL stands the least difference to the annealed VAE that could be detected.
    """
    table: dict[str, list[str]] = {"method": [called(method) for method in found]}
    bold = set()
    for name in wanted:
        quantity = QUANTITIES[name]
        if printed_rows is not None:
            cells = [_printed(printed_rows, method, name) for method in found]
            if any(cell != "–" for cell in cells):
                table[f"{quantity.title}, printed"] = cells
        columns = [_values(group, name) for group in found.values()]
        table[quantity.title] = [spread(values, quantity.digits) for values in columns]
        best = _best(columns, quantity.better)
        if best is not None:
            bold.add((best, quantity.title))
        if name == "nll":
            detected = [_detectable(found, method) for method in found]
            if any(cell != "–" for cell in detected):
                table[f"{quantity.title}, detectable"] = detected
    table["seeds"] = [str(len(group)) for group in found.values()]
    return Table(pd.DataFrame(table), bold)


def _detectable(found: Found, method: str, name: str = "nll") -> str:
    """The least difference to the annealed VAE, or to the plain one, that these runs can tell.

    Half of the 95 % interval of the difference, paired by seed and by sentence; a dash for the row
    itself and where there is one seed.
    """
    base = benchmarks.ANNEAL if found.get(benchmarks.ANNEAL) else benchmarks.VAE
    apart = None if method == base else difference(found, method, base, name)
    return "–" if apart is None or math.isinf(apart.half) else number(apart.half, 2)


_PRINTED = {"nll": "nll", "kl": "kl", "mutual_information": "mi", "active_units": "au"}
_PRINTED |= {"elbo_loss": "neg_elbo"}


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


def _printed(rows: pd.DataFrame, method: str, name: str) -> str:
    """The printed number of a method; where its parameters are others, they are said."""
    column = _PRINTED.get(name)
    if column is None or column not in rows:
        return "–"
    row = printed_row(rows, method)
    if row is None or pd.isna(row[column]):
        return "–"
    own = methods.parameters(method)
    other = [f"{k} {v:g}" for k, v in _given(row["method_key"]).items() if own.get(k, v) != v]
    text = number(float(row[column]), 2 if name != "active_units" else 1)
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


def printed_probes(paper: str, table: str) -> pd.DataFrame:
    """A printed table of probes with one column a number of labels."""
    rows = printed(paper, table)
    wide = rows.pivot_table("accuracy", "method", "labels", sort=False).reset_index()
    wide.columns = [n if isinstance(n, str) else f"{n:g} labels" for n in wide.columns]
    return wide


def leaderboard(groups: Mapping[str, Found]) -> pd.DataFrame:
    """All methods over all data sets, one row a method and data set, for a sortable table."""
    rows = []
    for title, found in groups.items():
        times = cost(found)
        for method, group in found.items():
            row = {"method": called(method), "data": title}
            for name in (*_USUAL, "elbo_loss", "active_rank", "mutual_posterior_divergence"):
                quantity = QUANTITIES[name]
                row[quantity.title] = spread(_values(group, name), quantity.digits)
            row["time / VAE"] = spread(times.get(method, []), 2)
            row["seeds"] = str(len(group))
            rows.append(row)
    return pd.DataFrame(rows)


def slots() -> pd.DataFrame:
    """The table of methods for readers: what each changes, its equation, cost and promise."""
    rows = []
    for name in methods.names():
        entry = methods.describe(name)
        rows.append(
            {
                "method": entry.title,
                "name": name,
                "what it changes": entry.changes,
                "cost": entry.cost,
                "promise": entry.promise,
                "source": f"{entry.paper}, {entry.equation}",
            }
        )
    return pd.DataFrame(rows)


_SLOTS = ("posterior", "prior", "objective", "training", "latent")


def choices() -> pd.DataFrame:
    """Which slot each method fills, and with what; a dot where it is a plain VAE's."""
    plain = methods.Method()
    rows = []
    for name in methods.names():
        method = methods.get(name)
        row = {"method": methods.describe(name).title}
        for slot in _SLOTS:
            choice = getattr(method, slot)
            same = choice == getattr(plain, slot)
            row[slot] = "·" if same else str(getattr(choice, "value", type(choice).__name__))
        rows.append(row)
    return pd.DataFrame(rows)


def formulas() -> Markdown:
    """The formula that each method optimises, as a definition list."""
    entries = [methods.describe(name) for name in methods.names()]
    lines = [f"- **{entry.title}**: ${entry.formula}$" for entry in entries if entry.formula]
    return Markdown("\n".join(lines))


# --- time -----------------------------------------------------------------------------------------


def _seconds(result: Result) -> float:
    """Processor time of training: a busy machine changes it less than wall time."""
    return float(result.provenance.get("cpu_seconds") or result.provenance["seconds"])


def cost(found: Found) -> dict[str, list[float]]:
    """Training time over that of the VAE with the same seed; empty without a VAE."""
    plain = {result.spec.seed: _seconds(result) for result in found.get("vae", ())}
    ratios = {
        method: [_seconds(r) / plain[r.spec.seed] for r in group if r.spec.seed in plain]
        for method, group in found.items()
    }
    return {method: values for method, values in ratios.items() if values}


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


def _ratio(method: str, base: str) -> Callable[[Found], Interval | None]:
    """Time to convergence over that of another method with the same seed."""

    def measure(found: Found) -> Interval | None:
        times = [convergence(a) / convergence(b) for a, b in _pairs(found, method, base)]
        return bounded(interval(times), 0.0) if times else None

    return measure


# --- figures' data --------------------------------------------------------------------------------


class Point(NamedTuple):
    """One run in a plane."""

    method: str  # title
    x: float
    y: float


def points(found: Found, x: str, y: str) -> list[Point]:
    """One point a seed; methods without the quantities are left out."""
    return [
        Point(called(method), float(result.metrics[x]), float(result.metrics[y]))
        for method, group in found.items()
        for result in group
        if result.metrics.get(x) is not None and result.metrics.get(y) is not None
    ]


def sweep(found: Found, name: str) -> pd.DataFrame:
    """A sweep as a table: one row a member, with NLL, KL, MI and AU."""
    members = {m: found[m] for m in benchmarks.sweep(name) if m in found}
    rows = numbers(members).rows
    rows["method"] = [methods.title(method) for method in members]  # all of its parameters
    return rows


class Grid(NamedTuple):
    """A sweep over two parameters; nan where nothing was run."""

    rows: list[float]
    columns: list[float]
    values: NDArray[np.floating]  # (rows, columns), mean over seeds


def grid(found: Found, name: str, parameters: tuple[str, str], quantity: str) -> Grid:
    """A sweep's means on the grid of two parameters of its methods."""
    placed = {}
    for method in benchmarks.sweep(name):
        values = _values(found.get(method, ()), quantity)
        given = methods.parameters(method)
        if values:
            placed[given[parameters[0]], given[parameters[1]]] = float(np.mean(values))
    rows = sorted({row for row, _ in placed})
    columns = sorted({column for _, column in placed})
    table = np.full((len(rows), len(columns)), math.nan)
    for (row, column), value in placed.items():
        table[rows.index(row), columns.index(column)] = value
    return Grid(rows, columns, table)


def probes(found: Found) -> Table:
    """Accuracy of linear probes in percent: one row a method, one column a number of labels."""
    counts = sorted(
        {
            int(name.removeprefix("probe_"))
            for group in found.values()
            for result in group
            for name in result.metrics
            if name.startswith("probe_") and name.removeprefix("probe_").isdigit()
        }
    )
    table: dict[str, list[str]] = {"method": [called(method) for method in found]}
    bold = set()
    for count in counts:
        columns = [
            [100.0 * v for v in _values(group, f"probe_{count}")] for group in found.values()
        ]
        title = f"{count} labels"
        table[title] = [spread(values, 1) for values in columns]
        best = _best(columns, HIGHER)
        if best is not None:
            bold.add((best, title))
    majority = [_values(group, "probe_majority") for group in found.values()]
    table["majority class"] = [spread([100.0 * v for v in m], 1) for m in majority]
    table["seeds"] = [str(len(group)) for group in found.values()]
    return Table(pd.DataFrame(table), bold)


# --- rules ----------------------------------------------------------------------------------------

_A = benchmarks.ANNEAL
AGGRESSIVE, ANNEALED_AGGRESSIVE = benchmarks.AGGRESSIVE, benchmarks.ANNEALED_AGGRESSIVE
_LM, _BN, _DU, _SCALE = (
    benchmarks.LANGUAGE_MODEL,
    benchmarks.BATCH_NORM,
    benchmarks.DU,
    benchmarks.SCALE,
)
_FREE, _BETA = benchmarks.FREE_BITS, benchmarks.BETA
_IAF, _IAF_BN, _DU_IAF = benchmarks.PLAIN_FLOW, benchmarks.FLOW_BATCH_NORM, benchmarks.DU_FLOW

_COLLAPSED = 0.1  # nats of KL or MI that are next to none
_ALIVE = 0.5  # nats that are some


def _bounds(group: Sequence[Result], name: str) -> tuple[float, float]:
    """What a metric cannot leave."""
    if name in ("kl", "valid_aggregate_kl", "aggregate_kl"):
        return 0.0, math.inf
    if name in ("mutual_information", "batch_mutual_information"):
        points = [r.metrics.get(f"{name}_points") for r in group]
        known = [float(n) for n in points if n]
        # An estimate may pass zero, and the cap, by its own standard error.
        values = _values(group, name)
        low, high = min(0.0, *values), math.log(max(known)) if known else math.inf
        return low, max(high, *values)
    if name.startswith("probe_"):
        return 0.0, 1.0
    return -math.inf, math.inf


def _each(result: Result, name: str) -> NDArray[np.floating] | None:
    """A metric of every test example, where the run keeps it: NLL, and right answers of probes."""
    kept = result.arrays.get(f"each_{name}")
    return None if kept is None else np.asarray(kept, dtype=float)


def _over_examples(rows: Sequence[NDArray[np.floating] | None]) -> tuple[float, int]:
    """Standard error over test examples of their mean over seeds, and how many there are.

    All seeds share the test examples, so this part of the error does not fall with more seeds.
    """
    known = [row for row in rows if row is not None]
    if not known or len(known) < len(rows) or len({row.shape for row in known}) > 1:
        return 0.0, 0
    mean = np.mean(known, axis=0)
    if mean.size < 2:
        return 0.0, 0
    return float(stats.sem(mean)), mean.size


def _share_error(group: Sequence[Result], name: str) -> tuple[float, int]:
    """Standard error of an accuracy over test examples, where single answers are not kept."""
    tested = [r.metrics.get("n_sentences") for r in group]
    if not name.startswith("probe_") or not all(tested):
        return 0.0, 0
    points = min(int(n) for n in tested if n)
    mean = share(round(float(np.mean(_values(group, name))) * points), points)
    # Half of Wilson's interval, in standard errors: it is not 0 where every answer is right.
    return mean.half / float(stats.norm.ppf(0.975)), points


def level(found: Found, method: str, name: str) -> Interval | None:
    """A metric of a method with its interval over seeds and test examples; None without any."""
    group = found.get(method, ())
    values = _values(group, name)
    if not values:
        return None
    error, points = _over_examples([_each(result, name) for result in group])
    if not points:
        error, points = _share_error(group, name)
    return bounded(interval(values, error=error, points=points), *_bounds(group, name))


def _pairs(found: Found, first: str, second: str) -> list[tuple[Result, Result]]:
    """Results of two methods with the same seed."""
    others = {result.spec.seed: result for result in found.get(second, ())}
    return [(r, others[r.spec.seed]) for r in found.get(first, ()) if r.spec.seed in others]


def difference(
    found: Found, first: str, second: str, name: str, other_name: str = ""
) -> Interval | None:
    """First less second of a metric, paired by seed and, where they are kept, by test example.

    Pairing takes out what two models have in common: how hard a sentence is, and how a seed was
    drawn.  Half of the interval is the difference that can be detected.

    Args:
        found: results of one data set at one scale.
        first, second: methods.
        name: of the metric.
        other_name: of the second's, where it is another.

    Returns:
        None where they share no seed that has the metric.
    """
    theirs = other_name or name
    pairs = [
        (a, b)
        for a, b in _pairs(found, first, second)
        if a.metrics.get(name) is not None and b.metrics.get(theirs) is not None
    ]
    if not pairs:
        return None
    values = [float(a.metrics[name]) - float(b.metrics[theirs]) for a, b in pairs]
    apart = []
    for a, b in pairs:
        one, other = _each(a, name), _each(b, theirs)
        alike = one is not None and other is not None and one.shape == other.shape
        apart.append(one - other if alike else None)  # type: ignore[operator]
    error, points = _over_examples(apart)
    if not points:  # unpaired, which is the wider one
        (mine, n), (others, m) = (
            _share_error([pair[0] for pair in pairs], name),
            _share_error([pair[1] for pair in pairs], theirs),
        )
        error, points = math.hypot(mine, others), min(n, m)
    (low, high), (least, most) = (
        _bounds([pair[0] for pair in pairs], name),
        _bounds([pair[1] for pair in pairs], theirs),
    )
    found_interval = interval(values, error=error, points=points)
    return bounded(found_interval, low - most, high - least)


class _Checks:
    """Checks of one item over the data sets of one origin: reference results or this build's.

    Each data set has its premise; where it is not met, its checks can't tell.
    """

    def __init__(self, groups: Mapping[str, Found], held: Mapping[str, Premise]) -> None:
        self.groups = {title: found for title, found in groups.items() if any(found.values())}
        self.checks, self.scales = list[Check](), list[str]()
        for title, found in self.groups.items():
            met = held.get(title) or premise_of({m: found[m] for m in found if found[m]})
            self.checks += [] if met.exempt else met.checks(title)

    def limit(self, wanted: Callable[[Found], bool]) -> None:
        """Keep to the data sets that the claim can be asked of, if there are any."""
        some = {title: found for title, found in self.groups.items() if wanted(found)}
        if some:
            self.checks = [check for check in self.checks if set(check.groups) & set(some)]
            self.groups = some

    def add(
        self,
        quantity: str,
        measure: Callable[[Found], Interval | None],
        rule: Callable[[str, Interval], Check],
        role: Callable[[Check], Check] = lambda check: check,
        where_run: bool = False,
    ) -> None:
        """Apply a rule to every data set.

        Args:
            quantity: in words, without the data set.
            measure: gives the interval; None where the results lack it.
            rule: makes a check of it.
            role: ``side`` for a check that decides nothing.
            where_run: leave the check out where nothing was run for it, rather than say so; for
                rows that a paper's claim covers and that every table need not have.
        """
        for title, found in self.groups.items():
            told, measured = f"{title}: {quantity}", measure(found)
            if measured is not None:
                made = role(rule(told, measured))
                self.scales += [r.spec.scale for group in found.values() for r in group]
            elif where_run:
                continue
            else:
                made = role(missing(told, rule("", Interval(0.0, 0.0, 0.0, 0)).rule))
            self.checks.append(grouped(made, title))

    def alive(self, method: str) -> None:
        """No seed of a method has collapsed: else nothing else that was checked of it counts."""
        for title, found in self.groups.items():
            told = f"{title}: {called(method)}"
            if group := found.get(method, ()):
                living = grouped(results.alive(told, group), title)
                own = [c for c in self.checks if title in c.groups and not c.premise]
                rest = [c for c in self.checks if c not in own]
                self.checks = [*rest, *results.earned(living, own)]

    def below(
        self, quantity: str, measure: Callable[[Found], Interval | None], bound: float, **how: Any
    ) -> None:
        """The interval lies below a bound; ``how`` as for :meth:`add`."""
        self.add(quantity, measure, lambda name, found: below(name, found, bound), **how)

    def above(
        self, quantity: str, measure: Callable[[Found], Interval | None], bound: float, **how: Any
    ) -> None:
        """The interval lies above a bound; ``how`` as for :meth:`add`."""
        self.add(quantity, measure, lambda name, found: above(name, found, bound), **how)

    def between(
        self,
        quantity: str,
        measure: Callable[[Found], Interval | None],
        low: float,
        high: float,
        **how: Any,
    ) -> None:
        """The interval lies between two bounds; ``how`` as for :meth:`add`."""
        self.add(quantity, measure, lambda name, found: between(name, found, low, high), **how)

    def beats(self, first: str, second: str, name: str = "nll", **how: Any) -> None:
        """The first has a lower metric than the second, seed by seed."""
        self.below(
            f"{QUANTITIES[name].title} of {called(first)} less that of {called(second)}",
            lambda found: difference(found, first, second, name),
            0.0,
            **how,
        )

    def finding(self, item: str) -> Finding:
        """The verdict over all checks, at the scales of the results that they used."""
        scales = dict.fromkeys(self.scales) or dict.fromkeys(
            r.spec.scale
            for found in self.groups.values()
            for group in found.values()
            for r in group
        )
        return decide(item, " and ".join(scales) or "medium", self.checks)


def _finding(item: str, compared: Comparison, rule: Callable[[_Checks], None]) -> Finding:
    """The verdict of the largest scale that decides; results of two origins are never pooled.

    Origins are tried from the largest scale to this build.  Where none decides, the first that
    ran something says why.
    """
    found = []
    for groups in compared.origins():
        checks = _Checks(groups, compared.held)
        if checks.groups:
            rule(checks)
            found.append(checks.finding(item))
    if not found:
        raise BadInput(f"there is no result at all to decide {item} with")
    ran = [one for one in found if one.reach not in (Reach.NOT_RUN, Reach.CANNOT_TELL)]
    decided = [one for one in ran if one.verdict is not Verdict.UNDECIDED]
    told = [one for one in found if one.reach is not Reach.NOT_RUN]
    return (decided or ran or told or found)[0]


def _level(method: str, name: str) -> Callable[[Found], Interval | None]:
    return lambda found: level(found, method, name)


def _difference(first: str, second: str, name: str) -> Callable[[Found], Interval | None]:
    return lambda found: difference(found, first, second, name)


def decide_main_table(compared: Comparison) -> Finding:
    """lagging-tab1: the VAEs collapse, aggressive training does not and has the best NLL.

    Best is said of aggressive training with annealing, and the language model is among those that
    it beats: that is the paper's headline.  Without annealing it is compared with the VAE alone;
    the paper's own table has it behind the language model on Yahoo.
    """

    def rule(rules: _Checks) -> None:
        for method in ("vae", _A):
            rules.below(f"MI of {called(method)}", _level(method, "mutual_information"), _COLLAPSED)
        for method in (AGGRESSIVE, ANNEALED_AGGRESSIVE):
            rules.above(f"KL of {called(method)}", _level(method, "kl"), _ALIVE)
            rules.above(f"MI of {called(method)}", _level(method, "mutual_information"), _ALIVE)
        for other in (_LM, "vae", _A, _BETA, benchmarks.LOW_BETA):
            rules.beats(ANNEALED_AGGRESSIVE, other)
        rules.beats(AGGRESSIVE, "vae")
        rules.beats(AGGRESSIVE, _LM, role=side)
        # Of SA-VAE the paper's table has the same NLL on Yelp.
        rules.beats(ANNEALED_AGGRESSIVE, benchmarks.SEMI_AMORTISED, role=side, where_run=True)

    return _finding("lagging-tab1", compared, rule)


def decide_bounds(compared: Comparison) -> Finding:
    """lagging-tab5: the importance-weighted NLL is never above -ELBO.

    By Jensen's inequality log of a mean is at least the mean of logs, and both are taken over the
    same draws: this is mathematics, and fails only where the code is wrong.  It says nothing of
    methods, so it needs no premise, and its reach is exact.
    """
    runs, broken = 0, []
    for title, found in compared.groups().items():
        for method, group in found.items():
            for result in group:
                m = result.metrics
                if m.get("nll") is None or m.get("elbo_loss") is None:
                    continue
                runs += 1
                # Where the two are estimated from different numbers of draws they may touch.
                if m["nll"] - m["elbo_loss"] > 5 * m["elbo_loss_stderr"]:
                    broken.append(f"{title}, {called(method)}, seed {result.spec.seed}")
    told = f"{len(broken)} of {runs} runs" + (f" ({'; '.join(broken[:3])})" if broken else "")
    check = stated(
        "runs whose NLL is above −ELBO (Jensen's inequality on the same draws: mathematics, which "
        "no method can break)",
        "none",
        None if not runs else not broken,
        told,
    )
    return decide("lagging-tab5", "exact", [check if runs else replace(check, ran=False)])


def decide_time(compared: Comparison) -> Finding:
    """lagging-tab3: aggressive training costs two to four times the VAE's time, SA-VAE about ten.

    The time is that to convergence: until the lowest validation loss.  The time of all epochs
    depends on how many of them a recipe has after it.
    """

    def rule(rules: _Checks) -> None:
        for method in (AGGRESSIVE, ANNEALED_AGGRESSIVE):
            base, how = ("vae", {}) if method == AGGRESSIVE else (_A, {"role": side})
            rules.between(
                f"time to convergence of {called(method)} over that of {called(base)}",
                _ratio(method, base),
                2.0,
                4.0,
                **how,
            )
        rules.alive(AGGRESSIVE)
        slow = benchmarks.SEMI_AMORTISED
        rules.above(
            f"time to convergence of {called(slow)} over that of {called(_A)}",
            _ratio(slow, _A),
            9.0,  # about ten: the paper's own are 9.91 and 10.33
        )

    return _finding("lagging-tab3", compared, rule)


def decide_units(compared: Comparison) -> Finding:
    """lagging-fig4: aggressive training has more active units than the VAEs at a better NLL."""

    def rule(rules: _Checks) -> None:
        for other in ("vae", _A):
            rules.above(
                f"AU of {called(ANNEALED_AGGRESSIVE)} less that of {called(other)}",
                _difference(ANNEALED_AGGRESSIVE, other, "active_units"),
                0.5,
            )
            rules.beats(ANNEALED_AGGRESSIVE, other)

    return _finding("lagging-fig4", compared, rule)


def _last(found: Found, method: str, name: str) -> dict[int, float]:
    """Seed -> a column of the history at its end, where it has one."""
    ends = {
        r.spec.seed: r.history[name].iloc[-1] for r in found.get(method, ()) if name in r.history
    }
    return {seed: float(end) for seed, end in ends.items() if end is not None and not pd.isna(end)}


def decide_parts(compared: Comparison) -> Finding:
    """lagging-fig5: only the beta-VAE with beta 0.2 grows a large KL(q(z) || p(z)).

    Large and not large are said of each other: that of the annealed VAE is next to none, and that
    of aggressive training less than half of the beta-VAE's.
    """
    name, grown = "valid_aggregate_kl", benchmarks.LOW_BETA

    def end(method: str) -> Callable[[Found], Interval | None]:
        def measure(found: Found) -> Interval | None:
            values = list(_last(found, method, name).values())
            return bounded(interval(values), min(0.0, *values)) if values else None

        return measure

    def halved(method: str) -> Callable[[Found], Interval | None]:
        def measure(found: Found) -> Interval | None:
            ours, theirs = _last(found, method, name), _last(found, grown, name)
            both = [ours[seed] - 0.5 * theirs[seed] for seed in ours if seed in theirs]
            return interval(both) if both else None

        return measure

    def rule(rules: _Checks) -> None:
        rules.below(f"last epoch, KL(q(z) ‖ p) of {called(_A)}", end(_A), 1.0)
        rules.above(f"last epoch, KL(q(z) ‖ p) of {called(grown)}", end(grown), 1.0)
        rules.below(
            f"last epoch, KL(q(z) ‖ p) of {called(AGGRESSIVE)} less half of that of "
            f"{called(grown)}",
            halved(AGGRESSIVE),
            0.0,
        )
        rules.above(
            f"last epoch, KL(q(z) ‖ p) of {called(_BETA)}",
            end(_BETA),
            1.0,
            role=side,
            where_run=True,
        )

    return _finding("lagging-fig5", compared, rule)


def decide_inner(compared: Comparison) -> Finding:
    """lagging-tab4: ten inner steps are too few, and the gain is over near convergence.

    Over: from 70 steps to convergence the NLL moves by less than half of what it gained from 10.
    """
    few, *_, many, converged = benchmarks.sweep("inner")

    def rest(found: Found) -> Interval | None:
        gained = {a.spec.seed: (a, b) for a, b in _pairs(found, few, converged)}
        moved = {a.spec.seed: (a, b) for a, b in _pairs(found, many, converged)}
        values = [
            abs(_apart(moved[seed], "nll")) - 0.5 * _apart(gained[seed], "nll")
            for seed in gained
            if seed in moved
        ]
        return interval(values) if values else None

    def rule(rules: _Checks) -> None:
        rules.beats(converged, few)
        rules.below(
            f"what NLL moves from {called(many)} to {called(converged)}, less half of its gain "
            f"from {called(few)}",
            rest,
            0.0,
        )

    return _finding("lagging-tab4", compared, rule)


def _apart(pair: tuple[Result, Result], name: str) -> float:
    return float(pair[0].metrics[name]) - float(pair[1].metrics[name])


def decide_slow_annealing(compared: Comparison) -> Finding:
    """lagging-tab9: slower annealing avoids collapse but does not beat aggressive training.

    Aggressive training with annealing is meant.  Without it the paper's own table has slow
    annealing ahead: on Yelp 356.8 and 356.9 against 357.0, and on Yahoo 327.5 against 328.0.
    """
    slowest = benchmarks.sweep("annealing")[-1]

    def rule(rules: _Checks) -> None:
        rules.above(f"KL of {methods.title(slowest)}", _level(slowest, "kl"), _ALIVE)
        for method in benchmarks.sweep("annealing"):
            rules.beats(ANNEALED_AGGRESSIVE, method)
        for method in benchmarks.sweep("annealing"):
            rules.beats(AGGRESSIVE, method, role=side)

    return _finding("lagging-tab9", compared, rule)


_EXPLODED = 0.03  # share of the NLL: 10 nats at the paper's scale


def decide_encoder_rate(compared: Comparison) -> Finding:
    """lagging-tab10: up to six times the rate the model collapses; from eight on it explodes."""
    *modest, fastest = benchmarks.sweep("encoder")

    def excess(method: str) -> Callable[[Found], Interval | None]:
        def measure(found: Found) -> Interval | None:
            pairs = _pairs(found, method, modest[0])
            shares = [_apart(pair, "nll") / float(pair[1].metrics["nll"]) for pair in pairs]
            return interval(shares) if shares else None

        return measure

    def rule(rules: _Checks) -> None:
        for method in modest:
            rules.below(f"MI of {called(method)}", _level(method, "mutual_information"), _COLLAPSED)
        for method, role in ((fastest, None), (modest[-1], side)):
            rules.above(
                f"NLL of {called(method)} above that of {called(modest[0])}, as a share of it",
                excess(method),
                _EXPLODED,
                **({"role": role} if role else {}),
            )

    return _finding("lagging-tab10", compared, rule)


def _best_du(found: Found) -> str:
    """DU-VAE with the parameters that figure 2 names as the best on Yelp, where they were run."""
    return benchmarks.DU_YELP if found.get(benchmarks.DU_YELP) else _DU


def decide_families(compared: Comparison) -> Finding:
    """du-tab1: DU-VAE and DU-IAF have the best NLL of their families.

    DU-VAE has the parameters that figure 2 names as the best on the data set, where they were run.
    The flow that DU-IAF is compared with has the paper's free bits; without them, where only that
    was run, the comparison is a side one.
    On Yahoo the paper's table has a tie with aggressive training, 326.7, which decides nothing.
    """
    plain = (_A, ANNEALED_AGGRESSIVE, _BETA, _FREE, _BN)
    rest = (benchmarks.SEMI_AMORTISED, benchmarks.DELTA, benchmarks.MAE)

    def against(other: str) -> Callable[[Found], Interval | None]:
        return lambda found: difference(found, _best_du(found), other, "nll")

    def rule(rules: _Checks) -> None:
        for others, optional in ((plain, False), (rest, True)):
            for other in others:
                rules.below(
                    f"NLL of DU-VAE, best parameters, less that of {called(other)}",
                    against(other),
                    0.0,
                    where_run=optional,
                )
        rules.beats(_DU_IAF, benchmarks.FLOW, where_run=True)
        rules.beats(_DU_IAF, _IAF_BN)
        rules.beats(_DU_IAF, _IAF, role=side, where_run=True)

    return _finding("du-tab1", compared, rule)


_COUNTS = (100, 500, 1000, 2000, 10000)  # of labels in the papers


def _label_counts(found: Found) -> list[int]:
    """The numbers of labels that results' probes were trained with."""
    names = {
        name.removeprefix("probe_")
        for group in found.values()
        for result in group
        for name in result.metrics
        if name.startswith("probe_")
    }
    return sorted(int(name) for name in names if name.isdigit())


def _most_accurate(rules: _Checks, first: Callable[[Found], str], others: Sequence[str]) -> None:
    """At each number of labels, more accurate than the best of the others.

    To be the best of all is one claim a number of labels, and the best other is the one to beat:
    a check for every pair would ask for dozens of differences at once.  Which one it is, is said
    by a side check of every pair's average over the numbers of labels.
    """

    rules.limit(lambda found: bool(_label_counts(found)))
    known = {count for found in rules.groups.values() for count in _label_counts(found)}
    counts = sorted(known) or list(_COUNTS)

    def strongest(found: Found, count: int) -> str | None:
        means = {m: _values(found.get(m, ()), f"probe_{count}") for m in others}
        there = {m: float(np.mean(values)) for m, values in means.items() if values}
        return max(there, key=lambda m: there[m]) if there else None

    def ahead(count: int) -> Callable[[Found], Interval | None]:
        def measure(found: Found) -> Interval | None:
            best = strongest(found, count)
            return None if best is None else difference(found, first(found), best, f"probe_{count}")

        return measure

    def average(other: str) -> Callable[[Found], Interval | None]:
        def measure(found: Found) -> Interval | None:
            pairs = _pairs(found, first(found), other)
            names = [f"probe_{count}" for count in counts]
            values = [
                float(np.mean([_apart(pair, name) for name in names]))
                for pair in pairs
                if all(name in r.metrics for name in names for r in pair)
            ]
            return interval(values) if values else None

        return measure

    told = called(first({})).partition(" (")[0]
    for count in counts:
        rules.above(
            f"accuracy with {count} labels of {told} less that of the best other", ahead(count), 0.0
        )
    for other in others:
        rules.above(
            f"accuracy of {told} less that of {called(other)}, mean over the numbers of labels",
            average(other),
            0.0,
            role=side,
            where_run=True,
        )


_PROBED = (
    benchmarks.AUTOENCODER,
    _A,
    benchmarks.DELTA,
    ANNEALED_AGGRESSIVE,
    _BETA,
    _FREE,
    _BN,
    benchmarks.MAE,
)


def decide_probes(compared: Comparison) -> Finding:
    """du-tab2: probes on DU-VAE and DU-IAF are the most accurate at every number of labels.

    The others of the first are those of the paper's table, the autoencoder and MAE among them.
    """

    def rule(rules: _Checks) -> None:
        _most_accurate(rules, _best_du, _PROBED)
        _most_accurate(rules, lambda _: _DU_IAF, (benchmarks.FLOW, _IAF, _IAF_BN))

    return _finding("du-tab2", compared, rule)


def _swept(name: str, **wanted: float) -> list[str]:
    """Members of a sweep with these parameters."""
    return [
        method
        for method in benchmarks.sweep(name)
        if all(methods.parameters(method).get(k) == v for k, v in wanted.items())
    ]


def decide_map(compared: Comparison) -> Finding:
    """du-fig2: a middle p is better than the extremes, averaged over gamma.

    The values of the paper's map are lost; its text names p = 0.8 for both texts.
    """
    gammas = sorted({methods.parameters(m)["gamma"] for m in benchmarks.sweep("gamma-p")})

    def beaten(p: float, some: Sequence[float]) -> Callable[[Found], Interval | None]:
        def measure(found: Found) -> Interval | None:
            by_seed: dict[int, list[float]] = {}
            for gamma in some:
                (middle,), (other,) = (_swept("gamma-p", gamma=gamma, p=q) for q in (0.8, p))
                for pair in _pairs(found, middle, other):
                    by_seed.setdefault(pair[0].spec.seed, []).append(_apart(pair, "nll"))
            whole = [float(np.mean(d)) for d in by_seed.values() if len(d) == len(some)]
            return interval(whole) if whole else None

        return measure

    def rule(rules: _Checks) -> None:
        for p in (0.7, 0.9):
            told = f"NLL of DU-VAE with p = 0.8 less that with p = {p:g}"
            rules.below(f"{told}, mean over gamma", beaten(p, gammas), 0.0)
            for gamma in gammas:
                rules.below(
                    f"{told}, gamma = {gamma:g}", beaten(p, [gamma]), 0.0, role=side, where_run=True
                )

    return _finding("du-fig2", compared, rule)


def decide_algorithm(compared: Comparison) -> Finding:
    """scale-alg1: the scaled means keep the spread asked for, within a fifth.

    The spread is that within mini-batches, as training has it, where a run has measured it.  Over
    the whole test set it is another quantity, and runs that work leave the window.
    """
    wanted = float(methods.parameters(_SCALE)["des_std"])

    def spread_of(found: Found) -> Interval | None:
        within = level(found, _SCALE, "scaled_batch_std")
        return within or level(found, _SCALE, "scaled_mean_std")

    def rule(rules: _Checks) -> None:
        rules.between("spread of the scaled means", spread_of, 0.8 * wanted, 1.2 * wanted)

    return _finding("scale-alg1", compared, rule)


def decide_scaled(compared: Comparison) -> Finding:
    """scale-tab1: best NLL as printed; and, apart, under a bound that is valid.

    Both are the claim.  What the paper printed has no valid counterpart, so its own table is
    judged by the first alone.
    """

    def rule(rules: _Checks) -> None:
        for name, words in (("scaled_printed_nll", "as printed"), ("nll", "valid, prior N(0, f²)")):
            for other in (_LM, _A, ANNEALED_AGGRESSIVE, _BETA, _FREE, _BN, _DU):
                rules.below(
                    f"NLL ({words}) of {called(_SCALE)} less NLL of {called(other)}",
                    lambda found, n=name, o=other: difference(found, _SCALE, o, n, "nll"),  # type: ignore[misc]
                    0.0,
                    where_run=name == "nll",
                )
            for other in (
                benchmarks.DELTA,
                benchmarks.SEMI_AMORTISED,
                benchmarks.SKIP,
                benchmarks.CYCLICAL,
                benchmarks.MAE,
            ):
                rules.below(
                    f"NLL ({words}) of {called(_SCALE)} less NLL of {called(other)}",
                    lambda found, n=name, o=other: difference(found, _SCALE, o, n, "nll"),  # type: ignore[misc]
                    0.0,
                    where_run=True,
                )

    return _finding("scale-tab1", compared, rule)


def decide_scale_time(compared: Comparison) -> Finding:
    """scale-tab2: Scale-VAE takes about 0.9 of the VAE's time to convergence: no longer, that is.

    That it is as near to 0.9 as the paper's own 0.87 and 0.91 is a side check.
    """

    def rule(rules: _Checks) -> None:
        told = f"time to convergence over that of {called(_A)}"
        rules.below(told, _ratio(_SCALE, _A), 1.0)
        rules.between(told, _ratio(_SCALE, _A), 0.8, 1.0, role=side)
        rules.alive(_SCALE)

    return _finding("scale-tab2", compared, rule)


def decide_scale_sweep(compared: Comparison) -> Finding:
    """scale-tab3: a larger spread of the means gives a lower NLL as printed, and more MI."""
    small, large = (
        next(iter(_swept("std-epochs", des_std=std, f_epo=benchmarks.OWN_EPOCHS)))
        for std in (0.5, 1.1)
    )

    def rule(rules: _Checks) -> None:
        rules.below(
            "NLL as printed, des_std 1.1 less 0.5",
            _difference(large, small, "scaled_printed_nll"),
            0.0,
        )
        rules.above(
            "MI, des_std 1.1 less 0.5", _difference(large, small, "mutual_information"), 0.0
        )

    return _finding("scale-tab3", compared, rule)


def decide_scale_probes(compared: Comparison) -> Finding:
    """scale-tab4: probes on Scale-VAE are the most accurate at every number of labels.

    The others are the rows of the paper's table that it ran itself.  Its row of DU-VAE as
    referred to is ahead of Scale-VAE with 100 labels, 88.9 against 87.7.
    """
    others = [m for m in _PROBED if m != benchmarks.AUTOENCODER] + [_DU, benchmarks.DU_YELP]

    def rule(rules: _Checks) -> None:
        _most_accurate(rules, lambda _: _SCALE, others)

    return _finding("scale-tab4", compared, rule)


_TWO = {
    "scaled_trained_kl": "KL of q, which training uses",
    "kl": "KL of q̂ to N(0, f²)",
    "scaled_unit_kl": "KL of q̂ to N(0, I)",
    "scaled_trained_loss": "loss as printed (no bound)",
    "elbo_loss": "−ELBO, prior N(0, f²)",
    "scaled_unit_elbo_loss": "−ELBO, prior N(0, I)",
    "scaled_printed_nll": "NLL as printed (no bound)",
    "nll": "NLL, prior N(0, f²)",
    "scaled_unit_nll": "NLL, prior N(0, I)",
    "scaled_mean_std": "spread of the scaled means",
    "scaled_batch_std": "the same within mini-batches",
    "scaled_largest_factor": "largest factor f",
}


def two_posteriors(groups: Mapping[str, Found]) -> pd.DataFrame:
    """Scale-VAE measured in every way that its two posteriors allow, one column a group."""
    table: dict[str, list[str]] = {"quantity": list(_TWO.values())}
    for title, found in groups.items():
        group = found.get(_SCALE, ())
        if group:
            table[title] = [spread(_values(group, name), 2) for name in _TWO]
    return pd.DataFrame(table)


def cost_table(groups: Mapping[str, Found]) -> pd.DataFrame:
    """Training time over the VAE's, and seconds of a processor, one row a method."""
    rows = []
    for title, found in groups.items():
        for method, ratios in cost(found).items():
            seconds = [_seconds(result) for result in found[method]]
            rows.append(
                {
                    "method": called(method),
                    "data": title,
                    "time / VAE": spread(ratios, 2),
                    "processor seconds": number(float(np.mean(seconds)), 0),
                    "updates": number(
                        float(np.mean([r.metrics["updates"] for r in found[method]])), 0
                    ),
                    "seeds": str(len(seconds)),
                }
            )
    return pd.DataFrame(rows)
