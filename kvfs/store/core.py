"""What both interfaces of a store share: its files, log, table, clock and lock."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from kvfs import config as store_config
from kvfs.checkpoint import live_of
from kvfs.codec.base import CHUNK
from kvfs.errors import (
    FULL_DISK,
    ClosedError,
    ConfigError,
    CorruptionError,
    MissingSegmentError,
    NoSpaceError,
    PastGoneError,
    ReadOnlyError,
    in_words,
)
from kvfs.log import FULL, Log
from kvfs.records import (
    NO_ATTRS,
    Attrs,
    Delete,
    Mkdir,
    Put,
    Record,
    Relocate,
    Setattr,
    Truncate,
    Write,
    new_tuple,
)
from kvfs.recovery import LogPaths
from kvfs.store import exchange
from kvfs.store.checkpoints import Checkpoints, due_at_close
from kvfs.store.directories import check_directories
from kvfs.store.lock import Lock
from kvfs.store.readers import Reading, make_file
from kvfs.store.reserve import Reserve
from kvfs.table.node import MAX_INO
from kvfs.table.table import MAX_TIME

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Sequence

    from kvfs.checkpoint import Checkpoint
    from kvfs.codec.base import Data
    from kvfs.config import Config
    from kvfs.disk import Disk
    from kvfs.records import Location
    from kvfs.recovery import LogEnd
    from kvfs.store.moment import Moment
    from kvfs.table import Table

_log = logging.getLogger(__name__)
_REALTIME_COARSE = 5
"""CLOCK_REALTIME_COARSE of clock_gettime(2), which Python gives no name."""
_STEP_BACK = 1_000_000_000  # nanoseconds; more is a clock that was set back
_ROOMY = 1024 * 1024
"""Segments with so many bytes hold every record but a put of the text codec."""
_CACHE_BYTES = 16 * 1024 * 1024


class Core:
    """An open store. Use `lock` around everything that reads or changes it."""

    def __init__(
        self,
        disk: Disk,
        path: str,
        config: Config,
        *,
        writable: bool,
        checkpoint_every: int | None = None,
        moment: Moment | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Wrap the store at `path`, as it was at `moment`; nothing is read or locked yet.

        A checkpoint is due after `checkpoint_every` records, or when it is
        worth its cost. `progress` is told of the replay: see `open_store`.
        """
        self.checkpoint_every = checkpoint_every
        self._progress = progress
        self._moment = moment
        self.expires = moment is None
        """Whether what has expired is over: not in a moment of the past."""
        self.disk = disk
        self.path = path
        self.config = config
        self.writable = writable
        self.lock = threading.RLock()
        self.closed = False
        self.checkpoints = Checkpoints(disk, path, config)
        self._checkpoint: Checkpoint | None = None
        """What the table stands on."""
        self.table: Table
        self.log = Log(disk, LogPaths.of(path), config, writable=writable)
        self.tight = self.log.max_record < _ROOMY  # records may not fit
        self.whole = 0 if self.tight or not self.log.codec.atomic else CHUNK
        """So many bytes of a value fit into one record, whatever its key is."""
        self.reserve = Reserve(disk, path)
        self.short = False
        """Whether the room that was set aside is in use, so that only what frees something is written."""
        self.find_room: Callable[[], bool] = lambda: False
        """Called when the disk has no room for a record; tells whether there is any again."""
        self.nameless: Callable[[], set[int]] = set
        """Tells which segments files without a name have data in."""
        self._head = self.log.codec.header_size
        self.on_roll: Callable[[], object] = lambda: None
        """Called when a new segment has got its first record."""
        self.pace: Callable[[int], object] | None = None
        """Called with the bytes of each commit while compaction has to keep up with those."""
        self.witnesses: list[Callable[[Sequence[Record], int], object]] = []
        """Called with the records of each commit, and how many there are in all then."""
        self._flock = Lock(disk, path)
        self._reading = Reading(disk, path)
        self.log.on_failure = self._flock.note_failure
        self._last_time = 0
        self._replay_ino = 0
        self._cache: OrderedDict[Location, Record] = OrderedDict()
        self._cached = 0
        self.hits = self.misses = 0
        """Records that were read from memory, and from the log."""
        self.moved = 0
        """Bytes of records that compaction has appended once more."""
        self.removed = 0
        """Segments that were removed since nobody needed them."""

    def open(
        self, mountpoint: str | None, wait: float = 0, keep_history: str | None = None
    ) -> None:
        """Lock the store if it is writable, and replay its log from the last checkpoint on.

        With `keep_history`, so much of its past is kept from now on. Raises `StoreLockedError`, `CorruptionError` or what the disk says.
        """
        if self.writable:
            self._flock.take(mountpoint, wait)
        try:
            if self.writable:
                # Who made the store may have died before the name of its configuration was safe.
                self.disk.sync_directory(self.path)
            check_directories(self.disk, self.path, make=self.writable)
            if self.writable:
                exchange.finish(self.disk, self.path)
                make_file(self.disk, self.path)
                self._set_history(keep_history)
            else:
                self._reading.begin()
            self._replay_on_any_disk()
        except BaseException:
            self._let_go()
            raise

    def _set_history(self, keep_history: str | None) -> None:
        if keep_history is None or keep_history == self.config.keep_history:
            return
        self.config = store_config.checked(self.config._replace(keep_history=keep_history))
        path = store_config.config_path(self.path)
        self.disk.write_file(path, store_config.dump(self.config))
        self.checkpoints = Checkpoints(self.disk, self.path, self.config)

    def _replay_on_any_disk(self) -> None:
        """Replay; where the disk has no room for what that has to write, in the room set aside for it."""
        try:
            self._replay()
        except OSError as error:
            if error.errno not in FULL_DISK or not self.reserve.release():
                raise
            self._replay()

    def _replay(self) -> None:
        moment = self._moment
        standing = self.checkpoints.stand(moment)
        self.table, self._checkpoint = standing.table, standing.checkpoint
        self.table.nodes.keeps_values = self.writable  # from the replay on
        records = self.log.replay(standing.start, moment.has if moment else None, self._progress)
        try:
            latest = standing.forward(records)
        except MissingSegmentError:
            if moment is None or self.checkpoints.begins_with_log:
                raise
            message = (
                "the store is not kept any more as it was then; kvfs stat tells since when it is"
            )
            raise PastGoneError(message) from None
        if moment and moment.sequence is not None and moment.sequence >= self.log.sequence:
            message = (
                f"there is no record {moment.sequence} yet: the log has {self.log.sequence}"
                " (a number is a record's; a time is written like 2026-11-28)"
            )
            raise ConfigError(message)
        self._last_time = min(latest, time.time_ns())
        self._replay_ino = self.table.next_ino

    def note_mounted(self) -> None:
        """Tell others that the mount that holds the store is there."""
        self._flock.note_mounted()

    def close(self, *, full: bool = False) -> None:
        """Sync and close, with a checkpoint where one is due, as where `full` segments are worth it.

        Raises what the last sync says.
        """
        self.closed = True
        try:
            end = self.log.end
            self.log.close()
            due = self.checkpoint_every or due_at_close(self.table.values)
            if self.writable and (full or end.sequence - self.checkpointed >= due):
                self._make_checkpoint(end)
        finally:
            self._let_go()

    @property
    def checkpointed(self) -> int:
        """How many records come before the checkpoint that the table stands on."""
        return self._checkpoint.position.sequence if self._checkpoint else 0

    def adopt(self, name: str) -> None:
        """Let the table stand on the checkpoint `name`, made since `track`. Raises what the disk says."""
        adopted = self.checkpoints.open(name)
        with self.lock:
            old, self._checkpoint = self._checkpoint, adopted
            self.table.nodes.adopt(adopted)
            if old:
                old.close()

    @property
    def live(self) -> int:
        """How many bytes of the log the nodes of that checkpoint take."""
        return self._checkpoint.live.total() if self._checkpoint else 0

    def live_bytes(self) -> Counter[int]:
        """Return how many bytes of each segment the nodes of the table take."""
        return live_of(self.table, self._checkpoint)

    def _make_checkpoint(self, end: LogEnd) -> None:
        """Make a checkpoint of the log up to its `end`, and let go what that makes free.

        Worth having; no promise hangs on it.
        """
        try:
            kept = self.checkpoints.make((end.segment, end.offset))
            if kept:
                self.remove(kept.free, kept.snapshots, kept.stale)
        except OSError as error:
            _log.warning("no checkpoint was made: %s", in_words(error))
        except MemoryError:
            _log.warning("no checkpoint was made: there is not enough memory")

    def _let_go(self) -> None:
        """Close what the table stands on, and let others have the store."""
        if self._checkpoint is not None:
            self._checkpoint.close()
        self._reading.end()
        self._flock.release()

    def now(self) -> int:
        """Return the time in nanoseconds, less than before only where the clock was set back.

        It has the grain of the kernel's own timestamps, a tick of some
        milliseconds, so that what happens at once carries one time.
        """
        now = time.clock_gettime_ns(_REALTIME_COARSE)
        if not now < self._last_time < now + _STEP_BACK:
            self._last_time = now
        return self._last_time

    def tick(self) -> int:
        """Return a time that is later than any before, for what must not be overtaken."""
        self._last_time = min(self.now() + 1, MAX_TIME - 1)
        return self._last_time

    def after(self, time: int) -> int:
        """Return the time now, or the next after `time` if that is not before it.

        So each change of a file has a ctime of its own, however quickly they come.
        """
        now = self.now()
        return now if now > time else min(time + 1, MAX_TIME - 1)

    def check(self, *, write: bool = False) -> None:
        """Raise `ClosedError`, `ReadOnlyError` or `StoreFailedError` where they hold."""
        if self.closed:
            message = "the store is closed"
            raise ClosedError(message)
        if write:
            if not self.writable:
                message = "the store is open for reading only"
                raise ReadOnlyError(message)
            self.log.check_writable()

    def commit(self, *records: Record) -> None:
        """Append `records` to the log, as one batch where the codec has those, and apply them.

        So nobody who follows the log ever sees what a full disk makes us take back.
        On a full disk, what frees something gets the room that was set aside for it.
        """
        if self.short and not _frees(records) and not self.find_room():
            raise NoSpaceError(FULL)
        try:
            if len(records) == 1:
                location = self.log.append_one(records[0])
                self.table.apply(records[0], location)
                if self.pace or self.witnesses or location.offset == self._head:
                    self._follow(records, (location,))
                return
            locations = self.log.append(records, atomic=True)
            for record, location in zip(records, locations, strict=True):
                self.table.apply(record, location)
            self._follow(records, locations)
        except CorruptionError as error:
            self.log.fail(f"a record that was logged cannot be applied ({error})")
            raise
        except NoSpaceError:
            self.find_room()
            if not (_frees(records) and self.reserve.release()):
                raise
            self.short = True
            self.commit(*records)

    def _follow(self, records: Sequence[Record], locations: Sequence[Location]) -> None:
        """Let those know of what was committed who have to keep up with it."""
        if any(location.offset == self._head for location in locations):
            self.on_roll()
        for witness in self.witnesses:
            witness(records, self.log.sequence)
        if self.pace:
            self.pace(sum(location.length for location in locations))

    def let_go(self, numbers: Iterable[int]) -> set[int]:
        """Close the segments `numbers`, which may go; return those that are still in use.

        That is by files without a name, until they are closed.
        """
        used = self.nameless()
        for number in numbers:
            if number not in used:
                self.log.forget(number)
        return used & set(numbers)

    def remove(self, numbers: Iterable[int], snapshots: list[int], stale: Iterable[str]) -> bool:
        """Remove segments that were let go; see `remove_segments`."""
        from kvfs.store.compaction import remove_segments

        going = sorted(numbers)
        gone = remove_segments(self.disk, self.path, going, snapshots, stale) if going else 0
        self.removed += gone or 0
        return gone is not None

    def relocate(self, records: Sequence[Record]) -> None:
        """Append `records`, which change nothing but where something lies. Raises as `append` does."""
        locations = self.log.append(records, atomic=True)
        for record, location in zip(records, locations, strict=True):
            self.table.apply(record, location)
            self.moved += location.length

    def put(self, key: bytes, value: bytes, time: int, *, new: bool) -> None:
        """Commit that a `new` file, or one that nobody uses, has `value` since `time`."""
        record = new_tuple(Put, (key, value, NO_ATTRS, time))
        if len(value) > self.whole or (
            new and (b"/" in key or self.table.next_ino != self._replay_ino)
        ):
            self._put_whole(record, new=new)
            return
        self.commit(record)  # by far the most common
        if new:
            self._replay_ino += 1

    def _put_whole(self, record: Any, *, new: bool) -> None:
        if new:
            self.create(record._replace(data=b""), value=record.data)
        else:
            self.commit(*self.put_parts(record._replace(data=b""), record.data))

    def create(
        self, record: Any, *more: Record, value: bytes | None = None, ino: int | None = None
    ) -> int:
        """Commit `record`, which makes a node, and `more` behind it as one batch.

        Returns the number of the node. A put has its data in `value`, to be cut as needed. `ino` is the number
        of the node if the table has it already. The number goes into the
        record only where a replay would count to another.
        """
        missing = self.table.missing(record.key)
        number = self.table.next_ino + missing if ino is None else ino
        if number >= MAX_INO:
            raise NoSpaceError("there are no inode numbers left")
        if number != self._replay_ino + missing:
            record = record._replace(attrs=record.attrs._replace(ino=number))
        parts = (record,) if value is None else self.put_parts(record, value)
        self.commit(*parts, *more)
        if number >= self._replay_ino:
            self._replay_ino = number + 1
        return number

    def commit_batch(self, records: Iterable[Record]) -> None:
        """Commit `records` as one batch. Those that make a node have any number, and get a free one.

        So do those that make a directory if it is not there, with a number or without.

        They are to fit each other and the table, and to make no directories by the way but where
        they make a node. Raises as `commit` does.
        """
        number = before = max(self.table.next_ino, self._replay_ino)
        numbered: list[Any] = []
        for record in records:
            made: Any = record
            if isinstance(record, Mkdir) or getattr(record, "attrs", NO_ATTRS).ino is not None:
                number += record.key.count(b"/") + 1  # as many directories may come with it
                made = made._replace(attrs=made.attrs._replace(ino=number - 1))
            numbered.append(made)
        if number >= MAX_INO:
            raise NoSpaceError("there are no inode numbers left")
        self.commit(*numbered)
        if self.table.next_ino > before:
            self._replay_ino = self.table.next_ino

    def move(self, record: Any) -> None:
        """Commit a rename or a link, which make directories on the way to `record.new`.

        Such records name no number, so where a replay would count to another
        than the table, the directories are logged before.
        """
        missing = self.table.missing(record.new)
        if missing and self._replay_ino != self.table.next_ino:
            parts = record.new.split(b"/")
            for end in range(len(parts) - missing, len(parts)):
                self.create(Mkdir(b"/".join(parts[:end]), time=record.time))
            missing = 0
        self.commit(record)
        self._replay_ino += missing

    def check_fits(self, record: Record) -> None:
        """Raise `RecordTooLargeError` if `record`, to be logged later, will not fit."""
        if self.tight:
            self.log.check_fits(record)

    def read_record(self, location: Location) -> Any:
        """Return the record at `location`, verified; the latest ones are kept.

        Raises `CorruptionError`.
        """
        record = self._cache.get(location)
        if record is not None:
            self._cache.move_to_end(location)
            self.hits += 1
            return record
        self.misses += 1
        record = self.log.read(location)
        self._cached += location.length
        while self._cached > _CACHE_BYTES and self._cache:
            oldest, _ = self._cache.popitem(last=False)
            self._cached -= oldest.length
        self._cache[location] = record
        return record

    def value_at(self, location: Location, size: int) -> bytes:
        """Return a value of `size` bytes, the first of those that the record at `location` has.

        Raises `CorruptionError`.
        """
        record: Any = self.log.read(location) if size else None
        data: bytes = record.data if record else b""
        if len(data) < size:
            message = f"the record at {location} does not hold the {size} bytes of its value"
            raise CorruptionError(message)
        return data if len(data) == size else data[:size]

    def put_parts(self, record: Any, value: bytes) -> tuple[Record, ...]:
        """Return `record`, a put without data, and what must follow it, for `value`.

        A codec with batches cuts a large value into records; others hold it in
        one line or not at all. The writes among them would give it their own time,
        so an mtime that was set is said once more behind them.
        """
        codec = self.log.codec
        if len(value) <= self.whole or not codec.atomic:
            return (Put(record.key, value, record.attrs, record.time),)
        first = max(codec.chunk(record, self.log.max_record), 0)
        parts: list[Record] = [record._replace(data=value[:first])]
        parts += self.write_parts(Write(record.key, 0, b"", record.time), first, value[first:])
        if record.attrs.mtime is not None:
            parts.append(Setattr(record.key, Attrs(mtime=record.attrs.mtime), time=record.time))
        return tuple(parts)

    def write_parts(self, record: Any, offset: int, data: Data) -> Sequence[Record]:
        """Return the records that put `data`, which they do not copy, at `offset`, like `record`.

        That is a write, or it relocates.
        """
        if not data:
            return ()
        kind: type[Write | Relocate] = type(record)
        if len(data) <= self.whole:
            return (kind(record.key, offset, data, record.time),)
        chunk = max(self.log.codec.chunk(record, self.log.max_record), 1)
        view = memoryview(data)
        return [
            kind(record.key, offset + start, view[start : start + chunk], record.time)
            for start in range(0, len(data), chunk)
        ]


def _frees(records: Sequence[Record]) -> bool:
    """Tell whether `records` make something free sooner than they take room.

    A directory may be kept before what is in it goes.
    """
    return all(isinstance(record, Delete | Truncate) for record in records[-1:]) and all(
        isinstance(record, Delete | Truncate | Mkdir) for record in records[:-1]
    )
