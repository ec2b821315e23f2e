"""`.kvfs/history`: every version of every key, below the path of the key.

A version is a file in the directory of its key, named by its sequence number;
the other names there are directories, of the keys below. A name below that
would be taken for a version, or for one that stands back, has a `+` before it.
What a key has had is found in the log by one reading, when somebody asks.
"""

from __future__ import annotations

import errno
import re
import stat
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from kvfs import keys
from kvfs.errors import PosixError
from kvfs.filesystem.answers import sought
from kvfs.filesystem.attributes import attributes, entry, missing
from kvfs.filesystem.past.later import NotYetError
from kvfs.filesystem.past.numbers import FIRST_VERSION, HISTORY
from kvfs.filesystem.past.place import Name, Place, directory, entry_flags
from kvfs.filesystem.shown import as_it_is
from kvfs.fuse import protocol
from kvfs.store.nodes import Stat
from kvfs.store.versions import Version, Versions, are_kept, versions
from kvfs.table import CONTROL_INO, ROOT_INO, File

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.filesystem.shown import Show
    from kvfs.fuse import Handler, Header, Reply
    from kvfs.store import Store

_NUMBER = re.compile(rb"0|[1-9][0-9]{0,17}")
_STANDING_BACK = re.compile(rb"\++[0-9]+")
_MOST_READ = 16
"""So many keys are remembered with what was found of them."""
_IDLE = 60.0
"""Seconds after which that is forgotten."""
_MODE = 0o500
"""Of directories: whom the modes of those that were there kept out, nobody can tell any more."""
_READABLE = 0o555


class _Spot(NamedTuple):
    """What the kernel knows: the directory of a key, or a version of it."""

    key: bytes
    version: Version | None


class _Read:
    """What a reading found of a key, and when that was last of use."""

    __slots__ = ("used", "versions")

    def __init__(self, found: Versions, now: float) -> None:
        self.versions = found
        self.used = now


class History(Place):
    """The versions of the keys of one store."""

    def __init__(
        self,
        store: Store,
        statfs: Handler,
        show: Show = as_it_is,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show what the log of `store` has, with attributes as `show` has them; `now` is the clock."""
        super().__init__(statfs)
        self._show = show
        self._store = store
        self._now = now
        self._spots: dict[int, _Spot] = {HISTORY: _Spot(b"", None)}
        self._numbers: dict[tuple[bytes, int | None], int] = {(b"", None): HISTORY}
        self._references: dict[int, int] = {}
        self._next_number = FIRST_VERSION
        self._open: dict[int, File] = {}
        self._read: dict[bytes, _Read] = {}
        self._reading = threading.Lock()
        self.stat = directory(HISTORY, _MODE, store.config.created)

    # -- names ---------------------------------------------------------------------

    def getattr(self, header: Header, body: memoryview) -> Reply:
        """Return the attributes of a version, or a directory."""
        return attributes(self._stat(header.nodeid, self._spot(header.nodeid)))

    def lookup(self, header: Header, body: memoryview) -> Reply:
        """Find a version of a key, or the directory of one below it."""
        key, version = self._spot(header.nodeid)
        name = body[:-1].tobytes()
        if name == b".":
            return self._entry(_Spot(key, version), lasting=True)
        if version:
            raise PosixError(errno.ENOTDIR)
        if not key or not _NUMBER.fullmatch(name):
            return self._find_below(key, name)
        sequence = int(name)
        return self._with_versions(
            key,
            lambda found: sequence in found.found,
            lambda found: self._find_version(key, name, found.found.get(sequence)),
        )

    def _find_version(self, key: bytes, name: bytes, version: Version | None) -> Reply:
        if version is None or version.sequence >= self._store.position:
            return self._find_below(key, name)
        return self._entry(_Spot(key, version), lasting=True)

    def _find_below(self, key: bytes, name: bytes) -> Reply:
        """Find the directory of the key that `name` stands for below `key`."""
        if _STANDING_BACK.fullmatch(name):
            name = name[1:]
        path = key + b"/" + name if key else name
        if len(path) > keys.MAX_KEY or keys.split(path) is None:
            return missing(lasting=False)
        found = _Spot(path, None)
        if self._is_there(path):
            return self._entry(found, lasting=not name.isdigit())
        return self._with_versions(
            path, lambda seen: seen.seen, lambda seen: self._found_below(found, seen)
        )

    def _found_below(self, spot: _Spot, seen: Versions) -> Reply:
        return self._entry(spot, lasting=False) if seen.seen else missing(lasting=False)

    def _is_there(self, path: bytes) -> bool:
        """Tell whether something is at `path` now."""
        files, ino = self._store.files, ROOT_INO
        for name in path.split(b"/"):
            try:
                found = files.find(ino, name)
            except PosixError:
                return False
            if found is None:
                return False
            ino = found
        return True

    def opendir(self, header: Header, body: memoryview) -> Reply:
        """Open the directory of a key for listing."""
        key, version = self._spot(header.nodeid)
        if version:
            raise PosixError(errno.ENOTDIR)
        above = key.rpartition(b"/")[0]
        number = self._numbers.get((above, None), HISTORY) if key else CONTROL_INO
        return self._with_versions(
            key,
            lambda _found: False,
            lambda found: self._list(self._names(found), header.nodeid, number),
        )

    def _names(self, found: Versions) -> list[Name]:
        """Return what a directory is listed with."""
        position = self._store.position
        known = {b"%d" % sequence for sequence in found.found if sequence < position}
        shown = [Name(name, mode=stat.S_IFREG) for name in sorted(known, key=int)]
        for name in sorted(found.names):
            back = name in known or _STANDING_BACK.fullmatch(name)
            shown.append(Name(b"+" + name if back else name))
        return shown

    def forget(self, number: int, count: int) -> None:
        """Take back `count` references to a node."""
        left = self._references.get(number, 0) - count
        if left > 0:
            self._references[number] = left
        elif number in self._references:
            del self._references[number]
            key, version = self._spots.pop(number)
            del self._numbers[key, version and version.sequence]

    # -- contents ----------------------------------------------------------------------

    def open(self, header: Header, body: memoryview) -> Reply:
        """Open a version for reading."""
        entry_flags(protocol.OPEN_IN.unpack_from(body)[0])
        key, version = self._spot(header.nodeid)
        if version is None:
            raise PosixError(errno.EISDIR)
        sequence = version.sequence
        return self._with_versions(
            key,
            lambda found: sequence in found.found,
            lambda found: self._opened(header.nodeid, found, version),
        )

    def _opened(self, number: int, found: Versions, version: Version) -> bytes:
        extents = found.extents(version.sequence) if version.sequence in found.found else None
        if extents is None or not are_kept(self._store.path, extents):
            self._read.pop(self._spot(number).key, None)
            raise PosixError(errno.ENOENT)
        file = File(number, version.mode, version.uid, version.gid)
        file.extents, file.length = extents, version.size
        fh = self._next
        self._next += 1
        self._open[fh] = file
        return protocol.OPEN_OUT.pack(fh, protocol.FOPEN_KEEP_CACHE | protocol.FOPEN_NOFLUSH, 0)

    def read(self, header: Header, body: memoryview) -> Reply:
        """Read from a version, through the live store: its log has the bytes."""
        fh, offset, size, _, _ = protocol.READ_IN.unpack_from(body)
        return self._store.files.content.read(self._open[fh], offset, size)

    def lseek(self, header: Header, body: memoryview) -> Reply:
        """Find data, or a hole."""
        fh, offset, whence = protocol.LSEEK_IN.unpack_from(body)
        return sought(self._store.files.content, self._open[fh], offset, whence)

    def release(self, header: Header, body: memoryview) -> Reply:
        """Close a version."""
        del self._open[protocol.HANDLE_IN.unpack_from(body)[0]]
        return b""

    # -- helpers -----------------------------------------------------------------------

    def tidy(self) -> None:
        """Forget what was found of keys that nobody asks for any more."""
        since = self._now() - _IDLE
        self._read = {key: read for key, read in self._read.items() if read.used > since}

    def _with_versions(
        self,
        key: bytes,
        suffices: Callable[[Versions], bool],
        then: Callable[[Versions], Reply],
    ) -> Reply:
        """Return what `then` says of what the log has of `key`.

        What was found before is good enough if it `suffices`, or nothing was
        logged since. Raises `NotYetError` where the log is to be read first.
        """
        position, read = self._store.position, self._read.get(key)
        if read and (read.versions.records >= position or suffices(read.versions)):
            read.used = self._now()
            return then(read.versions)
        path = self._store.path

        def work() -> Versions:
            with self._reading:  # one at a time: they would only wait for each other
                return versions(path, key)

        raise NotYetError(
            ("history", key, position), work, lambda found: self._keep(key, found), then
        )

    def _keep(self, key: bytes, found: Versions) -> None:
        self._read.pop(key, None)
        self._read[key] = _Read(found, self._now())
        while len(self._read) > _MOST_READ:
            del self._read[next(iter(self._read))]

    def _spot(self, number: int) -> _Spot:
        try:
            return self._spots[number]
        except KeyError:
            raise PosixError(errno.ENOENT) from None

    def _entry(self, spot: _Spot, *, lasting: bool) -> bytes:
        """Return the entry of `spot`, counting the reference that the kernel now has."""
        place = spot.key, spot.version and spot.version.sequence
        number = self._numbers.get(place)
        if number is None:
            number = self._numbers[place] = self._next_number
            self._next_number += 1
            self._spots[number] = spot
        if number != HISTORY:
            self._references[number] = self._references.get(number, 0) + 1
        return protocol.ENTRY_OUT.pack(*entry(self._stat(number, spot), lasting=lasting))

    def _stat(self, number: int, spot: _Spot) -> Stat:
        version = spot.version
        if version is None:
            return self._show(self.stat._replace(ino=number))
        found = Stat(
            *(number, stat.S_IFREG | version.mode & _READABLE, 1, version.uid, version.gid, 0),
            *(version.size, -(-version.size // 512)),
            *(version.time, version.time, version.time),
        )
        return self._show(found)
