"""Names of methods: how one is entered, read from a string, joined with others and found.

A method is asked for by a string, ``"vae"`` or ``"lagging(window=10)"``.
Methods that use different slots are joined by a plus: ``"lagging+anneal"``, ``"igp+iwae(k=5)"``.
A schedule of the KL weight is no slot of its own, but part of an objective: joined with a method
that has another objective, ``"free-bits+anneal"``, annealing gives its schedule to that one.
There ``anneal=10`` says the same with the epochs of a linear rise from 0.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from posterior_collapse.digests import code_digest
from posterior_collapse.errors import BadInput, nearest
from posterior_collapse.networks.base import Latent
from posterior_collapse.objectives import ELBO, Constant, Linear, Objective
from posterior_collapse.posteriors import Diagonal, Posterior
from posterior_collapse.priors import Prior, StandardNormal
from posterior_collapse.training import Joint, Training


@dataclass(frozen=True)
class Method:
    """Four choices, and how the decoder sees z; everything else belongs to the recipe."""

    posterior: Posterior = Diagonal()
    prior: Prior = StandardNormal()
    objective: Objective = ELBO(Constant(1.0))
    training: Training = Joint()
    latent: Latent = Latent.INPUT


@dataclass(frozen=True)
class Entry:
    """A row of the table; what a reader is told about it is one short sentence a field."""

    name: str
    title: str
    paper: str
    equation: str
    make: Callable[..., Method]
    changes: str = ""  # what it changes in a VAE
    formula: str = ""  # LaTeX of what is maximised
    cost: str = ""  # of an update, against a VAE's
    promise: str = ""  # what its paper promises
    own: str = ""  # digest of the source of a reader's own method; empty for the library's


_TABLE: dict[str, Entry] = {}
_WRONG: list[BadInput] = []  # why a reader's own methods are not in the table


def keep_wrong(error: BadInput) -> None:
    """Remember what is wrong with a reader's own file, for those who look at the table."""
    _WRONG.append(error)


def _table() -> dict[str, Entry]:
    """The table, unless a reader's own methods are missing from it."""
    if _WRONG:
        raise _WRONG[0]
    return _TABLE


def register(
    name: str, title: str, paper: str, equation: str, **card: str
) -> Callable[[Callable[..., Method]], Callable[..., Method]]:
    """Enter a function that returns a :class:`Method` into the table.

    A reader's own function may be entered again, as where a notebook's cell is run again.

    Args:
        name, title, paper, equation: of the row.
        card: changes, formula, cost, promise: what a reader is told; see :class:`Entry`.

    Raises:
        BadInput: the name is taken; the source of a reader's own method cannot be read.
    """

    def enter(make: Callable[..., Method]) -> Callable[..., Method]:
        taken = _TABLE.get(name)
        again = taken is not None and taken.own and taken.make.__qualname__ == make.__qualname__
        if taken is not None and not again:
            raise BadInput(f'the method "{name}" is already in the table')
        file = make.__code__.co_filename
        # Now, while the file is what runs: later a reader may have edited it.
        own = "" if Path(file).parent == Path(__file__).parent else code_digest(file)
        _TABLE[name] = Entry(name, title, paper, equation, make, **card, own=own)
        return make

    return enter


def names() -> list[str]:
    """Every method of the table."""
    return sorted(_table())


def _number(node: ast.expr) -> Any:
    """A literal of a method string."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError) as error:
        written = ast.unparse(node)
        raise ValueError(f"parameters are numbers such as 0.5, given {written}") from error


def _parse(text: str) -> tuple[str, dict[str, float]]:
    """``"a(b=1, c=0.5)"`` to its name and numbers; only literals are accepted."""
    name, bracket, rest = text.strip().partition("(")
    if not bracket:
        return name, {}
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("only name=value parameters are allowed")
        values = {str(word.arg): _number(word.value) for word in call.keywords}
        if len(values) < len(call.keywords):
            raise ValueError("a parameter is there twice")
    except (SyntaxError, ValueError) as error:
        raise BadInput(f'cannot read the method "{text}": {error}') from error
    wrong = {
        k: v for k, v in values.items() if isinstance(v, bool) or not isinstance(v, (int, float))
    }
    if wrong:
        raise BadInput(f'parameters of a method are numbers, given {wrong} in "{text}"')
    return name, values


def describe(text: str) -> Entry:
    """The row that a method string names; that of the first part of a joined one.

    Raises:
        BadInput: unknown name, with the nearest one.
    """
    name, _ = _parse(_parts(text)[0])
    if name not in (table := _table()):
        raise BadInput(nearest(name, table, "method"))
    return table[name]


def title(text: str) -> str:
    """Name for readers: titles of the parts, with the parameters that were given."""
    shown: list[str] = []
    for part in _parts(text):
        values = _parse(part)[1]
        given = ", ".join(f"{k} = {v:g}" for k, v in values.items())
        name = describe(part).title
        shown.append(
            (name.removeprefix("VAE + ") if shown else name) + (f" ({given})" if given else "")
        )
    return " + ".join(shown)


def own_digests(text: str) -> list[str]:
    """Digests of the sources of the reader's own methods among the parts of a method string."""
    digests = {describe(part).own for part in _parts(text)}
    return sorted(digests - {""})


def parameters(text: str) -> dict[str, float]:
    """The parameters that a method string gives, of all its parts."""
    return {name: value for part in _parts(text) for name, value in _parse(part)[1].items()}


def get(text: str) -> Method:
    """The choices that a method string names.

    Raises:
        BadInput: unknown name or parameter, with the nearest one; a value out of range; or parts
            that want the same slot.
    """
    made = [(part, _make(part)) for part in _parts(text)]
    plain = Method()
    chosen: dict[str, tuple[str, Any]] = {}
    for part, method in made:
        for slot in fields(Method):
            choice = getattr(method, slot.name)
            if choice == getattr(plain, slot.name):
                continue
            if slot.name in chosen:
                joined = _annealed(chosen[slot.name][1], choice)
                if joined is not None:
                    chosen[slot.name] = (f"{chosen[slot.name][0]}+{part}", joined)
                    continue
                raise BadInput(
                    f'the parts of "{text}" both choose the {slot.name}: "{chosen[slot.name][0]}" '
                    f'and "{part}"; joined methods use different slots'
                )
            chosen[slot.name] = (part, choice)
    return replace(plain, **{name: choice for name, (_, choice) in chosen.items()})


def _annealed(first: object, second: object) -> Objective | None:
    """An objective under the schedule of another one, which is the ELBO and nothing else.

    The weight rises to that which the objective has by itself.
    None where neither of the two is that: each wants something else of the objective.
    """
    for schedule, other in ((first, second), (second, first)):
        own = getattr(other, "weight", None)
        if not isinstance(schedule, ELBO) or not isinstance(own, Constant):
            continue
        weight = schedule.weight
        if isinstance(weight, Linear):
            weight = replace(weight, end=own.value)
        elif isinstance(weight, Constant) or own.value != 1.0:
            continue
        return cast(Objective, replace(cast(Any, other), weight=weight))
    return None


def _parts(text: str) -> list[str]:
    """The methods that a plus joins; one inside brackets, as in 1e+3, joins nothing."""
    return [part.strip() for part in re.split(r"\+(?![^(]*\))", text)]


def _make(text: str) -> Method:
    """The choices of one row."""
    entry = describe(text)
    _, values = _parse(text)
    allowed = inspect.signature(entry.make).parameters
    for parameter, value in values.items():
        if parameter not in allowed:
            raise BadInput(nearest(parameter, allowed, f"parameter of {entry.name}"))
        whole = allowed[parameter].annotation in (int, "int", "int | None")
        if whole and not float(value).is_integer():
            raise BadInput(f'{parameter} is a whole number, given {value} in "{text}"')
        if whole:
            values[parameter] = int(value)  # of 5.0, which torch takes for no shape
    return entry.make(**values)
