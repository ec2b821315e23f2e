"""Reading a log as it grows, beside its writer or alone.

Rules. Only whole batches are given out, each once, and never one that is taken
back later: what is whole and verifies is kept by every recovery, and where a
full disk makes the writer take something back, that is part of a batch. What
is not whole at the end of the last segment is not there yet; it is looked at
anew when the log has grown. Only a segment behind which there is another has
to be whole to its end.

Nothing is locked, so segments may go before they have been read: then that is
said. The one that is being read stays open, and can be read to its end.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvfs.codec import BadRecordError
from kvfs.errors import CorruptionError, NotAStoreError, PastGoneError
from kvfs.recovery import SECTOR, LogEnd, LogPaths, before_hole, is_torn, read_clean
from kvfs.segment import check_header, damaged, name_of, numbers_of
from kvfs.store.checkpoints import Checkpoints
from kvfs.store.keeping import unbroken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.codec import Codec
    from kvfs.config import Config
    from kvfs.disk import Disk
    from kvfs.records import Record

Batch = list[tuple[int, "Record"]]
"""Records with their sequence numbers."""
_READ = 1024 * 1024
"""Bytes that are read at once, if no record is longer."""


def locate(disk: Disk, path: str, config: Config, sequence: int | None) -> LogEnd:
    """Return a place in the log from which all batches with record `sequence` or later come.

    Without, one near the end of the log. That is where a checkpoint stands, or the
    beginning. Raises `PastGoneError`, which names the oldest record there is, where
    none comes before `sequence` any more. For who keeps the segments meanwhile.
    """
    numbers = set(numbers_of(disk.list(LogPaths.of(path).segments)))
    oldest: int | None = None
    for _, checkpoint in Checkpoints(disk, path, config).open_each():
        if isinstance(checkpoint, str):
            continue
        position = checkpoint.position
        checkpoint.close()
        if not unbroken(numbers, position.segment):
            continue
        if sequence is None or position.sequence <= sequence:
            return LogEnd(position.segment, position.offset, position.sequence)
        oldest = position.sequence
    if unbroken(numbers, 1):
        return LogEnd(1, 0, 0)
    if oldest is None:
        raise CorruptionError("nothing tells what came before the log that is there")
    raise _gone(sequence or 0, oldest)


def _gone(sequence: int, oldest: int) -> PastGoneError:
    return PastGoneError(
        f"change {sequence} is not kept any more; the oldest that is kept is {oldest}"
    )


class Follower:
    """Follows the log of the store of `config` at `path` from `start` on.

    `end` is the place behind the last batch that was given out.
    """

    def __init__(self, disk: Disk, path: str, config: Config, start: LogEnd) -> None:
        """Open the first segment, if it is there; `start` is what `locate` returned."""
        self._disk = disk
        self._path = path
        self._config = config
        self._codec: Codec = config.codec()
        self._paths = LogPaths.of(path)
        self.end = start
        self._fds: dict[int, int] = {}
        """The open segments: that of `end`, and while a batch is read, the one behind."""
        self._suspect: tuple[int, int] | None = None
        """Where a record was not whole at the last look."""
        self._judged: tuple[int, int, int] | None = None
        """The same, and the size of the segment, when that was found to be a torn end."""
        self._directory = disk.open_directory(self._paths.segments)
        try:
            found = os.fstat(self._directory)
            self._identity = found.st_dev, found.st_ino
            self._open(start.segment)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every file."""
        self._keep_open(0)
        self._disk.close(self._directory)

    def batches(self) -> Iterator[Batch]:
        """Yield the batches that have come since, in order, until there is none more for now.

        Who stops in between goes on with the next one later. Raises `PastGoneError` where the
        log goes on with a segment that has been removed, or is another log by now;
        `CorruptionError` at damage.
        """
        self._check_place()
        number, offset, sequence = self.end
        batch: Batch = []
        try:
            while (fd := self._open(number)) is not None:
                # Looked for first: what is there of the segment then, is all.
                last = self._is_last(number)
                for record, behind, more in self._scan(fd, number, offset, sequence, last=last):
                    batch.append((sequence, record))
                    sequence += 1
                    if not more:
                        self.end = LogEnd(number, behind, sequence)
                        self._keep_open(number)
                        yield batch
                        batch = []
                if last:
                    return
                number, offset = number + 1, 0
        finally:
            self._keep_open(self.end.segment)

    def _scan(
        self, fd: int, number: int, offset: int, sequence: int, *, last: bool
    ) -> Iterator[tuple[Record, int, bool]]:
        """Yield what is whole of a segment from `offset` on: records, their ends, and whether more follows."""
        if not offset:
            if not self._has_head(fd, number, sequence, last=last):
                return
            offset = self._codec.header_size
        size = _READ
        while True:
            base = offset - offset % SECTOR
            data = self._disk.read(fd, size, base)
            if base + len(data) < offset:
                raise _shorter(number)
            before = offset
            try:
                scanned = self._codec.scan(data, number, offset - base, base)
                scanned = before_hole(self._codec, data, scanned) if last else scanned
                for record, at, length, more, _ in scanned:
                    offset = base + at + length
                    yield record, offset, more
            except BadRecordError as error:
                if len(data) < size:
                    self._judge(fd, number, base + error.offset, error, last=last)
                    return
                size = _READ if offset > before else 2 * size
            if base + len(data) == offset and len(data) < size:
                return

    def _has_head(self, fd: int, number: int, sequence: int, *, last: bool) -> bool:
        """Tell whether the head of a segment is there, which must begin with record `sequence`."""
        head = self._disk.read(fd, self._codec.header_size, 0)
        try:
            first = check_header(self._codec, self._config.id, number, head)
            if first not in (None, sequence):
                reason = f"it begins at record {first}, not {sequence}"
                raise BadRecordError(0, reason, foreign=True)
        except BadRecordError as error:
            self._judge(fd, number, 0, error, last=last)
            return False
        return True

    def _judge(self, fd: int, number: int, at: int, error: BadRecordError, *, last: bool) -> None:
        """Raise `CorruptionError` if what is at `at`, and no whole record, will never be one.

        What is being written is let be at the first look. A torn end stays until the
        next writer cuts it.
        """
        bad = BadRecordError(at, error.reason, foreign=error.foreign)
        if not last or error.foreign:
            raise damaged(number, bad)
        if self._suspect != (number, at):
            self._suspect = number, at
            return
        size = self._disk.size(fd)
        if self._judged == (number, at, size):
            return
        data = self._disk.read(fd, size, 0)
        try:
            if at and next(self._codec.scan(data, number, at), None):
                return  # it has become whole meanwhile
        except BadRecordError:
            clean = read_clean(self._disk, self._paths.clean) == (number, len(data))
            if clean or not is_torn(self._codec, data, number, bad):
                raise damaged(number, bad) from None
        self._judged = number, at, len(data)

    def _open(self, number: int) -> int | None:
        """Return segment `number`, open; None if it is not there yet. Raises `PastGoneError`."""
        if number not in self._fds:
            path = os.path.join(self._paths.segments, name_of(number))
            newest = self._newest()  # before it is opened: it may come meanwhile
            try:
                fd = self._disk.open(path, os.O_RDONLY, directory=self._directory)
            except FileNotFoundError:
                if newest <= number:
                    return None
                raise self._missing() from None
            self._keep_open(self.end.segment)
            self._fds[number] = fd
        return self._fds[number]

    def _is_last(self, number: int) -> bool:
        """Tell whether there is no segment behind `number`."""
        path = os.path.join(self._paths.segments, name_of(number + 1))
        try:
            self._disk.stat(path, directory=self._directory)
        except FileNotFoundError:
            return self._newest() <= number
        return False

    def _newest(self) -> int:
        return max(numbers_of(self._disk.list(self._directory)), default=0)

    def _keep_open(self, number: int) -> None:
        """Close all segments but `number`."""
        for other in [other for other in self._fds if other != number]:
            self._disk.close(self._fds.pop(other))

    def _check_place(self) -> None:
        """Raise what has become of the log if it is not where it was."""
        try:
            there = self._disk.stat(self._paths.segments)
        except FileNotFoundError:
            message = f"the store at {self._path} is gone"
            raise NotAStoreError(message) from None
        if (there.st_dev, there.st_ino) != self._identity:
            raise PastGoneError(
                "another log has taken the place of the one that was followed, as by kvfs repair;"
                " its changes have other numbers"
            )

    def _missing(self) -> PastGoneError:
        """Return the error for what comes next, which has been removed."""
        sequence = self.end.sequence
        try:
            locate(self._disk, self._path, self._config, sequence)
        except PastGoneError as error:
            return error
        return _gone(sequence, sequence)


def _shorter(number: int) -> PastGoneError:
    message = (
        f"segment {name_of(number)} is shorter than what was read of it:"
        " the log is not the one that was followed"
    )
    return PastGoneError(message)
