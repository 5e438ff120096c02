"""The status page: every item has a place, and nothing on it is typed in."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from companion import show
from companion.build import batch, reader, sources
from companion.build.parameters import Page
from companion.claims.printed import inventory
from companion.claims.verdicts import Check, Interval, Outcome, Verdict, decide
from companion.papers import status
from pages_help import notebook, small_book, text_of
from posterior_collapse.errors import BadInput

SHOWN = (
    "from companion.claims import verdicts\n"
    "from companion import show\n"
    "check = verdicts.below('KL, nats', [0.1, 0.2, 0.1], {bound})\n"
    "show.verdict(verdicts.decide('{item}', '{scale}', [check]))"
)


def check(outcome: Outcome) -> Check:
    return Check("q", "r", Interval(0.0, 0.0, 0.0, 2), outcome)


def executed(*found: object) -> nbformat.NotebookNode:
    """A notebook whose cells show these verdicts."""
    book = notebook(*["pass"] * len(found))
    for cell, one in zip(book.cells[3:], found, strict=True):
        data = {"text/html": show.verdict(one).data}  # type: ignore[arg-type]
        cell.outputs = [nbformat.v4.new_output("display_data", data=data)]
    return book


def test_every_item_is_tagged_on_a_page_or_says_why_not(root: Path) -> None:
    places, excused = status.homes(root), status.unchecked()
    missing = sorted(set(inventory()) - set(places) - set(excused))
    assert not missing, "no page and no reason in data/papers/unchecked.yml"
    both = sorted(set(places) & set(excused))
    assert not both, "has a page, so unchecked.yml must not excuse it"
    assert all(len(entry["reason"]) > 15 for entry in excused.values())


def test_a_page_that_tags_an_unknown_item_is_refused(tmp_path: Path) -> None:
    book = notebook("1 + 1")
    book.cells[-1].metadata["tags"] = ["lagging-fig22"]
    folder = small_book(tmp_path / "book", {"wrong": book})
    with pytest.raises(BadInput, match='did you mean "lagging-fig2"'):
        status.homes(folder)


def test_boxes_are_read_back_as_they_were_shown() -> None:
    holds = decide("lagging-fig2", "paper", [check(Outcome.HOLDS)])
    mixed = decide("du-eq3", "exact", [check(Outcome.HOLDS), check(Outcome.FAILS)])
    lost = decide("du-tab1", "smoke", [check(Outcome.HOLDS)])
    unsaid = ("du-tab1", "smoke", "this scale can't tell")
    assert status.boxes(executed(holds, mixed, lost), "p.ipynb") == [
        status.Box("lagging-fig2", "paper", "holds", "p.ipynb", "", "verdict-lagging-fig2"),
        status.Box("du-eq3", "exact", "mixed", "p.ipynb", "", "verdict-du-eq3"),
        status.Box(*unsaid, "p.ipynb", lost.reason, "verdict-du-tab1"),
    ]


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        (["holds"], "holds"),
        (["holds", "holds"], "holds"),
        (["holds", "fails"], "mixed"),
        (["holds", "not reproduced at reduced scale"], "mixed"),
        (["holds", "false as printed, corrected"], "false as printed, corrected"),
        (["fails", "not run"], "fails"),
        (["not run"], "not run"),
        (["not run", "this scale can't tell", "undecided"], "undecided"),
        (["not checkable by computation", "not run"], "not run"),
    ],
)
def test_boxes_at_one_scale_give_one_verdict(verdicts: list[str], told: str) -> None:
    assert status.overall(verdicts) == told


def test_the_largest_scale_that_decided_anything_counts() -> None:
    found = [
        status.Box("lagging-fig2", "quick", "fails", "a.ipynb"),
        status.Box("lagging-fig2", "paper", "holds", "b.ipynb"),
        status.Box("lagging-fig1", "quick", "holds", "a.ipynb"),
        status.Box("lagging-fig1", "paper", "undecided", "b.ipynb"),
    ]
    told = {one.item: one for one in status.statuses(found)}
    assert (told["lagging-fig2"].verdict, told["lagging-fig2"].scale) == ("holds", "paper")
    assert (told["lagging-fig1"].verdict, told["lagging-fig1"].scale) == ("holds", "quick")
    assert told["lagging-fig2"].pages == ("a.ipynb", "b.ipynb")
    assert len(told) == 69
    counted = status.counts(list(told.values())).set_index("paper")
    assert counted.loc["all five", "items"] == 69
    assert counted.loc["lagging", "holds"] == 2
    assert counted.loc["du-vae", "not run"] == 12
    with pytest.raises(BadInput, match="did you mean"):
        status.statuses([status.Box("lagging-fig22", "quick", "holds", "a.ipynb")])


def test_what_was_not_reproduced_is_counted_apart_from_what_fails() -> None:
    fails = [check(Outcome.FAILS)]
    found = status.boxes(
        executed(
            decide("du-tab1", "medium", fails),
            decide("du-tab2", "large", fails),
            decide("du-eq3", "exact", fails),
        ),
        "notebooks/p.ipynb",
    )
    counted = status.counts(status.statuses(found)).set_index("paper").loc["du-vae"]
    assert counted["fails"] == 2 and counted["not reproduced at reduced scale"] == 1
    shown = status.table(status.statuses(found), "c").data
    assert shown.count("pc-not-reproduced") == 1 and shown.count("pc-fails") == 2
    # The paper's own scale decides over a reduced one, whatever that says.
    both = [*found, status.Box("du-tab2", "medium", "holds", "notebooks/q.ipynb")]
    told = {one.item: one for one in status.statuses(both)}
    assert (told["du-tab2"].verdict, told["du-tab2"].scale) == ("fails", "large")


def test_only_the_rule_makes_verdicts(root: Path) -> None:
    """Verdict boxes come from show.verdict alone, and it takes findings, which the rules make."""
    library = root / "book" / "companion"
    writers = [p.name for p in library.rglob("*.py") if "data-verdict=" in p.read_text("utf-8")]
    assert writers == ["boxes.py"]
    makers = [p.name for p in library.rglob("*.py") if " Finding(" in p.read_text("utf-8")]
    assert makers == ["verdicts.py"]
    for name in sources.list_notebooks(root):
        text = (root / name).read_text(encoding="utf-8")
        assert "data-verdict" not in text and "Finding(" not in text, name
        assert not any(f"Verdict.{verdict.name}" in text for verdict in Verdict), name


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book of two pages with verdicts and a status page."""
    gathering = notebook(
        "from companion import status\nprint(status.collect(page))",
    )
    gathering.metadata["posterior_collapse"] = {"runs": [], "reads": "pages"}
    one = notebook(SHOWN.format(item="lagging-fig2", scale="quick", bound=1))
    two = notebook(SHOWN.format(item="lagging-fig3", scale="quick", bound=-1))
    folder = small_book(tmp_path / "book", {"papers/status": gathering, "one": one, "two": two})
    monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(folder)
    return folder


def test_the_status_page_comes_after_the_others_and_again_when_they_change(book: Path) -> None:
    plan = batch.make_plan(batch.book_jobs(book), book)
    label = {name: entry["label"] for name, entry in plan["pages"].items()}
    waits = {label[name]: entry["pages"] for name, entry in plan["pages"].items()}
    first = waits.pop("notebooks/papers/status.ipynb")
    assert sorted(label[name] for name in first) == sorted(waits)
    assert not any(waits.values())

    text = (book / "notebooks/papers/status.ipynb").read_text(encoding="utf-8")
    before = reader.page_key(text, {}, book)
    changed = notebook(SHOWN.format(item="lagging-fig2", scale="quick", bound=0.01))
    (book / "notebooks/one.ipynb").write_text(text_of(changed), encoding="utf-8")
    assert reader.page_key(text, {}, book) != before


def test_collect_executes_what_is_missing(book: Path) -> None:
    found = status.collect(Page("quick", (0, 1), "auto"))
    assert {(box.item, box.verdict) for box in found} == {
        ("lagging-fig2", "holds"),
        ("lagging-fig3", "not reproduced at reduced scale"),
    }
    assert json.loads((book / "notebooks/one.ipynb").read_text())["cells"]
