"""The page on scales, on results made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from companion.claims import evidence as results
from companion.claims import groups as benchmarks
from companion.claims.reference import Result
from companion.methods import scales
from posterior_collapse import methods, recipes
from posterior_collapse.runs import Spec

ALIVE = {
    "lstm-lm": {"nll": 38.0, "mutual_information": 0.0},
    "ae": {"reconstruction": 30.0, "active_units": 16},
    "vae": {"nll": 38.0, "mutual_information": 0.02, "mutual_information_points": 1000},
    benchmarks.LOW_BETA: {"nll": 40.0, "mutual_information": 6.0},
}
DEAD = {
    "lstm-lm": {"nll": 38.5, "mutual_information": 0.0},
    "ae": {"reconstruction": 38.4, "active_units": 0},
    "vae": {"nll": 38.6, "mutual_information": 0.0, "mutual_information_points": 1000},
    benchmarks.LOW_BETA: {"nll": 38.6, "mutual_information": 0.0},
}


def made(recipe: str, method: str, scale: str, metrics: dict[str, Any]) -> Result:
    spec = Spec(recipe, method, scale, 0)
    history = pd.DataFrame({"valid_loss": [40.0, 37.0, 38.0]})
    return Result(spec, metrics, history, {}, {"setup": {"latent_dim": 16}}, [])


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> list[scales.Cell]:
    """Narrow first weights leave the code dead, wide ones do not; of the middle nothing was run."""

    def kept(recipe: str, method: str, scale: str) -> list[Result]:
        if scale.startswith("middle"):
            return []
        found = DEAD if scale.startswith("paper") else ALIVE
        return [made(recipe, method, scale, found[method])]

    monkeypatch.setattr(results, "results", kept)
    return scales.cells("sweep-yelp")


def test_cells_without_results_are_left_out(sweep: list[scales.Cell]) -> None:
    assert len(sweep) == 8 < len(recipes.scales("sweep-yelp"))
    assert {cell.width for cell in sweep} == {0.01, 96**-0.5}


def test_a_cell_says_what_its_models_gave(sweep: list[scales.Cell]) -> None:
    for cell in sweep:
        wide = cell.width > 0.05
        assert cell.premise.holds is wide
        assert cell.gain == pytest.approx(8.0 if wide else 0.1)
        assert cell.without == 37.0  # the best epoch, not the last
    rows = scales.table(sweep)
    assert sorted(rows["premise"]) == ["met"] * 4 + ["not met"] * 4


def test_the_finding_counts_what_was_run(sweep: list[scales.Cell]) -> None:
    told = scales.finding({"Short Yelp": sweep})
    assert told.startswith("4 of 8 set-ups") and told.endswith("within ±0.01, none can.")
    assert "No set-up" in scales.finding({"Short Yelp": []})


def test_the_figure_shows_a_number_in_each_cell(sweep: list[scales.Cell]) -> None:
    drawn = scales.figure(sweep)
    texts = [[text.get_text() for text in axes.texts] for axes in drawn.axes]
    assert texts[0] == ["0.10", "8.00"] * 4
    assert not any(text.startswith("-0.00") for panel in texts for text in panel)
    image = drawn.axes[1].images[0]  # MI of the VAE, all near 0: light everywhere
    assert image.get_clim() == (0.0, 1.0) and np.nanmax(image.get_array()) < 0.1


def test_every_premise_of_text_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(recipe: str, method: str, scale: str) -> list[Result]:
        metrics = ALIVE.get(method, {"mutual_information": 2.0})
        return [made(recipe, method, scale, metrics)] if scale == "medium" else []

    monkeypatch.setattr(results, "results", kept)
    rows, used = scales.recipes_table()
    assert {"text-yelp", "igp-snli", "autogen-ptb"} <= set(rows["recipe"])
    assert not {"mnist", "five-gaussians", "sweep-yelp"} & set(rows["recipe"])
    assert len(used) > len(rows)


def test_the_prose_names_the_constants_of_the_recipes() -> None:
    """What the page says of the sweep in words is what the recipes have."""
    root = Path(__file__).resolve().parents[1]
    cells = json.loads((root / "notebooks/methods/scales.ipynb").read_text())["cells"]
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for scale in recipes.scales("sweep-yelp")[1:]:
        setup = recipes.get("sweep-yelp", scale)
        settings, low_high = setup.optimisation, setup.network.init_embeddings  # type: ignore[attr-defined]
        assert f"for {settings.max_epochs} epochs" in text and f"{setup.train:,} sentences" in text
        assert low_high[1] == 10 * setup.network.init_parameters[1]  # type: ignore[attr-defined]
        rate = {"sgd": "SGD has rate 1,", "adam": "Adam 0.002."}[settings.optimiser]
        assert rate in text and f"{settings.learning_rate:g}" in rate


def test_the_prose_on_sweeps_names_the_epochs_that_there_are() -> None:
    root = Path(__file__).resolve().parents[1]
    text = (root / "notebooks/lagging/sweeps.ipynb").read_text()
    lengths = [methods.parameters(m)["epochs"] for m in benchmarks.sweep("annealing")]
    most = {
        name: recipes.get(recipe, name).optimisation.max_epochs
        for recipe, name in (("text-yelp", "medium"), ("text-grammar", "quick"))
    }
    assert f"{lengths[0]} to {lengths[-1]} of the {most['medium']} at medium scale" in text
    assert f"has {most['quick']}, so its two slowest" in text
    assert sum(length > most["quick"] for length in lengths) == 2
    left = set(benchmarks.sweep("inner")) - set(benchmarks.FEW_INNER)
    assert left == {f"lagging-fixed(steps={steps})" for steps in (30, 50, 70)}
    assert "leaves out the inner budgets of 30, 50 and 70 steps" in text


def test_pages_name_the_lengths_of_annealing_that_there_are() -> None:
    root = Path(__file__).resolve().parents[1]
    told = "over the first updates: {:,} on real text, and {:,} in a quick build on the grammar."
    lengths = [
        recipes.get(recipe, scale).optimisation.annealing
        for recipe, scale in (("text-yelp", "medium"), ("text-grammar", "quick"))
    ]
    shared = {recipes.get(r, "quick").optimisation.annealing for r in ("text-yelp", "text-yahoo")}
    assert shared == {lengths[0]}
    pages = [
        p for p in (root / "notebooks").rglob("*.ipynb") if "share one schedule" in p.read_text()
    ]
    assert len(pages) == 4
    assert all(told.format(*lengths) in page.read_text() for page in pages)
