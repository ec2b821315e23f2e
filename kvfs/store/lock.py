"""One writer: the lock file of a store, and who holds it.

The lock is `flock`, so it goes with the process that held it. The content of
the file only tells others whom to wait for: a process id, and the mountpoint
if the holder is a mount.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from kvfs.errors import FULL_DISK, StoreLockedError

if TYPE_CHECKING:
    from kvfs.disk import Disk

FILE = "lock"
_PATIENCE = 1.0  # seconds for a new holder to write its name
_STEP = 0.01
_MOST_BYTES = 64 * 1024  # of the content; a holder writes much less


class Holder(NamedTuple):
    """The process that holds a store.

    `pid` is 0 if it has not given its name. `mountpoint` is None if it is no
    mount; `mounted` tells whether the mount has been there. `failure` is None if
    the holder can still write; else it says why not. `started` tells the process
    from a later one of its number: it is when that began, in clock ticks since
    the machine did, if /proc tells.
    """

    pid: int
    mountpoint: str | None
    started: int | None = None
    mounted: bool = False
    failure: str | None = None

    def __str__(self) -> str:
        """Name the holder in a sentence."""
        if not self.pid:
            return "a process that has not given its name"
        if self.mountpoint is None:
            return f"process {self.pid}"
        return f"process {self.pid}, which mounts it at {self.mountpoint}"


_NAMELESS = Holder(0, None)


class Lock:
    """The lock of one store, held from `take` to `release`."""

    def __init__(self, disk: Disk, store: str) -> None:
        """Prepare; nothing is locked yet."""
        self._disk = disk
        self._store = store
        self._fd: int | None = None
        self._holder = Holder(os.getpid(), None)

    def take(self, mountpoint: str | None, wait: float = 0) -> None:
        """Take the lock, waiting up to `wait` seconds for its holder to let go.

        Raises `StoreLockedError`, naming the holder.
        """
        fd = self._disk.open(os.path.join(self._store, FILE), os.O_RDWR | os.O_CREAT)
        try:
            self._acquire(fd, wait)
            self._holder = Holder(os.getpid(), mountpoint, _beginning(os.getpid()))
            try:
                self._write(fd)
            except OSError as error:
                if error.errno not in FULL_DISK:
                    raise  # on a full disk the lock counts without a name
        except OSError:
            self._disk.close(fd)
            raise
        self._fd = fd

    def note_mounted(self) -> None:
        """Tell others, as far as the disk lets us, that the mount is there."""
        self._note(self._holder._replace(mounted=True))

    def note_failure(self, reason: str) -> None:
        """Tell others, as far as the disk lets us, that the holder takes no more writes."""
        self._note(self._holder._replace(failure=reason))

    def _note(self, holder: Holder) -> None:
        self._holder = holder
        if self._fd is not None:
            with suppress(OSError):
                self._write(self._fd)

    def release(self) -> None:
        """Let go, if held."""
        if self._fd is not None:
            with suppress(OSError):
                self._disk.truncate(self._fd, 0)
            self._disk.close(self._fd)
            self._fd = None

    def _write(self, fd: int) -> None:
        import json

        values = {name: value for name, value in self._holder._asdict().items() if value}
        content = json.dumps({"mountpoint": None, **values}).encode()
        self._disk.truncate(fd, 0)
        self._disk.write(fd, content, 0)

    def _acquire(self, fd: int, wait: float) -> None:
        deadline = time.monotonic() + wait
        named = time.monotonic() + _PATIENCE
        while not self._disk.lock(fd):
            now = time.monotonic()
            holder = _read(self._disk, fd)
            if now >= deadline and (holder or now >= named):
                message = f"store {self._store} is in use by {holder or _NAMELESS}"
                if holder and holder.mountpoint:
                    message += f"; end that with: kvfs unmount {holder.mountpoint}"
                raise StoreLockedError(message)
            time.sleep(_STEP)


def holder_of(disk: Disk, store: str) -> Holder | None:
    """Return who holds the lock of `store`, or None if nobody does.

    Raises what the disk says.
    """
    try:
        fd = disk.open(os.path.join(store, FILE), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        deadline = time.monotonic() + _PATIENCE
        while not disk.lock(fd):
            holder = _read(disk, fd)
            if holder:
                return holder
            if time.monotonic() >= deadline:
                return _NAMELESS
            time.sleep(_STEP)
        return None
    finally:
        disk.close(fd)


def _read(disk: Disk, fd: int) -> Holder | None:
    """Return the holder that the file names, if it is alive."""
    import json

    try:
        values = json.loads(disk.read(fd, _MOST_BYTES, 0))
        holder = _believed(values)
        alive = _beginning(holder.pid) if holder else None
    except (ValueError, RecursionError, OSError):
        return None
    return holder if holder and alive is not None and holder.started in (None, alive) else None


def _believed(values: Any) -> Holder | None:
    """Return the holder that `values`, which may be anything, describe; None if they are of none."""
    if not isinstance(values, dict):
        return None
    known = {name: values[name] for name in Holder._fields if name in values}
    holder = Holder(**{"pid": 0, "mountpoint": None, **known})
    believed = (
        type(holder.pid) is int  # and /proc tells whether there is such a process
        and (holder.mountpoint is None or _is_path(holder.mountpoint))
        and type(holder.started) in (int, type(None))
        and type(holder.mounted) is bool
        and (holder.failure is None or _is_text(holder.failure))
    )
    return holder if believed else None


def _is_path(value: Any) -> bool:
    """Tell whether `value` can be an absolute path."""
    return _is_text(value) and value.startswith("/") and "\0" not in value


def _is_text(value: Any) -> bool:
    """Tell whether `value` is text that can be written out."""
    if not isinstance(value, str):
        return False
    with suppress(UnicodeEncodeError):
        os.fsencode(value)
        return True
    return False


def _beginning(pid: int) -> int | None:
    """Return when the process `pid` began, or None if it has ended, waited for or not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
