import threading

import pytest
import trio
import trio.testing

from kvfs.errors import StoreFailedError
from kvfs.filesystem import Syncer


class SlowStore:
    """A store whose sync waits to be let through, and counts its calls."""

    def __init__(self):
        self.position = 0
        self.synced = 0
        self.calls = 0
        self.failed = False
        self.started = threading.Event()
        self.gate = threading.Event()

    def sync_log(self):
        self.calls += 1
        target = self.position
        self.started.set()
        assert self.gate.wait(10)
        self.check_healthy()
        self.synced = target

    def check_healthy(self):
        if self.failed:
            raise StoreFailedError("it failed")


async def _start(store, count, outcomes):
    """Start `count` syncs of `store`, and let them through once all of them wait."""
    syncer = Syncer(store)

    async def one():
        try:
            await syncer.sync()
            outcomes.append("synced")
        except StoreFailedError:
            outcomes.append("failed")

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        store.gate.set()


@pytest.mark.parametrize("count", [1, 2, 9])
def test_all_who_wait_share_one_sync(count):
    store, outcomes = SlowStore(), []
    store.position = 5
    trio.run(_start, store, count, outcomes)
    assert outcomes == ["synced"] * count
    assert store.calls == 1


def test_what_is_logged_during_a_sync_waits_for_the_next():
    store, order = SlowStore(), []

    async def main():
        syncer = Syncer(store)

        async def one(name):
            await syncer.sync()
            order.append((name, store.synced))

        async with trio.open_nursery() as nursery:
            store.position = 1
            nursery.start_soon(one, "early")
            await trio.to_thread.run_sync(store.started.wait)
            store.position = 2
            nursery.start_soon(one, "late")
            await trio.testing.wait_all_tasks_blocked()
            store.gate.set()

    trio.run(main)
    assert order == [("early", 1), ("late", 2)]
    assert store.calls == 2


def test_a_failed_sync_fails_all_who_wait():
    store, outcomes = SlowStore(), []
    store.position, store.failed = 1, True
    trio.run(_start, store, 4, outcomes)
    assert outcomes == ["failed"] * 4
    assert store.synced == 0


def test_nothing_new_needs_no_sync():
    store, outcomes = SlowStore(), []
    trio.run(_start, store, 2, outcomes)
    assert outcomes == ["synced"] * 2
    assert store.calls == 0
