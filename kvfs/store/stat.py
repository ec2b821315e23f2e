"""What a store is and how it is: for `kvfs stat`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvfs.disk import Disk
from kvfs.segment import name_of
from kvfs.store.checkpoints import Checkpoints
from kvfs.store.lock import holder_of
from kvfs.store.opening import open_store

if TYPE_CHECKING:
    from kvfs.store.kv import Store
    from kvfs.store.lock import Holder


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


class StoreStat(NamedTuple):
    """The figures of a store.

    `created` is in nanoseconds since 1970, `max_segment_size` and `bytes` (of
    all segments) in bytes. History is kept as `keep_history` says, and goes back to the
    record `since`. The newest checkpoint stands behind `checkpointed` of
    the `records`. `lost` is how many bytes the log is shorter than it
    was when it was last closed. `holder` is who has it open for writing.
    """

    path: str
    format: str
    id: str
    created: int
    max_segment_size: int
    keep_history: str
    since: int
    segments: list[SegmentStat]
    bytes: int
    live: int
    historic: int
    dead: int
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
        segments = _segments(store, disk)
        return StoreStat(
            path=store.path,
            format=config.format,
            id=config.id.hex(),
            created=config.created,
            max_segment_size=config.max_segment_size,
            keep_history=config.keep_history,
            since=_since(Checkpoints(disk, store.path, config)),
            segments=segments,
            bytes=sum(segment.bytes for segment in segments),
            live=sum(segment.live for segment in segments),
            historic=sum(segment.historic for segment in segments),
            dead=sum(segment.dead for segment in segments),
            records=store.position,
            checkpointed=store.checkpointed,
            values=len(store),
            lost=store.lost,
            holder=holder_of(disk, store.path),
        )


def _segments(store: Store, disk: Disk) -> list[SegmentStat]:
    """Return what the segments of an open store hold."""
    live = store.live()
    found, good = Checkpoints(disk, store.path, store.config).planned()
    kept = [known for known in good if known.name in found.plan.checkpoints]
    segments = []
    for number, size in sorted(found.sizes.items()):
        used = min(live[number], size)
        past = size if number >= found.plan.horizon or number in found.plan.pinned else 0
        past = max([past, *(known.live[number] for known in kept)])
        historic = max(min(past, size) - used, 0)
        segments.append(SegmentStat(name_of(number), size, used, historic, size - used - historic))
    return segments


def _since(checkpoints: Checkpoints) -> int:
    """Return from which record on the log is there."""
    with checkpoints.beginning() as (begin, _):
        return begin.start.sequence if begin.start else 0
