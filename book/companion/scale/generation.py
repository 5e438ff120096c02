"""What the page on generated text asks: table 5 of Song et al. 2024, measured with known measures.

The paper's slides define Gram-n and Dist-n in a sentence and neither perplexity nor entropy, and
do not say how z becomes words.  What is measured here is defined in
:mod:`posterior_collapse.text.metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion.build.parameters import Page
from companion.claims import evidence
from companion.claims.groups import ANNEAL, BATCH_NORM, GENERATION, LANGUAGE_MODEL, WIDE_SCALE
from companion.claims.groups import SCALE as NARROW
from companion.claims.printed import printed
from companion.claims.table import Column, Runs, cells, differences, frame, only, paired, values
from companion.claims.verdicts import Check, Finding, above, below, decide
from companion.numbers import number
from companion.show.figures import COLOURS, canvas, legend
from posterior_collapse import methods
from posterior_collapse.errors import BadInput, nearest

_NAMES = {
    ANNEAL: "VAE, annealed",
    BATCH_NORM: "BN-VAE (0.6)",
    NARROW: "Scale-VAE (0.7)",
    WIDE_SCALE: "Scale-VAE (1.1)",
}
WAYS = {"sampled": "sampling", "greedy": "greedy decoding"}
_TITLES = {
    "generation-yahoo": "Beginnings of Yahoo documents, reference",
    "generation-grammar": "Grammar, this build",
}


_PPL = "forward_perplexity"
COLUMNS = (
    Column("PPL", _PPL, 1, printed="ppl"),
    *(Column(f"Gram-{n}, %", f"gram_{n}", 2, 100.0, f"gram_{n}") for n in (2, 3, 4)),
    Column("Entropy", "entropy", 2, printed="entropy"),
    *(Column(f"Dist-{n}, %", f"distinct_{n}", 2, 100.0, f"dist_{n}") for n in (1, 2, 3)),
)
# In the printed table's head; E-02 of Dist-1 is percent, as here.
_FACTORS = {"dist_2": "E-05", "dist_3": "E-05"}


def called(method: str) -> str:
    """Name for readers, with the parameters that the paper's table names."""
    return _NAMES.get(method) or methods.title(method)


def build(page: Page) -> dict[str, Runs]:
    """This build's results, with a title that says so."""
    return {_TITLES["generation-grammar"]: evidence.built(page, "generation-grammar", GENERATION)}


def groups(own: Mapping[str, Runs]) -> dict[str, Runs]:
    """Reference results, where there are any, and this build's; a title says which is which."""
    reference = evidence.stored("generation-yahoo", GENERATION, "medium")
    return ({_TITLES["generation-yahoo"]: reference} if reference else {}) | dict(own)


def _decoded(columns: Sequence[Column], way: str) -> list[Column]:
    """Columns of the texts that were decoded in one way.

    Raises:
        BadInput: an unknown way, with the nearest one.
    """
    if way not in WAYS:
        raise BadInput(nearest(way, WAYS, "way to decode"))
    return [column._replace(metric=f"{way}_{column.metric}") for column in columns]


def _printed() -> pd.DataFrame:
    """The two printed rows, BN-VAE first."""
    rows = printed("scale", "table5")
    order = [key.startswith("scale-vae") for key in rows["method_key"]]
    return rows.assign(second=order).sort_values("second").reset_index(drop=True)


def printed_table(shown: Mapping[str, Runs], way: str) -> pd.DataFrame:
    """Table 5: printed, and measured for the same two methods, one row a measure.

    Args:
        shown: of :func:`groups`.
        way: of :data:`WAYS`.

    Raises:
        BadInput: an unknown way, with the nearest one.
    """
    rows, pair = _printed(), (BATCH_NORM, WIDE_SCALE)
    table: dict[str, list[str]] = {"measure": [column.title for column in COLUMNS]}
    for place, method in enumerate(pair):
        numbers = {c.printed: number(float(rows[c.printed][place]), 2) for c in COLUMNS}
        cells_ = [f"{value} {_FACTORS.get(name, '')}".strip() for name, value in numbers.items()]
        table[f"{called(method)}, printed"] = cells_
    for title, runs in shown.items():
        data, short = frame(only(runs, pair)), title.rpartition(", ")[2]
        for method in pair:
            own = cells(data[data["method"] == method], _decoded(COLUMNS, way))
            table[f"{called(method)}, {short}"] = [own[column.title] for column in COLUMNS]
    return pd.DataFrame(table)


_FURTHER = (
    Column("reverse PPL", "reverse_perplexity", 1),
    Column("words a text", "words", 1),
    Column("came to an end, %", "ended", 1, 100.0),
    Column("without a word, %", "empty", 1, 100.0),
    Column("unknown words, %", "unknown", 1, 100.0),
)
_REAL = {column.metric: f"real_{column.metric}" for column in COLUMNS} | {_PPL: "real_perplexity"}


def all_table(runs: Runs, way: str) -> pd.DataFrame:
    """All methods and real sentences, one column each: mean (standard deviation over seeds).

    Raises:
        BadInput: an unknown way, with the nearest one.
    """
    columns, data = (*COLUMNS, *_FURTHER), frame(runs)
    table = {"measure": [*(column.title for column in columns), "seeds"]}
    for method, own in data.groupby("method", sort=False):
        table[called(str(method))] = list(cells(own, _decoded(columns, way)).values())
    people = [_of_people(data, column) for column in columns]
    return pd.DataFrame(table | {"people: test set": [*people, "–"]})


def _of_people(data: pd.DataFrame, column: Column) -> str:
    """What the test set scores; the same sentences and the same judge for every result."""
    real = data.loc[data["metric"] == _REAL.get(column.metric, ""), "value"].dropna()
    return number(column.factor * float(real.mean()) if len(real) else None, column.digits)


def examples(runs: Runs, way: str) -> pd.DataFrame:
    """The first generated sentences of each method, first seed.

    Raises:
        BadInput: an unknown way, with the nearest one; a result that keeps no text.
    """
    table, [column] = {}, _decoded([Column("text", "")], way)
    name = f"text_{column.metric.rstrip('_')}"
    for method, group in runs.items():
        table[called(method)] = [str(text) for text in evidence.array(group[0], name)]
    return pd.DataFrame(table)


_FACTOR = (
    Column("MI", "mutual_information", 2),
    Column("AU", "active_units", 1),
    Column("largest f", "scaled_largest_factor", 1),
    Column("spread of f μ", "scaled_mean_std", 3),
    Column("KL, trained", "scaled_trained_kl", 2),
    Column("KL to N(0, f²)", "kl", 1),
)


def factor_table(shown: Mapping[str, Runs]) -> pd.DataFrame:
    """What codes hold, and how far from them f z lies: one row a group and a Scale-VAE."""
    rows = []
    for title, runs in shown.items():
        data = frame(only(runs, (NARROW, WIDE_SCALE)))
        for method in (m for m in (NARROW, WIDE_SCALE) if runs.get(m)):
            head = {"results": title.rpartition(", ")[2], "method": called(method)}
            rows.append(head | cells(data[data["method"] == method], _FACTOR))
    return pd.DataFrame(rows)


# --- who wins a column ----------------------------------------------------------------------------


def _less(data: pd.DataFrame, column: Column, way: str) -> pd.Series:
    """Scale-VAE less BN-VAE, seed by seed; seeds that one lacks are left out.

    Of perplexities the logarithms are compared, nats a word: over seeds a perplexity is skewed.
    """
    [decoded] = _decoded([column], way)
    if column.metric == _PPL:
        pair = np.log(paired(data, WIDE_SCALE, BATCH_NORM, decoded.metric))
        return pair["first"] - pair["second"]
    return column.factor * differences(data, WIDE_SCALE, BATCH_NORM, decoded.metric)


def _printed_less(column: Column) -> float:
    """Scale-VAE less BN-VAE as printed; only its sign is used."""
    first, second = _printed()[column.printed]
    return float(second - first)


def winners_table(shown: Mapping[str, Runs]) -> pd.DataFrame:
    """Which of the two has the larger number in each column, as printed and as measured."""

    def larger(apart: Sequence[float] | pd.Series) -> str:
        if not len(apart):
            return "–"
        mean = float(np.mean(apart))
        return "equal" if mean == 0.0 else "Scale-VAE" if mean > 0.0 else "BN-VAE"

    table: dict[str, list[str]] = {
        "larger": [column.title.partition(",")[0] for column in COLUMNS],
        "printed": [larger([_printed_less(column)]) for column in COLUMNS],
    }
    for title, runs in shown.items():
        data, short = frame(only(runs, (BATCH_NORM, WIDE_SCALE))), title.rpartition(", ")[2]
        for way, words in WAYS.items():
            table[f"{short}, {words}"] = [larger(_less(data, c, way)) for c in COLUMNS]
    return pd.DataFrame(table)


def decide_table(runs: Runs, way: str = "sampled") -> Finding | None:
    """Rule for table 5: in every column the same method is ahead as printed.

    It takes for granted that BN-VAE has not collapsed.  Scale-VAE, which is praised, earns nothing
    if it has: a decoder that has learned to ignore its code writes from f z what it writes from
    noise, and noise is diverse.

    As printed Scale-VAE has more different words, 2-grams and 3-grams, a higher entropy and more
    known 2-grams; and a higher perplexity and fewer known 3-grams and 4-grams.
    None without results of both methods with the same seed.

    Raises:
        BadInput: an unknown way, with the nearest one.
    """
    data = frame(only(runs, (BATCH_NORM, WIDE_SCALE)))
    checks: list[Check] = []
    for column in COLUMNS:
        if len(less := _less(data, column, way)):
            rule = above if _printed_less(column) > 0.0 else below
            name = f"log {column.title}" if column.metric == _PPL else column.title
            checks.append(rule(f"{name}, Scale-VAE less BN-VAE", less, 0.0))
    if not checks:
        return None
    living = evidence.alive(called(WIDE_SCALE), runs[WIDE_SCALE])
    standing = evidence.standing(called(BATCH_NORM), runs[BATCH_NORM])
    every = [standing, *evidence.earned(living, checks)]
    return decide("scale-tab5", runs[WIDE_SCALE][0].spec.scale, every)


# --- quality and diversity ------------------------------------------------------------------------

_LOOKS = {
    LANGUAGE_MODEL: (COLOURS["guide"], "P"),
    ANNEAL: (COLOURS["sky"], "s"),
    BATCH_NORM: (COLOURS["vae"], "o"),
    NARROW: (COLOURS["accent"], "v"),
    WIDE_SCALE: (COLOURS["lagging"], "^"),
}


def plane_figure(runs: Runs) -> Figure:
    """Diversity against quality: 2-grams and known 4-grams, one point per seed and way."""
    figure, panels = canvas(8.0, 3.6, 2)
    plane = [c for c in COLUMNS if c.printed in ("dist_2", "gram_4")]
    data = frame(runs)
    real = {c.printed: data.loc[data["metric"] == f"real_{c.metric}", "value"] for c in plane}
    for axes, (way, words) in zip(panels, WAYS.items(), strict=True):
        columns = {column.printed: column for column in _decoded(plane, way)}
        for method in runs:
            colour, marker = _LOOKS[method]
            own = {n: c.factor * values(data, method, c.metric) for n, c in columns.items()}
            points = pd.DataFrame(own).dropna()
            x, y = points["dist_2"], points["gram_4"]
            axes.plot(x, y, marker, color=colour, markersize=7, alpha=0.8, label=called(method))
        if len(real["gram_4"].dropna()):
            x, y = (100.0 * real[name].dropna().iloc[0] for name in ("dist_2", "gram_4"))
            axes.plot(x, y, "*", color=COLOURS["kl"], markersize=11, label="test set")
        axes.set(
            title=words, xlabel="different 2-grams (Dist-2), %", ylabel="known 4-grams (Gram-4), %"
        )
        axes.margins(0.15)
    legend(figure, 3)
    return figure
