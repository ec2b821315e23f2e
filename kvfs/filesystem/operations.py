"""The FUSE calls of a mounted store.

Rules. Every reply that shows the kernel a node counts a reference, which its
`forget` takes back. The kernel may cache everything, since nobody else changes
the store; only names below `.kvfs/`, which can move when a key changes its
place, are asked for each time.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

import pyfuse3
import trio

from kvfs.errors import KvfsError
from kvfs.filesystem.attributes import entry, missing
from kvfs.filesystem.boundary import boundary
from kvfs.filesystem.handles import Handle, Handles, Listing
from kvfs.filesystem.privileges import Caller, unprivileged
from kvfs.records import NO_ATTRS, Attrs
from kvfs.store.files import Owner
from kvfs.table import KEYS_INO, Directory, File, Node, Symlink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyfuse3 import (
        EntryAttributes,
        FileHandleT,
        FileInfo,
        FileNameT,
        FlagT,
        InodeT,
        ModeT,
        ReaddirToken,
        RequestContext,
        SetattrFields,
        StatvfsData,
        XAttrNameT,
    )

    from kvfs.filesystem.syncer import Syncer
    from kvfs.store import Store

_log = logging.getLogger(__name__)
_PERMISSIONS = 0o7777
_UNNOTICED = os.O_NOATIME | os.O_WRONLY


class Filesystem(pyfuse3.Operations):
    """Translates FUSE calls; knows the handles and nothing of formats."""

    supports_dot_lookup = True
    enable_writeback_cache = False

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

    # -- names -------------------------------------------------------------------

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
        _invalidate(places)
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
        _invalidate(places)
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
        _invalidate(places)
        return self._entry(node, lasting=self._lasting(parent_inode))

    @boundary
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Give a node another name."""
        places = self._places((new_parent_inode, new_name))
        node = self._files.node(inode)
        self._files.link(node, new_parent_inode, new_name)
        _invalidate(places)
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
        _invalidate(places)

    @boundary
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        """Return the target of a symbolic link."""
        node = self._files.node(inode)
        if not isinstance(node, Symlink):
            raise pyfuse3.FUSEError(errno.EINVAL)
        self._note_access(node)
        return pyfuse3.FileNameT(node.target)

    # -- directories ---------------------------------------------------------------

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

    # -- files -----------------------------------------------------------------------

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
            _invalidate(places)
            await trio.to_thread.run_sync(_forget_pages, node.ino)
            raise
        finally:
            self._files.closed(node.ino)

    @boundary
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:  # noqa: FBT001 - pyfuse3's
        """Bring a file to stable storage."""
        self._content.commit(self._handles[fh].node)
        await self._syncer.sync()

    # -- attributes --------------------------------------------------------------------

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

    # -- helpers -----------------------------------------------------------------------

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

    def _drop_privileges(self, node: File, caller: Caller) -> None:
        """Take what a file may not keep when `caller` changes its content.

        The kernel does it itself before a write or a truncate, but not for
        O_TRUNC, and not all of it.
        """
        if self._files.drop_privileges(
            node, unprivileged(node.mode, node.gid, caller, changed=True)
        ):
            pyfuse3.invalidate_inode(pyfuse3.InodeT(node.ino), attr_only=True)

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


def _invalidate(places: list[tuple[int, bytes]]) -> None:
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


def _forget_pages(ino: int) -> None:
    """Make the kernel forget what it knows of the node `ino`; may wait for its readers."""
    with suppress(FileNotFoundError):
        pyfuse3.invalidate_inode(pyfuse3.InodeT(ino))


def _owner(ctx: RequestContext, mode: int) -> Owner:
    return Owner(ctx.uid, ctx.gid, mode & _PERMISSIONS)
