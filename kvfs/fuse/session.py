"""The conversation with the kernel: read a request, answer it, until the mount ends.

Rules. One thread reads and answers; each request is answered before the next
is read, but for those whose handler returns None: they need no answer, or are
answered later, from any thread, by `answer`. A handler runs with the lock of
the session, and may raise anything.

Where the thread waits at last is a read of the device that blocks, so that an
idle mount costs nothing; how it waits before that is the business of its pace.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import select
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kvfs.errors import MountError
from kvfs.fuse import protocol
from kvfs.fuse.counters import Counters
from kvfs.fuse.pace import Sleep

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from kvfs.fuse.connection import Connection
    from kvfs.fuse.pace import Pace

_log = logging.getLogger(__name__)
_new: Any = tuple.__new__
"""Makes a named tuple in a third of the time that its own constructor takes."""
_MAX_WRITE = 1024 * 1024
"""Bytes of the largest write; the kernel may allow fewer."""
_BUFFER = _MAX_WRITE + 4096
_READAHEAD = 1024 * 1024
_BACKGROUND = 64
"""Requests that the kernel may have waiting for readahead and the like."""
_CONGESTED = 48
_PAGE = 4096
_COPIED = 4096
"""Answers of so many bytes are copied rather than written in parts."""
_ENDED = (errno.ENODEV, errno.ECONNABORTED)
"""There is no mount any more, or no connection to it."""
_AGAIN = (errno.ENOENT, errno.EINTR, errno.EAGAIN)
"""The request that was to be read, or answered, has been given up."""
_WANTED = (
    protocol.ASYNC_READ
    | protocol.ATOMIC_O_TRUNC
    | protocol.EXPORT_SUPPORT
    | protocol.BIG_WRITES
    | protocol.DO_READDIRPLUS
    | protocol.READDIRPLUS_AUTO
    | protocol.ASYNC_DIO
    | protocol.PARALLEL_DIROPS
    | protocol.ABORT_ERROR
    | protocol.MAX_PAGES
    | protocol.INIT_EXT
    | protocol.DIRECT_IO_ALLOW_MMAP
)
_BY_HANDLE = frozenset(
    {
        protocol.FORGET,
        protocol.BATCH_FORGET,
        protocol.INTERRUPT,
        protocol.DESTROY,
        protocol.READ,
        protocol.WRITE,
        protocol.FLUSH,
        protocol.FSYNC,
        protocol.RELEASE,
        protocol.READDIR,
        protocol.READDIRPLUS,
        protocol.FSYNCDIR,
        protocol.POLL,
        protocol.RELEASEDIR,
    }
)
"""What needs no permission but that of the open that came before."""
_COHERENT_DIRECT_IO = 39
"""The minor version (Linux 6.6) since which direct writes drop what the kernel has cached."""

_PATIENCE = 32
"""So many requests may come before what was deferred is done."""
_EPOCHS = 44
"""The minor version (Linux 6.16) since which all names can be declared stale at once."""


class Header(NamedTuple):
    """The head of a request: what it asks for, of which node, and who asks."""

    length: int
    opcode: int
    unique: int
    nodeid: int
    uid: int
    gid: int
    pid: int
    extensions: int
    padding: int


Reply = bytes | list[bytes] | None
"""The body of an answer, whole or in parts; None where there is none (yet)."""
Handler = Callable[[Header, memoryview], Reply]
"""Answers a request, given its head and its body, which is valid only during the call."""


class Apart(NamedTuple):
    """Nodes that have handlers of their own: those with numbers from `first` on, and below `end`."""

    first: int
    end: int
    handlers: Mapping[int, Handler]


_NONE_APART = Apart(1 << 64, 1 << 64, {})
_Stale = tuple[int, bytes | None]
"""A node, and a name in it; None stands for its pages."""


class _Ended(Exception):  # noqa: N818 - no error
    """Raised by a signal handler in the read that waits for the next request."""


class Session:
    """The conversation on one connection: a handshake, then requests and answers.

    `direct_io` tells, after the handshake, whether a file may be written past
    the page cache that others read it through. `counters` tell what it has done.
    """

    def __init__(
        self,
        connection: Connection,
        lock: AbstractContextManager[object],
        pace: Pace | None = None,
        allowed: frozenset[int] | None = None,
        counters: Counters | None = None,
    ) -> None:
        """Prepare to serve `connection`, waiting for requests as `pace` has it.

        Handlers run with `lock`. `allowed` are the users who may open files; None means all.
        """
        self._fd = connection.fd
        self._lock = lock
        self.mountpoint = connection.mountpoint
        self.pace = pace or Sleep()
        self.counters = counters or Counters()
        self._timed = self.counters.pending
        self._allowed = allowed
        self._handlers: dict[int, Handler] = {}
        self._apart = _NONE_APART
        self._failed: Callable[[int, Exception], int] = lambda _opcode, _error: errno.EIO
        self._ending = self._waiting = False
        self._stale: list[_Stale] = []
        self._to_forget: queue.SimpleQueue[_Stale | None] = queue.SimpleQueue()
        self._epochs = False
        self._deferred: Callable[[bool], object] | None = None
        self._patience = 0
        polled = select.poll()
        polled.register(connection.fd, select.POLLIN)
        self._poll = polled.poll
        self.direct_io = False

    def shake_hands(self) -> None:
        """Answer the first request, in which both sides say what they can.

        Raises `MountError` if the kernel is too old.
        """
        buffer = bytearray(_BUFFER)
        size = os.readv(self._fd, [buffer])
        header = Header._make(protocol.HEADER_IN.unpack_from(buffer))
        said = bytes(buffer[protocol.HEADER_IN.size : size]).ljust(protocol.INIT_IN.size, b"\0")
        major, minor, readahead, low, high = protocol.INIT_IN.unpack_from(said)
        if (major, minor) < (protocol.MAJOR, protocol.OLDEST_MINOR):
            self.answer(header.unique, errno.EPROTO)
            message = f"the kernel's FUSE has version {major}.{minor}; 7.31 (Linux 5.4) is needed"
            raise MountError(message)
        agreed = _WANTED & (low | (high << 32 if low & protocol.INIT_EXT else 0))
        self.direct_io = minor >= _COHERENT_DIRECT_IO and bool(
            agreed & protocol.DIRECT_IO_ALLOW_MMAP
        )
        self._epochs = minor >= _EPOCHS
        reply = protocol.INIT_OUT.pack(
            protocol.MAJOR,
            min(minor, protocol.MINOR),
            min(readahead, _READAHEAD),
            agreed & 0xFFFFFFFF,
            _BACKGROUND,
            _CONGESTED,
            _MAX_WRITE,
            1,  # nanoseconds: the grain of the times
            _MAX_WRITE // _PAGE,
            0,
            agreed >> 32,
            0,
            0,
            0,
        )
        self.reply(header.unique, reply)

    def serve(
        self,
        handlers: Mapping[int, Handler],
        failed: Callable[[int, Exception], int],
        apart: Apart = _NONE_APART,
    ) -> bool:
        """Answer requests until the mount is gone (True), or somebody ends the session (False).

        `handlers` answer them, by opcode, but those about a node that is `apart`;
        `failed` turns what one raises into an errno, given the opcode.
        """
        self._handlers = self._all_guarded(handlers)
        self._apart = apart._replace(handlers=self._all_guarded(apart.handlers))
        self._failed = failed
        forgetful = threading.Thread(target=self._forget_stale, name="kvfs-notify", daemon=True)
        forgetful.start()
        try:
            return self._serve()
        except _Ended:
            return False
        finally:
            self._waiting = False
            self._to_forget.put(None)

    def end(self) -> None:
        """End `serve`; for a signal handler in the thread that serves."""
        self._ending = True
        if self._waiting:
            self._waiting = False
            raise _Ended

    def answer(self, unique: int, code: int = 0) -> None:
        """Answer the request `unique` without a body; `code` is 0 or an errno."""
        if self._timed:
            self.counters.end(unique)
        if code:
            self.counters.refuse(code)
        self._send(protocol.HEADER_OUT.pack(protocol.HEADER_OUT.size, -code, unique))

    def reply(self, unique: int, answer: bytes | list[bytes]) -> None:
        """Answer the request `unique` with a body."""
        pack, size = protocol.HEADER_OUT.pack, protocol.HEADER_OUT.size
        if self._timed:
            self.counters.end(unique)  # before the client can have the CPU
        try:
            if isinstance(answer, list):
                os.writev(self._fd, [pack(size + sum(map(len, answer)), 0, unique), *answer])
            elif len(answer) > _COPIED:
                os.writev(self._fd, [pack(size + len(answer), 0, unique), answer])
            else:
                os.write(self._fd, pack(size + len(answer), 0, unique) + answer)
        except OSError as error:
            self._unsent(error)

    def defer(self, work: Callable[[bool], object]) -> None:
        """Call `work` once no request is waiting (True), or a few have come in between (False).

        For a handler, to do for several at once, and with nobody kept waiting,
        what takes long. It has one such work at a time.
        """
        self._deferred = work
        self._patience = _PATIENCE

    def wake_poll(self, kernel_handle: int) -> None:
        """Let those ask anew who wait in poll(2) for what the kernel knows by this handle."""
        self._notify(protocol.NOTIFY_POLL, protocol.POLL_WAKEUP_OUT.pack(kernel_handle))

    def forget_attributes(self, nodeid: int) -> None:
        """Make the kernel ask anew for the attributes of a node."""
        self._notify(protocol.NOTIFY_INVAL_INODE, protocol.INVAL_INODE_OUT.pack(nodeid, -1, 0))

    def forget_pages(self, nodeid: int) -> None:
        """Make the kernel forget all it knows of a node, soon after the answer."""
        self._stale.append((nodeid, None))

    def forget_pages_now(self, nodeid: int) -> None:
        """Make the kernel forget all it knows of a node; waits for those who read it.

        For other threads: those may wait for the one that serves.
        """
        self._notify(protocol.NOTIFY_INVAL_INODE, protocol.INVAL_INODE_OUT.pack(nodeid, 0, 0))

    def forget_name(self, nodeid: int, name: bytes) -> None:
        """Make the kernel forget `name` in the directory `nodeid`.

        That takes the lock of the directory, which the call that is being
        answered may hold; so it is done by another thread, soon after the
        answer. Where the kernel lets us, all names are to be asked for anew
        instead, at once, which takes no lock.
        """
        if self._epochs:
            self._notify(protocol.NOTIFY_INC_EPOCH, b"")
        else:
            self._stale.append((nodeid, name))

    def forget_name_now(self, nodeid: int, name: bytes) -> None:
        """Make the kernel forget a name; for other threads, where no call is being answered."""
        self._to_forget.put((nodeid, name))

    def _serve(self) -> bool:
        buffer = bytearray(_BUFFER)
        buffers, everything = [buffer], memoryview(buffer)
        unpack, start = protocol.HEADER_IN.unpack_from, protocol.HEADER_IN.size
        fd, readv = self._fd, os.readv
        lock, handlers, reply = self._lock, self._handlers, self.reply
        first, end, others = self._apart
        wait, header = self.pace.wait, Header(*[0] * 9)
        counts, sample = self.counters.requests, self.counters.sample
        while True:
            self._waiting = True
            if self._ending:
                return False
            try:
                wait(header)
                size = readv(fd, buffers)
            except OSError as error:
                if error.errno in _AGAIN:
                    continue
                if error.errno in _ENDED:
                    return error.errno == errno.ENODEV
                raise
            self._waiting = False
            header = _new(Header, unpack(buffer))
            try:
                opcode = header.opcode
                handler = (others if first <= header.nodeid < end else handlers)[opcode]
                counts[opcode] = count = counts[opcode] + 1
                if count <= sample or not count % sample:
                    self.counters.begin(opcode, header.unique)
                with lock:
                    answer = handler(header, everything[start:size])
                if answer is not None:
                    reply(header.unique, answer)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller is answered
                self._explain(header, error)
            if self._stale or self._deferred is not None:
                self._follow_up()

    def _follow_up(self) -> None:
        """Do what is to be done behind an answer."""
        for stale in self._stale:
            self._to_forget.put(stale)
        self._stale.clear()
        if self._deferred is not None:
            self._attend_to_deferred()

    def _attend_to_deferred(self) -> None:
        self._patience -= 1
        idle = not self._poll(0)
        if self._deferred is not None and (idle or self._patience < 0):
            work, self._deferred = self._deferred, None
            work(idle)

    def _explain(self, header: Header, error: Exception) -> None:
        """Answer a request that was refused, or that nobody handles."""
        if isinstance(error, KeyError) and header.opcode not in self._handlers:
            self.answer(header.unique, errno.ENOSYS)
        else:
            self.answer(header.unique, self._failed(header.opcode, error))

    def _all_guarded(self, handlers: Mapping[int, Handler]) -> dict[int, Handler]:
        if self._allowed is None:
            return dict(handlers)
        return {
            opcode: handler if opcode in _BY_HANDLE else self._guarded(handler)
            for opcode, handler in handlers.items()
        }

    def _guarded(self, handler: Handler) -> Handler:
        """Return `handler` for those who are let in, and a refusal for the others."""

        def guarded(header: Header, body: memoryview) -> Reply:
            if header.uid not in (self._allowed or ()):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return handler(header, body)

        return guarded

    def _send(self, message: bytes) -> None:
        try:
            os.write(self._fd, message)
        except OSError as error:
            self._unsent(error)

    def _unsent(self, error: OSError) -> None:
        """Pass over an answer that nobody waits for any more."""
        if error.errno not in (*_AGAIN, *_ENDED):
            _log.error("an answer was refused by the kernel: %s", error)

    def _notify(self, code: int, body: bytes) -> None:
        size = protocol.HEADER_OUT.size + len(body)
        try:
            os.write(self._fd, protocol.HEADER_OUT.pack(size, code, 0) + body)
        except OSError as error:
            # The kernel did not know it, or knows nothing any more.
            if error.errno not in (errno.ENOENT, errno.EBADF, *_ENDED):
                _log.error("the kernel was not told what has changed: %s", error)

    def _forget_stale(self) -> None:
        while (stale := self._to_forget.get()) is not None:
            nodeid, name = stale
            if name is None:
                self.forget_pages_now(nodeid)
            else:
                body = protocol.INVAL_ENTRY_OUT.pack(nodeid, len(name)) + name + b"\0"
                self._notify(protocol.NOTIFY_INVAL_ENTRY, body)
