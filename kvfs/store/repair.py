"""Salvaging a damaged store: every record that still verifies, and a list of what is lost.

The records that can be kept become a new log, which is replayed once to see
that it is sound and then takes the place of the old one. The old segments go to
`quarantine/`, untouched, with the list beside them. See `survey` for what is
damaged, `salvage` for what is kept, `exchange` for what a crash leaves.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kvfs.disk import Disk
from kvfs.errors import (
    ConfigError,
    CorruptionError,
    KvfsError,
    NewerFormatError,
    NotAStoreError,
    in_words,
)
from kvfs.log import Log
from kvfs.recovery import LogPaths
from kvfs.store import exchange, origin
from kvfs.store.checkpoints import Checkpoints, Standing, defaults_of
from kvfs.store.core import check_directories
from kvfs.store.listing import losses
from kvfs.store.lock import Lock
from kvfs.store.moment import SNAPSHOTS
from kvfs.store.opening import read_config
from kvfs.store.salvage import Salvage
from kvfs.store.verify import examine, replay
from kvfs.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.config import Config
    from kvfs.store.pieces import Lost
    from kvfs.store.salvage import Fate
    from kvfs.store.survey import Survey

_UNBOUNDED = 2**32 - 1


class Repair(NamedTuple):
    """What was done to a store.

    `rebuilt` tells whether `store.toml` was made anew, `finished` whether an
    earlier repair came to its end; `checkpoints` were no good and have gone, which
    loses nothing. A log that is sound has nothing of what follows.
    `lost` is what could not be kept, `fates` what became of its keys,
    `directories` those that were made for the owner alone, `records` how many
    the new log has. The old log is kept in the directory `kept`, and the lists
    as JSON in the file of that name and `.json`.
    """

    rebuilt: bool
    finished: bool
    checkpoints: list[str]
    lost: list[Lost]
    fates: list[Fate]
    directories: list[bytes]
    records: int
    kept: str | None


def repair(
    path: str, progress: Callable[[int, int], object] | None = None, disk: Disk | None = None
) -> Repair:
    """Salvage the store at `path`, which nobody else may have open for writing.

    A sound store is left as it is. `progress` is called with the bytes done and
    the bytes in all. Raises `StoreLockedError`, `NotAStoreError`, `ConfigError`
    where `store.toml` is another store's, or what the disk says; then the log is
    as it was, or the next call comes to the end.
    """
    disk = disk or Disk()
    path = os.path.abspath(path)
    rebuilt = False
    try:
        config = read_config(path, disk)
    except NewerFormatError:
        raise
    except (ConfigError, NotAStoreError) as error:
        config, rebuilt = origin.rebuild(disk, path, error), True
    lock = Lock(disk, path)
    lock.take(None)
    try:
        check_directories(disk, path, make=True)
        origin.check_origin(disk, path, config)
        finished = exchange.finish(disk, path)
        if rebuilt:
            origin.replace(disk, path, config)
        done = Repair(rebuilt, finished, [], [], [], [], 0, None)
        report, survey = examine(disk, path, config, progress)
        bad = [checkpoint.name for checkpoint in report.checkpoints if checkpoint.problem]
        if bad:
            Checkpoints(disk, path, config).forget(bad)
            done = done._replace(checkpoints=bad)
        if survey:
            done = _repair(disk, path, config, survey, done)
    except OSError as error:
        if isinstance(error, KvfsError):
            raise
        message = f"the repair did not come to its end: {in_words(error, path)}; try again"
        raise KvfsError(message, error.errno) from error
    else:
        return done
    finally:
        lock.release()


def _repair(disk: Disk, path: str, config: Config, survey: Survey, done: Repair) -> Repair:
    try:
        work, number = exchange.begin(disk, path)
        done = _rewrite(disk, path, work, config, survey, done)
    except BaseException:
        with suppress(OSError):
            exchange.abandon(disk, path)
        raise
    checkpoints = Checkpoints(disk, path, config)
    checkpoints.forget(checkpoints.names())  # they know the old log, and so do
    snapshots = os.path.join(path, SNAPSHOTS)
    with suppress(FileNotFoundError):
        disk.rename(snapshots, os.path.join(path, "quarantine", f"{SNAPSHOTS}.{number}"))
    listed = json.dumps(losses(done.lost, done.fates, done.directories), indent=1)
    kept = exchange.take_place(disk, path, number, listed.encode() + b"\n")
    return done._replace(kept=kept)


def _rewrite(
    disk: Disk, path: str, work: str, config: Config, survey: Survey, done: Repair
) -> Repair:
    """Write what can be kept of the log to the directory `work`, synced."""
    paths = LogPaths(work, os.path.join(path, "quarantine"), os.path.join(work, "clean"))
    table = Table(*defaults_of(disk, path, config))
    log = Log(disk, paths, config, writable=True)
    log.max_record = _UNBOUNDED  # what was written once is kept, whatever `store.toml` says now
    salvage = Salvage(log, table)
    try:
        for _ in log.replay():
            pass  # there is nothing yet
        for piece in survey.pieces():
            salvage.take(piece)
        salvage.end()
        log.sync()
    finally:
        log.close()
    with suppress(FileNotFoundError):
        disk.unlink(paths.clean)
    _verify(disk, paths, config, table, log.sequence)
    return done._replace(
        lost=salvage.lost,
        fates=salvage.fates(),
        directories=salvage.directories,
        records=log.sequence,
    )


def _verify(disk: Disk, paths: LogPaths, config: Config, table: Table, records: int) -> None:
    """Raise `CorruptionError` if the log at `paths` is not sound or not what was written."""
    empty = Standing(Table(table.uid, table.gid, config.created), None, 0)
    found = replay(disk, paths, config, empty)
    if found.problems or (found.records, found.values) != (records, table.values):
        reason = found.problems[0] if found.problems else "it does not hold what was written"
        message = f"the log that a repair would leave is not sound ({reason}); nothing was changed"
        raise CorruptionError(message)
