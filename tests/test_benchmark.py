"""Tables, figures' data and rules of the pages that compare methods, on results made to order."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from posterior_collapse import benchmarks, methods, plots, recipes, reference
from posterior_collapse.errors import BadInput
from posterior_collapse.networks import TextNetwork
from posterior_collapse.pages import benchmark, show
from posterior_collapse.pages.benchmark import Comparison
from posterior_collapse.papers import Verdict
from posterior_collapse.reference import Result
from posterior_collapse.runs import Spec

ANNEAL = benchmarks.ANNEAL
BN, DU, SCALE, FREE, BETA, IAF, IAF_BN, DU_IAF = benchmarks.MAIN[4:]
SA = next(method for method in benchmarks.OTHERS if method.startswith("sa-vae"))


def made(method: str, seed: int, **changes: Any) -> Result:
    """A result with numbers that a healthy VAE could have."""
    metrics: dict[str, Any] = {
        "nll": 30.0 + 0.01 * seed,
        "elbo_loss": 31.0,
        "elbo_loss_stderr": 0.01,
        "reconstruction": 29.0,
        "kl": 2.0,
        "mutual_information": 1.5,
        "batch_mutual_information": 1.4,
        "active_units": 5,
        "active_rank": 5,
        "mutual_posterior_divergence": 3.0,
        "conditional_entropy": 10.0,
        "perplexity": 20.0,
        "updates": 1000,
        "probe_100": 0.5,
        "probe_500": 0.6,
        "probe_majority": 0.3,
    }
    seconds = changes.pop("seconds", 10.0)
    rest = changes.pop("rest", 0.5)
    metrics |= changes
    history = pd.DataFrame(
        {
            "epoch": [1, 2],
            "valid_kl": [1.0, 2.0],
            "valid_mutual_information": [0.9, 2.0 - rest],
            "valid_aggregate_kl": [0.1, rest],
        }
    )
    spec = Spec("text-yelp", method, "medium", seed)
    origin = {"spec": spec.__dict__, "seconds": 99.0, "cpu_seconds": seconds}
    return Result(spec, metrics, history, {}, origin, [])


def group(method: str, **changes: Any) -> list[Result]:
    return [made(method, seed, **changes) for seed in range(3)]


def comparison(found: dict[str, list[Result]]) -> Comparison:
    return Comparison(found, {"yelp": found}, "grammar")


def world(**changed: dict[str, Any]) -> Comparison:
    """What the papers claim, for all of the main rows; ``changed`` spoils one of them."""
    as_claimed: dict[str, dict[str, Any]] = {
        "vae": {"kl": 0.001, "mutual_information": 0.0, "active_units": 0},
        ANNEAL: {"kl": 0.02, "mutual_information": 0.01, "active_units": 0},
        "lagging": {"nll": 29.0, "seconds": 30.0, "active_units": 8},
        f"lagging+{ANNEAL}": {"nll": 28.9, "seconds": 30.0, "active_units": 8},
        BN: {"nll": 29.2},
        DU: {"nll": 28.5, "probe_100": 0.8, "probe_500": 0.9},
        SCALE: {
            "nll": 28.0,
            "scaled_printed_nll": 27.0,
            "scaled_mean_std": 0.7,
            "seconds": 9.0,
        },
        FREE: {},
        BETA: {"rest": 3.0},
        IAF: {},
        IAF_BN: {},
        DU_IAF: {"nll": 28.4, "probe_100": 0.8, "probe_500": 0.9},
        SA: {"seconds": 150.0},
    }
    assert set(changed) <= set(as_claimed)
    return comparison({m: group(m, **{**v, **changed.get(m, {})}) for m, v in as_claimed.items()})


RULES = {
    "lagging-tab1": (benchmark.decide_main_table, "lagging", {"nll": 31.0}),
    "lagging-tab5": (benchmark.decide_bounds, "vae", {"nll": 32.0}),
    "lagging-tab3": (benchmark.decide_time, "lagging", {"seconds": 90.0}),
    "lagging-fig4": (benchmark.decide_units, f"lagging+{ANNEAL}", {"active_units": 0}),
    "lagging-fig5": (benchmark.decide_parts, "lagging", {"rest": 2.0}),
    "du-tab1": (benchmark.decide_families, DU, {"nll": 31.0}),
    "du-tab2": (benchmark.decide_probes, DU, {"probe_100": 0.2}),
    "scale-alg1": (benchmark.decide_algorithm, SCALE, {"scaled_mean_std": 0.2}),
    "scale-tab1": (benchmark.decide_scaled, SCALE, {"nll": 33.0}),
    "scale-tab2": (benchmark.decide_scale_time, SCALE, {"seconds": 20.0}),
}


@pytest.mark.parametrize("item", RULES)
def test_rules_follow_the_numbers(item: str) -> None:
    decide, spoiled, change = RULES[item]
    holds = decide(world())
    assert holds.item == item and holds.verdict is Verdict.HOLDS, holds
    spoilt = decide(world(**{spoiled: change}))
    assert spoilt.verdict in (Verdict.PARTLY, Verdict.FAILS), spoilt


def test_probes_of_scale_vae_are_compared_with_every_other() -> None:
    assert benchmark.decide_scale_probes(world()).verdict is Verdict.FAILS
    best = {"probe_100": 0.9, "probe_500": 0.95}
    assert benchmark.decide_scale_probes(world(**{SCALE: best})).verdict is Verdict.HOLDS


@pytest.mark.parametrize(
    ("decide", "name"),
    [
        (benchmark.decide_inner, "inner"),
        (benchmark.decide_slow_annealing, "annealing"),
        (benchmark.decide_encoder_rate, "encoder"),
        (benchmark.decide_map, "gamma-p"),
        (benchmark.decide_scale_sweep, "std-epochs"),
    ],
)
def test_a_sweep_with_one_seed_decides_nothing(decide: Any, name: str) -> None:
    rows = dict.fromkeys([*benchmarks.sweep(name), "lagging"])
    one = {m: [made(m, 0, scaled_printed_nll=1.0)] for m in rows}
    assert decide(comparison(one)).verdict is Verdict.NOT_RUN
    three = {m: group(m, scaled_printed_nll=1.0) for m in rows}
    assert decide(comparison(three)).verdict is not Verdict.NOT_RUN


def test_verdicts_are_about_this_build_where_there_is_no_reference() -> None:
    build = {m: group(m) for m in benchmarks.MAIN}
    found = benchmark.decide_bounds(Comparison(build, {"yelp": {}}, "grammar"))
    assert all(check.quantity.startswith("grammar (this build)") for check in found.checks)
    some = Comparison(build, {"yelp": {"vae": group("vae")}}, "grammar")
    rules = {check.quantity.partition(":")[0] for check in benchmark.decide_main_table(some).checks}
    assert rules == {"Yelp", "grammar (this build)"}


def test_bold_only_beyond_the_spread() -> None:
    apart = {"vae": group("vae"), "lagging": group("lagging", nll=20.0)}
    assert benchmark.numbers(apart).bold == {(1, "NLL")}
    near = {
        "vae": group("vae"),
        "lagging": [made("lagging", s, nll=29.99 + 0.2 * s) for s in (0, 1)],
    }
    assert benchmark.numbers(near).bold == set()
    single = {"vae": [made("vae", 0)], "lagging": [made("lagging", 0, nll=20.0)]}
    assert benchmark.numbers(single).bold == set()


def test_numbers_show_means_spreads_and_dashes() -> None:
    rows = benchmark.numbers({"vae": group("vae"), "ae": group("ae", nll=None)}).rows
    assert rows["NLL"].tolist() == ["30.01 (0.01)", "–"]
    assert rows["seeds"].tolist() == ["3", "3"]


def test_printed_numbers_stand_beside_the_method_they_belong_to() -> None:
    table = benchmark.printed_table("lagging", "table1", "yahoo")
    assert table is not None
    found = {m: group(m) for m in ("vae", ANNEAL, "lagging", f"lagging+{ANNEAL}", BN)}
    cells = benchmark.numbers(found, printed_rows=table).rows.set_index("method")
    own = table.set_index("method_key")["nll"]
    shown = cells["NLL, printed"]
    assert float(shown[benchmark.called(ANNEAL)]) == own["anneal"]
    assert float(shown["Aggressive (lagging)"]) == own["lagging"]
    assert float(shown[benchmark.called(f"lagging+{ANNEAL}")]) == own["lagging+anneal"]
    assert shown[benchmark.called(BN)] == "–"
    assert benchmark.printed_table("lagging", "table1", "grammar") is None


def test_printed_columns_are_called_as_the_measured_ones_are() -> None:
    rows = benchmark.as_printed("lagging", "table4", "yelp", ["inner_iterations", "nll", "mi"])
    assert list(rows.columns) == ["inner steps", "NLL", "MI"]
    table = benchmark.printed_table("lagging", "table4", "yelp")
    assert table is not None and rows["NLL"].tolist() == table["nll"].tolist()
    with pytest.raises(BadInput, match="no rows of grammar"):
        benchmark.as_printed("lagging", "table4", "grammar", ["nll"])


def test_cost_is_processor_time_over_the_same_seeds_vae() -> None:
    found = {"vae": group("vae", seconds=10.0), "lagging": group("lagging", seconds=35.0)}
    assert benchmark.cost(found)["lagging"] == [3.5, 3.5, 3.5]
    assert benchmark.cost({"lagging": group("lagging")}) == {}


def test_grids_hold_each_member_in_its_place() -> None:
    found = {
        m: [made(m, 0, nll=100 * methods.parameters(m)["gamma"] + methods.parameters(m)["p"])]
        for m in benchmarks.sweep("gamma-p")
    }
    del found[benchmarks.sweep("gamma-p")[0]]
    grid = benchmark.grid(found, "gamma-p", ("gamma", "p"), "nll")
    assert grid.rows == [0.4, 0.6, 0.8] and grid.columns == [0.7, 0.8, 0.9]
    assert pd.isna(grid.values[0, 0]) and grid.values[2, 1] == pytest.approx(80.8)
    assert plots.heat_figure(grid.rows, grid.columns, grid.values, ("a", "b", "c")).axes


def test_tables_and_figures_of_all_rows_can_be_drawn() -> None:
    compared = world()
    groups = compared.groups()
    board = benchmark.leaderboard(groups)
    assert len(board) == 2 * len(compared.build)
    shown = show.table(board, "all", sortable=True).data
    assert 'class="pc-table pc-sortable"' in shown
    assert len(benchmark.two_posteriors(groups).columns) == 3
    assert set(benchmark.cost_table(groups)["data"]) == set(groups)
    points = {t: benchmark.points(f, "active_units", "nll") for t, f in groups.items()}
    assert len(plots.plane_figure(points, "AU", "NLL").axes) == 2
    assert plots.cost_figure(benchmark.cost(compared.build)).axes
    accuracy = benchmark.probes(compared.build)
    assert [c for c in accuracy.rows if c.endswith("labels")] == ["100 labels", "500 labels"]


def test_bold_cells_are_marked() -> None:
    rows = pd.DataFrame({"method": ["a", "b"], "NLL": ["1", "2"]})
    shown = show.table(rows, "c", bold={(0, "NLL")}).data
    assert "<td><strong>1</strong></td>" in shown and shown.count("<strong>") == 1


def test_groups_of_methods_expand_and_are_known() -> None:
    rows = benchmarks.expand(["vae", "@main", "@others", "@inner"])
    assert len(rows) == len(set(rows))
    assert set(benchmarks.MAIN) | set(benchmarks.OTHERS) | set(benchmarks.sweep("inner")) <= set(
        rows
    )
    with pytest.raises(BadInput, match='did you mean "inner"'):
        benchmarks.expand(["@iner"])
    with pytest.raises(BadInput, match='did you mean "yelp"'):
        benchmarks.recipe("yelpp")
    for method in benchmarks.expand(
        ["@main", "@others", *(f"@{name}" for name in benchmarks.SWEEPS)]
    ):
        assert methods.title(method) and methods.get(method)


def test_every_method_of_the_library_is_in_the_benchmark() -> None:
    listed = benchmarks.expand(["@main", "@others", *(f"@{name}" for name in benchmarks.SWEEPS)])
    named = {part.partition("(")[0] for method in listed for part in method.split("+")}
    assert set(methods.names()) - set(benchmarks.own()) <= named


def test_reference_runs_are_planned_once_and_most_wanted_first() -> None:
    plan = benchmarks.planned()
    assert len(plan) == len(set(plan))
    assert plan[0] == Spec("text-yelp", "vae", "medium", 0)
    for dataset in ("yelp", "yahoo"):
        seeds = {s.seed for s in plan if s.recipe == f"text-{dataset}" and s.method == DU}
        assert seeds == {0, 1, 2}
    assert set(plan) <= set(reference.planned())


def test_the_shared_schedule_is_not_spelt_out() -> None:
    assert benchmark.called(ANNEAL) == "VAE + annealing"
    assert benchmark.called(f"lagging+{ANNEAL}") == "Aggressive (lagging) + annealing"
    assert benchmark.called(BN) == "BN-VAE (gamma = 0.6) + annealing"
    assert benchmark.called(FREE) == "Free bits (threshold = 0.1) + annealing"
    assert (
        benchmark.called("anneal(start=0, epochs=15)") == "VAE + annealing (start = 0, epochs = 15)"
    )
    every = benchmarks.expand(["@main", "@others", *(f"@{name}" for name in benchmarks.SWEEPS)])
    assert len({benchmark.called(method) for method in every}) == len(every)


def test_the_pages_say_what_the_recipes_are(root: Path) -> None:
    """Constants in the prose of pages are those of the reference runs."""
    epochs = {5: "five"}[benchmarks.EPOCHS]
    for dataset in ("yelp", "yahoo"):
        setup = recipes.get(benchmarks.recipe(dataset), "medium")
        network = setup.network
        assert isinstance(network, TextNetwork)
        words = (
            f"{setup.train:,} sentences, LSTMs of {network.hidden} units and "
            f"{setup.latent_dim} latent dimensions"
        )
        pages = ["lagging/text", "du/text", "scale/text", "methods/leaderboard"]
        for page in pages:
            text = (root / "notebooks" / f"{page}.ipynb").read_text(encoding="utf-8")
            assert words in text, page
            assert f"over the first {epochs} epochs" in text, page
        ceiling = f"log {setup.batch_size} = {math.log(setup.batch_size):.2f}"
        assert ceiling in (root / "notebooks" / "lagging" / "text.ipynb").read_text("utf-8")
        assert (
            f"batch of {setup.batch_size}" in benchmark.QUANTITIES["batch_mutual_information"].title
        )
