"""What a page shows: figures with captions, tables, verdicts, and where numbers come from.

Everything is plain HTML with data inside, so that it reads the same in Jupyter, in an executed
notebook and in the static site, without any request to another place.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from companion.claims.premises import Premise
from companion.claims.verdicts import Check, Finding, Role
from companion.numbers import number
from companion.show.answers import (
    badge,
    decisive,
    kind,
    measured,
    note_figure,
    note_finding,
    refresh,
)
from companion.show.figures import first_panel, has_shades, png

__all__ = ["figure", "premise", "provenance", "table", "verdict"]


def figure(shown: Figure, caption: str, alt: str) -> HTML:
    """A figure with a caption that says what to see and a text for those who cannot see it.

    Args:
        shown: from :mod:`companion.show.figures`.
        caption: plain text or inline HTML.
        alt: plain text.
    """
    picture = png(shown)
    # In the dark lines and letters are turned light; shades that say something are left alone.
    look = "" if has_shades(shown) else " pc-ink"
    data = base64.b64encode(picture).decode()
    anchor = note_figure(picture, alt, look, first_panel(shown))
    width = shown.get_figwidth()
    look += " pc-wide" if width > _PAGE else ""
    # On a phone a wide figure scrolls sideways rather than shrinks until it cannot be read.
    least = f"min-width:{width * 0.55:.1f}in;" if width > 8 else ""
    return HTML(
        f'<figure class="pc-figure{look}" id="{anchor}"><div style="overflow-x:auto">'
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" '
        f'style="width:{width * 1.1:.1f}in;{least}"></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _is_text(cells: Sequence[str]) -> bool:
    """Whether a column holds words: these stand at the left, numbers at the right."""
    wordy = [not cell[:1].isdigit() and cell[:1] not in "−–+∞·" for cell in cells if cell]
    return 2 * sum(wordy) > len(cells)


_PAGE = 10  # inches; what is wider gets the margin too, as a wide table does
_COLUMN = 95  # letters that fit beside each other in the column of text


def _is_wide(rows: pd.DataFrame, cell: Callable[[Any], str]) -> bool:
    """Whether a table needs more room than the column of text, so that it gets the margin too."""
    longest = [
        min(max([len(cell(value)) for value in rows[name]], default=0), 30) for name in rows.columns
    ]
    heads = [max(map(len, str(name).split() or [""])) for name in rows.columns]
    return sum(max(pair) + 3 for pair in zip(longest, heads, strict=True)) > _COLUMN


def table(
    rows: pd.DataFrame,
    caption: str,
    digits: int = 3,
    bold: Collection[tuple[int, str]] = (),
    sortable: bool = False,
    links: Mapping[tuple[int, str], str] | None = None,
) -> HTML:
    """A table whose numbers are formatted and whose first column names the rows.

    Args:
        rows: shown without its index; text stays as it is.
        caption: plain text or inline HTML, with units.
        digits: after the point.
        bold: cells to set in bold, as (row number, column name).
        sortable: whether readers can sort and filter it in the site; without scripts it is a
            plain table.
        links: where cells lead to, as (row number, column name) -> address.
    """
    targets = links or {}

    def cell(value: Any) -> str:
        shown = value if isinstance(value, str) else number(value, digits)
        return html.escape(shown)

    words = [_is_text([cell(value) for value in rows[name]]) for name in rows.columns]
    kinds = [' class="pc-text"' if is_text else "" for is_text in words]
    head = "".join(
        f'<th scope="col"{kind}>{html.escape(str(name))}</th>'
        for name, kind in zip(rows.columns, kinds, strict=True)
    )
    body = []
    for place, row in enumerate(rows.itertuples(index=False)):
        shown = [cell(value) for value in row]
        for column, name in enumerate(rows.columns):
            if (place, name) in bold:
                shown[column] = f"<strong>{shown[column]}</strong>"
            if (place, name) in targets:
                address = html.escape(targets[place, name], quote=True)
                shown[column] = f'<a href="{address}">{shown[column]}</a>'
        cells = f'<th scope="row">{shown[0]}</th>' + "".join(
            f"<td{kind}>{value}</td>" for value, kind in zip(shown[1:], kinds[1:], strict=True)
        )
        body.append(f"<tr>{cells}</tr>")
    kind = (" pc-sortable" if sortable else "") + (" pc-wide" if _is_wide(rows, cell) else "")
    return HTML(
        f'<div class="pc-table{kind}"><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


_ROLES = {  # in the order of the rows
    Role.PREMISE: "Premises: what the claim takes for granted",
    Role.PRINTED: "The printed form",
    Role.CENTRAL: "Central: these decide",
    Role.SIDE: "Side checks: for information only",
}


def _check_row(check: Check) -> str:
    return (
        f"<tr><th scope='row'>{html.escape(check.quantity)}</th>"
        f"<td>{html.escape(check.rule)}</td><td>{measured(check)}</td>"
        f"<td class='pc-{kind(check.outcome)}'>"
        f"{html.escape(check.outcome.value)}</td></tr>"
    )


def _group(finding: Finding, role: Role) -> str:
    """The checks of one role as a body of the table, under a line that counts them."""
    rows = "".join(_check_row(check) for check in finding.checks if check.role is role)
    head = html.escape(f"{_ROLES[role]}. {finding.counts(role).sentence('').replace('  ', ' ')}")
    named = f"<tr class='pc-group'><th colspan='4' scope='rowgroup'>{head}</th></tr>"
    return f"<tbody>{named}{rows}</tbody>" if rows else ""


def _checks(finding: Finding) -> str:
    """The claim in the words that are checked, and every check, folded away."""
    if not finding.checks:
        return ""
    groups = "".join(_group(finding, role) for role in _ROLES)
    return (
        "<details><summary>Rules, measurements and intervals</summary>"
        f"<p>As checked: {html.escape(finding.claim.rstrip('.'))}.</p>"
        '<div class="pc-table"><table><thead><tr><th>measured</th><th>rule</th>'
        f"<th>value [95 % interval]</th><th>check</th></tr></thead>{groups}</table></div></details>"
    )


def _scale(finding: Finding) -> str:
    """Which claim it is, where the evidence is from, and how far it reaches."""
    item = f"<code>{html.escape(finding.item)}</code>" if finding.item else "own question"
    if finding.scale in ("exact", "paper"):
        return f"{item}, {html.escape(finding.reach.value)}"
    words = f"{item}, {html.escape(finding.scale)} scale"
    shown = finding.reach.value in finding.label.value
    return words if shown else f"{words}: {html.escape(finding.reach.value)}"


def _sentences(finding: Finding) -> str:
    """The finding in words: the claim and what became of it, its counts, what decides it."""
    lead = f"{badge(finding.label)} {html.escape(finding.plain.rstrip('.'))}"
    counts = f": {html.escape(finding.sentence)}" if finding.checks else ""
    reason = f"Reason: {html.escape(finding.reason)}. " if finding.reason else ""
    lead_in = "For example" if finding.reason else "What decides"
    decided = f"{lead_in}: {decisive(finding)} " if finding.deciding else ""
    return f"<p>{lead}{counts}.</p><p>{reason}{decided}({_scale(finding)})</p>"


def verdict(*findings: Finding) -> HTML:
    """Verdicts in words, with the rules and the measured intervals that they follow from."""
    parts = []
    for finding in findings:
        reason = f'data-reason="{html.escape(finding.reason)}" ' if finding.reason else ""
        parts.append(
            f'<section class="pc-verdict pc-verdict-{kind(finding.label)}" '
            f'id="{note_finding(finding)}" data-item="{html.escape(finding.item)}" '
            f'data-scale="{html.escape(finding.scale)}" '
            f'data-outcome="{html.escape(finding.verdict.value)}" '
            f'data-reach="{html.escape(finding.reach.value)}" {reason}'
            f'data-verdict="{html.escape(finding.label.value)}">{_sentences(finding)}{_checks(finding)}'
            "</section>"
        )
    if findings:
        refresh()
    return HTML("".join(parts))


def premise(held: Mapping[str, Premise]) -> HTML:
    """Whether each set of results can tell methods apart: a line of finding, and the three parts.

    Below it is where the numbers come from, as not every page shows these runs elsewhere.

    Args:
        held: title of the results -> their premise.
    """
    words = [one.word for one in held.values() if not one.exempt]
    met, kinds = words.count("met"), {"met": "holds", "not met": "fails", "not shown": "undecided"}
    worst = next((w for w in ("not met", "not shown", "met") if w in words), "not shown")
    count = (
        f"met in {met} of {len(words)}" if words else "not asked, as smoke scale decides nothing"
    )
    rows = []
    for title, one in held.items():
        cells = "".join(
            f"<td class='pc-{_PART[part.holds]}' title='{html.escape(part.rule)}'>"
            f"{html.escape(part.numbers)}</td>"
            for part in one.parts
        )
        rows.append(
            f"<tr><th scope='row'>{html.escape(title)}</th>"
            f"<td class='pc-{kinds.get(one.word, 'undecided')}'>{one.word}</td>{cells}</tr>"
        )
    sentences = " ".join(
        f"{html.escape(title)}: {html.escape(one.sentence)}." for title, one in held.items()
    )
    heads = (
        [f"{part.name} ({part.rule})" for part in next(iter(held.values())).parts] if held else []
    )
    titles = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
    origins = [r.provenance for one in held.values() for r in one.used if "key" in r.provenance]
    return HTML(
        f'<section class="pc-verdict pc-premise pc-verdict-{kinds[worst]}" data-premise="{count}">'
        f"<p><strong>Premise: {count}</strong> {sentences}</p>"
        f'<div class="pc-table"><table><thead><tr><th>results</th><th>premise</th>{titles}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div></section>"
        + (provenance(origins).data if origins else "")
    )


_PART = {True: "holds", False: "fails", None: "undecided"}


def _library(source: dict[str, Any]) -> str:
    """Digest of the sources that trained a run, and of those that measured it again, if any did."""
    again = source.get("measured")
    if again is None:
        return str(source["sources"][:12])
    but = f", but its {again['but']}" if "but" in again else ""
    return f"{source['sources'][:12]}; measured again by {again['sources'][:12]}{but}"


def _machine(source: dict[str, Any]) -> str:
    """What a run was computed on, and its products if they were not in float32."""
    machine = f"{source['hardware']}, {source['threads']} thread, {source['device']}"
    training = source.get("precision", {}).get("training", "float32")
    return machine if training == "float32" else f"{machine}, {training} products in training"


def provenance(sources: Sequence[dict[str, Any]]) -> HTML:
    """Where the numbers of a page come from: one line per run, folded away until wanted.

    Args:
        sources: provenance of runs and reference results, with their ``kind``.
    """
    rows = []
    for source in sources:
        spec = source["spec"]
        cells = [
            source.get("kind", "this build"),
            f"{spec['recipe']}, {spec['method']}, {spec['scale']}, seed {spec['seed']}",
            source["key"][:12],
            _library(source),
            source["data"][:12],
            _machine(source),
            f"torch {source['torch']}, Python {source['python']}",
            f"{number(float(source['seconds']), 0)} s",
            source["finished"],
        ]
        rows.append("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in cells) + "</tr>")
    head = (
        "origin",
        "run",
        "key",
        "library",
        "data",
        "hardware",
        "software",
        "training",
        "finished",
    )
    titles = "".join(f"<th>{name}</th>" for name in head)
    runs = "1 run" if len(rows) == 1 else f"{len(rows)} runs"
    return HTML(
        f'<details class="pc-provenance"><summary>Provenance: {runs}</summary>'
        f'<div class="pc-table"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )
