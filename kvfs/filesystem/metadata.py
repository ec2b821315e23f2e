"""The FUSE requests that show and set attributes."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from kvfs.errors import KvfsError, PosixError
from kvfs.filesystem.answers import shown_names, sized
from kvfs.filesystem.base import Base
from kvfs.filesystem.privileges import unprivileged
from kvfs.fuse import protocol
from kvfs.records import NO_ATTRS, Attrs
from kvfs.table import File

if TYPE_CHECKING:
    from kvfs.fuse import Header, Reply

_PERMISSIONS = 0o7777
_SECOND = 1_000_000_000
_ANY_EXECUTE = 0o111


class Metadata(Base):
    """Modes, owners, times, sizes, extended attributes, and the disk below."""

    def getattr(self, header: Header, body: memoryview) -> Reply:
        """Return the attributes of a node."""
        return self._attributes(self._stat_of(header.nodeid))

    def setattr(self, header: Header, body: memoryview) -> Reply:
        """Set the flagged attributes."""
        valid, fh, size, *times, mode, uid, gid = protocol.SETATTR_IN.unpack_from(body)
        atime, mtime, _, atime_rest, mtime_rest, _ = times
        node = self._files.node(header.nodeid)
        attrs = Attrs(
            mode=mode & _PERMISSIONS if valid & protocol.FATTR_MODE else None,
            uid=uid if valid & protocol.FATTR_UID else None,
            gid=gid if valid & protocol.FATTR_GID else None,
            atime=atime * _SECOND + atime_rest if valid & protocol.FATTR_ATIME else None,
            mtime=mtime * _SECOND + mtime_rest if valid & protocol.FATTR_MTIME else None,
        )
        resized = bool(valid & protocol.FATTR_SIZE)
        if isinstance(node, File):
            attrs = self._unprivileged(node, attrs, header, resized=resized)
        if resized:
            handle = fh if valid & protocol.FATTR_FH else None
            self._truncate(self._files.file(node.ino), size, handle)
        if attrs != NO_ATTRS or not resized:
            self._files.setattr(node, attrs)
        return self._attributes(self.show(self._files.stat(node)))

    def setxattr(self, header: Header, body: memoryview) -> Reply:
        """Set an extended attribute."""
        size, flags = protocol.SETXATTR_IN.unpack_from(body)
        name, _, rest = body[protocol.SETXATTR_IN.size :].tobytes().partition(b"\0")
        self._files.setxattr(self._files.node(header.nodeid), name, rest[:size], flags)
        return b""

    def getxattr(self, header: Header, body: memoryview) -> Reply:
        """Return an extended attribute."""
        (size,) = protocol.GETXATTR_IN.unpack_from(body)
        name = body[protocol.GETXATTR_IN.size : -1].tobytes()
        return sized(self._files.getxattr(self._files.node(header.nodeid), name), size)

    def listxattr(self, header: Header, body: memoryview) -> Reply:
        """Return the names of the extended attributes; those of root only to root."""
        (size,) = protocol.GETXATTR_IN.unpack_from(body)
        return sized(shown_names(self._files.node(header.nodeid), header), size)

    def removexattr(self, header: Header, body: memoryview) -> Reply:
        """Remove an extended attribute."""
        self._files.removexattr(self._files.node(header.nodeid), body[:-1].tobytes())
        return b""

    def access(self, header: Header, body: memoryview) -> Reply:
        """Tell root what it may do; others are not let in where the kernel asks for this.

        Root may do everything but execute a file that nobody may execute.
        """
        (mask,) = protocol.ACCESS_IN.unpack_from(body)
        mode = self._files.node(header.nodeid).mode
        if mask & os.X_OK and stat.S_ISREG(mode) and not mode & _ANY_EXECUTE:
            raise PosixError(errno.EACCES)
        return b""

    def _unprivileged(self, file: File, attrs: Attrs, caller: Header, *, resized: bool) -> Attrs:
        """Return `attrs` without what `file` may not keep.

        With no field at all it is chown(-1, -1), which is a change all the same, or comes
        before a write that is to take a set-group-id bit.
        """
        changed = resized or attrs == NO_ATTRS or (attrs.uid, attrs.gid) != (None, None)
        if not changed and attrs.mode is None:
            return attrs
        mode = file.mode if attrs.mode is None else attrs.mode
        left = unprivileged(mode, file.gid, caller, changed=changed)
        return attrs if left == mode else attrs._replace(mode=left & _PERMISSIONS)

    def _truncate(self, file: File, size: int, fh: int | None) -> None:
        self._content.truncate(file, size)
        if fh is not None and not self._handles[fh].at_once:
            self._handles[fh].written = True
            return
        try:
            self._content.commit(file)
        except KvfsError:
            self._files.give_up(file)
            raise
