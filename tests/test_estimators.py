"""Estimators against quadrature, enumeration, printed values and models with known answers."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput, PosteriorCollapseError
from posterior_collapse.estimators import (
    NODES_PER_CALL,
    Estimate,
    aggregate_kl,
    evaluate,
    importance_weighted_nll,
    information,
    likelihood,
    mutual_information,
    posterior_moments_1d,
)
from posterior_collapse.posteriors import DiagonalNormal
from posterior_collapse.priors import UnitNormal

CASES = {
    case["name"]: case
    for case in json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
}


def t(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def columns(values: Any) -> Tensor:
    """A tensor (N, D), whether the case gives one dimension or more."""
    found = t(values)
    return found[:, None] if found.dim() == 1 else found


def within(estimate: Estimate, exact: float, errors: float = 5.0, tolerance: float = 1e-12) -> None:
    """The estimate is right, and its standard error is worth something."""
    assert torch.isfinite(estimate.stderr)
    slack = errors * estimate.stderr.item() + tolerance
    assert abs(estimate.value.item() - exact) <= slack, (estimate, exact)


class Linear(nn.Module):
    """p(x|z) = N(W z + b, s^2 I) with a given q(z|x) = N(A x + a, diag exp(l)); keeps count."""

    def __init__(
        self, weight: Tensor, noise: float, gain: Tensor, offset: Tensor, logvar: Tensor
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", torch.zeros_like(weight[:, 0]))
        self.noise, self.gain, self.offset, self.logvar = noise, gain, offset, logvar
        self.encoded = 0
        self.decoded: list[tuple[int, ...]] = []

    def posterior(self, x: Tensor) -> Distribution:
        self.encoded += 1
        mean = x @ self.gain.T + self.offset
        return DiagonalNormal(mean, self.logvar.expand_as(mean))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        self.decoded.append(tuple(z.shape))
        likelihood = Normal(z @ self.weight.T + self.bias, self.noise)
        return likelihood.log_prob(x).sum(-1)

    @property
    def prior(self) -> Distribution:
        return UnitNormal(torch.zeros(self.weight.shape[1], dtype=self.weight.dtype))

    def log_evidence(self, x: Tensor) -> Tensor:
        eye = torch.eye(len(self.weight), dtype=x.dtype)
        covariance = self.weight @ self.weight.T + self.noise**2 * eye
        return MultivariateNormal(self.bias, covariance).log_prob(x)


def scalar_model(case: dict[str, Any], mean: float, variance: float) -> Linear:
    """x = w z + noise in one dimension, with one q for every x."""
    w = t([[case["w"]]])
    return Linear(w, case["s"], 0 * w, t([mean]), t([variance]).log())


def ppca_model(seed: int = 0, features: int = 3, dim: int = 2) -> tuple[Linear, Tensor]:
    """A probabilistic PCA with its posterior made a little wrong, and data from it."""
    generator = seeded(seed)
    weight = torch.randn(features, dim, generator=generator, dtype=torch.float64)
    noise = 0.7
    precision = torch.eye(dim, dtype=torch.float64) + weight.T @ weight / noise**2
    gain = torch.linalg.solve(precision, weight.T) / noise**2
    logvar = -precision.diagonal().log() + 0.2
    model = Linear(weight, noise, gain, torch.full((dim,), 0.1).double(), logvar)
    z = torch.randn(40, dim, generator=generator, dtype=torch.float64)
    x = z @ weight.T + noise * torch.randn(40, features, generator=generator, dtype=torch.float64)
    return model, x


# --- mutual information ---------------------------------------------------------------------------


def exact_1d(mean: Tensor, logvar: Tensor) -> tuple[float, float]:
    """I(x; z) and KL(q_agg || N(0, 1)) by the trapezoid rule."""
    std = (0.5 * logvar).exp()
    low, high = (mean - 12 * std).min(), (mean + 12 * std).max()
    z = torch.linspace(0, 1, 40001, dtype=torch.float64) * (high - low) + low
    log_q = Normal(mean.T, std.T).log_prob(z[:, None])  # (Z, N)
    log_agg = log_q.logsumexp(1) - math.log(len(mean))
    step = (z[1] - z[0]).item()
    information = (log_q.exp() * (log_q - log_agg[:, None])).sum() * step / len(mean)
    away = (log_agg.exp() * (log_agg + 0.5 * z.square() + 0.5 * math.log(2 * math.pi))).sum() * step
    return information.item(), away.item()


MIXTURES = sorted(n for n in CASES if n.startswith("mi_") and "I_q" in CASES[n]["expected"])


@pytest.mark.parametrize("name", MIXTURES)
def test_mutual_information_of_printed_cases(name: str) -> None:
    case = CASES[name]["inputs"], CASES[name]["expected"]
    mean, logvar = columns(case[0]["mu"]), 2 * columns(case[0]["sigma"]).log()
    information = mutual_information(mean, logvar, 20000, seeded())
    away = aggregate_kl(mean, logvar, 20000, seeded(1))
    assert information.n == away.n == len(mean)
    within(information, case[1]["I_q"])
    within(away, case[1]["kl_qagg_p"])
    kl = gaussian.kl_to_standard_normal(mean, logvar).mean()
    assert kl.item() == pytest.approx(case[1]["E_kl"], rel=1e-10)
    assert information.value <= case[1]["log_N"] + 1e-12


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.floats(-1.0, 1.5), st.floats(-6.0, 1.0), st.integers(0, 10**6))
def test_mutual_information_agrees_with_quadrature(
    points: int, spread: float, level: float, seed: int
) -> None:
    generator = seeded(seed)
    mean = 10**spread * torch.randn(points, 1, generator=generator, dtype=torch.float64)
    logvar = level + torch.randn(points, 1, generator=generator, dtype=torch.float64)
    information, away = exact_1d(mean, logvar)
    # Where posteriors hardly overlap, what they share can be too rare to be drawn at all: then
    # neither the value nor its error knows of it. One draw in 400 points is worth about 1e-3 nats.
    within(mutual_information(mean, logvar, 400, generator), information, 6.0, 1e-3)
    within(aggregate_kl(mean, logvar, 400, generator), away, 6.0, 1e-3)


def test_the_papers_minibatch_form_by_enumeration() -> None:
    case = CASES["mi_minibatch"]["inputs"], CASES["mi_minibatch"]["expected"]
    mean, logvar = columns(case[0]["mu"]), 2 * columns(case[0]["sigma"]).log()
    generator = seeded(3)

    def average(batches: list[tuple[int, ...]], size: int) -> Estimate:
        index = torch.tensor([i for batch in batches for i in batch])
        return mutual_information(mean[index], logvar[index], 20000, generator, aggregate=size)

    pairs = list(itertools.combinations(range(4), 2))
    within(average(pairs, 2), case[1]["E_own_in_batch_S2_without_repl"])
    all_pairs = list(itertools.product(range(4), repeat=2))
    within(average(all_pairs, 2), case[1]["E_own_in_batch_S2_with_repl"])
    triples = list(itertools.combinations(range(4), 3))
    within(average(triples, 3), case[1]["E_own_in_batch_S3_without_repl"])
    fixed = mutual_information(mean, logvar, 20000, generator, aggregate=2)
    within(fixed, case[1]["fixed_batches_01_23"])
    assert fixed.n == 2
    full = mutual_information(mean, logvar, 20000, generator)
    within(full, case[1]["I_exact_full_aggregate"])
    bound = gaussian.mutual_posterior_divergence(mean, logvar).item()
    assert bound == pytest.approx(case[1]["E_independent_S1"], rel=1e-10)


def test_minibatch_ceiling_and_the_smaller_last_batch() -> None:
    mean = 100.0 * torch.arange(7, dtype=torch.float64)[:, None]
    logvar = torch.zeros_like(mean)
    found = mutual_information(mean, logvar, 4, seeded(), aggregate=3)
    assert found.value.item() == pytest.approx(6 / 7 * math.log(3), rel=1e-12)
    assert mutual_information(mean, logvar, 4, seeded()).value.item() == pytest.approx(math.log(7))
    assert mutual_information(mean, logvar, 4, seeded(), aggregate=1).value.item() == 0.0
    for size in (32, 50, 128):
        many = 100.0 * torch.arange(2 * size, dtype=torch.float64)[:, None]
        found = mutual_information(many, torch.zeros_like(many), 1, seeded(), aggregate=size)
        ceiling = CASES["mi_ceilings"]["expected"][f"log{size}"]
        assert found.value.item() == pytest.approx(ceiling, rel=1e-10)


@pytest.mark.parametrize("dim", [1, 3, 6])
def test_log_densities_equal_torch_distributions(dim: int) -> None:
    generator = seeded(dim)
    mean, logvar = torch.randn(2, 9, dim, generator=generator, dtype=torch.float64)
    noise = torch.randn(4, 5, dim, generator=generator, dtype=torch.float64)
    own = torch.tensor([0, 8, 3, 3])
    z = mean[own, None] + (0.5 * logvar[own, None]).exp() * noise
    exact = Normal(mean, (0.5 * logvar).exp()).log_prob(z[:, :, None]).sum(-1)
    found = information._log_densities(mean, logvar, own, noise)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-10)
    # The same through differences, as for narrow posteriors, must give the same again.
    far = information._log_densities(mean + 1e6, logvar, own, noise)
    torch.testing.assert_close(far, exact, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dim", [1, 5])
def test_chunks_hold_bounded_memory_and_lose_nothing(
    monkeypatch: pytest.MonkeyPatch, dim: int
) -> None:
    generator = seeded(4)
    mean, logvar = torch.randn(2, 11, dim, generator=generator, dtype=torch.float64)
    sizes: list[int] = []
    plain = information._log_densities

    def recorded(*arguments: Tensor) -> Tensor:
        found = plain(*arguments)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(information, "_log_densities", recorded)
    whole = mutual_information(mean, logvar, 301, seeded())
    for budget in (40, 4000):
        sizes.clear()
        monkeypatch.setattr(information, "_DENSITIES_PER_CHUNK", budget)
        found = mutual_information(mean, logvar, 301, seeded(1))
        assert sum(sizes) == 11 * 301 * 11
        assert max(sizes) <= budget
        difference = (found.value - whole.value).abs()
        assert difference <= 5 * (found.stderr.square() + whole.stderr.square()).sqrt()


def test_the_standard_error_is_that_of_repeated_estimates() -> None:
    generator = seeded(5)
    mean, logvar = torch.randn(2, 30, 2, generator=generator, dtype=torch.float64)
    for samples in (1, 4):
        runs = [mutual_information(mean, logvar, samples, generator) for _ in range(300)]
        spread = torch.stack([run.value for run in runs]).std()
        claimed = torch.stack([run.stderr for run in runs]).square().mean().sqrt()
        if samples > 1:
            assert claimed / spread == pytest.approx(1.0, abs=0.15)
        else:  # stands in with the spread over points, which is not smaller
            assert 0.85 < claimed / spread < 3.0


def test_float32_extremes_of_mutual_information() -> None:
    mean = torch.tensor([[1e8], [1e8], [-1e8]])
    logvar = torch.tensor([[-100.0], [-100.0], [100.0]])
    found = mutual_information(mean, logvar, 50, seeded())
    assert found.value.dtype == torch.float32
    exact = (2 * math.log(1.5) + math.log(3)) / 3  # two are the same, the third is far wider
    assert found.value.item() == pytest.approx(exact, rel=1e-6)
    # Two narrow posteriors at the same far place, one ten times wider: 1e8 must not round it away.
    mean, logvar = torch.full((2, 1), 1e8), torch.tensor([[-100.0], [-100.0 + 2 * math.log(10)]])
    information, _ = exact_1d(0 * mean.double(), logvar.double() + 100)
    within(mutual_information(mean, logvar, 20000, seeded()), information)
    assert math.isfinite(aggregate_kl(mean, logvar, 10, seeded()).value.item())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_samples": 0}, "num_samples"),
        ({"aggregate": 0}, "aggregate"),
        ({"aggregate": 4}, r"1\.\.3, the number of points, given 4"),
        ({"mean": torch.full((3, 1), math.nan)}, "mean must be finite"),
        ({"logvar": torch.zeros(2, 1)}, "one shape"),
    ],
)
def test_mutual_information_refuses(change: dict[str, Any], message: str) -> None:
    arguments = {"mean": torch.zeros(3, 1), "logvar": torch.zeros(3, 1), "num_samples": 2}
    with pytest.raises(BadInput, match=message):
        mutual_information(**{**arguments, "generator": seeded(), **change})


def test_one_draw_of_one_point_has_no_standard_error() -> None:
    found = mutual_information(torch.zeros(1, 1), torch.zeros(1, 1), 1, seeded())
    assert found.value == 0.0
    assert found.stderr == math.inf


# --- importance-weighted likelihood ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["iw_generic", "iw_perfect_q"])
def test_importance_weighted_nll_of_printed_cases(name: str) -> None:
    case, expected = CASES[name]["inputs"], CASES[name]["expected"]
    model = scalar_model(case, case["q_mu"], case["q_sd"] ** 2)
    x = t([[case["x"]]])
    repeats = x.expand(20000, 1)
    for k, key in ((1, "L1_elbo"), (2, "L2")):
        values = importance_weighted_nll(model, [repeats], k, seeded(k)).value
        stderr = values.std().item() / math.sqrt(len(values))
        assert abs(-values.mean().item() - expected[key]) <= 5 * stderr + 1e-9
    many = importance_weighted_nll(model, [x], 100_000, seeded(7))
    assert abs(many.value.item() + expected["logp"]) <= 5 * many.stderr.item() + 1e-9
    chi2 = expected["chi2_post_q"]
    assert many.stderr.item() == pytest.approx(math.sqrt(chi2 / 100_000), rel=0.1, abs=1e-7)


def test_ppca_case_with_three_features() -> None:
    case, expected = CASES["ppca_n1"]["inputs"], CASES["ppca_n1"]["expected"]
    weight = t(case["W"])
    model = Linear(weight, case["s"], 0 * weight.T, t(case["q_mu"]), t(case["q_logvar"]))
    model.bias = t(case["b"])
    x = t([case["x"], case["x"]])
    found = evaluate(model, [x], seeded(), num_samples=40000)
    assert abs(found.nll + expected["logp"]) <= 5 * found.nll_stderr
    assert abs(found.reconstruction + expected["rec"]) <= 5 * found.reconstruction_stderr
    assert found.kl == pytest.approx(expected["kl"], rel=1e-10)
    assert abs(found.elbo_loss + expected["elbo"]) <= 5 * found.elbo_loss_stderr
    moments = posterior_moments_1d(lambda z: joint(model, x, z), 2, dtype=torch.float64)
    assert moments.log_evidence.tolist() == pytest.approx([expected["logp"]] * 2, rel=1e-10)
    assert moments.mean.tolist() == pytest.approx(expected["post_mean"] * 2, rel=1e-9)
    assert moments.variance.tolist() == pytest.approx(expected["post_cov"][0] * 2, rel=1e-8)


def joint(model: Linear, x: Tensor, z: Tensor) -> Tensor:
    return model.log_likelihood(x, z[..., None]) + model.prior.log_prob(z[..., None])


def test_likelihood_of_ppca_and_its_fall_with_the_sample_count() -> None:
    model, x = ppca_model()
    exact = -model.log_evidence(x)
    found = importance_weighted_nll(model, x.split(17), 4000, seeded())
    assert found.n == 4000
    assert found.value.shape == found.stderr.shape == (40,)
    assert ((found.value - exact).abs() <= 5 * found.stderr).all()
    assert model.encoded == 3  # one encoding per batch
    many = x.repeat_interleave(100, 0)
    averages = [
        importance_weighted_nll(model, [many], k, seeded(k)).value.mean().item()
        for k in (1, 4, 16, 64)
    ]
    assert averages == sorted(averages, reverse=True)
    assert averages[-1] >= exact.mean().item() - 1e-3


@pytest.mark.parametrize("chunk", [1, 3, 4, 7, 100])
def test_the_remainder_counts(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """7 samples in chunks of any size give what one chunk gives with the same draws."""
    model, x = ppca_model()
    x = x[:2]
    posterior = model.posterior(x)
    draws = posterior.rsample((7,))
    stream = iter(draws)

    def replay(_: Distribution, shape: tuple[int], __: torch.Generator) -> Tensor:
        return torch.stack([next(stream) for _ in range(shape[0])])

    monkeypatch.setattr(likelihood, "draw", replay)
    monkeypatch.setattr(likelihood, "SEQUENCES_PER_CALL", 2 * chunk)
    found = importance_weighted_nll(model, [x], 7, seeded())
    assert next(stream, None) is None
    log_weights = (
        model.log_likelihood(x, draws) + model.prior.log_prob(draws) - posterior.log_prob(draws)
    )
    exact = -(log_weights.logsumexp(0) - math.log(7))
    torch.testing.assert_close(found.value, exact, rtol=1e-12, atol=0)
    weights = (log_weights - log_weights.amax(0)).exp()
    stderr = weights.std(0) / math.sqrt(7) / weights.mean(0)
    torch.testing.assert_close(found.stderr, stderr, rtol=1e-9, atol=0)


def test_the_largest_call_does_not_depend_on_the_sample_count() -> None:
    sizes = []
    for samples in (50, 500, 5000):
        model, x = ppca_model()
        importance_weighted_nll(model, [x], samples, seeded())
        sizes.append(max(s * b for s, b, _ in model.decoded))
        assert sum(s for s, _, _ in model.decoded) == samples
    assert sizes[0] == sizes[1] == sizes[2] <= likelihood.SEQUENCES_PER_CALL


def test_standard_error_of_the_likelihood_is_that_of_repeated_estimates() -> None:
    model, x = ppca_model()
    found = importance_weighted_nll(model, [x[:1].expand(500, 3)], 300, seeded())
    assert found.stderr.mean().item() == pytest.approx(found.value.std().item(), rel=0.15)
    assert importance_weighted_nll(model, [x], 1, seeded()).stderr.min() == math.inf


class Foreign:
    """A reader's own model: plain object, full covariance, another prior, float32."""

    prior = Independent(Normal(torch.zeros(2), torch.full((2,), 1.5)), 1)

    def posterior(self, x: Tensor) -> Distribution:
        factor = torch.tensor([[0.9, 0.0], [0.3, 0.8]])
        return MultivariateNormal(0.5 * x, scale_tril=factor.expand(len(x), 2, 2))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return Normal(z, 0.8).log_prob(x).sum(-1)


def test_a_foreign_model_without_closed_forms() -> None:
    x = torch.tensor([[0.3, -1.0], [2.0, 0.5], [0.0, 0.1]])
    exact = -Normal(torch.zeros(2), math.hypot(0.8, 1.5)).log_prob(x).sum(-1)
    model = Foreign()
    state = torch.random.get_rng_state()
    found = importance_weighted_nll(model, iter([x[:2], x[2:]]), 20000, seeded())
    again = importance_weighted_nll(model, [x[:2], x[2:]], 20000, seeded())
    assert torch.equal(found.value, again.value)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert found.value.dtype == torch.float32
    assert ((found.value - exact).abs() <= 5 * found.stderr).all()
    measured = evaluate(model, [x], seeded(), num_samples=20000)
    q = model.posterior(x)
    wide = MultivariateNormal(torch.zeros(2), 2.25 * torch.eye(2))
    kl = torch.distributions.kl_divergence(q, wide).mean().item()
    assert measured.kl_stderr > 0
    assert abs(measured.kl - kl) <= 5 * measured.kl_stderr
    assert measured.mutual_information is measured.aggregate_kl is None
    assert measured.n_tokens is measured.perplexity is None


class Broken(Foreign):
    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self.change = change

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return self.change(super().log_likelihood(x, z))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda v: v * math.nan, PosteriorCollapseError, "log p.x.z. = nan"),
        (lambda v: v + math.inf, PosteriorCollapseError, "log p.x.z. = inf"),
        (lambda v: v - math.inf, PosteriorCollapseError, "none of 9 samples"),
        (lambda v: v.sum(1), BadInput, r"shape \(S, B\)"),
    ],
)
def test_broken_models_are_named(
    change: Callable[[Tensor], Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        importance_weighted_nll(Broken(change), [torch.zeros(3, 2)], 9, seeded())


def test_some_samples_may_have_no_likelihood() -> None:
    model = Broken(lambda v: torch.where(torch.arange(len(v))[:, None] % 2 == 0, v, -math.inf))
    x = torch.zeros(500, 2)  # both samples are decoded in one call
    half = importance_weighted_nll(model, [x], 2, seeded())
    one = importance_weighted_nll(Foreign(), [x], 1, seeded(1))
    # One of two weights is zero: the mean weight is half of that of one sample.
    gap = half.value.mean() - one.value.mean()
    assert gap.item() == pytest.approx(math.log(2), abs=0.1)


def test_empty_batches_and_bad_counts_are_refused() -> None:
    with pytest.raises(BadInput, match="empty"):
        importance_weighted_nll(Foreign(), [], 2, seeded())
    with pytest.raises(BadInput, match="empty"):
        evaluate(Foreign(), [], seeded())
    with pytest.raises(BadInput, match="num_samples"):
        importance_weighted_nll(Foreign(), [torch.zeros(1, 2)], 2.5, seeded())


# --- evaluate -------------------------------------------------------------------------------------


def test_evaluate_of_ppca_agrees_with_closed_forms() -> None:
    model, x = ppca_model()
    model.train()
    found = evaluate(model, x.split(15), seeded(), num_samples=2000, mi_samples=500)
    assert model.training
    assert model.encoded == 3
    assert abs(found.nll + model.log_evidence(x).mean().item()) <= 5 * found.nll_stderr
    q = model.posterior(x)
    kl = gaussian.kl_to_standard_normal(q.mean, q.logvar).mean().item()
    assert found.kl == pytest.approx(kl, rel=1e-12)
    assert found.kl_stderr == 0.0
    residual = (x - q.mean @ model.weight.T).square().sum(-1)
    spread = (model.weight.square() @ model.logvar.exp()).sum()
    exact = 0.5 * ((residual + spread) / 0.49 + 3 * math.log(2 * math.pi * 0.49))
    assert abs(found.reconstruction - exact.mean().item()) <= 5 * found.reconstruction_stderr
    assert found.elbo_loss == pytest.approx(found.reconstruction + found.kl, rel=1e-12)
    assert found.elbo_loss > found.nll
    assert found.mutual_information is not None and found.aggregate_kl is not None
    assert found.mutual_information_stderr is not None and found.aggregate_kl_stderr is not None
    parts = found.mutual_information + found.aggregate_kl
    error = math.hypot(found.mutual_information_stderr, found.aggregate_kl_stderr)
    assert abs(parts - found.kl) <= 5 * error
    assert (found.mutual_information_points, found.n_sentences) == (40, 40)
    assert found.active_units == found.active_rank == 2
    json.dumps(found._asdict(), allow_nan=False)


class Words(nn.Module):
    """A text model whose words ignore z, with parts that training mode would disturb."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.frozen = nn.Dropout(0.5).eval()
        self.prior = UnitNormal(torch.zeros(1))
        self.modes: list[bool] = []

    def posterior(self, x: Tensor) -> Distribution:
        self.modes.append(self.training or self.norm.training or torch.is_grad_enabled())
        mean = self.frozen(self.norm(x[:, :1].float()))
        return DiagonalNormal(mean, torch.zeros_like(mean))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        predictions = (x[:, 1:] != 0).sum(1)
        return (-math.log(10.0) * predictions).expand(z.shape[:2])


def test_perplexity_counts_words_and_the_model_is_left_as_it_was() -> None:
    model = Words().train()
    model.frozen.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = [torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]]), torch.tensor([[1, 2]])]
    found = evaluate(model, iter(batches), seeded(), num_samples=10, aggregate=2, padding=0)
    assert model.training and model.norm.training and not model.frozen.training
    assert not any(model.modes)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert found.n_tokens == 6
    assert found.mutual_information_points == 3
    assert found.batch_mutual_information_points == 2
    expected = found.nll * 3 / 6
    assert found.perplexity == pytest.approx(math.exp(expected), rel=1e-12)
    assert found.reconstruction == pytest.approx(2 * math.log(10.0), rel=1e-6)
    with pytest.raises(ZeroDivisionError):
        evaluate(model, raising(), seeded())
    assert model.training and not model.frozen.training


def raising() -> Iterator[Tensor]:
    yield torch.tensor([[1, 2]])
    raise ZeroDivisionError


# --- printed cases about bounds -------------------------------------------------------------------


class Bernoulli:
    """p(x = 1|z) = sigmoid(slope z + shift) with a given q for x = 0 and x = 1."""

    prior = UnitNormal(torch.zeros(1).double())

    def __init__(self, slope: float, shift: float, mean: Tensor, std: Tensor) -> None:
        self.slope, self.shift, self.mean, self.std = slope, shift, mean, std

    def posterior(self, x: Tensor) -> Distribution:
        return DiagonalNormal(self.mean[x, None], 2 * self.std[x, None].log())

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        logit = self.slope * z[..., 0] + self.shift
        return nn.functional.logsigmoid(torch.where(x == 1, logit, -logit))


def test_entropy_distortion_rate_bound() -> None:
    case, expected = CASES["hdr_bound"]["inputs"], CASES["hdr_bound"]["expected"]
    model = Bernoulli(3.0, 0.0, t(case["q_mu"]), t(case["q_sd"]))
    found = evaluate(model, [torch.tensor([0, 1])], seeded(), 50000, mi_samples=50000)
    assert found.mutual_information is not None and found.mutual_information_stderr is not None
    error = 5 * found.mutual_information_stderr
    assert abs(found.mutual_information - expected["I_q"]) <= error
    assert abs(found.reconstruction - expected["D"]) <= 5 * found.reconstruction_stderr
    assert found.kl == pytest.approx(expected["R"], rel=1e-10)
    assert expected["H_minus_D"] <= found.mutual_information + error <= found.kl + 2 * error


def test_posterior_of_a_bernoulli() -> None:
    expected = CASES["posterior_bernoulli"]["expected"]
    model = Bernoulli(2.0, 0.3, t([0.0, 0.0]), t([1.0, 1.0]))
    x = torch.tensor([1, 0])
    found = posterior_moments_1d(
        lambda z: model.log_likelihood(x, z[..., None]) + model.prior.log_prob(z[..., None]),
        2,
        dtype=torch.float64,
        tolerance=1e-11,
    )
    assert found.mean[0].item() == pytest.approx(expected["post_mean_x1"], rel=1e-10)
    assert found.mean[1].item() == pytest.approx(expected["post_mean_x0"], rel=1e-10)
    assert found.variance[0].item() == pytest.approx(expected["post_var_x1"], rel=1e-10)
    assert found.log_evidence[0].item() == pytest.approx(expected["logp_x1"], rel=1e-10)
    assert found.log_evidence[0].exp().item() == pytest.approx(expected["p_x1"], rel=1e-10)


def test_force_on_the_decoder_at_the_posterior_and_at_the_prior() -> None:
    """The gradient of log p(x) is that of the ELBO at the posterior; at q = p it is -w / s^2."""
    case, expected = CASES["lagging_gradient"]["inputs"], CASES["lagging_gradient"]["expected"]
    x = t([[case["x"]]])

    def log_evidence(w: float) -> float:
        model = scalar_model({**case, "w": w}, 0.0, 1.0)
        found = posterior_moments_1d(
            lambda z: joint(model, x, z), 1, tolerance=1e-12, dtype=torch.float64
        )
        return found.log_evidence.item()

    w, h = case["w"], 1e-4
    assert log_evidence(w) == pytest.approx(expected["logp"], rel=1e-10)
    slope = (8 * log_evidence(w + h) - 8 * log_evidence(w - h)) / (12 * h)
    slope -= (log_evidence(w + 2 * h) - log_evidence(w - 2 * h)) / (12 * h)
    assert slope == pytest.approx(expected["dlogp_dw"], rel=1e-8)
    at_prior = evaluate(scalar_model(case, 0.0, 1.0), [x.expand(2, 1)], seeded(), 50000)
    assert abs(at_prior.elbo_loss + expected["elbo_at_prior_q"]) <= 5 * at_prior.elbo_loss_stderr


# --- the true posterior ---------------------------------------------------------------------------


def normal_joint(mean: Tensor, std: Tensor, log_weight: float = 0.0) -> Callable[[Tensor], Tensor]:
    return lambda z: Normal(mean, std).log_prob(z.double()) + log_weight


class Counting:
    """A log joint that counts nodes and notes the largest call."""

    def __init__(self, log_joint: Callable[[Tensor], Tensor]) -> None:
        self.log_joint, self.nodes, self.largest = log_joint, 0, 0

    def __call__(self, z: Tensor) -> Tensor:
        self.nodes += len(z)
        self.largest = max(self.largest, z.numel())
        return self.log_joint(z)


def check_normal(mean: list[float], std: list[float], dtype: torch.dtype) -> Counting:
    exact_mean, exact_std = t(mean), t(std)
    counting = Counting(normal_joint(exact_mean, exact_std, -3.5))
    found = posterior_moments_1d(counting, len(mean), dtype=dtype)
    scaled = (found.mean - exact_mean).abs() / exact_std
    assert (scaled <= 2e-6).all()
    torch.testing.assert_close(found.variance.sqrt(), exact_std, rtol=2e-6, atol=0)
    torch.testing.assert_close(
        found.log_evidence, torch.full_like(exact_mean, -3.5), rtol=0, atol=2e-6
    )
    return counting


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("std", [1e-4, 0.004, 0.05, 0.27, 1.0, 6.0])
def test_gaussian_posteriors_anywhere(std: float, dtype: torch.dtype) -> None:
    means = [0.0, 0.123456, -3.3, 0.25, 0.4999, 19.9, -20.0, 25.0, -41.7]
    check_normal(means, [std] * len(means), dtype)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-30.0, 30.0), st.floats(-4.0, 1.0)), min_size=1, max_size=6))
def test_gaussian_posteriors_of_mixed_widths(drawn: list[tuple[float, float]]) -> None:
    check_normal([m for m, _ in drawn], [10.0**s for _, s in drawn], torch.float64)


def test_ordinary_posteriors_are_cheap() -> None:
    std = [0.2 + 0.01 * i for i in range(81)]
    counting = check_normal([0.05 * i - 2.0 for i in range(81)], std, torch.float32)
    assert counting.nodes <= 145


def mixture(parts: list[tuple[float, float, float]]) -> Callable[[Tensor], Tensor]:
    """log of the sum of weight * N(mean, std)."""
    return lambda z: torch.stack(
        [normal_joint(t(m), t(s), math.log(w))(z) for w, m, s in parts]
    ).logsumexp(0)


@pytest.mark.parametrize(
    "parts",
    [
        [(0.8, 5.0, 0.01), (0.2, -5.0, 0.01)],
        [(0.8, 5.1, 0.01), (0.2, -4.9, 0.01)],
        [(0.5, 5.0625, 0.01), (0.5, -5.0625, 0.01)],
        [(0.3, 0.3, 0.02), (0.7, 0.9, 0.01)],
        [(0.4, -15.0, 0.05), (0.3, 3.0, 0.5), (0.3, 24.0, 0.2)],
        [(0.999, 0.0, 1.0), (0.001, 4.0, 0.3)],
        [(1e-6, -6.0, 0.1), (1.0, 6.0, 0.1)],
        [(0.6, 0.415, 0.033), (0.4, 3.669, 0.114)],  # one flank of the narrow one is covered
    ],
)
def test_several_modes(parts: list[tuple[float, float, float]]) -> None:
    found = posterior_moments_1d(mixture(parts), 1)
    total = sum(w for w, _, _ in parts)
    mean = sum(w * m for w, m, _ in parts) / total
    second = sum(w * (m * m + s * s) for w, m, s in parts) / total
    assert found.mean.item() == pytest.approx(mean, abs=1e-5)
    assert found.variance.item() == pytest.approx(second - mean * mean, rel=1e-5)
    assert found.log_evidence.item() == pytest.approx(math.log(total), abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.05, 1.0), st.floats(-4.0, 4.0), st.floats(0.25, 1.5)),
        min_size=1,
        max_size=3,
    ),
    st.floats(-3.0, 3.0),
)
def test_smooth_posteriors_equal_a_dense_grid(
    parts: list[tuple[float, float, float]], slope: float
) -> None:
    """Mixtures times a logistic factor, against 40,001 nodes."""

    def log_joint(z: Tensor) -> Tensor:
        return mixture(parts)(z) + nn.functional.logsigmoid(slope * z.double())

    z = torch.linspace(-20, 20, 40001, dtype=torch.float64)
    p = log_joint(z).softmax(0)
    mean = (p * z).sum()
    found = posterior_moments_1d(log_joint, 1)
    assert found.mean.item() == pytest.approx(mean.item(), abs=3e-6)
    variance = (p * (z - mean).square()).sum().item()
    assert found.variance.item() == pytest.approx(variance, rel=1e-5)
    evidence = (log_joint(z).logsumexp(0) + math.log(0.001)).item()
    assert found.log_evidence.item() == pytest.approx(evidence, abs=3e-6)


def test_a_batch_of_random_mixtures_is_as_accurate_as_asked() -> None:
    generator = seeded(11)
    batch, parts = 60, 3
    uniform = torch.rand(4, parts, batch, generator=generator, dtype=torch.float64)
    mean, std = 8 * uniform[0] - 4, 10 ** (1.0 * uniform[1] - 0.8)
    log_weight = 3 * uniform[2].log()
    slope = 10 * uniform[3, 0] - 5

    def log_joint(z: Tensor) -> Tensor:
        terms = log_weight[:, None] + Normal(mean[:, None], std[:, None]).log_prob(z)
        return terms.logsumexp(0) + 3 * torch.sigmoid(slope * z)

    z = torch.arange(-16, 16, 0.004, dtype=torch.float64)[:, None]
    values = log_joint(z.expand(-1, batch))
    p = values.softmax(0)
    exact = (p * z).sum(0)
    exact_std = (p * (z - exact).square()).sum(0).sqrt()
    evidence = values.logsumexp(0) + math.log(0.004)
    for tolerance in (1e-4, 1e-6, 1e-8):
        found = posterior_moments_1d(log_joint, batch, tolerance=tolerance, dtype=torch.float64)
        unit = exact_std.clamp_max(1.0)
        assert ((found.mean - exact).abs() / unit).max() <= tolerance
        assert ((found.variance.sqrt() - exact_std).abs() / unit).max() <= tolerance
        assert (found.log_evidence - evidence).abs().max() <= tolerance


def test_many_points_at_once_and_one_of_them_rough() -> None:
    """The rough one needs steps for which there would be no room for all."""
    batch = 2500
    mean = torch.linspace(-3, 3, batch, dtype=torch.float64)
    rough = torch.arange(batch) == 7

    def log_joint(z: Tensor) -> Tensor:
        modes = [Normal(m, 0.05).log_prob(z) for m in (-6.1, 0.3, 5.7)]
        several = torch.stack(modes).logsumexp(0) - math.log(3)
        return torch.where(rough, several, Normal(mean, 0.4).log_prob(z))

    found = posterior_moments_1d(log_joint, batch, dtype=torch.float64)
    assert found.log_evidence.abs().max() <= 1e-6
    mean[7] = -0.1 / 3
    assert (found.mean - mean).abs().max() <= 1e-6


def test_a_bump_narrower_than_the_first_steps_is_not_passed_over() -> None:
    """Five nats more between 0.1 and 0.5 on a standard normal: found, and refused as too rough."""
    with pytest.raises(PosteriorCollapseError, match="not resolved"):
        posterior_moments_1d(lambda z: 5.0 * ((z - 0.3).abs() < 0.2) - 0.5 * z**2, 1)


@pytest.mark.parametrize("name", ["riemann_ok", "riemann_sd_stride"])
def test_right_where_the_papers_grid_is_not(name: str) -> None:
    case, expected = CASES[name]["inputs"], CASES[name]["expected"]
    log_joint = normal_joint(t(case["post_mean"]), t(case["post_sd"]))
    found = posterior_moments_1d(log_joint, 1, dtype=torch.float64, tolerance=1e-11)
    assert found.mean.item() == pytest.approx(expected["exact_mean"], rel=1e-10)
    grid = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    naive = (log_joint(grid).softmax(0) * grid).sum().item()
    assert naive == pytest.approx(expected["riemann_mean"], rel=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_support_that_ends(dtype: torch.dtype) -> None:
    """A truncated normal, an exponential and a uniform, in one batch with an untruncated one."""
    cut = t([1.5, 0.0, 0.0, 0.0])

    def log_joint(z: Tensor) -> Tensor:
        z = z.double()
        values = torch.stack([-0.5 * z[:, 0] ** 2, -z[:, 1], 0 * z[:, 2], -0.5 * z[:, 3] ** 2], 1)
        inside = [z[:, 0].abs() <= 1.5, z[:, 1] >= 0.3, (z[:, 2] - 0.1).abs() <= 1.0, z[:, 3] < 99]
        return torch.where(torch.stack(inside, 1), values, -math.inf)

    found = posterior_moments_1d(log_joint, 4, dtype=dtype)
    mass = math.sqrt(2 * math.pi) * math.erf(1.5 / math.sqrt(2))
    truncated = 1 - 2 * cut[0].item() * math.exp(-1.125) / mass
    assert found.mean.tolist() == pytest.approx([0.0, 1.3, 0.1, 0.0], abs=1e-5)
    assert found.variance.tolist() == pytest.approx([truncated, 1.0, 1 / 3, 1.0], abs=1e-5)
    evidence = [math.log(mass), -0.3, math.log(2), 0.5 * math.log(2 * math.pi)]
    assert found.log_evidence.tolist() == pytest.approx(evidence, abs=1e-5)


def test_a_grid_call_is_bounded_and_shaped() -> None:
    counting = check_normal([0.0] * 300, [0.01] * 300, torch.float32)
    assert counting.largest <= NODES_PER_CALL
    many = check_normal([0.0] * 1500, [0.5] * 1500, torch.float32)
    assert many.largest == 1500  # one node of every point


def test_a_float32_log_joint_is_not_asked_for_more_than_it_has() -> None:
    found = posterior_moments_1d(lambda z: -0.5 * (z - 0.3) ** 2 / 0.01 - 4000.0, 1)
    assert found.mean.dtype == torch.float32
    assert found.mean.item() == pytest.approx(0.3, abs=1e-4)


@pytest.mark.parametrize(
    ("log_joint", "error", "message"),
    [
        (lambda z: 0 * z, PosteriorCollapseError, "does not decay"),
        (lambda z: z, PosteriorCollapseError, "does not decay"),
        (lambda z: z * math.nan, PosteriorCollapseError, "nan at z = -20 of point 0"),
        (lambda z: 0 * z + math.inf, PosteriorCollapseError, "inf at z"),
        (lambda z: 0 * z - math.inf, PosteriorCollapseError, "-inf at all"),
        (lambda z: -(z**2)[0], BadInput, "must return shape"),
        (lambda z: (-(z**2)).tolist(), BadInput, "must return shape"),
        (lambda z: 5.0 * (z > 0.3) - z**2, PosteriorCollapseError, "not resolved"),
        (normal_joint(t(19.9), t(1e-7)), BadInput, "too narrow"),
    ],
)
def test_no_silent_answer(
    log_joint: Callable[[Tensor], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        posterior_moments_1d(log_joint, 2)


@pytest.mark.parametrize(
    "arguments",
    [{"batch": 0}, {"low": 3.0, "high": 3.0}, {"high": math.inf}, {"tolerance": 0.0}],
)
def test_posterior_moments_refuse_bad_numbers(arguments: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        posterior_moments_1d(lambda z: -z.square(), **{"batch": 1, **arguments})
