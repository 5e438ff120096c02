"""A statement, its three checks, and what they say."""

from __future__ import annotations

import enum
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import sympy
import yaml
from hypothesis.errors import NoSuchExample
from hypothesis.strategies import SearchStrategy

from companion.claims.printed import repository
from companion.claims.verdicts import Check, Finding, Interval, Outcome, answer, as_printed, decide
from posterior_collapse.errors import BadInput

Constants = Mapping[str, float]
Wrong = float | tuple[str, str]  # another number, or a piece of a formula and what replaces it

STANDARD_ERRORS = 5.0  # a Monte-Carlo check allows this many; one in 1.7 million is beyond
DRAWS = 400  # examples of one search


class Way(enum.StrEnum):
    """How a statement was checked."""

    SYMBOLIC = "symbolic"
    SAMPLED = "Monte Carlo"
    SEARCH = "search for counter-examples"


class Standing(enum.StrEnum):
    """What the checks say of a statement."""

    TRUE = "true as printed"
    CORRECTED = "not true as printed; the corrected form passes"
    OPEN = "a check fails"


class Evidence(NamedTuple):
    """What one check found."""

    way: Way
    compared: str  # in words
    holds: bool
    found: str  # the numbers it was decided by, in words
    measure: float  # the number itself: terms left over, standard errors, counter-examples
    trials: int  # identities, samples or examples
    counterexample: str = ""


def _formula(text: str) -> Callable[..., Any]:
    """A function of the quantities that a text names."""
    code = compile(text, "<formula>", "eval")

    def formula(**quantities: Any) -> Any:
        return eval(code, {"log": log, "exp": exp}, quantities)

    return formula


class Formulas(dict[str, float]):
    """Formulas as they stand on paper, as attributes, beside the numbers that limit them.

    A formula is a text of named quantities, such as ``"reconstruction - kl"``, which is called with
    them as keywords, or a function of a module; both are written with plain numbers.
    A wrong constant is put into the text or the source from outside, by :meth:`changed`.
    """

    def __init__(self, *functions: Callable[..., Any], **named: float | str) -> None:
        super().__init__({k: value for k, value in named.items() if not isinstance(value, str)})
        self.functions = functions
        self.texts = {k: value for k, value in named.items() if isinstance(value, str)}
        self.__dict__.update(self, **{one.__name__: one for one in functions})
        for name, text in self.texts.items():
            setattr(self, name, _formula(text))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no formula and no number {name!r}")

    def changed(self, name: str, wrong: Wrong) -> Formulas:
        """The same with one constant wrong; a piece of text has to stand in one place."""
        if not isinstance(wrong, tuple):
            named: dict[str, float | str] = {**self.texts, **self, name: wrong}
            return Formulas(*self.functions, **named)
        sources = [textwrap.dedent(inspect.getsource(one)) for one in self.functions]
        places = sum(text.count(wrong[0]) for text in (*sources, *self.texts.values()))
        if places != 1:
            raise BadInput(f"{name}: {wrong[0]!r} must stand once in the formulas, not {places}")
        scope: dict[str, Any] = {}
        for one in self.functions:
            scope |= one.__globals__
        for source in sources:  # all of them, so that one that calls another sees the change
            exec(source.replace(*wrong), scope)
        texts = {key: text.replace(*wrong) for key, text in self.texts.items()}
        return Formulas(*(scope[one.__name__] for one in self.functions), **texts, **self)


@dataclass(frozen=True)
class Statement:
    """One statement of a paper in the form that is true, and in its printed form where that is not.

    Attributes:
        id: its number in the book, such as ``"D2"``.
        name: a few words.
        paper: and place, such as ``"DU-VAE, equation 3"``.
        item: of the inventory that it belongs to; empty if it belongs to none.
        claim: what is stated, in one sentence with its unit; pages show it above the checks.
        constants: its :class:`Formulas`, or the numbers that stand in it, by name.
        wrong: another value for each number, other text for a piece of a formula; with each of
            them at least one check must fail.
        checks: functions of the constants: one symbolic, one by sampling, one by search.
        printed: a search for a counter-example to the printed form, where the two differ.
    """

    id: str
    name: str
    paper: str
    item: str
    claim: str
    constants: Constants
    wrong: Mapping[str, Any]  # of Wrong
    checks: Sequence[Callable[[Any], Evidence]]
    printed: Callable[[], Evidence] | None = field(default=None)

    def __post_init__(self) -> None:
        """Refuse a statement whose checks could not be seen to fail."""
        numbers = {name for name, wrong in self.wrong.items() if not isinstance(wrong, tuple)}
        if set(self.constants) != numbers or not self.wrong:
            raise BadInput(
                f"statement {self.id} needs a wrong value for each constant, given constants "
                f"{sorted(self.constants)} and wrong values {sorted(self.wrong)}"
            )
        if len(self.checks) != len(Way):
            raise BadInput(f"statement {self.id} needs {len(Way)} checks, given {len(self.checks)}")


@functools.cache
def _texts() -> dict[str, dict[str, str]]:
    text = (repository() / "data" / "papers" / "statements.yml").read_text(encoding="utf-8")
    return {id: {"item": "", **fields} for id, fields in yaml.safe_load(text).items()}


def stated(
    id: str,
    constants: Formulas,
    wrong: Mapping[str, Wrong],
    checks: Sequence[Callable[[Any], Evidence]],
    printed: Callable[[], Evidence] | None = None,
) -> Statement:
    """The statement whose name, place and claim stand in ``data/papers/statements.yml``."""
    text = _texts()[id]
    place = text["name"], text["paper"], text["item"], text["claim"]
    return Statement(id, *place, constants, wrong, checks, printed)


class Mutation(NamedTuple):
    """A constant replaced by a wrong value, and the checks that noticed."""

    constant: str
    right: float | str
    wrong: float | str
    noticed: tuple[Way, ...]


@dataclass(frozen=True)
class Examination:
    """A statement with all that was found."""

    statement: Statement
    evidence: tuple[Evidence, ...]
    printed: Evidence | None
    mutations: tuple[Mutation, ...]

    @property
    def standing(self) -> Standing:
        """True, true when corrected, or open.

        The corrected form passes where all three checks hold and each wrong constant is noticed.
        It is needed where a counter-example to the printed form was found.
        """
        sound = all(one.holds for one in self.evidence)
        if not sound or not all(mutation.noticed for mutation in self.mutations):
            return Standing.OPEN
        refuted = self.printed is not None and not self.printed.holds
        return Standing.CORRECTED if refuted else Standing.TRUE


def examine(statement: Statement, mutate: bool = True) -> Examination:
    """Run the checks of a statement, and with ``mutate`` again with each wrong constant."""
    evidence = tuple(check(statement.constants) for check in statement.checks)
    printed = statement.printed() if statement.printed else None
    mutations = tuple(_mutation(statement, name) for name in statement.wrong) if mutate else ()
    return Examination(statement, evidence, printed, mutations)


def _mutation(statement: Statement, name: str) -> Mutation:
    right, wrong = statement.constants, statement.wrong[name]
    other = right.changed(name, wrong) if isinstance(right, Formulas) else {**right, name: wrong}
    results = [check(other) for check in statement.checks]
    noticed = tuple(result.way for result in results if not result.holds)
    old, new = wrong if isinstance(wrong, tuple) else (right[name], wrong)
    return Mutation(name, old, new, noticed)


# --- checks ---------------------------------------------------------------------------------------


def log(value: Any) -> Any:
    """The logarithm of a number, an array or a SymPy expression, or an array of these."""
    if isinstance(value, sympy.Basic):
        return sympy.log(value)
    is_symbolic = np.asarray(value).dtype == object
    return np.frompyfunc(sympy.log, 1, 1)(value) if is_symbolic else np.log(value)


def exp(value: Any) -> Any:
    """The exponential function of the same."""
    return sympy.exp(value) if isinstance(value, sympy.Basic) else np.exp(value)


def equal(compared: str, *pairs: tuple[Any, Any]) -> Evidence:
    """Symbolic check: both sides of each pair are the same expression.

    Args:
        compared: what the pairs are, in words.
        pairs: SymPy expressions, or what becomes one. Give constants as exact rationals:
            ``sympy.Rational(constant)`` of a float with few binary digits.
    """
    left_over = [sympy.simplify(sympy.sympify(left) - right) for left, right in pairs]
    wrong = [str(rest) for rest in left_over if rest != 0]
    result = f"difference {wrong[0]}" if wrong else "difference 0"
    return Evidence(Way.SYMBOLIC, compared, not wrong, result, len(wrong), len(pairs))


def nonnegative(compared: str, *expressions: Any) -> Evidence:
    """Symbolic check: each expression is non-negative by the assumptions on its symbols."""
    simple = [sympy.factor(sympy.simplify(expression)) for expression in expressions]
    undecided = [str(e) for e in simple if e.is_nonnegative is not True]
    result = f"{undecided[0]} is not" if undecided else f"{simple[0]} is not negative"
    return Evidence(Way.SYMBOLIC, compared, not undecided, result, len(undecided), len(simple))


def joined(*parts: Evidence) -> Evidence:
    """One piece of evidence from several of the same kind: the first that fails, or the last."""
    for one in parts:
        if not one.holds:
            return one
    text, trials = "; ".join(p.compared for p in parts), sum(p.trials for p in parts)
    return parts[-1]._replace(compared=text, trials=trials)


def sampled(compared: str, *cases: tuple[float, np.ndarray]) -> Evidence:
    """Monte-Carlo check: each exact value lies within five standard errors of a sample's mean.

    Args:
        compared: in words, with the unit.
        cases: exact value, and independent draws (n,) whose expectation it is.
    """
    apart, errors = [], []
    for exact, draws in cases:
        values = np.asarray(draws, dtype=float)
        error = float(values.std(ddof=1) / np.sqrt(values.size))
        # Where every draw is the same number its rounding takes the place of the spread.
        error = max(error, 1e-12 * max(1.0, abs(exact)))
        apart.append(abs(float(values.mean()) - exact) / error)
        errors.append(error)
    worst = max(apart)
    result = f"{worst:.1f} standard errors apart (one is {max(errors):.1e})"
    count = sum(np.size(draws) for _, draws in cases)
    return Evidence(Way.SAMPLED, compared, worst <= STANDARD_ERRORS, result, worst, count)


def search(
    compared: str,
    cases: SearchStrategy[Any],
    violated: Callable[[Any], bool],
    describe: Callable[[Any], str] | str = repr,
    draws: int = DRAWS,
) -> Evidence:
    """Search for a case in which a statement is violated, and shrink it to the smallest found.

    Args:
        compared: what is looked for, in words.
        cases: Hypothesis strategy.
        violated: whether a case is a counter-example; allow for rounding inside.
        describe: a case in words, for the page: a function, or a format of a tuple's fields.
        draws: examples tried at most.
    """
    tried = 0

    def counted(case: Any) -> bool:
        nonlocal tried
        tried += 1
        return violated(case)

    rules = hypothesis.settings(
        max_examples=draws, database=None, derandomize=True, deadline=None, phases=_PHASES
    )
    try:
        case = hypothesis.find(cases, counted, settings=rules)
    except NoSuchExample:
        return Evidence(Way.SEARCH, compared, True, f"none in {tried} draws", 0, tried)
    result = f"one found, the smallest after {tried} draws"
    words = describe.format(*case) if isinstance(describe, str) else describe(case)
    return Evidence(Way.SEARCH, compared, False, result, 1, tried, words)


_PHASES = (hypothesis.Phase.generate, hypothesis.Phase.shrink)


# --- verdicts -------------------------------------------------------------------------------------


def _check(id: str, evidence: Evidence, form: str) -> Check:
    """A piece of evidence as a check of a verdict."""
    outcome = Outcome.HOLDS if evidence.holds else Outcome.FAILS
    measured = Interval(evidence.measure, evidence.measure, evidence.measure, evidence.trials)
    result = evidence.found + (f": {evidence.counterexample}" if evidence.counterexample else "")
    rule = f"{evidence.way}, {form}"
    return Check(f"{id}: {evidence.compared}", rule, measured, outcome, result)


def findings(examinations: Iterable[Examination]) -> list[Finding]:
    """The verdicts on the items that statements belong to, one an item.

    Where the printed form is refuted and the form that is true passes, the item is false as printed
    and corrected.
    Statements that belong to no item give a verdict each.
    """
    grouped: dict[str, list[Examination]] = {}
    for one in examinations:
        grouped.setdefault(one.statement.item or one.statement.id, []).append(one)
    verdicts = []
    for members in grouped.values():
        checks = [check for one in members for check in _checks(one)]
        item = members[0].statement.item
        question = f"{members[0].statement.id}: {members[0].statement.claim}"
        verdicts.append(
            decide(item, "exact", checks) if item else answer(question, "exact", checks)
        )
    return verdicts


def _checks(one: Examination) -> list[Check]:
    name, printed = one.statement.id, one.printed
    form = "as printed" if printed is None else "corrected form"
    checks = [_check(name, evidence, form) for evidence in one.evidence]
    if printed is not None:
        checks.insert(0, as_printed(_check(name, printed, "as printed")))
    return [*checks, *_toothless(one)]


def _toothless(one: Examination) -> list[Check]:
    """A failing check for each wrong constant that none of a statement's checks notices."""
    name = one.statement.id
    return [
        Check(
            f"{name}: {missed.constant}, {missed.wrong} in place of {missed.right}",
            "a check must fail",
            Interval(0.0, 0.0, 0.0, len(one.evidence)),
            Outcome.FAILS,
            "none does",
        )
        for missed in one.mutations
        if not missed.noticed
    ]
