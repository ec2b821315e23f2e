"""Which names lead to the past, and for how long they stand for the same."""

import errno
import time
from datetime import UTC, datetime, timedelta

import pytest

import kvfs
from kvfs.errors import PosixError
from kvfs.filesystem.past.doors import STEADY, At, Snapshots
from kvfs.filesystem.past.inside import Inside
from kvfs.filesystem.past.later import NotYetError
from kvfs.filesystem.past.numbers import split
from kvfs.filesystem.past.views import IDLE, Views
from kvfs.fuse import Header, protocol
from kvfs.records import Put

HEADER = Header(40, 1, 2, 1, 0, 0, 0, 0, 0)


class Doors:
    """The directories of views of a store, and a clock for them."""

    def __init__(self, store):
        self.now = 1000.0
        self.store = store
        self.views = Views(store.path, lambda: self.now)
        inside = Inside(self.views, None)
        self.at = At(store, self.views, inside, None)
        self.snapshots = Snapshots(store, self.views, inside, None)
        self.opened = 0

    def ask(self, handler, body):
        """Return what `handler` answers in the end."""
        try:
            return handler(HEADER, memoryview(body))
        except NotYetError as error:
            self.opened += 1
            result = error.work()
            error.done(result)
            return error.then(result) if error.then else self.ask(handler, body)

    def find(self, name, door=None):
        """Return the sequence number that `name` stands for, and how long the kernel may keep that."""
        found = self.ask((door or self.at).lookup, name + b"\0")
        number, _, lasting, *_ = protocol.ENTRY_OUT.unpack(found)
        if not number:
            assert not lasting
            return None
        return self.views._views[split(number)[0]].sequence, bool(lasting)


@pytest.fixture(params=["binary", "text"])
def doors(request, tmp_path):
    with kvfs.open(str(tmp_path / "store"), format=request.param) as store:
        for number in range(5):
            store.put("a", str(number))
        made = Doors(store)
        yield made
        made.views.close()


def test_numbers_and_snapshots(doors):
    assert doors.find(b"3") == (3, True)
    assert doors.find(b"3") == (3, True)
    assert doors.opened == 1
    assert doors.find(b"5") is None
    assert doors.find(b"soon") is None
    doors.ask(doors.snapshots.mkdir, protocol.MKDIR_IN.pack(0, 0) + b"now\0")
    doors.store.put("a", "later")
    assert doors.find(b"now") == (4, False)
    assert doors.find(b"now", doors.snapshots) == (4, False)
    assert doors.find(b"5") == (5, True)
    doors.ask(doors.snapshots.rmdir, b"now\0")
    assert doors.find(b"now") is None
    assert doors.find(b"now", doors.snapshots) is None
    with pytest.raises(PosixError) as info:
        doors.ask(doors.snapshots.rmdir, b"now\0")
    assert info.value.errno == errno.ENOENT


def test_a_time_stands_for_the_same_while_it_is_used_and_then_for_another(doors):
    if doors.store.config.format == "text":
        with pytest.raises(PosixError) as info:
            doors.find(b"2100-01-01")
        assert info.value.errno == errno.ENOENT
        return
    future = b"2100-01-01"
    assert doors.find(future) == (4, False)
    doors.store.put("a", "later")
    for _ in range(5):
        doors.now += STEADY - 1
        doors.at.tidy()
        assert doors.find(future) == (4, False), "it has been in use all the time"
    doors.now += STEADY
    doors.at.tidy()
    assert doors.find(future) == (5, False)
    doors.store.put("a", "still later")
    (view,) = [view for view in doors.views._views.values() if view.sequence == 5]
    doors.views.hold(view)
    doors.now += 2 * STEADY
    assert doors.find(future) == (5, False), "something is open there"
    doors.views.let_go(view)
    doors.now += 2 * IDLE
    assert doors.find(future) == (6, False)


def test_a_time_is_looked_up_in_the_log(doors):
    if doors.store.config.format == "text":
        return
    hence = datetime.now(UTC) + timedelta(seconds=500)
    last = doors.store.position - 1
    record = Put(b"a", b"later", time=time.time_ns() + 900 * 10**9)
    doors.store._core.commit(record)
    assert doors.find(hence.isoformat().encode()) == (last, False)
    assert doors.find(b"2020-01-01") == (-1, False)


def test_a_snapshot_that_is_no_good_is_an_error(doors):
    doors.ask(doors.snapshots.mkdir, protocol.MKDIR_IN.pack(0, 0) + b"now\0")
    with open(f"{doors.store.path}/snapshots/now", "w") as file:
        file.write("no numbers\n")
    for door in (doors.at, doors.snapshots):
        with pytest.raises(OSError, match="holds no snapshot"):
            doors.find(b"now", door)
