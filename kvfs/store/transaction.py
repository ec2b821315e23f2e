"""Transactions: changes that are made aside, and come to a store all at once or not at all.

A transaction begins with what is logged at that moment, and sees that and its
own changes. It is committed as one batch of the log. Whoever commits first
wins: if anything that it changes was changed by another since it began, it is
refused, and nothing happens.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from kvfs.errors import ConflictError, KvfsError, quoted
from kvfs.records import Delete, Mkdir, Removexattr, Rename, Setattr, Setxattr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kvfs.records import Record
    from kvfs.store.core import Core
    from kvfs.store.files import Files
    from kvfs.store.staged import StagedStore
    from kvfs.table import Node


class Changes:
    """What was changed in a store since somebody began to look, by sequence number."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._names: dict[bytes, int] = {}
        self._made: dict[bytes, int] = {}
        """Directories that were made, where there may have been one: who makes one too does no harm."""
        self._moved: dict[bytes, int] = {}
        """Directories that were removed or renamed, or that others came in the place of."""

    def note(self, records: Sequence[Record], sequence: int) -> None:
        """Note `records`, the last of which is the last of `sequence` records."""
        for number, record in enumerate(records, sequence - len(records)):
            if _tells_of_reading(record):
                continue
            for name in _names(record):
                changed = self._made if isinstance(record, Mkdir) else self._names
                changed[name] = number
                if _moves(record):
                    self._moved[name] = number

    def add(self, name: bytes) -> None:
        """Note that `name` is being changed."""
        self._names[name] = 0

    def find(self, record: Record, since: int) -> bytes | None:
        """Return a name that was changed by record `since` or later, so that `record` fits no more."""
        for name in _names(record):
            made = -1 if isinstance(record, Mkdir) else self._made.get(name, -1)
            if max(self._names.get(name, -1), made) >= since:
                return name
            above = name
            while b"/" in above:
                above = above.rpartition(b"/")[0]
                if self._moved.get(above, -1) >= since:
                    return above
            if name and (_moves(record) or _describes(record)):
                below = name + b"/"
                for other, number in self._names.items():
                    if number >= since and other.startswith(below):
                        return other
        return None


class Transaction:
    """One transaction of an open store. All is called with the lock of that."""

    def __init__(self, core: Core, files: Files) -> None:
        """Begin to look at what is changed in the store of `core` and `files`.

        Raises `KvfsError` EOPNOTSUPP for a text store, whose log has no batches.
        """
        if not core.log.codec.atomic:
            message = "a text log has no batches, so there are no transactions"
            raise KvfsError(message, errno.EOPNOTSUPP)
        self._core = core
        self._live = files
        self._changes = Changes()
        self.staged: StagedStore
        core.witnesses.append(self._changes.note)

    def begin(self, staged: StagedStore) -> None:
        """Go on over `staged`, which was opened since."""
        self.staged = staged

    def end(self) -> None:
        """Forget all of it, if it was not committed."""
        self._core.witnesses.remove(self._changes.note)

    def commit(self) -> set[tuple[int, bytes, int]]:
        """Do all of it; return (directory, name, node) of what has changed, as it was and as it is.

        Raises `ConflictError` where another has changed some of it, or what the
        log says; then nothing has changed.
        """
        staged, core = self.staged, self._core
        staged.files.content.commit_all()
        records = staged.staged.records
        self._check_conditions()
        self._check(records)
        places = self._places(records)
        # Later than any change of what they change: those in the transaction saw to that.
        time = core.after(max((record.time for record in records), default=0))
        core.commit_batch(_stamped(record, time) for record in records)
        self._live.drain()
        return places | self._places(records)

    def _check(self, records: Iterable[Record]) -> None:
        written = self._being_written()
        for record in records:
            name = self._changes.find(record, self.staged.position) or written.find(record, 0)
            if name is not None:
                raise _conflict(name)

    def _being_written(self) -> Changes:
        """Return the names of what has something that is not logged, be it the name itself."""
        table, found = self._core.table, Changes()
        for node in self._live.content.unlogged():
            for parent, name in node.names():
                key = table.key_at(table.directory(parent), name)
                if key is not None:
                    found.add(key)
        return found

    def _check_conditions(self) -> None:
        """Raise `ConflictError` if a file that is staged takes the place of another version than it says."""
        table = self.staged.staged.table
        for ino, version in self.staged.files.reserved.conditions():
            node = table.node(ino)
            for parent, name in node.names() if node else ():
                key = table.key_at(table.directory(parent), name)
                target = None if key is None else self._core.table.find(key)
                self._live.reserved.expect(target, version)

    def _places(self, records: Iterable[Record]) -> set[tuple[int, bytes, int]]:
        """Return (directory, name, node) of all that `records` name and that is there; 0 is no node."""
        return {
            place for record in records for name in _names(record) for place in self._place(name)
        }

    def _place(self, key: bytes) -> Iterator[tuple[int, bytes, int]]:
        table = self._core.table
        directory: Node | None = table.find_directory(key)
        if directory is not None:
            yield directory.parent, directory.name, directory.ino
        parent, name = table.place(key)
        if parent is not None:
            yield parent.ino, name, parent.entries.get(name) or 0


def _names(record: Any) -> tuple[bytes, ...]:
    """Return the keys and paths that `record` changes something at."""
    return (record.key, record.new) if hasattr(record, "new") else (record.key,)


def _moves(record: Record) -> bool:
    """Tell whether `record` moves or removes a directory."""
    if isinstance(record, Rename):
        return record.directory or record.new_directory
    return isinstance(record, Delete) and record.directory


def _tells_of_reading(record: Record) -> bool:
    """Tell whether `record` only says when something was read."""
    if not isinstance(record, Setattr):
        return False
    mode, uid, gid, _, mtime, ctime, *_ = record.attrs
    return (mode, uid, gid, mtime) == (None,) * 4 and ctime is not None


def _describes(record: Record) -> bool:
    """Tell whether `record` changes what a directory has, which must be there for that."""
    return isinstance(record, Setattr | Setxattr | Removexattr) and record.directory


def _stamped(record: Any, time: int) -> Record:
    """Return `record` as of `time`."""
    if hasattr(record, "attrs"):
        record = record._replace(attrs=record.attrs._replace(born=None))
    stamped: Record = record._replace(time=time)
    return stamped


def _conflict(name: bytes) -> ConflictError:
    message = f"{quoted(name)} was changed by another since the transaction began; begin it anew"
    return ConflictError(message)
