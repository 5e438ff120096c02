"""Pages open with their answer: where it comes from, and what the site does with it."""

from __future__ import annotations

import base64
import importlib
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from docutils import nodes
from docutils.utils import new_document
from matplotlib.figure import Figure

from companion import front, show
from companion.build import extension, parameters, reader
from companion.build.parameters import ANSWER
from companion.claims import printed, reference, verdicts
from companion.claims.statements import Statement
from companion.claims.verdicts import Check, Interval, Label, Outcome, decide
from companion.front import home
from companion.methods import leaderboard
from companion.numbers import ends, spread
from companion.papers import status
from companion.show import answers
from pages_help import notebook, text_of
from posterior_collapse.errors import BadInput


def test_every_item_has_a_claim_in_plain_words() -> None:
    told = {item: printed.plain(item) for item in printed.inventory()}
    assert len(told) == len(set(told.values())) == 69
    for item, sentence in told.items():
        assert sentence[0].isupper() and sentence.endswith(".") and 40 < len(sentence) < 160, item
        short = {"AU", "NLL", "Rec", "MI", "IW", "MPD", "CE", "DGP", "IGP", "MoG"}
        assert not short & set(re.findall(r"\w+", sentence)), item
    with pytest.raises(BadInput, match='did you mean "du-tab1"'):
        printed.plain("du-tab11")


def test_every_statement_without_an_item_has_one_too(root: Path) -> None:
    names = (root / "book" / "companion").glob("*/statements*.py")
    modules = [importlib.import_module(f"companion.{p.parent.name}.{p.stem}") for p in names]
    every = [one for module in modules for one in vars(module).values()]
    own = {one.id for one in every if isinstance(one, Statement) and not one.item}
    assert len(own) > 20
    for name in own:
        sentence = printed.plain(name)
        assert 40 < len(sentence) < 160 and sentence.endswith("."), name
        assert not re.search(r"[=²√₊α-ω≤≥∫]", sentence), name


def check(quantity: str, outcome: Outcome, words: str = "") -> Check:
    return Check(quantity, "below 1", Interval(0.5, 0.25, 0.75, 3), outcome, words)


def test_the_deciding_check_has_the_verdicts_outcome_and_a_number_where_there_is_one() -> None:
    holds, fails = check("a", Outcome.HOLDS), check("b", Outcome.FAILS)
    said = check("c", Outcome.HOLDS, "three of three")
    assert decide("du-tab1", "quick", [said, holds]).deciding == holds
    assert decide("du-tab1", "quick", [said]).deciding == said
    mixed = decide("du-tab1", "quick", [holds, verdicts.side(check("d", Outcome.FAILS)), fails])
    assert mixed.deciding == fails
    near, far = (verdicts.below(f"{bound}", [0.1, 0.2, 0.1], bound) for bound in (0.5, 5.0))
    assert decide("du-tab1", "quick", [far, near]).deciding == near and near.slack < far.slack
    unmet = verdicts.premise(check("p", Outcome.FAILS))
    assert decide("du-tab1", "quick", [holds, unmet]).deciding == unmet
    smoke = decide("du-tab1", "smoke", [holds]).deciding
    assert smoke is not None and smoke.quantity == "a"
    assert verdicts.beyond("autogen-tab2", "quick", "people were asked").deciding is None


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((-1.7e-6, -8e-5, 4e-5), ("0.000", "0.000", "0.000")),
        ((3.1e-5, 2.9e-5, 3.3e-5), ("3.1e−05", "2.9e−05", "3.3e−05")),
        ((-0.2, -0.4, -1e-5), ("−0.200", "−0.400", "0.000")),
        ((2e9, 1e-5, 3e9), ("2.0e+09", "1.0e−05", "3.0e+09")),
    ],
)
def test_an_interval_around_nothing_is_written_as_nothing(
    values: tuple[float, ...], told: tuple[str, ...]
) -> None:
    assert ends(values) == told


def test_a_spread_around_nothing_is_written_as_nothing() -> None:
    assert spread([-3.3e-5, 2.9e-5]) == "0.000 (0.000)"
    assert spread([2e-5, 2.1e-5]).startswith("2.1e−05")  # small, and not nothing
    assert spread([4.1e-5]) == "0.000"  # of one seed nobody knows


def test_a_mean_and_its_deviation_have_the_same_digits() -> None:
    assert spread([0.0199, 0.0215], 2) == "0.02 (0.00)"
    assert spread([3.0, 3.5], 2) == "3.25 (0.35)"
    assert spread([0.0004, 0.0004]) == "0.0004 (0.000)"  # small, and not nothing
    assert spread([-2e-5, -2.1e-5]) == "−2.1e−05 (7.1e−07)"


def test_values_that_are_all_equal_have_no_interval_to_show() -> None:
    check = verdicts.between("modes of q(z)", [1.0, 1.0, 1.0], 4.5, 5.5)
    assert answers.measured(check) == "1, the same for all 3"


CELLS = (
    "from companion import show\n"
    "from companion.show.figures import COLOURS\n"
    "from companion.show.theory import canvas\n"
    "show.figure(canvas(3, 2)[0], 'An empty figure.', 'Nothing.')",
    "from companion.claims import verdicts\n"
    "checks = [verdicts.below('KL, nats', [0.1, 0.2, 0.1], 1.0)]\n"
    "show.verdict(verdicts.decide('lagging-fig2', 'quick', checks))",
    "show.verdict(verdicts.decide('lagging-fig2', 'paper', checks),\n"
    "             verdicts.decide('lagging-fig3', 'smoke', checks))",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """A page with a figure and three verdicts, as papermill leaves it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTERIOR_COLLAPSE_STORE", str(tmp_path_factory.mktemp("answers")))
        path = reader.execute(text_of(notebook(*CELLS)), {}, Path.cwd(), "a page")
    return nbformat.read(path, as_version=4)


def test_late_cells_fill_the_answer_on_top(run: nbformat.NotebookNode) -> None:
    """Where papermill ran a page, the answer stands in the output of its first call."""
    (shown,) = (output.data["text/html"] for output in run.cells[2].outputs)
    assert shown.startswith(f'<aside class="{ANSWER}"') and "hidden" not in shown
    told = re.sub(r"<[^>]+>", "", shown)
    # The larger scale of one claim stands for it and leads; the other is folded away.
    assert told.startswith("Answer. holds at the paper&#x27;s own scale: In basic training")
    assert "KL, nats: 0.13 [−0.01, 0.28], n = 3 (the rule: below 1)" in told
    assert "Both claims of this page: 1 holds, 1 cannot be told at this scale" in told
    assert shown.count("<li>") == 2 and 'href="#figure-1"' in shown
    everything = "".join(o.data["text/html"] for c in run.cells[3:] for o in c.outputs)
    for anchor in re.findall(r'href="#([^"]+)"', shown):
        assert everything.count(f'id="{anchor}"') == 1, anchor
    assert len(status.boxes(run, "p")) == 3  # the answer itself is no verdict


def test_what_was_measured_answers_before_what_was_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parameters, "remembered", {})
    monkeypatch.setattr(answers, "remembered", {"live": True})
    monkeypatch.setattr(answers, "refresh", lambda: None)
    absent = decide("igp-tab7", "medium", [verdicts.missing("perplexity", "below 1")])
    assert absent.label is Label.NOT_RUN
    open_ = decide("igp-tab1", "medium", [check("a", Outcome.OPEN)])
    sure = decide("du-tab1", "medium", [check("a", Outcome.HOLDS)])
    for found in (absent, open_, sure):
        answers.note_finding(found)
    assert [found for found, _ in answers._chosen()] == [sure, open_, absent]


def test_a_page_without_claims_answers_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(answers, "update_display", lambda html, display_id: shown.append(html.data))
    monkeypatch.setattr(answers, "remembered", remembered := {"live": "yes"})
    show.answer("28 of 34 methods change one slot.", "counts")
    assert "28 of 34" in shown[0] and 'href="#counts"' in shown[0] and "pc-thumb" not in shown[0]
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1])
    first = show.figure(figure, "c", "First.").data
    assert show.figure(figure, "c", "First.").data == first  # a cell that is run again
    assert 'id="figure-2"' in show.figure(figure, "c", "Second.").data
    assert "First." in remembered["picture"]


def test_outside_a_page_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    parameters._open_answer({})
    show.verdict(decide("lagging-fig2", "quick", [check("a", Outcome.HOLDS)]))
    assert capsys.readouterr().out == ""


# --- the site -------------------------------------------------------------------------------------


def test_the_answer_moves_under_the_question() -> None:
    tree = new_document("page")
    question = nodes.paragraph("", "", nodes.Text(""), nodes.strong("", "Question."))
    question += nodes.Text(" Why?")
    page = nodes.section(
        "", nodes.title("", "A page"), question, nodes.paragraph("", "Throughout.")
    )
    cell = nodes.container("", nodes.raw("", f'<aside class="{ANSWER}">a</aside>', format="html"))
    page.append(cell)
    tree.append(page)
    extension._lift_answer(None, tree)  # type: ignore[arg-type]
    assert isinstance(page[2], nodes.raw) and not cell.children


def test_text_that_may_be_linked_is_prose() -> None:
    tree = new_document("page")
    text = nodes.paragraph("", "", nodes.Text("The ELBO, "), nodes.literal("", "elbo"))
    text += nodes.reference("", "ELBO", refuri="x")
    tree += [nodes.section("", nodes.title("", "ELBO"), text)]
    ((parent, place),) = extension._plain_texts(tree)
    match = re.search("ELBO", parent[place].astext())
    assert parent is text and match is not None
    extension._link_term(parent, place, match, "glossary#elbo")
    assert text.astext() == "The ELBO, elboELBO"
    assert text[1]["refuri"] == "glossary#elbo" and len(text) == 5


def test_the_player_holds_the_recorded_means() -> None:
    shown = front.part("hero")
    updates = [int(one) for one in re.findall(r'data-updates="([^"]+)"', shown)[0].split(",")]
    packed = base64.b64decode(re.findall(r'data-frames="([^"]+)"', shown)[0])
    values = np.frombuffer(packed, np.int8).reshape(len(updates), 2, 2, -1) / home._UNIT
    for side, method in enumerate(("vae", "lagging")):
        arrays = reference.results("lagging-synthetic", method, "paper")[0].arrays
        place = list(arrays["grid_iteration"]).index(updates[-1])
        for axis, name in enumerate(("grid_model_mean", "grid_inference_mean")):
            wanted = np.clip(arrays[name][place], -home._LIMIT, home._LIMIT)
            assert np.abs(values[-1, side, axis] - wanted).max() < 0.6 / home._UNIT
    assert shown.count("<li>") == 3 and len(re.findall(r"<small>\[[^]]+\]</small>", shown)) >= 3
    assert "∞" not in shown  # one seed has no interval, rather than an endless one
    text = re.sub(r"<[^>]+>", "", shown)
    runs = reference.results("lagging-synthetic", "lagging", "paper")
    mean = np.mean([run.metrics["mutual_information"] for run in runs])
    assert f"against {mean:.2f} [" in text


@pytest.mark.parametrize("name", ["four-states", "information", "aggregate"])
def test_figures_of_prose_pages_say_what_is_seen(name: str) -> None:
    shown = front.part(name)
    caption = re.findall(r"<figcaption>(.*?)</figcaption>", shown, re.S)[0]
    assert re.search(r"\d\.\d", caption) and "?" not in caption
    root = printed.repository()
    assert f"```{{computed}} {name}\n" in (root / "book" / "collapse.md").read_text("utf-8")


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(BadInput, match='did you mean "status-bar"'):
        front.part("status-bra")


def test_the_bar_counts_every_item_and_links_to_its_rows() -> None:
    found = status.statuses([status.Box("lagging-fig2", "paper", "holds", "a.ipynb")])
    shown = status.bar(found, "status.html").data
    counts = [int(one) for one in re.findall(r"flex-grow:(\d+)", shown)]
    assert sum(counts) == 69 and 'href="status.html#verdict=holds"' in shown
    assert status.summary(found).startswith("Of 69 items 1 holds")
    names = {label.value for label in Label}
    assert set(re.findall(r"<span>([^<]+)</span>", shown)) <= {
        n.replace("'", "&#x27;") for n in names
    }


def test_captions_say_what_is_seen(root: Path) -> None:
    """No caption of a figure or table asks, or tells a reader what to look for."""
    for path in sorted((root / "notebooks").glob("*/*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "code" and re.search(r"show\.(figure|table)\(", text):
                assert not re.search(r"[Ll]ook (for|at)\b|Compare the|\w\?[ \"]", text), path


def test_the_leaderboard_answers_with_what_its_table_says() -> None:
    lines = leaderboard.decisions(leaderboard.boards({}))
    told = leaderboard.answer(lines)
    assert told.startswith(f"On {lines[0].data}. If you need {lines[0].need}: ")
    assert re.search(r"\d\.\d", told) and told.count("If you need ") == 2
    assert told.count("(") < 12  # readable at a glance
