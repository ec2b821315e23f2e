"""Bringing entries to a place: into a store, through its mount, or to a directory.

What is in the way gives way as it does to tar(1): a file, link or special file
is replaced, also by a directory; an empty directory too; one that is not empty
stays, and is refused before anything is changed. A directory that is there
gets what the entry says. Symbolic links are never followed.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Protocol

from kvfs import keys
from kvfs.errors import KvfsError, quoted
from kvfs.transfer.entries import Counts, Entry, Name

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator

DEVICES = "device nodes, which only root can make"
ATTRIBUTES = "extended attributes, which the file system did not take"


class Target(Protocol):
    """Where entries go. A path is the list of the names from its root; the directory above is there."""

    lost: Counter[str]
    """What could not be kept, by what it is."""

    def kind(self, path: list[bytes]) -> int | None:
        """Return the S_IF type of what is at `path`; None if nothing is, or can be without more."""

    def is_empty(self, path: list[bytes]) -> bool:
        """Tell whether the directory at `path` is empty."""

    def remove(self, path: list[bytes]) -> None:
        """Remove what is at `path`; a directory must be empty."""

    def mkdir(self, path: list[bytes]) -> None:
        """Make a directory, as one that nobody said anything of."""

    def make(self, path: list[bytes], entry: Entry) -> None:
        """Make what `entry` is, which is no directory; a file that is there is replaced."""

    def link(self, old: list[bytes], new: list[bytes]) -> None:
        """Give what is at `old` another name."""

    def dress(self, path: list[bytes], entry: Entry) -> None:
        """Give the directory at `path` the owner, mode, attributes and time of `entry`."""


class Plan:
    """The entries that are to be brought in, as reading them through once has shown.

    With a `prefix`, all keys get that.
    """

    def __init__(
        self,
        verify: Callable[[], Iterable[Entry]],
        read: Callable[[], Iterable[Entry]],
        prefix: bytes = b"",
    ) -> None:
        """Read the entries through with `verify`; from then on `read` gives them.

        Raises `KvfsError` where one cannot be kept.
        """
        self._read, self._prefix = read, prefix
        self.number = 0
        self._late = False
        self._directories: set[bytes] = set()
        linked: set[bytes] = set()
        order = _Order()
        for entry in self._renamed(verify()):
            self.number += 1
            order.check(entry)
            key = keys.check(entry.name.key)
            if stat.S_ISDIR(entry.mode):
                if key and keys.split(key) is None:
                    message = f"no directory can be at {quoted(key)}; nothing was changed"
                    raise KvfsError(message, errno.EINVAL)
                self._directories.add(key)
            elif entry.link:
                linked.add(entry.link.key)
            self._late = self._late or entry.name.aside
        if linked:
            self._check_links(linked)

    def _check_links(self, linked: set[bytes]) -> None:
        """Raise `KvfsError` where one of the names `linked` does not come before a link to it."""
        there: set[bytes] = set()
        for entry in self.entries():
            if entry.link and entry.link.key not in there:
                message = (
                    f"{quoted(entry.name.key)} is a hard link to {quoted(entry.link.key)},"
                    " which does not come before it; nothing was changed"
                )
                raise KvfsError(message, errno.EINVAL)
            if not stat.S_ISDIR(entry.mode) and entry.name.key in linked:
                there.add(entry.name.key)

    def entries(self) -> Iterator[Entry]:
        """Yield the entries with their new names."""
        return self._renamed(self._read())

    def _renamed(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        prefix = self._prefix
        for entry in entries:
            if not prefix:
                yield entry
                continue
            key = prefix + entry.name.key
            if stat.S_ISDIR(entry.mode) and not entry.name.key:
                if not prefix.endswith(b"/"):
                    continue  # nothing stands for the root
                key = prefix.rstrip(b"/")
            link = entry.link and entry.link._replace(key=prefix + entry.link.key)
            yield entry._replace(name=entry.name._replace(key=key), link=link)

    def passes(self) -> Iterator[Entry]:
        """Yield the entries; those that stand aside come last, when directories are there."""
        for late in (False, True) if self._late else (False,):
            for entry in self.entries():
                names = (entry.name, entry.link) if entry.link else (entry.name,)
                if any(name.aside for name in names) == late:
                    yield entry

    def check(self, target: Target) -> None:
        """Raise `KvfsError` where something in `target` is in the way that does not give way."""
        if target.is_empty([]):
            return
        checked: set[bytes] = set()
        for entry in self.entries():
            path = _place(target, entry.name)
            if not stat.S_ISDIR(entry.mode) and target.kind(path) == stat.S_IFDIR:
                _refuse_occupied(target, path)
            self._check_above(target, entry.name, checked)

    def _check_above(self, target: Target, name: Name, checked: set[bytes]) -> None:
        names = name.path[:-1]
        above = b"/".join(names)
        if name.aside or above in checked:
            return
        checked.add(above)
        for end in range(1, len(names) + 1):
            path = names[:end]
            kind = target.kind(path)
            if kind is None:
                return
            if kind != stat.S_IFDIR and b"/".join(path) not in self._directories:
                raise KvfsError(_no_directory(b"/".join(path)), errno.ENOTDIR)


class _Order:
    """What entries make, one after the other, to find those for which others do not give way."""

    def __init__(self) -> None:
        self._others: set[bytes] = set()
        """Names of what is no directory."""
        self._filled: set[bytes] = set()
        """Directories that are not empty."""

    def check(self, entry: Entry) -> None:
        """Note `entry`. Raises `KvfsError` where an earlier one is in the way."""
        names = None if entry.name.aside else keys.split(entry.name.key)
        if names is None:
            return
        for end in range(len(names) - 1, 0, -1):
            above = b"/".join(names[:end])
            if above in self._filled:
                break
            if above in self._others:
                raise KvfsError(_no_directory(above), errno.ENOTDIR)
            self._filled.add(above)
        if stat.S_ISDIR(entry.mode):
            self._others.discard(entry.name.key)
        elif entry.name.key in self._filled:
            raise KvfsError(f"{_occupied(entry.name.key)}; nothing was changed", errno.EISDIR)
        else:
            self._others.add(entry.name.key)


def _no_directory(key: bytes) -> str:
    return f"{quoted(key)} is no directory, and would have to be one; nothing was changed"


def _occupied(key: bytes) -> str:
    return f"{quoted(key)} is a directory that is not empty, and would have to give way"


def copy(plan: Plan, target: Target, advance: Callable[[int], object]) -> Counts:
    """Bring the entries of `plan` to `target`; directories get what they have at the end.

    Raises what the target says.
    """
    counts = Counts(skipped=target.lost)
    directories: list[tuple[list[bytes], Entry]] = []
    above: list[bytes] = []  # which is there
    for entry in plan.passes():
        path = _place(target, entry.name)
        if path[:-1] != above:
            _make_above(target, path)
            above = path[:-1]
        kind = target.kind(path)
        if stat.S_ISDIR(entry.mode):
            if kind != stat.S_IFDIR:
                _clear(target, path, kind)
                target.mkdir(path)
            directories.append((path, entry))
        else:
            if kind == stat.S_IFDIR:
                above = []
            _bring(target, path, kind, entry, counts)
        advance(1)
    for path, entry in reversed(directories):
        target.dress(path, entry)
    return counts


def _bring(
    target: Target, path: list[bytes], kind: int | None, entry: Entry, counts: Counts
) -> None:
    """Make a file, link or special file where there is something of `kind`, or nothing."""
    if entry.link:
        old = _place(target, entry.link)
        linked = target.kind(old)
        if linked is None:
            counts.skipped[DEVICES] += 1
            return
        if old != path:
            _clear(target, path, kind)
            target.link(old, path)
        counts.keys += linked == stat.S_IFREG
        return
    if (stat.S_ISCHR(entry.mode) or stat.S_ISBLK(entry.mode)) and os.geteuid():
        counts.skipped[DEVICES] += 1
        return
    if not stat.S_ISREG(entry.mode) or kind != stat.S_IFREG:
        _clear(target, path, kind)
    target.make(path, entry)
    if stat.S_ISREG(entry.mode):
        counts.keys += 1
        counts.bytes += entry.size


def _place(target: Target, name: Name) -> list[bytes]:
    """Return the path of `name`: aside, if it can be nowhere else."""
    names = keys.split(name.key) if name.key else None
    if names is None:
        return keys.aside(name.key) if name.aside or name.key else []
    if name.aside and target.kind(names) == stat.S_IFDIR:
        return keys.aside(name.key)
    return names


def _make_above(target: Target, path: list[bytes]) -> None:
    """Make the directories above `path` that are not there."""
    end = len(path) - 1
    while end > 0 and (kind := target.kind(path[:end])) != stat.S_IFDIR:
        if kind is not None:
            name = quoted(b"/".join(path[:end]))
            message = f"{name} is no directory, and would have to be one"
            raise KvfsError(message, errno.ENOTDIR)
        end -= 1
    for length in range(max(end, 0) + 1, len(path)):
        target.mkdir(path[:length])


def _clear(target: Target, path: list[bytes], kind: int | None) -> None:
    """Remove what is at `path`, which is of `kind`, if anything."""
    if kind == stat.S_IFDIR:
        _refuse_occupied(target, path)
    if kind is not None:
        target.remove(path)


def _refuse_occupied(target: Target, path: list[bytes]) -> None:
    if not target.is_empty(path):
        raise KvfsError(_occupied(b"/".join(path)), errno.EISDIR)
