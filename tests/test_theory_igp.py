"""The statements of IGP: printed cases, properties, counter-examples and the page's data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from companion.claims import linear as linear_vae
from companion.claims.statements import Standing, examine
from companion.igp import statements as igp
from companion.igp import statements_latent as latent
from companion.igp import statements_linear as linear
from companion.igp import theory as pictures
from posterior_collapse import gaussian
from visible_cells import run_visible

CASES = {
    case["name"]: case
    for case in json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
}
STATEMENTS = igp.STATEMENTS + linear.STATEMENTS + latent.STATEMENTS


# --- every printed value --------------------------------------------------------------------------


def of_tie(case: dict[str, Any]) -> dict[str, Any]:
    variance = np.array(case["sigma2"])
    names = ("min", "harm", "geo", "arith", "max")
    tied = {
        f"kl_iso_{name}": igp.kl_by_definition(np.full_like(variance, tie))
        for name, tie in zip(names, igp.ties(variance), strict=True)
    }
    return {"kl_diag": igp.kl_by_definition(variance), **tied}


def of_box(case: dict[str, Any]) -> dict[str, Any]:
    sigma, width = np.array(case["sigma"]), case["eps"]
    return {
        "P_each": igp.box_mass(sigma, width),
        "P_box_diag": igp.box_mass(sigma, width).prod(),
        "P_box_iso_min": igp.box_mass(np.full_like(sigma, sigma.min()), width).prod(),
        "dF_dsigma": igp.box_slope(sigma, width),
    }


def estimate_error(samples: int, dimensions: int) -> float:
    """Standard error of the estimate of a variance 1 that the dimensions share."""
    return math.sqrt(igp.squared_error(samples, dimensions))


def of_estimate(case: dict[str, Any]) -> dict[str, Any]:
    count, dimensions = case["N"], case["K"]
    alone, shared = (estimate_error(count, k) for k in (1, dimensions))
    # a known mean is worth one sample more
    known = [estimate_error(count + 1, k) for k in (1, dimensions)]
    return {
        "sd_diag_unbiased": alone * case["sigma2"],
        "sd_iso_unbiased": shared * case["sigma2"],
        "sd_diag_known_mean": known[0] * case["sigma2"],
        "sd_iso_known_mean": known[1] * case["sigma2"],
        "ratio": alone / shared,
    }


def of_aggregate(case: dict[str, Any]) -> dict[str, Any]:
    found = latent.aggregate(np.array(case["mu"]), np.exp(case["logvar"]))
    return {
        "logdet_cov_qagg": np.linalg.slogdet(found.covariance)[1],
        "mean_norm_sq": found.mean @ found.mean,
        "trace_cov": np.trace(found.covariance),
    }


def of_channel(case: dict[str, Any]) -> dict[str, Any]:
    found = latent.sigmoid_channel(np.array(case["q_mu"]), np.array(case["q_sd"]), 3.0)
    return {
        "H": found.entropy,
        "D": found.distortion,
        "R": found.rate,
        "I_q": found.information,
        "H_minus_D": found.information - found.decoder_gap,
    }


def of_linear(case: dict[str, Any]) -> dict[str, Any]:
    spectrum, noise = np.array(case["data_cov_eigenvalues"]), case["noise_var"]
    found = linear.linear_igp(spectrum, noise)
    total = found.mean_variance + found.variance - 1.0 - math.log(found.variance)
    return {
        "c": found.level,
        "w2": found.weights,
        "tau2": found.variance,
        "var_mu_eigenbasis": found.mean_variance,
        "kl_total": 0.5 * total.sum(),
        "kl_closed_form": found.kl,
        "active_rank_igp": (found.weights > 0).sum(),
        "active_dgp": (linear.dgp_weights(spectrum, noise) > 0).sum(),
    }


ANSWERS = {
    "igp_tie_below1": of_tie,
    "igp_tie_mixed": of_tie,
    "igp_box_generic": of_box,
    "igp_var_of_variance_N10_K32": of_estimate,
    "igp_var_of_variance_N2_K1": of_estimate,
    "igp_agg_generic": of_aggregate,
    "hdr_bound": of_channel,
    "lin_igp_a": of_linear,
}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_printed_case(name: str) -> None:
    case = CASES[name]
    found = ANSWERS[name](case["inputs"])
    assert found.keys() == case["expected"].keys()
    for key, value in case["expected"].items():
        np.testing.assert_allclose(
            found[key], value, rtol=case["rtol"], atol=case["atol"], err_msg=f"{name}.{key}"
        )


def test_every_case_of_the_group_is_compared() -> None:
    assert {name for name, case in CASES.items() if case["group"] == "igp"} <= set(ANSWERS)


def test_changes_by_a_tie_agree_with_the_printed_divergences() -> None:
    for name in ("igp_tie_below1", "igp_tie_mixed"):
        variance, expected = np.array(CASES[name]["inputs"]["sigma2"]), CASES[name]["expected"]
        raised = expected["kl_iso_min"] - expected["kl_diag"]
        assert igp.kl_raised(variance) == pytest.approx(raised, rel=1e-10)
        means = igp.ties(variance)
        lowered = igp.lowered(len(variance), means.arithmetic, means.geometric)
        exact = [expected["kl_diag"] - expected[f"kl_iso_{tie}"] for tie in ("geo", "arith")]
        assert lowered.tolist() == pytest.approx(exact, rel=1e-10)


# --- properties -----------------------------------------------------------------------------------


def variances(top: float) -> st.SearchStrategy[np.ndarray]:
    """One to six variances up to ``top``, down to a thousandth of it."""
    powers = st.lists(st.floats(-3.0, 0.0), min_size=1, max_size=6)
    return powers.map(lambda power: top * 10.0 ** np.array(power))


def torch_kl(variance: np.ndarray) -> float:
    zero, one = torch.zeros(len(variance)).double(), torch.ones(len(variance)).double()
    q = torch.distributions.Normal(zero, torch.from_numpy(variance).sqrt())
    p = torch.distributions.Normal(zero, one)
    return float(torch.distributions.kl_divergence(q, p).sum())


@settings(max_examples=100, deadline=None)
@given(variances(1.0))
def test_the_smallest_variance_raises_kl_below_one(variance: np.ndarray) -> None:
    tied = torch_kl(np.full_like(variance, variance.min()))
    assert tied >= torch_kl(variance) - 1e-12
    change = tied - torch_kl(variance)
    assert igp.kl_raised(variance) == pytest.approx(change, rel=1e-9, abs=1e-12)
    assert igp.kl_by_definition(variance) == pytest.approx(torch_kl(variance), rel=1e-9, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(variances(1000.0))
def test_two_ties_never_raise_kl(variance: np.ndarray) -> None:
    found, before = igp.ties(variance), torch_kl(variance)
    for tie in (found.geometric, found.arithmetic):
        assert torch_kl(np.full_like(variance, tie)) <= before * (1.0 + 1e-12) + 1e-12
    assert all(np.diff(found) >= -1e-12 * found.largest)


@settings(max_examples=100, deadline=None)
@given(variances(0.5), st.floats(1.0, 1000.0))
def test_the_harmonic_tie_turns_at_one_half(variance: np.ndarray, scale: float) -> None:
    def change(values: np.ndarray) -> float:
        return torch_kl(np.full_like(values, igp.ties(values).harmonic)) - torch_kl(values)

    assert change(variance) >= -1e-12
    above = 0.5 * scale * 0.5 / variance  # the smallest is at least one half
    assert change(above) <= 1e-12 * (1.0 + torch_kl(above))


@settings(max_examples=100, deadline=None)
@given(variances(10.0), st.floats(-3.0, 2.0))
def test_the_tie_gathers_mass(variance: np.ndarray, power: float) -> None:
    sigma, width = np.sqrt(variance), 10.0**power
    z = torch.distributions.Normal(0.0, 1.0)
    exact = 1.0 - 2.0 * z.cdf(torch.from_numpy(-width / sigma))
    np.testing.assert_allclose(igp.box_mass(sigma, width), exact, rtol=0, atol=1e-12)
    assert (igp.box_mass(sigma, width) <= igp.box_mass(sigma.min(), width)).all()
    step = 1e-6 * sigma
    slope = (igp.box_mass(sigma + step, width) - igp.box_mass(sigma - step, width)) / (2 * step)
    np.testing.assert_allclose(igp.box_slope(sigma, width), slope, rtol=1e-4, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 100), variances(10.0))
def test_shared_errors(samples: int, variance: np.ndarray) -> None:
    found = igp.shared_error(samples, variance)
    assert 1.0 - 1e-12 <= found.effective <= len(variance) * (1.0 + 1e-12)
    if samples > 2 and np.ptp(variance) > 0.01 * variance.max():
        later = igp.shared_error(10**9, variance)
        place = int(np.argmax(np.abs(variance - variance.mean())))
        assert later.shared[place] > later.own[place]
    equal = igp.shared_error(samples, np.full_like(variance, 0.7))
    gain = np.sqrt(equal.own / equal.shared)
    np.testing.assert_allclose(gain, math.sqrt(len(variance)), rtol=1e-12)


@st.composite
def means_and_variances(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Means of scale 10^[-3, 3] and variances 10^[-4, 3], (N, D)."""
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    size = shape[0] * shape[1]
    unit = st.lists(st.floats(-1.0, 1.0), min_size=size, max_size=size)
    mean = 10.0 ** draw(st.floats(-3.0, 3.0)) * np.reshape(draw(unit), shape)
    return mean, 10.0 ** (3.5 * np.reshape(draw(unit), shape) - 0.5)


@settings(max_examples=60, deadline=None)
@given(means_and_variances())
def test_moments_agree_with_the_library(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    mean, variance = drawn
    moments = gaussian.aggregate_moments(torch.from_numpy(mean), torch.from_numpy(variance).log())
    found = latent.aggregate(mean, variance)
    log_det = moments.log_det_covariance.item()
    assert np.linalg.slogdet(found.covariance)[1] == pytest.approx(log_det, rel=1e-6, abs=1e-6)
    norm = moments.mean_norm_squared.item()
    assert latent.squared_mean(found, 10**15) == pytest.approx(norm, rel=1e-9, abs=1e-9)


# --- the linear VAE -------------------------------------------------------------------------------

spectra = st.lists(st.floats(-3.0, 2.0), min_size=1, max_size=6).map(
    lambda power: 10.0 ** np.sort(np.array(power))[::-1]
)
noises = st.floats(-3.0, 2.0).map(lambda power: 10.0**power)


@settings(max_examples=100, deadline=None)
@given(spectra, noises)
def test_the_optimum_is_consistent(spectrum: np.ndarray, noise: float) -> None:
    found = linear.linear_igp(spectrum, noise)
    assert found.level == pytest.approx(noise + found.weights.mean(), rel=1e-12)
    active = found.weights > 1e-9 * noise
    np.testing.assert_allclose(
        (found.weights[active] + noise) ** 2, spectrum[active] * found.level, rtol=1e-9
    )
    assert (spectrum[~active] <= noise**2 / found.level * (1.0 + 1e-6)).all()
    # the moments of the aggregated posterior, and what they say of KL
    trace = found.mean_variance.sum() + len(spectrum) * found.variance
    assert trace == pytest.approx(len(spectrum), rel=1e-9)
    assert found.log_det <= 1e-9
    assert found.kl == pytest.approx(-0.5 * len(spectrum) * math.log(found.variance), abs=1e-9)
    dgp = linear.dgp_weights(spectrum, noise) > 0
    assert (found.weights[dgp] > 0).all()
    if abs(spectrum[0] / noise - 1.0) > 1e-9:
        assert dgp.any() == (found.weights > 0).any()


def negative_elbo(decoder: Tensor, encoder: Tensor, log: Tensor, cov: Tensor, s2: float) -> Tensor:
    """By the textbook: distributions of z and x for a covariance that need not be diagonal."""
    size, count = decoder.shape
    missed = torch.eye(size).double() - decoder @ encoder
    squares = (missed @ cov @ missed.T).trace() + log.exp() * (decoder.T @ decoder).trace()
    means = (encoder @ cov @ encoder.T).trace()
    return squares / (2 * s2) + 0.5 * (means + count * (log.exp() - 1.0 - log))


@pytest.mark.parametrize(
    ("eigenvalues", "count", "noise"),
    [((4.0, 1.0, 0.2, 0.05), 4, 0.25), ((3.0, 2.0, 0.5, 0.4), 2, 0.6), ((2.0, 0.7), 4, 0.5)],
)
def test_training_in_torch_ends_at_the_optimum(
    eigenvalues: tuple[float, ...], count: int, noise: float
) -> None:
    """With fewer and with more latent dimensions than data dimensions too."""
    generator = torch.Generator().manual_seed(count)
    size = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator).double())[0]
    cov = basis @ torch.diag(torch.tensor(eigenvalues).double()) @ basis.T
    shapes = ((size, count), (count, size))
    start = [torch.randn(*shape, generator=generator).double() for shape in shapes]
    weights = [w.requires_grad_() for w in [*start, torch.zeros((), dtype=torch.float64)]]
    optimiser = torch.optim.LBFGS(
        weights,
        max_iter=3000,
        tolerance_grad=1e-10,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = negative_elbo(*weights, cov, noise)
        value.backward()
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    decoder, encoder, log = (w.detach() for w in weights)
    padded = np.zeros(count)
    padded[: min(size, count)] = eigenvalues[: min(size, count)]
    found = linear.linear_igp(padded, noise)
    lengths = np.zeros(count)
    lengths[: min(size, count)] = torch.linalg.svdvals(decoder).square()
    np.testing.assert_allclose(lengths, found.weights, atol=1e-4)
    assert log.exp().item() == pytest.approx(found.variance, rel=1e-5)
    means = encoder @ cov @ encoder.T
    spread = torch.linalg.eigvalsh(means).flip(0).clamp(min=0.0)
    np.testing.assert_allclose(spread, found.mean_variance, atol=1e-4)
    # the left singular vectors are eigenvectors of the data
    gram = basis.T @ decoder @ decoder.T @ basis
    np.testing.assert_allclose(gram, torch.diag(gram.diagonal()), atol=1e-3)


def test_the_trained_loss_is_the_definition_with_its_gradient() -> None:
    random = np.random.default_rng(0)
    decoder, encoder = random.normal(size=(2, 3, 3))
    spectrum, noise, log = np.array([2.0, 1.0, 0.3]), 0.4, -0.7
    flat = np.concatenate([decoder.ravel(), encoder.ravel(), [log]])  # one variance for all of z
    value, gradient = linear_vae.loss_and_gradient(flat, np.diag(spectrum), 3, noise)
    parts = [
        torch.tensor(part, dtype=torch.float64).requires_grad_() for part in (decoder, encoder, log)
    ]
    exact = negative_elbo(*parts, torch.diag(torch.tensor(spectrum)), noise)
    exact.backward()
    constant = 1.5 * math.log(2.0 * math.pi * noise)
    assert value == pytest.approx(exact.item() + constant, rel=1e-12)
    slopes = torch.cat([part.grad.reshape(-1) for part in parts if part.grad is not None])
    np.testing.assert_allclose(gradient, slopes, rtol=1e-10)


def test_a_trained_model_is_rotated() -> None:
    """Two random starts: the same optimum and eigenvalues, another AU is possible."""
    spectrum, noise = np.array([4.0, 0.3, 0.01]), 0.25
    first, second = linear.train(spectrum, noise, 0), linear.train(spectrum, noise, 1)
    assert first.loss == pytest.approx(second.loss, abs=1e-9)
    found = linear.linear_igp(spectrum, noise)
    for one in (first, second):
        np.testing.assert_allclose(
            np.linalg.eigvalsh(one.means)[::-1], found.mean_variance, atol=1e-4
        )
    assert np.abs(first.means.diagonal() - second.means.diagonal()).max() > 0.05


# --- information ----------------------------------------------------------------------------------


def test_the_decoder_that_reverses_the_encoder_closes_the_gap() -> None:
    gaps = [found.decoder_gap for found in pictures.channels(np.array([4.0, 8.0, 16.0]))]
    assert gaps[1] == pytest.approx(0.0, abs=1e-12)
    assert min(gaps[0], gaps[2]) > 1e-4


def test_the_bound_with_a_trapezoid_and_a_finer_grid() -> None:
    mean, sd = np.array([-0.4, 1.3]), np.array([0.3, 0.9])
    coarse, fine = (latent.sigmoid_channel(mean, sd, 2.0, points) for points in (2001, 8001))
    np.testing.assert_allclose(coarse, fine, rtol=1e-10)
    low = fine.entropy - fine.distortion
    assert fine.information - low == pytest.approx(fine.decoder_gap, rel=1e-9)
    assert fine.rate - fine.information == pytest.approx(fine.prior_gap, rel=1e-9)


# --- rotations ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.floats(-2.0, 2.0), st.floats(-2.0, 2.0)),
    st.floats(0.05, 2.0),
    st.floats(0.0, 360.0),
    st.floats(-2.0, 2.0),
)
def test_the_elbo_does_not_turn(
    mean: tuple[float, float], variance: float, degrees: float, x: float
) -> None:
    values = np.array(mean), np.full(2, variance)
    before = latent.turned_elbo(x, *values, 0.0)
    assert latent.turned_elbo(x, *values, degrees) == pytest.approx(before, rel=1e-10)


def test_the_elbo_is_that_of_draws() -> None:
    mean, variance, x, angle = np.array([0.4, -1.0]), np.array([0.5, 0.2]), 0.7, math.pi / 5
    random = torch.Generator().manual_seed(0)
    rotation = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    ).double()
    centre = rotation @ torch.tensor(mean)
    q = torch.distributions.Normal(centre, torch.tensor(variance).sqrt())
    noise = torch.randn(200_000, 2, generator=random).double()
    z = centre + torch.tensor(variance).sqrt() * noise
    back = z @ rotation
    output = back[:, 0] - 0.5 * back[:, 1] + 0.5 * back[:, 0] * back[:, 1]
    unit = torch.distributions.Normal(torch.zeros(2).double(), torch.ones(2).double())
    fit = torch.distributions.Normal(output, 1.0).log_prob(torch.tensor(x).double())
    draws = fit + (unit.log_prob(z) - q.log_prob(z)).sum(-1)
    exact = latent.turned_elbo(x, mean, variance, 36.0)
    assert abs(draws.mean().item() - exact) < 5 * draws.std().item() / math.sqrt(len(draws))


# --- printed forms --------------------------------------------------------------------------------


def test_the_smallest_counter_examples() -> None:
    assert "variances 1, 2: KL 0.1534 becomes 0 nats" in igp.I0A.printed().counterexample
    shared = igp.I1B.printed().counterexample
    assert "N = 2, variances 1, 2: squared error in dimension 1 2.75 shared, 2 alone" in shared
    some = linear.I3.printed().counterexample
    assert "eigenvalues 2, 0.5, noise 1: 1 active" in some
    fewer = linear.I3B.printed().counterexample
    assert fewer.endswith("2 diagonal, 1 isotropic")


def test_the_counter_examples_by_hand() -> None:
    assert torch_kl(np.array([1.0, 2.0])) == pytest.approx(0.5 * (1.0 - math.log(2.0)))
    assert torch_kl(np.ones(2)) == 0.0
    # K = 2 and one active direction: c = 1 + (sqrt(2 c) - 1) / 2
    found = linear.linear_igp(np.array([2.0, 0.5]), 1.0)
    root = (math.sqrt(2.0) + math.sqrt(2.0 + 8.0)) / 4.0
    assert found.level == pytest.approx(root**2, rel=1e-12)
    assert found.weights[1] == 0.0
    dgp, iso = linear.mean_variances(np.array([2.0**16, 1.0]), 0.5)
    assert dgp[1] == pytest.approx(0.5)
    assert 0.0 < iso[1] < 0.01 < iso[0]


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.id)
def test_standings_of_the_page(statement: Any) -> None:
    corrected = statement.id in {"I0a", "I1b", "I3", "I3b"}
    expected = Standing.CORRECTED if corrected else Standing.TRUE
    assert examine(statement, mutate=False).standing is expected


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.id)
def test_symbols_and_search_notice_every_wrong_constant(statement: Any) -> None:
    for name, value in statement.wrong.items():
        wrong = statement.constants.changed(name, value)
        symbolic, _, search = statement.checks
        assert not symbolic(wrong).holds, name
        assert not search(wrong).holds, name


# --- the page's data ------------------------------------------------------------------------------


def test_tie_curves() -> None:
    curves = pictures.tie_curves(0.2, np.array([1.0, 4.0, 25.0]), dimensions=2)
    for values in curves.values():
        assert values[0] == pytest.approx(0.5 * (0.2 - 1.0 - math.log(0.2)), rel=1e-12)
    small = 0.2 / math.sqrt(4.0)
    assert curves["smallest"][1] == pytest.approx(0.5 * (small - 1.0 - math.log(small)))
    assert curves["smallest"][2] > curves["harmonic"][2] > curves["geometric"][2]
    assert curves["no tie"][2] > curves["geometric"][2] > curves["arithmetic"][2]
    low = pictures.tie_curves(1.5)
    assert (low["smallest"][1:] < low["no tie"][1:]).any()


def test_the_code_in_view() -> None:
    """Every statement has a visible check, whose sides agree; and the tables that cells make."""
    names, sides = run_visible("igp/theory")
    assert set(sides) == {statement.id for statement in STATEMENTS} | {"logdet"}
    by_sampling = {"I0b": 0.01, "I1": 0.01, "I1b": 0.02, "I5": 0.05}
    for id, (left, right) in sides.items():
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=by_sampling.get(id, 1e-6))
    assert sides["I3b"][0].sum() == 3
    optimum = names["linear"]
    case = CASES["lin_igp_a"]["expected"]
    assert optimum["active"].tolist() == [case["active_dgp"], case["active_rank_igp"]]
    assert optimum["KL"][1] == pytest.approx(case["kl_total"], rel=1e-9)
    assert optimum["KL"][0] == pytest.approx(0.5 * (math.log(16.0) + math.log(4.0)))
    assert optimum["information"][1] < optimum["information"][0]
    # the mismatch from the eigenvalues of a normal q(z)
    spread = np.array(case["var_mu_eigenbasis"]) + case["tau2"]
    mismatch = 0.5 * (spread - 1.0 - np.log(spread)).sum()
    assert optimum["KL(q(z) ‖ p)"][1] == pytest.approx(mismatch, rel=1e-9)
    assert optimum["ELBO less the diagonal one's"][1] < 0.0
    turns = names["turns"]
    assert np.ptp(turns["ELBO, isotropic"]) < 1e-12
    assert np.ptp(turns["ELBO, variances 0.09 and 1"]) > 0.1
    assert turns["AU"].tolist() == [1, 1, 2, 2, 1]
    assert set(turns["rank"]) == {1}


def test_tables_of_errors() -> None:
    names, _ = run_visible("igp/theory", until="igp-theory-errors")
    assert names["errors"]["gain"].to_numpy() == pytest.approx(math.sqrt(32.0))
    assert names["errors"]["exact over printed"].iloc[2] == pytest.approx(math.sqrt(10 / 9))
    assert names["errors"]["exact"].iloc[2] == pytest.approx(estimate_error(10, 1))
    names, _ = run_visible("igp/theory", until="igp-theory-shared")
    last = names["errors"].iloc[-1]
    assert last["σ² = 0.1, shared"] > last["σ² = 0.1, own"]
    exact = igp.shared_error(1000, np.array([0.1, 0.5, 1.0]))
    for place, value in enumerate((0.1, 0.5, 1.0)):
        assert last[f"σ² = {value}, own"] == pytest.approx(math.sqrt(exact.own[place]))
        assert last[f"σ² = {value}, shared"] == pytest.approx(math.sqrt(exact.shared[place]))


def test_active_counts() -> None:
    found = pictures.active_counts(np.array([4.0, 1.0, 0.2, 0.05]), np.array([0.25, 5.0]))
    assert found.diagonal.tolist() == [2, 0]
    assert found.isotropic.tolist() == [3, 0]
    assert (found.isotropic_units <= found.isotropic).all()


def test_random_bases() -> None:
    units = pictures.basis(dimensions=8, bases=20)
    assert units.shape == (9, 20)
    assert (units[0] == 0).all() and (units[-1] == 8).all()
    assert (np.diff(units, axis=0) >= 0).all()
    assert (units[1:] >= 1).all()


def test_figures_of_a_slider_have_one_size() -> None:
    ties = [pictures.tie_figure(level) for level in pictures.LEVELS[::5]]
    turns = [pictures.turned_figure(angle) for angle in pictures.ANGLES[::6]]
    for frames in (ties, turns):
        assert len({tuple(frame.get_size_inches()) for frame in frames}) == 1
    assert len(pictures.LEVELS) <= 15 and len(pictures.ANGLES) <= 15
    for one in (pictures.channel_figure(), pictures.active_figure()):
        assert one.axes
    assert pictures.basis_figure(pictures.basis(8, 5)).axes
