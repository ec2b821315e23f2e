"""Backups: a copy of the log of a store, which is a store itself.

Segments never change once they are closed, so a backup goes on where the one
before it ended: it copies the segments that are new, and the one that was the
last before. Each is read and verified record by record, written beside and
renamed into place, in order; so whatever stops a backup leaves the state of an
earlier moment, whole, and the next one goes on.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kvfs import config as store_config
from kvfs.checkpoint import Checkpoint
from kvfs.disk import Disk
from kvfs.errors import KvfsError, StoreExistsError, in_words
from kvfs.recovery import LogEnd, LogPaths, Replay
from kvfs.segment import name_of, numbers_of, verify
from kvfs.store import exchange, snapshots
from kvfs.store.checkpoints import DIRECTORY, Checkpoints
from kvfs.store.compaction import remove_segments
from kvfs.store.directories import initialise, is_blank, make_directory
from kvfs.store.lock import Lock
from kvfs.store.opening import read_config
from kvfs.store.readers import alone, held

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.config import Config

_WORK = "segments.backup"
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
            with held(disk, path):
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
        self._work = os.path.join(target, _WORK)
        self._progress = progress or (lambda _done, _total: None)

    def run(self) -> Backup:
        exchange.finish(self._disk, self._to)
        exchange.empty(self._disk, self._work)
        self._directory = self._disk.open_directory(self._source.segments)
        try:
            end = self._end()
            there = self._there(end)
            numbers = [number for number in self._numbers(end) if number not in there]
            sizes = {number: self._size_of(number, end) for number in numbers}
            # It speaks of another end than the log will have.
            with suppress(FileNotFoundError):
                self._disk.unlink(self._target.clean)
                self._disk.sync_directory(self._to)
            checkpoints = self._copy_checkpoints(end)
            if self._goes_on_from(there, end):
                self._copy_all(sizes, self._target.segments)
            else:
                self._renew(sizes, there)
            self._let_go(checkpoints)
            self._copy_snapshots(end)
            if end.segment:
                self._disk.write_file(self._target.clean, LogEnd.dump(*end))
        finally:
            self._disk.close(self._directory)
        return Backup(end.sequence, len(numbers), sum(sizes.values()))

    def _copy_all(self, sizes: dict[int, int], to: str) -> None:
        """Copy segments, so many bytes of each, to the directory `to`."""
        total, done = sum(sizes.values()), 0
        for number, size in sizes.items():
            self._progress(done, total)
            self._copy(number, size, to)
            done += size
        self._progress(total, total)

    def _goes_on_from(self, there: set[int], end: LogEnd) -> bool:
        """Tell whether the log goes on from where that of the target ends, with no segment left out."""
        return all(
            number in there or number in self._listed
            for number in range(max(there, default=0), end.segment + 1)
            if number
        )

    def _renew(self, sizes: dict[int, int], there: set[int]) -> None:
        """Put a log in the place of that of the target, in one step: what is new, and what stays.

        The segments between the two have gone, so the one does not go on where the
        other ends.
        """
        with alone(self._disk, self._to) as nobody_reads:
            if not nobody_reads:
                message = f"somebody reads {self._to}, such as a mount of it; try again later"
                raise KvfsError(message, errno.EBUSY)
            self._put_in_place(sizes, there)

    def _put_in_place(self, sizes: dict[int, int], there: set[int]) -> None:
        self._disk.mkdir(self._work)
        for number in sorted(there & self._listed):
            old, new = (
                os.path.join(d, name_of(number)) for d in (self._target.segments, self._work)
            )
            self._disk.link(old, new)
        self._copy_all(sizes, self._work)
        self._disk.sync_directory(self._work)
        self._disk.exchange(self._work, self._target.segments)
        self._disk.sync_directory(self._to)
        exchange.empty(self._disk, self._work)

    def _let_go(self, checkpoints: set[str]) -> None:
        """Remove the checkpoints and segments that the store has not any more, if nobody reads them."""
        known = Checkpoints(self._disk, self._to, self._config)
        if known.possible:
            known.forget(name for name in known.names() if name not in checkpoints)
        there = set(numbers_of(self._disk.list(self._target.segments)))
        if there - self._listed:
            remove_segments(self._disk, self._to, sorted(there - self._listed))

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

    def _numbers(self, end: LogEnd) -> list[int]:
        """Return the segments that the store has up to `end`."""
        found = numbers_of(self._disk.list(self._directory))
        self._listed = {number for number in found if number <= end.segment}
        return sorted(self._listed)

    def _there(self, end: LogEnd) -> set[int]:
        """Return the segments that the target has as they are up to `end`, or were.

        Raises `StoreExistsError` if they are not of this log.
        """
        self._numbers(end)
        there = numbers_of(self._disk.list(self._target.segments))
        for number in there:
            if number > end.segment or (
                number in self._listed and not self._goes_on(number, last=number == there[-1])
            ):
                message = (
                    f"{self._to} does not hold what this store held before: one of the two was"
                    " written to, or repaired, since the last backup; choose a new directory"
                )
                raise StoreExistsError(message)
        done = set(there[:-1])
        if there and (
            there[-1] not in self._listed
            or self._size(self._target, there[-1]) == self._size_of(there[-1], end)
        ):
            done.add(there[-1])
        return done

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

    def _copy(self, number: int, size: int, to: str) -> None:
        """Copy `size` bytes of a segment, verified, to stable storage, into the directory `to`."""
        data = self._read(self._source, number, 0, size)
        verify(self._codec, self._config.id, number, data)
        self._disk.write_file(os.path.join(to, name_of(number)), data)

    def _copy_checkpoints(self, end: LogEnd) -> set[str]:
        """Copy the checkpoints that do not go beyond `end`, and return their names.

        They count once the segments are there that they need.
        """
        there = Checkpoints(self._disk, self._to, self._config).names()
        copied = set()
        for name, checkpoint in self._checkpoints.open_each():
            if not isinstance(checkpoint, Checkpoint):
                continue
            try:
                if checkpoint.position.sequence > end.sequence:
                    continue
                if name not in there:
                    data = self._disk.read_file(checkpoint.path)
                    self._disk.write_file(os.path.join(self._to, DIRECTORY, name), data)
                copied.add(name)
            except FileNotFoundError:
                continue  # newer ones have come meanwhile
            finally:
                checkpoint.close()
        return copied

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
