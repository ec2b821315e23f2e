"""Snapshots: names for moments of a store.

Each is a small file in `snapshots/`, with how many records come before it and
when it was taken. Whoever has the store may take one, beside its writer too.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kvfs.disk import Disk
from kvfs.errors import ConfigError, KvfsError
from kvfs.recovery import LogPaths
from kvfs.segment import name_of, numbers_of
from kvfs.store.directories import make_directory
from kvfs.store.moment import NAME, SNAPSHOTS, is_moment, read_snapshot, read_snapshots
from kvfs.store.opening import open_store, read_config
from kvfs.store.readers import held

if TYPE_CHECKING:
    from kvfs.store.kv import Store


class Snapshot(NamedTuple):
    """A name, how many records come before it, and when it was taken (ns since 1970)."""

    name: str
    records: int
    time: int


def create(path: str, name: str, disk: Disk | None = None) -> Snapshot:
    """Let `name` stand for the store at `path` as it is now, on stable storage on return.

    Raises `ConfigError` for a name that cannot be, `KvfsError` EEXIST if there is
    one of that name, or what opening the store says.
    """
    disk = disk or Disk()
    _check_name(name)
    with open_store(path, read_only=True, create=False, disk=disk) as store:
        made = Snapshot(name, store.position, time.time_ns())
        _refuse_taken(disk, store.path, name)
        _sync(disk, store)
        keep(disk, store.path, made)
    return made


def take(store: Store, name: str, disk: Disk | None = None) -> Snapshot:
    """Do as `create` does for a store that is open for writing, in any thread."""
    disk = disk or Disk()
    _check_name(name)
    _refuse_taken(disk, store.path, name)
    with held(disk, store.path):  # so that nothing goes that the name is to keep
        with store.lock:
            made = Snapshot(name, store.position, time.time_ns())
        store.sync_log()
        keep(disk, store.path, made)
    return made


def look_up(path: str, name: str, disk: Disk | None = None) -> Snapshot | None:
    """Return the snapshot `name` of the store at `path`, if there is one.

    Raises `CorruptionError` for what is none.
    """
    if not _is_name(name):
        return None
    with suppress(FileNotFoundError):
        return Snapshot(name, *read_snapshot(disk or Disk(), path, name))
    return None


def keep(disk: Disk, path: str, snapshot: Snapshot) -> None:
    """Write `snapshot` into the store at `path`."""
    directory = os.path.join(path, SNAPSHOTS)
    make_directory(disk, directory)
    content = b"%d %d\n" % (snapshot.records, snapshot.time)
    disk.write_file(os.path.join(directory, snapshot.name), content)


def list_all(path: str, disk: Disk | None = None) -> list[Snapshot]:
    """Return the snapshots of the store at `path`, the oldest first. Raises as `read_config` does."""
    disk = disk or Disk()
    path = os.path.abspath(path)
    read_config(path, disk)
    found = (Snapshot(*each) for each in read_snapshots(disk, path))
    return sorted(found, key=lambda snapshot: (snapshot.records, snapshot.time, snapshot.name))


def delete(path: str, name: str, disk: Disk | None = None) -> None:
    """Forget the snapshot `name`. Raises `KvfsError` ENOENT if there is none."""
    disk = disk or Disk()
    path = os.path.abspath(path)
    read_config(path, disk)
    directory = os.path.join(path, SNAPSHOTS)
    try:
        if not NAME.fullmatch(name):
            raise FileNotFoundError
        disk.unlink(os.path.join(directory, name))
    except FileNotFoundError:
        message = f"there is no snapshot {name!r}"
        raise KvfsError(message, errno.ENOENT) from None
    disk.sync_directory(directory)


def _is_name(name: str) -> bool:
    return bool(NAME.fullmatch(name)) and not name.endswith(".tmp")


def _check_name(name: str) -> None:
    if not _is_name(name) or is_moment(name):
        message = (
            f"{name!r} can name no snapshot: up to 200 letters, digits and any of _ . : + -,"
            " and neither a number nor a time"
        )
        raise ConfigError(message)


def _refuse_taken(disk: Disk, path: str, name: str) -> None:
    with suppress(FileNotFoundError):
        if name in disk.list(os.path.join(path, SNAPSHOTS)):
            message = f"there is a snapshot {name!r} already; delete it or choose another name"
            raise KvfsError(message, errno.EEXIST)


def _sync(disk: Disk, store: Store) -> None:
    """Bring the log as it is to stable storage: its last segment, the others are."""
    segments = LogPaths.of(store.path).segments
    last = max(numbers_of(disk.list(segments)), default=0)
    if last:
        fd = disk.open(os.path.join(segments, name_of(last)), os.O_RDONLY)
        try:
            disk.sync(fd)
        finally:
            disk.close(fd)
        disk.sync_directory(segments)
