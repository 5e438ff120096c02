"""The statements on lagging inference: printed values, properties, estimators and pictures."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_expit
from scipy.stats import multivariate_normal

from companion.claims import formulas as mixture
from companion.claims.formulas import log_normal
from companion.claims.statements import Standing, examine
from companion.lagging import statements as lagging
from companion.lagging import theory as pictures
from pages_help import run_cell
from posterior_collapse.estimators import mutual_information, posterior_moments_1d

CASES = {
    case["name"]: case
    for case in json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
}
STATEMENTS = {statement.id: statement for statement in lagging.STATEMENTS}


def compared(name: str, found: dict[str, Any]) -> None:
    """Values against those of a case, with its tolerances."""
    case = CASES[name]
    for key, value in found.items():
        np.testing.assert_allclose(
            np.ravel(value),
            np.ravel(case["expected"][key]),
            rtol=case["rtol"],
            atol=max(case["atol"], 1e-14),
            err_msg=key,
        )


# --- printed values -------------------------------------------------------------------------------


def test_printed_gap() -> None:
    i = CASES["ppca_n1"]["inputs"]
    weight = np.ravel(i["W"])
    found = lagging.linear_gap(
        weight, i["s"], i["b"], i["x"], i["q_mu"][0], math.exp(i["q_logvar"][0])
    )
    values = {
        "logp": found.evidence,
        "post_mean": found.posterior_mean,
        "post_cov": found.posterior_variance,
        "rec": found.reconstruction,
        "kl": found.kl,
        "elbo": found.elbo,
        "kl_q_post": found.gap,
    }
    compared("ppca_n1", values)
    covariance = np.outer(weight, weight) + i["s"] ** 2 * np.eye(3)
    density = multivariate_normal(i["b"], covariance).logpdf(i["x"])
    assert found.evidence == pytest.approx(density, rel=1e-12)


def test_printed_gradient() -> None:
    i, expected = CASES["lagging_gradient"]["inputs"], CASES["lagging_gradient"]["expected"]
    w, s, x = i["w"], i["s"], i["x"]
    at = lagging.linear_gap([w], s, [0.0], [x], 0.0, 1.0)
    posterior = lagging.forces(w, s, x, at.posterior_mean, at.posterior_variance)
    prior = lagging.forces(w, s, x, 0.0, 1.0)
    values = {
        "dlogp_dw": posterior.evidence,
        "delbo_dw_at_posterior": posterior.both,
        "delbo_dw_at_prior_q": prior.both,
        "logp": at.evidence,
        "elbo_at_prior_q": at.elbo,
    }
    assert set(values) == set(expected)
    compared("lagging_gradient", values)
    assert abs(posterior.divergence) < 1e-14


def test_printed_minibatch_forms() -> None:
    i = CASES["mi_minibatch"]["inputs"]
    q = i["mu"], i["sigma"]
    values = {
        "I_exact_full_aggregate": lagging.within(*q, 4),
        "E_own_in_batch_S2_without_repl": lagging.within(*q, 2),
        "E_own_in_batch_S2_with_repl": lagging.within(*q, 2, replace=True),
        "E_own_in_batch_S3_without_repl": lagging.within(*q, 3),
        "fixed_batches_01_23": (lagging.of_batch(*q, (0, 1)) + lagging.of_batch(*q, (2, 3))) / 2,
        "E_independent_S1": lagging.independent(*q, 1),
        "E_independent_S2": lagging.independent(*q, 2),
        "E_leave_own_out_S1": lagging.excluded(*q, 1),
        "log2": math.log(2),
        "log3": math.log(3),
    }
    assert set(values) == set(CASES["mi_minibatch"]["expected"])
    compared("mi_minibatch", values)
    assert lagging.independent(*q, 1) == pytest.approx(mixture.divergences(*q).mean(), rel=1e-12)


def test_printed_ceilings() -> None:
    expected = CASES["mi_ceilings"]["expected"]
    table = run_cell("lagging/theory", "lagging-theory-18")["ceilings"]
    shown = dict(table[["aggregated", "log S"]].itertuples(index=False))
    assert shown["batches of 32"] == pytest.approx(expected["log32"], rel=1e-12)
    assert shown["batches of 50"] == pytest.approx(expected["log50"], rel=1e-12)
    assert shown["10000 test points"] == pytest.approx(expected["log10000"], rel=1e-12)
    # Separated posteriors reach it.
    mean = 100.0 * np.arange(5)
    for size in (2, 3, 5):
        assert lagging.within(mean, np.ones(5), size) == pytest.approx(math.log(size), rel=1e-12)


@pytest.mark.parametrize("name", ["riemann_ok", "riemann_sd_stride"])
def test_printed_grid_mean(name: str) -> None:
    i, expected = CASES[name]["inputs"], CASES[name]["expected"]
    (low, high), stride = i["interval"], i["stride"]
    assert ((low, high), stride) == (lagging.INTERVAL, lagging.STRIDE)
    mean, sd = i["post_mean"], i["post_sd"]
    found = lagging.riemann(lambda z: log_normal(z, mean, sd), low, high, stride)
    # The nodes themselves are rounded: 1e-15 of 20, in units of sd through the weights.
    case = CASES[name]
    assert found == pytest.approx(expected["riemann_mean"], rel=case["rtol"], abs=case["atol"])
    assert found - mean == pytest.approx(expected["error"], abs=1e-12)
    error = stride * float(lagging.stride_error((mean - low) / stride, sd / stride))
    assert error == pytest.approx(expected["error"], abs=1e-12)


def test_printed_posterior_of_a_bit() -> None:
    def log_joint(z: lagging.Array, sign: float) -> lagging.Array:
        return np.asarray(log_expit(sign * (2.0 * z + 0.3)) + log_normal(z, 0.0, 1.0))

    def moment(power: int, sign: float) -> float:
        z = np.linspace(-20.0, 20.0, 4001)
        return float(np.exp(log_joint(z, sign)) @ z**power * 0.01)

    evidence = mixture.Bits(np.array([2.0]), np.array([0.3]), np.array([1.0])).evidence
    means = [lagging.riemann(lambda z, s=s: log_joint(z, s), -20.0, 20.0, 0.01) for s in (1, -1)]
    values = {
        "p_x1": math.exp(evidence),
        "logp_x1": evidence,
        "post_mean_x1": means[0],
        "post_var_x1": moment(2, 1) / moment(0, 1) - means[0] ** 2,
        "post_mean_x0": means[1],
    }
    assert set(values) == set(CASES["posterior_bernoulli"]["expected"])
    compared("posterior_bernoulli", values)


# --- properties -----------------------------------------------------------------------------------

quarter = st.integers(-12, 12).map(lambda n: n / 4.0)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(quarter, quarter), min_size=1, max_size=4),
    st.floats(0.2, 3.0),
    quarter,
    st.floats(0.01, 4.0),
)
def test_gap_of_linear_decoders(
    pairs: list[tuple[float, float]], noise: float, mean: float, variance: float
) -> None:
    weight, x = np.array(pairs).T
    found = lagging.linear_gap(weight, noise, np.zeros(len(x)), x, mean, variance)
    scale = 1.0 + abs(found.elbo) + abs(found.gap)
    assert abs(found.elbo - (found.evidence - found.gap)) < 1e-10 * scale
    assert found.gap >= -1e-12


@settings(max_examples=100, deadline=None)
@given(quarter, st.floats(0.2, 3.0), quarter)
def test_second_force(weight: float, noise: float, x: float) -> None:
    """None at the posterior; against finite differences elsewhere; -w / s^2 at the prior."""
    at = lagging.linear_gap([weight], noise, [0.0], [x], 0.3, 0.8)
    exact = lagging.forces(weight, noise, x, at.posterior_mean, at.posterior_variance)
    assert abs(exact.divergence) < 1e-9 * (1.0 + abs(exact.both) + 1.0 / noise**2)
    assert lagging.forces(weight, noise, x, 0.0, 1.0).both == pytest.approx(-weight / noise**2)
    step = 1e-5
    up, down = (
        lagging.linear_gap([weight + h], noise, [0.0], [x], 0.3, 0.8) for h in (step, -step)
    )
    away = lagging.forces(weight, noise, x, 0.3, 0.8)
    size = 1e-5 * (1.0 + (1.0 + x**2 + weight**2) / noise**4)
    assert (up.evidence - down.evidence) / (2 * step) == pytest.approx(away.evidence, abs=size)
    assert (down.gap - up.gap) / (2 * step) == pytest.approx(away.divergence, abs=size)


def test_a_decoder_that_is_not_concave_escapes_the_third_part_of_l2() -> None:
    """log N(x; (wz)^2, 1): at q = p the ELBO rises with w when x is large."""
    z = mixture.grid(0.0, 1.0)
    prior = np.exp(log_normal(z, 0.0, 1.0)) * (z[1] - z[0])
    values = [float(prior @ log_normal(4.0, (w * z) ** 2, 1.0)) for w in (0.5, 0.6)]
    assert values[1] > values[0]


@settings(max_examples=30, deadline=None)
@given(mixture.sets(3, 4), st.integers(1, 3))
def test_minibatch_forms_are_ordered(case: mixture.Set, size: int) -> None:
    low, high = lagging.within(*case, size), lagging.independent(*case, size)
    exact, points = mixture.parts(*case).information, len(case[0])
    assert low <= min(exact, math.log(size)) + 1e-9
    assert high >= exact - 1e-9
    if size < points:
        assert lagging.excluded(*case, size) >= exact - 1e-9
        assert low <= lagging.within(*case, size + 1) + 1e-9


def test_independent_form_enumerates_ordered_batches() -> None:
    q = lagging.posteriors([0.5, -0.75, 1.5], [0.9, 0.35, 1.1])
    batches = list(itertools.product(range(3), repeat=3))
    slow = np.mean([q.against(range(3), batch) for batch in batches])
    fast = lagging.independent([0.5, -0.75, 1.5], [0.9, 0.35, 1.1], 3)
    assert fast == pytest.approx(float(slow), rel=1e-12)


def partitions(points: tuple[int, ...], size: int) -> list[list[tuple[int, ...]]]:
    """Every way to cut points into batches of a size."""
    if not points:
        return [[]]
    first, rest = points[0], points[1:]
    return [
        [(first, *others), *cut]
        for others in itertools.combinations(rest, size - 1)
        for cut in partitions(tuple(p for p in rest if p not in others), size)
    ]


@pytest.mark.parametrize("size", [2, 3])
def test_the_estimator_of_the_book_is_the_lower_form(size: int) -> None:
    """mutual_information(aggregate=S) takes batches in order; averaged over all cuts of the set."""
    mean = np.array([0.5, -0.75, 1.5, 0.0, 2.5, -1.0])
    sd = np.array([0.9, 0.35, 1.1, 0.64, 0.5, 0.8])
    generator = torch.Generator().manual_seed(size)
    values, errors = [], []
    for cut in partitions(tuple(range(6)), size):
        order = torch.tensor(list(itertools.chain(*cut)))
        q = (torch.from_numpy(a)[order][:, None] for a in (mean, 2 * np.log(sd)))
        found = mutual_information(*q, 4000, generator, aggregate=size)
        exact = np.mean([lagging.of_batch(mean, sd, batch) for batch in cut])
        assert found.n == size
        assert abs(found.value.item() - exact) < 5 * found.stderr.item()
        values.append(found.value.item())
        errors.append(found.stderr.item())
    assert len(values) == {2: 15, 3: 10}[size]
    error = math.sqrt(sum(e**2 for e in errors)) / len(errors)
    assert abs(np.mean(values) - lagging.within(mean, sd, size)) < 5 * error
    assert max(values) <= math.log(size) + 5 * max(errors)


@settings(max_examples=150, deadline=None)
@given(st.floats(0.0, 1.0), st.floats(0.01, 3.0))
def test_the_grid_is_wrong_by_half_a_stride_at_most(place: float, ratio: float) -> None:
    mean = 40.0 + place
    found = lagging.riemann(lambda z: log_normal(z, mean, ratio), 0.0, 80.0, 1.0)
    nearest = abs(place - round(place))
    assert abs(found - mean) <= max(nearest, 0.5 - nearest) + 1e-12
    if ratio >= 0.2:
        assert found - mean == pytest.approx(float(lagging.stride_error(mean, ratio)), abs=1e-11)
    if ratio >= 1.0:
        assert abs(found - mean) < 1e-7


def test_the_adaptive_grid_of_the_book_is_right_where_the_paper_grid_is_not() -> None:
    mean, sd = 0.123456, 0.001

    def log_joint(z: torch.Tensor) -> torch.Tensor:
        return -0.5 * ((z - mean) / sd).square()

    found = posterior_moments_1d(log_joint, 1, dtype=torch.float64)
    assert found.mean.item() == pytest.approx(mean, abs=1e-8)
    coarse = lagging.riemann(lambda z: log_normal(z, mean, sd), *lagging.INTERVAL, lagging.STRIDE)
    assert abs(coarse - mean) > 3e-3


# --- statements and pictures ----------------------------------------------------------------------


@pytest.mark.parametrize("id", ["L4", "L5"])
def test_printed_forms_are_refuted(id: str) -> None:
    found = examine(STATEMENTS[id], mutate=False)
    assert found.standing is Standing.CORRECTED
    assert found.printed is not None and found.printed.counterexample


def test_shown_counter_example_of_the_upper_bound() -> None:
    q = [0.0, 0.0, 0.0], [1.0, 1.0, 2.0]
    printed = STATEMENTS["L4"].printed
    assert printed is not None
    text = printed().counterexample
    assert f"{lagging.within(*q, 2):.4f}" in text
    assert f"{mixture.parts(*q).information:.4f}" in text


def test_force_pictures() -> None:
    weight = np.linspace(0.01, 2.0, 50)
    prior, posterior = (pictures.average_forces(weight, share) for share in (0.0, 1.0))
    np.testing.assert_allclose(prior.both, -weight, rtol=1e-12)
    np.testing.assert_allclose(posterior.divergence, 0.0, atol=1e-12)
    assert ((posterior.both > 0) == (weight < 1.0)).all()  # towards sqrt(2 - 1)
    # Near 0 the sign turns at the share s^2 / lambda.
    near = np.array([1e-4])
    for spread, noise in ((2.0, 1.0), (3.0, 0.8)):
        turn = noise**2 / spread
        below, above = (
            pictures.average_forces(near, share, spread, noise).both[0]
            for share in (0.99 * turn, 1.01 * turn)
        )
        assert below < 0.0 < above


def test_minibatch_pictures() -> None:
    close, far = (pictures.forms(d * np.arange(6.0), np.ones(6)) for d in (0.25, 6.0))
    for found in (close, far):
        assert (np.diff(found.within) > 0).all() and (np.diff(found.independent) < 0).all()
        assert found.within[-1] == pytest.approx(found.exact, rel=1e-12)
        assert (found.independent > found.exact).all()
    np.testing.assert_allclose(far.within, np.log(np.arange(1, 7)), rtol=0.02, atol=1e-9)
    assert close.exact < 0.2


def test_grid_pictures() -> None:
    worst = pictures.worst_error(np.array([0.05, 0.4, 1.0]))
    assert worst[0] == pytest.approx(0.5, abs=0.03)
    leading = 4 * math.pi * 0.16 * math.exp(-2 * math.pi**2 * 0.16)
    assert worst[1] == pytest.approx(leading, rel=0.02)
    assert 1e-8 < worst[2] < 1e-7
    table = run_cell("lagging/theory", "lagging-theory-22")["grid"]
    modes, *errors, edge = table["error"]
    assert max(abs(errors[0]), abs(errors[1])) < 1e-9 < min(abs(value) for value in errors[2:])
    assert abs(modes) > 1.0
    exact = 19.5 - math.exp(-0.125) / math.sqrt(2 * math.pi) / (0.5 * (1 + math.erf(0.5 / 2**0.5)))
    assert 19.5 + edge == pytest.approx(exact, abs=0.005)


def test_frames_have_one_size() -> None:
    for frames in (pictures.force_frames((0.0, 1.0)), pictures.minibatch_frames((0.5, 2.0))):
        assert len(frames.figures) == len(frames.labels) == 2
        assert len({tuple(figure.get_size_inches()) for figure in frames.figures}) == 1
    for figure in (pictures.gap_figure(), pictures.rate_figure(), pictures.stride_figure()):
        assert figure.axes[0].get_xlabel()
