"""What `kvfs top` makes of two snapshots."""

import copy

from kvfs.cli import top

FIGURES = {
    "mount": {"version": "1", "mountpoint": "/m", "pid": 1, "started": 0.0, "uptime": 5.0},
    "store": {"path": "/s", "id": "0", "format": "binary", "keys": 3, "failed": 0},
    "log": {
        "records": 10,
        "synced": 9,
        "appended": 4,
        "appended_bytes": 400,
        "segments": 1,
        "bytes": 4096,
        "live_bytes": 2048,
    },
    "sync": {"count": 1, "seconds": 0.1, "buckets": [0, 1], "last": 1.0},
    "cache": {"hits": 0, "misses": 0},
    "checkpoints": {"made": 0},
    "compaction": {"moved_bytes": 0, "removed_segments": 0},
    "data": {"read_bytes": 0, "written_bytes": 0},
    "wait": {"polled": 0, "shared": 0, "slept": 0, "handovers": 0},
    "errors": {"ENOENT": 1},
    "requests": {"read": {"count": 5, "seconds": 0.1, "buckets": [5]}},
}


def after():
    now = copy.deepcopy(FIGURES)
    now["requests"]["read"] = {"count": 25, "seconds": 0.2, "buckets": [5, 0, 0, 0, 20]}
    now["requests"]["write"] = {"count": 2, "seconds": 0.2, "buckets": [0, 2]}
    now["errors"] = {"ENOENT": 2, "EIO": 3}
    now["data"]["read_bytes"] = 4096
    now["log"]["appended_bytes"] += 2048
    now["cache"] = {"hits": 3, "misses": 1}
    now["wait"] = {"polled": 1, "shared": 1, "slept": 2, "handovers": 1}
    return now


def test_the_rates_of_an_interval():
    found = top.change(FIGURES, after(), 2.0)
    assert found["requests"] == 11
    assert found["errors"] == 2
    assert found["read_bytes"] == 2048
    assert found["appended_bytes"] == 1024
    assert found["cache_hits"] == 0.75
    assert found["polled"] == 0.5
    assert found["kinds"]["read"]["rate"] == 10
    assert 8e-6 <= found["kinds"]["read"]["p50"] <= 16e-6
    assert found["kinds"]["write"]["rate"] == 1


def test_nothing_happened_or_the_mount_is_another_one():
    found = top.change(FIGURES, FIGURES, 1.0)
    assert (found["requests"], found["cache_hits"]) == (0, None)
    assert found["kinds"]["read"]["p50"] <= 1e-6  # as it has been so far
    assert top.change(after(), FIGURES, 1.0)["requests"] == 0


def test_a_line_says_the_most():
    line = top._line(top.change(FIGURES, after(), 2.0))
    for part in ("11 requests/s", "2 errors/s", "read 2.0 KiB/s", "read 10/s p50 12 us"):
        assert part in line
    assert "\n" not in line


def test_durations_as_people_read_them():
    shown = [top._time(seconds) for seconds in (None, 3e-6, 0.0125, 2.0)]
    assert shown == ["-", "3 us", "12.5 ms", "2.0 s"]
