"""What is open: files by handle, and directories being listed."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pyfuse3

if TYPE_CHECKING:
    from kvfs.store import Files
    from kvfs.table import Directory, File


class Handle:
    """One open(2) of a file.

    `opener` is the process that opened it. `emptied` says that this open made
    the file, or cut it to nothing, and `written` that something was written
    through it, both since the file was last logged for it.
    """

    __slots__ = ("emptied", "node", "opener", "written")

    def __init__(self, node: File, *, emptied: bool, opener: int) -> None:
        """Make a handle that nothing has been written through."""
        self.node = node
        self.opener = opener
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

    def add(self, handle: Handle) -> pyfuse3.FileHandleT:
        """Keep `handle` and return its number."""
        number = self._next
        self._next += 1
        self._handles[number] = handle
        return pyfuse3.FileHandleT(number)

    def __getitem__(self, number: int) -> Handle:
        """Return the handle `number`."""
        return self._handles[number]

    def close(self, number: int) -> Handle:
        """Forget the handle `number` and return it."""
        return self._handles.pop(number)

    def opener_has_it(self, handle: Handle) -> bool:
        """Tell whether the process that opened `handle` has its file open still.

        A close takes the descriptor from the process before it reaches us, so
        what is found belongs to another descriptor. Files are told by their
        last name: the path depends on where the process sees the mount, and
        another file of that name costs nothing but a later record.
        """
        directory = f"/proc/{handle.opener}/fd"
        names = {name for _, name in handle.node.names()}
        try:
            for number in os.listdir(directory):
                with suppress(FileNotFoundError):
                    target = os.readlink(os.fsencode(f"{directory}/{number}"))
                    if os.path.basename(target) in names:
                        return True
        except OSError:
            return False
        return False


class Listing:
    """A directory being listed: a snapshot of its names, taken at its start.

    Positions in the snapshot stay what they are however the directory
    changes; names that are gone by then are passed over.
    """

    __slots__ = ("directory", "names")

    def __init__(self, directory: Directory) -> None:
        """Prepare to list `directory`."""
        self.directory = directory
        self.names: list[bytes] = []

    def take(self, files: Files) -> None:
        """Take the snapshot."""
        self.names = [b".", b"..", *files.names(self.directory)]
