"""DU-VAE's statements D1 to D9: printed values, the papers' ranges, limits, and the page's data."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from companion.claims.formulas import ALPHA
from companion.du import statements as du
from companion.du import statements_dropout as du_dropout
from companion.du import theory as theory_du
from companion.du.statements_dropout import Dropout
from posterior_collapse import gaussian
from posterior_collapse.posteriors import normed
from visible_cells import run_visible

Array = NDArray[Any]

CASES = {
    case["name"]: case
    for case in json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
}
# du_bounds has the cases in which the mask is integrated out of q.
NAMES = sorted(
    name
    for name, case in CASES.items()
    if name == "const_alpha"
    or case["group"] == "mpd"
    or (case["group"] == "dropout" and "marginalised" not in name)
)


# --- printed values -------------------------------------------------------------------------------


def of_mpd(inputs: dict[str, Any]) -> dict[str, Any]:
    mean, variance = np.array(inputs["mu"]), np.exp(inputs["logvar"])
    points, mpd = len(mean), du.pairwise_mpd(mean, variance)
    return {
        "mpd_V": mpd,
        "mpd_eq3_corrected": du.closed_mpd(mean, variance),
        "mpd_eq3_literal_minus1": du.printed_mpd(mean, variance),
        "mpd_U": du.over_distinct(mpd, points),
        "ce": du.conditional_entropy(variance),
        "sum_var_biased": du.mean_variance(mean),
        "var_ddof1": [du.mean_variance(column[:, None], 1) for column in mean.T],
        "bound_1_over_C_sumvar": du.variance_bound(mean, variance.max()),
    }


def of_dropout(inputs: dict[str, Any]) -> dict[str, Any]:
    mean, variance = np.array(inputs["mu"]), np.array(inputs["sigma2"])
    case = Dropout(mean, variance - ALPHA, inputs["p"], ALPHA)
    kept = du_dropout.kept_variance(variance, case.keep)
    average = case.keep * kept + (1.0 - case.keep) * ALPHA
    return {
        "E_sigma2hat_minus_E_sigma2": (average - variance).sum(),
        "mpd": du.pairwise_mpd(mean, variance),
        "mpd_B": du_dropout.dropped_mpd(case),
        "ce": du.conditional_entropy(variance),
        "ce_B": du_dropout.dropped_entropy(case),
        "eq8_rhs": du_dropout.dropout_bound(case),
        "mpd_B_limit_p0": du_dropout.limit_mpd(case),
        "ce_B_limit_p0": du_dropout.D8.constants["rest"],
    }


def of_alpha(inputs: dict[str, Any]) -> dict[str, Any]:
    alpha = du.noise()
    entropy = du.entropy(alpha)
    return {"alpha": alpha, "inv_alpha": 1.0 / alpha, "entropy_N(0,alpha)": entropy}


ANSWERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "mpd": of_mpd,
    "dropout": of_dropout,
    "const": of_alpha,
}
ELSEWHERE = {"E_kl", "au_ddof0_gt_0.01", "au_ddof1_ge_0.01"}  # in test_gaussian.py


@pytest.mark.parametrize("name", NAMES)
def test_printed_case(name: str) -> None:
    case = CASES[name]
    found = ANSWERS[name.partition("_")[0]](case["inputs"])
    assert set(found) | ELSEWHERE >= set(case["expected"])
    for key in set(found) & set(case["expected"]):
        np.testing.assert_allclose(
            found[key], case["expected"][key], case["rtol"], case["atol"], err_msg=key
        )


def test_every_case_is_answered() -> None:
    assert len(NAMES) == 5 + 4 + 1


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("dropout")])
def test_printed_case_by_all_masks(name: str) -> None:
    inputs, expected = CASES[name]["inputs"], CASES[name]["expected"]
    above = np.array(inputs["sigma2"]) - ALPHA
    case = Dropout(np.array(inputs["mu"]), above, inputs["p"], ALPHA)
    assert du_dropout.mpd_over_masks(case) == pytest.approx(expected["mpd_B"], rel=1e-12)
    assert du_dropout.entropy_over_masks(case) == pytest.approx(expected["ce_B"], rel=1e-12)


# --- the ranges of theory.md ----------------------------------------------------------------------


class Drawn(NamedTuple):
    """Posteriors under dropout, with a second and greater p."""

    case: Dropout
    greater: float


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    """N to 6, D to 4, alpha 10^[-6, 1], v 10^[-4, 3], means 10^[-3, 3], p in (.001, .999)."""
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    size = shape[0] * shape[1]
    unit = st.lists(st.floats(-1.0, 1.0), min_size=size, max_size=size)
    mean = 10.0 ** draw(st.floats(-3.0, 3.0)) * np.reshape(draw(unit), shape)
    above = 10.0 ** (3.5 * np.reshape(draw(unit), shape) - 0.5)
    p = st.floats(0.001, 0.999)
    low, high = sorted((draw(p), draw(p)))
    alpha = 10.0 ** draw(st.floats(-6.0, 1.0))
    return Drawn(Dropout(mean, above, low, alpha), high)


def close(found: Any, exact: Any) -> bool:
    return bool(abs(found - exact) <= 1e-12 + 1e-12 * abs(exact))


@settings(max_examples=150, deadline=None)
@given(drawn())
def test_mpd_in_closed_form_and_its_bound(one: Drawn) -> None:
    mean, variance = one.case.mean, one.case.variance
    exact = du.pairwise_mpd(mean, variance)
    # theory D2, and its form in O(N D), which the library computes
    scale = 1.0 + exact + float((variance.mean(0) * (1.0 / variance).mean(0)).sum())
    assert abs(du.closed_mpd(mean, variance) - exact) <= 1e-12 * scale
    fast = gaussian.mutual_posterior_divergence(
        torch.tensor(mean), torch.tensor(np.log(variance))
    ).item()
    assert abs(fast - exact) <= 1e-11 * scale
    bound = du.variance_bound(mean, variance.max())
    assert exact >= bound - 1e-12 * scale


@settings(max_examples=150, deadline=None)
@given(drawn())
def test_proposition_1_and_equation_8(one: Drawn) -> None:
    case, more = one.case, one.case._replace(keep=one.greater)
    exact = du_dropout.mpd_over_masks(case)
    assert close(du_dropout.dropped_mpd(case), exact)
    assert close(
        du_dropout.dropped_entropy(case),
        du_dropout.entropy_over_masks(case),
    )
    before = du.quadratic_mpd(case.mean, case.variance)
    middle = du_dropout.mpd_over_masks(more)
    slack = 1e-12 + 1e-12 * abs(exact)
    assert exact >= middle - slack and middle >= before - slack
    bound = du_dropout.dropout_bound(case)
    assert exact >= bound - slack
    assert (du_dropout.limit_mpd(case)) >= exact - slack
    moments = gaussian.variance_dropout_moments(torch.tensor(case.variance), case.keep, case.alpha)
    inverse = du_dropout.inverse_moment(case.variance - case.alpha, case.keep, case.alpha)
    np.testing.assert_allclose(moments.inverse_variance.numpy(), inverse, 1e-9)


@settings(max_examples=150, deadline=None)
@given(drawn())
def test_gaps_are_strict_away_from_equality(one: Drawn) -> None:
    """By the gaps themselves, which do not lose their digits in a difference."""
    above = np.maximum(one.case.above, 1e-3)
    low, high = one.case.keep, min(one.greater, 0.99)
    alpha = one.case.alpha
    assert (du_dropout.raised_inverse(above, high, alpha) > 0.0).all()
    assert (du_dropout.lowered_log(above, high, alpha) > 0.0).all()
    if low <= 0.99 * high:
        more, less = (du_dropout.raised_inverse(above, p, alpha) for p in (low, high))
        assert (more > less).all()
        more, less = (du_dropout.lowered_log(above, p, alpha) for p in (low, high))
        assert (more > less).all()


@settings(max_examples=100, deadline=None)
@given(drawn())
def test_average_variance_stays(one: Drawn) -> None:
    case = one.case
    found = sum(chance * variance for chance, variance in case.masked())
    np.testing.assert_allclose(found, case.variance, 1e-12)


# --- what statements leave open -------------------------------------------------------------------


def test_printed_forms_yield_the_counterexamples_that_the_page_shows() -> None:
    shown = {}
    for one in (du.D2, du.D3, du_dropout.D4b):
        assert one.printed is not None
        found = one.printed()
        assert not found.holds
        shown[one.id] = found.counterexample
    assert shown == {
        "D2": "means [[0.0, 0.0]], variances [[1.0, 1.0]]",  # two dimensions; one would not do
        "D3": "means [[0], [1]], variances [[1], [1]], C = 1",
        "D4b": "σ² − α = [1], p = 0.1, mask [0]: H = 0",
    }
    assert all(one.printed is None for one in (du.D1, du.D4, *du_dropout.STATEMENTS[1:]))


def test_a_lone_minus_one_adds_half_a_nat_a_dimension() -> None:
    random = np.random.default_rng(0)
    mean, variance = random.normal(size=(4, 7)), random.uniform(0.1, 2.0, (4, 7))
    right, wrong = (form(mean, variance) for form in (du.closed_mpd, du.printed_mpd))
    assert wrong - right == pytest.approx((7 - 1) / 2)


def test_no_larger_constant_in_equation_8() -> None:
    assert 1.0 < theory_du.bound_ratio(1e9, 1e5, keep=0.5) < 1.001
    assert theory_du.bound_ratio(1.0, 1.0) > 1.5


def test_limit_is_not_that_of_posteriors_with_variance_alpha() -> None:
    found = theory_du.curves(1.0)
    spread = 4 * 2 / 5 / 2  # four points at distance 1 of five, in two dimensions
    assert found.mpd_limit - spread / ALPHA == pytest.approx(2 * 0.5 * (1.0 / ALPHA - 1.0))


def test_equality_without_dropout_and_at_the_floor() -> None:
    mean = np.array([[0.0, 1.0], [2.0, -1.0]])
    above = np.array([[0.5, 0.1], [0.2, 3.0]])
    whole = Dropout(mean, above, 1.0, ALPHA)
    before = du.pairwise_mpd(mean, above + ALPHA)
    assert du_dropout.dropped_mpd(whole) == pytest.approx(before, 1e-13)
    floor = Dropout(mean, 0.0 * above, 0.4, ALPHA)
    before = du.pairwise_mpd(mean, floor.variance)
    assert du_dropout.dropped_mpd(floor) == pytest.approx(before, 1e-13)
    assert du_dropout.dropped_entropy(floor) == pytest.approx(0.0, abs=1e-12)


def test_statements_and_library_agree_on_alpha() -> None:
    assert pytest.approx(normed.ALPHA, rel=1e-15) == ALPHA
    assert du.noise() == pytest.approx(ALPHA, rel=1e-15)


def test_a_broken_assumption_breaks_the_bound() -> None:
    """With variances up to 9 and C = 1 some sets fall below, which a check must see."""
    clouds = theory_du.tightness()
    below = [bool((cloud.mpd < cloud.bound * (1 - 1e-9)).any()) for cloud in clouds]
    assert below == [False, False, False, True]
    np.testing.assert_allclose(clouds[0].mpd, clouds[0].bound, 1e-9)
    assert (clouds[2].mpd > clouds[2].bound).all()


# --- the page -------------------------------------------------------------------------------------


def test_curves_run_between_their_limits() -> None:
    for variance in theory_du.VARIANCES:
        one = theory_du.curves(variance)
        assert (np.diff(one.mpd) < 0).all() and (np.diff(one.entropy) > 0).all()
        assert one.mpd[-1] == pytest.approx(one.mpd_before) and one.keep[-1] == 1.0
        assert one.entropy[-1] == pytest.approx(one.entropy_before)
        assert one.mpd_limit > one.mpd[0] > 0.98 * one.mpd_limit
        assert 0.0 == one.entropy_limit < one.entropy[0] < 0.02
        assert (one.bound[one.keep < 1] < one.mpd[one.keep < 1]).all()


def test_frames_have_one_size_and_a_label_each() -> None:
    figures, labels = theory_du.frames()
    assert len(figures) == len(labels) == len(theory_du.VARIANCES) <= 15
    assert len({tuple(one.get_size_inches()) for one in figures}) == 1
    assert labels[6] == "σ² = 1: MPD 0.80 without dropout, 29.7 as p → 0"


def test_shares_of_masks() -> None:
    found = theory_du.zero_shares(0.8)
    assert found.sum() == pytest.approx(1.0)
    assert found[0] == pytest.approx(0.2**4) and found[4] == pytest.approx(0.8**4)


def test_the_code_in_view() -> None:
    """Every statement has a visible check, whose sides agree; and the table of the lone -1."""
    names, sides = run_visible("du/theory")
    assert set(sides) == {one.id for one in (*du.STATEMENTS, *du_dropout.STATEMENTS)}
    for id in ("D3", "D9"):
        left, right = sides.pop(id)
        assert left > right > 0.0
    for id, (left, right) in sides.items():
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=0.02 if id == "D4" else 1e-6)
    table = names["collapsed"]
    assert (table.iloc[:, 1:3] == 0.0).all(axis=None)
    assert table.iloc[:, 3].tolist() == [0.0, 0.5, 3.5, 15.5]


def test_every_figure_is_drawn() -> None:
    assert len(theory_du.tightness_figure(theory_du.tightness(20)).axes) == 1
    assert len(theory_du.noise_figure().axes) == 2
    assert len(theory_du.gap_figure().axes) == 2
    bound = theory_du.bound_figure().axes[0]
    heights = [line.get_ydata() for line in bound.lines[:4]]
    assert all(min(line) > 1.0 and math.isfinite(max(line)) for line in heights)
