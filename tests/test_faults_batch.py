"""What is killed ends whole: no process goes on, no folder is left, and a rerun completes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from companion.build import warm
from posterior_collapse.errors import program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# The batch as it is, but for a plan of two jobs without libraries to import.
BATCH = """
import json, sys
from pathlib import Path
from companion.build import batch
batch.WARM = ()
batch.make_plan = lambda jobs, root: json.loads(Path("plan").read_text())
sys.exit(batch.program(batch.run)([], Path.cwd(), Path("work").resolve(), 2))
"""
# Leaves a folder for temporary files behind, waits, and notes that it has ended.
JOB = """
import pathlib, sys, tempfile, time
tempfile.mkdtemp()
pathlib.Path(f"begun-{sys.argv[1]}").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.05)
with open("ended", "a") as file:
    file.write(sys.argv[1])
"""


@pytest.fixture
def place(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the graph, its plan and its jobs; temporary files go to a folder in it."""
    (tmp_path / "waiting.py").write_text(JOB)
    (tmp_path / "Snakefile").write_text((root / "Snakefile").read_text())
    jobs = {
        name: {"command": " ".join(warm.command([sys.executable, "-m", "waiting", name]))}
        | {"label": name, "runs": [], "pages": []}
        | {"resources": {"mem_mb": 100, "runtime": 1, "gpu": 0}}
        for name in ("one", "two")
    }
    (tmp_path / "plan").write_text(json.dumps({"root": str(tmp_path), "runs": {}, "pages": jobs}))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    path = [str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    return tmp_path


def start(place: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BATCH], cwd=place, stderr=subprocess.PIPE, text=True
    )


def until(happens: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.05)


def processes(place: Path) -> dict[str, int]:
    """Processes that work in a folder or below it: their command lines, and their numbers."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if Path(os.readlink(entry / "cwd")).is_relative_to(place):
                words = (entry / "cmdline").read_bytes().decode().replace("\0", " ")
                found.setdefault(words, int(entry.name))  # the oldest, where there are several
    return found


def one_of(place: Path, word: str) -> int:
    return min(number for words, number in processes(place).items() if word in words)


@pytest.mark.parametrize(
    ("victim", "number", "status"),
    [
        ("batch", signal.SIGTERM, 143),
        ("batch", signal.SIGKILL, -9),
        ("-m snakemake", signal.SIGKILL, 137),
        ("-m snakemake", signal.SIGTERM, 1),
        ("--serve", signal.SIGKILL, 0),
    ],
)
def test_what_is_killed_leaves_nothing_and_a_rerun_completes(
    place: Path, victim: str, number: int, status: int
) -> None:
    first = start(place)
    until(lambda: len(list(place.glob("begun-*"))) == 2)
    if victim == "--serve":
        os.kill(one_of(place, victim), signal.SIGTERM)  # does nothing
    os.kill(first.pid if victim == "batch" else one_of(place, victim), number)
    graceful = (victim, number) == ("-m snakemake", signal.SIGTERM)  # it waits for its jobs
    if graceful or not status:
        time.sleep(0.5)
        (place / "go").touch()
    _, said = first.communicate(timeout=120)
    assert first.returncode == status, said
    assert "Traceback" not in said
    if victim == "batch" and number == signal.SIGTERM:
        assert len(said.splitlines()) == 2 and "goes on from there" in said
    until(lambda: not processes(place), 10.0)
    until(lambda: not list((place / "tmp").iterdir()), 10.0)
    assert (place / "ended").exists() == (graceful or not status)

    (place / "go").touch()
    (place / "ended").unlink(missing_ok=True)
    again = start(place)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert sorted((place / "ended").read_text()) == sorted("onetwo")
    assert not processes(place) and not list((place / "tmp").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_program_as_ctrl_c_does(
    number: signal.Signals, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tidied = []

    @program
    def main() -> int:
        try:
            signal.raise_signal(number)
        finally:
            tidied.append(signal.getsignal(number))
        return 0

    assert main() == 128 + number and len(tidied) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    assert program(lambda: signal.raise_signal(signal.SIGHUP) or 0)() == 0
    signal.signal(signal.SIGHUP, before)
