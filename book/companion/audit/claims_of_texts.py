"""Claims of the papers' texts, judged on the tables."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import pandas as pd

from companion.audit.background import file_of_claims
from companion.audit.rows import Row, Tables, number, rows_of
from companion.audit.rules import Case, register
from companion.claims import printed as papers
from companion.claims.verdicts import Outcome
from posterior_collapse.errors import BadInput, nearest

Filter = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Comparison:
    """A claim cut into one kind of comparison over a table.

    Attributes:
        table: such as ``"du/table1"``.
        quantity: the column that is compared.
        better: ``lower`` or ``higher``.
        ours: column -> the values that select the rows claimed to be better.
        theirs: the same for the rows that they are compared with; empty if there is a bound.
        low: least value that is claimed, where the claim names one.
        high: greatest value that is claimed.
        by: columns on which compared rows agree.
        each: whether each of ours has to be better, or the best of them.
        margin: by how much ours may be worse.
    """

    table: str
    quantity: str
    ours: Filter
    better: str = "higher"
    theirs: Filter = field(default_factory=dict)
    low: Fraction | None = None
    high: Fraction | None = None
    by: tuple[str, ...] = ("dataset",)
    each: bool = False
    margin: Fraction = Fraction(0)


@dataclass(frozen=True)
class Claim:
    """A claim of a paper's text, in this book's words, with the comparisons that decide it."""

    id: str
    paper: str
    item: str
    words: str
    comparisons: tuple[Comparison, ...]


def _filter(given: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        k: [str(v) for v in (one if isinstance(one, list) else [one])] for k, one in given.items()
    }


def _comparison(given: Mapping[str, Any]) -> Comparison:
    names = Comparison.__dataclass_fields__
    for name in given:
        if name not in names:
            raise BadInput(nearest(name, names, "entry of a comparison"))
    read: dict[str, Any] = dict(given)
    read |= {n: _filter(read[n]) for n in ("ours", "theirs") if n in read}
    read |= {n: Fraction(str(read[n])) for n in ("low", "high", "margin") if n in read}
    if "by" in read:
        read["by"] = tuple(read["by"])
    comparison = Comparison(**read)
    if comparison.better not in ("lower", "higher"):
        raise BadInput(nearest(comparison.better, ("lower", "higher"), "direction of a comparison"))
    if bool(comparison.theirs) == (comparison.low is not None or comparison.high is not None):
        raise BadInput(f"a comparison needs either rows or bounds: {dict(given)}")
    return comparison


@functools.lru_cache(maxsize=1)
def claims() -> tuple[Claim, ...]:
    """The claims of ``data/papers/claims.yml``.

    Raises:
        BadInput: an entry has a name that is not one of a claim's.
    """
    return tuple(
        Claim(
            one["id"],
            one["paper"],
            one["item"],
            one["claim"],
            tuple(_comparison(given) for given in one["comparisons"]),
        )
        for one in file_of_claims()["claims"]
    )


class Side(NamedTuple):
    """One comparison of a claim: the row, what is printed, and what it says."""

    row: Row
    printed: str
    excess: Fraction  # by which it fails beyond rounding; negative or zero where it does not
    outcome: Outcome


@dataclass(frozen=True)
class Judged:
    """A claim with all its comparisons.

    Attributes:
        outcome: fails if one comparison fails; undecided if none fails and a tie is left, or if
            the table is not here; else holds.
    """

    claim: Claim
    sides: tuple[Side, ...]
    outcome: Outcome

    def count(self, outcome: Outcome) -> int:
        """Number of comparisons with this outcome."""
        return sum(side.outcome is outcome for side in self.sides)


def _select(rows: Sequence[Row], wanted: Filter, quantity: str) -> list[Row]:
    """Rows whose cells are among the wanted ones and that print the quantity.

    Raises:
        BadInput: a column or a value that the table does not have, with the nearest one.
    """
    columns = rows[0].cells
    for column in (*wanted, quantity):
        if column not in columns:
            raise BadInput(nearest(column, columns, f"column of {rows[0].table}"))
    for column, values in wanted.items():
        there = {row.cells[column] for row in rows}
        for value in values:
            if value not in there:
                raise BadInput(nearest(value, there, f"{column} of {rows[0].table}"))
    chosen = [r for r in rows if all(r.cells[c] in values for c, values in wanted.items())]
    return [row for row in chosen if row.cells[quantity]]


def _side(row: Row, printed: str, shortfall: Fraction, slack: Fraction) -> Side:
    """A comparison from the amount by which it is missed, and what rounding may hide of it."""
    outcome = Outcome.OPEN
    if abs(shortfall) >= slack and shortfall != slack:
        outcome = Outcome.FAILS if shortfall > 0 else Outcome.HOLDS
    return Side(row, printed, shortfall - slack, outcome)


def _against_bounds(one: Comparison, row: Row) -> Iterator[Side]:
    given = number(row.cells[one.quantity])
    if one.low is not None:
        words = f"{row.says(one.quantity)}; claimed: at least {float(one.low):g}"
        yield _side(row, words, one.low - given.value, given.half)
    if one.high is not None:
        words = f"{row.says(one.quantity)}; claimed: at most {float(one.high):g}"
        yield _side(row, words, given.value - one.high, given.half)


def _against_rows(one: Comparison, row: Row, others: Sequence[Row]) -> Iterator[Side]:
    sign = 1 if one.better == "lower" else -1
    given = number(row.cells[one.quantity])
    for other in others:
        theirs = number(other.cells[one.quantity])
        words = f"{row.says(one.quantity)}; {other.label}: {theirs.text}"
        shortfall = sign * (given.value - theirs.value) - one.margin
        yield _side(row, words, shortfall, given.half + theirs.half)


def _sides(one: Comparison, rows: Sequence[Row]) -> Iterator[Side]:
    """Every comparison that one entry stands for."""
    sign = 1 if one.better == "lower" else -1
    ours = _select(rows, one.ours, one.quantity)
    theirs = _select(rows, one.theirs, one.quantity) if one.theirs else []
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in ours:
        groups.setdefault(tuple(row.cells.get(c, "") for c in one.by), []).append(row)
    for group, members in groups.items():
        best = min(members, key=lambda r: sign * number(r.cells[one.quantity]).value)
        others = [r for r in theirs if tuple(r.cells.get(c, "") for c in one.by) == group]
        for row in members if one.each or not one.theirs else [best]:
            yield from _against_rows(one, row, others) if one.theirs else _against_bounds(one, row)


def judge(claim: Claim, tables: Tables) -> Judged:
    """Evaluate a claim on the printed tables.

    Raises:
        BadInput: an unknown table, column, row or item, with the nearest one.
    """
    papers.claim(claim.item)
    rows: dict[str, list[Row]] = {}
    for row in rows_of(tables):
        rows.setdefault(row.table, []).append(row)
    sides: list[Side] = []
    for one in claim.comparisons:
        if one.table in rows:
            sides += _sides(one, rows[one.table])
        elif one.table not in papers.legend()["tables"]:
            raise BadInput(nearest(one.table, papers.legend()["tables"], "printed table"))
    outcomes = {side.outcome for side in sides}
    if Outcome.FAILS in outcomes:
        return Judged(claim, tuple(sides), Outcome.FAILS)
    holds = outcomes == {Outcome.HOLDS}
    return Judged(claim, tuple(sides), Outcome.HOLDS if holds else Outcome.OPEN)


def _claim_cause(judged: Judged) -> str:
    holds, total = judged.count(Outcome.HOLDS), len(judged.sides)
    if holds:
        return f"{holds} of {total} comparisons hold, and the statement is about those"
    return f"none of {total} comparisons holds, and the statement rests on other tables"


@register("claims")
def _claims(rows: Sequence[Row]) -> Iterator[Case]:
    tables: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        tables.setdefault(row.table, []).append(row.cells)
    frames = {name: pd.DataFrame(cells, dtype=str) for name, cells in tables.items()}
    for claim in claims():
        judged = judge(claim, frames)
        none = "" if judged.count(Outcome.HOLDS) else "The claim does not hold in this table."
        for side in judged.sides:
            words = f"{claim.id}: {side.printed}"
            yield Case(side.row, words, side.excess, _claim_cause(judged), none)
