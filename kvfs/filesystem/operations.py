"""The FUSE requests of a mounted store.

Rules. Every answer that shows the kernel a node counts a reference, which its
`forget` takes back. The kernel may cache everything, since nobody else changes
the store; only names below `.kvfs/`, which can move when a key changes its
place, are asked for each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvfs.filesystem.directories import Directories
from kvfs.filesystem.metadata import Metadata
from kvfs.filesystem.names import Names
from kvfs.filesystem.past import END, FIRST
from kvfs.fuse import Apart, protocol

if TYPE_CHECKING:
    from kvfs.fuse import Handler


class Filesystem(Names, Directories, Metadata):
    """Translates FUSE requests; knows the handles and nothing of formats."""

    def handlers(self) -> dict[int, Handler]:
        """Return what answers each request, by opcode."""
        return {
            protocol.LOOKUP: self.lookup,
            protocol.FORGET: self.forget,
            protocol.GETATTR: self.getattr,
            protocol.SETATTR: self.setattr,
            protocol.READLINK: self.readlink,
            protocol.SYMLINK: self.symlink,
            protocol.MKNOD: self.mknod,
            protocol.MKDIR: self.mkdir,
            protocol.UNLINK: self.unlink,
            protocol.RMDIR: self.rmdir,
            protocol.RENAME: self.rename,
            protocol.LINK: self.link,
            protocol.OPEN: self.open,
            protocol.READ: self.read,
            protocol.WRITE: self.write,
            protocol.STATFS: self.statfs,
            protocol.RELEASE: self.release,
            protocol.FSYNC: self.fsync,
            protocol.SETXATTR: self.setxattr,
            protocol.GETXATTR: self.getxattr,
            protocol.LISTXATTR: self.listxattr,
            protocol.REMOVEXATTR: self.removexattr,
            protocol.FLUSH: self.flush,
            protocol.OPENDIR: self.opendir,
            protocol.READDIR: self.readdir,
            protocol.RELEASEDIR: self.releasedir,
            protocol.FSYNCDIR: self.fsyncdir,
            protocol.ACCESS: self.access,
            protocol.CREATE: self.create,
            protocol.INTERRUPT: self.interrupt,
            protocol.BATCH_FORGET: self.batch_forget,
            protocol.READDIRPLUS: self.readdirplus,
            protocol.RENAME2: self.rename2,
            protocol.LSEEK: self.lseek,
        }

    def apart(self) -> Apart:
        """Return what answers the requests about nodes of the past."""
        return Apart(FIRST, END, self._past.handlers())

    def forget_expired(self, names: list[tuple[int, bytes, int]]) -> None:
        """Make the kernel forget names that went by themselves: see `Files.expire`; in any thread."""
        for parent, name, ino in names:
            self._session.forget_attributes(parent)
            self._session.forget_attributes(ino)
            self._session.forget_name_now(parent, name)

    def tick(self) -> None:
        """Let go of what nobody uses of the past; every second, without the lock of the store."""
        self._past.tick()

    def stop(self) -> None:
        """Answer no more, now that the session has ended, and let go of the past."""
        self._past.stop()
