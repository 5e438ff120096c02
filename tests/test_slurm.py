"""A grid on Slurm against the same grid without it; .ci/slurm makes the Slurm and calls this."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not shutil.which("squeue") or subprocess.run(["squeue"], capture_output=True).returncode != 0,
    reason="no Slurm runs here; .ci/slurm starts one",
)

ROOT = Path(__file__).resolve().parents[1]
GRID = """
grid:
  - notebooks: [notebooks/lagging/decomposition.ipynb]
    parameters: {scale: [smoke], seeds: [[0], [1]]}
"""
# As the profile, but looking for the ends of jobs as often as a test wants to.
PROFILE = (ROOT / "profiles/slurm/config.yaml").read_text(encoding="utf-8").replace(": 60", ": 5")
OFTEN = "slurm-init-seconds-before-status-checks: 1\nseconds-between-status-checks: 1\n"
FILES = ("weights.safetensors", "metrics.json", "history.json")


def batch(work: Path, name: str, *words: str) -> subprocess.Popen[str]:
    """Start the grid, with a store and a folder of its own."""
    command = [sys.executable, "-m", "companion.build.batch", "grid", str(work / "grid.yml")]
    return subprocess.Popen(
        [*command, "--out", str(work / name), "--jobs", "2", *words],
        env={**os.environ, "POSTERIOR_COLLAPSE_STORE": str(work / f"store-{name}")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str], fails: bool) -> str:
    """What a batch said, if it ended as it should."""
    said = process.communicate(timeout=900)[0]
    assert (process.returncode != 0) == fails, f"{process.returncode}: {said}"
    return said


def cancel_one(work: Path, process: subprocess.Popen[str]) -> None:
    """Cancel the first training that has begun."""
    while not list((work / "store-slurm").glob("runs/*.part")):
        assert process.poll() is None, ended(process, True)
        time.sleep(0.05)
    running = ["squeue", "--noheader", "--states=R", "--format=%i"]
    jobs = subprocess.run(running, capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["scancel", jobs[0]], check=True)


def contents(store: Path) -> dict[str, bytes]:
    """The files of all runs of a store."""
    found = {
        f"{folder.name}/{name}": (folder / name).read_bytes()
        for folder in (store / "runs").glob("*--*")
        for name in FILES
        if (folder / name).exists()
    }
    assert len(found) == 4 * len(FILES), sorted(found)
    return found


def test_a_cancelled_job_is_run_again_and_all_equal_those_without_slurm(tmp_path: Path) -> None:
    (tmp_path / "grid.yml").write_text(GRID)
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text(PROFILE + OFTEN)
    first = batch(tmp_path, "slurm", "--profile", str(profile))
    cancel_one(tmp_path, first)
    said = ended(first, True)
    assert said.count("] [train] ") == 4, said
    again = ended(batch(tmp_path, "slurm", "--profile", str(profile)), False)
    assert again.count("] [train] ") == 1, again
    assert len(list((tmp_path / "slurm").glob("*/lagging/decomposition.ipynb"))) == 2
    ended(batch(tmp_path, "local"), False)
    assert contents(tmp_path / "store-slurm") == contents(tmp_path / "store-local")
