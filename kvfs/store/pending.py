"""What has been written to a file but not logged: one buffer per file.

A file that is new, or that was cut to nothing, is *replaced*: all of it is in
the buffer, and the log still has the old value or none. Otherwise the buffer
is a *run* of bytes to be put at `start`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

    def put(self, offset: int, data: bytes | memoryview) -> None:
        """Put `data` at `offset` of a replaced file."""
        buffer = self.buffer
        if offset > len(buffer):
            buffer.extend(bytes(offset - len(buffer)))
        buffer[offset : offset + len(data)] = data

    def resize(self, size: int) -> None:
        """Cut a replaced file to `size` bytes."""
        del self.buffer[size:]
