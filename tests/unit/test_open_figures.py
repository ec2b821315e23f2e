"""The figures of a store that is open."""

import kvfs
from kvfs.store.compaction import Policy
from kvfs.store.opening import open_store


def test_what_was_done_since_it_was_opened(tmp_path):
    with kvfs.open(tmp_path) as store:
        store.put("a", "1")
    with kvfs.open(tmp_path) as store:
        before = store.figures()
        assert before["log"]["appended"] == before["log"]["appended_bytes"] == 0
        assert before["store"]["keys"] == before["log"]["records"] == 1
        store.put("b", "22")
        now = store.figures()
        assert (now["log"]["records"], now["log"]["synced"], now["log"]["appended"]) == (2, 1, 1)
        grown = now["log"]["bytes"] - before["log"]["bytes"]
        assert grown == now["log"]["appended_bytes"] > 0
        syncs = now["sync"]["count"]
        store.sync()
        now = store.figures()
        assert now["log"]["synced"] == 2
        assert now["sync"]["count"] == syncs + 1 == sum(now["sync"]["buckets"])
        assert now["sync"]["last"] > 0


def test_what_is_live_is_told_about_right(tmp_path):
    with open_store(tmp_path, compact=Policy(1.0, 10**9)) as store:
        for turn in range(4):
            for number in range(10):
                store.put(f"{number}", bytes([turn]) * 5000)
        exact = sum(store.live().values())
        assert exact <= store.figures()["log"]["live_bytes"] < exact * 1.1


def test_a_segment_that_goes_meanwhile(tmp_path):
    with kvfs.open(tmp_path, max_segment_size=4096) as store:
        for number in range(10):
            store.put(f"{number}", b"x" * 1000)
        disk, stat, failures = store._core.disk, store._core.disk.stat, 2

        def gone(path):
            nonlocal failures
            if path.endswith(".seg") and failures:
                failures -= 1
                raise FileNotFoundError(path)
            return stat(path)

        disk.stat = gone
        assert store.figures()["log"]["segments"] == len(store.live()) > 2
