"""How a page shows a statement: its checks, and what they notice when a constant is wrong."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.claims.statements import Evidence, Examination, Standing
from companion.numbers import number
from companion.show.figures import COLOURS, canvas

__all__ = ["Frames", "canvas", "curve", "statement", "summary"]


class Frames(NamedTuple):
    """What a slider shows."""

    figures: list[Figure]
    labels: list[str]


def curve(
    axes: Axes, x: Any, y: Any, colour: str, style: str = "-", label: str | None = None
) -> None:
    """A curve, its colour by name."""
    axes.plot(x, y, style, color=COLOURS[colour], label=label, markersize=4)


def _row(evidence: Evidence, form: str) -> str:
    outcome = "holds" if evidence.holds else "fails"
    example = f"<br>{html.escape(evidence.counterexample)}" if evidence.counterexample else ""
    return (
        f"<tr><th scope='row'>{evidence.way.value}{form}</th>"
        f"<td class='pc-text'>{html.escape(evidence.compared)}</td>"
        f"<td class='pc-text'>{html.escape(evidence.result)}{example}</td>"
        f"<td>{evidence.trials:,}</td>"
        f"<td class='pc-{outcome}'>{outcome}</td></tr>"
    )


def _constant(value: float | str) -> str:
    """A number, or a piece of a formula as the code has it."""
    return f"<code>{html.escape(value)}</code>" if isinstance(value, str) else number(value, 4)


def _mutations(one: Examination) -> str:
    """One line a constant: the wrong value, and the checks that then fail."""
    if not one.mutations:
        return ""
    lines = [
        f"<li>{html.escape(m.constant.replace('_', ' '))}: {_constant(m.wrong)} in place of "
        f"{_constant(m.right)}; fails: {', '.join(m.noticed) or 'nothing'}</li>"
        for m in one.mutations
    ]
    return f"<p>With a wrong constant:</p><ul>{''.join(lines)}</ul>"


def _standing(one: Examination) -> str:
    """The standing in words; what is not an item of a paper was not printed as it stands here."""
    own = one.standing is Standing.TRUE and not one.statement.item
    return "holds as stated here" if own else one.standing.value


def statement(one: Examination) -> HTML:
    """The checks of a statement as a table, its standing, and its wrong constants."""
    rows = [] if one.printed is None else [_row(one.printed, ", as printed")]
    form = "" if one.printed is None else ", corrected"
    rows += [_row(evidence, form) for evidence in one.evidence]
    kind = {Standing.TRUE: "holds", Standing.CORRECTED: "corrected", Standing.OPEN: "fails"}
    about = one.statement
    return HTML(
        f'<section class="pc-verdict pc-verdict-{kind[one.standing]}">'
        f"<p><strong>{html.escape(about.id)}, {html.escape(about.name)}: "
        f"{_standing(one)}</strong> ({html.escape(about.paper)}). "
        f"{html.escape(about.claim)}</p>"
        '<div class="pc-table"><table><thead><tr><th>check</th><th>compared</th><th>result</th>'
        f"<th>number</th><th>outcome</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"{_mutations(one)}</section>"
    )


def summary(examinations: Sequence[Examination]) -> HTML:
    """All statements of a page in one table."""
    rows = []
    for one in examinations:
        draws = sum(evidence.trials for evidence in one.evidence)
        noticed = sum(bool(mutation.noticed) for mutation in one.mutations)
        rows.append(
            f"<tr><th scope='row'>{html.escape(one.statement.id)}</th>"
            f"<td class='pc-text'>{html.escape(one.statement.name)}</td>"
            f"<td class='pc-text'>{html.escape(one.statement.paper)}</td>"
            f"<td class='pc-text'>{_standing(one)}</td>"
            f"<td>{draws:,}</td><td>{noticed} of {len(one.mutations)}</td></tr>"
        )
    return HTML(
        '<div class="pc-table"><table><caption>Every statement of this page, and whether it is '
        "true as printed. The last column counts the wrong constants that some check notices."
        "</caption><thead><tr><th>statement</th><th>about</th><th>place</th><th>standing</th>"
        "<th>identities, samples and examples</th><th>wrong constants noticed</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
