"""A store as the command line reaches it, mounted or not.

Reading verbs read the log, which needs no lock. Writing verbs write it too,
but where the store is mounted they go through the mount, since a store has
one writer.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from kvfs import keys
from kvfs.cli.progress import percent
from kvfs.disk import Disk
from kvfs.errors import ConflictError, KvfsError, not_a_value
from kvfs.log import check_length
from kvfs.records import Put
from kvfs.store import holder_of, open_store
from kvfs.store.kv import ANY
from kvfs.store.opening import read_config
from kvfs.store.reserved import TTL, VERSION, expiry_after, other_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs import mounts
    from kvfs.config import Config
    from kvfs.store import Store
    from kvfs.store.kv import Look

_NOT_HERE = (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EPERM, errno.ENXIO)
_BEGUN, _COMMIT = b".kvfs/tx", b".kvfs/commit"
WAIT = 10.0  # seconds for another short command to finish


class Writer(Protocol):
    """What the writing verbs need."""

    def put(
        self, key: bytes, value: bytes, *, if_version: str | None = ANY, ttl: str | None = None
    ) -> None:
        """Set the value of `key`, which lives for `ttl`, if it has the version."""

    def bring_back(self, key: bytes, value: bytes, look: Look) -> None:
        """Set the value of `key` and what its file has beside that."""

    def delete(self, key: bytes, *, if_version: str | None = ANY) -> bool:
        """Remove `key`, if it has the version, and tell whether it was there."""


class MountedStore:
    """A store behind its mount: keys are written as files."""

    def __init__(self, root: int, config: Config) -> None:
        """Write below the open directory `root` of the mount of a store of `config`."""
        self.root = root
        """The open directory, for those who make more than values."""
        self._config = config

    def put(
        self, key: bytes, value: bytes, *, if_version: str | None = ANY, ttl: str | None = None
    ) -> None:
        """Set the value of `key` at its path, or aside where a directory or file is in the way."""
        if ttl is not None:
            expiry_after(ttl)  # which says what is wrong, if anything
        if if_version is ANY:
            self._put(key, value, None, ttl)
            return
        with self._transaction(key, if_version) as inside:
            inside.put(key, value, ttl=ttl)

    def bring_back(self, key: bytes, value: bytes, look: Look) -> None:
        """Do the same, once the file looks like `look`."""
        self._put(key, value, look, None)

    def _put(self, key: bytes, value: bytes, look: Look | None, ttl: str | None) -> None:
        keys.check(key)
        codec = self._config.codec()
        if not codec.atomic:
            record = Put(key, value)
            check_length(record, len(codec.encode(record)), self._config.max_segment_size)
        names = keys.split(key)
        if names is not None:
            try:
                self._write(names, value, look, ttl)
            except OSError as error:
                if isinstance(error, KvfsError) or error.errno not in _NOT_HERE:
                    raise
            else:
                return
        self._write(keys.aside(key), value, look, ttl)

    def delete(self, key: bytes, *, if_version: str | None = ANY) -> bool:
        """Remove the file of `key`."""
        if if_version is not ANY:
            with self._transaction(key, if_version) as inside:
                return inside.delete(key)
        names = keys.split(key)
        if names is not None and self._unlink(names):
            return True
        return self._unlink(keys.aside(key))

    @contextmanager
    def _transaction(self, key: bytes, version: str | None) -> Iterator[MountedStore]:
        """Do what is done within in a transaction, if `key` has `version`. Raises `ConflictError`."""
        name = b"%s/%d-%s" % (_BEGUN, os.getpid(), os.urandom(8).hex().encode())
        os.mkdir(name, dir_fd=self.root)
        try:
            root = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.root)
            try:
                inside = MountedStore(root, self._config)
                found = inside.version(key)
                if found != version:
                    raise other_version(found, version)
                yield inside
            finally:
                os.close(root)
            os.rename(name, _COMMIT, src_dir_fd=self.root, dst_dir_fd=self.root)
        except BaseException as error:
            with suppress(OSError):
                os.rmdir(name, dir_fd=self.root)
            conflict = isinstance(error, OSError) and error.errno == errno.ECANCELED
            if conflict and not isinstance(error, KvfsError):
                raise ConflictError("another has changed it meanwhile") from None
            raise

    def version(self, key: bytes) -> str | None:
        """Return the version of `key`, None if it has no value."""
        for names in (keys.split(key), keys.aside(key)):
            try:
                with self._parent(names or [], create=False) as directory:
                    path = f"/proc/self/fd/{directory}/{os.fsdecode(names[-1])}"  # type: ignore[index]
                    found = os.getxattr(path, VERSION, follow_symlinks=False)
                return found.decode()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENODATA, *_NOT_HERE):
                    raise
        return None

    def _write(self, names: list[bytes], value: bytes, look: Look | None, ttl: str | None) -> None:
        with self._parent(names, create=True) as directory:
            if _kind(names[-1], directory) not in (None, stat.S_IFREG, stat.S_IFDIR):
                raise not_a_value(b"/".join(names))
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            mode = 0o644 if look is None else 0o600
            fd = os.open(names[-1], flags, mode, dir_fd=directory)
            try:
                # Two who put one key at once must not mix their values.
                fcntl.flock(fd, fcntl.LOCK_EX)
                if look is not None:
                    _dress(fd, look)
                os.ftruncate(fd, 0)
                if ttl is not None:
                    os.setxattr(fd, TTL, ttl.encode())
                view = memoryview(value)
                while view:
                    view = view[os.write(fd, view) :]
            finally:
                os.close(fd)

    def _unlink(self, names: list[bytes]) -> bool:
        try:
            with self._parent(names, create=False) as directory:
                if _kind(names[-1], directory) != stat.S_IFREG:
                    return False
                os.unlink(names[-1], dir_fd=directory)
        except OSError as error:
            if error.errno in (errno.ENOENT, *_NOT_HERE):
                return False
            raise
        return True

    @contextmanager
    def _parent(self, names: list[bytes], *, create: bool) -> Iterator[int]:
        """Open the directory of the last of `names`, following no symbolic link."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        directory = os.dup(self.root)
        try:
            for name in names[:-1]:
                try:
                    below = os.open(name, flags, dir_fd=directory)
                except FileNotFoundError:
                    if not create:
                        raise
                    with suppress(FileExistsError):  # another may just have made it
                        os.mkdir(name, dir_fd=directory)
                    below = os.open(name, flags, dir_fd=directory)
                os.close(directory)
                directory = below
            yield directory
        finally:
            os.close(directory)


def _dress(fd: int, look: Look) -> None:
    """Give the open file an owner, a mode and extended attributes."""
    there = os.fstat(fd)
    if (there.st_uid, there.st_gid) != (look.uid, look.gid):
        os.fchown(fd, look.uid, look.gid)
    os.fchmod(fd, look.mode)
    for known in os.listxattr(fd):
        if os.fsencode(known) not in look.xattrs:
            os.removexattr(fd, known)
    for name, content in look.xattrs.items():
        os.setxattr(fd, name, content)


def _kind(name: bytes, directory: int) -> int | None:
    """Return the S_IF type of `name` in the open `directory`, None if there is none."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None


def _open_root(mount: mounts.Mount) -> int | None:
    """Open the root of `mount`, which holds it there; None if it is gone by now."""
    try:
        root = os.open(mount.mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    if os.fstat(root).st_dev == mount.device:
        return root
    os.close(root)
    return None


def reader(path: str, at: str | None = None) -> Store:
    """Open the store at `path` for reading, beside whoever writes it; as it was `at` a moment."""
    with percent("opening") as step:
        return open_store(path, read_only=True, create=False, at=at, progress=step)


@contextmanager
def writer(path: str) -> Iterator[Writer]:
    """Open the store at `path` for writing, through its mount if it has one.

    Waits a little for another command to finish. Raises `StoreLockedError`.
    """
    from kvfs import mounts

    disk = Disk()
    path = os.path.abspath(path)
    config = read_config(path, disk)
    holder = holder_of(disk, path)
    mount = mounts.find(holder.mountpoint) if holder and holder.mountpoint else None
    root = _open_root(mount) if mount else None
    if root is not None:
        try:
            yield MountedStore(root, config)
        except OSError as error:
            if isinstance(error, KvfsError):
                raise
            message = f"through the mount of {path}: {error.strerror}"
            raise KvfsError(message, error.errno) from error
        finally:
            os.close(root)
        return
    with percent("opening") as step:
        opened = open_store(path, create=False, wait=WAIT, progress=step)
    with opened as store:
        yield store
