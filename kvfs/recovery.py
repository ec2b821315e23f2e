"""Reading the log from its start: what is whole, what is torn, what is damaged.

Only the end of the log can be torn. A bad record is the torn end if it lies in
the last segment, the log was not closed cleanly at just this length, and
nothing valid follows it. A power cut can also leave a hole before records that
reached the disk: then every later one must say that the place of the bad one
was not synced when it was written, and the hole must show, as zeros up to the
end of a sector. A batch whose last record is missing is torn as well. All else
is damage, and nobody goes on silently from there.

What is cut is kept: a copy in `quarantine/` is on stable storage before the
log is shortened, newest segment first, so that a crash in between leaves a
log that is cut the same way again.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kvfs.codec import BadRecordError
from kvfs.errors import CorruptionError, KvfsError, MissingSegmentError
from kvfs.records import Location, new_tuple
from kvfs.segment import Segment, check_header, damaged, name_of, numbers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvfs.codec import Codec
    from kvfs.codec.base import Scanned
    from kvfs.config import Config
    from kvfs.disk import Disk
    from kvfs.records import Record


_log = logging.getLogger(__name__)
SECTOR = 512
"""Bytes that a disk writes whole."""
_DIGITS = 20  # that no number needs
_ZEROS = 16  # so many of them are no accident


class LogPaths(NamedTuple):
    """Where the log keeps its files."""

    segments: str
    quarantine: str
    clean: str

    @classmethod
    def of(cls, path: str) -> LogPaths:
        """Return those of the store at `path`."""
        return cls(*(os.path.join(path, name) for name in cls._fields))


class LogEnd(NamedTuple):
    """The end of the last whole batch: segment, offset, sequence number.

    `segment` is 0 for a log without one.
    """

    segment: int
    offset: int
    sequence: int

    @staticmethod
    def dump(segment: int, offset: int, sequence: int) -> bytes:
        """Return the content of the file that says where the log ended cleanly."""
        return b"%d %d %d\n" % (segment, offset, sequence)


_BEGINNING = LogEnd(0, 0, 0)
_TOLD = 4096
"""Records from one word about progress to the next."""
_NEVER = -1  # a time before that of any record


class Replay:
    """One reading of the log, from the place that a checkpoint stands at to the end."""

    def __init__(
        self,
        disk: Disk,
        paths: LogPaths,
        config: Config,
        directory: int,
        start: LogEnd | None = None,
        until: tuple[int, int] | None = None,
        has: Callable[[int, int], bool] | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Prepare to read; all that follows holds once `records` is exhausted.

        `directory` is that of the segments, open: the log that is read stays
        this one, also where another takes its place. What comes before `start`
        is not looked at; it was on stable storage when a checkpoint was made. What
        comes behind `until`, a segment and an offset, is not looked at either. The
        reading ends before the first batch that `has`, given the sequence number
        and the time of its first record, says no to. `progress` is called, every
        some thousand records, with the bytes that have been read and all of them.
        `sizes` are the bytes of each segment that was read, `lost` is how many
        the log is shorter than a clean close left it. The last segment was on
        stable storage up to `synced` when its last record was written.
        """
        self._start = start or _BEGINNING
        self._until = until
        self._has = has
        self._progress = progress
        self._disk = disk
        self._paths = paths
        self._config = config
        self._directory = directory
        self._codec = config.codec()
        self._last = 0
        self.sizes: dict[int, int] = {}
        self.synced = 0
        self.end = self._start
        self.clean = False
        self.lost = 0

    def segments(self) -> list[int]:
        """Return the numbers of the segments to read, none of which may be missing."""
        last = max(numbers_of(self._disk.list(self._directory)), default=0)
        if self._until:
            last = min(last, self._until[0])
        return list(range(max(self._start.segment, 1), last + 1))

    def records(self) -> Iterator[tuple[Record, Location]]:
        """Yield the records of all whole batches, in order.

        Raises `CorruptionError` at damage, `MissingSegmentError` where one is missing.
        """
        # Read before the segments are listed: a writer may close beside us.
        clean = None if self._until else read_clean(self._disk, self._paths.clean)
        numbers = self.segments()
        _check_end(numbers, clean)
        batch: list[tuple[Record, Location]] = []
        sequence = self._start.sequence
        for number in numbers:
            last = number == numbers[-1]
            if not batch and self._is_done(number, sequence, clean if last else None):
                return
            data = self._read(number)
            self._last = number
            self.clean = last and clean == (number, len(data))
            self._note_lost(clean if last else None)
            try:
                start = self._begin(number, data, sequence)
                if not batch:
                    self.end = LogEnd(number, start, sequence)
                scanned = self._scan(data, numbers, number, start)
                stable = self.synced
                for record, offset, length, more, synced in scanned:
                    sequence += 1
                    self.synced = synced or stable
                    batch.append((record, new_tuple(Location, (number, offset, length))))
                    if not more:
                        if self._has and not self._has(sequence - len(batch), batch[0][0].time):
                            return
                        self.end = LogEnd(number, offset + length, sequence)
                        yield from batch
                        batch.clear()
            except BadRecordError as error:
                if not last or self.clean or not is_torn(self._codec, data, number, error):
                    raise damaged(number, error) from None

    def _scan(self, data: bytes, numbers: list[int], number: int, start: int) -> Iterator[Scanned]:
        """Return the records of segment `number` of `numbers`, which is `data`."""
        scanned = self._codec.scan(data, number, start)
        if number == numbers[-1] and not self.clean:
            scanned = before_hole(self._codec, data, scanned)
        return self._told(scanned, number, numbers) if self._progress else scanned

    def _told(
        self, scanned: Iterator[Scanned], number: int, numbers: list[int]
    ) -> Iterator[Scanned]:
        """Yield `scanned`, of segment `number`, and tell now and then how far that is."""
        assert self._progress
        before = sum(self.sizes.values()) - self.sizes[number] - self._start.offset
        total = sum(map(self._size, numbers)) - self._start.offset
        for count, one in enumerate(scanned):
            if count % _TOLD == 0:
                self._progress(before + one.offset, total)
            yield one

    def _is_done(self, number: int, sequence: int, clean: tuple[int, int] | None) -> bool:
        """Tell whether segment `number`, which may be gone, need not be read."""
        if self._has and not self._has(sequence, _NEVER):
            return True
        return clean is not None and self._has_all(number, clean)

    def _has_all(self, number: int, clean: tuple[int, int]) -> bool:
        """Note the last segment as read if a clean close left it where the reading starts."""
        size = self._start.offset
        if number != self._start.segment or clean != (number, size) or size != self._size(number):
            return False
        self._last, self.sizes[number], self.clean, self.synced = number, size, True, size
        return True

    def _begin(self, number: int, data: bytes, sequence: int) -> int:
        """Return where to begin in a segment, `sequence` records into the log; all before is stable.

        Raises `BadRecordError` if its head is damaged, or not that of the segment.
        """
        first = check_header(self._codec, self._config.id, number, data)
        head = self._codec.header_size
        start = self._start.offset if number == self._start.segment else 0
        if first is not None and first != sequence and start <= head:
            reason = f"it begins at record {first}, not {sequence}"
            raise BadRecordError(0, reason, foreign=True)
        self.synced = start
        return start or head

    def _note_lost(self, clean: tuple[int, int] | None) -> None:
        """Say so if the log has been cut since it was closed: it is read, but not silently."""
        size = self.sizes[self._last]
        if clean and clean[0] == self._last and clean[1] > size:
            self.lost = clean[1] - size
            _log.warning(
                "segment %s has lost its last %d bytes since the store was closed; going on without",
                name_of(self._last),
                self.lost,
            )

    @property
    def torn(self) -> int:
        """How many bytes are behind `end`."""
        behind = sum(size for number, size in self.sizes.items() if number >= self.end.segment)
        return behind - self.end.offset

    def cut_tail(self) -> None:
        """Move everything behind `end` to quarantine; the segment that was cut is to be synced."""
        end = self.end
        if not self.clean:
            # It speaks of a log that is no more, and must not be held against this one.
            with suppress(FileNotFoundError):
                if self.lost:
                    marker = self._disk.read_file(self._paths.clean)
                    keep(self._disk, self._paths.quarantine, "clean", marker)
                self._disk.unlink(self._paths.clean)
                self._disk.sync_directory(os.path.dirname(self._paths.clean))
        for number in range(self._last, end.segment, -1):
            self._keep_tail(number, 0)
            self._disk.unlink(self._path(number))
            # One after the other: a power cut may keep a later change and undo this one.
            self._disk.sync_directory(self._paths.segments)
        if end.segment and end.offset < self.sizes[end.segment]:
            self._keep_tail(end.segment, end.offset)
            segment = Segment.open(
                self._disk,
                self._paths.segments,
                end.segment,
                directory=self._directory,
                writable=True,
            )
            try:
                segment.cut(end.offset)
            finally:
                segment.close()

    def _keep_tail(self, number: int, offset: int) -> None:
        tail = self._load(number)[offset:]
        if tail:
            keep(self._disk, self._paths.quarantine, f"{name_of(number)}.{offset}", tail)

    def _size(self, number: int) -> int:
        """Return how many bytes a segment has, which may have gone: then 0."""
        with suppress(FileNotFoundError):
            return self._disk.stat(self._path(number), directory=self._directory).st_size
        return 0

    def _read(self, number: int) -> bytes:
        """Return a segment, as far as it is to be read."""
        data = self._load(number)
        if self._until and number == self._until[0]:
            data = data[: self._until[1]]
        self.sizes[number] = len(data)
        return data

    def _load(self, number: int) -> bytes:
        try:
            return self._disk.read_file(self._path(number), directory=self._directory)
        except FileNotFoundError:
            message = f"segment {name_of(number)} is missing"
            raise MissingSegmentError(message) from None
        except OSError as error:
            message = f"segment {name_of(number)} cannot be read: {error.strerror}"
            raise KvfsError(message, error.errno) from error

    def _path(self, number: int) -> str:
        return os.path.join(self._paths.segments, name_of(number))


def before_hole(codec: Codec, data: bytes, scanned: Iterator[Scanned]) -> Iterator[Scanned]:
    """Return `scanned`, up to where zeros are, as a power cut leaves them, in lines.

    `data` begins where a sector does. No checksum guards lines. Raises `BadRecordError` there.
    """
    if codec.atomic or b"\0" not in data:
        return scanned
    hole = find_hole(data, data.index(b"\0"), len(data))
    return scanned if hole is None else _up_to(hole, scanned)


def is_torn(codec: Codec, data: bytes, number: int, error: BadRecordError) -> bool:
    """Tell whether the bad record that `error` names can be the torn end of the log.

    `data` is all of the last segment, `number`.
    """
    if error.foreign:
        return False
    later = list(codec.resync(data, number, error.offset))
    if not later:
        return True
    synced = max(scanned.synced for scanned in later)
    return synced <= error.offset and find_hole(data, error.offset, later[0].offset) is not None


def _up_to(hole: int, scanned: Iterator[Scanned]) -> Iterator[Scanned]:
    for one in scanned:
        if one.offset + one.length > hole:
            raise BadRecordError(one.offset, "there are zeros in the line")
        yield one


def keep(disk: Disk, quarantine: str, base: str, data: bytes) -> None:
    """Write `data` to the directory `quarantine` as `base`, or a name that follows from it."""
    taken = set(disk.list(quarantine))
    name = base
    count = 1
    while name in taken:
        count += 1
        name = f"{base}.{count}"
    disk.write_file(os.path.join(quarantine, name), data)


def read_clean(disk: Disk, path: str) -> tuple[int, int] | None:
    """Return the last segment and its size as of the last clean close, if the file says so.

    Raises `KvfsError` if it cannot be read.
    """
    try:
        words = disk.read_file(path).split()[:2]
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise KvfsError(message, error.errno) from error
    if len(words) < 2 or not all(word.isdigit() and len(word) < _DIGITS for word in words):  # noqa: PLR2004 - segment and size
        return None
    return int(words[0]), int(words[1])


def _check_end(numbers: list[int], clean: tuple[int, int] | None) -> None:
    """Raise `CorruptionError` if segments are gone that a clean close left behind."""
    if clean and clean[0] > max(numbers, default=0):
        message = f"segment {name_of(max(numbers, default=0) + 1)} is missing"
        raise CorruptionError(message)


def find_hole(data: bytes, start: int, end: int) -> int | None:
    """Return where zeros are between `start` and `end`, as a power cut leaves them, or None.

    They reach the end of a sector, and are `_ZEROS` unless they begin at `start`.
    """
    boundary = start - start % SECTOR + SECTOR
    low = max(start, boundary - _ZEROS)
    while low < end:
        if not any(data[low:boundary]):
            return low
        boundary += SECTOR
        low = boundary - _ZEROS
    return None
