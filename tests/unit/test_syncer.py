import errno
import queue
import threading
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest

from kvfs.errors import KvfsError, StoreFailedError
from kvfs.filesystem import Syncer

LONG = 1000.0  # seconds: never in a test
PATIENCE = 20.0


class SlowStore:
    """A store whose sync waits to be let through, and counts its calls."""

    def __init__(self):
        self.lock = nullcontext()
        self.position = 0
        self.synced = 0
        self.calls = 0
        self.failed = False
        self.started = threading.Event()
        self.gate = threading.Event()
        self.ticks = queue.SimpleQueue()
        self.background = SimpleNamespace()
        content = SimpleNamespace(commit_runs=lambda: self.tick("runs"))
        times = SimpleNamespace(commit=lambda _most: self.tick("times"))
        self.files = SimpleNamespace(
            content=content,
            access_times=times,
            settle=lambda: self.tick("settled"),
            expire=lambda _most, _tell: 0,
            until_expiry=lambda: LONG,
        )

    def tick(self, what):
        self.ticks.put(what)

    def maintain(self):
        self.tick("maintained")
        return 0.001

    def sync_log(self):
        self.calls += 1
        target = self.position
        self.started.set()
        assert self.gate.wait(PATIENCE)
        self.check_healthy()
        self.synced = target

    def check_healthy(self):
        if self.failed:
            raise StoreFailedError("it failed")


class Serving:
    """The thread that serves: has what was deferred, until there are no requests."""

    def __init__(self):
        self.work = None

    def defer(self, work):
        assert self.work is None
        self.work = work

    def attend(self, *, idle):
        work, self.work = self.work, None
        work(idle)


def slow(store, interval=LONG):
    """Return a syncer that has met a slow disk: it leaves all to its thread."""
    syncer = Syncer(store, None, interval)
    syncer._took = 1.0
    return syncer


@contextmanager
def syncing(store, interval=LONG):
    syncer = slow(store, interval)
    syncer.start()
    try:
        yield syncer
    finally:
        store.gate.set()
        syncer.stop()


@pytest.mark.parametrize("count", [1, 2, 9])
def test_all_who_wait_share_one_sync(count):
    store, codes = SlowStore(), []
    syncer = slow(store)
    store.position = 5
    for _ in range(count):
        syncer.when_synced(codes.append)
    store.gate.set()
    syncer.start()
    syncer.stop()
    assert codes == [0] * count
    assert store.calls == 1


def test_what_is_logged_during_a_sync_waits_for_the_next():
    store, order = SlowStore(), []
    with syncing(store) as syncer:
        store.position = 1
        syncer.when_synced(lambda _code: order.append(("early", store.synced)))
        assert store.started.wait(PATIENCE)
        store.position = 2
        syncer.when_synced(lambda _code: order.append(("late", store.synced)))
    assert order == [("early", 1), ("late", 2)]
    assert store.calls == 2


def test_a_failed_sync_fails_all_who_wait_and_those_who_come_later(caplog):
    store, codes = SlowStore(), []
    store.position, store.failed = 1, True
    store.gate.set()
    with syncing(store) as syncer:
        for _ in range(4):
            syncer.when_synced(codes.append)
        done = threading.Event()
        syncer.when_synced(lambda _code: done.set())
        assert done.wait(PATIENCE)
        syncer.when_synced(codes.append)
    assert codes == [errno.EIO] * 5
    assert store.synced == 0
    assert [record.getMessage() for record in caplog.records] == [
        "background sync stopped: it failed"
    ]


def test_nothing_new_needs_no_sync():
    store, codes = SlowStore(), []
    with syncing(store) as syncer:
        syncer.when_synced(codes.append)
        syncer.when_synced(codes.append)
    assert codes == [0, 0]
    assert store.calls == 0


def test_every_interval_what_waits_is_logged_and_synced():
    store = SlowStore()
    store.position = 1
    store.gate.set()
    with syncing(store, 0.001):
        assert [store.ticks.get(timeout=PATIENCE) for _ in range(8)] == [
            "runs",
            "times",
            "settled",
            "maintained",
        ] * 2
    assert store.synced == 1


def test_what_is_refused_for_want_of_room_stops_nothing():
    store = SlowStore()
    refusals = iter([KvfsError("full", errno.ENOSPC)])

    def tick(what):
        for refusal in refusals:
            raise refusal
        store.ticks.put(what)

    store.tick = tick
    with syncing(store, 0.001):
        assert [store.ticks.get(timeout=PATIENCE) for _ in range(2)] == ["maintained", "runs"]


def test_much_that_expires_at_once_waits_for_no_second():
    store = SlowStore()
    left = iter([1000, 1000, 7])

    def expire(_most, _tell):
        store.ticks.put(next(left, 0))

    store.files.expire = expire
    waits = iter([0.0, 0.01])
    store.files.until_expiry = lambda: next(waits, LONG)
    store.maintain = lambda: LONG
    with syncing(store, 0.2) as syncer:
        syncer._interval = LONG
        found = [store.ticks.get(timeout=PATIENCE) for _ in range(6)]
    assert found == ["runs", "times", "settled", 1000, 1000, 7]


def test_what_fails_in_the_background_stops_nothing(caplog):
    store = SlowStore()
    store.position = 1
    store.gate.set()
    failures = iter([RuntimeError("unforeseen")])

    def maintain():
        for failure in failures:
            raise failure
        store.tick("maintained")
        return 0.001

    store.maintain = maintain
    with syncing(store, 0.001):
        while store.ticks.get(timeout=PATIENCE) != "maintained":
            pass
    assert "failed unexpectedly" in caplog.text


def test_an_end_tells_those_who_wait():
    store, codes = SlowStore(), []
    store.position = 1
    with syncing(store) as syncer:
        syncer.when_synced(codes.append)
    assert codes == [0]


def test_on_a_quick_disk_the_thread_that_serves_syncs_when_nobody_asks():
    store, codes, serving = SlowStore(), [], Serving()
    store.gate.set()
    syncer = Syncer(store, serving.defer, LONG)
    store.position = 3
    for _ in range(3):
        syncer.when_synced(codes.append)
    assert (store.calls, codes) == (0, [])
    serving.attend(idle=True)
    assert (store.calls, codes, store.synced) == (1, [0, 0, 0], 3)
    store.position = 4
    syncer.when_synced(codes.append)
    serving.attend(idle=True)
    assert (store.calls, codes) == (2, [0] * 4)


def test_where_requests_keep_coming_the_other_thread_syncs():
    store, codes, serving = SlowStore(), [], Serving()
    store.gate.set()
    syncer = Syncer(store, serving.defer, LONG)
    store.position = 1
    syncer.when_synced(codes.append)
    serving.attend(idle=False)
    assert (store.calls, codes) == (0, [])
    syncer.start()
    syncer.stop()
    assert (store.calls, codes) == (1, [0])


def test_a_slow_sync_is_left_to_the_other_thread_next_time(monkeypatch):
    store, codes, serving = SlowStore(), [], Serving()
    store.gate.set()
    times = iter([0.0, 1.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    syncer = Syncer(store, serving.defer, LONG)
    store.position = 1
    syncer.when_synced(codes.append)
    serving.attend(idle=True)
    monkeypatch.undo()
    assert codes == [0]
    syncer.when_synced(codes.append)
    assert serving.work is None
    syncer.start()
    syncer.stop()
    assert codes == [0, 0]


def test_what_else_is_due_every_second_is_done_also_after_a_failure():
    store = SlowStore()
    store.gate.set()
    store.failed = True
    done = queue.SimpleQueue()
    syncer = slow(store, 0.001)
    syncer.also = lambda: done.put("done")
    syncer.start()
    try:
        for _ in range(3):
            assert done.get(timeout=PATIENCE) == "done"
    finally:
        syncer.stop()
