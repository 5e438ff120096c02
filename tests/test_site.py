"""The built site: clean, complete, and working in a browser without a kernel or a server.

The book itself is built once at smoke scale. A second, small book is built as on a machine
without Node.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from PIL import Image

from browser import Browser, find_chromium
from companion.build import assets, extension, pdf, sources
from companion.build.weights import files, loaded, weigh
from pages_help import notebook, small_book
from test_pdf import text_of

SLIDER = (
    "from matplotlib.figure import Figure\n"
    "def frame(k):\n"
    "    figure = Figure(figsize=(9, 3))\n"
    "    figure.add_subplot().plot([0, k], [0, 1])\n"
    "    return figure\n"
    "frames, labels = [frame(k) for k in range(5)], [f'step {k}' for k in range(5)]\n"
    "companion.slider(frames, labels, 'time', 'A line.')"
)
HEAVIEST = 3_000_000  # bytes of a page and of all that it loads, without its explorers
FORMULA = """# Formula

Inline $q_\\phi(z \\mid x)$.

$$
\\mathrm{KL} \\ge 0
$$ (bound)

By {eq}`bound`.
"""


def jupyter_book(source: Path, out: Path, environment: dict[str, str]) -> str:
    """Build a book as `make book` does, and return what was said."""
    tool = Path(sys.executable).with_name("jupyter-book")
    command = [str(tool), "build", str(source), "--path-output", str(out)]
    done = subprocess.run(
        [*command, "--all", "-W", "-n", "--keep-going"],
        cwd=source,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    assert "WARNING" not in said, said
    return said


@pytest.fixture(scope="session")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book at smoke scale with one seed, through the same graph as `make book`."""
    out = tmp_path_factory.mktemp("site")
    environment = {
        "POSTERIOR_COLLAPSE_SCALE": "smoke",
        "POSTERIOR_COLLAPSE_SEEDS": "[0]",
        "POSTERIOR_COLLAPSE_STORE": str(out / "store"),
    }
    graph = [sys.executable, "-m", "companion.build.batch", "book", "--jobs", "2"]
    done = subprocess.run(
        graph, cwd=root, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    jupyter_book(root, out, environment)
    return out / "_build" / "html"


@pytest.fixture(scope="session")
def pages(site: Path) -> list[Path]:
    """Every page of the site."""
    return sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)


@pytest.fixture(scope="session")
def plain_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small book built where the vendored scripts are missing."""
    folder = tmp_path_factory.mktemp("plain")
    page = notebook(SLIDER)
    page.cells[0].source = FORMULA
    book = small_book(folder / "book", {"page": page})
    settings = (book / "_config.yml").read_text(encoding="utf-8")
    settings = settings.replace('  url: ""', '  url: "https://github.com/someone/collapse"')
    settings = settings.replace('baseurl: ""', 'baseurl: "https://example.org/book/"')
    (book / "_config.yml").write_text(settings, encoding="utf-8")
    shutil.rmtree(book / "book" / "static" / "vendor", ignore_errors=True)
    said = jupyter_book(book, folder, {"POSTERIOR_COLLAPSE_STORE": str(folder / "store")})
    assert assets.missing_notice() in said
    return folder / "_build" / "html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip("Chromium is not installed (on Debian: apt-get install chromium)")
    tab = Browser()
    yield tab
    tab.close()


@pytest.fixture(scope="session")
def vendored(root: Path) -> None:
    if not assets.present(root):
        pytest.skip(f"the site was built without npm: {assets.missing_notice()}")


@pytest.fixture(scope="session")
def server(site: Path) -> Iterator[str]:
    """The site over http."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_every_page_of_the_contents_is_there(site: Path, root: Path) -> None:
    assert (site / "index.html").is_file()
    for name in sources.toc_notebooks(root):
        assert (site / name).with_suffix(".html").is_file()


def test_pages_load_nothing_from_elsewhere(pages: list[Path]) -> None:
    for page in pages:
        for address in loaded(page):
            assert not re.match(r"(https?:)?//", address), f"{page.name} loads {address}"


def test_what_pages_load_is_there(pages: list[Path]) -> None:
    for page in pages:
        for address in loaded(page):
            if address.startswith("data:"):
                continue
            assert (page.parent / address.split("?")[0]).exists(), f"{page.name}: {address}"


def test_style_sheets_load_nothing_from_elsewhere(site: Path) -> None:
    for sheet in site.rglob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        found = re.findall(r"(?:url\(|@import)\s*['\"]?\s*((?:https?:)?//[^'\")]+)", text)
        assert found == [], sheet.name


def test_links_inside_the_site_lead_somewhere(pages: list[Path]) -> None:
    for page in pages:
        text = re.sub(r"<script.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for address in re.findall(r'<a[^>]*\shref="([^"#]+)', text):
            if not re.match(r"[a-z]+:", address):
                assert (page.parent / address.split("?")[0]).exists(), f"{page.name}: {address}"


def test_download_buttons_give_the_sources(site: Path, root: Path) -> None:
    for name in sources.toc_notebooks(root):
        text = (site / name).with_suffix(".html").read_text(encoding="utf-8")
        assert f"_sources/{name}" in text
        assert (site / "_sources" / name).read_bytes() == (root / name).read_bytes()


def test_pages_name_no_folder_of_this_machine(pages: list[Path], root: Path) -> None:
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for folder in (str(root), str(Path.home() / ".cache"), sys.prefix):
            assert folder not in text, f"{page.name} names {folder}"


def test_pages_are_light(pages: list[Path], site: Path) -> None:
    """No page loads more than 3 MB besides its explorers."""
    found = {str(page.relative_to(site)): weigh(page, site) for page in pages}
    assert max(own.plain for own in found.values()) < HEAVIEST, found


def test_the_site_tells_what_its_pages_weigh(site: Path, pages: list[Path]) -> None:
    """Every page is in the table, with its weight when the site was finished."""
    text = (site / "book" / "rerun.html").read_text(encoding="utf-8")
    table = text.partition("<!-- weights -->")[2].partition("<!-- /weights -->")[0]
    rows = re.findall(r'<th scope="row">([^<]*)</th><td[^>]*>([\d.]+)</td>', table)
    assert len(rows) == len([page for page in pages if page != site / "index.html"])
    for name, told in rows:
        homes = (site / f"{home}{name}.html" for home in ("", "notebooks/"))
        page = next(path for path in homes if path.is_file())
        assert float(told) == pytest.approx(weigh(page, site).plain / 1e6, abs=0.006), name


def meta(page: Path) -> dict[str, str]:
    """What the head of a page says of it: name -> content."""
    text = page.read_text(encoding="utf-8").partition("</head>")[0]
    return dict(re.findall(r'<meta (?:name|property)="([^"]+)" content="([^"]*)"', text))


def test_every_page_describes_itself(pages: list[Path], site: Path) -> None:
    """For search engines and for social cards, with a picture made when the site was built."""
    found = {page: meta(page) for page in pages if page != site / "index.html"}
    for page, told in found.items():
        assert len(told["description"]) > 20 and told["og:description"] == told["description"]
        assert told["og:title"], page
        picture = Image.open(page.parent / told["og:image"])
        assert picture.size == (1200, 630) and len(picture.getcolors() or ()) > 20
    own = [told["description"] for page, told in found.items() if "notebooks" in page.parts]
    assert len(set(own)) == len(own)


def test_every_page_says_who_wrote_it_on_what_terms_and_how_to_cite_it(
    pages: list[Path], site: Path
) -> None:
    for page in pages:
        text = page.read_text(encoding="utf-8")
        if page != site / "index.html":
            home = "" if page.name == "bibliography.html" else "bibliography.html"
            assert f'{home}#licence">MIT licence' in text, page
            assert f'{home}#cite">Cite this book' in text, page
            assert "By the authors of Posterior Collapse, Reproduced" in text, page
    text = (site / "book" / "bibliography.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in text for name in ("cite", "licence"))
    assert "title = {Posterior Collapse, Reproduced}" in text


def test_links_to_the_repository_hang_on_one_setting(plain_site: Path) -> None:
    """Source, editor, issues, Binder and Colab; none of them without an address."""
    text = (plain_site / "notebooks" / "page.html").read_text(encoding="utf-8")
    for link in (
        "https://github.com/someone/collapse/edit/main/notebooks/page.ipynb",
        "https://github.com/someone/collapse/issues/new",
        "https://mybinder.org/v2/gh/someone/collapse/main?urlpath=tree/notebooks/page.ipynb",
        "https://colab.research.google.com/github/someone/collapse/blob/main/notebooks/page.ipynb",
    ):
        assert link in text, link
    told = meta(plain_site / "notebooks" / "page.html")
    assert told["og:url"] == "https://example.org/book/notebooks/page.html"


def test_without_an_address_no_link_to_a_repository_is_shown(site: Path) -> None:
    for page in ("notebooks/lagging/text.html", "book/rerun.html"):
        text = (site / page).read_text(encoding="utf-8")
        assert "mybinder" not in text and "colab.research" not in text
        assert "/edit/" not in text and "/issues/new" not in text


def test_a_page_is_printed_with_what_it_folds_away(site: Path, tmp_path: Path) -> None:
    if find_chromium() is None:
        pytest.skip("Chromium is not installed (on Debian: apt-get install chromium)")
    page = site / "notebooks" / "lagging" / "mean-space.html"
    pdf.print_page(pdf.find_chromium(), page, tmp_path / "page.pdf")
    shown = text_of(tmp_path / "page.pdf")
    assert "Aschecked:" in shown  # in every verdict box, under its summary
    assert "Onthispage" not in shown  # the list of sections beside the text


def test_a_page_loads_the_scripts_that_it_uses(site: Path) -> None:
    """Formulas, tables that sort and the survey each have a script; no page has one for widgets."""
    uses = {
        "notebooks/autogen/survey.html": "survey.js",
        "notebooks/papers/status.html": "tables.js",
        "book/collapse.html": "mathjax/startup.js",
    }
    for page, script in uses.items():
        for other in uses:
            there = any(script in address for address in loaded(site / other))
            assert there or other != page, page
    assert not any("survey.js" in one for one in loaded(site / "book" / "collapse.html"))
    assert not any("mathjax" in one for one in loaded(site / "search.html"))
    # The index of words is loaded where it is searched.
    for page in site.rglob("notebooks/*/*.html"):
        assert not any("searchindex" in one or "home.js" in one for one in loaded(page)), page


def test_pages_show_no_progress_bars_and_no_warnings(site: Path, root: Path) -> None:
    for name in sources.toc_notebooks(root):
        text = (site / name).with_suffix(".html").read_text(encoding="utf-8")
        assert "output stderr" not in text, f"{name} shows something on stderr"
        assert not re.search(r"\d+%\|", text), f"{name} shows a progress bar"


# every formula is set
DARK = "document.documentElement.dataset.theme === 'dark'"
# The theme lets the keyboard reach code that scrolls, a moment after a window got narrower.
REACHED = "[...document.querySelectorAll('pre')].every(" + (
    "(x) => x.scrollWidth <= x.clientWidth || x.tabIndex === 0)"
)
SETTLED = "!window.MathJax?.startup || MathJax.startup.promise.then(() => true)"


def test_every_page_opens_from_disk_in_silence(
    browser: Browser, site: Path, pages: list[Path]
) -> None:
    """No error on the console, no request off the disk, nothing wider than the window."""
    for page in pages:
        browser.open(page.as_uri())
        browser.wait(SETTLED)
        assert browser.errors() == [], page.name
        # A letter that was taken out of the font would be drawn as text.
        assert browser.run("document.querySelectorAll('mjx-container svg text').length") == 0
        others = [url for url in browser.requests() if not url.startswith("file://")]
        assert others == [], page.name
        # Nothing that a browser loads is missing from the weight of the page.
        asked = {Path(unquote(urlparse(url).path)) for url in browser.requests()} - {page}
        if page != site / "index.html":  # which leads on to another page
            assert asked <= files(page, site), page.name


PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}


def test_pages_fit_on_a_phone(browser: Browser, site: Path, root: Path) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", **PHONE)
    prose = [f"book/{name}.md" for name in ("index", "api", "rerun")]
    for name in [*sources.toc_notebooks(root), *prose]:
        browser.open((site / name).with_suffix(".html").as_uri())
        assert browser.run("document.documentElement.scrollWidth") <= 390, name
    browser.call("Emulation.clearDeviceMetricsOverride")


DESK = {"width": 1440, "height": 900, "deviceScaleFactor": 1, "mobile": False}


def bottom(selector: str) -> str:
    """Where the last element of a kind ends, in pixels from the top of the unscrolled page."""
    return (
        f"Math.max(...[...document.querySelectorAll({selector!r})].map("
        "(one) => one.getBoundingClientRect().bottom + window.scrollY))"
    )


def test_every_computed_page_opens_with_its_answer(
    browser: Browser, site: Path, root: Path
) -> None:
    """In view without scrolling, right under the question, with a link that leads to evidence."""
    browser.call("Emulation.setDeviceMetricsOverride", **DESK)
    for name in sources.toc_notebooks(root):
        browser.open((site / name).with_suffix(".html").as_uri())
        lead = ".pc-answer > div > p"
        assert browser.run(f"document.querySelectorAll({lead!r}).length") == 1, name
        assert 0 < browser.run(bottom(lead)) <= DESK["height"], name
        text = browser.run(f"document.querySelector({lead!r}).textContent")
        assert text.startswith("Answer. ") and len(text) > 60, name
        before = "document.querySelector('.pc-answer').parentElement.previousElementSibling"
        assert browser.run(f"{before}.textContent").startswith("Question. "), name
        links = "[...document.querySelectorAll('.pc-answer a')].map((one) => one.hash.slice(1))"
        for target in browser.run(links):
            assert browser.run(f"document.getElementById({target!r}) !== null"), (name, target)
    browser.call("Emulation.clearDeviceMetricsOverride")


DOTS = "[...document.querySelectorAll('.pc-dots')].map((one) => one.getAttribute('d')).join()"
PLAY = "document.querySelector('.pc-controls button')"


def test_home_is_one_screen_that_plays(browser: Browser, site: Path) -> None:
    home = (site / "book" / "index.html").as_uri()
    browser.call("Emulation.setDeviceMetricsOverride", **DESK)
    browser.open(home)
    for part in (".pc-space svg", ".pc-findings li", ".pc-bar a", ".pc-doors .sd-card"):
        assert 0 < browser.run(bottom(part)) <= DESK["height"], part
    before = browser.run(DOTS)
    browser.wait(f"{DOTS} !== {before!r}")
    assert browser.run(f"{PLAY}.textContent") == "Pause"
    browser.run(f"{PLAY}.click()")
    stopped = browser.run(DOTS)
    assert browser.run(DOTS) == stopped
    words = "document.querySelector('article').innerText.split(/\\s+/).length"
    assert browser.run(words) < 600
    calm = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.call("Emulation.setEmulatedMedia", features=calm)
    browser.open(home)
    assert browser.run(f"{PLAY}.textContent") == "Play"
    assert browser.run("document.querySelector('.pc-controls output').textContent").endswith("000")
    browser.call("Emulation.setEmulatedMedia", features=[])
    browser.call("Emulation.clearDeviceMetricsOverride")


def test_the_bar_leads_to_its_rows_of_the_status_page(browser: Browser, site: Path) -> None:
    """By a click from home; on a phone the rows are cards that need no sideways scrolling."""
    browser.call("Emulation.setDeviceMetricsOverride", **PHONE)
    browser.open((site / "book" / "index.html").as_uri())
    part = "document.querySelector('.pc-bar a')"
    told, count = browser.run(f"[{part}.querySelector('span').textContent, {part}.innerText]")
    browser.run(f"{part}.click()")
    rows = "[...document.querySelectorAll('.pc-cards tbody tr')].filter((row) => !row.hidden)"
    # Rows come before the script that hides some of them.
    there = "location.href.includes('status.html') && document.readyState === 'complete'"
    browser.wait(f"{there} && document.querySelector('.pc-filters select') && {rows}.length < 69")
    assert browser.run(f"{rows}.length") == int(count.split()[0])
    choice = "document.querySelector('.pc-filters select')"
    assert browser.run(f"{choice}.value") == told
    assert browser.run("document.querySelector('.pc-cards').scrollWidth") <= PHONE["width"]
    browser.run(f"{choice}.value = '', {choice}.dispatchEvent(new Event('change'))")
    assert browser.run(f"{rows}.length") == 69
    browser.call("Emulation.clearDeviceMetricsOverride")


def test_the_counts_of_the_status_page_fit_with_the_margin(browser: Browser, site: Path) -> None:
    browser.emulate(DESK["width"], DESK["height"])
    browser.open((site / "notebooks" / "papers" / "status.html").as_uri())
    table = "document.querySelector('.pc-table.pc-wide:not(.pc-cards)')"
    assert browser.run(f"{table}.scrollWidth <= {table}.clientWidth")
    assert browser.run(f"{table}.getBoundingClientRect().right") <= DESK["width"]


def test_one_switch_shows_the_set_up_code(browser: Browser, site: Path) -> None:
    """Hidden cells take no room, and one button opens all of them."""
    browser.open((site / "notebooks" / "lagging" / "text.html").as_uri())
    browser.wait("document.querySelector('.pc-code-switch') !== null")
    hidden = ".cell:not(.tag_solution) > details.hide.above-input"
    cells = f"[...document.querySelectorAll('{hidden}')]"
    assert browser.run(f"{cells}.length") > 3
    assert browser.run(f"{cells}.filter((cell) => cell.offsetHeight > 0).length") == 0
    browser.run("document.querySelector('.pc-code-switch').click()")
    assert browser.run(f"{cells}.every((cell) => cell.open && cell.offsetHeight > 0)")
    browser.run("document.querySelector('.pc-code-switch').click()")
    assert browser.run(f"{cells}.filter((cell) => cell.offsetHeight > 0).length") == 0


def test_formulas_are_typeset(browser: Browser, site: Path, vendored: None) -> None:
    browser.open((site / "book" / "collapse.html").as_uri())
    browser.wait("document.querySelectorAll('mjx-container').length > 3")
    assert browser.run("document.querySelectorAll('[data-mjx-error]').length") == 0


def test_no_page_has_a_serious_finding_of_axe(
    browser: Browser, pages: list[Path], axe: str
) -> None:
    """Names and contrast of everything, by axe-core; light on a desktop and dark on a phone."""
    found = {}
    try:
        for page in pages:
            browser.emulate(1440, 900, "light")
            browser.open(page.as_uri())
            browser.wait(SETTLED)
            # The strokes of formulas are hidden from readers; axe would only walk through them.
            browser.run(
                "document.querySelectorAll('mjx-container svg').forEach((x) => x.replaceChildren())"
            )
            found[f"{page}, desktop"] = browser.axe(axe)
            browser.emulate(390, 844, "dark")
            browser.wait(f"{DARK} && {REACHED}")
            found[f"{page}, phone"] = browser.axe(axe)
    finally:
        browser.emulate(1440, 900)
    assert {page: one for page, one in found.items() if one} == {}


@pytest.mark.parametrize("how", ["disk", "http"])
def test_explorers_are_used_by_clicking(
    browser: Browser, site: Path, server: str, how: str
) -> None:
    """The leaderboard, a player and the survey, from disk and from a server."""
    pressed = "[...document.querySelectorAll('button')].find((x) => x.textContent.startsWith('{}'))"
    checks = {
        "methods/leaderboard": ("MI", "document.querySelector('th[aria-sort] button').textContent"),
        "lagging/mean-space": ("Play", pressed.format("Pause") + ".textContent"),
        "autogen/survey": ("Start:", "document.querySelector('.pc-survey legend').textContent"),
    }
    said = {"methods/leaderboard": "MI", "lagging/mean-space": "Pause"}
    for name, (button, shown) in checks.items():
        path = f"notebooks/{name}.html"
        browser.open((site / path).as_uri() if how == "disk" else f"{server}/{path}")
        browser.run(f"localStorage.clear() || {pressed.format(button)}.click()")
        assert browser.run(shown).startswith(said.get(name, "Question 1 of"))
        assert browser.errors() == [], name


CAPTION = "document.querySelector('figure.frame figcaption')?.textContent"
FOCUS = "document.querySelector('.pc-frames input').focus() || true"


def press(browser: Browser, key: str, code: int) -> None:
    for kind in ("keyDown", "keyUp"):
        browser.call(
            "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
        )


@pytest.mark.parametrize("how", ["disk", "http"])
def test_sliders_move_without_a_kernel(browser: Browser, site: Path, server: str, how: str) -> None:
    """By key, by the play button, with a description for each picture."""
    page = "notebooks/lagging/theory.html"
    browser.open((site / page).as_uri() if how == "disk" else f"{server}/{page}")
    before = browser.wait(CAPTION)
    browser.run(FOCUS)
    press(browser, "ArrowRight", 39)
    after = browser.wait(f"{CAPTION} != {before!r} && {CAPTION}")
    picture = "document.querySelector('figure.frame img')"
    assert browser.run(f"{picture}.alt").endswith(after)
    assert browser.run("document.querySelector('.pc-frames input').ariaValueText") == after
    assert browser.run(f"{picture}.complete && {picture}.naturalWidth > 100")
    browser.run("document.querySelector('.pc-frames button').click() || true")
    browser.wait(f"{CAPTION} != {after!r}")
    assert browser.errors() == []


def test_flat_pictures_scroll_on_a_phone(browser: Browser, plain_site: Path) -> None:
    """They keep their height, and while the slider moves they stay where they were scrolled to."""
    browser.emulate(390, 844)
    try:
        browser.open((plain_site / "notebooks" / "page.html").as_uri())
        before = browser.wait(CAPTION)
        picture = "document.querySelector('figure.frame img')"
        browser.wait(f"{picture}.offsetHeight >= 9 * 16 - 1")  # 9 rem; else 120 pixels
        assert browser.run("document.documentElement.scrollWidth") <= 390
        stack = f"{picture}.closest('.pc-stills')"
        browser.run(f"{stack}.scrollLeft = 40")
        browser.run(FOCUS)
        press(browser, "ArrowRight", 39)
        browser.wait(f"{CAPTION} != {before!r}")
        assert browser.run(f"{stack}.scrollLeft") == 40
        label = "document.querySelector('figure.frame figcaption').getBoundingClientRect().left"
        assert browser.run(label) >= 0
    finally:
        browser.emulate(1440, 900)


def test_without_scripts_still_frames_are_shown(browser: Browser, site: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open((site / "notebooks" / "lagging" / "theory.html").as_uri())
        shown = "[...document.querySelectorAll('.pc-stills img')]"
        assert browser.run(f"{shown}.filter(one => one.offsetWidth > 100).length") >= 3
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_search_excerpts_quote_prose_from_disk(browser: Browser, plain_site: Path) -> None:
    browser.open(f"{(plain_site / 'search.html').as_uri()}?q=inline")
    excerpt = browser.wait("document.querySelector('#search-results .context')?.textContent")
    assert excerpt.startswith("Inline q") and "3 of 5 frames" in excerpt
    assert browser.errors() == []


def test_without_node_the_site_says_what_is_lost(plain_site: Path) -> None:
    for page in ("book/index.html", "notebooks/page.html"):
        assert assets.missing_notice() in (plain_site / page).read_text(encoding="utf-8")


def test_without_node_formulas_are_drawn_and_sliders_move(
    browser: Browser, plain_site: Path
) -> None:
    page = plain_site / "notebooks" / "page.html"
    assert not any("mathjax" in address for address in loaded(page))
    browser.open(page.as_uri())
    assert browser.run("document.querySelectorAll('math').length") == 2
    assert browser.run("document.querySelector('.math .eqno').textContent").startswith("(1)")
    assert browser.run(CAPTION) == "step 0"
    browser.run(FOCUS)
    press(browser, "End", 35)
    assert browser.run(CAPTION) == "step 4"
    assert browser.errors() == []


def test_a_page_is_rebuilt_when_the_data_change_although_its_source_does_not(
    tmp_path: Path, store: Path
) -> None:
    """Sphinx looks at the times of sources only; the extension knows what else decides a page."""
    page = notebook("from pathlib import Path\nprint('read', Path('data/number.txt').read_text())")
    book = small_book(tmp_path / "book", {"page": page})
    tool = Path(sys.executable).with_name("jupyter-book")
    for number in ("111", "222"):
        (book / "data" / "number.txt").write_text(number)
        subprocess.run([str(tool), "build", "."], cwd=book, check=True, capture_output=True)
        shown = (book / "_build" / "html" / "notebooks" / "page.html").read_text()
        assert f"read {number}" in shown


def test_formulas_without_mathjax_become_mathml_or_stay_readable() -> None:
    """Commands that docutils knows under another name are drawn; what it does not know is kept."""
    for tex in (r"\tfrac12", r"a_1, \dots, a_n", r"\mathrm{KL}\big(q \,\|\, p\big)"):
        assert extension._mathml(tex, False).startswith("<math")
    assert extension._mathml(r"\tfraction < 1", False) == r"<code>\tfraction &lt; 1</code>"
