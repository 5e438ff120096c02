"""What the page on text asks: which corpus there is, and whether training collapses on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from companion.claims import evidence as results
from companion.claims.groups import resolve
from companion.claims.premises import Premise
from companion.claims.reference import Result
from companion.claims.verdicts import Finding, above, answer, below
from companion.numbers import spread
from posterior_collapse import datasets, recipes

__all__ = ["card", "decide", "numbers", "recipe"]


def recipe(dataset: str) -> str:
    """The recipe for a corpus, see :func:`resolve`."""
    return f"text-{resolve(dataset)}"


def card(name: str) -> pd.DataFrame:
    """The corpus of a recipe in a few lines."""
    found = datasets.card(recipes.get(name, "quick").dataset)
    lines = {
        "corpus": found.title,
        "source": found.source,
        "licence": found.licence,
        "how it differs from the papers'": found.differs,
    }
    return pd.DataFrame({"": list(lines), "this corpus": list(lines.values())})


_ROWS = {
    "NLL, importance-weighted": ("nll", 2),
    "−ELBO": ("elbo_loss", 2),
    "KL": ("kl", 3),
    "MI": ("mutual_information", 3),
    "KL(q(z) ‖ p)": ("aggregate_kl", 3),
    "active units": ("active_units", 1),
    "perplexity": ("perplexity", 2),
    "updates": ("updates", 0),
}


def numbers(found: Mapping[str, Sequence[Result]]) -> pd.DataFrame:
    """Table of measures: mean (standard deviation over seeds), one column a method."""
    titles = {"vae": "basic", "lagging": "aggressive"}
    table: dict[str, list[str]] = {"measure": list(_ROWS)}
    for method, group in found.items():
        table[titles[method]] = [
            spread([float(r.metrics[name]) for r in group], digits)
            for name, digits in _ROWS.values()
        ]
    return pd.DataFrame(table)


def decide(found: Mapping[str, Sequence[Result]], held: Premise | None = None) -> list[Finding]:
    """The page's two questions: does collapse happen, and does aggressive training prevent it?

    Args:
        found: results of basic and of aggressive training.
        held: the premise of the corpus; None asks for none.
    """

    def values(method: str, name: str) -> list[float]:
        return [float(r.metrics[name]) for r in found[method]]

    scale = found["vae"][0].spec.scale
    gained = [
        b - a
        for a, b in zip(
            values("vae", "mutual_information"),
            values("lagging", "mutual_information"),
            strict=True,
        )
    ]
    told = [
        answer(
            "basic training collapses",
            scale,
            [
                below("basic: KL (nats per sentence)", values("vae", "kl"), 0.1),
                below("basic: MI (nats)", values("vae", "mutual_information"), 0.1),
                below("basic: active units", values("vae", "active_units"), 0.5),
            ],
        ),
        answer(
            "aggressive training prevents collapse",
            scale,
            [
                above("aggressive: MI (nats)", values("lagging", "mutual_information"), 0.1),
                above("aggressive: active units", values("lagging", "active_units"), 0.5),
                above("MI won over basic training (nats)", gained, 0.1),
            ],
        ),
    ]
    return results.under(told, held)
