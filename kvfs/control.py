"""Asking the process that has a store mounted, for its status or to do something.

It listens at a socket in the store. One that only reads, which may have a store on
a read-only disk and be one of several, listens at an abstract address with
the number of its mount. One request is a line of JSON with one name, and so is
each answer: how far it is, and in the end what became of it. Only root and the user
of the daemon are answered; who may connect to the socket in a store may write to it anyway.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from kvfs.errors import ConfigError, KvfsError, StoreFailedError
from kvfs.retention import Retention
from kvfs.store.checkpoints import Checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import BufferedRWPair

    from kvfs.disk import Disk
    from kvfs.figures import Figures
    from kvfs.mounts import Mount
    from kvfs.store import Store

FILE = "control"
_SOON = 3.0  # seconds for figures to be told
_STEP = 0.2  # seconds between two answers that say how far it is
_PATIENCE = 10.0  # seconds for a request to come
_LONGEST = 4096  # bytes of a request
_CREDENTIALS = struct.Struct("iII")  # the kernel's struct ucred


class Control:
    """Answers requests about a store that is mounted, in threads of its own."""

    def __init__(
        self,
        store: Store,
        disk: Disk,
        facts: Mapping[str, Any],
        snapshot: Callable[[], Figures],
    ) -> None:
        """Listen; `close` ends it. Raises what the system says.

        `facts` are told as they are to who asks for the status; `device` and `read_only`
        of them say which mount it is. `snapshot` tells its figures.
        """
        self._snapshot = snapshot
        self._store = store
        self._disk = disk
        self._facts = facts
        self._requests: dict[str, Callable[[Any, BufferedRWPair], None]] = {
            "compact": self._compact,
            "stats": self._stats,
            "status": self._status,
        }
        self._path = None if facts["read_only"] else os.path.join(store.path, FILE)
        self._closing = False
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._bind()
        except OSError:
            self._socket.close()
            raise
        threading.Thread(target=self._run, name="kvfs-control", daemon=True).start()

    def _bind(self) -> None:
        if self._path is None:
            self._socket.bind(_abstract(self._facts["device"]))
        else:
            with suppress(FileNotFoundError):
                self._disk.unlink(self._path)  # of a process that has died
            with _short(self._store.path) as path:
                self._socket.bind(path)
                os.chmod(path, 0o600)
        self._socket.listen()

    def close(self) -> None:
        """Listen no more."""
        self._closing = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._path is not None:
            with suppress(OSError):
                self._disk.unlink(self._path)

    def _run(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # it has been closed, or there are no more descriptors for now
                time.sleep(_STEP)
                continue
            try:
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            except RuntimeError:  # there are no more threads
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE)
        try:
            with connection, connection.makefile("rwb") as stream:
                if _peer(connection)[1] not in (0, os.geteuid()):
                    _say(stream, {"problem": "it is for root and the user of the daemon"})
                    return
                line = stream.readline(_LONGEST)
                try:
                    self._answer(json.loads(line), stream)
                except (KeyError, TypeError, ValueError, RecursionError, ConfigError) as error:
                    _say(stream, {"problem": f"it was not understood: {error}"})
        except OSError:
            return  # who asked does not wait for an answer; what was begun goes on

    def _answer(self, request: Any, stream: BufferedRWPair) -> None:
        ((name, value),) = dict(request).items()
        self._requests[name](value, stream)

    def _compact(self, keep: Any, stream: BufferedRWPair) -> None:
        if not isinstance(keep, str | None):
            raise TypeError(keep)
        if self._path is None:
            raise ConfigError("it is mounted read-only")
        demand = self._store.background.demand(None if keep is None else Retention.parse(keep))
        while not demand.finished.wait(_STEP):
            _say(stream, {"done": demand.done, "total": demand.total})
        _say(stream, {"problem": demand.problem})

    def _stats(self, _nothing: Any, stream: BufferedRWPair) -> None:
        _say(stream, {"stats": self._snapshot()})

    def _status(self, _nothing: Any, stream: BufferedRWPair) -> None:
        # With the lock, without which the mount answers nobody either.
        with self._store.lock:
            records = self._store.position
        sizes = Checkpoints(self._disk, self._store.path, self._store.config).sizes()
        figures = {"records": records, "bytes": sum(sizes.values()), "failure": self._failure()}
        _say(stream, {"status": {**self._facts, "pid": os.getpid(), **figures}})

    def _failure(self) -> str | None:
        try:
            self._store.check_healthy()
        except StoreFailedError as error:
            return str(error)
        return None


def ask_status(mount: Mount, patience: float) -> dict[str, Any]:
    """Return what the daemon of `mount` says of itself.

    Raises `TimeoutError` if it says nothing for `patience` seconds, and `OSError` where there
    is nobody to ask.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(patience)
        if mount.read_only:
            connection.connect(_abstract(mount.device))
        else:
            with _short(mount.store) as path:
                connection.connect(path)
        if _peer(connection)[1] not in (0, mount.user):
            raise PermissionError(errno.EPERM, "somebody else answers for it")
        with connection.makefile("rwb") as stream:
            _say(stream, {"status": None})
            answer = json.loads(stream.readline() or b"{}")
    status = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(status, dict) or status.get("device") != mount.device:
        raise KvfsError("it does not tell of this mount")
    return status


def ask_to_compact(
    path: str, keep_history: str | None, progress: Callable[[int, int], object]
) -> str | None:
    """Let the process that has the store at `path` mounted compact it; return what was left, and why.

    `progress` is called with the nodes seen to and those there are. Raises
    `KvfsError` where it does not answer.
    """
    for answer in _ask(path, {"compact": keep_history}):
        if "problem" in answer:
            problem: str | None = answer["problem"]
            return problem
        progress(answer["done"], answer["total"])
    raise _ended(path)


def ask_for_stats(path: str) -> Figures:
    """Return the figures of the mount that has the store at `path` open. Raises `KvfsError`."""
    for answer in _ask(path, {"stats": None}, _SOON):
        if "stats" in answer:
            figures: Figures = answer["stats"]
            return figures
        message = f"the process that has {path} open cannot tell: {answer['problem']}"
        raise KvfsError(message)
    raise _ended(path)


def _ask(
    path: str, request: dict[str, Any], patience: float | None = None
) -> Iterator[dict[str, Any]]:
    """Yield what the process that has the store at `path` mounted answers, to its end.

    With `patience`, it may take so many seconds for each answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(patience)
            with _short(path) as short:
                connection.connect(short)
            with connection.makefile("rwb") as stream:
                _say(stream, request)
                yield from map(json.loads, stream)
    except OSError as error:
        why = error.strerror or "it takes too long"
        message = f"the process that has {path} open does not answer: {why}"
        raise KvfsError(message, error.errno) from error


def _ended(path: str) -> KvfsError:
    return KvfsError(f"the process that had {path} open ended meanwhile; try again")


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


def _abstract(device: int) -> str:
    """Return the address for the mount with the number `device`, of which there is one at a time."""
    return f"\0kvfs-{os.major(device)}:{os.minor(device)}"


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Return the process at the other end, and its user."""
    size = _CREDENTIALS.size
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _ = _CREDENTIALS.unpack(found)
    return pid, uid
