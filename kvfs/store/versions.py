"""Every value that a key has had, as the log has them.

Found by one reading of the log. What is kept of a version is where its bytes
lie, and where it only adds to the one before it, or cuts that, only this: a
file of a thousand appends has a thousand versions, and not a million extents.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from kvfs import keys
from kvfs.disk import Disk
from kvfs.records import Link, Put, Relocate, Rename, Truncate, Write
from kvfs.recovery import LogPaths
from kvfs.segment import name_of
from kvfs.store.history import Reading
from kvfs.table import File
from kvfs.table.content import Extent, cut, overlay, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_VALUES = (Put, Write, Truncate)
_CONTENTS = (*_VALUES, Relocate)


class Version(NamedTuple):
    """The value that a key has had since a record, and the mode and owner of its file then.

    `sequence` and `time` (ns since 1970) are those of the record; of what is older than
    the log, those of the first moment that is kept, and of its last change. Where `whole`, the
    `extents` are all that the value has, else what it has over the version before.
    """

    sequence: int
    time: int
    size: int
    mode: int
    uid: int
    gid: int
    extents: tuple[Extent, ...]
    whole: bool


class Versions(NamedTuple):
    """What a reading of the first `records` records of a log says of a key.

    `found` are its versions, the oldest first, by sequence number; `names` are
    those that there ever were below it, as below a directory; `seen` tells whether
    anything was ever at its path.
    """

    records: int
    found: dict[int, Version]
    names: frozenset[bytes]
    seen: bool

    def extents(self, sequence: int) -> list[Extent]:
        """Return where the bytes of the version `sequence` lie."""
        line: list[Version] = []
        for version in self.found.values():
            line = [version] if version.whole else [*line, version]
            if version.sequence == sequence:
                break
        return _laid(line)


def versions(path: str, key: bytes, disk: Disk | None = None) -> Versions:
    """Read the log of the store at `path`, beside a mount or alone, for what it has of `key`.

    Raises as `changes` does.
    """
    reading = Reading(disk or Disk(), os.path.abspath(path))
    following = _Following(reading, key)
    for sequence, record, _ in reading.applied(begun=following.begin):
        following.note(sequence, record)
    names = frozenset(following.names)
    return Versions(following.records, following.found, names, following.seen)


def are_kept(path: str, extents: Iterable[Extent], disk: Disk | None = None) -> bool:
    """Tell whether the segments of the store at `path` that `extents` lie in are there still."""
    disk, segments = disk or Disk(), LogPaths.of(path).segments
    try:
        for number in {extent.location.segment for extent in extents}:
            disk.stat(os.path.join(segments, name_of(number)))
    except FileNotFoundError:
        return False
    return True


class _Following:
    """Follows a key through a reading of the log."""

    def __init__(self, reading: Reading, key: bytes) -> None:
        self._reading = reading
        self._key = key
        self._below = key + b"/" if key else b""
        self._ino: int | None = None
        """The number of the file that the key names."""
        self._linked = False
        """Whether that has another name."""
        self._batch: list[Any] = []
        """The records of the batch so far, if any, that have to do with the key."""
        self.found: dict[int, Version] = {}
        self.names: set[bytes] = set()
        self.seen = False
        self.records = 0

    def begin(self, first: int) -> None:
        """Note what there is before the first record, where the log does not begin with the store."""
        self.records = first
        if not first:
            return
        table = self._reading.table
        directory = table.find_directory(self._key)
        self.names.update(directory.entries if directory else ())
        ino = table.number_of(self._key)
        node = None if ino is None else table.nodes.look(ino)
        self.seen = directory is not None or node is not None
        if isinstance(node, File):
            self._ino, self._linked = ino, node.nlink > 1
            self.found[first - 1] = _whole(first - 1, node.mtime, node)

    def note(self, sequence: int, record: Any) -> None:
        """Note the record that was read last."""
        self.records = sequence + 1
        key, new = record.key, getattr(record, "new", None)
        for path in (key,) if new is None else (key, new):
            if path == self._key:
                self.seen = True
            elif path.startswith(self._below):
                self._note_below(path)
        if self._concerns(record) or self._key in (key, new):
            self._batch.append(record)
        if self._batch and self._reading.whole:
            self._look(sequence, self._batch)
            self._batch = []

    def _note_below(self, path: bytes) -> None:
        """Note the name that leads from the key to `path`, which is below it."""
        name = path[len(self._below) :].split(b"/", 1)[0]
        if name not in self.names and keys.split(path):
            self.names.add(name)
            self.seen = True

    def _concerns(self, record: Any) -> bool:
        """Tell whether `record` has to do with the key though it may not name it.

        It may be about another name of its file, or about a directory at or above the key.
        """
        kind = type(record)
        if kind is Rename:
            return self._is_moved(record)
        if self._ino is None or not (kind is Link or (self._linked and kind in _CONTENTS)):
            return False
        return self._reading.table.number_of(record.key) == self._ino

    def _is_moved(self, record: Rename) -> bool:
        """Tell whether a directory at or above the key has come there, or gone."""
        if not (record.directory or record.new_directory):
            return False
        if not any((self._key + b"/").startswith(path + b"/") for path in (record.key, record.new)):
            return False
        table = self._reading.table
        directory = table.find_directory(self._key)
        self.names.update(directory.entries if directory else ())
        self.seen |= directory is not None or table.number_of(self._key) is not None
        return True

    def _look(self, sequence: int, records: Sequence[Any]) -> None:
        """See what the key names now; what `records` have done may have given it another value."""
        table = self._reading.table
        ino = table.number_of(self._key)
        node = None if ino is None else table.nodes.look(ino)
        if not isinstance(node, File):
            self._ino = None
            return
        same, self._ino = ino == self._ino, ino
        self._linked = node.nlink > 1
        if same and not any(isinstance(record, _VALUES) for record in records):
            if any(isinstance(record, Relocate) for record in records):
                last = self.found[next(reversed(self.found))]
                lies = _whole(last.sequence, last.time, node)
                self.found[last.sequence] = last._replace(extents=lies.extents, whole=True)
            return
        record, *others = records
        partial = same and not others and isinstance(record, Write | Truncate)
        version = _whole(sequence, records[-1].time, node)
        if partial:
            end = record.offset + len(record.data) if isinstance(record, Write) else 0
            added = within(node.extents, record.offset, end) if end else ()
            version = version._replace(extents=tuple(added), whole=False)
        self.found[sequence] = version


def _whole(sequence: int, time: int, file: File) -> Version:
    look = file.length, file.mode, file.uid, file.gid
    return Version(sequence, time, *look, tuple(file.extents), whole=True)


def _laid(line: Sequence[Version]) -> list[Extent]:
    """Return the extents of the last of `line`, of which each but the first builds on the one before."""
    laid: list[Extent] = []
    for version in line:
        cut(laid, version.size)
        for extent in version.extents:
            overlay(laid, extent)
    return laid
