"""Errors that say what was given, what is allowed, and what was probably meant."""

from __future__ import annotations

import difflib
import functools
import operator
import sys
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec

# A generator on the CPU uses 32 bits of its seed, and a run with seed s gives it 2 s + 1.
# Larger seeds would be other names for the same runs, and in the end no seed of a generator.
LARGEST_SEED = 2**31 - 1

_STOPPED = """stopped: what is finished, and the last checkpoint of what is not, are in the store
the same command goes on from there"""
_Given = ParamSpec("_Given")


class PosteriorCollapseError(Exception):
    """Base of every error that this library raises on purpose."""


class BadInput(PosteriorCollapseError, ValueError):
    """A value from outside that cannot be used; the message names the allowed ones."""


class NotFinite(BadInput):
    """Numbers that are infinite or no numbers, or lead to such; in training it has diverged."""


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


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number, of Python's or NumPy's kind, as an int.

    Raises:
        BadInput: it is another thing, or outside ``least`` to ``most``; the message begins with
            ``name``.
    """
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or (most is not None and number > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise BadInput(f"{name} is a whole number {allowed}, given {value!r}")
    return number


def program(main: Callable[_Given, int]) -> Callable[_Given, int]:
    """Let a program end with a status where a traceback would help nobody.

    2 and one line after what a reader can mend, 130 and two lines after Ctrl-C.
    """

    @functools.wraps(main)
    def ends(*args: _Given.args, **kwargs: _Given.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except (PosteriorCollapseError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(_STOPPED, file=sys.stderr)
            return 130

    return ends
