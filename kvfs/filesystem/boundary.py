"""The one place where errors of kvfs become errnos of FUSE."""

from __future__ import annotations

import errno
import logging
import os

from kvfs.errors import (
    ConflictError,
    CorruptionError,
    KeyTooLongError,
    NoSpaceError,
    PosixError,
    ReadOnlyError,
    RecordTooLargeError,
    StoreFailedError,
)
from kvfs.fuse import protocol

_log = logging.getLogger(__name__)
_EXPECTED = (ConflictError, PosixError, ReadOnlyError, KeyTooLongError, RecordTooLargeError)
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class _Once:
    """Logs each problem once, not once per call."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def error(self, message: str) -> None:
        if message not in self._seen:
            self._seen.add(message)
            _log.error("%s", message)


_once = _Once()


def errno_of(opcode: int, error: Exception) -> int:
    """Return the errno that says `error`, and log it if it is no common refusal."""
    call = protocol.REQUESTS.get(opcode, str(opcode))
    if isinstance(error, OSError):
        if not isinstance(error, _EXPECTED):
            _report(call, error)
        return error.errno or errno.EIO
    if isinstance(error, MemoryError):
        _once.error(f"{call}: {os.strerror(errno.ENOMEM)}")
        return errno.ENOMEM
    _log.error("%s failed unexpectedly", call, exc_info=error)
    return errno.EIO


def _report(call: str, error: OSError) -> None:
    if error.errno in _SHORT:
        _once.error(f"{call}: {os.strerror(error.errno)}")
    elif isinstance(error, CorruptionError | NoSpaceError | StoreFailedError):
        _once.error(str(error))
    else:
        _once.error(f"{call}: {error}")
