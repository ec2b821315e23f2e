"""The FUSE calls on open files."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pyfuse3
import trio

from kvfs.errors import KvfsError
from kvfs.filesystem.base import Base, invalidate
from kvfs.filesystem.boundary import boundary
from kvfs.filesystem.privileges import Caller, unprivileged

if TYPE_CHECKING:
    from pyfuse3 import FileHandleT, FileInfo, FlagT, InodeT, RequestContext

    from kvfs.table import File

_UNNOTICED = os.O_NOATIME | os.O_WRONLY


class Contents(Base):
    """Files, open to be read and written."""

    @boundary
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """Open a file; O_TRUNC arrives here, and the kernel leaves all that it does to us."""
        node = self._files.file(inode)
        emptied = bool(flags & os.O_TRUNC)
        if emptied:
            self._drop_privileges(node, Caller.of(ctx))
            self._content.truncate(node, 0)
        # A first read is to reach us, so that its time is noted.
        unread = self._atime and not flags & _UNNOTICED and self._files.access_times.is_due(node)
        fh = self._open(node, flags, ctx, emptied=emptied)
        return pyfuse3.FileInfo(fh=fh, keep_cache=not unread)

    @boundary
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Read from a file."""
        handle = self._handles[fh]
        data = self._content.read(handle.node, off, size)
        if handle.noticed:
            self._note_access(handle.node)
        return data

    @boundary
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        """Write to a file.

        The offset is the kernel's also with O_APPEND: it holds the lock of the
        inode and knows its true size, and it alone tells an append from the
        writeback of a mapping.
        """
        handle = self._handles[fh]
        self._content.write(handle.node, off, buf)
        handle.written = True
        return len(buf)

    @boundary
    async def flush(self, fh: FileHandleT) -> None:
        """Log what was written; comes at each close of a descriptor of the file.

        A shell that redirects duplicates the descriptor and closes one of the
        two before anything is written: then there is nothing to log yet.
        """
        handle = self._handles[fh]
        if not (handle.writable or handle.emptied):
            return
        pending = self._content.pending(handle.node)
        # What a mapping has changed comes through any handle of the file.
        if not handle.changed and (pending is None or pending.replaced):
            return
        if handle.emptied and not handle.written and self._handles.opener_has_it(handle):
            return
        self._content.commit(handle.node)
        handle.logged()
        if self._always:
            await self._syncer.sync()

    @boundary
    async def release(self, fh: FileHandleT) -> None:
        """Close a file for good."""
        handle = self._handles.close(fh)
        node = handle.node
        try:
            if handle.changed:
                self._content.commit(node)
                if self._always:
                    await self._syncer.sync()
        except KvfsError:
            # Nobody hears of it, so nobody must find later what was refused.
            places = self._files.give_up(node)
            invalidate(places)
            await trio.to_thread.run_sync(_forget_pages, node.ino)
            raise
        finally:
            self._files.closed(node.ino)

    @boundary
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:  # noqa: FBT001 - pyfuse3's
        """Bring a file to stable storage."""
        self._content.commit(self._handles[fh].node)
        await self._syncer.sync()

    def _drop_privileges(self, node: File, caller: Caller) -> None:
        """Take what a file may not keep when `caller` changes its content.

        The kernel does it itself before a write or a truncate, but not for
        O_TRUNC, and not all of it.
        """
        if self._files.drop_privileges(
            node, unprivileged(node.mode, node.gid, caller, changed=True)
        ):
            pyfuse3.invalidate_inode(pyfuse3.InodeT(node.ino), attr_only=True)


def _forget_pages(ino: int) -> None:
    """Make the kernel forget what it knows of the node `ino`; may wait for its readers."""
    with suppress(FileNotFoundError):
        pyfuse3.invalidate_inode(pyfuse3.InodeT(ino))
