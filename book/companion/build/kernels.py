"""How the kernel of an executed page is reached: by Unix sockets in a private folder.

A kernel over TCP is told five ports that were free when they were chosen. Another process can
take one before the kernel binds it, and then the kernel dies and with it the whole build. Files in
a folder that nobody else writes to cannot be taken. They also keep the kernel from the network.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

_FILE = "k.json"  # what the kernel reads; short, because its name begins those of the sockets
_LONGEST = "k-ipc-5"  # of the five sockets, which are numbered from one
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def settings() -> Iterator[dict[str, str]]:
    """What a kernel manager is given for one kernel; the sockets are gone at the end.

    The path of a socket has some 100 bytes at most. Where the folder for temporary files has too
    long a path, or holds no sockets, ``/tmp`` is tried as well.

    Yields:
        Values of the manager's traits; none, which leaves it with TCP, where there are no Unix
        sockets, as on Windows. The reason is logged.
    """
    with contextlib.ExitStack() as stack:
        reasons = []
        for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):
            try:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="k", dir=parent))
                _try(os.path.join(folder, _LONGEST))
            except OSError as error:
                reasons.append(f"{parent}: {error}")
                continue
            yield {"transport": "ipc", "connection_file": str(Path(folder).absolute() / _FILE)}
            return
        _log.warning("the kernel is reached over TCP: no Unix socket (%s)", "; ".join(reasons))
        yield {}


def _try(path: str) -> None:
    """Bind a socket to a path and remove it again.

    Raises:
        OSError: if that is not possible.
    """
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise OSError("this system's Python has none")
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.bind(path)
    os.remove(path)
