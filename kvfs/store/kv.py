"""The key-value interface: `Store`."""

from __future__ import annotations

import errno
import stat
import time
from collections.abc import MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from kvfs import keys
from kvfs.errors import KvfsError, not_a_value
from kvfs.records import Attrs, Delete, Put, Rename
from kvfs.store.batch import Batch
from kvfs.store.opened import Opened
from kvfs.store.reserved import expiry_after
from kvfs.store.views import Items, Key, Keys, Values
from kvfs.table import File, Node
from kvfs.table.lifetimes import EXPIRES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.store.core import Core
    from kvfs.store.keeping import Policy

ANY = "any"
"""Stands for whatever version there is."""
_MANY = 1_000_000


def _bytes(text: object) -> bytes:
    """Return `text` as bytes. Raises `TypeError` for what is neither text nor bytes."""
    if type(text) is bytes:
        return text
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes | bytearray | memoryview):
        return bytes(text)
    message = f"a key or a value is bytes or str, not {type(text).__name__}"
    raise TypeError(message)


class Look(NamedTuple):
    """What a file has beside its value: permission bits, owner, extended attributes."""

    mode: int
    uid: int
    gid: int
    xattrs: dict[bytes, bytes]


class Store(Opened, MutableMapping[Key, bytes]):
    """A key-value store in a directory, and a mapping; made by `kvfs.open`.

    Keys and values are bytes; `str` means UTF-8. Safe to use from several
    threads. What `put` and `delete` return from survives the death of the
    process; `sync` makes it survive a power cut.

    >>> import kvfs, tempfile
    >>> store = kvfs.open(tempfile.mkdtemp() + "/store")
    >>> store["a/b"] = "1"
    >>> store["a/b"], "c" in store, store.get("c"), len(store)
    (b'1', False, None, 1)
    >>> with store.batch():
    ...     store["c"] = "2"
    ...     del store["a/b"]
    >>> dict(store)
    {b'c': b'2'}
    >>> seen = store.version("c")
    >>> store.put("c", "3", if_version=seen)
    >>> store.put("c", "4", if_version=seen)
    Traceback (most recent call last):
        ...
    kvfs.errors.ConflictError: ...
    >>> store.close()
    """

    def __init__(self, core: Core, policy: Policy) -> None:
        """Wrap an open core; use `kvfs.open`."""
        super().__init__(core, policy)
        self._batch: Batch | None = None

    __eq__ = object.__eq__  # two stores are the same if they are one
    __hash__ = object.__hash__

    # -- changing ------------------------------------------------------------------

    def put(
        self,
        key: Key,
        value: bytes | str,
        *,
        if_version: str | None = ANY,
        ttl: float | str | None = None,
    ) -> None:
        """Set the value of `key`.

        With `if_version`, only if that is the version of `key` still, or if it is
        None, if `key` is not there; else `ConflictError` is raised. `ttl` is how long
        the key is to live from now on: seconds, or such as `"90s"` or `"2h"`.

        Raises `KeyTooLongError`, `NotAValueError`, `RecordTooLargeError`,
        `NoSpaceError`; then nothing has changed.
        """
        key, value = keys.check(_bytes(key)), _bytes(value)
        core = self._core
        with core.lock:
            core.check(write=True)
            table = core.table
            if table.expiries.times:
                self._expire()
            if self._batch or if_version is not ANY or ttl is not None:
                self._put_with(key, value, if_version, ttl)
                return
            ino = table.number_of(key)
            if ino is None:
                core.put(key, value, core.now(), new=True)
            elif (changed := table.nodes.ctime_of(ino)) is not None:
                core.put(key, value, core.after(changed), new=False)
            else:
                self._replace(key, table.nodes[ino], value)
                self.files.settle()

    def _put_with(
        self, key: bytes, value: bytes, if_version: str | None, ttl: float | str | None
    ) -> None:
        """Set the value of `key` where that is not all."""
        self._expect(key, if_version)
        if self._batch:
            self._batch.put(key, value, _expiry(ttl))
            return
        with self._one_batch() as batch:
            batch.put(key, value, _expiry(ttl))

    def _replace(self, key: bytes, node: Node, value: bytes) -> None:
        """Set the value of a file that somebody may use."""
        if not isinstance(node, File):
            raise not_a_value(key)
        self._content.replace(node, value)

    def delete(self, key: Key, *, if_version: str | None = ANY) -> bool:
        """Remove `key` and tell whether it was there; if not, nothing is logged.

        `if_version` is as for `put`.
        """
        key = _bytes(key)
        with self._core.lock:
            self._core.check(write=True)
            self._expire()
            self._expect(key, if_version)
            if self._batch:
                return self._batch.delete(key)
            node = self._core.table.find(key)
            if not isinstance(node, File):
                return False
            self.files.remove(node, Delete(key, time=self._core.now()))
            self.files.settle()
            return True

    def rename(self, old: Key, new: Key) -> bool:
        """Move the value of `old` to the key `new`, in one record; False if there is none.

        A value that `new` had is replaced.
        """
        old, new = _bytes(old), keys.check(_bytes(new))
        core = self._core
        with core.lock:
            core.check(write=True)
            self._expire()
            if self._batch:
                value = self.get(old)
                if value is not None:
                    self._batch.rename(old, new, value)
                return value is not None
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

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Let what is put, deleted and renamed within `with` happen all or not at all.

        Also where the process is killed; with an exception, nothing happens. Who
        is in it sees the changes; all others wait. A version is that of before.
        Raises what `put` does, and `KvfsError` EOPNOTSUPP for a text store, whose
        log has no batches, or EBUSY within another batch.
        """
        with self._core.lock:
            self._core.check(write=True)
            if not self._core.log.codec.atomic:
                message = "a text log has no batches"
                raise KvfsError(message, errno.EOPNOTSUPP)
            if self._batch:
                message = (
                    "there is a batch already; a batch within another one would not be its own"
                )
                raise KvfsError(message, errno.EBUSY)
            self._expire()
            with self._one_batch() as batch:
                self._batch = batch
                try:
                    yield
                finally:
                    self._batch = None

    @contextmanager
    def _one_batch(self) -> Iterator[Batch]:
        batch = Batch(self._core, self._content)
        yield batch
        self._core.check(write=True)
        batch.commit()
        self.files.drain()
        self.files.settle()

    def clear(self) -> None:
        """Delete every key."""
        for key in self.keys():
            self.delete(key)

    def bring_back(self, key: bytes | str, value: bytes, look: Look) -> None:
        """Set the value of `key` and what its file has beside that, the latter first.

        So the value is never more public than `look` has it. Raises as `put` does.
        """
        key = keys.check(_bytes(key))
        core, files = self._core, self.files
        with core.lock:
            core.check(write=True)
            self._expire()
            if core.table.find(key) is None:
                attrs = Attrs(mode=look.mode, uid=look.uid, gid=look.gid)
                core.create(Put(key, b"", attrs, core.now()))
            node = core.table.find(key)
            if not isinstance(node, File):
                raise not_a_value(key)
            if (node.uid, node.gid) != (look.uid, look.gid):
                files.setattr(node, Attrs(uid=look.uid, gid=look.gid))
            if stat.S_IMODE(node.mode) != look.mode:
                files.setattr(node, Attrs(mode=look.mode))
            for name in sorted((node.xattrs or {}).keys() - look.xattrs.keys()):
                files.removexattr(node, name)
            for name, content in look.xattrs.items():
                files.setxattr(node, name, content)
            self._replace(key, node, value)
            files.settle()

    # -- looking -------------------------------------------------------------------

    @overload
    def get(self, key: Key) -> bytes | None: ...
    @overload
    def get(self, key: Key, default: bytes) -> bytes: ...
    @overload
    def get(self, key: Key, default: Any) -> Any: ...
    def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of `key`, or `default` if it has none.

        Raises `CorruptionError` if its stored bytes do not verify.
        """
        key = _bytes(key)
        core = self._core
        with core.lock:
            core.check()
            if self._batch and self._batch.changes(key):
                value = self._batch.get(key)
                return default if value is None else value
            table = core.table
            ino = table.number_of(key)
            if ino is None or (table.expiries.times and self._is_over(ino)):
                return default
            nodes = table.nodes
            value = nodes.value_of(ino)
            if value is not None:
                return value
            place = nodes.place_of(ino)
            if place is not None:
                value = core.value_at(*place)
                nodes.keep_value(ino, value)
                return value
            node = nodes[ino]
            return self._content.value(node) if isinstance(node, File) else default

    def chunks(self, key: Key, size: int = 1024 * 1024) -> Iterator[bytes] | None:
        """Return the value of `key` in pieces of up to `size` bytes, or None if it has none.

        For values that are too large to hold; a piece is as it is when it is
        reached.
        """
        key = _bytes(key)
        with self._core.lock:
            self._core.check()
            if self._batch and self._batch.changes(key):
                value = self._batch.get(key)
                return None if value is None else _cut(value, size)
            ino = self._core.table.number_of(key)
            if ino is None or not self._core.table.nodes.is_file(ino) or self._is_over(ino):
                return None
        return self._pieces(ino, size)

    def _pieces(self, ino: int, size: int) -> Iterator[bytes]:
        offset = 0
        while True:
            with self._core.lock:
                self._core.check()
                node = self._core.table.nodes.look(ino)  # what it has may lie elsewhere by now
                piece = self._content.read(node, offset, size) if isinstance(node, File) else b""
            if not piece:
                return
            yield piece
            offset += len(piece)

    def version(self, key: Key) -> str | None:
        """Return what names the state of `key`, another one after each change; None if it has no value."""
        with self._core.lock:
            self._core.check()
            node = self._file(_bytes(key))
            return None if node is None else self.files.reserved.version(node)

    def look_of(self, key: Key) -> Look | None:
        """Return what the file at `key` has beside its value, or None if `key` has no value.

        But for a lifetime: what is brought back is there to stay.
        """
        with self._core.lock:
            self._core.check()
            node = self._file(_bytes(key))
            if node is None:
                return None
            xattrs = {name: value for name, value in (node.xattrs or {}).items() if name != EXPIRES}
            return Look(stat.S_IMODE(node.mode), node.uid, node.gid, xattrs)

    def sorted_keys(self, prefix: Key = b"") -> list[bytes]:
        """Return the keys that start with `prefix` and have a value, sorted."""
        prefix = _bytes(prefix)
        with self._core.lock:
            self._core.check()
            table = self._core.table
            found: Any = (key for key in table.valued() if key.startswith(prefix))
            if table.expiries:
                found = (key for key in found if not self._is_over(table.number_of(key)))
            if self._batch:
                found = self._batch.keys(found, prefix)
            return sorted(found)

    def keys(self, prefix: Key = b"") -> Keys:
        """Return a view of the keys that start with `prefix` and have a value, sorted."""
        return Keys(self, _bytes(prefix))

    def components(self, prefix: Key = b"") -> list[bytes]:
        """Return how the keys that start with `prefix` go on up to the next `/`, sorted.

        For who goes down one directory after the other: no key is looked at
        that is below the one that `prefix` leads to.
        """
        with self._core.lock:
            self._core.check()
            return sorted(set(self._core.table.components(_bytes(prefix))))

    def items(self, prefix: Key = b"") -> Items:
        """Return a view of every key that starts with `prefix`, with its value, sorted by key."""
        return Items(self, _bytes(prefix))

    def values(self) -> Values:
        """Return a view of the values, sorted by key."""
        return Values(self)

    def __getitem__(self, key: Key) -> bytes:
        """Return the value of `key`. Raises `KeyError`."""
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Key, value: bytes | str) -> None:
        """Set the value of `key`, as `put` does."""
        self.put(key, value)

    def __delitem__(self, key: Key) -> None:
        """Remove `key`. Raises `KeyError`."""
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        """Tell whether `key` has a value."""
        text = _bytes(key)
        with self._core.lock:
            self._core.check()
            if self._batch and self._batch.changes(text):
                return self._batch.get(text) is not None
            return self._file(text) is not None

    def __len__(self) -> int:
        """Return the number of keys that have a value."""
        with self._core.lock:
            self._core.check()
            count = self._core.table.values
            if self._core.table.expiries and self._core.expires:
                count -= self._core.table.expiries.expired(time.time_ns())
            return self._batch.count(count) if self._batch else count

    def __iter__(self) -> Iterator[bytes]:
        """Yield the keys, sorted."""
        return iter(self.sorted_keys())

    # -- helpers -------------------------------------------------------------------

    def _file(self, key: bytes) -> File | None:
        """Return the file that `key` names, for reading only, if it has a value."""
        node = self._core.table.look(key)
        return node if isinstance(node, File) and not self._is_over(node.ino) else None

    def _is_over(self, ino: int | None) -> bool:
        """Tell whether the file `ino` has expired, and is there only until somebody removes it."""
        core = self._core
        return (
            ino is not None
            and core.expires
            and core.table.expiries.has_expired(ino, time.time_ns())
        )

    def _expire(self) -> None:
        """Remove what has expired, so that nothing is built on it."""
        if self._core.table.expiries.times and not self._batch:
            self.files.expire(_MANY)

    def _expect(self, key: bytes, version: str | None) -> None:
        """Raise `ConflictError` unless `key` has `version`."""
        if version is not ANY:
            self.files.reserved.expect(self._core.table.look(key), version)


def _cut(value: bytes, size: int) -> Iterator[bytes]:
    return (value[start : start + size] for start in range(0, len(value), size))


def _expiry(ttl: float | str | None) -> int | None:
    return None if ttl is None else expiry_after(ttl)
