"""Measures of text: counted by hand, and properties that hold for any text."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posterior_collapse.datasets.arrays import BOS, EOS, PAD, Split
from posterior_collapse.errors import BadInput
from posterior_collapse.networks import VAE, ImageNetwork, Latent, TextNetwork, build_vae
from posterior_collapse.posteriors import Diagonal
from posterior_collapse.priors import StandardNormal
from posterior_collapse.text import from_prior, sample
from posterior_collapse.text import metrics as text_metrics

Sentences = list[list[str]]

words = st.lists(st.sampled_from("abcd"), max_size=8)
pairs = st.lists(st.tuples(words, words), min_size=1, max_size=6)
PAIRED: dict[str, Callable[[Sequence[object], Sequence[object]], object]] = {
    **{f"bleu-{n}": lambda a, b, n=n: text_metrics.bleu(a, b, n) for n in (1, 2, 4)},
    **{f"rouge-{n}": lambda a, b, n=n: text_metrics.rouge(a, b, n) for n in (1, 2, 4)},
    **{f"sets-{n}": lambda a, b, n=n: text_metrics.rouge_sets(a, b, n) for n in (1, 2, 4)},
    "exact": text_metrics.exact_match,
}
SINGLE: dict[str, Callable[[Sequence[object]], float]] = {
    **{f"distinct-{n}": lambda a, n=n: text_metrics.distinct(a, n) for n in (1, 2, 3)},
    **{f"entropy-{n}": lambda a, n=n: text_metrics.entropy(a, n) for n in (1, 2)},
    **{f"gram-{n}": lambda a, n=n: text_metrics.gram(a, a, n) for n in (2, 3, 4)},
}


def plain_ngrams(sentence: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(sentence[start:] for start in range(n)), strict=False))


# --- BLEU -----------------------------------------------------------------------------------------


def test_bleu_of_a_sentence_counted_by_hand() -> None:
    # 5 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples; 5 words instead of 6.
    candidate, reference = ["the cat sat on mat"], ["the cat sat on the mat"]
    short = math.exp(1.0 - 6.0 / 5.0)
    assert text_metrics.bleu(candidate, reference, 1) == pytest.approx(100.0 * short)
    assert text_metrics.bleu(candidate, reference, 2) == pytest.approx(100 * short * 0.75**0.5)
    product = (3 / 4) * (2 / 3) * (1 / 2)
    assert text_metrics.bleu(candidate, reference, 4) == pytest.approx(100 * short * product**0.25)
    # The other way round 5 of 6 words, 3 of 5 pairs, and nothing is too short.
    assert text_metrics.bleu(reference, candidate, 2) == pytest.approx(
        100.0 * math.sqrt(5 / 6 * 3 / 5)
    )


def test_bleu_clips_repeated_words() -> None:
    # Papineni et al. 2002: "the" occurs twice in the reference, so 2 of 7 count.
    score = text_metrics.bleu(["the the the the the the the"], ["the cat is on the mat"], 1)
    assert score == pytest.approx(100.0 * 2 / 7)


def test_bleu_pools_counts_over_the_corpus() -> None:
    candidates, references = ["a b c", "x"], ["a b c", "y z"]
    # Words: 3 of 4, pairs: 2 of 2; 4 words instead of 5.
    expected = 100.0 * math.exp(1.0 - 5 / 4) * math.sqrt(3 / 4)
    assert text_metrics.bleu(candidates, references, 2) == pytest.approx(expected)


def test_bleu_without_smoothing_is_zero_where_an_order_has_no_match() -> None:
    assert text_metrics.bleu(["a b c d"], ["d c b a"], 1) == pytest.approx(100.0)
    assert text_metrics.bleu(["a b c d"], ["d c b a"], 2) == 0.0
    assert text_metrics.bleu(["a b c"], ["a b c"], 4) == 0.0
    assert text_metrics.bleu([""], ["a"], 1) == 0.0


def plain_bleu(candidates: Sentences, references: Sentences, order: int) -> float:
    logs = 0.0
    for n in range(1, order + 1):
        match = total = 0
        for written, wanted in zip(candidates, references, strict=True):
            ours, theirs = Counter(plain_ngrams(written, n)), Counter(plain_ngrams(wanted, n))
            match += sum(min(count, theirs[one]) for one, count in ours.items())
            total += sum(ours.values())
        if match == 0:
            return 0.0
        logs += math.log(match / total) / order
    ours, theirs = sum(map(len, candidates)), sum(map(len, references))
    return 100.0 * math.exp(logs + min(0.0, 1.0 - theirs / ours))


@given(pairs, st.sampled_from([1, 2, 4]))
def test_bleu_agrees_with_its_definition(
    given_pairs: list[tuple[list[str], list[str]]], order: int
) -> None:
    candidates, references = (list(side) for side in zip(*given_pairs, strict=True))
    found = text_metrics.bleu(candidates, references, order)
    assert found == pytest.approx(plain_bleu(candidates, references, order), abs=1e-9)


def test_marks_and_capitals_are_words_as_they_are() -> None:
    assert text_metrics.bleu(["<unk> , ."], ["<unk> , ."], 2) == pytest.approx(100.0)
    assert text_metrics.bleu(["It ' s"], ["it 's"], 1) == 0.0
    assert text_metrics.rouge(["don't"], ["don 't"], 1).f1 == 0.0


# --- ROUGE ----------------------------------------------------------------------------------------


def test_rouge_counted_by_hand() -> None:
    # Pairs of the candidate: ab bc ca ab; of the reference: ab ba ab bd de.
    candidate, reference = ["a b c a b"], ["a b a b d e"]
    found = text_metrics.rouge(candidate, reference, 2)
    assert found == pytest.approx((2 / 4, 2 / 5, 2 * (2 / 4) * (2 / 5) / (2 / 4 + 2 / 5)))
    # As sets: ab bc ca and ab ba bd de, with ab in both.
    found = text_metrics.rouge_sets(candidate, reference, 2)
    assert found == pytest.approx((1 / 3, 1 / 4, 2 * (1 / 3) * (1 / 4) / (1 / 3 + 1 / 4)))
    # Quadruples: abca bcab, and abab babd abde.
    assert text_metrics.rouge(candidate, reference, 4) == (0.0, 0.0, 0.0)


def test_overlap_is_rouge_but_for_two_empty_sentences() -> None:
    pairs = (["a b", "", "", "c"], ["a c", "", "d", "c"])
    assert text_metrics.overlap(*pairs) == pytest.approx((0.5 + 1.0 + 0.0 + 1.0) / 4)
    assert text_metrics.rouge(*pairs, 1).f1 == pytest.approx((0.5 + 1.0) / 4)


def test_rouge_averages_over_sentences() -> None:
    candidates, references = ["a b", "a b c", "a"], ["a b", "a b", "a"]
    # (1, 1, 1), (1/2, 1, 2/3), and no pairs at all.
    found = text_metrics.rouge(candidates, references, 2)
    assert found == pytest.approx(((1 + 1 / 2) / 3, 2 / 3, (1 + 2 / 3) / 3))


@given(pairs, st.sampled_from([1, 2, 4]))
def test_rouge_agrees_with_its_definition(
    given_pairs: list[tuple[list[str], list[str]]], n: int
) -> None:
    candidates, references = (list(side) for side in zip(*given_pairs, strict=True))
    for measure, collect in ((text_metrics.rouge, list), (text_metrics.rouge_sets, set)):
        rows = []
        for written, wanted in given_pairs:
            ours, theirs = collect(plain_ngrams(written, n)), list(collect(plain_ngrams(wanted, n)))
            left = theirs.copy()
            for one in ours:
                if one in left:
                    left.remove(one)
            shared = len(theirs) - len(left)
            p, r = (shared / len(side) if side else 0.0 for side in (ours, theirs))
            rows.append((p, r, 2 * p * r / (p + r) if p + r else 0.0))
        expected = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        assert measure(candidates, references, n) == pytest.approx(expected)


@given(pairs)
def test_sets_are_counts_where_nothing_repeats(
    given_pairs: list[tuple[list[str], list[str]]],
) -> None:
    once = [(list(dict.fromkeys(a)), list(dict.fromkeys(b))) for a, b in given_pairs]
    candidates, references = (list(side) for side in zip(*once, strict=True))
    for n in (1, 2):
        counts = text_metrics.rouge(candidates, references, n)
        assert counts == pytest.approx(text_metrics.rouge_sets(candidates, references, n))


# --- other measures -------------------------------------------------------------------------------


def test_exact_match_counted_by_hand() -> None:
    assert text_metrics.exact_match(["a b", "c", "", "d"], ["a b", "c c", "", "e"]) == 0.5


def test_distinct_counted_by_hand() -> None:
    text = ["a b a b", "b a", "c"]
    # Words a b a b b a c; pairs ab ba ab ba; triples aba bab.
    assert text_metrics.distinct(text, 1) == 3 / 7
    assert text_metrics.distinct(text, 2) == 2 / 4
    assert text_metrics.distinct(text, 3) == 1.0


def test_gram_counted_by_hand() -> None:
    text, training = ["a b c d", "a b"], ["x a b", "b c d a"]
    # Pairs ab bc cd ab: all occur; triples abc bcd: one; one quadruple: none.
    assert text_metrics.gram(text, training, 2) == 1.0
    assert text_metrics.gram(text, training, 3) == 0.5
    assert text_metrics.gram(text, training, 4) == 0.0
    # No pair runs from one sentence into the next, and repeated ones count again.
    assert text_metrics.gram(["b x", "a b", "a b"], training, 2) == 2 / 3


def test_gram_reads_a_training_text_once() -> None:
    training = iter(["x a b", "b c d a"])
    assert text_metrics.gram(["a b c d"], training, 3) == 0.5
    assert list(training) == []


def test_entropy_counted_by_hand() -> None:
    assert text_metrics.entropy(["a b", "c d"]) == pytest.approx(math.log(4.0))
    assert text_metrics.entropy(["a a a"]) == 0.0
    assert math.copysign(1.0, text_metrics.entropy(["a a a"])) == 1.0
    expected = 0.75 * math.log(4 / 3) + 0.25 * math.log(4.0)
    assert text_metrics.entropy(["a a", "a b"]) == pytest.approx(expected)
    assert text_metrics.entropy(["a b", "a b", "b a", "x"], 2) == pytest.approx(
        2 / 3 * math.log(3 / 2) + 1 / 3 * math.log(3.0)
    )


# --- properties -----------------------------------------------------------------------------------


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=4, max_size=9), min_size=1))
def test_equal_texts_have_the_highest_scores(text: Sentences) -> None:
    for name, measure in PAIRED.items():
        best = 100.0 if name.startswith("bleu") else 1.0
        assert measure(text, text) == pytest.approx(
            best if name.startswith(("bleu", "exact")) else (best,) * 3
        ), name
    for n in (2, 3, 4):
        assert text_metrics.gram(text, text, n) == 1.0


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_sentences_does_not_matter(
    given_pairs: list[tuple[list[str], list[str]]], shuffler: random.Random
) -> None:
    shuffled = given_pairs.copy()
    shuffler.shuffle(shuffled)
    before, after = (zip(*rows, strict=True) for rows in (given_pairs, shuffled))
    (a, b), (c, d) = before, after
    for name, measure in PAIRED.items():
        assert measure(a, b) == pytest.approx(measure(c, d)), name
    a, c = ([["a", "b", "c", "d"], *side] for side in (a, c))
    for name, single in SINGLE.items():
        assert single(a) == pytest.approx(single(c)), name


@given(pairs)
def test_measures_stay_in_their_bounds(given_pairs: list[tuple[list[str], list[str]]]) -> None:
    candidates, references = (list(side) for side in zip(*given_pairs, strict=True))
    for name, measure in PAIRED.items():
        found = measure(candidates, references)
        most = 100.0 + 1e-9 if name.startswith("bleu") else 1.0
        for value in found if isinstance(found, tuple) else (found,):
            assert 0.0 <= value <= most, name
    text = [["a", "b", "c", "d"], *candidates]
    for n in (1, 2, 3):
        counts = Counter(one for sentence in text for one in plain_ngrams(sentence, n))
        share = text_metrics.distinct(text, n)
        assert 1 / counts.total() <= share <= 1.0
        assert -1e-12 <= text_metrics.entropy(text, n) <= math.log(len(counts)) + 1e-12
        assert 0.0 <= text_metrics.gram(text, [*references, "x"], n) <= 1.0


@given(pairs)
def test_words_strings_and_ids_mean_the_same(
    given_pairs: list[tuple[list[str], list[str]]],
) -> None:
    candidates, references = (list(side) for side in zip(*given_pairs, strict=True))
    ids = [[["abcd".index(w) for w in s] for s in side] for side in (candidates, references)]
    for name, measure in PAIRED.items():
        expected = measure(candidates, references)
        joined = measure(*([" ".join(s) for s in side] for side in (candidates, references)))
        assert joined == expected, name
        assert measure(*ids) == pytest.approx(expected), name


# --- text of a model ------------------------------------------------------------------------------


def language_model(latent: Latent = Latent.NONE) -> VAE:
    torch.manual_seed(0)
    model = build_vae(TextNetwork(4, 5, 0.4), 7, 2, Diagonal(), StandardNormal(), latent).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.8, 0.8, generator=generator)
    return model.train()


def test_sentences_of_a_split_have_no_marks() -> None:
    tokens = torch.tensor([[BOS, 5, 4, EOS, PAD], [BOS, EOS, PAD, PAD, PAD], [BOS, 4, 4, 6, 6]])
    text = Split(tokens, torch.tensor([4, 2, 5]))  # the last one was cut
    assert text_metrics.of_split(text) == [("5", "4"), (), ("4", "4", "6", "6")]


def test_perplexity_is_that_of_single_sentences() -> None:
    model = language_model()
    found = from_prior(
        model, 30, torch.Generator().manual_seed(0), decode=lambda *a: sample(*a, max_length=6)
    )
    perplexity = text_metrics.perplexity(model, found.split())
    assert model.training
    model.eval()
    total = count = 0.0
    for row, length in zip(found.tokens, found.lengths.tolist(), strict=True):
        none = torch.zeros(1, 1, 0, dtype=torch.float64)
        total -= model.log_likelihood(row[None, :length], none).item()
        count += length - 1
    assert perplexity == pytest.approx(math.exp(total / count), rel=1e-12)
    log_probabilities = found.log_probabilities.sum().item()
    assert perplexity == pytest.approx(math.exp(-log_probabilities / count), rel=1e-12)


def test_perplexity_of_a_model_without_preference_is_its_vocabulary() -> None:
    model = language_model()
    torch.nn.init.zeros_(model.decoder.words.weight)
    text = Split(torch.tensor([[BOS, 5, 4, EOS], [BOS, EOS, PAD, PAD]]), torch.tensor([4, 2]))
    assert text_metrics.perplexity(model, text) == pytest.approx(7.0)


def test_a_perplexity_that_no_float_holds_is_none() -> None:
    """A model sure of itself gives the other words above 709 nats, and e^710 is above any float."""
    model = language_model()
    with torch.no_grad():
        model.decoder.words.weight.mul_(1e6)
    found = []
    for word in range(EOS + 1, 7):
        text = Split(torch.tensor([[BOS, word]]), torch.tensor([2]))
        nats, value = text_metrics.sentence_nats(model, text).item(), None
        if nats < 709.0:
            value = pytest.approx(math.exp(nats))
        assert text_metrics.perplexity(model, text) == value
        found.append(nats)
    assert max(found) > 710.0


def test_perplexity_refuses_other_models() -> None:
    text = Split(torch.tensor([[BOS, 5, EOS]]), torch.tensor([3]))
    with pytest.raises(BadInput, match="latent variable of 2 dimensions, whose ELBO only bounds"):
        text_metrics.perplexity(language_model(Latent.INPUT), text)
    images = build_vae(ImageNetwork((4,)), 9, 2, Diagonal(), StandardNormal())
    with pytest.raises(BadInput, match="given a model with ImageDecoder"):
        text_metrics.perplexity(images, text)
    with pytest.raises(BadInput, match="the text holds no sentence"):
        text_metrics.perplexity(language_model(), Split(text.tokens[:0], text.lengths[:0]))


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRED)
def test_empty_and_misaligned_lists_are_refused(name: str) -> None:
    measure = PAIRED[name]
    with pytest.raises(BadInput, match="candidates holds no sentence"):
        measure([], [])
    with pytest.raises(BadInput, match="given 2 candidates and 1 references"):
        measure(["a", "b"], ["a"])
    with pytest.raises(BadInput, match="references is a list of sentences, given one string"):
        measure(["a b"], "a b")
    with pytest.raises(BadInput, match="hold no white space, given 'b c'"):
        measure([["a", "b c"]], ["a"])


@pytest.mark.parametrize("name", SINGLE)
def test_texts_without_ngrams_are_refused(name: str) -> None:
    measure, n = SINGLE[name], int(name[-1])
    with pytest.raises(BadInput, match="the text holds no sentence"):
        measure([])
    with pytest.raises(BadInput, match=f"no sentence of at least {n} words, so no {n}-gram"):
        measure([["a"] * (n - 1), []])
    with pytest.raises(BadInput, match="the text is a list of sentences, given one string"):
        measure("a b c d")


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(BadInput, match="the training text holds no sentence"):
        text_metrics.gram(["a b"], [], 2)
    with pytest.raises(BadInput, match="the training text is a list of sentences"):
        text_metrics.gram(["a b"], "a b", 2)
    for n in (0, -1, 1.5, True):
        message = "a whole number of at least 1, given"
        calls: list[Callable[[], object]] = [
            lambda n=n: text_metrics.bleu(["a"], ["a"], n),
            lambda n=n: text_metrics.rouge(["a"], ["a"], n),
            lambda n=n: text_metrics.rouge_sets(["a"], ["a"], n),
            lambda n=n: text_metrics.distinct(["a"], n),
            lambda n=n: text_metrics.gram(["a"], ["a"], n),
            lambda n=n: text_metrics.entropy(["a"], n),
        ]
        for call in calls:
            with pytest.raises(BadInput, match=message):
                call()
