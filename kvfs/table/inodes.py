"""The nodes of a table, by inode number; most of them packed.

A store holds many files, and touches few of them at a time. A file *at rest*
is a byte string: what differs from file to file, and nothing else. It becomes
a `File` when somebody asks for it, and goes back to rest in `settle`, which is
called where nobody holds a node that is not in use.

The values of small files that were put of late, or read, are kept as well while
they rest, within bounds: what is asked for often is read and verified once.

A file can rest that has one name, no extended attributes, and at most one
extent, which is all of it. Others stay as they are.
"""

from __future__ import annotations

import stat
import struct
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING

from kvfs.records import Location
from kvfs.table.content import Extent
from kvfs.table.node import Directory, File

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvfs.table.node import Node

_REST = struct.Struct("=qqIIIIIH")
"""atime; mtime, which is the ctime too; inode of the directory; segment, offset and length of the
record; size; who owns it and may use it, an index of `_owners`. The name follows."""
_VALUES = 16 * 1024 * 1024
"""Bytes of the values that are kept in memory, and of what it takes to keep them."""
_SMALL = 1024
"""Longer values are not kept: to read them costs little more than to have read them."""
_COST = 128
_LIMIT = 2**32
_OWNERS = 2**16
_AWAKE = 4096
"""So many files may be awake, at least, before those longest awake are brought to rest."""


class Inodes:
    """Nodes by number."""

    def __init__(self) -> None:
        """Start without any."""
        self._nodes: dict[int, Node] = {}
        self._resting: dict[int, bytes] = {}
        self._awake: dict[int, File] = {}
        """Files among `_nodes` that may come to rest again, those longest awake first."""
        self._limit = _AWAKE
        self.keeps_values = False
        """Whether values are kept in memory: who reads a store once has no use for that."""
        self._values: OrderedDict[int, bytes] = OrderedDict()
        """Values of files at rest, as they were last read or written; the oldest go first."""
        self._valued = 0
        self._owners: list[tuple[int, int, int]] = []
        self._numbers: dict[tuple[int, int, int], int] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._nodes) + len(self._resting)

    def __iter__(self) -> Iterator[int]:
        """Yield their numbers."""
        yield from self._nodes
        yield from self._resting

    def __contains__(self, ino: int) -> bool:
        """Tell whether there is a node `ino`."""
        return ino in self._nodes or ino in self._resting

    def get(self, ino: int) -> Node | None:
        """Return the node `ino`, woken if it was at rest, or None."""
        node = self._nodes.get(ino)
        if node is None and ino in self._resting:
            node = self._wake(ino)
        return node

    def __getitem__(self, ino: int) -> Node:
        """Return the node `ino`, which there must be."""
        node = self._nodes.get(ino)
        return self._wake(ino) if node is None else node

    def look(self, ino: int) -> Node | None:
        """Return the node `ino` for reading only: one at rest stays so."""
        packed = self._resting.get(ino)
        return self._nodes.get(ino) if packed is None else self._unpack(ino, packed)

    def directory(self, ino: int | None) -> Directory | None:
        """Return the node `ino` if there is one and it is a directory."""
        node = self._nodes.get(ino) if ino is not None else None
        return node if isinstance(node, Directory) else None

    def is_file(self, ino: int) -> bool:
        """Tell whether the node `ino` is a regular file."""
        return ino in self._resting or isinstance(self._nodes.get(ino), File)

    def add(self, node: Node) -> None:
        """Add `node`, under its number."""
        self._nodes[node.ino] = node
        if isinstance(node, File):
            self._awake[node.ino] = node

    def remove(self, node: Node) -> None:
        """Forget `node`, which is awake."""
        del self._nodes[node.ino]
        self._awake.pop(node.ino, None)

    # -- files at rest -----------------------------------------------------------

    def add_resting(
        self,
        ino: int,
        owner: tuple[int, int, int],
        atime: int,
        mtime: int,
        parent: int,
        name: bytes,
        location: Location,
        size: int,
    ) -> bool:
        """Add a file at rest, if it can rest.

        `owner` is mode (permission bits), uid and gid; `mtime` is the ctime
        too; `parent` is the inode of its directory and `name` its name there;
        all its `size` bytes are in the record at `location`.
        """
        number = self._numbers.get(owner)
        if number is None:
            number = self._number(owner)
        segment, offset, length = location
        if parent >= _LIMIT or length >= _LIMIT or segment >= _LIMIT or number >= _OWNERS:
            return False
        packed = _REST.pack(atime, mtime, parent, segment, offset, length, size, number)
        self._resting[ino] = packed + name
        return True

    def rest_anew(self, ino: int, time: int, location: Location, size: int) -> bool:
        """Give the file `ino`, if it is at rest, a new value, and `time` as mtime and ctime."""
        packed = self._resting.get(ino)
        if packed is None or location.length >= _LIMIT or location.segment >= _LIMIT:
            return False
        atime, ctime, parent, _, _, _, _, number = _REST.unpack_from(packed)
        if ctime > time:
            return False
        head = _REST.pack(atime, time, parent, *location, size, number)
        self._resting[ino] = head + packed[_REST.size :]
        self._forget_value(ino)
        return True

    def attributes_of(self, ino: int) -> tuple[int, int, int, int, int, int] | None:
        """Return the attributes of `ino` if it is a file at rest.

        They are its permission bits, uid, gid, size, atime, and mtime, which is
        the ctime.
        """
        packed = self._resting.get(ino)
        if packed is None:
            return None
        atime, mtime, _, _, _, _, size, number = _REST.unpack_from(packed)
        return (*self._owners[number], size, atime, mtime)

    def place_of(self, ino: int) -> tuple[Location, int] | None:
        """Return the record and the size of the value of `ino` if it is a file at rest."""
        packed = self._resting.get(ino)
        if packed is None:
            return None
        _, _, _, segment, offset, length, size, _ = _REST.unpack_from(packed)
        return Location(segment, offset, length), size

    def value_of(self, ino: int) -> bytes | None:
        """Return the value of `ino` if it is a file at rest whose value was kept."""
        return self._values.get(ino)

    def keep_value(self, ino: int, value: bytes) -> None:
        """Keep the value of the file `ino`, if it is at rest, for those who ask next."""
        if not self.keeps_values or len(value) > _SMALL or ino not in self._resting:
            return
        if ino in self._values:
            self._forget_value(ino)
        self._values[ino] = value
        self._valued += len(value) + _COST
        while self._valued > _VALUES:
            _, oldest = self._values.popitem(last=False)
            self._valued -= len(oldest) + _COST

    def _forget_value(self, ino: int) -> None:
        value = self._values.pop(ino, None)
        if value is not None:
            self._valued -= len(value) + _COST

    def ctime_of(self, ino: int) -> int | None:
        """Return the ctime of `ino` if it is a file at rest."""
        packed = self._resting.get(ino)
        return None if packed is None else int(_REST.unpack_from(packed)[1])

    def settle(self, in_use: Callable[[int], bool]) -> None:
        """Bring files to rest that have been awake for long, if many are.

        Only where nobody holds a node but those that are `in_use`.
        """
        if len(self._awake) <= self._limit:
            return
        for ino in list(islice(self._awake, len(self._awake) // 2)):
            file = self._awake.pop(ino)
            if in_use(ino):
                self._awake[ino] = file  # now one of the youngest
            elif self._can_rest(file):
                self._put_to_rest(file)
        self._limit = max(_AWAKE, len(self._awake) + _AWAKE // 2)

    def _can_rest(self, file: File) -> bool:
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
        )

    def _put_to_rest(self, file: File) -> None:
        location = file.extents[0].location if file.extents else _NOWHERE
        owner = (stat.S_IMODE(file.mode), file.uid, file.gid)
        if self.add_resting(
            file.ino,
            owner,
            file.atime,
            file.mtime,
            file.parent,
            file.name,
            location,
            file.length,
        ):
            del self._nodes[file.ino]

    def _wake(self, ino: int) -> File:
        file = self._unpack(ino, self._resting.pop(ino))
        self._forget_value(ino)
        self._nodes[ino] = self._awake[ino] = file
        return file

    def _unpack(self, ino: int, packed: bytes) -> File:
        atime, mtime, parent, segment, offset, length, size, number = _REST.unpack_from(packed)
        file = File(ino, *self._owners[number])
        file.atime, file.mtime, file.ctime = atime, mtime, mtime
        file.parent, file.name, file.nlink = parent, packed[_REST.size :], 1
        file.length = size
        if size:
            file.extents = [Extent(0, size, Location(segment, offset, length), 0)]
        return file

    def _number(self, owner: tuple[int, int, int]) -> int:
        number = self._numbers[owner] = len(self._owners)
        self._owners.append(owner)
        return number


_NOWHERE = Location(0, 0, 0)
