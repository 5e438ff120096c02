"""Runs the code that theory pages show, as a reader who copies it would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def run_visible(page: str, until: str = "") -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
    """Run a page's visible cells, each without a name from another one or from a hidden cell.

    Args:
        page: such as ``"igp/theory"``.
        until: id of the last cell to run; all if empty.

    Returns:
        All names that the cells make, and for each cell tagged ``check-...`` its two sides.
    """
    cells = json.loads((NOTEBOOKS / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]
    every: dict[str, Any] = {}
    sides: dict[str, tuple[Any, Any]] = {}
    for cell in cells:
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] != "code" or {"parameters", "hide-input", "solution"} & set(tags):
            continue
        source = "".join(cell["source"])
        lines = [line for line in source.splitlines() if line.strip()]
        assert 5 <= len(lines) <= 20, f"{cell['id']} is too short or too long for a reader"
        names: dict[str, Any] = {}
        exec(compile(source, cell["id"], "exec"), names)
        for tag in tags:
            if tag.startswith("check-"):
                left, right = (np.asarray(names.pop(side)) for side in ("left", "right"))
                sides[tag.removeprefix("check-")] = left, right
        every |= names
        if cell["id"] == until:
            break
    return every, sides
