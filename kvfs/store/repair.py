"""Salvaging a damaged store: every record that still verifies, and a list of what is lost.

The records that can be kept become a new log, which is replayed once to see
that it is sound and then takes the place of the old one. The old segments go to
`quarantine/`, untouched, with the list beside them. See `survey` for what is
damaged, `salvage` for what is kept, `exchange` for what a crash leaves.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from kvfs.codec.base import CHUNK
from kvfs.disk import Disk
from kvfs.errors import (
    ConfigError,
    KvfsError,
    NewerFormatError,
    NotAStoreError,
    in_words,
)
from kvfs.segment import name_of
from kvfs.store import exchange, origin
from kvfs.store.checkpoints import Checkpoints
from kvfs.store.directories import check_directories
from kvfs.store.dump import Dump, reader
from kvfs.store.listing import losses
from kvfs.store.lock import Lock
from kvfs.store.opening import read_config
from kvfs.store.pieces import Lost, Piece, entry
from kvfs.store.rewrite import rewrite
from kvfs.store.salvage import Salvage
from kvfs.store.verify import examine

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.config import Config
    from kvfs.log import Log
    from kvfs.store.salvage import Fate
    from kvfs.store.survey import Survey
    from kvfs.table import Table


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
        done = done._replace(checkpoints=bad)
        if survey:
            done = _repair(disk, path, config, survey, done)
        elif bad:
            Checkpoints(disk, path, config).forget(bad)
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
    salvage: Salvage | None = None
    records = 0

    def fill(log: Log, table: Table) -> dict[str, object]:
        nonlocal salvage, records
        salvage = Salvage(log, table)
        with Checkpoints(disk, path, config).beginning() as (begin, _):
            if begin.checkpoint:
                dump = Dump(
                    begin.table,
                    reader(disk, path, config),
                    lambda: table.next_ino,
                    None,
                    min(CHUNK, config.max_segment_size // 2),
                )
                _begin(dump, salvage)
        for piece in survey.pieces():
            salvage.take(piece)
        salvage.end()
        records = log.sequence
        return losses(salvage.lost, salvage.fates(), salvage.directories)

    kept = rewrite(disk, path, config, fill)
    assert salvage is not None
    return done._replace(
        lost=salvage.lost,
        fates=salvage.fates(),
        directories=salvage.directories,
        records=records,
        kept=kept,
    )


def _begin(dump: Dump, salvage: Salvage) -> None:
    """Begin with what there was before the log that is left, but for values that are damaged."""
    damaged = set()
    for number, key, extent, reason in dump.damaged():
        segment, offset, length = extent.location
        salvage.note(Lost(name_of(segment), offset, length, reason, "Put", key))
        damaged.add(number)
    for record in dump.records(damaged):
        salvage.take(Piece(record, more=False, lost=entry("checkpoint", 0, 0, record)))
