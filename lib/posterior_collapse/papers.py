"""The papers' claims, their printed numbers, and verdicts by rule.

A verdict is never typed in.
A claim is cut into checks; a check compares a bound with the confidence interval of a measured
quantity over seeds; the verdict follows from the checks.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from posterior_collapse.errors import BadInput, nearest

__all__ = [
    "Check",
    "Finding",
    "Interval",
    "Outcome",
    "Verdict",
    "above",
    "answer",
    "below",
    "between",
    "beyond",
    "claim",
    "decide",
    "interval",
    "inventory",
    "legend",
    "lost",
    "premise",
    "printed",
    "repository",
    "stated",
]

CONFIDENCE = 0.95


class Outcome(enum.StrEnum):
    """What a check says."""

    HOLDS = "holds"
    FAILS = "fails"
    OPEN = "undecided"  # the interval contains the bound, or there is none


class Verdict(enum.StrEnum):
    """What a page says of a claim."""

    HOLDS = "holds"
    PARTLY = "partly"
    FAILS = "fails"
    NOT_RUN = "not run at this scale"
    NOT_CHECKABLE = "not checkable"  # by any computation


class Interval(NamedTuple):
    """Mean over seeds with a two-sided confidence interval of Student's t."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean and confidence interval of independent measurements, one a seed.

    With one value the interval is the whole line: nothing is known of the spread.

    Raises:
        BadInput: no value, or one that is not finite.
    """
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        raise BadInput(f"an interval needs finite values, given {list(values)}")
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    half = float(stats.t.ppf(0.5 + confidence / 2, array.size - 1) * stats.sem(array))
    return Interval(mean, mean - half, mean + half, array.size)


@dataclass(frozen=True)
class Check:
    """One rule over one measured quantity."""

    quantity: str  # in words, with its unit
    rule: str  # the bound in words
    measured: Interval
    outcome: Outcome
    found: str = ""  # what was found in words, where an interval over seeds is not what it is
    premise: bool = False  # what a claim takes for granted; see :func:`premise`


def _check(quantity: str, rule: str, found: Interval, inside: bool, outside: bool) -> Check:
    outcome = Outcome.HOLDS if inside else Outcome.FAILS if outside else Outcome.OPEN
    return Check(quantity, rule, found, outcome)


def below(quantity: str, values: Sequence[float], bound: float) -> Check:
    """The mean lies below the bound: decided where the whole interval lies on one side."""
    found = interval(values)
    return _check(quantity, f"below {bound:g}", found, found.high < bound, found.low >= bound)


def above(quantity: str, values: Sequence[float], bound: float) -> Check:
    """The mean lies above the bound: decided where the whole interval lies on one side."""
    found = interval(values)
    return _check(quantity, f"above {bound:g}", found, found.low > bound, found.high <= bound)


def between(quantity: str, values: Sequence[float], low: float, high: float) -> Check:
    """The mean lies in [low, high]: holds where the interval lies inside, fails where apart."""
    found = interval(values)
    inside = low <= found.low and found.high <= high
    apart = found.high < low or found.low > high
    return _check(quantity, f"between {low:g} and {high:g}", found, inside, apart)


def stated(quantity: str, rule: str, holds: bool | None, found: str) -> Check:
    """A check that is no mean over seeds: a count, one value, or what is not there yet.

    Args:
        quantity, rule: in words.
        holds: None where it is undecided.
        found: in words, in place of an interval.
    """
    outcome = Outcome.OPEN if holds is None else Outcome.HOLDS if holds else Outcome.FAILS
    return Check(quantity, rule, Interval(0.0, 0.0, 0.0, 0), outcome, found)


def premise(check: Check) -> Check:
    """A check of what the claim takes for granted: a model that has not collapsed, a target met.

    Where it holds it earns nothing, as it is not the claim.
    Where it does not, the claim is about a situation that was not reached, and is not decided.
    """
    return replace(check, premise=True)


@dataclass(frozen=True)
class Finding:
    """A claim with its checks and the verdict that they give."""

    item: str
    claim: str
    scale: str
    checks: tuple[Check, ...]
    verdict: Verdict
    reason: str = ""  # why nothing is said of the claim; empty where something is


def _verdict(checks: Sequence[Check]) -> Verdict:
    """The rule that :func:`decide` states."""
    claims = [check for check in checks if not check.premise]
    if not claims:
        raise BadInput("a verdict needs at least one check, beside premises")
    if any(check.premise and check.outcome is not Outcome.HOLDS for check in checks):
        return Verdict.NOT_RUN
    outcomes = {check.outcome for check in claims}
    if outcomes == {Outcome.HOLDS}:
        return Verdict.HOLDS
    if outcomes == {Outcome.OPEN}:
        return Verdict.NOT_RUN
    return Verdict.PARTLY if Outcome.HOLDS in outcomes else Verdict.FAILS


def _reason(checks: Sequence[Check]) -> str:
    """Why checks say nothing of a claim, in words; empty where they do."""
    if _verdict(checks) is not Verdict.NOT_RUN:
        return ""
    missed = [check for check in checks if check.premise and check.outcome is not Outcome.HOLDS]
    if missed:
        told = (f"{c.quantity}: {c.found}".removesuffix(": ") for c in missed)
        return f"what the claim takes for granted was not reached ({'; '.join(told)})"
    seeds = max(check.measured.n for check in checks)
    if seeds > 1:
        return f"it was run, and no interval over {seeds} seeds decides a check"
    if seeds == 1:
        return "one seed decides nothing"
    found = dict.fromkeys(check.found for check in checks if check.outcome is Outcome.OPEN)
    return f"nothing is there to decide a check ({'; '.join(found)})"


def decide(item: str, scale: str, checks: Sequence[Check]) -> Finding:
    """The verdict on an item of the inventory.

    Holds: every check holds.
    Fails: at least one check fails and none holds.
    Not run at this scale: no check is decided (a single seed decides nothing), or a premise does
    not hold.
    Partly: everything else.
    Premises earn nothing; see :func:`premise`.

    Raises:
        BadInput: the item is unknown, or there is no check beside premises.
    """
    return Finding(item, claim(item), scale, tuple(checks), _verdict(checks), _reason(checks))


def answer(question: str, scale: str, checks: Sequence[Check]) -> Finding:
    """The verdict on a question of a page's own, which no paper's item asks.

    The rule is that of :func:`decide`.

    Raises:
        BadInput: there is no check beside premises.
    """
    return Finding("", question, scale, tuple(checks), _verdict(checks), _reason(checks))


def beyond(item: str, scale: str, reason: str) -> Finding:
    """An item that no computation can decide, such as a survey of people.

    Raises:
        BadInput: the item is unknown, or no reason is given.
    """
    if not reason.strip():
        raise BadInput(f"{item} needs a reason why no computation can decide it")
    return Finding(item, claim(item), scale, (), Verdict.NOT_CHECKABLE, reason)


@functools.lru_cache(maxsize=1)
def repository() -> Path:
    """Root of the repository, whose ``data/`` holds what this module reads.

    Raises:
        BadInput: the package is installed without its repository.
    """
    for folder in (Path(__file__).resolve(), Path.cwd().resolve() / "_"):
        for parent in folder.parents:
            if (parent / "data" / "papers" / "inventory.yml").is_file():
                return parent
    raise BadInput(
        "the printed tables and reference results belong to the repository; run this inside a "
        "clone, or with the package installed from one"
    )


@functools.lru_cache(maxsize=1)
def inventory() -> dict[str, dict[str, Any]]:
    """Every item to reproduce: id -> paper, scale, data, claim."""
    text = (repository() / "data" / "papers" / "inventory.yml").read_text(encoding="utf-8")
    items = {}
    for paper, rows in yaml.safe_load(text).items():
        for row in rows:
            items[row["id"]] = {"paper": paper, **row}
    return items


def claim(item: str) -> str:
    """The claim of an item.

    Raises:
        BadInput: unknown item, with the nearest one.
    """
    if item not in inventory():
        raise BadInput(nearest(item, inventory(), "item of the inventory"))
    return str(inventory()[item]["claim"])


@functools.lru_cache(maxsize=1)
def legend() -> dict[str, Any]:
    """What the printed tables' columns mean, with units, and where each table comes from.

    Returns:
        ``columns``: name -> kind, meaning, unit; ``tables``: ``"lagging/table1"`` -> item, note;
        ``lost``: what :func:`lost` gives.
    """
    text = (repository() / "data" / "papers" / "tables.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def lost() -> dict[str, str]:
    """Printed tables that :func:`printed` does not have: item of the inventory -> reason."""
    return {row["item"]: row["reason"] for row in legend()["lost"]}


def printed(paper: str, table: str) -> pd.DataFrame:
    """A printed table as data; what the text lost is empty, never guessed.

    Columns are those of :func:`legend`.
    Text that is not there is the empty string, a number that is not there is NaN.

    Raises:
        BadInput: unknown paper or table, with the nearest one.
    """
    folder = repository() / "data" / "papers"
    papers = [path.name for path in folder.iterdir() if path.is_dir()]
    if paper not in papers:
        raise BadInput(nearest(paper, papers, "paper with printed tables"))
    tables = [path.stem for path in (folder / paper).glob("*.csv")]
    if table not in tables:
        raise BadInput(nearest(table, tables, f"printed table of {paper}"))
    texts = [name for name, column in legend()["columns"].items() if column["kind"] == "text"]
    frame = pd.read_csv(folder / paper / f"{table}.csv", dtype=dict.fromkeys(texts, str))
    return frame.fillna(dict.fromkeys(texts, ""))
