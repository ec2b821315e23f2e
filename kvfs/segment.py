"""One segment: a file of whole records, appended to until it is full.

Knows its name, its header and its size; nothing of what the records mean.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from kvfs.codec import BadRecordError, SegmentHeader
from kvfs.errors import CorruptionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvfs.codec import Codec
    from kvfs.codec.base import Data
    from kvfs.disk import Disk
    from kvfs.records import Location

_COPIED = 16 * 1024
"""Bytes that are copied into one piece sooner than written in parts."""
_BEGIN = 8 * 1024 * 1024
"""Bytes that are worth to let the disk begin with."""
_NAME = re.compile(r"([0-9]{8,})\.seg")


def name_of(number: int) -> str:
    """Return the file name of segment `number`."""
    return f"{number:08}.seg"


def number_of(name: str) -> int | None:
    """Return the number of the segment called `name`, or None if it is none."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match and name_of(int(match[1])) == name else None


def numbers_of(names: Iterable[str]) -> list[int]:
    """Return the numbers of the segments among `names`, in their order."""
    return sorted(number for name in names if (number := number_of(name)) is not None)


def damaged(number: int, error: BadRecordError, offset: int = 0) -> CorruptionError:
    """Return `error`, found in segment `number`, as an error that names the place."""
    message = (
        f"segment {name_of(number)} is damaged at offset {offset + error.offset}: {error.reason}"
    )
    return CorruptionError(message)


def misplaced(location: Location, error: Exception) -> CorruptionError:
    """Return `error`, which the whole record at `location` caused, as one that names the place."""
    name = name_of(location.segment)
    return CorruptionError(f"segment {name} is damaged at offset {location.offset}: {error}")


def check_header(codec: Codec, store_id: bytes, number: int, data: bytes) -> int | None:
    """Return the first sequence number that the head of segment `number` names.

    None where the codec has no header. Raises `BadRecordError` if the head is
    damaged or belongs to another segment or store.
    """
    header = codec.parse_header(data)
    if header is None:
        return None
    if header.store_id != store_id:
        raise BadRecordError(0, "the segment belongs to another store", foreign=True)
    if header.number != number:
        reason = f"the segment says that it is number {header.number}"
        raise BadRecordError(0, reason, foreign=True)
    return header.first


def verify(codec: Codec, store_id: bytes, number: int, data: bytes) -> int:
    """Return how many records segment `number` has, all of which is `data`.

    Raises `CorruptionError` if its head, or any of them, does not verify.
    """
    try:
        check_header(codec, store_id, number, data)
        return sum(1 for _ in codec.scan(data, number, codec.header_size))
    except BadRecordError as error:
        raise damaged(number, error) from None


class Segment:
    """An open segment file."""

    def __init__(self, disk: Disk, number: int, fd: int, size: int) -> None:
        """Wrap the open file `fd` of `size` bytes."""
        self._disk = disk
        self.number = number
        self.fd = fd
        self.size = size
        self.synced = 0
        self._begun = size

    @classmethod
    def open(
        cls, disk: Disk, path: str, number: int, *, directory: int, writable: bool = False
    ) -> Segment:
        """Open an existing segment in the open `directory`, which was opened at `path`."""
        flags = os.O_RDWR if writable else os.O_RDONLY
        fd = disk.open(os.path.join(path, name_of(number)), flags, directory=directory)
        try:
            return cls(disk, number, fd, disk.size(fd))
        except OSError:
            disk.close(fd)
            raise

    @classmethod
    def create(
        cls, disk: Disk, directory: str, number: int, codec: Codec, store_id: bytes, first: int
    ) -> Segment:
        """Make a segment with its header; its name is on stable storage on return."""
        path = os.path.join(directory, name_of(number))
        fd = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        segment = cls(disk, number, fd, 0)
        try:
            segment.append([codec.header(SegmentHeader(store_id, number, first))])
            disk.sync_directory(directory)
        except BaseException:
            segment.close()
            disk.unlink(path)
            raise
        return segment

    def append(self, parts: list[Data]) -> None:
        """Write `parts`, one after the other, at the end."""
        length = sum(map(len, parts))
        if length > _COPIED:
            self._disk.write_parts(self.fd, parts, self.size)
        elif length:
            self._disk.write(self.fd, b"".join(parts), self.size)
        self.grow(length)

    def grow(self, length: int) -> None:
        """Note that `length` bytes were written at the end.

        From time to time the disk is told to begin with what is there, so that
        little is left to wait for when the segment is synced.
        """
        self.size += length
        if self.size - self._begun >= _BEGIN:
            self._disk.start_sync(self.fd, self._begun, self.size - self._begun)
            self._begun = self.size

    def cut(self, size: int) -> None:
        """Drop everything from `size` on."""
        self._disk.truncate(self.fd, size)
        self.size = size
        self.synced = min(self.synced, size)
        self._begun = min(self._begun, size)

    def rewrite(self, offset: int) -> None:
        """Write what stands from `offset` on once more, as it is."""
        for start in range(offset, self.size, _BEGIN):
            data = self.read(start, min(_BEGIN, self.size - start))
            self._disk.write(self.fd, data, start)

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`, fewer at the end of the file."""
        return self._disk.read(self.fd, length, offset)

    def sync(self) -> None:
        """Return once everything appended before the call is on stable storage."""
        size = self.size
        self._disk.sync(self.fd)
        self.synced = size

    def close(self) -> None:
        """Close the file."""
        self._disk.close(self.fd)
