"""Results that a page asks for: this build's runs, and the reference results beside them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from companion.build.parameters import Page
from companion.claims import groups as benchmarks
from companion.claims import verdicts
from companion.claims.premises import Premise, gathered, is_control
from companion.claims.reference import Result, results
from companion.claims.table import Runs
from companion.claims.verdicts import Check, Finding, Outcome, premise, side, stated
from posterior_collapse.errors import BadInput
from posterior_collapse.runs import Run, Spec, train_or_load

Nested = Mapping[str, "Nested"] | Sequence[Result]  # results by method, or groups of such groups

COLLAPSE = 0.05  # nats of mutual information; a run with no more has collapsed


def collapsed(result: Result) -> bool:
    """Whether the codes hold next to nothing that a decoder could use."""
    return float(result.metrics["mutual_information"]) <= COLLAPSE


def _collapses(group: Sequence[Result], test: Callable[[Result], bool]) -> tuple[int, int]:
    """Seeds of which a run has collapsed, and all of them."""
    seeds = {result.spec.seed for result in group}
    return len({result.spec.seed for result in group if test(result)}), len(seeds)


def alive(name: str, group: Sequence[Result], test: Callable[[Result], bool] = collapsed) -> Check:
    """No seed of a model has collapsed; failed where at least half of several have.

    It is asked of every seed, not of a mean: many good seeds would hide one that collapsed.

    Args:
        name: of the model, for readers.
        group: its results, several of a seed allowed.
        test: whether one has collapsed, where the mutual information alone does not say.
    """
    gone, seeds = _collapses(group, test)
    holds = True if not gone else False if seeds > 1 and 2 * gone >= seeds else None
    return stated(f"{name}: seeds that collapsed", "none", holds, f"{gone} of {seeds}")


def earned(living: Check, checks: Sequence[Check]) -> list[Check]:
    """Central checks of what a claim praises, where it is alive.

    A model that collapsed may be quick, or have broad or varied samples, without earning it.
    Then that it is not alive decides, and the checks inform.

    Args:
        living: of :func:`alive`.
        checks: what else is claimed of it.
    """
    alive_ = living.outcome is Outcome.HOLDS
    return [living, *(checks if alive_ else map(side, checks))]


def standing(
    name: str, group: Sequence[Result], test: Callable[[Result], bool] = collapsed
) -> Check:
    """Premise that no seed of a model has collapsed, as for :func:`alive`.

    It is one of what a claim compares with, or measures from.
    """
    gone, seeds = _collapses(group, test)
    return premise(stated(f"{name}: seeds that collapsed", "none", not gone, f"{gone} of {seeds}"))


def controls(page: Page, recipe: str, known: Collection[str]) -> dict[str, list[Result]]:
    """This build's runs that the premise of a recipe asks for, beside those that a page has.

    None at smoke scale, of which no premise is asked.

    Args:
        page: gives scale and seeds.
        recipe: their own.
        known: methods that the page has; a control among them makes another needless.
    """
    carried = any(map(is_control, known))
    needed = [m for m in benchmarks.PREMISE if m not in known and not (carried and is_control(m))]
    return {m: this_build(page, recipe, m) for m in needed} if page.scale != "smoke" else {}


def premise_for(page: Page, runs: Runs) -> Premise:
    """The premise of a group of one recipe's results, with the runs that it needs.

    Raises:
        BadInput: no results, or of several recipes or scales.
    """
    known = {method: group for method, group in runs.items() if group}
    built = [r.spec for group in known.values() for r in group if _built(r)]
    beside = controls(page, built[0].recipe, known) if built else {}
    return gathered({**beside, **known})


def _built(result: Result) -> bool:
    return result.provenance.get("kind") == "this build"


def under(findings: Iterable[Finding | None], condition: Premise | None) -> list[Finding]:
    """Findings under the premise of the recipe that their results are of.

    Args:
        findings: None where a rule has nothing to say.
        condition: None where no premise is asked, as at the paper's own scale of synthetic data.
    """
    checks = [] if condition is None or condition.exempt else condition.checks()
    return [verdicts.under(one, checks) for one in findings if one is not None]


def premises(page: Page, groups: Mapping[str, Runs]) -> dict[str, Premise]:
    """The premise of every group of results, by its title; see :mod:`companion.claims.premises`."""
    return {title: premise_for(page, runs) for title, runs in groups.items()}


Rule = Callable[[Runs], Finding | None]  # None where a rule has nothing to say


def findings(
    rules: Sequence[Rule], groups: Mapping[str, Runs], conditions: Mapping[str, Premise]
) -> list[Finding]:
    """What rules say of every group of results, under its premise."""
    return [
        one
        for title, runs in groups.items()
        for one in under((rule(runs) for rule in rules), conditions[title])
    ]


# --- where results come from ----------------------------------------------------------------------


def from_run(run: Run) -> Result:
    """A stored run in the form that pages show."""
    origin = {**run.provenance, "kind": "this build"}
    return Result(run.spec, run.metrics, run.history, run.arrays, origin, [])


def runs(page: Page, recipe: str, method: str) -> list[Run]:
    """The page's runs of a method, one per seed, trained where they are not in the store.

    Raises:
        BadInput: the recipe lacks the page's scale, with the nearest one.
    """
    specs = [Spec(recipe, method, page.scale, seed) for seed in page.seeds]
    return [train_or_load(spec, page.device) for spec in specs]


def this_build(page: Page, recipe: str, method: str) -> list[Result]:
    """As :func:`runs`, in the form that pages show."""
    return [from_run(run) for run in runs(page, recipe, method)]


def built(page: Page, recipe: str, methods: Iterable[str]) -> dict[str, list[Result]]:
    """This build's results of some methods."""
    return {method: this_build(page, recipe, method) for method in methods}


def stored(recipe: str, methods: Iterable[str], scale: str) -> dict[str, list[Result]]:
    """The reference results of some methods; those without any are left out."""
    groups = {method: results(recipe, method, scale) for method in methods}
    return {method: group for method, group in groups.items() if group}


def reference(recipe: str, method: str, scale: str = "paper") -> list[Result]:
    """Reference results that the repository keeps, one per seed.

    Raises:
        BadInput: there is none; ``make reference`` computes them.
    """
    group = results(recipe, method, scale)
    if not group:
        raise BadInput(
            f"the repository has no reference result for {recipe}, {method}, at {scale} scale; "
            "make reference computes it"
        )
    return group


def array(result: Result, name: str) -> NDArray[Any]:
    """An array of a result.

    Raises:
        BadInput: the result lacks it.
    """
    if name not in result.arrays:
        raise BadInput(f"{result.spec.label()} keeps no {name}; train it again")
    return result.arrays[name]


def every(groups: Nested) -> list[Result]:
    """All results of groups of groups, in their order."""
    if isinstance(groups, Mapping):
        return [result for group in groups.values() for result in every(group)]
    return list(groups)


def sources(groups: Nested) -> list[dict[str, Any]]:
    """Provenance of every result that a page shows."""
    return [result.provenance for result in every(groups)]


def histories(groups: Runs) -> dict[str, list[pd.DataFrame]]:
    """The training histories of groups of results, for figures."""
    return {name: [result.history for result in group] for name, group in groups.items()}
