"""The requests about nodes of the past, each led to the place that it is about."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from kvfs.filesystem.attributes import entry, missing
from kvfs.filesystem.changes import Changes
from kvfs.filesystem.past.doors import At, Snapshots
from kvfs.filesystem.past.history import History
from kvfs.filesystem.past.inside import Inside
from kvfs.filesystem.past.later import Later
from kvfs.filesystem.past.numbers import (
    AT,
    CHANGES,
    FIRST_CHANGES,
    HISTORY,
    SNAPSHOTS,
    STATS,
    TRANSACTIONS,
    split,
)
from kvfs.filesystem.past.place import Name, Place
from kvfs.filesystem.past.views import Views
from kvfs.filesystem.shown import as_it_is
from kvfs.filesystem.stats import StatsFile
from kvfs.fuse import protocol
from kvfs.table import CONTROL_INO, KEYS_INO, ROOT_INO

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.figures import Figures
    from kvfs.filesystem.shown import Show
    from kvfs.filesystem.transactions import Transactions
    from kvfs.fuse import Handler, Header, Reply, Session
    from kvfs.store import Store

_DOORS = {b"at": AT, b"history": HISTORY, b"snapshots": SNAPSHOTS, b"tx": TRANSACTIONS}
CONTROL_NAMES = (
    Name(b".", CONTROL_INO),
    Name(b"..", ROOT_INO),
    Name(b"keys", KEYS_INO),
    *(Name(name, number) for name, number in _DOORS.items()),
    Name(b"changes", CHANGES, stat.S_IFREG),
    Name(b"stats", STATS, stat.S_IFREG),
)
"""What `.kvfs` is listed with."""
_REQUESTS = (
    *("LOOKUP", "GETATTR", "SETATTR", "READLINK", "SYMLINK", "MKNOD", "MKDIR", "UNLINK", "RMDIR"),
    *("RENAME", "RENAME2", "LINK", "CREATE", "OPEN", "READ", "WRITE", "LSEEK", "FLUSH", "FSYNC"),
    *("RELEASE", "OPENDIR", "READDIR", "READDIRPLUS", "FSYNCDIR", "RELEASEDIR", "STATFS"),
    *("ACCESS", "POLL", "GETXATTR", "LISTXATTR", "SETXATTR", "REMOVEXATTR"),
)


class Past:
    """The past of a mounted store."""

    def __init__(
        self,
        store: Store,
        session: Session,
        statfs: Handler,
        transactions: Transactions,
        snapshot: Callable[[], Figures],
        show: Show = as_it_is,
    ) -> None:
        """Show the past of `store`, with attributes as `show` has them.

        `statfs` tells of the disk below, `snapshot` of the mount.
        """
        self._counters = session.counters
        self._lock = store.lock
        self._later = Later(session, store.lock)
        self._views = Views(store.path)
        self._inside = Inside(self._views, statfs, show)
        self._history = History(store, statfs, show)
        self.changes = Changes(store, session, statfs)
        self._at = At(store, self._views, self._inside, statfs)
        snapshots = Snapshots(store, self._views, self._inside, statfs)
        self._show = show
        self._transactions = transactions
        transactions.free_number = self._views.reserve
        transactions.give_back = self._views.give_back
        self._doors: dict[int, Place] = {
            AT: self._at,
            SNAPSHOTS: snapshots,
            HISTORY: self._history,
            STATS: StatsFile(statfs, snapshot, store.config.created),
            TRANSACTIONS: transactions,
        }

    def handlers(self) -> dict[int, Handler]:
        """Return what answers each request about a node of the past, by opcode."""
        found = {getattr(protocol, name): self._handler(name.lower()) for name in _REQUESTS}
        found[protocol.FORGET] = self._forget
        return found

    def door(self, name: bytes) -> bytes:
        """Return the entry of `name` in `.kvfs`, or that there is none."""
        number = STATS if name == b"stats" else _DOORS.get(name)
        if number is None:
            return self.changes.find(name) or missing(lasting=False)
        return protocol.ENTRY_OUT.pack(*entry(self._show(self._doors[number].stat), lasting=True))

    def forget(self, number: int, count: int) -> None:
        """Take back `count` references to a node of the past."""
        view, ino = split(number)
        if view in self._transactions.staged:
            self._transactions.staged[view].forget_node(ino, count)
        elif view in self._transactions.known:
            self._transactions.forget(view, count)
        elif view:
            self._views.forget(number, count)
        elif number >= FIRST_CHANGES:
            self.changes.forget(number, count)
        else:
            self._history.forget(number, count)

    def tick(self) -> None:
        """Let go of what nobody uses; every second, without the lock of the store."""
        with self._lock:
            self._at.tidy()
            self._history.tidy()
            idle = self._views.idle()
        for store in idle:
            store.close()
        self._transactions.tidy()

    def stop(self) -> None:
        """Answer no more, and let go of everything."""
        self._later.stop()
        self.changes.stop()
        with self._lock:
            self._transactions.close()
            self._views.close()

    def _forget(self, header: Header, body: memoryview) -> Reply:
        self.forget(header.nodeid, protocol.FORGET_IN.unpack_from(body)[0])
        return None

    def _handler(self, name: str) -> Handler:
        inside, history = self._method(self._inside, name), self._method(self._history, name)
        changes = self._method(self.changes, name)
        doors = {number: self._method(door, name) for number, door in self._doors.items()}
        handle, transactions = self._later.handle, self._transactions.staged

        def handler(header: Header, body: memoryview) -> Reply:
            view, ino = split(header.nodeid)
            if view in transactions:
                return transactions[view].answer(name, header._replace(nodeid=ino), body)
            aside = changes if header.nodeid >= FIRST_CHANGES else history
            place = inside if view else doors.get(header.nodeid, aside)
            return handle(header, body, place)

        return handler

    def _method(self, place: Place, name: str) -> Handler:
        """Return what answers the request `name` at `place`; what is read is counted."""
        method: Handler = getattr(place, name)
        if name != "read":
            return method
        counters = self._counters

        def read(header: Header, body: memoryview) -> Reply:
            data = method(header, body)
            if data is None:  # it waits for what is not there yet, which says nothing of the mount
                counters.pending.pop(header.unique, None)
            else:
                counters.read_bytes += len(data)
            return data

        return read
