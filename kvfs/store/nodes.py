"""The nodes of a store as the mount sees them: by inode number, with or without a name.

A node lives while it has a name, a reference or an open handle; what is done
to one that has no name any more stays out of the log.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from kvfs import keys
from kvfs.errors import PosixError
from kvfs.records import Attrs, Delete, Removexattr, Setattr, Setxattr, new_tuple
from kvfs.store.access import AccessTimes
from kvfs.store.reserved import IF_VERSION, PREFIX, TTL, VERSION, Reserved
from kvfs.table import Directory, File, Node, Special, is_aside
from kvfs.table.lifetimes import EXPIRES
from kvfs.table.table import remove_xattr, set_attrs, set_xattr

if TYPE_CHECKING:
    from kvfs.store.content import Content
    from kvfs.store.core import Core

_NAMESPACES = (b"user.", b"trusted.", b"security.")
_CAPABILITY = b"security.capability"
_MAX_XATTR = 65_536  # bytes of a value, and of all names of a node, each with a NUL
_MIN_TIME, _MAX_TIME = -(2**63), 2**63 - 1  # what the log can hold: the years 1677 to 2262


class Stat(NamedTuple):
    """The attributes of a node, as stat(2) shows them; times in nanoseconds."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    atime: int
    mtime: int
    ctime: int


class Nodes:
    """The nodes of one store, by inode number."""

    def __init__(self, core: Core, content: Content) -> None:
        """Work on `core`, with `content` for what is in the files."""
        self._core = core
        self._table = core.table
        self.content = content
        self.access_times = AccessTimes(core, content)
        self.reserved = Reserved(content, keeps_time=core.log.codec.keeps_time)
        self._get = core.table.nodes.get
        self._references: dict[int, int] = {}
        self._opens: dict[int, int] = {}
        self._orphans: dict[int, Node] = {}

    # -- looking -----------------------------------------------------------------

    def node(self, ino: int) -> Node:
        """Return the node `ino`, also one that lives on without a name.

        Raises `PosixError` ENOENT.
        """
        node = self._get(ino) or self._orphans.get(ino)
        if node is None:
            raise PosixError(errno.ENOENT)
        return node

    def file(self, ino: int) -> File:
        """Return the regular file `ino`. Raises `PosixError`."""
        node = self.node(ino)
        if not isinstance(node, File):
            raise PosixError(errno.EISDIR if isinstance(node, Directory) else errno.EINVAL)
        return node

    def directory(self, ino: int) -> Directory:
        """Return the directory `ino`. Raises `PosixError` ENOENT or ENOTDIR."""
        node = self.node(ino)
        if not isinstance(node, Directory):
            raise PosixError(errno.ENOTDIR)
        return node

    def parent(self, directory: Directory) -> Directory:
        """Return the directory above; of the root, and of one that is gone, the root."""
        above = self._table.node(directory.parent)
        return above if isinstance(above, Directory) else self._table.root

    def lookup(self, parent: int, name: bytes) -> Node | None:
        """Return what `name` in the directory `parent` names, if anything."""
        if len(name) > keys.MAX_NAME:
            raise PosixError(errno.ENAMETOOLONG)
        return self._table.child(self.directory(parent), name)

    def find(self, parent: int, name: bytes) -> int | None:
        """Return the number of what `name` in the directory `parent` names, if anything."""
        if len(name) > keys.MAX_NAME:
            raise PosixError(errno.ENAMETOOLONG)
        return self._table.child_number(self.directory(parent), name)

    def stat_of(self, ino: int) -> Stat:
        """Return the attributes of the node `ino`, which stays at rest if it is.

        Raises `PosixError` ENOENT.
        """
        resting = self._table.nodes.attributes_of(ino)
        if resting is None:
            return self.stat(self.node(ino))
        mode, uid, gid, size, atime, mtime = resting
        found: Stat = new_tuple(
            Stat,
            (
                *(ino, stat.S_IFREG | mode, 1, uid, gid, 0),
                *(size, -(-size // 512), atime, mtime, mtime),
            ),
        )
        return found

    def path_of(self, parent: Directory, name: bytes) -> list[tuple[int, bytes]]:
        """Return the (directory, name) pairs on the way to the path of a key aside."""
        key = self._table.key_at(parent, name)
        names = keys.split(key) if key is not None else None
        pairs = []
        directory: Node | None = self._table.root
        for part in names or ():
            if not isinstance(directory, Directory):
                break
            pairs.append((directory.ino, part))
            directory = self._table.child(directory, part)
        return pairs

    def stat(self, node: Node) -> Stat:
        """Return the attributes of `node`."""
        nlink, size, blocks = node.nlink, node.size, node.blocks
        mtime, ctime = node.mtime, node.ctime
        rdev = 0
        if isinstance(node, File):
            pending = self.content.pending(node)
            if pending is not None:
                size, blocks = pending.size, self.content.blocks(node)
                if pending.touched is not None:
                    ctime = max(ctime, pending.touched)
                    mtime = mtime if "mtime" in pending.explicit else pending.touched
        elif isinstance(node, Directory):
            nlink = 2 + node.subdirs if nlink else 0
        elif isinstance(node, Special):
            rdev = node.rdev
        found: Stat = new_tuple(
            Stat,
            (
                *(node.ino, node.mode, nlink, node.uid, node.gid, rdev),
                *(size, blocks, node.atime, mtime, ctime),
            ),
        )
        return found

    def statvfs(self) -> tuple[os.statvfs_result, int]:
        """Return the figures of the disk below, and how many nodes there are."""
        return self._core.disk.statvfs(self._core.path), len(self._table.nodes)

    # -- references ----------------------------------------------------------------

    def refer(self, ino: int) -> None:
        """Keep the node `ino` alive until a matching `forget`."""
        self._references[ino] = self._references.get(ino, 0) + 1

    def forget(self, ino: int, count: int = 1) -> None:
        """Take back `count` calls of `refer`."""
        left = self._references.get(ino, 0) - count
        if left > 0:
            self._references[ino] = left
            return
        self._references.pop(ino, None)
        if self._orphans:
            orphan = self._orphans.pop(ino, None)
            if isinstance(orphan, File):
                self.content.forget(orphan)

    def references(self) -> int:
        """Return how many there are, but for those of open handles."""
        return sum(self._references.values()) - sum(self._opens.values())

    def opened(self, ino: int) -> None:
        """Note one more open handle of `ino`."""
        self._opens[ino] = self._opens.get(ino, 0) + 1
        self.refer(ino)

    def closed(self, ino: int) -> None:
        """Note one open handle less."""
        left = self._opens[ino] - 1
        if left:
            self._opens[ino] = left
        else:
            del self._opens[ino]
        self.forget(ino)

    def give_up(self, node: File) -> list[tuple[int, bytes]]:
        """Drop what is pending of `node` and could not be logged, if this is its last user.

        What the log has of it counts again. A file that the log does not know
        loses its name, which is returned as (directory, name).
        """
        pending = self.content.pending(node)
        if pending is None or self._opens.get(node.ino, 0) > 1:
            return []
        self.content.drop(node)
        if not pending.created or node.nlink == 0:
            return []
        place = (node.parent, node.name)
        self._table.apply(Delete(self._table.key_of(node), time=self._core.now()), None)
        self.drain()
        return [place]

    def settle(self) -> None:
        """Bring to rest what has not been used for long; nobody may hold a node that is not open."""
        self._table.nodes.settle(
            lambda ino: (
                ino in self._opens or self.content.has_pending(ino) or self.access_times.has(ino)
            )
        )

    def drain(self) -> None:
        """Look after the nodes that have just lost their last name."""
        for node in self._table.detached:
            self.reserved.disarm(node.ino)
            if node.ino in self._references:
                self._orphans[node.ino] = node
            elif isinstance(node, File):
                self.content.forget(node)
        self._table.detached.clear()

    # -- attributes --------------------------------------------------------------------

    def setattr(self, node: Node, attrs: Attrs) -> None:
        """Set what `attrs` gives; a new owner takes the set-id bits from a file.

        With nothing given, that alone is noted, as the ctime.

        A time beyond what the log can hold becomes the nearest that it can, as
        file systems do (timestamp_truncate in the kernel's fs/inode.c).
        """
        attrs = attrs._replace(atime=_storable(attrs.atime), mtime=_storable(attrs.mtime))
        if (attrs.uid, attrs.gid) != (None, None) and not isinstance(node, Directory):
            mode = node.mode if attrs.mode is None else attrs.mode
            attrs = attrs._replace(mode=_without_set_id(mode) & 0o7777)
        pending = self.content.pending(node) if isinstance(node, File) else None
        if pending and not pending.replaced and attrs.mtime is not None:
            self._commit(node)
        # Later than any name that came into a directory before, logged or not.
        record = Setattr(b"", attrs, time=max(self._core.tick(), self._next_time(node)))
        self._change(node, record, set_attrs)
        if pending:
            pending.explicit |= {
                name for name in ("atime", "mtime") if getattr(attrs, name) is not None
            }

    def getxattr(self, node: Node, name: bytes) -> bytes:
        """Return an extended attribute. Raises `PosixError` EOPNOTSUPP or ENODATA."""
        _check_namespace(name)
        if name.startswith(PREFIX):
            return self.reserved.get(node, name)
        value = (node.xattrs or {}).get(name)
        if value is None:
            raise PosixError(errno.ENODATA)
        return value

    def drop_privileges(self, node: File, mode: int) -> bool:
        """Take from a file what made it more than a file; `mode` is what is left of its mode.

        Capabilities go always. Tells whether anything had to go.
        """
        privileged = node.mode != mode or _CAPABILITY in (node.xattrs or ())
        if node.mode != mode:
            self.setattr(node, Attrs(mode=mode & 0o7777))
        if _CAPABILITY in (node.xattrs or ()):
            self.removexattr(node, _CAPABILITY)
        return privileged

    def setxattr(self, node: Node, name: bytes, value: bytes, flags: int = 0) -> None:
        """Set an extended attribute; those of the system, such as ACLs, are not supported.

        `flags` are those of setxattr(2). Raises `PosixError` EOPNOTSUPP or
        EINVAL for its name, E2BIG for a value over 64 KiB, EEXIST or ENODATA as
        the flags say, or ENOSPC where listxattr(2) could not return all names
        any more. One that has the value already stays as it is, ctime included,
        as on ext4.
        """
        _check_namespace(name)
        if name.startswith(PREFIX):
            self.reserved.set(
                node, name, value, lambda value: self._keep_xattr(node, EXPIRES, value)
            )
            return
        there = name in (node.xattrs or ())
        if there and flags & os.XATTR_CREATE:
            raise PosixError(errno.EEXIST)
        if not there and flags & os.XATTR_REPLACE:
            raise PosixError(errno.ENODATA)
        if len(value) > _MAX_XATTR:
            raise PosixError(errno.E2BIG)
        if (node.xattrs or {}).get(name) == value:
            return
        names = {name, *(node.xattrs or ())}
        if sum(map(len, names)) + len(names) > _MAX_XATTR:
            raise PosixError(errno.ENOSPC)
        self._keep_xattr(node, name, value)

    def _keep_xattr(self, node: Node, name: bytes, value: bytes) -> None:
        record = Setxattr(b"", name, value, time=self._next_time(node))
        self._change(node, record, set_xattr)

    def removexattr(self, node: Node, name: bytes) -> None:
        """Remove an extended attribute. Raises `PosixError` EOPNOTSUPP or ENODATA."""
        self.getxattr(node, name)
        if name == IF_VERSION:
            self.reserved.disarm(node.ino)
            return
        if name == VERSION:
            raise PosixError(errno.EPERM)
        if name == TTL:
            name = EXPIRES
        record = Removexattr(b"", name, time=self._next_time(node))
        self._change(node, record, remove_xattr)

    def nameless_segments(self) -> set[int]:
        """Return the segments that files without a name, which somebody uses, have data in."""
        return {
            extent.location.segment
            for node in self._orphans.values()
            if isinstance(node, File)
            for extent in node.extents
        }

    def _change(self, node: Node, record: Any, do: Any) -> None:
        """Log `record` of `node`, or just do it where the log does not know the node."""
        if node.nlink == 0:
            do(node, record)
            return
        if isinstance(node, Directory) and is_aside(node.ino):
            raise PosixError(errno.EPERM)
        key = self._table.key_of(node)
        record = record._replace(key=key, directory=isinstance(node, Directory))
        pending = self.content.pending(node) if isinstance(node, File) else None
        if pending and pending.created:
            self._core.check_fits(record)
            self._table.apply(record, None)
        else:
            self._core.commit(record)

    # -- helpers -----------------------------------------------------------------------

    def _next_time(self, node: Node) -> int:
        """Return the time of a change of `node`, later than that of any before."""
        return self._core.after(
            self.content.changed(node) if isinstance(node, File) else node.ctime
        )

    def _commit(self, node: Node | None) -> None:
        if isinstance(node, File):
            self.content.commit(node)


def _check_namespace(name: bytes) -> None:
    if not name.startswith(_NAMESPACES):
        raise PosixError(errno.EOPNOTSUPP)
    if name in _NAMESPACES:
        raise PosixError(errno.EINVAL)


def _without_set_id(mode: int) -> int:
    """Return `mode` as chown(2) leaves it: set-id bits gone, but for mandatory locking."""
    mode &= ~stat.S_ISUID
    return mode & ~stat.S_ISGID if mode & stat.S_IXGRP else mode


def _storable(time: int | None) -> int | None:
    return time if time is None else min(max(time, _MIN_TIME), _MAX_TIME)
