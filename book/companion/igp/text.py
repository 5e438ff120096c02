"""What the page on tied variances and text asks: IGP's figures 1 and 2, tables 1, 2, 7 and 8, A, C.

The bounds in the rules are this project's reading of the paper's words.  Nearly all numbers of
these tables are lost from our text, so most rules ask for signs of differences between DGP and
IGP, seed by seed.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from companion.claims import groups as benchmarks
from companion.claims.premises import Premise
from companion.claims.printed import lost, printed
from companion.claims.reference import Result
from companion.claims.verdicts import (
    Check,
    Finding,
    above,
    answer,
    below,
    between,
    decide,
    missing,
    premise,
    side,
    stated,
)
from companion.igp.shared import (
    BASE,
    NAMES,
    Column,
    Found,
    Group,
    Pair,
    Shown,
    called,
    differences,
    kept_array,
    limited,
    one_group,
    paired,
    pairs,
    scale_of,
    stands,
    table,
    tables,
    values,
)
from companion.numbers import number, spread
from companion.show.figures import COLOURS
from posterior_collapse import datasets, methods, recipes

__all__ = [
    "RULES",
    "at_prior",
    "base_table",
    "ceilings",
    "climb_table",
    "data_table",
    "decide_choice",
    "decide_full",
    "decide_information",
    "decide_moments",
    "decide_narrow",
    "decide_priors",
    "decide_shapes",
    "decide_start",
    "decide_statistics",
    "decide_targets",
    "decide_weights",
    "frames",
    "full_tables",
    "information_tables",
    "kl_figure",
    "lost_table",
    "moment_tables",
    "own_answers",
    "prior_tables",
    "sentence_tables",
    "shape_figure",
    "shape_table",
    "start_tables",
    "surviving",
    "target_tables",
    "weight_tables",
]

_SNLI, _LABELLED = benchmarks.ISOTROPIC[:1], benchmarks.ISOTROPIC[1:]
_ACTIVE = 0.01


def _is(*kinds: str) -> Callable[[str], bool]:
    """Whether a method's parts, the posterior aside, are some kinds."""

    def found(method: str) -> bool:
        parts = {part.partition("(")[0] for part in method.split("+")}
        return bool(parts & set(kinds)) and not parts & ({"mog", "moig", "igp-start"} - set(kinds))

    return found


def _is_target(method: str) -> bool:
    return method == "ae" or _is("target-kl")(method)


def _targets(scale: str) -> Sequence[str]:
    return benchmarks.isotropic(scale).targets[::2]


# --- data -----------------------------------------------------------------------------------------

_PAPERS = {"CBT": "", "DBpedia": "dbpedia", "Yahoo Question": "yahoo-question", "SNLI": "snli"}


def _sized(counts: Sequence[Any]) -> str:
    return " / ".join(f"{int(count):,}" for count in counts)


def data_table() -> pd.DataFrame:
    """Table 1: sentences, words and classes, printed and here.

    Words and classes are counted in the files where the data folder has them.
    """
    rows = []
    for _, row in printed("igp", "table1").iterrows():
        title, name = str(row["dataset"]), _PAPERS[str(row["dataset"])]
        cells = {"train / dev / test, printed": _sized([row["train"], row["dev"], row["test"]])}
        cells |= {"words, printed": f"{int(row['vocabulary']):,}"}
        cells |= {"classes, printed": number(float(row["classes"]), 0)}
        rows.append({"data": title, **cells, **_counted(name)})
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
    for _, row in sizes.iterrows():
        title, name = str(row["dataset"]), _PAPERS[str(row["dataset"])]
        held = int(row["dev"] + row["test"])
        if not name or not datasets.available(name):
            why = "no copy of this corpus" if not name else "no data folder"
            absent = missing(f"{title}: sentences", f"{held:,} for dev and test")
            checks.append(replace(absent, found=why))
            continue
        data = datasets.load(name)
        read = data.card.counts["sentences read"]
        told = f"{title}: sentences in the files for dev and test"
        checks.append(stated(told, f"{held:,}", read == held, f"{read:,}"))
        if not pd.isna(row["classes"]):
            wanted = int(row["classes"])
            found = 0 if data.train.labels is None else len(data.train.labels.unique())
            checks.append(stated(f"{title}: classes", str(wanted), found == wanted, str(found)))
    rule = f"{_sized(list(sizes['train']))} sentences"
    checks.append(replace(missing("training files", rule), found="could not be had"))
    return decide("igp-tab1", "exact", checks)


def _every(quantity: str, values: Sequence[float], low: float, high: float) -> Check:
    """A premise about the runs that are compared: each of them lies in [low, high].

    It is about these runs and not about a mean over all seeds, so it needs no interval, and data
    with one seed do not block a verdict on data with three.
    """
    holds = all(low <= value <= high for value in values)
    rule = f"each run between {low:g} and {high:g}" if low < high else f"each run {low:g}"
    found = ", ".join(number(value) for value in values)
    return premise(stated(quantity, rule, holds, found))


def lost_table() -> pd.DataFrame:
    """What our text of the paper no longer has, by item."""
    gone = lost()
    gone |= {
        "igp-fig1": "a picture: no numbers",
        "igp-fig2": "a picture: no numbers; its full table is igp-appA",
        "igp-tab2": "the three values of beta",
        "igp-tab7": "the value of C; the text gives 5 for the base",
    }
    rows = [{"item": item, "what is lost": told} for item, told in gone.items()]
    here = ("fig1", "fig2", "appA", "tab2", "tab7", "tab8", "appC")
    order = [f"igp-{name}" for name in here]
    return pd.DataFrame([row for name in order for row in rows if row["item"] == name])


# --- figure 1: means and variances ----------------------------------------------------------------


def at_prior(result: Result) -> float:
    """Dimensions whose posterior is the prior's: means near 0 that do not vary, variances near 1.

    Near is within 0.1; a mean that varies by less than 0.01 does not vary.
    """
    mean = np.asarray(kept_array(result, "code_mean"), dtype=float)
    variance = np.square(np.asarray(kept_array(result, "code_std"), dtype=float)).mean(axis=0)
    still = mean.var(axis=0, ddof=1) < _ACTIVE
    central = np.abs(mean.mean(axis=0)) < 0.1
    return float((still & central & (np.abs(variance - 1.0) < 0.1)).sum())


def _offset_only(result: Result) -> float:
    """Dimensions whose mean is away from 0, by at least 0.1, and does not vary."""
    mean = np.asarray(kept_array(result, "code_mean"), dtype=float)
    still = mean.var(axis=0, ddof=1) < _ACTIVE
    return float((still & (np.abs(mean.mean(axis=0)) >= 0.1)).sum())


def _largest(found: Found, scale: str) -> tuple[str, str] | None:
    """DGP and IGP at the largest target that has both."""
    names = benchmarks.isotropic(scale).targets
    for first, second in reversed(list(zip(names[::2], names[1::2], strict=True))):
        if found.get(first) and found.get(second):
            return first, second
    return None


def _shown(group: Group, wanted: Sequence[str] = _SNLI) -> tuple[str, Found, str, str] | None:
    """A recipe, its results, and the two methods of its figure."""
    for recipe, found in limited(group, wanted).items():
        if both := _largest(found, scale_of(group)):
            return recipe, found, *both
    return None


def shape_figure(group: Group) -> Figure | None:
    """Posterior means and variances, dimension by dimension, DGP beside IGP; first seed."""
    chosen = _shown(group)
    if chosen is None:
        return None
    recipe, found, *both = chosen
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, method in enumerate(both):
        mean = np.asarray(kept_array(found[method][0], "code_mean"), dtype=float)
        variance = np.square(np.asarray(kept_array(found[method][0], "code_std"), dtype=float))
        colour = COLOURS["vae"] if column == 0 else COLOURS["lagging"]
        order = np.argsort(-mean.var(axis=0))
        _boxes(grid[0, column], mean[:, order], colour, 0.0)
        _boxes(grid[1, column], variance[:, order], colour, 1.0)
        grid[0, column].set_title(f"{NAMES[recipe]}: {called(method)}", fontsize=9)
        grid[1, column].set_xlabel("dimension, in order of the variance of its mean", fontsize=8)
    grid[0, 0].set_ylabel("posterior mean", fontsize=9)
    grid[1, 0].set_ylabel("posterior variance", fontsize=9)
    return figure


def _boxes(axes: Axes, sample: NDArray[np.float64], colour: str, guide: float) -> None:
    """A box for every column, from the 5th to the 95th percentile; a line where the prior is."""
    axes.boxplot(
        sample,
        whis=(5, 95),
        showfliers=False,
        widths=0.7,
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.5, "linewidth": 0.6},
        medianprops={"color": "black", "linewidth": 1.0},
        whiskerprops={"linewidth": 0.6},
        capprops={"linewidth": 0.6},
    )
    axes.axhline(guide, linestyle=":", color=COLOURS["guide"], linewidth=1.0)
    axes.set_xticks([1, sample.shape[1]], ["1", str(sample.shape[1])])
    axes.tick_params(labelsize=8)


def shape_table(shown: Shown) -> pd.DataFrame:
    """Dimensions at the prior, dimensions that only have an offset, and active ones.

    Figure 1 is of models with a target C; beta-VAEs stand beside them, as the paper's words on
    inactive dimensions are not about the target.
    """
    rows = []
    for origin, group in shown.items():
        for recipe, found in group.items():
            for method, group_rows in found.items():
                if not _is("target-kl", "beta-vae")(method):
                    continue
                rows.append(
                    {
                        "method": f"{NAMES[recipe]}, {called(method)}",
                        "from": origin.lower(),
                        "at (0, 1)": spread([at_prior(r) for r in group_rows], 1),
                        "offset only": spread([_offset_only(r) for r in group_rows], 1),
                        **{c.title: spread(values(group_rows, c.measure), c.digits) for c in BASE},
                        "of": str(group_rows[0].arrays["code_mean"].shape[1]),
                        "seeds": str(len(group_rows)),
                    }
                )
    return pd.DataFrame(rows)


def decide_shapes(group: Group) -> Finding | None:
    """Figure 1: DGP has dimensions at (0, 1); None without a pair of DGP and IGP.

    Section 1 says which models: the collapse is avoided with the target of Prokhorov et al.
    That IGP has no such dimension is a premise.  With one variance for all dimensions it follows
    from the definition, unless the model has collapsed.
    """
    checks = []
    for pair in pairs(limited(group, _SNLI), _targets(scale_of(group))):
        told = f"{pair.told}: dimensions at (0, 1)"
        first = [at_prior(result) for result in pair.found[pair.diagonal]]
        second = [at_prior(result) for result in pair.found[pair.isotropic]]
        made = [_every(f"{told}, IGP", second, 0.0, 0.0), above(f"{told}, DGP", first, 0.5)]
        checks += one_group(pair.told, made)
    return decide("igp-fig1", scale_of(group), checks) if checks else None


# --- figure 2 and appendix A ----------------------------------------------------------------------

_LOSSES = (
    Column("Rec", "rec", 2, "rec"),
    Column("KL", "kl", 2, "kl"),
    *BASE,
    Column("½‖E μ‖²", "offset", 2),
    Column("BLEU-2", "bleu_2", 2, "bleu_2"),
)
_TEXT = (
    *BASE,
    Column("BLEU-1", "bleu_1", 2),
    Column("BLEU-2", "bleu_2", 2, "bleu_2"),
    Column("BLEU-4", "bleu_4", 2, "bleu_4"),
    Column("ROUGE-2", "rouge_2", 2, "rouge"),
    Column("ROUGE-4", "rouge_4", 2, "rouge"),
)


def target_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Figure 2 in numbers, one table a data set."""
    return tables(shown, _is_target, _LOSSES, benchmarks.ISOTROPIC)


def full_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Appendix A's likeness of reconstructions, one table a data set."""
    return tables(shown, _is_target, _TEXT, benchmarks.ISOTROPIC)


def surviving(shown: Shown) -> pd.DataFrame:
    """IGP less DGP at each target: AU beside the measures that a rotation does not change."""
    columns = (
        Column("AU", "au", 1),
        Column("rank", "rank", 1),
        Column("MI", "mi", 2),
        Column("Rec", "rec", 2),
        Column("BLEU-2", "bleu_2", 2),
    )
    return differences(shown, _targets, columns)


def climb_table(shown: Shown) -> pd.DataFrame:
    """What changes from the lowest C to the highest, and how far training was from its end.

    The last column is the change of the validation loss in the last epochs at the highest C.
    """
    rows = []
    for origin, group in shown.items():
        for told, found, low, high in _climbs(group):
            rows.append(
                {
                    "from lowest to highest C": told,
                    "from": origin.lower(),
                    "Rec": spread(paired(found, high, low, "rec"), 2),
                    "MI": spread(paired(found, high, low, "mi"), 2),
                    "AU": spread(paired(found, high, low, "au"), 1),
                    "rank": spread(paired(found, high, low, "rank"), 1),
                    f"loss, last {_LAST} epochs": spread(_last_steps(found[high]), 2),
                    "seeds": str(len(paired(found, high, low, "rec"))),
                }
            )
    return pd.DataFrame(rows)


def _climbs(group: Group) -> list[tuple[str, Found, str, str]]:
    """Name, results, lowest and highest target of every posterior that has both, same seeds."""
    names = benchmarks.isotropic(scale_of(group)).targets
    return [
        (f"{NAMES[recipe]}, {'IGP' if 'igp' in high else 'DGP'}", found, low, high)
        for recipe, found in group.items()
        for low, high in zip(names[:2], names[-2:], strict=True)
        if paired(found, high, low, "rec")
    ]


_LAST = 3  # epochs: one alone is noisy


def _last_steps(results: Sequence[Result]) -> list[float]:
    """Change of the validation loss in the last epochs, nats, one a seed."""
    losses = [result.history["valid_loss"].to_numpy(dtype=float) for result in results]
    return [float(loss[-1] - loss[-1 - _LAST]) for loss in losses if len(loss) > _LAST]


def _better(pair: Pair) -> list[Check]:
    """What the paper says of IGP against DGP, and beside it the rank, which no rotation changes."""
    return [
        below(f"{pair.told}: Rec, IGP less DGP", pair.less("rec"), 0.0),
        above(f"{pair.told}: AU, IGP less DGP", pair.less("au"), 0.0),
        above(f"{pair.told}: BLEU-2, IGP less DGP", pair.less("bleu_2"), 0.0),
        side(above(f"{pair.told}: rank, IGP less DGP", pair.less("rank"), 0.0)),
    ]


def decide_targets(group: Group) -> Finding | None:
    """Figure 2: at every C lower Rec, higher AU and BLEU-2; Rec falls as C grows.

    That the KL is within 5 % of C is a premise: the objective enforces it.
    """
    checks = []
    for pair in pairs(group, _targets(scale_of(group))):
        made = []
        for method in (pair.diagonal, pair.isotropic):
            target = methods.parameters(method)["c"]
            kl = values(pair.found[method], "kl")
            told = f"{pair.told}: KL of {'IGP' if 'igp' in method else 'DGP'}"
            made.append(_every(told, kl, 0.95 * target, 1.05 * target))
        checks += one_group(pair.told, [*made, *_better(pair)])
    if not checks:
        return None
    for told, found, low, high in _climbs(group):
        first, last = (f"C = {methods.parameters(method)['c']:g}" for method in (low, high))
        apart = paired(found, high, low, "rec")
        checks.append(side(below(f"{told}: Rec, {last} less {first}", apart, 0.0)))
    return decide("igp-fig2", scale_of(group), checks)


def decide_full(group: Group) -> Finding | None:
    """Appendix A: BLEU-4, ROUGE-2 and ROUGE-4 are higher for IGP at every C."""
    checks = []
    for pair in pairs(group, _targets(scale_of(group))):
        for name, measure in (("BLEU-4", "bleu_4"), ("ROUGE-2", "rouge_2"), ("ROUGE-4", "rouge_4")):
            checks.append(above(f"{pair.told}: {name}, IGP less DGP", pair.less(measure), 0.0))
    return decide("igp-appA", scale_of(group), checks) if checks else None


# --- what the KL is paid for ----------------------------------------------------------------------

_PAID = (
    Column("KL", "kl", 2),
    *BASE,
    Column("KL(q(z) ‖ p)", "aggregate", 2),
    Column("½‖E μ‖²", "offset", 2),
    Column("the rest", "rest", 2),
)
_KINDS = (
    # measure, name, colour, hatch
    ("mi", "mutual information", COLOURS["mi"], ""),
    ("offset", "offset ½‖E μ‖²", COLOURS["accent"], "//"),
    ("rest", "rest of KL(q(z) ‖ p)", COLOURS["sky"], ".."),
)


def information_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """KL and its parts, one table a data set."""
    return tables(shown, _is("target-kl"), _PAID)


def kl_figure(group: Group) -> Figure:
    """KL as a sum of three parts, one bar a method; averages over seeds."""
    bars = [
        (f"{NAMES[recipe]}, {called(method)}", rows)
        for recipe, found in group.items()
        for method, rows in found.items()
        if _is("target-kl")(method) and values(rows, "rest")
    ]
    figure = Figure(figsize=(7.2, 1.2 + 0.36 * len(bars)), layout="constrained")
    axes = figure.subplots()
    names = [name for name, _ in bars]
    left = np.zeros(len(bars))
    for measure, told, colour, hatch in _KINDS:
        widths = np.array([np.mean(values(rows, measure)) for _, rows in bars])
        axes.barh(
            names, widths, left=left, label=told, color=colour, hatch=hatch, edgecolor="black"
        )
        left = left + widths
    axes.invert_yaxis()
    axes.set_xlabel("nats per sentence")
    axes.tick_params(labelsize=8)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def ceilings(group: Group) -> str:
    """The largest MI that each data set's test texts allow, in words."""
    told = {}
    for recipe, found in group.items():
        points = {
            int(count)
            for rows in found.values()
            for result in rows
            if (count := result.metrics.get("mutual_information_points")) is not None
        }
        if points:
            told[NAMES[recipe]] = " or ".join(
                f"log {count:,} = {number(math.log(count), 2)}" for count in sorted(points)
            )
    return "; ".join(f"{name}: {text}" for name, text in told.items())


def _reached(result: Result) -> float | None:
    """MI over what it can be at most: the KL, and the logarithm of the number of texts in q(z)."""
    kl, mi, points = (
        result.metrics.get(name)
        for name in ("kl", "mutual_information", "mutual_information_points")
    )
    if kl is None or mi is None or points is None:
        return None
    most = min(float(kl), math.log(points))
    return float(mi) / most if most > 0 else None


def decide_information(group: Group) -> Finding | None:
    """Whether a KL that reaches C comes from information: more than half of what MI can be.

    The aggregated posterior is that of N test texts, so no MI exceeds log N.
    """
    checks = []
    for recipe, found in group.items():
        for method, rows in found.items():
            shares = [share for one in rows if (share := _reached(one)) is not None]
            if _is("target-kl")(method) and shares:
                told = f"{NAMES[recipe]}, {called(method)}: MI over min(KL, log N)"
                checks.append(above(told, shares, 0.5))
    claim = (
        "with a target C, MI is more than half of what it can be at most: the smaller of the KL "
        "and log N for N test texts"
    )
    return answer(claim, scale_of(group), checks) if checks else None


def decide_narrow(group: Group) -> Finding | None:
    """Whether narrow first weights lead to a KL of C that holds next to no information.

    That the KL is within a tenth of C is a premise: the objective enforces it.
    """
    checks = []
    for recipe, found in group.items():
        for method, rows in found.items():
            target, told = methods.parameters(method)["c"], f"{NAMES[recipe]}, {called(method)}"
            kl, share = values(rows, "kl"), values(rows, "share")
            if kl and share:
                checks.append(_every(f"{told}: KL", kl, 0.9 * target, 1.1 * target))
                checks.append(below(f"{told}: MI over KL", share, 0.1))
    claim = "from narrow first weights, less than a tenth of a KL that has come to C is information"
    return answer(claim, scale_of(group), checks) if checks else None


# --- the target of the mean, and of every sentence ------------------------------------------------

_CHOICE = (
    Column("KL", "kl", 2),
    Column("|mean KL − C|", "apart_mean", 2),
    Column("mean |KL − C|", "apart_each", 2),
    *BASE,
    Column("½‖E μ‖²", "offset", 2),
    Column("Rec", "rec", 2),
)


def sentence_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Both forms of the target at one C; data sets that have but one form are left out."""
    both = _is("target-kl", "target-kl-sentence")
    made = {}
    for recipe, told in NAMES.items():
        names = {m for group in shown.values() for m in group.get(recipe, {})}
        asked = {methods.parameters(m)["c"] for m in names if _is("target-kl-sentence")(m)}
        rows = table(
            shown,
            recipe,
            lambda m, asked=asked: both(m) and methods.parameters(m)["c"] in asked,  # type: ignore[misc]
            _CHOICE,
        )
        if len(rows):
            made[told] = rows
    return made


def decide_choice(group: Group) -> Finding | None:
    """Whether the form of the distance changes what the codes hold."""
    checks = []
    asked = benchmarks.isotropic(scale_of(group))
    for recipe, found in group.items():
        for each, mean in zip(asked.sentences, asked.targets[-2:], strict=True):
            if not paired(found, each, mean, "kl"):
                continue
            for name, measure, bound in (
                ("MI", "mi", 0.5),
                ("AU", "au", 0.5),
                ("rank", "rank", 0.5),
            ):
                told = f"{NAMES[recipe]}, {called(mean)}: {name}, a sentence less the mean"
                checks.append(between(told, paired(found, each, mean, measure), -bound, bound))
    claim = (
        "it does not matter for MI (within half a nat), AU and rank (within half a dimension) "
        "whether the KL of every sentence or their mean is drawn to C"
    )
    return answer(claim, scale_of(group), checks) if checks else None


# --- reconstructions ------------------------------------------------------------------------------


def frames(shown: Shown) -> tuple[list[Figure], list[str]]:
    """A frame for every data set and target: reconstructions, and variances of the means."""
    pictures, labels = [], []
    for origin, group in shown.items():
        for pair in pairs(group, _targets(scale_of(group))):
            rows = {
                "DGP": pair.found[pair.diagonal][0],
                "IGP": pair.found[pair.isotropic][0],
            }
            pictures.append(_frame(rows))
            labels.append(f"{pair.told} ({origin.lower()})")
    return pictures, labels


_WIDTH, _SENTENCES, _LINES = 84, 3, 2


def _frame(rows: Mapping[str, Result]) -> Figure:
    """Bars above, sentences below; every frame has the same size."""
    figure = Figure(figsize=(7.4, 5.4), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(1.0, 1.6))
    colours = (COLOURS["vae"], COLOURS["lagging"])
    for column, ((name, result), colour) in enumerate(zip(rows.items(), colours, strict=True)):
        _spectrum(figure.add_subplot(grid[0, column]), name, result, colour)
    _sentences(figure.add_subplot(grid[1, :]), rows)
    return figure


def _spectrum(axes: Axes, name: str, result: Result, colour: str) -> None:
    """Variance of the mean of every dimension, and eigenvalues of their covariance."""
    mean = np.asarray(kept_array(result, "code_mean"), dtype=float)
    each = np.sort(mean.var(axis=0, ddof=1))[::-1]
    turned = np.sort(np.linalg.eigvalsh(np.atleast_2d(np.cov(mean.T))))[::-1]
    places = np.arange(1, len(each) + 1)
    axes.bar(places, np.maximum(each, 1e-5), color=colour, alpha=0.6, label="variance of a mean")
    axes.plot(places, np.maximum(turned, 1e-5), "k.-", linewidth=0.8, label="eigenvalue")
    axes.axhline(_ACTIVE, linestyle=":", color=COLOURS["guide"])
    axes.set(yscale="log", ylim=(1e-5, 30.0), title=_counts(name, result))
    axes.title.set_fontsize(9)
    axes.set_xticks([1, len(each)])
    axes.set_xlabel("dimension or direction, in order", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6, loc="upper right")


def _counts(name: str, result: Result) -> str:
    metrics = result.metrics
    mi = float(metrics["mutual_information"])
    return f"{name}: AU {metrics['active_units']}, rank {metrics['active_rank']}, MI {mi:.2f} nats"


def _sentences(axes: Axes, rows: Mapping[str, Result]) -> None:
    """Some test sentences and what each model makes of them."""
    axes.set_axis_off()
    first = next(iter(rows.values()))
    lines = []
    for place, source in enumerate(kept_array(first, "text_source")[:_SENTENCES]):
        lines.append(_wrapped("text", str(source)))
        for name, result in rows.items():
            lines.append(_wrapped(name, str(kept_array(result, "text_reconstruction")[place])))
        lines.append("")
    told = "\n".join(lines)
    axes.text(0.0, 1.0, told, family="monospace", fontsize=7.5, va="top", transform=axes.transAxes)


def _wrapped(name: str, sentence: str) -> str:
    """One sentence in at most two lines."""
    found = textwrap.wrap(sentence.replace("$", r"\$"), _WIDTH)[:_LINES] or ["(no words)"]
    return "\n".join(f"{name if not n else '':>5}  {line}" for n, line in enumerate(found))


# --- table 2: beta-VAE ----------------------------------------------------------------------------

_WEIGHTED = (
    Column("Rec", "rec", 2, "rec"),
    Column("KL", "kl", 2, "kl"),
    *BASE,
    Column("BLEU-2", "bleu_2", 2, "bleu_2"),
    Column("BLEU-4", "bleu_4", 2, "bleu_4"),
)


def _printed_rows(
    name: str, columns: Sequence[Column], told: Callable[[pd.Series], str]
) -> list[dict[str, str]]:
    """Rows of a printed table in the form of :func:`isotropic.table`."""
    found = []
    for _, row in printed("igp", name).iterrows():
        cells = {c.title: number(float(row[c.printed]), c.digits) for c in columns if c.printed}
        found.append({"method": told(row), **cells})
    return found


def weight_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Table 2, with the printed rows in their order; the values of beta are lost."""
    recipe = _SNLI[0]
    first = _printed_rows(
        "table2", _WEIGHTED, lambda row: f"{row['lost_parameter']} (lost), {row['posterior']}"
    )
    return {NAMES[recipe]: table(shown, recipe, _is("beta-vae"), _WEIGHTED, first)}


def decide_weights(group: Group) -> Finding | None:
    """Table 2: IGP activates more dimensions at every beta; the rank is a side check."""
    checks = []
    for pair in pairs(group, benchmarks.isotropic(scale_of(group)).weights[::2]):
        checks += [
            above(f"{pair.told}: AU, IGP less DGP", pair.less("au"), 0.0),
            side(above(f"{pair.told}: rank, IGP less DGP", pair.less("rank"), 0.0)),
        ]
    return decide("igp-tab2", scale_of(group), checks) if checks else None


# --- table 7: IGP as initialiser ------------------------------------------------------------------


def start_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Table 7, with the printed rows."""
    recipe, low = _SNLI[0], benchmarks.TARGETS[0]

    def wanted(method: str) -> bool:
        return _is("target-kl", "igp-start")(method) and methods.parameters(method)["c"] == low

    first = _printed_rows("table7", _WEIGHTED, lambda row: str(row["method"]))
    return {NAMES[recipe]: table(shown, recipe, wanted, _WEIGHTED, first)}


def base_table(shown: Shown) -> pd.DataFrame:
    """Validation at the epoch at which the initialiser's variances are untied, and at the end."""
    rows = []
    for origin, group in shown.items():
        for found in group.values():
            for method, results in found.items():
                if not _is("igp-start")(method):
                    continue
                after = int(methods.parameters(method)["epochs"])
                for told, place in ((f"base, after epoch {after}", after - 1), ("the end", -1)):
                    lines = [r.history.iloc[place] for r in results if len(r.history) >= after]
                    rows.append(
                        {
                            "moment": told,
                            "from": origin.lower(),
                            "loss": spread([float(x["valid_loss"]) for x in lines], 2),
                            "KL": spread([float(x["valid_kl"]) for x in lines], 2),
                            "MI": spread([float(x["valid_mutual_information"]) for x in lines], 2),
                            "AU": spread([float(x["valid_active_units"]) for x in lines], 1),
                            "seeds": str(len(lines)),
                        }
                    )
    return pd.DataFrame(rows)


def decide_start(group: Group) -> Finding | None:
    """Table 7: lower Rec and higher BLEU-2 than DGP at the same KL; fewer units than IGP, aside.

    The same KL, within a quarter of a nat, is a premise: the objective enforces it.
    """
    asked = benchmarks.isotropic(scale_of(group))
    start, (diagonal, isotropic) = asked.start[0], asked.targets[:2]
    checks = []
    for recipe, found in limited(group, _SNLI).items():
        if not (paired(found, start, diagonal, "rec") and paired(found, start, isotropic, "au")):
            continue
        told = f"{NAMES[recipe]}, started with IGP less DGP"
        checks += [
            _every(f"{told}: KL", paired(found, start, diagonal, "kl"), -0.25, 0.25),
            below(f"{told}: Rec", paired(found, start, diagonal, "rec"), 0.0),
            above(f"{told}: BLEU-2", paired(found, start, diagonal, "bleu_2"), 0.0),
            side(
                below(
                    f"{NAMES[recipe]}, started with IGP less IGP: AU",
                    paired(found, start, isotropic, "au"),
                    0.0,
                )
            ),
        ]
    return decide("igp-tab7", scale_of(group), checks) if checks else None


# --- table 8: the aggregated posterior ------------------------------------------------------------

_MOMENTS = (
    Column("log det Cov[q(z)]", "log_det", 2, "log_det"),
    Column("½‖E μ‖²", "offset", 2, "squared_mean"),
    *BASE,
    Column("KL(q(z) ‖ p)", "aggregate", 2),
)


def moment_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Moments of the aggregated posterior, one table a data set."""
    return tables(shown, _is("target-kl"), _MOMENTS, _LABELLED)


def decide_moments(group: Group) -> Finding | None:
    """Table 8: a lower log determinant for IGP, and a squared mean within half a nat."""
    checks = []
    for pair in pairs(limited(group, _LABELLED), _targets(scale_of(group))):
        offset, log_det = pair.less("offset"), pair.less("log_det")
        if offset and log_det:
            told = f"{pair.told}, IGP less DGP"
            checks += [
                below(f"{told}: log det Cov[q(z)]", log_det, 0.0),
                between(f"{told}: half the squared mean", offset, -0.5, 0.5),
            ]
    return decide("igp-tab8", scale_of(group), checks) if checks else None


# --- appendix C: priors ---------------------------------------------------------------------------


def prior_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Three priors at one target, SNLI."""
    recipe, high = _SNLI[0], benchmarks.TARGETS[-1]

    def wanted(method: str) -> bool:
        mixture = _is("mog", "moig")(method)
        plain = _is("target-kl")(method)
        return (mixture or plain) and methods.parameters(method)["c"] == high

    columns = tuple(one for one in _LOSSES if one.measure != "offset")
    first = [{"method": "every row", **{c.title: "lost" for c in columns if c.printed}}]
    return {NAMES[recipe]: table(shown, recipe, wanted, columns, first)}


def decide_priors(group: Group) -> Finding | None:
    """Appendix C: IGP beats DGP under each mixture, and MoIG suits IGP better than MoG.

    That a mixture degrades both posteriors is a side check.
    IGP against DGP under N(0, I) is figure 2's question and is not asked again here.
    """
    asked = benchmarks.isotropic(scale_of(group))
    snli = limited(group, _SNLI)
    found = [*pairs(snli, asked.priors[::2])]
    if not found:
        return None
    checks: list[Check] = []
    for pair in found:
        checks += _better(pair)
    for pair in found:
        checks += map(side, _degraded(pair, *asked.targets[-2:]))
    general, tied = (pair.isotropic for pair in found[:2]) if len(found) == 2 else ("", "")
    if apart := paired(found[0].found, tied, general, "rec"):
        where = found[0].told.partition(",")[0]
        checks.append(below(f"{where}, IGP: Rec, MoIG less MoG", apart, 0.0))
        blue = paired(found[0].found, tied, general, "bleu_2")
        checks.append(above(f"{where}, IGP: BLEU-2, MoIG less MoG", blue, 0.0))
    return decide("igp-appC", scale_of(group), checks)


def _degraded(pair: Pair, diagonal: str, isotropic: str) -> list[Check]:
    """Under a mixture both posteriors are worse than under N(0, I), at the same target."""
    checks = []
    for name, mixed, plain in (
        ("DGP", pair.diagonal, diagonal),
        ("IGP", pair.isotropic, isotropic),
    ):
        told = f"{pair.told}, {name}, less N(0, I)"
        if apart := paired(pair.found, mixed, plain, "rec"):
            blue = paired(pair.found, mixed, plain, "bleu_2")
            checks += [above(f"{told}: Rec", apart, 0.0), below(f"{told}: BLEU-2", blue, 0.0)]
    return checks


RULES: dict[str, Callable[[Group], Finding | None]] = {
    "igp-fig1": decide_shapes,
    "igp-fig2": decide_targets,
    "igp-appA": decide_full,
    "igp-tab2": decide_weights,
    "igp-tab7": decide_start,
    "igp-tab8": decide_moments,
    "igp-appC": decide_priors,
}


def own_answers(
    shown: Shown, narrow: Shown, held: Mapping[str, Mapping[str, Premise]]
) -> list[Finding]:
    """This page's own questions, for every group that has what they need.

    The one on narrow first weights stands under no premise: that they break it is what it asks.
    """
    found = [
        stands(rule, group, held[origin])
        for origin, group in shown.items()
        for rule in (decide_information, decide_choice)
    ]
    found += [decide_narrow(group) for group in narrow.values()]
    return [one for one in found if one is not None]
