"""Verdicts by rule: intervals, checks, premises, and what follows from them."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from companion import show
from companion.claims import verdicts
from companion.claims.verdicts import (
    Check,
    Interval,
    Label,
    Outcome,
    Reach,
    Role,
    Verdict,
    above,
    below,
    between,
    bounded,
    decide,
    interval,
)
from companion.lagging.evaluation_uncertainty import variance_interval
from posterior_collapse.errors import BadInput

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


# --- intervals that fit the quantity --------------------------------------------------------------


def test_the_error_over_test_examples_enters_the_interval_once_for_all_seeds() -> None:
    values = [1.0, 2.0, 4.0, 4.5, 0.5]
    plain, wide = interval(values), interval(values, error=3.0, points=1000)
    assert interval(values, error=0.0) == plain
    variance, error = np.var(values, ddof=1) / 5, 9.0
    freedom = (variance + error) ** 2 / (variance**2 / 4 + error**2 / 999)
    assert wide.half == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(variance + error))
    same = interval([2.0, 2.0], error=0.5, points=10)
    assert same.half == pytest.approx(stats.t.ppf(0.975, 9) * 0.5)
    for error, points in ((-1.0, 10), (math.nan, 10), (0.5, 1)):
        with pytest.raises(BadInput, match="standard error"):
            interval(values, error=error, points=points)


def test_the_interval_with_a_shared_error_covers_the_truth_as_often_as_it_says() -> None:
    generator, hits = np.random.default_rng(2), []
    for _ in range(2000):
        sentences = generator.normal(0.0, 2.0, 40)  # their draw is the same for all seeds
        seeds = generator.normal(0.0, 0.3, 5) + sentences.mean()
        found = interval(list(seeds), error=float(stats.sem(sentences)), points=40)
        hits.append(found.low <= 0.0 <= found.high)
    assert 0.935 < np.mean(hits) < 0.975


def test_wilsons_interval_is_the_closed_form_and_stays_inside() -> None:
    z = float(stats.norm.ppf(0.975))
    for k, n in ((0, 5), (3, 7), (5, 5), (900, 1000)):
        p, found = k / n, verdicts.share(k, n)
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        assert (found.mean, found.n) == (p, n)
        assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-12)
        assert 0.0 <= found.low <= p <= found.high <= 1.0
    for k, n in ((1, 0), (-1, 3), (4, 3)):
        with pytest.raises(BadInput, match="share"):
            verdicts.share(k, n)


@given(st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=6))
def test_correlations_never_leave_their_range(values: list[float]) -> None:
    found = verdicts.correlation(values)
    assert -1.0 <= found.low <= found.mean <= found.high <= 1.0


def test_fishers_intervals() -> None:
    values = [0.9, 0.99, 0.95]
    found, z = verdicts.correlation(values), interval([math.atanh(v) for v in values])
    assert found[:3] == pytest.approx([math.tanh(end) for end in z[:3]])
    with pytest.raises(BadInput, match="correlations"):
        verdicts.correlation([1.5])
    pairs = verdicts.correlation_over_pairs(0.6, 12)
    error = math.sqrt((1 + 0.36 / 2) / 9)
    assert pairs.low == pytest.approx(math.tanh(math.atanh(0.6) - 1.959964 * error), abs=1e-6)
    assert verdicts.correlation_over_pairs(1.0, 30).high <= 1.0
    assert verdicts.correlation_over_pairs(0.9, 3)[1:3] == (-1.0, 1.0)
    with pytest.raises(BadInput, match="over pairs"):
        verdicts.correlation_over_pairs(0.9, 0)


def test_a_rank_correlations_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator, true = np.random.default_rng(3), 6 / math.pi * math.asin(0.6 / 2)
    hits = []
    for _ in range(2000):
        x, y = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 20).T
        found = verdicts.correlation_over_pairs(float(stats.spearmanr(x, y).statistic), 20)
        hits.append(found.low <= true <= found.high)
    assert 0.93 < np.mean(hits) < 0.98


def test_no_interval_leaves_the_bounds_of_its_quantity() -> None:
    wide = interval([0.0, 0.1, 6.0])
    assert wide.low < 0.0 and bounded(wide, 0.0, 7.0) == Interval(wide.mean, 0.0, 7.0, 3)
    assert below("MI", bounded(interval([5.0]), 0.0, 3.0 + 4.0), 8.0).measured.low == 0.0
    with pytest.raises(BadInput, match="outside its bounds"):
        bounded(wide, 0.0, 1.0)


# --- verdicts -------------------------------------------------------------------------------------

HOLDS = below("a", [0.0, 0.0], 1.0)
FAILS = above("b", [0.0, 0.0], 1.0)
OPEN = above("c", [0.0, 2.0], 1.0)


def some(holds: int, fails: int = 0, undecided: int = 0) -> list[Check]:
    return [HOLDS] * holds + [FAILS] * fails + [OPEN] * undecided


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        (some(1), Verdict.HOLDS),
        (some(7), Verdict.HOLDS),
        (some(1, 1), Verdict.MIXED),
        (some(1, 0, 1), Verdict.UNDECIDED),
        (some(0, 1), Verdict.FAILS),
        (some(0, 1, 1), Verdict.FAILS),
        (some(0, 0, 2), Verdict.UNDECIDED),
        (some(0, 1, 19), Verdict.UNDECIDED),  # one failure among nineteen undecided
        (some(1, 19), Verdict.FAILS),  # one trivial success among nineteen failures
        (some(19, 1), Verdict.MIXED),
        (some(39, 2, 14), Verdict.MIXED),
        (some(1, 4), Verdict.MIXED),  # a fifth of the decided
        (some(1, 5), Verdict.FAILS),
        (some(2, 1, 4), Verdict.UNDECIDED),  # fewer than half are decided
        ([verdicts.side(FAILS), HOLDS], Verdict.HOLDS),  # a side check decides nothing
        ([verdicts.side(HOLDS), FAILS], Verdict.FAILS),
        ([verdicts.premise(HOLDS), HOLDS], Verdict.HOLDS),
        ([verdicts.premise(HOLDS), FAILS], Verdict.FAILS),  # a premise earns nothing
        ([verdicts.premise(FAILS), HOLDS], Verdict.UNDECIDED),
        ([verdicts.premise(OPEN), FAILS], Verdict.UNDECIDED),
        ([verdicts.as_printed(FAILS), HOLDS], Verdict.CORRECTED),
        ([verdicts.as_printed(HOLDS), HOLDS], Verdict.HOLDS),
        ([verdicts.as_printed(FAILS), HOLDS, FAILS], Verdict.MIXED),
        ([verdicts.as_printed(FAILS), FAILS], Verdict.FAILS),
    ],
)
def test_verdicts_follow_from_checks(checks: list[Check], verdict: Verdict) -> None:
    assert [c.outcome for c in (HOLDS, FAILS, OPEN)] == [Outcome.HOLDS, Outcome.FAILS, Outcome.OPEN]
    assert decide("lagging-fig2", "quick", checks).verdict is verdict
    assert verdicts.answer("a question", "quick", checks).verdict is verdict
    assert decide("lagging-fig2", "quick", checks[::-1]).verdict is verdict


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_the_rule_is_the_one_that_is_stated(h: int, f: int, u: int) -> None:
    if not h + f + u:
        return
    told = decide("du-tab1", "paper", some(h, f, u)).verdict
    assert (told is Verdict.HOLDS) == (h == h + f + u)
    if told is Verdict.FAILS:
        assert f > 0 and h < (h + f) / 5 and h + f >= u
    if told is Verdict.MIXED:
        assert f > 0 and h >= (h + f) / 5 and h + f >= u
    if told is Verdict.UNDECIDED:
        assert u > 0 and (f == 0 or h + f < u)


def test_what_fails_at_a_reduced_scale_was_not_reproduced_there() -> None:
    def label(scale: str, *checks: Check, item: str = "du-tab1") -> Label:
        return decide(item, scale, checks).label

    assert label("paper", FAILS) is label("exact", FAILS) is Label.FAILS
    assert label("quick", FAILS) is label("medium", FAILS) is Label.NOT_REPRODUCED
    assert label("medium and paper", FAILS) is Label.NOT_REPRODUCED  # the least counts
    assert verdicts.answer("a question", "quick", [FAILS]).label is Label.FAILS
    assert label("quick", HOLDS) is Label.HOLDS and label("quick", OPEN) is Label.UNDECIDED
    assert label("smoke", HOLDS) is label("smoke", FAILS) is Label.CANNOT_TELL
    # `large` is the network and the sentences that the papers have on Short Yelp, and only there.
    assert label("large", FAILS, item="du-tab2") is Label.FAILS
    assert label("large", FAILS, item="scale-tab4") is Label.FAILS
    assert label("large", FAILS, item="lagging-tab1") is Label.NOT_REPRODUCED
    with pytest.raises(BadInput, match='did you mean "medium"'):
        decide("du-tab1", "mediun", [HOLDS])
    with pytest.raises(BadInput, match="item of the inventory"):
        verdicts.reach("du-tab111", "paper")


def test_reaches() -> None:
    found = {scale: verdicts.reach("du-tab1", scale) for scale in ("exact", "paper", "quick")}
    assert list(found.values()) == [Reach.EXACT, Reach.PAPER, Reach.REDUCED]
    assert verdicts.reach("", "large") is Reach.PAPER
    assert verdicts.beyond("autogen-tab2", "quick", "people").label is Label.NOT_CHECKABLE


def test_not_run_is_said_only_where_nothing_was_run() -> None:
    absent = verdicts.missing("NLL of a less that of b", "below 0")
    assert decide("du-tab1", "quick", [absent, absent]).label is Label.NOT_RUN
    found = decide("du-tab1", "quick", [absent, HOLDS])
    assert found.label is Label.UNDECIDED and found.sentence == (
        "1 of 2 central checks hold, 1 undecided"
    )
    assert decide("du-tab1", "quick", [OPEN]).label is Label.UNDECIDED  # it was run


def test_a_premise_speaks_of_its_group() -> None:
    grouped = verdicts.grouped
    lost, met = verdicts.premise(grouped(FAILS, "Yelp")), verdicts.premise(grouped(HOLDS, "Yahoo"))
    checks = [lost, met, grouped(FAILS, "Yelp"), grouped(HOLDS, "Yahoo"), grouped(HOLDS, "Yelp")]
    found = decide("du-tab1", "quick", checks)
    assert found.verdict is Verdict.HOLDS and found.reach is Reach.REDUCED
    assert [c.outcome for c in found.checks[2:]] == [
        Outcome.CANNOT_TELL,
        Outcome.HOLDS,
        Outcome.CANNOT_TELL,
    ]
    assert found.counts(Role.CENTRAL) == (1, 0, 0, 2)
    assert found.sentence == "1 of 1 central check holds, 2 that this scale can't tell"
    both = decide("du-tab1", "quick", [lost, met, grouped(HOLDS, "Yahoo", "Yelp")])
    assert both.label is Label.CANNOT_TELL  # an average over the two stands under both
    assert grouped(grouped(HOLDS, "a"), "b", "a").groups == ("a", "b")
    assert decide("du-tab1", "quick", [lost, *checks[2:3]]).label is Label.CANNOT_TELL
    everywhere = verdicts.premise(FAILS)
    assert decide("du-tab1", "paper", [everywhere, *checks]).label is Label.CANNOT_TELL


def test_boxes_count_central_checks_apart_from_side_ones_and_name_what_fails() -> None:
    checks = [*some(39, 2, 14), *map(verdicts.side, some(1, 2))]
    told = decide("du-tab1", "quick", checks).sentence
    assert told.startswith("39 of 55 central checks hold, 2 fail, 14 undecided; 1 of 3 side checks")
    assert told.endswith("What fails: b; b")
    many = decide("du-tab1", "quick", some(3, 6)).sentence
    assert many.endswith("What fails: b; b; b; b; and 2 more")
    shown = show.verdict(decide("du-tab1", "quick", checks)).data
    assert "39 of 55 central checks hold" in shown and 'data-reach="reduced scale"' in shown
    heads = re.findall(r"rowgroup'>([^<]+)<", shown)
    assert heads[0].startswith("Central: these decide. 39 of 55 checks hold, 2 fail, 14 undecided")
    assert len(heads) == 2
    assert heads[1].startswith("Side checks: for information only. 1 of 3 checks")
    assert "pc-verdict-mixed" in shown and shown.index("39 of 55") < shown.index("<details>")
    failed = show.verdict(decide("du-tab1", "quick", [FAILS])).data
    assert "pc-verdict-not-reproduced" in failed and "not reproduced at reduced scale" in failed


def test_a_verdict_that_says_nothing_says_why() -> None:
    def reason(*checks: Check, scale: str = "quick") -> str:
        found = decide("lagging-fig2", scale, checks)
        assert verdicts.answer("a question", scale, checks).reason == found.reason
        return found.reason

    assert reason(HOLDS) == reason(FAILS, OPEN) == reason(HOLDS, FAILS) == ""
    assert "with 2 seeds or fewer too many intervals" in reason(OPEN, below("d", [1.0], 2.0))
    assert reason(below("d", [1.0], 2.0)) == "one seed decides nothing"
    awaited = [verdicts.stated(name, "two seeds", None, "no data folder") for name in "ef"]
    assert reason(*awaited) == "2 of 2 checks cannot be decided (no data folder)"
    lost = verdicts.premise(verdicts.stated("seeds that collapsed", "none", False, "1 of 3"))
    assert reason(lost, HOLDS, verdicts.premise(HOLDS)).endswith("(seeds that collapsed: 1 of 3)")
    assert reason(verdicts.premise(OPEN), HOLDS).endswith("(c)")
    assert "code runs" in reason(HOLDS, scale="smoke")
    assert "code runs" in reason(lost, HOLDS, scale="smoke")
    assert reason(verdicts.missing("x", "y")) == "nothing was run for it"


def test_a_finding_can_be_put_under_a_premise() -> None:
    for verdict in (HOLDS, FAILS):
        found = decide("du-tab1", "quick", [verdict, verdicts.side(OPEN)])
        assert verdicts.under(found, []) == found
        kept = verdicts.under(found, [verdicts.premise(HOLDS)])
        assert kept.verdict is found.verdict and len(kept.checks) == 3
        lost = verdicts.under(found, [verdicts.premise(FAILS)])
        assert lost.label is Label.CANNOT_TELL and lost.claim == found.claim
    survey = verdicts.beyond("autogen-tab2", "quick", "people")
    assert verdicts.under(survey, [verdicts.premise(FAILS)]) == survey
    with pytest.raises(BadInput, match="premises"):
        verdicts.under(found, [HOLDS])


def test_a_premise_is_marked_for_readers_only() -> None:
    one = verdicts.premise(verdicts.stated("classes", "4", True, "found"))
    assert one.quantity == "classes"
    shown = show.verdict(decide("lagging-fig2", "quick", [one, HOLDS])).data
    assert shown.count("takes for granted") == 1 and ">classes<" in shown


def test_a_stated_check_has_words_in_place_of_an_interval() -> None:
    checks = [verdicts.stated("classes", "4", holds, "found") for holds in (True, False, None)]
    assert [c.outcome for c in checks] == [Outcome.HOLDS, Outcome.FAILS, Outcome.OPEN]
    for check in checks:
        assert check.words == "found" and check.measured.n == 0
    assert decide("lagging-fig2", "quick", checks).verdict is Verdict.MIXED


def test_a_verdict_needs_a_known_item_and_checks() -> None:
    with pytest.raises(BadInput, match='did you mean "lagging-fig2"'):
        decide("laging-fig2", "quick", [HOLDS])
    with pytest.raises(BadInput, match="at least one central"):
        decide("lagging-fig2", "quick", [])
    with pytest.raises(BadInput, match="beside premises"):
        decide("lagging-fig2", "quick", [verdicts.premise(HOLDS)])
