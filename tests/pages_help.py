"""Small books and notebooks for the tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from companion import show

ROOT = Path(__file__).resolve().parents[1]

PARAMETERS = 'scale = "quick"\nseeds = [0, 1]\ndevice = "auto"'
BEGIN = (
    "import companion\npage = companion.begin(globals(), scale=scale, seeds=seeds, device=device)"
)


def notebook(
    *cells: str,
    parameters: str = PARAMETERS,
    begin: str = BEGIN,
    title: str = "A page",
    runs: Sequence[dict[str, Any]] = (),
) -> Any:
    """A source notebook: title, parameters, begin, then the cells."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    book.cells = [nbformat.v4.new_markdown_cell(f"# {title}"), first]
    book.cells += [nbformat.v4.new_code_cell(source) for source in (begin, *cells)]
    if runs:
        book.metadata["posterior_collapse"] = {"runs": list(runs)}
    for place, cell in enumerate(book.cells):
        cell["id"] = f"cell-{place}"  # the same text each time, hence the same key
    return book


def text_of(book: Any) -> str:
    """A notebook as text."""
    return str(nbformat.writes(book))


def printed(run: Any) -> str:
    """Everything that the cells of an executed notebook printed."""
    return "".join(
        output.get("text", "")
        for cell in run.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


def small_book(folder: Path, pages: dict[str, Any]) -> Path:
    """A book with the repository's settings and these notebooks: name -> notebook."""
    (folder / "notebooks").mkdir(parents=True)
    (folder / "data").mkdir()
    for name in ("_config.yml", "Snakefile", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("static", "templates"):
        shutil.copytree(ROOT / "book" / name, folder / "book" / name)
    (folder / "book" / "index.md").write_text("# A small book\n\nIt has pages.\n")
    (folder / "book" / "references.bib").write_text("")
    toc = ["format: jb-book", "root: book/index", "chapters:"]
    for name, book in pages.items():
        path = folder / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(book), encoding="utf-8")
        toc.append(f"  - file: notebooks/{name}")
    (folder / "_toc.yml").write_text("\n".join(toc) + "\n")
    return folder


def run_cell(name: str, id: str) -> dict[str, Any]:
    """The names that a cell of a page defines, run by itself with nothing but ``show``."""
    book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    (source,) = (cell.source for cell in book.cells if cell["id"] == id)
    names: dict[str, Any] = {"show": show}
    exec(source, names)
    return names
