"""A process that has imported what every job imports, and forks for each of them.

Importing PyTorch, scikit-learn and pandas takes a job about four seconds of processor time, as
long as many a small training. A graph of a hundred trainings and thirty pages imports them once
with this module: ``serve`` starts the process, ``command`` rewrites a job's command so that it
asks that process to fork, and ``main``, which that command runs, waits for the fork and ends as it
ends. Without such a process, on another machine or system, the job runs as it always did.
(The standard library's forkserver forks for the process that started it alone.)

**A job runs at most once.** The asker hears that its job begins before it does, and runs it
itself only if the connection ends without that word, however long it takes.

**Nothing outlives the one who started it.** The process, its forks, and what is started in its
group end when the pipe from there closes, also by SIGKILL. A fork ends with its asker only.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

VARIABLE = "POSTERIOR_COLLAPSE_WARM"  # names the socket of the process that forks
_BEGINS = b"+"  # what an asker hears before its job begins
_GRACE = 5.0  # seconds that a job has for its end, once it is asked to
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl
_FIGURES = "module://matplotlib_inline.backend_inline"  # ipykernel's backend of matplotlib
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NAME = "companion.build.warm"


class Forks(NamedTuple):
    """What the jobs of a process that forks are started with."""

    variables: dict[str, str]  # for their environment
    group: int  # process group that ends with it; 0, a new group, where there is none


def command(words: Sequence[str]) -> list[str]:
    """A command ``python -m module ...`` that is forked from the warm process where there is one.

    Any other command is returned as it is.
    """
    given = list(words)
    if given[:2] != [sys.executable, "-m"]:
        return given
    return [*given[:2], _NAME, *given[2:]]


@contextlib.contextmanager
def serve(modules: Sequence[str]) -> Iterator[Forks]:
    """Start the process that forks, and stop it and its group at the end.

    Args:
        modules: what it imports, and after a colon a function that it calls, whose result the
            module keeps; a module that it cannot import is left to the jobs.

    Yields:
        What jobs need: a folder for temporary files, which is gone at the end, and the way to the
        process. There is none where it cannot be forked safely, as on macOS, or where the folder
        cannot hold a socket, as under a long path.
    """
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        variables = {"TMPDIR": folder}
        path = str(Path(folder) / "socket")
        process = _start(path, modules, variables) if sys.platform == "linux" else None
        if process is None:
            yield Forks(variables, 0)
            return
        try:
            yield Forks({**variables, VARIABLE: path}, process.pid)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2 * _GRACE)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(
    path: str, modules: Sequence[str], variables: Mapping[str, str]
) -> subprocess.Popen[bytes] | None:
    """Start the process that forks, listening at a path; None where there can be no socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(path)
        except OSError:
            return None
        listener.listen(64)  # jobs wait here while the modules are imported
        return subprocess.Popen(
            [sys.executable, "-m", _NAME, "--serve", str(listener.fileno()), *modules],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,  # its end is the sign that we are gone
            process_group=0,  # Ctrl-C reaches the one who started us, who ends the group
            env={**os.environ, **variables},
        )


class _Request(NamedTuple):
    """A job to fork."""

    module: str
    arguments: Sequence[str]
    folder: str
    environment: Mapping[str, str]
    descriptors: Sequence[int]  # input, output and errors of the asker


def _serve(descriptor: int, modules: Sequence[str]) -> int:
    """Import the modules and fork for every asker; a fork returns when its job is done."""
    listener = socket.socket(fileno=descriptor)
    for entry in modules:
        name, _, function = entry.partition(":")
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            if function:
                getattr(module, function)()
    gc.freeze()  # the forks share what is here; a collection would copy it
    signal.signal(signal.SIGTERM, lambda *_: None)  # of the whole group: see _leave
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who look after jobs
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        try:
            process = os.fork()
        except OSError:  # too many processes: the job runs by itself
            process = -1
        if process == 0:
            listener.close()
            _work(_look_after(connection))
            return 0
        connection.close()
    _leave(Path(listener.getsockname()).parent)
    return 0


def _leave(folder: Path) -> None:
    """End the whole group, because the one who started us is gone; we are in it."""
    os.killpg(0, signal.SIGTERM)
    end = time.monotonic() + _GRACE
    with contextlib.suppress(ChildProcessError):  # raised when none is left
        while os.waitpid(-1, os.WNOHANG) and time.monotonic() < end:
            time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _look_after(connection: socket.socket) -> _Request:
    """Fork an asker's job and tell how it ends; returns in the job, and nowhere else."""
    request = _receive(connection)
    if request is None:
        os._exit(1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    own = os.getpid()
    try:
        _announce(connection)
        job = os.fork()
    except OSError:  # the asker is gone, or there are too many processes
        os._exit(1)
    if job == 0:
        connection.close()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != own:  # it has died already
            os._exit(1)
        return request
    for descriptor in request.descriptors:
        os.close(descriptor)
    _wait(job, connection)
    status = os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(f"{status}\n".encode())
    os._exit(0)


def _announce(connection: socket.socket) -> None:
    connection.sendall(_BEGINS)  # from now on the asker never runs the job itself


def _wait(job: int, connection: socket.socket) -> None:
    """Wait for a job's end and pass the asker's signals on; without an asker, end the job."""
    ended = os.pidfd_open(job)
    while ended not in select.select([ended, connection.fileno()], [], [])[0]:
        try:
            signals = connection.recv(64)
        except OSError:
            signals = b""
        for number in signals or bytes([signal.SIGTERM]):
            signal.pidfd_send_signal(ended, number)
        if not signals:
            if not select.select([ended], [], [], _GRACE)[0]:
                signal.pidfd_send_signal(ended, signal.SIGKILL)
            return


def _receive(connection: socket.socket) -> _Request | None:
    """The request of an asker; None if it goes away or is no asker."""
    try:
        data, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 3)
        while not data.endswith(b"\n"):
            more = connection.recv(1 << 16)
            if not more:
                return None
            data += more
        return _Request(**json.loads(data), descriptors=tuple(descriptors))
    except (OSError, ValueError, TypeError):
        return None


def _work(request: _Request) -> None:
    """Be the job that was asked for."""
    for own, given in enumerate(request.descriptors):
        os.dup2(given, own)
        os.close(given)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    if request.module == "ipykernel_launcher":
        # it ends when this is no longer its parent, and sets the other when matplotlib is loaded
        os.environ["JPY_PARENT_PID"] = str(os.getppid())
        os.environ.setdefault("MPLBACKEND", _FIGURES)
    if "MPLBACKEND" in os.environ and "matplotlib" in sys.modules:
        sys.modules["matplotlib"].rcParams["backend"] = os.environ["MPLBACKEND"]
    sys.argv = [request.module, *request.arguments]
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)


def _ask(module: str, arguments: Sequence[str]) -> int | None:
    """Have a job forked, pass signals on to it, and return its exit status; None if none began."""
    request = {
        "module": module,
        "arguments": list(arguments),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }
    data = json.dumps(request).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(os.environ[VARIABLE])
            sent = socket.send_fds(connection, [data], [0, 1, 2])
            connection.sendall(data[sent:])
            if connection.recv(1) != _BEGINS:
                return None
        except (KeyError, OSError):
            return None
        for number in _FORWARDED:
            signal.signal(number, lambda given, _: connection.send(bytes([given])))
        answer = b""
        with contextlib.suppress(OSError):
            while not answer.endswith(b"\n") and (received := connection.recv(64)):
                answer += received
    if not answer.endswith(b"\n"):
        print("the job has been killed with the process that looked after it", file=sys.stderr)
        return 1
    status = int(answer)
    return 128 - status if status < 0 else status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``module arguments...`` in a fork of the warm process, or as ``python -m`` does."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--serve"]:
        return _serve(int(words[1]), words[2:])
    status = _ask(words[0], words[1:])
    if status is not None:
        return status
    os.execv(sys.executable, [sys.executable, "-m", *words])


if __name__ == "__main__":
    sys.exit(main())
