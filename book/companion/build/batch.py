"""Many pages at once: the book's own, or a grid of notebooks and parameters.

``python -m companion.build.batch book`` trains what the pages of the table of contents
ask for and executes them. ``... batch grid batch.yml`` does the same for a grid file. Both check
everything first, write a plan, and hand it to Snakemake, which runs several jobs at a time.

A grid file::

    grid:
      - notebooks: [notebooks/lagging/*.ipynb]
        parameters:
          scale: [smoke, quick]
          seeds: [[0], [1], [2]]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import filelock
import nbformat
import yaml

from companion.build import parameters as checks
from companion.build import reader, sources, warm
from posterior_collapse.errors import BadInput, nearest, program
from posterior_collapse.places import STORE_VARIABLE, store_root, writing

# What trainings, pages and kernels import, for the process that they are forked from.
# Neither ipykernel nor pyplot: both read the environment of a kernel when they are imported.
WARM = (
    # first, so that the last one sees every edit since
    "companion.build.reader:imported_code",
    "companion.claims.reference",
    "companion.build.batch",
    "companion.claims.evidence",
    "companion.show.figures",
    # called too: the digest of the sources is then taken once, of what has been imported
    "posterior_collapse.runs.spec:sources_digest",
    "IPython.core.interactiveshell",
    "papermill",
    # What the first optimiser of every training would import: as long as a short training takes.
    "torch._dynamo",
    "companion.build.reader:refuse_edited",
)
# What an executor reserves for a training, by its scale: memory in MB, and minutes, ten times and
# more what one takes. One that is stopped by it goes on from its checkpoint.
_NEEDS = {"smoke": (2000, 20), "quick": (2000, 60), "medium": (4000, 360)}
_MOST = (8000, 2880)  # at any other scale
_PAGE_NEEDS = (4000, 60)
_NAME_LIMIT = 120  # characters of a folder's name; longer ones end in a digest
_JOB = re.compile(r"Job \d+: (\[(?:train|page)\] .*)")  # as Snakemake says that one begins


@dataclass(frozen=True)
class Job:
    """A page to execute.

    Attributes:
        notebook: source, relative to the root of the repository.
        parameters: what replaces the source's own parameters.
        output: where a copy of the executed page goes, or None to keep it in the store only.
    """

    notebook: str
    parameters: Mapping[str, object]
    output: Path | None = None

    @property
    def label(self) -> str:
        """The page and its parameters, for messages."""
        if not self.parameters:
            return self.notebook
        return f"{self.notebook} {folder_name(self.parameters)}"


def folder_name(parameters: Mapping[str, object]) -> str:
    """A folder's name that states parameters, such as ``scale=quick,seeds=0-1``.

    Anything that a folder's name cannot hold becomes an underscore, and a digest then keeps
    names apart.
    """
    words, exact = [], True
    for name, value in sorted(parameters.items()):
        parts = value if isinstance(value, list | tuple) else [value]
        text = "-".join(str(part) for part in parts)
        safe = re.sub(r"[^A-Za-z0-9._+-]", "_", text)
        exact = exact and safe == text and len(parts) == 1 + text.count("-")
        words.append(f"{name}={safe}")
    joined = ",".join(words) or "defaults"
    if exact and len(joined) <= _NAME_LIMIT:
        return joined
    digest = hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode()).hexdigest()
    return f"{joined[:_NAME_LIMIT]}~{digest[:8]}"


def _load(root: Path, name: str) -> Any:
    return sources.parse((root / name).read_text(encoding="utf-8"), name)


def book_jobs(root: Path) -> list[Job]:
    """The pages of the book, with the parameters that the environment replaces."""
    jobs = []
    for name in sources.toc_notebooks(root):
        declared = sources.default_parameters(_load(root, name), name)
        jobs.append(Job(name, reader.injected_parameters(declared)))
    return jobs


def _keys(entry: Any, allowed: Sequence[str], what: str) -> dict[str, Any]:
    """A mapping with known keys only.

    Raises:
        BadInput: otherwise.
    """
    if not isinstance(entry, dict):
        raise BadInput(f"{what} must be a mapping with the keys {', '.join(allowed)}")
    for key in entry:
        if key not in allowed:
            raise BadInput(nearest(key, allowed, f"key of {what}"))
    return entry


class _Distinct(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML would keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, unless it has a key twice."""
        seen: set[object] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                problem = f"the key {key.value} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


def read_grid(path: Path) -> list[dict[str, Any]]:
    """The entries of a grid file.

    Raises:
        BadInput: if the file is missing, is no YAML, or has another form than documented above.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Distinct)
    except FileNotFoundError as error:
        raise BadInput(f"there is no grid file {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise BadInput(f"cannot read the grid file {path}: {error}") from error
    entries = _keys(content, ("grid",), "the grid file").get("grid")
    if not isinstance(entries, list) or not entries:
        raise BadInput(f"the grid file {path} needs a list of entries under grid")
    return [_keys(entry, ("notebooks", "parameters"), "a grid entry") for entry in entries]


def grids_file() -> Path:
    """Where the store notes the grid files that it served, one a line in JSON."""
    return store_root() / "grids.jsonl"


def noted_grids() -> list[Path]:
    """The grid files that the store served and that are still there.

    Raises:
        BadInput: the list of them is damaged.
    """
    file = grids_file()
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    try:
        return [path for path in map(Path, map(json.loads, lines)) if path.is_file()]
    except (ValueError, TypeError) as error:
        raise BadInput(f"{file} is damaged, mend it or remove it: {error}") from error


def _note_grid(path: Path) -> None:
    """Note a grid, whose runs and pages are then not taken for left over."""
    if path.resolve() not in noted_grids():
        grids_file().parent.mkdir(parents=True, exist_ok=True)
        with grids_file().open("a", encoding="utf-8") as file:
            file.write(json.dumps(str(path.resolve())) + "\n")


def _match_notebooks(patterns: object, known: Sequence[str]) -> list[str]:
    """Notebooks that names or patterns stand for.

    Raises:
        BadInput: for a name or pattern that matches none.
    """
    wanted = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(wanted, list) or not wanted:
        raise BadInput("a grid entry needs notebooks: a list of names or patterns")
    chosen: list[str] = []
    for pattern in wanted:
        matching = [name for name in known if PurePosixPath(name).match(str(pattern))]
        if not matching:
            raise BadInput(nearest(pattern, known, "notebook"))
        chosen += [name for name in matching if name not in chosen]
    return chosen


def check_values(notebook: Any, name: str, parameters: Mapping[str, object]) -> dict[str, object]:
    """The parameters, checked against what the page takes.

    Raises:
        BadInput: for a name that the page does not take, or a value that it would refuse.
    """
    declared = sources.default_parameters(notebook, name)
    choices = sources.begin_choices(notebook)
    try:
        checks.check_names(parameters, declared)
        checked: dict[str, object] = {}
        for key, value in parameters.items():
            if key == "seeds":
                checked[key] = list(checks.check_seeds(value))
            elif key == "scale":
                checked[key] = checks.check_scale(value)
            elif key == "device":
                checked[key] = checks.check_device(value)
            elif key in choices:
                checked[key] = checks.check_choice(key, value, choices[key])
            else:
                checked[key] = value
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error
    return checked


def grid_jobs(entries: Sequence[Mapping[str, Any]], root: Path, out: Path) -> list[Job]:
    """Every notebook of every entry with every combination of its parameters.

    Raises:
        BadInput: for an unknown notebook or parameter, or a value that a page would refuse.
    """
    known = sources.list_notebooks(root)
    jobs: dict[Path, Job] = {}
    for entry in entries:
        lists = entry.get("parameters") or {}
        if not isinstance(lists, dict):
            raise BadInput("the parameters of a grid entry are a mapping: a name and its values")
        values = [v if isinstance(v, list) else [v] for v in lists.values()]
        empty = [str(name) for name, listed in zip(lists, values, strict=True) if not listed]
        if empty:
            raise BadInput(f"the parameter {empty[0]} of a grid entry has no values")
        for name in _match_notebooks(entry.get("notebooks"), known):
            notebook = _load(root, name)
            for chosen in itertools.product(*values):
                given = dict(zip(lists, chosen, strict=True))
                parameters = check_values(notebook, name, given)
                place = PurePosixPath(name).relative_to("notebooks")
                output = out / folder_name(parameters) / place
                jobs[output] = Job(name, parameters, output)
    return list(jobs.values())


def requested_specs(job: Job, root: Path) -> list[Any]:
    """The runs that a page asks for with its parameters, as ``runs.Spec``.

    Raises:
        BadInput: if its metadata name an unknown recipe or method, or the recipe lacks the scale.
    """
    from companion.claims import groups as benchmarks  # imports torch: only where runs are planned
    from posterior_collapse.runs import Spec

    notebook = _load(root, job.notebook)
    declared = sources.default_parameters(notebook, job.notebook)
    values = {**declared, **reader.injected_parameters(declared), **job.parameters}
    if values.get("dataset") == "auto":
        values["dataset"] = benchmarks.resolve("auto")
    seeds = checks.check_seeds(values.get("seeds", [0]))
    specs = []
    for request in sources.requested_runs(notebook, job.notebook):
        if not request.applies(values):
            continue
        scale = request.scale or str(values.get("scale", "quick"))
        try:
            wanted = benchmarks.expand(request.methods)
        except BadInput as error:
            raise BadInput(f"{job.notebook}: {error}") from error
        for method, seed in itertools.product(wanted, seeds):
            try:
                specs.append(Spec(request.recipe, method, scale, seed))
            except BadInput as error:
                raise BadInput(f"{job.notebook}: {error}") from error
    return specs


def _resources(needs: tuple[int, int], device: object) -> dict[str, int]:
    """What a job reserves; a GPU only where its device says so, as ``auto`` does without one."""
    return {"mem_mb": needs[0], "runtime": needs[1], "gpu": int(device == "cuda")}


def _run_entry(spec: Any, device: str) -> dict[str, object]:
    """A training for the plan."""
    words = [sys.executable, "-m", "posterior_collapse.runs", "train"]
    for name in ("recipe", "method", "scale", "seed"):
        words += [f"--{name}", str(getattr(spec, name))]
    words += ["--device", device]
    needs = _resources(_NEEDS.get(spec.scale, _MOST), device)
    return {
        "command": shlex.join(warm.command(words)),
        "label": spec.label(),
        "resources": needs,
    }


def _page_entry(job: Job, runs: Sequence[str]) -> dict[str, object]:
    """A page for the plan."""
    words = [sys.executable, "-m", "companion.build.reader", job.notebook]
    words += ["--parameters", json.dumps(dict(job.parameters))]
    if job.output:
        words += ["--output", str(job.output)]
    command = shlex.join(warm.command(words))
    needs = _resources(_PAGE_NEEDS, job.parameters.get("device"))
    named = {"command": command, "label": job.label, "resources": needs}
    return {**named, "runs": list(runs), "pages": []}


def is_done(job: Job, key: str) -> bool:
    """Whether a page is executed and, if a copy was asked for, the copy is of that run."""
    if job.output is None:
        return reader.is_stored(key)
    try:
        copy = job.output.read_bytes()
        if reader.is_stored(key):
            return copy == reader.stored_page(key).read_bytes()
        return reader.key_of(nbformat.reads(copy.decode(), as_version=4)) == key
    except (OSError, *sources.UNREADABLE):
        return False


def job_parts(job: Job, root: Path) -> dict[str, object]:
    """All that decides a page with its parameters, by name."""
    text = (root / job.notebook).read_text(encoding="utf-8")
    declared = sources.default_parameters(sources.parse(text, job.notebook), job.notebook)
    injected = {**reader.injected_parameters(declared), **job.parameters}
    return reader.page_parts(text, injected, root)


def _why(spec: Any) -> str:
    """Why a run has to be trained: what differs from the newest of its name."""
    from posterior_collapse.runs.spec import load_data, sources_digest

    now: dict[str, Any] = {"sources": sources_digest(), "data": load_data(spec.setup).digest}
    now |= {"setup": asdict(spec.setup), "method": repr(spec.choices)}
    for before in _provenances(spec.label()):
        changed = [part for part in now if before.get(part) != json.loads(json.dumps(now[part]))]
        return f"changed: {', '.join(changed) or 'torch or own methods'}"
    return "never trained"


def _provenances(pattern: str) -> Iterator[dict[str, Any]]:
    """Of the stored runs whose names begin so, whatever version trained them, the newest first."""
    paths = (store_root() / "runs").glob(f"{pattern}--*/provenance.json")
    for path in sorted(paths, key=lambda path: -path.stat().st_mtime):
        with contextlib.suppress(OSError, ValueError):
            yield json.loads(path.read_text(encoding="utf-8"))


def _hours(plan: Mapping[str, Any], root: Path) -> tuple[float, int]:
    """Processor time of the trainings of a plan, and the number of those that nothing tells of.

    It is that of a stored run or a reference result with the same method and scale.
    """
    seconds, unknown = 0.0, 0
    for entry in plan["runs"].values():
        name = entry["label"].rpartition("--seed")[0] + "--seed*"
        recipe, _, stem = name.partition("--")
        files = (root / "data" / "results" / recipe).glob(f"{stem}.json")
        known = (json.loads(path.read_bytes())["provenance"] for path in files)
        before = next(itertools.chain(_provenances(name), known), None)
        unknown += before is None
        seconds += before["cpu_seconds"] if before else 0.0
    return seconds / 3600.0, unknown


def make_plan(jobs: Sequence[Job], root: Path) -> dict[str, Any]:
    """What is missing: pages, and the runs that they need and the store lacks.

    A run on data that this machine lacks is left to its page, which says so there.

    Raises:
        BadInput: if a page asks for an unknown recipe, method or scale.
    """
    from posterior_collapse.runs import is_complete, run_folder

    plan: dict[str, Any] = {"root": str(root), "runs": {}, "pages": {}}
    wanted = [(job, requested_specs(job, root)) for job in jobs]  # refuses before anything runs
    gathering: list[str] = []
    for job, specs in wanted:
        key = reader.part_digest(job_parts(job, root))
        if is_done(job, key):
            continue
        needed = []
        for spec in specs:
            try:
                missing, name = not is_complete(spec), run_folder(spec).name
            except BadInput as error:
                print(f"[batch] {job.label}: {spec.label()} is left out: {error}", flush=True)
                continue
            if missing:
                device = str(job.parameters.get("device", "auto"))
                plan["runs"].setdefault(name, _run_entry(spec, device))
                needed.append(name)
        place = hashlib.sha256(f"{key} {job.output}".encode()).hexdigest()[:24]
        plan["pages"][place] = _page_entry(job, needed)
        if sources.reads_pages(_load(root, job.notebook)):
            gathering.append(place)
    for place in gathering:
        plan["pages"][place]["pages"] = [name for name in plan["pages"] if name not in gathering]
    return plan


def _snakemake(root: Path, work: Path, jobs: int, extra: Sequence[str]) -> list[str]:
    return [
        *(sys.executable, "-m", "snakemake"),
        *("--snakefile", str(root / "Snakefile"), "--directory", str(work)),
        *("--cores" if _runs_here(extra) else "--jobs", str(jobs)),
        *("--keep-going", "--rerun-incomplete"),
        *("--rerun-triggers", "mtime"),
        *extra,
    ]


def _runs_here(extra: Sequence[str]) -> bool:
    """Whether the jobs are processes of this machine, and not those of an executor."""
    return not any(word.startswith(("--executor", "--profile")) for word in extra)


def _profile(folder: Path | None) -> list[str]:
    """Snakemake's arguments for a profile.

    Raises:
        BadInput: there is none, or the plugin of its executor is not installed.
    """
    if folder is None:
        return []
    path = folder / "config.yaml"
    if not path.is_file():
        raise BadInput(f"a profile is a folder with a config.yaml, and there is no {path}")
    executor = str(yaml.safe_load(path.read_text(encoding="utf-8")).get("executor", "local"))
    plugin = f"snakemake-executor-plugin-{executor}"
    if executor != "local" and importlib.util.find_spec(plugin.replace("-", "_")) is None:
        raise BadInput(f"{path} asks for the package {plugin}, which is not installed")
    return ["--profile", str(folder.resolve())]


def _forget(work: Path, plan: Mapping[str, Any]) -> None:
    """Remove the markers of planned jobs: they are planned because their product is missing."""
    for kind, names in (("run", plan["runs"]), ("page", plan["pages"])):
        for name in names:
            (work / "done" / f"{kind}-{name}").unlink(missing_ok=True)


def _report_failures(work: Path, plan: Mapping[str, Any]) -> None:
    """Say which jobs did not finish, with the end of what they wrote."""
    for kind, entries in (("run", plan["runs"]), ("page", plan["pages"])):
        for name, entry in entries.items():
            log = work / "logs" / f"{kind}-{name}.log"
            if (work / "done" / f"{kind}-{name}").exists() or not log.exists():
                continue
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
            text = "\n".join(f"    {line}" for line in lines)
            print(f"[batch] not finished: {entry['label']}\n{text}\n    {log}", file=sys.stderr)


def _start(command: Sequence[str], log: Path, total: int, here: bool) -> int:
    """Run Snakemake to its end, with a process that its jobs are forked from if they run here.

    All that it says goes to ``log``; the console gets one line for each job.
    """
    os.environ.update({"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"})
    with contextlib.ExitStack() as held:
        forks = warm.Forks({}, 0)
        if here:  # a job of an executor would leave it for a fork of a process on this machine
            forks = held.enter_context(warm.serve(WARM))
        return _follow(command, forks, log, total)


def _follow(command: Sequence[str], forks: warm.Forks, log: Path, total: int) -> int:
    """Run Snakemake to its end; no job goes on when it has ended, or when we are asked to."""
    begun = 0
    with log.open("w", encoding="utf-8") as said, log.open("rb") as file:
        process = subprocess.Popen(
            command,
            env={**os.environ, **forks.variables},
            stdin=subprocess.DEVNULL,
            stdout=said,  # no pipe, which a killed reader would leave blocked or broken
            stderr=subprocess.STDOUT,
            process_group=forks.group,  # which ends with us, however we end
        )
        try:
            status = None
            while status is None:
                time.sleep(0.1)
                status = process.poll()
                for line in _whole_lines(file):
                    if job := _JOB.match(line):
                        begun += 1
                        print(f"[{begun}/{total}] {job[1]}", flush=True)
            return status if status >= 0 else 128 - status
        finally:
            _end(process, forks.group)


def _end(process: subprocess.Popen[bytes], group: int) -> None:
    """Stop Snakemake and its jobs; only when it is interrupted does it cancel an executor's."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group or process.pid, signal.SIGTERM if group else signal.SIGINT)
    try:
        process.wait(5 if group else 30)
    except subprocess.TimeoutExpired:
        process.kill()


def _whole_lines(file: BinaryIO) -> Iterator[str]:
    """The lines that a growing file has got since it was last asked."""
    while (line := file.readline()).endswith(b"\n"):
        yield line.decode(errors="replace")
    file.seek(-len(line), os.SEEK_CUR)


def _announce(plan: Mapping[str, Any], pages: int, cores: int, root: Path) -> None:
    count = f"{len(plan['runs'])} trainings and {len(plan['pages'])} of {pages} pages"
    hours, unknown = _hours(plan, root)
    took = f"; about {hours / cores:.1f} h of training" if plan["runs"] else ""
    took += f", and {unknown} of unknown length" if unknown else ""
    print(f"[batch] to do: {count}, {cores} at a time{took}", flush=True)


def _explain(plan: Mapping[str, Any], jobs: Sequence[Job], root: Path) -> None:
    """Say what would run, and why."""
    trainings, pages = ({e["label"] for e in plan[kind].values()} for kind in ("runs", "pages"))
    specs = {spec.label(): spec for job in jobs for spec in requested_specs(job, root)}
    for label in sorted(trainings):
        print(f"[train] {label}: {_why(specs[label])}")
    for job in jobs:
        if job.label in pages:
            print(f"[page] {job.label}: {reader.why(job.notebook, job_parts(job, root))}")


def run(
    jobs: Sequence[Job],
    root: Path,
    work: Path,
    cores: int,
    extra: Sequence[str] = (),
    dry: bool = False,
) -> int:
    """Train and execute what is missing.

    Args:
        jobs: the pages.
        root: the repository.
        work: folder for the plan, the markers and the logs. One call at a time uses it.
        cores: how many jobs run at once, each on one thread.
        extra: more arguments for Snakemake, such as an executor.
        dry: run nothing; say what would run, and why.

    Returns:
        Snakemake's exit status; 0 when nothing is missing.
    """
    start = time.monotonic()
    plan = make_plan(jobs, root)
    _announce(plan, len(jobs), cores, root)
    if dry:
        _explain(plan, jobs, root)
    if dry or not plan["pages"]:  # this needs no lock, nor a store that can be written
        return 0
    work.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(work / "batch.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"[batch] waiting for another batch in {work}", flush=True)
        lock.acquire()
        plan = make_plan(jobs, root)
    try:
        _forget(work, plan)
        (work / "plan.json").write_text(json.dumps(plan, indent=1), encoding="utf-8")
        command = _snakemake(root, work, cores, extra)
        locks = work / ".snakemake" / "locks"
        if locks.is_dir() and any(locks.iterdir()):
            # we hold our own lock, so Snakemake's is one that a killed batch left behind
            unlock = [*command, "--unlock", "--quiet", "all"]
            subprocess.run(unlock, check=True, stdout=subprocess.DEVNULL)
        log = work / "snakemake.log"
        total = len(plan["runs"]) + len(plan["pages"])
        status = _start(command, log, total, _runs_here(extra))
        if status != 0:
            _report_failures(work, plan)
            print(f"[batch] all that Snakemake said: {log}", file=sys.stderr)
        print(f"[batch] {'failed' if status else 'done'} after {time.monotonic() - start:.0f} s")
        return status
    finally:
        lock.release()


def _chosen(jobs: Sequence[Job], pages: Sequence[str] | None) -> list[Job]:
    """The jobs of some pages, or all of them.

    Raises:
        BadInput: a page is not among them, with the nearest one.
    """
    known = [job.notebook for job in jobs]
    for page in pages or ():
        if page not in known:
            raise BadInput(nearest(page, known, "page of the book"))
    return [job for job in jobs if not pages or job.notebook in pages]


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m companion.build.batch")
    kinds = parser.add_subparsers(dest="kind", required=True)
    book = kinds.add_parser("book", help="the pages of the table of contents")
    book.add_argument("--page", action="append", help="only this one; may be repeated")
    grid = kinds.add_parser("grid", help="the pages of a grid file")
    grid.add_argument("file", type=Path)
    grid.add_argument("--out", type=Path, default=None, help="folder for the pages (_batch)")
    for one in (book, grid):
        one.add_argument("--jobs", type=int, default=2, help="how many jobs run at once")
        one.add_argument("--dry-run", action="store_true", help="say what would run, and why")
        one.add_argument("--profile", type=Path, help="folder of a Snakemake profile")
        one.add_argument("--snakemake", default="", help="more arguments for Snakemake")
    given = parser.parse_args(arguments)
    if given.jobs < 1:
        raise BadInput(f"jobs must be at least 1, given {given.jobs}")
    root = sources.find_root()
    if given.kind == "book":
        jobs, work = _chosen(book_jobs(root), given.page), store_root() / "graph"
    else:
        out = (given.out or root / "_batch").resolve()
        jobs, work = grid_jobs(read_grid(given.file), root, out), out / ".graph"
    with writing("the batch", f"give another --out, or let {STORE_VARIABLE} name another folder"):
        if given.kind == "grid" and not given.dry_run:
            _note_grid(given.file)
        extra = [*_profile(given.profile), *shlex.split(given.snakemake)]
        status = run(jobs, root, work.resolve(), given.jobs, extra, given.dry_run)
    for job in jobs if status == 0 and not given.dry_run else []:
        if job.output:
            print(job.output)
    return status


if __name__ == "__main__":
    sys.exit(main())
