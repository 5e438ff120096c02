"""Data sets: what is generated, what is read, and what is refused."""

from __future__ import annotations

import hashlib
import itertools
import lzma
import math
import os
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posterior_collapse import datasets, recipes
from posterior_collapse.datasets import grammar, registry, synthetic, text
from posterior_collapse.datasets.registry import DATA_VARIABLE
from posterior_collapse.errors import BadInput
from posterior_collapse.runs.spec import load_data

DATA = os.environ.get(DATA_VARIABLE, "")
needs_data = pytest.mark.skipif(not DATA, reason=f"{DATA_VARIABLE} names no data folder")
TEXT = (
    "yahoo",
    "yelp-sentiment",
    "yelp-short",
    "yelp-doc",
    "ptb",
    "snli",
    "dbpedia",
    "yahoo-question",
)
IMAGES = ("omniglot", "mnist", "fashion-mnist")


@pytest.fixture(scope="module")
def sequences() -> datasets.TextDataset:
    return datasets.load("lagging-synthetic")


@pytest.fixture(scope="module")
def sentences() -> datasets.TextDataset:
    return datasets.load("grammar")


@pytest.fixture(scope="module")
def real() -> dict[str, datasets.TextDataset]:
    return {name: datasets.load(name) for name in TEXT}


def rows(split: datasets.Split) -> list[bytes]:
    """Each sentence as bytes, without its padding, so that splits compare."""
    pairs = zip(split.tokens, split.lengths.tolist(), strict=True)
    return [tokens[:length].numpy().tobytes() for tokens, length in pairs]


def assert_well_formed(data: datasets.TextDataset) -> None:
    """Shapes, marks and id range of every split."""
    for split in (data.train, data.valid, data.test):
        tokens, lengths = split.tokens, split.lengths
        assert tokens.dtype == lengths.dtype == torch.int64
        assert lengths.shape == (len(split),)
        assert tokens.shape == (len(split), int(lengths.max()))
        assert (tokens[:, 0] == datasets.BOS).all()
        assert (tokens.gather(1, lengths[:, None] - 1) == datasets.EOS).all()
        inside = torch.arange(tokens.shape[1]) < lengths[:, None]
        assert (tokens[~inside] == datasets.PAD).all()
        assert int((tokens == datasets.EOS).sum()) == len(split)
        words = tokens[:, 1:][inside[:, 1:] & (tokens[:, 1:] != datasets.EOS)]
        assert int(words.min()) >= datasets.UNK and int(words.max()) < data.vocabulary.size
        assert len(words) == int((lengths - 2).sum())
        if data.label_names:
            assert split.labels is not None and split.labels.dtype == torch.int64
            assert int(split.labels.min()) >= 0
            assert int(split.labels.max()) < len(data.label_names)
        else:
            assert split.labels is None
    assert data.sizes == data.card.splits


# --- names, cards, errors -----------------------------------------------------------------


def test_names_and_cards() -> None:
    assert datasets.names() == (
        "lagging-synthetic",
        "five-gaussians",
        "grammar",
        "grammar-short",
        *TEXT,
        "digits",
        "binary-digits",
        *IMAGES,
    )
    for name in datasets.names():
        card = datasets.card(name)
        assert card.name == name
        assert card.title and card.licence and card.citation and card.source and card.differs
        assert all(len(digest) == 64 for digest in (card.digest, *card.files.values()))
        assert bool(card.files) == (name in (*TEXT, *IMAGES))
    assert datasets.card("yahoo").paper_splits == datasets.Sizes(100_000, 10_000, 10_000)


def test_every_source_file_has_a_checksum() -> None:
    for name, source in text.SOURCES.items():
        used = {*source.train, *source.held_out, *source.labelled.values()}
        used |= {label for label in source.file_labels if isinstance(label, str)}
        used |= {source.vocabulary} - {None}
        assert used == set(datasets.card(name).files)


@pytest.mark.parametrize("ask", [datasets.load, datasets.card, datasets.available])
def test_unknown_name_is_refused_with_the_nearest(ask) -> None:
    with pytest.raises(BadInput, match='unknown dataset "yahooo"; did you mean "yahoo"'):
        ask("yahooo")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((16_001, 1, 1), "sizes.train of .* from 1 to 16000, given 16001"),
        ((1, 0, 1), "sizes.valid of .* from 1 to 2000, given 0"),
        ((1, 1, 2.0), "sizes.test of .*, given 2.0"),
        ((True, 1, 1), "sizes.train of .*, given True"),
        ((1, 1), "sizes must be Sizes"),
        (5, "sizes must be Sizes"),
    ],
)
def test_bad_sizes_are_refused(sizes, message) -> None:
    with pytest.raises(BadInput, match=message):
        datasets.load("lagging-synthetic", sizes)


@pytest.mark.parametrize("name", ["grammar", "lagging-synthetic", "digits"])
@pytest.mark.parametrize("option", ["max_length", "max_vocabulary"])
def test_text_options_are_refused_for_other_sets(name, option) -> None:
    with pytest.raises(BadInput, match=f"{option} is for text from files .*, not for {name}"):
        datasets.load(name, **{option: 10})


# --- vocabulary ---------------------------------------------------------------------------


def test_vocabulary_round_trip_and_unknown_words() -> None:
    vocabulary = datasets.Vocabulary(["the", "cat"])
    assert (vocabulary.size, len(vocabulary)) == (6, 6)
    assert vocabulary.words[4:] == ("the", "cat") and "cat" in vocabulary
    assert vocabulary.encode("the cat") == [1, 4, 5, 2] == vocabulary.encode(["the", "cat"])
    assert vocabulary.encode("the dog <pad> <eos>") == [1, 4, 3, 3, 3, 2]
    assert vocabulary.decode([1, 4, 3, 2, 0, 5]) == "the <unk>"
    assert vocabulary.decode(torch.tensor([1, 5, 4, 2])) == "cat the"
    assert vocabulary == datasets.Vocabulary(("the", "cat")) != datasets.Vocabulary(["the"])


@given(st.lists(st.sampled_from("abcdefg"), max_size=12))
def test_decode_inverts_encode(words) -> None:
    vocabulary = datasets.Vocabulary("gfedcba")
    assert vocabulary.decode(vocabulary.encode(words)).split() == words


@pytest.mark.parametrize("words", [["a", "b", "a"], ["<eos>"], ["a b"], [""], ["a\n"]])
def test_vocabulary_refuses_words_it_could_not_give_back(words) -> None:
    with pytest.raises(BadInput, match="vocabulary"):
        datasets.Vocabulary(words)


@pytest.mark.parametrize("index", [-1, 4])
def test_decode_refuses_ids_outside(index) -> None:
    with pytest.raises(BadInput, match=r"outside 0 \.\. 3"):
        datasets.Vocabulary([]).decode([index])


# --- batches ------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(2, 6), min_size=1, max_size=40),
    batch_size=st.integers(1, 9),
)
def test_batches_hold_every_sentence_once_and_one_length_each(lengths, batch_size) -> None:
    tokens = torch.zeros(len(lengths), 6, dtype=torch.int64)
    for row, length in enumerate(lengths):
        tokens[row, :length] = row + 1
    split = datasets.Split(tokens, torch.tensor(lengths))
    batches = split.batches(batch_size)
    chosen = split.batch_rows(batch_size)
    assert sorted(torch.cat(chosen).tolist()) == list(range(len(lengths)))
    for batch, picked in zip(batches, chosen, strict=True):
        assert 1 <= len(batch) <= batch_size
        assert {lengths[row] for row in picked} == {batch.shape[1]}
        assert torch.equal(batch, picked[:, None].expand_as(batch) + 1)
        assert picked.tolist() == sorted(picked.tolist())
    widths = [batch.shape[1] for batch in batches]
    assert widths == sorted(widths)
    full = sum(math.ceil(count / batch_size) for count in Counter(lengths).values())
    assert len(batches) == full


def test_batches_of_one_and_of_a_whole_data_set(sentences) -> None:
    assert len(sentences.valid.batches(1)) == len(sentences.valid)
    large = sentences.train.batches(10**9)
    assert len(large) == len(sentences.train.lengths.unique())
    for picked in sentences.train.batch_rows(10**9):
        assert (picked.diff() > 0).all()
    again = sentences.train.batches(10**9)
    assert all(torch.equal(a, b) for a, b in zip(large, again, strict=True))


def test_batches_of_text_are_those_of_equal_length(sentences) -> None:
    expected = sentences.valid.batches(32)
    found = datasets.batches(sentences.valid, 32)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    for batch, picked in zip(found, sentences.valid.batch_rows(32), strict=True):
        assert torch.equal(batch, sentences.valid.take(picked).tokens)


def test_contents_tell_sentences_apart_whatever_their_padding(sentences) -> None:
    alone = [sentences.valid.take(torch.tensor([row])).contents()[0] for row in range(50)]
    assert alone == sentences.valid.contents()[:50]
    assert len(set(sentences.valid.contents())) == len(set(rows(sentences.valid)))


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True])
def test_bad_batch_size_is_refused(sentences, batch_size) -> None:
    with pytest.raises(BadInput, match="batch_size"):
        sentences.valid.batches(batch_size)


# --- the synthetic sequences --------------------------------------------------------------


def test_synthetic_shapes_and_digest(sequences) -> None:
    assert_well_formed(sequences)
    assert sequences.sizes == (16_000, 2_000, 2_000)
    assert sequences.train.tokens.shape == (16_000, 12)
    assert sequences.size == sequences.vocabulary.size == 1004
    assert sequences.vocabulary.words[4] == "w000" and sequences.vocabulary.words[-1] == "w999"
    assert sequences.digest == sequences.card.digest


def test_synthetic_first_words_are_uniform(sequences) -> None:
    counts = torch.bincount(sequences.train.tokens[:, 1] - 4, minlength=1000).double()
    chi_square = ((counts - 16) ** 2 / 16).sum().item()
    # 999 degrees of freedom: mean 999, standard deviation 44.7
    assert abs(chi_square - 999) < 4 * 44.7
    later = torch.bincount(sequences.train.tokens[:, 2] - 4, minlength=1000).double()
    assert ((later - 16) ** 2 / 16).sum() > 10 * chi_square


def test_synthetic_labels_are_the_mixture_components(sequences) -> None:
    splits = sequences.train, sequences.valid, sequences.test
    for split, (z, component) in zip(splits, synthetic.latents(), strict=True):
        assert torch.equal(component, split.labels)
        num = len(split)
        counts = torch.bincount(split.labels, minlength=4).double()
        assert (counts / num - 0.25).abs().max() < 5 * math.sqrt(0.1875 / num)
        noise = z - torch.tensor(synthetic.CENTRES, dtype=z.dtype)[split.labels]
        assert noise.mean(0).abs().max() < 5 / math.sqrt(num)
        assert (noise.var(0) - 1).abs().max() < 5 * math.sqrt(2 / num)


def test_synthetic_prefixes_agree_with_the_whole(sequences) -> None:
    sizes = datasets.Sizes(501, 7, 30)
    small = datasets.load("lagging-synthetic", sizes)
    assert small.sizes == sizes and small.digest != sequences.digest
    assert torch.equal(small.train.tokens, sequences.train.tokens[:501])
    assert torch.equal(small.test.tokens, sequences.test.tokens[:30])
    assert torch.equal(small.valid.labels, sequences.valid.labels[:7])
    assert torch.equal(synthetic.latents(sizes).test.z, synthetic.latents().test.z[:30])


def test_synthetic_generator_agrees_with_a_plain_lstm_cell() -> None:
    """One sequence at a time through torch's own cell, sampled with a running sum."""
    generator = torch.Generator().manual_seed(3)
    oracle = synthetic.draw_oracle(generator, vocabulary=20, embedding=5, hidden=6)
    z, _ = synthetic.MIXTURE.draw_latents(30, generator)
    uniforms = torch.rand(30, 8, generator=generator, dtype=torch.float64)
    words = synthetic.sample(oracle, z, uniforms)
    scores = synthetic.log_likelihood(oracle, words, z)
    cell = torch.nn.LSTMCell(7, 6, bias=False, dtype=torch.float64)
    cell.load_state_dict({"weight_ih": oracle.input_weight, "weight_hh": oracle.recurrent_weight})
    for row in range(30):
        c = oracle.state_weight @ z[row]
        h, c = torch.tanh(c)[None], c[None]
        word, total = int(20 * uniforms[row, 0]), -math.log(20)
        assert words[row, 0] == word
        for position in range(1, 8):
            h, c = cell(torch.cat([oracle.embedding[word], z[row]])[None], (h, c))
            logits = oracle.output_weight @ h[0] + oracle.latent_weight @ z[row]
            chances, running = torch.softmax(logits, 0).tolist(), 0.0
            for word, chance in enumerate(chances):  # noqa: B007
                running += chance
                if running > uniforms[row, position]:
                    break
            total += math.log(chances[word])
            assert words[row, position] == word
        assert scores[row].item() == pytest.approx(total, abs=1e-10)


def test_synthetic_weights_have_the_bounds_of_the_appendix() -> None:
    for name, weight in synthetic.oracle()._asdict().items():
        bound = 5.0 if name == "latent_weight" else 1.0
        assert weight.abs().max() <= bound
        assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.1)


def test_synthetic_words_reward_their_own_latent(sequences) -> None:
    words, z = sequences.test.tokens[:200, 1:-1] - 4, synthetic.latents().test.z[:200]
    own = synthetic.log_likelihood(synthetic.oracle(), words, z)
    other = synthetic.log_likelihood(synthetic.oracle(), words, z.roll(1, 0))
    assert (own - other).mean() > 10  # nats a sequence: z matters to the data


@needs_data
@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_finds_the_examples_that_it_asks_for(name: str) -> None:
    """At every scale; after duplicates are gone there may be fewer than there are lines."""
    for scale in recipes.scales(name):
        setup = recipes.get(name, scale)
        assert load_data(setup).sizes == (setup.train, setup.valid, setup.test)


@needs_data
def test_synthetic_format_is_that_of_the_early_file(sequences) -> None:
    path = Path(DATA) / "lagging-synthetic" / "synthetic_data.txt.xz"
    if not path.is_file():
        pytest.skip(f"no {path.name} in the data folder")
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        early = [[int(word) for word in line.split()] for line in lines]
    ours = sequences.train.tokens[:, 1:-1] - 4
    assert {len(line) for line in early} == {ours.shape[1]}
    assert (min(map(min, early)), max(map(max, early))) == (int(ours.min()), int(ours.max()))
    first = Counter(line[0] for line in early)
    mean = len(early) / 1000
    chi_square = sum((first[word] - mean) ** 2 / mean for word in range(1000))
    assert abs(chi_square - 999) < 4 * 44.7


# --- the grammar --------------------------------------------------------------------------


def tiny_grammar() -> grammar.Grammar:
    """Three words, four states, sentences of one to three words, two ways each.

    Of three combinations of properties two have the same label.
    """

    def double(values: list) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    return grammar.Grammar(
        words=("a", "b", "c"),
        prior=double([0.3, 0.5, 0.2]),
        label=torch.tensor([0, 1, 0]),
        start=double([0.6, 0.4, 0, 0]),
        move=double(
            [[0, 0.5, 0.2, 0, 0.3], [0, 0, 0, 0.9, 0.1], [0, 0, 0, 0.4, 0.6], [0, 0, 0, 0, 1]]
        ),
        slot=torch.tensor([0, 1, 0, 1]),
        emission=double(
            [
                [[0.5, 0.5, 0], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]],
                [[0.2, 0.3, 0.5], [1, 0, 0], [0.6, 0, 0.4]],
            ]
        ),
    )


def walk_probability(tiny: grammar.Grammar, words: tuple[int, ...], combination: int) -> float:
    """p(words | combination of properties) by naming every walk."""
    total = 0.0
    for walk in itertools.product(range(4), repeat=len(words)):
        chance = tiny.start[walk[0]].item() * tiny.move[walk[-1], 4].item()
        for state, following in zip(walk, walk[1:], strict=False):
            chance *= tiny.move[state, following].item()
        for state, word in zip(walk, words, strict=True):
            chance *= tiny.emission[tiny.slot[state], combination, word].item()
        total += chance
    return total


def every_sentence() -> tuple[list[tuple[int, ...]], datasets.Split]:
    """All that the tiny grammar can write, and sentences of four words, which it cannot."""
    every = [w for n in range(1, 5) for w in itertools.product(range(3), repeat=n)]
    tokens = torch.zeros(len(every), 6, dtype=torch.int64)
    for row, words in enumerate(every):
        tokens[row, : len(words) + 2] = torch.tensor([1, *(w + 4 for w in words), 2])
    return every, datasets.Split(tokens, torch.tensor([len(words) + 2 for words in every]))


@pytest.mark.parametrize("at_once", [500, 7])
def test_grammar_likelihood_by_enumeration(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(grammar, "_ROWS_AT_ONCE", at_once)
    tiny, (every, split) = tiny_grammar(), every_sentence()
    joint = grammar.log_joint(tiny, split)
    for row, words in enumerate(every):
        for combination in range(3):
            expected = tiny.prior[combination].item() * walk_probability(tiny, words, combination)
            assert joint[row, combination].exp().item() == pytest.approx(expected, abs=1e-15)
    assert grammar.log_probability(tiny, split).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_grammar_labels_and_information_by_enumeration() -> None:
    """I(x; c) = H(x) - H(x | c), with both entropies as sums over all sentences."""
    tiny, (every, split) = tiny_grammar(), every_sentence()
    of_combination = [[walk_probability(tiny, words, c) for words in every] for c in range(3)]
    prior = tiny.prior.tolist()
    whole = [
        sum(p * chance for p, chance in zip(prior, chances, strict=True))
        for chances in zip(*of_combination, strict=True)
    ]

    def entropy(chances: list[float]) -> float:
        return -sum(p * math.log(p) for p in chances if p > 0)

    known = sum(p * entropy(row) for p, row in zip(prior, of_combination, strict=True))
    joint = grammar.log_joint(tiny, split)
    written = joint.logsumexp(1).isfinite()
    weights = joint[written].logsumexp(1).exp()
    found = (weights * grammar.information(joint[written], tiny.prior)).sum().item()
    assert found == pytest.approx(entropy(whole) - known, abs=1e-12)

    labels = grammar.log_labels(tiny, joint).exp()
    for row in range(len(every)):
        first = 0.3 * of_combination[0][row] + 0.2 * of_combination[2][row]
        expected = [first, 0.5 * of_combination[1][row]]
        assert labels[row].tolist() == pytest.approx(expected, abs=1e-15)


def test_grammar_samples_follow_their_probabilities() -> None:
    tiny, num = tiny_grammar(), 20_000
    split = grammar.sample(tiny, num, torch.Generator().manual_seed(0))
    log_probability = grammar.log_probability(tiny, split)
    seen = Counter(rows(split))
    chance = dict(zip(rows(split), log_probability.exp().tolist(), strict=True))
    for row, count in seen.items():
        p = chance[row]
        assert abs(count / num - p) < 5 * math.sqrt(p * (1 - p) / num) + 1 / num


def test_grammar_gives_no_chance_to_what_it_cannot_write() -> None:
    tokens = torch.tensor([[1, 3, 2, 0], [1, 2, 0, 0], [1, 5, 2, 0]])
    split = datasets.Split(tokens, torch.tensor([3, 2, 3]))
    log_probability = grammar.log_probability(tiny_grammar(), split)
    assert log_probability[:2].tolist() == [-math.inf, -math.inf]
    assert log_probability[2].isfinite()


def test_grammar_samples_have_the_labels_of_their_properties() -> None:
    tiny = tiny_grammar()
    split = grammar.sample(tiny, 20_000, torch.Generator().manual_seed(1))
    share = split.labels.double().mean().item()
    assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(20_000)
    labels = grammar.log_labels(tiny, grammar.log_joint(tiny, split)).log_softmax(1).exp()
    wanted = torch.nn.functional.one_hot(split.labels, 2).double()
    # a calibrated posterior: its mean is the mean of what is drawn, everywhere
    for part in (labels[:, 0] < 0.4, labels[:, 0] > 0.6):
        spread = (labels[part, 0] * labels[part, 1]).sum().sqrt()
        assert (wanted[part] - labels[part]).sum(0).abs().max() < 5 * spread


def test_grammar_rows_sum_to_one() -> None:
    english = grammar.english()
    for sums in (
        english.prior.sum(),
        english.start.sum(),
        english.move.sum(1),
        english.emission.sum(2),
    ):
        torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-12, rtol=0)


def test_grammar_shapes_and_digest(sentences) -> None:
    assert_well_formed(sentences)
    assert sentences.sizes == (8_000, 1_000, 1_000)
    assert sentences.digest == sentences.card.digest
    assert 200 <= sentences.vocabulary.size <= 300
    words = torch.cat([s.lengths for s in (sentences.train, sentences.valid)]) - 2
    assert (int(words.min()), int(words.max())) == (9, 10)
    assert len(set(rows(sentences.train))) > 7_500
    assert not (sentences.train.tokens == datasets.UNK).any()


def likelihood_by_clauses(words: tuple[str, ...], tables: list[dict]) -> float:
    """p(sentence) by going through events, settings and combinations of properties."""
    total = 0.0
    for event, share in grammar._EVENTS.items():
        for setting, odds in grammar._SETTINGS.items():
            kinds = (*event, *setting)
            if len(kinds) == len(words):
                for slots in tables:
                    chances = [slots[k].get(w, 0.0) for k, w in zip(kinds, words, strict=True)]
                    total += share * odds * math.prod(chances) / len(tables)
    return total


@pytest.mark.parametrize(("name", "most"), [("grammar", None), ("grammar-short", 2)])
def test_grammar_likelihood_by_clauses(name, most) -> None:
    whole = grammar.english() if most is None else grammar.english_short()
    data = datasets.load(name)
    some = data.test.take(torch.arange(25))
    listed = grammar._WORDS
    every = itertools.product(grammar.TOPICS, (0, 1), listed["persons"], listed["times"])
    tables = [grammar._slots(*one, most) for one in every]
    assert len(tables) == 192 == len(whole.prior)
    words = [tuple(data.vocabulary.decode(tokens).split()) for tokens in some.tokens]
    expected = [math.log(likelihood_by_clauses(one, tables)) for one in words]
    found = grammar.log_probability(whole, some)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_short_grammar_shapes_and_digest() -> None:
    short = datasets.load("grammar-short")
    assert_well_formed(short)
    assert short.digest == short.card.digest
    lengths = short.train.lengths - 2
    assert (int(lengths.min()), int(lengths.max())) == (9, 10)
    assert set(short.vocabulary.words) < set(datasets.load("grammar").vocabulary.words)
    assert short.size < 120
    known = set(rows(short.train))
    assert sum(row in known for row in rows(short.test)) < 30


def test_grammar_labels_decode_and_are_balanced(sentences) -> None:
    topic, sentiment = grammar.label_columns(sentences.train.labels)
    for label in range(12):
        name = f"{grammar.TOPICS[label // 2]}/{grammar.SENTIMENTS[label % 2]}"
        assert sentences.label_names[label] == name
    spread = 5 * math.sqrt(8_000 / 6)
    assert (torch.bincount(topic, minlength=6) - 8_000 / 6).abs().max() < spread
    assert (torch.bincount(sentiment, minlength=2) - 4_000).abs().max() < spread
    with pytest.raises(BadInput, match=r"0 \.\. 11"):
        grammar.label_columns(torch.tensor([12]))


@pytest.mark.parametrize("name", ["grammar", "grammar-short"])
def test_grammar_gives_a_code_something_to_say(name) -> None:
    """The properties save 5.3 nats, of which the label is 2.5, and sentences reveal them."""
    whole = grammar.english() if name == "grammar" else grammar.english_short()
    split = datasets.load(name).test
    joint = grammar.log_joint(whole, split)
    saved = grammar.information(joint, whole.prior).mean().item()
    assert 5.2 < saved <= math.log(192)
    entropy = -joint.logsumexp(1).mean().item()
    assert saved > 0.25 * entropy  # where an autoencoder is asked for 8 percent
    labels = grammar.log_labels(whole, joint)
    uniform = torch.full((12,), 1 / 12, dtype=torch.float64)
    assert 2.4 < grammar.information(labels, uniform).mean().item() <= math.log(12)
    assert (labels.argmax(1) == split.labels).double().mean() > 0.98


def test_grammar_shows_properties_at_once_and_again(sentences) -> None:
    """The first five words tell them all, and the setting tells all but at times one again."""
    whole = grammar.english()
    halves = [set(event) for event in grammar._EVENTS], [set(s) for s in grammar._SETTINGS]
    every = torch.arange(192).view(6, 2, 4, 4)
    # kinds of words that depend on a property: they differ between two of its values
    depends = [
        {
            kind
            for kind, slot in grammar._slots(*one, None).items()
            if slot != grammar._slots(*other, None)[kind]
        }
        for one, other in (
            (("food", 0, "i", "past"), ("film", 0, "i", "past")),
            (("food", 0, "i", "past"), ("food", 1, "i", "past")),
            (("food", 0, "i", "past"), ("food", 0, "we", "past")),
            (("food", 0, "i", "past"), ("food", 0, "i", "future")),
        )
    ]
    for kinds in halves[0]:
        assert all(kinds & own for own in depends)
    for kinds in halves[1]:
        assert sum(bool(kinds & own) for own in depends) >= 3
    assert sum(all(kinds & own for own in depends) for kinds in halves[1]) == 2
    assert (whole.label.view(6, 2, 4, 4) == every // 16).all()
    halves = [set(), set()]
    for label, words in zip(
        sentences.test.labels.tolist(), sentences.test.tokens.tolist(), strict=True
    ):
        halves[label % 2].update(words)
    assert len(halves[0] - halves[1]) > 40 and len(halves[1] - halves[0]) > 40


def test_grammar_prefixes_and_determinism(sentences) -> None:
    small = datasets.load("grammar", datasets.Sizes(50, 20, 10))
    assert rows(small.train) == rows(sentences.train)[:50]
    assert small.vocabulary == sentences.vocabulary
    first, second = (
        grammar.sample(grammar.english(), 30, torch.Generator().manual_seed(s)) for s in (5, 5)
    )
    assert rows(first) == rows(second)
    other = grammar.sample(grammar.english(), 30, torch.Generator().manual_seed(6))
    assert rows(first) != rows(other)


# --- digests ------------------------------------------------------------------------------


def test_digest_sees_every_part() -> None:
    card = datasets.card("grammar")
    split = datasets.Split(torch.tensor([[1, 4, 2]]), torch.tensor([3]), torch.tensor([0]))

    def digest(split=split, words=("a",), names=("x",), suffix="") -> str:
        vocabulary = datasets.Vocabulary(words)
        return datasets.TextDataset.build(card, [split] * 3, vocabulary, names, suffix).digest

    shifted = datasets.Split(split.tokens, split.lengths, torch.tensor([1]))
    bare = datasets.Split(split.tokens, split.lengths)
    other = datasets.Split(torch.tensor([[1, 3, 2]]), split.lengths, split.labels)
    digests = [digest(), digest(shifted), digest(bare), digest(other), digest(words=("b",))]
    digests += [digest(names=("y",)), digest(suffix="[max_length=1]")]
    assert len(set(digests)) == len(digests)
    assert digest() == digest()


# --- text from files: a small corpus in a temporary folder --------------------------------

WORDS = "<pad>\n<s>\n</s>\n<unk>\nred\nblue\nsky\nsea\n"
VOCAB = "<pad>\t0\n<bos>\t1\n<eos>\t2\n_UNK\t3\nred\t4\nblue\t5\nsky\t6\nsea\t7\n"


def write(folder: Path, name: str, content: str | bytes) -> str:
    """Compress a file into the folder; its checksum."""
    raw = content.encode("utf-8") if isinstance(content, str) else content
    packed = lzma.compress(raw)
    (folder / name).write_bytes(packed)
    return hashlib.sha256(packed).hexdigest()


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Registers a corpus of the given content as "yahoo" or "yelp-doc" and loads it."""
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))

    def register(files: dict[str, str | bytes], **source) -> None:
        sums = {name: write(tmp_path, name, content) for name, content in files.items()}
        plain = {"valid": 2, "test": 2}
        found = registry.CARDS["yahoo"]
        card = registry.Card(**(vars(found) | {"files": sums}))
        monkeypatch.setitem(registry.CARDS, "yahoo", card)
        monkeypatch.setitem(text.SOURCES, "yahoo", text._Source(**(plain | source)))

    return register


def shuffled_lines(count: int, words: str = "red blue sky sea", seed: int = 0) -> str:
    """Lines of five words drawn at random, the first words more often."""
    chooser, listed = random.Random(seed), words.split()
    weights = range(len(listed) + 2, 2, -1)
    drawn = (chooser.choices(listed, weights, k=5) for _ in range(count))
    return "".join(" ".join(line) + "\n" for line in drawn)


def lines(count: int, words: str = "red blue sky sea") -> str:
    """Distinct lines of three words."""
    picked = itertools.product(words.split(), repeat=3)
    return "".join(" ".join(line) + "\n" for line in itertools.islice(picked, count))


def test_text_with_a_listed_vocabulary(corpus) -> None:
    corpus({"t.xz": lines(20) + "\n  \n", "v.xz": VOCAB}, train=("t.xz",), vocabulary="v.xz")
    data = datasets.load("yahoo")
    assert_well_formed(data)
    assert data.sizes == (16, 2, 2) and data.vocabulary.words[4:] == ("red", "blue", "sky", "sea")
    decoded = {
        data.vocabulary.decode(row) for s in (data.train, data.valid, data.test) for row in s.tokens
    }
    assert decoded == set(lines(20).splitlines())
    assert data.card.counts["sentences read"] == 20
    assert data.card.counts["empty lines skipped"] == 2
    assert datasets.load("yahoo").digest == data.digest
    small = datasets.load("yahoo", datasets.Sizes(5, 1, 2))
    assert rows(small.train) == rows(data.train)[:5]
    with pytest.raises(BadInput, match="sizes.train of yahoo is .* from 1 to 16, given 17"):
        datasets.load("yahoo", datasets.Sizes(17, 1, 1))


def test_text_unknown_words_and_options(corpus) -> None:
    content = "".join(f"red red blue new{n} _UNK\n" for n in range(20))
    corpus({"t.xz": content, "v.xz": VOCAB}, train=("t.xz",), vocabulary="v.xz")
    with pytest.raises(BadInput, match="so alike"):
        datasets.load("yahoo")  # all the same once the new words are unknown
    corpus({"t.xz": content}, train=("t.xz",))
    with pytest.raises(BadInput, match="so alike"):
        datasets.load("yahoo")  # each new word occurs once, so none is kept
    corpus({"t.xz": shuffled_lines(12), "v.xz": VOCAB}, train=("t.xz",), vocabulary="v.xz")
    cut = datasets.load("yahoo", max_length=4, max_vocabulary=7)
    assert cut.name == "yahoo[max_length=4,max_vocabulary=7]"
    assert cut.vocabulary.size == 7
    assert cut.train.lengths.tolist() == [6] * 8
    assert cut.card.counts["sentences cut to max_length"] == 12
    assert cut.card.counts["words unknown in the splits"] > 0
    assert cut.digest != datasets.load("yahoo", max_vocabulary=7).digest
    for option in ({"max_length": 0}, {"max_vocabulary": 4}, {"max_length": 2.5}):
        with pytest.raises(BadInput, match=f"{next(iter(option))}, if not None, is a whole "):
            datasets.load("yahoo", **option)


def test_text_keeps_the_most_frequent_words_of_training(corpus) -> None:
    corpus({"t.xz": shuffled_lines(60, "z y x e d c b a")}, train=("t.xz",))
    whole, cut = datasets.load("yahoo"), datasets.load("yahoo", max_vocabulary=8)
    used = Counter(w for row in whole.train.tokens.tolist() for w in row if w > datasets.UNK)
    ranked = sorted(used, key=lambda w: (-used[w], whole.vocabulary.words[w]))
    assert ranked == list(range(4, 12))
    assert cut.vocabulary.words == whole.vocabulary.words[:8]
    assert len(cut.train) == len(whole.train)
    expected = torch.where(whole.train.tokens < 8, whole.train.tokens, datasets.UNK)
    assert torch.equal(cut.train.tokens, expected)


def test_text_words_that_training_holds_once_are_unknown(corpus) -> None:
    plain = shuffled_lines(60, "z y x e d c b a").splitlines()
    content = "".join(f"{line} new{number}\n" for number, line in enumerate(plain))
    corpus({"t.xz": content}, train=("t.xz",))
    data = datasets.load("yahoo")
    assert sorted(data.vocabulary.words[4:]) == list("abcdexyz")
    assert (data.train.tokens[:, 6] == datasets.UNK).all()


def test_text_held_out_files_lose_what_training_holds(corpus) -> None:
    corpus(
        {"a.xz": lines(20), "b.xz": lines(8, "one two"), "c.xz": lines(24) * 2},
        train=("a.xz", "b.xz"),
        held_out=("c.xz",),
        file_labels=(0, 1, 0),
        label_names=("x", "y"),
    )
    data = datasets.load("yahoo")
    assert data.sizes == (28, 2, 2)
    assert data.card.counts["held-out sentences dropped as seen"] == 44
    held_out = rows(data.valid) + rows(data.test)
    assert len(set(held_out)) == 4 and not set(held_out) & set(rows(data.train))
    for row, label in zip(data.train.tokens, data.train.labels.tolist(), strict=True):
        assert ("one" in (s := data.vocabulary.decode(row)) or "two" in s) == bool(label)


def test_text_training_loses_what_filed_splits_hold(corpus) -> None:
    """Validation and test stay whole, doubles and order included."""
    valid, test = lines(4, "red blue") + lines(1, "red blue"), lines(6, "red blue")
    labels = "".join(f"{n % 2}\t{line}\n" for n, line in enumerate(test.splitlines()))
    corpus(
        {
            "a.xz": lines(8, "red blue") * 3 + lines(30),
            "v.xz": valid,
            "t.xz": labels,
            "w.xz": WORDS,
        },
        train=("a.xz",),
        held_out=("v.xz", "t.xz"),
        file_labels=(1, 0, None),
        label_names=("x", "y"),
        vocabulary="w.xz",
        read_vocabulary=text.read_words,
        separate=text._clear_training,
        training=20,
    )
    data = datasets.load("yahoo")
    assert data.vocabulary.words[4:] == ("red", "blue", "sky", "sea")
    assert data.sizes == (20, 5, 6) == data.card.splits
    decoded = [[data.vocabulary.decode(row) for row in s.tokens] for s in (data.valid, data.test)]
    assert [sorted(part) for part in decoded] == [
        sorted(part.splitlines()) for part in (valid, test)
    ]
    order = {line: n % 2 for n, line in enumerate(test.splitlines())}
    assert [order[line] for line in decoded[1]] == data.test.labels.tolist()
    assert set(rows(data.train)).isdisjoint(rows(data.valid) + rows(data.test))
    counts = data.card.counts
    held = {*valid.splitlines(), *test.splitlines()}
    assert counts["training sentences dropped as held out"] == sum(
        line in held for line in (lines(8, "red blue") * 3 + lines(30)).splitlines()
    )
    assert counts["test sentences that validation holds"] == 4
    with pytest.raises(BadInput, match="so alike that a split is left empty"):
        datasets.load("yahoo", max_length=1, max_vocabulary=5)


def test_text_files_that_stay_as_they_are(corpus) -> None:
    train, valid = lines(12) + "once <unk> red\n", lines(3) + "\n" + lines(3)
    corpus(
        {"a.xz": train, "v.xz": valid, "t.xz": "blue new\n" * 2},
        train=("a.xz",),
        held_out=("v.xz", "t.xz"),
        least=1,
        separate=text._whole_files,
    )
    data = datasets.load("yahoo")
    assert_well_formed(data)
    assert data.sizes == (13, 6, 2) and data.train.labels is None
    assert "once" in data.vocabulary and "new" not in data.vocabulary
    decoded = [data.vocabulary.decode(row) for row in data.train.tokens]
    assert Counter(decoded) == Counter(train.splitlines()) and decoded != train.splitlines()
    assert data.card.counts["held-out sentences that training holds"] == 6
    assert data.card.counts["empty lines skipped"] == 1
    assert data.card.counts["words unknown in the splits"] == 3


def test_text_labels_at_the_start_of_lines(corpus) -> None:
    content = "".join(f"{n % 2} {line}\n" for n, line in enumerate(lines(20).splitlines()))
    labelled = {"train": ("t.xz",), "file_labels": (None,), "label_names": ("even", "odd")}
    corpus({"t.xz": content + "1 \n"}, **labelled)
    data = datasets.load("yahoo")
    order = {line: n % 2 for n, line in enumerate(lines(20).splitlines())}
    for row, label in zip(data.train.tokens, data.train.labels.tolist(), strict=True):
        assert order[data.vocabulary.decode(row)] == label
    assert data.card.counts["empty lines skipped"] == 1
    corpus({"t.xz": content + "7 red\n"}, **labelled)
    with pytest.raises(BadInput, match=r"t.xz, line 21: label '7'; allowed: 0 \.\. 1"):
        datasets.load("yahoo")


ALIGNED = {"train": ("t.xz",), "file_labels": ("l.xz",), "label_names": ("even", "odd")}


def test_text_labels_in_a_file_of_their_own(corpus) -> None:
    """One a line; an empty line has one too, which goes with it."""
    sentences = lines(20).splitlines()
    with_gap = [*sentences[:5], "", *sentences[5:]]
    labels = [*(n % 2 for n in range(5)), 1, *(n % 2 for n in range(5, 20))]
    corpus(
        {"t.xz": "\n".join(with_gap) + "\n", "l.xz": "".join(f"{n}\n" for n in labels)}, **ALIGNED
    )
    data = datasets.load("yahoo")
    assert_well_formed(data)
    order = {line: n % 2 for n, line in enumerate(sentences)}
    for split in (data.train, data.valid, data.test):
        for row, label in zip(split.tokens, split.labels.tolist(), strict=True):
            assert order[data.vocabulary.decode(row)] == label
    assert data.card.counts["empty lines skipped"] == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("0\n" * 19, "l.xz has 19 labels and t.xz more lines"),
        ("0\n" * 21, "l.xz has more than 20 labels, t.xz so many lines"),
        ("0\n" * 7 + "2\n" + "0\n" * 12, r"l.xz, line 8: label '2'; allowed: 0 \.\. 1"),
        ("0\n" * 7 + "\n" + "0\n" * 12, "l.xz, line 8: label ''"),
        ("0\n" * 19 + "0 1\n", "l.xz, line 20: label '0 1'"),
        ("", "l.xz has 0 labels and t.xz more lines"),
    ],
)
def test_text_refuses_labels_that_do_not_fit(corpus, labels, message) -> None:
    corpus({"t.xz": lines(20), "l.xz": labels}, **ALIGNED)
    with pytest.raises(BadInput, match=message):
        datasets.load("yahoo")


def test_text_refuses_labels_of_an_empty_file(corpus) -> None:
    corpus({"t.xz": "", "l.xz": "0\n"}, **ALIGNED)
    with pytest.raises(BadInput, match="l.xz has more than 0 labels"):
        datasets.load("yahoo")


def test_text_refuses_a_changed_file(corpus, tmp_path) -> None:
    corpus({"t.xz": lines(20)}, train=("t.xz",))
    expected = datasets.card("yahoo").files["t.xz"]
    found = write(tmp_path, "t.xz", lines(21))
    assert datasets.available("yahoo")  # it is there; whether it is right shows when read
    with pytest.raises(BadInput, match=f"t.xz has SHA-256 {found}, expected {expected}"):
        datasets.load("yahoo")


def test_text_refuses_a_truncated_file(tmp_path) -> None:
    path = tmp_path / "t.xz"
    packed = lzma.compress(os.urandom(5_000).hex().encode() + b"\n")
    for content in (
        packed[:-30],
        packed[: len(packed) // 2],
        b"plain text",
        packed[:40] + b"0" * 99,
    ):
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        with pytest.raises(BadInput, match="t.xz, after line [01]: broken xz file"):
            list(text.read_lines(path, digest))


def test_text_refuses_bad_encoding_and_endless_lines(tmp_path, monkeypatch) -> None:
    digest = write(tmp_path, "t.xz", b"fine\ncaf\xe9\n")
    with pytest.raises(BadInput, match="t.xz, line 2: not UTF-8"):
        list(text.read_lines(tmp_path / "t.xz", digest))
    for content in (b"\xef\xbb\xbffine\n", "fine\n".encode("utf-16-le")):
        digest = write(tmp_path, "t.xz", content)
        with pytest.raises(BadInput, match="t.xz, line 1: not plain UTF-8"):
            list(text.read_lines(tmp_path / "t.xz", digest))
    monkeypatch.setattr(text, "MAX_LINE_BYTES", 10)
    digest = write(tmp_path, "t.xz", b"123456789\n1234567890\n")
    with pytest.raises(BadInput, match="line 2: longer than 10 bytes"):
        list(text.read_lines(tmp_path / "t.xz", digest))


def test_text_line_ends(tmp_path) -> None:
    digest = write(tmp_path, "t.xz", "a\u2028b\r\nc\x85d\n\nlast")
    read = list(text.read_lines(tmp_path / "t.xz", digest))
    assert read == ["a\u2028b", "c\x85d", "", "last"]


def test_text_refuses_an_empty_corpus(corpus) -> None:
    corpus({"t.xz": "\n\n"}, train=("t.xz",))
    with pytest.raises(BadInput, match="hold no sentence"):
        datasets.load("yahoo")


@pytest.mark.parametrize(
    "content", [VOCAB.replace("red\t4", "red\t5"), VOCAB.replace("\t6", ""), VOCAB[8:], "\t0\n"]
)
def test_vocabulary_file_must_be_words_with_their_ids(tmp_path, content) -> None:
    digest = write(tmp_path, "v.xz", content)
    with pytest.raises(BadInput, match="v.xz, line"):
        text.read_vocabulary(tmp_path / "v.xz", digest)


def test_vocabulary_file_must_begin_with_the_marks(tmp_path) -> None:
    digest = write(tmp_path, "v.xz", VOCAB.replace("<bos>", "<s>"))
    with pytest.raises(BadInput, match="v.xz begins with .*<s>"):
        text.read_vocabulary(tmp_path / "v.xz", digest)


@pytest.mark.parametrize("line", ["", "  ", "two words", "tab\t4", " red"])
def test_word_list_must_be_one_word_a_line(tmp_path, line) -> None:
    digest = write(tmp_path, "w.xz", WORDS + line + "\n")
    with pytest.raises(BadInput, match=r"w.xz, line 9: .* is not one word"):
        text.read_words(tmp_path / "w.xz", digest)


def test_word_list_must_begin_with_the_marks(tmp_path) -> None:
    digest = write(tmp_path, "w.xz", WORDS.replace("<s>", "<bos>"))
    with pytest.raises(BadInput, match="w.xz begins with .*<bos>.*<s>"):
        text.read_words(tmp_path / "w.xz", digest)
    digest = write(tmp_path, "w.xz", WORDS)
    assert text.read_words(tmp_path / "w.xz", digest) == ["red", "blue", "sky", "sea"]


@pytest.mark.parametrize("name", TEXT)
def test_missing_variable_folder_and_file(name, monkeypatch, tmp_path) -> None:
    first = next(iter(datasets.card(name).files))
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    assert not datasets.available(name) and datasets.available("grammar")
    with pytest.raises(datasets.DataMissing, match=f"set {DATA_VARIABLE} to a folder .*{first}"):
        datasets.load(name)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(BadInput, match=f"{DATA_VARIABLE} names .*none, which is no folder"):
        datasets.load(name)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    assert not datasets.available(name)
    with pytest.raises(datasets.DataMissing, match=f"no file {tmp_path}.*{DATA_VARIABLE} holds"):
        datasets.load(name)


# --- the real corpora ---------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("name", TEXT)
def test_real_text_is_what_its_card_says(real, name) -> None:
    data = real[name]
    assert datasets.available(name)
    assert_well_formed(data)
    card = datasets.card(name)
    assert data.sizes == card.splits and data.digest == card.digest
    assert bool(card.labels) == bool(data.label_names)


@needs_data
@pytest.mark.parametrize("name", ["yahoo", "yelp-sentiment", "yelp-doc"])
def test_splits_that_are_cut_here_share_no_sentence(real, name) -> None:
    data = real[name]
    train, valid, test = (set(rows(s)) for s in (data.train, data.valid, data.test))
    assert not train & valid and not train & test and not valid & test


def raw_lines(file: str) -> list[str]:
    """Lines of a file in the data folder, words joined by single spaces."""
    with lzma.open(Path(DATA) / file, "rt", encoding="utf-8") as stream:
        return [" ".join(line.split()) for line in stream]


@needs_data
def test_short_yelp_against_its_files(real) -> None:
    data = real["yelp-short"]
    listed = raw_lines("yelp-short/vocab.txt.xz")
    assert data.size == 8_411 == len(listed) and list(data.vocabulary.words[4:]) == listed[4:]
    held = set()
    for split, name in ((data.valid, "valid"), (data.test, "test")):
        raw = raw_lines(f"yelp-short/short_yelp.{name}.txt.xz")
        decoded = [data.vocabulary.decode(row) for row in split.tokens]
        pairs = zip(split.labels.tolist(), decoded, strict=True)
        assert Counter(f"{label} {line}" for label, line in pairs) == Counter(raw)
        held |= {line[2:] for line in raw}
    parent = [line for file in text.SOURCES["yelp-short"].train for line in raw_lines(file)]
    known = set(listed)
    replaced = [" ".join(w if w in known else "<unk>" for w in s.split()) for s in parent]
    left = Counter(line for line in replaced if line not in held)
    dropped = data.card.counts["training sentences dropped as held out"]
    assert len(parent) - left.total() == dropped == 14_576
    train = Counter(data.vocabulary.decode(row) for row in data.train.tokens)
    assert train.total() == 100_000 and not train - left
    assert data.card.counts["test sentences that validation holds"] == 656
    # Both halves of the parent's files train, in the share that they have.
    assert data.train.labels.double().mean() == pytest.approx(0.59, abs=0.01)


@needs_data
def test_ptb_against_its_files(real) -> None:
    data = real["ptb"]
    raw = {part: raw_lines(f"ptb/ptb.{part}.txt.xz") for part in ("train", "valid", "test")}
    for name, split in (("train", data.train), ("valid", data.valid), ("test", data.test)):
        decoded = Counter(data.vocabulary.decode(row) for row in split.tokens)
        assert decoded == Counter(raw[name])  # the text's own <unk> is UNK
    kinds = {word for line in raw["train"] for word in line.split()}
    assert data.size == len(kinds) + 3 == 10_002  # <unk> is one of the four marks
    seen = set(raw["train"])
    both = sum(line in seen for line in raw["valid"] + raw["test"])
    assert data.card.counts["held-out sentences that training holds"] == both == 149
    cut = datasets.load("ptb", datasets.Sizes(50, 20, 20), max_length=10, max_vocabulary=1_000)
    assert cut.name == "ptb[max_length=10,max_vocabulary=1000]" and cut.size == 1_000
    assert int(cut.train.lengths.max()) == 12 and cut.max_length == 10


@needs_data
def test_yahoo_facts(real) -> None:
    data = real["yahoo"]
    assert data.vocabulary.size == 20_000
    assert len(set(rows(data.train))) == 16_000  # no document occurs twice
    words = torch.cat([s.lengths for s in (data.train, data.valid, data.test)]) - 2
    assert (int(words.min()), int(words.max())) == (20, 200)
    assert words.double().mean().item() == pytest.approx(79, abs=0.5)
    counts = data.card.counts
    unknown = counts["words unknown in the splits"] / counts["words in the splits"]
    assert unknown == pytest.approx(0.042, abs=0.001)


@needs_data
def test_yahoo_at_quick_scale_keeps_the_split(real) -> None:
    sizes = datasets.Sizes(200, 50, 50)
    quick = datasets.load("yahoo", sizes, max_length=30, max_vocabulary=2_000)
    assert quick.vocabulary.size == 2_000 and int(quick.train.lengths.max()) == 32
    whole = real["yahoo"]
    for cut, full in zip(quick.train.tokens[:20], whole.train.tokens[:20], strict=True):
        kept = quick.vocabulary.decode(cut).split()
        first = whole.vocabulary.decode(full).split()[:30]
        assert all(a in (b, "<unk>") for a, b in zip(kept, first, strict=True))


@needs_data
def test_yelp_labels_come_from_files_and_lines(real) -> None:
    assert torch.bincount(real["yelp-sentiment"].train.labels).tolist() == [25_278, 38_205]
    assert real["yelp-sentiment"].label_names == ("negative", "positive")
    assert int(real["yelp-sentiment"].train.lengths.max()) == 17
    assert len(torch.bincount(real["yelp-doc"].train.labels)) == 5
    assert int(real["yelp-doc"].train.lengths.max()) == 52
