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
from sympy.core.function import AppliedUndef

from companion.claims.printed import plain, repository
from companion.claims.verdicts import Check as Verdict
from companion.claims.verdicts import Finding, Interval, Outcome, answer, as_printed, decide
from posterior_collapse.errors import BadInput

Wrong = float | tuple[str, str]  # another number, or a piece of a formula and what replaces it
Facts = Sequence[Any]  # (left, right) of an identity, or an expression that is not negative
Means = Sequence[tuple[float, np.ndarray]]  # an exact value, and draws whose expectation it is

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
    """The result of one check."""

    way: Way
    compared: str  # in words
    holds: bool
    result: str  # the numbers it was decided by, in words
    measure: float  # the number itself: terms left over, standard errors, counter-examples
    trials: int  # identities, samples or examples
    counterexample: str = ""


# --- formulas, and how to make them wrong ---------------------------------------------------------


def log(value: Any) -> Any:
    """The logarithm of a number, an array or a SymPy expression, or an array of these."""
    if isinstance(value, sympy.Basic):
        return sympy.log(value)
    is_symbolic = np.asarray(value).dtype == object
    return np.frompyfunc(sympy.log, 1, 1)(value) if is_symbolic else np.log(value)


def exp(value: Any) -> Any:
    """The exponential function of the same."""
    return sympy.exp(value) if isinstance(value, sympy.Basic) else np.exp(value)


def _formula(text: str) -> Callable[..., Any]:
    """A function of the quantities that a text names."""
    code = compile(text, "<formula>", "eval")
    return lambda **quantities: eval(code, {"log": log, "exp": exp}, quantities)


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
        self.__dict__.update({name: _formula(text) for name, text in self.texts.items()})

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


# --- the three checks -----------------------------------------------------------------------------


@dataclass
class Check:
    """One way to check a statement: called with its formulas, it gives evidence.

    Attributes:
        compared: what is compared, in words: the docstring of ``of``.
        of: what is checked, a function of the formulas.
    """

    compared: str
    of: Callable[..., Any]

    def __call__(self, c: Any) -> Evidence:
        raise NotImplementedError

    def fails(self, c: Any) -> bool:
        """The same decision without its words; a wrong constant needs no more."""
        return not self(c).holds


class Symbolic(Check):
    """Both sides of identities are the same expression, and signs follow from assumptions."""

    def __call__(self, c: Any) -> Evidence:
        facts = self.of(c)
        equal = [_difference(*fact) for fact in facts if isinstance(fact, tuple)]
        signs = [sympy.factor(sympy.simplify(e)) for e in facts if not isinstance(e, tuple)]
        wrong = [f"difference {rest}" for rest in equal if rest != 0]
        wrong += [f"{e} is not" for e in signs if e.is_nonnegative is not True]
        right = ["difference 0"] * bool(equal) + [f"{e} is not negative" for e in signs[:1]]
        result = wrong[0] if wrong else "; ".join(right)
        return Evidence(
            Way.SYMBOLIC, self.compared, not wrong, result, float(len(wrong)), len(facts)
        )

    def fails(self, c: Any) -> bool:
        """A difference that is not 0 at some place needs no algebra."""
        facts = self.of(c)
        pairs = [fact for fact in facts if isinstance(fact, tuple)]
        if any(_differ_somewhere(*pair) for pair in pairs):
            return True
        return not self(c).holds


def _difference(left: Any, right: Any) -> Any:
    return sympy.simplify(sympy.sympify(left) - right)


def _differ_somewhere(left: Any, right: Any) -> bool:
    """Whether two sides clearly differ where their symbols take some numbers between 0 and 1."""
    rest = sympy.sympify(left) - right
    if rest.has(AppliedUndef):
        return False
    places = sorted(rest.free_symbols, key=str)
    value = rest.evalf(
        subs={symbol: sympy.Rational(7 + k, 19 + k) for k, symbol in enumerate(places)}
    )
    return bool(value.is_number and value.is_finite and abs(value) > 1e-6)


class Sampled(Check):
    """Each exact value lies within five standard errors of the mean of independent draws (n,)."""

    def __call__(self, c: Any) -> Evidence:
        apart, errors, count = [], [], 0
        for exact, draws in self.of(c):
            values = np.asarray(draws, dtype=float)
            error = float(values.std(ddof=1) / np.sqrt(values.size))
            # Where every draw is the same number its rounding takes the place of the spread.
            errors.append(max(error, 1e-12 * max(1.0, abs(exact))))
            apart.append(abs(float(values.mean()) - exact) / errors[-1])
            count += values.size
        worst = max(apart)
        result = f"{worst:.1f} standard errors apart (one is {max(errors):.1e})"
        return Evidence(
            Way.SAMPLED, self.compared, bool(worst <= STANDARD_ERRORS), result, worst, count
        )


def _in_words(*parts: Any) -> str:
    return ", ".join(map(str, parts))


Words = Callable[..., str] | str  # a case in words: a function of its parts, or a format of them


@dataclass
class Search(Check):
    """No case violates a statement; one that does is shrunk to the smallest.

    Attributes:
        cases: Hypothesis strategy, or a function of the formulas that gives one. A case that is a
            plain tuple is handed on as several arguments.
        words: a case in words, for the page.
        draws: examples tried at most.
    """

    cases: Any
    words: Words = _in_words
    draws: int = DRAWS
    examples: list[Any] = field(default_factory=list)  # by the last search that found nothing

    def _violated(self, c: Any, case: Any) -> bool:
        return bool(self.of(c, *_parts(case)))

    def _find(self, c: Any, *phases: hypothesis.Phase) -> tuple[list[Any], list[Any]]:
        """The cases that were tried, and the counter-example if there is one."""
        examples: list[Any] = []

        def violated(case: Any) -> bool:
            examples.append(case)
            return self._violated(c, case)

        rules = hypothesis.settings(
            max_examples=self.draws, database=None, derandomize=True, deadline=None, phases=phases
        )
        cases = self.cases(c) if inspect.isfunction(self.cases) else self.cases
        try:
            return examples, [hypothesis.find(cases, violated, settings=rules)]
        except NoSuchExample:
            return examples, []

    def __call__(self, c: Any) -> Evidence:
        examples, counter = self._find(c, hypothesis.Phase.generate, hypothesis.Phase.shrink)
        if not counter:
            self.examples = examples
            result = f"none in {len(examples)} draws"
            return Evidence(Way.SEARCH, self.compared, True, result, 0, len(examples))
        result = f"a counter-example, the smallest after {len(examples)} draws"
        words = self.words.format if isinstance(self.words, str) else self.words
        text = words(*_parts(counter[0]))
        return Evidence(Way.SEARCH, self.compared, False, result, 1, len(examples), text)

    def fails(self, c: Any) -> bool:
        """On the cases that the right constants passed, unless these decide what is drawn."""
        if self.examples and not inspect.isfunction(self.cases):
            return any(self._violated(c, case) for case in self.examples)
        return bool(self._find(c, hypothesis.Phase.generate)[1])


def _parts(case: Any) -> tuple[Any, ...]:
    return case if type(case) is tuple else (case,)


def _compared(function: Callable[..., Any]) -> str:
    """What a check compares: the docstring of its function."""
    return " ".join((function.__doc__ or "").split()).removesuffix(".")


# --- statements -----------------------------------------------------------------------------------


@dataclass
class Statement:
    """One statement of a paper in the form that is true, and in its printed form where that is not.

    Its checks are functions of its formulas that :meth:`symbolic`, :meth:`sampled` and
    :meth:`search` decorate, in this order; their docstrings say on the page what is compared.

    Attributes:
        id: its number in the book, such as ``"D2"``.
        name: a few words.
        paper: and place, such as ``"DU-VAE, equation 3"``.
        item: of the inventory that it belongs to; empty if it belongs to none.
        claim: what is stated, in one sentence with its unit; pages show it above the checks.
        constants: its formulas and the numbers that limit them.
        wrong: another value for each number, other text for a piece of a formula; with each of
            them at least one check must fail.
        checks: one symbolic, one by sampling, one by search.
        printed: a search for a counter-example to the printed form, where the two differ.
    """

    id: str
    name: str
    paper: str
    item: str
    claim: str
    constants: Formulas
    wrong: Mapping[str, Wrong]
    checks: list[Check] = field(default_factory=list)
    printed: Callable[[], Evidence] | None = None

    def __post_init__(self) -> None:
        """Refuse a statement whose checks could not be seen to fail."""
        numbers = {name for name, wrong in self.wrong.items() if not isinstance(wrong, tuple)}
        if set(self.constants) != numbers or not self.wrong:
            raise BadInput(
                f"statement {self.id} needs a wrong value for each constant, given constants "
                f"{sorted(self.constants)} and wrong values {sorted(self.wrong)}"
            )

    def symbolic(self, facts: Callable[[Formulas], Facts]) -> Callable[[Formulas], Facts]:
        """Check identities, and expressions that are not negative by assumptions on symbols."""
        self.checks.append(Symbolic(_compared(facts), facts))
        return facts

    def sampled(self, means: Callable[[Formulas], Means]) -> Callable[[Formulas], Means]:
        """Check exact values against the means of draws."""
        self.checks.append(Sampled(_compared(means), means))
        return means

    def search(
        self, cases: Any, words: Words = _in_words, draws: int = DRAWS
    ) -> Callable[[Callable[..., bool]], Callable[..., bool]]:
        """Search for a case that violates the statement; see :class:`Search`.

        The function has the formulas and the case as arguments; it allows for rounding.
        """

        def decorate(violated: Callable[..., bool]) -> Callable[..., bool]:
            self.checks.append(Search(_compared(violated), violated, cases, words, draws))
            return violated

        return decorate

    def search_printed(
        self, cases: Any, words: Words = _in_words, draws: int = DRAWS
    ) -> Callable[[Callable[..., bool]], Callable[..., bool]]:
        """Search for a case that violates the printed form; the function has only the case."""

        def decorate(violated: Callable[..., bool]) -> Callable[..., bool]:
            check = Search(
                _compared(violated), lambda _, *case: violated(*case), cases, words, draws
            )
            self.printed = functools.partial(check, None)
            return violated

        return decorate


@functools.cache
def _texts() -> dict[str, dict[str, str]]:
    text = (repository() / "data" / "papers" / "statements.yml").read_text(encoding="utf-8")
    return {id: {"item": "", **fields} for id, fields in yaml.safe_load(text).items()}


def stated(id: str, constants: Formulas, wrong: Mapping[str, Wrong]) -> Statement:
    """The statement whose name, place and claim stand in ``data/papers/statements.yml``."""
    text = _texts()[id]
    place = text["name"], text["paper"], text["item"], text["claim"]
    return Statement(id, *place, constants, wrong)


class Mutation(NamedTuple):
    """A constant replaced by a wrong value, and the checks that noticed."""

    constant: str
    right: float | str
    wrong: float | str
    noticed: tuple[Way, ...]


@dataclass(frozen=True)
class Examination:
    """A statement with the results of its checks."""

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
    """Run the checks of a statement, and with ``mutate`` again with each wrong constant.

    Raises:
        BadInput: a check is missing.
    """
    evidence = tuple(check(statement.constants) for check in statement.checks)
    if [one.way for one in evidence] != list(Way):
        raise BadInput(f"statement {statement.id} needs {len(Way)} checks, one of each kind")
    printed = statement.printed() if statement.printed else None
    mutations = tuple(_mutation(statement, name) for name in statement.wrong) if mutate else ()
    return Examination(statement, evidence, printed, mutations)


def examined(statements: Iterable[Statement]) -> dict[str, Examination]:
    """All statements of a page by their number, with their checks run."""
    return {one.id: examine(one) for one in statements}


def _mutation(statement: Statement, name: str) -> Mutation:
    right, wrong = statement.constants, statement.wrong[name]
    other = right.changed(name, wrong)
    ways = zip(Way, statement.checks, strict=True)
    noticed = tuple(way for way, check in ways if check.fails(other))
    old, new = wrong if isinstance(wrong, tuple) else (right[name], wrong)
    return Mutation(name, old, new, noticed)


# --- verdicts -------------------------------------------------------------------------------------


def _check(id: str, evidence: Evidence, form: str) -> Verdict:
    """A piece of evidence as a check of a verdict."""
    outcome = Outcome.HOLDS if evidence.holds else Outcome.FAILS
    measured = Interval(evidence.measure, evidence.measure, evidence.measure, evidence.trials)
    result = evidence.result + (f": {evidence.counterexample}" if evidence.counterexample else "")
    rule = f"{evidence.way}, {form}"
    return Verdict(f"{id}: {evidence.compared}", rule, measured, outcome, result)


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
        question = plain(members[0].statement.id) if not item else ""
        verdicts.append(
            decide(item, "exact", checks) if item else answer(question, "exact", checks)
        )
    return verdicts


def _checks(one: Examination) -> list[Verdict]:
    """The evidence, and a failing check for each wrong constant that nothing notices."""
    name, printed = one.statement.id, one.printed
    form = "as printed" if printed is None else "corrected form"
    checks = [_check(name, evidence, form) for evidence in one.evidence]
    if printed is not None:
        checks.insert(0, as_printed(_check(name, printed, "as printed")))
    for missed in one.mutations:
        if not missed.noticed:
            quantity = f"{name}: {missed.constant}, {missed.wrong} in place of {missed.right}"
            none = Interval(0.0, 0.0, 0.0, len(one.evidence))
            checks.append(Verdict(quantity, "a check must fail", none, Outcome.FAILS, "none does"))
    return checks
