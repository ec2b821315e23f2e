"""The changes of a store, one after the other, as they come.

A change is what one record says, or several where these cut one value into
pieces. Its sequence number is that of its last record, so whoever begins with
the next number goes on without a gap or a repetition, and `at=` that number
is the store just after it, with the rest of its batch.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from kvfs.disk import Disk
from kvfs.errors import ConfigError, PastGoneError
from kvfs.records import Attrs, Put, Relocate, Setxattr, Write
from kvfs.recovery import LogPaths
from kvfs.store.follower import Follower, locate
from kvfs.store.history import of_directory
from kvfs.store.notify import Notice
from kvfs.store.opening import open_store, read_config
from kvfs.store.readers import held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.store.follower import Batch

FOREVER = 1e9
"""Seconds."""
_SHOWN = frozenset({"key", "new", "directory", "offset", "size", "data", "time"})
"""Fields of records that are fields of a change, too."""
_UNTOLD = ("ino", "born")
"""Attributes that nobody asks for."""
_VALUED = ("write", "truncate", "link")


class Change(NamedTuple):
    """One change of a store.

    Its sequence number, its time (ns since 1970), what it did (`put`, `delete`, `rename`,
    ...), to which key, and for a rename or a link the other one. `directory`
    says that the key is the path of a directory. `offset` and `size` (bytes) are of
    what it brought, or the size that a truncate left. `value` is that of the key after it, or that of
    an extended attribute, if it was asked for; it is None as well where it is not kept any
    more. `details` are what else its record says: attributes that were set, a target, ...
    """

    sequence: int
    time: int
    what: str
    key: bytes
    new: bytes | None
    directory: bool
    offset: int | None
    size: int | None
    value: bytes | None
    details: dict[str, Any]

    @property
    def has_value(self) -> bool:
        """Whether it is one that gives something a value."""
        return self.what in ("put", "setxattr", *_VALUED)

    def is_below(self, prefix: bytes) -> bool:
        """Tell whether its key, or the other one, begins with `prefix`.

        As well as a key that a directory has which it moves, or moved.
        """
        names = [self.key] if self.new is None else [self.key, self.new]
        if self.directory or self.details.get("new_directory"):
            names += [name + b"/" for name in names]
            if any(prefix.startswith(name) for name in names[len(names) // 2 :]):
                return True
        return any(name.startswith(prefix) for name in names)


class Feed:
    """The changes of the store at `path`: an iterator, and a context that ends it.

    It is for one thread; `stop` may be called from any.
    """

    def __init__(
        self,
        path: str,
        from_: int | None = None,
        *,
        values: bool = False,
        timeout: float | None = None,
        until: int | None = None,
        disk: Disk | None = None,
    ) -> None:
        """Begin with the first change whose sequence number is not below `from_`, or with the next one.

        With `values`, changes have the values that they left. The iteration ends when
        none has come for `timeout` seconds, if that is given, after `stop`, or when
        nobody reads the pipe `until`. Raises `NotAStoreError`; `PastGoneError`
        where the log does not go back to `from_`, and `ConfigError` where it is not there yet.
        """
        self._disk = disk or Disk()
        self._path = path
        self._from = from_ or 0
        self._values = values
        self._timeout = FOREVER if timeout is None else timeout
        self._ready: deque[Change] = deque()
        config = read_config(path, self._disk)
        self._notice = Notice(LogPaths.of(path).segments, until)
        try:
            with held(self._disk, path):
                start = locate(self._disk, path, config, from_)
                self._follower = Follower(self._disk, path, config, start)
        except BaseException:
            self._notice.close()
            raise
        self._batches = self._follower.batches()
        self.stopped = False
        """Whether it has ended, and not only for want of changes."""
        try:
            self._begin(from_)
        except BaseException:
            self.close()
            raise

    def _begin(self, from_: int | None) -> None:
        """Pass over what comes before."""
        for batch in self._batches:
            if from_ is not None and batch[-1][0] >= from_:
                self._take(batch)
                if self._ready:
                    return
        records = self._follower.end.sequence
        if self._from > records:
            message = f"there is no change {from_} yet: the log has {records} records"
            raise ConfigError(message)

    @property
    def position(self) -> int:
        """The sequence number to go on with, behind what was taken last."""
        return self._ready[0].sequence if self._ready else self._follower.end.sequence

    def next(self, timeout: float) -> Change | None:
        """Return the next change; None where none comes within `timeout` seconds, or it was stopped.

        Raises `PastGoneError` if the log was removed before it was read, `CorruptionError` at damage.
        """
        deadline = time.monotonic() + timeout
        while not self.stopped:
            if self._ready or self._fill():
                return self._ready.popleft()
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.stopped = not self._notice.wait(left)
        return None

    def _fill(self) -> bool:
        """Read the next batch that changes anything, and tell whether there is one now."""
        return self._read() or self._read_anew()

    def _read_anew(self) -> bool:
        self._batches = self._follower.batches()
        return self._read()

    def _read(self) -> bool:
        """Read on in the look at the log that was begun last."""
        for batch in self._batches:
            self._take(batch)
            if self._ready:
                return True
        return False

    def _take(self, batch: Batch) -> None:
        for change in _changes(batch, values=self._values):
            if change.sequence >= self._from:
                self._ready.append(self._valued(change) if self._values else change)

    def _valued(self, change: Change) -> Change:
        """Return `change` with the value that it left, if that is not all in its records."""
        if change.what not in _VALUED:
            return change
        try:
            with open_store(self._path, at=change.sequence, disk=self._disk) as store:
                return change._replace(value=store.get(change.new or change.key))
        except PastGoneError:
            return change

    def stop(self) -> None:
        """End the iteration, also where it waits; for any thread, and for signal handlers."""
        self._notice.stop()

    def close(self) -> None:
        """Free what it uses."""
        self.stopped = True
        self._follower.close()
        self._notice.close()

    def __iter__(self) -> Self:
        """Return the iterator."""
        return self

    def __next__(self) -> Change:
        """Return the next change, once there is one."""
        change = self.next(self._timeout)
        if change is None:
            raise StopIteration
        return change

    def __enter__(self) -> Self:
        """Return the iterator."""
        return self

    def __exit__(self, *_: object) -> None:
        """Free what it uses."""
        self.close()


def _changes(batch: Batch, *, values: bool) -> Iterator[Change]:
    """Yield what the records of a batch change; a value that was cut into several is one change."""
    run: list[tuple[int, Any]] = []
    for sequence, record in batch:
        if run and not _goes_on(run[-1][1], record):
            yield _change(run, values=values)
            run = []
        if not isinstance(record, Relocate):
            run.append((sequence, record))
    if run:
        yield _change(run, values=values)


def _goes_on(before: Any, record: Any) -> bool:
    """Tell whether `record` has the next piece of the value that `before` has one of."""
    if not (isinstance(record, Write) and isinstance(before, Put | Write)):
        return False
    end = getattr(before, "offset", 0) + len(before.data)
    return record.key == before.key and record.offset == end


def _change(run: list[tuple[int, Any]], *, values: bool) -> Change:
    record = run[0][1]
    value = None
    if values and isinstance(record, Put):
        value = b"".join(piece.data for _, piece in run)
    elif values and isinstance(record, Setxattr):
        value = record.value
    size = getattr(record, "size", None)
    if hasattr(record, "data"):
        size = sum(len(piece.data) for _, piece in run)
    return Change(
        sequence=run[-1][0],
        time=record.time,
        what=type(record).__name__.lower(),
        key=record.key,
        new=getattr(record, "new", None),
        directory=of_directory(record),
        offset=getattr(record, "offset", None),
        size=size,
        value=value,
        details=dict(_details(record)),
    )


def _details(record: Any) -> Iterator[tuple[str, Any]]:
    """Yield what `record` says beside what a change says in any case."""
    for name, value in record._asdict().items():
        if isinstance(value, Attrs):
            given = {
                field: attr
                for field, attr in value._asdict().items()
                if attr is not None and field not in _UNTOLD
            }
            if given:
                yield name, given
        elif name not in _SHOWN and name != "value" and value is not False:
            yield name, value
