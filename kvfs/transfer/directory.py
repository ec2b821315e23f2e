"""Entries into a directory of the system: a new one, or a mount of the store.

Everything is done relative to open directories: paths may be longer than the
kernel takes, and no symbolic link is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvfs.transfer.copying import ATTRIBUTES
from kvfs.transfer.entries import XATTRS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.transfer.entries import Entry

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_NOT_TAKEN = (errno.ENOTSUP, errno.EPERM, errno.ENOSPC, errno.E2BIG)
_SET_ID = stat.S_ISUID | stat.S_ISGID


class Below:
    """Directories below an open one, by the names on the way; the last used is kept open."""

    def __init__(self, root: int) -> None:
        """Look below the open directory `root`."""
        self._root = root
        self._names: list[bytes] = []
        self._fd = os.dup(root)

    def close(self) -> None:
        """Close what is open."""
        os.close(self._fd)

    def forget(self) -> None:
        """Begin at the root again, since a directory has gone."""
        self._step(os.dup(self._root), [])

    def open(self, names: list[bytes]) -> int:
        """Return the directory at `names`, open until the next call.

        Raises what the system says, such as `NotADirectoryError`.
        """
        if names[: len(self._names)] != self._names:
            self.forget()
        for name in names[len(self._names) :]:
            self._step(os.open(name, FOLDER, dir_fd=self._fd), [*self._names, name])
        return self._fd

    def _step(self, fd: int, names: list[bytes]) -> None:
        os.close(self._fd)
        self._fd, self._names = fd, names

    def stat(self, names: list[bytes]) -> os.stat_result:
        """Return the attributes of what is at `names`. Raises what the system says."""
        if not names:
            return os.fstat(self._root)
        return os.stat(names[-1], dir_fd=self.open(names[:-1]), follow_symlinks=False)


def handle(directory: int, name: bytes) -> bytes:
    """Return a path of `name` in the open `directory`, for calls that take only such."""
    return b"/proc/self/fd/%d/%s" % (directory, name)


class DirectoryTarget:
    """A directory that is open."""

    def __init__(self, root: int) -> None:
        """Bring entries below the open directory `root`; `close` ends it."""
        self._root = root
        self._below = Below(root)
        self.lost: Counter[str] = Counter()
        self._uid, self._gid = os.geteuid(), os.getegid()

    def close(self) -> None:
        """Close what is open."""
        self._below.close()

    def kind(self, path: list[bytes]) -> int | None:
        """Return the S_IF type of what is at `path`."""
        try:
            return stat.S_IFMT(self._below.stat(path).st_mode)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise

    def is_empty(self, path: list[bytes]) -> bool:
        """Tell whether the directory at `path` is empty."""
        with os.scandir(self._below.open(path)) as found:
            return next(found, None) is None

    def remove(self, path: list[bytes]) -> None:
        """Remove what is at `path`."""
        directory = stat.S_ISDIR(self._below.stat(path).st_mode)
        self._below.forget()
        above = self._below.open(path[:-1])
        (os.rmdir if directory else os.unlink)(path[-1], dir_fd=above)

    def mkdir(self, path: list[bytes]) -> None:
        """Make a directory."""
        os.mkdir(path[-1], 0o755, dir_fd=self._below.open(path[:-1]))

    def make(self, path: list[bytes], entry: Entry) -> None:
        """Make what `entry` is; a file that is there is cut and written anew."""
        above, name = self._below.open(path[:-1]), path[-1]
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFREG:
            self._write(above, name, entry)
            return
        if kind == stat.S_IFLNK:
            os.symlink(entry.target, name, dir_fd=above)
        else:
            os.mknod(name, kind | 0o600, entry.rdev, dir_fd=above)
        self._dress(handle(above, name), entry)

    def link(self, old: list[bytes], new: list[bytes]) -> None:
        """Give what is at `old` another name."""
        source = os.dup(self._below.open(old[:-1]))
        try:
            above = self._below.open(new[:-1])
            os.link(old[-1], new[-1], src_dir_fd=source, dst_dir_fd=above, follow_symlinks=False)
        finally:
            os.close(source)

    def dress(self, path: list[bytes], entry: Entry) -> None:
        """Give the directory at `path` what `entry` has."""
        self._dress(handle(self._below.open(path), b"."), entry)

    def _write(self, above: int, name: bytes, entry: Entry) -> None:
        with _opened(above, name) as fd:
            os.ftruncate(fd, 0)
            for offset, data in entry.pieces():
                view, done = memoryview(data), 0
                while done < len(data):
                    done += os.pwrite(fd, view[done:], offset + done)
            if os.fstat(fd).st_size != entry.size:
                os.ftruncate(fd, entry.size)
            self._dress(b"/proc/self/fd/%d" % fd, entry, follow=True)

    def _dress(self, path: bytes, entry: Entry, *, follow: bool = False) -> None:
        """Give what is at `path` an owner, permissions, attributes and a time, in this order."""
        there = os.stat(path, follow_symlinks=follow)
        mode = stat.S_IMODE(entry.mode)
        if self._uid == 0:
            if (there.st_uid, there.st_gid) != (entry.uid, entry.gid):
                os.chown(path, entry.uid, entry.gid, follow_symlinks=follow)
        elif (there.st_uid, there.st_gid) != (entry.uid, entry.gid):
            mode &= ~_SET_ID
        if not stat.S_ISLNK(entry.mode):
            os.chmod(path, mode)
        self._set_xattrs(path, entry, follow=follow)
        if entry.mtime is not None:
            times = (there.st_atime_ns, entry.mtime)
            os.utime(path, ns=times, follow_symlinks=follow)

    def _set_xattrs(self, path: bytes, entry: Entry, *, follow: bool) -> None:
        kept = {name: value for name, value in entry.xattrs.items() if name.startswith(XATTRS)}
        for name in map(os.fsencode, _listxattr(path, follow=follow)):
            if name.startswith(XATTRS) and name not in kept:
                os.removexattr(path, name, follow_symlinks=follow)
        for name, value in kept.items():
            try:
                os.setxattr(path, name, value, follow_symlinks=follow)
            except OSError as error:
                if error.errno not in _NOT_TAKEN:
                    raise
                self.lost[ATTRIBUTES] += 1


@contextmanager
def _opened(above: int, name: bytes) -> Iterator[int]:
    """Open a file for writing; one with several names is replaced, so that the others stay."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(name, flags, 0o600, dir_fd=above)
    try:
        if os.fstat(fd).st_nlink > 1:
            os.close(fd)
            fd = -1
            os.unlink(name, dir_fd=above)
            fd = os.open(name, flags | os.O_EXCL, 0o600, dir_fd=above)
        yield fd
    finally:
        if fd >= 0:
            os.close(fd)


def _listxattr(path: bytes, *, follow: bool) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def read_xattrs(path: bytes) -> dict[bytes, bytes]:
    """Return the extended attributes of what is at `path` that a store can hold."""
    found = {}
    for text in _listxattr(path, follow=False):
        name = os.fsencode(text)
        if name.startswith(XATTRS):
            found[name] = os.getxattr(path, name, follow_symlinks=False)
    return found
