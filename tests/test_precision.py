"""Mixed precision of text networks, and what makes a step quick without changing a number."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from companion.claims import groups as benchmarks
from companion.claims.reference import Result
from companion.methods import scales as pages
from posterior_collapse import methods, precision, recipes
from posterior_collapse.errors import BadInput
from posterior_collapse.layers import dropout_mask
from posterior_collapse.networks import VAE, PixelNetwork, TextNetwork, build_vae
from posterior_collapse.networks.text import word_losses
from posterior_collapse.precision import Precision, available, products
from posterior_collapse.runs import Spec, train_or_load
from posterior_collapse.runs.work import _with_defaults
from posterior_collapse.training import Optimisation, State, new_state
from posterior_collapse.training.steps import gradients

VOCABULARY, DIM = 300, 4
CPU = torch.device("cpu")
HAS_BFLOAT16 = available(Precision.BFLOAT16, CPU) is Precision.BFLOAT16
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="no bfloat16 products here")


def batch() -> Tensor:
    return torch.randint(4, VOCABULARY, (16, 9), generator=torch.Generator().manual_seed(1))


def model(of: str, dtype: torch.dtype = torch.float32, dropout: float = 0.0) -> VAE:
    """A model in training mode, the same for all precisions."""
    method = methods.get("vae")
    network = TextNetwork(24, 48, dropout, (-0.3, 0.3), (-1.0, 1.0), precision=Precision(of))
    made = build_vae(network, VOCABULARY, DIM, method.posterior, method.prior)
    network.initialise(made, torch.Generator().manual_seed(0))
    return made.to(dtype).train()


def state(of: str, method: str = "vae", dropout: float = 0.5) -> State:
    chosen = methods.get(method)
    settings = Optimisation(clip_norm=1e9)
    return new_state(model(of, dropout=dropout), chosen.objective, chosen.training, settings, 9, 0)


def slopes(of: VAE) -> dict[str, Tensor]:
    """Gradient of the mean log-likelihood of fixed codes, and of the posterior means."""
    z = torch.randn(1, 16, DIM, generator=torch.Generator().manual_seed(2))
    z = z.to(next(of.parameters()).dtype)
    of.zero_grad()
    (of.log_likelihood(batch(), z).mean() + of.posterior(batch()).mean.square().sum()).backward()
    return {name: p.grad for name, p in of.named_parameters() if p.grad is not None}


def distance(one: Tensor, other: Tensor) -> float:
    """Of two gradients, relative to the second's length."""
    return float((one.double() - other.double()).norm() / other.double().norm())


# --- gradients ------------------------------------------------------------------------------------


def test_float32_gradients_are_those_of_float64() -> None:
    exact = slopes(model("float32", torch.float64))
    for name, slope in slopes(model("float32")).items():
        assert slope.dtype is torch.float32
        assert distance(slope, exact[name]) < 1e-5, name


@needs_bfloat16
def test_bfloat16_gradients_are_those_of_float64_up_to_its_rounding() -> None:
    """Rounded to 8 bits, factors are off by up to 2^-9, and errors of steps add up."""
    exact = slopes(model("float32", torch.float64))
    found = slopes(model("bfloat16"))
    assert found.keys() == exact.keys()
    for name, slope in found.items():
        assert slope.dtype is torch.float32  # weights and what the optimiser sees
        assert 1e-5 < distance(slope, exact[name]) < 2e-2, name


@needs_bfloat16
def test_a_whole_step_in_bfloat16_has_the_float32_gradient_up_to_its_rounding() -> None:
    """With dropout and noise of z: both precisions must draw the same numbers."""
    whole = {}
    for of in Precision:
        now = state(of)
        terms = gradients(now, batch())
        assert terms.loss.dtype is torch.float32
        whole[of] = torch.cat([p.grad.flatten() for p in now.model.parameters()])  # type: ignore[union-attr]
    found, exact = whole[Precision.BFLOAT16], whole[Precision.FLOAT32]
    assert 1e-5 < distance(found, exact) < 1e-2


@needs_bfloat16
def test_second_derivatives_of_semi_amortised_training_survive_bfloat16() -> None:
    whole = {}
    for of in Precision:
        now = state(of, "sa-vae(steps=3)", dropout=0.0)
        now.model.requires_grad_()
        training = methods.get("sa-vae(steps=3)").training
        training.gradients(now, batch())  # type: ignore[attr-defined]
        parameters = now.model.inference_parameters()
        whole[of] = torch.cat([p.grad.flatten() for p in parameters])  # type: ignore[union-attr]
    assert distance(whole[Precision.BFLOAT16], whole[Precision.FLOAT32]) < 5e-2


@needs_bfloat16
@pytest.mark.parametrize("scale", [0.1, 30.0])
def test_word_losses_in_bfloat16_equal_those_of_rounded_factors(scale: float) -> None:
    """Products of rounded factors, summed exactly: also where exponentials would overflow."""
    source = torch.Generator().manual_seed(0)
    outputs, weight = torch.randn(64, 48, generator=source), torch.randn(300, 48, generator=source)
    weight *= scale
    wanted = torch.randint(300, (64,), generator=source)
    with torch.enable_grad():
        found = word_losses(outputs.requires_grad_(), weight, wanted, Precision.BFLOAT16)
    logits = outputs.bfloat16().double() @ weight.bfloat16().double().T
    exact = -logits.log_softmax(-1)[torch.arange(64), wanted]
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5 * max(1.0, scale))


# --- images -------------------------------------------------------------------------------------


def pixel_slopes(of: str, trains: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-likelihoods of fixed images and codes, and the gradients of a PixelCNN-VAE."""
    method = methods.get("vae")
    network = PixelNetwork(16, (5, 3, 3), 2, (8, 8), 16, precision=Precision(of))
    made = build_vae(network, 64, DIM, method.posterior, method.prior).train(trains)
    network.initialise(made, torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(2)
    x = (torch.rand(16, 64, generator=source) < 0.3).float()
    likelihoods = made.log_likelihood(x, torch.randn(1, 16, DIM, generator=source))
    assert likelihoods.dtype is torch.float32
    (likelihoods.mean() + made.posterior(x).mean.square().sum()).backward()
    grads = {name: p.grad for name, p in made.named_parameters() if p.grad is not None}
    return likelihoods.detach(), grads


@needs_bfloat16
def test_gradients_of_a_pixel_cnn_in_bfloat16_are_those_of_float32_up_to_rounding() -> None:
    """Of all weights together: those in front of a norm have small gradients, which round more."""
    whole = {}
    for of in Precision:
        likelihoods, grads = pixel_slopes(of)
        assert all(slope.dtype is torch.float32 for slope in grads.values())
        whole[of] = likelihoods.flatten(), torch.cat([slope.flatten() for slope in grads.values()])
    for mixed, exact in zip(whole[Precision.BFLOAT16], whole[Precision.FLOAT32], strict=True):
        assert 1e-6 < distance(mixed, exact) < 3e-2


def test_evaluation_of_a_pixel_cnn_is_in_float32() -> None:
    (plain, slopes_plain), (mixed, slopes_mixed) = (pixel_slopes(of, False) for of in Precision)
    assert torch.equal(plain, mixed)
    assert all(torch.equal(slope, slopes_mixed[name]) for name, slope in slopes_plain.items())


# --- evaluation, and machines without -------------------------------------------------------------


def test_evaluation_is_in_float32() -> None:
    """To the bit, with gradients (geometry, semi-amortised inference) and without."""
    z = torch.randn(3, 16, DIM, generator=torch.Generator().manual_seed(2))
    plain, mixed = (model(of).eval() for of in Precision)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert torch.equal(plain.log_likelihood(batch(), z), mixed.log_likelihood(batch(), z))
            assert torch.equal(plain.posterior(batch()).mean, mixed.posterior(batch()).mean)
    with torch.no_grad():  # not in evaluation mode, but no gradient is wanted
        a, b = (m.train().log_likelihood(batch(), z) for m in (plain, mixed))
    assert torch.equal(a, b)


def test_without_bfloat16_products_a_step_is_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: False)
    assert available(Precision.BFLOAT16, CPU) is Precision.FLOAT32
    assert available(Precision.BFLOAT16, torch.device("meta")) is Precision.FLOAT32
    plain, mixed = (slopes(model(of)) for of in Precision)
    for name, slope in mixed.items():
        assert torch.equal(slope, plain[name]), name


@needs_bfloat16
@pytest.mark.parametrize("new_setting", [True, False])
def test_products_change_nothing_outside(
    monkeypatch: pytest.MonkeyPatch, new_setting: bool
) -> None:
    """Also after an error, and with the setting of older versions of torch."""
    if not new_setting:
        monkeypatch.setattr(precision, "getattr", lambda *a: None, raising=False)
    source = torch.Generator().manual_seed(0)
    a, b = torch.randn(64, 48, generator=source), torch.randn(48, 300, generator=source)
    exact = a @ b
    with pytest.raises(RuntimeError, match="stop"), products(Precision.BFLOAT16):
        lower = a @ b
        raise RuntimeError("stop")
    assert lower.dtype is torch.float32
    rounded = (a.bfloat16().double() @ b.bfloat16().double()).float()
    torch.testing.assert_close(lower, rounded, rtol=1e-5, atol=1e-5)
    assert not torch.equal(lower, exact) and torch.equal(a @ b, exact)


# --- as a constant of a recipe --------------------------------------------------------------------


def test_an_unknown_precision_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadInput, match='did you mean "bfloat16"'):
        TextNetwork(4, 4, 0.0, precision="bfloat61")  # type: ignore[arg-type]
    assert TextNetwork(4, 4, 0.0, precision="bfloat16").precision is Precision.BFLOAT16  # type: ignore[arg-type]


def test_precision_is_part_of_a_run_and_of_its_provenance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Trained twice the weights agree to the bit; float32 gives others under another key."""
    known = recipes.recipe("text-grammar")
    smoke = known.scales["smoke"]
    keys, weights = [], []
    for count, of in enumerate([Precision.BFLOAT16, Precision.BFLOAT16, Precision.FLOAT32]):
        scales = {"smoke": recipes.varied(smoke, network={"precision": of})}
        monkeypatch.setitem(recipes.RECIPES, "text-grammar", replace(known, scales=scales))
        monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(tmp_path / str(count)))
        run = train_or_load(Spec("text-grammar", "vae", "smoke"), "cpu", progress=False)
        used = available(of, CPU)
        assert run.provenance["precision"] == {"training": used, "evaluation": "float32"}
        assert run.provenance["setup"]["network"]["precision"] == of
        keys.append(run.provenance["key"])
        weights.append(torch.cat([w.flatten() for w in run.weights().values()]))
    assert keys[0] == keys[1] != keys[2]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2]) is not HAS_BFLOAT16


def test_an_old_record_of_a_network_had_the_default_precision() -> None:
    """A constant that came later does not make the runs before it another model's."""
    known = recipes.get("text-grammar", "smoke")
    before = asdict(known)
    del before["network"]["precision"]
    assert _with_defaults(known, before) == asdict(known)["network"]
    mixed = recipes.varied(known, network={"precision": Precision.BFLOAT16})
    assert _with_defaults(mixed, before) != asdict(mixed)["network"]


# --- dropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.62, 1e-7, 1 - 1e-7])
def test_dropout_masks_drop_as_often_as_asked(probability: float) -> None:
    source = torch.Generator().manual_seed(0)
    like = torch.empty(1001, 333, dtype=torch.float64)  # not a multiple of a draw's four entries
    mask = dropout_mask(like, probability, source)
    assert mask.shape == like.shape and mask.dtype is like.dtype
    kept = float((mask > 0).double().mean())
    values = mask.unique()
    assert values[0] == 0 and len(values) <= 2
    # The mean of the mask is 1 for the probability that is a multiple of 2^-16.
    chance = 1 / float(values[-1])
    assert chance * 2**16 == pytest.approx(round(chance * 2**16), abs=1e-9)
    assert abs(chance - (1 - probability)) <= 2**-16
    assert abs(kept - chance) < 5 * (chance * (1 - chance) / like.numel()) ** 0.5


def test_entries_of_a_dropout_mask_are_independent_of_their_neighbours() -> None:
    """The four entries that share a draw, and the entries at the same place of two draws."""
    mask = dropout_mask(torch.empty(2**20), 0.5, torch.Generator().manual_seed(3)) > 0
    for lag in (1, 2, 3, 4, 8):
        agree = float((mask[lag:] == mask[:-lag]).double().mean())
        assert abs(agree - 0.5) < 5 * 0.5 / 2**10, lag


# --- the comparison of both precisions ------------------------------------------------------------


def result(seed: int, **metrics: float) -> Result:
    spec = Spec(benchmarks.FLOAT32, "vae", "medium", seed)
    told = {"cpu_seconds": 100.0 if metrics["nll"] > 50 else 60.0}
    return Result(spec, {"kl": 1.0, "mutual_information": 1.0, **metrics}, None, {}, told, [])  # type: ignore[arg-type]


def test_precisions_agree_where_another_seed_changes_more() -> None:
    plain = [result(seed, nll=value) for seed, value in enumerate([90.0, 90.4, 90.2])]
    mixed = [result(seed, nll=value) for seed, value in ((2, 90.5), (0, 90.3), (1, 90.7), (7, 0.0))]
    one = pages.paired("vae", plain, mixed)
    assert [r.spec.seed for r in one.mixed] == [0, 1, 2]  # seed 7 has no partner
    assert one.difference("nll") == pytest.approx(0.3)
    assert one.spread("nll") == pytest.approx(0.4)
    assert one.agrees("nll") and one.time == 1.0
    worse = pages.paired("vae", plain, [result(r.spec.seed, nll=90.7) for r in plain])
    assert not worse.agrees("nll")  # 0.5 against 0.4
    assert pages.precision_finding([worse]).startswith("2 of 3 measures change less")
    rows = pages.precision_table([one])
    assert rows["agrees"].tolist() == ["yes"] * 3
    assert rows["bfloat16 products"][0] == "90.300, 90.700, 90.500"
    assert "No method" in pages.precision_finding([])


def test_the_compared_recipes_differ_in_their_precision_only() -> None:
    mixed, plain = (recipes.get(name, "medium") for name in benchmarks.PRECISIONS)
    assert plain != mixed == recipes.varied(plain, network={"precision": Precision.BFLOAT16})
    planned = {(spec.recipe, spec.method, spec.seed) for spec in benchmarks.planned()}
    for name in benchmarks.PRECISIONS:  # three seeds of both
        for method in benchmarks.PRECISION_METHODS:
            assert {(name, method, seed) for seed in range(3)} <= planned
