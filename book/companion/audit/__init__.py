"""The audit of the printed tables: what their numbers say of each other, by rule.

A rule compares printed numbers with a theorem, a definition, or another printed number.
A number printed with k decimals stands for everything within half a unit of its last digit, so a
rule reports only what lies beyond that.
Nothing here is typed for one finding: causes are chosen by conditions that the code states.

What the tables themselves do not say (numbers of runs, of points aggregated, and the like) is in
``data/papers/claims.yml``, beside the claims of the papers' texts and the words of the rules.
"""

from __future__ import annotations

from companion.audit import across, between, counts, within  # noqa: F401
from companion.audit.background import Facts, facts
from companion.audit.claims_of_texts import Claim, Comparison, Judged, claims, judge
from companion.audit.rows import Number, Row, Tables, number, read, rows_of
from companion.audit.rules import Case, Found, Kind, Report, Rule, rules

__all__ = [
    "RULES",
    "Claim",
    "Comparison",
    "Facts",
    "Found",
    "Judged",
    "Kind",
    "Number",
    "Report",
    "Row",
    "Rule",
    "audit",
    "claims",
    "facts",
    "judge",
    "number",
    "read",
    "rows_of",
]

RULES = rules()  # the imports above have registered the cases of each


def _finding(rule: Rule, case: Case) -> Found:
    return Found(
        rule.id,
        case.row.table,
        case.row.label,
        case.row.dataset,
        case.printed,
        float(case.excess),
        case.cause or rule.cause,
        case.meaning or rule.meaning,
    )


def audit(tables: Tables) -> list[Report]:
    """Apply every rule to the printed tables.

    Args:
        tables: ``"lagging/table1"`` -> cells as text, as :func:`read` gives them.

    Returns:
        One report a rule, in the order of :data:`RULES`; rules that find nothing are there as well.

    Raises:
        BadInput: a column that the legend does not know, or a quantity that is no number.
    """
    rows = rows_of(tables)
    reports = []
    for rule in RULES.values():
        cases = list(rule.cases(rows))
        findings = tuple(_finding(rule, case) for case in cases if case.excess > 0)
        reports.append(Report(rule, len(cases), findings))
    return reports
