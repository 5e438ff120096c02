"""The linear VAE: the cases, training against the closed forms, and what the page shows."""

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
from scipy.integrate import quad
from scipy.optimize import approx_fprime

from companion.claims import linear as linear_vae
from companion.claims.statements import Standing, examine, findings
from companion.methods import linear_vae as pictures
from companion.methods import statements as linear
from pages_help import run_cell
from posterior_collapse.networks import linear_optimum

CASES = {
    case["name"]: case
    for case in json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
}
OPTIMA = ("linvae_beta1", "linvae_beta0.5_autogen_m1")
WEIGHTED = ("iw_generic", "iw_perfect_q")


def compare(case: dict[str, Any], found: dict[str, Any]) -> None:
    """Every expected value of a case, and no other."""
    assert found.keys() == case["expected"].keys()
    for key, expected in case["expected"].items():
        wanted = pytest.approx(expected, rel=case["rtol"], abs=max(case["atol"], 1e-14))
        value = found[key]
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == wanted, key


@pytest.mark.parametrize("name", OPTIMA)
def test_optimum_equals_the_cases(name: str) -> None:
    case = CASES[name]
    given_ = case["inputs"]
    best = linear.optimum(given_["data_cov_eigenvalues"], given_["noise_var"], given_["beta"])
    kl, mpd = best.kl.sum(), best.mutual_posterior_divergence
    compare(
        case,
        {
            "w2": best.weight_squared,
            "post_var": best.posterior_variance,
            "var_mu": best.variance_of_means,
            "kl": best.kl,
            "mpd": mpd,
            "ce": best.entropy,
            "kl_total": kl,
            "mi_total": kl,  # the aggregated posterior is the prior
            "mpd_total": mpd.sum(),
            "ce_total": best.entropy.sum(),
            "au": int((best.variance_of_means >= 0.01).sum()),
            "elbo_beta1_at_optimum": best.elbo,
            "rec_total": best.reconstruction,
            "mean_logp_at_optimum": best.log_evidence,
        },
    )


def test_a_population_from_the_model_equals_the_case() -> None:
    """Data from p(x) itself have eigenvalues w^2 + s^2, and the model is then its own optimum."""
    case = CASES["ppca_population"]
    weights, noise_var = case["inputs"]["WtW_diag"], case["inputs"]["noise_var"]
    best = linear.optimum(np.array(weights) + noise_var, noise_var, 1.0)
    assert best.weight_squared == pytest.approx(weights)
    kl = best.kl.sum()
    spread = best.posterior_variance + best.variance_of_means  # of the aggregated posterior
    compare(
        case,
        {
            "post_var": best.posterior_variance,
            "var_mu": best.variance_of_means,
            "mi": 0.5 * float((np.log(spread) - np.log(best.posterior_variance)).sum()),
            "E_kl": kl,
            "kl_qagg_p": 0.5 * float((spread - 1.0 - np.log(spread)).sum()),
            "mpd": best.mutual_posterior_divergence.sum(),
            "ce": best.entropy.sum(),
            "au": int((best.variance_of_means >= 0.01).sum()),
        },
    )


def test_one_point_of_probabilistic_pca_equals_the_case() -> None:
    case = CASES["ppca_n1"]
    given_ = case["inputs"]
    model = linear.Weighted(
        tuple(row[0] for row in given_["W"]),
        given_["s"],
        tuple(x - b for x, b in zip(given_["x"], given_["b"], strict=True)),
        given_["q_mu"][0],
        math.exp(0.5 * given_["q_logvar"][0]),
    )
    mean, variance = model.posterior
    expected = dict(case["expected"])
    assert [[variance]] == [[pytest.approx(expected.pop("post_cov")[0][0], rel=case["rtol"])]]
    compare(
        {**case, "expected": expected},
        {
            "logp": model.log_evidence,
            "post_mean": [mean],
            "rec": model.reconstruction,
            "kl": model.kl,
            "elbo": model.reconstruction - model.kl,
            "kl_q_post": model.gap,
            "chi2_post_q": model.chi_squared,
        },
    )
    assert model.log_evidence - model.gap == pytest.approx(model.reconstruction - model.kl)


@pytest.mark.parametrize("name", WEIGHTED)
def test_bounds_equal_the_cases(name: str) -> None:
    case = CASES[name]
    given_ = case["inputs"]
    model = linear.Weighted(
        (given_["w"],), given_["s"], (given_["x"],), given_["q_mu"], given_["q_sd"]
    )
    compare(
        case,
        {
            "L1_elbo": model.reconstruction - model.kl,
            "L2": linear.two_sample_bound(model),
            "logp": model.log_evidence,
            "chi2_post_q": model.chi_squared,
        },
    )


# --- closed forms against slow ones ---------------------------------------------------------------

spectra = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6)


@given(spectra, st.floats(1e-2, 1e2), st.floats(1e-2, 1e2))
def test_optimum_equals_the_library(spectrum: list[float], noise_var: float, beta: float) -> None:
    found = linear.optimum(spectrum, noise_var, beta)
    wanted = linear_optimum(torch.tensor(spectrum, dtype=torch.float64), noise_var, beta)
    for name in (
        "weight_squared",
        "posterior_variance",
        "variance_of_means",
        "kl",
        "mutual_posterior_divergence",
    ):
        value = getattr(found, name)
        assert value == pytest.approx(getattr(wanted, name).numpy(), rel=1e-9, abs=1e-9), name


@given(spectra, st.floats(1e-2, 1e2), st.floats(1e-2, 1e2))
def test_evidence_lies_above_the_elbo_and_touches_it_at_weight_one(
    spectrum: list[float], noise_var: float, beta: float
) -> None:
    found = linear.optimum(spectrum, noise_var, beta)
    size = 1.0 + abs(found.log_evidence)
    assert found.elbo <= found.log_evidence + 1e-9 * size
    exact = linear.optimum(spectrum, noise_var, 1.0)
    assert exact.elbo == pytest.approx(exact.log_evidence, rel=1e-9, abs=1e-9)
    assert exact.elbo >= found.elbo - 1e-9 * size


@given(st.floats(-2, 2), st.floats(0.05, 2), st.floats(-2, 2), st.floats(0.05, 2))
def test_chi_squared_equals_quadrature(m: float, v: float, b: float, extra: float) -> None:
    q = (b, 0.5 * v + extra)

    def ratio(z: float) -> float:
        log_p = -0.5 * ((z - m) ** 2 / v + math.log(2.0 * math.pi * v))
        log_q = -0.5 * ((z - b) ** 2 / q[1] + math.log(2.0 * math.pi * q[1]))
        return math.exp(2.0 * log_p - log_q)

    spread = v * q[1] / (2.0 * q[1] - v)  # of p^2 / q, a Gaussian again
    centre = spread * (2.0 * m / v - b / q[1])
    wide = 12.0 * math.sqrt(spread)
    value = quad(ratio, centre - wide, centre + wide, epsabs=0.0, epsrel=1e-11, limit=400)[0]
    assert linear.chi_squared((m, v), q) == pytest.approx(value - 1.0, rel=1e-7, abs=1e-9)


def test_a_narrow_encoder_has_an_infinite_chi_squared() -> None:
    assert linear.chi_squared((0.0, 1.0), (0.0, 0.5)) == math.inf
    assert linear.chi_squared((0.0, 1.0), (0.0, 0.51)) < math.inf


# --- training -------------------------------------------------------------------------------------


def test_gradient_equals_finite_differences() -> None:
    random = np.random.default_rng(0)
    root = random.normal(size=(3, 3))
    fixed = (root @ root.T, 2, 0.4, 0.7)
    flat = random.normal(size=14)
    _, gradient = linear_vae.loss_and_gradient(flat, *fixed)
    slope = approx_fprime(flat, lambda f: linear_vae.loss_and_gradient(f, *fixed)[0], 1e-7)
    assert gradient == pytest.approx(slope, rel=1e-4, abs=1e-4)


def test_loss_equals_that_of_the_library() -> None:
    """The formula in W, V and tau against the network, its decoder and torch's KL."""
    x = pictures.data()
    beta = 0.7
    model = pictures.linear_vae(4, 4, linear.NOISE_VAR, pictures.StandardNormal()).double()
    named = dict(model.named_parameters())
    random = np.random.default_rng(1)
    w, v, logvar = (random.normal(size=shape) for shape in ((4, 4), (4, 4), (4,)))
    centre = x.mean(0)
    with torch.no_grad():
        named["decoder.mean.weight"].copy_(torch.from_numpy(w))
        named["decoder.mean.bias"].copy_(centre)
        named["posterior_head.mean.weight"].copy_(torch.from_numpy(v))
        named["posterior_head.mean.bias"].copy_(-torch.from_numpy(v) @ centre)
        named["posterior_head.logvar"].copy_(torch.from_numpy(logvar))
    covariance = np.cov(x.numpy().T, ddof=0)
    flat = np.concatenate([w.ravel(), v.ravel(), logvar])
    wanted, _ = linear_vae.loss_and_gradient(flat, covariance, 4, linear.NOISE_VAR, beta)
    assert pictures._exact_loss(model, x, beta).item() == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_every_start_lands_on_the_closed_form(beta: float) -> None:
    wanted = linear.optimum(linear.EIGENVALUES, linear.NOISE_VAR, beta)
    for seed in range(4):
        found = linear_vae.fit(np.diag(linear.EIGENVALUES), 4, linear.NOISE_VAR, beta, seed)
        assert found.kl == pytest.approx(wanted.kl, abs=1e-5)
        assert found.variance == pytest.approx(wanted.posterior_variance, abs=1e-5)
        lengths = (found.decoder**2).sum(0)
        assert lengths == pytest.approx(wanted.weight_squared, abs=1e-4)
        best = beta * float(wanted.kl.sum()) - wanted.reconstruction
        assert found.loss == pytest.approx(best, abs=1e-9)


def test_the_data_of_the_page_have_the_eigenvalues() -> None:
    found = np.linalg.eigvalsh(np.cov(pictures.data().numpy().T, ddof=0))[::-1]
    assert found == pytest.approx(linear.EIGENVALUES, rel=1e-10)


# --- the page -------------------------------------------------------------------------------------


def test_trained_networks_lie_on_the_closed_form() -> None:
    found = pictures.sweep((0.4, 1.0, 4.5, 18.0))
    assert found.kl == pytest.approx(pictures.closed_kl(found.beta), abs=1e-4)
    assert found.units == [3, 2, 1, 0]


def test_trained_thresholds_are_the_closed_ones() -> None:
    table = pictures.threshold_table()
    closed, trained = table["AU drops: 0.99 λ/s²"], table["AU drops, trained"]
    assert trained.to_numpy() == pytest.approx(closed.to_numpy(), rel=1e-4)
    assert table["KL reaches 0: λ/s²"].tolist() == pytest.approx([16.0, 4.0, 0.8, 0.2])


def test_generated_variances_follow_the_weight() -> None:
    table = run_cell("methods/linear-vae", "linear-vae-11")["generated"]
    assert table["β = 0.5"][:2].tolist() == pytest.approx([4.125, 1.125])
    assert table["β = 1"][:2].tolist() == pytest.approx([4.0, 1.0])
    gap = table.set_index("direction").loc["log p(x) − ELBO"]
    assert gap["β = 1"] == pytest.approx(0.0, abs=1e-12) and gap["β = 0.5"] > 0.1


def test_gaps_close_like_one_over_k_only_where_chi_squared_is_finite() -> None:
    found = pictures.gaps(1 << 18)
    late = [place for place, k in enumerate(found.samples) if k >= 32]
    ratio = found.wide[late] / found.predicted[late]
    assert ratio == pytest.approx(np.ones(len(late)), abs=0.06)
    slope = np.polyfit(np.log(found.samples), np.log(found.narrow), 1)[0]
    assert -0.6 < slope < -0.3
    assert found.wide[0] == pytest.approx(linear.WEIGHTED.gap, abs=5 * found.wide_error[0])


def test_slider_tells_what_is_under_water() -> None:
    frames, labels = pictures.water_frames()
    assert len(frames) == len(labels) <= 15
    assert len({tuple(frame.get_size_inches()) for frame in frames}) == 1
    assert labels[2].startswith("β = 0.5, AutoGen with m = 1: AU 3, KL 3.008 nats, MPD 38.600")
    assert labels[3].startswith("β = 1, AutoGen with m = 0: AU 2, KL 2.079 nats, MPD 18.000")
    assert "AU 0, KL 0.000" in labels[-1]


def test_the_statements_hold_and_answer_their_own_questions() -> None:
    # without mutations: the generic tests of all statements run those
    done = [examine(statement, mutate=False) for statement in linear.STATEMENTS]
    assert {one.standing for one in done} == {Standing.TRUE}
    assert [(f.item, f.verdict.value) for f in findings(done)] == [("", "holds")] * 4
