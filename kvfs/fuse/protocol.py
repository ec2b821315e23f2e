"""Numbers and layouts of the FUSE protocol, version 7.

Names are those of the kernel's include/uapi/linux/fuse.h, which is the
specification, without its prefixes. All integers have the byte order of the
machine, without padding but what the layouts say. A request is a header and a
body, a reply too; a notification is a reply to request 0 whose error field
holds its code.
"""

from __future__ import annotations

import struct

MAJOR = 7
MINOR = 44
"""The newest minor version that is spoken here; the kernel's may be older or newer."""
OLDEST_MINOR = 31
"""Linux 5.4."""

# Requests, by their opcode.
LOOKUP = 1
FORGET = 2
GETATTR = 3
SETATTR = 4
READLINK = 5
SYMLINK = 6
MKNOD = 8
MKDIR = 9
UNLINK = 10
RMDIR = 11
RENAME = 12
LINK = 13
OPEN = 14
READ = 15
WRITE = 16
STATFS = 17
RELEASE = 18
FSYNC = 20
SETXATTR = 21
GETXATTR = 22
LISTXATTR = 23
REMOVEXATTR = 24
FLUSH = 25
INIT = 26
OPENDIR = 27
READDIR = 28
RELEASEDIR = 29
FSYNCDIR = 30
ACCESS = 34
CREATE = 35
INTERRUPT = 36
DESTROY = 38
POLL = 40
BATCH_FORGET = 42
READDIRPLUS = 44
RENAME2 = 45
LSEEK = 46

REQUESTS = {
    number: name.lower()
    for name, number in tuple(vars().items())
    if name.isupper() and isinstance(number, int) and name not in {"MAJOR", "MINOR", "OLDEST_MINOR"}
}
"""The names of all those, as they are shown."""

# What the two sides tell each other at INIT that they can.
ASYNC_READ = 1 << 0
ATOMIC_O_TRUNC = 1 << 3
EXPORT_SUPPORT = 1 << 4
BIG_WRITES = 1 << 5
DO_READDIRPLUS = 1 << 13
READDIRPLUS_AUTO = 1 << 14
ASYNC_DIO = 1 << 15
PARALLEL_DIROPS = 1 << 18
ABORT_ERROR = 1 << 21
MAX_PAGES = 1 << 22
INIT_EXT = 1 << 30
DIRECT_IO_ALLOW_MMAP = 1 << 36

# Flags of an open file.
FOPEN_DIRECT_IO = 1 << 0
FOPEN_KEEP_CACHE = 1 << 1
FOPEN_CACHE_DIR = 1 << 3
FOPEN_NOFLUSH = 1 << 5

# Flags of a request for attributes, and of a poll.
GETATTR_FH = 1 << 0
POLL_SCHEDULE_NOTIFY = 1 << 0

# Flags of a write, and the attributes that a SETATTR sets.
WRITE_KILL_SUIDGID = 1 << 2
FATTR_MODE = 1 << 0
FATTR_UID = 1 << 1
FATTR_GID = 1 << 2
FATTR_SIZE = 1 << 3
FATTR_ATIME = 1 << 4
FATTR_MTIME = 1 << 5
FATTR_FH = 1 << 6

# Notifications.
NOTIFY_POLL = 1
NOTIFY_INVAL_INODE = 2
NOTIFY_INVAL_ENTRY = 3
NOTIFY_INC_EPOCH = 8

_ATTR = "QQQqqqIIIIIIIIII"
"""ino, size, blocks; atime, mtime, ctime in seconds, then their nanoseconds; mode, nlink, uid,
gid, rdev, blksize, flags."""
_ENTRY = "QQQQII" + _ATTR
"""nodeid, generation, seconds that the name and the attributes hold, their nanoseconds; attr."""
_DIRENT = "QQII"
"""ino, position behind it, length of the name, type; the name follows, padded to 8 bytes."""

HEADER_IN = struct.Struct("=IIQQIIIHH")
HEADER_OUT = struct.Struct("=IiQ")
ATTR_OUT = struct.Struct("=QII" + _ATTR)
ENTRY_OUT = struct.Struct("=" + _ENTRY)
CREATE_OUT = struct.Struct("=" + _ENTRY + "QII")
OPEN_OUT = struct.Struct("=QII")
DIRENT = struct.Struct("=" + _DIRENT)
DIRENTPLUS = struct.Struct("=" + _ENTRY + _DIRENT)
INIT_IN = struct.Struct("=IIIII")
INIT_OUT = struct.Struct("=IIIIHHIIHHIIHH20x")
SETATTR_IN = struct.Struct("=I4xQQ8xqqqIIII4xII4x")
GETATTR_IN = struct.Struct("=I4xQ")
OPEN_IN = struct.Struct("=II")
CREATE_IN = struct.Struct("=IIII")
MKNOD_IN = struct.Struct("=IIII")
MKDIR_IN = struct.Struct("=II")
RENAME_IN = struct.Struct("=Q")
RENAME2_IN = struct.Struct("=QI4x")
LINK_IN = struct.Struct("=Q")
READ_IN = struct.Struct("=QQII8xI4x")
WRITE_IN = struct.Struct("=QQII8xI4x")
WRITE_OUT = struct.Struct("=II")
HANDLE_IN = struct.Struct("=Q")
"""The handle, which FLUSH, RELEASE, FSYNC and their like begin with."""
SETXATTR_IN = struct.Struct("=II")
GETXATTR_IN = struct.Struct("=I4x")
GETXATTR_OUT = struct.Struct("=I4x")
ACCESS_IN = struct.Struct("=I4x")
FORGET_IN = struct.Struct("=Q")
BATCH_FORGET_IN = struct.Struct("=I4x")
FORGET_ONE = struct.Struct("=QQ")
STATFS_OUT = struct.Struct("=QQQQQIII28x")
LSEEK_IN = struct.Struct("=QqI4x")
LSEEK_OUT = struct.Struct("=q")
INTERRUPT_IN = struct.Struct("=Q")
POLL_IN = struct.Struct("=QQII")
POLL_OUT = struct.Struct("=I4x")
POLL_WAKEUP_OUT = struct.Struct("=Q")
INVAL_INODE_OUT = struct.Struct("=Qqq")
INVAL_ENTRY_OUT = struct.Struct("=QI4x")

assert (HEADER_IN.size, HEADER_OUT.size, INIT_OUT.size) == (40, 16, 64)
assert (ATTR_OUT.size, ENTRY_OUT.size, CREATE_OUT.size) == (104, 128, 144)
assert (SETATTR_IN.size, WRITE_IN.size, STATFS_OUT.size) == (88, 40, 80)


def padded(name: bytes) -> bytes:
    """Return `name` filled up with zeros to a multiple of 8 bytes, as directory entries are."""
    return name + bytes(-len(name) % 8)
