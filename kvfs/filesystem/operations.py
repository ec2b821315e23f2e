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
from kvfs.filesystem.past import CONTROL_NAMES, END, FIRST, Past, is_past
from kvfs.filesystem.shown import Show, as_it_is
from kvfs.filesystem.stats import Statistics
from kvfs.filesystem.transactions import Transactions
from kvfs.fuse import Apart, protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvfs.filesystem.past.place import Name
    from kvfs.filesystem.syncer import Syncer
    from kvfs.fuse import Handler, Header, Reply, Session
    from kvfs.store import Store


class Filesystem(Names, Directories, Metadata):
    """Translates FUSE requests; knows the handles and nothing of formats."""

    def __init__(
        self,
        store: Store,
        session: Session,
        syncer: Syncer,
        *,
        always: bool,
        atime: bool,
        show: Show = as_it_is,
    ) -> None:
        """Serve `store`; with `always`, every close is synced; with `atime`, reading is noted.

        `show` makes of attributes those that are shown.
        """
        super().__init__(store, session, syncer, always=always, atime=atime, show=show)
        store.background.may_adopt = lambda: not self._listings
        transactions = Transactions(store, self, session)
        self.statistics = Statistics(store, session)
        """What the mount has done."""
        snapshot = self.statistics.snapshot
        self._past = Past(store, session, self.statfs, transactions, snapshot, show)

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
            protocol.OPEN: self.open if self.show is as_it_is else self.open_hidden,
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
            protocol.POLL: self.poll,
            protocol.BATCH_FORGET: self.batch_forget,
            protocol.READDIRPLUS: self.readdirplus,
            protocol.RENAME2: self.rename2,
            protocol.LSEEK: self.lseek,
        }

    def control(self, name: bytes) -> bytes:
        """Return the entry of `name` in `.kvfs`, beside the keys, or that there is none."""
        return self._past.door(name)

    def control_names(self) -> Sequence[Name]:
        """Return what `.kvfs` is listed with."""
        return CONTROL_NAMES

    def interrupt(self, header: Header, body: memoryview) -> Reply:
        """Let a call come to its end; one that waits for a change, which may never come, ends now."""
        self._past.changes.interrupt(protocol.INTERRUPT_IN.unpack_from(body)[0])
        return None

    def batch_forget(self, header: Header, body: memoryview) -> Reply:
        """Take back references to many nodes."""
        (count,) = protocol.BATCH_FORGET_IN.unpack_from(body)
        start, size = protocol.BATCH_FORGET_IN.size, protocol.FORGET_ONE.size
        pairs = body[start : start + count * size]
        for ino, references in protocol.FORGET_ONE.iter_unpack(pairs):
            forget = self._past.forget if is_past(ino) else self._files.forget
            forget(ino, references)
        return None

    def apart(self) -> Apart:
        """Return what answers the requests about nodes of the past."""
        return Apart(FIRST, END, self._past.handlers())

    def forget_expired(self, parent: int, name: bytes, ino: int) -> None:
        """Make the kernel forget a name that went by itself: see `Files.expire`; in any thread."""
        self._session.forget_attributes(parent)
        self._session.forget_attributes(ino)
        self._session.forget_name_now(parent, name)

    def tick(self) -> None:
        """Let go of what nobody uses of the past; every second, without the lock of the store."""
        self._past.tick()

    @property
    def is_followed(self) -> bool:
        """Whether somebody reads `.kvfs/changes`."""
        return self._past.changes.in_use

    def end_following(self) -> None:
        """Let those who read `.kvfs/changes` find its end."""
        self._past.changes.stop()

    def stop(self) -> None:
        """Answer no more, now that the session has ended, and let go of the past."""
        self._past.stop()
