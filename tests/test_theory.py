"""Every statement's checks: they pass, and a wrong constant makes one of them fail."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sympy
from hypothesis import strategies as st

import companion
from companion.claims import statements as theory
from companion.claims.printed import inventory
from companion.claims.statements import Evidence, Standing, Statement, Way
from companion.claims.verdicts import Verdict
from companion.show import theory as shown
from posterior_collapse.errors import BadInput


def modules() -> Iterator[str]:
    """Modules of the chapters that hold statements."""
    for path in sorted(Path(companion.__file__).parent.glob("*/statements*.py")):
        name = f"companion.{path.parent.name}.{path.stem}"
        if hasattr(importlib.import_module(name), "STATEMENTS"):
            yield name


STATEMENTS = {
    statement.id: statement
    for name in modules()
    for statement in importlib.import_module(name).STATEMENTS
}


@pytest.mark.parametrize("id", STATEMENTS)
def test_statement(id: str) -> None:
    statement = STATEMENTS[id]
    found = theory.examine(statement)
    assert [one.way for one in found.evidence] == list(Way)
    assert all(one.holds for one in found.evidence), found.evidence
    for mutation in found.mutations:
        assert mutation.noticed, f"{mutation.constant} {mutation.wrong} goes unnoticed"
    if statement.printed is not None:
        assert found.printed is not None
        assert found.printed.holds or found.printed.counterexample
    assert statement.item in {"", *inventory()}
    assert found.standing is not Standing.OPEN
    assert statement.claim[-1] in ".)" and len(statement.claim) > 20
    assert statement.id in shown.statement(found).data


def test_every_statement_is_in_a_module_once() -> None:
    found = [
        statement.id for name in modules() for statement in importlib.import_module(name).STATEMENTS
    ]
    assert sorted(found) == sorted(set(found))
    assert len(found) >= 30


# --- the tools ------------------------------------------------------------------------------------


def test_equal_and_nonnegative_decide_by_algebra() -> None:
    x = sympy.symbols("x", real=True)
    assert theory.equal("square", ((x + 1) ** 2, x**2 + 2 * x + 1)).holds
    apart = theory.equal("square", ((x + 1) ** 2, x**2 + 2 * x))
    assert not apart.holds and apart.found == "difference 1"
    assert theory.nonnegative("square", x**2 - 2 * x + 1).holds
    assert not theory.nonnegative("line", x).holds


def test_sampled_allows_five_standard_errors_and_no_more() -> None:
    draws = np.random.default_rng(0).normal(2.0, 1.0, 10_000)
    assert theory.sampled("mean", (2.0, draws)).holds
    assert not theory.sampled("mean", (2.0, draws), (2.08, draws)).holds
    assert theory.sampled("constant", (0.5, np.full(100, 0.5))).holds
    assert not theory.sampled("constant", (0.51, np.full(100, 0.5))).holds


def test_search_shrinks_to_the_smallest_case() -> None:
    found = theory.search("no large integer", st.integers(0, 10_000), lambda n: n > 70)
    assert not found.holds and found.counterexample == "71" and found.trials > 1
    none = theory.search("no negative one", st.integers(0, 100), lambda n: n < 0, draws=50)
    assert none.holds and none.trials <= 101  # all integers, if there are so few


def statement(printed: bool | None = None, sound: bool = True, notices: bool = True) -> Statement:
    """A statement whose checks say what they are told to."""

    def check(way: Way, holds: bool) -> Evidence:
        return Evidence(way, "x", holds, "y", 0, 1, "" if holds else "z")

    def made(way: Way) -> object:
        return lambda c: check(way, sound and (c["half"] == 0.5 or not notices))

    refuted = None if printed is None else lambda: check(Way.SEARCH, printed)
    checks = tuple(made(way) for way in Way)
    return Statement(
        "T1",
        "test",
        "none",
        "du-eq3",
        "c",
        {"half": 0.5},
        {"half": 1.0},
        checks,
        refuted,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("made", "standing", "verdict"),
    [
        (statement(), Standing.TRUE, Verdict.HOLDS),
        (statement(printed=True), Standing.TRUE, Verdict.HOLDS),
        (statement(printed=False), Standing.CORRECTED, Verdict.CORRECTED),
        (statement(sound=False, notices=False), Standing.OPEN, Verdict.FAILS),
        (statement(notices=False), Standing.OPEN, Verdict.MIXED),
    ],
)
def test_standing_and_verdict(made: Statement, standing: Standing, verdict: Verdict) -> None:
    found = theory.examine(made)
    assert found.standing is standing
    (finding,) = theory.findings([found])
    assert finding.verdict is verdict and finding.item == "du-eq3" and finding.scale == "exact"
    text = shown.statement(found).data + shown.summary([found]).data
    assert standing.value in text


def test_a_statement_needs_a_wrong_value_for_each_constant_and_three_checks() -> None:
    good = statement()
    with pytest.raises(BadInput, match="wrong value for each"):
        Statement("T", "t", "p", "", "c", {"a": 1.0}, {}, good.checks)
    with pytest.raises(BadInput, match="3 checks"):
        Statement("T", "t", "p", "", "c", {"a": 1.0}, {"a": 2.0}, good.checks[:2])
