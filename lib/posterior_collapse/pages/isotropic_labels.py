"""What the page on codes, labels and generated text asks: IGP's figures 3 and 4, tables 3 to 5, D.

The bounds in the rules are this project's reading of the paper's words.  Nearly all numbers of
these tables are lost from our text, so most rules ask for signs of differences between DGP and
IGP, seed by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from posterior_collapse import benchmarks
from posterior_collapse.pages.isotropic import (
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
    pairs,
    scale_of,
    table,
    tables,
    values,
)
from posterior_collapse.pages.show import number
from posterior_collapse.papers import (
    Check,
    Finding,
    above,
    below,
    between,
    decide,
    lost,
    printed,
)
from posterior_collapse.plots import COLOURS

__all__ = [
    "RULES",
    "class_tables",
    "decide_agreement",
    "decide_classes",
    "decide_full",
    "decide_generation",
    "decide_imputation",
    "decide_plane",
    "few_shot_figure",
    "few_shot_tables",
    "generation_tables",
    "imputed_table",
    "imputed_texts",
    "kept_tables",
    "lost_table",
    "plane_figure",
    "plane_tables",
    "surviving",
    "written_texts",
]

_DBPEDIA, _LABELLED = benchmarks.ISOTROPIC[1:2], benchmarks.ISOTROPIC[1:]
_SHARES = (0.001, 0.01, 0.1, 1.0)


def _targets(scale: str) -> Sequence[str]:
    return benchmarks.isotropic(scale).targets[::2]


def _wanted(method: str) -> bool:
    """Rows of these tables: AE, and a target of the mean KL under a standard normal prior."""
    return method in ("ae", *(m for s in benchmarks.RAMPS for m in benchmarks.isotropic(s).targets))


def _recipes(shown: Shown) -> list[str]:
    return list(dict.fromkeys(recipe for group in shown.values() for recipe in group))


def _labelled(group: Group) -> Group:
    """The recipes of a group whose results measure labels."""
    return {
        recipe: found
        for recipe, found in limited(group, _LABELLED).items()
        if any(values(rows, "linear") for rows in found.values())
    }


def _measured(shown: Shown, measure: str) -> Shown:
    """Only data sets whose results have a measure."""
    some = {
        origin: {
            recipe: found
            for recipe, found in group.items()
            if any(values(rows, measure) for rows in found.values())
        }
        for origin, group in shown.items()
    }
    return {origin: group for origin, group in some.items() if group}


def lost_table() -> pd.DataFrame:
    """What our text of the paper no longer has, by item."""
    gone = lost()
    gone |= {
        "igp-fig3": "a picture; the text names gaps of 7 points at 0.1 % and of 4 at 100 %",
        "igp-fig4": "a picture: no numbers",
        "igp-tab4": "every number but those of the real text",
        "igp-appD": "every number but those of the original sentences",
    }
    order = [f"igp-{name}" for name in ("fig3", "fig4", "tab3", "tab4", "tab5", "appD")]
    rows = [{"item": name, "what is lost": gone[name]} for name in order]
    return pd.DataFrame(rows)


def surviving(shown: Shown) -> pd.DataFrame:
    """IGP less DGP at each target: AU beside what a rotation does not change."""
    columns = (
        Column("AU", "au", 1),
        Column("rank", "rank", 1),
        Column("MI", "mi", 2),
        Column("accuracy, points", "linear", 1),
        Column("accuracy of a perceptron, points", "perceptron", 1),
    )
    return differences(_measured(shown, "linear"), _targets, columns)


# --- figure 3: classes from codes -----------------------------------------------------------------

_ACCURACY = (
    *BASE,
    Column("linear", "linear", 1),
    Column("perceptron", "perceptron", 1, "accuracy"),
)
_FEW = tuple(Column(f"{100 * share:g} %", f"few_{share:g}", 1) for share in _SHARES)


def _guessing(found: Found) -> float | None:
    """Accuracy of a guess among the classes, percent; None where no result keeps its labels.

    Nearly what always naming the most frequent class reaches: in all data sets here the classes
    are about as frequent as each other.
    """
    kept = (rows[0] for rows in found.values() if "tsne_label" in rows[0].arrays)
    result = next(kept, None)
    return None if result is None else 100.0 / len(np.unique(kept_array(result, "tsne_label")))


def _accuracies(shown: Shown, columns: Sequence[Column]) -> dict[str, pd.DataFrame]:
    """One table a data set, with what a guess is worth in its first row."""
    some = _measured(shown, "linear")
    made = {}
    for recipe in _recipes(some):
        guess = _guessing(next(group[recipe] for group in some.values() if recipe in group))
        cells = {one.title: "–" if one in BASE else number(guess, 1) for one in columns}
        first = [{"method": "guessing", "from": "classes", **cells}]
        made[NAMES[recipe]] = table(some, recipe, _wanted, columns, first)
    return made


def class_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Accuracies of classifiers on posterior means, one table a data set."""
    return _accuracies(shown, _ACCURACY)


def few_shot_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Accuracies by the share of labels, one table a data set."""
    return _accuracies(shown, (*BASE, *_FEW))


_LOOKS = (
    (COLOURS["guide"], "x", ":"),
    (COLOURS["vae"], "o", "-"),
    (COLOURS["lagging"], "^", "-"),
    (COLOURS["mi"], "s", "--"),
    (COLOURS["aggregate"], "D", "--"),
)


def few_shot_figure(group: Group) -> Figure | None:
    """Accuracy against the share of labelled training sentences; a line a method."""
    some = _labelled(group)
    if not some:
        return None
    figure = Figure(figsize=(4.3 * len(some) + 0.6, 3.6), layout="constrained")
    grid = figure.subplots(1, len(some), squeeze=False)[0]
    for axes, (recipe, found) in zip(grid, some.items(), strict=True):
        chosen = [method for method in found if _wanted(method)]
        for method, (colour, marker, line) in zip(chosen, _LOOKS, strict=False):
            means = [float(np.mean(values(found[method], one.measure))) for one in _FEW]
            axes.plot(
                [100.0 * share for share in _SHARES],
                means,
                color=colour,
                marker=marker,
                linestyle=line,
                markersize=5,
                label=called(method),
            )
        if (guess := _guessing(found)) is not None:
            axes.axhline(guess, color=COLOURS["kl"], linestyle=(0, (1, 3)), label="guessing")
        axes.set(xscale="log", title=NAMES[recipe], xlabel="labelled training sentences, %")
        axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    grid[0].set_ylabel("test accuracy, %")
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _above(pair: Pair, told: str, measure: str) -> list[Check]:
    """IGP less DGP of a measure is above 0; empty where it was not measured."""
    less = pair.less(measure)
    return [above(f"{pair.told}: {told}, IGP less DGP", less, 0.0)] if less else []


def _finding(item: str, group: Group, checks: Sequence[Check]) -> Finding | None:
    return decide(item, scale_of(group), checks) if checks else None


def decide_classes(group: Group) -> Finding | None:
    """Figure 3: IGP above DGP, with all the codes and with each share of labels."""
    checks: list[Check] = []
    for pair in pairs(_labelled(group), _targets(scale_of(group))):
        checks += _above(pair, "accuracy of the perceptron", "perceptron")
        for share, one in zip(_SHARES, _FEW, strict=True):
            checks += _above(pair, f"accuracy with {100 * share:g} % of the labels", one.measure)
    return _finding("igp-fig3", group, checks)


# --- figure 4: a map of the codes -----------------------------------------------------------------

_PLANE = (
    *BASE,
    Column("silhouette, codes", "silhouette_codes", 3),
    Column("silhouette, map", "silhouette_plane", 3),
)
_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
_MARKERS = ("o", "^")


def plane_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Silhouettes by class, one table a data set."""
    return tables(_measured(shown, "silhouette_plane"), _wanted, _PLANE)


def _mapped(found: Found) -> list[str]:
    """Methods with a map of their codes: a constant code has none."""
    return [m for m, rows in found.items() if _wanted(m) and "tsne" in rows[0].arrays]


def plane_figure(group: Group) -> Figure | None:
    """t-SNE of posterior means by class, a panel a method; first seed of the first data set."""
    for recipe, found in limited(group, _DBPEDIA).items():
        if chosen := _mapped(found):
            return _planes(recipe, found, chosen)
    return None


def _planes(recipe: str, found: Found, chosen: Sequence[str]) -> Figure:
    lines = -(-len(chosen) // 3)
    figure = Figure(figsize=(7.4, 2.6 * lines + 0.2), layout="constrained")
    grid = figure.subplots(lines, 3, squeeze=False).ravel()
    for axes in grid[len(chosen) :]:
        axes.set_axis_off()
    for axes, method in zip(grid, chosen, strict=False):
        points = kept_array(found[method][0], "tsne")
        labels = kept_array(found[method][0], "tsne_label")
        for place, label in enumerate(np.unique(labels)):
            own = points[labels == label]
            axes.scatter(
                own[:, 0],
                own[:, 1],
                s=7,
                color=_COLOURS[place % len(_COLOURS)],
                marker=_MARKERS[place // len(_COLOURS) % len(_MARKERS)],
                alpha=0.7,
                linewidths=0,
            )
        axes.set_title(f"{NAMES[recipe]}: {called(method)}", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def decide_plane(group: Group) -> Finding | None:
    """Figure 4: clusters of IGP overlap less, on the map and in the space of codes."""
    checks: list[Check] = []
    for pair in pairs(limited(_labelled(group), _DBPEDIA), _targets(scale_of(group))):
        checks += _above(pair, "silhouette on the map", "silhouette_plane")
        checks += _above(pair, "silhouette of the codes", "silhouette_codes")
    return _finding("igp-fig4", group, checks)


# --- table 3 and appendix D -----------------------------------------------------------------------

_KEPT = (
    *BASE,
    Column("F1, original", "original", 1, "f1"),
    Column("F1, reconstruction", "reconstructed", 1, "f1"),
    Column("agreement", "agreement", 3, "agreement"),
    Column("accuracy, perceptron", "perceptron", 1, "accuracy"),
    Column("accuracy, clean", "clean", 1),
    Column("accuracy, 30 % dropped", "dropped", 1, "robustness"),
)


def kept_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Table 3 and appendix D, one table a data set, with the two printed numbers that are left."""
    left = printed("igp", "table11").set_index("dataset")["f1"]
    some = _measured(shown, "agreement")
    made = {}
    for recipe in _recipes(some):
        first = []
        if NAMES[recipe] in left:
            cells = {one.title: "lost" for one in _KEPT if one.printed} | {"AU": "not printed"}
            cells["F1, original"] = number(float(left[NAMES[recipe]]), 2)
            first = [{"method": "every row", **cells}]
        made[NAMES[recipe]] = table(some, recipe, _wanted, _KEPT, first)
    return made


def decide_agreement(group: Group) -> Finding | None:
    """Table 3: IGP keeps more of the label, and is classified better without 30 % of the words."""
    checks: list[Check] = []
    for pair in pairs(_labelled(group), _targets(scale_of(group))):
        checks += _above(pair, "agreement", "agreement")
        checks += _above(pair, "accuracy with 30 % of the words dropped", "dropped")
    return _finding("igp-tab3", group, checks)


def decide_full(group: Group) -> Finding | None:
    """Appendix D: F1 of reconstructions and accuracy of codes higher for IGP.

    The classifier's F1 on original sentences lies within 5 points of the printed one, where one
    is printed.
    """
    checks: list[Check] = []
    for pair in pairs(_labelled(group), _targets(scale_of(group))):
        checks += _above(pair, "F1 of reconstructions", "reconstructed")
        checks += _above(pair, "accuracy of the perceptron", "perceptron")
    return _finding("igp-appD", group, [*_as_printed(group), *checks]) if checks else None


def _as_printed(group: Group) -> list[Check]:
    """F1 of the classifier on original sentences, which no model of the group changes."""
    left = printed("igp", "table11").set_index("dataset")["f1"]
    checks = []
    for recipe, found in _labelled(group).items():
        if NAMES[recipe] not in left:
            continue
        target = float(left[NAMES[recipe]])
        rows = next(iter(found.values()))
        apart = [value - target for value in values(rows, "original")]
        told = f"{NAMES[recipe]}: F1 of original sentences less the printed {target:g}"
        checks += [between(told, apart, -5.0, 5.0)] if apart else []
    return checks


# --- table 4: generation --------------------------------------------------------------------------

_PERPLEXITY = (
    *BASE,
    Column("real", "real", 1),
    Column("forward, greedy", "forward", 1, "forward"),
    Column("reverse, greedy", "reverse", 1, "reverse"),
    Column("forward, sampled", "sampled_forward", 1),
    Column("reverse, sampled", "sampled_reverse", 1),
)


def generation_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Table 4, one table a data set, with the printed perplexity of the real text."""
    left = printed("igp", "table4").set_index("dataset")["reverse_perplexity"]
    some = _measured(shown, "forward")
    made = {}
    for recipe in _recipes(some):
        first = []
        if NAMES[recipe] in left:
            cells = {one.title: "lost" for one in _PERPLEXITY if one.printed}
            cells |= {"AU": "not printed", "real": number(float(left[NAMES[recipe]]), 2)}
            first = [{"method": "every row", **cells}]
        made[NAMES[recipe]] = table(some, recipe, _wanted, _PERPLEXITY, first)
    return made


def decide_generation(group: Group) -> Finding | None:
    """Table 4: both perplexities are lower for IGP than for DGP, and forward lower than AE's.

    Words are the most probable ones, as the paper decodes.
    """
    some = limited(group, _LABELLED)
    checks: list[Check] = []
    for pair in pairs(some, _targets(scale_of(group))):
        for told, measure in (("forward perplexity", "forward"), ("reverse perplexity", "reverse")):
            if less := pair.less(measure):
                checks.append(below(f"{pair.told}: {told}, IGP less DGP", less, 0.0))
        for name, method in (("DGP", pair.diagonal), ("IGP", pair.isotropic)):
            apart = Pair(pair.told, pair.found, "ae", method).less("forward")
            if apart:
                told = f"{pair.told}: forward perplexity, {name} less AE"
                checks.append(below(told, apart, 0.0))
    return _finding("igp-tab4", group, checks)


def written_texts(group: Group) -> pd.DataFrame:
    """Sentences from the prior, the most probable words: the first three of each method."""
    rows = []
    for recipe, found in group.items():
        for method, results in found.items():
            if _wanted(method) and "text_greedy" in results[0].arrays:
                texts = kept_array(results[0], "text_greedy")[:3]
                told = f"{NAMES[recipe]}, {called(method)}"
                rows.append({"method": told, "sentences": " / ".join(map(str, texts))})
    return pd.DataFrame(rows, columns=["method", "sentences"])


# --- table 5: imputation --------------------------------------------------------------------------

_IMPUTED = (
    *BASE,
    Column("BLEU-1, ends cut", "ends_bleu_1", 2),
    Column("BLEU-2, ends cut", "ends_bleu_2", 2),
    Column("BLEU-1, words hidden", "hidden_bleu_1", 2),
    Column("BLEU-2, words hidden", "hidden_bleu_2", 2),
)


def imputed_table(shown: Shown) -> dict[str, pd.DataFrame]:
    """Likeness of completed sentences to the whole ones, one table a data set."""
    return tables(_measured(shown, "ends_bleu_2"), _wanted, _IMPUTED)


def imputed_texts(group: Group) -> pd.DataFrame:
    """Sentences, what was left of them, and what DGP and IGP make of that; highest target."""
    rows = []
    asked = _targets(scale_of(group))
    for pair in list(pairs(limited(group, _DBPEDIA), asked))[-1:]:
        first, second = pair.found[pair.diagonal][0], pair.found[pair.isotropic][0]
        columns = {
            "sentence": kept_array(first, "text_source"),
            "what is left": kept_array(first, "text_cut_ends"),
            f"DGP, {pair.told}": kept_array(first, "text_imputed_ends"),
            f"IGP, {pair.told}": kept_array(second, "text_imputed_ends"),
        }
        for place in range(min(map(len, columns.values()))):
            rows.append({head: str(texts[place]) for head, texts in columns.items()})
    return pd.DataFrame(rows)


def decide_imputation(group: Group) -> Finding | None:
    """Table 5: what IGP completes is more like the whole sentence, in BLEU-1 and BLEU-2."""
    checks: list[Check] = []
    for pair in pairs(limited(group, _DBPEDIA), _targets(scale_of(group))):
        for told, measure in (("BLEU-1", "ends_bleu_1"), ("BLEU-2", "ends_bleu_2")):
            checks += _above(pair, f"{told} of completed sentences", measure)
    return _finding("igp-tab5", group, checks)


RULES: dict[str, Callable[[Group], Finding | None]] = {
    "igp-fig3": decide_classes,
    "igp-fig4": decide_plane,
    "igp-tab3": decide_agreement,
    "igp-tab4": decide_generation,
    "igp-tab5": decide_imputation,
    "igp-appD": decide_full,
}
