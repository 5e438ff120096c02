"""Semi-amortised training: the refinement, its gradient, and the model that it leaves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from posterior_collapse.errors import BadInput
from posterior_collapse.layers import use_generator
from posterior_collapse.networks import VAE, linear_vae, text_vae, uniform_
from posterior_collapse.objectives import ELBO, Constant, FreeBits, Objective
from posterior_collapse.posteriors import Diagonal, DiagonalNormal, Flow
from posterior_collapse.priors import GaussianMixture, StandardNormal
from posterior_collapse.training import Optimisation, State, TrainingDiverged, new_state
from posterior_collapse.training.semi_amortised import (
    Refined,
    SemiAmortised,
    _Noise,
    _Problem,
    _start,
)

FREE = Optimisation(clip_norm=math.inf)
FEATURES, LATENT, NOISE = 4, 2, 0.5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(seed: int = 0) -> VAE:
    """A linear VAE whose encoder is far from its decoder's posterior."""
    model = linear_vae(FEATURES, LATENT, NOISE, StandardNormal()).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.8, generator=generator(seed))
    return model


def data(batch: int = 5) -> Tensor:
    return torch.randn(batch, FEATURES, generator=generator(1), dtype=torch.float64)


def text(prior: StandardNormal | GaussianMixture | None = None) -> VAE:
    chosen = StandardNormal() if prior is None else prior
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = text_vae(12, 4, 5, LATENT, 0.3, Diagonal(), chosen)
    uniform_(model, generator(), (-0.6, 0.6), (-0.8, 0.8))
    return model.double()


def sentences() -> Tensor:
    return torch.randint(0, 12, (3, 5), generator=generator(2))


def exact_elbo(model: VAE, x: Tensor, q: DiagonalNormal) -> Tensor:
    """Of a linear VAE, without sampling, nats, (B,)."""
    shown = model.decoder.mean
    weight, bias = shown.weight, shown.bias  # type: ignore[union-attr]
    error = (x - q.mean @ weight.T - bias).square().sum(-1)  # type: ignore[operator, union-attr]
    spread = q.variance @ weight.square().sum(0)  # type: ignore[operator, union-attr]
    constant = FEATURES * math.log(2 * math.pi * NOISE)
    kl = 0.5 * (q.mean.square() + q.variance - 1 - q.logvar).sum(-1)
    return -0.5 * ((error + spread) / NOISE + constant) - kl


def best(model: VAE, x: Tensor) -> DiagonalNormal:
    """The diagonal Gaussian nearest to the exact posterior of a linear VAE."""
    weight, bias = model.decoder.mean.weight, model.decoder.mean.bias  # type: ignore[union-attr]
    precision = torch.eye(LATENT) + weight.T @ weight / NOISE  # type: ignore[operator, union-attr]
    mean = torch.linalg.solve(precision, weight.T @ (x - bias).T / NOISE).T  # type: ignore[operator, union-attr]
    return DiagonalNormal(mean, -precision.diagonal().log().expand_as(mean))


def state_of(model: VAE, training: SemiAmortised, objective: Objective = ELBO()) -> State:  # noqa: B008
    return new_state(model, objective, training, FREE, 4, seed=3)


# --- the refinement -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_refinement_never_ends_with_a_worse_elbo(seed: int) -> None:
    model, x = linear(seed), data(64)
    before = exact_elbo(model, x, model.posterior(x))  # type: ignore[arg-type]
    settings = SemiAmortised(keeps="better")
    after = exact_elbo(model, x, Refined(model, settings).posterior(x))
    assert (after >= before - 1e-3).all()
    assert (after - before).mean() > 0.5  # it is a bad encoder


@pytest.mark.parametrize("rate", [1.0, 8.0])
def test_under_common_noise_no_example_ends_worse_however_wild_the_steps(rate: float) -> None:
    model, x = linear(), data(200)
    settings = SemiAmortised(steps=8, rate=rate, keeps="better")
    optimum = best(model, x)
    # Half of the examples start where nothing can be gained but by luck.
    start = torch.stack([optimum.mean, optimum.logvar]).detach()
    start[:, ::2] += torch.randn(start[:, ::2].shape, generator=generator(4), dtype=torch.float64)
    problem = _Problem(model, x, 1.0, None)
    noise = _Noise.drawn(settings.steps, start, len(x), generator(5))
    path = settings.refine(problem, start, noise)
    with torch.no_grad():
        gain = problem(start, noise.judges) - problem(path.chosen, noise.judges)
    assert (gain >= 0).all()
    assert ((gain > 0) == path.better[:, 0]).all()
    assert 0 < path.better.sum() < len(x)


def test_the_end_of_the_path_is_taken_however_bad_it_is() -> None:
    """As in the paper's algorithm and its public code, and where all its steps lead."""
    model, x = linear(), data(50)
    optimum = best(model, x)
    start = torch.stack([optimum.mean, optimum.logvar]).detach()
    problem = _Problem(model, x, 1.0, None)
    noise = _Noise.drawn(4, start, len(x), generator(5))
    settings = SemiAmortised(steps=4, rate=8.0)
    path = settings.refine(problem, start, noise)
    point, velocity = start, torch.zeros_like(start)
    for drawn in noise.steps:
        held = point.clone().requires_grad_()
        ends = settings.step(problem, held, velocity, drawn, create_graph=False)
        point, velocity = (value.detach() for value in ends)
    assert torch.equal(path.chosen, point)
    with torch.no_grad():
        assert (problem(point, noise.judges) > problem(start, noise.judges)).any()


def test_many_small_steps_approach_the_best_gaussian() -> None:
    model, x = linear(), data(16)
    settings = SemiAmortised(steps=1500, rate=0.2)
    found = Refined(model, settings).posterior(x)
    wanted = best(model, x)
    gap = exact_elbo(model, x, wanted) - exact_elbo(model, x, found)
    assert (gap >= 0).all() and gap.max() < 0.05
    start = exact_elbo(model, x, wanted) - exact_elbo(model, x, model.posterior(x))  # type: ignore[arg-type]
    assert start.mean() > 2.0


def test_a_step_is_the_papers() -> None:
    model, x = linear(), data()
    settings = SemiAmortised(rate=0.7, momentum=0.5, clip=0.8)
    noise = torch.randn(1, len(x), LATENT, generator=generator(6), dtype=torch.float64)
    point = torch.randn(2, len(x), LATENT, generator=generator(7), dtype=torch.float64)
    velocity = 0.1 * torch.ones_like(point)
    mean, logvar = point.clone().requires_grad_()
    z = mean + torch.exp(logvar / 2) * noise[0]
    loss = -model.log_likelihood(x, z[None])[0]
    loss = loss + 0.3 * 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(-1)
    slopes = torch.autograd.grad(loss.sum(), (mean, logvar))
    problem = _Problem(model, x, 0.3, None)
    held = point.clone().requires_grad_()
    found, speed = settings.step(problem, held, velocity, noise, create_graph=False)
    longest = 0.8 * math.sqrt(32.0)
    clipped = 0
    for kind, slope in enumerate(slopes):
        for i, own in enumerate(slope):
            share = min(1.0, longest / own.norm().item())
            clipped += share < 1.0
            wanted = 0.05 - share * own / 32
            torch.testing.assert_close(speed[kind, i], wanted)
            torch.testing.assert_close(found[kind, i], point[kind, i] + 0.7 * wanted)
    assert 0 < clipped < 2 * len(x)


# --- its gradient ---------------------------------------------------------------------------------


def loss_along(
    state: State, x: Tensor, training: SemiAmortised, moved: list[Tensor], step: float
) -> float:
    """Loss after a move of the parameters, with the noise of the first call."""
    parameters = list(state.model.parameters())
    with torch.no_grad():
        for parameter, direction in zip(parameters, moved, strict=True):
            parameter.add_(direction, alpha=step)
    state.noise.manual_seed(11)
    loss = training.gradients(state, x).loss.item()
    with torch.no_grad():
        for parameter, direction in zip(parameters, moved, strict=True):
            parameter.sub_(direction, alpha=step)
    return loss


@pytest.mark.parametrize(
    ("model", "x", "objective"),
    [
        (linear(), data(), ELBO()),
        (text().train(), sentences(), ELBO(Constant(0.4))),
        (text(GaussianMixture(2)).train(), sentences(), ELBO()),
        (linear(), data(), FreeBits(0.5)),
    ],
    ids=["linear", "text", "mixture", "free bits"],
)
def test_gradients_through_the_steps_equal_finite_differences(
    model: VAE, x: Tensor, objective: Objective
) -> None:
    training = SemiAmortised(steps=4, rate=6.0, clip=1.0)
    state = state_of(model, training, objective)
    use_generator(model, state.noise)  # so the dropout masks must be drawn again, too
    state.noise.manual_seed(11)
    training.gradients(state, x)
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
    encoder = {id(p) for p in model.inference_parameters()}
    for part in ("encoder", "decoder"):
        moved = [
            torch.randn(p.shape, generator=generator(8), dtype=p.dtype)
            * float((id(p) in encoder) == (part == "encoder"))
            for p in model.parameters()
        ]
        slope = sum((g * d).sum().item() for g, d in zip(found, moved, strict=True))
        h = 1e-5
        up, down = (loss_along(state, x, training, moved, sign * h) for sign in (1, -1))
        assert slope == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-7), part
        assert abs(slope) > 1e-4


def test_going_back_step_by_step_equals_one_graph_through_all_steps() -> None:
    model, x = linear(), data()
    settings = SemiAmortised(steps=6, rate=4.0)
    problem = _Problem(model, x, 1.0, None)
    start = _start(model, x).detach()
    noise = _Noise.drawn(settings.steps, start, len(x), generator(5))
    path = settings.refine(problem, start, noise)
    path = path._replace(better=torch.tensor([[True], [True], [False], [True], [True]]))
    weights = torch.randn(start.shape, generator=generator(9), dtype=torch.float64)
    decoder = list(model.decoder.parameters())
    model.zero_grad()
    found = settings.pull_back(problem, path, weights)
    stepwise = [p.grad.clone() for p in decoder]  # type: ignore[union-attr]

    leaf = start.clone().requires_grad_()
    point, velocity = leaf.clone(), torch.zeros_like(leaf)
    for drawn in noise.steps:
        point, velocity = settings.step(problem, point, velocity, drawn, create_graph=True)
    chosen = torch.where(path.better, point, leaf)
    whole = torch.autograd.grad((weights * chosen).sum(), [leaf, *decoder])
    torch.testing.assert_close(found, whole[0])
    for one, two in zip(stepwise, whole[1:], strict=True):
        torch.testing.assert_close(one, two)
    torch.testing.assert_close(found[:, 2], weights[:, 2])


def test_single_precision_has_the_second_derivatives_too() -> None:
    # torch has other LSTM kernels for float32 than for float64
    settings, x = SemiAmortised(steps=3, rate=6.0), sentences()
    found = []
    for dtype in (torch.float64, torch.float32):
        model = text().to(dtype).eval()
        start = _start(model, x).detach()
        drawn = _Noise.drawn(3, start.double(), len(x), generator(5))
        noise = _Noise(drawn.steps.to(dtype), drawn.judges.to(dtype))
        problem = _Problem(model, x, 1.0, None)
        path = settings.refine(problem, start, noise)
        path = path._replace(better=torch.ones_like(path.better))
        found.append(settings.pull_back(problem, path, torch.ones_like(start)))
        found += [p.grad for p in model.decoder.parameters()]  # type: ignore[arg-type]
    half = len(found) // 2
    for double, single in zip(found[:half], found[half:], strict=True):
        torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-5)


def test_training_brings_the_loss_down_and_leaves_the_clip_norm() -> None:
    model, x = linear(), data(32)
    training = SemiAmortised(steps=3)
    settings = Optimisation("adam", 0.02, clip_norm=0.1)
    state = new_state(model, ELBO(), training, settings, 1, seed=0)
    first = training.update(state, x, [x], lambda: None)
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()  # type: ignore[union-attr]
    assert norm.item() == pytest.approx(0.1, rel=1e-4)
    assert first.inner_steps == 0 and training.start() == {}
    for _ in range(60):
        last = training.update(state, x, [x], lambda: None)
    assert last.terms.loss.item() < first.terms.loss.item() - 1.0


def test_divergence_is_an_error() -> None:
    model = linear()
    with torch.no_grad():
        next(model.generative_parameters()).fill_(math.nan)
    state = state_of(model, SemiAmortised(steps=2))
    with pytest.raises(TrainingDiverged, match="refinement"):
        SemiAmortised(steps=2).gradients(state, data())


# --- the model that is measured -------------------------------------------------------------------


def test_the_refined_posterior_is_a_function_of_the_example_alone() -> None:
    model, x = text().eval(), sentences()
    refined = SemiAmortised(steps=5, rate=8.0).evaluated(model)
    assert isinstance(refined, Refined) and not refined.training
    with torch.no_grad():
        all_at_once = refined.posterior(x)
        again = refined.posterior(x)
    one_by_one = [refined.posterior(x[i : i + 1]) for i in range(len(x))]
    assert torch.equal(all_at_once.mean, again.mean)
    torch.testing.assert_close(all_at_once.mean, torch.cat([q.mean for q in one_by_one]))
    torch.testing.assert_close(all_at_once.logvar, torch.cat([q.logvar for q in one_by_one]))
    assert not torch.equal(all_at_once.mean, model.posterior(x).mean)
    assert all_at_once.batch_shape == (3,) and all_at_once.event_shape == (LATENT,)


def test_measuring_leaves_the_model_and_all_randomness_alone() -> None:
    model, x = text().eval(), sentences()
    source = generator(3)
    use_generator(model, source)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    states = source.get_state(), torch.random.get_rng_state()
    refined = SemiAmortised(steps=2).evaluated(model)
    z = refined.posterior(x).mean.unsqueeze(0)  # type: ignore[operator]
    torch.testing.assert_close(refined.log_likelihood(x, z), model.log_likelihood(x, z))  # type: ignore[operator]
    assert refined.prior.event_shape == (LATENT,)  # type: ignore[union-attr]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and not z.requires_grad
    assert torch.equal(states[0], source.get_state())
    assert torch.equal(states[1], torch.random.get_rng_state())
    refined.train()
    assert model.training  # one switch for both


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SemiAmortised(0), "steps"),
        (lambda: SemiAmortised(2.5), "steps"),  # type: ignore[arg-type]
        (lambda: SemiAmortised(rate=0.0), "rate"),
        (lambda: SemiAmortised(momentum=1.0), r"\[0, 1\)"),
        (lambda: SemiAmortised(clip=-1.0), "clip"),
        (lambda: SemiAmortised(keeps="ende"), 'did you mean "end"'),
    ],
)
def test_settings_out_of_range_are_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match=message):
        make()


def test_only_a_diagonal_gaussian_can_be_refined() -> None:
    model = text_vae(12, 4, 5, LATENT, 0.0, Flow(width=3), StandardNormal())
    with pytest.raises(BadInput, match="Flowed"):
        Refined(model, SemiAmortised()).posterior(sentences())
