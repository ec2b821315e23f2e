"""When a store is worth a checkpoint, or a compaction, and when its disk is full."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from kvfs.retention import NOTHING, Retention
from kvfs.store.checkpoints import due_in_background
from kvfs.store.keeping import THOROUGH, Policy
from kvfs.store.process import Order
from kvfs.store.reserve import LEAST

if TYPE_CHECKING:
    from kvfs.store.compaction import Fold
    from kvfs.store.core import Core

_LOW = 512 * 1024 * 1024
"""Bytes: with so few left, or a twentieth, a disk is nearly full."""
_OFTEN = 5.0
"""Seconds between two rounds on a disk that is nearly full."""
_SELDOM = 60.0
"""Seconds between two rounds where nothing was written."""
_STEPS = 4  # in which the horizon moves on over the time that history is kept


class Watch:
    """Knows what has been written, and what has become dead, since the last round."""

    def __init__(self, core: Core, policy: Policy) -> None:
        """Watch `core`; before the first round all counts that was replayed when it was opened."""
        self._core = core
        self._policy = policy
        self._retention = Retention.parse(core.config.keep_history)
        self._covered = core.checkpointed
        self._written = -core.log.replayed
        self._dead = 0
        self._live = core.live
        self._moved = 0
        self._held: int | None = None
        """Bytes of segments that only the past needs; not known until somebody asks."""
        self._last = time.monotonic()

    def _unneeded(self) -> int:
        """Return how many bytes before the checkpoint nothing of now needs, as far as the disk tells."""
        with suppress(OSError):
            log = self._core.log
            before = sum(self._core.checkpoints.sizes().values()) - log.replayed - log.written
            return max(before - self._live, 0)
        return 0

    def note_round(self) -> None:
        """Note that a process begins with what is on stable storage by now, or more."""
        core = self._core
        self._covered, self._written = core.log.synced, core.log.written
        self._dead, self._moved = core.table.nodes.dead, core.moved
        self._last = time.monotonic()

    def note_found(self, found: Fold) -> None:
        """Note what a process has found."""
        self._live, self._held = found.live, found.held

    @property
    def live(self) -> int:
        """About how many bytes of the log the values of now take: what was known last, and what came since."""
        core = self._core
        written = core.log.written - self._written - (core.moved - self._moved)
        return max(self._live + written - (core.table.nodes.dead - self._dead), 0)

    @property
    def age(self) -> float:
        """Seconds since the last round began."""
        return time.monotonic() - self._last

    @property
    def may_compact(self) -> bool:
        """Whether anything of the log may ever go."""
        return self._core.checkpoints.possible and not self._retention.is_all

    @property
    def is_ahead(self) -> bool:
        """Whether much more was written since the last round began than is worth another one."""
        ahead = self._core.log.written - self._written
        return ahead > max(self._policy.size, self._live) / 2

    def is_full(self) -> bool:
        """Tell whether so much was written, or has become dead, that it is time for a round."""
        if not self.may_compact:
            return False
        share, size = self._policy
        core = self._core
        changed = max(core.log.written - self._written, core.table.nodes.dead - self._dead)
        return changed >= max(size, share * self._live)

    def is_low(self) -> bool:
        """Tell whether the disk is nearly full, and something may be given back."""
        if not self.may_compact:
            return False
        found = self._core.disk.statvfs(self._core.path)
        return found.f_bavail < min(found.f_blocks // 20, _LOW // found.f_frsize)

    def is_due(self) -> bool:
        """Tell whether it is time for a round."""
        core = self._core
        if not core.checkpoints.possible or not core.log.stable[0] or core.log.failed:
            return False
        records = core.checkpoint_every or due_in_background(core.table.values)
        if core.log.synced - self._covered >= records or self.is_full():
            return True
        if core.log.synced > self._covered and self.age >= _OFTEN and self.is_low():
            return True
        # What only the past needs goes as time does.
        kept, _ = self._retention
        if kept is None or self.age < max(kept / 1e9 / _STEPS, _SELDOM):
            return False
        if self._held is None:
            self._held = self._unneeded()
        return self._held >= self._policy.size

    def order(self) -> Order:
        """Return what a process is to do now. On a disk that is nearly full, history gives way."""
        order = Order(self._core.log.stable, self._policy, nice=not self.is_full())
        if self.is_low():
            return order._replace(policy=THOROUGH, retention=NOTHING, lean=True)
        return order

    @property
    def has_room(self) -> bool:
        """Whether the disk has room for more than is set aside."""
        return self._core.checkpoints.room >= 2 * LEAST

    def set_aside(self) -> bool:
        """Set room aside to empty a full disk with, and tell whether it is there."""
        core = self._core
        if core.checkpoints.possible:
            if not core.reserve.lay(LEAST + 2 * core.checkpoints.newest_size):
                return False
            core.short = False
        return True
