"""Rules between tables and papers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from companion.audit.background import facts
from companion.audit.between import LONG_NUMBER, head_of, lines_of
from companion.audit.rows import Row, gap_between, identity_of, number
from companion.audit.rules import (
    Case,
    differing_columns,
    origin_of,
    printed_elsewhere,
    register,
)


def _basis(row: Row) -> tuple[int | None, int | None]:
    """Runs and evaluations behind a row's numbers, where the paper says so."""
    return facts().runs.get(row.table), facts().evaluations.get(row.table)


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[Row, Row, list[str]]]:
    """Rows of different tables of one paper about the same model, with what both print."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.paper, row.cells.get("note"), *identity_of(row)), []).append(row)
    for group in groups.values():
        for a, b in itertools.combinations(group, 2):
            if a.table != b.table:
                theirs = b.quantities
                yield a, b, [name for name in a.quantities if name in theirs]


@register("printed-twice")
def _printed_twice(rows: Sequence[Row]) -> Iterator[Case]:
    for a, b, names in _pairs(rows):
        for name in names if _basis(a) == _basis(b) else []:
            words = f"{a.says(name)}; {b.table}: {b.cells[name]}"
            yield Case(a, words, gap_between(number(a.cells[name]), number(b.cells[name])))


def _one_of_several(a: Row, b: Row) -> tuple[Row, Row, int] | None:
    """A mean and a single value that may be one of its terms, with the number of terms."""
    for mean, single in ((a, b), (b, a)):
        (runs, times), (others, other_times) = _basis(mean), _basis(single)
        if runs and not others:
            return mean, single, runs
        if times and not runs and not others and not other_times:
            return mean, single, times
    return None


def _same_number(row: Row, name: str, rows: Sequence[Row]) -> str:
    """Whether a long number stands for another model as well, in words; empty if not."""
    for other in rows if number(row.cells[name]).digits >= LONG_NUMBER else []:
        alike = (other.paper, other.dataset, other.cells.get(name)) == (
            (row.paper, row.dataset, row.cells[name])
        )
        if alike and identity_of(other) != identity_of(row):
            return f"the number was copied from {other.table}, which prints it for {other.method}"
    return ""


@register("one-of-several")
def _single_values(rows: Sequence[Row]) -> Iterator[Case]:
    for a, b, names in _pairs(rows):
        match = _one_of_several(a, b)
        for name in names if match else []:
            assert match is not None
            mean, single, count = match
            if (sd := mean.spread(name)) is not None:
                one, other = number(mean.cells[name]), number(single.cells[name])
                gap = float(abs(one.value - other.value) - one.half - other.half)
                words = f"{single.says(name)}; {mean.table}: {one.text}, spread at most {sd:.3f}"
                cause = _same_number(single, name, rows)
                yield Case(single, words, gap - math.sqrt(count - 1) * sd, cause)


def _copy_cause(row: Row, other: Row, name: str, rows: Sequence[Row]) -> str:
    """Why a cell that should equal another does not."""
    if dataset := printed_elsewhere(row, name, rows):
        return f"a slip of columns: the line prints the same number under {dataset}"
    for one in rows:
        same = (one.paper, one.key) == (other.paper, other.key)
        if same and one.dataset != row.dataset and one.cells.get(name) == row.cells[name]:
            return f"a slip of columns: the source prints this number for {one.dataset}"
    if 2 * len(differing_columns(row, other)) > len(row.quantities):
        return "trained or measured again, and not taken from the source"
    if name == "mi":
        return "measured again with another estimate, or a misprint"
    return "a misprint in copying"


@register("referred")
def _referred(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        origin = origin_of(row, rows) if row.referred else None
        for name in row.quantities if origin else []:
            assert origin is not None
            words = f"{row.says(name)}; {origin.table}: {origin.cells[name]}"
            excess = gap_between(number(row.cells[name]), number(origin.cells[name]))
            cause = _copy_cause(row, origin, name, rows) if excess > 0 else ""
            yield Case(row, words, excess, cause)


def _coincident(rows: Sequence[Row]) -> Iterator[tuple[Row, Row, list[str]]]:
    """Unmarked rows beside the nearest row of an earlier paper, with the numbers that agree."""
    for row in rows:
        origin = None if row.referred else origin_of(row, rows)
        if origin is not None and len(row.quantities) >= 3:
            differing = differing_columns(row, origin)
            yield row, origin, [name for name in row.quantities if name not in differing]


def _is_copy(row: Row, same: Sequence[str]) -> bool:
    """NLL and two more numbers above zero agree: more than chance gives."""
    return "nll" in same and sum(number(row.cells[name]).value != 0 for name in same) >= 3


@register("unmarked-copy")
def _unmarked_copy(rows: Sequence[Row]) -> Iterator[Case]:
    for row, other, same in _coincident(rows):
        words = f"{row.says(*same)}; {other.table} prints the same" if same else ""
        yield Case(row, words, len(same) if _is_copy(row, same) else 0)


@register("copy-differs")
def _copy_differs(rows: Sequence[Row]) -> Iterator[Case]:
    for row, other, same in _coincident(rows):
        for name in row.quantities if _is_copy(row, same) else []:
            words = f"{row.says(name)}; {other.table}: {other.cells[name]}"
            excess = gap_between(number(row.cells[name]), number(other.cells[name]))
            cause = _copy_cause(row, other, name, rows) if excess > 0 else ""
            yield Case(row, words, excess, cause)


@register("keep-probability")
def _keep_probability(rows: Sequence[Row]) -> Iterator[Case]:
    low, high = facts().keep
    for line in lines_of(rows).values():
        for text in dict.fromkeys(row.cells.get("p", "") for row in line):
            if text:
                p = number(text)
                words = f"p {text}; 1 − p = {float(1 - p.value):g}"
                yield Case(head_of(line), words, low - p.high if low <= 1 - p.value <= high else 0)
