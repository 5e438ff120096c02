"""Tables, figures' data and rules of the pages that compare methods, on results made to order."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from companion import show
from companion.claims import comparison, reference
from companion.claims import groups as benchmarks
from companion.claims.comparison import Comparison
from companion.claims.intervals import difference, level
from companion.claims.premises import Part, Premise
from companion.claims.printed import printed
from companion.claims.reference import Result
from companion.claims.verdicts import Check, Finding, Label, Outcome, Reach, Role, Verdict
from companion.du import text as du
from companion.lagging import sweeps
from companion.lagging import text as lagging
from companion.methods import leaderboard, probes
from companion.scale import text as scale
from companion.show import figures as plots
from posterior_collapse import methods, recipes
from posterior_collapse.errors import BadInput
from posterior_collapse.networks import TextNetwork
from posterior_collapse.runs import Spec

ANNEAL = benchmarks.ANNEAL
BN, DU, SCALE = benchmarks.BATCH_NORM, benchmarks.DU, benchmarks.SCALE
FREE, BETA, SMALL = benchmarks.FREE_BITS, benchmarks.BETA, benchmarks.LOW_BETA
IAF, IAF_BN, DU_IAF = benchmarks.PLAIN_FLOW, benchmarks.FLOW_BATCH_NORM, benchmarks.DU_FLOW
AGG, AGG_ANNEAL = benchmarks.AGGRESSIVE, benchmarks.ANNEALED_AGGRESSIVE
LM, AE, SA = benchmarks.LANGUAGE_MODEL, benchmarks.AUTOENCODER, benchmarks.SEMI_AMORTISED
MET = Premise("text-yelp", "medium", (Part("met", "met", "met", True),))


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
    seconds, scale = changes.pop("seconds", 10.0), changes.pop("scale", "medium")
    rest = changes.pop("rest", 0.5)
    metrics |= changes
    history = pd.DataFrame(
        {
            "epoch": [1, 2],
            "valid_loss": [32.0, 31.0],
            "valid_kl": [1.0, 2.0],
            "valid_mutual_information": [0.9, 2.0 - rest],
            "valid_aggregate_kl": [0.1, rest],
        }
    )
    spec = Spec("text-yelp", method, scale, seed)
    origin = {"spec": spec.__dict__, "seconds": 99.0, "cpu_seconds": seconds}
    return Result(spec, metrics, history, {}, origin, [])


def group(method: str, **changes: Any) -> list[Result]:
    return [made(method, seed, **changes) for seed in range(3)]


def both_origins(found: dict[str, list[Result]], premise: Premise = MET) -> Comparison:
    """This build's and Yelp's reference results, both with a premise."""
    titles = ("Yelp", "grammar (this build)")
    return Comparison(found, {"yelp": found}, "grammar", premises=dict.fromkeys(titles, premise))


def world(**changed: dict[str, Any]) -> Comparison:
    """What the papers claim, for all of the main rows; ``changed`` spoils some of them."""
    best = {"probe_100": 0.8, "probe_500": 0.9}
    as_claimed: dict[str, dict[str, Any]] = {
        "vae": {"kl": 0.001, "mutual_information": 0.0, "active_units": 0},
        ANNEAL: {"kl": 0.02, "mutual_information": 0.01, "active_units": 0},
        LM: {"mutual_information": 0.0, "kl": 0.0},
        AE: {"nll": None, "probe_100": 0.55, "probe_500": 0.65},
        AGG: {"nll": 29.0, "seconds": 30.0, "active_units": 8},
        AGG_ANNEAL: {"nll": 28.9, "seconds": 30.0, "active_units": 8},
        BN: {"nll": 29.2},
        DU: {"nll": 28.5, **best},
        SCALE: {
            "nll": 28.0,
            "scaled_printed_nll": 27.0,
            "scaled_mean_std": 0.7,
            "seconds": 9.0,
        },
        FREE: {},
        BETA: {"rest": 2.0},
        SMALL: {"rest": 3.0, "nll": 31.0},
        IAF: {},
        IAF_BN: {},
        DU_IAF: {"nll": 28.4, **best},
        SA: {"seconds": 150.0},
    }
    assert set(changed) <= set(as_claimed)
    return both_origins({m: group(m, **{**v, **changed.get(m, {})}) for m, v in as_claimed.items()})


RULES = {
    "lagging-tab1": (lagging.decide_main_table, AGG_ANNEAL, {"nll": 31.0}),
    "lagging-tab5": (lagging.decide_bounds, "vae", {"nll": 32.0}),
    "lagging-tab3": (lagging.decide_time, AGG, {"seconds": 90.0}),
    "lagging-fig4": (lagging.decide_units, AGG_ANNEAL, {"active_units": 0}),
    "lagging-fig5": (lagging.decide_parts, AGG, {"rest": 2.0}),
    "du-tab1": (du.decide_families, DU, {"nll": 31.0}),
    "du-tab2": (probes.decide_probes, DU, {"probe_100": 0.2}),
    "scale-alg1": (scale.decide_algorithm, SCALE, {"scaled_mean_std": 0.2}),
    "scale-tab1": (scale.decide_scaled, SCALE, {"nll": 33.0}),
    "scale-tab2": (scale.decide_scale_time, SCALE, {"seconds": 20.0}),
}
UNTOLD = {Outcome.CANNOT_TELL}


def central(found: Finding, outcome: Outcome) -> set[str]:
    """What central checks with an outcome measured."""
    roles = (Role.CENTRAL, Role.PRINTED)
    return {c.quantity for c in found.checks if c.role in roles and c.outcome is outcome}


def without_premises(found: Finding) -> list[Check]:
    return [check for check in found.checks if not check.premise]


@pytest.mark.parametrize("item", RULES)
def test_rules_follow_the_numbers(item: str) -> None:
    decide, spoiled, change = RULES[item]
    holds = decide(world())
    assert holds.item == item and holds.verdict is Verdict.HOLDS, holds
    spoilt = decide(world(**{spoiled: change}))
    assert spoilt.verdict in (Verdict.MIXED, Verdict.FAILS), spoilt


@pytest.mark.parametrize("item", [item for item in RULES if item != "lagging-tab5"])
def test_without_a_premise_no_rule_holds_or_fails(item: str) -> None:
    decide, spoiled, change = RULES[item]
    for holds in (False, None):
        part = Part("autoencoder", "uses its code", "0 units", holds)
        dead = Premise("text-yelp", "medium", (part,))
        for compared in (world(), world(**{spoiled: change})):
            found = decide(compared._replace(premises=dict.fromkeys(compared.premises, dead)))
            assert found.label is Label.CANNOT_TELL and "0 units" in found.reason
            assert {c.outcome for c in without_premises(found)} == UNTOLD


def test_that_one_bound_lies_below_another_is_mathematics() -> None:
    found = lagging.decide_bounds(world())
    assert found.reach is Reach.EXACT and "mathematics" in found.checks[0].quantity
    broken = lagging.decide_bounds(world(vae={"nll": 32.0}))
    assert broken.label is Label.FAILS and "3 of" not in broken.checks[0].rule
    assert broken.checks[0].words.startswith("6 of ")  # three seeds in two groups


def test_the_premise_of_one_data_set_is_not_that_of_another() -> None:
    found, dead = world().build, Premise("r", "medium", (Part("p", "r", "f", None),))
    spoilt = {**found, DU: group(DU, nll=33.0)}
    both = Comparison({}, {"yelp": spoilt, "yahoo": found}, "grammar", premises={"Yelp": dead})
    both = both._replace(premises={"Yelp": dead, "Yahoo": MET})
    told = du.decide_families(both)
    assert told.verdict is Verdict.HOLDS and "that this scale can't tell" in told.sentence
    assert all(q.startswith("Yahoo") for q in central(told, Outcome.HOLDS))
    assert all(q.startswith("Yelp") for q in central(told, Outcome.CANNOT_TELL))


def test_probes_of_scale_vae_are_compared_with_the_best_other() -> None:
    assert probes.decide_scale_probes(world()).label is Label.NOT_REPRODUCED
    best = {"probe_100": 0.9, "probe_500": 0.95}
    assert probes.decide_scale_probes(world(**{SCALE: best})).verdict is Verdict.HOLDS


@pytest.mark.parametrize(
    ("decide", "name"),
    [
        (sweeps.decide_inner, "inner"),
        (sweeps.decide_slow_annealing, "annealing"),
        (sweeps.decide_encoder_rate, "encoder"),
        (du.decide_map, "gamma-p"),
        (scale.decide_scale_sweep, "std-epochs"),
    ],
)
def test_a_sweep_with_one_seed_decides_nothing(decide: Any, name: str) -> None:
    rows = dict.fromkeys([*benchmarks.sweep(name), AGG, AGG_ANNEAL])
    one = {m: [made(m, 0, scaled_printed_nll=1.0)] for m in rows}
    assert decide(both_origins(one)).verdict is Verdict.UNDECIDED
    three = {m: group(m, scaled_printed_nll=1.0) for m in rows}
    assert decide(both_origins(three)).verdict is not Verdict.UNDECIDED
    nothing = decide(both_origins({"ae": group("ae", nll=None)}))
    assert nothing.label is Label.NOT_RUN and nothing.reason == "nothing was run for it"


def test_the_largest_scale_that_decides_is_told_and_origins_are_not_pooled() -> None:
    small = world().build
    large = {m: group(m, scale="smoke") for m in ("vae", ANNEAL)}  # text has no large scale yet
    none = Comparison(
        small, {"yelp": {}}, "grammar", premises=dict.fromkeys(["grammar (this build)"], MET)
    )
    told = lagging.decide_main_table(none)
    assert told.verdict is Verdict.HOLDS
    assert all(
        check.quantity.startswith("grammar (this build)") for check in without_premises(told)
    )
    some = none._replace(reference={"yelp": {"vae": group("vae")}})
    assert lagging.decide_main_table(some).checks == told.checks
    assert [list(origin) for origin in some._replace(large={"yelp": large}).origins()] == [
        ["Yelp (large)"],
        ["Yelp"],
        ["grammar (this build)"],
    ]
    full = world()._replace(build={})
    assert {c.groups for c in lagging.decide_main_table(full).checks} == {("Yelp",)}


# --- the papers' own numbers ----------------------------------------------------------------------

COLUMNS = {"nll": "nll", "kl": "kl", "mi": "mutual_information", "au": "active_units"}
COLUMNS |= {"neg_elbo": "elbo_loss"}


def printed_group(method: str, row: Any, **changes: Any) -> list[Result]:
    """Three seeds of a printed row: its numbers, and a spread of NLL that is each method's own."""
    numbers = {ours: float(row[name]) for name, ours in COLUMNS.items() if name in row}
    numbers = {name: value for name, value in numbers.items() if not math.isnan(value)}
    noise = np.random.default_rng(zlib.crc32(method.encode())).normal(size=3)
    noise = 0.01 * (noise - noise.mean()) / noise.std(ddof=1)
    return [
        made(method, seed, **numbers | {"nll": numbers["nll"] + noise[seed]} | changes)
        for seed in range(3)
    ]


def printed_table(
    paper: str, table: str, methods_: list[str], dataset: str = "", **chosen: str
) -> dict[str, list[Result]]:
    """Results that a paper's table prints, for those of our methods that it has."""
    rows = printed(paper, table)
    rows = rows[rows["dataset"].str.startswith(dataset)]
    for column, value in chosen.items():
        rows = rows[rows[column] == value]
    found = {}
    for method in methods_:
        row = comparison.printed_row(rows, method)
        if row is not None:
            found[method] = printed_group(method, row)
    return found


def judged(yahoo: dict[str, list[Result]], yelp: dict[str, list[Result]]) -> Comparison:
    data = {name: found for name, found in (("yahoo", yahoo), ("yelp", yelp)) if found}
    return Comparison({}, data, "grammar", premises={"Yahoo": MET, "Yelp": MET})


ROWS = [
    "vae", ANNEAL, LM, AGG, AGG_ANNEAL, BETA, SMALL, SA, BN, DU, benchmarks.DU_YELP, FREE,
    IAF_BN, DU_IAF, benchmarks.DELTA, benchmarks.MAE, benchmarks.SKIP, benchmarks.CYCLICAL,
    SCALE,
]  # fmt: skip


def test_lagging_table_1_by_its_own_numbers() -> None:
    tables = [printed_table("lagging", "table1", ROWS, name) for name in ("Yahoo", "Yelp")]
    found = lagging.decide_main_table(judged(*tables))
    assert found.verdict is Verdict.HOLDS, found.sentence
    # What the paper's table contradicts: without annealing it is behind the language model on
    # Yahoo (328.2 against 328.0), and SA-VAE is as good on Yelp (355.9).
    side = {c.quantity: c.outcome for c in found.checks if c.role is Role.SIDE}
    behind = {q for q, outcome in side.items() if outcome is Outcome.FAILS}
    assert behind == {"Yahoo: NLL of Aggressive (lagging) less that of LSTM-LM"}, behind
    tied = {q for q, outcome in side.items() if outcome is Outcome.OPEN}
    assert len(tied) == 1 and all(q.startswith("Yelp") and "SA-VAE" in q for q in tied)
    assert lagging.decide_units(judged(*tables)).verdict is Verdict.HOLDS


def test_lagging_table_5_by_its_own_numbers() -> None:
    rows = [m for m in ROWS if m != LM]  # it has no ELBO
    tables = [printed_table("lagging", "table5", rows, name) for name in ("Yahoo", "Yelp")]
    assert len(tables[0]) > 6
    assert lagging.decide_bounds(judged(*tables)).verdict is Verdict.HOLDS


def test_lagging_figure_5_by_the_numbers_of_table_1() -> None:
    rows = printed_table("lagging", "table1", [ANNEAL, AGG, BETA, SMALL], "Yelp")
    rest = {
        m: [
            made(m, r.spec.seed, rest=r.metrics["kl"] - r.metrics["mutual_information"])
            for r in some
        ]
        for m, some in rows.items()
    }
    assert lagging.decide_parts(judged({}, rest)).verdict is Verdict.HOLDS


@pytest.mark.parametrize("dataset", ["Yahoo", "Yelp"])
def test_lagging_table_3_by_its_own_numbers(dataset: str) -> None:
    table = printed("lagging", "table3")
    ratios = table[table["dataset"] == dataset].set_index("method_key")["time_ratio"]
    alive = {
        m: group(m, seconds=10.0 * ratios.get(k, 1.0))
        for m, k in ((AGG, "lagging"), ("vae", "vae"), (SA, "sa-vae"), (ANNEAL, "vae"))
    }
    assert lagging.decide_time(judged({}, alive)).verdict is Verdict.HOLDS


def test_lagging_tables_4_9_and_10_by_their_own_numbers() -> None:
    table = printed("lagging", "table4").set_index("inner_iterations")
    keys = [*(f"lagging-fixed(steps={n})" for n in table.index[:-1]), "lagging"]
    inner = {m: printed_group(m, row) for m, (_, row) in zip(keys, table.iterrows(), strict=True)}
    assert sweeps.decide_inner(judged({}, inner)).verdict is Verdict.HOLDS

    slow = []
    for name in ("Yahoo", "Yelp"):
        rows = printed("lagging", "table9")
        rows = rows[rows["dataset"] == name]
        swept = rows[rows["anneal_iterations"].notna()]
        members = zip(benchmarks.sweep("annealing"), swept.iterrows(), strict=True)
        made_ = {method: printed_group(method, row) for method, (_, row) in members}
        made_ |= printed_table("lagging", "table9", [AGG, AGG_ANNEAL], name)
        slow.append(made_)
    found = sweeps.decide_slow_annealing(judged(*slow))
    assert found.verdict is Verdict.HOLDS, found.sentence
    # Without annealing, aggressive training does not win: 328.0 against 327.5 twice, 357.0 against
    # 356.8 and 356.9.  That is why annealing is compared with aggressive and annealing.
    behind = [c for c in found.checks if c.role is Role.SIDE and c.outcome is Outcome.FAILS]
    assert len(behind) == 4

    table = printed("lagging", "table10").set_index("encoder_rate_factor")
    rates = {
        m: printed_group(m, table.loc[methods.parameters(m)["factor"]])
        for m in benchmarks.sweep("encoder")[:-1]
    }
    fastest = benchmarks.sweep("encoder")[-1]  # exploded, and not printed
    rates[fastest] = group(fastest, nll=1e4)
    assert sweeps.decide_encoder_rate(judged({}, rates)).verdict is Verdict.HOLDS


def test_du_table_1_by_its_own_numbers() -> None:
    yahoo, yelp = (printed_table("du", "table1", ROWS, name) for name in ("Yahoo", "Yelp"))
    yahoo.pop(benchmarks.DU_YELP)  # there the other parameters are the best
    for found in (yahoo, yelp):  # the printed flow has free bits
        rows = printed("du", "table1")
        row = rows[rows["method_key"].str.startswith("vae-iaf")].iloc[0 if found is yahoo else 1]
        found[benchmarks.FLOW] = printed_group(benchmarks.FLOW, row)
    on_yelp = du.decide_families(judged({}, yelp))
    assert on_yelp.verdict is Verdict.HOLDS, on_yelp.sentence
    # The paper says best on all data sets; on Yahoo its table has a tie, 326.7.
    on_yahoo = du.decide_families(judged(yahoo, {}))
    tie = {f"Yahoo: NLL of DU-VAE, best parameters, less that of {comparison.called(AGG_ANNEAL)}"}
    assert on_yahoo.verdict is Verdict.UNDECIDED
    assert central(on_yahoo, Outcome.OPEN) == tie and not central(on_yahoo, Outcome.FAILS)
    # With the parameters of Yahoo, BN-VAE is ahead on Yelp: 355.7 against 355.8.
    yelp.pop(benchmarks.DU_YELP)
    other = central(du.decide_families(judged({}, yelp)), Outcome.FAILS)
    assert f"Yelp: NLL of DU-VAE, best parameters, less that of {comparison.called(BN)}" in other


def printed_probes(paper: str, table: str, wanted: list[str], note: str | None = None) -> Any:
    rows = printed(paper, table)
    rows = rows if note is None else rows[rows["note"] == note]
    found = {}
    for method in wanted:
        row = comparison.printed_row(rows, method)
        if row is not None:
            own = rows[rows["method_key"] == row["method_key"]]
            probes = {
                f"probe_{count:g}": accuracy / 100
                for count, accuracy in zip(own["labels"], own["accuracy"], strict=True)
            }
            found[method] = group(method, **probes)
    return found


def test_du_table_2_by_its_own_numbers() -> None:
    found = printed_probes("du", "table2", [AE, *ROWS])
    rows = printed("du", "table2")
    flow = rows[rows["method_key"].str.startswith("vae-iaf")]
    accuracies = {
        f"probe_{n:g}": a / 100 for n, a in zip(flow["labels"], flow["accuracy"], strict=True)
    }
    found[benchmarks.FLOW] = group(benchmarks.FLOW, **accuracies)
    del found[DU]  # printed with the other parameters
    told = probes.decide_probes(judged({}, found))
    assert told.verdict is Verdict.HOLDS, told.sentence
    assert told.counts(Role.CENTRAL).total == 10  # five numbers of labels, two families


def test_scale_table_4_by_its_own_numbers() -> None:
    own = printed_probes("scale", "table4", ROWS, note="")
    del own[DU]
    told = probes.decide_scale_probes(judged({}, own))
    assert told.verdict is Verdict.HOLDS, told.sentence
    # The row of DU-VAE that the table refers to is ahead with 100 labels: 88.9 against 87.7.
    referred = printed_probes("scale", "table4", [benchmarks.DU_YELP], note="referred")
    told = probes.decide_scale_probes(judged({}, own | referred))
    assert {q.partition(" of Scale")[0] for q in central(told, Outcome.FAILS)} == {
        "Yelp: accuracy with 100 labels"
    }
    assert told.verdict is Verdict.MIXED and "100 labels" in told.sentence


def test_scale_tables_1_2_and_3_by_their_own_numbers() -> None:
    tables = []
    for name in ("Yahoo", "Yelp"):
        found = printed_table("scale", "table1", [m for m in ROWS if m not in (AGG, SMALL)], name)
        # What is printed has no valid counterpart.
        found[SCALE] = [
            made(SCALE, r.spec.seed, scaled_printed_nll=r.metrics["nll"], nll=None)
            for r in found[SCALE]
        ]
        tables.append(found)
    told = scale.decide_scaled(judged(*tables))
    assert told.verdict is Verdict.HOLDS, told.sentence
    assert told.counts(Role.CENTRAL).total > 14

    times = printed("scale", "table2")
    for name in ("Yahoo", "Yelp"):
        ratios = times[times["dataset"] == name].set_index("method")["time_ratio"]
        found = {
            m: group(m, seconds=10.0 * ratios[k])
            for m, k in ((SCALE, "Scale-VAE"), (ANNEAL, "VAE"))
        }
        assert scale.decide_scale_time(judged({}, found)).verdict is Verdict.HOLDS

    rows = printed("scale", "table3").set_index(["des_std", "f_epo"])
    swept = {}
    for method in benchmarks.sweep("std-epochs"):
        own = methods.parameters(method)
        same = own["f_epo"] == benchmarks.OWN_EPOCHS
        if same and (own["des_std"], 1) in rows.index:
            row = rows.loc[(own["des_std"], 1)]
            swept[method] = [
                made(
                    method,
                    r.spec.seed,
                    scaled_printed_nll=r.metrics["nll"],
                    mutual_information=row["mi"],
                )
                for r in printed_group(method, row)
            ]
    assert scale.decide_scale_sweep(judged(swept, {})).verdict is Verdict.HOLDS


COLLAPSED: dict[str, Any] = {
    "nll": 38.5, "elbo_loss": 38.6, "kl": 0.0, "mutual_information": 0.0, "active_units": 0,
    "scaled_printed_nll": 38.5, "scaled_mean_std": 4e-4, "probe_100": 0.59, "probe_500": 0.59,
    "rest": 0.0,
}  # fmt: skip

EVERY = [
    lagging.decide_main_table, lagging.decide_time, lagging.decide_units,
    lagging.decide_parts, sweeps.decide_inner, sweeps.decide_slow_annealing,
    sweeps.decide_encoder_rate, du.decide_families, probes.decide_probes,
    du.decide_map, scale.decide_algorithm, scale.decide_scaled,
    scale.decide_scale_time, scale.decide_scale_sweep, probes.decide_scale_probes,
]  # fmt: skip


@pytest.mark.parametrize("decide", EVERY)
def test_where_every_method_collapsed_no_rule_holds(decide: Any) -> None:
    """Even with the premise given as held, times of the paper's, and a faster encoder exploding."""
    swept = [m for name in benchmarks.SWEEPS for m in benchmarks.sweep(name)]
    seconds = {AGG: 30.0, AGG_ANNEAL: 30.0, SA: 150.0, SCALE: 9.0}
    found = {
        m: [
            made(m, s, **{**COLLAPSED, "nll": 38.5 + 0.01 * s, "seconds": seconds.get(m, 10.0)})
            for s in range(3)
        ]
        for m in {*ROWS, AE, *swept}
    }
    assert decide(both_origins(found)).verdict is not Verdict.HOLDS


# --- pairs and intervals --------------------------------------------------------------------------


def with_each(method: str, seed: int, nll: list[float]) -> Result:
    one = made(method, seed, nll=sum(nll) / len(nll))
    return replace(one, arrays={"each_nll": np.array(nll)})


def test_differences_are_paired_by_seed_and_by_sentence() -> None:
    hard = [10.0, 40.0, 90.0, 20.0]  # how hard a sentence is, for every model alike
    first = [with_each("vae", s, [h + 0.1 * s for h in hard]) for s in range(3)]
    second = [with_each(ANNEAL, s, [h + 0.1 * s + 1.0 for h in hard]) for s in range(3)]
    found = {"vae": first, ANNEAL: second}
    apart = difference("vae", ANNEAL, "nll")(found)
    assert apart is not None and (apart.mean, apart.half) == pytest.approx((-1.0, 0.0), abs=1e-9)
    alone = level("vae", "nll")(found)
    assert alone is not None and alone.half > 20.0  # the draw of the sentences is in it
    assert difference("vae", BN, "nll")(found) is None

    uneven = [
        with_each(ANNEAL, s, [h + 0.1 * s + d for h, d in zip(hard, (0, 0, 2, 2), strict=True)])
        for s in range(3)
    ]
    wide = difference("vae", ANNEAL, "nll")({"vae": first, ANNEAL: uneven})
    assert wide is not None and wide.mean == pytest.approx(-1.0)
    # no spread over seeds, so this is Student's interval over the four sentences
    assert wide.half == pytest.approx(3.182446 * (4 / 3) ** 0.5 / 2, rel=1e-5)


def answering(method: str, seed: int, right: list[bool]) -> Result:
    one = made(method, seed, probe_100=sum(right) / len(right), n_sentences=len(right))
    return replace(one, arrays={"each_probe_100": np.array(right)})


def test_accuracies_are_paired_by_sentence_where_both_have_the_answers() -> None:
    """Two probes that fail on the same sentences: of 400, one knows 20 more, all others alike."""
    wide, narrow = [True] * 200 + [False] * 200, [True] * 180 + [False] * 220
    found = {
        "vae": [answering("vae", s, narrow) for s in range(3)],
        ANNEAL: [answering(ANNEAL, s, wide) for s in range(3)],
    }
    paired = difference(ANNEAL, "vae", "probe_100")(found)
    assert paired is not None and paired.mean == pytest.approx(0.05)
    # Agresti and Min's error by their own formula, with half a pair added to each outcome
    b, c, n = 20.5, 0.5, 402
    error = math.sqrt((b + c) - (b - c) ** 2 / n) / n
    assert paired.half == pytest.approx(float(stats.t.ppf(0.975, 399)) * error, rel=1e-6)
    mute = {m: [replace(r, arrays={}) for r in rows] for m, rows in found.items()}
    alone = difference(ANNEAL, "vae", "probe_100")({**found, "vae": mute["vae"]})
    neither = difference(ANNEAL, "vae", "probe_100")(mute)
    assert alone == neither and alone is not None
    assert paired.low > 0.0 > alone.low and alone.half > 2 * paired.half

    same = difference(ANNEAL, "vae", "probe_100")({**found, ANNEAL: found["vae"]})
    assert same is not None and same.mean == 0.0 and 0.0 < same.half < paired.half
    # an accuracy by itself has a share's error, with the answers and without
    own = level("vae", "probe_100")
    assert own(found) == own(mute)


def test_tables_show_the_difference_that_could_be_detected() -> None:
    found = {
        ANNEAL: [made(ANNEAL, s, nll=30.0) for s in range(3)],
        "lagging": [made("lagging", s, nll=29.0 + 0.1 * s) for s in range(3)],
        BN: [made(BN, 0)],
    }
    shown = comparison.numbers(found).rows.set_index("method")["NLL, detectable"]
    half = 4.302653 * 0.1 / 3**0.5
    assert shown[comparison.called("lagging")] == f"{half:.2f}" and list(shown)[0] == "–"
    assert shown[comparison.called(BN)] == "–"  # one seed
    single = {m: rows[:1] for m, rows in found.items()}
    assert "NLL, detectable" not in comparison.numbers(single).rows


def test_intervals_stay_within_the_bounds_of_their_quantity() -> None:
    spread = [
        made("vae", s, kl=k, mutual_information=k, mutual_information_points=1000)
        for s, k in enumerate((0.0, 0.1, 6.0))
    ]
    found = {
        "vae": spread,
        ANNEAL: [
            made(ANNEAL, s, probe_100=p, n_sentences=20) for s, p in enumerate((1.0, 1.0, 0.95))
        ],
    }
    kl = level("vae", "kl")(found)
    mi = level("vae", "mutual_information")(found)
    accuracy = level(ANNEAL, "probe_100")(found)
    assert kl is not None and kl.low == 0.0 and mi is not None and accuracy is not None
    assert (mi.low, mi.high) == (0.0, math.log(1000)) and accuracy.high == 1.0
    assert accuracy.low < 0.92  # twenty sentences say little


def test_time_to_convergence_weighs_epochs_by_their_updates() -> None:
    one = made(AGG, 0, seconds=100.0)
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3, 4],
            "iteration": [10, 20, 30, 40],
            "inner_steps": [4.0, 4.0, 0.0, 0.0],
            "valid_loss": [9.0, 7.0, 6.0, 8.0],
        }
    )
    timed = replace(one, history=history)
    assert comparison.convergence(timed) == pytest.approx(100.0 * 11 / 12)
    assert comparison.convergence(one) == 100.0  # the best epoch is the last


def test_bold_only_beyond_the_spread() -> None:
    apart = {"vae": group("vae"), "lagging": group("lagging", nll=20.0)}
    assert comparison.numbers(apart).bold == {(1, "NLL")}
    near = {
        "vae": group("vae"),
        "lagging": [made("lagging", s, nll=29.99 + 0.2 * s) for s in (0, 1)],
    }
    assert comparison.numbers(near).bold == set()
    single = {"vae": [made("vae", 0)], "lagging": [made("lagging", 0, nll=20.0)]}
    assert comparison.numbers(single).bold == set()


def test_numbers_show_means_spreads_and_dashes() -> None:
    rows = comparison.numbers({"vae": group("vae"), "ae": group("ae", nll=None)}).rows
    assert rows["NLL"].tolist() == ["30.01 (0.01)", "–"]
    assert rows["seeds"].tolist() == ["3", "3"]


def test_a_metric_that_one_seed_lacks_is_there_for_the_others() -> None:
    """It is in the average, in the rules and in the column of seeds as often as it is there."""
    runs = {ANNEAL: group(ANNEAL), BN: [made(BN, 0, nll=29.0), made(BN, 1, nll=None), made(BN, 2)]}
    rows = comparison.numbers(runs).rows.set_index("method")
    shown = rows.loc[comparison.called(BN)]
    assert (shown["NLL"], shown["KL"], shown["seeds"]) == (
        "29.51 (0.72)",
        "2.00 (0.00)",
        "3 (NLL: 2)",
    )
    assert rows.loc[comparison.called(ANNEAL), "seeds"] == "3"
    own, apart = level(BN, "nll")(runs), difference(BN, ANNEAL, "nll")(runs)
    assert own is not None and own.n == 2 and own.mean == pytest.approx(29.51)
    assert apart is not None and apart.n == 2 and apart.mean == pytest.approx(-0.5)
    runs[BN][0].metrics["probe_100"] = None
    accuracies = probes.probes(runs).rows.set_index("method")["seeds"]
    assert accuracies[comparison.called(BN)] == "3 (100 labels: 2)"
    slow = {"vae": group("vae", seconds=10.0)[:2], BN: group(BN, seconds=20.0)}
    cost = comparison.cost_table({"Yelp": slow}).set_index("method").loc[comparison.called(BN)]
    assert (cost["time / VAE"], cost["seeds"]) == ("2.00 (0.00)", "3 (time / VAE: 2)")


def test_printed_numbers_stand_beside_the_method_they_belong_to() -> None:
    table = comparison.printed_table("lagging", "table1", "yahoo")
    assert table is not None
    found = {m: group(m) for m in ("vae", ANNEAL, "lagging", f"lagging+{ANNEAL}", BN)}
    cells = comparison.numbers(found, printed_rows=table).rows.set_index("method")
    own = table.set_index("method_key")["nll"]
    shown = cells["NLL, printed"]
    assert float(shown[comparison.called(ANNEAL)]) == own["anneal"]
    assert float(shown["Aggressive (lagging)"]) == own["lagging"]
    assert float(shown[comparison.called(f"lagging+{ANNEAL}")]) == own["lagging+anneal"]
    assert shown[comparison.called(BN)] == "–"
    assert comparison.printed_table("lagging", "table1", "grammar") is None


def test_printed_columns_are_called_as_the_measured_ones_are() -> None:
    rows = comparison.as_printed("lagging", "table4", "yelp", ["inner_iterations", "nll", "mi"])
    assert list(rows.columns) == ["inner steps", "NLL", "MI"]
    table = comparison.printed_table("lagging", "table4", "yelp")
    assert table is not None and rows["NLL"].tolist() == table["nll"].tolist()
    with pytest.raises(BadInput, match="no rows of grammar"):
        comparison.as_printed("lagging", "table4", "grammar", ["nll"])


def test_cost_is_processor_time_over_the_same_seeds_vae() -> None:
    found = {"vae": group("vae", seconds=10.0), "lagging": group("lagging", seconds=35.0)}
    assert comparison.cost(found)["lagging"] == [3.5, 3.5, 3.5]
    assert comparison.cost({"lagging": group("lagging")}) == {}


def test_grids_hold_each_member_in_its_place() -> None:
    found = {
        m: [made(m, 0, nll=100 * methods.parameters(m)["gamma"] + methods.parameters(m)["p"])]
        for m in benchmarks.sweep("gamma-p")
    }
    del found[benchmarks.sweep("gamma-p")[0]]
    grid = comparison.grid(found, "gamma-p", ("gamma", "p"), "nll")
    assert list(grid.index) == [0.4, 0.6, 0.8] and list(grid.columns) == [0.7, 0.8, 0.9]
    assert pd.isna(grid.values[0, 0]) and grid.values[2, 1] == pytest.approx(80.8)
    assert plots.heat_figure(grid, ("a", "b", "c")).axes


def test_tables_and_figures_of_all_rows_can_be_drawn() -> None:
    compared = world()
    groups = compared.groups()
    boards = [leaderboard.Board(title, "page", runs) for title, runs in groups.items()]
    assert len(leaderboard._table(boards)) == 2 * len(compared.build)
    assert len(leaderboard.still_figure(boards).axes) >= 2
    shown = show.table(comparison.cost_table(groups), "all", sortable=True).data
    assert 'class="pc-table pc-sortable' in shown
    assert len(scale.two_posteriors(groups).columns) == 3
    assert set(comparison.cost_table(groups)["data"]) == set(groups)
    points = {t: comparison.points(f, "active_units", "nll") for t, f in groups.items()}
    assert len(plots.plane_figure(points, "AU", "NLL").axes) == 2
    assert plots.cost_figure(comparison.cost(compared.build)).axes
    accuracy = probes.probes(compared.build)
    assert [c for c in accuracy.rows if c.endswith("labels")] == ["100 labels", "500 labels"]


def test_bold_cells_are_marked() -> None:
    rows = pd.DataFrame({"method": ["a", "b"], "NLL": ["1", "2"]})
    shown = show.table(rows, "c", bold={(0, "NLL")}).data
    assert "<td><strong>1</strong></td>" in shown and shown.count("<strong>") == 1


def test_groups_of_methods_expand_and_are_known() -> None:
    rows = benchmarks.expand(["vae", "@main", "@others", "@refined", "@inner"])
    assert len(rows) == len(set(rows))
    assert set(benchmarks.MAIN) | set(benchmarks.OTHERS) | set(benchmarks.sweep("inner")) <= set(
        rows
    )
    with pytest.raises(BadInput, match='did you mean "inner"'):
        benchmarks.expand(["@iner"])
    with pytest.raises(BadInput, match='did you mean "yelp"'):
        benchmarks.recipe("yelpp")
    for method in benchmarks.expand(
        ["@main", "@others", "@refined", *(f"@{name}" for name in benchmarks.SWEEPS)]
    ):
        assert methods.title(method) and methods.get(method)


def test_every_method_of_the_library_is_in_the_benchmark() -> None:
    sweeps = (f"@{name}" for name in benchmarks.SWEEPS)
    listed = benchmarks.expand(["@main", "@others", "@refined", *sweeps])
    named = {part.partition("(")[0] for method in listed for part in method.split("+")}
    # Other forms of rows that are there: of Scale-VAE's average, and of the mixtures' weights.
    forms = {"scale-vae-own", "scale-vae-letter", "scale-vae-stopped", "mog-equal", "moig-equal"}
    assert set(methods.names()) - set(benchmarks.own()) - forms <= named


def test_reference_runs_are_planned_once_and_most_wanted_first() -> None:
    plan = benchmarks.planned()
    assert len(plan) == len(set(plan))
    # The premise of each recipe comes before anything that needs it.
    first = plan[: 2 * len(benchmarks.PREMISE)]
    assert {s.method for s in first} == set(benchmarks.PREMISE)
    for dataset in ("yelp", "yahoo"):
        seeds = {s.seed for s in plan if s.recipe == f"text-{dataset}" and s.method == DU}
        assert seeds == set(range(5))
    assert set(plan) <= set(reference.planned())


def test_the_shared_schedule_is_not_spelt_out() -> None:
    assert comparison.called(ANNEAL) == "VAE + annealing"
    assert comparison.called(f"lagging+{ANNEAL}") == "Aggressive (lagging) + annealing"
    assert comparison.called(BN) == "BN-VAE (gamma = 0.6) + annealing"
    assert comparison.called(FREE) == "Free bits (threshold = 0.1) + annealing"
    assert (
        comparison.called("anneal(start=0, epochs=15)")
        == "VAE + annealing (start = 0, epochs = 15)"
    )
    every = benchmarks.expand(["@main", "@others", *(f"@{name}" for name in benchmarks.SWEEPS)])
    assert len({comparison.called(method) for method in every}) == len(every)


def test_the_pages_say_what_the_recipes_are(root: Path) -> None:
    """Constants in the prose of pages are those of the reference runs."""
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
            rise = f"over the first updates: {setup.optimisation.annealing:,} on real text"
            assert rise in text, page
        ceiling = f"log {setup.batch_size} = {math.log(setup.batch_size):.2f}"
        assert ceiling in (root / "notebooks" / "lagging" / "text.ipynb").read_text("utf-8")
        assert (
            f"batch of {setup.batch_size}"
            in comparison.QUANTITIES["batch_mutual_information"].title
        )
