"""Making and opening stores."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from kvfs import config as store_config
from kvfs.disk import Disk
from kvfs.errors import (
    ConfigError,
    CorruptionError,
    KvfsError,
    NotAStoreError,
    StoreExistsError,
    in_words,
)
from kvfs.store.core import Core
from kvfs.store.directories import initialise, is_blank, make_directory
from kvfs.store.keeping import DEFAULT
from kvfs.store.kv import Store
from kvfs.store.lock import Lock
from kvfs.store.moment import Moment, moment_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from kvfs.config import Config
    from kvfs.store.keeping import Policy

_WAIT = 10.0  # seconds for another process to make the same store


def init(
    path: str | os.PathLike[str],
    *,
    format: str = "binary",  # noqa: A002 - the word users know it by
    max_segment_size: int = store_config.DEFAULT_SEGMENT_SIZE,
    keep_history: str = store_config.DEFAULT_HISTORY,
    disk: Disk | None = None,
) -> Config:
    """Make a store in a new or empty directory, which is for its owner alone from now on.

    `keep_history` is how much of its past is kept: see `Retention.parse`. Raises `StoreExistsError` if there is something already, `ConfigError` for
    a format or a size that cannot be.
    """
    disk = disk or Disk()
    location = _location(path)
    config = store_config.make(format, max_segment_size, time.time_ns(), keep_history)
    try:
        _refuse_occupied(disk, location)
        make_directory(disk, location, inside=False)
        lock = Lock(disk, location)
        lock.take(None, _WAIT)
        try:
            # Again, now that nobody else can make one.
            _refuse_occupied(disk, location)
            initialise(disk, location, config)
        finally:
            lock.release()
    except OSError as error:
        raise _of_store(location, error) from error
    return config


def open_store(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - the word users know it by
    max_segment_size: int | None = None,
    read_only: bool = False,
    create: bool = True,
    mountpoint: str | None = None,
    wait: float = 0,
    at: int | str | datetime | Moment | None = None,
    checkpoint_every: int | None = None,
    keep_history: str | None = None,
    compact: Policy = DEFAULT,
    disk: Disk | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Store:
    """Open the store at `path`; with `create`, make it if there is none.

    `format` ("binary" or "text") and `max_segment_size` (bytes) are for a new
    store; an existing one has its own. A store is locked by its one writer
    until it is closed; `read_only` needs no lock and sees what is logged at
    this moment. `wait` (seconds) is how long to wait for the lock, `mountpoint`
    what to tell others about its holder. With `at`, the store is open for reading
    as it was at that moment of its past: see `moment_of`. A checkpoint is made
    after `checkpoint_every` records, or, without, where it is worth its cost. `keep_history`
    is how much of its past the store keeps from now on; `compact` is when segments are
    compacted. `progress` is called now and then with how many bytes of the log
    have been replayed, of how many.

    Raises `NotAStoreError`, `ConfigError`, `StoreLockedError`,
    `CorruptionError`.
    """
    disk = disk or Disk()
    location = _location(path)
    read_only = read_only or at is not None
    try:
        blank = create and not read_only and is_blank(disk, location)
    except OSError as error:
        raise _of_store(location, error) from error
    if blank:
        # Somebody else may be faster; then theirs is opened.
        with suppress(StoreExistsError):
            init(
                location,
                format="binary" if format is None else format,
                max_segment_size=store_config.DEFAULT_SEGMENT_SIZE
                if max_segment_size is None
                else max_segment_size,
                disk=disk,
            )
    config = read_config(location, disk)
    moment = None if at is None else _moment(at, config, disk, location)
    try:
        core = Core(
            disk,
            location,
            config,
            writable=not read_only,
            checkpoint_every=checkpoint_every,
            moment=moment,
            progress=progress,
        )
        core.open(mountpoint, wait, keep_history)
    except CorruptionError as error:
        message = f"{error}; nothing was changed; to see all that is wrong: kvfs check {location}"
        raise CorruptionError(message) from None
    except OSError as error:
        raise _of_store(location, error) from error
    return Store(core, compact)


def _moment(when: int | str | datetime | Moment, config: Config, disk: Disk, path: str) -> Moment:
    moment = moment_of(when, disk, path)
    if moment.time is not None and not config.codec().keeps_time:
        raise ConfigError("a text log has no times; say a sequence number instead")
    return moment


def read_config(path: str, disk: Disk) -> Config:
    """Return the configuration of the store at `path`.

    Raises `NotAStoreError` or `ConfigError`.
    """
    try:
        names = disk.list(path)
    except FileNotFoundError:
        message = f"there is no store at {path}; make one with: kvfs init {path}"
        raise NotAStoreError(message) from None
    except NotADirectoryError:
        message = f"{path} is a file, not a kvfs store"
        raise NotAStoreError(message) from None
    except OSError as error:
        raise _of_store(path, error) from error
    store_config.find(path, names)
    file = store_config.config_path(path)
    try:
        return store_config.load(disk.read_file(file), file)
    except OSError as error:
        raise _of_store(file, error) from error


def _location(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a store. Raises `ConfigError` for an empty one."""
    if not os.fspath(path):
        raise ConfigError("the path of a store cannot be empty")
    return os.path.abspath(os.fspath(path))


def _of_store(path: str, error: OSError) -> KvfsError:
    """Return `error` as one of kvfs that says where it happened."""
    if isinstance(error, KvfsError):
        return error
    hint = "; make the directory above it first" if isinstance(error, FileNotFoundError) else ""
    return KvfsError(in_words(error, path) + hint, error.errno)


def _refuse_occupied(disk: Disk, path: str) -> None:
    if not is_blank(disk, path):
        message = f"{path} {_occupant(disk, path)}"
        raise StoreExistsError(message)


def _occupant(disk: Disk, path: str) -> str:
    try:
        names = disk.list(path)
    except NotADirectoryError:
        return "is a file"
    if store_config.FILE in names:
        return "is a kvfs store already"
    if "segments" in names:
        return f"holds a kvfs store that has lost its {store_config.FILE}"
    return "is not empty"
