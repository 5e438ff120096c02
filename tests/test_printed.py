"""The papers' printed tables: their form, and each number against the text of its paper.

The texts are not part of the project. Set POSTERIOR_COLLAPSE_PAPERS to a folder that holds them to
run the comparison; the comparison itself is tested on a small table either way.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from companion.claims import printed as papers
from posterior_collapse.errors import BadInput
from transcription import HEADS, Rows, faults, rows_of, text_of, tokens

FOLDER = papers.repository() / "data" / "papers"
TABLES = papers.legend()["tables"]
COLUMNS = papers.legend()["columns"]
LOST = papers.lost()
DATASETS = {"Yahoo", "Yelp", "Yelp sentiment", "OMNIGLOT"}
DATASETS |= {"CBT", "DBpedia", "Yahoo Question", "SNLI", "Fashion-MNIST", "MNIST", "BookCorpus"}
GROUPS = {"", "Previous Reports", "Modified VAE Objective", "Standard VAE Objective"}
NOTES = {"", "referred", "no annealing"}
POSTERIORS = {"", "DGP", "IGP"}
PLACES = ["first", "second", "third"]

TEXTS = os.environ.get("POSTERIOR_COLLAPSE_PAPERS")
needs_texts = pytest.mark.skipif(
    TEXTS is None, reason="POSTERIOR_COLLAPSE_PAPERS names no folder with the papers' texts"
)

_NUMBER = r"\d+(?:\.\d+)?"
_VALUE = rf"[a-z_]+={_NUMBER}"
_PART = rf"[a-z][a-z0-9-]*(?:\({_VALUE}(?:, {_VALUE})*\))?"
KEY = re.compile(rf"{_PART}(?:\+{_PART})*")


def cells(table: str) -> list[dict[str, str]]:
    """A table's cells as text."""
    return rows_of(FOLDER / f"{table}.csv")


def quantity_of(name: str) -> str | None:
    """The quantity whose spread a column holds, if it holds one."""
    found = re.fullmatch("(.+)_(sd|variance)", name)
    return found[1] if found else None


def kind(name: str) -> str:
    """Kind of a column that the legend must know."""
    return str(COLUMNS[name]["kind"]) if quantity_of(name) is None else "spread"


# --- form -----------------------------------------------------------------------------------------


def column_faults(rows: Rows) -> Iterator[str]:
    """Columns are known, used, and every spread stands beside its quantity."""
    names = list(rows[0])
    for before, name in zip(["", *names], names, strict=False):
        quantity = quantity_of(name)
        if (quantity or name) not in COLUMNS:
            yield f"unknown column {name}"
        elif quantity is not None and (before != quantity or kind(quantity) != "quantity"):
            yield f"{name} is not beside {quantity}"
        elif quantity is None and not any(row[name] for row in rows):
            yield f"no cell in column {name}"


def cell_faults(rows: Rows) -> Iterator[str]:
    """Numbers are numbers, and names are known ones."""
    known = {"dataset": DATASETS, "group": GROUPS, "note": NOTES, "posterior": POSTERIORS}
    for row in rows:
        for name, cell in row.items():
            if kind(name) != "text" and cell and not re.fullmatch(_NUMBER, cell):
                yield f"{name} is no number: {cell!r}"
            if name in known and cell not in known[name]:
                yield f"unknown {name} {cell!r}"
        if not row.get("method", "-"):
            yield f"no method in {row}"


def key_faults(rows: Rows) -> Iterator[str]:
    """A key is well formed and agrees with the parameters beside it."""
    for row in rows:
        key = row.get("method_key", "")
        if not key:
            continue
        if not KEY.fullmatch(key):
            yield f"not a method: {key!r}"
            continue
        for name, value in re.findall(rf"([a-z_]+)=({_NUMBER})", key):
            if name in row and (not row[name] or float(row[name]) != float(value)):
                yield f"{key} beside {name} {row[name]!r}"
        given = [name for name, cell in row.items() if cell and kind(name) == "parameter"]
        if missing := [n for n in given if f"{n}=" not in key]:
            yield f"{key} says nothing of {missing}"


def label_faults(rows: Rows, misprints: dict[str, str]) -> Iterator[str]:
    """The numbers in a method's printed name are its parameters, for all data sets or for each."""
    asked = [name for name in rows[0] if kind(name) in ("parameter", "setting")]
    names = [name for name in asked if name not in HEADS]
    for method, group in itertools.groupby(rows, lambda row: row["method"]):
        line = [[row[name] for name in names if row[name]] for row in group]
        shared = line[0] if all(values == line[0] for values in line) else None
        by_row = [value for values in line for value in values]
        by_parameter = [value for values in zip(*line, strict=True) for value in values]
        found = [t.strip("()") for t in tokens(re.sub(r", \d{4}(?=\))", "", method))]
        numbers = [misprints.get(number, number) for number in found]
        if numbers not in (shared, by_row, by_parameter):
            yield f"{method} beside {names}: {line}"


def lost_faults(rows: Rows) -> Iterator[str]:
    """The values of a lost parameter are counted in the printed order, for each method."""
    if "lost_parameter" not in rows[0]:
        return
    counted: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        name, _, place = row["lost_parameter"].partition(", ")
        if place:
            method = tuple(row.get(n, "") for n in ("dataset", "method", "posterior"))
            counted.setdefault((*method, name), []).append(place)
        if row["lost_parameter"] and row.get("method_key"):
            yield f"{row['method_key']} without {name}"
    for method, places in counted.items():
        if places != PLACES[: len(places)]:
            yield f"{method} counts {places}"


def row_faults(rows: Rows) -> Iterator[str]:
    """No row is there twice or without a result."""
    told = [n for n in rows[0] if kind(n) in ("parameter", "setting")]
    told += ["dataset", "inner_iterations", "posterior", "versus", "lost_parameter"]
    for names in (["method"], ["method_key", "note"]):
        seen = [tuple(row.get(n, "") for n in (*told, *names)) for row in rows]
        # Two methods without a key are told apart by their names.
        twice = {one for one in seen if seen.count(one) > 1 and one[len(told)]}
        yield from (f"twice: {one}" for one in twice)
    quantities = [n for n in rows[0] if kind(n) == "quantity"]
    for row in rows:
        if quantities and not any(row[n] for n in quantities):
            yield f"no result in {row}"


def form_faults(rows: Rows, source: dict[str, Any]) -> list[str]:
    """Everything that is wrong with a table's form."""
    # A column that is unknown has no kind to go by.
    found = list(column_faults(rows))
    if found:
        return found
    found = [*cell_faults(rows), *key_faults(rows), *row_faults(rows), *lost_faults(rows)]
    if (source.get("line") or [""])[0] == "method":
        found += label_faults(rows, source.get("misprints", {}))
    return found


def test_every_table_is_in_the_legend_with_its_item() -> None:
    files = {f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.csv")}
    assert files == set(TABLES)
    items = [source["item"] for source in TABLES.values()]
    assert len(set(items)) == len(items)
    for table, source in TABLES.items():
        item = papers.inventory()[source["item"]]
        assert item["paper"].startswith(table.split("/")[0])
        assert source["note"].endswith(".")
        number = re.sub(r"\D", "", table)
        if "-app" not in source["item"]:  # these are not numbered after their tables
            assert source["item"].endswith(("tab" if "table" in table else "fig") + number)
    assert all("unit" in column for column in COLUMNS.values() if column["kind"] == "quantity")
    assert all(column["meaning"] for column in COLUMNS.values())


def test_every_printed_table_is_held_or_listed_as_lost() -> None:
    printed = {item for item in papers.inventory() if re.search(r"-tab\d+$|^igp-app[A-Z]$", item)}
    held = {source["item"] for table, source in TABLES.items() if "/table" in table}
    assert held | set(LOST) == printed
    assert not held & set(LOST)
    assert all(LOST.values())


def test_a_misprint_is_printed_and_explained() -> None:
    for table, source in TABLES.items():
        for wrong, right in source.get("misprints", {}).items():
            assert any(wrong in tokens(row["method"]) for row in cells(table))
            assert wrong in source["note"] and right in source["note"]


def test_a_lost_parameter_that_is_miscounted_is_found() -> None:
    rows, source = cells("igp/table2"), TABLES["igp/table2"]
    wrong = [*rows[:-1], {**rows[-1], "lost_parameter": "beta, second"}]
    assert any("counts" in fault for fault in form_faults(wrong, source))
    keyed = [{**row, "method_key": "beta-vae"} for row in rows]
    assert any("without beta" in fault for fault in form_faults(keyed, source))


@pytest.mark.parametrize("table", sorted(TABLES))
def test_form(table: str) -> None:
    rows = cells(table)
    assert all(None not in row and None not in row.values() for row in rows)  # no ragged row
    assert form_faults(rows, TABLES[table]) == []


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("dataset", "Yaho", "unknown dataset"),
        ("note", "referrd", "unknown note"),
        ("nll", "32O.1", "no number"),
        ("p", "-0.8", "no number"),
        ("method", "", "no method"),
        ("method_key", "du_vae(gamma=0.5, p=0.9)", "not a method"),
        ("method_key", "du-vae(gamma=0.5 p=0.9)", "not a method"),
        ("method_key", "du-vae(gamma=0.5, p=0.7)", "beside p '0.9'"),
        ("method_key", "du-vae(gamma=0.5)", r"says nothing of \['p'\]"),
        ("gamma", "0.6", r"DU-VAE \(0.5, 0.9\) beside"),
        ("method", "DU-VAE (0.5, 0.8)", "twice"),
    ],
)
def test_a_fault_of_form_is_found(column: str, value: str, message: str) -> None:
    rows = cells("du/table1")
    place = next(i for i, row in enumerate(rows) if row["method"] == "DU-VAE (0.5, 0.9)")
    if message == "twice" and column == "method":
        rows[place] |= {"p": "0.8", "method_key": ""}
    rows[place] |= {column: value}
    assert any(re.search(message, fault) for fault in form_faults(rows, TABLES["du/table1"]))


def test_a_fault_of_columns_is_found() -> None:
    rows = cells("lagging/table1")
    source = TABLES["lagging/table1"]
    assert form_faults([{**row, "loss": "1"} for row in rows], source) == ["unknown column loss"]
    assert form_faults([{**row, "hours_sd": "1"} for row in rows], source) == [
        "hours_sd is not beside hours"
    ]
    assert form_faults([{**row, "p": ""} for row in rows], source) == ["no cell in column p"]
    results = [name for name in rows[0] if kind(name) in ("quantity", "spread")]
    empty = [*rows[:-1], {**rows[-1], **dict.fromkeys(results, "")}]
    assert form_faults(empty, source) == [f"no result in {empty[-1]}"]


def test_this_library_reads_the_keys_of_methods_that_it_has() -> None:
    from posterior_collapse import methods  # loads torch, which no other test here needs

    keys = {row.get("method_key", "") for table in TABLES for row in cells(table)} - {""}
    known = set(methods.names())
    read = [key for key in keys if set(re.sub(r"\([^)]*\)", "", key).split("+")) <= known]
    assert {"vae", "anneal", "lagging", "lagging+anneal"} <= set(read)
    for key in read:
        methods.get(key)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_read_as_data(table: str) -> None:
    frame = papers.printed(*table.split("/"))
    assert len(frame) == len(cells(table))
    for name in frame.columns:
        if kind(name) == "text":
            assert all(isinstance(value, str) for value in frame[name])
        else:
            assert frame[name].dtype.kind in "if"


def test_what_is_not_there_reads_as_empty_text_or_as_no_number() -> None:
    frame = papers.printed("lagging", "table1").set_index(["method", "dataset"])
    row = frame.loc[("CNN-VAE (Yang et al., 2017)", "Yelp")]
    assert (row["method_key"], row["nll"], row["kl"]) == ("", 359.1, 7.6)
    assert row[["nll_sd", "mi", "au"]].isna().all()
    assert frame.loc[("Ours + anneal", "Yahoo"), "au_sd"] == 3.5


# --- against the texts ----------------------------------------------------------------------------

SMALL = """Prose with 1.5 in it.

Table 1: Another table.
Yahoo Yelp
Model NLL KL AU NLL KL AU
Previous Reports
Old (Doe et al., 2017) 5.5 6.0
Standard VAE Objective
-VAE ( = 0.2) 10.25 (0.10) 2.0 (0.0) 3 (1) 30.25 (0.20) 4.0 (0.1) 5 (0)
Flow (10k) 11.5 (0.1) - 4 (1) 31.5 (0.2) - 6 (2)
Table 2: Results in 2019.
"""
SOURCE = {"line": ["method"]}
BACK = {"Yahoo": "Yelp", "Yelp": "Yahoo"}


def small() -> list[dict[str, str]]:
    """What the small text prints as its table 2."""
    head = ["dataset", "group", "method", "nll", "nll_sd", "kl", "kl_sd", "au", "au_sd"]
    lines = [
        "Yahoo|Previous Reports|Old (Doe et al., 2017)|5.5||6.0|||",
        "Yahoo|Standard VAE Objective|β-VAE (β = 0.2)|10.25|0.10|2.0|0.0|3|1",
        "Yelp|Standard VAE Objective|β-VAE (β = 0.2)|30.25|0.20|4.0|0.1|5|0",
        "Yahoo|Standard VAE Objective|Flow (10k)|11.5|0.1|||4|1",
        "Yelp|Standard VAE Objective|Flow (10k)|31.5|0.2|||6|2",
    ]
    return [dict(zip(head, line.split("|"), strict=True)) for line in lines]


def other(digit: str) -> str:
    """Another digit."""
    return str((int(digit) + 1) % 10)


def slips(rows: list[dict[str, str]], columns: list[str]) -> Iterator[list[dict[str, str]]]:
    """Copies of a table with one digit changed: every digit of the columns in turn."""
    for place, row in enumerate(rows):
        for name in columns:
            for at, digit in enumerate(row[name]):
                if digit.isdigit():
                    changed = row[name][:at] + other(digit) + row[name][at + 1 :]
                    yield [*rows[:place], {**row, name: changed}, *rows[place + 1 :]]


def swap(a: str, b: str) -> Callable[[list[dict[str, str]]], list[dict[str, str]]]:
    """Exchange two columns, heads and all; the cells stay where they are."""
    return lambda rows: [
        {{a: b, b: a}.get(name, name): cell for name, cell in row.items()} for row in rows
    ]


def test_a_faithful_transcription_has_no_fault() -> None:
    assert faults("table2", small(), SOURCE, SMALL) == []


def test_every_changed_digit_is_found() -> None:
    wrong = list(slips(small(), ["method", "nll", "nll_sd", "kl", "kl_sd", "au", "au_sd"]))
    assert len(wrong) == 56
    assert all(faults("table2", rows, SOURCE, SMALL) for rows in wrong)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows[1:],  # the first row is missing
        lambda rows: rows[:-2],
        lambda rows: [*rows, rows[-1]],
        lambda rows: [rows[0], *rows[3:], *rows[1:3]],  # two lines exchanged
        lambda rows: [rows[0], rows[2], rows[1], *rows[3:]],
        lambda rows: [{**r, "dataset": "Yelp"} for r in rows],
        lambda rows: [{**r, "dataset": BACK[r["dataset"]]} for r in rows],
        lambda rows: [{**r, "method": r["method"].replace("VAE", "AE")} for r in rows],
        lambda rows: [{**r, "group": r["group"].replace("Previous", "Past")} for r in rows],
        lambda rows: [{**r, "kl": r["kl"] or "0.0"} for r in rows],  # a dash read as a number
        lambda rows: [{**r, "nll": r["kl"], "kl": r["nll"]} for r in rows],
        lambda rows: [{**r, "nll": r["nll_sd"], "nll_sd": r["nll"]} for r in rows],
        swap("kl", "au"),
        swap("nll", "kl"),
    ],
)
def test_every_other_slip_is_found(
    spoil: Callable[[list[dict[str, str]]], list[dict[str, str]]],
) -> None:
    assert faults("table2", spoil(small()), SOURCE, SMALL)


def test_a_table_that_is_not_there_is_a_fault() -> None:
    assert "not in the text" in faults("table3", small(), SOURCE, SMALL)[0]
    assert "not in the text" in faults("table1", small(), SOURCE, SMALL)[0]


BARRED = r"""A formula ends so |

Kind | Loss | |
---|---|---|
\cdashline1-2 One | 1.5 | |
Prose with 1.5 in it.

Model | Rec. | KL | AU | BLEU-2/4 | |
---|---|---|---|---|---|
AE | 21.10 | - | 32 | 1.25/0.75 | |

DGP | VAE (annealing) | 22.14 | 13.33% | 8 (1) | 2.25/1.75 |

\cdashline2-5 | IWAE () | 22.44 | 13.35 | 9 (0) | N/A | |
IGP | Flow (\(m=1\)) | 23.75 | 20.33 | 31 (2) | 3.25/2.75 |
, IWAE | |||||
More prose.
"""
BARRED_SOURCE = {"line": ["posterior", "method"], "layout": "cells", "lost_lines": 1}


def barred() -> list[dict[str, str]]:
    """What the small text with bars prints as its second table."""
    head = ["dataset", "posterior", "method", "lost_parameter"]
    head += ["rec", "kl", "au", "au_sd", "bleu_2", "bleu_4"]
    lines = [
        "MNIST||AE||21.10||32||1.25|0.75",
        "MNIST|DGP|VAE (annealing)||22.14|13.33|8|1|2.25|1.75",
        "MNIST|DGP|IWAE|k|22.44|13.35|9|0||",
        "MNIST|IGP|Flow (m=1)||23.75|20.33|31|2|3.25|2.75",
    ]
    return [dict(zip(head, line.split("|"), strict=True)) for line in lines]


def test_a_faithful_transcription_of_cells_has_no_fault() -> None:
    assert faults("table2", barred(), BARRED_SOURCE, BARRED) == []


def test_every_changed_digit_of_cells_is_found() -> None:
    wrong = list(slips(barred(), list(barred()[0])))
    assert len(wrong) == 56
    assert all(faults("table2", rows, BARRED_SOURCE, BARRED) for rows in wrong)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows[1:],
        lambda rows: rows[:-1],
        lambda rows: [*rows, rows[-1]],
        lambda rows: [rows[1], rows[0], *rows[2:]],
        lambda rows: [{**rows[0], "dataset": "SNLI"}, *rows[1:]],
        lambda rows: [{**r, "posterior": "DGP"} for r in rows],
        lambda rows: [{**r, "method": r["method"].replace("VAE", "AE")} for r in rows],
        lambda rows: [{**r, "kl": r["kl"] or "0.0"} for r in rows],  # a dash read as a number
        lambda rows: [{**r, "bleu_2": "", "bleu_4": ""} for r in rows],  # a number read as a dash
        lambda rows: [{**r, "bleu_2": r["bleu_4"], "bleu_4": r["bleu_2"]} for r in rows],
        lambda rows: [{**r, "lost_parameter": ""} for r in rows],
        lambda rows: [{**r, "lost_parameter": "k"} for r in rows],
        lambda rows: [{n: c for n, c in r.items() if n != "au_sd"} for r in rows],
        lambda rows: [{n: c for n, c in r.items() if n != "kl"} for r in rows],
        lambda rows: [{**r, "accuracy": "1.0"} for r in rows],
        swap("rec", "kl"),
        swap("bleu_2", "bleu_4"),
        swap("kl", "au"),
    ],
)
def test_every_other_slip_of_cells_is_found(
    spoil: Callable[[list[dict[str, str]]], list[dict[str, str]]],
) -> None:
    assert faults("table2", spoil(barred()), BARRED_SOURCE, BARRED)


@pytest.mark.parametrize(
    ("printed", "other"),
    [
        ("13.33% |", "13.33% | 4.5 |"),  # a number more in a line
        ("| 13.33% |", "|"),  # a number less
        ("8 (1)", "8"),
        ("1.25/0.75", "1.25/0.75/0.5"),
        ("22.14", "22.14 units"),
        (", IWAE | |||||", ", IWAE | 1.5 ||||"),  # what is lost is not
        (", IWAE | |||||\n", ""),
        ("Model | Rec.", "Model | Loss"),
        ("| KL | AU |", "| AU | KL |"),
        ("| AU | BLEU-2/4", "| AU | MI | BLEU-2/4"),
        ("AE | 21.10 | - | 32 | 1.25/0.75 | |", "21.10 |"),
    ],
)
def test_another_text_of_cells_is_found(printed: str, other: str) -> None:
    assert BARRED.count(printed) == 1
    assert faults("table2", barred(), BARRED_SOURCE, BARRED.replace(printed, other))


def test_a_printed_column_without_a_number_left_has_to_be_named() -> None:
    rows = [{n: c for n, c in row.items() if n != "kl"} for row in barred()[:1]]
    text = BARRED[: BARRED.index("DGP |")]
    source = {"line": ["method"], "layout": "cells"}
    printed = ["rec", "kl", "au", "au_sd", "bleu_2", "bleu_4"]
    assert faults("table2", rows, {**source, "results": printed}, text) == []
    assert faults("table2", rows, source, text)
    assert faults("table2", rows, {**source, "results": printed[:-1]}, text)


def test_a_comparison_of_two_methods() -> None:
    row = {"dataset": "BookCorpus", "method": "VAE (annealing)", "versus": "VAE", "wins": "66"}
    source = {"line": ["method", "versus"], "layout": "cells", "between": "versus"}
    head = "Model 1 versus model 2 | % responses with model 1 as winner |\n---|---|\n"
    text = f"{head}\nVAE (annealing) versus VAE | 66 |\n"
    assert faults("table1", [row], source, text) == []
    assert faults("table1", [{**row, "method": "VAE", "versus": row["method"]}], source, text)
    assert faults("table2", [row], source, text) == ["table2 is not in the text"]


TURNED = """Model\tBN-VAE(0.6)\tScale-VAE(1.1, 1)
PPL\t260.5\t274.5
Gram-2\t97.25\t98.25
Dist-1 (E-02)\t0.25\t1.25

Table 1: Numbers.
"""


def turned() -> list[dict[str, str]]:
    """What the small text with a method in a column prints."""
    names = ["dataset", "method", "ppl", "gram_2", "dist_1"]
    lines = ["Yahoo|BN-VAE (0.6)|260.5|97.25|0.25", "Yahoo|Scale-VAE (1.1, 1)|274.5|98.25|1.25"]
    return [dict(zip(names, line.split("|"), strict=True)) for line in lines]


def test_a_transposed_table() -> None:
    source = {"line": ["method"], "layout": "transposed"}
    rows = turned()
    assert faults("table1", rows, source, TURNED) == []
    wrong: list[list[dict[str, str]]] = list(slips(rows, list(rows[0])))
    assert len(wrong) == 27
    wrong += [rows[:1], rows[::-1], [*rows, rows[0]], [rows[0], {**rows[1], "dataset": "Yelp"}]]
    wrong += [swap("ppl", "gram_2")(rows), [{**row, "method": "VAE"} for row in rows]]
    wrong += [[{n: c for n, c in row.items() if n != name} for row in rows] for name in rows[0]][2:]
    assert all(faults("table1", one, source, TURNED) for one in wrong)
    more = TURNED.replace("PPL", "MI\t1.5\t2.5\nPPL")
    assert faults("table1", rows, source, more)


def test_trailing_zeros_count() -> None:
    rows = small()
    rows[1] |= {"nll_sd": "0.1"}  # 0.10 in print
    assert len(faults("table2", rows, SOURCE, SMALL)) == 1


def test_tokens_keep_what_is_printed() -> None:
    assert tokens("VAE_(0.4) (30k) - 10K 6x SA-VAE Yelp15 () −1.50 (0.0)") == [
        "(0.4)", "(30000)", "-", "10000", "6", "()", "-1.50", "(0.0)",
    ]  # fmt: skip


@needs_texts
@pytest.mark.parametrize("table", sorted(TABLES))
def test_the_transcription_equals_the_text(table: str) -> None:
    text = text_of(table, Path(str(TEXTS)))
    assert faults(table.split("/")[1], cells(table), TABLES[table], text) == []


@needs_texts
@pytest.mark.parametrize("table", sorted(TABLES))
def test_a_changed_digit_of_a_real_table_is_found(table: str) -> None:
    text, source, rows = text_of(table, Path(str(TEXTS))), TABLES[table], cells(table)
    compared = {"quantity", "spread"} | ({"parameter"} if "sentence" in source else set())
    names = [n for n in rows[0] if kind(n) in compared or n in (*source.get("line", []), *HEADS)]
    wrong = list(slips(rows, names))
    assert len(wrong) >= 8
    for one in spread_over(wrong):
        assert faults(table.split("/")[1], one, source, text)


def spread_over(wrong: list[list[dict[str, str]]]) -> list[list[dict[str, str]]]:
    """Sixty or a few more, from the whole table."""
    return wrong[:: max(len(wrong) // 60, 1)]


def damages(rows: list[dict[str, str]], begin: list[str]) -> Iterator[list[dict[str, str]]]:
    """Copies of a table with a row or a number missing, added or exchanged, or another name."""
    results = [name for name in rows[0] if kind(name) in ("quantity", "spread")]
    for at, row in enumerate(rows):
        above, below = rows[:at], rows[at + 1 :]
        yield [*above, *below]
        yield [*above, row, row, *below]
        if below:
            yield [*above, below[0], row, *below[1:]]
        held = [name for name in results if row[name]]
        yield [*above, {**row, held[0]: ""}, *below]
        for one, two in itertools.pairwise(held):
            if row[one] != row[two]:
                yield [*above, {**row, one: row[two], two: row[one]}, *below]
        for name in begin:
            yield [*above, {**row, name: f"{row[name]}q"}, *below]
        for name in results:
            if not row[name]:
                yield [*above, {**row, name: "1.0"}, *below]


@needs_texts
@pytest.mark.parametrize("table", sorted(table for table in TABLES if "line" in TABLES[table]))
def test_a_damaged_real_table_is_found(table: str) -> None:
    text, source, rows = text_of(table, Path(str(TEXTS))), TABLES[table], cells(table)
    for one in spread_over([one for one in damages(rows, source["line"]) if one]):
        assert faults(table.split("/")[1], one, source, text)


def test_inventory_has_all_items_with_claims() -> None:
    items = papers.inventory()
    assert len(items) == 69
    assert all(item["claim"] for item in items.values())


def test_printed_tables_hold_the_papers_numbers_and_leave_lost_ones_empty() -> None:
    seven, eight = papers.printed("lagging", "table7"), papers.printed("lagging", "table8")
    yahoo = seven.set_index("dataset").loc["Yahoo"]
    assert (yahoo["nll"], yahoo["kl"], yahoo["mi_variance"]) == (327.98, 5.35, 0.002)
    assert math.isnan(yahoo["nll_variance"])
    # the duplicate that the page mentions
    assert yahoo["neg_elbo"] == eight.set_index("dataset").loc["Yahoo", "neg_elbo"] == 329.54
    with pytest.raises(BadInput, match='did you mean "table7"'):
        papers.printed("lagging", "table77")
    with pytest.raises(BadInput, match='did you mean "lagging"'):
        papers.printed("laging", "table7")
