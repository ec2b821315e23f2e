"""The one place where errors of kvfs become errnos of FUSE.

Any exception but `FUSEError` would end the mount.
"""

from __future__ import annotations

import errno
import functools
import logging
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pyfuse3

from kvfs.errors import (
    CorruptionError,
    KeyTooLongError,
    NoSpaceError,
    PosixError,
    ReadOnlyError,
    RecordTooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_log = logging.getLogger(__name__)
_EXPECTED = (PosixError, ReadOnlyError, KeyTooLongError, RecordTooLargeError)
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
        except Exception:  # noqa: BLE001 - this is the boundary
            _log.exception("%s failed unexpectedly", method.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return call


def _report(call: str, error: OSError) -> None:
    if isinstance(error, CorruptionError | NoSpaceError):
        _once.error(str(error))
    else:
        _once.error(f"{call}: {error}")
