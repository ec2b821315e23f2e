"""The views that the kernel knows, their numbers, and which stores are open for them."""

import errno
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvfs
from kvfs.errors import KvfsError, PosixError
from kvfs.filesystem.operations import Filesystem
from kvfs.filesystem.past import views as module
from kvfs.filesystem.past.later import Later, NotYetError
from kvfs.filesystem.past.numbers import AT, END, FIRST, SNAPSHOTS, is_past, number_of, split
from kvfs.filesystem.past.views import IDLE, MOST_OPEN, Views
from kvfs.fuse import Header, protocol
from kvfs.store.moment import Moment
from kvfs.table.node import FIRST_PIECE, MAX_INO

PATIENCE = 20.0


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def views(tmp_path, clock):
    path = str(tmp_path / "store")
    with kvfs.open(path) as store:
        for number in range(30):
            store.put("a", str(number))
    made = Views(path, clock)
    yield made
    made.close()


def show(views, sequence, name=None, door=AT):
    """Return a view whose store is open."""
    view = views.view(door, name or b"%d" % sequence, sequence)
    view.references += 1
    try:
        views.files(view)
    except NotYetError as error:
        error.done(error.work())
    return view


def opened(views):
    return set(views._opened)


@given(st.integers(1, (1 << 17) - 1), st.one_of(st.integers(0, (1 << 43) - 1), st.integers(1, 99)))
def test_numbers_are_of_one_view_and_one_node(view, ino):
    for each in (ino, FIRST_PIECE + ino):
        number = number_of(view, each)
        assert MAX_INO == FIRST < number < END == FIRST_PIECE
        assert is_past(number)
        assert not is_past(each)
        assert split(number) == (view, each)


@pytest.mark.parametrize("ino", [1 << 43, MAX_INO - 1, FIRST_PIECE + (1 << 43)])
def test_there_is_no_room_for_some(ino):
    with pytest.raises(PosixError) as info:
        number_of(1, ino)
    assert info.value.errno == errno.EOVERFLOW


def test_each_name_has_nodes_of_its_own_and_one_store(views):
    first, second = show(views, 3), show(views, 3, b"name", SNAPSHOTS)
    assert first.number != second.number
    assert views.files(first) is views.files(second)
    assert views.view(AT, b"3", 3) is first
    assert views.find(number_of(first.number, 17)) == (first, 17)


def test_a_view_is_forgotten_with_its_last_reference_and_its_number_is_not_given_at_once(views):
    view = show(views, 3)
    views.forget(number_of(view.number, 1), 1)
    with pytest.raises(PosixError):
        views.find(number_of(view.number, 1))
    views.forget(number_of(view.number, 1), 1)
    assert views.view(AT, b"3", 3).number != view.number


def test_numbers_come_round(views, monkeypatch):
    monkeypatch.setattr(module, "VIEWS", 4)
    first = [show(views, 1, b"%d" % n) for n in range(3)]
    assert [view.number for view in first] == [1, 2, 3]
    with pytest.raises(PosixError) as info:
        views.view(AT, b"more", 1)
    assert info.value.errno == errno.ENFILE
    views.forget(number_of(2, 1), 1)
    assert views.view(AT, b"more", 1).number == 2


def test_a_store_that_nobody_uses_is_closed_and_opened_again_when_it_is(views, clock):
    view, other = show(views, 3), show(views, 4)
    clock.now += IDLE - 1
    assert views.idle() == []
    views.files(other)
    clock.now += 2
    (store,) = views.idle()
    assert store.position == 4
    store.close()
    assert opened(views) == {4}
    with pytest.raises(NotYetError) as info:
        views.files(view)
    info.value.done(info.value.work())
    assert views.files(view).find(1, b"a") is not None


def test_one_with_something_open_stays(views, clock):
    view = show(views, 3)
    views.hold(view)
    clock.now += 10 * IDLE
    assert views.idle() == []
    assert views.is_used(view, 1)
    views.let_go(view)
    assert views.idle() == []
    clock.now += IDLE
    assert [store.position for store in views.idle()] == [4]
    assert not views.is_used(view, 1)


def test_no_more_than_some_are_open(views, clock):
    shown = []
    for sequence in range(MOST_OPEN + 3):
        clock.now += 1
        shown.append(show(views, sequence))
    assert opened(views) == set(range(3, MOST_OPEN + 3))
    for view in shown[3:]:
        views.hold(view)
    with pytest.raises(PosixError) as info:
        show(views, 20)
    assert info.value.errno == errno.ENFILE
    views.let_go(shown[5])
    show(views, 20)
    assert opened(views) == {*range(3, MOST_OPEN + 3), 20} - {5}


@pytest.mark.parametrize("moment", [Moment(99, None), Moment(10**17, None)])
def test_what_is_no_moment(views, moment):
    with pytest.raises(PosixError) as info:
        views.open(moment)
    assert info.value.errno == errno.ENOENT


def test_before_the_first_record(views):
    view = show(views, -1)
    assert views.files(view).find(1, b"a") is None


def test_what_is_not_kept_is_not_there_and_what_is_damaged_is_an_error(views, monkeypatch):
    for code, expected in ((errno.ENOENT, errno.ENOENT), (errno.EIO, errno.EIO)):

        def refuse(*_args, code=code, **_kwargs):
            raise KvfsError("it is not kept", code)

        monkeypatch.setattr(module, "open_store", refuse)
        with pytest.raises(KvfsError) as info:
            views.open(Moment(1, None))
        assert info.value.errno == expected


def test_one_that_is_opened_too_late_is_closed(views):
    view = views.view(AT, b"3", 3)
    with pytest.raises(NotYetError) as info:
        views.files(view)
    store = info.value.work()
    views.close()
    info.value.done(store)
    with pytest.raises(KvfsError, match="closed"):
        store.get("a")


# -- later -----------------------------------------------------------------------------


class Answers:
    """A session that notes its answers, and what handles its requests with its lock."""

    def __init__(self):
        self.lock = threading.RLock()
        self.later = Later(self, self.lock)
        self.heard = []
        self.enough = threading.Semaphore(0)

    def handle(self, unique, body, handler):
        with self.lock:
            header = Header(40, 1, unique, 1, 0, 0, 0, 0, 0)
            return self.later.handle(header, memoryview(body), handler)

    def reply(self, unique, body):
        self.heard.append((unique, bytes(body)))
        self.enough.release()

    def answer(self, unique, code=0):
        self.heard.append((unique, code))
        self.enough.release()

    def wait(self, count):
        for _ in range(count):
            assert self.enough.acquire(timeout=PATIENCE)
        return sorted(self.heard)


class Slow:
    """A handler of what must be done first; `gate` lets it be done."""

    def __init__(self, failure=None):
        self.gate = threading.Event()
        self.made = []
        self.calls = 0
        self.failure = failure

    def work(self):
        self.calls += 1
        assert self.gate.wait(PATIENCE)
        if self.failure:
            raise self.failure
        return "made"

    def __call__(self, header, body):
        if not self.made:
            raise NotYetError("key", self.work, self.made.append)
        return b"%d %b" % (header.unique, bytes(body))


def test_all_who_wait_are_answered_when_it_is_done_once():
    session, slow = Answers(), Slow()
    for unique in (1, 2, 3):
        body = bytearray(b"body")
        assert session.handle(unique, body, slow) is None
        body[:] = b"gone"  # as the buffer of the session is used again
    slow.gate.set()
    assert session.wait(3) == [(n, b"%d body" % n) for n in (1, 2, 3)]
    assert (slow.calls, slow.made) == (1, ["made"])
    assert session.handle(4, b"x", slow) == b"4 x"


def test_all_who_wait_are_told_why_not():
    session, slow = Answers(), Slow(PosixError(errno.ENOENT))
    for unique in (1, 2):
        session.handle(unique, b"", slow)
    slow.gate.set()
    assert session.wait(2) == [(1, errno.ENOENT), (2, errno.ENOENT)]
    session.handle(3, b"", slow)
    assert session.wait(1)[-1] == (3, errno.ENOENT)
    assert slow.calls == 2, "it is tried anew"


def test_what_comes_of_it_can_take_long_as_well():
    session, second = Answers(), []

    def more(result):
        raise NotYetError("second", lambda: result * 2, second.append, lambda it: b"%d" % it)

    def handler(_header, _body):
        raise NotYetError("first", lambda: 21, lambda _result: None, more)

    session.handle(1, b"", handler)
    assert session.wait(1) == [(1, b"42")]
    assert second == [42]


def test_nobody_is_answered_after_the_end():
    session, done, gate = Answers(), threading.Event(), threading.Event()

    def handler(_header, _body):
        raise NotYetError("key", gate.wait, lambda _made: done.set())

    session.handle(1, b"", handler)
    session.later.stop()
    gate.set()
    assert done.wait(PATIENCE)
    with session.lock:
        assert session.heard == []


def test_what_the_kernel_forgets_goes_to_the_live_store_or_to_the_past():
    heard = []
    live = SimpleNamespace(forget=lambda *pair: heard.append(("live", *pair)))
    past = SimpleNamespace(forget=lambda *pair: heard.append(("past", *pair)))
    body = protocol.BATCH_FORGET_IN.pack(3)
    for number in (17, FIRST + 17, FIRST_PIECE + 17):
        body += protocol.FORGET_ONE.pack(number, 2)
    Filesystem.batch_forget(SimpleNamespace(_files=live, _past=past), None, memoryview(body))
    assert heard == [("live", 17, 2), ("past", FIRST + 17, 2), ("live", FIRST_PIECE + 17, 2)]
