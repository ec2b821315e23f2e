"""Writing a checkpoint: what the one below has, with what has changed since.

Blocks in which nothing changed are copied as they are.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kvfs.checkpoint.blocks import BlockWriter, Writer
from kvfs.checkpoint.format import (
    HEAD,
    INODES,
    KEY_OF,
    MAGIC,
    NAMES,
    VERSION,
    dump_footer,
    dump_index,
    dump_state,
    inode_key,
    name_key,
    name_row,
    number_of,
)
from kvfs.table.rows import weigh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvfs.checkpoint.blocks import Blocks
    from kvfs.checkpoint.format import Block, Position
    from kvfs.checkpoint.read import Checkpoint
    from kvfs.disk import Disk
    from kvfs.table import Table

Change = tuple[bytes, bytes | None]
"""The key of a row, and the row that it has now; None if it has gone."""


def write(
    disk: Disk, fd: int, store_id: bytes, table: Table, position: Position, below: Checkpoint | None
) -> None:
    """Write `table`, which stands on `below`, to the empty file `fd`.

    Nothing of it is on stable storage yet. Raises `CorruptionError` if `below`
    does not verify, or what the disk says.
    """
    out = Writer(disk, fd)
    out.write(HEAD.pack(MAGIC, VERSION, 0))
    live = _Live(below.live if below else {})
    indices = []
    for kind, changes in ((INODES, live.following(_inodes(table))), (NAMES, _names(table))):
        blocks = BlockWriter(out, KEY_OF[kind])
        _merge(
            below.tables[kind] if below else None,
            changes,
            blocks,
            KEY_OF[kind],
            live.lose if kind == INODES else _nothing,
        )
        indices.append(dump_index(blocks.blocks))
    parts = [out.write(index) for index in indices]
    parts.append(out.write(dump_state(position, table.state(), live.bytes)))
    out.flush()
    out.write(dump_footer(parts, out.crc, store_id))
    out.flush()


def _nothing(_row: bytes) -> None:
    """Names take nothing in the log."""


class _Live:
    """How many bytes of each segment the nodes take, kept up while their rows are written."""

    def __init__(self, below: dict[int, int]) -> None:
        """Start with what the nodes of the checkpoint below take."""
        self.bytes = Counter(below)

    def following(self, changes: Iterator[Change]) -> Iterator[Change]:
        """Yield `changes`, and count what their rows take."""
        for key, row in changes:
            if row is not None:
                self._add(row, 1)
            yield key, row

    def lose(self, row: bytes) -> None:
        """Note that `row`, of the checkpoint below, counts no more."""
        self._add(row, -1)

    def _add(self, row: bytes, sign: int) -> None:
        for segment, size in weigh(row[8:]):
            self.bytes[segment] += sign * size
            if not self.bytes[segment]:
                del self.bytes[segment]


def live_of(table: Table, below: Checkpoint | None) -> Counter[int]:
    """Return how many bytes of each segment the nodes of `table` take, which stands on `below`."""
    live = _Live(below.live if below else {})
    for key, row in live.following(_inodes(table)):
        old = below.row(number_of(row or key)) if below else None
        if old is not None:
            live.lose(key + old)
    return live.bytes


def agrees(table: Table, below: Checkpoint | None, checkpoint: Checkpoint) -> bool:
    """Tell whether `table`, which stands on `below`, has the nodes and names of `checkpoint`."""
    if table.state() != checkpoint.state or len(table.nodes) != len(checkpoint):
        return False
    live = _Live(below.live if below else {})
    changes = live.following(_inodes(table)), _names(table)
    for kind, changed in zip((INODES, NAMES), changes, strict=True):
        rows = _Comparison(checkpoint.tables[kind])
        under = below.tables[kind] if below else None
        _merge(under, changed, rows, KEY_OF[kind], live.lose if kind == INODES else _nothing)
        if not rows.same:
            return False
    return live.bytes == checkpoint.live


class _Comparison:
    """Takes rows as a `BlockWriter` does, and holds them against those of a checkpoint."""

    takes_blocks = False

    def __init__(self, blocks: Blocks) -> None:
        self._rows = blocks.rows()
        self.same = True

    def add(self, row: bytes) -> None:
        self.same = self.same and next(self._rows, (None, 0))[0] == row

    def copy(self, data: bytes, block: Block) -> None:
        raise NotImplementedError  # it takes none

    def end(self) -> None:
        self.same = self.same and next(self._rows, None) is None


def _inodes(table: Table) -> Iterator[Change]:
    for ino, row in table.nodes.changes():
        key = inode_key(ino)
        yield key, None if row is None else key + row


def _names(table: Table) -> Iterator[Change]:
    type_of = table.nodes.type_of
    for directory, changed, gone in table.nodes.changed_names():
        for name in sorted(changed.keys() | gone):
            ino = changed.get(name)
            row = None
            if ino is not None:
                row = name_row(directory, name, ino, type_of(ino))
            yield name_key(directory, name), row


def _merge(
    below: Blocks | None,
    changes: Iterator[Change],
    out: BlockWriter | _Comparison,
    key: slice,
    lose: Callable[[bytes], object],
) -> None:
    """Write the rows of `below`, with `changes`, which come in the order of their keys, over them.

    `lose` is told the rows of `below` that count no more.
    """
    over = _Changes(changes)
    if below is not None:
        # What comes behind the last row of a block, and before the next one, goes with it.
        bounds = [block.first for block in below.blocks[1:]]
        for index, (block, bound) in enumerate(zip(below.blocks, [*bounds, None], strict=True)):
            data = below.load(index)
            if out.takes_blocks and not over.any_before(bound):
                out.copy(data, block)
                continue
            for row in below.rows_of(data):
                for changed in over.before(row[key]):
                    out.add(changed)
                kept = over.at(row[key], row)
                if kept is not row:
                    lose(row)
                if kept is not None:
                    out.add(kept)
            for changed in over.before(bound):
                out.add(changed)
    for changed in over.before(None):
        out.add(changed)
    out.end()


class _Changes:
    """Changes in the order of their keys, taken one after the other."""

    def __init__(self, changes: Iterator[Change]) -> None:
        self._changes = changes
        self._next = next(changes, None)

    def any_before(self, key: bytes | None) -> bool:
        """Tell whether there is one whose key is less than `key`; all are less than None."""
        return self._next is not None and (key is None or self._next[0] < key)

    def before(self, key: bytes | None) -> Iterator[bytes]:
        """Take those whose keys are less than `key`, and yield the rows that are there."""
        while self._next is not None and (key is None or self._next[0] < key):
            row = self._next[1]
            self._next = next(self._changes, None)
            if row is not None:
                yield row

    def at(self, key: bytes, row: bytes) -> bytes | None:
        """Return what counts of `key`, at which there is `row` so far; None if it has gone."""
        if self._next is None or self._next[0] != key:
            return row
        changed = self._next[1]
        self._next = next(self._changes, None)
        return changed
