"""The file interface: what the mount stands on.

Works on nodes and names and raises `PosixError` where POSIX says so. Every
change is one record; what a file that is being written must keep from the log
is `Content`'s business. Callers hold the lock of the store.
"""

from __future__ import annotations

import errno
import stat
import time
from math import inf
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
    Rename,
    Symlink,
)
from kvfs.store.nodes import Nodes
from kvfs.table import Directory, File, Node, is_aside
from kvfs.table.table import (
    DEFAULT_DIRECTORY_MODE,
    DEFAULT_MODE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvfs.records import Record

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
            ino = self._table.next_ino
            self._table.apply(record, None)
        else:
            ino = core.create(record)
            keep_back = False
        node = self.file(ino)
        if keep_back:
            self.content.created(node, now)
        return node

    def mkdir(self, parent: int, name: bytes, owner: Owner) -> Directory:
        """Make a directory."""
        directory = self.directory(parent)
        if keys.is_piece(name) and is_aside(parent) and directory is not self._table.control:
            self._refuse_taken(directory, name)
            return self._table.make_piece(directory, name)
        directory, key = self._new(parent, name)
        if is_aside(parent):
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
        record = Delete(self._key(directory, name), time=self._core.now())
        self.remove(node, record, *self._kept(directory))

    def remove(self, node: Node, record: Delete, *before: Record) -> None:
        """Take the name that `record` deletes from `node`, in one batch with what is to come `before`."""
        is_open = node.ino in self._opens
        if not isinstance(node, File) or self.content.before_unlink(node, open=is_open):
            self._core.commit(*before, record)
        else:
            self._table.apply(record, None)
        self.drain()

    def expire(
        self, most: int, tell: Callable[[int, bytes, int], object] = lambda *_place: None
    ) -> int:
        """Remove up to `most` files whose lifetime is over, and return how many.

        `tell` gets (directory, name, node) of each name that is gone: theirs, and those of
        directories that only they implied. Nothing is removed from a store that is open for
        reading. Raises what the log says.
        """
        if not self._core.writable:
            return 0
        now = time.time_ns()
        for done in range(most):
            ino = self._table.expiries.first_expired(now)
            node = None if ino is None else self._table.node(ino)
            if node is None:
                return done
            for parent, name in list(node.names()):
                self._expire_name(self.directory(parent), name, node, tell)
        return most

    def until_expiry(self) -> float:
        """Return the seconds until `expire` has something to remove."""
        first = self._table.expiries.first() if self._core.writable else None
        return inf if first is None else max(first - time.time_ns(), 0) / 1e9

    def _expire_name(
        self,
        parent: Directory,
        name: bytes,
        node: Node,
        tell: Callable[[int, bytes, int], object],
    ) -> None:
        """Remove a name of `node`, as `Store.delete` does: nobody looked at what it stands in."""
        above, directory = [(parent.ino, name, node)], parent
        while directory.implicit:
            above.append((directory.parent, directory.name, directory))
            directory = self.directory(directory.parent)
        self.remove(node, Delete(self._key(parent, name), time=self._core.now()))
        for ino, gone, below in above:
            if below is node or below.nlink == 0:
                tell(ino, gone, below.ino)

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory."""
        directory, node = self._existing(parent, name)
        if not isinstance(node, Directory):
            raise PosixError(errno.ENOTDIR)
        if node.entries:
            raise PosixError(errno.ENOTEMPTY)
        if is_aside(parent):
            self._table.prune(node)
        else:
            key = self._key(directory, name)
            record = Delete(key, directory=True, time=self._core.now())
            self._core.commit(*self._kept(directory), record)
        self.drain()

    def rename(self, old: tuple[int, bytes], new: tuple[int, bytes], flags: int) -> None:
        """Move the name `old` (directory, name) to `new`; `flags` are those of renameat2(2)."""
        if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
            raise PosixError(errno.EINVAL)
        old_parent, node = self._existing(*old)
        target = self.lookup(*new)
        new_parent = self.directory(new[0])
        if target is not None and flags == RENAME_NOREPLACE:
            raise PosixError(errno.EEXIST)
        if target is self._table.control:
            raise PosixError(errno.EPERM)
        old_key, new_key = self._key(old_parent, old[1]), self._key(new_parent, new[1])
        if flags == RENAME_EXCHANGE:
            self._check_exchange(node, target, (old_parent, old_key), (new_parent, new_key))
        else:
            self._check_move(node, target, new_parent)
        if target is None:
            self._check_place(new_parent, new[1], new_key)
        if target is node:
            return
        if flags != RENAME_EXCHANGE:
            self.reserved.check(node, target)
        self._check_lengths(node, old_key, new_key)
        self._keep(old_parent)
        self._keep(new_parent)
        self._commit(node)
        if flags == RENAME_EXCHANGE:
            self._commit(target)
        elif isinstance(target, File):
            self.content.before_unlink(target, open=target.ino in self._opens)
        exchange = flags == RENAME_EXCHANGE
        is_directory = isinstance(node, Directory)
        other = exchange and isinstance(target, Directory)
        self._core.move(Rename(old_key, new_key, is_directory, other, exchange, self._core.now()))
        self.reserved.disarm(node.ino)
        self.drain()

    def _check_exchange(
        self,
        node: Node,
        target: Node | None,
        old: tuple[Directory, bytes],
        new: tuple[Directory, bytes],
    ) -> None:
        """Raise what renameat2(2) says where the two cannot change places; (directory, key) each."""
        if target is None:
            raise PosixError(errno.ENOENT)
        self._check_into(node, new[0])
        self._check_into(target, old[0])
        if self._would_meet(node, target, old[1], new[1]):
            raise PosixError(errno.EEXIST)
        self._check_lengths(target, new[1], old[1])

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
            # What the mount shows in `.kvfs` of its own is there, and stays.
            raise PosixError(errno.EPERM if directory is self._table.control else errno.ENOENT)
        if node is self._table.control or directory is self._table.control:
            raise PosixError(errno.EPERM)
        return directory, node

    def _key(self, directory: Directory, name: bytes) -> bytes:
        key = self._table.key_at(directory, name)
        if key is None:
            in_keys = is_aside(directory.ino) and directory is not self._table.control
            raise PosixError(errno.EINVAL if in_keys else errno.EPERM)
        return key

    def _check_place(self, directory: Directory, name: bytes, key: bytes) -> None:
        """Refuse a name below `.kvfs/keys/` for a key that has its own free path."""
        if is_aside(directory.ino) and not self._table.missing(key):
            place, _ = self._table.place(key)
            if place is not directory:
                raise PosixError(errno.EINVAL)

    def _check_into(self, node: Node, parent: Directory) -> None:
        """Raise what rename(2) says where nothing, or not `node`, can come into `parent`."""
        if parent.nlink == 0:
            raise PosixError(errno.ENOENT)
        if isinstance(node, Directory):
            self._check_not_into_itself(node, parent)

    def _check_move(self, node: Node, target: Node | None, parent: Directory) -> None:
        """Raise what rename(2) says where `node` cannot take the place of `target` in `parent`."""
        self._check_into(node, parent)
        if target is None:
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
        if is_aside(parent.ino):
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
        """Log a directory that is only implied by its keys, before its names change."""
        for record in self._kept(directory):
            self._core.commit(record)

    def _kept(self, directory: Directory) -> Sequence[Record]:
        """Return what to log of a directory before its names change, if only its keys imply it.

        Otherwise it would vanish for those who see it, with its last key.
        """
        if not directory.implicit or is_aside(directory.ino):
            return ()
        return (Mkdir(self._table.key_of(directory), time=self._core.now()),)

    def _attrs(self, directory: Directory, owner: Owner, default_mode: int) -> Attrs:
        """Return how a new node in `directory` differs from a plain one."""
        uid, gid, mode = owner
        if directory.mode & stat.S_ISGID:
            gid = directory.gid
        table = self._table
        if mode == default_mode and uid == table.uid and gid == table.gid:
            return NO_ATTRS
        return Attrs(
            mode=mode if mode != default_mode else None,
            uid=uid if uid != table.uid else None,
            gid=gid if gid != table.gid else None,
        )
