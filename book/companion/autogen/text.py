"""What the page on AutoGen and text asks: figure 2 and tables 1 to 5 of Mansbridge et al. 2018.

The paper's figure is lost from our text and its tables 2 and 4 are surveys of people.  The bounds
in the rules are this project's reading of the paper's words, and the measures that stand for
people's judgement are proxies; the page says both beside each verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from companion.build.parameters import Page
from companion.claims import evidence as results
from companion.claims import groups as benchmarks
from companion.claims.premises import Premise
from companion.claims.printed import printed
from companion.claims.reference import Result
from companion.claims.reference import results as kept
from companion.claims.verdicts import Check, Finding, above, answer, below, between, decide, side
from companion.numbers import number, spread
from companion.show.figures import COLOURS
from posterior_collapse import generation, methods, text_metrics
from posterior_collapse.datasets import Split, TextDataset
from posterior_collapse.errors import BadInput
from posterior_collapse.generation import Decode, Generated
from posterior_collapse.layers import Progress
from posterior_collapse.networks import VAE
from posterior_collapse.objectives import ELBO, AutoGen
from posterior_collapse.runs import Run, build_model, load_data

__all__ = [
    "COMPARED",
    "FRACTIONS",
    "RULES",
    "Rebuilt",
    "Way",
    "build",
    "called",
    "decide_fractions",
    "decide_generation",
    "decide_interpolation",
    "decide_lengths",
    "decide_matched",
    "decide_reconstruction",
    "decide_survey",
    "decide_training",
    "examples",
    "findings",
    "fraction_figure",
    "generation_table",
    "groups",
    "kl_share",
    "length_figure",
    "matched_table",
    "preference_table",
    "premises",
    "preferred",
    "real_perplexity",
    "rebuild",
    "rebuilt_table",
    "reconstruction_table",
    "reference",
    "smoothness_table",
    "sources",
    "survey_table",
    "training_figure",
    "ways",
    "ways_table",
    "written_table",
]

Found = Mapping[str, Sequence[Result]]  # method -> its results, one a seed

_TITLES = {
    "autogen-yelp": "Yelp sentences, reference",
    "autogen-ptb": "Penn Treebank, reference",
    "autogen-grammar": "Grammar, this build",
}
_VAE, _ANNEAL, _HALF, _ONE, _TWO = benchmarks.AUTOGEN[:5]
COMPARED = (_VAE, _ANNEAL, _ONE, _TWO)  # the paper's four models
FRACTIONS = {0.0: _VAE, 0.5: _HALF, 1.0: _ONE, 2.0: _TWO}  # m -> method
_LOOKS = {
    _VAE: (COLOURS["vae"], "o", "-"),
    _ANNEAL: (COLOURS["sky"], "s", "--"),
    _HALF: (COLOURS["accent"], "v", ":"),
    _ONE: (COLOURS["lagging"], "^", "-"),
    _TWO: (COLOURS["aggregate"], "D", "-."),
}
_EDGES = (5, 10, 15)  # words; sentences are parted after them, and the paper parts at 10
_LEAST = 20  # sentences of a length that a mean is taken over
_LONG = 10


def called(method: str) -> str:
    """Name for readers, with the parameter that the paper gives."""
    objective = methods.get(method).objective
    if isinstance(objective, AutoGen):
        return f"AutoGen, m = {objective.m:g}"
    title = methods.describe(method).title
    if method.startswith("beta-vae"):
        return f"β-VAE, β = {_weight(method, 0.0):.3g}"
    return "VAE, annealed" if method == _ANNEAL else title


def build(page: Page) -> dict[str, list[Run]]:
    """This build's runs, one list a method."""
    return {method: results.runs(page, "autogen-grammar", method) for method in benchmarks.AUTOGEN}


def reference(recipe: str) -> dict[str, list[Result]]:
    """The reference results that the repository keeps of a recipe; empty without any."""
    found = {method: kept(recipe, method, "medium") for method in benchmarks.AUTOGEN}
    return {method: group for method, group in found.items() if group}


def groups(runs: Mapping[str, Sequence[Run]]) -> dict[str, Found]:
    """Reference results, where there are any, and this build's; a title says which is which."""
    found: dict[str, Found] = {}
    for recipe in ("autogen-yelp", "autogen-ptb"):
        if stored := reference(recipe):
            found[_TITLES[recipe]] = stored
    own = {method: [results.from_run(run) for run in group] for method, group in runs.items()}
    return {**found, _TITLES["autogen-grammar"]: own}


def sources(shown: Mapping[str, Found]) -> list[dict[str, Any]]:
    """Provenance of every result that a page shows."""
    return [r.provenance for found in shown.values() for group in found.values() for r in group]


def premises(page: Page, shown: Mapping[str, Found]) -> dict[str, Premise]:
    """The premise of every group; see :mod:`companion.claims.premises`."""
    return {title: results.premise_for(page, found) for title, found in shown.items()}


def findings(shown: Mapping[str, Found], held: Mapping[str, Premise]) -> list[Finding]:
    """What the rules and this page's own ones say of every group, under its premise."""
    rules = (*RULES, decide_fractions, decide_matched)
    return [
        one
        for title, found in shown.items()
        for one in results.under((rule(found) for rule in rules), held[title])
    ]


# --- numbers over seeds ---------------------------------------------------------------------------

Measure = Callable[[Result], float | None]


def _metric(name: str, factor: float = 1.0) -> Measure:
    """A stored number of a result; None where it has none."""

    def measured(result: Result) -> float | None:
        value = result.metrics.get(name)
        return None if value is None else factor * float(value)

    return measured


def _values(group: Sequence[Result], measure: Measure) -> list[float]:
    found = [measure(result) for result in group]
    return [value for value in found if value is not None and np.isfinite(value)]


def _paired(found: Found, first: str, second: str, measure: Measure) -> list[tuple[float, float]]:
    """A measure of two methods, seed by seed; seeds that one lacks are left out."""
    others = {result.spec.seed: measure(result) for result in found.get(second, ())}
    pairs = [(measure(r), others.get(r.spec.seed)) for r in found.get(first, ())]
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def _less(found: Found, first: str, second: str, measure: Measure) -> list[float]:
    return [a - b for a, b in _paired(found, first, second, measure)]


def _over(found: Found, first: str, second: str, measure: Measure) -> list[float]:
    return [a / b for a, b in _paired(found, first, second, measure) if b]


def _scale(found: Found) -> str:
    return next(iter(next(iter(found.values())))).spec.scale


def _complete(found: Found) -> bool:
    """Whether the paper's four models are there, with a seed in common."""
    seeds = [{result.spec.seed for result in found.get(method, ())} for method in COMPARED]
    return bool(set.intersection(*seeds))


# --- training: figure 2 ---------------------------------------------------------------------------


def _weight(method: str, epochs: float) -> float:
    """Weight of the KL after so many epochs."""
    objective = methods.get(method).objective
    if not isinstance(objective, ELBO | AutoGen):
        raise BadInput(f"the share of the KL is that of an ELBO or of AutoGen, given {method}")
    # A thousand updates an epoch: a weight may depend on epochs, not on their size.
    return objective.weight(Progress(round(1000 * epochs), 1000))


def kl_share(method: str, history: pd.DataFrame) -> NDArray[np.float64]:
    """Share of the KL in the objective on validation sentences after each epoch, percent.

    The objective is (1 + m) times the reconstruction loss plus the weighted KL.

    Raises:
        BadInput: a method with another objective.
    """
    objective = methods.get(method).objective
    times = 1.0 + objective.m if isinstance(objective, AutoGen) else 1.0
    kl = history["valid_kl"].to_numpy(dtype=float)
    reconstruction = history["valid_loss"].to_numpy(dtype=float) - kl
    weights = np.array([_weight(method, float(epoch)) for epoch in history["epoch"]])
    return 100.0 * weights * kl / (times * reconstruction + weights * kl)


def _elbo(history: pd.DataFrame) -> NDArray[np.float64]:
    """The VAE's ELBO on validation sentences after each epoch, nats; for every method the same."""
    return -history["valid_loss"].to_numpy(dtype=float)


def training_figure(found: Found) -> Figure:
    """Share of the KL in the objective (left) and ELBO (right), one line a seed."""
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for method in (m for m in COMPARED if m in found):
        colour, marker, style = _LOOKS[method]
        for place, result in enumerate(found[method]):
            history = result.history
            options = {"color": colour, "marker": marker, "linestyle": style, "markersize": 3.5}
            label = called(method) if place == 0 else None
            left.plot(history["epoch"], kl_share(method, history), label=label, **options)
            right.plot(history["epoch"], _elbo(history), **options)
    left.set(xlabel="epoch", ylabel="KL, % of the objective")
    right.set(xlabel="epoch", ylabel="ELBO, nats per sentence")
    _zoom(right, found)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _zoom(axes: Axes, found: Found) -> None:
    """Leave out the first epochs' steep rise, which would flatten all that follows."""
    tails = [
        _elbo(result.history)[len(result.history) // 4 :]
        for method in COMPARED
        for result in found.get(method, ())
    ]
    values = np.concatenate(tails) if tails else np.empty(0)
    if values.size:
        low, high = float(values.min()), float(values.max())
        room = 0.08 * max(high - low, 1e-3)
        axes.set_ylim(low - room, high + room)


def _last_share(result: Result) -> float:
    return float(kl_share(result.spec.method, result.history)[-1])


def _last_elbo(result: Result) -> float:
    return float(_elbo(result.history)[-1])


def _lost(result: Result) -> float:
    """ELBO at the end less its highest value before, nats; 0 where it ends highest."""
    elbo = _elbo(result.history)
    return float(elbo[-1] - elbo.max())


_STEADY = 0.5  # nats: a smaller fall counts as none, as validation sentences are few


def decide_training(found: Found) -> Finding | None:
    """Rule for figure 2; None without the four models.

    The KL's share grows with m; the ELBO of m = 1 ends within 5 percent of the VAE's, nearer to it
    than that of m = 2, and does not fall by more than half a nat; that of m = 2 does.
    """
    if not _complete(found):
        return None
    apart = [100.0 * (a / b - 1.0) for a, b in _paired(found, _ONE, _VAE, _last_elbo)]
    checks = [
        above("KL share, m = 1 less VAE, points", _less(found, _ONE, _VAE, _last_share), 0.0),
        above(
            "KL share, m = 1 less annealed VAE, points",
            _less(found, _ONE, _ANNEAL, _last_share),
            0.0,
        ),
        above("KL share, m = 2 less m = 1, points", _less(found, _TWO, _ONE, _last_share), 0.0),
        between("−ELBO at the end, m = 1 over VAE, % more", apart, -5.0, 5.0),
        above("ELBO at the end, m = 1 less m = 2, nats", _less(found, _ONE, _TWO, _last_elbo), 0.0),
        above(
            "m = 1: ELBO at the end less its highest, nats", _values(found[_ONE], _lost), -_STEADY
        ),
        below(
            "m = 2: ELBO at the end less its highest, nats", _values(found[_TWO], _lost), -_STEADY
        ),
    ]
    return decide("autogen-fig2", _scale(found), checks)


# --- reconstruction: tables 1 and 2 ---------------------------------------------------------------

_BLEU = _metric("reconstruction_bleu_2")
_EXACT = _metric("reconstruction_exact", 100.0)

_REBUILT = (
    ("BLEU-1", "reconstruction_bleu_1", 1.0, 1),
    ("BLEU-2", "reconstruction_bleu_2", 1.0, 1),
    ("BLEU-4", "reconstruction_bleu_4", 1.0, 1),
    ("exact, %", "reconstruction_exact", 100.0, 1),
    ("KL", "kl", 1.0, 2),
    ("MI", "mutual_information", 1.0, 2),
    ("AU", "active_units", 1.0, 1),
    ("−ELBO", "elbo_loss", 1.0, 2),
    ("NLL", "nll", 1.0, 2),
)


def _table(found: Found, columns: Sequence[tuple[str, str, float, int]]) -> pd.DataFrame:
    """One row a method: mean (standard deviation over seeds)."""
    shown: dict[str, list[str]] = {"method": [called(method) for method in found]}
    for head, name, factor, digits in columns:
        measure = _metric(name, factor)
        shown[head] = [spread(_values(group, measure), digits) for group in found.values()]
    shown["seeds"] = [str(len(group)) for group in found.values()]
    return pd.DataFrame(shown)


def reconstruction_table(found: Found) -> pd.DataFrame:
    """BLEU and exact matches of test sentences, and what the codes hold."""
    return _table(found, _REBUILT)


def _kept_text(result: Result, name: str) -> list[str]:
    if name not in result.arrays:
        raise BadInput(f"{result.spec.label()} keeps no {name}; train it again")
    return [str(text) for text in result.arrays[name]]


def examples(found: Found) -> pd.DataFrame:
    """Test sentences and what the four models make of them, first seed."""
    shown = [method for method in COMPARED if found.get(method)]
    columns = {"input": _kept_text(found[shown[0]][0], "text_source")}
    for method in shown:
        columns[called(method)] = _kept_text(found[method][0], "text_reconstruction")
    return pd.DataFrame(columns)


def decide_reconstruction(found: Found) -> Finding | None:
    """Rule for table 1: the VAE without annealing ignores z, and AutoGen reconstructs best.

    Greedy reconstructions from the posterior's mean; None without the four models.
    """
    if not _complete(found):
        return None
    checks = [
        side(
            below(
                "VAE: mutual information, nats",
                _values(found[_VAE], _metric("mutual_information")),
                0.1,
            )
        ),
        above("BLEU-2, m = 1 less VAE", _less(found, _ONE, _VAE, _BLEU), 0.0),
        above("BLEU-2, m = 1 less annealed VAE", _less(found, _ONE, _ANNEAL, _BLEU), 0.0),
    ]
    return decide("autogen-tab1", _scale(found), checks)


_VERSUS = ((_ANNEAL, _VAE), (_ONE, _ANNEAL), (_TWO, _ONE))


def _printed_wins() -> list[float]:
    """Percent of answers for the first of each pair."""
    rows = printed("autogen", "table2").set_index("method_key")["wins"]
    keys = ("anneal", "autogen(m=1)", "autogen(m=2)")
    return [float(rows[key]) for key in keys]


def _versus(first: str, second: str) -> str:
    return f"{called(first)} – {called(second)}"


def survey_table(shown: Mapping[str, Found]) -> pd.DataFrame:
    """Printed percentages of the survey beside differences of BLEU-2 and exact matches."""
    columns: dict[str, list[str]] = {
        "first – second": [_versus(*pair) for pair in _VERSUS],
        "first preferred, printed, %": [number(value, 0) for value in _printed_wins()],
    }
    for title, found in shown.items():
        for head, measure in (("BLEU-2", _BLEU), ("exact, points", _EXACT)):
            cells = [spread(_less(found, *pair, measure), 1) for pair in _VERSUS]
            columns[f"{head}: {title}"] = cells
    return pd.DataFrame(columns)


def decide_survey(found: Found) -> Finding | None:
    """Rule for table 2, by proxy: each first model has a higher BLEU-2 and more exact matches.

    Exact matches are compared where one of the two models has any.
    None without the four models.
    """
    if not _complete(found):
        return None
    checks: list[Check] = []
    for first, second in _VERSUS:
        name = f"{called(first)} less {called(second)}"
        checks.append(above(f"BLEU-2, {name}", _less(found, first, second, _BLEU), 0.0))
        if any(value for pair in _paired(found, first, second, _EXACT) for value in pair):
            less = _less(found, first, second, _EXACT)
            checks.append(above(f"exact matches, {name}, points", less, 0.0))
    return decide("autogen-tab2", _scale(found), checks)


# --- this build's models at work ------------------------------------------------------------------


def _model(run: Run) -> VAE:
    """The trained model of a run, on the CPU."""
    model = build_model(run.spec)
    model.load_state_dict(run.weights())
    return model.eval()


def _text(run: Run) -> TextDataset:
    data = load_data(run.spec.setup)
    if not isinstance(data, TextDataset):
        raise BadInput(f"sentences come from text, given {run.spec.recipe}")
    return data


def _beam(data: TextDataset) -> Decode:
    """Beam search as the paper decodes; its width is not printed."""
    return partial(generation.beam_search, width=5, max_length=int(data.train.lengths.max()))


def _head(split: Split, count: int) -> Split:
    return split.take(torch.arange(min(count, len(split))))


class Rebuilt(NamedTuple):
    """Test sentences, and what each model makes of them."""

    source: list[str]
    written: dict[str, list[str]]  # method -> as many sentences


def rebuild(runs: Mapping[str, Sequence[Run]], count: int = 100) -> Rebuilt:
    """The paper's own way: beam search from a draw of q(z|x), first seed of this build.

    Args:
        runs: of :func:`build`.
        count: test sentences; the split is in random order.
    """
    written = {}
    source: list[str] = []
    for method in (m for m in COMPARED if m in runs):
        run = runs[method][0]
        data, model = _text(run), _model(run)
        part = _head(data.test, count)
        source = [data.vocabulary.decode(row) for row in part.tokens]
        found = generation.reconstruct(
            model,
            part,
            torch.Generator().manual_seed(run.spec.seed),
            code=generation.posterior_draw,
            decode=_beam(data),
        )
        written[method] = [data.vocabulary.decode(row) for row in found.tokens]
    return Rebuilt(source, written)


def rebuilt_table(found: Rebuilt, count: int = 6) -> pd.DataFrame:
    """The first sentences side by side."""
    columns = {"input": found.source[:count]}
    columns |= {called(method): texts[:count] for method, texts in found.written.items()}
    return pd.DataFrame(columns)


def preferred(source: Sequence[str], first: Sequence[str], second: Sequence[str]) -> float:
    """Percent of sentences of which the first reconstruction shares more words than the second.

    The measure is ROUGE-1's F1 with the source; ties count half, as for a judge who tosses a coin.

    Raises:
        BadInput: lists of different lengths, or without sentences.
    """
    if not len(source) == len(first) == len(second) or not source:
        raise BadInput(
            "a preference needs two reconstructions of each source, given "
            f"{len(source)} sources, {len(first)} and {len(second)} reconstructions"
        )
    wins = 0.0
    for wanted, one, other in zip(source, first, second, strict=True):
        scores = [text_metrics.rouge([text], [wanted], 1).f1 for text in (one, other)]
        wins += 0.5 if scores[0] == scores[1] else float(scores[0] > scores[1])
    return 100.0 * wins / len(source)


def preference_table(found: Rebuilt) -> pd.DataFrame:
    """Who a counter of shared words would prefer, beside whom people preferred."""
    cells = [
        preferred(found.source, found.written[first], found.written[second])
        for first, second in _VERSUS
    ]
    return pd.DataFrame(
        {
            "first – second": [_versus(*pair) for pair in _VERSUS],
            "preferred by people, printed, %": [number(value, 0) for value in _printed_wins()],
            "shares more words, this build, %": [number(value, 0) for value in cells],
        }
    )


# --- generation: tables 3 and 4 -------------------------------------------------------------------

_WAYS = {"greedy": "most probable words", "sampled": "drawn words"}


def written_table(found: Found) -> pd.DataFrame:
    """The first sentences from draws of the prior, most probable words, first seed."""
    return pd.DataFrame(
        {
            called(method): _kept_text(found[method][0], "text_greedy")
            for method in COMPARED
            if found.get(method)
        }
    )


_GENERATED = (
    ("words", "words", 1.0, 1),
    ("unknown, %", "unknown", 100.0, 1),
    ("different, %", "different", 100.0, 1),
    ("forward perplexity", "forward_perplexity", 1.0, 1),
    ("reverse perplexity", "reverse_perplexity", 1.0, 1),
)


def generation_table(found: Found) -> pd.DataFrame:
    """Measures of generated sentences for both ways to decode, and of real ones."""
    parts = []
    for prefix, told in _WAYS.items():
        rows = _table(found, [(head, f"{prefix}_{name}", f, d) for head, name, f, d in _GENERATED])
        rows.insert(1, "decoded by", told)
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def real_perplexity(found: Found) -> float | None:
    """Perplexity of real test sentences under the language model that judges generated ones."""
    values = [v for group in found.values() for v in _values(group, _metric("real_perplexity"))]
    return float(np.mean(values)) if values else None


_FORWARD = {way: _metric(f"{way}_forward_perplexity") for way in _WAYS}
_ALIKE = (0.8, 1.25)  # ratios of perplexities that count as similar


def decide_generation(found: Found) -> Finding | None:
    """Rule for table 3: generations of m = 1 are similarly coherent as the VAEs'.

    Similar is a ratio of forward perplexities from 0.8 to 1.25.  The paper does not say how z
    becomes words, so both ways are asked.  If it has collapsed it writes as they do without
    earning it, and its collapse decides.
    None without the four models.
    """
    if not _complete(found):
        return None
    checks = [
        between(
            f"forward perplexity, {told}, m = 1 over {called(other)}",
            _over(found, _ONE, other, _FORWARD[way]),
            *_ALIKE,
        )
        for way, told in _WAYS.items()
        for other in (_VAE, _ANNEAL)
    ]
    living = results.alive(called(_ONE), found[_ONE])
    return decide("autogen-tab3", _scale(found), results.earned(living, checks))


class _Judged(NamedTuple):
    """Generated sentences, each (N,)."""

    nats: NDArray[Any]  # -log p under the judge
    tokens: NDArray[
        Any
    ]  # what the nats are summed over: words, marks and an end, where there is one
    words: NDArray[Any]  # as a reader counts them: without marks


def _judged(result: Result, way: str = "greedy") -> _Judged:
    names = [f"{way}_judged_{name}" for name in _Judged._fields]
    for name in names:
        if name not in result.arrays:
            raise BadInput(f"{result.spec.label()} keeps no {name}; train it again")
    return _Judged(*(np.asarray(result.arrays[name], dtype=float) for name in names))


def _perplexity(least: float, most: float, way: str = "greedy") -> Measure:
    """Forward perplexity of sentences of more than ``least`` and at most ``most`` words.

    None where there are fewer than 20.
    """

    def measured(result: Result) -> float | None:
        found = _judged(result, way)
        own = (found.words > least) & (found.words <= most)
        if own.sum() < _LEAST:
            return None
        return float(np.exp(found.nats[own].sum() / found.tokens[own].sum()))

    return measured


def _long_share(result: Result) -> float:
    """Percent of generated sentences with more than ten words."""
    words = _judged(result).words
    return float(100.0 * (words > _LONG).mean())


def _buckets(found: Found) -> list[tuple[float, float]]:
    """Ranges of length, (more than, at most): every length its own where few are above ten."""
    words = [_judged(r, way).words for m in COMPARED for r in found.get(m, ()) for way in _WAYS]
    every = np.concatenate(words) if words else np.empty(0)
    low, high = np.quantile(every, (0.01, 0.99)) if every.size else (0.0, np.inf)
    if high <= _LONG:
        return [(float(n - 1), float(n)) for n in range(round(low), round(high) + 1)]
    return list(zip((0.0, *_EDGES), (*_EDGES, np.inf), strict=True))


def _bucket_name(low: float, high: float) -> str:
    if np.isinf(high):
        return f"over {low:g}"
    return f"{high:g}" if high == low + 1 else f"{low + 1:g}–{high:g}"


def length_figure(found: Found) -> Figure:
    """Forward perplexity by length, one panel a way to decode; mean over seeds, a dot a seed."""
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    buckets = _buckets(found)
    labels = [_bucket_name(*bucket) for bucket in buckets]
    for axes, (way, told) in zip(panels, _WAYS.items(), strict=True):
        for place, method in enumerate(m for m in COMPARED if found.get(m)):
            colour, marker, style = _LOOKS[method]
            shift = 0.08 * (place - 1.5)
            cells = [_values(found[method], _perplexity(*b, way)) for b in buckets]
            x = [n + shift for n, cell in enumerate(cells) if cell]
            y = [float(np.mean(cell)) for cell in cells if cell]
            label = called(method) if axes is panels[0] else None
            axes.plot(x, y, color=colour, marker=marker, linestyle=style, label=label)
            for n, cell in enumerate(cells):
                axes.plot([n + shift] * len(cell), cell, ".", color=colour, markersize=3)
        axes.set_xticks(range(len(labels)), labels)
        axes.set(xlabel="words", title=told, xlim=(-0.5, len(labels) - 0.5))
    if any(len(line.get_xdata()) for axes in panels for line in axes.lines):
        panels[0].set_yscale("log")
        low, high = panels[0].get_ylim()
        # Over more than a decade the labels of all nine digits would overlap.
        subs = (1.0, 2.0, 5.0) if high > 8.0 * low else tuple(np.arange(1.0, 10.0))
        panels[0].yaxis.set_major_locator(LogLocator(subs=subs))
        panels[0].yaxis.set_minor_locator(NullLocator())
        panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("forward perplexity")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure


def decide_lengths(found: Found) -> Finding | None:
    """Rule for table 4, by proxy: what makes less sense to people has a higher perplexity.

    Printed: m = 1 makes less sense than the VAEs up to ten words and as much as the annealed VAE
    beyond; m = 2 less than m = 1 in both; the VAE without annealing writes nothing longer.
    Comparisons for which a model wrote fewer than 20 sentences are left out, and the last one
    where no model writes longer sentences.
    None without the four models, or if nothing is left.
    """
    if not _complete(found):
        return None
    short, long = _perplexity(0, _LONG), _perplexity(_LONG, np.inf)
    wanted = (
        ("m = 1 over annealed VAE, at most 10 words", _ONE, _ANNEAL, short, above),
        ("m = 2 over m = 1, at most 10 words", _TWO, _ONE, short, above),
        ("m = 2 over m = 1, more than 10 words", _TWO, _ONE, long, above),
    )
    checks = []
    if any(value > 5.0 for name in COMPARED[1:] for value in _values(found[name], _long_share)):
        shares = _values(found[_VAE], _long_share)
        checks.append(below("VAE: sentences of more than 10 words, %", shares, 5.0))
    for told, first, second, measure, rule in wanted:
        if ratios := _over(found, first, second, measure):
            checks.append(rule(f"perplexity, {told}", ratios, 1.0))
    if ratios := _over(found, _ONE, _ANNEAL, long):
        told = "perplexity, m = 1 over annealed VAE, more than 10 words"
        checks.append(between(told, ratios, *_ALIKE))
    return decide("autogen-tab4", _scale(found), checks) if checks else None


# --- interpolation: table 5 -----------------------------------------------------------------------


class Way(NamedTuple):
    """Sentences between two test sentences, for one model and one path."""

    method: str
    path: str
    sentences: list[str]  # of one pair, ends included
    overlap: float  # of neighbours, over all pairs
    ends: float  # overlap of the two ends, over all pairs
    distinct: float  # share of different sentences on a path, over all pairs


_PATHS: dict[str, Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]] = {
    "straight": generation.linear,
    "great circle": generation.spherical,
}


def ways(runs: Mapping[str, Sequence[Run]], pairs: int = 40, points: int = 9) -> list[Way]:
    """Paths between the means of test sentences, beam search, first seed of this build.

    Args:
        runs: of :func:`build`.
        pairs: of neighbours in the test split.
        points: on a path, ends included.

    Returns:
        For each model and path; the sentences kept are those of the first pair whose two sentences
        differ in length.
    """
    found = []
    for method in (_ANNEAL, _ONE):
        run = runs[method][0]
        data, model = _text(run), _model(run)
        generator = torch.Generator().manual_seed(run.spec.seed)
        part = _head(data.test, 2 * pairs)
        codes = generation.encode(model, part, generator)
        half = len(codes) // 2
        differ = part.lengths[:half] != part.lengths[half : 2 * half]
        place = int(differ.int().argmax())  # the first one, or 0 where there is none
        for name, path in _PATHS.items():
            made: Generated = generation.interpolate(
                model,
                codes[:half],
                codes[half : 2 * half],
                points,
                generator,
                path=path,
                decode=_beam(data),
            )
            texts = [data.vocabulary.decode(row) for row in made.tokens]
            lines = [texts[start : start + points] for start in range(0, len(texts), points)]
            found.append(Way(method, name, lines[place], *text_metrics.smoothness(lines)))
    return found


def ways_table(found: Sequence[Way]) -> pd.DataFrame:
    """The sentences of one path side by side, one column a model and a path."""
    shown = {f"{called(way.method)}, {way.path}": way.sentences for way in found}
    rows = max(map(len, shown.values()))
    shares = [f"{place / (rows - 1):.3g}" for place in range(rows)]
    return pd.DataFrame({"share of the way": shares, **shown})


def smoothness_table(shown: Mapping[str, Found], made: Sequence[Way]) -> pd.DataFrame:
    """Overlap and different sentences: every result's straight greedy paths, and this build's."""
    rows = [
        {
            "results": title,
            "method": called(method),
            "path, decoder": "straight, greedy",
            "overlap of neighbours": spread(_values(group, _OVERLAP), 3),
            "overlap of the ends": spread(_values(group, _ENDS), 3),
            "different on a path": spread(_values(group, _DISTINCT), 3),
        }
        for title, found in shown.items()
        for method, group in found.items()
        if method in COMPARED
    ]
    rows += [
        {
            "results": f"{_TITLES['autogen-grammar']}, first seed",
            "method": called(way.method),
            "path, decoder": f"{way.path}, beam",
            "overlap of neighbours": number(way.overlap, 3),
            "overlap of the ends": number(way.ends, 3),
            "different on a path": number(way.distinct, 3),
        }
        for way in made
    ]
    return pd.DataFrame(rows)


_OVERLAP, _ENDS = _metric("interpolation_overlap"), _metric("interpolation_ends")
_DISTINCT = _metric("interpolation_distinct")


def decide_interpolation(found: Found) -> Finding | None:
    """Rule for table 5: neighbours are most alike with m = 1, less with the plain VAE and m = 2.

    That is what the text says of the two models it leaves out.  And the path of m = 1 has more
    different sentences than that of the annealed VAE, which repeats itself in the printed example.
    None without the four models.
    """
    if not _complete(found):
        return None
    checks = [
        above("overlap of neighbours, m = 1 less VAE", _less(found, _ONE, _VAE, _OVERLAP), 0.0),
        above("overlap of neighbours, m = 1 less m = 2", _less(found, _ONE, _TWO, _OVERLAP), 0.0),
        above(
            "different sentences on a path, m = 1 less annealed VAE",
            _less(found, _ONE, _ANNEAL, _DISTINCT),
            0.0,
        ),
    ]
    return decide("autogen-tab5", _scale(found), checks)


# --- m between whole numbers, and beta-VAE --------------------------------------------------------

_KL, _NLL = _metric("kl"), _metric("nll")
_PANELS = (
    ("KL", _KL, "KL, nats"),
    ("BLEU", _BLEU, "BLEU-2 of reconstructions"),
    ("ELBO", _metric("elbo_loss", -1.0), "ELBO, nats"),
)


def fraction_figure(found: Found) -> Figure:
    """KL, BLEU-2 and ELBO against m; crosses are the beta-VAEs with beta = 1 / (1 + m)."""
    figure = Figure(figsize=(8.4, 3.0), layout="constrained")
    for axes, (_, measure, told) in zip(figure.subplots(1, 3), _PANELS, strict=True):
        cells = {m: _values(found.get(name, ()), measure) for m, name in FRACTIONS.items()}
        some = {m: cell for m, cell in cells.items() if cell}
        means = [float(np.mean(cell)) for cell in some.values()]
        axes.plot(list(some), means, color=COLOURS["lagging"], marker="^", label="AutoGen")
        for m, cell in some.items():
            axes.plot([m] * len(cell), cell, ".", color=COLOURS["lagging"], markersize=4)
        for m, name in FRACTIONS.items():
            values = _values(found.get(benchmarks.MATCHED.get(name, ""), ()), measure)
            if values:
                axes.plot([m + 0.06] * len(values), values, "x", color=COLOURS["vae"], label=_CROSS)
        axes.set(xlabel="m", ylabel=told, xticks=list(FRACTIONS))
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    handles = {name: line for name, line in lines.items() if not name.startswith("_")}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure


_CROSS = "β-VAE, β = 1 / (1 + m)"


def decide_fractions(found: Found) -> Finding | None:
    """Own rule: KL and BLEU-2 rise from m = 0 over 0.5 and 1 to 2; None without these models."""
    if not all(found.get(name) for name in FRACTIONS.values()):
        return None
    steps = list(FRACTIONS.items())
    checks = []
    for (low, first), (high, second) in zip(steps, steps[1:], strict=False):
        for told, measure in (("KL, nats", _KL), ("BLEU-2", _BLEU)):
            if less := _less(found, second, first, measure):
                checks.append(above(f"{told}, m = {high:g} less m = {low:g}", less, 0.0))
    question = "a larger m, whole or not, puts more into the code and reconstructs better"
    return answer(question, _scale(found), checks) if checks else None


def matched_table(found: Found) -> pd.DataFrame:
    """AutoGen beside the beta-VAE with beta = 1 / (1 + m)."""
    wanted = [name for pair in benchmarks.MATCHED.items() for name in pair]
    return _table({name: found[name] for name in wanted if found.get(name)}, _REBUILT)


_MARGINS = (("KL, nats", _KL, 0.5), ("NLL, nats", _NLL, 0.5), ("BLEU-2", _BLEU, 2.0))


def decide_matched(found: Found) -> Finding | None:
    """Own rule: with Adam, AutoGen and its beta-VAE end in the same place.

    The confidence interval of the difference, seed by seed, lies within half a nat of KL and NLL
    and two points of BLEU-2.  None without such a pair.
    """
    checks = []
    for first, second in benchmarks.MATCHED.items():
        for told, measure, margin in _MARGINS:
            if less := _less(found, first, second, measure):
                name = f"{told}, {called(first)} less {called(second)}"
                checks.append(between(name, less, -margin, margin))
    question = "AutoGen and a β-VAE with β = 1 / (1 + m) land in the same place"
    return answer(question, _scale(found), checks) if checks else None


RULES = (
    decide_training,
    decide_reconstruction,
    decide_survey,
    decide_generation,
    decide_lengths,
    decide_interpolation,
)
