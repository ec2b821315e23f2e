"""Writing tar archives: pax interchange format, as POSIX.1-2008 and GNU tar have it.

What a ustar header cannot hold is in a pax header before it: names and numbers
that are too long, fractions of seconds, and extended attributes as
`SCHILY.xattr.NAME`. Bytes that are no UTF-8 stand in both as they are. A file
with holes is in the sparse format 1.0 of GNU tar (a map, then the data).
"""

from __future__ import annotations

import os
import stat
import tarfile
from typing import IO, TYPE_CHECKING

from kvfs.transfer.entries import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kvfs.transfer.entries import Entry, Name

_BLOCK = tarfile.BLOCKSIZE
_SECOND = 1_000_000_000  # nanoseconds
_MAX_NAME = 99  # bytes of a name in a ustar header; a directory's gets a slash
_MAX_NUMBER = 0o7777777
_MAX_SIZE = 0o77777777777
_HOLE = 64 * 1024  # bytes; smaller holes are written as zeros
_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}
SOCKETS = "sockets, which no archive can hold"


def write(entries: Iterable[Entry], output: IO[bytes], advance: Callable[[int], object]) -> Counts:
    """Write the archive of `entries` to `output`."""
    counts = Counts()
    for entry in entries:
        if stat.S_ISSOCK(entry.mode):
            counts.skipped[SOCKETS] += 1
        else:
            _write(entry, output)
            if stat.S_ISREG(entry.mode):
                counts.keys += 1
                counts.bytes += 0 if entry.link else entry.size
        advance(1)
    output.write(bytes(2 * _BLOCK))
    return counts


def _write(entry: Entry, output: IO[bytes]) -> None:
    records: dict[bytes, bytes] = {}
    path = _path(entry.name, directory=stat.S_ISDIR(entry.mode))
    info = tarfile.TarInfo()
    info.type = tarfile.LNKTYPE if entry.link else _TYPES[stat.S_IFMT(entry.mode)]
    info.mode = stat.S_IMODE(entry.mode)
    link = _path(entry.link) if entry.link else entry.target
    info.linkname = _short(link, b"linkpath", records)
    info.uid = _number(entry.uid, b"uid", records)
    info.gid = _number(entry.gid, b"gid", records)
    info.devmajor = _number(os.major(entry.rdev), b"SCHILY.devmajor", records)
    info.devminor = _number(os.minor(entry.rdev), b"SCHILY.devminor", records)
    seconds, fraction = divmod(entry.mtime or 0, _SECOND)
    info.mtime = min(max(seconds, 0), _MAX_SIZE)
    if fraction or info.mtime != seconds:
        records[b"mtime"] = _decimal(entry.mtime or 0)
    for name, value in entry.xattrs.items():
        records[b"SCHILY.xattr." + name.replace(b"%", b"%25").replace(b"=", b"%3D")] = value
    ranges: list[tuple[int, int]] = []
    sparse = b""
    if not entry.link and stat.S_ISREG(entry.mode):
        ranges = _ranges(entry)
        if ranges != [(0, entry.size)]:
            sparse = _map(ranges, entry, path, records)
            # The whole name is in the map's records, which another one would override.
            last = entry.name.path[-1].decode("ascii", "replace").replace("\ufffd", "?")
            path = f"GNUSparseFile.0/{last}".encode()[:_MAX_NAME]
        stored = len(sparse) + _stored(ranges)
        info.size = stored if stored <= _MAX_SIZE else 0
        if stored != info.size:
            records[b"size"] = b"%d" % stored
    info.name = _short(path, b"path", records)
    if records:
        _header(records, output)
    output.write(info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape"))
    if ranges:
        output.write(sparse)
        _data(entry, ranges, output)
        output.write(bytes(-(len(sparse) + _stored(ranges)) % _BLOCK))


def _path(name: Name, *, directory: bool = False) -> bytes:
    """Return the path of an entry as `tar -C MOUNTPOINT .` has it."""
    return b"/".join([b".", *name.path, *([b""] if directory else [])])


def _short(path: bytes, keyword: bytes, records: dict[bytes, bytes]) -> str:
    """Return what of `path` fits into a header; one that does not is in `records` whole."""
    if len(path) > _MAX_NAME or not path.isascii():
        records[keyword] = path
    return path[:_MAX_NAME].decode("utf-8", "surrogateescape")


def _number(number: int, keyword: bytes, records: dict[bytes, bytes]) -> int:
    """Return `number`, or 0 with it in `records` where it does not fit into a header."""
    if number <= _MAX_NUMBER:
        return number
    records[keyword] = b"%d" % number
    return 0


def _decimal(time: int) -> bytes:
    """Return a time in seconds, without trailing zeros."""
    sign = b"-" if time < 0 else b""
    text = sign + b"%d.%09d" % divmod(abs(time), _SECOND)
    return text.rstrip(b"0").rstrip(b".")


def _header(records: dict[bytes, bytes], output: IO[bytes]) -> None:
    """Write a pax header."""
    data = b"".join(_record(keyword, value) for keyword, value in records.items())
    info = tarfile.TarInfo("./@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, len(data)
    output.write(info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape"))
    output.write(data + bytes(-len(data) % _BLOCK))


def _record(keyword: bytes, value: bytes) -> bytes:
    """Return a line of a pax header, which begins with its own length."""
    rest = b" %s=%s\n" % (keyword, value)
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d%s" % (length, rest)


def _ranges(entry: Entry) -> list[tuple[int, int]]:
    """Return from where to where the data of a file is stored; large holes are between."""
    ranges = [(0, 0)]
    for start, end in [*entry.extents(), (entry.size, entry.size)]:
        low, high = ranges[-1]
        if start - high > _HOLE:
            ranges.append((start, end))
        else:
            ranges[-1] = (low, end)
    return ranges[1:] if ranges[0] == (0, 0) and len(ranges) > 1 else ranges


def _stored(ranges: list[tuple[int, int]]) -> int:
    return sum(end - start for start, end in ranges)


def _map(
    ranges: list[tuple[int, int]], entry: Entry, path: bytes, records: dict[bytes, bytes]
) -> bytes:
    """Return what comes before the data of a file with holes, and note in `records` that it does."""
    records |= {
        b"GNU.sparse.major": b"1",
        b"GNU.sparse.minor": b"0",
        b"GNU.sparse.name": path,
        b"GNU.sparse.realsize": b"%d" % entry.size,
    }
    numbers = [len(ranges)]
    for start, end in ranges:
        numbers += (start, end - start)
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + bytes(-len(text) % _BLOCK)


def _data(entry: Entry, ranges: list[tuple[int, int]], output: IO[bytes]) -> None:
    """Write the data of a file, with zeros where there is none within `ranges`."""
    todo = iter(ranges)
    position, end = next(todo)
    for offset, data in entry.pieces():
        while offset >= end:
            _zeros(end - position, output)
            position, end = next(todo)
        _zeros(offset - position, output)
        output.write(data)
        position = offset + len(data)
    _zeros(end - position, output)


def _zeros(number: int, output: IO[bytes]) -> None:
    for start in range(0, number, _HOLE):
        output.write(bytes(min(_HOLE, number - start)))
