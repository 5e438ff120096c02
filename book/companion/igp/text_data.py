"""The page on tied variances and text: the sizes of the paper's data sets, printed and here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from companion.claims.printed import printed
from companion.claims.verdicts import Finding, decide, missing, stated
from companion.numbers import number
from posterior_collapse import datasets, recipes

_PAPERS = {"CBT": "", "DBpedia": "dbpedia", "Yahoo Question": "yahoo-question", "SNLI": "snli"}


def _sized(counts: Sequence[Any]) -> str:
    return " / ".join(f"{int(count):,}" for count in counts)


def data_table() -> pd.DataFrame:
    """Table 1: sentences, words and classes, printed and here.

    Words and classes are counted in the files where the data folder has them.
    """
    rows = []
    for _, entry in printed("igp", "table1").iterrows():
        title, name = str(entry["dataset"]), _PAPERS[str(entry["dataset"])]
        shown = {
            "train / dev / test, printed": _sized([entry["train"], entry["dev"], entry["test"]])
        }
        shown |= {"words, printed": f"{int(entry['vocabulary']):,}"}
        shown |= {"classes, printed": number(float(entry["classes"]), 0)}
        rows.append({"data": title, **shown, **_counted(name)})
    blank = dict.fromkeys([key for key in rows[0] if "printed" in key], "–")
    rows.append({"data": "Grammar", **blank, **_counted("grammar")})
    return pd.DataFrame(rows)


def _counted(name: str) -> dict[str, str]:
    """Sizes of a data set here; empty without one."""
    used = "reference: words, length, test"
    heads = ("train / dev / test, here", "words, here", "classes, here", used)
    if not name:
        return dict.fromkeys(heads, "no copy")
    setup = recipes.get(f"igp-{name}", "medium")
    source = setup.dataset
    limit = "all" if setup.max_vocabulary is None else f"{setup.max_vocabulary:,}"
    length = "any" if setup.max_length is None else f"at most {setup.max_length}"
    counted, classes = "no data folder", "no data folder"
    if datasets.available(source):
        data = datasets.load(source)
        counted = f"{data.size:,}"
        labels = data.train.labels
        classes = "–" if labels is None else str(len(labels.unique()))
    cells = (
        _sized(datasets.card(source).splits),
        counted,
        classes,
        f"{limit}, {length}, {setup.test:,}",
    )
    return dict(zip(heads, cells, strict=True))


def decide_statistics() -> Finding:
    """Table 1: the files that are here are the paper's validation and test files.

    Exact counts: no seeds and no intervals.  What no file is here for stays undecided.
    """
    sizes = printed("igp", "table1")
    checks = []
    for _, entry in sizes.iterrows():
        title, name = str(entry["dataset"]), _PAPERS[str(entry["dataset"])]
        held = int(entry["dev"] + entry["test"])
        if not name or not datasets.available(name):
            why = "no copy of this corpus" if not name else "no data folder"
            absent = missing(f"{title}: sentences", f"{held:,} for dev and test")
            checks.append(replace(absent, words=why))
            continue
        data = datasets.load(name)
        read = data.card.counts["sentences read"]
        quantity = f"{title}: sentences in the files for dev and test"
        checks.append(stated(quantity, f"{held:,}", read == held, f"{read:,}"))
        if not pd.isna(entry["classes"]):
            printed_ = int(entry["classes"])
            classes = 0 if data.train.labels is None else len(data.train.labels.unique())
            checks.append(
                stated(f"{title}: classes", str(printed_), classes == printed_, str(classes))
            )
    rule = f"{_sized(list(sizes['train']))} sentences"
    checks.append(replace(missing("training files", rule), words="could not be had"))
    return decide("igp-tab1", "exact", checks)
