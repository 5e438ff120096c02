"""Ranks of methods beside the printed ones, on numbers made by hand."""

from __future__ import annotations

import pandas as pd
import pytest

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
