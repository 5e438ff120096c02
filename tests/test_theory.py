"""Every statement's checks: they pass, and a wrong constant makes one of them fail."""

from __future__ import annotations

import importlib
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import companion
from companion.claims import formulas as mixtures
from companion.claims import statements as theory
from companion.claims.printed import inventory, repository
from companion.claims.statements import Evidence, Standing, Statement, Way
from companion.claims.verdicts import Verdict
from companion.show import theory as shown
from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]


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


def test_texts_and_statements_belong_together() -> None:
    file = repository() / "data" / "papers" / "statements.yml"
    assert set(yaml.safe_load(file.read_text(encoding="utf-8"))) <= set(STATEMENTS)


# --- what the pages show --------------------------------------------------------------------------

SHOWN = ("lagging/theory", "autogen/theory", "scale/theory", "methods/linear-vae")
# Their two sides are samples, a bound, or a search; those of all others agree to every digit shown.
APART = {"L4", "A1m", "A2", "A3", "A5", "S3", "S5a", "S10", "S11", "V4"}


def visible_checks(page: str) -> dict[str, str]:
    """The code cell before the table of each statement, where a reader sees it."""
    book = json.loads((ROOT / "notebooks" / f"{page}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    checks = {}
    for before, cell in itertools.pairwise(cells):
        if found := re.search(r'theory\.statement\(results\["(\w+)"\]\)', "".join(cell["source"])):
            assert not {"hide-input", "remove-input"} & {*before["metadata"].get("tags", ())}
            checks[found[1]] = "".join(before["source"])
    return checks


@pytest.mark.parametrize("page", SHOWN)
def test_each_statement_shows_a_check_that_can_be_copied(
    page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = visible_checks(page)
    chapter = page.partition("/")[0]
    names = [name for name in modules() if name.startswith(f"companion.{chapter}.")]
    assert set(checks) == {
        one.id for name in names for one in importlib.import_module(name).STATEMENTS
    }
    for id, code in checks.items():
        assert 5 <= len([line for line in code.splitlines() if line.strip()]) <= 20, id
        exec(code, {})  # by itself: without a name from another cell
        numbers = re.findall(r"-?\d+\.\d+(?:e-\d+)?", capsys.readouterr().out)
        assert len(numbers) >= 2 or id == "S5a", id
        if id not in APART:
            digits = [number for number in numbers if len(number) > 4]
            assert len(set(digits)) < len(digits), f"{id}: both sides are to be the same"


# --- the tools ------------------------------------------------------------------------------------


def checked(kind: type[theory.Check], *facts: object) -> Evidence:
    """The evidence of a check whose facts are given."""
    return kind("x", lambda _: facts)(None)


def test_equal_and_nonnegative_decide_by_algebra() -> None:
    x = sympy.symbols("x", real=True)
    assert checked(theory.Symbolic, ((x + 1) ** 2, x**2 + 2 * x + 1)).holds
    apart = checked(theory.Symbolic, ((x + 1) ** 2, x**2 + 2 * x))
    assert not apart.holds and apart.result == "difference 1"
    assert checked(theory.Symbolic, x**2 - 2 * x + 1).holds
    assert not checked(theory.Symbolic, x).holds
    both = checked(theory.Symbolic, (x, x), x**2)
    assert both.result == "difference 0; x**2 is not negative" and both.trials == 2


def test_a_wrong_constant_fails_whether_or_not_a_number_shows_it() -> None:
    x, g = sympy.symbols("x", real=True), sympy.Function("g")(sympy.symbols("x", real=True))
    for facts in ([(x, 2 * x)], [(g, 2 * g)], [(x, x), -(x**2)]):
        assert theory.Symbolic("x", lambda _, facts=facts: facts).fails(None)
    for facts in ([(x, x)], [(g, g)], [((x + 1) ** 2, x**2 + 2 * x + 1)]):
        assert not theory.Symbolic("x", lambda _, facts=facts: facts).fails(None)


@given(st.floats(-3, 3), st.floats(0.01, 9), st.floats(-3, 3), st.floats(0.01, 9))
def test_closed_divergence_is_the_librarys(m: float, v: float, centre: float, width: float) -> None:
    one = [torch.tensor([[value]], dtype=torch.float64) for value in (m, v, centre, width)]
    wanted = gaussian.kl(one[0], one[1].log(), one[2], one[3].log()).item()
    assert mixtures.gaussian_kl(m, v, centre, width) == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    symbols = sympy.symbols("m v c w", positive=True)
    exact = mixtures.gaussian_kl(*symbols).subs(
        dict(zip(symbols, (m, v, centre, width), strict=True))
    )
    assert float(exact) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_derivative_has_an_error_of_fourth_order() -> None:
    assert mixtures.derivative(np.sin, 0.7) == pytest.approx(np.cos(0.7), abs=1e-12)


def test_sampled_allows_five_standard_errors_and_no_more() -> None:
    draws = np.random.default_rng(0).normal(2.0, 1.0, 10_000)
    assert checked(theory.Sampled, (2.0, draws)).holds
    assert not checked(theory.Sampled, (2.0, draws), (2.08, draws)).holds
    assert checked(theory.Sampled, (0.5, np.full(100, 0.5))).holds
    assert not checked(theory.Sampled, (0.51, np.full(100, 0.5))).holds


def test_search_shrinks_to_the_smallest_case() -> None:
    search = theory.Search("x", lambda c, n: n > c, st.integers(0, 10_000), str)
    large = search(70)
    assert not large.holds and large.counterexample == "71" and large.trials > 1
    pairs = st.tuples(st.integers(0, 9), mixtures.steps(0, 8, 4))
    pair = theory.Search("x", lambda _, n, part: n + part > 9, pairs, "{} and {:g}")(None)
    assert not pair.holds and pair.counterexample.count(" and ") == 1
    plain = theory.Search("x", lambda _, n, part: n > 3, pairs)(None)
    assert plain.counterexample == "4, 0.0"
    none = theory.Search("x", lambda _, n: n < 0, st.integers(0, 100), draws=50)(None)
    assert none.holds and none.trials <= 101  # all integers, if there are so few


def test_a_wrong_constant_is_tried_on_the_same_cases() -> None:
    seen: list[int] = []
    search = theory.Search("x", lambda c, n: bool(seen.append(n)) or n > c, st.integers(0, 99))
    assert search.fails(70)  # nothing was tried yet, so it draws
    assert search(99).holds
    cases, seen[:] = list(seen[-search(99).trials :]), []
    assert search.fails(70) and len(seen) <= len(cases) and seen == cases[: len(seen)]
    assert not search.fails(99)
    drawn = theory.Search("x", lambda c, n: n > 3, lambda c: st.integers(0, c))
    assert drawn(3).holds and drawn.fails(9) and not drawn.fails(3)


def level(noise: float, weight: float) -> float:
    return weight * noise


def doubled(noise: float) -> float:
    return level(noise, 2)


def test_a_wrong_constant_is_put_into_a_formula_from_outside() -> None:
    right = theory.Formulas(level, doubled, kl="log(ratio) / 2", least=1.0)
    assert right.kl(ratio=np.e) == 0.5 and right.doubled(3) == 6 and right.least == 1.0
    assert dict(right) == {"least": 1.0}
    u = sympy.symbols("u", positive=True)
    assert right.kl(ratio=u) == sympy.log(u) / 2
    assert right.changed("half", ("/ 2", "/ 4")).kl(ratio=np.e) == 0.25
    assert right.changed("least", 0.5).least == 0.5
    # A formula that calls another one sees the change, and the module's own stays as it was.
    assert right.changed("power", ("weight * noise", "weight + noise")).doubled(3) == 5
    assert level(3, 2) == 6 and right.doubled(3) == 6
    for text in ("/ 3", "noise"):  # in no place, and in several
        with pytest.raises(BadInput, match="must stand once"):
            right.changed("wrong", (text, "x"))


def statement(printed: bool | None = None, sound: bool = True, notices: bool = True) -> Statement:
    """A statement whose checks have the results that are asked for."""

    class Fixed(theory.Check):
        def __call__(self, c: dict[str, float]) -> Evidence:
            return evidence(self.of, sound and (c["half"] == 0.5 or not notices))

    def evidence(way: Way, holds: bool) -> Evidence:
        return Evidence(way, "x", holds, "y", 0, 1, "" if holds else "z")

    refuted = None if printed is None else lambda: evidence(Way.SEARCH, printed)
    checks = [Fixed("x", way) for way in Way]
    half = theory.Formulas(half=0.5)
    return Statement("T1", "test", "none", "du-eq3", "c", half, {"half": 1.0}, checks, refuted)


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
    good, one = statement(), theory.Formulas(a=1.0)
    with pytest.raises(BadInput, match="wrong value for each"):
        Statement("T", "t", "p", "", "c", one, {}, good.checks)
    good.checks.pop()
    with pytest.raises(BadInput, match="3 checks"):
        theory.examine(good)
