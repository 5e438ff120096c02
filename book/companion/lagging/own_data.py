"""What the page on text asks: which corpus there is, and whether training collapses on it."""

from __future__ import annotations

import pandas as pd

from companion.claims import evidence
from companion.claims.groups import AGGRESSIVE, VAE, resolve
from companion.claims.premises import Premise
from companion.claims.table import Column, Runs, differences, frame, summary, values
from companion.claims.verdicts import Finding, above, answer, below
from posterior_collapse import datasets, recipes


def recipe(dataset: str) -> str:
    """The recipe for a corpus, see :func:`resolve`."""
    return f"text-{resolve(dataset)}"


def card(name: str) -> pd.DataFrame:
    """The corpus of a recipe in a few lines."""
    corpus = datasets.card(recipes.get(name, "quick").dataset)
    lines = {
        "corpus": corpus.title,
        "source": corpus.source,
        "licence": corpus.licence,
        "how it differs from the papers'": corpus.differs,
    }
    return pd.DataFrame({"": list(lines), "this corpus": list(lines.values())})


_MEASURES = (
    Column("NLL, importance-weighted", "nll", 2),
    Column("−ELBO", "elbo_loss", 2),
    Column("KL", "kl", 3),
    Column("MI", "mutual_information", 3),
    Column("KL(q(z) ‖ p)", "aggregate_kl", 3),
    Column("active units", "active_units", 1),
    Column("perplexity", "perplexity", 2),
    Column("updates", "updates", 0),
)
_TITLES = {VAE: "basic", AGGRESSIVE: "aggressive"}


def numbers(runs: Runs) -> pd.DataFrame:
    """Table of measures: mean (standard deviation over seeds), one column per method."""
    rows = summary(frame(runs), _MEASURES, _TITLES.__getitem__).set_index("method")
    return rows.T.reset_index(names="measure").rename_axis(None, axis=1)


def decide(runs: Runs, condition: Premise | None = None) -> list[Finding]:
    """The page's two questions: does collapse happen, and does aggressive training prevent it?

    Args:
        runs: results of basic and of aggressive training.
        condition: the premise of the corpus; None asks for none.
    """
    data, scale, mi = frame(runs), runs[VAE][0].spec.scale, "mutual_information"
    collapses = answer(
        "Basic training collapses",
        scale,
        [
            below("basic: KL (nats per sentence)", values(data, VAE, "kl"), 0.1),
            below("basic: MI (nats)", values(data, VAE, mi), 0.1),
            below("basic: active units", values(data, VAE, "active_units"), 0.5),
        ],
    )
    prevents = answer(
        "Aggressive training prevents collapse",
        scale,
        [
            above("aggressive: MI (nats)", values(data, AGGRESSIVE, mi), 0.1),
            above("aggressive: active units", values(data, AGGRESSIVE, "active_units"), 0.5),
            above("MI won over basic training (nats)", differences(data, AGGRESSIVE, VAE, mi), 0.1),
        ],
    )
    return evidence.under([collapses, prevents], condition)
