"""The premise of a recipe at a scale: an autoencoder that works, a collapse, and a control."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from companion import show
from companion.build.parameters import Page
from companion.claims import evidence as page_results
from companion.claims import groups as benchmarks
from companion.claims import premises, reference, verdicts
from companion.claims.premises import premise_of, premise_of_sequences
from companion.claims.reference import Result
from companion.claims.verdicts import Label, Outcome
from posterior_collapse.errors import BadInput
from posterior_collapse.runs import Spec

CONTROL = "beta-vae(beta=0.4)"


def made(method: str, seed: int = 0, scale: str = "medium", **metrics: Any) -> Result:
    spec = Spec("text-yelp", method, scale, seed)
    provenance = {"setup": {"latent_dim": 16}}
    return Result(spec, metrics, pd.DataFrame(), {}, provenance, [])


def results(scale: str = "medium", **changed: dict[str, Any]) -> dict[str, list[Result]]:
    """Numbers of a recipe that can tell methods apart; ``changed`` spoils some of them."""
    alive: dict[str, dict[str, Any]] = {
        "ae": {"active_units": 16, "reconstruction": 33.0, "nll": None},
        "lstm-lm": {"nll": 38.5, "reconstruction": 38.5, "active_units": 0},
        "vae": {"mutual_information": 0.1, "mutual_information_points": 1000},
        "control": {"mutual_information": 1.5, "mutual_information_points": 1000},
    }
    names = {"ae": "ae", "lstm": "lstm-lm", "vae": "vae", "control": "control"}
    merged = {name: dict(row) for name, row in alive.items()}
    for name, row in changed.items():
        merged[names[name]].update(row)
    found = {m if m != "control" else CONTROL: row for m, row in merged.items()}
    return {m: [made(m, seed, scale, **row) for seed in range(3)] for m, row in found.items()}


def holding(found: dict[str, list[Result]]) -> list[bool | None]:
    return [part.holds for part in premise_of(found).parts]


def test_a_recipe_that_works_has_its_premise() -> None:
    met = premise_of(results())
    assert met.holds and holding(results()) == [True, True, True]
    assert (met.recipe, met.scale) == ("text-yelp", "medium") and "is met" in met.sentence
    assert all(c.premise and c.outcome is Outcome.HOLDS for c in met.checks("Yelp"))
    assert {c.groups for c in met.checks("Yelp")} == {("Yelp",)}


def test_narrow_weights_in_a_small_network_are_refused_as_cannot_tell() -> None:
    """U(-0.01, 0.01) with 96 units: AE without an active unit, at the NLL of the model without."""
    dead = results(
        ae={"active_units": 0, "reconstruction": 38.4},
        control={"mutual_information": 0.0},
        vae={"mutual_information": 0.0},
    )
    refused = premise_of(dead)
    assert not refused.holds and holding(dead) == [False, True, False]
    assert "0.0 of 16 units" in refused.parts[0].numbers and "can't tell" in refused.sentence
    failing = verdicts.above("MI", [0.0, 0.0, 0.0], 0.5)
    for rule in (failing, verdicts.below("NLL", [-1.0, -1.0, -1.0], 0.0)):
        told = verdicts.decide("du-tab1", "medium", [*refused.checks(), rule])
        assert told.label is Label.CANNOT_TELL and "uses its code" in told.reason


def test_runs_from_narrow_first_weights_are_refused() -> None:
    """Real ones: the sweep keeps four models of 96 units that began at U(-0.01, 0.01)."""
    asked = [*premises.METHODS, "beta-vae(beta=0.2)"]
    found = {m: reference.results("sweep-yelp", m, "paper-sgd-6400") for m in asked}
    found = {m: group for m, group in found.items() if group}
    setup = found["ae"][0].provenance["setup"]
    assert setup["network"]["init_parameters"] == [-0.01, 0.01]
    assert setup["network"]["hidden"] == 96
    refused = premise_of(found)
    assert not refused.holds and [part.holds for part in refused.parts] == [False, True, False]


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"ae": {"active_units": 15.0}}, [False, True, True]),  # all units
        ({"ae": {"reconstruction": 35.6}}, [False, True, True]),  # 2.9 nats and 7.5 percent
        ({"ae": {"reconstruction": 35.4}}, [True, True, True]),  # 3.1 nats
        ({"ae": {"reconstruction": 9.1}, "lstm": {"nll": 10.0}}, [True, True, True]),  # 9 percent
        ({"ae": {"reconstruction": 9.3}, "lstm": {"nll": 10.0}}, [False, True, True]),
        ({"vae": {"mutual_information": 0.6}}, [True, True, True]),  # below a tenth of log 1000
        ({"vae": {"mutual_information": 0.7}}, [True, False, True]),
        (
            {"vae": {"mutual_information": 0.35, "mutual_information_points": 10}},
            [True, False, True],
        ),
        ({"control": {"mutual_information": 0.9}}, [True, True, False]),
    ],
)
def test_each_part_has_its_bounds(changed: dict[str, Any], wanted: list[bool]) -> None:
    assert holding(results(**changed)) == wanted
    assert premise_of(results(**changed)).holds == all(wanted)


def test_what_is_missing_is_not_shown_and_so_not_met() -> None:
    for gone, part in (("ae", 0), ("lstm-lm", 0), ("vae", 1), (CONTROL, 2)):
        found = results()
        del found[gone]
        told = premise_of(found)
        assert not told.holds and told.parts[part].holds is None and "not shown" in told.sentence
        assert told.checks()[part].outcome is Outcome.OPEN
    nothing = premise_of({}, "text-yelp", "medium")
    assert [part.holds for part in nothing.parts] == [None, None, None]


def test_averages_are_over_the_seeds_and_any_control_will_do() -> None:
    found = results()
    found["vae"] = [
        made("vae", s, mutual_information=v, mutual_information_points=1000)
        for s, v in enumerate((0.0, 0.0, 1.5))
    ]
    assert premise_of(found).parts[1].holds is True and "MI 0.50 (3 seeds)" in (
        premise_of(found).parts[1].numbers
    )
    found[CONTROL] = [made(CONTROL, mutual_information=0.2)]
    found["beta-vae(beta=0.2)"] = [made("beta-vae(beta=0.2)", mutual_information=2.0)]
    assert "MI 2.00 with beta-vae(beta=0.2) (1 seed)" in premise_of(found).parts[2].numbers
    del found["beta-vae(beta=0.2)"]
    found["igp+target-kl(c=5, ramp=10)"] = [
        made("igp+target-kl(c=5, ramp=10)", mutual_information=3.0)
    ]
    assert premise_of(found).parts[2].holds is False  # another posterior is no control
    found["target-kl(c=5, ramp=10)"] = [made("target-kl(c=5, ramp=10)", mutual_information=3.0)]
    assert premise_of(found).holds


def test_smoke_is_exempt_and_decides_nothing() -> None:
    exempt = premise_of(results(scale="smoke", ae={"active_units": 0}))
    assert exempt.exempt and "decides nothing" in exempt.sentence
    holds = verdicts.below("x", [0.0, 0.0], 1.0)
    assert verdicts.decide("du-tab1", "smoke", [holds]).label is Label.CANNOT_TELL


def test_a_premise_is_about_one_recipe_at_one_scale() -> None:
    mixed = results() | {"sa-vae": [made("vae", scale="quick")]}
    with pytest.raises(BadInput, match="one recipe at one scale"):
        premise_of(mixed)
    with pytest.raises(BadInput, match="names of recipe and scale"):
        premise_of({})


# --- on pages -------------------------------------------------------------------------------------

PAGES = (
    "lagging/text",
    "lagging/sweeps",
    "lagging/images",
    "lagging/own-data",
    "methods/leaderboard",
    "methods/probes",
    "du/text",
    "du/images",
    "scale/text",
    "scale/generation",
    "igp/text",
    "igp/labels",
    "autogen/text",
)
SEQUENCES = tuple(
    f"lagging/{page}"
    for page in ("mean-space", "trajectories", "decomposition", "evaluation-uncertainty")
)


@pytest.mark.parametrize("name", PAGES)
def test_every_page_on_text_shows_its_premise_and_asks_for_the_runs(name: str, root: Path) -> None:
    book = json.loads((root / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    code = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    assert sum("show.premise(" in cell for cell in code) == 1
    for asked in book["metadata"]["posterior_collapse"]["runs"]:
        if asked.get("when", {}).get("scale") == ["smoke"]:
            continue  # of smoke no premise is asked
        found = benchmarks.expand(asked["methods"])
        assert {"lstm-lm", "ae", "vae"} <= set(found), asked
        assert any(premises.is_control(method) for method in found), asked


@pytest.mark.parametrize("name", SEQUENCES)
def test_every_page_on_sequences_shows_its_premise_and_asks_for_the_runs(
    name: str, root: Path
) -> None:
    book = json.loads((root / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    code = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    assert sum("show.premise(" in cell for cell in code) == 1
    [asked] = book["metadata"]["posterior_collapse"]["runs"]
    assert asked == {"recipe": "lagging-synthetic", "methods": ["vae", "lagging"]}


def test_every_page_that_trains_text_has_a_premise_box(root: Path) -> None:
    """Pages on images and on the five Gaussians have premises of their own in their rules."""
    others = {"igp/images", "du/geometry"}
    train = set()
    for path in (root / "notebooks").glob("*/*.ipynb"):
        asked = json.loads(path.read_text(encoding="utf-8"))["metadata"]["posterior_collapse"]
        if asked["runs"]:
            train.add(f"{path.parent.name}/{path.stem}")
    assert train == {*PAGES, *SEQUENCES, *others}


def sequences(vae: float, lagging: float, scale: str = "paper") -> dict[str, list[Result]]:
    """Results on synthetic sequences with these MIs."""
    return {
        method: [
            replace(
                made(method, mutual_information=value, mutual_information_points=2000),
                spec=Spec("lagging-synthetic", method, scale, 0),
            )
        ]
        for method, value in (("vae", vae), ("lagging", lagging))
    }


def test_the_premise_of_sequences_is_a_collapse_and_a_model_without() -> None:
    def parts(vae: float, lagging: float) -> list[bool | None]:
        return [part.holds for part in premise_of_sequences(sequences(vae, lagging)).parts]

    met = premise_of_sequences(sequences(0.0, 1.4))
    assert met.holds and (met.recipe, met.scale) == ("lagging-synthetic", "paper")
    assert {r.spec.method for r in met.used} == {"vae", "lagging"}
    # a tenth of log 2000 is 0.76
    assert parts(0.7, 1.4) == [True, True] and parts(0.8, 1.4) == [False, True]
    assert parts(0.0, 0.9) == [True, False]
    without = premise_of_sequences({"vae": sequences(0.0, 1.4)["vae"]})
    assert [part.holds for part in without.parts] == [True, None] and not without.holds
    assert premise_of_sequences(sequences(0.0, 0.0, "smoke")).exempt
    with pytest.raises(BadInput, match="needs the names"):
        premise_of_sequences({})
    shown = show.premise({"a": met, "b": premise_of_sequences(sequences(0.8, 1.4))}).data
    assert "Premise: met in 1 of 2" in shown and "MI above 1 nat" in shown


def test_the_premise_of_sequences_is_met_by_the_reference_results() -> None:
    found = {m: reference.results("lagging-synthetic", m, "paper") for m in ("vae", "lagging")}
    assert premise_of_sequences(found).holds
    swapped = {"vae": found["lagging"], "lagging": found["vae"]}
    assert [part.holds for part in premise_of_sequences(swapped).parts] == [False, False]


def test_the_box_has_a_line_of_finding_and_the_three_parts_with_numbers() -> None:
    dead = premise_of(results(ae={"active_units": 0, "reconstruction": 38.4}))
    shown = show.premise({"Yelp": premise_of(results()), "Yahoo": dead}).data
    assert "Premise: met in 1 of 2" in shown and "can tell methods apart" in shown
    assert "0.0 of 16 units" in shown and "16.0 of 16 units" in shown
    assert shown.count("<tr>") == 3 and "pc-verdict-fails" in shown and "data-item" not in shown
    good = show.premise({"Yelp": premise_of(results())}).data
    assert "Premise: met in 1 of 1" in good and "pc-verdict-holds" in good
    unknown = show.premise({"Yelp": premise_of({}, "text-yelp", "medium")}).data
    assert "pc-verdict-undecided" in unknown and "not shown" in unknown
    exempt = show.premise({"grammar": premise_of(results(scale="smoke"))}).data
    assert "smoke scale decides nothing" in exempt


def test_a_page_trains_what_its_premise_lacks_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def trained(page: Page, recipe: str, method: str) -> list[Result]:
        asked.append(method)
        one = made(
            method,
            scale=page.scale,
            **results()[method if "beta" not in method else CONTROL][0].metrics,
        )
        return [one]

    monkeypatch.setattr(page_results, "this_build", trained)
    page = Page("quick", (0,), "cpu")
    vae = made("vae", scale="quick", **results()["vae"][0].metrics)
    vae.provenance["kind"] = "this build"
    held = page_results.premise_for(page, {"vae": [vae], "lagging": []})
    assert asked == ["lstm-lm", "ae", benchmarks.LOW_BETA] and held.holds
    assert {r.spec.method for r in held.used} == {"vae", *asked}
    asked.clear()
    control = made(CONTROL, scale="quick", **results()[CONTROL][0].metrics)
    control.provenance["kind"] = "this build"
    page_results.premise_for(page, {"vae": [vae], CONTROL: [control]})
    assert asked == ["lstm-lm", "ae"]
    asked.clear()
    small = made("vae", scale="smoke", **results()["vae"][0].metrics)
    small.provenance["kind"] = "this build"
    assert page_results.premise_for(Page("smoke", (0,), "cpu"), {"vae": [small]}).exempt
    assert not asked


def test_findings_are_put_under_a_premise() -> None:
    holds = verdicts.decide("du-tab1", "medium", [verdicts.below("x", [0.0, 0.0], 1.0)])
    dead = premise_of(results(ae={"active_units": 0}))
    assert page_results.under([holds, None], None) == [holds]
    [lost] = page_results.under([None, holds], dead)
    assert lost.label is Label.CANNOT_TELL
    [kept] = page_results.under([holds], premise_of(results()))
    assert kept.label is Label.HOLDS
