"""Methods: a name stands for four choices, ``"vae"`` or ``"lagging(window=10)"``.

``entries`` reads and joins names, ``table`` has those of the library, and the environment variable
``POSTERIOR_COLLAPSE_METHODS`` may name a file with methods of a reader's own.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback

from posterior_collapse.errors import BadInput
from posterior_collapse.methods import table  # noqa: F401  (it enters the library's methods)
from posterior_collapse.methods.entries import (
    Entry,
    Method,
    describe,
    get,
    keep_wrong,
    names,
    own_digests,
    parameters,
    register,
    title,
)
from posterior_collapse.places import named_path

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


def _run_own() -> None:
    """Run the file that POSTERIOR_COLLAPSE_METHODS names; what it registers joins the table."""
    file = named_path(OWN_VARIABLE)
    if file is None:
        return
    file = file.resolve()
    if not file.is_file():
        raise BadInput(f"{OWN_VARIABLE} names {file}, which is no file; allowed: a Python file")
    plan = importlib.util.spec_from_file_location("posterior_collapse_own_methods", file)
    if plan is None or plan.loader is None:
        raise BadInput(f"{OWN_VARIABLE} names {file}, which is no Python file")
    module = importlib.util.module_from_spec(plan)
    sys.modules[plan.name] = module  # dataclasses look their module up
    try:
        plan.loader.exec_module(module)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f", line {frame.lineno}" for frame in frames if frame.filename == str(file)]
        raise BadInput(
            f"{file}{''.join(lines[-1:])}: {type(error).__name__}: {error}; mend this file, or "
            f"unset {OWN_VARIABLE}"
        ) from error


def _enter_own() -> None:
    """Keep what is wrong for those who look at the table: an import could only show a traceback."""
    try:
        _run_own()
    except BadInput as wrong:
        keep_wrong(wrong)


_enter_own()
