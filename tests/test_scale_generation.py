"""Table 5 of Scale-VAE: rules, tables and figures of the page on generated text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from companion.claims.groups import BATCH_NORM, GENERATION, WIDE_SCALE
from companion.claims.reference import Result
from companion.claims.verdicts import Label, Outcome, Role, Verdict
from companion.scale import generation as generated
from companion.show import figures as plots
from posterior_collapse.errors import BadInput
from posterior_collapse.runs import Spec

PRINTED = {  # BN-VAE, Scale-VAE: the signs of table 5
    "forward_perplexity": (260.0, 275.0),
    "gram_2": (0.977, 0.981),
    "gram_3": (0.872, 0.842),
    "gram_4": (0.681, 0.602),
    "entropy": (5.72, 5.91),
    "distinct_1": (0.0082, 0.0133),
    "distinct_2": (0.09, 0.189),
    "distinct_3": (0.169, 0.44),
}


def written(seeds: Sequence[int] = (0, 1, 2), **scaled: float) -> dict[str, list[Result]]:
    """Results with the printed winners; ``scaled`` replaces measures of Scale-VAE."""
    found: dict[str, list[Result]] = {}
    for method in GENERATION:
        second = method == WIDE_SCALE
        values = {name: pair[second] for name, pair in PRINTED.items()}
        values |= scaled if second else {}
        found[method] = []
        for seed in seeds:
            factor = 1.0 + 1e-4 * seed
            metrics = {
                f"{way}_{k}": v * factor for way in generated.WAYS for k, v in values.items()
            }
            metrics |= {f"real_distinct_{n}": 0.2 for n in (1, 2, 3)}
            metrics |= {f"real_gram_{n}": 0.5 for n in (2, 3, 4)}
            metrics |= {"real_perplexity": 50.0, "real_entropy": 5.0}
            metrics |= {"mutual_information": 2.0 + 0.1 * seed, "active_units": 4}
            metrics |= {"scaled_largest_factor": 30.0} if second else {}
            arrays = {f"text_{way}": np.array(["a b ."]) for way in generated.WAYS}
            spec = Spec("generation-yahoo", method, "medium", seed)
            found[method].append(Result(spec, metrics, pd.DataFrame(), arrays, {}, []))
    return found


def test_table_5_holds_where_every_column_has_its_printed_winner() -> None:
    told = generated.decide_table(written())
    assert told is not None and told.item == "scale-tab5"
    assert told.verdict is Verdict.HOLDS
    assert [check.premise for check in told.checks] == [True] + [False] * 9
    rules = {check.quantity.partition(",")[0]: check.rule.split()[0] for check in told.checks}
    assert rules["log PPL"] == rules["Entropy"] == rules["Dist-1"] == rules["Gram-2"] == "above"
    assert rules["Gram-3"] == rules["Gram-4"] == "below"
    [nats] = [check.measured for check in told.checks if check.quantity.startswith("log PPL")]
    assert nats.mean == pytest.approx(math.log(275.0 / 260.0))


@pytest.mark.parametrize("name", list(PRINTED))
def test_table_5_notices_each_column_with_another_winner(name: str) -> None:
    pair = PRINTED[name]
    told = generated.decide_table(written(**{name: 2.0 * pair[0] - pair[1]}))
    assert told is not None and told.verdict is Verdict.MIXED
    assert [c.outcome for c in told.checks].count(Outcome.FAILS) == 1


@pytest.mark.parametrize("method", [WIDE_SCALE, BATCH_NORM])
def test_table_5_says_nothing_of_models_that_have_collapsed(method: str) -> None:
    """Every column has its printed winner, and still it is no evidence."""
    found = written()
    for result in found[method]:
        result.metrics["mutual_information"] = 0.001 * (1 + result.spec.seed)
    told = generated.decide_table(found)
    assert told is not None
    # BN-VAE is what is compared with; Scale-VAE is praised, and the columns count for nothing.
    lost = {WIDE_SCALE: Label.NOT_REPRODUCED, BATCH_NORM: Label.CANNOT_TELL}
    assert told.label is lost[method]
    assert told.counts(Role.CENTRAL).hold == 0


def test_table_5_needs_both_methods_and_more_than_one_seed() -> None:
    one = generated.decide_table(written(seeds=(0,)))
    assert one is not None and one.verdict is Verdict.UNDECIDED
    found = written()
    del found[BATCH_NORM]
    assert generated.decide_table(found) is None
    with pytest.raises(BadInput, match='did you mean "greedy"'):
        generated.decide_table(written(), "gredy")


def test_tables_of_generated_text() -> None:
    shown = {"Beginnings of Yahoo documents, reference": written()}
    rows = generated.printed_table(shown, "sampled").set_index("measure")
    assert rows.loc["PPL", "BN-VAE (0.6), printed"] == "260.44"
    assert rows.loc["Dist-2, %", "Scale-VAE (1.1), printed"] == "1.89 E-05"
    assert rows.loc["Gram-2, %", "Scale-VAE (1.1), reference"] == "98.11 (0.01)"
    every = generated.all_table(written(), "greedy").set_index("measure")["people: test set"]
    assert every["PPL"] == "50.0"
    assert every["Gram-3, %"] == "50.00"
    assert every["words a text"] == "–"
    winners = generated.winners_table(shown).set_index("larger")
    assert (winners["printed"] == winners["reference, sampling"]).all()
    assert list(winners["printed"]).count("BN-VAE") == 2
    assert generated.examples(written(), "greedy").shape == (1, 5)
    factors = generated.factor_table(shown).set_index("method")["largest f"]
    assert list(factors) == ["–", "30.0 (0.0)"]
    figure = generated.plane_figure(written())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [*map(generated.called, GENERATION), "test set"]
    assert plots.png(figure).startswith(b"\x89PNG")
