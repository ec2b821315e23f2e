"""The key-value interface: `Store`."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from kvfs import config as store_config
from kvfs import keys
from kvfs.disk import Disk
from kvfs.errors import (
    ConfigError,
    CorruptionError,
    KvfsError,
    NotAStoreError,
    StoreExistsError,
    in_words,
    not_a_value,
)
from kvfs.records import Delete, Rename
from kvfs.store.background import Background
from kvfs.store.content import Content
from kvfs.store.core import Core, initialise, is_blank, make_directory
from kvfs.store.files import Files
from kvfs.store.lock import Lock
from kvfs.store.moment import Moment, moment_of
from kvfs.table import File, Node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime

    from kvfs.config import Config


_WAIT = 10.0  # seconds for another process to make the same store


def _bytes(text: bytes | str) -> bytes:
    """Return `text` as bytes. Raises `TypeError` for what is neither text nor bytes."""
    if type(text) is bytes:
        return text
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes | bytearray | memoryview):
        return bytes(text)
    message = f"a key or a value is bytes or str, not {type(text).__name__}"
    raise TypeError(message)


class Store:
    """A key-value store in a directory; made by `kvfs.open`.

    Keys and values are bytes; `str` means UTF-8. Safe to use from several
    threads. What `put` and `delete` return from survives the death of the
    process; `sync` makes it survive a power cut.
    """

    def __init__(self, core: Core) -> None:
        """Wrap an open core; use `kvfs.open`."""
        self._core = core
        self._content = Content(core)
        self.files = Files(core, self._content)
        """The file interface, for the mount."""
        self._background: Background | None = None

    # -- keys and values -------------------------------------------------------

    def put(self, key: bytes | str, value: bytes | str) -> None:
        """Set the value of `key`.

        Raises `KeyTooLongError`, `NotAValueError`, `RecordTooLargeError`,
        `NoSpaceError`; then nothing has changed.
        """
        key, value = keys.check(_bytes(key)), _bytes(value)
        core = self._core
        with core.lock:
            core.check(write=True)
            table = core.table
            ino = table.number_of(key)
            if ino is None:
                core.put(key, value, core.now(), new=True)
            elif (changed := table.nodes.ctime_of(ino)) is not None:
                core.put(key, value, max(core.now(), changed), new=False)
            else:
                self._replace(key, table.nodes[ino], value)
                self.files.settle()

    def _replace(self, key: bytes, node: Node, value: bytes) -> None:
        """Set the value of a file that somebody may use."""
        if not isinstance(node, File):
            raise not_a_value(key)
        self._content.replace(node, value)

    def get(self, key: bytes | str) -> bytes | None:
        """Return the value of `key`, or None if it has none.

        Raises `CorruptionError` if its stored bytes do not verify.
        """
        key = _bytes(key)
        core = self._core
        with core.lock:
            core.check()
            ino = core.table.number_of(key)
            if ino is None:
                return None
            nodes = core.table.nodes
            value = nodes.value_of(ino)
            if value is not None:
                return value
            place = nodes.place_of(ino)
            if place is not None:
                value = core.value_at(*place)
                nodes.keep_value(ino, value)
                return value
            node = nodes[ino]
            return self._content.value(node) if isinstance(node, File) else None

    def chunks(self, key: bytes | str, size: int = 1024 * 1024) -> Iterator[bytes] | None:
        """Return the value of `key` in pieces of up to `size` bytes, or None if it has none.

        For values that are too large to hold; a piece is as it is when it is
        reached.
        """
        key = _bytes(key)
        with self._core.lock:
            self._core.check()
            ino = self._core.table.number_of(key)
            node = None if ino is None else self._core.table.nodes.look(ino)
        return self._pieces(node, size) if isinstance(node, File) else None

    def _pieces(self, node: File, size: int) -> Iterator[bytes]:
        offset = 0
        while True:
            with self._core.lock:
                self._core.check()
                piece = self._content.read(node, offset, size)
            if not piece:
                return
            yield piece
            offset += len(piece)

    def delete(self, key: bytes | str) -> bool:
        """Remove `key` and tell whether it was there; if not, nothing is logged."""
        key = _bytes(key)
        with self._core.lock:
            self._core.check(write=True)
            node = self._core.table.find(key)
            if not isinstance(node, File):
                return False
            self.files.remove(node, Delete(key, time=self._core.now()))
            self.files.settle()
            return True

    def rename(self, old: bytes | str, new: bytes | str) -> bool:
        """Move the value of `old` to the key `new`, in one record; False if there is none.

        A value that `new` had is replaced.
        """
        old, new = _bytes(old), keys.check(_bytes(new))
        core = self._core
        with core.lock:
            core.check(write=True)
            node, target = core.table.find(old), core.table.find(new)
            if not isinstance(node, File):
                return False
            if target is not None and not isinstance(target, File):
                raise not_a_value(new)
            if old != new:
                self._content.commit(node)
                if target is not None:
                    self._content.before_unlink(target)
                core.move(Rename(old, new, time=core.now()))
                self.files.drain()
            self.files.settle()
            return True

    def keys(self, prefix: bytes | str = b"") -> list[bytes]:
        """Return the keys that start with `prefix` and have a value, sorted."""
        prefix = _bytes(prefix)
        with self._core.lock:
            self._core.check()
            return sorted(key for key in self._core.table.valued() if key.startswith(prefix))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every key with its value, sorted by key.

        Values are read as they are reached: a key that is deleted meanwhile is
        left out.
        """
        for key in self.keys():
            value = self.get(key)
            if value is not None:
                yield key, value

    def __contains__(self, key: bytes | str) -> bool:
        """Tell whether `key` has a value."""
        with self._core.lock:
            self._core.check()
            return isinstance(self._core.table.find(_bytes(key)), File)

    def __len__(self) -> int:
        """Return the number of keys that have a value."""
        with self._core.lock:
            self._core.check()
            return self._core.table.values

    def __iter__(self) -> Iterator[bytes]:
        """Yield the keys, sorted."""
        return iter(self.keys())

    # -- the store itself --------------------------------------------------------

    @property
    def path(self) -> str:
        """The directory of the store."""
        return self._core.path

    @property
    def config(self) -> Config:
        """What the store is: its format, segment size and id."""
        return self._core.config

    @property
    def lock(self) -> AbstractContextManager[object]:
        """What keeps the threads apart that use the store; for those who use `files`."""
        return self._core.lock

    def sync(self) -> None:
        """Return once everything put or deleted so far survives a power cut.

        Raises `StoreFailedError` if the disk could not promise it.
        """
        with self._core.lock:
            self._core.check(write=True)
            self._content.commit_all()
        self._core.log.sync()

    @property
    def position(self) -> int:
        """How many records the log has."""
        return self._core.log.sequence

    @property
    def checkpointed(self) -> int:
        """How many records of the log come before the checkpoint that the store was opened from."""
        return self._core.checkpointed

    @property
    def lost(self) -> int:
        """How many bytes the log is shorter than it was when it was last closed."""
        return self._core.log.lost

    @property
    def synced(self) -> int:
        """How many records of the log survive a power cut."""
        return self._core.log.synced

    def sync_log(self) -> None:
        """Bring what is logged to stable storage; may run in another thread."""
        self._core.log.sync()

    def check_healthy(self) -> None:
        """Raise `StoreFailedError` if the store takes no more writes after a failure."""
        self._core.log.check_writable()

    def maintain(self) -> None:
        """Begin with what is due in the background; for who keeps the store open, every second."""
        if self._core.writable:
            self._background = self._background or Background(self._core)
            self._background.tick()

    def note_mounted(self) -> None:
        """Tell others, in the lock file, that the mount that holds the store is there."""
        self._core.note_mounted()

    def close(self) -> None:
        """Sync and close; nothing if closed already."""
        with self._core.lock:
            if self._core.closed:
                return
            try:
                if self._background:
                    self._background.stop()
                if self._core.writable:
                    self._content.commit_all()
                    self.files.access_times.commit()
            finally:
                self._content.close()
                self._core.close()

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()


def init(
    path: str | os.PathLike[str],
    *,
    format: str = "binary",  # noqa: A002 - the word users know it by
    max_segment_size: int = store_config.DEFAULT_SEGMENT_SIZE,
    disk: Disk | None = None,
) -> Config:
    """Make a store in a new or empty directory, which is for its owner alone from now on.

    Raises `StoreExistsError` if there is something already, `ConfigError` for
    a format or a size that cannot be.
    """
    disk = disk or Disk()
    location = _location(path)
    config = store_config.make(format, max_segment_size, time.time_ns())
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
    at: int | str | datetime | None = None,
    checkpoint_every: int | None = None,
    disk: Disk | None = None,
) -> Store:
    """Open the store at `path`; with `create`, make it if there is none.

    `format` ("binary" or "text") and `max_segment_size` (bytes) are for a new
    store; an existing one has its own. A store is locked by its one writer
    until it is closed; `read_only` needs no lock and sees what is logged at
    this moment. `wait` (seconds) is how long to wait for the lock, `mountpoint`
    what to tell others about its holder. With `at`, the store is open for reading
    as it was at that moment of its past: see `moment_of`. A checkpoint is made
    after `checkpoint_every` records, or, without, where it is worth its cost.

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
        )
        core.open(mountpoint, wait)
    except CorruptionError as error:
        message = f"{error}; nothing was changed; to see all that is wrong: kvfs check {location}"
        raise CorruptionError(message) from None
    except OSError as error:
        raise _of_store(location, error) from error
    return Store(core)


def _moment(when: int | str | datetime, config: Config, disk: Disk, path: str) -> Moment:
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
