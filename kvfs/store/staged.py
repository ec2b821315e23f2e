"""A store as it is logged, with changes over it that nobody else sees.

They are records, as in a log, and are kept in memory until they are committed
to the store itself, all at once (see `transaction`), or forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvfs.errors import ClosedError, NoSpaceError
from kvfs.records import Location
from kvfs.store.core import Core
from kvfs.store.keeping import DEFAULT
from kvfs.store.kv import Store
from kvfs.table import Table
from kvfs.table.under import Under

if TYPE_CHECKING:
    from kvfs.records import Record
    from kvfs.store.ground import Ground

MOST = 256 * 1024 * 1024
"""Bytes of data that may be staged."""
_STAGED = 0xFFFFFFFF
"""Stands for the segment of what is staged; its offset is the position among the records."""


class StagedCore(Core):
    """Keeps what is committed to itself, in `records`."""

    def __init__(self, ground: Ground) -> None:
        """Stand on `ground`, on which nobody else stands."""
        super().__init__(ground.disk, ground.path, ground.config, writable=False)
        below = ground.table
        self.log = ground.log
        self.table = Table(
            below.uid, below.gid, ground.config.created, (Under(below), below.state())
        )
        self.ground = ground
        self.records: list[Record] = []
        self._size = 0

    def close(self, *, full: bool = False) -> None:
        """Close; the ground stays."""
        self.closed = True

    def check(self, *, write: bool = False) -> None:
        """Raise `ClosedError` where it holds; whoever may read may write here."""
        if self.closed:
            raise ClosedError("the transaction is over")

    def commit(self, *records: Record) -> None:
        """Keep `records`, and apply them. Raises `NoSpaceError`."""
        size = sum(len(getattr(record, "data", b"")) for record in records)
        if self._size + size > MOST:
            message = f"a transaction has no room for more than {MOST} bytes"
            raise NoSpaceError(message)
        self._size += size
        for record in records:
            kept: Any = record
            if not isinstance(getattr(record, "data", b""), bytes):
                kept = kept._replace(data=bytes(kept.data))
            location = Location(_STAGED, len(self.records), 1)
            self.records.append(kept)
            self.table.apply(kept, location)

    def create(
        self, record: Any, *more: Record, value: bytes | None = None, ino: int | None = None
    ) -> int:
        """Do as the core of a store, but let each record that makes a node have its number.

        By that it is known when it is committed; the number is another one then.
        """
        self._replay_ino = -1
        return super().create(record, *more, value=value, ino=ino)

    def move(self, record: Any) -> None:
        """Do as the core of a store, but make missing directories by records of their own."""
        self._replay_ino = -1
        super().move(record)

    def read_record(self, location: Location) -> Any:
        """Return the record at `location`, in the log or staged."""
        if location.segment == _STAGED:
            return self.records[location.offset]
        return self.ground.read_record(location)

    def value_at(self, location: Location, size: int) -> bytes:
        """Return a value of `size` bytes, in the log or staged."""
        if location.segment == _STAGED:
            data: bytes = self.read_record(location).data
            return data[:size]
        return self.ground.value_at(location, size)


class StagedStore(Store):
    """A store over a `StagedCore`."""

    def __init__(self, ground: Ground) -> None:
        """Stand on `ground`, on which nobody else stands."""
        self.staged = StagedCore(ground)
        super().__init__(self.staged, DEFAULT)
