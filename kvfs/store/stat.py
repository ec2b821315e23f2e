"""What a store is and how it is: for `kvfs stat`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from kvfs.disk import Disk
from kvfs.segment import name_of, numbers_of
from kvfs.store.lock import holder_of
from kvfs.store.opening import open_store

if TYPE_CHECKING:
    from kvfs.store.lock import Holder


class StoreStat(NamedTuple):
    """The figures of a store.

    `created` is in nanoseconds since 1970, `max_segment_size` and `bytes` (of
    all segments) in bytes. The newest checkpoint stands behind `checkpointed` of
    the `records`. `lost` is how many bytes the log is shorter than it
    was when it was last closed. `holder` is who has it open for writing.
    """

    path: str
    format: str
    id: str
    created: int
    max_segment_size: int
    segments: int
    bytes: int
    records: int
    checkpointed: int
    values: int
    lost: int
    holder: Holder | None


def stat(path: str) -> StoreStat:
    """Return the figures of the store at `path`, beside a mount or alone.

    Raises `NotAStoreError`, `ConfigError` or `CorruptionError`, or what the
    disk says.
    """
    disk = Disk()
    with open_store(path, read_only=True, create=False, disk=disk) as store:
        config = store.config
        directory = os.path.join(store.path, "segments")
        names = [name_of(number) for number in numbers_of(disk.list(directory))]
        return StoreStat(
            store.path,
            config.format,
            config.id.hex(),
            config.created,
            config.max_segment_size,
            len(names),
            sum(disk.stat(os.path.join(directory, name)).st_size for name in names),
            store.position,
            store.checkpointed,
            len(store),
            store.lost,
            holder_of(disk, store.path),
        )
