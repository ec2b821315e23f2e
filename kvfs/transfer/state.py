"""A state of a store as entries, in the order in which a mount would be walked."""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING, Protocol

from kvfs import keys
from kvfs.table import KEYS_INO, Directory, File, Special, Symlink
from kvfs.transfer.entries import PIECE, Entry, Name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.store import Store
    from kvfs.table import Node, Table
    from kvfs.transfer.entries import Pieces


class View(Protocol):
    """A table, and where the content of its files comes from."""

    table: Table

    def is_over(self, node: Node) -> bool:
        """Tell whether the node counts as gone."""

    def pieces(self, node: File) -> Pieces:
        """Yield (offset, data) where the file has data, ascending."""

    def extents(self, node: File) -> Iterator[tuple[int, int]]:
        """Yield where data of the file begins and ends, ascending."""


class StoreView:
    """The state of an open store."""

    def __init__(self, store: Store) -> None:
        """Look at `store`, which nobody changes meanwhile."""
        self.table = store.table
        self._now = time.time_ns() if store.expires else 0
        self._content = store.files.content

    def is_over(self, node: Node) -> bool:
        """Tell whether the node has expired, and is there only until somebody removes it."""
        expiries = self.table.expiries
        return bool(expiries) and expiries.has_expired(node.ino, self._now)

    def pieces(self, node: File) -> Pieces:
        """Yield (offset, data) where the file has data, ascending."""
        for start, end in self.extents(node):
            for offset in range(start, end, PIECE):
                yield offset, self._content.read(node, offset, min(PIECE, end - offset))

    def extents(self, node: File) -> Iterator[tuple[int, int]]:
        """Yield where data of the file begins and ends, ascending."""
        offset = 0
        while (start := self._content.next_data(node, offset)) is not None:
            offset = self._content.next_hole(node, start)
            yield start, offset


def entries(view: View, times: int | None = None) -> Iterator[Entry]:
    """Yield what a mount of `view` shows: each directory, then what is in it; last the keys aside.

    The time `times` (nanoseconds) is no time of its own, and left out.
    """
    first: dict[int, Name] = {}
    for directory, path in _directories(view.table):
        yield _entry(view, directory, Name(path), times)
        prefix = path + b"/" if path else b""
        for name, number in sorted(directory.entries.items()):
            node = view.table.nodes.look(number)
            if node is not None and not isinstance(node, Directory) and not view.is_over(node):
                yield _named(view, node, Name(prefix + name), first, times)
    for key, node in _aside(view.table):
        if not view.is_over(node):
            yield _named(view, node, Name(key, aside=True), first, times)


def _directories(table: Table) -> Iterator[tuple[Directory, bytes]]:
    """Yield the directories and their paths, each before those in it."""
    todo: list[tuple[Directory, bytes]] = [(table.root, b"")]
    while todo:
        directory, path = todo.pop()
        yield directory, path
        for name, number in sorted(directory.entries.items(), reverse=True):
            below = table.nodes.directory(number)
            if below is not None:
                todo.append((below, path + b"/" + name if path else name))


def _aside(table: Table) -> Iterator[tuple[bytes, Node]]:
    """Yield what stands below `.kvfs/keys/`, with its keys."""
    todo: list[tuple[list[bytes], Directory]] = [([], table.directory(KEYS_INO))]
    while todo:
        pieces, directory = todo.pop()
        for name, number in sorted(directory.entries.items()):
            node = table.nodes.look(number)
            if isinstance(node, Directory):
                todo.append(([*pieces, name], node))
            elif node is not None and (key := keys.decode([*pieces, name])) is not None:
                yield key, node


def _named(view: View, node: Node, name: Name, first: dict[int, Name], times: int | None) -> Entry:
    """Return the entry of one name of `node`; `first` has the first names of those with several."""
    entry = _entry(view, node, name, times)
    if node.nlink > 1:
        other = first.setdefault(node.ino, name)
        if other is not name:
            return entry._replace(link=other)
    return entry


def _entry(view: View, node: Node, name: Name, times: int | None) -> Entry:
    mtime = None if node.mtime == times else node.mtime
    entry = Entry(name, node.mode, node.uid, node.gid, mtime, dict(node.xattrs or {}))
    if isinstance(node, File):
        return entry._replace(
            size=node.length,
            pieces=lambda: view.pieces(node),
            extents=lambda: view.extents(node),
        )
    if isinstance(node, Directory):
        return entry._replace(implicit=node.implicit)
    if isinstance(node, Symlink):
        return entry._replace(target=node.target)
    assert isinstance(node, Special)
    device = stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode)
    return entry._replace(rdev=node.rdev if device else 0)
