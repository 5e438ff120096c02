"""Rules over several data sets: the checks of each, and the verdict of the largest scale.

An origin is the results of one scale, reference ones or this build's.  A rule is applied to one
origin after the other, and results of two are never pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from companion.claims import evidence
from companion.claims.comparison import QUANTITIES, Comparison, called, convergence
from companion.claims.intervals import Measured, difference, over_seeds
from companion.claims.premises import Premise, premise_of
from companion.claims.table import Measure, Runs, frame, only, ratios
from companion.claims.verdicts import (
    Check,
    Finding,
    Interval,
    Reach,
    Verdict,
    above,
    below,
    between,
    bounded,
    decide,
    grouped,
    missing,
)
from posterior_collapse.errors import BadInput

COLLAPSED = 0.1  # nats of KL or MI that are next to none
ALIVE = 0.5  # nats that are some


def time_ratio(method: str, base: str) -> Measured:
    """Time to convergence over that of another method with the same seed."""

    def measure(runs: Runs) -> Interval | None:
        data = frame(only(runs, (method, base)), {"time": convergence})
        times = over_seeds(ratios(data, method, base, "time"))
        return None if times is None else bounded(times, 0.0)

    return measure


# --- checks ---------------------------------------------------------------------------------------


class Checks:
    """Checks of one item over the data sets of one origin.

    Each data set has its premise; where it is not met, its checks can't tell.
    """

    def __init__(self, groups: Mapping[str, Runs], premises: Mapping[str, Premise]) -> None:
        self.groups = {title: runs for title, runs in groups.items() if any(runs.values())}
        self.checks, self.scales = list[Check](), list[str]()
        for title, runs in self.groups.items():
            own = premises.get(title) or premise_of({m: runs[m] for m in runs if runs[m]})
            self.checks += [] if own.exempt else own.checks(title)

    def limit(self, wanted: Callable[[Runs], bool]) -> None:
        """Keep to the data sets that the claim can be asked of, if there are any."""
        some = {title: runs for title, runs in self.groups.items() if wanted(runs)}
        if some:
            self.checks = [check for check in self.checks if set(check.groups) & set(some)]
            self.groups = some

    def add(
        self,
        quantity: str,
        measure: Measured,
        rule: Callable[[str, Interval], Check],
        role: Callable[[Check], Check] = lambda check: check,
        where_run: bool = False,
    ) -> None:
        """Apply a rule to every data set.

        Args:
            quantity: in words, without the data set.
            measure: gives the interval.
            rule: makes a check of it.
            role: ``side`` for a check that decides nothing.
            where_run: leave the check out where nothing was run for it, rather than say so; for
                rows that a paper's claim covers and that every table need not have.
        """
        for title, runs in self.groups.items():
            name, measured = f"{title}: {quantity}", measure(runs)
            if measured is not None:
                check = rule(name, measured)
                self.scales += [r.spec.scale for group in runs.values() for r in group]
            elif where_run:
                continue
            else:
                check = missing(name, rule("", Interval(0.0, 0.0, 0.0, 0)).rule)
            self.checks.append(grouped(role(check), title))

    def alive(self, method: str) -> None:
        """No seed of a method has collapsed: else nothing else that was checked of it counts."""
        for title, runs in self.groups.items():
            if group := runs.get(method, ()):
                living = grouped(evidence.alive(f"{title}: {called(method)}", group), title)
                own = [c for c in self.checks if title in c.groups and not c.premise]
                rest = [c for c in self.checks if c not in own]
                self.checks = [*rest, *evidence.earned(living, own)]

    def below(self, quantity: str, measure: Measured, bound: float, **how: Any) -> None:
        """The interval lies below a bound; ``how`` as for :meth:`add`."""
        self.add(quantity, measure, lambda name, measured: below(name, measured, bound), **how)

    def above(self, quantity: str, measure: Measured, bound: float, **how: Any) -> None:
        """The interval lies above a bound; ``how`` as for :meth:`add`."""
        self.add(quantity, measure, lambda name, measured: above(name, measured, bound), **how)

    def between(
        self, quantity: str, measure: Measured, low: float, high: float, **how: Any
    ) -> None:
        """The interval lies between two bounds; ``how`` as for :meth:`add`."""
        self.add(
            quantity, measure, lambda name, measured: between(name, measured, low, high), **how
        )

    def beats(self, first: str, second: str, name: str = "nll", **how: Any) -> None:
        """The first has a lower metric than the second, seed by seed."""
        quantity = f"{QUANTITIES[name].title} of {called(first)} less that of {called(second)}"
        self.below(quantity, difference(first, second, name), 0.0, **how)

    def finding(self, item: str) -> Finding:
        """The verdict over all checks, at the scales of the results that they used."""
        every = (r for runs in self.groups.values() for group in runs.values() for r in group)
        scales = dict.fromkeys(self.scales) or dict.fromkeys(r.spec.scale for r in every)
        return decide(item, " and ".join(scales) or "medium", self.checks)


def largest_origin(item: str, compared: Comparison, rule: Callable[[Checks], None]) -> Finding:
    """The verdict of the largest scale that decides; results of two origins are never pooled.

    Origins are tried from the largest scale to this build.  Where none decides, the first that
    ran something says why.

    Raises:
        BadInput: no origin has a result.
    """
    findings = []
    for groups in compared.origins():
        checks = Checks(groups, compared.premises)
        if checks.groups:
            rule(checks)
            findings.append(checks.finding(item))
    if not findings:
        raise BadInput(f"there is no result at all to decide {item} with")
    ran = [one for one in findings if one.reach not in (Reach.NOT_RUN, Reach.CANNOT_TELL)]
    decided = [one for one in ran if one.verdict is not Verdict.UNDECIDED]
    reached = [one for one in findings if one.reach is not Reach.NOT_RUN]
    return (decided or ran or reached or findings)[0]


def decides(item: str) -> Callable[[Callable[[Checks], None]], Callable[[Comparison], Finding]]:
    """Make a rule, which adds the checks of one origin, a function that gives the verdict.

    Args:
        item: of the inventory.
    """

    def named(rule: Callable[[Checks], None]) -> Callable[[Comparison], Finding]:
        def verdict(compared: Comparison) -> Finding:
            return largest_origin(item, compared, rule)

        verdict.__name__, verdict.__doc__ = rule.__name__, rule.__doc__
        return verdict

    return named


def judges(
    item: str, methods: Sequence[str], measures: Mapping[str, Measure] | None = None
) -> Callable[[Callable[[Runs, pd.DataFrame], list[Check]]], evidence.Rule]:
    """Make a rule, which gives the checks of one group of results, one that gives the verdict.

    The rule gets the results of some methods and their long table.  It says nothing of a group
    in which these methods have no seed in common, or of which it has no check.

    Args:
        item: of the inventory.
        methods: that it is about.
        measures: further metrics of the table; see :func:`frame`.
    """

    def named(rule: Callable[[Runs, pd.DataFrame], list[Check]]) -> evidence.Rule:
        def verdict(runs: Runs) -> Finding | None:
            own = only(runs, methods)
            seeds = [{result.spec.seed for result in own.get(method, ())} for method in methods]
            checks = rule(own, frame(own, measures)) if set.intersection(*seeds) else []
            return decide(item, evidence.every(own)[0].spec.scale, checks) if checks else None

        verdict.__name__, verdict.__doc__ = rule.__name__, rule.__doc__
        return verdict

    return named
