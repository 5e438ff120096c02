"""Generation: against an enumeration of all sentences, and against plain versions of the same."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from posterior_collapse import methods
from posterior_collapse import text as written
from posterior_collapse.datasets.arrays import BOS, EOS, PAD, UNK, Split
from posterior_collapse.errors import BadInput, PosteriorCollapseError
from posterior_collapse.networks import VAE, ImageNetwork, Latent, TextNetwork, build_vae
from posterior_collapse.posteriors import Delta, Diagonal, Flow, PointMass, Posterior, Scaled
from posterior_collapse.priors import Prior, ScaledStandardNormal, StandardNormal
from posterior_collapse.text import beam, decoding, tasks

DECODERS = {
    "greedy": decoding.greedy,
    "sample": decoding.sample,
    "beam": partial(beam.beam_search, width=3),
    "beam, normalised": partial(beam.beam_search, width=3, length_power=1.0),
}


def text_model(
    vocabulary: int = 6,
    latent_dim: int = 2,
    posterior: Posterior | None = None,
    prior: Prior | None = None,
    latent: Latent = Latent.INPUT,
    spread: float = 1.2,
) -> VAE:
    """A random model in float64, left in training mode with dropout that must not act."""
    torch.manual_seed(0)  # for priors that draw their initial values
    network, slots = TextNetwork(4, 5, 0.4), (posterior or Diagonal(), prior or StandardNormal())
    model = build_vae(network, vocabulary, latent_dim, *slots, latent).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-spread, spread, generator=generator)
    return model.train()


def codes(count: int, dim: int = 2, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=generator, dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def log_likelihood(model: VAE, words: Sequence[int], z: Tensor) -> float:
    """Of BOS and these words, by teacher forcing."""
    if not words:
        return 0.0
    model.eval()
    value = model.log_likelihood(torch.tensor([[BOS, *words]]), z.view(1, 1, -1)).item()
    model.train()
    return value


def next_words(model: VAE, words: Sequence[int], z: Tensor) -> list[float]:
    """log p(word | words, z) of every word, from teacher forcing alone."""
    size = model.decoder.embedding.num_embeddings
    before = log_likelihood(model, words, z)
    return [log_likelihood(model, [*words, w], z) - before for w in range(size)]


def sentences_of(found: decoding.Generated) -> list[tuple[int, ...]]:
    """Words after BOS of each row."""
    rows = zip(found.tokens.tolist(), found.lengths.tolist(), strict=True)
    return [tuple(row[1:length]) for row, length in rows]


def every_sentence(words: Sequence[int], most: int) -> list[tuple[int, ...]]:
    """All that end within ``most`` words, and all of ``most`` words that do not end."""
    ended = [(*inner, EOS) for n in range(most) for inner in itertools.product(words, repeat=n)]
    return ended + list(itertools.product(words, repeat=most))


def small_text(seed: int = 5, count: int = 23, vocabulary: int = 6) -> Split:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 9, (count,), generator=generator)
    tokens = torch.randint(UNK, vocabulary, (count, int(lengths.max())), generator=generator)
    place = torch.arange(tokens.shape[1])
    tokens[:, 0] = BOS
    tokens[place == lengths[:, None] - 1] = EOS
    return Split(tokens.masked_fill(place >= lengths[:, None], PAD), lengths)


# --- one step of the decoder ----------------------------------------------------------------------


@pytest.mark.parametrize("latent", list(Latent))
def test_steps_add_up_to_teacher_forcing(latent: Latent) -> None:
    model = text_model(7, latent=latent).eval()
    dim = 0 if latent is Latent.NONE else 2
    z = codes(9, dim)
    x = torch.randint(0, 7, (9, 6), generator=seeded())
    state, total = model.decoder.start(z), torch.zeros(9, dtype=torch.float64)
    for place in range(5):
        log_probability, state = model.decoder.step(x[:, place], state)
        assert log_probability.shape == (9, 7)
        torch.testing.assert_close(
            log_probability.exp().sum(-1), torch.ones_like(total), rtol=0, atol=1e-14
        )
        total = total + log_probability.gather(1, x[:, place + 1 : place + 2])[:, 0]
        forced = model.log_likelihood(x[:, : place + 2], z[None])[0]
        torch.testing.assert_close(total, forced, rtol=1e-13, atol=1e-13)
    total.sum().backward()
    stepped = [p.grad.clone() for p in model.decoder.parameters()]
    model.zero_grad()
    model.log_likelihood(x, z[None]).sum().backward()
    for one, other in zip(stepped, model.decoder.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, rtol=1e-11, atol=1e-12)


# --- what every decoder promises ------------------------------------------------------------------


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("latent", list(Latent))
def test_log_probabilities_are_the_models(name: str, latent: Latent) -> None:
    model = text_model(8, latent=latent)
    z = codes(40, 0 if latent is Latent.NONE else 2)
    found = DECODERS[name](model, z, seeded(), max_length=5)
    assert set(found.finished.tolist()) == {True, False} or latent is Latent.NONE
    own = [log_likelihood(model, s, c) for s, c in zip(sentences_of(found), z, strict=True)]
    torch.testing.assert_close(
        found.log_probabilities, torch.tensor(own, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("name", DECODERS)
def test_rows_are_stored_as_the_library_stores_text(name: str) -> None:
    model, z = text_model(8), codes(60)
    found = DECODERS[name](model, z, seeded(), max_length=6)
    assert found.tokens.dtype == found.lengths.dtype == torch.int64
    assert found.tokens.shape == (60, int(found.lengths.max()))
    assert torch.equal(found.z, z)
    for row, length, finished in zip(*(f.tolist() for f in found[:2]), found.finished, strict=True):
        assert row[0] == BOS and row[length:] == [PAD] * (len(row) - length)
        assert (row[length - 1] == EOS) == bool(finished)
        assert not {PAD, BOS, EOS} & set(row[1 : length - 1])
        assert finished or length == 7
    assert torch.equal(found.split().tokens, found.tokens)
    assert len(found.split()) == 60


@pytest.mark.parametrize("name", DECODERS)
def test_what_runs_together_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, z = text_model(8), codes(50)
    decode = partial(DECODERS[name], max_length=7)
    whole = decode(model, z, seeded())
    for places, entries in ((1, 2**21), (3, 2**21), (7, 2**21), (1024, 1), (1024, 100)):
        monkeypatch.setattr(decoding, "SENTENCES_PER_STEP", places)
        monkeypatch.setattr(decoding, "LOG_PROBABILITIES_PER_STEP", entries)
        parts = decode(model, z, seeded())
        assert torch.equal(parts.tokens, whole.tokens)
        assert torch.equal(parts.lengths, whole.lengths)
        torch.testing.assert_close(parts.log_probabilities, whole.log_probabilities)


@pytest.mark.parametrize("name", DECODERS)
def test_a_batch_of_one_and_of_none(name: str) -> None:
    model, z = text_model(8), codes(5)
    many = DECODERS[name](model, z, seeded(), max_length=5)
    one = DECODERS[name](model, z[:1], seeded(), max_length=5)
    assert sentences_of(one) == sentences_of(many)[:1]
    none = DECODERS[name](model, z[:0], seeded(), max_length=5)
    assert none.tokens.shape == (0, 1) and none.lengths.shape == (0,)


@pytest.mark.parametrize("name", DECODERS)
def test_time_and_memory_are_those_of_the_words(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row is decoded after its end, and never more rows than places."""
    model, z = text_model(8), codes(100)
    width = 3 if "beam" in name else 1
    monkeypatch.setattr(decoding, "SENTENCES_PER_STEP", 10)
    rows: list[int] = []
    step = model.decoder.step

    def counted(words: Tensor, state: object) -> object:
        rows.append(len(words))
        return step(words, state)

    monkeypatch.setattr(model.decoder, "step", counted)
    found = DECODERS[name](model, z, seeded(), max_length=30)
    words = int((found.lengths - 1).sum())
    assert max(rows) <= 10 * width
    if width == 1:
        assert sum(rows) == words
        # Places are refilled: the steps are far fewer than ten chunks of the longest.
        assert len(rows) < 2.5 * words / 10 + 30
    assert model.training


@pytest.mark.parametrize("name", DECODERS)
def test_randomness_comes_from_the_generator(name: str) -> None:
    model, z = text_model(8), codes(30)
    decode, state = DECODERS[name], torch.get_rng_state()
    generator = seeded(4)
    first = decode(model, z, generator, max_length=6)
    again = decode(model, z, seeded(4), max_length=6)
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.log_probabilities, again.log_probabilities)
    assert torch.equal(torch.get_rng_state(), state)
    untouched = torch.equal(generator.get_state(), seeded(4).get_state())
    assert untouched == (name != "sample")
    if name == "sample":
        assert not torch.equal(first.tokens, decode(model, z, seeded(5), max_length=6).tokens)


@pytest.mark.parametrize("name", DECODERS)
def test_max_length_cuts_and_eos_ends(name: str) -> None:
    model, z = text_model(8), codes(20)
    one = DECODERS[name](model, z, seeded(), max_length=1)
    assert torch.equal(one.lengths, torch.full((20,), 2))
    assert torch.equal(one.finished, one.tokens[:, 1] == EOS)
    others = [word for word in range(8) if word != EOS]
    only_end = DECODERS[name](model, z, seeded(), forbidden=others)
    assert only_end.tokens.tolist() == [[BOS, EOS]] * 20
    assert only_end.finished.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_dtype_of_the_model(dtype: torch.dtype) -> None:
    model = text_model(8).to(dtype)
    for decode in DECODERS.values():
        found = decode(model, codes(4).to(dtype), seeded(), max_length=4)
        assert found.log_probabilities.dtype == found.z.dtype == dtype
        assert not found.log_probabilities.requires_grad


# --- greedy ---------------------------------------------------------------------------------------


def plain_greedy(model: VAE, z: Tensor, most: int, forbidden: Sequence[int]) -> tuple[int, ...]:
    words: list[int] = []
    while len(words) < most and EOS not in words:
        scores = next_words(model, words, z)
        words.append(max(set(range(len(scores))) - set(forbidden), key=scores.__getitem__))
    return tuple(words)


@pytest.mark.parametrize("forbidden", [(), (PAD, BOS), (PAD, BOS, UNK)])
def test_greedy_takes_the_best_word_at_every_step(forbidden: tuple[int, ...]) -> None:
    model, z = text_model(7), codes(12)
    found = decoding.greedy(model, z, max_length=5, forbidden=forbidden)
    expected = [plain_greedy(model, one, 5, forbidden) for one in z]
    assert sentences_of(found) == expected
    assert len(set(expected)) > 2


# --- sampling -------------------------------------------------------------------------------------


def plain_filter(
    scores: Sequence[float],
    forbidden: Sequence[int],
    temperature: float,
    top_k: int | None,
    nucleus: float,
) -> dict[int, float]:
    """Probabilities of the words that may be drawn, as the docstring of ``sample`` says."""
    weights = {w: math.exp(s / temperature) for w, s in enumerate(scores) if w not in forbidden}
    order = sorted(weights, key=weights.__getitem__, reverse=True)[:top_k]
    total, kept, share = sum(weights[w] for w in order), [], 0.0
    for word in order:
        kept.append(word)
        share += weights[word] / total
        if share >= nucleus and nucleus < 1.0:
            break
    total = sum(weights[w] for w in kept)
    return {w: weights[w] / total for w in kept}


def exact_distribution(
    model: VAE, z: Tensor, most: int, choose: Callable[[list[float]], dict[int, float]]
) -> dict[tuple[int, ...], float]:
    """Probability of each sentence that sampling can give."""
    found: dict[tuple[int, ...], float] = {}
    waiting: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    while waiting:
        words, probability = waiting.pop()
        if len(words) == most or EOS in words:
            found[words] = probability
            continue
        chosen = choose(next_words(model, words, z))
        waiting += [((*words, w), probability * share) for w, share in chosen.items()]
    return found


SAMPLINGS = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.5},
    {"top_k": 1},
    {"top_k": 2},
    {"top_k": 100},
    {"nucleus": 0.05},
    {"nucleus": 0.6},
    {"nucleus": 0.9, "temperature": 1.5},
    {"top_k": 3, "nucleus": 0.7, "temperature": 0.8},
    {"nucleus": 1.0, "top_k": 3},
]


@pytest.mark.parametrize("choice", SAMPLINGS, ids=str)
@pytest.mark.parametrize("forbidden", [(PAD, BOS), ()])
def test_samples_have_exact_frequencies(
    choice: dict[str, float], forbidden: tuple[int, ...]
) -> None:
    model, z = text_model(6, spread=0.9), codes(1)[0]
    most, count = 3, 20_000
    full = {"temperature": 1.0, "top_k": None, "nucleus": 1.0} | choice
    exact = exact_distribution(
        model, z, most, lambda scores: plain_filter(scores, forbidden, **full)
    )
    assert math.isclose(sum(exact.values()), 1.0)
    found = decoding.sample(
        model, z.expand(count, -1), seeded(7), max_length=most, forbidden=forbidden, **choice
    )
    seen = Counter(sentences_of(found))
    assert set(seen) <= set(exact)
    likely = {s for s, p in exact.items() if p * count > 25}
    assert likely <= set(seen)
    rest = 1.0 - sum(exact[s] for s in likely)
    cells = [(seen[s], exact[s] * count) for s in likely]
    if rest * count > 5:
        cells.append((count - sum(seen[s] for s in likely), rest * count))
    statistic = sum((n - e) ** 2 / e for n, e in cells)
    freedom = max(1, len(cells) - 1)
    assert statistic < freedom + 5.0 * math.sqrt(2.0 * freedom)
    for n, e in cells:
        assert abs(n - e) <= 5.0 * math.sqrt(e) + 1e-9


def test_a_low_temperature_and_one_word_are_greedy() -> None:
    model, z = text_model(8), codes(40)
    greedy = decoding.greedy(model, z, max_length=6)
    for choice in ({"temperature": 1e-4}, {"temperature": 1e-320}, {"top_k": 1}, {"nucleus": 1e-9}):
        found = decoding.sample(model, z, seeded(), max_length=6, **choice)
        assert torch.equal(found.tokens, greedy.tokens), choice


@pytest.mark.parametrize("nucleus", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("vocabulary", [200, 1000])
def test_one_sentence_whose_nucleus_ends_late_is_drawn(vocabulary: int, nucleus: float) -> None:
    """No row of the batch ends its nucleus among the first words that are looked at."""
    model = text_model(vocabulary, spread=0.01)  # nearly uniform
    for count in (1, 3):
        codes = tasks.prior_codes(model, count, seeded())
        found = decoding.sample(model, codes, seeded(), nucleus=nucleus, max_length=4)
        assert found.log_probabilities.isfinite().all()


@pytest.mark.parametrize("choice", [{}, {"top_k": 3}, {"nucleus": 0.5}, {"temperature": 0.9}])
def test_words_are_drawn_where_the_forbidden_ones_have_all_the_probability(choice: Any) -> None:
    model = text_model()
    with torch.no_grad():
        model.decoder.words.weight.mul_(0.0)  # type: ignore[union-attr,operator]
    start = model.decoder.step

    def step(words: torch.Tensor, state: Any) -> Any:
        log_probability, after = start(words, state)
        log_probability[:, 0] += 2000.0
        return log_probability.log_softmax(-1), after

    model.decoder.step = step  # type: ignore[method-assign,assignment]
    codes = tasks.prior_codes(model, 4, seeded())
    found = decoding.sample(model, codes, seeded(), max_length=3, **choice)
    assert not (found.tokens[:, 1] == 0).any()


@pytest.mark.parametrize("way", ["greedy", "sample", "beam_search"])
def test_a_model_of_nan_is_told(way: str) -> None:
    model = text_model()
    with torch.no_grad():
        model.decoder.words.weight.fill_(math.nan)  # type: ignore[union-attr,operator]
    codes = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(PosteriorCollapseError, match="may hold nan"):
        getattr(written, way)(model, codes, seeded())
    if way == "sample":
        with pytest.raises(PosteriorCollapseError, match="may hold nan"):
            decoding.sample(model, codes, seeded(), nucleus=0.5)


@pytest.mark.parametrize("sharpness", [0.05, 1.0, 6.0])
@pytest.mark.parametrize("nucleus", [0.001, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("top_k", [None, 5, 400])
def test_the_nucleus_is_the_smallest_set(
    sharpness: float, nucleus: float, top_k: int | None
) -> None:
    logits = sharpness * torch.randn(4, 1000, generator=seeded(2), dtype=torch.float64)
    mass = None if top_k else logits.exp().sum(-1)
    for number in [top_k] if top_k else [1, 64, 512, 1000]:
        likely = decoding._likely(logits, number, nucleus, mass if number < 1000 else None)
        for row in range(4):
            scores = logits[row].tolist()
            expected = plain_filter(scores, (), 1.0, top_k, nucleus)
            drawn = set(likely.words[row][likely.weights[row] > 0].tolist())
            assert bool(likely.complete[row]) == (len(expected) <= number)
            assert drawn == (set(expected) if likely.complete[row] else drawn & set(expected))
            assert len(drawn) == min(number, len(expected))


@pytest.mark.parametrize("nucleus", [0.3, 0.9, 0.999])
def test_rows_whose_nuclei_end_at_different_words_are_drawn_alike(nucleus: float) -> None:
    """Flat and sharp rows together, against inversion over each row's own sorted nucleus."""
    sharpness = torch.tensor([0.01, 0.5, 2.0, 5.0, 12.0], dtype=torch.float64).repeat(200)
    logits = sharpness[:, None] * torch.randn(1000, 900, generator=seeded(2), dtype=torch.float64)
    uniform = torch.rand(1000, generator=seeded(3), dtype=torch.float64)
    drawn = decoding._draw_likely(logits, uniform, None, nucleus)
    ends = set()
    for row, value, word in zip(logits.tolist(), uniform.tolist(), drawn.tolist(), strict=True):
        expected = plain_filter(row, (), 1.0, None, nucleus)
        ends.add(sum(len(expected) > number for number in decoding._LOOKED_AT))
        running = itertools.accumulate(expected.values())  # the most probable first
        reached = zip(expected, running, strict=True)
        assert word == next(candidate for candidate, share in reached if share > value)
    assert len(ends) > 1 or nucleus == 0.999


@given(
    st.lists(st.sampled_from([0.0, 1e-30, 0.25, 1.0, 3.0]), min_size=1, max_size=400),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_inversion_agrees_with_running_sums(weights: list[float], uniform: float) -> None:
    weights[len(weights) // 2] = 0.5
    given_weights = torch.tensor([weights], dtype=torch.float64)
    found = int(decoding._invert(given_weights, torch.tensor([uniform], dtype=torch.float64)))
    assert weights[found] > 0.0
    target, total = uniform * math.fsum(weights), math.fsum(weights)
    before = math.fsum(weights[:found])
    assert before - 1e-12 * total <= target <= before + weights[found] + 1e-12 * total


def test_inversion_at_the_ends_draws_no_word_of_weight_zero() -> None:
    weights = torch.zeros(1, 1000)
    weights[0, 300:700] = torch.rand(400, generator=seeded())
    weights[0, [300, 699]] = 0.0
    for value, expected in ((0.0, 301), (1.0 - 2.0**-53, 698)):
        uniform = torch.tensor([value], dtype=torch.float64)
        assert int(decoding._invert(weights, uniform)) == expected


# --- beam search ----------------------------------------------------------------------------------


def best_of_all(
    model: VAE, z: Tensor, most: int, power: float, words: Sequence[int]
) -> tuple[int, ...]:
    """The ended sentence of the highest normalised log-probability."""
    ended = [s for s in every_sentence(words, most) if s[-1] == EOS]
    return max(ended, key=lambda s: log_likelihood(model, s, z) / len(s) ** power)


@pytest.mark.parametrize("power", [0.0, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("vocabulary", [5, 6])
def test_a_wide_beam_finds_the_best_sentence_there_is(vocabulary: int, power: float) -> None:
    model, z = text_model(vocabulary), codes(6)
    words, most = range(UNK, vocabulary), 4
    width = len(every_sentence(words, most))
    found = beam.beam_search(model, z, width=width, length_power=power, max_length=most)
    expected = [best_of_all(model, one, most, power, words) for one in z]
    assert sentences_of(found) == expected
    assert found.finished.all()


def plain_beam(
    model: VAE, z: Tensor, width: int, power: float, most: int
) -> tuple[tuple[int, ...], int]:
    """The search of one sentence in lists; never stops early. Also, how many sentences ended."""
    alive: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    ended: list[tuple[float, tuple[int, ...]]] = []
    places = width
    for _ in range(most):
        children = [
            (score + more, (*words, word))
            for score, words in alive
            for word, more in enumerate(next_words(model, words, z))
            if word not in (PAD, BOS)
        ]
        kept = sorted(children, reverse=True)[:places]
        alive = [one for one in kept if one[1][-1] != EOS]
        new = [one for one in kept if one[1][-1] == EOS]
        ended += new
        places -= len(new)
    if ended:
        return max(ended, key=lambda one: one[0] / len(one[1]) ** power)[1], len(ended)
    return max(alive)[1], 0


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_a_narrow_beam_keeps_what_a_plain_one_keeps(width: int, power: float) -> None:
    model, z = text_model(7, spread=1.0), codes(10)
    found = beam.beam_search(model, z, width=width, length_power=power, max_length=5)
    plain = [plain_beam(model, one, width, power, 5) for one in z]
    assert sentences_of(found) == [sentence for sentence, _ in plain]
    assert found.finished.tolist() == [ended > 0 for _, ended in plain]


def test_a_beam_of_one_is_greedy() -> None:
    model, z = text_model(8), codes(80)
    one = beam.beam_search(model, z, width=1, max_length=6)
    greedy = decoding.greedy(model, z, max_length=6)
    assert torch.equal(one.tokens, greedy.tokens)
    assert set(one.finished.tolist()) == {True, False}


def test_length_normalisation_prefers_longer_sentences() -> None:
    model, z = text_model(6, spread=0.8), codes(30)
    lengths = [
        beam.beam_search(model, z, width=200, length_power=power, max_length=5).lengths
        for power in (0.0, 0.5, 1.0, 2.0)
    ]
    for shorter, longer in itertools.pairwise(lengths):
        assert (shorter <= longer).all()
    assert (lengths[0] < lengths[-1]).any()


# --- codes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", [Diagonal(), PointMass(), Flow(), Scaled()], ids=str)
def test_means_are_what_the_decoder_sees(posterior: Posterior) -> None:
    model, text = text_model(6, posterior=posterior), small_text()
    if isinstance(posterior, Scaled):
        model.posterior_head.factor.copy_(torch.tensor([2.0, 0.5]))
    z = tasks.encode(model, text, seeded())
    model.eval()
    for row, length in enumerate(text.lengths.tolist()):
        with torch.no_grad():
            features = model.encoder(text.tokens[row : row + 1, :length])
            q = model.posterior(text.tokens[row : row + 1, :length])
            if isinstance(posterior, Scaled):
                expected = model.posterior_head.linear(features)[0, :2] * torch.tensor([2.0, 0.5])
            elif isinstance(posterior, Flow):
                expected = q.push(q.base.mean)[0]
            else:
                expected = q.location[0] if isinstance(q, Delta) else q.mean[0]
        torch.testing.assert_close(z[row], expected, rtol=1e-12, atol=1e-12)


def test_draws_of_the_posterior_come_from_the_generator() -> None:
    model, text = text_model(6), small_text(count=1)
    many = Split(text.tokens.expand(4000, -1), text.lengths.expand(4000))
    z = tasks.encode(model, many, seeded(2), tasks.posterior_draw)
    assert torch.equal(z, tasks.encode(model, many, seeded(2), tasks.posterior_draw))
    model.eval()
    q = model.posterior(text.tokens)
    error = (z.mean(0) - q.mean[0]).abs() / (q.stddev[0] / math.sqrt(4000))
    assert (error < 5.0).all()
    ratio = z.std(0) / q.stddev[0]
    assert ((ratio - 1.0).abs() < 5.0 / math.sqrt(2 * 4000)).all()


@pytest.mark.parametrize("prior", [StandardNormal(), ScaledStandardNormal()], ids=str)
def test_scale_vae_generates_from_scaled_draws(prior: Prior) -> None:
    model = text_model(6, posterior=Scaled(), prior=prior)
    factor = torch.tensor([3.0, 0.25], dtype=torch.float64)
    model.posterior_head.factor.copy_(factor)
    z = tasks.prior_codes(model, 50, seeded(8))
    normal = torch.randn(50, 2, generator=seeded(8), dtype=torch.float64)
    torch.testing.assert_close(z, factor * normal)
    found = tasks.from_prior(model, 50, seeded(8), decode=partial(decoding.greedy))
    assert torch.equal(found.z, z)
    assert torch.equal(found.tokens, decoding.greedy(model, z).tokens)


def test_scale_vae_reconstructs_from_scaled_means() -> None:
    model, text = text_model(6, posterior=Scaled()), small_text()
    plain = tasks.reconstruct(model, text, seeded())
    factor = torch.tensor([3.0, -0.25], dtype=torch.float64)
    model.posterior_head.factor.copy_(factor)
    scaled = tasks.reconstruct(model, text, seeded())
    torch.testing.assert_close(scaled.z, factor * plain.z)
    assert torch.equal(scaled.tokens, decoding.greedy(model, factor * plain.z).tokens)


@pytest.mark.parametrize("name", DECODERS)
def test_reconstruction_is_encoding_and_decoding_in_order(name: str) -> None:
    model, text = text_model(6), small_text()
    decode = partial(DECODERS[name], max_length=6)
    found = tasks.reconstruct(model, text, seeded(), decode=decode)
    z = tasks.encode(model, text, seeded())
    expected = decode(model, z, seeded())
    assert torch.equal(found.tokens, expected.tokens)
    for row, length in enumerate(text.lengths.tolist()):
        alone = tasks.encode(
            model, Split(text.tokens[row : row + 1, :length], text.lengths[row : row + 1]), seeded()
        )
        torch.testing.assert_close(alone[0], z[row])


def test_a_language_model_is_sampled_without_z() -> None:
    model = text_model(6, latent=Latent.NONE, spread=0.8)
    decode = partial(decoding.sample, max_length=3)
    found = tasks.from_prior(model, 5000, seeded(), decode=decode)
    assert found.z.shape == (5000, 0)
    z = torch.zeros(0, dtype=torch.float64)
    exact = exact_distribution(
        model, z, 3, lambda scores: plain_filter(scores, (PAD, BOS), 1.0, None, 1.0)
    )
    seen = Counter(sentences_of(found))
    for sentence, p in exact.items():
        assert abs(seen[sentence] - 5000 * p) <= 5.0 * math.sqrt(5000 * p) + 1.0


@pytest.mark.parametrize("name", methods.names())
def test_every_method_generates(name: str) -> None:
    chosen = methods.get(name)
    model = text_model(8, 3, chosen.posterior, chosen.prior, chosen.latent, spread=0.3)
    decode = partial(decoding.sample, max_length=4)
    found = tasks.from_prior(model, 7, seeded(), decode=decode)
    assert len(found.lengths) == 7 and torch.isfinite(found.log_probabilities).all()
    if chosen.latent is not Latent.NONE:
        for code in (tasks.posterior_mean, tasks.posterior_draw):
            again = tasks.reconstruct(model, small_text(), seeded(), code=code, decode=decode)
            assert torch.isfinite(again.log_probabilities).all()


# --- interpolation --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [tasks.linear, tasks.spherical])
def test_paths_begin_and_end_where_asked(path: Callable[..., Tensor]) -> None:
    start, end = codes(20, 5, 1), codes(20, 5, 2)
    found = path(start, end, 7)
    assert found.shape == (20, 7, 5)
    torch.testing.assert_close(found[:, 0], start, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(found[:, -1], end, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(path(end, start, 7), found.flip(1), rtol=1e-12, atol=1e-12)


def test_the_linear_path_has_even_steps() -> None:
    start, end = codes(20, 5, 1), codes(20, 5, 2)
    steps = tasks.linear(start, end, 9).diff(dim=1)
    torch.testing.assert_close(steps, ((end - start) / 8)[:, None].expand_as(steps))


def test_the_spherical_path_has_even_norms_and_angles() -> None:
    start, end = 3.0 * codes(20, 5, 1), codes(20, 5, 2)
    found = tasks.spherical(start, end, 9)
    weight = torch.linspace(0.0, 1.0, 9, dtype=torch.float64)
    norms = (1 - weight) * start.norm(dim=1)[:, None] + weight * end.norm(dim=1)[:, None]
    torch.testing.assert_close(found.norm(dim=-1), norms)
    unit = found / found.norm(dim=-1, keepdim=True)
    turned = (unit[:, 1:] * unit[:, :-1]).sum(-1).clamp(-1.0, 1.0).acos()
    whole = (unit[:, 0] * unit[:, -1]).sum(-1).clamp(-1.0, 1.0).acos()
    torch.testing.assert_close(turned, (whole / 8)[:, None].expand_as(turned))


def test_the_spherical_path_of_equal_norms_is_a_rotation() -> None:
    angle = torch.tensor([1e-9, 0.3, 2.0, 3.1415], dtype=torch.float64)
    start = torch.tensor([[2.0, 0.0]], dtype=torch.float64).expand(4, 2)
    end = 2.0 * torch.stack([angle.cos(), angle.sin()], 1)
    found = tasks.spherical(start, end, 11)
    at = angle[:, None] * torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
    expected = 2.0 * torch.stack([at.cos(), at.sin()], -1)
    # An angle near pi is known from its ends to about eps / (pi - angle).
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_the_spherical_path_of_equal_directions_is_a_line() -> None:
    start = codes(5, 4)
    torch.testing.assert_close(
        tasks.spherical(start, 2.0 * start, 6), tasks.linear(start, 2.0 * start, 6)
    )


@pytest.mark.parametrize("path", [tasks.linear, tasks.spherical])
def test_sentences_of_a_path_are_in_order(path: Callable[..., Tensor]) -> None:
    model, start, end = text_model(8), codes(3, seed=1), codes(3, seed=2)
    decode = partial(decoding.greedy, max_length=5)
    found = tasks.interpolate(model, start, end, 4, seeded(), path=path, decode=decode)
    assert len(found.lengths) == 12
    ends = decode(model, torch.cat([start, end]))
    assert sentences_of(found)[::4] == sentences_of(ends)[:3]
    assert sentences_of(found)[3::4] == sentences_of(ends)[3:]
    assert torch.equal(found.z, path(start, end, 4).flatten(0, 1))


# --- words that are taken away --------------------------------------------------------------------


def long_text(lengths: Sequence[int]) -> Split:
    """Sentences of the words 4, 5, 6, ... with these numbers of words."""
    width = max(lengths) + 2
    rows = [[BOS, *range(4, 4 + n), EOS] + [PAD] * (width - n - 2) for n in lengths]
    return Split(torch.tensor(rows), torch.tensor(lengths) + 2)


def words_of(split: Split) -> list[list[int]]:
    rows = zip(split.tokens.tolist(), split.lengths.tolist(), strict=True)
    for row, length in rows:
        assert row[0] == BOS and row[length - 1] == EOS
        assert row[length:] == [PAD] * (len(row) - length)
    return [
        row[1 : length - 1]
        for row, length in zip(split.tokens.tolist(), split.lengths.tolist(), strict=True)
    ]


CORRUPTIONS = (tasks.cut_ends, tasks.drop_words, tasks.hide_words)


def test_cut_ends_keeps_the_first_quarter_as_in_igp_table_5() -> None:
    # The two examples of the table have 25 and 27 words, of which 6 and 6 are shown.
    text = long_text([25, 27, 1, 0, 4])
    assert [len(words) for words in words_of(tasks.cut_ends(text))] == [6, 6, 0, 0, 1]
    for before, after in zip(words_of(text), words_of(tasks.cut_ends(text)), strict=True):
        assert after == before[: len(after)]


def test_dropped_words_are_random_and_the_rest_keeps_its_order() -> None:
    text = long_text([10] * 3000 + [3, 0, 1])
    found = words_of(tasks.drop_words(text, seeded()))
    assert [len(words) for words in found[-3:]] == [2, 0, 0]
    counts = Counter(word for words in found[:3000] for word in words)
    for words in found:
        assert words == sorted(words)
    for word in range(4, 14):
        assert abs(counts[word] - 2100) < 5.0 * math.sqrt(3000 * 0.7 * 0.3)
    assert all(len(words) == 7 for words in found[:3000])


def test_hidden_words_are_random_and_replaced_by_unk() -> None:
    text = long_text([8] * 2000 + [0])
    corrupted = tasks.hide_words(text, seeded())
    assert torch.equal(corrupted.lengths, text.lengths)
    seen: Counter[int] = Counter()
    for before, after in zip(words_of(text), words_of(corrupted), strict=True):
        stays = [place for place, word in enumerate(after) if word != UNK]
        assert all(after[place] == before[place] for place in stays)
        assert len(stays) == len(before) // 4
        seen.update(stays)
    for place in range(8):
        assert abs(seen[place] - 500) < 5.0 * math.sqrt(2000 * 0.25 * 0.75)


@pytest.mark.parametrize("corrupt", CORRUPTIONS)
def test_corruption_has_ends_and_leaves_its_input_alone(corrupt: Callable[..., Split]) -> None:
    text = small_text()
    labelled = Split(text.tokens, text.lengths, torch.arange(len(text)))
    before = text.tokens.clone()
    assert words_of(corrupt(labelled, seeded(), share=0.0)) == words_of(text)
    nothing = corrupt(labelled, seeded(), share=1.0)
    assert all(set(words) <= {UNK} for words in words_of(nothing))
    assert torch.equal(nothing.labels, labelled.labels)
    assert torch.equal(text.tokens, before)
    one, other = (corrupt(text, seeded(s), share=0.5) for s in (1, 1))
    assert torch.equal(one.tokens, other.tokens)
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(BadInput, match=r"share is in \[0, 1\], given"):
            corrupt(text, seeded(), share=share)


@pytest.mark.parametrize("corrupt", CORRUPTIONS)
def test_imputation_reconstructs_what_is_left(corrupt: Callable[..., Split]) -> None:
    model, text = text_model(6), small_text()
    decode = partial(decoding.greedy, max_length=6)
    found = tasks.impute(model, text, corrupt, seeded(3), decode=decode)
    assert torch.equal(found.corrupted.tokens, corrupt(text, seeded(3)).tokens)
    expected = tasks.reconstruct(model, found.corrupted, seeded(), decode=decode)
    assert torch.equal(found.generated.tokens, expected.tokens)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decode", "choice", "message"),
    [
        ("sample", {"temperature": 0.0}, "temperature is a positive number, given 0.0"),
        ("sample", {"temperature": -1.0}, "temperature is a positive number, given -1.0"),
        ("sample", {"temperature": math.nan}, "temperature is a positive number, given nan"),
        ("sample", {"temperature": math.inf}, "temperature is a positive number, given inf"),
        ("sample", {"top_k": 0}, "top_k is a whole number of at least 1, given 0"),
        ("sample", {"top_k": 2.5}, "top_k is a whole number of at least 1, given 2.5"),
        ("sample", {"nucleus": 0.0}, r"nucleus is a share in \(0, 1\], given 0.0"),
        ("sample", {"nucleus": 1.1}, r"nucleus is a share in \(0, 1\], given 1.1"),
        ("sample", {"nucleus": math.nan}, r"nucleus is a share in \(0, 1\], given nan"),
        ("beam_search", {"width": 0}, "width is a whole number of at least 1, given 0"),
        ("beam_search", {"width": True}, "width is a whole number of at least 1, given True"),
        ("beam_search", {"length_power": -1.0}, "length_power is a number of at least 0, given -1"),
        *(
            (name, choice, message)
            for name in ("greedy", "sample", "beam_search")
            for choice, message in (
                ({"max_length": 0}, "max_length is a whole number of at least 1, given 0"),
                ({"max_length": 3.0}, "max_length is a whole number of at least 1, given 3.0"),
                ({"forbidden": (0, 2)}, "ids in 0 .. 7 other than 2, .* given 2"),
                ({"forbidden": (8,)}, "ids in 0 .. 7 other than 2, .* given 8"),
            )
        ),
    ],
)
def test_numbers_out_of_range_are_refused(
    decode: str, choice: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        getattr(written, decode)(text_model(8), codes(3), seeded(), **choice)


@pytest.mark.parametrize("name", DECODERS)
def test_codes_that_do_not_fit_are_refused(name: str) -> None:
    for z in (codes(3, 5), codes(3)[0], codes(3)[None]):
        with pytest.raises(BadInput, match=r"z is \(N, 2\) for this model, given"):
            DECODERS[name](text_model(), z, seeded())
    with pytest.raises(BadInput, match="z must be finite, given nan"):
        DECODERS[name](text_model(), torch.full((1, 2), math.nan), seeded())


def test_image_models_are_refused() -> None:
    model = build_vae(ImageNetwork((4,)), 9, 2, Diagonal(), StandardNormal())
    message = "sentences come from a text model, .* given a model with ImageDecoder"
    z, text = codes(3).float(), small_text()
    calls: list[Callable[[], object]] = [
        *(partial(decode, model, z, seeded()) for decode in DECODERS.values()),
        lambda: tasks.from_prior(model, 3, seeded()),
        lambda: tasks.reconstruct(model, text, seeded()),
        lambda: tasks.interpolate(model, z, z, 3, seeded()),
        lambda: tasks.impute(model, text, tasks.cut_ends, seeded()),
        lambda: tasks.encode(model, text, seeded()),
    ]
    for call in calls:
        with pytest.raises(BadInput, match=message):
            call()


def test_a_language_model_has_no_codes() -> None:
    model, text, z = text_model(latent=Latent.NONE), small_text(), codes(3, 0)
    calls: list[Callable[[], object]] = [
        lambda: tasks.reconstruct(model, text, seeded()),
        lambda: tasks.interpolate(model, z, z, 3, seeded()),
        lambda: tasks.impute(model, text, tasks.cut_ends, seeded()),
        lambda: tasks.encode(model, text, seeded()),
    ]
    for call in calls:
        with pytest.raises(BadInput, match=r"needs a latent variable, .* none \(D = 0\)"):
            call()


def test_impossible_paths_are_refused() -> None:
    start = codes(3)
    for path in (tasks.linear, tasks.spherical):
        with pytest.raises(BadInput, match="points is a whole number of at least 2, given 1"):
            path(start, start, 1)
        with pytest.raises(BadInput, match=r"both \(N, D\), given \(3, 2\) and \(2, 2\)"):
            path(start, start[:2], 3)
    with pytest.raises(BadInput, match="other than 0"):
        tasks.spherical(start, torch.zeros_like(start), 3)
    opposite = start.clone()
    opposite[1] *= -2.0
    with pytest.raises(BadInput, match="codes of pair 1 are opposite"):
        tasks.spherical(start, opposite, 3)
    with pytest.raises(BadInput, match="count is a whole number of at least 1, given 0"):
        tasks.prior_codes(text_model(), 0, seeded())


def test_as_many_words_stay_as_a_share_says() -> None:
    """Against whole numbers: a hundredth of a share is exact there."""
    lengths = torch.arange(2, 203)
    split = Split(torch.zeros(len(lengths), 1, dtype=torch.long), lengths)
    for hundredths in range(101):
        kept = tasks._kept(split, hundredths / 100)
        assert kept.tolist() == [n * (100 - hundredths) // 100 for n in range(201)]
