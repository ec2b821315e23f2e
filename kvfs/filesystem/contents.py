"""The FUSE requests on open files."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from kvfs.errors import KvfsError
from kvfs.filesystem.answers import sought
from kvfs.filesystem.base import Base
from kvfs.filesystem.handles import Handle
from kvfs.filesystem.privileges import unprivileged
from kvfs.fuse import protocol

if TYPE_CHECKING:
    from kvfs.fuse import Header, Reply
    from kvfs.table import File

_UNNOTICED = os.O_NOATIME | os.O_WRONLY
_SET_ID = stat.S_ISUID | stat.S_ISGID
_WRITE_START = protocol.WRITE_IN.size


class Contents(Base):
    """Files, open to be read and written."""

    def open(self, header: Header, body: memoryview) -> Reply:
        """Open a file; O_TRUNC arrives here, and the kernel leaves all that it does to us."""
        flags, _ = protocol.OPEN_IN.unpack_from(body)
        node = self._files.file(header.nodeid)
        emptied = bool(flags & os.O_TRUNC)
        if emptied:
            self._drop_privileges(node, header)
            self._content.truncate(node, 0)
        fh, answers = self._open(node, flags, header, emptied=emptied)
        # A first read is to reach us, so that its time is noted.
        unread = self._atime and not flags & _UNNOTICED and self._files.access_times.is_due(node)
        if not unread:
            answers |= protocol.FOPEN_KEEP_CACHE
        return protocol.OPEN_OUT.pack(fh, answers, 0)

    def open_hidden(self, header: Header, body: memoryview) -> Reply:
        """Open a file of which the kernel does not see the set-id bits, and so would not clear them."""
        flags, _ = protocol.OPEN_IN.unpack_from(body)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self._drop_privileges(self._files.file(header.nodeid), header)
        return Contents.open(self, header, body)

    def _open(self, node: File, flags: int, header: Header, *, emptied: bool) -> tuple[int, int]:
        """Return a new handle of `node`, and what the kernel is told of it.

        Who only writes needs no page cache, and what is appended is logged at
        once: then there is nothing left to do at a close. Through a descriptor
        that can also read, a mapping may bring bytes until then.
        """
        handle = Handle(node, flags, emptied=emptied, opener=header.pid)
        self._files.opened(node.ino)
        answers = 0
        access = flags & os.O_ACCMODE
        if access == os.O_WRONLY and self._session.direct_io:
            answers |= protocol.FOPEN_DIRECT_IO
            handle.direct = True
        appends = access == os.O_WRONLY and flags & os.O_APPEND and not self._always
        if (access == os.O_RDONLY or appends) and not emptied:
            answers |= protocol.FOPEN_NOFLUSH
            handle.at_once = True
        return self._handles.add(handle), answers

    def read(self, header: Header, body: memoryview) -> Reply:
        """Read from a file."""
        fh, offset, size, _, flags = protocol.READ_IN.unpack_from(body)
        node = self._handles[fh].node
        data = self._content.read(node, offset, size)
        if not flags & os.O_NOATIME:
            self._note_access(node)
        self._counters.read_bytes += len(data)
        return data

    def lseek(self, header: Header, body: memoryview) -> Reply:
        """Find data, or a hole; the kernel knows the other positions itself."""
        fh, offset, whence = protocol.LSEEK_IN.unpack_from(body)
        return sought(self._content, self._handles[fh].node, offset, whence)

    def write(self, header: Header, body: memoryview) -> Reply:
        """Write to a file.

        The offset is the kernel's also with O_APPEND: it holds the lock of the
        inode and knows its true size, and it alone tells an append from the
        writeback of a mapping.
        """
        fh, offset, size, flags, _ = protocol.WRITE_IN.unpack_from(body)
        handle = self._handles[fh]
        node = handle.node
        if handle.direct and (node.mode & _SET_ID or node.xattrs):
            # Where a write passes the page cache, the kernel leaves this to us, and says who may.
            keeps = not flags & protocol.WRITE_KILL_SUIDGID
            self._drop_privileges(node, None if keeps else header)
        data = body[_WRITE_START : _WRITE_START + size]
        if handle.at_once:
            self._content.write_through(node, offset, data)
        else:
            self._content.write(node, offset, data)
            handle.written = True
        self._counters.written_bytes += size
        return protocol.WRITE_OUT.pack(size, 0)

    def flush(self, header: Header, body: memoryview) -> Reply:
        """Log what was written; comes at each close of a descriptor of the file.

        A shell that redirects duplicates the descriptor and closes one of the
        two before anything is written: then there is nothing to log yet.
        """
        handle = self._handles[protocol.HANDLE_IN.unpack_from(body)[0]]
        if not (handle.writable or handle.emptied):
            return b""
        pending = self._content.pending(handle.node)
        # What a mapping has changed comes through any handle of the file.
        if not handle.changed and (pending is None or pending.replaced):
            return b""
        if handle.emptied and not handle.written and self._handles.opener_has_it(handle):
            return b""
        self._content.commit(handle.node)
        handle.logged()
        return self.answer_logged(header)

    def release(self, header: Header, body: memoryview) -> Reply:
        """Close a file for good."""
        handle = self._handles.close(protocol.HANDLE_IN.unpack_from(body)[0])
        node = handle.node
        try:
            if handle.changed:
                self._content.commit(node)
        except KvfsError:
            # Nobody hears of it, so nobody must find later what was refused.
            self._forget(self._files.give_up(node))
            self._session.forget_pages(node.ino)
            raise
        finally:
            self._files.closed(node.ino)
        return self.answer_logged(header) if handle.changed else b""

    def fsync(self, header: Header, body: memoryview) -> Reply:
        """Bring a file to stable storage."""
        self._content.commit(self._handles[protocol.HANDLE_IN.unpack_from(body)[0]].node)
        self._answer_synced(header)
        return None

    def _drop_privileges(self, node: File, caller: Header | None) -> None:
        """Take what a file may not keep when its content changes; None may keep set-id bits.

        The kernel does it itself before most writes and a truncate, but not for
        O_TRUNC, and not all of it.
        """
        mode = node.mode
        if caller is not None:
            mode = unprivileged(mode, node.gid, caller, changed=True)
        if self._files.drop_privileges(node, mode):
            self._session.forget_attributes(node.ino)
