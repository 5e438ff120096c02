"""The page with all methods: their numbers, which to choose, and the papers' own order of them.

The table and the scatter plot are drawn in the browser by ``book/static/explorers/board.js``;
:func:`front` and :func:`fences` are the same rules in Python, for the figure without scripts and
for a test that compares the two.
"""

from __future__ import annotations

import base64
import html
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from companion.claims import evidence, reference
from companion.claims import groups as benchmarks
from companion.claims.comparison import called, cost, printed_row
from companion.claims.intervals import difference
from companion.claims.reference import Result
from companion.claims.table import Column, Runs, cells, frame, values
from companion.claims.verdicts import Interval, correlation_over_pairs
from companion.numbers import number, spread
from companion.show.boxes import table
from companion.show.explorers import section
from companion.show.figures import COLOURS, canvas, png
from posterior_collapse import methods
from posterior_collapse.runs import Spec

_MI = "mutual_information"


class Metric(NamedTuple):
    """A column of the leaderboard."""

    key: str
    title: str
    meaning: str  # with its unit
    better: int  # -1 lower, 1 higher, 0 neither
    digits: int
    factor: float = 1.0


METRICS = (
    Metric("nll", "NLL", "importance-weighted NLL, nats per example", -1, 2),
    Metric("elbo_loss", "−ELBO", "−ELBO, nats per example", -1, 2),
    Metric("kl", "KL", "KL of the posteriors to the prior, nats", 0, 2),
    Metric(_MI, "MI", "mutual information, all test examples aggregated, nats", 1, 2),
    Metric("active_units", "AU", "active units, dimensions", 1, 1),
    Metric("active_rank", "rank", "rank of the active means, dimensions", 1, 1),
    Metric("mutual_posterior_divergence", "MPD", "mutual posterior divergence, nats", 0, 1),
    Metric("accuracy", "accuracy, %", "linear classifier on codes, % right", 1, 1, 100.0),
    Metric("reconstruction_bleu_4", "BLEU-4", "BLEU-4 of reconstructions, percent", 1, 1),
    Metric(
        "sampled_reverse_perplexity",
        "reverse PPL",
        "perplexity of real text under a model of samples: low is varied and plausible",
        -1,
        0,
    ),
    Metric("sample_distance", "samples", "distance of samples to images over real ones'", -1, 2),
    Metric("time_ratio", "time / VAE", "training time over the VAE's with the same seed", -1, 2),
)
# Where accuracy is: with 10,000 labels, on all labels of a text, of an image.
_ACCURACY = ("probe_10000", "codes_linear", "classifier_linear")
# Sets for readers: recipe -> (title, page with the evidence).  Sweeps, and what differs from
# another recipe in a detail, stand on pages of their own.
_SETS = {
    "text-yelp": ("Short Yelp", "../lagging/text"),
    "text-yahoo": ("Yahoo", "../lagging/text"),
    "igp-snli": ("SNLI", "../igp/text"),
    "igp-dbpedia": ("DBpedia", "../igp/labels"),
    "igp-yahoo-question": ("Yahoo questions", "../igp/labels"),
    "autogen-yelp": ("Yelp sentences", "../autogen/text"),
    "autogen-ptb": ("Penn Treebank", "../autogen/text"),
    "generation-yahoo": ("Yahoo, generation", "../scale/generation"),
    "fashion-mnist": ("Fashion-MNIST", "../igp/images"),
    "mnist": ("MNIST", "../igp/images"),
    "five-gaussians": ("Five Gaussians", "../du/geometry"),
    "lagging-synthetic": ("Four Gaussians", "../lagging/mean-space"),
}
_FULL = ("medium", "large", "paper")  # scales; smaller ones are twins of these


class Board(NamedTuple):
    """Results of one data set."""

    title: str
    page: str  # with the evidence
    runs: Runs


def _measured(runs: Runs) -> dict[str, list[Result]]:
    """Results with the metrics that are not stored as such: accuracy, and time over the VAE's."""
    measured = {}
    for method, group in runs.items():
        times = {r.spec.seed: _time_ratio(r, runs.get(benchmarks.VAE, ())) for r in group}
        measured[method] = [
            replace(r, metrics={**r.metrics, "time_ratio": times[r.spec.seed]} | _accuracy(r))
            for r in group
        ]
    return measured


def _accuracy(result: Result) -> dict[str, object]:
    known = [result.metrics[name] for name in _ACCURACY if result.metrics.get(name) is not None]
    return {"accuracy": known[0] if known else None}


def _time_ratio(result: Result, base: Sequence[Result]) -> float | None:
    if result.spec.method == benchmarks.VAE:
        return 1.0
    ratios = cost({result.spec.method: [result], benchmarks.VAE: base}).get(result.spec.method)
    return ratios[0] if ratios else None


def boards(build: Mapping[str, Runs]) -> list[Board]:
    """Every data set with reference results, and this build's.

    Args:
        build: title -> results of this build.
    """
    groups: dict[tuple[str, str], dict[str, list[Spec]]] = {}
    for spec in reference.available():
        if spec.recipe in _SETS and spec.scale in _FULL:
            rows = groups.setdefault((spec.recipe, spec.scale), {})
            rows.setdefault(spec.method, []).append(spec)
    order = list(_SETS)
    stored = []
    for recipe, scale in sorted(groups, key=lambda key: (order.index(key[0]), key[1])):
        title, page = _SETS[recipe]
        runs = {
            method: [reference.load(spec) for spec in sorted(specs, key=lambda one: one.seed)]
            for method, specs in groups[recipe, scale].items()
        }
        stored.append(Board(f"{title}, {scale} scale", page, _measured(runs)))
    own = [Board(title, "../lagging/text", _measured(runs)) for title, runs in build.items()]
    return [*stored, *own]


# --- the explorer ---------------------------------------------------------------------------------


def front(points: Sequence[tuple[float, float]], better: tuple[int, int]) -> list[int]:
    """Places of the points that no other one beats in one coordinate and equals in the other.

    Args:
        points: x and y.
        better: for x and for y, 1 where more is better and -1 where less is.
    """
    scaled = [(x * better[0], y * better[1]) for x, y in points]
    return [
        place
        for place, (x, y) in enumerate(scaled)
        if not any(a >= x and b >= y and (a > x or b > y) for a, b in scaled)
    ]


def fences(sample: Sequence[float]) -> tuple[float, float]:
    """Range of an axis that leaves outliers out: Tukey's outer fences, three times the
    interquartile range beyond the quartiles, and no wider than the sample."""
    low, high = (float(end) for end in np.quantile(sample, [0.25, 0.75]))
    if low == high:
        return min(sample), max(sample)
    reach = 3.0 * (high - low)
    return max(min(sample), low - reach), min(max(sample), high + reach)


def _values(group: Sequence[Result], metric: Metric) -> list[float]:
    """A metric of every seed that has a finite one."""
    known = [result.metrics.get(metric.key) for result in group]
    numbers = [metric.factor * float(value) for value in known if value is not None]
    return [value for value in numbers if math.isfinite(value)]


def payload(shown: Sequence[Board]) -> dict[str, object]:
    """What the browser gets: every value of every seed, rounded to what is shown and two digits."""
    sets = []
    for board in shown:
        rows = []
        for method, group in board.runs.items():
            known = {m.key: [round(v, m.digits + 2) for v in _values(group, m)] for m in METRICS}
            known = {key: own for key, own in known.items() if own}
            rows.append({"method": called(method), "seeds": len(group), "values": known})
        sets.append({"title": board.title, "page": f"{board.page}.html", "rows": rows})
    return {"sets": sets, "metrics": [metric._asdict() for metric in METRICS]}


def _table(shown: Sequence[Board]) -> pd.DataFrame:
    """All methods over all data sets, one row per method and data set."""
    rows = []
    columns = [Column(m.title, m.key, m.digits, m.factor) for m in METRICS]
    for board in shown:
        for method, own in frame(board.runs).groupby("method", sort=False):
            head = {"method": called(str(method)), "data": board.title}
            rows.append({**head, **cells(own, columns)})
    return pd.DataFrame(rows)


def _panel(axes: Axes, board: Board) -> None:
    """NLL against MI, one point per method; outliers stand at the border with their number."""
    pair = {metric.key: metric for metric in METRICS}
    means = {
        method: (float(np.mean(x)), float(np.mean(y)))
        for method, group in board.runs.items()
        if (x := _values(group, pair[_MI])) and (y := _values(group, pair["nll"]))
    }
    axes.set_title(board.title, fontsize=9)
    if not means:
        axes.text(0.5, 0.5, "no NLL", ha="center", transform=axes.transAxes)
        return
    points = list(means.values())
    least, most = fences([y for _, y in points])
    inside = [(x, min(max(y, least), most)) for x, y in points]
    axes.plot(*zip(*inside, strict=True), "o", color=COLOURS["vae"], markersize=4, alpha=0.7)
    for (place, height), border in zip(points, [y for _, y in inside], strict=True):
        if height != border:
            arrow = "↑" if height > border else "↓"
            axes.annotate(f"{arrow} {number(height, 0)}", (place, border), fontsize=7, va="top")
    best = sorted(inside[place] for place in front(points, (1, -1)))
    axes.step(*zip(*best, strict=True), where="pre", color=COLOURS["lagging"], linewidth=1)


def still_figure(shown: Sequence[Board]) -> Figure:
    """The scatter plots of all data sets, for readers without scripts."""
    rows = math.ceil(len(shown) / 3)
    figure, grid = canvas(8.0, 2.4 * rows, 3, rows, squeeze=False)
    for axes, board in itertools.zip_longest(grid.ravel(), shown):
        if board is None:
            axes.set_axis_off()
            continue
        _panel(axes, board)
        axes.tick_params(labelsize=7)
    figure.supxlabel("mutual information (nats)", fontsize=9)
    figure.supylabel("NLL (nats per example)", fontsize=9)
    return figure


def explorer(shown: Sequence[Board], first: str) -> HTML:
    """The leaderboard; without scripts a figure and a table of everything.

    Args:
        shown: of :func:`boards`.
        first: beginning of the title of the data set that is shown first.
    """
    picture = base64.b64encode(png(still_figure(shown))).decode()
    alt = "Scatter plots of NLL against mutual information, one panel per data set."
    caption = (
        "All methods over all data sets: mean (standard deviation over seeds). NLL can be compared "
        "within a data set, and not across them."
    )
    fallback = (
        f'<div class="pc-fallback"><img src="data:image/png;base64,{picture}" '
        f'alt="{html.escape(alt)}">{table(_table(shown), caption).data}</div>'
    )
    titles = [board.title for board in shown]
    start = next((n for n, title in enumerate(titles) if title.startswith(first)), 0)
    data = {**payload(shown), "start": start}
    return HTML(section("board", data, fallback, "Leaderboard"))


# --- which to choose ------------------------------------------------------------------------------


class Need(NamedTuple):
    """What a reader may want, and the metric that says who has it."""

    words: str
    metric: str
    cures: bool = False  # only methods that do not collapse where the VAE does


NEEDS = (
    Need("a likelihood", "nll"),
    Need("codes for classification", "accuracy"),
    Need("diverse, plausible samples", "sampled_reverse_perplexity"),
    Need("the cheapest cure for collapse", "time_ratio", cures=True),
)


class Advice(NamedTuple):
    """One line of the decision table."""

    need: str
    data: str
    choice: str
    evidence: str
    page: str
    short: str  # both in a few words


def _candidates(board: Board, need: Need, metric: Metric) -> dict[str, list[Result]]:
    """Methods that the need is asked of: with the metric, and for a cure alive at every seed."""
    candidates = {}
    for method, group in board.runs.items():
        own = [r for r in group if r.metrics.get(metric.key) is not None]
        alive = [r for r in own if r.metrics.get(_MI) is not None and not evidence.collapsed(r)]
        if own and (not need.cures or (len(alive) == len(group) and method != benchmarks.VAE)):
            candidates[method] = own
    return candidates


def advise(board: Board, need: Need) -> Advice | None:
    """What the results of a data set say about a need, by rule; None where they don't measure it.

    The best mean among methods with two seeds or more is compared with every other one, paired by
    seed and, where it is kept, by test example.  What the 95 % interval of the difference does not
    part from the best ties with it.  Intervals are not widened for the number of comparisons.
    """
    metric = next(one for one in METRICS if one.key == need.metric)

    def said(choice: str, words: str, short: str = "") -> Advice:
        short = short or f"{choice} ({words})"
        return Advice(need.words, board.title, choice, words, board.page, short)

    plain = [r for r in board.runs.get(benchmarks.VAE, ()) if r.metrics.get(_MI) is not None]
    if need.cures and 2 * sum(map(evidence.collapsed, plain)) < len(plain):
        return said("nothing to cure", "the plain VAE does not collapse here")
    runs = _candidates(board, need, metric)
    if not runs:
        return None
    if len(runs) == 1 and need.cures:
        ((only, group),) = runs.items()
        shown = spread(_values(group, metric), metric.digits)
        return said(f"{called(only)}, the only one", f"{metric.title} {shown}, {len(group)} seeds")
    several = {m: group for m, group in runs.items() if len(group) > 1}
    means = {m: float(np.mean(_values(group, metric))) for m, group in (several or runs).items()}
    order = sorted(means, key=lambda method: -metric.better * means[method])
    if len(several) < 2:
        leader = f"{called(order[0])} with {metric.title} {number(means[order[0]], metric.digits)}"
        return said("too few seeds to say", f"fewer than two methods have two seeds; {leader}")
    best, others = order[0], order[1:]
    apart = {m: difference(m, best, metric.key)(several) for m in others}
    ties = [m for m, by in apart.items() if not _is_worse(by, metric)]
    shown = f"{metric.title} {spread(_values(several[best], metric), metric.digits)}"
    words = f"{shown}, {len(several[best])} seeds"
    alone = len(runs) - len(several)
    words += f" ({alone} with one seed not compared)" if alone else ""
    short = f"{called(best)} ({shown.replace(', %', ' in %')})"
    if ties:
        names = ", ".join(called(m) for m in ties[:3])
        more = f" and {len(ties) - 3} more" if len(ties) > 3 else ""
        count = f"{len(ties)} other methods" if len(ties) > 1 else called(ties[0])
        short += f", from which {count} can't be told apart"
        return said(f"{called(best)}, tied with {names}{more}", f"{words} for the first", short)
    rest = f"next {called(others[0])}, {_by(apart[others[0]], metric)}"
    return said(called(best), f"{words}; {rest}", short)


def _is_worse(by: Interval | None, metric: Metric) -> bool:
    """Whether a difference to the best one is beyond its interval."""
    return by is not None and (by.low > 0 if metric.better < 0 else by.high < 0)


def _by(by: Interval | None, metric: Metric) -> str:
    ends = () if by is None else (by.mean, by.low, by.high)
    mean, low, high = (number(metric.factor * end, metric.digits) for end in ends)
    return f"by {mean} [{low}, {high}]"


def decisions(shown: Sequence[Board]) -> list[Advice]:
    """The decision table: every need on every data set that measures it."""
    lines = [advise(board, need) for need in NEEDS for board in shown]
    return [line for line in lines if line is not None]


def decision_table(lines: Sequence[Advice], caption: str) -> HTML:
    """The decision table for a page, each line with a link to its evidence."""
    rows = pd.DataFrame(
        [(a.need, a.data, a.choice, a.evidence, "results") for a in lines],
        columns=["you need", "data", "choose", "measured", "evidence"],
    )
    links = {(n, "evidence"): f"{line.page}.html" for n, line in enumerate(lines)}
    return table(rows, caption, links=links)


def answer(lines: Sequence[Advice]) -> str:
    """What the decision table says of its first data set, for the two needs that come first."""
    own = [line for line in lines if line.data == lines[0].data][:2]
    sentences = [f"If you need {line.need}: {line.short}." for line in own]
    return html.escape(f"On {own[0].data}. {' '.join(sentences)}")


# --- the papers' order ----------------------------------------------------------------------------


class Order(NamedTuple):
    """Methods in the order of their printed mutual information."""

    rows: pd.DataFrame  # method, printed MI, measured MI, seeds
    correlation: Interval | None  # Spearman's, over methods; None with fewer than two
    apart: int  # pairs of methods whose means differ by more than the sum of their spreads
    pairs: int  # of methods with two seeds or more


def compare(runs: Runs, printed: pd.DataFrame) -> Order:
    """Rank methods by their mutual information, here and in a printed table.

    A printed row stands for one method, the one whose parameters are most like its own.

    Args:
        runs: results of one data set by method; one seed each or more.
        printed: rows of a paper's table for that data set, with a column ``mi``.
    """
    nearest: dict[object, tuple[int, str, float, list[float]]] = {}
    data = frame(runs)
    for method in runs:
        row, own = printed_row(printed, method), values(data, method, _MI).tolist()
        if row is not None and not pd.isna(row["mi"]) and own:
            alike = _alike(method, str(row["method_key"]))
            if row.name not in nearest or alike > nearest[row.name][0]:
                nearest[row.name] = (alike, method, float(row["mi"]), own)
    known = [(method, theirs, own) for _, method, theirs, own in nearest.values()]
    known.sort(key=lambda item: (item[1], float(np.mean(item[2]))))
    table = pd.DataFrame(
        {
            "method": [called(method) for method, _, _ in known],
            "MI, printed": [number(theirs, 1) for _, theirs, _ in known],
            "MI": [spread(own, 2) for _, _, own in known],
            "seeds": [str(len(own)) for _, _, own in known],
        }
    )
    several = [own for _, _, own in known if len(own) > 1]
    pairs = list(itertools.combinations(several, 2))
    return Order(table, _spearman(known), sum(_are_apart(*pair) for pair in pairs), len(pairs))


def _alike(method: str, key: str) -> int:
    """How many parameters a method shares with a printed one."""
    own, theirs = methods.parameters(method), methods.parameters(key)
    return sum(own.get(name) == value for name, value in theirs.items())


def _spearman(known: Sequence[tuple[str, float, list[float]]]) -> Interval | None:
    theirs = [value for _, value, _ in known]
    ours = [float(np.mean(own)) for _, _, own in known]
    if len(set(theirs)) < 2 or len(set(ours)) < 2:
        return None
    return correlation_over_pairs(float(stats.spearmanr(theirs, ours).statistic), len(known))


def _are_apart(first: Sequence[float], second: Sequence[float]) -> bool:
    gap = abs(float(np.mean(first)) - float(np.mean(second)))
    return gap > float(np.std(first, ddof=1) + np.std(second, ddof=1))


def sentence(order: Order) -> str:
    """What the comparison shows, in one or two sentences."""
    if order.correlation is None:
        return "Too few methods have a printed number to be ranked."
    n, mean = order.correlation.n, number(order.correlation.mean, 2)
    low, high = number(order.correlation.low, 2), number(order.correlation.high, 2)
    text = (
        f"Over {n} methods the ranks of measured and printed MI have a correlation of "
        f"{mean} [{low}, {high}]."
    )
    if order.pairs:
        text += (
            f" Of {order.pairs} pairs of methods with several seeds {order.apart} are further "
            "apart than the sum of their standard deviations."
        )
    return text
