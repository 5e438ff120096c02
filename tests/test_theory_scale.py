"""Scale-VAE's statements: printed values, the code that trains, properties, and the pictures."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from companion.claims import formulas as mixture
from companion.claims.statements import Standing, examine
from companion.scale import statements as scale
from companion.scale import statements_dynamics as scale_dynamics
from companion.scale import theory as pictures
from pages_help import run_cell
from posterior_collapse import gaussian
from posterior_collapse.layers import Progress
from posterior_collapse.objectives import ScaledELBO
from posterior_collapse.posteriors import Scaled, ScaledNormal
from posterior_collapse.priors import UnitNormal

CASES = {
    case["name"]: case
    for case in json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
}
STATEMENTS = {statement.id: statement for statement in scale.STATEMENTS}


def compared(name: str, found: dict[str, Any]) -> None:
    """Values against those of a case, with its tolerances."""
    case = CASES[name]
    for key, value in found.items():
        expected = case["expected"][key]
        np.testing.assert_allclose(
            value, expected, rtol=case["rtol"], atol=max(case["atol"], 1e-13), err_msg=key
        )


@pytest.mark.parametrize("name", ["scale_f1", "scale_not_a_bound"])
def test_printed_objective(name: str) -> None:
    i = CASES[name]["inputs"]
    found = scale.linear(i["w"], i["s"], i["x"], i["mu"], i["sigma2"], i["f"])
    values = {
        "rec_qhat": found.reconstruction,
        "kl_q_p": found.reconstruction - found.objective,
        "kl_qhat_p": found.reconstruction - found.elbo_unit,
        "kl_qhat_scaledprior": found.reconstruction - found.elbo_scaled,
        "L_scale": found.objective,
        "elbo_prior1": found.elbo_unit,
        "elbo_scaled_prior": found.elbo_scaled,
        "logp_prior1": found.evidence_unit,
        "logp_scaled_prior": found.evidence_scaled,
        "gap_formula": scale.gap(i["sigma2"], i["f"]),
    }
    assert set(values) == set(CASES[name]["expected"])
    compared(name, values)


def test_printed_factor() -> None:
    i = CASES["scale_factor"]["inputs"]
    mean = np.array(i["mu"])
    found = {f"f_ddof{ddof}": scale.batch_factor(mean, i["des_std"], ddof) for ddof in (0, 1)}
    compared("scale_factor", found)
    for ddof in (0, 1):
        after = (found[f"f_ddof{ddof}"] * mean).std(0, ddof=ddof)
        np.testing.assert_allclose(after, i["des_std"], rtol=1e-13)


@pytest.mark.parametrize(
    "name", [n for n, c in CASES.items() if c["group"] == "mi" and "mini" not in n]
)
def test_printed_information(name: str) -> None:
    i, expected = CASES[name]["inputs"], CASES[name]["expected"]
    found = mixture.parts(i["mu"], i["sigma"])
    table = mixture.divergences(i["mu"], i["sigma"])
    values = {
        "I_q": found.information,
        "kl_qagg_p": found.aggregate_kl,
        "E_kl": found.rate,
        "H_qagg": found.entropy,
        "lautum": found.reverse,
        "mpd_V": table.mean(),
        "log_N": math.log(len(i["mu"])),
    }
    compared(name, {key: value for key, value in values.items() if key in expected})
    assert found.information + found.reverse == pytest.approx(table.mean(), abs=1e-12)
    assert found.information + found.aggregate_kl == pytest.approx(found.rate, rel=1e-12)


# --- properties -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(mixture.sets(), st.floats(0.0, 8.0))
def test_mpd_of_scaled_posteriors_is_the_librarys(case: mixture.Set, factor: float) -> None:
    mean, sd = (torch.from_numpy(values)[:, None] for values in case)
    library = gaussian.mutual_posterior_divergence(factor * mean, 2 * sd.log()).item()
    assert scale.scaled_mpd(*case, factor) == pytest.approx(library, rel=1e-10, abs=1e-10)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.floats(1.0, 4.0), st.integers(0, 1))
def test_information_grows_with_each_factor_in_two_dimensions(
    seed: int, more: float, dimension: int
) -> None:
    random = np.random.default_rng(seed)
    mean, sd = random.normal(size=(3, 2)), np.exp(random.uniform(-1.0, 0.7, (3, 2)))
    factor = np.ones(2)
    before = mixture.parts(factor * mean, sd, 4).information
    factor[dimension] = more
    assert mixture.parts(factor * mean, sd, 4).information >= before - 1e-8


def test_information_grows_in_many_random_mixtures() -> None:
    """sigma(x) over four orders of magnitude; none of 2000 falls."""
    random = np.random.default_rng(0)
    for _ in range(2000):
        points = random.integers(2, 7)
        mean, sd = random.normal(size=points), 10.0 ** random.uniform(-1.5, 0.5, points)
        low, high = np.sort(random.uniform(0.0, 4.0, 2))
        first, second = (mixture.parts(f * mean, sd, 4).information for f in (low, high))
        assert second >= first - 1e-8


def test_the_slope_can_be_negative_at_a_single_code() -> None:
    """So the sign for sigma(x) does not follow code by code, as it does for one sigma."""
    z = np.linspace(-5.0, 5.0, 201)
    varied = scale.covariance(z, mixture.MEAN, mixture.SD, 1.3)
    single = scale.covariance(z, mixture.MEAN, np.full(4, 0.6), 1.3)
    assert varied.min() < -1.0 and single.min() >= -1e-12


@settings(max_examples=60, deadline=None)
@given(scale.families(), st.integers(1, 30), st.integers(0, 6))
def test_excess_is_the_integral(family: scale.Intervals, factor: int, level: int) -> None:
    """Against a sum over the cells between the ends, at f = factor / 10."""
    f = Fraction(factor, 10)
    ends = sorted({f * m + side * r for m, r in family for side in (-1, 1)})
    total = Fraction(0)
    for low, high in zip(ends, ends[1:], strict=False):
        middle = (low + high) / 2
        count = sum(abs(middle - f * m) <= r for m, r in family)
        total += max(count - level, 0) * (high - low)
    assert scale.excess(family, f, level) == total


def test_the_lemma_needs_one_factor_for_all() -> None:
    """Centres that move at other speeds can raise the excess."""
    apart, together = [(-2, 1), (2, 1)], [(0, 1), (0, 1)]
    assert scale.excess(together, Fraction(1), 1) > scale.excess(apart, Fraction(1), 1) == 0


@settings(max_examples=100, deadline=None)
@given(st.floats(1.0, 10.0), st.floats(1e-4, 1.0), st.floats(-3.0, 3.0))
def test_gaps_are_not_negative_and_are_those_of_the_library(
    factor: float, variance: float, mean: float
) -> None:
    m, v, f = (torch.tensor([[value]], dtype=torch.float64) for value in (mean, variance, factor))
    paid = gaussian.kl_to_standard_normal(m, v.log()).item()
    scaled = gaussian.kl(f * m, v.log(), torch.zeros_like(m), 2 * f.log()).item() - paid
    unit = gaussian.kl_to_standard_normal(f * m, v.log()).item() - paid
    assert float(scale.gap(variance, factor)) == pytest.approx(scaled, abs=1e-9)
    assert float(scale.unit_gap(mean, factor)) == pytest.approx(unit, abs=1e-9 * factor**2)
    assert min(scaled, unit) >= -1e-9


def test_size_of_the_gap_at_ten() -> None:
    assert float(scale.gap(0.0, 10.0)) == pytest.approx(2.3026, abs=5e-5)
    assert float(scale.gap(1.0, 10.0)) == pytest.approx(1.8076, abs=5e-5)
    assert float(scale.gap(2.0, 1.5)) < 0.0  # a variance above 1
    assert float(scale.gap(0.1, 0.5)) < 0.0  # a factor below 1
    assert float(scale.unit_gap(0.3, 0.5)) < 0.0


@pytest.mark.parametrize("prior", [1.0, 3.0])
def test_evidence_is_an_integral(prior: float) -> None:
    found = scale.linear(0.8, 0.5, 1.1, 0.3, 0.4, 3.0)
    density, _ = quad(
        lambda z: math.exp(
            float(mixture.log_normal(1.1, 0.8 * z, 0.5) + mixture.log_normal(z, 0.0, prior))
        ),
        -30,
        30,
        points=(1.0,),
        epsabs=1e-13,
    )
    evidence = found.evidence_unit if prior == 1.0 else found.evidence_scaled
    assert math.log(density) == pytest.approx(evidence, abs=1e-10)


# --- the code that trains -------------------------------------------------------------------------


class Decoder:
    """A linear decoder N(w z, s^2) behind a given scaled posterior."""

    prior = UnitNormal(torch.zeros(1, dtype=torch.float64))

    def __init__(self, w: float, s: float, posterior: ScaledNormal) -> None:
        self.w, self.s, self.q = w, s, posterior

    def posterior(self, x: torch.Tensor) -> ScaledNormal:
        return self.q

    def log_likelihood(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return torch.distributions.Normal(self.w * z[..., 0], self.s).log_prob(x)


def test_objective_of_the_code_that_trains_is_l_scale() -> None:
    i = CASES["scale_not_a_bound"]["inputs"]
    copies = 400_000
    one = torch.ones(copies, 1, dtype=torch.float64)
    factor = torch.tensor([i["f"]], dtype=torch.float64)
    q = ScaledNormal(i["mu"] * one, math.log(i["sigma2"]) * one, factor)
    x = torch.full((copies,), i["x"], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    terms = ScaledELBO()(Decoder(i["w"], i["s"], q), x, Progress(0, 1), generator)
    expected = CASES["scale_not_a_bound"]["expected"]
    error = terms.reconstruction.std().item() / math.sqrt(copies)
    assert terms.kl[0].item() == pytest.approx(expected["kl_q_p"], rel=1e-12)
    assert -terms.loss.item() == pytest.approx(expected["L_scale"], abs=5 * error)
    # It tells L_scale from both ELBOs, by far.
    assert 5 * error < 0.1 * (expected["L_scale"] - expected["elbo_scaled_prior"])


@pytest.mark.parametrize("ddof", [0, 1])
def test_average_factor_is_the_harmonic_mean(ddof: int) -> None:
    random = np.random.default_rng(1)
    batches = [spread * random.normal(size=(6, 3)) for spread in (0.1, 0.4, 1.0)]
    stds = np.array([batch.std(0, ddof=ddof) for batch in batches])
    found = scale.average_factor(batches, 0.7, ddof)
    np.testing.assert_allclose(found, 0.7 * (1.0 / stds).mean(0), rtol=1e-12)
    assert (found * stds.mean(0) > 0.7).all()


def test_a_batch_without_spread_keeps_the_factor_finite() -> None:
    flat = np.full((4, 2), 0.5)
    assert scale.batch_factor(flat, 0.7, 1).tolist() == [1.0, 1.0]
    varied = np.array([[0.0, 0.0], [1.0, 2.0]])
    once = scale.average_factor([varied], 0.7, 1)
    np.testing.assert_allclose(scale.average_factor([varied, flat], 0.7, 1), once, rtol=1e-14)


def test_the_module_under_test_is_that_of_the_method() -> None:
    head = Scaled(0.7).build(3, 3)
    assert type(head) is type(scale.head_of(3, 0.7, 1))


# --- the statements -------------------------------------------------------------------------------


def test_the_smallest_counter_example_is_the_one_shown() -> None:
    found = examine(STATEMENTS["S6"], mutate=False)
    assert found.standing is Standing.CORRECTED and found.printed is not None
    x, noise, mean, variance, factor = pictures.EXAMPLES["smallest"]
    text = f"x = ±{x:g}, decoder N(z, {noise:g}²), q = N(±{mean:g}, {variance:g}), f = {factor:g}"
    assert found.printed.counterexample.startswith(text)
    for case in pictures.EXAMPLES.values():
        shown = scale.example(*case)
        assert shown.objective > max(shown.evidence_unit, shown.evidence_scaled)
        assert shown.elbo_unit < shown.evidence_unit
        assert shown.elbo_scaled < shown.evidence_scaled


def test_pictures() -> None:
    found = pictures.growth()
    assert (np.diff(found.information) > -1e-9).all() and (np.diff(found.mpd) > 0).all()
    assert found.information[-1] == pytest.approx(math.log(4), abs=0.02)
    assert found.information[0] > 0.05  # widths alone tell something
    for frames in (pictures.gap_frames((0.1, 1.0)), pictures.growth_frames((0, 2))):
        assert len(frames.figures) == len(frames.labels) == 2
        sizes = {tuple(figure.get_size_inches()) for figure in frames.figures}
        assert len(sizes) == 1
    areas = [axes.get_title().rsplit(" ", 1)[1] for axes in pictures.intervals_figure().axes]
    assert sorted(areas, key=float, reverse=True) == areas


def test_table_of_the_average_factor() -> None:
    """Against simulation for batches of eight."""
    std = np.random.default_rng(2).normal(size=(100_000, 8)).std(1, ddof=1)
    table = run_cell("scale/theory", "scale-theory-24")["factors"].set_index("batch size")
    found = table["mean Std(f̄ μ) / des_std"]["8"]
    assert (1.0 / std).mean() * std.mean() == pytest.approx(found, rel=5e-3)


# --- where the means settle -----------------------------------------------------------------------


@pytest.mark.parametrize(("noise", "des_std"), [(0.3, 0.7), (0.8, 0.7), (0.8, 1.1), (1.2, 0.7)])
@pytest.mark.parametrize("start", [0.5, 4.0])
def test_a_linear_model_comes_back_to_the_fixed_point(
    noise: float, des_std: float, start: float
) -> None:
    """With the module that trains, encoder, variance and decoder all learning."""
    fixed = scale_dynamics.balance(1.3, noise, des_std)
    found = scale_dynamics.train_linear(start * fixed.factor, 1.3, noise, des_std, 12)
    assert found.factors[0] == pytest.approx(start * fixed.factor)
    assert found.factors[-1] == pytest.approx(fixed.factor, rel=0.01)
    assert found.second_moments[-1] == pytest.approx(1.0, abs=0.03)


def test_a_linear_model_does_not_settle_where_the_slope_is_below_minus_one() -> None:
    """r < 1/4: the statement says where there is no way back, too."""
    fixed = scale_dynamics.balance(1.3, 0.8, 0.3)
    assert fixed.share < 0.25 and scale_dynamics.slopes(fixed.share).follows < -1.0
    late = scale_dynamics.train_linear(1.1 * fixed.factor, 1.3, 0.8, 0.3, 16).factors[-6:]
    assert max(late) > 2.0 * min(late)


def test_the_fixed_point_is_stationary() -> None:
    """All derivatives of the loss at it, by differences."""
    v, noise, des_std, weight = 1.3, 0.6, 0.7, 0.8
    fixed = scale_dynamics.balance(v, noise, des_std, weight)

    def loss(rho: float, log_sd: float, w: float) -> float:
        variance = math.exp(2.0 * log_sd)
        rest = (v - w * fixed.factor * rho) ** 2 + w * w * variance
        kl = 0.5 * (rho * rho + variance - 1.0) - log_sd
        return rest / (2.0 * noise**2) + weight * kl

    place = [fixed.rho, 0.5 * math.log(fixed.variance), fixed.decoder]
    for k in range(3):
        ends = [[p + side * 1e-5 * (j == k) for j, p in enumerate(place)] for side in (-1, 1)]
        assert abs(loss(*ends[1]) - loss(*ends[0])) / 2e-5 < 1e-7
    assert fixed.factor * fixed.rho == pytest.approx(des_std)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_map_is_what_the_means_do_when_the_rest_is_held(share: float) -> None:
    """The best s for a factor by a search over s, with decoder and variance of the fixed point."""
    s0, variance, rho, noise = 0.7, 0.49 * (1.0 - share) / share, 0.4, 0.5
    fixed = scale_dynamics.Balance(s0 / rho, rho, variance, 0.0)
    assert fixed.share == pytest.approx(share)
    v = 1.7
    w = v * s0 / (s0**2 + variance)
    weight = s0 * w * (v - w * s0) / noise**2 / rho**2  # so that the fixed point is one
    for f in (0.3 * fixed.factor, fixed.factor, 5.0 * fixed.factor):
        s = np.linspace(0.0, 2.5 * v / w, 400_001)
        gained = -((v - w * s) ** 2) / (2 * noise**2) - 0.5 * weight * (s / f) ** 2
        following = s0 * f / s[np.argmax(gained)]
        assert scale_dynamics.epoch_map(f, fixed) == pytest.approx(following, rel=1e-4)
    step = 1e-5 * fixed.factor
    ends = [scale_dynamics.epoch_map(fixed.factor + k * step, fixed) for k in (-1, 1)]
    slope = (ends[1] - ends[0]) / (2 * step)
    assert slope == pytest.approx(scale_dynamics.slopes(share).held, abs=1e-6)


def test_a_stopped_gradient_pulls_along_the_scale() -> None:
    """So S8 is about the gradient that algorithm 1 has, and not about own factors as such."""
    slope, squares = scale_dynamics.own_slopes(3, 0.0)
    assert np.abs(slope).max() < 1e-12 and squares.min() > 0.1
    slope, squares = scale_dynamics.own_slopes(3, 1.0)
    np.testing.assert_allclose(slope, -squares, rtol=1e-9)


def test_factors_that_table_3_needs() -> None:
    found = run_cell("scale/theory", "scale-theory-35")["table3"]
    shown = found["f is at least"].tolist()
    expected = [
        d * math.sqrt(16.0 / kl)
        for d, kl in zip(found["des_std"].astype(float), found["kl"].astype(float), strict=True)
    ]
    assert len(shown) == 9 and shown == pytest.approx(expected, abs=0.006)


def test_pictures_of_the_way_back() -> None:
    figure = pictures.return_figure(epochs=2)
    assert [len(axes.get_lines()) for axes in figure.axes] == [6, 5]
    lines = figure.axes[1].get_lines()
    starts = sorted(float(np.asarray(line.get_ydata())[0]) for line in lines[:4])
    assert starts == pytest.approx([0.5, 0.5, 4.0, 4.0])
    table = run_cell("scale/theory", "scale-theory-32")["fixed_points"]
    wanted = table["des_std"].astype(float).tolist()
    assert (table["f*"] * table["ρ*"]).tolist() == pytest.approx(wanted, rel=1e-9)
