"""Algorithm 1 in its parts, and the loop: decay, stopping, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from posterior_collapse.errors import BadInput
from posterior_collapse.networks import VAE, linear_vae, text_vae, uniform_
from posterior_collapse.objectives import ELBO, Constant, Progress, ScaledELBO, Terms
from posterior_collapse.posteriors import Diagonal, OwnEpochs, OwnThroughout, Scaled
from posterior_collapse.priors import ScaledStandardNormal, StandardNormal
from posterior_collapse.training import (
    Aggressive,
    DamagedCheckpoint,
    Joint,
    Optimisation,
    State,
    TrainingDiverged,
    Validation,
    load_state,
    new_state,
    save_state,
    train,
)
from posterior_collapse.training.loop import _OPTIMISERS
from posterior_collapse.training.steps import gradients, units


def small_model(seed: int = 0) -> VAE:
    model = text_vae(20, 6, 5, 2, 0.5, Diagonal(), StandardNormal())
    uniform_(model, torch.Generator().manual_seed(seed), (-0.3, 0.3), (-0.5, 0.5))
    return model


def sentences(count: int = 6, batch: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(3, 20, (batch, 7), generator=generator) for _ in range(count)]


PAPER = Optimisation()


def state_of(training: Joint | Aggressive, settings: Optimisation = PAPER) -> State:
    model = small_model()
    model.train()
    return new_state(model, ELBO(), training, settings, 6, seed=3)


def copies(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [p.detach().clone() for p in parameters]


class Watch:
    """A monitor that returns prepared values and remembers the moments it saw."""

    def __init__(self, losses: Sequence[float], information: Sequence[float] = ()) -> None:
        self.losses, self.information = list(losses), list(information)
        self.epoch = 0
        self.moments: list[tuple[str, int]] = []

    def validate(self, model: VAE) -> Validation:
        information = self.information[self.epoch] if self.information else 0.0
        self.epoch += 1
        return Validation(self.losses[self.epoch - 1], 0.0, information, 0.0, 0)

    def observe(self, moment: str, state: State) -> None:
        self.moments.append((moment, state.iteration))


def run(state: State, training: Joint | Aggressive, settings: Optimisation, watch: Watch) -> None:
    train(state, training, settings, sentences(), watch, lambda s: None, lambda s: None)


def test_gradients_are_clipped_jointly() -> None:
    batch = sentences()[0]
    free, tight = state_of(Joint()), state_of(Joint())
    free.clip_norm, tight.clip_norm = math.inf, 1e-3
    gradients(free, batch)
    gradients(tight, batch)
    whole = torch.cat([p.grad.flatten() for p in free.model.parameters()])  # type: ignore[union-attr]
    clipped = torch.cat([p.grad.flatten() for p in tight.model.parameters()])  # type: ignore[union-attr]
    assert clipped.norm() == pytest.approx(1e-3, rel=1e-3)
    # one factor for all: the direction of the joint gradient is kept
    torch.testing.assert_close(clipped, whole * (1e-3 / whole.norm()), rtol=1e-3, atol=1e-9)
    encoder = torch.cat([p.grad.flatten() for p in tight.model.inference_parameters()])  # type: ignore[union-attr]
    assert encoder.norm() < 1e-3  # so the encoder alone has less than the bound


def test_joint_step_is_plain_sgd_on_both_parts() -> None:
    state, twin = state_of(Joint()), state_of(Joint())
    batch = sentences()[0]
    gradients(twin, batch)
    wanted = [p - twin.learning_rate * p.grad for p in twin.model.parameters()]  # type: ignore[operator]
    Joint().update(state, batch, sentences(), lambda: None)
    for got, expected in zip(state.model.parameters(), wanted, strict=True):
        torch.testing.assert_close(got, expected)


def test_adam_is_torchs_and_keeps_what_torch_keeps() -> None:
    generator = torch.Generator().manual_seed(0)
    own = [torch.randn(shape, generator=generator).requires_grad_() for shape in ((7, 3), (33,))]
    other = [p.detach().clone().requires_grad_() for p in own]
    ours, torchs = _OPTIMISERS["adam"](own, lr=2e-3), torch.optim.Adam(other, 2e-3, fused=True)
    for k in range(9):
        for p, q in zip(own[: 1 + (k > 3)], other, strict=False):  # the second has none at first
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        ours.step()
        torchs.step()
    assert all(torch.equal(p, q) for p, q in zip(own, other, strict=True))
    kept, wanted = ours.state_dict()["state"], torchs.state_dict()["state"]
    assert kept.keys() == wanted.keys() == {0, 1}
    for index, entries in wanted.items():
        assert kept[index].keys() == entries.keys()
        assert all(torch.equal(kept[index][name], value) for name, value in entries.items())


def test_outer_step_moves_the_decoder_only_and_inner_steps_the_encoder_only() -> None:
    training = Aggressive(max_inner=3, window=3)
    state = state_of(training)
    phi = list(state.model.inference_parameters())
    theta = list(state.model.generative_parameters())
    theta_before = copies(theta)
    seen = []

    def inner_done() -> None:
        assert all(torch.equal(a, b) for a, b in zip(theta, theta_before, strict=True))
        seen.append(copies(phi))

    update = training.update(state, sentences()[0], sentences(), inner_done)
    assert update.inner_steps == 3
    assert all(torch.equal(a, b) for a, b in zip(phi, seen[0], strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(theta, theta_before, strict=True))


class Scripted:
    """An objective whose losses are prepared; it records which batches it was given."""

    def __init__(self, losses: Sequence[float]) -> None:
        self.losses, self.batches = list(losses), []

    def __call__(
        self, model: VAE, x: Tensor, progress: Progress, generator: torch.Generator | None
    ) -> Terms:
        self.batches.append(x)
        value = self.losses[min(len(self.batches), len(self.losses)) - 1]
        zero = sum(p.sum() * 0.0 for p in model.parameters())
        column = torch.full((len(x),), value)
        return Terms(zero + value, column, column * 0.0, 1.0)


def inner_steps(losses: Sequence[float], max_inner: int, window: int) -> tuple[int, Scripted]:
    training = Aggressive(max_inner, window)
    state = state_of(training)
    state.objective = objective = Scripted(losses)
    outer = sentences()[2]
    return training.inner_loop(state, outer, sentences()), objective


@pytest.mark.parametrize(
    ("losses", "max_inner", "window", "steps"),
    [
        ([5.0, 5.0, 4.0, 4.0, 4.5, 4.5, 1.0], 20, 2, 6),  # third window worse than the second
        ([5.0] * 40, 20, 4, 20),  # equal is not worse: goes on to the cap
        ([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0], 8, 2, 8),  # always better: the cap
        ([1.0, 1.0, 1.0, 1.1, 0.0], 99, 2, 4),  # stops at the first comparison that is worse
    ],
)
def test_inner_loop_stops_when_the_window_mean_gets_worse(
    losses: list[float], max_inner: int, window: int, steps: int
) -> None:
    assert inner_steps(losses, max_inner, window)[0] == steps


def test_inner_loop_compares_losses_per_word() -> None:
    # the second window holds shorter sentences: less loss a sentence, but more a word
    training = Aggressive(max_inner=4, window=1)
    state = state_of(training)
    long, short = torch.full((4, 11), 5), torch.full((4, 6), 5)
    state.objective = Scripted([10.0, 6.0, 1.0, 1.0])
    assert training.inner_loop(state, long, [short]) == 2
    assert units(long) == 40 and units(short) == 20 and units(torch.zeros(4, 3)) == 4


def test_first_inner_step_uses_the_outer_batch_and_the_others_random_ones() -> None:
    _, objective = inner_steps([5.0], 60, 60)
    assert torch.equal(objective.batches[0], sentences()[2])
    used = {tuple(x.flatten().tolist()) for x in objective.batches[1:]}
    assert used == {tuple(x.flatten().tolist()) for x in sentences()}


def test_mutual_information_stop_is_the_first_decrease_and_is_final() -> None:
    training = Aggressive(max_inner=2, window=1)
    settings = Optimisation(max_epochs=5, patience=99)
    state = state_of(training, settings)
    run(state, training, settings, Watch([5, 4, 3, 2, 1], [0.1, 0.5, 0.5, 0.4, 9.0]))
    assert [row["aggressive"] for row in state.history] == [True, True, True, True, False]
    assert [row["inner_steps"] > 0 for row in state.history] == [True, True, True, True, False]
    assert state.memory["aggressive"] is False


def test_moments_are_observed_in_order() -> None:
    training = Aggressive(max_inner=1, window=1)
    settings = Optimisation(max_epochs=1)
    state = state_of(training, settings)
    watch = Watch([1.0])
    run(state, training, settings, watch)
    assert watch.moments[:5] == [
        ("start", 0),
        ("inner", 0),
        ("update", 1),
        ("inner", 1),
        ("update", 2),
    ]


def test_learning_rate_halves_after_two_stale_epochs_and_the_best_is_reloaded() -> None:
    settings = Optimisation(max_epochs=4, learning_rate=0.5)
    state = state_of(Joint(), settings)
    weights = []
    watch = Watch([3.0, 4.0, 3.5, 9.0])
    batches = sentences()

    def keep(s: State) -> None:
        weights.append({k: v.clone() for k, v in s.model.state_dict().items()})

    train(state, Joint(), settings, batches, watch, lambda s: None, keep)
    assert [row["learning_rate"] for row in state.history] == [0.5, 0.5, 0.5, 0.25]
    assert state.decays == 1 and state.best_loss == 3.0
    for name, value in weights[0].items():  # after the decay: parameters of epoch 1
        assert torch.equal(weights[2][name], value)
    assert all(torch.equal(v, state.model.state_dict()[k]) for k, v in weights[0].items())


def test_training_ends_at_the_last_decay() -> None:
    settings = Optimisation(max_decays=2, patience=1, max_epochs=50)
    state = state_of(Joint(), settings)
    run(state, Joint(), settings, Watch([1.0, 2.0, 3.0, 2.0]))
    assert state.epoch == 3 and state.decays == 2


def test_after_a_decay_the_loss_at_that_decay_is_to_beat() -> None:
    settings = Optimisation(patience=1, max_epochs=5)
    state = state_of(Joint(), settings)
    run(state, Joint(), settings, Watch([1.0, 3.0, 2.5, 2.0, 2.1]))
    # 2.5 and 2.0 are worse than the best, 1.0, and better than 3.0, at which the rate was halved
    assert state.decays == 2 and state.best_loss == 1.0 and state.compared_loss == 2.1


def test_no_decay_before_its_update() -> None:
    settings = Optimisation(patience=1, max_epochs=4, first_decay_update=18)  # of 6 an epoch
    state = state_of(Joint(), settings)
    run(state, Joint(), settings, Watch([1.0, 2.0, 3.0, 3.0]))
    assert [row["learning_rate"] for row in state.history] == [1.0] * 3 + [0.5]


def test_epochs_of_a_phase_that_prepares_are_not_compared() -> None:
    """Scale-VAE's own factors for two epochs: no decay there, and nothing for the next to beat."""
    model = text_vae(20, 6, 5, 2, 0.5, Scaled(0.7, OwnEpochs(2)), ScaledStandardNormal())
    uniform_(model, torch.Generator().manual_seed(0), (-0.3, 0.3), (-0.5, 0.5))
    settings = Optimisation(max_epochs=5, patience=1, learning_rate=0.01)
    state = new_state(model.train(), ScaledELBO(), Joint(), settings, 6, seed=3)
    kept: list[int] = []

    def after_epoch(s: State) -> None:
        kept.append(int(s.best["posterior_head.epoch"]))

    watch = Watch([1.0, 2.0, 9.0, 8.0, 8.5])
    train(state, Joint(), settings, sentences(), watch, lambda s: None, after_epoch)
    assert kept == [0, 1, 2, 3, 3]
    assert [row["own_factors"] for row in state.history] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert state.decays == 1 and state.best_loss == 8.0
    whole = Scaled(0.7, OwnThroughout()).build(5, 2)
    assert Scaled(0.7).build(5, 2).prepares() and not whole.prepares()  # type: ignore[operator]


def test_every_epoch_sees_every_batch_once() -> None:
    settings = Optimisation(max_epochs=2)
    state = state_of(Joint(), settings)
    state.objective = objective = Scripted([1.0])
    run(state, Joint(), settings, Watch([2.0, 1.0]))
    first, second = objective.batches[:6], objective.batches[6:]
    everything = sorted(x.flatten().tolist() for x in sentences())
    assert sorted(x.flatten().tolist() for x in first) == everything
    assert sorted(x.flatten().tolist() for x in second) == everything
    assert not all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_divergence_is_an_error_and_no_silent_nan() -> None:
    state = state_of(Joint())
    with torch.no_grad():
        next(state.model.generative_parameters()).fill_(math.nan)
    with pytest.raises(TrainingDiverged, match="gradient norm"):
        gradients(state, sentences()[0])
    settings = Optimisation(max_epochs=1)
    with pytest.raises(TrainingDiverged, match="validation loss"):
        run(state_of(Joint()), Joint(), settings, Watch([math.nan]))


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_checkpoint_brings_everything_back(tmp_path: Path, optimiser: str) -> None:
    training = Aggressive(max_inner=4, window=2)
    settings = Optimisation(optimiser=optimiser, learning_rate=0.01, max_epochs=3)
    whole = state_of(training, settings)
    run(whole, training, settings, Watch([3, 2, 1], [1, 2, 3]))

    broken = state_of(training, settings)

    class Stop(Exception):
        pass

    def stop(s: State) -> None:
        if s.iteration == 8:  # in the middle of the second epoch
            save_state(s, tmp_path / "c.safetensors", {"note": torch.arange(3)})
            raise Stop

    watch = Watch([3, 2, 1], [1, 2, 3])
    with pytest.raises(Stop):
        train(broken, training, settings, sentences(), watch, stop, lambda s: None)
    resumed = state_of(training, settings)
    extra = load_state(resumed, tmp_path / "c.safetensors")
    assert extra["note"].tolist() == [0, 1, 2]
    run(resumed, training, settings, watch)
    assert resumed.history == whole.history
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_damaged_checkpoint_is_refused_and_the_state_untouched(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "c.safetensors"
    save_state(state_of(Joint()), path, {})
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[-20] ^= 1
    path.write_bytes({"flip": content, "cut": content[:-50], "empty": b""}[harm])
    state = state_of(Joint())
    before = copies(list(state.model.parameters()))
    with pytest.raises(DamagedCheckpoint):
        load_state(state, path)
    assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(BadInput, match='did you mean "adam"'):
        Optimisation(optimiser="adan")
    with pytest.raises(BadInput, match="window"):
        Aggressive(max_inner=3, window=5)


def test_linear_vae_training_lands_on_its_optimum() -> None:
    """Trained by the same loop, a linear VAE reaches the closed form of cases linvae_beta*."""
    from posterior_collapse.networks import linear_optimum

    generator = torch.Generator().manual_seed(0)
    eigenvalues = torch.tensor([4.0, 1.0, 0.2, 0.05], dtype=torch.float64)
    raw = torch.randn(512, 4, generator=generator, dtype=torch.float64)
    raw -= raw.mean(0)
    white = raw @ torch.linalg.inv(torch.linalg.cholesky(raw.T @ raw / len(raw)).T)
    data = white * eigenvalues.sqrt()
    for beta in (1.0, 0.5):
        model = linear_vae(4, 4, 0.25, StandardNormal()).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.uniform_(-0.3, 0.3, generator=generator)
        settings = Optimisation(
            "adam", 0.02, clip_norm=1e9, patience=25, max_decays=8, max_epochs=900
        )
        state = new_state(model, ELBO(Constant(beta)), Joint(), settings, 4, seed=0)

        class Exact(Watch):
            def validate(self, model: VAE, beta: float = beta) -> Validation:
                q = model.posterior(data)
                mean = model.decoder.mean(q.mean)  # type: ignore[union-attr, operator]
                weight = model.decoder.mean.weight  # type: ignore[union-attr]
                spread = (weight.square() * q.variance[0]).sum()  # type: ignore[operator, union-attr]
                rec = 0.5 * (((data - mean).square().sum(1) + spread) / 0.25).mean()
                kl = torch.distributions.kl_divergence(q, model.prior).mean()
                return Validation((rec + beta * kl).item(), kl.item(), None, None, 0)

        train(
            state,
            Joint(),
            settings,
            list(data.split(128)),
            Exact([]),
            lambda s: None,
            lambda s: None,
        )
        wanted = linear_optimum(eigenvalues, 0.25, beta)
        q = model.posterior(data)
        kl = torch.distributions.kl_divergence(q, model.prior).mean()
        assert kl.item() == pytest.approx(wanted.kl.sum().item(), abs=0.03)
        lengths = torch.linalg.eigvalsh(model.decoder.mean.weight @ model.decoder.mean.weight.T)  # type: ignore[union-attr, operator]
        torch.testing.assert_close(
            lengths.flip(0), wanted.weight_squared, rtol=0.02, atol=0.02, check_dtype=False
        )
