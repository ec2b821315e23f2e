"""What is moved: names, entries, and what is known about a file that is read."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kvfs import keys
from kvfs.errors import KvfsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Pieces = Iterator[tuple[int, bytes]]

PIECE = 1024 * 1024
"""Bytes of a file that are in memory at once."""
PAST = (b"at", b"snapshots", b"history", b"tx", b"stats", b"changes")
"""What a mount shows in `.kvfs` beside the keys that are no paths."""
XATTRS = (b"user.", b"trusted.", b"security.")
"""The extended attributes that a store can hold begin so."""
_TIMES = (-(2**63), 2**63 - 1)
_MAX_OWNER = 2**32 - 2  # chown(2) takes the highest number for none


class Name(NamedTuple):
    """A key, or with `directory` the path of one, and whether it is shown below `.kvfs/keys/`."""

    key: bytes
    aside: bool = False

    @property
    def path(self) -> list[bytes]:
        """The names on the way to it from the root of a mount; of the root, none."""
        if self.aside:
            return keys.aside(self.key)
        return self.key.split(b"/") if self.key else []


def nothing() -> Iterator[Any]:
    """Yield nothing: the content of what has none."""
    return iter(())


class Pair(NamedTuple):
    """A key, its value, and how long it is to live, as `ttl` of `Store.put`, if not for ever."""

    key: bytes
    value: bytes
    ttl: str | None = None


class Entry(NamedTuple):
    """One name in a mount and what it names.

    `mode` has the type too. `mtime` is in nanoseconds since 1970; None leaves it
    at the time of the import. `pieces` yields (offset, data) where there is
    data in a file of `size` bytes, ascending; `extents` yields where that begins and
    ends, where a store knows it. `link` is another name of the
    same node that came before: then nothing else counts. An `implicit`
    directory is there for the keys below it only.
    """

    name: Name
    mode: int
    uid: int
    gid: int
    mtime: int | None
    xattrs: dict[bytes, bytes]
    size: int = 0
    rdev: int = 0
    target: bytes = b""
    link: Name | None = None
    implicit: bool = False
    pieces: Callable[[], Pieces] = nothing
    extents: Callable[[], Iterator[tuple[int, int]]] = nothing


@dataclass
class Source:
    """A file that is imported: its path, the name it has in messages, and how it is read.

    `skipped` counts what was passed over, by what it was.
    """

    path: str
    name: str
    table: str | None = None
    key_column: str | None = None
    value_column: str | None = None
    skip_others: bool = False
    skipped: Counter[str] = field(default_factory=Counter)

    def bad(self, where: str, what: str) -> KvfsError:
        """Return the error for a mistake at the place `where`, if that is known."""
        place = f"{self.name}, {where}" if where else self.name
        return KvfsError(f"{place}: {what}", errno.EINVAL)


@dataclass
class Counts:
    """What was moved: keys with a value, and the bytes of these; and what was not."""

    keys: int = 0
    bytes: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


def parse_path(path: bytes) -> Name | None:
    """Return the name of what is at `path` in a mount; None for what is the mount's own.

    Raises `ValueError` with a reason where no key can be there.
    """
    if path.startswith(b"/"):
        raise ValueError("the path is absolute")
    names = [name for name in path.split(b"/") if name not in {b"", b"."}]
    if b".." in names:
        raise ValueError("the path has ..")
    if names[:1] != [keys.CONTROL]:
        key = b"/".join(names)
        if key and (keys.split(key) is None or len(key) > keys.MAX_KEY):
            raise ValueError("no key has this path")
        return Name(key)
    if len(names) == 1 or (len(names) == 2 and names[1] in {keys.KEYS, *PAST}):  # noqa: PLR2004
        return None
    if names[1] != keys.KEYS:
        raise ValueError("it is of the past of a mount, which cannot be brought in")
    aside = keys.decode(names[2:])
    if aside is None:
        if all(map(keys.is_piece, names[2:])):
            return None
        raise ValueError("no key is shown there")
    return Name(aside, aside=True)


def storable(mtime: int) -> int:
    """Return the time nearest to `mtime` that a store can hold."""
    return min(max(mtime, _TIMES[0]), _TIMES[1])


def check_owner(uid: int, gid: int) -> None:
    """Raise `ValueError` where no file can have the owner."""
    if not (0 <= uid <= _MAX_OWNER and 0 <= gid <= _MAX_OWNER):
        raise ValueError(f"the owner {uid}:{gid} is out of range")
