"""The prose pages and the files at the root say what is true of the repository."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import posterior_collapse
from companion import show
from companion.build import parameters
from companion.claims import premises, verdicts
from companion.claims.verdicts import Check, Interval, Outcome
from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "lib" / "posterior_collapse"
PAGES = sorted((ROOT / "book").glob("*.md"))
DOCUMENTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]

_BLOCK = re.compile(
    r"^```\{code-block\} (?:python|text)\n:class: (run|shown)\n\n(.*?)^```$", re.M | re.S
)
# Executes blocks in one namespace and reports where the package lies and what each block printed.
_DRIVER = """
import contextlib, io, json, sys
names, printed = {"__name__": "page"}, []
for code in json.load(sys.stdin):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "page", "exec"), names)
    printed.append(out.getvalue())
import posterior_collapse
json.dump({"package": posterior_collapse.__file__, "printed": printed}, sys.stdout)
"""


def blocks(text: str) -> tuple[list[str], list[str | None]]:
    """Code that a page runs, and for each block what the page shows of its output."""
    found = [(match[1], match[2]) for match in _BLOCK.finditer(text)]
    code: list[str] = []
    shown: list[str | None] = []
    for kind, body in found:
        if kind == "run":
            code.append(body)
            shown.append(None)
        else:
            assert shown and shown[-1] is None, f"nothing was run before:\n{body}"
            shown[-1] = body
    return code, shown


def execute(
    code: list[str], folder: Path, python: str = sys.executable, **variables: str
) -> dict[str, object]:
    """Run blocks in a fresh interpreter, in a folder that is not the repository."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("POSTERIOR_COLLAPSE_")}
    done = subprocess.run(
        [python, "-c", _DRIVER],
        input=json.dumps(code),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**kept, "OMP_NUM_THREADS": "1", **variables},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def assert_same_text(printed: str, shown: str) -> None:
    """Equal words, and numbers equal to about a unit of the last digit shown."""
    number = re.compile(r"-?\d+\.\d+")
    assert number.sub("#", printed).split() == number.sub("#", shown).split()
    for got, told in zip(number.findall(printed), number.findall(shown), strict=True):
        digits = len(told.partition(".")[2])
        assert abs(float(got) - float(told)) <= 1.01 * 10**-digits, (got, told)


def needed_by(name: str) -> Iterator[importlib.metadata.Distribution]:
    """The distributions that one needs, with all that those need, without extras."""
    waiting, seen = [name], {canonicalize_name(name)}
    while waiting:
        for line in importlib.metadata.requires(waiting.pop()) or ():
            wanted = Requirement(line)
            key = canonicalize_name(wanted.name)
            if key in seen or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
                continue
            seen.add(key)
            waiting.append(wanted.name)
            yield importlib.metadata.distribution(wanted.name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has the installed library, what it declares, and no more."""
    folder = tmp_path_factory.mktemp("alone")
    source = folder / "source"
    for name in ("lib", "pyproject.toml", "README.md", "LICENSE"):
        place = ROOT / name
        copy = shutil.copytree if place.is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(place, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as content:
        tops = {name.partition("/")[0] for name in content.namelist()}
        content.extractall(packages)
    assert {name for name in tops if not name.endswith(".dist-info")} == {"posterior_collapse"}
    for distribution in needed_by("posterior-collapse"):
        for top in {file.parts[0] for file in distribution.files or () if ".." not in file.parts}:
            place = packages / top
            if not place.exists():
                place.symlink_to(Path(str(distribution.locate_file(top))))
    return folder / "venv" / "bin" / "python"


def test_examples_for_own_models_run_without_the_repository(tmp_path: Path, alone: Path) -> None:
    code, shown = blocks((ROOT / "book" / "use-your-own.md").read_text(encoding="utf-8"))
    found = execute(code, tmp_path, str(alone), PYTHONPATH="")
    assert Path(str(found["package"])).is_relative_to(alone.parents[1])
    assert len(code[0].splitlines()) <= 25  # what the page promises: a few lines
    for printed, told in zip(found["printed"], shown, strict=True):  # type: ignore[call-overload]
        assert printed.strip()
        if told is not None:
            assert_same_text(printed, told)


def test_the_library_alone_trains_and_lacks_the_book(tmp_path: Path, alone: Path) -> None:
    code = """
import importlib.util
from posterior_collapse import Spec, train_or_load
run = train_or_load(Spec("lagging-synthetic", "vae", "smoke"), progress=False)
print(run.metrics["nll"] > 0)
print([n for n in ("companion", "matplotlib", "yaml", "nbformat") if importlib.util.find_spec(n)])
"""
    store = str(tmp_path / "store")
    found = execute([code], tmp_path, str(alone), PYTHONPATH="", POSTERIOR_COLLAPSE_STORE=store)
    assert found["printed"] == ["True\n[]\n"]


def test_other_examples_print_what_their_pages_show(tmp_path: Path) -> None:
    for page in PAGES:
        code, shown = blocks(page.read_text(encoding="utf-8"))
        if not code or page.stem == "use-your-own":
            continue
        found = execute(code, tmp_path, PYTHONPATH=f"{ROOT / 'lib'}{os.pathsep}{ROOT / 'book'}")
        for printed, told in zip(found["printed"], shown, strict=True):  # type: ignore[call-overload]
            assert told is not None
            assert_same_text(printed, told)


def test_examples_of_the_readme_run(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert code
    found = execute(code, tmp_path, POSTERIOR_COLLAPSE_STORE=str(tmp_path / "store"))
    kl, units = str(found["printed"][-1]).split()  # type: ignore[index]
    assert float(kl) >= 0.0 and int(units) in (0, 1)


def test_table_of_verdicts_is_the_rule() -> None:
    """The first row of the page's table that applies gives the outcome, for all small counts."""
    text = (ROOT / "book" / "verdicts.md").read_text(encoding="utf-8")
    table = text.partition(":name: tab-verdicts")[2].partition("```")[0]
    rows = dict(re.findall(r"^\* - (.*)\n  - (.*)$", table, re.M)[1:])
    applies: dict[str, Callable[[int, int, int, bool], bool]] = {
        "every one holds, and one of a printed form fails": lambda h, f, u, p: p and h == h + f + u,
        "h = n": lambda h, f, u, p: h == h + f + u,
        "fewer than half are decided": lambda h, f, u, p: 2 * (h + f) < h + f + u,
        "f = 0 and u > 0": lambda h, f, u, p: f == 0 and u > 0,
        "h is less than a fifth of the decided": lambda h, f, u, p: h < (h + f) / 5,
        "otherwise": lambda h, f, u, p: True,
    }
    assert list(rows) == list(applies)
    one = {
        outcome: Check("q", "r", Interval(0.0, 0.0, 0.0, 2), outcome)
        for outcome in (Outcome.HOLDS, Outcome.FAILS, Outcome.OPEN)
    }
    for counts in product(range(7), range(7), range(7), (False, True)):
        h, f, u, refuted = counts
        if h + f + u == 0 or (refuted and h < h + f + u):
            continue  # a refuted printed form counts as central unless every other check holds
        checks = [one[Outcome.HOLDS]] * h + [one[Outcome.FAILS]] * f + [one[Outcome.OPEN]] * u
        checks += [verdicts.as_printed(one[Outcome.FAILS])] * refuted
        told = next(rows[name] for name, rule in applies.items() if rule(*counts))
        assert verdicts.decide("lagging-fig2", "quick", checks).verdict.value == told, counts


def test_pages_on_verdicts_know_every_word() -> None:
    for name in ("verdicts.md", "reading.md"):
        text = (ROOT / "book" / name).read_text(encoding="utf-8")
        for label in verdicts.Label:
            assert label.value in text, (name, label)
    text = (ROOT / "book" / "verdicts.md").read_text(encoding="utf-8")
    reaches = text.partition(":name: tab-reach")[2].partition("```")[0]
    assert re.findall(r"^\* - (.*)$", reaches, re.M)[1:] == [
        reach.value for reach in verdicts.Reach
    ]
    words = (
        f"{premises.LEAST_GAIN:g} nats",
        f"{premises.LEAST_SHARE:.0%}".replace("%", " percent"),
    )
    for word in (*words, f"below {premises.COLLAPSED:g} nats", f"above {premises.CARRIED:g} nat"):
        assert word in text, word


def test_interval_factors_of_the_page() -> None:
    """2.78, 4.30 and 12.7 for five, three and two seeds."""
    for seeds, factor in ((5, 2.78), (3, 4.30), (2, 12.7)):
        values = [float(n) for n in range(seeds)]
        found = verdicts.interval(values)
        spread = torch.tensor(values).std().item() / math.sqrt(seeds)
        assert (found.high - found.mean) / spread == pytest.approx(factor, rel=3e-3)


def test_numbers_of_the_page_on_collapse() -> None:
    text = (ROOT / "book" / "collapse.md").read_text(encoding="utf-8")
    ceilings = re.findall(r"\\log (\d+) = (\d\.\d+)", text)
    assert len(ceilings) == 4
    for points, told in ceilings:
        assert f"{math.log(int(points)):.2f}" == told
    along = torch.linspace(-1.0, 1.0, 50, dtype=torch.float64)
    straight = torch.stack([along, 0.0 * along], 1)
    turned = torch.stack([along, along], 1) / math.sqrt(2.0)
    assert [gaussian.active_units(m) for m in (straight, turned)] == [1, 2]
    assert [gaussian.active_rank(m) for m in (straight, turned)] == [1, 1]


def test_message_for_a_misspelt_parameter_is_the_one_shown() -> None:
    with pytest.raises(BadInput) as refused:
        parameters.check_names(["sede"], {"scale", "seeds", "device"})
    assert f"BadInput: {refused.value}" in (ROOT / "book" / "rerun.md").read_text(encoding="utf-8")


def test_every_class_that_pages_emit_is_styled() -> None:
    styles = (ROOT / "book" / "static" / "pages.css").read_text(encoding="utf-8")
    source = "".join(
        (ROOT / "book" / "companion" / name).read_text(encoding="utf-8")
        for name in ("show/boxes.py", "show/answers.py", "papers/status.py", "front/home.py")
    )
    styles += (ROOT / "book" / "static" / "home.css").read_text(encoding="utf-8")
    emitted = set(re.findall(r"class=[\"'](pc-[a-z]+)[\"' ]", source))
    emitted |= {f"pc-verdict-{show.kind(label)}" for label in verdicts.Label}
    emitted |= {f"pc-{show.kind(word)}" for word in (*verdicts.Label, *Outcome)}
    assert len(emitted) >= 11
    for name in emitted:
        assert re.search(rf"\.{name}[ ,:.{{\[]", styles), name


def test_commands_and_variables_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    sources = makefile + "".join(p.read_text(encoding="utf-8") for p in LIBRARY.rglob("*.py"))
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M)) <= targets, document
        for variable in re.findall(r"POSTERIOR_COLLAPSE_[A-Z]+", text):
            assert variable in sources, (document, variable)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert targets == set(re.findall(r"`?make ([a-z-]+)", readme))


def test_faults_are_proved_by_tests_that_exist() -> None:
    """Every row of the page on reliability ends with a test."""
    text = (ROOT / "book" / "reliability.md").read_text(encoding="utf-8")
    rows = [row.split("\n  - ") for row in text.split("\n* - ")[1:]]
    proofs = [cells[2] for cells in rows if cells[0] != "fault"]
    assert len(proofs) > 25
    for proof in proofs:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", proof)
        assert named, proof
        for file, name in named:
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), name


def test_links_lead_to_files() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if not target.startswith("https://"):
                assert (document.parent / target).exists(), (document, target)


def _entries(bibliography: str) -> dict[str, str]:
    """Key -> title, in lower case and without braces."""
    found = re.findall(r"@\w+\{(\w+),.*?^  title\s*=\s*\{([^\n]*)\},$", bibliography, re.M | re.S)
    return {key: re.sub(r"[{}]", "", title).lower() for key, title in found}


def test_the_first_page_leads_to_every_page() -> None:
    table = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    text = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    for part in table["parts"]:
        for chapter in part["chapters"]:
            folder, _, name = chapter["file"].partition("/")
            link = f"{{ref}}`{name}`" if folder == "book" else f"(../{folder}/{name}.ipynb)"
            assert link in text, f"{chapter['file']} is not linked from the first page"


def test_bibliography_is_cited_and_agrees_with_the_citation_file() -> None:
    entries = _entries((ROOT / "book" / "references.bib").read_text(encoding="utf-8"))
    sources = [*PAGES, *(ROOT / "notebooks").rglob("*.ipynb")]
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    quoted = re.findall(r"\{cite[:a-z]*\}`(.*?)`", text)
    cited = {key.strip() for keys in quoted for key in keys.split(",")}
    assert cited == set(entries)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    titles = [reference["title"].lower() for reference in citation["references"]]
    assert len(titles) == 5 and set(titles) <= set(entries.values())
    assert citation["version"] == posterior_collapse.__version__
