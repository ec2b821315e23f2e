"""One fsync for all who wait: group commit, off the event loop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from kvfs.errors import KvfsError

if TYPE_CHECKING:
    from kvfs.store import Store

_log = logging.getLogger(__name__)
_INTERVAL = 1.0  # seconds between syncs in the background
_MOST = 1000  # access times to log at once: some milliseconds


class Syncer:
    """Brings what is logged to stable storage, in a thread, once for all callers."""

    def __init__(self, store: Store) -> None:
        """Sync the log of `store`."""
        self._store = store
        self._running: trio.Event | None = None

    async def sync(self) -> None:
        """Return once everything logged before the call survives a power cut.

        Raises `StoreFailedError`.
        """
        store = self._store
        target = store.position
        while store.synced < target:
            if self._running is not None:
                await self._running.wait()
                continue
            self._running = trio.Event()
            try:
                await self._sync_log()
            finally:
                self._running.set()
                self._running = None
        store.check_healthy()

    async def _sync_log(self) -> None:
        try:
            await trio.to_thread.run_sync(self._store.sync_log)
        except RuntimeError as error:
            # No thread can be started: better to stop everybody for a while than to fail.
            _log.warning("syncing without a thread: %s", error)
            self._store.sync_log()

    async def run(self) -> None:
        """Every second, log what was added to files, or read, and sync it, until the store fails.

        A full disk is no failure: those who write are told, and may make room.
        """
        try:
            while True:
                await trio.sleep(_INTERVAL)
                self._store.files.content.commit_runs()
                self._store.files.access_times.commit(_MOST)
                if self._store.synced < self._store.position:
                    await self.sync()
        except KvfsError as error:
            _log.error("background sync stopped: %s", error)
