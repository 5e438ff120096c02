"""What the page on the printed numbers shows: rules, findings, claims, and the files read."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Sequence

import pandas as pd
from IPython.display import HTML

from companion import audit, show
from companion.audit import Judged, Kind, Report
from companion.claims import printed as papers
from companion.claims.verdicts import Outcome
from posterior_collapse.errors import BadInput, nearest

_PAPERS = {"lagging": "Lagging", "autogen": "AutoGen", "igp": "IGP", "du": "DU-VAE"}
_PAPERS["scale"] = "Scale-VAE"


def reports() -> list[Report]:
    """The audit of every printed table that the repository has."""
    return audit.audit(audit.read())


def _table(name: str) -> str:
    """A table's name for a reader: ``Lagging, table 1``."""
    paper, _, place = name.partition("/")
    number = place.lstrip("abcdefghijklmnopqrstuvwxyz")
    return f"{_PAPERS[paper]}, {place.removesuffix(number)} {number}"


def _worded(text: str) -> str:
    """A text of the audit with its tables' names for a reader."""
    return re.sub(rf"(?:{'|'.join(_PAPERS)})/(?:table|figure)\d+", lambda m: _table(m[0]), text)


def result(results: Sequence[Report]) -> HTML:
    """One sentence: how much was compared, and how many findings there are of each kind."""
    counts = {
        kind: sum(len(report.found) for report in results if report.rule.kind is kind)
        for kind in Kind
    }
    words = ", ".join(
        f"{count} of the kind <em>{kind.value}</em>" for kind, count in counts.items()
    )
    checked = sum(report.checked for report in results)
    return HTML(
        f"<p class='pc-text'>{len(results)} rules made {checked:,} comparisons. "
        f"They report {sum(counts.values())} findings: {words}.</p>"
    )


def summary(results: Sequence[Report]) -> pd.DataFrame:
    """Every rule with its number of comparisons and of findings."""
    heads = ["rule", "kind", "comparisons", "findings"]
    rows = [(r.rule.title, r.rule.kind.value, r.checked, len(r.found)) for r in results]
    return pd.DataFrame(rows, columns=heads)


def _shared(values: Sequence[str]) -> str:
    """What all values are, or the empty string if they differ."""
    return values[0] if len(set(values)) == 1 else ""


def findings(report: Report) -> pd.DataFrame:
    """The findings of a rule; causes and meanings only where they differ."""
    excess = f"excess ({report.rule.unit})"
    heads = ["table", "row", "data set", "printed", excess, "likeliest cause", "for a reader"]
    rows = [
        (
            *(_table(one.table), one.row, one.dataset, _worded(one.printed), f"{one.excess:.3g}"),
            *(_worded(one.cause), one.meaning),
        )
        for one in report.found
    ]
    frame = pd.DataFrame(rows, columns=heads)
    return frame.drop(columns=[name for name in heads[-2:] if _shared(list(frame[name]))])


def _sentence(text: str) -> str:
    return html.escape(text[:1].upper() + text[1:].rstrip(".") + ".")


def section(results: Sequence[Report], rule: str) -> HTML:
    """A rule, what it allows, and its findings.

    Raises:
        BadInput: unknown rule, with the nearest one.
    """
    known = {report.rule.id: report for report in results}
    if rule not in known:
        raise BadInput(nearest(rule, known, "rule of the audit"))
    report, words = known[rule], known[rule].rule
    parts = [
        f"<p>{html.escape(words.states)}</p>",
        f"<p><strong>Allowed:</strong> {html.escape(words.tolerance)}. ",
        f"<strong>Kind:</strong> {words.kind.value}.</p>",
    ]
    if not report.found:
        parts.append(f"<p>Nothing is found in {report.checked} comparisons.</p>")
        return HTML("".join(parts))
    if cause := _shared([one.cause for one in report.found]):
        parts.append(f"<p><strong>Likeliest cause:</strong> {_sentence(_worded(cause))}</p>")
    if meaning := _shared([one.meaning for one in report.found]):
        parts.append(f"<p><strong>For a reader:</strong> {_sentence(meaning)}</p>")
    caption = (
        f"{html.escape(words.title)}: {len(report.found)} of {report.checked} comparisons. "
        "The excess is what is left after what the rule allows."
    )
    return HTML("".join(parts) + str(show.table(findings(report), caption).data))


def silent(results: Sequence[Report]) -> pd.DataFrame:
    """The rules without a finding, with what they compared."""
    rows = [(r.rule.title, r.rule.states, r.checked) for r in results if not r.found]
    return pd.DataFrame(rows, columns=["rule", "statement", "comparisons"])


def claims() -> list[Judged]:
    """Every claim of the texts, held against the printed tables."""
    tables = audit.read()
    return [audit.judge(claim, tables) for claim in audit.claims()]


def claims_table(judged: Sequence[Judged]) -> pd.DataFrame:
    """Claims with what the printed numbers say of them."""
    kinds = {"hold": Outcome.HOLDS, "fail": Outcome.FAILS, "tie": Outcome.OPEN}
    rows = [
        {
            "claim": one.claim.words,
            "table": ", ".join(dict.fromkeys(_table(c.table) for c in one.claim.comparisons)),
            "as printed": one.outcome.value,
            "comparisons": len(one.sides),
            **{name: one.count(outcome) for name, outcome in kinds.items()},
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
