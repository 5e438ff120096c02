"""Explorers, used by clicking in a real browser: the leaderboard and the player."""

from __future__ import annotations

import base64
import csv
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from browser import Browser, find_chromium
from companion.claims.reference import Result
from companion.methods import leaderboard
from companion.show import explorers, players
from posterior_collapse.datasets import five_gaussians
from posterior_collapse.errors import BadInput
from posterior_collapse.runs import Spec, build_model, train_or_load
from posterior_collapse.runs.spec import load_data

DESKTOP, PHONE = (1440, 900), (390, 844)
BOTH = ("basic", "aggressive")
# method -> (NLL, MI) of each seed; the last NLL has diverged
NUMBERS = {
    "vae": [(37.1, 0.01), (37.2, 0.02)],
    "beta-vae(beta=0.4)": [(37.6, 3.4), (37.5, 3.6)],
    "beta-vae(beta=0.2)": [(39.2, 5.9), (39.1, 6.0)],
    "lagging": [(37.0, 0.9)],
    "free-bits(threshold=0.1)": [(37.7, 1.1)],
    "autogen(m=1)": [(38.5, 3.8)],
    "iwae(k=5)": [(37.3, 0.03)],
    "delta-vae(delta=0.1)": [(320.0, 2.0)],
}


def result(method: str, seed: int, nll: float, information: float) -> Result:
    metrics = {"nll": nll, "mutual_information": information, "active_units": 2}
    return Result(Spec("text-yelp", method, "medium", seed), metrics, pd.DataFrame(), {}, {}, [])


def boards() -> list[leaderboard.Board]:
    runs = {
        method: [result(method, seed, *pair) for seed, pair in enumerate(pairs)]
        for method, pairs in NUMBERS.items()
    }
    few = {method: runs[method] for method in ("vae", "lagging")}
    return [
        leaderboard.Board("Yelp <b>", "../lagging/text", runs),
        leaderboard.Board("Yahoo", "../lagging/text", few),
    ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip("Chromium is not installed (on Debian: apt-get install chromium)")
    tab = Browser()
    yield tab
    tab.close()


def written(root: Path, path: Path, fragment: str) -> Path:
    """A page with the book's styles and no theme."""
    static = (root / "book" / "static").as_uri()
    colours = "--pst-color-text-base:#222;--pst-color-text-muted:#555;--pst-color-border:#ccc;"
    colours += "--pst-color-background:#fff;--pst-color-surface:#f4f4f4;--pst-color-link:#06c"
    path.write_text(
        f'<!doctype html><html lang="en" style="{colours}"><meta charset="utf-8"><title>t</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f'<link rel="stylesheet" href="{static}/book.css">'
        f'<link rel="stylesheet" href="{static}/pages.css">'
        f'<script src="{static}/scroll.js"></script><script src="{static}/tables.js"></script>'
        '<body style="margin:0"><main style="max-width:50rem"><article class="bd-article">'
        f"<h1>Page</h1>{fragment}</article></main></body></html>",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def board(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    return written(root, folder / "page.html", leaderboard.explorer(boards(), "Yelp").data)


NAMES = "[...document.querySelectorAll('.pc-board tbody th')].map((one) => one.textContent)"
LABELS = "[...document.querySelectorAll('.pc-label')].map((one) => one.textContent)"


def choose(browser: Browser, label: str, text: str) -> None:
    """Choose from a list by its name."""
    script = """((label, text) => {
      const holder = [...document.querySelectorAll('.pc-explorer label')]
        .find((one) => one.textContent.startsWith(label));
      const list = holder.querySelector('select');
      list.selectedIndex = [...list.options].findIndex((one) => one.textContent.includes(text));
      list.dispatchEvent(new Event('change'));
    })"""
    browser.run(f"{script}({label!r}, {text!r})")


def press(browser: Browser, text: str) -> None:
    """Press the first button with this text."""
    found = f"[...document.querySelectorAll('button')].find((one) => one.textContent === '{text}')"
    browser.run(f"{found}.click()")


def test_the_leaderboard_sorts_and_says_what_is_beyond_its_axis(
    browser: Browser, board: Path
) -> None:
    browser.emulate(*DESKTOP)
    browser.open(board.as_uri())
    names = browser.run(NAMES)
    assert len(names) == len(NUMBERS) and names[0].startswith("4 ")  # the lowest NLL
    assert "8: 320" in browser.run(LABELS)
    text = "[...document.querySelectorAll('.pc-plot text')].map((one) => one.textContent)"
    assert not [t for t in browser.run(text) if t.isdigit() and 45 < int(t) < 320]
    press(browser, "MI")
    assert browser.run(NAMES)[0].startswith("3 ")  # the best first
    assert browser.run("document.querySelector('th[aria-sort]').textContent") == "MI"
    press(browser, "MI")
    assert browser.run(NAMES)[0].startswith("1 ")
    assert browser.errors() == []


def test_the_front_is_the_one_of_the_rule(browser: Browser, board: Path) -> None:
    browser.emulate(*DESKTOP)
    browser.open(board.as_uri())
    means = [tuple(map(float, np.mean(pairs, axis=0))) for pairs in NUMBERS.values()]
    rule = leaderboard.front([(information, nll) for nll, information in means], (1, -1))
    best = "[...document.querySelectorAll('.pc-best')].map((one) => Number(one.dataset.number))"
    assert sorted(browser.run(best)) == [place + 1 for place in rule]
    low, high = leaderboard.fences([nll for nll, _ in means])
    assert browser.run("[...document.querySelectorAll('.pc-point path')].length") == sum(
        not low <= nll <= high for nll, _ in means
    )
    choose(browser, "Vertical", "active units")
    assert browser.run("document.querySelectorAll('.pc-point').length") == len(NUMBERS)
    assert browser.errors() == []


def test_data_sets_methods_and_columns_are_chosen(browser: Browser, board: Path) -> None:
    browser.emulate(*DESKTOP)
    browser.open(board.as_uri())
    boxes = "[...document.querySelectorAll('.pc-ticks input')]"
    browser.run(f"{boxes}[0].click()")
    assert len(browser.run(NAMES)) == len(NUMBERS) - 1
    heads = "[...document.querySelectorAll('.pc-board thead th')].map((one) => one.textContent)"
    assert browser.run(heads) == ["method", "NLL", "MI", "AU", "seeds"]
    browser.run(f"{boxes}.at(-1).click()")
    assert browser.run(heads) == ["method", "NLL", "MI", "seeds"]
    choose(browser, "Data set", "Yahoo")
    assert len(browser.run(NAMES)) == 2
    assert browser.run("document.querySelector('.pc-board a').getAttribute('href')").endswith(
        "lagging/text.html"
    )
    assert browser.errors() == []


def test_the_table_is_saved_as_it_is_shown(browser: Browser, board: Path, tmp_path: Path) -> None:
    browser.emulate(*DESKTOP)
    browser.open(board.as_uri())
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    press(browser, "Save as CSV")
    end = time.monotonic() + 30
    while not (files := list(tmp_path.glob("*.csv"))) and time.monotonic() < end:
        time.sleep(0.1)
    rows = list(csv.DictReader(files[0].read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len(NUMBERS) and rows[0]["data"] == "Yelp <b>"
    vae = next(row for row in rows if row["method"] == "VAE")
    assert float(vae["NLL"]) == pytest.approx(37.15)
    assert float(vae["NLL sd"]) == pytest.approx(np.std([37.1, 37.2], ddof=1))
    assert not [url for url in browser.requests() if not url.startswith("file://")]


@pytest.fixture(scope="module")
def player(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("player")
    shown = players.player(
        tracks(),
        ("basic", "aggressive"),
        3.0,
        ("x", "y"),
        "Two spaces.",
        "Posterior means.",
        diagonal=True,
    )
    return written(root, folder / "page.html", shown.data)


def tracks() -> list[players.Track]:
    """Points that go to the right in one method and to the left in the other."""
    labels = np.arange(6) % 3
    found = []
    for group in ("one start", "another"):
        for method, sign in (("basic", 1.0), ("aggressive", -1.0)):
            for seed in (0, 1):
                steps = np.array([0, 10, 40]) + seed
                points = np.zeros((3, 6, 2))
                points[..., 0] = sign * np.arange(3)[:, None]
                points[..., 1] = np.linspace(-1, 1, 6)
                texts = None if group == "another" else tuple(f"sentence {n}" for n in range(1, 7))
                found.append(players.Track(group, method, seed, steps, points, labels, texts))
    return found


NOTES = "[...document.querySelectorAll('.pc-player-note')].map((one) => one.textContent)"
ROLES = "[...document.querySelectorAll('canvas')].map((one) => one.getAttribute('aria-label'))"
# Share of the width at which the left space's first coloured dot stands, and the mean of all.
PLACE = """
(() => {
  const canvas = document.querySelector('canvas');
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0, count = 0;
  for (let n = 0; n < pixels.length; n += 4) {
    const [r, g, b] = pixels.slice(n, n + 3);
    if (pixels[n + 3] > 100 && Math.max(r, g, b) - Math.min(r, g, b) > 90) {
      sum += (n / 4) % canvas.width; count += 1;
    }
  }
  return count ? sum / count / canvas.width : null;
})()
"""


def moved(browser: Browser, moment: int) -> None:
    script = (
        "(() => { const bar = document.querySelector('.pc-timeline input');"
        f"bar.value = {moment}; bar.dispatchEvent(new Event('input')); }})()"
    )
    browser.run(script)


def test_the_player_draws_the_chosen_training_at_the_chosen_moment(
    browser: Browser, player: Path
) -> None:
    browser.emulate(*DESKTOP)
    browser.open(player.as_uri())
    assert browser.run(NOTES) == ["after 40 updates"] * 2  # the end tells most
    assert browser.run(PLACE) == pytest.approx((2 / 3 + 1) / 2, abs=0.02)
    moved(browser, 0)
    assert browser.run(PLACE) == pytest.approx(0.5, abs=0.02)
    choose(browser, "method", "aggressive")  # on the left
    moved(browser, 1)
    assert browser.run(PLACE) == pytest.approx((-1 / 3 + 1) / 2, abs=0.02)
    choose(browser, "seed", "1")
    assert browser.run(ROLES)[0] == "Posterior means. aggressive, seed 1, after 1 updates."
    choose(browser, "data", "another")
    assert "aggressive, seed 1" in browser.run(ROLES)[0]
    assert browser.errors() == []


def test_the_player_plays_by_keyboard_and_says_where_it_is(browser: Browser, player: Path) -> None:
    browser.emulate(*DESKTOP)
    browser.open(player.as_uri())
    browser.run("document.querySelector('.pc-timeline input').focus()")
    codes: dict[str, Any] = {"key": "Home", "code": "Home", "windowsVirtualKeyCode": 36}
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, **codes)
    said = "document.querySelector('.pc-timeline input').getAttribute('aria-valuetext')"
    assert browser.run(said) == "after 0 updates"
    press(browser, "Play")
    browser.wait(f"{said} === 'after 40 updates'")
    # At the end it stops by itself.
    browser.wait("document.querySelector('.pc-timeline button').textContent === 'Play'")
    assert browser.errors() == []


@pytest.mark.parametrize(("motion", "plays"), [("reduce", False), ("no-preference", True)])
def test_a_player_that_begins_by_itself_honours_reduced_motion(
    browser: Browser, root: Path, tmp_path: Path, motion: str, plays: bool
) -> None:
    shown = players.player(
        tracks(), ("basic", "aggressive"), 3.0, ("x", "y"), "c", "Alt.", playing=True
    )
    browser.emulate(*DESKTOP, motion=motion)
    browser.open(written(root, tmp_path / "page.html", shown.data).as_uri())
    assert browser.run("document.querySelector('.pc-timeline button').textContent") == (
        "Pause" if plays else "Play"
    )
    browser.emulate(*DESKTOP)


EXAMPLES = "[...document.querySelectorAll('.pc-player-example')].map((one) => one.textContent)"
# The left space's picker, and what a screen reader says of it.
PICKER = "document.querySelector('.pc-player-panel input')"


def hover(browser: Browser, x: float, y: float) -> None:
    """Point at a place of the left space, in its own coordinates from -3 to 3."""
    left, top, width = browser.run(
        "(() => { const b = document.querySelector('canvas').getBoundingClientRect();"
        "return [b.left, b.top, b.width]; })()"
    )
    place = {"x": left + width * (x / 3 + 1) / 2, "y": top + width * (1 - (y / 3 + 1) / 2)}
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", **place)


def test_the_sentence_under_the_pointer_is_told(browser: Browser, player: Path) -> None:
    """And the same sentence is marked in the other space, where it lies elsewhere."""
    browser.emulate(*DESKTOP)
    browser.open(player.as_uri())
    hover(browser, 2.0, 1.0)
    told = browser.wait(f"{EXAMPLES}[0].startsWith('sequence') && {EXAMPLES}")
    # of 2 and 1, in 256 steps of the axis
    assert told[0] == "sequence 6, component 3: x 1.99, y 1.00. sentence 6"
    assert told[1] == "sequence 6, component 3: x −1.99, y 1.00. sentence 6"
    choose(browser, "data", "another")  # which has no sentences
    hover(browser, 2.0, -1.0)
    told = browser.wait(f"{EXAMPLES}[0].startsWith('sequence') && {EXAMPLES}")
    assert told == ["sequence 1, component 1: x 1.99, y −1.00", *told[1:]]
    assert told[1].endswith("sentence 6")  # the other space shows other data and stays
    assert browser.errors() == []


def test_sentences_are_told_by_keyboard_too(browser: Browser, player: Path) -> None:
    browser.emulate(*DESKTOP)
    browser.open(player.as_uri())
    browser.run(f"{PICKER}.focus()")
    codes: dict[str, Any] = {"key": "ArrowRight", "code": "ArrowRight", "windowsVirtualKeyCode": 39}
    for kind in ("keyDown", "keyUp", "keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, **codes)
    said = browser.run(f"{PICKER}.getAttribute('aria-valuetext')")
    assert said == "sequence 2, component 2: x 1.99, y −0.60. sentence 2"
    assert browser.run(EXAMPLES)[0] == said


def test_examples_are_the_sentences_that_the_model_read(store: Path) -> None:
    """A run's own encoder, given the sentences that are told, puts them where the frames do."""
    run = train_or_load(Spec("lagging-synthetic", "vae", "smoke", 0), progress=False)
    model, vocabulary = build_model(run.spec), load_data(run.spec.setup).vocabulary
    model.load_state_dict(run.weights())
    model.eval()
    told = players.examples(run.spec)
    assert told is not None
    encoded = [vocabulary.encode(text.partition(";")[0]) for text in told]
    means = model.posterior(torch.tensor(encoded)).mean[:, 0].detach().numpy()
    wanted = run.arrays["final_inference_mean"]
    assert np.ptp(wanted) > 0
    np.testing.assert_allclose(means[: len(wanted)], wanted, rtol=1e-4, atol=1e-7)


def test_examples_say_which_z_they_were_written_from() -> None:
    """The nearest centre is the component that the data set names, of nearly all of them."""
    spec = Spec("five-gaussians", "vae", "smoke", 0)
    told, labels = players.examples(spec), load_data(spec.setup).valid.labels
    assert told is not None and labels is not None
    words = (re.findall(r"[-\d.]+", one.partition("z = ")[2].replace("−", "-")) for one in told)
    z = np.array([[float(word) for word in pair] for pair in words])
    apart = np.linalg.norm(z[:, None] - np.array(five_gaussians.CENTRES), axis=-1)
    assert np.mean(apart.argmin(axis=1) == labels.numpy()) > 0.9


@pytest.mark.parametrize("name", ["board", "player"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_explorers_fit_and_have_no_finding_of_axe(
    browser: Browser, axe: str, request: pytest.FixtureRequest, name: str, size: tuple[int, int]
) -> None:
    page: Path = request.getfixturevalue(name)
    browser.emulate(*size)
    browser.open(page.as_uri())
    assert browser.run("document.documentElement.scrollWidth") <= size[0]
    assert browser.axe(axe) == []
    browser.emulate(*DESKTOP)


@pytest.mark.parametrize(("name", "tables"), [("board", 1), ("player", 0)])
def test_without_scripts_a_figure_and_a_table_are_shown(
    browser: Browser, request: pytest.FixtureRequest, name: str, tables: int
) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(request.getfixturevalue(name).as_uri())
        assert browser.run("document.querySelector('.pc-explorer img').naturalWidth") > 300
        assert browser.run("document.querySelectorAll('.pc-explorer table').length") == tables
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_no_text_of_the_data_can_end_its_element() -> None:
    shown = explorers.section("frames", {"a": "</script><b>"}, "", 'a "label"')
    assert "</script><b>" not in shown and "\\u003c/script>" in shown
    assert 'aria-label="a &quot;label&quot;"' in shown


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"updates": np.array([0, 10])}, "2 frames of points"),
        ({"points": np.zeros((3, 6))}, "shape"),
        ({"updates": np.array([0, 10, 10])}, "rise from frame to frame"),
    ],
)
def test_frames_that_are_none_are_refused(changed: dict[str, Any], told: str) -> None:
    wrong = [tracks()[0]._replace(**changed), tracks()[1]]
    with pytest.raises(BadInput, match=told):
        players.player(wrong, ("basic", "basic"), 3.0, ("x", "y"), "c", "Alt.")


def test_a_page_holds_the_first_points_in_steps_finer_than_a_dot() -> None:
    points = np.random.default_rng(0).normal(size=(2, 400, 2)) * 2
    track = players.Track("g", "m", 0, np.array([0, 1]), points, np.arange(400) % 5)
    packed = players._packed(track.thinned(), 3.0, [])
    raw = np.frombuffer(base64.b64decode(str(packed["points"])), np.uint8).astype(float)
    shown = 3.0 * (2 * raw.reshape(2, 250, 2) / 255 - 1)
    assert np.abs(shown - np.clip(points[:, :250], -3, 3)).max() <= 3.0 / 255 + 1e-9
