"""Slot 3: every objective's value and gradient against formulas written out here."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from posterior_collapse.errors import BadInput
from posterior_collapse.networks import VAE, linear_vae
from posterior_collapse.networks.linear import LinearDecoder
from posterior_collapse.objectives import (
    ELBO,
    AutoGen,
    Constant,
    Cyclical,
    FreeBits,
    ImportanceWeighted,
    Linear,
    MutualPosterior,
    Objective,
    Progress,
    Reconstruction,
    ScaledELBO,
    TargetKL,
    TargetKLPerSentence,
    divergence,
    pairwise_kl,
)
from posterior_collapse.posteriors import (
    Diagonal,
    DiagonalNormal,
    Flow,
    PointMass,
    Posterior,
    Scaled,
    ScaledNormal,
)
from posterior_collapse.priors import GaussianMixture, Prior, ScaledStandardNormal, StandardNormal

NOW = Progress(0, 10)
FEATURES, LATENT, NOISE = 4, 3, 0.5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model_with(posterior: Posterior, prior: Prior | None = None) -> VAE:
    """x straight into a posterior head, and out through a linear decoder; float64."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = VAE(
            nn.Identity(),
            posterior.build(FEATURES, LATENT),
            (StandardNormal() if prior is None else prior).build(LATENT),
            LinearDecoder(LATENT, FEATURES, NOISE),
        )
    return model.double()


def data(batch: int = 6) -> Tensor:
    return torch.randn(batch, FEATURES, generator=generator(1), dtype=torch.float64)


class Parts(NamedTuple):
    """The pieces of every formula, by torch's own distributions."""

    reconstruction: Tensor  # (S, B)
    kl: Tensor  # (B, D)
    log_ratio: Tensor  # (S, B), log p(z) - log q(z|x)
    mean: Tensor  # (B, D)
    logvar: Tensor  # (B, D)


def parts(model: VAE, x: Tensor, seed: int = 5, samples: int = 1) -> Parts:
    mean, logvar = (x @ model.posterior_head.linear.weight.T).chunk(2, -1)  # type: ignore[union-attr, operator]
    q = Normal(mean, torch.exp(logvar / 2))
    unit = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    noise = torch.randn(samples, *mean.shape, generator=generator(seed), dtype=torch.float64)
    z = mean + torch.exp(logvar / 2) * noise
    shown = model.decoder.mean  # type: ignore[union-attr]
    likelihood = MultivariateNormal(
        z @ shown.weight.T + shown.bias,  # type: ignore[union-attr, operator]
        NOISE * torch.eye(FEATURES, dtype=torch.float64),
    )
    log_ratio = (unit.log_prob(z) - q.log_prob(z)).sum(-1)
    return Parts(-likelihood.log_prob(x), kl_divergence(q, unit), log_ratio, mean, logvar)


def gradient(model: VAE, loss: Tensor) -> Tensor:
    """Gradient for every parameter, as one vector; 0 where there is none."""
    parameters = list(model.parameters())
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    kept = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return torch.cat([g.flatten() for g in kept])


def assert_is(objective: Objective, loss: Tensor, model: VAE, x: Tensor, seed: int = 5) -> None:
    """Value and gradient of an objective are those of a loss written out."""
    found = objective(model, x, NOW, generator(seed)).loss
    torch.testing.assert_close(found, loss)
    torch.testing.assert_close(gradient(model, found), gradient(model, loss))


PLAIN = (ELBO(), AutoGen(), FreeBits(), TargetKL(), TargetKLPerSentence(), MutualPosterior())


# --- what all share -------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", PLAIN, ids=lambda o: type(o).__name__)
def test_terms_are_those_of_the_elbo_whatever_the_loss(objective: Objective) -> None:
    model, x = model_with(Diagonal()), data()
    terms, wanted = objective(model, x, NOW, generator(5)), parts(model, x)
    torch.testing.assert_close(terms.reconstruction, wanted.reconstruction[0])
    torch.testing.assert_close(terms.kl, wanted.kl.sum(-1))
    assert terms.loss.shape == () and terms.weight == 1.0


@pytest.mark.parametrize(
    "objective",
    [*PLAIN, ImportanceWeighted(), ScaledELBO()],
    ids=lambda o: type(o).__name__,
)
def test_the_weight_follows_its_schedule(objective: Objective) -> None:
    posterior = Scaled() if isinstance(objective, ScaledELBO) else Diagonal()
    model, x = model_with(posterior).eval(), data()
    annealed = replace(objective, weight=Linear(0.2, 4.0))  # type: ignore[type-var]
    for iteration, weight in ((0, 0.2), (20, 0.6), (80, 1.0)):
        fixed = replace(objective, weight=Constant(weight))  # type: ignore[type-var]
        now = Progress(iteration, 10)
        terms = annealed(model, x, now, generator(5))
        assert terms.weight == pytest.approx(weight)
        torch.testing.assert_close(terms.loss, fixed(model, x, now, generator(5)).loss)


def test_linear_and_cyclical_weights_at_known_points() -> None:
    to_beta = Linear(0.0, 2.0, end=0.4)
    assert [to_beta(Progress(n, 10)) for n in (0, 5, 20, 90)] == pytest.approx([0, 0.1, 0.4, 0.4])
    cyclical = Cyclical(cycles=2, epochs=1.0, rise=0.25)
    at = [cyclical(Progress(n, 100)) for n in (0, 10, 25, 99, 100, 110, 200, 210)]
    assert at == pytest.approx([0, 0.4, 1, 1, 0, 0.4, 1, 1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constant(math.inf),
        lambda: Linear(0.1, 10.0, end=0.05),
        lambda: AutoGen(-0.1),
        lambda: FreeBits(-0.1),
        lambda: FreeBits(math.nan),
        lambda: TargetKL(-1.0),
        lambda: TargetKLPerSentence(5.0, -1),
        lambda: ImportanceWeighted(0),
        lambda: ImportanceWeighted(2.5),  # type: ignore[arg-type]
        lambda: MutualPosterior(-1.0),
        lambda: MutualPosterior(1.0, math.inf),
    ],
)
def test_values_out_of_range_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match="given"):
        make()


def test_divergence_is_estimated_where_there_is_no_closed_form() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mixture = GaussianMixture(1).build(LATENT).double()
    with torch.no_grad():
        mixture.mean.zero_()  # type: ignore[operator, union-attr]
    mean = torch.tensor([[0.5, -1.0, 0.2]], dtype=torch.float64)
    q = DiagonalNormal(mean, mean - 0.3)
    noise = torch.randn(20_000, 1, LATENT, generator=generator(), dtype=torch.float64)
    z = q.mean + q.stddev * noise
    one = divergence(q, mixture(), z)
    exact = divergence(q, StandardNormal().build(LATENT).double()(), z)
    torch.testing.assert_close(one, (q.log_prob(z) - mixture().log_prob(z)).mean(0))
    assert one.item() == pytest.approx(exact.item(), abs=0.05)
    assert one.item() != exact.item()


# --- AutoGen --------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [0.0, 1.0, 2.5])
def test_autogen_is_one_plus_m_times_a_beta_vae(m: float) -> None:
    model, x = model_with(Diagonal()), data()
    wanted = parts(model, x)
    loss = ((1 + m) * wanted.reconstruction[0] + wanted.kl.sum(-1)).mean()
    assert_is(AutoGen(m), loss, model, x)
    beta = ELBO(Constant(1 / (1 + m)))(model, x, NOW, generator(5))
    found = AutoGen(m)(model, x, NOW, generator(5))
    torch.testing.assert_close(gradient(model, found.loss), (1 + m) * gradient(model, beta.loss))


@pytest.mark.parametrize(
    ("m", "bound"), [(0, -1.5770838991417502), (1, -2.272875251786478), (2, -2.9686666044312053)]
)
def test_autogen_equals_the_closed_form_of_a_scalar_model(m: int, bound: float) -> None:
    # cases autogen_m0 to m2: p(x|z) = N(1.5 z, 0.25) at x = 1, q = N(0.6, 0.1)
    model = linear_vae(1, 1, 0.25, StandardNormal()).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.decoder.mean.weight.fill_(1.5)  # type: ignore[union-attr, operator]
        model.posterior_head.mean.bias.fill_(0.6)  # type: ignore[union-attr, operator]
        model.posterior_head.logvar.fill_(math.log(0.1))  # type: ignore[union-attr, operator]
    terms = AutoGen(m)(model, torch.ones(200_000, 1, dtype=torch.float64), NOW, generator())
    spread = (1 + m) * terms.reconstruction.std().item() / math.sqrt(200_000)
    assert -terms.loss.item() == pytest.approx(bound, abs=5 * spread)


# --- free bits ------------------------------------------------------------------------------------


def test_free_bits_value_and_gradient() -> None:
    model, x = model_with(Diagonal()), data()
    wanted = parts(model, x)
    means = wanted.kl.mean(0)
    order = means.sort().values
    threshold = 0.5 * (order[0] + order[1]).item()  # one dimension below, two above
    paid = torch.maximum(torch.full_like(means, threshold), means).sum()
    assert_is(FreeBits(threshold), wanted.reconstruction[0].mean() + paid, model, x)


def test_free_bits_have_no_kl_gradient_below_the_threshold_and_all_of_it_above() -> None:
    model, x = model_with(Diagonal()), data()
    order = parts(model, x).kl.mean(0).argsort()
    threshold = parts(model, x).kl.mean(0)[order[:2]].mean().item()
    without = ELBO(Constant(0.0))(model, x, NOW, generator(5)).loss
    held = FreeBits(threshold)(model, x, NOW, generator(5)).loss
    of_kl = (gradient(model, held) - gradient(model, without))[: 2 * LATENT * FEATURES]
    rows = of_kl.view(2, LATENT, FEATURES)  # of the map to means and to log-variances
    full = parts(model, x).kl.mean(0).sum()
    whole = gradient(model, full)[: 2 * LATENT * FEATURES].view(2, LATENT, FEATURES)
    assert rows[:, order[0]].abs().max() < 1e-12 < whole[:, order[0]].abs().max()
    torch.testing.assert_close(rows[:, order[1:]], whole[:, order[1:]])


def test_free_bits_of_a_flow_and_of_a_prior_without_dimensions() -> None:
    model, x = model_with(Flow(width=3)), data()
    terms = FreeBits(0.8)(model, x, NOW, generator(5))
    elbo = ELBO()(model, x, NOW, generator(5))
    torch.testing.assert_close(terms.kl, elbo.kl)  # the dimensions add up
    assert terms.loss.item() > elbo.loss.item()
    with pytest.raises(BadInput, match="independent Gaussians"):
        FreeBits()(model_with(Diagonal(), GaussianMixture(2)), x, NOW, generator(5))


# --- target KL ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.05, 50.0])
def test_target_kl_value_and_gradient(target: float) -> None:
    model, x = model_with(Diagonal()), data()
    wanted = parts(model, x)
    rec, kl = wanted.reconstruction[0].mean(), wanted.kl.sum(-1)
    weighted = Constant(0.7)
    assert_is(TargetKL(target, 0, weighted), rec + 0.7 * (kl.mean() - target).abs(), model, x)
    per_sentence = rec + 0.7 * sum((k - target).abs() for k in kl) / len(kl)
    assert_is(TargetKLPerSentence(target, 0, weighted), per_sentence, model, x)


def test_the_target_rises_linearly_over_its_ramp() -> None:
    objective = TargetKL(15.0, 5000)
    at = [objective.target(Progress(n, 7)) for n in (0, 1000, 5000, 9000)]
    assert at == pytest.approx([0.0, 3.0, 15.0, 15.0])
    assert TargetKL(15.0, 0).target(NOW) == 15.0


@given(
    st.lists(st.floats(0.0, 100.0), min_size=1, max_size=12),
    st.floats(0.0, 60.0),
)
def test_the_distance_per_sentence_is_never_smaller(kls: list[float], target: float) -> None:
    kl = torch.tensor(kls, dtype=torch.float64)
    mean = TargetKL().distance(kl, target).item()
    each = TargetKLPerSentence().distance(kl, target).item()
    assert each >= mean - 1e-9
    if min(kls) >= target or max(kls) <= target:
        assert each == pytest.approx(mean, abs=1e-9)


# --- importance weighting -------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4])
def test_iwae_value_and_gradient(k: int) -> None:
    model, x = model_with(Diagonal()), data()
    wanted = parts(model, x, samples=k)
    ratios = torch.exp(wanted.log_ratio - wanted.reconstruction)  # p(x, z) / q(z|x)
    assert_is(ImportanceWeighted(k), -torch.log(ratios.mean(0)).mean(), model, x)
    terms = ImportanceWeighted(k)(model, x, NOW, generator(5))
    torch.testing.assert_close(terms.reconstruction, wanted.reconstruction.mean(0))
    torch.testing.assert_close(terms.kl, -wanted.log_ratio.mean(0))


def test_iwae_with_one_sample_is_the_elbo() -> None:
    model, x = model_with(Diagonal()), data(1).expand(50_000, FEATURES)
    one = ImportanceWeighted(1)(model, x, NOW, generator(5))
    elbo = ELBO()(model, x, NOW, generator(5))
    torch.testing.assert_close(one.loss, (one.reconstruction + one.kl).mean())
    torch.testing.assert_close(one.reconstruction, elbo.reconstruction)
    spread = one.kl.std().item() / math.sqrt(len(x))
    assert one.loss.item() == pytest.approx(elbo.loss.item(), abs=5 * spread)


def test_iwae_rises_with_k_towards_a_known_likelihood() -> None:
    model, x = model_with(Diagonal()), data(1)
    shown = model.decoder.mean  # type: ignore[union-attr]
    covariance = shown.weight @ shown.weight.T + NOISE * torch.eye(FEATURES)  # type: ignore[union-attr, operator]
    exact = MultivariateNormal(shown.bias, covariance).log_prob(x).item()  # type: ignore[arg-type, union-attr]
    repeats = 4000
    many = x.expand(repeats, FEATURES)
    bounds, spreads = [], []
    with torch.no_grad():
        for k in (1, 4, 16, 64):
            draws = [
                -ImportanceWeighted(k)(model, part, NOW, generator(i)).loss.item()
                for i, part in enumerate(many.split(200))
            ]
            column = torch.tensor(draws)
            bounds.append(column.mean().item())
            spreads.append(column.std().item() / math.sqrt(len(draws)))
    for (low, high), spread in zip(zip(bounds, bounds[1:], strict=False), spreads, strict=False):
        assert high > low + 3 * spread  # the steps are far larger than the noise here
    assert bounds[-1] <= exact + 3 * spreads[-1]
    assert exact - bounds[-1] < 0.2 * (exact - bounds[0])


# --- MAE ------------------------------------------------------------------------------------------


def brute_force_pairs(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL of every ordered pair, one torch.distributions call each: (pairs, D)."""
    rows = []
    for i in range(len(mean)):
        for j in range(len(mean)):
            if i != j:
                one = Normal(mean[i], torch.exp(logvar[i] / 2))
                rows.append(kl_divergence(one, Normal(mean[j], torch.exp(logvar[j] / 2))))
    return torch.stack(rows)


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 10_000))
def test_pairwise_kl_equals_brute_force(batch: int, dim: int, seed: int) -> None:
    mean, logvar = 2.0 * torch.randn(2, batch, dim, generator=generator(seed), dtype=torch.float64)
    torch.testing.assert_close(pairwise_kl(mean, logvar), brute_force_pairs(mean, logvar))


@pytest.mark.parametrize("free_bits", [0.0, 1e6])
def test_mae_value_and_gradient(free_bits: float) -> None:
    model, x = model_with(Diagonal()), data(5)
    wanted = parts(model, x)
    pairs = brute_force_pairs(wanted.mean, wanted.logvar)
    totals = pairs.sum(-1)
    spread = torch.sqrt(((totals - totals.mean()) ** 2).sum() / (len(totals) - 1))
    kl = wanted.kl.sum(-1).mean()
    bound = wanted.reconstruction[0].mean() + (kl if free_bits == 0 else kl * 0 + free_bits)
    apart = -torch.log(1 / (1 + torch.exp(-pairs.mean(0)))).sum()
    loss = bound + 1.5 * apart + 0.3 * spread
    assert_is(MutualPosterior(1.5, 0.3, free_bits), loss, model, x)


def test_mae_is_finite_where_all_posteriors_are_one_and_for_one_example() -> None:
    model = model_with(Diagonal())
    alike = data(1).expand(4, FEATURES)
    loss = MutualPosterior(2.0, 1.0)(model, alike, NOW, generator(5)).loss
    elbo = ELBO()(model, alike, NOW, generator(5)).loss
    assert loss.item() - elbo.item() == pytest.approx(2.0 * LATENT * math.log(2.0), abs=1e-6)
    assert torch.isfinite(gradient(model, loss)).all()
    x = data(1)
    one = MutualPosterior()(model, x, NOW, generator(5)).loss
    torch.testing.assert_close(one, ELBO()(model, x, NOW, generator(5)).loss)
    with pytest.raises(BadInput, match="Delta"):
        MutualPosterior()(model_with(PointMass()), data(), NOW, generator())


# --- Scale-VAE and the autoencoder ----------------------------------------------------------------


def test_scaled_elbo_has_one_posterior_in_each_term() -> None:
    model, x = model_with(Scaled(0.9), ScaledStandardNormal()).eval(), data()
    factor = torch.tensor([2.0, 0.5, 3.0], dtype=torch.float64)
    with torch.no_grad():
        model.posterior_head.factor.copy_(factor)  # type: ignore[operator, union-attr]
    before = parts(model, x)
    noise = torch.randn(1, *before.mean.shape, generator=generator(5), dtype=torch.float64)
    z = factor * before.mean + torch.exp(before.logvar / 2) * noise
    loss = (-model.log_likelihood(x, z)[0] + 0.4 * before.kl.sum(-1)).mean()
    assert_is(ScaledELBO(Constant(0.4)), loss, model, x)
    terms = ScaledELBO()(model, x, NOW, generator(5))
    torch.testing.assert_close(terms.kl, before.kl.sum(-1))
    # theory, S6: what the KL lacks under the prior N(0, f^2)
    valid = ELBO()(model, x, NOW, generator(5))
    variance = before.logvar.exp()
    gap = (factor.log() - 0.5 * variance * (1 - factor**-2)).sum(-1)
    torch.testing.assert_close(valid.kl - terms.kl, gap)
    with pytest.raises(BadInput, match="DiagonalNormal"):
        ScaledELBO()(model_with(Diagonal()), x, NOW, generator())


def test_scaled_elbo_bounds_no_likelihood() -> None:
    """Case scale_not_a_bound: p(x|z) = N(z, 0.25) at x = 2, q = N(0.5, 0.2), f = 4."""

    class Fixed(nn.Module):
        def posterior(self, x: Tensor) -> ScaledNormal:
            ones = torch.ones(len(x), 1, dtype=torch.float64)
            return ScaledNormal(0.5 * ones, math.log(0.2) * ones, torch.full((1,), 4.0).double())

        def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
            return Normal(z, 0.5).log_prob(x).sum(-1)

        prior = StandardNormal().build(1).double()()

    x = torch.full((200_000, 1), 2.0, dtype=torch.float64)
    terms = ScaledELBO()(Fixed(), x, NOW, generator())
    spread = terms.reconstruction.std().item() / math.sqrt(len(x))
    assert -terms.loss.item() == pytest.approx(-1.1555103088617775, abs=5 * spread)
    assert -terms.loss.item() > -2.6305103088617776 + 1.0  # log p(x)
    valid = ELBO()(Fixed(), x, NOW, generator())
    assert -valid.loss.item() == pytest.approx(-3.0305103088617775, abs=5 * spread)


def test_reconstruction_is_all_that_an_autoencoder_has() -> None:
    model, x = model_with(PointMass()), data()
    z = (x @ model.posterior_head.linear.weight.T).unsqueeze(0)  # type: ignore[union-attr, operator]
    assert_is(Reconstruction(), -model.log_likelihood(x, z)[0].mean(), model, x)
    terms = Reconstruction()(model, x, NOW, generator())
    assert terms.weight == 0.0 and not terms.kl.any() and terms.kl.shape == (len(x),)
