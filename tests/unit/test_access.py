"""Access times in the store: noted at once, logged later, lost rather than in the way."""

import errno
import os

import pytest

import kvfs
from kvfs.disk import Disk
from kvfs.records import Attrs, Setattr
from kvfs.table import ROOT_INO

DAY = 86_400 * 10**9


def opened(tmp_path, **kwargs):
    return kvfs.open(tmp_path / "s", create=False, **kwargs)


@pytest.fixture
def store(tmp_path):
    kvfs.init(tmp_path / "s")
    with opened(tmp_path) as store:
        store.put("a", "1")
        store.files.setattr(store.files.lookup(ROOT_INO, b"a"), Attrs(atime=5))
        yield store


def note(store, name=b"a"):
    node = store.files.lookup(ROOT_INO, name)
    store.files.access_times.note(node)
    return node


def test_a_read_is_logged_with_the_next_sync_and_once(store):
    position = store.position
    node = note(store)
    assert (node.atime > 5, store.position) == (True, position)
    note(store)
    store.files.access_times.commit()
    store.files.access_times.commit()
    assert store.position == position + 1


def test_a_day_later_it_is_noted_again(store, monkeypatch):
    changed = store.files.lookup(ROOT_INO, b"a").ctime
    for passed, noted in ((1, 1), (DAY // 2, 1), (DAY, 1), (DAY + 1, DAY + 1)):
        monkeypatch.setattr(store._core, "now", lambda passed=passed: changed + passed)
        assert note(store).atime == changed + noted


def test_a_file_that_is_gone_by_then_costs_nothing(store):
    note(store)
    store.delete("a")
    position = store.position
    store.files.access_times.commit()
    assert store.position == position


def test_a_directory_that_keys_imply_stays_implied(store):
    store.put("d/e", "1")
    assert note(store, b"d").implicit
    store.delete("d/e")
    assert store.files.lookup(ROOT_INO, b"d") is None


def test_a_reader_notes_nothing(tmp_path, store):
    with opened(tmp_path, read_only=True) as reader:
        before = reader.files.lookup(ROOT_INO, b"a").atime
        assert note(reader).atime == before


def test_a_full_disk_is_no_reason_to_fail(tmp_path):
    class Full(Disk):
        full = False

        def write(self, fd, data, offset):
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().write(fd, data, offset)

    kvfs.init(tmp_path / "s")
    disk = Full()
    with opened(tmp_path, disk=disk) as store:
        store.put("a", "1")
        store.files.setattr(store.files.lookup(ROOT_INO, b"a"), Attrs(atime=5))
        noted = note(store).atime
        disk.full = True
        store.files.access_times.commit()
        disk.full = False
        position = store.position
        store.files.access_times.commit()
        assert store.position == position + 1
    with opened(tmp_path) as store:
        assert store.files.lookup(ROOT_INO, b"a").atime == noted


def test_the_record_leaves_the_ctime(store):
    node = note(store)
    ctime = node.ctime
    seen = []
    append = store._core.log.append_one

    def append_one(record):
        seen.append(record)
        return append(record)

    store._core.log.append_one = append_one
    store.files.access_times.commit()
    assert [(r.attrs, type(r)) for r in seen] == [(Attrs(atime=node.atime, ctime=ctime), Setattr)]
    assert node.ctime == ctime
    del store._core.log.append_one
