"""A grid's pages become a book that shows their parameters and compares them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import nbformat
import pytest

from companion.build import grid_book, reader
from pages_help import notebook, small_book
from posterior_collapse.runs import Spec, train_or_load

RECIPE = "text-grammar"
TEXT = """# A page of *two*

Question. Does it hold, as {ref}`verdicts` asks, or {ref}`the other page <elsewhere>`?

```{math}
:label: sum
1 + 1 = 2
```

By {eq}`sum`; see [the next page](second.ipynb) and [prose](../book/absent.md).
"""
ANSWER = """
from companion.show import answers
answers.answer(f"It is <b>{page.seeds[0]}</b>.", "evidence")
"""
SHOWS = """
from IPython.display import HTML
HTML('<a href="second.html#x">here</a> <a href="../book/absent.html">gone</a>'
     '<section data-item="lagging-figure1" data-scale="smoke" data-verdict="holds"></section>')
"""


@pytest.fixture
def book(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    first = notebook(ANSWER, SHOWS, runs=[{"recipe": RECIPE, "methods": ["vae"]}])
    first.cells[0].source = TEXT
    folder = small_book(tmp_path / "book", {"first": first, "second": notebook("print(1)")})
    grid = [
        {"notebooks": "first.ipynb", "parameters": {"scale": "smoke", "seeds": [[0], [1]]}},
        {"notebooks": "second.ipynb", "parameters": {"scale": "smoke", "seeds": [[0]]}},
    ]
    (folder / "grid.yml").write_text(json.dumps({"grid": grid}))
    monkeypatch.chdir(folder)
    return folder


def execute(book: Path, name: str, seed: int) -> None:
    """Execute a cell of the grid, as the graph does."""
    words = [f"notebooks/{name}.ipynb", "--parameters"]
    words += [json.dumps({"scale": "smoke", "seeds": [seed]}), "--output"]
    words.append(str(book / "_batch" / f"scale=smoke,seeds={seed}" / f"{name}.ipynb"))
    assert reader.main(words) == 0


def test_a_grid_becomes_a_book(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_or_load(Spec(RECIPE, "vae", "smoke", 0), "cpu", False)
    train_or_load(Spec(RECIPE, "vae", "smoke", 1), "cpu", False)
    execute(book, "first", 0)
    assert grid_book.main(["grid.yml"]) == 2
    said = capsys.readouterr().err
    assert "2 of 3 pages of grid.yml are missing" in said and "make batch GRID=grid.yml" in said
    execute(book, "first", 1)
    execute(book, "second", 0)
    assert grid_book.main(["grid.yml"]) == 0, capsys.readouterr().err

    site = book / "_batch" / ".book" / "_build" / "html"
    index = (site / "index.html").read_text()
    assert 'class="pc-table pc-sortable' in index and "tables.js" in index
    assert 'href="cells/002/first.html"' in index
    tables = {path.name: path for path in (site / "_downloads").rglob("*.csv")}
    with tables["cells.csv"].open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["page"], row["seeds"], row["verdicts"], row["answer"]) for row in rows] == [
        ("A page of two", "[0]", "1 holds", "It is 0."),
        ("A page of two", "[1]", "1 holds", "It is 1."),
        ("A page", "[0]", "", ""),
    ]
    with tables["methods.csv"].open() as file:
        measured = next(csv.DictReader(file))
    assert (measured["method"], measured["recipe"]) == ("vae", RECIPE)
    assert float(measured["KL"].split()[0]) == pytest.approx(run.metrics["kl"], abs=0.01)

    page = (site / "cells" / "001" / "first.html").read_text()
    assert re.search(r"<h1>A page of <em>two</em>: scale = smoke, seeds = \[0\]", page)
    assert re.search(r'href="#equation-sum-cells-001-first"', page)
    assert "as verdicts asks, or the other page?" in page
    assert '<a href="second.html#x">' in page and '<a href="../book' not in page
    other = (site / "cells" / "002" / "first.html").read_text()  # whose grid lacks the second page
    assert "equation-sum-cells-002-first" in other
    own, others = (re.sub(r"<span[^>]*>|</span>", "", text) for text in (page, other))
    assert 'href="second.html">the next page</a>' in own
    assert "the next page" in others and "the next page</a>" not in others
    assert '<a href="second' not in other

    nbformat.write(notebook("print(2)"), book / "notebooks" / "second.ipynb")
    assert grid_book.main(["grid.yml"]) == 2
    assert "1 of 3 pages of grid.yml are missing or of another version" in capsys.readouterr().err
