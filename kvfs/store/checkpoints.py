"""The checkpoints of a store: which one to stand on, and making the next.

A checkpoint is made from files alone: the checkpoint before it, and what of the
log is on stable storage. So whoever has the files can make it, beside a writer
or alone, and it is the same. It counts once it has its name, when all of it is
on stable storage. The last two are kept.

The text format has none: there the log is all there is, for anybody to read and
to edit.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from crc32c import crc32c

from kvfs.checkpoint import BadCheckpointError, Checkpoint, Position, write
from kvfs.checkpoint.format import TRACE
from kvfs.errors import KvfsError, in_words
from kvfs.recovery import LogEnd, LogPaths, Replay
from kvfs.segment import misplaced, name_of
from kvfs.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kvfs.config import Config
    from kvfs.disk import Disk
    from kvfs.records import Location, Record
    from kvfs.store.moment import Moment

DIRECTORY = "checkpoints"
_LOCK = "lock"
_SUFFIX = ".ckp"
_FEW, _MANY = 100_000, 300_000
_BACKGROUND = 100_000
_log = logging.getLogger(__name__)


def due_at_close(values: int) -> int:
    """Return how many records behind the last checkpoint are worth one when a store is closed.

    `values` is how many keys have one. To make a checkpoint costs about as much
    for each key as it saves for each record at every opening that follows.
    """
    return min(max(_FEW, values // 16), _MANY)


def due_in_background(values: int) -> int:
    """Return how many records behind the last checkpoint are worth one beside the mount."""
    return max(_BACKGROUND, values // 4)


def defaults_of(disk: Disk, path: str, config: Config) -> tuple[int, int, int]:
    """Return the owner and the time that nodes have of which no record says otherwise."""
    owner = disk.stat(path)
    return owner.st_uid, owner.st_gid, config.created


class Standing(NamedTuple):
    """A table that stands on a checkpoint, or on nothing, and where the log goes on."""

    table: Table
    checkpoint: Checkpoint | None
    time: int
    """Of the latest record before."""

    @property
    def start(self) -> LogEnd | None:
        """The place in the log that the checkpoint stands at."""
        if self.checkpoint is None:
            return None
        position = self.checkpoint.position
        return LogEnd(position.segment, position.offset, position.sequence)

    def forward(self, records: Iterable[tuple[Record, Location]]) -> int:
        """Bring the table forward by `records`, which come next; return the latest time so far.

        Raises `CorruptionError`, which names the place, where one does not fit.
        """
        apply, latest = self.table.apply, self.time
        for record, location in records:
            try:
                apply(record, location)
            except KvfsError as error:
                raise misplaced(location, error) from None
            latest = max(latest, record.time)
        self.table.detached.clear()
        return latest


class Checkpoints:
    """The checkpoints of the store of `config` at `path`."""

    def __init__(self, disk: Disk, path: str, config: Config) -> None:
        """Look at nothing yet."""
        self._disk = disk
        self._path = path
        self._config = config
        self._directory = os.path.join(path, DIRECTORY)
        self._head = config.codec().header_size

    @property
    def possible(self) -> bool:
        """Whether the format has checkpoints."""
        return self._head > 0

    def open_each(self) -> Iterator[tuple[str, Checkpoint | str]]:
        """Yield the name of each, the newest first, and with it the open one, or why it is no good."""
        for name in self.names():
            path = os.path.join(self._directory, name)
            try:
                checkpoint = Checkpoint.open(self._disk, path, self._config.id)
            except FileNotFoundError:
                continue  # newer ones have come meanwhile; this log is as good without
            except (BadCheckpointError, OSError) as error:
                yield name, in_words(error) if isinstance(error, OSError) else str(error)
                continue
            reason = self._misfit(checkpoint.position)
            if reason is None:
                yield name, checkpoint
            else:
                checkpoint.close()
                yield name, reason

    def stand(self, moment: Moment | None = None) -> Standing:
        """Return a table that stands on the newest checkpoint that is good and fits the log.

        With `moment`, on the newest of those that hold nothing later.
        Others are told to the log of the daemon, and passed over.
        """
        defaults = defaults_of(self._disk, self._path, self._config)
        for name, checkpoint in self.open_each():
            if isinstance(checkpoint, Checkpoint):
                position = checkpoint.position
                if moment and not moment.has(position.sequence - 1, position.time):
                    checkpoint.close()
                    continue
                table = Table(*defaults, (checkpoint, checkpoint.state))
                return Standing(table, checkpoint, checkpoint.position.time)
            _log.warning("checkpoint %s is not used: %s", name, checkpoint)
        return Standing(Table(*defaults), None, 0)

    def names(self) -> list[str]:
        """Return the names of the checkpoints there are, the newest first."""
        if not self.possible:
            return []
        try:
            names = self._disk.list(self._directory)
        except FileNotFoundError:
            return []
        return sorted((name for name in names if _is_checkpoint(name)), reverse=True)

    def make(self, until: tuple[int, int]) -> bool:
        """Make a checkpoint of the log up to `until`, a segment and an offset, and keep the last two.

        All before that is on stable storage. False if there is nothing new, or
        somebody else is making one. Raises `CorruptionError` at damage, or
        what the disk says.
        """
        if not self.possible:
            return False
        lock = self._disk.open(os.path.join(self._directory, _LOCK), os.O_RDWR | os.O_CREAT)
        try:
            return self._disk.lock(lock) and self._make(until)
        finally:
            self._disk.close(lock)

    def forget(self, names: Iterable[str]) -> None:
        """Remove the checkpoints called `names`, which are no good, or of a log that is to be another.

        One that comes back after a power cut does not fit, and is passed over.
        """
        for name in names:
            try:
                self._disk.unlink(os.path.join(self._directory, name))
            except FileNotFoundError:
                pass
            except OSError as error:  # a directory, say
                _log.warning("checkpoint %s is left: %s", name, in_words(error))

    def _make(self, until: tuple[int, int]) -> bool:
        standing = self.stand()
        try:
            end, time = self._replay(standing, until)
            if standing.start == end or not end.sequence:
                return False
            self._write(standing, end, time)
        finally:
            if standing.checkpoint:
                standing.checkpoint.close()
        return True

    def _replay(self, standing: Standing, until: tuple[int, int]) -> tuple[LogEnd, int]:
        """Bring the table forward to the last whole batch before `until`; return that, and its time."""
        paths = LogPaths.of(self._path)
        directory = self._disk.open_directory(paths.segments)
        try:
            log = Replay(self._disk, paths, self._config, directory, standing.start, until)
            time = standing.forward(log.records())
        finally:
            self._disk.close(directory)
        return log.end, time

    def _write(self, standing: Standing, end: LogEnd, time: int) -> None:
        trace, traced = self._trace(end.segment, end.offset)
        position = Position(
            *(end.sequence, end.segment, end.offset, trace, traced, time),
            len(standing.table.nodes),
            defaults_of(self._disk, self._path, self._config),
        )
        name = f"{end.sequence:020}{_SUFFIX}"
        path = os.path.join(self._directory, name)
        names = self._disk.list(self._directory)
        self.forget(stale for stale in names if stale.endswith(".tmp"))  # of those who died
        fd = self._disk.open(f"{path}.tmp", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            write(self._disk, fd, self._config.id, standing.table, position, standing.checkpoint)
            self._disk.sync(fd)
        except BaseException:
            with suppress(OSError):
                self._disk.unlink(f"{path}.tmp")
            raise
        finally:
            self._disk.close(fd)
        self._disk.rename(f"{path}.tmp", path)
        self._disk.sync_directory(self._directory)
        self._keep(name, standing.checkpoint)

    def _keep(self, name: str, below: Checkpoint | None) -> None:
        """Remove all but `name` and the one that it was made from; the others are older, or no good."""
        kept = {name, os.path.basename(below.path) if below else name}
        self.forget(other for other in self.names() if other not in kept)

    def _misfit(self, position: Position) -> str | None:
        """Return why a checkpoint is not of this log, as it lies here, or None if it is."""
        try:
            trace, traced = self._trace(position.segment, position.offset)
        except OSError:
            return "it does not fit the log"
        if (trace, traced) != (position.trace, position.traced):
            return "it does not fit the log"
        if position.defaults != defaults_of(self._disk, self._path, self._config):
            return "the store had another owner"
        return None

    def _trace(self, number: int, offset: int) -> tuple[int, int]:
        """Return a checksum of the head of a segment and some bytes before `offset`; how many."""
        segment = os.path.join(LogPaths.of(self._path).segments, name_of(number))
        head = self._disk.read_part(segment, self._head, 0)
        data = self._disk.read_part(segment, min(offset, TRACE), max(offset - TRACE, 0))
        return crc32c(data, crc32c(head)), len(data)


def _is_checkpoint(name: str) -> bool:
    stem = name.removesuffix(_SUFFIX)
    return stem != name and stem.isascii() and stem.isdigit()
