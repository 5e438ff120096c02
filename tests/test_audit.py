"""The audit of the printed tables: each rule on made tables, on spoiled ones, and as printed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion import audit
from companion.audit import RULES, Comparison, Found, Kind, Report, claims_of_texts, judge, number
from companion.claims import printed as papers
from companion.claims.verdicts import Outcome
from companion.papers import audit as page
from posterior_collapse.errors import BadInput

Made = Mapping[str, Sequence[Mapping[str, str]]]

PAGE = papers.repository() / "notebooks" / "papers" / "audit.ipynb"


def made(tables: Made) -> dict[str, pd.DataFrame]:
    """Small tables as text; a cell that is not given is empty."""
    return {name: pd.DataFrame(rows, dtype=str).fillna("") for name, rows in tables.items()}


def excesses(rule: str, tables: Made) -> list[audit.Case]:
    """The cases of one rule on made tables that are findings."""
    cases = list(RULES[rule].cases(audit.rows_of(made(tables))))
    assert cases, "the rule compares nothing here"
    return [case for case in cases if case.excess > 0]


@pytest.fixture(scope="module")
def printed() -> dict[str, pd.DataFrame]:
    return audit.read()


@pytest.fixture(scope="module")
def reports(printed: dict[str, pd.DataFrame]) -> dict[str, Report]:
    return {report.rule.id: report for report in audit.audit(printed)}


# --- numbers --------------------------------------------------------------------------------------


def test_a_number_stands_for_what_rounds_to_it() -> None:
    found = number("5.20")
    assert (found.low, found.high) == (Fraction("5.195"), Fraction("5.205"))
    assert number("8").half == Fraction(1, 2)
    assert [number(text).digits for text in ("329.54", "0.05", "89.00")] == [5, 1, 4]


@pytest.mark.parametrize("text", ["", "1e3", "5.2.1", "n/a", "1/2", " 5", "٣"])
def test_other_text_is_no_number(text: str) -> None:
    with pytest.raises(BadInput, match="no printed number"):
        number(text)


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(BadInput, match='did you mean "nll"'):
        audit.audit(made({"lagging/table1": [{"method": "VAE", "nlll": "1.0"}]}))


# --- each rule on made tables ---------------------------------------------------------------------


def one(table: str, **cells: str) -> Made:
    """A table of one row."""
    return {table: [{"dataset": "Yahoo", "method": "VAE", **cells}]}


def many(table: str, names: str, *lines: str) -> dict[str, list[dict[str, str]]]:
    """A table from its columns and from lines with bars between the cells."""
    columns = names.split()
    return {table: [dict(zip(columns, line.split("|"), strict=True)) for line in lines]}


_COPY = "dataset method method_key note nll kl mi au"
_SOURCE = many(
    "lagging/table1",
    _COPY,
    "Yahoo|Ours|lagging||326.7|5.7|2.9|15.0",
    "Yelp|Ours|lagging||355.9|3.8|2.4|11.4",
)
_LABELS = "dataset method labels accuracy"
_AU = "dataset method au"
_NLL = ("A|358.2|0.0|0.0", "A|358.3|0.0|0.0")

# rule -> tables with one planted error, and tables without
RULE_CASES: dict[str, tuple[Made, Made]] = {
    "mi-above-kl": (one("du/table1", mi="2.50", kl="2.48"), one("du/table1", mi="2.49", kl="2.48")),
    "mi-above-ceiling": (one("lagging/table1", mi="3.6"), one("lagging/table1", mi="3.5")),
    "mi-at-ceiling": (one("lagging/table1", mi="3.4"), one("lagging/table1", mi="3.3")),
    "nll-above-elbo": (
        one("lagging/table5", nll="330.2", neg_elbo="330.0"),
        one("lagging/table5", nll="330.1", neg_elbo="330.0"),
    ),
    "collapsed-gap": (
        one("lagging/table8", nll="328.1", neg_elbo="328.4", kl="0.0"),
        one("lagging/table8", nll="328.1", neg_elbo="328.2", kl="0.0"),
    ),
    "kl-floor": (
        one("du/table1", method="BN-VAE (0.6)", gamma="0.6", kl="5.6"),
        one("du/table1", method="BN-VAE (0.6)", gamma="0.6", kl="5.8"),
    ),
    "au-dimensions": (
        one("igp/table2", dataset="SNLI", au="9"),
        one("igp/table2", dataset="SNLI", au="8"),
    ),
    "active-kl": (one("du/table1", kl="0.1", au="32.0"), one("du/table1", kl="0.2", au="32.0")),
    "active-silent": (
        one("du/table1", kl="0.0", mi="0.0", au="5.0"),
        one("du/table1", kl="0.0", mi="0.0", au="0.0"),
    ),
    "abnormal": (one("du/table1", kl="3.2", mi="0.0"), one("du/table1", kl="0.1", mi="0.0")),
    "elbo-sum": (
        one("igp/table2", neg_elbo="331.2", rec="325.0", kl="6.0"),
        one("igp/table2", neg_elbo="331.1", rec="325.0", kl="6.0"),
    ),
    "time-ratio": (
        many("scale/table2", "method hours time_ratio", "VAE|3.50|1.00", "Fast|3.22|0.91"),
        many("scale/table2", "method hours time_ratio", "VAE|3.50|1.00", "Fast|3.22|0.92"),
    ),
    "time-ratio-digits": (
        many("lagging/table3", "method hours time_ratio", "VAE|4.30|1.00", "Slow|65.07|15.15"),
        many("lagging/table3", "method hours time_ratio", "VAE|4.30|1.00", "Slow|65.07|15.13"),
    ),
    "perplexity": (  # 80 words, and 84 in the last line of the first table
        many("scale/table5", "method nll ppl", "A|320.00|54.60", "B|328.00|49.60"),
        many("scale/table5", "method nll ppl", "A|320.00|54.60", "B|328.00|60.34"),
    ),
    "percent": (one("du/table2", accuracy="100.1"), one("du/table2", accuracy="100.0")),
    "distinct-order": (
        many("scale/table5", "method dist_1 dist_2", "A|0.82|0.90"),
        many("scale/table5", "method dist_1 dist_2", "A|0.82|900.00"),
    ),
    "mean-of-counts": (one("scale/table1", au="2.3"), one("scale/table1", au="2.4")),
    "spread-of-counts": (
        one("lagging/table1", au="1.0", au_sd="0.3"),
        one("lagging/table1", au="1.0", au_sd="0.7"),
    ),
    "equal-lines": (
        many("du/table3", _AU, *(f"Yelp|{m}|{n}.5" for m in "AB" for n in (3, 4, 5))),
        many("du/table3", _AU, *(f"Yelp|{m}|{n}.5" for m in "AB" for n in (3, 4, 5)), "Yelp|B|6.5"),
    ),
    "equal-columns": (
        many("du/table1", _AU, *(f"{d}|{m}|{m}.5" for m in "357" for d in ("Yahoo", "Yelp"))),
        many("du/table1", _AU, *(f"{d}|{m}|{m}.5" for m in "35" for d in ("Yahoo", "Yelp"))),
    ),
    "labels-order": (
        many("du/table2", _LABELS, "Yelp|A|100|91.25", "Yelp|A|500|91.10"),
        many("du/table2", _LABELS, "Yelp|A|100|91.10", "Yelp|A|500|91.25"),
    ),
    "equal-numbers": (
        many("lagging/table5", "dataset method neg_elbo", "Yahoo|A|329.54", "Yahoo|B|329.54"),
        many("lagging/table5", "dataset method neg_elbo", "Yahoo|A|329.54", "Yahoo|B|329.55"),
    ),
    "collapsed-nll": (
        many("lagging/table10", "method nll kl mi", *_NLL, "B|390.3|0.0|0.0"),
        many("lagging/table10", "method nll kl mi", *_NLL, "B|360.3|0.0|0.0"),
    ),
    "printed-twice": (
        {**one("lagging/table1", nll="328.6"), **one("lagging/table5", nll="328.7")},
        {**one("lagging/table1", nll="328.6"), **one("lagging/table5", nll="328.62")},
    ),
    "one-of-several": (
        {**one("lagging/table1", nll="328.6", nll_sd="0.1"), **one("lagging/table9", nll="329.1")},
        {**one("lagging/table1", nll="328.6", nll_sd="0.1"), **one("lagging/table9", nll="329.0")},
    ),
    "referred": (
        {**_SOURCE, **many("du/table1", _COPY, "Yahoo|Agg*|lagging|referred|326.7|5.7|2.8|15.0")},
        {**_SOURCE, **many("du/table1", _COPY, "Yahoo|Agg*|lagging|referred|327|5.7|2.9|15.0")},
    ),
    "unmarked-copy": (
        {**_SOURCE, **many("du/table1", _COPY, "Yahoo|Agg|lagging||326.7|5.7|2.9|15.0")},
        {**_SOURCE, **many("du/table1", _COPY, "Yahoo|Agg|lagging||326.7|5.7|2.8|15.2")},
    ),
    "copy-differs": (
        {**_SOURCE, **many("du/table1", _COPY, "Yahoo|Agg|lagging||326.7|5.7|2.9|6.0")},
        {**_SOURCE, **many("du/table1", _COPY, "Yahoo|Agg|lagging||326.7|5.7|2.9|15.0")},
    ),
    "keep-probability": (
        one("du/table3", method="DU-VAE (0.5, 0.1)", p="0.1"),
        one("du/table3", method="DU-VAE (0.5, 0.9)", p="0.9"),
    ),
}


def test_every_rule_is_tested() -> None:
    assert set(RULE_CASES) | {"claims"} == set(RULES)


@pytest.mark.parametrize("rule", RULE_CASES)
def test_a_rule_finds_a_planted_error_and_nothing_else(rule: str) -> None:
    spoiled, clean = RULE_CASES[rule]
    found = excesses(rule, spoiled)
    assert len(found) == 1
    assert found[0].cause or RULES[rule].cause
    assert excesses(rule, clean) == []


@pytest.mark.parametrize(
    ("rule", "tables", "excess"),
    [
        ("mi-above-kl", one("du/table1", mi="2.50", kl="2.48"), 0.01),
        ("kl-floor", one("du/table1", method="δ-VAE (0.1)", delta="0.1", kl="3.0"), 0.15),
        ("time-ratio", RULE_CASES["time-ratio"][0], 3.215 / 3.505 - 0.915),
        ("mean-of-counts", one("scale/table1", au="2.3"), 0.05),
        ("spread-of-counts", one("lagging/table1", au="1.0", au_sd="0.3"), 0.25),
        ("keep-probability", one("du/table3", p="0.10"), 0.6 - 0.105),
    ],
)
def test_the_excess_is_what_rounding_leaves(rule: str, tables: Made, excess: float) -> None:
    assert float(excesses(rule, tables)[0].excess) == pytest.approx(excess, abs=1e-12)


def test_a_spread_of_counts_is_found_by_trying_all_of_them() -> None:
    """Slow and obvious: every multiset of five small counts, and what it would print."""
    possible = set()
    for counts in itertools.combinations_with_replacement(range(10), 5):
        for ddof in (0, 1):
            possible.add((f"{np.mean(counts):.1f}", f"{np.std(counts, ddof=ddof):.1f}"))
    for mean in ("0.0", "0.2", "1.0", "1.4", "1.8"):
        for sd in [f"{tenths / 10:.1f}" for tenths in range(15)]:
            found = excesses("spread-of-counts", one("lagging/table1", au=mean, au_sd=sd))
            assert bool(found) is ((mean, sd) not in possible), (mean, sd)


def test_causes_follow_from_conditions() -> None:
    scaled = one("scale/table1", method="Scale-VAE (0.7, 1)", mi="8.3", kl="7.1")
    assert "two posteriors" in excesses("mi-above-kl", scaled)[0].cause
    noisy = one("du/table1", method="Agg-VAE", mi="2.50", kl="2.48")
    assert "sampling noise" in excesses("mi-above-kl", noisy)[0].cause
    assert excesses("mi-above-kl", one("du/table1", mi="6.0", kl="2.4"))[0].cause == ""
    assert "cut off" in excesses("time-ratio", RULE_CASES["time-ratio"][0])[0].cause
    far = many("scale/table2", "method hours time_ratio", "VAE|3.50|1.00", "Fast|3.22|0.80")
    assert excesses("time-ratio", far)[0].cause == ""
    columns = many(
        "du/table1",
        _COPY,
        "Yahoo|Agg|lagging||326.7|5.7|2.9|6.0",
        "OMNIGLOT|Agg|lagging||89.0|2.5|2.4|6.0",
    )
    assert "under OMNIGLOT" in excesses("copy-differs", {**_SOURCE, **columns})[0].cause


def test_the_ceiling_of_a_referred_row_is_its_sources() -> None:
    row = "Yahoo|Agg*|lagging|{}|326.7|5.7|{}|15.0"
    for note, count in (("referred", 1), ("", 0)):
        copy = many("du/table1", _COPY, row.format(note, "5.0"))
        assert len(excesses("mi-above-ceiling", {**_SOURCE, **copy})) == count


def test_rows_of_one_table_or_of_other_settings_are_not_one_measurement() -> None:
    names = "dataset method method_key labels accuracy"
    twice = {
        **many("du/table2", names, "Yelp|A|a|100|80.00", "Yelp|A|a|500|81.00"),
        **many("du/table3", names, "Yelp|A|a|100|80.00", "Yelp|A|a|500|81.00"),
    }
    cases = list(RULES["printed-twice"].cases(audit.rows_of(made(twice))))
    assert len(cases) == 2 and all(case.excess <= 0 for case in cases)


# --- rounding alone is never reported -------------------------------------------------------------

_MILLION = Decimal(10) ** 6


def _shown(value: Decimal, places: int) -> str:
    return f"{value.quantize(Decimal(1).scaleb(-places)):f}"


@st.composite
def consistent(draw: Any) -> dict[str, pd.DataFrame]:
    """Two tables of one paper that print the same exact, consistent numbers with chosen digits."""

    def exact(low: float, high: float) -> Decimal:
        return Decimal(draw(st.integers(int(low * 1e6), int(high * 1e6)))) / _MILLION

    rows: list[dict[str, Decimal]] = []
    hours = exact(2, 9)
    for method in ("VAE", "BN-VAE (0.5)", "Other"):
        au = Decimal(draw(st.integers(0, 160))) / 5
        floor = Decimal(4) if method.startswith("BN") else Decimal(0)
        kl = max(floor, au / 200) + exact(0, 5)
        nll, gap = exact(80, 400), exact(0, 3)
        own = hours if method == "VAE" else exact(1, 50)
        row = {"kl": kl, "mi": kl * draw(st.integers(0, 100)) / 100, "au": au, "nll": nll}
        row |= {"neg_elbo": nll + gap, "rec": nll + gap - kl, "hours": own}
        row |= {"time_ratio": own / hours, "accuracy": exact(0, 100)}
        rows.append(row)
    tables = {}
    for table in ("scale/table1", "scale/table3"):
        places = {name: draw(st.integers(0, 3)) for name in rows[0]} | {"hours": 2}
        cells = [{n: _shown(v, places[n]) for n, v in row.items()} for row in rows]
        for method, row in zip(("VAE", "BN-VAE (0.5)", "Other"), cells, strict=True):
            row |= {"dataset": "Yahoo", "method": method, "gamma": "0.5" * method.startswith("BN")}
        tables[table] = pd.DataFrame(cells, dtype=str)
    return tables


@given(consistent())
def test_rounding_alone_is_never_reported(tables: dict[str, pd.DataFrame]) -> None:
    rows = audit.rows_of(tables)
    checked = {}
    for rule in RULES.values():
        if rule.kind is Kind.IMPOSSIBLE:
            cases = list(rule.cases(rows))
            checked[rule.id] = len(cases)
            assert [case for case in cases if case.excess > 0] == [], rule.id
    for name in ("mi-above-kl", "nll-above-elbo", "kl-floor", "elbo-sum", "printed-twice"):
        assert checked[name] > 0


@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(0, 4))
def test_two_roundings_of_one_number_are_never_apart(value: int, a: int, b: int) -> None:
    exact = Decimal(value) / 1000
    tables = {
        **one("lagging/table1", nll=_shown(exact, a)),
        **one("lagging/table5", nll=_shown(exact, b)),
    }
    assert excesses("printed-twice", tables) == []


# --- on the real tables ---------------------------------------------------------------------------


def test_every_rule_is_reported_with_its_comparisons(reports: dict[str, Report]) -> None:
    assert list(reports) == list(RULES)
    for name in ("mi-above-kl", "au-dimensions", "active-kl", "percent", "printed-twice"):
        assert reports[name].checked > 100
    for report in reports.values():
        assert len(report.found) <= report.checked
        for found in report.found:
            assert found.excess > 0 and found.cause and found.meaning and found.printed
            assert found.table in papers.legend()["tables"] and found.row


# The project's list of inconsistencies: what it says -> rule, table, row, data set, printed.
KNOWN = {
    "β = .4 Yahoo MI": ("referred", "du/table1", "β-VAE*", "Yahoo", "MI 6.0; .* 2.8"),
    "β = .4 Yahoo AU": ("referred", "du/table1", "β-VAE*", "Yahoo", "AU 13.0; .* 8.0"),
    "β = .4 Yelp MI": ("referred", "du/table1", "β-VAE*", "Yelp", "MI 5.6; .* 2.0"),
    "SA-VAE AU": ("referred", "du/table1", "SA-VAE*", "Yahoo", "AU 8.6; .* 9.8"),
    "Agg-VAE AU": ("copy-differs", "du/table1", "Agg-VAE", "Yahoo", "AU 6.0; .* 15.0"),
    "Agg-VAE MI > KL": ("mi-above-kl", "du/table1", "Agg-VAE", "OMNIGLOT", "MI 2.50, KL 2.48"),
    "SA-VAE MI": ("referred", "scale/table1", "SA-VAE*", "Yahoo", "MI 3.7; .* 2.7"),
    "AE = δ-VAE": ("equal-lines", "du/table3", "AE", "OMNIGLOT", "AE and δ-VAE .*: 37.28"),
    "VAE = FB": ("equal-lines", "scale/table4", "VAE", "Yelp sentiment", "VAE and FB .*: 72.0"),
    "AU 5 without KL": ("active-silent", "du/table1", "VAE", "Yahoo", "KL 0.0, MI 0.0, AU 5.0"),
    "MI on the scaled": ("mi-above-kl", "scale/table1", "Scale-VAE", "Yahoo", "MI 8.3, KL 7.1"),
    "−ELBO twice": ("equal-numbers", "lagging/table7", "Ours", "Yahoo", "329.54; .* 329.54"),
    "KL 0 with a gap": ("collapsed-gap", "lagging/table8", "VAE", "Yahoo", "328.85, −ELBO 329.54"),
    "MNIST, VAE": ("claims", "igp/table12", "VAE, IGP", "MNIST", "igp-mnist: .*88.82; .* 91.52"),
    "MNIST, IWAE": ("claims", "igp/table12", "IWAE, IGP", "MNIST", "igp-mnist: .*90.71; .* 91.91"),
    "p of DU-VAE": ("keep-probability", "du/table3", "DU-VAE (0.5, 0.1)", "OMNIGLOT", "p 0.1;"),
    "p of DU-IAF": ("keep-probability", "du/table3", "DU-IAF (0.5, 0.15)", "OMNIGLOT", "p 0.15;"),
    # and some that the list does not have
    "ratio .91": ("time-ratio", "scale/table2", "Scale-VAE", "Yahoo", "ratio 0.91"),
    "ratio .95": ("time-ratio", "scale/table2", "BN-VAE", "Yelp", "ratio 0.95"),
    "AU 11.3": ("mean-of-counts", "lagging/table1", "Ours + anneal", "Yelp", "AU 11.3"),
    "columns of AU": ("equal-columns", "du/table1", "VAE", "Yahoo", "AU .* SA-VAE. 8.6"),
    "390.3": ("collapsed-nll", "lagging/table10", "VAE", "Yelp", "NLL 390.3"),
    "E-05": ("distinct-order", "scale/table5", "BN-VAE", "Yahoo", "0.82e-2, .* 0.90e-5"),
}


@pytest.mark.parametrize("what", KNOWN)
def test_known_inconsistencies_are_found(what: str, reports: dict[str, Report]) -> None:
    rule, table, row, dataset, told = KNOWN[what]
    if table not in papers.legend()["tables"]:
        pytest.skip(f"{table} is not transcribed yet")
    assert any(
        (found.table, found.dataset) == (table, dataset)
        and found.row.startswith(row)
        and re.search(told, found.printed)
        for found in reports[rule].found
    )


def test_most_rows_of_scale_vae_have_mi_above_kl(
    printed: dict[str, pd.DataFrame], reports: dict[str, Report]
) -> None:
    rows = [r for r in audit.rows_of(printed) if r.method.startswith("Scale-VAE") and r.get("mi")]
    found = [f for f in reports["mi-above-kl"].found if f.row.startswith("Scale-VAE")]
    assert len(rows) > len(found) > 0.7 * len(rows)
    assert all("two posteriors" in one.cause for one in found)


def test_all_of_mnist_fails(printed: dict[str, pd.DataFrame]) -> None:
    if "igp/table12" not in printed:
        pytest.skip("igp/table12 is not transcribed yet")
    claim = next(claim for claim in audit.claims() if claim.id == "igp-mnist")
    judged = judge(claim, printed)
    assert [side.outcome for side in judged.sides] == [Outcome.FAILS] * 4


@pytest.mark.parametrize(
    ("table", "method", "dataset", "column", "value", "rule"),
    [
        ("lagging/table1", "Ours", "Yahoo", "mi", "5.9", "mi-above-kl"),
        ("lagging/table1", "Ours", "Yahoo", "mi", "3.6", "mi-above-ceiling"),
        ("lagging/table1", "Ours", "Yelp", "au", "7.5", "mean-of-counts"),
        ("lagging/table1", "Ours", "Yelp", "au_sd", "0.7", "spread-of-counts"),
        ("lagging/table5", "Ours", "Yahoo", "nll", "330.2", "nll-above-elbo"),
        ("lagging/table5", "Ours", "Yahoo", "kl", "5.7", "printed-twice"),
        ("lagging/table3", "Ours", "Yahoo", "time_ratio", "2.21", "time-ratio"),
        ("lagging/table9", "Ours", "Yahoo", "nll", "329.0", "one-of-several"),
        ("lagging/table9", "VAE + anneal", "Yahoo", "nll", "382.6", "collapsed-nll"),
        ("du/table1", "BN-VAE (0.6/0.6/0.5)", "Yahoo", "kl", "3.8", "kl-floor"),
        ("du/table1", "FB (0.1)", "Yelp", "au", "33.0", "au-dimensions"),
        ("du/table1", "SA-VAE*", "Yelp", "nll", "359.5", "referred"),
        ("du/table1", "FB (0.1)", "Yahoo", "kl", "0.1", "active-kl"),
        ("du/table2", "AE", "Yelp sentiment", "accuracy", "884.05", "percent"),
        ("du/table1", "DU-IAF (0.7/0.6/0.5, 0.70/0.70/0.85)", "Yelp", "nll", "357.1", "claims"),
        ("scale/table4", "MAE* (2, 0.2)", "Yelp sentiment", "accuracy", "65.1", "referred"),
    ],
)
def test_an_error_planted_in_a_real_table_is_found(
    table: str,
    method: str,
    dataset: str,
    column: str,
    value: str,
    rule: str,
    printed: dict[str, pd.DataFrame],
    reports: dict[str, Report],
) -> None:
    frame = printed[table].copy()
    place = frame.index[(frame["method"] == method) & (frame["dataset"] == dataset)][0]
    assert frame.loc[place, column] != value
    frame.loc[place, column] = value
    rows = audit.rows_of({**printed, table: frame})
    new = [case for case in RULES[rule].cases(rows) if case.excess > 0]
    assert len(new) > len(reports[rule].found)
    assert any(value in case.printed for case in new)


# --- claims ---------------------------------------------------------------------------------------


def test_claims_name_what_there_is(printed: dict[str, pd.DataFrame]) -> None:
    claims = audit.claims()
    assert len({claim.id for claim in claims}) == len(claims) >= 12
    assert {claim.paper for claim in claims} == {"lagging", "autogen", "igp", "du", "scale"}
    for claim in claims:
        assert claim.item.startswith(f"{claim.paper}-")
        judged = judge(claim, printed)  # refuses unknown tables, columns, rows and items
        if all(one.table in printed for one in claim.comparisons):
            assert len(judged.sides) >= len(claim.comparisons)
    outcomes = {judge(claim, printed).outcome for claim in claims}
    assert outcomes == {Outcome.HOLDS, Outcome.FAILS, Outcome.OPEN}


def _spoil(claim: audit.Claim, **changed: Any) -> audit.Claim:
    first = dataclasses.replace(claim.comparisons[0], **changed)
    return dataclasses.replace(claim, comparisons=(first,))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"table": "du/tabel1"}, 'printed table "du/tabel1"; did you mean "du/table1"'),
        ({"quantity": "nl"}, 'column of du/table1 "nl"; did you mean "nll"'),
        ({"ours": {"methd": ["VAE"]}}, 'did you mean "method"'),
        ({"ours": {"method": ["BN-VAE (0.6/0.6)"]}}, r'did you mean "BN-VAE \(0.6/0.6/0.5\)"'),
        ({"theirs": {"dataset": ["Yaho"]}}, 'did you mean "Yahoo"'),
    ],
)
def test_unknown_names_in_claims_are_refused(
    changed: dict[str, Any], message: str, printed: dict[str, pd.DataFrame]
) -> None:
    claim = next(claim for claim in audit.claims() if claim.id == "du-best")
    with pytest.raises(BadInput, match=message):
        judge(_spoil(claim, **changed), printed)
    with pytest.raises(BadInput, match="item of the inventory"):
        judge(dataclasses.replace(claim, item="du-tab9"), printed)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"bettr": "lower"}, 'did you mean "better"'),
        ({"better": "lowest", "low": 1}, 'did you mean "lower"'),
        ({}, "either rows or bounds"),
        ({"low": 1, "theirs": {"method": "B"}}, "either rows or bounds"),
    ],
)
def test_an_entry_of_another_form_is_refused(given_: dict[str, Any], message: str) -> None:
    entry = {"table": "du/table1", "quantity": "nll", "ours": {"method": "A"}, **given_}
    with pytest.raises(BadInput, match=message):
        claims_of_texts._comparison(entry)


def _outcome(a: str, b: str, **changed: Any) -> Outcome:
    table = many("du/table1", "dataset method nll", f"Yahoo|A|{a}", f"Yahoo|B|{b}")
    entry = {"better": "lower", "theirs": {"method": ["B"]}, **changed}
    one_ = Comparison("du/table1", "nll", {"method": ["A"]}, **entry)
    claim = audit.Claim("x", "du", "du-tab1", "", (one_,))
    return judge(claim, made(table)).outcome


@pytest.mark.parametrize(
    ("ours", "theirs", "changed", "outcome"),
    [
        ("326.6", "326.7", {}, Outcome.HOLDS),  # they touch: ours is at most theirs
        ("326.7", "326.7", {}, Outcome.OPEN),
        ("326.7", "326.68", {}, Outcome.OPEN),
        ("326.8", "326.6", {}, Outcome.FAILS),
        ("326.8", "326.6", {"better": "higher"}, Outcome.HOLDS),
        ("326.8", "326.6", {"margin": Fraction(1)}, Outcome.HOLDS),
        ("326.8", "326.6", {"theirs": {}, "low": Fraction(300)}, Outcome.HOLDS),
        ("326.8", "326.6", {"theirs": {}, "high": Fraction(300)}, Outcome.FAILS),
        ("326.8", "", {}, Outcome.OPEN),  # nothing to compare with
    ],
)
def test_a_comparison_decides_only_what_rounding_leaves(
    ours: str, theirs: str, changed: dict[str, Any], outcome: Outcome
) -> None:
    assert _outcome(ours, theirs, **changed) is outcome


def test_the_best_or_each_of_ours_counts() -> None:
    table = many("du/table1", "dataset method nll", "Yahoo|A|1.0", "Yahoo|B|3.0", "Yahoo|C|2.0")
    for each, outcome in ((False, Outcome.HOLDS), (True, Outcome.FAILS)):
        one_ = Comparison(
            "du/table1", "nll", {"method": ["A", "B"]}, "lower", {"method": ["C"]}, each=each
        )
        claim = audit.Claim("x", "du", "du-tab1", "", (one_,))
        assert judge(claim, made(table)).outcome is outcome


# --- the page -------------------------------------------------------------------------------------


def test_the_page_has_a_section_for_every_rule_that_finds_something(
    reports: dict[str, Report],
) -> None:
    cells = json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
    text = ["".join(cell["source"]) for cell in cells]
    shown = {}
    for before, cell in zip(text, text[1:], strict=False):
        if found := re.fullmatch(r'audit\.section\(reports, "([a-z-]+)"\)', cell):
            shown[found[1]] = before
    assert shown == {name: f"### {RULES[name].title}" for name in shown}
    assert {name for name, report in reports.items() if report.found} <= set(shown)


def test_what_the_page_shows(reports: dict[str, Report]) -> None:
    found = list(reports.values())
    summary = page.summary(found)
    assert list(summary["comparisons"]) == [report.checked for report in found]
    assert f"{sum(summary['findings'])} findings" in page.result(found).data
    quiet = set(page.silent(found)["rule"])
    assert quiet == {report.rule.title for report in found if not report.found}
    for report in found:
        shown = page.section(found, report.rule.id).data
        assert report.rule.title in shown or not report.found
    with pytest.raises(BadInput, match='did you mean "mi-above-kl"'):
        page.section(found, "mi-above-k")


def test_causes_that_differ_stand_beside_their_findings() -> None:
    def report(*causes: str) -> Report:
        rule = RULES["percent"]
        found = [Found("percent", "du/table2", "<A>", "Yelp", "x", 1.0, c, "m") for c in causes]
        return Report(rule, 9, tuple(found))

    assert "likeliest cause" not in page.findings(report("a", "a"))
    assert list(page.findings(report("a", "b"))["likeliest cause"]) == ["a", "b"]
    shown = page.section([report("a", "b")], "percent").data
    assert "DU-VAE, table 2" in shown and "&lt;A&gt;" in shown and "<A>" not in shown


def test_claims_and_digests_are_shown(printed: dict[str, pd.DataFrame]) -> None:
    table = page.claims_table(page.claims())
    assert list(table["comparisons"]) == list(table["hold"] + table["fail"] + table["tie"])
    digests = page.digests()
    assert len(digests) == len(printed) + 2
    assert digests["SHA-256"].is_unique and set(digests["SHA-256"].str.len()) == {16}
    assert "pc-provenance" in page.provenance().data
