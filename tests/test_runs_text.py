"""What a text model writes and what its codes tell of labels: measures of a run's end."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from companion.claims import reference
from posterior_collapse import datasets
from posterior_collapse.datasets import EOS, Split, arrays
from posterior_collapse.networks import VAE
from posterior_collapse.posteriors import DiagonalNormal
from posterior_collapse.recipes import Wording
from posterior_collapse.runs import Spec, build_model, measure, text, train_or_load
from posterior_collapse.runs.spec import load_data
from posterior_collapse.text import decoding, tasks
from posterior_collapse.text import metrics as text_metrics
from posterior_collapse.training.semi_amortised import Refined

SPEC = Spec("igp-grammar", "igp+target-kl(c=5, ramp=4)", "smoke")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def split_of(*sentences: list[int], labels: list[int] | None = None) -> Split:
    """Sentences as they are given, padded."""
    longest = max(map(len, sentences))
    tokens = torch.tensor([[*s, *[0] * (longest - len(s))] for s in sentences])
    lengths = torch.tensor([len(s) for s in sentences])
    return Split(tokens, lengths, None if labels is None else torch.tensor(labels))


@pytest.fixture(scope="module")
def data() -> datasets.TextDataset:
    found = load_data(SPEC.setup)
    assert isinstance(found, datasets.TextDataset)
    return found


@pytest.fixture(scope="module")
def model() -> VAE:
    """A model whose codes differ, and whose decoder listens to them, as if it were trained."""
    made = build_model(SPEC)
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters()):
            parameter.copy_(1.5 * torch.randn(parameter.shape, generator=generator(number)))
    return made.eval()


# --- the aggregated posterior ---------------------------------------------------------------------


class Known:
    """A stand-in for a model whose posteriors are given sentence by sentence."""

    training = False

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        self.mean, self.std = mean, std

    def posterior(self, tokens: torch.Tensor) -> DiagonalNormal:
        rows = tokens[:, 1]
        return DiagonalNormal(self.mean[rows], 2.0 * self.std[rows].log())


def test_shape_of_a_known_mixture() -> None:
    """Against numpy's covariance of many draws, and in closed form for one Gaussian."""
    mean = torch.randn(6, 3, generator=generator(), dtype=torch.float64) + 1.0
    std = 0.5 + torch.rand(6, 3, generator=generator(1), dtype=torch.float64)
    part = split_of(*([1, row, 9, 2][: 3 + row % 2] for row in range(6)))
    known: Any = Known(mean, std)
    found = text._shape(known, part)
    noise = np.random.default_rng(0).standard_normal((200_000, 6, 3))
    draws = (mean.numpy() + std.numpy() * noise).reshape(-1, 3)
    expected = np.linalg.slogdet(np.cov(draws.T)).logabsdet
    assert found["log_det_covariance"] == pytest.approx(expected, abs=5e-3)
    assert found["squared_mean"] == pytest.approx(float(mean.mean(0).square().sum()), rel=1e-12)
    same: Any = Known(mean[:1].expand(6, 3), std[:1].expand(6, 3))
    alone = text._shape(same, part)
    assert alone["log_det_covariance"] == pytest.approx(2.0 * float(std[0].log().sum()), abs=1e-9)
    assert alone["squared_mean"] == pytest.approx(float(mean[0].square().sum()), rel=1e-12)


def test_shape_needs_a_gaussian(data: datasets.TextDataset) -> None:
    point = build_model(Spec("igp-grammar", "ae", "smoke")).eval()
    assert text._shape(point, data.test) == {}


# --- written text ---------------------------------------------------------------------------------


def test_faults_of_a_known_text() -> None:
    split = split_of([1, 5, EOS], [1, 5, datasets.UNK, 7], [1, EOS], [1, datasets.UNK, 9, EOS])
    assert text._faults(split, "x_") == {
        "x_ended": 3 / 4,
        "x_empty": 1 / 4,
        "x_unknown": pytest.approx(2 / 6),
    }
    assert text._faults(split_of([1, EOS]), "") == {"ended": 1.0, "empty": 1.0, "unknown": 0.0}


def test_marks_are_no_words(data: datasets.TextDataset) -> None:
    """The grammar writes no marks, so one of its words is made one."""
    own = list(data.vocabulary.words[len(arrays.MARKS) :])
    data = replace(data, vocabulary=datasets.Vocabulary((*own[:-1], ".")))
    words = data.vocabulary.words
    mark = words.index(".")
    rows = [[1, 5, 6, mark, EOS], [1, 5, 6, 7], [1, EOS], [1, datasets.UNK, mark, mark, EOS]]
    found = text._plain_words(data, split_of(*rows))
    plain = [
        sum(any(c.isalnum() for c in words[w]) for w in row if w not in (1, EOS)) for row in rows
    ]
    assert found.tolist() == plain and found[2] == 0


def test_likeness_is_that_of_text_metrics() -> None:
    wanted = split_of([1, 5, 6, 7, 8, 9, EOS], [1, 5, 5, 5, 6, EOS])
    written = split_of([1, 5, 6, 7, 8, 9, EOS], [1, 5, 5, 6, 6, EOS])
    found = text._likeness(written, wanted, "a_")
    rows = text_metrics.of_split(written), text_metrics.of_split(wanted)
    assert found["a_bleu_2"] == pytest.approx(text_metrics.bleu(*rows, order=2))
    assert found["a_exact"] == 0.5
    # (5, 5) and (5, 6) of three sets each of the second: shared 2 of {55, 56, 66} and {55, 56}.
    assert found["a_rouge_sets_2"] == pytest.approx((1.0 + 2 * 2 / 5) / 2)
    # Counted: 55, 56, 66 against 55, 55, 56.
    assert found["a_rouge_2"] == pytest.approx((1.0 + 2 * 2 / 6) / 2)


def by_hand_f1(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    shared = (Counter(one) & Counter(other)).total()
    return 2.0 * shared / (len(one) + len(other)) if one or other else 1.0


def test_between_is_counted_by_hand(
    data: datasets.TextDataset, model: VAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of sentences that are given: overlap of neighbours, and how many differ."""
    lines = [
        [[5], [5], [5, 6], [5, 6], [6], [6], [6]],  # three different ones
        [[7, 8], *[[]] * 6],
    ]
    tokens = [[1, *words, EOS] for line in lines for words in line]
    given = split_of(*tokens)
    written = SimpleNamespace(split=lambda: given)
    monkeypatch.setattr(tasks, "interpolate", lambda *_, **__: written)
    found = text._between(data, model, text._head(data.test, 4), generator())
    rows = text_metrics.of_split(given)
    scores = [
        by_hand_f1(rows[7 * line + place], rows[7 * line + place + 1])
        for line in range(2)
        for place in range(6)
    ]
    assert found.metrics["interpolation_overlap"] == pytest.approx(np.mean(scores))
    assert found.metrics["interpolation_distinct"] == pytest.approx((3 / 7 + 2 / 7) / 2)
    assert found.metrics["interpolation_ends"] == 0.0
    words = data.vocabulary.words
    shown = [" ".join(words[one] for one in row) for row in lines[0]]
    assert found.arrays["text_interpolation"].tolist() == shown


def test_between_starts_and_ends_at_neighbours(data: datasets.TextDataset, model: VAE) -> None:
    """Without a stand-in: the first line leads from the first code to the one half a split on."""
    part = text._head(data.test, 6)
    found = text._between(data, model, part, generator())
    longest = int(data.train.lengths.max())
    codes = tasks.encode(model, part, generator())
    ends = decoding.greedy(model, codes[[0, 3]], generator(), max_length=longest).split()
    words = data.vocabulary.words
    shown = [" ".join(words[int(one)] for one in row) for row in text_metrics.of_split(ends)]
    assert [found.arrays["text_interpolation"][place] for place in (0, -1)] == shown
    assert 1 / 7 <= found.metrics["interpolation_distinct"] <= 1.0


def test_variety_of_a_known_text() -> None:
    written = split_of([1, 5, 6, 5, EOS], [1, 5, 6, 5, EOS], [1, 7, EOS])
    training = split_of([1, 5, 6, 8, EOS], [1, 9, EOS])
    found = text._variety(written, training, "x_")
    assert found["x_words"] == pytest.approx(7 / 3)
    assert found["x_different"] == pytest.approx(2 / 3)
    assert found["x_distinct_1"] == pytest.approx(3 / 7)
    assert found["x_distinct_2"] == pytest.approx(2 / 4)  # 56, 65 twice each
    assert found["x_gram_2"] == pytest.approx(2 / 4)  # 56 is known, 65 is not
    assert found["x_gram_3"] == 0.0 and "x_gram_4" not in found  # no sentence has four words
    shares = [count / 7 for count in (4, 2, 1)]
    assert found["x_entropy"] == pytest.approx(-sum(p * math.log(p) for p in shares))


# --- language models ------------------------------------------------------------------------------


def test_a_language_model_learns(data: datasets.TextDataset) -> None:
    """Its perplexity falls below a uniform one, and below that of fewer epochs; seeds decide it."""
    few, more = (text.language_model(SPEC, data.train, epochs) for epochs in (1, 12))
    measured = [text_metrics.perplexity(one, data.test) for one in (few, more)]
    assert measured[1] < measured[0] and measured[1] < 0.7 * data.size
    again = text.language_model(SPEC, data.train, 1)
    assert text_metrics.perplexity(again, data.test) == measured[0]
    before = torch.random.get_rng_state()
    text.language_model(SPEC, data.train.take(torch.arange(20)), 1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_nats_of_sentences_sum_to_the_perplexity(data: datasets.TextDataset) -> None:
    judge = text.language_model(SPEC, data.train, 1)
    part = text._head(data.test, 17)
    nats = text_metrics.sentence_nats(judge, part)
    words = int((part.lengths - 1).sum())
    expected = text_metrics.perplexity(judge, part)
    assert math.exp(float(nats.sum()) / words) == pytest.approx(expected, rel=1e-5)
    alone = [
        text_metrics.sentence_nats(judge, part.take(torch.tensor([row])))[0]
        for row in range(len(part))
    ]
    torch.testing.assert_close(nats, torch.stack(alone), rtol=1e-5, atol=1e-4)


# --- labels ---------------------------------------------------------------------------------------


def test_few_shot_counts_its_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of 2000, and at least as many as classes; several choices of some, one of all."""
    seen: list[tuple[int, int]] = []

    def probe(features: Any, labels: Any, *_: Any) -> Any:
        seen.append((len(features), len(labels)))
        return SimpleNamespace(accuracy=float(len(features)))

    monkeypatch.setattr(text, "linear_probe", probe)
    train, labels = torch.randn(2000, 2, generator=generator()), torch.arange(2000) % 5
    found = text._few_shot(train, labels, train, labels)
    sizes = (5, 20, 200)
    assert seen == [(n, n) for n in sizes for _ in range(text._SUBSETS)] + [(2000, 2000)]
    assert found == {
        "few_shot_0.001": 5.0,
        "few_shot_0.01": 20.0,
        "few_shot_0.1": 200.0,
        "few_shot_1": 2000.0,
    }


def test_few_shot_of_codes_that_are_the_labels() -> None:
    labels = torch.arange(600) % 3
    codes = torch.nn.functional.one_hot(labels).double()
    codes = codes + 0.01 * torch.randn(600, 3, generator=generator(), dtype=torch.float64)
    found = text._few_shot(codes, labels, codes, labels)
    few = found.pop("few_shot_0.001")  # three examples may not have all three classes
    assert set(found.values()) == {1.0} and 1 / 3 <= few < 1.0
    noise = torch.randn(600, 3, generator=generator(1))
    assert text._few_shot(noise, labels, noise.flip(0), labels)["few_shot_1"] < 0.5


def test_agreement_of_known_texts() -> None:
    """Label 0 has word 5 and label 1 word 6: kept in half of the reconstructions."""
    rows = [[1, 5 + n % 2, 9, EOS] for n in range(40)]
    train = split_of(*rows, labels=[n % 2 for n in range(40)])
    part = train.take(torch.arange(8))
    swapped = split_of(*([1, 5, 9, EOS] for _ in range(8)))  # all look like label 0
    found = text._agreement(train, part, part, swapped)
    assert found["agreement_original"] == found["agreement_reconstruction"] == 1.0
    # F1 of class 0 is 2 * 4 / (8 + 4), that of class 1 is 0.
    assert found["agreement_imputed"] == pytest.approx((2 / 3) / 2)


# --- runs -----------------------------------------------------------------------------------------

_LABELLED = ("codes_linear", "few_shot_1", "agreement_original", "robust_dropped")


def test_a_run_measures_everything_that_pages_ask_for(store: Path) -> None:
    run = train_or_load(SPEC, "cpu", False)
    metrics, arrays = run.metrics, run.arrays
    for name in (
        *(f"reconstruction_bleu_{n}" for n in (1, 2, 4)),
        *(f"reconstruction_rouge_{n}" for n in (2, 4)),
        *(f"reconstruction_rouge_sets_{n}" for n in (2, 4)),
        *(f"imputed_{way}_bleu_2" for way in ("ends", "hidden")),
        *(
            f"{way}_{side}_perplexity"
            for way, side in itertools.product(("greedy", "sampled"), ("forward", "reverse"))
        ),
        *("log_det_covariance", "squared_mean", "interpolation_overlap", "real_perplexity"),
        *("silhouette_codes", "silhouette_plane", *_LABELLED),
    ):
        assert math.isfinite(metrics[name]), name
    json.dumps(metrics, allow_nan=False)
    assert len(arrays["text_source"]) == len(arrays["text_reconstruction"]) == 5
    assert arrays["tsne"].shape == (48, 2) and arrays["tsne_label"].shape == (48,)
    assert arrays["code_mean"].shape == arrays["code_std"].shape == (24, 3)
    judged = [arrays[f"greedy_judged_{name}"] for name in ("nats", "tokens", "words")]
    assert {len(one) for one in judged} == {40}
    assert (judged[2] <= judged[1]).all()
    perplexity = math.exp(judged[0].sum() / judged[1].sum())
    assert metrics["greedy_forward_perplexity"] == pytest.approx(perplexity, rel=1e-5)
    # The judge is a run of its own, which all methods share.
    judge = train_or_load(replace(SPEC, method="lstm-lm", seed=0), "cpu", False)
    model = build_model(judge.spec)
    model.load_state_dict(judge.weights())
    data = load_data(SPEC.setup)
    assert isinstance(data, datasets.TextDataset)
    real = text_metrics.perplexity(model, data.test)
    assert metrics["real_perplexity"] == pytest.approx(real, rel=1e-6)
    # What pages show of a reference result is kept with it.
    shown = {"code_mean", "code_std", "tsne", "tsne_label", "text_source", "text_cut_ends"}
    shown |= {"text_reconstruction", "text_imputed_ends", "text_greedy"}
    assert shown <= set(arrays) & set(reference._ARRAYS)


def fake_spec(**changed: Any) -> Any:
    setup = replace(SPEC.setup, **changed)
    return SimpleNamespace(setup=setup, choices=SPEC.choices, seed=0, method=SPEC.method)


def no_judge() -> VAE:
    raise AssertionError("nothing is judged here")


def test_without_labels_nothing_labelled_is_measured(
    data: datasets.TextDataset, model: VAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = replace(
        data, **{part: replace(getattr(data, part), labels=None) for part in ("train", "test")}
    )
    spec = fake_spec(wording=Wording(12, 0, 0))
    monkeypatch.setattr(text, "load_data", lambda setup: bare)
    without = text.measure_text(spec, model, generator(), no_judge)
    monkeypatch.setattr(text, "load_data", lambda setup: data)
    with_labels = text.measure_text(spec, model, generator(), no_judge)
    for name in (*_LABELLED, "silhouette_codes", "robust_clean"):
        assert name in with_labels.metrics and name not in without.metrics
    assert "tsne" in with_labels.arrays and "tsne" not in without.arrays
    shared = set(without.metrics)
    assert shared < set(with_labels.metrics) and "reconstruction_bleu_4" in shared
    assert {name: with_labels.metrics[name] for name in shared} == without.metrics


def test_nothing_is_measured_where_nothing_is_asked_for(model: VAE) -> None:
    found = text.measure_text(fake_spec(wording=None), model, generator(), no_judge)
    assert found == text.Measured({}, {})
    silent = text.measure_text(fake_spec(wording=Wording(0, 0, 0)), model, generator(), no_judge)
    assert silent == text.Measured({}, {})


def test_a_language_model_does_not_judge_itself(store: Path) -> None:
    run = train_or_load(replace(SPEC, method="lstm-lm"), "cpu", False)
    assert "greedy_words" in run.metrics and "real_perplexity" not in run.metrics
    assert not any("reconstruction_bleu" in name or "codes_" in name for name in run.metrics)


def test_measures_of_text_are_of_the_posterior_that_is_evaluated(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Semi-amortised inference goes on after the encoder, for words and codes too."""
    spec = replace(SPEC, method="sa-vae(steps=2)")
    seen: list[object] = []
    wanted = measure.measure_text

    def seeing(spec: Spec, model: Any, *rest: Any) -> text.Measured:
        seen.append(model)
        return wanted(spec, model, *rest)

    monkeypatch.setattr(measure, "measure_text", seeing)
    run = train_or_load(spec, "cpu", False)
    assert isinstance(seen[0], Refined)
    model = build_model(spec)
    model.load_state_dict(run.weights())
    data = load_data(spec.setup)
    assert isinstance(data, datasets.TextDataset)
    part = data.test.take(torch.arange(24))
    rows = torch.cat(part.batch_rows(128))
    refined = spec.choices.training.evaluated(model.eval())
    codes = tasks.encode(refined, part, generator())[rows]  # type: ignore[arg-type]
    torch.testing.assert_close(torch.from_numpy(run.arrays["code_mean"]), codes)
    plain = tasks.encode(model, part, generator())[rows]
    assert not torch.equal(plain, codes)
