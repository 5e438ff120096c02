"""The rule on what the papers' texts claim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from companion.audit.claims_of_texts import Judged, claims, judge
from companion.audit.rows import Row
from companion.audit.rules import ROUNDING, Case, Kind, register
from companion.claims.verdicts import Outcome


def _claim_cause(judged: Judged) -> str:
    holds, total = judged.count(Outcome.HOLDS), len(judged.sides)
    if holds:
        return f"{holds} of {total} comparisons hold, and the statement is about those"
    return f"none of {total} comparisons holds, and the statement rests on other tables"


@register(
    "claims",
    "A claim that its table does not bear out",
    "A statement of a paper's text, read as comparisons between printed numbers. The reading is "
    "this book's; it is data, in data/papers/claims.yml.",
    "",
    "The claim has to be read with this exception.",
    kind=Kind.TEXT,
    tolerance=f"{ROUNDING}; a tie decides nothing",
    unit="as the quantity",
)
def _claims(rows: Sequence[Row]) -> Iterator[Case]:
    tables: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        tables.setdefault(row.table, []).append(row.cells)
    frames = {name: pd.DataFrame(cells, dtype=str) for name, cells in tables.items()}
    for claim in claims():
        judged = judge(claim, frames)
        none = "" if judged.count(Outcome.HOLDS) else "The claim does not hold in this table."
        for side in judged.sides:
            told = f"{claim.id}: {side.printed}"
            yield Case(side.row, told, side.excess, _claim_cause(judged), none)
