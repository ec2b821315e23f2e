"""Waiting until something happens in a directory: inotify(7), with a slow look as a safety net.

Where the system gives no more inotify instances, the look is a quick one.
"""

from __future__ import annotations

import ctypes
import os
import select
from contextlib import suppress

_libc = ctypes.CDLL(None, use_errno=True)
_MODIFY, _MOVED_TO, _CREATE, _DELETE_SELF, _MOVE_SELF = 0x2, 0x80, 0x100, 0x400, 0x800
_EVENTS = _MODIFY | _MOVED_TO | _CREATE | _DELETE_SELF | _MOVE_SELF
_BUFFER = 65536
_SLOW, _QUICK = 10.0, 0.25
"""Seconds between two looks, with inotify and without."""


class Notice:
    """Tells when files in a directory are made or written to, from the moment it is made."""

    def __init__(self, path: str, until: int | None = None) -> None:
        """Watch the directory `path`; `until` is a pipe or the like, to notice that nobody reads it."""
        self._poll = select.poll()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._stop, select.POLLIN)
        self._until = until
        if until is not None:
            self._poll.register(until, 0)  # errors are told in any case
        self._fd = _watch(path)
        self._interval = _QUICK if self._fd is None else _SLOW
        if self._fd is not None:
            self._poll.register(self._fd, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Wait until something may have happened, for `seconds` at most; False once it is to end.

        That is, `stop` was called, or nobody reads `until`.
        """
        happened = dict(self._poll.poll(1000 * min(seconds, self._interval)))
        if self._fd in happened:
            with suppress(BlockingIOError):
                os.read(self._fd, _BUFFER)
        return self._stop not in happened and self._until not in happened

    def stop(self) -> None:
        """Let `wait` return False from now on; for any thread, and for signal handlers."""
        with suppress(OSError):
            os.eventfd_write(self._stop, 1)

    def close(self) -> None:
        """Free what it uses; nobody may be waiting."""
        stop, self._stop = self._stop, -1  # a `stop` that comes too late does nothing
        for fd in (self._fd, stop):
            if fd is not None:
                os.close(fd)


def _watch(path: str) -> int | None:
    """Return an inotify instance that watches `path`; None where there can be none."""
    fd = int(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
    if fd < 0:
        return None
    if _libc.inotify_add_watch(fd, os.fsencode(path), _EVENTS) < 0:
        os.close(fd)
        return None
    return fd
