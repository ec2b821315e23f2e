"""The log: a directory of segments, appended to at its end.

Rules. A record lies in one segment, whole. A segment is synced and never
written again before a byte goes to the next. A batch replays whole or not at
all, also where it spans segments. What the disk refuses is taken back, so the
log always ends with a whole record; after any refusal but for want of room,
descriptors or memory no more is written.

Appends come from one thread at a time (the store sees to that); `sync` may run
beside them in another.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from kvfs.codec import BadRecordError, Place
from kvfs.errors import (
    FULL_DISK,
    CorruptionError,
    KvfsError,
    NoSpaceError,
    RecordTooLargeError,
    StoreFailedError,
)
from kvfs.histogram import Histogram
from kvfs.records import Location, new_tuple
from kvfs.recovery import LogEnd, LogPaths, Replay
from kvfs.segment import Segment, damaged, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvfs.codec import Codec
    from kvfs.codec.base import Data
    from kvfs.config import Config
    from kvfs.disk import Disk
    from kvfs.records import Record

FULL = "no space left on the disk of the store"
_OPEN_FILES = 32
_SMALL = 320 * 1024  # bytes that a segment has in any case, if it may
_SHARE = 64  # of the disk is a segment, at most
_PARTS = 512
"""Parts to write at once: half of what the system takes (IOV_MAX)."""
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EFBIG)
"""A limit of the process or the machine; the disk is sound."""


class Log:
    """The log of one store, for reading or for appending.

    Replay first, to the end; then `append` and `read`.
    """

    def __init__(self, disk: Disk, paths: LogPaths, config: Config, *, writable: bool) -> None:
        """Prepare; nothing is read yet."""
        self._disk = disk
        self._paths = paths
        self._config = config
        self.codec: Codec = config.codec()
        self._writable = writable
        self._active: Segment | None = None
        self._directory: int | None = None
        """The directory of the segments, open from `replay` to `close`."""
        self._newest = 0  # the number of the last segment there is
        self._readers: dict[int, Segment] = {}
        self._sync_lock = threading.Lock()
        self._failure: str | None = None
        self.on_failure: Callable[[str], object] = lambda _reason: None
        """Called once, with the reason, when no more writes are taken."""
        self._marked_clean = False
        self._unrestored: tuple[int, int] | None = None
        """Segment and size to cut the log back to, if a full disk did not let us."""
        self.sequence = 0
        self.synced = 0
        self.lost = 0
        self.replayed = 0
        """Bytes that the replay went through."""
        self.replayed_end = LogEnd(0, 0, 0)
        """Where the replay came to its end."""
        self.syncs = Histogram()
        """How long the syncs of segments took."""
        self.last_sync = 0
        """When the last one was done, in nanoseconds since 1970; 0 before that."""
        self._rolled = 0  # bytes of segments that were full since
        self._limit = _limit(disk, paths, config)
        self.max_record = config.max_segment_size - self.codec.header_size

    def replay(
        self,
        start: LogEnd | None = None,
        has: Callable[[int, int], bool] | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Iterator[tuple[Record, Location]]:
        """Yield every record from `start` on with its place, in order, and make ready to append.

        With `has`, for reading only, the log ends where that says, and `progress`
        is told how far it has come: see `Replay`.
        A torn tail is left out and, where the log is writable, moved to
        quarantine. Raises `CorruptionError` at damage anywhere else; then, and
        where not all is taken, every file is closed.
        """
        self._directory = self._disk.open_directory(self._paths.segments)
        try:
            replay = Replay(
                self._disk,
                self._paths,
                self._config,
                self._directory,
                start,
                has=has,
                progress=progress,
            )
            yield from replay.records()
            end = self.replayed_end = replay.end
            self.lost = replay.lost
            self.sequence = self.synced = end.sequence
            self.replayed = sum(replay.sizes.values()) - (start.offset if start else 0)
            if self._writable:
                replay.cut_tail()
                self._newest = end.segment
                self._rolled = -end.offset
                if end.segment:
                    self._active = self._open(end.segment, writable=True)
                    # What an earlier process left unsynced is made safe before it is built upon.
                    # It is written once more: the system forgets what it could not sync, and
                    # says so once.
                    self._disk.sync_directory(self._paths.segments)
                    if not replay.clean:
                        self._active.rewrite(replay.synced)
                    self._active.sync()
                self._marked_clean = replay.clean
        except BaseException:
            self._close_files()
            raise

    def append(self, records: Sequence[Record], *, atomic: bool = False) -> list[Location]:
        """Append `records` and return their places; `atomic` ties them into a batch.

        They survive the death of the process on return, and a power cut after
        the next `sync`. Raises `RecordTooLargeError` or `NoSpaceError` with
        nothing written, `StoreFailedError` if the disk fails.
        """
        if self._failure:
            self.check_writable()
        last = len(records) - 1
        parts_of, room = self.codec.parts, self.max_record
        encoded = []
        for index, record in enumerate(records):
            parts = parts_of(record, more=atomic and index < last)
            check_length(record, len(parts[0]) + len(parts[1]), room)
            encoded.append(parts)
        if self._unrestored:
            self._finish_restoring()
        mark = self.end
        try:
            self._unmark_clean()
            return self._write(encoded)
        except (OSError, MemoryError) as error:
            self._refuse(mark, error)
            raise

    def append_one(self, record: Record) -> Location:
        """Append one record and return its place; `append`, where all is as it mostly is."""
        active = self._active
        if active is None or self._failure or self._unrestored or self._marked_clean:
            return self.append((record,))[0]
        number, offset = active.number, active.size
        raw = self.codec.encode_at(record, number, offset, active.synced)
        if offset + len(raw) > self._limit:
            return self.append((record,))[0]
        try:
            self._disk.write(active.fd, raw, offset)
        except (OSError, MemoryError) as error:
            self._refuse(LogEnd(number, offset, self.sequence), error)
            raise
        active.grow(len(raw))
        self.sequence += 1
        location: Location = new_tuple(Location, (number, offset, len(raw)))
        return location

    def read(self, location: Location) -> Record:
        """Return the record at `location`, verified.

        Raises `CorruptionError` if its bytes are not what was written.
        """
        try:
            raw = self._segment(location.segment).read(location.offset, location.length)
            return self.codec.decode(raw, location.segment, location.offset)
        except BadRecordError as error:
            raise damaged(location.segment, error, location.offset) from None
        except FileNotFoundError:
            message = f"segment {name_of(location.segment)} is missing"
            raise CorruptionError(message) from None
        except OSError as error:
            name = name_of(location.segment)
            message = f"segment {name} cannot be read at offset {location.offset}: {error.strerror}"
            raise KvfsError(message, error.errno) from error

    def sync(self) -> None:
        """Return once everything appended before the call is on stable storage.

        Raises `StoreFailedError` if that failed, now or before: what an fsync
        lost is lost, so it is never tried again.
        """
        with self._sync_lock:
            self.check_writable()
            target = self.sequence
            if target > self.synced and self._active:
                self._sync_active(self._active)
                self.synced = target

    @property
    def end(self) -> LogEnd:
        """Where the next record goes, if it fits; 0 and 0 in a log without segments, or for reading."""
        active = self._active
        number, size = (active.number, active.size) if active else (0, 0)
        return LogEnd(number, size, self.sequence)

    @property
    def written(self) -> int:
        """How many bytes were appended since the replay."""
        active = self._active
        return self._rolled + (active.size if active else 0)

    @property
    def stable(self) -> tuple[int, int]:
        """A segment, and an offset in it, up to which the log is on stable storage."""
        with self._sync_lock:
            active = self._active
            return (active.number, active.synced) if active else (0, 0)

    def roll(self) -> None:
        """Begin a new segment, if the last one has any record; all before it is stable on return.

        Raises as `append` does.
        """
        self.check_writable()
        if self._unrestored:
            self._finish_restoring()
        if self._active is None or self._active.size <= self.codec.header_size:
            return
        mark = self.end
        try:
            self._unmark_clean()
            self._roll()
            with self._sync_lock:
                self._sync_active(self._active)
        except (OSError, MemoryError) as error:
            self._refuse(mark, error)
            raise

    def forget(self, number: int) -> None:
        """Close the segment `number`, which is to go, if it is open for reading."""
        segment = self._readers.pop(number, None)
        if segment:
            segment.close()

    def check_fits(self, record: Record) -> None:
        """Raise `RecordTooLargeError` if `record` does not fit into a segment."""
        check_length(record, len(self.codec.encode(record)), self.max_record)

    @property
    def failed(self) -> bool:
        """Whether the log takes no more writes."""
        return self._failure is not None

    def fail(self, reason: str) -> None:
        """Take no more writes, because of `reason`."""
        if self._failure is None:
            self._failure = reason
            self.on_failure(reason)

    def check_writable(self) -> None:
        """Raise `StoreFailedError` if the log takes no more writes."""
        if self._failure:
            message = f"the store takes no more writes: {self._failure}"
            raise StoreFailedError(message)

    def close(self) -> None:
        """Sync, note that the log ends whole, and close every file.

        Raises `StoreFailedError` if the sync failed; the files are closed all
        the same.
        """
        try:
            if self._writable and self._failure is None:
                self.sync()
                if self._active and not self._marked_clean and not self._unrestored:
                    # Worth having, but no promise hangs on it.
                    with suppress(OSError):
                        self._disk.write_file(self._paths.clean, LogEnd.dump(*self.end))
        finally:
            self._close_files()

    def _close_files(self) -> None:
        for segment in self._readers.values():
            segment.close()
        self._readers.clear()
        if self._active:
            self._active.close()
            self._active = None
        if self._directory is not None:
            self._disk.close(self._directory)
            self._directory = None

    def _unmark_clean(self) -> None:
        """Remove the file that says where the log was closed: it goes on from there."""
        if self._marked_clean:
            self._disk.unlink(self._paths.clean)
            self._marked_clean = False

    def _write(self, encoded: list[tuple[bytes, Data]]) -> list[Location]:
        """Write the records, rolling to a new segment where one does not fit."""
        locations: list[Location] = []
        run: list[Data] = []
        size = 0
        for raw, data in encoded:
            length = len(raw) + len(data)
            if not self._has_room(size + length) or len(run) >= _PARTS:
                self._flush_run(run)
                run, size = [], 0
                if not self._has_room(length):
                    self._roll()
            active = self._active
            assert active is not None
            place = Place(active.number, active.size + size, active.synced)
            locations.append(Location(place.number, place.offset, length))
            run += (self.codec.seal(raw, place, data), data)
            size += length
        self._flush_run(run)
        return locations

    def _has_room(self, length: int) -> bool:
        """Tell whether `length` more bytes fit into the active segment."""
        return self._active is not None and self._active.size + length <= self._limit

    def _flush_run(self, run: list[Data]) -> None:
        """Append records, each in two parts."""
        if run and self._active:
            self._active.append(run)
            self.sequence += len(run) // 2

    def _roll(self) -> None:
        """Close the active segment and begin the next."""
        if self._active:
            with self._sync_lock:
                if self.synced < self.sequence:
                    self._sync_active(self._active)
                    self.synced = self.sequence
                previous = self._active
                self._rolled += previous.size
                self._active = None
            self._keep(previous)
        number = self._newest + 1
        self._active = Segment.create(
            self._disk, self._paths.segments, number, self.codec, self._config.id, self.sequence
        )
        self._newest = number

    def _refuse(self, mark: LogEnd, error: OSError | MemoryError) -> None:
        """Take back what was written behind `mark`, and raise why."""
        if isinstance(error, MemoryError):
            error = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        self._take_back(mark, error)

    def _take_back(self, mark: LogEnd, error: OSError) -> None:
        """Cut the log back to `mark` after a refused write, and say why as `error`."""
        number, size, sequence = mark
        try:
            self._restore(number, size)
        except OSError as second:
            if second.errno in (*FULL_DISK, *_SHORT):
                self._unrestored = number, size
            else:
                self.fail(f"taking back a refused write failed ({second})")
        self.sequence = sequence
        self.synced = min(self.synced, sequence)
        if isinstance(error, StoreFailedError):
            raise error
        if error.errno in FULL_DISK and self._failure is None:
            raise NoSpaceError(FULL) from error
        if error.errno in _SHORT and self._failure is None:
            message = f"the record could not be written: {error.strerror}"
            raise KvfsError(message, error.errno) from error
        self.fail(f"a write failed ({error})")
        self.check_writable()

    def _restore(self, number: int, size: int) -> None:
        if self._active and self._active.number != number:
            self._active.close()
            self._active = None
        for extra in range(self._newest, number, -1):
            self._drop(extra)
        if self._newest > number:
            # Else a power cut brings them back, beside what will be written instead.
            self._disk.sync_directory(self._paths.segments)
        self._newest = number
        if number and not self._active:
            # The one that was closed to roll on, where it is still open; it was open for writing.
            self._active = self._readers.pop(number, None) or self._open(number, writable=True)
        if self._active:
            self._active.cut(size)

    def _finish_restoring(self) -> None:
        """Cut the log back as an earlier refusal should have; raises as that did."""
        if self._unrestored:
            try:
                self._restore(*self._unrestored)
            except OSError as error:
                self._take_back(LogEnd(*self._unrestored, self.sequence), error)
            self._unrestored = None

    def _drop(self, number: int) -> None:
        self.forget(number)
        with suppress(FileNotFoundError):
            self._disk.unlink(os.path.join(self._paths.segments, name_of(number)))

    def _sync_active(self, active: Segment) -> None:
        start = time.perf_counter_ns()
        try:
            active.sync()
        except OSError as error:
            self.fail(f"an fsync failed ({error})")
            self.check_writable()
        self.syncs.add(time.perf_counter_ns() - start)
        self.last_sync = time.time_ns()

    def _segment(self, number: int) -> Segment:
        active = self._active
        if active and active.number == number:
            return active
        segment = self._readers.get(number)
        if segment is None:
            segment = self._open_reader(number)
            self._keep(segment)
        return segment

    def _open_reader(self, number: int) -> Segment:
        """Open a segment for reading, at the cost of the others where descriptors run out."""
        while True:
            try:
                return self._open(number)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._readers:
                    raise
                self._readers.pop(next(iter(self._readers))).close()

    def _open(self, number: int, *, writable: bool = False) -> Segment:
        directory = self._directory
        assert directory is not None
        return Segment.open(
            self._disk, self._paths.segments, number, directory=directory, writable=writable
        )

    def _keep(self, segment: Segment) -> None:
        """Keep a closed segment open for reading, a few of them at a time."""
        while len(self._readers) >= _OPEN_FILES:
            self._readers.pop(next(iter(self._readers))).close()
        self._readers[segment.number] = segment


def _limit(disk: Disk, paths: LogPaths, config: Config) -> int:
    """Return at which size a segment is full: on a small disk before it takes much of that.

    A segment gives back its room as a whole, and not before another has what lives in it.
    """
    size = config.max_segment_size
    if config.codec().header_size == 0 or size <= _SMALL:
        return size
    try:
        found = disk.statvfs(os.path.dirname(paths.segments))
    except OSError:
        return size
    return min(size, max(found.f_blocks * found.f_frsize // _SHARE, _SMALL))


def check_length(record: Record, length: int, room: int) -> None:
    """Raise `RecordTooLargeError` if `record`, of `length` bytes, exceeds the `room` of a segment."""
    if length > room:
        message = (
            f"a {type(record).__name__.lower()} record of {length} bytes does not fit into a"
            f" segment, which holds {room} bytes"
        )
        raise RecordTooLargeError(message)
