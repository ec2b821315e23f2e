"""The only place that calls `os.*` on the files of a store.

Tests put a faulty disk in its place. Nothing here reads or writes through a
symbolic link, and a short write goes on until the operating system names an
error.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_SYNC_FILE_RANGE_WRITE = 2
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_FILE_FLAGS = _FLAGS | os.O_NONBLOCK  # a FIFO would let us wait for its other end


@cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


class Disk:
    """File operations, each a thin call of the operating system's.

    All raise `OSError` as `os` does.
    """

    def open(self, path: str, flags: int, *, directory: int | None = None) -> int:
        """Open the regular file `path`, without waiting; one that is made has mode 0600.

        With `directory`, an open directory, the file is the one in it that has
        the last name of `path`, wherever that directory is by now. What root
        makes in the directory of another user is that user's. Raises `OSError`
        with EINVAL for anything but a regular file.
        """
        try:
            fd = os.open(_name(path, directory), flags | _FILE_FLAGS, 0o600, dir_fd=directory)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a FIFO that nobody reads, or a socket
                raise _irregular(path) from None
            error.filename = path
            raise
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise _irregular(path)
            if flags & os.O_CREAT and os.geteuid() == 0:
                owner = os.stat(os.path.dirname(path))
                if owner.st_uid != found.st_uid:
                    os.fchown(fd, owner.st_uid, owner.st_gid)
        except OSError:
            os.close(fd)
            raise
        return fd

    def open_directory(self, path: str) -> int:
        """Open the directory `path`, to look into it even where it gets another path."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)

    def open_scratch(self, directory: str) -> int:
        """Open a new nameless file in `directory`, gone when it is closed."""
        try:
            return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            import tempfile

            fd, path = tempfile.mkstemp(dir=directory)
            os.unlink(path)
            return fd

    def close(self, fd: int) -> None:
        """Close `fd`."""
        os.close(fd)

    def size(self, fd: int) -> int:
        """Return the size of the file in bytes."""
        return os.fstat(fd).st_size

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Return `size` bytes at `offset`, fewer only at the end of the file."""
        data = os.pread(fd, size, offset)
        if len(data) == size or not data:
            return data
        parts = [data]
        done = len(data)
        while done < size and (data := os.pread(fd, size - done, offset + done)):
            parts.append(data)
            done += len(data)
        return b"".join(parts)

    def write(self, fd: int, data: bytes | bytearray, offset: int) -> None:
        """Write all of `data` at `offset`."""
        written = os.pwrite(fd, data, offset)
        if written < len(data):
            view = memoryview(data)
            while written < len(data):
                written += os.pwrite(fd, view[written:], offset + written)

    def write_parts(
        self, fd: int, parts: Sequence[bytes | bytearray | memoryview], offset: int
    ) -> None:
        """Write all of `parts`, up to 1,024 of them, one after the other at `offset`."""
        written = os.pwritev(fd, parts, offset)
        if written < sum(map(len, parts)):
            self.write(fd, b"".join(parts)[written:], offset + written)

    def start_sync(self, fd: int, offset: int, length: int) -> None:
        """Let the disk begin with `length` bytes at `offset`; promises nothing."""
        import ctypes

        _libc().sync_file_range(
            fd, ctypes.c_longlong(offset), ctypes.c_longlong(length), _SYNC_FILE_RANGE_WRITE
        )

    def truncate(self, fd: int, size: int) -> None:
        """Cut or extend the file to `size` bytes."""
        os.ftruncate(fd, size)

    def allocate(self, fd: int, size: int) -> None:
        """Let the file take `size` bytes of the disk, whatever is in it."""
        os.posix_fallocate(fd, 0, size)

    def sync(self, fd: int) -> None:
        """Return once the data of the file, and its size, are on stable storage."""
        os.fdatasync(fd)

    def sync_directory(self, path: str) -> None:
        """Return once the names in the directory are on stable storage."""
        # The directory of a store, and that above it, may be named by a link.
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_all(self) -> None:
        """Return once all that this machine has written is on stable storage."""
        os.sync()

    def rename(self, old: str, new: str) -> None:
        """Give the file `old` the name `new`, replacing what had it."""
        os.rename(old, new)

    def link(self, old: str, new: str) -> None:
        """Give the file `old` the name `new` as well, which is free."""
        os.link(old, new, follow_symlinks=False)

    def exchange(self, first: str, second: str) -> None:
        """Let the two paths change places, in one step."""
        paths = os.fsencode(first), os.fsencode(second)
        if _libc().renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE):
            import ctypes

            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), first)

    def unlink(self, path: str) -> None:
        """Remove the file `path`."""
        os.unlink(path)

    def mkdir(self, path: str, *, inside: bool = True) -> None:
        """Make a directory of mode 0700; one that root makes `inside` a store is its owner's."""
        os.mkdir(path, 0o700)
        if inside and os.geteuid() == 0:
            owner = os.stat(os.path.dirname(path))
            os.chown(path, owner.st_uid, owner.st_gid)

    def make_private(self, path: str) -> None:
        """Let only the owner into the directory `path`."""
        os.chmod(path, 0o700)

    def rmdir(self, path: str) -> None:
        """Remove the empty directory `path`."""
        os.rmdir(path)

    def list(self, path: str | int) -> list[str]:
        """Return the names in the directory, which is named or open."""
        return os.listdir(path)

    def stat(self, path: str, *, directory: int | None = None) -> os.stat_result:
        """Return the attributes of `path` itself, found as `open` does."""
        return os.lstat(_name(path, directory), dir_fd=directory)

    def statvfs(self, path: str) -> os.statvfs_result:
        """Return the figures of the file system that holds `path`."""
        return os.statvfs(path)

    def lock(self, fd: int) -> bool:
        """Try to take the lock of the open file; it goes with the process."""
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def lock_shared(self, fd: int) -> None:
        """Take the lock of the open file together with others, waiting for who has it alone."""
        fcntl.flock(fd, fcntl.LOCK_SH)

    def read_part(
        self, path: str, size: int, offset: int, *, directory: int | None = None
    ) -> bytes:
        """Return `size` bytes at `offset` of `path`, found as `open` does, fewer at its end."""
        fd = self.open(path, os.O_RDONLY, directory=directory)
        try:
            return self.read(fd, size, offset)
        finally:
            self.close(fd)

    def read_file(self, path: str, *, directory: int | None = None) -> bytes:
        """Return the whole content of `path`, found as `open` does."""
        fd = self.open(path, os.O_RDONLY, directory=directory)
        try:
            return self.read(fd, self.size(fd), 0)
        finally:
            self.close(fd)

    def write_file(self, path: str, data: bytes) -> None:
        """Replace the content of `path` so that a crash leaves the old or the new."""
        temporary = f"{path}.tmp"
        fd = self.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            self.write(fd, data, 0)
            self.sync(fd)
        except OSError:
            with suppress(OSError):
                self.unlink(temporary)
            raise
        finally:
            self.close(fd)
        self.rename(temporary, path)
        self.sync_directory(os.path.dirname(path))


def _name(path: str, directory: int | None) -> str:
    return path if directory is None else os.path.basename(path)


def _irregular(path: str) -> OSError:
    return OSError(errno.EINVAL, "this is not a regular file", path)
