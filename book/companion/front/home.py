"""The home page: a player of the posterior mean space, three findings in numbers, the counts."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from companion.build import reader, sources
from companion.claims import groups as benchmarks
from companion.claims import reference
from companion.claims.verdicts import Interval, bounded, interval
from companion.lagging import mean_space
from companion.numbers import ends
from companion.papers import status
from companion.show.figures import Panel, canvas, png, scatter_space
from posterior_collapse.errors import BadInput

_LIMIT = 3.0  # of the axes; points outside are drawn on their border
_UNIT = 127 / _LIMIT  # steps of one byte for one unit of the axes
_TITLES = ("Basic training", "Aggressive training")


def _bytes(means: NDArray[np.floating]) -> NDArray[np.int8]:
    return np.round(np.clip(means, -_LIMIT, _LIMIT) * _UNIT).astype(np.int8)


def _dots(panel: Panel) -> str:
    """The points as a path of dots, in bytes' units, for a picture without scripts."""
    points = zip(_bytes(panel.model_mean), _bytes(panel.inference_mean), strict=True)
    return "".join(f"M{x} {-int(y)}h0" for x, y in points)


def _space(panel: Panel, title: str) -> str:
    return (
        f'<div class="pc-space pc-space-{panel.title}"><p>{title}</p>'
        '<svg viewBox="-135 -135 270 270" aria-hidden="true">'
        '<path d="M-400 0H400M0-135V135"/>'
        '<path class="pc-diagonal" d="M-127 127L127-127"/>'
        f'<path class="pc-dots" d="{_dots(panel)}"/></svg></div>'
    )


def _frames(basic: reference.Result, aggressive: reference.Result) -> list[tuple[int, list[Panel]]]:
    """Both methods after the same updates: (updates, two panels)."""
    both = np.intersect1d(basic.arrays["grid_iteration"], aggressive.arrays["grid_iteration"])
    named = {"basic": basic, "aggressive": aggressive}
    return [
        (n, [Panel(t, r.spec.method, *mean_space.space_at(r, n)[1:]) for t, r in named.items()])
        for n in map(int, both)
    ]


def _player() -> str:
    """Basic and aggressive training side by side; its last picture stands without scripts."""
    basic, aggressive = (runs[0] for runs in _pair())
    frames = _frames(basic, aggressive)
    updates = [iteration for iteration, _ in frames]
    packed = np.stack(
        [
            _bytes(means)
            for _, row in frames
            for panel in row
            for means in (panel.model_mean, panel.inference_mean)
        ]
    )
    data = base64.b64encode(packed.tobytes()).decode()
    shown = "".join(_space(p, title) for p, title in zip(frames[-1][1], _TITLES, strict=True))
    label = (
        f"{packed.shape[1]} sequences after {updates[-1]:,} updates of basic and of aggressive "
        "training. Basic: all at the origin. Aggressive: along the diagonal."
    )
    return (
        f'<figure class="pc-stage" data-updates="{",".join(map(str, updates))}" '
        f'data-frames="{data}"><div class="pc-spaces" role="img" aria-label="{label}">{shown}</div>'
        f'<div class="pc-controls"><output>update {updates[-1]:,}</output></div><figcaption>'
        "Each point is a sequence. Across: what its code means to the decoder. Up: what the "
        "encoder says. On the diagonal they agree; at the origin the code says nothing."
        "</figcaption></figure>"
    )


def card() -> bytes:
    """The picture of a social card, 1200 by 630 pixels: both spaces at the end, and the title."""
    basic, aggressive = (runs[0] for runs in _pair())
    figure, grid = canvas(12.0, 6.3, 2)
    figure.suptitle("Posterior Collapse, Reproduced", fontsize=34, fontweight="bold")
    figure.get_layout_engine().set(w_pad=0.5, h_pad=0.3)
    for axes, result, title in zip(grid, (basic, aggressive), _TITLES, strict=True):
        scatter_space(axes, mean_space.panels(result, ())[-1], _LIMIT)
        axes.set_title(title, fontsize=24)
        axes.set(xticks=(), yticks=())
    return png(figure, dpi=100)


def _pair() -> list[list[reference.Result]]:
    """Basic and aggressive training of the first paper, at its own scale."""
    return [reference.results("lagging-synthetic", m, "paper") for m in ("vae", "lagging")]


def _over_seeds(runs: Sequence[reference.Result], name: str) -> Interval:
    """Of a quantity that is not negative; its estimates round to that."""
    return bounded(interval([max(float(run.metrics[name]), 0.0) for run in runs]), 0.0)


def _with_interval(own: Interval, digits: int = 2) -> str:
    if own.n == 1:  # which has no interval
        return f"{own.mean:z.{digits}f}"
    mean, low, high = ends(own[:3], digits)
    return f"{mean} <small>[{low}, {high}]</small>"


def _item(page: str, lead: str, text: str) -> str:
    return f'<li><a href="../notebooks/{page}.html"><b>{lead}</b></a><span>{text}</span></li>'


def _agreement() -> str:
    none, some = (_over_seeds(runs, "mutual_information") for runs in _pair())
    return _item(
        "lagging/mean-space",
        f"{_with_interval(none)} against {_with_interval(some)} nats",
        f"of information in the code: basic and aggressive training of the same networks, "
        f"{some.n} seeds at the paper's scale.",
    )


def _waste() -> str:
    method = benchmarks.isotropic("medium").high.diagonal
    runs = reference.results(benchmarks.NARROW, method, "medium")
    kl, mi = (_over_seeds(runs, name) for name in ("kl", "mutual_information"))
    how = "a code that says next to nothing" if mi.mean < 0.1 * kl.mean else "a code in use"
    seeds = "1 seed" if kl.n == 1 else f"{kl.n} seeds"
    return _item(
        "igp/text",
        f"{_with_interval(kl, 1)} nats of KL, {_with_interval(mi)} of information",
        f"From narrow first weights a target for the KL is met by {how}: SNLI, {seeds}.",
    )


def _likelihood() -> str:
    runs = reference.results("text-yelp", "scale-vae(des_std=0.7)+anneal(start=0)", "medium")
    worse = interval([float(r.metrics["nll"] - r.metrics["scaled_printed_nll"]) for r in runs])
    return _item(
        "scale/text",
        f"{_with_interval(worse, 1)} nats",
        "is what Scale-VAE's likelihood gains by its formula alone: as printed it is no bound. "
        f"Short Yelp, {worse.n} seeds.",
    )


def hero() -> str:
    """The player beside three findings, each a link to its page, with 95 % intervals over seeds."""
    items = "".join((_agreement(), _waste(), _likelihood()))
    return f'<div class="pc-hero">{_player()}<ol class="pc-findings">{items}</ol></div>'


def _outputs(notebook: Any) -> str:
    texts = (
        output.get("data", {}).get("text/html", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )
    return "".join(texts)


def status_bar() -> str:
    """The bar of the executed status page, with links that lead there.

    Raises:
        BadInput: the status page shows no bar.
    """
    text = (sources.find_root() / status.SOURCE).read_text(encoding="utf-8")
    shown = re.search(r'<nav class="pc-bar".*?</nav>', _outputs(reader.read(text, status.SOURCE)))
    if shown is None:
        raise BadInput(f"{status.SOURCE} shows no bar of its counts")
    return shown[0].replace('href="#', 'href="../notebooks/papers/status.html#')
