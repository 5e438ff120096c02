"""From measurements to a finding in plain language, by rule.

The bounds are this project's, and each says why it is where it is.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from posterior_collapse.diagnosis.measures import Latent, Measure

# A tenth of a nat tells two equally likely alternatives apart in one example of seven at most.
NOTHING = 0.1
# A KL of less is no payment worth asking after.
PAID = 0.3
# A direction whose means vary by a tenth of the posterior's variance carries 0.05 nats.
SIGNAL = 0.1
# Standard deviations below a hundredth of the prior's: the code is a point.
POINT = math.log(1e-4)
# The share of log S from which MI says how many points were aggregated.
CAP = 0.9
# The KL weights of beta-VAEs begin beyond this; sampling noise stays below.
HEAVY = 1.5


class Facts(NamedTuple):
    """What rules read."""

    latent: Latent
    decoder: dict[str, Measure]  # empty where log p(x|z) is unknown
    level: Tensor  # (D,) average log-variance in units of the prior's variance

    @property
    def dimensions(self) -> int:
        """D."""
        return len(self.latent.signal)

    @property
    def directions(self) -> int:
        """Directions of the latent space that carry information, whatever its rotation."""
        return int((self.latent.signal >= SIGNAL).sum())

    def value(self, name: str) -> float:
        """A measure of posteriors and prior."""
        return self.latent.measures[name].value

    def below(self, name: str, bound: float) -> bool:
        """Whether a measure of the decoder is below a bound, two standard errors included."""
        measure = self.decoder.get(name)
        return measure is not None and measure.value + 2.0 * (measure.stderr or 0.0) < bound

    def above(self, name: str, bound: float) -> bool:
        """Whether a measure of the decoder is above a bound by two standard errors."""
        measure = self.decoder.get(name)
        return measure is not None and measure.value - 2.0 * (measure.stderr or 0.0) > bound

    @property
    def informative(self) -> bool:
        """Whether codes tell examples apart, as far as the encoder goes."""
        information, kl = self.value("mutual_information"), self.value("kl")
        return information >= NOTHING and information >= 0.1 * kl


class Finding(NamedTuple):
    """What is the matter, or that nothing is."""

    kind: str  # a key of :data:`ADVICE`
    sentence: str


class Advice(NamedTuple):
    """What the papers suggest, and the page with the evidence measured in this book."""

    text: str
    page: str


PRIOR_NOT_READ = (
    "the model's own prior is no distribution of torch, so N(0, I) was taken; give prior=... if it "
    "is another one"
)


def _nats(value: float) -> str:
    return f"{value:z.2f} nats"


def _is_point(facts: Facts) -> str | None:
    narrow = int((facts.level < POINT).sum())
    if 2 * narrow < facts.dimensions:
        return None
    return (
        f"the posterior is nearly a point in {narrow} of {facts.dimensions} dimensions (standard "
        "deviation below a hundredth of the prior's): this is an autoencoder, and draws from the "
        "prior are not what its decoder was trained on"
    )


def _is_offset(facts: Facts) -> str | None:
    information, kl = facts.value("mutual_information"), facts.value("kl")
    if kl < PAID or information >= 0.1 * kl:
        return None
    return (
        f"a KL without information: {_nats(kl)} are paid, {_nats(information)} of them tell "
        "examples apart; all posteriors sit at the same place away from the prior, or have the "
        "same width"
    )


def _is_inference_collapse(facts: Facts) -> str | None:
    if facts.informative or facts.value("kl") >= PAID or not facts.above("model_moves", NOTHING):
        return None
    return (
        f"inference collapse: {_at_prior(facts)}; the decoder's own posterior moves with the "
        f"example ({_nats(facts.decoder['model_moves'].value)} from the prior), the encoder's "
        "does not"
    )


def _is_model_collapse(facts: Facts) -> str | None:
    if facts.informative or facts.value("kl") >= PAID or not facts.below("model_moves", NOTHING):
        return None
    return (
        f"complete collapse: {_at_prior(facts)}, and the decoder gives every code the same "
        "likelihood, so that it is a model without a latent variable"
    )


def _is_collapse(facts: Facts) -> str | None:
    known = facts.above("model_moves", NOTHING) or facts.below("model_moves", NOTHING)
    if facts.informative or facts.value("kl") >= PAID or known:
        return None
    return (
        f"posterior collapse: {_at_prior(facts)}, and codes carry "
        f"{_nats(facts.value('mutual_information'))}"
    )


def _at_prior(facts: Facts) -> str:
    if facts.latent.kl is None:
        return f"the posteriors are {_nats(facts.value('kl'))} from the prior"
    here = int((facts.latent.kl < SIGNAL / 2.0).sum())
    return f"{here} of {facts.dimensions} dimensions sit at the prior"


def _is_deaf(facts: Facts) -> str | None:
    if not facts.informative or not facts.below("own_code", NOTHING):
        return None
    return (
        "the decoder does not listen: the encoder writes "
        f"{_nats(facts.value('mutual_information'))} into the code, and a code of another example "
        f"costs only "
        f"{_nats(facts.decoder['own_code'].value)}"
    )


def _weights(facts: Facts) -> tuple[Measure, Measure] | None:
    """The KL weights at which the scale of the widths, and of the means, is at its optimum."""
    weights = [facts.decoder.get(f"kl_weight_of_{part}") for part in ("std", "means")]
    known = [w for w in weights if w is not None and w.stderr is not None]
    return (known[0], known[1]) if facts.informative and len(known) == 2 else None


def _disagree(one: Measure, other: Measure) -> bool:
    noise = math.hypot(one.stderr or 0.0, other.stderr or 0.0)
    apart = abs(one.value - other.value)
    return apart > 4.0 * noise and apart > 0.5 * max(abs(one.value), abs(other.value))


def _is_unfinished(facts: Facts) -> str | None:
    weights = _weights(facts)
    if weights is None or facts.below("own_code", NOTHING) or not _disagree(*weights):
        return None
    return (
        "the encoder is not at its optimum for this decoder: its widths would be right for a KL "
        f"weight of {weights[0].value:.2f}, its means for one of {weights[1].value:.2f}; an "
        "encoder that is trained to the end has one weight for both"
    )


def _is_heavy(facts: Facts) -> str | None:
    weights = _weights(facts)
    if weights is None or facts.below("own_code", NOTHING) or _disagree(*weights):
        return None
    if any(w.value - 2.0 * (w.stderr or 0.0) < HEAVY for w in weights):
        return None
    return (
        "over-regularised: the encoder weighs the KL about "
        f"{sum(w.value for w in weights) / 2:.1f} times as much as the ELBO does, as in a "
        "beta-VAE, and information is lost to it"
    )


def _is_partial(facts: Facts) -> str | None:
    if not facts.informative or 4 * facts.directions > 3 * facts.dimensions:
        return None
    units = int(facts.value("active_units"))
    rotated = (
        f"; {units} dimensions are active, as the latent space is rotated: count directions"
        if units > facts.directions
        else ""
    )
    return (
        f"partial collapse: {facts.directions} of {facts.dimensions} directions of the latent "
        f"space carry information ({_nats(facts.value('mutual_information'))}){rotated}"
    )


def _is_mismatched(facts: Facts) -> str | None:
    apart, kl = facts.value("aggregate_kl"), facts.value("kl")
    if not facts.informative or apart < 0.5 or apart < 0.25 * kl:
        return None
    return (
        f"the codes as a whole do not follow the prior: {_nats(apart)} of a KL of {_nats(kl)} are "
        "paid for that and carry nothing, and draws from the prior fall between the codes"
    )


_RULES: tuple[tuple[str, Callable[[Facts], str | None]], ...] = (
    ("point", _is_point),
    ("offset", _is_offset),
    ("inference-collapse", _is_inference_collapse),
    ("model-collapse", _is_model_collapse),
    ("collapse", _is_collapse),
    ("deaf-decoder", _is_deaf),
    ("undertrained", _is_unfinished),
    ("over-regularised", _is_heavy),
    ("partial", _is_partial),
    ("mismatch", _is_mismatched),
)

_SUGGESTIONS = tomllib.loads(Path(__file__).with_name("advice.toml").read_text("utf-8"))["advice"]
ADVICE: dict[str, tuple[Advice, ...]] = {
    kind: tuple(Advice(one["text"], one["page"]) for one in _SUGGESTIONS if kind in one["findings"])
    for kind in (*dict(_RULES), "healthy")
}


def findings(facts: Facts) -> tuple[Finding, ...]:
    """Every rule that applies, the gravest first; ``healthy`` alone where none does."""
    results = [(kind, rule(facts)) for kind, rule in _RULES]
    applying = tuple(Finding(kind, text) for kind, text in results if text is not None)
    return applying or (Finding("healthy", _healthy(facts)),)


def _healthy(facts: Facts) -> str:
    listens = (
        f", and a code of another example costs {_nats(facts.decoder['own_code'].value)}"
        if "own_code" in facts.decoder
        else ""
    )
    return (
        f"no collapse: codes carry {_nats(facts.value('mutual_information'))} in "
        f"{facts.directions} of {facts.dimensions} directions{listens}"
    )


def advice(all_findings: tuple[Finding, ...]) -> tuple[Advice, ...]:
    """What the papers suggest for the findings, each once."""
    return tuple(dict.fromkeys(one for finding in all_findings for one in ADVICE[finding.kind]))


def limits(facts: Facts) -> tuple[str, ...]:
    """What these measurements can't tell."""
    cap = math.log(facts.latent.points)
    notes = []
    if facts.value("mutual_information") > CAP * cap:
        bound = facts.value("information_bound")
        notes.append(
            f"MI is at its cap of log {facts.latent.points} = {cap:.2f} nats; it may be "
            f"larger, up to {bound:.1f} nats: give more examples"
        )
    if not facts.decoder:
        notes.append(
            "without log p(x|z) nothing is known of the decoder: whether it listens, the "
            "likelihood, and whether the encoder lags behind"
        )
    elif "own_code" not in facts.decoder:
        notes.append("batches of one example: no other code to compare with")
    notes.append("whether the codes mean what you need: that takes labels, or a look at samples")
    return tuple(notes)
