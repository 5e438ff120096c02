"""Slot 2: every prior against an independent formula, and KL per dimension."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from posterior_collapse.errors import BadInput
from posterior_collapse.layers import initialised_by_recipe
from posterior_collapse.networks import VAE, Latent, TextNetwork, build_vae
from posterior_collapse.networks.linear import LinearDecoder
from posterior_collapse.objectives import divergence
from posterior_collapse.posteriors import (
    Delta,
    Diagonal,
    DiagonalNormal,
    Flow,
    Flowed,
    Scaled,
    ScaledNormal,
    draw,
)
from posterior_collapse.priors import (
    AutoRegressive,
    AutoRegressiveNormal,
    CommittedRate,
    DiagonalMixture,
    GaussianMixture,
    IsotropicGaussianMixture,
    Mixing,
    Prior,
    ScaledStandardNormal,
    StandardNormal,
    UnitNormal,
    kl_per_dimension,
)

EVERY: list[Prior] = [
    StandardNormal(),
    GaussianMixture(),
    IsotropicGaussianMixture(3),
    GaussianMixture(4, Mixing.EQUAL),
    IsotropicGaussianMixture(3, Mixing.EQUAL),
    AutoRegressive(0.6),
    AutoRegressive.for_rate(0.1),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def unit(latent_dim: int) -> UnitNormal:
    return UnitNormal(torch.zeros(latent_dim, dtype=torch.float64))


def built(choice: Prior, latent_dim: int = 3, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return choice.build(latent_dim).double()


def scattered(choice: Prior, latent_dim: int) -> nn.Module:
    """A prior whose parameters are random."""
    prior = built(choice, latent_dim)
    with torch.no_grad():
        for index, parameter in enumerate(prior.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=index))
    return prior


# --- what all priors share ------------------------------------------------------------------------


@pytest.mark.parametrize("choice", EVERY, ids=str)
def test_every_prior_has_the_contracts_shapes(choice: Prior) -> None:
    module = built(choice, 4)
    prior = module()
    assert prior.event_shape == (4,) and prior.batch_shape == ()
    z = normal(2, 5, 4).requires_grad_()
    density = prior.log_prob(z)
    assert density.shape == (2, 5) and density.dtype == torch.float64
    density.sum().backward()
    assert torch.isfinite(z.grad).all()  # type: ignore[arg-type]
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())  # type: ignore[arg-type]
    assert draw(prior, (), generator()).shape == (4,)
    assert draw(prior, (0, 2), generator()).shape == (0, 2, 4)


@pytest.mark.parametrize("choice", EVERY, ids=str)
def test_draws_come_from_the_generator_and_have_the_priors_moments(choice: Prior) -> None:
    prior, count = scattered(choice, 4)(), 40_000
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        found.append(draw(prior, (count,), generator(1)))
        assert torch.equal(torch.random.get_rng_state(), before)
    z = found[0].detach()
    assert torch.equal(z, found[1]) and z.shape == (count, 4)
    error = z.std(0) / math.sqrt(count)
    assert ((z.mean(0) - prior.mean).abs() < 5.0 * error).all()
    spread = (z - z.mean(0)).square()
    assert ((spread.mean(0) - prior.variance).abs() < 5.0 * spread.std(0) / count**0.5).all()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        one = draw(prior, (2,))
        torch.manual_seed(3)
        assert torch.equal(one, draw(prior, (2,)))


@pytest.mark.parametrize("choice", EVERY, ids=str)
def test_draws_fit_the_density(choice: Prior) -> None:
    """The density integrates to 1, and its average logarithm is that of the draws."""
    prior = scattered(choice, 2)()
    axis = torch.linspace(-16.0, 16.0, 641, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    density = prior.log_prob(grid).detach()
    weights = torch.exp(density) * (axis[1] - axis[0]) ** 2
    assert weights.sum().item() == pytest.approx(1.0, abs=1e-6)
    sampled = prior.log_prob(draw(prior, (20_000,), generator(2))).detach()
    wanted = (weights * density).sum().item()
    error = sampled.std().item() / math.sqrt(len(sampled))
    assert sampled.mean().item() == pytest.approx(wanted, abs=5.0 * error)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianMixture(0),
        lambda: GaussianMixture(2.5),  # type: ignore[arg-type]
        lambda: IsotropicGaussianMixture(-1),
        lambda: AutoRegressive(1.0),
        lambda: AutoRegressive(-1.0),
        lambda: AutoRegressive(math.nan),
        lambda: AutoRegressive.for_rate(0.0),
        lambda: CommittedRate(math.inf),
        lambda: CommittedRate(0.1).build(1),
        lambda: CommittedRate(9.0).build(2),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(BadInput, match="given"):
        make()


# --- mixtures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixing", list(Mixing))
@pytest.mark.parametrize("kind", [GaussianMixture, IsotropicGaussianMixture])
def test_mixture_density_against_scipy(kind: Any, mixing: Mixing) -> None:
    module = scattered(kind(4, mixing), 3)
    z = normal(2, 5, 3, seed=9)
    weights = torch.softmax(module.logits, 0).tolist()  # type: ignore[arg-type]
    variances = torch.exp(module.logvar).expand(4, 3).tolist()  # type: ignore[arg-type, operator]
    total = np.zeros((2, 5))
    for weight, mean, variance in zip(weights, module.mean.tolist(), variances, strict=True):  # type: ignore[operator, union-attr]
        total += weight * stats.multivariate_normal(mean, np.diag(variance)).pdf(z.numpy())
    torch.testing.assert_close(module().log_prob(z), torch.from_numpy(np.log(total)))


def test_isotropic_components_have_one_variance_each() -> None:
    module = built(IsotropicGaussianMixture(5), 4)
    assert module.logvar.shape == (5, 1) and module().component_distribution.stddev.shape == (5, 4)
    assert built(GaussianMixture(5), 4).logvar.shape == (5, 4)


@pytest.mark.parametrize("latent_dim", [1, 2, 32])
def test_components_start_apart_near_the_origin_and_stay_so(latent_dim: int) -> None:
    """A recipe's initialisation leaves them; and each of them then learns something else."""
    module = built(GaussianMixture(5), latent_dim)
    before = module.mean.detach().clone()  # type: ignore[union-attr, operator]
    network = TextNetwork(4, 4, 0.0)
    network.initialise(module, generator())
    assert torch.equal(module.mean, before) and initialised_by_recipe(module) == []  # type: ignore[arg-type]
    assert torch.pdist(before).min() > 0.05
    many = built(GaussianMixture(200), latent_dim).mean
    assert many.square().sum(-1).mean().item() == pytest.approx(4.0, rel=0.4)  # type: ignore[union-attr, operator]
    module().log_prob(normal(100, latent_dim)).sum().backward()
    slopes = module.mean.grad  # type: ignore[union-attr]
    assert torch.pdist(slopes).min() > 0  # type: ignore[arg-type]


def test_weights_of_the_published_mixture_stay_equal_and_its_start_is_glorots() -> None:
    """Means and log-variances of variance 2 / (K + D), or 2 / (K + 1) for one variance each."""
    for kind, columns in ((GaussianMixture, 300), (IsotropicGaussianMixture, 1)):
        module = built(kind(200, Mixing.EQUAL), 300)
        for name, sizes in (("mean", 500), ("logvar", 200 + columns)):
            values = getattr(module, name)
            found = values.square().mean().item()
            error = 5.0 * math.sqrt(2.0 / values.numel())  # of a variance, relative
            assert found == pytest.approx(2.0 / sizes, rel=error), (kind, name)
        assert {name for name, _ in module.named_parameters()} == {"mean", "logvar"}
        assert not module.state_dict().keys() - {"mean", "logvar"}
        before = module.mean.detach().clone()  # type: ignore[operator, union-attr]
        TextNetwork(4, 4, 0.0).initialise(module, generator())
        assert torch.equal(module.mean, before)  # type: ignore[arg-type]
        weights = module().mixture_distribution.probs
        torch.testing.assert_close(weights, torch.full_like(weights, 1 / 200))


def test_a_mixture_has_no_closed_kl_and_the_sampled_one_is_right() -> None:
    prior = scattered(GaussianMixture(3), 1)()
    q = DiagonalNormal(tensor([[0.4], [-1.0]]), tensor([[-1.0], [0.3]]))
    with pytest.raises(NotImplementedError):
        kl_divergence(q, prior)
    with pytest.raises(NotImplementedError, match="DiagonalMixture"):
        kl_per_dimension(q, prior, q.rsample((2,)))
    axis = torch.linspace(-15.0, 15.0, 6001, dtype=torch.float64).view(-1, 1, 1).expand(-1, 2, 1)
    log_q = q.log_prob(axis)
    exact = (torch.exp(log_q) * (log_q - prior.log_prob(axis))).sum(0) * 0.005
    z = draw(q, (40_000,), generator(1))
    error = (q.log_prob(z) - prior.log_prob(z)).std(0) / 200.0
    assert ((divergence(q, prior, z) - exact).abs() < 5.0 * error).all()


# --- AR(1) ----------------------------------------------------------------------------------------


def covariance(alpha: float, latent_dim: int) -> Tensor:
    place = torch.arange(latent_dim, dtype=torch.float64)
    return alpha ** (place[:, None] - place).abs()


@pytest.mark.parametrize("latent_dim", [1, 2, 3, 7])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.95, -0.6])
def test_autoregressive_density_and_draws_against_the_full_covariance(
    alpha: float, latent_dim: int
) -> None:
    prior = built(AutoRegressive(alpha), latent_dim)()
    full = covariance(alpha, latent_dim)
    z = normal(2, 5, latent_dim)
    wanted = stats.multivariate_normal(np.zeros(latent_dim), full.numpy()).logpdf(z.numpy())
    wanted = torch.from_numpy(np.reshape(wanted, (2, 5)))
    torch.testing.assert_close(prior.log_prob(z), wanted)
    # the draws are a linear map of the noise, whose square is the covariance
    noise = torch.randn(latent_dim + 3, latent_dim, generator=generator(1), dtype=torch.float64)
    drawn = draw(prior, (latent_dim + 3,), generator(1))
    weight = torch.linalg.lstsq(noise, drawn).solution.T
    torch.testing.assert_close(weight @ weight.T, full)
    torch.testing.assert_close(noise @ weight.T, drawn)


@given(st.floats(-0.999, 0.999), st.integers(1, 9), st.integers(0, 99))
def test_autoregressive_kl_against_the_matrix_form(
    alpha: float, latent_dim: int, seed: int
) -> None:
    mean, logvar = 2.0 * normal(2, 3, latent_dim, seed=seed)
    q = DiagonalNormal(mean, logvar)
    prior = AutoRegressiveNormal(torch.zeros(latent_dim, dtype=torch.float64), alpha)
    wanted = kl_divergence(
        MultivariateNormal(mean, torch.diag_embed(torch.exp(logvar))),
        MultivariateNormal(torch.zeros_like(mean), covariance(alpha, latent_dim)),
    )
    found = kl_divergence(q, prior)
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-7)
    assert (found >= prior.least_kl).all()


def test_autoregressive_kl_against_monte_carlo() -> None:
    q = DiagonalNormal(normal(2, 4), normal(2, 4, seed=1))
    prior = built(AutoRegressive(0.7), 4)()
    z = draw(q, (40_000,), generator(2))
    ratio = q.log_prob(z) - prior.log_prob(z)
    error = ratio.std(0) / 200.0
    assert ((ratio.mean(0) - kl_divergence(q, prior)).abs() < 5.0 * error).all()


@pytest.mark.parametrize("latent_dim", [2, 3, 32])
@pytest.mark.parametrize("delta", [0.05, 0.1, 0.15])
def test_a_committed_rate_is_the_least_kl_that_optimisation_finds(
    delta: float, latent_dim: int
) -> None:
    prior = built(AutoRegressive.for_rate(delta), latent_dim)()
    code = normal(2, latent_dim).requires_grad_()
    optimiser = torch.optim.LBFGS([code], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        # by the matrix form, so that the search does not lean on the closed form it tests
        value = kl_divergence(
            MultivariateNormal(code[0], torch.diag(torch.exp(code[1]))),
            MultivariateNormal(torch.zeros_like(code[0]), covariance(prior.alpha, latent_dim)),
        )
        value.backward()
        return value

    optimiser.step(loss)
    assert loss().item() == pytest.approx(delta * latent_dim, rel=1e-6)
    assert prior.least_kl == pytest.approx(delta * latent_dim, rel=1e-9)
    best = DiagonalNormal(torch.zeros_like(code[0]), -prior.log_precision)
    assert kl_divergence(best, prior).item() == pytest.approx(prior.least_kl, rel=1e-12)


def test_autoregression_over_one_dimension_or_none_is_the_standard_normal() -> None:
    q = DiagonalNormal(normal(4, 1), normal(4, 1, seed=1))
    prior = built(AutoRegressive(0.7), 1)()
    torch.testing.assert_close(kl_divergence(q, prior), kl_divergence(q, unit(1)))
    torch.testing.assert_close(prior.log_prob(q.mean), unit(1).log_prob(q.mean))
    none = built(AutoRegressive(0.7), 0)()
    empty = DiagonalNormal(normal(4, 0), normal(4, 0))
    assert torch.equal(kl_divergence(empty, none), torch.zeros(4, dtype=torch.float64))
    assert torch.equal(none.log_prob(empty.mean), torch.zeros(4, dtype=torch.float64))


# --- Scale-VAE ------------------------------------------------------------------------------------


def scale_vae() -> VAE:
    return VAE(
        nn.Identity(),
        Scaled(0.7).build(4, 2),
        ScaledStandardNormal().build(2),
        LinearDecoder(2, 4, 0.5),
    ).double()


def test_the_scaled_prior_follows_the_factor_of_the_head() -> None:
    model = scale_vae()
    model.posterior(normal(6, 4))
    factor = model.posterior_head.factor
    assert not torch.equal(factor, torch.ones(2, dtype=torch.float64))
    z = normal(5, 2)
    wanted = Independent(Normal(torch.zeros(2, dtype=torch.float64), factor), 1)  # type: ignore[arg-type]
    torch.testing.assert_close(model.prior.log_prob(z), wanted.log_prob(z))
    # f z with z ~ N(0, I), as the paper generates
    torch.testing.assert_close(
        draw(model.prior, (3,), generator()),
        factor * draw(unit(2), (3,), generator()),  # type: ignore[operator]
    )
    names = [name for name, _ in model.named_parameters()]
    assert len(set(names)) == len(names) and not any("prior" in name for name in model.state_dict())


def test_the_prior_of_a_copied_model_follows_the_copied_head() -> None:
    model = scale_vae()
    model.posterior(normal(6, 4))
    twin = copy.deepcopy(model)
    kept = model.prior.variance.clone()
    assert torch.equal(twin.prior.variance, kept)
    twin.posterior(9.0 * normal(6, 4, seed=1))
    assert torch.equal(model.prior.variance, kept)
    wanted = twin.posterior_head.factor.square()  # type: ignore[operator, union-attr]
    torch.testing.assert_close(twin.prior.variance, wanted)
    assert not torch.allclose(twin.prior.variance, kept)


def test_a_scaled_prior_needs_a_scaled_posterior() -> None:
    prior = ScaledStandardNormal().build(2)
    with pytest.raises(BadInput, match="not part of a model"):
        prior()
    with pytest.raises(BadInput, match="given a model with DiagonalHead"):
        VAE(nn.Identity(), Diagonal().build(4, 2), prior, LinearDecoder(2, 4, 0.5))


# --- KL per dimension -----------------------------------------------------------------------------


def test_closed_kl_per_dimension_against_torch() -> None:
    mean, logvar = normal(2, 4, 3)
    factor = tensor([2.0, 0.5, 1.0])
    q, scaled = DiagonalNormal(mean, logvar), ScaledNormal(mean, logvar, factor)
    theirs = Independent(Normal(mean, torch.exp(0.5 * logvar)), 1)
    other = DiagonalNormal(normal(3), normal(3, seed=1))
    none = torch.empty(0, 4, 3)
    for posterior, one in [(q, theirs), (theirs, theirs)]:
        for prior in (unit(3), other):
            wanted = kl_divergence(one.base_dist, prior.base_dist)
            torch.testing.assert_close(kl_per_dimension(posterior, prior, none), wanted)
    for prior in (unit(3), other):
        found = kl_per_dimension(scaled, prior, none)
        torch.testing.assert_close(found.sum(-1), kl_divergence(scaled, prior))
        moved = DiagonalNormal(factor * mean, logvar)
        assert torch.equal(found, kl_per_dimension(moved, prior, none))
    empty = DiagonalNormal(normal(4, 0), normal(4, 0))
    assert kl_per_dimension(empty, unit(0), none).shape == (4, 0)


def flowed(batch: int = 3) -> Flowed:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = Flow(width=3).build(4, 3).double()
    return head(normal(batch, 4))


def test_kl_per_dimension_of_a_flow_adds_up_and_has_the_sampled_gradient() -> None:
    q = flowed()
    z = draw(q, (7,), generator(1))
    found = kl_per_dimension(q, unit(3), z)
    assert found.shape == (3, 3)
    torch.testing.assert_close(found.sum(-1), divergence(q, unit(3), z))
    torch.testing.assert_close(found.sum(-1), (q.log_prob(z) - unit(3).log_prob(z)).mean(0))
    found.sum().backward()
    head = q._bijection
    assert all(p.grad is not None for p in head.parameters())  # type: ignore[attr-defined]


def test_kl_per_dimension_of_a_flow_that_does_nothing_is_the_closed_one() -> None:
    """With gates held at nearly 1 the flow is its base."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = Flow(width=3).build(4, 3).double()
    for block in head.chain.blocks:  # type: ignore[union-attr]
        block.made.last.bias.data[:3] = 40.0  # type: ignore[union-attr, index, operator]
    q = head(normal(3, 4))
    z = draw(q, (20_000,), generator(1))
    ratio = q.log_prob_per_dimension(z) - unit(3).log_prob_per_dimension(z)
    wanted = kl_per_dimension(q.base, unit(3), z)
    error = ratio.std(0) / math.sqrt(20_000)
    assert ((kl_per_dimension(q, unit(3), z) - wanted).abs() < 5.0 * error).all()


@pytest.mark.parametrize(
    ("q", "prior", "reason"),
    [
        (
            DiagonalNormal(torch.zeros(2, 3), torch.zeros(2, 3)),
            AutoRegressiveNormal(torch.zeros(3), 0.5),
            "independent Gaussians, given AutoRegressiveNormal",
        ),
        (
            DiagonalNormal(torch.zeros(2, 3), torch.zeros(2, 3)),
            DiagonalMixture(torch.zeros(2), torch.zeros(2, 3), torch.zeros(2, 3)),
            "independent Gaussians, given DiagonalMixture",
        ),
        (
            Delta(torch.zeros(2, 3)),
            UnitNormal(torch.zeros(3)),
            "or a flow as posterior, given Delta",
        ),
        (
            MultivariateNormal(torch.zeros(2, 3), torch.eye(3)),
            UnitNormal(torch.zeros(3)),
            "given MultivariateNormal",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Distribution) else "",
)
def test_pairs_without_a_kl_of_single_dimensions_say_so(
    q: Distribution, prior: Distribution, reason: str
) -> None:
    with pytest.raises(NotImplementedError, match=reason):
        kl_per_dimension(q, prior, torch.zeros(1, 2, 3))


def test_a_language_model_has_no_kl() -> None:
    network = TextNetwork(4, 5, 0.0)
    model = build_vae(network, 9, 3, Diagonal(), StandardNormal(), Latent.NONE)
    x = torch.randint(0, 9, (2, 6), generator=generator())
    q = model.posterior(x)
    z = draw(q, (1,), generator())
    assert torch.equal(divergence(q, model.prior, z), torch.zeros(2))
    assert model.log_likelihood(x, z).shape == (1, 2)
