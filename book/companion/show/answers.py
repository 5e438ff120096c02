"""The answer that a computed page opens with: what its late cells found, under its question.

``companion.begin`` leaves an empty display there. Verdict boxes fill it, and :func:`answer` does on
pages that judge no claim. Jupyter, papermill and the site all keep the last state of a display, so
nothing is typed in and the answer stands first wherever the executed page is read.
"""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from enum import Enum

from IPython.display import HTML, update_display
from PIL import Image

from companion.build.parameters import ANSWER, remembered
from companion.claims.verdicts import Check, Finding, Label, Reach
from companion.numbers import ends, number, places

# How far evidence reaches; what reaches farther stands first.
_REACHES = (Reach.CANNOT_TELL, Reach.REDUCED, Reach.PAPER, Reach.EXACT)
_AT = {
    Reach.REDUCED: " at reduced scale",
    Reach.PAPER: " at the paper&#x27;s own scale",
}
_WORDS = {  # in counts: of one, and of several
    Label.HOLDS: ("holds", "hold"),
    Label.CORRECTED: ("holds in a corrected form", "hold in a corrected form"),
    Label.FAILS: ("fails", "fail"),
    Label.CANNOT_TELL: ("cannot be told at this scale",) * 2,
}


def kind(word: Enum) -> str:
    """The part of a class name that an outcome, or a label, is styled by."""
    return word.name.lower().replace("_", "-")


def badge(label: Label) -> str:
    """A label's word, styled."""
    return f'<strong class="pc-badge pc-{kind(label)}">{html.escape(label.value)}</strong>'


def measured(check: Check) -> str:
    """What a check measured: a mean with its interval, or words."""
    own = check.measured
    if check.words or own.n == 1:
        shown = "0.000" if abs(own.mean) < 1e-4 else number(own.mean)
        return html.escape(check.words) or f"{shown}, one seed"
    if own.half == 0.0:
        return f"{own.mean:g}, the same for all {own.n}".replace("-", "−")
    mean, low, high = ends(own[:3], places(own.half, check.slack * own.half))
    return f"{mean} [{low}, {high}], n = {own.n}"


def decisive(finding: Finding) -> str:
    """The number that decides a finding, with its interval and the rule it is held against."""
    check = finding.deciding
    if check is None:
        return html.escape(
            f"{finding.reason[:1].upper()}{finding.reason[1:]}." if finding.reason else ""
        )
    return (
        f"{html.escape(check.quantity)}: <b>{measured(check)}</b> "
        f"(the rule: {html.escape(check.rule)})."
    )


def tally(labels: Counter[str]) -> str:
    """Counts of labels in words: "2 hold, 1 is mixed"."""
    words = []
    for label in Label:
        if count := labels.get(label.value, 0):
            one, several = _WORDS.get(label, (f"is {label.value}", f"are {label.value}"))
            words.append(f"{count} {one if count == 1 else several}")
    return ", ".join(words)


def note_finding(finding: Finding) -> str:
    """Note a finding of this page for its answer; returns the anchor of its verdict box."""
    stem = f"verdict-{finding.item or 'own'}"
    if "live" not in remembered:
        return stem
    places: dict[tuple[str, str, str], str] = remembered.setdefault("places", {})
    key = (finding.item, finding.claim, finding.scale)
    if key not in places:
        taken = sum(name == stem or name.startswith(f"{stem}--") for name in places.values())
        places[key] = f"{stem}--{taken + 1}" if taken else stem
    remembered.setdefault("findings", {})[key] = finding
    return places[key]


def note_figure(
    picture: bytes, alt: str, look: str, part: tuple[float, float, float, float]
) -> str:
    """Note a figure of this page; a part of the first one is shown small beside the answer.

    Args:
        picture: PNG.
        alt: plain text.
        look: classes of the figure, after a space.
        part: left, top, right and bottom of what is shown small, as shares of the picture.

    Returns:
        The figure's anchor.
    """
    anchors: dict[str, str] = remembered.setdefault("figures", {})
    anchor = anchors.setdefault(alt, f"figure-{len(anchors) + 1}")
    if len(anchors) == 1:
        whole = Image.open(io.BytesIO(picture)).convert("RGB")
        left, top, right, bottom = (n * whole.size[k % 2] for k, n in enumerate(part))
        small = whole.crop((int(left), int(top), int(right), int(bottom)))
        small.thumbnail((320, 320))
        buffer = io.BytesIO()
        small.save(buffer, format="WEBP", quality=80, method=4)
        data = base64.b64encode(buffer.getvalue()).decode()
        remembered["picture"] = (
            f'<a class="pc-thumb{look}" href="#{anchor}"><img class="dark-light" alt="'
            f'{html.escape(f"To the figure: {alt}")}" src="data:image/webp;base64,{data}"></a>'
        )
    return anchor


# What answers a question best: a decision, then what was measured without one.
_SAYS = {Label.NOT_CHECKABLE: 0, Label.NOT_RUN: 0, Label.CANNOT_TELL: 1, Label.UNDECIDED: 1}


def _rank(finding: Finding) -> tuple[int, int]:
    reached = _REACHES.index(finding.reach) if finding.reach in _REACHES else -1
    return _SAYS.get(finding.label, 2), reached


def _chosen() -> list[tuple[Finding, str]]:
    """One finding for each claim, that which reaches farthest, in the order of the answer.

    Those that are decided come first, otherwise they stay in the page's order.  Where a page
    measures something, what is true by mathematics comes last: it is no answer to its question.
    """
    best: dict[str, tuple[Finding, str]] = {}
    for key, finding in remembered.get("findings", {}).items():
        name = finding.item or finding.claim
        if name not in best or _rank(finding) > _rank(best[name][0]):
            best[name] = (finding, remembered["places"][key])
    measures = any(finding.reach is not Reach.EXACT for finding, _ in best.values())

    def place(pair: tuple[Finding, str]) -> tuple[bool, int]:
        says, _ = _rank(pair[0])
        return measures and pair[0].reach is Reach.EXACT, -says

    return sorted(best.values(), key=place)


def _line(finding: Finding, anchor: str) -> str:
    where = "" if finding.reach.value in finding.label.value else _AT.get(finding.reach, "")
    where = " exactly" if (finding.label, finding.reach) == (Label.HOLDS, Reach.EXACT) else where
    return (
        f"{badge(finding.label)}{where}: {html.escape(finding.plain.rstrip('.'))}. "
        f'{decisive(finding)} <a href="#{anchor}">Evidence</a>'
    )


def _of_claims() -> str:
    """The answer from this page's verdicts: the first in full, and all of them folded away."""
    first, *others = _chosen()
    lead = f"<p><b>Answer.</b> {_line(*first)}</p>"
    if not others:
        return lead
    labels = Counter(finding.label.value for finding, _ in (first, *others))
    told = f": {tally(labels)}".replace(f": {len(others) + 1} ", " ")  # "… of this page hold"
    every = "Both" if len(others) == 1 else f"All {len(others) + 1}"
    lines = "".join(f"<li>{_line(*one)}</li>" for one in (first, *others))
    return (
        f"{lead}<details><summary>{every} claims of this page"
        f"{html.escape(told)}</summary><ul>{lines}</ul></details>"
    )


def refresh() -> None:
    """Show the answer anew, where a page has begun in a kernel."""
    if "live" not in remembered:
        return
    text = remembered.get("told") or _of_claims()
    parts = f"{remembered.get('picture', '')}<div>{text}</div>"
    shown = f'<aside class="{ANSWER}" aria-label="Answer">{parts}</aside>'
    update_display(HTML(shown), display_id=ANSWER)


def answer(text: str, evidence: str) -> None:
    """Answer the page's question, where it judges no claim.

    Args:
        text: one or two sentences of inline HTML with computed numbers.
        evidence: anchor of the section that holds the evidence.
    """
    link = f'<a href="#{html.escape(evidence)}">Evidence</a>'
    remembered["told"] = f"<p><b>Answer.</b> {text} {link}</p>"
    refresh()
