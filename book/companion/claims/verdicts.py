"""Verdicts by rule.

A verdict is never typed in.
A claim is cut into checks; a check compares a bound with the confidence interval of a measured
quantity; the verdict follows from the checks.
It has two parts: the outcome, and how far the evidence for it reaches.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import stats

from companion.claims.printed import claim, inventory, plain
from posterior_collapse.errors import BadInput, nearest

CONFIDENCE = 0.95


class Outcome(enum.StrEnum):
    """What a check says."""

    HOLDS = "holds"
    FAILS = "fails"
    OPEN = "undecided"  # the interval contains the bound, or there is none
    CANNOT_TELL = "this scale can't tell"  # a premise of the check is not met


class Role(enum.StrEnum):
    """What a check is to its claim."""

    CENTRAL = "central"  # the claim's own words; these decide
    SIDE = "side"  # informs, decides nothing
    PREMISE = "premise"  # what the claim takes for granted
    PRINTED = "as printed"  # the printed form of a statement whose true form is central


class Verdict(enum.StrEnum):
    """The outcome for a claim: the first of the two parts of what a page says of it."""

    HOLDS = "holds"
    MIXED = "mixed"  # central checks disagree
    FAILS = "fails"
    UNDECIDED = "undecided"
    CORRECTED = "false as printed, corrected"


class Reach(enum.StrEnum):
    """How far the evidence reaches: the second part."""

    EXACT = "exact"  # mathematics; no training, or none that matters
    PAPER = "the paper's own scale"
    REDUCED = "reduced scale"
    CANNOT_TELL = "this scale can't tell"  # the situation that the claim speaks of was not reached
    NOT_RUN = "not run"
    NOT_CHECKABLE = "not checkable by computation"


class Label(enum.StrEnum):
    """The one word that both parts give, which boxes and counts show."""

    HOLDS = "holds"
    CORRECTED = "false as printed, corrected"
    MIXED = "mixed"
    FAILS = "fails"
    NOT_REPRODUCED = "not reproduced at reduced scale"
    UNDECIDED = "undecided"
    CANNOT_TELL = "this scale can't tell"
    NOT_RUN = "not run"
    NOT_CHECKABLE = "not checkable by computation"


# --- intervals ------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """A mean with a two-sided confidence interval."""

    mean: float
    low: float
    high: float
    n: int  # seeds, or trials of a share

    @property
    def half(self) -> float:
        """Half its width: a smaller difference cannot be distinguished from zero."""
        return (self.high - self.low) / 2


def interval(
    values: Iterable[float], confidence: float = CONFIDENCE, error: float = 0.0, points: int = 0
) -> Interval:
    """Mean and Student's confidence interval of independent measurements, one per seed.

    All seeds are measured on the same test set, so its draw does not average out over seeds.
    Its standard error, where it is known, is added to that over seeds; the degrees of freedom of
    the sum are Welch and Satterthwaite's.
    With one value the interval is the whole line: nothing is known of the spread over seeds.

    Args:
        values: one per seed.
        confidence: share of such intervals that contain the mean.
        error: standard error of the mean over the draw of the test set.
        points: test examples behind ``error``, at least 2 where it is not 0.

    Raises:
        BadInput: no value, one that is not finite, or an error without its points.
    """
    array = np.asarray(list(values), dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        raise BadInput(f"an interval needs finite values, given {array.tolist()}")
    if not (math.isfinite(error) and error >= 0.0) or (error > 0.0 and points < 2):
        raise BadInput(
            f"a standard error is at least 0 and has 2 points at least, given {error}, {points}"
        )
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    seeds, examples = float(array.var(ddof=1)) / array.size, error**2
    total = seeds + examples
    if total == 0.0:
        return Interval(mean, mean, mean, array.size)
    # Shares of the variance, so that tiny numbers do not underflow when they are squared.
    parts = (seeds / total) ** 2 / (array.size - 1)
    parts += (examples / total) ** 2 / (points - 1) if error else 0.0
    half = float(stats.t.ppf(0.5 + confidence / 2, 1.0 / parts)) * math.sqrt(total)
    return Interval(mean, mean - half, mean + half, array.size)


def bounded(measured: Interval, low: float = -math.inf, high: float = math.inf) -> Interval:
    """An interval of a quantity that cannot leave [low, high], cut there.

    Raises:
        BadInput: the mean lies outside, so that the bound is not one of the quantity.
    """
    slack = 1e-9 * max(1.0, abs(measured.mean))  # of rounding
    if not low - slack <= measured.mean <= high + slack:
        raise BadInput(f"a mean of {measured.mean} is outside its bounds [{low}, {high}]")
    return Interval(measured.mean, max(measured.low, low), min(measured.high, high), measured.n)


def share(successes: int, trials: int) -> Interval:
    """Share of independent trials, with Wilson's interval: it never leaves [0, 1].

    Raises:
        BadInput: no trial, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise BadInput(f"a share needs 0 to n successes of n trials, given {successes}, {trials}")
    wilson = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    mean = successes / trials
    return Interval(mean, min(float(wilson.low), mean), max(float(wilson.high), mean), trials)


_NEAR_ONE = 1.0 - 1e-12  # where Fisher's z of a correlation of 1 would be infinite


def correlation(values: Sequence[float]) -> Interval:
    """Mean correlation over seeds, and Student's interval on Fisher's z scale.

    Raises:
        BadInput: no value, or one outside [-1, 1].
    """
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not (np.abs(array) <= 1.0 + 1e-9).all():
        raise BadInput(f"correlations are in [-1, 1], given {list(values)}")
    on_z = interval(np.arctanh(np.clip(array, -_NEAR_ONE, _NEAR_ONE)))
    mean, least, most = (math.tanh(end) for end in (on_z.mean, on_z.low, on_z.high))
    return Interval(mean, least, most, on_z.n)


def correlation_over_pairs(value: float, pairs: int) -> Interval:
    """One correlation over pairs, with Fisher's interval; Spearman's has Bonett and Wright's.

    Their standard error sqrt((1 + r^2 / 2) / (n - 3)) is the wider one, and is taken for both.
    With fewer than four pairs the interval is all of [-1, 1].

    Raises:
        BadInput: a value outside [-1, 1], or no pair.
    """
    if not abs(value) <= 1.0 + 1e-9 or pairs < 1:
        raise BadInput(f"a correlation in [-1, 1] over pairs is needed, given {value}, {pairs}")
    if pairs < 4:
        return Interval(value, -1.0, 1.0, pairs)
    middle = math.atanh(min(max(value, -_NEAR_ONE), _NEAR_ONE))
    error = math.sqrt((1.0 + value**2 / 2.0) / (pairs - 3))
    half = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * error
    return Interval(value, math.tanh(middle - half), math.tanh(middle + half), pairs)


# --- checks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One rule over one measured quantity."""

    quantity: str  # in words, with its unit
    rule: str  # the bound in words
    measured: Interval
    outcome: Outcome
    words: str = ""  # what was measured, where an interval is not what it is
    role: Role = Role.CENTRAL
    groups: tuple[str, ...] = ()  # whose premises it stands under; see :func:`grouped`
    ran: bool = True  # whether anything was run for it
    slack: float = math.inf  # from the interval to its bound, in half widths; negative beyond it

    @property
    def premise(self) -> bool:
        """Whether the claim takes it for granted; see :func:`premise`."""
        return self.role is Role.PREMISE


Measured = Iterable[float] | Interval  # one value per seed, or an interval that fits the quantity


def _interval(measured: Measured) -> Interval:
    return measured if isinstance(measured, Interval) else interval(measured)


def _check(
    quantity: str, rule: str, own: Interval, inside: bool, outside: bool, distance: float
) -> Check:
    outcome = Outcome.HOLDS if inside else Outcome.FAILS if outside else Outcome.OPEN
    slack = distance / own.half if 0.0 < own.half < math.inf else math.copysign(math.inf, distance)
    return Check(quantity, rule.replace(" -", " −"), own, outcome, slack=slack)


def below(quantity: str, measured: Measured, bound: float) -> Check:
    """The mean lies below the bound: decided where the whole interval lies on one side."""
    own = _interval(measured)
    return _check(
        quantity, f"below {bound:g}", own, own.high < bound, own.low >= bound, bound - own.high
    )


def above(quantity: str, measured: Measured, bound: float) -> Check:
    """The mean lies above the bound: decided where the whole interval lies on one side."""
    own = _interval(measured)
    return _check(
        quantity, f"above {bound:g}", own, own.low > bound, own.high <= bound, own.low - bound
    )


def between(quantity: str, measured: Measured, low: float, high: float) -> Check:
    """The mean lies in [low, high]: holds where the interval lies inside, fails where apart."""
    own = _interval(measured)
    inside = low <= own.low and own.high <= high
    apart = own.high < low or own.low > high
    distance = min(own.low - low, high - own.high)
    return _check(quantity, f"between {low:g} and {high:g}", own, inside, apart, distance)


def stated(quantity: str, rule: str, holds: bool | None, words: str) -> Check:
    """A check that is no mean over seeds: a count, one value, or what is not there yet.

    Args:
        quantity, rule: in words.
        holds: None where it is undecided.
        words: what was measured, in place of an interval.
    """
    outcome = Outcome.OPEN if holds is None else Outcome.HOLDS if holds else Outcome.FAILS
    return Check(quantity, rule, Interval(0.0, 0.0, 0.0, 0), outcome, words)


def missing(quantity: str, rule: str) -> Check:
    """A check for which nothing was run."""
    return replace(stated(quantity, rule, None, "not run"), ran=False)


def premise(check: Check) -> Check:
    """A check of what the claim takes for granted: a model that has not collapsed, a target met.

    Where it holds it earns nothing, as it is not the claim.
    Where it does not, the claim is about a situation that was not reached: this scale can't tell.
    It speaks of the checks of its groups, and of all where it has none; see :func:`grouped`.
    """
    return replace(check, role=Role.PREMISE)


def grouped(check: Check, *names: str) -> Check:
    """A check with further groups, such as a data set: it stands under the premises of each."""
    return replace(check, groups=tuple(dict.fromkeys([*check.groups, *names])))


def side(check: Check) -> Check:
    """A check that informs a reader and decides nothing."""
    return replace(check, role=Role.SIDE)


def as_printed(check: Check) -> Check:
    """A check of a statement's printed form, beside central ones of the form that is true."""
    return replace(check, role=Role.PRINTED)


# --- verdicts -------------------------------------------------------------------------------------


class Counts(NamedTuple):
    """How many checks say what."""

    hold: int
    fail: int
    undecided: int
    cannot_tell: int

    @property
    def total(self) -> int:
        """Those that this scale could tell."""
        return self.hold + self.fail + self.undecided

    def sentence(self, kind: str) -> str:
        """In words: "39 of 55 central checks hold, 2 fail, 14 undecided"."""
        plural = "check" if self.total == 1 else "checks"
        verb = "holds" if self.total == 1 else "hold"
        words = [f"{self.hold} of {self.total} {kind} {plural} {verb}"] if self.total else []
        words += [f"{self.fail} {'fails' if self.fail == 1 else 'fail'}"] * bool(self.fail)
        words += [f"{self.undecided} undecided"] * bool(self.undecided)
        about = "" if self.total else f" {kind} {'check' if self.cannot_tell == 1 else 'checks'}"
        words += [f"{self.cannot_tell}{about} that this scale can't tell"] * bool(self.cannot_tell)
        return ", ".join(words)


def _counts(checks: Iterable[Check]) -> Counts:
    outcomes = [check.outcome for check in checks]
    order = (Outcome.HOLDS, Outcome.FAILS, Outcome.OPEN, Outcome.CANNOT_TELL)
    return Counts(*(outcomes.count(one) for one in order))


# The outcome of the checks that give a verdict its name; undecided ones otherwise.
_NAMING = {
    Verdict.HOLDS: Outcome.HOLDS,
    Verdict.MIXED: Outcome.FAILS,
    Verdict.FAILS: Outcome.FAILS,
    Verdict.CORRECTED: Outcome.FAILS,
}
_NAMED = 4  # checks that a mixed verdict names; the box's table has them all


@dataclass(frozen=True)
class Finding:
    """A claim with its checks, and the outcome and the reach that they give."""

    item: str  # of the inventory; empty for a question of a page's own
    claim: str
    scale: str
    checks: tuple[Check, ...]
    verdict: Verdict
    reach: Reach
    reason: str = ""  # why nothing is said of the claim; empty where something is

    def counts(self, *roles: Role) -> Counts:
        """How many checks of some roles say what."""
        return _counts(check for check in self.checks if check.role in roles)

    @property
    def label(self) -> Label:
        """Outcome and reach in one.

        A paper's claim that fails at a reduced scale was not reproduced there, which is less than
        to fail.  A page's own question is about the scale at which it is asked.
        """
        unreached = {
            Reach.CANNOT_TELL: Label.CANNOT_TELL,
            Reach.NOT_RUN: Label.NOT_RUN,
            Reach.NOT_CHECKABLE: Label.NOT_CHECKABLE,
        }
        if self.reach in unreached:
            return unreached[self.reach]
        if self.verdict is Verdict.FAILS and self.reach is Reach.REDUCED and self.item:
            return Label.NOT_REPRODUCED
        return Label(self.verdict.value)

    @property
    def plain(self) -> str:
        """The claim as a sentence that needs no paper beside it; a page's own question as it is."""
        return plain(self.item) if self.item else self.claim

    @property
    def deciding(self) -> Check | None:
        """The check that gives the outcome its name: of those that have it the tightest one that
        holds, or the clearest one that fails, numbers before words; for what this scale can't
        tell, a premise that is not met.

        None where nothing was checked.
        """
        wanted = _NAMING.get(self.verdict, Outcome.OPEN)
        if self.reach is Reach.CANNOT_TELL:
            unmet = [c for c in self.checks if c.premise and c.outcome is not Outcome.HOLDS]
            return (unmet or [c for c in self.checks if _decides(c)])[0]
        named = [c for c in self.checks if _decides(c) and c.outcome is wanted]
        return min(named, key=lambda check: (bool(check.words), check.slack), default=None)

    @property
    def sentence(self) -> str:
        """How many checks say what, central apart from side, and which fail where they disagree."""
        central = self.counts(Role.CENTRAL).sentence("central")
        others = [
            self.counts(Role.PRINTED).sentence("printed"),
            self.counts(Role.SIDE).sentence("side"),
        ]
        counts = "; ".join(part for part in (central, *others) if part)
        if self.verdict is not Verdict.MIXED:
            return counts
        failing = [c.quantity for c in self.checks if _decides(c) and c.outcome is Outcome.FAILS]
        shown, more = failing[:_NAMED], len(failing) - _NAMED
        named = "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
        return f"{counts}. What fails: {named}"


def _decides(check: Check) -> bool:
    return check.role in (Role.CENTRAL, Role.PRINTED)


def _resolved(checks: Sequence[Check], tells: bool) -> list[Check]:
    """Checks whose premise is not met, or at a scale that decides nothing, can't tell."""
    unmet = [set(c.groups) for c in checks if c.premise and c.outcome is not Outcome.HOLDS]

    def untold(check: Check) -> bool:
        under_one = any(not names or names & set(check.groups) for names in unmet)
        return not check.premise and (not tells or under_one)

    return [replace(c, outcome=Outcome.CANNOT_TELL) if untold(c) else c for c in checks]


def _outcome(checks: Sequence[Check]) -> Verdict:
    """The rule that :func:`decide` states, over checks that are resolved."""
    proper = _counts(check for check in checks if check.role is Role.CENTRAL)
    printed = _counts(check for check in checks if check.role is Role.PRINTED)
    if printed.fail and proper.hold and proper.hold == proper.total:
        return Verdict.CORRECTED
    hold, fail, undecided, _ = (a + b for a, b in zip(proper, printed, strict=True))
    total, decided = hold + fail + undecided, hold + fail
    if not total:
        return Verdict.UNDECIDED
    if hold == total:
        return Verdict.HOLDS
    if 2 * decided < total or (undecided and not fail):
        return Verdict.UNDECIDED
    return Verdict.FAILS if 5 * hold < decided else Verdict.MIXED


# The data on which `large`, the papers' own network and number of sentences, is a paper's own.
_LARGE_DATA = {"yelp-sentiment"}
_ORDER = (Reach.CANNOT_TELL, Reach.REDUCED, Reach.PAPER, Reach.EXACT)  # the least counts
_REACHES = {
    "smoke": Reach.CANNOT_TELL,
    "quick": Reach.REDUCED,
    "medium": Reach.REDUCED,
    "paper": Reach.PAPER,
    "exact": Reach.EXACT,
}


def reach(item: str, scale: str) -> Reach:
    """How far results at a scale reach for an item.

    ``large`` is the network and the number of sentences of DU-VAE and Scale-VAE on Short Yelp: it
    is the paper's own scale for items on those data, and a reduced one for all others.
    ``smoke`` proves that the code runs, and tells nothing else.

    Args:
        item: of the inventory; empty for a page's own question, to which ``large`` is its own.
        scale: its name; the least of several, as in ``"medium and quick"``.

    Raises:
        BadInput: an unknown item, or no scale by that name, with the nearest one.
    """
    data = set(inventory()[item].get("data", ())) if item and claim(item) else _LARGE_DATA
    own = bool(data) and data <= _LARGE_DATA
    known = _REACHES | {"large": Reach.PAPER if own else Reach.REDUCED}
    named = [word for word in scale.split() if word in known]
    if not named:
        raise BadInput(nearest(scale, known, "scale"))
    return min((known[word] for word in named), key=_ORDER.index)


def _reason(checks: Sequence[Check], verdict: Verdict, reached: Reach, tells: bool) -> str:
    """Why checks say nothing of a claim, in words; empty where they do."""
    if reached is Reach.NOT_RUN:
        return "nothing was run for it"
    if reached is Reach.CANNOT_TELL:
        if not tells:
            return "smoke scale proves that the code runs, and its numbers mean nothing"
        unmet = [c for c in checks if c.premise and c.outcome is not Outcome.HOLDS]
        named = [f"{c.quantity}: {c.words}".removesuffix(": ") for c in unmet]
        return f"what the claim takes for granted was not reached ({'; '.join(named)})"
    if verdict is not Verdict.UNDECIDED:
        return ""
    waiting = [c for c in checks if _decides(c) and c.outcome is Outcome.OPEN]
    seeds = max(check.measured.n for check in waiting)
    if seeds == 1:
        return "one seed decides nothing"
    if seeds > 1:
        fewer = " or fewer" if any(check.measured.n < seeds for check in waiting) else ""
        return f"with {seeds} seeds{fewer} too many intervals are too wide to decide"
    words = dict.fromkeys(check.words for check in waiting)
    count = sum(map(_decides, checks))
    return f"{len(waiting)} of {count} checks cannot be decided ({'; '.join(words)})"


def _finding(item: str, claimed: str, scale: str, checks: Sequence[Check]) -> Finding:
    if not any(_decides(check) for check in checks):
        raise BadInput("a verdict needs at least one central check, beside premises and side ones")
    reached = reach(item, scale)
    tells = reached is not Reach.CANNOT_TELL
    resolved = _resolved(checks, tells)
    central = [check for check in resolved if _decides(check)]
    if not any(check.ran for check in central):
        reached = Reach.NOT_RUN
    elif all(check.outcome is Outcome.CANNOT_TELL for check in central):
        reached = Reach.CANNOT_TELL
    verdict = _outcome(resolved)
    reason = _reason(resolved, verdict, reached, tells)
    return Finding(item, claimed, scale, tuple(resolved), verdict, reached, reason)


def decide(item: str, scale: str, checks: Sequence[Check]) -> Finding:
    """The outcome for an item of the inventory, and how far it reaches.

    A check whose premise is not met can't tell, and is left out of what follows.
    Let h of n central checks hold, f fail and u be undecided.
    Holds: h = n.
    Undecided: fewer than half are decided, or f = 0 and u > 0.
    Fails: f > 0, and h is less than a fifth of the decided.
    Mixed: otherwise.
    False as printed, corrected: every central check holds, and one of a printed form fails; else
    those of printed forms count as central.
    Side checks inform and premises earn nothing; see :func:`side` and :func:`premise`.

    The reach is that of the scale; see :func:`reach`.
    It is *this scale can't tell* where no central check can, and *not run* where nothing was run.

    Raises:
        BadInput: the item or the scale is unknown, or there is no central check.
    """
    return _finding(item, claim(item), scale, checks)


def answer(question: str, scale: str, checks: Sequence[Check]) -> Finding:
    """The outcome for a question of a page's own, which no paper's item asks.

    The rule is that of :func:`decide`.

    Raises:
        BadInput: the scale is unknown, or there is no central check.
    """
    return _finding("", question, scale, checks)


def under(finding: Finding, premises: Sequence[Check]) -> Finding:
    """A finding once more, with further premises: see :func:`premise`.

    What no computation decides stays as it is.

    Raises:
        BadInput: a check is no premise.
    """
    if not all(check.premise for check in premises):
        raise BadInput("a finding stands under premises; see verdicts.premise")
    if not premises or finding.reach is Reach.NOT_CHECKABLE:
        return finding
    every = [*premises, *finding.checks]
    return _finding(finding.item, finding.claim, finding.scale, every)


def beyond(item: str, scale: str, reason: str) -> Finding:
    """An item that no computation can decide, such as a survey of people.

    Raises:
        BadInput: the item is unknown, or no reason is given.
    """
    if not reason.strip():
        raise BadInput(f"{item} needs a reason why no computation can decide it")
    none = (Verdict.UNDECIDED, Reach.NOT_CHECKABLE, reason)
    return Finding(item, claim(item), scale, (), *none)
