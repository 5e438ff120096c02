"""Frames become small pictures with a description, and wrong input is refused."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from companion.show import sliders
from posterior_collapse.errors import BadInput


def png(shade: int, size: tuple[int, int] = (80, 60)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (shade, shade, 0)).save(file, "PNG")
    return file.getvalue()


def test_pictures_become_webp_of_the_same_size() -> None:
    picture = Image.open(io.BytesIO(sliders.as_webp(png(100))))
    assert (picture.format, picture.size) == ("WEBP", (80, 60))


def test_figures_are_drawn_at_the_asked_resolution() -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1], [0, 1])
    picture = Image.open(io.BytesIO(sliders.as_webp(figure, dpi=50)))
    assert picture.size == (100, 50)


@pytest.mark.parametrize("frame", [b"", b"no picture", 3, "a.png"])
def test_what_is_no_picture_is_refused(frame: object) -> None:
    with pytest.raises(BadInput, match="picture"):
        sliders.as_webp(frame)


@pytest.mark.parametrize(
    ("frames", "labels", "alt"),
    [([], [], "a"), ([png(0)], ["a", "b"], "a"), ([png(0)], ["a"], " ")],
)
def test_a_slider_needs_frames_labels_and_a_description(
    frames: list[bytes], labels: list[str], alt: str
) -> None:
    with pytest.raises(BadInput, match="a slider needs"):
        sliders.slider(frames, labels, "move", alt)


@pytest.mark.parametrize(("count", "shown"), [(1, [0]), (2, [0, 1]), (9, [0, 4, 8])])
def test_stills_are_the_first_the_middle_and_the_last(count: int, shown: list[int]) -> None:
    pictures = [sliders.as_webp(png(k)) for k in range(count)]
    labels = [f"frame {k}" for k in range(count)]
    found = sliders.fragment(pictures, labels, "time", "Alt")
    assert [
        k for k in range(count) if f'<figcaption style="text-align: center;">frame {k}<' in found
    ] == shown


@pytest.mark.parametrize(("width", "least"), [(100, ""), (240, ""), (300, " min-width: 27.0rem;")])
def test_a_flat_picture_scrolls_rather_than_shrinks(width: int, least: str) -> None:
    """On a phone five panels in a row would be too small to see anything."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, 100)).save(buffer, format="PNG")
    found = sliders.fragment([sliders.as_webp(buffer.getvalue())], ["a"], "time", "Alt")
    assert f'style="max-width: 100%; height: auto;{least}"' in found
    place = "position: sticky; left: 0; width: fit-content;" if least else "text-align: center;"
    assert f'<figcaption style="{place}">a<' in found


def test_labels_and_descriptions_cannot_break_out_of_the_page() -> None:
    found = sliders.fragment([sliders.as_webp(png(0))], ["</script><b>&"], "t", 'a "quote" <i>')
    found = found.partition("<script>(")[0]  # what follows is our own
    assert "<b>" not in found and "<i>" not in found and found.count("</script>") == 1
    assert "&lt;b&gt;&amp;" in found and "&quot;quote&quot;" in found


def test_every_frame_is_in_the_page_once() -> None:
    pictures = [sliders.as_webp(png(40 * k)) for k in range(6)]
    found = sliders.fragment(pictures, [str(k) for k in range(6)], "time", "Alt")
    assert [found.count(sliders._source(picture)) for picture in pictures] == [1] * 6
