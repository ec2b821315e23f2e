"""Rows in order, in blocks with a checksum each.

A block is rows, one after the other, and where each begins and the last one
ends: n + 1 numbers (u32), and n. Rows are looked up by bisection, first among
the first keys of the blocks, which are in memory, and then in the block.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING

from kvfs.checkpoint.format import ENDS, BadCheckpointError, Block
from kvfs.checksum import crc32c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvfs.disk import Disk

_FULL = 16 * 1024
"""Bytes of rows that fill a block."""
_SPLIT = 24 * 1024
"""Bytes of rows that are two blocks sooner than one, where a run of rows ends."""
_FEW = 4 * 1024
"""Bytes of rows that are no block of their own if others can follow."""
_CHUNK = 1024 * 1024
_CACHED = 4 * 1024 * 1024
SLOTS = 20
"""Bits of a position that are the number of a row in its block; the others are the block's."""


class Writer:
    """Writes rows and blocks to an open file, in order."""

    def __init__(self, disk: Disk, fd: int) -> None:
        """Write to the empty file `fd`."""
        self._disk = disk
        self._fd = fd
        self._buffer = bytearray()
        self._flushed = 0
        self.crc = 0
        """Of all that has been written."""

    @property
    def size(self) -> int:
        """How many bytes have been written."""
        return self._flushed + len(self._buffer)

    def write(self, data: bytes | bytearray) -> tuple[int, int]:
        """Write `data`, and return its offset and length."""
        place = self.size, len(data)
        self._buffer += data
        if len(self._buffer) >= _CHUNK:
            self.flush()
        return place

    def flush(self) -> None:
        """Hand over to the disk all that there is."""
        self.crc = crc32c(self._buffer, self.crc)
        self._disk.write(self._fd, self._buffer, self._flushed)
        self._disk.start_sync(self._fd, self._flushed, len(self._buffer))
        self._flushed += len(self._buffer)
        self._buffer = bytearray()


class BlockWriter:
    """Writes one table: rows in the order of their keys, and blocks of another file as they are."""

    def __init__(self, out: Writer, key: slice) -> None:
        """Write to `out`; `key` is where the key of a row is."""
        self._out = out
        self._key = key
        self._rows: list[bytes] = []
        self._size = 0
        self.blocks: list[Block] = []

    def add(self, row: bytes) -> None:
        """Add the next row."""
        self._rows.append(row)
        self._size += len(row)
        if self._size >= 2 * _FULL:
            self._cut(_FULL)

    def copy(self, data: bytes, block: Block) -> None:
        """Add the rows of `block`, whose bytes are `data`."""
        self.end()
        offset, length = self._out.write(data)
        self.blocks.append(Block(offset, length, block.crc, block.first))

    @property
    def takes_blocks(self) -> bool:
        """Whether a block can follow, and not its rows, without leaving a small one behind."""
        return self._size == 0 or self._size >= _FEW

    def end(self) -> None:
        """Write what is left."""
        if self._size > _SPLIT:
            self._cut(self._size // 2)
        if self._rows:
            self._cut(self._size)

    def _cut(self, size: int) -> None:
        """Write rows of `size` bytes, or just more, as a block."""
        total = count = 0
        starts = array(ENDS, [0])
        while total < size:
            total += len(self._rows[count])
            starts.append(total)
            count += 1
        starts.append(count)
        if sys.byteorder == "big":
            starts.byteswap()
        first = self._rows[0][self._key]
        data = b"".join(self._rows[:count]) + starts.tobytes()
        del self._rows[:count]
        self._size -= total
        offset, length = self._out.write(data)
        self.blocks.append(Block(offset, length, crc32c(data), first))


class Blocks:
    """One table of a file that is open for reading."""

    def __init__(self, blocks: list[Block], key: slice, load: Callable[[Block], bytes]) -> None:
        """Look up rows in `blocks`; `load` returns the bytes of one, verified."""
        self.blocks = blocks
        self._firsts = [block.first for block in blocks]
        self._key = key
        self._load = load
        self._cache: OrderedDict[int, tuple[bytes, array[int]]] = OrderedDict()
        self._cached = 0
        self.most_cached = _CACHED
        """Bytes of blocks that are kept in memory, at most."""

    def get(self, key: bytes) -> bytes | None:
        """Return the row with `key`, if there is one."""
        index = bisect_right(self._firsts, key) - 1
        if index < 0:
            return None
        data, starts = self._opened(index)
        slot = self._slot(data, starts, key)
        row = data[starts[slot] : starts[slot + 1]] if slot < len(starts) - 1 else b""
        return row if row and row[self._key] == key else None

    def find(self, key: bytes) -> int:
        """Return the position of the first row whose key is not less than `key`."""
        index = max(bisect_right(self._firsts, key) - 1, 0)
        if index >= len(self.blocks):
            return 0
        return index << SLOTS | self._slot(*self._opened(index), key)

    def rows(self, position: int = 0) -> Iterator[tuple[bytes, int]]:
        """Yield every row from `position` on, with the position behind it."""
        slot = position & ((1 << SLOTS) - 1)
        for index in range(position >> SLOTS, len(self.blocks)):
            data, starts = self._opened(index)
            for number in range(slot, len(starts) - 1):
                yield data[starts[number] : starts[number + 1]], index << SLOTS | number + 1
            slot = 0

    def rows_of(self, data: bytes) -> Iterator[bytes]:
        """Yield the rows of a block, given its bytes."""
        starts = starts_of(data)
        for number in range(len(starts) - 1):
            yield data[starts[number] : starts[number + 1]]

    def load(self, index: int) -> bytes:
        """Return the bytes of the block `index`, verified."""
        return self._load(self.blocks[index])

    def _slot(self, data: bytes, starts: array[int], key: bytes) -> int:
        """Return which row of a block is the first that is not less than `key`."""
        key_of = self._key
        low, high = 0, len(starts) - 1
        while low < high:
            middle = (low + high) >> 1
            if data[starts[middle] : starts[middle + 1]][key_of] < key:
                low = middle + 1
            else:
                high = middle
        return low

    def _opened(self, index: int) -> tuple[bytes, array[int]]:
        """Return a block and where its rows begin; the latest ones are kept."""
        found = self._cache.get(index)
        if found is not None:
            self._cache.move_to_end(index)
            return found
        data = self._load(self.blocks[index])
        found = self._cache[index] = data, starts_of(data)
        self._cached += len(data)
        while self._cached > self.most_cached and len(self._cache) > 1:
            _, (oldest, _) = self._cache.popitem(last=False)
            self._cached -= len(oldest)
        return found


def starts_of(data: bytes) -> array[int]:
    """Return where the rows of a block begin, and the last one ends.

    Raises `BadCheckpointError` for what is no block.
    """
    starts = array(ENDS)
    size = starts.itemsize
    count = int.from_bytes(data[-size:], "little")
    low = len(data) - (count + 2) * size
    if low < 0:
        raise BadCheckpointError("a block is shorter than its rows")
    starts.frombytes(data[low:-size])
    if sys.byteorder == "big":
        starts.byteswap()
    return starts
