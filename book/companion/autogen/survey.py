"""A blind survey that a reader takes in the page: AutoGen's tables 2 and 4.

The items are real text and what the reference models made of it: reconstructions of test sentences
by two models, and sentences that they wrote from their priors.  What happens afterwards happens in
the browser, by ``book/static/survey.js``; :func:`order` is the same rule in Python, so that the
list for readers without scripts has the order of the default seed, and a test can compare the two.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from IPython.display import HTML

from companion.build.parameters import Page
from companion.claims import evidence as results
from companion.claims import groups as benchmarks
from companion.claims.premises import Premise
from companion.claims.printed import printed
from companion.claims.reference import Result
from companion.claims.table import Column, frame, summary
from companion.claims.verdicts import Finding, beyond
from posterior_collapse import methods
from posterior_collapse.errors import BadInput, nearest, whole

# Who can have written a sentence; "real" are controls, which the paper does not have.
METHODS = {"annealed": benchmarks.ANNEAL_EPOCHS, "autogen": "autogen(m=1)"}
ORIGINS = (*METHODS, "real")

_SCALE = "medium"
_AGAIN = "autogen-yelp"  # whose reconstructions are compared
# Recipe -> arrays of what the models wrote from the prior; the second has the long sentences.
_WRITTEN = {"autogen-yelp": ("text_greedy", "text_sampled"), "autogen-ptb": ("text_sampled",)}
_REAL = ("igp-snli", "autogen-ptb")  # whose test sentences are controls
# Marks in the prepared corpora, for readers.
_MARKS = {"<unk>": "[?]", "_num_": "[number]", "N": "[number]"}

_PAIRS_ASKED = 20  # the paper: 260 pairs for 13 people
# Of each length; the paper: at most 20 sentences a person.
_LINES_ASKED = {"annealed": 4, "autogen": 4, "real": 2}
_LONG = 10  # words; table 4 of the paper parts sentences here
_LARGEST = 2**32 - 1
_SEED = 1  # of the order, where a reader does not choose
_PAGE = "notebooks/autogen/survey"


class Pair(NamedTuple):
    """Two different reconstructions of one sentence."""

    ident: str
    source: str
    texts: tuple[str, str]  # in the order of the alphabet, which tells nothing of the models
    autogen: int  # which of them is AutoGen's


class Line(NamedTuple):
    """A single sentence."""

    ident: str
    text: str
    origin: str  # of ORIGINS
    long: bool  # more than ten words


class Drawn(NamedTuple):
    """What was drawn, and what of it can be asked about."""

    sources: int  # sentences that were reconstructed, once by each seed
    equal: int  # pairs left out, because both wrote the same, or one wrote what it wrote before
    lines: Mapping[str, int]  # origin -> sentences
    different: Mapping[str, int]  # origin -> different sentences among them
    shared: int  # different sentences left out, because they have two origins


class Survey(NamedTuple):
    """All items, and the runs that wrote them."""

    pairs: tuple[Pair, ...]
    lines: tuple[Line, ...]
    drawn: Drawn
    runs: Mapping[str, Sequence[Result]]  # method -> the models that wrote them, one per seed


class Question(NamedTuple):
    """An item as it is put to a reader."""

    item: Pair | Line
    turned: bool  # whether the second text of a pair stands first


# --- the items ------------------------------------------------------------------------------------


def _ident(*texts: str) -> str:
    """A name that tells nothing: the beginning of a digest."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _words(text: str) -> int:
    """Length in words; a mark such as a full stop, which stands alone in the data, is none."""
    return sum(any(letter.isalnum() for letter in word) for word in text.split())


def pair_pool(
    sources: Sequence[str], annealed: Sequence[str], autogen: Sequence[str]
) -> tuple[tuple[Pair, ...], int]:
    """Pairs to be judged, sorted by their names, and how many were left out.

    Left out are equal reconstructions, and what a model wrote of an earlier source too: a reader
    would soon know it by its stock sentence.

    Args:
        sources: sentences.
        annealed, autogen: a reconstruction of each.

    Raises:
        BadInput: not as many reconstructions as sources.
    """
    if not len(sources) == len(annealed) == len(autogen):
        raise BadInput(
            "every source needs two reconstructions, given "
            f"{len(sources)} sources, {len(annealed)} and {len(autogen)} reconstructions"
        )
    pairs, seen = [], (set[str](), set[str]())
    for source, one, other in zip(sources, annealed, autogen, strict=True):
        if one == other or one in seen[0] or other in seen[1]:
            continue
        seen[0].add(one)
        seen[1].add(other)
        texts = (min(one, other), max(one, other))
        pairs.append(Pair(_ident("pair", source, *texts), source, texts, texts.index(other)))
    return tuple(sorted(pairs)), len(sources) - len(pairs)


def line_pool(written: Mapping[str, Sequence[str]]) -> tuple[tuple[Line, ...], int]:
    """Single sentences to be judged, sorted by their names, and how many were left out.

    Of equal sentences one is kept: a model that writes the same again and again would be known by
    it.  A sentence with two origins says nothing about either and is left out.

    Args:
        written: origin -> sentences.

    Raises:
        BadInput: an unknown origin, with the nearest one.
    """
    for origin in written:
        if origin not in ORIGINS:
            raise BadInput(nearest(origin, ORIGINS, "origin"))
    origins: dict[str, set[str]] = {}
    for origin, texts in written.items():
        for text in texts:
            origins.setdefault(text, set()).add(origin)
    lines = [
        Line(_ident("line", text), text, min(who), _words(text) > _LONG)
        for text, who in origins.items()
        if len(who) == 1
    ]
    return tuple(sorted(lines)), len(origins) - len(lines)


def line_quotas(lines: Iterable[Line]) -> dict[tuple[str, bool], int]:
    """How many sentences of each origin and length a reader sees: equally many of either model.

    Returns:
        (origin, whether long) -> number.
    """
    there = {(origin, long): 0 for origin in ORIGINS for long in (False, True)}
    for line in lines:
        there[line.origin, line.long] += 1
    least = {long: min(there[name, long] for name in METHODS) for long in (False, True)}
    return {
        (origin, long): min(_LINES_ASKED[origin], least[long] if origin in METHODS else count)
        for (origin, long), count in there.items()
    }


# --- the order ------------------------------------------------------------------------------------


def _stream(seed: int) -> Iterator[float]:
    """Numbers in [0, 1): mulberry32, which is short in any language."""
    state = seed
    while True:
        state = (state + 0x6D2B79F5) & _LARGEST
        mixed = ((state ^ (state >> 15)) * (state | 1)) & _LARGEST
        mixed ^= (mixed + ((mixed ^ (mixed >> 7)) * (mixed | 61))) & _LARGEST
        yield (mixed ^ (mixed >> 14)) / 2**32


def _shuffled(values: Sequence[Any], numbers: Iterator[float]) -> list[Any]:
    """A random order of Fisher and Yates, from the last place to the first."""
    mixed = list(values)
    for last in range(len(mixed) - 1, 0, -1):
        place = int(next(numbers) * (last + 1))
        mixed[last], mixed[place] = mixed[place], mixed[last]
    return mixed


def order(pairs: Sequence[Pair], lines: Sequence[Line], seed: int) -> list[Question]:
    """The questions of a seed, as the browser asks them: pairs first, then single sentences.

    Args:
        pairs, lines: as :func:`pair_pool` and :func:`line_pool` give them.
        seed: 0 to 2^32 - 1.

    Raises:
        BadInput: a seed outside its range.
    """
    whole("the seed of an order", seed, 0, _LARGEST)
    numbers = _stream(seed)
    chosen = _shuffled(pairs, numbers)[:_PAIRS_ASKED]
    questions = [Question(pair, next(numbers) < 0.5) for pair in chosen]
    mixed: list[Line] = []
    for (origin, long), wanted in line_quotas(lines).items():
        own = [line for line in lines if (line.origin, line.long) == (origin, long)]
        mixed += _shuffled(own, numbers)[:wanted]
    return questions + [Question(line, False) for line in _shuffled(mixed, numbers)]


# --- what the models wrote ------------------------------------------------------------------------


def _texts(result: Result, name: str) -> list[str]:
    """Sentences that a result keeps, with the marks of the corpus in words; empty ones left out."""
    sentences = (str(text).split() for text in results.array(result, name))
    return [" ".join(_MARKS.get(word, word) for word in words) for words in sentences if words]


def _stored(recipe: str) -> dict[str, list[Result]]:
    """Origin -> the reference models of a recipe, one per seed."""
    return {name: results.reference(recipe, m, _SCALE) for name, m in METHODS.items()}


def _real() -> list[str]:
    """Test sentences of two corpora: every result of a recipe keeps the same ones."""
    firsts = [results.reference(recipe, benchmarks.AUTOENCODER, _SCALE)[0] for recipe in _REAL]
    return [text for result in firsts for text in _texts(result, "text_source")]


def premise(page: Page) -> dict[str, Premise]:
    """Whether the models of the survey could have come apart; see the box of the page."""
    premises = {}
    for title, recipe in (("Yelp sentences", "autogen-yelp"), ("Penn Treebank", "autogen-ptb")):
        runs = results.stored(recipe, [*METHODS.values(), *benchmarks.PREMISE], _SCALE)
        premises[f"{title}, reference"] = results.premise_for(page, runs)
    return premises


def build() -> Survey:
    """The items that the reference results keep: of every seed the same five sources again.

    Raises:
        BadInput: a reference result is missing; ``make reference`` computes them.
    """
    rows = {recipe: _stored(recipe) for recipe in _WRITTEN}
    runs = rows[_AGAIN]
    sources = [text for result in runs["annealed"] for text in _texts(result, "text_source")]
    again = {
        name: [text for result in group for text in _texts(result, "text_reconstruction")]
        for name, group in runs.items()
    }
    written = {
        name: [
            text
            for recipe, arrays in _WRITTEN.items()
            for result in rows[recipe][name]
            for array in arrays
            for text in _texts(result, array)
        ]
        for name in METHODS
    }
    written["real"] = _real()
    pairs, equal = pair_pool(sources, again["annealed"], again["autogen"])
    lines, shared = line_pool(written)
    counted = {name: len(texts) for name, texts in written.items()}
    different = {name: len(set(texts)) for name, texts in written.items()}
    drawn = Drawn(len(sources), equal, counted, different, shared)
    every = {
        f"{recipe} {METHODS[name]}": g for recipe, own in rows.items() for name, g in own.items()
    }
    return Survey(pairs, lines, drawn, every)


# --- what the page shows --------------------------------------------------------------------------


def _name(origin: str) -> str:
    return "a real sentence" if origin == "real" else methods.describe(METHODS[origin]).title


def _titles() -> dict[str, str]:
    names = {origin: _name(origin) for origin in ORIGINS}
    return {**names, "autogen": f"{names['autogen']} (m = 1)"}


def _printed() -> dict[tuple[str, bool | None], int]:
    """The paper's percentages: (origin, long) -> percent of answers; long is None for pairs."""
    preferred = printed("autogen", "table2").set_index("method_key")["wins"]
    sensible = printed("autogen", "table4").set_index("method_key")
    percents: dict[tuple[str, bool | None], int] = {
        ("autogen", None): int(preferred["autogen(m=1)"]),
    }
    for long, column in ((False, "meaningful_short"), (True, "meaningful_long")):
        shares: dict[Any, Any] = sensible[column].to_dict()
        for origin, key in (("annealed", "anneal"), ("autogen", "autogen(m=1)")):
            percents[origin, long] = int(shares[key])
    return percents


def printed_table() -> pd.DataFrame:
    """The paper's percentages that the survey's are put beside."""
    percents, names = _printed(), _titles()
    rows = [("better reconstruction", names["autogen"], "any", percents["autogen", None])]
    for origin in METHODS:
        for long, length in ((False, f"at most {_LONG} words"), (True, f"more than {_LONG} words")):
            rows.append(("makes sense", names[origin], length, percents[origin, long]))
    return pd.DataFrame(rows, columns=["question", "model", "length", "printed, % of answers"])


def _score_rows() -> list[dict[str, Any]]:
    """The lines of the score, for the browser."""
    percents, names = _printed(), _titles()
    rows: list[dict[str, Any]] = [
        {
            "kind": "pair",
            "label": f"{names['autogen']} preferred to {names['annealed']}",
            "printed": percents["autogen", None],
        }
    ]
    for origin in ORIGINS:
        for long in (False, True):
            length = f"more than {_LONG} words" if long else f"at most {_LONG} words"
            label = f"{names[origin]} makes sense, {length}"
            entry = {"origin": origin, "long": long, "printed": percents.get((origin, long))}
            rows.append({"kind": "line", "label": label, **entry})
    return rows


def _key(survey: Survey) -> dict[str, Any]:
    """What is sealed until the end."""
    return {
        "page": _PAGE,
        "names": _titles(),
        "pairs": {pair.ident: pair.autogen for pair in survey.pairs},
        "lines": {line.ident: line.origin for line in survey.lines},
        "asked": [[*who, count] for who, count in line_quotas(survey.lines).items()],
        "rows": _score_rows(),
        "runs": [
            {"run": run.spec.label(), "key": run.provenance["key"]}
            for run in results.every(survey.runs)
        ],
    }


def _payload(survey: Survey) -> dict[str, Any]:
    """What the browser gets; the sealed part is not to be read by accident."""
    items = {
        "pairs": [{"id": p.ident, "source": p.source, "texts": p.texts} for p in survey.pairs],
        "lines": [{"id": x.ident, "text": x.text, "long": x.long} for x in survey.lines],
        "asked": min(_PAIRS_ASKED, len(survey.pairs)),
    }
    sealed = json.dumps(_key(survey), sort_keys=True)
    digest = hashlib.sha256((json.dumps(items, sort_keys=True) + sealed).encode()).hexdigest()
    return {
        **items,
        "seed": _SEED,
        "digest": digest,
        "sealed": base64.b64encode(sealed.encode()).decode(),
    }


def _listed(place: int, question: Question) -> str:
    """A question of the plain list."""
    item = question.item
    if isinstance(item, Line):
        return f"<li>{place}. {html.escape(item.text)}</li>"
    first, second = reversed(item.texts) if question.turned else item.texts
    return (
        f"<li>{place}. {html.escape(item.source)}<br>A. {html.escape(first)}"
        f"<br>B. {html.escape(second)}</li>"
    )


def _solved(question: Question) -> str:
    """Who wrote an item, for the key of the plain list."""
    names, item = _titles(), question.item
    if isinstance(item, Line):
        return names[item.origin]
    side = "AB"[item.autogen != int(question.turned)]
    return f"{side} is by {names['autogen']}"


def _plain(survey: Survey) -> str:
    """The questions of the default order, for readers without scripts."""
    questions = order(survey.pairs, survey.lines, _SEED)
    pairs = "".join(_listed(n, q) for n, q in enumerate(questions, 1) if isinstance(q.item, Pair))
    lines = "".join(_listed(n, q) for n, q in enumerate(questions, 1) if isinstance(q.item, Line))
    key = "".join(f"<li>{n}. {_solved(q)}</li>" for n, q in enumerate(questions, 1))
    return (
        "<p>The survey needs scripts, which do not run here. "
        "This is its list of questions; nothing is scored.</p>"
        "<details><summary>Pairs: which is the better reconstruction of the first line?</summary>"
        f"<ul>{pairs}</ul></details>"
        f"<details><summary>Single sentences: does it make sense?</summary><ul>{lines}</ul>"
        "</details><details><summary>Who wrote what: open it after your last answer</summary>"
        f"<ul>{key}</ul></details>"
    )


def fragment(survey: Survey) -> str:
    """The survey as HTML: all items, the sealed key, and the list for readers without scripts.

    Raises:
        BadInput: there is nothing to ask.
    """
    if not survey.pairs and not survey.lines:
        raise BadInput("a survey needs at least one pair or one sentence")
    data = html.escape(json.dumps(_payload(survey), ensure_ascii=False), quote=True)
    return (
        f'<section class="pc-survey" aria-label="Blind survey" data-survey="{data}">'
        f"{_plain(survey)}</section>"
    )


def show_survey(survey: Survey) -> HTML:
    """The survey for a page."""
    return HTML(fragment(survey))


def items_table(survey: Survey) -> pd.DataFrame:
    """What was drawn, and what of it is in the survey."""
    drawn, names = survey.drawn, _titles()
    rows = [
        {
            "items": "pairs of reconstructions",
            "drawn": drawn.sources,
            "different": drawn.sources - drawn.equal,
            "in the survey": len(survey.pairs),
            "asked of a reader": min(_PAIRS_ASKED, len(survey.pairs)),
        }
    ]
    numbers = line_quotas(survey.lines)
    for origin in ORIGINS:
        count = sum(line.origin == origin for line in survey.lines)
        rows.append(
            {
                "items": f"single sentences: {names[origin]}",
                "drawn": drawn.lines[origin],
                "different": drawn.different[origin],
                "in the survey": count,
                "asked of a reader": numbers[origin, False] + numbers[origin, True],
            }
        )
    return pd.DataFrame(rows)


def models_table(survey: Survey) -> pd.DataFrame:
    """How much each model's code holds, on the test set: mean (standard deviation over seeds)."""
    wanted = (
        Column("KL", "kl"),
        Column("MI", "mutual_information"),
        Column("AU", "active_units", 1),
        Column("NLL", "nll"),
    )
    data = frame(survey.runs)
    names = {key: key.partition(" ")[2] for key in survey.runs}
    origins = {method: origin for origin, method in METHODS.items()}
    corpora = {"autogen-yelp": "Yelp sentences", "autogen-ptb": "Penn Treebank"}

    def called(key: str) -> str:
        return f"{_titles()[origins[names[key]]]}, {corpora[key.partition(' ')[0]]}"

    return summary(data, wanted, called)


def sources(survey: Survey) -> list[dict[str, Any]]:
    """Where the items come from."""
    return results.sources(survey.runs)


def undecided() -> list[Finding]:
    """The two items of the paper: no computation can decide what people answer."""
    reason = (
        "a survey of people, which cannot be computed; a reader's own answers stay in the browser"
    )
    return [beyond(item, _SCALE, reason) for item in ("autogen-tab2", "autogen-tab4")]
