"""The status of every item of the inventory, gathered from what the other pages show.

Nothing is decided here.
A verdict box of a page carries its item, its scale and its verdict; this module reads the boxes of
the executed pages, so the status page cannot say anything that no page shows.
"""

from __future__ import annotations

import functools
import html
from collections import Counter
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote

import nbformat
import pandas as pd
import yaml
from IPython.display import HTML

from companion.build import reader, sources
from companion.build.parameters import Page
from companion.claims.printed import inventory, plain, repository
from companion.claims.verdicts import Label, Reach, reach
from companion.show.answers import kind, tally
from posterior_collapse.errors import BadInput, nearest

SOURCE = "notebooks/papers/status.ipynb"
# Labels that decide nothing, the one that tells most first.
_UNDECIDED = (
    Label.UNDECIDED.value,
    Label.CANNOT_TELL.value,
    Label.NOT_RUN.value,
    Label.NOT_CHECKABLE.value,
)
_REACHES = (Reach.CANNOT_TELL, Reach.REDUCED, Reach.PAPER, Reach.EXACT)  # the later decides
_SCALES = ("smoke", "quick", "medium", "large", "paper", "exact")  # of one reach, the same
_HARDWARE = {
    "cpu": "feasible on 2 cores",
    "gpu": "needs a GPU",
    "any": "mathematics, nothing to train",
    "none": "a survey of people",
}


class Box(NamedTuple):
    """A verdict box of an executed page."""

    item: str
    scale: str
    verdict: str
    page: str  # source notebook, relative to the root
    reason: str = ""  # why nothing is said of the claim; empty where something is
    anchor: str = ""  # of the box in its page


class Status(NamedTuple):
    """What the book says of an item."""

    item: str
    verdict: str
    scale: str  # of the boxes that decide
    pages: tuple[str, ...]  # with the anchor of the first box of each, as in "a.ipynb#verdict-x"
    reason: str  # why there is no verdict; empty where there is one


class _Reader(HTMLParser):
    """Collects the attributes of verdict boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, str, str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a section that carries an item and a verdict."""
        values = {name: value or "" for name, value in attrs}
        if tag == "section" and values.get("data-item"):
            named = values["data-item"], values.get("data-scale", ""), values["data-verdict"]
            self.rows.append((*named, values.get("data-reason", ""), values.get("id", "")))


def boxes(notebook: Any, page: str) -> list[Box]:
    """The verdict boxes in the outputs of an executed page."""
    parser = _Reader()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/html", "")
            parser.feed(text if isinstance(text, str) else "".join(text))
    return [
        Box(item, scale, verdict, page, reason, anchor)
        for item, scale, verdict, reason, anchor in parser.rows
    ]


def homes(root: Path) -> dict[str, list[str]]:
    """Item -> the pages of the book with a cell tagged for it.

    Raises:
        BadInput: a cell is tagged with what looks like an item and is none, with the nearest one.
    """
    known = inventory()
    prefixes = {item.partition("-")[0] for item in known}
    pages: dict[str, list[str]] = {}
    for name in sources.toc_notebooks(root):
        notebook = sources.parse((root / name).read_text(encoding="utf-8"), name)
        tags = {tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
        for tag in sorted(tags):
            if tag in known:
                pages.setdefault(tag, []).append(name)
            elif tag.partition("-")[0] in prefixes and "-" in tag:
                raise BadInput(f"{name}: {nearest(tag, known, 'item of the inventory')}")
    return pages


@functools.lru_cache(maxsize=1)
def unchecked() -> dict[str, dict[str, str]]:
    """Items without a verdict: item -> ``state`` and ``reason``.

    Raises:
        BadInput: an item or a state is unknown, with the nearest one.
    """
    text = (repository() / "data" / "papers" / "unchecked.yml").read_text(encoding="utf-8")
    entries: dict[str, dict[str, str]] = yaml.safe_load(text) or {}
    for item, entry in entries.items():
        if item not in inventory():
            raise BadInput(nearest(item, inventory(), "item of the inventory"))
        if entry["state"] not in _UNDECIDED:
            raise BadInput(nearest(entry["state"], _UNDECIDED, "state of an unchecked item"))
    return entries


def _overrides(root: Path, page: Page) -> dict[str, object]:
    """Parameters of this page that differ from its source's: the other pages get them too."""
    text = (root / SOURCE).read_text(encoding="utf-8")
    own = sources.default_parameters(sources.parse(text, SOURCE), SOURCE)
    given: dict[str, object] = {"scale": page.scale, "seeds": list(page.seeds)}
    return {name: value for name, value in given.items() if value != own.get(name)}


def _executed(root: Path, name: str, parameters: Mapping[str, object]) -> Any:
    """The executed form of a page, from the store or executed now."""
    text = (root / name).read_text(encoding="utf-8")
    declared = sources.default_parameters(sources.parse(text, name), name)
    taken = {key: value for key, value in parameters.items() if key in declared}
    injected = {**reader.injected_parameters(declared), **taken}
    return nbformat.read(reader.execute(text, injected, root, name), as_version=4)


def collect(page: Page) -> list[Box]:
    """The verdict boxes of every page of the book; a page that is not stored is executed."""
    root, parameters = sources.find_root(), _overrides(sources.find_root(), page)
    every: list[Box] = []
    for name in sources.toc_notebooks(root):
        source = sources.parse((root / name).read_text(encoding="utf-8"), name)
        if not sources.reads_pages(source):
            every += boxes(_executed(root, name, parameters), name)
    return every


def _rank(box: Box) -> tuple[int, int]:
    """Of how far a box reaches, and then of the largest scale that it names."""
    named = [word for word in _SCALES if word in box.scale.split()]
    if not named:
        return -1, -1
    reached = reach(box.item, box.scale)
    return _REACHES.index(reached), _SCALES.index(named[-1])


def overall(verdicts: Sequence[str]) -> str:
    """One label from those of several boxes of one reach.

    Boxes that decide nothing count only where there are no others; what one page cannot check at
    all, another may check by a measure that stands for it.
    Boxes that decide and differ are mixed, but for a statement of which one form is corrected.
    """
    decided = {verdict for verdict in verdicts if verdict not in _UNDECIDED}
    if decided == {Label.HOLDS.value, Label.CORRECTED.value}:
        return Label.CORRECTED.value
    if decided:
        return decided.pop() if len(decided) == 1 else Label.MIXED.value
    return min(verdicts, key=_UNDECIDED.index)


def _status(item: str, own: Sequence[Box], pages: Sequence[str]) -> Status:
    """Of the boxes that decided anything, those that reach farthest decide."""
    entry = unchecked().get(item)
    if not own:
        state = entry or {"state": Label.NOT_RUN.value, "reason": "its page shows no verdict"}
        return Status(item, state["state"], "–", tuple(pages), state["reason"])
    deciding = [box for box in own if box.verdict not in _UNDECIDED] or list(own)
    best = max(map(_rank, deciding))
    chosen = [box for box in deciding if _rank(box) == best]
    scales = ", ".join(dict.fromkeys(box.scale for box in chosen))
    verdict = overall([box.verdict for box in chosen])
    given = "; ".join(dict.fromkeys(box.reason for box in chosen if box.reason))
    reason = given if verdict in _UNDECIDED else ""
    anchors = {box.page: box.anchor for box in reversed([*chosen, *own])}
    shown = tuple(f"{p}#{anchors[p]}".rstrip("#") for p in dict.fromkeys(b.page for b in own))
    return Status(item, verdict, scales, shown, reason)


def statuses(every: Sequence[Box]) -> list[Status]:
    """Every item of the inventory, in its order.

    Raises:
        BadInput: a box names an item that the inventory lacks.
    """
    known, places = inventory(), homes(sources.find_root())
    for box in every:
        if box.item not in known:
            raise BadInput(f"{box.page}: {nearest(box.item, known, 'item of the inventory')}")
    return [
        _status(item, [box for box in every if box.item == item], places.get(item, []))
        for item in known
    ]


def counts(items: Sequence[Status]) -> pd.DataFrame:
    """How many items of each paper have which label: what failed at the paper's own scale, or
    exactly, stands apart from what was not reproduced at a reduced one.
    """
    names = [label.value for label in Label]
    frame = pd.DataFrame(
        [{"paper": inventory()[one.item]["paper"], "verdict": one.verdict} for one in items]
    )
    table = pd.crosstab(frame["paper"], frame["verdict"]).reindex(columns=names, fill_value=0)
    table = table.reindex(list(dict.fromkeys(frame["paper"])))
    table.loc["all five"] = table.sum()
    table.insert(0, "items", table.sum(axis=1))
    return table.reset_index().rename_axis(None, axis=1)


def summary(items: Sequence[Status]) -> str:
    """How many items have which verdict, in a sentence."""
    return f"Of {len(items)} items {tally(Counter(one.verdict for one in items))}."


def bar(items: Sequence[Status], page: str) -> HTML:
    """The counts as one bar, each part a link to the rows that it counts.

    Args:
        items: every item.
        page: address of the status page from where the bar stands; empty on the page itself.
    """
    counted = Counter(one.verdict for one in items)
    parts = []
    for label in Label:
        if not (count := counted.get(label.value, 0)):
            continue
        title = html.escape(f"{count} {label.value}")
        parts.append(
            f'<a class="pc-part pc-{kind(label)}" style="flex-grow:{count}" title="{title}" '
            f'href="{page}#verdict={quote(label.value)}"><b>{count}</b> '
            f"<span>{html.escape(label.value)}</span></a>"
        )
    return HTML(f'<nav class="pc-bar" aria-label="Items by verdict">{"".join(parts)}</nav>')


def _link(page: str) -> str:
    """A page as a link from the status page, for the site; to the box where it has one."""
    name, _, anchor = page.partition("#")
    inside = PurePosixPath(name).relative_to("notebooks")
    target = "../" + inside.with_suffix(".html").as_posix() + (f"#{anchor}" if anchor else "")
    return f'<a href="{target}">{html.escape(str(inside.with_suffix("")))}</a>'


def _row(one: Status) -> str:
    about = inventory()[one.item]
    styled = kind(Label(one.verdict))
    words = html.escape(one.verdict)
    if one.reason:
        words += f": <span class='pc-reason'>{html.escape(one.reason)}</span>"
    claimed = html.escape(plain(one.item))
    cells = [
        f"<td class='pc-text pc-{styled}' data-value='{html.escape(one.verdict)}'>{words}</td>",
        f"<th scope='row' class='pc-text' title='{html.escape(about['claim'])}'>{claimed} "
        f"<small><code>{html.escape(one.item)}</code>, {_HARDWARE[about['scale']]}</small></th>",
        f"<td class='pc-text'>{', '.join(_link(page) for page in one.pages) or '–'}</td>",
        f"<td class='pc-text pc-extra'>{html.escape(str(about['paper']))}</td>",
        f"<td class='pc-text pc-extra'>{html.escape(one.scale)}</td>",
    ]
    return f"<tr data-item='{html.escape(one.item)}'>{''.join(cells)}</tr>"


_HEADS = ("verdict", "claim", "pages", "paper", "scale here")
_CHOOSE = ("verdict", "paper", "scale here")  # columns by which readers filter


def table(items: Sequence[Status], caption: str) -> HTML:
    """Every item in a row; readers can sort and filter the rows in the site."""
    titles = "".join(
        f'<th scope="col" class="pc-text{" pc-extra" * (place > 2)}"'
        f"{' data-choose' * (head in _CHOOSE)}>{head}</th>"
        for place, head in enumerate(_HEADS)
    )
    return HTML(
        f'<div class="pc-table pc-sortable pc-cards"><table><caption>{caption}</caption>'
        f"<thead><tr>{titles}</tr></thead><tbody>{''.join(map(_row, items))}</tbody></table></div>"
    )
