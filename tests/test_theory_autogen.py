"""AutoGen's statements: the cases, properties beyond the searches, and what the page shows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad

from companion.autogen import statements as autogen
from companion.autogen import theory as pictures
from companion.claims.statements import Standing, Way, examine, findings
from pages_help import run_cell
from posterior_collapse.layers import Progress
from posterior_collapse.objectives import ELBO, AutoGen, Constant

Array = NDArray[np.float64]

CASES = {
    case["name"]: case
    for case in json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
    if case["group"] == "autogen"
}
STATEMENTS = {statement.id: statement for statement in autogen.STATEMENTS}


def test_all_cases_are_here() -> None:
    assert sorted(CASES) == ["autogen_m0", "autogen_m1", "autogen_m2"]


@pytest.mark.parametrize("name", sorted(CASES))
def test_closed_forms_equal_the_cases(name: str) -> None:
    case = CASES[name]
    given_, m = case["inputs"], case["inputs"]["m"]
    toy = autogen.Toy(given_["w"], given_["s"], given_["x"])
    q = autogen.Gaussian(given_["q_mu"], given_["q_var"])
    best = autogen.tilted(toy, 1.0 + m)
    found: dict[str, Any] = {
        "logM": [autogen.log_moment(toy, k) for k in range(1, 1 + len(case["expected"]["logM"]))],
        "objective_shared_z": autogen.log_moment(toy, 1.0 + m),
        "objective_independent_z": autogen.own_codes(toy, m),
        "bound_at_q": autogen.bound(toy, q, 1.0 + m),
        "elbo_at_q": autogen.bound(toy, q, 1.0),
        "q_opt": list(best),
        "bound_at_q_opt": autogen.bound(toy, best, 1.0 + m),
        "beta_equiv": 1.0 / (1.0 + m),
        "elbo_at_q_opt": autogen.bound(toy, best, 1.0),
        "posterior": list(autogen.tilted(toy, 1.0)),
    }
    assert found.keys() == case["expected"].keys()
    for key, expected in case["expected"].items():
        assert found[key] == pytest.approx(expected, rel=case["rtol"], abs=case["atol"]), key


@pytest.mark.parametrize("k", [0.0, 0.5, 1.0, 2.5, 6.0])
def test_moment_and_tilt_equal_quadrature(k: float) -> None:
    toy = autogen.Toy(-0.8, 0.4, 0.7)

    def weight(z: float) -> float:
        likelihood = math.exp(-0.5 * ((toy.x - toy.w * z) / toy.s) ** 2)
        likelihood /= toy.s * math.sqrt(2.0 * math.pi)
        return likelihood**k * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)

    def integral(power: int) -> float:
        return float(quad(lambda z: z**power * weight(z), -10, 10, points=[-0.9], limit=200)[0])

    assert autogen.log_moment(toy, k) == pytest.approx(math.log(integral(0)), abs=1e-9)
    mean = integral(1) / integral(0)
    spread = integral(2) / integral(0) - mean**2
    assert list(autogen.tilted(toy, k)) == pytest.approx([mean, spread], abs=1e-8)


# --- properties -----------------------------------------------------------------------------------


@st.composite
def models(draw: st.DrawFn, highest: float = 3.0) -> tuple[Array, Array, Array]:
    """log p(x|z) up to ``highest``, prior and encoder, of up to six codes, with real numbers."""
    n = draw(st.integers(2, 6))

    def some(low: float, high: float) -> Array:
        return np.array(draw(st.lists(st.floats(low, high), min_size=n, max_size=n)))

    prior, q = np.exp(some(-3, 3)), np.exp(some(-3, 3))
    return some(-6.0, highest), prior / prior.sum(), q / q.sum()


def log_moment(model: tuple[Array, Array, Array], k: float) -> float:
    log_likelihood, prior, _ = model
    top = log_likelihood.max()
    return k * top + math.log(float((prior * np.exp(k * (log_likelihood - top))).sum()))


def objective(model: tuple[Array, Array, Array], q: Array, m: float) -> float:
    log_likelihood, prior, _ = model
    return float((q * ((1.0 + m) * log_likelihood + np.log(prior) - np.log(q))).sum())


def tilt(model: tuple[Array, Array, Array], k: float) -> Array:
    log_likelihood, prior, _ = model
    weight = prior * np.exp(k * (log_likelihood - log_likelihood.max()))
    return np.asarray(weight / weight.sum())


@given(models(), st.floats(-0.9, 8.0))
def test_gap_of_the_bound_is_the_distance_to_the_tilted_encoder(
    model: tuple[Array, Array, Array], m: float
) -> None:
    q, star = model[2], tilt(model, 1.0 + m)
    gap = log_moment(model, 1.0 + m) - objective(model, q, m)
    distance = float((q * (np.log(q) - np.log(np.maximum(star, 1e-300)))).sum())
    assert gap == pytest.approx(distance, abs=1e-8)
    assert gap > -1e-9


@given(models(), st.floats(0.0, 8.0))
def test_own_codes_lie_between_from_one_on_and_outside_before(
    model: tuple[Array, Array, Array], m: float
) -> None:
    first, second = log_moment(model, 1.0), log_moment(model, 2.0)
    own, top = first + m * (second - first), log_moment(model, 1.0 + m)
    assert objective(model, tilt(model, 1.0), m) <= own + 1e-9
    assert (own <= top + 1e-9) if m >= 1.0 else (own >= top - 1e-9)


@given(models(highest=0.0), st.floats(0.0, 8.0))
def test_the_objective_bounds_the_evidence_of_discrete_data(
    model: tuple[Array, Array, Array], m: float
) -> None:
    evidence = log_moment(model, 1.0)
    assert objective(model, model[2], m) <= evidence + 1e-9
    assert log_moment(model, 1.0 + m) <= evidence + 1e-9


def test_a_density_lifts_the_objective_above_the_evidence() -> None:
    toy = autogen.Toy(1.5, 0.05, 1.0)
    best = autogen.bound(toy, autogen.tilted(toy, 2.0), 2.0)
    assert best > autogen.log_moment(toy, 1.0) + 1.0
    assert best - autogen.log_moment(toy, 1.0) == pytest.approx(autogen.largest_excess(toy, 1.0))


# --- printed forms --------------------------------------------------------------------------------


def test_equation_10_with_own_codes_has_the_counterexample_that_is_shown() -> None:
    printed = STATEMENTS["A2"].printed
    assert printed is not None
    shown = printed()
    assert not shown.holds
    assert "m = 2, p(z) = (0.5, 0.5), p(x|z) = (0.125, 0.375), q(z|x) = (0, 1)" in (
        shown.counterexample
    )
    # by hand: E_q log p(x|z) = log 3/8, KL = log 2, M_1 = 1/4, M_2 = 5/64
    bound = 3.0 * math.log(3 / 8) - math.log(2.0)
    own = math.log(1 / 4) + 2.0 * math.log((5 / 64) / (1 / 4))
    assert bound > own
    assert f"bound {bound:.5f} > objective {own:.5f}" in shown.counterexample


def test_a_discrete_model_refutes_that_the_objective_bounds_no_evidence() -> None:
    printed = STATEMENTS["A4"].printed
    assert printed is not None
    shown = printed()
    assert not shown.holds
    # by hand: p(x|z) = 1/8 or 1/4, so M_1 = 3/16 and M_2 = 5/128
    assert f"L ≤ {math.log(5 / 128):.5f} < log p(x) = {math.log(3 / 16):.5f}" in (
        shown.counterexample
    )


def test_the_verdicts_of_the_items() -> None:
    # without mutations: the generic tests of all statements run those
    done = [examine(statement, mutate=False) for statement in autogen.STATEMENTS]
    assert [one.standing for one in done] == [
        Standing.CORRECTED if one.statement.id in ("A2", "A4") else Standing.TRUE for one in done
    ]
    verdicts = {found.item: found.verdict.value for found in findings(done)}
    assert verdicts == {
        "autogen-eq9": "holds",
        "autogen-eq10": "false as printed, corrected",
        "": "false as printed, corrected",
        "autogen-anneal": "holds",
    }


def test_a_likelihood_above_one_is_noticed_by_the_search() -> None:
    density = STATEMENTS["A4"].constants.changed("ceiling", 4.0)
    evidence = {one.way: one for one in (check(density) for check in STATEMENTS["A4"].checks)}
    assert not evidence[Way.SEARCH].holds


# --- training -------------------------------------------------------------------------------------


def adam(objective_: Any, updates: int = 30) -> list[float]:
    """Parameters after some steps of Adam with the same noise and next to no epsilon."""
    model, x = autogen.small_model(3)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01, eps=1e-30)
    for step in range(updates):
        found = autogen.gradients(objective_, model, x, step, Progress(0, 1))
        for name, parameter in model.named_parameters():
            parameter.grad = found[name]
        optimiser.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


def test_adam_does_not_see_a_constant_m() -> None:
    assert adam(AutoGen(3.0)) == pytest.approx(adam(ELBO(Constant(0.25))), abs=1e-9)
    assert adam(AutoGen(3.0)) != pytest.approx(adam(ELBO(Constant(1.0))), abs=1e-3)


# --- the page -------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [0.5, 1.0, 2.0, 5.0])
def test_gradients_differ_by_rounding(m: float) -> None:
    model, x = autogen.small_model(0)
    objectives = (AutoGen(m), ELBO(Constant(1.0 / (1.0 + m))))
    left, right = (autogen.gradients(one, model, x, 0, Progress(0, 1)) for one in objectives)
    assert len(left) == 5
    for name, value in left.items():
        assert (value - (1.0 + m) * right[name]).abs().max() < 1e-13 * value.abs().max()


def test_table_of_orders_shows_the_order_of_the_readings() -> None:
    table = run_cell("autogen/theory", "autogen-theory-13")["orders"]
    shared, own, low = (
        table[name] for name in ("L at the best q", "own codes", "L at the posterior")
    )
    assert np.allclose(shared[:2], own[:2]) and (shared[2:] > own[2:]).all()
    assert (own[1:] > low[1:]).all()
    elbo = table["ELBO at the best q"]
    assert (np.diff(elbo) < 0).all()
    assert elbo[0] == pytest.approx(autogen.log_moment(autogen.TOY, 1.0))


def test_excess_is_negative_for_bits_and_of_both_signs_for_a_density() -> None:
    found = pictures.excess()
    for m in (1, 2):
        assert (found.bits[m] < 0).all()
        assert found.density[m][0] > 0 > found.density[m][-1]


def test_annealing_and_the_scaled_rate_take_one_path() -> None:
    found = pictures.annealing(updates=60)
    assert found.annealed == pytest.approx(found.scaled, abs=1e-10)
    assert np.abs(found.annealed - found.unscaled).max() > 0.1
    assert found.m[0] == pytest.approx(9.0)
    assert (np.diff(found.m) < 0).all()


def test_slider_has_frames_of_one_size() -> None:
    frames, labels = pictures.moment_frames()
    assert len(frames) == len(labels) <= 15
    assert len({tuple(frame.get_size_inches()) for frame in frames}) == 1
    assert "own codes −2.692, one code −2.558" in labels[4]
