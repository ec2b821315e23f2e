"""Backups: a copy of the log of a store, which is a store itself.

Segments never change once they are closed, so a backup goes on where the one
before it ended: it copies the segments that are new, and the one that was the
last before. Each is read and verified record by record, written beside and
renamed into place, in order; so whatever stops a backup leaves the state of an
earlier moment, whole, and the next one goes on.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kvfs import config as store_config
from kvfs.checkpoint import Checkpoint
from kvfs.codec import BadRecordError
from kvfs.disk import Disk
from kvfs.errors import KvfsError, StoreExistsError, in_words
from kvfs.recovery import LogEnd, LogPaths, Replay
from kvfs.segment import check_header, damaged, name_of, numbers_of
from kvfs.store import exchange, snapshots
from kvfs.store.checkpoints import DIRECTORY, Checkpoints
from kvfs.store.core import initialise, is_blank, make_directory
from kvfs.store.lock import Lock
from kvfs.store.opening import read_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.config import Config

_CHUNK = 8 * 1024 * 1024


class Backup(NamedTuple):
    """What a backup did: it has `records` now, and copied so many segments and bytes."""

    records: int
    segments: int
    bytes: int


def backup(
    path: str,
    target: str,
    progress: Callable[[int, int], object] | None = None,
    disk: Disk | None = None,
) -> Backup:
    """Bring the directory `target` up to the store at `path`, beside a mount or alone.

    `target` is new or empty, or has an earlier backup of the store. `progress` is
    called with the bytes done and the bytes in all. Raises `StoreExistsError` if
    it has anything else, `StoreLockedError` while somebody has it open for
    writing, `CorruptionError` at damage in the store, which is not copied, or
    what the disk says; then it has an earlier state, and the next one goes on.
    """
    disk = disk or Disk()
    path, target = os.path.abspath(path), os.path.abspath(target)
    config = read_config(path, disk)
    try:
        _prepare(disk, path, target, config)
        lock = Lock(disk, target)
        lock.take(None)
        try:
            return _Copy(disk, path, target, config, progress).run()
        finally:
            lock.release()
    except OSError as error:
        if isinstance(error, KvfsError):
            raise
        message = f"the backup did not come to its end: {in_words(error, target)}"
        raise KvfsError(message, error.errno) from error


def _prepare(disk: Disk, path: str, target: str, config: Config) -> None:
    """Make `target` a store of `config` without a log, or see that it is one."""
    if os.path.realpath(path) == os.path.realpath(target):
        message = f"{target} is the store itself; choose another directory for its backup"
        raise StoreExistsError(message)
    if is_blank(disk, target):
        make_directory(disk, target, inside=False)
        initialise(disk, target, config)
    elif store_config.FILE not in disk.list(target) or read_config(target, disk).id != config.id:
        message = f"{target} holds something else than a backup of this store; choose another"
        raise StoreExistsError(message)


class _Copy:
    """One run of a backup, with the target locked."""

    def __init__(
        self,
        disk: Disk,
        path: str,
        target: str,
        config: Config,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self._disk = disk
        self._config = config
        self._codec = config.codec()
        self._source, self._target = LogPaths.of(path), LogPaths.of(target)
        self._checkpoints = Checkpoints(disk, path, config)
        self._path, self._to = path, target
        self._progress = progress or (lambda _done, _total: None)

    def run(self) -> Backup:
        exchange.finish(self._disk, self._to)
        self._directory = self._disk.open_directory(self._source.segments)
        try:
            end = self._end()
            numbers = self._missing(end)
            sizes = {number: self._size_of(number, end) for number in numbers}
            total, done = sum(sizes.values()), 0
            # It speaks of another end than the log will have.
            with suppress(FileNotFoundError):
                self._disk.unlink(self._target.clean)
                self._disk.sync_directory(self._to)
            for number, size in sizes.items():
                self._progress(done, total)
                self._copy(number, size)
                done += size
            self._copy_checkpoint(end)
            self._copy_snapshots(end)
            if end.segment:
                self._disk.write_file(self._target.clean, LogEnd.dump(*end))
            self._progress(total, total)
        finally:
            self._disk.close(self._directory)
        return Backup(end.sequence, len(numbers), total)

    def _end(self) -> LogEnd:
        """Return the end of the log as it is now, behind its last whole batch."""
        start = self._checkpoints.stand()
        try:
            log = Replay(self._disk, self._source, self._config, self._directory, start.start)
            for _ in log.records():
                pass
        finally:
            if start.checkpoint:
                start.checkpoint.close()
        return log.end

    def _missing(self, end: LogEnd) -> list[int]:
        """Return the segments up to `end` that the target has not, or not as far.

        Raises `StoreExistsError` if what it has is not where the log began.
        """
        there = numbers_of(self._disk.list(self._target.segments))
        for number in there:
            if number > end.segment or not self._goes_on(number, last=number == there[-1]):
                message = (
                    f"{self._to} does not hold what this store held before: one of the two was"
                    " written to, or repaired, since the last backup; choose a new directory"
                )
                raise StoreExistsError(message)
        done = set(there[:-1])
        if there and self._size(self._target, there[-1]) == self._size_of(there[-1], end):
            done.add(there[-1])
        return [number for number in range(1, end.segment + 1) if number not in done]

    def _goes_on(self, number: int, *, last: bool) -> bool:
        """Tell whether the segment of the store goes on as that of the target ends."""
        size = self._size(self._target, number)
        if size != self._size(self._source, number) and not last:
            return False
        head = self._codec.header_size
        spans = ((0, head), (max(size - _CHUNK, 0), size))
        return all(
            self._read(self._source, number, low, high)
            == self._read(self._target, number, low, high)
            for low, high in spans
        )

    def _size_of(self, number: int, end: LogEnd) -> int:
        """Return how many bytes of a segment belong to the log up to `end`."""
        return end.offset if number == end.segment else self._size(self._source, number)

    def _size(self, paths: LogPaths, number: int) -> int:
        path = os.path.join(paths.segments, name_of(number))
        directory = self._directory if paths is self._source else None
        return self._disk.stat(path, directory=directory).st_size

    def _read(self, paths: LogPaths, number: int, low: int, high: int) -> bytes:
        """Return the bytes of a segment from `low` to `high`."""
        path = os.path.join(paths.segments, name_of(number))
        directory = self._directory if paths is self._source else None
        return self._disk.read_part(path, high - low, low, directory=directory)

    def _copy(self, number: int, size: int) -> None:
        """Copy `size` bytes of a segment, verified, to stable storage, into their place."""
        data = self._read(self._source, number, 0, size)
        try:
            check_header(self._codec, self._config.id, number, data)
            for _ in self._codec.scan(data, number, self._codec.header_size):
                pass
        except BadRecordError as error:
            raise damaged(number, error) from None
        self._disk.write_file(os.path.join(self._target.segments, name_of(number)), data)

    def _copy_checkpoint(self, end: LogEnd) -> None:
        """Copy the newest checkpoint that does not go beyond `end`, unless it is there."""
        there = Checkpoints(self._disk, self._to, self._config)
        for name, checkpoint in self._checkpoints.open_each():
            if not isinstance(checkpoint, Checkpoint):
                continue
            try:
                if checkpoint.position.sequence > end.sequence:
                    continue
                if name not in there.names():
                    data = self._disk.read_file(checkpoint.path)
                    self._disk.write_file(os.path.join(self._to, DIRECTORY, name), data)
                there.forget(other for other in there.names() if other != name)
                return
            finally:
                checkpoint.close()

    def _copy_snapshots(self, end: LogEnd) -> None:
        """Let the target have the snapshots that the store has, as far as it has their records."""
        wanted = {
            snapshot.name: snapshot
            for snapshot in snapshots.list_all(self._path, self._disk)
            if snapshot.records <= end.sequence
        }
        there = {snapshot.name: snapshot for snapshot in snapshots.list_all(self._to, self._disk)}
        for name in there.keys() - wanted.keys():
            snapshots.delete(self._to, name, self._disk)
        for name, snapshot in wanted.items():
            if there.get(name) != snapshot:
                snapshots.keep(self._disk, self._to, snapshot)
