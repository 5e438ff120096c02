"""What prose pages show that is computed when the site is built: the home page and its figures.

A page asks for a part by name with the directive ``computed`` of :mod:`companion.build.extension`.
"""

from __future__ import annotations

from companion.build import site
from companion.front import cite, home, ideas
from posterior_collapse.errors import BadInput, nearest

_PARTS = {
    "hero": home.hero,
    "status-bar": home.status_bar,
    "four-states": ideas.four_states,
    "information": ideas.information,
    "aggregate": ideas.aggregate,
    "citation": cite.citation,
    "weights": lambda: site.PLACE,
}


def part(name: str) -> str:
    """A part as HTML.

    Raises:
        BadInput: unknown part, with the nearest one.
    """
    if name not in _PARTS:
        raise BadInput(nearest(name, _PARTS, "computed part of a page"))
    return _PARTS[name]()
