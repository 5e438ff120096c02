"""The parameters of a page: checked before anything trains, and before torch is imported.

Papermill injects whatever it is given: a misspelt name becomes a variable that no cell reads, and
the page then runs for minutes with the old value. ``begin`` is the first call of every page. It
compares the names that the parameter cells assign with the names that the page takes, and checks
each value.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posterior_collapse.errors import LARGEST_SEED, BadInput, nearest, whole

SCALES = ("smoke", "quick", "medium", "large", "paper")
DEVICES = ("auto", "cpu", "cuda", "mps")

# The first line of the cell that papermill injects.
_INJECTED = "# Parameters"
# Set in the page's namespace once its parameters were accepted.
_BEGUN = "_posterior_collapse_begun"
# What a papermill parameter can be; modules, functions and models cannot come from one.
_LITERALS = (str, bytes, bool, int, float, complex, list, tuple, dict, set, type(None))
# `papermill --inject-paths` adds these on purpose.
_PAPERMILL_PREFIX = "PAPERMILL_"
# Class and display of the place under a page's question that its late cells fill with the answer.
ANSWER = "pc-answer"
# What the page in this kernel has shown for its answer; see companion.show.answers.
remembered: dict[str, Any] = {}


@dataclass(frozen=True)
class Page:
    """The accepted parameters of a page.

    Attributes:
        scale: one of ``SCALES``.
        seeds: distinct seeds, each at least 0, in the order given.
        device: one of ``DEVICES``.
        choices: the page's own parameters by name, such as ``{"dataset": "yahoo"}``.
    """

    scale: str
    seeds: tuple[int, ...]
    device: str
    choices: Mapping[str, object] = field(default_factory=dict)


def check_scale(scale: object) -> str:
    """Return the scale.

    Raises:
        BadInput: if it is not one of ``SCALES``.
    """
    return check_choice("scale", scale, SCALES)


def check_device(device: object) -> str:
    """Return the device's name; whether the machine has one is found out by whoever uses it.

    Raises:
        BadInput: if it is not one of ``DEVICES``.
    """
    return check_choice("device", device, DEVICES)


def check_choice(name: str, given: object, allowed: Iterable[str]) -> str:
    """Return ``given`` if it is one of the allowed strings.

    Raises:
        BadInput: naming what was given, what is allowed and the nearest match.
    """
    allowed = tuple(allowed)
    if not isinstance(given, str) or given not in allowed:
        raise BadInput(nearest(given, allowed, name))
    return given


def check_seeds(seeds: object) -> tuple[int, ...]:
    """Return the seeds as a tuple.

    Args:
        seeds: a list or tuple of ints, or the same as a string such as ``"[0, 1]"``, which is
            what ``papermill -p seeds "[0,1]"`` hands over.

    Raises:
        BadInput: unless they are distinct whole numbers that a run takes, at least one.
    """
    wanted = 'seeds are a list of distinct integers from 0 on, such as [0, 1] or "[0, 1]"'
    values = seeds
    if isinstance(seeds, str):
        try:
            values = json.loads(seeds)
        except ValueError as error:
            raise BadInput(f"cannot read seeds {seeds!r}: {wanted}") from error
    if not isinstance(values, list | tuple) or not values:
        raise BadInput(f"cannot use seeds {seeds!r}: {wanted}")
    checked = tuple(whole("each of the seeds", seed, 0, LARGEST_SEED) for seed in values)
    if len(set(checked)) != len(checked):
        raise BadInput(f"seeds {seeds!r} name one seed twice: {wanted}")
    return checked


def check_names(given: Iterable[str], allowed: Iterable[str]) -> None:
    """Refuse parameters that the page does not take.

    Raises:
        BadInput: naming the first unknown one with its nearest match.
    """
    allowed = set(allowed)
    for name in given:
        if name not in allowed:
            raise BadInput(nearest(name, allowed, "parameter"))


def assigned_names(source: str) -> list[str]:
    """Names that the top level of a cell assigns, in order, without underscore names.

    A cell that is no Python (a magic, a half-typed line) assigns nothing.
    """
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return []
    targets: list[ast.expr] = []
    for node in body:
        if isinstance(node, ast.Assign):
            targets.extend(node.targets)
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets.append(node.target)
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith(("_", _PAPERMILL_PREFIX))]


def unknown_parameters(cells: Sequence[str], allowed: Iterable[str], begun: bool) -> list[str]:
    """Parameters in a kernel's history that the page does not take.

    Only what was run since the parameters cell last ran counts: a name that was mended there is
    not held against the reader although the kernel still has it. On a page's first call every
    cell since then counts. Once the page has begun its later cells have defined names of their
    own, so then only the parameters cell and papermill's injected cell count.

    Args:
        cells: sources of the cells run so far, oldest first, without the calling one.
        allowed: the names that the page takes.
        begun: whether the page's parameters were accepted before in this kernel.
    """
    allowed = set(allowed)
    first = 0
    for place, source in enumerate(cells):
        if allowed <= set(assigned_names(source)):
            first = place
    unknown: list[str] = []
    for place, source in enumerate(cells[first:], start=first):
        if place == first or not begun or source.lstrip().startswith(_INJECTED):
            unknown += [name for name in assigned_names(source) if name not in allowed]
    return unknown


def _unknown_in_namespace(namespace: Mapping[str, Any], allowed: set[str]) -> list[str]:
    """Plain values under names that the page does not take, where no history is kept."""
    if namespace.get(_BEGUN):
        return []
    return [
        name
        for name, value in namespace.items()
        if name not in allowed
        and not name.startswith(("_", _PAPERMILL_PREFIX))
        and isinstance(value, _LITERALS)
    ]


def _history(namespace: Mapping[str, Any]) -> list[str] | None:
    """Sources of the cells run before the calling one, or None outside IPython."""
    cells = namespace.get("In")
    if "get_ipython" not in namespace or not isinstance(cells, list) or len(cells) < 2:
        return None
    return [str(source) for source in cells[:-1]]


def _open_answer(namespace: Mapping[str, Any]) -> None:
    """Leave the place of the answer, empty and hidden, and forget what filled it before."""
    remembered.clear()
    if "get_ipython" in namespace:
        from IPython.display import HTML, display

        display(HTML(f'<aside class="{ANSWER}" hidden></aside>'), display_id=ANSWER)
        remembered["live"] = True


def begin(
    namespace: dict[str, Any],
    *,
    scale: object,
    seeds: object,
    device: object,
    **choices: tuple[object, Iterable[str]],
) -> Page:
    """Check a page's parameters; the first call of every page.

    Args:
        namespace: the page's ``globals()``.
        scale: a name of ``SCALES``.
        seeds: a list of distinct seeds, or that list as a string.
        device: a name of ``DEVICES``.
        choices: the page's own parameters, each as ``name=(value, allowed values)``.

    Returns:
        The accepted parameters.

    Raises:
        BadInput: on an unknown parameter, before anything is trained, or on a wrong value.

    Example:
        ``page = begin(globals(), scale=scale, seeds=seeds, device=device)``
    """
    allowed = {"scale", "seeds", "device", *choices}
    cells = _history(namespace)
    if cells is None:
        unknown = _unknown_in_namespace(namespace, allowed)
    else:
        unknown = unknown_parameters(cells, allowed, bool(namespace.get(_BEGUN)))
    check_names(unknown, allowed)
    page = Page(
        scale=check_scale(scale),
        seeds=check_seeds(seeds),
        device=check_device(device),
        choices={name: check_choice(name, *pair) for name, pair in choices.items()},
    )
    _open_answer(namespace)
    namespace[_BEGUN] = True
    return page
