"""How methods and recipes differ from the papers and their public code.

What the others did is data, in ``data/papers/differences.yml``.
What this library does is read off its own choices and constants when the table is made.
"""

from __future__ import annotations

import enum
import functools
import importlib
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import yaml

from companion.claims import groups as benchmarks
from companion.claims.printed import repository
from posterior_collapse import methods, recipes
from posterior_collapse.errors import BadInput, nearest

_SCALE = "medium"  # of the recipe whose constants are shown, where a page names no other


class Source(enum.StrEnum):
    """Where a paper's side is from."""

    CODE = "code"  # public
    TEXT = "text"


class Changes(enum.StrEnum):
    """What differs by a difference."""

    RESULTS = "results"
    NOTHING = "nothing"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Difference:
    """One row: theirs and ours, in words."""

    what: str
    theirs: str
    source: Source
    here: str  # with the library's own numbers
    changes: Changes
    where: str  # class and field that set it; empty where nothing does
    method: str  # that it is about, as a method string; empty for all


@functools.cache
def _entries() -> dict[str, dict[str, Any]]:
    path = repository() / "data" / "papers" / "differences.yml"
    entries: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return entries


def pages() -> list[str]:
    """The pages that have differences to show."""
    return list(_entries())


def differences(page: str) -> list[Difference]:
    """The differences that a page shows, with this version's own numbers.

    Raises:
        BadInput: no such page; or an entry names a method, a recipe or a field that is not there.
    """
    if page not in _entries():
        raise BadInput(nearest(page, _entries(), "page with differences"))
    entry = _entries()[page]
    setup = recipes.get(entry["recipe"], entry.get("scale", _SCALE))
    return [_resolved(row, setup) for row in entry["differences"]]


def _resolved(row: dict[str, str], setup: recipes.Setup) -> Difference:
    method = _row_of(row["method"]) if "method" in row else ""
    known: dict[str, Any] = {"setup": setup, "network": setup.network}
    if method:
        known["method"] = methods.get(method)
    try:
        here = row["here"].format(**known)
    except (KeyError, AttributeError, IndexError) as error:
        raise BadInput(f'"{row["here"]}" of "{row["what"]}" asks for {error}') from error
    return Difference(
        row["what"],
        row["theirs"],
        Source(row["told"]),
        here,
        Changes(row["changes"]),
        _field(row["set"]) if "set" in row else "",
        method,
    )


def _row_of(name: str) -> str:
    """The benchmark's row of a method, or the method with its defaults where there is none.

    A method that is given with parameters is itself.

    Raises:
        BadInput: no such method, with the nearest one.
    """
    if "(" in name:
        return name
    entry = methods.describe(name)
    rows = (*benchmarks.MAIN, *benchmarks.OTHERS)
    return next((row for row in rows if methods.describe(row) is entry), name)


def _field(path: str) -> str:
    """``module.Class.field`` to ``Class.field``.

    Raises:
        BadInput: there is no such field.
    """
    module, kind, name = path.split(".")
    choice = getattr(importlib.import_module(f"posterior_collapse.{module}"), kind, None)
    if not is_dataclass(choice):
        raise BadInput(f"{module} has no choice {kind}, given {path}")
    allowed = [field.name for field in fields(choice)]
    if name not in allowed:
        raise BadInput(nearest(name, allowed, f"field of {kind}"))
    return f"{kind}.{name}"
