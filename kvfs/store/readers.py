"""Who reads a store without being its writer: no segment goes while somebody does.

A file of the store is locked, shared by all who read, and by the writer alone for
as long as it takes to remove segments. The lock goes with its process.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.disk import Disk

FILE = "readers"


class Reading:
    """One reading of the store at `path`, from `begin` to `end`."""

    def __init__(self, disk: Disk, path: str) -> None:
        """Prepare; nothing is locked yet."""
        self._disk = disk
        self._path = os.path.join(path, FILE)
        self._fd: int | None = None

    def begin(self) -> None:
        """Keep the segments that there are, waiting while any are being removed.

        Where the file is not there, or may not be opened, nobody removes any: it
        comes with the first writer.
        """
        with suppress(FileNotFoundError, PermissionError):
            self._fd = self._disk.open(self._path, os.O_RDONLY)
            self._disk.lock_shared(self._fd)

    def end(self) -> None:
        """Let the segments go."""
        if self._fd is not None:
            self._disk.close(self._fd)
            self._fd = None


def make_file(disk: Disk, path: str) -> None:
    """Make the file of the store at `path` whose lock it is; one that cannot be made now comes later."""
    with suppress(OSError):
        disk.close(disk.open(os.path.join(path, FILE), os.O_RDWR | os.O_CREAT))


@contextmanager
def held(disk: Disk, path: str) -> Iterator[None]:
    """Keep the segments of the store at `path` within the context."""
    reading = Reading(disk, path)
    reading.begin()
    try:
        yield
    finally:
        reading.end()


@contextmanager
def alone(disk: Disk, path: str) -> Iterator[bool]:
    """Yield whether nobody reads the store at `path`; then nobody begins to within the context."""
    fd = disk.open(os.path.join(path, FILE), os.O_RDWR | os.O_CREAT)
    try:
        yield disk.lock(fd)
    finally:
        disk.close(fd)
