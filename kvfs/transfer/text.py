"""The text log: records as lines, which replay to the state (docs/format.md, "The text format").

What is written is a log of the text codec without times, so that most keys are
`P|key|value`. What is read is replayed to a state, and that is imported: what
the log deletes is just not in it.
"""

from __future__ import annotations

import mmap
import os
import stat
import time
from typing import IO, TYPE_CHECKING, Any

from kvfs.codec import BadRecordError, TextCodec
from kvfs.errors import CorruptionError
from kvfs.records import (
    NO_ATTRS,
    Attrs,
    Link,
    Location,
    Mkdir,
    Mknod,
    Put,
    Setattr,
    Setxattr,
    Symlink,
    Truncate,
    Write,
)
from kvfs.table import Table
from kvfs.table.table import DEFAULT_DIRECTORY_MODE, DEFAULT_MODE
from kvfs.transfer.entries import PIECE, Counts, Entry, Name
from kvfs.transfer.state import entries as entries_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kvfs.records import Record
    from kvfs.table import File, Node
    from kvfs.transfer.entries import Pieces, Source

_CHUNK = 128 * 1024
_MODES = {stat.S_IFREG: DEFAULT_MODE, stat.S_IFDIR: DEFAULT_DIRECTORY_MODE, stat.S_IFLNK: 0o777}


def write(
    entries: Iterable[Entry],
    owner: tuple[int, int],
    output: IO[bytes],
    advance: Callable[[int], object],
) -> Counts:
    """Write the log to `output`; `owner` is that of the store, which needs no words."""
    codec, counts = TextCodec(), Counts()
    directories = []
    for entry in entries:
        if stat.S_ISDIR(entry.mode) and entry.mtime is not None:
            directories.append((entry.name.key, Attrs(mtime=entry.mtime)))
        for record in _records(entry, owner):
            output.write(codec.encode(record))
        if stat.S_ISREG(entry.mode):
            counts.keys += 1
            counts.bytes += 0 if entry.link else entry.size
        advance(1)
    for key, attrs in directories:  # now that nothing comes into them any more
        output.write(codec.encode(Setattr(key, attrs, directory=True)))
    return counts


def _records(entry: Entry, owner: tuple[int, int]) -> Iterator[Record]:
    """Yield what makes the entry where nothing is, or gives the root what it has."""
    key, kind = entry.name.key, stat.S_IFMT(entry.mode)
    directory = kind == stat.S_IFDIR
    attrs = _attrs(entry, owner)
    if entry.link:
        yield Link(entry.link.key, key)
        return
    if directory and not entry.name.path:
        if attrs != NO_ATTRS:
            yield Setattr(key, attrs, directory=True)
    elif directory:
        if not entry.implicit:
            yield Mkdir(key, attrs)
    elif kind == stat.S_IFREG:
        yield from _value(entry, attrs)
    elif kind == stat.S_IFLNK:
        yield Symlink(key, entry.target, attrs)
    else:
        yield Mknod(key, entry.mode, entry.rdev, attrs._replace(mode=None))
    for name, value in entry.xattrs.items():
        yield Setxattr(key, name, value, directory=directory)


def _value(entry: Entry, attrs: Attrs) -> Iterator[Record]:
    """Yield a put; of a large value, or one with holes, a put of nothing and writes."""
    key, size = entry.name.key, entry.size
    if size <= PIECE:
        value = bytearray(size)
        for offset, data in entry.pieces():
            value[offset : offset + len(data)] = data
        yield Put(key, bytes(value), attrs)
        return
    yield Put(key, b"", attrs)
    yield Truncate(key, size)
    for offset, data in entry.pieces():
        for start in range(0, len(data), _CHUNK):
            yield Write(key, offset + start, data[start : start + _CHUNK])
    if attrs.mtime is not None:
        yield Setattr(key, Attrs(mtime=attrs.mtime))


def _attrs(entry: Entry, owner: tuple[int, int]) -> Attrs:
    """Return how the entry differs from one that nobody said anything of."""
    mode = stat.S_IMODE(entry.mode)
    attrs = Attrs(
        mode=None if mode == _MODES.get(stat.S_IFMT(entry.mode)) else mode,
        uid=None if entry.uid == owner[0] else entry.uid,
        gid=None if entry.gid == owner[1] else entry.gid,
        mtime=entry.mtime,
    )
    return NO_ATTRS if attrs == NO_ATTRS else attrs


class LogView:
    """The state that the lines of a text log replay to; values stay in the log."""

    def __init__(self, source: Source, log: mmap.mmap | bytes) -> None:
        """Replay `log`. Raises `KvfsError` naming the line."""
        self.time = time.time_ns()
        """The time of what the log gives no time."""
        self.table = Table(os.geteuid(), os.getegid(), self.time)
        self._codec, self._log = TextCodec(self.time), log
        number = 0
        try:
            for found in self._codec.scan(log, 1, 0):  # type: ignore[arg-type]
                number += 1
                location = Location(1, found.offset, found.length)
                self.table.apply(found.record, location)
        except BadRecordError as error:
            raise source.bad(f"line {number + 1}", error.reason) from None
        except CorruptionError as error:
            raise source.bad(f"line {number}", str(error)) from None

    def is_over(self, _node: Node) -> bool:
        """Return False: a lifetime is brought into the store with its file."""
        return False

    def pieces(self, node: File) -> Pieces:
        """Yield (offset, data) where the file has data, ascending."""
        for extent in node.extents:
            offset, length = extent.location.offset, extent.location.length
            record: Any = self._codec.decode(self._log[offset : offset + length], 1, offset)
            yield extent.start, record.data[extent.skip : extent.skip + extent.length]

    def extents(self, node: File) -> Iterator[tuple[int, int]]:
        """Yield where data of the file begins and ends, ascending."""
        for extent in node.extents:
            yield extent.start, extent.end


def read(source: Source) -> Iterator[Entry]:
    """Yield the state that the log replays to. Raises `KvfsError` naming the line."""
    with open(source.path, "rb") as file:
        empty = os.fstat(file.fileno()).st_size == 0
        log = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        view = LogView(source, log)
        mode = stat.S_IFDIR | DEFAULT_DIRECTORY_MODE
        plain = Entry(Name(b""), mode, view.table.uid, view.table.gid, None, {})  # the root
        for entry in entries_of(view, view.time):
            if not (entry.implicit or entry == plain):
                yield entry
