"""Figures on a dark page: light lines on the page's own ground, shades as they were drawn."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from browser import Browser, find_chromium
from companion import show
from companion.show import figures, sliders

GROUND = (18, 18, 18)  # of the theme in the dark


def lines() -> Figure:
    figure, axes = figures.canvas(4, 3)
    axes.plot([0, 1], [0, 1], color=figures.COLOURS["vae"], linewidth=6)
    axes.set(xlabel="across", ylabel="up")
    return figure


def shades() -> Figure:
    return figures.heat_figure(pd.DataFrame([[1.0, 2.0], [3.0, 4.0]]), ("a", "b", "c"))


def test_shades_are_images_and_contours_and_nothing_else() -> None:
    figure, axes = figures.canvas(2, 2)
    axes.contourf(np.eye(3))
    assert figures.has_shades(figure) and figures.has_shades(shades())
    assert not figures.has_shades(lines())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip("Chromium is not installed (on Debian: apt-get install chromium)")
    tab = Browser()
    yield tab
    tab.close()


def seen(browser: Browser, place: int) -> NDArray[np.uint8]:
    """The pixels of an image of the page that is open, (H, W, 3)."""
    box = f"document.querySelectorAll('img')[{place}].getBoundingClientRect()"
    names = ("x", "y", "width", "height")
    clip = {name: browser.run(f"{box}.{name}") for name in names} | {"scale": 1}
    shot = browser.call("Page.captureScreenshot", format="png", clip=clip)["data"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_follow_the_page(browser: Browser, root: Path, tmp_path: Path, theme: str) -> None:
    static, ground = (root / "book" / "static").as_uri(), GROUND if theme == "dark" else (255,) * 3
    frame = sliders.as_webp(lines())
    parts = [show.figure(lines(), "c", "Lines.").data, show.figure(shades(), "c", "Shades.").data]
    parts.append(sliders.fragment([frame, frame], ["1", "2"], "time", "Frames.", " pc-ink"))
    page = tmp_path / "page.html"
    page.write_text(
        f'<!doctype html><html lang="en" data-theme="{theme}"><meta charset="utf-8">'
        f'<title>t</title><link rel="stylesheet" href="{static}/pages.css">'
        f'<body style="margin:0;background:rgb{ground}"><div class="bd-content">'
        f'<article class="bd-article">{"".join(parts)}</article></div></body></html>',
        encoding="utf-8",
    )
    browser.emulate(1440, 2000, theme)
    browser.open(page.as_uri())
    for place in (0, 2):  # lines: the ground of the page, and letters far from it
        pixels = seen(browser, place)
        assert np.abs(pixels[3:-3, 3].astype(int) - ground).max() <= 3
        far = np.abs(pixels.astype(int) - ground).max(axis=-1)
        assert (far > 200).mean() > 0.002
        blue = pixels[(pixels[..., 2].astype(int) - pixels[..., 0]) > 60]
        assert len(blue) > 300  # the line keeps its hue
    plate = seen(browser, 1)
    assert (plate[4:-4, 6] > 250).all()  # white in both themes
    assert ((plate[..., 0] > 200) & (plate[..., 1] > 180) & (plate[..., 2] < 110)).mean() > 0.02
