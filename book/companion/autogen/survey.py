"""A blind survey that a reader takes in the page: AutoGen's tables 2 and 4.

The items are made while the page is built: reconstructions of test sentences by two models, and
sentences that they wrote from their priors.  What happens afterwards happens in the browser, by
``book/static/survey.js``; :func:`order` is the same rule in Python, so that the list for readers
without scripts has the order of the default seed, and so that a test can compare the two.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from IPython.display import HTML

from companion.build.parameters import Page
from companion.claims import evidence as results
from companion.claims import groups as benchmarks
from companion.claims.premises import Premise
from companion.claims.printed import printed
from companion.claims.verdicts import Finding, beyond
from posterior_collapse import methods
from posterior_collapse.datasets import TextDataset
from posterior_collapse.datasets.arrays import UNK, Split
from posterior_collapse.errors import BadInput, nearest, whole
from posterior_collapse.networks import VAE
from posterior_collapse.runs import Run, build_model, load_data
from posterior_collapse.text import Generated, beam, tasks

RECIPE = "autogen-survey"
# Who can have written a sentence; "real" are controls, which the paper does not have.
METHODS = {"annealed": benchmarks.ANNEAL, "autogen": "autogen(m=1)"}
ORIGINS = (*METHODS, "real")

_PAIRS_ASKED = 20  # the paper: 260 pairs for 13 people
_LINES_ASKED = {"annealed": 8, "autogen": 8, "real": 4}  # the paper: at most 20 a person
_SOURCES = 80  # test sentences that are reconstructed, and as many controls
_DRAWS = 80  # of z from the prior
_LONG = 10  # words; table 4 of the paper parts sentences here
_WIDTH = 5  # versions of beam search; the paper does not give it
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

    sources: int  # sentences that were reconstructed
    equal: int  # pairs left out, because both models wrote the same
    lines: Mapping[str, int]  # origin -> sentences
    different: Mapping[str, int]  # origin -> different sentences among them
    shared: int  # different sentences left out, because they have two origins


class Survey(NamedTuple):
    """All items, and the runs that wrote them."""

    pairs: tuple[Pair, ...]
    lines: tuple[Line, ...]
    drawn: Drawn
    runs: tuple[Run, ...]  # annealed, AutoGen


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
    """Pairs to be judged, sorted by their names, and how many were left out as equal.

    Args:
        sources: sentences.
        annealed, autogen: a reconstruction of each.

    Raises:
        BadInput: not as many reconstructions as sources, or a source that comes twice.
    """
    if not len(sources) == len(annealed) == len(autogen):
        raise BadInput(
            "every source needs two reconstructions, given "
            f"{len(sources)} sources, {len(annealed)} and {len(autogen)} reconstructions"
        )
    if len(set(sources)) < len(sources):
        raise BadInput("a source sentence comes twice; give each once")
    found = []
    for source, one, other in zip(sources, annealed, autogen, strict=True):
        if one != other:
            texts = (min(one, other), max(one, other))
            found.append(Pair(_ident("pair", source, *texts), source, texts, texts.index(other)))
    return tuple(sorted(found)), len(sources) - len(found)


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
    found = [
        Line(_ident("line", text), text, min(who), _words(text) > _LONG)
        for text, who in origins.items()
        if len(who) == 1
    ]
    return tuple(sorted(found)), len(origins) - len(found)


def asked_lines(lines: Iterable[Line]) -> dict[str, int]:
    """How many sentences of each origin a reader sees: as many of one model as of the other."""
    there = {origin: 0 for origin in ORIGINS}
    for line in lines:
        there[line.origin] += 1
    least = min(there[name] for name in METHODS)
    return {
        origin: min(wanted, least if origin in METHODS else there[origin])
        for origin, wanted in _LINES_ASKED.items()
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
    found = list(values)
    for last in range(len(found) - 1, 0, -1):
        place = int(next(numbers) * (last + 1))
        found[last], found[place] = found[place], found[last]
    return found


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
    found = [Question(pair, next(numbers) < 0.5) for pair in chosen]
    mixed: list[Line] = []
    for origin, wanted in asked_lines(lines).items():
        own = [line for line in lines if line.origin == origin]
        mixed += _shuffled(own, numbers)[:wanted]
    return found + [Question(line, False) for line in _shuffled(mixed, numbers)]


# --- what the models write ------------------------------------------------------------------------


def _model(run: Run) -> VAE:
    """The trained model of a run, on the CPU."""
    model = build_model(run.spec)
    model.load_state_dict(run.weights())
    return model.eval()


def _parts(data: TextDataset) -> tuple[Split, Split]:
    """Test sentences to be reconstructed, and others that are controls: all of them different.

    Sentences with unknown words are left out.
    """
    rows: dict[str, int] = {}
    for row, tokens in enumerate(data.test.tokens):
        if UNK not in tokens.tolist():
            rows.setdefault(data.vocabulary.decode(tokens), row)
    chosen = torch.tensor(list(rows.values()))
    count = min(_SOURCES, len(chosen) // 2)
    return data.test.take(chosen[:count]), data.test.take(chosen[len(chosen) - count :])


def _texts(data: TextDataset, split: Split | Generated) -> list[str]:
    return [data.vocabulary.decode(tokens) for tokens in split.tokens]


def premise(page: Page) -> dict[str, Premise]:
    """Whether the models of the survey could have come apart; see the box of the page."""
    first = Page(page.scale, page.seeds[:1], page.device, page.choices)
    found = {method: results.this_build(first, RECIPE, method) for method in METHODS.values()}
    return {"Grammar, this build": results.premise_for(first, found)}


def build(page: Page) -> Survey:
    """Train or load the two models with the page's first seed, and let them write.

    Both read the same sentences and get draws of z from generators with the same seed.  As in the
    paper, z is a draw of the posterior or of the prior, and beam search decodes it.
    """
    first = Page(page.scale, page.seeds[:1], page.device, page.choices)
    runs = {name: results.runs(first, RECIPE, method)[0] for name, method in METHODS.items()}
    data = load_data(runs["annealed"].spec.setup)
    if not isinstance(data, TextDataset):
        raise BadInput(f"a survey is about sentences, and {RECIPE} has images")
    part, controls = _parts(data)
    longest = int(data.train.lengths.max())
    decode: Callable[..., Generated] = partial(beam.beam_search, width=_WIDTH, max_length=longest)
    again: dict[str, list[str]] = {}
    written: dict[str, list[str]] = {}
    for name, run in runs.items():
        model = _model(run)
        generator = torch.Generator().manual_seed(first.seeds[0])
        code = tasks.posterior_draw
        made = tasks.reconstruct(model, part, generator, code=code, decode=decode)
        again[name] = _texts(data, made)
        made = tasks.from_prior(model, _DRAWS, generator, decode=decode)
        written[name] = _texts(data, made)
    sources = _texts(data, part)
    written["real"] = _texts(data, controls)
    pairs, equal = pair_pool(sources, again["annealed"], again["autogen"])
    lines, shared = line_pool(written)
    counted = {name: len(texts) for name, texts in written.items()}
    different = {name: len(set(texts)) for name, texts in written.items()}
    drawn = Drawn(len(sources), equal, counted, different, shared)
    return Survey(pairs, lines, drawn, tuple(runs.values()))


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
    found: dict[tuple[str, bool | None], int] = {
        ("autogen", None): int(preferred["autogen(m=1)"]),
    }
    for long, column in ((False, "meaningful_short"), (True, "meaningful_long")):
        shares: dict[Any, Any] = sensible[column].to_dict()
        for origin, key in (("annealed", "anneal"), ("autogen", "autogen(m=1)")):
            found[origin, long] = int(shares[key])
    return found


def printed_table() -> pd.DataFrame:
    """The paper's percentages that the survey's are put beside."""
    found, names = _printed(), _titles()
    rows = [("better reconstruction", names["autogen"], "any", found["autogen", None])]
    for origin in METHODS:
        for long, told in ((False, f"at most {_LONG} words"), (True, f"more than {_LONG} words")):
            rows.append(("makes sense", names[origin], told, found[origin, long]))
    return pd.DataFrame(rows, columns=["question", "model", "length", "printed, % of answers"])


def _score_rows() -> list[dict[str, Any]]:
    """The lines of the score, for the browser."""
    found, names = _printed(), _titles()
    rows: list[dict[str, Any]] = [
        {
            "kind": "pair",
            "label": f"{names['autogen']} preferred to {names['annealed']}",
            "printed": found["autogen", None],
        }
    ]
    for origin in ORIGINS:
        for long in (False, True):
            length = f"more than {_LONG} words" if long else f"at most {_LONG} words"
            label = f"{names[origin]} makes sense, {length}"
            told = {"origin": origin, "long": long, "printed": found.get((origin, long))}
            rows.append({"kind": "line", "label": label, **told})
    return rows


def _key(survey: Survey) -> dict[str, Any]:
    """What is sealed until the end."""
    return {
        "page": _PAGE,
        "names": _titles(),
        "pairs": {pair.ident: pair.autogen for pair in survey.pairs},
        "lines": {line.ident: line.origin for line in survey.lines},
        "asked": asked_lines(survey.lines),
        "rows": _score_rows(),
        "runs": [{"run": run.spec.label(), "key": run.provenance["key"]} for run in survey.runs],
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
    asked = asked_lines(survey.lines)
    for origin in ORIGINS:
        kept = sum(line.origin == origin for line in survey.lines)
        rows.append(
            {
                "items": f"single sentences: {names[origin]}",
                "drawn": drawn.lines[origin],
                "different": drawn.different[origin],
                "in the survey": kept,
                "asked of a reader": asked[origin],
            }
        )
    return pd.DataFrame(rows)


def models_table(survey: Survey) -> pd.DataFrame:
    """How much each model's code holds, on the test set."""
    wanted = {
        "KL": "kl",
        "MI": "mutual_information",
        "AU": "active_units",
        "NLL": "nll",
    }
    names = _titles()
    rows = [
        {"model": names[origin], **{head: run.metrics[name] for head, name in wanted.items()}}
        for origin, run in zip(METHODS, survey.runs, strict=True)
    ]
    table = pd.DataFrame(rows)
    table["AU"] = table["AU"].astype(np.int64)
    return table


def sources(survey: Survey) -> list[dict[str, Any]]:
    """Where the items come from."""
    return [{**run.provenance, "kind": "this build"} for run in survey.runs]


def undecided(page: Page) -> list[Finding]:
    """The two items of the paper: no computation can decide what people answer."""
    reason = (
        "a survey of people, which cannot be computed; a reader's own answers stay in the browser"
    )
    return [beyond(item, page.scale, reason) for item in ("autogen-tab2", "autogen-tab4")]
