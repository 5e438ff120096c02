"""Which methods are compared where: the rows of the tables, and the sweeps.

A row is a method string. The annealed rows share one schedule, from weight 0 to 1 in as many
updates as their recipe says.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from posterior_collapse import datasets, methods, recipes
from posterior_collapse.errors import BadInput, nearest
from posterior_collapse.runs import Spec

ANNEAL = "anneal(start=0)"

DATASETS = ("grammar", "yelp", "yahoo")

# Rows that rules and figures ask for by name.
LANGUAGE_MODEL = "lstm-lm"
AUTOENCODER = "ae"
VAE = "vae"
AGGRESSIVE = "lagging"
ANNEALED_AGGRESSIVE = f"lagging+{ANNEAL}"
BETA = "beta-vae(beta=0.4)"
LOW_BETA = "beta-vae(beta=0.2)"
FREE_BITS = f"free-bits(threshold=0.1)+{ANNEAL}"
BATCH_NORM = f"bn-vae(gamma=0.6)+{ANNEAL}"
DU = f"du-vae(gamma=0.6, p=0.8)+{ANNEAL}"
MAE = f"mae(gamma=1, eta=0.2)+{ANNEAL}"  # gamma is 1 for Yahoo and 2 for Yelp in the paper
SCALE = f"scale-vae(des_std=0.7)+{ANNEAL}"
WIDE_SCALE = f"scale-vae(des_std=1.1)+{ANNEAL}"
# Shen et al. 2021, table 1: the flow's baseline has free bits (0.15, 0.25) on text.
FLOW = f"vae-iaf(threshold=0.15)+{ANNEAL}"
FLOW_BATCH_NORM = f"iaf-bn(gamma=0.6)+{ANNEAL}"
DU_FLOW = f"du-iaf(gamma=0.6, p=0.7)+{ANNEAL}"
SEMI_AMORTISED = f"sa-vae(steps=5)+{ANNEAL}"
CYCLICAL, DELTA, SKIP = "cyclical(cycles=2)", f"delta-vae(delta=0.1)+{ANNEAL}", f"skip-vae+{ANNEAL}"
PLAIN_FLOW = f"vae-iaf+{ANNEAL}"
DU_YELP = f"du-vae(gamma=0.5, p=0.8)+{ANNEAL}"  # Shen et al. 2021, figure 2: the best on Yelp

# Scale-VAE's f_epo of its sweep whose updates at medium scale come nearest to one paper epoch's.
OWN_EPOCHS = 6

# What shows that a recipe can tell methods apart: no latent variable, no KL, the VAE itself, and a
# positive control.
PREMISE = (LANGUAGE_MODEL, AUTOENCODER, VAE, LOW_BETA)

# What is trained with the papers' optimiser as well.
OPTIMISED = (*PREMISE, ANNEAL, ANNEALED_AGGRESSIVE)

FLOWS = (FLOW, FLOW_BATCH_NORM, DU_FLOW)
_BOUNDED = (BATCH_NORM, DU, SCALE, FREE_BITS, BETA)
_RAISED = (CYCLICAL, DELTA, SKIP, "autogen(m=1)", f"igp+{ANNEAL}", SEMI_AMORTISED)
MAIN = (
    *(VAE, ANNEAL, AGGRESSIVE, ANNEALED_AGGRESSIVE, *_BOUNDED, *FLOWS),
    *(LANGUAGE_MODEL, AUTOENCODER, LOW_BETA),
)
OTHERS = (
    MAE,
    f"mae(gamma=2, eta=0.2)+{ANNEAL}",  # Yelp's in the paper, as the next one
    DU_YELP,
    *_RAISED,
    PLAIN_FLOW,
    *(f"{kind}(c=3, ramp=1000)" for kind in ("target-kl", "target-kl-sentence")),
    f"delta-vae-ar(delta=0.1)+{ANNEAL}",
    f"igp-start(epochs=5)+{ANNEAL}",
    "iwae(k=5)",
    *(f"{prior}(components=5)+{ANNEAL}" for prior in ("mog", "moig")),
)
# Rows that are shown from reference results and not trained with the book: one takes as long as
# twenty of the others.
REFINED = (SEMI_AMORTISED,)
# A recipe with bfloat16 products and the same in float32, and what is run in both: a method that
# nearly collapses and one whose code is in use.
BFLOAT16, FLOAT32 = "text-yahoo", "text-yahoo-float32"
PRECISIONS = (BFLOAT16, FLOAT32)
PRECISION_METHODS = (ANNEAL, BETA)

# Rows that most verdicts use have five seeds, the other rows of the papers' tables three.
FIVE_SEEDS = (
    *(LANGUAGE_MODEL, AUTOENCODER, ANNEAL, BETA, FREE_BITS, BATCH_NORM, DU, SCALE, DU_FLOW, MAE),
    *(ANNEALED_AGGRESSIVE, AGGRESSIVE),
)
THREE_SEEDS = (VAE, LOW_BETA, FLOW, FLOW_BATCH_NORM, *_RAISED)
# Zhang et al. 2021, tables 6 and 12. Their three k are lost from our text; those of Burda et al.
# 2016, whose networks the paper takes, stand in.
IMAGES = ("ae", "vae", "igp", *(f"{tied}iwae(k={k})" for k in (1, 5, 50) for tied in ("", "igp+")))
# He et al. 2019, table 2, and Shen et al. 2021, tables 1 and 3: images that a PixelCNN draws.  The
# parameters are those that the papers print for OMNIGLOT.  The inner loop of aggressive training
# ends after at most ten steps, where the papers' may take a hundred.
OMNIGLOT, PIXEL_DIGITS = "pixels-omniglot", "pixels-digits"
PIXEL_AGGRESSIVE = "lagging(max_inner=10, window=5)"
PIXEL_ANNEALED_AGGRESSIVE = f"{PIXEL_AGGRESSIVE}+{ANNEAL}"
HIGH_BETA = "beta-vae(beta=0.8)"
PIXEL_BATCH_NORM = f"bn-vae(gamma=0.5)+{ANNEAL}"
PIXEL_DU = f"du-vae(gamma=0.5, p=0.9)+{ANNEAL}"
PIXEL_MAE = f"mae(gamma=0.5, eta=0.2)+{ANNEAL}"
PIXEL_FLOW_BATCH_NORM = f"iaf-bn(gamma=0.5)+{ANNEAL}"
PIXEL_DU_FLOW = f"du-iaf(gamma=0.5, p=0.85)+{ANNEAL}"
PIXEL_FIRST = (LANGUAGE_MODEL, AUTOENCODER, VAE, LOW_BETA)
PIXEL_MAIN = (
    ANNEAL,
    PIXEL_ANNEALED_AGGRESSIVE,
    PIXEL_DU,
    HIGH_BETA,
    PIXEL_BATCH_NORM,
    PIXEL_DU_FLOW,
    FREE_BITS,
)
PIXEL_OTHERS = (
    PIXEL_AGGRESSIVE,
    FLOW,
    DELTA,
    PIXEL_MAE,
    PIXEL_FLOW_BATCH_NORM,
    BETA,
    "beta-vae(beta=0.6)",
    f"igp+{ANNEAL}",
    SCALE,
    SEMI_AMORTISED,
)
PIXELS = (*PIXEL_FIRST, *PIXEL_MAIN, *PIXEL_OTHERS)
# Shen et al. 2021, figure 1.  The text gives no constants; the logs of its public code on synthetic
# data have gamma 1 and a dropout of 0.2 or 0.5.  Scale-VAE gets the same spread of the means.  Its
# f_epo is 1 for Yahoo and 7 for Yelp; after one epoch of these data, 500 updates, it collapses.
PLANE_BATCH_NORM, PLANE_DU = "bn-vae(gamma=1)", "du-vae(gamma=1, p=0.8)"
PLANE_SCALE = "scale-vae(des_std=1, f_epo=7)"
GEOMETRY = (VAE, AGGRESSIVE, PLANE_BATCH_NORM, PLANE_DU, PLANE_SCALE)
# Song et al. 2024, latent space property: recipe -> how mini-batches are made.
FIXED_BATCHES, REDRAWN_BATCHES = "five-gaussians", "five-gaussians-redrawn"
SORTED_BATCHES = "five-gaussians-sorted"
PARTITIONS = {
    FIXED_BATCHES: "random, unchanged",
    REDRAWN_BATCHES: "random, redrawn each epoch",
    SORTED_BATCHES: "one component each, unchanged",
}
PARTITIONED = (PLANE_BATCH_NORM, PLANE_SCALE)
# Mansbridge et al. 2018, equation 10: a beta-VAE with beta = 1 / (1 + m) has the same gradient but
# for a factor.
MATCHED = {"autogen(m=1)": "beta-vae(beta=0.5)", "autogen(m=2)": f"beta-vae(beta={1 / 3})"}
ANNEAL_EPOCHS = "anneal(start=0, epochs=4)"
FRACTIONS = {0.0: VAE} | {m: f"autogen(m={m:g})" for m in (0.5, 1.0, 2.0)}  # m -> AutoGen
# Their four models, a fraction between two of them, and the two pairs' other halves.
AUTOGEN = (VAE, ANNEAL_EPOCHS, *(m for m in FRACTIONS.values() if m != VAE), *MATCHED.values())
# Song et al. 2024, table 5: BN-VAE, and Scale-VAE with the printed spread; the rest is beside them.
GENERATION = (LANGUAGE_MODEL, ANNEAL, BATCH_NORM, SCALE, WIDE_SCALE)
# Zhang et al. 2021, section 4.  Our text of it keeps none of the three targets of figure 2 and none
# of the three weights of table 2; 5 is where its table 7 begins, and the others are ours.
TARGETS = (5, 10, 15)
BETAS = (0.4, 0.2, 0.1)
# Updates until the target C is reached: 5,000 of 15,625 in the paper's code, on SNLI.
RAMPS = {"smoke": 4, "quick": 270, "medium": 2000}
# Recipes whose reference results the pages on text show.
SNLI = "igp-snli"
DBPEDIA = "igp-dbpedia"
LABELLED = (DBPEDIA, "igp-yahoo-question")  # with classes
ISOTROPIC = (SNLI, *LABELLED)
NARROW = "igp-snli-narrow"  # as SNLI, from narrow first weights
SWEEPS = {
    # He et al. 2019, tables 4, 9 and 10; the budgets of annealing are shares of the epochs here,
    # as 30 to 120 thousand updates are of the paper's.
    "inner": (*(f"lagging-fixed(steps={n})" for n in (10, 30, 50, 70)), "lagging"),
    "annealing": tuple(f"anneal(start=0, epochs={n})" for n in (3, 5, 10, 14)),
    "encoder": tuple(f"encoder-rate(factor={n})" for n in (1, 2, 4, 6, 8)),
    # Shen et al. 2021, figure 2.
    "gamma-p": tuple(
        f"du-vae(gamma={gamma}, p={p})+{ANNEAL}"
        for gamma in (0.4, 0.6, 0.8)
        for p in (0.7, 0.8, 0.9)
    ),
    # Scale-VAE, table 3.
    "std-epochs": tuple(
        f"scale-vae(des_std={std}, f_epo={epochs})+{ANNEAL}"
        for std in (0.5, 0.7, 1.1)
        for epochs in (2, 4, OWN_EPOCHS)
    ),
}
# On images. Trainings have six epochs (OMNIGLOT) or eight (digits), and ANNEAL takes three or four.
PIXEL_SWEEPS = {
    "pixel-annealing": tuple(f"anneal(start=0, epochs={n})" for n in (5, 6)),
    "pixel-gamma-p": tuple(
        f"du-vae(gamma={gamma}, p={p})+{ANNEAL}" for gamma in (0.5, 0.6) for p in (0.8, 0.9, 1)
    ),
}


# Of the inner budgets, those that are trained with the book: a larger one takes a minute.
FEW_INNER = ("lagging-fixed(steps=10)", AGGRESSIVE)


def resolve(dataset: str) -> str:
    """The data set that a parameter means: ``auto`` is Yahoo where the data folder has it."""
    if dataset != "auto":
        return dataset
    return "yahoo" if datasets.available("yahoo") else "grammar"


def recipe(dataset: str) -> str:
    """The recipe that compares all methods on a data set.

    Raises:
        BadInput: unknown, with the nearest one.
    """
    if dataset not in DATASETS:
        raise BadInput(nearest(dataset, DATASETS, "dataset"))
    return f"text-{dataset}"


def sweep(name: str) -> tuple[str, ...]:
    """The methods of a sweep.

    Raises:
        BadInput: unknown, with the nearest one.
    """
    every = SWEEPS | PIXEL_SWEEPS
    if name not in every:
        raise BadInput(nearest(name, every, "sweep"))
    return every[name]


def best_du(runs: Mapping[str, object]) -> str:
    """DU-VAE with the parameters that figure 2 names as the best on Yelp, where they were run."""
    return DU_YELP if runs.get(DU_YELP) else DU


def own() -> tuple[str, ...]:
    """Methods of a reader's own: each is a row of every table, with its defaults."""
    return tuple(name for name in methods.names() if methods.describe(name).own)


def expand(wanted: Sequence[str]) -> tuple[str, ...]:
    """Methods, where ``@main``, ``@others``, ``@own`` and ``@<sweep>`` stand for groups of them.

    Raises:
        BadInput: an unknown group, with the nearest one.
    """
    names: list[str] = []
    for name in wanted:
        names += _group(name[1:]) if name.startswith("@") else [name]
    return tuple(dict.fromkeys(names))


def _group(name: str) -> Sequence[str]:
    groups = {
        "main": MAIN,
        "own": own(),
        "premise": PREMISE,
        "refined": REFINED,
        **SWEEPS,
        **PIXEL_SWEEPS,
    }
    groups["others"] = tuple(method for method in OTHERS if method not in REFINED)
    groups["inner-few"] = FEW_INNER
    if name not in groups:
        raise BadInput(nearest(name, groups, "group of methods"))
    return groups[name]


def _specs(
    recipes_: Sequence[str], methods_: Sequence[str], scale: str, seeds: Iterable[int]
) -> list[Spec]:
    """Runs seed after seed, and of one seed recipe after recipe."""
    return [Spec(name, m, scale, seed) for seed in seeds for name in recipes_ for m in methods_]


def _images() -> list[Spec]:
    """Reference runs on images at the paper's own scale: five seeds, and two where k is 50."""

    def draws(spec: Spec) -> int:
        """Passes of the decoder, which decide the time."""
        return 50 if "k=50" in spec.method else 5 if "k=5" in spec.method else 1

    names = ("fashion-mnist", "mnist")
    every = [spec for name in names for spec in _specs((name,), IMAGES, "paper", range(5))]
    return sorted((s for s in every if s.seed < 2 or "k=50" not in s.method), key=draws)


def _pixels() -> list[Spec]:
    """Reference runs on OMNIGLOT: the premise, then three seeds of the main rows, one of the rest.

    Seed by seed, and aggressive training after the others of its seed.
    """
    first = [(method, 0) for method in PIXEL_FIRST]
    main = [m for m in PIXEL_MAIN if m != PIXEL_ANNEALED_AGGRESSIVE]
    main = [*main, PIXEL_ANNEALED_AGGRESSIVE]
    wanted = [*first, *((method, 0) for method in (*main, *PIXEL_OTHERS))]
    again = [LANGUAGE_MODEL, VAE, *main]
    wanted += [(method, seed) for seed in (1, 2) for method in again]
    swept = (method for name in PIXEL_SWEEPS for method in sweep(name) if method not in PIXELS)
    wanted += [(method, 0) for method in swept]
    return [Spec(OMNIGLOT, method, "medium", seed) for method, seed in wanted]


def _geometry() -> list[Spec]:
    """Reference runs on five Gaussians: five seeds, aggressive training last."""
    every = _specs(tuple(PARTITIONS), GEOMETRY, "paper", range(5))
    rows = [s for s in every if s.recipe == FIXED_BATCHES or s.method in PARTITIONED]
    return sorted(rows, key=lambda spec: spec.method == AGGRESSIVE)


class Twins(NamedTuple):
    """A method with a diagonal posterior, DGP, and with an isotropic one, IGP."""

    diagonal: str
    isotropic: str


class Isotropic(NamedTuple):
    """The methods that the pages on isotropic posteriors for text compare, at one scale."""

    targets: dict[int, Twins]  # target C -> for the mean KL
    sentence: Twins  # the highest target, for the KL of every sentence
    weights: dict[float, Twins]  # weight of the KL -> beta-VAE
    start: str  # IGP as initialiser, at the lowest target
    priors: dict[str, Twins]  # name of a mixture -> with it, at the highest target

    @property
    def low(self) -> Twins:
        """At the lowest target."""
        return self.targets[min(self.targets)]

    @property
    def high(self) -> Twins:
        """At the highest target."""
        return self.targets[max(self.targets)]

    def at_targets(self) -> tuple[str, ...]:
        """All methods with a target of the mean KL alone."""
        return tuple(method for twins in self.targets.values() for method in twins)

    def every(self) -> tuple[str, ...]:
        """All methods."""
        others = (*self.weights.values(), self.sentence, *self.priors.values())
        return (*self.at_targets(), self.start, *(method for twins in others for method in twins))


def _twins(method: str) -> Twins:
    return Twins(method, f"igp+{method}")


def isotropic(scale: str) -> Isotropic:
    """The groups of methods of IGP on text, whose target rises in as many updates as suit a scale.

    Raises:
        BadInput: a scale without a ramp, with the nearest one.
    """
    if scale not in RAMPS:
        raise BadInput(nearest(scale, RAMPS, "scale with a ramp of the target KL"))

    def target(c: int, kind: str = "target-kl") -> str:
        return f"{kind}(c={c}, ramp={RAMPS[scale]})"

    low, high = min(TARGETS), max(TARGETS)
    return Isotropic(
        targets={c: _twins(target(c)) for c in TARGETS},
        sentence=_twins(target(high, "target-kl-sentence")),
        weights={beta: _twins(f"beta-vae(beta={beta})") for beta in BETAS},
        start=f"igp-start(epochs=5)+{target(low)}",
        priors={
            prior: _twins(f"{prior}(components=5)+{target(high)}") for prior in ("mog", "moig")
        },
    )


def isotropic_build(scale: str) -> tuple[str, ...]:
    """What a page trains itself: an autoencoder, and the lowest and the highest target.

    Raises:
        BadInput: see :func:`isotropic`.
    """
    methods = isotropic(scale)
    return (AUTOENCODER, *methods.low, *methods.high)


def _isotropic() -> list[Spec]:
    """Reference runs of IGP on text: three seeds of everything."""
    kinds = isotropic("medium")
    rows = (
        ((SNLI,), kinds.every()),
        (LABELLED, isotropic_build("medium")),
        ((NARROW,), kinds.high),
    )
    return [s for seed in range(3) for r, m in rows for s in _specs(r, m, "medium", (seed,))]


def _written() -> list[Spec]:
    """Reference runs on reconstructed and generated text: three seeds."""
    rows = ((("autogen-yelp", "autogen-ptb"), AUTOGEN), (("generation-yahoo",), GENERATION))
    return [s for seed in range(3) for r, m in rows for s in _specs(r, m, "medium", (seed,))]


def _compared() -> list[Spec]:
    """Reference runs of the comparison of all methods, the most wanted first.

    The premise of each recipe comes before everything; then seed after seed, five of the rows that
    most verdicts use and three of the other rows of the papers' tables, and the sweeps.
    """
    yelp = (recipe("yelp"),)
    both = (*yelp, recipe("yahoo"))
    swept = [m for name in SWEEPS for m in sweep(name)]
    rest = [*OTHERS, *(m for m in swept if m not in FIVE_SEEDS)]
    order = (
        *((both, PREMISE, (0,)), (both, FIVE_SEEDS, (0, 1)), (both, THREE_SEEDS, (0,))),
        *((both, FIVE_SEEDS, (2,)), (both, THREE_SEEDS, (1, 2)), (both, FIVE_SEEDS, (3, 4))),
        *((yelp, rest, (0, 1, 2)), (both, OTHERS, (0,))),
    )
    return [s for names, rows, seeds in order for s in _specs(names, rows, "medium", seeds)]


def _optimisers() -> list[Spec]:
    """Rows whose claim the optimiser may decide, by that of the papers: the first seed first."""
    every = _specs(("text-yelp-sgd",), OPTIMISED, "medium", range(3))
    return [spec for spec in every if spec.seed == 0 or spec.method not in PREMISE]


def _swept_recipes() -> list[Spec]:
    """Runs of the page on scales: the premise in every cell of the sweeps."""
    cells = {name: recipes.scales(name) for name in ("sweep-yelp", "sweep-yahoo")}
    wanted = [(name, cell) for name, own in cells.items() for cell in own if cell != "smoke"]
    return [spec for name, cell in wanted for spec in _specs((name,), PREMISE, cell, (0,))]


def _premises() -> list[Spec]:
    """The premise of recipes on text whose methods are planned elsewhere: one seed.

    IGP's methods with a target KL and AutoGen's beta-VAEs are positive controls themselves.
    """
    autogen = ("autogen-yelp", "autogen-ptb")
    return [
        *_specs(("generation-yahoo",), PREMISE, "medium", (0,)),
        *_specs(ISOTROPIC, (LANGUAGE_MODEL, AUTOENCODER, VAE), "medium", (0,)),
        *_specs(autogen, (LANGUAGE_MODEL, AUTOENCODER), "medium", (0,)),
        *_specs(("text-yelp", "text-yahoo"), PREMISE, "quick", (0,)),
    ]


def _large() -> list[Spec]:
    """Runs at the papers' own scale on Short Yelp: the premise, then seed after seed."""
    rows = (ANNEAL, *_BOUNDED, ANNEALED_AGGRESSIVE, DELTA, MAE, DU_FLOW)
    yelp = (recipe("yelp"),)
    return _specs(yelp, PREMISE, "large", (0,)) + _specs(yelp, rows, "large", range(3))


@functools.cache
def planned() -> tuple[Spec, ...]:
    """Reference runs on real text and images, the most wanted first.

    What takes many times as long comes late.
    """
    runs = [
        *_compared(),
        *_premises(),
        *_optimisers(),
        # the counterparts in float32 of runs that have bfloat16 products
        *_specs((FLOAT32,), PRECISION_METHODS, "medium", range(3)),
        *_swept_recipes(),
        *_images(),
        *_pixels(),
    ]
    # The first seed of everything says more than all seeds of something.
    runs += sorted([*_geometry(), *_isotropic(), *_written()], key=lambda spec: spec.seed)
    runs = list(dict.fromkeys([*runs, *_large()]))
    # A refinement of every code, or a fixed inner budget, costs ten runs of the other methods.
    slowest = ("sa-vae", "lagging-fixed")
    last = sorted(runs, key=lambda spec: spec.method.startswith(slowest) or "k=50" in spec.method)
    return tuple(last)
