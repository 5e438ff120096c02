"""The lagging chapter's measures and rules, on results that are made to have known answers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from companion import show
from companion.build.parameters import Page
from companion.claims import evidence as results
from companion.claims import reference
from companion.claims.reference import Result
from companion.claims.verdicts import Outcome, Verdict
from companion.lagging import decomposition as identities
from companion.lagging import mean_space as lagging
from companion.lagging import own_data as corpus
from companion.lagging import trajectories
from companion.show import figures as plots
from posterior_collapse.errors import BadInput
from posterior_collapse.runs import Spec, train_or_load


def made(method: str, seed: int, *, collapsed: bool, aggressive_epochs: int = 3) -> Result:
    """A result whose points lie where theory puts them, with a little noise from the seed."""
    random = np.random.default_rng(seed)
    z = random.normal(size=200).astype(np.float32)
    tiny = 1e-4 * random.normal(size=200).astype(np.float32)
    model = [tiny, 0.4 * z, tiny if collapsed else z]
    inference = [tiny, tiny if collapsed else 0.4 * z, tiny if collapsed else z + 0.05 * tiny]
    arrays = {
        "grid_iteration": np.array([0, 1000, 10000]),
        "grid_model_mean": np.stack(model),
        "grid_inference_mean": np.stack(inference),
        "final_model_mean": model[-1],
        "final_inference_mean": inference[-1],
        "trajectory_inner": np.array([False, True, False, True, False]),
        "trajectory_model_mean": np.array([[0.0], [0.0], [0.5], [0.5], [0.9]]),
        "trajectory_inference_mean": np.array([[0.3], [0.1], [0.1], [0.45], [0.45]]),
    }
    history = pd.DataFrame(
        {
            "epoch": range(1, 7),
            "valid_kl": [0.0 if collapsed else 1.2] * 6,
            "valid_mutual_information": [0.0 if collapsed else 1.1] * 6,
            "aggressive": [n < aggressive_epochs and method == "lagging" for n in range(6)],
        }
    )
    level = 0.0 if collapsed else 1.2
    metrics = {"kl": level, "mutual_information": level, "nll": 38.0 + 0.01 * seed, "updates": 9000}
    metrics |= {"active_units": 0 if collapsed else 1}
    spec = Spec("lagging-synthetic", method, "paper", seed)
    origin = {"spec": spec.__dict__, "key": "k" * 64, "sources": "s" * 64, "data": "d" * 64}
    origin |= {"hardware": "h", "threads": 1, "device": "cpu", "torch": "2", "python": "3"}
    origin |= {"seconds": 1.0, "finished": "now"}
    return Result(spec, metrics, history, arrays, origin, [])


@pytest.fixture
def basic() -> list[Result]:
    return [made("vae", seed, collapsed=True) for seed in range(5)]


@pytest.fixture
def aggressive() -> list[Result]:
    return [made("lagging", seed, collapsed=False) for seed in range(5)]


def test_rules_hold_where_the_figure_is_as_the_paper_says(basic, aggressive) -> None:  # type: ignore[no-untyped-def]
    assert lagging.decide_mean_space(basic, aggressive).verdict is Verdict.HOLDS
    assert lagging.decide_map(basic, aggressive).verdict is Verdict.HOLDS
    assert lagging.decide_algorithm(aggressive).verdict is Verdict.HOLDS


def test_rules_fail_where_aggressive_training_collapses_too(basic) -> None:  # type: ignore[no-untyped-def]
    other = [made("lagging", seed, collapsed=True) for seed in range(5)]
    found = lagging.decide_mean_space(basic, other)
    assert found.verdict is Verdict.MIXED
    failed = {c.quantity for c in found.checks if c.outcome is Outcome.FAILS}
    assert {"aggressive: active units", "aggressive: spread of q(z|x) means"} <= failed


def test_rules_notice_a_basic_training_that_did_not_collapse(aggressive) -> None:  # type: ignore[no-untyped-def]
    alive = [made("vae", seed, collapsed=False) for seed in range(5)]
    found = lagging.decide_mean_space(alive, aggressive)
    failed = {c.quantity for c in found.checks if c.outcome is Outcome.FAILS}
    assert {"basic: KL (nats per sentence)", "basic: active units"} <= failed


def test_algorithm_rule_counts_aggressive_epochs() -> None:
    long = [made("lagging", seed, collapsed=False, aggressive_epochs=6) for seed in range(5)]
    assert lagging.decide_algorithm(long).verdict is Verdict.FAILS


def test_trajectories_measure_moves_and_distance() -> None:
    results_ = [made("lagging", seed, collapsed=False) for seed in range(3)]
    found = trajectories.decide_trajectories(results_)
    assert found.verdict is Verdict.HOLDS
    ratio = found.checks[2].measured.mean  # |.45 - .5| after against |.1 - .5| before
    assert ratio == pytest.approx(0.05 / 0.4, rel=1e-6)


def test_space_is_the_last_one_recorded_before_an_update(basic) -> None:  # type: ignore[no-untyped-def]
    assert [lagging.space_at(basic[0], n).iteration for n in (0, 999, 1000, 5000)] == [
        0,
        0,
        1000,
        1000,
    ]
    empty = replace(basic[0], arrays={})
    with pytest.raises(BadInput, match="no recorded"):
        lagging.space_at(empty, 0)
    shown = lagging.panels(basic[0], (0, 200, 1000, 10000))
    assert [p.title for p in shown] == ["update 0", "update 1000", "update 10000", "best model"]


def test_tracks_hold_both_means_of_every_seed(basic, aggressive) -> None:  # type: ignore[no-untyped-def]
    found = lagging.tracks({"data": {"basic": basic, "aggressive": aggressive}})
    assert [(t.method, t.seed) for t in found] == [
        (name, result.spec.seed)
        for name, runs in (("basic", basic), ("aggressive", aggressive))
        for result in runs
    ]
    assert found[0].updates.tolist() == basic[0].arrays["grid_iteration"].tolist()
    assert (found[0].points[..., 1] == basic[0].arrays["grid_inference_mean"]).all()


def test_numbers_state_mean_and_spread(basic, aggressive) -> None:  # type: ignore[no-untyped-def]
    table = lagging.numbers({"basic": basic, "one": aggressive[:1]}).set_index("measure")
    nll = "NLL, importance-weighted (nats per sentence)"
    assert table.loc[nll, "basic"] == "38.0200 (0.0158)"
    assert table.loc[nll, "one"] == "38.0000"


def test_every_figure_is_drawn(basic, aggressive) -> None:  # type: ignore[no-untyped-def]
    histories = {"vae": [r.history for r in basic], "lagging": [r.history for r in aggressive]}
    moves = trajectories.moves(aggressive[0])
    grid = np.linspace(-3, 3, 50)
    figures = [
        plots.map_figure(lagging.four_states(basic[0], aggressive[0])),
        plots.mean_space_figure(
            [lagging.panels(basic[0], (0, 1000)), lagging.panels(basic[0], (0,))]
        ),
        plots.trajectory_figure(moves.model_mean, moves.inference_mean, moves.inner, ["a"]),
        plots.decomposition_figure(histories),
        plots.information_figure(histories),
        plots.gap_figure(grid, np.exp(-(grid[:, None] ** 2)), np.exp(-(grid[:, None] ** 2)), ["a"]),
        plots.bias_figure([2, 4], np.array([0.3, 0.6]), np.array([0.1, 0.1]), 0.8),
    ]
    for figure in figures:
        assert plots.png(figure).startswith(b"\x89PNG")


def test_shown_html_escapes_text_and_carries_alt_and_verdict(basic, aggressive) -> None:  # type: ignore[no-untyped-def]
    figure = plots.information_figure({"vae": [basic[0].history]})
    text = show.figure(figure, "see <b>this</b>", 'a "line"').data
    assert 'alt="a &quot;line&quot;"' in text and "<figcaption>see <b>this</b>" in text
    table = show.table(pd.DataFrame({"": ["<x>"], "v": [float("nan")]}), "c").data
    assert "&lt;x&gt;" in table and "–" in table
    verdict = show.verdict(lagging.decide_map(basic, aggressive)).data
    assert 'data-item="lagging-fig1"' in verdict and 'data-verdict="holds"' in verdict
    assert "seed 4" in show.provenance([r.provenance for r in basic]).data
    again = {**basic[0].provenance, "measured": {"sources": "c" * 64, "but": "perplexity"}}
    told = f"measured again by {'c' * 12}, but its perplexity<"
    assert told in show.provenance([again]).data
    mixed = {**again, "precision": {"training": "bfloat16", "evaluation": "float32"}}
    assert "bfloat16 products" in show.provenance([mixed]).data
    assert "products" not in show.provenance([again]).data


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (-1.25, "−1.250"),
        (1e-6, "1.0e−06"),
        (-0.00044, "−0.0004"),
        (2e7, "2.0e+07"),
        (float("inf"), "∞"),
        (None, "–"),
        (5, "5"),
        (12345.6, "12345.600"),
    ],
)
def test_numbers_are_written_for_readers(value: float | None, text: str) -> None:
    assert show.number(value) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "–"),
        ([0.1], "0.1"),
        ([94.4] * 3, "94.4 (0.0)"),  # pandas' own deviation of these is not 0
        ([1.0, 1.0 - 2**-53, math.nan], "1.0 (0.0)"),
        ([1e-6, 2e-6], "1.5e−06 (7.1e−07)"),
        ([1.0, 2.0], "1.5 (0.7)"),
    ],
)
def test_equal_values_have_no_spread(values: list[float], text: str) -> None:
    assert show.spread(values, 1) == text


# --- with a real run ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page() -> Page:
    return Page("smoke", (0,), "cpu")


def test_identities_hold_on_a_trained_model(page: Page) -> None:
    run = results.runs(page, "lagging-synthetic", "vae")[0]
    gap = identities.gap(run)
    assert gap.residual < 1e-3 and gap.negative == 0.0
    assert gap.log_evidence == pytest.approx(gap.elbo + gap.gap, abs=1e-3)
    parts = identities.decomposition(run)
    assert parts.apart < 5 and parts.points == 64
    bias = identities.minibatch_bias(run)
    assert np.all(bias.estimate <= np.log(bias.sizes) + 1e-9)
    table = identities.gap_table({"vae": [gap]})
    assert list(table["training"]) == ["basic, run 1"]


def test_reference_results_survive_a_round_trip(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Spec("lagging-synthetic", "vae", "smoke", 0)
    run = train_or_load(spec, "cpu", False)
    monkeypatch.setattr(reference, "repository", lambda: tmp_path)
    monkeypatch.setattr(reference, "planned", lambda: [spec])
    with pytest.raises(BadInput, match="no reference result"):
        reference.load(spec)
    with pytest.raises(BadInput, match="make reference"):
        results.reference("lagging-synthetic", "vae", "smoke")
    evaluations = reference.repeat_evaluation(run, 3, 8)
    assert len({one["nll"] for one in evaluations}) == 3
    assert len({one["kl"] for one in evaluations}) == 1  # a closed form
    path = reference.export(run, evaluations)
    found = results.reference("lagging-synthetic", "vae", "smoke")[0]
    assert found.metrics == run.metrics and found.evaluations == evaluations
    assert found.provenance["kind"] == "reference"
    np.testing.assert_array_equal(found.arrays["final_model_mean"], run.arrays["final_model_mean"])
    whole = path.with_suffix(".npz").read_bytes()
    place = len(whole) // 2
    flipped = bytes([*whole[:place], whole[place] ^ 255, *whole[place + 1 :]])
    for damaged in (b"no arrays", b"", whole[: len(whole) // 2], flipped):
        path.with_suffix(".npz").write_bytes(damaged)
        with pytest.raises(BadInput, match="damaged"):
            reference.load(spec)
    path.with_suffix(".npz").write_bytes(whole)
    content = json.loads(path.read_text())
    other = json.loads(path.read_text())
    other["metrics"]["nll"] += 1e-6  # a valid number, and not the one that was measured
    path.write_text(json.dumps(other))
    with pytest.raises(BadInput, match="damaged"):
        reference.load(spec)
    del content["history"]
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput, match="damaged"):
        reference.load(spec)


def test_kept_reference_results_are_whole() -> None:
    for spec in reference.planned():
        if reference._path(spec).is_file():
            found = reference.load(spec)
            assert found.provenance["spec"] == spec.__dict__
            if spec.setup.grid_points:
                assert set(found.arrays) >= {"grid_iteration", "final_model_mean"}
            assert np.isfinite(found.metrics["reconstruction"])
            text = json.dumps(found.provenance)
            assert "/home" not in text and "/work" not in text


def test_corpus_page_falls_back_to_the_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTERIOR_COLLAPSE_DATA", raising=False)
    assert corpus.recipe("auto") == "text-grammar"
    assert corpus.recipe("yahoo") == "text-yahoo"
    assert "grammar" in corpus.card("text-grammar").to_string()


def test_corpus_verdicts_follow_the_measures() -> None:
    good = {
        "vae": [made("vae", s, collapsed=True) for s in range(3)],
        "lagging": [made("lagging", s, collapsed=False) for s in range(3)],
    }
    assert [f.verdict for f in corpus.decide(good)] == [Verdict.HOLDS, Verdict.HOLDS]
    bad = {**good, "lagging": [made("lagging", s, collapsed=True) for s in range(3)]}
    assert corpus.decide(bad)[1].verdict is Verdict.FAILS


@pytest.mark.parametrize("name", ["mean-space", "trajectories"])
def test_a_page_asks_for_the_runs_that_it_shows_and_no_others(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training is minutes, so none is made for a figure that shows reference results."""
    book = json.loads(
        (root / "notebooks" / "lagging" / f"{name}.ipynb").read_text(encoding="utf-8")
    )
    code = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    [loads] = [cell for cell in code if "results.this_build(" in cell]
    trained: set[tuple[str, str]] = set()

    def built(page: Page, recipe: str, method: str) -> list[Result]:
        trained.add((recipe, method))
        return [made(method, 0, collapsed=method == "vae")]

    monkeypatch.setattr(results, "this_build", built)
    exec(loads, {"page": Page("quick", (0,), "cpu")})
    asked = book["metadata"]["posterior_collapse"]["runs"]
    assert trained == {(one["recipe"], method) for one in asked for method in one["methods"]}
