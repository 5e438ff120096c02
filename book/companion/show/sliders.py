"""A slider over still frames that works in a static page, without a kernel.

Every frame is rendered beforehand, and a small script in the output moves through them, so the
page works from a server, from disk and in Jupyter. Without scripts three of the frames are shown.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from companion.show.explorers import section
from companion.show.figures import has_shades
from posterior_collapse.errors import BadInput

_DPI = 80
_STILLS = 3
_FLAT = 2.5  # width over height, from which a picture scrolls rather than shrinks
_LEAST_HEIGHT = 9  # rem, of such a picture


def as_webp(figure: Any, dpi: int = _DPI) -> bytes:
    """A figure, or the bytes of a picture, as a small WebP picture.

    Both a lossless and a lossy form are tried and the smaller is kept: few colours do better
    without loss, dense scatter plots with.

    Args:
        figure: a matplotlib figure, or the bytes of a PNG, JPEG or WebP picture.
        dpi: resolution for figures.

    Raises:
        BadInput: if it is neither.
    """
    if isinstance(figure, bytes):
        raw = figure
    elif hasattr(figure, "savefig"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi, bbox_inches=None)
        raw = buffer.getvalue()
    else:
        raise BadInput(
            f"a frame is a matplotlib figure or the bytes of a picture, given {type(figure)}"
        )
    try:
        picture = Image.open(io.BytesIO(raw)).convert("RGB")
    except OSError as error:
        raise BadInput(f"a frame of {len(raw)} bytes is not a picture") from error
    forms = []
    for options in ({"lossless": True}, {"quality": 85}):
        buffer = io.BytesIO()
        picture.save(buffer, format="WEBP", method=4, **options)
        forms.append(buffer.getvalue())
    return min(forms, key=len)


def _source(picture: bytes) -> str:
    """A WebP picture as an address."""
    return f"data:image/webp;base64,{base64.b64encode(picture).decode()}"


def _figure(picture: bytes, alt: str, label: str, look: str) -> str:
    """A frame with its label: it fits the page, or scrolls where it is too flat for a phone.

    Panels in a row would shrink until nothing can be seen in them.
    """
    width, height = Image.open(io.BytesIO(picture)).size
    flat = width / height
    wide = flat > _FLAT
    least = f" min-width: {_LEAST_HEIGHT * flat:.1f}rem;" if wide else ""
    # The label stays in sight while its picture scrolls.
    place = "position: sticky; left: 0; width: fit-content;" if wide else "text-align: center;"
    return (
        f'<figure class="frame{look}" style="margin: 0;">'
        # the theme's class for pictures that the dark mode must leave as they are
        f'<img class="dark-light" src="{_source(picture)}" '
        f'alt="{html.escape(f"{alt} {label}", quote=True)}" '
        f'width="{width}" height="{height}" style="max-width: 100%; height: auto;{least}">'
        f'<figcaption style="{place}">{html.escape(label)}</figcaption></figure>'
    )


def _stills(count: int) -> list[int]:
    """The first, the middle and the last frame."""
    return sorted({round(part * (count - 1) / (_STILLS - 1)) for part in range(_STILLS)})


def fragment(
    pictures: Sequence[bytes], labels: Sequence[str], description: str, alt: str, look: str = ""
) -> str:
    """A slider as HTML; without scripts it is the first, the middle and the last frame."""
    stills = _stills(len(pictures))
    shown = "".join(_figure(pictures[place], alt, labels[place], look) for place in stills)
    note = f"{len(stills)} of {len(pictures)} frames; the slider needs scripts."
    data = {
        "name": description,
        "alt": alt,
        "labels": list(labels),
        # those that are in the page already are taken from there
        "frames": [None if n in stills else _source(p) for n, p in enumerate(pictures)],
    }
    fallback = f'<div class="pc-stills">{shown}<p><em>{note}</em></p></div>'
    return section("frames", data, fallback, alt)


def slider(
    frames: Sequence[Any], labels: Sequence[str], description: str, alt: str, dpi: int = _DPI
) -> None:
    """Display frames with a slider and a play button.

    Args:
        frames: matplotlib figures or bytes of pictures, all of one size.
        labels: a label for each frame, shown under it, such as ``"after 40 updates"``.
        description: what the slider moves through, such as ``"training"``.
        alt: what the pictures show, for readers who cannot see them.
        dpi: resolution for figures.

    Raises:
        BadInput: if there are no frames, or not as many labels as frames, or no ``alt``.
    """
    if not frames or len(frames) != len(labels):
        raise BadInput(
            f"a slider needs one label for each frame, given {len(frames)} frames and "
            f"{len(labels)} labels"
        )
    if not alt.strip():
        raise BadInput("a slider needs an alt text that says what its pictures show")
    pictures = [as_webp(frame, dpi) for frame in frames]
    drawn = all(isinstance(frame, Figure) and not has_shades(frame) for frame in frames)
    shown = fragment(pictures, labels, description, alt, " pc-ink" if drawn else "")
    display({"text/html": shown, "text/plain": f"{alt} ({len(frames)} frames)"}, raw=True)
