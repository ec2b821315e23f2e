"""The FUSE calls that list directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyfuse3

from kvfs.filesystem.attributes import entry
from kvfs.filesystem.base import Base
from kvfs.filesystem.boundary import boundary
from kvfs.filesystem.handles import Listing

if TYPE_CHECKING:
    from pyfuse3 import FileHandleT, InodeT, ReaddirToken, RequestContext

    from kvfs.table import Node


class Directories(Base):
    """Directories, open to be listed."""

    @boundary
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Open a directory for listing."""
        fh = self._next_listing
        self._next_listing += 1
        self._listings[fh] = Listing(self._files.directory(inode))
        self._files.refer(inode)
        return pyfuse3.FileHandleT(fh)

    @boundary
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """List a directory from the position `start_id` of its snapshot on."""
        listing = self._listings[fh]
        directory = listing.directory
        if start_id == 0 or not listing.names:
            listing.take(self._files)
            self._note_access(directory)
        lasting = self._lasting(directory.ino)
        for position in range(start_id, len(listing.names)):
            name = listing.names[position]
            if name == b".":
                node: Node | None = directory
            elif name == b"..":
                node = self._files.parent(directory)
            else:
                node = self._files.lookup(directory.ino, name)
            if node is None:
                continue
            attributes = entry(self._files.stat(node), lasting=lasting)
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), attributes, position + 1):
                break
            if name not in (b".", b".."):
                self._files.refer(node.ino)

    @boundary
    async def releasedir(self, fh: FileHandleT) -> None:
        """Close a directory."""
        self._files.forget(self._listings.pop(fh).directory.ino)

    @boundary
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:  # noqa: FBT001 - pyfuse3's
        """Bring the names of a directory to stable storage, also those of open files."""
        self._content.commit_names(self._listings[fh].directory.ino)
        await self._syncer.sync()
