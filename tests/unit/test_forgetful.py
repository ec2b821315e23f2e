"""The disk in memory does what the real one does, and loses what it says."""

import os

import pytest
from forgetful import ForgetfulDisk
from losses import Loss, Prefix, Scattered

from kvfs.disk import Disk

TOP = "/disk"


def look_into(disk, path, look):
    """Call `look` with the open directory `path`."""
    fd = disk.open_directory(path)
    try:
        return look(fd)
    finally:
        disk.close(fd)


def write(disk, path, data, *, sync=False):
    fd = disk.open(path, os.O_RDWR | os.O_CREAT)
    disk.write(fd, data, disk.size(fd))
    if sync:
        disk.sync(fd)
    disk.close(fd)


CALLS = [
    lambda disk, top: disk.mkdir(f"{top}/d"),
    lambda disk, top: disk.mkdir(f"{top}/d"),
    lambda disk, top: disk.open(f"{top}/none", os.O_RDWR),
    lambda disk, top: disk.open(f"{top}/none/x", os.O_RDWR | os.O_CREAT),
    lambda disk, top: disk.write_file(f"{top}/d/a", b"one"),
    lambda disk, top: disk.write_file(f"{top}/d/a", b"two"),
    lambda disk, top: disk.read_file(f"{top}/d/a"),
    lambda disk, top: disk.open(f"{top}/d/a", os.O_RDWR | os.O_CREAT | os.O_EXCL),
    lambda disk, top: disk.open(f"{top}/d/a/b", os.O_RDWR),
    lambda disk, top: write(disk, f"{top}/d/b", b"bytes"),
    lambda disk, top: disk.list(f"{top}/d/b"),
    lambda disk, top: disk.stat(f"{top}/d/b").st_size,
    lambda disk, top: disk.stat(f"{top}/c"),
    lambda disk, top: disk.open_directory(f"{top}/d/b"),
    lambda disk, top: disk.open_directory(f"{top}/none"),
    lambda disk, top: look_into(disk, f"{top}/d", lambda fd: sorted(disk.list(fd))),
    lambda disk, top: look_into(
        disk, f"{top}/d", lambda fd: disk.read_file(f"{top}/none/b", directory=fd)
    ),
    lambda disk, top: look_into(disk, f"{top}/d", lambda fd: disk.read_file("c", directory=fd)),
    lambda disk, top: look_into(
        disk, f"{top}/d", lambda fd: disk.stat(f"{top}/none/b", directory=fd).st_size
    ),
    lambda disk, top: look_into(disk, f"{top}/d", lambda fd: disk.stat("c", directory=fd)),
    lambda disk, top: disk.rename(f"{top}/d/b", f"{top}/c"),
    lambda disk, top: disk.rename(f"{top}/d/b", f"{top}/c"),
    lambda disk, top: disk.mkdir(f"{top}/e"),
    lambda disk, top: disk.exchange(f"{top}/d", f"{top}/e"),
    lambda disk, top: disk.exchange(f"{top}/d", f"{top}/f"),
    lambda disk, top: disk.rmdir(f"{top}/e"),
    lambda disk, top: disk.rmdir(f"{top}/d"),
    lambda disk, top: disk.rename(f"{top}/e", f"{top}/d"),
    lambda disk, top: disk.unlink(f"{top}/d"),
    lambda disk, top: disk.unlink(f"{top}/d/a"),
    lambda disk, top: disk.unlink(f"{top}/d/a"),
    lambda disk, top: disk.sync_directory(f"{top}/d"),
    lambda disk, top: disk.sync_directory(f"{top}/e"),
    lambda disk, top: disk.read_file(f"{top}/c"),
]


def test_it_does_what_a_real_disk_does(tmp_path):
    def outcomes(disk, top):
        for call in CALLS:
            try:
                value = call(disk, top)
            except OSError as error:
                value = type(error), error.errno
            yield value, sorted(disk.list(top))

    assert list(outcomes(ForgetfulDisk(), TOP)) == list(outcomes(Disk(), str(tmp_path)))


def test_a_cut_and_a_write_beyond_the_end(tmp_path):
    contents = []
    for disk, top in ((ForgetfulDisk(), TOP), (Disk(), str(tmp_path))):
        fd = disk.open(f"{top}/a", os.O_RDWR | os.O_CREAT)
        disk.write(fd, b"x" * 10, 0)
        disk.truncate(fd, 4)
        disk.write(fd, b"y", 7)
        disk.truncate(fd, 9)
        contents.append((disk.read(fd, 100, 0), disk.read(fd, 2, 3), disk.size(fd)))
        assert disk.lock(fd)
        disk.close(fd)
    assert contents[0] == contents[1] == (b"xxxx\0\0\0y\0", b"x\0", 9)


def test_nothing_is_safe_before_its_sync():
    disk = ForgetfulDisk()
    write(disk, f"{TOP}/a", b"1", sync=True)
    assert disk.crash(Loss()).files() == {}
    disk.sync_directory(TOP)
    assert disk.crash(Loss()).files() == {f"{TOP}/a": b"1"}
    write(disk, f"{TOP}/a", b"2")
    disk.rename(f"{TOP}/a", f"{TOP}/b")
    assert disk.crash(Loss()).files() == {f"{TOP}/a": b"1"}
    assert disk.crash(Loss(names=True)).files() == {f"{TOP}/b": b"1"}
    assert disk.crash(Loss(data=True)).files() == {f"{TOP}/a": b"12"}


@pytest.mark.parametrize("kind", [Prefix, Scattered])
def test_sectors_are_old_or_new_or_were_never_written(kind):
    disk = ForgetfulDisk()
    write(disk, f"{TOP}/a", b"a" * 700, sync=True)
    disk.sync_directory(TOP)
    write(disk, f"{TOP}/a", b"b" * 900)
    found = set()
    for seed in range(200):
        loss = Prefix(seed, disk.time) if kind is Prefix else Scattered(seed)
        data = disk.crash(loss).files()[f"{TOP}/a"]
        assert data[:700] == b"a" * 700
        assert len(data) <= 1600
        assert set(data[700:]) <= set(b"b\0")
        found.add((len(data), data[1023:1024], data[1535:1536]))
    assert len(found) > 5
