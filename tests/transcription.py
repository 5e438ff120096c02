"""Is a printed table transcribed without a slip? Compares a CSV with the text of its paper.

The texts are not part of the project. With a folder that holds them as ``lagging.txt``,
``du-vae.txt`` and ``scale-vae.txt``::

    python tests/transcription.py FOLDER

A printed line and the rows made of it must have the same numbers in the same order, brackets and
dashes included, and the same letters in front; no printed line may be left over; and the heads
above must name the columns in their order.
"""

from __future__ import annotations

import csv
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from posterior_collapse import papers

Rows = Sequence[Mapping[str, str]]

NUMBER = r"(?<![\w.])[-−]?\d+(?:\.\d+)?(?:[kKx]\b)?"
# In this order: an emptied bracket, a lone dash, a number in brackets, a number.
TOKEN = re.compile(rf"\(\)|(?<!\S)-(?!\S)|\({NUMBER}\)|{NUMBER}")
CAPTION = re.compile(r"(Table|Figure) \d+:")


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
    return [
        name
        for name in rows[0]
        if columns.get(re.sub("_(sd|variance)$", "", name), {}).get("kind") == "quantity"
    ]


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
    if "labels" in rows[0]:  # their numbers are the heads of the columns
        lines.insert(0, Line(list(dict.fromkeys(row["labels"] for row in rows)), None))
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
    return [(row["dataset"], row.get("labels")) for row in line]


def _head_faults(head: Sequence[str], rows: Rows, begin: Sequence[str]) -> list[str]:
    """The heads, once for each data set, and the data sets in their order."""
    faults = [f"not transcribed: {line!r}" for line in head if "." in "".join(tokens(line))]
    if "labels" in rows[0]:  # the first line of the body
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
    lines = expected(rows, source["line"])
    found = passage(text, name.removeprefix("table"), len(lines))
    if found is None or len(found.body) != len(lines):
        return [f"{name} with {len(lines)} lines is not in the text"]
    above = _head_faults(found.head, rows, source["line"]) + _order_faults(rows, source["line"])
    return above + [
        f"printed {printed!r}, transcribed {line}"
        for printed, line in zip(found.body, lines, strict=True)
        if _differs(printed, line)
    ]


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
