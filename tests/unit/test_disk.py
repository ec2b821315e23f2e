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
        assert in_words(caught.value) == f"{file}: this is not a regular file"


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
