"""A grid under random kills ends as one that nobody touched, and no job that was done is redone.

The short version always runs. The long one, of 24 jobs and ten kills, is asked for::

    LONG_TESTS=1 python -m pytest tests/test_faults_grid.py -s -k 24
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest

from pages_help import notebook, printed, small_book

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

RECIPE = "text-grammar"
CELL = f"""
from posterior_collapse.runs import Spec, train_or_load
for method in {{methods}}:
    for seed in page.seeds:
        run = train_or_load(Spec("{RECIPE}", method, page.scale, seed), "cpu")
        print(method, seed, sorted(run.metrics.items()))
"""
LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="takes minutes: set LONG_TESTS")


class Grid(NamedTuple):
    """A book with a grid file, and how many jobs the grid has."""

    folder: Path
    jobs: int


def make_grid(folder: Path, methods: dict[str, list[str]], seeds: int) -> Grid:
    """Pages that ask for some methods each, with every seed."""
    pages = {
        name: notebook(
            CELL.replace("{methods}", str(asked)), runs=[{"recipe": RECIPE, "methods": asked}]
        )
        for name, asked in methods.items()
    }
    values = {"scale": ["smoke"], "seeds": [[seed] for seed in range(seeds)], "device": ["cpu"]}
    book = small_book(folder, pages)
    content = {"grid": [{"notebooks": "notebooks/*.ipynb", "parameters": values}]}
    (book / "grid.yml").write_text(json.dumps(content))
    trainings = len({method for asked in methods.values() for method in asked})
    return Grid(book, seeds * (trainings + len(methods)))


class Place:
    """A store of its own, with the folder of temporary files, in which a grid is computed."""

    def __init__(self, grid: Grid, folder: Path) -> None:
        self.grid, self.store, self.tmp = grid, folder / "store", folder / "tmp"
        self.out, self.said = folder / "out", folder / "said"
        self.tmp.mkdir(parents=True)

    def start(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "companion.build.batch", "grid", "grid.yml"]
        with self.said.open("wb") as said:
            return subprocess.Popen(
                [*words, "--jobs", "2", "--out", str(self.out)],
                cwd=self.grid.folder,
                env={
                    **os.environ,
                    "POSTERIOR_COLLAPSE_STORE": str(self.store),
                    "TMPDIR": str(self.tmp),
                },
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def done(self) -> dict[str, tuple[int, int]]:
        """Finished runs and pages: the inode and the time of what says that each is finished."""
        runs = self.store.glob(f"runs/*{16 * '[0-9a-f]'}/manifest.json")
        files = {path.parent.name: path for path in runs}
        files |= {path.name: path for path in self.store.glob("pages/*.ipynb")}
        stats = {name: path.stat() for name, path in files.items()}
        return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}

    def processes(self) -> dict[str, list[int]]:
        """Processes of a batch here: kind -> their numbers."""
        found: dict[str, list[int]] = {}
        mark = f"POSTERIOR_COLLAPSE_STORE={self.store}\0".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                words = (entry / "cmdline").read_bytes().decode().replace("\0", " ")
                if mark in (entry / "environ").read_bytes():
                    found.setdefault(kind_of(words), []).append(int(entry.name))
        forks = sorted(found.pop("server", []))  # they have the words of the one who forks
        return {**found, **({"server": forks[:1]} if forks else {})} | (
            {"fork": forks[1:]} if forks[1:] else {}
        )

    def contents(self) -> dict[str, bytes | str]:
        """What was computed, without when and where."""
        runs = (path for path in self.store.glob("runs/*/*") if path.name[:2] not in ("pr", "ma"))
        pages = self.out.rglob("*.ipynb")
        found: dict[str, bytes | str] = {f"{p.parent.name}/{p.name}": p.read_bytes() for p in runs}
        return found | {
            str(path.relative_to(self.out)): printed(nbformat.read(path, as_version=4))
            for path in pages
        }


def kind_of(words: str) -> str:
    """The part of a batch that a process is, by its command."""
    kinds = {
        "--serve": "server",
        "ipykernel_launcher": "kernel",
        "posterior_collapse.runs": "training",
        "-m companion.build.warm companion.build.reader": "page",
        "-m snakemake": "snakemake",
        "companion.build.batch grid": "batch",
    }
    return next((kind for word, kind in kinds.items() if word in words), "shell")


def until(happens: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.05)


def disturb(place: Place, kills: int, chance: random.Random) -> list[str]:
    """Start the batch again and again, and kill a part of it each time; returns what was killed.

    Where the batch goes on without that part, it is asked to end soon after. Each time nothing of
    it may be left, neither a process nor a temporary file, and what was done stays as it was.
    """
    killed: list[str] = []
    known: dict[str, tuple[int, int]] = {}
    while len(killed) < kills:
        batch = place.start()
        threshold = len(killed) * place.grid.jobs // kills
        until(lambda: len(place.done()) >= threshold or batch.poll() is not None, 3000.0)  # noqa: B023
        with contextlib.suppress(subprocess.TimeoutExpired):
            batch.wait(chance.uniform(0.0, 6.0 if not threshold else 1.5))
        parts = place.processes()
        assert parts and batch.poll() is None, place.said.read_text()
        kind = chance.choice(sorted(parts))
        number = chance.choice([signal.SIGKILL, signal.SIGTERM])
        with contextlib.suppress(ProcessLookupError):  # it ended by itself this very moment
            os.kill(chance.choice(parts[kind]), number)
            killed.append(f"{number.name} {kind} after {len(place.done())} jobs")
        with contextlib.suppress(subprocess.TimeoutExpired):
            batch.wait(chance.uniform(0.5, 3.0))
        batch.terminate()
        batch.wait(120.0)
        until(lambda: not place.processes(), 60.0)
        until(lambda: not list(place.tmp.iterdir()), 60.0)
        now = place.done()
        assert known.items() <= now.items()  # nothing is lost, and nothing is done again
        known = now
    return killed


@pytest.mark.parametrize(
    ("methods", "seeds", "kills"),
    [
        pytest.param({"one": ["vae", "ae"]}, 2, 3, id="6"),
        pytest.param(
            {"one": ["vae", "bn-vae"], "two": ["vae", "ae", "igp"]}, 4, 10, id="24", marks=LONG
        ),
    ],
)
def test_a_grid_under_kills_ends_as_one_that_nobody_touched(
    methods: dict[str, list[str]], seeds: int, kills: int, tmp_path: Path
) -> None:
    grid = make_grid(tmp_path / "book", methods, seeds)
    quiet, rough = Place(grid, tmp_path / "quiet"), Place(grid, tmp_path / "rough")
    begin = time.monotonic()
    assert quiet.start().wait(3000.0) == 0, quiet.said.read_text()
    seconds = time.monotonic() - begin
    assert len(quiet.done()) == grid.jobs

    killed = disturb(rough, kills, random.Random(22))
    before = rough.done()
    assert rough.start().wait(3000.0) == 0, rough.said.read_text()
    todo = re.search(r"to do: (\d+) trainings and (\d+) of", rough.said.read_text())
    assert todo is not None and int(todo[1]) == grid.jobs - seeds * len(methods) - sum(
        not name.endswith(".ipynb") for name in before
    )
    after = rough.done()
    assert before.items() <= after.items() and len(after) == grid.jobs
    assert not rough.processes() and not list(rough.tmp.iterdir())
    assert not [path for path in tmp_path.rglob("*.part")]
    expected, found = quiet.contents(), rough.contents()
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []
    print(
        f"\n{grid.jobs} jobs, {len(killed)} kills, {len(expected)} files and pages equal, "
        f"{time.monotonic() - begin:.0f} s in all, {seconds:.0f} s undisturbed\n"
        + "\n".join(killed)
    )
