"""Verdicts by rule, printed tables, and the inventory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from posterior_collapse import papers
from posterior_collapse.errors import BadInput
from posterior_collapse.pages import show
from posterior_collapse.pages.uncertainty import variance_interval
from posterior_collapse.papers import Outcome, Verdict, above, below, between, decide, interval

FINITE = st.floats(-1e6, 1e6)


def test_interval_equals_scipys() -> None:
    values = [1.0, 2.0, 4.0, 4.5, 0.5]
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    found = interval(values)
    assert (found.mean, found.low, found.high) == pytest.approx((2.4, low, high))
    assert found.n == 5


def test_one_value_has_no_interval_and_decides_nothing() -> None:
    found = interval([3.0])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert below("x", [3.0], 100.0).outcome is Outcome.OPEN


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.inf]])
def test_interval_refuses_what_is_no_measurement(values: list[float]) -> None:
    with pytest.raises(BadInput, match="finite"):
        interval(values)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, (2000, 5))
    hits = [(found := interval(list(row))).low <= 3.0 <= found.high for row in draws]
    assert 0.935 < np.mean(hits) < 0.965


def test_variance_interval_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(1).normal(0.0, 2.0, (2000, 10))
    hits = [(found := variance_interval(list(row))).low <= 4.0 <= found.high for row in draws]
    assert 0.935 < np.mean(hits) < 0.965
    with pytest.raises(BadInput, match="two"):
        variance_interval([1.0])


@given(st.lists(FINITE, min_size=2, max_size=6), FINITE)
def test_below_and_above_are_never_both_true(values: list[float], bound: float) -> None:
    low, high = below("x", values, bound).outcome, above("x", values, bound).outcome
    assert not (low is Outcome.HOLDS and high is Outcome.HOLDS)
    assert (low is Outcome.OPEN) == (high is Outcome.OPEN) or interval(values).low == bound


def test_between() -> None:
    assert between("x", [1.0, 1.1, 0.9], 0.0, 2.0).outcome is Outcome.HOLDS
    assert between("x", [1.0, 1.1, 0.9], 5.0, 6.0).outcome is Outcome.FAILS
    assert between("x", [1.0, 1.1, 0.9], 1.0, 2.0).outcome is Outcome.OPEN


HOLDS = below("a", [0.0, 0.0], 1.0)
FAILS = above("b", [0.0, 0.0], 1.0)
OPEN = above("c", [0.0, 2.0], 1.0)


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ([HOLDS], Verdict.HOLDS),
        ([HOLDS, HOLDS], Verdict.HOLDS),
        ([HOLDS, FAILS], Verdict.PARTLY),
        ([HOLDS, OPEN], Verdict.PARTLY),
        ([FAILS], Verdict.FAILS),
        ([FAILS, OPEN], Verdict.FAILS),
        ([OPEN, OPEN], Verdict.NOT_RUN),
        ([papers.premise(HOLDS), HOLDS], Verdict.HOLDS),
        ([papers.premise(HOLDS), FAILS], Verdict.FAILS),  # a premise earns nothing
        ([papers.premise(HOLDS), OPEN], Verdict.NOT_RUN),
        ([papers.premise(FAILS), HOLDS], Verdict.NOT_RUN),
        ([papers.premise(OPEN), FAILS], Verdict.NOT_RUN),
    ],
)
def test_verdicts_follow_from_checks(checks: list[papers.Check], verdict: Verdict) -> None:
    assert [c.outcome for c in (HOLDS, FAILS, OPEN)] == [Outcome.HOLDS, Outcome.FAILS, Outcome.OPEN]
    assert decide("lagging-fig2", "quick", checks).verdict is verdict
    assert papers.answer("a question", "quick", checks).verdict is verdict


def test_a_verdict_that_says_nothing_says_why() -> None:
    def reason(*checks: papers.Check) -> str:
        found = decide("lagging-fig2", "quick", checks)
        assert bool(found.reason) == (found.verdict is Verdict.NOT_RUN)
        assert papers.answer("a question", "quick", checks).reason == found.reason
        return found.reason

    assert reason(HOLDS) == reason(FAILS, OPEN) == reason(HOLDS, OPEN) == ""
    assert "no interval over 2 seeds decides a check" in reason(OPEN, below("d", [1.0], 2.0))
    assert reason(below("d", [1.0], 2.0)) == "one seed decides nothing"
    awaited = [papers.stated(name, "two seeds", None, "no data folder") for name in "ef"]
    assert reason(*awaited).endswith("(no data folder)")
    lost = papers.premise(papers.stated("seeds that collapsed", "none", False, "1 of 3"))
    assert reason(lost, HOLDS, papers.premise(HOLDS)).endswith("(seeds that collapsed: 1 of 3)")
    assert reason(papers.premise(OPEN), HOLDS).endswith("(c)")


def test_a_premise_is_marked_for_readers_only() -> None:
    one = papers.premise(papers.stated("classes", "4", True, "found"))
    assert one.quantity == "classes"
    shown = show.verdict(decide("lagging-fig2", "quick", [one, HOLDS])).data
    assert shown.count("premise: ") == 1 and ">premise: classes<" in shown


def test_a_stated_check_has_words_in_place_of_an_interval() -> None:
    checks = [papers.stated("classes", "4", holds, "found") for holds in (True, False, None)]
    assert [c.outcome for c in checks] == [Outcome.HOLDS, Outcome.FAILS, Outcome.OPEN]
    for check in checks:
        assert check.found == "found" and check.measured.n == 0
    assert decide("lagging-fig2", "quick", checks).verdict is Verdict.PARTLY


def test_a_verdict_needs_a_known_item_and_checks() -> None:
    with pytest.raises(BadInput, match='did you mean "lagging-fig2"'):
        decide("laging-fig2", "quick", [HOLDS])
    with pytest.raises(BadInput, match="at least one"):
        decide("lagging-fig2", "quick", [])
    with pytest.raises(BadInput, match="beside premises"):
        decide("lagging-fig2", "quick", [papers.premise(HOLDS)])


def test_inventory_has_all_items_with_claims() -> None:
    items = papers.inventory()
    assert len(items) == 69
    assert all(item["claim"] for item in items.values())


def test_printed_tables_hold_the_papers_numbers_and_leave_lost_ones_empty() -> None:
    seven, eight = papers.printed("lagging", "table7"), papers.printed("lagging", "table8")
    yahoo = seven.set_index("dataset").loc["Yahoo"]
    assert (yahoo["nll"], yahoo["kl"], yahoo["mi_variance"]) == (327.98, 5.35, 0.002)
    assert math.isnan(yahoo["nll_variance"])
    # the duplicate that the page mentions
    assert yahoo["neg_elbo"] == eight.set_index("dataset").loc["Yahoo", "neg_elbo"] == 329.54
    with pytest.raises(BadInput, match='did you mean "table7"'):
        papers.printed("lagging", "table77")
    with pytest.raises(BadInput, match='did you mean "lagging"'):
        papers.printed("laging", "table7")
