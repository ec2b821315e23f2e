"""What the FUSE requests share: the store, what is open, and what the kernel is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvfs.filesystem.attributes import attributes, entry, listed, missing, named
from kvfs.filesystem.handles import Handles, Listing
from kvfs.filesystem.past.place import NO_WAIT, Name
from kvfs.filesystem.shown import as_it_is
from kvfs.fuse import protocol
from kvfs.table import CONTROL_INO, KEYS_INO, ROOT_INO, Node, is_aside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvfs.filesystem.attributes import Attr
    from kvfs.filesystem.shown import Show
    from kvfs.filesystem.syncer import Syncer
    from kvfs.fuse import Header, Reply, Session
    from kvfs.store import Store

_CONTROL = (Name(b".", CONTROL_INO), Name(b"..", ROOT_INO), Name(b"keys", KEYS_INO))


class Base:
    """The state of a mounted store, and the ways in which its requests are answered.

    A method named after a request answers it: it gets the head of the request
    and its body, and returns the body of the answer, or None for none (yet).
    """

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
        self._files = store.files
        self.show = show
        stat_of = store.files.stat_of
        self._stat_of = stat_of if show is as_it_is else lambda ino: show(stat_of(ino))
        self._content = store.files.content
        self._session = session
        self._syncer = syncer
        self._sync_log = store.sync_log
        self._always = always
        self._atime = atime
        self._handles = Handles()
        self._counters = session.counters
        self._listings: dict[int, Listing] = {}
        self._next_listing = 1

    def statfs(self, header: Header, body: memoryview) -> Reply:
        """Return the figures of the disk below."""
        below, nodes = self._files.statvfs()
        return protocol.STATFS_OUT.pack(
            below.f_blocks,
            below.f_bfree,
            below.f_bavail,
            below.f_ffree + nodes,
            below.f_ffree,
            below.f_bsize,
            255,
            below.f_frsize,
        )

    def control(self, name: bytes) -> bytes:
        """Return the entry of `name` in `.kvfs`, beside the keys, or that there is none."""
        return missing(lasting=False)

    def control_names(self) -> Sequence[Name]:
        """Return what `.kvfs` is listed with."""
        return _CONTROL

    def interrupt(self, header: Header, body: memoryview) -> Reply:
        """Let the call that is to be interrupted come to its end: it takes no long time."""
        return None

    def poll(self, header: Header, body: memoryview) -> Reply:
        """Tell that nobody has to wait for a live file."""
        return protocol.POLL_OUT.pack(NO_WAIT)

    def _note_access(self, node: Node) -> None:
        if self._atime:
            self._files.access_times.note(node)

    _attributes = staticmethod(attributes)
    _listed = staticmethod(listed)
    _named = staticmethod(named)

    def _fields(self, ino: int, parent: int) -> Attr:
        """Return the entry of the node `ino`, counting the reference that the kernel now has."""
        # Names aside change their node by themselves.
        result = entry(self._stat_of(ino), lasting=not is_aside(parent))
        self._files.refer(ino)
        return result

    def _entry(self, ino: int, parent: int) -> bytes:
        return protocol.ENTRY_OUT.pack(*self._fields(ino, parent))

    def _places(self, parent: int, name: bytes) -> list[tuple[int, bytes]]:
        """Return the names that may change their node when a key is made by `name` aside."""
        if not is_aside(parent):
            return []
        return self._files.path_of(self._files.directory(parent), name)

    def _forget(self, places: list[tuple[int, bytes]]) -> None:
        """Make the kernel forget `places`: attributes at once, names soon after our answer."""
        for parent, name in places:
            self._session.forget_attributes(parent)
            self._session.forget_name(parent, name)

    def answer_logged(self, header: Header) -> Reply:
        """Answer once what has just been logged is as safe as a close is to make it."""
        if not self._always:
            return b""
        self._answer_synced(header)
        return None

    def secure(self) -> None:
        """Make what is logged as safe as a close is to make it, in any thread. Raises what the log says."""
        if self._always:
            self._sync_log()

    def _answer_synced(self, header: Header) -> None:
        """Answer once everything logged so far survives a power cut."""
        unique = header.unique
        self._syncer.when_synced(lambda code: self._session.answer(unique, code))
