"""Whatever call of the disk fails, and whenever: what was acknowledged stays, the rest is refused."""

import errno
import os

import pytest
from failing import CALLS, FailingDisk, Use
from losses import Loss
from outages import STORE

import kvfs
from kvfs.store.files import Owner

FORMS = ["binary", "text"]
ERRORS = [
    (errno.ENOSPC, False),
    (errno.ENOSPC, True),
    (errno.EIO, False),
    (errno.EIO, True),
    (errno.EMFILE, False),
    (errno.ENOMEM, True),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CALLS)
def test_any_call_may_fail(form, name):
    disk = FailingDisk()
    assert Use(disk, form).run().refused == 0
    calls = disk.calls[name]
    assert calls
    for nth in range(1, calls + 1):
        for code, lasting in ERRORS:
            disk = FailingDisk()
            disk.plan(name, nth, code, lasting=lasting)
            try:
                Use(disk, form).run()
            except Exception as error:
                plan = f"{name} {nth} fails with {errno.errorcode[code]}, lasting: {lasting}"
                raise AssertionError(plan) from error
            assert disk.failures


@pytest.fixture
def store():
    disk = FailingDisk()
    kvfs.init(STORE, max_segment_size=700, disk=disk)
    store = kvfs.open(STORE, disk=disk)
    store.put("a", "1")
    return store


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE, errno.ENOMEM])
def test_refusals_leave_nothing_in_memory(store, code):
    files = store.files
    store._core.disk.plan("write", 1, code, lasting=True)
    for number in range(300):
        with pytest.raises(kvfs.KvfsError):
            store.put(f"k{number}", bytes(2000))
        with pytest.raises(kvfs.KvfsError):
            store.put("a", bytes(2000))
        node = files.create(1, b"new", Owner(1, 1, 0o644))
        files.opened(node.ino)
        files.content.write(node, 0, bytes(2000))
        with pytest.raises(kvfs.KvfsError):
            files.content.commit(node)
        files.give_up(node)
        files.closed(node.ino)
    core = store._core
    assert len(core.table.nodes) == len(
        kvfs.open(STORE, read_only=True, disk=core.disk)._core.table.nodes
    )
    assert not files.content._pending
    assert not files._orphans
    assert not core._cache
    assert core.disk.descriptors <= 5  # with those of who reads beside
    core.disk.heal()
    store.put("k", "2")
    assert dict(store.items()) == {b"a": b"1", b"k": b"2"}


def test_a_segment_that_was_taken_back_does_not_come_back(store):
    disk = store._core.disk
    disk.plan("sync_directory", 2, errno.ENOSPC)
    with pytest.raises(kvfs.NoSpaceError):
        store.put("large", bytes(1500))
    disk.heal()
    store.put("b", "2")
    store.sync()
    with kvfs.open(STORE, disk=disk.crash(Loss())) as after:
        assert dict(after.items()) == {b"a": b"1", b"b": b"2"}


@pytest.mark.parametrize("name", ["open_scratch", "write"])
def test_a_file_without_a_name_is_refused_with_an_error_of_kvfs(store, name):
    files = store.files
    node = files.lookup(1, b"a")
    files.opened(node.ino)
    store.delete("a")
    store._core.disk.plan(name, 1, errno.ENOSPC)
    with pytest.raises(kvfs.KvfsError) as caught:
        files.content.write(node, 1, b"unseen")
    assert caught.value.errno == errno.ENOSPC
    files.content.write(node, 1, b"unseen")
    assert files.content.read(node, 0, 100) == b"1unseen"
    files.closed(node.ino)
    assert store._core.disk.descriptors == 3  # of the lock, the directory and the segment


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_takes_part_of_a_write(tmp_path, monkeypatch, form, code):
    """The operating system takes what fits, byte for byte, and names the error with the next call."""
    true = os.pwrite
    for number, room in enumerate(range(0, 2000, 37)):
        left = room

        def pwrite(fd, data, offset):
            nonlocal left
            if left == 0:
                raise OSError(code, os.strerror(code))
            written = true(fd, bytes(data[: min(left, 100)]), offset)
            left -= written
            return written

        path = tmp_path / str(number)
        kvfs.init(path, format=form, max_segment_size=700)
        store = kvfs.open(path)
        store.put("a", "1")
        held = {b"a": b"1"}
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", pwrite)
            for key, value in (
                (b"b", b"2" * 90),
                (b"c", b"3" * 600),
                (b"a", b"4" * 650),
                (b"d", b""),
            ):
                try:
                    store.put(key, value)
                    held[key] = value
                except kvfs.NoSpaceError:
                    assert code == errno.ENOSPC
                except kvfs.StoreFailedError:
                    assert code == errno.EIO
                assert dict(store.items()) == held
        if code == errno.ENOSPC:
            store.put("after", "5")
            held[b"after"] = b"5"
        store.close()
        with kvfs.open(path) as store:
            assert dict(store.items()) == held
