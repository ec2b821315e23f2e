"""What the places of the past have in common: they are read, and listed from a list."""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import TYPE_CHECKING, NamedTuple

from kvfs.errors import PosixError
from kvfs.filesystem.answers import sized
from kvfs.filesystem.attributes import named, untold
from kvfs.fuse import protocol
from kvfs.store.nodes import Stat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvfs.fuse import Handler, Header, Reply

UNKNOWN = 0xFFFFFFFF
"""Stands for the number of what is listed and has none yet, as libfuse has it."""

NO_WAIT = select.POLLIN | select.POLLOUT | select.POLLRDNORM | select.POLLWRNORM
"""What poll(2) says of every file that has nothing to wait for."""


class Name(NamedTuple):
    """A name in a listing, with its number and the type of what has it."""

    name: bytes
    number: int = UNKNOWN
    mode: int = stat.S_IFDIR


def directory(number: int, mode: int, time: int) -> Stat:
    """Return the attributes of a directory of the daemon's own, whose links nobody counts."""
    owner = os.geteuid(), os.getegid()
    return Stat(number, stat.S_IFDIR | mode, 1, *owner, 0, 0, 0, time, time, time)


def listing(names: Sequence[Name], body: memoryview, *, plus: bool) -> bytes:
    """Return the answer to a readdir, or with `plus` a readdirplus, of what has `names`."""
    _, start, size, _, _ = protocol.READ_IN.unpack_from(body)
    pack = untold if plus else named
    parts = []
    for position in range(start, len(names)):
        name, number, mode = names[position]
        part = pack(number, mode, name, position + 1)
        size -= len(part)
        if size < 0:
            break
        parts.append(part)
    return b"".join(parts)


class Place:
    """Answers the requests about the nodes of one kind; here, as a directory does that never changes.

    A method named after a request answers it, as in the live file system.
    """

    stat: Stat
    """Of what the place begins with, where that is a directory of the daemon's own."""

    def __init__(self, statfs: Handler) -> None:
        """Let `statfs` tell of the disk below."""
        self.statfs = statfs
        self._listings: dict[int, list[Name]] = {}
        self._next = 1

    def getattr(self, header: Header, body: memoryview) -> Reply:
        """Return the attributes of a node."""
        raise NotImplementedError

    def lookup(self, header: Header, body: memoryview) -> Reply:
        """Find a name."""
        raise NotImplementedError

    def opendir(self, header: Header, body: memoryview) -> Reply:
        """Open a directory for listing."""
        raise NotImplementedError

    def _list(self, names: Sequence[Name], number: int, above: int) -> Reply:
        """Open the directory `number`, which has `names`."""
        fh = self._next
        self._next += 1
        self._listings[fh] = [Name(b".", number), Name(b"..", above), *names]
        return protocol.OPEN_OUT.pack(fh, 0, 0)

    def readdir(self, header: Header, body: memoryview) -> Reply:
        """List names."""
        return listing(self._listings[protocol.HANDLE_IN.unpack_from(body)[0]], body, plus=False)

    def readdirplus(self, header: Header, body: memoryview) -> Reply:
        """List names, without attributes."""
        return listing(self._listings[protocol.HANDLE_IN.unpack_from(body)[0]], body, plus=True)

    def releasedir(self, header: Header, body: memoryview) -> Reply:
        """Close a directory."""
        del self._listings[protocol.HANDLE_IN.unpack_from(body)[0]]
        return b""

    def read(self, header: Header, body: memoryview) -> Reply:
        """Refuse: it is a directory."""
        raise PosixError(errno.EISDIR)

    open = lseek = release = read

    def poll(self, header: Header, body: memoryview) -> Reply:
        """Tell that nobody has to wait."""
        return protocol.POLL_OUT.pack(NO_WAIT)

    def readlink(self, header: Header, body: memoryview) -> Reply:
        """Refuse: it is no link."""
        raise PosixError(errno.EINVAL)

    def getxattr(self, header: Header, body: memoryview) -> Reply:
        """Refuse: there are no extended attributes."""
        raise PosixError(errno.ENODATA)

    def listxattr(self, header: Header, body: memoryview) -> Reply:
        """Return the names of no extended attributes."""
        return sized(b"", protocol.GETXATTR_IN.unpack_from(body)[0])

    def access(self, header: Header, body: memoryview) -> Reply:
        """Tell root what it may do: everything but to change something."""
        if protocol.ACCESS_IN.unpack_from(body)[0] & os.W_OK:
            raise PosixError(errno.EROFS)
        return b""

    def flush(self, header: Header, body: memoryview) -> Reply:
        """Do nothing: there is nothing to be logged, or synced."""
        return b""

    fsync = fsyncdir = flush

    def change(self, header: Header, body: memoryview) -> Reply:
        """Refuse to change anything."""
        raise PosixError(errno.EROFS)

    setattr = symlink = mknod = mkdir = unlink = rmdir = rename = rename2 = link = change
    write = setxattr = removexattr = create = change


def entry_flags(flags: int) -> None:
    """Raise `PosixError` EROFS where a file is to be opened to be changed."""
    if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
        raise PosixError(errno.EROFS)
