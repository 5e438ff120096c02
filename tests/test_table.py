"""The long table of results, on numbers made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from companion.claims import table
from companion.claims.reference import Result
from companion.claims.table import Column
from posterior_collapse.errors import BadInput
from posterior_collapse.runs import Spec


def run(method: str, seed: int, scale: str = "medium", **metrics: Any) -> Result:
    origin = {"kind": "reference", "key": f"{method}-{seed}"}
    each = {"each_nll": np.array([1.0, 2.0, 3.0, 4.0])} if method == "vae" else {}
    spec = Spec("text-yelp", method, scale, seed)
    return Result(spec, metrics, pd.DataFrame({"valid_loss": [9.0, 8.0]}), each, origin, [])


GROUP = {
    "vae": [run("vae", 0, nll=2.5, kl=0.0, kl_stderr=0.1, n_sentences=50), run("vae", 1, nll=3.5)],
    "lagging": [run("lagging", s, nll=1.0 + s, kl=4.0, active=True) for s in (2, 1, 0)],
}
DATA = table.frame(GROUP)


def test_a_row_is_a_run_and_a_metric() -> None:
    assert tuple(DATA.columns) == table.COLUMNS
    assert len(DATA) == 5 * 5  # nll, kl, kl_stderr, n_sentences, active
    first = DATA[(DATA["method"] == "vae") & (DATA["seed"] == 0)].set_index("metric")
    assert first.loc["kl", ["value", "stderr", "n"]].tolist() == [0.0, 0.1, 50]
    # Over sentences: the standard deviation of 1 to 4 is sqrt(5 / 3), of which a half is the error.
    assert first.loc["nll", "stderr"] == pytest.approx(math.sqrt(5 / 3) / 2)
    assert first.loc["nll", "n"] == 4
    assert set(DATA["source"]) == {"reference"} and "lagging-2" in set(DATA["provenance"])


def test_what_a_run_lacks_is_a_row_without_a_value() -> None:
    lacking = DATA[DATA["value"].isna()]
    assert len(lacking) == 1 + 4 + 3 * 2
    assert table.values(DATA, "vae", "kl").to_dict() == {0: 0.0}
    assert table.values(DATA, "vae", "nll").to_dict() == {0: 2.5, 1: 3.5}
    assert table.values(DATA, "vae", "nothing").empty and table.values(DATA, "ae", "nll").empty


def test_pairs_are_of_one_seed() -> None:
    assert table.differences(DATA, "lagging", "vae", "nll").to_dict() == {0: -1.5, 1: -1.5}
    assert table.differences(DATA, "lagging", "vae", "kl").to_dict() == {0: 4.0}
    assert table.differences(DATA, "lagging", "vae", "kl", "nll").to_dict() == {0: 1.5, 1: 0.5}
    assert table.ratios(DATA, "lagging", "vae", "nll").to_dict() == pytest.approx(
        {0: 0.4, 1: 4 / 7}
    )
    assert table.ratios(DATA, "lagging", "vae", "kl").empty  # the only pair is over 0


def test_numbers_that_are_not_finite_are_no_values() -> None:
    data = table.frame([run("vae", 0, nll=math.inf), run("vae", 1, nll=math.nan)])
    assert table.values(data, "vae", "nll").empty
    assert table.cells(data, [Column("NLL", "nll")]) == {"NLL": "–", "seeds": "2"}


def test_seeds_shown_are_seeds_used() -> None:
    columns = [Column("NLL", "nll", 1), Column("KL, %", "kl", 0, 100.0), Column("MI", "mi")]
    rows = table.summary(DATA, columns, str.upper).set_index("method")
    assert rows.loc["VAE"].tolist() == ["3.0 (0.7)", "0", "–", "2 (KL, %: 1)"]
    assert rows.loc["LAGGING"].tolist() == ["2.0 (1.0)", "400 (0)", "–", "3"]


def test_measures_of_histories_are_metrics_as_well() -> None:
    data = table.frame(GROUP, {"end": lambda result: float(result.history["valid_loss"].iloc[-1])})
    assert table.values(data, "lagging", "end").to_dict() == {2: 8.0, 1: 8.0, 0: 8.0}
    assert table.metric("nll", 2.0)(GROUP["vae"][0]) == 5.0
    assert table.metric("mi")(GROUP["vae"][0]) is None


def test_groups_are_not_pooled() -> None:
    both = [*GROUP["vae"], run("vae", 0, scale="quick", nll=9.0)]
    with pytest.raises(BadInput, match="one group of runs"):
        table.values(table.frame(both), "vae", "nll")
    assert table.frame([]).empty and table.summary(table.frame([]), [], str).empty
