"""The audit of the printed tables: what their numbers say of each other, by rule.

A rule compares printed numbers with a theorem, a definition, or another printed number.
A number printed with k decimals stands for everything within half a unit of its last digit, so a
rule reports only what lies beyond that.
Nothing here is typed for one finding: causes are chosen by conditions that the code states.

What the tables themselves do not say (numbers of runs, of points aggregated, and the like) is in
``data/papers/claims.yml``, beside the claims of the papers' texts.
"""

from __future__ import annotations

import enum
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import pandas as pd
import yaml

from posterior_collapse import papers
from posterior_collapse.errors import BadInput, nearest
from posterior_collapse.papers import Outcome

__all__ = [
    "RULES",
    "Claim",
    "Comparison",
    "Facts",
    "Found",
    "Judged",
    "Kind",
    "Number",
    "Report",
    "Row",
    "Rule",
    "audit",
    "claims",
    "facts",
    "judge",
    "number",
    "read",
    "rows_of",
]

Tables = Mapping[str, pd.DataFrame]

ROUNDING = "half a unit of the last printed digit of each number"
_COPYING = f"{ROUNDING} where one has more digits, and nothing where both have as many"
_ACTIVE = Fraction(1, 100)  # least variance of an active unit's mean, in all five papers
_NOISE = Fraction(1, 10)  # nats; see the rule on MI above KL
_NEAR = Fraction(1, 10)  # nats below the ceiling that count as sitting at it
_OUTLIER = Fraction(1, 100)  # share of the median NLL
_LONG = 5  # significant digits of a number that is unlikely to recur by chance


# --- printed numbers ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """A printed number: what it says, and half a unit of its last digit."""

    text: str
    value: Fraction
    half: Fraction

    @property
    def low(self) -> Fraction:
        """The least number that is printed like this."""
        return self.value - self.half

    @property
    def high(self) -> Fraction:
        """The greatest number that is printed like this."""
        return self.value + self.half

    @property
    def digits(self) -> int:
        """Significant digits; zeros at the end count."""
        return len(self.text.replace(".", "").lstrip("-0"))


def number(text: str) -> Number:
    """Read a printed number, such as ``"5.20"``: 5.2, give or take 0.005.

    Raises:
        BadInput: the text is no plain decimal number.
    """
    digits = text.removeprefix("-").replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit()):
        raise BadInput(f"{text!r} is no printed number; allowed are digits with at most one point")
    decimals = len(text.partition(".")[2])
    return Number(text, Fraction(text), Fraction(1, 2 * 10**decimals))


def _apart(a: Number, b: Number) -> Fraction:
    """How far two printed numbers are from being roundings of one number; negative if they can be.

    Two that are printed with equally many decimals can be so only if they are the same.
    """
    if a.half == b.half:
        return abs(a.value - b.value)
    return abs(a.value - b.value) - a.half - b.half


# --- rows -----------------------------------------------------------------------------------------


def _kind(column: str) -> str:
    """Kind of a column: that of the legend, or spread."""
    columns = papers.legend()["columns"]
    if column not in columns and _spread_of(column) in columns:
        return "spread"
    if column not in columns:
        raise BadInput(nearest(column, columns, "column of a printed table"))
    return str(columns[column]["kind"])


def _spread_of(column: str) -> str:
    """The quantity that a column of spreads belongs to."""
    return column.removesuffix("_sd").removesuffix("_variance")


_WORDS = {
    "nll": "NLL",
    "neg_elbo": "−ELBO",
    "kl": "KL",
    "mi": "MI",
    "au": "AU",
    "rec": "Rec",
    "ppl": "PPL",
    "time_ratio": "ratio",
    "bleu_2": "BLEU-2",
    "bleu_4": "BLEU-4",
    "dist_1": "Dist-1",
    "dist_2": "Dist-2",
    "dist_3": "Dist-3",
}
# Settings that a method's key or its printed name holds already.
_IN_KEY = ("anneal_iterations", "encoder_rate_factor", "inner_iterations")
_NAMES = ("dataset", "group", "method", "method_key", "note")
_UNTOLD = (*_NAMES, "anneal_iterations")


def _words(column: str) -> str:
    """A column's name for a reader."""
    return _WORDS.get(column, column.replace("_", " "))


@dataclass(frozen=True)
class Row:
    """One row of a printed table: one method on one data set, as text.

    Attributes:
        table: such as ``"lagging/table1"``.
        cells: column -> what is printed, empty where nothing is.
    """

    table: str
    cells: Mapping[str, str]

    @property
    def paper(self) -> str:
        """The paper's folder."""
        return self.table.partition("/")[0]

    @property
    def dataset(self) -> str:
        """The data set as printed."""
        return self.cells.get("dataset", "")

    @property
    def method(self) -> str:
        """The method as printed, or as the caption says where the table has no such column."""
        return self.cells.get("method") or facts().methods.get(self.table, ("", ""))[0]

    @property
    def key(self) -> str:
        """The method's key in this library; empty if it has none."""
        named = facts().methods.get(self.table, ("", ""))[1]
        return self.cells.get("method_key", "" if "method" in self.cells else named)

    @property
    def referred(self) -> bool:
        """Whether the paper says that the row comes from an earlier one."""
        return self.cells.get("note") == "referred"

    @property
    def label(self) -> str:
        """The row for a reader: its method, and what else tells it apart."""
        told = [self.method]
        for name, cell in self.cells.items():
            if not cell or name in _UNTOLD:
                continue
            if name in ("posterior", "lost_parameter"):
                told.append(cell)
            elif _kind(name) in ("setting", "text") or (
                _kind(name) == "parameter" and cell not in self.method
            ):
                told.append(f"{_words(name)} {cell}")
        return ", ".join(told)

    @property
    def quantities(self) -> dict[str, Number]:
        """The printed quantities, without spreads."""
        printed = {name: cell for name, cell in self.cells.items() if cell}
        return {name: number(c) for name, c in printed.items() if _kind(name) == "quantity"}

    def get(self, column: str) -> Number | None:
        """A number of the row, or None where nothing is printed."""
        cell = self.cells.get(column, "")
        return number(cell) if cell else None

    def need(self, *columns: str) -> list[Number]:
        """Several numbers of the row; an empty list unless all are printed."""
        found = [self.get(column) for column in columns]
        return [one for one in found if one is not None] if None not in found else []

    def spread(self, column: str) -> float | None:
        """Greatest standard deviation that the printed spread stands for, or None."""
        if (sd := self.get(f"{column}_sd")) is not None:
            return float(sd.high)
        if (variance := self.get(f"{column}_variance")) is not None:
            return math.sqrt(variance.high)
        return None

    def says(self, *columns: str) -> str:
        """What is printed, such as ``MI 2.50, KL 2.48``."""
        return ", ".join(f"{_words(name)} {self.cells[name]}" for name in columns)


def _identity(row: Row) -> tuple[Any, ...]:
    """What has to agree for two rows to be about the same model and measurement."""
    told = {name: cell for name, cell in row.cells.items() if cell and name not in _NAMES}
    if row.key:
        given = {n: c for n, c in told.items() if _kind(n) in ("setting", "text")}
        kept = frozenset((n, c) for n, c in given.items() if n not in _IN_KEY)
        return (row.dataset, row.key, kept)
    named = {n: c for n, c in told.items() if _kind(n) in ("setting", "text", "parameter")}
    return (row.dataset, row.method.rstrip("*"), frozenset(named.items()))


def read() -> dict[str, pd.DataFrame]:
    """Every printed table as text, in the legend's order: ``"lagging/table1"`` -> cells."""
    folder = papers.repository() / "data" / "papers"
    paths = {table: folder / f"{table}.csv" for table in papers.legend()["tables"]}
    return {
        table: pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        for table, path in paths.items()
        if path.is_file()
    }


def rows_of(tables: Tables) -> list[Row]:
    """The rows of all tables.

    Raises:
        BadInput: a column that the legend does not know.
    """
    for frame in tables.values():
        for column in frame.columns:
            _kind(str(column))
    return [
        Row(table, {str(name): str(cell) for name, cell in record.items()})
        for table, frame in tables.items()
        for record in frame.to_dict("records")
    ]


# --- facts and claims -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What the rules need and the tables do not print; see ``data/papers/claims.yml``.

    Attributes:
        dimensions: data set -> latent dimensions; ``default`` for the others.
        points: paper -> data set -> points that its estimate of MI aggregates.
        runs: table -> training runs behind each mean.
        evaluations: table -> evaluations behind each mean.
        methods: table -> method and key of its caption, where no column names them.
        sources: paper -> the earlier papers that it takes rows from.
        keep: least and greatest probability of keeping a variance that DU-VAE varies.
    """

    dimensions: Mapping[str, int]
    points: Mapping[str, Mapping[str, int]]
    runs: Mapping[str, int]
    evaluations: Mapping[str, int]
    methods: Mapping[str, tuple[str, str]]
    sources: Mapping[str, tuple[str, ...]]
    keep: tuple[Fraction, Fraction]


@functools.lru_cache(maxsize=1)
def _file() -> dict[str, Any]:
    path = papers.repository() / "data" / "papers" / "claims.yml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


@functools.lru_cache(maxsize=1)
def facts() -> Facts:
    """The facts of ``data/papers/claims.yml``."""
    given = _file()["facts"]
    low, high = (Fraction(str(bound)) for bound in given["keep"])
    return Facts(
        dimensions=given["dimensions"],
        points=given["points"],
        runs=given["runs"],
        evaluations=given["evaluations"],
        methods={table: (one["method"], one["key"]) for table, one in given["methods"].items()},
        sources={paper: tuple(names) for paper, names in given["sources"].items()},
        keep=(low, high),
    )


Filter = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Comparison:
    """A claim cut into one kind of comparison over a table.

    Attributes:
        table: such as ``"du/table1"``.
        quantity: the column that is compared.
        better: ``lower`` or ``higher``.
        ours: column -> the values that select the rows claimed to be better.
        theirs: the same for the rows that they are compared with; empty if there is a bound.
        low: least value that is claimed, where the claim names one.
        high: greatest value that is claimed.
        by: columns on which compared rows agree.
        each: whether each of ours has to be better, or the best of them.
        margin: by how much ours may be worse.
    """

    table: str
    quantity: str
    ours: Filter
    better: str = "higher"
    theirs: Filter = field(default_factory=dict)
    low: Fraction | None = None
    high: Fraction | None = None
    by: tuple[str, ...] = ("dataset",)
    each: bool = False
    margin: Fraction = Fraction(0)


@dataclass(frozen=True)
class Claim:
    """A claim of a paper's text, in this book's words, with the comparisons that decide it."""

    id: str
    paper: str
    item: str
    words: str
    comparisons: tuple[Comparison, ...]


def _filter(given: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        k: [str(v) for v in (one if isinstance(one, list) else [one])] for k, one in given.items()
    }


def _comparison(given: Mapping[str, Any]) -> Comparison:
    names = Comparison.__dataclass_fields__
    for name in given:
        if name not in names:
            raise BadInput(nearest(name, names, "entry of a comparison"))
    read: dict[str, Any] = dict(given)
    read |= {n: _filter(read[n]) for n in ("ours", "theirs") if n in read}
    read |= {n: Fraction(str(read[n])) for n in ("low", "high", "margin") if n in read}
    if "by" in read:
        read["by"] = tuple(read["by"])
    found = Comparison(**read)
    if found.better not in ("lower", "higher"):
        raise BadInput(nearest(found.better, ("lower", "higher"), "direction of a comparison"))
    if bool(found.theirs) == (found.low is not None or found.high is not None):
        raise BadInput(f"a comparison needs either rows or bounds: {dict(given)}")
    return found


@functools.lru_cache(maxsize=1)
def claims() -> tuple[Claim, ...]:
    """The claims of ``data/papers/claims.yml``.

    Raises:
        BadInput: an entry has a name that is not one of a claim's.
    """
    return tuple(
        Claim(
            one["id"],
            one["paper"],
            one["item"],
            one["claim"],
            tuple(_comparison(given) for given in one["comparisons"]),
        )
        for one in _file()["claims"]
    )


class Side(NamedTuple):
    """One comparison of a claim: the row, what is printed, and what it says."""

    row: Row
    printed: str
    excess: Fraction  # by which it fails beyond rounding; negative or zero where it does not
    outcome: Outcome


@dataclass(frozen=True)
class Judged:
    """A claim with all its comparisons.

    Attributes:
        outcome: fails if one comparison fails; undecided if none fails and a tie is left, or if
            the table is not here; else holds.
    """

    claim: Claim
    sides: tuple[Side, ...]
    outcome: Outcome

    def count(self, outcome: Outcome) -> int:
        """Number of comparisons with this outcome."""
        return sum(side.outcome is outcome for side in self.sides)


def _select(rows: Sequence[Row], wanted: Filter, quantity: str) -> list[Row]:
    """Rows whose cells are among the wanted ones and that print the quantity.

    Raises:
        BadInput: a column or a value that the table does not have, with the nearest one.
    """
    columns = rows[0].cells
    for column in (*wanted, quantity):
        if column not in columns:
            raise BadInput(nearest(column, columns, f"column of {rows[0].table}"))
    for column, values in wanted.items():
        there = {row.cells[column] for row in rows}
        for value in values:
            if value not in there:
                raise BadInput(nearest(value, there, f"{column} of {rows[0].table}"))
    found = [r for r in rows if all(r.cells[c] in values for c, values in wanted.items())]
    return [row for row in found if row.cells[quantity]]


def _side(row: Row, printed: str, shortfall: Fraction, slack: Fraction) -> Side:
    """A comparison from the amount by which it is missed, and what rounding may hide of it."""
    outcome = Outcome.OPEN
    if abs(shortfall) >= slack and shortfall != slack:
        outcome = Outcome.FAILS if shortfall > 0 else Outcome.HOLDS
    return Side(row, printed, shortfall - slack, outcome)


def _against_bounds(one: Comparison, row: Row) -> Iterator[Side]:
    given = number(row.cells[one.quantity])
    if one.low is not None:
        words = f"{row.says(one.quantity)}; claimed: at least {float(one.low):g}"
        yield _side(row, words, one.low - given.value, given.half)
    if one.high is not None:
        words = f"{row.says(one.quantity)}; claimed: at most {float(one.high):g}"
        yield _side(row, words, given.value - one.high, given.half)


def _against_rows(one: Comparison, row: Row, others: Sequence[Row]) -> Iterator[Side]:
    sign = 1 if one.better == "lower" else -1
    given = number(row.cells[one.quantity])
    for other in others:
        theirs = number(other.cells[one.quantity])
        told = f"{row.says(one.quantity)}; {other.label}: {theirs.text}"
        shortfall = sign * (given.value - theirs.value) - one.margin
        yield _side(row, told, shortfall, given.half + theirs.half)


def _sides(one: Comparison, rows: Sequence[Row]) -> Iterator[Side]:
    """Every comparison that one entry stands for."""
    sign = 1 if one.better == "lower" else -1
    ours = _select(rows, one.ours, one.quantity)
    theirs = _select(rows, one.theirs, one.quantity) if one.theirs else []
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in ours:
        groups.setdefault(tuple(row.cells.get(c, "") for c in one.by), []).append(row)
    for group, members in groups.items():
        best = min(members, key=lambda r: sign * number(r.cells[one.quantity]).value)
        others = [r for r in theirs if tuple(r.cells.get(c, "") for c in one.by) == group]
        for row in members if one.each or not one.theirs else [best]:
            yield from _against_rows(one, row, others) if one.theirs else _against_bounds(one, row)


def judge(claim: Claim, tables: Tables) -> Judged:
    """Evaluate a claim on the printed tables.

    Raises:
        BadInput: an unknown table, column, row or item, with the nearest one.
    """
    papers.claim(claim.item)
    rows: dict[str, list[Row]] = {}
    for row in rows_of(tables):
        rows.setdefault(row.table, []).append(row)
    found: list[Side] = []
    for one in claim.comparisons:
        if one.table in rows:
            found += _sides(one, rows[one.table])
        elif one.table not in papers.legend()["tables"]:
            raise BadInput(nearest(one.table, papers.legend()["tables"], "printed table"))
    outcomes = {side.outcome for side in found}
    if Outcome.FAILS in outcomes:
        return Judged(claim, tuple(found), Outcome.FAILS)
    holds = outcomes == {Outcome.HOLDS}
    return Judged(claim, tuple(found), Outcome.HOLDS if holds else Outcome.OPEN)


# --- rules ----------------------------------------------------------------------------------------


class Kind(enum.StrEnum):
    """What a finding means."""

    IMPOSSIBLE = "cannot be"  # no model and no rounding gives these numbers together
    ODD = "odd"  # possible, but it asks for an explanation
    TEXT = "text and table differ"


class Case(NamedTuple):
    """One comparison of a rule; a finding if the excess is above zero."""

    row: Row
    printed: str
    excess: Fraction | float
    cause: str = ""  # where it differs from the rule's
    meaning: str = ""


@dataclass(frozen=True)
class Rule:
    """One rule of the audit.

    Attributes:
        id: short name.
        title: for a heading.
        states: the theorem or definition, with its source.
        tolerance: what is allowed before anything is reported.
        unit: of the excess.
        kind: what a finding means.
        cause: likeliest cause, where a case has none of its own.
        meaning: for a reader, where a case has none of its own.
        cases: the comparisons that the rule makes on rows.
    """

    id: str
    title: str
    states: str
    tolerance: str
    unit: str
    kind: Kind
    cause: str
    meaning: str
    cases: Callable[[Sequence[Row]], Iterable[Case]]


@dataclass(frozen=True)
class Found:
    """A finding: what is printed, by how much it breaks the rule, and what that means."""

    rule: str
    table: str
    row: str
    dataset: str
    printed: str
    excess: float
    cause: str
    meaning: str


@dataclass(frozen=True)
class Report:
    """A rule with the number of comparisons that it made and what it found."""

    rule: Rule
    checked: int
    found: tuple[Found, ...]


RULES: dict[str, Rule] = {}


def _rule(
    id_: str,
    title: str,
    states: str,
    cause: str,
    meaning: str,
    kind: Kind = Kind.IMPOSSIBLE,
    tolerance: str = ROUNDING,
    unit: str = "nats",
) -> Callable[
    [Callable[[Sequence[Row]], Iterable[Case]]], Callable[[Sequence[Row]], Iterable[Case]]
]:
    """Register a function as the cases of a rule."""

    def keep(
        cases: Callable[[Sequence[Row]], Iterable[Case]],
    ) -> Callable[[Sequence[Row]], Iterable[Case]]:
        RULES[id_] = Rule(id_, title, states, tolerance, unit, kind, cause, meaning, cases)
        return cases

    return keep


def _dimensions(row: Row) -> int:
    known = facts().dimensions
    return known.get(row.dataset, known["default"])


def _origin(row: Row, rows: Sequence[Row]) -> Row | None:
    """The row of an earlier paper that this one is nearest to, or None if there is none."""
    sources = facts().sources.get(row.paper, ())
    known = [r for r in rows if r.paper in sources and _identity(r) == _identity(row)]
    same = [r for r in known if set(row.quantities) <= set(r.quantities)]
    return min(same, key=lambda other: len(_differing(row, other)), default=None)


def _differing(row: Row, other: Row) -> list[str]:
    """Quantities that two rows print differently, beyond rounding."""
    theirs = other.quantities
    pairs = {name: (one, theirs[name]) for name, one in row.quantities.items() if name in theirs}
    return [name for name, pair in pairs.items() if _apart(*pair) > 0]


def _elsewhere(row: Row, column: str, rows: Sequence[Row]) -> str:
    """Another data set under which the row's own line prints the same number, if there is one."""
    for other in rows:
        same_line = (other.table, other.method) == (row.table, row.method)
        if same_line and other.dataset != row.dataset and other.cells[column] == row.cells[column]:
            return other.dataset
    return ""


# --- within a row ---------------------------------------------------------------------------------

_TWO_POSTERIORS = (
    "MI is taken from the scaled posterior and KL from the unscaled one: two posteriors"
)
_SAMPLING = (
    "sampling noise of the estimate of MI: He et al. print a variance of 0.001 to 0.003 over ten "
    "evaluations of one model"
)
_APART = "MI and KL do not come from the same posterior, run or column"


@_rule(
    "mi-above-kl",
    "MI above KL",
    "For one posterior, I(x; z) = E KL(q(z|x) ‖ p) − KL(q(z) ‖ p), and the last term is not "
    "negative. So MI ≤ KL (He et al. 2019, equation 5; Scale-VAE prints the same equation).",
    _APART,
    "The two numbers do not describe one model's codes. KL is then not the price of MI.",
)
def _mi_above_kl(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if pair := row.need("mi", "kl"):
            excess = pair[0].low - pair[1].high
            if row.method.startswith("Scale-VAE"):
                told = "Its KL is not the information budget of the codes that the decoder sees."
                yield Case(row, row.says("mi", "kl"), excess, _TWO_POSTERIORS, told)
            elif excess <= _NOISE:
                told = "MI and KL are equal as far as the estimate goes."
                yield Case(row, row.says("mi", "kl"), excess, _SAMPLING, told)
            else:
                yield Case(row, row.says("mi", "kl"), excess)


def _ceiling(row: Row, rows: Sequence[Row]) -> tuple[float, int] | None:
    """Greatest value of a row's estimate of MI, and the points that it aggregates."""
    home = _origin(row, rows) if row.referred else row
    if home is None or (points := facts().points.get(home.paper)) is None:
        return None
    count = points.get(row.dataset, points["default"])
    return math.log(count), count


@_rule(
    "mi-above-ceiling",
    "MI above the ceiling of its estimate",
    "The papers estimate q(z) by averaging over S points, the own one included. Such an estimate "
    "is at most log S: 3.466 for He et al. on text (S = 32), 3.912 on OMNIGLOT (S = 50), 9.210 for "
    "the others (S = 10,000). A row marked as taken from a paper has that paper's S.",
    "the row is not what its source measured, or S is another",
    "The number cannot be the estimate that its mark says it is. MI of different papers must not "
    "be compared without S.",
)
def _mi_above_ceiling(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        mi = row.get("mi")
        if mi is None or (ceiling := _ceiling(row, rows)) is None:
            continue
        excess = float(mi.low) - ceiling[0]
        told = f"{row.says('mi')}; log {ceiling[1]} = {ceiling[0]:.3f}"
        if 0 < excess <= _NOISE and not row.referred:
            cause = "the two halves of the estimate do not use the same draws, which leaves noise"
            yield Case(row, told, excess, cause, "MI is at its ceiling. The true value is unknown.")
        else:
            yield Case(row, told, excess)


@_rule(
    "mi-at-ceiling",
    "MI at the ceiling of its estimate",
    "An estimate within 0.1 nats of log S says only that MI is at least that large.",
    "the posteriors of the S points hardly overlap",
    "The true MI is larger by an unknown amount. Two rows at the ceiling cannot be ranked.",
    kind=Kind.ODD,
    tolerance="0.1 nats between MI and its ceiling, a choice of this book",
)
def _mi_at_ceiling(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        mi = row.get("mi")
        if mi is not None and (ceiling := _ceiling(row, rows)) is not None:
            below = ceiling[0] - float(mi.high)
            excess = float(_NEAR) - below if float(mi.low) <= ceiling[0] else 0.0
            yield Case(row, f"{row.says('mi')}; log {ceiling[1]} = {ceiling[0]:.3f}", excess)


@_rule(
    "nll-above-elbo",
    "NLL above −ELBO",
    "The importance-weighted bound is at least the ELBO (Burda et al. 2016), so NLL ≤ −ELBO.",
    "the two were evaluated with different samples, or on different sentences",
    "One of the two is not a bound on the same likelihood.",
)
def _nll_above_elbo(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if pair := row.need("nll", "neg_elbo"):
            yield Case(row, row.says("nll", "neg_elbo"), pair[0].low - pair[1].high)


@_rule(
    "collapsed-gap",
    "A gap between −ELBO and NLL where KL is zero",
    "If the decoder ignores z, then p(z|x) = p(z), and −ELBO − NLL is KL itself (He et al. 2019, "
    "equation 3). So a model that is collapsed in the full sense, with KL printed as zero, has NLL "
    "and −ELBO alike.",
    "the decoder still reads z although the encoder says nothing, or the two numbers come from "
    "different evaluations",
    "The encoder is collapsed and the decoder is not, or the gap is an artefact of the evaluation.",
    kind=Kind.ODD,
)
def _collapsed_gap(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        pair = row.need("nll", "neg_elbo")
        kl = row.get("kl")
        if pair and kl is not None and kl.value == 0:
            yield Case(row, row.says("nll", "neg_elbo", "kl"), pair[1].low - pair[0].high - kl.high)


def _floor(row: Row) -> tuple[Fraction, str] | None:
    """Least KL that a method is proved to have, and how it comes about."""
    size = _dimensions(row)
    if (delta := row.get("delta")) is not None and row.method.startswith("δ-VAE"):
        return size * delta.value, f"{size} · {delta.text}"
    gamma = row.get("gamma")
    if gamma is not None and row.method.startswith(("BN-VAE", "DU-VAE")):
        shift = row.get("shift")
        square = gamma.value**2 + (shift.value**2 if shift else 0)
        told = (
            f"{size} · {gamma.text}²/2"
            if not shift
            else f"{size} · ({gamma.text}² + {shift.text}²)/2"
        )
        return size * square / 2, told
    return None


@_rule(
    "kl-floor",
    "KL below the floor of its method",
    "Batch norm on D means gives E KL ≥ D(γ² + β²)/2 (Zhu et al. 2020; exact for the statistics of "
    "the batch and ε = 0). δ-VAE gives KL ≥ Dδ by construction. A flow has no such floor.",
    "statistics of training are used at evaluation, or the parameters are not those printed",
    "The floor that the method is meant to ensure is not there in the test numbers.",
)
def _kl_floor(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        kl, floor = row.get("kl"), _floor(row)
        if kl is not None and floor is not None:
            told = f"{row.says('kl')}; floor {floor[1]} = {float(floor[0]):.2f}"
            yield Case(row, told, floor[0] - kl.high)


@_rule(
    "au-dimensions",
    "More active units than dimensions",
    "AU counts latent dimensions: 32, and 8 on SNLI.",
    "another number of dimensions than the text says",
    "The row is about another model.",
    unit="units",
)
def _au_dimensions(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if (au := row.get("au")) is not None:
            size = _dimensions(row)
            yield Case(row, f"{row.says('au')} of {size}", au.low - size)


@_rule(
    "active-kl",
    "KL too small for the active units",
    "KL of a Gaussian to the prior is at least half its squared mean, and an active unit's mean "
    "varies by at least 0.01. So KL ≥ 0.005 · AU.",
    "KL and AU come from different runs or data sets",
    "The row mixes two models.",
)
def _active_kl(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if pair := row.need("au", "kl"):
            yield Case(row, row.says("kl", "au"), pair[0].low * _ACTIVE / 2 - pair[1].high)


def _silent_cause(row: Row, au: Number, rows: Sequence[Row]) -> str:
    if other := _elsewhere(row, "au", rows):
        return f"a slip of columns: the line prints the same AU under {other}"
    kl = row.need("kl")
    most = 2 * kl[0].high / au.low if kl else None
    if most is not None and most < 1:
        return (
            f"means that hardly vary: by {float(_ACTIVE)} to {float(most):.3f} in each active unit"
        )
    return "means that vary little, with all of KL spent on a shift that is the same for all x"


@_rule(
    "active-silent",
    "Active units that carry no information",
    "A unit is active if its mean varies over the data. Means that vary tell inputs apart, so they "
    "carry information. Here MI is zero to the printed digits.",
    "",
    "AU alone does not show that a model uses its codes.",
    kind=Kind.ODD,
    unit="units",
)
def _active_silent(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if (pair := row.need("au", "mi")) and pair[1].value == 0:
            printed = row.says(*(name for name in ("kl", "mi", "au") if row.cells.get(name)))
            silent = pair[0].low >= Fraction(1, 2)
            cause = _silent_cause(row, pair[0], rows) if silent else ""
            yield Case(row, printed, pair[0].low if silent else 0, cause)


@_rule(
    "abnormal",
    "KL above zero with MI zero",
    "All posteriors may be one and the same distribution that is not the prior. Then KL > 0, and "
    "MI = 0 (Shen et al. 2021, below their equation 10).",
    "the posterior is the same for all inputs and lies away from the prior",
    "A KL above zero does not prevent collapse. This is the abnormal case, seen in print.",
    kind=Kind.ODD,
)
def _abnormal(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if (pair := row.need("kl", "mi")) and pair[1].value == 0:
            floor = _floor(row)
            cause = ""
            if floor and pair[0].low <= floor[0] <= pair[0].high:
                cause = (
                    f"KL is the floor that the method forces, {floor[1]} = {float(floor[0]):.2f}"
                )
            yield Case(row, row.says("kl", "mi"), pair[0].low - pair[1].high, cause)


@_rule(
    "elbo-sum",
    "−ELBO is not Rec + KL",
    "By definition −ELBO = Rec + KL.",
    "the terms come from different evaluations, or a weight other than 1 is in one of them",
    "At least one of the three is not what its head says.",
)
def _elbo_sum(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        if found := row.need("neg_elbo", "rec", "kl"):
            elbo, rec, kl = found
            slack = elbo.half + rec.half + kl.half
            excess = abs(elbo.value - rec.value - kl.value) - slack
            yield Case(row, row.says("neg_elbo", "rec", "kl"), excess)


class _Ratio(NamedTuple):
    """A printed ratio beside the hours that it is of."""

    row: Row
    printed: str
    ratio: Number
    low: Fraction
    middle: Fraction
    high: Fraction


def _ratios(rows: Sequence[Row]) -> Iterator[_Ratio]:
    for row in rows:
        pair = row.need("time_ratio", "hours")
        base = [
            r for r in rows if (r.table, r.dataset, r.method) == (row.table, row.dataset, "VAE")
        ]
        if not pair or not base or base[0] == row or (hours := base[0].get("hours")) is None:
            continue
        told = f"{row.says('time_ratio')}; hours {pair[1].text} / {hours.text} = "
        quotient = pair[1].value / hours.value
        told += f"{float(quotient):.4f}"
        low, high = pair[1].low / hours.high, pair[1].high / hours.low
        yield _Ratio(row, told, pair[0], low, quotient, high)


@_rule(
    "time-ratio",
    "A ratio of times that is not the ratio of the hours",
    "The relative time is the method's hours over the VAE's.",
    "the ratio was computed from other numbers than the printed hours",
    "The last digit of the ratio is not to be relied on.",
    unit="times the VAE's",
)
def _time_ratio(rows: Sequence[Row]) -> Iterator[Case]:
    for one in _ratios(rows):
        excess = max(one.low - one.ratio.high, one.ratio.low - one.high)
        cut = one.low < one.ratio.value + 2 * one.ratio.half and one.ratio.value <= one.high
        cause = "digits were cut off instead of rounded" if cut else ""
        yield Case(one.row, one.printed, excess, cause)


@_rule(
    "time-ratio-digits",
    "A ratio of times that rounds to other digits",
    "As before, but the quotient of the printed hours itself is rounded. The hours' own rounding "
    "can explain a finding.",
    "the ratio was computed from hours with more digits",
    "None beyond the last digit.",
    kind=Kind.ODD,
    tolerance="half a unit of the last digit of the ratio; the hours are taken as they stand",
    unit="times the VAE's",
)
def _time_ratio_digits(rows: Sequence[Row]) -> Iterator[Case]:
    for one in _ratios(rows):
        beyond = max(one.low - one.ratio.high, one.ratio.low - one.high) > 0
        excess = abs(one.middle - one.ratio.value) - one.ratio.half
        yield Case(one.row, one.printed, 0 if beyond else excess)


@_rule(
    "perplexity",
    "Perplexity and NLL of different lengths",
    "Perplexity is exp(NLL / W) with W words per example. W belongs to the data set, so it is the "
    "same in all rows of a table.",
    "perplexity and NLL come from different evaluations",
    "One of the two is not comparable over the rows.",
    unit="words",
)
def _perplexity(rows: Sequence[Row]) -> Iterator[Case]:
    first: dict[tuple[str, str], tuple[float, float]] = {}
    for row in rows:
        found = row.need("nll", "ppl")
        if not found or found[1].low <= 1:
            continue
        low = float(found[0].low) / math.log(found[1].high)
        high = float(found[0].high) / math.log(found[1].low)
        known = first.setdefault((row.table, row.dataset), (low, high))
        excess = max(low - known[1], known[0] - high)
        yield Case(row, f"{row.says('nll', 'ppl')}: {low:.2f} to {high:.2f} words", excess)


@_rule(
    "percent",
    "A percentage outside 0 to 100",
    "A share lies between 0 and 100 percent.",
    "a misprint",
    "The number is not a share.",
    unit="percentage points",
)
def _percent(rows: Sequence[Row]) -> Iterator[Case]:
    columns = papers.legend()["columns"]
    for row in rows:
        for name, given in row.quantities.items():
            if columns[name].get("unit") == "percent":
                yield Case(row, row.says(name), max(given.low - 100, -given.high))


@_rule(
    "distinct-order",
    "Fewer different pairs than different words",
    "A word that does not always end a sentence begins a pair, and different words begin different "
    "pairs. So the share of different 2-grams is not far below the share of different words.",
    "a misprint in the exponent of the head",
    "The absolute size of these shares cannot be used. Their order over the rows can.",
    kind=Kind.ODD,
    unit="share",
)
def _distinct_order(rows: Sequence[Row]) -> Iterator[Case]:
    columns = papers.legend()["columns"]
    for row in rows:
        for less, more in (("dist_1", "dist_2"), ("dist_2", "dist_3")):
            if pair := row.need(less, more):
                units = [Fraction(str(columns[name]["unit"])) for name in (less, more)]
                told = ", ".join(
                    f"{_words(n)} {one.text}e{round(math.log10(u))}"
                    for n, one, u in zip((less, more), pair, units, strict=True)
                )
                yield Case(row, told, pair[0].low * units[0] - pair[1].high * units[1])


# --- means of whole numbers -----------------------------------------------------------------------


def _sums(mean: Number, runs: int) -> range:
    """Sums of so many whole numbers whose mean is printed like this."""
    return range(math.ceil(mean.low * runs), math.floor(mean.high * runs) + 1)


def _miss(mean: Number, runs: int) -> Fraction:
    """Distance from what is printed to the nearest mean of so many whole numbers."""
    below = Fraction(math.floor(mean.value * runs), runs)
    above = below + Fraction(1, runs)
    return max(Fraction(0), min(mean.low - below, above - mean.high))


def _spread_miss(mean: Number, sd: Number, runs: int) -> float:
    """Distance from a printed spread to the nearest one of so many whole numbers.

    Their squares have a sum that is even or odd as their own sum is, and at most its square.
    """
    best = math.inf
    for total in _sums(mean, runs):
        offset = Fraction(total * total, runs)
        top = min(math.ceil(offset + runs * (sd.high + 1) ** 2), total * total)
        for squares in range(math.ceil(offset), top + 1):
            if (squares - total) % 2 == 0:
                for divisor in (runs - 1, runs):
                    root = math.sqrt((squares - offset) / divisor)
                    best = min(best, max(float(sd.low) - root, root - float(sd.high)))
    return best


def _counted(rows: Sequence[Row]) -> Iterator[tuple[Row, Number, int]]:
    """Rows with a mean of active units whose digits can tell means of whole numbers apart."""
    for row in rows:
        runs, au = facts().runs.get(row.table), row.get("au")
        if au is not None and runs and not row.referred and 2 * au.half < Fraction(1, runs):
            yield row, au, runs


@_rule(
    "mean-of-counts",
    "A mean that whole numbers do not have",
    "AU is a whole number in each run, so its mean over n runs is a multiple of 1/n. (Brown and "
    "Heathers 2017 call such a check GRIM.)",
    "the mean is over another number of runs",
    "The number of runs that the caption states does not hold for this cell.",
    unit="units",
)
def _mean_of_counts(rows: Sequence[Row]) -> Iterator[Case]:
    for row, au, runs in _counted(rows):
        fewer = [str(n) for n in range(2, runs) if _miss(au, n) == 0]
        cause = f"the mean is over {' or '.join(fewer)} runs" if fewer else ""
        yield Case(row, f"{row.says('au')}, a mean of {runs} runs", _miss(au, runs), cause)


@_rule(
    "spread-of-counts",
    "A spread that whole numbers do not have",
    "The standard deviation of n whole numbers with a known mean takes few values. Both divisors, "
    "n and n − 1, are allowed.",
    "the spread is over another number of runs",
    "The number of runs that the caption states does not hold for this cell.",
    unit="units",
)
def _spread_of_counts(rows: Sequence[Row]) -> Iterator[Case]:
    for row, au, runs in _counted(rows):
        sd = row.get("au_sd")
        if sd is not None and _miss(au, runs) == 0:
            told = f"{row.says('au')} ({sd.text}), {runs} runs"
            yield Case(row, told, _spread_miss(au, sd, runs))


# --- between rows ---------------------------------------------------------------------------------


def _lines(rows: Sequence[Row]) -> dict[tuple[str, ...], list[Row]]:
    """Printed lines: (table, what begins the line) -> rows."""
    known = papers.legend()["tables"]
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        begins = known.get(row.table, {}).get("line", ["method"])
        found.setdefault((row.table, *(row.cells.get(name, "") for name in begins)), []).append(row)
    return found


def _head(line: Sequence[Row]) -> Row:
    """A line's first row without its setting, to stand for the line."""
    cells = line[0].cells
    return Row(line[0].table, {n: c for n, c in cells.items() if _kind(n) != "setting"})


def _printed(line: Sequence[Row]) -> list[str]:
    return [one.text for row in line for one in row.quantities.values()]


@_rule(
    "equal-lines",
    "Two methods with the same line",
    "Two methods that are trained apart do not agree in every digit. Lines with fewer than three "
    "numbers above zero are left out.",
    "one line was copied over the other",
    "At most one of the two lines is a measurement, and nothing says which. Neither can be used.",
    kind=Kind.ODD,
    tolerance="none: the digits are compared as printed",
    unit="equal cells",
)
def _equal_lines(rows: Sequence[Row]) -> Iterator[Case]:
    lines = _lines(rows)
    for (a, ours), (b, theirs) in itertools.combinations(lines.items(), 2):
        told = _printed(ours)
        if a[0] != b[0] or sum(float(text) != 0 for text in told) < 3:
            continue
        same = told == _printed(theirs)
        printed = f"{ours[0].method} and {theirs[0].method}: {', '.join(told)}"
        yield Case(_head(ours), printed, len(told) if same else 0)


def _streaks(rows: Sequence[Row], name: str) -> list[list[Row]]:
    """Unbroken runs of lines of one table that print the same number for two data sets.

    Args:
        rows: two rows a line, in the printed order: the data sets that are compared.
    """
    found: list[list[Row]] = [[]]
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        if one.cells[name] and one.cells[name] == other.cells[name]:
            found[-1].append(one)
        else:
            found.append([])
    return found


def _telling(row: Row, name: str) -> bool:
    """Whether a number is one that does not come up by itself: neither none nor all."""
    value = number(row.cells[name]).value
    return value != 0 and not (name == "au" and value == _dimensions(row))


def _columns(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Quantities and, for two data sets of a table, their rows in pairs of a printed line."""
    tables: dict[str, dict[tuple[str, ...], dict[str, Row]]] = {}
    for begins, line in _lines(rows).items():
        tables.setdefault(begins[0], {})[begins] = {row.dataset: row for row in line}
    for lines in tables.values():
        sets = dict.fromkeys(dataset for line in lines.values() for dataset in line)
        for a, b in itertools.combinations(sets, 2):
            both = [line[k] for line in lines.values() if a in line and b in line for k in (a, b)]
            names = dict.fromkeys(name for row in both for name in row.quantities)
            yield from ((name, both) for name in names)


@_rule(
    "equal-columns",
    "Two data sets with the same column",
    "One quantity on two data sets does not agree in line after line. Reported are unbroken runs "
    "of lines with at least three equal numbers. Zeros and full counts do not count.",
    "part of one data set's column was copied into the other's",
    "The quantity cannot be used in these lines for at least one of the two data sets.",
    kind=Kind.ODD,
    tolerance="none: the digits are compared as printed",
    unit="equal cells",
)
def _equal_columns(rows: Sequence[Row]) -> Iterator[Case]:
    for name, both in _columns(rows):
        longest = max(
            ([row for row in run if _telling(row, name)] for run in _streaks(both, name)), key=len
        )
        told = ", ".join(f"{row.method} {row.cells[name]}" for row in longest)
        printed = f"{_words(name)} on {both[0].dataset} and on {both[1].dataset}: {told}"
        yield Case(both[0], printed, len(longest) if len(longest) >= 3 else 0)


@_rule(
    "labels-order",
    "Accuracy that falls with more labels",
    "More labelled examples do not lower the accuracy that is to be expected of a probe. So a fall "
    "shows the noise of the measurement.",
    "one draw of the labelled examples, or one training of the probe",
    "Differences of this size between methods are within the noise of the table.",
    kind=Kind.ODD,
    unit="percentage points",
)
def _labels_order(rows: Sequence[Row]) -> Iterator[Case]:
    for line in _lines(rows).values():
        for name in ("labels", "labels_per_character"):
            given = [row for row in line if row.need(name, "accuracy")]
            for few, many in itertools.pairwise(given):
                (a, before), (b, after) = few.need(name, "accuracy"), many.need(name, "accuracy")
                told = f"{before.text} with {a.text} labels, {after.text} with {b.text}"
                excess = before.low - after.high if a.value < b.value else 0
                yield Case(few, told, excess)


@_rule(
    "equal-numbers",
    "Two models with one long number",
    "A number of five significant digits rarely comes up twice by chance.",
    "one number was copied into the other's place",
    "One of the two cells may belong to the other model.",
    kind=Kind.ODD,
    tolerance="none: the digits are compared as printed; numbers of five digits or more",
    unit="equal cells",
)
def _equal_numbers(rows: Sequence[Row]) -> Iterator[Case]:
    seen: dict[tuple[str, str, str], list[tuple[Row, Number]]] = {}
    for row in rows:
        for name, given in row.quantities.items():
            if given.digits >= _LONG and not row.referred:
                seen.setdefault((row.paper, row.dataset, name), []).append((row, given))
    for (_, _, name), group in seen.items():
        for (a, one), (b, other) in itertools.combinations(group, 2):
            if _identity(a) != _identity(b):
                told = f"{a.says(name)}; {b.table}, {b.label}: {other.text}"
                yield Case(a, told, int(one.text == other.text))


@_rule(
    "collapsed-nll",
    "A collapsed model far from the others",
    "With KL and MI zero a model is a language model without codes. Such models of one data set "
    "and paper have much the same NLL. Reported is what lies more than 1 % from their median.",
    "two digits changed places, or training failed",
    "The NLL of this row is not to be used.",
    kind=Kind.ODD,
    tolerance="1 % of the median NLL, a choice of this book",
)
def _collapsed_nll(rows: Sequence[Row]) -> Iterator[Case]:
    groups: dict[tuple[str, str], list[tuple[Row, Number]]] = {}
    for row in rows:
        found = row.need("kl", "mi", "nll")
        if found and found[0].value == found[1].value == 0:
            groups.setdefault((row.paper, row.dataset), []).append((row, found[2]))
    for members in groups.values():
        values = sorted(nll.value for _, nll in members)
        middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        for row, nll in members if len(members) > 2 else []:
            told = f"{row.says('nll')}; median of {len(members)}: {float(middle):.2f}"
            yield Case(row, told, abs(nll.value - middle) - _OUTLIER * middle)


# --- between tables and papers --------------------------------------------------------------------


def _basis(row: Row) -> tuple[int | None, int | None]:
    """Runs and evaluations behind a row's numbers, where the paper says so."""
    return facts().runs.get(row.table), facts().evaluations.get(row.table)


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[Row, Row, list[str]]]:
    """Rows of different tables of one paper about the same model, with what both print."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.paper, row.cells.get("note"), *_identity(row)), []).append(row)
    for group in groups.values():
        for a, b in itertools.combinations(group, 2):
            if a.table != b.table:
                theirs = b.quantities
                yield a, b, [name for name in a.quantities if name in theirs]


@_rule(
    "printed-twice",
    "One quantity printed twice",
    "The same method, data set and quantity in two tables of a paper, over the same number of runs "
    "and evaluations, is one measurement.",
    "one table was updated and the other was not, or the runs differ",
    "The paper does not say which of the two numbers is meant.",
    tolerance=_COPYING,
    unit="as the quantity",
)
def _printed_twice(rows: Sequence[Row]) -> Iterator[Case]:
    for a, b, names in _pairs(rows):
        for name in names if _basis(a) == _basis(b) else []:
            told = f"{a.says(name)}; {b.table}: {b.cells[name]}"
            yield Case(a, told, _apart(number(a.cells[name]), number(b.cells[name])))


def _one_of_several(a: Row, b: Row) -> tuple[Row, Row, int] | None:
    """A mean and a single value that may be one of its terms, with the number of terms."""
    for mean, single in ((a, b), (b, a)):
        (runs, times), (others, other_times) = _basis(mean), _basis(single)
        if runs and not others:
            return mean, single, runs
        if times and not runs and not others and not other_times:
            return mean, single, times
    return None


def _same_number(row: Row, name: str, rows: Sequence[Row]) -> str:
    """Whether a long number stands for another model as well, in words; empty if not."""
    for other in rows if number(row.cells[name]).digits >= _LONG else []:
        alike = (other.paper, other.dataset, other.cells.get(name)) == (
            (row.paper, row.dataset, row.cells[name])
        )
        if alike and _identity(other) != _identity(row):
            return f"the number was copied from {other.table}, which prints it for {other.method}"
    return ""


@_rule(
    "one-of-several",
    "A single value that is none of those averaged",
    "Each of n values lies within √(n − 1) standard deviations of their mean (Samuelson 1968).",
    "the single value is of another run than those averaged",
    "The two tables do not show the same runs.",
    kind=Kind.ODD,
    tolerance=f"{ROUNDING}, and √(n − 1) times the printed spread",
    unit="as the quantity",
)
def _single_values(rows: Sequence[Row]) -> Iterator[Case]:
    for a, b, names in _pairs(rows):
        found = _one_of_several(a, b)
        for name in names if found else []:
            assert found is not None
            mean, single, count = found
            if (sd := mean.spread(name)) is not None:
                one, other = number(mean.cells[name]), number(single.cells[name])
                gap = float(abs(one.value - other.value) - one.half - other.half)
                told = f"{single.says(name)}; {mean.table}: {one.text}, spread at most {sd:.3f}"
                cause = _same_number(single, name, rows)
                yield Case(single, told, gap - math.sqrt(count - 1) * sd, cause)


def _copy_cause(row: Row, other: Row, name: str, rows: Sequence[Row]) -> str:
    """Why a cell that should equal another does not."""
    if dataset := _elsewhere(row, name, rows):
        return f"a slip of columns: the line prints the same number under {dataset}"
    for one in rows:
        same = (one.paper, one.key) == (other.paper, other.key)
        if same and one.dataset != row.dataset and one.cells.get(name) == row.cells[name]:
            return f"a slip of columns: the source prints this number for {one.dataset}"
    if 2 * len(_differing(row, other)) > len(row.quantities):
        return "trained or measured again, and not taken from the source"
    if name == "mi":
        return "measured again with another estimate, or a misprint"
    return "a misprint in copying"


@_rule(
    "referred",
    "A row that its source prints otherwise",
    "A row marked as taken from an earlier paper equals that paper's row. Fewer digits are "
    "allowed.",
    "",
    "A comparison that rests on this cell compares with a number that nobody has published.",
    tolerance=_COPYING,
    unit="as the quantity",
)
def _referred(rows: Sequence[Row]) -> Iterator[Case]:
    for row in rows:
        origin = _origin(row, rows) if row.referred else None
        for name in row.quantities if origin else []:
            assert origin is not None
            told = f"{row.says(name)}; {origin.table}: {origin.cells[name]}"
            excess = _apart(number(row.cells[name]), number(origin.cells[name]))
            cause = _copy_cause(row, origin, name, rows) if excess > 0 else ""
            yield Case(row, told, excess, cause)


def _coincident(rows: Sequence[Row]) -> Iterator[tuple[Row, Row, list[str]]]:
    """Unmarked rows beside the nearest row of an earlier paper, with the numbers that agree."""
    for row in rows:
        origin = None if row.referred else _origin(row, rows)
        if origin is not None and len(row.quantities) >= 3:
            differing = _differing(row, origin)
            yield row, origin, [name for name in row.quantities if name not in differing]


def _is_copy(row: Row, same: Sequence[str]) -> bool:
    """NLL and two more numbers above zero agree: more than chance gives."""
    return "nll" in same and sum(number(row.cells[name]).value != 0 for name in same) >= 3


@_rule(
    "unmarked-copy",
    "A row of an earlier paper without a mark",
    "NLL and at least two more numbers above zero agree with an earlier paper's row, and no mark "
    "says so.",
    "the row was taken over, and its mark forgotten",
    "The row is not an independent measurement.",
    kind=Kind.ODD,
    tolerance="none: the numbers are compared as printed",
    unit="equal cells",
)
def _unmarked_copy(rows: Sequence[Row]) -> Iterator[Case]:
    for row, other, same in _coincident(rows):
        told = f"{row.says(*same)}; {other.table} prints the same" if same else ""
        yield Case(row, told, len(same) if _is_copy(row, same) else 0)


@_rule(
    "copy-differs",
    "A copied row with a cell of its own",
    "A row without a mark agrees with an earlier paper's row as the rule before says. Then its "
    "other cells should agree too.",
    "",
    "The cell is neither the earlier paper's nor clearly a measurement.",
    kind=Kind.ODD,
    tolerance=_COPYING,
    unit="as the quantity",
)
def _copy_differs(rows: Sequence[Row]) -> Iterator[Case]:
    for row, other, same in _coincident(rows):
        for name in row.quantities if _is_copy(row, same) else []:
            told = f"{row.says(name)}; {other.table}: {other.cells[name]}"
            excess = _apart(number(row.cells[name]), number(other.cells[name]))
            cause = _copy_cause(row, other, name, rows) if excess > 0 else ""
            yield Case(row, told, excess, cause)


@_rule(
    "keep-probability",
    "A probability of keeping that is one of dropping",
    "DU-VAE's p is the probability of keeping a variance, and the text varies it from 1 to 0.6. "
    "The public code takes 1 − p. Reported is a p outside that range whose 1 − p lies inside.",
    "the flag of the code was printed, which is 1 − p",
    "Read p as the probability of dropping here. With the printed p as defined, most variances "
    "would be dropped.",
    kind=Kind.ODD,
    unit="probability",
)
def _keep_probability(rows: Sequence[Row]) -> Iterator[Case]:
    low, high = facts().keep
    for line in _lines(rows).values():
        for text in dict.fromkeys(row.cells.get("p", "") for row in line):
            if text:
                p = number(text)
                told = f"p {text}; 1 − p = {float(1 - p.value):g}"
                yield Case(_head(line), told, low - p.high if low <= 1 - p.value <= high else 0)


# --- text against table ---------------------------------------------------------------------------


def _claim_cause(judged: Judged) -> str:
    holds, total = judged.count(Outcome.HOLDS), len(judged.sides)
    if holds:
        return f"{holds} of {total} comparisons hold, and the statement is about those"
    return f"none of {total} comparisons holds, and the statement rests on other tables"


@_rule(
    "claims",
    "A claim that its table does not bear out",
    "A statement of a paper's text, read as comparisons between printed numbers. The reading is "
    "this book's; it is data, in data/papers/claims.yml.",
    "",
    "The claim has to be read with this exception.",
    kind=Kind.TEXT,
    tolerance=f"{ROUNDING}; a tie decides nothing",
    unit="as the quantity",
)
def _claims(rows: Sequence[Row]) -> Iterator[Case]:
    tables: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        tables.setdefault(row.table, []).append(row.cells)
    frames = {name: pd.DataFrame(cells, dtype=str) for name, cells in tables.items()}
    for claim in claims():
        judged = judge(claim, frames)
        none = "" if judged.count(Outcome.HOLDS) else "The claim does not hold in this table."
        for side in judged.sides:
            told = f"{claim.id}: {side.printed}"
            yield Case(side.row, told, side.excess, _claim_cause(judged), none)


# --- all of it ------------------------------------------------------------------------------------


def _finding(rule: Rule, case: Case) -> Found:
    return Found(
        rule.id,
        case.row.table,
        case.row.label,
        case.row.dataset,
        case.printed,
        float(case.excess),
        case.cause or rule.cause,
        case.meaning or rule.meaning,
    )


def audit(tables: Tables) -> list[Report]:
    """Apply every rule to the printed tables.

    Args:
        tables: ``"lagging/table1"`` -> cells as text, as :func:`read` gives them.

    Returns:
        One report a rule, in the order of :data:`RULES`; rules that find nothing are there as well.

    Raises:
        BadInput: a column that the legend does not know, or a quantity that is no number.
    """
    rows = rows_of(tables)
    reports = []
    for rule in RULES.values():
        cases = list(rule.cases(rows))
        found = tuple(_finding(rule, case) for case in cases if case.excess > 0)
        reports.append(Report(rule, len(cases), found))
    return reports
