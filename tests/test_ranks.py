"""Ranks of methods beside the printed ones, on numbers made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from companion.claims import groups as benchmarks
from companion.methods import leaderboard

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


def results(*values: float) -> list[Any]:
    return [SimpleNamespace(metrics={"mutual_information": value}) for value in values]


def by_method(groups: list[list[Any]]) -> dict[str, list[Any]]:
    return dict(zip(METHODS, groups, strict=True))


def test_the_printed_order_gives_a_correlation_of_one() -> None:
    found = by_method([results(0.0, 0.1), results(3, 3.1), results(4, 4.1), results(1, 1)])
    order = leaderboard.compare(found, PRINTED)
    assert order.correlation is not None
    assert order.correlation.mean == pytest.approx(1.0) and order.correlation.n == 4
    assert list(order.rows["MI, printed"]) == ["0.1", "2.4", "5.1", "5.7"]
    assert (order.apart, order.pairs) == (6, 6)


def test_the_opposite_order_gives_minus_one_and_wide_spreads_are_not_apart() -> None:
    found = by_method([results(4, 6), results(1, 3), results(0, 2), results(2, 4)])
    order = leaderboard.compare(found, PRINTED)
    assert order.correlation is not None and order.correlation.mean == pytest.approx(-1.0)
    # means 5, 2, 1, 3 with standard deviations of 1.41: only 5 against 2 and 1 differ by 2.83
    assert (order.apart, order.pairs) == (2, 6)
    assert "−1.00" in leaderboard.sentence(order) and "2 are further" in leaderboard.sentence(order)


def test_methods_without_a_printed_number_are_left_out() -> None:
    order = leaderboard.compare({"iwae(k=5)": results(1.0), benchmarks.BETA: results(2.0)}, PRINTED)
    assert len(order.rows) == 1 and order.correlation is None and order.pairs == 0
    assert "Too few" in leaderboard.sentence(order)


def test_a_printed_row_stands_for_one_method() -> None:
    found = {benchmarks.LOW_BETA: results(6.0), benchmarks.BETA: results(4.0)}
    order = leaderboard.compare(found, PRINTED)
    assert list(order.rows["MI"]) == ["4.00"]  # of beta 0.4, which is what is printed
