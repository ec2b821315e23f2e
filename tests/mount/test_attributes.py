"""Times, modes, owners, extended attributes, links and special files of a mount."""

import errno
import os
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

MIB = 1024 * 1024
SECOND = 10**9


def test_statvfs_is_that_of_the_disk_below(mounted):
    def numbers(path):
        figures = os.statvfs(path)
        return [
            figures.f_blocks * figures.f_frsize,
            figures.f_bfree * figures.f_frsize,
            figures.f_bavail * figures.f_frsize,
        ]

    below, shown = numbers(mounted.store), numbers(mounted.path)
    assert shown[0] == below[0]
    assert shown[1:] == pytest.approx(below[1:], abs=512 * MIB)  # others write to this disk too
    assert os.statvfs(mounted.path).f_namemax == 255


def test_times_and_modes_are_what_they_are_set_to(mounted):
    for name, make in (("f", os.mknod), ("d", os.mkdir)):
        path = mounted.path / name
        make(path)
        before = path.stat().st_ctime_ns
        times = (1_000_000_001, 2_000_000_002 * SECOND + 3)
        os.utime(path, ns=times)
        assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == times
        assert path.stat().st_ctime_ns >= before
        os.utime(path, ns=(-SECOND, -5))
        assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (-SECOND, -5)
        os.utime(path)
        assert abs(path.stat().st_mtime_ns - time.time_ns()) < 5 * SECOND
        for mode in (0o000, 0o7777, 0o644, 0o1755):
            path.chmod(mode)
            assert path.stat().st_mode & 0o7777 == mode


def test_a_time_that_cannot_be_kept_becomes_the_nearest(mounted):
    path = mounted.path / "f"
    path.touch()
    ends = {
        "1600-01-01": "1677-09-21 00:12:43.145224192",
        "2500-01-01": "2262-04-11 23:47:16.854775807",
    }
    for wanted, kept in ends.items():
        shown = f"{kept} +0000\n".encode()
        assert mounted.run(f"touch -d {wanted} f; stat -c %y f") == shown
        mounted.remount()
        assert mounted.run("stat -c %y f") == shown


def test_changing_names_touches_their_directory(mounted):
    directory = mounted.path / "d"
    directory.mkdir()
    for act in (
        (directory / "f").touch,
        lambda: (directory / "f").rename(directory / "g"),
        lambda: (directory / "h").hardlink_to(directory / "g"),
        (directory / "g").unlink,
        lambda: (directory / "s").symlink_to("h"),
        (directory / "e").mkdir,
        (directory / "e").rmdir,
        lambda: (directory / "h").rename(mounted.path / "h"),
    ):
        os.utime(directory, ns=(0, 0))
        act()
        assert abs(directory.stat().st_mtime_ns - time.time_ns()) < 5 * SECOND
    os.utime(directory, ns=(0, 0))
    (directory / "s").lstat()
    (mounted.path / "h").write_bytes(b"1")
    assert directory.stat().st_mtime_ns == 0


def test_writing_touches_the_file_and_a_set_time_outlives_the_close(mounted):
    path = mounted.path / "f"
    path.write_bytes(b"1")
    os.utime(path, ns=(0, 0))
    with open(path, "ab", buffering=0) as file:
        assert os.fstat(file.fileno()).st_mtime_ns == 0
        file.write(b"2")
        assert os.fstat(file.fileno()).st_mtime_ns > 0
        os.utime(file.fileno(), ns=(7, 8))
    assert (path.stat().st_mtime_ns, path.read_bytes()) == (8, b"12")
    with open(path, "wb", buffering=0) as file:
        file.write(b"3")
        os.utime(path, ns=(9, 10))
    assert (path.stat().st_mtime_ns, path.read_bytes()) == (10, b"3")


def test_extended_attributes(mounted):
    path = mounted.path / "f"
    path.touch()
    os.setxattr(path, "user.empty", b"")
    os.setxattr(path, "user.bytes", bytes(range(256)))
    assert sorted(os.listxattr(path)) == ["user.bytes", "user.empty"]
    assert os.getxattr(path, "user.bytes") == bytes(range(256))
    with pytest.raises(FileExistsError):
        os.setxattr(path, "user.empty", b"1", os.XATTR_CREATE)
    with pytest.raises(OSError, match="No data"):
        os.setxattr(path, "user.none", b"1", os.XATTR_REPLACE)
    os.setxattr(path, "user.empty", b"1", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.empty") == b"1"
    os.removexattr(path, "user.bytes")
    with pytest.raises(OSError, match="No data"):
        os.removexattr(path, "user.bytes")
    with pytest.raises(OSError, match="No data"):
        os.getxattr(path, "user.bytes")


def test_limits_of_extended_attributes(mounted):
    path = mounted.path / "f"
    path.touch()
    most = os.urandom(65_536)
    os.setxattr(path, "user.most", most)
    for name, size, problem in (
        ("user.more", 65_537, errno.E2BIG),
        ("system.posix_acl_access", 4, errno.EOPNOTSUPP),
        ("nowhere.a", 1, errno.EOPNOTSUPP),
        ("user.", 1, errno.EINVAL),
    ):
        with pytest.raises(OSError, match=os.strerror(problem)):
            os.setxattr(path, name, bytes(size))
    for act in (os.getxattr, os.removexattr):
        with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
            act(path, "nowhere.a")
    *names, one_more = [f"user.{number:0250}" for number in range((65_536 - 10) // 256 + 1)]
    for name in names:
        os.setxattr(path, name, b"")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        os.setxattr(path, one_more, b"")
    kept = ["user.most", *names]
    assert sorted(os.listxattr(path)) == sorted(kept)
    mounted.remount()
    assert sorted(os.listxattr(path)) == sorted(kept)
    assert os.getxattr(path, "user.most") == most


def test_other_users_are_held_to_the_modes(tools):
    with tempfile.TemporaryDirectory() as place, tools.stores_below(Path(place)) as stores:
        os.chmod(place, 0o755)
        top = stores.make(mount=False).mount("-o", "allow_other").path
        (top / "mine").write_bytes(b"1")
        (top / "secret").write_bytes(b"2")
        (top / "secret").chmod(0o600)
        (top / "open").mkdir()
        (top / "open").chmod(0o1777)
        script = """cat mine; (cat secret) 2> /dev/null || echo -n no
            (echo 1 > mine) 2> /dev/null || echo -n no; (rm -f mine) 2> /dev/null || echo -n no
            echo theirs > open/f; stat -c %u:%g open/f"""
        nobody = {"user": 65534, "group": 65534, "extra_groups": []}
        command = ["bash", "-c", f"cd {top}; {script}"]
        out = subprocess.run(command, capture_output=True, check=True, timeout=30, **nobody)
        assert out.stdout == b"1nonono65534:65534\n", out
        assert (top / "open" / "f").read_bytes() == b"theirs\n"
        assert sorted(os.listdir(top)) == ["mine", "open", "secret"]
        for name in ("trusted.a", "user.b"):
            os.setxattr(top / "mine", name, b"")
        os.seteuid(65534)
        try:
            assert os.listxattr(top / "mine") == ["user.b"]
        finally:
            os.seteuid(0)
        assert sorted(os.listxattr(top / "mine")) == ["trusted.a", "user.b"]


@pytest.mark.parametrize("act", [": > f", "truncate -s 5 f", "echo 1 >> f"])
def test_changing_a_file_takes_what_it_could_do_as_its_owner(tools, act):
    with tempfile.TemporaryDirectory() as place, tools.stores_below(Path(place)) as stores:
        os.chmod(place, 0o755)
        path = stores.make(mount=False).mount("-o", "allow_other").path / "f"
        path.touch()
        capability = struct.pack("<5I", 0x02000001, 0x400, 0, 0, 0)
        for mode, gid, groups, left in (
            (0o6777, 0, [], 0o777),
            (0o2767, 0, [], 0o767),
            (0o2767, 0, [0], 0o2767),
            (0o2767, 65534, [], 0o2767),
        ):
            os.chown(path, 0, gid)
            path.chmod(mode)
            os.setxattr(path, "security.capability", capability)
            nobody = {"user": 65534, "group": 65534, "extra_groups": groups}
            command = ["sh", "-c", act]
            subprocess.run(command, check=True, timeout=30, cwd=path.parent, **nobody)
            assert oct(path.stat().st_mode & 0o7777) == oct(left)
            assert os.listxattr(path) == []
        path.chmod(0o6777)
        os.truncate(path, 0)
        path.write_bytes(b"")
        assert oct(path.stat().st_mode & 0o7777) == oct(0o6777)


def test_a_chown_that_names_nobody_is_a_change(mounted):
    path = mounted.path / "f"
    path.touch()
    before = path.stat().st_ctime_ns
    os.chown(path, -1, -1)
    assert path.stat().st_ctime_ns > before


def test_a_close_leaves_the_times_of_the_last_write(mounted):
    with open(mounted.path / "f", "wb", buffering=0) as file:
        file.write(b"1")
        written = os.fstat(file.fileno()).st_mtime_ns
        os.fchmod(file.fileno(), 0o600)
        changed = os.fstat(file.fileno()).st_ctime_ns
        assert changed > written
    info = (mounted.path / "f").stat()
    assert (info.st_mtime_ns, info.st_ctime_ns) == (written, changed)


def test_symbolic_links_hold_any_target(mounted):
    for number, target in enumerate([b"x", b"/", b"a|b\nc", b"\xff\xfe", b"t" * 4095]):
        path = os.fsencode(mounted.path / f"s{number}")
        os.symlink(target, path)
        assert os.readlink(path) == target
        assert os.lstat(path).st_size == len(target)
    mounted.remount()
    assert os.readlink(os.fsencode(mounted.path / "s2")) == b"a|b\nc"
    assert len(os.readlink(mounted.path / "s4")) == 4095


def test_special_files(mounted):
    os.mkfifo(mounted.path / "fifo")
    os.mknod(mounted.path / "null", 0o20666, os.makedev(1, 3))
    assert mounted.run("(echo through > fifo &); cat fifo") == b"through\n"
    mounted.remount()
    info = (mounted.path / "null").stat()
    assert (oct(info.st_mode), info.st_rdev) == ("0o20644", os.makedev(1, 3))


def test_a_directory_that_is_gone_has_changed(mounted):
    for name in ("removed", "replaced", "new"):
        (mounted.path / name).mkdir()
    fds = [os.open(mounted.path / name, os.O_RDONLY) for name in ("removed", "replaced")]
    os.chmod(fds[0], 0o700)
    os.chmod(fds[1], 0o700)
    before = [os.fstat(fd).st_ctime_ns for fd in fds]
    while time.clock_gettime_ns(5) <= max(before):  # CLOCK_REALTIME_COARSE, of the timestamps
        os.sched_yield()
    (mounted.path / "removed").rmdir()
    (mounted.path / "new").rename(mounted.path / "replaced")
    after = [os.fstat(fd) for fd in fds]
    for fd in fds:
        os.close(fd)
    assert [info.st_nlink for info in after] == [0, 0]
    assert all(info.st_ctime_ns > was for info, was in zip(after, before, strict=True))
