"""What a store is and how it is: for `kvfs stat`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from kvfs.disk import Disk
from kvfs.segment import number_of
from kvfs.store.core import Core
from kvfs.store.kv import read_config
from kvfs.store.lock import holder_of

if TYPE_CHECKING:
    from kvfs.store.lock import Holder


class StoreStat(NamedTuple):
    """The figures of a store.

    `created` is in nanoseconds since 1970, `max_segment_size` and `bytes` (of
    all segments) in bytes. `holder` is who has it open for writing.
    """

    path: str
    format: str
    id: str
    created: int
    max_segment_size: int
    segments: int
    bytes: int
    records: int
    values: int
    holder: Holder | None


def stat(path: str) -> StoreStat:
    """Return the figures of the store at `path`, beside a mount or alone.

    Raises `NotAStoreError`, `ConfigError` or `CorruptionError`.
    """
    disk = Disk()
    path = os.path.abspath(path)
    config = read_config(path, disk)
    core = Core(disk, path, config, writable=False)
    try:
        core.open(None, 0)
    finally:
        core.close()
    directory = os.path.join(path, "segments")
    names = [name for name in disk.list(directory) if number_of(name) is not None]
    return StoreStat(
        path,
        config.format,
        config.id.hex(),
        config.created,
        config.max_segment_size,
        len(names),
        sum(disk.stat(os.path.join(directory, name)).st_size for name in names),
        core.log.sequence,
        core.table.values,
        holder_of(disk, path),
    )
