"""The changes of a store as they come: whole, each once, in order, whatever happens to the log."""

import errno
import os
import random
import signal
import threading

import pytest
from histories import History
from hypothesis import given
from hypothesis import strategies as st

import kvfs
from kvfs.disk import Disk
from kvfs.errors import ConfigError, CorruptionError, KvfsError, PastGoneError
from kvfs.records import Attrs
from kvfs.retention import Retention
from kvfs.store import notify
from kvfs.store.feed import Feed
from kvfs.store.files import Owner
from kvfs.store.history import changes
from kvfs.store.opening import read_config
from kvfs.store.readers import alone
from kvfs.store.repair import repair
from kvfs.store.rewrite import compact_text

NOTHING = Retention(0, 0)


def told(found):
    """Return what changes say, of a feed or of the history."""
    return [(one.sequence, one.time, one.what, one.key, one.new, one.directory) for one in found]


def now(path, from_=0, **options):
    """Return the changes that there are."""
    with Feed(str(path), from_, timeout=0, **options) as feed:
        return list(feed)


def overwrite(store, turns=60):
    for turn in range(turns):
        store.put(f"key {turn % 3}", os.urandom(200))


# -- what is a change ----------------------------------------------------------------


@pytest.mark.parametrize("form", ["binary", "text"])
def test_all_that_is_logged_in_its_order(tmp_path, form):
    for seed in range(12):
        path = tmp_path / str(seed)
        History(path, seed, form)
        found = now(path)
        assert [one.sequence for one in found] == sorted({one.sequence for one in found})
        records = list(changes(str(path)))
        assert {one.sequence for one in found} <= {one.sequence for one in records}
        assert {one[1:] for one in told(found)} <= {one[1:] for one in told(records)}
        assert sum(one.size or 0 for one in found) == sum(one.size or 0 for one in records)
        if form == "text":
            assert told(found) == told(records)


def test_from_now_on_without_a_number(tmp_path):
    with kvfs.open(tmp_path / "s") as store:
        store.put("before", "1")
        with store.changes(timeout=0) as feed:
            store.put("after", "2")
            assert [one.key for one in feed] == [b"after"]
            store.delete("after")
            assert [(one.sequence, one.what) for one in feed] == [(2, "delete")]


def test_a_value_that_was_cut_is_one_change(tmp_path):
    value = os.urandom(500_000)
    with kvfs.open(tmp_path / "s", max_segment_size=100_000) as store:
        store.put("large", value)
        store.put("small", "1")
        first, second = now(store.path, values=True)
        assert (first.what, first.size, first.value) == ("put", len(value), value)
        assert first.sequence == store.position - 2
        assert first.sequence > 3, "it was cut"
        assert second.value == b"1"
        for number in range(first.sequence + 1):
            assert now(store.path, number)[0].sequence == first.sequence
        assert now(store.path, first.sequence + 1) == [second._replace(value=None)]
        with kvfs.open(store.path, at=first.sequence) as then:
            assert then.get("large") == value


def test_a_directory_that_is_renamed_is_one_change(tmp_path):
    with kvfs.open(tmp_path / "s") as store:
        files = store.files
        store.put("d/a", "1")
        store.put("d/b", "2")
        files.rename((1, b"d"), (1, b"e"), 0)
        (change,) = now(store.path, store.position - 1)
    assert change[2:6] == ("rename", b"d", b"e", True)
    for prefix in (b"d", b"d/a", b"e/", b"e/b", b""):
        assert change.is_below(prefix), prefix
    for prefix in (b"f", b"da", b"ex"):
        assert not change.is_below(prefix), prefix


def test_what_else_a_record_says(tmp_path):
    with kvfs.open(tmp_path / "s") as store:
        files = store.files
        files.symlink(1, b"l", b"target", Owner(0, 0, 0o777))
        store.put("a", "1")
        node = files.node(files.find(1, b"a"))
        files.setattr(node, Attrs(mode=0o600))
        files.setxattr(node, b"user.n", b"v")
        files.removexattr(node, b"user.n")
        link, _, mode, given, taken = now(store.path, values=True)
    assert link.details["target"] == b"target"
    assert mode.details["attrs"]["mode"] == 0o600
    assert (given.details, given.value) == ({"name": b"user.n"}, b"v")
    assert (taken.what, taken.details) == ("removexattr", {"name": b"user.n"})


@pytest.mark.parametrize("form", ["binary", "text"])
def test_the_value_that_each_change_left(tmp_path, form):
    with kvfs.open(tmp_path / "s", format=form) as store:
        files = store.files
        store.put("a", "one")
        node = files.node(files.find(1, b"a"))
        files.content.write(node, 3, b" more")
        files.content.commit(node)
        files.content.truncate(node, 2)
        files.link(node, 1, b"b")
        store.put("a", "end")
        found = now(store.path, values=True)
    assert [(one.what, one.value) for one in found] == [
        ("put", b"one"),
        ("write", b"one more"),
        ("truncate", b"on"),
        ("link", b"on"),
        ("put", b"end"),
    ]


# -- going on ------------------------------------------------------------------------


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(0, 1))
def test_whoever_goes_on_behind_the_last_misses_nothing(tmp_path_factory, steps, binary):
    path = tmp_path_factory.mktemp("feed") / "s"
    form = ("text", "binary")[binary]
    found, from_, written = [], 0, 0
    with kvfs.open(path, format=form, max_segment_size=900) as store:
        for step in steps:
            for _ in range(step):
                store.put(f"k{written % 5}", b"v" * (written % 70))
                written += 1
            with Feed(store.path, from_, timeout=0) as feed:
                for change, _ in zip(feed, range(1 + step), strict=False):
                    found.append(change)
                    from_ = change.sequence + 1
        found += now(store.path, from_)
        assert told(found) == told(changes(store.path))


def test_a_number_that_is_not_there_yet(tmp_path):
    with kvfs.open(tmp_path / "s") as store:
        store.put("a", "1")
        assert now(store.path, 1) == []
        with pytest.raises(ConfigError, match="no change 2 yet: the log has 1"):
            now(store.path, 2)


def test_it_waits_and_can_be_stopped(tmp_path):
    with kvfs.open(tmp_path / "s") as store, store.changes() as feed:
        found = []
        reader = threading.Thread(target=lambda: found.extend(feed))
        reader.start()
        for turn in range(50):
            store.put("a", str(turn))
        with store.changes(49) as other:
            assert next(other).sequence == 49
        feed.stop()
        reader.join(20)
        assert not reader.is_alive()
        assert feed.stopped
        assert [one.sequence for one in found] == list(range(len(found)))


def test_without_inotify_it_looks_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(notify, "_watch", lambda _path: None)
    with kvfs.open(tmp_path / "s") as store, store.changes() as feed:
        writer = threading.Timer(0.05, store.put, ("a", "1"))
        writer.start()
        assert next(feed).key == b"a"
        writer.join()


# -- what happens to the log ----------------------------------------------------------------


@pytest.mark.parametrize("form", ["binary", "text"])
def test_what_is_not_whole_is_not_there_yet(tmp_path, form):
    """A log that grows byte by byte, as a slow writer's does."""
    History(tmp_path / "whole", 3, form, count=16, size=1024)
    expected = now(tmp_path / "whole")
    growing = tmp_path / "growing"
    os.makedirs(growing / "segments")
    (growing / "store.toml").write_bytes((tmp_path / "whole/store.toml").read_bytes())
    found = []
    with Feed(str(growing), 0, timeout=0) as feed:
        for name in sorted(os.listdir(tmp_path / "whole/segments")):
            with open(growing / "segments" / name, "wb", buffering=0) as file:
                for byte in (tmp_path / "whole/segments" / name).read_bytes():
                    file.write(bytes([byte]))
                    found += list(feed)
    assert told(found) == told(expected)


@pytest.mark.parametrize("form", ["binary", "text"])
def test_a_torn_end_is_cut_and_the_feed_goes_on(tmp_path, form):
    path = str(tmp_path / "s")
    with kvfs.open(path, format=form) as store:
        store.put("a", "1")
    segment = os.path.join(path, "segments", "00000001.seg")
    os.unlink(os.path.join(path, "clean"))
    with open(segment, "ab") as file:
        file.write(b"P|torn" if form == "text" else b"\xb5" * 40)
    with Feed(path, 0, timeout=0) as feed:
        for _ in range(3):
            assert [one.key for one in feed] in ([b"a"], [])
        with kvfs.open(path) as store:
            store.put("b", "2")
            assert [(one.sequence, one.key) for one in feed] == [(1, b"b")]


def look(path, times):
    """Look at the log several times: what is not whole may be on its way at the first."""
    with Feed(path, 0, timeout=0) as feed:
        for _ in range(times):
            list(feed)


def test_damage_is_named(tmp_path):
    path = str(tmp_path / "s")
    with kvfs.open(path, max_segment_size=1024) as store:
        overwrite(store, 9)
    segments = sorted(os.listdir(os.path.join(path, "segments")))
    assert len(segments) > 2
    for name, at in [(segments[0], 70), (segments[-1], 70), (segments[-1], -1)]:
        file = os.path.join(path, "segments", name)
        with open(file, "rb") as opened:
            whole = opened.read()
        broken = bytearray(whole)
        broken[at] ^= 1
        with open(file, "wb") as opened:
            opened.write(broken)
        with pytest.raises(CorruptionError, match=name):
            look(path, 3)
        with open(file, "wb") as opened:
            opened.write(whole)
    assert len(now(path)) == 9


def test_what_a_full_disk_takes_back_was_never_seen(tmp_path, faulty, monkeypatch):
    seen = []
    with kvfs.open(tmp_path / "s", max_segment_size=1024, disk=faulty) as store:
        store.put("a", "1")
        with store.changes(timeout=0) as feed:
            write = faulty.write

            def seen_at_once(*args):
                try:
                    write(*args)
                finally:
                    seen.extend(feed)

            monkeypatch.setattr(faulty, "write", seen_at_once)
            faulty.fail("write", errno.ENOSPC, after=3, times=1)
            node = store.files.node(store.files.find(1, b"a"))
            store.files.content.write(node, 1, os.urandom(3000))
            with pytest.raises(KvfsError, match="no space"):
                store.files.content.commit(node)
            assert faulty.calls["truncate"], "something was taken back"
            assert [*seen, *feed] == []
            store.files.content.commit(node)
            assert [(one.what, one.size) for one in [*seen, *feed]] == [("write", 3000)]


def test_what_compaction_moves_is_not_shown(tmp_path):
    with kvfs.open(tmp_path / "s", max_segment_size=1024) as store:
        store.put("lives", b"x" * 200)
        with store.changes(timeout=0) as feed:
            overwrite(store)
            assert len(list(feed)) == 60
            store.compact(NOTHING)
            store.put("end", "1")
            assert [one.key for one in feed] == [b"end"]
            assert store.position > 62, "something was moved"


def test_what_is_gone_is_said_with_what_is_there(tmp_path):
    with kvfs.open(tmp_path / "s", max_segment_size=1024) as store:
        slow = store.changes(0, timeout=0)
        assert next(slow, None) is None
        overwrite(store)
        assert next(slow).sequence == 0
        store.compact(NOTHING)
        with pytest.raises(PastGoneError, match="not kept any more; the oldest that is kept is"):
            list(slow)
        slow.close()
        with pytest.raises(PastGoneError, match="change 0 is not kept") as error:
            now(store.path, 0)
        oldest = int(str(error.value).split()[-1])
        store.put("end", "1")
        assert now(store.path, oldest)[-1].key == b"end"
        assert told(now(store.path, oldest)) == told(changes(store.path))


def test_nobody_is_kept_from_removing_segments(tmp_path):
    with kvfs.open(tmp_path / "s") as store, store.changes():
        store.put("a", "1")
        with alone(Disk(), store.path) as nobody_reads:
            assert nobody_reads


def test_a_value_that_is_not_kept_any_more_is_none(tmp_path):
    with kvfs.open(tmp_path / "s", max_segment_size=1024) as store:
        store.put("key 0", "value")
        with store.changes(values=True, timeout=0) as feed:
            store.files.content.truncate(store.files.node(store.files.find(1, b"key 0")), 2)
            overwrite(store)
            # The segment of the change stays open, as of one who is slow; what came before it goes.
            batch = next(feed._follower.batches())
            store.compact(NOTHING)
            store.compact(NOTHING)
            feed._take(batch)
            (change,) = feed._ready
            assert (change.what, change.value, change.has_value) == ("truncate", None, True)


@pytest.mark.parametrize("replace", ["repair", "compact"])
def test_another_log_in_its_place_is_said(tmp_path, replace):
    path = str(tmp_path / "s")
    with kvfs.open(path, format="text", max_segment_size=300) as store:
        overwrite(store, 4)
    with Feed(path, timeout=0) as feed:
        if replace == "compact":
            compact_text(Disk(), path, read_config(path, Disk()))
        else:
            with open(os.path.join(path, "segments", "00000001.seg"), "r+b") as file:
                file.write(b"?")
            repair(path)
        with pytest.raises(PastGoneError, match="another log"):
            list(feed)


# -- beside a writer --------------------------------------------------------------------------


def write(path, seed, form, pipe):
    """Change the store at random, for ever; say how many records are safe from a kill."""
    rng = random.Random(seed)
    with kvfs.open(path, format=form, max_segment_size=2000) as store:
        while True:
            key = f"k{rng.randrange(20)}"
            what = rng.random()
            if what < 0.7:
                store.put(key, rng.randbytes(rng.randrange(300)))
            elif what < 0.8:
                store.rename(key, f"k{rng.randrange(20)}")
            else:
                store.delete(key)
            os.write(pipe, b".")


@pytest.mark.parametrize("form", ["binary", "text"])
def test_beside_writers_that_are_killed(tmp_path, form):
    path = str(tmp_path / "s")
    kvfs.init(path, format=form, max_segment_size=2000)
    found = []
    with Feed(path, 0) as feed:
        reader = threading.Thread(target=lambda: found.extend(feed))
        reader.start()
        for seed in range(6):
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    write(path, seed, form, writing)
                finally:
                    os._exit(1)
            os.close(writing)
            with os.fdopen(reading, "rb") as pipe:
                pipe.read(50 + 37 * seed)
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        with kvfs.open(path) as store:
            store.put("the end", "1")
        while not found or found[-1].key != b"the end":
            reader.join(0.01)
            assert reader.is_alive()
        feed.stop()
        reader.join(20)
    assert told(found) == told(changes(path))
