"""The table: the tree, and what each record does to it.

`apply` takes records that a store has checked, or that a log holds. One that
fits no state the log can have made raises `CorruptionError`; it is never
guessed at. Records whose bytes are not in the log (yet) come with no location:
the store uses that for what it has not logged, such as a file being written.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from kvfs import keys, records
from kvfs.records import NO_ATTRS
from kvfs.table.content import Extent, cut, overlay
from kvfs.table.lifetimes import EXPIRES, parse_expiry
from kvfs.table.node import (
    FIRST_INO,
    MAX_INO,
    ROOT_INO,
    Directory,
    File,
    Node,
    Special,
    Symlink,
    inconsistent,
    is_aside,
)
from kvfs.table.tree import Tree, TreeState

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.records import Attrs, Location, Record
    from kvfs.table.entries import Base

DEFAULT_MODE = 0o644
MAX_FILE = 2**63 - 1
"""The largest size of a file, in bytes."""
MAX_TIME = 2**62
"""No record is younger, in nanoseconds since 1970: the year 2116."""
_MAX_RDEV = 2**64 - 1
_PERMISSIONS = 0o7777
_SPECIAL = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
DEFAULT_DIRECTORY_MODE = 0o755
_Making = records.Put | records.Symlink | records.Mknod


class Table(Tree):
    """The state of a store. `apply` is the only way to change it."""

    def __init__(
        self, uid: int, gid: int, created: int, below: tuple[Base, TreeState] | None = None
    ) -> None:
        """Make the table of an empty store, or as a checkpoint has it: see `Tree`."""
        super().__init__(uid, gid, created, below)
        self._plain = (DEFAULT_MODE, uid, gid)
        self._steps: dict[type, Callable[[Any, Location | None], None]] = {
            records.Put: self._put,
            records.Delete: self._delete,
            records.Write: self._write,
            records.Relocate: self._relocate,
            records.Truncate: self._truncate,
            records.Mkdir: self._mkdir,
            records.Symlink: self._symlink,
            records.Mknod: self._mknod,
            records.Link: self._link,
            records.Rename: self._rename,
            records.Setattr: self._setattr,
            records.Setxattr: self._setxattr,
            records.Removexattr: self._removexattr,
        }

    def apply(self, record: Record, location: Location | None) -> None:
        """Bring the state forward by one record that lies at `location`.

        Raises `CorruptionError` if the record does not fit the state, which is
        then as it was.
        """
        if not 0 <= record.time < MAX_TIME:
            raise inconsistent("a record has an impossible time, of", record.key)
        self._steps[type(record)](record, location)

    # -- values ----------------------------------------------------------------

    def _put(self, record: records.Put, location: Location | None) -> None:
        key, data, attrs, time = record
        size = len(data)
        parent, name = self.place(key)
        ino = None if parent is None else parent.entries.get(name)
        plain = location if attrs is NO_ATTRS else None
        if ino is None:
            if plain is None or parent is not self.root or not self._rest_new(record, plain):
                self._put_new(record, location, parent, name)
        elif plain is not None and self.nodes.rest_anew(ino, time, plain, size):
            self.nodes.keep_value(ino, data)
        else:
            node = self.nodes[ino]
            if not isinstance(node, File):
                raise inconsistent("there is no value at", key)
            _set_times(node, attrs, time)
            self.nodes.dead += node.length
            _fill(node, location, size)

    def _rest_new(self, record: records.Put, location: Location) -> bool:
        """Make a file in the root that has no attributes of its own, at rest; False if it cannot."""
        name, data, _, time = record
        ino, root, nodes = self.next_ino, self.root, self.nodes
        if ino >= MAX_INO or not nodes.add_resting(
            ino, self._plain, time, time, ROOT_INO, name, location, len(data)
        ):
            return False
        nodes.keep_value(ino, data)
        self.next_ino = ino + 1
        root.entries[name] = ino
        self.values += 1
        root.touch(time)
        return True

    def _put_new(
        self, record: records.Put, location: Location | None, above: Directory | None, name: bytes
    ) -> None:
        """Make a file. What is in the log, and no more than a value, rests at once."""
        _, data, attrs, time = record
        size = len(data)
        ino, parent, name = self._prepare_new(record, above, name)
        if (
            location
            and attrs is NO_ATTRS
            and self.nodes.add_resting(
                ino, self._plain, time, time, parent.ino, name, location, size
            )
        ):
            self.nodes.keep_value(ino, data)
            parent.entries[name] = ino
            self.values += 1
            parent.touch(time)
            return
        file = File(ino, DEFAULT_MODE, self.uid, self.gid)
        self._add(file, parent, name, attrs, time)
        _fill(file, location, size)

    def _write(self, record: records.Write, location: Location | None) -> None:
        file = self._file(record.key)
        length = len(record.data)
        if record.offset + length > MAX_FILE:
            raise inconsistent("there is no such offset in", record.key)
        if location and length:
            overlay(file.extents, Extent(record.offset, length, location, 0))
        self.nodes.dead += max(min(file.length - record.offset, length), 0)
        file.length = max(file.length, record.offset + length)
        file.mtime = record.time
        file.ctime = max(file.ctime, record.time)

    def _relocate(self, record: records.Relocate, location: Location | None) -> None:
        key, offset, data, _ = record
        length = len(data)
        ino = self.number_of(key)
        if location and ino is not None and self.nodes.relocate(ino, offset, length, location):
            return
        file = self._file(key)
        if offset + length > file.length:
            raise inconsistent("there is no such place in", key)
        if location and length:
            overlay(file.extents, Extent(offset, length, location, 0))

    def _truncate(self, record: records.Truncate, _location: Location | None) -> None:
        file = self._file(record.key)
        if record.size > MAX_FILE:
            raise inconsistent("there is no such size for", record.key)
        self.nodes.dead += max(file.length - record.size, 0)
        cut(file.extents, record.size)
        file.length = record.size
        file.mtime = record.time
        file.ctime = max(file.ctime, record.time)

    # -- names -----------------------------------------------------------------

    def _mkdir(self, record: records.Mkdir, _location: Location | None) -> None:
        key, attrs, time = record
        if keys.split(key) is None:
            raise inconsistent("no directory can be at", key)
        directory = self.find_directory(key)
        if directory is None:
            ino = self._number(key, attrs, self.missing(key))
            directory = Directory(ino, DEFAULT_DIRECTORY_MODE, self.uid, self.gid)
            displaced = self.displace(key)
            parent, name = self.prepare(key, time)
            directory.touched = time
            self._add(directory, parent, name, attrs, time)
            if displaced is not None:
                self.stand_aside(displaced, key)
        directory.implicit = False

    def _symlink(self, record: records.Symlink, _location: Location | None) -> None:
        key, target, attrs, time = record
        ino, parent, name = self._prepare_new(record, *self.place(key))
        self._add(Symlink(ino, self.uid, self.gid, target), parent, name, attrs, time)

    def _mknod(self, record: records.Mknod, _location: Location | None) -> None:
        key, mode, rdev, attrs, time = record
        if mode & ~_PERMISSIONS not in _SPECIAL or rdev > _MAX_RDEV:
            raise inconsistent("a special file has no such type:", key)
        ino, parent, name = self._prepare_new(record, *self.place(key))
        self._add(Special(ino, mode, self.uid, self.gid, rdev), parent, name, attrs, time)

    def _delete(self, record: records.Delete, _location: Location | None) -> None:
        if record.directory:
            directory = self.find_directory(record.key)
            if directory is None or directory is self.root or directory.entries:
                raise inconsistent("no empty directory to remove at", record.key)
            parent, name = self.directory(directory.parent), directory.name
        else:
            place, name = self.place(record.key)
            if place is None or name not in place.entries:
                return
            parent = place
        node = self.detach(parent, name)
        node.ctime = max(node.ctime, record.time)
        parent.touch(record.time)
        self.drop(node)
        if record.directory:
            self.settle(record.key)
        else:
            self.unshadow(record.key)
            self.prune(parent)

    def _link(self, record: records.Link, _location: Location | None) -> None:
        node = self.find(record.key)
        if node is None or self.find(record.new) is not None:
            raise inconsistent("no link can be made to", record.key)
        parent, name = self._prepare_counted(record.new, record.time)
        self.attach(node, parent, name)
        node.ctime = max(node.ctime, record.time)
        parent.touch(record.time)

    def _rename(self, record: records.Rename, _location: Location | None) -> None:
        if record.exchange:
            self._exchange(record)
        elif record.directory:
            self._rename_directory(record)
        else:
            self._rename_value(record)

    def _rename_value(self, record: records.Rename) -> None:
        key, new, *_, time = record
        old_parent, old_name = self.place(key)
        ino = None if old_parent is None else old_parent.entries.get(old_name)
        if old_parent is None or ino is None:
            raise inconsistent("there is nothing at", key)
        parent, name = self.place(new)
        taken = None if parent is None else parent.entries.get(name)
        if taken == ino:
            return
        node = self.detach(old_parent, old_name)
        if parent is None or is_aside(parent.ino):
            parent, name = self._prepare_counted(new, time)
        if taken is not None:
            replaced = self.detach(parent, name)
            replaced.ctime = max(replaced.ctime, time)
            self.drop(replaced)
        self.attach(node, parent, name)
        parent.touch(time)
        node.ctime = max(node.ctime, time)
        old_parent.touch(time)
        self.unshadow(key)
        self.prune(old_parent)

    def _rename_directory(self, record: records.Rename) -> None:
        key, new, *_, time = record
        if keys.split(new) is None or new.startswith(key + b"/"):
            raise inconsistent("a directory cannot be moved there from", key)
        node = self._movable(key, directory=True)
        target = self.find_directory(new)
        if target is node:
            return
        self._check_free(target, new)
        old_parent = self.directory(node.parent)
        self.detach(old_parent, node.name)
        self._move_directory(node, target, record)
        node.ctime = max(node.ctime, time)
        old_parent.touch(time)
        self.move_shadowed(key, new, exchange=False)
        self.settle(key)
        self.prune(old_parent)

    def _check_free(self, target: Node | None, path: bytes) -> None:
        """Raise if a directory cannot come to `path`, where `target` is the one there is."""
        if isinstance(target, Directory):
            if target.entries:
                raise inconsistent("a directory that is not empty is in the way at", path)
        elif self.number_of(path) is not None:
            raise inconsistent("a value is in the way of a directory at", path)

    def _move_directory(self, node: Node, target: Directory | None, record: records.Rename) -> None:
        if target is not None:
            parent, name = self.directory(target.parent), target.name
            target.ctime = max(target.ctime, record.time)
            self.drop(self.detach(parent, name))
        else:
            parent, name = self._prepare_counted(record.new, record.time)
        self.attach(node, parent, name)
        parent.touch(record.time)

    def _exchange(self, record: records.Rename) -> None:
        key, new = record.key, record.new
        if (
            key == new
            or (record.directory and (keys.split(new) is None or new.startswith(key + b"/")))
            or (record.new_directory and (keys.split(key) is None or key.startswith(new + b"/")))
        ):
            raise inconsistent("a directory cannot be moved there from", key)
        if record.directory != record.new_directory:
            path = record.key if record.directory else record.new
            if self.find(path) is not None:
                raise inconsistent("a value would come to one that is aside, at", path)
        places = []
        for key, is_directory in (
            (record.key, record.directory),
            (record.new, record.new_directory),
        ):
            node = self._movable(key, directory=is_directory)
            if is_directory:
                places.append((self.directory(node.parent), node.name))
            else:
                parent, name = self.place(key)
                assert parent is not None
                if record.directory != record.new_directory and is_aside(parent.ino):
                    raise inconsistent("a directory cannot stand aside, at", key)
                places.append((parent, name))
        (old_parent, old_name), (new_parent, new_name) = places
        first = self.detach(old_parent, old_name)
        second = self.detach(new_parent, new_name)
        self.attach(first, new_parent, new_name)
        self.attach(second, old_parent, old_name)
        for changed in (first, second):
            changed.ctime = max(changed.ctime, record.time)
        old_parent.touch(record.time)
        new_parent.touch(record.time)
        if record.directory or record.new_directory:
            self.move_shadowed(record.key, record.new, exchange=True)

    # -- attributes --------------------------------------------------------------

    def _setattr(self, record: records.Setattr, _location: Location | None) -> None:
        set_attrs(self._named(record.key, directory=record.directory), record)

    def _setxattr(self, record: records.Setxattr, _location: Location | None) -> None:
        node = self._named(record.key, directory=record.directory)
        set_xattr(node, record)
        if record.name == EXPIRES and isinstance(node, File):
            self.expiries.set(node.ino, parse_expiry(record.value))

    def _removexattr(self, record: records.Removexattr, _location: Location | None) -> None:
        node = self._named(record.key, directory=record.directory)
        if not node.xattrs or record.name not in node.xattrs:
            raise inconsistent("there is no such attribute at", record.key)
        remove_xattr(node, record)
        if record.name == EXPIRES:
            self.expiries.set(node.ino, None)

    # -- helpers -----------------------------------------------------------------

    def _number(self, key: bytes, attrs: Attrs, missing: int) -> int:
        """Take the number of a new node at `key`, and of `missing` directories on the way."""
        ino = attrs.ino
        if ino is None:
            ino = self.next_ino + missing  # and behind all that there are
            taken = ino >= MAX_INO
        else:
            first = ino - missing
            taken = not FIRST_INO <= first <= ino < MAX_INO or any(
                number in self.nodes for number in range(first, ino + 1)
            )
        if taken:
            raise inconsistent(f"inode number {ino} is no free one, for", key)
        self.number(ino, missing)
        return ino

    def _prepare_new(
        self, record: _Making, above: Directory | None, name: bytes
    ) -> tuple[int, Directory, bytes]:
        """Make all that is missing for the node of `record`; return its number and its place.

        `above` and `name` are the place of its key so far.
        """
        key, attrs = record.key, record.attrs
        if above is not None and name in above.entries:
            raise inconsistent("something is in the way at", key)
        if above is not None and not is_aside(above.ino):
            return self._number(key, attrs, 0), above, name
        ino = self._number(key, attrs, self.missing(key))
        return ino, *self.prepare(key, record.time)

    def _prepare_counted(self, key: bytes, time: int) -> tuple[Directory, bytes]:
        """Prepare the place of a node that has its number already."""
        missing = self.missing(key)
        if missing:
            self.number(self.next_ino + missing, missing)
            self.next_ino -= 1
        return self.prepare(key, time)

    def _add(self, node: Node, parent: Directory, name: bytes, attrs: Attrs, time: int) -> None:
        """Put a new node in its place."""
        born = time if attrs.born is None else attrs.born
        node.atime = born
        self.nodes.add(node)
        _set_owner_and_mode(node, attrs)
        _set_times(node, attrs, time)
        self.attach(node, parent, name)
        parent.touch(born)

    def _file(self, key: bytes) -> File:
        node = self.find(key)
        if not isinstance(node, File):
            raise inconsistent("there is no value at", key)
        return node

    def _named(self, key: bytes, *, directory: bool) -> Node:
        node = self.find_directory(key) if directory else self.find(key)
        if node is None:
            raise inconsistent("there is nothing at", key)
        return node

    def _movable(self, key: bytes, *, directory: bool) -> Node:
        node = self._named(key, directory=directory)
        if node is self.root:
            raise inconsistent("the root cannot be moved:", key)
        return node


def _fill(file: File, location: Location | None, size: int) -> None:
    """Let the value of `file` be the `size` bytes of the put at `location`."""
    file.extents = [Extent(0, size, location, 0)] if location and size else []
    file.length = size


def set_attrs(node: Node, record: records.Setattr) -> None:
    """Do to `node` what `record` says; also for one that has no name any more."""
    attrs = record.attrs
    _set_owner_and_mode(node, attrs)
    if attrs.atime is not None:
        node.atime = attrs.atime
    if attrs.mtime is not None:
        node.mtime = attrs.mtime
        if isinstance(node, Directory):
            node.touched = record.time
    _changed(node, record.time if attrs.ctime is None else attrs.ctime)


def set_xattr(node: Node, record: records.Setxattr) -> None:
    """Do to `node` what `record` says; also for one that has no name any more."""
    node.xattrs = {**(node.xattrs or {}), record.name: record.value}
    _changed(node, record.time)


def remove_xattr(node: Node, record: records.Removexattr) -> None:
    """Do to `node`, which has the attribute, what `record` says."""
    kept = {name: value for name, value in (node.xattrs or {}).items() if name != record.name}
    node.xattrs = kept or None
    _changed(node, record.time)


def _set_owner_and_mode(node: Node, attrs: Attrs) -> None:
    if attrs.mode is not None:
        node.mode = stat.S_IFMT(node.mode) | attrs.mode
    if attrs.uid is not None:
        node.uid = attrs.uid
    if attrs.gid is not None:
        node.gid = attrs.gid


def _set_times(node: Node, attrs: Attrs, time: int) -> None:
    if attrs.atime is not None:
        node.atime = attrs.atime
    node.mtime = time if attrs.mtime is None else attrs.mtime
    node.ctime = max(node.ctime, time if attrs.ctime is None else attrs.ctime)


def _changed(node: Node, time: int) -> None:
    """Note a change of attributes; a directory that has been given some stays."""
    node.ctime = max(node.ctime, time)
    if isinstance(node, Directory):
        node.implicit = False
