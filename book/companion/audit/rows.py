"""Printed numbers with their rounding, and the rows that they stand in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pandas as pd

from companion.audit.background import facts
from companion.claims import printed as papers
from posterior_collapse.errors import BadInput, nearest

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Number:
    """A printed number: what it says, and half a unit of its last digit."""

    text: str
    value: Fraction
    half: Fraction

    @property
    def low(self) -> Fraction:
        """The least number that is printed like this."""
        return self.value - self.half

    @property
    def high(self) -> Fraction:
        """The greatest number that is printed like this."""
        return self.value + self.half

    @property
    def digits(self) -> int:
        """Significant digits; zeros at the end count."""
        return len(self.text.replace(".", "").lstrip("-0"))


def number(text: str) -> Number:
    """Read a printed number, such as ``"5.20"``: 5.2, give or take 0.005.

    Raises:
        BadInput: the text is no plain decimal number.
    """
    digits = text.removeprefix("-").replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit()):
        raise BadInput(f"{text!r} is no printed number; allowed are digits with at most one point")
    decimals = len(text.partition(".")[2])
    return Number(text, Fraction(text), Fraction(1, 2 * 10**decimals))


def gap_between(a: Number, b: Number) -> Fraction:
    """How far two printed numbers are from being roundings of one number; negative if they can be.

    Two that are printed with equally many decimals can be so only if they are the same.
    """
    if a.half == b.half:
        return abs(a.value - b.value)
    return abs(a.value - b.value) - a.half - b.half


# --- rows -----------------------------------------------------------------------------------------


def kind_of(column: str) -> str:
    """Kind of a column: that of the legend, or spread."""
    columns = papers.legend()["columns"]
    if column not in columns and _spread_of(column) in columns:
        return "spread"
    if column not in columns:
        raise BadInput(nearest(column, columns, "column of a printed table"))
    return str(columns[column]["kind"])


def _spread_of(column: str) -> str:
    """The quantity that a column of spreads belongs to."""
    return column.removesuffix("_sd").removesuffix("_variance")


_WORDS = {
    "nll": "NLL",
    "neg_elbo": "−ELBO",
    "kl": "KL",
    "mi": "MI",
    "au": "AU",
    "rec": "Rec",
    "ppl": "PPL",
    "time_ratio": "ratio",
    "bleu_2": "BLEU-2",
    "bleu_4": "BLEU-4",
    "dist_1": "Dist-1",
    "dist_2": "Dist-2",
    "dist_3": "Dist-3",
}
# Settings that a method's key or its printed name holds already.
_IN_KEY = ("anneal_iterations", "encoder_rate_factor", "inner_iterations")
_NAMES = ("dataset", "group", "method", "method_key", "note")
_UNTOLD = (*_NAMES, "anneal_iterations")


def column_words(column: str) -> str:
    """A column's name for a reader."""
    return _WORDS.get(column, column.replace("_", " "))


@dataclass(frozen=True)
class Row:
    """One row of a printed table: one method on one data set, as text.

    Attributes:
        table: such as ``"lagging/table1"``.
        cells: column -> what is printed, empty where nothing is.
    """

    table: str
    cells: Mapping[str, str]

    @property
    def paper(self) -> str:
        """The paper's folder."""
        return self.table.partition("/")[0]

    @property
    def dataset(self) -> str:
        """The data set as printed."""
        return self.cells.get("dataset", "")

    @property
    def method(self) -> str:
        """The method as printed, or as the caption says where the table has no such column."""
        return self.cells.get("method") or facts().methods.get(self.table, ("", ""))[0]

    @property
    def key(self) -> str:
        """The method's key in this library; empty if it has none."""
        named = facts().methods.get(self.table, ("", ""))[1]
        return self.cells.get("method_key", "" if "method" in self.cells else named)

    @property
    def referred(self) -> bool:
        """Whether the paper says that the row comes from an earlier one."""
        return self.cells.get("note") == "referred"

    @property
    def label(self) -> str:
        """The row for a reader: its method, and what else tells it apart."""
        parts = [self.method]
        for name, cell in self.cells.items():
            if not cell or name in _UNTOLD:
                continue
            if name in ("posterior", "lost_parameter"):
                parts.append(cell)
            elif kind_of(name) in ("setting", "text") or (
                kind_of(name) == "parameter" and cell not in self.method
            ):
                parts.append(f"{column_words(name)} {cell}")
        return ", ".join(parts)

    @property
    def quantities(self) -> dict[str, Number]:
        """The printed quantities, without spreads."""
        printed = {name: cell for name, cell in self.cells.items() if cell}
        return {name: number(c) for name, c in printed.items() if kind_of(name) == "quantity"}

    def get(self, column: str) -> Number | None:
        """A number of the row, or None where nothing is printed."""
        cell = self.cells.get(column, "")
        return number(cell) if cell else None

    def need(self, *columns: str) -> list[Number]:
        """Several numbers of the row; an empty list unless all are printed."""
        numbers = [self.get(column) for column in columns]
        return [one for one in numbers if one is not None] if None not in numbers else []

    def spread(self, column: str) -> float | None:
        """Greatest standard deviation that the printed spread stands for, or None."""
        if (sd := self.get(f"{column}_sd")) is not None:
            return float(sd.high)
        if (variance := self.get(f"{column}_variance")) is not None:
            return math.sqrt(variance.high)
        return None

    def says(self, *columns: str) -> str:
        """What is printed, such as ``MI 2.50, KL 2.48``."""
        return ", ".join(f"{column_words(name)} {self.cells[name]}" for name in columns)


def identity_of(row: Row) -> tuple[Any, ...]:
    """What has to agree for two rows to be about the same model and measurement."""
    printed = {name: cell for name, cell in row.cells.items() if cell and name not in _NAMES}
    if row.key:
        given = {n: c for n, c in printed.items() if kind_of(n) in ("setting", "text")}
        settings = frozenset((n, c) for n, c in given.items() if n not in _IN_KEY)
        return (row.dataset, row.key, settings)
    named = {n: c for n, c in printed.items() if kind_of(n) in ("setting", "text", "parameter")}
    return (row.dataset, row.method.rstrip("*"), frozenset(named.items()))


def read() -> dict[str, pd.DataFrame]:
    """Every printed table as text, in the legend's order: ``"lagging/table1"`` -> cells."""
    folder = papers.repository() / "data" / "papers"
    paths = {table: folder / f"{table}.csv" for table in papers.legend()["tables"]}
    return {
        table: pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        for table, path in paths.items()
        if path.is_file()
    }


def rows_of(tables: Tables) -> list[Row]:
    """The rows of all tables.

    Raises:
        BadInput: a column that the legend does not know.
    """
    for frame in tables.values():
        for column in frame.columns:
            kind_of(str(column))
    return [
        Row(table, {str(name): str(cell) for name, cell in record.items()})
        for table, frame in tables.items()
        for record in frame.to_dict("records")
    ]
