"""The command of :mod:`posterior_collapse.diagnose`."""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posterior_collapse.diagnosis import diagnose
from posterior_collapse.errors import BadInput, program


def _arrays(path: Path) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Means and log-variances of an npz file.

    Raises:
        BadInput: no such file, no npz, objects in it, or an array is missing.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise BadInput(f"{path} is one array; needed is an npz with mean and logvar")
            missing = [name for name in ("mean", "logvar") if name not in file.files]
            if missing:
                has = ", ".join(file.files) or "nothing"
                raise BadInput(f"{path} has no {' and no '.join(missing)}; it has {has}")
            return file["mean"], file["logvar"]
    except FileNotFoundError as error:
        raise BadInput(f"there is no file {path}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path} is no npz file of numbers: {error}") from error


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Diagnose an npz file of posteriors."""
    parser = argparse.ArgumentParser(
        prog="python -m posterior_collapse.diagnose",
        description="Diagnose a VAE by the means and log-variances of its posteriors.",
    )
    parser.add_argument("file", type=Path, help="npz with mean and logvar, (N, D) each")
    parser.add_argument("--save", type=Path, metavar="X.html", help="also write it as a page")
    parser.add_argument("--json", action="store_true", help="print JSON in place of text")
    given = parser.parse_args(arguments)
    mean, logvar = _arrays(given.file)
    report = diagnose(mean=mean, logvar=logvar)
    print(json.dumps(report.to_dict(), indent=1) if given.json else report)
    if given.save:
        print(f"[diagnose] {report.save(given.save)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
