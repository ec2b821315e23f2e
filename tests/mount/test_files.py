"""Files and directories of a mount under every kind of use, compared with what POSIX says."""

import errno
import hashlib
import os
import random
import subprocess
import sys

import pytest

MIB = 1024 * 1024
SECOND = 10**9


@pytest.fixture
def top(mounted):
    return mounted.path


def md5(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


@pytest.mark.parametrize("largest", [9000, 3 * MIB])
def test_writing_anywhere_is_what_a_plain_file_makes_of_it(mounted, tmp_path, largest):
    chance = random.Random(largest)
    paths = mounted.path / "f", tmp_path / "plain"
    fds = [os.open(path, os.O_RDWR | os.O_CREAT) for path in paths]
    for step in range(150):
        offset = chance.randrange(largest)
        size = chance.choice([1, 10, 4096, 5000, 140_000])
        what = chance.choice(["write", "write", "write", "truncate", "read", "sync", "reopen"])
        data = chance.randbytes(size)
        for index, path in enumerate(paths):
            if what == "write":
                os.pwrite(fds[index], data, offset)
            elif what == "truncate":
                os.ftruncate(fds[index], offset)
            elif what == "sync":
                os.fsync(fds[index])
            elif what == "reopen":
                os.close(fds[index])
                fds[index] = os.open(path, os.O_RDWR | (os.O_TRUNC if step % 3 == 0 else 0))
        seen = [(os.fstat(fd).st_size, os.pread(fd, size, offset)) for fd in fds]
        assert seen[0] == seen[1], (step, what)
    for fd in fds:
        os.close(fd)
    wanted = paths[1].read_bytes()
    assert paths[0].read_bytes() == wanted
    mounted.remount()
    assert paths[0].read_bytes() == wanted


def test_holes_read_as_zeros_and_take_no_log(mounted):
    path = mounted.path / "f"
    with open(path, "wb") as file:
        file.write(b"start")
        file.seek(500 * MIB)
        file.write(b"end")
    assert path.stat().st_size == 500 * MIB + 3
    assert path.stat().st_blocks < 1000
    assert len(mounted.segments()) < 10_000
    mounted.remount()
    with open(path, "rb") as file:
        assert file.read(4096) == b"start" + bytes(4091)
        file.seek(500 * MIB - 5)
        assert file.read() == bytes(5) + b"end"


def test_no_file_is_larger_than_an_offset(top):
    with open(top / "f", "wb", buffering=0) as file:
        file.truncate(2**63 - 2)
        assert os.fstat(file.fileno()).st_size == 2**63 - 2
        file.truncate(0)


def test_two_append_handles_never_overwrite_each_other(top):
    path = top / "f"
    with open(path, "ab", buffering=0) as one, open(path, "ab", buffering=0) as two:
        for number in range(100):
            (one, two)[number % 2].write(b"%03d\n" % number)
        two.seek(0)
        two.write(b"last")
    assert path.read_bytes() == b"".join(b"%03d\n" % n for n in range(100)) + b"last"


def test_appending_processes_lose_nothing(mounted):
    mounted.run("for p in 1 2 3 4; do (for i in $(seq 50); do echo $p:$i >> f; done) & done; wait")
    lines = (mounted.path / "f").read_text().split()
    assert sorted(lines) == sorted(f"{p}:{i}" for p in range(1, 5) for i in range(1, 51))
    for process in "1234":
        assert [x for x in lines if x[0] == process] == [f"{process}:{i}" for i in range(1, 51)]


@pytest.mark.parametrize("start", [10, 5000, 2 * MIB])
def test_truncating_both_ways(mounted, start):
    path = mounted.path / "f"
    data = os.urandom(start)
    path.write_bytes(data)
    for size in (start - 3, start + 10_000, start + 9_999, 5, 0, 7, 300_000, 1):
        os.truncate(path, size)
        data = data[:size] + bytes(max(size - len(data), 0))
        assert path.stat().st_size == size
        assert path.read_bytes() == data
    mounted.remount()
    assert path.read_bytes() == data


@pytest.mark.parametrize("logged", [True, False])
@pytest.mark.parametrize("size", [100, 3 * MIB])
def test_an_unlinked_file_works_until_its_last_close(mounted, logged, size):
    path, data = mounted.path / "f", os.urandom(size)
    if logged:
        path.write_bytes(data)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if not logged:
        os.write(fd, data)
    path.unlink()
    assert not path.exists()
    assert (os.fstat(fd).st_nlink, os.fstat(fd).st_size) == (0, size)
    assert os.pread(fd, size, 0) == data
    os.pwrite(fd, b"more", size + 50)
    os.pwrite(fd, b"X", 0)
    assert os.pread(fd, 100 + size, 0) == b"X" + data[1:] + bytes(50) + b"more"
    os.ftruncate(fd, 10)
    os.ftruncate(fd, 20)
    assert os.pread(fd, 100, 0) == b"X" + data[1:10] + bytes(10)
    os.fchmod(fd, 0o600)
    os.utime(fd, ns=(SECOND, 2 * SECOND))
    info = os.fstat(fd)
    assert (info.st_mode & 0o7777, info.st_mtime_ns, info.st_size) == (0o600, 2 * SECOND, 20)
    path.write_bytes(b"another")
    assert os.pread(fd, 5, 0) == b"X" + data[1:5]
    os.fsync(fd)
    os.close(fd)
    mounted.remount()
    assert path.read_bytes() == b"another"


def test_scratch_of_an_unlinked_file_is_on_the_disk_and_then_free(mounted):
    fd = os.open(mounted.path / "f", os.O_RDWR | os.O_CREAT)
    (mounted.path / "f").unlink()
    piece = os.urandom(MIB)
    before = len(mounted.segments())
    for number in range(6):
        os.pwrite(fd, piece, number * MIB)
    assert all(os.pread(fd, MIB, number * MIB) == piece for number in range(6))
    assert len(mounted.segments()) == before
    fds = f"/proc/{mounted.daemon.pid}/fd"
    scratch = [name for name in os.listdir(fds) if os.stat(f"{fds}/{name}").st_size == 6 * MIB]
    assert len(scratch) == 1
    os.close(fd)


def test_an_unlinked_file_takes_what_is_written_and_no_more(mounted):
    """It is not copied for a first write, and takes no more room however often it is written."""
    path = mounted.path / "f"
    with open(path, "wb+", buffering=0) as file:
        file.write(bytes(3 * MIB))
        os.fsync(file.fileno())
        os.pwrite(file.fileno(), b"end", 2**62)
        path.unlink()
        for _ in range(5):
            os.pwrite(file.fileno(), b"x" * 5000, 100)
            os.pwrite(file.fileno(), b"y" * 5000, 2000)
        assert os.fstat(file.fileno()).st_size == 2**62 + 3
        assert os.pread(file.fileno(), 8000, 0) == bytes(100) + b"x" * 1900 + b"y" * 5000 + bytes(
            1000
        )
        assert os.pread(file.fileno(), 10, 2**62) == b"end"
        fds = f"/proc/{mounted.daemon.pid}/fd"
        (scratch,) = [
            name for name in os.listdir(fds) if " (deleted)" in os.readlink(f"{fds}/{name}")
        ]
        assert os.stat(f"{fds}/{scratch}").st_size == 6900
        os.ftruncate(file.fileno(), 0)
        assert os.stat(f"{fds}/{scratch}").st_size == 0
        assert os.fstat(file.fileno()).st_blocks == 0


def test_a_renamed_file_goes_on_under_its_handles(mounted):
    (mounted.path / "d").mkdir()
    with open(mounted.path / "f", "wb+", buffering=0) as file:
        file.write(b"1")
        (mounted.path / "f").rename(mounted.path / "d" / "g")
        file.write(b"2")
        (mounted.path / "d").rename(mounted.path / "e")
        file.write(b"3")
    assert (mounted.path / "e" / "g").read_bytes() == b"123"
    mounted.remount()
    assert (mounted.path / "e" / "g").read_bytes() == b"123"


def test_a_file_that_is_renamed_over_goes_on_too(mounted):
    old, new = mounted.path / "old", mounted.path / "new"
    old.write_bytes(b"old")
    with open(old, "rb+", buffering=0) as file:
        new.write_bytes(b"new")
        new.rename(old)
        assert old.read_bytes() == b"new"
        assert file.read() == b"old"
        file.write(b"er")
        assert os.pread(file.fileno(), 10, 0) == b"older"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert old.read_bytes() == b"new"
    mounted.remount()
    assert old.read_bytes() == b"new"
    assert os.listdir(mounted.path) == ["old"]


def test_unlinking_one_of_two_names_of_an_open_file(mounted):
    one, two = mounted.path / "one", mounted.path / "two"
    with open(one, "wb", buffering=0) as file:
        file.write(b"1")
        two.hardlink_to(one)
        one.unlink()
        file.write(b"2")
        assert os.fstat(file.fileno()).st_nlink == 1
    mounted.remount()
    assert two.read_bytes() == b"12"


def test_listing_is_stable_while_names_come_and_go(top):
    for number in range(2000):
        (top / f"stays{number}").touch()
    seen = []
    with os.scandir(top) as entries:
        for count, entry in enumerate(entries):
            seen.append(entry.name)
            if count < 1000:
                (top / f"new{count}").touch()
                if count:
                    (top / f"new{count - 1}").unlink()
    stays = [name for name in seen if name.startswith("stays")]
    assert sorted(stays) == sorted(f"stays{number}" for number in range(2000))
    assert len(set(seen)) == len(seen)


def test_listing_while_everything_is_removed_removes_everything(top):
    for number in range(2000):
        (top / f"f{number}").touch()
    with os.scandir(top) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(top) == []


def test_rewinding_a_listing_shows_what_is_new(mounted):
    program = """if 1:
        import ctypes, os, sys
        libc = ctypes.CDLL(None)
        libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
        directory = ctypes.c_void_p(libc.opendir(b"."))
        def names():
            found = set()
            while entry := libc.readdir(directory):
                found.add(ctypes.string_at(entry + 19))
            return found
        assert names() == {b".", b"..", b"a"}
        open("b", "w").close(); os.unlink("a")
        libc.rewinddir(directory)
        assert names() == {b".", b"..", b"b"}, "rewound"
    """
    (mounted.path / "a").touch()
    subprocess.run([sys.executable, "-c", program], cwd=mounted.path, check=True, timeout=30)


def test_a_big_file_is_the_same_after_a_remount(mounted):
    path = mounted.path / "big"
    data = os.urandom(8 * MIB)
    path.write_bytes(data)
    wanted = hashlib.md5(data).hexdigest()
    assert md5(path) == wanted
    mounted.remount()
    assert md5(path) == wanted
    assert subprocess.check_output(["md5sum", path]).split()[0].decode() == wanted


def test_shared_mappings_write_through(mounted):
    program = """if 1:
        import mmap, os, sys
        fd = os.open("f", os.O_RDWR)
        with mmap.mmap(fd, 0) as memory:
            assert memory[:3] == b"aaa"
            memory[5000:5005] = b"mmap!"
            memory[:1] = b"X"
            memory.flush()
            assert os.pread(fd, 5, 5000) == b"mmap!"
            memory[-1:] = b"Z"
            os.close(fd)
    """
    path = mounted.path / "f"
    path.write_bytes(b"a" * 10_000)
    subprocess.run([sys.executable, "-c", program], cwd=mounted.path, check=True, timeout=30)
    wanted = b"X" + b"a" * 4999 + b"mmap!" + b"a" * 4994 + b"Z"
    assert path.read_bytes() == wanted
    mounted.remount()
    assert path.read_bytes() == wanted


def test_a_directory_that_is_gone_is_gone_for_those_inside(mounted):
    (mounted.path / "d").mkdir()
    fd = os.open(mounted.path / "d", os.O_RDONLY)
    (mounted.path / "d").rmdir()
    assert os.listdir(fd) == []
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)


def test_threads_of_one_process_share_the_mount(mounted):
    program = """if 1:
        import os, threading
        bad = []
        def work(number):
            for turn in range(60):
                name = f"{number}-{turn}"
                with open(name, "w") as file: file.write(name * 50)
                if open(name).read() != name * 50: bad.append(name)
                os.rename(name, f"done-{name}")
                if turn % 2: os.unlink(f"done-{name}")
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert not bad, bad
        assert len(os.listdir(".")) == 8 * 30
    """
    subprocess.run([sys.executable, "-c", program], cwd=mounted.path, check=True, timeout=60)
    mounted.remount()
    assert len(os.listdir(mounted.path)) == 8 * 30


def test_data_and_holes_are_found(mounted):
    path = mounted.path / "sparse"
    with open(path, "wb") as file:
        file.write(b"x" * 10)
        file.seek(2 * 2**20)
        file.write(b"y" * 10)
        file.truncate(4 * 2**20)
    fd = os.open(path, os.O_RDONLY)
    try:
        start, end = 2 * 2**20, 4 * 2**20
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 10
        assert os.lseek(fd, 10, os.SEEK_DATA) == start
        assert os.lseek(fd, start + 3, os.SEEK_DATA) == start + 3
        assert os.lseek(fd, start + 3, os.SEEK_HOLE) == start + 10
        assert os.lseek(fd, start + 10, os.SEEK_HOLE) == start + 10
        for offset, whence in ((start + 10, os.SEEK_DATA), (end, os.SEEK_HOLE)):
            with pytest.raises(OSError, match="No such device or address"):
                os.lseek(fd, offset, whence)
    finally:
        os.close(fd)
