"""Random system calls, by name and arguments: few values, so that they meet often."""

import fcntl
import os
import stat
from typing import NamedTuple

from hypothesis import strategies as st

SHARED = 777
"""A group that two of the users have besides their own."""
SECOND = 10**9
FAR = 2**32 + 5

NAMES = ["a", "b", "c", "d1", "d2", "é", "n" * 255]
USUAL = ["a", "b", "c", "d1", "d2", "d1/a", "d1/b", "d1/c", "d1/d2", "d1/d2/a", "d2/a", "d2/b"]
PARTS = st.sampled_from([*NAMES * 3, ".", "..", "m" * 256])
DIRECTORIES = st.sampled_from(["d1/", "d1/d2/", "d2/", "c/", "a/", "../"])
UNUSUAL = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "/"]),
    st.just("") | DIRECTORIES,
    PARTS,
    st.sampled_from(["", "", "/", "/.", "/.."]),
)
PATHS = st.sampled_from(USUAL) | st.sampled_from(USUAL) | st.sampled_from(USUAL) | UNUSUAL
TARGETS = PATHS | st.sampled_from(["../a", "../d1", "c", "../c", "/c", "d1/../d2"])

MODES = st.sampled_from(
    [0o644, 0o666, 0o600, 0o755, 0o777, 0, 0o4755, 0o2755, 0o6777, 0o2644, 0o1777, 0o2770, 0o444]
)
UIDS = st.sampled_from([-1, 0, 12345, 23456])
GIDS = st.sampled_from([-1, 0, 12345, 23456, SHARED])
LENGTHS = st.sampled_from([0, 1, 10, 4096, 5000])
OFFSETS = st.sampled_from([0, 1, 100, 4095, 5000, 70_000, 2**32 - 1, FAR])
DATA = st.builds(lambda byte, length: bytes([byte]) * length, st.integers(65, 90), LENGTHS)
TIMES = st.sampled_from(
    ["now", "omit", 0, 1, 10**18 + 123_456_789, -1, -(2**31) * SECOND, 2**32 * SECOND + 7]
)
XATTRS = st.sampled_from(
    ["user.a", "user.b", "trusted.a", "security.a", "security.capability", "unknown.a", "none"]
)
CAPABILITY = b"\1\0\0\2" + b"\x20" + bytes(15)  # CAP_NET_RAW as setcap(8) writes it
XATTR_VALUES = st.sampled_from([b"", b"1", b"x" * 20, CAPABILITY])
XATTR_FLAGS = st.sampled_from(
    [0, 0, os.XATTR_CREATE, os.XATTR_REPLACE, os.XATTR_CREATE | os.XATTR_REPLACE]
)
DEVICES = st.sampled_from([os.makedev(1, 3), os.makedev(240, 7), 0])
KINDS = st.sampled_from([stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])


@st.composite
def open_flags(draw):
    """Draw flags of open(2); it never waits for the other end of a FIFO."""
    flags = draw(st.sampled_from([os.O_RDWR, os.O_RDONLY, os.O_WRONLY])) | os.O_NONBLOCK
    if draw(st.booleans()):
        flags |= os.O_CREAT
    if draw(st.booleans()):
        return flags
    for flag in (
        os.O_EXCL,
        os.O_TRUNC,
        os.O_APPEND,
        os.O_DIRECTORY,
        os.O_NOFOLLOW,
        os.O_PATH,
        os.O_NOATIME,
    ):
        if draw(st.integers(0, 5)) == 5:
            flags |= flag
    return flags


class Descriptor(NamedTuple):
    """One of the descriptors that an agent has, counted around if it has fewer."""

    index: int


class New(NamedTuple):
    """A descriptor that the call makes."""


REMOUNT = ("remount",)
"""No system call, but the chance to unmount and mount again."""


def _call(name, *arguments):
    return st.tuples(st.just(name), *arguments)


FDS = st.builds(Descriptor, st.integers(0, 5))
NEW = st.just(New())
FOLLOW = st.booleans()
LOCKS = st.sampled_from(
    [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.LOCK_UN]
)
RENAME_EXCHANGE = st.just(2)
OTHER_RENAMES = st.sampled_from([1, 0, 3, 8])  # RENAME_NOREPLACE, and what is refused

CALLS = st.one_of(
    _call("rename", PATHS, PATHS),
    _call("rename", PATHS, PATHS),
    _call("rename", PATHS, PATHS),
    _call("open", NEW, PATHS, open_flags(), MODES),
    _call("open", NEW, PATHS, open_flags(), MODES),
    _call("open", NEW, PATHS, open_flags(), MODES),
    _call("mkdir", PATHS, MODES),
    _call("rmdir", PATHS),
    _call("unlink", PATHS),
    _call("renameat2", PATHS, PATHS, RENAME_EXCHANGE),
    _call("renameat2", PATHS, PATHS, OTHER_RENAMES),
    _call("link", PATHS, PATHS, FOLLOW),
    _call("symlink", TARGETS, PATHS),
    _call("mknod", PATHS, st.builds(int.__or__, KINDS, MODES), DEVICES),
    _call("chdir", PATHS),
    _call("getcwd"),
    _call("access", PATHS, st.integers(0, 7)),
    st.tuples(st.sampled_from(["listdir", "readlink", "stat", "lstat"]), PATHS),
    _call("truncate", PATHS, OFFSETS | st.just(-1)),
    _call("chmod", PATHS, MODES),
    st.tuples(st.sampled_from(["chown", "lchown"]), PATHS, UIDS, GIDS),
    _call("utimensat", PATHS, TIMES, TIMES, FOLLOW),
    _call("setxattr", PATHS, XATTRS, XATTR_VALUES, XATTR_FLAGS, FOLLOW),
    st.tuples(st.sampled_from(["getxattr", "removexattr"]), PATHS, XATTRS, FOLLOW),
    _call("listxattr", PATHS, FOLLOW),
    _call("close", FDS),
    _call("dup", FDS, NEW),
    _call("write", FDS, DATA),
    _call("pwrite", FDS, DATA, OFFSETS),
    _call("read", FDS, LENGTHS),
    _call("pread", FDS, LENGTHS, OFFSETS),
    _call("map_read", FDS),
    _call("map_write", FDS, DATA, OFFSETS),
    _call(
        "lseek",
        FDS,
        OFFSETS | st.just(-5),
        st.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END]),
    ),
    _call("ftruncate", FDS, OFFSETS | st.just(-1)),
    st.tuples(st.sampled_from(["fsync", "fdatasync", "flistdir", "fchdir", "flistxattr"]), FDS),
    _call("flock", FDS, LOCKS),
    _call("lockf", FDS, LOCKS, st.integers(0, 3), st.integers(0, 3)),
    _call("fchmod", FDS, MODES),
    _call("fchown", FDS, UIDS, GIDS),
    _call("futimens", FDS, TIMES, TIMES),
    _call("fsetxattr", FDS, XATTRS, XATTR_VALUES, XATTR_FLAGS),
    st.tuples(st.sampled_from(["fgetxattr", "fremovexattr"]), FDS, XATTRS),
    _call("copy_file_range", FDS, FDS, LENGTHS, st.none() | OFFSETS, st.none() | OFFSETS),
    _call("sendfile", FDS, FDS, st.none() | OFFSETS, LENGTHS),
    st.just(REMOUNT),
)
"""System calls: their names and arguments."""
