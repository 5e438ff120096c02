"""The print view and ``make pdf``, by a real Chromium; the text of a file is read back."""

from __future__ import annotations

import re
import shutil
import zlib
from pathlib import Path

import pytest

from companion.build import pdf, sources
from posterior_collapse.errors import BadInput


def _letters(table: bytes) -> dict[int, str]:
    """Glyph -> letters, from the table that a font has for readers."""
    found = {}
    for first, last, text in re.findall(rb"<(\w{4})> <(\w{4})> <(\w+)>", table):
        for place, glyph in enumerate(range(int(first, 16), int(last, 16) + 1)):
            found[glyph] = chr(int(text, 16) + place)
    for glyph, text in re.findall(rb"^<(\w{4})> <(\w+)>$", table, re.MULTILINE):
        found[int(glyph, 16)] = bytes.fromhex(text.decode()).decode("utf-16-be")
    return found


def text_of(path: Path) -> str:
    """The letters that a file of Chromium shows, without spaces."""
    raw = path.read_bytes()
    bodies = {int(n): body for n, body in re.findall(rb"(\d+) 0 obj(.*?)endobj", raw, re.DOTALL)}

    def stream(body: bytes) -> bytes:
        packed = body.partition(b"stream\n")[2].rpartition(b"\nendstream")[0]
        return zlib.decompress(packed) if b"/FlateDecode" in body else packed

    fonts = {}
    for name, number in set(re.findall(rb"/(F\d+) (\d+) 0 R", raw)):
        table = re.search(rb"/ToUnicode (\d+) 0 R", bodies[int(number)])
        fonts[name] = _letters(stream(bodies[int(table[1])])) if table else {}
    shown, font = [], {}
    for body in bodies.values():
        if b"stream\n" not in body or b"/Subtype /Image" in body or b"/Length1" in body:
            continue
        for name, glyphs in re.findall(rb"/(F\d+) [\d.]+ Tf|<([0-9A-Fa-f]+)>", stream(body)):
            font = fonts.get(name, font) if name else font
            codes = (int(glyphs[at : at + 4], 16) for at in range(0, len(glyphs), 4))
            shown += [font.get(code, "") for code in codes]
    return re.sub(r"\s", "", "".join(shown))


@pytest.fixture(scope="module")
def printed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with the book's print view and no theme, in the dark, as text."""
    folder, static = tmp_path_factory.mktemp("print"), (root / "book" / "static").as_uri()
    page = folder / "page.html"
    columns = "".join(f"<td>column{n}</td>" for n in range(24))
    page.write_text(
        '<!doctype html><html lang="en" data-theme="dark"><meta charset="utf-8"><title>t</title>'
        f'<link rel="stylesheet" href="{static}/print.css">'
        f'<script src="{static}/print.js"></script>'
        '<nav class="bd-sidebar-primary">Sidebar</nav>'
        '<article class="bd-article"><p>Open words.</p>'
        "<details><summary>More</summary><p>Folded words.</p><details><summary>And more</summary>"
        f"<p>Deeply folded.</p></details></details><div class='pc-table' style='overflow-x:auto'>"
        f"<table><tr>{columns}</tr></table></div></article>",
        encoding="utf-8",
    )
    try:
        chromium = pdf.find_chromium()
    except BadInput as reason:
        pytest.skip(str(reason))
    pdf.print_page(chromium, page, folder / "page.pdf")
    return text_of(folder / "page.pdf")


def test_what_is_folded_away_is_printed(printed: str) -> None:
    assert "Openwords." in printed and "Foldedwords." in printed and "Deeplyfolded." in printed


def test_navigation_is_not_printed_and_no_table_is_cut(printed: str) -> None:
    assert "Sidebar" not in printed
    assert all(f"column{n}" in printed for n in range(24))


def test_without_chromium_or_a_site_it_says_so(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notebooks").mkdir()
    shutil.copy(root / "_toc.yml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pdf.main() == 2
    assert "PDF files need Chromium or Chrome" in capsys.readouterr().err
    (tmp_path / "chromium").write_text("#!/bin/sh\necho no display >&2; exit 1\n")
    (tmp_path / "chromium").chmod(0o755)
    assert pdf.main() == 2
    assert "run make book first" in capsys.readouterr().err
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(Exception, match="could not print .*no display"):
        pdf.print_page(pdf.find_chromium(), root / "README.md", tmp_path / "x.pdf")


def test_pages_are_printed_in_the_order_of_the_contents(root: Path) -> None:
    names = sources.toc_pages(root)
    assert names[0] == "book/index" and names[-1] == "book/bibliography"
    assert [n for n in names if n.startswith("notebooks/")] == [
        name.removesuffix(".ipynb") for name in sources.toc_notebooks(root)
    ]
