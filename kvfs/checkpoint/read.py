"""A checkpoint that is open, for a table to stand on."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from kvfs.checkpoint.blocks import Blocks
from kvfs.checkpoint.format import (
    FOOTER,
    HEAD,
    INODES,
    KEY_OF,
    MAGIC,
    NAMES,
    VERSION,
    BadCheckpointError,
    inode_key,
    load_footer,
    load_index,
    load_state,
    name_key,
    named,
    number_of,
)
from kvfs.checksum import crc32c
from kvfs.errors import CorruptionError
from kvfs.table.rows import weigh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.checkpoint.format import Block
    from kvfs.disk import Disk

_CHUNK = 1024 * 1024


class Checkpoint:
    """Looks up nodes and names in the file of a checkpoint.

    Every byte is verified twice: once for all when it is opened, so that one
    that is damaged is known before anything stands on it, and again whenever it
    is used. All raise `CorruptionError` where it does not verify any more.
    """

    def __init__(self, disk: Disk, path: str, fd: int, store_id: bytes) -> None:
        """Read the file `fd`, which was opened at `path`.

        Raises `BadCheckpointError` if it is none of the store `store_id`, or damaged.
        """
        self._disk = disk
        self._fd = fd
        self.path = path
        size = disk.size(fd)
        footer = disk.read(fd, FOOTER.size, max(size - FOOTER.size, 0))
        parts, body = load_footer(footer, store_id)
        self._check_body(size - FOOTER.size, body)
        indices = [disk.read(fd, length, offset) for offset, length in parts]
        try:
            self.position, self.state, self.live = load_state(indices.pop())
            self._inodes, self._names = (
                Blocks(load_index(indices[table]), KEY_OF[table], self._load)
                for table in (INODES, NAMES)
            )
        except struct.error as error:
            message = f"its parts do not fit together: {error}"
            raise BadCheckpointError(message) from None
        self.limit = self.state.next_ino
        self.tracks = False
        self.tables = self._inodes, self._names

    @classmethod
    def open(cls, disk: Disk, path: str, store_id: bytes) -> Checkpoint:
        """Open the checkpoint at `path`. Raises `BadCheckpointError`, or what the disk says."""
        fd = disk.open(path, os.O_RDONLY)
        try:
            return cls(disk, path, fd, store_id)
        except BaseException:
            disk.close(fd)
            raise

    def close(self) -> None:
        """Close the file."""
        self._disk.close(self._fd)

    def __len__(self) -> int:
        """Return how many nodes it has."""
        return self.position.nodes

    def row(self, ino: int) -> bytes | None:
        """Return the row of the node `ino`, if there is one."""
        row = self._inodes.get(inode_key(ino))
        return None if row is None else row[8:]

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of all its nodes, ascending."""
        return (number_of(row) for row, _ in self._inodes.rows())

    def holding(self, segments: set[int]) -> Iterator[int]:
        """Yield the numbers of the nodes that have data in any of `segments`."""
        for row, _ in self._inodes.rows():
            if any(segment in segments for segment, _ in weigh(row[8:])):
                yield number_of(row)

    def entry(self, directory: int, name: bytes) -> int | None:
        """Return the number of what `directory` has under `name`, if anything."""
        row = self._names.get(name_key(directory, name))
        return None if row is None else named(row)[1]

    def entries(self, directory: int, start: int = 0) -> Iterator[tuple[bytes, int, int, int]]:
        """Yield the names of `directory` from the position `start` on: see `Base`."""
        prefix = name_key(directory, b"")
        for row, behind in self._names.rows(start or self._names.find(prefix)):
            if not row.startswith(prefix):
                return
            yield *named(row), behind

    def _check_body(self, size: int, body: int) -> None:
        crc = 0
        for offset in range(0, size, _CHUNK):
            data = self._disk.read(self._fd, min(_CHUNK, size - offset), offset)
            crc = crc32c(data, crc)
            if offset == 0:
                magic, version, _ = HEAD.unpack_from(data.ljust(HEAD.size, b"\0"))
                if magic != MAGIC or version != VERSION:
                    message = f"it is of version {version}" if magic == MAGIC else "it is none"
                    raise BadCheckpointError(message)
        if crc != body:
            raise BadCheckpointError("its bytes do not have the checksum that they had")

    def _load(self, block: Block) -> bytes:
        offset, length, crc, _ = block
        where = f"checkpoint {os.path.basename(self.path)}"
        try:
            data = self._disk.read(self._fd, length, offset)
        except OSError as error:
            message = f"{where} cannot be read at offset {offset}: {error.strerror}"
            raise CorruptionError(message) from error
        if crc32c(data) != crc:
            message = f"{where} is damaged at offset {offset}"
            raise CorruptionError(message)
        return data
