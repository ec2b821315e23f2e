"""The attributes of nodes as the kernel wants them."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from kvfs.fuse import protocol

if TYPE_CHECKING:
    from kvfs.store.nodes import Stat

FOREVER = 365 * 86400
"""Seconds for which the kernel may answer alone: the mount is the only writer."""
_SECOND = 1_000_000_000
_BLOCK = 4096
_MISSING = protocol.ENTRY_OUT.pack(0, 0, FOREVER, *[0] * 19)
_UNKNOWN = protocol.ENTRY_OUT.pack(*[0] * 22)
_UNTOLD = (0,) * 22
Attr = tuple[int, ...]


def attr(found: Stat) -> Attr:
    """Return the fields of the protocol's attr."""
    ino, mode, nlink, uid, gid, rdev, size, blocks, atime, mtime, ctime = found
    m, rest = divmod(mtime, _SECOND)
    if atime == mtime and ctime == mtime:
        a = c = m
        first = last = rest
    else:
        a, first = divmod(atime, _SECOND)
        c, last = divmod(ctime, _SECOND)
    return (
        *(ino, size, blocks, a, m, c, first, rest, last),
        *(mode, nlink, uid, gid, rdev, _BLOCK, 0),
    )


def attributes(found: Stat) -> bytes:
    """Return the answer to a request for attributes."""
    return protocol.ATTR_OUT.pack(FOREVER, 0, 0, *attr(found))


def entry(found: Stat, *, lasting: bool) -> Attr:
    """Return the fields of the entry of a node; unless `lasting`, its name is asked for each time."""
    return (found.ino, 0, FOREVER if lasting else 0, FOREVER, 0, 0, *attr(found))


def missing(*, lasting: bool) -> bytes:
    """Return the answer that there is no such name, to be remembered if `lasting`."""
    return _MISSING if lasting else _UNKNOWN


def listed(found: Stat, name: bytes, position: int, *, lasting: bool) -> bytes:
    """Return an entry of a listing with attributes, to go on behind `position`."""
    known = _UNTOLD if name in (b".", b"..") else entry(found, lasting=lasting)
    kind = stat.S_IFMT(found.mode) >> 12
    head = protocol.DIRENTPLUS.pack(*known, found.ino, position, len(name), kind)
    return head + protocol.padded(name)


def named(ino: int, mode: int, name: bytes, position: int) -> bytes:
    """Return an entry of a listing of names alone, to go on behind `position`."""
    head = protocol.DIRENT.pack(ino, position, len(name), stat.S_IFMT(mode) >> 12)
    return head + protocol.padded(name)


def untold(ino: int, mode: int, name: bytes, position: int) -> bytes:
    """Return an entry of a listing with attributes that does not say them: who needs them asks."""
    known = protocol.DIRENTPLUS.pack(*_UNTOLD, ino, position, len(name), stat.S_IFMT(mode) >> 12)
    return known + protocol.padded(name)
