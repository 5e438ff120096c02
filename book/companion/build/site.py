"""What every page of the site carries beside its content.

A description for search engines and social cards, the links that need the repository's address,
and, once all pages are written, the table of what they weigh.
"""

from __future__ import annotations

import html
import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pandas as pd
from docutils import nodes
from sphinx.application import Sphinx

from companion.build import assets, weights

CARD = "_static/card.png"
_LONGEST = 200  # letters of a description; search engines cut what is longer
_STATIC = Path("_static")
_ICONS = _STATIC / "scripts" / "fontawesome.js"
_RULES = _STATIC / "styles" / "pydata-sphinx-theme.css"
_FORMULAS = _STATIC / "vendor" / "mathjax" / "output" / "svg" / "fonts" / "tex.js"
_TABLE = re.compile(r"<!-- weights -->.*?<!-- /weights -->", re.DOTALL)
PLACE = "<!-- weights --><!-- /weights -->"  # of the table, on the page that asks for it


def repository(app: Sphinx, config: Any) -> None:
    """Show the links to the repository, its issues, Binder and Colab where its address is set."""
    options = config.html_theme_options
    known = bool(options.get("repository_url"))
    for name in ("repository", "issues", "edit_page", "source"):
        options[f"use_{name}_button"] = known
    if not known:
        options["launch_buttons"] = {}


def description(doctree: nodes.document | None, title: str) -> str:
    """The question of a page, or its first sentences; of a page of lists, what it is."""
    found = doctree.findall(nodes.paragraph) if doctree else ()
    texts = [text for one in found if len(text := " ".join(one.astext().split())) > 40]
    asked = [text.removeprefix("Question. ") for text in texts if text.startswith("Question. ")]
    text = next(iter((*asked, *texts)), f"{title}, a page of this book.")
    return textwrap.shorten(text, _LONGEST, placeholder=" …")


def _card(app: Sphinx) -> bool:
    """Whether the book has the results that its card shows; small books of tests have none."""
    return (Path(app.srcdir) / "data" / "results" / "lagging-synthetic").is_dir()


def describe(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Add a description and a social card to the head of a page."""
    title = html.unescape(re.sub("<[^>]*>", "", str(context.get("title") or app.config.html_title)))
    told = description(tree, title)
    base = app.config.html_baseurl
    tags = {"og:title": title, "og:description": told, "og:type": "article"}
    tags["og:site_name"] = app.config.html_title
    if base:
        tags["og:url"] = urljoin(base, app.builder.get_target_uri(page))
    if _card(app):
        tags["og:image"] = urljoin(base, CARD) if base else context["pathto"](CARD, 1)
        tags |= {"og:image:width": "1200", "og:image:height": "630"}
        tags["og:image:alt"] = "Posterior means, with basic and with aggressive training."
    lines = [f'<meta name="description" content="{html.escape(told)}">']
    lines += [f'<meta property="{n}" content="{html.escape(v)}">' for n, v in tags.items()]
    lines.append('<meta name="twitter:card" content="summary_large_image">')
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def draw_card(app: Sphinx, error: Exception | None) -> None:
    """Draw the picture of the social card from the results of the home page."""
    if error is None and app.builder.format == "html" and _card(app):
        from companion.front import home  # imports torch

        (Path(app.outdir) / CARD).write_bytes(home.card())


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Take out what no page shows: icons of the theme, and letters of the font of formulas."""
    out = Path(app.outdir)
    if error is not None or not (out / _ICONS).is_file():
        return
    heavy = [path for path in (out / _ICONS, out / _RULES, out / _FORMULAS) if path.is_file()]
    html_ = [path.read_text(encoding="utf-8") for path in out.rglob("*.html")]
    scripts = (path for path in out.rglob("*.js") if path not in heavy)
    texts = [*html_, *(path.read_text(encoding="utf-8", errors="replace") for path in scripts)]
    for path, used in zip(
        heavy, (assets.used_icons, assets.used_rules, assets.used_alphabets), strict=False
    ):
        text = path.read_text(encoding="utf-8")
        path.write_text(used(text, html_ if path.name == "tex.js" else texts), encoding="utf-8")


def _prose(page: Path) -> str:
    """The paragraphs of a page, without marks of formulas."""
    body = page.read_text("utf-8").partition("<article")[2].partition("</article>")[0]
    found = re.findall(r"<p\b[^>]*>(.*?)</p>", body, re.DOTALL)
    plain = re.sub(r"<[^>]*>|\\[()]?", "", " ".join(found))
    return " ".join(html.unescape(plain).split())


def write_prose(app: Sphinx, error: Exception | None) -> None:
    """Write what search excerpts quote: from disk a browser lets no page read another."""
    out = Path(app.outdir)
    if error is None and app.builder.format == "html":
        texts = {path.relative_to(out).as_posix(): _prose(path) for path in weights.pages(out)}
        script = out / _STATIC / "prose.js"
        script.write_text(f"const pageProse = {json.dumps(texts)};\n", encoding="utf-8")


def weight_table(found: Mapping[Path, weights.Weight], out: Path) -> pd.DataFrame:
    """One row per page, the heaviest first, in megabytes."""
    rows = [
        {
            "page": page.relative_to(out).with_suffix("").as_posix().removeprefix("notebooks/"),
            "all but explorers": f"{own.plain / 1e6:.2f}",
            **{name: f"{value / 1e6:.2f}" for name, value in own._asdict().items()},
        }
        for page, own in sorted(found.items(), key=lambda pair: -pair[1].plain)
    ]
    return pd.DataFrame(rows)


def tell_weights(app: Sphinx, error: Exception | None) -> None:
    """Write the table of weights into the pages that have a place for it, itself included."""
    out = Path(app.outdir)
    asking = [path for path in weights.pages(out) if "<!-- weights -->" in path.read_text("utf-8")]
    if error is not None or not asking:
        return
    from companion.show import table

    found = {page: weights.weigh(page, out) for page in weights.pages(out)}
    for path in asking * 2:  # the second time with its own weight, table included
        shown = table(weight_table(found, out), "Megabytes, as they lie on the disk.").data
        told = f"<!-- weights -->{shown}<!-- /weights -->"
        text = path.read_text(encoding="utf-8")
        path.write_text(_TABLE.sub(told, text), encoding="utf-8")
        found[path] = weights.weigh(path, out)
