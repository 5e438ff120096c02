"""A forked job does what the plain command does, and ends when its asker or its server ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from companion.build import warm
from companion.build.batch import WARM
from pages_help import notebook, text_of
from posterior_collapse.runs import Spec, load_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")

REPORT = """
import json, os, sys
print(json.dumps([sys.argv[1:], os.getcwd(), os.environ.get("WHO"), sys.stdin.read(), "marker" in
sys.modules]))
print("to errors", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""
SLEEP = """
import os, pathlib, time
pathlib.Path("pid").write_text(str(os.getpid()))
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with modules, on the path of every process."""
    for name, text in (("report", REPORT), ("sleeper", SLEEP), ("marker", "")):
        (tmp_path / f"{name}.py").write_text(text)
    path = [str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    return tmp_path


@pytest.fixture
def variables(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of jobs that are forked from a process with one module."""
    # a shell's background job ignores Ctrl-C, and hands that down to all that it starts
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with warm.serve(["marker", "no_such_module"]) as found:
        yield {**os.environ, **found.variables}
    signal.signal(signal.SIGINT, before)


def job(module: str, *arguments: str) -> list[str]:
    return warm.command([sys.executable, "-m", module, *arguments])


def until(happens: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether something happens in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if happens():
            return True
        time.sleep(0.02)
    return False


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("status", [0, 3])
def test_a_fork_has_the_askers_arguments_folder_environment_streams_and_status(
    variables: dict[str, str], folder: Path, status: int
) -> None:
    place = folder / "elsewhere"
    place.mkdir()
    words = [str(status), "two words", "--flag=ü"]
    done = [
        subprocess.run(
            command, cwd=place, env={**env, "WHO": "me"}, input="in", capture_output=True, text=True
        )
        for command in (job("report", *words), [sys.executable, "-m", "report", *words])
        for env in (variables, dict(os.environ))
    ]
    assert {(d.returncode, d.stderr) for d in done} == {(status, "to errors\n")}
    found = [json.loads(d.stdout) for d in done]
    assert [f[:4] for f in found] == [[words, str(place), "me", "in"]] * 4
    # forked only where both the command and the environment ask for it
    assert [f[4] for f in found] == [True, False, False, False]


def test_other_commands_stay_as_they_are() -> None:
    assert warm.command(["make", "book"]) == ["make", "book"]
    assert warm.command([sys.executable, "-c", "pass"]) == [sys.executable, "-c", "pass"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_fork_ends_with_its_asker(
    variables: dict[str, str], folder: Path, how: signal.Signals
) -> None:
    asker = subprocess.Popen(job("sleeper"), cwd=folder, env=variables, stderr=subprocess.DEVNULL)
    assert until(lambda: (folder / "pid").exists() and (folder / "pid").read_text() != "")
    fork = int((folder / "pid").read_text())
    assert fork != asker.pid and alive(fork)
    asker.send_signal(how)
    assert asker.wait(20) != 0
    assert until(lambda: not alive(fork))


def test_forks_end_with_the_server_and_askers_hear_of_it(folder: Path) -> None:
    with warm.serve([]) as found:
        asker = subprocess.Popen(job("sleeper"), cwd=folder, env={**os.environ, **found.variables})
        assert until(lambda: (folder / "pid").exists() and (folder / "pid").read_text() != "")
        fork = int((folder / "pid").read_text())
    assert asker.wait(20) == 128 + signal.SIGTERM
    assert until(lambda: not alive(fork))
    assert not Path(found.variables["TMPDIR"]).exists()


def test_a_job_that_has_begun_is_finished_without_the_server(
    variables: dict[str, str], folder: Path
) -> None:
    (folder / "slow.py").write_text(
        "import time\ntime.sleep(1)\nopen('lines', 'a').write('x\\n')\n"
    )
    asker = subprocess.Popen(job("slow"), cwd=folder, env=variables)
    assert until(lambda: len(forks_of(variables)) > 1)
    os.kill(forks_of(variables)[0], signal.SIGKILL)
    assert asker.wait(20) == 0
    assert (folder / "lines").read_text() == "x\n"
    done = subprocess.run(job("report", "0"), cwd=folder, env=variables, stdin=subprocess.DEVNULL)
    assert done.returncode == 0  # by itself


def forks_of(variables: dict[str, str]) -> list[int]:
    """The process that forks and all its forks, the oldest first."""
    word = f"TMPDIR={variables['TMPDIR']}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = b"--serve" in (place / "cmdline").read_bytes()
            if ours and word in (place / "environ").read_bytes():
                found.append(int(place.name))
    return sorted(found)


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        ("time.sleep(1)\n    real(connection)", 1),  # late
        ("os.kill(os.getpid(), 9)", 1),  # never: the asker does it
        ("real(connection)\n    os.kill(os.getpid(), 9)", 0),  # in time, and then no job
        ("real(connection)\n    time.sleep(1)", 1),
    ],
)
def test_a_job_runs_at_most_once(folder: Path, answer: str, lines: int) -> None:
    """Whenever the answer comes, and whatever ends the one who gives it."""
    (folder / "late.py").write_text(
        "import os, sys, time\nserver = sys.modules['__main__']\nreal = server._announce\n"
        f"def late(connection):\n    {answer}\nserver._announce = late\n"
    )
    (folder / "line.py").write_text("open('lines', 'a').write('x\\n')")
    with warm.serve(["late"]) as found:
        done = subprocess.run(job("line"), cwd=folder, env={**os.environ, **found.variables})
    assert done.returncode == 1 - lines
    assert ((folder / "lines").read_text() if lines else "") == lines * "x\n"
    assert (folder / "lines").exists() == bool(lines)


def test_a_job_runs_by_itself_when_the_server_dies_before_it_begins(
    folder: Path, tmp_path: Path
) -> None:
    """Also when it has asked already: then it waits for the modules to be imported."""
    (folder / "deadly.py").write_text("import os, time\ntime.sleep(2)\nos._exit(1)\n")
    with warm.serve(["deadly"]) as found:
        for _ in range(2):  # during the import, and after the end
            done = subprocess.run(
                job("report", "3"),
                cwd=folder,
                env={**os.environ, **found.variables},
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
            assert (done.returncode, done.stderr) == (3, b"to errors\n")


def test_where_no_socket_fits_nothing_is_forked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with warm.serve([]) as found:
        assert warm.VARIABLE not in found.variables and found.group == 0


def test_one_who_asks_for_nothing_harms_nobody(variables: dict[str, str], folder: Path) -> None:
    for data in (b"", b"not JSON\n", b'{"module": "report"}\n'):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.connect(variables[warm.VARIABLE])
            one.sendall(data)
    done = subprocess.run(job("report", "0"), cwd=folder, env=variables, stdin=subprocess.DEVNULL)
    assert done.returncode == 0


def test_askers_that_leave_as_their_jobs_end_do_not_end_the_server(
    variables: dict[str, str], folder: Path
) -> None:
    for _ in range(40):
        asker = subprocess.Popen(
            job("marker"), cwd=folder, env=variables, stderr=subprocess.DEVNULL
        )
        time.sleep(0.03)
        asker.kill()
        asker.wait()
    done = subprocess.run(
        job("report", "0"),
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert done.returncode == 0 and json.loads(done.stdout)[4]


def test_many_at_once_do_not_mix_up_their_output(variables: dict[str, str], folder: Path) -> None:
    jobs = [
        subprocess.Popen(
            job("report", str(n)),
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for n in range(12)
    ]
    assert [json.loads(one.communicate(timeout=60)[0])[0] for one in jobs] == [
        [str(n)] for n in range(12)
    ]
    assert [one.returncode for one in jobs] == list(range(12))


def test_a_forked_training_and_page_are_those_of_the_plain_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    """Bit for bit the same weights; and a figure of a page arrives as it does without a fork."""
    spec = Spec("text-grammar", "vae", "smoke", 0)
    train = ["train", "--recipe", spec.recipe, "--method", spec.method, "--scale", spec.scale]
    figure = "import os\nimport matplotlib.pyplot as plt\nplt.plot([0, 1])\nplt.show()"
    page = tmp_path / "page.ipynb"
    page.write_text(text_of(notebook(figure)), encoding="utf-8")
    found = []
    for number, modules in enumerate([WARM, None]):
        store = tmp_path / f"store{number}"
        monkeypatch.setenv("POSTERIOR_COLLAPSE_STORE", str(store))
        words = [
            [sys.executable, "-m", "posterior_collapse.runs", *train],
            [sys.executable, "-m", "companion.build.reader", str(page)],
        ]
        with warm.serve(modules or []) as forks:
            environment = {**os.environ, **(forks.variables if modules else {})}
            for command in words:
                subprocess.run(warm.command(command), cwd=root, env=environment, check=True)
        executed = json.loads(next((store / "pages").glob("*.ipynb")).read_text())
        kinds = [
            sorted(output.get("data", {}))
            for cell in executed["cells"]
            for output in cell.get("outputs", [])
        ]
        found.append((load_file(load_run(spec).folder / "weights.safetensors"), kinds))
    (forked, pictures), (plain, others) = found
    assert pictures == others and any("image/png" in kinds for kinds in pictures)
    assert forked.keys() == plain.keys()
    assert all(bool((forked[name] == plain[name]).all()) for name in plain)
