"""The file interface: what the mount stands on.

Works on nodes and names and raises `PosixError` where POSIX says so. Every
change is one record; what a file that is being written must keep from the log
is `Content`'s business. Callers hold the lock of the store.
"""

from __future__ import annotations

import errno
import stat
from typing import Any, NamedTuple

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
    Rename,
    Symlink,
)
from kvfs.store.nodes import Nodes
from kvfs.table import Directory, File, Node
from kvfs.table.table import (
    DEFAULT_DIRECTORY_MODE,
    DEFAULT_MODE,
)

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
_MAX_TARGET = 4095
_SYMLINK_MODE = 0o777


class Owner(NamedTuple):
    """Who makes a node, and the permission bits (07777) it asks for."""

    uid: int
    gid: int
    mode: int


class Files(Nodes):
    """The names of one store: making, removing and moving them."""

    # -- making ----------------------------------------------------------------------

    def create(self, parent: int, name: bytes, owner: Owner, *, keep_back: bool = True) -> File:
        """Make an empty file; with `keep_back`, the log knows nothing of it until it is committed."""
        directory, key = self._new(parent, name)
        core = self._core
        now = core.now()
        record = Put(key, b"", self._attrs(directory, owner, DEFAULT_MODE), now)
        if keep_back and not self._table.missing(key):
            core.check_fits(record)
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
        exchange = flags == RENAME_EXCHANGE
        old_parent, node = self._existing(*old)
        new_parent = self.directory(new[0])
        target = self._target(node, old_parent, new, flags)
        old_key = self._key(old_parent, old[1])
        new_key = self._key(new_parent, new[1])
        if target is None:
            self._check_place(new_parent, new[1], new_key)
        if exchange and self._would_meet(node, target, old_key, new_key):
            raise PosixError(errno.EEXIST)
        if target is node:
            return
        self._check_lengths(node, old_key, new_key)
        if exchange:
            self._check_lengths(target, new_key, old_key)
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

    def _target(
        self, node: Node, old_parent: Directory, new: tuple[int, bytes], flags: int
    ) -> Node | None:
        """Return what `new` names now; raise what rename(2) says where `node` cannot go there."""
        if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
            raise PosixError(errno.EINVAL)
        exchange = flags == RENAME_EXCHANGE
        target = self.lookup(*new)
        if target is not None and flags == RENAME_NOREPLACE:
            raise PosixError(errno.EEXIST)
        if target is None and exchange:
            raise PosixError(errno.ENOENT)
        if target is self._table.control:
            raise PosixError(errno.EPERM)
        self._check_move(node, target, self.directory(new[0]), exchange=exchange)
        if exchange and target is not None:
            self._check_move(target, node, old_parent, exchange=True)
        return target

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

    def _would_meet(self, node: Node, target: Node | None, old: bytes, new: bytes) -> bool:
        """Tell whether an exchange would bring a value to a key that has one aside."""
        is_directory = isinstance(node, Directory)
        if is_directory == isinstance(target, Directory):
            return False
        return self._table.find(old if is_directory else new) is not None

    def _check_lengths(self, node: Node | None, old: bytes, new: bytes) -> None:
        """Refuse to move a directory where a key below it would become too long."""
        if not isinstance(node, Directory) or len(new) <= len(old):
            return
        stack = [(node, len(new))]
        while stack:
            directory, length = stack.pop()
            if length + 1 + keys.MAX_NAME > keys.MAX_KEY:
                raise PosixError(errno.ENAMETOOLONG)
            for name, ino in directory.entries.items() if directory.subdirs else ():
                child = self._table.node(ino)
                if isinstance(child, Directory):
                    stack.append((child, length + 1 + len(name)))

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

    def _attrs(self, directory: Directory, owner: Owner, default_mode: int) -> Attrs:
        """Return how a new node in `directory` differs from a plain one."""
        gid = directory.gid if directory.mode & stat.S_ISGID else owner.gid
        attrs = Attrs(
            mode=owner.mode if owner.mode != default_mode else None,
            uid=owner.uid if owner.uid != self._table.uid else None,
            gid=gid if gid != self._table.gid else None,
        )
        return NO_ATTRS if attrs == NO_ATTRS else attrs
