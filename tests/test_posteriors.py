"""Slot 1: every posterior against an independent formula, and what all of them share."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributions import (
    Independent,
    LogNormal,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput
from posterior_collapse.layers import (
    FirstValues,
    Progress,
    begin_update,
    initialised_by_recipe,
    use_generator,
)
from posterior_collapse.networks import TextNetwork, build_vae
from posterior_collapse.posteriors import (
    ALPHA,
    LARGEST_FACTOR,
    Average,
    BatchNormed,
    Constrained,
    Delta,
    Diagonal,
    DiagonalNormal,
    DiversityUncertainty,
    FactorOfMeanSpread,
    Flow,
    Flowed,
    FlowHead,
    Isotropic,
    MeanOfFactors,
    OwnEpochs,
    OwnGradient,
    OwnPhase,
    OwnThroughout,
    OwnUpdates,
    PointMass,
    Posterior,
    Scaled,
    ScaledNormal,
    SoftplusDiagonal,
    Spread,
    Untied,
    draw,
    gaussian_code,
)
from posterior_collapse.posteriors.flow import _Chain
from posterior_collapse.posteriors.heads import log_variance
from posterior_collapse.priors import ScaledStandardNormalPrior, StandardNormal, UnitNormal

CASES: dict[str, dict[str, Any]] = {
    case["name"]: case
    for case in json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
}
FEATURES = 6
EVERY: list[Posterior] = [
    Diagonal(),
    Isotropic(),
    Untied(2.0),
    PointMass(),
    Constrained(0.1),
    BatchNormed(0.6),
    BatchNormed(0.0, shift=0.7),
    DiversityUncertainty(0.5, 0.8),
    DiversityUncertainty(0.5, 0.8, spread=Spread.SOFTPLUS),
    SoftplusDiagonal(),
    Scaled(0.7, OwnEpochs(2)),
    Scaled(0.7, OwnUpdates(4)),
    Scaled(0.7, OwnUpdates()),
    Scaled(0.7, OwnUpdates(1), MeanOfFactors()),
    Scaled(0.7, OwnThroughout(), gradient=OwnGradient.STOPPED),
    Flow(width=3),
    Flow(base=BatchNormed(0.6, eps=1e-8, spread=Spread.SOFTPLUS), width=3),
    Flow(base=DiversityUncertainty(0.6, 0.7), width=3),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def built(choice: Posterior, latent_dim: int = 3, scale: float = 0.5, seed: int = 3) -> nn.Module:
    """A head in float64 whose recipe-initialised parameters are random."""
    head = choice.build(FEATURES, latent_dim).double()
    with torch.no_grad():
        for index, parameter in enumerate(initialised_by_recipe(head)):
            values = normal(*parameter.shape, seed=seed + index)
            parameter.copy_(scale * values / (values.shape[-1] ** 0.5 if values.dim() > 1 else 1.0))
    use_generator(head, generator(seed))
    return head


def transparent(choice: Posterior, outputs: int, latent_dim: int) -> nn.Module:
    """A head whose features are the outputs of its linear map."""
    head = choice.build(outputs, latent_dim).double()
    with torch.no_grad():
        head.linear.weight.copy_(torch.eye(outputs))  # type: ignore[union-attr, operator]
    use_generator(head, generator())
    return head


def buffers(head: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in head.named_buffers()}


def parts(q: Any) -> list[Tensor]:
    """All the numbers that a distribution consists of."""
    code = gaussian_code(q)
    return [q.mean] if code is None else [q.mean, *code]


# --- what all posteriors share --------------------------------------------------------------------


@pytest.mark.parametrize("choice", EVERY, ids=str)
@pytest.mark.parametrize("batch", [1, 5])
def test_every_posterior_has_the_contracts_shapes_and_finite_gradients(
    choice: Posterior, batch: int
) -> None:
    head = built(choice)
    features = normal(batch, FEATURES).requires_grad_()
    q = head(features)
    assert q.batch_shape == (batch,) and q.event_shape == (3,) and q.mean.shape == (batch, 3)
    z = draw(q, (2,), generator(1))
    assert z.shape == (2, batch, 3) and torch.isfinite(z).all()
    total = z.square().sum()
    if not isinstance(q, Delta):
        assert q.log_prob(z).shape == (2, batch)
        total = total + q.log_prob(z).sum()
    total.backward()
    given = [features, *head.parameters()]
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in given)
    assert features.grad is not None


@pytest.mark.parametrize("choice", EVERY, ids=str)
def test_evaluation_changes_no_state(choice: Posterior) -> None:
    head = built(choice)
    for step in range(3):
        begin_update(head, Progress(step, 1))
        head(normal(5, FEATURES, seed=step))
    head.eval()
    before, noise = buffers(head), generator(5)
    use_generator(head, noise)
    first = parts(head(normal(4, FEATURES)))
    again = parts(head(normal(4, FEATURES)))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in head.named_buffers())
    assert torch.equal(noise.get_state(), generator(5).get_state())


@pytest.mark.parametrize("choice", EVERY, ids=str)
def test_a_restored_head_goes_on_bit_for_bit(choice: Posterior) -> None:
    """Training that is cut in the middle of an epoch and resumed in a fresh module."""

    def steps(head: nn.Module, first: int, last: int, noise: torch.Generator) -> list[Tensor]:
        use_generator(head, noise)
        found = []
        for step in range(first, last):
            begin_update(head, Progress(step, 3))
            found += parts(head(normal(5, FEATURES, seed=step)))
        return found + parts(head.eval()(normal(2, FEATURES)))

    whole, cut = built(choice), built(choice)
    noise = generator(8)
    expected = steps(whole, 0, 8, generator(8))
    steps(cut, 0, 4, noise)
    fresh = choice.build(FEATURES, 3).double()
    fresh.load_state_dict({k: v.clone() for k, v in cut.state_dict().items()})
    found = steps(fresh, 4, 8, noise)
    expected = expected[-len(found) :]
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("choice", EVERY, ids=str)
def test_training_noise_comes_from_the_generator_alone(choice: Posterior) -> None:
    found = []
    for seed in (0, 1):
        head = built(choice)
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        q = head(normal(5, FEATURES))
        found.append([*parts(q), draw(q, (3,), generator(4))])
        assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
    if not isinstance(q, Delta):
        assert not torch.equal(draw(q, (3,), generator(5)), found[0][-1])


@pytest.mark.parametrize("choice", EVERY, ids=str)
def test_draw_without_a_generator_follows_the_global_state(choice: Posterior) -> None:
    q = built(choice).eval()(normal(5, FEATURES))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        one = draw(q, (3,))
        torch.manual_seed(2)
        assert torch.equal(one, q.rsample((3,)))
        torch.manual_seed(2)
        sample = q.sample((3,))
    assert torch.equal(sample, one.detach()) and not sample.requires_grad


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constrained(0.0),
        lambda: Untied(0.0),
        lambda: Untied(math.inf),
        lambda: Constrained(21.0),
        lambda: Constrained(math.nan),
        lambda: BatchNormed(-0.1),
        lambda: BatchNormed(math.inf),
        lambda: BatchNormed(0.5, shift=math.nan),
        lambda: BatchNormed(eps=0.0),
        lambda: DiversityUncertainty(gamma=0.0),
        lambda: DiversityUncertainty(keep_prob=0.0),
        lambda: DiversityUncertainty(keep_prob=1.1),
        lambda: DiversityUncertainty(alpha=-0.1),
        lambda: DiversityUncertainty(alpha=0.0),
        lambda: DiversityUncertainty(eps=-1.0),
        lambda: Scaled(0.0),
        lambda: OwnEpochs(0),
        lambda: OwnEpochs(1.5),  # type: ignore[arg-type]
        lambda: OwnUpdates(0),
        lambda: OwnUpdates(True),
        lambda: Scaled(1.0, ddof=2),
        lambda: Flow(blocks=0),
        lambda: Flow(width=0),
        lambda: Flow(width=2.5),  # type: ignore[arg-type]
        lambda: Flow(base=Scaled()),
        lambda: Flow(base=PointMass()),
        lambda: Flow(base=Flow()),
        lambda: Flow().build(FEATURES, 0),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(BadInput, match="given"):
        make()


def test_gaussian_code_of_each_kind() -> None:
    mean, logvar = normal(4, 3), normal(4, 3, seed=1)
    q = DiagonalNormal(mean, logvar)
    theirs = Independent(Normal(mean, torch.exp(0.5 * logvar)), 1)
    scaled = ScaledNormal(mean, logvar, tensor([2.0, 1.0, 0.5]))
    flowed = built(Flow(width=3))(normal(4, FEATURES))
    for given_q, expected in [
        (q, (mean, logvar)),
        (theirs, (mean, logvar)),
        (scaled, (mean * tensor([2.0, 1.0, 0.5]), logvar)),
        (flowed, (flowed.base.mean, flowed.base.logvar)),
    ]:
        code = gaussian_code(given_q)
        assert code is not None
        torch.testing.assert_close(code, expected)
    others = [
        Delta(mean),
        MultivariateNormal(mean, torch.eye(3, dtype=torch.float64)),
        Independent(LogNormal(mean, torch.ones_like(mean)), 1),
        Independent(Normal(mean, torch.ones_like(mean)), 2),
    ]
    assert [gaussian_code(other) for other in others] == [None] * 4


def test_no_latent_variable_at_all() -> None:
    with pytest.warns(UserWarning, match="zero-element"):
        head = Diagonal().build(FEATURES, 0)
    q, prior = head(torch.ones(4, FEATURES)), StandardNormal().build(0)()
    z = draw(q, (2,), generator())
    assert z.shape == (2, 4, 0)
    assert torch.equal(kl_divergence(q, prior), torch.zeros(4))
    assert torch.equal(q.log_prob(z), torch.zeros(2, 4))
    assert torch.equal(prior.log_prob(z), torch.zeros(2, 4))


# --- isotropic, point -----------------------------------------------------------------------------


def test_isotropic_has_one_variance_and_means_of_its_own() -> None:
    q = built(Isotropic())(normal(5, FEATURES))
    assert torch.equal(q.logvar, q.logvar[:, :1].expand(5, 3))
    assert q.logvar[:, 0].unique().numel() == 5 and q.mean.unique().numel() == 15


def test_variances_are_tied_until_their_time_and_start_equal() -> None:
    """Zhang et al. 2021, section 5.2: isotropic first; the switch itself changes nothing."""
    head, tied = built(Untied(2.0)), built(Isotropic())
    features = normal(5, FEATURES)
    tied.linear.weight.data.copy_(head.linear.weight)
    expected = tied(features)
    for iteration in (0, 19, 20, 25):  # of ten batches an epoch
        begin_update(head, Progress(iteration, 10))
        assert bool(head.untied) == (iteration >= 20)
        q = head(features)
        assert torch.equal(q.mean, expected.mean) and torch.equal(q.logvar, expected.logvar)
    with torch.no_grad():
        head.difference.weight.copy_(normal(3, FEATURES, seed=9))
    q = head(features)
    assert torch.equal(q.mean, expected.mean)
    difference = features @ normal(3, FEATURES, seed=9).T
    torch.testing.assert_close(q.logvar, expected.logvar + difference)
    begin_update(head, Progress(19, 10))  # a model whose time has not come does not look at it
    assert torch.equal(head(features).logvar, expected.logvar)


def test_differences_of_variances_learn_only_when_they_are_untied() -> None:
    head, features = built(Untied(1.0)), normal(5, FEATURES)
    for iteration, learns in ((9, False), (10, True)):
        begin_update(head, Progress(iteration, 10))
        head.zero_grad()
        head(features).logvar.square().sum().backward()
        assert (head.difference.weight.grad is not None) == learns
    assert head.difference.weight.grad.abs().min() > 0


@pytest.mark.parametrize("iteration", [3, 30])
def test_untied_variances_survive_a_file(tmp_path: Path, iteration: int) -> None:
    head, features = built(Untied(2.0)), normal(5, FEATURES)
    with torch.no_grad():
        head.difference.weight.copy_(normal(3, FEATURES, seed=9))
    begin_update(head, Progress(iteration, 10))
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    other = built(Untied(2.0), seed=8)
    other.load_state_dict(load_file(tmp_path / "head.safetensors"))
    assert bool(other.untied) == (iteration == 30)
    for one, two in zip(parts(head(features)), parts(other(features)), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", ["igp_tie_below1", "igp_tie_mixed"])
def test_isotropic_kl_of_the_printed_cases(name: str) -> None:
    case = CASES[name]
    variances = tensor(case["inputs"]["sigma2"])
    tied, dims = variances.min().log(), len(variances)
    code = torch.cat([torch.zeros(1, dims, dtype=torch.float64), tied.view(1, 1)], dim=-1)
    q = transparent(Isotropic(), dims + 1, dims)(code)
    unit = UnitNormal(torch.zeros(dims, dtype=torch.float64))
    found = kl_divergence(q, unit).item()
    assert found == pytest.approx(case["expected"]["kl_iso_min"], rel=case["rtol"])


def test_a_point_has_a_place_and_no_density() -> None:
    head = built(PointMass())
    features = normal(4, FEATURES)
    q = head(features)
    noise = generator(1)
    z = draw(q, (2, 3), noise)
    expected = features @ head.linear.weight.T  # type: ignore[union-attr, operator]
    assert torch.equal(z, expected.expand(2, 3, 4, 3)) and torch.equal(q.mean, expected)
    assert torch.equal(noise.get_state(), generator(1).get_state())
    assert torch.equal(q.variance, torch.zeros(4, 3, dtype=torch.float64))
    unit = UnitNormal(torch.zeros(3, dtype=torch.float64))
    for ask in (lambda: q.log_prob(z), lambda: kl_divergence(q, unit), q.entropy):
        with pytest.raises(NotImplementedError, match="no density"):
            ask()


# --- delta-VAE ------------------------------------------------------------------------------------

extreme = st.floats(-1e6, 1e6) | st.floats(-5.0, 5.0)


@given(st.floats(1e-6, 20.0), st.lists(st.tuples(extreme, extreme), min_size=1, max_size=4))
def test_the_kl_of_a_constrained_posterior_is_never_below_delta(
    delta: float, outputs: list[tuple[float, float]]
) -> None:
    raw = tensor(outputs).T.reshape(1, -1)
    head = transparent(Constrained(delta), raw.shape[-1], len(outputs))
    q = head(raw)
    kl = 0.5 * (q.mean.square() + torch.exp(q.logvar) - 1.0 - q.logvar)
    assert (kl >= delta * (1.0 - 1e-12)).all()
    single = head.float()(raw.float())
    kl = 0.5 * (single.mean.square() + gaussian.exp_minus_tangent(single.logvar))
    assert (kl >= delta * (1.0 - 1e-6)).all()


@pytest.mark.parametrize("delta", [0.05, 0.1, 0.15, 3.0])
def test_the_constrained_posterior_has_the_papers_equations(delta: float) -> None:
    grid = torch.linspace(-60.0, 60.0, 241, dtype=torch.float64)[:, None]
    for raw_mean in (-2.0, 0.0, 0.7):
        outputs = torch.cat([torch.full_like(grid, raw_mean), grid], dim=-1)
        q = transparent(Constrained(delta), 2, 1)(outputs)
        variance = torch.exp(q.logvar)
        inside = 2.0 * delta + 1.0 + q.logvar - variance
        wanted = torch.sqrt(inside.clamp_min(0.0) + max(raw_mean, 0.0) + 1e-6)
        torch.testing.assert_close(q.mean, wanted, rtol=1e-9, atol=1e-10)
        for end in (variance[0], variance[-1]):  # the roots are the two ends of its range
            assert abs(math.log(end.item()) - end.item() + 2.0 * delta + 1.0) < 1e-9
        # sigma is linear in the sigmoid between the ends
        std, share = torch.exp(0.5 * q.logvar), torch.sigmoid(grid)
        torch.testing.assert_close(std, std[0] + (std[-1] - std[0]) * share)


# --- batch norm on the means ----------------------------------------------------------------------


def test_batch_norm_of_the_printed_case() -> None:
    case = CASES["bn_exact"]
    mean = tensor(case["inputs"]["mu"])[:, None]
    head = transparent(BatchNormed(case["inputs"]["gamma"], eps=1e-30), 2, 1)
    head.norm.shift.data.fill_(case["inputs"]["beta"])  # type: ignore[union-attr, operator]
    q = head(torch.cat([mean, torch.zeros_like(mean)], dim=-1))
    expected = case["expected"]
    torch.testing.assert_close(q.mean[:, 0], tensor(expected["out"]), rtol=1e-10, atol=1e-13)
    assert 0.5 * q.mean.square().mean().item() == pytest.approx(expected["half_E_mu2"], rel=1e-10)


@pytest.mark.parametrize("name", ["bn_kl_bound", "bn_kl_bound_06"])
def test_the_average_kl_of_bn_vae_keeps_its_bound(name: str) -> None:
    case = CASES[name]
    dims, gamma, beta = (case["inputs"][key] for key in ("n", "gamma", "beta"))
    code = normal(40, 2 * dims)
    unit = UnitNormal(torch.zeros(dims, dtype=torch.float64))
    head = transparent(BatchNormed(gamma, shift=beta, eps=1e-30), 2 * dims, dims)
    assert not [p for n, p in head.named_parameters() if "shift" in n]
    assert kl_divergence(head(code), unit).mean().item() > case["expected"]["bound"]
    code[:, dims:] = 0.0  # with unit variances the bound is met
    found = kl_divergence(head(code), unit).mean().item()
    assert found == pytest.approx(case["expected"]["bound"], rel=1e-10)


@given(st.floats(1e-3, 2.0), st.floats(1e-6, 10.0), st.integers(2, 9), st.integers(0, 99))
def test_batch_norm_gives_the_variance_that_eps_leaves(
    gamma: float, size: float, batch: int, seed: int
) -> None:
    """Theory D11: the variance of a normalised mean is gamma^2 s^2 / (s^2 + eps)."""
    raw = size * normal(batch, 3, seed=seed)
    spread = raw.var(0, correction=0)
    code = torch.cat([raw, torch.zeros_like(raw)], dim=-1)
    wanted = gamma**2 * spread / (spread + 1e-5)
    q = transparent(BatchNormed(gamma), 6, 3)(code)
    torch.testing.assert_close(q.mean.var(0, correction=0), wanted)
    du = transparent(DiversityUncertainty(gamma), 6, 3)
    du.scale.weight.data.copy_(tensor([0.2, -1.0, 3.0]))  # type: ignore[union-attr, operator]
    scale = du.scale()  # type: ignore[operator]
    assert scale.square().mean().sqrt().item() == pytest.approx(gamma)
    found = du(code).mean.var(0, correction=0)
    torch.testing.assert_close(found, scale.square() * spread / (spread + 1e-5))
    # with eps = 0 and any spread the variances add up to D gamma^2
    exact = transparent(DiversityUncertainty(gamma, eps=1e-30), 6, 3)
    exact.scale.weight.data.copy_(tensor([0.2, -1.0, 3.0]))  # type: ignore[union-attr, operator]
    total = exact(code).mean.var(0, correction=0).sum().item()
    assert total == pytest.approx(3.0 * gamma**2)


def test_batch_norm_keeps_running_averages_for_evaluation() -> None:
    head = transparent(BatchNormed(0.6), 4, 2)
    mean, var = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    for seed in range(4):
        code = normal(5, 4, seed=seed) + 2.0
        head(code)
        mean = 0.9 * mean + 0.1 * code[:, :2].mean(0)
        var = 0.9 * var + 0.1 * code[:, :2].var(0)
    one = normal(1, 4, seed=9)
    wanted = 0.6 * (one[:, :2] - mean) / torch.sqrt(var + 1e-5)
    torch.testing.assert_close(head.eval()(one).mean, wanted)
    # a batch of one in training has no spread: it is normalised likewise and leaves no trace
    before = buffers(head)
    torch.testing.assert_close(head.train()(one).mean, wanted)
    assert all(torch.equal(value, before[name]) for name, value in head.named_buffers())


def test_a_recipe_leaves_the_batch_norm_where_it_starts() -> None:
    for choice in (BatchNormed(0.6), DiversityUncertainty(0.5), Flow(base=BatchNormed(0.6))):
        head = choice.build(FEATURES, 3)
        network = TextNetwork(4, FEATURES, 0.0, (0.5, 0.6), first_values=FirstValues.RECIPE)
        network.initialise(head, generator())
        starts = {"shift": 0.0, "scale": 0.5, "gate": 2.0}
        kept = {n: p for n, p in head.named_parameters() if any(word in n for word in starts)}
        for name, value in kept.items():
            wanted = next(start for word, start in starts.items() if word in name)
            assert torch.equal(value, torch.full((3,), wanted)), name
        rest = [p for n, p in head.named_parameters() if n not in kept]
        assert rest and all((p >= 0.5).all() and (p <= 0.6).all() for p in rest)


def test_the_map_before_a_norm_and_a_flow_start_as_in_torch() -> None:
    """Uniform with the variance 1 / (3 inputs) of torch's own, from the generator alone."""
    wide, width = 400, 20
    network = TextNetwork(4, wide, 0.0, (0.5, 0.6))
    for choice in (BatchNormed(0.6), DiversityUncertainty(0.5), Flow(base=BatchNormed(0.6))):
        heads = [choice.build(wide, 8) for _ in range(2)]
        for head in heads:
            network.initialise(head, generator(5))
        for (name, one), two in zip(
            heads[0].named_parameters(), heads[1].parameters(), strict=True
        ):
            assert torch.equal(one, two), name
        layers = {n: m for n, m in heads[0].named_modules() if isinstance(m, nn.Linear)}
        assert layers
        for name, layer in layers.items():
            if name == "context":  # of the features; not a part of the flow proper
                assert (layer.weight >= 0.5).all()
                continue
            bound = layer.in_features**-0.5
            assert layer.weight.abs().max() <= bound
            assert layer.weight.abs().max() > 0.95 * bound
            assert layer.weight.var().item() == pytest.approx(bound**2 / 3.0, rel=0.1), name
            if layer.bias is not None:
                assert 0.7 * bound < layer.bias.abs().max() <= bound
    plain = Diagonal().build(wide, width)
    network.initialise(plain, generator(5))
    assert all((p >= 0.5).all() for p in plain.parameters())


def first_means(network: TextNetwork, choice: Posterior) -> Tensor:
    """Means before the norm for sentences of one length, in the model before its first update."""
    torch.manual_seed(0)
    model = build_vae(network, 50, 16, choice, StandardNormal())
    network.initialise(model, generator(1))
    sentences = torch.randint(4, 50, (32, 10), generator=generator(2))
    head: Any = model.posterior_head
    with torch.no_grad():
        raw = head.linear(model.encoder(sentences))[:, :16].double()
        q = model.train().posterior(sentences)
    torch.testing.assert_close(
        0.5 * q.mean.double().square().sum(-1).mean(),
        0.5 * 0.36 * (raw.var(0, correction=0) / (raw.var(0, correction=0) + 1e-5)).sum(),
        rtol=1e-3,
        atol=1e-6,
    )
    return raw


@pytest.mark.parametrize("choice", [BatchNormed(0.6), DiversityUncertainty(0.6)], ids=str)
@pytest.mark.parametrize("width", [0.01, 0.1])
def test_a_norm_is_not_void_whatever_the_recipes_first_values(
    choice: Posterior, width: float
) -> None:
    """An LSTM of 96 units: variances far above eps, so that the least KL is the one promised."""
    network = TextNetwork(48, 96, 0.0, (-width, width), (-10 * width, 10 * width))
    raw = first_means(network, choice)
    assert raw.var(0, correction=0).min() > 100 * 1e-5
    void = first_means(
        TextNetwork(48, 96, 0.0, (-0.01, 0.01), (-0.1, 0.1), first_values=FirstValues.RECIPE),
        choice,
    )
    assert void.var(0, correction=0).max() < 1e-5 / 100  # what it was


@pytest.mark.parametrize(
    "choice",
    [BatchNormed(0.6), BatchNormed(0.0, shift=0.7), DiversityUncertainty(0.6, 0.5)],
    ids=str,
)
def test_the_promised_least_kl_is_half_the_mean_square_of_the_means(choice: Posterior) -> None:
    head: Any = built(choice)
    with torch.no_grad():
        for parameter in head.norm.parameters():
            parameter.copy_(normal(3, seed=8))
        if hasattr(head, "scale"):
            head.scale.weight.copy_(tensor([0.2, -1.0, 3.0]))
        head.linear.weight[3:] *= 1e-4  # of the variances
    q = head(1e4 * normal(9, FEATURES))  # so far apart that eps is nothing
    assert head.least_kl == pytest.approx(0.5 * q.mean.square().sum(-1).mean().item(), rel=1e-9)
    unit = UnitNormal(torch.zeros(3, dtype=torch.float64))
    assert kl_divergence(q, unit).mean().item() > head.least_kl


def test_a_softplus_gives_the_standard_deviation() -> None:
    raw = tensor([[-800.0, -30.0, -20.0, -1.0, 0.0, 3.0, 50.0, 800.0]])
    found = log_variance(raw, Spread.SOFTPLUS)
    exact = torch.log(torch.log1p(torch.exp(raw[:, 2:6])))
    torch.testing.assert_close(found[:, 2:6], 2.0 * exact, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[:, :2], 2.0 * raw[:, :2])  # its tail is exp(raw)
    torch.testing.assert_close(found[:, 6:], 2.0 * torch.log(raw[:, 6:]))  # and raw itself
    raw = raw.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: log_variance(x, Spread.SOFTPLUS), (raw.detach()[:, 2:7].requires_grad_(),)
    )
    log_variance(raw, Spread.SOFTPLUS).sum().backward()
    assert raw.grad is not None and torch.isfinite(raw.grad).all()
    assert torch.equal(log_variance(raw, Spread.EXP), raw)
    head, exp = built(SoftplusDiagonal()), built(Diagonal())
    features = normal(5, FEATURES)
    wanted = torch.nn.functional.softplus(exp(features).logvar)
    torch.testing.assert_close(head(features).stddev, wanted)


# --- DU-VAE ---------------------------------------------------------------------------------------


def test_the_floor_has_no_entropy() -> None:
    assert CASES["const_alpha"]["expected"]["alpha"] == pytest.approx(ALPHA, rel=1e-15)
    assert gaussian.entropy(torch.full((1, 1), math.log(ALPHA), dtype=torch.float64)).abs() < 1e-14


def test_without_dropout_and_floor_du_vae_is_batch_norm_with_a_learned_scale() -> None:
    du, bn = built(DiversityUncertainty(0.6, 1.0, 0.0)), built(BatchNormed(0.6))
    for seed in range(3):
        features = normal(5, FEATURES, seed=seed)
        one, two = du(features), bn(features)
        torch.testing.assert_close(one.mean, two.mean, rtol=1e-14, atol=1e-15)
        assert torch.equal(one.logvar, two.logvar)
    (du(features).mean ** 3).sum().backward()
    assert du.scale.weight.grad.abs().min() > 0  # type: ignore[union-attr, operator]


def test_a_step_on_the_scale_is_that_of_algorithm_1() -> None:
    """A gradient step on the scale itself, then a rescaling to the root mean square gamma."""
    head, gamma, rate = built(DiversityUncertainty(0.5, 1.0)), 0.5, 0.3
    by_hand = torch.full((3,), gamma, dtype=torch.float64)
    for step in range(4):
        begin_update(head, Progress(step, 2))
        features = normal(7, FEATURES, seed=step)
        raw = (features @ head.linear.weight.T)[:, :3].detach()  # type: ignore[union-attr, operator]
        unit = (raw - raw.mean(0)) / torch.sqrt(raw.var(0, correction=0) + 1e-5)
        by_hand.requires_grad_()
        (slope,) = torch.autograd.grad((by_hand * unit + 0.1).pow(4).sum() / 7, by_hand)
        by_hand = (by_hand - rate * slope).detach()
        by_hand *= gamma / by_hand.square().mean().sqrt()
        head.zero_grad()
        ((head(features).mean + 0.1).pow(4).sum() / 7).backward()
        weight = head.scale.weight  # type: ignore[union-attr]
        weight.data -= rate * weight.grad  # type: ignore[operator, union-attr]
        torch.testing.assert_close(head.scale(), by_hand)  # type: ignore[operator]


def dropped_logvars(variance: Tensor, keep_prob: float, draws: int) -> Tensor:
    """Log-variances (draws, N, D) of a head in training whose variance is the one given."""
    points, dims = variance.shape
    head = transparent(DiversityUncertainty(0.5, keep_prob), 2 * dims, dims)
    code = torch.cat([torch.zeros_like(variance), torch.log(variance - ALPHA)], dim=-1)
    return head(code.repeat(draws, 1)).logvar.view(draws, points, dims)


@pytest.mark.parametrize("keep_prob", [0.9, 0.5, 0.1])
def test_variance_dropout_keeps_the_mean_and_the_floor(keep_prob: float) -> None:
    variance = tensor([[0.5, 0.9, ALPHA + 1e-6], [0.06, 40.0, 1.0]])
    draws = 20_000
    logvar = dropped_logvars(variance, keep_prob, draws)
    raised = torch.log(ALPHA + (variance - ALPHA) / keep_prob)
    low = (logvar - math.log(ALPHA)).abs() < 1e-9
    torch.testing.assert_close(logvar, torch.where(low, math.log(ALPHA), raised.expand_as(logvar)))
    exact = gaussian.variance_dropout_moments(variance, keep_prob, ALPHA)
    for samples, wanted in [
        (torch.exp(logvar), variance),
        (torch.exp(-logvar), exact.inverse_variance),
        (logvar, exact.log_variance),
    ]:
        error = samples.std(0) / math.sqrt(draws)
        assert ((samples.mean(0) - wanted).abs() <= 5.0 * error + 1e-12).all()
    # masks of two dimensions, and of two examples, are independent
    kept = (~low).double()
    joint = (kept[:, 0, 0] * kept[:, 1, 0]).mean().item()
    assert joint == pytest.approx(keep_prob**2, abs=5.0 * 0.5 / math.sqrt(draws))


@pytest.mark.parametrize("name", [f"dropout_generic_p{p}" for p in (0.9, 0.8, 0.1)])
def test_variance_dropout_of_the_printed_cases(name: str) -> None:
    """MPD and conditional entropy of what the head gives, averaged over masks."""
    case = CASES[name]
    mean, variance = tensor(case["inputs"]["mu"]), tensor(case["inputs"]["sigma2"])
    points, dims = mean.shape
    # Batch norm undone: scale and shift are the spread and the centre of the case's means.
    spread = mean.std(0, correction=0)
    gamma = spread.square().mean().sqrt().item()
    head = transparent(DiversityUncertainty(gamma, case["inputs"]["p"], eps=1e-30), 2 * dims, dims)
    head.scale.weight.data.copy_(spread)  # type: ignore[union-attr, operator]
    head.norm.shift.data.copy_(mean.mean(0))  # type: ignore[union-attr, operator]
    draws = 20_000
    code = torch.cat([mean, torch.log(variance - ALPHA)], dim=-1).repeat(draws, 1)
    one, two = head(code), head(code)
    torch.testing.assert_close(one.mean[:points], mean)

    def average(values: Tensor, wanted: float) -> None:
        means = values.view(draws, -1).mean(1)
        error = means.std().item() / math.sqrt(draws)
        assert means.mean().item() == pytest.approx(wanted, abs=5.0 * error)

    average(gaussian.entropy(one.logvar), case["expected"]["ce_B"])
    shape = (draws, points, dims)
    first = [values.reshape(shape)[:, :, None] for values in (one.mean, one.logvar)]
    second = [values.reshape(shape)[:, None] for values in (two.mean, two.logvar)]
    average(gaussian.kl(*first, *second), case["expected"]["mpd_B"])


@pytest.mark.parametrize("spread", list(Spread))
def test_evaluation_has_the_floor_and_no_dropout(spread: Spread) -> None:
    """As in the public code: exp(.) + alpha at a KL weight of 1, in evaluation too."""
    features = normal(5, FEATURES)
    plain = log_variance(built(Diagonal())(features).logvar, spread)
    raised = torch.log(torch.exp(plain) + ALPHA)
    head = built(DiversityUncertainty(0.5, 0.8, spread=spread)).eval()
    torch.testing.assert_close(head(features).logvar, raised)
    assert (gaussian.entropy(head(features).logvar) > 0.0).all()


# --- Scale-VAE ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ddof", "factors"),
    [
        (0, [3.2827781378590752, 0.3716850544959843]),
        (1, [2.842969262374133, 0.3218886994005259]),
    ],
)
def test_scale_factor_equals_the_case(ddof: int, factors: list[float]) -> None:
    raw = tensor([[0.1, 2.0], [-0.2, 1.0], [0.4, -3.0], [0.05, 0.5]])
    q = transparent(Scaled(0.7, ddof=ddof), 4, 2)(torch.cat([raw, raw], dim=-1))
    torch.testing.assert_close(q.factor, tensor(factors), rtol=1e-10, atol=0)
    assert torch.equal(q.unscaled.mean, raw) and torch.equal(q.logvar, raw)
    torch.testing.assert_close(q.mean.std(0, correction=ddof), tensor([0.7, 0.7]))


@given(st.floats(0.1, 2.0), st.integers(2, 9), st.floats(0.3, 1e8), st.integers(0, 99))
def test_the_scaled_means_have_the_wanted_standard_deviation(
    des_std: float, batch: int, size: float, seed: int
) -> None:
    code = size * normal(batch, 4, seed=seed)
    for ddof in (0, 1):
        q = transparent(Scaled(des_std, ddof=ddof), 4, 2)(code)
        found = q.mean.std(0, correction=ddof)
        # The rare dimension with nearly no spread stays as it is.
        small = code[:, :2].std(0, correction=ddof) < des_std / LARGEST_FACTOR
        wanted = torch.where(small, code[:, :2].std(0, correction=ddof), des_std)
        torch.testing.assert_close(found, wanted)


def test_a_dimension_that_is_switched_off_is_not_scaled_up_for_ever() -> None:
    """Its factor would pass every bound and end in an overflow."""
    code = torch.cat([1e-9 * normal(8, 1), normal(8, 3)], dim=-1)
    head = transparent(Scaled(0.7), 4, 2)
    factor = head(code).factor
    assert factor[0] == 1.0 and 0.0 < factor[1] < 100.0
    assert head.weight.tolist() == [0.0, 8.0]  # type: ignore[operator, union-attr]


@pytest.mark.parametrize("name", ["scale_not_a_bound", "scale_f1"])
def test_both_posteriors_and_priors_of_the_printed_cases(name: str) -> None:
    case = CASES[name]
    inputs, expected = case["inputs"], case["expected"]
    mean, logvar = tensor([[inputs["mu"]]]), tensor([[math.log(inputs["sigma2"])]])
    q = ScaledNormal(mean, logvar, tensor([inputs["f"]]))
    head = nn.Module()
    head.register_buffer("factor", q.factor)
    prior = ScaledStandardNormalPrior(1).double()
    prior.follow(head)
    unit = UnitNormal(tensor([0.0]))
    for found, key in [
        (kl_divergence(q.unscaled, unit), "kl_q_p"),
        (kl_divergence(q, unit), "kl_qhat_p"),
        (kl_divergence(q, prior()), "kl_qhat_scaledprior"),
    ]:
        assert found.item() == pytest.approx(expected[key], rel=case["rtol"])
    gap = (kl_divergence(q, prior()) - kl_divergence(q.unscaled, unit)).item()  # theory S6
    assert gap == pytest.approx(expected["gap_formula"], rel=1e-9, abs=1e-12)


def test_a_dimension_without_spread_is_left_as_it_is() -> None:
    head = transparent(Scaled(0.7), 4, 2).float()
    code = normal(8, 4).float()
    code[:, 0] = 1234.5
    code[::2, 0] = torch.nextafter(code[0, 0], torch.tensor(math.inf))  # nothing but rounding
    code.requires_grad_()
    q = head(code)
    q.mean.square().sum().backward()
    assert torch.isfinite(code.grad).all()  # type: ignore[arg-type]
    assert q.factor[0] == 1.0 and q.mean[:, 1].std().item() == pytest.approx(0.7, rel=1e-5)
    # one batch that has spread decides for those that have none
    head(normal(8, 4, seed=1).float())
    later = head(code)
    assert later.factor[0] == head.factor[0] != 1.0  # type: ignore[index]
    # and a batch of one takes the average so far
    before = buffers(head)
    assert torch.equal(head(code[:1]).factor, before["factor"])
    assert all(torch.equal(value, before[name]) for name, value in head.named_buffers())


# What the batches of an epoch give for the shared factor, written out by hand.
AVERAGES: dict[Average, Callable[[list[Tensor]], Tensor]] = {
    MeanOfFactors(): lambda codes: torch.stack([0.7 / code.std(0) for code in codes]).mean(0),
    FactorOfMeanSpread(): lambda codes: (
        0.7
        * sum(len(code) for code in codes)
        / torch.stack([len(code) * code.std(0) for code in codes]).sum(0)
    ),
}


@pytest.mark.parametrize("average", AVERAGES, ids=str)
@pytest.mark.parametrize(
    ("own", "own_epochs"),
    [
        (OwnEpochs(2), 2),
        (OwnUpdates(5), 2),  # four batches an epoch: the phase ends with the epoch
        (OwnUpdates(8), 2),
        (OwnUpdates(9), 3),
        (OwnUpdates(1), 1),
        (OwnUpdates(), 2),  # the recipe's seven
        (OwnThroughout(), 99),
    ],
    ids=str,
)
def test_scaling_follows_algorithm_1(average: Average, own: OwnPhase, own_epochs: int) -> None:
    """Written out with lists: epochs of 4 batches of several sizes."""
    head = transparent(Scaled(0.7, own, average), 4, 2)
    shared: Tensor | None = None
    for epoch in range(5):
        seen: list[Tensor] = []
        for batch in range(4):
            begin_update(head, Progress(4 * epoch + batch, 4, own_factors=7))
            code = (1.0 + epoch) * normal(3 + 2 * batch, 4, seed=10 * epoch + batch)
            seen.append(code[:, :2])
            q = head.train()(code)
            used = 0.7 / code[:, :2].std(0) if epoch < own_epochs else shared
            torch.testing.assert_close(q.factor, used)
            torch.testing.assert_close(q.mean, used * code[:, :2])
            # evaluation uses what the decoder is being trained with
            kept = AVERAGES[average](seen) if epoch < own_epochs else shared
            torch.testing.assert_close(head.eval()(code[:2]).factor, kept)
        shared = AVERAGES[average](seen)


def test_the_mean_spread_is_robust_where_the_mean_of_factors_is_not() -> None:
    """A remainder of two nearly equal sentences, and a first batch before any update."""
    usual = [normal(32, 2, seed=seed) for seed in range(20)]
    odd = [1e-5 * normal(32, 2, seed=98), 1e-3 * normal(2, 2, seed=99)]
    clean = 0.7 / torch.stack([code.std(0) for code in usual]).mean(0)
    found = {}
    for average in AVERAGES:
        head = transparent(Scaled(0.7, OwnEpochs(1), average), 4, 2)
        for code in [*odd, *usual]:
            head(torch.cat([code, code], dim=-1))
        found[average] = head.factor / clean  # type: ignore[operator]
    assert (found[MeanOfFactors()] > 1000.0).all()  # type: ignore[operator]
    assert (found[FactorOfMeanSpread()] < 1.06).all()  # type: ignore[operator]


@pytest.mark.parametrize("average", AVERAGES, ids=str)
def test_with_the_shared_factor_training_reports_the_spread_that_batches_have(
    average: Average,
) -> None:
    head = transparent(Scaled(0.7, OwnUpdates(1), average), 4, 2)
    epochs = [[normal(size, 4, seed=10 * epoch + size) for size in (9, 4)] for epoch in range(2)]
    told = []
    for step, code in enumerate(itertools.chain(*epochs)):
        begin_update(head, Progress(step, 2))
        head(code)
        told.append(head.report())  # type: ignore[operator, union-attr]
    first, later = told[1], told[3]
    assert first["own_factors"] == 1.0 and later["own_factors"] == 0.0
    assert first["batch_std"] == pytest.approx(0.7)
    factor = AVERAGES[average]([code[:, :2] for code in epochs[0]])
    spreads = [(factor * code[:, :2]).std(0) for code in epochs[1]]
    mean = (9 * spreads[0] + 4 * spreads[1]).mean() / 13
    assert later["batch_std"] == pytest.approx(mean.item())
    assert later["factor_mean"] == pytest.approx(factor.mean().item())
    assert later["factor_largest"] == pytest.approx(factor.max().item())


def test_the_gradient_goes_through_a_batchs_own_factor_and_not_through_an_average() -> None:
    code = normal(6, 2).requires_grad_()

    def slope(head: nn.Module, weight: Callable[[Tensor], Tensor]) -> Tensor:
        mean = code[:, :1]
        (wanted,) = torch.autograd.grad((weight(mean) * mean).pow(3).sum(), code)
        (found,) = torch.autograd.grad(head(code).mean.pow(3).sum(), code)
        torch.testing.assert_close(found, wanted)
        return found

    head = transparent(Scaled(0.7), 2, 1)
    own = slope(head, lambda mean: 0.7 / mean.std())
    # the scale of the means has no influence on what the decoder sees: nothing pulls along them
    assert (own * code)[:, 0].sum().abs() < 1e-12
    begin_update(head, Progress(1, 1))
    fixed = head.factor.item()  # type: ignore[operator]
    slope(head, lambda mean: mean.new_tensor(fixed))
    stopped = transparent(Scaled(0.7, gradient=OwnGradient.STOPPED), 2, 1)
    pulled = slope(stopped, lambda mean: (0.7 / mean.std()).detach())
    assert (pulled * code)[:, 0].sum().abs() > 0.1
    both = [transparent(Scaled(0.7, gradient=g), 2, 1)(code).mean for g in OwnGradient]
    assert torch.equal(*both)  # the same numbers, with other gradients


def test_a_reloaded_older_state_goes_on_from_its_own_averages() -> None:
    """The loop goes back to the best parameters while its count of updates goes on."""
    head = transparent(Scaled(0.7), 2, 1)
    head(normal(6, 2))
    best = copy.deepcopy(head.state_dict())
    for step in range(1, 4):
        begin_update(head, Progress(step, 1))
        head(5.0 * normal(6, 2, seed=step))
    head.load_state_dict(best)
    begin_update(head, Progress(4, 1))
    assert torch.equal(head(normal(6, 2)).factor, best["factor"])


# --- flow -----------------------------------------------------------------------------------------


def flowed(latent_dim: int, blocks: int, batch: int = 3, seed: int = 3) -> Flowed:
    head = built(Flow(blocks, 16), latent_dim, scale=0.8, seed=seed).eval()
    q = head(normal(batch, FEATURES, seed=seed))
    assert isinstance(q, Flowed)
    return q


def jacobian(q: Flowed, start: Tensor) -> Tensor:
    """dz^T / dz^0 of every draw and example, (S, B, D, D), by automatic differentiation."""
    start = start.detach().requires_grad_()
    image = q.push(start)
    # Draws and examples do not touch one another, so a sum over them has the rows of all.
    rows = [
        torch.autograd.grad(image[..., d].sum(), start, retain_graph=True)[0]
        for d in range(start.shape[-1])
    ]
    return torch.stack(rows, dim=-2)


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_log_determinant_and_structure_against_autograd(latent_dim: int, blocks: int) -> None:
    q = flowed(latent_dim, blocks)
    start = normal(4, 3, latent_dim, seed=1)
    image, log_scale = q._bijection(start, q._context)
    assert torch.equal(image, q.push(start))
    full = jacobian(q, start)
    torch.testing.assert_close(log_scale.sum(-1), torch.linalg.slogdet(full).logabsdet)
    if blocks == 1:  # triangular, and nothing of the triangle is missing
        assert (full.triu(1) == 0).all()
        assert (full.abs().amax((0, 1)).tril() > 0).sum() == latent_dim * (latent_dim + 1) // 2
        torch.testing.assert_close(full.diagonal(dim1=-2, dim2=-1).log(), log_scale)
    elif latent_dim > 1:  # the second block goes the other way: everything depends on everything
        assert (full.abs().amax((0, 1)) > 0).all()
    assert (log_scale < 0).all()  # sigmoid gates shrink


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_the_second_block_is_triangular_the_other_way(latent_dim: int) -> None:
    q = flowed(latent_dim, 2)
    second = q._bijection.blocks[1]  # type: ignore[attr-defined]
    start = normal(4, 3, latent_dim, seed=1)
    full = jacobian(Flowed(q.base, second, q._context), start)
    assert (full.tril(-1) == 0).all() and (full.diagonal(dim1=-2, dim2=-1) > 0).all()


@pytest.mark.parametrize("latent_dim", [1, 4])
@pytest.mark.parametrize("blocks", [1, 2])
def test_context_reaches_every_dimension(latent_dim: int, blocks: int) -> None:
    q = flowed(latent_dim, blocks)
    context = q._context.clone().requires_grad_()
    start = normal(2, 3, latent_dim, seed=1)
    image, log_scale = q._bijection(start, context)
    for d in range(latent_dim):
        for output in (image, log_scale):
            (slope,) = torch.autograd.grad(output[..., d].sum(), context, retain_graph=True)
            assert (slope.abs() > 0).all()


@pytest.mark.parametrize("latent_dim", [1, 2, 7])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_inverse_undoes_the_flow(latent_dim: int, blocks: int) -> None:
    q = flowed(latent_dim, blocks)
    start = 2.0 * normal(4, 3, latent_dim, seed=1)
    image, log_scale = q._bijection(start, q._context)
    found, again = q._bijection.inverse(image, q._context)
    torch.testing.assert_close(found, start, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(again, log_scale, rtol=1e-10, atol=1e-10)


def test_density_by_change_of_variables() -> None:
    q = flowed(3, 2)
    start = draw(q.base, (5,), generator(2))
    z = q.push(start)
    wanted = q.base.log_prob(start) - torch.linalg.slogdet(jacobian(q, start)).logabsdet
    torch.testing.assert_close(q.log_prob(z), wanted)
    torch.testing.assert_close(q.log_prob_per_dimension(z).sum(-1), wanted)
    # for one z of each example, and for one z that all examples share
    torch.testing.assert_close(q.log_prob(z[0]), wanted[0])
    shared = q.log_prob(z[:, :1])
    assert shared.shape == (5, 3)
    torch.testing.assert_close(shared[:, 0], wanted[:, 0])
    torch.testing.assert_close(shared[2, 1], q.log_prob(z[2, 0].expand(3, 3))[1])


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_density_integrates_to_one(latent_dim: int) -> None:
    q = flowed(latent_dim, 2, batch=2)
    axis = torch.linspace(-14.0, 14.0, 701, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * latent_dim).view(-1, 1, latent_dim)
    step = (axis[1] - axis[0]).item() ** latent_dim
    total = torch.exp(q.log_prob(grid.expand(-1, 2, -1))).sum(0) * step
    torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    # with more than one dimension it is no Gaussian: second derivatives of its logarithm vary
    z = draw(q, (2,), generator(1))
    bend = [torch.autograd.functional.hessian(lambda v: q.log_prob(v)[0], z[s]) for s in (0, 1)]
    same = torch.allclose(bend[0][0, :, 0], bend[1][0, :, 0], atol=1e-4)
    assert same == (latent_dim == 1)


def test_the_density_of_the_last_draw_is_remembered_and_right() -> None:
    q = flowed(4, 2)
    z = draw(q, (6,), generator(1))
    known = q.log_prob(z)
    assert known is not q.log_prob(z) and torch.equal(known, q.log_prob(z))
    computed = q.log_prob(z.clone())
    assert not torch.equal(known, computed)  # another way of computing, so not bit for bit
    torch.testing.assert_close(known, computed)
    older, z = z, draw(q, (6,), generator(2))
    torch.testing.assert_close(q.log_prob(older), computed)
    # written to since it was drawn
    with torch.no_grad():
        z += 0.1
    torch.testing.assert_close(q.log_prob(z), q.log_prob(z.clone()))
    with torch.inference_mode():
        z = draw(q, (2,), generator(3))
        torch.testing.assert_close(q.log_prob(z), q.log_prob(z.clone()))


def test_gradients_do_not_depend_on_what_is_remembered() -> None:
    head = built(Flow(width=8))
    q = head(normal(3, FEATURES))
    assert isinstance(q, Flowed)

    def slopes(value: Tensor) -> list[Tensor]:
        grads = torch.autograd.grad(value, list(head.parameters()), retain_graph=True)
        assert all(torch.isfinite(g).all() for g in grads)
        return list(grads)

    z = draw(q, (2,), generator(1))
    for known, computed in zip(
        slopes(q.log_prob(z).sum()), slopes(q.log_prob(z.clone()).sum()), strict=True
    ):
        torch.testing.assert_close(known, computed)
    # drawn without a gradient: its density must still have one
    fixed = q.sample((2,))
    for one, two in zip(
        slopes(q.log_prob(fixed).sum()), slopes(q.log_prob(z.detach()).sum()), strict=True
    ):
        assert one.abs().sum() > 0 and two.abs().sum() > 0
    score = slopes(q.log_prob(z.detach()).sum())
    assert not torch.allclose(score[0], slopes(q.log_prob(z).sum())[0])


def test_masked_weights_get_no_gradient() -> None:
    head = built(Flow(width=3))
    q = head(normal(3, FEATURES))
    draw(q, (2,), generator(1)).sum().backward()
    masked = [m for m in head.modules() if hasattr(m, "mask")]
    assert len(masked) == 6
    for layer in masked:
        missing = layer.weight.grad[layer.mask == 0]  # type: ignore[index, union-attr, operator]
        assert missing.numel() > 0 and (missing == 0).all()


def test_a_new_block_keeps_most_of_z() -> None:
    head = Flow(blocks=1).build(FEATURES, 3).double()
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if "gate" not in name:
                parameter.zero_()
    z = normal(2, 4, 3)
    image, log_gate = head.chain(z, normal(4, 6))  # type: ignore[operator]
    gate = 1.0 / (1.0 + math.exp(-2.0))
    torch.testing.assert_close(image, gate * z)
    torch.testing.assert_close(log_gate, torch.full_like(z, math.log(gate)))


def constant_flow(gates: Tensor, shifts: Tensor) -> FlowHead:
    """A flow whose block t gives example i, of one-hot features, these gates and shifts (T, N, D).

    All of it comes through the context: units of degree 0 carry the one-hot features.
    """
    blocks, points, dims = gates.shape
    head = Flow(blocks, 1, Diagonal()).build(points, dims).double()
    assert isinstance(head, FlowHead)
    head.context = nn.Identity()  # type: ignore[assignment]
    head.chain = _Chain(blocks, dims, points, points * dims).double()
    with torch.no_grad():
        for parameter in head.chain.parameters():
            parameter.zero_()
        for block, gate, shift in zip(head.chain.blocks, gates, shifts, strict=True):
            if block.backwards:
                gate, shift = gate.flip(-1), shift.flip(-1)
            made = block.made
            made.context.weight[:points] = torch.eye(points)
            made.second.weight[:points, :points] = torch.eye(points)
            made.last.weight[:, :points] = torch.cat([torch.logit(gate), shift], -1).T
    return head


@pytest.mark.parametrize("name", ["iaf_indep", "iaf_dep_kills_mpd"])
def test_flow_of_the_printed_cases(name: str) -> None:
    """Gates and shifts that do not depend on z leave a Gaussian, so all measures are known."""
    case = CASES[name]
    inputs, expected = case["inputs"], case["expected"]
    mean, logvar = tensor(inputs["mu0"]), tensor(inputs["logvar0"])
    gates, shifts = tensor(inputs["gates[t][i][d]"]), tensor(inputs["shifts[t][i][d]"])
    head = constant_flow(gates, shifts)
    one_hot = torch.eye(len(mean), dtype=torch.float64)
    with torch.no_grad():
        head.base.linear.weight.copy_(torch.cat([mean, logvar], -1).T)  # type: ignore[union-attr, operator]
    q = head(one_hot)
    end = q.push(mean)
    std = q.push(mean + torch.exp(0.5 * logvar)) - end
    codes = {"0": gaussian_code(q), "T": (end, 2.0 * torch.log(std))}
    for suffix, code in codes.items():
        assert code is not None
        for found, key in [
            (gaussian.conditional_entropy(code[1]), "ce"),
            (gaussian.mutual_posterior_divergence(*code), "mpd"),
            (gaussian.kl_to_standard_normal(*code).mean(), "kl"),
        ]:
            wanted = pytest.approx(expected[key + suffix], rel=case["rtol"], abs=1e-12)
            assert found.item() == wanted, key + suffix
    # the density is that of this Gaussian
    z = normal(5, len(mean), mean.shape[1], seed=4)
    torch.testing.assert_close(q.log_prob(z), DiagonalNormal(*codes["T"]).log_prob(z))


def test_a_flow_refuses_a_base_of_the_readers_own_that_is_not_gaussian() -> None:
    class Pointed:
        def build(self, features: int, latent_dim: int) -> nn.Module:
            return PointMass().build(features, latent_dim)

    head = Flow(base=Pointed()).build(FEATURES, 2)
    with pytest.raises(BadInput, match="diagonal Gaussian, given Delta"):
        head(torch.ones(3, FEATURES))


def test_hidden_units_of_every_degree_are_there_for_any_size() -> None:
    for latent_dim, hidden in itertools.product((1, 3, 8), (64, 67, 90)):
        chain = _Chain(1, latent_dim, FEATURES, hidden).double()
        q = Flowed(
            DiagonalNormal(*torch.zeros(2, 2, latent_dim).double()), chain, normal(2, FEATURES)
        )
        full = jacobian(q, normal(3, 2, latent_dim)).abs().amax((0, 1))
        assert ((full > 0) == torch.ones(latent_dim, latent_dim).tril().bool()).all()


@given(st.floats(1e-3, 0.9), st.integers(0, 5))
def test_smaller_means_cost_scale_vae_nothing_while_a_batch_has_its_own_factor(
    share: float, seed: int
) -> None:
    """What the decoder sees stays, and the KL falls: no means are small enough."""
    head: Any = built(Scaled(0.9, OwnEpochs(2)), seed=seed)
    features = normal(8, FEATURES, seed=seed)
    before = head.train()(features)
    with torch.no_grad():
        head.linear.weight[: len(head.linear.weight) // 2] *= share
    after = head(features)
    torch.testing.assert_close(after.mean, before.mean, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(after.variance, before.variance)
    spared = 0.5 * (1.0 - share**2) * before.unscaled.mean.square().sum(-1)
    kl = [
        gaussian.kl_to_standard_normal(q.unscaled.mean, q.unscaled.variance.log())
        for q in (before, after)
    ]
    torch.testing.assert_close(kl[0] - kl[1], spared, rtol=1e-6, atol=1e-9)
