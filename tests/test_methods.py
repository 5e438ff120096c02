"""The table of methods: names, ranges, joining; and what every method of it must do."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from posterior_collapse import methods
from posterior_collapse.errors import BadInput
from posterior_collapse.layers import begin_update, prepares
from posterior_collapse.methods import Method
from posterior_collapse.networks import VAE, ImageNetwork, Latent, Network, TextNetwork, build_vae
from posterior_collapse.objectives import (
    ELBO,
    AutoGen,
    Constant,
    Cyclical,
    FreeBits,
    ImportanceWeighted,
    Linear,
    MutualPosterior,
    Progress,
    TargetKL,
    TargetKLPerSentence,
)
from posterior_collapse.posteriors import (
    BatchNormed,
    DiversityUncertainty,
    Flow,
    Isotropic,
    MeanOfFactors,
    OwnEpochs,
    OwnGradient,
    OwnThroughout,
    OwnUpdates,
    Scaled,
    Spread,
)
from posterior_collapse.priors import GaussianMixture, Mixing
from posterior_collapse.training import (
    Aggressive,
    Joint,
    Optimisation,
    State,
    Validation,
    load_state,
    new_state,
    save_state,
    train,
)
from posterior_collapse.training.semi_amortised import Refined, SemiAmortised

# Fewer inner steps than the defaults, so that tests are quick; all else is the table's.
QUICK = {
    "lagging": "lagging(max_inner=4, window=2)",
    "lagging-fixed": "lagging-fixed(steps=2)",
    "sa-vae": "sa-vae(steps=3)",
}
EVERY = [QUICK.get(name, name) for name in methods.names()]
JOINED = [
    "lagging(max_inner=4, window=2)+anneal",
    "igp+iwae(k=5)",
    "bn-vae(gamma=0.6)+anneal",
    "sa-vae(steps=2)+anneal(epochs=4)",
    "skip-vae+mog+autogen(m=2, anneal=2)",
]
TOLD = ("title", "paper", "equation", "changes", "formula", "cost", "promise")

SETTINGS = Optimisation("adam", 0.01, max_epochs=10, patience=99)
BATCH = 8


class Kind(NamedTuple):
    """A tiny set-up: networks, and three batches of data with some structure."""

    network: Network
    size: int
    batches: list[Tensor]


def _kinds() -> dict[str, Kind]:
    source = torch.Generator().manual_seed(0)
    first = torch.randint(3, 12, (3, BATCH, 1), generator=source)
    sentences = (first + torch.arange(6)) % 12  # each word follows from the one before
    draws = torch.rand(3, BATCH, 9, generator=source)
    images = (draws < torch.linspace(0.05, 0.95, 9)).float()
    text = TextNetwork(5, 8, 0.2, (-0.2, 0.2), (-0.4, 0.4))
    return {
        "text": Kind(text, 12, list(sentences)),
        "images": Kind(ImageNetwork((10,)), 9, list(images)),
    }


KINDS = _kinds()


def built(choices: Method, kind: Kind) -> VAE:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = build_vae(
            kind.network, kind.size, 3, choices.posterior, choices.prior, choices.latent
        )
    kind.network.initialise(model, torch.Generator().manual_seed(5))
    return model


def started(name: str, kind: Kind) -> tuple[State, Method]:
    choices = methods.get(name)
    model = built(choices, kind).train()
    return new_state(model, choices.objective, choices.training, SETTINGS, 3, seed=7), choices


class Watch:
    """Validates with the method's own objective as it is at the end of training."""

    def __init__(self, choices: Method, kind: Kind) -> None:
        self.choices, self.kind = choices, kind
        self.losses: list[float] = []

    def validate(self, model: nn.Module) -> Validation:
        was_training = model.training
        model.eval()
        now, source = Progress(30, 3), torch.Generator().manual_seed(1)
        with torch.no_grad():
            losses = [
                self.choices.objective(model, x, now, source).loss  # type: ignore[arg-type]
                for x in self.kind.batches
            ]
        model.train(was_training)
        self.losses.append(torch.stack(losses).mean().item())
        return Validation(self.losses[-1], None, float(len(self.losses)), None, 0)

    def observe(self, moment: str, state: State) -> None:
        pass


def update(state: State, choices: Method, batches: list[Tensor], count: int) -> list[float]:
    """So many updates without the loop; gives their losses."""
    losses = []
    for _ in range(count):
        batch = batches[state.iteration % len(batches)]
        begin_update(state.model, state.progress)
        losses.append(choices.training.update(state, batch, batches, lambda: None).terms.loss)
        state.iteration += 1
    return torch.stack(losses).tolist()


both = pytest.mark.parametrize("kind", list(KINDS))
every = pytest.mark.parametrize("name", EVERY)


# --- the contract ---------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("name", [*EVERY, *JOINED])
def test_training_brings_the_loss_down_and_the_model_keeps_the_contract(
    name: str, kind: str
) -> None:
    state, choices = started(name, KINDS[kind])
    watch = Watch(choices, KINDS[kind])
    begin_update(state.model, state.progress)
    with torch.no_grad():
        state.model.posterior(KINDS[kind].batches[0])  # running statistics have seen a batch
    before = watch.validate(choices.training.evaluated(state.model)).loss
    train(
        state,
        choices.training,
        SETTINGS,
        KINDS[kind].batches,
        watch,
        lambda s: None,
        lambda s: None,
    )
    assert all(math.isfinite(loss) for loss in watch.losses)
    assert all(math.isfinite(row["train_kl"]) for row in state.history)
    assert min(watch.losses) < before - 0.01
    # While a method prepares for a later phase its epochs are not compared, and the last is kept.
    assert state.best_loss == (math.inf if prepares(state.model) else min(watch.losses[1:]))

    dim = 0 if choices.latent is Latent.NONE else 3
    x = KINDS[kind].batches[0]
    model = choices.training.evaluated(state.model)
    q = model.posterior(x)  # type: ignore[operator]
    assert q.batch_shape == (BATCH,) and q.event_shape == (dim,)
    assert q.mean.shape == (BATCH, dim)
    z = q.mean.detach().expand(4, BATCH, dim)
    likelihood = model.log_likelihood(x, z)  # type: ignore[operator]
    assert likelihood.shape == (4, BATCH) and torch.isfinite(likelihood).all()
    assert model.prior.event_shape == (dim,) and model.prior.batch_shape == ()  # type: ignore[union-attr]
    assert model.prior.log_prob(z).shape == (4, BATCH)  # type: ignore[operator, union-attr]


@both
@every
def test_evaluation_changes_nothing(name: str, kind: str) -> None:
    state, choices = started(name, KINDS[kind])
    update(state, choices, KINDS[kind].batches, 2)
    before = {k: v.clone() for k, v in state.model.state_dict().items()}
    randomness = state.noise.get_state(), torch.random.get_rng_state()
    model = choices.training.evaluated(state.model.eval())
    x = KINDS[kind].batches[1]
    one, two = model.posterior(x), model.posterior(x)  # type: ignore[operator]
    assert torch.equal(one.mean, two.mean)
    model.log_likelihood(x, one.mean.unsqueeze(0))  # type: ignore[operator]
    model.prior.log_prob(one.mean)  # type: ignore[operator, union-attr]
    after = state.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], v) for k, v in after.items())
    assert torch.equal(randomness[0], state.noise.get_state())
    assert torch.equal(randomness[1], torch.random.get_rng_state())


@both
@every
def test_a_checkpoint_goes_on_as_if_nothing_had_been(name: str, kind: str, tmp_path: Path) -> None:
    batches = KINDS[kind].batches
    whole, choices = started(name, KINDS[kind])
    losses = update(whole, choices, batches, 5)
    torch.manual_seed(99)  # nothing may hang on the global random state
    broken, _ = started(name, KINDS[kind])
    assert update(broken, choices, batches, 2) == losses[:2]
    save_state(broken, tmp_path / "state", {})
    resumed, _ = started(name, KINDS[kind])
    load_state(resumed, tmp_path / "state")
    for key, value in broken.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key
    assert update(resumed, choices, batches, 3) == losses[2:]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key


@both
@every
def test_a_batch_of_one_trains(name: str, kind: str) -> None:
    state, choices = started(name, KINDS[kind])
    x = KINDS[kind].batches[0][:1]
    losses = update(state, choices, [x], 3)
    assert all(math.isfinite(loss) for loss in losses)
    q = choices.training.evaluated(state.model.eval()).posterior(x)  # type: ignore[operator]
    assert q.batch_shape == (1,) and torch.isfinite(q.mean).all()


# --- names, joining, ranges -----------------------------------------------------------------------


@pytest.mark.parametrize("name", methods.names())
def test_every_row_tells_what_it_is(name: str) -> None:
    entry = methods.describe(name)
    for field in TOLD:
        assert getattr(entry, field).strip() == getattr(entry, field) != "", field
    for field in ("changes", "promise"):
        assert getattr(entry, field).endswith("."), field
    assert entry.formula.count("{") == entry.formula.count("}") and "$" not in entry.formula
    defaults = inspect.signature(entry.make).parameters.values()
    assert all(p.default is not inspect.Parameter.empty for p in defaults)
    hash(methods.get(name))  # frozen all the way down


def test_rows_are_different_methods() -> None:
    choices = [methods.get(name) for name in methods.names()]
    assert len(set(choices)) == len(choices)
    assert methods.get("vae") == Method()


def test_names_stand_for_the_papers_choices() -> None:
    expected = {
        "beta-vae(beta=0.2)": ELBO(Constant(0.2)),
        "beta-vae(anneal=5)": ELBO(Linear(0.0, 5, 0.4)),
        "autogen(m=2)": AutoGen(2),
        "free-bits(threshold=0.2)": FreeBits(0.2),
        "free-bits(anneal=10)": FreeBits(0.1, Linear(0.0, 10)),
        "target-kl(c=5, beta=0.5)": TargetKL(5, 5000, Constant(0.5)),
        "target-kl-sentence": TargetKLPerSentence(15.0, 5000),
        "iwae(k=50)": ImportanceWeighted(50),
        "mae(gamma=2, eta=0.3)": MutualPosterior(diversity=2, smoothness=0.3),
        "vae-iaf(threshold=0.15)": FreeBits(0.15),
    }
    for text, objective in expected.items():
        assert methods.get(text).objective == objective, text
    assert methods.get("vae-iaf").objective == ELBO()
    assert methods.get("lagging-fixed(steps=30)").training == Aggressive(30, 30)
    assert methods.get("encoder-rate(factor=4)").training == Joint(4)
    assert methods.get("sa-vae(steps=10)").training == SemiAmortised(10, 1.0, 0.5, 5.0)
    assert methods.get("du-vae(gamma=0.6, p=0.9)").posterior == DiversityUncertainty(0.6, 0.9)
    assert methods.get("du-iaf").posterior == Flow(
        base=DiversityUncertainty(0.6, 0.7, eps=1e-8, spread=Spread.SOFTPLUS)
    )
    assert methods.get("mog-equal(components=3)").prior == GaussianMixture(3, Mixing.EQUAL)
    assert methods.get("bn-vae(gamma=0, shift=0.7)").posterior == BatchNormed(0, 0.7)
    assert methods.get("scale-vae(des_std=1.1, f_epo=7)").posterior == Scaled(1.1, OwnEpochs(7))
    assert methods.get("scale-vae").posterior == Scaled(0.7, OwnUpdates())
    late = methods.get("scale-vae-letter(own_updates=2500.0)").posterior
    assert late == Scaled(0.7, OwnUpdates(2500), MeanOfFactors())
    assert methods.get("scale-vae-own").posterior == Scaled(0.7, OwnThroughout())
    stopped = methods.get("scale-vae-stopped(f_epo=1)").posterior
    assert stopped == Scaled(0.7, OwnEpochs(1), gradient=OwnGradient.STOPPED)
    assert methods.get("skip-vae").latent is Latent.SKIP


def test_annealing_gives_its_schedule_to_another_objective() -> None:
    for text, expected in (
        ("free-bits(threshold=0.2)+anneal(start=0)", FreeBits(0.2, Linear(0.0))),
        ("anneal(start=0)+beta-vae(beta=0.4)", ELBO(Linear(0.0, end=0.4))),
        ("autogen(m=2)+cyclical(cycles=3)", AutoGen(2.0, Cyclical(3))),
    ):
        assert methods.get(text).objective == expected
    by_epochs = methods.get("free-bits+anneal(start=0, epochs=5)")
    assert by_epochs == methods.get("free-bits(anneal=5)")
    assert methods.title("free-bits+anneal") == "Free bits + annealing"


def test_annealing_takes_the_recipes_number_of_updates() -> None:
    schedule = Linear(0.0, end=0.5)
    assert schedule(Progress(250, 100, 1000)) == 0.125
    assert schedule(Progress(5000, 100, 1000)) == 0.5
    assert schedule(Progress(250, 100)) == 0.125  # without one, the papers' ten epochs
    assert Cyclical(2, rise=0.5)(Progress(1250, 100, 1000)) == 0.5
    assert Cyclical(2, rise=0.5)(Progress(2000, 100, 1000)) == 1.0


def test_joined_methods_take_one_choice_from_each() -> None:
    joined = methods.get("igp+iwae(k=7)+sa-vae(steps=2)+skip-vae")
    assert joined.posterior == Isotropic() and joined.objective == ImportanceWeighted(7)
    assert joined.training == SemiAmortised(2) and joined.latent is Latent.SKIP
    assert methods.get("anneal+lagging") == methods.get("lagging+anneal")
    assert methods.title("igp+iwae(k=7)") == "IGP + IWAE (k = 7)"
    assert methods.parameters("bn-vae(gamma=0.6)+anneal(epochs=3)") == {"gamma": 0.6, "epochs": 3}
    for text, slot in (
        ("free-bits+autogen", "objective"),
        ("anneal+cyclical", "objective"),
        ("beta-vae(beta=0.4)+cyclical", "objective"),
        ("bn-vae+igp", "posterior"),
        ("lagging+sa-vae", "training"),
        ("mog+scale-vae", "prior"),
        ("skip-vae+lstm-lm", "latent"),
    ):
        with pytest.raises(BadInput, match=f"both choose the {slot}"):
            methods.get(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vea", 'did you mean "vae"'),
        ("du-vea(p=0.8)", 'did you mean "du-vae"'),
        ("du-vae(q=0.8)", "allowed: gamma, p"),
        ("lagging(windw=3)", 'did you mean "window"'),
        ("igp+iwea", 'did you mean "iwae"'),
        ("du-vae(p=1.2)", r"\(0, 1\]"),
        ("iwae(k=2.5)", "whole number"),
        ("scale-vae(f_epo=1.5)", "whole number, given 1.5"),
        ("scale-vae(own_updates=0)", "at least 1, given 0"),
        ("scale-vae(f_epo=1, own_updates=3100)", "given both: 1 and 3100"),
        ("iwae(k=0)", "at least 1, given 0"),
        ("target-kl(c=-1)", "c >= 0 .* given -1"),
        ("igp-start(epochs=0)", "above 0 and finite, given 0"),
        ("lagging(max_inner=5, window=9)", "window <= max_inner"),
        ("anneal(start=2)", "0 <= start <= 1"),
        ("beta-vae(beta='x')", "numbers"),
        ("beta-vae(0.4)", "name=value"),
        ("beta-vae(beta=", "cannot read"),
    ],
)
def test_wrong_words_are_refused_with_the_right_ones(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        methods.get(text)


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert methods.get("iwae(k=5.0)") == methods.get("iwae(k=5)")
    assert repr(methods.get("mog(components=3.0)")) == repr(methods.get("mog(components=3)"))


@pytest.mark.parametrize("name", methods.names())
def test_every_parameter_refuses_what_is_out_of_its_range(name: str) -> None:
    for parameter in inspect.signature(methods.describe(name).make).parameters:
        if (name, parameter) == ("bn-vae", "shift"):
            methods.get("bn-vae(shift=-1)")  # a mean may lie anywhere
            continue
        for value in ("-1", "1e999", "-1e999"):
            with pytest.raises(BadInput, match="given"):
                methods.get(f"{name}({parameter}={value})")


def test_only_refined_posteriors_are_measured_as_another_model() -> None:
    kind = KINDS["images"]
    for name in EVERY:
        choices = methods.get(name)
        model = built(choices, kind)
        evaluated = choices.training.evaluated(model)
        assert (evaluated is model) != isinstance(evaluated, Refined), name
