"""A store on damaged files and failing disks."""

import errno
import json
import os
import shutil

import pytest

import kvfs
from kvfs.records import Delete, Put


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "store")


@pytest.fixture(params=["binary", "text"])
def form(request):
    return request.param


# -- damage and failing disks -----------------------------------------------------------


def test_damage_is_never_handed_out(path, segments):
    with kvfs.open(path) as store:
        store.put("k", b"old")
        store.put("k", b"new value")
    with kvfs.open(path, read_only=True) as store:  # which has no value in memory
        at = segments(path)[0].index(b"new value")
        with open(os.path.join(path, "segments", "00000001.seg"), "r+b") as file:
            file.seek(at)
            file.write(b"N")
        with pytest.raises(kvfs.CorruptionError, match=r"00000001\.seg .*offset \d+"):
            store.get("k")


def test_a_full_disk_refuses_whole_and_goes_on(path, faulty, full):
    with kvfs.open(path, disk=faulty, max_segment_size=512) as store:
        store.put("a", "1")
        store.put("b", "2")
        faulty.fail("write", full, partial=3)
        for action in (
            lambda: store.put("a", "x" * 2000),
            lambda: store.put("new/k", "x" * 2000),
            lambda: store.delete("a"),
            lambda: store.rename("a", "n/b"),
        ):
            with pytest.raises(kvfs.NoSpaceError):
                action()
            assert list(store.items()) == [(b"a", b"1"), (b"b", b"2")]
        faulty.heal()
        store.put("a", "x" * 2000)
    with kvfs.open(path) as store:
        assert list(store.items()) == [(b"a", b"x" * 2000), (b"b", b"2")]


@pytest.mark.parametrize("after", range(12))
def test_a_disk_that_fills_up_at_any_write_of_a_value(path, faulty, after):
    with kvfs.open(path, disk=faulty, max_segment_size=512) as store:
        store.put("a", "1")
        faulty.fail("write", errno.ENOSPC, after=after)
        try:
            store.put("a", "x" * 2000)
            expected = b"x" * 2000
        except kvfs.NoSpaceError:
            expected = b"1"
        faulty.heal()
        assert store.get("a") == expected
        store.put("b", "y" * 2000)
    with kvfs.open(path) as store:
        assert list(store.items()) == [(b"a", expected), (b"b", b"y" * 2000)]


def test_a_full_disk_at_close_loses_nothing(path, faulty):
    store = kvfs.open(path, disk=faulty)
    store.put("a", "1")
    faulty.fail("write", errno.ENOSPC)
    try:
        store.close()
    except OSError as error:
        assert isinstance(error, kvfs.KvfsError)  # noqa: PT017 - not closing cleanly is allowed
    faulty.heal()
    with kvfs.open(path) as again:
        assert again.get("a") == b"1"


def test_after_a_failed_write_the_store_only_reads(path, faulty):
    with kvfs.open(path, disk=faulty) as store:
        store.put("a", "1")
        faulty.fail("write", errno.EIO, times=1)
        for _ in range(2):
            with pytest.raises(kvfs.StoreFailedError) as caught:
                store.put("a", "2")
            assert caught.value.errno == errno.EIO
        for action in (lambda: store.delete("a"), store.sync):
            with pytest.raises(kvfs.StoreFailedError):
                action()
        assert store.get("a") == b"1"
    assert dict(kvfs.open(path, read_only=True).items()) == {b"a": b"1"}


def test_a_failed_read_is_an_error_of_kvfs(path, faulty):
    with kvfs.open(path, disk=faulty) as store:
        store.put("a", "1")
    with kvfs.open(path, disk=faulty, read_only=True) as store:  # which has no value in memory
        faulty.fail("read", errno.EIO)
        with pytest.raises(kvfs.KvfsError, match="00000001") as caught:
            store.get("a")
        assert caught.value.errno == errno.EIO
        faulty.heal()
        assert store.get("a") == b"1"


def test_every_error_is_an_oserror_with_its_errno():
    import kvfs.errors

    classes = [value for value in vars(kvfs.errors).values() if isinstance(value, type)]
    assert len(classes) > 12
    for kind in classes:
        error = kind(errno.EPERM) if kind.__name__ == "PosixError" else kind("a sentence")
        assert isinstance(error, kvfs.KvfsError)
        assert isinstance(error, OSError)
        assert error.errno in errno.errorcode
        assert json.dumps(str(error))


@pytest.mark.parametrize("after", range(6))
def test_memory_that_runs_out_at_any_write_of_a_value(path, tmp_path, monkeypatch, faulty, after):
    with kvfs.open(path, disk=faulty, max_segment_size=4096) as store:
        store.put("a", "1")
        writes = iter(range(after + 1))

        def write(fd, data, offset, healthy=faulty.write):
            if next(writes, None) == after:
                raise MemoryError
            healthy(fd, data, offset)

        monkeypatch.setattr(faulty, "write", write)
        with pytest.raises((MemoryError, kvfs.KvfsError)):
            store.put("a", "x" * 9000)
        assert store.get("a") == b"1"
        store.put("b", "2")
        shutil.copytree(path, tmp_path / "after a crash")
        assert list(store.items()) == [(b"a", b"1"), (b"b", b"2")]
    for place in (path, tmp_path / "after a crash"):
        with kvfs.open(place) as store:
            assert list(store.items()) == [(b"a", b"1"), (b"b", b"2")]


def test_records_of_a_log_can_be_replayed_elsewhere(path):
    with kvfs.open(path) as store:
        store.put("a", "1")
        store.delete("a")
        records = [record for record, _ in _replay(store)]
    assert [type(record) for record in records] == [Put, Delete]
    assert records[0].time <= records[1].time


def _replay(store):
    from kvfs.recovery import Replay

    log = store._core.log
    return Replay(log._disk, log._paths, log._config, log._directory).records()


def test_a_full_disk_keeps_no_refused_bytes_and_no_reader_waiting(path, faulty):
    with kvfs.open(path, disk=faulty) as store:
        store.put("a", bytes(2_000_000))
        files = store.files
        node = files.file(files.lookup(1, b"a").ino)
        files.content.write(node, 2_000_000, b"tail")
        faulty.fail("write", errno.ENOSPC)
        for _ in range(3):
            with pytest.raises(kvfs.NoSpaceError):
                files.content.write(node, 2_000_004, bytes(300_000))
        assert files.stat(node).size == 2_000_004
        assert files.content.read(node, 1_999_998, 100) == b"\0\0tail"
        assert files.content.read(node, 0, 10) == bytes(10)
        faulty.heal()
    with kvfs.open(path, read_only=True) as store:
        assert store.get("a") == bytes(2_000_000) + b"tail"


@pytest.mark.parametrize("thing", [5, None, [1, 2], 1.5])
def test_only_bytes_and_text_are_keys_and_values(path, thing):
    with kvfs.open(path) as store:
        for call in (
            lambda: store.put("k", thing),
            lambda: store.put(thing, b""),
            lambda: store.get(thing),
            lambda: thing in store,
        ):
            with pytest.raises(TypeError, match="bytes or str"):
                call()
        assert len(store) == 0
