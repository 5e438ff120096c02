"""What pages on binary images share: results by origin, names for readers, tables.

The recipes are ``pixels-omniglot`` and ``pixels-digits``; their decoder is a PixelCNN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from companion.build.parameters import Page
from companion.claims import comparison, evidence
from companion.claims import groups as benchmarks
from companion.claims.comparison import Comparison, Table
from companion.claims.rules import Checks, decides
from companion.claims.table import Runs, frame, ratios
from companion.claims.verdicts import Finding
from companion.numbers import number, spread

# The model without a latent variable bears the name that it has on text.
_TITLES = {"LSTM-LM": "PixelCNN"}
_PRINTED = {"PixelCNN": benchmarks.LANGUAGE_MODEL}
COUNTS = (5, 10, 15)  # labelled images of a class (Shen et al. 2021, table 3)


def _renamed(text: str) -> str:
    for name, title in _TITLES.items():
        text = text.replace(name, title)
    return text


def called(method: str) -> str:
    """Name for readers."""
    return _renamed(comparison.called(method))


def recipe(page: Page) -> str:
    """The recipe of a page's own data set."""
    return f"pixels-{page.choices['dataset']}"


def compare(
    page: Page, build: Sequence[str], kept: Sequence[str] = benchmarks.PIXELS
) -> Comparison:
    """This build's results of some methods and OMNIGLOT's reference ones, with their premises."""
    own = evidence.built(page, recipe(page), build)
    stored = evidence.stored(benchmarks.OMNIGLOT, kept, "medium")
    every = Comparison(own, {"omniglot": stored}, str(page.choices["dataset"]))
    return comparison.with_premises(page, every)


def rule(item: str) -> Callable[[Callable[[Checks], None]], Callable[[Comparison], Finding]]:
    """As :func:`companion.claims.rules.decides`, with the names of this module in the checks."""

    def named(checks: Callable[[Checks], None]) -> Callable[[Comparison], Finding]:
        verdict = decides(item)(checks)

        def renamed(compared: Comparison) -> Finding:
            finding = verdict(compared)
            own = [replace(c, quantity=_renamed(c.quantity)) for c in finding.checks]
            return replace(finding, checks=tuple(own))

        renamed.__name__, renamed.__doc__ = checks.__name__, checks.__doc__
        return renamed

    return named


def printed_rows(paper: str, table: str) -> pd.DataFrame:
    """A paper's rows of OMNIGLOT, with a key for the PixelCNN too."""
    rows = comparison.printed_table(paper, table, "omniglot")
    assert rows is not None  # the tables that pages ask for have it
    keys = [_PRINTED.get(name, key) for name, key in zip(rows.method, rows.method_key, strict=True)]
    return rows.assign(method_key=keys)


def numbers(runs: Runs, wanted: Sequence[str], rows: pd.DataFrame | None = None) -> Table:
    """As :func:`companion.claims.comparison.numbers`, with the names of this module."""
    made = comparison.numbers(runs, wanted, rows)
    return made._replace(rows=made.rows.assign(method=made.rows["method"].map(_renamed)))


def times(runs: Runs, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a method: time to convergence over the VAE's, the printed one first.

    Processor seconds until the lowest validation loss; empty without a VAE.
    """
    data = frame(runs, {"time": comparison.convergence})
    table = []
    for method, group in runs.items():
        own = ratios(data, method, benchmarks.VAE, "time").tolist()
        if own:
            row = {"method": called(method)}
            if rows is not None:
                printed = comparison.printed_row(rows, method)
                row["printed"] = "–" if printed is None else number(float(printed["time_ratio"]), 2)
            seconds = number(float(np.mean([comparison.convergence(r) for r in group])), 0)
            row |= {"time / VAE": spread(own, 2), "processor seconds": seconds}
            table.append(row | {"seeds": str(len(own))})
    return pd.DataFrame(table)


def accuracies(runs: Runs, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a method: accuracy in percent by labelled images of a class, the printed one first.

    Behind the mean over seeds stands, in brackets, the standard deviation over the groups of
    classes, which for OMNIGLOT are the alphabets.
    """
    table = []
    for method, group in runs.items():
        known = [r for r in group if r.metrics.get(f"few_labels_{COUNTS[0]}") is not None]
        if not known:
            continue
        row = {"method": called(method)}
        for count in COUNTS:
            if f"few_labels_{count}" not in known[0].metrics:  # smoke scale has few images
                continue
            if rows is not None:
                row[f"{count}, printed"] = _accuracy(rows, method, count)
            apart = [100.0 * evidence.array(r, f"each_few_labels_{count}") for r in known]
            row[str(count)] = spread(np.mean(apart, axis=0).tolist(), 1)
        table.append(row | {"seeds": str(len(known))})
    return pd.DataFrame(table)


def _accuracy(rows: pd.DataFrame, method: str, count: int) -> str:
    """The printed accuracy of a method with so many labels of a class, in percent."""
    chosen = rows[rows["labels_per_character"].astype(float) == count]
    # It prints 0.1 and 0.15, the chances of dropping, where table 1 prints those of keeping.
    named = {
        "DU-VAE (0.5, 0.1)": benchmarks.PIXEL_DU,
        "DU-IAF (0.5, 0.15)": benchmarks.PIXEL_DU_FLOW,
    }
    keys = [
        named.get(name, key) for name, key in zip(chosen.method, chosen.method_key, strict=True)
    ]
    row = comparison.printed_row(chosen.assign(method_key=keys), method)
    return "–" if row is None else number(float(row["accuracy"]), 2)
