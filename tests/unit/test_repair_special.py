"""Repair of damage beyond records: configuration, whole segments, bad blocks; and disks that fail."""

import errno
import os
import shutil
from contextlib import suppress
from itertools import count

import pytest
from crc32c import crc32c
from histories import read_all
from wounded import one_lost, small, values

import kvfs
from kvfs.disk import Disk
from kvfs.errors import ConfigError, NewerFormatError
from kvfs.store import exchange
from kvfs.store.repair import repair
from kvfs.store.verify import check


@pytest.mark.parametrize("form", ["binary", "text"])
@pytest.mark.parametrize("left", [None, b"format = ", b"\xff\0"])
def test_a_lost_configuration_is_made_anew(tmp_path, form, left):
    path = tmp_path / "s"
    with small(path, format=form) as store:
        store.put("a", "1")
        store.put("b", "2")
    before = kvfs.open(path, read_only=True).config
    (path / "store.toml").unlink()
    if left is not None:
        (path / "store.toml").write_bytes(left)
    with pytest.raises(kvfs.KvfsError, match=r"kvfs repair|damaged"):
        kvfs.open(path)
    assert repair(path).rebuilt
    with kvfs.open(path) as store:
        assert dict(store.items()) == {b"a": b"1", b"b": b"2"}
        assert store.config.format == form
        assert form == "text" or store.config.id == before.id
    if left is not None:
        assert (path / "quarantine" / "store.toml").read_bytes() == left


def test_the_configuration_of_another_store_changes_nothing(tmp_path):
    path, other = tmp_path / "s", tmp_path / "other"
    one_lost(path)
    kvfs.init(other)
    shutil.copy(other / "store.toml", path)
    before = read_all(path / "segments")
    with pytest.raises(ConfigError, match="is of another store"):
        repair(path)
    assert read_all(path / "segments") == before
    (path / "store.toml").unlink()
    assert repair(path).rebuilt
    assert values(path) == {b"a": b"1"}


@pytest.mark.parametrize("where", ["store.toml", "segments/00000001.seg"])
def test_what_a_later_version_wrote_is_left_alone(tmp_path, where):
    path = tmp_path / "s"
    one_lost(path)
    file = path / where
    if where == "store.toml":
        file.write_text(file.read_text().replace("version = 1", "version = 2"))
    else:
        data = bytearray(file.read_bytes())
        data[8] = 2
        data[60:64] = crc32c(data[:60]).to_bytes(4, "little")
        file.write_bytes(data)
    before = read_all(path / "segments")
    with pytest.raises(NewerFormatError, match="use a newer kvfs"):
        repair(path)
    assert read_all(path / "segments") == before


class BadBlocks(Disk):
    """A disk that cannot read some blocks of segments."""

    def __init__(self, *bad):
        self.bad = [range(start, start + 4096) for start in bad]

    def read(self, fd, size, offset):
        name = os.readlink(f"/proc/self/fd/{fd}")
        if "/segments/" in name and any(
            offset < b.stop and b.start < offset + size for b in self.bad
        ):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(fd, size, offset)


@pytest.mark.parametrize("form", ["binary", "text"])
def test_what_the_disk_cannot_read_is_lost_and_no_more(tmp_path, form):
    path = tmp_path / "s"
    with small(path, format=form) as store:
        for number in range(40):
            store.put(f"k{number}", b"%02d" % number * 500)
    done = repair(path, disk=BadBlocks(8192))
    assert {entry.reason for entry in done.lost} == {"the disk cannot read it"}
    assert all(
        entry.offset < 8192 + 4096 and entry.offset + entry.length > 8192 - 4096
        for entry in done.lost
    )
    found = values(path)
    assert 33 < len(found) < 40
    assert all(value == b"%02d" % int(key[1:]) * 500 for key, value in found.items())


def test_a_segment_that_is_no_file_is_named(tmp_path):
    path = tmp_path / "s"
    with small(path, max_segment_size=512) as store:
        for key in "abc":
            store.put(key, b"x" * 300)
    (path / "segments" / "00000002.seg").unlink()
    (path / "segments" / "00000002.seg").mkdir()
    done = repair(path)
    entries = [(entry.segment, entry.reason) for entry in done.lost]
    assert ("00000002.seg", "it is no regular file") in entries
    assert set(values(path)) == {b"a", b"c"}


def test_segments_that_are_missing_in_a_row_are_one_loss(tmp_path):
    path = tmp_path / "s"
    with small(path, max_segment_size=512) as store:
        for number in range(9):
            store.put(f"{number}", b"x" * 300)
    for number in range(3, 7):
        (path / "segments" / f"{number:08}.seg").unlink()
    (entry,) = repair(path).lost
    assert (entry.segment, entry.reason) == (
        "00000003.seg",
        "4 segments are missing, up to 00000006.seg",
    )


def test_a_clean_close_of_a_huge_segment_takes_no_time(tmp_path):
    path = tmp_path / "s"
    one_lost(path)
    (path / "clean").write_bytes(b"999999999999 100 7\n")
    assert len(repair(path).lost) == 2


def test_the_end_of_a_segment_that_is_gone_is_a_loss(tmp_path):
    path = tmp_path / "s"
    with small(path, max_segment_size=512) as store:
        for number in range(9):
            store.put(f"{number}", b"x" * 150)
    file = path / "segments" / "00000002.seg"
    data = file.read_bytes()
    file.write_bytes(data[: 64 + (len(data) - 64) // 2])  # one record of two
    done = repair(path)
    assert [entry.reason for entry in done.lost] == ["1 records are missing there or before"]
    assert len(values(path)) == 8


@pytest.mark.parametrize("first", [True, False])
def test_a_damaged_head_costs_nothing_where_the_counts_add_up(tmp_path, first):
    path = tmp_path / "s"
    with small(path, max_segment_size=512) as store:
        store.put("big", b"x" * 1200)
        for number in range(9):
            store.put(f"{number}", b"x" * 150)
    name = f"{1 if first else 3:08}.seg"
    with open(path / "segments" / name, "r+b") as file:
        file.write(b"\0" * 64)
    done = repair(path)
    assert [entry.record for entry in done.lost] == ["header"]
    assert len(values(path)) == 10


def test_an_exchange_that_was_cut_off_is_finished_by_the_next_writer(tmp_path, monkeypatch):
    path = tmp_path / "s"
    one_lost(path)
    monkeypatch.setattr(exchange, "finish", lambda *_: False)
    repair(path)
    monkeypatch.undo()
    assert "has not come to its end" in check(path).problems[0]
    assert values(path) == {b"a": b"1"}
    with kvfs.open(path) as store:
        store.put("c", "3")
    assert not check(path).damaged
    assert sorted(os.listdir(path / "quarantine")) == ["segments.1", "segments.1.json"]
    assert not (path / "segments.repair").exists()


def test_any_call_of_the_disk_may_fail_during_a_repair(tmp_path):
    one_lost(tmp_path / "damaged", max_segment_size=512)
    old = read_all(tmp_path / "damaged" / "segments")
    for number in count():
        path = tmp_path / f"s{number}"
        shutil.copytree(tmp_path / "damaged", path)
        disk = OneFailure(number)
        with suppress(OSError):
            repair(path, disk=disk)
        assert repair(path).kept or (path / "quarantine" / "segments.1").is_dir()
        assert values(path) == {b"a": b"1"}
        assert read_all(path / "quarantine" / "segments.1") == old
        assert sorted(os.listdir(path / "quarantine")) == ["segments.1", "segments.1.json"]
        assert not check(path).damaged
        shutil.rmtree(path)
        if disk.left >= 0:
            break
    assert number > 50


class OneFailure(Disk):
    """A disk whose call number `number` fails."""

    def __init__(self, number):
        self.left = number

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name.startswith("_") or name == "left" or not callable(found):
            return found

        def call(*args, **kwargs):
            self.left -= 1
            if self.left == -1 and name != "close":
                raise OSError(errno.EIO, os.strerror(errno.EIO), "somewhere")
            return found(*args, **kwargs)

        return call
