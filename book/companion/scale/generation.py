"""What the page on generated text asks: table 5 of Song et al. 2024, measured with known measures.

The paper's slides define Gram-n and Dist-n in a sentence and neither perplexity nor entropy, and
do not say how z becomes words.  What is measured here is defined in :mod:`text_metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion.build.parameters import Page
from companion.claims import evidence as results
from companion.claims import groups as benchmarks
from companion.claims.premises import Premise
from companion.claims.printed import printed
from companion.claims.reference import Result
from companion.claims.reference import results as kept
from companion.claims.verdicts import Check, Finding, above, below, decide
from companion.numbers import number, spread
from companion.show.figures import COLOURS
from posterior_collapse import methods
from posterior_collapse.errors import BadInput, nearest

__all__ = [
    "BATCH_NORM",
    "SCALED",
    "WAYS",
    "all_table",
    "build",
    "called",
    "decide_table",
    "examples",
    "factor_table",
    "findings",
    "groups",
    "plane_figure",
    "premises",
    "printed_table",
    "reference",
    "sources",
    "winners_table",
]

Found = Mapping[str, Sequence[Result]]  # method -> its results, one a seed

_LM, _ANNEAL, BATCH_NORM, _NARROW, SCALED = benchmarks.GENERATION
_NAMES = {
    _ANNEAL: "VAE, annealed",
    BATCH_NORM: "BN-VAE (0.6)",
    _NARROW: "Scale-VAE (0.7)",
    SCALED: "Scale-VAE (1.1)",
}
WAYS = {"sampled": "drawn words", "greedy": "most probable words"}
_TITLES = {
    "generation-yahoo": "Beginnings of Yahoo documents, reference",
    "generation-grammar": "Grammar, this build",
}


class Column(NamedTuple):
    """A measure: as the table prints it, and as a run stores it."""

    title: str
    printed: str  # column of the printed table
    metric: str  # of a run, after the way of decoding
    factor: float  # from the run's unit to percent, where it is a share
    digits: int


_PPL = "ppl"
COLUMNS = (
    Column("PPL", _PPL, "forward_perplexity", 1.0, 1),
    *(Column(f"Gram-{n}, %", f"gram_{n}", f"gram_{n}", 100.0, 2) for n in (2, 3, 4)),
    Column("Entropy", "entropy", "entropy", 1.0, 2),
    *(Column(f"Dist-{n}, %", f"dist_{n}", f"distinct_{n}", 100.0, 2) for n in (1, 2, 3)),
)
# In the printed table's head; E-02 of Dist-1 is percent, as here.
_FACTORS = {"dist_2": "E-05", "dist_3": "E-05"}


def called(method: str) -> str:
    """Name for readers, with the parameters that the paper's table names."""
    return _NAMES.get(method) or methods.title(method)


def build(page: Page) -> dict[str, list[Result]]:
    """This build's results, one list a method."""
    return {
        method: results.this_build(page, "generation-grammar", method)
        for method in benchmarks.GENERATION
    }


def reference() -> dict[str, list[Result]]:
    """The reference results that the repository keeps; empty without any."""
    found = {method: kept("generation-yahoo", method, "medium") for method in benchmarks.GENERATION}
    return {method: group for method, group in found.items() if group}


def groups(own: Found) -> dict[str, Found]:
    """Reference results, where there are any, and this build's; a title says which is which."""
    stored = reference()
    head = {_TITLES["generation-yahoo"]: stored} if stored else {}
    return {**head, _TITLES["generation-grammar"]: own}


def sources(shown: Mapping[str, Found]) -> list[dict[str, Any]]:
    """Provenance of every result that a page shows."""
    return [r.provenance for found in shown.values() for group in found.values() for r in group]


def _way(way: str) -> str:
    if way not in WAYS:
        raise BadInput(nearest(way, WAYS, "way to decode"))
    return way


def _values(group: Sequence[Result], column: Column, way: str) -> list[float]:
    name = f"{way}_{column.metric}"
    values = [result.metrics.get(name) for result in group]
    return [column.factor * float(value) for value in values if value is not None]


def _printed() -> pd.DataFrame:
    """The two printed rows, BN-VAE first."""
    rows = printed("scale", "table5")
    order = [key.startswith("scale-vae") for key in rows["method_key"]]
    return rows.assign(second=order).sort_values("second").reset_index(drop=True)


def printed_table(shown: Mapping[str, Found], way: str) -> pd.DataFrame:
    """Table 5: printed, and measured for the same two methods, one row a measure.

    Args:
        shown: of :func:`groups`.
        way: of :data:`WAYS`.

    Raises:
        BadInput: an unknown way, with the nearest one.
    """
    rows, pair = _printed(), (BATCH_NORM, SCALED)
    table: dict[str, list[str]] = {"measure": [column.title for column in COLUMNS]}
    for place, method in enumerate(pair):
        cells = []
        for column in COLUMNS:
            value = number(float(rows[column.printed][place]), 2)
            cells.append(f"{value} {_FACTORS.get(column.printed, '')}".strip())
        table[f"{called(method)}, printed"] = cells
    for title, found in shown.items():
        short = title.rpartition(", ")[2]
        for method in pair:
            table[f"{called(method)}, {short}"] = [
                spread(_values(found.get(method, ()), column, _way(way)), column.digits)
                for column in COLUMNS
            ]
    return pd.DataFrame(table)


_REAL = {"PPL": "real_perplexity", "Entropy": "real_entropy"}
_REAL |= {f"Gram-{n}, %": f"real_gram_{n}" for n in (2, 3, 4)}
_REAL |= {f"Dist-{n}, %": f"real_distinct_{n}" for n in (1, 2, 3)}


_FURTHER = (
    Column("reverse PPL", "", "reverse_perplexity", 1.0, 1),
    Column("words a text", "", "words", 1.0, 1),
    Column("came to an end, %", "", "ended", 100.0, 1),
    Column("without a word, %", "", "empty", 100.0, 1),
    Column("unknown words, %", "", "unknown", 100.0, 1),
)


def all_table(found: Found, way: str) -> pd.DataFrame:
    """All methods and real sentences, one column each: mean (standard deviation over seeds).

    Raises:
        BadInput: an unknown way, with the nearest one.
    """
    rows = [*COLUMNS, *_FURTHER]
    table: dict[str, list[str]] = {"measure": [*(row.title for row in rows), "seeds"]}
    for method, group in found.items():
        cells = [spread(_values(group, row, _way(way)), row.digits) for row in rows]
        table[called(method)] = [*cells, str(len(group))]
    every = [result for group in found.values() for result in group]
    people = [_of_people(every, row) for row in rows]
    return pd.DataFrame(table | {"people: test set": [*people, "–"]})


def _of_people(every: Sequence[Result], row: Column) -> str:
    """What the test set scores; the same sentences and the same judge for every result."""
    name = _REAL.get(row.title, "")
    found = [result.metrics.get(name) for result in every]
    real = [value for value in found if value is not None]
    return number(row.factor * float(np.mean(real)) if real else None, row.digits)


def examples(found: Found, way: str) -> pd.DataFrame:
    """The first generated sentences of each method, first seed.

    Raises:
        BadInput: an unknown way, with the nearest one; a result that keeps no text.
    """
    table = {}
    for method, group in found.items():
        name = f"text_{_way(way)}"
        if name not in group[0].arrays:
            raise BadInput(f"{group[0].spec.label()} keeps no {name}; train it again")
        table[called(method)] = [str(text) for text in group[0].arrays[name]]
    return pd.DataFrame(table)


_FACTOR = (
    ("MI", "mutual_information", 2),
    ("AU", "active_units", 1),
    ("largest f", "scaled_largest_factor", 1),
    ("spread of f μ", "scaled_mean_std", 3),
    ("KL, trained", "scaled_trained_kl", 2),
    ("KL to N(0, f²)", "kl", 1),
)


def factor_table(shown: Mapping[str, Found]) -> pd.DataFrame:
    """What codes hold, and how far from them f z lies: one row a group and a Scale-VAE."""
    rows = []
    for title, found in shown.items():
        for method in (m for m in (_NARROW, SCALED) if found.get(m)):
            row = {"results": title.rpartition(", ")[2], "method": called(method)}
            for head, name, digits in _FACTOR:
                values = [float(r.metrics[name]) for r in found[method] if name in r.metrics]
                row[head] = spread(values, digits)
            rows.append(row | {"seeds": str(len(found[method]))})
    return pd.DataFrame(rows)


# --- who wins a column ----------------------------------------------------------------------------


def _less(found: Found, column: Column, way: str) -> list[float]:
    """Scale-VAE less BN-VAE, seed by seed; seeds that one lacks are left out.

    Of perplexities the logarithms are compared, nats a word: over seeds a perplexity is skewed.
    """
    name = f"{way}_{column.metric}"
    unit = math.log if column.printed == _PPL else (lambda value: column.factor * value)
    others = {r.spec.seed: r.metrics.get(name) for r in found.get(BATCH_NORM, ())}
    pairs = [(r.metrics.get(name), others.get(r.spec.seed)) for r in found.get(SCALED, ())]
    return [unit(a) - unit(b) for a, b in pairs if a is not None and b is not None]


def _printed_less(column: Column) -> float:
    """Scale-VAE less BN-VAE as printed; only its sign is used."""
    first, second = _printed()[column.printed]
    return float(second - first)


def winners_table(shown: Mapping[str, Found]) -> pd.DataFrame:
    """Which of the two has the larger number in each column, as printed and as measured."""

    def larger(values: Sequence[float]) -> str:
        if not values:
            return "–"
        mean = float(np.mean(values))
        return "equal" if mean == 0.0 else "Scale-VAE" if mean > 0.0 else "BN-VAE"

    table: dict[str, list[str]] = {
        "larger": [column.title.partition(",")[0] for column in COLUMNS],
        "printed": [larger([_printed_less(column)]) for column in COLUMNS],
    }
    for title, found in shown.items():
        for way, told in WAYS.items():
            short = title.rpartition(", ")[2]
            table[f"{short}, {told}"] = [larger(_less(found, c, way)) for c in COLUMNS]
    return pd.DataFrame(table)


def decide_table(found: Found, way: str = "sampled") -> Finding | None:
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
    checks: list[Check] = []
    for column in COLUMNS:
        if less := _less(found, column, _way(way)):
            rule = above if _printed_less(column) > 0.0 else below
            told = f"log {column.title}" if column.printed == _PPL else column.title
            checks.append(rule(f"{told}, Scale-VAE less BN-VAE", less, 0.0))
    if not checks:
        return None
    living = results.alive(called(SCALED), found[SCALED])
    every = [results.standing(called(BATCH_NORM), found[BATCH_NORM])]
    every += results.earned(living, checks)
    return decide("scale-tab5", found[SCALED][0].spec.scale, every)


def premises(page: Page, shown: Mapping[str, Found]) -> dict[str, Premise]:
    """The premise of every group; see :mod:`companion.claims.premises`."""
    return {title: results.premise_for(page, found) for title, found in shown.items()}


def findings(shown: Mapping[str, Found], held: Mapping[str, Premise]) -> list[Finding]:
    """What the rule says of every group, under its premise."""
    return [
        one
        for title, found in shown.items()
        for one in results.under([decide_table(found)], held[title])
    ]


# --- quality and diversity ------------------------------------------------------------------------

_LOOKS = {
    _LM: (COLOURS["guide"], "P"),
    _ANNEAL: (COLOURS["sky"], "s"),
    BATCH_NORM: (COLOURS["vae"], "o"),
    _NARROW: (COLOURS["accent"], "v"),
    SCALED: (COLOURS["lagging"], "^"),
}


def plane_figure(found: Found) -> Figure:
    """Diversity against quality: different 2-grams and known 4-grams, a point a seed and a way."""
    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    quality = next(column for column in COLUMNS if column.printed == "gram_4")
    variety = next(column for column in COLUMNS if column.printed == "dist_2")
    for axes, (way, told) in zip(figure.subplots(1, 2), WAYS.items(), strict=True):
        for method, group in found.items():
            colour, marker = _LOOKS[method]
            x, y = (_values(group, column, way) for column in (variety, quality))
            if len(x) == len(y):
                axes.plot(x, y, marker, color=colour, markersize=7, alpha=0.8, label=called(method))
        real = next(
            (r.metrics for g in found.values() for r in g if "real_gram_4" in r.metrics), None
        )
        if real is not None:
            axes.plot(
                100.0 * real["real_distinct_2"],
                100.0 * real["real_gram_4"],
                "*",
                color=COLOURS["kl"],
                markersize=11,
                label="test set",
            )
        axes.set(
            title=told, xlabel="different 2-grams (Dist-2), %", ylabel="known 4-grams (Gram-4), %"
        )
        axes.margins(0.15)
    handles = {str(h.get_label()): h for axes in figure.axes for h in axes.lines}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, fontsize=8)
    return figure
