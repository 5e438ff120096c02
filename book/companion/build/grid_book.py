"""A book of a grid's pages: ``python -m companion.build.grid_book batch.yml``.

It has every executed page of the grid, with its parameters under its title, and opens with a
comparison: one row a page and its parameters, which readers can sort, filter and take with them as
CSV. Settings, styles and scripts are those of the main book.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import nbformat
import pandas as pd
import yaml

from companion.build import batch, reader, sources
from companion.build.parameters import ANSWER
from companion.claims import evidence, table
from companion.papers import status
from companion.show import boxes
from companion.show.answers import tally
from posterior_collapse.errors import BadInput, PosteriorCollapseError, program
from posterior_collapse.places import writing
from posterior_collapse.runs import Run, load_run

_METRICS = (
    table.Column("KL", "kl"),
    table.Column("mutual information", "mutual_information"),
    table.Column("active units", "active_units", 1),
    table.Column("−ELBO", "elbo_loss"),
    table.Column("NLL", "nll"),
)
_LABEL = re.compile(r"^(?::(?:name|label): |\()([\w:.-]+)(?=$|\)=$)", re.MULTILINE)
_ROLE = re.compile(r"\{(?:ref|numref|eq|doc|term|prf:ref)\}`(?:([^`<]*?)\s*<)?([^`<>]+)>?`")
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")
_ANCHOR = re.compile(r'<a ([^>]*?)href="(?!https?:|#|data:)([^"#]+)(?:#[^"]*)?"')
_ANSWERED = re.compile(rf'<aside class="{ANSWER}"[^>]*>.*?<p><b>Answer\.</b>(.*?)</p>', re.DOTALL)


class Cell(NamedTuple):
    """A page of the grid with its parameters, executed."""

    job: batch.Job
    page: Any  # notebook
    place: str  # in the book of the grid, without its suffix

    @property
    def title(self) -> str:
        """The page's own."""
        first = self.page.cells[0].source.splitlines()[0]
        return re.sub(r"[*`$]", "", first.lstrip("# ")).strip()


def cells(jobs: Sequence[batch.Job], root: Path, grid: Path) -> list[Cell]:
    """Every page of a grid as it was executed.

    Raises:
        BadInput: one is missing, or is of another version of code or data; it says what to run.
    """
    keys = [reader.part_digest(batch.job_parts(job, root)) for job in jobs]
    missing = [job for job, key in zip(jobs, keys, strict=True) if not batch.is_done(job, key)]
    if missing:
        raise BadInput(
            f"{len(missing)} of {len(jobs)} pages of {grid} are missing or of another version, "
            f"such as {missing[0].label}; compute them first: make batch GRID={grid}"
        )
    found = []
    folders = list(dict.fromkeys(batch.folder_name(job.parameters) for job in jobs))
    for job in jobs:
        assert job.output is not None
        number = folders.index(batch.folder_name(job.parameters)) + 1
        name = PurePosixPath(job.notebook).relative_to("notebooks").with_suffix("")
        page = nbformat.read(job.output, as_version=4)
        found.append(Cell(job, page, f"cells/{number:03d}/{name}"))
    return found


def _values(parameters: Mapping[str, object]) -> dict[str, str]:
    """Parameters as a reader writes them."""
    return {name: str(value) for name, value in sorted(parameters.items())}


def _own_text(source: str, labels: set[str], cell: Cell, places: set[str]) -> str:
    """Markdown of a page in a book that has the page several times, and lacks others.

    What the page labels gets a name of its own, and what leads out of the book becomes text.
    """
    mark = cell.place.replace("/", "-")

    def role(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        if target not in labels:
            return text or target
        own = f"{target}-{mark}"
        return found[0].replace(f"`{target}`", f"`{own}`").replace(f"<{target}>", f"<{own}>")

    def link(found: re.Match[str]) -> str:
        return found[0] if _is_in(cell.place, found[2], places) else found[1]

    source = _LABEL.sub(lambda found: f"{found[0]}-{mark}", source)
    return _LINK.sub(link, _ROLE.sub(role, source))


def _is_in(place: str, target: str, places: set[str]) -> bool:
    """Whether a link from a page leads to a page of this book."""
    parts: list[str] = []
    for part in (PurePosixPath(place).parent / re.sub(r"\.(html|ipynb|md)$", "", target)).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts) in places


def _shown(cell: Cell, places: set[str]) -> Any:
    """A page for this book: its parameters in its title, its links within the book."""
    page = nbformat.from_dict(cell.page)
    texts = [one for one in page.cells if one.cell_type == "markdown"]
    labels = {label for one in texts for label in _LABEL.findall(one.source)}
    for one in texts:
        one.source = _own_text(one.source, labels, cell, places)
    head, _, rest = page.cells[0].source.partition("\n")
    values = ", ".join(f"{n} = {v}" for n, v in _values(cell.job.parameters).items())
    page.cells[0].source = f"{head}: {values}\n{rest}" if values else f"{head}\n{rest}"
    for one in page.cells:
        for output in one.get("outputs", []):
            data = output.get("data", {})
            if "text/html" in data:
                data["text/html"] = _ANCHOR.sub(
                    lambda found: found[0] if _is_in(cell.place, found[2], places) else "<a ",
                    "".join(data["text/html"]),
                )
    return page


def _answer(page: Any) -> str:
    """The words of a page's answer; empty if it has none."""
    for one in page.cells:
        for output in one.get("outputs", []):
            found = _ANSWERED.search("".join(output.get("data", {}).get("text/html", "")))
            if found:
                words = re.sub(r"<[^>]+>", "", found[1].replace("Evidence</a>", "</a>"))
                return " ".join(html.unescape(words).split())
    return ""


def comparison(found: Sequence[Cell], root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a grid's cells show, beside each other.

    Returns:
        One row a cell: page, parameters, trainings and their hours, verdicts, answer. And one row
        a cell and method: page, parameters, recipe, method, and mean (standard deviation over
        seeds) of what was measured.
    """
    rows: list[dict[str, str]] = []
    methods: list[dict[str, str]] = []
    for cell in found:
        head = {"page": cell.title, **_values(cell.job.parameters)}
        runs = _runs(cell.job, root)
        hours = sum(run.provenance["cpu_seconds"] for run in runs) / 3600.0
        verdicts = Counter(box.verdict for box in status.boxes(cell.page, cell.job.notebook))
        told = {"verdicts": tally(verdicts), "answer": _answer(cell.page)}
        rows.append({**head, "runs": str(len(runs)), "hours of training": f"{hours:.2f}", **told})
        for recipe in dict.fromkeys(run.spec.recipe for run in runs):
            own = table.frame(evidence.from_run(run) for run in runs if run.spec.recipe == recipe)
            shown = table.summary(own, _METRICS, str).to_dict("records")
            methods += [head | {"recipe": recipe} | one for one in shown]  # type: ignore[misc]
    return pd.DataFrame(rows).fillna(""), pd.DataFrame(methods).fillna("")


def _runs(job: batch.Job, root: Path) -> list[Run]:
    """The stored runs that a page asks for; some are on data that this machine lacks."""
    found = []
    for spec in batch.requested_specs(job, root):
        with contextlib.suppress(BadInput, FileNotFoundError):
            found.append(load_run(spec))
    return found


def _index(grid: Path, found: Sequence[Cell], root: Path, stage: Path) -> str:
    """The page that compares the cells, in MyST; its tables as CSV beside it."""
    rows, methods = comparison(found, root)
    places = [f"{cell.place}.html" for cell in found]
    links = {(number, "page"): place for number, place in enumerate(places)}
    parts = [f"# The grid of {grid.name}\n\n{len(rows)} pages, each with its parameters.\n"]
    captions = {
        "cells": "One row a page with its parameters.",
        "methods": "One row a method: mean (standard deviation over seeds). KL, mutual "
        "information, −ELBO and NLL in nats per example.",
    }
    for (name, caption), data in zip(captions.items(), (rows, methods), strict=True):
        if not data.empty:
            data.to_csv(stage / f"{name}.csv", index=False)
            targets = links if data is rows else {}
            shown = boxes.table(data, caption, sortable=True, links=targets).data
            raw = f"```{{raw}} html\n{shown}\n```\n"
            parts.append(f"{raw}\n{{download}}`These rows as CSV <{name}.csv>`\n")
    return "\n".join(parts)


def stage(grid: Path, found: Sequence[Cell], root: Path, folder: Path) -> None:
    """Write the sources of the book of a grid, in place of those of an earlier call."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("static", "templates"):
        shutil.copytree(root / "book" / name, folder / "book" / name)
    shutil.copy(root / "book" / "references.bib", folder / "book")
    places = {cell.place for cell in found}
    for cell in found:
        path = folder / f"{cell.place}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(_shown(cell, places), path)
    (folder / "index.md").write_text(_index(grid, found, root, folder), encoding="utf-8")
    (folder / "bibliography.md").write_text("# Bibliography\n\n```{bibliography}\n```\n")
    settings = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    settings["title"] = f"The grid of {grid.name}"
    del settings["sphinx"]["config"]["nb_custom_formats"]  # the pages are executed already
    settings["sphinx"]["config"]["nb_merge_streams"] = True
    (folder / "_config.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    captions: dict[str, list[dict[str, str]]] = {}
    for cell in found:
        caption = ", ".join(f"{n} = {v}" for n, v in _values(cell.job.parameters).items())
        captions.setdefault(caption or "defaults", []).append({"file": cell.place})
    captions["References"] = [{"file": "bibliography"}]
    parts = [{"caption": name, "chapters": pages} for name, pages in captions.items()]
    toc = {"format": "jb-book", "root": "index", "parts": parts}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")


def build(folder: Path) -> Path:
    """Build the book of a grid; returns its first page.

    Raises:
        PosteriorCollapseError: Jupyter Book fails, with the end of what it said.
    """
    tool = str(Path(sys.executable).with_name("jupyter-book"))
    command = [tool, "build", str(folder), "--all", "-W", "-n", "--keep-going"]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        said = "\n".join(done.stdout.splitlines()[-30:])
        raise PosteriorCollapseError(f"Jupyter Book failed in {folder}:\n{said}")
    return folder / "_build" / "html" / "index.html"


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m companion.build.grid_book")
    parser.add_argument("file", type=Path, help="a grid file")
    parser.add_argument("--out", type=Path, help="folder of the grid's pages (_batch)")
    given = parser.parse_args(arguments)
    root = sources.find_root()
    out = (given.out or root / "_batch").resolve()
    found = cells(batch.grid_jobs(batch.read_grid(given.file), root, out), root, given.file)
    with writing("the book of the grid", "give another --out"):
        stage(given.file, found, root, out / ".book")
        print(f"[batch-book] {len(found)} pages, open {build(out / '.book')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
