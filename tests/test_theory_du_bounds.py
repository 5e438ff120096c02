"""Bounds that do and do not prevent collapse: printed values, properties, counter-examples."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from companion.claims.formulas import ALPHA
from companion.claims.printed import printed
from companion.claims.statements import Statement, Way
from companion.claims.verdicts import Outcome, Verdict
from companion.du import bounds as pictures
from companion.du import statements as du
from companion.du import statements_bounds as du_bounds
from companion.du import statements_flows as flows
from companion.du.statements_dropout import Dropout, mpd_over_masks
from posterior_collapse import gaussian
from visible_cells import run_visible

CASES = {
    case["name"]: case
    for case in json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
}
Array = NDArray[np.float64]


def close(case: dict[str, Any], key: str) -> Any:
    """The expected value with the tolerances of its case."""
    return pytest.approx(case["expected"][key], rel=case["rtol"], abs=case["atol"])


def array(values: Any) -> Array:
    return np.array(values, dtype=float)


def dropped_mpd(mean: Array, variance: Array, keep: float) -> float:
    """MPD averaged over all masks."""
    return float(mpd_over_masks(Dropout(mean, variance - ALPHA, keep)))


# --- every printed value ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dropout_marginalised_d1.0", "dropout_marginalised_d4.0"])
def test_the_mask_integrated_out_of_the_printed_cases(name: str) -> None:
    case = CASES[name]
    mean, variance = array(case["inputs"]["mu"]), array(case["inputs"]["sigma2"])
    keep, apart = case["inputs"]["p"], float(mean[1, 0] - mean[0, 0])
    assert du.pairwise_mpd(mean, variance) == close(case, "mpd")
    assert dropped_mpd(mean, variance, keep) == close(case, "mpd_B")
    # two of the four pairs are of a point with itself, and give the mixture no divergence
    mixed = du_bounds.mixture_kl(apart, 0.5, keep) / 2.0
    assert mixed == close(case, "mpd_of_mask_mixture")
    assert mixed < case["expected"]["mpd"] < case["expected"]["mpd_B"]
    assert mixed <= float(du_bounds.mixture_bound(apart, 0.5, keep)) / 2.0
    # the average over masks has those pairs as well
    own = du_bounds.dropped_kl(0.0, 0.5, keep) + du_bounds.dropped_kl(apart, 0.5, keep)
    assert own / 2.0 == close(case, "mpd_B")


def test_dropped_mpd_at_collapse_of_the_printed_case() -> None:
    case = CASES["dropout_N1_collapsed"]
    mean, variance = array(case["inputs"]["mu"]), array(case["inputs"]["sigma2"])
    assert du.pairwise_mpd(mean, variance) == close(case, "mpd")
    assert dropped_mpd(mean, variance, case["inputs"]["p"]) == close(case, "mpd_B")
    closed = du_bounds.collapsed_mpd(1.0, case["inputs"]["p"], dimensions=2)
    assert float(closed) == close(case, "mpd_B")
    assert du_bounds.collapsed_mpd(1.0, 0.0, dimensions=2) == close(case, "mpd_B_limit_p0")
    assert du.conditional_entropy(variance) == close(case, "ce")


def test_total_collapse_in_32_dimensions_has_a_dropped_mpd_of_49() -> None:
    mean = np.zeros((1, 32))
    found = dropped_mpd(mean, np.ones_like(mean), 0.8)
    assert found == pytest.approx(49.0156, abs=5e-5)
    assert float(du_bounds.collapsed_mpd(1.0, 0.8, dimensions=32)) == pytest.approx(found)


def test_batch_norm_of_the_printed_case() -> None:
    case = CASES["bn_exact"]
    inputs = case["inputs"]
    raw = array(inputs["mu"])[:, None]
    out = du_bounds.normalised(raw, inputs["gamma"], inputs["beta"], inputs["eps"])[:, 0]
    assert out == pytest.approx(array(case["expected"]["out"]), rel=case["rtol"], abs=case["atol"])
    assert out.mean() == close(case, "out_mean")
    assert out.var() == close(case, "out_var_biased")
    assert out.var(ddof=1) == close(case, "out_var_ddof1")
    assert du_bounds.normed_variance(raw, inputs["gamma"])[0] == close(case, "out_var_biased")
    assert 0.5 * (out**2).mean() == close(case, "half_E_mu2")
    assert du_bounds.floor(1, inputs["gamma"], inputs["beta"]) == close(case, "claimed_bound")


@pytest.mark.parametrize("name", ["bn_kl_bound", "bn_kl_bound_06"])
def test_the_floor_of_the_printed_cases(name: str) -> None:
    case = CASES[name]
    inputs = case["inputs"]
    assert du_bounds.floor(inputs["n"], inputs["gamma"], inputs["beta"]) == close(case, "bound")
    raw = np.linspace(-1.0, 1.0, 5)[:, None].repeat(inputs["n"], 1)
    mean = du_bounds.library_norm(raw, inputs["gamma"], inputs["beta"], eps=1e-30)
    assert du_bounds.average_kl(mean, np.ones_like(mean)) == close(case, "bound")


@pytest.mark.parametrize("name", ["iaf_indep", "iaf_dep_kills_mpd"])
def test_flows_of_the_printed_cases(name: str) -> None:
    case = CASES[name]
    inputs = case["inputs"]
    start = array(inputs["mu0"]), np.exp(array(inputs["logvar0"]))
    flow = array(inputs["gates[t][i][d]"]), array(inputs["shifts[t][i][d]"])
    codes = {"0": start, "T": flows.chained(*start, *flow)}
    tolerance = {"rel": case["rtol"], "abs": 1e-13}  # an MPD of 0 after rounded blocks
    for suffix, (mean, variance) in codes.items():
        for key, found in (
            ("ce", du.conditional_entropy(variance)),
            ("mpd", du.pairwise_mpd(mean, variance)),
            ("kl", du_bounds.average_kl(mean, variance)),
        ):
            assert found == pytest.approx(case["expected"][key + suffix], **tolerance), key


# --- printed tables -----------------------------------------------------------------------------


def test_floors_of_the_printed_tables_against_the_case() -> None:
    case = CASES["bn_bound_vs_tables"]
    inputs, expected = case["inputs"], case["expected"]
    floors = pictures.printed_floors()
    names = {
        "BN-VAE Scale T1": ("Scale-VAE", "BN-VAE (0.6)"),
        "BN-VAE DU T1": ("DU-VAE", "BN-VAE (0.6/0.6/0.5)"),
        "DU-VAE(.5,.9)": ("DU-VAE", "DU-VAE (0.5, 0.9)"),
        "DU-VAE(.5,.8)": ("DU-VAE", "DU-VAE (0.5, 0.8)"),
        "DU-VAE(.6,.8)": ("DU-VAE", "DU-VAE (0.6, 0.8)"),
    }
    for place, label in enumerate(inputs["rows"]):
        head, dataset = label.rsplit(" ", 1)
        paper, method = names[head]
        dataset = {"OMNI": "OMNIGLOT"}.get(dataset, dataset)
        chosen = floors[
            (floors["paper"] == paper)
            & (floors["method"] == method)
            & (floors["dataset"] == dataset)
        ]
        row = chosen.squeeze(axis=0)
        assert row["KL"] == inputs["reported_KL"][place], label
        assert row["floor"] == pytest.approx(expected["bound"][place], rel=case["rtol"]), label
        assert row["above"] == expected["satisfied"][place], label


def test_every_row_with_a_floor_is_there_and_flows_alone_go_below() -> None:
    floors = pictures.printed_floors()
    for paper, folder in (("DU-VAE", "du"), ("Scale-VAE", "scale")):
        table = printed(folder, "table1")
        normed = table["gamma"].notna() & ~table["method"].str.startswith("MAE")
        assert len(floors[floors["paper"] == paper]) == (normed | table["delta"].notna()).sum()
    assert set(floors[~floors["above"]]["holds for"]) == {"z⁰ of a flow"}
    assert (~floors["above"]).sum() == 5


def test_the_silent_rows_are_what_the_floors_say() -> None:
    silent = pictures.silent_rows(pictures.printed_floors())
    delta = silent["method"].str.startswith("δ")
    assert (silent[delta]["KL"] == 3.2).all() and delta.sum() == 4
    assert silent[delta]["floor"].to_list() == pytest.approx([32 * 0.1] * 4)
    assert set(silent[~delta]["method"]) == {"BN-VAE (0.0, 0.7)"}
    assert silent[~delta]["floor"].to_list() == pytest.approx([32 * 0.49 / 2] * 2)
    assert (silent[~delta]["KL"] == 7.8).all()


def test_the_verdict_on_the_tables_follows_from_the_rows() -> None:
    floors = pictures.printed_floors()
    found = pictures.decide_tables(floors)
    assert found.verdict is Verdict.HOLDS
    assert [check.measured.mean for check in found.checks] == [0, 6, 5]
    lowered = floors.copy()
    lowered.loc[lowered["holds for"] != "z⁰ of a flow", "above"] = False
    checks = pictures.decide_tables(lowered).checks
    assert [check.outcome for check in checks] == [Outcome.FAILS, Outcome.HOLDS, Outcome.HOLDS]
    informed = floors.assign(MI=1.0, above=True)
    assert pictures.decide_tables(informed).checks[1].outcome is Outcome.FAILS
    assert pictures.decide_tables(informed).checks[2].outcome is Outcome.FAILS


# --- properties ---------------------------------------------------------------------------------


@st.composite
def posteriors(draw: st.DrawFn) -> tuple[Array, Array]:
    """N up to 6, D up to 4; variances 10^-4 to 10^3 above alpha; means up to 10^-3 to 10^3."""
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    above = draw(st.lists(st.floats(-4, 3), min_size=math.prod(shape), max_size=math.prod(shape)))
    mean = draw(st.lists(st.floats(-1, 1), min_size=math.prod(shape), max_size=math.prod(shape)))
    scale = 10.0 ** draw(st.floats(-3, 3))
    variance = ALPHA + 10.0 ** np.reshape(above, shape)
    return scale * np.reshape(mean, shape), variance


@given(posteriors(), st.floats(0.001, 0.999))
def test_dropped_mpd_by_masks_is_that_of_the_librarys_moments(
    case: tuple[Array, Array], keep: float
) -> None:
    mean, variance = case
    moments = gaussian.variance_dropout_moments(torch.tensor(variance), keep, ALPHA)
    apart = ((mean[:, None] - mean[None]) ** 2).mean(0) + variance.mean(0)
    wanted = 0.5 * ((apart * moments.inverse_variance.numpy()).mean(0) - 1.0).sum()
    assert dropped_mpd(mean, variance, keep) == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@given(posteriors())
def test_own_definitions_agree_with_the_library(case: tuple[Array, Array]) -> None:
    mean, variance = case
    code = torch.tensor(mean), torch.tensor(variance).log()
    found = gaussian.mutual_posterior_divergence(*code).item()
    assert du.pairwise_mpd(mean, variance) == pytest.approx(found, rel=1e-9, abs=1e-9)
    kl = gaussian.kl_to_standard_normal(*code).mean().item()
    assert du_bounds.average_kl(mean, variance) == pytest.approx(kl, rel=1e-9, abs=1e-9)
    entropy = gaussian.conditional_entropy(code[1]).item()
    assert du.conditional_entropy(variance) == pytest.approx(entropy, rel=1e-9, abs=1e-9)


@given(st.floats(-4, 3), st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_dropped_mpd_at_collapse_grows_as_p_falls(above: float, one: float, two: float) -> None:
    variance = ALPHA + 10.0**above
    low, high = sorted((one, two))
    more, less = (float(du_bounds.collapsed_mpd(variance, p)) for p in (low, high))
    assert more >= less - 1e-12 * (1.0 + less)
    assert less > 0.0
    assert du_bounds.collapsed_mpd(variance, 1.0) == 0.0


@given(st.floats(0.0, 8.0), st.floats(0.06, 4.0), st.floats(0.02, 0.98))
def test_the_mixture_never_exceeds_the_average_over_masks(
    apart: float, variance: float, keep: float
) -> None:
    mixed = du_bounds.mixture_kl(apart, variance, keep)
    assert mixed <= float(du_bounds.dropped_kl(apart, variance, keep)) + 1e-9  # joint convexity
    assert mixed <= float(du_bounds.mixture_bound(apart, variance, keep)) + 1e-9


@given(st.floats(0.07, 4.0), st.floats(0.02, 0.98))
def test_far_apart_the_mixture_is_below_the_plain_divergence(variance: float, keep: float) -> None:
    (_, wide), (_, narrow) = du_bounds.mask_states(variance, keep)
    rest = float(du_bounds.mixture_bound(0.0, variance, keep))
    apart = math.sqrt(1.01 * max(rest, 0.0) / (0.5 / variance - 0.5 / wide)) + 1e-6
    bound = float(du_bounds.mixture_bound(apart, variance, keep))
    assert bound < apart**2 / (2.0 * variance) * (1.0 + 1e-9)


@given(st.floats(0.05, 200.0), st.integers(2, 60))
def test_one_point_apart_gives_any_mpd_and_little_information(mpd: float, points: int) -> None:
    mean = np.zeros((points, 1))
    mean[0] = float(du_bounds.outlier_distance(mpd, points))
    assert du.pairwise_mpd(mean, np.ones_like(mean)) == pytest.approx(mpd)
    informed = du_bounds.outlier_information(mpd, points)
    assert -1e-12 <= informed <= float(du_bounds.outlier_ceiling(points)) + 1e-9
    assert informed <= mpd + 1e-9  # I is at most MPD
    few = mean[:, 0], np.ones(points)
    if points <= 6:  # the same through the mixture of all points
        assert du_bounds.information(*few) == pytest.approx(informed, abs=1e-9)


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 3))
def test_the_librarys_flow_keeps_both_theorems(seed: int, dimensions: int, blocks: int) -> None:
    head = flows.random_flow(dimensions, blocks, seed, scale=0.5)  # and gates not near 0
    random = torch.Generator().manual_seed(seed)
    q = flows.flow_of(head, torch.randn((2, 3), generator=random, dtype=torch.float64))
    start = torch.randn((2, dimensions), generator=random, dtype=torch.float64)
    determinant = flows.log_determinant(q, start)
    assert (determinant < 0.0).all()
    with torch.no_grad():
        image = q.push(start)
        found = q.log_prob(image)
        wanted = q.base.log_prob(start) - determinant
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-7)


@given(st.floats(0.0, 9.0), st.floats(0.0, 9.0))
def test_the_librarys_flow_takes_mpd_wherever_the_context_wants(
    before: float, after: float
) -> None:
    q = flows.steered_flow(before, after)
    base = q.base.mean.numpy(), np.exp(q.base.logvar.numpy())
    assert du.pairwise_mpd(*base) == pytest.approx(before, rel=1e-9, abs=1e-9)
    image = flows.gaussian_image(q)
    assert du.pairwise_mpd(*image) == pytest.approx(after, rel=1e-9, abs=1e-9)
    assert image[1] == pytest.approx(np.full((2, 1), 0.25))  # gate 1/2, a sigmoid's


# --- forms that are false as printed --------------------------------------------------------------


def refuted(statement: Statement) -> str:
    """The counter-example to the printed form."""
    assert statement.printed is not None
    found = statement.printed()
    assert found.way is Way.SEARCH and not found.holds
    return found.counterexample


def test_the_counterexamples_that_the_page_shows() -> None:
    dropped = float(du_bounds.collapsed_mpd(1.0, 0.5))
    assert f"dropped MPD {dropped:.4f}" in refuted(du_bounds.D10)
    assert "N = 1, D = 1, p = 0.5" in refuted(du_bounds.D10)
    told = refuted(du_bounds.D10B)
    assert "without dropout" in told
    numbers = told.split("KL ")[1].split(" ")
    assert float(numbers[3]) < float(numbers[0])  # "A without dropout, B with"
    told = refuted(du_bounds.D13B)
    found, bound = (float(told.split(word)[1].split(" ")[0]) for word in ("KL ", "against "))
    assert found < 0.5 * bound
    assert f"{math.log(1.25):.4f}" in refuted(flows.D14)


def test_a_collapsed_encoder_goes_below_the_floor() -> None:
    """Four raw means of 1e-4 and 2e-4 through the library's layer, gamma = 0.6."""
    raw = np.array([[-2e-4], [-1e-4], [1e-4], [2e-4]])
    mean = du_bounds.library_norm(raw, 0.6)
    found = du_bounds.average_kl(mean, np.ones_like(mean))
    assert found == pytest.approx(0.000449, abs=5e-7)
    assert found == pytest.approx(du_bounds.leaking_floor(raw, 0.6, 0.0, du_bounds.EPS))
    assert du_bounds.floor(1, 0.6) == pytest.approx(0.18)
    names, _ = run_visible("du/bounds", until="du-bounds-check-D13b")
    table = names["floors_with_eps"]
    assert found == pytest.approx(table["average KL of the layer"][4])
    assert (table["corrected floor"].diff().dropna() < 0.0).all()


def test_the_code_in_view() -> None:
    """Every statement has a visible check, whose sides agree or are in order."""
    _, sides = run_visible("du/bounds")
    assert set(sides) == {one.id for one in (*du_bounds.STATEMENTS, *flows.STATEMENTS)}
    mixed, bound = sides.pop("D10b")
    assert 0.0 < mixed < bound < 16.0
    for left, right in sides.values():
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-9)
    assert sides["D12"][0][0] == pytest.approx(7.84)
    assert sides["D14"][0] < 0.0


# --- what the pictures show -----------------------------------------------------------------------


def test_only_kl_sees_the_shared_mean() -> None:
    same, apart = (pictures.measures(offsets) for offsets in (np.zeros(5), np.linspace(-1, 1, 5)))
    for found in (same, apart):
        assert (np.diff(found.kl) > 0.0).all()
        assert np.ptp(found.mi) < 1e-9 and np.ptp(found.mpd) < 1e-9
    assert same.mi.max() < 1e-9 and same.mpd.max() == 0.0
    assert (apart.mpd > apart.mi).all() and apart.mi.min() > 0.5


@pytest.mark.parametrize(
    "make", [pictures.abnormal_frames, pictures.mixture_frames, pictures.steered_frames]
)
def test_frames_have_one_size_and_a_label_each(make: Any) -> None:
    frames, labels = make()
    assert 2 < len(frames) == len(set(labels)) <= 15
    assert len({tuple(frame.get_size_inches()) for frame in frames}) == 1


def test_the_survey_of_flows_shows_what_the_theorems_say() -> None:
    survey = pictures.flow_survey()
    before, after, error = survey.entropy.T
    assert (after < before - 5.0 * error).all()
    before, after, error = survey.same_context.T
    assert (np.abs(after - before) < 5.0 * error).all()
    moved = (survey.own_context[:, 1] - survey.own_context[:, 0]) / survey.own_context[:, 2]
    assert moved.min() < -1.0 and moved.max() > 1.0
    chains = pictures.chain_entropies()
    assert (chains[:, 1] > chains[:, 0]).any() and (chains[:, 1] < chains[:, 0]).any()
