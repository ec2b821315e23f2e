"""The FUSE calls that show and set attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyfuse3

from kvfs.errors import KvfsError
from kvfs.filesystem.attributes import entry
from kvfs.filesystem.base import Base
from kvfs.filesystem.boundary import boundary
from kvfs.filesystem.privileges import Caller, unprivileged
from kvfs.records import NO_ATTRS, Attrs
from kvfs.table import File

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyfuse3 import (
        EntryAttributes,
        FileHandleT,
        InodeT,
        RequestContext,
        SetattrFields,
        StatvfsData,
        XAttrNameT,
    )

_PERMISSIONS = 0o7777


class Metadata(Base):
    """Modes, owners, times, sizes, extended attributes, and the disk below."""

    @boundary
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Return the attributes of a node."""
        return entry(self._files.stat(self._files.node(inode)))

    @boundary
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Set the flagged attributes."""
        node = self._files.node(inode)
        attrs = Attrs(
            mode=attr.st_mode & _PERMISSIONS if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            atime=attr.st_atime_ns if fields.update_atime else None,
            mtime=attr.st_mtime_ns if fields.update_mtime else None,
        )
        # With no field at all it is chown(-1, -1), which is a change all the same, or comes
        # before a write that is to take a set-group-id bit.
        changed = fields.update_uid or fields.update_gid or fields.update_size or attrs == NO_ATTRS
        if isinstance(node, File) and (changed or fields.update_mode):
            mode = node.mode if attrs.mode is None else attrs.mode
            left = unprivileged(mode, node.gid, Caller.of(ctx), changed=changed)
            if left != mode:
                attrs = attrs._replace(mode=left & _PERMISSIONS)
        if fields.update_size:
            self._truncate(self._files.file(inode), attr.st_size, fh)
        if attrs != NO_ATTRS or not fields.update_size:
            self._files.setattr(node, attrs)
        return entry(self._files.stat(node))

    @boundary
    async def setxattr(
        self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext
    ) -> None:
        """Set an extended attribute."""
        self._files.setxattr(self._files.node(inode), name, value)

    @boundary
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        """Return an extended attribute."""
        return self._files.getxattr(self._files.node(inode), name)

    @boundary
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        """Return the names of the extended attributes; those of root only to root."""
        names = self._files.node(inode).xattrs or ()
        return [
            pyfuse3.XAttrNameT(name)
            for name in names
            if ctx.uid == 0 or not name.startswith(b"trusted.")
        ]

    @boundary
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        """Remove an extended attribute."""
        self._files.removexattr(self._files.node(inode), name)

    @boundary
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Return the figures of the disk below."""
        below, nodes = self._files.statvfs()
        result = pyfuse3.StatvfsData()
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_ffree"):
            setattr(result, name, getattr(below, name))
        result.f_favail = below.f_favail
        result.f_files = below.f_ffree + nodes
        result.f_namemax = 255
        return result

    def _truncate(self, file: File, size: int, fh: FileHandleT | None) -> None:
        self._content.truncate(file, size)
        if fh is not None:
            self._handles[fh].written = True
            return
        try:
            self._content.commit(file)
        except KvfsError:
            self._files.give_up(file)
            raise
