"""A process that has imported what every job imports, and forks for each of them.

Importing PyTorch, scikit-learn and pandas takes a job about four seconds of processor time, as
long as many a small training. A graph of a hundred trainings and thirty pages imports them once
with this module: ``serve`` starts the process, ``command`` rewrites a job's command so that it
asks that process to fork, and ``main``, which that command runs, waits for the fork and ends as it
ends. Without such a process, on another machine or system, the job runs as it always did.

The fork gets the asker's folder, environment, input and output, and dies with the asker.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["VARIABLE", "command", "main", "serve"]

VARIABLE = "POSTERIOR_COLLAPSE_WARM"  # names the socket of the process that forks
_FORKED = b"+"  # what an asker hears when its job has begun
_PATIENCE = 10.0  # seconds that an asker may take for its request
_FIGURES = "module://matplotlib_inline.backend_inline"  # ipykernel's backend of matplotlib
_FORWARDED = (signal.SIGINT, signal.SIGTERM)
_NAME = "companion.build.warm"


def command(words: Sequence[str]) -> list[str]:
    """A command ``python -m module ...`` that is forked from the warm process where there is one.

    Any other command is returned as it is.
    """
    given = list(words)
    if given[:2] != [sys.executable, "-m"]:
        return given
    return [*given[:2], _NAME, *given[2:]]


@contextlib.contextmanager
def serve(modules: Sequence[str]) -> Iterator[dict[str, str]]:
    """Start the process that forks, and stop it at the end.

    Args:
        modules: what it imports, and after a colon a function that it calls, whose result the
            module keeps; a module that it cannot import is left to the jobs.

    Yields:
        The variables that a job's environment needs; none where a process with these libraries
        cannot be forked safely, as on macOS, or where the folder for temporary files cannot hold a
        socket, for example because its path is too long.
    """
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        path = str(Path(folder) / "socket")
        process = _start(path, modules) if sys.platform == "linux" else None
        if process is None:
            yield {}
            return
        try:
            yield {VARIABLE: path}
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(path: str, modules: Sequence[str]) -> subprocess.Popen[bytes] | None:
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
            start_new_session=True,  # Ctrl-C reaches the askers, who pass it on
        )


class _Request(NamedTuple):
    """A job to fork."""

    module: str
    arguments: Sequence[str]
    folder: str
    environment: Mapping[str, str]
    descriptors: Sequence[int]  # input, output and errors of the asker


class _Server:
    """Accepts jobs, forks for each, passes signals on and tells how the fork ended."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.left = False
        self.jobs: dict[int, socket.socket] = {}  # process -> the asker's connection
        self.selector = selectors.DefaultSelector()
        self.bell, ring = socket.socketpair()
        ring.setblocking(False)
        self.ring = ring
        signal.set_wakeup_fd(ring.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(listener, selectors.EVENT_READ, self._accept)
        self.selector.register(self.bell, selectors.EVENT_READ, self._reap)
        self.selector.register(sys.stdin, selectors.EVENT_READ, self._leave)

    def run(self) -> _Request | None:
        """Serve until the one who started us is gone; in a fork, return what it has to do."""
        while not self.left:
            for key, _ in self.selector.select():
                request = key.data()
                if request is not None:
                    return request
        return None

    def _accept(self) -> _Request | None:
        """Fork for a new asker; returns its request in the fork."""
        connection, _ = self.listener.accept()
        request = _receive(connection)
        if request is None:
            connection.close()
            return None
        try:
            child = os.fork()
        except OSError:  # no memory, or too many processes: the job may have more luck by itself
            child = -1
        if child == 0:
            self._let_go()
            connection.close()
            return request
        for descriptor in request.descriptors:
            os.close(descriptor)
        if child < 0:
            connection.close()
            return None
        with contextlib.suppress(OSError):
            connection.sendall(_FORKED)
        self.jobs[child] = connection
        self.selector.register(
            connection, selectors.EVENT_READ, lambda: self._forward(child, connection)
        )
        return None

    def _let_go(self) -> None:
        """Close, in a fork, all that is the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.selector.close()
        for other in (self.listener, self.bell, self.ring, *self.jobs.values()):
            other.close()

    def _forward(self, child: int, connection: socket.socket) -> None:
        """Pass the asker's signals on; without an asker, end its fork."""
        if self.jobs.get(child) is not connection:
            return  # the fork has ended in the same moment
        try:
            signals = connection.recv(64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            signals = b""
        if not signals:
            self.selector.unregister(connection)
        for number in signals or bytes([signal.SIGTERM]):
            with contextlib.suppress(OSError):  # no such signal
                os.kill(child, number)

    def _reap(self) -> None:
        """Tell the askers of ended forks how they ended."""
        self.bell.recv(4096)
        while self.jobs:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            connection = self.jobs.pop(child)
            with contextlib.suppress(KeyError):
                self.selector.unregister(connection)
            with contextlib.suppress(OSError):
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            connection.close()

    def _leave(self) -> None:
        """End every fork, because the one who started us is gone."""
        for child in self.jobs:
            os.kill(child, signal.SIGTERM)
        self.left = True


def _receive(connection: socket.socket) -> _Request | None:
    """The request of an asker; None if it goes away, or says nothing for long, or is no asker."""
    connection.settimeout(_PATIENCE)
    descriptors: list[int] = []
    try:
        data, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 3)
        while data and not data.endswith(b"\n"):
            more = connection.recv(1 << 16)
            data = data + more if more else b""
        connection.settimeout(None)
        return _Request(**json.loads(data), descriptors=tuple(descriptors))
    except (OSError, ValueError, TypeError):
        for descriptor in descriptors:
            os.close(descriptor)
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


def _serve(descriptor: int, modules: Sequence[str]) -> int:
    """Import the modules, fork for every asker; a fork does its work and ends the interpreter."""
    listener = socket.socket(fileno=descriptor)
    for entry in modules:
        name, _, function = entry.partition(":")
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            if function:
                getattr(module, function)()
    gc.freeze()  # the forks share what is here; a collection would copy it
    request = _Server(listener).run()
    if request is not None:
        _work(request)
    return 0


def _reached(connection: socket.socket) -> bool:
    """Connect to the process that forks, if there is one."""
    try:
        connection.connect(os.environ[VARIABLE])
    except (KeyError, OSError):
        return False
    return True


def _ask(connection: socket.socket, module: str, arguments: Sequence[str]) -> int | None:
    """Have a job forked, pass signals on to it, and return its exit status; None if none began."""
    request = {
        "module": module,
        "arguments": list(arguments),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }
    data = json.dumps(request).encode() + b"\n"
    try:
        sent = socket.send_fds(connection, [data], [0, 1, 2])
        connection.sendall(data[sent:])
        if connection.recv(1) != _FORKED:
            return None
    except OSError:
        return None
    for number in _FORWARDED:
        signal.signal(number, lambda given, _: connection.send(bytes([given])))
    answer = b""
    while not answer.endswith(b"\n"):
        try:
            received = connection.recv(64)
        except OSError:
            received = b""
        if not received:
            print("the process that forks jobs has died", file=sys.stderr)
            return 1
        answer += received
    status = int(answer)
    return 128 - status if status < 0 else status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``module arguments...`` in a fork of the warm process, or as ``python -m`` does."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--serve"]:
        return _serve(int(words[1]), words[2:])
    module, *rest = words
    status = None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        if _reached(connection):
            status = _ask(connection, module, rest)
    if status is not None:
        return status
    os.execv(sys.executable, [sys.executable, "-m", module, *rest])


if __name__ == "__main__":
    sys.exit(main())
