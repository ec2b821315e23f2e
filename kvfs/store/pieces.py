"""A segment in pieces, damaged or not: the records that verify, and what lies between them."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from kvfs.codec import BadRecordError
from kvfs.errors import NewerFormatError
from kvfs.recovery import find_hole
from kvfs.segment import check_header, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.config import Config
    from kvfs.disk import Disk
    from kvfs.records import Record

HEADER = "header"
_BLOCK = 4096  # bytes that are given up together where a disk cannot read them
_RUN = 256 * _BLOCK
_UNREADABLE = (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA)


class Lost(NamedTuple):
    """Bytes that are no record, or a record that cannot be used: where, how many, and why.

    `record` is the type of record that they are or seem to be, or "header" for
    the head of a segment; `key` is its key, `new` the other one of a rename or
    a link, and `directory` tells whether these name directories. What is
    missing has the length 0. Where bytes do not verify, all but the place is a
    hint.
    """

    segment: str
    offset: int
    length: int
    reason: str
    record: str | None = None
    key: bytes | None = None
    new: bytes | None = None
    directory: bool = False


class Piece(NamedTuple):
    """A record, or bytes that are none.

    `more` tells whether its batch goes on; `lost` is the entry for a list of
    losses, should it not be kept.
    """

    record: Record | None
    more: bool
    lost: Lost


class Loaded(NamedTuple):
    """A segment as it could be read: None if it is no file, zeros where the disk can read nothing.

    `gaps` are those places.
    """

    number: int
    name: str
    data: bytes | None
    gaps: list[range]


class SegmentReader:
    """Reads segments of the store at `path` whatever has happened to them."""

    def __init__(self, disk: Disk, path: str, config: Config) -> None:
        """Prepare; nothing is read yet."""
        self._disk = disk
        self._directory = os.path.join(path, "segments")
        self._codec = config.codec()
        self._id = config.id

    def load(self, number: int) -> Loaded:
        """Read segment `number`.

        Raises what the disk says where it is more than that it cannot read a place.
        """
        name, path = name_of(number), self._path(number)
        if not stat.S_ISREG(self._disk.stat(path).st_mode):
            return Loaded(number, name, None, [])
        try:
            return Loaded(number, name, self._disk.read_file(path), [])
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
        return Loaded(number, name, *self._salvage(path))

    def first(self, loaded: Loaded) -> int | None:
        """Return the sequence number of the first record, if the head of the segment tells."""
        try:
            return check_header(self._codec, self._id, loaded.number, loaded.data or b"")
        except BadRecordError:
            return None

    def pieces(self, loaded: Loaded) -> Iterator[Piece]:
        """Yield a segment in pieces.

        Raises `NewerFormatError` if a later version of kvfs wrote it.
        """
        number, name, data, gaps = loaded
        if data is None:
            yield _lost(Lost(name, 0, 0, "it is no regular file"))
            return
        yield from self._head(number, data)
        offset = min(self._codec.header_size, len(data))
        while offset < len(data):
            try:
                for record, at, length, more, _ in self._codec.scan(data, number, offset):
                    self._check(data, at, length, gaps)
                    yield Piece(record, more, entry(name, at, length, record))
            except BadRecordError as error:
                offset = self._next(data, number, error.offset, gaps)
                yield from self._between(name, data[:offset], error, gaps)
            else:
                return

    def _path(self, number: int) -> str:
        return os.path.join(self._directory, name_of(number))

    def _salvage(self, path: str) -> tuple[bytes, list[range]]:
        """Return the bytes of a segment, and where zeros stand for what the disk cannot read."""
        fd = self._disk.open(path, os.O_RDONLY)
        try:
            gaps: list[range] = []
            size = self._disk.size(fd)
            runs = [range(start, min(start + _RUN, size)) for start in range(0, size, _RUN)]
            return b"".join([self._read(fd, run, gaps) for run in runs]), gaps
        finally:
            self._disk.close(fd)

    def _read(self, fd: int, places: range, gaps: list[range]) -> bytes:
        """Return the bytes at `places`; what cannot be read is zeros, and noted in `gaps`."""
        try:
            return self._disk.read(fd, len(places), places.start).ljust(len(places), b"\0")
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
        if len(places) <= _BLOCK:
            gaps.append(places)
            return bytes(len(places))
        blocks = [places[start : start + _BLOCK] for start in range(0, len(places), _BLOCK)]
        return b"".join([self._read(fd, block, gaps) for block in blocks])

    def _head(self, number: int, data: bytes) -> Iterator[Piece]:
        try:
            check_header(self._codec, self._id, number, data)
        except BadRecordError as error:
            if error.newer:
                message = f"segment {name_of(number)}: {error.reason}; use a newer kvfs"
                raise NewerFormatError(message) from None
            length = self._codec.header_size
            what = HEADER if len(data) >= length else None  # who knows what that was
            yield _lost(Lost(name_of(number), 0, min(length, len(data)), error.reason, what))

    def _check(self, data: bytes, offset: int, length: int, gaps: list[range]) -> None:
        """Raise `BadRecordError` for what no checksum tells: lines with places that were lost."""
        end = offset + length
        if any(gap.start < end and offset < gap.stop for gap in gaps):
            raise BadRecordError(offset, "the disk cannot read it")
        if self._codec.atomic or data.find(b"\0", offset, end) < 0:
            return
        if find_hole(data, offset, end) is not None:
            raise BadRecordError(offset, "there are zeros in the line")

    def _next(self, data: bytes, number: int, offset: int, gaps: list[range]) -> int:
        """Return where the next good record behind the bad one at `offset` begins, or the end."""
        for scanned in self._codec.resync(data, number, offset):
            try:
                self._check(data, scanned.offset, scanned.length, gaps)
            except BadRecordError:
                continue
            return scanned.offset
        return len(data)

    def _between(
        self, name: str, data: bytes, error: BadRecordError, gaps: list[range]
    ) -> Iterator[Piece]:
        """Yield what lies at the end of `data`, from the place of `error` on, as it seems to be."""
        offset, reason = error.offset, error.reason
        if any(offset < gap.stop and gap.start < len(data) for gap in gaps):
            reason = "the disk cannot read it"
        while offset < len(data):
            seeming = self._codec.seeming(data, offset)
            left = len(data) - offset
            if seeming is None:
                yield _lost(Lost(name, offset, left, reason))
                return
            length = min(seeming.length, left)
            _, record, key, new, directory = seeming
            yield _lost(Lost(name, offset, length, reason, record, key, new, directory))
            offset += length


def entry(name: str, offset: int, length: int, record: Record) -> Lost:
    """Return the entry for a list of losses of `record`, which lies there; the reason is open."""
    new: bytes | None = getattr(record, "new", None)
    directory = bool(getattr(record, "directory", False))
    return Lost(name, offset, length, "", type(record).__name__, record.key, new, directory)


def _lost(lost: Lost) -> Piece:
    return Piece(None, more=False, lost=lost)
