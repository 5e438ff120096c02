"""What both pages on isotropic posteriors for text share: results, measures, tables, differences.

A group maps recipes to methods to results, one a seed.  ``Reference`` holds what the repository
keeps, ``This build`` what was trained while the site was made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from companion.build.parameters import Page
from companion.claims import evidence as results
from companion.claims import groups as benchmarks
from companion.claims.premises import Premise
from companion.claims.reference import Result
from companion.claims.reference import results as kept
from companion.claims.verdicts import Check, Finding, decide, grouped, missing, under
from companion.numbers import spread
from posterior_collapse import methods
from posterior_collapse.errors import BadInput
from posterior_collapse.gaussian import kl_to_standard_normal

__all__ = [
    "BASE",
    "MEASURES",
    "NAMES",
    "RECIPES",
    "Column",
    "Pair",
    "boxes",
    "build",
    "called",
    "differences",
    "findings",
    "groups",
    "kept_array",
    "limited",
    "narrow",
    "one_group",
    "paired",
    "pairs",
    "premises",
    "reference",
    "scale_of",
    "sentence_kl",
    "sources",
    "stands",
    "table",
    "tables",
    "values",
]

Found = Mapping[str, Sequence[Result]]  # method -> its results, one a seed
Group = Mapping[str, Found]  # recipe -> method -> results
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
    "igp-snli-narrow": "SNLI, narrow start",
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


# --- where results come from ----------------------------------------------------------------------


def build(page: Page) -> dict[str, dict[str, list[Result]]]:
    """This build's results on the page's data set: AE, and two targets with DGP and IGP."""
    recipe = RECIPES[str(page.choices["dataset"])]
    wanted = benchmarks.isotropic_build(page.scale)
    return {recipe: {method: results.this_build(page, recipe, method) for method in wanted}}


def reference() -> dict[str, dict[str, list[Result]]]:
    """The reference results at medium scale that the repository keeps; empty without any."""
    asked = benchmarks.isotropic("medium")
    wanted = ("ae", *(method for group in asked for method in group))
    found = {
        recipe: {method: kept(recipe, method, "medium") for method in wanted}
        for recipe in benchmarks.ISOTROPIC
    }
    some = {
        recipe: {method: group for method, group in rows.items() if group}
        for recipe, rows in found.items()
    }
    return {recipe: rows for recipe, rows in some.items() if rows}


def narrow() -> dict[str, Group]:
    """Reference results from narrow first weights at the highest target; empty without any."""
    high = benchmarks.isotropic("medium").targets[-2:]
    stored = {method: kept(benchmarks.NARROW, method, "medium") for method in high}
    found = {method: rows for method, rows in stored.items() if rows}
    return {"Reference": {benchmarks.NARROW: found}} if found else {}


def groups(own: Group) -> dict[str, Group]:
    """Reference results, where there are any, and this build's."""
    stored = reference()
    return {**({"Reference": stored} if stored else {}), "This build": own}


def limited(group: Group, wanted: Sequence[str]) -> Group:
    """The recipes that an item is about; all of a group that has none of them."""
    some = {recipe: found for recipe, found in group.items() if recipe in wanted}
    return some or group


def scale_of(group: Group) -> str:
    """The scale of a group's results.

    Raises:
        BadInput: there is none.
    """
    for found in group.values():
        for rows in found.values():
            for result in rows:
                return result.spec.scale
    raise BadInput("a group without any result has no scale")


def sources(shown: Shown) -> list[dict[str, Any]]:
    """Provenance of every result that a page shows."""
    return [
        result.provenance
        for group in shown.values()
        for found in group.values()
        for rows in found.values()
        for result in rows
    ]


def findings(
    shown: Shown,
    rules: Mapping[str, Callable[[Group], Finding | None]],
    held: Mapping[str, Mapping[str, Premise]],
) -> list[Finding]:
    """What rules say of every group; an item that no group has results for is not run.

    Args:
        shown: all results.
        rules: item of the inventory -> its rule.
        held: of :func:`premises`.
    """
    found = []
    for item, rule in rules.items():
        told = [
            one
            for origin, group in shown.items()
            if (one := stands(rule, group, held[origin])) is not None
        ]
        found += told or [_not_run(item)]
    return found


def one_group(name: str, checks: Iterable[Check]) -> list[Check]:
    """Checks of one pair of methods, so that its premises are those of no other."""
    return [grouped(check, name) for check in checks]


def premises(page: Page, shown: Shown) -> dict[str, dict[str, Premise]]:
    """The premise of every data set of every origin; see :mod:`companion.claims.premises`."""
    return {
        origin: {recipe: results.premise_for(page, found) for recipe, found in group.items()}
        for origin, group in shown.items()
    }


def boxes(held: Mapping[str, Mapping[str, Premise]]) -> dict[str, Premise]:
    """The premises of :func:`premises` with a title each, for the page's box."""
    return {
        f"{NAMES[recipe]}, {origin.lower()}": one
        for origin, group in held.items()
        for recipe, one in group.items()
    }


def stands(
    rule: Callable[[Group], Finding | None], group: Group, held: Mapping[str, Premise]
) -> Finding | None:
    """What a rule says of a group, each check under the premises of the data sets that it names.

    A check names data sets before its first colon, several where it is an average over them.
    """
    found = rule(group)
    if found is None:
        return None
    asked = {NAMES[recipe]: held[recipe] for recipe in group if not held[recipe].exempt}
    named = [_named(check, asked) for check in found.checks]
    used = dict.fromkeys(name for _, names in named for name in names)
    # A premise of one pair stays one of that pair.
    checks = tuple(
        check if check.premise and check.groups else grouped(check, *names)
        for check, names in named
    )
    told = replace(found, checks=checks)
    return under(told, [part for name in used for part in asked[name].checks(name)])


def _named(check: Check, asked: Iterable[str]) -> tuple[Check, list[str]]:
    """A check and the data sets that it names; all of them where it names none."""
    head = check.quantity.partition(":")[0]
    names = [name for name in asked if name in head]
    return check, names or list(asked)


def _not_run(item: str) -> Finding:
    told = "results of DGP and IGP with the same seed"
    return decide(item, "medium", [missing(told, "at least two seeds")])


# --- measures -------------------------------------------------------------------------------------


def kept_array(result: Result, name: str) -> NDArray[Any]:
    """An array of a result.

    Raises:
        BadInput: the result lacks it.
    """
    if name not in result.arrays:
        raise BadInput(f"{result.spec.label()} keeps no {name}; train it again")
    return result.arrays[name]


def sentence_kl(result: Result) -> NDArray[np.float64] | None:
    """KL(q(z|x) || N(0, I)) of single sentences, (M,) nats; None for a point or another prior."""
    parts = _parts(result.spec.method)
    if "code_std" not in result.arrays or "mog" in parts or "moig" in parts:
        return None
    mean = torch.from_numpy(np.asarray(result.arrays["code_mean"], dtype=np.float64))
    std = torch.from_numpy(np.asarray(result.arrays["code_std"], dtype=np.float64))
    return kl_to_standard_normal(mean, 2.0 * std.log()).numpy()


def _target(result: Result) -> float | None:
    return methods.parameters(result.spec.method).get("c")


def _apart_each(result: Result) -> float | None:
    kl, target = sentence_kl(result), _target(result)
    return None if kl is None or target is None else float(np.abs(kl - target).mean())


def _apart_mean(result: Result) -> float | None:
    kl, target = sentence_kl(result), _target(result)
    return None if kl is None or target is None else float(abs(kl.mean() - target))


def _metric(name: str, factor: float = 1.0) -> Callable[[Result], float | None]:
    def found(result: Result) -> float | None:
        value = result.metrics.get(name)
        return None if value is None else factor * float(value)

    return found


def _nats(name: str) -> Callable[[Result], float | None]:
    """The logarithm of a perplexity, nats a word.

    A perplexity that is 100 higher is worlds apart from 5 and nothing beside 5000, and over seeds
    it is skewed: only its logarithm can be subtracted and averaged.
    """

    def found(result: Result) -> float | None:
        value = result.metrics.get(name)
        return None if value is None else math.log(float(value))

    return found


def _ratio(first: str, second: str) -> Callable[[Result], float | None]:
    def found(result: Result) -> float | None:
        one, other = result.metrics.get(first), result.metrics.get(second)
        return float(one) / float(other) if one is not None and other else None

    return found


def _remainder(result: Result) -> float | None:
    """KL that is neither information nor an offset: the rest of KL(q(z) || p)."""
    parts = [MEASURES[name](result) for name in ("kl", "mi", "offset")]
    if any(part is None for part in parts):
        return None
    kl, mi, offset = (part or 0.0 for part in parts)
    return kl - mi - offset


MEASURES: dict[str, Callable[[Result], float | None]] = {
    "rec": _metric("reconstruction"),
    "kl": _metric("kl"),
    "mi": _metric("mutual_information"),
    "share": _ratio("mutual_information", "kl"),
    "aggregate": _metric("aggregate_kl"),
    "offset": _metric("squared_mean", 0.5),
    "rest": _remainder,
    "log_det": _metric("log_det_covariance"),
    "au": _metric("active_units"),
    "rank": _metric("active_rank"),
    "apart_each": _apart_each,
    "apart_mean": _apart_mean,
    "bleu_1": _metric("reconstruction_bleu_1"),
    "bleu_2": _metric("reconstruction_bleu_2"),
    "bleu_4": _metric("reconstruction_bleu_4"),
    "rouge_2": _metric("reconstruction_rouge_sets_2", 100.0),
    "rouge_4": _metric("reconstruction_rouge_sets_4", 100.0),
    "perceptron": _metric("codes_perceptron", 100.0),
    "linear": _metric("codes_linear", 100.0),
    "original": _metric("agreement_original", 100.0),
    "reconstructed": _metric("agreement_reconstruction", 100.0),
    "agreement": _ratio("agreement_reconstruction", "agreement_original"),
    "clean": _metric("robust_clean", 100.0),
    "dropped": _metric("robust_dropped", 100.0),
    "silhouette_codes": _metric("silhouette_codes"),
    "silhouette_plane": _metric("silhouette_plane"),
    "ends_bleu_1": _metric("imputed_ends_bleu_1"),
    "ends_bleu_2": _metric("imputed_ends_bleu_2"),
    "hidden_bleu_1": _metric("imputed_hidden_bleu_1"),
    "hidden_bleu_2": _metric("imputed_hidden_bleu_2"),
    "imputed_f1": _metric("agreement_imputed", 100.0),
    **{
        f"{way}_{name}": _metric(f"{way}_{name}", 100.0)
        for way in ("greedy", "sampled")
        for name in ("ended", "different", "empty", "unknown")
    },
    "real": _metric("real_perplexity"),
    "forward": _metric("greedy_forward_perplexity"),
    "reverse": _metric("greedy_reverse_perplexity"),
    "forward_nats": _nats("greedy_forward_perplexity"),
    "reverse_nats": _nats("greedy_reverse_perplexity"),
    "sampled_forward": _metric("sampled_forward_perplexity"),
    "sampled_reverse": _metric("sampled_reverse_perplexity"),
    "few_0.001": _metric("few_shot_0.001", 100.0),
    "few_0.01": _metric("few_shot_0.01", 100.0),
    "few_0.1": _metric("few_shot_0.1", 100.0),
    "few_1": _metric("few_shot_1", 100.0),
}


def values(rows: Sequence[Result], name: str) -> list[float]:
    """A measure of each result that has it, one a seed; what is not finite is left out."""
    found = [MEASURES[name](result) for result in rows]
    return [value for value in found if value is not None and math.isfinite(value)]


def paired(found: Found, first: str, second: str, name: str) -> list[float]:
    """Difference first - second of a measure, seed by seed; seeds that one lacks are left out."""
    measure = MEASURES[name]
    others = {result.spec.seed: measure(result) for result in found.get(second, ())}
    both = [(measure(r), others.get(r.spec.seed)) for r in found.get(first, ())]
    pairs_ = [(a, b) for a, b in both if a is not None and b is not None]
    return [a - b for a, b in pairs_ if math.isfinite(a - b)]


class Pair(NamedTuple):
    """The same method with a diagonal and with an isotropic posterior, on one data set."""

    told: str  # data set and what holds the KL
    found: Found
    diagonal: str
    isotropic: str

    def less(self, name: str) -> list[float]:
        """IGP less DGP of a measure, seed by seed."""
        return paired(self.found, self.isotropic, self.diagonal, name)


def pairs(group: Group, wanted: Sequence[str]) -> Iterator[Pair]:
    """Every method among those wanted that a data set has with both posteriors, same seeds."""
    for recipe, found in group.items():
        for method in wanted:
            twin = f"igp+{method}"
            seeds = [{r.spec.seed for r in found.get(name, ())} for name in (method, twin)]
            if seeds[0] & seeds[1]:
                told = f"{NAMES[recipe]}, {called(method).removesuffix(', DGP')}"
                yield Pair(told, found, method, twin)


# --- tables ---------------------------------------------------------------------------------------


class Column(NamedTuple):
    """A column of a table of results."""

    title: str
    measure: str
    digits: int
    printed: str = ""  # column of the printed table


# AU is not invariant to rotations of the latent space, so it never stands alone.
BASE = (
    Column("MI", "mi", 2),
    Column("AU", "au", 1, "au"),
    Column("rank", "rank", 1),
)


def _rows(origin: str, found: Found, columns: Sequence[Column]) -> list[dict[str, str]]:
    return [
        {
            "method": called(method),
            "from": origin.lower(),
            **{one.title: spread(values(rows, one.measure), one.digits) for one in columns},
            "seeds": str(len(rows)),
        }
        for method, rows in found.items()
    ]


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
    rows: list[dict[str, str]] = []
    for row in printed:
        blank = dict.fromkeys([one.title for one in columns], "not printed")
        rows.append({"method": "", "from": "printed", **blank, "seeds": "", **row})
    for origin, group in shown.items():
        found = {m: r for m, r in group.get(recipe, {}).items() if wanted(m)}
        rows += _rows(origin, found, columns)
    heads = ["method", "from", *(one.title for one in columns), "seeds"]
    return pd.DataFrame(rows, columns=heads)


def tables(
    shown: Shown,
    wanted: Callable[[str], bool],
    columns: Sequence[Column],
    lost: Sequence[str] = (),
) -> dict[str, pd.DataFrame]:
    """A table for every data set that has such methods: its name -> table.

    Args:
        shown, wanted, columns: as for :func:`table`.
        lost: recipes for which the paper printed such a table whose numbers our text lacks.
    """
    recipes = dict.fromkeys(recipe for group in shown.values() for recipe in group)
    made = {}
    for recipe in recipes:
        gone = {one.title: "lost" for one in columns if one.printed}
        first = [{"method": "every row", **gone}] if recipe in lost and gone else []
        rows = table(shown, recipe, wanted, columns, first)
        if len(rows) > len(first):
            made[NAMES[recipe]] = rows
    return made


def differences(
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
            cells = {one.title: spread(pair.less(one.measure), one.digits) for one in columns}
            seeds = str(len(pair.less("rec")))
            rows.append({"pair": pair.told, "from": origin.lower(), **cells, "seeds": seeds})
    return pd.DataFrame(rows, columns=["pair", "from", *(c.title for c in columns), "seeds"])
