"""What the FUSE calls share: the store, what is open, and what the kernel is told."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pyfuse3

from kvfs.filesystem.attributes import entry
from kvfs.filesystem.handles import Handle, Handles, Listing
from kvfs.filesystem.privileges import Caller
from kvfs.table import KEYS_INO, Directory, File, Node

if TYPE_CHECKING:
    from pyfuse3 import EntryAttributes, FileHandleT, FileNameT, InodeT, RequestContext

    from kvfs.filesystem.syncer import Syncer
    from kvfs.store import Store


class Base(pyfuse3.Operations):
    """The state of a mounted store, and the ways in which its calls answer."""

    def __init__(self, store: Store, syncer: Syncer, *, always: bool, atime: bool) -> None:
        """Serve `store`; with `always`, every close is synced; with `atime`, reading is noted."""
        super().__init__()
        self._files = store.files
        self._content = store.files.content
        self._syncer = syncer
        self._always = always
        self._atime = atime
        self._handles = Handles()
        self._listings: dict[int, Listing] = {}
        self._next_listing = 1

    def _note_access(self, node: Node) -> None:
        if self._atime:
            self._files.access_times.note(node)

    def _entry(self, node: Node, *, lasting: bool) -> EntryAttributes:
        """Return the entry of `node`, counting the reference that the kernel now has."""
        result = entry(self._files.stat(node), lasting=lasting)
        self._files.refer(node.ino)
        return result

    def _open(self, node: File, flags: int, ctx: RequestContext, *, emptied: bool) -> FileHandleT:
        self._files.opened(node.ino)
        return self._handles.add(Handle(node, flags, emptied=emptied, opener=Caller.of(ctx)))

    def _lasting(self, parent: int) -> bool:
        """Tell whether names in the directory `parent` stay what they are by themselves."""
        directory = self._files.node(parent)
        return not (isinstance(directory, Directory) and self._files.is_aside(directory))

    def _places(self, *names: tuple[InodeT, FileNameT]) -> list[tuple[int, bytes]]:
        """Return the names that may change their node when keys are made by `names` aside."""
        places = []
        for parent, name in names:
            directory = self._files.directory(parent)
            if directory.ino == KEYS_INO or self._files.is_aside(directory):
                places += self._files.path_of(directory, name)
        return places


def invalidate(places: list[tuple[int, bytes]]) -> None:
    """Make the kernel forget `places`: attributes at once, names after our reply.

    To forget a name takes the lock of its directory, which the call that we
    are answering may hold; a thread of pyfuse3 waits for it.
    """
    for parent, name in places:
        with suppress(FileNotFoundError):
            pyfuse3.invalidate_inode(pyfuse3.InodeT(parent), attr_only=True)
        pyfuse3.invalidate_entry_async(
            pyfuse3.InodeT(parent), pyfuse3.FileNameT(name), ignore_enoent=True
        )
