"""Explorers: what readers use in the page, with no kernel and no request.

Each is a section that holds its data as JSON, what readers without scripts see, and its script
from ``book/static/explorers``.  So it works in the site, from disk and in Jupyter alike, and a page
without explorers loads none of it.
"""

from __future__ import annotations

import functools
import html
import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parents[2] / "static" / "explorers"


@functools.cache
def _script(kind: str) -> str:
    """The script of a kind of explorer, in a function of its own."""
    parts = [(_FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in ("shared", kind)]
    return '<script>(() => {\n"use strict";\n' + "\n".join(parts) + "})();</script>"


def section(kind: str, data: Any, fallback: str, label: str) -> str:
    """An explorer as HTML.

    Args:
        kind: name of its script.
        data: what the script reads; anything that JSON holds.
        fallback: HTML for readers without scripts.
        label: name of the section for screen readers.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    safe = text.replace("<", "\\u003c")  # so that no text in it can end the element
    return (
        f'<section class="pc-explorer pc-{kind}" aria-label="{html.escape(label, quote=True)}">'
        f'{fallback}<script type="application/json">{safe}</script></section>{_script(kind)}'
    )
