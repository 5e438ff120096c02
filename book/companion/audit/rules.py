"""What a rule is, and what it finds."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from companion.audit.background import facts
from companion.audit.rows import Row, gap_between, identity_of

ROUNDING = "half a unit of the last printed digit of each number"


class Kind(enum.StrEnum):
    """What a finding means."""

    IMPOSSIBLE = "cannot be"  # no model and no rounding gives these numbers together
    ODD = "odd"  # possible, but it asks for an explanation
    TEXT = "text and table differ"


class Case(NamedTuple):
    """One comparison of a rule; a finding if the excess is above zero."""

    row: Row
    printed: str
    excess: Fraction | float
    cause: str = ""  # where it differs from the rule's
    meaning: str = ""


@dataclass(frozen=True)
class Rule:
    """One rule of the audit.

    Attributes:
        id: short name.
        title: for a heading.
        states: the theorem or definition, with its source.
        tolerance: what is allowed before anything is reported.
        unit: of the excess.
        kind: what a finding means.
        cause: likeliest cause, where a case has none of its own.
        meaning: for a reader, where a case has none of its own.
        cases: the comparisons that the rule makes on rows.
    """

    id: str
    title: str
    states: str
    tolerance: str
    unit: str
    kind: Kind
    cause: str
    meaning: str
    cases: Callable[[Sequence[Row]], Iterable[Case]]


@dataclass(frozen=True)
class Found:
    """A finding: what is printed, by how much it breaks the rule, and what that means."""

    rule: str
    table: str
    row: str
    dataset: str
    printed: str
    excess: float
    cause: str
    meaning: str


@dataclass(frozen=True)
class Report:
    """A rule with the number of comparisons that it made and what it found."""

    rule: Rule
    checked: int
    found: tuple[Found, ...]


RULES: dict[str, Rule] = {}


def register(
    id_: str,
    title: str,
    states: str,
    cause: str,
    meaning: str,
    kind: Kind = Kind.IMPOSSIBLE,
    tolerance: str = ROUNDING,
    unit: str = "nats",
) -> Callable[
    [Callable[[Sequence[Row]], Iterable[Case]]], Callable[[Sequence[Row]], Iterable[Case]]
]:
    """Register a function as the cases of a rule."""

    def keep(
        cases: Callable[[Sequence[Row]], Iterable[Case]],
    ) -> Callable[[Sequence[Row]], Iterable[Case]]:
        RULES[id_] = Rule(id_, title, states, tolerance, unit, kind, cause, meaning, cases)
        return cases

    return keep


def dimensions_of(row: Row) -> int:
    """Latent dimensions of the models in a row."""
    known = facts().dimensions
    return known.get(row.dataset, known["default"])


def origin_of(row: Row, rows: Sequence[Row]) -> Row | None:
    """The row of an earlier paper that this one is nearest to, or None if there is none."""
    sources = facts().sources.get(row.paper, ())
    known = [r for r in rows if r.paper in sources and identity_of(r) == identity_of(row)]
    same = [r for r in known if set(row.quantities) <= set(r.quantities)]
    return min(same, key=lambda other: len(differing_columns(row, other)), default=None)


def differing_columns(row: Row, other: Row) -> list[str]:
    """Quantities that two rows print differently, beyond rounding."""
    theirs = other.quantities
    pairs = {name: (one, theirs[name]) for name, one in row.quantities.items() if name in theirs}
    return [name for name, pair in pairs.items() if gap_between(*pair) > 0]


def printed_elsewhere(row: Row, column: str, rows: Sequence[Row]) -> str:
    """Another data set under which the row's own line prints the same number, if there is one."""
    for other in rows:
        same_line = (other.table, other.method) == (row.table, row.method)
        if same_line and other.dataset != row.dataset and other.cells[column] == row.cells[column]:
            return other.dataset
    return ""
