"""Set-ups on text: a small grammar, real corpora for the benchmark, and those of single papers."""

from __future__ import annotations

from dataclasses import replace

from posterior_collapse.networks import TextNetwork
from posterior_collapse.precision import Precision
from posterior_collapse.recipes.setups import Setup, Wording, varied
from posterior_collapse.training import Optimisation

_NEVER = 1e9  # a norm that no gradient is clipped at


def _smoke(setup: Setup, network: TextNetwork, updates: int | None = None) -> Setup:
    """A set-up cut down to seconds; it shows that code runs, and decides nothing.

    Args:
        setup: at quick scale.
        network: a small one.
        updates: to which lengths that are counted in updates are cut; None leaves them.
    """
    lengths = {name: updates for name in ("annealing", "first_decay_update", "own_factors")}
    wording = setup.wording
    return varied(
        setup,
        sizes=(192, 48, 48),
        network=network,
        latent_dim=3,
        optimisation={"max_epochs": 2} | (lengths if updates else {}),
        nll_samples=10,
        nll_sentences=24,
        mi_samples=2,
        means_points=min(setup.means_points, 24),
        wording=wording and Wording(24, 40, min(wording.judge_epochs, 1)),
    )


# --- a small grammar ------------------------------------------------------------------------------


def embedded(dataset: str) -> Setup:
    """Sentences of the library's own grammar, at a scale of some seconds of one core a run.

    Constants were chosen on validation data by four rows alone: the language model, the
    autoencoder, the VAE and the beta-VAE with 0.2.  In nats per sentence, one seed:

                         language model   autoencoder   MI of the VAE   of the beta-VAE
        grammar               19.1        11.7, 8 units      0.0              2.1
        grammar, medium       18.3         8.0, 8 units      0.0              2.3
        grammar-short         13.8         4.2, 8 units      0.0              2.4

    The entropy of the grammar is 17.6, of which a code for the properties saves 5.3; of the short
    one it is 13.1.
    Three things did not do.  Of sentences of 14 words an encoder forgets the beginning: after
    1,500 updates the autoencoder is at 25.7 and the language model at 24.3.  With a dropout of 0.5
    a decoder of 48 units forgets it too (27.3), and an autoencoder uses no unit.  With the word
    dropout of Bowman et al. 2016 the VAE does not collapse (MI 0.7).
    First weights as wide as by fan-in, half of these, work more slowly: after 1,010 updates the
    autoencoder is at 13.1 with them and at 8.5 with these.
    """
    width = 2.0 * 48**-0.5  # twice as wide as by fan-in
    return Setup(
        dataset=dataset,
        train=4800,
        valid=400,
        test=400,
        network=TextNetwork(32, 48, 0.0, (-width, width), (-1.0, 1.0)),
        latent_dim=8,
        batch_size=32,
        optimisation=Optimisation(
            optimiser="adam",
            learning_rate=1e-2,
            first_decay_update=500,
            max_epochs=6,  # of 151 updates
            annealing=300,  # a third of all updates, as for real text
            own_factors=450,
        ),
        # 50 draws for all sentences cost what 100 for half of them do, and a gain in nats shows in
        # more sentences, not in more draws.
        nll_samples=50,
        nll_sentences=400,
        mi_samples=5,
    )


def of_grammar(quick: Setup, *wordings: Wording) -> dict[str, Setup]:
    """Scales of a recipe on embedded text; medium has all sentences and three times the updates.

    Args:
        quick: made of :func:`embedded`.
        wordings: what is measured of written text, at quick and at medium scale; or nothing.
    """
    quick_wording, medium_wording = wordings or (None, None)
    quick = replace(quick, wording=quick_wording)
    longer = {"max_epochs": 11, "annealing": 900, "first_decay_update": 1500, "own_factors": 1200}
    medium = varied(
        quick,
        sizes=(8000, 1000, 1000),
        optimisation=longer,
        nll_sentences=1000,
        wording=medium_wording,
    )
    width = 2.0 * 48**-0.5  # of the network at quick scale
    smoke = _smoke(quick, TextNetwork(12, 16, 0.0, (-width, width), (-1.0, 1.0)), updates=6)
    return {"smoke": smoke, "quick": quick, "medium": medium}


def unbounded(setup: Setup) -> Setup:
    """Without clipping and with the last epoch kept, as in the code of AutoGen's and IGP's papers.

    AutoGen's loss is 1 + m times as large and would meet a bound sooner.
    """
    return varied(setup, optimisation={"clip_norm": _NEVER, "keeps": "last"})


# --- the benchmark of all methods -----------------------------------------------------------------


def _small_text(dataset: str, length: int | None, vocabulary: int | None, count: int) -> Setup:
    """Text at a scale of a few minutes of one core a run.

    The papers train 100,000 documents of 79 to 96 words with 512 / 1024 / 32 (embedding, hidden,
    latent) for 100 epochs of 3,125 updates, from weights of U(-0.01, 0.01).
    With a tenth of the units those weights leave the code dead: not even an autoencoder uses it.
    The sweep below shows which first weights, optimiser and length of training revive it.  The
    choice rests on the four models of the premise and on validation data alone: by fan-in the
    autoencoder saves 8 nats on Short Yelp and 4 on Yahoo with all units, the VAE collapses, and
    beta = 0.2 carries several nats.  SGD meets the premise as well; with Adam the language model's
    validation loss is lower (36.3 nats against 36.6), and a recipe of its own keeps SGD.
    """
    return Setup(
        dataset=dataset,
        train=count,
        valid=1000,
        test=1000,
        max_length=length,
        max_vocabulary=vocabulary,
        network=_fan_in(48, 96),
        latent_dim=16,
        batch_size=32,
        optimisation=Optimisation(  # for runs of 3,000 to 8,000 updates
            optimiser="adam",
            learning_rate=2e-3,
            # The papers' code lets it fall only from epoch 15 of 100 on, long after annealing.
            first_decay_update=3500,
            patience=2,
            max_epochs=15,
            annealing=2500,
            own_factors=3100,
        ),
        nll_samples=100,  # paper: 500; a gain in nats shows in more sentences, not in more draws
        nll_sentences=1000,
        mi_samples=10,
    )


def _wide(embedding: int, hidden: int, width: float) -> TextNetwork:
    """First weights of a width, and embeddings ten times as wide."""
    return TextNetwork(embedding, hidden, 0.5, (-width, width), (-10.0 * width, 10.0 * width))


def _fan_in(embedding: int, hidden: int) -> TextNetwork:
    """First weights as wide as PyTorch's own for an LSTM."""
    return _wide(embedding, hidden, hidden**-0.5)


def benchmark(
    dataset: str,
    length: int | None,
    precision: Precision = Precision.FLOAT32,
    *,
    labelled: bool = False,
) -> dict[str, Setup]:
    """Real text: quick has fewer sentences and two thirds of the updates of medium.

    After 3,000 updates, 15 epochs of 6,400 sentences, an autoencoder has not saved 3 nats yet.
    """
    small = _small_text(dataset, length, 2000, 16000)
    medium = varied(small, network={"precision": precision}, probes=labelled)
    quick = varied(
        medium, train=6400, optimisation={"max_epochs": 24}, nll_samples=50, nll_sentences=500
    )
    return {"smoke": _smoke(quick, _fan_in(12, 16), updates=6), "quick": quick, "medium": medium}


def generation(dataset: str, length: int | None) -> dict[str, Setup]:
    """As the comparison of all methods, with measures of what is written."""
    scales = benchmark(dataset, length, Precision.BFLOAT16)
    wordings = Wording(24, 40, 1), Wording(200, 1000, 4), Wording(500, 6400, 10)
    return {
        name: replace(scales[name], wording=wording)
        for name, wording in zip(scales, wordings, strict=True)
    }


def by_sgd(scales: dict[str, Setup]) -> dict[str, Setup]:
    """The papers' optimiser at a small scale: what a free choice of the recipe decides."""
    sgd = {"optimiser": "sgd", "learning_rate": 1.0}
    return {name: varied(setup, optimisation=sgd) for name, setup in scales.items()}


def large_yelp() -> Setup:
    """Short Yelp with the papers' own network for it, all words and as many sentences as they have.

    Their training sentences are lost; these are 100,000 others of the same source.
    """
    width = 512**-0.5
    first = (-width, width), (-1.0, 1.0)
    return Setup(
        dataset="yelp-short",
        train=100_000,
        valid=5000,  # paper: 10,000
        test=10_000,
        network=TextNetwork(128, 512, 0.5, *first, precision=Precision.BFLOAT16),
        latent_dim=32,
        batch_size=32,
        optimisation=Optimisation(
            # SGD and U(-0.01, 0.01) take the papers a hundred epochs; eight have to do.
            optimiser="adam",
            learning_rate=1e-3,
            annealing=9400,  # updates: three epochs
            first_decay_update=12_500,
            max_epochs=8,
        ),
        nll_samples=100,
        nll_sentences=2000,
        mi_samples=10,
        probes=True,
    )


# --- from the paper's scale to ours ---------------------------------------------------------------

# What a smaller scale has to settle before methods are compared: first weights, the optimiser and
# the number of updates.  A cell of this sweep is a scale of its recipe.
_WIDTHS = {  # of the uniform first weights, and of the embeddings' ten times as wide ones
    "paper": 0.01,  # right for 1,024 units and 3,125 updates an epoch
    "middle": 0.03,
    "fan-in": 96**-0.5,  # as wide as PyTorch's own for an LSTM of 96 units
}
_RATES = {"sgd": 1.0, "adam": 2e-3}
_SENTENCES = (6400, 16000)


def sweep(dataset: str, length: int | None) -> dict[str, Setup]:
    """One set-up for each width of first weights, optimiser and number of sentences."""
    small = _small_text(dataset, length, 2000, _SENTENCES[0])
    cells = {"smoke": _smoke(small, _fan_in(12, 16), updates=6)}
    for count in _SENTENCES:
        for optimiser, rate in _RATES.items():
            for name, width in _WIDTHS.items():
                cells[f"{name}-{optimiser}-{count}"] = varied(
                    small,
                    train=count,
                    network=_wide(48, 96, width),
                    optimisation={"optimiser": optimiser, "learning_rate": rate},
                    nll_samples=50,
                    nll_sentences=500,
                )
    return cells


# --- the isotropic posterior ----------------------------------------------------------------------


def isotropic(
    dataset: str,
    sizes: tuple[int, int, int],
    max_length: int | None = None,
    max_vocabulary: int | None = None,
    latent_dim: int = 8,
    judge_epochs: int = 0,
    learning_rate: float = 5e-4,
) -> dict[str, Setup]:
    """Zhang et al. 2021, section 4, with the sizes for SNLI: 50, 128 and 8."""
    # The paper names no first values, so they are as wide as PyTorch's own.  With He et al.'s
    # narrow ones the KL is paid by one constant offset of all means, and nothing is encoded.
    first = (-0.09, 0.09), (-1.7, 1.7)
    medium = Setup(
        dataset=dataset,
        train=sizes[0],
        valid=sizes[1],
        test=sizes[2],
        max_length=max_length,
        max_vocabulary=max_vocabulary,
        network=TextNetwork(50, 128, 0.0, *first),
        latent_dim=latent_dim,
        batch_size=32,  # paper: 128, with six times the sentences; updates are what counts
        optimisation=Optimisation(
            optimiser="adam",
            learning_rate=learning_rate,
            clip_norm=_NEVER,  # the paper names no clipping
            max_epochs=12,  # paper: 20
            keeps="last",  # as in the paper's code
        ),
        nll_samples=100,
        nll_sentences=500,
        mi_samples=10,
        means_points=1000,
        # A language model is trained on the sentences (paper: 100,000 of them).
        wording=Wording(1000, min(sizes[0], 8000) if judge_epochs else 2000, judge_epochs),
    )
    quick = varied(
        medium,
        sizes=(min(sizes[0], 3200), 400, 400),
        network=TextNetwork(32, 64, 0.0, *first),
        # 800 updates have to do: with a lower rate no code would hold anything yet.
        optimisation={"learning_rate": 5e-3, "max_epochs": 8},
        nll_sentences=200,
        means_points=400,
        wording=Wording(300, 1000, min(judge_epochs, 3)),
    )
    smoke = _smoke(quick, TextNetwork(12, 16, 0.0, *first))
    return {"smoke": smoke, "quick": quick, "medium": medium}


def from_narrow_values(scales: dict[str, Setup]) -> dict[str, Setup]:
    """The first values of He et al. 2019, and nothing is generated."""
    first = TextNetwork(1, 1, 0.0)
    values = {name: getattr(first, name) for name in ("init_parameters", "init_embeddings")}
    return {
        name: varied(
            setup,
            network=values,
            wording=None if setup.wording is None else replace(setup.wording, generated=0),
        )
        for name, setup in scales.items()
    }


# --- AutoGen --------------------------------------------------------------------------------------


def autogen(dataset: str, sizes: tuple[int, int, int], words: int | None) -> dict[str, Setup]:
    """Mansbridge et al. 2018, section 3; the sizes of their networks are not printed."""

    def network(embedding: int, hidden: int) -> TextNetwork:
        # Bowman et al. 2016 keep 62 percent of the words that the decoder reads.
        return TextNetwork(embedding, hidden, 0.0, init_parameters=(-0.1, 0.1), word_dropout=0.38)

    medium = Setup(
        dataset=dataset,
        train=sizes[0],
        valid=sizes[1],
        test=sizes[2],
        max_length=words,
        max_vocabulary=None if words is None else 4000,  # paper: 20,000
        network=network(50, 128),
        latent_dim=16,
        batch_size=32,
        optimisation=Optimisation(
            optimiser="adam",
            learning_rate=2e-3,
            clip_norm=_NEVER,  # its loss is 1 + m times as large and would meet a bound sooner
            max_epochs=12,
            keeps="last",
        ),
        nll_samples=100,
        nll_sentences=300,
        mi_samples=10,
        wording=Wording(1000, 4000, 10),
    )
    quick = varied(
        medium,
        sizes=(min(sizes[0], 3200), 400, 400),
        network=network(50, 64),
        # A thousand updates have to do: with a rate of 2e-3 no code would hold anything yet.
        optimisation={"learning_rate": 1e-2, "max_epochs": 10},
        nll_samples=50,
        nll_sentences=100,
        mi_samples=5,
        wording=Wording(200, 500, 2),
    )
    return {"smoke": _smoke(quick, network(12, 16)), "quick": quick, "medium": medium}
