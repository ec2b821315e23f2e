"""The conversation with the kernel: read a request, answer it, until the mount ends.

Rules. One thread reads and answers; each request is answered before the next
is read, but for those whose handler returns None: they need no answer, or are
answered later, from any thread, by `answer`. A handler runs with the lock of
the session, and may raise anything.

Where the thread waits is a read of the device that blocks. That costs an idle
mount nothing, and one system call a request.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from kvfs.errors import MountError
from kvfs.fuse import protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from kvfs.fuse.connection import Connection

_log = logging.getLogger(__name__)
_MAX_WRITE = 1024 * 1024
"""Bytes of the largest write; the kernel may allow fewer."""
_BUFFER = _MAX_WRITE + 4096
_READAHEAD = 1024 * 1024
_BACKGROUND = 64
"""Requests that the kernel may have waiting for readahead and the like."""
_CONGESTED = 48
_PAGE = 4096
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
        protocol.RELEASEDIR,
    }
)
"""What needs no permission but that of the open that came before."""
_COHERENT_DIRECT_IO = 39
"""The minor version (Linux 6.6) since which direct writes drop what the kernel has cached."""


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


class _Ended(Exception):  # noqa: N818 - no error
    """Raised by a signal handler in the read that waits for the next request."""


class Session:
    """The conversation on one connection: a handshake, then requests and answers.

    `direct_io` tells, after the handshake, whether a file may be written past
    the page cache that others read it through.
    """

    def __init__(
        self,
        connection: Connection,
        lock: AbstractContextManager[object],
        allowed: frozenset[int] | None = None,
    ) -> None:
        """Prepare to serve `connection`.

        Handlers run with `lock`. `allowed` are the users who may open files; None means all.
        """
        self._fd = connection.fd
        self._lock = lock
        self._allowed = allowed
        self._handlers: list[Handler | None] = []
        self._failed: Callable[[int, Exception], int] = lambda _opcode, _error: errno.EIO
        self._ending = self._waiting = False
        self._stale: queue.SimpleQueue[tuple[int, bytes | None] | None] = queue.SimpleQueue()
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
        self._reply(header.unique, reply)

    def serve(
        self, handlers: Mapping[int, Handler], failed: Callable[[int, Exception], int]
    ) -> bool:
        """Answer requests until the mount is gone (True), or somebody ends the session (False).

        `handlers` answer them, by opcode; `failed` turns what one raises into
        an errno, given the opcode.
        """
        self._handlers = [handlers.get(opcode) for opcode in range(protocol.OPCODES)]
        self._failed = failed
        forgetful = threading.Thread(target=self._forget_stale, name="kvfs-notify", daemon=True)
        forgetful.start()
        try:
            return self._serve()
        except _Ended:
            return False
        finally:
            self._waiting = False
            self._stale.put(None)

    def end(self) -> None:
        """End `serve`; for a signal handler in the thread that serves."""
        self._ending = True
        if self._waiting:
            self._waiting = False
            raise _Ended

    def answer(self, unique: int, code: int = 0) -> None:
        """Answer the request `unique` without a body; `code` is 0 or an errno."""
        self._send(protocol.HEADER_OUT.pack(protocol.HEADER_OUT.size, -code, unique))

    def forget_attributes(self, nodeid: int) -> None:
        """Make the kernel ask anew for the attributes of a node."""
        self._notify(protocol.NOTIFY_INVAL_INODE, protocol.INVAL_INODE_OUT.pack(nodeid, -1, 0))

    def forget_pages(self, nodeid: int) -> None:
        """Make the kernel forget all it knows of a node, from another thread, soon."""
        self._stale.put((nodeid, None))

    def forget_name(self, nodeid: int, name: bytes) -> None:
        """Make the kernel forget `name` in the directory `nodeid`, from another thread, soon.

        To forget a name takes the lock of its directory, which the call that
        is being answered may hold.
        """
        self._stale.put((nodeid, name))

    def _serve(self) -> bool:
        buffer = bytearray(_BUFFER)
        buffers = [buffer]
        body = memoryview(buffer)
        start = protocol.HEADER_IN.size
        unpack = protocol.HEADER_IN.unpack_from
        fd, readv, answer = self._fd, os.readv, self._answer
        while True:
            self._waiting = True
            if self._ending:
                return False
            try:
                size = readv(fd, buffers)
            except OSError as error:
                if error.errno in _AGAIN:
                    continue
                if error.errno in _ENDED:
                    return error.errno == errno.ENODEV
                raise
            self._waiting = False
            answer(Header._make(unpack(buffer)), body[start:size])

    def _answer(self, header: Header, body: memoryview) -> None:
        opcode = header.opcode
        handler = self._handlers[opcode] if opcode < protocol.OPCODES else None
        if handler is None:
            self.answer(header.unique, errno.ENOSYS)
            return
        if self._allowed is not None and self._is_refused(header):
            self.answer(header.unique, errno.EACCES)
            return
        try:
            with self._lock:
                reply = handler(header, body)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is answered
            self.answer(header.unique, self._failed(opcode, error))
        else:
            if reply is not None:
                self._reply(header.unique, reply)

    def _is_refused(self, header: Header) -> bool:
        """Tell whether one of the others asks for what needs no open file."""
        return header.uid not in (self._allowed or ()) and header.opcode not in _BY_HANDLE

    def _reply(self, unique: int, reply: bytes | list[bytes]) -> None:
        pack, size = protocol.HEADER_OUT.pack, protocol.HEADER_OUT.size
        if isinstance(reply, bytes):
            self._send(pack(size + len(reply), 0, unique) + reply)
            return
        try:
            os.writev(self._fd, [pack(size + sum(map(len, reply)), 0, unique), *reply])
        except OSError as error:
            self._unsent(error)

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
        while (stale := self._stale.get()) is not None:
            nodeid, name = stale
            if name is None:
                body = protocol.INVAL_INODE_OUT.pack(nodeid, 0, 0)
                self._notify(protocol.NOTIFY_INVAL_INODE, body)
            else:
                body = protocol.INVAL_ENTRY_OUT.pack(nodeid, len(name)) + name + b"\0"
                self._notify(protocol.NOTIFY_INVAL_ENTRY, body)
