"""The papers' claims and their printed numbers: the inventory of items, and tables as data."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from posterior_collapse.errors import BadInput, nearest


@functools.lru_cache(maxsize=1)
def repository() -> Path:
    """Root of the repository, whose ``data/`` holds what this module reads.

    Raises:
        BadInput: the package is installed without its repository.
    """
    for folder in (Path(__file__).resolve(), Path.cwd().resolve() / "_"):
        for parent in folder.parents:
            if (parent / "data" / "papers" / "inventory.yml").is_file():
                return parent
    raise BadInput(
        "the printed tables and reference results belong to the repository; run this inside a "
        "clone, or with the package installed from one"
    )


@functools.lru_cache(maxsize=1)
def inventory() -> dict[str, dict[str, Any]]:
    """Every item to reproduce: id -> paper, scale, data, claim."""
    text = (repository() / "data" / "papers" / "inventory.yml").read_text(encoding="utf-8")
    items = {}
    for paper, rows in yaml.safe_load(text).items():
        for row in rows:
            items[row["id"]] = {"paper": paper, **row}
    return items


def claim(item: str) -> str:
    """The claim of an item.

    Raises:
        BadInput: unknown item, with the nearest one.
    """
    if item not in inventory():
        raise BadInput(nearest(item, inventory(), "item of the inventory"))
    return str(inventory()[item]["claim"])


@functools.lru_cache(maxsize=1)
def _plain() -> dict[str, str]:
    text = (repository() / "data" / "papers" / "plain.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def plain(item: str) -> str:
    """The claim of an item, or of a statement, as a sentence that needs no paper beside it.

    Raises:
        BadInput: unknown item, with the nearest one.
    """
    if item not in _plain():
        raise BadInput(nearest(item, _plain(), "item of the inventory"))
    return _plain()[item]


@functools.lru_cache(maxsize=1)
def legend() -> dict[str, Any]:
    """What the printed tables' columns mean, with units, and where each table comes from.

    Returns:
        ``columns``: name -> kind, meaning, unit; ``tables``: ``"lagging/table1"`` -> item, note;
        ``lost``: what :func:`lost` gives.
    """
    text = (repository() / "data" / "papers" / "tables.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def lost() -> dict[str, str]:
    """Printed tables that :func:`printed` does not have: item of the inventory -> reason."""
    return {row["item"]: row["reason"] for row in legend()["lost"]}


def printed(paper: str, table: str) -> pd.DataFrame:
    """A printed table as data; what the text lost is empty, never guessed.

    Columns are those of :func:`legend`.
    Text that is not there is the empty string, a number that is not there is NaN.

    Raises:
        BadInput: unknown paper or table, with the nearest one.
    """
    folder = repository() / "data" / "papers"
    papers = [path.name for path in folder.iterdir() if path.is_dir()]
    if paper not in papers:
        raise BadInput(nearest(paper, papers, "paper with printed tables"))
    tables = [path.stem for path in (folder / paper).glob("*.csv")]
    if table not in tables:
        raise BadInput(nearest(table, tables, f"printed table of {paper}"))
    texts = [name for name, column in legend()["columns"].items() if column["kind"] == "text"]
    frame = pd.read_csv(folder / paper / f"{table}.csv", dtype=dict.fromkeys(texts, str))
    return frame.fillna(dict.fromkeys(texts, ""))
