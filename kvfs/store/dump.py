"""A table as records: those that make the same nodes in an empty one.

Numbers, names, contents, attributes and times are kept. What is not: that a
directory was there only for the keys below it, since its number must be told, and
where data lies. Of a log that has lost its beginning, or is to lose it, this is
the new one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from kvfs.codec import BadRecordError
from kvfs.errors import CorruptionError, KvfsError
from kvfs.records import (
    NO_ATTRS,
    Attrs,
    Delete,
    Link,
    Mkdir,
    Mknod,
    Put,
    Setattr,
    Setxattr,
    Symlink,
    Truncate,
    Write,
)
from kvfs.recovery import LogPaths
from kvfs.segment import damaged, name_of
from kvfs.table import Directory, File
from kvfs.table import Symlink as SymlinkNode
from kvfs.table.table import DEFAULT_DIRECTORY_MODE, DEFAULT_MODE

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from kvfs.config import Config
    from kvfs.disk import Disk
    from kvfs.records import Record
    from kvfs.table import Node, Table
    from kvfs.table.content import Extent

_PERMISSIONS = 0o7777


class Dump(NamedTuple):
    """How to dump a table.

    `read` returns the data of an extent, and raises `CorruptionError` where it does
    not verify. `next_number` is the number that the next node gets in the new table if
    its record says none. All records have the time `fixed`, in nanoseconds, where the
    format keeps none. Data is cut into records of at most `chunk` bytes.
    """

    table: Table
    read: Callable[[Extent], bytes]
    next_number: Callable[[], int]
    fixed: int | None
    chunk: int

    def damaged(self) -> Iterator[tuple[int, bytes, Extent, str]]:
        """Yield number and key of each file whose data does not verify, where first, and why."""
        for number in sorted(self.table.nodes):
            node = self.table.nodes.look(number)
            for extent in node.extents if isinstance(node, File) else ():
                try:
                    self.read(extent)
                except KvfsError as error:
                    yield number, self.table.key_of(node), extent, str(error)  # type: ignore[arg-type]
                    break

    def records(self, without: Container[int] = ()) -> Iterator[Record]:
        """Yield the records, each to be applied to the new table before the next one is asked for.

        The files `without` are left out. Raises `CorruptionError`.
        """
        directories = list(self._directories())
        for directory, path in directories[1:]:
            yield from self._directory(directory, path)
        for number in sorted(self.table.nodes):
            node = self.table.nodes.look(number)
            if node is not None and not isinstance(node, Directory) and number not in without:
                yield from self._node(node)
        yield from self._xattrs(self.table.root, b"", self._time(self.table.root.ctime))
        yield from self._last_number()
        for directory, path in directories:
            yield from self._settled(directory, path)

    def _directories(self) -> Iterator[tuple[Directory, bytes]]:
        """Yield the directories with their paths, each before those in it; the root first."""
        todo: list[tuple[Directory, bytes]] = [(self.table.root, b"")]
        for directory, path in todo:  # which grows
            yield directory, path
            for name, number in sorted(directory.entries.items()):
                below = self.table.nodes.directory(number)
                if below is not None:
                    todo.append((below, path + b"/" + name if path else name))

    def _directory(self, node: Directory, path: bytes) -> Iterator[Record]:
        time = self._time(node.ctime)
        yield Mkdir(path, self._attrs(node, DEFAULT_DIRECTORY_MODE), time)
        yield from self._xattrs(node, path, time)

    def _settled(self, node: Directory, path: bytes) -> Iterator[Record]:
        """Yield what gives a directory its times, once all is in it that is to be, and the root all."""
        fixed = self.fixed
        attrs = Attrs(
            atime=_differing(node.atime, fixed),
            mtime=_differing(node.mtime, fixed),
            ctime=_differing(node.ctime, fixed),
        )
        if node is self.table.root:
            attrs = attrs._replace(
                mode=_differing(node.mode & _PERMISSIONS, DEFAULT_DIRECTORY_MODE),
                uid=_differing(node.uid, self.table.uid),
                gid=_differing(node.gid, self.table.gid),
            )
        if attrs != NO_ATTRS:
            yield Setattr(path, attrs, directory=True, time=self._time(node.touched))

    def _node(self, node: Node) -> Iterator[Record]:
        table = self.table
        names = [(table.directory(parent), name) for parent, name in node.names()]
        key, *others = (table.key_at(parent, name) or b"" for parent, name in names)
        time = self._time(node.ctime)
        if isinstance(node, File):
            yield from self._file(node, key)
        elif isinstance(node, SymlinkNode):
            yield Symlink(key, node.target, self._attrs(node, node.mode & _PERMISSIONS), time)
        else:
            attrs = self._attrs(node, node.mode & _PERMISSIONS)
            yield Mknod(key, node.mode, getattr(node, "rdev", 0), attrs, time)
        yield from self._xattrs(node, key, time)
        for (parent, _), other in zip(names[1:], others, strict=True):
            yield Link(key, other, min(time, self._time(parent.ctime)))

    def _file(self, node: File, key: bytes) -> Iterator[Record]:
        time = self._time(node.ctime)
        attrs = self._attrs(node, DEFAULT_MODE)
        extents = node.extents
        covered = len(extents) <= 1 and sum(extent.length for extent in extents) == node.length
        if covered and node.length <= self.chunk:
            yield Put(key, self.read(extents[0]) if extents else b"", attrs, time)
            return
        yield Put(key, b"", attrs, time)
        yield Truncate(key, node.length, time)
        for extent in extents:
            content = self.read(extent)
            for start in range(0, extent.length, self.chunk):
                piece = content[start : start + self.chunk]
                yield Write(key, extent.start + start, piece, time)
        if node.mtime != time:
            yield Setattr(key, Attrs(mtime=node.mtime, ctime=node.ctime), time=time)

    def _xattrs(self, node: Node, key: bytes, time: int) -> Iterator[Record]:
        for name, value in (node.xattrs or {}).items():
            yield Setxattr(key, name, value, directory=isinstance(node, Directory), time=time)

    def _attrs(self, node: Node, mode: int) -> Attrs:
        """Return how `node` differs from what a record of its ctime makes, with the default `mode`."""
        time = self._time(node.ctime)
        above = self._time(self.table.directory(node.parent).ctime)
        born = min(time, above)  # so that the directory above gets no later time
        return Attrs(
            mode=_differing(node.mode & _PERMISSIONS, mode),
            uid=_differing(node.uid, self.table.uid),
            gid=_differing(node.gid, self.table.gid),
            atime=_differing(node.atime, born),
            mtime=_differing(node.mtime, time),
            ctime=_differing(node.ctime, time),
            born=_differing(born, time),
            ino=_differing(node.ino, self.next_number()),
        )

    def _last_number(self) -> Iterator[Record]:
        """Yield what lets counting go on where it was: a number is never given again."""
        last = self.table.next_ino - 1
        if last >= self.next_number():
            name = b"%d" % last
            while self.table.number_of(name) is not None or self.table.find_directory(name):
                name += b"_"
            root = self.table.root
            time = self._time(root.ctime)
            yield Mkdir(name, Attrs(ino=last), time)
            yield Delete(name, directory=True, time=time)

    def _time(self, time: int) -> int:
        """Return the time of a record that is to give a node the time `time`, as near as can be."""
        return max(time, 0) if self.fixed is None else self.fixed


def reader(disk: Disk, path: str, config: Config) -> Callable[[Extent], bytes]:
    """Return what reads the data of an extent from the segments of the store at `path`."""
    codec, segments = config.codec(), LogPaths.of(path).segments

    def read(extent: Extent) -> bytes:
        number, offset, length = extent.location
        try:
            raw = disk.read_part(os.path.join(segments, name_of(number)), length, offset)
            record: Any = codec.decode(raw, number, offset)
        except BadRecordError as error:
            raise damaged(number, error, offset) from None
        except OSError as error:
            message = f"segment {name_of(number)} cannot be read: {error.strerror}"
            raise CorruptionError(message) from error
        data: bytes = record.data
        return data[extent.skip : extent.skip + extent.length]

    return read


def _differing(value: int, default: int | None) -> int | None:
    return None if value == default else value
