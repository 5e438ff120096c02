"""Files and folders that a reader names in the environment, and what to do where they fail."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from posterior_collapse.errors import BadInput, PosteriorCollapseError

STORE_VARIABLE = "POSTERIOR_COLLAPSE_STORE"


def named_path(variable: str) -> Path | None:
    """The path that a variable of the environment names; None where it is unset or blank.

    Raises:
        BadInput: it begins with the home of somebody who has none.
    """
    named = os.environ.get(variable, "")
    try:
        return Path(named).expanduser() if named.strip() else None
    except RuntimeError as error:
        raise BadInput(f"{variable} is {named}: {error} Write the whole path.") from error


def store_root() -> Path:
    """Where runs and executed pages are kept: POSTERIOR_COLLAPSE_STORE, else the user's cache.

    Raises:
        BadInput: nothing says where, or what is named is no folder and cannot become one.
    """
    try:
        root = named_path(STORE_VARIABLE) or platformdirs.user_cache_path("posterior-collapse")
    except RuntimeError as error:
        raise BadInput(f"no home folder: let {STORE_VARIABLE} name a folder for runs") from error
    there = next((part for part in (root, *root.parents) if os.path.lexists(part)), None)
    if there is not None and not there.is_dir():
        what = "a link to nothing" if not there.exists() else "a file and not a folder"
        raise BadInput(f"{STORE_VARIABLE} is {root}, but {there} is {what}: name another folder")
    return root


@contextlib.contextmanager
def writing(
    what: str, remedy: str = f"let {STORE_VARIABLE} name a folder elsewhere"
) -> Iterator[None]:
    """Say what to do where a file cannot be written; what was written before stays valid.

    Args:
        what: is written, for the message.
        remedy: for the message.

    Raises:
        PosteriorCollapseError: in place of such an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PosteriorCollapseError(
                f"no space left while writing {what}; free some, or {remedy}. "
                "The last checkpoint is kept and training goes on from it."
            ) from error
        if error.filename is None:
            raise
        raise PosteriorCollapseError(
            f"cannot use {error.filename} for {what}: {error.strerror}; see to it, or {remedy}"
        ) from error
