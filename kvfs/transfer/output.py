"""The file that an export writes: all of it, or what was there before."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from kvfs.errors import KvfsError

if TYPE_CHECKING:
    from collections.abc import Iterator


def _mode(file: str) -> int:
    """Return the permissions of `file`, or those that a new file gets."""
    try:
        return os.stat(file).st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


@contextmanager
def output(file: str) -> Iterator[IO[bytes]]:
    """Open `file` for writing; it is replaced at the end, if all went well. `-` is standard output."""
    if file == "-":
        yield sys.stdout.buffer
        return
    file = os.path.realpath(file)
    if os.path.exists(file) and not os.path.isfile(file):
        # A FIFO or a device takes what comes; only a file can be replaced.
        with open(file, "wb") as stream:
            yield stream
        return
    directory = os.path.dirname(file)
    if not os.path.isdir(directory):
        raise KvfsError(f"{directory}: there is no such directory to export to", errno.ENOENT)
    fd, temporary = tempfile.mkstemp(dir=directory, prefix=f".{os.path.basename(file)}.")
    try:
        with os.fdopen(fd, "wb") as stream:
            os.fchmod(fd, _mode(file))
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, file)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory_fd)
    finally:
        os.close(directory_fd)
