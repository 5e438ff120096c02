"""Closed forms against printed values, slow oracles and exact arithmetic."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from torch import Tensor

from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput

CASES = {
    case["name"]: case
    for case in json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
}
ALPHA = 1.0 / (2.0 * math.pi * math.e)
mp.dps = 60


def t(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pairwise_mpd(mean: Tensor, logvar: Tensor, unbiased: bool = False) -> Tensor:
    """Average KL over all pairs, one by one: the definition, O(N^2)."""
    n = len(mean)
    table = gaussian.kl(mean[:, None], logvar[:, None], mean[None], logvar[None])
    return table.sum() / (n * (n - 1) if unbiased else n * n)


# --- every printed value ------------------------------------------------------------------------


def of_kl(case: dict[str, Any]) -> dict[str, Any]:
    mean, logvar = t([case["mu"]]), t([case["logvar"]])
    return {
        "kl": gaussian.kl_to_standard_normal(mean, logvar),
        "entropy": gaussian.entropy(logvar),
    }


def of_mpd(case: dict[str, Any]) -> dict[str, Any]:
    mean, logvar = t(case["mu"]), t(case["logvar"])
    mpd = gaussian.mutual_posterior_divergence(mean, logvar)
    return {
        "mpd_V": mpd,
        "mpd_eq3_corrected": mpd,
        "mpd_U": gaussian.mutual_posterior_divergence(mean, logvar, unbiased=True),
        "ce": gaussian.conditional_entropy(logvar),
        "E_kl": gaussian.kl_to_standard_normal(mean, logvar).mean(),
        "au_ddof1_ge_0.01": gaussian.active_units(mean),
    }


def dropped(mean: Tensor, variance: Tensor, keep: float) -> tuple[Tensor, Tensor]:
    """MPD and conditional entropy under variance dropout, from the moments."""
    inverse, log_variance = gaussian.variance_dropout_moments(variance, keep, ALPHA)
    apart = (mean[:, None] - mean[None]).square().mean(0)  # (N, D): over the partner
    mpd = 0.5 * ((apart + variance.mean(0)) * inverse).mean(0) - 0.5
    return mpd.sum(), gaussian.conditional_entropy(log_variance)


def of_dropout(case: dict[str, Any]) -> dict[str, Any]:
    mean, variance, keep = t(case["mu"]), t(case["sigma2"]), case["p"]
    mpd, ce = dropped(mean, variance, keep)
    return {
        "mpd": gaussian.mutual_posterior_divergence(mean, variance.log()),
        "mpd_B": mpd,
        "ce": gaussian.conditional_entropy(variance.log()),
        "ce_B": ce,
    }


def of_tie(case: dict[str, Any]) -> dict[str, Any]:
    variance = t(case["sigma2"])
    ties = {
        "kl_iso_min": variance.min(),
        "kl_iso_max": variance.max(),
        "kl_iso_harm": 1.0 / (1.0 / variance).mean(),
        "kl_iso_geo": variance.log().mean().exp(),
        "kl_iso_arith": variance.mean(),
    }
    zero = torch.zeros_like(variance)[None]
    found = {
        name: gaussian.kl_to_standard_normal(zero, tie.log().expand_as(zero))
        for name, tie in ties.items()
    }
    found["kl_diag"] = gaussian.kl_to_standard_normal(zero, variance.log()[None])
    return found


def of_aggregate(case: dict[str, Any]) -> dict[str, Any]:
    moments = gaussian.aggregate_moments(t(case["mu"]), t(case["logvar"]))
    return {"logdet_cov_qagg": moments[0], "mean_norm_sq": moments[1]}


def of_scale(case: dict[str, Any]) -> dict[str, Any]:
    mean, logvar, f = t([[case["mu"]]]), t([[case["sigma2"]]]).log(), case["f"]
    scaled = gaussian.kl(f * mean, logvar, t([[0.0]]), t([[2.0 * math.log(f)]]))
    return {
        "kl_q_p": gaussian.kl_to_standard_normal(mean, logvar),
        "kl_qhat_p": gaussian.kl_to_standard_normal(f * mean, logvar),
        "kl_qhat_scaledprior": scaled,
        "gap_formula": scaled - gaussian.kl_to_standard_normal(mean, logvar),
    }


def of_iaf(case: dict[str, Any]) -> dict[str, Any]:
    mean, logvar = t(case["mu0"]), t(case["logvar0"])
    found = dict(zip(("mpd0", "ce0", "kl0"), three(mean, logvar), strict=True))
    gates, shifts = t(case["gates[t][i][d]"]), t(case["shifts[t][i][d]"])
    for gate, shift in zip(gates, shifts, strict=True):
        mean, logvar = gate * mean + (1 - gate) * shift, logvar + 2.0 * gate.log()
    return found | dict(zip(("mpdT", "ceT", "klT"), three(mean, logvar), strict=True))


def three(mean: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (
        gaussian.mutual_posterior_divergence(mean, logvar),
        gaussian.conditional_entropy(logvar),
        gaussian.kl_to_standard_normal(mean, logvar).mean(),
    )


def with_variance(variance: Tensor) -> Tensor:
    """A full factorial of +-std, (2^D, D): its covariance (ddof 0) is exactly diagonal."""
    return torch.cartesian_prod(*[t([-1.0, 1.0])] * len(variance)) * variance.sqrt()


def of_linear_vae(case: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    mean = with_variance(t(expected["var_mu"]))
    logvar = t(expected["post_var"]).log().expand_as(mean)
    per_dim = [three(mean[:, [d]], logvar[:, [d]]) for d in range(mean.shape[1])]
    total = three(mean, logvar)
    found: dict[str, Any] = {"au": gaussian.active_units(mean)}
    if "kl" in expected:
        names = ("mpd", "ce", "kl")
        found |= {
            name: torch.stack(v) for name, v in zip(names, zip(*per_dim, strict=True), strict=True)
        }
        found |= {f"{name}_total": v for name, v in zip(names, total, strict=True)}
    else:
        found |= dict(zip(("mpd", "ce", "E_kl"), total, strict=True))
    return found


def of_isotropic(case: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    mean = with_variance(t(expected["var_mu_eigenbasis"]))
    logvar = torch.full_like(mean, math.log(expected["tau2"]))
    rotation = torch.linalg.qr(torch.vander(t([0.3, 1.0, -0.7, 2.0])))[0]
    return {
        "kl_total": gaussian.kl_to_standard_normal(mean, logvar).mean(),
        "active_rank_igp": gaussian.active_rank(mean @ rotation),
    }


def of_bn(case: dict[str, Any]) -> dict[str, Any]:
    mean = t(case["mu"])
    out = case["gamma"] * (mean - mean.mean()) / mean.std(unbiased=False) + case["beta"]
    return {"half_E_mu2": gaussian.kl_to_standard_normal(out[:, None], 0 * out[:, None]).mean()}


def of_bn_bound(case: dict[str, Any]) -> dict[str, Any]:
    column = t([case["beta"] - case["gamma"], case["beta"] + case["gamma"]])[:, None]
    mean = column.expand(2, case["n"])
    return {"bound": gaussian.kl_to_standard_normal(mean, torch.zeros_like(mean)).mean()}


def of_alpha(case: dict[str, Any]) -> dict[str, Any]:
    return {"entropy_N(0,alpha)": gaussian.entropy(t([[math.log(ALPHA)]]))}


def of_ppca(case: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    q = t([case["q_mu"]]), t([case["q_logvar"]])
    posterior = t([expected["post_mean"]]), t(expected["post_cov"]).diagonal().log()[None]
    return {
        "kl": gaussian.kl_to_standard_normal(*q),
        "kl_q_post": gaussian.kl(*q, *posterior),
    }


ANSWERS: dict[str, Callable[..., dict[str, Any]]] = {
    "const_alpha": of_alpha,
    "kl_": of_kl,
    "mpd_": of_mpd,
    "dropout_": of_dropout,
    "igp_tie": of_tie,
    "igp_agg": of_aggregate,
    "scale_not": of_scale,
    "scale_f1": of_scale,
    "iaf_": of_iaf,
    "linvae": of_linear_vae,
    "ppca_population": of_linear_vae,
    "lin_igp": of_isotropic,
    "bn_exact": of_bn,
    "bn_kl_bound": of_bn_bound,
    "ppca_n": of_ppca,
}
ANSWERED = sorted(name for name in CASES if name.startswith(tuple(ANSWERS)))


@pytest.mark.parametrize("name", ANSWERED)
def test_printed_case(name: str) -> None:
    case = CASES[name]
    answer = next(function for prefix, function in ANSWERS.items() if name.startswith(prefix))
    expected = case["expected"]
    takes_expected = answer in (of_linear_vae, of_isotropic, of_ppca)
    arguments = (case["inputs"], expected) if takes_expected else (case["inputs"],)
    compared = 0
    for key, value in answer(*arguments).items():
        if key in expected:
            found = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
            torch.testing.assert_close(
                found,
                t(expected[key]).reshape(-1),
                rtol=case["rtol"],
                atol=max(case["atol"], 1e-14) if expected[key] == 0.0 else case["atol"],
                msg=lambda m, key=key: f"{name}.{key}: {m}",
            )
            compared += 1
    assert compared


def test_moments_at_the_values_of_duvae_appendix() -> None:
    """The bound of equation 8 and total collapse: MPD 49.0156 for q = p, D = 32, keep 0.8."""
    mpd, _ = dropped(torch.zeros(1, 32).double(), torch.ones(1, 32).double(), 0.8)
    assert mpd.item() == pytest.approx(49.0156, abs=5e-5)


# --- oracles and properties ---------------------------------------------------------------------

magnitude = st.floats(-3.0, 3.0)


@st.composite
def posteriors(draw: st.DrawFn) -> tuple[Tensor, Tensor, float]:
    """theory.md's strategy: (mean, variance, alpha) with variance - alpha in 10^[-4, 3]."""
    n, d = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    alpha = 10.0 ** draw(st.floats(-6.0, 1.0))
    scale = 10.0 ** draw(magnitude)
    unit = st.lists(st.floats(-1.0, 1.0), min_size=n * d, max_size=n * d)
    mean = t(draw(unit)).reshape(n, d) * scale
    excess = 10.0 ** (t(draw(unit)).reshape(n, d) * 3.5 - 0.5)
    return mean, alpha + excess, alpha


@settings(max_examples=100, deadline=None)
@given(posteriors())
def test_mpd_equals_the_average_over_pairs(drawn: tuple[Tensor, Tensor, float]) -> None:
    mean, logvar = drawn[0], drawn[1].log()
    fast = gaussian.mutual_posterior_divergence(mean, logvar)
    torch.testing.assert_close(fast, pairwise_mpd(mean, logvar), rtol=1e-11, atol=1e-12)
    assert fast >= 0.0
    largest = drawn[1].amax(0)
    bound = (mean.var(0, unbiased=False) / largest).sum()
    assert fast * (1 + 1e-12) + 1e-12 >= bound
    if len(mean) > 1:
        torch.testing.assert_close(
            gaussian.mutual_posterior_divergence(mean, logvar, unbiased=True),
            pairwise_mpd(mean, logvar, unbiased=True),
            rtol=1e-11,
            atol=1e-12,
        )


@settings(max_examples=100, deadline=None)
@given(posteriors(), st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_variance_dropout_is_ordered(
    drawn: tuple[Tensor, Tensor, float], p: float, q: float
) -> None:
    """DU-VAE's proposition: MPD rises and conditional entropy falls as less is kept."""
    _, variance, alpha = drawn
    low, high = sorted((p, q))
    less = gaussian.variance_dropout_moments(variance, low, alpha)
    more = gaussian.variance_dropout_moments(variance, high, alpha)
    slack = 1e-11 * (1.0 + 1.0 / alpha)
    assert (less.inverse_variance >= more.inverse_variance - slack).all()
    assert (less.log_variance <= more.log_variance + slack).all()
    assert (more.inverse_variance >= 1.0 / variance - slack).all()
    assert (more.log_variance <= variance.log() + slack).all()


def test_variance_dropout_moments_are_the_average_over_the_mask() -> None:
    variance, keep = t([ALPHA, 0.5, 3.0]), 0.7
    kept = ALPHA + (variance - ALPHA) / keep
    found = gaussian.variance_dropout_moments(variance, keep, ALPHA)
    torch.testing.assert_close(found[0], keep / kept + (1 - keep) / ALPHA, rtol=1e-13, atol=0)
    expected = keep * kept.log() + (1 - keep) * math.log(ALPHA)
    torch.testing.assert_close(found[1], expected, rtol=1e-13, atol=1e-15)
    alone = gaussian.variance_dropout_moments(variance, 1.0, ALPHA)
    torch.testing.assert_close(alone[0], 1 / variance, rtol=1e-15, atol=0)
    at_floor = torch.full((2,), ALPHA)
    assert gaussian.variance_dropout_moments(at_floor, 0.5, ALPHA)[0].dtype == torch.float32


@settings(max_examples=60, deadline=None)
@given(st.floats(-12.0, 2.5), st.booleans(), st.sampled_from([torch.float32, torch.float64]))
def test_kl_keeps_its_digits_near_zero(power: float, minus: bool, dtype: torch.dtype) -> None:
    u = torch.tensor((-1.0 if minus else 1.0) * 10.0**power, dtype=dtype)
    if abs(u.item()) > 80.0:
        return
    x = mpf(u.item())
    exact = mp.expm1(x) - x
    found = gaussian.exp_minus_tangent(u)
    assert abs(mpf(found.item()) / exact - 1) < 8 * torch.finfo(dtype).eps
    again = gaussian.kl(torch.zeros(1, 1, dtype=dtype), u.reshape(1, 1), *[u.new_zeros(1, 1)] * 2)
    assert again.item() == pytest.approx(found.item() / 2, rel=1e-6, abs=1e-37)


@settings(max_examples=60, deadline=None)
@given(posteriors())
def test_kl_agrees_with_torch_distributions(drawn: tuple[Tensor, Tensor, float]) -> None:
    mean, variance, _ = drawn
    q = torch.distributions.Normal(mean, variance.sqrt())
    p = torch.distributions.Normal(mean.flip(0), variance.flip(0).sqrt())
    found = gaussian.kl(mean, variance.log(), mean.flip(0), variance.flip(0).log())
    exact = torch.distributions.kl_divergence(q, p).sum(-1)
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-9)
    unit = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    torch.testing.assert_close(
        gaussian.kl_to_standard_normal(mean, variance.log()),
        torch.distributions.kl_divergence(q, unit).sum(-1),
        rtol=1e-9,
        atol=1e-9,
    )


def test_gradients() -> None:
    inputs = [t([[0.3, -1.0], [2.0, 0.1]]) * scale for scale in (1.0, 0.2, -0.5, 1.5)]
    inputs[1][0, 0] = 0.0  # the series and its limit
    for tensor in inputs:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(gaussian.kl_to_standard_normal, inputs[:2])
    assert torch.autograd.gradgradcheck(gaussian.kl_to_standard_normal, inputs[:2])
    assert torch.autograd.gradcheck(gaussian.kl, inputs)
    assert torch.autograd.gradcheck(gaussian.mutual_posterior_divergence, inputs[:2])


def test_gradient_is_finite_where_the_variance_underflows() -> None:
    logvar = torch.tensor([[-200.0, 80.0, 0.0]], requires_grad=True)
    gaussian.kl_to_standard_normal(torch.zeros(1, 3), logvar).sum().backward()
    assert logvar.grad is not None
    torch.testing.assert_close(logvar.grad[0, ::2], torch.tensor([-0.5, 0.0]))
    assert torch.isfinite(logvar.grad).all()


# --- extremes -------------------------------------------------------------------------------------


def exact_log_det(mean: Tensor, logvar: Tensor) -> float:
    """log det of the aggregated covariance in 60 digits and more."""
    mp.dps = 250
    try:
        n, d = mean.shape
        mu = mp.matrix(mean.double().tolist())
        centre = [mp.fsum(mu[i, k] for i in range(n)) / n for k in range(d)]
        cov = mp.matrix(d, d)
        for a in range(d):
            for b in range(d):
                terms = ((mu[i, a] - centre[a]) * (mu[i, b] - centre[b]) for i in range(n))
                cov[a, b] = mp.fsum(terms) / n
            cov[a, a] += mp.fsum(mp.exp(mpf(v)) for v in logvar[:, a].tolist()) / n
        return float(mp.log(mp.det(cov)))
    finally:
        mp.dps = 60


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 3), (3, 1), (6, 3), (4, 4)])
@pytest.mark.parametrize("level", [-100.0, 0.0, 100.0])
def test_aggregate_moments_of_extremes(
    dtype: torch.dtype, shape: tuple[int, int], level: float
) -> None:
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(shape[0]))
    mean = (1e8 * noise[0].round(decimals=2)).to(dtype)
    mean[:, -1] = mean[:, 0]  # the means of two dimensions are the same
    logvar = (level + noise[1]).to(dtype)
    logvar[:, 0] = -logvar[:, 0]
    found = gaussian.aggregate_moments(mean, logvar)
    assert found.log_det_covariance.dtype == dtype
    assert found.log_det_covariance.item() == pytest.approx(exact_log_det(mean, logvar), rel=1e-5)
    norm = mean.double().mean(0).square().sum().item()
    assert found.mean_norm_squared.item() == pytest.approx(norm, rel=1e-6)


def test_float32_extremes_are_finite_and_right() -> None:
    mean = torch.tensor([[1e8, -1e8], [1e8, 1.0]])
    logvar = torch.tensor([[-100.0, 50.0], [-100.0, -50.0]])
    expected = 0.5 * (mean.double().square() + logvar.double().exp() - 1 - logvar.double()).sum(-1)
    torch.testing.assert_close(
        gaussian.kl_to_standard_normal(mean, logvar).double(), expected, rtol=1e-6, atol=0
    )
    same = gaussian.kl(mean, logvar, mean, logvar)
    assert torch.equal(same, torch.zeros(2))
    assert gaussian.kl(mean[:, :1], logvar[:, :1] - 100, mean[:, :1], logvar[:, :1]).tolist() == [
        49.5,
        49.5,
    ]
    one = gaussian.mutual_posterior_divergence(mean[:, :1], logvar[:, :1])
    assert one.item() == 0.0
    shifted = torch.tensor([[1e8], [1e8 + 8]])
    mpd = gaussian.mutual_posterior_divergence(shifted, torch.zeros(2, 1))
    assert mpd.item() == 16.0  # the two are 8 apart: half of 64, over half of the pairs
    assert gaussian.conditional_entropy(logvar).dtype == torch.float32


def test_mpd_of_nearly_equal_variances_keeps_its_digits() -> None:
    logvar = torch.tensor([[1e-7], [3e-7]])
    exact = 0.25 * (mp.cosh(mpf(logvar[1].item()) - mpf(logvar[0].item())) - 1)
    found = gaussian.mutual_posterior_divergence(torch.zeros(2, 1), logvar)
    assert found.item() == pytest.approx(float(exact), rel=1e-6, abs=0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m, v: gaussian.kl_to_standard_normal(m, v + 100),
            "does not fit into torch.float32",
        ),
        (lambda m, v: gaussian.kl_to_standard_normal(m * math.nan, v), "mean must be finite"),
        (lambda m, v: gaussian.kl_to_standard_normal(m, v - math.inf), "logvar must be finite"),
        (lambda m, v: gaussian.kl(m, v, m, v + math.inf), "logvar2 must be finite"),
        (lambda m, v: gaussian.kl(m, v, m + 1e8, v - 100), "does not fit into torch.float32"),
        (lambda m, v: gaussian.entropy(v * math.nan), "logvar must be finite, given nan at"),
        (lambda m, v: gaussian.conditional_entropy(v + math.inf), "logvar must be finite"),
        (lambda m, v: gaussian.mutual_posterior_divergence(m / 0, v), "mean must be finite"),
        (lambda m, v: gaussian.mutual_posterior_divergence(m[:1], v[:1], True), "at least 2"),
        (lambda m, v: gaussian.aggregate_moments(m, v * math.nan), "logvar must be finite"),
        (lambda m, v: gaussian.active_units(m[:1]), "at least 2 points, given 1"),
        (lambda m, v: gaussian.active_rank(m[:1]), "at least 2 points, given 1"),
        (lambda m, v: gaussian.active_units(m * math.nan), "mean must be finite"),
        (lambda m, v: gaussian.active_units(m, 0.0), "threshold must be positive"),
        (lambda m, v: gaussian.kl_to_standard_normal(m, v[:, :1]), "must have one shape"),
        (lambda m, v: gaussian.kl(m, v, m[:, :1].expand(2, 3), v), "broadcast"),
        (lambda m, v: gaussian.mutual_posterior_divergence(m[0], v[0]), r"one shape \(N, D\)"),
        (lambda m, v: gaussian.kl_to_standard_normal(m.long(), v), "floating-point tensor"),
        (lambda m, v: gaussian.variance_dropout_moments(v + 1, 0.0, 0.1), "keep_prob"),
        (lambda m, v: gaussian.variance_dropout_moments(v + 1, 0.5, 0.0), "alpha must be"),
        (lambda m, v: gaussian.variance_dropout_moments(v + 1, 0.5, 2.0), "at least alpha"),
    ],
)
def test_bad_input_is_named(call: Callable[[Tensor, Tensor], Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        call(torch.ones(2, 2), torch.zeros(2, 2))


def test_active_units_uses_ddof_1_and_includes_the_threshold() -> None:
    mean = t([[0.0, 0.0, 0.0], [0.5, 0.25, 0.0]])  # variances 1/8, 1/32, 0
    assert gaussian.active_units(mean, 0.125) == 1
    assert gaussian.active_units(mean, 0.03125) == 2
    assert gaussian.active_units(mean + 1e8, 0.03125) == 2


def test_active_rank_does_not_change_under_rotation() -> None:
    mean = torch.zeros(5, 2).double()
    mean[:, 0] = t([-2.0, -1.0, 0.0, 1.0, 2.0]) * 1e8
    turned = mean @ t([[1.0, 1.0], [-1.0, 1.0]]) * math.sqrt(0.5)
    assert gaussian.active_units(mean) == gaussian.active_rank(mean) == 1
    assert gaussian.active_units(turned) == 2
    assert gaussian.active_rank(turned) == 1


def test_kl_to_standard_normal_has_the_gradients_of_its_plain_form() -> None:
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(5, 3, dtype=torch.float64, generator=generator) for _ in range(2)]
    mean, logvar = (tensor.requires_grad_() for tensor in given)
    plain = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).sum(-1)
    wanted = torch.autograd.grad(plain.square().sum(), given)
    found = gaussian.kl_to_standard_normal(mean, logvar).square().sum()
    for a, b in zip(torch.autograd.grad(found, given), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    # Semi-amortised inference differentiates it twice.
    assert torch.autograd.gradgradcheck(gaussian.kl_to_standard_normal, given)
