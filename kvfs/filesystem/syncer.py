"""One fsync for all who wait: group commit.

Where the disk is slow, a thread of its own does it, so that others go on
meanwhile. Where it takes no longer than a few requests, the thread that serves
does it itself once no request is waiting, and nobody has to wake anybody.

The thread also does what comes every second: it logs what was added to files
in place, or read, syncs the log, and sees to what the store does in the
background. It takes the lock of the store for the first and none for the others.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvfs.errors import CorruptionError, KvfsError, StoreFailedError

if TYPE_CHECKING:
    from kvfs.store import Store

_log = logging.getLogger(__name__)
_INTERVAL = 1.0  # seconds between syncs in the background
_PAUSE = 0.02  # seconds for others while much is to be removed
_QUICK = 0.001  # seconds of a sync that the thread that serves does itself
_MOST = 1000  # access times to log, or files to remove, at once: some milliseconds

Done = Callable[[int], object]
"""Told 0, or the errno that says why not."""


class Syncer:
    """Brings what is logged to stable storage, once for all who wait."""

    def __init__(
        self,
        store: Store,
        defer: Callable[[Callable[[bool], object]], object],
        interval: float = _INTERVAL,
    ) -> None:
        """Sync the log of `store`, at the latest `interval` seconds after a change.

        `defer` calls its argument in the thread that serves, when no request
        is waiting (True) or that takes too long (False).
        """
        self._store = store
        self._defer = defer
        self._interval = interval
        self._took = _QUICK  # seconds of the last sync, and of a good disk before that
        self._deferred: list[Done] = []
        self._condition = threading.Condition()
        self._waiting: list[Done] = []
        self._stopping = self._failed = self._woken = False
        self._noted = ""
        self.also: Callable[[], object] = lambda: None
        """What else is to be done every second, without the lock of the store."""
        self.expired: Callable[[int, bytes, int], object] = lambda *_place: None
        """Told the names that were removed since their time was over: see `Files.expire`."""
        self._thread = threading.Thread(target=self._run, name="kvfs-sync", daemon=True)

    def start(self) -> None:
        """Begin. Raises `RuntimeError` where no thread can be started."""
        self._store.background.wake = self._wake
        self._thread.start()

    def stop(self) -> None:
        """End, once those who wait have been told."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()

    def _wake(self) -> None:
        """See to what is due in the background at once."""
        with self._condition:
            self._woken = True
            self._condition.notify()

    def when_synced(self, done: Done) -> None:
        """Call `done` once everything logged before this call survives a power cut, or will not.

        For the thread that serves.
        """
        if self._took > _QUICK:
            self._leave_to_thread([done])
            return
        self._deferred.append(done)
        if len(self._deferred) == 1:
            self._defer(self._sync_deferred)

    def _sync_deferred(self, idle: bool) -> None:  # noqa: FBT001 - as `defer` has it
        waiting, self._deferred = self._deferred, []
        if idle:
            _tell(waiting, self._sync())
        else:
            self._leave_to_thread(waiting)

    def _leave_to_thread(self, waiting: list[Done]) -> None:
        with self._condition:
            self._waiting += waiting
            self._condition.notify()

    def _run(self) -> None:
        due = again = time.monotonic() + self._interval
        while (waiting := self._next(min(due, again))) is not None:
            is_due = time.monotonic() >= due
            if is_due:
                self._tick()
                due = time.monotonic() + self._interval
            if waiting or (is_due and not self._failed):
                _tell(waiting, self._sync())
            if is_due:
                self._do_also()
            if self._woken or time.monotonic() >= again:
                self._woken = False
                pause = self._interval if self._failed else min(self._maintain(), self._expire())
                again = time.monotonic() + pause

    def _next(self, due: float) -> list[Done] | None:
        """Return who waits, at the latest at the time `due`; None at the end."""
        with self._condition:
            left = max(due - time.monotonic(), 0)
            self._condition.wait_for(lambda: self._waiting or self._stopping or self._woken, left)
            waiting, self._waiting = self._waiting, []
            return None if self._stopping and not waiting else waiting

    def _tick(self) -> None:
        """Log what was added to files, or read; free what is held for those of late.

        A full disk is no failure: those who write are told, and may make room.
        """
        try:
            with self._store.lock:
                self._store.files.content.commit_runs()
                self._store.files.access_times.commit(_MOST)
                self._store.files.settle()
        except KvfsError as error:
            self._note(error)

    def _expire(self) -> float:
        """Remove some of what has expired; return the seconds until the next time."""
        try:
            with self._store.lock:
                self._store.files.expire(_MOST, self.expired)
                # Soon, so that who writes to a key that is over makes a new one.
                return max(min(self._store.files.until_expiry(), self._interval), _PAUSE)
        except KvfsError as error:
            self._note(error)
            return self._interval

    def _do_also(self) -> None:
        try:
            self.also()
        except Exception:  # noqa: BLE001 - as below
            _log.exception("what is due every second failed unexpectedly")

    def _maintain(self) -> float:
        """Do what is due in the background; return the seconds until the next time."""
        try:
            return self._store.maintain()
        except Exception:  # noqa: BLE001 - those who wait for a sync must not wait for ever
            _log.exception("what is due in the background failed unexpectedly")
            return self._interval

    def _sync(self) -> int:
        """Sync if there is anything new; return 0, or why that failed, now or before."""
        store = self._store
        try:
            if store.synced < store.position:
                start = time.perf_counter()
                store.sync_log()
                self._took = time.perf_counter() - start
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
        elif isinstance(error, CorruptionError) and str(error) != self._noted:
            self._noted = str(error)
            _log.error("%s", error)


def _tell(waiting: list[Done], code: int) -> None:
    for done in waiting:
        done(code)
