"""What the page on tied variances and text asks: IGP's figures 1 and 2, tables 1, 2, 7 and 8, A, C.

The bounds in the rules are this project's reading of the paper's words.  Nearly all numbers of
these tables are lost from our text, so most rules ask for signs of differences between DGP and
IGP, seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from companion.claims import evidence
from companion.claims import groups as benchmarks
from companion.claims.premises import Premise
from companion.claims.printed import printed
from companion.claims.reference import Result
from companion.claims.table import Column, Runs, cells, differences, frame, only, row, values
from companion.claims.verdicts import (
    Check,
    Finding,
    above,
    below,
    between,
    premise,
    side,
    stated,
)
from companion.igp.shared import (
    BASE,
    MEASURES,
    NAMES,
    Group,
    Pair,
    Rule,
    Shown,
    apart_table,
    called,
    data_of,
    judges,
    limited,
    lost_items,
    of_kind,
    one_group,
    pairs,
    scale_of,
    stands,
    table,
    tables,
    targets,
)
from companion.numbers import number, spread
from posterior_collapse import methods

ACTIVE = 0.01  # variance of a mean that varies
_SNLI, _LABELLED = (benchmarks.SNLI,), benchmarks.LABELLED


def _is_target(method: str) -> bool:
    return method == "ae" or of_kind("target-kl")(method)


def _every(quantity: str, measured: Iterable[float], low: float, high: float) -> Check:
    """A premise about the runs that are compared: each of them lies in [low, high].

    It is about these runs and not about a mean over all seeds, so it needs no interval, and data
    with one seed do not block a verdict on data with three.
    """
    known = list(measured)
    holds = all(low <= value <= high for value in known)
    rule = f"each run between {low:g} and {high:g}" if low < high else f"each run {low:g}"
    return premise(stated(quantity, rule, holds, ", ".join(map(number, known))))


def lost_table() -> pd.DataFrame:
    """What our text of the paper no longer has, by item."""
    further = {
        "igp-fig1": "a picture: no numbers",
        "igp-fig2": "a picture: no numbers; its full table is igp-appA",
        "igp-tab2": "the three values of beta",
        "igp-tab7": "the value of C; the text gives 5 for the base",
    }
    return lost_items(("fig1", "fig2", "appA", "tab2", "tab7", "tab8", "appC"), further)


# --- figure 1: means and variances ----------------------------------------------------------------


def at_prior(result: Result) -> float:
    """Dimensions whose posterior is the prior's: means near 0 that do not vary, variances near 1.

    Near is within 0.1; a mean that varies by less than 0.01 does not vary.
    """
    mean = np.asarray(evidence.array(result, "code_mean"), dtype=float)
    variance = np.square(np.asarray(evidence.array(result, "code_std"), dtype=float)).mean(axis=0)
    still = mean.var(axis=0, ddof=1) < ACTIVE
    central = np.abs(mean.mean(axis=0)) < 0.1
    return float((still & central & (np.abs(variance - 1.0) < 0.1)).sum())


def _offset_only(result: Result) -> float:
    """Dimensions whose mean is away from 0, by at least 0.1, and does not vary."""
    mean = np.asarray(evidence.array(result, "code_mean"), dtype=float)
    still = mean.var(axis=0, ddof=1) < ACTIVE
    return float((still & (np.abs(mean.mean(axis=0)) >= 0.1)).sum())


def shape_table(shown: Shown) -> pd.DataFrame:
    """Dimensions at the prior, dimensions that only have an offset, and active ones.

    Figure 1 is of models with a target C; beta-VAEs stand beside them, as the paper's words on
    inactive dimensions are not about the target.
    """
    columns = (Column("at (0, 1)", "at_prior", 1), Column("offset only", "offset_only", 1), *BASE)
    measures = {"at_prior": at_prior, "offset_only": _offset_only}
    wanted = of_kind("target-kl", "beta-vae")
    rows = []
    for origin, recipe, runs in ((o, r, runs) for o, g in shown.items() for r, runs in g.items()):
        data = frame({m: runs[m] for m in runs if wanted(m)}, MEASURES | measures)
        for method, own in data.groupby("method", sort=False):
            name = f"{NAMES[recipe]}, {called(str(method))}"
            size = str(runs[str(method)][0].arrays["code_mean"].shape[1])
            own_cells = cells(own, columns)
            seeds = {"of": size, "seeds": own_cells.pop("seeds")}
            rows.append({"method": name, "from": origin.lower(), **own_cells, **seeds})
    return pd.DataFrame(rows)


@judges("igp-fig1")
def decide_shapes(group: Group) -> list[Check]:
    """Figure 1: DGP has dimensions at (0, 1).

    Section 1 says which models: the collapse is avoided with the target of Prokhorov et al.
    That IGP has no such dimension is a premise.  With one variance for all dimensions it follows
    from the definition, unless the model has collapsed.
    """
    checks = []
    for pair in pairs(limited(group, _SNLI), targets(scale_of(group))):
        name = f"{pair.name}: dimensions at (0, 1)"
        first, second = (map(at_prior, pair.runs[m]) for m in (pair.diagonal, pair.isotropic))
        own = [_every(f"{name}, IGP", second, 0.0, 0.0), above(f"{name}, DGP", first, 0.5)]
        checks += one_group(pair.name, own)
    return checks


# --- figure 2 and appendix A ----------------------------------------------------------------------

_COLUMNS = {
    column.metric: column
    for column in (
        *BASE,
        Column("Rec", "rec", printed="rec"),
        Column("KL", "kl", printed="kl"),
        Column("½‖E μ‖²", "offset"),
        Column("KL(q(z) ‖ p)", "aggregate"),
        Column("the rest", "rest"),
        Column("|mean KL − C|", "apart_mean"),
        Column("mean |KL − C|", "apart_each"),
        Column("log det Cov[q(z)]", "log_det", printed="log_det"),
        Column("BLEU-1", "bleu_1"),
        Column("BLEU-2", "bleu_2", printed="bleu_2"),
        Column("BLEU-4", "bleu_4", printed="bleu_4"),
        Column("ROUGE-2", "rouge_2", printed="rouge"),
        Column("ROUGE-4", "rouge_4", printed="rouge"),
    )
}


def _pick(*names: str) -> tuple[Column, ...]:
    return tuple(_COLUMNS[name] for name in names)


_LOSSES = _pick("rec", "kl", "mi", "au", "rank", "offset", "bleu_2")
_TEXT = _pick("mi", "au", "rank", "bleu_1", "bleu_2", "bleu_4", "rouge_2", "rouge_4")
_PAID = _pick("kl", "mi", "au", "rank", "aggregate", "offset", "rest")
_CHOICE = _pick("kl", "apart_mean", "apart_each", "mi", "au", "rank", "offset", "rec")
_WEIGHTED = _pick("rec", "kl", "mi", "au", "rank", "bleu_2", "bleu_4")
_LOG_DET, _OFFSET = _pick("log_det", "offset")
_MOMENTS = (_LOG_DET, _OFFSET._replace(printed="squared_mean"), *BASE, _COLUMNS["aggregate"])


# Figure 2 in numbers, one table a data set; and appendix A's likeness of reconstructions.
target_tables = partial(tables, wanted=_is_target, columns=_LOSSES, lost=benchmarks.ISOTROPIC)
full_tables = partial(tables, wanted=_is_target, columns=_TEXT, lost=benchmarks.ISOTROPIC)
# KL and its parts; moments of the aggregated posterior.
information_tables = partial(tables, wanted=of_kind("target-kl"), columns=_PAID)
moment_tables = partial(tables, wanted=of_kind("target-kl"), columns=_MOMENTS, lost=_LABELLED)


def surviving(shown: Shown) -> pd.DataFrame:
    """IGP less DGP at each target: AU beside the measures that a rotation does not change."""
    return apart_table(shown, targets, _pick("au", "rank", "mi", "rec", "bleu_2"))


_LAST = 3  # epochs: one alone is noisy


def climb_table(shown: Shown) -> pd.DataFrame:
    """What changes from the lowest C to the highest, and how far training was from its end.

    The last column is the change of the validation loss in the last epochs at the highest C.
    """
    rows = []
    for origin, climb in ((origin, climb) for origin, g in shown.items() for climb in _climbs(g)):
        own = row(_pick("rec", "mi", "au", "rank"), climb.change)
        losses = [r.history["valid_loss"].to_numpy(dtype=float) for r in climb.runs[climb.high]]
        steps = [float(loss[-1] - loss[-1 - _LAST]) for loss in losses if len(loss) > _LAST]
        name = {"from lowest to highest C": climb.name, "from": origin.lower()}
        end = {f"loss, last {_LAST} epochs": spread(steps, 2), "seeds": own.pop("seeds")}
        rows.append({**name, **own, **end})
    return pd.DataFrame(rows)


class _Climb(NamedTuple):
    """A posterior at the lowest and at the highest target."""

    name: str
    runs: Runs
    data: pd.DataFrame
    low: str
    high: str

    def change(self, measure: str) -> pd.Series:
        """Highest target less lowest of a measure, seed by seed."""
        return differences(self.data, self.high, self.low, measure)


def _climbs(group: Group) -> list[_Climb]:
    """Every posterior that has the lowest and the highest target, same seeds."""
    compared = benchmarks.isotropic(scale_of(group))
    every = [
        _Climb(f"{NAMES[recipe]}, {name}", runs, data_of(only(runs, (low, high))), low, high)
        for recipe, runs in group.items()
        for name, low, high in zip(("DGP", "IGP"), compared.low, compared.high, strict=True)
    ]
    return [climb for climb in every if len(climb.change("rec"))]


def _better(pair: Pair) -> list[Check]:
    """What the paper says of IGP against DGP, and beside it the rank, which no rotation changes."""
    return [
        below(f"{pair.name}: Rec, IGP less DGP", pair.less("rec"), 0.0),
        above(f"{pair.name}: AU, IGP less DGP", pair.less("au"), 0.0),
        above(f"{pair.name}: BLEU-2, IGP less DGP", pair.less("bleu_2"), 0.0),
        side(above(f"{pair.name}: rank, IGP less DGP", pair.less("rank"), 0.0)),
    ]


@judges("igp-fig2")
def decide_targets(group: Group) -> list[Check]:
    """Figure 2: at every C lower Rec, higher AU and BLEU-2; Rec falls as C grows.

    That the KL is within 5 % of C is a premise: the objective enforces it.
    """
    checks = []
    for pair in pairs(group, targets(scale_of(group))):
        kls = []
        for name, method in (("DGP", pair.diagonal), ("IGP", pair.isotropic)):
            target, kl = methods.parameters(method)["c"], values(pair.data, method, "kl")
            kls.append(_every(f"{pair.name}: KL of {name}", kl, 0.95 * target, 1.05 * target))
        checks += one_group(pair.name, [*kls, *_better(pair)])
    for climb in _climbs(group) if checks else []:
        low, high = (methods.parameters(method)["c"] for method in (climb.low, climb.high))
        quantity = f"{climb.name}: Rec, C = {high:g} less C = {low:g}"
        checks.append(side(below(quantity, climb.change("rec"), 0.0)))
    return checks


@judges("igp-appA")
def decide_full(group: Group) -> list[Check]:
    """Appendix A: BLEU-4, ROUGE-2 and ROUGE-4 are higher for IGP at every C."""
    measures = {"BLEU-4": "bleu_4", "ROUGE-2": "rouge_2", "ROUGE-4": "rouge_4"}
    return [
        above(f"{pair.name}: {name}, IGP less DGP", pair.less(measure), 0.0)
        for pair in pairs(group, targets(scale_of(group)))
        for name, measure in measures.items()
    ]


# --- what the KL is paid for ----------------------------------------------------------------------


def _reached(result: Result) -> float | None:
    """MI over what it can be at most: the KL, and the logarithm of the number of texts in q(z)."""
    names = ("kl", "mutual_information", "mutual_information_points")
    known = [float(value) for name in names if (value := result.metrics.get(name)) is not None]
    most = min(known[0], math.log(known[2])) if len(known) == 3 else 0.0
    return known[1] / most if most > 0 else None


@judges(
    "",
    "with a target C, MI is more than half of what it can be at most: the smaller of the KL and "
    "log N for N test texts",
)
def decide_information(group: Group) -> list[Check]:
    """Whether a KL that reaches C comes from information: more than half of what MI can be.

    The aggregated posterior is that of N test texts, so no MI exceeds log N.
    """
    checks = []
    for recipe, runs in group.items():
        data = frame({m: runs[m] for m in runs if of_kind("target-kl")(m)}, {"reached": _reached})
        for method in data["method"].unique():
            if len(shares := values(data, method, "reached")):
                quantity = f"{NAMES[recipe]}, {called(method)}: MI over min(KL, log N)"
                checks.append(above(quantity, shares, 0.5))
    return checks


@judges(
    "", "from narrow first weights, less than a tenth of a KL that has come to C is information"
)
def decide_narrow(group: Group) -> list[Check]:
    """Whether narrow first weights lead to a KL of C that holds next to no information.

    That the KL is within a tenth of C is a premise: the objective enforces it.
    """
    checks = []
    for recipe, runs in group.items():
        data = data_of(runs)
        for method in runs:
            target, name = methods.parameters(method)["c"], f"{NAMES[recipe]}, {called(method)}"
            kl, share = (values(data, method, measure) for measure in ("kl", "share"))
            if len(kl) and len(share):
                checks.append(_every(f"{name}: KL", kl, 0.9 * target, 1.1 * target))
                checks.append(below(f"{name}: MI over KL", share, 0.1))
    return checks


# --- the target of the mean, and of every sentence ------------------------------------------------


def sentence_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Both forms of the target at one C; data sets that have but one form are left out."""
    forms, each = of_kind("target-kl", "target-kl-sentence"), of_kind("target-kl-sentence")

    def both(recipe: str) -> pd.DataFrame:
        names = {m for group in shown.values() for m in group.get(recipe, {})}
        levels = {methods.parameters(m)["c"] for m in names if each(m)}
        wanted = {m for m in names if forms(m) and methods.parameters(m)["c"] in levels}
        return table(shown, recipe, wanted.__contains__, _CHOICE)

    every = {name: both(recipe) for recipe, name in NAMES.items()}
    return {name: rows for name, rows in every.items() if len(rows)}


@judges(
    "",
    "it does not matter for MI (within half a nat), AU and rank (within half a dimension) whether "
    "the KL of every sentence or their mean is drawn to C",
)
def decide_choice(group: Group) -> list[Check]:
    """Whether the form of the distance changes what the codes hold."""
    checks = []
    compared = benchmarks.isotropic(scale_of(group))
    for recipe, runs in group.items():
        data = data_of(only(runs, (*compared.sentence, *compared.high)))
        for each, mean in zip(compared.sentence, compared.high, strict=True):
            for name, measure in (("MI", "mi"), ("AU", "au"), ("rank", "rank")):
                quantity = f"{NAMES[recipe]}, {called(mean)}: {name}, a sentence less the mean"
                if len(differences(data, each, mean, "kl")):
                    apart = differences(data, each, mean, measure)
                    checks.append(between(quantity, apart, -0.5, 0.5))
    return checks


# --- table 2: beta-VAE ----------------------------------------------------------------------------


def _printed_rows(
    name: str, columns: Sequence[Column], label: Callable[[pd.Series], str]
) -> list[dict[str, str]]:
    """Rows of a printed table in the form of :func:`isotropic.table`."""
    heads = [column for column in columns if column.printed]
    return [
        {"method": label(row), **{c.title: number(float(row[c.printed]), c.digits) for c in heads}}
        for _, row in printed("igp", name).iterrows()
    ]


def weight_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Table 2, with the printed rows in their order; the values of beta are lost."""
    recipe = benchmarks.SNLI
    first = _printed_rows(
        "table2", _WEIGHTED, lambda row: f"{row['lost_parameter']} (lost), {row['posterior']}"
    )
    return {NAMES[recipe]: table(shown, recipe, of_kind("beta-vae"), _WEIGHTED, first)}


@judges("igp-tab2")
def decide_weights(group: Group) -> list[Check]:
    """Table 2: IGP activates more dimensions at every beta; the rank is a side check."""
    weights = benchmarks.isotropic(scale_of(group)).weights.values()
    return [
        check
        for pair in pairs(group, [twins.diagonal for twins in weights])
        for check in (
            above(f"{pair.name}: AU, IGP less DGP", pair.less("au"), 0.0),
            side(above(f"{pair.name}: rank, IGP less DGP", pair.less("rank"), 0.0)),
        )
    ]


# --- table 7: IGP as initialiser ------------------------------------------------------------------


def start_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Table 7, with the printed rows."""
    recipe, low = benchmarks.SNLI, min(benchmarks.TARGETS)

    def wanted(method: str) -> bool:
        return of_kind("target-kl", "igp-start")(method) and methods.parameters(method)["c"] == low

    first = _printed_rows("table7", _WEIGHTED, lambda row: str(row["method"]))
    return {NAMES[recipe]: table(shown, recipe, wanted, _WEIGHTED, first)}


def base_table(shown: Shown) -> pd.DataFrame:
    """Validation at the epoch at which the initialiser's variances are untied, and at the end."""
    columns = (
        Column("loss", "valid_loss"),
        Column("KL", "valid_kl"),
        Column("MI", "valid_mutual_information"),
        Column("AU", "valid_active_units", 1),
    )
    rows = []
    for origin, group in shown.items():
        started = [r for runs in group.values() for m, r in runs.items() if of_kind("igp-start")(m)]
        for results in started:
            after = int(methods.parameters(results[0].spec.method)["epochs"])
            for moment, place in ((f"base, after epoch {after}", after - 1), ("the end", -1)):
                lines = [r.history.iloc[place] for r in results if len(r.history) >= after]
                ends = pd.DataFrame(lines, columns=[c.metric for c in columns], dtype=float)
                own = row(columns, ends.__getitem__)
                rows.append({"moment": moment, "from": origin.lower(), **own})
    return pd.DataFrame(rows)


@judges("igp-tab7")
def decide_start(group: Group) -> list[Check]:
    """Table 7: lower Rec and higher BLEU-2 than DGP at the same KL; fewer units than IGP, aside.

    The same KL, within a quarter of a nat, is a premise: the objective enforces it.
    """
    compared = benchmarks.isotropic(scale_of(group))
    start, (diagonal, isotropic) = compared.start, compared.low
    checks = []
    for recipe, runs in limited(group, _SNLI).items():
        data = data_of(only(runs, (start, diagonal, isotropic)))
        kl, rec, bleu = (differences(data, start, diagonal, n) for n in ("kl", "rec", "bleu_2"))
        units = differences(data, start, isotropic, "au")
        name = f"{NAMES[recipe]}, started with IGP less"
        if len(rec) and len(units):
            checks += [
                _every(f"{name} DGP: KL", kl, -0.25, 0.25),
                below(f"{name} DGP: Rec", rec, 0.0),
                above(f"{name} DGP: BLEU-2", bleu, 0.0),
                side(below(f"{name} IGP: AU", units, 0.0)),
            ]
    return checks


# --- table 8: the aggregated posterior ------------------------------------------------------------


@judges("igp-tab8")
def decide_moments(group: Group) -> list[Check]:
    """Table 8: a lower log determinant for IGP, and a squared mean within half a nat."""
    checks = []
    for pair in pairs(limited(group, _LABELLED), targets(scale_of(group))):
        offset, log_det = pair.less("offset"), pair.less("log_det")
        if len(offset) and len(log_det):
            name = f"{pair.name}, IGP less DGP"
            checks.append(below(f"{name}: log det Cov[q(z)]", log_det, 0.0))
            checks.append(between(f"{name}: half the squared mean", offset, -0.5, 0.5))
    return checks


# --- appendix C: priors ---------------------------------------------------------------------------


def prior_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Three priors at one target, SNLI."""
    recipe, high = benchmarks.SNLI, max(benchmarks.TARGETS)

    def wanted(method: str) -> bool:
        mixture = of_kind("mog", "moig")(method)
        plain = of_kind("target-kl")(method)
        return (mixture or plain) and methods.parameters(method)["c"] == high

    columns = _pick("rec", "kl", "mi", "au", "rank", "bleu_2")
    first = [{"method": "every row", **{c.title: "lost" for c in columns if c.printed}}]
    return {NAMES[recipe]: table(shown, recipe, wanted, columns, first)}


@judges("igp-appC")
def decide_priors(group: Group) -> list[Check]:
    """Appendix C: IGP beats DGP under each mixture, and MoIG suits IGP better than MoG.

    That a mixture degrades both posteriors is a side check.
    IGP against DGP under N(0, I) is figure 2's question and is not asked again here.
    """
    compared = benchmarks.isotropic(scale_of(group))
    mixtures = [twins.diagonal for twins in compared.priors.values()]
    mixed = list(pairs(limited(group, _SNLI), mixtures))
    checks = [check for pair in mixed for check in _better(pair)]
    for pair in mixed:
        for kind, one, plain in (
            ("DGP", pair.diagonal, compared.high.diagonal),
            ("IGP", pair.isotropic, compared.high.isotropic),
        ):
            name = f"{pair.name}, {kind}, less N(0, I)"
            checks += map(side, _apart(pair, name, one, plain, above))
    general, tied = compared.priors["mog"].isotropic, compared.priors["moig"].isotropic
    for pair in mixed[:1]:
        name = f"{pair.name.partition(',')[0]}, IGP"
        checks += _apart(pair, name, tied, general, below, ", MoIG less MoG")
    return checks


def _apart(
    pair: Pair, name: str, first: str, second: str, rec: Callable[..., Check], end: str = ""
) -> list[Check]:
    """Rec and BLEU-2 of two methods with the same seeds: BLEU-2 moves as Rec does not."""
    bleu = below if rec is above else above
    rules = (("Rec", "rec", rec), ("BLEU-2", "bleu_2", bleu))
    less = {measure: differences(pair.data, first, second, measure) for _, measure, _ in rules}
    known = len(less["rec"])
    return [rule(f"{name}: {n}{end}", less[m], 0.0) for n, m, rule in rules if known]


RULES: dict[str, Rule] = {
    "igp-fig1": decide_shapes,
    "igp-fig2": decide_targets,
    "igp-appA": decide_full,
    "igp-tab2": decide_weights,
    "igp-tab7": decide_start,
    "igp-tab8": decide_moments,
    "igp-appC": decide_priors,
}


def own_answers(
    shown: Shown, narrow: Shown, conditions: Mapping[str, Mapping[str, Premise]]
) -> list[Finding]:
    """This page's own questions, for every group that has what they need.

    The one on narrow first weights stands under no premise: that they break it is what it asks.
    """
    answers = [
        stands(rule, group, conditions[origin])
        for origin, group in shown.items()
        for rule in (decide_information, decide_choice)
    ]
    answers += [decide_narrow(group) for group in narrow.values()]
    return [one for one in answers if one is not None]
