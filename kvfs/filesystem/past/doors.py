"""The directories that lead to views: `.kvfs/at`, and `.kvfs/snapshots`, where snapshots are made too."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from kvfs import keys
from kvfs.disk import Disk
from kvfs.errors import ConfigError, PosixError
from kvfs.filesystem.attributes import attributes, entry, missing
from kvfs.filesystem.past.later import NotYetError, alone
from kvfs.filesystem.past.numbers import AT, SNAPSHOTS
from kvfs.filesystem.past.place import Name, Place, directory
from kvfs.fuse import protocol
from kvfs.store import snapshots
from kvfs.store.moment import Moment, moment_of
from kvfs.table import CONTROL_INO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvfs.filesystem.past.inside import Inside
    from kvfs.filesystem.past.views import View, Views
    from kvfs.fuse import Handler, Header, Reply
    from kvfs.store import Store

STEADY = 3.0
"""Seconds without use after which a time such as `2h ago` stands for another record."""


class Door(Place):
    """A directory of views, with the number `number`."""

    number: int
    mode = 0o555

    def __init__(self, store: Store, views: Views, inside: Inside, statfs: Handler) -> None:
        """Lead to `views` of `store`, whose nodes are `inside`."""
        super().__init__(statfs)
        self._store = store
        self._views = views
        self._inside = inside
        self.stat = directory(self.number, self.mode, store.config.created)
        self._show = inside.show

    def getattr(self, header: Header, body: memoryview) -> Reply:
        """Return the attributes of the directory."""
        return attributes(self._show(self.stat))

    def lookup(self, header: Header, body: memoryview) -> Reply:
        """Find a view."""
        name = body[:-1].tobytes()
        if name == b".":
            return protocol.ENTRY_OUT.pack(*entry(self._show(self.stat), lasting=True))
        if len(name) > keys.MAX_NAME:
            raise PosixError(errno.ENAMETOOLONG)
        return self._find(name, os.fsdecode(name))

    def _find(self, name: bytes, text: str) -> bytes:
        """Return the entry of the view `name`, or that there is none. Raises `NotYetError`."""
        raise NotImplementedError

    def opendir(self, header: Header, body: memoryview) -> Reply:
        """Open the directory for listing."""
        return self._list([Name(name) for name in self._names()], self.number, CONTROL_INO)

    def _names(self) -> Iterable[bytes]:
        raise NotImplementedError


class At(Door):
    """`.kvfs/at`: whatever says a moment is a name in it; those that are open are listed."""

    number = AT

    def __init__(self, store: Store, views: Views, inside: Inside, statfs: Handler) -> None:
        """Lead to `views` of `store`, whose nodes are `inside`."""
        super().__init__(store, views, inside, statfs)
        self._last: dict[bytes, View] = {}
        """What each time that was asked for stood for last."""

    def _names(self) -> Iterable[bytes]:
        return self._views.shown(AT)

    def _find(self, name: bytes, text: str) -> bytes:
        try:
            moment = moment_of(text, Disk(), self._store.path)
        except ConfigError:
            return missing(lasting=False)
        if moment.sequence is None:
            return self._find_time(name, moment)
        if moment.sequence >= self._store.position:
            return missing(lasting=False)
        return self._entry(name, moment.sequence, lasting=name.isdigit())

    def _find_time(self, name: bytes, moment: Moment) -> bytes:
        """Find the view of a time: the last one while it is in use, else a new one.

        Who walks through a copy of `2h ago`, each time from the root of the
        mount, is to find one state.
        """
        last = self._last.get(name)
        if last and self._views.is_used(last, STEADY):
            return self._entry(name, last.sequence, lasting=False)
        raise NotYetError(
            ("time", name),
            lambda: self._views.open(moment),
            lambda store: self._settle(name, store),
        )

    def _settle(self, name: bytes, store: Store) -> None:
        """Let `name` stand for the last record of `store`, which was opened for it."""
        sequence = store.position - 1
        self._views.add(sequence, store)
        last = self._last[name] = self._views.view(AT, name, sequence)
        self._views.files(last)

    def _entry(self, name: bytes, sequence: int, *, lasting: bool) -> bytes:
        if not self._views.has_open(sequence):
            raise self._views.opening(sequence)
        view = self._views.view(AT, name, sequence)
        self._views.files(view)
        if name in self._last:
            self._last[name] = view
        return self._inside.root(view, lasting=lasting)

    def tidy(self) -> None:
        """Forget what times stood for that nobody uses any more."""
        self._last = {
            name: view for name, view in self._last.items() if self._views.is_used(view, STEADY)
        }


class Snapshots(Door):
    """`.kvfs/snapshots`: making a directory takes one, removing it deletes it."""

    number = SNAPSHOTS
    mode = 0o755

    def _names(self) -> Iterable[bytes]:
        return [os.fsencode(found.name) for found in snapshots.list_all(self._store.path)]

    def _find(self, name: bytes, text: str) -> bytes:
        found = snapshots.look_up(self._store.path, text)
        return self._entry(found) if found else missing(lasting=False)

    def mkdir(self, header: Header, body: memoryview) -> Reply:
        """Take a snapshot."""
        name = os.fsdecode(body[protocol.MKDIR_IN.size : -1].tobytes())
        raise alone(header, lambda: snapshots.take(self._store, name), self._entry)

    def rmdir(self, header: Header, body: memoryview) -> Reply:
        """Delete a snapshot; who is in it may go on."""
        name, path = os.fsdecode(body[:-1].tobytes()), self._store.path
        raise alone(header, lambda: snapshots.delete(path, name), lambda _none: b"")

    def _entry(self, found: snapshots.Snapshot) -> bytes:
        view = self._views.view(SNAPSHOTS, os.fsencode(found.name), found.records - 1)
        view.time = found.time
        return self._inside.root(view, lasting=False)
