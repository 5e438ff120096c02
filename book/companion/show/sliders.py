"""A slider over still frames that works in a static page, without a kernel.

Every frame is rendered beforehand. The widgets are tied in the browser, so the saved page moves
by itself, from a server or from disk. Where widgets cannot run, three of the frames are shown.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import ipywidgets
from IPython.display import display
from PIL import Image

from posterior_collapse.errors import BadInput

_DPI = 80
_MILLISECONDS = 600  # per frame while playing: slow enough to read the label
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


def _figure(picture: bytes, alt: str, label: str) -> str:
    """A frame with its label: it fits the page, or scrolls where it is too flat for a phone.

    Panels in a row would shrink until nothing can be seen in them.
    """
    width, height = Image.open(io.BytesIO(picture)).size
    flat = width / height
    wide = flat > _FLAT
    least = f" min-width: {_LEAST_HEIGHT * flat:.1f}rem;" if wide else ""
    # The label stays in sight while its picture scrolls.
    place = "position: sticky; left: 0; width: fit-content;" if wide else "text-align: center;"
    data = base64.b64encode(picture).decode()
    return (
        '<figure class="frame" style="margin: 0;">'
        # the theme's class for pictures that the dark mode must leave as they are
        f'<img class="dark-light" src="data:image/webp;base64,{data}" '
        f'alt="{html.escape(f"{alt} {label}", quote=True)}" '
        f'width="{width}" height="{height}" style="max-width: 100%; height: auto;{least}">'
        f'<figcaption style="{place}">{html.escape(label)}</figcaption></figure>'
    )


def still_frames(pictures: Sequence[bytes], labels: Sequence[str], alt: str) -> str:
    """The first, the middle and the last frame as HTML, for readers without scripts."""
    last = len(pictures) - 1
    chosen = sorted({round(part * last / (_STILLS - 1)) for part in range(_STILLS)})
    shown = "".join(_figure(pictures[place], alt, labels[place]) for place in chosen)
    note = f"{len(chosen)} of {len(pictures)} frames; the slider needs scripts."
    return f'<div class="still-frames">{shown}<p><em>{note}</em></p></div>'


def _widgets(pictures: Sequence[bytes], labels: Sequence[str], description: str, alt: str) -> Any:
    """Frames in a stack, with a slider and a play button tied to it in the browser."""
    last = len(pictures) - 1
    frames = [
        ipywidgets.HTML(_figure(picture, alt, label), layout=ipywidgets.Layout(width="100%"))
        for picture, label in zip(pictures, labels, strict=True)
    ]
    stack = ipywidgets.Stack(
        frames, selected_index=0, layout=ipywidgets.Layout(width="100%", overflow="auto hidden")
    )
    bar = ipywidgets.IntSlider(
        value=0,
        min=0,
        max=last,
        description=description,
        readout=False,  # the label under the frame says more than the frame's number
        style={"description_width": "initial"},
        layout=ipywidgets.Layout(flex="1 1 12rem", max_width="30rem"),
    )
    play = ipywidgets.Play(value=0, min=0, max=last, interval=_MILLISECONDS)
    ipywidgets.jslink((play, "value"), (bar, "value"))
    ipywidgets.jslink((bar, "value"), (stack, "selected_index"))
    controls = ipywidgets.HBox(
        [play, bar], layout=ipywidgets.Layout(flex_flow="row wrap", width="100%")
    )
    return ipywidgets.VBox([controls, stack], layout=ipywidgets.Layout(width="100%"))


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
    box = _widgets(pictures, labels, description, alt)
    bundle = dict(box._repr_mimebundle_())
    stills = still_frames(pictures, labels, alt)
    bundle["text/html"] = stills
    bundle["text/plain"] = f"{alt} ({len(frames)} frames)"
    display(bundle, raw=True)
    # a page shows one form of an output, so readers without scripts get an output of their own
    display({"text/html": f"<noscript>{stills}</noscript>", "text/plain": ""}, raw=True)
