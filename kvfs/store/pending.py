"""What has been written to a file but not logged: one buffer per file.

A file that is new, or that was cut to nothing, is *replaced*: all of it is in
the buffer, and the log still has the old value or none. Otherwise the buffer
is a *run* of bytes to be put at `start`. A file without a name any more keeps
what is written to it in a scratch file, which the log never sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvfs.disk import Disk
    from kvfs.table import File

SMALL = 1024 * 1024
"""Up to this size, in bytes, a file is kept back until it is closed."""
HOLE = 4096
"""A gap of more bytes than this is logged as a hole, not as zeros."""


class Pending:
    """The buffer of one file.

    `created` says that the log does not know the file; `touched` is when its
    content last changed, or None; `explicit` holds the names of the times
    that a caller has set since.
    """

    __slots__ = ("born", "buffer", "created", "explicit", "node", "replaced", "start", "touched")

    def __init__(self, node: File, *, replaced: bool, born: int | None = None) -> None:
        """Make an empty buffer; `born` is the time of a file that the log does not know."""
        self.node = node
        self.replaced = replaced
        self.born = born
        self.created = born is not None
        self.start = 0
        self.buffer = bytearray()
        self.touched: int | None = None
        self.explicit: set[str] = set()

    @property
    def end(self) -> int:
        """The offset behind the buffered bytes."""
        return self.start + len(self.buffer)

    @property
    def size(self) -> int:
        """The size of the file with the buffer over it."""
        if self.replaced:
            return len(self.buffer)
        return max(self.node.length, self.end) if self.buffer else self.node.length

    def takes(self, offset: int, length: int) -> bool:
        """Tell whether a replaced file stays small with `length` bytes at `offset`."""
        return offset + length <= SMALL and offset <= len(self.buffer) + HOLE

    def put(self, offset: int, data: bytes) -> None:
        """Put `data` at `offset` of a replaced file."""
        buffer = self.buffer
        if offset > len(buffer):
            buffer.extend(bytes(offset - len(buffer)))
        buffer[offset : offset + len(data)] = data

    def resize(self, size: int) -> None:
        """Cut a replaced file to `size` bytes."""
        del self.buffer[size:]


class Scratch:
    """The content of a nameless file that has been changed since it lost its name."""

    def __init__(self, disk: Disk, directory: str) -> None:
        """Open an empty file on the disk of the store."""
        self._disk = disk
        self._fd = disk.open_scratch(directory)

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self._disk.size(self._fd)

    @property
    def blocks(self) -> int:
        """How many units of 512 bytes it takes."""
        return self._disk.blocks(self._fd)

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at `offset`, fewer at the end."""
        return self._disk.read(self._fd, size, offset)

    def write(self, offset: int, data: bytes | bytearray) -> None:
        """Put `data` at `offset`."""
        self._disk.write(self._fd, bytes(data), offset)

    def resize(self, size: int) -> None:
        """Cut the file, or extend it by a hole."""
        self._disk.truncate(self._fd, size)

    def close(self) -> None:
        """Close the file, which frees it."""
        self._disk.close(self._fd)
