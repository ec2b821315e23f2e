"""Transactions in the mount: `.kvfs/tx`, and `.kvfs/commit`.

A directory that is made in `.kvfs/tx` is the root of a transaction: what is
done below it is done to the store when it is renamed to `.kvfs/commit`, and
never if it is removed, or the mount ends before. Below it the same code serves
as below the root of the mount, over a store of its own (`Staging`); only the
numbers of nodes are others, as with views of the past.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any

from kvfs import keys
from kvfs.disk import Disk
from kvfs.errors import ConflictError, KvfsError, PosixError
from kvfs.filesystem.attributes import attributes, entry, listed, missing, named
from kvfs.filesystem.directories import Directories
from kvfs.filesystem.metadata import Metadata
from kvfs.filesystem.names import Names
from kvfs.filesystem.past.later import alone
from kvfs.filesystem.past.numbers import TRANSACTIONS, number_of, split
from kvfs.filesystem.past.place import Name, Place, directory
from kvfs.filesystem.shown import as_it_is
from kvfs.fuse import protocol
from kvfs.store.files import RENAME_NOREPLACE
from kvfs.store.ground import Grounds
from kvfs.store.staged import StagedStore
from kvfs.table import CONTROL_INO, ROOT_INO, is_aside

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.filesystem.attributes import Attr
    from kvfs.filesystem.base import Base
    from kvfs.filesystem.shown import Show
    from kvfs.filesystem.syncer import Done
    from kvfs.fuse import Header, Reply, Session
    from kvfs.store import Store
    from kvfs.store.nodes import Stat
    from kvfs.store.transaction import Transaction

MOST = 64
"""So many transactions are open at once."""
_COMMIT = b"commit"
_log = logging.getLogger(__name__)


class _Told:
    """The session, as it is told of nodes by the numbers that they have in a transaction."""

    def __init__(self, session: Session, number: int) -> None:
        self._session = session
        self._number = number
        self.direct_io = session.direct_io
        self.answer = session.answer
        self.counters = session.counters

    def forget_attributes(self, ino: int) -> None:
        self._session.forget_attributes(number_of(self._number, ino))

    def forget_pages(self, ino: int) -> None:
        self._session.forget_pages(number_of(self._number, ino))

    def forget_name(self, ino: int, name: bytes) -> None:
        self._session.forget_name(number_of(self._number, ino), name)


class _AtOnce:
    """Tells those who wait for a sync that there is nothing to wait for: nothing is logged yet."""

    def when_synced(self, done: Done) -> None:
        done(0)


class Staging(Names, Directories, Metadata):
    """The file system of one transaction; `number` is that of its nodes, as of a view."""

    def __init__(self, store: StagedStore, session: Session, number: int, show: Show) -> None:
        """Serve what is staged in `store`, with attributes as `show` has them."""
        told: Any = _Told(session, number)
        at_once: Any = _AtOnce()
        super().__init__(store, told, at_once, always=False, atime=False, show=show)
        self._number = number

    def open(self, header: Header, body: memoryview) -> Reply:
        """Open a file; see `open_hidden`."""
        if self.show is as_it_is:
            return super().open(header, body)
        return self.open_hidden(header, body)

    def answer(self, request: str, header: Header, body: memoryview) -> Reply:
        """Answer a request, by its name in small letters; its node is as the store knows it."""
        reply: Reply = getattr(self, request)(header, body)
        return reply

    def forget_node(self, ino: int, count: int) -> None:
        """Take back references to the node `ino`."""
        self._files.forget(ino, count)

    def known(self) -> int:
        """Return how many references the kernel has."""
        return self._files.references()

    def root(self) -> Attr:
        """Return the entry of the root, counting the reference that the kernel now has."""
        fields = self._fields(ROOT_INO, ROOT_INO)
        return (*fields[:2], 0, *fields[3:])

    def link(self, header: Header, body: memoryview) -> Reply:
        """Give a node of this transaction another name."""
        ino = self._own(protocol.LINK_IN.unpack_from(body)[0])
        name = body[protocol.LINK_IN.size :].tobytes()
        return super().link(header, memoryview(protocol.LINK_IN.pack(ino) + name))

    def _rename(self, parent: int, target: int, names: memoryview, flags: int) -> Reply:
        return super()._rename(parent, self._own(target), names, flags)

    def _attributes(self, found: Stat) -> bytes:
        return attributes(self._shown(found))

    def _fields(self, ino: int, parent: int) -> Attr:
        result = entry(self._shown(self._files.stat_of(ino)), lasting=not is_aside(parent))
        self._files.refer(ino)
        return result

    def _named(self, ino: int, mode: int, name: bytes, position: int) -> bytes:
        return named(number_of(self._number, ino), mode, name, position)

    def _listed(self, found: Stat, name: bytes, position: int, *, lasting: bool) -> bytes:
        return listed(self._shown(found), name, position, lasting=lasting)

    def _shown(self, found: Stat) -> Stat:
        return self.show(found)._replace(ino=number_of(self._number, found.ino))

    def _own(self, number: int) -> int:
        """Return what the store knows the node `number` by. Raises `PosixError` EXDEV for another's."""
        view, ino = split(number)
        if view != self._number:
            raise PosixError(errno.EXDEV)
        return ino


class Transactions(Place):
    """`.kvfs/tx`, and the transactions in it, in `staged` by the number of their nodes."""

    def __init__(self, store: Store, live: Base, session: Session) -> None:
        """Change `store`, which `live` serves to `session`."""
        super().__init__(live.statfs)
        self._store = store
        self._live = live
        self._session = session
        self.stat = directory(TRANSACTIONS, 0o755, store.config.created)
        self.staged: dict[int, Staging] = {}
        self._grounds = Grounds(Disk(), store.path)
        self._begun: dict[bytes, tuple[int, Transaction]] = {}
        self.known: dict[int, int] = {}
        """How many references the kernel has to nodes of transactions that are over."""
        self.free_number: Callable[[], int]
        self.give_back: Callable[[int], object]

    def close(self) -> None:
        """Forget all that is not committed."""
        for name in list(self._begun):
            self._end(name)
        self._grounds.close()

    def tidy(self) -> None:
        """Close what nobody has needed for long; without the lock of the store."""
        self._grounds.tidy()

    def getattr(self, header: Header, body: memoryview) -> Reply:
        """Return the attributes of the directory."""
        return attributes(self._live.show(self.stat))

    def opendir(self, header: Header, body: memoryview) -> Reply:
        """Open the directory for listing."""
        return self._list([Name(name) for name in sorted(self._begun)], TRANSACTIONS, CONTROL_INO)

    def lookup(self, header: Header, body: memoryview) -> Reply:
        """Find a transaction."""
        name = body[:-1].tobytes()
        if name == b".":
            return protocol.ENTRY_OUT.pack(*entry(self._live.show(self.stat), lasting=True))
        return self._root(name) if name in self._begun else missing(lasting=False)

    def mkdir(self, header: Header, body: memoryview) -> Reply:
        """Begin a transaction."""
        name = body[protocol.MKDIR_IN.size : -1].tobytes()
        if len(name) > keys.MAX_NAME:
            raise PosixError(errno.ENAMETOOLONG)
        if name in self._begun:
            raise PosixError(errno.EEXIST)
        if len(self._begun) >= MOST:
            raise PosixError(errno.ENFILE)
        self._store.check_healthy()
        number = self.free_number()
        try:
            transaction = self._store.transaction()
        except KvfsError:
            self.give_back(number)
            raise
        begun = self._begun[name] = number, transaction

        def opened() -> Any:
            try:
                return StagedStore(self._grounds.take())
            except BaseException:
                with self._store.lock:
                    if self._begun.get(name) is begun:
                        self._end(name)
                raise

        def begin(staged: Any) -> Reply:
            transaction.begin(staged)
            if self._begun.get(name) is not begun:
                self._close(staged)  # the mount has ended meanwhile
                raise PosixError(errno.ENOENT)
            self.staged[number] = Staging(staged, self._session, number, self._live.show)
            return self._root(name)

        raise alone(header, opened, begin)

    def rmdir(self, header: Header, body: memoryview) -> Reply:
        """Forget a transaction, with all that is in it."""
        self._find(body[:-1].tobytes())
        self._end(body[:-1].tobytes())
        return b""

    def rename(self, header: Header, body: memoryview) -> Reply:
        """Commit a transaction, by giving it the name `.kvfs/commit`."""
        (target,) = protocol.RENAME_IN.unpack_from(body)
        return self._move(header, target, body[protocol.RENAME_IN.size :])

    def rename2(self, header: Header, body: memoryview) -> Reply:
        """Do the same, as mv(1) asks for it."""
        target, flags = protocol.RENAME2_IN.unpack_from(body)
        if flags & ~RENAME_NOREPLACE:
            raise PosixError(errno.EINVAL)
        return self._move(header, target, body[protocol.RENAME2_IN.size :])

    def _move(self, header: Header, target: int, names: memoryview) -> Reply:
        name, new, _ = names.tobytes().split(b"\0")
        if (target, new) != (CONTROL_INO, _COMMIT):
            raise PosixError(errno.EPERM)
        try:
            places = self._find(name).commit()
        except ConflictError as error:
            _log.info("transaction %s: %s", name.decode(errors="backslashreplace"), error)
            raise
        self._end(name)
        for parent, changed, _ in places:
            self._session.forget_attributes(parent)
            self._session.forget_name(parent, changed)

        def forget() -> None:
            """Let who has a file open find nothing of before in it."""
            for ino in {ino for _, _, ino in places if ino}:
                self._session.forget_pages_now(ino)
            self._live.secure()

        raise alone(header, forget, lambda _done: b"")

    def _root(self, name: bytes) -> bytes:
        """Return the entry of the root of a transaction, which is asked for each time."""
        number, _ = self._begun[name]
        staging = self.staged.get(number)
        if staging is None:
            return missing(lasting=False)
        fields = staging.root()
        return protocol.ENTRY_OUT.pack(*fields)

    def _find(self, name: bytes) -> Transaction:
        number, transaction = self._begun.get(name, (0, None))
        if transaction is None or number not in self.staged:
            raise PosixError(errno.ENOENT)
        return transaction

    def forget(self, number: int, count: int) -> None:
        """Take back references to nodes of the transaction `number`, which is over.

        Without any, another one may have its number.
        """
        left = self.known.pop(number, 0) - count
        if left > 0:
            self.known[number] = left
        else:
            self.give_back(number)

    def _end(self, name: bytes) -> None:
        number, transaction = self._begun.pop(name)
        transaction.end()
        staging = self.staged.pop(number, None)
        if staging:
            self.known[number] = staging.known()
            self._close(transaction.staged)
        self.forget(number, 0)

    def _close(self, staged: StagedStore) -> None:
        staged.close()
        self._grounds.release(staged.staged.ground)
