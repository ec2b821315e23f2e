"""What a store is and how it is: for `kvfs stat`."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kvfs.disk import Disk
from kvfs.segment import name_of
from kvfs.store.checkpoints import DIRECTORY, Checkpoints
from kvfs.store.lock import FILE, holder_of
from kvfs.store.opening import open_store
from kvfs.store.snapshots import list_all

if TYPE_CHECKING:
    from kvfs.store.checkpoints import Kept
    from kvfs.store.keeping import Known
    from kvfs.store.kv import Store
    from kvfs.store.lock import Holder
    from kvfs.store.snapshots import Snapshot


class SegmentStat(NamedTuple):
    """The bytes of a segment.

    Of `bytes`, the newest state needs those that are `live`, only the past that is
    kept the `historic` ones, and nobody the `dead` ones.
    """

    name: str
    bytes: int
    live: int
    historic: int
    dead: int


class CheckpointStat(NamedTuple):
    """A checkpoint that can be used: its size in bytes, and how many records come before it."""

    name: str
    bytes: int
    records: int


class StoreStat(NamedTuple):
    """The figures of a store.

    `created` is in nanoseconds since 1970, and so are the other times; `max_segment_size` and
    `bytes` (of all segments) are in bytes. History is kept as `keep_history` says, and goes back to
    the record `since`, and the time `since_time`. The newest checkpoint stands behind `checkpointed` of
    the `records`. `lost` is how many bytes the log is shorter than it
    was when it was last closed. `holder` is who has it open for writing, `held_since` when
    that last said so: at its beginning, or when it failed.
    """

    path: str
    format: str
    id: str
    created: int
    max_segment_size: int
    keep_history: str
    since: int
    since_time: int
    segments: list[SegmentStat]
    bytes: int
    live: int
    historic: int
    dead: int
    records: int
    checkpointed: int
    checkpoints: list[CheckpointStat]
    snapshots: list[Snapshot]
    values: int
    lost: int
    holder: Holder | None
    held_since: int | None


def stat(path: str) -> StoreStat:
    """Return the figures of the store at `path`, beside a mount or alone.

    Raises `NotAStoreError`, `ConfigError` or `CorruptionError`, or what the
    disk says.
    """
    disk = Disk()
    with open_store(path, read_only=True, create=False, disk=disk) as store:
        config = store.config
        checkpoints = Checkpoints(disk, store.path, config)
        found, good = checkpoints.planned()
        segments = _segments(store, found, good)
        since, since_time = _since(checkpoints)
        holder = holder_of(disk, store.path)
        return StoreStat(
            path=store.path,
            format=config.format,
            id=config.id.hex(),
            created=config.created,
            max_segment_size=config.max_segment_size,
            keep_history=config.keep_history,
            since=since,
            since_time=since_time or config.created,
            segments=segments,
            bytes=sum(segment.bytes for segment in segments),
            live=sum(segment.live for segment in segments),
            historic=sum(segment.historic for segment in segments),
            dead=sum(segment.dead for segment in segments),
            records=store.position,
            checkpointed=store.checkpointed,
            checkpoints=_checkpoints(disk, store.path, good),
            snapshots=list_all(store.path, disk),
            values=len(store),
            lost=store.lost,
            holder=holder,
            held_since=_held_since(disk, store.path) if holder else None,
        )


def _segments(store: Store, found: Kept, good: list[Known]) -> list[SegmentStat]:
    """Return what the segments of an open store hold."""
    live = store.live()
    kept = [known for known in good if known.name in found.plan.checkpoints]
    segments = []
    for number, size in sorted(found.sizes.items()):
        used = min(live[number], size)
        past = size if number >= found.plan.horizon or number in found.plan.pinned else 0
        past = max([past, *(known.live[number] for known in kept)])
        historic = max(min(past, size) - used, 0)
        segments.append(SegmentStat(name_of(number), size, used, historic, size - used - historic))
    return segments


def _checkpoints(disk: Disk, path: str, good: list[Known]) -> list[CheckpointStat]:
    """Return the checkpoints `good`, the oldest first, but those that go meanwhile."""
    found = []
    for known in sorted(good, key=lambda known: known.position.sequence):
        with suppress(FileNotFoundError):
            size = disk.stat(os.path.join(path, DIRECTORY, known.name)).st_size
            found.append(CheckpointStat(known.name, size, known.position.sequence))
    return found


def _since(checkpoints: Checkpoints) -> tuple[int, int]:
    """Return from which record on the log is there, and the time of the one before it, or 0."""
    with checkpoints.beginning() as (begin, _):
        return (begin.start.sequence, begin.time) if begin.start else (0, 0)


def _held_since(disk: Disk, path: str) -> int | None:
    with suppress(FileNotFoundError):
        return disk.stat(os.path.join(path, FILE)).st_mtime_ns
    return None
