"""The table of differences from the papers and their public code on a chapter's page."""

from __future__ import annotations

from collections import Counter

import pandas as pd
from IPython.display import HTML

from companion.claims.differences import Changes, Difference, differences
from companion.show import boxes as show

_ORDER = (Changes.RESULTS, Changes.NOT_MEASURED, Changes.NOTHING)
_WORDS = {
    Changes.RESULTS: "known",
    Changes.NOT_MEASURED: "not measured",
    Changes.NOTHING: "none",
}


def frame(page: str) -> pd.DataFrame:
    """The rows of a page, those that change results first."""
    rows = sorted(differences(page), key=lambda row: _ORDER.index(row.changes))
    return pd.DataFrame([_shown(row) for row in rows])


def _shown(row: Difference) -> dict[str, str]:
    return {
        "what": row.what,
        "paper or public code": f"{row.theirs} ({row.source})",
        "here": row.here,
        "changes": str(row.changes),
        "set by": row.where or "–",
    }


def table(page: str) -> HTML:
    """What a page's methods and recipe do otherwise than the paper or its code.

    Raises:
        BadInput: no differences are written down for this page.
    """
    rows = frame(page)
    counts = Counter(rows["changes"])
    some = ", ".join(f"{counts[kind]} {_WORDS[kind]}" for kind in _ORDER if counts[kind])
    return show.table(
        rows,
        "Where this page departs from the paper or its public code, or seems to. Effect on the "
        f"results: {some}. Numbers under <i>here</i> are read from the library, at the scale of "
        "the reference results; the last column names the constant to change.",
    )
