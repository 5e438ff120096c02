"""Stored runs and pages that nothing asks for any more: ``python -m companion.build.prune``.

Asked for are the pages of the book, those of the grid files that are named here or that ``batch``
noted in the store, the runs that all of these need or show, and the runs behind the reference
results, which are measured again by their weights. The rest is of earlier versions, of other
parameters, or damaged. It is shown, and with ``--remove`` it goes, each under the lock of the one
who would write it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import filelock

from companion.build import batch, reader, sources
from posterior_collapse.errors import BadInput, program
from posterior_collapse.places import store_root, writing
from posterior_collapse.runs import run_folder

_RUN = re.compile(r"(.+--)([0-9a-f]{16})(\..+)?")
_SHOWN = re.compile(r"<td>([0-9a-f]{12})</td>")  # a key in a page's provenance
_TRAINED = re.compile(r'"key": "([0-9a-f]{64})"')  # a key in a reference result
_SHORT = 12  # letters of a key that a page shows


class Leftover(NamedTuple):
    """A file or folder of the store that nothing asks for."""

    path: Path
    lock: str  # held by whoever writes it
    reason: str

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        files = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return sum(file.stat().st_size for file in files if file.is_file())


class Wanted(NamedTuple):
    """What pages and grids ask for."""

    pages: set[str]  # keys
    runs: set[str]  # names; where the data that decide a key are missing here, labels
    keys: set[str]  # beginnings of keys of runs that pages show, or references were made of


def _jobs(root: Path, grids: Sequence[Path]) -> list[batch.Job]:
    """The pages of the book and of the grids.

    Raises:
        BadInput: a grid cannot be read; nobody knows then what it asks for.
    """
    jobs = batch.book_jobs(root)
    for grid in grids:
        try:
            jobs += batch.grid_jobs(batch.read_grid(grid), root, root / "_batch")
        except BadInput as error:
            note = f"(noted in {batch.grids_file()}; a line that is taken out there is forgotten)"
            raise BadInput(f"nothing is removed: {grid}: {error} {note}") from error
    return jobs


def wanted(root: Path, grids: Sequence[Path]) -> Wanted:
    """All that the pages of the book and of some grids ask for."""
    jobs = _jobs(root, grids)
    pages = {reader.part_digest(batch.job_parts(job, root)) for job in jobs}
    runs = set()
    for spec in {spec for job in jobs for spec in batch.requested_specs(job, root)}:
        try:
            runs.add(run_folder(spec).name)
        except BadInput:  # its data are not here
            runs.add(f"{spec.label()}--")
    results = (root / "data" / "results").rglob("*.json")
    keys = {key for file in results for key in _TRAINED.findall(file.read_text("utf-8"))}
    stored = (path for path in map(reader.stored_page, pages) if path.is_file())
    shown = {key for path in stored for key in _SHOWN.findall(path.read_text("utf-8"))}
    return Wanted(pages, runs, {key[:_SHORT] for key in keys} | shown)


def _run_reason(label: str, key: str, rest: str, asked: Wanted) -> str:
    """Why nothing asks for what lies in the folder of runs; empty if something does."""
    if rest not in ("", ".part"):
        return "damaged, or left behind"
    if {label, label + key} & asked.runs or key[:_SHORT] in asked.keys:
        return ""
    other = any(name.startswith(label) for name in asked.runs)
    return "of another version" if other else "no page asks for it"


def leftovers(asked: Wanted) -> Iterator[Leftover]:
    """What nothing asks for, runs first."""
    for path in sorted((store_root() / "runs").glob("*")):
        if found := _RUN.fullmatch(path.name):
            label, key, rest = found[1], found[2], found[3] or ""
            if reason := _run_reason(label, key, rest, asked):
                yield Leftover(path, label + key, reason)
    for path in sorted((store_root() / "pages").glob("*")):
        key, _, rest = path.name.partition(".")
        if path.name == "failed" or rest not in ("ipynb", "sha256", "part"):
            yield Leftover(path, f"page-{key}", "failed, damaged, or left behind")
        elif key not in asked.pages:
            yield Leftover(path, f"page-{key}", "no page of the book or of a grid")


def remove(item: Leftover) -> bool:
    """Remove it unless somebody is writing it; says whether it is gone.

    It gets another name first, so that nobody takes half of it for the whole.
    """
    locks = store_root() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(locks / f"{item.lock}.lock", timeout=0):
            gone = item.path.with_name(f"{item.path.name}.pruned")
            os.replace(item.path, gone)
            shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    except FileNotFoundError:  # another one was quicker
        return True
    except filelock.Timeout:
        print(f"[prune] stays, as it is being written: {item.path.name}")
        return False
    return True


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m companion.build.prune", description=__doc__)
    parser.add_argument("--grid", type=Path, action="append", default=[], help="a grid file")
    parser.add_argument("--remove", action="store_true", help="remove what is shown otherwise")
    given = parser.parse_args(arguments)
    grids = dict.fromkeys(path.resolve() for path in (*given.grid, *batch.noted_grids()))
    found = list(leftovers(wanted(sources.find_root(), list(grids))))
    sizes = {item: item.size for item in found}
    with writing("the store"):
        for item in found:
            print(f"{_megabytes(sizes[item]):>12}  {item.path.name}  ({item.reason})")
        gone = [item for item in found if given.remove and remove(item)]
    total = _megabytes(sum(sizes.values()))
    print(f"[prune] {len(found)} runs and pages in {store_root()} that nothing asks for: {total}")
    freed = f"removed {len(gone)}: {_megabytes(sum(sizes[item] for item in gone))}"
    print(f"[prune] {freed if given.remove else 'nothing is removed without --remove'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
