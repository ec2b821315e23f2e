"""What an open store is and has done, in numbers; `stat` looks closer, at one that may be closed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvfs.store.background import Background
    from kvfs.store.core import Core

_TRIES = 100
"""A list of segments is good if none of them goes before it was looked at."""


def figures(core: Core, background: Background) -> dict[str, dict[str, Any]]:
    """Return the figures of the store of `core`, grouped, with plain values; from any thread.

    Times are in seconds since 1970, and what was done is counted since the store
    was opened. `log.live` is about right: see `Watch.live`.
    """
    log, sizes = core.log, _sizes(core)
    with core.lock:
        size = sum(sizes.values())
        return {
            "store": {
                "path": core.path,
                "id": core.config.id.hex(),
                "format": core.config.format,
                "keys": core.table.values,
                "failed": int(log.failed),
            },
            "log": {
                "records": log.sequence,
                "synced": log.synced,
                "appended": log.sequence - log.replayed_end.sequence,
                "appended_bytes": log.written,
                "segments": len(sizes),
                "bytes": size,
                "live_bytes": min(background.watch.live, size),
            },
            "sync": {
                "count": sum(log.syncs.buckets),
                **log.syncs.figures(),
                "last": log.last_sync / 1e9,
            },
            "cache": {"hits": core.hits, "misses": core.misses},
            "checkpoints": {"made": background.checkpoints},
            "compaction": {"moved_bytes": core.moved, "removed_segments": core.removed},
        }


def _sizes(core: Core) -> dict[int, int]:
    """Return the bytes of each segment, also while some are being removed."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            return core.checkpoints.sizes()
    return core.checkpoints.sizes()
