"""Every error that kvfs raises of its own, in one place.

Each is an `OSError` with its `errno`, raised by the layer that knows and
translated once: at the FUSE boundary into an errno, at the command line into
one line and an exit status. The message is a whole sentence for a person.
"""

from __future__ import annotations

import errno
import os

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
"""What the system says where there is no room."""


class KvfsError(OSError):
    """Base of all errors of kvfs.

    `errno` says what kind it is to programs, `str(error)` what went wrong to
    people. Raised as it is where no subclass says more.
    """

    code = errno.EIO

    def __init__(self, message: str = "", code: int | None = None) -> None:
        """Make an error with `message`; `code` overrides the class's errno."""
        code = self.code if code is None else code
        super().__init__(code, message or os.strerror(code))

    def __str__(self) -> str:
        """Return the message alone, without the number."""
        return str(self.strerror)


def in_words(error: OSError, where: str = "") -> str:
    """Return `error` as one sentence; `where` is its place if it names no file."""
    if isinstance(error, KvfsError):
        return str(error)
    place = os.fsdecode(error.filename) if error.filename else where
    reason = error.strerror or str(error)
    return f"{place}: {reason}" if place else reason


def quoted(key: bytes) -> str:
    """Return `key` as messages show it: in quotes, with escapes for what is no text."""
    return repr(key.decode(errors="backslashreplace"))


class PosixError(KvfsError):
    """A file operation that POSIX says must fail, with the errno it names."""

    def __init__(self, code: int) -> None:
        """Make the error for errno `code`."""
        super().__init__(os.strerror(code), code)


class NotAStoreError(KvfsError):
    """The directory holds no kvfs store."""

    code = errno.ENOENT


class StoreExistsError(KvfsError):
    """A store, or something else, is already where one was to be made."""

    code = errno.EEXIST


class ConfigError(KvfsError):
    """`store.toml` cannot be understood, or asks for what is impossible."""

    code = errno.EINVAL


class NewerFormatError(ConfigError):
    """A later version of kvfs made the store, in a format that this one does not know."""


class StoreLockedError(KvfsError):
    """Another process writes to the store."""

    code = errno.EBUSY


class CorruptionError(KvfsError):
    """Stored bytes do not verify. Names the segment and the offset."""

    code = errno.EIO


class MissingSegmentError(CorruptionError):
    """A segment of the log is not there."""


class PastGoneError(KvfsError):
    """The store is not kept as it was then."""

    code = errno.ENOENT


class StoreFailedError(KvfsError):
    """An earlier write or fsync failed; the store takes no more writes."""

    code = errno.EIO


class NoSpaceError(KvfsError):
    """The disk below is full. The record was refused whole."""

    code = errno.ENOSPC


class RecordTooLargeError(KvfsError):
    """A record does not fit into a segment. Nothing was written."""

    code = errno.EFBIG


class KeyTooLongError(KvfsError):
    """A key is longer than `kvfs.keys.MAX_KEY` bytes."""

    code = errno.ENAMETOOLONG


class NotAValueError(KvfsError):
    """The key names a symbolic link, FIFO, socket or device, not a value."""

    code = errno.EINVAL


def not_a_value(key: bytes) -> NotAValueError:
    """Return the error for `key`, which names no value."""
    return NotAValueError(f"key {quoted(key)} names a special file, not a value")


class ConflictError(KvfsError):
    """What was to be replaced is not any more as it was to be."""

    code = errno.ECANCELED


class ReadOnlyError(KvfsError):
    """The store was opened for reading only."""

    code = errno.EROFS


class ClosedError(KvfsError):
    """The store has been closed."""

    code = errno.EBADF


class MountError(KvfsError):
    """A mount could not be made or ended."""
