"""The store as it is logged, opened once more for transactions to stand on.

To open a store takes a replay of its log; to bring one forward that is open
takes only what is new. So one that nobody stands on any more is kept for a while.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from kvfs.errors import KvfsError
from kvfs.log import Log
from kvfs.recovery import LogPaths
from kvfs.store.checkpoints import Standing
from kvfs.store.core import Core
from kvfs.store.opening import read_config

if TYPE_CHECKING:
    from kvfs.disk import Disk

IDLE = 60.0
"""Seconds after which one that nobody stands on is closed."""


class Ground(Core):
    """A store that is open for reading, for one transaction; when it was `used` last."""

    def __init__(self, disk: Disk, path: str) -> None:
        """Open what is logged at this moment. Raises as `open_store` does."""
        super().__init__(disk, path, read_config(path, disk), writable=False)
        self.open(None)
        self.used = time.monotonic()

    def forward(self) -> None:
        """Read what is new in the log. Nobody may stand on it. Raises what the log says.

        What lay in segments that have been removed since was moved to where the log tells.
        """
        self._reading.begin()
        log = Log(self.disk, LogPaths.of(self.path), self.config, writable=False)
        Standing(self.table, None, 0).forward(log.replay(self.log.replayed_end))
        self.table.nodes.settle(lambda _ino: False)
        self.log.close()
        self.log = log

    def rest(self) -> None:
        """Let segments be removed, until it is brought forward."""
        self._reading.end()


class Grounds:
    """Those of one store that nobody stands on. Each call may come from any thread."""

    def __init__(self, disk: Disk, path: str) -> None:
        """Open the store at `path`, when it is needed."""
        self._disk = disk
        self._path = path
        self._lock = threading.Lock()
        self._idle: Ground | None = None
        self._closed = False

    def take(self) -> Ground:
        """Return one with all that is logged, for who gives it back to `release`. Raises what the log says."""
        ground = self._swap(None)
        if ground is None:
            return Ground(self._disk, self._path)
        try:
            ground.forward()
        except KvfsError:  # what comes next in the log may have been removed
            ground.close()
            return Ground(self._disk, self._path)
        except BaseException:
            ground.close()
            raise
        return ground

    def release(self, ground: Ground) -> None:
        """Keep `ground`, which nobody stands on any more, for the next."""
        ground.used = time.monotonic()
        ground.rest()
        surplus = ground if self._closed else self._swap(ground)
        if surplus:
            surplus.close()

    def tidy(self) -> None:
        """Close what nobody has used for long."""
        idle = self._idle
        if idle and time.monotonic() - idle.used > IDLE:
            found = self._swap(None)
            if found:
                found.close()

    def close(self) -> None:
        """Close all, those that somebody stands on when they are given back."""
        self._closed = True
        idle = self._swap(None)
        if idle:
            idle.close()

    def _swap(self, ground: Ground | None) -> Ground | None:
        """Let `ground` be the idle one, and return the one that was."""
        with self._lock:
            self._idle, before = ground, self._idle
            return before
