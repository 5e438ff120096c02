"""The four slots and the networks: objectives, schedules, posteriors, priors, methods, recipes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from posterior_collapse import methods, recipes
from posterior_collapse.errors import BadInput
from posterior_collapse.layers import Dropout, use_generator
from posterior_collapse.methods import entries, table
from posterior_collapse.networks import (
    VAE,
    TextNetwork,
    linear_optimum,
    linear_vae,
    text_vae,
    uniform_,
)
from posterior_collapse.networks.text import word_losses
from posterior_collapse.objectives import ELBO, Constant, Cyclical, Linear, Progress
from posterior_collapse.posteriors import Diagonal, DiagonalNormal, draw
from posterior_collapse.priors import StandardNormal
from posterior_collapse.training import Aggressive, Joint

NOW = Progress(0, 10)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_text(dropout: float = 0.0) -> VAE:
    model = text_vae(17, 5, 6, 2, dropout, Diagonal(), StandardNormal())
    uniform_(model, generator(), (-0.4, 0.4), (-0.6, 0.6))
    return model.double()


def sentences(batch: int = 3, length: int = 6) -> Tensor:
    return torch.randint(3, 17, (batch, length), generator=generator(1))


# --- posteriors and priors ------------------------------------------------------------------------


def test_diagonal_normal_agrees_with_torch() -> None:
    mean, logvar = torch.randn(2, 4, 3, generator=generator(), dtype=torch.float64)
    ours = DiagonalNormal(mean, logvar)
    theirs = Independent(Normal(mean, (0.5 * logvar).exp()), 1)
    z = torch.randn(5, 4, 3, generator=generator(2), dtype=torch.float64)
    torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z))
    other = DiagonalNormal(mean + 0.3, logvar - 0.2)
    wanted = kl_divergence(theirs.base_dist, other.base_dist).sum(-1)
    torch.testing.assert_close(kl_divergence(ours, other), wanted)
    prior = StandardNormal().build(3).double()()
    unit = Normal(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    wanted = kl_divergence(theirs.base_dist, unit).sum(-1)
    torch.testing.assert_close(kl_divergence(ours, prior), wanted)


@pytest.mark.parametrize("logvar", [-100.0, 60.0])
def test_extreme_log_variances_keep_a_finite_density_at_the_mean(logvar: float) -> None:
    q = DiagonalNormal(torch.zeros(1, 2), torch.full((1, 2), logvar))
    expected = -(logvar + math.log(2 * math.pi))
    assert q.log_prob(torch.zeros(1, 2)).item() == pytest.approx(expected, rel=1e-6)


def test_draw_uses_the_generator_alone() -> None:
    q = DiagonalNormal(torch.zeros(4, 3), torch.zeros(4, 3))
    covariance = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    full = MultivariateNormal(torch.zeros(4, 2), covariance)
    for distribution in (q, full):
        state = torch.random.get_rng_state()
        one = draw(distribution, (7,), generator(3))
        torch.manual_seed(99)
        two = draw(distribution, (7,), generator(3))
        assert torch.equal(one, two) and one.shape[:2] == (7, 4)
        torch.random.set_rng_state(state)
        draw(distribution, (7,), generator(3))
        assert torch.equal(torch.random.get_rng_state(), state)
    many = draw(full, (20000,), generator(4))[:, 0]
    torch.testing.assert_close(many.T.cov(), covariance, atol=0.06, rtol=0)


def test_draw_is_reparameterised() -> None:
    mean = torch.zeros(2, 2, requires_grad=True)
    draw(DiagonalNormal(mean, torch.zeros(2, 2)), (3,), generator()).sum().backward()
    assert torch.equal(mean.grad, torch.full((2, 2), 3.0))


# --- objectives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_elbo_value_and_gradient_against_an_independent_formula(beta: float) -> None:
    model, x = small_text(), sentences()
    terms = ELBO(Constant(beta))(model, x, NOW, generator(5))
    terms.loss.backward()
    found = [p.grad.clone() for p in model.parameters()]  # type: ignore[union-attr]
    model.zero_grad()

    features = model.encoder(x)
    mean, logvar = model.posterior_head.linear(features).chunk(2, -1)  # type: ignore[union-attr, operator]
    noise = torch.randn(1, 3, 2, generator=generator(5), dtype=torch.float64)
    z = mean + torch.exp(logvar / 2) * noise[0]
    reconstruction = -torch.stack([_slow_log_likelihood(model, x[i], z[i]) for i in range(3)])
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(-1)
    loss = (reconstruction + beta * kl).mean()
    loss.backward()
    torch.testing.assert_close(terms.loss, loss)
    torch.testing.assert_close(terms.kl, kl)
    for one, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)


def _slow_log_likelihood(model: VAE, x: Tensor, z: Tensor) -> Tensor:
    """log p(x|z) of one sentence, word by word, with the LSTM's equations written out."""
    decoder = model.decoder
    lstm: nn.LSTM = decoder.lstm  # type: ignore[union-attr, assignment]
    c = decoder.state.weight @ z  # type: ignore[union-attr, operator]
    h = torch.tanh(c)
    total = torch.zeros((), dtype=z.dtype)
    for t in range(len(x) - 1):
        word = torch.cat([decoder.embedding.weight[x[t]], z])  # type: ignore[union-attr, index]
        gates = lstm.weight_ih_l0 @ word + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0
        i, f, g, o = gates.chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        logits = decoder.words.weight @ h  # type: ignore[union-attr, operator]
        total = total + logits[x[t + 1]] - torch.logsumexp(logits, 0)
    return total


def test_log_likelihood_takes_samples_and_a_batch_of_one() -> None:
    model, x = small_text(), sentences(1)
    z = torch.randn(4, 1, 2, generator=generator(), dtype=torch.float64)
    found = model.log_likelihood(x, z)
    assert found.shape == (4, 1)
    for s in range(4):
        torch.testing.assert_close(found[s, 0], _slow_log_likelihood(model, x[0], z[s, 0]))


def test_likelihood_of_all_sentences_of_a_length_sums_to_one() -> None:
    model = text_vae(4, 3, 5, 1, 0.0, Diagonal(), StandardNormal())
    uniform_(model, generator(), (-1.0, 1.0), (-1.0, 1.0))
    model.double()
    words = torch.cartesian_prod(*[torch.arange(4)] * 3)  # every continuation of the first word
    x = torch.cat([torch.ones(64, 1, dtype=torch.int64), words], 1)
    z = torch.full((1, 64, 1), 0.7, dtype=torch.float64)
    assert model.log_likelihood(x, z).exp().sum().item() == pytest.approx(1.0, abs=1e-12)


@given(st.floats(0, 1), st.floats(0.5, 20), st.integers(0, 10_000))
def test_linear_schedule_is_monotone_and_ends_at_one(start: float, epochs: float, n: int) -> None:
    schedule = Linear(start, epochs)
    now, later = schedule(Progress(n, 7)), schedule(Progress(n + 1, 7))
    assert start <= now <= later <= 1.0
    assert schedule(Progress(math.ceil(7 * epochs), 7)) == pytest.approx(1.0)


def test_schedules_at_known_points() -> None:
    linear = Linear(0.1, 10)
    assert [linear(Progress(n, 5)) for n in (0, 25, 50, 99)] == pytest.approx([0.1, 0.55, 1, 1])
    cyclical = Cyclical(cycles=2, epochs=4, rise=0.5)
    at = [cyclical(Progress(n, 5)) for n in (0, 5, 10, 19, 20, 25, 40)]
    assert at == pytest.approx([0, 0.5, 1, 1, 0, 0.5, 1])


@pytest.mark.parametrize(
    "make",
    [lambda: Constant(-0.1), lambda: Linear(1.5), lambda: Linear(0.1, 0), lambda: Cyclical(0)],
)
def test_schedules_refuse_values_out_of_range(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput):
        make()


# --- networks -------------------------------------------------------------------------------------


def test_dropout_keeps_the_mean_and_follows_its_generator() -> None:
    layer = Dropout(0.3)
    ones = torch.ones(200_000)
    layer.generator = generator(1)
    dropped = layer(ones)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7], rel=2**-16)
    layer.generator = generator(1)
    assert torch.equal(layer(ones), dropped)
    assert layer.eval()(ones) is ones
    with pytest.raises(BadInput):
        Dropout(1.0)


def test_use_generator_reaches_every_dropout() -> None:
    model = small_text(0.5)
    source = generator()
    use_generator(model, source)
    layers = [m for m in model.modules() if isinstance(m, Dropout)]
    assert len(layers) == 2 and all(m.generator is source for m in layers)


def test_initialisation_has_the_papers_ranges() -> None:
    model = text_vae(500, 20, 30, 1, 0.5, Diagonal(), StandardNormal())
    uniform_(model, generator(), (0.04, 0.06), (0.0, 0.2))
    for name, parameter in model.named_parameters():
        low, high = (0.0, 0.2) if "embedding" in name else (0.04, 0.06)
        assert low <= parameter.min() and parameter.max() <= high, name
        assert parameter.std().item() == pytest.approx((high - low) / math.sqrt(12), rel=0.2)
    assert not any("bias" in n for n, _ in model.posterior_head.named_parameters())
    assert model.decoder.words.bias is None and model.decoder.state.bias is None  # type: ignore[union-attr]


def test_parameters_are_split_into_encoder_and_decoder_without_rest() -> None:
    for model in (small_text(), linear_vae(3, 2, 0.5, StandardNormal())):
        phi = [id(p) for p in model.inference_parameters()]
        theta = [id(p) for p in model.generative_parameters()]
        assert sorted(phi + theta) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize(
    ("beta", "weights", "kl", "variances"),
    [
        (1.0, [3.75, 0.75, 0, 0], [1.3862943611198906, 0.6931471805599453, 0, 0], [0.9375, 0.75]),
        (
            0.5,
            [3.875, 0.875, 0.075, 0],
            [1.7328679513998633, 1.0397207708399179, 0.2350018146228678, 0],
            [0.96875, 0.875, 0.375],
        ),
    ],
)
def test_linear_optimum_equals_the_cases(
    beta: float, weights: list[float], kl: list[float], variances: list[float]
) -> None:
    eigenvalues = torch.tensor([4.0, 1.0, 0.2, 0.05], dtype=torch.float64)
    found = linear_optimum(eigenvalues, 0.25, beta)
    assert found.weight_squared.tolist() == pytest.approx(weights, rel=1e-10)
    assert found.kl.tolist() == pytest.approx(kl, rel=1e-10)
    padded = [*variances, *[0.0] * (4 - len(variances))]
    assert found.variance_of_means.tolist() == pytest.approx(padded, rel=1e-10)
    assert found.active.tolist() == [value > 0 for value in weights]


# --- methods and recipes --------------------------------------------------------------------------


def test_methods_are_four_choices() -> None:
    assert methods.get("vae") == methods.Method()
    assert methods.get("lagging").training == Aggressive(99, 15)
    assert methods.get("lagging(window=10, max_inner=50)").training == Aggressive(50, 10)
    assert methods.get("anneal(epochs=5)").objective == ELBO(Linear(0.1, 5))
    for name in methods.names():
        entry = methods.describe(name)
        assert entry.paper and entry.equation and entry.title


def test_every_card_is_of_a_method() -> None:
    """A card without a function would be told nowhere; a function without a card cannot enter."""
    assert set(table._CARDS) == {name for name in methods.names() if not methods.describe(name).own}


def test_a_method_of_the_readers_own_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "_TABLE", dict(entries._TABLE))

    @methods.register("half-kl", "half the KL", "nobody", "(0)")
    def _half(weight: float = 0.5) -> methods.Method:
        return methods.Method(objective=ELBO(Constant(weight)), training=Joint())

    assert methods.get("half-kl(weight=0.25)").objective == ELBO(Constant(0.25))
    with pytest.raises(BadInput, match="already"):
        methods.register("half-kl", "", "", "")(lambda: methods.Method())


def test_every_recipe_has_a_smoke_scale_and_paper_constants() -> None:
    for name in recipes.names():
        assert recipes.scales(name)[0] == "smoke"
    paper = recipes.get("lagging-synthetic", "paper")
    settings = paper.optimisation
    assert (paper.train, paper.valid, paper.test) == (16000, 2000, 2000)
    network = paper.network
    assert isinstance(network, TextNetwork)
    assert (network.embedding, network.hidden, network.dropout) == (50, 50, 0.5)
    assert (paper.latent_dim, paper.batch_size) == (1, 16)
    assert (settings.learning_rate, settings.clip_norm, settings.decay) == (1.0, 5.0, 0.5)
    assert (settings.patience, settings.max_decays, settings.max_epochs) == (2, 5, 50)
    assert {0, 200, 1000, 2000, 10000} <= set(paper.grid_every)
    with pytest.raises(BadInput, match='did you mean "text-yahoo"'):
        recipes.get("text-yaho", "quick")


@pytest.mark.parametrize("scale", [0.1, 30.0, 4000.0])
@pytest.mark.parametrize("rows", [1, 7, 600])
def test_word_losses_without_gradients_equal_those_with(rows: int, scale: float) -> None:
    """In float64, with logits that overflow an exponential, and rows that do not fill a part."""
    source = generator()
    outputs = torch.randn(rows, 5, generator=source, dtype=torch.float64)
    weight = scale * torch.randn(1003, 5, generator=source, dtype=torch.float64)
    wanted = torch.randint(1003, (rows,), generator=source)
    with_gradients = word_losses(outputs.requires_grad_(), weight, wanted)
    with torch.no_grad():
        without = word_losses(outputs, weight, wanted)
        exact = -torch.log_softmax(outputs @ weight.T, -1)[torch.arange(rows), wanted]
    torch.testing.assert_close(without, with_gradients.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(without, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [0.1, 30.0, 4000.0])
def test_gradients_of_word_losses_are_those_of_a_log_softmax(scale: float) -> None:
    """Both gradients, in float64, also where exponentials of logits would overflow."""
    source = generator()
    outputs = torch.randn(40, 5, generator=source, dtype=torch.float64, requires_grad=True)
    weight = scale * torch.randn(103, 5, generator=source, dtype=torch.float64)
    weight.requires_grad_()
    wanted = torch.randint(103, (40,), generator=source)
    slope = torch.randn(40, generator=source, dtype=torch.float64)
    exact = -torch.log_softmax(outputs @ weight.T, -1)[torch.arange(40), wanted]
    one = torch.autograd.grad(word_losses(outputs, weight, wanted), (outputs, weight), slope)
    other = torch.autograd.grad(exact, (outputs, weight), slope)
    for found, expected in zip(one, other, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11 * scale)


def test_word_losses_can_be_differentiated_twice() -> None:
    """As semi-amortised inference asks for; against finite differences."""
    source = generator()
    outputs = torch.randn(6, 3, generator=source, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, 3, generator=source, dtype=torch.float64, requires_grad=True)
    wanted = torch.randint(9, (6,), generator=source)

    def losses(outputs: Tensor, weight: Tensor) -> Tensor:
        return word_losses(outputs, weight, wanted)

    assert torch.autograd.gradcheck(losses, (outputs, weight))
    assert torch.autograd.gradgradcheck(losses, (outputs, weight))


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 10**6))
def test_gradients_of_word_losses_in_float32_are_finite_and_close(scale: float, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    outputs = (torch.rand(300, 8, generator=source) * 2 - 1).requires_grad_()
    weight = (scale * torch.randn(1200, 8, generator=source)).requires_grad_()
    wanted = torch.randint(1200, (300,), generator=source)
    found = torch.autograd.grad(word_losses(outputs, weight, wanted).sum(), (outputs, weight))
    wide = [x.detach().double().requires_grad_() for x in (outputs, weight)]
    exact = -torch.log_softmax(wide[0] @ wide[1].T, -1)[torch.arange(300), wanted]
    for one, other in zip(found, torch.autograd.grad(exact.sum(), wide), strict=True):
        assert torch.isfinite(one).all()
        # Logits of float32 are off by 1e-7 of their size, and their exponentials by that much.
        bound = 1e-5 * max(1.0, scale) * float(other.abs().max())
        torch.testing.assert_close(one.double(), other, rtol=0.0, atol=bound)


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 10**6))
def test_word_losses_in_float32_are_as_good_as_a_log_softmax(scale: float, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    outputs = torch.rand(300, 8, generator=source) * 2 - 1
    weight = scale * torch.randn(1200, 8, generator=source)
    wanted = torch.randint(1200, (300,), generator=source)
    with torch.no_grad():
        found = word_losses(outputs, weight, wanted)
    logits = (outputs @ weight.T).double()
    exact = -torch.log_softmax(logits, -1)[torch.arange(300), wanted]
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5 * max(1.0, scale))
