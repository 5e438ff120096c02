"""Command line: ``python -m posterior_collapse.runs train|folder --recipe R --method M ...``."""

from __future__ import annotations

import argparse
import logging
import sys

from posterior_collapse.errors import program
from posterior_collapse.runs import Spec, run_folder, train_or_load


@program
def main(arguments: list[str] | None = None) -> int:
    """Train a run, or say where it lies; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m posterior_collapse.runs", description=__doc__)
    parser.add_argument("task", choices=["train", "folder"])
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--scale", default="quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    spec = Spec(given.recipe, given.method, given.scale, given.seed)
    trains = given.task == "train"
    print(train_or_load(spec, given.device).folder if trains else run_folder(spec))
    return 0


if __name__ == "__main__":
    sys.exit(main())
