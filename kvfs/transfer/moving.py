"""Export and import: from a store to a file, and from a file to a store."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import sys
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from kvfs import keys
from kvfs.errors import KeyTooLongError
from kvfs.transfer import jsonl, tar_write, text, tree
from kvfs.transfer.copying import Plan, copy
from kvfs.transfer.directory import DirectoryTarget
from kvfs.transfer.entries import Counts, Pair
from kvfs.transfer.formats import FORMATS, TARS
from kvfs.transfer.inside import StoreTarget
from kvfs.transfer.output import output
from kvfs.transfer.state import StoreView, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from kvfs.store import Store
    from kvfs.transfer.entries import Entry, Source

    Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


class Writer(Protocol):
    """What takes keys and values."""

    def put(self, key: bytes, value: bytes, *, ttl: str | None = None) -> None:
        """Set the value of `key`, which lives for `ttl`."""


def export(store: Store, file: str, form: str, progress: Progress) -> Counts:
    """Write the state of `store` to `file`, in the format `form`; `-` is standard output.

    A file is there whole at the end, or as it was. Raises `KvfsError`, or what
    the system says.
    """
    view = StoreView(store)
    number = len(store) if form == "jsonl" else len(store.table.nodes)
    with progress("exporting", number) as advance:
        if form == "tree":
            return tree.write(lambda: entries(view), file, advance)
        with output(file) as stream:
            if form == "jsonl":
                return jsonl.write(store, stream, advance)
            if form == "text":
                owner = (store.table.uid, store.table.gid)
                return text.write(_without_times(store, view), owner, stream, advance)
            with _compressed(stream, file) as packed:
                return tar_write.write(entries(view), packed, advance)


def _without_times(store: Store, view: StoreView) -> Iterator[Entry]:
    """Yield the entries as a text log has them: times only where a text store had been given some."""
    if not store.config.codec().keeps_time:
        return entries(view, store.config.created)
    return (entry._replace(mtime=None) for entry in entries(view))


@contextmanager
def _compressed(stream: IO[bytes], file: str) -> Iterator[IO[bytes]]:
    """Give what compresses to `stream` as the name of `file` says."""
    how = next((how for end, how in TARS.items() if file.lower().endswith(end)), "")
    if not how:
        yield stream
        return
    packers: dict[str, Callable[..., Any]] = {"gz": _gzip, "xz": lzma.open, "bz2": bz2.open}
    with packers[how](stream, "wb") as packed:
        yield packed


def _gzip(stream: IO[bytes], mode: str) -> gzip.GzipFile:
    return gzip.GzipFile("", mode, fileobj=stream, mtime=0)  # the same bytes each time


@contextmanager
def spooled() -> Iterator[str]:
    """Bring standard input to a file, so that it can be read through first; give its path."""
    with tempfile.NamedTemporaryFile(prefix="kvfs-import-") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        yield file.name


class Import:
    """A file that has been read through: nothing in it is wrong."""

    def __init__(self, source: Source, form: str, prefix: bytes) -> None:
        """Read `source`, in the format `form`, through; all keys get `prefix`.

        Raises `KvfsError` naming the place of a mistake, or what the system says.
        """
        self._source, self._form, self._prefix = source, FORMATS[form], prefix
        read = self._form.reader(source)
        verify = self._form.reader(source, verify=True)
        if self._form.has_entries:
            self._plan: Plan | None = Plan(verify, read, prefix)
            self.number = self._plan.number
        else:
            self._plan = None
            self.number = sum(1 for _ in self._checked(verify()))

    def _checked(self, pairs: Iterator[tuple[bytes, bytes] | Pair]) -> Iterator[Pair]:
        """Yield the pairs with their new keys, if these can be keys."""
        for key, *rest in pairs:
            try:
                yield Pair(keys.check(self._prefix + key), *rest)
            except KeyTooLongError as error:
                raise self._source.bad("", str(error)) from None

    def run(self, writer: Writer, root: int | None, advance: Callable[[int], object]) -> Counts:
        """Bring all of it to the store that `writer` writes, or to its mount, open as `root`.

        Raises `KvfsError`, before anything is changed where something is in the way.
        """
        self._source.skipped.clear()
        if self._plan is None:
            counts = put_all(self._checked(self._form.reader(self._source)()), writer, advance)
        elif root is None:
            target = StoreTarget(cast("Store", writer))
            self._plan.check(target)
            counts = copy(self._plan, target, advance)
        else:
            mount = DirectoryTarget(root)
            try:
                self._plan.check(mount)
                counts = copy(self._plan, mount, advance)
            finally:
                mount.close()
        counts.skipped.update(self._source.skipped)
        return counts


def put_all(pairs: Iterator[Pair], writer: Writer, advance: Callable[[int], object]) -> Counts:
    """Put all `pairs`, as they come."""
    counts = Counts()
    for key, value, ttl in pairs:
        writer.put(key, value, ttl=ttl)
        counts.keys += 1
        counts.bytes += len(value)
        advance(1)
    return counts
