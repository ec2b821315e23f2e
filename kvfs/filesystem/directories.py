"""The FUSE requests that list directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvfs.filesystem.base import Base
from kvfs.filesystem.handles import DOTS, Listing
from kvfs.filesystem.past.place import listing
from kvfs.fuse import protocol
from kvfs.table import CONTROL_INO, is_aside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.fuse import Header, Reply


_CONTROL = 0
"""The handle of `.kvfs`, whose list is always the same."""


class Directories(Base):
    """Directories, open to be listed."""

    def opendir(self, header: Header, body: memoryview) -> Reply:
        """Open a directory for listing; the kernel keeps the list until a name in it changes."""
        if header.nodeid == CONTROL_INO:
            return protocol.OPEN_OUT.pack(_CONTROL, 0, 0)
        directory = self._files.directory(header.nodeid)
        fh = self._next_listing
        self._next_listing += 1
        self._listings[fh] = Listing(directory)
        self._files.refer(directory.ino)
        answers = 0
        if not is_aside(directory.ino):
            answers = protocol.FOPEN_CACHE_DIR
            # A first read is to reach us, so that its time is noted.
            if not (self._atime and self._files.access_times.is_due(directory)):
                answers |= protocol.FOPEN_KEEP_CACHE
        return protocol.OPEN_OUT.pack(fh, answers, 0)

    def readdir(self, header: Header, body: memoryview) -> Reply:
        """List names from a position of the snapshot on."""
        fh, start, size, _, _ = protocol.READ_IN.unpack_from(body)
        if fh == _CONTROL:
            return listing(self.control_names(), body, plus=False)
        parts = []
        for ino, name, position, file_type in self._from(fh, start):
            mode = self._files.stat_of(ino).mode if file_type is None else file_type
            part = self._named(ino, mode, name, position)
            size -= len(part)
            if size < 0:
                break
            parts.append(part)
        return b"".join(parts)

    def readdirplus(self, header: Header, body: memoryview) -> Reply:
        """List names and attributes from a position of the snapshot on."""
        fh, start, size, _, _ = protocol.READ_IN.unpack_from(body)
        if fh == _CONTROL:
            return listing(self.control_names(), body, plus=True)
        lasting = not is_aside(header.nodeid)
        stat_of, refer, listed = self._stat_of, self._files.refer, self._listed
        parts = []
        for ino, name, position, _ in self._from(fh, start):
            part = listed(stat_of(ino), name, position, lasting=lasting)
            size -= len(part)
            if size < 0:
                break
            parts.append(part)
            if name not in DOTS:
                refer(ino)
        return b"".join(parts)

    def _from(self, fh: int, start: int) -> Iterator[tuple[int, bytes, int, int | None]]:
        """Yield node, name and position behind of what is still there, from `start` on."""
        listing = self._listings[fh]
        directory = listing.directory
        if start == 0 or not listing.taken:
            listing.take()
            self._note_access(directory)
        return listing.names(start, self._files.parent(directory).ino)

    def releasedir(self, header: Header, body: memoryview) -> Reply:
        """Close a directory."""
        (fh,) = protocol.HANDLE_IN.unpack_from(body)
        if fh == _CONTROL:
            return b""
        self._files.forget(self._listings.pop(fh).directory.ino)
        return b""

    def fsyncdir(self, header: Header, body: memoryview) -> Reply:
        """Bring the names of a directory to stable storage, also those of open files."""
        (fh,) = protocol.HANDLE_IN.unpack_from(body)
        if fh != _CONTROL:
            self._content.commit_names(self._listings[fh].directory.ino)
        self._answer_synced(header)
        return None
