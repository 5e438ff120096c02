"""A player of latent spaces: two trainings side by side, by method and seed, frame by frame.

Places are kept in 256 steps of each axis, which is finer than a dot, so that a page of 25 trainings
holds less than half a megabyte.
"""

from __future__ import annotations

import base64
import functools
import html
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from numpy.typing import NDArray

from companion.show.explorers import section
from companion.show.figures import COLOURS, png, row
from posterior_collapse.datasets import DataMissing, Sizes, TextDataset, five_gaussians, synthetic
from posterior_collapse.errors import BadInput, nearest
from posterior_collapse.recipes import Setup
from posterior_collapse.runs import Spec
from posterior_collapse.runs.spec import load_data

_POINTS = 250  # of a frame, at most
_STEPS = 255


class Track(NamedTuple):
    """What is shown of one training: T frames of B points in the plane."""

    group: str  # data set, for readers
    method: str  # for readers
    seed: int
    updates: NDArray[np.integer]  # (T,), rising
    points: NDArray[np.floating]  # (T, B, 2)
    labels: NDArray[np.integer] | None = None  # (B,), decides colours
    examples: tuple[str, ...] | None = None  # B or more texts: what each point is

    def thinned(self) -> Track:
        """With as many points as the page holds: the first ones, which are no selection."""
        labels = None if self.labels is None else self.labels[:_POINTS]
        count = min(_POINTS, self.points.shape[1])
        examples = None if self.examples is None else self.examples[:count]
        return self._replace(points=self.points[:, :_POINTS], labels=labels, examples=examples)


_LATENTS = {
    "lagging-synthetic": lambda sizes: synthetic.latents(sizes).valid,
    "five-gaussians": lambda sizes: five_gaussians.latents(sizes)[1].z,
}


@functools.lru_cache(maxsize=4)
def _examples(setup: Setup) -> tuple[str, ...] | None:
    data = load_data(setup)
    if not isinstance(data, TextDataset):
        return None
    rows = torch.cat(data.valid.batch_rows(128))[:_POINTS]  # in the order of the recorder
    texts = [data.vocabulary.decode(tokens) for tokens in data.valid.tokens[rows]]
    if setup.dataset not in _LATENTS:
        return tuple(texts)
    latents = _LATENTS[setup.dataset](Sizes(setup.train, setup.valid, setup.test))[rows]
    told = [f"({', '.join(f'{value:z.2f}' for value in z)})".replace("-", "−") for z in latents]
    return tuple(f"{text}; written from z = {z}" for text, z in zip(texts, told, strict=True))


def examples(spec: Spec) -> tuple[str, ...] | None:
    """The validation sentences behind the points of a recorded space, in the order of the points.

    Of data that were generated, the z that each was written from is told as well. None without
    the data, or where they are images.
    """
    try:
        return _examples(spec.setup)
    except DataMissing:
        return None


def _packed(track: Track, limit: float, texts: Sequence[object]) -> dict[str, object]:
    """A track for the script; points outside the axes are put on their border."""
    scaled = (np.clip(track.points.astype(float) / limit, -1, 1) + 1) / 2 * _STEPS
    places = np.rint(scaled).astype(np.uint8)
    return {
        "group": track.group,
        "method": track.method,
        "seed": track.seed,
        "updates": [int(count) for count in track.updates],
        "count": places.shape[1],
        "points": base64.b64encode(places.tobytes()).decode(),
        "labels": None if track.labels is None else [int(label) for label in track.labels],
        "examples": None if track.examples is None else texts.index(track.examples),
    }


def _still(tracks: Sequence[Track], limit: float, axes: tuple[str, str]) -> Figure:
    """The last frames of some tracks, for readers without scripts."""
    figure, grid = row(len(tracks), 3.4, 3.4)
    palette = [COLOURS[name] for name in ("vae", "lagging", "mi", "aggregate", "accent")]
    for panel, track in zip(grid, tracks, strict=True):
        last = np.clip(track.points[-1].astype(float), -limit, limit)
        kinds = np.zeros(len(last), int) if track.labels is None else track.labels
        panel.scatter(*last.T, s=8, c=[palette[kind % len(palette)] for kind in kinds])
        panel.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel=axes[0])
        panel.set_title(f"{track.method}, update {track.updates[-1]}", fontsize=9)
    figure.axes[0].set_ylabel(axes[1])
    return figure


def player(
    tracks: Sequence[Track],
    start: tuple[str, str],
    limit: float,
    axes: tuple[str, str],
    caption: str,
    alt: str,
    diagonal: bool = False,
    playing: bool = False,
) -> HTML:
    """Two trainings side by side; without scripts their last frames.

    Args:
        tracks: every training that can be chosen.
        start: methods of the two that are shown first; the first training of each.
        limit: both axes run from -limit to limit.
        axes: names of x and y.
        caption: inline HTML.
        alt: what the points are, for readers who cannot see them.
        diagonal: whether x = y is drawn.
        playing: whether it plays by itself, again and again, unless the reader wants less motion.

    Raises:
        BadInput: frames that are not rising in updates, or of another shape; or no such method.
    """
    shown = [track.thinned() for track in tracks]
    names = [track.method for track in shown]
    for name in start:
        if name not in names:
            raise BadInput(nearest(name, names, "method with frames"))
    first = [names.index(name) for name in start]
    for track in shown:
        if track.points.shape != (len(track.updates), track.points.shape[1], 2):
            raise BadInput(
                f"{len(track.updates)} frames of points in the plane are needed, given an array of "
                f"shape {track.points.shape}"
            )
        if not (np.diff(track.updates) > 0).all():
            raise BadInput(f"updates rise from frame to frame, given {list(track.updates)}")
    texts = list(dict.fromkeys(track.examples for track in shown if track.examples is not None))
    data = {
        "tracks": [_packed(track, limit, texts) for track in shown],
        "examples": texts,
        "start": first,
        "limit": limit,
        "axes": list(axes),
        "alt": alt,
        "diagonal": diagonal,
        "playing": playing,
    }
    still = base64.b64encode(png(_still([shown[place] for place in first], limit, axes))).decode()
    fallback = (
        f'<p class="pc-fallback pc-ink"><img src="data:image/png;base64,{still}" '
        f'alt="{html.escape(f"{alt} The last frames.", quote=True)}"></p>'
        f'<p class="pc-caption">{caption}</p>'
    )
    return HTML(section("player", data, fallback, alt))
