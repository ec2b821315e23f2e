"""One fsync for all who wait, in a thread of its own: group commit.

The same thread does what comes every second: it logs what was added to files
in place, or read, and syncs the log. It takes the lock of the store for the
former and none for the latter, so that others go on meanwhile.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvfs.errors import KvfsError, StoreFailedError

if TYPE_CHECKING:
    from kvfs.store import Store

_log = logging.getLogger(__name__)
_INTERVAL = 1.0  # seconds between syncs in the background
_MOST = 1000  # access times to log at once: some milliseconds

Done = Callable[[int], object]
"""Told 0, or the errno that says why not."""


class Syncer:
    """Brings what is logged to stable storage, once for all who wait."""

    def __init__(self, store: Store, interval: float = _INTERVAL) -> None:
        """Sync the log of `store`, at the latest `interval` seconds after a change."""
        self._store = store
        self._interval = interval
        self._condition = threading.Condition()
        self._waiting: list[Done] = []
        self._stopping = self._failed = False
        self._thread = threading.Thread(target=self._run, name="kvfs-sync", daemon=True)

    def start(self) -> None:
        """Begin. Raises `RuntimeError` where no thread can be started."""
        self._thread.start()

    def stop(self) -> None:
        """End, once those who wait have been told."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()

    def when_synced(self, done: Done) -> None:
        """Call `done` once everything logged before this call survives a power cut, or will not.

        Comes from the thread that logs, or with the lock of the store.
        """
        with self._condition:
            self._waiting.append(done)
            self._condition.notify()

    def _run(self) -> None:
        due = time.monotonic() + self._interval
        while (waiting := self._next(due)) is not None:
            if time.monotonic() >= due:
                self._tick()
                due = time.monotonic() + self._interval
            if waiting or not self._failed:
                code = self._sync()
                for done in waiting:
                    done(code)

    def _next(self, due: float) -> list[Done] | None:
        """Return who waits, at the latest at the time `due`; None at the end."""
        with self._condition:
            left = max(due - time.monotonic(), 0)
            self._condition.wait_for(lambda: self._waiting or self._stopping, left)
            waiting, self._waiting = self._waiting, []
            return None if self._stopping and not waiting else waiting

    def _tick(self) -> None:
        """Log what was added to files, or read; free what the table holds for those of late.

        A full disk is no failure: those who write are told, and may make room.
        """
        try:
            with self._store.lock:
                self._store.files.content.commit_runs()
                self._store.files.access_times.commit(_MOST)
                self._store.files.settle()
        except KvfsError as error:
            self._note(error)

    def _sync(self) -> int:
        """Sync if there is anything new; return 0, or why that failed, now or before."""
        store = self._store
        try:
            if store.synced < store.position:
                store.sync_log()
            store.check_healthy()
        except KvfsError as error:
            self._note(error)
            return error.errno or errno.EIO
        except Exception:  # noqa: BLE001 - those who wait must be told
            _log.exception("a sync failed unexpectedly")
            return errno.EIO
        return 0

    def _note(self, error: KvfsError) -> None:
        if isinstance(error, StoreFailedError) and not self._failed:
            self._failed = True
            _log.error("background sync stopped: %s", error)
