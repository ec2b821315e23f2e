"""The mutations of a store, as small immutable values.

Every record speaks of keys, so that a log reads on its own and can be replayed
anywhere. `key` names the value (or link, FIFO, socket, device) at that key;
with `directory` set it names the directory at that path instead, because a
flat store can hold a value `a` beside keys below `a/`.

`time` is in nanoseconds since 1970 and is the record's own: what it touches
gets it as mtime and ctime where the attributes say nothing else.
"""

from __future__ import annotations

from typing import Any, NamedTuple

new_tuple: Any = tuple.__new__
"""Makes a named tuple, given its class and its values, in a third of the time that the class takes."""


class Attrs(NamedTuple):
    """What differs from the defaults; None leaves a field as it is.

    `mode` holds the permission bits (07777), the times are in nanoseconds.
    `born` is when the name came into its directory, if that was before the
    record's time. `ino` is given only where counting would yield another
    number (see docs/decisions/001-inode-numbers.md).
    """

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    atime: int | None = None
    mtime: int | None = None
    ctime: int | None = None
    born: int | None = None
    ino: int | None = None


NO_ATTRS = Attrs()


class Put(NamedTuple):
    """The value of `key` is `data`: made if missing, replaced if there."""

    key: bytes
    data: bytes
    attrs: Attrs = NO_ATTRS
    time: int = 0


class Delete(NamedTuple):
    """`key` is gone; with `directory`, the empty directory of that path."""

    key: bytes
    directory: bool = False
    time: int = 0


class Write(NamedTuple):
    """`data` stands at `offset` (bytes) of the value of `key`."""

    key: bytes
    offset: int
    data: bytes | bytearray | memoryview
    time: int = 0


class Relocate(NamedTuple):
    """What stands at `offset` (bytes) of the value of `key` is `data`, as before: it lies here now.

    Changes nothing that anybody sees, nor any time.
    """

    key: bytes
    offset: int
    data: bytes | bytearray | memoryview
    time: int = 0


class Truncate(NamedTuple):
    """The value of `key` has `size` bytes, cut or filled with zeros."""

    key: bytes
    size: int
    time: int = 0


class Mkdir(NamedTuple):
    """There is a directory at the path `key`, until it is deleted."""

    key: bytes
    attrs: Attrs = NO_ATTRS
    time: int = 0


class Symlink(NamedTuple):
    """`key` is a symbolic link to `target`."""

    key: bytes
    target: bytes
    attrs: Attrs = NO_ATTRS
    time: int = 0


class Mknod(NamedTuple):
    """`key` is a FIFO, socket or device: `mode` with its type, `rdev` its number."""

    key: bytes
    mode: int
    rdev: int
    attrs: Attrs = NO_ATTRS
    time: int = 0


class Link(NamedTuple):
    """`new` is another name of what `key` names."""

    key: bytes
    new: bytes
    time: int = 0


class Rename(NamedTuple):
    """`key` is now `new`, replacing it; with `exchange` the two change places.

    `directory` and `new_directory` tell which of the two are directories.
    """

    key: bytes
    new: bytes
    directory: bool = False
    new_directory: bool = False
    exchange: bool = False
    time: int = 0


class Setattr(NamedTuple):
    """The fields of `attrs` that are not None are set."""

    key: bytes
    attrs: Attrs
    directory: bool = False
    time: int = 0


class Setxattr(NamedTuple):
    """The extended attribute `name` is `value`."""

    key: bytes
    name: bytes
    value: bytes
    directory: bool = False
    time: int = 0


class Removexattr(NamedTuple):
    """The extended attribute `name` is gone."""

    key: bytes
    name: bytes
    directory: bool = False
    time: int = 0


Record = (
    Put
    | Delete
    | Write
    | Relocate
    | Truncate
    | Mkdir
    | Symlink
    | Mknod
    | Link
    | Rename
    | Setattr
    | Setxattr
    | Removexattr
)


class Location(NamedTuple):
    """Where a record lies: segment number, offset and length in bytes."""

    segment: int
    offset: int
    length: int
