"""What the page on codes, labels and generated text asks: IGP's figures 3 and 4, tables 3 to 5, D.

Nearly all numbers of these tables are lost from our text, so the rules ask for signs of
differences, seed by seed, and follow the paper's words.  What it says of all cases is asked of each
C and data set; what it says of most cases, or in general, is asked of their average or their count.
Where it says that one C does something, and our text has lost which, a comparison with AE takes the
C at which IGP does best, and a comparison with DGP takes the highest C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from companion.claims import evidence
from companion.claims import groups as benchmarks
from companion.claims.printed import printed
from companion.claims.table import Column, Runs, differences, values
from companion.claims.verdicts import Check, Finding, above, below, decide, missing, premise, stated
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
    limited,
    lost_items,
    pairs,
    scale_of,
    table,
    tables,
    targets,
)
from companion.numbers import number
from posterior_collapse import recipes
from posterior_collapse.runs.text import SHARES, labels_of

DBPEDIA, _LABELLED = (benchmarks.DBPEDIA,), benchmarks.LABELLED
_SIMILAR = 2.0  # points of accuracy; the paper says "similar" and no number
_AS_PRINTED = 5.0  # points of F1 between our classifier of sentences and the paper's


def is_wanted(method: str) -> bool:
    """Rows of these tables: AE, and a target of the mean KL under a standard normal prior."""
    every = (m for scale in benchmarks.RAMPS for m in benchmarks.isotropic(scale).at_targets())
    return method in (benchmarks.AUTOENCODER, *every)


def _recipes(shown: Shown) -> list[str]:
    return list(dict.fromkeys(recipe for group in shown.values() for recipe in group))


def _is_reference(group: Group) -> bool:
    return any(result.provenance.get("kind") == "reference" for result in evidence.every(group))


def _about(group: Group, wanted: Sequence[str]) -> Group:
    """The recipes that a rule is about.

    A build has one data set, which stands in for those of the paper; among reference results none
    stands in for another.
    """
    own = {recipe: runs for recipe, runs in group.items() if recipe in wanted}
    return own if _is_reference(group) else limited(group, wanted)


def labelled(group: Group, wanted: Sequence[str] = _LABELLED) -> Group:
    """The recipes that a rule is about and whose results measure labels."""
    return _having(_about(group, wanted), "linear")


def _having(group: Group, measure: str) -> Group:
    """The recipes whose results have a measure."""

    def has(runs: Runs) -> bool:
        return any(MEASURES[measure](result) is not None for result in evidence.every(runs))

    return {recipe: runs for recipe, runs in group.items() if has(runs)}


def _measured(shown: Shown, measure: str) -> Shown:
    """Only data sets whose results have a measure."""
    some = {origin: _having(group, measure) for origin, group in shown.items()}
    return {origin: group for origin, group in some.items() if group}


def lost_table() -> pd.DataFrame:
    """What our text of the paper no longer has, by item."""
    further = {
        "igp-fig3": "a picture; the text names gaps of 7 points at 0.1 % and of 4 at 100 %",
        "igp-fig4": "a picture: no numbers",
        "igp-tab4": "every number but those of the real text",
        "igp-appD": "every number but those of the original sentences",
    }
    return lost_items(("fig3", "fig4", "tab3", "tab4", "tab5", "appD"), further)


def surviving(shown: Shown) -> pd.DataFrame:
    """IGP less DGP at each target: AU beside what a rotation does not change."""
    columns = (
        Column("AU", "au", 1),
        Column("rank", "rank", 1),
        Column("MI", "mi", 2),
        Column("accuracy, points", "linear", 1),
        Column("accuracy of a perceptron, points", "perceptron", 1),
    )
    return apart_table(_measured(shown, "linear"), targets, columns)


# --- what rules are made of -----------------------------------------------------------------------


def _average(settings: Sequence[pd.Series]) -> pd.Series:
    """Average over settings, for each seed that all have; a setting without any is left out."""
    some = [setting for setting in settings if len(setting)]
    return pd.concat(some, axis=1).mean(axis=1, skipna=False).dropna() if some else pd.Series()


def _less(
    rule: Callable[..., Check], name: str, less: pd.Series, bound: float = 0.0
) -> list[Check]:
    """A rule on differences, seed by seed; empty where nothing was measured."""
    return [rule(name, less, bound)] if len(less) else []


def _above(pair: Pair, name: str, measure: str) -> list[Check]:
    """IGP less DGP of a measure is above 0."""
    return _less(above, f"{pair.name}: {name}, IGP less DGP", pair.less(measure))


def _above_on_average(own: Sequence[Pair], where: str, name: str, measure: str) -> list[Check]:
    """IGP less DGP of a measure, averaged over pairs, is above 0."""
    less = _average([pair.less(measure) for pair in own])
    return _less(above, f"{where}: {name}, IGP less DGP", less)


def _less_ae(pair: Pair, method: str, measure: str) -> pd.Series:
    """A measure less the autoencoder's, seed by seed."""
    return differences(pair.data, method, benchmarks.AUTOENCODER, measure)


def _best_above_ae(own: Sequence[Pair], name: str, measure: str, bound: float) -> list[Check]:
    """IGP less AE of a measure is above a bound at the C of a data set at which IGP does best."""
    measured = {place: values(p.data, p.isotropic, measure) for place, p in enumerate(own)}
    means = {place: float(known.mean()) for place, known in measured.items() if len(known)}
    if not means:
        return []
    best = own[max(means, key=lambda place: means[place])]
    quantity = f"{best.name}, where IGP does best: {name}, IGP less AE"
    return _less(above, quantity, _less_ae(best, best.isotropic, measure), bound)


def _each(group: Group) -> dict[str, list[Pair]]:
    """The pairs of each data set, the lowest C first."""
    at_targets = targets(scale_of(group)) if group else ()
    return {recipe: list(pairs({recipe: runs}, at_targets)) for recipe, runs in group.items()}


def _all_pairs(group: Group) -> list[Pair]:
    return [pair for own in _each(group).values() for pair in own]


def _compared(group: Group) -> str:
    """The data sets that have a pair, in words."""
    return " and ".join(NAMES[recipe] for recipe, own in _each(group).items() if own)


def _on_average(group: Group) -> str:
    """What an average is over, in words."""
    return f"{_compared(group)}, average over C"


def _awaited(group: Group, wanted: Sequence[str]) -> list[Check]:
    """A check that is open for each data set of an item without reference results.

    Only where there are such results for another: then the item would be decided without it.
    """
    if not _is_reference(group) or not set(group) & set(_LABELLED):
        return []
    quantity = "results of DGP and IGP with the same seed"
    return [
        missing(f"{NAMES[recipe]}: {quantity}", "at least two seeds")
        for recipe in wanted
        if recipe not in group
    ]


def _finding(
    item: str, group: Group, checks: Sequence[Check], wanted: Sequence[str] = _LABELLED
) -> Finding | None:
    every = [*checks, *_awaited(group, wanted)]
    return decide(item, scale_of(group), every) if every else None


# --- figure 3: classes from codes -----------------------------------------------------------------

_ACCURACY = (
    *BASE,
    Column("linear", "linear", 1),
    Column("perceptron", "perceptron", 1, printed="accuracy"),
)
FEW = tuple(Column(f"{100 * share:g} %", f"few_{share:g}", 1) for share in SHARES)


def _classes(runs: Runs) -> int | None:
    """Number of classes among the test sentences of the map; None where no result keeps them."""
    stored = (group[0].arrays.get("tsne_label") for group in runs.values())
    labels = next((known for known in stored if known is not None), None)
    return None if labels is None else len(np.unique(labels))


def guessing(runs: Runs) -> float | None:
    """Accuracy of a guess among the classes, percent; None where no result keeps its labels.

    Nearly what always naming the most frequent class reaches: in all data sets here the classes
    are about as frequent as each other.
    """
    classes = _classes(runs)
    return None if classes is None else 100.0 / classes


def _accuracies(shown: Shown, columns: Sequence[Column]) -> dict[str, pd.DataFrame]:
    """One table a data set, with what a guess is worth in its first row."""
    some = _measured(shown, "linear")
    made = {}
    for recipe in _recipes(some):
        guess = guessing(next(group[recipe] for group in some.values() if recipe in group))
        row = {one.title: "–" if one in BASE else number(guess, 1) for one in columns}
        first = [{"method": "guessing", "from": "classes", **row}]
        made[NAMES[recipe]] = table(some, recipe, is_wanted, columns, first)
    return made


def class_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Accuracies of classifiers on posterior means, one table a data set."""
    return _accuracies(shown, _ACCURACY)


def few_shot_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Accuracies by the share of labels, one table a data set."""
    return _accuracies(shown, (*BASE, *FEW))


def share_table(shown: Shown) -> pd.DataFrame:
    """How many labelled sentences a share is: never fewer than there are classes."""
    rows = []
    for origin, group in _measured(shown, "few_1").items():
        for recipe, runs in group.items():
            train = recipes.get(recipe, scale_of({recipe: runs})).train
            least = _classes(runs) or 1
            counts = {
                one.title: f"{labels_of(share, train, least):,}"
                for share, one in zip(SHARES, FEW, strict=True)
            }
            rows.append({"data": NAMES[recipe], "from": origin.lower(), **counts})
    return pd.DataFrame(rows, columns=["data", "from", *(one.title for one in FEW)])


def _accuracy_checks(group: Group) -> list[Check]:
    """Accuracy of the perceptron on all codes: IGP, DGP and AE (section 4.2, results).

    Most IGP above DGP, the only exception on DBpedia: an average over C there, each C elsewhere.
    DGP below AE at each C.
    At one C, IGP similar to AE on DBpedia and above it elsewhere.
    """
    name, measure = "accuracy of the perceptron", "perceptron"
    checks: list[Check] = []
    for recipe, own in _each(group).items():
        similar = recipe in DBPEDIA
        if similar:
            where = _on_average({recipe: group[recipe]})
            checks += _above_on_average(own, where, name, measure)
        for pair in own:
            checks += [] if similar else _above(pair, name, measure)
            less = _less_ae(pair, pair.diagonal, measure)
            checks += _less(below, f"{pair.name}: {name}, DGP less AE", less)
        checks += _best_above_ae(own, name, measure, -_SIMILAR if similar else 0.0)
    return checks


def _few_shot_checks(pair: Pair) -> list[Check]:
    """IGP above DGP with each share of the labels, and by more with the fewest than with all."""
    checks: list[Check] = []
    for share, one in zip(SHARES, FEW, strict=True):
        checks += _above(pair, f"accuracy with {100 * share:g} % of the labels", one.metric)
    fewest, *_, all_ = FEW
    narrower = (pair.less(fewest.metric) - pair.less(all_.metric)).dropna()
    quantity = f"{pair.name}: IGP less DGP with {fewest.title} of the labels less that with all"
    return checks + _less(above, quantity, narrower)


def decide_classes(group: Group) -> Finding | None:
    """Figure 3: IGP, DGP and AE with all codes; DBpedia at the highest C with few labels."""
    checks = _accuracy_checks(labelled(group))
    for own in _each(labelled(group, DBPEDIA)).values():
        if own:
            checks += _few_shot_checks(own[-1])  # of the highest C
    return _finding("igp-fig3", group, checks)


# --- figure 4: a map of the codes -----------------------------------------------------------------

_PLANE = (
    *BASE,
    Column("silhouette, codes", "silhouette_codes", 3),
    Column("silhouette, map", "silhouette_plane", 3),
)


def plane_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Silhouettes by class, one table a data set."""
    return tables(_measured(shown, "silhouette_plane"), is_wanted, _PLANE)


def decide_plane(group: Group) -> Finding | None:
    """Figure 4: at the highest C clusters of IGP overlap less, on the map and among codes."""
    checks: list[Check] = []
    for own in _each(labelled(group, DBPEDIA)).values():
        if own:
            checks += _above(own[-1], "silhouette on the map", "silhouette_plane")
            checks += _above(own[-1], "silhouette of the codes", "silhouette_codes")
    return _finding("igp-fig4", group, checks, DBPEDIA)


# --- table 3 and appendix D -----------------------------------------------------------------------

_KEPT = (
    *BASE,
    Column("F1, original", "original", 1, printed="f1"),
    Column("F1, reconstruction", "reconstructed", 1, printed="f1"),
    Column("agreement", "agreement", 3, printed="agreement"),
    Column("perceptron, whole", "perceptron", 1, printed="accuracy"),
    Column("linear, whole", "clean", 1),
    Column("linear, 30 % deleted", "dropped", 1, printed="robustness"),
)


def agreement_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Table 3 and appendix D, one table a data set, with the two printed numbers that are left."""
    left = printed("igp", "table11").set_index("dataset")["f1"]
    return _with_printed(_measured(shown, "agreement"), _KEPT, "F1, original", left)


def _with_printed(
    shown: Shown, columns: Sequence[Column], title: str, left: pd.Series
) -> dict[str, pd.DataFrame]:
    """A table for every data set; above, the one printed number that our text still has.

    Args:
        shown: all results.
        columns: what is shown.
        title: of the column of that number.
        left: name of a data set -> the number.
    """
    made = {}
    for recipe in _recipes(shown):
        first = []
        if (name := NAMES[recipe]) in left:
            row = {one.title: "lost" for one in columns if one.printed} | {"AU": "not printed"}
            first = [{"method": "every row", **row, title: number(float(left[name]), 2)}]
        made[name] = table(shown, recipe, is_wanted, columns, first)
    return made


def decide_agreement(group: Group) -> Finding | None:
    """Table 3: what IGP keeps of labels, and how it withstands the loss of words.

    IGP generally keeps more than DGP, not at every C: an average over C and data sets.
    Without 30 % of the words, IGP above DGP in all cases, and above AE at one C.
    """
    some = labelled(group)
    checks = _above_on_average(_all_pairs(some), _on_average(some), "agreement", "agreement")
    name = "accuracy with 30 % of the words deleted"
    for own in _each(some).values():
        for pair in own:
            checks += _above(pair, name, "dropped")
        checks += _best_above_ae(own, name, "dropped", 0.0)
    return _finding("igp-tab3", group, checks)


def decide_full(group: Group) -> Finding | None:
    """Appendix D: the numbers behind figure 3 and table 3, with the same words for both.

    Premise: on original sentences our classifier reads classes about as well as the paper's.
    """
    some = labelled(group)
    name = "F1 of reconstructions"
    checks = _above_on_average(_all_pairs(some), _on_average(some), name, "reconstructed")
    checks += _accuracy_checks(some)
    return _finding("igp-appD", group, [*_reads_as_printed(some), *checks]) if checks else None


def _reads_as_printed(group: Group) -> list[Check]:
    """Premises on F1 of the classifier on original sentences.

    It is one number that no seed changes, as no model of the group is in it.
    """
    left = printed("igp", "table11").set_index("dataset")["f1"]
    checks = []
    for recipe, runs in group.items():
        measured = [MEASURES["original"](result) for result in evidence.every(runs)]
        known = [value for value in measured if value is not None]
        if (name := NAMES[recipe]) in left and known:
            target = float(left[name])
            check = stated(
                f"{name}: F1 of the classifier on original sentences",
                f"within {_AS_PRINTED:g} points of the printed {target:g}",
                abs(known[0] - target) <= _AS_PRINTED,
                f"{number(known[0], 2)} (one value: it depends on no model)",
            )
            checks.append(premise(check))
    return checks


# --- table 4: generation --------------------------------------------------------------------------


def _perplexities(way: str, forward: str, reverse: str, printed_: bool) -> tuple[Column, ...]:
    """Perplexities, and shares that tell whether they are of sentences worth the name, percent."""
    shares = {"ended": "ended", "different": "different", "empty": "empty"}
    shares["unknown words"] = "unknown"
    return (
        *BASE,
        Column("real", "real", 1),
        Column("forward", forward, 1, printed="forward" * printed_),
        Column("reverse", reverse, 1, printed="reverse" * printed_),
        *(Column(f"{words}, %", f"{way}_{name}", 1) for words, name in shares.items()),
    )


_PERPLEXITY = _perplexities("greedy", "forward", "reverse", True)
_SAMPLED = _perplexities("sampled", "sampled_forward", "sampled_reverse", False)


def generation_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """Table 4 with greedy decoding, and the printed perplexity of the real text."""
    left = printed("igp", "table4").set_index("dataset")["reverse_perplexity"]
    return _with_printed(_measured(shown, "forward"), _PERPLEXITY, "real", left)


def sampled_tables(shown: Shown) -> dict[str, pd.DataFrame]:
    """As table 4, with sampled words, which the paper does not print."""
    return tables(_measured(shown, "sampled_forward"), is_wanted, _SAMPLED)


def _both_lower(pair: Pair) -> pd.Series:
    """Seed -> 1 where both perplexities are lower for IGP than for DGP, else 0."""
    both = pd.concat([pair.less("forward"), pair.less("reverse")], axis=1).dropna()
    return (both < 0.0).all(axis=1).astype(float)


def _forward_below_ae(pair: Pair) -> list[Check]:
    checks: list[Check] = []
    for name, method in (("DGP", pair.diagonal), ("IGP", pair.isotropic)):
        less = _less_ae(pair, method, "forward_nats")
        checks += _less(below, f"{pair.name}: log forward perplexity, {name} less AE", less)
    return checks


def _low_target_costs(own: Sequence[Pair]) -> list[pd.Series]:
    """Log reverse perplexity at the lowest C less that at the highest, for DGP and for IGP."""
    if len(own) < 2:
        return []
    low, *_, high = own
    both = ((low.diagonal, high.diagonal), (low.isotropic, high.isotropic))
    return [differences(low.data, first, second, "reverse_nats") for first, second in both]


def decide_generation(group: Group) -> Finding | None:
    """Table 4, with greedy decoding, as in the paper.

    In most cases, C and data sets, both perplexities are lower for IGP than for DGP: a count.
    Forward perplexity is lower for DGP and for IGP than for AE in each case.
    Reverse perplexity is usually larger at a lower C: an average over posteriors and data sets.
    Differences are of logarithms, nats a word; where one is lower than the other is the same.
    """
    some = _about(group, _LABELLED)
    own, names = _all_pairs(some), _compared(some)
    shares = _average([_both_lower(pair) for pair in own])
    quantity = f"{names}: share of cases in which both perplexities are lower for IGP"
    checks = _less(above, quantity, shares, 0.5)
    for pair in own:
        checks += _forward_below_ae(pair)
    costs = _average([cost for row in _each(some).values() for cost in _low_target_costs(row)])
    name = f"{names}, average over posteriors: log reverse perplexity, lowest C less highest"
    return _finding("igp-tab4", group, checks + _less(above, name, costs))


def written_texts(group: Group) -> pd.DataFrame:
    """Sentences from the prior, greedily decoded: the first three of each method."""
    rows = []
    for recipe, runs in group.items():
        for method, results in runs.items():
            if is_wanted(method) and "text_greedy" in results[0].arrays:
                texts = evidence.array(results[0], "text_greedy")[:3]
                name = f"{NAMES[recipe]}, {called(method)}"
                rows.append({"method": name, "sentences": " / ".join(map(str, texts))})
    return pd.DataFrame(rows, columns=["method", "sentences"])


# --- table 5: imputation --------------------------------------------------------------------------

_IMPUTED = (
    *BASE,
    Column("BLEU-1, ends cut", "ends_bleu_1", 2),
    Column("BLEU-2, ends cut", "ends_bleu_2", 2),
    Column("F1 of the class, ends cut", "imputed_f1", 1),
    Column("BLEU-1, words hidden", "hidden_bleu_1", 2),
    Column("BLEU-2, words hidden", "hidden_bleu_2", 2),
)


def imputed_table(shown: Shown) -> dict[str, pd.DataFrame]:
    """Likeness of completed sentences to the whole ones, one table a data set."""
    return tables(_measured(shown, "ends_bleu_2"), is_wanted, _IMPUTED)


def imputed_texts(group: Group) -> pd.DataFrame:
    """Sentences, what was left of them, and what DGP and IGP make of that; highest target."""
    every = list(pairs(limited(group, DBPEDIA), targets(scale_of(group))))
    for pair in every[-1:]:  # of the highest C
        first, second = pair.runs[pair.diagonal][0], pair.runs[pair.isotropic][0]
        columns = {
            "sentence": evidence.array(first, "text_source"),
            "what is left": evidence.array(first, "text_cut_ends"),
            f"DGP, {pair.name}": evidence.array(first, "text_imputed_ends"),
            f"IGP, {pair.name}": evidence.array(second, "text_imputed_ends"),
        }
        least = min(map(len, columns.values()))
        return pd.DataFrame({head: texts[:least].astype(str) for head, texts in columns.items()})
    return pd.DataFrame()


def decide_imputation(group: Group) -> Finding | None:
    """Table 5: IGP recovers more of the sentence and of what it is about; an average over C.

    The paper shows examples: IGP recovers the type of the object, and a similar structure.
    """
    measures = (
        ("BLEU-1 of completed sentences", "ends_bleu_1"),
        ("BLEU-2 of completed sentences", "ends_bleu_2"),
        ("F1 of the class read from them", "imputed_f1"),
    )
    some = _about(group, DBPEDIA)
    checks = [
        check
        for recipe, own in _each(some).items()
        for measured in measures
        for check in _above_on_average(own, _on_average({recipe: some[recipe]}), *measured)
    ]
    return _finding("igp-tab5", group, checks, DBPEDIA)


RULES: dict[str, Rule] = {
    "igp-fig3": decide_classes,
    "igp-fig4": decide_plane,
    "igp-tab3": decide_agreement,
    "igp-tab4": decide_generation,
    "igp-tab5": decide_imputation,
    "igp-appD": decide_full,
}
