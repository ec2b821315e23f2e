"""The checkpoints of a store: which one to stand on, and making the next.

A checkpoint is made from files alone: the checkpoint before it, and what of the
log is on stable storage. So whoever has the files can make it, beside a writer
or alone, and it is the same. It counts once it has its name, when all of it is
on stable storage. Which are kept, and which segments, `keeping` says.

The text format has none: there the log is all there is, for anybody to read and
to edit.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from kvfs.checkpoint import BadCheckpointError, Checkpoint, Position, write
from kvfs.checkpoint.format import TRACE
from kvfs.checksum import crc32c
from kvfs.codec import BadRecordError
from kvfs.errors import CorruptionError, KvfsError, in_words
from kvfs.recovery import LogEnd, LogPaths, Replay
from kvfs.retention import Retention
from kvfs.segment import check_header, damaged, misplaced, name_of, numbers_of
from kvfs.store.keeping import LAST, Known, Plan, plan, unbroken
from kvfs.store.moment import read_snapshots
from kvfs.store.readers import alone
from kvfs.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kvfs.config import Config
    from kvfs.disk import Disk
    from kvfs.records import Location, Record
    from kvfs.store.moment import Moment

DIRECTORY = "checkpoints"
_LOCK = "lock"
_SUFFIX, _COPY = ".ckp", "-2.ckp"
_NAME = re.compile(r"[0-9]{20,}(-2)?\.ckp")
_CACHED = 64 * 1024 * 1024
"""Bytes of blocks that are kept in memory by who makes a checkpoint, of each table."""
_SLACK = 64 * 1024
_NO_FILE = (errno.EISDIR, errno.EINVAL, errno.ELOOP)
"""What opening anything but a file gives."""
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


class Kept(NamedTuple):
    """What is kept of a store: the plan, the newest checkpoint, and the bytes of each segment."""

    plan: Plan
    newest: Known | None
    sizes: dict[int, int]
    snapshots: list[int]
    """How many records come before each."""
    stale: tuple[str, ...] = ()
    """Checkpoints that are to go before any segment does."""

    @property
    def free(self) -> list[int]:
        """The segments that may go."""
        return sorted(self.sizes.keys() - self.plan.segments)


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
            try:
                yield name, self.open(name)
            except FileNotFoundError:
                continue  # newer ones have come meanwhile; this log is as good without
            except (BadCheckpointError, OSError) as error:
                yield name, in_words(error) if isinstance(error, OSError) else str(error)

    def stand(self, moment: Moment | None = None) -> Standing:
        """Return a table that stands on the newest checkpoint that is good and fits the log.

        With `moment`, on the newest of those that hold nothing later.
        Others are told to the log of the daemon, and passed over.
        """
        problem = None
        for name, checkpoint in self.open_each():
            if isinstance(checkpoint, Checkpoint):
                position = checkpoint.position
                if moment and not moment.has(position.sequence - 1, position.time):
                    checkpoint.close()
                    continue
                return self._standing(checkpoint)
            problem = problem or f"checkpoint {name} is not used: {checkpoint}"
            _log.warning("checkpoint %s is not used: %s", name, checkpoint)
        if problem and moment is None and not self.begins_with_log:
            message = f"nothing tells what came before the log that is there: {problem}"
            raise CorruptionError(message)
        return self._standing(None)

    @contextmanager
    def beginning(self) -> Iterator[tuple[Standing, str | None]]:
        """Yield what `begin` returns, or at least the newest checkpoint that verifies, and what is wrong."""
        begin, problem = self.begin(), None
        if begin.checkpoint is None and not self.begins_with_log:
            begin, problem = self._begin_anyhow()
        try:
            yield begin, problem
        finally:
            if begin.checkpoint:
                begin.checkpoint.close()

    def _begin_anyhow(self) -> tuple[Standing, str]:
        for name in self.names():
            path = os.path.join(self._directory, name)
            with suppress(BadCheckpointError, OSError):
                checkpoint = Checkpoint.open(self._disk, path, self._config.id)
                try:
                    self._check_fit(checkpoint)
                except BadCheckpointError as error:
                    return self._standing(checkpoint), f"checkpoint {name}: {error}"
                return self._standing(checkpoint), f"the log has gaps behind checkpoint {name}"
        return self._standing(None), "nothing tells what came before the log that is there"

    def begin(self) -> Standing:
        """Return a table that stands where the log begins: on the oldest checkpoint that it leads on from.

        That is none, and the table is empty, while no segment has been removed.
        """
        if self.begins_with_log:
            return self._standing(None)
        numbers = set(self._segments())
        found: Checkpoint | None = None
        for _, checkpoint in self.open_each():
            if not isinstance(checkpoint, Checkpoint):
                continue
            if unbroken(numbers, checkpoint.position.segment):
                found, checkpoint = checkpoint, found  # noqa: PLW2901 - the newer one is closed
            if checkpoint:
                checkpoint.close()
        return self._standing(found)

    def _standing(self, checkpoint: Checkpoint | None) -> Standing:
        defaults = defaults_of(self._disk, self._path, self._config)
        if checkpoint is None:
            return Standing(Table(*defaults), None, 0)
        table = Table(*defaults, (checkpoint, checkpoint.state))
        return Standing(table, checkpoint, checkpoint.position.time)

    @property
    def room(self) -> int:
        """How many bytes the disk has left, beside those of another checkpoint."""
        found = self._disk.statvfs(self._path)
        return found.f_bavail * found.f_frsize - self.newest_size * 5 // 4 - _SLACK

    @property
    def newest_size(self) -> int:
        """How many bytes the newest checkpoint has."""
        for name in self.names():
            with suppress(OSError):
                return self._disk.stat(os.path.join(self._directory, name)).st_size
        return 0

    @property
    def begins_with_log(self) -> bool:
        """Whether no segment has been removed."""
        return unbroken(set(self._segments()), 1)

    @contextmanager
    def opened(self, name: str) -> Iterator[Checkpoint]:
        """Yield the checkpoint `name`, open. Raises `BadCheckpointError`, or what the disk says."""
        checkpoint = self.open(name)
        try:
            yield checkpoint
        finally:
            checkpoint.close()

    def names(self) -> list[str]:
        """Return the names of the checkpoints there are, the newest first."""
        if not self.possible:
            return []
        try:
            names = self._disk.list(self._directory)
        except FileNotFoundError:
            return []
        return sorted((name for name in names if _is_checkpoint(name)), reverse=True)

    def make(
        self,
        until: tuple[int, int],
        retention: Retention | None = None,
        *,
        twice: bool = False,
        lean: bool = False,
    ) -> Kept | None:
        """Make a checkpoint of the log up to `until`, a segment and an offset, and remove what may go.

        All before that is on stable storage. `retention` is how much of the past
        is kept, if not as `store.toml` says. With `twice`, the new one is there
        twice, so that nothing that only an older one needs is kept; with `lean`, as on
        a full disk, only one is kept, before and after. Returns what is
        kept now; None if somebody else is making one. Raises `CorruptionError` at
        damage, or what the disk says.
        """
        if not self.possible:
            return None
        lock = self._disk.open(os.path.join(self._directory, _LOCK), os.O_RDWR | os.O_CREAT)
        try:
            if not self._disk.lock(lock):
                return None
            retention = retention or Retention.parse(self._config.keep_history)
            last = 1 if lean else LAST
            if lean:
                self._prune(retention, last)
            self._make(until)
            if twice:
                self._copy_newest()
            return self._prune(retention, last)
        finally:
            self._disk.close(lock)

    def forget(self, names: Iterable[str]) -> None:
        """Remove the checkpoints called `names`, which are no good, or of a log that is to be another.

        One that comes back after a power cut does not fit, and is passed over.
        """
        remove_checkpoints(self._disk, self._path, list(names))

    def _make(self, until: tuple[int, int]) -> None:
        standing = self.stand()
        if standing.checkpoint:
            for table in standing.checkpoint.tables:
                table.most_cached = _CACHED
        try:
            end, time = self._replay(standing, until)
            if end.sequence and standing.start != end:
                self._write(standing, end, time)
        finally:
            if standing.checkpoint:
                standing.checkpoint.close()

    def _copy_newest(self) -> None:
        """Let the newest checkpoint be there twice."""
        newest = next(iter(self.names()), None)
        if newest is not None and not newest.endswith(_COPY):
            data = self._disk.read_file(os.path.join(self._directory, newest))
            copy = newest.removesuffix(_SUFFIX) + _COPY
            self._disk.write_file(os.path.join(self._directory, copy), data)

    def _prune(self, retention: Retention, last: int) -> Kept:
        """Remove the checkpoints that may go, and tell which segments may.

        While somebody reads, or takes a snapshot, they stay.
        """
        with alone(self._disk, self._path) as nobody_reads:
            found, good, bad = self._planned(retention, last)
            stale = [
                *bad,
                *(known.name for known in good if known.name not in found.plan.checkpoints),
            ]
            if nobody_reads:
                remove_checkpoints(self._disk, self._path, stale)
                stale = []
        return found._replace(stale=tuple(stale))

    def planned(self) -> tuple[Kept, list[Known]]:
        """Return what is kept, as things are, and the good checkpoints. Raises what the disk says."""
        found, good, _ = self._planned(Retention.parse(self._config.keep_history), LAST)
        return found, good

    def _planned(self, retention: Retention, last: int) -> tuple[Kept, list[Known], list[str]]:
        """Return what is kept, the good checkpoints, and the names of the others."""
        good, bad = self._known()
        sizes = self.sizes()
        snapshots = sorted(records for _, records, _ in read_snapshots(self._disk, self._path))
        found = plan(
            good,
            sizes,
            snapshots,
            self._first_of,
            retention,
            time.time_ns(),
            last,
        )
        return Kept(found, good[0] if good else None, sizes, snapshots), good, bad

    def _known(self) -> tuple[list[Known], list[str]]:
        """Return the good checkpoints, the newest first, and the names of the others.

        Raises what the disk says: who cannot read one does not know whether it is good.
        """
        good: list[Known] = []
        bad: list[str] = []
        for name in self.names():
            try:
                with self.opened(name) as checkpoint:
                    good.append(Known(name, checkpoint.position, checkpoint.live))
            except BadCheckpointError:
                bad.append(name)
            except OSError as error:
                if error.errno not in _NO_FILE:
                    raise
                bad.append(name)
        return good, bad

    def open(self, name: str) -> Checkpoint:
        """Open a checkpoint. Raises `BadCheckpointError` if it is none of this log."""
        checkpoint = Checkpoint.open(
            self._disk, os.path.join(self._directory, name), self._config.id
        )
        try:
            self._check_fit(checkpoint)
        except BaseException:
            checkpoint.close()
            raise
        return checkpoint

    def _check_fit(self, checkpoint: Checkpoint) -> None:
        """Raise `BadCheckpointError` if `checkpoint` is not of this log, as it lies here."""
        position = checkpoint.position
        try:
            trace = self._trace(position.segment, position.offset)
        except FileNotFoundError:
            trace = None
        if trace != (position.trace, position.traced):
            raise BadCheckpointError("it does not fit the log")
        if position.defaults != defaults_of(self._disk, self._path, self._config):
            raise BadCheckpointError("the store had another owner")
        missing = checkpoint.live.keys() - set(self._segments())
        if missing:
            message = f"segment {name_of(min(missing))}, which it needs, is missing"
            raise BadCheckpointError(message)

    def _segments(self) -> list[int]:
        """Return the numbers of the segments there are."""
        return numbers_of(self._disk.list(LogPaths.of(self._path).segments))

    def sizes(self) -> dict[int, int]:
        """Return the bytes of each segment there is."""
        segments = LogPaths.of(self._path).segments
        return {
            number: self._disk.stat(os.path.join(segments, name_of(number))).st_size
            for number in self._segments()
        }

    def _first_of(self, number: int) -> int:
        """Return how many records come before a segment. Raises `CorruptionError` at damage."""
        codec = self._config.codec()
        path = os.path.join(LogPaths.of(self._path).segments, name_of(number))
        head = self._disk.read_part(path, self._head, 0)
        try:
            return check_header(codec, self._config.id, number, head) or 0
        except BadRecordError as error:
            raise damaged(number, error) from None

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

    def _trace(self, number: int, offset: int) -> tuple[int, int]:
        """Return a checksum of the head of a segment and some bytes before `offset`; how many."""
        segment = os.path.join(LogPaths.of(self._path).segments, name_of(number))
        head = self._disk.read_part(segment, self._head, 0)
        data = self._disk.read_part(segment, min(offset, TRACE), max(offset - TRACE, 0))
        return crc32c(data, crc32c(head)), len(data)


def remove_checkpoints(disk: Disk, path: str, names: list[str]) -> None:
    """Remove the checkpoints called `names` from the store at `path`, on stable storage on return.

    Or a power cut brings one back that needs a segment which has gone by then. One
    that cannot be removed, such as a directory, stays, with a word to the log of the daemon.
    """
    directory = os.path.join(path, DIRECTORY)
    for name in names:
        try:
            disk.unlink(os.path.join(directory, name))
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("checkpoint %s is left: %s", name, in_words(error))
    if names:
        disk.sync_directory(directory)


def _is_checkpoint(name: str) -> bool:
    return _NAME.fullmatch(name) is not None
