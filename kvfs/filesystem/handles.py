"""What is open: files by handle, and directories being listed."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from kvfs.table.entries import Names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.table import Directory, File


DOTS = (b".", b"..")
_LOOKED_AT = 64  # descriptors at each end of a process's


class Handle:
    """One open(2) of a file.

    `opener` is the process that opened it, `writable` whether it may write through it.
    `direct` says that what is written through it passes the page cache,
    `at_once` that it is logged before it is acknowledged. `emptied` says that
    this open made the file, or cut it to nothing, and `written` that something
    was written through it, both since the file was last logged for it.
    """

    __slots__ = (
        "at_once",
        "direct",
        "emptied",
        "node",
        "opener",
        "writable",
        "written",
    )

    def __init__(self, node: File, flags: int, *, emptied: bool, opener: int) -> None:
        """Make a handle, opened with `flags`, that nothing has been written through."""
        self.node = node
        self.writable = flags & os.O_ACCMODE != os.O_RDONLY
        self.opener = opener
        self.direct = self.at_once = False
        self.emptied = emptied
        self.written = False

    @property
    def changed(self) -> bool:
        """Whether this handle has anything to be logged."""
        return self.emptied or self.written

    def logged(self) -> None:
        """Note that the file has been logged as it is."""
        self.emptied = self.written = False


class Handles:
    """The open files, by the number that FUSE knows them by."""

    def __init__(self) -> None:
        """Start with nothing open."""
        self._handles: dict[int, Handle] = {}
        self._next = 1

    def add(self, handle: Handle) -> int:
        """Keep `handle` and return its number."""
        number = self._next
        self._next += 1
        self._handles[number] = handle
        return number

    def __getitem__(self, number: int) -> Handle:
        """Return the handle `number`."""
        return self._handles[number]

    def close(self, number: int) -> Handle:
        """Forget the handle `number` and return it."""
        return self._handles.pop(number)

    def opener_has_it(self, handle: Handle) -> bool:
        """Tell whether the process that opened `handle` has its file open still.

        A close takes the descriptor from the process before it reaches us, so
        what is found belongs to another descriptor. A file is told by its last
        name and its inode number; its path depends on where the process sees
        the mount, and to ask for its attributes would be to ask ourselves.
        Only the first and last descriptors are looked at, where shells and others
        have what they pass on; or a process with thousands of them would wait
        long for each close.
        """
        names = {name for _, name in handle.node.names()}
        directory = f"/proc/{handle.opener}"
        try:
            numbers = os.listdir(f"{directory}/fd")
            if len(numbers) > 2 * _LOOKED_AT:
                numbers[_LOOKED_AT:-_LOOKED_AT] = []
            for number in numbers:
                with suppress(FileNotFoundError):
                    target = os.readlink(os.fsencode(f"{directory}/fd/{number}"))
                    if os.path.basename(target) in names and _writes_to(
                        f"{directory}/fdinfo/{number}", handle.node.ino
                    ):
                        return True
        except OSError:
            return False
        return False


def _writes_to(fdinfo: str, ino: int) -> bool:
    """Tell whether the descriptor that `fdinfo` describes is open for writing to inode `ino`.

    Kernels before 5.14 name no inode; then the flags alone count.
    """
    with open(fdinfo, encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    if int(fields["flags"], 8) & os.O_ACCMODE == os.O_RDONLY:
        return False
    return "ino" not in fields or int(fields["ino"]) == ino


class Listing:
    """A directory being listed, from a snapshot of its names, taken at its start.

    Positions in the snapshot stay what they are however the directory changes;
    names that are gone by then are passed over. The names that a checkpoint
    has are no part of the snapshot: they may be millions, and their positions
    are those that they have there, from `_BELOW` on.
    """

    __slots__ = ("_fresh", "_names", "directory")

    def __init__(self, directory: Directory) -> None:
        """Prepare to list `directory`."""
        self.directory = directory
        self._names: list[bytes] = []
        self._fresh: frozenset[bytes] = frozenset()

    @property
    def taken(self) -> bool:
        """Whether there is a snapshot."""
        return bool(self._names)

    def take(self) -> None:
        """Take the snapshot."""
        entries = self.directory.entries
        if isinstance(entries, Names):
            self._names = [*DOTS, *entries.changed]
            self._fresh = frozenset(entries.changed)
        else:
            self._names = [*DOTS, *entries]

    def names(self, start: int, parent: int) -> Iterator[tuple[int, bytes, int, int | None]]:
        """Yield number, name and position behind of what is still there, from `start` on.

        And the type of the node, where that is known. `parent` is the number of
        the directory above.
        """
        entries = self.directory.entries
        for position in range(start, len(self._names)):
            name = self._names[position]
            if position < len(DOTS):
                ino: int | None = (self.directory.ino, parent)[position]
            else:
                ino = entries.get(name)
            if ino is not None:
                yield ino, name, position + 1, None
        if isinstance(entries, Names):
            if entries.has_changed_only and entries.changed.keys() <= self._fresh:
                return
            for name, number, file_type, behind in entries.below(max(start - _BELOW, 0)):
                if name not in self._fresh:
                    yield number, name, _BELOW + behind, file_type


_BELOW = 1 << 60
"""The position of the first name that a checkpoint has."""
