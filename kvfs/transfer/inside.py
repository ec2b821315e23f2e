"""Entries into a store that this process has open."""

from __future__ import annotations

import os
import stat
from collections import Counter
from typing import TYPE_CHECKING

from kvfs.records import Attrs
from kvfs.store.files import Owner
from kvfs.table import ROOT_INO, Directory, File
from kvfs.table.table import DEFAULT_DIRECTORY_MODE
from kvfs.transfer.entries import XATTRS

if TYPE_CHECKING:
    from kvfs.store import Store
    from kvfs.table import Node
    from kvfs.transfer.entries import Entry

_SET_ID = stat.S_ISUID | stat.S_ISGID


class StoreTarget:
    """A store that is open for writing."""

    def __init__(self, store: Store) -> None:
        """Bring entries into `store`, which no other thread uses."""
        self._files = store.files
        self.lost: Counter[str] = Counter()
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._last: tuple[list[bytes], int] = ([], ROOT_INO)

    def kind(self, path: list[bytes]) -> int | None:
        """Return the S_IF type of what is at `path`."""
        node = self._find(path)
        return None if node is None else stat.S_IFMT(node.mode)

    def is_empty(self, path: list[bytes]) -> bool:
        """Tell whether the directory at `path` is empty."""
        node = self._find(path)
        return isinstance(node, Directory) and not node.entries

    def remove(self, path: list[bytes]) -> None:
        """Remove what is at `path`."""
        above = self._directory(path[:-1])
        if isinstance(self._files.lookup(above, path[-1]), Directory):
            self._last = ([], ROOT_INO)
            self._files.rmdir(above, path[-1])
        else:
            self._files.unlink(above, path[-1])

    def mkdir(self, path: list[bytes]) -> None:
        """Make a directory."""
        owner = Owner(self._uid, self._gid, DEFAULT_DIRECTORY_MODE)
        self._files.mkdir(self._directory(path[:-1]), path[-1], owner)

    def make(self, path: list[bytes], entry: Entry) -> None:
        """Make what `entry` is; a small file is one record, whether it was there or not."""
        files, name = self._files, path[-1]
        above = self._directory(path[:-1])
        uid, gid, mode = self._owner(entry)
        owner = Owner(uid, gid, mode)
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFREG:
            self._write(above, name, owner, entry)
            return
        if kind == stat.S_IFLNK:
            node = files.symlink(above, name, entry.target, owner)
        else:
            node = files.mknod(above, name, owner, kind, entry.rdev)
        self._dress(node, entry)

    def link(self, old: list[bytes], new: list[bytes]) -> None:
        """Give what is at `old` another name."""
        node = self._find(old)
        assert node is not None
        self._files.link(node, self._directory(new[:-1]), new[-1])

    def dress(self, path: list[bytes], entry: Entry) -> None:
        """Give the directory at `path` what `entry` has."""
        self._dress(self._files.directory(self._directory(path)), entry)

    def _write(self, above: int, name: bytes, owner: Owner, entry: Entry) -> None:
        files, content = self._files, self._files.content
        node = files.lookup(above, name)
        if isinstance(node, File) and node.nlink > 1:
            files.unlink(above, name)
            node = None
        if isinstance(node, File):
            content.truncate(node, 0)
        else:
            node = files.create(above, name, owner)
        try:
            for offset, data in entry.pieces():
                content.write(node, offset, data)
            if files.stat(node).size != entry.size:
                content.truncate(node, entry.size)
            self._dress(node, entry)
            content.commit(node)
        finally:
            files.settle()

    def _dress(self, node: Node, entry: Entry) -> None:
        files = self._files
        uid, gid, mode = self._owner(entry)
        if (node.uid, node.gid) != (uid, gid):
            files.setattr(node, Attrs(uid=uid, gid=gid))
        if stat.S_IMODE(node.mode) != mode and not stat.S_ISLNK(node.mode):
            files.setattr(node, Attrs(mode=mode))
        kept = {name: value for name, value in entry.xattrs.items() if name.startswith(XATTRS)}
        for name in sorted((node.xattrs or {}).keys() - kept.keys()):
            files.removexattr(node, name)
        for name, value in kept.items():
            files.setxattr(node, name, value)
        if entry.mtime is not None:
            files.setattr(node, Attrs(mtime=entry.mtime))

    def _owner(self, entry: Entry) -> tuple[int, int, int]:
        """Return the owner and the permissions that `entry` gets: only root can give files away."""
        mode = stat.S_IMODE(entry.mode)
        if self._uid == 0 or (entry.uid, entry.gid) == (self._uid, self._gid):
            return entry.uid, entry.gid, mode
        return self._uid, self._gid, mode & ~_SET_ID

    def _find(self, path: list[bytes]) -> Node | None:
        """Return what is at `path`, if anything."""
        node: Node | None = self._files.directory(ROOT_INO)
        start, ino = self._last
        if path[: len(start)] == start:
            node, path = self._files.directory(ino), path[len(start) :]
        for name in path:
            if not isinstance(node, Directory):
                return None
            node = self._files.lookup(node.ino, name)
        return node

    def _directory(self, path: list[bytes]) -> int:
        """Return the number of the directory at `path`, and begin there the next time."""
        if self._last[0] != path:
            node = self._find(path)
            assert isinstance(node, Directory)
            self._last = (path, node.ino)
        return self._last[1]
