"""Threads that share one store: each call happens at one moment, in the log as in memory."""

import random
import threading

import pytest

import kvfs

_THREADS = 8
_TURNS = 150


@pytest.fixture(params=["binary", "text"])
def store(request, tmp_path):
    with kvfs.open(tmp_path / "store", format=request.param, max_segment_size=4096) as opened:
        yield opened


def hammer(work, count=_THREADS):
    """Call `work` with each number below `count`, all at once; nothing may be raised."""
    failures = []
    gate = threading.Barrier(count)

    def run(number):
        try:
            gate.wait()
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def assert_logged(store):
    """What the store holds is what its log holds."""
    with kvfs.open(store.path, read_only=True) as reader:
        assert list(reader.items()) == list(store.items())
    store.close()
    with kvfs.open(store.path) as again:
        return dict(again.items())


def test_keys_of_its_own_are_as_a_thread_left_them(store):
    def work(number):
        rng = random.Random(number)
        mine = {}
        for turn in range(_TURNS):
            key, new = (b"%d/%d" % (number, rng.randrange(6)) for _ in range(2))
            value = b"%d %d " % (number, turn) * rng.randrange(1, 120)
            step = rng.randrange(8)
            if step < 3:
                store.put(key, value)
                mine[key] = value
            elif step == 3:
                assert store.delete(key) == (mine.pop(key, None) is not None)
            elif step == 4:
                assert store.rename(key, new) == (key in mine)
                if key in mine:
                    mine[new] = mine.pop(key)
            elif step == 5:
                store.sync()
            elif step == 6:
                prefix = b"%d/" % number
                assert {k: v for k, v in store.items() if k.startswith(prefix)} == mine
            assert store.get(key) == mine.get(key)
            assert (key in store) == (key in mine)
        expected.update(mine)

    expected = {}
    hammer(work)
    assert dict(store.items()) == expected
    assert len(store) == len(expected)
    assert assert_logged(store) == expected


def test_a_key_is_deleted_and_renamed_by_one_thread(store):
    deleted, renamed = [], []

    def work(number):
        for turn in range(_TURNS):
            if number == 0:
                store.put(b"d%d" % turn, b"1")
                store.put(b"r%d" % turn, b"1")
            gate.wait()
            if store.delete(b"d%d" % turn):
                deleted.append(turn)
            if store.rename(b"r%d" % turn, b"to%d/%d" % (turn, number)):
                renamed.append(turn)
            gate.wait()

    gate = threading.Barrier(_THREADS)
    hammer(work)
    assert deleted == renamed == list(range(_TURNS))
    assert len(assert_logged(store)) == _TURNS


def test_a_counter_that_is_taken_by_renaming_it_loses_no_step(store):
    store.put("free", "0")

    def work(number):
        mine = f"taken/{number}"
        steps = 0
        while steps < _TURNS // 5:
            if store.rename("free", mine):
                store.put(mine, str(int(store.get(mine)) + 1))
                assert store.rename(mine, "free")
                steps += 1

    hammer(work)
    assert assert_logged(store) == {b"free": b"%d" % (_THREADS * (_TURNS // 5))}


def test_a_shared_value_is_whole_and_never_goes_back(store):
    """One thread counts up; the others see no number twice the other way round, and no mixture."""
    store.put("shared", "000000" * 200)

    def work(number):
        seen = b""
        for turn in range(_TURNS):
            if number == 0:
                store.put("shared", b"%06d" % turn * 200)
            else:
                value = store.get("shared") if turn % 3 else dict(store.items())[b"shared"]
                assert value == value[:6] * 200
                assert value >= seen
                seen = value

    hammer(work)
    assert_logged(store)
