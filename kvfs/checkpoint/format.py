"""What the parts of a checkpoint file are: see docs/format.md, "Checkpoints".

Blocks of rows come first, then an index of the blocks for each of the two
tables, the state, and at the very end a footer that says where those are.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import NamedTuple

from kvfs.checksum import crc32c
from kvfs.table.tree import TreeState

MAGIC = b"kvfs ckp"
VERSION = 2
HEAD = struct.Struct("<8sII")
"""Magic, version, zeros. For those who look at the file from its start."""
FOOTER = struct.Struct("<QIQIQII16s8sI")
"""Offset and length of the index of the inodes, of that of the names, and of the state; crc of all
before the footer; id of the store; magic; crc of the footer up to here."""
_INDEX = struct.Struct("<QIIH")
"""Offset, length and crc of a block; length of its first key, which follows."""
_STATE = struct.Struct("<QIIQIqIIqQQQIII")
"""Sequence number; segment and offset of the end; how many nodes; crc of the bytes before the end;
time of the latest record; uid, gid and time that are the defaults; next inode number; next piece;
how many values; how many bytes before the end `crc` is of; how many keys stand aside, and how many
segments hold data of nodes: both follow, and behind them, to the end, the files that expire."""
_LIVE = struct.Struct("<IQ")
"""The number of a segment, and how many bytes of it the nodes take."""
_EXPIRY = struct.Struct("<Qq")
"""The number of a file, and when it expires, in ns since 1970."""
_KEY = struct.Struct("<H")
_BIG = struct.Struct(">Q")
_NAMED = struct.Struct("<QB")
_TYPE_SHIFT = 12
ENDS = "I"
"""Type code of the offsets at the end of a block, u32."""

INODES, NAMES = 0, 1
"""The two tables: number to row, and (directory, name) to number."""
KEY_OF = (slice(0, 8), slice(0, -_NAMED.size))
"""Where the key of a row is, by table."""
TRACE = 4096
"""A checkpoint knows the log by so many bytes before its end, at most."""


class BadCheckpointError(Exception):
    """A file is no checkpoint of this store and log, or it is damaged."""


class Position(NamedTuple):
    """The place of the log that a checkpoint stands at.

    `sequence` records come before it; `segment` and `offset` are where they
    end, `traced` bytes before which have the checksum `trace`. `time` is that
    of the latest record, `nodes` how many there are. `defaults` are the owner (uid
    and gid) and the time that nodes have of which no record says otherwise.
    """

    sequence: int
    segment: int
    offset: int
    trace: int
    traced: int
    time: int
    nodes: int
    defaults: tuple[int, int, int]


class Block(NamedTuple):
    """Where a block of rows lies, and its first key."""

    offset: int
    length: int
    crc: int
    first: bytes


def inode_key(ino: int) -> bytes:
    """Return the key of the node `ino` among the inodes."""
    return _BIG.pack(ino)


def number_of(row: bytes) -> int:
    """Return the number that a row of the inodes begins with."""
    return int(_BIG.unpack_from(row)[0])


def name_key(directory: int, name: bytes) -> bytes:
    """Return the key of `name` in `directory` among the names."""
    return _BIG.pack(directory) + name


def name_row(directory: int, name: bytes, ino: int, file_type: int) -> bytes:
    """Return the row of a name; `file_type` is that of the node, as `S_IFMT` gives it."""
    return _BIG.pack(directory) + name + _NAMED.pack(ino, file_type >> _TYPE_SHIFT)


def named(row: bytes) -> tuple[bytes, int, int]:
    """Return the name that `row` is, the number it names, and the type of that node."""
    ino, file_type = _NAMED.unpack_from(row, len(row) - _NAMED.size)
    return row[8 : -_NAMED.size], ino, file_type << _TYPE_SHIFT


def dump_index(blocks: list[Block]) -> bytes:
    """Return the index of `blocks`."""
    return b"".join(
        _INDEX.pack(offset, length, crc, len(first)) + first
        for offset, length, crc, first in blocks
    )


def load_index(data: bytes) -> list[Block]:
    """Return the blocks of the index `data`. Raises `struct.error` for what is none."""
    blocks = []
    position = 0
    while position < len(data):
        offset, length, crc, size = _INDEX.unpack_from(data, position)
        position += _INDEX.size
        blocks.append(Block(offset, length, crc, data[position : position + size]))
        position += size
    return blocks


def dump_state(position: Position, state: TreeState, live: Counter[int]) -> bytes:
    """Return the state part of a checkpoint; `live` are the bytes in use by segment."""
    sequence, segment, offset, trace, traced, time, nodes, defaults = position
    next_ino, next_piece, values, shadowed, expiries = state
    parts = [
        _STATE.pack(
            *(sequence, segment, offset, nodes, trace, time, *defaults),
            *(next_ino, next_piece, values, traced, len(shadowed), len(live)),
        )
    ]
    for key in sorted(shadowed):
        parts += (_KEY.pack(len(key)), key)
    parts += [_LIVE.pack(number, live[number]) for number in sorted(live)]
    parts += [_EXPIRY.pack(*expiry) for expiry in expiries]
    return b"".join(parts)


def load_state(data: bytes) -> tuple[Position, TreeState, Counter[int]]:
    """Return what `dump_state` was given. Raises `struct.error` for what is none."""
    sequence, segment, offset, nodes, trace, time, *fields = _STATE.unpack_from(data)
    *defaults, next_ino, next_piece, values, traced, aside, used = fields
    keys = []
    place = _STATE.size
    for _ in range(aside):
        (length,) = _KEY.unpack_from(data, place)
        place += _KEY.size
        keys.append(data[place : place + length])
        place += length
    rest = place + used * _LIVE.size
    live = Counter(dict(_LIVE.iter_unpack(data[place:rest])))
    expiries = tuple(_EXPIRY.iter_unpack(data[rest:]))
    state = TreeState(next_ino, next_piece, values, frozenset(keys), expiries)
    uid, gid, created = defaults
    position = Position(
        *(sequence, segment, offset, trace, traced, time, nodes), (uid, gid, created)
    )
    return position, state, live


def dump_footer(parts: list[tuple[int, int]], body: int, store_id: bytes) -> bytes:
    """Return the footer for `parts`, each an offset and a length; `body` is the crc before it."""
    fields = (*(number for part in parts for number in part), body, store_id, MAGIC)
    raw = FOOTER.pack(*fields, 0)[:-4]
    return raw + crc32c(raw).to_bytes(4, "little")


def load_footer(raw: bytes, store_id: bytes) -> tuple[list[tuple[int, int]], int]:
    """Return what `dump_footer` was given. Raises `BadCheckpointError`."""
    if len(raw) != FOOTER.size:
        raise BadCheckpointError("it is cut short")
    *fields, body, owner, magic, crc = FOOTER.unpack(raw)
    if magic != MAGIC or crc32c(raw[:-4]) != crc:
        raise BadCheckpointError("its end is damaged")
    if owner != store_id:
        raise BadCheckpointError("it belongs to another store")
    return list(zip(fields[::2], fields[1::2], strict=True)), body
