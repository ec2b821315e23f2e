"""The past of a store: what was logged, and how two moments differ."""

from __future__ import annotations

import heapq
import os
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from kvfs.disk import Disk
from kvfs.errors import KvfsError
from kvfs.records import Mkdir, Relocate
from kvfs.recovery import LogPaths, Replay
from kvfs.segment import misplaced
from kvfs.store.checkpoints import Checkpoints
from kvfs.store.opening import read_config
from kvfs.store.readers import held
from kvfs.table import File

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvfs.records import Record
    from kvfs.store.kv import Store

ADDED, REMOVED, CHANGED = "added", "removed", "changed"


class Change(NamedTuple):
    """One record of the log.

    Its sequence number, its time (ns since 1970), what it did (`put`, `rename`,
    ...), to which key, and for a rename or a link the other one. `directory`
    says that the key is the path of a directory. `offset` and `size` are of the
    bytes that it brought, or the size that a truncate left. `uid` is who owned
    the node then: what process it was, the log does not say.
    """

    sequence: int
    time: int
    what: str
    key: bytes
    new: bytes | None
    directory: bool
    offset: int | None
    size: int | None
    uid: int | None


def changes(path: str, key: bytes | None = None, disk: Disk | None = None) -> Iterator[Change]:
    """Yield what the log of the store at `path` has, oldest first, beside a mount or alone.

    With `key`, only what happened to that key, and to what it names now, or
    named last, under the names that this had before. Raises `NotAStoreError`,
    `ConfigError` or `CorruptionError`.
    """
    reading = Reading(disk or Disk(), os.path.abspath(path), key)
    if key is None:
        return (change for change, _ in reading.changes())
    return _of(reading, key)


def _of(reading: Reading, key: bytes) -> Iterator[Change]:
    """Yield what happened to `key`: once the log has told what that names, in another reading."""
    last: set[int] = set()
    for change, numbers in reading.changes():
        if key in (change.key, change.new):
            last = numbers
    if reading.named is not None:
        last = {reading.named}
    for change, numbers in reading.changes():
        moved = change.what == "rename" and any(
            path and change.directory and key.startswith(path + b"/")
            for path in (change.key, change.new)
        )
        if key in (change.key, change.new) or moved or numbers & last:
            yield change


class Reading:
    """Goes through the log of the store at `path`, from where it begins, with the table that it makes.

    `whole` tells whether the record that was yielded last is the last of its batch.
    """

    def __init__(self, disk: Disk, path: str, key: bytes | None = None) -> None:
        """Read nothing yet; `key` is to be named in the end."""
        self.whole = True
        self._disk = disk
        self._path = path
        self._key = key
        self.named: int | None = None
        """The number of what the key names in the end, once the reading has come there."""
        self._paths = LogPaths.of(path)
        self._config = read_config(path, disk)
        self._checkpoints = Checkpoints(disk, path, self._config)

    def changes(self) -> Iterator[tuple[Change, set[int]]]:
        """Yield every record, and the numbers of the nodes that it is about."""
        for sequence, record, numbers in self.applied(self._about):
            numbers = numbers or self._about(record)  # noqa: PLW2901 - those that it has made
            found = [self.table.nodes.look(ino) for ino in numbers]
            owners = [node.uid for node in (*found, *self.table.detached) if node]
            if not isinstance(record, Relocate):
                yield _change(sequence, record, owners[0] if owners else None), set(numbers)

    def applied(
        self,
        before: Callable[[Any], list[int]] = lambda _record: [],
        begun: Callable[[int], object] = lambda _sequence: None,
    ) -> Iterator[tuple[int, Any, list[int]]]:
        """Yield the sequence number of every record and the record, once the table has it.

        And what `before` said of it before that. `begun` is called with the sequence number
        of the first record, when the table is as it was before that.
        """
        with held(self._disk, self._path):
            begin = self._checkpoints.begin()
            self.table = begin.table
            directory = self._disk.open_directory(self._paths.segments)
            try:
                since = begin.start.sequence if begin.start else 0
                begun(since)
                log = Replay(self._disk, self._paths, self._config, directory, begin.start)
                yield from self._applied(log, since, before)
                if self._key is not None:
                    self.named = self.table.number_of(self._key)
            finally:
                self._disk.close(directory)
                if begin.checkpoint:
                    begin.checkpoint.close()

    def _applied(
        self, log: Replay, since: int, before: Callable[[Any], list[int]]
    ) -> Iterator[tuple[int, Any, list[int]]]:
        table = self.table
        for sequence, (record, location) in enumerate(log.records(), since):
            self.whole = sequence + 1 == log.end.sequence
            said = before(record)
            try:
                table.apply(record, location)
            except KvfsError as error:
                raise misplaced(location, error) from None
            yield sequence, record, said
            table.detached.clear()

    def _about(self, record: Any) -> list[int]:
        """Return the numbers of the nodes that `record` is about: one, or two that change places."""
        table = self.table
        keys = [(record.key, of_directory(record))]
        if getattr(record, "exchange", False):
            keys.append((record.new, record.new_directory))
        found = []
        for key, is_directory in keys:
            below = table.find_directory(key) if is_directory else None
            ino = below.ino if below else table.number_of(key)
            if ino is not None:
                found.append(ino)
        return found


def of_directory(record: Any) -> bool:
    """Tell whether the key of `record` is the path of a directory."""
    return isinstance(record, Mkdir) or getattr(record, "directory", False)


def _change(sequence: int, record: Record, uid: int | None) -> Change:
    data = getattr(record, "data", None)
    return Change(
        sequence=sequence,
        time=record.time,
        what=type(record).__name__.lower(),
        key=record.key,
        new=getattr(record, "new", None),
        directory=of_directory(record),
        offset=getattr(record, "offset", None),
        size=getattr(record, "size", None) if data is None else len(data),
        uid=uid,
    )


def differences(old: Store, new: Store) -> Iterator[tuple[str, bytes]]:
    """Yield how the keys of `new` differ from those of `old`, sorted: what happened, and the key.

    `ADDED`, `REMOVED`, or `CHANGED` where the value is another one, or its
    owner, its mode or an extended attribute is. Both are of one log.
    """
    merged = heapq.merge(
        ((key, False) for key in old.keys()),  # noqa: SIM118 - sorted, and not one by one
        ((key, True) for key in new.keys()),  # noqa: SIM118
    )
    for key, group in groupby(merged, itemgetter(0)):
        sides = {is_new for _, is_new in group}
        if sides == {True}:
            yield ADDED, key
        elif sides == {False}:
            yield REMOVED, key
        else:
            before, after = _shown(old, key), _shown(new, key)
            # The same bytes may lie elsewhere in the log.
            if before != after and (before[1:] != after[1:] or old.get(key) != new.get(key)):
                yield CHANGED, key


def _shown(store: Store, key: bytes) -> tuple[Any, ...]:
    """Return what tells two values of `key` apart without reading them, mostly."""
    node = store._core.table.look(key)  # noqa: SLF001 - of the same layer
    if not isinstance(node, File):
        return ()
    return node.extents, node.length, node.mode, node.uid, node.gid, node.xattrs
