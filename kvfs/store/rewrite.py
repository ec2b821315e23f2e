"""Writing the log of a store anew, as a whole, and putting it in the place of the old one."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from kvfs.errors import ConfigError, CorruptionError
from kvfs.log import Log
from kvfs.recovery import LogPaths
from kvfs.store import exchange
from kvfs.store.checkpoints import Checkpoints, Standing, defaults_of
from kvfs.store.directories import check_directories
from kvfs.store.dump import Dump, reader
from kvfs.store.lock import Lock
from kvfs.store.moment import read_snapshots
from kvfs.store.verify import replay
from kvfs.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.config import Config
    from kvfs.disk import Disk

_UNBOUNDED = 2**32 - 1
_WAIT = 1.0  # second for another short command to finish


def rewrite(
    disk: Disk, path: str, config: Config, fill: Callable[[Log, Table], dict[str, object]]
) -> str:
    """Let what `fill` appends be the log of the store at `path`, which nobody else writes.

    `fill` gets the empty log and its table, to which it applies what it appends. What
    it returns is kept, in JSON, beside the old log. Returns where that is kept. Raises
    `CorruptionError` if the new log is not sound, or what the disk says; then the old
    one is as it was, or `exchange.finish` goes on.
    """
    try:
        work, number = exchange.begin(disk, path)
        listed = _write(disk, path, work, config, fill)
    except BaseException:
        with suppress(OSError):
            exchange.abandon(disk, path)
        raise
    return exchange.take_place(disk, path, number, exchange.dump_list(listed))


def _write(
    disk: Disk,
    path: str,
    work: str,
    config: Config,
    fill: Callable[[Log, Table], dict[str, object]],
) -> dict[str, object]:
    """Write the log to the directory `work`, synced and verified."""
    paths = LogPaths(work, os.path.join(path, "quarantine"), os.path.join(work, "clean"))
    table = Table(*defaults_of(disk, path, config))
    log = Log(disk, paths, config, writable=True)
    log.max_record = _UNBOUNDED  # what was written once is kept, whatever `store.toml` says now
    try:
        for _ in log.replay():
            pass  # there is nothing yet
        listed = fill(log, table)
        log.sync()
    finally:
        log.close()
    with suppress(FileNotFoundError):
        disk.unlink(paths.clean)
    _verify(disk, paths, config, table, log.sequence)
    return listed


def _verify(disk: Disk, paths: LogPaths, config: Config, table: Table, records: int) -> None:
    """Raise `CorruptionError` if the log at `paths` is not sound or not what was written."""
    empty = Standing(Table(table.uid, table.gid, config.created), None, 0)
    found = replay(disk, paths, config, empty)
    if found.problems or (found.records, found.values) != (records, table.values):
        reason = found.problems[0] if found.problems else "it does not hold what was written"
        message = f"the new log would not be sound ({reason}); nothing was changed"
        raise CorruptionError(message)


def compact_text(disk: Disk, path: str, config: Config) -> None:
    """Leave of the log of the text store at `path` what makes the same state, and not more.

    Nobody else may have it open for writing. Raises `StoreLockedError`, `ConfigError`
    while there are snapshots, `CorruptionError` at damage, or what the disk says.
    """
    lock = Lock(disk, path)
    lock.take(None, _WAIT)
    try:
        check_directories(disk, path, make=True)
        exchange.finish(disk, path)
        if any(read_snapshots(disk, path)):
            raise ConfigError("the log of a text store is all that its snapshots have: delete them")
        begin = Checkpoints(disk, path, config).begin()
        found = replay(disk, LogPaths.of(path), config, begin)
        if found.problems:
            raise CorruptionError(found.problems[0])
        old = begin.table

        def fill(log: Log, table: Table) -> dict[str, object]:
            read = reader(disk, path, config)
            dump = Dump(old, read, lambda: table.next_ino, config.created, config.max_segment_size)
            for record in dump.records():
                table.apply(record, log.append([record])[0])
            return {}

        kept = rewrite(disk, path, config, fill)
        exchange.empty(disk, kept)
        disk.unlink(f"{kept}.json")
    finally:
        lock.release()
