"""Nodes as bytes: how they rest in memory, and how a checkpoint holds them.

Most nodes are files that were put whole: one name, at most one extent, which is
all of the file from the start of a record's data on, and nothing beside. Such a file *at rest* takes 47 bytes and its
name. Every other node has a longer row, which holds all there is. The layouts
are part of the format: docs/format.md, "Checkpoints".
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, Any

from kvfs.records import Location
from kvfs.table.content import Extent
from kvfs.table.node import Directory, File, Node, Special, Symlink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.table.entries import Names

RESTING, OTHER = 0, 1
"""The first byte of a row."""
REST = struct.Struct("<BqqIIIIIHII")
"""RESTING; atime; mtime, which is the ctime too; inode of the directory; segment, offset and
length of the record; size; permission bits; uid; gid. The name follows."""
_NODE = struct.Struct("<BIIIqqqQIII")
"""OTHER; mode; uid; gid; atime; mtime; ctime; size; how many names, extended attributes and
extents follow. What `size` is depends on the type."""
_NAME = struct.Struct("<QH")
_XATTR = struct.Struct("<HI")
_EXTENT = struct.Struct("<QQIIII")
_DIRECTORY = struct.Struct("<BIq")
_PLACED_AT = struct.calcsize("<BqqI")  # where a file at rest has its segment, offset and length
_WEIGHED = struct.Struct("<I4xI")
_PART = 1024
"""Bytes that a record takes beside the part of its data that counts, at most: those of its head and
its key, unless the key is very long."""
LIMIT = 2**32
NOWHERE = Location(0, 0, 0)
"""Where the data of an empty file is."""


def _can_rest(file: File) -> bool:
    """Tell whether `file` is all that a file at rest can be."""
    extents = file.extents
    whole = not extents or (
        len(extents) == 1
        and extents[0].start == extents[0].skip == 0
        and extents[0].length == file.length
    )
    return (
        whole
        and (bool(extents) or file.length == 0)
        and file.nlink == 1
        and file.mtime == file.ctime
        and not file.xattrs
        and file.parent < LIMIT
    )


def pack(node: Node) -> bytes:
    """Return the row of `node`, all of whose data is in the log."""
    if isinstance(node, File) and _can_rest(node):
        location = node.extents[0].location if node.extents else NOWHERE
        return (
            REST.pack(
                *(RESTING, node.atime, node.mtime, node.parent, *location, node.length),
                *(stat.S_IMODE(node.mode), node.uid, node.gid),
            )
            + node.name
        )
    names = list(node.names())
    xattrs = list((node.xattrs or {}).items())
    extents = node.extents if isinstance(node, File) else []
    parts = [
        _NODE.pack(
            *(OTHER, node.mode, node.uid, node.gid, node.atime, node.mtime, node.ctime),
            *(_size(node), len(names), len(xattrs), len(extents)),
        )
    ]
    for parent, name in names:
        parts += (_NAME.pack(parent, len(name)), name)
    for name, value in xattrs:
        parts += (_XATTR.pack(len(name), len(value)), name, value)
    parts += [
        _EXTENT.pack(extent.start, extent.length, *extent.location, extent.skip)
        for extent in extents
    ]
    if isinstance(node, Directory):
        parts.append(_DIRECTORY.pack(node.implicit, node.subdirs, node.touched))
    elif isinstance(node, Symlink):
        parts.append(node.target)
    return b"".join(parts)


def unpack(ino: int, row: bytes, names: Names | None = None) -> Node:
    """Return the node `ino` that `row` is; `names` are those of a directory that has any."""
    return _rested(ino, row) if row[0] == RESTING else _other(ino, row, names)


def type_of(row: bytes) -> int:
    """Return the type of the node that `row` is, as `S_IFMT` gives it."""
    return stat.S_IFREG if row[0] == RESTING else stat.S_IFMT(_NODE.unpack_from(row)[1])


def weigh(row: bytes) -> Iterator[tuple[int, int]]:
    """Yield, for each extent of the node that `row` is, its segment and the bytes it takes there."""
    if row[0] == RESTING:
        segment, length = _WEIGHED.unpack_from(row, _PLACED_AT)
        if length:
            yield segment, length
        return
    *_, names, xattrs, extents = _NODE.unpack_from(row)
    if not extents or not stat.S_ISREG(type_of(row)):
        return
    reader = _Reader(row, _NODE.size)
    for _ in range(names):
        reader.place()
    for _ in range(xattrs):
        reader.xattr()
    for _, length, location, _ in reader.extents(extents):
        yield location.segment, min(location.length, length + _PART)


def entries_of(row: bytes) -> int:
    """Return how many names the directory has that `row` is."""
    return int(_NODE.unpack_from(row)[7])


def _size(node: Node) -> int:
    if isinstance(node, Directory):
        return len(node.entries)
    return node.rdev if isinstance(node, Special) else node.size


def _rested(ino: int, row: bytes) -> File:
    _, atime, mtime, parent, segment, offset, length, size, mode, uid, gid = REST.unpack_from(row)
    file = File(ino, mode, uid, gid)
    file.atime, file.mtime, file.ctime = atime, mtime, mtime
    file.parent, file.name, file.nlink = parent, row[REST.size :], 1
    file.length = size
    if size:
        file.extents = [Extent(0, size, Location(segment, offset, length), 0)]
    return file


def _other(ino: int, row: bytes, below: Names | None) -> Node:
    _, mode, uid, gid, atime, mtime, ctime, size, names, xattrs, extents = _NODE.unpack_from(row)
    reader = _Reader(row, _NODE.size)
    places = [reader.place() for _ in range(names)]
    attributes = dict(reader.xattr() for _ in range(xattrs))
    found = list(reader.extents(extents))
    node = _made(ino, mode, uid, gid, size, reader)
    if isinstance(node, File):
        node.extents, node.length = found, size
    elif isinstance(node, Directory) and below is not None:
        node.entries = below
    node.mode = mode
    node.atime, node.mtime, node.ctime = atime, mtime, ctime
    for parent, name in places:
        node.add_name(parent, name)
    node.xattrs = attributes or None
    return node


def _made(ino: int, mode: int, uid: int, gid: int, size: int, reader: _Reader) -> Node:
    """Return the node of the type in `mode`, with what only that type has."""
    permissions = stat.S_IMODE(mode)
    if stat.S_ISREG(mode):
        return File(ino, permissions, uid, gid)
    if stat.S_ISDIR(mode):
        directory = Directory(ino, permissions, uid, gid)
        implicit, directory.subdirs, directory.touched = reader.take(_DIRECTORY)
        directory.implicit = bool(implicit)
        return directory
    if stat.S_ISLNK(mode):
        return Symlink(ino, uid, gid, reader.rest())
    return Special(ino, mode, uid, gid, size)


class _Reader:
    """Takes the parts of a row, one after the other."""

    def __init__(self, row: bytes, position: int) -> None:
        self._row = row
        self._position = position

    def take(self, layout: struct.Struct) -> tuple[Any, ...]:
        fields = layout.unpack_from(self._row, self._position)
        self._position += layout.size
        return fields

    def cut(self, length: int) -> bytes:
        start = self._position
        self._position += length
        return self._row[start : self._position]

    def rest(self) -> bytes:
        return self._row[self._position :]

    def place(self) -> tuple[int, bytes]:
        parent, length = self.take(_NAME)
        return parent, self.cut(length)

    def xattr(self) -> tuple[bytes, bytes]:
        name, value = self.take(_XATTR)
        return self.cut(name), self.cut(value)

    def extents(self, count: int) -> Iterator[Extent]:
        for _ in range(count):
            start, length, *location, skip = self.take(_EXTENT)
            yield Extent(start, length, Location(*location), skip)
