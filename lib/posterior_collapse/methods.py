"""The table of methods: a name is four choices.

To add a method, write one function here; if it needs a new choice, add that to its slot.
A method is asked for by a string, ``"vae"`` or ``"lagging(window=10)"``.
Methods that use different slots are joined by a plus: ``"lagging+anneal"``, ``"igp+iwae(k=5)"``.
A schedule of the KL weight is no slot of its own, but part of an objective: joined with a method
that has another objective, ``"free-bits+anneal"``, annealing gives its schedule to that one.
There ``anneal=10`` says the same with the epochs of a linear rise from 0.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import cast

from posterior_collapse.digests import code_digest
from posterior_collapse.errors import BadInput, nearest
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
    Objective,
    Reconstruction,
    ScaledELBO,
    Schedule,
    TargetKL,
    TargetKLPerSentence,
)
from posterior_collapse.places import named_path
from posterior_collapse.posteriors import (
    BatchNormed,
    Constrained,
    Diagonal,
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
    Posterior,
    Scaled,
    Spread,
    Untied,
)
from posterior_collapse.priors import (
    AutoRegressive,
    GaussianMixture,
    IsotropicGaussianMixture,
    Mixing,
    Prior,
    ScaledStandardNormal,
    StandardNormal,
)
from posterior_collapse.training import Aggressive, Joint, SemiAmortised, Training

__all__ = [
    "Entry",
    "Method",
    "describe",
    "get",
    "names",
    "own_digests",
    "parameters",
    "register",
    "title",
]


OWN_VARIABLE = "POSTERIOR_COLLAPSE_METHODS"  # names a file with methods of a reader's own


@dataclass(frozen=True)
class Method:
    """Four choices, and how the decoder sees z; everything else belongs to the recipe."""

    posterior: Posterior = Diagonal()
    prior: Prior = StandardNormal()
    objective: Objective = ELBO(Constant(1.0))
    training: Training = Joint()
    latent: Latent = Latent.INPUT


@dataclass(frozen=True)
class Entry:
    """A row of the table; what a reader is told about it is one short sentence a field."""

    name: str
    title: str
    paper: str
    equation: str
    make: Callable[..., Method]
    changes: str = ""  # what it changes in a VAE
    formula: str = ""  # LaTeX of what is maximised
    cost: str = ""  # of an update, against a VAE's
    promise: str = ""  # what its paper promises
    own: str = ""  # digest of the source of a reader's own method; empty for the library's


_TABLE: dict[str, Entry] = {}
_WRONG: list[BadInput] = []  # why a reader's own methods are not in the table


def _table() -> dict[str, Entry]:
    """The table, unless a reader's own methods are missing from it."""
    if _WRONG:
        raise _WRONG[0]
    return _TABLE


def register(
    name: str, title: str, paper: str, equation: str, **told: str
) -> Callable[[Callable[..., Method]], Callable[..., Method]]:
    """Enter a function that returns a :class:`Method` into the table.

    A reader's own function may be entered again, as where a notebook's cell is run again.

    Args:
        name, title, paper, equation: of the row.
        told: changes, formula, cost, promise: what a reader is told; see :class:`Entry`.

    Raises:
        BadInput: the name is taken; the source of a reader's own method cannot be read.
    """

    def enter(make: Callable[..., Method]) -> Callable[..., Method]:
        taken = _TABLE.get(name)
        again = taken is not None and taken.own and taken.make.__qualname__ == make.__qualname__
        if taken is not None and not again:
            raise BadInput(f'the method "{name}" is already in the table')
        file = make.__code__.co_filename
        # Now, while the file is what runs: later a reader may have edited it.
        own = "" if file == __file__ else code_digest(file)
        _TABLE[name] = Entry(name, title, paper, equation, make, **told, own=own)
        return make

    return enter


def names() -> list[str]:
    """Every method of the table."""
    return sorted(_table())


def _parse(text: str) -> tuple[str, dict[str, float]]:
    """``"a(b=1, c=0.5)"`` to its name and numbers; only literals are accepted."""
    name, bracket, rest = text.strip().partition("(")
    if not bracket:
        return name, {}
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("only name=value parameters are allowed")
        values = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        if len(values) < len(call.keywords):
            raise ValueError("a parameter is there twice")
    except (SyntaxError, ValueError) as error:
        raise BadInput(f'cannot read the method "{text}": {error}') from error
    wrong = {
        k: v for k, v in values.items() if isinstance(v, bool) or not isinstance(v, (int, float))
    }
    if wrong:
        raise BadInput(f'parameters of a method are numbers, given {wrong} in "{text}"')
    return name, values


def describe(text: str) -> Entry:
    """The row that a method string names; that of the first part of a joined one.

    Raises:
        BadInput: unknown name, with the nearest one.
    """
    name, _ = _parse(_parts(text)[0])
    if name not in (table := _table()):
        raise BadInput(nearest(name, table, "method"))
    return table[name]


def title(text: str) -> str:
    """Name for readers: titles of the parts, with the parameters that were given."""
    shown: list[str] = []
    for part in _parts(text):
        values = _parse(part)[1]
        given = ", ".join(f"{k} = {v:g}" for k, v in values.items())
        name = describe(part).title
        shown.append(
            (name.removeprefix("VAE + ") if shown else name) + (f" ({given})" if given else "")
        )
    return " + ".join(shown)


def own_digests(text: str) -> list[str]:
    """Digests of the sources of the reader's own methods among the parts of a method string."""
    found = {describe(part).own for part in _parts(text)}
    return sorted(found - {""})


def parameters(text: str) -> dict[str, float]:
    """The parameters that a method string gives, of all its parts."""
    return {name: value for part in _parts(text) for name, value in _parse(part)[1].items()}


def get(text: str) -> Method:
    """The choices that a method string names.

    Raises:
        BadInput: unknown name or parameter, with the nearest one; a value out of range; or parts
            that want the same slot.
    """
    made = [(part, _make(part)) for part in _parts(text)]
    plain = Method()
    chosen: dict[str, tuple[str, object]] = {}
    for part, method in made:
        for slot in fields(Method):
            choice = getattr(method, slot.name)
            if choice == getattr(plain, slot.name):
                continue
            if slot.name in chosen:
                joined = _annealed(chosen[slot.name][1], choice)
                if joined is not None:
                    chosen[slot.name] = (f"{chosen[slot.name][0]}+{part}", joined)
                    continue
                raise BadInput(
                    f'the parts of "{text}" both choose the {slot.name}: "{chosen[slot.name][0]}" '
                    f'and "{part}"; joined methods use different slots'
                )
            chosen[slot.name] = (part, choice)
    return replace(plain, **{name: choice for name, (_, choice) in chosen.items()})  # type: ignore[arg-type]


def _annealed(first: object, second: object) -> Objective | None:
    """An objective under the schedule of another one, which is the ELBO and nothing else.

    The weight rises to that which the objective has by itself.
    None where neither of the two is that: each wants something else of the objective.
    """
    for schedule, other in ((first, second), (second, first)):
        own = getattr(other, "weight", None)
        if not isinstance(schedule, ELBO) or not isinstance(own, Constant):
            continue
        weight = schedule.weight
        if isinstance(weight, Linear):
            weight = replace(weight, end=own.value)
        elif isinstance(weight, Constant) or own.value != 1.0:
            continue
        return cast(Objective, replace(other, weight=weight))  # type: ignore[type-var]
    return None


def _parts(text: str) -> list[str]:
    """The methods that a plus joins; one inside brackets, as in 1e+3, joins nothing."""
    return [part.strip() for part in re.split(r"\+(?![^(]*\))", text)]


def _make(text: str) -> Method:
    """The choices of one row."""
    entry = describe(text)
    _, values = _parse(text)
    allowed = inspect.signature(entry.make).parameters
    for parameter, value in values.items():
        if parameter not in allowed:
            raise BadInput(nearest(parameter, allowed, f"parameter of {entry.name}"))
        whole = allowed[parameter].annotation in (int, "int", "int | None")
        if whole and not float(value).is_integer():
            raise BadInput(f'{parameter} is a whole number, given {value} in "{text}"')
        if whole:
            values[parameter] = int(value)  # of 5.0, which torch takes for no shape
    return entry.make(**values)


def _weight(anneal: float, value: float = 1.0) -> Schedule:
    """A KL weight of ``value``, from the beginning or after a linear rise from 0."""
    if not 0.0 <= anneal < float("inf"):
        raise BadInput(f"anneal is a number of epochs of at least 0, given {anneal}")
    return Linear(0.0, anneal, value) if anneal else Constant(value)


# --- the table ------------------------------------------------------------------------------------
# Defaults are the papers' settings for text. Formulas are maximised.

_REC = r"\mathbb{E}_{q(z|x)}[\log p(x|z)]"
_KL = r"\mathrm{KL}(q(z|x) \,\|\, p(z))"
_ELBO = f"{_REC} - {_KL}"
_AS_VAE = "as a VAE: one pass of encoder and decoder"


# Without a posterior, or without a latent variable.


@register(
    "ae",
    "AE",
    "Shen et al. 2021, table 2; Zhang et al. 2021, section 4",
    "first term of (1)",
    changes="The posterior is a point, and there is no KL.",
    formula=r"\log p(x \,|\, z = \mu(x))",
    cost=_AS_VAE,
    promise="The best reconstruction; no likelihood and nothing to sample from.",
)
def _ae() -> Method:
    return Method(posterior=PointMass(), objective=Reconstruction())


@register(
    "lstm-lm",
    "LSTM-LM",
    "He et al. 2019, table 1",
    "no latent variable",
    changes="The decoder sees no latent variable: a plain autoregressive model.",
    formula=r"\log p(x)",
    cost="less than a VAE: nothing comes from the encoder",
    promise="An exact likelihood that a latent variable has to beat.",
)
def _lstm_lm() -> Method:
    return Method(latent=Latent.NONE)


# The ELBO and its weight.


@register(
    "vae",
    "VAE",
    "Kingma & Welling 2014; He et al. 2019, section 2.1",
    "(2)",
    changes="Nothing: diagonal Gaussian posterior, N(0, I) as prior, the ELBO, joint updates.",
    formula=_ELBO,
    cost="one pass of encoder and decoder, forward and backward",
    promise="A bound on the likelihood; with a strong decoder the posterior collapses.",
)
def _vae() -> Method:
    return Method()


@register(
    "anneal",
    "VAE + annealing",
    "Bowman et al. 2016; He et al. 2019, appendix B",
    "(2)",
    changes="The KL weight rises linearly to 1 in the first epochs.",
    formula=rf"{_REC} - \beta_t\, {_KL},\quad \beta_t \uparrow 1",
    cost=_AS_VAE,
    promise="The decoder learns to use z before the KL costs its full price.",
)
def _anneal(start: float = 0.1, epochs: float = 0.0) -> Method:
    return Method(objective=ELBO(Linear(start, epochs or None)))


@register(
    "cyclical",
    "Cyclical annealing",
    "Fu et al. 2019",
    "schedule of the weight",
    changes="The KL weight rises from 0 to 1 several times.",
    formula=rf"{_REC} - \beta_t\, {_KL},\quad \beta_t \text{{ in cycles}}",
    cost=_AS_VAE,
    promise="Each cycle starts from a code that is better than the last one's.",
)
def _cyclical(cycles: int = 4, epochs: float = 0.0, rise: float = 0.5) -> Method:
    return Method(objective=ELBO(Cyclical(cycles, epochs or None, rise)))


@register(
    "beta-vae",
    "β-VAE",
    "Higgins et al. 2017; He et al. 2019, table 1",
    "(2) with a weight",
    changes="The KL has a constant weight, below 1 against collapse.",
    formula=rf"{_REC} - \beta\, {_KL}",
    cost=_AS_VAE,
    promise="More information in z, at the price of a posterior away from the prior.",
)
def _beta_vae(beta: float = 0.4, anneal: float = 0.0) -> Method:
    return Method(objective=ELBO(_weight(anneal, beta)))


@register(
    "autogen",
    "AutoGen",
    "Mansbridge et al. 2018",
    "(9) for m = 1, (10)",
    changes="The reconstruction counts 1 + m times.",
    formula=rf"(1 + m)\, {_REC} - {_KL}",
    cost=_AS_VAE,
    promise="A bound for generating and reconstructing at once, which explains the KL weight.",
)
def _autogen(m: float = 1.0, anneal: float = 0.0) -> Method:
    return Method(objective=AutoGen(m, _weight(anneal)))


# Other objectives.


@register(
    "free-bits",
    "Free bits",
    "Kingma et al. 2016; Shen et al. 2021, table 1",
    "objective with free bits",
    changes="A dimension whose mean KL is below a threshold pays the threshold.",
    formula=rf"{_REC} - \sum_d \max(\lambda, \mathbb{{E}}_x \mathrm{{KL}}_d)",
    cost=_AS_VAE,
    promise="No dimension gains from a KL below the threshold.",
)
def _free_bits(threshold: float = 0.1, anneal: float = 0.0) -> Method:
    return Method(objective=FreeBits(threshold, _weight(anneal)))


@register(
    "target-kl",
    "Target KL",
    "Zhang et al. 2021, section 2; Prokhorov et al. 2019",
    "(2)",
    changes="The mean KL is drawn to a target C, which rises in the first updates.",
    formula=rf"{_REC} - \beta\, \bigl| \mathbb{{E}}_x {_KL} - C \bigr|",
    cost=_AS_VAE,
    promise="The KL is what one asks for.",
)
def _target_kl(c: float = 15.0, beta: float = 1.0, ramp: int = 5000, anneal: float = 0.0) -> Method:
    return Method(objective=TargetKL(c, ramp, _weight(anneal, beta)))


@register(
    "target-kl-sentence",
    "Target KL per sentence",
    "Zhang et al. 2021, code",
    "(2), inside the expectation",
    changes="The KL of every sentence is drawn to a target C.",
    formula=rf"{_REC} - \beta\, \mathbb{{E}}_x \bigl| {_KL} - C \bigr|",
    cost=_AS_VAE,
    promise="The KL of every sentence is what one asks for.",
)
def _target_kl_sentence(
    c: float = 15.0, beta: float = 1.0, ramp: int = 5000, anneal: float = 0.0
) -> Method:
    return Method(objective=TargetKLPerSentence(c, ramp, _weight(anneal, beta)))


@register(
    "iwae",
    "IWAE",
    "Burda et al. 2016; Zhang et al. 2021, section 4.2",
    "L_k of Burda et al.",
    changes="The bound averages k importance weights.",
    formula=r"\mathbb{E}_{z_{1..k} \sim q(z|x)} \log \frac{1}{k} \sum_i "
    r"\frac{p(x|z_i)\, p(z_i)}{q(z_i|x)}",
    cost="one pass of the encoder and k of the decoder",
    promise="A tighter bound, and more active units than a VAE.",
)
def _iwae(k: int = 5, anneal: float = 0.0) -> Method:
    return Method(objective=ImportanceWeighted(k, _weight(anneal)))


# The letters are those of Shen et al. 2021, whose tables have the method; its own code has them the
# other way round.
@register(
    "mae",
    "MAE",
    "Ma et al. 2019; Shen et al. 2021, table 1",
    "mutual posterior divergence",
    changes="Two terms push the posteriors of a batch apart, and evenly.",
    formula=rf"{_ELBO} + \gamma \sum_d \log \sigma(\mathbb{{E}}\, \mathrm{{KL}}_d(q_i \| q_j))"
    r" - \eta\, \mathrm{Std}(\mathrm{KL}(q_i \| q_j))",
    cost="as a VAE, and all pairs of a batch in the latent space",
    promise="Diverse and smooth posteriors, so informative ones.",
)
# The code has gamma 1 for Yahoo, 2 for Yelp, and 0.5 for OMNIGLOT only.
def _mae(
    gamma: float = 1.0, eta: float = 0.2, free_bits: float = 0.0, anneal: float = 0.0
) -> Method:
    return Method(objective=MutualPosterior(gamma, eta, free_bits, _weight(anneal)))


# Posteriors.


@register(
    "delta-vae",
    "δ-VAE",
    "Razavi et al. 2019; Shen et al. 2021, table 1",
    "section 2 of Razavi et al.",
    changes="The posterior cannot come nearer to the prior than δ nats in any dimension.",
    formula=rf"{_ELBO},\quad \mathrm{{KL}}_d \ge \delta",
    cost=_AS_VAE,
    promise="A KL of at least D δ nats, whatever the decoder.",
)
def _delta_vae(delta: float = 0.1) -> Method:
    return Method(posterior=Constrained(delta))


@register(
    "bn-vae",
    "BN-VAE",
    "Zhu et al. 2020; Shen et al. 2021, section 3.2",
    "batch norm of the means",
    changes="Batch norm with a fixed scale γ on the posterior means.",
    formula=rf"{_ELBO},\quad \mu_d = \gamma\, \frac{{\mu'_d - \mathbb{{E}} \mu'_d}}"
    r"{\mathrm{Std}(\mu'_d)} + \beta_d",
    cost="as a VAE, and a batch norm of D numbers",
    promise="A mean KL of at least D (γ² + β²) / 2.",
)
def _bn_vae(gamma: float = 0.6, shift: float | None = None) -> Method:
    return Method(posterior=BatchNormed(gamma, shift))


@register(
    "du-vae",
    "DU-VAE",
    "Shen et al. 2021, section 3.3",
    "(6), (9), algorithm 1",
    changes="Batch norm on the means, dropout and a floor on the variances.",
    formula=rf"{_ELBO},\quad \hat\mu_d = \gamma_d\, \frac{{\mu_d - \mathbb{{E}} \mu_d}}"
    r"{\mathrm{Std}(\mu_d)} + \beta_d,\ \hat\sigma_d^2 = g_d (\sigma_d^2 - \alpha) + \alpha",
    cost="as a VAE, and a batch norm and a dropout of D numbers",
    promise="Diverse posteriors with low uncertainty, without another loss term.",
)
def _du_vae(gamma: float = 0.5, p: float = 0.8) -> Method:  # Yelp; Yahoo: 0.6 and 0.8
    return Method(posterior=DiversityUncertainty(gamma, p))


@register(
    "igp",
    "IGP",
    "Zhang et al. 2021, section 3",
    "section 3",
    changes="One variance for all dimensions of a posterior.",
    formula=rf"{_ELBO},\quad q(z|x) = \mathcal{{N}}(\mu(x), \sigma^2(x) I)",
    cost=_AS_VAE,
    promise="More active units and better representations at the same KL.",
)
def _igp() -> Method:
    return Method(posterior=Isotropic())


@register(
    "igp-start",
    "VAE with IGP as initialiser",
    "Zhang et al. 2021, section 5.2",
    "section 5.2",
    changes="As IGP for some epochs; then every dimension has a variance of its own.",
    formula=rf"{_ELBO},\quad \sigma_d(x) = \sigma(x) \text{{ in the first epochs}}",
    cost=_AS_VAE,
    promise="Better reconstruction than a VAE's at the same KL.",
)
def _igp_start(epochs: float = 5.0) -> Method:
    return Method(posterior=Untied(epochs))


@register(
    "vae-iaf",
    "VAE-IAF",
    "Kingma et al. 2016; Shen et al. 2021",
    "section 3.4",
    changes="The posterior's draws go through an inverse autoregressive flow; free bits if asked.",
    formula=r"\mathbb{E}_{z^0 \sim q}[\log p(x|z^T) + \log p(z^T) - \log q(z^T|x)]",
    cost="as a VAE, and two masked perceptrons on z",
    promise="A posterior of any shape; with free bits one that is used.",
)
def _vae_iaf(threshold: float = 0.0, anneal: float = 0.0) -> Method:
    weight = _weight(anneal)
    objective = FreeBits(threshold, weight) if threshold else ELBO(weight)
    return Method(posterior=Flow(), objective=objective)


@register(
    "iaf-bn",
    "IAF + BN",
    "Shen et al. 2021, table 1",
    "section 4.1",
    changes="As VAE-IAF, with the batch norm of BN-VAE on the means of z⁰.",
    formula=r"\mathbb{E}_{z^0 \sim q}[\log p(x|z^T) + \log p(z^T) - \log q(z^T|x)]",
    cost="as VAE-IAF",
    promise="None: the comparison that shows that batch norm alone does not help a flow.",
)
def _iaf_bn(gamma: float = 0.6) -> Method:
    return Method(posterior=Flow(base=BatchNormed(gamma, eps=1e-8, spread=Spread.SOFTPLUS)))


@register(
    "du-iaf",
    "DU-IAF",
    "Shen et al. 2021",
    "(6), (9), section 3.4",
    changes="As VAE-IAF, with DU-VAE's batch norm and variance dropout on z⁰.",
    formula=r"\mathbb{E}_{z^0 \sim \hat q}[\log p(x|z^T) + \log p(z^T) - \log q(z^T|x)]",
    cost="as VAE-IAF",
    promise="The gains of DU-VAE with a flow.",
)
def _du_iaf(gamma: float = 0.6, p: float = 0.7) -> Method:
    base = DiversityUncertainty(gamma, p, eps=1e-8, spread=Spread.SOFTPLUS)
    return Method(posterior=Flow(base=base))


@register(
    "scale-vae",
    "Scale-VAE",
    "Song et al. 2024",
    "L_scale, algorithm 1",
    changes="The decoder sees means that are scaled up; the KL sees them as they are. The shared "
    "factor is des_std over the mean Std.",
    formula=r"\mathbb{E}_{\hat q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, \mathcal{N}(0, I)),"
    r"\quad \hat\mu_d = f_d\, \mu_d",
    cost=_AS_VAE,
    promise="More mutual information without a higher KL; the objective bounds no likelihood.",
)
def _scale_vae(
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


_L_SCALE = r"\mathbb{E}_{\hat q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, \mathcal{N}(0, I)),"


@register(
    "scale-vae-letter",
    "Scale-VAE, mean of factors",
    "Song et al. 2024",
    "L_scale, algorithm 1",
    changes="As Scale-VAE; the shared factor is the mean of the batches' factors.",
    formula=_L_SCALE + r"\quad \bar f_d = \mathbb{E}\, [\mathrm{des\_std} / \mathrm{Std}(\mu_d)]",
    cost=_AS_VAE,
    promise="The average as algorithm 1 is written; one batch without spread decides it.",
)
def _scale_vae_letter(
    des_std: float = 0.7,
    f_epo: int | None = None,
    own_updates: int | None = None,
    anneal: float = 0.0,
) -> Method:
    return _scaled(Scaled(des_std, _own_phase(f_epo, own_updates), MeanOfFactors()), anneal)


@register(
    "scale-vae-own",
    "Scale-VAE, own factors throughout",
    "Song et al. 2024, without the second phase",
    "L_scale",
    changes="As Scale-VAE, with a factor of its own for every batch to the end.",
    formula=_L_SCALE + r"\quad f_d = \mathrm{des\_std} / \mathrm{Std}(\mu_d)",
    cost=_AS_VAE,
    promise="None: the comparison that shows what the shared factor is for.",
)
def _scale_vae_own(des_std: float = 0.7, anneal: float = 0.0) -> Method:
    return _scaled(Scaled(des_std, OwnThroughout()), anneal)


@register(
    "scale-vae-stopped",
    "Scale-VAE, gradient of f stopped",
    "Song et al. 2024",
    "L_scale, algorithm 1",
    changes="As Scale-VAE, with no gradient through a batch's own factor.",
    formula=_L_SCALE + r"\quad \nabla f_d = 0",
    cost=_AS_VAE,
    promise="None: the other reading of algorithm 1, which does not say where gradients go.",
)
def _scale_vae_stopped(
    des_std: float = 0.7,
    f_epo: int | None = None,
    own_updates: int | None = None,
    anneal: float = 0.0,
) -> Method:
    own = _own_phase(f_epo, own_updates)
    return _scaled(Scaled(des_std, own, gradient=OwnGradient.STOPPED), anneal)


# Priors.


@register(
    "delta-vae-ar",
    "δ-VAE, AR(1) prior",
    "Razavi et al. 2019",
    "section 2 of Razavi et al.",
    changes="The prior is an AR(1) process that no diagonal posterior can match.",
    formula=rf"{_ELBO},\quad p(z_d | z_{{d-1}}) = \mathcal{{N}}(\alpha z_{{d-1}}, 1 - \alpha^2)",
    cost=_AS_VAE,
    promise="A KL of at least D δ nats, whatever the decoder.",
)
def _delta_vae_ar(delta: float = 0.1) -> Method:
    return Method(prior=AutoRegressive.for_rate(delta))


@register(
    "mog",
    "MoG prior",
    "Zhang et al. 2021, appendix C; Pelsmaeker & Aziz 2020",
    "appendix C",
    changes="The prior is a learned mixture of diagonal Gaussians.",
    formula=rf"{_ELBO},\quad p(z) = \sum_k \pi_k\, \mathcal{{N}}(m_k, \mathrm{{diag}}\, s_k^2)",
    cost="as a VAE; the KL is estimated from the draw",
    promise="A prior that goes to the posteriors, so that they need not come to it.",
)
def _mog(components: int = 5) -> Method:
    return Method(prior=GaussianMixture(components))


@register(
    "moig",
    "MoIG prior",
    "Zhang et al. 2021, appendix C",
    "appendix C",
    changes="The prior is a learned mixture of isotropic Gaussians.",
    formula=rf"{_ELBO},\quad p(z) = \sum_k \pi_k\, \mathcal{{N}}(m_k, s_k^2 I)",
    cost="as a VAE; the KL is estimated from the draw",
    promise="The mixture that fits isotropic posteriors.",
)
def _moig(components: int = 5) -> Method:
    return Method(prior=IsotropicGaussianMixture(components))


@register(
    "mog-equal",
    "MoG prior with equal weights",
    "Zhang et al. 2021, code",
    "appendix C",
    changes="The prior is a mixture of diagonal Gaussians whose weights stay equal.",
    formula=rf"{_ELBO},\quad p(z) = \tfrac{{1}}{{K}} \sum_k "
    r"\mathcal{N}(m_k, \mathrm{diag}\, s_k^2)",
    cost="as a VAE; the KL is estimated from the draw",
    promise="As MoG: its numbers come from this form, whose components start near one another.",
)
def _mog_equal(components: int = 5) -> Method:
    return Method(prior=GaussianMixture(components, Mixing.EQUAL))


@register(
    "moig-equal",
    "MoIG prior with equal weights",
    "Zhang et al. 2021, code",
    "appendix C",
    changes="The prior is a mixture of isotropic Gaussians whose weights stay equal.",
    formula=rf"{_ELBO},\quad p(z) = \tfrac{{1}}{{K}} \sum_k \mathcal{{N}}(m_k, s_k^2 I)",
    cost="as a VAE; the KL is estimated from the draw",
    promise="As MoIG: its numbers come from this form, whose components start near one another.",
)
def _moig_equal(components: int = 5) -> Method:
    return Method(prior=IsotropicGaussianMixture(components, Mixing.EQUAL))


# Training, and the decoder.


@register(
    "lagging",
    "Aggressive (lagging)",
    "He et al. 2019, section 4",
    "(4), algorithm 1",
    changes="The encoder is trained to near convergence before each update of the decoder.",
    formula=r"\theta \leftarrow \theta + \nabla_\theta \mathrm{ELBO}(\theta, \phi^*),\quad "
    r"\phi^* = \arg\max_\phi \mathrm{ELBO}(\theta, \phi)",
    cost="at first up to 99 updates of the encoder more, each with a pass of the decoder; "
    "then as a VAE",
    promise="No collapse with the objective unchanged.",
)
def _lagging(max_inner: int = 99, window: int = 15) -> Method:
    return Method(training=Aggressive(max_inner, window))


@register(
    "lagging-fixed",
    "Aggressive, fixed budget",
    "He et al. 2019, section 6.5",
    "table 4",
    changes="As aggressive training, with a fixed number of encoder updates.",
    formula=r"\theta \leftarrow \theta + \nabla_\theta \mathrm{ELBO}(\theta, \phi_n),\quad "
    r"\phi_n \text{ after } n \text{ updates}",
    cost="at first so many updates of the encoder more, each with a pass of the decoder; "
    "then as a VAE",
    promise="Shows how near to convergence the encoder must come.",
)
def _lagging_fixed(steps: int = 50) -> Method:
    if steps < 1:
        raise BadInput(f"steps is a whole number of at least 1, given {steps}")
    return Method(training=Aggressive(steps, steps))


@register(
    "sa-vae",
    "SA-VAE",
    "Kim et al. 2018; He et al. 2019, table 1",
    "algorithm 1 of Kim et al.",
    changes="The encoder's guess is refined by gradient steps, in training and in evaluation.",
    formula=r"\mathrm{ELBO}(\theta, \lambda_K),\quad \lambda_0 = q_\phi(x),\ "
    r"\lambda_{k+1} = \lambda_k + \nabla_\lambda \mathrm{ELBO}(\theta, \lambda_k)",
    cost="about four updates of a VAE more for each step, and one for each step in evaluation",
    promise="A smaller amortisation gap; on text it needs annealing against collapse.",
)
def _sa_vae(steps: int = 20, rate: float = 1.0, momentum: float = 0.5, clip: float = 5.0) -> Method:
    return Method(training=SemiAmortised(steps, rate, momentum, clip))


@register(
    "encoder-rate",
    "Separate learning rates",
    "He et al. 2019, appendix F",
    "table 10",
    changes="The encoder's learning rate is a multiple of the decoder's.",
    formula=_ELBO,
    cost=_AS_VAE,
    promise="None: the comparison that shows that a faster encoder is not enough.",
)
def _encoder_rate(factor: float = 2.0) -> Method:
    return Method(training=Joint(factor))


@register(
    "skip-vae",
    "Skip-VAE",
    "Dieng et al. 2019",
    "skip connections",
    changes="The decoder's output layer sees z as well.",
    formula=_ELBO,
    cost="as a VAE, and an output layer wider by D",
    promise="More mutual information between x and z.",
)
def _skip_vae() -> Method:
    return Method(latent=Latent.SKIP)


# --- methods of a reader's own --------------------------------------------------------------------


def _run_own() -> None:
    """Run the file that POSTERIOR_COLLAPSE_METHODS names; what it registers joins the table."""
    file = named_path(OWN_VARIABLE)
    if file is None:
        return
    file = file.resolve()
    if not file.is_file():
        raise BadInput(f"{OWN_VARIABLE} names {file}, which is no file; allowed: a Python file")
    plan = importlib.util.spec_from_file_location("posterior_collapse_own_methods", file)
    if plan is None or plan.loader is None:
        raise BadInput(f"{OWN_VARIABLE} names {file}, which is no Python file")
    module = importlib.util.module_from_spec(plan)
    sys.modules[plan.name] = module  # dataclasses look their module up
    try:
        plan.loader.exec_module(module)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f", line {frame.lineno}" for frame in frames if frame.filename == str(file)]
        raise BadInput(
            f"{file}{''.join(lines[-1:])}: {type(error).__name__}: {error}; mend this file, or "
            f"unset {OWN_VARIABLE}"
        ) from error


def _enter_own() -> None:
    """Keep what is wrong for those who look at the table: an import could only show a traceback."""
    try:
        _run_own()
    except BadInput as wrong:
        _WRONG.append(wrong)


_enter_own()
