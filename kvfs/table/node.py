"""The nodes of the table: what an inode number stands for."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from kvfs.errors import CorruptionError, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.table.content import Extent
    from kvfs.table.entries import Names

ROOT_INO = 1
CONTROL_INO = 2
KEYS_INO = 3
FIRST_INO = 16
"""The first number of a key's node; those below are the mount's own."""
MAX_INO = 1 << 61
"""Nodes of keys have numbers below this."""
FIRST_PIECE = 1 << 62
"""Numbers from here on are for the directories of long keys, which are no state."""


def is_aside(ino: int) -> bool:
    """Tell whether the directory `ino` is `.kvfs` or below it."""
    return CONTROL_INO <= ino <= KEYS_INO or ino >= FIRST_PIECE


class Node:
    """What all nodes have. Times are in nanoseconds since 1970.

    `parent` and `name` are one of its names; further ones are in `others`.
    """

    __slots__ = (
        "atime",
        "ctime",
        "gid",
        "ino",
        "mode",
        "mtime",
        "name",
        "nlink",
        "others",
        "parent",
        "uid",
        "xattrs",
    )

    def __init__(self, ino: int, mode: int, uid: int, gid: int) -> None:
        """Make a node without a name."""
        self.ino = ino
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.nlink = 0
        self.atime = self.mtime = self.ctime = 0
        self.parent = 0
        self.name = b""
        self.others: list[tuple[int, bytes]] | None = None
        self.xattrs: dict[bytes, bytes] | None = None

    @property
    def size(self) -> int:
        """The size in bytes, as stat shows it."""
        return 0

    @property
    def blocks(self) -> int:
        """How many units of 512 bytes the data takes."""
        return 0

    def names(self) -> Iterator[tuple[int, bytes]]:
        """Yield every (inode of the directory, name) of the node."""
        if self.nlink:
            yield self.parent, self.name
        if self.others:
            yield from self.others

    def add_name(self, parent: int, name: bytes) -> None:
        """Note one more name."""
        if self.nlink == 0:
            self.parent, self.name = parent, name
        else:
            self.others = [*(self.others or ()), (parent, name)]
        self.nlink += 1

    def drop_name(self, parent: int, name: bytes) -> None:
        """Forget a name."""
        if self.others:
            if (self.parent, self.name) == (parent, name):
                self.parent, self.name = self.others.pop(0)
            else:
                self.others.remove((parent, name))
            self.others = self.others or None
        self.nlink -= 1


class File(Node):
    """A regular file: the value of its keys."""

    __slots__ = ("extents", "length")

    def __init__(self, ino: int, mode: int, uid: int, gid: int) -> None:
        """Make an empty file."""
        super().__init__(ino, stat.S_IFREG | mode, uid, gid)
        self.length = 0
        self.extents: list[Extent] = []

    @property
    def size(self) -> int:
        """The length of the value."""
        return self.length

    @property
    def blocks(self) -> int:
        """Units of 512 bytes that hold data, holes left out."""
        extents = self.extents
        if len(extents) == 1:
            return -(-extents[0].length // 512)
        return -(-sum(extent.length for extent in extents) // 512)


class Directory(Node):
    """A directory: names to inode numbers.

    `implicit` marks one that no record made: it is there because keys below
    it are, and goes with the last of them. `subdirs` counts the directories
    in it. `touched` is when its mtime was last decided, be it by a change of
    its names or by someone who set it.
    """

    __slots__ = ("entries", "implicit", "subdirs", "touched")

    def __init__(self, ino: int, mode: int, uid: int, gid: int) -> None:
        """Make an empty directory."""
        super().__init__(ino, stat.S_IFDIR | mode, uid, gid)
        self.entries: dict[bytes, int] | Names = {}
        self.implicit = False
        self.subdirs = 0
        self.touched = 0

    def touch(self, time: int) -> None:
        """Note a change of the names; of changes that come late, the youngest counts."""
        if time >= self.touched:
            self.mtime = self.touched = time
        self.ctime = max(self.ctime, time)


class Symlink(Node):
    """A symbolic link."""

    __slots__ = ("target",)

    def __init__(self, ino: int, uid: int, gid: int, target: bytes) -> None:
        """Make a link to `target`; its mode is always 0777, as on Linux."""
        super().__init__(ino, stat.S_IFLNK | 0o777, uid, gid)
        self.target = target

    @property
    def size(self) -> int:
        """The length of the target."""
        return len(self.target)


class Special(Node):
    """A FIFO, socket or device node."""

    __slots__ = ("rdev",)

    def __init__(self, ino: int, mode: int, uid: int, gid: int, rdev: int) -> None:
        """Make a node of the type and permissions in `mode`."""
        super().__init__(ino, mode, uid, gid)
        self.rdev = rdev


def inconsistent(what: str, key: bytes) -> CorruptionError:
    """Return the error for a record that fits no state the log can have made."""
    return CorruptionError(f"the log does not fit together: {what} {quoted(key)}")
