"""What a page of the site weighs: itself, and everything that a browser loads with it.

Explorers are apart: they are what a reader came for, and no page is slower without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

_EXPLORER = re.compile(r'<section class="pc-explorer.*?</section><script>.*?</script>', re.DOTALL)
_FIGURE = re.compile(r'(?<=src=")data:image/[^"]*')
# Class of the theme's icons -> the file of its font, which style sheets load where it is used.
_FONTS = {
    "fa-solid|fas": "fa-solid-900.woff2",
    "fa-regular|far": "fa-regular-400.woff2",
    "fa-brands|fab": "fa-brands-400.woff2",
}
_IMPORT = re.compile(r"""@import\s*(?:url\()?["']?([^"')\s;]+)""")
_LOADS = {"stylesheet", "preload", "icon", "prefetch", "preconnect", "modulepreload"}
_KINDS = {".js": "scripts", ".css": "styles", ".woff2": "fonts"}


class Weight(NamedTuple):
    """Bytes of a page, by what they are."""

    text: int  # HTML without figures and explorers
    figures: int
    scripts: int
    styles: int
    fonts: int
    explorers: int

    @property
    def plain(self) -> int:
        """All but the explorers."""
        return sum(self) - self.explorers


class _Loads(HTMLParser):
    """Collects what a page loads by itself: not its links, which wait for a reader."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for name in ("src", "srcset", "poster", "data"):
            self.found.append(values.get(name) or "")
        if tag == "link" and _LOADS & set((values.get("rel") or "").split()):
            self.found.append(values.get("href") or "")


def loaded(page: Path) -> list[str]:
    """Addresses that a page's own elements load, as they are written there."""
    parser = _Loads()
    parser.feed(page.read_text(encoding="utf-8"))
    return [address for address in parser.found if address]


def _fonts(text: str, static: Path) -> Iterator[Path]:
    for classes, name in _FONTS.items():
        if re.search(rf'class="[^"]*\b(?:{classes})\b', text):
            yield from static.rglob(name)


def files(page: Path, site: Path) -> set[Path]:
    """Every file that a browser loads with a page of a site, MathJax's parts and fonts included."""
    text = page.read_text(encoding="utf-8")
    here = (page.parent / one.split("?")[0] for one in loaded(page) if not one.startswith("data:"))
    found = {file.resolve() for file in here} | {*_fonts(text, site.resolve() / "_static")}
    for file in list(found):
        if file.parent.name == "mathjax":  # which loads its parts
            found |= set(file.parent.rglob("*.js"))
        if file.suffix == ".css":
            sheets = _IMPORT.findall(file.read_text(encoding="utf-8"))
            found |= {(file.parent / name).resolve() for name in sheets}
    return found


def weigh(page: Path, site: Path) -> Weight:
    """The weight of a page of a site."""
    text = page.read_text(encoding="utf-8")
    rest = _EXPLORER.sub("", text)
    inline = sum(len(one) for one in _FIGURE.findall(rest))
    parts = dict.fromkeys(Weight._fields, 0)
    for file in files(page, site):
        parts[_KINDS.get(file.suffix, "figures")] += file.stat().st_size
    parts["text"] = len(rest.encode()) - inline
    parts["figures"] += inline
    parts["explorers"] = len(text.encode()) - len(rest.encode())
    return Weight(**parts)


def pages(site: Path) -> list[Path]:
    """Every page of a site, without the one that only leads on."""
    own = (path for path in site.rglob("*.html") if "_static" not in path.parts)
    return sorted(path for path in own if path != site / "index.html")
