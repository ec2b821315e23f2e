import errno
import os
import signal
import socket
import struct
import threading
from contextlib import contextmanager

import pytest

from kvfs.errors import MountError
from kvfs.fuse import Apart, Connection, Session, protocol
from kvfs.fuse.counters import SAMPLE

PATIENCE = 20.0
ROOT = 1


class Kernel:
    """The other end of the device: a socket that keeps the bounds of messages, as the device does."""

    def __init__(self):
        self.socket, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        self.connection = Connection(ours.detach(), "/nowhere")
        self._unique = 0

    def ask(self, opcode, body=b"", nodeid=ROOT, uid=0):
        self._unique += 2
        length = protocol.HEADER_IN.size + len(body)
        header = (length, opcode, self._unique, nodeid, uid, 0, 0, 0, 0)
        self.socket.send(protocol.HEADER_IN.pack(*header) + body)
        return self._unique

    def hear(self):
        message = self.socket.recv(1 << 20)
        length, error, unique = protocol.HEADER_OUT.unpack_from(message)
        assert length == len(message)
        return unique, -error, message[protocol.HEADER_OUT.size :]

    def close(self):
        self.socket.close()


@pytest.fixture
def kernel():
    made = Kernel()
    yield made
    made.close()
    made.connection.close()


def init(major=7, minor=45, flags=0xFFFFFFFF, more=0xFFFFFFFF):
    return struct.pack("=IIIII", major, minor, 131072, flags, more) + bytes(44)


@contextmanager
def serving(
    kernel, handlers, failed=lambda _opcode, _error: errno.EIO, *more, minor=44, allowed=None
):
    """Serve in a thread; the session ends as the connection does."""
    session = Session(kernel.connection, threading.Lock(), None, allowed)
    kernel.ask(protocol.INIT, init(minor=minor))
    session.shake_hands()
    kernel.hear()
    ended = []
    thread = threading.Thread(target=lambda: ended.append(session.serve(handlers, failed, *more)))
    thread.start()
    try:
        yield session
    finally:
        session._ending = True
        kernel.ask(protocol.DESTROY)
        thread.join(PATIENCE)
        assert ended == [False]


def test_the_handshake_agrees_on_what_both_can(kernel):
    session = Session(kernel.connection, threading.Lock())
    asked = kernel.ask(protocol.INIT, init())
    session.shake_hands()
    unique, error, body = kernel.hear()
    assert (unique, error, len(body)) == (asked, 0, 64)
    major, minor, readahead, flags = struct.unpack_from("=IIII", body)
    assert (major, minor, readahead) == (7, protocol.MINOR, 131072)
    assert flags & protocol.ATOMIC_O_TRUNC
    assert session.direct_io


@pytest.mark.parametrize(
    ("minor", "flags", "more"),
    [(38, 0xFFFFFFFF, 0xFFFFFFFF), (45, 0x3FFFFFFF, 0xFFFFFFFF), (45, 0xFFFFFFFF, 0)],
)
def test_direct_io_needs_a_kernel_that_keeps_it_coherent(kernel, minor, flags, more):
    session = Session(kernel.connection, threading.Lock())
    kernel.ask(protocol.INIT, init(minor=minor, flags=flags, more=more))
    session.shake_hands()
    assert not session.direct_io


def test_what_the_kernel_cannot_is_not_asked_for(kernel):
    session = Session(kernel.connection, threading.Lock())
    kernel.ask(protocol.INIT, struct.pack("=IIII", 7, 31, 4096, 0))
    session.shake_hands()
    _, error, body = kernel.hear()
    _, minor, readahead, flags = struct.unpack_from("=IIII", body)
    assert (error, minor, readahead, flags) == (0, 31, 4096, 0)


@pytest.mark.parametrize(("major", "minor"), [(7, 30), (6, 99)])
def test_an_old_kernel_is_refused_in_words(kernel, major, minor):
    session = Session(kernel.connection, threading.Lock())
    kernel.ask(protocol.INIT, init(major, minor))
    with pytest.raises(MountError, match=rf"version {major}.{minor}; 7.31"):
        session.shake_hands()
    assert kernel.hear()[1] == errno.EPROTO


def test_requests_are_answered_in_order(kernel):
    handlers = {
        protocol.GETATTR: lambda header, _body: b"node %d" % header.nodeid,
        protocol.LOOKUP: lambda _header, body: body.tobytes().upper(),
        protocol.READ: lambda _header, _body: [b"in ", b"", b"parts"],
        protocol.FLUSH: lambda _header, _body: b"",
    }
    with serving(kernel, handlers):
        first = kernel.ask(protocol.GETATTR, nodeid=17)
        assert kernel.hear() == (first, 0, b"node 17")
        asked = [
            kernel.ask(protocol.LOOKUP, b"name\0"),
            kernel.ask(protocol.READ),
            kernel.ask(protocol.FLUSH),
        ]
        heard = [kernel.hear() for _ in asked]
    assert heard == [(asked[0], 0, b"NAME\0"), (asked[1], 0, b"in parts"), (asked[2], 0, b"")]


@pytest.mark.parametrize("opcode", [protocol.LSEEK, 63, 4096])
def test_what_has_no_handler_is_not_implemented(kernel, opcode):
    with serving(kernel, {}):
        asked = kernel.ask(opcode)
        assert kernel.hear() == (asked, errno.ENOSYS, b"")


def test_whatever_a_handler_raises_is_an_errno(kernel):
    def fail(header, _body):
        raise [OSError, KeyError, MemoryError, RecursionError][header.nodeid]

    with serving(kernel, {protocol.GETATTR: fail}, lambda opcode, _error: opcode + 20):
        for nodeid in range(4):
            asked = kernel.ask(protocol.GETATTR, nodeid=nodeid)
            assert kernel.hear() == (asked, protocol.GETATTR + 20, b"")


def test_an_answer_can_come_later_and_from_another_thread(kernel):
    later = []
    handlers = {
        protocol.FSYNC: lambda header, _body: later.append(header.unique),
        protocol.FLUSH: lambda _header, _body: b"",
    }
    with serving(kernel, handlers) as session:
        slow, quick = kernel.ask(protocol.FSYNC), kernel.ask(protocol.FLUSH)
        assert kernel.hear() == (quick, 0, b"")
        assert later == [slow]
        session.answer(slow, errno.EIO)
        assert kernel.hear() == (slow, errno.EIO, b"")


def test_others_than_the_owner_and_root_are_refused(kernel):
    handlers = {opcode: lambda _header, _body: b"" for opcode in (protocol.OPEN, protocol.READ)}
    refused = lambda _opcode, error: error.errno  # noqa: E731
    with serving(kernel, handlers, refused, allowed=frozenset({0, 1000})):
        codes = []
        for uid in (0, 1000, 1001):
            kernel.ask(protocol.OPEN, uid=uid)
            codes.append(kernel.hear()[1])
        assert codes == [0, 0, errno.EACCES]
        kernel.ask(protocol.READ, uid=1001)
        assert kernel.hear()[1] == 0, "what is open may be read"


def test_nodes_that_are_apart_have_handlers_of_their_own(kernel):
    near = {protocol.GETATTR: lambda _header, _body: b"near", protocol.OPEN: lambda *_: b"near"}
    far = {protocol.GETATTR: lambda header, _body: b"far %d" % header.nodeid}
    refused = lambda _opcode, error: getattr(error, "errno", None) or errno.EIO  # noqa: E731
    apart = Apart(100, 200, far)
    with serving(kernel, near, refused, apart, allowed=frozenset({0})):
        for nodeid, expected in (
            (99, b"near"),
            (100, b"far 100"),
            (199, b"far 199"),
            (200, b"near"),
        ):
            kernel.ask(protocol.GETATTR, nodeid=nodeid)
            assert kernel.hear()[1:] == (0, expected)
        kernel.ask(protocol.GETATTR, nodeid=100, uid=1)
        assert kernel.hear()[1] == errno.EACCES
        kernel.ask(protocol.OPEN, nodeid=100)
        assert kernel.hear()[1] == errno.EIO


@pytest.mark.parametrize("minor", [43, 44])
def test_the_kernel_is_told_what_to_forget(kernel, minor):
    served = []

    def flush(_header, _body):
        served[0].forget_pages(18)
        served[0].forget_name(1, b"name")
        served[0].forget_attributes(17)
        return b""

    with serving(kernel, {protocol.FLUSH: flush}, minor=minor) as session:
        served.append(session)
        asked = kernel.ask(protocol.FLUSH)
        heard = [kernel.hear() for _ in range(4)]
    attributes = (0, -protocol.NOTIFY_INVAL_INODE, struct.pack("=Qqq", 17, -1, 0))
    answer = (asked, 0, b"")
    pages = (0, -protocol.NOTIFY_INVAL_INODE, struct.pack("=Qqq", 18, 0, 0))
    name = (0, -protocol.NOTIFY_INVAL_ENTRY, struct.pack("=QII", 1, 4, 0) + b"name\0")
    epoch = (0, -protocol.NOTIFY_INC_EPOCH, b"")
    if minor == 43:
        assert heard == [attributes, answer, pages, name]
    else:
        assert heard == [epoch, attributes, answer, pages]


def test_a_signal_ends_the_wait_for_a_request(kernel):
    session = Session(kernel.connection, threading.Lock())
    before = signal.signal(signal.SIGUSR1, lambda _number, _frame: session.end())
    try:
        kernel.ask(protocol.FLUSH)

        def flush(_header, _body):
            threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
            return b""

        assert session.serve({protocol.FLUSH: flush}, lambda _opcode, _error: errno.EIO) is False
        assert kernel.hear()[1] == 0
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_one_that_is_to_end_before_it_begins_reads_nothing(kernel):
    session = Session(kernel.connection, threading.Lock())
    session.end()
    kernel.ask(protocol.FLUSH)
    assert session.serve({}, lambda _opcode, _error: errno.EIO) is False
    kernel.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        kernel.hear()


@pytest.mark.parametrize("waiting", [0, 3, 9])
def test_what_is_deferred_is_done_when_no_request_waits_or_a_few_have_come(
    kernel, monkeypatch, waiting
):
    monkeypatch.setattr("kvfs.fuse.session._PATIENCE", 5)
    order = []
    served = []

    def fsync(_header, _body):
        served[0].defer(order.append)
        return b""

    def flush(_header, _body):
        order.append("request")
        return b""

    session = Session(kernel.connection, threading.Lock())
    served.append(session)
    asked = [kernel.ask(protocol.FSYNC), *(kernel.ask(protocol.FLUSH) for _ in range(waiting))]
    kernel.ask(protocol.GETATTR)  # ends it
    handlers = {
        protocol.FSYNC: fsync,
        protocol.FLUSH: flush,
        protocol.GETATTR: lambda _header, _body: session.end() or b"",
    }
    assert session.serve(handlers, lambda _opcode, _error: errno.EIO) is False
    assert [kernel.hear()[0] for _ in asked] == asked
    if waiting < 9:
        assert order == ["request"] * waiting + [True]
    else:
        assert order == ["request"] * 5 + [False] + ["request"] * 4


def test_requests_are_counted_by_kind_and_refusals_by_errno(kernel):
    def refuse(_header, _body):
        raise PermissionError(errno.EACCES, "no")

    handlers = {
        protocol.GETATTR: lambda *_: b"x",
        protocol.OPEN: refuse,
        protocol.FORGET: lambda *_: None,
    }
    with serving(kernel, handlers, lambda _opcode, error: error.errno) as session:
        kernel.ask(protocol.FORGET)
        for opcode in (protocol.GETATTR, protocol.OPEN, protocol.GETATTR, protocol.LSEEK, 4096):
            kernel.ask(opcode)
            kernel.hear()
        counters = session.counters
        kinds = counters.by_kind()
        assert {kind: found["count"] for kind, found in kinds.items()} == {
            "forget": 1,
            "getattr": 2,
            "open": 1,
        }
        assert sum(kinds["getattr"]["buckets"]) == 2
        assert kinds["getattr"]["seconds"] > 0
        assert kinds["forget"]["buckets"] == []
        assert counters.errors() == {errno.EACCES: 1, errno.ENOSYS: 2}
        assert not counters.pending


def test_of_many_requests_some_are_timed_and_count_for_all(kernel):
    with serving(kernel, {protocol.GETATTR: lambda *_: b"x"}) as session:
        timed = []
        add = session.counters.begin
        session.counters.begin = lambda *asked: (timed.append(asked[0]), add(*asked))
        for _ in range(5 * SAMPLE):
            kernel.ask(protocol.GETATTR)
            kernel.hear()
        found = session.counters.by_kind()["getattr"]
        assert found["count"] == sum(found["buckets"]) == 5 * SAMPLE
        assert len(timed) == SAMPLE + 4


def test_what_is_answered_later_is_timed_until_then(kernel):
    waiting = []

    def fsync(header, _body):
        waiting.append(header.unique)

    with serving(kernel, {protocol.FSYNC: fsync, protocol.GETATTR: lambda *_: b"x"}) as session:
        kernel.ask(protocol.FSYNC)
        kernel.ask(protocol.GETATTR)
        kernel.hear()
        assert list(session.counters.pending) == waiting
        assert session.counters.by_kind()["fsync"]["buckets"] == []
        session.answer(waiting[0])
        kernel.hear()
        assert not session.counters.pending
        assert sum(session.counters.by_kind()["fsync"]["buckets"]) == 1
