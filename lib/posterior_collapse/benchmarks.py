"""Which methods are compared where: the rows of the tables, and the sweeps.

A row is a method string. The annealed rows share one schedule, from weight 0 to 1 over five
epochs: a quarter of the epochs at medium scale. The papers take ten of a hundred or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from posterior_collapse import methods
from posterior_collapse.errors import BadInput, nearest
from posterior_collapse.runs import Spec

__all__ = [
    "AGGRESSIVE",
    "ANNEAL",
    "ANNEALED_AGGRESSIVE",
    "AUTOENCODER",
    "AUTOGEN",
    "BETAS",
    "BETA_SMALL",
    "BETA_VAE",
    "BN_VAE",
    "CYCLICAL",
    "DATASETS",
    "DELTA_VAE",
    "DU_IAF",
    "DU_VAE",
    "DU_VAE_YELP",
    "EPOCHS",
    "FREE_BITS",
    "GENERATION",
    "GEOMETRY",
    "IAF",
    "IAF_BN",
    "IAF_FREE_BITS",
    "IMAGES",
    "ISOTROPIC",
    "LANGUAGE_MODEL",
    "MAE",
    "MAIN",
    "MATCHED",
    "NARROW",
    "OTHERS",
    "PARTITIONED",
    "PARTITIONS",
    "PLAIN",
    "RAMPS",
    "SA_VAE",
    "SCALE_VAE",
    "SKIP_VAE",
    "SWEEPS",
    "TARGETS",
    "Isotropic",
    "expand",
    "isotropic",
    "isotropic_build",
    "own",
    "planned",
    "recipe",
    "sweep",
]

EPOCHS = 5  # of annealing
ANNEAL = f"anneal(start=0, epochs={EPOCHS})"

DATASETS = ("grammar", "yelp", "yahoo")

MAIN = (
    "vae",
    ANNEAL,
    "lagging",
    f"lagging+{ANNEAL}",
    f"bn-vae(gamma=0.6)+{ANNEAL}",
    f"du-vae(gamma=0.6, p=0.8)+{ANNEAL}",
    f"scale-vae(des_std=0.7, f_epo=1, anneal={EPOCHS})",
    f"free-bits(threshold=0.1, anneal={EPOCHS})",
    "beta-vae(beta=0.4)",
    f"vae-iaf+{ANNEAL}",
    f"iaf-bn(gamma=0.6)+{ANNEAL}",
    f"du-iaf(gamma=0.6, p=0.7)+{ANNEAL}",
)
OTHERS = (
    "lstm-lm",
    "ae",
    f"cyclical(cycles=2, epochs={EPOCHS})",
    "autogen(m=1)",
    "target-kl(c=3, ramp=1000)",
    "target-kl-sentence(c=3, ramp=1000)",
    f"du-vae-code(gamma=0.6, p=0.8, from_epoch={EPOCHS})+{ANNEAL}",
    f"delta-vae(delta=0.1)+{ANNEAL}",
    f"delta-vae-ar(delta=0.1)+{ANNEAL}",
    f"sa-vae(steps=5)+{ANNEAL}",
    f"skip-vae+{ANNEAL}",
    f"mae(gamma=0.5, eta=0.2, anneal={EPOCHS})",
    f"igp+{ANNEAL}",
    f"igp-start(epochs={EPOCHS})+{ANNEAL}",
    "iwae(k=5)",
    f"mog(components=5)+{ANNEAL}",
    f"moig(components=5)+{ANNEAL}",
)


def _row(name: str, rows: Sequence[str]) -> str:
    """The row whose first part is a method, whatever its parameters are."""
    return next(row for row in rows if row.partition("+")[0].partition("(")[0] == name)


# Rows that rules ask for, by name.
LANGUAGE_MODEL, AUTOENCODER, PLAIN = "lstm-lm", "ae", "vae"
AGGRESSIVE, ANNEALED_AGGRESSIVE = "lagging", f"lagging+{ANNEAL}"
BN_VAE, DU_VAE, SCALE_VAE = (_row(name, MAIN) for name in ("bn-vae", "du-vae", "scale-vae"))
FREE_BITS, BETA_VAE = (_row(name, MAIN) for name in ("free-bits", "beta-vae"))
IAF, IAF_BN, DU_IAF = (_row(name, MAIN) for name in ("vae-iaf", "iaf-bn", "du-iaf"))
CYCLICAL, DELTA_VAE, SA_VAE, SKIP_VAE, MAE = (
    _row(name, OTHERS) for name in ("cyclical", "delta-vae", "sa-vae", "skip-vae", "mae")
)
# He et al. 2019, figure 5: the smaller of the weights that figure and table 1 share.
BETA_SMALL = "beta-vae(beta=0.2)"
# Shen et al. 2021: the flow that DU-IAF is compared with has free bits; and the parameters that are
# best on Yelp, by figure 2.
IAF_FREE_BITS = f"vae-iaf+{FREE_BITS.replace('threshold=0.1,', 'threshold=0.25,')}"
DU_VAE_YELP = DU_VAE.replace("gamma=0.6", "gamma=0.5")
# Zhang et al. 2021, tables 6 and 12. Their three k are lost from our text; those of Burda et al.
# 2016, whose networks the paper takes, stand in.
IMAGES = (
    "ae",
    "vae",
    "igp",
    *(f"{tied}iwae(k={k})" for k in (1, 5, 50) for tied in ("", "igp+")),
)
# Shen et al. 2021, figure 1.  The text gives no constants; the logs of its public code on synthetic
# data have gamma 1 and a dropout of 0.2 or 0.5.  Scale-VAE gets the same spread of the means.  Its
# f_epo is 1 for Yahoo and 7 for Yelp; after one epoch of these data, 500 updates, it collapses.
GEOMETRY = (
    "vae",
    "lagging",
    "bn-vae(gamma=1)",
    "du-vae(gamma=1, p=0.8)",
    "scale-vae(des_std=1, f_epo=7)",
)
# Song et al. 2024, latent space property: recipe -> how mini-batches are made.
PARTITIONS = {
    "five-gaussians": "random, unchanged",
    "five-gaussians-redrawn": "random, redrawn each epoch",
    "five-gaussians-sorted": "one component each, unchanged",
}
PARTITIONED = ("bn-vae(gamma=1)", "scale-vae(des_std=1, f_epo=7)")
# Mansbridge et al. 2018, equation 10: a beta-VAE with beta = 1 / (1 + m) has the same gradient but
# for a factor.
MATCHED = {"autogen(m=1)": "beta-vae(beta=0.5)", "autogen(m=2)": f"beta-vae(beta={1 / 3})"}
# Their four models, a fraction between two of them, and the two pairs' other halves.
AUTOGEN = (
    "vae",
    "anneal(start=0, epochs=4)",
    "autogen(m=0.5)",
    "autogen(m=1)",
    "autogen(m=2)",
    *MATCHED.values(),
)
# Song et al. 2024, table 5: BN-VAE, and Scale-VAE with the printed spread; the rest is beside them.
GENERATION = (
    "lstm-lm",
    ANNEAL,
    f"bn-vae(gamma=0.6)+{ANNEAL}",
    f"scale-vae(des_std=0.7, f_epo=1, anneal={EPOCHS})",
    f"scale-vae(des_std=1.1, f_epo=1, anneal={EPOCHS})",
)
# Zhang et al. 2021, section 4.  Our text of it keeps none of the three targets of figure 2 and none
# of the three weights of table 2; 5 is where its table 7 begins, and the others are ours.
TARGETS = (5, 10, 15)
BETAS = (0.4, 0.2, 0.1)
# Updates until the target C is reached: 5,000 of 15,625 in the paper's code, on SNLI.
RAMPS = {"smoke": 4, "quick": 270, "medium": 2000}
# Recipes whose reference results the pages on text show.
ISOTROPIC = ("igp-snli", "igp-dbpedia", "igp-yahoo-question")
NARROW = "igp-snli-narrow"  # as the first of them, from narrow first weights
SWEEPS = {
    # He et al. 2019, tables 4, 9 and 10; the budgets of annealing are shares of the epochs here,
    # as 30 to 120 thousand updates are of the paper's.
    "inner": (*(f"lagging-fixed(steps={n})" for n in (10, 30, 50, 70)), "lagging"),
    "annealing": tuple(f"anneal(start=0, epochs={n})" for n in (3, 5, 10, 15)),
    "encoder": tuple(f"encoder-rate(factor={n})" for n in (1, 2, 4, 6, 8)),
    # Shen et al. 2021, figure 2.
    "gamma-p": tuple(
        f"du-vae(gamma={gamma}, p={p})+{ANNEAL}"
        for gamma in (0.4, 0.6, 0.8)
        for p in (0.7, 0.8, 0.9)
    ),
    # Scale-VAE, table 3.
    "std-epochs": tuple(
        f"scale-vae(des_std={std}, f_epo={epochs}, anneal={EPOCHS})"
        for std in (0.5, 0.7, 1.1)
        for epochs in (1, 3, 5)
    ),
}


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
    if name not in SWEEPS:
        raise BadInput(nearest(name, SWEEPS, "sweep"))
    return SWEEPS[name]


def own() -> tuple[str, ...]:
    """Methods of a reader's own: each is a row of every table, with its defaults."""
    return tuple(name for name in methods.names() if methods.describe(name).own)


def expand(wanted: Sequence[str]) -> tuple[str, ...]:
    """Methods, where ``@main``, ``@others``, ``@own`` and ``@<sweep>`` stand for groups of them.

    Raises:
        BadInput: an unknown group, with the nearest one.
    """
    found: list[str] = []
    for name in wanted:
        found += _group(name[1:]) if name.startswith("@") else [name]
    return tuple(dict.fromkeys(found))


def _group(name: str) -> Sequence[str]:
    groups = {"main": MAIN, "others": OTHERS, "own": own(), **SWEEPS}
    if name not in groups:
        raise BadInput(nearest(name, groups, "group of methods"))
    return groups[name]


def _images() -> list[Spec]:
    """Reference runs on images at the paper's own scale: five seeds, and two where k is 50."""
    rows = [
        Spec(name, method, "paper", seed)
        for name in ("fashion-mnist", "mnist")
        for seed in range(5)
        for method in IMAGES
        if seed < 2 or "k=50" not in method
    ]

    def draws(spec: Spec) -> int:
        """Passes of the decoder, which decide the time."""
        return 50 if "k=50" in spec.method else 5 if "k=5" in spec.method else 1

    return sorted(rows, key=draws)


def _geometry() -> list[Spec]:
    """Reference runs on five Gaussians: five seeds, aggressive training last."""
    rows = [
        Spec(name, method, "paper", seed)
        for seed in range(5)
        for name in PARTITIONS
        for method in (GEOMETRY if name == "five-gaussians" else PARTITIONED)
    ]
    return sorted(rows, key=lambda spec: spec.method == "lagging")


class Isotropic(NamedTuple):
    """The methods that the pages on isotropic posteriors for text compare, at one scale."""

    targets: tuple[str, ...]  # a target C for the mean KL; DGP and IGP in turn
    sentences: tuple[str, ...]  # a target C for the KL of every sentence
    weights: tuple[str, ...]  # beta-VAE
    start: tuple[str, ...]  # IGP as initialiser
    priors: tuple[str, ...]  # mixtures


def _both(*rows: str) -> tuple[str, ...]:
    """Every row with a diagonal posterior and with an isotropic one."""
    return tuple(name for row in rows for name in (row, f"igp+{row}"))


def isotropic(scale: str) -> Isotropic:
    """The groups of methods of IGP on text, whose target rises in as many updates as suit a scale.

    Raises:
        BadInput: a scale without a ramp, with the nearest one.
    """
    if scale not in RAMPS:
        raise BadInput(nearest(scale, RAMPS, "scale with a ramp of the target KL"))

    def target(c: int, kind: str = "target-kl") -> str:
        return f"{kind}(c={c}, ramp={RAMPS[scale]})"

    low, high = TARGETS[0], TARGETS[-1]
    mixtures = [f"{prior}(components=5)+{target(high)}" for prior in ("mog", "moig")]
    return Isotropic(
        targets=_both(*map(target, TARGETS)),
        sentences=_both(target(high, "target-kl-sentence")),
        weights=_both(*(f"beta-vae(beta={beta})" for beta in BETAS)),
        start=(f"igp-start(epochs=5)+{target(low)}",),
        priors=_both(*mixtures),
    )


def isotropic_build(scale: str) -> tuple[str, ...]:
    """What a page trains itself: an autoencoder, and the lowest and the highest target.

    Raises:
        BadInput: see :func:`isotropic`.
    """
    targets = isotropic(scale).targets
    return ("ae", *targets[:2], *targets[-2:])


def _isotropic() -> list[Spec]:
    """Reference runs of IGP on text: three seeds of everything."""
    first, labelled = ISOTROPIC[0], ISOTROPIC[1:]
    found, scale = isotropic("medium"), "medium"
    methods = (*found.targets, *found.start, *found.weights, *found.sentences, *found.priors)
    wanted = [(first, method) for method in methods]
    wanted += [(name, method) for name in labelled for method in isotropic_build(scale)]
    wanted += [(NARROW, method) for method in found.targets[-2:]]
    return [Spec(name, method, scale, seed) for seed in range(3) for name, method in wanted]


def _written() -> list[Spec]:
    """Reference runs on reconstructed and generated text: three seeds."""
    groups = {"autogen-yelp": AUTOGEN, "autogen-ptb": AUTOGEN, "generation-yahoo": GENERATION}
    return [
        Spec(name, method, "medium", seed)
        for seed in range(3)
        for name, rows in groups.items()
        for method in rows
    ]


def planned() -> list[Spec]:
    """Reference runs on real text and images, the most wanted first.

    Three seeds for the main rows and for the sweeps, which are on Short Yelp, and one for the
    rest; of the fixed inner budgets only those that the rule needs have three.  What takes many
    times as long comes late.
    """

    def specs(dataset: str, methods: tuple[str, ...], seed: int) -> list[Spec]:
        return [Spec(recipe(dataset), method, "medium", seed) for method in methods]

    quick = tuple(method for method in MAIN if not method.startswith("lagging"))
    slow = tuple(method for method in MAIN if method.startswith("lagging"))
    swept = tuple(m for name in SWEEPS for m in sweep(name) if m not in MAIN)
    between = sweep("inner")[1:3]
    both = ("yelp", "yahoo")
    first = [spec for seed in (0, 1, 2) for name in both for spec in specs(name, quick, seed)]
    once = [spec for name in both for spec in (*specs(name, slow, 0), *specs(name, OTHERS, 0))]
    again = [spec for seed in (1, 2) for name in both for spec in specs(name, slow, seed)]
    runs = [*first, *once, *again, *specs("yelp", swept, 0)]
    runs += [s for seed in (1, 2) for s in specs("yelp", swept, seed) if s.method not in between]
    runs += _images()
    # The first seed of everything says more than all seeds of something.
    runs += sorted([*_geometry(), *_isotropic(), *_written()], key=lambda spec: spec.seed)
    # A refinement of every code, or a fixed inner budget, costs ten runs of the other methods.
    slowest = ("sa-vae", "lagging-fixed")
    return sorted(runs, key=lambda spec: spec.method.startswith(slowest) or "k=50" in spec.method)
