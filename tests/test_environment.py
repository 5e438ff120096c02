"""The files that say what is installed agree, and .venv is made again when they change."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from companion.build import environment

# pinned for the tools' sake only: no code of ours imports them
TOOLS = {
    "myst-parser",
    "nbclient",
    "nbconvert",
    "nbmake",
    "setuptools",
    "sphinx",
    "sphinx-book-theme",
    "threadpoolctl",
    "uv",
}


def pins(root: Path) -> dict[str, str]:
    lines = (root / "requirements.in").read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for requirement in wanted:
        assert re.fullmatch(r"==[^,]+", str(requirement.specifier)), f"not pinned: {requirement}"
    return {canonicalize_name(one.name): str(one.specifier)[2:] for one in wanted}


def locked(root: Path) -> dict[str, list[tuple[str, str]]]:
    """Package -> (version, marker) of each of its entries."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in (root / "requirements.lock").read_text().splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)(?:\s*;\s*([^\\]+))?", line)
        if match:
            entry = (match[2], (match[3] or "").strip())
            found.setdefault(canonicalize_name(match[1]), []).append(entry)
    return found


def project(root: Path) -> dict[str, object]:
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def test_every_pin_is_in_the_lock_and_torch_apart(root: Path) -> None:
    lock = locked(root)
    for name, version in pins(root).items():
        if name == "torch":
            continue
        assert version in [entry[0] for entry in lock[name]], name
    heavy = [name for name in lock if name.startswith(("torch", "nvidia", "triton", "cuda"))]
    assert heavy == []


def test_the_lock_holds_hashes_and_no_address(root: Path) -> None:
    text = (root / "requirements.lock").read_text()
    entries = re.split(r"\n(?=[a-z])", text.split("make lock\n")[1])
    assert len(entries) > 100
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:80]
    for word in ("://", "file:", "--index", "--find-links"):
        assert word not in text


def test_pyproject_agrees_with_the_pins(root: Path) -> None:
    chosen = pins(root)
    listed = project(root)
    lines = list(listed["dependencies"])
    for extra, wanted in listed["optional-dependencies"].items():
        if extra != "slurm":  # of no use without a cluster; .ci/slurm installs and tries it
            lines += wanted
    named = set()
    for line in lines:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        named.add(name)
        assert chosen[name] in requirement.specifier, line
    assert set(chosen) - named == TOOLS


def test_conda_gets_the_same_versions(root: Path) -> None:
    conda = yaml.safe_load((root / "environment.yml").read_text())["dependencies"]
    found: dict[str, str] = {}
    for line in conda:
        if isinstance(line, dict):
            found |= dict(one.split("==") for one in line["pip"] if one != "-e .")
            assert "-e ." in line["pip"]
        elif "=" in line:
            name, version = line.split("=")
            found["torch" if name == "pytorch-cpu" else name] = version
    assert found.pop("python") == ".".join(map(str, environment.OLDEST_PYTHON))
    assert found == pins(root)


def test_the_oldest_python_is_stated_once(root: Path) -> None:
    oldest = ".".join(map(str, environment.OLDEST_PYTHON))
    assert project(root)["requires-python"] == f">={oldest}"
    assert f"Python {oldest} or later is needed" in (root / "Makefile").read_text()
    assert sys.version_info >= environment.OLDEST_PYTHON


def test_what_is_installed_is_what_is_locked(root: Path) -> None:
    wrong = {}
    for name, entries in locked(root).items():
        for version, marker in entries:
            applies = not marker or Requirement(f"{name} ; {marker}").marker.evaluate()
            if applies and importlib.metadata.version(name) != version:
                wrong[name] = (importlib.metadata.version(name), version)
    assert wrong == {}
    torch = importlib.metadata.version("torch").split("+")[0]
    assert torch == pins(root)["torch"]


NAMES = {"sklearn": "scikit-learn"}  # where a package is imported under another name


def is_for_types(node: ast.AST, tree: ast.Module) -> bool:
    """Whether an import is for type checkers alone."""
    blocks = [
        block
        for block in tree.body
        if isinstance(block, ast.If)
        and isinstance(block.test, ast.Name)
        and block.test.id == "TYPE_CHECKING"
    ]
    return any(node is inner for block in blocks for inner in block.body)


def is_optional(node: ast.AST) -> bool:
    """Whether a module does without what it tries to import here."""
    return isinstance(node, ast.Try) and any(
        isinstance(handler.type, ast.Name) and handler.type.id == "ImportError"
        for handler in node.handlers
    )


def imported(path: Path) -> set[str]:
    """Packages that a module needs, by the names under which they are installed."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tried = {id(inner) for node in ast.walk(tree) if is_optional(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in tried or is_for_types(node, tree):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return {NAMES.get(name, name) for name in found}


def test_the_library_alone_needs_only_its_own_dependencies(root: Path) -> None:
    runtime = {canonicalize_name(Requirement(x).name) for x in project(root)["dependencies"]}
    package = root / "lib" / "posterior_collapse"
    for path in package.rglob("*.py"):
        inside = path.relative_to(package)
        others = imported(path) - set(sys.stdlib_module_names) - {"posterior_collapse"}
        assert others <= runtime, f"{inside} imports {sorted(others - runtime)}"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "requirements.in").write_text("# pins\nnumpy==2.4.6\ntorch==2.13.0\n")
    (tmp_path / "requirements.lock").write_text("numpy==2.4.6\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


@pytest.fixture
def calls(files: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ``ensure`` would have had pip do, as words."""
    done: list[str] = []

    def create(root: Path, venv: Path) -> None:
        venv.mkdir(exist_ok=True)
        done.append("create")

    monkeypatch.setattr(environment, "_create", create)
    for name in ("_pip", "_install"):
        monkeypatch.setattr(environment, name, lambda venv, *words: done.append(words[-1]))
    return done


def test_everything_is_installed_once(files: Path, calls: list[str]) -> None:
    assert environment.ensure(files) == "everything"
    assert calls == ["create", "requirements.lock", "torch==2.13.0", "."]
    calls.clear()
    assert environment.ensure(files) == "none"
    assert calls == []


def test_an_environment_elsewhere_is_never_removed(
    files: Path, calls: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("elsewhere") / ".venv-1"
    other.mkdir()
    (other / "precious").write_text("")
    (files / ".venv").symlink_to(other)
    assert environment.ensure(files) == "everything"
    assert (other / "precious").is_file() and os.listdir(other) == ["precious"]
    assert (files / ".venv").resolve().parent == files


def test_pip_alone_fetches_uv_with_its_hash(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[str] = []
    monkeypatch.setattr(environment, "_pip", lambda venv, *given: words.extend(given))
    environment._bootstrap(root, tmp_path)
    assert "--require-hashes" in words
    entry = Path(words[-1]).read_text()
    assert re.fullmatch(r"uv==\S+(?: \\\n +--hash=sha256:[0-9a-f]{64})+\n", entry)


@pytest.mark.parametrize("status", [0, 1])
def test_pip_installs_where_uv_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    words: list[str] = []
    monkeypatch.setattr(environment, "_pip", lambda venv, *given: words.extend(given))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    uv = tmp_path / "bin" / "uv"
    uv.write_text(f"#!/bin/sh\nexit {status}\n")
    uv.chmod(0o755)
    environment._install(tmp_path, "thing==1")
    assert words == (["install", "-q", "thing==1"] if status else [])


def test_uv_looks_where_pip_does() -> None:
    listed = """:env:.find-links='/wheels'
global.find-links='/old'
global.extra-index-url='file:///one/simple file:///two/simple'
global.index-url='https://mirror.invalid/simple'
global.timeout='60'
download.index-url='https://other.invalid/simple'"""
    assert environment.uv_settings(listed) == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels",
        "UV_INDEX": "file:///one/simple file:///two/simple",
        "UV_DEFAULT_INDEX": "https://mirror.invalid/simple",
    }


@pytest.mark.parametrize("name", ["requirements.lock", "requirements.in"])
def test_a_changed_pin_installs_everything_again(files: Path, calls: list[str], name: str) -> None:
    environment.ensure(files)
    calls.clear()
    path = files / name
    path.write_text(path.read_text().replace("2.4.6", "2.4.7").replace("2.13.0", "2.13.1"))
    assert environment.ensure(files) == "everything"
    assert calls[0] == "create"


def test_a_changed_pyproject_installs_only_the_package(files: Path, calls: list[str]) -> None:
    environment.ensure(files)
    calls.clear()
    (files / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert environment.ensure(files) == "package"
    assert calls == ["."]


def test_the_working_environment_stays_until_the_new_one_is_complete(
    files: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.ensure(files)
    link = files / ".venv"
    first = link.resolve()
    (first / "works").touch()
    (files / "requirements.lock").write_text("numpy==2.4.7\n")

    def fail(venv: Path, *words: str) -> None:
        assert venv.resolve() != first and (link / "works").exists()
        raise SystemExit("no network")

    with monkeypatch.context() as patch:
        patch.setattr(environment, "_pip", fail)
        with pytest.raises(SystemExit):
            environment.ensure(files)
    assert (link / "works").exists()
    calls.clear()
    assert environment.ensure(files) == "everything"
    assert calls[0] == "create" and link.resolve() != first and not first.exists()
    assert environment.ensure(files) == "none"


def test_an_environment_of_an_earlier_version_is_replaced(files: Path, calls: list[str]) -> None:
    (files / ".venv").mkdir()
    assert environment.ensure(files) == "everything"
    names = sorted(path.name for path in files.glob(".venv*"))
    assert names == [".venv", ".venv-1", ".venv.lock"] and (files / ".venv").is_symlink()


def test_without_a_network_one_line_says_so(
    files: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the real pip, and an index that nobody answers at."""

    def create(root: Path, venv: Path) -> None:
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (venv / "bin" / "python").chmod(0o755)

    monkeypatch.setattr(environment, "_create", create)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    (files / "requirements.lock").write_text(f"nothing-of-this-name==1 --hash=sha256:{'0' * 64}\n")
    monkeypatch.chdir(files)
    with pytest.raises(SystemExit, match="^no network: .*"):
        environment.ensure(files)
    said = capfd.readouterr()
    assert said.err == "" and all(
        line.startswith("[environment]") for line in said.out.splitlines()
    )


@pytest.mark.parametrize("stamp", ["", "[]", '{"python": "2.7"}'])
def test_a_strange_stamp_is_not_trusted(files: Path, stamp: str) -> None:
    path = files / "stamp.json"
    path.write_text(stamp)
    assert environment.work_needed(path, environment.state_of(files))[0] == "everything"


def test_a_moved_checkout_is_installed_again(files: Path) -> None:
    stamp = files / "stamp.json"
    wanted = environment.state_of(files)
    stamp.write_text(json.dumps({**wanted, "root": "/elsewhere"}))
    assert environment.work_needed(stamp, wanted)[0] == "everything"


def test_an_old_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(SystemExit, match=r"Python 99\.0 or later is needed.*make PYTHON="):
        environment.main()


def test_pins_without_torch_are_refused() -> None:
    with pytest.raises(ValueError, match="pins no torch"):
        environment.torch_requirement("numpy==2.4.6\n")


def test_make_help_lists_every_target(root: Path) -> None:
    makefile = (root / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split()
    shown = subprocess.run(["make", "help"], cwd=root, capture_output=True, text=True, check=True)
    for target in targets:
        assert re.search(rf"^  {target}\s+\S", shown.stdout, re.MULTILINE), target


def test_make_lets_python_keep_what_it_compiles(root: Path) -> None:
    """uv compiles no module, and a process that may not keep its own compiles torch every time."""
    forbidding = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = ["make", "--no-print-directory", "--eval", "seen: ; @env", "seen"]
    seen = subprocess.run(command, cwd=root, env=forbidding, capture_output=True, text=True)
    assert "PYTHONDONTWRITEBYTECODE=\n" in seen.stdout, seen.stderr
