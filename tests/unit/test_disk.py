"""What the disk refuses to open."""

import errno
import os
import socket

import pytest

import kvfs
from kvfs.disk import Disk
from kvfs.errors import in_words
from kvfs.store.lock import holder_of
from kvfs.store.stat import stat

FILES = ["store.toml", "lock", "clean", "segments/00000001.seg"]
FLAGS = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT]


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("make", [os.mkfifo, make_socket])
def test_only_regular_files_are_opened_and_nobody_waits(tmp_path, make, flags):
    path = str(tmp_path / "file")
    make(path)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="not a regular file") as caught:
        Disk().open(path, flags)
    assert caught.value.errno == errno.EINVAL
    assert in_words(caught.value) == f"{path}: this is not a regular file"
    assert os.listdir("/proc/self/fd") == before


def test_a_directory_that_moves_stays_what_was_opened(tmp_path):
    disk = Disk()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    path = str(tmp_path / "one" / "file")
    fd = disk.open_directory(str(tmp_path / "one"))
    disk.exchange(str(tmp_path / "one"), str(tmp_path / "two"))
    (tmp_path / "two" / "more").touch()
    assert disk.read_file(path, directory=fd) == b"one"
    assert disk.read_file(path) == b"two"
    assert sorted(disk.list(fd)) == ["file", "more"]
    with pytest.raises(FileNotFoundError) as caught:
        disk.open(str(tmp_path / "one" / "none"), os.O_RDONLY, directory=fd)
    assert caught.value.filename == str(tmp_path / "one" / "none")
    disk.close(fd)


def test_a_link_is_no_directory(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match="Not a directory"):
        Disk().open_directory(str(tmp_path / "link"))


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(OSError, match="not a regular file"):
        Disk().open(str(tmp_path), os.O_RDONLY)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", FILES)
def test_a_fifo_in_a_store_is_named_and_nobody_waits(tmp_path, name):
    path = str(tmp_path / "store")
    with kvfs.open(path) as store:
        store.put("a", "1")
    file = os.path.join(path, name)
    os.unlink(file)
    os.mkfifo(file)
    uses = [lambda: kvfs.open(path)]
    if name == "lock":
        uses.append(lambda: holder_of(Disk(), path))
    else:
        uses += [lambda: kvfs.open(path, read_only=True), lambda: stat(path)]
    for use in uses:
        with pytest.raises(OSError, match="not a regular file") as caught:
            use()
        assert os.path.basename(file) in in_words(caught.value)


@pytest.mark.timeout(20)
def test_a_segment_that_has_become_a_fifo_is_named(tmp_path):
    path = str(tmp_path / "store")
    with kvfs.open(path) as store:
        store.put("a", "1")
    with kvfs.open(path, read_only=True) as reader:
        file = os.path.join(path, "segments", "00000001.seg")
        os.unlink(file)
        os.mkfifo(file)
        with pytest.raises(kvfs.KvfsError, match=r"00000001\.seg .*not a regular file"):
            reader.get("a")
