"""The blind survey: its items, its order, and a reader who takes it in a real browser."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from browser import Browser, find_chromium
from companion import show
from companion.autogen import survey
from companion.claims import evidence
from companion.claims.reference import Result
from companion.claims.verdicts import Label, beyond, decide
from companion.papers import status
from posterior_collapse.errors import BadInput
from posterior_collapse.runs import Spec

SEEDS = st.integers(0, 2**32 - 1)


def made_survey(tmp_path: Path | None = None, pairs: int = 30, lines: int = 12) -> survey.Survey:
    """A survey of made-up sentences, with text that would break careless HTML."""
    sources = [f"source {n} <b>&amp; \"quoted\" 'it' é" for n in range(pairs)]
    annealed = [f"annealing wrote {n * 7 % 30}"[9:] for n in range(pairs)]
    autogen = [f"a model wrote {n * 11 % 29} </section>" for n in range(pairs)]
    found, equal = survey.pair_pool([*sources, "same"], [*annealed, "x"], [*autogen, "x"])
    short, long = "words of item", "one two three four five six seven eight nine ten item"
    written = {
        origin: [f"{short if n % 2 else long} {place}{n}" for n in range(lines)]
        for place, origin in enumerate(survey.ORIGINS)
    }
    singles, shared = survey.line_pool(written)
    counted = {origin: lines for origin in survey.ORIGINS}
    drawn = survey.Drawn(pairs + 1, equal, counted, counted, shared)
    none = pd.DataFrame()
    runs = {
        method: [Result(Spec("autogen-yelp", method, "medium", 0), {}, none, {}, {"key": key}, [])]
        for method, key in zip(survey.METHODS.values(), ("0" * 64, "1" * 64), strict=True)
    }
    return survey.Survey(found, singles, drawn, runs)


# --- items ----------------------------------------------------------------------------------------


def test_pairs_hold_both_texts_and_know_which_is_autogens() -> None:
    pairs, equal = survey.pair_pool(["s", "t", "u"], ["b", "same", "a"], ["a", "same", "b"])
    assert equal == 1
    told = {pair.source: (pair.texts, pair.texts[pair.autogen]) for pair in pairs}
    assert told == {"s": (("a", "b"), "a"), "u": (("a", "b"), "b")}


TEXTS = st.text("ab", max_size=3)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=20))
def test_no_model_is_asked_about_with_one_sentence_twice(texts: list[tuple[str, str]]) -> None:
    """And a pair is left out where both wrote the same; what is left out is counted."""
    sources = [f"source {n % 5}" for n in range(len(texts))]  # each seed has the same sources
    pairs, left = survey.pair_pool(sources, [a for a, _ in texts], [b for _, b in texts])
    told = [(p.texts[1 - p.autogen], p.texts[p.autogen]) for p in pairs]
    assert all(one != other for one, other in told)
    assert len({one for one, _ in told}) == len({other for _, other in told}) == len(told)
    assert len(told) + left == len(texts) and set(told) <= set(texts)
    assert len({pair.ident for pair in pairs}) == len(pairs)
    # Nothing is left out without a reason.
    assert bool(pairs) == any(one != other for one, other in texts)


def test_reconstructions_that_do_not_fit_their_sources_are_refused() -> None:
    with pytest.raises(BadInput, match="1 sources, 2 and 1"):
        survey.pair_pool(["s"], ["a", "b"], ["c"])


def test_a_sentence_is_asked_once_and_not_where_it_has_two_origins() -> None:
    ten = " ".join("abcdefghij")
    written = {"annealed": ["both", "mine", "mine"], "autogen": ["both"], "real": [ten + " . !"]}
    lines, shared = survey.line_pool(written)
    assert {line.text: (line.origin, line.long) for line in lines} == {
        "mine": ("annealed", False),
        ten + " . !": ("real", False),  # marks are no words
    }
    assert shared == 1
    assert survey.line_pool({"real": [ten + " k"]})[0][0].long
    with pytest.raises(BadInput, match='did you mean "autogen"'):
        survey.line_pool({"autogne": ["a"]})


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ((20, 20, 20), (4, 4, 2)),
        ((3, 20, 20), (3, 3, 2)),
        ((20, 0, 1), (0, 0, 1)),
    ],
)
@pytest.mark.parametrize("long", [False, True])
def test_both_models_are_asked_about_equally_often(
    there: tuple[int, ...], asked: tuple[int, ...], long: bool
) -> None:
    lines = [
        survey.Line(f"{origin}{n}", "t", origin, long)
        for origin, count in zip(survey.ORIGINS, there, strict=True)
        for n in range(count)
    ]
    found = survey.line_quotas(lines)
    assert tuple(found[origin, long] for origin in survey.ORIGINS) == asked
    assert not any(found[origin, not long] for origin in survey.ORIGINS)


# --- the order ------------------------------------------------------------------------------------


@given(SEEDS)
def test_an_order_asks_each_item_once_and_keeps_the_shares(seed: int) -> None:
    made = made_survey()
    found = survey.order(made.pairs, made.lines, seed)
    assert found == survey.order(made.pairs, made.lines, seed)
    assert len({question.item.ident for question in found}) == len(found) == 40
    lines = [question.item for question in found[20:]]
    assert all(isinstance(question.item, survey.Pair) for question in found[:20])
    assert Counter(line.origin for line in lines) == {  # type: ignore[union-attr]
        "annealed": 8,
        "autogen": 8,
        "real": 4,
    }


def test_side_and_place_tell_nothing_of_the_model() -> None:
    """Over 500 seeds AutoGen stands left half of the time, and each item comes at each place."""
    made = made_survey()
    left = first = count = 0
    for seed in range(500):
        found = survey.order(made.pairs, made.lines, seed)
        for question in found[:20]:
            assert isinstance(question.item, survey.Pair)
            left += (question.item.autogen == 0) != question.turned
            count += 1
        opening = found[20].item
        assert isinstance(opening, survey.Line)
        first += opening.origin == "autogen"
    # the bounds are four standard deviations
    assert abs(left / count - 0.5) < 4 * 0.5 / count**0.5
    assert abs(first / 500 - 0.4) < 4 * (0.24 / 500) ** 0.5
    assert survey.order(made.pairs, made.lines, 1) != survey.order(made.pairs, made.lines, 2)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "1", True])
def test_seeds_outside_their_range_are_refused(seed: Any) -> None:
    with pytest.raises(BadInput, match="from 0 to 4294967295"):
        survey.order((), (), seed)


# --- verdict and status ---------------------------------------------------------------------------


def test_surveys_have_a_reason_and_no_verdict(root: Path) -> None:
    found = survey.undecided()
    assert [one.item for one in found] == ["autogen-tab2", "autogen-tab4"]
    assert {one.label for one in found} == {Label.NOT_CHECKABLE}
    shown = show.verdict(*found).data
    assert shown.count("cannot be computed") == 4  # for readers, and for the status page
    assert "<table>" not in shown
    boxes = [status.Box(one.item, "quick", one.label.value, "p", one.reason) for one in found]
    told = {one.item: one for one in status.statuses(boxes)}
    assert told["autogen-tab4"].verdict == "not checkable by computation"
    assert told["autogen-tab4"].reason.startswith("a survey of people")
    with pytest.raises(BadInput, match="needs a reason"):
        beyond("autogen-tab4", "quick", " ")
    with pytest.raises(BadInput, match="at least one central check"):
        decide("autogen-tab4", "quick", [])


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        (["not checkable by computation"], "not checkable by computation"),
        (["not checkable by computation", "not run"], "not run"),
        (["not checkable by computation", "holds"], "holds"),
    ],
)
def test_a_measure_that_stands_for_a_survey_counts(verdicts: list[str], told: str) -> None:
    assert status.overall(verdicts) == told


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> survey.Survey:
    """The survey of the reference results."""
    return survey.build()


def test_every_row_of_the_score_has_questions(real: survey.Survey) -> None:
    """Whatever the order: the pairs, and each origin with short and with long sentences."""
    assert len(real.pairs) >= 10
    for seed in (1, 2, 77):
        found = survey.order(real.pairs, real.lines, seed)
        rows = Counter(
            (q.item.origin, q.item.long) for q in found if isinstance(q.item, survey.Line)
        )
        assert set(rows) == {(o, long) for o in survey.ORIGINS for long in (False, True)}
        assert rows["annealed", True] == rows["autogen", True] == 4


def test_the_items_are_the_reference_models_own(real: survey.Survey) -> None:
    again = survey.build()
    assert real[:3] == again[:3]  # items and counts
    sources = {pair.source for pair in real.pairs}
    assert not sources & {line.text for line in real.lines if line.origin == "real"}
    assert len(real.pairs) + real.drawn.equal == real.drawn.sources == 15
    texts = [*sources, *(line.text for line in real.lines)]
    assert not any(mark in text.split() for text in texts for mark in ("<unk>", "_num_", "N"))
    result = evidence.reference("autogen-yelp", "autogen(m=1)", "medium")[0]
    words = [str(text) for text in result.arrays["text_sampled"] if "<unk>" not in text]
    kept = {line.text for line in real.lines if line.origin == "autogen"}
    assert {word for word in words if "_num_" not in word} <= kept
    table = survey.items_table(real).set_index("items")["in the survey"]
    assert table.sum() == len(real.pairs) + len(real.lines)
    shown = survey.models_table(real)
    assert len(shown) == 4 and list(shown)[1:] == ["KL", "MI", "AU", "NLL", "seeds"]


def test_printed_percentages_come_from_the_papers_tables() -> None:
    told = survey.printed_table()
    assert told["printed, % of answers"].tolist() == [88, 76, 32, 50, 32]
    assert told["model"].tolist() == [
        "AutoGen (m = 1)",
        *["VAE + annealing"] * 2,
        *["AutoGen (m = 1)"] * 2,
    ]


def test_the_page_hides_who_wrote_what() -> None:
    """Neither names nor origins can be read before the plain list's last part."""
    made = made_survey()
    before = survey.fragment(made).partition("Who wrote what")[0]
    before = before.replace(survey._payload(made)["sealed"], "")
    for word in ("autogen", "anneal", "real"):
        assert word not in before.lower()
    assert "<b>" not in before and "&lt;b&gt;" in before


def test_a_survey_without_items_is_refused() -> None:
    empty = made_survey()._replace(pairs=(), lines=())
    with pytest.raises(BadInput, match="at least one"):
        survey.fragment(empty)


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip("Chromium is not installed (on Debian: apt-get install chromium)")
    tab = Browser()
    yield tab
    tab.close()


@pytest.fixture
def page(root: Path, tmp_path: Path) -> Path:
    """The survey as the site has it, without the theme."""
    return written_page(root, tmp_path, made_survey())


def written_page(root: Path, folder: Path, made: survey.Survey) -> Path:
    static = (root / "book" / "static").as_uri()
    path = folder / "page.html"
    path.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<link rel="stylesheet" href="{static}/pages.css">'
        '<link rel="icon" href="data:,">'
        f'<script src="{static}/survey.js"></script><body style="margin: 0">'
        f'<article class="bd-article">{survey.fragment(made)}</article></body></html>',
        encoding="utf-8",
    )
    return path


ROOT = "document.querySelector('.pc-survey')"
# Presses the button with this text, or says that there is none.
PRESS = (
    "(text => { const one = [...document.querySelectorAll('.pc-survey button')]"
    ".find(x => x.textContent.startsWith(text)); one?.click(); return Boolean(one); })"
)
# Answers all questions: the n-th one by its first choice where the n-th letter is "0".
TAKE = """
(letters => {
  const seen = [];
  for (const letter of letters) {
    const group = document.querySelector('.pc-survey fieldset');
    const offered = [...group.querySelectorAll('.pc-survey-choice')];
    seen.push([group.dataset.id, group.querySelector('blockquote').textContent,
               offered.map(one => one.textContent)]);
    offered[Number(letter)].click();
  }
  return seen;
})
"""
TABLE = (
    "[...document.querySelectorAll('.pc-survey > .pc-table tbody tr')]"
    ".map(row => [...row.cells].map(cell => cell.textContent))"
)


def start(browser: Browser, page: Path, seed: int) -> None:
    """Open the page afresh and begin with this order."""
    browser.open(page.as_uri())
    browser.run("localStorage.clear()")
    browser.open(page.as_uri())
    browser.run(f"document.querySelector('.pc-survey input').value = '{seed}'")
    assert browser.run(f"{PRESS}('Start')")


def asked(made: survey.Survey, seed: int) -> list[list[Any]]:
    """What the browser should ask, by the rule in Python."""
    found: list[list[Any]] = []
    for question in survey.order(made.pairs, made.lines, seed):
        item = question.item
        if isinstance(item, survey.Line):
            found.append([item.ident, item.text, ["Yes", "No"]])
        else:
            first, second = reversed(item.texts) if question.turned else item.texts
            found.append([item.ident, item.source, [f"A. {first}", f"B. {second}"]])
    return found


def counted(made: survey.Survey, seed: int, letters: str) -> dict[str, list[bool]]:
    """Answers by hand: label -> whether each was a hit."""
    found: dict[str, list[bool]] = {}
    for question, letter in zip(survey.order(made.pairs, made.lines, seed), letters, strict=True):
        item, choice = question.item, int(letter)
        if isinstance(item, survey.Line):
            length = "more than 10" if item.long else "at most 10"
            name = {"annealed": "VAE + annealing", "autogen": "AutoGen (m = 1)"}
            label = f"{name.get(item.origin, 'a real sentence')} makes sense, {length} words"
            found.setdefault(label, []).append(choice == 0)
        else:
            texts = item.texts[::-1] if question.turned else item.texts
            own = texts[choice] == item.texts[item.autogen]
            found.setdefault("AutoGen (m = 1) preferred to VAE + annealing", []).append(own)
    return found


@pytest.mark.parametrize("seed", [0, 1, 77, 2**32 - 1])
def test_the_browser_asks_what_the_rule_says(browser: Browser, page: Path, seed: int) -> None:
    start(browser, page, seed)
    assert browser.run(f"{TAKE}('{'01' * 20}')") == asked(made_survey(), seed)
    assert browser.errors() == []


def test_the_score_is_the_count_by_hand(browser: Browser, page: Path) -> None:
    made, letters = made_survey(), "0110100110010110" * 2 + "00010001"
    start(browser, page, 7)
    browser.run(f"{TAKE}('{letters}')")
    assert browser.run(f"{PRESS}('Show the score')")
    rows = {label: cells for label, *cells in browser.run(TABLE)}
    by_hand = counted(made, 7, letters)
    assert set(by_hand) <= set(rows) and len(rows) == 7
    for label, hits in by_hand.items():
        share, answers, _ = rows[label]
        ci = stats.binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
        told = [100 * sum(hits) / len(hits), 100 * ci.low, 100 * ci.high]
        shown = [
            float(one) for one in share.replace("[", "").replace("]", "").split(", ")[0].split()
        ]
        shown.append(float(share.rstrip("]").split(", ")[1]))
        assert shown == pytest.approx(told, abs=0.51), label
        assert answers == f"{sum(hits)} of {len(hits)}"
    printed = {label: cells[2] for label, cells in rows.items()}
    assert printed["AutoGen (m = 1) preferred to VAE + annealing"] == "88"
    assert printed["VAE + annealing makes sense, at most 10 words"] == "76"
    assert printed["a real sentence makes sense, at most 10 words"] == "–"


def test_nothing_tells_the_origins_before_the_end(browser: Browser, page: Path) -> None:
    start(browser, page, 3)
    sealed = survey._payload(made_survey())["sealed"].lower()
    for letter in "01" * 20:
        shown = browser.run(f"{ROOT}.outerHTML").lower().replace(sealed, "")
        assert "autogen" not in shown and "anneal" not in shown and "real" not in shown
        browser.run(f"{TAKE}('{letter}')")
    assert "autogen" not in browser.run(f"{ROOT}.outerHTML").lower()
    browser.run(f"{PRESS}('Show the score')")
    assert "autogen" in browser.run(f"{ROOT}.innerText").lower()
    assert not browser.run(f"{PRESS}('Back')")  # no answer changes afterwards


def test_the_saved_file_holds_the_answers_and_no_request_leaves(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    made, letters = made_survey(), "01" * 20
    folder = tmp_path / "saved"
    folder.mkdir()
    start(browser, page, 12)
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    seen = browser.run(f"{TAKE}('{letters}')")
    browser.run(f"{PRESS}('Show the score')")
    browser.run(f"{PRESS}('Save')")
    end = time.monotonic() + 30
    while not (files := list(folder.glob("*.json"))) and time.monotonic() < end:
        time.sleep(0.1)
    saved = json.loads(files[0].read_text(encoding="utf-8"))
    assert (saved["seed"], saved["questions"]) == (12, 40)
    assert [one["id"] for one in saved["answers"]] == [ident for ident, *_ in seen]
    autogens = {pair.ident: pair.autogen for pair in made.pairs}
    texts = {pair.ident: pair.texts for pair in made.pairs}
    for one in saved["answers"][:20]:
        assert one["answer"] == texts[one["id"]][one["choice"]]
        own = "AutoGen (m = 1)" if one["choice"] == autogens[one["id"]] else "VAE + annealing"
        assert one["origin"] == own
    assert [one["choice"] for one in saved["answers"][20:]] == [1, 0] * 10
    assert [run["key"] for run in saved["runs"]] == ["0" * 64, "1" * 64]
    hits = counted(made, 12, letters)["AutoGen (m = 1) preferred to VAE + annealing"]
    assert (saved["score"][0]["hits"], saved["score"][0]["answers"]) == (sum(hits), 20)
    assert files[0].name == f"survey-{saved['digest'][:8]}-order-12.json"
    assert [url for url in browser.requests() if not url.startswith("file://")] == []
    assert browser.errors() == []


def test_progress_is_kept_and_forgotten(browser: Browser, page: Path) -> None:
    start(browser, page, 5)
    browser.run(f"{TAKE}('010')")
    browser.open(page.as_uri())
    assert browser.run(f"{PRESS}('Go on with order 5, 3 answered')")
    assert (
        browser.run(f"{ROOT}.querySelector('fieldset').dataset.id") == asked(made_survey(), 5)[3][0]
    )
    browser.run(f"{PRESS}('Back')")
    assert (
        browser.run(f"{ROOT}.querySelector('[aria-pressed=true]').textContent")
        == (asked(made_survey(), 5)[2][2][0])
    )
    browser.run(f"{PRESS}('Start again')")
    browser.open(page.as_uri())
    assert not browser.run(f"{PRESS}('Go on')")


def test_a_browser_that_keeps_nothing_still_takes_the_survey(browser: Browser, page: Path) -> None:
    script = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }});"
    added = browser.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    try:
        browser.open(page.as_uri())
        assert browser.run(f"{PRESS}('Start')")
        browser.run(f"{TAKE}('{'01' * 20}')")
        assert browser.run(f"{PRESS}('Show the score')")
        assert len(browser.run(TABLE)) == 7
        assert browser.errors() == []
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])


def test_a_part_of_the_survey_is_scored_too(browser: Browser, page: Path) -> None:
    start(browser, page, 5)
    browser.run(f"{PRESS}('End here')")
    assert not browser.run(f"{PRESS}('Show the score')")  # nothing was answered
    browser.run(f"{PRESS}('Back to the questions')")
    browser.run(f"{TAKE}('000')")
    browser.run(f"{PRESS}('End here')")
    browser.run(f"{PRESS}('Show the score')")
    rows = browser.run(TABLE)
    assert rows[0][2].endswith(" of 3") and rows[1][1:3] == ["–", "0 of 0"]


@pytest.mark.parametrize("wrong", ["", "-1", "1.5", "4294967296"])
def test_a_wrong_order_number_is_refused(browser: Browser, page: Path, wrong: str) -> None:
    start(browser, page, 1)
    browser.run(f"{PRESS}('Start again')")
    browser.run(f"{ROOT}.querySelector('input').value = '{wrong}'")
    browser.run(f"{PRESS}('Start')")
    assert "whole number" in browser.run(f"{ROOT}.querySelector('[role=alert]').textContent")
    assert browser.run(f"{ROOT}.querySelector('fieldset')") is None


def press(browser: Browser, key: str, text: str = "") -> None:
    more = {"text": text} if text else {}
    browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, **more, **CODES[key])
    browser.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, **CODES[key])


CODES = {"Tab": {"windowsVirtualKeyCode": 9}, "Enter": {"windowsVirtualKeyCode": 13}}


def test_the_survey_is_taken_by_keyboard(browser: Browser, page: Path) -> None:
    """Tab goes from the question to its first answer, and Enter gives it."""
    start(browser, page, 4)
    for place in range(3):
        active = "document.activeElement"
        assert browser.run(f"{active}.tagName") == "LEGEND"
        assert f"Question {place + 1} of 40" in browser.run(f"{active}.textContent")
        press(browser, "Tab")
        assert browser.run(f"{active}.className") == "pc-survey-choice"
        press(browser, "Enter", "\r")
    browser.run(f"{PRESS}('End here')")
    assert "answered 3 of 40" in browser.run(f"{ROOT}.textContent")


def test_the_survey_fits_on_a_phone(browser: Browser, root: Path, tmp_path: Path) -> None:
    made = made_survey()
    pairs = [pair._replace(source="long" * 60) for pair in made.pairs]
    page = written_page(root, tmp_path, made._replace(pairs=tuple(pairs)))
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    try:
        start(browser, page, 1)
        width = "document.documentElement.scrollWidth"
        assert browser.run(width) <= 360
        heights = f"[...{ROOT}.querySelectorAll('button')].map(one => one.offsetHeight)"
        assert min(browser.run(heights)) >= 40
        browser.run(f"{TAKE}('{'01' * 20}')")
        browser.run(f"{PRESS}('Show the score')")
        assert browser.run(width) <= 360
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")


def test_without_scripts_the_questions_are_listed(browser: Browser, page: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page.as_uri())
        parts = "[...document.querySelectorAll('.pc-survey details')]"
        assert browser.run(f"{parts}.map(one => one.querySelectorAll('li').length)") == [20, 20, 40]
        assert browser.run(f"{parts}.some(one => one.open)") is False
        assert "needs scripts" in browser.run(f"{ROOT}.innerText")
        first = browser.run(f"{parts}[0].querySelector('li').textContent")
        ident, source, (one, other) = asked(made_survey(), 1)[0]
        assert first == f"1. {source}{one}{other}"
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_plain_list_names_the_right_side() -> None:
    made = made_survey()
    text = survey.fragment(made).partition("Who wrote what")[2]
    for place, question in enumerate(survey.order(made.pairs, made.lines, 1), 1):
        if isinstance(question.item, survey.Pair):
            texts = question.item.texts[::-1] if question.turned else question.item.texts
            side = "AB"[texts.index(question.item.texts[question.item.autogen])]
            assert f"<li>{place}. {side} is by AutoGen (m = 1)</li>" in text


def test_the_sealed_part_says_who_wrote_what() -> None:
    made = made_survey()
    payload = survey._payload(made)
    key = json.loads(base64.b64decode(payload["sealed"]))
    assert key["lines"] == {line.ident: line.origin for line in made.lines}
    assert key["pairs"] == {pair.ident: pair.autogen for pair in made.pairs}
    assert survey._payload(made_survey(pairs=28))["digest"] != payload["digest"]
