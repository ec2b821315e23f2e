"""What a mount has done: one snapshot, for `.kvfs/stats`, the control socket and metrics alike."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from kvfs import __version__
from kvfs.errors import PosixError
from kvfs.figures import to_text
from kvfs.filesystem.attributes import attributes, entry
from kvfs.filesystem.past.later import alone
from kvfs.filesystem.past.numbers import STATS
from kvfs.filesystem.past.place import Place, entry_flags
from kvfs.fuse import protocol
from kvfs.store.nodes import Stat

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.figures import Figures
    from kvfs.fuse import Handler, Header, Reply, Session
    from kvfs.store import Store


class Statistics:
    """The figures of one mount."""

    def __init__(self, store: Store, session: Session) -> None:
        """Tell of `session`, which serves `store`."""
        self._store = store
        self._session = session
        self._started = time.time()

    def snapshot(self) -> Figures:
        """Return the figures as they are now; from any thread, without the lock of the store.

        Raises what the disk says.
        """
        session, counters = self._session, self._session.counters
        requests, pace = counters.by_kind(), session.pace
        total = sum(kind["count"] for kind in requests.values())
        return {
            "mount": {
                "version": __version__,
                "mountpoint": session.mountpoint,
                "pid": os.getpid(),
                "started": self._started,
                "uptime": time.time() - self._started,
            },
            **self._store.figures(),
            "data": {
                "read_bytes": counters.read_bytes,
                "written_bytes": counters.written_bytes,
            },
            "wait": {
                "polled": pace.polled,
                "shared": pace.shared,
                "slept": max(total - pace.polled - pace.shared, 0),
                "handovers": pace.handovers,
            },
            "errors": {
                errno.errorcode.get(code, str(code)): count
                for code, count in sorted(counters.errors().items())
            },
            "requests": requests,
        }


class StatsFile(Place):
    """`.kvfs/stats`: made afresh at each open, and the same for all reads of that."""

    def __init__(self, statfs: Handler, snapshot: Callable[[], Figures], time: int) -> None:
        """Show what `snapshot` returns; the file is as old as `time`, in nanoseconds, says."""
        super().__init__(statfs)
        self._snapshot = snapshot
        self._open: dict[int, bytes] = {}
        owner = os.geteuid(), os.getegid()
        self.stat = Stat(STATS, stat.S_IFREG | 0o444, 1, *owner, 0, 0, 0, time, time, time)

    def getattr(self, header: Header, body: memoryview) -> Reply:
        """Return the attributes of the file; nobody knows its size before it is opened."""
        return attributes(self.stat)

    def lookup(self, header: Header, body: memoryview) -> Reply:
        """Find nothing: it is no directory."""
        if body[:-1].tobytes() == b".":
            return protocol.ENTRY_OUT.pack(*entry(self.stat, lasting=True))
        raise PosixError(errno.ENOTDIR)

    def open(self, header: Header, body: memoryview) -> Reply:
        """Take a snapshot, in another thread: a log may have many segments to be looked at."""
        entry_flags(protocol.OPEN_IN.unpack_from(body)[0])
        raise alone(header, lambda: to_text(self._snapshot()), self._opened)

    def _opened(self, text: str) -> bytes:
        fh = self._next
        self._next += 1
        self._open[fh] = text.encode("utf-8", "surrogateescape")
        return protocol.OPEN_OUT.pack(fh, protocol.FOPEN_DIRECT_IO | protocol.FOPEN_NOFLUSH, 0)

    def read(self, header: Header, body: memoryview) -> Reply:
        """Read from the snapshot that was taken at the open."""
        fh, offset, size, _, _ = protocol.READ_IN.unpack_from(body)
        return self._open[fh][offset : offset + size]

    def lseek(self, header: Header, body: memoryview) -> Reply:
        """Find no data and no holes: the size is not known."""
        raise PosixError(errno.EINVAL)

    def release(self, header: Header, body: memoryview) -> Reply:
        """Close the file."""
        del self._open[protocol.HANDLE_IN.unpack_from(body)[0]]
        return b""

    def opendir(self, header: Header, body: memoryview) -> Reply:
        """Refuse: it is no directory."""
        raise PosixError(errno.ENOTDIR)
