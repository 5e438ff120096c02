"""What both pages on isotropic posteriors for text share: results, measures, tables, differences.

A group maps recipes to methods to results, one per seed.  ``Reference`` holds what the repository
keeps, ``This build`` what was trained while the site was made.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from companion.build.parameters import Page
from companion.claims import evidence
from companion.claims import groups as benchmarks
from companion.claims.premises import Premise
from companion.claims.printed import lost
from companion.claims.reference import Result
from companion.claims.table import Column, Measure, Runs, cells, differences, frame, metric, row
from companion.claims.verdicts import Check, Finding, answer, decide, grouped, missing, under
from posterior_collapse import methods
from posterior_collapse.errors import BadInput
from posterior_collapse.gaussian import kl_to_standard_normal

Group = Mapping[str, Runs]  # recipe -> method -> results
Shown = Mapping[str, Group]  # where results come from -> recipe -> method -> results

# What a page's parameter means, and what readers call it.
RECIPES = {
    "grammar": "igp-grammar",
    "snli": "igp-snli",
    "dbpedia": "igp-dbpedia",
    "yahoo-question": "igp-yahoo-question",
}
NAMES = {
    "igp-grammar": "Grammar",
    "igp-snli": "SNLI",
    "igp-dbpedia": "DBpedia",
    "igp-yahoo-question": "Yahoo Question",
    benchmarks.NARROW: "SNLI, narrow start",
}


def _parts(method: str) -> list[str]:
    return [part.partition("(")[0] for part in method.split("+")]


def called(method: str) -> str:
    """Name for readers: prior where it is a mixture, what holds the KL, and the posterior."""
    if method == "ae":
        return "AE"
    parts, given = _parts(method), methods.parameters(method)
    words = [methods.describe(part).title for part in parts if part in ("mog", "moig")]
    if "target-kl-sentence" in parts:
        words.append(f"C = {given['c']:g} a sentence")
    elif "target-kl" in parts:
        words.append(f"C = {given['c']:g}")
    elif "beta-vae" in parts:
        words.append(f"β = {given['beta']:g}")
    if "igp-start" in parts:
        return ", ".join([*words, f"DGP after {given['epochs']:g} epochs of IGP"])
    return ", ".join([*words, "IGP" if "igp" in parts else "DGP"])


def of_kind(*kinds: str) -> Callable[[str], bool]:
    """Whether a method's parts, the posterior aside, are some kinds."""

    def test(method: str) -> bool:
        parts = set(_parts(method))
        return bool(parts & set(kinds)) and not parts & ({"mog", "moig", "igp-start"} - set(kinds))

    return test


# --- where results come from ----------------------------------------------------------------------


def build(page: Page) -> dict[str, Runs]:
    """This build's results on the page's data set: AE, and two targets with DGP and IGP."""
    recipe = RECIPES[str(page.choices["dataset"])]
    return {recipe: evidence.built(page, recipe, benchmarks.isotropic_build(page.scale))}


def groups(own: Group) -> dict[str, Group]:
    """The reference results at medium scale, where there are any, and this build's."""
    wanted = (benchmarks.AUTOENCODER, *benchmarks.isotropic("medium").every())
    known = {name: evidence.stored(name, wanted, "medium") for name in benchmarks.ISOTROPIC}
    reference = {recipe: runs for recipe, runs in known.items() if runs}
    return {**({"Reference": reference} if reference else {}), "This build": own}


def narrow() -> dict[str, Group]:
    """Reference results from narrow first weights at the highest target; empty without any."""
    high = benchmarks.isotropic("medium").high
    runs = evidence.stored(benchmarks.NARROW, high, "medium")
    return {"Reference": {benchmarks.NARROW: runs}} if runs else {}


def limited(group: Group, wanted: Sequence[str]) -> Group:
    """The recipes that an item is about; all of a group that has none of them."""
    return {recipe: runs for recipe, runs in group.items() if recipe in wanted} or group


def scale_of(group: Group) -> str:
    """The scale of a group's results.

    Raises:
        BadInput: there is none.
    """
    every = evidence.every(group)
    if not every:
        raise BadInput("a group without any result has no scale")
    return every[0].spec.scale


def targets(scale: str) -> list[str]:
    """Methods with a diagonal posterior and a target of the mean KL, the lowest first."""
    return [twins.diagonal for twins in benchmarks.isotropic(scale).targets.values()]


Rule = Callable[[Group], Finding | None]  # None where it has nothing to say of a group


def judges(item: str, question: str = "") -> Callable[[Callable[[Group], list[Check]]], Rule]:
    """Make a rule, which gives the checks of one group, one that gives the verdict.

    It says nothing of a group of which the rule has no check.

    Args:
        item: of the inventory; empty where a question of the page's own is asked.
        question: see :func:`companion.claims.verdicts.answer`.
    """

    def named(rule: Callable[[Group], list[Check]]) -> Rule:
        def verdict(group: Group) -> Finding | None:
            if not (checks := rule(group)):
                return None
            scale = scale_of(group)
            return decide(item, scale, checks) if item else answer(question, scale, checks)

        verdict.__name__, verdict.__doc__ = rule.__name__, rule.__doc__
        return verdict

    return named


def findings(
    shown: Shown, rules: Mapping[str, Rule], conditions: Mapping[str, Mapping[str, Premise]]
) -> list[Finding]:
    """What rules say of every group; an item that no group has results for is not run.

    Args:
        shown: all results.
        rules: item of the inventory -> its rule.
        conditions: of :func:`premises`.
    """
    every: list[Finding] = []
    absent = missing("results of DGP and IGP with the same seed", "at least two seeds")
    for item, rule in rules.items():
        some = [stands(rule, group, conditions[origin]) for origin, group in shown.items()]
        every += [one for one in some if one is not None] or [decide(item, "medium", [absent])]
    return every


def one_group(name: str, checks: Iterable[Check]) -> list[Check]:
    """Checks of one pair of methods, so that its premises are those of no other."""
    return [grouped(check, name) for check in checks]


def premises(page: Page, shown: Shown) -> dict[str, dict[str, Premise]]:
    """The premise of every data set of every origin; see :mod:`companion.claims.premises`."""
    return {origin: evidence.premises(page, group) for origin, group in shown.items()}


def boxes(conditions: Mapping[str, Mapping[str, Premise]]) -> dict[str, Premise]:
    """The premises of :func:`premises` with a title each, for the page's box."""
    return {
        f"{NAMES[recipe]}, {origin.lower()}": one
        for origin, group in conditions.items()
        for recipe, one in group.items()
    }


def stands(rule: Rule, group: Group, conditions: Mapping[str, Premise]) -> Finding | None:
    """What a rule says of a group, each check under the premises of the data sets that it names.

    A check names data sets before its first colon, several where it is an average over them, and
    stands under all where it names none.  A premise of one pair stays one of that pair.
    """
    finding = rule(group)
    if finding is None:
        return None
    by_name = {
        NAMES[recipe]: conditions[recipe] for recipe in group if not conditions[recipe].exempt
    }
    checks, used = [], dict[str, None]()
    for check in finding.checks:
        head = check.quantity.partition(":")[0]
        names = [name for name in by_name if name in head] or list(by_name)
        used |= dict.fromkeys(names)
        own = check.premise and check.groups
        checks.append(check if own else grouped(check, *names))
    premises_ = [part for name in used for part in by_name[name].checks(name)]
    return under(replace(finding, checks=tuple(checks)), premises_)


# --- measures -------------------------------------------------------------------------------------


def sentence_kl(result: Result) -> NDArray[np.float64] | None:
    """KL(q(z|x) || N(0, I)) of single sentences, (M,) nats; None for a point or another prior."""
    parts = _parts(result.spec.method)
    if "code_std" not in result.arrays or "mog" in parts or "moig" in parts:
        return None
    arrays = (result.arrays[name].astype(np.float64) for name in ("code_mean", "code_std"))
    mean, std = map(torch.from_numpy, arrays)
    return kl_to_standard_normal(mean, 2.0 * std.log()).numpy()


def _apart(result: Result, each: bool) -> float | None:
    """Distance of the KL from its target: mean over sentences, or that of the mean."""
    kl, target = sentence_kl(result), methods.parameters(result.spec.method).get("c")
    if kl is None or target is None:
        return None
    return float(np.abs(kl - target).mean() if each else abs(kl.mean() - target))


def _nats(name: str) -> Measure:
    """The logarithm of a perplexity, nats a word.

    A perplexity that is 100 higher is worlds apart from 5 and nothing beside 5000, and over seeds
    it is skewed: only its logarithm can be subtracted and averaged.
    """

    def measure(result: Result) -> float | None:
        value = result.metrics.get(name)
        return None if value is None else math.log(float(value))

    return measure


def _ratio(first: str, second: str) -> Measure:
    def measure(result: Result) -> float | None:
        one, other = result.metrics.get(first), result.metrics.get(second)
        return float(one) / float(other) if one is not None and other else None

    return measure


def _remainder(result: Result) -> float | None:
    """KL that is neither information nor an offset: the rest of KL(q(z) || p)."""
    kl, mi, offset = (MEASURES[name](result) for name in ("kl", "mi", "offset"))
    return None if kl is None or mi is None or offset is None else kl - mi - offset


MEASURES: dict[str, Measure] = {
    "rec": metric("reconstruction"),
    "kl": metric("kl"),
    "mi": metric("mutual_information"),
    "share": _ratio("mutual_information", "kl"),
    "aggregate": metric("aggregate_kl"),
    "offset": metric("squared_mean", 0.5),
    "rest": _remainder,
    "log_det": metric("log_det_covariance"),
    "au": metric("active_units"),
    "rank": metric("active_rank"),
    "bleu_1": metric("reconstruction_bleu_1"),
    "bleu_2": metric("reconstruction_bleu_2"),
    "bleu_4": metric("reconstruction_bleu_4"),
    "rouge_2": metric("reconstruction_rouge_sets_2", 100.0),
    "rouge_4": metric("reconstruction_rouge_sets_4", 100.0),
    "perceptron": metric("codes_perceptron", 100.0),
    "linear": metric("codes_linear", 100.0),
    "original": metric("agreement_original", 100.0),
    "reconstructed": metric("agreement_reconstruction", 100.0),
    "agreement": _ratio("agreement_reconstruction", "agreement_original"),
    "clean": metric("robust_clean", 100.0),
    "dropped": metric("robust_dropped", 100.0),
    "silhouette_codes": metric("silhouette_codes"),
    "silhouette_plane": metric("silhouette_plane"),
    "ends_bleu_1": metric("imputed_ends_bleu_1"),
    "ends_bleu_2": metric("imputed_ends_bleu_2"),
    "hidden_bleu_1": metric("imputed_hidden_bleu_1"),
    "hidden_bleu_2": metric("imputed_hidden_bleu_2"),
    "imputed_f1": metric("agreement_imputed", 100.0),
    **{
        f"{way}_{name}": metric(f"{way}_{name}", 100.0)
        for way in ("greedy", "sampled")
        for name in ("ended", "different", "empty", "unknown")
    },
    "real": metric("real_perplexity"),
    "forward": metric("greedy_forward_perplexity"),
    "reverse": metric("greedy_reverse_perplexity"),
    "forward_nats": _nats("greedy_forward_perplexity"),
    "reverse_nats": _nats("greedy_reverse_perplexity"),
    "sampled_forward": metric("sampled_forward_perplexity"),
    "sampled_reverse": metric("sampled_reverse_perplexity"),
    "few_0.001": metric("few_shot_0.001", 100.0),
    "few_0.01": metric("few_shot_0.01", 100.0),
    "few_0.1": metric("few_shot_0.1", 100.0),
    "few_1": metric("few_shot_1", 100.0),
}


# Of the codes of single sentences, which takes a while: for the table that shows them alone.
DISTANCES: dict[str, Measure] = {
    "apart_each": functools.partial(_apart, each=True),
    "apart_mean": functools.partial(_apart, each=False),
}


def data_of(runs: Runs) -> pd.DataFrame:
    """The long table of some results, with the measures of these pages."""
    return frame(runs, MEASURES)


class Pair(NamedTuple):
    """The same method with a diagonal and with an isotropic posterior, on one data set."""

    name: str  # data set and what holds the KL
    runs: Runs  # of the data set
    data: pd.DataFrame  # of the data set
    diagonal: str
    isotropic: str

    def less(self, measure: str) -> pd.Series:
        """IGP less DGP of a measure, seed by seed."""
        return differences(self.data, self.isotropic, self.diagonal, measure)


def pairs(group: Group, wanted: Sequence[str]) -> Iterator[Pair]:
    """Every method among those wanted that a data set has with both posteriors, same seeds."""
    for recipe, runs in group.items():
        data = data_of(runs)
        for method in wanted:
            twin = f"igp+{method}"
            seeds = [{r.spec.seed for r in runs.get(name, ())} for name in (method, twin)]
            if seeds[0] & seeds[1]:
                name = f"{NAMES[recipe]}, {called(method).removesuffix(', DGP')}"
                yield Pair(name, runs, data, method, twin)


# --- tables ---------------------------------------------------------------------------------------


def lost_items(names: Sequence[str], further: Mapping[str, str]) -> pd.DataFrame:
    """What our text of the paper no longer has, by item, with what the inventory does not list."""
    reasons = {**lost(), **further}
    rows = [{"item": f"igp-{name}", "what is lost": reasons[f"igp-{name}"]} for name in names]
    return pd.DataFrame(rows)


# AU is not invariant to rotations of the latent space, so it never stands alone.
BASE = (Column("MI", "mi", 2), Column("AU", "au", 1, printed="au"), Column("rank", "rank", 1))


def table(
    shown: Shown,
    recipe: str,
    wanted: Callable[[str], bool],
    columns: Sequence[Column],
    printed: Sequence[Mapping[str, str]] = (),
) -> pd.DataFrame:
    """One row a method of a recipe: mean (standard deviation over seeds).

    Args:
        shown: all results.
        recipe: the rows' own.
        wanted: whether a method has a row.
        columns: AU has rank and MI beside it in every table: put :data:`BASE` among them.
        printed: rows that stand first; a title that one lacks was not printed.
    """
    titles = [column.title for column in columns]
    blank = {"method": "", "from": "printed", **dict.fromkeys(titles, "not printed"), "seeds": ""}
    rows: list[dict[str, str]] = [blank | dict(first) for first in printed]
    further = {c.metric: DISTANCES[c.metric] for c in columns if c.metric in DISTANCES}
    for origin, group in shown.items():
        runs = {m: results for m, results in group.get(recipe, {}).items() if wanted(m)}
        data = frame(runs, MEASURES | further)
        for method, own in data.groupby("method", sort=False):
            name = {"method": called(str(method)), "from": origin.lower()}
            rows.append({**name, **cells(own, columns)})
    return pd.DataFrame(rows, columns=["method", "from", *titles, "seeds"])


def tables(
    shown: Shown, wanted: Callable[[str], bool], columns: Sequence[Column], lost: Sequence[str] = ()
) -> dict[str, pd.DataFrame]:
    """A table for every data set that has such methods: its name -> table.

    Args:
        shown, wanted, columns: as for :func:`table`.
        lost: recipes for which the paper printed such a table whose numbers our text lacks.
    """
    recipes = dict.fromkeys(recipe for group in shown.values() for recipe in group)
    made = {}
    for recipe in recipes:
        cells_ = {column.title: "lost" for column in columns if column.printed}
        first = [{"method": "every row", **cells_}] if recipe in lost and cells_ else []
        rows = table(shown, recipe, wanted, columns, first)
        if len(rows) > len(first):
            made[NAMES[recipe]] = rows
    return made


def apart_table(
    shown: Shown, wanted: Callable[[str], Sequence[str]], columns: Sequence[Column]
) -> pd.DataFrame:
    """IGP less DGP in every pair: mean (standard deviation over seeds).

    Args:
        shown: all results.
        wanted: scale -> methods with a diagonal posterior.
        columns: what is compared.
    """
    rows = []
    for origin, group in shown.items():
        for pair in pairs(group, wanted(scale_of(group))):
            name = {"pair": pair.name, "from": origin.lower()}
            rows.append({**name, **row(columns, pair.less)})
    return pd.DataFrame(rows, columns=["pair", "from", *(c.title for c in columns), "seeds"])
