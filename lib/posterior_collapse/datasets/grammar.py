"""Embedded labelled text: sentences of a probabilistic grammar whose likelihood is known.

A sentence has a topic (6) and a sentiment (2), drawn uniformly and independently; the label is
``topic * 2 + sentiment``.  Given the label a left-to-right automaton walks through one to three
clauses and writes one word per state:

    sentence = first [AND second [AND third]] [WHEN] END
    first    = one of the long clauses      THE NOUN LINK HOW ADJ | WHO FELT THE ADJ NOUN | ...
    second   = any clause
    third    = one of the short clauses     THE NOUN LINK ADJ | WHO FELT THE NOUN

Which words a state can write depends on the label: nouns, roles and verbs on the topic,
opinions and adverbs on the sentiment, adjectives on both.  Every clause holds a word of the
topic and a word of the sentiment, so both recur within a sentence and a latent code for them
helps to predict it.  Inside a list the word of rank r has weight 1 / (r + 3).  Some nouns and
adjectives are common to all labels.

The data set "grammar-short" has sentences of one clause, and two words in each list.

The walk is a hidden Markov model, so log p(sentence) is an exact sum over labels and walks:
the forward algorithm gives it.  Its mean over a split is the lowest negative log-likelihood
that any model can expect there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from posterior_collapse.datasets.arrays import BOS, EOS, PAD, Split, TextDataset, Vocabulary
from posterior_collapse.datasets.registry import find
from posterior_collapse.errors import BadInput

__all__ = [
    "SENTIMENTS",
    "TOPICS",
    "Grammar",
    "english",
    "english_short",
    "label_columns",
    "log_joint",
    "log_probability",
    "sample",
]

NAME = "grammar"
SHORT = "grammar-short"
SEED = 12  # any fixed number; the digest in the registry belongs to it
SENTIMENTS = ("negative", "positive")
_FIRST_ID = 4  # word 0 follows the marks PAD, BOS, EOS and UNK

# Words by topic.  Singular nouns only, so that every clause agrees with "was".
_NOUNS = {
    "food": """soup salad bread dinner lunch sauce dessert menu pizza curry steak noodle cheese
        breakfast sandwich pasta dish wine kitchen table cake burger fish rice""",
    "film": """film plot scene script ending camera trailer sequel screen dialogue thriller comedy
        cast cinema story drama remake costume stunt documentary subtitle poster score villain""",
    "travel": """hotel flight room beach train island airport museum view bus village harbour tour
        lobby ferry castle trail bridge luggage map market mountain ticket valley""",
    "sport": """match team goal race stadium season league tackle penalty coach final defence
        tournament training pitch marathon score transfer jersey derby sprint serve medal record""",
    "music": """song album concert melody chorus guitar lyric band rhythm piano voice record stage
        drum violin orchestra tune encore symphony bass tempo duet festival score""",
    "computers": """laptop keyboard screen software battery phone update browser printer website
        camera password tablet network cable program server mouse game backup database chip
        folder menu""",
}
_ROLES = {
    "food": "chef waiter baker cook barista host",
    "film": "director actor actress producer writer narrator",
    "travel": "guide driver pilot captain porter host",
    "sport": "striker goalkeeper referee captain manager runner",
    "music": "singer drummer composer conductor guitarist producer",
    "computers": "developer designer engineer vendor technician tester",
}
_VERBS = {
    "food": "cooked served prepared baked seasoned delivered tasted plated",
    "film": "filmed directed edited rehearsed narrated played shot produced",
    "travel": "booked toured showed reached visited crossed explored passed",
    "sport": "won trained coached defended scored played watched attacked",
    "music": "sang played recorded composed rehearsed performed mixed covered",
    "computers": "installed programmed tested repaired designed updated shipped coded",
}
_TOPIC_ADJECTIVES = {
    "food": (
        "bland soggy burnt stale greasy undercooked",
        "delicious tasty fresh savoury crispy juicy",
    ),
    "film": (
        "predictable tedious overlong wooden shallow clumsy",
        "gripping moving thrilling witty touching suspenseful",
    ),
    "travel": (
        "dirty crowded noisy delayed shabby overpriced",
        "scenic peaceful cosy spotless sunny breathtaking",
    ),
    "sport": (
        "sloppy defeated sluggish unfair careless toothless",
        "victorious athletic fearless decisive tireless unbeaten",
    ),
    "music": (
        "monotonous shrill tuneless flat repetitive deafening",
        "catchy melodic soulful harmonious upbeat groovy",
    ),
    "computers": (
        "slow buggy unstable outdated insecure glitchy",
        "fast reliable responsive intuitive secure sleek",
    ),
}
# Words by sentiment, negative first.
_ADJECTIVES = (
    """bad terrible awful poor disappointing horrible boring dreadful mediocre annoying dull
        unpleasant weak miserable pathetic useless""",
    """good great excellent wonderful amazing perfect fantastic lovely brilliant impressive
        superb charming pleasant delightful outstanding memorable""",
)
_OPINIONS = (
    "hated disliked regretted avoided resented criticised despised rejected",
    "loved enjoyed liked admired praised adored recommended appreciated",
)
_ADVERBS = (
    "badly poorly carelessly terribly awkwardly lazily clumsily rudely",
    "beautifully perfectly nicely brilliantly gracefully superbly skilfully kindly",
)
_ENDS = ({".": 0.85, "!": 0.15}, {".": 0.65, "!": 0.35})
# Words of every label.
_SHARED_NOUNS = "place price staff crowd weekend event experience service idea night crew owner"
_SHARED_ADJECTIVES = "new small usual big ordinary famous local long"
_COMMON = {
    "THE": "the this that our their your",
    "LINK": "was seemed looked became stayed",
    "HOW": "very really so quite truly rather extremely simply",
    "WHO": "we i they everyone you",
    "WHEN": "today yesterday again tonight overall recently there lately",
    "AND": "and because while so",
    "BOTH": "and yet",
}
_SHARED_NOUN_SHARE = 0.12
_ADJECTIVE_SHARES = (0.45, 0.43, 0.12)  # sentiment, topic and sentiment, shared

TOPICS = tuple(_NOUNS)
LABEL_NAMES = tuple(f"{topic}/{feeling}" for topic in TOPICS for feeling in SENTIMENTS)

_CLAUSES = {
    "plain": ("THE", "NOUN", "LINK", "ADJ"),
    "opinion": ("WHO", "FELT", "THE", "NOUN"),
    "strong": ("THE", "NOUN", "LINK", "HOW", "ADJ"),
    "choice": ("WHO", "FELT", "THE", "ADJ", "NOUN"),
    "manner": ("THE", "ROLE", "DID", "THE", "NOUN", "ADV"),
    "deed": ("THE", "ADJ", "ROLE", "DID", "THE", "NOUN"),
    "double": ("THE", "NOUN", "LINK", "ADJ", "BOTH", "ADJ"),
}
_FIRST = {"strong": 0.25, "choice": 0.2, "manner": 0.2, "deed": 0.2, "double": 0.15}
_SECOND = {
    "plain": 0.2,
    "opinion": 0.2,
    "strong": 0.15,
    "choice": 0.15,
    "manner": 0.1,
    "deed": 0.1,
    "double": 0.1,
}
_THIRD = {"plain": 0.5, "opinion": 0.5}
# After the first, second and third clause: another clause, a time, or the end.
_AFTER = ((0.65, 0.1, 0.25), (0.4, 0.15, 0.45), (0.0, 0.25, 0.75))
_AFTER_ONE = ((0.0, 0.25, 0.75),)


class Grammar(NamedTuple):
    """A left-to-right automaton that writes one word per state, given a label.

    L labels, S states, K kinds of word (slots), W words; all probabilities float64.
    No state may be reached twice in one walk.
    """

    words: tuple[str, ...]  # W
    prior: Tensor  # (L,)         p(label)
    start: Tensor  # (S,)         p(first state)
    move: Tensor  # (S, S + 1)    p(next state | state); the last column ends the sentence
    slot: Tensor  # (S,) int64    kind of word that a state writes
    emission: Tensor  # (K, L, W) p(word | kind, label)


def _inverse(mass: Tensor, uniforms: Tensor) -> Tensor:
    """Index drawn from each row of cumulative weights (N, M) by one uniform number (N,)."""
    wanted = (uniforms * mass[:, -1])[:, None]
    drawn = torch.searchsorted(mass.contiguous(), wanted, right=True)
    return drawn.squeeze(1).clamp_(max=mass.shape[1] - 1)


def sample(grammar: Grammar, num: int, generator: torch.Generator) -> Split:
    """Draw labels and sentences, independently of each other.

    Returns:
        A split of ``num`` sentences; token id 4 is word 0 of the grammar.
    """

    def uniforms() -> Tensor:
        return torch.rand(num, generator=generator, dtype=torch.float64)

    stop = len(grammar.start)
    moves, emissions = grammar.move.cumsum(dim=1), grammar.emission.cumsum(dim=2)
    labels = _inverse(grammar.prior.cumsum(dim=0).expand(num, -1), uniforms())
    state = _inverse(grammar.start.cumsum(dim=0).expand(num, -1), uniforms())
    rows = torch.arange(num)  # sentences that still write
    columns = [torch.full((num,), BOS)]
    while len(rows):
        column = torch.full((num,), PAD)
        mass = emissions[grammar.slot[state], labels[rows]]
        column[rows] = _inverse(mass, uniforms()[rows]) + _FIRST_ID
        columns.append(column)
        state = _inverse(moves[state], uniforms()[rows])
        rows, state = rows[state < stop], state[state < stop]
    columns.append(torch.full((num,), PAD))
    tokens = torch.stack(columns, dim=1)
    ends = (tokens != PAD).sum(dim=1)
    tokens[torch.arange(num), ends] = EOS
    return Split(tokens, ends + 1, labels)


def log_joint(grammar: Grammar, split: Split) -> Tensor:
    """log p(sentence, label), in nats, by the forward algorithm.

    Args:
        grammar: L labels.
        split: N sentences; token id 4 is word 0 of the grammar.

    Returns:
        (N, L) float64.  A softmax over the labels gives p(label | sentence).  It is -inf where
        the grammar cannot write the sentence, as it cannot write UNK.
    """
    marks = torch.zeros(*grammar.emission.shape[:2], _FIRST_ID, dtype=torch.float64)
    by_kind = torch.cat([marks, grammar.emission], dim=2)  # (K, L, 4 + W)
    by_token = by_kind[grammar.slot].permute(2, 1, 0)  # (4 + W, L, S)
    inner, stop = grammar.move[:, :-1], grammar.move[:, -1]
    total = grammar.prior.log().repeat(len(split), 1)
    total[split.lengths < 3] = -torch.inf  # no words: the grammar writes at least one
    rows = torch.arange(len(split))  # sentences with words left to read
    alive = grammar.start.nonzero().squeeze(1)  # states that can write the word at hand
    forward = grammar.start[alive].expand(len(split), len(grammar.prior), -1)  # (N, L, alive)
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
    """log p(sentence), in nats per sentence, with its end, summed over the labels.

    Returns:
        (N,) float64.  Minus its mean is the entropy of the grammar as estimated on the split.
    """
    return log_joint(grammar, split).logsumexp(dim=1)


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


def _slots(topic: str, feeling: int, most: int | None) -> dict[str, Mapping[str, float]]:
    """p(word | kind) of every kind of word for one label, from the first words of each list."""
    own, mixed, shared = _ADJECTIVE_SHARES
    cut = partial(_weights, most=most)
    return {
        "NOUN": cut(_NOUNS[topic], 1 - _SHARED_NOUN_SHARE) | cut(_SHARED_NOUNS, _SHARED_NOUN_SHARE),
        "ROLE": cut(_ROLES[topic]),
        "DID": cut(_VERBS[topic]),
        "ADJ": cut(_ADJECTIVES[feeling], own)
        | cut(_TOPIC_ADJECTIVES[topic][feeling], mixed)
        | cut(_SHARED_ADJECTIVES, shared),
        "FELT": cut(_OPINIONS[feeling]),
        "ADV": cut(_ADVERBS[feeling]),
        "END": _ENDS[feeling],
        **{kind: cut(words) for kind, words in _COMMON.items()},
    }


class _Wiring:
    """States and arrows of the automaton while it is put together."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.arrows: list[tuple[int, int, float]] = []

    def state(self, kind: str) -> int:
        self.kinds.append(kind)
        return len(self.kinds) - 1

    def stage(self, clauses: Mapping[str, float]) -> tuple[dict[int, float], list[int]]:
        """Lay clauses side by side: probability of each first state, and the last states."""
        firsts, lasts = {}, []
        for name, probability in clauses.items():
            states = [self.state(kind) for kind in _CLAUSES[name]]
            self.arrows += [(a, b, 1.0) for a, b in zip(states, states[1:], strict=False)]
            firsts[states[0]] = probability
            lasts.append(states[-1])
        return firsts, lasts

    def join(self, sources: Sequence[int], targets: Mapping[int, float], share: float) -> None:
        """Arrows from every source to the targets, together with probability ``share``."""
        self.arrows += [(a, b, share * p) for a in sources for b, p in targets.items()]


_Shares = Sequence[tuple[float, float, float]]


def _wire(after: _Shares) -> tuple[_Wiring, dict[int, float]]:
    """The automaton of the module's docstring with as many clauses, and p(first state)."""
    wiring = _Wiring()
    stages = [wiring.stage(clauses) for clauses in (_FIRST, _SECOND, _THIRD)[: len(after)]]
    when, end = wiring.state("WHEN"), wiring.state("END")
    for number, ((_, lasts), (more, time, close)) in enumerate(zip(stages, after, strict=True)):
        if more:
            link = wiring.state("AND")
            wiring.join(lasts, {link: 1.0}, more)
            wiring.join([link], stages[number + 1][0], 1.0)
        wiring.join(lasts, {when: 1.0}, time)
        wiring.join(lasts, {end: 1.0}, close)
    wiring.join([when], {end: 1.0}, 1.0)
    return wiring, stages[0][0]


@lru_cache(maxsize=1)
def english() -> Grammar:
    """The grammar that wrote the data set "grammar"."""
    return _assemble(_AFTER, None)


@lru_cache(maxsize=1)
def english_short() -> Grammar:
    """The grammar that wrote the data set "grammar-short"."""
    return _assemble(_AFTER_ONE, 2)


def _assemble(after: _Shares, most: int | None) -> Grammar:
    """A grammar of as many clauses as there are shares, from the first words of each list."""
    tables = [_slots(topic, feeling, most) for topic in TOPICS for feeling in (0, 1)]
    words = tuple(dict.fromkeys(w for t in tables for slot in t.values() for w in slot))
    index = {word: position for position, word in enumerate(words)}
    kinds = list(tables[0])
    emission = torch.zeros(len(kinds), len(tables), len(words), dtype=torch.float64)
    for label, table in enumerate(tables):
        for kind, slot in enumerate(table.values()):
            for word, probability in slot.items():
                emission[kind, label, index[word]] += probability
    wiring, firsts = _wire(after)
    num = len(wiring.kinds)
    start = torch.zeros(num, dtype=torch.float64)
    move = torch.zeros(num, num + 1, dtype=torch.float64)
    for state, probability in firsts.items():
        start[state] = probability
    for source, target, probability in wiring.arrows:
        move[source, target] = probability
    move[wiring.kinds.index("END"), num] = 1.0
    slots = torch.tensor([kinds.index(kind) for kind in wiring.kinds])
    prior = torch.full((len(tables),), 1 / len(tables), dtype=torch.float64)
    return Grammar(words, prior, start, move, slots, emission)


@lru_cache(maxsize=2)
def build(name: str = NAME) -> TextDataset:
    """Draw the whole of one of the two data sets."""
    card, grammar = find(name), english_short() if name == SHORT else english()
    drawn = sample(grammar, sum(card.splits), torch.Generator().manual_seed(SEED))
    rows = torch.arange(len(drawn)).split(list(card.splits))
    splits = [drawn.take(part) for part in rows]
    return TextDataset.build(card, splits, Vocabulary(grammar.words), LABEL_NAMES)
