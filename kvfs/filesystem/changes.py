"""`.kvfs/changes`: what changes in the store, for whoever can read a file.

Whoever opens it gets a line of JSON for each change from then on, those that
`kvfs watch --json` prints; `.kvfs/changes.SEQ` begins with change SEQ. Each that
is open has a thread of its own, which follows the log (see `kvfs.store.feed`):
so nobody waits for a slow reader, and where nobody reads, nothing is done.

What has been read and what is ready makes a file that grows, which each that opens it
has for itself, as a node that nobody else is led to. A read at its end waits for more, unless the reader says
O_NONBLOCK, or has looked for the end with lseek(2), as those do that want what is there. The last of what was read is kept: `head` and the
shell go back to behind the line that they have used.
"""

from __future__ import annotations

import errno
import os
import re
import select
import stat
import threading
import time
from typing import TYPE_CHECKING

from kvfs.errors import PastGoneError, PosixError
from kvfs.filesystem.attributes import attr
from kvfs.filesystem.boundary import errno_of
from kvfs.filesystem.past.later import alone
from kvfs.filesystem.past.numbers import CHANGES, FIRST_CHANGES
from kvfs.filesystem.past.place import Place, entry_flags
from kvfs.fuse import protocol
from kvfs.store.feed import Feed
from kvfs.store.listing import told
from kvfs.store.nodes import Stat

if TYPE_CHECKING:
    from kvfs.fuse import Handler, Header, Reply, Session
    from kvfs.store import Store

_NAME = re.compile(rb"changes(?:\.(0|[1-9][0-9]{0,17}))?")
_MODE = stat.S_IFREG | 0o400
"""What changes is for the owner alone: it names what is in directories of others, too."""
_KEPT = 64 * 1024
"""Bytes of what was read that are kept."""
_AHEAD = 256 * 1024
"""Bytes that are ready at most, if nobody reads them."""
_READABLE = select.POLLIN | select.POLLRDNORM


class _Watcher:
    """One open file: what it has so far, from the byte `start` on, and who waits for more.

    `problem` says why there will not be more, if so: an errno, or 0 at the end.
    """

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.start = self.position = 0
        self.data = bytearray()
        self.time = time.time_ns()
        self.waiting: list[tuple[int, int, int]] = []
        """Reads: their request, offset and size."""
        self.polls: set[int] = set()
        self.wants_end = False
        """Whether it was asked for its size, which it must have reached some time."""
        self.problem: int | None = None

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    @property
    def is_full(self) -> bool:
        return self.end - self.position >= _AHEAD

    @property
    def is_readable(self) -> bool:
        return self.end > self.position or self.problem is not None

    def answer(self, offset: int, size: int) -> bytes | None:
        """Return what a read gets, whole lines if one fits; None if it has to wait.

        Raises `PosixError`.
        """
        if offset < self.start:
            raise PosixError(errno.EINVAL)  # what was there is not kept any more
        if offset >= self.end:
            if self.problem:
                raise PosixError(self.problem)
            return None if self.problem is None else b""
        begin = offset - self.start
        piece = bytes(self.data[begin : begin + size])
        piece = piece[: piece.rfind(b"\n") + 1] or piece
        self.position = offset + len(piece)
        extra = self.position - _KEPT - self.start
        if extra > _KEPT:
            del self.data[:extra]
            self.start += extra
        return piece


class _Node:
    """A file that somebody was led to: with which change it begins, and what opened it last."""

    def __init__(self, from_: int | None) -> None:
        self.from_ = from_
        self.references = 0
        self.time = time.time_ns()
        self.watcher: _Watcher | None = None


class Changes(Place):
    """The files that tell the changes of one store."""

    def __init__(self, store: Store, session: Session, statfs: Handler) -> None:
        """Tell what changes in `store`, and answer by `session` those who have waited."""
        super().__init__(statfs)
        self._path = store.path
        self._session = session
        self._nodes: dict[int, _Node] = {}
        self._next_number = FIRST_CHANGES
        self._watchers: dict[int, _Watcher] = {}
        self._changed = threading.Condition()
        """For all watchers; taken by the thread that serves, and by theirs."""

    # -- names ---------------------------------------------------------------------

    def find(self, name: bytes) -> bytes | None:
        """Return the entry of a node of its own for `name`, if it is one of the names of these files."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        number = self._next_number
        self._next_number += 1
        self._nodes[number] = _Node(None if match[1] is None else int(match[1]))
        return self._entry(number)

    def lookup(self, header: Header, body: memoryview) -> Reply:
        """Find the file itself."""
        if body[:-1].tobytes() != b".":
            raise PosixError(errno.ENOTDIR)
        return self._entry(header.nodeid)

    def forget(self, number: int, count: int) -> None:
        """Take back `count` references to a node."""
        node = self._nodes.get(number)
        if node:
            node.references -= count
            if node.references <= 0:
                del self._nodes[number]

    def getattr(self, header: Header, body: memoryview) -> Reply:
        """Return the attributes of a file, which hold for no time."""
        flags, fh = protocol.GETATTR_IN.unpack_from(body)
        if flags & protocol.GETATTR_FH:
            self._watchers[fh].wants_end = True
        return protocol.ATTR_OUT.pack(0, 0, 0, *attr(_stat(self._node(header.nodeid))))

    def opendir(self, header: Header, body: memoryview) -> Reply:
        """Refuse: it is a file."""
        raise PosixError(errno.ENOTDIR)

    # -- reading -------------------------------------------------------------------

    def open(self, header: Header, body: memoryview) -> Reply:
        """Begin to follow the log, from here on or from the change that the name says."""
        entry_flags(protocol.OPEN_IN.unpack_from(body)[0])
        node = self._node(header.nodeid)
        raise alone(
            header,
            lambda: Feed(self._path, node.from_),
            lambda feed: self._opened(node, feed),
        )

    def _opened(self, node: _Node, feed: Feed) -> bytes:
        watcher = node.watcher = _Watcher(feed)
        thread = threading.Thread(
            target=self._run, args=(watcher,), name="kvfs-changes", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            feed.close()
            raise PosixError(errno.EAGAIN) from None
        fh = self._next
        self._next += 1
        self._watchers[fh] = watcher
        return protocol.OPEN_OUT.pack(fh, protocol.FOPEN_DIRECT_IO | protocol.FOPEN_NOFLUSH, 0)

    def read(self, header: Header, body: memoryview) -> Reply:
        """Return whole lines; where there are none yet, that comes later."""
        fh, offset, size, _, flags = protocol.READ_IN.unpack_from(body)
        watcher = self._watchers[fh]
        with self._changed:
            answer = watcher.answer(offset, size)
            if answer is not None:
                self._changed.notify_all()
                return answer
            if flags & os.O_NONBLOCK:
                raise PosixError(errno.EAGAIN)
            if watcher.wants_end:
                watcher.wants_end = False
                return b""
            watcher.waiting.append((header.unique, offset, size))
        return None

    def poll(self, header: Header, body: memoryview) -> Reply:
        """Tell whether there is something to be read; where not, the kernel is told once there is."""
        fh, kernel_handle, flags, _ = protocol.POLL_IN.unpack_from(body)
        watcher = self._watchers[fh]
        with self._changed:
            if not watcher.is_readable and flags & protocol.POLL_SCHEDULE_NOTIFY:
                watcher.polls.add(kernel_handle)
            return protocol.POLL_OUT.pack(_READABLE if watcher.is_readable else 0)

    def interrupt(self, unique: int) -> None:
        """Let the read `unique` wait no more, if it does: its caller has got a signal."""
        with self._changed:
            for watcher in self._watchers.values():
                for read in watcher.waiting:
                    if read[0] == unique:
                        watcher.waiting.remove(read)
                        self._session.answer(unique, errno.EINTR)
                        return

    def release(self, header: Header, body: memoryview) -> Reply:
        """Close a file."""
        watcher = self._watchers.pop(protocol.HANDLE_IN.unpack_from(body)[0])
        self._end(watcher)
        return b""

    @property
    def in_use(self) -> bool:
        """Whether anybody has such a file open."""
        return bool(self._watchers)

    def stop(self) -> None:
        """Let all who read find the end; for any thread."""
        for watcher in list(self._watchers.values()):
            self._end(watcher)

    # -- helpers -------------------------------------------------------------------

    def _end(self, watcher: _Watcher) -> None:
        with self._changed:
            if watcher.problem is None:
                watcher.problem = 0
                watcher.feed.stop()
            self._tell(watcher)
            self._changed.notify_all()

    def _run(self, watcher: _Watcher) -> None:
        """Read on in the log, for as long as the file is open."""
        problem = 0
        try:
            for change in watcher.feed:
                line = told(change).encode() + b"\n"
                with self._changed:
                    self._changed.wait_for(
                        lambda: not watcher.is_full or watcher.problem is not None
                    )
                    if watcher.problem is not None:
                        break
                    watcher.data += line
                    watcher.time = time.time_ns()
                    self._tell(watcher)
        except PastGoneError:
            problem = errno.ESTALE  # it was read too slowly, or the log is another one
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader is told
            problem = errno_of(protocol.READ, error)
        with self._changed:
            watcher.problem = watcher.problem or problem
            watcher.feed.close()
            self._tell(watcher)

    def _tell(self, watcher: _Watcher) -> None:
        """Answer those who wait for what is there now."""
        waiting, watcher.waiting = watcher.waiting, []
        for unique, offset, size in waiting:
            try:
                answer = watcher.answer(offset, size)
            except PosixError as error:
                self._session.answer(unique, errno_of(protocol.READ, error))
                continue
            if answer is None:
                watcher.waiting.append((unique, offset, size))
            else:
                self._session.reply(unique, answer)
        if watcher.is_readable:
            for kernel_handle in watcher.polls:
                self._session.wake_poll(kernel_handle)
            watcher.polls.clear()

    def _node(self, number: int) -> _Node:
        try:
            return self._nodes[number]
        except KeyError:
            raise PosixError(errno.ENOENT) from None

    def _entry(self, number: int) -> bytes:
        """Return the entry of a node, which holds for no time, counting a reference."""
        node = self._node(number)
        node.references += 1
        return protocol.ENTRY_OUT.pack(number, 0, 0, 0, 0, 0, *attr(_stat(node)))


def _stat(node: _Node) -> Stat:
    """Return the attributes of a node; all have one inode number, being one file to those who look."""
    owner = os.geteuid(), os.getegid()
    watcher = node.watcher
    when, size = (watcher.time, watcher.end) if watcher else (node.time, 0)
    return Stat(CHANGES, _MODE, 1, *owner, 0, size, -(-size // 512), when, when, when)
