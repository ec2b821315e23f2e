"""Asking the process that has a store mounted to do something: a socket in the store.

One request is a line of JSON, and so is each answer: how far it is, and in the end
what became of it. Who may connect may write to the store anyway: its directory is
for its owner alone.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from kvfs.errors import ConfigError, KvfsError
from kvfs.retention import Retention

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedRWPair

    from kvfs.disk import Disk
    from kvfs.store import Store

FILE = "control"
_STEP = 0.2  # seconds between two answers that say how far it is
_PATIENCE = 10.0  # seconds for a request to come
_log = logging.getLogger(__name__)


class Control:
    """Answers requests about a store that is open, in threads of its own."""

    def __init__(self, store: Store, disk: Disk) -> None:
        """Listen; `close` ends it. Raises what the system says."""
        self._store = store
        self._disk = disk
        self._path = os.path.join(store.path, FILE)
        with suppress(FileNotFoundError):
            disk.unlink(self._path)  # of a process that has died
        self._socket = socket.socket(socket.AF_UNIX)
        with _short(store.path) as path:
            self._socket.bind(path)
            os.chmod(path, 0o600)
        self._socket.listen()
        threading.Thread(target=self._run, name="kvfs-control", daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with suppress(OSError):
            self._disk.unlink(self._path)

    def _run(self) -> None:
        with suppress(OSError):  # it has been closed
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE)
        try:
            with connection, connection.makefile("rwb") as stream:
                try:
                    self._answer(json.loads(stream.readline()), stream)
                except (KeyError, TypeError, ValueError, RecursionError, ConfigError) as error:
                    _say(stream, {"problem": f"it was not understood: {error}"})
        except OSError:
            return  # who asked does not wait for an answer; what was begun goes on

    def _answer(self, request: Any, stream: BufferedRWPair) -> None:
        keep = request["compact"]
        if not isinstance(keep, str | None):
            raise TypeError(keep)
        demand = self._store.background.demand(None if keep is None else Retention.parse(keep))
        while not demand.finished.wait(_STEP):
            _say(stream, {"done": demand.done, "total": demand.total})
        _say(stream, {"problem": demand.problem})


def ask_to_compact(
    path: str, keep_history: str | None, progress: Callable[[int, int], object]
) -> str | None:
    """Let the process that has the store at `path` mounted compact it; return what was left, and why.

    `progress` is called with the nodes seen to and those there are. Raises
    `KvfsError` where it does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            with _short(path) as short:
                connection.connect(short)
            with connection.makefile("rwb") as stream:
                _say(stream, {"compact": keep_history})
                for line in stream:
                    answer = json.loads(line)
                    if "problem" in answer:
                        problem: str | None = answer["problem"]
                        return problem
                    progress(answer["done"], answer["total"])
    except OSError as error:
        message = f"the process that has {path} open does not answer: {error.strerror}"
        raise KvfsError(message, error.errno) from error
    message = f"the process that had {path} open ended meanwhile; try again"
    raise KvfsError(message)


def _say(stream: BufferedRWPair, answer: dict[str, Any]) -> None:
    stream.write(json.dumps(answer).encode() + b"\n")
    stream.flush()


@contextmanager
def _short(path: str) -> Iterator[str]:
    """Yield a path of the socket in the store at `path` that is not too long for one."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{FILE}"
    finally:
        os.close(fd)
