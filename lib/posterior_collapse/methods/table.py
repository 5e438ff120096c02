"""The table of methods: a name is four choices.

To add a method, write one function here, and a card of its name in ``cards.toml``; if it needs a
new choice, add that to its slot.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

from posterior_collapse.errors import BadInput
from posterior_collapse.methods.entries import Method, register
from posterior_collapse.networks.base import Latent
from posterior_collapse.objectives import (
    ELBO,
    AutoGen,
    Constant,
    Cyclical,
    FreeBits,
    ImportanceWeighted,
    Linear,
    MutualPosterior,
    Reconstruction,
    ScaledELBO,
    Schedule,
    TargetKL,
    TargetKLPerSentence,
)
from posterior_collapse.posteriors import (
    BatchNormed,
    Constrained,
    DiversityUncertainty,
    Flow,
    Isotropic,
    MeanOfFactors,
    OwnEpochs,
    OwnGradient,
    OwnPhase,
    OwnThroughout,
    OwnUpdates,
    PointMass,
    Scaled,
    Spread,
    Untied,
)
from posterior_collapse.priors import (
    AutoRegressive,
    GaussianMixture,
    IsotropicGaussianMixture,
    Mixing,
    ScaledStandardNormal,
)
from posterior_collapse.training import Aggressive, Joint, SemiAmortised

_CARDS = tomllib.loads(Path(__file__).with_name("cards.toml").read_text(encoding="utf-8"))


def _row(make: Callable[..., Method]) -> Callable[..., Method]:
    """Enter a function under its own name, with what the card of that name tells a reader."""
    name = make.__name__.replace("_", "-")
    card = {"cost": "as a VAE: one pass of encoder and decoder"} | _CARDS[name]
    return register(name, **card)(make)


def _weight(anneal: float, value: float = 1.0) -> Schedule:
    """A KL weight of ``value``, from the beginning or after a linear rise from 0."""
    if not 0.0 <= anneal < float("inf"):
        raise BadInput(f"anneal is a number of epochs of at least 0, given {anneal}")
    return Linear(0.0, anneal, value) if anneal else Constant(value)


# Defaults are the papers' settings for text.


# Without a posterior, or without a latent variable.


@_row
def ae() -> Method:
    return Method(posterior=PointMass(), objective=Reconstruction())


@_row
def lstm_lm() -> Method:
    return Method(latent=Latent.NONE)


# The ELBO and its weight.


@_row
def vae() -> Method:
    return Method()


@_row
def anneal(start: float = 0.1, epochs: float = 0.0) -> Method:
    return Method(objective=ELBO(Linear(start, epochs or None)))


@_row
def cyclical(cycles: int = 4, epochs: float = 0.0, rise: float = 0.5) -> Method:
    return Method(objective=ELBO(Cyclical(cycles, epochs or None, rise)))


@_row
def beta_vae(beta: float = 0.4, anneal: float = 0.0) -> Method:
    return Method(objective=ELBO(_weight(anneal, beta)))


@_row
def autogen(m: float = 1.0, anneal: float = 0.0) -> Method:
    return Method(objective=AutoGen(m, _weight(anneal)))


# Other objectives.


@_row
def free_bits(threshold: float = 0.1, anneal: float = 0.0) -> Method:
    return Method(objective=FreeBits(threshold, _weight(anneal)))


@_row
def target_kl(c: float = 15.0, beta: float = 1.0, ramp: int = 5000, anneal: float = 0.0) -> Method:
    return Method(objective=TargetKL(c, ramp, _weight(anneal, beta)))


@_row
def target_kl_sentence(
    c: float = 15.0, beta: float = 1.0, ramp: int = 5000, anneal: float = 0.0
) -> Method:
    return Method(objective=TargetKLPerSentence(c, ramp, _weight(anneal, beta)))


@_row
def iwae(k: int = 5, anneal: float = 0.0) -> Method:
    return Method(objective=ImportanceWeighted(k, _weight(anneal)))


# The letters are those of Shen et al. 2021, whose tables have the method; its own code has them the
# other way round.  The code has gamma 1 for Yahoo, 2 for Yelp, and 0.5 for OMNIGLOT only.
@_row
def mae(
    gamma: float = 1.0, eta: float = 0.2, free_bits: float = 0.0, anneal: float = 0.0
) -> Method:
    return Method(objective=MutualPosterior(gamma, eta, free_bits, _weight(anneal)))


# Posteriors.


@_row
def delta_vae(delta: float = 0.1) -> Method:
    return Method(posterior=Constrained(delta))


@_row
def bn_vae(gamma: float = 0.6, shift: float | None = None) -> Method:
    return Method(posterior=BatchNormed(gamma, shift))


@_row
def du_vae(gamma: float = 0.5, p: float = 0.8) -> Method:  # Yelp; Yahoo: 0.6 and 0.8
    return Method(posterior=DiversityUncertainty(gamma, p))


@_row
def igp() -> Method:
    return Method(posterior=Isotropic())


@_row
def igp_start(epochs: float = 5.0) -> Method:
    return Method(posterior=Untied(epochs))


@_row
def vae_iaf(threshold: float = 0.0, anneal: float = 0.0) -> Method:
    weight = _weight(anneal)
    objective = FreeBits(threshold, weight) if threshold else ELBO(weight)
    return Method(posterior=Flow(), objective=objective)


@_row
def iaf_bn(gamma: float = 0.6) -> Method:
    return Method(posterior=Flow(base=BatchNormed(gamma, eps=1e-8, spread=Spread.SOFTPLUS)))


@_row
def du_iaf(gamma: float = 0.6, p: float = 0.7) -> Method:
    base = DiversityUncertainty(gamma, p, eps=1e-8, spread=Spread.SOFTPLUS)
    return Method(posterior=Flow(base=base))


@_row
def scale_vae(
    des_std: float = 0.7,
    f_epo: int | None = None,
    own_updates: int | None = None,
    anneal: float = 0.0,
) -> Method:
    return _scaled(Scaled(des_std, _own_phase(f_epo, own_updates)), anneal)


def _own_phase(f_epo: int | None, own_updates: int | None) -> OwnPhase:
    """Epochs or updates with factors of their own; the recipe's number of updates if unsaid."""
    if f_epo is not None and own_updates is not None:
        raise BadInput(
            f"f_epo or own_updates says how long batches have their own factors, given both: "
            f"{f_epo} and {own_updates}"
        )
    if f_epo is not None:
        return OwnEpochs(f_epo)
    return OwnUpdates(own_updates)


def _scaled(posterior: Scaled, anneal: float) -> Method:
    # The prior is the one from which the paper generates; a valid bound needs it (theory, S6).
    return Method(
        posterior=posterior,
        prior=ScaledStandardNormal(),
        objective=ScaledELBO(_weight(anneal)),
    )


@_row
def scale_vae_letter(
    des_std: float = 0.7,
    f_epo: int | None = None,
    own_updates: int | None = None,
    anneal: float = 0.0,
) -> Method:
    return _scaled(Scaled(des_std, _own_phase(f_epo, own_updates), MeanOfFactors()), anneal)


@_row
def scale_vae_own(des_std: float = 0.7, anneal: float = 0.0) -> Method:
    return _scaled(Scaled(des_std, OwnThroughout()), anneal)


@_row
def scale_vae_stopped(
    des_std: float = 0.7,
    f_epo: int | None = None,
    own_updates: int | None = None,
    anneal: float = 0.0,
) -> Method:
    own = _own_phase(f_epo, own_updates)
    return _scaled(Scaled(des_std, own, gradient=OwnGradient.STOPPED), anneal)


# Priors.


@_row
def delta_vae_ar(delta: float = 0.1) -> Method:
    return Method(prior=AutoRegressive.for_rate(delta))


@_row
def mog(components: int = 5) -> Method:
    return Method(prior=GaussianMixture(components))


@_row
def moig(components: int = 5) -> Method:
    return Method(prior=IsotropicGaussianMixture(components))


@_row
def mog_equal(components: int = 5) -> Method:
    return Method(prior=GaussianMixture(components, Mixing.EQUAL))


@_row
def moig_equal(components: int = 5) -> Method:
    return Method(prior=IsotropicGaussianMixture(components, Mixing.EQUAL))


# Training, and the decoder.


@_row
def lagging(max_inner: int = 99, window: int = 15) -> Method:
    return Method(training=Aggressive(max_inner, window))


@_row
def lagging_fixed(steps: int = 50) -> Method:
    if steps < 1:
        raise BadInput(f"steps is a whole number of at least 1, given {steps}")
    return Method(training=Aggressive(steps, steps))


@_row
def sa_vae(steps: int = 20, rate: float = 1.0, momentum: float = 0.5, clip: float = 5.0) -> Method:
    return Method(training=SemiAmortised(steps, rate, momentum, clip))


@_row
def encoder_rate(factor: float = 2.0) -> Method:
    return Method(training=Joint(factor))


@_row
def skip_vae() -> Method:
    return Method(latent=Latent.SKIP)
