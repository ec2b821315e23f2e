"""The nodes of a table, by inode number; most of them packed.

A store holds many files, and touches few of them at a time. A file *at rest*
is a byte string: what differs from file to file, and nothing else (see
`rows`). It becomes a `File` when somebody asks for it, and goes back to rest in
`settle`, which is called where nobody holds a node that is not in use.

A table can stand on a checkpoint: then what has not changed since lies there,
packed in the same way, and is looked up when it is asked for. What is in memory
comes first, and `_gone` are the numbers that count no more.

The values of small files that were put of late, or read, are kept as well while
they rest, within bounds: what is asked for often is read and verified once.
"""

from __future__ import annotations

import stat
import time
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING

from kvfs.errors import CorruptionError
from kvfs.records import Location
from kvfs.table.entries import Names, Nothing
from kvfs.table.node import FIRST_PIECE, Directory, File
from kvfs.table.rows import (
    LIMIT,
    NOWHERE,
    REST,
    RESTING,
    entries_of,
    pack,
    type_of,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvfs.table.entries import Base
    from kvfs.table.node import Node

_VALUES = 16 * 1024 * 1024
"""Bytes of the values that are kept in memory, and of what it takes to keep them."""
_SMALL = 1024
"""Longer values are not kept: to read them costs little more than to have read them."""
_COST = 128
_AWAKE = 4096
"""So many files may be awake, at least, before those longest awake are brought to rest."""
_LOOKS = 16  # between two looks at the clock
_ROWS = 4096
"""So many rows of the checkpoint are kept as they were last looked up."""


class Inodes:
    """Nodes by number."""

    def __init__(self, base: Base | None = None) -> None:
        """Start with the nodes of `base`, or without any."""
        self._nodes: dict[int, Node] = {}
        self._resting: dict[int, bytes] = {}
        self._base = base
        self._limit = base.limit if base is not None else 0
        self._gone: set[int] = set()
        """Nodes of the checkpoint that are no more."""
        self._emptied: list[tuple[int, set[bytes]]] = []
        """Directories of the checkpoint that are no more, and the names that they had there."""
        self._rows: dict[int, bytes | None] = {}
        self._count = len(base) if base is not None else 0
        self.dead = 0
        """Bytes of values that have been replaced, cut or removed since."""
        self._awake: dict[int, File] = {}
        """Files among `_nodes` that may come to rest again, those longest awake first."""
        self._most_awake = _AWAKE
        self._surplus: Iterator[None] = iter(())
        self.keeps_values = False
        """Whether values are kept in memory: who reads a store once has no use for that."""
        self._values: OrderedDict[int, bytes] = OrderedDict()
        """Values of files at rest, as they were last read or written; the oldest go first."""
        self._valued = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return self._count

    def __iter__(self) -> Iterator[int]:
        """Yield their numbers."""
        yield from self._nodes
        yield from self._resting
        for ino in self._base.numbers() if self._base is not None else ():
            if not (ino in self._gone or ino in self._nodes or ino in self._resting):
                yield ino

    def __contains__(self, ino: int) -> bool:
        """Tell whether there is a node `ino`."""
        return ino in self._nodes or self._packed(ino) is not None

    def get(self, ino: int) -> Node | None:
        """Return the node `ino`, woken if it was at rest, or None."""
        node = self._nodes.get(ino)
        if node is None and (row := self._packed(ino)) is not None:
            node = self._wake(ino, row)
        return node

    def __getitem__(self, ino: int) -> Node:
        """Return the node `ino`, which there must be."""
        node = self.get(ino)
        if node is None:
            raise KeyError(ino)
        return node

    def look(self, ino: int) -> Node | None:
        """Return the node `ino` for reading only: a file at rest stays so."""
        node = self._nodes.get(ino)
        if node is None and (row := self._packed(ino)) is not None:
            return unpack(ino, row) if stat.S_ISREG(type_of(row)) else self._wake(ino, row)
        return node

    def directory(self, ino: int | None) -> Directory | None:
        """Return the node `ino` if there is one and it is a directory."""
        if ino is None:
            return None
        node = self._nodes.get(ino)
        if node is None and (row := self._below(ino)) and stat.S_ISDIR(type_of(row)):
            node = self._wake(ino, row)
        return node if isinstance(node, Directory) else None

    def is_file(self, ino: int) -> bool:
        """Tell whether the node `ino` is a regular file."""
        return ino in self._resting or stat.S_ISREG(self.type_of(ino))

    def type_of(self, ino: int) -> int:
        """Return the type of the node `ino` as `S_IFMT` gives it, or 0 if there is none."""
        node = self._nodes.get(ino)
        if node is not None:
            return stat.S_IFMT(node.mode)
        row = self._packed(ino)
        return 0 if row is None else type_of(row)

    def row(self, ino: int) -> bytes | None:
        """Return the node `ino`, if there is one, as it rests; all its data must be in the log."""
        node = self._nodes.get(ino)
        return self._packed(ino) if node is None else pack(node)

    def add(self, node: Node) -> None:
        """Add `node`, which is new, under its number."""
        self._nodes[node.ino] = node
        self._count += 1
        if isinstance(node, File):
            self._awake[node.ino] = node

    def remove(self, node: Node) -> None:
        """Forget `node`, which is awake."""
        ino = node.ino
        if isinstance(node, File):
            self.dead += node.length
        del self._nodes[ino]
        self._awake.pop(ino, None)
        self._count -= 1
        if self._may_be_below(ino) or (self._base is not None and self._base.tracks):
            self._gone.add(ino)
            if isinstance(node, Directory) and isinstance(node.entries, Names):
                self._emptied.append((ino, node.entries.gone))

    # -- another checkpoint ----------------------------------------------------------

    @property
    def in_memory(self) -> int:
        """How many files at rest are in memory."""
        return len(self._resting)

    def track(self) -> None:
        """Prepare for a checkpoint that is to be made of the state of now, or a later one."""
        if self._base is None:
            self._base = Nothing()
        self._base.tracks = True
        for ino, node in self._nodes.items():
            if isinstance(node, Directory) and isinstance(node.entries, dict):
                node.entries = Names.over(self._base, ino, node.entries)

    def adopt(self, base: Base) -> None:
        """Stand on `base`, which was made since `track`; what is in memory counts before that."""
        self._base = base
        self._limit = base.limit
        self._rows.clear()
        for node in self._nodes.values():
            if isinstance(node, Directory) and isinstance(node.entries, Names):
                node.entries.stand_on(base)
        self._surplus = self._find_surplus(base)

    def prune(self, seconds: float) -> bool:
        """Forget for so long what `base` has as well; tell whether there is more to look at."""
        deadline = time.perf_counter() + seconds
        for count, _ in enumerate(self._surplus):
            if count % _LOOKS == 0 and time.perf_counter() >= deadline:
                return True
        return False

    def _find_surplus(self, base: Base) -> Iterator[None]:
        for ino in list(self._resting):
            row = self._resting.get(ino)
            if row is not None and row == base.row(ino):
                del self._resting[ino]
            yield
        for node in list(self._nodes.values()):
            if isinstance(node, Directory) and isinstance(node.entries, Names):
                yield from node.entries.surplus()
        for ino in list(self._gone):
            if base.row(ino) is None:
                self._gone.discard(ino)
            yield

    # -- what changed since the checkpoint -----------------------------------------

    def changes(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield by number, ascending, the row of each node in memory; None for one that is gone."""
        for ino in sorted(self._nodes.keys() | self._resting.keys() | self._gone):
            node = self._nodes.get(ino)
            yield ino, self._resting.get(ino) if node is None else pack(node)

    def changed_names(self) -> Iterator[tuple[int, dict[bytes, int], set[bytes]]]:
        """Yield by number, ascending, each directory whose names changed: what is there, and gone."""
        found: dict[int, tuple[dict[bytes, int], set[bytes]]] = {
            ino: ({}, gone) for ino, gone in self._emptied
        }
        for ino, node in self._nodes.items():
            if not isinstance(node, Directory):
                continue
            names = node.entries
            found[ino] = (names.changed, names.gone) if isinstance(names, Names) else (names, set())
        for ino in sorted(found):
            yield ino, *found[ino]

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
        """Add a file at rest, which is new, if it can rest.

        `owner` is mode (permission bits), uid and gid; `mtime` is the ctime
        too; `parent` is the inode of its directory and `name` its name there;
        all its `size` bytes are in the record at `location`.
        """
        if parent >= LIMIT:
            return False
        if not size:
            location = NOWHERE
        head = REST.pack(RESTING, atime, mtime, parent, *location, size, *owner)
        self._resting[ino] = head + name
        self._count += 1
        return True

    def rest_anew(self, ino: int, time: int, location: Location, size: int) -> bool:
        """Give the file `ino`, if it is at rest, a new value, and `time` as mtime and ctime."""
        packed = self._at_rest(ino)
        if packed is None:
            return False
        _, atime, ctime, parent, _, _, old, _, mode, uid, gid = REST.unpack_from(packed)
        if ctime > time:
            return False
        self.dead += old
        if not size:
            location = NOWHERE
        head = REST.pack(RESTING, atime, time, parent, *location, size, mode, uid, gid)
        self._resting[ino] = head + packed[REST.size :]
        self._forget_value(ino)
        return True

    def relocate(self, ino: int, offset: int, length: int, location: Location) -> bool:
        """Note that all of the value of `ino` is at `location` now, if it is a file at rest."""
        packed = self._at_rest(ino)
        if packed is None or offset:
            return False
        _, atime, time, parent, _, _, _, size, mode, uid, gid = REST.unpack_from(packed)
        if length != size or not size:
            return False
        head = REST.pack(RESTING, atime, time, parent, *location, size, mode, uid, gid)
        self._resting[ino] = head + packed[REST.size :]
        return True

    def attributes_of(self, ino: int) -> tuple[int, int, int, int, int, int] | None:
        """Return the attributes of `ino` if it is a file at rest.

        They are its permission bits, uid, gid, size, atime, and mtime, which is
        the ctime.
        """
        packed = self._at_rest(ino)
        if packed is None:
            return None
        _, atime, mtime, _, _, _, _, size, mode, uid, gid = REST.unpack_from(packed)
        return mode, uid, gid, size, atime, mtime

    def place_of(self, ino: int) -> tuple[Location, int] | None:
        """Return the record and the size of the value of `ino` if it is a file at rest."""
        packed = self._at_rest(ino)
        if packed is None:
            return None
        _, _, _, _, segment, offset, length, size, _, _, _ = REST.unpack_from(packed)
        return Location(segment, offset, length), size

    def value_of(self, ino: int) -> bytes | None:
        """Return the value of `ino` if it is a file at rest whose value was kept."""
        return self._values.get(ino)

    def keep_value(self, ino: int, value: bytes) -> None:
        """Keep the value of the file `ino`, if it is at rest, for those who ask next."""
        if not self.keeps_values or len(value) > _SMALL or ino in self._nodes:
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
        packed = self._at_rest(ino)
        return None if packed is None else int(REST.unpack_from(packed)[2])

    def settle(self, in_use: Callable[[int], bool]) -> None:
        """Bring files to rest that have been awake for long, if many are.

        Only where nobody holds a node but those that are `in_use`.
        """
        if len(self._awake) <= self._most_awake:
            return
        for ino in list(islice(self._awake, len(self._awake) // 2)):
            file = self._awake.pop(ino)
            if in_use(ino):
                self._awake[ino] = file  # now one of the youngest
            else:
                self._put_to_rest(file)
        self._most_awake = max(_AWAKE, len(self._awake) + _AWAKE // 2)

    def _put_to_rest(self, file: File) -> None:
        """Let `file` be as the checkpoint has it, or at rest in memory, or as it is."""
        ino, row = file.ino, pack(file)
        try:
            unchanged = row == self._below(ino)
        except CorruptionError:
            unchanged = False  # what is in memory is all that there is
        if unchanged:
            del self._nodes[ino]
        elif row[0] == RESTING:
            del self._nodes[ino]
            self._resting[ino] = row

    def _wake(self, ino: int, row: bytes) -> Node:
        self._resting.pop(ino, None)
        self._forget_value(ino)
        names = None
        if self._base is not None and stat.S_ISDIR(type_of(row)) and (length := entries_of(row)):
            names = Names(self._base, ino, length)
        node = self._nodes[ino] = unpack(ino, row, names)
        if isinstance(node, File):
            self._awake[ino] = node
        return node

    def _at_rest(self, ino: int) -> bytes | None:
        """Return the row of `ino` if it is a file at rest."""
        packed = self._resting.get(ino)
        if packed is None and ino < self._limit and ino not in self._nodes:
            packed = self._below(ino)
            if packed is not None and packed[0] != RESTING:
                return None
        return packed

    def _packed(self, ino: int) -> bytes | None:
        """Return the row of `ino`, which is not awake, if there is such a node."""
        packed = self._resting.get(ino)
        return self._below(ino) if packed is None else packed

    def _below(self, ino: int) -> bytes | None:
        """Return the row that the checkpoint has of `ino`, if that still counts."""
        if self._base is None or not self._may_be_below(ino) or ino in self._gone:
            return None
        try:
            return self._rows[ino]
        except KeyError:
            if len(self._rows) >= _ROWS:
                self._rows.clear()
            row = self._rows[ino] = self._base.row(ino)
            return row

    def _may_be_below(self, ino: int) -> bool:
        """Tell whether the checkpoint can have a node `ino`."""
        return ino < self._limit or (ino >= FIRST_PIECE and self._base is not None)
