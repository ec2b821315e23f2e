import errno
import os
import subprocess
import sys
import threading
import time

import pytest

import kvfs
from kvfs.disk import Disk


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "store")


@pytest.fixture(params=["binary", "text"])
def form(request):
    return request.param


@pytest.fixture
def store(path, form):
    with kvfs.open(path, format=form, max_segment_size=4096) as opened:
        yield opened


# -- keys and values ---------------------------------------------------------------


def test_put_get_delete(store):
    store.put(b"k", b"v")
    assert store.get(b"k") == b"v"
    store.put(b"k", b"")
    assert store.get(b"k") == b""
    assert store.delete(b"k") is True
    assert store.get(b"k") is None
    assert store.delete(b"k") is False


def test_str_means_utf_8(store):
    store.put("schlüssel", "wert é")
    assert store.get("schlüssel".encode()) == "wert é".encode()
    assert "schlüssel" in store
    assert store.rename("schlüssel", "k") is True
    assert store.delete("k") is True


def test_any_buffer_is_a_value(store):
    value = bytearray(b"abc")
    store.put(b"k", value)
    value[0] = 0
    assert store.get(b"k") == b"abc"
    store.put(memoryview(b"m"), memoryview(b"v"))
    assert store.get(b"m") == b"v"


def test_in_len_iter_keys_items(store):
    assert (len(store), list(store), list(store.items())) == (0, [], [])
    for key in (b"b", b"a/b", b"a", b"", b"a//b"):
        store.put(key, b"=" + key)
    assert len(store) == 5
    assert list(store) == sorted([b"b", b"a/b", b"a", b"", b"a//b"])
    assert list(store.items()) == [(key, b"=" + key) for key in store]
    assert list(store.keys("a/")) == sorted([b"a/b", b"a//b"])
    assert b"a/b" in store
    assert b"a/" not in store
    assert b"a/b/c" not in store


def test_items_leave_out_what_is_deleted_meanwhile(store):
    for key in (b"a", b"b", b"c"):
        store.put(key, key)
    items = iter(store.items())
    assert next(items) == (b"a", b"a")
    store.delete(b"b")
    assert list(items) == [(b"c", b"c")]


def test_rename(store):
    store.put("a", "1")
    store.put("b", "2")
    assert store.rename("a", "b") is True
    assert list(store.items()) == [(b"b", b"1")]
    assert store.rename("a", "b") is False
    assert store.rename("b", "b") is True
    assert store.rename("b", "x//y") is True
    assert list(store.items()) == [(b"x//y", b"1")]


def test_a_key_over_the_limit_is_refused_and_none_is_there(path):
    long = b"k" * 65_536
    with kvfs.open(path) as store:
        with pytest.raises(kvfs.KeyTooLongError) as caught:
            store.put(long, b"")
        assert caught.value.errno == errno.ENAMETOOLONG
        store.put(long[1:], b"v")
        assert store.get(long) is None
        assert long not in store
        assert store.delete(long) is False
        with pytest.raises(kvfs.KeyTooLongError):
            store.rename(long[1:], long)
        assert list(store.items()) == [(long[1:], b"v")]


def test_a_value_over_a_special_file_is_refused(store):
    owner = (0, 0, 0o777)
    from kvfs.store.files import Owner

    store.files.symlink(1, b"link", b"to", Owner(*owner))
    store.put("a", "1")
    for action in (lambda: store.put("link", ""), lambda: store.rename("a", "link")):
        with pytest.raises(kvfs.NotAValueError):
            action()
    assert store.get("link") is None
    assert store.delete("link") is False
    assert list(store.items()) == [(b"a", b"1")]


# -- what is logged ------------------------------------------------------------------


def test_gets_and_deletes_of_nothing_append_nothing(path, segments):
    with kvfs.open(path, format="text") as store:
        store.put("a", "1")
        before = segments(path)
        store.delete("b")
        store.get("b")
        store.rename("b", "c")
        store.rename("a", "a")
        _ = "b" in store, len(store), list(store.items())
        store.sync()
        assert segments(path) == before == [b"P|a|1\n"]


def test_every_change_is_one_line(path, segments):
    with kvfs.open(path, format="text") as store:
        store.put("a", "1")
        store.put("a", "2")
        store.rename("a", "x/y")
        store.put("x", "|")
        store.delete("x/y")
    assert segments(path) == [b"P|a|1\nP|a|2\nR|a|x/y\np|x|%7C\nD|x/y\n"]


@pytest.mark.parametrize("size", [0, 1, 300, 512, 5000])
@pytest.mark.parametrize("old", [None, b"", b"old" * 500])
def test_large_values_are_cut_and_read_back(path, size, old):
    value = os.urandom(size)
    with kvfs.open(path, max_segment_size=512) as store:
        if old is not None:
            store.put("k", old)
        store.put("k", value)
        assert store.get("k") == value
    with kvfs.open(path) as store:
        assert store.get("k") == value


@pytest.mark.parametrize("form", ["binary", "text"])
def test_a_record_that_is_too_large_leaves_everything_as_it_was(path, form, segments):
    with kvfs.open(path, format=form, max_segment_size=600) as store:
        store.put("a", "1")
        before = segments(path)
        tries = [lambda: store.put("k" * 600, ""), lambda: store.rename("a", "k" * 600)]
        if form == "text":
            tries += [lambda: store.put("a", "v" * 600), lambda: store.put("b", "v" * 600)]
        for action in tries:
            with pytest.raises(kvfs.RecordTooLargeError) as caught:
                action()
            assert caught.value.errno == errno.EFBIG
        assert list(store.items()) == [(b"a", b"1")]
        assert segments(path) == before


# -- opening and closing ---------------------------------------------------------------


def test_everything_is_back_after_a_restart(path, form):
    with kvfs.open(path, format=form) as store:
        store.put("a", "1")
        store.put("b", "2")
        store.delete("a")
    with kvfs.open(path) as store:
        assert list(store.items()) == [(b"b", b"2")]
        assert "a" not in store


def test_an_existing_store_keeps_its_format_and_size(path):
    kvfs.open(path, format="text", max_segment_size=77).close()
    with kvfs.open(path, format="binary", max_segment_size=5000) as store:
        assert (store.config.format, store.config.max_segment_size) == ("text", 77)
        assert store.path == path


def test_a_closed_store_says_so(path):
    store = kvfs.open(path)
    store.put("a", "1")
    store.close()
    store.close()
    for action in (
        lambda: store.get("a"),
        lambda: store.put("a", "1"),
        lambda: store.delete("a"),
        lambda: store.rename("a", "b"),
        lambda: "a" in store,
        lambda: len(store),
        lambda: list(store.items()),
        store.sync,
    ):
        with pytest.raises(kvfs.ClosedError) as caught:
            action()
        assert caught.value.errno == errno.EBADF


def test_the_context_manager_closes(path):
    with kvfs.open(path) as store:
        pass
    with pytest.raises(kvfs.ClosedError):
        store.get("a")
    kvfs.open(path).close()


# -- one writer, many readers -----------------------------------------------------------

HOLD = """
import sys, kvfs
store = kvfs.open(sys.argv[1])
store.put("held", "1")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(path):
    """Return a process that holds the store until its input ends."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout.readline() == "ready\n"
        yield child
        child.stdin.close()
        child.wait(60)


def test_a_second_writer_is_refused_and_told_who_holds_it(path, holder):
    with pytest.raises(kvfs.StoreLockedError, match=rf"process {holder.pid}\b") as caught:
        kvfs.open(path)
    assert caught.value.errno == errno.EBUSY
    holder.kill()
    holder.wait(60)
    kvfs.open(path).close()


def test_a_second_writer_waits_for_the_lock_if_told_to(path, holder):
    threading.Timer(0.1, holder.stdin.close).start()
    with kvfs.open(path, wait=60) as store:
        assert store.get("held") == b"1"


def test_a_second_writer_in_the_same_process_is_refused(path):
    with kvfs.open(path, mountpoint="/mnt/x"):
        with pytest.raises(kvfs.StoreLockedError, match=rf"process {os.getpid()}\b.*at /mnt/x"):
            kvfs.open(path)
    kvfs.open(path).close()


def test_a_failed_open_lets_the_lock_go(path, segments):
    with kvfs.open(path) as store:
        store.put("a", "1")
    file = os.path.join(path, "segments", "00000001.seg")
    whole = segments(path)[0]
    with open(file, "wb") as damaged:
        damaged.write(whole[:-1] + b"?")
    for _ in range(2):
        with pytest.raises(kvfs.CorruptionError, match=r"00000001\.seg .*offset 64:"):
            kvfs.open(path)
    with open(file, "wb") as repaired:
        repaired.write(whole)
    kvfs.open(path).close()


def test_readers_work_beside_a_writer(path, form):
    with kvfs.open(path, format=form) as writer:
        writer.put("a", "1")
        with kvfs.open(path, read_only=True) as reader:
            writer.put("b", "2")
            assert list(reader.items()) == [(b"a", b"1")]
        with kvfs.open(path, read_only=True) as reader:
            assert list(reader.items()) == [(b"a", b"1"), (b"b", b"2")]
        writer.put("c", "3")
    assert len(kvfs.open(path)) == 3


def test_a_reader_keeps_its_log_where_another_takes_the_place(path, form):
    values = {f"k{number}".encode(): bytes([65 + number]) * 300 for number in range(20)}
    with kvfs.open(path, format=form, max_segment_size=1024) as store:
        for key, value in values.items():
            store.put(key, value)
    with kvfs.open(path, read_only=True) as reader:
        with kvfs.open(path + "2", format=form, max_segment_size=1024) as other:
            for key in values:
                other.put(key, b"of another log" * 20)
        Disk().exchange(f"{path}/segments", f"{path}2/segments")
        assert dict(reader.items()) == values


def test_a_failed_open_leaves_nothing_open(path):
    with kvfs.open(path, format="text", max_segment_size=50) as store:
        store.put("a", b"1" * 40)
        store.put("b", b"2" * 40)
    with open(f"{path}/segments/00000002.seg", "wb") as file:
        file.write(b"W|none|0|1\n")  # a write to what is not there
    before = len(os.listdir("/proc/self/fd"))
    for read_only in (False, True):
        with pytest.raises(kvfs.CorruptionError, match=r"00000002\.seg is damaged at offset 0"):
            kvfs.open(path, read_only=read_only)
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_reader_changes_nothing(path, segments):
    with kvfs.open(path) as store:
        store.put("a", "1")
    before = sorted(os.listdir(path)), segments(path)
    with kvfs.open(path, read_only=True) as reader:
        for action in (
            lambda: reader.put("a", "2"),
            lambda: reader.delete("a"),
            lambda: reader.delete("missing"),
            lambda: reader.rename("a", "b"),
            reader.sync,
        ):
            with pytest.raises(kvfs.ReadOnlyError) as caught:
                action()
            assert caught.value.errno == errno.EROFS
    assert (sorted(os.listdir(path)), segments(path)) == before


def test_a_clock_that_was_ahead_stops_no_later_one(tmp_path, monkeypatch):
    real = time.clock_gettime_ns
    with kvfs.open(tmp_path / "s") as store:
        monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: real(clock) + 10**18)
        store.put("a", "1")
        monkeypatch.undo()
        store.put("b", "1")
    with kvfs.open(tmp_path / "s") as store:
        store.put("c", "1")
        times = {key: store.files.lookup(1, key).mtime for key in (b"a", b"b", b"c")}
    assert times[b"a"] > times[b"c"] + 10**17
    assert times[b"b"] <= times[b"c"] <= time.time_ns()
