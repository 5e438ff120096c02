"""What the page on the printed numbers shows: rules, findings, claims, and the files read."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Sequence

import pandas as pd
from IPython.display import HTML

from companion import audit, show
from companion.audit import Found, Judged, Kind, Report
from companion.claims import printed as papers
from companion.claims.verdicts import Outcome
from posterior_collapse.errors import BadInput, nearest

__all__ = [
    "claims",
    "claims_table",
    "digests",
    "findings",
    "provenance",
    "reports",
    "result",
    "section",
    "silent",
    "summary",
]

_PAPERS = {
    "lagging": "Lagging",
    "autogen": "AutoGen",
    "igp": "IGP",
    "du": "DU-VAE",
    "scale": "Scale-VAE",
}


def reports() -> list[Report]:
    """The audit of every printed table that the repository has."""
    return audit.audit(audit.read())


def _table(name: str) -> str:
    """A table's name for a reader: ``Lagging, table 1``."""
    paper, _, place = name.partition("/")
    number = place.lstrip("abcdefghijklmnopqrstuvwxyz")
    return f"{_PAPERS[paper]}, {place.removesuffix(number)} {number}"


def _told(text: str) -> str:
    """A text of the audit with its tables' names for a reader."""
    return re.sub(rf"(?:{'|'.join(_PAPERS)})/(?:table|figure)\d+", lambda m: _table(m[0]), text)


def _excess(value: float) -> str:
    return f"{value:.3g}"


def result(found: Sequence[Report]) -> str:
    """One sentence of HTML: how much was compared, and how much was found of each kind."""
    checked = sum(report.checked for report in found)
    counts = {kind: 0 for kind in Kind}
    for report in found:
        counts[report.rule.kind] += len(report.found)
    told = ", ".join(f"{count} of the kind <em>{kind.value}</em>" for kind, count in counts.items())
    return (
        f"{len(found)} rules made {checked:,} comparisons. "
        f"They report {sum(counts.values())} findings: {told}."
    )


def summary(found: Sequence[Report]) -> pd.DataFrame:
    """Every rule with its number of comparisons and of findings."""
    rows = [
        {
            "rule": report.rule.title,
            "kind": report.rule.kind.value,
            "comparisons": report.checked,
            "findings": len(report.found),
        }
        for report in found
    ]
    return pd.DataFrame(rows)


def _report(found: Sequence[Report], rule: str) -> Report:
    known = {report.rule.id: report for report in found}
    if rule not in known:
        raise BadInput(nearest(rule, known, "rule of the audit"))
    return known[rule]


def _shared(values: Sequence[str]) -> str:
    """What all values are, or the empty string if they differ."""
    return values[0] if len(set(values)) == 1 else ""


def findings(report: Report) -> pd.DataFrame:
    """The findings of a rule; causes and meanings only where they differ."""

    def row(one: Found) -> dict[str, str]:
        return {
            "table": _table(one.table),
            "row": one.row,
            "data set": one.dataset,
            "printed": _told(one.printed),
            f"excess ({report.rule.unit})": _excess(one.excess),
            "likeliest cause": _told(one.cause),
            "for a reader": one.meaning,
        }

    frame = pd.DataFrame([row(one) for one in report.found])
    told = [name for name in ("likeliest cause", "for a reader") if _shared(list(frame[name]))]
    return frame.drop(columns=told)


def _sentence(text: str) -> str:
    return html.escape(text[:1].upper() + text[1:].rstrip(".") + ".")


def section(found: Sequence[Report], rule: str) -> HTML:
    """A rule, what it allows, and what it found.

    Raises:
        BadInput: unknown rule, with the nearest one.
    """
    report = _report(found, rule)
    parts = [f"<p>{html.escape(report.rule.states)}</p>"]
    parts.append(
        f"<p><strong>Allowed:</strong> {html.escape(report.rule.tolerance)}. "
        f"<strong>Kind:</strong> {report.rule.kind.value}.</p>"
    )
    if not report.found:
        parts.append(f"<p>Nothing is found in {report.checked} comparisons.</p>")
        return HTML("".join(parts))
    if cause := _shared([one.cause for one in report.found]):
        parts.append(f"<p><strong>Likeliest cause:</strong> {_sentence(_told(cause))}</p>")
    if meaning := _shared([one.meaning for one in report.found]):
        parts.append(f"<p><strong>For a reader:</strong> {_sentence(meaning)}</p>")
    caption = (
        f"{html.escape(report.rule.title)}: {len(report.found)} of {report.checked} comparisons. "
        "The excess is what is left after what the rule allows."
    )
    return HTML("".join(parts) + str(show.table(findings(report), caption).data))


def silent(found: Sequence[Report]) -> pd.DataFrame:
    """The rules that found nothing, with what they compared."""
    rows = [
        {"rule": r.rule.title, "statement": r.rule.states, "comparisons": r.checked}
        for r in found
        if not r.found
    ]
    return pd.DataFrame(rows, columns=["rule", "statement", "comparisons"])


def claims() -> list[Judged]:
    """Every claim of the texts, held against the printed tables."""
    tables = audit.read()
    return [audit.judge(claim, tables) for claim in audit.claims()]


def claims_table(judged: Sequence[Judged]) -> pd.DataFrame:
    """Claims with what the printed numbers say of them."""
    rows = [
        {
            "claim": one.claim.words,
            "table": ", ".join(dict.fromkeys(_table(c.table) for c in one.claim.comparisons)),
            "as printed": one.outcome.value,
            "comparisons": len(one.sides),
            "hold": one.count(Outcome.HOLDS),
            "fail": one.count(Outcome.FAILS),
            "tie": one.count(Outcome.OPEN),
        }
        for one in judged
    ]
    return pd.DataFrame(rows)


def digests() -> pd.DataFrame:
    """The files that the audit reads, with their rows and SHA-256 digests."""
    folder = papers.repository() / "data" / "papers"
    tables = audit.read()
    rows = [
        {
            "file": f"data/papers/{name}",
            "rows": str(len(tables[key])) if (key := name.removesuffix(".csv")) in tables else "–",
            "SHA-256": hashlib.sha256((folder / name).read_bytes()).hexdigest()[:16],
        }
        for name in ("tables.yml", "claims.yml", *(f"{table}.csv" for table in tables))
    ]
    return pd.DataFrame(rows)


def provenance() -> HTML:
    """The digests, folded away until wanted."""
    shown = digests()
    caption = "What this page was computed from. Digests are cut to 16 digits."
    return HTML(
        f'<details class="pc-provenance"><summary>Provenance: {len(shown)} files</summary>'
        f"{show.table(shown, caption).data}</details>"
    )
