"""The inode numbers of the past, which no live node has.

They lie between those of keys and those of the directories of long keys: 61
bits, of which the upper 17 say which view, and the lower 44 which node in it.
So a node has the same number as long as its view has one. View 0 is none: it
is for the directories that lead to the views, and for `.kvfs/history`.
"""

from __future__ import annotations

import errno

from kvfs.errors import PosixError
from kvfs.table.node import FIRST_PIECE, MAX_INO

FIRST, END = MAX_INO, FIRST_PIECE
"""Numbers of the past are not below the first, and below the second."""
VIEWS = 1 << 17
"""No view has this number or a higher one."""
AT, SNAPSHOTS, HISTORY, TRANSACTIONS = FIRST + 1, FIRST + 2, FIRST + 3, FIRST + 6
STATS = FIRST + 4
"""Of `.kvfs/stats`."""
CHANGES = FIRST + 5
"""Of `.kvfs/changes` as it is listed and shown."""
FIRST_VERSION = FIRST + 16
"""The first number of what is below `.kvfs/history`."""
FIRST_CHANGES = FIRST + (1 << 43)
"""The first number of the nodes that `.kvfs/changes` leads to."""
_BITS = 44
_PIECES = 1 << (_BITS - 1)
"""Stands for the first number of a directory of a long key."""


def is_past(number: int) -> bool:
    """Tell whether `number` is that of a node of the past."""
    return FIRST <= number < END


def number_of(view: int, ino: int) -> int:
    """Return the number of what has the number `ino` in the store that the view shows.

    Raises `PosixError` EOVERFLOW where there is no room for it: nobody makes so many files.
    """
    code = ino - FIRST_PIECE + _PIECES if ino >= FIRST_PIECE else ino
    if (ino < FIRST_PIECE and ino >= _PIECES) or code >> _BITS:
        raise PosixError(errno.EOVERFLOW)
    return FIRST | view << _BITS | code


def split(number: int) -> tuple[int, int]:
    """Return the view of a number of the past, and the number that its node has in the store."""
    view, code = divmod(number - FIRST, 1 << _BITS)
    return view, code - _PIECES + FIRST_PIECE if code >= _PIECES else code
