"""Errors that say what was given, what is allowed, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["BadInput", "PosteriorCollapseError", "nearest"]


class PosteriorCollapseError(Exception):
    """Base of every error that this library raises on purpose."""


class BadInput(PosteriorCollapseError, ValueError):
    """A value from outside that cannot be used; the message names the allowed ones."""


def nearest(given: object, allowed: Iterable[object], what: str) -> str:
    """Message for an unknown name, with the closest allowed one.

    Args:
        given: what the caller wrote.
        allowed: every name that would have been accepted.
        what: the kind of thing, singular, such as ``"scale"``.

    Returns:
        A sentence such as ``unknown scale "quik"; did you mean "quick"? allowed: quick, smoke``.
    """
    names = sorted(str(name) for name in allowed)
    close = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f' did you mean "{close[0]}"?' if close else ""
    return f'unknown {what} "{given}";{hint} allowed: {", ".join(names) or "none"}'
