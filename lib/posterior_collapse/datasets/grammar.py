"""Embedded labelled text: sentences of a probabilistic grammar whose likelihood is known.

A sentence has four properties, drawn uniformly and independently: a topic (6), a sentiment (2),
a person (4) and a time (4).  Topic and sentiment are the label, which is
``topic * 2 + sentiment``; the other two are hidden.  Given all four a left-to-right automaton
writes one word per state:

    sentence = event setting
    event    = WHO AUX FELT THE NOUN | THE NOUN AUX PLEASE US | MY NOUN AUX SEEM ADJ | ...
    setting  = WITH MY ADJ ROLE WHEN | WHEN WITH MY ADJ ROLE | WITH MY ADJ ROLE

    we will praise the soup with our friendly chef tomorrow

Which words a state can write depends on the properties: nouns, roles and verbs on the topic,
opinions and adverbs on the sentiment, adjectives on both; pronouns on the person, auxiliaries and
adverbs of time on the time.  Every event shows all four properties, and a setting shows them again
in other words (one in five leaves out the time).  No left context tells the properties that an
event shows: only a latent code can.  Those of the setting are known to whoever remembers the event,
five words back, or reads the code.  Inside a list the word of rank r has weight 1 / (r + 3).
Some nouns and adjectives are common to all topics.

The data set "grammar-short" has two words in each list.

The walk is a hidden Markov model, so log p(sentence) is an exact sum over properties and walks:
the forward algorithm gives it.  Its mean over a split is the lowest negative log-likelihood
that any model can expect there, and :func:`information` tells how much of it a code for the
properties saves: 5.3 of 17.6 nats, since a sentence hardly ever leaves a property open.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from posterior_collapse.datasets.arrays import BOS, EOS, PAD, Split, TextDataset, Vocabulary
from posterior_collapse.datasets.registry import find
from posterior_collapse.errors import BadInput

NAME = "grammar"
SHORT = "grammar-short"
SEED = 12  # any fixed number; the digest in the registry belongs to it
SENTIMENTS = ("negative", "positive")
_FIRST_ID = 4  # word 0 follows the marks PAD, BOS, EOS and UNK
_ROWS_AT_ONCE = 500  # sentences, some MB of probabilities

_WORDS = tomllib.loads(Path(__file__).with_name("grammar.toml").read_text(encoding="utf-8"))
_SHARED_NOUN_SHARE = 0.12
_ADJECTIVE_SHARES = (0.45, 0.43, 0.12)  # sentiment, topic and sentiment, shared

TOPICS = tuple(_WORDS["nouns"])
LABEL_NAMES = tuple(f"{topic}/{feeling}" for topic in TOPICS for feeling in SENTIMENTS)

_EVENTS: Mapping[tuple[str, ...], float] = {
    ("WHO", "AUX", "FELT", "THE", "NOUN"): 0.3,
    ("THE", "NOUN", "AUX", "PLEASE", "US"): 0.2,
    ("MY", "NOUN", "AUX", "SEEM", "ADJ"): 0.25,
    ("MY", "ROLE", "AUX", "DO", "ADV"): 0.25,
}
_SETTINGS: Mapping[tuple[str, ...], float] = {
    ("WITH", "MY", "ADJ", "ROLE", "WHEN"): 0.4,
    ("WHEN", "WITH", "MY", "ADJ", "ROLE"): 0.4,
    ("WITH", "MY", "ADJ", "ROLE"): 0.2,
}


class Grammar(NamedTuple):
    """A left-to-right automaton that writes one word per state, given a sentence's properties.

    C combinations of properties, S states, K kinds of word (slots), W words; all probabilities
    float64.  No state may be reached twice in one walk.
    """

    words: tuple[str, ...]  # W
    prior: Tensor  # (C,)         p(combination)
    label: Tensor  # (C,) int64   what of a combination is given as the sentence's label
    start: Tensor  # (S,)         p(first state)
    move: Tensor  # (S, S + 1)    p(next state | state); the last column ends the sentence
    slot: Tensor  # (S,) int64    kind of word that a state writes
    emission: Tensor  # (K, C, W) p(word | kind, combination)


def _inverse(mass: Tensor, uniforms: Tensor) -> Tensor:
    """Index drawn from each row of cumulative weights (N, M) by one uniform number (N,)."""
    wanted = (uniforms * mass[:, -1])[:, None]
    drawn = torch.searchsorted(mass.contiguous(), wanted, right=True)
    return drawn.squeeze(1).clamp_(max=mass.shape[1] - 1)


def sample(grammar: Grammar, num: int, generator: torch.Generator) -> Split:
    """Draw properties and sentences, independently of each other.

    Returns:
        A split of ``num`` sentences with their labels; token id 4 is word 0 of the grammar.
    """

    def uniforms() -> Tensor:
        return torch.rand(num, generator=generator, dtype=torch.float64)

    stop = len(grammar.start)
    moves, emissions = grammar.move.cumsum(dim=1), grammar.emission.cumsum(dim=2)
    combinations = _inverse(grammar.prior.cumsum(dim=0).expand(num, -1), uniforms())
    state = _inverse(grammar.start.cumsum(dim=0).expand(num, -1), uniforms())
    rows = torch.arange(num)  # sentences that still write
    columns = [torch.full((num,), BOS)]
    while len(rows):
        column = torch.full((num,), PAD)
        mass = emissions[grammar.slot[state], combinations[rows]]
        column[rows] = _inverse(mass, uniforms()[rows]) + _FIRST_ID
        columns.append(column)
        state = _inverse(moves[state], uniforms()[rows])
        rows, state = rows[state < stop], state[state < stop]
    columns.append(torch.full((num,), PAD))
    tokens = torch.stack(columns, dim=1)
    ends = (tokens != PAD).sum(dim=1)
    tokens[torch.arange(num), ends] = EOS
    return Split(tokens, ends + 1, grammar.label[combinations])


def log_joint(grammar: Grammar, split: Split) -> Tensor:
    """log p(sentence, combination of properties), in nats, by the forward algorithm.

    Args:
        grammar: C combinations.
        split: N sentences; token id 4 is word 0 of the grammar.

    Returns:
        (N, C) float64.  A softmax over the combinations gives p(combination | sentence).  It is
        -inf where the grammar cannot write the sentence, as it cannot write UNK.
    """
    parts = torch.arange(len(split)).split(_ROWS_AT_ONCE)
    return torch.cat([_log_joint(grammar, split.take(rows)) for rows in parts])


def _log_joint(grammar: Grammar, split: Split) -> Tensor:
    """As :func:`log_joint`, all sentences at once."""
    marks = torch.zeros(*grammar.emission.shape[:2], _FIRST_ID, dtype=torch.float64)
    by_kind = torch.cat([marks, grammar.emission], dim=2)  # (K, C, 4 + W)
    by_token = by_kind[grammar.slot].permute(2, 1, 0)  # (4 + W, C, S)
    inner, stop = grammar.move[:, :-1], grammar.move[:, -1]
    total = grammar.prior.log().repeat(len(split), 1)
    total[split.lengths < 3] = -torch.inf  # no words: the grammar writes at least one
    rows = torch.arange(len(split))  # sentences with words left to read
    alive = grammar.start.nonzero().squeeze(1)  # states that can write the word at hand
    forward = grammar.start[alive].expand(len(split), len(grammar.prior), -1)  # (N, C, alive)
    for position in range(1, split.tokens.shape[1] - 1):
        reading = split.lengths[rows] > position + 1
        rows, forward = rows[reading], forward[reading]
        reached = forward * by_token[:, :, alive][split.tokens[rows, position]]
        reached[split.lengths[rows] == position + 2] *= stop[alive]  # the last word: then stop
        scale = reached.sum(dim=2, keepdim=True)
        total[rows] += scale.squeeze(2).log()
        following = inner[alive].any(dim=0).nonzero().squeeze(1)
        forward = reached / scale.clamp_min(torch.finfo(torch.float64).tiny)
        forward = forward @ inner[alive][:, following]
        alive = following
    return total


def log_probability(grammar: Grammar, split: Split) -> Tensor:
    """log p(sentence), in nats per sentence, with its end, summed over the combinations.

    Returns:
        (N,) float64.  Minus its mean is the entropy of the grammar as estimated on the split.
    """
    return log_joint(grammar, split).logsumexp(dim=1)


def log_labels(grammar: Grammar, joint: Tensor) -> Tensor:
    """log p(sentence, label), in nats: the hidden properties are summed out.

    Args:
        grammar: C combinations with L labels.
        joint: (N, C), from :func:`log_joint`.

    Returns:
        (N, L) float64.
    """
    labels = range(int(grammar.label.max()) + 1)
    return torch.stack([joint[:, grammar.label == one].logsumexp(dim=1) for one in labels], dim=1)


def information(joint: Tensor, prior: Tensor) -> Tensor:
    """Nats that each sentence tells of what it depends on, KL(p(c | sentence) || p(c)).

    Its mean estimates I(sentence; c) = H(sentence) - H(sentence | c), exact but for the choice of
    sentences: what a code that holds c saves at most of the words, and what it must pay as KL.

    Args:
        joint: (N, C), log p(sentence, c) from :func:`log_joint` or :func:`log_labels`; the grammar
            can write each sentence.
        prior: (C,), p(c).

    Returns:
        (N,) float64.
    """
    posterior = joint.log_softmax(dim=1)
    return torch.special.xlogy(posterior.exp(), posterior.exp() / prior).sum(dim=1)


def label_columns(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Topic (an index into TOPICS) and sentiment (into SENTIMENTS) of each label (N,)."""
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(LABEL_NAMES):
        raise BadInput(f"labels of the grammar are 0 .. {len(LABEL_NAMES) - 1}")
    return labels // len(SENTIMENTS), labels % len(SENTIMENTS)


def _weights(words: str, share: float = 1.0, most: int | None = None) -> dict[str, float]:
    """The first ``most`` words of a list, each with 1 / (rank + 3), together ``share``."""
    raw = {word: 1 / (rank + 3) for rank, word in enumerate(words.split()[:most])}
    total = sum(raw.values())
    return {word: share * weight / total for word, weight in raw.items()}


def _slots(
    topic: str, feeling: int, person: str, time: str, most: int | None
) -> dict[str, Mapping[str, float]]:
    """p(word | kind) of every kind of word for one combination of properties.

    The first ``most`` words of each list are used; None takes all.
    """
    own, mixed, shared = _ADJECTIVE_SHARES
    cut = partial(_weights, most=most)
    subject, possessive, thing = _WORDS["persons"][person]
    auxiliary, adverbs = _WORDS["times"][time]
    return {
        "NOUN": cut(_WORDS["nouns"][topic], 1 - _SHARED_NOUN_SHARE)
        | cut(_WORDS["shared"]["nouns"], _SHARED_NOUN_SHARE),
        "ROLE": cut(_WORDS["roles"][topic]),
        "DO": cut(_WORDS["verbs"][topic]),
        "ADJ": cut(_WORDS["feelings"]["adjectives"][feeling], own)
        | cut(_WORDS["topic_adjectives"][topic][feeling], mixed)
        | cut(_WORDS["shared"]["adjectives"], shared),
        "FELT": cut(_WORDS["feelings"]["opinions"][feeling]),
        "PLEASE": cut(_WORDS["feelings"]["effects"][feeling]),
        "ADV": cut(_WORDS["feelings"]["adverbs"][feeling]),
        "WHO": {subject: 1.0},
        "MY": {possessive: 1.0},
        "US": {thing: 1.0},
        "AUX": {auxiliary: 1.0},
        "WHEN": cut(adverbs),
        **{kind: cut(words) for kind, words in _WORDS["common"].items()},
    }


def _wire() -> tuple[list[str], Tensor, Tensor]:
    """The automaton of the module's docstring: kinds of the states, p(first), p(next | state)."""
    kinds: list[str] = []
    arrows: list[tuple[int, int, float]] = []

    def lay(clauses: Mapping[tuple[str, ...], float]) -> tuple[list[tuple[int, float]], list[int]]:
        """Clauses side by side: first states with their probabilities, and last states."""
        firsts, lasts = [], []
        for clause, probability in clauses.items():
            states = range(len(kinds), len(kinds) + len(clause))
            kinds.extend(clause)
            arrows.extend((a, b, 1.0) for a, b in itertools.pairwise(states))
            firsts.append((states[0], probability))
            lasts.append(states[-1])
        return firsts, lasts

    (begins, joints), (follows, lasts) = lay(_EVENTS), lay(_SETTINGS)
    end = len(kinds)
    arrows += [(a, b, p) for a in joints for b, p in follows]
    arrows += [(a, end, 1.0) for a in lasts]
    start = torch.zeros(end, dtype=torch.float64)
    move = torch.zeros(end, end + 1, dtype=torch.float64)
    for state, probability in begins:
        start[state] = probability
    for source, target, probability in arrows:
        move[source, target] = probability
    return kinds, start, move


@lru_cache(maxsize=1)
def english() -> Grammar:
    """The grammar that wrote the data set "grammar"."""
    return _assemble(None)


@lru_cache(maxsize=1)
def english_short() -> Grammar:
    """The grammar that wrote the data set "grammar-short"."""
    return _assemble(2)


def _assemble(most: int | None) -> Grammar:
    """The grammar with the first ``most`` words of each list, or with all of them."""
    every = [*itertools.product(TOPICS, (0, 1), _WORDS["persons"], _WORDS["times"])]
    tables = [_slots(*one, most) for one in every]
    words = tuple(dict.fromkeys(w for t in tables for slot in t.values() for w in slot))
    index = {word: position for position, word in enumerate(words)}
    kinds = list(tables[0])
    emission = np.zeros((len(kinds), len(tables), len(words)))
    for combination, table in enumerate(tables):
        for kind, slot in enumerate(table.values()):
            # no list names a word twice, and lists of one slot have no word in common
            emission[kind, combination, [index[word] for word in slot]] = list(slot.values())
    states, start, move = _wire()
    labels = [TOPICS.index(topic) * len(SENTIMENTS) + feeling for topic, feeling, *_ in every]
    return Grammar(
        words,
        torch.full((len(every),), 1 / len(every), dtype=torch.float64),
        torch.tensor(labels),
        start,
        move,
        torch.tensor([kinds.index(kind) for kind in states]),
        torch.from_numpy(emission),
    )


@lru_cache(maxsize=2)
def build(name: str = NAME) -> TextDataset:
    """Draw the whole of one of the two data sets."""
    card, grammar = find(name), english_short() if name == SHORT else english()
    drawn = sample(grammar, sum(card.splits), torch.Generator().manual_seed(SEED))
    rows = torch.arange(len(drawn)).split(list(card.splits))
    splits = [drawn.take(part) for part in rows]
    return TextDataset.build(card, splits, Vocabulary(grammar.words), LABEL_NAMES)
