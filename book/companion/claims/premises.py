"""Whether a recipe at a scale can tell methods apart: its premise.

Methods against posterior collapse can be compared where there is something to collapse.
The premise of a recipe at a scale has three parts: an autoencoder uses its code, the plain VAE
collapses, and a positive control, a method with a small weight on the KL, carries information.
Where one of them is not met, nothing that a method does there says anything about a paper's claim:
the network may be dead, the data may leave nothing for a code to say, or there may be no collapse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from companion.claims.groups import AGGRESSIVE, AUTOENCODER, BETA, LANGUAGE_MODEL, LOW_BETA
from companion.claims.groups import VAE as PLAIN
from companion.claims.reference import Result, results
from companion.claims.table import Runs
from companion.claims.verdicts import Check, grouped, premise, stated
from posterior_collapse.errors import BadInput

# Methods that let information through by a small weight or a target of the KL.  One that carries
# information shows that the networks and the data can; the best of those that were run counts.
CONTROLS = (
    BETA,
    LOW_BETA,
    "beta-vae(beta=0.1)",
    "beta-vae(beta=0.5)",
    f"beta-vae(beta={1 / 3})",
    "target-kl(c=3, ramp=1000)",
)
METHODS = (LANGUAGE_MODEL, AUTOENCODER, PLAIN, *CONTROLS)  # whose results a premise asks for

LEAST_GAIN, LEAST_SHARE = 3.0, 0.08  # nats, and share of the NLL, that a code must save
COLLAPSED, COLLAPSED_SHARE = 0.3, 0.1  # nats, and share of the cap of MI, that count as collapse
CARRIED = 1.0  # nats that the positive control carries

_TARGETS = ("target-kl(", "beta-vae(")  # what may stand as a control, by its name


@dataclass(frozen=True)
class Part:
    """One part of a premise."""

    name: str
    rule: str
    numbers: str  # in words
    holds: bool | None  # None where results are missing

    def check(self, group: str = "") -> Check:
        """The part as a premise of a group of checks."""
        name = f"{group}: {self.name}" if group else self.name
        check = premise(stated(name, self.rule, self.holds, self.numbers))
        return grouped(check, group) if group else check


@dataclass(frozen=True)
class Premise:
    """The premise of a recipe at a scale, with its numbers."""

    recipe: str
    scale: str
    parts: tuple[Part, ...]
    used: tuple[Result, ...] = field(
        default=(), repr=False, compare=False
    )  # what its numbers are of

    @property
    def holds(self) -> bool:
        """Whether every part is met; of one that was not shown nothing says that it is."""
        return all(part.holds is True for part in self.parts)

    @property
    def exempt(self) -> bool:
        """Whether nothing is asked: ``smoke`` decides nothing, so its premise need not be met."""
        return self.scale == "smoke"

    @property
    def word(self) -> str:
        """Whether it is met, in a word or two."""
        if self.exempt:
            return "not asked"
        if self.holds:
            return "met"
        return "not met" if any(part.holds is False for part in self.parts) else "not shown"

    @property
    def sentence(self) -> str:
        """Whether it is met and why not, in one line."""
        where = f"{self.recipe} at {self.scale} scale"
        if self.exempt:
            return f"{where} decides nothing, so no premise is asked of it"
        if self.holds:
            return f"{where} can tell methods apart: its premise is met"
        failed = [part.name for part in self.parts if part.holds is False]
        absent = [part.name for part in self.parts if part.holds is None]
        reasons = [f"not met: {'; '.join(failed)}"] * bool(failed)
        reasons += [f"not shown: {'; '.join(absent)}"] * bool(absent)
        return f"{where} can't tell methods apart ({', '.join(reasons)})"

    def checks(self, group: str = "") -> list[Check]:
        """The parts as premises of a group of checks."""
        return [part.check(group) for part in self.parts]


def _values(group: Sequence[Result], name: str) -> list[float]:
    """A metric of the seeds that have it."""
    return [float(v) for result in group if (v := result.metrics.get(name)) is not None]


def _mean(group: Sequence[Result], name: str) -> float | None:
    """Average of a metric over the seeds that have it."""
    values = _values(group, name)
    return float(np.mean(values)) if values else None


def _dimensions(result: Result) -> int:
    """Of z, as the run was made: a recipe may have changed since."""
    setup = result.provenance.get("setup") or {}
    return int(setup.get("latent_dim") or result.spec.setup.latent_dim)


def _seeds(group: Sequence[Result], name: str) -> str:
    """How many seeds are in an average, in words."""
    count = len(_values(group, name))
    return f"{count} {'seed' if count == 1 else 'seeds'}"


def _autoencoder(runs: Runs) -> Part:
    """(a) The autoencoder uses its code."""
    name = "the autoencoder uses its code"
    rule = (
        f"all units active; reconstruction {LEAST_GAIN:g} nats or {LEAST_SHARE:.0%} below the NLL "
        "of the model without latent"
    )
    autoencoders, models = runs.get(AUTOENCODER, ()), runs.get(LANGUAGE_MODEL, ())
    loss, units = _mean(autoencoders, "reconstruction"), _mean(autoencoders, "active_units")
    without = _mean(models, "nll")
    if loss is None or units is None or without is None:
        absent = [m for m in (AUTOENCODER, LANGUAGE_MODEL) if not runs.get(m)]
        return Part(name, rule, f"no results of {' and '.join(absent) or 'these measures'}", None)
    dimensions = _dimensions(autoencoders[0])
    gain = without - loss
    numbers = (
        f"{units:.1f} of {dimensions} units; reconstruction {loss:.1f}, NLL without latent "
        f"{without:.1f} ({_seeds(autoencoders, 'reconstruction')})"
    )
    enough = gain >= LEAST_GAIN or gain >= LEAST_SHARE * without
    return Part(name, rule, numbers, units >= dimensions and enough)


def _collapse(runs: Runs) -> Part:
    """(b) The plain VAE collapses."""
    name = "the plain VAE collapses"
    group = runs.get(PLAIN, ())
    information = _mean(group, "mutual_information")
    points = _mean(group, "mutual_information_points")
    cap = math.log(points) if points else None
    bound = COLLAPSED if cap is None else max(COLLAPSED, COLLAPSED_SHARE * cap)
    rule = f"MI below {bound:.2f} nats ({COLLAPSED:g}, or a tenth of its cap)"
    if information is None:
        return Part(name, rule, f"no results of {PLAIN}", None)
    return Part(
        name,
        rule,
        f"MI {information:z.2f} ({_seeds(group, 'mutual_information')})",
        information < bound,
    )


def is_control(method: str) -> bool:
    """Whether a method may stand as the positive control: a weight or a target of the KL alone."""
    return "+" not in method and method.startswith(_TARGETS)


def _control(runs: Runs) -> Part:
    """(c) A positive control carries information."""
    name = "a positive control carries information"
    return _above(name, runs, is_control, "a beta-VAE or a target KL")


def _above(name: str, runs: Runs, wanted: Callable[[str], bool], methods: str) -> Part:
    """Of the methods that are wanted, the best one carries information."""
    rule = f"MI above {CARRIED:g} nat"
    known = {
        method: information
        for method, group in runs.items()
        if wanted(method)
        if (information := _mean(group, "mutual_information")) is not None
    }
    if not known:
        return Part(name, rule, f"no results of {methods}", None)
    best = max(known, key=lambda method: known[method])
    numbers = f"MI {known[best]:z.2f} with {best} ({_seeds(runs[best], 'mutual_information')})"
    return Part(name, rule, numbers, known[best] > CARRIED)


def gathered(runs: Runs) -> Premise:
    """The premise of a group of one recipe's results, with what the repository keeps beside them.

    Reference results are completed by those of :data:`METHODS` at the same scale.  This build's
    stand alone: what another build has trained says nothing about this one.

    Raises:
        BadInput: no results, or of several recipes or scales.
    """
    every = [result for group in runs.values() for result in group]
    if not every:
        raise BadInput("a group without any result has no premise")
    if any(result.provenance.get("kind") == "this build" for result in every):
        return premise_of(runs)
    spec = every[0].spec
    beside = {method: results(spec.recipe, method, spec.scale) for method in METHODS}
    known = {method: group for method, group in {**beside, **runs}.items() if group}
    return premise_of(known)


def premise_of(runs: Runs, recipe: str = "", scale: str = "") -> Premise:
    """The premise of a recipe at a scale, from its results; averages are over the seeds there are.

    Args:
        runs: results of one recipe at one scale, by method; those of :data:`METHODS` are asked.
        recipe, scale: their names; taken from the results where there are any.

    Raises:
        BadInput: results of several recipes or scales, or none and no names.
    """
    recipe, scale = _named(runs, recipe, scale)
    wanted = {LANGUAGE_MODEL, AUTOENCODER, PLAIN}
    used = [r for m, group in runs.items() if m in wanted or is_control(m) for r in group]
    return Premise(
        recipe, scale, (_autoencoder(runs), _collapse(runs), _control(runs)), tuple(used)
    )


def _named(runs: Runs, recipe: str, scale: str) -> tuple[str, str]:
    """Recipe and scale of results, or what was given where there are none."""
    named = {(r.spec.recipe, r.spec.scale) for group in runs.values() for r in group}
    if len(named) > 1:
        raise BadInput(f"a premise is about one recipe at one scale, given {sorted(named)}")
    if not named and not (recipe and scale):
        raise BadInput("a premise without any result needs the names of recipe and scale")
    return next(iter(named)) if named else (recipe, scale)


def premise_of_sequences(runs: Runs) -> Premise:
    """The premise of He et al.'s synthetic sequences at a scale: a collapse, and what is without.

    Basic training collapses, and aggressive training of the same networks carries information,
    which shows that they and the data can. No autoencoder stands beside them: these data leave a
    scalar z some 1.5 nats to say, which is less than an autoencoder of text has to save.
    Where a claim is itself that aggressive training prevents collapse it must not stand under this.

    Args:
        runs: results of one recipe at one scale; those of the plain VAE and of aggressive
            training are asked.

    Raises:
        BadInput: results of several recipes or scales, or none.
    """
    recipe, scale = _named(runs, "", "")
    name = "aggressive training carries information"
    carried = _above(name, runs, lambda method: method == AGGRESSIVE, AGGRESSIVE)
    used = [r for m, group in runs.items() if m in (PLAIN, AGGRESSIVE) for r in group]
    return Premise(recipe, scale, (_collapse(runs), carried), tuple(used))
