"""Several changes of keys that happen all or not at all: `Store.batch`.

They are collected, and committed at the end as one batch of the log. Meanwhile
the store shows them to who made them; nobody else gets its lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvfs import keys
from kvfs.errors import not_a_value
from kvfs.records import NO_ATTRS, Attrs, Delete, Mkdir, Put, Rename, Setxattr
from kvfs.table import File
from kvfs.table.lifetimes import EXPIRES, dump_expiry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kvfs.records import Record
    from kvfs.store.content import Content
    from kvfs.store.core import Core

_NEW = Attrs(ino=0)
"""Marks a record that makes a node: see `Core.commit_batch`."""


class Batch:
    """The changes so far, over the store as it is."""

    def __init__(self, core: Core, content: Content) -> None:
        """Begin with none."""
        self._core = core
        self._content = content
        self._values: dict[bytes, bytes | None] = {}
        self._records: list[Record] = []
        self._latest = 0
        """The last change of any file that is changed or moved here."""

    def changes(self, key: bytes) -> bool:
        """Tell whether `key` was changed."""
        return key in self._values

    def get(self, key: bytes) -> bytes | None:
        """Return the value that `key`, which was changed, has now."""
        return self._values[key]

    def keys(self, before: Iterable[bytes], prefix: bytes) -> Iterator[bytes]:
        """Yield the keys that start with `prefix`, given those `before` the batch, in no order."""
        for key in before:
            if key not in self._values:
                yield key
        for key, value in self._values.items():
            if value is not None and key.startswith(prefix):
                yield key

    def count(self, before: int) -> int:
        """Return how many keys have a value, given how many had one `before`."""
        there = sum(self._is_there(key) for key in self._values)
        return before - there + sum(value is not None for value in self._values.values())

    def put(self, key: bytes, value: bytes, expiry: int | None) -> None:
        """Set the value of `key`. Raises as `Store.put` does for what cannot be."""
        node = self._core.table.find(key)
        if node is not None and not isinstance(node, File):
            raise not_a_value(key)
        there = self._has(key)
        if there and node is not None and key not in self._values:
            self._take(node)
        time = self._core.after(self._latest)
        record = Put(key, b"", NO_ATTRS if there else _NEW, time)
        records: list[Record] = list(self._core.put_parts(record, value))
        if expiry is not None:
            records.append(Setxattr(key, EXPIRES, dump_expiry(expiry), time=time))
        for made in records:
            self._core.check_fits(made)
        self._records += records
        self._values[key] = value

    def delete(self, key: bytes) -> bool:
        """Remove `key` and tell whether it was there."""
        if not self._has(key):
            return False
        self._records.append(Delete(key, time=self._core.now()))
        self._values[key] = None
        return True

    def rename(self, old: bytes, new: bytes, value: bytes) -> None:
        """Move `value`, which `old` has, to `new`. Raises `NotAValueError`."""
        table = self._core.table
        for key in (old, new):
            node = table.find(key)
            if isinstance(node, File):
                self._take(node)
            elif node is not None:
                raise not_a_value(key)
        if old == new:
            return
        time = self._core.now()
        names = keys.split(new) or [new]
        for end in range(1, len(names)):
            path = b"/".join(names[:end])
            directory = table.find_directory(path)
            if directory is None or directory.implicit:
                # It may go before this is replayed, with the last key in it.
                self._records.append(Mkdir(path, _NEW, time))
        self._records.append(Rename(old, new, time=time))
        self._values[old], self._values[new] = None, value

    def commit(self) -> None:
        """Commit all of it. Raises what the log says; then nothing has changed."""
        if self._records:
            self._core.commit_batch(self._records)

    def _take(self, node: File) -> None:
        """Prepare for a change of `node`, by which it gets another version."""
        self._content.commit(node)
        self._latest = max(self._latest, node.ctime)

    def _has(self, key: bytes) -> bool:
        if key in self._values:
            return self._values[key] is not None
        return self._is_there(key)

    def _is_there(self, key: bytes) -> bool:
        return isinstance(self._core.table.find(key), File)
