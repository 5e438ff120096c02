"""Is a printed table transcribed without a slip? Compares a CSV with the text of its paper.

The texts are not part of the project. With a folder that holds them as ``lagging.txt``,
``autogen.txt``, ``igp.txt``, ``du-vae.txt`` and ``scale-vae.txt``::

    python tests/transcription.py FOLDER

A printed line and the rows made of it must have the same numbers in the same order, brackets and
dashes included, and the same letters in front; no printed line may be left over; and the heads
above must name the columns in their order.

The texts hold tables in three layouts. Mostly a line of text is a printed line, and the caption
follows the table. In a transposed table a line of text is a column of ours. In the third, bars set
the cells apart and there are no captions: the table's number is its place, and cells are compared
one by one.
"""

from __future__ import annotations

import csv
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from companion.claims import printed as papers

Rows = Sequence[Mapping[str, str]]

NUMBER = r"(?<![\w.])[-−]?\d+(?:\.\d+)?(?:[kKx]\b)?"
# In this order: an emptied bracket, a lone dash, a number in brackets, a number.
TOKEN = re.compile(rf"\(\)|(?<!\S)-(?!\S)|\({NUMBER}\)|{NUMBER}")
CAPTION = re.compile(r"(Table|Figure) \d+:")

# Columns whose numbers are printed as the heads of one quantity.
HEADS = ("labels", "labels_per_character")
# Under the heads of a table whose cells are set apart by bars.
RULE = re.compile(r"-+(\|-*)+")
# What stands where nothing was measured.
NOTHING = ("-", "N/A")


class Line(NamedTuple):
    """A line of a table: its numbers, and its letters where they are known."""

    numbers: list[str]
    letters: str | None


class Passage(NamedTuple):
    """A table as the text has it."""

    head: list[str]
    body: list[str]


def tokens(text: str) -> list[str]:
    """Numbers as printed, with their brackets; 10k and 10K are 10000, and 4x is 4."""
    found = [token.replace("−", "-") for token in TOKEN.findall(text)]
    return [re.sub("[kK]", "000", token).replace("x", "") for token in found]


def letters(text: str) -> str:
    """Latin letters only: the texts have lost most others, and spacing and marks differ."""
    return re.sub("[^a-z]", "", TOKEN.sub(" ", text).lower())


def rows_of(path: Path) -> list[dict[str, str]]:
    """The cells of a CSV as text."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _measured(rows: Rows) -> list[str]:
    """The columns of a table that hold printed results, in its order."""
    columns = papers.legend()["columns"]
    return [name for name in rows[0] if columns.get(_quantity(name), {}).get("kind") == "quantity"]


def _quantity(name: str) -> str:
    """The quantity that a column holds, or the spread of."""
    return re.sub("_(sd|variance)$", "", name)


def _numbered(rows: Rows) -> str | None:
    """The column whose numbers are the heads of the results, if there is one."""
    return next((name for name in HEADS if name in rows[0]), None)


def _cells(row: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Results as they would be printed; what is not there as a dash or an empty bracket."""
    spread = [re.search("_(sd|variance)$", name) is not None for name in names]
    return [f"({row[n]})" if s else row[n] or "-" for n, s in zip(names, spread, strict=True)]


def _printed_lines(rows: Rows, begin: Sequence[str]) -> list[Rows]:
    """Rows that were printed in one line, each with those that follow it."""
    groups = itertools.groupby(rows, lambda row: [row.get("group"), *map(row.get, begin)])
    return [list(group) for _, group in groups]


def expected(rows: Rows, begin: Sequence[str]) -> list[Line]:
    """The lines that a table must have been printed in."""
    names, lines, above = _measured(rows), [], ""
    for line in _printed_lines(rows, begin):
        heading = line[0].get("group", "")
        if heading != above:
            lines.append(Line([], letters(heading)))
            above = heading
        label = " ".join(line[0][name] for name in begin)
        values = [cell for row in line for cell in _cells(row, names)]
        lines.append(Line(tokens(label) + values, letters(label)))
    numbered = _numbered(rows)
    if numbered:
        lines.insert(0, Line(list(dict.fromkeys(row[numbered] for row in rows)), None))
    return lines


def transposed(rows: Rows, begin: Sequence[str]) -> list[Line]:
    """The lines of a table that prints a row in a column: the names, then every quantity."""
    columns, names = papers.legend()["columns"], _measured(rows)
    labels = " ".join(row[name] for row in rows for name in begin)
    lines = [Line(tokens(labels), "model" + letters(labels))]
    for name in names:
        head = columns[name]["printed"][0]
        values = [cell for row in rows for cell in _cells(row, [name])]
        lines.append(Line(tokens(head) + values, letters(head)))
    return lines


def passage(text: str, number: str, length: int) -> Passage | None:
    """The last ``length`` lines of a table's paragraph, and the lines above them.

    It is the nearest paragraph above the caption that holds a number; another table's caption
    ends the search upwards.
    """
    lines = text.replace("\xa0", " ").split("\n")
    at = [place for place, line in enumerate(lines) if line.startswith(f"Table {number}:")]
    if len(at) != 1:
        return None
    found: list[str] = []
    for line in reversed(lines[: at[0]]):
        if CAPTION.match(line):
            break
        if line.strip():
            found.insert(0, line)
        elif re.search(r"\d", "".join(found)):
            break
        else:
            found = []
    return Passage(found[:-length], found[-length:])


def _differs(printed: str, line: Line) -> bool:
    """A dash or an emptied bracket counts only on a line that prints one."""
    have = tokens(printed)
    want = [token for token in line.numbers if token not in ("-", "()") or token in have]
    return want != have or line.letters not in (None, letters(printed))


def _across(line: Rows) -> list[tuple[str, str | None]]:
    """What tells the rows of one printed line apart."""
    numbered = _numbered(line)
    return [(row["dataset"], row[numbered] if numbered else None) for row in line]


def _head_faults(head: Sequence[str], rows: Rows, begin: Sequence[str]) -> list[str]:
    """The heads, once for each data set, and the data sets in their order."""
    faults = [f"not transcribed: {line!r}" for line in head if "." in "".join(tokens(line))]
    if _numbered(rows):  # the first line of the body
        return faults
    columns, found = papers.legend()["columns"], letters(" ".join(head))
    heads = [columns.get(name, {}).get("printed") for name in _measured(rows)]
    once = "".join(f"({'|'.join(names).lower()})" for names in heads if names)
    sets = [] if "dataset" in begin else list(dict.fromkeys(row["dataset"] for row in rows))
    times = max(len(sets), 1)
    if not re.search(once * times + "$", found) or len(re.findall(once, found)) != times:
        faults.append(f"the heads {head} do not name {_measured(rows)}")
    # The first letters, as one text breaks the names; a single data set is not in the head.
    if len(sets) > 1 and not re.search(".*".join(name[:3].lower() for name in sets), found):
        faults.append(f"the heads {head} do not name {sets}")
    return faults


def _order_faults(rows: Rows, begin: Sequence[str]) -> list[str]:
    """Every line goes through the data sets and labels in one order; it may end early."""
    if "dataset" in begin:
        return []
    lines = [_across(line) for line in _printed_lines(rows, begin)]
    longest = max(lines, key=len)
    return [f"order of {line}" for line in lines if line != longest[: len(line)]]


def _sentence_faults(rows: Rows, after: str, text: str) -> list[str]:
    """Numbers that prose states: parameters and data sets in the order of the rows."""
    columns = papers.legend()["columns"]
    stated = text.partition(after)[2].split("\n")[0]
    names = [name for name in rows[0] if columns[name]["kind"] == "parameter"]
    same = tokens(stated) == [row[name] for row in rows for name in names]
    order = re.search(".*".join(re.escape(row["dataset"]) for row in rows), stated)
    return [] if same and order else [f"stated {stated!r}, transcribed {rows}"]


def blocks(text: str) -> list[list[str]]:
    """Every table whose cells are set apart by bars, in the order of the text: its lines.

    A line of such a table ends with a bar, and blank lines between them do not count. A table
    begins after other text or one line above a rule. A single line is none.
    """
    lines = [line.strip() for line in text.replace("\xa0", " ").split("\n") if line.strip()]
    found: list[list[str]] = [[]]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if not line.endswith("|") or RULE.fullmatch(following):
            found.append([])
        if line.endswith("|") and not RULE.fullmatch(line):
            found[-1].append(line)
    return [block for block in found if len(block) > 1]


def cells_of(line: str) -> list[str]:
    """The cells that hold something; the places of empty ones are not reliable in these texts."""
    plain = re.sub(r"\\cdashline\d+-\d+|\\\(|\\\)", "", line).replace("\\le ", "≤")
    return [cell.strip() for cell in plain.split("|") if cell.strip()]


def _name(label: str) -> str:
    """A printed label without the marks of a lost parameter: an empty bracket, a lone comma."""
    return re.sub(r"^, |\(\)", "", label).replace(", , ", ", ").strip()


def _by_head(names: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    """Result columns under the head that they share: a spread stands beside its quantity."""
    columns = papers.legend()["columns"]
    groups = itertools.groupby(names, lambda name: columns[_quantity(name)].get("printed", []))
    return [(heads, list(group)) for heads, group in groups]


def _barred_head_faults(
    heads: Sequence[str], groups: Sequence[tuple[list[str], list[str]]]
) -> list[str]:
    """The heads one by one; columns that share one are in the order of the legend."""
    if len(heads) not in (len(groups), len(groups) + 1):  # the names may have a head of their own
        return [f"the heads {heads} name {len(groups)} results"]
    order = list(papers.legend()["columns"])
    found = []
    for head, (known, names) in zip(heads[-len(groups) :], groups, strict=True):
        places = [order.index(_quantity(name)) for name in names]
        if head not in known or places != sorted(places):
            found.append(f"the head {head!r} does not name {names}")
    return found


def _holds(cell: str, row: Mapping[str, str], names: Sequence[str]) -> bool:
    """Does a printed cell hold these results, and nothing else?"""
    if not any(row.get(name) for name in names):
        return cell in NOTHING
    want = _cells({name: row.get(name, "") for name in names}, names)
    have = tokens(cell)
    return have == [one for one in want if one != "()" or one in have] and not letters(cell)


class Row(NamedTuple):
    """A printed line whose cells are set apart by bars."""

    text: str
    label: list[str]
    results: list[str]  # none where every number is lost


def _printed_rows(body: Sequence[str], width: int, results: int, between: str | None) -> list[Row]:
    """Every line with its label of so many names; a name for several lines is printed once."""
    found: list[Row] = []
    above = [""] * width  # nothing is above the first line: a name that it lacks is not printed
    for line in body:
        cells = cells_of(line)
        held = re.search(r"\d", "".join(cells)) is not None
        named = cells[:-results] if held else [cell for cell in cells if cell not in NOTHING]
        if between:
            named = [name for cell in named for name in cell.split(f" {between} ")]
        above = above[: max(width - len(named), 0)] + named
        found.append(Row(line, above, cells[-results:] if held else []))
    return found


def _label_faults(printed: Row, row: Mapping[str, str], begin: Sequence[str]) -> list[str]:
    """A row's names, and whether its printed label has lost a parameter."""
    found, names = [], [row[name] for name in begin]
    if [_name(part) for part in printed.label] != names:
        found.append(f"printed {printed.text!r}, names {names}")
    lost = any(re.search(r"^,|, ,|\(\)", part) for part in printed.label)
    if lost != bool(row.get("lost_parameter")):
        found.append(f"printed {printed.text!r}, lost {row.get('lost_parameter')!r}")
    return found


def _barred_faults(name: str, rows: Rows, source: Mapping[str, Any], text: str) -> list[str]:
    """As :func:`faults`, for a table whose cells are set apart by bars."""
    place, found = int(name.removeprefix("table")) - 1, blocks(text)
    if place >= len(found):
        return [f"{name} is not in the text"]
    head, *body = found[place]
    results = source.get("results", _measured(rows))
    groups = _by_head(results)
    faults = _barred_head_faults(cells_of(head), groups)
    faults += [f"{name} is no result" for name in _measured(rows) if name not in results]
    if "dataset" not in source["line"] and len({row["dataset"] for row in rows}) != 1:
        faults.append("more than one data set")
    lines = _printed_rows(body, len(source["line"]), len(groups), source.get("between"))
    held = [line for line in lines if line.results]
    if len(held) != len(rows) or len(lines) - len(held) != source.get("lost_lines", 0):
        return [*faults, f"{len(held)} lines hold numbers, {len(lines) - len(held)} lost them"]
    for printed, row in zip(held, rows, strict=True):
        faults += _label_faults(printed, row, source["line"])
        if len(printed.results) != len(groups):
            faults.append(f"printed {printed.text!r}, results {len(groups)}")
            continue
        faults += [
            f"printed {printed.text!r}, transcribed {[row.get(name) for name in names]}"
            for cell, (_, names) in zip(printed.results, groups, strict=True)
            if not _holds(cell, row, names)
        ]
    return faults


def _transposed_faults(name: str, rows: Rows, source: Mapping[str, Any], text: str) -> list[str]:
    """As :func:`faults`, for a table whose printed lines are columns here."""
    lines = transposed(rows, source["line"])
    found = passage(text, name.removeprefix("table"), len(lines))
    if len({row["dataset"] for row in rows}) != 1:
        return ["more than one data set"]
    return _line_faults(name, lines, found) + [
        f"not transcribed: {line!r}" for line in (found.head if found else [])
    ]


def _line_faults(name: str, lines: Sequence[Line], found: Passage | None) -> list[str]:
    """The lines of a table against those that it must have been printed in."""
    if found is None or len(found.body) != len(lines):
        return [f"{name} with {len(lines)} lines is not in the text"]
    return [
        f"printed {printed!r}, transcribed {line}"
        for printed, line in zip(found.body, lines, strict=True)
        if _differs(printed, line)
    ]


def faults(name: str, rows: Rows, source: Mapping[str, Any], text: str) -> list[str]:
    """What a transcription and the text of its paper do not agree in; nothing if all is well.

    Args:
        name: of the table, such as ``"table4"``.
        rows: its cells, as text.
        source: its entry in the legend of the printed tables.
        text: of the paper.
    """
    if "sentence" in source:
        return _sentence_faults(rows, source["sentence"], text)
    if "layout" in source:
        check = {"cells": _barred_faults, "transposed": _transposed_faults}[source["layout"]]
        return check(name, rows, source, text)
    lines = expected(rows, source["line"])
    found = passage(text, name.removeprefix("table"), len(lines))
    differences = _line_faults(name, lines, found)
    if found is None or len(found.body) != len(lines):
        return differences
    above = _head_faults(found.head, rows, source["line"]) + _order_faults(rows, source["line"])
    return above + differences


def text_of(table: str, folder: Path) -> str:
    """The text of a table's paper."""
    item = papers.legend()["tables"][table]["item"]
    return (folder / f"{papers.inventory()[item]['paper']}.txt").read_text(encoding="utf-8")


def main(folder: Path) -> int:
    """Check every table; the exit status is the number of faults."""
    total = 0
    for table, source in papers.legend()["tables"].items():
        rows = rows_of(papers.repository() / "data" / "papers" / f"{table}.csv")
        found = faults(table.split("/")[1], rows, source, text_of(table, folder))
        print(f"{table}: {len(rows)} rows, {len(found)} faults", *found, sep="\n  ")
        total += len(found)
    return min(total, 100)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])) if len(sys.argv) == 2 else __doc__)
