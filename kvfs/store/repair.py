"""Salvaging a damaged store: every record that still verifies, and a list of what is lost.

The salvaged records become a new log beside the old one; then the two change
places in one step, and the old segments stay in `quarantine/`, untouched. So a
crash leaves the damaged store or the repaired one, and nothing is cut that is
not kept.

What is lost can make what follows it wrong, so it is not applied blindly:

- of a batch that is not whole, nothing is kept;
- a value that has lost a part stays what it was before that, and takes no
  further changes in place until it is replaced as a whole;
- a record that fits no state any more, such as a write to a file whose
  creation is lost, is lost too.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from kvfs.codec import BadRecordError
from kvfs.disk import Disk
from kvfs.errors import KvfsError
from kvfs.log import Log
from kvfs.records import Location, Put, Setxattr, Truncate, Write
from kvfs.recovery import LogPaths, read_clean
from kvfs.segment import check_header, name_of, number_of
from kvfs.store.core import check_directories
from kvfs.store.kv import read_config
from kvfs.store.lock import Lock
from kvfs.table import File, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvfs.codec import Codec
    from kvfs.config import Config
    from kvfs.records import Record

_WORK = "segments.repair"
_HEADER = "header"
_BATCH = "its batch is not whole"
_STALE = "it changes a value that has lost an earlier part"
_CONTENT = {layout.__name__ for layout in (Put, Write, Truncate)}


class Lost(NamedTuple):
    """Bytes that could not be salvaged: where, how many, and why.

    `record` is the type of record that they seem to be, or "header" for the
    head of a segment; `key` is its key. Both are None where nothing tells. A
    missing segment has the length 0.
    """

    segment: str
    offset: int
    length: int
    reason: str
    record: str | None = None
    key: bytes | None = None


class Fate(NamedTuple):
    """What became of a key that has lost a record.

    `state` is "replaced" if a later put made the loss void, "older" if the key
    has a value from before, "gone" if it has none. `now` is the key of that
    value, another one where it was renamed; `size` and `mtime` (ns) are its.
    """

    key: bytes
    state: str
    now: bytes | None = None
    size: int | None = None
    mtime: int | None = None


class Repair(NamedTuple):
    """What `repair` did: what is lost, what became of those keys, and where the old log is kept."""

    lost: list[Lost]
    fates: list[Fate]
    records: int
    kept: str


class _Piece(NamedTuple):
    """A record of the old log, or bytes that are none.

    `more` tells whether its batch goes on; `lost` is the entry for the list,
    should it not be kept.
    """

    record: Record | None
    more: bool
    lost: Lost


def repair(path: str, progress: Callable[[int, int], object] | None = None) -> Repair:
    """Salvage the store at `path`, which nobody else may have open for writing.

    `progress` is called with the bytes done and the bytes in all. Raises
    `StoreLockedError`, `NotAStoreError`, `ConfigError`, or what the disk says;
    then nothing has changed.
    """
    disk = Disk()
    path = os.path.abspath(path)
    config = read_config(path, disk)
    lock = Lock(disk, path)
    lock.take(None)
    try:
        check_directories(disk, path, make=True)
        return _repair(disk, path, config, progress)
    finally:
        lock.release()


def _repair(
    disk: Disk, path: str, config: Config, progress: Callable[[int, int], object] | None
) -> Repair:
    work = os.path.join(path, _WORK)
    quarantine = os.path.join(path, "quarantine")
    segments = os.path.join(path, "segments")
    with suppress(FileNotFoundError):
        disk.rename(work, _free_name(disk, quarantine))  # of a repair that did not come to its end
    disk.mkdir(work)
    log = Log(disk, LogPaths(work, quarantine, os.path.join(work, "clean")), config, writable=True)
    owner = disk.stat(path)
    salvage = _Salvage(log, Table(owner.st_uid, owner.st_gid, config.created))
    try:
        for _ in log.replay():
            pass
        for piece in _pieces(disk, path, config, progress):
            salvage.take(piece)
        salvage.end()
        log.close()
        with suppress(FileNotFoundError):
            disk.unlink(os.path.join(work, "clean"))
        disk.sync_directory(work)
    except BaseException:
        with suppress(OSError):
            log.close()
        for name in disk.list(work):
            disk.unlink(os.path.join(work, name))
        disk.rmdir(work)
        raise
    # It speaks of the old log, and must not come back beside the new one.
    with suppress(FileNotFoundError):
        disk.unlink(os.path.join(path, "clean"))
        disk.sync_directory(path)
    disk.exchange(segments, work)
    disk.sync_directory(path)
    kept = _free_name(disk, quarantine)
    disk.rename(work, kept)
    disk.sync_directory(quarantine)
    disk.sync_directory(path)
    return Repair(salvage.lost, salvage.fates(), log.sequence, kept)


def _free_name(disk: Disk, quarantine: str) -> str:
    taken = set(disk.list(quarantine))
    number = 1
    while f"segments.{number}" in taken:
        number += 1
    return os.path.join(quarantine, f"segments.{number}")


class _Salvage:
    """Tells the records that go into the new log from those that do not."""

    def __init__(self, log: Log, table: Table) -> None:
        self._log = log
        self._table = table
        self._batch: list[_Piece] = []
        self._after_loss = False
        self._stale: set[int] = set()  # inode numbers of files that have lost a part
        self._fates: dict[bytes, tuple[str, int | None]] = {}  # state and inode number by key
        self.lost: list[Lost] = []

    def take(self, piece: _Piece) -> None:
        """Take the next piece of the old log."""
        if piece.lost.record == _HEADER:
            self.lost.append(piece.lost)  # no record is lost by it
            return
        if piece.record is None:
            self._drop_batch()
            self._lose(piece.lost)
            self._after_loss = True
            return
        self._batch.append(piece)
        if piece.more:
            return
        # No batch begins with these: what is lost may be the beginning of this one.
        single = len(self._batch) == 1
        rest = Write if single else Write | Setxattr
        if self._after_loss and isinstance(self._batch[0].record, rest):
            self._drop_batch()
        else:
            self._keep_batch()
        self._after_loss = False

    def end(self) -> None:
        """Note that the old log ends here."""
        self._drop_batch()

    def fates(self) -> list[Fate]:
        """Return what became of each key that has lost a record, in the order of the losses."""
        found = []
        for key, (state, ino) in self._fates.items():
            node = self._table.node(ino) if ino is not None else self._table.find(key)
            if isinstance(node, File):
                now = self._table.key_of(node)
                found.append(Fate(key, state, now, node.size, node.mtime))
            else:
                found.append(Fate(key, "gone"))
        return found

    def _keep_batch(self) -> None:
        kept: list[Record] = []
        for piece in self._batch:
            record: Any = piece.record
            node = self._table.find(record.key)
            if isinstance(record, Write | Truncate) and node and node.ino in self._stale:
                self.lost.append(piece.lost._replace(reason=_STALE))
                continue
            try:
                self._log.check_fits(record)
                self._table.apply(record, Location(1, piece.lost.offset, piece.lost.length))
            except KvfsError as error:
                self._lose(piece.lost._replace(reason=str(error)))
            else:
                kept.append(record)
                if isinstance(record, Put):
                    self._note_whole(record.key)
        self._table.detached.clear()
        self._batch.clear()
        if kept:
            self._log.append(kept, atomic=len(kept) > 1)

    def _note_whole(self, key: bytes) -> None:
        """Note that `key` has a value that no loss has touched."""
        node = self._table.find(key)
        if node is not None:
            self._stale.discard(node.ino)
            if key in self._fates:
                self._fates[key] = ("replaced", node.ino)

    def _drop_batch(self) -> None:
        for piece in self._batch:
            self._lose(piece.lost._replace(reason=_BATCH))
        self._batch.clear()

    def _lose(self, lost: Lost) -> None:
        self.lost.append(lost)
        if lost.key is None:
            return
        node = self._table.find(lost.key)
        if isinstance(node, File):
            self._fates[lost.key] = ("older", node.ino)
            if lost.record in _CONTENT:
                self._stale.add(node.ino)
        else:
            self._fates[lost.key] = ("older", None)


def _pieces(
    disk: Disk, path: str, config: Config, progress: Callable[[int, int], object] | None
) -> Iterator[_Piece]:
    """Yield the whole log in pieces: records that verify, and what is between them."""
    directory = os.path.join(path, "segments")
    numbers = {n for name in disk.list(directory) if (n := number_of(name)) is not None}
    sizes = {n: disk.stat(os.path.join(directory, name_of(n))).st_size for n in numbers}
    clean = read_clean(disk, os.path.join(path, "clean")) or (0, 0)
    total, done = sum(sizes.values()), 0
    count: int | None = 0  # of the records so far; None where some may be missing
    for number in range(1, max(clean[0], *numbers, 0) + 1):
        name = name_of(number)
        if number not in numbers:
            yield _Piece(None, more=False, lost=Lost(name, 0, 0, "the segment is missing"))
            count = None
            continue
        data = disk.read_file(os.path.join(directory, name))
        first = _first(config, number, data)
        if count is not None and first is not None and first > count:
            before = name_of(number - 1)
            reason = f"{first - count} records are missing at its end"
            yield _Piece(None, more=False, lost=Lost(before, sizes.get(number - 1, 0), 0, reason))
        count = count if first is None else first
        for piece in _pieces_of(config.codec(), config.id, number, data):
            yield piece
            if piece.lost.record is None:
                count = None
            elif count is not None and piece.lost.record != _HEADER:
                count += 1
        if number == clean[0] and len(data) < clean[1]:
            short = Lost(name, len(data), clean[1] - len(data), "it was there at the last close")
            yield _Piece(None, more=False, lost=short)
        done += len(data)
        if progress:
            progress(done, total)


def _first(config: Config, number: int, data: bytes) -> int | None:
    """Return the sequence number of the first record of a segment, if its head tells."""
    try:
        return check_header(config.codec(), config.id, number, data)
    except BadRecordError:
        return None


def _pieces_of(codec: Codec, store_id: bytes, number: int, data: bytes) -> Iterator[_Piece]:
    name = name_of(number)
    try:
        check_header(codec, store_id, number, data)
    except BadRecordError as error:
        length = min(codec.header_size, len(data))
        yield _Piece(None, more=False, lost=Lost(name, 0, length, error.reason, _HEADER))
    offset = codec.header_size
    while offset < len(data):
        try:
            for record, at, length, more, _ in codec.scan(data, number, offset):
                lost = Lost(name, at, length, "", type(record).__name__, record.key)
                yield _Piece(record, more, lost)
            offset = len(data)
        except BadRecordError as error:
            following = next(codec.resync(data, number, error.offset), None)
            end = following.offset if following else len(data)
            yield from _losses(codec, name, data[:end], error)
            offset = end


def _losses(codec: Codec, name: str, data: bytes, error: BadRecordError) -> Iterator[_Piece]:
    """Yield what lies at the end of `data`, from the place of `error` on, one record after another."""
    offset = error.offset
    while offset < len(data):
        seeming = codec.seeming(data, offset)
        left = len(data) - offset
        if seeming is None:
            yield _Piece(None, more=False, lost=Lost(name, offset, left, error.reason))
            return
        behind = offset + seeming.length
        whole = behind == len(data) or codec.seeming(data, behind) is not None
        length = seeming.length if whole else left
        lost = Lost(name, offset, length, error.reason, seeming.record, seeming.key)
        yield _Piece(None, more=False, lost=lost)
        offset += length
