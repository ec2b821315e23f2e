"""The one place where errors of kvfs become errnos of FUSE.

Any exception but `FUSEError` would end the mount.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pyfuse3

from kvfs.errors import (
    CorruptionError,
    KeyTooLongError,
    NoSpaceError,
    PosixError,
    ReadOnlyError,
    RecordTooLargeError,
    StoreFailedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_log = logging.getLogger(__name__)
_EXPECTED = (PosixError, ReadOnlyError, KeyTooLongError, RecordTooLargeError)
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Once:
    """Logs each problem once, not once per call."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def error(self, message: str) -> None:
        if message not in self._seen:
            self._seen.add(message)
            _log.error("%s", message)


_once = _Once()


def boundary(
    method: Callable[_P, Coroutine[Any, Any, _T]],
) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Make the FUSE call `method` raise nothing but `FUSEError`."""

    @functools.wraps(method)
    async def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await method(*args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except OSError as error:
            if not isinstance(error, _EXPECTED):
                _report(method.__name__, error)
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None
        except MemoryError:
            _once.error(f"{method.__name__}: {os.strerror(errno.ENOMEM)}")
            raise pyfuse3.FUSEError(errno.ENOMEM) from None
        except Exception:  # noqa: BLE001 - this is the boundary
            _log.exception("%s failed unexpectedly", method.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return call


def _report(call: str, error: OSError) -> None:
    if error.errno in _SHORT:
        _once.error(f"{call}: {os.strerror(error.errno)}")
    elif isinstance(error, CorruptionError | NoSpaceError | StoreFailedError):
        _once.error(str(error))
    else:
        _once.error(f"{call}: {error}")
