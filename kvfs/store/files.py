"""The file interface: what the mount stands on.

Works on nodes and names and raises `PosixError` where POSIX says so. Every
change is one record; what a file that is being written must keep from the log
is `Content`'s business. Callers hold the lock of the store, or are the only
thread that uses it, as the mount is.
"""

from __future__ import annotations

import errno
import stat
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from kvfs import keys
from kvfs.errors import PosixError
from kvfs.records import (
    NO_ATTRS,
    Attrs,
    Delete,
    Link,
    Mkdir,
    Mknod,
    Put,
    Removexattr,
    Rename,
    Setattr,
    Setxattr,
    Symlink,
)
from kvfs.table import ROOT_INO, Directory, File, Node, Special
from kvfs.table.table import (
    DEFAULT_DIRECTORY_MODE,
    DEFAULT_MODE,
    remove_xattr,
    set_attrs,
    set_xattr,
)

if TYPE_CHECKING:
    import os

    from kvfs.store.content import Content
    from kvfs.store.core import Core

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
_MAX_TARGET = 4095
_SYMLINK_MODE = 0o777
_NAMESPACES = (b"user.", b"trusted.", b"security.")
_MAX_XATTR = 65_536


class Owner(NamedTuple):
    """Who makes a node, and the permission bits (07777) it asks for."""

    uid: int
    gid: int
    mode: int


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


class Files:
    """The nodes of one store, by inode number."""

    def __init__(self, core: Core, content: Content) -> None:
        """Work on `core`, with `content` for what is in the files."""
        self._core = core
        self._table = core.table
        self.content = content
        self._references: Counter[int] = Counter()
        self._opens: Counter[int] = Counter()
        self._orphans: dict[int, Node] = {}

    # -- looking -----------------------------------------------------------------

    def node(self, ino: int) -> Node:
        """Return the node `ino`, also one that lives on without a name.

        Raises `PosixError` ENOENT.
        """
        node = self._table.node(ino) or self._orphans.get(ino)
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

    def is_aside(self, directory: Directory) -> bool:
        """Tell whether `directory` is `.kvfs` or below it."""
        return directory.nlink > 0 and self._table.is_aside(directory)

    def names(self, directory: Directory) -> list[bytes]:
        """Return the names in `directory`, in the order in which they came."""
        return list(directory.entries)

    def paths(self, node: File) -> list[bytes]:
        """Return the paths of `node` from the root of the mount."""
        paths = []
        for parent, name in node.names():
            names = [name]
            while parent != ROOT_INO:
                above = self.directory(parent)
                parent = above.parent  # noqa: PLW2901 - walking up
                names.append(above.name)
            paths.append(b"/".join(reversed(names)))
        return paths

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
        if isinstance(node, Directory):
            nlink = 2 + node.subdirs if node.nlink else 0
        elif isinstance(node, File):
            size, blocks = self.content.size(node), self.content.blocks(node)
            pending = self.content.pending(node)
            if pending and pending.touched is not None:
                ctime = max(ctime, pending.touched)
                mtime = mtime if "mtime" in pending.explicit else pending.touched
        rdev = node.rdev if isinstance(node, Special) else 0
        return Stat(
            node.ino,
            node.mode,
            nlink,
            node.uid,
            node.gid,
            rdev,
            size,
            blocks,
            node.atime,
            mtime,
            ctime,
        )

    def statvfs(self) -> tuple[os.statvfs_result, int]:
        """Return the figures of the disk below, and how many nodes there are."""
        return self._core.disk.statvfs(self._core.path), len(self._table.nodes)

    # -- references ----------------------------------------------------------------

    def refer(self, ino: int) -> None:
        """Keep the node `ino` alive until a matching `forget`."""
        self._references[ino] += 1

    def forget(self, ino: int, count: int = 1) -> None:
        """Take back `count` calls of `refer`."""
        self._references[ino] -= count
        if self._references[ino] <= 0:
            del self._references[ino]
            orphan = self._orphans.pop(ino, None)
            if isinstance(orphan, File):
                self.content.forget(orphan)

    def opened(self, ino: int) -> None:
        """Note one more open handle of `ino`."""
        self._opens[ino] += 1
        self.refer(ino)

    def closed(self, ino: int) -> None:
        """Note one open handle less."""
        self._opens[ino] -= 1
        if not self._opens[ino]:
            del self._opens[ino]
        self.forget(ino)

    def drain(self) -> None:
        """Look after the nodes that have just lost their last name."""
        for node in self._table.detached:
            if self._references[node.ino] > 0:
                self._orphans[node.ino] = node
            elif isinstance(node, File):
                self.content.forget(node)
        self._table.detached.clear()

    # -- making ----------------------------------------------------------------------

    def create(self, parent: int, name: bytes, owner: Owner, *, keep_back: bool = True) -> File:
        """Make an empty file; with `keep_back`, the log knows nothing of it until it is committed."""
        directory, key = self._new(parent, name)
        core = self._core
        now = core.now()
        record = Put(key, b"", self._attrs(directory, owner, DEFAULT_MODE), now)
        if keep_back and not self._table.missing(key):
            self._table.apply(record, None)
        else:
            core.create(record)
            keep_back = False
        node = self._table.find(key)
        assert isinstance(node, File)
        if keep_back:
            self.content.created(node, now)
        return node

    def mkdir(self, parent: int, name: bytes, owner: Owner) -> Directory:
        """Make a directory."""
        directory = self.directory(parent)
        if (
            keys.is_piece(name)
            and self.is_aside(directory)
            and directory is not self._table.control
        ):
            self._refuse_taken(directory, name)
            return self._table.make_piece(directory, name)
        directory, key = self._new(parent, name)
        if self.is_aside(directory):
            raise PosixError(errno.EPERM)
        if directory.mode & stat.S_ISGID:
            owner = owner._replace(mode=owner.mode | stat.S_ISGID)
        attrs = self._attrs(directory, owner, DEFAULT_DIRECTORY_MODE)
        self._core.create(Mkdir(key, attrs, self._core.now()))
        made = self._table.find_directory(key)
        assert made is not None
        return made

    def symlink(self, parent: int, name: bytes, target: bytes, owner: Owner) -> Node:
        """Make a symbolic link to `target`."""
        if len(target) > _MAX_TARGET:
            raise PosixError(errno.ENAMETOOLONG)
        directory, key = self._new(parent, name)
        attrs = self._attrs(directory, owner._replace(mode=_SYMLINK_MODE), _SYMLINK_MODE)
        return self._made(Symlink(key, target, attrs, self._core.now()))

    def mknod(self, parent: int, name: bytes, owner: Owner, kind: int, rdev: int) -> Node:
        """Make a FIFO, socket or device (`kind` is its S_IF type), or an empty file."""
        if kind == stat.S_IFREG:
            return self.create(parent, name, owner, keep_back=False)
        directory, key = self._new(parent, name)
        attrs = self._attrs(directory, owner, owner.mode)
        return self._made(Mknod(key, kind | owner.mode, rdev, attrs, self._core.now()))

    def link(self, node: Node, parent: int, name: bytes) -> None:
        """Give `node` another name."""
        if isinstance(node, Directory):
            raise PosixError(errno.EPERM)
        if node.nlink == 0:
            raise PosixError(errno.ENOENT)
        _, key = self._new(parent, name)
        self._commit(node)
        self._core.move(Link(self._table.key_of(node), key, self._core.now()))

    # -- removing and moving -----------------------------------------------------------

    def unlink(self, parent: int, name: bytes) -> None:
        """Remove a name that is not a directory's."""
        directory, node = self._existing(parent, name)
        if isinstance(node, Directory):
            raise PosixError(errno.EISDIR)
        self._keep(directory)
        self.remove(node, Delete(self._key(directory, name), time=self._core.now()))

    def remove(self, node: Node, record: Delete) -> None:
        """Take the name that `record` deletes from `node`."""
        is_open = self._opens[node.ino] > 0
        if not isinstance(node, File) or self.content.before_unlink(node, open=is_open):
            self._core.commit(record)
        else:
            self._table.apply(record, None)
        self.drain()

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory."""
        directory, node = self._existing(parent, name)
        if not isinstance(node, Directory):
            raise PosixError(errno.ENOTDIR)
        if node.entries:
            raise PosixError(errno.ENOTEMPTY)
        if self.is_aside(directory):
            self._table.prune(node)
        else:
            self._keep(directory)
            key = self._key(directory, name)
            self._core.commit(Delete(key, directory=True, time=self._core.now()))
        self.drain()

    def rename(self, old: tuple[int, bytes], new: tuple[int, bytes], flags: int) -> None:
        """Move the name `old` (directory, name) to `new`; `flags` are those of renameat2(2)."""
        if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
            raise PosixError(errno.EINVAL)
        exchange = flags == RENAME_EXCHANGE
        old_parent, node = self._existing(*old)
        new_parent = self.directory(new[0])
        target = self.lookup(*new)
        if target is not None and flags == RENAME_NOREPLACE:
            raise PosixError(errno.EEXIST)
        if target is None and exchange:
            raise PosixError(errno.ENOENT)
        if target is self._table.control:
            raise PosixError(errno.EPERM)
        self._check_move(node, target, new_parent, exchange=exchange)
        if exchange and target is not None:
            self._check_move(target, node, old_parent, exchange=True)
        old_key = self._key(old_parent, old[1])
        new_key = self._key(new_parent, new[1])
        if target is None:
            self._check_place(new_parent, new[1], new_key)
        if target is node:
            return
        self._keep(old_parent)
        self._keep(new_parent)
        self._commit(node)
        if exchange:
            self._commit(target)
        elif isinstance(target, File):
            self.content.before_unlink(target, open=self._opens[target.ino] > 0)
        record = Rename(
            old_key,
            new_key,
            directory=isinstance(node, Directory),
            new_directory=exchange and isinstance(target, Directory),
            exchange=exchange,
            time=self._core.now(),
        )
        self._core.move(record)
        self.drain()

    # -- attributes --------------------------------------------------------------------

    def setattr(self, node: Node, attrs: Attrs) -> None:
        """Set what `attrs` gives; a new owner takes the set-id bits from a file."""
        if (attrs.uid, attrs.gid) != (None, None) and not isinstance(node, Directory):
            mode = node.mode if attrs.mode is None else attrs.mode
            attrs = attrs._replace(mode=_without_set_id(mode) & 0o7777)
        pending = self.content.pending(node) if isinstance(node, File) else None
        if pending and not pending.replaced and attrs.mtime is not None:
            self._commit(node)
        record = Setattr(b"", attrs, time=self._core.now())
        self._change(node, record, set_attrs)
        if pending:
            pending.explicit |= {
                name for name in ("atime", "mtime") if getattr(attrs, name) is not None
            }

    def setxattr(self, node: Node, name: bytes, value: bytes) -> None:
        """Set an extended attribute; those of the system, such as ACLs, are not supported.

        Raises `PosixError` EOPNOTSUPP, or E2BIG for a value over 64 KiB.
        """
        if not name.startswith(_NAMESPACES):
            raise PosixError(errno.EOPNOTSUPP)
        if len(value) > _MAX_XATTR:
            raise PosixError(errno.E2BIG)
        record = Setxattr(b"", name, value, time=self._core.now())
        self._change(node, record, set_xattr)

    def removexattr(self, node: Node, name: bytes) -> None:
        """Remove an extended attribute. Raises `PosixError` ENODATA."""
        if name not in (node.xattrs or {}):
            raise PosixError(errno.ENODATA)
        record = Removexattr(b"", name, time=self._core.now())
        self._change(node, record, remove_xattr)

    def _change(self, node: Node, record: Any, do: Any) -> None:
        """Log `record` of `node`, or just do it where the log does not know the node."""
        if node.nlink == 0:
            do(node, record)
            return
        if node is self._table.control or (
            isinstance(node, Directory) and node is not self._table.root and self.is_aside(node)
        ):
            raise PosixError(errno.EPERM)
        key = self._table.key_of(node)
        record = record._replace(key=key, directory=isinstance(node, Directory))
        pending = self.content.pending(node) if isinstance(node, File) else None
        if pending and pending.created:
            self._table.apply(record, None)
        else:
            self._core.commit(record)

    # -- helpers -----------------------------------------------------------------------

    def _new(self, parent: int, name: bytes) -> tuple[Directory, bytes]:
        """Return the directory and the key of a name that is to be made."""
        directory = self.directory(parent)
        if directory.nlink == 0:
            raise PosixError(errno.ENOENT)
        self._refuse_taken(directory, name)
        key = self._key(directory, name)
        self._check_place(directory, name, key)
        self._keep(directory)
        return directory, key

    def _refuse_taken(self, directory: Directory, name: bytes) -> None:
        if len(name) > keys.MAX_NAME:
            raise PosixError(errno.ENAMETOOLONG)
        if self._table.child(directory, name) is not None:
            raise PosixError(errno.EEXIST)

    def _existing(self, parent: int, name: bytes) -> tuple[Directory, Node]:
        directory = self.directory(parent)
        node = self.lookup(parent, name)
        if node is None:
            raise PosixError(errno.ENOENT)
        if node is self._table.control or directory is self._table.control:
            raise PosixError(errno.EPERM)
        return directory, node

    def _key(self, directory: Directory, name: bytes) -> bytes:
        key = self._table.key_at(directory, name)
        if key is None:
            in_keys = self.is_aside(directory) and directory is not self._table.control
            raise PosixError(errno.EINVAL if in_keys else errno.EPERM)
        return key

    def _check_place(self, directory: Directory, name: bytes, key: bytes) -> None:
        """Refuse a name below `.kvfs/keys/` for a key that has its own free path."""
        if self.is_aside(directory) and not self._table.missing(key):
            place, _ = self._table.place(key)
            if place is not directory:
                raise PosixError(errno.EINVAL)

    def _check_move(
        self, node: Node, target: Node | None, parent: Directory, *, exchange: bool
    ) -> None:
        """Raise what rename(2) says where `node` cannot take the place of `target` in `parent`."""
        if parent.nlink == 0:
            raise PosixError(errno.ENOENT)
        if isinstance(node, Directory):
            self._check_not_into_itself(node, parent)
        if target is None or exchange:
            return
        if isinstance(node, Directory) and not isinstance(target, Directory):
            raise PosixError(errno.ENOTDIR)
        if isinstance(target, Directory) and not isinstance(node, Directory):
            raise PosixError(errno.EISDIR)
        if isinstance(target, Directory) and target.entries:
            raise PosixError(errno.ENOTEMPTY)

    def _check_not_into_itself(self, node: Directory, parent: Directory) -> None:
        if self.is_aside(parent):
            raise PosixError(errno.EPERM)
        above = parent
        while above is not self._table.root:
            if above is node:
                raise PosixError(errno.EINVAL)
            above = self._table.directory(above.parent)

    def _made(self, record: Any) -> Node:
        self._core.create(record)
        node = self._table.find(record.key)
        assert node is not None
        return node

    def _keep(self, directory: Directory) -> None:
        """Log a directory that is only implied by its keys, before its names change.

        Otherwise it would vanish for those who see it, with its last key.
        """
        if directory.implicit and not self._table.is_aside(directory):
            record = Mkdir(self._table.key_of(directory), time=self._core.now())
            self._core.commit(record)

    def _commit(self, node: Node | None) -> None:
        if isinstance(node, File):
            self.content.commit(node)

    def _attrs(self, directory: Directory, owner: Owner, default_mode: int) -> Attrs:
        """Return how a new node in `directory` differs from a plain one."""
        gid = directory.gid if directory.mode & stat.S_ISGID else owner.gid
        attrs = Attrs(
            mode=owner.mode if owner.mode != default_mode else None,
            uid=owner.uid if owner.uid != self._table.uid else None,
            gid=gid if gid != self._table.gid else None,
        )
        return NO_ATTRS if attrs == NO_ATTRS else attrs


def _without_set_id(mode: int) -> int:
    """Return `mode` as chown(2) leaves it: set-id bits gone, but for mandatory locking."""
    mode &= ~stat.S_ISUID
    return mode & ~stat.S_ISGID if mode & stat.S_IXGRP else mode
