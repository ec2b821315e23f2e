"""The views that the kernel knows, and the stores that are open for them.

A view is a name below `.kvfs/at` or `.kvfs/snapshots` and the sequence number
that it stands for; it has nodes of its own, as the kernel lets a directory
have one name only. Views of one sequence number share a store. That is closed
when nobody has used it for a while, or for another one, and opened again at the
same sequence number when the kernel comes with a node that it knows from before.
"""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from kvfs.errors import ConfigError, KvfsError, PosixError
from kvfs.filesystem.past.later import NotYetError
from kvfs.filesystem.past.numbers import VIEWS, split
from kvfs.store import open_store
from kvfs.store.moment import Moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.store import Files, Store
    from kvfs.store.nodes import Stat

IDLE = 60.0
"""Seconds after which a store that nobody uses is closed."""
MOST_OPEN = 8
"""So many stores are open at once."""


class View:
    """The name `name`, in the directory `door`, of the store as it was after `sequence`.

    `references` is how many the kernel has to its nodes, `handles` how many files
    and directories are open there; `top` are the attributes of its root, once known,
    and `time` (ns since 1970) is what it has as its time until then.
    """

    __slots__ = (
        "door",
        "handles",
        "name",
        "number",
        "references",
        "sequence",
        "time",
        "top",
        "used",
    )

    def __init__(self, number: int, door: int, name: bytes, sequence: int) -> None:
        """Make a view that nobody knows yet."""
        self.number = number
        self.door = door
        self.name = name
        self.sequence = sequence
        self.references = self.handles = 0
        self.top: Stat | None = None
        self.time = 0
        self.used = 0.0


class Opened:
    """A store that is open for views: when it was last used, and for how many handles."""

    __slots__ = ("handles", "store", "used")

    def __init__(self, store: Store, now: float) -> None:
        """Note `store`, which was opened just now."""
        self.store = store
        self.used = now
        self.handles = 0


class Views:
    """The views of the store at one path. All but `open` is called with the lock of the live store."""

    def __init__(self, path: str, now: Callable[[], float] = time.monotonic) -> None:
        """Open stores at `path`; `now` is the clock."""
        self._path = path
        self._now = now
        self._views: dict[int, View] = {}
        self._named: dict[tuple[int, bytes, int], View] = {}
        self._next = 1
        self._reserved: set[int] = set()
        self._opened: dict[int, Opened] = {}
        self._to_close: list[Store] = []
        self._closed = False

    # -- views -------------------------------------------------------------------------

    def view(self, door: int, name: bytes, sequence: int) -> View:
        """Return the view of `sequence` that has `name` in the directory `door`."""
        place = door, name, sequence
        found = self._named.get(place)
        if found is None:
            found = View(self._free_number(), *place)
            self._views[found.number] = self._named[place] = found
        return found

    def find(self, number: int) -> tuple[View, int]:
        """Return the view of a node, and the number that this has in the store."""
        view, ino = split(number)
        if view not in self._views:
            raise PosixError(errno.ENOENT)
        return self._views[view], ino

    def forget(self, number: int, count: int) -> None:
        """Take back `count` references to a node."""
        view = self._views.get(split(number)[0])
        if view is None:
            return
        view.references -= count
        if view.references <= 0:
            del self._views[view.number], self._named[view.door, view.name, view.sequence]

    def shown(self, door: int) -> list[bytes]:
        """Return the names in the directory `door` whose stores are open."""
        views = self._views.values()
        return sorted({v.name for v in views if v.door == door and v.sequence in self._opened})

    def is_used(self, view: View, seconds: float) -> bool:
        """Tell whether something is open in a view, or it was used less than `seconds` ago."""
        return bool(view.handles) or self._now() - view.used < seconds

    def reserve(self) -> int:
        """Return a number that no view has, nor will have until it is given back."""
        number = self._free_number()
        self._reserved.add(number)
        return number

    def give_back(self, number: int) -> None:
        """Let a view have a number that was reserved."""
        self._reserved.discard(number)

    def _free_number(self) -> int:
        if len(self._views) + len(self._reserved) >= VIEWS - 1:
            raise PosixError(errno.ENFILE)
        while self._next in self._views or self._next in self._reserved:
            self._next = self._next % (VIEWS - 1) + 1
        number = self._next
        self._next = self._next % (VIEWS - 1) + 1
        return number

    # -- stores ------------------------------------------------------------------------

    def has_open(self, sequence: int) -> bool:
        """Tell whether the store is open for views of `sequence`."""
        return sequence in self._opened

    def files(self, view: View) -> Files:
        """Return what a view shows. Raises `NotYetError` if that is to be opened first."""
        opened = self._opened.get(view.sequence)
        if opened is None:
            raise self.opening(view.sequence)
        opened.used = view.used = self._now()
        opened.store.files.settle()
        return opened.store.files

    def opening(self, sequence: int) -> NotYetError:
        """Return what to raise where the store is to be opened at `sequence` first."""
        moment = Moment(sequence, None)
        return NotYetError(
            ("view", sequence), lambda: self.open(moment), lambda store: self.add(sequence, store)
        )

    def hold(self, view: View) -> None:
        """Note one more handle in a view whose store is open."""
        view.handles += 1
        self._opened[view.sequence].handles += 1

    def let_go(self, view: View) -> None:
        """Note one handle less."""
        view.handles -= 1
        opened = self._opened[view.sequence]
        opened.handles -= 1
        opened.used = view.used = self._now()

    def open(self, moment: Moment) -> Store:
        """Open the store as it was at `moment`; in any thread, without a lock.

        Raises `PosixError` ENOENT for what is none, or is not kept any more.
        """
        try:
            return open_store(self._path, create=False, at=moment)
        except KvfsError as error:
            if isinstance(error, ConfigError) or error.errno == errno.ENOENT:
                raise PosixError(errno.ENOENT) from None
            raise

    def add(self, sequence: int, store: Store) -> None:
        """Keep a store that was opened for views of `sequence`. Raises `PosixError` ENFILE."""
        if self._closed:
            store.close()
        if self._closed or sequence in self._opened:
            self._to_close.append(store)
            return
        idle = sorted((o.used, s) for s, o in self._opened.items() if not o.handles)
        surplus = max(len(self._opened) + 1 - MOST_OPEN, 0)
        if surplus > len(idle):
            self._to_close.append(store)
            raise PosixError(errno.ENFILE)
        for _, old in idle[:surplus]:
            self._to_close.append(self._opened.pop(old).store)
        self._opened[sequence] = Opened(store, self._now())

    def idle(self) -> list[Store]:
        """Return the stores that are to be closed, which may be done without the lock."""
        since = self._now() - IDLE
        for sequence, opened in list(self._opened.items()):
            if not opened.handles and opened.used <= since:
                self._to_close.append(self._opened.pop(sequence).store)
        closing, self._to_close = self._to_close, []
        return closing

    def close(self) -> None:
        """Close all stores, also those that are being opened."""
        self._closed = True
        self._to_close += [opened.store for opened in self._opened.values()]
        self._opened.clear()
        for store in self.idle():
            store.close()
