"""What the pages of the book stand on: parameters, sliders, the reader and the batch graph.

Importing this package imports neither torch nor anything slow, so that a page whose parameters
are wrong is refused at once.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["Page", "begin", "slider"]

_HOMES = {
    "Page": "companion.build.parameters",
    "begin": "companion.build.parameters",
    "slider": "companion.show.sliders",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The names that this package offers."""
    return sorted(__all__)
