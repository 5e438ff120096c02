"""Ranks of methods beside the printed ones, and which to choose, on numbers made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion import show
from companion.claims import groups as benchmarks
from companion.claims.reference import Result
from companion.methods import leaderboard
from posterior_collapse.runs import Spec

PRINTED = pd.DataFrame(
    {
        "method_key": ["anneal", "beta-vae(beta=0.4)", "bn-vae(gamma=0.6)", "lagging+anneal", ""],
        "mi": [0.1, 5.1, 5.7, 2.4, 9.0],
    }
)
METHODS = (
    benchmarks.ANNEAL,
    benchmarks.BETA,
    benchmarks.BATCH_NORM,
    benchmarks.ANNEALED_AGGRESSIVE,
)


def results(method: str, *values: float) -> list[Result]:
    none = pd.DataFrame()
    return [
        Result(
            Spec("text-yelp", method, "medium", seed), {"mutual_information": v}, none, {}, {}, []
        )
        for seed, v in enumerate(values)
    ]


def by_method(groups: list[tuple[float, ...]]) -> dict[str, list[Result]]:
    return {m: results(m, *values) for m, values in zip(METHODS, groups, strict=True)}


def test_the_printed_order_gives_a_correlation_of_one() -> None:
    found = by_method([(0.0, 0.1), (3, 3.1), (4, 4.1), (1, 1)])
    order = leaderboard.compare(found, PRINTED)
    assert order.correlation is not None
    assert order.correlation.mean == pytest.approx(1.0) and order.correlation.n == 4
    assert list(order.rows["MI, printed"]) == ["0.1", "2.4", "5.1", "5.7"]
    assert (order.apart, order.pairs) == (6, 6)


def test_the_opposite_order_gives_minus_one_and_wide_spreads_are_not_apart() -> None:
    found = by_method([(4, 6), (1, 3), (0, 2), (2, 4)])
    order = leaderboard.compare(found, PRINTED)
    assert order.correlation is not None and order.correlation.mean == pytest.approx(-1.0)
    # means 5, 2, 1, 3 with standard deviations of 1.41: only 5 against 2 and 1 differ by 2.83
    assert (order.apart, order.pairs) == (2, 6)
    assert "−1.00" in leaderboard.sentence(order) and "2 are further" in leaderboard.sentence(order)


def test_methods_without_a_printed_number_are_left_out() -> None:
    names = {"iwae(k=5)": 1.0, benchmarks.BETA: 2.0}
    order = leaderboard.compare({m: results(m, value) for m, value in names.items()}, PRINTED)
    assert len(order.rows) == 1 and order.correlation is None and order.pairs == 0
    assert "Too few" in leaderboard.sentence(order)


def test_a_printed_row_stands_for_one_method() -> None:
    names = {benchmarks.LOW_BETA: 6.0, benchmarks.BETA: 4.0}
    order = leaderboard.compare({m: results(m, value) for m, value in names.items()}, PRINTED)
    assert list(order.rows["MI"]) == ["4.00"]  # of beta 0.4, which is what is printed


# --- which to choose ------------------------------------------------------------------------------

NLL, CODES, SAMPLES, CURE = leaderboard.NEEDS
ALIVE = {"mutual_information": 1.0}


def board(**rows: list[dict[str, Any]]) -> leaderboard.Board:
    """A data set: method, with two underscores for a plus -> metrics of every seed."""
    none = pd.DataFrame()
    runs = {
        name: [
            Result(Spec("text-yelp", name, "medium", n), {**ALIVE, **one}, none, {}, {}, [])
            for n, one in enumerate(seeds)
        ]
        for name, seeds in rows.items()
    }
    return leaderboard.Board("Yelp", "../lagging/text", runs)


def seeds(name: str, *values: float, **more: float) -> list[dict[str, Any]]:
    return [{name: value, **more} for value in values]


def test_a_clear_winner_is_named_with_its_lead() -> None:
    shown = board(vae=seeds("nll", 40.0, 40.1, 40.2), lagging=seeds("nll", 37.0, 37.1, 37.2))
    advice = leaderboard.advise(shown, NLL)
    assert advice is not None and advice.choice == "Aggressive (lagging)"
    assert advice.evidence == "NLL 37.10 (0.10), 3 seeds; next VAE, by 3.00 [3.00, 3.00]"


def test_more_is_better_where_the_metric_says_so() -> None:
    shown = board(
        vae=seeds("accuracy", 0.60, 0.61, 0.62), lagging=seeds("accuracy", 0.80, 0.81, 0.82)
    )
    advice = leaderboard.advise(shown, CODES)
    assert advice is not None and advice.choice == "Aggressive (lagging)"
    assert "accuracy, % 81.0 (1.0)" in advice.evidence and "by −20.0" in advice.evidence


def test_what_the_interval_does_not_part_is_a_tie() -> None:
    """Differences of −0.4 and 0.5 at the two seeds: an interval about them holds zero."""
    shown = board(
        vae=seeds("nll", 37.0, 37.5), lagging=seeds("nll", 37.4, 37.0), ae=seeds("nll", 50.0, 50.1)
    )
    advice = leaderboard.advise(shown, NLL)
    assert advice is not None and advice.choice == "Aggressive (lagging), tied with VAE"


def test_methods_without_a_common_seed_tie_as_nothing_parts_them() -> None:
    shown = board(vae=seeds("nll", 40.0, 40.1, 40.2), lagging=seeds("nll", 37.0, 37.1, 37.2))
    moved = [
        Result(Spec("text-yelp", "lagging", "medium", n + 5), r.metrics, r.history, {}, {}, [])
        for n, r in enumerate(shown.runs["lagging"])
    ]
    advice = leaderboard.advise(shown._replace(runs={**shown.runs, "lagging": moved}), NLL)
    assert advice is not None and "tied with VAE" in advice.choice


def test_with_one_seed_each_nothing_is_chosen() -> None:
    advice = leaderboard.advise(board(vae=seeds("nll", 40.0), lagging=seeds("nll", 37.0)), NLL)
    assert advice is not None and advice.choice == "too few seeds to say"
    assert "Aggressive (lagging) with NLL 37.00" in advice.evidence


def test_a_cure_must_be_alive_at_every_seed_where_the_vae_collapses() -> None:
    gone, half = {"mutual_information": 0.0}, [{"mutual_information": 0.0}, {}]
    fast = [{"time_ratio": 1.0, **one} for one in half]
    shown = board(
        vae=seeds("time_ratio", 1.0, 1.0, **gone),
        ae=fast,
        lagging=seeds("time_ratio", 6.0, 6.1),
    )
    advice = leaderboard.advise(shown, CURE)
    assert advice is not None and advice.choice == "Aggressive (lagging), the only one"
    healthy = board(vae=seeds("time_ratio", 1.0, 1.0), lagging=seeds("time_ratio", 6.0, 6.1))
    advice = leaderboard.advise(healthy, CURE)
    assert advice is not None and advice.choice == "nothing to cure"


def test_a_need_that_is_not_measured_has_no_line() -> None:
    shown = board(vae=seeds("nll", 40.0, 40.1))
    assert leaderboard.advise(shown, SAMPLES) is None
    assert [line.need for line in leaderboard.decisions([shown])] == [NLL.words, CURE.words]


def test_the_decision_table_leads_to_the_evidence() -> None:
    lines = leaderboard.decisions([board(vae=seeds("nll", 40.0, 40.1))])
    shown = leaderboard.decision_table(lines, "Which.").data
    assert shown.count('<a href="../lagging/text.html">results</a>') == len(lines)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_holds_who_is_beaten_by_nobody(points: list[tuple[int, int]]) -> None:
    kept = {points[place] for place in leaderboard.front(points, (1, -1))}
    beaten = {
        (x, y)
        for x, y in points
        if any((a > x and b <= y) or (a >= x and b < y) for a, b in points)
    }
    assert kept == set(points) - beaten


def test_fences_leave_out_what_diverged_and_nothing_else() -> None:
    sample = [37.0, 37.2, 37.4, 37.6, 38.5, 39.2]
    assert leaderboard.fences(sample) == (37.0, 39.2)
    low, high = leaderboard.fences([*sample, 320.0])
    assert low == 37.0 and 39.2 < high < 60
    assert leaderboard.fences([1.0, 1.0, 1.0, 5.0]) == (1.0, 5.0)  # no spread to measure by


def test_every_value_of_the_reference_results_is_in_the_page() -> None:
    """And the time is over the VAE's at the same seed."""
    shown = leaderboard.boards({})
    titles = [one.title for one in shown]
    assert any("MNIST" in title for title in titles) and any("Yelp" in title for title in titles)
    data: Any = leaderboard.payload(shown)
    for one, sent in zip(shown, data["sets"], strict=True):
        for group, row in zip(one.runs.values(), sent["rows"], strict=True):
            known = [r.metrics["nll"] for r in group if r.metrics["nll"] is not None]
            assert row["values"].get("nll", []) == pytest.approx(known, abs=1e-4)
            assert row["seeds"] == len(group)
        vae = one.runs.get("vae", [])
        assert all(r.metrics["time_ratio"] == 1.0 for r in vae)
    assert all(math.isfinite(v) for s in data["sets"] for r in s["rows"] for v in _numbers(r))


def _numbers(row: dict[str, Any]) -> list[float]:
    return [value for values in row["values"].values() for value in values]


def test_wide_tables_are_told_apart_from_narrow_ones() -> None:
    narrow = pd.DataFrame({"method": ["VAE"], "NLL": [1.0]})
    wide = pd.DataFrame({f"a long heading {n}": np.zeros(2) for n in range(14)})
    assert "pc-wide" not in show.table(narrow, "t").data
    assert "pc-wide" in show.table(wide, "t").data
