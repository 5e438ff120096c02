"""Finished runs of another machine, taken into the store: ``python -m companion.build.merge F``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import filelock

from posterior_collapse.errors import BadInput, program
from posterior_collapse.places import move, store_root, writing
from posterior_collapse.runs.store import check_files, key_in


def _manifest(folder: Path) -> dict[str, str]:
    """Checksums of a sound run's results; where and when they were computed is not among them.

    Raises:
        DamagedRun: its files are not those of its manifest.
        BadInput: it is another run than its name says.
    """
    check_files(folder)
    if (own := key_in(folder)[:16]) != folder.name.rpartition("--")[2]:
        raise BadInput(f"{folder}: what is in it is the run {own}")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {name: digest for name, digest in manifest.items() if name != "provenance.json"}


def merge(source: Path) -> tuple[list[str], int]:
    """Take the finished runs of a store, or of a folder of runs; those that are here stay.

    Returns:
        Names of the runs that were taken, and the number of those that were there.

    Raises:
        DamagedRun, BadInput: one is damaged, or has other results than the same run here; none is
            then taken.
    """
    own, named = store_root() / "runs", source / "runs"
    folders = (
        path.parent for path in (named if named.is_dir() else source).glob("*/manifest.json")
    )
    runs = {f.name: f for f in sorted(folders) if not f.suffix.startswith((".part", ".damaged"))}
    if not runs:
        raise BadInput(f"there are no finished runs in {source}")
    sums = {name: _manifest(folder) for name, folder in runs.items()}
    both = [name for name in runs if (own / name).exists()]
    conflicts = [name for name in both if _manifest(own / name) != sums[name]]
    if conflicts:
        raise BadInput(f"these runs have other results here, none is taken: {', '.join(conflicts)}")
    new = [name for name in runs if name not in both]
    locks = store_root() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return [name for name in new if _take(runs[name], own / name, locks)], len(runs)


def _take(folder: Path, place: Path, locks: Path) -> bool:
    """Copy a run into the store; False where it was trained here in the meantime."""
    with filelock.FileLock(locks / f"{place.name}.lock"):
        if place.exists():
            return False
        part = place.with_name(f"{place.name}.merge")
        shutil.rmtree(part, ignore_errors=True)  # of one that was killed
        shutil.copytree(folder, part)
        check_files(part)
        move(part, place)
    return True


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m companion.build.merge")
    parser.add_argument("folder", type=Path, help="a store, or a folder of runs")
    with writing("the runs"):
        new, count = merge(parser.parse_args(arguments).folder)
    print("".join(f"{name}\n" for name in new) + f"[merge] {len(new)} of {count} runs taken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
