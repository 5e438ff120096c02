"""Methods: a name stands for four choices, ``"vae"`` or ``"lagging(window=10)"``.

``entries`` reads and joins names, ``table`` has those of the library, and the environment variable
``POSTERIOR_COLLAPSE_METHODS`` may name a file with methods of a reader's own.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from posterior_collapse.errors import BadInput
from posterior_collapse.methods import table  # noqa: F401  (it enters the library's methods)
from posterior_collapse.methods.entries import (
    Entry,
    Method,
    describe,
    get,
    names,
    own_digests,
    parameters,
    register,
    title,
)

__all__ = [
    "Entry",
    "Method",
    "describe",
    "get",
    "names",
    "own_digests",
    "parameters",
    "register",
    "title",
]

OWN_VARIABLE = "POSTERIOR_COLLAPSE_METHODS"  # names a file with methods of a reader's own


def _enter_own() -> None:
    """Run the file that POSTERIOR_COLLAPSE_METHODS names; what it registers joins the table."""
    named = os.environ.get(OWN_VARIABLE, "").strip()
    if not named:
        return
    file = Path(named).expanduser().resolve()
    if not file.is_file():
        raise BadInput(f"{OWN_VARIABLE} names {named}, which is no file; allowed: a Python file")
    plan = importlib.util.spec_from_file_location("posterior_collapse_own_methods", file)
    if plan is None or plan.loader is None:
        raise BadInput(f"{OWN_VARIABLE} names {named}, which is no Python file")
    module = importlib.util.module_from_spec(plan)
    sys.modules[plan.name] = module  # dataclasses look their module up
    plan.loader.exec_module(module)


_enter_own()
