"""The table of methods: a name is four choices.

To add a method, write one function here; if it needs a new choice, add that to its slot.
A method is asked for by a string, ``"vae"`` or ``"lagging(window=10)"``.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from posterior_collapse.errors import BadInput, nearest
from posterior_collapse.objectives import ELBO, Constant, Linear, Objective
from posterior_collapse.posteriors import Diagonal, Posterior
from posterior_collapse.priors import Prior, StandardNormal
from posterior_collapse.training import Aggressive, Joint, Training

__all__ = ["Entry", "Method", "describe", "get", "names", "register"]


@dataclass(frozen=True)
class Method:
    """Four choices; everything else belongs to the recipe."""

    posterior: Posterior = Diagonal()
    prior: Prior = StandardNormal()
    objective: Objective = ELBO(Constant(1.0))
    training: Training = Joint()


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    name: str
    title: str
    paper: str
    equation: str
    make: Callable[..., Method]


_TABLE: dict[str, Entry] = {}


def register(
    name: str, title: str, paper: str, equation: str
) -> Callable[[Callable[..., Method]], Callable[..., Method]]:
    """Enter a function that returns a :class:`Method` into the table.

    Raises:
        BadInput: the name is taken.
    """

    def enter(make: Callable[..., Method]) -> Callable[..., Method]:
        if name in _TABLE and _TABLE[name].make is not make:
            raise BadInput(f'the method "{name}" is already in the table')
        _TABLE[name] = Entry(name, title, paper, equation, make)
        return make

    return enter


def names() -> list[str]:
    """Every method of the table."""
    return sorted(_TABLE)


def _parse(text: str) -> tuple[str, dict[str, float]]:
    """``"a(b=1, c=0.5)"`` to its name and numbers; only literals are accepted."""
    name, bracket, rest = text.strip().partition("(")
    if not bracket:
        return name, {}
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("only name=value parameters are allowed")
        values = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise BadInput(f'cannot read the method "{text}": {error}') from error
    wrong = {
        k: v for k, v in values.items() if isinstance(v, bool) or not isinstance(v, (int, float))
    }
    if wrong:
        raise BadInput(f'parameters of a method are numbers, given {wrong} in "{text}"')
    return name, values


def describe(text: str) -> Entry:
    """The row that a method string names.

    Raises:
        BadInput: unknown name, with the nearest one.
    """
    name, _ = _parse(text)
    if name not in _TABLE:
        raise BadInput(nearest(name, _TABLE, "method"))
    return _TABLE[name]


def get(text: str) -> Method:
    """The four choices that a method string names.

    Raises:
        BadInput: unknown name or parameter, with the nearest one; or a value out of range.
    """
    entry = describe(text)
    _, values = _parse(text)
    allowed = inspect.signature(entry.make).parameters
    for parameter in values:
        if parameter not in allowed:
            raise BadInput(nearest(parameter, allowed, f"parameter of {entry.name}"))
    return entry.make(**values)


@register("vae", "VAE", "Kingma & Welling 2014; He et al. 2019, section 2.1", "(2)")
def _vae() -> Method:
    return Method()


@register("anneal", "VAE + annealing", "Bowman et al. 2016; He et al. 2019, appendix B", "(2)")
def _anneal(start: float = 0.1, epochs: float = 10.0) -> Method:
    return Method(objective=ELBO(Linear(start, epochs)))


@register("lagging", "Aggressive (lagging)", "He et al. 2019, section 4", "(4), algorithm 1")
def _lagging(max_inner: int = 99, window: int = 15) -> Method:
    return Method(training=Aggressive(max_inner, window))
