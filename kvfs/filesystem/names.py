"""The FUSE requests that look for names, and make, remove and move them."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

from kvfs.errors import PosixError
from kvfs.filesystem.attributes import missing
from kvfs.filesystem.contents import Contents
from kvfs.filesystem.past import is_past
from kvfs.fuse import protocol
from kvfs.store.files import Owner
from kvfs.table import CONTROL_INO, Symlink, is_aside

if TYPE_CHECKING:
    from kvfs.fuse import Header, Reply

_PERMISSIONS = 0o7777


class Names(Contents):
    """Names and links."""

    def lookup(self, header: Header, body: memoryview) -> Reply:
        """Find a name; "." of any node is the node, for open_by_handle_at(2)."""
        files, parent = self._files, header.nodeid
        name = body[:-1].tobytes()
        if name == b".":
            return self._entry(parent, parent)
        if name == b"..":
            return self._entry(files.parent(files.directory(parent)).ino, parent)
        ino = files.find(parent, name)
        if ino is None:
            return self._missing(parent, name)
        return self._entry(ino, parent)

    def _missing(self, parent: int, name: bytes) -> bytes:
        """Return the answer where `parent` has no such name, or where it leads to the past."""
        if parent == CONTROL_INO:
            return self.control(name)
        return missing(lasting=not is_aside(parent))

    def forget(self, header: Header, body: memoryview) -> Reply:
        """Take back references to one node."""
        self._files.forget(header.nodeid, protocol.FORGET_IN.unpack_from(body)[0])
        return None

    def create(self, header: Header, body: memoryview) -> Reply:
        """Make a file and open it."""
        flags, mode, _, _ = protocol.CREATE_IN.unpack_from(body)
        name = body[protocol.CREATE_IN.size : -1].tobytes()
        parent = header.nodeid
        places = self._places(parent, name)
        node = self._files.create(parent, name, _owner(header, mode))
        fh, answers = self._open(node, flags, header, emptied=True)
        self._forget(places)
        return protocol.CREATE_OUT.pack(*self._fields(node.ino, parent), fh, answers, 0)

    def mknod(self, header: Header, body: memoryview) -> Reply:
        """Make a FIFO, socket, device, or a file that nobody opens."""
        mode, rdev, _, _ = protocol.MKNOD_IN.unpack_from(body)
        name = body[protocol.MKNOD_IN.size : -1].tobytes()
        places = self._places(header.nodeid, name)
        owner = _owner(header, mode)
        node = self._files.mknod(header.nodeid, name, owner, stat.S_IFMT(mode), rdev)
        self._forget(places)
        return self._entry(node.ino, header.nodeid)

    def mkdir(self, header: Header, body: memoryview) -> Reply:
        """Make a directory."""
        mode, _ = protocol.MKDIR_IN.unpack_from(body)
        name = body[protocol.MKDIR_IN.size : -1].tobytes()
        node = self._files.mkdir(header.nodeid, name, _owner(header, mode))
        return self._entry(node.ino, header.nodeid)

    def symlink(self, header: Header, body: memoryview) -> Reply:
        """Make a symbolic link."""
        name, target, _ = body.tobytes().split(b"\0")
        places = self._places(header.nodeid, name)
        node = self._files.symlink(header.nodeid, name, target, _owner(header, 0))
        self._forget(places)
        return self._entry(node.ino, header.nodeid)

    def link(self, header: Header, body: memoryview) -> Reply:
        """Give a node another name."""
        (ino,) = protocol.LINK_IN.unpack_from(body)
        if is_past(ino):
            raise PosixError(errno.EXDEV)
        name = body[protocol.LINK_IN.size : -1].tobytes()
        places = self._places(header.nodeid, name)
        node = self._files.node(ino)
        self._files.link(node, header.nodeid, name)
        self._forget(places)
        return self._entry(node.ino, header.nodeid)

    def unlink(self, header: Header, body: memoryview) -> Reply:
        """Remove a name."""
        self._files.unlink(header.nodeid, body[:-1].tobytes())
        return b""

    def rmdir(self, header: Header, body: memoryview) -> Reply:
        """Remove an empty directory."""
        self._files.rmdir(header.nodeid, body[:-1].tobytes())
        return b""

    def rename(self, header: Header, body: memoryview) -> Reply:
        """Move a name."""
        (target,) = protocol.RENAME_IN.unpack_from(body)
        return self._rename(header.nodeid, target, body[protocol.RENAME_IN.size :], 0)

    def rename2(self, header: Header, body: memoryview) -> Reply:
        """Move a name, as the flags of renameat2(2) say."""
        target, flags = protocol.RENAME2_IN.unpack_from(body)
        return self._rename(header.nodeid, target, body[protocol.RENAME2_IN.size :], flags)

    def readlink(self, header: Header, body: memoryview) -> Reply:
        """Return the target of a symbolic link."""
        node = self._files.node(header.nodeid)
        if not isinstance(node, Symlink):
            raise PosixError(errno.EINVAL)
        self._note_access(node)
        return node.target

    def _rename(self, parent: int, target: int, names: memoryview, flags: int) -> Reply:
        if is_past(target):
            raise PosixError(errno.EROFS)
        old, new, _ = names.tobytes().split(b"\0")
        places = self._places(target, new)
        self._files.rename((parent, old), (target, new), flags)
        self._forget(places)
        return b""


def _owner(header: Header, mode: int) -> Owner:
    return Owner(header.uid, header.gid, mode & _PERMISSIONS)
