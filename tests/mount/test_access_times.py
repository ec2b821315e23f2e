"""Reading sets access times as relatime does, and the log has them after a clean end."""

import os
import time

import pytest

SECOND = 10**9
DAY = 86_400 * SECOND


def read_file(path):
    path.read_bytes()


def list_directory(path):
    os.listdir(path)


def read_link(path):
    os.readlink(path)


@pytest.fixture(params=[read_file, list_directory, read_link])
def node(request, binary):
    """Return a path, and how it is read."""
    path = binary.path / "node"
    if request.param is read_file:
        path.write_bytes(b"1")
    elif request.param is list_directory:
        path.mkdir()
    else:
        path.symlink_to("target")
    return binary, path, request.param


def times(path):
    info = path.lstat()
    return info.st_atime_ns, info.st_mtime_ns, info.st_ctime_ns


def set_times(path, atime, mtime):
    os.utime(path, ns=(atime, mtime), follow_symlinks=False)


def is_now(when):
    return abs(when - time.time_ns()) < 60 * SECOND


def test_a_first_read_after_a_change_counts(node):
    mounted, path, read = node
    set_times(path, 5, 7)
    before = times(path)
    read(path)
    after = times(path)
    assert is_now(after[0])
    assert after[1:] == before[1:]
    mounted.remount()
    assert times(path) == after


def test_a_read_is_noted_once_after_a_change(node):
    _, path, read = node
    set_times(path, time.time_ns() + DAY // 2, 7)
    before = times(path)
    read(path)
    assert times(path) == before


def test_a_read_is_noted_once_a_day(node):
    _, path, read = node
    set_times(path, 3, 3)
    while times(path)[0] <= times(path)[2]:  # the clock has a grain of milliseconds
        read(path)
    first = times(path)
    read(path)
    assert times(path) == first


def test_what_the_kernel_has_in_its_cache_is_noted_too(binary):
    path = binary.path / "a"
    path.write_bytes(b"1" * 5000)
    assert path.read_bytes() == b"1" * 5000
    for _ in range(2):
        set_times(path, 5, 7)
        fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
        assert len(os.read(fd, 9000)) == 5000
        os.close(fd)
        assert times(path)[0] == 5
        assert path.read_bytes() == b"1" * 5000
        assert is_now(times(path)[0])


def test_noatime_notes_nothing(stores):
    mounted = stores.make("binary", mount=False).mount("-o", "noatime")
    path = mounted.path / "a"
    path.write_bytes(b"1")
    set_times(path, 5, 7)
    path.read_bytes()
    os.listdir(mounted.path)
    assert times(path)[:2] == (5, 7)


def test_o_noatime_notes_nothing(binary):
    path = binary.path / "a"
    path.write_bytes(b"1")
    set_times(path, 5, 7)
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    assert os.read(fd, 9) == b"1"
    os.close(fd)
    assert times(path)[0] == 5


def test_a_file_that_has_no_name_has_an_access_time(mounted):
    path = mounted.path / "a"
    path.write_bytes(b"12")
    set_times(path, 5, 7)
    with open(path, "rb", buffering=0) as file:
        path.unlink()
        assert file.read(1) == b"1"
        assert is_now(os.fstat(file.fileno()).st_atime_ns)


def test_reading_writes_no_line_to_a_text_log(text):
    text.run("echo 1 > a; mkdir d; ln -s a s")
    lines = text.lines()
    text.run("cat a s; ls d; readlink s")
    assert is_now((text.path / "a").stat().st_atime_ns)
    text.remount()
    assert text.lines() == lines
