"""The requests about the nodes of views: those of the live file system that only read."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from kvfs.errors import PosixError
from kvfs.filesystem.answers import shown_names, sized, sought
from kvfs.filesystem.attributes import FOREVER, attr, attributes, entry, listed, missing, named
from kvfs.filesystem.handles import DOTS, Listing
from kvfs.filesystem.past.numbers import SNAPSHOTS, number_of
from kvfs.filesystem.past.place import Place, directory, entry_flags
from kvfs.filesystem.shown import as_it_is
from kvfs.fuse import protocol
from kvfs.table import ROOT_INO, File, Symlink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.filesystem.attributes import Attr
    from kvfs.filesystem.past.views import View, Views
    from kvfs.filesystem.shown import Show
    from kvfs.fuse import Handler, Header, Reply
    from kvfs.store import Files
    from kvfs.store.nodes import Stat
    from kvfs.table import Node

_CACHED = protocol.FOPEN_CACHE_DIR | protocol.FOPEN_KEEP_CACHE
_UNENTERED = 0o700
"""The mode of a view's root that is not known yet: who it may let in is not known either."""


class _Held(NamedTuple):
    """A file, or a directory being listed, that is open in a view."""

    view: View
    files: Files
    what: File | Listing


class Inside(Place):
    """The nodes of views. The kernel may keep all that it is told: the past does not change."""

    def __init__(self, views: Views, statfs: Handler, show: Show = as_it_is) -> None:
        """Show `views`, with attributes as `show` has them."""
        super().__init__(statfs)
        self.show = show
        self._views = views
        self._held: dict[int, _Held] = {}

    # -- roots -----------------------------------------------------------------------

    def root(self, view: View, *, lasting: bool) -> bytes:
        """Return the entry of the root of a view, counting the reference that the kernel now has.

        Where nobody has looked into the view yet, its attributes hold for no time.
        """
        self._know(view)
        if view.top:
            fields: Attr = entry(view.top, lasting=lasting)
        else:
            found = attr(self.show(_unentered(view)))
            fields = (found[0], 0, FOREVER if lasting else 0, 0, 0, 0, *found)
        view.references += 1
        return protocol.ENTRY_OUT.pack(*fields)

    def _know(self, view: View) -> None:
        """Note the attributes of the root, if the store is open."""
        if view.top is None and self._views.has_open(view.sequence):
            view.top = self._stat(view, self._views.files(view), ROOT_INO)

    def getattr(self, header: Header, body: memoryview) -> Reply:
        """Return the attributes of a node; those of a snapshot's root without opening it, for `ls -l`."""
        view, ino = self._views.find(header.nodeid)
        if ino == ROOT_INO:
            self._know(view)
            if view.top:
                return attributes(view.top)
            if view.door == SNAPSHOTS:
                return protocol.ATTR_OUT.pack(0, 0, 0, *attr(self.show(_unentered(view))))
        return attributes(self._stat(view, self._views.files(view), ino))

    # -- names ------------------------------------------------------------------------

    def lookup(self, header: Header, body: memoryview) -> Reply:
        """Find a name."""
        view, files, parent = self._at(header)
        name = body[:-1].tobytes()
        if name == b".":
            ino: int | None = parent
        elif name == b"..":
            above = files.parent(files.directory(parent)).ino
            ino = None if parent == ROOT_INO else above  # nobody asks a root for what it is in
        else:
            ino = files.find(parent, name)
        if ino is None:
            return missing(lasting=True)
        found = entry(self._stat(view, files, ino), lasting=True)
        view.references += 1
        return protocol.ENTRY_OUT.pack(*found)

    def readlink(self, header: Header, body: memoryview) -> Reply:
        """Return the target of a symbolic link."""
        node = self._node(header)
        if not isinstance(node, Symlink):
            raise PosixError(errno.EINVAL)
        return node.target

    def opendir(self, header: Header, body: memoryview) -> Reply:
        """Open a directory for listing."""
        view, files, ino = self._at(header)
        shown = Listing(files.directory(ino))
        shown.take()
        return protocol.OPEN_OUT.pack(self._hold(view, files, shown), _CACHED, 0)

    def readdir(self, header: Header, body: memoryview) -> Reply:
        """List names."""
        view, files, names, size = self._listed(body)
        parts = []
        for ino, name, position, file_type in names:
            mode = files.stat_of(ino).mode if file_type is None else file_type
            part = named(self._number(view, ino, name), mode, name, position)
            size -= len(part)
            if size < 0:
                break
            parts.append(part)
        return b"".join(parts)

    def readdirplus(self, header: Header, body: memoryview) -> Reply:
        """List names and attributes."""
        view, files, names, size = self._listed(body)
        parts = []
        for ino, name, position, _ in names:
            found = self.show(files.stat_of(ino)._replace(ino=self._number(view, ino, name)))
            part = listed(found, name, position, lasting=True)
            size -= len(part)
            if size < 0:
                break
            parts.append(part)
            view.references += name not in DOTS
        return b"".join(parts)

    def releasedir(self, header: Header, body: memoryview) -> Reply:
        """Close a directory."""
        self._let_go(body)
        return b""

    # -- contents ----------------------------------------------------------------------

    def open(self, header: Header, body: memoryview) -> Reply:
        """Open a file for reading."""
        entry_flags(protocol.OPEN_IN.unpack_from(body)[0])
        view, files, ino = self._at(header)
        file = files.file(ino)
        files.opened(ino)
        answers = protocol.FOPEN_KEEP_CACHE | protocol.FOPEN_NOFLUSH
        return protocol.OPEN_OUT.pack(self._hold(view, files, file), answers, 0)

    def read(self, header: Header, body: memoryview) -> Reply:
        """Read from a file."""
        fh, offset, size, _, _ = protocol.READ_IN.unpack_from(body)
        files, file = self._file(fh)
        return files.content.read(file, offset, size)

    def lseek(self, header: Header, body: memoryview) -> Reply:
        """Find data, or a hole."""
        fh, offset, whence = protocol.LSEEK_IN.unpack_from(body)
        files, file = self._file(fh)
        return sought(files.content, file, offset, whence)

    def release(self, header: Header, body: memoryview) -> Reply:
        """Close a file."""
        held = self._let_go(body)
        assert isinstance(held.what, File)
        held.files.closed(held.what.ino)
        return b""

    # -- attributes --------------------------------------------------------------------

    def getxattr(self, header: Header, body: memoryview) -> Reply:
        """Return an extended attribute."""
        (size,) = protocol.GETXATTR_IN.unpack_from(body)
        name = body[protocol.GETXATTR_IN.size : -1].tobytes()
        _, files, ino = self._at(header)
        return sized(files.getxattr(files.node(ino), name), size)

    def listxattr(self, header: Header, body: memoryview) -> Reply:
        """Return the names of the extended attributes."""
        (size,) = protocol.GETXATTR_IN.unpack_from(body)
        return sized(shown_names(self._node(header), header), size)

    def access(self, header: Header, body: memoryview) -> Reply:
        """Tell root what it may do."""
        mode = self._node(header).mode
        (mask,) = protocol.ACCESS_IN.unpack_from(body)
        plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
        if mask & os.W_OK and plain:
            raise PosixError(errno.EROFS)
        if mask & os.X_OK and stat.S_ISREG(mode) and not mode & 0o111:
            raise PosixError(errno.EACCES)
        return b""

    # -- helpers -----------------------------------------------------------------------

    def _at(self, header: Header) -> tuple[View, Files, int]:
        """Return what a request is about. Raises `NotYetError` where that is to be opened first."""
        view, ino = self._views.find(header.nodeid)
        return view, self._views.files(view), ino

    def _node(self, header: Header) -> Node:
        _, files, ino = self._at(header)
        return files.node(ino)

    def _stat(self, view: View, files: Files, ino: int) -> Stat:
        return self.show(files.stat_of(ino)._replace(ino=number_of(view.number, ino)))

    def _number(self, view: View, ino: int, name: bytes) -> int:
        """Return the number of what is listed as `name`; above a root is the directory of views."""
        return view.door if name == b".." and ino == ROOT_INO else number_of(view.number, ino)

    def _listed(
        self, body: memoryview
    ) -> tuple[View, Files, Iterator[tuple[int, bytes, int, int | None]], int]:
        fh, start, size, _, _ = protocol.READ_IN.unpack_from(body)
        view, files, shown = self._held[fh]
        assert isinstance(shown, Listing)
        return view, files, shown.names(start, files.parent(shown.directory).ino), size

    def _file(self, fh: int) -> tuple[Files, File]:
        _, files, file = self._held[fh]
        assert isinstance(file, File)
        return files, file

    def _hold(self, view: View, files: Files, what: File | Listing) -> int:
        fh = self._next
        self._next += 1
        self._held[fh] = _Held(view, files, what)
        self._views.hold(view)
        return fh

    def _let_go(self, body: memoryview) -> _Held:
        held = self._held.pop(protocol.HANDLE_IN.unpack_from(body)[0])
        self._views.let_go(held.view)
        return held


def _unentered(view: View) -> Stat:
    return directory(number_of(view.number, ROOT_INO), _UNENTERED, view.time)
