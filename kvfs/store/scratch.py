"""What is written to files that have no name any more, which the log never sees.

Such a file keeps the extents that it had. New bytes go to a scratch file of
its own, without a name too, and become extents that lie there; bytes that lie
there already are written over in place.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from kvfs.errors import FULL_DISK, KvfsError, NoSpaceError
from kvfs.records import Location
from kvfs.table.content import Extent, cut, overlay, within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.disk import Disk
    from kvfs.table import File

_HERE = 0
"""Stands for a scratch file where a location has the number of a segment."""


class Scratch:
    """The scratch files of one store, by inode number."""

    def __init__(self, disk: Disk, directory: str) -> None:
        """Make scratch files on `disk`, in `directory`."""
        self._disk = disk
        self._directory = directory
        self._fds: dict[int, int] = {}

    def read(self, node: File, extent: Extent) -> bytes | None:
        """Return the bytes of an extent that lies in the scratch file of `node`, else None."""
        if extent.location.segment != _HERE:
            return None
        with _refusals():
            return self._disk.read(self._fds[node.ino], extent.length, _place(extent))

    def write(self, node: File, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Put `data` at `offset` of the nameless file `node`. Raises `NoSpaceError` or `KvfsError`."""
        with _refusals():
            self._write(node, offset, data)

    def resize(self, node: File, size: int) -> None:
        """Cut the nameless file `node` to `size` bytes, or extend it by a hole."""
        cut(node.extents, size)
        node.length = size
        if not node.extents and node.ino in self._fds:
            with _refusals():
                self._disk.truncate(self._fds[node.ino], 0)

    def forget(self, node: File) -> None:
        """Free the scratch file of `node`, if it has one."""
        fd = self._fds.pop(node.ino, None)
        if fd is not None:
            self._disk.close(fd)

    def close(self) -> None:
        """Free all scratch files."""
        for fd in self._fds.values():
            with suppress(OSError):
                self._disk.close(fd)
        self._fds.clear()

    def _write(self, node: File, offset: int, data: bytes | bytearray | memoryview) -> None:
        fd = self._fds.get(node.ino)
        if fd is None:
            fd = self._fds[node.ino] = self._disk.open_scratch(self._directory)
        start, end = offset, offset + len(data)
        for extent in list(within(node.extents, offset, end)):
            if extent.location.segment == _HERE:
                self._append(fd, node, start, data[start - offset : extent.start - offset])
                part = data[extent.start - offset : extent.end - offset]
                self._disk.write(fd, bytes(part), _place(extent))
                start = extent.end
        self._append(fd, node, start, data[start - offset :])
        node.length = max(node.length, end)

    def _append(
        self, fd: int, node: File, start: int, data: bytes | bytearray | memoryview
    ) -> None:
        if data:
            end = self._disk.size(fd)
            self._disk.write(fd, bytes(data), end)
            place = Location(_HERE, end, len(data))
            overlay(node.extents, Extent(start, len(data), place, 0))


@contextmanager
def _refusals() -> Iterator[None]:
    """Raise what the disk says as an error of kvfs."""
    try:
        yield
    except OSError as error:
        message = f"a file without a name: {error.strerror}"
        if error.errno in FULL_DISK:
            raise NoSpaceError(message) from error
        raise KvfsError(message, error.errno) from error


def _place(extent: Extent) -> int:
    return extent.location.offset + extent.skip
