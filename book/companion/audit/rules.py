"""What a rule is, and what it finds."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from companion.audit.background import facts, file_of_claims
from companion.audit.rows import Row, gap_between, identity_of


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


Cases = Callable[[Sequence[Row]], Iterable[Case]]


@dataclass(frozen=True)
class Rule:
    """One rule of the audit; its words are in ``data/papers/claims.yml``, which says what they are.

    Attributes:
        cases: the comparisons that the rule makes on rows.
    """

    id: str
    cases: Cases
    title: str
    states: str
    tolerance: str = "half a unit of the last printed digit of each number"
    unit: str = "nats"
    kind: Kind = Kind.IMPOSSIBLE
    cause: str = ""
    meaning: str = ""


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


CASES: dict[str, Cases] = {}


def register(name: str) -> Callable[[Cases], Cases]:
    """Register a function as the cases of a rule."""

    def keep(cases: Cases) -> Cases:
        CASES[name] = cases
        return cases

    return keep


@functools.cache
def rules() -> dict[str, Rule]:
    """Every rule by its name, in the order of the page."""
    words = {name: dict(given) for name, given in file_of_claims()["rules"].items()}
    kinds = {name: Kind[given.pop("kind", "impossible").upper()] for name, given in words.items()}
    return {name: Rule(name, CASES[name], kind=kinds[name], **words[name]) for name in words}


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
