"""What the pages that compare methods ask of results: tables, figures' data and rules.

Results are grouped by method string. Reference results are on real text at medium scale; this
build's are on the page's own data set and scale. A page never mixes the two in one average.
The bounds in the rules are this project's reading of the papers' words; they are stated beside
each verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from IPython.display import Markdown
from numpy.typing import NDArray

from posterior_collapse import benchmarks, methods
from posterior_collapse.errors import BadInput
from posterior_collapse.pages import results
from posterior_collapse.pages.parameters import Page
from posterior_collapse.pages.show import number, spread
from posterior_collapse.papers import Check, Finding, above, below, between, decide, printed
from posterior_collapse.reference import Result

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
    plain = method.replace(benchmarks.ANNEAL, "anneal")
    for shared, rest in (
        (f", anneal={benchmarks.EPOCHS})", ")"),
        (f"(anneal={benchmarks.EPOCHS})", ""),
    ):
        if plain.endswith(shared):
            return methods.title(plain.removesuffix(shared) + rest) + " + annealing"
    return methods.title(plain)


# --- where results come from ----------------------------------------------------------------------


def this_build(page: Page, wanted: Sequence[str]) -> dict[str, list[Result]]:
    """This build's results of some methods on the page's data set."""
    recipe = benchmarks.recipe(str(page.choices["dataset"]))
    return {method: results.this_build(page, recipe, method) for method in wanted}


def reference(dataset: str, wanted: Sequence[str]) -> dict[str, list[Result]]:
    """The reference results that the repository keeps; methods without any are left out."""
    recipe = benchmarks.recipe(dataset)
    found = {method: results.results(recipe, method, "medium") for method in wanted}
    return {method: group for method, group in found.items() if group}


class Comparison(NamedTuple):
    """All that a page compares."""

    build: dict[str, list[Result]]  # on the page's data set
    reference: dict[str, dict[str, list[Result]]]  # data set -> method -> results
    dataset: str  # of this build

    def groups(self) -> dict[str, dict[str, list[Result]]]:
        """Every group that is not empty by its title, reference results first."""
        named = {f"{_DATASET[name]}, reference": found for name, found in self.reference.items()}
        named[f"{_DATASET[self.dataset]}, this build"] = self.build
        return {title: found for title, found in named.items() if found}


def compare(
    page: Page, wanted: Sequence[str], datasets: Sequence[str] = ("yahoo", "yelp")
) -> Comparison:
    """Results of some methods: this build's, and the reference results on real text."""
    kept = {name: reference(name, wanted) for name in datasets}
    return Comparison(this_build(page, wanted), kept, str(page.choices["dataset"]))


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
    """Rows for :func:`posterior_collapse.pages.show.table`, and the cells that are in bold."""

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
    table["seeds"] = [str(len(group)) for group in found.values()]
    return Table(pd.DataFrame(table), bold)


_PRINTED = {"nll": "nll", "kl": "kl", "mutual_information": "mi", "active_units": "au"}
_PRINTED |= {"elbo_loss": "neg_elbo"}


def _parts(method: str) -> frozenset[str]:
    """Names of a method's parts, without parameters."""
    return frozenset(part.partition("(")[0].strip() for part in method.split("+"))


def _nearest_row(rows: pd.DataFrame, method: str) -> pd.Series | None:
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
    row = _nearest_row(rows, method)
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
AGGRESSIVE, ANNEALED_AGGRESSIVE = "lagging", f"lagging+{_A}"
_BN, _DU, _SCALE = (benchmarks.MAIN[n] for n in (4, 5, 6))
_FREE, _BETA, _IAF, _IAF_BN, _DU_IAF = benchmarks.MAIN[7:]


def _paired(found: Found, first: str, second: str, name: str) -> list[float]:
    """Difference first - second of a metric, seed by seed."""
    pairs = [
        (r.metrics.get(name), other.metrics.get(name))
        for r in found.get(first, ())
        for other in found.get(second, ())
        if r.spec.seed == other.spec.seed
    ]
    return [float(a) - float(b) for a, b in pairs if a is not None and b is not None]


class _Checks:
    """Checks of one item, over every data set whose reference results can answer them.

    Where none can, this build answers, and the name of its data set says so.
    """

    def __init__(self, compared: Comparison) -> None:
        self.reference = {_DATASET[name]: found for name, found in compared.reference.items()}
        self.build = {f"{_DATASET[compared.dataset]} (this build)": compared.build}
        self.checks, self.scales = list[Check](), list[str]()

    def add(
        self,
        quantity: str,
        values: Callable[[Found], list[float]],
        rule: Callable[[str, Sequence[float]], Check],
    ) -> None:
        """Apply a rule to every data set that has the values: references, or else this build."""
        for groups in (self.reference, self.build):
            answers = {title: values(found) for title, found in groups.items()}
            answers = {title: measured for title, measured in answers.items() if measured}
            if answers:
                break
        for title, measured in answers.items():
            self.checks.append(rule(f"{title}: {quantity}", measured))
            self.scales += {result.spec.scale for g in groups[title].values() for result in g}

    def below(self, quantity: str, values: Callable[[Found], list[float]], bound: float) -> None:
        """The interval of the values lies below a bound."""
        self.add(quantity, values, lambda name, found: below(name, found, bound))

    def above(self, quantity: str, values: Callable[[Found], list[float]], bound: float) -> None:
        """The interval of the values lies above a bound."""
        self.add(quantity, values, lambda name, found: above(name, found, bound))

    def between(
        self, quantity: str, values: Callable[[Found], list[float]], low: float, high: float
    ) -> None:
        """The interval of the values lies between two bounds."""
        self.add(quantity, values, lambda name, found: between(name, found, low, high))

    def beats(self, first: str, second: str, name: str = "nll") -> None:
        """The first has a lower metric than the second, seed by seed."""
        title = QUANTITIES[name].title
        self.below(
            f"{title} of {called(first)} less that of {called(second)}",
            lambda found: _paired(found, first, second, name),
            0.0,
        )

    def finding(self, item: str) -> Finding:
        """The verdict over all checks, at the scales of the results that they used."""
        return decide(item, " and ".join(dict.fromkeys(self.scales)), self.checks)


def _metric(method: str, name: str) -> Callable[[Found], list[float]]:
    return lambda found: _values(found.get(method, ()), name)


def decide_main_table(compared: Comparison) -> Finding:
    """lagging-tab1: the VAEs collapse, aggressive training does not and has the best NLL."""
    rules = _Checks(compared)
    for method in ("vae", _A):
        rules.below(f"MI of {called(method)}", _metric(method, "mutual_information"), 0.1)
    for method in (AGGRESSIVE, ANNEALED_AGGRESSIVE):
        rules.above(f"KL of {called(method)}", _metric(method, "kl"), 0.5)
        rules.above(f"MI of {called(method)}", _metric(method, "mutual_information"), 0.5)
        for other in ("vae", _A, _BETA):
            rules.beats(method, other)
    return rules.finding("lagging-tab1")


def decide_bounds(compared: Comparison) -> Finding:
    """lagging-tab5: the importance-weighted NLL is never above -ELBO.

    Never is counted: how many methods break it, seed by seed.  A mean of the margins would say
    how large they are, and their largest depends on how many methods a seed has.
    """
    rules = _Checks(compared)

    def broken(found: Found) -> list[float]:
        """How many methods break the bound, one number a seed."""
        counts: dict[int, float] = {}
        for result in (r for group in found.values() for r in group):
            m = result.metrics
            if m["nll"] is not None:
                beyond = m["nll"] - m["elbo_loss"] > 5 * m["elbo_loss_stderr"]
                counts[result.spec.seed] = counts.get(result.spec.seed, 0.0) + beyond
        return list(counts.values())

    rules.below("methods whose NLL is above −ELBO by more than 5 standard errors", broken, 0.5)
    return rules.finding("lagging-tab5")


def decide_time(compared: Comparison) -> Finding:
    """lagging-tab3: aggressive training costs two to four times the VAE's time, SA-VAE ten."""
    rules = _Checks(compared)
    for method in (AGGRESSIVE, ANNEALED_AGGRESSIVE):
        rules.between(
            f"time of {called(method)} over the VAE's",
            lambda found, m=method: cost(found).get(m, []),  # type: ignore[misc]
            2.0,
            4.0,
        )
    slow = next(m for m in benchmarks.OTHERS if m.startswith("sa-vae"))
    rules.above(f"time of {called(slow)} over the VAE's", lambda f: cost(f).get(slow, []), 10.0)
    return rules.finding("lagging-tab3")


def decide_units(compared: Comparison) -> Finding:
    """lagging-fig4: aggressive training has more active units than the VAEs at no worse NLL."""
    rules = _Checks(compared)
    for other in ("vae", _A):
        rules.above(
            f"AU of {called(ANNEALED_AGGRESSIVE)} less that of {called(other)}",
            lambda f, o=other: _paired(f, ANNEALED_AGGRESSIVE, o, "active_units"),  # type: ignore[misc]
            0.5,
        )
        rules.beats(ANNEALED_AGGRESSIVE, other)
    return rules.finding("lagging-fig4")


def _last(found: Found, method: str, name: str) -> list[float]:
    """A column of the history at its end."""
    values = [r.history[name].iloc[-1] for r in found.get(method, ())]
    return [float(v) for v in values if v is not None]


def decide_parts(compared: Comparison) -> Finding:
    """lagging-fig5: only the beta-VAE ends with a large KL(q(z) || p(z))."""
    rules = _Checks(compared)
    name = "valid_aggregate_kl"
    for method in (_A, AGGRESSIVE):
        rules.below(
            f"last epoch, KL(q(z) ‖ p) of {called(method)}",
            lambda f, m=method: _last(f, m, name),  # type: ignore[misc]
            1.0,
        )
    rules.above(
        f"last epoch, KL(q(z) ‖ p) of {called(_BETA)}", lambda f: _last(f, _BETA, name), 1.0
    )
    return rules.finding("lagging-fig5")


def decide_inner(compared: Comparison) -> Finding:
    """lagging-tab4: ten inner steps are too few, and the gain is over near convergence."""
    rules = _Checks(compared)
    few, *_, many, converged = benchmarks.sweep("inner")
    rules.beats(converged, few)
    rules.below(
        f"NLL of {called(many)} less that of {called(converged)}, absolute",
        lambda f: [abs(v) for v in _paired(f, many, converged, "nll")],
        0.5,
    )
    return rules.finding("lagging-tab4")


def decide_slow_annealing(compared: Comparison) -> Finding:
    """lagging-tab9: slower annealing avoids collapse but does not beat aggressive training."""
    rules = _Checks(compared)
    slowest = benchmarks.sweep("annealing")[-1]
    rules.above(f"KL of {methods.title(slowest)}", _metric(slowest, "kl"), 0.5)
    for method in benchmarks.sweep("annealing"):
        rules.beats(AGGRESSIVE, method)
    return rules.finding("lagging-tab9")


def decide_encoder_rate(compared: Comparison) -> Finding:
    """lagging-tab10: up to six times the rate the model collapses; from eight on it explodes."""
    rules = _Checks(compared)
    *modest, fastest = benchmarks.sweep("encoder")
    for method in modest:
        rules.below(f"MI of {called(method)}", _metric(method, "mutual_information"), 0.1)
    rules.above(
        f"NLL of {called(fastest)} less that of {called(modest[0])}",
        lambda f: _paired(f, fastest, modest[0], "nll"),
        10.0,
    )
    return rules.finding("lagging-tab10")


def decide_families(compared: Comparison) -> Finding:
    """du-tab1: DU-VAE and DU-IAF have the best NLL of their families."""
    rules = _Checks(compared)
    for other in (_A, ANNEALED_AGGRESSIVE, _BETA, _FREE, _BN):
        rules.beats(_DU, other)
    for other in (_IAF, _IAF_BN):
        rules.beats(_DU_IAF, other)
    return rules.finding("du-tab1")


def _more_accurate(rules: _Checks, first: str, others: Sequence[str]) -> None:
    for other in others:
        for count in (100, 500, 1000, 2000, 10000):
            rules.above(
                f"accuracy with {count} labels of {called(first)} less that of {called(other)}",
                lambda f, o=other, c=count: _paired(f, first, o, f"probe_{c}"),  # type: ignore[misc]
                0.0,
            )


def decide_probes(compared: Comparison) -> Finding:
    """du-tab2: probes on DU-VAE and DU-IAF are the most accurate at every number of labels."""
    rules = _Checks(compared)
    _more_accurate(rules, _DU, (_A, ANNEALED_AGGRESSIVE, _BETA, _FREE, _BN))
    _more_accurate(rules, _DU_IAF, (_IAF, _IAF_BN))
    return rules.finding("du-tab2")


def decide_map(compared: Comparison) -> Finding:
    """du-fig2: at the paper's gamma a middle p is better than the extremes."""
    rules = _Checks(compared)
    for gamma in (0.4, 0.6, 0.8):
        middle = f"du-vae(gamma={gamma}, p=0.8)+{_A}"
        for p in (0.7, 0.9):
            rules.beats(middle, f"du-vae(gamma={gamma}, p={p})+{_A}")
    return rules.finding("du-fig2")


def decide_algorithm(compared: Comparison) -> Finding:
    """scale-alg1: the scaled means keep the spread asked for."""
    rules = _Checks(compared)
    rules.between("spread of the scaled means", _metric(_SCALE, "scaled_mean_std"), 0.56, 0.84)
    return rules.finding("scale-alg1")


def decide_scaled(compared: Comparison) -> Finding:
    """scale-tab1: best NLL as printed; and, apart, under a bound that is valid."""
    rules = _Checks(compared)

    def less(name: str, other: str) -> Callable[[Found], list[float]]:
        def values(found: Found) -> list[float]:
            theirs = {r.spec.seed: r.metrics["nll"] for r in found.get(other, ())}
            return [
                float(r.metrics[name]) - float(theirs[r.spec.seed])
                for r in found.get(_SCALE, ())
                if r.spec.seed in theirs
            ]

        return values

    for other in (_A, AGGRESSIVE, _BETA, _FREE, _BN, _DU):
        for name, words in (("scaled_printed_nll", "as printed"), ("nll", "valid, prior N(0, f²)")):
            rules.below(f"NLL ({words}) less NLL of {called(other)}", less(name, other), 0.0)
    return rules.finding("scale-tab1")


def decide_scale_time(compared: Comparison) -> Finding:
    """scale-tab2: Scale-VAE takes about 0.9 of the VAE's time to convergence."""
    rules = _Checks(compared)
    rules.between("time over the VAE's", lambda f: cost(f).get(_SCALE, []), 0.8, 1.0)
    return rules.finding("scale-tab2")


def decide_scale_sweep(compared: Comparison) -> Finding:
    """scale-tab3: a larger spread of the means gives a lower NLL as printed, and more MI."""
    rules = _Checks(compared)
    small, large = (
        f"scale-vae(des_std={std}, f_epo=1, anneal={benchmarks.EPOCHS})" for std in (0.5, 1.1)
    )
    rules.below(
        "NLL as printed, des_std 1.1 less 0.5",
        lambda f: _paired(f, large, small, "scaled_printed_nll"),
        0.0,
    )
    rules.above(
        "MI, des_std 1.1 less 0.5", lambda f: _paired(f, large, small, "mutual_information"), 0.0
    )
    return rules.finding("scale-tab3")


def decide_scale_probes(compared: Comparison) -> Finding:
    """scale-tab4: probes on Scale-VAE are the most accurate."""
    rules = _Checks(compared)
    _more_accurate(rules, _SCALE, (_A, AGGRESSIVE, _BETA, _FREE, _BN, _DU))
    return rules.finding("scale-tab4")


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
