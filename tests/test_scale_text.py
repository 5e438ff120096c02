"""Scale-VAE's pages: the course of a factor, and one model under three measures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from companion.claims import groups as benchmarks
from companion.claims.reference import Result
from companion.scale import text as scaled
from posterior_collapse.runs import Spec

SCALE, ANNEAL, BN = benchmarks.SCALE, benchmarks.ANNEAL, benchmarks.BATCH_NORM


def history(own: int, epochs: int = 5, **changes: Any) -> pd.DataFrame:
    """Ten updates an epoch; the factor doubles in the first phase and then halves."""
    told = [2.0 ** min(e, 2 * own - e) for e in range(1, epochs + 1)]
    columns = {
        "epoch": range(1, epochs + 1),
        "iteration": range(10, 10 * epochs + 1, 10),
        "factor_mean": told,
        "factor_largest": [2.0 * f for f in told],
        "own_factors": [float(e <= own) for e in range(1, epochs + 1)],
        "batch_std": [0.7 if e <= own else 0.1 * e for e in range(1, epochs + 1)],
        "valid_mutual_information": [1.0 + e for e in range(1, epochs + 1)],
        "valid_kl": [0.5] * epochs,
    }
    return pd.DataFrame(columns | changes)


def result(method: str, seed: int, course: pd.DataFrame, **metrics: Any) -> Result:
    plain = {"nll": 35.0 + seed, "mutual_information": 2.0, "active_units": 16, "n_sentences": 400}
    return Result(Spec("text-yelp", method, "medium", seed), plain | metrics, course, {}, {}, [])


def scale_vae(seed: int, own: int = 2, **metrics: Any) -> Result:
    measured = {
        "nll": 38.0 + seed,
        "kl": 20.0,
        "elbo_loss": 40.0,
        "scaled_trained_kl": 2.0,
        "scaled_trained_loss": 34.0,
        "scaled_printed_nll": 33.0 + seed,
        "scaled_unit_kl": 30.0,
        "scaled_unit_elbo_loss": 60.0,
        "scaled_unit_nll": 50.0,
        "scaled_largest_factor": 4.0 + seed,
        "scaled_mean_squares": 3.0,
        "scaled_means_price": 3.25,
        "scaled_means_gain": 3.125,
        "scaled_second_moment": 0.987,
        "mutual_information": 5.0,
    }
    return result(SCALE, seed, history(own), **(measured | metrics))


def groups(**metrics: Any) -> dict[str, dict[str, list[Result]]]:
    plain = pd.DataFrame({"epoch": [1], "iteration": [10]})
    return {
        "Yelp": {
            SCALE: [scale_vae(seed, **metrics) for seed in (0, 1)],
            ANNEAL: [result(ANNEAL, seed, plain) for seed in (0, 1)],
            BN: [result(BN, seed, plain, mutual_information=1.5) for seed in (0, 1)],
        }
    }


def test_the_switch_is_the_first_epoch_with_a_shared_factor() -> None:
    found = scaled.switch(history(2))
    assert found is not None
    assert found.update == 20 and found.factor_mean == 4.0 and found.factor_largest == 8.0
    assert found.information == 3.0 and found.last_information == 6.0
    assert found.last_mean == 0.5 and found.last_largest == 1.0
    assert found.last_spread == pytest.approx(0.5)
    assert scaled.switch(history(5)) is None
    # A fall of the learning rate goes back to parameters of the first phase.
    back = history(2, own_factors=[1.0, 1.0, 0.0, 1.0, 0.0])
    assert scaled.switch(back) == found


def test_rows_of_the_switch() -> None:
    made = groups()
    made["Yelp"][SCALE].append(scale_vae(2, own=9))
    row = scaled.switch_table(made).iloc[0]
    assert row["switched"] == "2 of 3"
    assert row["updates"] == "20 (0)" and row["f there, mean"] == "4.0 (0.0)"
    assert row["MI there"] == "3.00 (0.00)" and row["spread there"] == "0.50 (0.00)"
    assert row["largest f kept"] == "5.0 (1.0)"
    old = {"Yelp": {SCALE: [result(SCALE, 0, pd.DataFrame({"epoch": [1]}))]}}
    assert scaled.switch_table(old).empty and scaled.course_figure(old) is None


def test_the_three_measures_of_one_model() -> None:
    rows = scaled.measures(groups())
    assert list(rows["bound"]) == ["no bound", "valid", "valid"]
    assert list(rows["KL"]) == ["2.00 (0.00)", "20.00 (0.00)", "30.00 (0.00)"]
    assert list(rows["NLL"]) == ["33.50 (0.71)", "38.50 (0.71)", "50.00 (0.00)"]
    less = list(rows["NLL less annealed VAE’s"])
    assert less == ["−2.00 (0.00)", "3.00 (0.00)", "14.50 (0.71)"]
    alone = {"Yelp": {SCALE: [scale_vae(0)]}}
    assert list(scaled.measures(alone)["NLL less annealed VAE’s"]) == ["–"] * 3
    assert scaled.measures({"Yelp": {}}).empty


def test_theory_beside_trained_models() -> None:
    made = groups()
    made["Yelp"][SCALE].append(result(SCALE, 2, history(2)))  # of a version that measured less
    rows = scaled.balance(made)
    assert list(rows["seed"]) == ["0", "1"]
    assert list(rows["Σ ρ²"]) == ["3.25"] * 2 and list(rows["dR / d log s"]) == ["3.12"] * 2
    assert list(rows["E(μ² + σ²)"]) == ["0.987"] * 2


def test_words_follow_the_numbers() -> None:
    text = str(scaled.reproduced(groups()).data)
    assert "**Yelp**: MI is 5.00 (0.00) nats of at most 6.0;" in text
    assert "16.0 (0.0) units are active" in text and "75 (0) percent are the means" in text
    assert "MI is 3.50 nats above (standard deviation 0.00) BN-VAE’s" in text
    assert "NLL as printed is 2.00 nats below (standard deviation 0.00)" in text
    assert "NLL valid under N(0, f²) is 3.00 nats above" in text
    turned = str(scaled.reproduced(groups(mutual_information=1.0, nll=34.0)).data)
    assert "MI is 0.50 nats below" in turned and "N(0, f²) is 1.50 nats below" in turned
    assert "No run" in str(scaled.reproduced({"Yelp": {}}).data)


def test_the_figure_marks_the_switch_and_the_wanted_spread() -> None:
    figure = scaled.course_figure({**groups(), "Yahoo": {SCALE: [scale_vae(0, own=9)]}})
    assert figure is not None and len(figure.axes) == 6
    marks = [
        [line.get_xdata()[0] for line in axes.get_lines() if line.get_linestyle() == ":"]  # type: ignore[index]
        for axes in figure.axes
    ]
    assert marks[0] == [20, 20] and marks[1] == []
    wanted = [line for line in figure.axes[2].get_lines() if list(line.get_ydata()) == [0.7, 0.7]]  # type: ignore[arg-type]
    assert len(wanted) == 1
    assert figure.axes[0].get_yscale() == "log"
    assert [axes.get_xlabel() for axes in figure.axes] == [""] * 4 + ["updates"] * 2


def test_the_page_asks_for_the_runs_that_it_shows() -> None:
    """The notebook's metadata names its runs, so that they can be trained beforehand."""
    path = Path(__file__).parents[1] / "notebooks" / "scale" / "generation.ipynb"
    (planned,) = json.loads(path.read_text(encoding="utf-8"))["metadata"]["posterior_collapse"][
        "runs"
    ]
    assert set(planned["methods"]) == {*benchmarks.GENERATION, *benchmarks.PREMISE}
