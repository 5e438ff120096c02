"""The page on AutoGen and text: this build's models at work, by the paper's beam search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch

from companion.autogen.text import COMPARED, VERSUS, Way, called, printed_wins, versus
from companion.claims.groups import ANNEAL_EPOCHS, FRACTIONS
from companion.numbers import number
from posterior_collapse.datasets import Split, TextDataset
from posterior_collapse.errors import BadInput
from posterior_collapse.runs import Run, load_data, trained_model
from posterior_collapse.text import Decode, Generated, beam, tasks
from posterior_collapse.text import metrics as text_metrics


def _text(run: Run) -> TextDataset:
    data = load_data(run.spec.setup)
    if not isinstance(data, TextDataset):
        raise BadInput(f"sentences come from text, given {run.spec.recipe}")
    return data


def _beam(data: TextDataset) -> Decode:
    """Beam search as the paper decodes; its width is not printed."""
    return partial(beam.beam_search, width=5, max_length=int(data.train.lengths.max()))


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
        data, model = _text(run), trained_model(run)
        part = _head(data.test, count)
        source = [data.vocabulary.decode(row) for row in part.tokens]
        generated = tasks.reconstruct(
            model,
            part,
            torch.Generator().manual_seed(run.spec.seed),
            code=tasks.posterior_draw,
            decode=_beam(data),
        )
        written[method] = [data.vocabulary.decode(row) for row in generated.tokens]
    return Rebuilt(source, written)


def rebuilt_table(rebuilt: Rebuilt, count: int = 6) -> pd.DataFrame:
    """The first sentences side by side."""
    columns = {"input": rebuilt.source[:count]}
    columns |= {called(method): texts[:count] for method, texts in rebuilt.written.items()}
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


def preference_table(rebuilt: Rebuilt) -> pd.DataFrame:
    """Who a counter of shared words would prefer, beside whom people preferred."""
    cells = [
        preferred(rebuilt.source, rebuilt.written[first], rebuilt.written[second])
        for first, second in VERSUS
    ]
    return pd.DataFrame(
        {
            "first – second": [versus(*pair) for pair in VERSUS],
            "preferred by people, printed, %": [number(value, 0) for value in printed_wins()],
            "shares more words, this build, %": [number(value, 0) for value in cells],
        }
    )


_PATHS: dict[str, Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]] = {
    "straight": tasks.linear,
    "great circle": tasks.spherical,
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
    paths = []
    for method in (ANNEAL_EPOCHS, FRACTIONS[1.0]):
        run = runs[method][0]
        data, model = _text(run), trained_model(run)
        generator = torch.Generator().manual_seed(run.spec.seed)
        part = _head(data.test, 2 * pairs)
        codes = tasks.encode(model, part, generator)
        half = len(codes) // 2
        differ = part.lengths[:half] != part.lengths[half : 2 * half]
        place = int(differ.int().argmax())  # the first one, or 0 where there is none
        for name, path in _PATHS.items():
            made: Generated = tasks.interpolate(
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
            paths.append(Way(method, name, lines[place], *text_metrics.smoothness(lines)))
    return paths


def ways_table(paths: Sequence[Way]) -> pd.DataFrame:
    """The sentences of one path side by side, one column a model and a path."""
    shown = {f"{called(way.method)}, {way.path}": way.sentences for way in paths}
    rows = max(map(len, shown.values()))
    shares = [f"{place / (rows - 1):.3g}" for place in range(rows)]
    return pd.DataFrame({"share of the way": shares, **shown})
