"""What decides a method's results beside its equations: first values, batches, promised bounds."""

from __future__ import annotations

import json
import logging
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from companion.claims import differences as differing
from companion.claims import groups as benchmarks
from companion.claims.evidence import from_run
from companion.show import bounds
from companion.show import differences as shown
from posterior_collapse import datasets, methods, recipes
from posterior_collapse.errors import BadInput
from posterior_collapse.layers import FirstValues, start_as_in_torch, starts_as_in_torch
from posterior_collapse.networks import Latent, TextDecoder, TextNetwork, Way
from posterior_collapse.posteriors import BatchNormed, DiversityUncertainty
from posterior_collapse.priors import AutoRegressive
from posterior_collapse.recipes import Recipe
from posterior_collapse.runs import Spec, build_model, train_or_load
from posterior_collapse.runs.batches import EpochBatches
from posterior_collapse.runs.bounds import as_in_training, kl_bound, promised_kl

CPU = torch.device("cpu")
BN, DU = "bn-vae(gamma=0.6)", "du-vae(gamma=0.6, p=0.8)"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def variant(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Enter a recipe made of another one's smoke scale with some constants changed."""

    def enter(base: str, **changed: Any) -> str:
        setup = replace(recipes.get(base, "smoke"), **changed)
        made = Recipe("variant", "", "", {"smoke": setup})
        monkeypatch.setitem(recipes.RECIPES, "variant", made)
        return "variant"

    return enter


# He et al.'s first values, in a network that is much smaller than theirs.
SMALL = TextNetwork(48, 96, 0.5, (-0.01, 0.01), (-0.1, 0.1))


@pytest.fixture
def small(variant: Any) -> str:
    """A recipe with that network and 16 dimensions."""
    return str(variant("text-grammar", network=SMALL, latent_dim=16))


# --- first values ---------------------------------------------------------------------------------


def test_the_encoder_before_a_norm_starts_as_in_torch_and_no_other_does(small: str) -> None:
    """And with one seed all the rest is the same for every method."""
    plain = dict(build_model(Spec(small, "vae", "smoke")).named_parameters())
    for method in (BN, DU):
        model = build_model(Spec(small, method, "smoke"))
        for name, value in model.named_parameters():
            if name.startswith(("encoder", "posterior_head.linear")):
                wide = value.abs().max() / plain[name].abs().max()
                assert wide > 3.0, name
            elif name.startswith("decoder"):
                assert torch.equal(value, plain[name]), name
        torch.testing.assert_close(
            model.encoder.embedding.weight.std().item(), 1.0, rtol=0.1, atol=0
        )
        bound = model.encoder.lstm.hidden_size**-0.5
        for value in model.encoder.lstm.parameters():
            assert value.abs().max() <= bound and value.std().item() == pytest.approx(
                bound / math.sqrt(3.0), rel=0.1
            )
    flow = dict(build_model(Spec(small, "vae-iaf", "smoke")).named_parameters())
    for name, value in plain.items():
        if name.startswith(("encoder", "posterior_head.linear")):  # what comes before the flow
            own = name.replace("posterior_head", "posterior_head.base")
            assert torch.equal(flow[own], value), name


@pytest.mark.parametrize("method", [BN, DU, "du-iaf"])
def test_first_values_depend_on_the_seed_and_not_on_the_global_state(method: str) -> None:
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        before = torch.random.get_rng_state()
        found.append(build_model(Spec("text-grammar", method, "smoke", 3)).state_dict())
        assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    other = build_model(Spec("text-grammar", method, "smoke", 4)).state_dict()
    assert any(not torch.equal(found[0][name], other[name]) for name in other)


@pytest.mark.parametrize("recipe", benchmarks.PARTITIONS)
@pytest.mark.parametrize("method", ["bn-vae(gamma=1)", "du-vae(gamma=1, p=0.8)"])
def test_five_gaussians_keep_the_form_of_their_stored_results(recipe: str, method: str) -> None:
    for scale in recipes.scales(recipe):
        setup = recipes.get(recipe, scale)
        assert isinstance(setup.network, TextNetwork)
        assert setup.network.first_values is FirstValues.RECIPE and setup.least_batch == 1
    model = build_model(Spec(recipe, method, "smoke"))
    values = dict(model.named_parameters())
    assert values["posterior_head.linear.weight"].abs().max() <= 0.01
    assert values["encoder.embedding.weight"].abs().max() <= 0.1


def test_only_layers_whose_first_values_are_known_start_as_in_torch() -> None:
    with pytest.raises(BadInput, match="given Conv2d"):
        start_as_in_torch(starts_as_in_torch(nn.Conv2d(1, 1, 2)), generator())


# --- batches --------------------------------------------------------------------------------------


def sizes(recipe: str, method: str, seed: int = 0, epoch: int = 0) -> list[int]:
    batches = EpochBatches(Spec(recipe, method, "smoke", seed), CPU)
    batches.begin(epoch)
    return [len(x) for x in batches]


def test_methods_with_a_norm_pass_over_small_batches(variant: Any) -> None:
    recipe = variant("text-grammar", train=400, batch_size=24)
    every = sizes(recipe, "vae")
    assert sum(every) == 400 and 0 < sum(size < 16 for size in every) < len(every)
    large = [size for size in every if size >= 16]
    for method in (BN, DU, "iaf-bn", "du-iaf", f"{BN}+lagging"):
        assert sizes(recipe, method) == large, method
    for method in ("vae-iaf", "igp", "delta-vae", "lagging"):
        assert sizes(recipe, method) == every, method
    batches = EpochBatches(Spec(recipe, BN, "smoke"), CPU)
    assert batches.passed_over == 400 - sum(large)


def test_a_recipe_may_say_how_small_a_batch_may_be(variant: Any) -> None:
    for least in (1, 5, 24):
        recipe = variant("text-grammar", train=400, batch_size=24, least_batch=least)
        for method in ("vae", BN):
            found = sizes(recipe, method)
            assert found and min(found) >= least
            assert sum(found) == sum(s for s in sizes_of(400, 24) if s >= least)


def sizes_of(count: int, batch: int) -> list[int]:
    """Of the batches of the grammar's first sentences, counted by their lengths."""
    split = datasets.load("grammar", datasets.Sizes(count, 48, 48)).train
    found = []
    for length in split.lengths.unique():
        same = int((split.lengths == length).sum())
        found += [batch] * (same // batch) + [same % batch] * (same % batch > 0)
    return found


def test_where_no_batch_is_large_enough_the_largest_ones_are_taken(variant: Any) -> None:
    recipe = variant("text-grammar", batch_size=7)
    every = sizes(recipe, "vae")
    assert max(every) == 7
    assert sizes(recipe, BN) == [7] * every.count(7)


@pytest.mark.parametrize("partition", list(datasets.Partition))
def test_as_many_batches_are_kept_in_every_epoch(partition: Any, variant: Any) -> None:
    recipe = variant("text-grammar", train=2000, batch_size=24, partition=partition)
    found = [sorted(sizes(recipe, DU, 0, epoch)) for epoch in range(3)]
    assert found[0] == found[1] == found[2] and min(found[0]) >= 16


def test_a_run_says_how_many_sentences_it_passed_over(store: Path) -> None:
    run = train_or_load(Spec("text-grammar", BN, "smoke"), "cpu", False)
    expected = EpochBatches(run.spec, CPU).passed_over
    assert run.metrics["passed_over"] == expected > 0
    assert "passed_over" not in train_or_load(Spec("text-grammar", "vae", "smoke"), "cpu").metrics


# --- promised bounds ------------------------------------------------------------------------------


def sentences(model: Any, count: int = 4, size: int = 20, length: int = 8) -> list[Tensor]:
    words = model.encoder.embedding.num_embeddings
    return [torch.randint(4, words, (size, length), generator=generator(s)) for s in range(count)]


@pytest.mark.parametrize("method", [BN, "bn-vae(gamma=0, shift=0.7)", DU, "delta-vae(delta=0.2)"])
def test_the_kl_in_training_is_that_of_the_batches_and_keeps_its_bound(
    method: str, small: str
) -> None:
    model = build_model(Spec(small, method, "smoke"))
    batches = sentences(model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    found = kl_bound(model, batches, None, generator())
    assert found is not None and not found.kl_bound_broken
    promised = {BN: 16 * 0.18, DU: 16 * 0.18, "delta-vae(delta=0.2)": 3.2}.get(method, 8 * 0.49)
    assert found.kl_bound == pytest.approx(promised, rel=1e-5)
    assert found.kl_in_training > 0.999 * promised
    assert not model.training and not model.posterior_head.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    if method != DU:  # it drops variances at random
        with as_in_training(model.posterior_head, generator()), torch.no_grad():
            kls = [kl_divergence(model.posterior(x), model.prior) for x in batches]
        assert found.kl_in_training == pytest.approx(torch.cat(kls).mean().item(), rel=1e-5)
    assert kl_bound(model, batches, 0.94 * promised, generator()).kl_bound_broken  # type: ignore[union-attr]
    assert not kl_bound(model, batches, 0.96 * promised, generator()).kl_bound_broken  # type: ignore[union-attr]


def test_an_autoregressive_prior_promises_what_it_costs(small: str) -> None:
    model = build_model(Spec(small, "delta-vae-ar(delta=0.1)", "smoke"))
    found = kl_bound(model, sentences(model), None, generator())
    assert found is not None and found.kl_bound == pytest.approx(1.6)
    assert found.kl_in_training >= 1.6 and not found.kl_bound_broken


@pytest.mark.parametrize("method", ["vae", "ae", "du-iaf", "scale-vae", "mog", "lstm-lm"])
def test_most_methods_promise_nothing(method: str) -> None:
    model = build_model(Spec("text-grammar", method, "smoke"))
    assert kl_bound(model, sentences(model), 0.0, generator()) is None


def test_a_bound_to_the_standard_normal_is_not_promised_of_another_prior() -> None:
    model = build_model(Spec("text-grammar", BN, "smoke"))
    x = sentences(model)[0]
    assert promised_kl(model, model.posterior(x)) == pytest.approx(1.5 * 0.36)
    model.prior_head = AutoRegressive(0.5).build(3)
    least = model.prior.least_kl  # type: ignore[attr-defined]
    assert promised_kl(model, model.posterior(x)) == least > 0.0


def test_a_run_whose_norm_is_void_warns(
    store: Path, variant: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Narrow first values and small variances: what the main row of DU-VAE was."""
    network = TextNetwork(12, 16, 0.0, first_values=FirstValues.RECIPE)
    changed = replace(recipes.get("text-grammar", "smoke").optimisation, learning_rate=1e-6)
    recipe = variant("text-grammar", network=network, optimisation=changed)
    with caplog.at_level(logging.WARNING):
        run = train_or_load(Spec(recipe, BN, "smoke"), "cpu", False)
    assert run.metrics["kl_bound_broken"] is True
    assert run.metrics["kl_in_training"] < 0.1 * run.metrics["kl_bound"]
    assert "breaks the bound" in caplog.text and f"{run.metrics['kl_bound']:.4g}" in caplog.text
    caplog.clear()
    sound = variant("text-grammar", optimisation=changed)
    with caplog.at_level(logging.WARNING):
        run = train_or_load(Spec(sound, "delta-vae", "smoke"), "cpu", False)
    assert run.metrics["kl_bound_broken"] is False and "breaks" not in caplog.text
    plain = train_or_load(Spec(sound, "vae", "smoke"), "cpu", False)
    assert not plain.metrics.keys() & {"kl_bound", "kl_bound_broken", "kl_in_training"}


def test_a_page_counts_the_seeds_that_keep_their_bound(store: Path) -> None:
    runs = {
        method: [
            from_run(train_or_load(Spec("text-grammar", method, "smoke", seed), "cpu", False))
            for seed in range(2)
        ]
        for method in (BN, "vae")
    }
    found = bounds.frame({"here": runs})
    assert len(found) == 1 and found["method"][0] == "BN-VAE (gamma = 0.6)"
    for name, column in (("kl_bound", "KL promised"), ("kl", "KL on the test set")):
        values = [result.metrics[name] for result in runs[BN]]
        assert found[column][0].startswith(f"{sum(values) / 2:.2f} ("), column
    kept = [not result.metrics["kl_bound_broken"] for result in runs[BN]]
    assert found["seeds that keep it"][0] == f"{sum(kept)} of 2"
    runs[BN][1].metrics["kl_bound_broken"] = kept[1]
    again = bounds.frame({"here": runs})["seeds that keep it"][0]
    assert again == f"{kept[0] + (not kept[1])} of 2"
    assert str(runs[BN][0].metrics["passed_over"]) in found["sentences passed over"][0]
    assert bounds.frame({"here": {"vae": runs["vae"]}}).empty


# --- the ways of z into the decoder ---------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("latent", [Latent.INPUT, Latent.SKIP])
def test_z_can_come_beside_the_words_alone(latent: Latent) -> None:
    """The first state is 0, and all else is as with both ways."""
    vocabulary, embedding, hidden, dim = 11, 4, 5, 3
    torch.manual_seed(0)
    alone = TextDecoder(vocabulary, embedding, hidden, dim, 0.0, latent, way=Way.INPUT).double()
    both = TextDecoder(vocabulary, embedding, hidden, dim, 0.0, latent).double()
    both.load_state_dict(alone.state_dict() | {"state.weight": torch.zeros(hidden, dim)})
    x = torch.randint(4, vocabulary, (6, 7), generator=generator(1))
    z = torch.randn(2, 6, dim, generator=generator(2), dtype=torch.float64)
    torch.testing.assert_close(alone(x, z), both(x, z))
    assert not torch.allclose(alone(x, z), alone(x, -z))
    state = alone.start(z[0])
    assert not state.hidden.any() and not state.cell.any()
    total = torch.zeros(6, dtype=torch.float64)
    for place in range(x.shape[1] - 1):
        log_probability, state = alone.step(x[:, place], state)
        total += log_probability.gather(1, x[:, place + 1 : place + 2])[:, 0]
    torch.testing.assert_close(total, alone(x, z)[0])


def test_the_way_is_a_constant_of_the_recipe(store: Path, variant: Any) -> None:
    network = recipes.varied(
        recipes.get("igp-grammar", "smoke"), network={"way": Way.INPUT}
    ).network
    recipe = variant("igp-grammar", network=network, wording=None)
    run = train_or_load(Spec(recipe, "igp", "smoke"), "cpu", False)
    assert run.weights()["decoder.state.weight"].numel() == 0
    assert math.isfinite(run.metrics["nll"])
    assert run.provenance["setup"]["network"]["way"] == "input"


# --- the table of methods -------------------------------------------------------------------------


def test_no_method_is_named_after_code_that_nobody_wrote() -> None:
    assert "du-vae-code" not in methods.names()
    assert not any("du-vae-code" in spec.method for spec in benchmarks.planned())


# --- what is done otherwise -----------------------------------------------------------------------


@pytest.mark.parametrize("page", differing.pages())
def test_every_difference_names_what_there_is_and_types_no_number_of_ours(page: str) -> None:
    """Methods, fields and constants are looked up; a sign outside of braces is no digit."""
    raw = differing._entries()[page]["differences"]
    found = differing.differences(page)
    assert len(found) == len(raw) and len({row.what for row in found}) == len(found)
    for entry, row in zip(raw, found, strict=True):
        words = re.sub(r"\{[^}]*\}", "", entry["here"])
        assert not re.search(r"\d", words), entry["here"]
        assert "{" not in row.here and row.theirs and row.here
        if row.method:
            methods.get(row.method)


def test_the_pages_show_their_differences(root: Path) -> None:
    calls = {}
    for path in sorted((root / "notebooks").rglob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = "\n".join("".join(cell["source"]) for cell in cells)
        for page in re.findall(r"differences\.table\(\"([^\"]*)\"\)", source):
            calls[page] = path.relative_to(root / "notebooks").with_suffix("").as_posix()
    assert calls == {page: page for page in differing.pages()}


def test_our_side_of_a_difference_is_read_off_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {row.what: row for row in differing.differences("du/text")}
    row = before["small batches in training"]
    assert f"fewer than {BatchNormed.least_batch} are" in row.here
    assert row.where == "Setup.least_batch" and row.changes is differing.Changes.RESULTS
    assert row.method == benchmarks.DU
    monkeypatch.setattr(DiversityUncertainty, "least_batch", 5)
    after = {row.what: row for row in differing.differences("du/text")}
    assert "fewer than 5 are" in after["small batches in training"].here
    network = recipes.get("text-yelp", "medium").network
    assert isinstance(network, TextNetwork)
    size = before["size of the network, as embedding, LSTM and z"].here
    assert size.startswith(f"{network.embedding}, {network.hidden} and ")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "du-vea"}, 'did you mean "du-vae"'),
        ({"here": "{setup.batch}"}, "asks for"),
        ({"here": "{metod}"}, "asks for"),
        ({"set": "recipes.Setup.least_batches"}, 'did you mean "least_batch"'),
        ({"set": "recipes.Setups.least_batch"}, "no choice Setups"),
    ],
)
def test_a_difference_that_names_nothing_is_refused(
    changed: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"what": "a", "theirs": "b", "told": "code", "here": "c", "changes": "results"}
    page = {"recipe": "text-yelp", "differences": [row | changed]}
    monkeypatch.setattr(differing, "_entries", lambda: {"a/page": page})
    with pytest.raises(BadInput, match=message):
        differing.differences("a/page")
    with pytest.raises(BadInput, match="page with differences"):
        differing.differences("another/page")


def test_the_table_of_differences_puts_what_changes_results_first() -> None:
    rows = shown.frame("du/text")
    kinds = [shown._ORDER.index(differing.Changes(kind)) for kind in rows["changes"]]
    assert kinds == sorted(kinds) and kinds[0] == 0
    html = str(shown.table("du/text").data)
    assert f"{kinds.count(0)} known" in html and "Flow.width" in html
    assert html.count("<tr>") == len(rows) + 1
