"""The FUSE calls that look for names, and make, remove and move them."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

import pyfuse3

from kvfs.filesystem.attributes import missing
from kvfs.filesystem.base import Base, invalidate
from kvfs.filesystem.boundary import boundary
from kvfs.store.files import Owner
from kvfs.table import Symlink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyfuse3 import EntryAttributes, FileInfo, FileNameT, FlagT, InodeT, ModeT, RequestContext

_PERMISSIONS = 0o7777


class Names(Base):
    """Names and links."""

    @boundary
    async def lookup(
        self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Find a name; "." of any node is the node, for open_by_handle_at(2)."""
        files = self._files
        if name == b".":
            return self._entry(files.node(parent_inode), lasting=True)
        if name == b"..":
            return self._entry(files.parent(files.directory(parent_inode)), lasting=True)
        lasting = self._lasting(parent_inode)
        node = files.lookup(parent_inode, name)
        return missing(lasting=lasting) if node is None else self._entry(node, lasting=lasting)

    @boundary
    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Take back references."""
        for ino, count in inode_list:
            self._files.forget(ino, count)

    @boundary
    async def create(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        """Make a file and open it."""
        places = self._places((parent_inode, name))
        node = self._files.create(parent_inode, name, _owner(ctx, mode))
        fh = self._open(node, flags, ctx, emptied=True)
        invalidate(places)
        return pyfuse3.FileInfo(fh=fh), self._entry(node, lasting=self._lasting(parent_inode))

    @boundary
    async def mknod(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        rdev: int,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Make a FIFO, socket, device, or a file that nobody opens."""
        places = self._places((parent_inode, name))
        kind = stat.S_IFMT(mode)
        node = self._files.mknod(parent_inode, name, _owner(ctx, mode), kind, rdev)
        invalidate(places)
        return self._entry(node, lasting=self._lasting(parent_inode))

    @boundary
    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a directory."""
        node = self._files.mkdir(parent_inode, name, _owner(ctx, mode))
        return self._entry(node, lasting=self._lasting(parent_inode))

    @boundary
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a symbolic link."""
        places = self._places((parent_inode, name))
        node = self._files.symlink(parent_inode, name, target, _owner(ctx, 0))
        invalidate(places)
        return self._entry(node, lasting=self._lasting(parent_inode))

    @boundary
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Give a node another name."""
        places = self._places((new_parent_inode, new_name))
        node = self._files.node(inode)
        self._files.link(node, new_parent_inode, new_name)
        invalidate(places)
        return self._entry(node, lasting=self._lasting(new_parent_inode))

    @boundary
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """Remove a name."""
        self._files.unlink(parent_inode, name)

    @boundary
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """Remove an empty directory."""
        self._files.rmdir(parent_inode, name)

    @boundary
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        """Move a name."""
        places = self._places((parent_inode_new, name_new))
        self._files.rename((parent_inode_old, name_old), (parent_inode_new, name_new), flags)
        invalidate(places)

    @boundary
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        """Return the target of a symbolic link."""
        node = self._files.node(inode)
        if not isinstance(node, Symlink):
            raise pyfuse3.FUSEError(errno.EINVAL)
        self._note_access(node)
        return pyfuse3.FileNameT(node.target)


def _owner(ctx: RequestContext, mode: int) -> Owner:
    return Owner(ctx.uid, ctx.gid, mode & _PERMISSIONS)
